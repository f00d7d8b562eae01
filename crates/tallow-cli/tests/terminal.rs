//! The display on a terminal, as far as it can be tested without one: colours, suggestions, commands to type.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of a test may panic like the test itself.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

/// Runs the program. Of the environment variables about colours, only these are set.
fn tallow_with(directory: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tallow"));
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
        command.env_remove(name);
    }
    command
        .envs(variables.iter().copied())
        .current_dir(directory)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn tallow(directory: &Path, arguments: &[&str]) -> Output {
    tallow_with(directory, &[], arguments)
}

fn error_of(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// A folder with a corpus and a config that trains on it for one update.
fn project() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.en"), "one\ntwo\nthree\n").unwrap();
    std::fs::write(folder.path().join("a.de"), "eins\nzwei\ndrei\n").unwrap();
    let config = "[text]\nkind = \"char\"\nbyte_fallback = false\n[data]\n\
                  train = [{ source = \"a.en\", target = \"a.de\" }]\n\
                  [model]\nd_model = 8\nheads = 2\nfeed_forward = 8\nencoder_layers = 1\ndecoder_layers = 1\n\
                  [train]\nmax_updates = 1\nworkers = 1\n";
    std::fs::write(folder.path().join("run.toml"), config).unwrap();
    folder
}

fn train(directory: &Path, arguments: &[&str]) -> Output {
    let output = tallow(directory, &[&["train", "run.toml"], arguments].concat());
    assert!(output.status.success(), "{}", error_of(&output));
    output
}

/// Colours are not used in a pipe unless requested, and never with `NO_COLOR`.
#[test]
fn colours() {
    let folder = project();
    let at = folder.path();
    train(at, &[]);
    // In the colours of ECMA-48: 32 is green, 31 red, 1 bold.
    for (arguments, is_error, painted) in [
        (&["verify", "runs/run"][..], false, "\u{1b}[32mok    \u{1b}[0m  "),
        (&["train", "nowhere.toml"], true, "\u{1b}[1m\u{1b}[31merror:\u{1b}[0m "),
        (&["trian"], true, "\u{1b}[1m\u{1b}[31merror:\u{1b}[0m "),
        (&["train", "--help"], false, "\u{1b}[0m"),
    ] {
        let text = |variables: &[(&str, &str)]| {
            let output = tallow_with(at, variables, arguments);
            let text = if is_error { output.stderr } else { output.stdout };
            String::from_utf8(text).unwrap()
        };
        let plain = text(&[]);
        assert!(!plain.is_empty() && !plain.contains('\u{1b}'), "{arguments:?}: {plain}");
        let forced = text(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "")]);
        assert!(forced.contains(painted), "{arguments:?}: {forced}");
        assert_eq!(text(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]), plain);
    }
}

