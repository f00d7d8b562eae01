//! Language tags: `>>code<<` at the beginning of a line tells a multilingual model which language to translate into.

/// The start of a tag.
const OPEN: &str = ">>";
/// The end of a tag.
const CLOSE: &str = "<<";
/// The longest code, in bytes, that learning accepts as a tag.
const LONGEST_CODE: usize = 32;

/// Splits a line into the tag at its beginning and the rest. The tag goes from `>>` to the first `<<`, as in the
/// `MarianTokenizer` of transformers 5.
pub(crate) fn split(line: &str) -> Option<(&str, &str)> {
    let end = line.starts_with(OPEN).then(|| line.find(CLOSE)).flatten()?;
    Some(line.split_at(end + CLOSE.len()))
}

/// The tag at the beginning of a line, if it looks like one that a person wrote: its code consists of letters, digits,
/// `_`, `-` and `@`.
pub fn written(line: &str) -> Option<&str> {
    let (tag, _) = split(line)?;
    let code = tag.strip_prefix(OPEN)?.strip_suffix(CLOSE)?;
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '@');
    (!code.is_empty() && code.len() <= LONGEST_CODE && code.chars().all(is_plain)).then_some(tag)
}

/// Whether a piece is a tag.
pub(crate) fn is_tag(piece: &str) -> bool {
    piece.len() > OPEN.len() + CLOSE.len() && piece.starts_with(OPEN) && piece.ends_with(CLOSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_end_at_the_first_closing_bracket() {
        assert_eq!(split(">>deu<< a << b"), Some((">>deu<<", " a << b")));
        assert_eq!(split(">>deu<<"), Some((">>deu<<", "")));
        for line in ["", "a >>deu<< b", ">>deu", " >>deu<< a", "> >deu<<"] {
            assert_eq!(split(line), None, "{line}");
        }
    }

    #[test]
    fn written_tags_are_codes() {
        for tag in [">>deu<<", ">>pt_BR<<", ">>zh-Hans<<", ">>sr@latin<<"] {
            assert_eq!(written(&format!("{tag} a")), Some(tag));
            assert!(is_tag(tag));
        }
        for line in [">>> 1 << 2", ">><<", ">>a b<< c", ">>x << y"] {
            assert_eq!(written(line), None, "{line}");
        }
        assert!(!is_tag(">><<") && !is_tag("<<a>>") && !is_tag("x>>a<<"));
    }
}
