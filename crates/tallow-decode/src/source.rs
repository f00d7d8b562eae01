//! Source lines as tokens; lines that are too long are divided into parts.

use crate::{DecodeConfig, DecodeError, LongLines};
use tallow_data::is_blank;
use tallow_text::Tokenizer;
use unicode_segmentation::UnicodeSegmentation;

/// The most bytes of text that a tokenizer gets at once, because it takes many times as much memory.
pub(crate) const MOST_BYTES: usize = 1 << 20;

/// A line, or a sentence of a line that was too long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The text.
    pub text: String,
    /// The tokens, `</s>` last.
    pub tokens: Vec<u32>,
    /// Whether white space separates this part from the previous one.
    pub is_apart: bool,
}

/// The parts of a line: usually one; none if the line is blank or has no piece.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) parts: Vec<Part>,
    /// The number of tokens of the line that were cut off.
    pub(crate) cut_tokens: usize,
    /// The language tag at the beginning of the line, if the vocabulary lacks it.
    pub(crate) unknown_tag: Option<String>,
}

/// Whether a line is blank, or blank after a language tag. Training drops such lines, so no model has learned to
/// translate them; their translation is an empty line.
pub fn says_nothing(tokenizer: &Tokenizer, line: &str) -> bool {
    is_blank(tokenizer.split_language_tag(line).map_or(line, |(_, text)| text))
}

/// Converts lines into sources.
pub(crate) struct Reader<'a> {
    pub(crate) tokenizer: &'a Tokenizer,
    pub(crate) config: &'a DecodeConfig,
    pub(crate) eos: u32,
    pub(crate) threads: usize,
}

