//! VNNI in vectors of 256 bits: dot products of four bytes. AVX-VNNI and AVX-512 encode the same instruction
//! differently, so there are two functions of one text.

/// Rows of a tile. With two registers of sums for each row, they take 12 of the 16 registers.
pub(super) const HEIGHT: usize = 6;

macro_rules! kernel {
    ($name:ident, $features:literal, $dot:ident, $documentation:literal) => {
        #[doc = $documentation]
        pub(super) mod $name {
            use super::super::avx2::{LANES, finish};
            use super::super::tile::{Block, Step, Tile};
            use super::super::{BLOCK, PANEL, STEP};
            use std::arch::x86_64::{
                __m256i, _mm256_add_epi32, _mm256_load_si256, _mm256_loadu_si256, _mm256_set1_epi32,
                _mm256_setzero_si256, _mm256_sub_epi32, $dot,
            };

            /// Registers of a half of a panel.
            const REGISTERS: usize = 2;
            /// Columns of a half of a panel.
            const HALF: usize = REGISTERS * LANES;

            /// Computes a tile.
            #[target_feature(enable = $features)]
            pub(in super::super) fn tile(tile: &mut Tile<u8>) {
                for column in (0..PANEL.min(tile.width())).step_by(HALF) {
                    // With few rows, several sums for each element hide the latency of the additions.
                    match tile.height() {
                        1 => sums::<1, 4>(tile, column),
                        2 => sums::<2, 2>(tile, column),
                        3 => sums::<3, 2>(tile, column),
                        4 => sums::<4, 1>(tile, column),
                        5 => sums::<5, 1>(tile, column),
                        6 => sums::<6, 1>(tile, column),
                        height => unreachable!("a tile of {height} rows"),
                    }
                }
            }

            /// Computes the half of a tile that starts at `column`, for `HEIGHT` rows, with `CHAINS` sums for each
            /// element.
            #[target_feature(enable = $features)]
            fn sums<const HEIGHT: usize, const CHAINS: usize>(tile: &mut Tile<u8>, column: usize) {
                /// Steps that are written out, a multiple of the chains.
                const STEPS: usize = 4;
                const STEPS_OF_BLOCK: usize = BLOCK / STEP;
                assert_eq!(tile.height(), HEIGHT, "the height of a tile");
                assert!(column + HALF <= PANEL, "a half of a panel");
                let mut sums = [[[_mm256_setzero_si256(); REGISTERS]; HEIGHT]; CHAINS];
                let mut a = tile.rows().as_ptr().cast::<u8>();
                let mut b = tile
                    .panel()
                    .steps
                    .as_ptr()
                    .cast::<i8>()
                    .wrapping_add(column * STEP);
                macro_rules! several_steps {
                    ($count:expr) => {
                        for step in 0..$count {
                            // SAFETY: the tile holds all steps of its panel, aligned to cache lines; a half of a step
                            // is one of them. It also holds blocks of all steps of its rows.
                            let (b0, b1) = unsafe {
                                let b = b.add(step * size_of::<Step>()).cast::<__m256i>();
                                (_mm256_load_si256(b), _mm256_load_si256(b.add(1)))
                            };
                            for row in 0..HEIGHT {
                                // SAFETY: as above.
                                let a = unsafe {
                                    let a = a.add(row * size_of::<Block<u8>>() + step * STEP);
                                    a.cast::<i32>().read_unaligned()
                                };
                                let a = _mm256_set1_epi32(a);
                                let sums = &mut sums[step % CHAINS][row];
                                sums[0] = $dot(sums[0], a, b0);
                                sums[1] = $dot(sums[1], a, b1);
                            }
                        }
                        a = a.wrapping_add($count * STEP);
                        b = b.wrapping_add($count * size_of::<Step>());
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
                for register in 0..REGISTERS {
                    let column = column + register * LANES;
                    let excess = &tile.panel().excess[column..column + LANES];
                    // SAFETY: these are as many values as the register has.
                    let excess = unsafe { _mm256_loadu_si256(excess.as_ptr().cast()) };
                    for row in 0..HEIGHT {
                        let mut sum = sums[0][row][register];
                        for chain in &sums[1..] {
                            sum = _mm256_add_epi32(sum, chain[row][register]);
                        }
                        finish(tile, row, column, _mm256_sub_epi32(sum, excess));
                    }
                }
            }
        }
    };
}

kernel!(
    short,
    "avx2,avxvnni",
    _mm256_dpbusd_avx_epi32,
    "The kernel in the encoding of AVX-VNNI."
);
kernel!(
    long,
    "avx2,avx512vnni,avx512vl",
    _mm256_dpbusd_epi32,
    "The kernel in the encoding of AVX-512."
);
