//! From the command line to [`Arguments`], and what is said of flags that do not exist and of values that cannot be.

use crate::arguments::Arguments;
use crate::config::{sections, top_level_keys};
use crate::keys::keys_of;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, Command, CommandFactory, FromArgMatches};
use std::ffi::OsString;
use std::str::FromStr;
use tallow_decode::DecodeConfig;

/// What other programs call the flags of this one: theirs, then ours, of which the first counts that the command has. Some
/// have no flag here but a key.
const SYNONYMS: [(&[&str], &[&str]); 17] = [
    (
        &["num-beams", "beam-size", "beamsize", "beams", "beam-width", "k-beam"],
        &["--beam"],
    ),
    (
        &[
            "nbest",
            "n-best-list",
            "nbest-size",
            "num-return-sequences",
            "num-hypotheses",
            "n-best-size",
        ],
        &["--n-best"],
    ),
    (
        &[
            "max-len",
            "max-new-tokens",
            "max-tokens",
            "max-decoding-length",
            "max-output-length",
            "max-len-b",
        ],
        &["--max-length"],
    ),
    (&["min-len", "min-new-tokens", "min-decoding-length"], &["--min-length"]),
    (
        &["lenpen", "len-pen", "normalize", "length-alpha", "alpha"],
        &["--length-penalty"],
    ),
    (&["no-repeat-ngram-size", "block-ngram-repeat"], &["--no-repeat-ngram"]),
    (
        &["do-sample", "sampling", "random-sampling", "output-sampling"],
        &["--sample"],
    ),
    (
        &["temp", "sampling-temperature", "random-sampling-temp"],
        &["--temperature"],
    ),
    (&["topk", "sampling-topk", "random-sampling-topk"], &["--top-k"]),
    (
        &["topp", "sampling-topp", "random-sampling-topp", "nucleus"],
        &["--top-p"],
    ),
    (
        &["threads", "num-threads", "cpu-threads", "num-workers", "jobs"],
        &["--workers", "--set train.workers=N"],
    ),
    (&["gpu", "gpus", "cuda", "use-gpu", "devices"], &["--device cuda"]),
    (
        &["batch-size", "mini-batch", "max-batch-size", "maxi-batch"],
        &["--set decode.batch_tokens=N", "--set data.batch_tokens=N"],
    ),
    (
        &["src", "source", "source-file", "file", "text"],
        &["--source", "--input"],
    ),
    (
        &["ref", "refs", "references", "tgt", "reference", "target"],
        &["--reference", "--target"],
    ),
    (&["out", "output-file", "save"], &["--output"]),
    (&["metric", "score"], &["--metrics"]),
];

/// What was typed; or an error, help or version, to be printed.
pub(crate) fn parse(typed: Vec<OsString>) -> Result<Arguments, clap::Error> {
    let mut command = command();
    let matches = command.try_get_matches_from_mut(&typed);
    let arguments = matches.and_then(|matches| Arguments::from_arg_matches(&matches));
    arguments.map_err(|error| advised(error.format(&mut command), &command, &typed))
}

/// The command line, in which a negative number is a value, so that it can be told why it cannot be one.
fn command() -> Command {
    fn with_negative_numbers(command: Command) -> Command {
        let command = command.mut_args(|argument| match argument.get_action() {
            ArgAction::Set | ArgAction::Append if !argument.is_positional() => argument.allow_negative_numbers(true),
            _ => argument,
        });
        command.mut_subcommands(with_negative_numbers)
    }
    with_negative_numbers(Arguments::command())
}

/// An error of an unknown flag, with the flag that is meant instead of the one that is spelled alike.
fn advised(mut error: clap::Error, command: &Command, typed: &[OsString]) -> clap::Error {
    let flag = match (error.kind(), error.get(ContextKind::InvalidArg)) {
        (ErrorKind::UnknownArgument, Some(ContextValue::String(flag))) => flag.clone(),
        _ => return error,
    };
    // That `-- FLAG` would be a value helps nobody.
    error.remove(ContextKind::TrailingArg);
    error.remove(ContextKind::Suggested);
    let Some(meant) = meant(&flag, used(command, typed)) else {
        return error;
    };
    error.remove(ContextKind::SuggestedArg);
    error.remove(ContextKind::SuggestedSubcommand);
    let tip = format!("here it is '{meant}'");
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    error
}

/// The command that was typed, as far as it is known.
fn used<'a>(command: &'a Command, typed: &[OsString]) -> &'a Command {
    typed.iter().skip(1).fold(command, |command, word| {
        let found = word.to_str().and_then(|word| command.find_subcommand(word));
        found.unwrap_or(command)
    })
}

