//! The names that other trainers use for sections and keys of a config.

/// Keys with their names in other programs. The first lines of the file explain its form.
const KEYS: &str = include_str!("synonyms.txt");

/// Sections with their names in other programs.
const SECTIONS: [(&str, &str); 6] = [
    (
        "text",
        "tokenizer tokenization vocabulary vocab subword preprocessing bpe sentencepiece",
    ),
    ("data", "dataset datasets corpus corpora task"),
    ("model", "network transformer encoder decoder architecture arch"),
    (
        "train",
        "training trainer optimization optimizer optim checkpoint checkpointing",
    ),
    (
        "decode",
        "testing generation inference search beam_search translate translation",
    ),
    ("score", "scoring evaluation eval metric metrics bleu"),
];

/// A setting, with its names in other programs.
#[derive(Debug, Default)]
pub struct Synonym {
    /// The keys in Tallow, with their sections; empty if there is no such key.
    pub keys: Vec<&'static str>,
    /// A remark about the setting; if there is no key, the whole answer.
    pub note: &'static str,
    names: Vec<&'static str>,
}

fn synonyms() -> Vec<Synonym> {
    let mut all: Vec<Synonym> = Vec::new();
    for line in KEYS.lines().filter(|line| !line.starts_with('#')) {
        if let Some((keys, note)) = line.split_once('|') {
            all.push(Synonym {
                keys: keys.split_whitespace().collect(),
                note: note.trim(),
                names: Vec::new(),
            });
        } else if let Some(entry) = all.last_mut() {
            entry.names.extend(line.split_whitespace());
        }
    }
    all
}

/// The setting that other programs know by this name, either in this section only or in any.
pub fn synonym(key: &str) -> Option<Synonym> {
    let plain = plain(key);
    let name = plain.rsplit('.').next().unwrap_or(&plain);
    let mut all = synonyms();
    let place = |wanted: &str| all.iter().position(|synonym| synonym.names.contains(&wanted));
    let found = place(&plain).or_else(|| place(name))?;
    Some(all.swap_remove(found))
}

/// A hint for an unknown key, if other programs have a key of this name: the end of a sentence about it.
pub(super) fn known_elsewhere(key: &str) -> Option<String> {
    let Synonym { keys, note, .. } = synonym(key)?;
    let there = match keys.split_last() {
        None => return Some(note.to_owned()),
        Some((one, [])) => format!("there is {one}"),
        Some((last, others)) => format!("there are {} and {last}", others.join(", ")),
    };
    Some(if note.is_empty() {
        there
    } else {
        format!("{there}; {note}")
    })
}

/// The section that other programs know by this name.
pub(super) fn section_elsewhere(name: &str) -> Option<&'static str> {
    let plain = plain(name);
    let found = SECTIONS
        .iter()
        .find(|(_, names)| names.split(' ').any(|known| known == plain));
    found.map(|(section, _)| *section)
}

/// The name in the form of the tables: other programs write `--max-len` and `maxLen`.
fn plain(name: &str) -> String {
    let mut plain = String::new();
    for c in name.trim_start_matches('-').chars() {
        let after_lower = plain.ends_with(|last: char| last.is_ascii_lowercase());
        if c.is_ascii_uppercase() && after_lower {
            plain.push('_');
        }
        plain.push(if c == '-' { '_' } else { c.to_ascii_lowercase() });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, keys_of, sections};
    use std::collections::BTreeSet;

    /// Every key with its section, and the names of the sections.
    fn keys() -> BTreeSet<String> {
        let inner = sections()
            .into_iter()
            .flat_map(|(section, keys, _)| keys.iter().map(move |key| format!("{section}.{key}")));
        let outer = keys_of::<Config>().iter().map(|key| (*key).to_owned());
        inner.chain(outer).collect()
    }

    #[test]
    fn every_synonym_leads_to_keys_and_is_none() {
        let keys = keys();
        let ends: BTreeSet<&str> = keys.iter().filter_map(|key| key.rsplit('.').next()).collect();
        let mut seen = BTreeSet::new();
        assert!(synonyms().len() > 50);
        for Synonym { keys: to, note, names } in synonyms() {
            for key in &to {
                assert!(keys.contains(*key), "{key} of {names:?} is no key");
            }
            assert!(!names.is_empty(), "{to:?}");
            assert!(!to.is_empty() || !note.is_empty(), "{names:?}");
            for name in names {
                let is_key = keys.contains(name) || (!name.contains('.') && ends.contains(name));
                assert!(!is_key, "{name} is a key");
                assert!(seen.insert(name), "{name} stands there twice");
                assert_eq!(plain(name), name, "it would never be found");
            }
        }
    }

    #[test]
    fn every_section_elsewhere_leads_to_one_here() {
        let mut seen = BTreeSet::new();
        for (to, names) in SECTIONS {
            assert!(sections().iter().any(|section| section.0 == to), "{to} is no section");
            for name in names.split(' ') {
                assert!(!keys().contains(name), "{name} is a key");
                assert!(seen.insert(name), "{name} stands there twice");
            }
        }
    }

    #[test]
    fn names_of_other_programs() {
        for (name, expected) in [
            ("train.lr", "there is train.learning_rate"),
            (
                "model.layers",
                "there are model.encoder_layers and model.decoder_layers",
            ),
            ("model.d_ff", "there is model.feed_forward"),
            ("data.dev", "there is data.valid"),
            ("maxGradNorm", "there is train.clip_norm"),
            (
                "--mini-batch-words",
                "there is data.batch_tokens; it counts tokens, padding included, not sentences",
            ),
            ("train.device", "say --device cpu, cuda or cuda:N on the command line"),
            ("train.early_stopping", "there is train.patience; it counts validations"),
        ] {
            assert_eq!(known_elsewhere(name).as_deref(), Some(expected), "{name}");
        }
        assert_eq!(known_elsewhere("train.banana"), None);
        // A name with a section counts in that section only.
        assert_eq!(known_elsewhere("score.early_stopping"), None);
        assert_eq!(section_elsewhere("Training"), Some("train"));
        assert_eq!(section_elsewhere("banana"), None);
    }
}
