//! The tokenizations of BLEU.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use tallow_text::SentencePieceModel;
use unicode_general_category::{GeneralCategory, get_general_category};

use crate::error::ScoreError;
use crate::sentencepiece::SentencePieceFile;
use crate::whitespace::{is_whitespace, trim_end, words};

/// How BLEU cuts a line into tokens. The names are those of sacreBLEU, both in signatures and in configs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tokenization {
    /// `13a`: the rules of NIST's `mteval-v13a.pl`, made for Western languages. ASCII punctuation is split off.
    /// Apostrophes, hyphens between letters, and full stops and commas between digits stay.
    #[default]
    V13a,
    /// `intl`: the international rules of `mteval-v14.pl`. Unicode punctuation is split off except between numbers, and
    /// every symbol is a token.
    International,
    /// `zh`: every Chinese character and full-width form is a token; the rest is cut by the rules for punctuation of
    /// `13a`.
    Chinese,
    /// `char`: every character that is not white space is a token.
    Character,
    /// `flores200`: the pieces of the SentencePiece model of FLORES-200, for any language (spBLEU). It needs the file
    /// of the model: [`Bleu::sentencepiece`](crate::Bleu::sentencepiece).
    Flores200,
    /// `flores101`, also called `spm`: the same with the model of FLORES-101.
    Flores101,
    /// `none`: the line is cut only at white space; for text that is already tokenized.
    None,
}

/// The tokenizations of sacreBLEU for which lines are cut by MeCab. No analyser in Rust reads the compiled dictionaries
/// that sacreBLEU takes, cuts every line as MeCab does, and survives a damaged file.
const MECAB: [&str; 2] = ["ja-mecab", "ko-mecab"];

impl Tokenization {
    /// Every tokenization, in the order in which messages list them.
    pub const ALL: [Self; 7] = [
        Self::V13a,
        Self::International,
        Self::Chinese,
        Self::Character,
        Self::Flores200,
        Self::Flores101,
        Self::None,
    ];

    /// sacreBLEU's name, such as `13a`. It is also what sacreBLEU's signatures say.
    pub fn name(self) -> &'static str {
        match self {
            Self::V13a => "13a",
            Self::International => "intl",
            Self::Chinese => "zh",
            Self::Character => "char",
            Self::Flores200 => "flores200",
            Self::Flores101 => "flores101",
            Self::None => "none",
        }
    }

    /// A description in a few words, for a list of tokenizations.
    pub fn about(self) -> &'static str {
        match self {
            Self::V13a => "Western languages",
            Self::International => "Any language with spaces, by Unicode's punctuation and symbols",
            Self::Chinese => "Chinese",
            Self::Character => "Every character is a token",
            Self::Flores200 => "Pieces of the SentencePiece model of FLORES-200, for any language",
            Self::Flores101 => "Pieces of the SentencePiece model of FLORES-101; also called spm",
            Self::None => "Text that is tokenized already",
        }
    }

    /// Whether lines are cut by a SentencePiece model, whose file must be named.
    pub fn needs_sentencepiece(self) -> bool {
        matches!(self.way(), Way::Pieces(_))
    }

    fn way(self) -> Way {
        match self {
            Self::V13a => Way::Fixed(tokenize_13a),
            Self::International => Way::Fixed(tokenize_international),
            Self::Chinese => Way::Fixed(tokenize_chinese),
            Self::Character => Way::Fixed(tokenize_characters),
            Self::None => Way::Fixed(str::to_owned),
            Self::Flores200 => Way::Pieces(Fetched {
                file: "flores200_sacrebleu_tokenizer_spm.model",
                kept_as: "flores200sacrebleuspm",
                address: "https://tinyurl.com/flores200sacrebleuspm",
            }),
            Self::Flores101 => Way::Pieces(Fetched {
                file: "sacrebleu_tokenizer_spm.model",
                kept_as: "sacrebleu_tokenizer_spm.model",
                address: "https://dl.fbaipublicfiles.com/fairseq/models/flores/sacrebleu_tokenizer_spm.model",
            }),
        }
    }

    /// What is wrong with a SentencePiece model being named, or not.
    pub(crate) fn fault_of_sentencepiece(self, is_named: bool) -> Option<String> {
        match (self.way(), is_named) {
            (Way::Pieces(model), false) => Some(format!(
                "{SENTENCEPIECE}: {self} needs the file of its SentencePiece model; {model}"
            )),
            (Way::Fixed(_), true) => Some(format!(
                "{SENTENCEPIECE}: {self} does not use a SentencePiece model; remove the key, or choose flores200 or \
                 flores101"
            )),
            _ => None,
        }
    }

    /// Prepares to cut lines. This reads the file of a SentencePiece model, unless that has been read.
    ///
    /// # Errors
    /// If the file is missing although it is needed, is named although it is not, or cannot be used.
    pub(crate) fn open(
        self,
        sentencepiece: Option<&SentencePieceFile>,
        lowercase: bool,
    ) -> Result<BleuTokenizer, ScoreError> {
        let rules = match (self.way(), sentencepiece) {
            (Way::Fixed(rules), None) => Rules::Fixed(rules),
            (Way::Pieces(model), Some(file)) => {
                let unusable = |reason| ScoreError::SentencePiece {
                    reason,
                    way_out: model.to_string(),
                };
                Rules::Pieces(file.open().map_err(unusable)?)
            }
            (_, named) => {
                let faults = self.fault_of_sentencepiece(named.is_some()).into_iter().collect();
                return Err(ScoreError::Options { faults });
            }
        };
        Ok(BleuTokenizer { rules, lowercase })
    }
}

