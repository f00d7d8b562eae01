//! The reverse task: the last value comes first, so the model must attend to distant positions and count.

/// The values from the last to the first.
pub fn target(source: &[u32]) -> Vec<u32> {
    source.iter().rev().copied().collect()
}
