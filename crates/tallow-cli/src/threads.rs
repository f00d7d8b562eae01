//! Settings of the whole process that must come before its work: threads, memory, signals.

#[cfg(unix)]
use std::sync::atomic::{AtomicBool, Ordering};

/// Sets the number of threads inside each operation. Must be called before the first tensor and the first thread.
///
/// One is nearly always right. Parallelism comes from workers that each run whole batches; with a pool shared by
/// concurrent workers, they would wait for each other.
pub(crate) fn set_operation_threads(count: usize) {
    let count = count.to_string();
    for name in ["RAYON_NUM_THREADS", "CANDLE_NUM_THREADS"] {
        // SAFETY: the environment must not change while another thread reads it. Commands call this before they start
        // any thread, and nothing in this process has touched a tensor yet.
        #[allow(unsafe_code)]
        unsafe {
            std::env::set_var(name, &count);
        }
    }
}

/// Lets the allocator keep freed memory instead of giving it back to the kernel after ten milliseconds. Every update
/// and every batch needs the same buffers again, and the kernel would hand them out page by page, zeroed. The
/// environment variable
/// `MIMALLOC_PURGE_DELAY` has precedence.
pub(crate) fn keep_freed_memory() {
    /// `mi_option_purge_delay` of mimalloc 2 and 3, in milliseconds; -1 means never.
    const PURGE_DELAY: std::ffi::c_int = 15;
    // SAFETY: the option exists in the linked version and takes any number.
    #[allow(unsafe_code)]
    unsafe {
        libmimalloc_sys::mi_option_set_default(PURGE_DELAY, -1);
    }
}

/// Makes writing beyond the file size limit (`ulimit -f`) an ordinary write error. By default, a signal would end the
/// process without a message.
#[cfg(unix)]
pub(crate) fn survive_size_limit() {
    // SAFETY: ignoring a signal installs no handler and is allowed at any time.
    #[allow(unsafe_code)]
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}

/// Treats the signal of the CPU time limit (`ulimit -S -t`) like SIGTERM. The signal comes again every second, but only
/// the first one counts, because a second SIGTERM would end the process at once.
#[cfg(unix)]
pub(crate) fn stop_at_time_limit() {
    stop_at(libc::SIGXCPU);
}

/// Treats SIGUSR1 like SIGTERM.
#[cfg(unix)]
pub(crate) fn stop_at_user_signal() {
    stop_at(libc::SIGUSR1);
}

#[cfg(unix)]
fn stop_at(signal: libc::c_int) {
    extern "C" fn ask_for_the_end(_: libc::c_int) {
        static HAS_ASKED: AtomicBool = AtomicBool::new(false);
        if !HAS_ASKED.swap(true, Ordering::Relaxed) {
            // SAFETY: a signal handler may raise another signal.
            #[allow(unsafe_code)]
            unsafe {
                libc::raise(libc::SIGTERM);
            }
        }
    }
    let handler = ask_for_the_end as extern "C" fn(libc::c_int);
    // SAFETY: the handler does only what a handler may do, and lives as long as the process.
    #[allow(unsafe_code)]
    unsafe {
        libc::signal(signal, handler as libc::sighandler_t);
    }
}

#[cfg(not(unix))]
pub(crate) fn survive_size_limit() {}

#[cfg(not(unix))]
pub(crate) fn stop_at_time_limit() {}

#[cfg(not(unix))]
pub(crate) fn stop_at_user_signal() {}
