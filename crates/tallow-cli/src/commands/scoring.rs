//! From scoring flags to scores.

use crate::arguments::{MetricArguments, MetricName, TokenizationName};
use anyhow::Result;
use tallow_score::{Bleu, Chrf, Score, Ter, Tokenization, to_json_text, to_text};

impl MetricArguments {
    /// The scores that were asked for.
    pub(crate) fn scores<S: AsRef<str>>(&self, hypotheses: &[S], references: &[Vec<String>]) -> Result<Vec<Score>> {
        let tokenization = match self.tokenize {
            TokenizationName::Thirteen => Tokenization::V13a,
            TokenizationName::Intl => Tokenization::International,
            TokenizationName::Char => Tokenization::Character,
            TokenizationName::None => Tokenization::None,
        };
        let score = |metric: &MetricName| match metric {
            MetricName::Bleu => {
                let bleu = Bleu {
                    tokenization,
                    lowercase: self.lowercase,
                    ..Bleu::default()
                };
                bleu.corpus(hypotheses, references)
            }
            MetricName::Chrf => {
                let (word_order, lowercase) = (self.chrf_word_order, self.lowercase);
                Chrf {
                    word_order,
                    lowercase,
                    ..Chrf::default()
                }
                .corpus(hypotheses, references)
            }
            MetricName::Ter => {
                let ter = Ter {
                    case_sensitive: self.ter_case_sensitive,
                    ..Ter::default()
                };
                ter.corpus(hypotheses, references)
            }
        };
        Ok(self.metrics.iter().map(score).collect::<Result<_, _>>()?)
    }

    /// The scores as they are printed.
    pub(crate) fn print(&self, scores: &[Score]) -> String {
        if self.json {
            to_json_text(scores, self.width)
        } else {
            to_text(scores, self.width)
        }
    }
}

/// BLEU and chrF with sacreBLEU's default settings.
pub(crate) fn default_scores<S: AsRef<str>>(hypotheses: &[S], references: &[Vec<String>]) -> Result<Vec<Score>> {
    Ok(vec![
        Bleu::default().corpus(hypotheses, references)?,
        Chrf::default().corpus(hypotheses, references)?,
    ])
}
