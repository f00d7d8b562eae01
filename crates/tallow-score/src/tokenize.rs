//! The tokenizations of BLEU.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use unicode_general_category::{GeneralCategory, get_general_category};

use crate::error::ScoreError;
use crate::whitespace::{is_whitespace, trim_end, words};

/// How BLEU cuts a line into tokens. The names are those of sacreBLEU, both in signatures and in configs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Tokenization {
    /// `13a`: the rules of NIST's `mteval-v13a.pl`, made for Western languages. ASCII punctuation is split off.
    /// Apostrophes, hyphens between letters, and full stops and commas between digits stay.
    #[default]
    #[serde(rename = "13a")]
    V13a,
    /// `intl`: the international rules of `mteval-v14.pl`. Unicode punctuation is split off except between numbers, and
    /// every symbol is a token.
    #[serde(rename = "intl")]
    International,
    /// `char`: every character that is not white space is a token.
    #[serde(rename = "char")]
    Character,
    /// `none`: the line is cut only at white space; for text that is already tokenized.
    #[serde(rename = "none")]
    None,
}

impl Tokenization {
    /// Every tokenization, in the order in which messages list them.
    pub const ALL: [Self; 4] = [Self::V13a, Self::International, Self::Character, Self::None];

    /// sacreBLEU's name: `13a`, `intl`, `char` or `none`.
    pub fn name(self) -> &'static str {
        match self {
            Self::V13a => "13a",
            Self::International => "intl",
            Self::Character => "char",
            Self::None => "none",
        }
    }

    /// The tokens of `line`, one space between neighbours.
    pub fn tokenize(self, line: &str) -> String {
        let line = trim_end(line);
        match self {
            Self::V13a => join_words(&tokenize_13a(line)),
            Self::International => join_words(&tokenize_international(line)),
            Self::Character => join_words(&surround(line, |c| !is_whitespace(c))),
            Self::None => join_words(line),
        }
    }
}

impl fmt::Display for Tokenization {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Tokenization {
    type Err = ScoreError;

