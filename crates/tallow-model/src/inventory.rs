//! The list of a model's parameters: names, shapes, packing, initial values.
//!
//! Inside a model, tensors that are used together lie in one parameter (queries, keys and values; scale and shift),
//! so that an operation takes few inputs. Outside, in files, each part has the name and shape that Hugging Face's
//! MarianMT gives it.

use crate::{Architecture, Norm, Positions, Tie};

/// How a part begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Initial {
    /// Xavier's uniform distribution: width sqrt(6 / (fan in + fan out)) (Glorot and Bengio 2010).
    Xavier,
    /// The normal distribution of mean 0 and this standard deviation.
    Normal(f64),
    /// A constant.
    Constant(f64),
}

/// One tensor as files know it.
#[derive(Clone, Debug)]
pub(crate) struct PartPlan {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) initial: Initial,
}

/// One parameter as the model knows it: its parts, one after the other along the first dimension.
#[derive(Clone, Debug)]
pub(crate) struct ParameterPlan {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) parts: Vec<PartPlan>,
    /// A row that is zero and never trained.
    pub(crate) frozen_row: Option<usize>,
}

/// Every parameter of an architecture, in the order of the flow.
pub(crate) fn inventory(architecture: &Architecture) -> Vec<ParameterPlan> {
    let model = &architecture.model;
    let mut plans = Vec::new();
    let (source, target) = (architecture.source_vocabulary, architecture.target_vocabulary);
    if model.tie == Tie::All {
        plans.push(embedding("model.shared", source, model.d_model));
    } else {
        plans.push(embedding("model.encoder.embed_tokens", source, model.d_model));
        plans.push(embedding("model.decoder.embed_tokens", target, model.d_model));
    }
    if model.tie == Tie::None {
        plans.push(embedding("lm_head", target, model.d_model));
    }
    let stacks = [
        ("encoder", model.encoder_layers, model.feed_forward),
        ("decoder", model.decoder_layers, model.decoder_feed_forward()),
    ];
    for (stack, layers, feed_forward) in stacks {
        if model.positions == Positions::Learned {
            let name = format!("model.{stack}.embed_positions.weight");
            let deviation = (model.d_model as f64).powf(-0.5);
            plans.push(single(
                name,
                vec![model.max_positions, model.d_model],
                Initial::Normal(deviation),
            ));
        }
        for layer in 0..layers {
            let prefix = format!("model.{stack}.layers.{layer}");
            attention(
                &mut plans,
                &format!("{prefix}.self_attn"),
                model.d_model,
                &[&["q", "k", "v"]],
            );
            norm(&mut plans, &format!("{prefix}.self_attn_layer_norm"), model.d_model);
            if stack == "decoder" {
                attention(
                    &mut plans,
                    &format!("{prefix}.encoder_attn"),
                    model.d_model,
                    &[&["q"], &["k", "v"]],
                );
                norm(&mut plans, &format!("{prefix}.encoder_attn_layer_norm"), model.d_model);
            }
            linear(&mut plans, &format!("{prefix}.fc1"), feed_forward, model.d_model);
            linear(&mut plans, &format!("{prefix}.fc2"), model.d_model, feed_forward);
            norm(&mut plans, &format!("{prefix}.final_layer_norm"), model.d_model);
        }
        if model.norm == Norm::Pre {
            norm(&mut plans, &format!("model.{stack}.layer_norm"), model.d_model);
        }
    }
    plans
}

fn single(name: String, shape: Vec<usize>, initial: Initial) -> ParameterPlan {
    let part = PartPlan {
        name: name.clone(),
        shape: shape.clone(),
        initial,
    };
    ParameterPlan {
        name,
        shape,
        parts: vec![part],
        frozen_row: None,
    }
}

fn embedding(name: &str, pieces: usize, width: usize) -> ParameterPlan {
    let deviation = (width as f64).powf(-0.5);
    let plan = single(
        format!("{name}.weight"),
        vec![pieces, width],
        Initial::Normal(deviation),
    );
    ParameterPlan {
        frozen_row: Some(pieces - 1),
        ..plan
    }
}

fn linear(plans: &mut Vec<ParameterPlan>, name: &str, outputs: usize, inputs: usize) {
    plans.push(single(format!("{name}.weight"), vec![outputs, inputs], Initial::Xavier));
    plans.push(single(format!("{name}.bias"), vec![outputs], Initial::Constant(0.0)));
}

/// The projections of an attention block, packed in groups, and its output.
fn attention(plans: &mut Vec<ParameterPlan>, name: &str, width: usize, groups: &[&[&str]]) {
    for group in groups {
        let packed = format!("{name}.{}_proj", group.concat());
        let kinds = [
            ("weight", vec![width, width], Initial::Xavier),
            ("bias", vec![width], Initial::Constant(0.0)),
        ];
        for (kind, shape, initial) in kinds {
            let part = |letter: &&str| PartPlan {
                name: format!("{name}.{letter}_proj.{kind}"),
                shape: shape.clone(),
                initial,
            };
            let parts = group.iter().map(part).collect();
            let mut shape = shape.clone();
            shape[0] *= group.len();
            plans.push(ParameterPlan {
                name: format!("{packed}.{kind}"),
                shape,
                parts,
                frozen_row: None,
            });
        }
    }
    linear(plans, &format!("{name}.out_proj"), width, width);
}

fn norm(plans: &mut Vec<ParameterPlan>, name: &str, width: usize) {
    let part = |kind: &str, value: f64| PartPlan {
        name: format!("{name}.{kind}"),
        shape: vec![width],
        initial: Initial::Constant(value),
    };
    let parts = vec![part("weight", 1.0), part("bias", 0.0)];
    plans.push(ParameterPlan {
        name: name.into(),
        shape: vec![2, width],
        parts,
        frozen_row: None,
    });
}
