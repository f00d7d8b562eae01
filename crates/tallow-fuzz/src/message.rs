//! Requirements for error messages.

use std::error::Error;

/// The longest allowed message about an input of this many bytes. A config may have a fault for each of its keys, and a
/// message may quote its subject.
fn longest(input: usize) -> usize {
    8 * 1024 + 16 * input
}

/// Fails unless an error can be shown to a person: its message is not empty, it is not too long for the input, and it
/// contains one of the names, if there are any.
pub(crate) fn check(error: &dyn Error, names: &[&str], input: &[u8]) {
    // With its causes, as the binary shows them.
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        message += &format!(": {error}");
        cause = error.source();
    }
    check_text(message, names, input);
}

/// Like [`check`], for an error that is already text.
pub(crate) fn check_text(message: String, names: &[&str], input: &[u8]) {
    assert!(!message.trim().is_empty(), "an empty message");
    assert!(
        message.len() <= longest(input.len()),
        "a message of {} bytes about {}: {message:.500}",
        message.len(),
        input.len()
    );
    assert!(
        names.is_empty() || names.iter().any(|name| message.contains(name)),
        "none of {names:?} is named: {message:.2000}"
    );
}
