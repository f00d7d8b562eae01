//! Reader of Marian's options that describe a model, `special:model.yml`.

use super::yaml::{self, Value};
use crate::{ActivationKind, Architecture, ModelConfig, Norm, Positions, Tie};
use std::collections::BTreeMap;

/// The ids of `</s>` and `<unk>` in every vocabulary of Marian.
const IDS: (u32, u32) = (0, 1);
/// The limit for decoder layers that may be copies of others, so that a small file cannot ask for much memory.
const MOST_TIED_LAYERS: usize = 64;

/// The description of a model in the options.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) architecture: Architecture,
    /// For each layer of the decoder, the number (from 1) of the layer that holds its tensors.
    pub(super) decoder_layers: Vec<usize>,
    /// Whether both sides share one embedding table.
    pub(super) shared_table: bool,
}

/// Options that change the computation of a model, and the only value of each that is supported.
const FIXED: [(&str, &str); 16] = [
    ("transformer-decoder-autoreg", "self-attention"),
    ("transformer-no-projection", "false"),
    ("transformer-pool", "false"),
    ("transformer-no-bias", "false"),
    ("transformer-no-affine", "false"),
    ("transformer-attention-mask", "default"),
    ("transformer-train-position-embeddings", "false"),
    ("transformer-train-positions", "false"),
    ("transformer-disable-position-embeddings", "false"),
    ("transformer-ffn-depth", "2"),
    ("right-left", "false"),
    ("ulr", "false"),
    ("lemma-dim-emb", "0"),
    ("lemma-dependency", ""),
    ("factors-dim-emb", "0"),
    ("factors-combine", "sum"),
];

struct Options {
    values: BTreeMap<String, Value>,
    faults: Vec<String>,
}

impl Options {
    fn one(&self, key: &str) -> Option<&str> {
        match self.values.get(key)? {
            Value::One(value) => Some(value),
            Value::List(_) => None,
        }
    }

    fn list(&self, key: &str) -> &[String] {
        match self.values.get(key) {
            Some(Value::List(items)) => items,
            Some(Value::One(_)) | None => &[],
        }
    }

    fn text(&self, key: &str, default: &str) -> String {
        self.one(key).unwrap_or(default).to_owned()
    }

    fn size(&mut self, key: &str, default: Option<usize>) -> usize {
        let found = match self.values.get(key) {
            None => default.ok_or_else(|| format!("{key}: missing")),
            Some(Value::One(value)) => value
                .parse()
                .map_err(|_| format!("{key}: {value:?} is not a whole number")),
            Some(Value::List(_)) => Err(format!("{key}: a list is not a whole number")),
        };
        found.unwrap_or_else(|fault| {
            self.faults.push(fault);
            0
        })
    }

    fn flag(&mut self, key: &str) -> bool {
        match self.one(key) {
            None | Some("false") => false,
            Some("true") => true,
            Some(other) => {
                self.faults.push(format!("{key}: {other:?} is neither true nor false"));
                false
            }
        }
    }

    /// The steps around a layer, without dropout, which only happens in training.
    fn steps(&self, key: &str, default: &str) -> String {
        self.text(key, default).replace('d', "")
    }
}

