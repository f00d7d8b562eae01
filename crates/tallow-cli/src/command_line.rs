//! Parsing of the command line, and messages about mistakes in it.

use crate::arguments::Arguments;
use crate::colour::Stream;
use crate::ranks::Launched;
use crate::{WRONG_USAGE, flags};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, CommandFactory};
use std::ffi::OsString;
use std::io::{Write, stderr, stdout};
use std::process::ExitCode;
use tallow::config::nearest;

/// The parsed command line. If it cannot be parsed, or asks for help, the message has been printed and the exit code is
/// returned.
pub(crate) fn arguments() -> Result<Arguments, ExitCode> {
    let typed: Vec<OsString> = std::env::args_os().collect();
    let words = typed.iter().skip(1).map(|word| word.to_string_lossy().into_owned());
    let words: Vec<String> = words.collect();
    let mut error = match flags::parse(typed) {
        Ok(arguments) => return Ok(arguments),
        Err(error) => error,
    };
    if error.kind() == ErrorKind::InvalidSubcommand
        && let Some(name) = command_meant(Arguments::command(), &words)
    {
        error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(vec![name]));
    }
    // Of processes that were started together, one prints help, and the others leave it to the first to print an error.
    if let Some(launched) = Launched::from_environment().filter(|launched| launched.rank > 0) {
        if !error.use_stderr() {
            return Err(ExitCode::SUCCESS);
        }
        launched.hold_back();
    }
    let text = error.render();
    let plain = |stream: Stream| match stream.has_colours() {
        true => text.ansi().to_string(),
        false => text.to_string(),
    };
    // If the stream is closed, nobody reads the message.
    let _ = if error.use_stderr() {
        stderr().write_all(plain(Stream::Error).as_bytes())
    } else {
        stdout().write_all(plain(Stream::Output).as_bytes())
    };
    Err(ExitCode::from(if error.use_stderr() { WRONG_USAGE } else { 0 }))
}

/// The command that was probably meant. Clap has no suggestion for `help trian`, and for `trian` it also suggests
/// `translate`.
fn command_meant(mut command: Command, words: &[String]) -> Option<String> {
    for word in words.iter().filter(|word| *word != "help" && !word.starts_with('-')) {
        let Some(next) = command.find_subcommand(word) else {
            let names: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
            return nearest(word, &names).map(str::to_owned);
        };
        command = next.clone();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_that_are_meant() {
        for (words, expected) in [
            ("trian", Some("train")),
            ("help trian", Some("train")),
            ("help tokenizer trian", Some("train")),
            ("help tokenizr", Some("tokenizer")),
            ("help banana", None),
            ("help train", None),
        ] {
            let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
            assert_eq!(
                command_meant(Arguments::command(), &words).as_deref(),
                expected,
                "{words:?}"
            );
        }
    }
}
