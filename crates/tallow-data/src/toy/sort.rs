//! The sort task: every output depends on the whole input.

/// The values from the smallest to the largest, each as often as it occurs.
pub fn target(source: &[u32]) -> Vec<u32> {
    let mut sorted = source.to_vec();
    sorted.sort_unstable();
    sorted
}
