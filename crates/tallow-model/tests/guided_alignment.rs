//! Guided alignment in all architectures.

// Helpers outside `#[test]` functions unwrap too: a panic is how a test fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::specimen;
use candle_core::{DType, Device, Tensor};
use specimen::{architectures, batch, params, sentence, shifted, values};
use tallow_model::{
    Architecture, AttentionRecord, Block, GuidedAlignment, Initialisation, Loss, LossOptions, Params, Pass, Tokens,
    Transformer,
};

/// Links of a batch of three sentences, with sources of 5, 2 and 7 tokens and targets of 4, 6 and 3: one token has
/// three links, one sentence none.
const LINKS: [(u32, u32); 6] = [(0, 4), (2, 0), (2, 1), (2, 3), (11, 7), (12, 13)];

struct Case {
    architecture: Architecture,
    source: Tokens,
    input: Tokens,
    labels: Vec<u32>,
}

impl Case {
    fn new(architecture: Architecture) -> Self {
        let sides = |lengths: [usize; 3], seed: u64| -> Vec<Vec<u32>> {
            (0..3).map(|i| sentence(seed + i as u64, lengths[i])).collect()
        };
        let targets = sides([4, 6, 3], 20);
        Self {
            source: batch(&sides([5, 2, 7], 10)),
            input: shifted(&architecture, &targets),
            labels: targets.concat(),
            architecture,
        }
    }

    fn loss(&self, params: &Params, weight: f64) -> Loss {
        let model = Transformer::for_training(&self.architecture, params, None).unwrap();
        let options = LossOptions {
            guided_alignment: (weight > 0.0).then_some(GuidedAlignment { weight, links: &LINKS }),
            ..LossOptions::default()
        };
        let (source, input, labels) = (&self.source, &self.input, &self.labels);
        model.loss(source, input, labels, options, Pass::default()).unwrap()
    }
}

fn number(tensor: &Tensor) -> f64 {
    tensor.to_dtype(DType::F64).unwrap().to_scalar().unwrap()
}

fn exact_values(tensor: &Tensor) -> Vec<f64> {
    let flat = tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
    flat.to_vec1().unwrap()
}

/// The loss is the divergence of the weights that the first head of the last layer has in a forward pass.
#[test]
fn it_looks_at_the_weights_of_one_head() {
    for architecture in architectures() {
        let case = Case::new(architecture);
        let params = params(&case.architecture, 1);
        let model = Transformer::for_inference(&case.architecture, &params, None).unwrap();
        let record = AttentionRecord::new();
        let pass = Pass {
            record: Some(&record),
            ..Pass::default()
        };
        let encoded = model.encode(&case.source, pass).unwrap();
        model.decode(&case.input, &encoded, pass).unwrap();
        let recorded = record.into_inner();
        let last = recorded
            .iter()
            .rfind(|block| block.block == Block::DecoderCross)
            .unwrap();
        let (_, heads, queries, keys) = last.weights_bhts.dims4().unwrap();
        let weights = values(&last.weights_bhts);
        let weight = |sentence: usize, target: usize, source: usize| {
            f64::from(weights[(sentence * heads * queries + target) * keys + source])
        };
        let expected = -weight(0, 0, 4).ln()
            - (weight(0, 2, 0).ln() + weight(0, 2, 1).ln() + weight(0, 2, 3).ln()) / 3.0
            - 3f64.ln()
            - weight(2, 1, 0).ln()
            - weight(2, 2, 6).ln();
        let loss = case.loss(&params, 0.5);
        let found = number(loss.alignment.as_ref().unwrap());
        assert!(
            (found - expected).abs() < 1e-4,
            "{found} {expected}: {:?}",
            case.architecture
        );
        let total = number(&case.loss(&params, 0.0).total) + 0.5 * found;
        assert!((number(&loss.total) - total).abs() < 1e-3 * total);
    }
}

/// The gradient is that of finite differences, in f64, and the kernels have the same in f32.
#[test]
fn the_gradient_is_that_of_finite_differences() {
    const STEP: f64 = 1e-5;
    for architecture in architectures() {
        let case = Case::new(architecture);
        let fast = params(&case.architecture, 1);
        let exact =
            Params::initialise(&case.architecture, Initialisation::Xavier, 1, DType::F64, &Device::Cpu).unwrap();
        let stores = [&exact, &fast].map(|params| {
            let loss = case.loss(params, 3.0);
            let plain = case.loss(params, 0.0);
            (loss.total - plain.total).unwrap().backward().unwrap()
        });
        let alignment = |params: &Params| number(case.loss(params, 3.0).alignment.as_ref().unwrap());
        for (parameter, of_fast) in exact.iter().zip(fast.iter()) {
            let tensor = parameter.var.as_tensor().copy().unwrap();
            let gradient = exact_values(&stores[0].get(parameter.var.as_tensor()).unwrap().clone());
            let of_fast = exact_values(&stores[1].get(of_fast.var.as_tensor()).unwrap().clone());
            for (exact, fast) in gradient.iter().zip(of_fast) {
                assert!(
                    (exact - fast).abs() < 2e-4 * exact.abs().max(1.0),
                    "{}: {exact} {fast}",
                    parameter.name
                );
            }
            // A few numbers of every parameter.
            for place in (0..gradient.len()).step_by(gradient.len() / 7 + 1) {
                let at = |step: f64| {
                    let mut moved = exact_values(&tensor);
                    moved[place] += step;
                    parameter
                        .var
                        .set(&Tensor::from_vec(moved, tensor.shape(), &Device::Cpu).unwrap())
                        .unwrap();
                    alignment(&exact)
                };
                let slope = 3.0 * (at(STEP) - at(-STEP)) / (2.0 * STEP);
                parameter.var.set(&tensor).unwrap();
                let found = gradient[place];
                assert!(
                    (found - slope).abs() < 1e-5 * slope.abs().max(1.0),
                    "{} {place}: {found} {slope}",
                    parameter.name
                );
            }
        }
        // The keys of the guided head, the last layers of the encoder and what is below them are reached; the output
        // layer is not, unless it is the table of the input, too.
        let reaches = |name: &str| {
            let parameter = exact.iter().find(|parameter| parameter.name.contains(name)).unwrap();
            exact_values(stores[0].get(parameter.var.as_tensor()).unwrap())
                .iter()
                .any(|x| x.abs() > 1e-3)
        };
        let last = case.architecture.model.decoder_layers - 1;
        assert!(reaches(&format!("decoder.layers.{last}.encoder_attn")) && reaches("encoder.layers.0.self_attn"));
        assert!(!reaches(&format!("decoder.layers.{last}.feed_forward")));
    }
}