impl Reader<'_> {
    /// The maximum number of tokens of a part, without `</s>`.
    fn room(&self) -> usize {
        self.config.max_source_length - 1
    }

    /// Reads lines. Line numbers in messages start at `first_line + 1`.
    pub(crate) fn read<S: AsRef<str> + Sync>(&self, lines: &[S], first_line: u64) -> Result<Vec<Source>, DecodeError> {
        // Lines that are too long for the tokenizer are handled separately, and blank lines are skipped.
        let usual: Vec<&str> = lines
            .iter()
            .map(|line| {
                Some(line.as_ref())
                    .filter(|line| line.len() <= MOST_BYTES && !says_nothing(self.tokenizer, line))
                    .unwrap_or_default()
            })
            .collect();
        let encoded = self.tokenizer.encode_batch(&usual, self.threads)?;
        let numbered = lines.iter().zip(encoded).enumerate();
        let read = |(i, (line, tokens)): (usize, (&S, Vec<u32>))| {
            let line = line.as_ref();
            if says_nothing(self.tokenizer, line) {
                return Ok(Source::default());
            }
            let source = if self.config.split_sentences {
                self.split(line)?
            } else if line.len() <= MOST_BYTES && tokens.len() <= self.room() {
                Source {
                    parts: Vec::from_iter((!tokens.is_empty()).then(|| self.part(line, tokens, false))),
                    ..Source::default()
                }
            } else {
                match self.config.long_lines {
                    LongLines::Truncate => self.truncate(line, tokens)?,
                    LongLines::Split => self.split(line)?,
                    LongLines::Fail => {
                        return Err(DecodeError::LongLine {
                            line: first_line + i as u64 + 1,
                            limit: self.config.max_source_length,
                        });
                    }
                }
            };
            Ok(Source {
                unknown_tag: self.tokenizer.unknown_language_tag(line).map(str::to_owned),
                ..source
            })
        };
        numbered.map(read).collect()
    }

    fn part(&self, text: &str, mut tokens: Vec<u32>, is_apart: bool) -> Part {
        tokens.push(self.eos);
        Part {
            text: text.to_owned(),
            tokens,
            is_apart,
        }
    }

    /// The beginning of a line that has as many words as the text of some tokens.
    fn words_of<'l>(&self, line: &'l str, tokens: &[u32]) -> Result<&'l str, DecodeError> {
        let text = self.tokenizer.split_language_tag(line).map_or(line, |(_, text)| text);
        let count = self.tokenizer.decode(tokens)?.split_whitespace().count();
        let last = text.split_whitespace().take(count).last();
        // Where the last word ends in the line.
        let end = last.map_or(0, |word| word.as_ptr().addr() + word.len() - line.as_ptr().addr());
        Ok(line.get(..end).unwrap_or(line))
    }

    /// Reads the beginning of a line.
    fn truncate(&self, line: &str, mut tokens: Vec<u32>) -> Result<Source, DecodeError> {
        let mut count = tokens.len();
        if line.len() > MOST_BYTES {
            // The cut tokens are counted piece by piece; where the text is cut, the number may be off by one.
            let mut rest = line;
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(boundary(rest, MOST_BYTES));
                let found = match count {
                    0 => self.tokenizer.encode(piece)?,
                    _ => self.tokenizer.encode_text(piece)?,
                };
                count += found.len();
                if tokens.len() < self.room() {
                    tokens.extend(found);
                }
                rest = after;
            }
        }
        tokens.truncate(self.room());
        let text = self.words_of(line, &tokens)?;
        Ok(Source {
            cut_tokens: count - tokens.len(),
            parts: vec![self.part(text, tokens, false)],
            ..Source::default()
        })
    }

    /// Splits a line into its sentences (Unicode Standard Annex 29); each becomes a part. A sentence that is too long
    /// is divided between words, and a word that is too long between characters. If the line begins with a language
    /// tag, every part does.
    fn split(&self, line: &str) -> Result<Source, DecodeError> {
        let mut source = Source::default();
        let mut is_apart = false;
        let (tag, text) = match self.tokenizer.split_language_tag(line) {
            Some((tag, text)) => (vec![self.tokenizer.id(tag).unwrap_or(self.tokenizer.unk_id())], text),
            None => (Vec::new(), line),
        };
        // The text is read in pieces, because the search for sentence boundaries scans all of the text it is given.
        let mut rest = text;
        while !rest.is_empty() {
            let (stretch, after) = rest.split_at(boundary(rest, MOST_BYTES));
            for sentence in sentences(stretch) {
                self.divide(&tag, sentence, &mut is_apart, &mut source)?;
            }
            rest = after;
        }
        Ok(source)
    }

    fn divide(&self, tag: &[u32], text: &str, is_apart: &mut bool, source: &mut Source) -> Result<(), DecodeError> {
        let trimmed = text.trim();
        *is_apart |= text.starts_with(char::is_whitespace) || trimmed.is_empty();
        if trimmed.is_empty() {
            return Ok(());
        }
        let text_tokens = self.tokenizer.encode_text(trimmed)?;
        let mut tokens = tag.to_vec();
        tokens.extend(&text_tokens);
        // A single character may be several byte tokens. It cannot be divided any more.
        let middle = boundary(trimmed, trimmed.len().div_ceil(2));
        if tokens.len() > self.room() && middle < trimmed.len() {
            let (first, second) = trimmed.split_at(middle);
            self.divide(tag, first, is_apart, source)?;
            self.divide(tag, second, is_apart, source)?;
        } else if !text_tokens.is_empty() {
            source.cut_tokens += tokens.len().saturating_sub(self.room());
            tokens.truncate(self.room());
            // A tag is a word of the line.
            let text = match tag.first().filter(|_| source.parts.is_empty()) {
                Some(tag) => format!("{} {trimmed}", self.tokenizer.piece(*tag).unwrap_or_default()),
                None => trimmed.to_owned(),
            };
            let stands_apart = *is_apart && !source.parts.is_empty();
            source.parts.push(self.part(&text, tokens, stands_apart));
            *is_apart = false;
        }
        *is_apart |= text.ends_with(char::is_whitespace);
        Ok(())
    }
}