#[test]
fn mistyped_commands() {
    let folder = tempfile::tempdir().unwrap();
    for wrong in [&["trian"][..], &["help", "trian"], &["tokenizer", "trian"]] {
        let output = tallow(folder.path(), wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        let said = error_of(&output);
        assert!(
            said.contains("tip: a similar subcommand exists: 'train'"),
            "{wrong:?}: {said}"
        );
    }
}

/// The commands that an error suggests.
fn offered(said: &str) -> Vec<String> {
    let commands = said.lines().filter_map(|line| line.strip_prefix("  tallow "));
    commands
        .map(|command| command.split("  ").next().unwrap().to_owned())
        .collect()
}

/// A user who forgets `--set name=...` sees a command to type, and it works.
#[test]
fn a_run_that_is_resumed_without_its_name() {
    let folder = project();
    let at = folder.path();
    let output = tallow(at, &["train", "run.toml", "--resume"]);
    assert_eq!(
        error_of(&output),
        "error: runs/run: there is no run to resume; leave out --resume to begin\n"
    );
    train(at, &["--set", "name=short"]);
    train(at, &["--set", "name=wide", "--set", "model.feed_forward=16"]);
    // So many values differ from the config that the run's own config is suggested.
    let other =
        ["feed_forward=12", "heads=4", "encoder_layers=2", "decoder_layers=2"].map(|set| format!("model.{set}"));
    let other: Vec<&str> = other.iter().flat_map(|set| ["--set", set]).collect();
    train(at, &[&["--set", "name=other"], other.as_slice()].concat());
    // Neither is suggested: one trains on other text, the other is no run.
    std::fs::write(at.join("b.en"), "four\nfive\n").unwrap();
    train(
        at,
        &[
            "--set",
            "name=text",
            "--set",
            "data.train=[{source=\"b.en\",target=\"b.en\"}]",
        ],
    );
    std::fs::create_dir(at.join("runs/empty")).unwrap();
    for wrong in [&[][..], &["--set", "name=shrt"]] {
        let output = tallow(at, &[&["train", "run.toml", "--resume"], wrong].concat());
        assert_eq!(output.status.code(), Some(1));
        let commands = offered(error_of(&output));
        assert_eq!(
            commands,
            [
                "train runs/other/config.toml --resume",
                "train run.toml --set model.feed_forward=16 --set name=wide --resume",
                "train run.toml --set name=short --resume",
            ]
        );
        for (command, name) in commands.iter().zip(["other", "wide", "short"]) {
            let output = tallow(at, &command.split(' ').collect::<Vec<_>>());
            let said = error_of(&output);
            assert!(said.contains(&format!("resuming runs/{name} from update 1")), "{said}");
            assert!(!said.contains("changed since"), "{said}");
        }
        // Resuming has not changed their order of age.
        for (age, name) in ["other", "wide", "short"].into_iter().enumerate() {
            made(at, name, age as u64);
        }
    }
}

/// Sets the time of the last change of a run to so many minutes ago.
fn made(at: &Path, name: &str, minutes: u64) {
    let log = File::options()
        .append(true)
        .open(at.join("runs").join(name).join("metrics.jsonl"));
    let when = SystemTime::now() - Duration::from_secs(60 * minutes);
    log.unwrap().set_modified(when).unwrap();
}

/// The five newest are suggested. A run whose name would be read as a number has it in quotes.
#[test]
fn runs_are_offered_newest_first() {
    let folder = project();
    let at = folder.path();
    for (name, minutes) in [("a", 3), ("b", 1), ("2024", 2), ("d", 7), ("e", 5), ("f", 4), ("g", 6)] {
        train(at, &["--set", &format!("name=\"{name}\"")]);
        made(at, name, minutes);
    }
    let output = tallow(at, &["train", "run.toml", "--resume"]);
    let said = error_of(&output);
    assert_eq!(
        offered(said),
        ["name=b", "'name=\"2024\"'", "name=a", "name=f", "name=e"]
            .map(|set| format!("train run.toml --set {set} --resume"))
    );
    assert!(said.ends_with("and 2 older ones\n"), "{said}");
    // A run whose only checkpoint led to divergence cannot be resumed.
    std::fs::write(at.join("runs/b/checkpoints/1/state/diverged.json"), "{}").unwrap();
    let output = tallow(at, &["train", "run.toml", "--resume", "--offline"]);
    let said = error_of(&output);
    assert_eq!(
        offered(said),
        ["'name=\"2024\"'", "name=a", "name=f", "name=e", "name=g"]
            .map(|set| format!("train run.toml --set {set} --offline --resume"))
    );
    assert!(said.ends_with("and an older one\n"), "{said}");
}

/// Only the translations go through pipes.
#[test]
fn pipelines_are_quiet() {
    let folder = project();
    let at = folder.path();
    train(at, &[]);
    let quiet = ["--max-length", "3"];
    let output = tallow(
        at,
        &[&["translate", "runs/run", "--input", "a.en"], &quiet[..]].concat(),
    );
    assert_eq!(String::from_utf8(output.stdout.clone()).unwrap().lines().count(), 3);
    let said = error_of(&output);
    assert!(said.lines().all(|line| line.starts_with("warning: ")), "{said}");
    let test = ["eval", "runs/run", "--source", "a.en", "--target", "a.de"];
    let output = tallow(at, &[&test[..], &quiet].concat());
    let said = error_of(&output);
    let last = said.lines().last().unwrap();
    assert!(last.starts_with("runs/run/best: 3 lines, beam 5, "), "{said}");
}
