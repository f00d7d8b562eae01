//! Translation of text: tokenise, batch, search and detokenise, in the order of the input.

use crate::hypothesis::TextOf;
use crate::search::search_of_texts;
use crate::source::{Reader, Source};
use crate::{Autoregressive, DecodeCompute, DecodeConfig, DecodeError, Hypothesis, Part};
use candle_core::Device;
use std::sync::Arc;
use tallow_data::in_order;
use tallow_model::{AttentionRecord, Block, Pass, PreparedTransformer, Tokens};
use tallow_text::{Tokenizer, Tokenizers};

/// Batches for each worker, if there are enough sentences. Sentences of equal length take different time, so the last
/// batches of the workers end at different times.
const SHARES: usize = 3;

/// The number of rows from which a batch is worth its reading of all weights.
const LEAST_ROWS: usize = 32;

/// One translation of a line.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The text, always on one line.
    pub text: String,
    /// Tokens and scores.
    pub hypothesis: Hypothesis,
}

/// The translation of one line.
#[derive(Clone, Debug)]
pub struct Translation {
    /// The input of the model: the line, or its sentences if the line is longer than `decode.max_source_length` and is
    /// split; empty if the line has no piece.
    pub parts: Vec<Part>,
    /// The tokens of the best translation of each part.
    pub targets: Vec<Vec<u32>>,
    /// The number of source tokens that were cut off because the line is longer than `decode.max_source_length`.
    pub cut_tokens: usize,
    /// The language tag at the beginning of the line, if the vocabulary lacks it. The model has then read an unknown
    /// piece, or plain text if it knows no tags at all.
    pub unknown_tag: Option<String>,
    /// Translations, best first; never empty. An empty line has one candidate, an empty line. For a line in parts,
    /// candidate `i` joins the `i`-th best translations of the parts.
    pub candidates: Vec<Candidate>,
}

impl Translation {
    /// The number of source tokens that the model read, `</s>` of every part included.
    pub fn source_tokens(&self) -> usize {
        self.parts.iter().map(|part| part.tokens.len()).sum()
    }

    /// The text of the best translation.
    pub fn text(&self) -> &str {
        self.candidates.first().map_or("", |candidate| candidate.text.as_str())
    }
}

/// The attention of each target token to each source token.
#[derive(Clone, Debug)]
pub struct Alignment {
    /// Source pieces, `</s>` last.
    pub source: Vec<String>,
    /// Target pieces, `</s>` last. `</s>` is missing if the translation was cut at the last learned position of the
    /// model.
    pub target: Vec<String>,
    /// Weights by target and source piece: the last decoder layer's cross-attention, the mean of its heads.
    pub weights: Vec<Vec<f32>>,
}

/// A model with its tokenizers, ready to translate lines. It owns its parts, is cheap to clone, and may be shared
/// between threads.
#[derive(Debug)]
pub struct Translator<M = PreparedTransformer> {
    model: Arc<M>,
    tokenizers: Tokenizers,
    config: DecodeConfig,
    device: Device,
    seed: u64,
    workers: usize,
}

impl<M> Clone for Translator<M> {
    fn clone(&self) -> Self {
        Self {
            model: self.model.clone(),
            tokenizers: self.tokenizers.clone(),
            config: self.config.clone(),
            device: self.device.clone(),
            seed: self.seed,
            workers: self.workers,
        }
    }
}

/// The parts and settings of a [`Translator`]. [`Translator::builder`] makes one.
#[derive(Clone, Debug)]
#[must_use = "`build` makes the translator"]
pub struct TranslatorBuilder<M> {
    model: Arc<M>,
    tokenizers: Tokenizers,
    config: DecodeConfig,
    device: Device,
    seed: u64,
    workers: usize,
}

impl<M: Autoregressive> TranslatorBuilder<M> {
    /// Sets the search settings. Default: [`DecodeConfig::default`].
    pub fn config(mut self, config: DecodeConfig) -> Self {
        self.config = config;
        self
    }

    /// Sets the device of the model. Default: the CPU.
    pub fn device(mut self, device: Device) -> Self {
        self.device = device;
        self
    }

