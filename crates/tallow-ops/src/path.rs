//! The implementation of operations that a thread uses.

use pulp::Arch;
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

/// The implementation of operations on f32 tensors in main memory. Other tensors always use the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// The kernels, with the widest vector instructions of the machine.
    Fast,
    /// The same kernels with no instructions wider than AVX2 and FMA, as on the many processors that have these but not
    /// AVX-512. The same as [`Path::Fast`] on a processor without them.
    Avx2,
    /// The same kernels with the instructions that every processor of the target has, as on a machine without wider
    /// ones. (The crate `gemm`, which then computes the larger products, still chooses its own instructions.)
    Baseline,
    /// Candle's operations; tests compare the kernels with them.
    Reference,
}

impl Path {
    /// The paths through the kernels.
    pub const KERNELS: [Self; 3] = [Self::Fast, Self::Avx2, Self::Baseline];
}

/// Whether threads begin with [`Path::Avx2`] instead of [`Path::Fast`].
static IS_NARROW: AtomicBool = AtomicBool::new(false);

thread_local! {
    static PATH: Cell<Path> = Cell::new(usual());
}

/// The path with which a thread begins.
fn usual() -> Path {
    match IS_NARROW.load(Ordering::Relaxed) {
        true => Path::Avx2,
        false => Path::Fast,
    }
}

/// Lets this thread, and all threads that begin later, use no instructions wider than AVX2 and FMA: to get the bits of
/// a processor without AVX-512, or to measure its speed.
pub fn use_avx2_only() {
    IS_NARROW.store(true, Ordering::Relaxed);
    PATH.set(Path::Avx2);
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

/// Whether [`arch`] multiplies and adds in one instruction.
#[inline]
pub(crate) fn fuses() -> bool {
    #[cfg(target_arch = "x86_64")]
    if matches!(arch(), Arch::V3(_) | Arch::V4(_)) {
        return true;
    }
    false
}

/// The vector instructions that kernels may use.
#[inline]
pub(crate) fn arch() -> Arch {
    match path() {
        Path::Baseline => Arch::Scalar,
        #[cfg(target_arch = "x86_64")]
        Path::Avx2 => pulp::x86::V3::try_new().map_or_else(Arch::new, Arch::V3),
        _ => Arch::new(),
    }
}
