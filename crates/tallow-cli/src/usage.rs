//! Wrong usage that parsing alone cannot find.

use tallow::Error;

/// An error with the same exit code as that for an unknown flag.
pub(crate) fn wrong_usage(message: impl Into<String>) -> anyhow::Error {
    Error::Usage(message.into()).into()
}

/// Whether an error means wrong usage.
pub(crate) fn is_wrong_usage(error: &anyhow::Error) -> bool {
    let found = error.chain().find_map(|cause| cause.downcast_ref::<Error>());
    found.is_some_and(|error| matches!(error.root(), Error::Usage(_)))
}