/// The sentences of a text (Unicode Standard Annex 29). `?`, `!` and `.` end a sentence only before white space, so
/// that addresses such as `example.org/?a=b` stay whole.
fn sentences(text: &str) -> Vec<&str> {
    let mut sentences = Vec::new();
    let (mut begin, mut end) = (0, 0);
    for part in text.split_sentence_bounds() {
        end += part.len();
        if !part.ends_with(['?', '!', '.']) || end == text.len() {
            sentences.push(&text[begin..end]);
            begin = end;
        }
    }
    sentences
}

/// The place at which to divide a text so that the first part has at most `most` bytes: after the last white space, or
/// else after the last character that fits. If even the first character is longer, the place after it; if the whole
/// text fits, its length.
fn boundary(text: &str, most: usize) -> usize {
    if text.len() <= most {
        return text.len();
    }
    let head = &text[..text.floor_char_boundary(most)];
    match head.char_indices().rfind(|(_, c)| c.is_whitespace()) {
        Some((at, space)) => at + space.len_utf8(),
        None if !head.is_empty() => head.len(),
        None => text.chars().next().map_or(0, char::len_utf8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tallow_text::{Kind, TextConfig};

    fn tokenizer() -> Tokenizer {
        let config = TextConfig {
            kind: Kind::Char,
            vocabulary: 60,
            byte_fallback: false,
            trim: false,
            ..TextConfig::default()
        };
        Tokenizer::learn(&config, ["abcdefghijklmnopqrstuvwxyz ABC. ! ?。犬"], 1).unwrap()
    }

    fn reader<'a>(tokenizer: &'a Tokenizer, config: &'a DecodeConfig) -> Reader<'a> {
        Reader {
            tokenizer,
            config,
            eos: 0,
            threads: 1,
        }
    }

    fn read(line: &str, max_source_length: usize, long_lines: LongLines) -> Result<Source, DecodeError> {
        let tokenizer = tokenizer();
        let config = DecodeConfig {
            max_source_length,
            long_lines,
            ..DecodeConfig::default()
        };
        let reader = reader(&tokenizer, &config);
        Ok(reader.read(&["a", line], 6)?.remove(1))
    }

    /// The text of each part, and whether white space separates it from the previous one.
    fn split(line: &str, max_source_length: usize) -> Vec<(String, bool)> {
        let source = read(line, max_source_length, LongLines::Split).unwrap();
        assert_eq!(source.cut_tokens, 0);
        let tokenizer = tokenizer();
        let text = |part: &Part| {
            assert!(part.tokens.len() <= max_source_length && part.tokens.ends_with(&[0]));
            let tokens = &part.tokens[..part.tokens.len() - 1];
            (tokenizer.decode(tokens).unwrap(), part.is_apart)
        };
        source.parts.iter().map(text).collect()
    }

    fn parts(expected: &[(&str, bool)]) -> Vec<(String, bool)> {
        expected
            .iter()
            .map(|(text, is_apart)| (text.to_string(), *is_apart))
            .collect()
    }

    #[test]
    fn long_lines_are_split_by_sentence() {
        // With the mark of the first word and </s>, ten letters fill twelve tokens.
        let line = "A dog. A big cat!  Cab? ";
        assert_eq!(split(line, 100), parts(&[(line, false)]));
        let expected = [("A dog.", false), ("A big cat!", true), ("Cab?", true)];
        assert_eq!(split(line, 12), parts(&expected));
        // No white space stands between these sentences.
        assert_eq!(split("犬犬。犬犬。", 6), parts(&[("犬犬。", false), ("犬犬。", false)]));
        // A sentence that is too long is divided between words, and a word between letters.
        let expected = [("a big cat", false), ("and a dog", true)];
        assert_eq!(split("a big cat and a dog", 12), parts(&expected));
        let expected = [("abcde", false), ("fghij", false), ("klmno", false), ("pqrst", false)];
        assert_eq!(split("abcdefghijklmnopqrst", 9), parts(&expected));
        assert_eq!(split("   ", 2), []);
    }

    /// On request, the sentences of short lines are parts too.
    #[test]
    fn every_line_is_split_on_request() {
        let tokenizer = tokenizer();
        let config = DecodeConfig {
            split_sentences: true,
            ..DecodeConfig::default()
        };
        let sources = reader(&tokenizer, &config)
            .read(&["A dog. A big cat! ", "a dog", ""], 0)
            .unwrap();
        let texts = |source: &Source| source.parts.iter().map(|part| part.text.clone()).collect::<Vec<_>>();
        assert_eq!(texts(&sources[0]), ["A dog.", "A big cat!"]);
        assert_eq!(
            (texts(&sources[1]), texts(&sources[2])),
            (vec!["a dog".to_owned()], vec![])
        );
        assert_eq!(
            sentences("See x.y/?a=b!c d. A dog? A cat."),
            ["See x.y/?a=b!c d. ", "A dog? ", "A cat."]
        );
        assert_eq!(sentences("犬犬。犬犬。a"), ["犬犬。", "犬犬。", "a"]);
    }

    #[test]
    fn long_lines_are_cut_or_refused() {
        let cut = read("abcdef", 5, LongLines::Truncate).unwrap();
        assert_eq!((cut.parts.len(), cut.parts[0].tokens.len(), cut.cut_tokens), (1, 5, 3));
        let error = read("abcdef", 5, LongLines::Fail).unwrap_err();
        // The second of the lines after the sixth.
        assert!(error.to_string().starts_with("line 8 "), "{error}");
        assert_eq!(read("abc", 5, LongLines::Fail).unwrap().parts.len(), 1);
        assert_eq!(read("", 5, LongLines::Fail).unwrap(), Source::default());
    }

    /// Every part of a line carries its tag, and the limit counts it.
    #[test]
    fn parts_carry_the_tag() {
        let config = TextConfig {
            kind: Kind::Char,
            vocabulary: 60,
            byte_fallback: false,
            ..TextConfig::default()
        };
        let lines = [">>deu<< a big cat and a dog. A cat!", ">>fra<< x"];
        let tokenizer = Tokenizer::learn(&config, lines, 1).unwrap();
        let decode = DecodeConfig {
            max_source_length: 13,
            ..DecodeConfig::default()
        };
        let reader = reader(&tokenizer, &decode);
        let sources = reader
            .read(
                &[
                    &format!("{} \u{feff} ", lines[0]),
                    ">>deu<< \t\u{3000}",
                    ">>ita<<a cat",
                    "a big dog",
                    "a big cat, >>fra<< a big dog",
                ],
                0,
            )
            .unwrap();
        let parts: Vec<(&str, String)> = sources[0]
            .parts
            .iter()
            .map(|part| {
                assert!(part.tokens.len() <= 13);
                let text = tokenizer.decode(&part.tokens[1..part.tokens.len() - 1]).unwrap();
                (tokenizer.piece(part.tokens[0]).unwrap(), text)
            })
            .collect();
        let expected = ["a big cat", "and a dog.", "A cat!"].map(|text| (">>deu<<", text.to_owned()));
        assert_eq!(parts, expected);
        assert_eq!(sources[1], Source::default());
        // Something like a tag is plain text at the beginning of any part but the first.
        let tags: Vec<u32> = [">>deu<<", ">>fra<<"].map(|tag| tokenizer.id(tag).unwrap()).into();
        assert_eq!(sources[4].parts.len(), 2);
        assert!(sources[4].parts.iter().all(|part| !tags.contains(&part.tokens[0])));
        assert_eq!(sources[2].unknown_tag.as_deref(), Some(">>ita<<"));
        assert_eq!(sources[2].parts[0].tokens[0], tokenizer.unk_id());
        assert_eq!((&sources[0].unknown_tag, &sources[3].unknown_tag), (&None, &None));
        // A model without tags reads them as text; the result reports it.
        assert_eq!(tokenizer_without_tags(">>deu<< a").as_deref(), Some(">>deu<<"));
        assert_eq!(tokenizer_without_tags(">>> 1 << 2"), None);
    }

    /// Lines of difficult fragments in random order. If the line has a tag, every part begins with it; every part fits,
    /// and no part is blank.
    #[test]
    fn any_line_with_a_tag_is_read() {
        let config = TextConfig {
            vocabulary: 300,
            ..TextConfig::default()
        };
        let tokenizer = Tokenizer::learn(&config, [">>deu<< äöü a b. c", ">>fra<<a b"], 1).unwrap();
        let fragments = [
            ">>deu<<", ">>", "<<", " ", "\u{3000}", "\u{feff}", "\t", "ä", "öü", "a b. ", "c! ", "犬。", "\u{200b}",
            ">>x<<",
        ];
        let mut state = 7u64;
        let mut below = |bound: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % bound
        };
        for _ in 0..2000 {
            let line: String = (0..below(30)).map(|_| fragments[below(fragments.len())]).collect();
            for long_lines in [LongLines::Split, LongLines::Truncate] {
                let config = DecodeConfig {
                    max_source_length: 3 + below(12),
                    long_lines,
                    ..DecodeConfig::default()
                };
                let reader = reader(&tokenizer, &config);
                let source = reader.read(&[&line], 0).unwrap().remove(0);
                let tag = tokenizer.split_language_tag(&line);
                let id = tag.map(|(tag, _)| tokenizer.id(tag).unwrap_or(tokenizer.unk_id()));
                for part in &source.parts {
                    assert!(part.tokens.len() <= config.max_source_length, "{line:?}");
                    assert!(id.is_none_or(|id| part.tokens[0] == id), "{line:?}");
                }
                assert_eq!(source.parts.is_empty(), says_nothing(&tokenizer, &line), "{line:?}");
            }
        }
    }

    fn tokenizer_without_tags(line: &str) -> Option<String> {
        read(line, 100, LongLines::Split).unwrap().unknown_tag
    }

    /// Lines that training drops as empty are translated as empty lines.
    #[test]
    fn blank_lines_have_no_parts() {
        for line in [
            "",
            " ",
            " \t ",
            "\u{a0}\u{3000}",
            "\u{200b}\u{200d}",
            "\u{feff}",
            "\0\u{1}\u{ad}\u{202e}",
        ] {
            assert_eq!(
                read(line, 100, LongLines::Split).unwrap(),
                Source::default(),
                "{line:?}"
            );
            assert_eq!(read(line, 3, LongLines::Fail).unwrap(), Source::default(), "{line:?}");
        }
        assert_eq!(read(" .\u{200b}", 100, LongLines::Split).unwrap().parts.len(), 1);
    }

    #[test]
    fn what_is_too_long_for_the_tokenizer_is_read_piece_by_piece() {
        let line = "Abc. ".repeat(MOST_BYTES / 4);
        let count = line.trim_end().len() + 1;
        let cut = read(&line, 512, LongLines::Truncate).unwrap();
        assert_eq!(cut.parts[0].tokens.len(), 512);
        // Each stretch of text begins with a mark of its own where the line has a space, and the last space of the line
        // counts, so the numbers may differ a little.
        assert!(
            (cut.cut_tokens + 511).abs_diff(count) <= 4,
            "{} {count}",
            cut.cut_tokens
        );
        let sentences = read(&line, 512, LongLines::Split).unwrap();
        assert_eq!(sentences.parts.len(), MOST_BYTES / 4);
        assert!(
            sentences.parts[1..]
                .iter()
                .all(|part| part.is_apart && part.tokens.len() == 6)
        );
    }
}
