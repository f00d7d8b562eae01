//! Pieces that the user names and that are never cut: `text.symbols`.

use std::borrow::Cow;
use std::collections::HashSet;

use crate::pipeline::{BRACKET, SPACE};
use crate::sentencepiece::Trie;
use crate::special;

/// The longest symbol, in bytes.
const LONGEST: usize = 256;

/// A character that no piece has. It separates two stretches of text, as a symbol does.
pub(crate) const NUL: char = '\0';

/// The faults of a list of symbols; each message begins with the key.
pub(crate) fn faults(symbols: &[String]) -> Vec<String> {
    let mut seen = HashSet::new();
    symbols.iter().filter_map(|symbol| fault(symbol, &mut seen)).collect()
}

fn fault<'a>(symbol: &'a str, seen: &mut HashSet<&'a str>) -> Option<String> {
    let has = |is: &dyn Fn(char) -> bool| symbol.contains(is);
    let reason = if symbol.is_empty() {
        "is empty"
    } else if has(&char::is_whitespace) || symbol.contains(SPACE) {
        "has white space; a symbol is cut from the text beside it without any"
    } else if has(&char::is_control) {
        "has a control character"
    } else if symbol.len() > LONGEST {
        "is too long"
    } else if special::is_reserved(symbol) || symbol == BRACKET.to_string() {
        "has a meaning of its own in every vocabulary"
    } else if !seen.insert(symbol) {
        "stands there twice"
    } else {
        return None;
    };
    Some(format!("text.symbols: {symbol:?} {reason}"))
}

/// Finds symbols in text.
pub(crate) struct Symbols(Option<Trie>);

impl Symbols {
    pub(crate) fn new(symbols: &[String]) -> Self {
        let entries = symbols.iter().map(|symbol| (symbol.as_str(), 0));
        Self((!symbols.is_empty()).then(|| Trie::new(entries)))
    }

    /// The line with [`NUL`] in place of every symbol. Of several symbols that begin at one place, the longest is
    /// taken.
    pub(crate) fn part<'a>(&self, line: &'a str) -> Cow<'a, str> {
        let Some(trie) = &self.0 else { return line.into() };
        let mut parted = String::with_capacity(line.len());
        let mut rest = line;
        while let Some(character) = rest.chars().next() {
            let (character, length) = match trie.longest(rest) {
                Some((length, _)) => (NUL, length),
                None => (character, character.len_utf8()),
            };
            parted.push(character);
            rest = &rest[length..];
        }
        parted.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(symbols: &[&str]) -> Vec<String> {
        symbols.iter().map(|&symbol| symbol.to_owned()).collect()
    }

    #[test]
    fn the_longest_symbol_is_found() {
        let symbols = Symbols::new(&owned(&["<sep>", "<sep><sep>", "灯"]));
        assert_eq!(symbols.part("a<sep>b<sep><sep><sep>灯 <se"), "a\0b\0\0\0 <se");
        assert_eq!(Symbols::new(&[]).part("a<sep>"), "a<sep>");
    }

    #[test]
    fn bad_symbols_are_named() {
        assert_eq!(
            faults(&owned(&["<sep>", ">>deu<<", "{name}", "灯"])),
            Vec::<String>::new()
        );
        let bad = [
            "",
            "a b",
            "a\u{2581}b",
            "a\u{7}",
            "</s>",
            "<0x41>",
            "<extra3>",
            "<",
            "<sep>",
            "<sep>",
        ];
        let long = "x".repeat(300);
        let found = faults(&owned(&[&bad[..], &[&long]].concat()));
        assert_eq!(found.len(), bad.len(), "{found:?}");
        assert!(
            found.iter().all(|fault| fault.starts_with("text.symbols: \"")),
            "{found:?}"
        );
    }
}
