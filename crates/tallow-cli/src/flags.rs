//! Parsing into [`Arguments`], and advice about unknown flags and wrong values.

use crate::arguments::Arguments;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, Command, CommandFactory, FromArgMatches};
use std::ffi::OsString;
use std::num::{IntErrorKind, ParseIntError};
use std::str::FromStr;
use tallow::config::keys_of;
use tallow::config::{Synonym, synonym};
use tallow::config::{sections, top_level_keys};
use tallow_decode::DecodeConfig;

/// Flags of other programs that are not keys of a config: their names, then ours. The first of ours that the command
/// has is suggested. Flags that are named after keys are in `synonyms.txt`.
const SYNONYMS: [(&[&str], &[&str]); 4] = [
    (&["src", "source", "source-file", "file", "text"], &["source", "input"]),
    (
        &["ref", "refs", "references", "tgt", "reference", "target"],
        &["reference", "target"],
    ),
    (&["out", "output-file", "save"], &["output"]),
    (&["metric", "score"], &["metrics"]),
];

/// The parsed command line, or an error, help or version to print.
pub(crate) fn parse(typed: Vec<OsString>) -> Result<Arguments, clap::Error> {
    let mut command = command();
    let matches = command.try_get_matches_from_mut(&typed);
    let arguments = matches.and_then(|matches| Arguments::from_arg_matches(&matches));
    arguments.map_err(|error| advised(error.format(&mut command), &command, &typed))
}

/// The command line. It accepts negative numbers as values, so that an error can say why one is not allowed.
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

/// An error for an unknown flag. It suggests the flag that is meant, not one with a similar spelling.
fn advised(mut error: clap::Error, command: &Command, typed: &[OsString]) -> clap::Error {
    let flag = match (error.kind(), error.get(ContextKind::InvalidArg)) {
        (ErrorKind::UnknownArgument, Some(ContextValue::String(flag))) => flag.clone(),
        _ => return error,
    };
    // The advice that `-- FLAG` would be a value helps nobody.
    error.remove(ContextKind::TrailingArg);
    error.remove(ContextKind::Suggested);
    if let Some(tip) = tip(&flag, used(command, typed)) {
        error.remove(ContextKind::SuggestedArg);
        error.remove(ContextKind::SuggestedSubcommand);
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    let has_tip = [
        ContextKind::Suggested,
        ContextKind::SuggestedArg,
        ContextKind::SuggestedSubcommand,
    ]
    .iter()
    .any(|kind| error.get(*kind).is_some());
    if has_tip {
        // The usage text would be that of the flag with a similar spelling. It would contradict or repeat the tip.
        error.remove(ContextKind::Usage);
    }
    error
}

/// The command that was typed, as far as it is known.
fn used<'a>(command: &'a Command, typed: &[OsString]) -> &'a Command {
    typed.iter().skip(1).fold(command, |command, word| {
        let found = word.to_str().and_then(|word| command.find_subcommand(word));
        found.unwrap_or(command)
    })
}

/// A tip with the command's name for a flag of another program.
fn tip(flag: &str, command: &Command) -> Option<String> {
    let typed = flag.trim_start_matches('-').split('=').next()?;
    let name = typed.to_lowercase().replace('_', "-");
    let has = |long: &str| {
        command
            .get_arguments()
            .any(|argument| argument.get_long() == Some(long))
    };
    if has(&name) {
        return Some(format!("here it is '--{name}'"));
    }
    let mut synonyms = SYNONYMS.iter().filter(|(theirs, _)| theirs.contains(&name.as_str()));
    if let Some(ours) = synonyms.find_map(|(_, ours)| ours.iter().find(|ours| has(ours))) {
        return Some(format!("here it is '--{ours}'"));
    }
    let takes_config = command.get_positionals().any(|argument| argument.get_id() == "config");
    let section = if takes_config { "train" } else { "decode" };
    if let Some(synonym) = synonym(&format!("{section}.{typed}")) {
        return tip_of_key(&synonym, takes_config, has);
    }
    // The flag may have the name of a key.
    let key = name.replace('-', "_");
    let path = if takes_config {
        let sections = sections();
        let section = sections.iter().find(|section| section.1.contains(&key.as_str()));
        let path = section.map(|section| format!("{}.{key}", section.0));
        path.or_else(|| top_level_keys().contains(&key.as_str()).then_some(key))
    } else {
        let is_known = keys_of::<DecodeConfig>().contains(&key.as_str());
        is_known.then(|| format!("decode.{key}"))
    };
    path.filter(|_| has("set"))
        .map(|path| format!("here it is '--set {path}=VALUE'"))
}

