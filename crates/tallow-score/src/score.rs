//! A score and what it was computed from.

use serde::Serialize;

use crate::bleu::BleuStatistics;
use crate::chrf::ChrfStatistics;
use crate::signature::Signature;
use crate::ter::TerStatistics;

/// A score of one metric, for a corpus or a sentence.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Score {
    /// The metric's name, as sacreBLEU has it: `BLEU`, `chrF2`, `chrF2++`, `TER`; `exact match`, which it has not.
    pub name: String,
    /// The score in percent. Higher is better for BLEU and chrF; lower is better for TER, which can exceed 100.
    pub score: f64,
    /// BLEU's details: precisions, brevity penalty, length ratio and lengths. The other metrics have none.
    pub verbose: Option<String>,
    /// The options under which the score was computed.
    pub signature: Signature,
    /// The counts behind the score.
    pub statistics: Statistics,
}

/// The counts behind a score.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Statistics {
    /// Of BLEU.
    Bleu(BleuStatistics),
    /// Of chrF.
    Chrf(ChrfStatistics),
    /// Of TER.
    Ter(TerStatistics),
    /// Of a metric that keeps none.
    None,
}

impl Score {
    /// A score of a metric without options and counts.
    pub fn new(name: &str, score: f64) -> Self {
        Self {
            name: name.to_owned(),
            score,
            verbose: None,
            signature: Signature::none(),
            statistics: Statistics::None,
        }
    }
}
