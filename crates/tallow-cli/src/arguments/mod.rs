//! The commands and flags of the command line.

mod scores;
mod search;
mod serve;
mod translation;

pub(crate) use scores::{CompareArguments, EvalArguments, MetricArguments, PairedTestName, ScoreArguments};
pub(crate) use search::SearchArguments;
pub(crate) use serve::{LogFormat, ServeArguments};
pub(crate) use translation::{InputFormat, OutputFormat, ScorePairsArguments, TranslateArguments};

use crate::examples::{
    ABLATE_EXAMPLES, ALIGNMENT_HEADS_EXAMPLES, AVERAGE_EXAMPLES, CHART_EXAMPLES, CHECK_EXAMPLES, CLEAN_EXAMPLES,
    COMPARE_EXAMPLES, COMPLETION_EXAMPLES, COST_EXAMPLES, EVAL_EXAMPLES, EXPORT_EXAMPLES, INIT_EXAMPLES, LOOK_EXAMPLES,
    PREPARE_EXAMPLES, REPORT_EXAMPLES, SCORE_EXAMPLES, SCORE_PAIRS_EXAMPLES, SERVE_EXAMPLES, SHORTLIST_EXAMPLES,
    TOY_EXAMPLES, TRAIN_EXAMPLES, TRANSLATE_EXAMPLES, VERIFY_EXAMPLES,
};
use crate::flags::{above_zero, at_least_one, number, ranks, time, two_codes, whole};
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use scores::metric;
use std::path::PathBuf;
use tallow::{Device, DeviceChoice};
use tallow_data::toy::Toy;
use tallow_score::Metric;

/// Trains, evaluates and runs Transformer translation models.
#[derive(Debug, Parser)]
#[command(
    name = "tallow",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    after_long_help = "\
EXAMPLES
  Train on the shipped toy corpus, then translate with the result:
    tallow train configs/numbers-en-de.toml
    echo 'twenty-one thousand three hundred and five' | tallow translate runs/numbers-en-de

  Score a model on a test set, as sacreBLEU would:
    tallow eval runs/multi30k-en-de-plain --source test.en --target test.de

