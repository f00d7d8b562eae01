//! The steps of a translation: lines to sentences, and found translations of sentences to translations of lines.
//!
//! [`Translator::translate`] takes all of them. A server takes them one by one, because it makes batches of the
//! sentences of many clients.

use crate::keep::kept;
use crate::pieces::phrase_tokens;
use crate::source::{Reader, Source};
use crate::translation::{append, empty_hypothesis};
use crate::{
    Autoregressive, Candidate, DecodeError, Hypothesis, Input, SentenceRequest, Translation, Translator, Utility,
};

/// A sentence to search for, and what is asked of its translation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sentence {
    /// Source tokens, `</s>` last.
    pub tokens: Vec<u32>,
    /// What is asked for.
    pub request: SentenceRequest,
}

/// Lines that have been read: what [`Translator::search`] searches for, and what [`Translator::finish`] needs to put
/// the results together.
#[derive(Clone, Debug, Default)]
pub struct ReadLines {
    sources: Vec<Source>,
    sentences: Vec<Sentence>,
}

impl ReadLines {
    /// The sentences of all lines, one line after another. A line that says nothing has none.
    pub fn sentences(&self) -> &[Sentence] {
        &self.sentences
    }
}

impl<M: Autoregressive> Translator<M> {
    /// Reads lines, with what is asked of their translations. The first line has the number `first_line`.
    ///
    /// # Errors
    /// When a translation cannot be as it is asked for, or the tokenizer fails.
    pub fn read(&self, inputs: &[Input], first_line: u64) -> Result<ReadLines, DecodeError> {
        let tokenizer = &self.tokenizers.target;
        self.read_lines(inputs, first_line, |input, parts, requests| {
            let line = requests.first().map_or(0, SentenceRequest::line);
            if !input.phrases.is_empty() && parts > 1 {
                return Err(DecodeError::PhrasesOfParts { line });
            }
            if let Some(first) = requests.first_mut() {
                first.prefix = tokenizer.encode(&input.prefix)?;
                let tokens = |phrase: &String| phrase_tokens(phrase, tokenizer);
                first.phrases = input.phrases.iter().map(tokens).collect::<Result<_, _>>()?;
                let unknown = tokenizer.unk_id();
                let texts = std::iter::once(&input.prefix).chain(&input.phrases);
                let tokens = std::iter::once(&first.prefix).chain(&first.phrases);
                if let Some((text, _)) = texts.zip(tokens).find(|(_, tokens)| tokens.contains(&unknown)) {
                    return Err(DecodeError::UnknownText {
                        line,
                        text: text.clone(),
                    });
                }
            }
            Ok(())
        })
    }

    /// Reads lines. `ask` gets a line, the number of its parts, and their requests.
    pub(crate) fn read_lines<S: AsRef<str> + Sync>(
        &self,
        lines: &[S],
        first_line: u64,
        ask: impl Fn(&S, usize, &mut [SentenceRequest]) -> Result<(), DecodeError>,
    ) -> Result<ReadLines, DecodeError> {
        let reader = Reader {
            tokenizer: &self.tokenizers.source,
            config: &self.config,
            eos: self.model.architecture().eos_id,
            threads: self.workers,
        };
        let sources = reader.read(lines, first_line)?;
        // Every part is a separate sentence with its own number.
        let mut sentences = Vec::new();
        for (line, source) in sources.iter().enumerate() {
            let number = first_line + line as u64;
            let parts = 0..source.parts.len();
            let mut requests: Vec<SentenceRequest> = parts.map(|part| SentenceRequest::of_part(number, part)).collect();
            ask(&lines[line], source.parts.len(), &mut requests)?;
            for (part, mut request) in source.parts.iter().zip(requests) {
                self.keep(&part.text, &mut request)?;
                sentences.push(Sentence {
                    tokens: part.tokens.clone(),
                    request,
                });
            }
        }
        Ok(ReadLines { sources, sentences })
    }

    /// Puts the translations of lines together. `found` has, for each sentence, what [`Self::search`] has found.
    ///
    /// # Errors
    /// When a translation has no text.
    pub fn finish(&self, lines: ReadLines, found: Vec<Vec<Hypothesis>>) -> Result<Vec<Translation>, DecodeError> {
        let mut found = found.into_iter();
        let finish = |source: Source| {
            let of_line: Vec<Vec<Hypothesis>> = found.by_ref().take(source.parts.len()).collect();
            self.put_together(source, of_line)
        };
        lines.sources.into_iter().map(finish).collect()
    }

    /// Asks for the stretches of a source that are kept, as far as they can be written and there is room.
    fn keep(&self, source: &str, request: &mut SentenceRequest) -> Result<(), DecodeError> {
        let tokenizer = &self.tokenizers.target;
        for text in kept(source, &self.config.keep) {
            let tokens = phrase_tokens(text, tokenizer)?;
            let is_written = !tokens.is_empty() && !tokens.contains(&tokenizer.unk_id());
            let is_new = !request.phrases.contains(&tokens);
            if is_written && is_new && request.least_length() + tokens.len() <= self.config.max_length {
                request.phrases.push(tokens);
            }
        }
        Ok(())
    }

    /// Joins the translations of a line's parts.
    fn put_together(&self, source: Source, found: Vec<Vec<Hypothesis>>) -> Result<Translation, DecodeError> {
        let best = |hypotheses: &Vec<Hypothesis>| hypotheses.first().cloned().unwrap_or_else(empty_hypothesis);
        let best_of_parts: Vec<Hypothesis> = found.iter().map(best).collect();
        let most = found.iter().map(Vec::len).max().unwrap_or_default();
        let mut candidates: Vec<Candidate> = Vec::with_capacity(most);
        for rank in 0..most {
            let mut text = String::new();
            let mut whole = empty_hypothesis();
            let mut scores = Vec::new();
            for (part, hypotheses) in source.parts.iter().zip(&found) {
                // A part may have fewer translations than another.
                let Some(hypothesis) = hypotheses.get(rank).or(hypotheses.last()) else {
                    continue;
                };
                if part.is_apart && !text.is_empty() {
                    text.push(' ');
                }
                text += &self.text_of_part(hypothesis, part)?;
                scores.push(hypothesis.score);
                if found.len() == 1 {
                    whole = hypothesis.clone();
                } else {
                    append(&mut whole, hypothesis, &self.config);
                }
            }
            // Utilities are no log-probabilities.
            if self.config.mbr != Utility::None {
                whole.score = scores.iter().sum::<f64>() / scores.len().max(1) as f64;
            }
            // Different parts may give the same text when joined.
            if !self.tells_texts_apart() || candidates.iter().all(|other| other.text != text) {
                candidates.push(Candidate {
                    text,
                    hypothesis: whole,
                });
            }
        }
        if candidates.is_empty() {
            candidates.push(Candidate {
                text: String::new(),
                hypothesis: empty_hypothesis(),
            });
        }
        Ok(Translation {
            parts: source.parts,
            best: best_of_parts,
            cut_tokens: source.cut_tokens,
            unknown_tag: source.unknown_tag,
            candidates,
        })
    }
}
