//! The arguments of the commands that compute scores.

use super::{DeviceArguments, HubArguments, SearchArguments};
use crate::flags::whole;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum, ValueHint};
use std::path::PathBuf;
use tallow_score::{METRICS, Metric};

/// A parser for the names of metrics, each with a description.
pub(super) fn metric() -> impl TypedValueParser<Value = &'static dyn Metric> {
    let values = METRICS
        .iter()
        .map(|metric| PossibleValue::new(metric.name()).help(metric.about()));
    PossibleValuesParser::new(values).try_map(|name| <dyn Metric>::named(&name).ok_or("unknown metric"))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TokenizationName {
    #[value(name = "13a")]
    Thirteen,
    Intl,
    Char,
    None,
}

/// The scoring flags.
#[derive(Debug, Args)]
#[command(next_help_heading = "Scores")]
pub(crate) struct MetricArguments {
    /// Scores to compute, separated by commas
    #[arg(long, short, value_parser = metric(), value_delimiter = ',', default_values = ["bleu", "chrf"])]
    pub(crate) metrics: Vec<&'static dyn Metric>,
    /// How BLEU cuts lines into tokens; default: the setting of the model's run, or 13a
    #[arg(long, value_enum)]
    pub(crate) tokenize: Option<TokenizationName>,
    /// Ignore case (TER always ignores it, unless --ter-case-sensitive)
    #[arg(long)]
    pub(crate) lowercase: bool,
    /// Word n-grams of chrF; 2 is chrF++
    #[arg(long, default_value_t = 0, value_parser = whole::<usize>)]
    pub(crate) chrf_word_order: usize,
    /// Make TER case-sensitive
    #[arg(long)]
    pub(crate) ter_case_sensitive: bool,
    /// Print JSON in the form of sacreBLEU's
    #[arg(long)]
    pub(crate) json: bool,
    /// Digits after the decimal point
    #[arg(long, short, default_value_t = 1, value_parser = whole::<u8>)]
    pub(crate) width: u8,
}

#[derive(Debug, Args)]
pub(crate) struct EvalArguments {
    /// A run, a checkpoint, a model directory or owner/name on the Hub
    #[arg(value_hint = ValueHint::DirPath)]
    pub(crate) model: String,
    /// The lines to translate; default: the test set of the run's config
    #[arg(long, requires = "target")]
    pub(crate) source: Option<PathBuf>,
    /// Reference translations; may be given several times
    #[arg(long, requires = "source")]
    pub(crate) target: Vec<PathBuf>,
    /// Use the validation set of the run's config
    #[arg(long, conflicts_with = "source")]
    pub(crate) valid: bool,
    /// Write the translations to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Translate in every number format, and compare speed, memory and scores
    #[arg(long, conflicts_with_all = ["output", "compute"])]
    pub(crate) compare_compute: bool,
    #[command(flatten)]
    pub(crate) metric: MetricArguments,
    #[command(flatten)]
    pub(crate) search: SearchArguments,
    #[command(flatten)]
    pub(crate) hub: HubArguments,
    #[command(flatten)]
    pub(crate) device: DeviceArguments,
}

#[derive(Debug, Args)]
pub(crate) struct ScoreArguments {
    /// The translations; - is standard input
    pub(crate) hypotheses: PathBuf,
    /// Reference translations; may be given several times
    #[arg(long, short, required = true)]
    pub(crate) reference: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) metric: MetricArguments,
}
