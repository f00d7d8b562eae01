//! The arguments of the commands that compute scores.

use super::{DeviceArguments, HubArguments, SearchArguments};
use crate::flags::{at_least_one, whole};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum, ValueHint};
use std::path::PathBuf;
use tallow_score::{METRICS, Metric, Tokenization};

/// A parser for the names of metrics, each with a description.
pub(super) fn metric() -> impl TypedValueParser<Value = &'static dyn Metric> {
    let values = METRICS
        .iter()
        .map(|metric| PossibleValue::new(metric.name()).help(metric.about()));
    PossibleValuesParser::new(values).try_map(|name| <dyn Metric>::named(&name).ok_or("unknown metric"))
}

/// A parser for the names of tokenizations, each with a description.
fn tokenization() -> impl TypedValueParser<Value = Tokenization> {
    let known = Tokenization::ALL.map(|one| PossibleValue::new(one.name()).help(one.about()));
    // Another name of one, and names of sacreBLEU's that are refused with the reason.
    let other = ["spm", "ja-mecab", "ko-mecab"].map(|name| PossibleValue::new(name).hide(true));
    PossibleValuesParser::new(known.into_iter().chain(other)).try_map(|name| name.parse::<Tokenization>())
}

/// The scoring flags.
#[derive(Debug, Args)]
#[command(next_help_heading = "Scores")]
pub(crate) struct MetricArguments {
    /// Scores to compute, separated by commas
    #[arg(long, short, value_parser = metric(), value_delimiter = ',', default_values = ["bleu", "chrf"])]
    pub(crate) metrics: Vec<&'static dyn Metric>,
    /// How BLEU cuts lines into tokens; default: the setting of the model's run, or 13a
    #[arg(long, value_parser = tokenization())]
    pub(crate) tokenize: Option<Tokenization>,
    /// The SentencePiece model of flores200 or flores101, which sacreBLEU keeps in ~/.sacrebleu/models; default: that
    /// of the model's run
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) sentencepiece: Option<PathBuf>,
    /// Ignore case (TER always ignores it, unless --ter-case-sensitive)
    #[arg(long)]
    pub(crate) lowercase: bool,
    /// Word n-grams of chrF; 2 is chrF++
    #[arg(long, default_value_t = 0, value_parser = whole::<usize>)]
    pub(crate) chrf_word_order: usize,
    /// Make TER case-sensitive
    #[arg(long)]
    pub(crate) ter_case_sensitive: bool,
    /// Print JSON; of single scores, in the form of sacreBLEU's
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
    /// The set of this name, if the config names several; default: the first
    #[arg(long, conflicts_with = "source")]
    pub(crate) name: Option<String>,
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

/// The paired tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PairedTestName {
    /// Paired bootstrap resampling, as sacreBLEU's --paired-bs
    Bootstrap,
    /// Paired approximate randomization, as sacreBLEU's --paired-ar
    Randomization,
}

#[derive(Debug, Args)]
pub(crate) struct CompareArguments {
    /// Two or more: runs, models, names on the Hub, or files of translations; runs of other seeds are one system, with
    /// commas between them
    #[arg(required = true, num_args = 2.., value_hint = ValueHint::AnyPath)]
    pub(crate) systems: Vec<String>,
    /// The lines to translate; default: the test set of the first run
    #[arg(long, requires = "reference")]
    pub(crate) source: Option<PathBuf>,
    /// Reference translations; may be given several times
    #[arg(long, short)]
    pub(crate) reference: Vec<PathBuf>,
    /// Use the validation set of the first run
    #[arg(long, conflicts_with = "reference")]
    pub(crate) valid: bool,
    /// The set of this name, if the config names several; default: the first
    #[arg(long, conflicts_with = "reference")]
    pub(crate) name: Option<String>,
    /// A label for each line, such as its domain: scores for each label
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) labels: Option<PathBuf>,
    /// Target text of the training, to group words by how often it has them; default: that of the first run
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) train: Vec<PathBuf>,
    /// Do not read the training text
    #[arg(long, conflicts_with = "train")]
    pub(crate) no_train: bool,
    /// The test
    #[arg(long, value_enum, default_value_t = PairedTestName::Bootstrap)]
    pub(crate) test: PairedTestName,
    /// Resampled corpora of a bootstrap (default 1000), or trials of a randomization (default 10000)
    #[arg(long, value_name = "N", value_parser = at_least_one::<usize>)]
    pub(crate) trials: Option<usize>,
    /// With a randomization: resampled corpora for intervals of the scores
    #[arg(long, value_name = "N", value_parser = at_least_one::<usize>)]
    pub(crate) interval_samples: Option<usize>,
    /// Seed of the test
    #[arg(long, value_name = "SEED", default_value_t = 12345, value_parser = whole::<u64>)]
    pub(crate) test_seed: u64,
    /// Sentences to list that gained most, and that lost most
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = whole::<usize>)]
    pub(crate) sentences: usize,
    /// Also write a page for a browser
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) html: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) metric: MetricArguments,
    #[command(flatten)]
    pub(crate) search: SearchArguments,
    #[command(flatten)]
    pub(crate) hub: HubArguments,
    #[command(flatten)]
    pub(crate) device: DeviceArguments,
}
