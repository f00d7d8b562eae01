//! White space as in Python's strings, because sacreBLEU splits and strips with `str.split` and `str.rstrip`.

/// Whether Python's `str.isspace` is true for `c`: Unicode's `White_Space` and the four information separators
/// U+001C..=U+001F. The zero-width characters (U+200B, U+FEFF, ...) are not white space.
pub(crate) fn is_whitespace(c: char) -> bool {
    c.is_whitespace() || ('\u{1C}'..='\u{1F}').contains(&c)
}

/// The words of `text` as in Python's `text.split()`: maximal runs of other characters, never empty.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_whitespace).filter(|word| !word.is_empty())
}

/// `text` without white space at its end, as in Python's `text.rstrip()`.
pub(crate) fn trim_end(text: &str) -> &str {
    text.trim_end_matches(is_whitespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `[c for c in map(chr, range(0x110000)) if c.isspace()]` of Python 3.11.
    const PYTHON_WHITESPACE: &str = "\u{9}\u{a}\u{b}\u{c}\u{d}\u{1c}\u{1d}\u{1e}\u{1f}\u{20}\u{85}\u{a0}\u{1680}\
        \u{2000}\u{2001}\u{2002}\u{2003}\u{2004}\u{2005}\u{2006}\u{2007}\u{2008}\u{2009}\u{200a}\u{2028}\u{2029}\
        \u{202f}\u{205f}\u{3000}";

    #[test]
    fn whitespace_is_that_of_python() {
        let ours: String = ('\0'..=char::MAX).filter(|&c| is_whitespace(c)).collect();
        assert_eq!(ours, PYTHON_WHITESPACE);
    }

    #[test]
    fn words_are_never_empty() {
        assert_eq!(words("\u{1c} a\u{a0}b \u{85}\n").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(words(" \t").count(), 0);
        assert_eq!(trim_end(" a \u{1f}\n"), " a");
    }
}
