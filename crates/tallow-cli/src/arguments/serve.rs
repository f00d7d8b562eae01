//! The arguments of `tallow serve`.

use super::HubArguments;
use super::search::decode_choice;
use crate::flags::{at_least_one, whole};
use clap::{Args, ValueEnum, ValueHint};
use std::net::SocketAddr;
use std::path::PathBuf;
use tallow_decode::DecodeCompute;

/// The form of a server's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// A line for a person
    Text,
    /// A JSON object a line
    Json,
    /// Warnings only
    Quiet,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArguments {
    /// A run, a checkpoint, a model directory or owner/name on the Hub; as de-en=MODEL, its languages are said too
    #[arg(value_name = "MODEL", value_hint = ValueHint::DirPath, required_unless_present_any = ["settings", "new_key", "probe"])]
    pub(crate) models: Vec<String>,
    /// Take models and settings from a TOML file
    #[arg(long = "config", value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "models")]
    pub(crate) settings: Option<PathBuf>,
    /// The address to listen at; only this machine reaches the default, 127.0.0.1:5000
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<SocketAddr>,
    /// Threads that translate; default: one for each core
    #[arg(long, value_parser = at_least_one::<usize>)]
    pub(crate) workers: Option<usize>,
    /// A file of keys, one of which every client needs
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) keys: Option<PathBuf>,
    /// Make a key for a client, print it, add its hash to the file of keys, and end (with --keys)
    #[arg(long, value_name = "CLIENT", requires = "keys")]
    pub(crate) new_key: Option<String>,
    /// Ask the server at this address whether it lives, and end with code 0 if it does
    #[arg(long, value_name = "ADDRESS:PORT", conflicts_with_all = ["models", "settings"])]
    pub(crate) probe: Option<SocketAddr>,
    /// Hypotheses kept at every step; 1 is greedy
    #[arg(long, value_parser = whole::<usize>)]
    pub(crate) beam: Option<usize>,
    /// Number format of matrix products
    #[arg(long, value_name = "FORMAT", value_parser = decode_choice::<DecodeCompute>())]
    pub(crate) compute: Option<DecodeCompute>,
    /// Set any other key of the decode section, as decode.key=value
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// The form of the log on standard error
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) log: LogFormat,
    #[command(flatten)]
    pub(crate) hub: HubArguments,
}
