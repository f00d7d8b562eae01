//! Substitutes for processors without a supported unit for bf16: no value of these types can exist.
#![allow(unsafe_code)]

use crate::product::{Into, Matrix};
use std::convert::Infallible;

/// The conversion of a matrix's f32 elements.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Factors {
    /// They are rounded to bf16.
    Rounded,
    /// They are split into three bf16.
    Parts,
}

/// The units of a processor, with the factors that they multiply.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unit(Infallible);

impl Unit {
    /// The fastest unit of this machine for such products.
    pub(crate) fn detect(_: Factors) -> Option<Self> {
        None
    }

    /// The name in records of runs.
    pub(crate) fn name(self) -> &'static str {
        match self.0 {}
    }
}

/// A right operand, packed for a unit.
#[derive(Debug)]
pub(crate) struct Packed(Unit);

impl Packed {
    pub(crate) fn bytes(&self) -> usize {
        match self.0.0 {}
    }

    pub(crate) fn new(unit: Unit, _: Matrix) -> Self {
        Self(unit)
    }
}

/// A right operand.
#[derive(Clone, Copy)]
pub(crate) enum Right<'a> {
    /// It has been packed before.
    Packed(&'a Packed),
    /// It is packed piece by piece.
    #[allow(dead_code, reason = "the kernel that reads it is not compiled here")]
    Fresh(Unit, Matrix<'a>),
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
            Self::Fresh(unit, _) => match unit.0 {},
        }
    }
}

/// # Safety
/// None: it cannot be called.
pub(crate) unsafe fn product(_: *mut f32, _: usize, _: Matrix, b: Right, _: Into) {
    match b {
        Right::Packed(packed) => match packed.0.0 {},
        Right::Fresh(unit, _) => match unit.0 {},
    }
}
