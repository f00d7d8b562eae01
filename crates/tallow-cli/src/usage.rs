//! Wrong usage that only shows once the flags are taken together.

use tallow::Error;

/// An error after which the program exits as it does for a flag that does not exist.
pub(crate) fn wrong_usage(message: impl Into<String>) -> anyhow::Error {
    Error::Usage(message.into()).into()
}

/// Whether an error is of this sort.
pub(crate) fn is_wrong_usage(error: &anyhow::Error) -> bool {
    let found = error.chain().find_map(|cause| cause.downcast_ref::<Error>());
    found.is_some_and(|error| matches!(error.root(), Error::Usage(_)))
}
