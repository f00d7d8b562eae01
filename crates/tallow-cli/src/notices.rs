//! Prints messages of the library on standard error.

use crate::colour::warning;
use tallow::{Event, Listener, Notice, Observer};

/// Prints every notice at once.
pub(crate) struct PrintNotices;

impl Observer for PrintNotices {
    fn observe(&self, _: &Event) {}
}

impl Listener for PrintNotices {
    fn notice(&self, notice: &Notice) {
        say(notice);
    }
}

/// Prints a notice.
pub(crate) fn say(notice: &Notice) {
    match notice {
        Notice::Warning(text) => warn(text),
        other => eprintln!("{other}"),
    }
}

/// Prints a warning.
pub(crate) fn warn(text: &str) {
    eprintln!("{} {text}", warning());
}
