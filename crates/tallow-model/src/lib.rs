//! The encoder-decoder Transformer of "Attention is all you need" (Vaswani et al. 2017), its parameters and its
//! directory.
//!
//! Layers take `&self` and hold no hidden state: dropout streams, decoder states and attention records are arguments.
//! A saved directory is a Hugging Face MarianMT directory wherever the architecture allows it.
//!
//! Shape letters: **b**atch, **s**ource length, **t**arget length, **d** model width, **h**eads, **k** width per
//! head, **f**eed-forward width, **v**ocabulary, **n** rows of a flattened batch.

mod architecture;
mod attention;
mod config;
mod decoder;
mod directory;
mod encoder;
mod error;
mod feed_forward;
mod initialisation;
mod inventory;
mod json;
mod marian;
mod npz;
mod parameter;
mod position;
mod record;
mod stand_in;
mod state;
mod sublayer;
mod tied;
mod tokens;
mod transformer;
mod verify;
mod weights;

pub use architecture::Architecture;
pub use config::{ActivationKind, ModelConfig, Norm, Positions, Tie};
pub use directory::{CONFIG_FILE, Opened, PYTORCH_FILE, SearchSettings, WEIGHTS_FILE, open, read_architecture, save};
pub use error::ModelError;
pub use initialisation::Initialisation;
pub use json::read_json;
pub use marian::{is_marian, marian_faults};
pub use npz::{NPZ_FILE, npz_faults, save_npz};
pub use parameter::{Parameter, Params, Part};
pub use position::sinusoidal;
pub use record::{AttentionRecord, Block, RecordedAttention};
pub use state::DecoderState;
pub use tokens::Tokens;
pub use transformer::{Encoded, LossOptions, Pass, Transformer};
pub use verify::{Check, pad_row_faults, verify};
pub use weights::{PYTORCH_INDEX_FILE, WEIGHTS_FILES, WEIGHTS_INDEX_FILE, shard_names};
