//! Substitutes for processors without kernels: no value of these types can exist.
#![allow(unsafe_code)]

use crate::product::{Into, Matrix};
use std::convert::Infallible;

/// A processor for which there are kernels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Processor(Infallible);

impl Processor {
    /// This machine's processor, with the widest of its vectors.
    pub(crate) fn detect() -> Option<Self> {
        None
    }

    /// This machine's processor, if it has AVX2 and FMA.
    pub(crate) fn avx2() -> Option<Self> {
        None
    }

    /// Writes the columns of a matrix as rows.
    pub(crate) fn transpose(self, _: Matrix, _: &mut [f32], _: usize) {
        match self.0 {}
    }
}

/// A right operand in panels.
#[derive(Debug)]
pub(crate) struct Packed(Processor);

impl Packed {
    pub(crate) fn bytes(&self) -> usize {
        match self.0.0 {}
    }

    pub(crate) fn new(processor: Processor, _: Matrix) -> Self {
        Self(processor)
    }
}

/// A right operand.
#[derive(Clone, Copy)]
pub(crate) enum Right<'a> {
    /// It has been packed before.
    Packed(&'a Packed),
    /// It is packed piece by piece.
    #[allow(dead_code, reason = "the kernel that reads it is not compiled here")]
    Fresh(Processor, Matrix<'a>),
}

impl<'a> Right<'a> {
    /// All of a packed operand.
    pub(crate) fn packed(packed: &'a Packed) -> Self {
        Self::Packed(packed)
    }

    /// Its rows and columns.
    pub(crate) fn shape(self) -> (usize, usize) {
        match self {
            Self::Packed(packed) => match packed.0.0 {},
            Self::Fresh(processor, _) => match processor.0 {},
        }
    }
}

/// # Safety
/// None: it cannot be called.
pub(crate) unsafe fn product(_: *mut f32, _: usize, _: Matrix, b: Right, _: Into) {
    match b {
        Right::Packed(packed) => match packed.0.0 {},
        Right::Fresh(processor, _) => match processor.0 {},
    }
}
