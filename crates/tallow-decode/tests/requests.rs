//! What is asked of single sentences, and settings that change which translation wins, against an enumeration of all
//! sequences.

// Helpers outside `#[test]` functions unwrap too: a panic is how a test fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::enumeration;
use crate::specimen;
use candle_core::DType;
use enumeration::{MAX_LENGTH, Sequence, VOCABULARY, enumerate};
use specimen::{batch, model, model_of, sentence};
use tallow_decode::{DecodeConfig, DecodeError, Ensemble, Hypothesis, Search, SentenceRequest};
use tallow_model::{AttentionRecord, Block, InferenceCompute, Pass, PreparedTransformer, RowRequest, Tokens};

/// A beam so wide that nothing is pruned.
fn wide() -> DecodeConfig {
    DecodeConfig {
        beam: 400,
        n_best: 10,
        max_length: MAX_LENGTH,
        patience: 1000.0,
        length_penalty: 0.6,
        ..DecodeConfig::default()
    }
}

/// So many sentences, each one token longer than the one before.
fn sentences(model: &PreparedTransformer, count: u64, seed: u64, shortest: usize) -> Vec<Vec<u32>> {
    (0..count)
        .map(|i| sentence(model, seed + i, shortest + i as usize))
        .collect()
}

fn contains(tokens: &[u32], phrase: &[u32]) -> bool {
    tokens.windows(phrase.len()).any(|window| window == phrase)
}

/// Asserts that the search has found the best of the sequences by their scores.
fn assert_best(found: &[Hypothesis], sequences: Vec<Sequence>, score: impl Fn(&Sequence) -> f64, most: usize) {
    let mut expected: Vec<(f64, Sequence)> = sequences.into_iter().map(|one| (score(&one), one)).collect();
    expected.sort_by(|a, b| b.0.total_cmp(&a.0));
    expected.truncate(most);
    assert_eq!(found.len(), expected.len());
    for (hypothesis, (score, sequence)) in found.iter().zip(&expected) {
        assert!(
            (hypothesis.score - score).abs() < 1e-4,
            "{hypothesis:?} {sequence:?} {score}"
        );
        let log_probability: f64 = hypothesis.token_log_probabilities.iter().map(|x| f64::from(*x)).sum();
        assert!((hypothesis.log_probability - log_probability).abs() < 1e-4);
        // Ties may come in another order.
        if hypothesis.tokens == sequence.tokens {
            assert_eq!(hypothesis.finished, sequence.finished);
            assert!((hypothesis.log_probability - sequence.log_probability).abs() < 1e-4);
        }
    }
}

fn plain(config: &DecodeConfig) -> impl Fn(&Sequence) -> f64 {
    |sequence| config.score(sequence.log_probability, sequence.length)
}

/// Requests of several sentences that are searched together.
fn run(
    model: &PreparedTransformer,
    sources: &[Vec<u32>],
    config: &DecodeConfig,
    forbidden: &[Vec<u32>],
    requests: &[SentenceRequest],
) -> Vec<Vec<Hypothesis>> {
    let search = Search::new(config).forbidden(forbidden);
    search.run(model, &batch(sources), requests).unwrap()
}

fn request(prefix: &[u32], phrases: &[&[u32]]) -> SentenceRequest {
    SentenceRequest {
        number: 0,
        prefix: prefix.to_vec(),
        phrases: phrases.iter().map(|phrase| phrase.to_vec()).collect(),
        ends: false,
    }
}

