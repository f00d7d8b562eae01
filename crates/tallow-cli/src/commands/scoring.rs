//! Scores, computed and printed as the scoring flags say.

use crate::arguments::MetricArguments;
use crate::usage::wrong_usage;
use anyhow::Result;
use tallow_score::{BLEU, Metric, Score, ScoreConfig, SentencePieceFile, to_json_text, to_text};

impl MetricArguments {
    /// The settings of scores. Those without a flag come from `config`. The file of a SentencePiece model is read here
    /// if BLEU needs it: a fault in it should not show after the translation of a whole set.
    pub(crate) fn score_config(&self, config: &ScoreConfig) -> Result<ScoreConfig> {
        let tokenize = self.tokenize.unwrap_or(config.tokenize);
        // The model of a run belongs to the tokenization of that run.
        let of_run = config.sentencepiece.clone().filter(|_| tokenize == config.tokenize);
        let config = ScoreConfig {
            tokenize,
            sentencepiece: self.sentencepiece.as_ref().map(SentencePieceFile::new).or(of_run),
            lowercase: self.lowercase || config.lowercase,
            chrf_word_order: self.chrf_word_order,
            ter_case_sensitive: self.ter_case_sensitive,
            ..config.clone()
        };
        if let Some(fault) = config.validate().first() {
            return Err(wrong_usage(match self.sentencepiece {
                Some(_) => format!("--sentencepiece ({fault})"),
                None => format!("{fault}. On the command line, set it by --sentencepiece"),
            }));
        }
        if self.metrics.contains(&BLEU) {
            config.open_files()?;
        }
        Ok(config)
    }

    /// The requested scores. Settings without a flag come from `config`.
    pub(crate) fn scores<S: AsRef<str>>(
        &self,
        config: &ScoreConfig,
        hypotheses: &[S],
        references: &[Vec<String>],
    ) -> Result<Vec<Score>> {
        let config = self.score_config(config)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        metric: MetricArguments,
    }

    /// The model of a run is used by the tokenization of that run only.
    #[test]
    fn another_tokenization_leaves_the_model_of_the_run() {
        let config = |text: &str| serde_json::from_str::<ScoreConfig>(text).unwrap();
        let run = config(r#"{"tokenize": "flores200", "sentencepiece": "of-run.model"}"#);
        // BLEU would read the file.
        let settings = |flags: &[&str]| {
            let flags = [&["tallow", "--metrics", "chrf"], flags].concat();
            Flags::parse_from(flags).metric.score_config(&run)
        };
        assert_eq!(settings(&[]).unwrap(), run);
        assert_eq!(settings(&["--tokenize", "flores200"]).unwrap(), run);
        assert_eq!(
            settings(&["--tokenize", "zh"]).unwrap(),
            config(r#"{"tokenize": "zh"}"#)
        );
        assert_eq!(
            settings(&["--sentencepiece", "other.model"]).unwrap(),
            config(r#"{"tokenize": "flores200", "sentencepiece": "other.model"}"#)
        );
        let error = settings(&["--tokenize", "flores101"]).unwrap_err().to_string();
        assert!(error.contains("flores101 needs the file"), "{error}");
        let error = Flags::parse_from(["tallow"]).metric.score_config(&run).unwrap_err();
        assert!(error.to_string().contains("of-run.model"), "{error}");
    }
}
