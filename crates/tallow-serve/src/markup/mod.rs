//! Translation of text with markup: markup stays, and tags move with their words.
//!
//! A document is cut into passages, stretches of text between blocks such as paragraphs and cells, and markup, which is
//! copied. A passage is translated as plain text. Its inline elements go where the words go that they hold, as the
//! alignment tells; so an element may come twice where its words are apart. Tags without a partner and elements without
//! text stay beside the word that they stood beside.

mod html;
mod markdown;
mod passage;

use passage::Passage;
use std::ops::Range;
use tallow_decode::Input;

/// Writes a stretch of a plain text so that it is text in a document, too.
type Escape = fn(&str, Range<usize>) -> String;

/// A document, cut up.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    pieces: Vec<Piece>,
    escape: Escape,
}

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    /// What is copied.
    Markup(String),
    /// What is translated.
    Passage(Passage),
}

/// The translation of a passage: its text, and the pairs of source and target words that belong together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Translated {
    pub(crate) text: String,
    pub(crate) pairs: Vec<(usize, usize)>,
}

impl Document {
    /// Cuts up HTML.
    pub(crate) fn html(text: &str) -> Self {
        Self {
            pieces: html::pieces(text),
            escape: html::escape,
        }
    }

    /// Cuts up Markdown (CommonMark, with the tables, strikethrough, task lists and footnotes of GitHub).
    pub(crate) fn markdown(text: &str) -> Self {
        Self {
            pieces: markdown::pieces(text),
            escape: markdown::escape,
        }
    }

    /// The passages as lines to translate.
    pub(crate) fn inputs(&self) -> Vec<Input> {
        let passages = self.pieces.iter().filter_map(|piece| match piece {
            Piece::Markup(_) => None,
            Piece::Passage(passage) => Some(passage),
        });
        let input = |passage: &Passage| Input {
            text: passage.text().to_owned(),
            ..Input::default()
        };
        passages.map(input).collect()
    }

    /// The document with translated passages.
    pub(crate) fn put_together(&self, translated: &[Translated]) -> String {
        let mut translated = translated.iter();
        let mut whole = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Markup(markup) => whole += markup,
                Piece::Passage(passage) => {
                    if let Some(translated) = translated.next() {
                        whole += &passage.write(translated, self.escape);
                    }
                }
            }
        }
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A document whose words are translated one by one, perhaps in the opposite order.
    pub(super) fn changed(document: &Document, change: impl Fn(&str) -> String, is_reversed: bool) -> String {
        let translate = |input: &Input| {
            let mut words: Vec<String> = input.text.split_whitespace().map(&change).collect();
            let count = words.len();
            let place = |word: usize| if is_reversed { count - 1 - word } else { word };
            let pairs = (0..count).map(|word| (word, place(word))).collect();
            if is_reversed {
                words.reverse();
            }
            Translated {
                text: words.join(" "),
                pairs,
            }
        };
        let translated: Vec<Translated> = document.inputs().iter().map(translate).collect();
        document.put_together(&translated)
    }
}