#[test]
fn prefixes_and_phrases_against_all_sequences() {
    for seed in 0..6 {
        let model = model(VOCABULARY, seed);
        let sources = sentences(&model, 5, 10 * seed, 2);
        let requests = [
            request(&[], &[]),
            request(&[3, 2], &[]),
            request(&[], &[&[4], &[2]]),
            request(&[], &[&[2, 3]]),
            request(&[4], &[&[2], &[4]]),
        ];
        let config = wide();
        let found = run(&model, &sources, &config, &[], &requests);
        for ((source, request), found) in sources.iter().zip(&requests).zip(&found) {
            let mut sequences = enumerate(&model, source);
            sequences.retain(|one| one.tokens.starts_with(&request.prefix));
            // The phrases are there before the last place, which is that of `</s>`.
            let body = |one: &Sequence| one.tokens[..one.tokens.len().min(MAX_LENGTH - 1)].to_vec();
            sequences.retain(|one| request.phrases.iter().all(|phrase| contains(&body(one), phrase)));
            // The tokens of phrases are normalised by themselves.
            let score = |one: &Sequence| {
                let logs = forced(&model, source, one).0;
                let mut is_phrase = vec![false; logs.len()];
                for phrase in &request.phrases {
                    let at = one
                        .tokens
                        .windows(phrase.len())
                        .position(|window| window == phrase.as_slice());
                    at.iter().for_each(|at| is_phrase[*at..*at + phrase.len()].fill(true));
                }
                let part = |wanted: bool| -> f64 {
                    let of_part = logs.iter().zip(&is_phrase).filter(|(_, is)| **is == wanted);
                    let (count, sum) = of_part.fold((0, 0.0), |(count, sum), (log, _)| (count + 1, sum + log));
                    config.score(sum, count)
                };
                part(true) + part(false)
            };
            assert_best(found, sequences, score, config.n_best);
        }
        // A narrow beam prunes, but keeps every promise.
        for beam in [2, 3, 5] {
            let config = DecodeConfig {
                beam,
                n_best: 1,
                max_length: 12,
                ..DecodeConfig::default()
            };
            for (found, request) in run(&model, &sources, &config, &[], &requests).iter().zip(&requests) {
                let tokens = &found[0].tokens;
                assert!(tokens.starts_with(&request.prefix));
                assert!(
                    request.phrases.iter().all(|phrase| contains(tokens, phrase)),
                    "{request:?} {tokens:?}"
                );
            }
        }
    }
}

/// Greedy search and samples follow a prefix too. The log-probabilities are those of the model.
#[test]
fn prefixes_in_every_search() {
    let model = model(VOCABULARY, 3);
    let source = sentence(&model, 5, 4);
    let sequences = enumerate(&model, &source);
    for (beam, sample, n_best) in [(1, false, 1), (1, true, 6), (3, false, 3)] {
        let config = DecodeConfig {
            beam,
            sample,
            n_best,
            max_length: MAX_LENGTH,
            ..DecodeConfig::default()
        };
        let prefix = [2, 4];
        for hypothesis in &run(
            &model,
            std::slice::from_ref(&source),
            &config,
            &[],
            &[request(&prefix, &[])],
        )[0]
        {
            assert!(hypothesis.tokens.starts_with(&prefix));
            let same = sequences.iter().find(|one| one.tokens == hypothesis.tokens).unwrap();
            assert!((same.log_probability - hypothesis.log_probability).abs() < 1e-5);
        }
    }
}

#[test]
fn forbidden_sequences_against_all_sequences() {
    let forbidden = [vec![3], vec![2, 4], vec![1, 1, 1]];
    for seed in 0..4 {
        let model = model(VOCABULARY, seed);
        let source = sentence(&model, seed, 4);
        let config = wide();
        let found = run(
            &model,
            std::slice::from_ref(&source),
            &config,
            &forbidden,
            &[request(&[], &[])],
        );
        let mut sequences = enumerate(&model, &source);
        sequences.retain(|one| !forbidden.iter().any(|sequence| contains(&one.tokens, sequence)));
        assert_best(&found[0], sequences, plain(&config), config.n_best);
        let sampled = DecodeConfig {
            sample: true,
            beam: 1,
            n_best: 20,
            ..config
        };
        for hypothesis in &run(&model, &[source], &sampled, &forbidden, &[request(&[], &[])])[0] {
            assert!(!forbidden.iter().any(|sequence| contains(&hypothesis.tokens, sequence)));
        }
    }
}

/// The log-probabilities of a sequence's tokens, and its attention, by teacher forcing.
fn forced(model: &PreparedTransformer, source: &[u32], one: &Sequence) -> (Vec<f64>, Vec<Vec<f32>>) {
    let model = model.transformer().unwrap();
    let pad = model.architecture().target_pad_id();
    let mut input = [&[pad], one.tokens.as_slice()].concat();
    input.truncate(one.length);
    let target = Tokens::new(&[&input], &candle_core::Device::Cpu).unwrap();
    let record = AttentionRecord::new();
    let pass = Pass {
        record: Some(&record),
        ..Pass::default()
    };
    let encoded = model.encode(&batch(&[source]), Pass::default()).unwrap();
    let logits = model.logits(&model.decode(&target, &encoded, pass).unwrap()).unwrap();
    let label = |position: usize| one.tokens.get(position).copied().unwrap_or(0) as usize;
    let log = |(position, row): (usize, &Vec<f32>)| {
        let sum: f64 = row[..VOCABULARY - 1].iter().map(|x| f64::from(*x).exp()).sum();
        f64::from(row[label(position)]) - sum.ln()
    };
    let logs = logits.to_vec2::<f32>().unwrap().iter().enumerate().map(log).collect();
    let last = record
        .into_inner()
        .into_iter()
        .rfind(|recorded| recorded.block == Block::DecoderCross);
    let weights = last.unwrap().weights_bhts.get(0).unwrap().mean(0).unwrap();
    (logs, weights.to_vec2().unwrap())
}

