//! The layers of a config: values laid over values, and what is wrong with their keys.

use crate::config::{Config, sections};
use crate::keys::{keys_of, nearest};
use serde::Deserialize;
use toml::{Table, Value};

/// A value from the command line: TOML, or a string if it is no TOML.
pub(crate) fn parse_value(text: &str) -> Value {
    let parsed = toml::from_str::<Table>(&format!("value = {text}"))
        .ok()
        .and_then(|mut table| table.remove("value"));
    parsed.unwrap_or_else(|| Value::String(text.to_string()))
}

/// `section.key=value` into a table. The value is TOML; what is no TOML is taken as a string.
pub(crate) fn assign(table: &mut Table, assignment: &str) -> Result<(), String> {
    let Some((path, value)) = assignment.split_once('=') else {
        return Err(format!("--set {assignment}: write it as section.key=value"));
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
                    "--set {path}: {path} is set twice, once as a value and once as a section"
                ));
            };
            section.insert(key.to_string(), value);
        }
    }
    Ok(())
}

/// Lays one table over another; sections are merged, values replaced.
pub(crate) fn merge(below: &mut Table, above: &Table) {
    for (key, value) in above {
        match (below.get_mut(key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => merge(below, above),
            _ => {
                below.insert(key.clone(), value.clone());
            }
        }
    }
}

/// Unknown keys and values of the wrong type, each key checked by itself so that none hides another.
pub(crate) fn faults_of(table: &Table) -> Vec<String> {
    let mut faults = Vec::new();
    let known = keys_of::<Config>();
    let sections = sections();
    for (key, value) in table {
        let Some((name, keys, check)) = sections.iter().find(|section| section.0 == key) else {
            let single = Table::from_iter([(key.clone(), value.clone())]);
            if !known.contains(&key.as_str()) {
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
                faults.push(unknown(&format!("{name}.{inner}"), &qualified(name, keys)));
            } else if let Err(error) = check(Value::Table(Table::from_iter([(inner.clone(), value.clone())]))) {
                faults.push(format!("{name}.{inner}: {}", error.message()));
            }
        }
    }
    faults
}

fn qualified(section: &str, keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| format!("{section}.{key}")).collect()
}

/// The fault of a key that does not exist, with the nearest one that does, in its own section or another.
fn unknown<S: AsRef<str>>(key: &str, known: &[S]) -> String {
    let here: Vec<&str> = known.iter().map(AsRef::as_ref).collect();
    let name = key.rsplit('.').next().unwrap_or(key);
    let elsewhere: Vec<String> = sections()
        .iter()
        .filter(|section| section.1.contains(&name))
        .map(|s| format!("{}.{name}", s.0))
        .collect();
    let suggestion = match (elsewhere.first(), nearest(key, &here)) {
        (Some(found), _) => format!("; there is {found}"),
        (None, Some(found)) => format!("; did you mean {found}?"),
        (None, None) => "; FORMAT.md lists all keys".into(),
    };
    format!("{key}: unknown key{suggestion}")
}
