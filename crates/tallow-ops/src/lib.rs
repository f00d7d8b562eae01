//! The operations of the Transformer that take most of its time, with gradients, and the seeded random numbers.
//!
//! An operation is a folder. `mod.rs` holds its interface (checks, documentation, choice of implementation).
//! `reference.rs` holds the same mathematics in plain Candle operations; tests compare the faster kernels with it.
//! Models call the functions exported here and need not know which implementation runs.
//!
//! All exported functions are differentiable in their floating-point inputs, unless their name says otherwise.
//! Parameters, names and configuration belong to the crates above.
//!
//! Shape letters, used as suffixes where ranks change: **b**atch, **s**ource length, **t**arget length, **d** model
//! width, **h**eads, **k** width per head, **f**eed-forward width, **v**ocabulary, **n** rows. The rows are the tokens
//! of all sentences of a batch, one sentence after another ([`Sentences`]).

/// Runs a block with the widest vector instructions of the machine. Functions called in the block must be
/// `inline(always)`: a function that is not inlined uses the target's baseline instructions.
macro_rules! vectorized {
    ($body:block) => {
        crate::widest(
            #[inline(always)]
            || $body,
        )
    };
}

/// [`vectorized!`] with a constant that tells whether its instructions multiply and add in one.
macro_rules! vectorized_fusing {
    (|$fused:ident| $body:block) => {
        if crate::path::fuses() {
            const $fused: bool = true;
            vectorized!($body)
        } else {
            const $fused: bool = false;
            vectorized!($body)
        }
    };
}

/// Calls a closure with the widest vector instructions; see `vectorized!`. The bound must be `FnOnce`: other closures
/// would be called through a shim, which is not inlined into the function with these instructions.
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
pub mod inference;
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
pub use attention::{
    Attended, AttentionMask, AttentionOptions, attend, cross_attention, guided_alignment, self_attention, split_heads,
};
pub use cross_entropy::{CrossEntropyOptions, cross_entropy};
pub use dropout::{Dropout, DropoutStream, dropout};
pub use embedding::embed;
pub use gather::{Gathered, OnComplete, gather_gradients, gather_gradients_early};
pub use gradient::sum_of_squares_no_grad;
pub use layer_norm::layer_norm;
pub use linear::linear;
pub use path::{Path, use_avx2_only, with_path};
pub use product::Compute;
pub use random::{Key, Purpose, philox4x32};
pub use residual::{residual, residual_norm};
pub use sentences::Sentences;
pub use sublayer::{
    AttentionSublayerOptions, Connection, CrossAttentionParts, FeedForwardOptions, FeedForwardParts, NormPlace,
    SelfAttentionParts, cross_attention_sublayer, feed_forward, self_attention_sublayer,
};

/// The vector instructions of matrix products on this machine. Only machines with the same instructions give equal
/// results, to the bit.
pub fn instruction_set() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") && path::path() != Path::Avx2 {
            return "avx512";
        }
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
            return "avx2-fma";
        }
    }
    std::env::consts::ARCH
}
