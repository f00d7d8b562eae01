//! Needless white space: at the ends of a line, and spaces in a row.
//!
//! SentencePiece calls this `remove_extra_whitespaces`, and it removes only spaces. At the ends of a line, this module
//! also removes all other white space and characters without width.

use crate::pipeline::SPACE;
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::normalizers::replace::{Replace, ReplacePattern};

/// The characters removed at the ends of a line: Unicode's `White_Space` and characters without width.
const ENDS: &str = "\t\n\u{b}\u{c}\r \u{85}\u{a0}\u{1680}\u{2000}\u{2001}\u{2002}\u{2003}\u{2004}\u{2005}\u{2006}\
                    \u{2007}\u{2008}\u{2009}\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}\u{200b}\u{2060}\u{feff}";

/// A line without white space at its ends.
pub(crate) fn ends(line: &str) -> &str {
    line.trim_matches(|c: char| c.is_whitespace() || matches!(c, '\u{200b}' | '\u{2060}' | '\u{feff}'))
}

/// Whether a line may have white space at its ends that is removed.
pub(crate) fn has_ends(line: &str) -> bool {
    ends(line).len() != line.len() || line.ends_with(SPACE)
}

/// The steps of a `tokenizer.json` that remove white space.
///
/// # Errors
/// If the `tokenizers` library refuses a pattern; the patterns are constants, so it does not.
pub(crate) fn normalizers() -> tokenizers::Result<[NormalizerWrapper; 2]> {
    // At the end of a line SentencePiece does not tell spaces from the mark that stands for them.
    let at_ends = format!(r"\A[{ENDS}]+|[ {SPACE}]*[{ENDS}]+\z|[ {SPACE}]+\z");
    let at_ends = ReplacePattern::Regex(at_ends);
    let repeated = ReplacePattern::Regex(" {2,}".to_owned());
    Ok([Replace::new(at_ends, "")?.into(), Replace::new(repeated, " ")?.into()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenizers::{NormalizedString, Normalizer};

    #[test]
    fn the_list_is_complete() {
        for c in '\0'..=char::MAX {
            let is_listed = ENDS.contains(c);
            assert_eq!(ends(&format!("{c}a{c}")) == "a", is_listed, "{c:?}");
        }
    }

    #[test]
    fn both_ways_to_trim_are_one() {
        let steps = normalizers().unwrap();
        for (line, expected) in [
            ("", ""),
            ("a", "a"),
            ("  a  b \t", "a b"),
            ("\u{feff}\u{200b} \u{3000}a\tb\u{a0} c\u{a0}", "a\tb\u{a0} c"),
            (" \t\u{a0}\u{200b}", ""),
            ("\u{2581} a\u{2581} \t", "\u{2581} a"),
            ("a\t\u{2581}\t", "a\t"),
            ("\u{2581}", ""),
            ("é   \u{3000}  é", "é \u{3000} é"),
        ] {
            let mut text = NormalizedString::from(line);
            for step in &steps {
                step.normalize(&mut text).unwrap();
            }
            assert_eq!(text.get(), expected, "{line:?}");
        }
    }
}
