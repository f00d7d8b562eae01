//! File formats of models, one module for each.
//!
//! No file is trusted: sizes in a file are compared with the file's length before memory is allocated.

mod archive;
pub(crate) mod bytes;
mod failed_download;
pub(crate) mod hugging_face;
pub(crate) mod json;
pub(crate) mod marian;
mod pytorch;
pub(crate) mod safetensors;
pub(crate) mod weights;
