//! The use of colours in output.

use clap::builder::styling::{AnsiColor, Style};
use std::ffi::OsString;
use std::io::{IsTerminal, stderr, stdout};

/// An output stream. Each of the two may be a terminal or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Output,
    Error,
}

/// The kind of a message, shown by its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    Doubtful,
    Bad,
}

impl Stream {
    /// Whether the stream can show colours and the user wants them.
    pub(crate) fn has_colours(self) -> bool {
        let is_terminal = match self {
            Self::Output => stdout().is_terminal(),
            Self::Error => stderr().is_terminal(),
        };
        // Users state in the environment what they and their terminals want.
        #[allow(clippy::disallowed_methods)]
        are_wanted(is_terminal, |name| std::env::var_os(name))
    }

    /// The text in the colour of its tone, or unchanged.
    pub(crate) fn paint(self, tone: Tone, text: &str) -> String {
        if self.has_colours() {
            painted(tone, text)
        } else {
            text.to_owned()
        }
    }
}

/// The word `warning:`, for standard error.
pub(crate) fn warning() -> String {
    Stream::Error.paint(Tone::Doubtful, "warning:")
}

/// The rules of <https://no-color.org> and <https://bixense.com/clicolors>; a dumb terminal gets no colours. `NO_COLOR`
/// overrides everything; `CLICOLOR_FORCE` overrides the properties of the stream.
fn are_wanted(is_terminal: bool, variable: impl Fn(&str) -> Option<OsString>) -> bool {
    let is_on = |name| variable(name).is_some_and(|value| !value.is_empty() && value != "0");
    if variable("NO_COLOR").is_some_and(|value| !value.is_empty()) {
        return false;
    }
    let is_able = variable("TERM").is_some_and(|name| name != "dumb") || cfg!(windows);
    is_on("CLICOLOR_FORCE") || (is_terminal && is_able && variable("CLICOLOR").is_none_or(|value| value != "0"))
}

fn painted(tone: Tone, text: &str) -> String {
    let style = match tone {
        Tone::Good => Style::new().fg_color(Some(AnsiColor::Green.into())),
        Tone::Doubtful => Style::new().fg_color(Some(AnsiColor::Yellow.into())).bold(),
        Tone::Bad => Style::new().fg_color(Some(AnsiColor::Red.into())).bold(),
    };
    format!("{style}{text}{style:#}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gets_colours() {
        let are_wanted = |is_terminal, variables: &[(&str, &str)]| {
            are_wanted(is_terminal, |name| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| value.into())
            })
        };
        let terminal = ("TERM", "xterm-256color");
        for (is_terminal, variables, expected) in [
            (true, &[terminal][..], true),
            (false, &[terminal], false),
            (true, &[("TERM", "dumb")], false),
            (true, &[], false),
            // Any value except the empty one counts.
            (true, &[terminal, ("NO_COLOR", "1")], false),
            (true, &[terminal, ("NO_COLOR", "0")], false),
            (true, &[terminal, ("NO_COLOR", "")], true),
            (true, &[terminal, ("CLICOLOR", "0")], false),
            (false, &[terminal, ("CLICOLOR", "1")], false),
            (false, &[("CLICOLOR_FORCE", "1")], true),
            (false, &[("CLICOLOR_FORCE", "0")], false),
            (false, &[("CLICOLOR_FORCE", "")], false),
            (true, &[terminal, ("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false),
        ] {
            assert_eq!(
                are_wanted(is_terminal, variables),
                expected,
                "{is_terminal} {variables:?}"
            );
        }
    }

    #[test]
    fn paint_ends_where_the_text_does() {
        // ECMA-48: bold, red, the text, everything off.
        assert_eq!(painted(Tone::Bad, "no"), "\u{1b}[1m\u{1b}[31mno\u{1b}[0m");
    }
}
