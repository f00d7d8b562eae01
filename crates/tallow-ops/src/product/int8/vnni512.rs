//! AVX-512 VNNI: dot products of four bytes, in vectors of 512 bits.

use super::tile::{Block, Step, Tile};
use super::{BLOCK, PANEL, STEP};
use std::arch::x86_64::{
    __m512i, __mmask16, _mm512_add_epi32, _mm512_add_ps, _mm512_cvtepi32_ps, _mm512_dpbusd_epi32, _mm512_load_si512,
    _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_mul_ps,
    _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_si512, _mm512_sub_epi32,
};

/// Rows of a tile. With two registers of sums for each row, they take 28 of the 32 registers.
pub(super) const HEIGHT: usize = 14;

/// 32-bit lanes of a register.
const LANES: usize = 16;
/// Registers of a step of a panel.
const REGISTERS: usize = PANEL / LANES;

/// Computes a tile.
#[target_feature(enable = "avx512f,avx512vnni")]
pub(super) fn tile(tile: &mut Tile<u8>) {
    // Every height is a separate function, whose sums stay in registers. With few rows, several sums for each element
    // hide the latency of the additions.
    macro_rules! of_height {
        ($(($height:literal, $chains:literal))*) => {
            match tile.height() {
                $($height => sums::<$height, $chains>(tile),)*
                height => unreachable!("a tile of {height} rows"),
            }
        };
    }
    of_height!((1, 4)(2, 4)(3, 2)(4, 2)(5, 2)(6, 2)(7, 1)(8, 1)(9, 1)(10, 1)(11, 1)(
        12, 1
    )(13, 1)(14, 1));
}

/// [`tile`] for `HEIGHT` rows, with `CHAINS` sums for each element.
#[target_feature(enable = "avx512f,avx512vnni")]
fn sums<const HEIGHT: usize, const CHAINS: usize>(tile: &mut Tile<u8>) {
    /// Steps that are written out, a multiple of the chains.
    const STEPS: usize = 4;
    const STEPS_OF_BLOCK: usize = BLOCK / STEP;
    assert_eq!(tile.height(), HEIGHT, "the height of a tile");
    let mut sums = [[[_mm512_setzero_si512(); REGISTERS]; HEIGHT]; CHAINS];
    let mut a = tile.rows().as_ptr().cast::<u8>();
    let mut b = tile.panel().steps.as_ptr();
    macro_rules! several_steps {
        ($count:expr) => {
            for step in 0..$count {
                // SAFETY: `tile` holds all steps of its panel, and blocks of all steps of its rows.
                let b = unsafe { load(b.add(step)) };
                for row in 0..HEIGHT {
                    // SAFETY: as above.
                    let a = unsafe {
                        a.add(row * size_of::<Block<u8>>() + step * STEP)
                            .cast::<i32>()
                            .read_unaligned()
                    };
                    let a = _mm512_set1_epi32(a);
                    for (sum, b) in sums[step % CHAINS][row].iter_mut().zip(b) {
                        *sum = _mm512_dpbusd_epi32(*sum, a, b);
                    }
                }
            }
            a = a.wrapping_add($count * STEP);
            b = b.wrapping_add($count);
        };
    }
    for _ in 0..tile.steps() / STEPS_OF_BLOCK {
        for _ in 0..STEPS_OF_BLOCK / STEPS {
            several_steps!(STEPS);
        }
        a = a.wrapping_add((HEIGHT - 1) * size_of::<Block<u8>>());
    }
    for _ in 0..tile.steps() % STEPS_OF_BLOCK {
        several_steps!(1);
    }
    let (panel, width) = (tile.panel(), tile.width());
    let columns: [usize; REGISTERS] = std::array::from_fn(|half| half * LANES);
    let masks = columns.map(|column| mask(width.saturating_sub(column)));
    let bias = tile.bias().map(|bias| {
        // SAFETY: the masks cover the values of the bias, which are as many as the tile has columns.
        std::array::from_fn::<_, REGISTERS, _>(|half| unsafe {
            _mm512_maskz_loadu_ps(masks[half], bias.as_ptr().wrapping_add(columns[half]))
        })
    });
    // SAFETY: a panel has as many values of each as two registers.
    let (excess, scales): ([_; REGISTERS], [_; REGISTERS]) = unsafe {
        (
            columns.map(|column| _mm512_loadu_si512(panel.excess.as_ptr().add(column).cast())),
            columns.map(|column| _mm512_loadu_ps(panel.scales.as_ptr().add(column))),
        )
    };
    let (output, stride) = tile.place();
    let row_scales = tile.row_scales();
    // Indices, because a copy of the sums would keep them in memory all the time.
    #[allow(clippy::needless_range_loop)]
    for chain in 1..CHAINS {
        for row in 0..HEIGHT {
            for half in 0..REGISTERS {
                sums[0][row][half] = _mm512_add_epi32(sums[0][row][half], sums[chain][row][half]);
            }
        }
    }
    for (row, sums) in sums[0].iter().enumerate() {
        // SAFETY: the tile has `HEIGHT` rows (asserted).
        let row_scale = _mm512_set1_ps(unsafe { *row_scales.get_unchecked(row) });
        for (half, sum) in sums.iter().enumerate() {
            let exact = _mm512_cvtepi32_ps(_mm512_sub_epi32(*sum, excess[half]));
            let mut y = _mm512_mul_ps(exact, _mm512_mul_ps(row_scale, scales[half]));
            if let Some(bias) = bias {
                y = _mm512_add_ps(y, bias[half]);
            }
            // SAFETY: the masks cover the values of the output.
            unsafe { _mm512_mask_storeu_ps(output.wrapping_add(row * stride + columns[half]), masks[half], y) };
        }
    }
}

/// A mask of the first `count` lanes, or of all.
fn mask(count: usize) -> __mmask16 {
    ((1u32 << count.min(LANES)) - 1) as __mmask16
}

/// The registers of a step.
///
/// # Safety
/// The step exists.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load(step: *const Step) -> [__m512i; REGISTERS] {
    // SAFETY: a step has two registers of bytes, and is aligned to a cache line.
    std::array::from_fn(|half| unsafe { _mm512_load_si512(step.cast::<__m512i>().add(half)) })
}
