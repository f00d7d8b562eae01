//! The instructions for products in 8-bit integers.

#[cfg(target_arch = "x86_64")]
use super::{avx2, vnni256, vnni512};
use super::{portable, tile::Tile};
use crate::path::{Path, path};
use std::sync::OnceLock;

/// A set of instructions, with its kernel. AMX, whose tiles hold bytes, too, would be another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Dot products of four bytes, in vectors of 512 bits (AVX-512 VNNI).
    #[cfg(target_arch = "x86_64")]
    Vnni512,
    /// The same in vectors of 256 bits (AVX-VNNI), for processors without AVX-512.
    #[cfg(target_arch = "x86_64")]
    Vnni256,
    /// [`Unit::Vnni256`] in the encoding of AVX-512. It is never the fastest unit of a machine, but with it that kernel
    /// is tested on machines without AVX-VNNI.
    #[cfg(target_arch = "x86_64")]
    Vnni256Long,
    /// Dot products of two words, in vectors of 256 bits.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// The instructions that every processor of the target has.
    Portable,
}

/// The name of the instructions for products of this thread.
pub(crate) fn unit_name() -> &'static str {
    Unit::current().name()
}

/// A function that computes a tile, by the form of its rows. Its precondition is that the machine has its instructions.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kernel {
    /// Rows are bytes, with 128 added.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        allow(dead_code, reason = "no unit of the target needs it")
    )]
    Bytes(unsafe fn(&mut Tile<u8>)),
    /// Rows are words.
    Words(unsafe fn(&mut Tile<i16>)),
}

impl Unit {
    /// Every unit of this machine, the fastest first.
    #[allow(clippy::vec_init_then_push)] // Only some targets have more than one unit.
    pub(super) fn all() -> Vec<Self> {
        let mut units = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            let wide = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni");
            if wide {
                units.push(Self::Vnni512);
            }
            if is_x86_feature_detected!("avxvnni") {
                units.push(Self::Vnni256);
            }
            if wide && is_x86_feature_detected!("avx512vl") {
                units.push(Self::Vnni256Long);
            }
            if is_x86_feature_detected!("avx2") {
                units.push(Self::Avx2);
            }
        }
        units.push(Self::Portable);
        units
    }

    /// The unit for products of this thread.
    pub(super) fn current() -> Self {
        static FASTEST: OnceLock<Unit> = OnceLock::new();
        match path() {
            Path::Baseline => Self::Portable,
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 if is_x86_feature_detected!("avx2") => Self::Avx2,
            _ => *FASTEST.get_or_init(|| Self::all()[0]),
        }
    }

    /// The name of the instructions.
    pub(super) fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Vnni512 => "avx512-vnni",
            #[cfg(target_arch = "x86_64")]
            Self::Vnni256 => "avx-vnni",
            #[cfg(target_arch = "x86_64")]
            Self::Vnni256Long => "avx512vl-vnni",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        }
    }

    pub(super) fn kernel(self) -> Kernel {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Vnni512 => Kernel::Bytes(vnni512::tile),
            #[cfg(target_arch = "x86_64")]
            Self::Vnni256 => Kernel::Bytes(vnni256::short::tile),
            #[cfg(target_arch = "x86_64")]
            Self::Vnni256Long => Kernel::Bytes(vnni256::long::tile),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => Kernel::Words(avx2::tile),
            Self::Portable => Kernel::Words(portable::tile),
        }
    }

    /// The greatest height of a tile.
    pub(super) fn height(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Vnni512 => vnni512::HEIGHT,
            #[cfg(target_arch = "x86_64")]
            Self::Vnni256 | Self::Vnni256Long => vnni256::HEIGHT,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::HEIGHT,
            Self::Portable => portable::HEIGHT,
        }
    }
}
