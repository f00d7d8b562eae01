//! Wrong usage that only shows once the flags are taken together.

use std::fmt;

/// An error after which the program exits as it does for a flag that does not exist.
#[derive(Debug)]
pub(crate) struct UsageError(String);

impl UsageError {
    /// The error, ready to be returned.
    pub(crate) fn of(message: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Self(message.into()))
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}
