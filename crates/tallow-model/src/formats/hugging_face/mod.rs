//! Model directories of Hugging Face's MarianMT and of Tallow. Both have the same files and names of tensors:
//! `config.json`, `generation_config.json`, and weights in one file or in several.

mod config;
mod index;
mod tied;

pub use config::{Storage, WEIGHTS_KEY, is_marian_mt, marian_mt_faults};
pub(crate) use config::{checks_of_parts, from_config, to_config, to_generation_config};
pub(crate) use index::read_weights;
pub use index::{PYTORCH_INDEX_FILE, WEIGHTS_FILES, WEIGHTS_INDEX_FILE, shard_names};
pub(crate) use tied::{contradictions, is_redundant, stored_name};

/// The file that describes the architecture.
pub const CONFIG_FILE: &str = "config.json";
/// The file that holds the weights.
pub const WEIGHTS_FILE: &str = "model.safetensors";
/// The file that holds the weights of models from before safetensors.
pub const PYTORCH_FILE: &str = "pytorch_model.bin";
pub(crate) const GENERATION_FILE: &str = "generation_config.json";
pub(crate) const LOGITS_BIAS: &str = "final_logits_bias";