`tallow help COMMAND` has examples for each command; FORMAT.md documents every config key and every file."
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Train a model from a config
    #[command(after_long_help = TRAIN_EXAMPLES)]
    Train(TrainArguments),
    /// Begin with parallel text: hold out a validation and a test set, and write a config that fits
    #[command(after_long_help = INIT_EXAMPLES)]
    Init(InitArguments),
    /// Drop training pairs that are probably no translations, and tell why
    #[command(after_long_help = CLEAN_EXAMPLES)]
    Clean(CleanArguments),
    /// Learn the vocabulary and encode the training text of a config, once for many runs
    #[command(after_long_help = PREPARE_EXAMPLES)]
    Prepare(PrepareArguments),
    /// Translate lines from standard input or a file
    #[command(after_long_help = TRANSLATE_EXAMPLES)]
    Translate(TranslateArguments),
    /// Serve translations over HTTP
    #[command(after_long_help = SERVE_EXAMPLES)]
    Serve(ServeArguments),
    /// Translate a test set with a model and score the result
    #[command(after_long_help = EVAL_EXAMPLES)]
    Eval(EvalArguments),
    /// Score a file of translations against references
    #[command(after_long_help = SCORE_EXAMPLES)]
    Score(ScoreArguments),
    /// Compare systems: whether they differ by more than chance, and where
    #[command(after_long_help = COMPARE_EXAMPLES)]
    Compare(CompareArguments),
    /// Score given translations with a model, for filtering corpora and for reranking
    #[command(after_long_help = SCORE_PAIRS_EXAMPLES)]
    ScorePairs(ScorePairsArguments),
    /// Average the weights of several checkpoints
    #[command(after_long_help = AVERAGE_EXAMPLES)]
    Average(AverageArguments),
    /// Prove on a config's own model and data that a run can be trusted
    #[command(after_long_help = CHECK_EXAMPLES)]
    Check(CheckArguments),
    /// Prove that a model directory holds what it should
    #[command(after_long_help = VERIFY_EXAMPLES)]
    Verify(VerifyArguments),
    /// Write a model in a form that other programs read
    #[command(after_long_help = EXPORT_EXAMPLES)]
    Export(ExportArguments),
    /// Write a page that shows what happens inside a model while it translates a sentence
    #[command(after_long_help = LOOK_EXAMPLES)]
    Look(LookArguments),
    /// Find the heads that tell which words belong together
    #[command(after_long_help = ALIGNMENT_HEADS_EXAMPLES)]
    AlignmentHeads(AlignmentHeadsArguments),
    /// Learn which pieces a sentence needs, for faster translation
    #[command(after_long_help = SHORTLIST_EXAMPLES)]
    Shortlist(ShortlistArguments),
    /// Learn a tokenizer, or use one
    #[command(subcommand)]
    Tokenizer(TokenizerCommand),
    /// Write a toy corpus
    #[command(after_long_help = TOY_EXAMPLES)]
    Toy(ToyArguments),
    /// Draw the course of runs, loss and score over updates, as an SVG
    #[command(after_long_help = CHART_EXAMPLES)]
    Chart(ChartArguments),
    /// Write a page about runs: their course, results, samples, settings and worst translations
    #[command(after_long_help = REPORT_EXAMPLES)]
    Report(ReportArguments),
    /// Train a config with one part switched off at a time, and compare
    #[command(after_long_help = ABLATE_EXAMPLES)]
    Ablate(AblateArguments),
    /// Tell what translations by a config's model cost over their length: operations and time
    #[command(after_long_help = COST_EXAMPLES)]
    Cost(CostArguments),
    /// Print every effective config value and where it came from
    Explain(ExplainArguments),
    /// Print a completion script for a shell
    #[command(after_long_help = COMPLETION_EXAMPLES)]
    Completions(CompletionsArguments),
}

/// The config argument and `--set`, for every command that takes a config.
#[derive(Debug, Args)]
pub(crate) struct ConfigArguments {
    /// The config, a TOML file
    pub(crate) config: PathBuf,
    /// Set a config value, as section.key=value; may be given many times
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

/// The device flag.
#[derive(Debug, Args)]
pub(crate) struct DeviceArguments {
    /// Where to compute: cpu, cuda or cuda:N
    #[arg(long, default_value = "cpu")]
    pub(crate) device: DeviceChoice,
    /// Widest vector instructions on the CPU: avx2 gives the results of a processor without AVX-512
    #[arg(long, value_name = "SET", value_parser = ["avx2"])]
    pub(crate) instructions: Option<String>,
}

impl DeviceArguments {
    /// Opens the device, and limits the instructions of this process.
    pub(crate) fn open(&self) -> tallow::Result<Device> {
        if self.instructions.is_some() {
            tallow::use_avx2_only();
        }
        self.device.open()
    }
}

/// The flags for the Hugging Face Hub.
#[derive(Debug, Args)]
pub(crate) struct HubArguments {
    /// Use models of the Hugging Face Hub from its cache only
    #[arg(long)]
    pub(crate) offline: bool,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("text").required(true).args(["source", "tsv", "tmx", "po"]))]
