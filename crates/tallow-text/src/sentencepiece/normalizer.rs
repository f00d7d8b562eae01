//! The normalization that SentencePiece applies to a line before it cuts it: a map in the model replaces characters,
//! and spaces are reduced and written as `▁`.

use std::borrow::Cow;

use super::message;
use super::trie::Trie;
use crate::pipeline::SPACE;

/// Follows `Normalizer` of SentencePiece.
#[derive(Debug)]
pub(super) struct Normalizer {
    map: Option<CharacterMap>,
    add_dummy_prefix: bool,
    /// Whether `▁` stands after words rather than before them.
    suffix: bool,
    remove_extra_whitespaces: bool,
    space: &'static str,
}

impl Normalizer {
    /// # Errors
    /// If the map of characters is not valid.
    pub(super) fn new(message: &message::Normalizer, suffix: bool) -> Result<Self, String> {
        let map = message.precompiled_charsmap.as_deref().unwrap_or_default();
        let escape = message.escape_whitespaces.unwrap_or(true);
        Ok(Self {
            map: (!map.is_empty()).then(|| CharacterMap::new(map)).transpose()?,
            add_dummy_prefix: message.add_dummy_prefix.unwrap_or(true),
            suffix,
            remove_extra_whitespaces: message.remove_extra_whitespaces.unwrap_or(true),
            space: if escape { ESCAPED } else { " " },
        })
    }

    /// The text in which pieces are searched. Pieces of `protected` are not replaced.
    pub(super) fn normalize(&self, mut line: &str, protected: &Trie) -> String {
        let mut text = String::with_capacity(line.len() + line.len() / 2);
        if self.remove_extra_whitespaces {
            while let (" ", consumed) = self.prefix(line, protected) {
                line = &line[consumed..];
            }
        }
        if line.is_empty() {
            return text;
        }
        if self.add_dummy_prefix && !self.suffix {
            text.push_str(self.space);
        }
        let mut after_space = self.remove_extra_whitespaces;
        while !line.is_empty() {
            let (mut replacement, consumed) = self.prefix(line, protected);
            if after_space {
                replacement = replacement.trim_start_matches(' ');
            }
            for (i, part) in replacement.split(' ').enumerate() {
                if i > 0 {
                    text.push_str(self.space);
                }
                text.push_str(part);
            }
            if !replacement.is_empty() {
                after_space = self.remove_extra_whitespaces && replacement.ends_with(' ');
            }
            line = &line[consumed..];
        }
        if self.remove_extra_whitespaces {
            text.truncate(text.trim_end_matches(self.space).len());
        }
        if self.add_dummy_prefix && self.suffix {
            text.push_str(self.space);
        }
        text
    }

    /// The replacement of the beginning of a line, and the number of bytes that it replaces. This number is zero only
    /// at the end of the line.
    fn prefix<'a>(&'a self, line: &'a str, protected: &Trie) -> (&'a str, usize) {
        if let Some((length, _)) = protected.longest(line) {
            return (&line[..length], length);
        }
        if let Some(found) = self.map.as_ref().and_then(|map| map.longest(line)) {
            return found;
        }
        let length = line.chars().next().map_or(0, char::len_utf8);
        (&line[..length], length)
    }

    /// The text of joined pieces.
    pub(super) fn restore(&self, joined: &str) -> String {
        let text = joined.replace(SPACE, " ");
        let trimmed: &str = if self.remove_extra_whitespaces {
            text.trim_matches(' ')
        } else if self.add_dummy_prefix && self.suffix {
            text.strip_suffix(' ').unwrap_or(&text)
        } else if self.add_dummy_prefix {
            text.strip_prefix(' ').unwrap_or(&text)
        } else {
            &text
        };
        match trimmed.len() == text.len() {
            true => text,
            false => trimmed.to_owned(),
        }
    }
}

/// A longer replacement, in bytes, is treated as damage; the longest of Unicode's own has 33.
const LONGEST_REPLACEMENT: usize = 1 << 10;

/// [`SPACE`] as text.
const ESCAPED: &str = "\u{2581}";

/// A map from strings to strings. The keys form a tree, stored as a double array (Aoe 1989) in the layout of the
/// library `darts-clone`. The values stand one after another, each with a zero byte at its end.
#[derive(Debug)]
struct CharacterMap {
    units: Vec<u32>,
    replacements: String,
}

impl CharacterMap {
    fn new(bytes: &[u8]) -> Result<Self, String> {
        let damaged = || "its map of characters is damaged".to_owned();
        let (size, rest) = bytes.split_first_chunk::<4>().ok_or_else(damaged)?;
        let size = u32::from_le_bytes(*size) as usize;
        if size > rest.len() || !size.is_multiple_of(4) {
            return Err(damaged());
        }
        let (tree, replacements) = rest.split_at(size);
        Ok(Self {
            units: tree
                .chunks_exact(4)
                .map(|unit| u32::from_le_bytes([unit[0], unit[1], unit[2], unit[3]]))
                .collect(),
            replacements: String::from_utf8(replacements.to_vec()).map_err(|_| damaged())?,
        })
    }

    /// The longest key that a text begins with: its replacement and its length. The result of a damaged map is not
    /// defined, but it is always text.
    fn longest(&self, text: &str) -> Option<(&str, usize)> {
        let offset = |unit: u32| ((unit >> 10) << ((unit & (1 << 9)) >> 6)) as usize;
        let mut place = offset(*self.units.first()?);
        let mut found = None;
        for (i, byte) in text.bytes().enumerate() {
            place ^= usize::from(byte);
            let Some(&unit) = self.units.get(place) else { break };
            if unit & ((1 << 31) | 0xFF) != u32::from(byte) {
                break;
            }
            place ^= offset(unit);
            let has_value = unit & (1 << 8) != 0;
            if has_value && let Some(&value) = self.units.get(place) {
                found = Some(((value & !(1 << 31)) as usize, i + 1));
            }
        }
        let (start, length) = found.filter(|(_, length)| text.is_char_boundary(*length))?;
        let replacement = self.replacements.get(start..)?;
        let end = replacement
            .bytes()
            .take(LONGEST_REPLACEMENT)
            .position(|byte| byte == 0)?;
        Some((&replacement[..end], length))
    }
}

/// The text of bytes from pieces such as `<0xE2>`: U+FFFD for each byte that is not UTF-8.
pub(super) fn text_of_bytes(bytes: &[u8]) -> Cow<'_, str> {
    let mut text = String::new();
    let mut rest = bytes;
    loop {
        match std::str::from_utf8(rest) {
            Ok(valid) if text.is_empty() => return Cow::Borrowed(valid),
            Ok(valid) => {
                text.push_str(valid);
                return Cow::Owned(text);
            }
            Err(error) => {
                let (valid, broken) = rest.split_at(error.valid_up_to());
                text.push_str(&String::from_utf8_lossy(valid));
                text.push(char::REPLACEMENT_CHARACTER);
                rest = &broken[1..];
            }
        }
    }
}
