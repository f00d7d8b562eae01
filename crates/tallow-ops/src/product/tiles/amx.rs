//! Advanced Matrix Extensions: Intel's tiles of bf16. Rust has no stable intrinsics for them, so this module uses
//! assembly.

use super::{BLOCK, Rows, Tile};
use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::sync::OnceLock;

/// Bytes of a tile's row, and of a tile.
const ROW: usize = 64;
const TILE_BYTES: usize = size_of::<Tile>();

/// Whether the processor has tiles of bf16 and the operating system lets this process use them.
pub(super) fn is_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        const BF16: u32 = 1 << 22;
        const TILES: u32 = 1 << 24;
        if __cpuid_count(0, 0).eax < 7 {
            return false;
        }
        let features = __cpuid_count(7, 0).edx;
        features & BF16 != 0 && features & TILES != 0 && request_permission()
    })
}

/// Asks Linux to save and restore tiles for this process. Without this, the first use of a tile is an illegal
/// instruction.
fn request_permission() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const TILE_DATA: libc::c_long = 18;
    // SAFETY: the call takes two numbers and changes nothing but the permission; kernels that do not know it say so.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA) == 0 }
}

/// The shape of the eight tiles: palette 1, 16 rows of 64 bytes each.
#[repr(C, align(64))]
struct Configuration([u8; 64]);

const CONFIGURATION: Configuration = {
    let mut bytes = [0u8; 64];
    bytes[0] = 1;
    let mut tile = 0;
    while tile < 8 {
        bytes[16 + 2 * tile] = ROW as u8;
        bytes[48 + tile] = 16;
        tile += 1;
    }
    Configuration(bytes)
};

/// Sets the shapes of this thread's tiles.
pub(super) fn configure() {
    assert!(is_available(), "this machine has no AMX");
    let configuration = &CONFIGURATION;
    // SAFETY: the instruction exists and is permitted (asserted), and reads the 64 bytes of a valid configuration.
    unsafe {
        asm!("ldtilecfg [{0}]", in(reg) std::ptr::from_ref(configuration), options(nostack, readonly));
    }
}

/// Releases the tiles of this thread. Released tiles need not be saved when the thread is switched.
pub(super) fn release() {
    // SAFETY: called after `configure`, so the instruction exists.
    unsafe {
        asm!("tilerelease", options(nostack, nomem));
    }
}

/// See [`super::Kernel`].
///
/// # Safety
/// [`configure`] has been called on this thread; each strip holds `steps` tiles, and `steps` is at least one; output
/// and initial values hold `BLOCK` rows of `BLOCK` values at their distances.
pub(super) unsafe fn kernel(
    output: Rows<*mut f32>,
    initial: Rows<*const f32>,
    a: [*const Tile; 2],
    b: [*const Tile; 2],
    steps: usize,
) {
    // SAFETY: the caller vouches for the memory. Tiles 0 to 3 are the quarters of the block, 4 and 5 the strips of a, 6
    // and 7 the strips of b. No other code of this process uses tiles, and the compiler never does, so the sums stay in
    // their tiles from one block of assembly to the next.
    unsafe {
        load(initial);
        prefetch(output);
        asm!(
            "2:",
            "tileloadd tmm4, [{a0} + {row}*1]",
            "tileloadd tmm6, [{b0} + {row}*1]",
            "tileloadd tmm5, [{a1} + {row}*1]",
            "tileloadd tmm7, [{b1} + {row}*1]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {a0}, {tile}",
            "add {a1}, {tile}",
            "add {b0}, {tile}",
            "add {b1}, {tile}",
            "dec {steps}",
            "jnz 2b",
            row = in(reg) ROW,
            a0 = inout(reg) a[0] => _,
            a1 = inout(reg) a[1] => _,
            b0 = inout(reg) b[0] => _,
            b1 = inout(reg) b[1] => _,
            steps = inout(reg) steps => _,
            tile = const TILE_BYTES,
            out("tmm0") _,
            out("tmm1") _,
            out("tmm2") _,
            out("tmm3") _,
            out("tmm4") _,
            out("tmm5") _,
            out("tmm6") _,
            out("tmm7") _,
            options(nostack, readonly),
        );
        store(output);
    }
}