/// The tip for a key by its name in another program. A command that takes a config can set any key. In other commands,
/// some keys have flags, and keys of the search can be set.
fn tip_of_key(synonym: &Synonym, takes_config: bool, has: impl Fn(&str) -> bool) -> Option<String> {
    let Synonym { keys, note, .. } = synonym;
    if keys.is_empty() {
        // The note names the flag to use instead, or is about training.
        let flags: Vec<&str> = note.split(' ').filter_map(|word| word.strip_prefix("--")).collect();
        let is_true = flags.iter().all(|flag| has(flag)) && (takes_config || !flags.is_empty());
        return is_true.then(|| (*note).to_owned());
    }
    if let ([key], false) = (keys.as_slice(), takes_config) {
        let flag = key.rsplit('.').next().unwrap_or(key).replace('_', "-");
        // Other keys mean something else without a config: `output` of a run is a folder.
        let is_same = ["decode.", "score.", "train.workers", "seed"]
            .iter()
            .any(|same| key.starts_with(same));
        if is_same && has(&flag) {
            return Some(format!("here it is '--{flag}'"));
        }
    }
    let can_be_set = has("set") && (takes_config || keys.iter().all(|key| key.starts_with("decode.")));
    let settings: Vec<String> = keys.iter().map(|key| format!("'--set {key}=VALUE'")).collect();
    let here = format!("here it is {}", settings.join(" and "));
    can_be_set.then(|| match *note {
        "" => here,
        note => format!("{here}; {note}"),
    })
}

/// A whole number that is not negative.
pub(crate) fn whole<T: FromStr<Err = ParseIntError>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error| expected::<T>(0, &error))
}

/// A number of processes, for a plan.
pub(crate) fn ranks(text: &str) -> Result<usize, String> {
    match at_least_one(text)? {
        number if number <= 10_000 => Ok(number),
        _ => Err("it takes 10,000 processes at most".to_owned()),
    }
}

/// A number above zero.
pub(crate) fn above_zero(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if number > 0.0 && f64::is_finite(number) => Ok(number),
        _ => Err("it takes a number above 0".to_owned()),
    }
}

/// A whole number of at least 1.
pub(crate) fn at_least_one<T: FromStr<Err = ParseIntError> + From<u8> + PartialOrd>(text: &str) -> Result<T, String> {
    match text.parse() {
        Ok(number) if number >= T::from(1) => Ok(number),
        Ok(_) => Err("it takes a whole number, 1 or more".to_owned()),
        Err(error) => Err(expected::<T>(1, &error)),
    }
}

/// Says which values of an unsigned type are allowed, after one that was not.
fn expected<T>(least: u8, error: &ParseIntError) -> String {
    if *error.kind() == IntErrorKind::PosOverflow {
        let greatest = u128::MAX >> (u128::BITS as usize - 8 * size_of::<T>());
        return format!("the greatest value is {greatest}");
    }
    format!("it takes a whole number, {least} or more")
}

/// A number. Its key decides later whether it makes sense.
pub(crate) fn number(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| "it takes a number, such as 0.5".to_owned())
}

/// Two codes of languages, such as `en,de`.
pub(crate) fn two_codes(text: &str) -> Result<[String; 2], String> {
    let codes = text.split_once(',').filter(|(_, second)| !second.contains(','));
    let codes = codes.map(|(first, second)| [first.trim().to_owned(), second.trim().to_owned()]);
    codes.ok_or_else(|| "it takes the codes of source and target, such as en,de".to_owned())
}

