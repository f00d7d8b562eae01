//! What is set for the whole process before its work begins: threads and memory.

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

/// Lets the allocator keep freed memory instead of giving it back to the kernel after ten milliseconds: every update needs
/// the same buffers again, and the kernel would hand them out page by page, zeroed. The environment's
/// `MIMALLOC_PURGE_DELAY` has precedence.
pub(crate) fn keep_freed_memory() {
    /// `mi_option_purge_delay` of mimalloc 2 and 3, in milliseconds; -1 is never.
    const PURGE_DELAY: std::ffi::c_int = 15;
    // SAFETY: the option exists in the version that is linked, and takes any number.
    #[allow(unsafe_code)]
    unsafe {
        libmimalloc_sys::mi_option_set_default(PURGE_DELAY, -1);
    }
}

/// The cores that this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
