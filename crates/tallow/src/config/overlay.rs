//! The layers of a config: how values are laid over others, and faults of their keys.

use super::keys::{keys_of, nearest};
use super::synonyms::{known_elsewhere, section_elsewhere};
use super::{Config, sections, top_level_keys};
use serde::Deserialize;
use toml::{Table, Value};

/// A value from the command line: TOML, or a string if it is not valid TOML.
pub fn parse_value(text: &str) -> Value {
    let parsed = toml::from_str::<Table>(&format!("value = {text}"))
        .ok()
        .and_then(|mut table| table.remove("value"));
    parsed.unwrap_or_else(|| Value::String(text.to_string()))
}

/// The beginning of the faults of assignments, `section.key=value`, which tells them from those of the file.
pub const ASSIGNMENT: &str = "assignment ";

/// Puts `section.key=value` into a table. A value that is not valid TOML becomes a string.
pub(super) fn assign(table: &mut Table, assignment: &str) -> Result<(), String> {
    let Some((path, value)) = assignment.split_once('=') else {
        return Err(format!("{ASSIGNMENT}{assignment}: write it as section.key=value"));
    };
    let (path, value) = (path.trim(), value.trim());
    let value = parse_value(value);
    match path.split_once('.') {
        None => {
            table.insert(path.to_string(), value);
        }
        Some((section, key)) => {
            let section = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
            let Value::Table(section) = section else {
                return Err(format!(
                    "{ASSIGNMENT}{path}: {path} is set twice, once as a value and once as a section"
                ));
            };
            section.insert(key.to_string(), value);
        }
    }
    Ok(())
}

/// Lays one table over another: sections are merged, values replaced.
pub(super) fn merge(below: &mut Table, above: &Table) {
    for (key, value) in above {
        match (below.get_mut(key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => merge(below, above),
            _ => {
                below.insert(key.clone(), value.clone());
            }
        }
    }
}

/// Unknown keys and values of the wrong type. Each key is checked by itself, so that no fault hides another.
pub(super) fn faults_of(table: &Table) -> Vec<String> {
    let mut faults = Vec::new();
    let known = keys_of::<Config>();
    let sections = sections();
    for (key, value) in table {
        let Some((name, keys, check)) = sections.iter().find(|section| section.0 == key) else {
            let single = Table::from_iter([(key.clone(), value.clone())]);
            if let (Value::Table(section), false) = (value, known.contains(&key.as_str())) {
                faults.extend(unknown_section(key, section));
            } else if !known.contains(&key.as_str()) {
                faults.push(unknown(key, known));
            } else if let Err(error) = Config::deserialize(Value::Table(single)) {
                faults.push(format!("{key}: {}", error.message()));
            }
            continue;
        };
        let Value::Table(section) = value else {
            faults.push(format!("{name}: must be a section, [{name}], not a value"));
            continue;
        };
        for (inner, value) in section {
            if !keys.contains(&inner.as_str()) {
                faults.push(unknown_in(name, inner, keys));
            } else if let Err(error) = check(Value::Table(Table::from_iter([(inner.clone(), value.clone())]))) {
                faults.push(format!("{name}.{inner}: {}", error.message()));
            }
        }
    }
    faults
}

/// The fault of a key that is not in its section, with a suggestion.
fn unknown_in(section: &str, key: &str, keys: &[&str]) -> String {
    unknown(&format!("{section}.{key}"), &qualified(section, keys))
}

/// The fault of an unknown key, for a place where only keys of this section can be set. A suggestion from elsewhere
/// says so.
pub fn unknown_where_only(section: &str, key: &str, keys: &[&str]) -> String {
    let fault = unknown_in(section, key, keys);
    let suggestion = fault
        .rsplit_once("unknown key; ")
        .map_or("", |(_, suggestion)| suggestion);
    // Notes and mistyped keys of the section say enough.
    if suggestion.starts_with("there ") && !suggestion.contains(&format!("{section}.")) {
        return format!("{fault}, but only keys of [{section}] can be set here");
    }
    fault
}

fn qualified(section: &str, keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| format!("{section}.{key}")).collect()
}

/// The faults of a section that does not exist: the section itself, and those of its keys that are also missing in the
/// section that was probably meant.
fn unknown_section(name: &str, section: &Table) -> Vec<String> {
    let sections = sections();
    let names: Vec<&str> = sections.iter().map(|section| section.0).collect();
    let meant = section_elsewhere(name).or_else(|| nearest(name, &names));
    let Some((meant, keys, _)) = sections.iter().find(|section| Some(section.0) == meant) else {
        return vec![format!("{name}: unknown key; the sections are {}", names.join(", "))];
    };
    let foreign = section.keys().filter(|key| !keys.contains(&key.as_str()));
    let of_keys = foreign.map(|key| unknown(&format!("{name}.{key}"), &qualified(meant, keys)));
    std::iter::once(format!("{name}: unknown key; did you mean {meant}?"))
        .chain(of_keys)
        .collect()
}

