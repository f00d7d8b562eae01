//! `config.json`: the mapping between an [`Architecture`] and Hugging Face's MarianMT configuration.
//!
//! A post-norm model with sinusoidal positions and scaled attention is written as a Marian model. Any other model has
//! the same keys under `model_type` "tallow", and additional keys for the settings that Marian lacks.

use crate::config::decimal;
use crate::{ActivationKind, Architecture, ModelConfig, Norm, Positions, SearchSettings, Tie};
use serde_json::{Map, Value, json};

/// The version of Tallow's own keys.
const VERSION: u64 = 1;
/// The maximum number of tokens in Marian's configuration. Positions are computed, so it has no effect here.
const MARIAN_POSITIONS: usize = 512;

/// Whether Hugging Face's MarianMT can express the architecture.
pub fn is_marian_mt(architecture: &Architecture) -> bool {
    marian_mt_faults(architecture).is_empty()
}

/// Settings that Hugging Face's MarianMT cannot express.
pub fn marian_mt_faults(architecture: &Architecture) -> Vec<String> {
    let model = &architecture.model;
    let checks = [
        (model.norm == Norm::Post, "model.norm: only \"post\" can be expressed"),
        (
            model.positions == Positions::Sinusoidal,
            "model.positions: only \"sinusoidal\" can be expressed",
        ),
        (
            model.scale_attention,
            "model.scale_attention: only true can be expressed",
        ),
    ];
    let checks = checks.into_iter().chain(checks_of_parts(model));
    let faults = checks.filter(|(is_fine, _)| !is_fine);
    faults.map(|(_, fault)| fault.to_owned()).collect()
}

/// The parts without which a model cannot be expressed in the forms of other programs.
pub(crate) fn checks_of_parts(model: &ModelConfig) -> [(bool, &'static str); 5] {
    [
        (model.residual, "model.residual: only true can be expressed"),
        (model.causal_mask, "model.causal_mask: only true can be expressed"),
        (
            model.cross_attention,
            "model.cross_attention: only true can be expressed",
        ),
        (model.feed_forward > 0, "model.feed_forward: 0 cannot be expressed"),
        (
            model.decoder_feed_forward() > 0,
            "model.decoder_feed_forward: 0 cannot be expressed",
        ),
    ]
}

/// Parts of a Transformer that a model may lack.
const RESIDUAL: &str = "tallow_residual";
const CAUSAL_MASK: &str = "tallow_causal_mask";
const CROSS_ATTENTION: &str = "tallow_cross_attention";

/// The key of the form of the weights, if it is not f32.
pub const WEIGHTS_KEY: &str = "tallow_weights";

/// The form of the weights in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Storage {
    /// 32-bit floating point.
    #[default]
    F32,
    /// Matrices in 8-bit integers with a scale for each row, everything else in f32. Only Tallow reads it.
    Int8,
}

/// The contents of `config.json`.
pub(crate) fn to_config(architecture: &Architecture, storage: Storage) -> Value {
    let model = &architecture.model;
    let (pad, eos) = (architecture.target_pad_id(), architecture.eos_id);
    let marian_mt = storage == Storage::F32 && is_marian_mt(architecture);
    let activation = match model.activation {
        ActivationKind::Relu => "relu",
        ActivationKind::Gelu => "gelu",
        ActivationKind::Silu => "swish",
    };
    let max_positions = if model.positions == Positions::Learned {
        model.max_positions
    } else {
        MARIAN_POSITIONS
    };
    let mut config = json!({
        "architectures": [if marian_mt { "MarianMTModel" } else { "TallowModel" }],
        "model_type": if marian_mt { "marian" } else { "tallow" },
        "is_encoder_decoder": true,
        "d_model": model.d_model,
        "encoder_layers": model.encoder_layers,
        "decoder_layers": model.decoder_layers,
        "num_hidden_layers": model.encoder_layers,
        "encoder_attention_heads": model.heads,
        "decoder_attention_heads": model.decoder_heads(),
        "encoder_ffn_dim": model.feed_forward,
        "decoder_ffn_dim": model.decoder_feed_forward(),
        "activation_function": activation,
        "dropout": decimal(model.dropout),
        "attention_dropout": decimal(model.attention_dropout),
        "activation_dropout": decimal(model.activation_dropout),
        "vocab_size": architecture.source_vocabulary,
        "decoder_vocab_size": architecture.target_vocabulary,
        "max_position_embeddings": max_positions,
        "share_encoder_decoder_embeddings": model.tie == Tie::All,
        "tie_word_embeddings": model.tie != Tie::None,
        "scale_embedding": model.scale_embedding,
        "static_position_embeddings": model.positions == Positions::Sinusoidal,
        "normalize_before": model.norm == Norm::Pre,
        "normalize_embedding": false,
        "add_final_layer_norm": model.norm == Norm::Pre,
        "add_bias_logits": false,
        "pad_token_id": pad,
        "decoder_start_token_id": pad,
        "bos_token_id": eos,
        "eos_token_id": eos,
        "forced_eos_token_id": eos,
        "bad_words_ids": [[pad]],
        "use_cache": true,
        "torch_dtype": "float32",
        "tallow_version": VERSION,
        "tallow_unk_id": architecture.unk_id,
        "tallow_shared_vocabulary": architecture.shared_vocabulary,
    });
    if !marian_mt && let Value::Object(keys) = &mut config {
        keys.insert("tallow_positions".into(), json!(model.positions));
        keys.insert("tallow_scale_attention".into(), json!(model.scale_attention));
        // What most models have is not said, so that earlier versions read them, too.
        if model.norm == Norm::None {
            keys.insert("tallow_norm".into(), json!("none"));
        }
        for (key, is_there) in [
            (RESIDUAL, model.residual),
            (CAUSAL_MASK, model.causal_mask),
            (CROSS_ATTENTION, model.cross_attention),
        ] {
            if !is_there {
                keys.insert(key.into(), json!(false));
            }
        }
        if storage == Storage::Int8 {
            keys.insert("torch_dtype".into(), json!("int8"));
            keys.insert(WEIGHTS_KEY.into(), json!("int8"));
        }
    }
    config
}

