//! The `[score]` section of a config.

use serde::{Deserialize, Serialize};

use crate::METRICS;
use crate::bleu::{BLEU, Bleu};
use crate::chrf::{CHRF, Chrf};
use crate::error::ScoreError;
use crate::exact_match::EXACT_MATCH;
use crate::metric::Metric;
use crate::sentencepiece::SentencePieceFile;
use crate::ter::Ter;
use crate::tokenize::Tokenization;

/// The metrics of validations if the config lists none.
const USUAL: [&dyn Metric; 3] = [BLEU, CHRF, EXACT_MATCH];

/// How translations are compared with their references, in validation and on test sets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScoreConfig {
    /// How BLEU cuts lines into tokens: `13a`, `intl`, `zh`, `char`, `flores200`, `flores101`, or `none` for text that
    /// is already tokenized. Default `13a`.
    pub tokenize: Tokenization,
    /// The SentencePiece model by which `flores200` and `flores101` cut lines. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sentencepiece: Option<SentencePieceFile>,
    /// Whether case is ignored. TER always ignores it. Default false.
    pub lowercase: bool,
    /// The metrics of validations and of the test set, by name, in addition to `train.metric`. Default: `bleu`, `chrf`,
    /// `exact-match`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Vec<&'static dyn Metric>>,
    /// Word n-grams of chrF; 2 makes chrF++. There is no config key for it: runs are compared by chrF2.
    #[serde(skip)]
    pub chrf_word_order: usize,
    /// Whether TER counts case. There is no config key for it: runs are compared by TER in its usual form.
    #[serde(skip)]
    pub ter_case_sensitive: bool,
}

impl ScoreConfig {
    /// Every fault of the values, each beginning with its key; empty if there is none. No file is read.
    pub fn validate(&self) -> Vec<String> {
        self.bleu().validate()
    }

    /// Reads the files that the settings name. Otherwise a fault in them would show at the first score, which may be
    /// hours later.
    ///
    /// # Errors
    /// If the SentencePiece model cannot be used, is missing, or is given to a tokenization without one.
    pub fn open_files(&self) -> Result<(), ScoreError> {
        self.bleu().tokenizer().map(|_| ())
    }

    /// The metrics of validations and of the test set, in the order of [`METRICS`]: those of the config, and `also`.
    pub fn metrics(&self, also: Option<&'static dyn Metric>) -> Vec<&'static dyn Metric> {
        let listed = self.metrics.as_deref().unwrap_or(&USUAL);
        let is_wanted = |metric: &&'static dyn Metric| listed.contains(metric) || also == Some(*metric);
        METRICS.iter().copied().filter(is_wanted).collect()
    }

    /// The options of BLEU.
    pub fn bleu(&self) -> Bleu {
        Bleu {
            tokenization: self.tokenize,
            sentencepiece: self.sentencepiece.clone(),
            lowercase: self.lowercase,
            ..Bleu::default()
        }
    }

    /// The options of chrF2 or chrF2++.
    pub fn chrf(&self) -> Chrf {
        Chrf {
            word_order: self.chrf_word_order,
            lowercase: self.lowercase,
            ..Chrf::default()
        }
    }

    /// The options of TER.
    pub fn ter(&self) -> Ter {
        Ter {
            case_sensitive: self.ter_case_sensitive,
            ..Ter::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TER;

    #[test]
    fn signatures_say_what_was_asked_for() {
        let signatures = |config: &ScoreConfig| {
            let signature = |metric: &dyn Metric| {
                let score = metric.corpus(&["A b."], &[vec!["a b ".to_owned()]], config).unwrap();
                score.signature.to_string()
            };
            [BLEU, CHRF, TER].map(signature)
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
        assert!(found[1].contains("case:lc") && found[1].contains("nw:0"), "{found:?}");
        assert!(found[2].contains("case:lc"), "{found:?}");
        let config = ScoreConfig {
            chrf_word_order: 2,
            ter_case_sensitive: true,
            ..config
        };
        let found = signatures(&config);
        assert!(
            found[1].contains("nw:2") && found[2].contains("case:mixed"),
            "{found:?}"
        );
    }

    #[test]
    fn validations_measure_what_is_listed_and_what_decides() {
        let default = ScoreConfig::default();
        assert_eq!(default.metrics(None), USUAL);
        assert_eq!(default.metrics(Some(CHRF)), USUAL);
        assert_eq!(default.metrics(Some(TER)), [BLEU, CHRF, TER, EXACT_MATCH]);
        let config: ScoreConfig = serde_json::from_str(r#"{"metrics": ["ter", "bleu", "ter"]}"#).unwrap();
        assert_eq!(config.metrics(None), [BLEU, TER]);
        assert_eq!(config.metrics(Some(EXACT_MATCH)), [BLEU, TER, EXACT_MATCH]);
        // Configs that do not set the key are written without it.
        assert_eq!(
            serde_json::to_string(&default).unwrap(),
            r#"{"tokenize":"13a","lowercase":false}"#
        );
        assert!(serde_json::from_str::<ScoreConfig>(r#"{"metrics": ["loss"]}"#).is_err());
    }
}
