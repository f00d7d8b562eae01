//! Decoding token by token with a cache, compared with decoding the complete target at once.

// Helpers outside `#[test]` functions unwrap too: a panic is how a test fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::specimen;
use candle_core::Tensor;
use specimen::{VOCABULARY, architectures, batch, params, reduced_architectures, sentence, shifted, values};
use tallow_model::{
    DecoderState, InferenceCompute, ModelError, Norm, Pass, PreparedState, PreparedTransformer, Tokens, Transformer,
};
use tallow_ops::{Key, Purpose};

/// Enough positions for the cache's buffers to grow twice (from 16 to 32 to 64).
const POSITIONS: usize = 40;
const HYPOTHESES: usize = 3;

/// A model that decodes step by step.
trait Decoder {
    type State;
    fn start(&self, source: &Tokens) -> Self::State;
    fn step(&self, tokens: &[u32], state: &mut Self::State) -> Result<Tensor, ModelError>;
    fn reorder(state: &mut Self::State, rows: &[u32]) -> Result<(), ModelError>;
    fn keep(state: &mut Self::State, sentences: &[u32]) -> Result<(), ModelError>;
    fn size(state: &Self::State) -> (usize, usize);
}

macro_rules! decoder {
    ($model:ty, $state:ty, $start:expr) => {
        impl Decoder for $model {
            type State = $state;

            fn start(&self, source: &Tokens) -> $state {
                let start: fn(&$model, &Tokens) -> Result<$state, ModelError> = $start;
                start(self, source).unwrap()
            }

            fn step(&self, tokens: &[u32], state: &mut $state) -> Result<Tensor, ModelError> {
                self.step(tokens, state)
            }

            fn reorder(state: &mut $state, rows: &[u32]) -> Result<(), ModelError> {
                state.reorder(rows)
            }

            fn keep(state: &mut $state, sentences: &[u32]) -> Result<(), ModelError> {
                state.keep(sentences)
            }

            fn size(state: &$state) -> (usize, usize) {
                (state.sentences(), state.rows())
            }
        }
    };
}

decoder!(Transformer, DecoderState, |model, source| {
    model.start(&model.encode(source, Pass::default())?)
});
decoder!(PreparedTransformer, PreparedState, |model, source| model.start(source));

/// A hypothesis of the test: its sentence, its input tokens and its logits.
#[derive(Clone)]
struct Row {
    sentence: usize,
    tokens: Vec<u32>,
    logits: Vec<Vec<f32>>,
}

/// Decodes at random. Every row gets its own tokens; hypotheses are reordered at some positions, and sentences are
/// dropped and swapped at one. Returns the remaining rows.
fn wander<D: Decoder>(model: &D, pad: u32, source: &Tokens) -> Vec<Row> {
    let mut state = model.start(source);
    let all = 0..source.sentences.count() as u32;
    let rows: Vec<u32> = all.flat_map(|sentence| [sentence; HYPOTHESES]).collect();
    D::reorder(&mut state, &rows).unwrap();
    let row = |i| Row {
        sentence: i / HYPOTHESES,
        tokens: Vec::new(),
        logits: Vec::new(),
    };
    let mut rows: Vec<Row> = (0..D::size(&state).1).map(row).collect();
    let mut last = vec![pad; rows.len()];
    for position in 0..POSITIONS {
        let logits = model.step(&last, &mut state).unwrap().to_vec2::<f32>().unwrap();
        let random = Key::new(8, Purpose::Sampling)
            .fold(position as u64)
            .uniform(2 * rows.len());
        for (i, row) in rows.iter_mut().enumerate() {
            row.logits.push(logits[i].clone());
            let token = 1 + (random[i] * (VOCABULARY - 2) as f64) as u32;
            row.tokens.push(token);
            last[i] = token;
        }
        // Positions just before, at and after the growth of a buffer.
        if [1, 2, 14, 15, 16, 30, 31, 35].contains(&position) {
            let chosen: Vec<u32> = (0..rows.len())
                .map(|i| {
                    let within = (random[rows.len() + i] * HYPOTHESES as f64) as usize;
                    (i / HYPOTHESES * HYPOTHESES + within) as u32
                })
                .collect();
            D::reorder(&mut state, &chosen).unwrap();
            rows = chosen.iter().map(|row| rows[*row as usize].clone()).collect();
            last = chosen.iter().map(|row| last[*row as usize]).collect();
        }
        if position == 20 {
            let kept = [2u32, 0];
            D::keep(&mut state, &kept).unwrap();
            let of = |sentence: &u32| {
                (0..HYPOTHESES)
                    .map(|i| *sentence as usize * HYPOTHESES + i)
                    .collect::<Vec<_>>()
            };
            let order: Vec<usize> = kept.iter().flat_map(of).collect();
            rows = order.iter().map(|row| rows[*row].clone()).collect();
            last = order.iter().map(|row| last[*row]).collect();
            assert_eq!(D::size(&state), (2, 2 * HYPOTHESES));
        }
    }
    rows
}