/// The contents of `generation_config.json`: the ids again, and the default search settings.
pub(crate) fn to_generation_config(architecture: &Architecture, search: SearchSettings) -> Value {
    let (pad, eos) = (architecture.target_pad_id(), architecture.eos_id);
    let mut config = json!({
        "bad_words_ids": [[pad]],
        "bos_token_id": eos,
        "decoder_start_token_id": pad,
        "eos_token_id": eos,
        "forced_eos_token_id": eos,
        "pad_token_id": pad,
        "max_length": search.max_length,
        "num_beams": search.beam,
        "length_penalty": search.length_penalty,
        "no_repeat_ngram_size": search.no_repeat_ngram,
        // The probabilities are over the pieces that can be predicted; without this setting, the share of `<pad>` would
        // be missing.
        "renormalize_logits": true,
    });
    if let (false, Value::Object(keys)) = (search.alignment_heads.is_empty(), &mut config) {
        keys.insert("alignment_heads".into(), json!(search.alignment_heads));
    }
    config
}

/// Reads keys and collects all faults.
struct Reader<'a> {
    keys: &'a Map<String, Value>,
    faults: Vec<String>,
}

impl Reader<'_> {
    fn size(&mut self, key: &str, default: Option<usize>) -> usize {
        match self.keys.get(key) {
            Some(value) => match value.as_u64().and_then(|n| usize::try_from(n).ok()) {
                Some(size) => return size,
                None => self.faults.push(format!("{key}: {value} is not a whole number")),
            },
            None => match default {
                Some(default) => return default,
                None => self.faults.push(format!("{key}: missing")),
            },
        }
        0
    }

    fn flag(&mut self, key: &str, default: bool) -> bool {
        match self.keys.get(key) {
            None | Some(Value::Null) => default,
            Some(Value::Bool(flag)) => *flag,
            Some(value) => {
                self.faults.push(format!("{key}: {value} is neither true nor false"));
                default
            }
        }
    }

    fn rate(&mut self, key: &str) -> f32 {
        match self.keys.get(key) {
            None | Some(Value::Null) => 0.0,
            Some(value) => match value.as_f64() {
                Some(rate) => rate as f32,
                None => {
                    self.faults.push(format!("{key}: {value} is not a number"));
                    0.0
                }
            },
        }
    }

    fn text(&mut self, key: &str) -> String {
        match self.keys.get(key) {
            Some(Value::String(text)) => text.clone(),
            Some(value) => {
                self.faults.push(format!("{key}: {value} is not a string"));
                String::new()
            }
            None => {
                self.faults.push(format!("{key}: missing"));
                String::new()
            }
        }
    }

    fn refuse(&mut self, key: &str, unsupported: bool) {
        if self.flag(key, false) == unsupported {
            self.faults.push(format!("{key}: {unsupported} is not supported"));
        }
    }
}

