//! The search flags.

use crate::flags::{at_least_one, number, whole};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueHint};
use std::path::PathBuf;
use tallow_decode::{DecodeCompute, Keep, NamedChoice, UnknownPieces, Utility};

/// The search flags. For flags that are not given, the settings of the model's run apply.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Search")]
pub(crate) struct SearchArguments {
    /// Hypotheses kept at every step; 1 is greedy
    #[arg(long, value_parser = whole::<usize>)]
    pub(crate) beam: Option<usize>,
    /// Exponent of the length in a hypothesis' score
    #[arg(long, value_parser = number)]
    pub(crate) length_penalty: Option<f64>,
    /// Most target tokens
    #[arg(long, value_parser = whole::<usize>)]
    pub(crate) max_length: Option<usize>,
    /// Most target tokens for each source token
    #[arg(long, value_name = "FACTOR", value_parser = number)]
    pub(crate) max_length_factor: Option<f64>,
    /// Fewest target tokens
    #[arg(long, value_parser = whole::<usize>)]
    pub(crate) min_length: Option<usize>,
    /// Translations for each line
    #[arg(long, value_parser = whole::<usize>)]
    pub(crate) n_best: Option<usize>,
    /// List translations of a line with the same text only once, the best one (with --n-best)
    #[arg(long)]
    pub(crate) distinct: bool,
    /// No sequence of this many tokens occurs twice
    #[arg(long, value_parser = whole::<usize>)]
    pub(crate) no_repeat_ngram: Option<usize>,
    /// Factor of the log-probability of tokens that occur already; above 1, they become less probable
    #[arg(long, value_name = "FACTOR", value_parser = number)]
    pub(crate) repetition_penalty: Option<f64>,
    /// Weight of source tokens that get too little attention, in a hypothesis' score
    #[arg(long, value_name = "WEIGHT", value_parser = number)]
    pub(crate) coverage_penalty: Option<f64>,
    /// Groups of the beam, which search for different translations
    #[arg(long, value_parser = whole::<usize>)]
    pub(crate) groups: Option<usize>,
    /// What a group loses for a token that an earlier group has chosen (with --groups)
    #[arg(long, value_name = "PENALTY", value_parser = number)]
    pub(crate) diversity: Option<f64>,
    /// A text that no translation contains; may be given many times
    #[arg(long, value_name = "TEXT")]
    pub(crate) forbid: Vec<String>,
    /// Kinds of text that are kept as they are, separated by commas
    #[arg(long, value_name = "KINDS", value_delimiter = ',', value_parser = decode_choice::<Keep>())]
    pub(crate) keep: Vec<Keep>,
    /// Whether the unknown piece may be chosen: allow, forbid, or copy a source word into its place
    #[arg(long, value_name = "WHAT", value_parser = decode_choice::<UnknownPieces>())]
    pub(crate) unknown: Option<UnknownPieces>,
    /// Translate the sentences of a line one by one
    #[arg(long)]
    pub(crate) split_sentences: bool,
    /// Draw samples, and choose those that agree best with all of them by this measure
    #[arg(long, value_name = "MEASURE", value_parser = decode_choice::<Utility>())]
    pub(crate) mbr: Option<Utility>,
    /// Samples of a sentence (with --mbr)
    #[arg(long, value_name = "N", value_parser = whole::<usize>)]
    pub(crate) mbr_samples: Option<usize>,
    /// Draw tokens at random instead of searching
    #[arg(long)]
    pub(crate) sample: bool,
    /// Divisor of the logits before sampling
    #[arg(long, value_parser = number)]
    pub(crate) temperature: Option<f64>,
    /// Sample among this many most probable pieces
    #[arg(long, value_parser = whole::<usize>)]
    pub(crate) top_k: Option<usize>,
    /// Sample among the fewest pieces whose probabilities reach this sum
    #[arg(long, value_parser = number)]
    pub(crate) top_p: Option<f64>,
    /// Seed of sampling
    #[arg(long, default_value_t = 1, value_parser = whole::<u64>)]
    pub(crate) seed: u64,
    /// Set any other key of the decode section, as decode.key=value
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Translate every sentence with the pieces of a file of `tallow shortlist` only
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) shortlist: Option<PathBuf>,
    /// Number format of matrix products, on the CPU
    #[arg(long, value_name = "FORMAT", value_parser = decode_choice::<DecodeCompute>())]
    pub(crate) compute: Option<DecodeCompute>,
    /// Threads that translate a batch each; default: one for each core
    #[arg(long, value_parser = at_least_one::<usize>)]
    pub(crate) workers: Option<usize>,
}

/// A choice by its name in configs.
pub(super) fn decode_choice<C: NamedChoice>() -> impl TypedValueParser<Value = C> {
    PossibleValuesParser::new(C::ALL.iter().map(|choice| choice.name()))
        .try_map(|name| C::named(&name).ok_or("unknown name"))
}
