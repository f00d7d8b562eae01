//! From scoring flags to scores.

use crate::arguments::{MetricArguments, MetricName, TokenizationName};
use anyhow::Result;
use tallow_score::{Chrf, Score, ScoreConfig, Ter, Tokenization, to_json_text, to_text};

impl MetricArguments {
    /// The scores that were asked for. What flags leave open is as in `config`.
    pub(crate) fn scores<S: AsRef<str>>(
        &self,
        config: &ScoreConfig,
        hypotheses: &[S],
        references: &[Vec<String>],
    ) -> Result<Vec<Score>> {
        let tokenization = match self.tokenize {
            None => config.tokenize,
            Some(TokenizationName::Thirteen) => Tokenization::V13a,
            Some(TokenizationName::Intl) => Tokenization::International,
            Some(TokenizationName::Char) => Tokenization::Character,
            Some(TokenizationName::None) => Tokenization::None,
        };
        let config = ScoreConfig {
            tokenize: tokenization,
            lowercase: self.lowercase || config.lowercase,
        };
        let score = |metric: &MetricName| match metric {
            MetricName::Bleu => config.bleu().corpus(hypotheses, references),
            MetricName::Chrf => {
                let chrf = Chrf {
                    word_order: self.chrf_word_order,
                    ..config.chrf()
                };
                chrf.corpus(hypotheses, references)
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