/// For every architecture, `start` and `step` give the logits of teacher forcing at each of forty positions, for
/// several hypotheses of three sentences of different lengths. Meanwhile the cache's buffers grow, hypotheses are
/// reordered, and sentences are dropped and swapped.
#[test]
fn steps_equal_teacher_forcing() {
    let reduced = reduced_architectures().into_iter();
    // Without a mask, teacher forcing sees what a step does not know yet.
    let reduced = reduced.filter(|architecture| architecture.model.causal_mask);
    for architecture in architectures().into_iter().chain(reduced) {
        let params = params(&architecture, 7);
        let model = Transformer::for_inference(&architecture, &params, None).unwrap();
        // Without normalisation, values are larger.
        let tolerance = if architecture.model.norm == Norm::None {
            1e-4
        } else {
            1e-5
        };
        let sentences = [sentence(1, 7), sentence(2, 1), sentence(3, 12)];
        let (pad, source) = (architecture.target_pad_id(), batch(&sentences));
        let rows = wander(&model, pad, &source);
        let prepared = wander(&model.prepare(InferenceCompute::F32).unwrap(), pad, &source);
        for (row, prepared) in rows.iter().zip(&prepared) {
            assert_eq!((row.sentence, &row.tokens), (prepared.sentence, &prepared.tokens));
            for (a, b) in row.logits.iter().flatten().zip(prepared.logits.iter().flatten()) {
                assert!((a - b).abs() <= tolerance, "{a} and, prepared, {b} in {architecture:?}");
            }
        }
        assert_eq!(rows.len(), 2 * HYPOTHESES);
        assert_eq!(
            rows.iter().map(|row| row.sentence).collect::<Vec<_>>(),
            [2, 2, 2, 0, 0, 0]
        );
        let mut histories: Vec<&Vec<u32>> = rows.iter().map(|row| &row.tokens).collect();
        histories.sort();
        histories.dedup();
        assert!(histories.len() > 3, "the hypotheses are not different");
        let source: Vec<Vec<u32>> = rows.iter().map(|row| sentences[row.sentence].clone()).collect();
        let targets: Vec<Vec<u32>> = rows.iter().map(|row| row.tokens.clone()).collect();
        let encoded = model.encode(&batch(&source), Pass::default()).unwrap();
        let input = shifted(&architecture, &targets);
        let hidden = model.decode(&input, &encoded, Pass::default()).unwrap();
        let whole: Tensor = model.logits(&hidden).unwrap();
        for (i, (row, range)) in rows.iter().zip(input.sentences.ranges()).enumerate() {
            for (position, stepped) in row.logits.iter().enumerate() {
                let expected = values(&whole.get(range.start + position).unwrap());
                for (got, expected) in stepped.iter().zip(&expected) {
                    assert!(
                        (got - expected).abs() <= tolerance,
                        "row {i}, position {position}: {got} instead of {expected} in {architecture:?}"
                    );
                }
            }
        }
    }
}

/// Invalid changes of a state are rejected with an error, and the state stays usable.
#[test]
fn misuse_is_refused() {
    let architecture = &architectures()[0];
    let params = params(architecture, 8);
    let model = Transformer::for_inference(architecture, &params, None).unwrap();
    let pad = architecture.target_pad_id();
    refuses_misuse(&model, pad);
    refuses_misuse(&model.prepare(InferenceCompute::F32).unwrap(), pad);
}

fn refuses_misuse<D: Decoder>(model: &D, pad: u32) {
    let mut state = model.start(&batch(&[sentence(1, 3), sentence(2, 4)]));
    D::reorder(&mut state, &[0, 0, 1, 1]).unwrap();
    let error = model.step(&[pad; 3], &mut state).unwrap_err().to_string();
    assert!(error.contains("3 tokens") && error.contains("4 rows"), "{error}");
    // A row that leaves its sentence, too few rows, a sentence that does not exist, no sentence at all.
    assert!(D::reorder(&mut state, &[0, 2, 2, 3]).is_err());
    assert!(D::reorder(&mut state, &[0, 1, 2]).is_err());
    assert!(D::reorder(&mut state, &[]).is_err());
    assert!(D::keep(&mut state, &[2]).is_err());
    assert!(D::keep(&mut state, &[]).is_err());
    assert!(model.step(&[VOCABULARY as u32; 4], &mut state).is_err());
    assert_eq!(D::size(&state), (2, 4));
    assert_eq!(model.step(&[pad; 4], &mut state).unwrap().dims(), [4, VOCABULARY]);
}