/// The attention of hypotheses is that of a forward pass, and coverage counts by its definition.
#[test]
fn coverage_against_all_sequences() {
    for seed in 0..3 {
        let model = model(VOCABULARY, seed);
        let source = sentence(&model, seed, 5);
        let config = DecodeConfig {
            coverage_penalty: 0.3,
            ..wide()
        };
        let coverage = |one: &Sequence| {
            let attention = forced(&model, &source, one).1;
            let of_token = |token: usize| attention.iter().map(|row| row[token]).sum::<f32>().min(1.0).ln();
            f64::from((0..4).map(of_token).sum::<f32>())
        };
        let score = |one: &Sequence| config.score(one.log_probability, one.length) + 0.3 * coverage(one);
        let found = run(
            &model,
            std::slice::from_ref(&source),
            &config,
            &[],
            &[request(&[], &[])],
        );
        let sequences = enumerate(&model, &source);
        for hypothesis in &found[0] {
            let same = sequences.iter().find(|one| one.tokens == hypothesis.tokens).unwrap();
            let expected = forced(&model, &source, same).1;
            assert_eq!(hypothesis.attention.len(), expected.len());
            for (got, expected) in hypothesis.attention.iter().zip(expected) {
                assert_eq!(got.len(), source.len());
                assert!(got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5));
            }
        }
        assert_best(&found[0], sequences, score, config.n_best);
        // Without the penalty, another translation wins for at least one model; nothing is recorded.
        let without = run(
            &model,
            std::slice::from_ref(&source),
            &wide(),
            &[],
            &[request(&[], &[])],
        );
        assert!(without[0][0].attention.is_empty());
    }
}

/// Candle's operations, which run in f64, record the same attention as the kernels, for sentences of different lengths.
#[test]
fn attention_of_both_engines() {
    let of_type = |dtype| {
        let model = model_of(20, 5, 2.0, 0.0, dtype);
        let sources: Vec<Vec<u32>> = [3, 7, 5].iter().map(|length| sentence(&model, 1, *length)).collect();
        let config = DecodeConfig {
            beam: 3,
            max_length: 8,
            ..DecodeConfig::default()
        };
        let search = Search::new(&config).attention(true);
        let found = search
            .run(&model, &batch(&sources), &vec![request(&[], &[]); 3])
            .unwrap();
        (sources, found)
    };
    let ((sources, single), (_, double)) = (of_type(DType::F32), of_type(DType::F64));
    for ((source, single), double) in sources.iter().zip(&single).zip(&double) {
        assert_eq!(single[0].tokens, double[0].tokens);
        assert_eq!(single[0].attention.len(), single[0].token_log_probabilities.len());
        for (a, b) in single[0].attention.iter().zip(&double[0].attention) {
            assert!(a.len() == source.len() && b.len() >= source.len());
            assert!(a.iter().zip(b.iter()).all(|(a, b)| (a - b).abs() < 1e-4), "{a:?} {b:?}");
            assert!(b[source.len()..].iter().all(|weight| *weight == 0.0));
        }
    }
}

/// A penalty on repeated tokens against its definition; scores have it, log-probabilities do not.
#[test]
fn repetition_penalty_against_all_sequences() {
    for seed in 0..3 {
        let model = model(VOCABULARY, seed);
        let source = sentence(&model, seed, 4);
        for penalty in [1.4, 0.7] {
            let config = DecodeConfig {
                repetition_penalty: penalty,
                ..wide()
            };
            let penalised = |one: &Sequence| {
                let logs = forced(&model, &source, one).0;
                let factor = |position: usize| match one.tokens.get(position) {
                    Some(token) if one.tokens[..position].contains(token) => penalty,
                    _ => 1.0,
                };
                let total: f64 = logs
                    .iter()
                    .enumerate()
                    .map(|(position, log)| log * factor(position))
                    .sum();
                config.score(total, one.length)
            };
            let found = run(
                &model,
                std::slice::from_ref(&source),
                &config,
                &[],
                &[request(&[], &[])],
            );
            assert_best(&found[0], enumerate(&model, &source), penalised, config.n_best);
        }
    }
}

