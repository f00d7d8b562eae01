//! Every hot, differentiable operation of the Transformer, and the seeded random numbers.
//!
//! An operation is a folder: `mod.rs` holds its contract (checks, documentation, dispatch) and `reference.rs` the
//! same mathematics in plain Candle operations, the truth that faster kernels are tested against. Models call the
//! functions exported here and never learn which implementation ran.
//!
//! Everything exported is differentiable in its floating-point inputs, or says so in its name. Parameters, names and
//! configuration live in the crates above.
//!
//! Shape letters, used as suffixes where ranks change: **b**atch, **s**ource length, **t**arget length, **d** model
//! width, **h**eads, **k** width per head, **f**eed-forward width, **v**ocabulary, **n** rows: the tokens of all
//! sentences of a batch, one sentence after another ([`Sentences`]).

/// Runs a block under the widest vector instructions of the machine. What it calls must be `inline(always)`: a function
/// that is only called stays at the baseline of the target.
macro_rules! vectorized {
    ($body:block) => {
        crate::widest(
            #[inline(always)]
            || $body,
        )
    };
}

/// Calls a closure under the widest vector instructions; see `vectorized!`. The bound makes the closure one that is
/// called once: any other would be called through a shim, which does not become part of the function with the
/// instructions.
#[inline(always)]
fn widest<R>(closure: impl FnOnce() -> R) -> R {
    path::arch().dispatch(closure)
}

mod activation;
mod adam;
mod attention;
mod backend;
mod cross_entropy;
mod dropout;
mod embedding;
mod exponential;
mod gather;
mod gradient;
#[cfg(test)]
mod kernel_tests;
mod layer_norm;
mod linear;
mod path;
mod product;
pub mod profile;
mod random;
mod residual;
mod rows;
mod saved;
mod sentences;
mod sublayer;
mod values;

pub use activation::Activation;
pub use adam::{AdamOptions, AdamState, adam_update_no_grad};
pub use attention::{Attended, AttentionMask, AttentionOptions, attend, cross_attention, self_attention, split_heads};
pub use cross_entropy::{CrossEntropyOptions, cross_entropy};
pub use dropout::{Dropout, DropoutStream, dropout};
pub use embedding::embed;
pub use gather::gather_gradients;
pub use gradient::sum_of_squares_no_grad;
pub use layer_norm::layer_norm;
pub use linear::linear;
pub use path::{Path, with_path};
pub use product::Compute;
pub use random::{Key, Purpose, philox4x32};
pub use residual::{residual, residual_norm};
pub use sentences::Sentences;
pub use sublayer::{
    AttentionSublayerOptions, Connection, CrossAttentionParts, FeedForwardOptions, FeedForwardParts, NormPlace,
    SelfAttentionParts, cross_attention_sublayer, feed_forward, self_attention_sublayer,
};

/// The vector instructions that products of matrices use on this machine. Results are equal, to the bit, only among
/// machines where this is equal.
pub fn instruction_set() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") {
            return "avx512";
        }
        if std::arch::is_x86_feature_detected!("fma") {
            return "avx2-fma";
        }
    }
    std::env::consts::ARCH
}