/// A time such as `8h`, `45m`, `90s`, `1h30m` or `2d`, in seconds.
pub(crate) fn time(text: &str) -> Result<f64, String> {
    let fault = || "it takes a time such as 8h, 45m or 1h30m".to_owned();
    let (mut seconds, mut digits) = (0.0, String::new());
    let spelled = text.to_lowercase().replace("min", "m").replace(' ', "");
    for character in spelled.chars() {
        let unit = match character {
            's' => 1.0,
            'm' => 60.0,
            'h' => 3600.0,
            'd' => 86400.0,
            _ => {
                digits.push(character);
                continue;
            }
        };
        let number: f64 = digits.parse().map_err(|_| fault())?;
        seconds += unit * number;
        digits.clear();
    }
    let is_time = digits.is_empty() && seconds.is_finite() && seconds > 0.0;
    is_time.then_some(seconds).ok_or_else(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, seconds) in [
            ("8h", 28800.0),
            ("45min", 2700.0),
            ("1h30m", 5400.0),
            ("0.5 d", 43200.0),
            ("9s", 9.0),
        ] {
            assert_eq!(time(text), Ok(seconds), "{text}");
        }
        for text in ["", "8", "h", "-1h", "0s", "1h30", "infh", "8x"] {
            assert!(time(text).is_err(), "{text}");
        }
    }

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
            ("translate m --random-seed 2", "--seed"),
            ("eval m --lc", "--lowercase"),
            ("translate m --patience 2", "--set decode.patience=VALUE"),
            ("train c.toml --max-updates 2", "--set train.max_updates=VALUE"),
            ("train c.toml --name x", "--set name=VALUE"),
            ("translate m --src x", "--input"),
            ("eval m --src x", "--source"),
            ("score x --ref y", "--reference"),
            ("train c.toml --lr 0.1", "--set train.learning_rate=VALUE"),
            ("train c.toml --maxGradNorm 1", "--set train.clip_norm=VALUE"),
        ] {
            let said = error(&format!("tallow {typed}"));
            assert!(
                said.contains(&format!("tip: here it is '{meant}'\n")),
                "{typed}: {said}"
            );
            assert!(!said.contains("similar") && !said.contains("-- -"), "{said}");
            assert!(!said.contains("Usage"), "{said}");
        }
        for (typed, tip) in [
            (
                "train c.toml --epochs 3",
                "here it is '--set train.max_epochs=VALUE'; training ends after train.max_updates, too",
            ),
            (
                "train c.toml --vocab-size 8000",
                "here it is '--set text.vocabulary=VALUE'; it counts pieces, not merges",
            ),
            (
                "train c.toml --layers 6",
                "here it is '--set model.encoder_layers=VALUE' and '--set model.decoder_layers=VALUE'",
            ),
            (
                "train c.toml --early-stopping 6",
                "here it is '--set train.patience=VALUE'; it counts validations",
            ),
            (
                "train c.toml --batch-size 64",
                "here it is '--set data.batch_tokens=VALUE'; it counts tokens, padding included, not sentences",
            ),
            (
                "translate m --batch-size 64",
                "here it is '--set decode.batch_tokens=VALUE'; it counts source tokens times hypotheses, not sentences",
            ),
            (
                "translate m --gpu",
                "say --device cpu, cuda or cuda:N on the command line",
            ),
        ] {
            let said = error(&format!("tallow {typed}"));
            assert!(said.contains(&format!("tip: {tip}\n")), "{typed}: {said}");
        }
        // A flag of training; a flag of a run; a flag for the device in a command without one.
        for typed in ["translate m --lr 1", "translate m --save-dir x", "toy copy -o x --gpu"] {
            assert!(!error(&format!("tallow {typed}")).contains("here it is"), "{typed}");
        }
        // Clap itself finds flags that are only mistyped.
        assert!(error("tallow translate m --bem 3").contains("'--beam'"));
        let unknown = error("tallow translate m --banana");
        assert!(
            !unknown.contains("tip") && unknown.contains("Usage: tallow translate <MODEL>"),
            "{unknown}"
        );
        // A section takes no value.
        for section in ["text", "data", "model", "train", "decode", "score", "card"] {
            let said = error(&format!("tallow train c.toml --{section} big"));
            assert!(!said.contains(&format!("--set {section}=")), "{said}");
        }
    }

    /// Every flag of the table exists somewhere.
    #[test]
    fn the_table_holds() {
        let command = command();
        let flags: Vec<&str> = command
            .get_subcommands()
            .flat_map(Command::get_arguments)
            .filter_map(clap::Arg::get_long)
            .collect();
        for flag in SYNONYMS.iter().flat_map(|(_, ours)| ours.iter()) {
            assert!(flags.contains(flag), "{flag}");
        }
    }

    #[test]
    fn numbers_out_of_range() {
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
        for (typed, greatest) in [
            ("score x --width 300", u64::from(u8::MAX)),
            ("toy copy -o x --maximum 9999999999", u64::from(u32::MAX)),
            ("toy copy -o x --seed 99999999999999999999", u64::MAX),
            ("average m --last 99999999999999999999 -o x", usize::MAX as u64),
            ("translate m --workers 99999999999999999999", usize::MAX as u64),
        ] {
            let said = error(&format!("tallow {typed}"));
            assert!(
                said.contains(&format!("the greatest value is {greatest}\n")),
                "{typed}: {said}"
            );
        }
        // The search checks the range later, together with its other settings.
        let typed = "tallow translate m --length-penalty -1".split(' ').map(OsString::from);
        assert!(parse(typed.collect()).is_ok());
    }
}
