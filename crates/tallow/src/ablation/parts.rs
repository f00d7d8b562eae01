//! The parts that can be switched off, and the settings that do it.

use crate::Config;
use serde::Serialize;
use tallow_decode::UnknownPieces;
use tallow_model::{Norm, Positions, Tie};

/// A part of a recipe, and how to do without it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    /// A short name: lower case, words joined by `-`.
    pub name: &'static str,
    /// What is trained then, in a few words.
    pub about: &'static str,
    /// The settings that switch it off, as `section.key=value`.
    pub set: Vec<String>,
}

/// The name of the recipe itself.
pub const WHOLE: &str = "all-parts";

/// The recipe itself, and every part of it that can be switched off.
pub fn parts(config: &Config) -> Vec<Part> {
    let (model, train) = (&config.model, &config.train);
    let mut parts = Vec::new();
    // The shape of a model that exists already cannot change.
    let has_shape = config.init.is_none();
    let mut add = |name, about, is_there: bool, set: &[&str]| {
        let is_of_shape = set
            .iter()
            .any(|set| set.starts_with("model.") && !set.contains("dropout"));
        if is_there && (has_shape || !is_of_shape) {
            parts.push(Part {
                name,
                about,
                set: set.iter().map(|assignment| (*assignment).to_owned()).collect(),
            });
        }
    };
    add(WHOLE, "the config as it is", true, &[]);
    add(
        "positions",
        "no positions",
        model.positions != Positions::None,
        &["model.positions=\"none\""],
    );
    add(
        "scaling",
        "scores of attention not scaled",
        model.scale_attention,
        &["model.scale_attention=false"],
    );
    add(
        "embedding-scale",
        "embeddings not scaled",
        model.scale_embedding,
        &["model.scale_embedding=false"],
    );
    let has_heads = model.heads > 1 || model.decoder_heads() > 1;
    add(
        "heads",
        "one head",
        has_heads,
        &["model.heads=1", "model.decoder_heads=1"],
    );
    add(
        "residual",
        "no residual connections",
        model.residual,
        &["model.residual=false"],
    );
    add(
        "norm",
        "no normalisation",
        model.norm != Norm::None,
        &["model.norm=\"none\""],
    );
    add(
        "norm-after",
        "normalisation before the sublayers",
        model.norm == Norm::Post,
        &["model.norm=\"pre\""],
    );
    add(
        "norm-before",
        "normalisation after the sublayers",
        model.norm == Norm::Pre,
        &["model.norm=\"post\""],
    );
    add(
        "causal-mask",
        "no causal mask",
        model.causal_mask,
        &["model.causal_mask=false"],
    );
    // A decoder alone has one table.
    let can_be_alone = model.cross_attention && model.tie == Tie::All && model.positions != Positions::Learned;
    let mut alone = vec!["model.cross_attention=false", "model.encoder_layers=0"];
    // What needs attention to the source.
    for (is_set, without) in [
        (
            config.data.train.iter().any(|corpus| corpus.alignments.is_some()),
            "train.guided_alignment=0.0",
        ),
        (config.decode.coverage_penalty > 0.0, "decode.coverage_penalty=0.0"),
        (config.decode.unknown == UnknownPieces::Copy, "decode.unknown=\"allow\""),
        (!config.decode.alignment_heads.is_empty(), "decode.alignment_heads=[]"),
    ] {
        alone.extend(is_set.then_some(without));
    }
    add(
        "cross-attention",
        "the decoder does not see the source",
        can_be_alone,
        &alone,
    );
    let has_feed_forward = model.feed_forward > 0 || model.decoder_feed_forward() > 0;
    add(
        "feed-forward",
        "no feed-forward layers",
        has_feed_forward,
        &["model.feed_forward=0", "model.decoder_feed_forward=0"],
    );
    add(
        "tying",
        "no tied matrices",
        model.tie != Tie::None && model.cross_attention,
        &["model.tie=\"none\""],
    );
    let has_dropout = model.dropout > 0.0 || model.attention_dropout > 0.0 || model.activation_dropout > 0.0;
    add(
        "dropout",
        "no dropout",
        has_dropout,
        &[
            "model.dropout=0.0",
            "model.attention_dropout=0.0",
            "model.activation_dropout=0.0",
        ],
    );
    add(
        "label-smoothing",
        "no label smoothing",
        train.label_smoothing > 0.0,
        &["train.label_smoothing=0.0"],
    );
    add(
        "warmup",
        "no warmup",
        train.warmup_updates > 0,
        &["train.warmup_updates=0"],
    );
    add(
        "clipping",
        "gradients not clipped",
        train.clip_norm > 0.0,
        &["train.clip_norm=0.0"],
    );
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every part can be switched off in a usual config, and there is nothing to switch off twice.
    #[test]
    fn parts_make_valid_configs() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a.toml");
        std::fs::write(&path, "[data]\ntrain = [{ source = \"a\", target = \"b\" }]\n").unwrap();
        let config = Config::open(&path).unwrap().config;
        let all = parts(&config);
        assert_eq!(all[0].name, WHOLE);
        assert!(all.len() >= 15, "{all:?}");
        for part in &all[1..] {
            let without = Config::compose(&path, &part.set).unwrap_or_else(|error| panic!("{}: {error}", part.name));
            assert_ne!(without.config, config, "{}", part.name);
            // Swapping the place of the normalisation can be swapped back.
            let again = parts(&without.config);
            assert!(
                again.iter().all(|other| other.name != part.name),
                "{} can be switched off twice",
                part.name
            );
        }
    }
}
