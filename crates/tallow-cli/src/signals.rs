//! Signals that ask the process to end.

use crate::{INTERRUPTED, threads};
use anyhow::{Context, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A flag that is set by SIGINT, SIGTERM, SIGHUP or SIGUSR1, for a process of a group: all its processes get the signal
/// and stop together, and the root says so. `mpirun` passes SIGUSR1 on to all processes. It ends them a second after a
/// SIGINT or SIGTERM to itself, which is mostly too short.
pub(crate) fn stop_quietly_at_signals() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed)).context("signals cannot be caught")?;
    threads::stop_at_time_limit();
    threads::stop_at_user_signal();
    Ok(stop)
}

/// A flag that is set by the first SIGINT, SIGTERM or SIGHUP, which prints a message. The second signal ends the
/// process.
pub(crate) fn stop_at_signals(message: &'static str) -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    let handler = move || {
        if flag.swap(true, Ordering::Relaxed) {
            // The user has asked twice. Every file being written can still be resumed from.
            #[allow(clippy::exit)]
            std::process::exit(i32::from(INTERRUPTED));
        }
        eprintln!("\n{message}; Ctrl-C again stops at once");
    };
    ctrlc::set_handler(handler).context("Ctrl-C cannot be caught")?;
    threads::stop_at_time_limit();
    Ok(stop)
}
