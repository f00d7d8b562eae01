//! Files of the Marian toolkit: an `.npz` with weights and options, vocabularies beside it, and a `decoder.yml`.
//!
//! Tallow reads the files as Marian writes them, and writes them for CTranslate2's `ct2-marian-converter`.

mod directory;
mod names;
mod npy;
mod options;
mod read;
mod write;
mod yaml;

pub use directory::MarianFiles;
pub(crate) use directory::weights;
pub(crate) use read::MarianModel;
pub use write::{npz_faults, save_npz};

/// The usual name of the file of weights.
pub const NPZ_FILE: &str = "model.npz";
