//! `data.valid` and `data.test`: one corpus, or several with names.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use crate::corpus_files::CorpusFiles;

/// The corpora on which models are scored. In a config it is a table, the one corpus, or a list of tables with names.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EvaluationSets {
    sets: Vec<CorpusFiles>,
}

impl From<Vec<CorpusFiles>> for EvaluationSets {
    fn from(sets: Vec<CorpusFiles>) -> Self {
        Self { sets }
    }
}

impl From<CorpusFiles> for EvaluationSets {
    fn from(files: CorpusFiles) -> Self {
        Self { sets: vec![files] }
    }
}

impl EvaluationSets {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// The number of sets.
    pub fn len(&self) -> usize {
        self.sets.len()
    }

    /// The sets in their order.
    pub fn iter(&self) -> std::slice::Iter<'_, CorpusFiles> {
        self.sets.iter()
    }

    /// The set of a name, or the first one without a name.
    ///
    /// # Errors
    /// When there is no such set: the reason, which names those that there are. `key` is that of these sets.
    pub fn named(&self, name: Option<&str>, key: &str) -> Result<&CorpusFiles, String> {
        let Some(name) = name else {
            return self.sets.first().ok_or_else(|| format!("there is no {key}"));
        };
        let found = self.sets.iter().find(|set| set.name.as_deref() == Some(name));
        found.ok_or_else(|| match self.names().collect::<Vec<_>>().as_slice() {
            [] => format!("{key} has no set named {name:?}: its sets have no names"),
            names => format!("{key} has no set named {name:?}; the names are {}", names.join(", ")),
        })
    }

    /// The names that are given.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.sets.iter().filter_map(|set| set.name.as_deref())
    }

    /// Each set with the path of its entry in the config, of which `key` is the beginning.
    pub fn with_keys(&self, key: &'static str) -> impl Iterator<Item = (String, &CorpusFiles)> {
        let is_list = self.sets.len() > 1;
        self.sets.iter().enumerate().map(move |(number, set)| {
            let path = match is_list {
                true => format!("{key}[{number}]"),
                false => key.to_owned(),
            };
            (path, set)
        })
    }
}

impl Serialize for EvaluationSets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.sets.as_slice() {
            [] => serializer.serialize_none(),
            [one] => serializer.serialize_some(one),
            sets => serializer.serialize_some(sets),
        }
    }
}

impl<'de> Deserialize<'de> for EvaluationSets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrSeveral)
    }
}

struct OneOrSeveral;

impl<'de> Visitor<'de> for OneOrSeveral {
    type Value = EvaluationSets;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a corpus entry or a list of them")
    }

    fn visit_unit<E>(self) -> Result<EvaluationSets, E> {
        Ok(EvaluationSets::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<EvaluationSets, A::Error> {
        CorpusFiles::deserialize(MapAccessDeserializer::new(map)).map(EvaluationSets::from)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<EvaluationSets, A::Error> {
        let mut sets = Vec::new();
        while let Some(set) = list.next_element()? {
            sets.push(set);
        }
        Ok(EvaluationSets { sets })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<EvaluationSets, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn one_or_several() {
        let one = parse(r#"{"tsv": "a"}"#).unwrap();
        assert_eq!(one, CorpusFiles::tsv("a").into());
        assert_eq!(one.named(None, "data.test"), Ok(&CorpusFiles::tsv("a")));
        assert!(one.named(Some("b"), "data.test").unwrap_err().contains("have no names"));
        let two = parse(r#"[{"name": "x", "tsv": "a"}, {"name": "y", "tsv": "b"}]"#).unwrap();
        assert_eq!(two.names().collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!(two.named(Some("y"), "data.test").unwrap().tsv, Some("b".into()));
        assert!(
            two.named(Some("z"), "data.test")
                .unwrap_err()
                .ends_with("the names are x, y")
        );
        let keys: Vec<String> = two.with_keys("data.valid").map(|(key, _)| key).collect();
        assert_eq!(keys, ["data.valid[0]", "data.valid[1]"]);
        for sets in [&one, &two, &EvaluationSets::default()] {
            assert_eq!(&parse(&serde_json::to_string(sets).unwrap()).unwrap(), sets);
        }
    }

    #[test]
    fn faults_name_the_key() {
        let error = parse(r#"{"tvs": "a"}"#).unwrap_err().to_string();
        assert!(error.contains("unknown field `tvs`"), "{error}");
        let error = parse("3").unwrap_err().to_string();
        assert!(error.contains("a corpus entry or a list of them"), "{error}");
    }
}
