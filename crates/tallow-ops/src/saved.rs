//! Values that a forward pass leaves for its backward pass, beside Candle's graph.

use std::sync::{Mutex, PoisonError};

/// Room for what is kept; it is taken once.
pub(crate) struct Saved<T>(Mutex<Option<T>>);

impl<T> Saved<T> {
    pub(crate) fn none() -> Self {
        Self(Mutex::new(None))
    }

    pub(crate) fn put(&self, value: T) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
    }

    pub(crate) fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
