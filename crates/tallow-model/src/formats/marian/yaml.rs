//! The part of YAML in which Marian writes its options: names, each with a value or a list of values.

use std::collections::BTreeMap;

/// The value of a name.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    One(String),
    List(Vec<String>),
}

/// Reads the names in a text and their values. Deeper nesting is skipped.
///
/// # Errors
/// A line that fits none of these forms.
pub(super) fn parse(text: &str) -> Result<BTreeMap<String, Value>, String> {
    let mut found: BTreeMap<String, Value> = BTreeMap::new();
    // The name whose list of values follows.
    let mut open: Option<String> = None;
    for (line, number) in text.lines().zip(1..) {
        let content = line.trim();
        if content.is_empty() || content.starts_with('#') || content == "---" || content == "..." {
            continue;
        }
        let is_item = content == "-" || content.starts_with("- ");
        if is_item || content.starts_with('[') {
            let name = open
                .as_ref()
                .ok_or_else(|| format!("line {number}: a list without a name"))?;
            match (found.get_mut(name), content.strip_prefix('-')) {
                (Some(Value::List(items)), Some(item)) => items.push(scalar(item)),
                (Some(Value::List(items)), None) => items.extend(flow(content)),
                _ => {}
            }
            continue;
        }
        if line.starts_with([' ', '\t']) {
            continue;
        }
        let (name, value) = content
            .split_once(':')
            .filter(|(_, value)| value.is_empty() || value.starts_with(' '))
            .ok_or_else(|| format!("line {number}: neither a name with its value nor a part of a list"))?;
        let value = value.trim();
        let value = match value {
            "" => Value::List(Vec::new()),
            list if list.starts_with('[') => Value::List(flow(list)),
            value => Value::One(scalar(value)),
        };
        let name = scalar(name);
        open = Some(name.clone());
        found.insert(name, value);
    }
    Ok(found)
}

/// The items of a list in brackets.
fn flow(list: &str) -> Vec<String> {
    let items = list.trim_start_matches('[').trim_end_matches(']');
    let items = items.split(',').map(str::trim).filter(|item| !item.is_empty());
    items.map(scalar).collect()
}

/// A value without its quotes or the comment after it.
fn scalar(text: &str) -> String {
    let text = text.trim();
    let inside = |quote: char| text.strip_prefix(quote)?.rsplit_once(quote);
    if let Some((inside, _)) = inside('"') {
        inside.replace("\\\"", "\"").replace("\\\\", "\\")
    } else if let Some((inside, _)) = inside('\'') {
        inside.replace("''", "'")
    } else {
        text.split(" #").next().unwrap_or_default().trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_marian_writes() {
        let text = "dim-emb: 32\ndim-vocabs:\n  - 120\n  - 90\ninput-types:\n  []\ntied: [1, 1]\ntop: \"\"\npost: 'dan'\n\
                    nested:\n  inner: 1\nname: a b # why\nvocabs:\n- x.spm\n- \"y \\\"z\\\".spm\"\n";
        let found = parse(text).unwrap();
        let one = |text: &str| Value::One(text.to_owned());
        let list = |items: &[&str]| Value::List(items.iter().map(|item| (*item).to_owned()).collect());
        let expected = [
            ("dim-emb", one("32")),
            ("dim-vocabs", list(&["120", "90"])),
            ("input-types", list(&[])),
            ("name", one("a b")),
            ("nested", list(&[])),
            ("post", one("dan")),
            ("tied", list(&["1", "1"])),
            ("top", one("")),
            ("vocabs", list(&["x.spm", "y \"z\".spm"])),
        ];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value)).into());
    }

    #[test]
    fn other_texts_are_refused() {
        assert!(parse("a: 1\nwords\n").unwrap_err().contains("line 2"));
        assert!(parse("- 1\n").unwrap_err().contains("without a name"));
        assert_eq!(parse("").unwrap(), BTreeMap::new());
    }
}
