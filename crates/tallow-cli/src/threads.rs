//! What is set for the whole process before its work begins: threads, memory, signals.

#[cfg(unix)]
use std::sync::atomic::{AtomicBool, Ordering};

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

/// Lets the allocator keep freed memory instead of giving it back to the kernel after ten milliseconds: every update
/// needs the same buffers again, and the kernel would hand them out page by page, zeroed. The environment's
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

/// Lets a file that grows beyond the limit on the size of files (`ulimit -f`) be an error of writing like any other:
/// the signal that comes first would end the process without a word.
#[cfg(unix)]
pub(crate) fn survive_size_limit() {
    // SAFETY: ignoring a signal installs no handler, and may be done at any time.
    #[allow(unsafe_code)]
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}

/// Lets the signal of the limit on time (`ulimit -S -t`) ask for the end like SIGTERM. It comes again every second;
/// only the first one counts, because a second SIGTERM does not wait for anything.
#[cfg(unix)]
pub(crate) fn stop_at_time_limit() {
    extern "C" fn ask_for_the_end(_: libc::c_int) {
        static HAS_ASKED: AtomicBool = AtomicBool::new(false);
        if !HAS_ASKED.swap(true, Ordering::Relaxed) {
            // SAFETY: a handler of a signal may raise another one.
            #[allow(unsafe_code)]
            unsafe {
                libc::raise(libc::SIGTERM);
            }
        }
    }
    let handler = ask_for_the_end as extern "C" fn(libc::c_int);
    // SAFETY: the handler does nothing but what handlers may do, and lives as long as the process.
    #[allow(unsafe_code)]
    unsafe {
        libc::signal(libc::SIGXCPU, handler as libc::sighandler_t);
    }
}

#[cfg(not(unix))]
pub(crate) fn survive_size_limit() {}

#[cfg(not(unix))]
pub(crate) fn stop_at_time_limit() {}
