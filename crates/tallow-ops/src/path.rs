//! The implementation of operations that a thread uses.

use pulp::Arch;
use std::cell::Cell;

/// The implementation of operations on f32 tensors in main memory. Other tensors always use the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// The kernels, with the widest vector instructions of the machine.
    Fast,
    /// The same kernels with the instructions that every processor of the target has, as on a machine without wider
    /// ones. (The crate `gemm`, which then computes the larger products, still chooses its own instructions.)
    Baseline,
    /// Candle's operations; tests compare the kernels with them.
    Reference,
}

thread_local! {
    static PATH: Cell<Path> = const { Cell::new(Path::Fast) };
}

/// Runs a closure with another path for the operations of this thread, for tests and benchmarks. Backward passes must
/// also run inside the closure.
pub fn with_path<R>(path: Path, run: impl FnOnce() -> R) -> R {
    /// Restores the path even when the closure panics.
    struct Restore(Path);
    impl Drop for Restore {
        fn drop(&mut self) {
            PATH.set(self.0);
        }
    }
    let _restore = Restore(PATH.replace(path));
    run()
}

/// The current path of this thread.
#[inline]
pub(crate) fn path() -> Path {
    PATH.get()
}

/// The vector instructions that kernels may use.
#[inline]
pub(crate) fn arch() -> Arch {
    match path() {
        Path::Baseline => Arch::Scalar,
        _ => Arch::new(),
    }
}