/// The fault of a key that does not exist, with a suggestion: a key of this name in another section, the key for a name
/// from another program, or the nearest possible key.
fn unknown<S: AsRef<str>>(key: &str, known: &[S]) -> String {
    let name = key.rsplit('.').next().unwrap_or(key);
    let here: Vec<&str> = known.iter().map(AsRef::as_ref).collect();
    // Several sections may have a key of this name.
    let mut elsewhere: Vec<String> = sections()
        .iter()
        .filter(|section| section.1.contains(&name))
        .map(|section| format!("{}.{name}", section.0))
        .collect();
    elsewhere.extend(top_level_keys().contains(&name).then(|| name.to_owned()));
    let named_alike = match elsewhere.as_slice() {
        [] => None,
        [one] => Some(format!("there is {one}")),
        several => Some(format!("there are {}", several.join(" and "))),
    };
    // Compares without the section: a section in both names does not make them more alike.
    let own = |known: &str| known.rsplit('.').next().unwrap_or(known).to_owned();
    let names: Vec<String> = here.iter().map(|known| own(known)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let closest = nearest(name, &names).and_then(|found| here.iter().find(|known| own(known) == found));
    let suggestion = known_elsewhere(key)
        .or(named_alike)
        .or_else(|| closest.map(|found| format!("did you mean {found}?")))
        .unwrap_or_else(|| "FORMAT.md lists all keys".into());
    format!("{key}: unknown key; {suggestion}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<String> {
        faults_of(&toml::from_str(text).unwrap())
    }

    #[test]
    fn what_a_key_may_be() {
        for (key, suggestion) in [
            // Keys that belong to another section, or to none.
            (
                "[train]\ndropout = 0.1",
                "train.dropout: unknown key; there is model.dropout",
            ),
            ("heads = 4", "heads: unknown key; there is model.heads"),
            ("[train]\nseed = 4", "train.seed: unknown key; there is seed"),
            (
                "[train]\nbatch_tokens = 4",
                "train.batch_tokens: unknown key; there are data.batch_tokens and decode.batch_tokens",
            ),
            // Keys of other programs.
            ("[train]\nlr = 1", "train.lr: unknown key; there is train.learning_rate"),
            (
                "[model]\nlayers = 6",
                "model.layers: unknown key; there are model.encoder_layers and model.decoder_layers",
            ),
            (
                "[model]\nd_ff = 6",
                "model.d_ff: unknown key; there is model.feed_forward",
            ),
            ("[data]\ndev = 6", "data.dev: unknown key; there is data.valid"),
            (
                "epochs = 6",
                "epochs: unknown key; there is train.max_epochs; training ends after train.max_updates, too",
            ),
            (
                "[train]\nbatch_size = 6",
                "train.batch_size: unknown key; there is data.batch_tokens; it counts tokens, padding included, not sentences",
            ),
            (
                "[train]\ndevice = 6",
                "train.device: unknown key; say --device cpu, cuda or cuda:N on the command line",
            ),
            // Mistyped keys.
            (
                "[train]\npatence = 6",
                "train.patence: unknown key; did you mean train.patience?",
            ),
            (
                "[decode]\nbean = 6",
                "decode.bean: unknown key; did you mean decode.beam?",
            ),
            // The name of its section brings no key closer.
            (
                "[train]\nbanana = 6",
                "train.banana: unknown key; FORMAT.md lists all keys",
            ),
            ("[decode]\nx = 6", "decode.x: unknown key; FORMAT.md lists all keys"),
        ] {
            assert_eq!(faults(key), [suggestion], "{key}");
        }
    }

    #[test]
    fn a_place_for_one_section() {
        for (key, expected) in [
            (
                "lr",
                "there is train.learning_rate, but only keys of [decode] can be set here",
            ),
            ("seed", "there is seed, but only keys of [decode] can be set here"),
            (
                "d_model",
                "there is model.d_model, but only keys of [decode] can be set here",
            ),
            (
                "num_beams",
                "there is decode.beam; train.valid_beam is that of validations",
            ),
            ("bean", "did you mean decode.beam?"),
            ("x", "FORMAT.md lists all keys"),
        ] {
            assert_eq!(
                unknown_where_only("decode", key, &["beam"]),
                format!("decode.{key}: unknown key; {expected}")
            );
        }
    }

    /// All faults are reported at once: nobody wants to correct a config line by line.
    #[test]
    fn a_section_of_another_program() {
        assert_eq!(
            faults("[training]\nlr = 1\npatience = 3\nepochs = 2"),
            [
                "training: unknown key; did you mean train?",
                "training.lr: unknown key; there is train.learning_rate",
                "training.epochs: unknown key; there is train.max_epochs; training ends after train.max_updates, too",
            ]
        );
        assert_eq!(
            faults("[modle]\nheads = 1"),
            ["modle: unknown key; did you mean model?"]
        );
        assert_eq!(
            faults("[banana]\nheads = 1"),
            ["banana: unknown key; the sections are text, data, model, train, decode, score, card"]
        );
    }
}