/// Reads the text of `special:model.yml`, or lists everything in it that is wrong or not supported.
pub(super) fn read(text: &str) -> Result<Model, Vec<String>> {
    let values = yaml::parse(text).map_err(|fault| vec![fault])?;
    let mut options = Options {
        values,
        faults: Vec::new(),
    };
    let kind = options.text("type", "");
    if kind != "transformer" {
        return Err(vec![format!(
            "type: {kind:?} is not supported, only \"transformer\" is"
        )]);
    }
    for (key, only) in FIXED {
        if let Some(value) = options.one(key).filter(|value| *value != only) {
            let fault = format!("{key}: {value:?} is not supported, only {only:?} is");
            options.faults.push(fault);
        }
    }
    if !matches!(options.one("transformer-decoder-ffn-depth"), None | Some("0" | "2")) {
        let fault = "transformer-decoder-ffn-depth: only 2 is supported";
        options.faults.push(fault.to_owned());
    }
    if let Some(kind) = options.list("input-types").iter().find(|kind| *kind != "sequence") {
        let fault = format!("input-types: {kind:?} is not supported, only \"sequence\" is");
        options.faults.push(fault);
    }
    let activation = match options.text("transformer-ffn-activation", "swish").as_str() {
        "relu" => ActivationKind::Relu,
        "swish" => ActivationKind::Silu,
        other => {
            let fault = format!(
                "transformer-ffn-activation: {other:?} is not supported, only \"relu\" and \"swish\" are{}",
                if other == "gelu" {
                    "; Marian's gelu is another function than that of other programs"
                } else {
                    ""
                }
            );
            options.faults.push(fault);
            ActivationKind::Relu
        }
    };
    let norm = norm(&mut options);
    let (tie, shared_table) = ties(&mut options);
    let vocabularies: Vec<usize> = options
        .list("dim-vocabs")
        .iter()
        .filter_map(|size| size.parse().ok())
        .collect();
    let [source, target] = vocabularies[..] else {
        let found = options.list("dim-vocabs").join(", ");
        let fault = format!("dim-vocabs: [{found}] are not the sizes of two vocabularies");
        options.faults.push(fault);
        return Err(options.faults);
    };
    if shared_table && source != target {
        let fault = format!("dim-vocabs: {source} and {target} differ, although tied-embeddings-all or -src ties them");
        options.faults.push(fault);
    }
    let feed_forward = options.size("transformer-dim-ffn", None);
    let decoder_feed_forward = match options.size("transformer-decoder-dim-ffn", Some(0)) {
        0 => feed_forward,
        width => width,
    };
    let model = ModelConfig {
        d_model: options.size("dim-emb", None),
        feed_forward,
        decoder_feed_forward: (decoder_feed_forward != feed_forward).then_some(decoder_feed_forward),
        encoder_layers: options.size("enc-depth", None),
        decoder_layers: options.size("dec-depth", None),
        heads: options.size("transformer-heads", None),
        norm,
        activation,
        positions: positions(&options),
        tie,
        ..ModelConfig::default()
    };
    let decoder_layers = decoder_layers(&mut options, model.decoder_layers);
    let architecture = Architecture {
        model,
        // With `<pad>`, which Marian lacks.
        source_vocabulary: source.saturating_add(1),
        target_vocabulary: target.saturating_add(1),
        shared_vocabulary: shared_table,
        eos_id: IDS.0,
        unk_id: IDS.1,
    };
    let mut faults = options.faults;
    if faults.is_empty() {
        let own = architecture.validate();
        faults = own.iter().map(|fault| in_names_of_marian(fault)).collect();
        // Both sides have the same number of heads, so a fault in it would be listed twice.
        faults.dedup();
    }
    if faults.is_empty() {
        Ok(Model {
            architecture,
            decoder_layers,
            shared_table,
        })
    } else {
        Err(faults)
    }
}

/// The place of layer normalisation.
fn norm(options: &mut Options) -> Norm {
    let steps = [
        ("transformer-preprocess", ""),
        ("transformer-postprocess", "dan"),
        ("transformer-postprocess-top", ""),
    ]
    .map(|(key, default)| options.steps(key, default));
    let embedded = options.steps("transformer-postprocess-emb", "d");
    if !embedded.is_empty() {
        let fault = format!("transformer-postprocess-emb: {embedded:?} is not supported, only \"d\" is");
        options.faults.push(fault);
    }
    match steps.each_ref().map(String::as_str) {
        ["", "an", ""] => Norm::Post,
        ["n", "a", "n"] => Norm::Pre,
        [before, after, top] => {
            let fault = format!(
                "transformer-preprocess, transformer-postprocess and transformer-postprocess-top: {before:?}, {after:?} and {top:?} \
                 (without dropout) are not supported, only \"\", \"an\" and \"\", or \"n\", \"a\" and \"n\" are"
            );
            options.faults.push(fault);
            Norm::Post
        }
    }
}

/// The tying of the matrices over the vocabulary, and whether both sides share one embedding table.
fn ties(options: &mut Options) -> (Tie, bool) {
    let all = options.flag("tied-embeddings-all");
    let output = options.flag("tied-embeddings");
    let shared = options.flag("tied-embeddings-src") || all;
    let tie = match (all || output, shared) {
        (true, true) => Tie::All,
        (true, false) => Tie::Output,
        // One table for both sides, with a separate output, becomes two equal tables.
        (false, _) => Tie::None,
    };
    (tie, shared)
}

/// The kind of sinusoidal positions. Models from Marian have Marian's frequencies, and a `model.npz` from Tallow has
/// those of MarianMT. The options tell them apart: Marian also writes options of recurrent models, such as `dim-rnn`,
/// and Tallow does not.
fn positions(options: &Options) -> Positions {
    if options.values.contains_key("dim-rnn") {
        Positions::SinusoidalMarian
    } else {
        Positions::Sinusoidal
    }
}

