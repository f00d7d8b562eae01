//! A score and the counts behind it.

use serde::Serialize;

use crate::bleu::BleuStatistics;
use crate::chrf::ChrfStatistics;
use crate::signature::Signature;
use crate::ter::TerStatistics;

/// A score of one metric, for a corpus or a sentence.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Score {
    /// The metric's name in sacreBLEU: `BLEU`, `chrF2`, `chrF2++`, `TER`; and `exact match`, which sacreBLEU does not
    /// have.
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
    /// The counts of BLEU.
    Bleu(BleuStatistics),
    /// The counts of chrF.
    Chrf(ChrfStatistics),
    /// The counts of TER.
    Ter(TerStatistics),
    /// For a metric that keeps no counts.
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
