//! `tallow completions`.

use crate::arguments::{Arguments, CompletionsArguments};
use anyhow::Result;
use clap::{Command, CommandFactory};
use clap_complete::Shell;
use std::io::{Write, stdout};
use std::process::ExitCode;
use tallow::config::{sections, top_level_keys};

pub(crate) fn run(arguments: CompletionsArguments) -> Result<ExitCode> {
    stdout().write_all(script(arguments.shell).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// The script that clap generates. For shells that support it, code is added that completes the values of Tallow
/// itself.
fn script(shell: Shell) -> String {
    let mut command = Arguments::command();
    // Written into memory first, because the generator panics when a pipe is closed.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "tallow", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    let with = |values: &str| fill(values, &command, shell);
    match shell {
        Shell::Bash => script + &with(include_str!("values.bash")),
        Shell::Fish => script + &with(include_str!("values.fish")),
        Shell::Zsh => {
            let start = "autoload -U is-at-least\n";
            let lines = script.split_inclusive('\n').map(zsh_line).collect::<String>();
            lines.replacen(start, &format!("{start}{}", with(include_str!("values.zsh"))), 1)
        }
        _ => script,
    }
}

/// A line of the zsh script, with the right action for keys and configs.
fn zsh_line(line: &str) -> String {
    if line.starts_with("'*--set=") {
        let keys = match line.contains("decode.key=value") {
            true => ":_tallow_decode_keys'",
            false => ":_tallow_keys'",
        };
        line.replace(":_default'", keys)
    } else if line.starts_with("':config -- ") {
        line.replace(":_files'", ":_files -g \"*.toml\"'")
    } else {
        line.to_owned()
    }
}

/// Inserts keys, commands and options into a script.
fn fill(values: &str, command: &Command, shell: Shell) -> String {
    let separator = if shell == Shell::Bash { "|" } else { " " };
    let decode: Vec<String> = keys().into_iter().filter(|key| key.starts_with("decode.")).collect();
    let of = |is_one: &dyn Fn(&Command) -> bool| commands_with(command, is_one, shell).join(separator);
    [
        ("@KEYS@", keys().join(" ")),
        ("@DECODE_KEYS@", decode.join(" ")),
        ("@CONFIG_COMMANDS@", of(&|command| takes(command, "config"))),
        (
            "@MODEL_COMMANDS@",
            of(&|command| takes(command, "model") || takes(command, "models")),
        ),
        (
            "@SEARCH_COMMANDS@",
            of(&|command| takes(command, "set") && !takes(command, "config")),
        ),
        ("@OPTIONS@", options(command).join(separator)),
    ]
    .iter()
    .fold(values.to_owned(), |text, (place, value)| text.replace(place, value))
}

/// Every key that can be set, in the form that begins a `--set`.
fn keys() -> Vec<String> {
    let sections = sections();
    let inner = sections
        .iter()
        .flat_map(|(name, keys, _)| keys.iter().map(move |key| format!("{name}.{key}=")));
    let outer = top_level_keys().into_iter().map(|key| format!("{key}="));
    outer.chain(inner).collect()
}

fn takes(command: &Command, argument: &str) -> bool {
    command.get_arguments().any(|known| known.get_id() == argument)
}

/// The commands with a certain property. For bash, subcommands are included, in quotes.
fn commands_with(command: &Command, is_one: &dyn Fn(&Command) -> bool, shell: Shell) -> Vec<String> {
    let mut found = Vec::new();
    for outer in command.get_subcommands() {
        found.extend(is_one(outer).then(|| outer.get_name().to_owned()));
        let inner = outer
            .get_subcommands()
            .filter(|inner| shell == Shell::Bash && is_one(inner));
        found.extend(inner.map(|inner| format!("\"{} {}\"", outer.get_name(), inner.get_name())));
    }
    found
}

/// The options of all commands that take a value.
fn options(command: &Command) -> Vec<String> {
    let own = command.get_arguments().filter(|known| !known.is_positional());
    let with_value = own.filter(|known| known.get_action().takes_values());
    let mut found: Vec<String> = with_value
        .flat_map(|known| {
            let long = known.get_long().map(|name| format!("--{name}"));
            long.into_iter().chain(known.get_short().map(|name| format!("-{name}")))
        })
        .collect();
    found.extend(command.get_subcommands().flat_map(options));
    found.sort();
    found.dedup();
    found
}