/// Groups find different translations, more different ones with more diversity; without it, they find the same.
#[test]
fn groups_differ() {
    let distinct_beginnings = |diversity: f64| {
        let mut count = 0;
        for seed in 0..6 {
            let model = model(20, seed);
            let sources = sentences(&model, 4, 10 * seed, 3);
            let config = DecodeConfig {
                beam: 6,
                n_best: 6,
                groups: 3,
                diversity,
                max_length: 10,
                ..DecodeConfig::default()
            };
            let requests = vec![request(&[], &[]); 4];
            for found in run(&model, &sources, &config, &[], &requests) {
                assert!(found.windows(2).all(|pair| pair[0].score >= pair[1].score));
                let mut beginnings: Vec<Option<u32>> = found.iter().map(|one| one.tokens.first().copied()).collect();
                for (i, one) in found.iter().enumerate() {
                    assert!(found[..i].iter().all(|other| other.tokens != one.tokens));
                }
                beginnings.sort_unstable();
                beginnings.dedup();
                count += beginnings.len();
            }
        }
        count
    };
    let (none, some, much) = (
        distinct_beginnings(0.0),
        distinct_beginnings(1.0),
        distinct_beginnings(100.0),
    );
    assert!(none < some && some <= much, "{none} {some} {much}");
}

/// Without diversity, every group finds what a beam of its size finds.
#[test]
fn groups_are_beams() {
    let model = model(20, 2);
    let sources = sentences(&model, 4, 0, 3);
    let requests = vec![request(&[], &[]); 4];
    let config = |beam, groups, n_best| DecodeConfig {
        beam,
        groups,
        n_best,
        diversity: 0.0,
        max_length: 10,
        ..DecodeConfig::default()
    };
    let alone = run(&model, &sources, &config(2, 1, 2), &[], &requests);
    let together = run(&model, &sources, &config(6, 3, 6), &[], &requests);
    for (alone, together) in alone.iter().zip(together) {
        assert_eq!(*alone, together);
    }
}

/// The length of a translation is limited by that of its source.
#[test]
fn lengths_follow_the_source() {
    let model = model(20, 1);
    let sources: Vec<Vec<u32>> = (1..6).map(|length| sentence(&model, length, length as usize)).collect();
    for (beam, sample) in [(1, false), (4, false), (1, true)] {
        let config = DecodeConfig {
            beam,
            sample,
            max_length_factor: 1.5,
            max_length: 40,
            min_length: 3,
            ..DecodeConfig::default()
        };
        let requests = vec![request(&[], &[]); sources.len()];
        for (source, found) in sources.iter().zip(run(&model, &sources, &config, &[], &requests)) {
            let limit = ((1.5 * source.len() as f64).ceil() as usize).max(3);
            let length = found[0].token_log_probabilities.len();
            assert!((3..=limit).contains(&length), "{length} for {}", source.len());
        }
    }
}

/// What a sentence is asked for changes nothing for the sentences beside it, in any order.
#[test]
fn requests_concern_one_sentence() {
    let model = model(20, 4);
    let sources = sentences(&model, 6, 0, 2);
    let requests = [
        request(&[3, 4], &[]),
        request(&[], &[&[7, 7, 8], &[9]]),
        request(&[], &[]),
        request(&[5], &[&[5, 6]]),
        request(&[], &[&[18]]),
        request(&[], &[]),
    ];
    let config = DecodeConfig {
        beam: 4,
        n_best: 2,
        coverage_penalty: 0.2,
        repetition_penalty: 1.2,
        max_length: 20,
        ..DecodeConfig::default()
    };
    let together = run(&model, &sources, &config, &[], &requests);
    for i in 0..sources.len() {
        let alone = run(&model, &sources[i..=i], &config, &[], &requests[i..=i]);
        assert_eq!(alone[0], together[i]);
        assert!(
            requests[i]
                .phrases
                .iter()
                .all(|phrase| contains(&together[i][0].tokens, phrase))
        );
    }
}

#[test]
fn what_cannot_be_met_is_refused() {
    let model = model(VOCABULARY, 1);
    let source = batch(&[sentence(&model, 1, 3)]);
    let refused = |config: &DecodeConfig, request: SentenceRequest| {
        Search::new(config).run(&model, &source, &[request]).unwrap_err()
    };
    let config = DecodeConfig {
        max_length: 5,
        ..DecodeConfig::default()
    };
    let error = refused(&config, request(&[2, 2], &[&[3, 3], &[4]]));
    assert!(
        matches!(
            error,
            DecodeError::LongRequest {
                line: 1,
                tokens: 6,
                limit: 5
            }
        ),
        "{error}"
    );
    for (beam, sample) in [(1, false), (4, true)] {
        let config = DecodeConfig {
            beam,
            sample,
            ..config.clone()
        };
        let error = refused(&config, request(&[], &[&[3]]));
        assert!(matches!(error, DecodeError::PhrasesNeedBeams { line: 1 }), "{error}");
    }
}