/// The way in which a tokenization cuts lines.
enum Way {
    /// By rules that are part of this crate.
    Fixed(fn(&str) -> String),
    /// By a SentencePiece model, which is not.
    Pieces(Fetched),
}

/// The key of the file with a SentencePiece model, as messages name it.
const SENTENCEPIECE: &str = "score.sentencepiece";

/// A SentencePiece model that sacreBLEU fetches by itself.
struct Fetched {
    /// The usual name of the file.
    file: &'static str,
    /// Its name in the folder where sacreBLEU keeps what it has fetched.
    kept_as: &'static str,
    address: &'static str,
}

/// Says where to get the file.
impl fmt::Display for Fetched {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, kept_as, address } = self;
        write!(
            formatter,
            "set {SENTENCEPIECE} to the path of {file}, from {address}; sacreBLEU keeps it as \
             ~/.sacrebleu/models/{kept_as}"
        )
    }
}

/// A tokenization that is ready to cut lines as the options of a BLEU say: [`Bleu::tokenizer`](crate::Bleu::tokenizer).
/// Copies share what was read from files.
#[derive(Clone, Debug)]
pub struct BleuTokenizer {
    rules: Rules,
    lowercase: bool,
}

#[derive(Clone, Debug)]
enum Rules {
    Fixed(fn(&str) -> String),
    Pieces(Arc<SentencePieceModel>),
}

impl BleuTokenizer {
    /// The tokens of `line`, one space between neighbours.
    pub fn tokenize(&self, line: &str) -> String {
        let lowered = self.lowercase.then(|| line.to_lowercase());
        let line = trim_end(lowered.as_deref().unwrap_or(line));
        // White space inside a piece separates tokens, too: sacreBLEU splits the line that it has joined.
        join_words(&match &self.rules {
            Rules::Fixed(rules) => rules(line),
            Rules::Pieces(model) => model.pieces(line).join(" "),
        })
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
    /// If the name is neither one of [`Tokenization::ALL`] nor `spm`.
    fn from_str(name: &str) -> Result<Self, ScoreError> {
        let asked = match name {
            "spm" => Self::Flores101.name(),
            name => name,
        };
        let name = name.to_owned();
        match Self::ALL.into_iter().find(|tokenization| tokenization.name() == asked) {
            Some(found) => Ok(found),
            None if MECAB.contains(&asked) => Err(ScoreError::NoMecab { name }),
            None => Err(ScoreError::UnknownTokenization { name }),
        }
    }
}

impl Serialize for Tokenization {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Tokenization {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
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

fn tokenize_characters(line: &str) -> String {
    surround(line, |c| !is_whitespace(c))
}

/// Unlike `13a`, this leaves entities as they are, and has no space around the line: `.5` at its beginning stays.
fn tokenize_chinese(line: &str) -> String {
    let line = surround(line.trim_start_matches(is_whitespace), is_chinese);
    separate_stops_and_dashes(&surround(&line, is_13a_punctuation))
}

/// The characters that are always tokens in Chinese text. These are sacreBLEU's, which are not quite those of its
/// comments. Two ranges for the planes beyond U+FFFF are spelled with four digits in Python, and so mean U+2001..U+2A6D
/// (punctuation, arrows, mathematics) and a part of the Kangxi radicals. Ideographs beyond U+FFFF are not separated.
fn is_chinese(c: char) -> bool {
    matches!(
        c,
        '\u{2001}'..='\u{2a6d}'
            | '\u{2e80}'..='\u{2fdf}'
            | '\u{2ff0}'..='\u{303f}'
            | '\u{3100}'..='\u{312f}'
            | '\u{31a0}'..='\u{31ef}'
            | '\u{3200}'..='\u{4db5}'
            | '\u{4e00}'..='\u{9fbb}'
            | '\u{f900}'..='\u{fa2d}'
            | '\u{fa30}'..='\u{fa6a}'
            | '\u{fa70}'..='\u{fad9}'
            | '\u{fe10}'..='\u{fe1f}'
            | '\u{fe30}'..='\u{fe4f}'
            | '\u{ff00}'..='\u{ffef}'
    )
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
        assert_eq!("spm".parse(), Ok(Tokenization::Flores101));
        assert_eq!(
            "v14".parse::<Tokenization>().unwrap_err().to_string(),
            "unknown tokenization `v14`; choose 13a, intl, zh, char, flores200, flores101 or none"
        );
    }

    /// sacreBLEU has them, so a message about an unknown name would send people searching for a typing error.
    #[test]
    fn names_that_need_mecab_are_refused_with_the_reason() {
        for name in MECAB {
            let error = serde_json::from_str::<Tokenization>(&format!("\"{name}\""))
                .unwrap_err()
                .to_string();
            for part in [name, "MeCab", "char", "flores200", "sacreBLEU itself"] {
                assert!(error.contains(part), "{part}: {error}");
            }
            assert!(!error.contains("unknown"), "{error}");
        }
    }

    #[test]
    fn pairs_do_not_overlap() {
        assert_eq!(separate_second("a..b.", |_| true, |c| c == '.'), "a . .b . ");
        assert_eq!(separate_first("..a", |c| c == '.', |_| true), " . .a");
    }
}