/// Reads a `config.json`, or lists everything in it that is wrong or not supported.
pub(crate) fn from_config(config: &Value) -> Result<Architecture, Vec<String>> {
    let Value::Object(keys) = config else {
        return Err(vec!["it does not hold a JSON object".into()]);
    };
    let mut reader = Reader {
        keys,
        faults: Vec::new(),
    };
    let model_type = reader.text("model_type");
    let ours = model_type == "tallow";
    if !ours && model_type != "marian" && !model_type.is_empty() {
        reader.faults.push(format!(
            "model_type: {model_type:?} is neither \"marian\" nor \"tallow\""
        ));
        return Err(reader.faults);
    }
    let version = reader.size("tallow_version", Some(1));
    if version as u64 > VERSION {
        reader.faults.push(format!(
            "tallow_version: {version} is newer than this program, which knows {VERSION}"
        ));
    }
    let activation = match reader.text("activation_function").as_str() {
        "relu" => ActivationKind::Relu,
        "gelu" => ActivationKind::Gelu,
        "swish" | "silu" => ActivationKind::Silu,
        other => {
            reader.faults.push(format!(
                "activation_function: {other:?} is not among relu, gelu, swish, silu"
            ));
            ActivationKind::Relu
        }
    };
    reader.refuse("normalize_embedding", true);
    let norm = match (reader.flag("normalize_before", false), keys.get("tallow_norm")) {
        (true, None) => Norm::Pre,
        (false, None) => Norm::Post,
        (_, Some(Value::String(name))) if ours && name == "none" => Norm::None,
        (_, Some(other)) => {
            reader.faults.push(format!("tallow_norm: {other} is not \"none\""));
            Norm::Post
        }
    };
    let mut part = |key: &str| !ours || reader.flag(key, true);
    let (residual, causal_mask, cross_attention) = (part(RESIDUAL), part(CAUSAL_MASK), part(CROSS_ATTENTION));
    let (positions, scale_attention) = if ours {
        let positions = keys.get("tallow_positions").cloned().unwrap_or(json!("sinusoidal"));
        let positions = serde_json::from_value(positions).unwrap_or_else(|_| {
            reader
                .faults
                .push("tallow_positions: not among sinusoidal, sinusoidal-marian, learned, none".into());
            Positions::Sinusoidal
        });
        (positions, reader.flag("tallow_scale_attention", true))
    } else {
        if norm == Norm::Pre {
            reader
                .faults
                .push("normalize_before: true is not supported in a Marian model".into());
        }
        reader.refuse("add_final_layer_norm", true);
        (Positions::Sinusoidal, true)
    };
    let shared_tables = reader.flag("share_encoder_decoder_embeddings", true);
    let tie = match (shared_tables, reader.flag("tie_word_embeddings", true)) {
        (true, true) => Tie::All,
        (false, true) => Tie::Output,
        (false, false) => Tie::None,
        (true, false) => {
            reader
                .faults
                .push("tie_word_embeddings: false beside shared embeddings is not supported".into());
            Tie::All
        }
    };
    let source_vocabulary = reader.size("vocab_size", None);
    let target_vocabulary = match keys.get("decoder_vocab_size") {
        None | Some(Value::Null) => source_vocabulary,
        Some(_) => reader.size("decoder_vocab_size", None),
    };
    let eos = reader.size("eos_token_id", None);
    for key in ["pad_token_id", "decoder_start_token_id"] {
        let id = reader.size(key, None);
        if id.checked_add(1) != Some(target_vocabulary) {
            let last = target_vocabulary.saturating_sub(1);
            reader
                .faults
                .push(format!("{key}: {id} is not the last piece, {last}, as <pad> must be"));
        }
    }
    let feed_forward = reader.size("encoder_ffn_dim", None);
    let decoder_feed_forward = reader.size("decoder_ffn_dim", None);
    for (key, width) in [
        ("encoder_ffn_dim", feed_forward),
        ("decoder_ffn_dim", decoder_feed_forward),
    ] {
        if width == 0 && !ours {
            reader.faults.push(format!("{key}: 0 is not between 1 and 65536"));
        }
    }
    let heads = reader.size("encoder_attention_heads", None);
    let decoder_heads = reader.size("decoder_attention_heads", None);
    let unk = reader.size("tallow_unk_id", Some(1));
    let model = ModelConfig {
        d_model: reader.size("d_model", None),
        feed_forward,
        decoder_feed_forward: (decoder_feed_forward != feed_forward).then_some(decoder_feed_forward),
        encoder_layers: reader.size("encoder_layers", None),
        decoder_layers: reader.size("decoder_layers", None),
        heads,
        decoder_heads: (decoder_heads != heads).then_some(decoder_heads),
        dropout: reader.rate("dropout"),
        attention_dropout: reader.rate("attention_dropout"),
        activation_dropout: reader.rate("activation_dropout"),
        norm,
        residual,
        causal_mask,
        cross_attention,
        activation,
        positions,
        max_positions: reader.size("max_position_embeddings", Some(MARIAN_POSITIONS)),
        tie,
        scale_attention,
        scale_embedding: reader.flag("scale_embedding", false),
    };
    let shared_vocabulary = reader.flag("tallow_shared_vocabulary", tie == Tie::All);
    let architecture = Architecture {
        model,
        source_vocabulary,
        target_vocabulary,
        shared_vocabulary,
        eos_id: u32::try_from(eos).unwrap_or(u32::MAX),
        unk_id: u32::try_from(unk).unwrap_or(u32::MAX),
    };
    let mut faults = reader.faults;
    if faults.is_empty() {
        faults = architecture
            .validate()
            .iter()
            .map(|fault| in_names_of_config(fault))
            .collect();
    }
    if faults.is_empty() {
        Ok(architecture)
    } else {
        Err(faults)
    }
}

