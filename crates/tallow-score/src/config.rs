//! The `[score]` section of a config.

use serde::{Deserialize, Serialize};

use crate::bleu::Bleu;
use crate::chrf::Chrf;
use crate::error::ScoreError;
use crate::score::Score;
use crate::tokenize::Tokenization;

/// How translations are compared with their references, in validation and on test sets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScoreConfig {
    /// How BLEU cuts lines into tokens: `13a`, `intl`, `char`, or `none` for text that is tokenized already. Default `13a`.
    pub tokenize: Tokenization,
    /// Whether case is ignored. Default false.
    pub lowercase: bool,
}

impl ScoreConfig {
    /// BLEU.
    pub fn bleu(&self) -> Bleu {
        Bleu {
            tokenization: self.tokenize,
            lowercase: self.lowercase,
            ..Bleu::default()
        }
    }

    /// chrF2.
    pub fn chrf(&self) -> Chrf {
        Chrf {
            lowercase: self.lowercase,
            ..Chrf::default()
        }
    }

    /// BLEU and chrF2.
    ///
    /// # Errors
    /// When there are not as many references as hypotheses.
    pub fn scores<S: AsRef<str>>(
        &self,
        hypotheses: &[S],
        references: &[Vec<String>],
    ) -> Result<[Score; 2], ScoreError> {
        Ok([
            self.bleu().corpus(hypotheses, references)?,
            self.chrf().corpus(hypotheses, references)?,
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_say_what_was_asked_for() {
        let signatures = |config: &ScoreConfig| -> Vec<String> {
            let scores = config.scores(&["A b."], &[vec!["a b ".to_owned()]]).unwrap();
            scores.iter().map(|score| score.signature.to_string()).collect()
        };
        let default = signatures(&ScoreConfig::default());
        assert!(
            default[0].contains("case:mixed") && default[0].contains("tok:13a"),
            "{default:?}"
        );
        let config: ScoreConfig = serde_json::from_str(r#"{"tokenize": "none", "lowercase": true}"#).unwrap();
        let found = signatures(&config);
        assert!(
            found[0].contains("case:lc") && found[0].contains("tok:none"),
            "{found:?}"
        );
        assert!(found[1].contains("case:lc"), "{found:?}");
    }
}
