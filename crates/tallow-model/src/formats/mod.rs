//! File formats, one module for each: whatever knows how somebody else writes a model lives here.
//!
//! Nothing that is read is trusted: what a file claims is compared with its length before anything is allocated.

mod archive;
mod failed_download;
pub(crate) mod hugging_face;
pub(crate) mod json;
pub(crate) mod marian;
mod pytorch;
mod safetensors;
pub(crate) mod weights;