pub(crate) struct InitArguments {
    /// The source sentences, one on each line
    #[arg(long, requires = "target")]
    pub(crate) source: Option<PathBuf>,
    /// Their translations
    #[arg(long, requires = "source")]
    pub(crate) target: Option<PathBuf>,
    /// One file with a source, a tab and a target on each line
    #[arg(long)]
    pub(crate) tsv: Option<PathBuf>,
    /// A translation memory
    #[arg(long)]
    pub(crate) tmx: Option<PathBuf>,
    /// A PO file of GNU gettext
    #[arg(long)]
    pub(crate) po: Option<PathBuf>,
    /// The codes of source and target language, such as en,de; default: the extensions of the files
    #[arg(long, value_parser = two_codes, value_name = "CODES")]
    pub(crate) languages: Option<[String; 2]>,
    /// The time that training may take on this machine, such as 8h or 45m; default: what the text needs
    #[arg(long, value_parser = time)]
    pub(crate) budget: Option<f64>,
    /// The folder to write into; must not exist or be empty. Default: project
    #[arg(long, short, value_hint = ValueHint::DirPath)]
    pub(crate) output: Option<PathBuf>,
    /// The seed of the choice of held-out pairs, and of the run
    #[arg(long, default_value_t = 1, value_parser = whole::<u64>)]
    pub(crate) seed: u64,
}

#[derive(Debug, Args)]
pub(crate) struct CleanArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArguments,
    /// The folder for what is kept and what is dropped; must not exist or be empty
    #[arg(long, short, value_hint = ValueHint::DirPath)]
    pub(crate) output: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct PrepareArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArguments,
    /// Also read every prepared pair and check it
    #[arg(long)]
    pub(crate) verify: bool,
    #[command(flatten)]
    pub(crate) hub: HubArguments,
}

#[derive(Debug, Args)]
pub(crate) struct TrainArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArguments,
    /// Continue the run from its last checkpoint
    #[arg(long, conflicts_with = "overwrite")]
    pub(crate) resume: bool,
    /// Remove what an earlier run left in the run directory
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Measure the operations of updates and print the share of each at the end
    #[arg(long)]
    pub(crate) profile: bool,
    /// Keep a page about the run, report.html in its directory, and write it anew after every validation
    #[arg(long)]
    pub(crate) report: bool,
    #[command(flatten)]
    pub(crate) hub: HubArguments,
    #[command(flatten)]
    pub(crate) device: DeviceArguments,
}

#[derive(Debug, Args)]
pub(crate) struct AverageArguments {
    /// A run, or two or more checkpoints or model directories
    #[arg(required = true, value_hint = ValueHint::DirPath)]
    pub(crate) models: Vec<PathBuf>,
    /// Average the last checkpoints of a run
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = whole::<usize>)]
    pub(crate) last: usize,
    /// Where to write the average; must not exist
    #[arg(long, short)]
    pub(crate) output: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArguments,
    /// Print one JSON object
    #[arg(long, conflicts_with = "resume")]
    pub(crate) json: bool,
    /// Also say what up to N processes would bring, each on a machine like this one
    #[arg(long, value_name = "N", conflicts_with = "resume", value_parser = ranks)]
    pub(crate) ranks: Option<usize>,
    /// With --ranks: the speed of the network between them, in Gbit/s
    #[arg(long, value_name = "GBITS", default_value_t = 10.0, requires = "ranks", value_parser = above_zero)]
    pub(crate) link: f64,
    /// Only prove, at length, that a run that is killed and resumed equals an uninterrupted one
    #[arg(long)]
    pub(crate) resume: bool,
    /// With --resume: updates of the two compared runs
    #[arg(long, default_value_t = 80, requires = "resume", value_parser = whole::<u64>)]
    pub(crate) updates: u64,
    /// With --resume: number of times to kill the second run
    #[arg(long, default_value_t = 20, requires = "resume", value_parser = at_least_one::<u64>)]
    pub(crate) kills: u64,
    /// With --resume: seed of the moments to kill it
    #[arg(long, default_value_t = 1, requires = "resume", value_parser = whole::<u64>)]
    pub(crate) seed: u64,
    #[command(flatten)]
    pub(crate) hub: HubArguments,
    #[command(flatten)]
    pub(crate) device: DeviceArguments,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArguments {
    /// A run, a checkpoint, a model directory or owner/name on the Hub
    #[arg(value_hint = ValueHint::DirPath)]
    pub(crate) model: String,
    /// Lines for comparing token ids, besides those that come with the program
    #[arg(long, value_name = "FILE")]
    pub(crate) sample: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) hub: HubArguments,
}

