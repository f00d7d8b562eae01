//! Prints messages of the library on standard error.

use crate::colour::warning;
use std::io::{Write, stdout};
use tallow::{Event, Listener, Notice, Observer, TestScores};

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
        Notice::Tested(test) => {
            eprintln!("{notice}");
            // Data, so on standard output. Nobody waits for it if that is closed.
            let _ = print_scores(test);
        }
        other => eprintln!("{other}"),
    }
}

/// Prints the scores of a test set.
fn print_scores(test: &TestScores) -> std::io::Result<()> {
    let mut out = stdout().lock();
    if !test.scores.is_empty() {
        writeln!(out, "{}", tallow_score::to_text(&test.scores, 1))?;
    }
    writeln!(out, "exact match = {:.1} %", test.exact_match)
}

/// Prints a warning.
pub(crate) fn warn(text: &str) {
    eprintln!("{} {text}", warning());
}
