//! The command line of Tallow: flags, config composition, devices, progress bars, and all printed text.
//!
//! `main` only prepares the process and calls the command, in its own file under `commands/`. Data goes to standard
//! output, messages to standard error.
#![allow(clippy::print_stdout, clippy::print_stderr)] // Printing is the task of this crate.

mod activity;
mod arguments;
mod colour;
mod command_line;
mod commands;
mod evaluation_text;
mod examples;
mod flags;
mod hub;
mod lines;
mod models;
mod notices;
mod profile;
mod progress;
mod ranks;
mod signals;
mod status_line;
mod table;
mod threads;
mod training_text;
mod usage;
mod ways_out;

use arguments::Command;
use colour::{Stream, Tone};
use ranks::Launched;
use std::process::ExitCode;
use usage::is_wrong_usage;
use ways_out::way_out;

/// The system's allocator returns large buffers to the kernel and gets them back page by page. This one keeps them,
/// which doubles the speed of operations with large results.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The exit code of a run that was interrupted and can be resumed: 128 + SIGINT, as in shells.
pub(crate) const INTERRUPTED: u8 = 130;

/// The exit code of wrong usage, the same as clap's.
pub(crate) const WRONG_USAGE: u8 = 2;

fn main() -> ExitCode {
    threads::survive_size_limit();
    let arguments = match command_line::arguments() {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    // If the reader closes the pipe early (`| head`), that is no error.
    match dispatch(arguments.command) {
        Ok(code) => code,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let way_out = way_out(&error).unwrap_or_default();
            let launched = Launched::from_environment();
            launched.into_iter().for_each(Launched::hold_back);
            let rank = launched.map_or(String::new(), |launched| format!("rank {}: ", launched.rank));
            eprintln!(
                "{} {rank}{}{way_out}",
                Stream::Error.paint(Tone::Bad, "error:"),
                message(&error)
            );
            if is_wrong_usage(&error) {
                ExitCode::from(WRONG_USAGE)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    if let Some(Launched { size, .. }) = Launched::from_environment()
        && !matches!(command, Command::Train(_) | Command::Translate(_) | Command::Ablate(_))
    {
        anyhow::bail!(
            "{size} processes were started together, but only `tallow train`, `translate` and `ablate` share their work \
             among processes"
        );
    }
    match command {
        Command::Train(arguments) => commands::train::run(arguments),
        Command::Init(arguments) => commands::init::run(arguments),
        Command::Clean(arguments) => commands::clean::run(arguments),
        Command::Prepare(arguments) => commands::prepare::run(arguments),
        Command::Translate(arguments) => commands::translate::run(arguments),
        Command::Serve(arguments) => commands::serve::run(arguments),
        Command::Eval(arguments) => commands::eval::run(arguments),
        Command::Compare(arguments) => commands::compare::run(arguments),
        Command::Score(arguments) => commands::score::run(arguments),
        Command::ScorePairs(arguments) => commands::score_pairs::run(arguments),
        Command::Average(arguments) => commands::average::run(arguments),
        Command::Check(arguments) => commands::check::run(arguments),
        Command::Verify(arguments) => commands::verify::run(arguments),
        Command::Export(arguments) => commands::export::run(arguments),
        Command::Look(arguments) => commands::look::run(arguments),
        Command::AlignmentHeads(arguments) => commands::alignment_heads::run(arguments),
        Command::Shortlist(arguments) => commands::shortlist::run(arguments),
        Command::Tokenizer(arguments) => commands::tokenizer::run(arguments),
        Command::Toy(arguments) => commands::toy::run(arguments),
        Command::Chart(arguments) => commands::chart::run(arguments),
        Command::Report(arguments) => commands::report::run(arguments),
        Command::Ablate(arguments) => commands::ablate::run(arguments),
        Command::Cost(arguments) => commands::cost::run(arguments),
        Command::Explain(arguments) => commands::explain::run(arguments),
        Command::Completions(arguments) => commands::completions::run(arguments),
    }
}

/// An error and its causes, without causes that the text before them already contains.
fn message(error: &anyhow::Error) -> String {
    error
        .chain()
        .map(ToString::to_string)
        .fold(String::new(), |told, cause| {
            match (told.is_empty(), told.contains(&cause)) {
                (true, _) => cause,
                (false, true) => told,
                (false, false) => format!("{told}: {cause}"),
            }
        })
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let kind = |cause: &(dyn std::error::Error + 'static)| cause.downcast_ref::<std::io::Error>().map(|e| e.kind());
    error
        .chain()
        .any(|cause| kind(cause) == Some(std::io::ErrorKind::BrokenPipe))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_once() {
        let cause = std::io::Error::other("no room");
        let twice = anyhow::Error::new(cause).context("a/b: no room").context("cannot save");
        assert_eq!(message(&twice), "cannot save: a/b: no room");
    }
}