/// See [`super::Kernel`]; each tile comes in three parts, and the six greatest of their nine products are summed.
///
/// # Safety
/// As for [`kernel`]; each strip holds `steps` times [`super::pack::PARTS`] tiles.
pub(super) unsafe fn kernel_of_parts(
    output: Rows<*mut f32>,
    initial: Rows<*const f32>,
    a: [*const Tile; 2],
    b: [*const Tile; 2],
    steps: usize,
) {
    // SAFETY: as in `kernel`. Each product of parts shares a pair of tiles with the previous one: fourteen loads
    // instead of twenty-four.
    unsafe {
        load(initial);
        prefetch(output);
        asm!(
            "2:",
            // high by low
            "tileloadd tmm4, [{a0} + {row}*1]",
            "tileloadd tmm6, [{b0} + {row}*1 + 2*{tile}]",
            "tileloadd tmm5, [{a1} + {row}*1]",
            "tileloadd tmm7, [{b1} + {row}*1 + 2*{tile}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tileloadd tmm6, [{b0} + {row}*1 + {tile}]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "tileloadd tmm7, [{b1} + {row}*1 + {tile}]",
            // high by middle
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm4, [{a0} + {row}*1 + {tile}]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "tileloadd tmm5, [{a1} + {row}*1 + {tile}]",
            // middle by middle
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tileloadd tmm6, [{b0} + {row}*1]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "tileloadd tmm7, [{b1} + {row}*1]",
            // middle by high
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm4, [{a0} + {row}*1]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "tileloadd tmm5, [{a1} + {row}*1]",
            // high by high
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm4, [{a0} + {row}*1 + 2*{tile}]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "tileloadd tmm5, [{a1} + {row}*1 + 2*{tile}]",
            // low by high
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {a0}, 3*{tile}",
            "add {a1}, 3*{tile}",
            "add {b0}, 3*{tile}",
            "add {b1}, 3*{tile}",
            "dec {steps}",
            "jnz 2b",
            row = in(reg) ROW,
            a0 = inout(reg) a[0] => _,
            a1 = inout(reg) a[1] => _,
            b0 = inout(reg) b[0] => _,
            b1 = inout(reg) b[1] => _,
            steps = inout(reg) steps => _,
            tile = const TILE_BYTES,
            out("tmm0") _,
            out("tmm1") _,
            out("tmm2") _,
            out("tmm3") _,
            out("tmm4") _,
            out("tmm5") _,
            out("tmm6") _,
            out("tmm7") _,
            options(nostack, readonly),
        );
        store(output);
    }
}

/// Loads the quarters of a block into tiles 0 to 3.
///
/// # Safety
/// The tiles are configured, and there are `BLOCK` rows of `BLOCK` values at this distance.
#[inline(always)]
unsafe fn load((initial, stride): Rows<*const f32>) {
    let stride = stride * size_of::<f32>();
    // SAFETY: the caller vouches for the memory.
    unsafe {
        let lower = initial.byte_add(stride * BLOCK / 2);
        asm!(
            "tileloadd tmm0, [{initial} + {stride}*1]",
            "tileloadd tmm1, [{initial} + {stride}*1 + 64]",
            "tileloadd tmm2, [{lower} + {stride}*1]",
            "tileloadd tmm3, [{lower} + {stride}*1 + 64]",
            initial = in(reg) initial,
            lower = in(reg) lower,
            stride = in(reg) stride,
            out("tmm0") _,
            out("tmm1") _,
            out("tmm2") _,
            out("tmm3") _,
            options(nostack, readonly),
        );
    }
}

/// Prefetches the lines that [`store`] will write, so that they arrive while the products are computed.
#[inline(always)]
fn prefetch((output, stride): Rows<*mut f32>) {
    for row in 0..BLOCK {
        let line = output.wrapping_add(row * stride);
        // SAFETY: a prefetch has no effect on memory and does not fault. Every processor with AMX has the instruction.
        unsafe {
            asm!("prefetchw [{0}]", "prefetchw [{0} + 64]", in(reg) line, options(nostack, readonly, preserves_flags));
        }
    }
}

/// Stores tiles 0 to 3 as the quarters of a block.
///
/// # Safety
/// As for [`load`].
#[inline(always)]
unsafe fn store((output, stride): Rows<*mut f32>) {
    let stride = stride * size_of::<f32>();
    // SAFETY: the caller vouches for the memory.
    unsafe {
        let lower = output.byte_add(stride * BLOCK / 2);
        asm!(
            "tilestored [{output} + {stride}*1], tmm0",
            "tilestored [{output} + {stride}*1 + 64], tmm1",
            "tilestored [{lower} + {stride}*1], tmm2",
            "tilestored [{lower} + {stride}*1 + 64], tmm3",
            output = in(reg) output,
            lower = in(reg) lower,
            stride = in(reg) stride,
            options(nostack),
        );
    }
}