/// Replaces the names of a run's config keys in a fault by the names in `config.json`.
fn in_names_of_config(fault: &str) -> String {
    const NAMES: [(&str, &str); 14] = [
        ("model.d_model", "d_model"),
        ("model.feed_forward", "encoder_ffn_dim"),
        ("model.decoder_feed_forward", "decoder_ffn_dim"),
        ("model.encoder_layers", "encoder_layers"),
        ("model.decoder_layers", "decoder_layers"),
        ("model.heads", "encoder_attention_heads"),
        ("model.decoder_heads", "decoder_attention_heads"),
        ("model.max_positions", "max_position_embeddings"),
        ("model.dropout", "dropout"),
        ("model.attention_dropout", "attention_dropout"),
        ("model.activation_dropout", "activation_dropout"),
        ("model.tie", "tie_word_embeddings"),
        ("text.vocabulary", "vocab_size"),
        ("text.shared", "tallow_shared_vocabulary"),
    ];
    NAMES
        .iter()
        .fold(fault.to_owned(), |fault, (ours, theirs)| fault.replace(ours, theirs))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn architecture(model: ModelConfig) -> Architecture {
        Architecture {
            model,
            source_vocabulary: 100,
            target_vocabulary: 100,
            shared_vocabulary: true,
            eos_id: 0,
            unk_id: 1,
        }
    }

    #[test]
    fn every_architecture_survives() {
        let models = [
            ModelConfig::default(),
            ModelConfig {
                norm: Norm::Pre,
                positions: Positions::Learned,
                max_positions: 77,
                ..ModelConfig::default()
            },
            ModelConfig {
                positions: Positions::None,
                scale_attention: false,
                ..ModelConfig::default()
            },
            ModelConfig {
                tie: Tie::None,
                decoder_heads: Some(8),
                decoder_feed_forward: Some(12),
                activation: ActivationKind::Silu,
                ..ModelConfig::default()
            },
            ModelConfig {
                tie: Tie::Output,
                activation: ActivationKind::Gelu,
                ..ModelConfig::default()
            },
            ModelConfig {
                norm: Norm::None,
                feed_forward: 0,
                decoder_feed_forward: Some(8),
                ..ModelConfig::default()
            },
            ModelConfig {
                norm: Norm::Pre,
                residual: false,
                causal_mask: false,
                ..ModelConfig::default()
            },
            ModelConfig {
                cross_attention: false,
                encoder_layers: 0,
                ..ModelConfig::default()
            },
        ];
        for model in models {
            let mut before = architecture(model);
            let after = from_config(&to_config(&before, Storage::F32)).unwrap();
            if before.model.positions != Positions::Learned {
                before.model.max_positions = MARIAN_POSITIONS;
            }
            assert_eq!(before, after);
        }
    }

    #[test]
    fn all_faults_at_once() {
        let mut config = to_config(&architecture(ModelConfig::default()), Storage::F32);
        config["normalize_embedding"] = json!(true);
        config["d_model"] = json!("wide");
        config["activation_function"] = json!("mish");
        config["pad_token_id"] = json!(3);
        let faults = from_config(&config).unwrap_err().join("\n");
        for part in ["normalize_embedding", "d_model", "mish", "pad_token_id: 3"] {
            assert!(faults.contains(part), "{faults}");
        }
        assert!(from_config(&json!([1])).is_err());
        assert!(from_config(&json!({"model_type": "bert"})).unwrap_err()[0].contains("bert"));
    }
}
