//! Stages of training: which corpora are trained on, one after another.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::config::{MAX_WEIGHT, weight_is_valid};
use crate::corpus_files::CorpusFiles;

/// One entry of `data.stage`: a mixture of the corpora, and how long it is trained on.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Stage {
    /// The name in logs. Default: the number of the stage, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How often an epoch of this stage takes each pair of the corpora of these names ([`CorpusFiles::weight`]).
    /// Corpora that are not named are left out.
    pub weights: BTreeMap<String, f64>,
    /// The number of updates of the stage. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updates: Option<u64>,
    /// The number of passes over the mixture. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u64>,
}

/// The end of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StageEnd {
    /// After this many updates of the stage.
    Updates(u64),
    /// After this many passes over its mixture.
    Epochs(u64),
    /// That of training.
    Never,
}

impl Stage {
    /// The end of the stage.
    pub fn end(&self) -> StageEnd {
        match (self.updates, self.epochs) {
            (Some(updates), _) => StageEnd::Updates(updates),
            (None, Some(epochs)) => StageEnd::Epochs(epochs),
            (None, None) => StageEnd::Never,
        }
    }

    /// The weight of each corpus, in their order. A corpus that the stage leaves out has the weight 0.
    pub fn weights_of(&self, corpora: &[CorpusFiles]) -> Vec<f64> {
        let weight = |corpus: &CorpusFiles| Some(*self.weights.get(corpus.name.as_ref()?)?);
        corpora.iter().map(|corpus| weight(corpus).unwrap_or(0.0)).collect()
    }
}

/// All faults of the stages, each beginning with its key.
pub(crate) fn faults(stages: &[Stage], corpora: &[CorpusFiles]) -> Vec<String> {
    let mut faults = Vec::new();
    let names: Vec<&str> = corpora.iter().filter_map(|corpus| corpus.name.as_deref()).collect();
    let mut known = BTreeSet::new();
    for (number, stage) in stages.iter().enumerate() {
        let key = format!("data.stage[{number}]");
        if let Some(name) = &stage.name {
            if name.trim().is_empty() || name.contains(char::is_control) {
                faults.push(format!("{key}.name: must have text, on one line"));
            } else if !known.insert(name) {
                faults.push(format!("{key}.name: {name:?} is taken twice"));
            }
        }
        if stage.weights.is_empty() {
            faults.push(format!(
                "{key}.weights: name the corpora of this stage, such as {{ clean = 1 }}; a corpus gets its name by \
                 `name = \"clean\"` in its entry of data.train"
            ));
        }
        for (name, weight) in &stage.weights {
            if !names.contains(&name.as_str()) {
                let known = match names.as_slice() {
                    [] => "no entry of data.train has a `name`".to_owned(),
                    names => format!("the names in data.train are {}", names.join(", ")),
                };
                faults.push(format!("{key}.weights.{name}: no such corpus; {known}"));
            }
            if !weight_is_valid(*weight) {
                faults.push(format!(
                    "{key}.weights.{name}: {weight} must be above 0 and at most {MAX_WEIGHT}; leave the corpus out for none"
                ));
            }
        }
        let is_last = number + 1 == stages.len();
        match (stage.updates, stage.epochs) {
            (Some(_), Some(_)) => faults.push(format!("{key}: give `updates` or `epochs`, not both")),
            (None, None) if !is_last => faults.push(format!(
                "{key}: this stage never ends, so the next one never begins; give it `updates` or `epochs`"
            )),
            (Some(0), None) | (None, Some(0)) => {
                faults.push(format!("{key}: a stage of no length; remove it, or give it a length"));
            }
            (Some(_), None) | (None, Some(_)) if is_last => faults.push(format!(
                "{key}: the last stage lasts until training ends (train.max_updates, train.max_epochs); remove its length"
            )),
            _ => {}
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> CorpusFiles {
        CorpusFiles {
            name: Some(name.into()),
            ..CorpusFiles::tsv(name)
        }
    }

    fn stages(json: &str) -> Vec<Stage> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_stage_takes_the_corpora_that_it_names() {
        let corpora = [named("a"), CorpusFiles::tsv("b"), named("c")];
        let stages = stages(r#"[{"weights": {"c": 2, "a": 0.5}, "epochs": 2}, {"weights": {"c": 1}}]"#);
        assert_eq!(faults(&stages, &corpora), Vec::<String>::new());
        assert_eq!(stages[0].weights_of(&corpora), [0.5, 0.0, 2.0]);
        assert_eq!(stages[1].weights_of(&corpora), [0.0, 0.0, 1.0]);
        let ends = stages.iter().map(Stage::end);
        assert_eq!(ends.collect::<Vec<_>>(), [StageEnd::Epochs(2), StageEnd::Never]);
    }

    #[test]
    fn every_fault_of_a_stage() {
        let corpora = [named("a")];
        let stages = stages(
            r#"[{}, {"weights": {"b": 1, "a": 0}, "updates": 1, "epochs": 1}, {"weights": {"a": 1}, "updates": 0},
                {"weights": {"a": 1}, "epochs": 3}]"#,
        );
        let found = faults(&stages, &corpora);
        let expected = [
            "data.stage[0].weights: name the corpora",
            "data.stage[0]: this stage never ends",
            "data.stage[1].weights.a: 0 must be above 0",
            "data.stage[1].weights.b: no such corpus; the names in data.train are a",
            "data.stage[1]: give `updates` or `epochs`",
            "data.stage[2]: a stage of no length",
            "data.stage[3]: the last stage lasts until training ends",
        ];
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found}");
        }
    }
}
