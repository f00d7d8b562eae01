//! The encoder-decoder Transformer of "Attention is all you need" (Vaswani et al. 2017), its parameters and its
//! directory.
//!
//! Layers take `&self` and hold no hidden state: dropout streams, decoder states and attention records are arguments.
//! A saved directory is a Hugging Face MarianMT directory wherever the architecture allows it.
//!
//! Shape letters: **b**atch, **s**ource length, **t**arget length, **d** model width, **h**eads, **k** width per
//! head, **f**eed-forward width, **v**ocabulary, **n** rows of a flattened batch.

mod alignment_heads;
mod architecture;
mod attention;
mod config;
mod cost;
mod decoder;
mod directory;
mod encoder;
mod error;
mod feed_forward;
mod formats;
mod initialisation;
mod inventory;
mod parameter;
mod position;
mod prepared;
mod record;
mod state;
mod sublayer;
mod tokens;
mod trace;
mod transformer;
mod verify;

pub use alignment_heads::AlignmentHeads;
pub use architecture::Architecture;
pub use config::{ActivationKind, ModelConfig, Norm, Positions, Tie};
pub use cost::{Stage, StageCost};
pub use directory::{Opened, SearchSettings, open, open_prepared, read_architecture, save, save_as};
pub use error::ModelError;
pub use formats::hugging_face::{
    CONFIG_FILE, PYTORCH_FILE, PYTORCH_INDEX_FILE, Storage, WEIGHTS_FILE, WEIGHTS_FILES, WEIGHTS_INDEX_FILE,
    WEIGHTS_KEY, is_marian_mt, marian_mt_faults, shard_names,
};
pub use formats::json::read_json;
pub use formats::marian::{MarianFiles, NPZ_FILE, npz_faults, save_npz};
pub use initialisation::Initialisation;
pub use parameter::{Parameter, Params, Part};
pub use position::{sinusoidal, sinusoidal_marian};
pub use prepared::{PreparedState, PreparedTransformer};
pub use record::{AttentionRecord, Block, RecordedAttention};
pub use state::DecoderState;
pub use tallow_ops::inference::{BestPieces, InferenceCompute, RowRequest};
pub use tokens::Tokens;
pub use trace::{AttentionTrace, FeedForwardTrace, ForwardTrace, Head, LayerTrace, StackTrace};
pub use transformer::{Encoded, GuidedAlignment, Loss, LossOptions, Pass, Transformer};
pub use verify::{Check, pad_row_faults, verify};