/// The forms of models for other programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportForm {
    /// A directory for `MarianMTModel` and `MarianTokenizer`, and for ct2-transformers-converter
    Huggingface,
    /// model.npz and vocabularies for ct2-marian-converter; also of pre-norm models
    Marian,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArguments {
    /// A run, a checkpoint, a model directory or owner/name on the Hub
    #[arg(value_hint = ValueHint::DirPath)]
    pub(crate) model: String,
    /// Where to write it; must not exist
    #[arg(long, short)]
    pub(crate) output: PathBuf,
    /// The programs that will read it
    #[arg(long, value_enum, default_value = "huggingface")]
    pub(crate) form: ExportForm,
    /// Round the weights to 8-bit integers: a quarter of the size, for Tallow only
    #[arg(long, value_name = "int8", value_parser = ["int8"], conflicts_with = "form")]
    pub(crate) compute: Option<String>,
    #[command(flatten)]
    pub(crate) hub: HubArguments,
}

/// The forms of a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LookFormat {
    /// A page for a browser
    Html,
    /// The numbers
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct LookArguments {
    /// A run, a checkpoint, a model directory or owner/name on the Hub
    #[arg(value_hint = ValueHint::DirPath)]
    pub(crate) model: String,
    /// The sentence to translate
    pub(crate) sentence: String,
    /// Look at this translation instead of the model's own
    #[arg(long, value_name = "TEXT")]
    pub(crate) target: Option<String>,
    /// Look at the checkpoints of the run one after another, to see how the model learned
    #[arg(long)]
    pub(crate) checkpoints: bool,
    /// The file to write; - is standard output; default: look.html, or standard output for JSON
    #[arg(long, short, value_hint = ValueHint::FilePath)]
    pub(crate) output: Option<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value_t = LookFormat::Html)]
    pub(crate) format: LookFormat,
    #[command(flatten)]
    pub(crate) hub: HubArguments,
}

/// A model, and text that it was trained on, or text like it.
#[derive(Debug, Args)]
pub(crate) struct TrainedTextArguments {
    /// A run, a checkpoint, a model directory or owner/name on the Hub
    #[arg(value_hint = ValueHint::DirPath)]
    pub(crate) model: String,
    /// Source lines; default: the training text of the run
    #[arg(long, requires = "target")]
    pub(crate) source: Option<PathBuf>,
    /// Their translations
    #[arg(long, requires = "source")]
    pub(crate) target: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct AlignmentHeadsArguments {
    #[command(flatten)]
    pub(crate) text: TrainedTextArguments,
    /// Word alignments of these lines, such as `0-0 1-2`; default: those that a lexicon of the text suggests
    #[arg(long, requires = "source", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) alignments: Option<PathBuf>,
    /// Most pairs to compare
    #[arg(long, default_value_t = 1000, value_parser = at_least_one::<usize>)]
    pub(crate) lines: usize,
    /// Write the best head into the model's generation_config.json, for `translate`
    #[arg(long)]
    pub(crate) save: bool,
    /// Output format
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    pub(crate) format: OutputFormat,
    #[command(flatten)]
    pub(crate) hub: HubArguments,
}

#[derive(Debug, Args)]
pub(crate) struct ShortlistArguments {
    #[command(flatten)]
    pub(crate) text: TrainedTextArguments,
    /// Where to write it; must not exist
    #[arg(long, short)]
    pub(crate) output: PathBuf,
    /// Most pairs to learn from
    #[arg(long, default_value_t = 500_000, value_parser = at_least_one::<usize>)]
    pub(crate) lines: usize,
    /// Frequent target pieces that every sentence may use
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = whole::<usize>)]
    pub(crate) frequent: usize,
    /// Most translations of a source piece
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = whole::<usize>)]
    pub(crate) translations: usize,
    /// Least probability of a translation
    #[arg(long, value_name = "P", default_value_t = 0.001, value_parser = number)]
    pub(crate) least_probability: f64,
    #[command(flatten)]
    pub(crate) hub: HubArguments,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenizerCommand {
    /// Learn a vocabulary as a config asks for
    Train(TokenizerTrainArguments),
    /// Print the pieces, or with --ids the ids, of each line of standard input
    Encode(TokenizerUseArguments),
    /// Print the text of each line of ids
    Decode(TokenizerUseArguments),
}

