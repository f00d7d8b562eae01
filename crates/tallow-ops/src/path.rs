//! Which implementation of an operation runs.

use pulp::Arch;
use std::cell::Cell;

/// How operations on f32 tensors in main memory are computed. Other tensors always take the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// The kernels, with the widest vector instructions of the machine.
    Fast,
    /// The same kernels with the instructions that every processor of the target has, as on a machine without others.
    /// (The crate `gemm`, which then computes the larger products, still chooses its own.)
    Baseline,
    /// Candle's operations, which the kernels are tested against.
    Reference,
}

thread_local! {
    static PATH: Cell<Path> = const { Cell::new(Path::Fast) };
}

/// Runs a closure with another path for the operations of this thread: for tests and benchmarks. Backward passes must
/// run inside, too.
pub fn with_path<R>(path: Path, run: impl FnOnce() -> R) -> R {
    /// Sets the path back even when the closure panics.
    struct Restore(Path);
    impl Drop for Restore {
        fn drop(&mut self) {
            PATH.set(self.0);
        }
    }
    let _restore = Restore(PATH.replace(path));
    run()
}

/// The present path of this thread.
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