    /// Sets the seed of sampling. Default: 1.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Sets the number of threads, at least one; each translates one batch at a time. Default: 1.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers.max(1);
        self
    }

    /// Builds the translator.
    ///
    /// # Errors
    /// When the settings are invalid or exceed the positions of the model, or the vocabularies do not belong to the
    /// model.
    pub fn build(self) -> Result<Translator<M>, DecodeError> {
        let architecture = self.model.architecture();
        let mut faults = self.config.validate();
        faults.extend(self.config.position_faults(architecture.model.position_limit()));
        if !faults.is_empty() {
            return Err(DecodeError::Config(faults));
        }
        let sides = [
            (
                "source",
                self.tokenizers.source.vocabulary_size(),
                architecture.source_vocabulary,
            ),
            (
                "target",
                self.tokenizers.target.vocabulary_size(),
                architecture.target_vocabulary,
            ),
        ];
        for (side, tokenizer, model) in sides {
            if tokenizer != model {
                return Err(DecodeError::Vocabulary { side, tokenizer, model });
            }
        }
        Ok(Translator {
            model: self.model,
            tokenizers: self.tokenizers,
            config: self.config,
            device: self.device,
            seed: self.seed,
            workers: self.workers,
        })
    }
}

impl<M: Autoregressive> Translator<M> {
    /// Starts a builder with a model and its tokenizers.
    pub fn builder(model: impl Into<Arc<M>>, tokenizers: Tokenizers) -> TranslatorBuilder<M> {
        TranslatorBuilder {
            model: model.into(),
            tokenizers,
            config: DecodeConfig::default(),
            device: Device::Cpu,
            seed: 1,
            workers: 1,
        }
    }

    /// The search settings.
    pub fn config(&self) -> &DecodeConfig {
        &self.config
    }

    /// The tokenizers.
    pub fn tokenizers(&self) -> &Tokenizers {
        &self.tokenizers
    }

    /// The model.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// Translates lines. The result has one entry for each line, in order. Sampling depends on the line number; the
    /// first line has the number `first_line`.
    ///
    /// # Errors
    /// When the tokenizer or the model fails.
    pub fn translate<S: AsRef<str> + Sync>(
        &self,
        lines: &[S],
        first_line: u64,
    ) -> Result<Vec<Translation>, DecodeError> {
        let reader = Reader {
            tokenizer: &self.tokenizers.source,
            config: &self.config,
            eos: self.model.architecture().eos_id,
            threads: self.workers,
        };
        let sources = reader.read(lines, first_line)?;
        // Every part is a separate sentence with its own number.
        let (mut sentences, mut numbers) = (Vec::new(), Vec::new());
        for (line, source) in sources.iter().enumerate() {
            for (i, part) in source.parts.iter().enumerate() {
                sentences.push(part.tokens.as_slice());
                numbers.push((first_line + line as u64) | (i as u64) << 40);
            }
        }
        let batches = self.batches(&sentences);
        let found = self.run(&batches, &sentences, &numbers)?;
        let mut hypotheses: Vec<Vec<Hypothesis>> = vec![Vec::new(); sentences.len()];
        for (batch, results) in batches.iter().zip(found) {
            for (sentence, result) in batch.iter().zip(results) {
                hypotheses[*sentence] = result;
            }
        }
        let mut hypotheses = hypotheses.into_iter();
        let finish = |source: Source| {
            let found: Vec<Vec<Hypothesis>> = hypotheses.by_ref().take(source.parts.len()).collect();
            self.put_together(source, found)
        };
        sources.into_iter().map(finish).collect()
    }

    /// Joins the translations of a line's parts.
    fn put_together(&self, source: Source, found: Vec<Vec<Hypothesis>>) -> Result<Translation, DecodeError> {
        let best =
            |hypotheses: &Vec<Hypothesis>| hypotheses.first().map(|best| best.tokens.clone()).unwrap_or_default();
        let targets = found.iter().map(best).collect();
        let most = found.iter().map(Vec::len).max().unwrap_or_default();
        let mut candidates: Vec<Candidate> = Vec::with_capacity(most);
        for rank in 0..most {
            let mut text = String::new();
            let mut whole = empty_hypothesis();
            for (part, hypotheses) in source.parts.iter().zip(&found) {
                // A part may have fewer translations than another.
                let Some(hypothesis) = hypotheses.get(rank).or(hypotheses.last()) else {
                    continue;
                };
                if part.is_apart && !text.is_empty() {
                    text.push(' ');
                }
                text += &self.text_of(&hypothesis.tokens)?;
                if found.len() == 1 {
                    whole = hypothesis.clone();
                } else {
                    append(&mut whole, hypothesis, &self.config);
                }
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
            targets,
            cut_tokens: source.cut_tokens,
            unknown_tag: source.unknown_tag,
            candidates,
        })
    }

