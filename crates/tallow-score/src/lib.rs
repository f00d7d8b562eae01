//! BLEU, chrF and TER with the numbers of sacreBLEU 2.6, and the share of exact matches.
//!
//! | metric | options | paper |
//! |---|---|---|
//! | [`Bleu`] | tokenization, case, smoothing, effective order, largest order | Papineni et al. 2002, "BLEU: a Method for Automatic Evaluation of Machine Translation"; Post 2018, "A Call for Clarity in Reporting BLEU Scores" |
//! | [`Chrf`] | orders of character and word n-grams, beta, case, white space, smoothing | Popović 2015, "chrF: character n-gram F-score for automatic MT evaluation"; Popović 2017, "chrF++: words helping character n-grams" |
//! | [`Ter`] | normalisation, punctuation, Asian scripts, case | Snover et al. 2006, "A Study of Translation Edit Rate with Targeted Human Annotation" |
//!
//! [`METRICS`] lists what can be asked for by name, in a config or on a command line. Behind most of it stands a struct
//! of options whose `Default` is sacreBLEU's. `corpus` scores a whole corpus, `sentence` one sentence, and both return
//! a [`Score`]: the number, sacreBLEU's verbose text, a [`Signature`] and the counts behind the number. [`to_json`] and
//! [`to_text`] print scores as sacreBLEU's command does. A corpus score is computed from counts summed over the
//! sentences; it is not the mean of sentence scores.
//!
//! ```
//! use tallow_score::{Bleu, to_text};
//!
//! let hypotheses = ["The cat sat on a mat.", "It rained."];
//! let references = vec![vec!["The cat sat on the mat.".to_string(), "It was raining.".to_string()]];
//! let bleu = Bleu::default().corpus(&hypotheses, &references)?;
//! assert_eq!(format!("{:.1}", bleu.score), "38.7");
//! assert!(to_text(&[bleu], 1).starts_with("BLEU|nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:tallow-"));
//! # Ok::<(), tallow_score::ScoreError>(())
//! ```
//!
//! # What "equal to sacreBLEU" covers
//! The expected numbers of the tests were made by sacreBLEU 2.6.0. Two things depend on more than sacreBLEU itself:
//! lower-casing and Unicode's general categories come from the Unicode tables of this program, and sacreBLEU's from
//! those of the Python that runs it. Tables of different age differ for recently assigned characters only.
//!
//! sacreBLEU's *command* strips white space from the end of every line that it reads; like sacreBLEU's Python
//! functions, this crate takes the strings as they are. This matters to [`Chrf::whitespace`] alone.

mod bleu;
mod chrf;
mod config;
mod corpus;
mod edit_matrix;
mod error;
mod exact_match;
mod metric;
mod ngram;
mod report;
mod score;
mod shift;
mod signature;
mod smoothing;
mod ter;
mod tercom;
mod tokenize;
mod whitespace;
mod word_ids;

pub use bleu::{BLEU, Bleu, BleuStatistics};
pub use chrf::{CHRF, Chrf, ChrfStatistics, NgramStatistics};
pub use config::ScoreConfig;
pub use error::ScoreError;
pub use exact_match::{EXACT_MATCH, exact_match};
pub use metric::{Metric, Threshold};
pub use report::{to_json, to_json_text, to_text};
pub use score::{Score, Statistics};
pub use signature::Signature;
pub use smoothing::Smoothing;
pub use ter::{TER, Ter, TerStatistics};
pub use tokenize::Tokenization;

/// Every metric, in the order in which scores are told. A new one is a file with an `impl Metric`, and an entry here.
pub const METRICS: &[&dyn Metric] = &[BLEU, CHRF, TER, EXACT_MATCH];