/// What a command calls what somebody else calls `flag`.
fn meant(flag: &str, command: &Command) -> Option<String> {
    let name = flag.trim_start_matches('-').split('=').next()?;
    let name = name.to_lowercase().replace('_', "-");
    let has = |long: &str| {
        command
            .get_arguments()
            .any(|argument| argument.get_long() == Some(long))
    };
    if has(&name) {
        return Some(format!("--{name}"));
    }
    let of_config = command.get_positionals().any(|argument| argument.get_id() == "config");
    let is_here = |ours: &&&str| match ours.strip_prefix("--set ") {
        Some(key) => has("set") && key.starts_with("decode.") != of_config,
        None => has(ours.trim_start_matches('-').split(' ').next().unwrap_or_default()),
    };
    let synonym = SYNONYMS.iter().filter(|(theirs, _)| theirs.contains(&name.as_str()));
    if let Some(ours) = synonym.flat_map(|(_, ours)| ours.iter()).find(is_here) {
        return Some((*ours).to_owned());
    }
    if !has("set") {
        return None;
    }
    // What is no flag may be a key.
    let key = name.replace('-', "_");
    if !of_config {
        return keys_of::<DecodeConfig>()
            .contains(&key.as_str())
            .then(|| format!("--set decode.{key}=VALUE"));
    }
    let section = sections()
        .iter()
        .find(|section| section.1.contains(&key.as_str()))
        .map(|section| format!("{}.{key}", section.0));
    let path = section.or_else(|| top_level_keys().contains(&key.as_str()).then_some(key));
    path.map(|path| format!("--set {path}=VALUE"))
}

/// A whole number that is not negative.
pub(crate) fn whole<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| "it takes a whole number, 0 or more".to_owned())
}

/// A whole number, at least 1.
pub(crate) fn some<T: FromStr + From<u8> + PartialOrd>(text: &str) -> Result<T, String> {
    text.parse()
        .ok()
        .filter(|number| *number >= T::from(1))
        .ok_or_else(|| "it takes a whole number, 1 or more".to_owned())
}

/// A number; whether it makes sense, its key says.
pub(crate) fn number(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| "it takes a number, such as 0.5".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(typed: &str) -> String {
        let typed = typed.split(' ').map(OsString::from).collect();
        parse(typed).unwrap_err().to_string()
    }

    #[test]
    fn other_names_of_flags() {
        for (typed, meant) in [
            ("translate m --num-beams 4", "--beam"),
            ("translate m --num_beams=4", "--beam"),
            ("translate m --beam_size 4", "--beam"),
            ("eval m --beam-size 4", "--beam"),
            ("translate m --nbest 3", "--n-best"),
            ("translate m --n_best 3", "--n-best"),
            ("translate m --max-len 9", "--max-length"),
            ("translate m --max_length 9", "--max-length"),
            ("translate m --threads 2", "--workers"),
            ("translate m --batch-size 64", "--set decode.batch_tokens=N"),
            ("train c.toml --batch-size 64", "--set data.batch_tokens=N"),
            ("translate m --patience 2", "--set decode.patience=VALUE"),
            ("train c.toml --max-updates 2", "--set train.max_updates=VALUE"),
            ("train c.toml --name x", "--set name=VALUE"),
            ("translate m --src x", "--input"),
            ("eval m --src x", "--source"),
            ("score x --ref y", "--reference"),
            ("translate m --gpu", "--device cuda"),
        ] {
            let said = error(&format!("tallow {typed}"));
            assert!(
                said.contains(&format!("tip: here it is '{meant}'\n")),
                "{typed}: {said}"
            );
            assert!(!said.contains("similar") && !said.contains("-- -"), "{said}");
        }
        // What is only mistyped, clap finds.
        assert!(error("tallow translate m --bem 3").contains("'--beam'"));
        assert!(!error("tallow translate m --banana").contains("tip"));
        // A section takes no value.
        for section in ["text", "data", "model", "train", "decode", "score", "card"] {
            let said = error(&format!("tallow train c.toml --{section} big"));
            assert!(!said.contains(&format!("--set {section}=")), "{said}");
        }
    }

    /// Every flag of the table exists somewhere, and none of the others' names is one.
    #[test]
    fn the_table_holds() {
        let command = command();
        let flags: Vec<&str> = command
            .get_subcommands()
            .flat_map(Command::get_arguments)
            .filter_map(clap::Arg::get_long)
            .collect();
        for (_, ours) in SYNONYMS {
            for flag in ours.iter().filter(|flag| !flag.starts_with("--set ")) {
                let name = flag.trim_start_matches('-').split(' ').next().unwrap();
                assert!(flags.contains(&name), "{flag}");
            }
        }
    }

    #[test]
    fn negative_numbers_are_values() {
        for (typed, reason) in [
            ("translate m --beam -1", "whole number, 0 or more"),
            ("translate m --workers 0", "whole number, 1 or more"),
            ("translate m --seed -1", "whole number, 0 or more"),
            ("translate m --top-p half", "it takes a number"),
            ("average m --last -1 -o x", "whole number"),
            ("toy copy -o x --train -5", "whole number"),
            ("check c.toml --resume --kills -1", "1 or more"),
        ] {
            let said = error(&format!("tallow {typed}"));
            assert!(said.contains(reason) && !said.contains("-- -"), "{typed}: {said}");
        }
        // In range or not, the search says with all of its settings.
        let typed = "tallow translate m --length-penalty -1".split(' ').map(OsString::from);
        assert!(parse(typed.collect()).is_ok());
    }
}
