//! The architecture of a model: its shape and its vocabularies.

use crate::{ModelConfig, Positions, Tie};

/// The shape of a model together with its vocabularies.
///
/// `<pad>` is the last piece of either vocabulary. It starts the decoder and is never predicted. Its embedding is zero,
/// except in models from other programs that have another one, and gets no gradient.
#[derive(Clone, Debug, PartialEq)]
pub struct Architecture {
    /// Layers, widths and switches.
    pub model: ModelConfig,
    /// Pieces of the source vocabulary, `<pad>` included.
    pub source_vocabulary: usize,
    /// Pieces of the target vocabulary, `<pad>` included.
    pub target_vocabulary: usize,
    /// Whether both sides use one vocabulary.
    pub shared_vocabulary: bool,
    /// The id of `</s>`, the end of every sentence on either side.
    pub eos_id: u32,
    /// The id of `<unk>`.
    pub unk_id: u32,
}

/// The limit for vocabularies; a larger one is treated as a damaged file.
const LARGEST_VOCABULARY: usize = 1 << 24;

impl Architecture {
    /// The id of `<pad>` on the source side.
    pub fn source_pad_id(&self) -> u32 {
        self.source_vocabulary.saturating_sub(1) as u32
    }

    /// The id of `<pad>` on the target side; it also starts the decoder.
    pub fn target_pad_id(&self) -> u32 {
        self.target_vocabulary.saturating_sub(1) as u32
    }

    /// The number of pieces that can be predicted: all but `<pad>`.
    pub fn classes(&self) -> usize {
        self.target_vocabulary.saturating_sub(1)
    }

    /// The number of multiplications with weights for one source token and for one target token, in a forward pass; a
    /// backward pass takes twice as many. Attention itself is not counted, because its share grows with the sentence.
    pub fn multiplications(&self) -> (usize, usize) {
        let model = &self.model;
        let (d, layers) = (model.d_model, model.decoder_layers);
        let of_encoder = model.encoder_layers * (4 * d * d + 2 * d * model.feed_forward);
        let of_cross = if model.cross_attention { 2 * d * d } else { 0 };
        let of_decoder = layers * (4 * d * d + of_cross + 2 * d * model.decoder_feed_forward());
        // Every decoder layer computes keys and values of every source token.
        let of_memory = layers * of_cross;
        (of_encoder + of_memory, of_decoder + d * self.classes())
    }

    /// The canonical form of the model. Values without effect (decoder settings equal to the encoder's, the size of a
    /// position table that does not exist) become the defaults. Two architectures describe the same model if their
    /// canonical forms are equal.
    pub fn canonical(&self) -> Self {
        let (model, default) = (&self.model, ModelConfig::default());
        let learned = model.positions == Positions::Learned;
        Self {
            model: ModelConfig {
                decoder_heads: model.decoder_heads.filter(|heads| *heads != model.heads),
                decoder_feed_forward: model.decoder_feed_forward.filter(|width| *width != model.feed_forward),
                max_positions: if learned {
                    model.max_positions
                } else {
                    default.max_positions
                },
                ..model.clone()
            },
            ..self.clone()
        }
    }

    /// All faults, each beginning with the key's path; empty if there is none.
    pub fn validate(&self) -> Vec<String> {
        let mut faults = self.model.validate();
        for (side, size) in [("source", self.source_vocabulary), ("target", self.target_vocabulary)] {
            if !(3..=LARGEST_VOCABULARY).contains(&size) {
                faults.push(format!(
                    "text.vocabulary: {size} {side} pieces are not between 3 and {LARGEST_VOCABULARY}"
                ));
            } else if self.eos_id as usize >= size - 1 || self.unk_id as usize >= size - 1 {
                faults.push(format!(
                    "text.vocabulary: </s> = {} and <unk> = {} must stand before <pad> = {} on the {side} side",
                    self.eos_id,
                    self.unk_id,
                    size - 1
                ));
            }
        }
        if self.model.tie == Tie::All && !self.shared_vocabulary {
            faults.push("model.tie: \"all\" needs one vocabulary for both sides (text.shared = true)".into());
        }
        if self.shared_vocabulary && self.source_vocabulary != self.target_vocabulary {
            faults.push("text.shared: one vocabulary has one size".into());
        }
        faults
    }
}
