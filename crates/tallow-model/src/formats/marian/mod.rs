//! The files of the Marian toolkit.

mod npz;

pub use npz::{NPZ_FILE, npz_faults, save_npz};
