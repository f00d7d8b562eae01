//! Text to text: tokenise, batch, search, detokenise, in the order of the input.

use crate::{DecodeConfig, DecodeError, Hypothesis, search};
use candle_core::Device;
use std::sync::atomic::{AtomicUsize, Ordering};
use tallow_model::{AttentionRecord, Block, Pass, Tokens, Transformer};
use tallow_text::{Tokenizer, Tokenizers};

/// One translation of a line.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The text: one line, whatever the pieces spelled.
    pub text: String,
    /// Its tokens and scores.
    pub hypothesis: Hypothesis,
}

/// What became of one line.
#[derive(Clone, Debug)]
pub struct Translation {
    /// The source tokens that the model saw, `</s>` last; empty for a line without any piece.
    pub source: Vec<u32>,
    /// How many source tokens were cut off because the line is longer than `decode.max_source_length`.
    pub cut_tokens: usize,
    /// Translations, best first; never empty. The only one of an empty line is an empty line.
    pub candidates: Vec<Candidate>,
}

impl Translation {
    /// The best translation's text.
    pub fn text(&self) -> &str {
        self.candidates.first().map_or("", |candidate| candidate.text.as_str())
    }
}

/// How much each target token looked at each source token.
#[derive(Clone, Debug)]
pub struct Alignment {
    /// Source pieces, `</s>` last.
    pub source: Vec<String>,
    /// Target pieces, `</s>` last.
    pub target: Vec<String>,
    /// Weights by target and source piece: the last decoder layer's cross-attention, the mean of its heads.
    pub weights: Vec<Vec<f32>>,
}

/// The number of a batch, and the hypotheses of each of its sentences.
type Found = (usize, Vec<Vec<Hypothesis>>);

/// A model with its tokenizers, ready to translate lines.
#[derive(Debug)]
pub struct Translator<'a> {
    model: &'a Transformer,
    tokenizers: &'a Tokenizers,
    config: &'a DecodeConfig,
    device: &'a Device,
    seed: u64,
    workers: usize,
}

impl<'a> Translator<'a> {
    /// Brings the parts together. `workers` threads translate a batch each; `seed` is for sampling.
    ///
    /// # Errors
    /// When the settings make no sense or the vocabularies are not those of the model.
    pub fn new(
        model: &'a Transformer,
        tokenizers: &'a Tokenizers,
        config: &'a DecodeConfig,
        device: &'a Device,
        seed: u64,
        workers: usize,
    ) -> Result<Self, DecodeError> {
        let faults = config.validate();
        if !faults.is_empty() {
            return Err(DecodeError::Config(faults));
        }
        let architecture = model.architecture();
        let sides = [
            (
                "source",
                tokenizers.source.vocabulary_size(),
                architecture.source_vocabulary,
            ),
            (
                "target",
                tokenizers.target.vocabulary_size(),
                architecture.target_vocabulary,
            ),
        ];
        for (side, tokenizer, model) in sides {
            if tokenizer != model {
                return Err(DecodeError::Vocabulary { side, tokenizer, model });
            }
        }
        Ok(Self {
            model,
            tokenizers,
            config,
            device,
            seed,
            workers: workers.max(1),
        })
    }

    /// Translates lines; the result has one entry for each, in order. Line numbers, which key sampling, begin at
    /// `first_line`.
    ///
    /// # Errors
    /// When the tokenizer or the model fails.
    pub fn translate<S: AsRef<str> + Sync>(
        &self,
        lines: &[S],
        first_line: u64,
    ) -> Result<Vec<Translation>, DecodeError> {
        let mut encoded = self.tokenizers.source.encode_batch(lines, self.workers)?;
        let eos = self.model.architecture().eos_id;
        let mut cut_tokens = vec![0; encoded.len()];
        for (ids, cut) in encoded
            .iter_mut()
            .zip(&mut cut_tokens)
            .filter(|(ids, _)| !ids.is_empty())
        {
            let room = self.config.max_source_length - 1;
            *cut = ids.len().saturating_sub(room);
            ids.truncate(room);
            ids.push(eos);
        }
        let batches = self.batches(&encoded);
        let found = self.run(&batches, &encoded, first_line)?;
        let mut hypotheses: Vec<Vec<Hypothesis>> = vec![Vec::new(); encoded.len()];
        for (batch, results) in batches.iter().zip(found) {
            for (line, result) in batch.iter().zip(results) {
                hypotheses[*line] = result;
            }
        }
        let finish = |((source, cut_tokens), found): ((Vec<u32>, usize), Vec<Hypothesis>)| {
            let mut candidates = found
                .into_iter()
                .map(|hypothesis| {
                    Ok(Candidate {
                        text: self.text_of(&hypothesis.tokens)?,
                        hypothesis,
                    })
                })
                .collect::<Result<Vec<_>, DecodeError>>()?;
            if candidates.is_empty() {
                candidates.push(empty_candidate());
            }
            Ok(Translation {
                source,
                cut_tokens,
                candidates,
            })
        };
        encoded
            .into_iter()
            .zip(cut_tokens)
            .zip(hypotheses)
            .map(finish)
            .collect()
    }