    /// Groups sentences of similar length into batches of similar size within the token limit, longest first. There are
    /// as many for each worker, so that no worker waits long for the last batch of another.
    fn batches(&self, encoded: &[&[u32]]) -> Vec<Vec<usize>> {
        let rows = if self.config.sample {
            self.config.n_best
        } else {
            self.config.beam
        };
        let limit = match self.config.compute {
            // 8-bit weights are read so fast that few rows suffice, and the keys and values of few rows stay in a
            // cache.
            DecodeCompute::Int8 => self.config.batch_tokens.div_ceil(4),
            DecodeCompute::F32 | DecodeCompute::Bf16 => self.config.batch_tokens,
        };
        let mut order: Vec<usize> = (0..encoded.len()).collect();
        order.sort_by_key(|i| (std::cmp::Reverse(encoded[*i].len()), *i));
        let all: usize = encoded.iter().map(|sentence| sentence.len() * rows).sum();
        // Several batches for each worker, unless they would have so few rows that reading the weights takes the time.
        let several = (SHARES * self.workers).min(encoded.len() * rows / LEAST_ROWS);
        let count = all.div_ceil(limit).max(several).next_multiple_of(self.workers);
        let mut batches: Vec<Vec<usize>> = Vec::new();
        let mut so_far = 0;
        for line in order {
            // The batch in which the first token of this line lies if the tokens of all lines are divided evenly.
            let own = so_far * count / all.max(1);
            so_far += encoded[line].len() * rows;
            let batches_so_far = batches.len();
            match batches.last_mut() {
                // The first line of a batch is its longest.
                Some(batch) if (batch.len() + 1) * encoded[batch[0]].len() * rows <= limit && own < batches_so_far => {
                    batch.push(line);
                }
                _ => batches.push(vec![line]),
            }
        }
        batches
    }

    /// Searches all batches; each free worker takes the next one. Results are in the order of the batches.
    fn run(
        &self,
        batches: &[Vec<usize>],
        encoded: &[&[u32]],
        numbers: &[u64],
    ) -> Result<Vec<Vec<Vec<Hypothesis>>>, DecodeError> {
        in_order(self.workers, batches, |batch| {
            let sentences: Vec<&[u32]> = batch.iter().map(|sentence| encoded[*sentence]).collect();
            let source = Tokens::new(&sentences, &self.device)?;
            let numbers: Vec<u64> = batch.iter().map(|sentence| numbers[*sentence]).collect();
            let text_of = |tokens: &[u32]| self.text_of(tokens);
            let text_of: Option<&TextOf> = self.tells_texts_apart().then_some(&text_of);
            search_of_texts(&*self.model, &source, &self.config, self.seed, &numbers, text_of)
        })
    }

    /// Whether candidates with the same text count as one. With only one candidate there is nothing to compare.
    fn tells_texts_apart(&self) -> bool {
        self.config.distinct && self.config.n_best > 1
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
}

impl Translator {
    /// Computes the attention of a translation's target tokens to its source, by a forward pass that records attention.
    ///
    /// # Errors
    /// When the model fails.
    pub fn align(&self, source: &[u32], target: &[u32]) -> Result<Alignment, DecodeError> {
        let architecture = self.model.architecture();
        let mut input = vec![architecture.target_pad_id()];
        input.extend_from_slice(target);
        // If a translation was cut at the last learned position, there is no position for `</s>`.
        let limit = architecture.model.position_limit();
        let is_whole = limit.is_none_or(|limit| input.len() <= limit);
        input.truncate(limit.unwrap_or(input.len()));
        let record = AttentionRecord::new();
        let source_tokens = Tokens::new(&[source], &self.device)?;
        let target_tokens = Tokens::new(&[input], &self.device)?;
        let model = self.model.transformer()?;
        let encoded = model.encode(&source_tokens, Pass::default())?;
        model.decode(
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
        let mut ended = target.to_vec();
        ended.extend(is_whole.then_some(architecture.eos_id));
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

fn empty_hypothesis() -> Hypothesis {
    Hypothesis {
        tokens: Vec::new(),
        token_log_probabilities: Vec::new(),
        log_probability: 0.0,
        score: 0.0,
        finished: true,
    }
}

/// Adds the translation of another part of the same line. Probabilities are multiplied; the score covers all tokens.
fn append(whole: &mut Hypothesis, part: &Hypothesis, config: &DecodeConfig) {
    whole.tokens.extend(&part.tokens);
    whole.token_log_probabilities.extend(&part.token_log_probabilities);
    whole.log_probability += part.log_probability;
    whole.score = config.score(whole.log_probability, whole.token_log_probabilities.len());
    whole.finished &= part.finished;
}
