//! Processors without a unit for bf16 that is known here: no value of these types can exist.
#![allow(unsafe_code)]

use crate::product::{Into, Matrix};

/// The processor's units for bf16.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unit {}

impl Unit {
    /// The fastest unit of this machine.
    pub(crate) fn detect() -> Option<Self> {
        None
    }

    /// Its name in records of runs.
    pub(crate) fn name(self) -> &'static str {
        match self {}
    }
}

/// A right operand, packed for a unit.
#[derive(Debug)]
pub(crate) enum Packed {}

impl Packed {
    pub(crate) fn new(unit: Unit, _: Matrix) -> Self {
        match unit {}
    }
}

/// # Safety
/// None: it cannot be called.
pub(crate) unsafe fn product(_: *mut f32, _: usize, _: Matrix, b: &Packed, _: Into) {
    match *b {}
}
