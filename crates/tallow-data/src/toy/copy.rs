//! Sequences copied: the simplest task that needs attention.

/// The values as they are.
pub fn target(source: &[u32]) -> Vec<u32> {
    source.to_vec()
}