#[derive(Debug, Args)]
pub(crate) struct TokenizerTrainArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArguments,
    /// The folder for tokenizer.json
    #[arg(long, short)]
    pub(crate) output: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct TokenizerUseArguments {
    /// A tokenizer.json, or a folder, model or run that has one
    pub(crate) tokenizer: PathBuf,
    /// Print ids instead of pieces
    #[arg(long)]
    pub(crate) ids: bool,
    /// Use the tokenizer of the target side, if each side has its own
    #[arg(long)]
    pub(crate) target: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ToyArguments {
    /// numbers, reverse, copy or sort
    pub(crate) toy: Toy,
    /// The folder to write to
    #[arg(long, short)]
    pub(crate) output: PathBuf,
    /// Seed of all random choices
    #[arg(long, value_parser = whole::<u64>)]
    pub(crate) seed: Option<u64>,
    /// Training pairs
    #[arg(long, value_parser = whole::<usize>)]
    pub(crate) train: Option<usize>,
    /// Validation pairs
    #[arg(long, value_parser = whole::<usize>)]
    pub(crate) valid: Option<usize>,
    /// Test pairs
    #[arg(long, value_parser = whole::<usize>)]
    pub(crate) test: Option<usize>,
    /// The largest number or value
    #[arg(long, value_parser = whole::<u32>)]
    pub(crate) maximum: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct ChartArguments {
    /// Runs to draw into one picture
    #[arg(required = true, value_hint = ValueHint::DirPath)]
    pub(crate) runs: Vec<PathBuf>,
    /// The file of the picture; - is standard output
    #[arg(long, short, default_value = "-", value_hint = ValueHint::FilePath)]
    pub(crate) output: PathBuf,
    /// The score to draw; default: that of the first run's train.metric
    #[arg(long, value_parser = metric())]
    pub(crate) metric: Option<&'static dyn Metric>,
}

#[derive(Debug, Args)]
pub(crate) struct ReportArguments {
    /// Runs to put side by side
    #[arg(required = true, value_hint = ValueHint::DirPath)]
    pub(crate) runs: Vec<PathBuf>,
    /// The file to write; - is standard output; default: report.html, or standard output for JSON
    #[arg(long, short, value_hint = ValueHint::FilePath)]
    pub(crate) output: Option<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value_t = LookFormat::Html)]
    pub(crate) format: LookFormat,
    /// Also write every plot into a folder, as SVG and as CSV
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub(crate) export: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct AblateArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArguments,
    /// Seeds for each part: that of the config, and those after it
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = at_least_one::<usize>)]
    pub(crate) seeds: usize,
    /// Parts to switch off, separated by commas; default: all
    #[arg(long, value_name = "PARTS", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// List the parts of the config, and train nothing
    #[arg(long)]
    pub(crate) list: bool,
    /// The folder of runs and results; default: runs/NAME.ablation
    #[arg(long, short, value_hint = ValueHint::DirPath)]
    pub(crate) output: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) device: DeviceArguments,
}

#[derive(Debug, Args)]
pub(crate) struct CostArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArguments,
    /// The longest sentence, in tokens
    #[arg(long, value_name = "TOKENS", default_value_t = 512, value_parser = at_least_one::<u64>)]
    pub(crate) longest: u64,
    /// Also draw the times into a picture
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) svg: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArguments,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArguments {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}
