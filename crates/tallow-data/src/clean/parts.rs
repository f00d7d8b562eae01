//! Parts of a line that a translation keeps: addresses, placeholders, markup and numbers.

use crate::kept_parts::{link, placeholder};

/// What stands in a line, each in order of size so that two lists can be compared.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    /// Web and e-mail addresses.
    pub(super) links: Vec<String>,
    /// Placeholders and tags.
    pub(super) placeholders: Vec<String>,
    /// Numbers of two or more digits, without separators.
    pub(super) numbers: Vec<String>,
    /// The line without addresses, placeholders and tags.
    pub(super) text: String,
}

impl Parts {
    pub(super) fn of(line: &str) -> Self {
        let mut parts = Self::default();
        let mut rest = line;
        while let Some(c) = rest.chars().next() {
            let begins_word = parts
                .text
                .chars()
                .next_back()
                .is_none_or(|before| !before.is_alphanumeric());
            if begins_word && let Some(length) = link(rest) {
                parts.links.push(rest[..length].to_lowercase());
                rest = &rest[length..];
            } else if let Some(length) = placeholder(rest) {
                parts.placeholders.push(without_position(&rest[..length]));
                rest = &rest[length..];
            } else {
                parts.text.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
        parts.numbers = numbers(&parts.text);
        parts.links.sort_unstable();
        parts.placeholders.sort_unstable();
        parts.numbers.sort_unstable();
        parts
    }
}

/// A conversion without its position: translations that change the order write `%2$s` for `%s`.
fn without_position(placeholder: &str) -> String {
    match placeholder.split_once('$') {
        Some((position, rest)) if position.starts_with('%') => format!("%{rest}"),
        _ => placeholder.to_owned(),
    }
}

/// The numbers of two or more digits, without separators between digits.
fn numbers(text: &str) -> Vec<String> {
    let mut numbers = Vec::new();
    let mut number = String::new();
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        if c.is_ascii_digit() {
            number.push(c);
            continue;
        }
        let goes_on = matches!(c, '.' | ',' | '\'' | '’' | '\u{a0}' | '\u{202f}')
            && characters.peek().is_some_and(char::is_ascii_digit);
        if !goes_on || number.is_empty() {
            numbers.push(std::mem::take(&mut number));
        }
    }
    numbers.push(number);
    numbers.retain(|number| number.len() >= 2);
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_lines() {
        let parts =
            Parts::of("See <a href=\"x\">https://Example.org/a?b=1.</a> or mail me@x-y.org, 1,234.5 of 7 files!");
        assert_eq!(parts.links, ["https://example.org/a?b=1", "me@x-y.org"]);
        assert_eq!(parts.placeholders, ["</a>", "<a href=\"x\">"]);
        assert_eq!(parts.numbers, ["12345"]);
        assert_eq!(parts.text, "See . or mail , 1,234.5 of 7 files!");
        let placeholders = |line: &str| Parts::of(line).placeholders.join(" ");
        assert_eq!(
            placeholders("%s of %1$d, %-5.2f%% (%(name)s) %1 {0} {a.b} ${HOME} %lu"),
            "${HOME} %% %(name)s %-5.2f %1 %d %lu %s {0} {a.b}"
        );
        for text in [
            "100 % der",
            "50%.",
            "a < b > c",
            "{ not this }",
            "x {}",
            "<none>",
            "<Invalid>",
            "<Select a folder>",
            "5 %",
            "a@b",
            "3 @ 5.x",
            "% s",
        ] {
            let parts = Parts::of(text);
            assert_eq!((parts.placeholders.len(), parts.links.len()), (0, 0), "{text}");
        }
        assert_eq!(
            Parts::of("10 000 and 1’000, 20.12.2020").numbers,
            ["000", "10", "1000", "20122020"]
        );
    }
}
