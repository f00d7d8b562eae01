//! Scores, computed and printed as the scoring flags say.

use crate::arguments::{MetricArguments, TokenizationName};
use anyhow::Result;
use tallow_score::{Metric, Score, ScoreConfig, Tokenization, to_json_text, to_text};

impl MetricArguments {
    /// The settings of scores. Those without a flag come from `config`.
    pub(crate) fn score_config(&self, config: &ScoreConfig) -> ScoreConfig {
        let tokenization = match self.tokenize {
            None => config.tokenize,
            Some(TokenizationName::Thirteen) => Tokenization::V13a,
            Some(TokenizationName::Intl) => Tokenization::International,
            Some(TokenizationName::Char) => Tokenization::Character,
            Some(TokenizationName::None) => Tokenization::None,
        };
        ScoreConfig {
            tokenize: tokenization,
            lowercase: self.lowercase || config.lowercase,
            chrf_word_order: self.chrf_word_order,
            ter_case_sensitive: self.ter_case_sensitive,
            ..config.clone()
        }
    }

    /// The requested scores. Settings without a flag come from `config`.
    pub(crate) fn scores<S: AsRef<str>>(
        &self,
        config: &ScoreConfig,
        hypotheses: &[S],
        references: &[Vec<String>],
    ) -> Result<Vec<Score>> {
        let config = self.score_config(config);
        let hypotheses: Vec<&str> = hypotheses.iter().map(AsRef::as_ref).collect();
        let score = |metric: &&'static dyn Metric| metric.corpus(&hypotheses, references, &config);
        Ok(self.metrics.iter().map(score).collect::<Result<_, _>>()?)
    }

    /// The printed form of the scores.
    pub(crate) fn print(&self, scores: &[Score]) -> String {
        if self.json {
            to_json_text(scores, self.width)
        } else {
            to_text(scores, self.width)
        }
    }
}