/// The layers of the decoder; several may share the tensors of one.
fn decoder_layers(options: &mut Options, layers: usize) -> Vec<usize> {
    const KEY: &str = "transformer-tied-layers";
    let tied = options.list(KEY);
    if tied.is_empty() {
        return Vec::new();
    }
    let numbers: Vec<usize> = tied
        .iter()
        .filter_map(|layer| layer.parse().ok())
        .filter(|layer| *layer > 0)
        .collect();
    if numbers.len() != tied.len() || numbers.len() != layers || layers > MOST_TIED_LAYERS {
        let fault = format!(
            "{KEY}: [{}] are not the layers of each of dec-depth = {layers} layers, at most {MOST_TIED_LAYERS}",
            tied.join(", ")
        );
        options.faults.push(fault);
    }
    numbers
}

/// Replaces the names of a run's config keys in a fault by Marian's names.
fn in_names_of_marian(fault: &str) -> String {
    const NAMES: [(&str, &str); 8] = [
        ("model.d_model", "dim-emb"),
        ("model.feed_forward", "transformer-dim-ffn"),
        ("model.decoder_feed_forward", "transformer-decoder-dim-ffn"),
        ("model.encoder_layers", "enc-depth"),
        ("model.decoder_layers", "dec-depth"),
        ("model.heads", "transformer-heads"),
        ("model.decoder_heads", "transformer-heads"),
        ("text.vocabulary", "dim-vocabs"),
    ];
    NAMES
        .iter()
        .fold(fault.to_owned(), |fault, (ours, theirs)| fault.replace(ours, theirs))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "type: transformer\ndim-emb: 32\ndim-rnn: 1024\ndim-vocabs:\n  - 120\n  - 90\nenc-depth: 2\n\
                         dec-depth: 3\ntransformer-heads: 4\ntransformer-dim-ffn: 64\ninput-types:\n  []\n";

    fn fault(line: &str) -> String {
        let faults = read(&format!("{PLAIN}{line}\n")).unwrap_err();
        assert_eq!(faults.len(), 1, "{faults:?}");
        faults[0].clone()
    }

    #[test]
    fn switches() {
        let of = |lines: &str| read(&format!("{PLAIN}{lines}\n")).unwrap();
        let plain = of("").architecture;
        assert_eq!((plain.source_vocabulary, plain.target_vocabulary), (121, 91));
        assert_eq!(
            (plain.model.norm, plain.model.tie, plain.model.activation),
            (Norm::Post, Tie::None, ActivationKind::Silu)
        );
        assert_eq!(plain.model.positions, Positions::SinusoidalMarian);
        let pre = of("transformer-preprocess: n\ntransformer-postprocess: da\ntransformer-postprocess-top: n");
        assert_eq!(pre.architecture.model.norm, Norm::Pre);
        assert_eq!(of("tied-embeddings: true").architecture.model.tie, Tie::Output);
        let wide = of("transformer-decoder-dim-ffn: 48").architecture.model;
        assert_eq!((wide.feed_forward, wide.decoder_feed_forward()), (64, 48));
        assert_eq!(of("transformer-tied-layers: [1, 1, 2]").decoder_layers, [1, 1, 2]);
        let ours = read(&PLAIN.replace("dim-rnn: 1024\n", "")).unwrap();
        assert_eq!(ours.architecture.model.positions, Positions::Sinusoidal);
    }

    #[test]
    fn what_cannot_be_expressed_is_named() {
        for (key, only) in FIXED {
            let refused = fault(&format!("{key}: other"));
            assert!(refused.starts_with(key) && refused.contains(only), "{refused}");
        }
        for (line, part) in [
            ("transformer-ffn-activation: gelu", "another function"),
            ("transformer-decoder-ffn-depth: 3", "transformer-decoder-ffn-depth"),
            ("transformer-postprocess: dn", "transformer-postprocess"),
            ("transformer-preprocess: n", "transformer-preprocess"),
            ("transformer-postprocess-emb: n", "transformer-postprocess-emb"),
            ("transformer-tied-layers: [1, 1]", "transformer-tied-layers"),
            ("transformer-tied-layers: [1, 0, 1]", "transformer-tied-layers"),
            ("tied-embeddings-all: true", "dim-vocabs"),
            ("tied-embeddings: maybe", "tied-embeddings"),
            ("input-types: [class]", "input-types"),
            ("dim-emb: wide", "dim-emb"),
            ("dim-emb: 30", "dim-emb"),
            ("dim-vocabs: [10, 10, 10]", "dim-vocabs"),
        ] {
            let refused = fault(line);
            assert!(refused.contains(part), "{line}: {refused}");
        }
        for kind in ["type: s2s", "type: multi-transformer"] {
            assert!(read(kind).unwrap_err()[0].starts_with("type"));
        }
        assert!(read("words").is_err() && read("").is_err());
        assert_eq!(read("type: transformer\ndim-vocabs: [9, 9]").unwrap_err().len(), 5);
    }
}