    /// Groups lines of similar length under the token budget, longest first; lines without pieces are left out.
    fn batches(&self, encoded: &[Vec<u32>]) -> Vec<Vec<usize>> {
        let rows = if self.config.sample {
            self.config.n_best
        } else {
            self.config.beam
        };
        let mut order: Vec<usize> = (0..encoded.len()).filter(|i| !encoded[*i].is_empty()).collect();
        order.sort_by_key(|i| (std::cmp::Reverse(encoded[*i].len()), *i));
        let mut batches: Vec<Vec<usize>> = Vec::new();
        for line in order {
            match batches.last_mut() {
                // The first line of a batch is its longest.
                Some(batch) if (batch.len() + 1) * encoded[batch[0]].len() * rows <= self.config.batch_tokens => {
                    batch.push(line);
                }
                _ => batches.push(vec![line]),
            }
        }
        batches
    }

    /// Searches all batches, each worker taking the next one that is free. Results stand in the order of the batches.
    fn run(
        &self,
        batches: &[Vec<usize>],
        encoded: &[Vec<u32>],
        first_line: u64,
    ) -> Result<Vec<Vec<Vec<Hypothesis>>>, DecodeError> {
        let next = AtomicUsize::new(0);
        let work = || -> Result<Vec<Found>, DecodeError> {
            let mut done = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(batch) = batches.get(index) else {
                    return Ok(done);
                };
                let sentences: Vec<&[u32]> = batch.iter().map(|line| encoded[*line].as_slice()).collect();
                let source = Tokens::new(&sentences, self.device)?;
                let numbers: Vec<u64> = batch.iter().map(|line| first_line + *line as u64).collect();
                done.push((index, search(self.model, &source, self.config, self.seed, &numbers)?));
            }
        };
        let workers = self.workers.min(batches.len());
        let mut all = if workers <= 1 {
            work()?
        } else {
            std::thread::scope(|scope| {
                let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
                let mut all = Vec::new();
                for thread in threads {
                    all.extend(thread.join().map_err(|_| DecodeError::Worker)??);
                }
                Ok::<_, DecodeError>(all)
            })?
        };
        all.sort_by_key(|(index, _)| *index);
        Ok(all.into_iter().map(|(_, results)| results).collect())
    }

    /// The text of target tokens, on one line.
    fn text_of(&self, tokens: &[u32]) -> Result<String, DecodeError> {
        let text = self.tokenizers.target.decode(tokens)?;
        let is_break = |c: char| matches!(c, '\n' | '\r');
        Ok(if text.contains(is_break) {
            text.replace(is_break, " ")
        } else {
            text
        })
    }

    /// The pieces of target tokens.
    pub fn target_pieces(&self, tokens: &[u32]) -> Vec<String> {
        pieces(&self.tokenizers.target, tokens)
    }

    /// How the target tokens of a translation attended to its source: a forward pass with the attention recorded.
    ///
    /// # Errors
    /// When the model fails.
    pub fn align(&self, source: &[u32], target: &[u32]) -> Result<Alignment, DecodeError> {
        let architecture = self.model.architecture();
        let mut input = vec![architecture.target_pad_id()];
        input.extend_from_slice(target);
        let record = AttentionRecord::new();
        let source_tokens = Tokens::new(&[source], self.device)?;
        let target_tokens = Tokens::new(&[input], self.device)?;
        let encoded = self.model.encode(&source_tokens, Pass::default())?;
        self.model.decode(
            &target_tokens,
            &encoded,
            Pass {
                record: Some(&record),
                ..Pass::default()
            },
        )?;
        let last = record
            .into_inner()
            .into_iter()
            .rfind(|recorded| recorded.block == Block::DecoderCross);
        let weights = match last {
            Some(recorded) => recorded.weights_bhts.get(0)?.mean(0)?.to_vec2::<f32>()?,
            None => Vec::new(),
        };
        let pieces = |side: &tallow_text::Tokenizer, ids: &[u32]| {
            ids.iter()
                .map(|id| side.piece(*id).unwrap_or_default().to_string())
                .collect::<Vec<_>>()
        };
        let mut ended = target.to_vec();
        ended.push(architecture.eos_id);
        Ok(Alignment {
            source: pieces(&self.tokenizers.source, source),
            target: pieces(&self.tokenizers.target, &ended),
            weights,
        })
    }
}

fn pieces(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<String> {
    ids.iter()
        .map(|id| tokenizer.piece(*id).unwrap_or_default().to_string())
        .collect()
}

fn empty_candidate() -> Candidate {
    let hypothesis = Hypothesis {
        tokens: Vec::new(),
        token_log_probabilities: Vec::new(),
        log_probability: 0.0,
        score: 0.0,
        finished: true,
    };
    Candidate {
        text: String::new(),
        hypothesis,
    }
}
