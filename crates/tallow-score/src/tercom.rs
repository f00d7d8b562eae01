//! Preparation of lines for TER: the normalisations of Tercom, the program of TER's authors, as sacreBLEU applies them.

use crate::ter::Ter;
use crate::tokenize::{is_13a_punctuation, join_words, separate_stops_and_dashes, surround, unescape_entities};
use crate::whitespace::trim_end;

/// The words of `line` under the options of `ter`, one space between neighbours.
pub(crate) fn prepare(ter: &Ter, line: &str) -> String {
    let mut line = trim_end(line).to_string();
    if !ter.case_sensitive {
        line = line.to_lowercase();
    }
    if ter.normalized {
        line = normalize(&line);
        if ter.asian_support {
            line = surround(&line, |c| is_asian_token(c) || is_asian_punctuation(c));
        }
    }
    if ter.no_punct {
        line.retain(|c| !matches!(c, '.' | ',' | '?' | ':' | ';' | '!' | '"' | '(' | ')'));
        if ter.asian_support {
            line.retain(|c| !is_asian_punctuation(c));
        }
    }
    join_words(&line)
}

/// Joins lines, replaces entities, and splits off punctuation and the English possessive.
fn normalize(line: &str) -> String {
    let line = unescape_entities(&line.replace("\n-", "").replace('\n', " "));
    let line = surround(&format!(" {line} "), is_13a_punctuation);
    // The line ends in a space, so this also finds a possessive at its end.
    let line = line.replace("'s ", " 's ");
    separate_stops_and_dashes(&line)
}

/// The characters that become separate words: Chinese characters, their parts and compatibility forms, and characters
/// in circles or squares.
///
/// sacreBLEU also has rules for kana, but they match only a line that has nothing but kana. At that point every line
/// begins with a space, so kana is never split.
fn is_asian_token(c: char) -> bool {
    matches!(
        c,
        '\u{2E80}'..='\u{2EFF}'
            | '\u{31C0}'..='\u{31EF}'
            | '\u{3200}'..='\u{4DBF}'
            | '\u{4E00}'..='\u{9FFF}'
            | '\u{F900}'..='\u{FAFF}'
            | '\u{FE30}'..='\u{FE4F}'
    )
}

/// Ideographic and full-width punctuation.
fn is_asian_punctuation(c: char) -> bool {
    matches!(
        c,
        '\u{3001}' | '\u{3002}' | '\u{3008}'..='\u{3011}' | '\u{3014}'..='\u{301F}' | '\u{30FB}'
            | '\u{FF61}'..='\u{FF65}'
            | '\u{FF01}' | '\u{FF02}' | '\u{FF08}' | '\u{FF09}' | '\u{FF0C}' | '\u{FF0E}'
            | '\u{FF1A}' | '\u{FF1B}' | '\u{FF1F}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of the fixture `tokens`, under every combination of options.
    #[test]
    fn prepared_lines_are_those_of_sacrebleu() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/sacrebleu_scores.json.gz");
        let file = flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap());
        let fixture: serde_json::Value = serde_json::from_reader(file).unwrap();
        let cases = fixture["tokens"].as_array().unwrap();
        assert!(!cases.is_empty());
        for case in cases {
            let line = case["line"].as_str().unwrap();
            let expected = case["tercom"].as_array().unwrap();
            assert_eq!(expected.len(), 16);
            for (index, expected) in expected.iter().enumerate() {
                let [normalized, no_punct, asian_support, case_sensitive] = [8, 4, 2, 1].map(|bit| index & bit != 0);
                let ter = Ter {
                    normalized,
                    no_punct,
                    asian_support,
                    case_sensitive,
                };
                assert_eq!(prepare(&ter, line), expected.as_str().unwrap(), "{ter:?} of {line:?}");
            }
        }
    }
}