    /// Reads sacreBLEU's name.
    ///
    /// # Errors
    /// If the name is not one of [`Tokenization::ALL`].
    fn from_str(name: &str) -> Result<Self, ScoreError> {
        let found = Self::ALL.into_iter().find(|tokenization| tokenization.name() == name);
        found.ok_or_else(|| ScoreError::UnknownTokenization { name: name.to_string() })
    }
}

fn tokenize_13a(line: &str) -> String {
    let line = line.replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    let line = format!(" {} ", unescape_entities(&line));
    let line = surround(&line, is_13a_punctuation);
    separate_stops_and_dashes(&line)
}

fn tokenize_international(line: &str) -> String {
    let line = separate_second(line, |c| !is_number(c), is_punctuation);
    let line = separate_first(&line, is_punctuation, |c| !is_number(c));
    surround(&line, is_symbol)
}

/// Replaces the four entities that the NIST and Tercom scripts know, one after another: `&amp;lt;` becomes `<`.
pub(crate) fn unescape_entities(line: &str) -> String {
    line.replace("&quot;", "\"")
        .replace("&amp;", "&")
        .replace("&lt;", "<")
        .replace("&gt;", ">")
}

/// The ASCII punctuation that is always a separate token (and the space): all but apostrophe, comma, hyphen and full
/// stop.
pub(crate) fn is_13a_punctuation(c: char) -> bool {
    matches!(c, ' '..='&' | '('..='+' | '/' | ':'..='@' | '['..='`' | '{'..='~')
}

/// Splits off full stops and commas with a digit on at most one side, and hyphens after a digit.
pub(crate) fn separate_stops_and_dashes(line: &str) -> String {
    let is_digit = |c: char| c.is_ascii_digit();
    let is_stop = |c: char| matches!(c, '.' | ',');
    let line = separate_second(line, |c| !is_digit(c), is_stop);
    let line = separate_first(&line, is_stop, |c| !is_digit(c));
    separate_second(&line, is_digit, |c| c == '-')
}

/// The words of `text`, one space between neighbours.
pub(crate) fn join_words(text: &str) -> String {
    let mut joined = String::with_capacity(text.len());
    for word in words(text) {
        if !joined.is_empty() {
            joined.push(' ');
        }
        joined.push_str(word);
    }
    joined
}

/// Puts a space on both sides of every character for which `chosen` is true.
pub(crate) fn surround(text: &str, chosen: impl Fn(char) -> bool) -> String {
    let mut spaced = String::with_capacity(2 * text.len());
    for c in text.chars() {
        if chosen(c) {
            spaced.extend([' ', c, ' ']);
        } else {
            spaced.push(c);
        }
    }
    spaced
}

/// Puts spaces around the second character of every pair of a `first` and a `second` one.
fn separate_second(text: &str, first: impl Fn(char) -> bool, second: impl Fn(char) -> bool) -> String {
    replace_pairs(text, first, second, |a, b| [a, ' ', b, ' '])
}

/// Puts spaces around the first character of every pair of a `first` and a `second` one.
fn separate_first(text: &str, first: impl Fn(char) -> bool, second: impl Fn(char) -> bool) -> String {
    replace_pairs(text, first, second, |a, b| [' ', a, ' ', b])
}

/// Replaces pairs of neighbours from left to right. Pairs do not overlap, as with a regular expression: the second
/// character of a pair cannot be the first of the next.
fn replace_pairs(
    text: &str,
    first: impl Fn(char) -> bool,
    second: impl Fn(char) -> bool,
    replace: impl Fn(char, char) -> [char; 4],
) -> String {
    let mut replaced = String::with_capacity(text.len() + text.len() / 2);
    let mut chars = text.chars().peekable();
    while let Some(a) = chars.next() {
        if first(a)
            && let Some(b) = chars.next_if(|&b| second(b))
        {
            replaced.extend(replace(a, b));
        } else {
            replaced.push(a);
        }
    }
    replaced
}

/// Unicode's categories N*.
fn is_number(c: char) -> bool {
    use GeneralCategory::{DecimalNumber, LetterNumber, OtherNumber};
    matches!(get_general_category(c), DecimalNumber | LetterNumber | OtherNumber)
}

/// Unicode's categories P*.
fn is_punctuation(c: char) -> bool {
    use GeneralCategory::{
        ClosePunctuation, ConnectorPunctuation, DashPunctuation, FinalPunctuation, InitialPunctuation, OpenPunctuation,
        OtherPunctuation,
    };
    matches!(
        get_general_category(c),
        ClosePunctuation
            | ConnectorPunctuation
            | DashPunctuation
            | FinalPunctuation
            | InitialPunctuation
            | OpenPunctuation
            | OtherPunctuation
    )
}

/// Unicode's categories S*.
fn is_symbol(c: char) -> bool {
    use GeneralCategory::{CurrencySymbol, MathSymbol, ModifierSymbol, OtherSymbol};
    matches!(
        get_general_category(c),
        CurrencySymbol | MathSymbol | ModifierSymbol | OtherSymbol
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for tokenization in Tokenization::ALL {
            assert_eq!(tokenization.to_string().parse(), Ok(tokenization));
            let quoted = format!("\"{tokenization}\"");
            assert_eq!(serde_json::to_string(&tokenization).unwrap(), quoted);
            assert_eq!(serde_json::from_str::<Tokenization>(&quoted).unwrap(), tokenization);
        }
        assert_eq!(
            "zh".parse::<Tokenization>().unwrap_err().to_string(),
            "unknown tokenization `zh`; choose 13a, intl, char or none"
        );
    }

    #[test]
    fn pairs_do_not_overlap() {
        assert_eq!(separate_second("a..b.", |_| true, |c| c == '.'), "a . .b . ");
        assert_eq!(separate_first("..a", |c| c == '.', |_| true), " . .a");
    }
}
