//! Cutting lines into words as the form of learned vocabularies does, without the library's bookkeeping of places in
//! the text. Most lines need no normalization, and for them this is many times faster.

use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::{NormalizedString, Normalizer};

use crate::kind::Normalization;
use crate::pipeline::{BRACKET, FormSettings, SPACE};
use crate::trim;

/// Writes a line as the model sees it: normalized, with `▁` before it and for every space.
///
/// # Errors
/// If the normalizer of the library fails; none of ours is known to fail.
pub(crate) fn write_marked(
    settings: FormSettings,
    normalizer: Option<&NormalizerWrapper>,
    line: &str,
    out: &mut String,
) -> tokenizers::Result<()> {
    out.clear();
    if settings.leaves(line) {
        if !line.is_empty() {
            out.push(SPACE);
        }
        push_marked(out, line);
    } else {
        let mut normalized = NormalizedString::from(line);
        if let Some(normalizer) = normalizer {
            normalizer.normalize(&mut normalized)?;
        }
        push_marked(out, normalized.get());
    }
    Ok(())
}

/// Appends a text with `▁` for every space.
fn push_marked(out: &mut String, text: &str) {
    let mut parts = text.split(' ');
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        out.push(SPACE);
        out.push_str(part);
    }
}

/// The words of a line that [`write_marked`] wrote.
pub(crate) fn words(marked: &str, settings: FormSettings) -> impl Iterator<Item = &str> {
    let mut rest = marked;
    std::iter::from_fn(move || {
        let (word, after) = rest.split_at(end_of_word(rest, settings.has_whole_words));
        rest = after;
        (!word.is_empty()).then_some(word)
    })
}

/// The length of the first word: it ends before the next `▁` and, except for whole words, after the next `<`.
fn end_of_word(text: &str, has_whole_words: bool) -> usize {
    let bytes = text.as_bytes();
    let mut mark = [0; 4];
    let mark = SPACE.encode_utf8(&mut mark).as_bytes();
    for (place, byte) in bytes.iter().enumerate() {
        if *byte == BRACKET as u8 && !has_whole_words {
            return place + 1;
        }
        // The first byte of `▁` is that of many characters.
        if place > 0 && *byte == mark[0] && bytes[place..].starts_with(mark) {
            return place;
        }
    }
    bytes.len()
}

impl FormSettings {
    /// Whether the normalizer changes nothing in a line but the mark before it. May be false where it is.
    fn leaves(self, line: &str) -> bool {
        let is_normal = self.normalization == Normalization::None || line.is_ascii();
        is_normal && (!self.trim || !(trim::has_ends(line) || line.contains("  ")))
    }
}
