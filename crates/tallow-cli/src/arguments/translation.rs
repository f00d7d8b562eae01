//! The arguments of the commands that translate, or score translations with a model.

use super::search::decode_choice;
use super::{DeviceArguments, HubArguments, SearchArguments};
use crate::flags::{at_least_one, number};
use clap::{Args, ValueEnum, ValueHint};
use std::path::PathBuf;
use tallow_decode::DecodeCompute;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// One translation a line; with --n-best, `line ||| translation ||| score`
    Text,
    /// One JSON object a line, with scores, tokens and n-best
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum InputFormat {
    /// The text to translate
    Text,
    /// The text; after a tab, the beginning of its translation; after more tabs, texts that the translation contains
    Tsv,
    /// A JSON object with source, and perhaps prefix and phrases (a list)
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct TranslateArguments {
    /// A run, a checkpoint, a model directory or owner/name on the Hub; several with the same vocabularies translate
    /// together
    #[arg(required = true, value_name = "MODEL", value_hint = ValueHint::DirPath)]
    pub(crate) models: Vec<String>,
    /// The lines to translate; - is standard input
    #[arg(long, default_value = "-")]
    pub(crate) input: PathBuf,
    /// What a line of the input is
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) input_format: InputFormat,
    /// Text with which every translation begins
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) prefix: String,
    /// A text that every translation contains; may be given many times
    #[arg(long, value_name = "TEXT")]
    pub(crate) phrase: Vec<String>,
    /// Write the translations to a file, with progress; - is standard output
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    pub(crate) output: PathBuf,
    /// Go on with a job that was killed, or begin it (with --output)
    #[arg(long, conflicts_with = "overwrite")]
    pub(crate) resume: bool,
    /// Replace a file that exists (with --output)
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Output format
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: OutputFormat,
    /// Draw the cross-attention of the best translation on a terminal, or add its weights (with --format json)
    #[arg(long)]
    pub(crate) attention: bool,
    /// Write the word alignments of the best translations to a file, as pairs source-target (Pharaoh)
    #[arg(long, value_name = "FILE")]
    pub(crate) alignments: Option<PathBuf>,
    /// Translate each line as soon as it is read, also from a pipe
    #[arg(long)]
    pub(crate) interactive: bool,
    #[command(flatten)]
    pub(crate) search: SearchArguments,
    #[command(flatten)]
    pub(crate) hub: HubArguments,
    #[command(flatten)]
    pub(crate) device: DeviceArguments,
}

#[derive(Debug, Args)]
pub(crate) struct ScorePairsArguments {
    /// A run, a checkpoint, a model directory or owner/name on the Hub; several with the same vocabularies score
    /// together
    #[arg(required = true, value_name = "MODEL", value_hint = ValueHint::DirPath)]
    pub(crate) models: Vec<String>,
    /// The source lines
    #[arg(long, requires = "target")]
    pub(crate) source: Option<PathBuf>,
    /// Their translations
    #[arg(long, requires = "source")]
    pub(crate) target: Option<PathBuf>,
    /// Lines of source, tab and translation; - is standard input, the default
    #[arg(long, value_name = "FILE", conflicts_with_all = ["source", "target"])]
    pub(crate) pairs: Option<PathBuf>,
    /// text: score, log-probability and number of tokens, separated by tabs; json: also the tokens and theirs
    #[arg(
        long,
        value_enum,
        default_value = "text",
        hide_possible_values = true,
        value_name = "text|json"
    )]
    pub(crate) format: OutputFormat,
    /// Exponent of the length in the score
    #[arg(long, value_parser = number)]
    pub(crate) length_penalty: Option<f64>,
    /// Number format of matrix products, on the CPU
    #[arg(long, value_name = "FORMAT", value_parser = decode_choice::<DecodeCompute>())]
    pub(crate) compute: Option<DecodeCompute>,
    /// Set any key of the decode section, as decode.key=value
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Threads that score a batch each; default: one for each core
    #[arg(long, value_parser = at_least_one::<usize>)]
    pub(crate) workers: Option<usize>,
    #[command(flatten)]
    pub(crate) hub: HubArguments,
    #[command(flatten)]
    pub(crate) device: DeviceArguments,
}
