//! The list of a model's parameters: names, shapes, packing, initial values.
//!
//! Inside a model, all tensors of a sublayer are packed into one parameter, in the order that the operations of
//! `tallow-ops` expect, so that a sublayer is an operation with few inputs. In files, each part has the name and shape
//! that Hugging Face's MarianMT gives it.

use crate::{Architecture, ModelConfig, Norm, Positions, Tie};

/// The initial distribution of a part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Initial {
    /// Xavier's uniform distribution: width sqrt(6 / (fan in + fan out)) (Glorot and Bengio 2010).
    Xavier,
    /// The normal distribution of mean 0 and this standard deviation.
    Normal(f64),
    /// A constant.
    Constant(f64),
}

/// A tensor of a file.
#[derive(Clone, Debug)]
pub(crate) struct PartPlan {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) initial: Initial,
}

/// A parameter of the model: its parts, concatenated along the first dimension.
#[derive(Clone, Debug)]
pub(crate) struct ParameterPlan {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) parts: Vec<PartPlan>,
    /// A row that is zero at first and gets no gradient.
    pub(crate) frozen_row: Option<usize>,
}

/// All parameters of an architecture, in the order of the forward pass.
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
            plans.push(attention(&prefix, "self_attn", model, &[&["q", "k", "v"]]));
            if stack == "decoder" && model.cross_attention {
                plans.push(attention(&prefix, "encoder_attn", model, &[&["q"], &["k", "v"]]));
            }
            if feed_forward > 0 {
                plans.push(inner_layers(&prefix, model, feed_forward));
            }
        }
        if model.has_last_norm(stack) {
            plans.push(ParameterPlan {
                shape: vec![2, model.d_model],
                ..packed(
                    format!("model.{stack}.layer_norm"),
                    norm(&format!("model.{stack}.layer_norm"), model.d_model),
                )
            });
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

/// A weight and its bias.
fn linear(name: &str, outputs: usize, inputs: usize) -> [PartPlan; 2] {
    [
        PartPlan {
            name: format!("{name}.weight"),
            shape: vec![outputs, inputs],
            initial: Initial::Xavier,
        },
        PartPlan {
            name: format!("{name}.bias"),
            shape: vec![outputs],
            initial: Initial::Constant(0.0),
        },
    ]
}

/// Scale and shift.
fn norm(name: &str, width: usize) -> Vec<PartPlan> {
    let part = |kind: &str, value: f64| PartPlan {
        name: format!("{name}.{kind}"),
        shape: vec![width],
        initial: Initial::Constant(value),
    };
    vec![part("weight", 1.0), part("bias", 0.0)]
}

/// A parameter of one dimension that concatenates its parts.
fn packed(name: String, parts: Vec<PartPlan>) -> ParameterPlan {
    let elements = parts.iter().map(|part| part.shape.iter().product::<usize>()).sum();
    ParameterPlan {
        name,
        shape: vec![elements],
        parts,
        frozen_row: None,
    }
}

/// An attention sublayer: its projections, its output and its normalisation, if there is any. Within each group of
/// projections, the weights come before the biases.
fn attention(prefix: &str, name: &str, model: &ModelConfig, groups: &[&[&str]]) -> ParameterPlan {
    let width = model.d_model;
    let name = format!("{prefix}.{name}");
    let mut parts = Vec::new();
    for group in groups {
        let projections: Vec<[PartPlan; 2]> = group
            .iter()
            .map(|letter| linear(&format!("{name}.{letter}_proj"), width, width))
            .collect();
        parts.extend(projections.iter().map(|[weight, _]| weight.clone()));
        parts.extend(projections.iter().map(|[_, bias]| bias.clone()));
    }
    parts.extend(linear(&format!("{name}.out_proj"), width, width));
    if model.norm != Norm::None {
        parts.extend(norm(&format!("{name}_layer_norm"), width));
    }
    packed(name, parts)
}

/// A feed-forward sublayer.
fn inner_layers(prefix: &str, model: &ModelConfig, inner: usize) -> ParameterPlan {
    let width = model.d_model;
    let mut parts = Vec::new();
    parts.extend(linear(&format!("{prefix}.fc1"), inner, width));
    parts.extend(linear(&format!("{prefix}.fc2"), width, inner));
    if model.norm != Norm::None {
        parts.extend(norm(&format!("{prefix}.final_layer_norm"), width));
    }
    packed(format!("{prefix}.feed_forward"), parts)
}
