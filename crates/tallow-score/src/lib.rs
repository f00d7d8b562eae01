//! BLEU, chrF and TER with the numbers of sacreBLEU 2.6, and the share of exact matches.
//!
//! | metric | options | paper |
//! |---|---|---|
//! | [`Bleu`] | tokenization, case, smoothing, effective order, largest order | Papineni et al. 2002, "BLEU: a Method for Automatic Evaluation of Machine Translation"; Post 2018, "A Call for Clarity in Reporting BLEU Scores" |
//! | [`Chrf`] | orders of character and word n-grams, beta, case, white space, smoothing | Popović 2015, "chrF: character n-gram F-score for automatic MT evaluation"; Popović 2017, "chrF++: words helping character n-grams" |
//! | [`Ter`] | normalisation, punctuation, Asian scripts, case | Snover et al. 2006, "A Study of Translation Edit Rate with Targeted Human Annotation" |
//!
//! [`METRICS`] lists the metrics that a config or a command line can name. Most of them have a struct of options whose
//! `Default` is that of sacreBLEU. `corpus` scores a whole corpus, and `sentence` one sentence. Both return a
//! [`Score`]: the number, sacreBLEU's verbose text, a [`Signature`] and the counts behind the number. [`to_json`] and
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
//! The expected numbers of the tests were made by sacreBLEU 2.6.0. Of its tokenizations, `ja-mecab`, `ko-mecab` and
//! `spBLEU-1K` are missing. Those of `flores200` and `flores101` cut lines by a file that the user names
//! ([`SentencePieceFile`]). sacreBLEU fetches that file by itself; a signature is right only if both have the same one.
//!
//! Two steps do not depend on sacreBLEU alone:
//! lower-casing and Unicode's general categories. This program uses its own Unicode tables, and sacreBLEU uses those of
//! the Python that runs it. Tables of different age differ only for recently assigned characters.
//!
//! sacreBLEU's *command* removes white space at the end of every line that it reads. This crate takes the strings as
//! they are, like sacreBLEU's Python functions. Only [`Chrf::whitespace`] is affected.

mod bleu;
mod chrf;
mod config;
mod corpus;
mod counts;
mod edit_matrix;
mod error;
mod exact_match;
mod metric;
mod ngram;
mod numpy_random;
mod report;
mod score;
mod sentencepiece;
mod shift;
mod signature;
mod significance;
mod smoothing;
mod ter;
mod tercom;
mod tokenize;
mod whitespace;
mod word_ids;

pub use bleu::{BLEU, Bleu, BleuStatistics};
pub use chrf::{CHRF, Chrf, ChrfStatistics, NgramStatistics};
pub use config::ScoreConfig;
pub use counts::Counts;
pub use error::ScoreError;
pub use exact_match::{EXACT_MATCH, exact_match};
pub use metric::{Metric, Threshold};
pub use report::{to_json, to_json_text, to_text};
pub use score::{Score, Statistics};
pub use sentencepiece::SentencePieceFile;
pub use signature::Signature;
pub use significance::{Assessment, PairedTest, Resampling, assess};
pub use smoothing::Smoothing;
pub use ter::{TER, Ter, TerStatistics};
pub use tokenize::{BleuTokenizer, Tokenization};

/// Every metric, in the order in which scores are reported. To add one, write a file with an `impl Metric` and an entry
/// here.
pub const METRICS: &[&dyn Metric] = &[BLEU, CHRF, TER, EXACT_MATCH];
