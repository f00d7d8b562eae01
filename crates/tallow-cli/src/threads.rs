//! The thread counts that Candle reads from the environment at its first operation.

/// Sets how many threads work inside each operation. Must be called before the first tensor and the first thread.
///
/// One is right nearly always: parallelism comes from workers, each running whole batches, and a pool shared by
/// concurrent workers would make them wait for each other.
pub(crate) fn set_operation_threads(count: usize) {
    let count = count.to_string();
    for name in ["RAYON_NUM_THREADS", "CANDLE_NUM_THREADS"] {
        // SAFETY: the environment must not change while another thread reads it. Commands call this before they
        // start any thread, and nothing in this process has touched a tensor yet.
        #[allow(unsafe_code)]
        unsafe {
            std::env::set_var(name, &count);
        }
    }
}

/// The cores that this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