/// Sentences that may be translated with some pieces only: probabilities are those of the model among these pieces, and
/// do not depend on the sentences beside, to the bit, in every number format.
#[test]
fn pieces_of_a_sentence() {
    let own: [&[u32]; 3] = [
        &[0, 2, 3, 7, 18],
        &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13],
        &[0, 17],
    ];
    let candidates: Vec<Vec<u32>> = own.iter().map(|pieces| pieces.to_vec()).collect();
    for compute in [InferenceCompute::F32, InferenceCompute::Bf16, InferenceCompute::Int8] {
        let model = model(20, 7).transformer().unwrap().prepare(compute).unwrap();
        let sources: Vec<Vec<u32>> = (0..3).map(|i| sentence(&model, i, 3 + 2 * i as usize)).collect();
        let (last, requests) = (vec![19; 3], vec![RowRequest::default(); 3]);
        let mut free = model.start(&batch(&sources)).unwrap();
        let free = model.best(&last, &mut free, 19, &requests).unwrap();
        let mut bound = model.start_among(&batch(&sources), &candidates).unwrap();
        let bound = model.best(&last, &mut bound, 19, &requests).unwrap();
        for ((free, bound), own) in free.iter().zip(&bound).zip(&own) {
            let (free, bound) = (&free.as_ref().unwrap().best, &bound.as_ref().unwrap().best);
            let mut expected: Vec<(u32, f32)> = free.iter().copied().filter(|(piece, _)| own.contains(piece)).collect();
            let total = expected.iter().map(|(_, log)| f64::from(*log).exp()).sum::<f64>().ln() as f32;
            expected.iter_mut().for_each(|(_, log)| *log -= total);
            assert_eq!(bound.len(), own.len());
            for ((piece, log), (other, expected)) in bound.iter().zip(expected) {
                assert!(
                    *piece == other && (log - expected).abs() < 1e-5,
                    "{compute:?} {piece} {other}"
                );
            }
        }
        for i in 0..3 {
            let mut alone = model.start_among(&batch(&sources[i..=i]), &candidates[i..=i]).unwrap();
            let alone = model.best(&last[..1], &mut alone, 19, &requests[..1]).unwrap();
            assert_eq!(alone[0], bound[i]);
        }
        // The logits of a step leave out the same pieces.
        let mut state = model.start_among(&batch(&sources), &candidates).unwrap();
        let logits = model.step(&last, &mut state).unwrap().to_vec2::<f32>().unwrap();
        for (row, own) in logits.iter().zip(&own) {
            let finite: Vec<u32> = (0..20).filter(|piece| row[*piece as usize].is_finite()).collect();
            assert_eq!(finite, *own);
        }
        for wrong in [vec![vec![0, 19]; 3], vec![Vec::new(); 3], vec![vec![0]; 2]] {
            assert!(model.start_among(&batch(&sources), &wrong).is_err(), "{wrong:?}");
        }
    }
}

/// The probability of a token is the mean over the models, at every step of every sequence.
#[test]
fn ensembles_against_all_sequences() {
    for seed in 0..3 {
        let models: Vec<PreparedTransformer> = (0..3).map(|i| model(VOCABULARY, 10 * seed + i)).collect();
        let source = sentence(&models[0], seed, 4);
        let config = wide();
        let mean = |one: &Sequence| {
            let logs: Vec<Vec<f64>> = models.iter().map(|model| forced(model, &source, one).0).collect();
            let of_step = |step: usize| (logs.iter().map(|logs| logs[step].exp()).sum::<f64>() / 3.0).ln();
            config.score((0..one.length).map(of_step).sum(), one.length)
        };
        let both = Ensemble::new(models.clone()).unwrap();
        let found = Search::new(&config)
            .run(&both, &batch(&[&source]), &[request(&[], &[])])
            .unwrap();
        let mut expected: Vec<f64> = enumerate(&models[0], &source).iter().map(mean).collect();
        expected.sort_by(|a, b| b.total_cmp(a));
        assert_eq!(found[0].len(), config.n_best);
        for (hypothesis, expected) in found[0].iter().zip(expected) {
            assert!((hypothesis.score - expected).abs() < 1e-4, "{hypothesis:?} {expected}");
        }
    }
}
