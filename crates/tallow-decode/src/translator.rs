//! Translation of text: tokenise, batch, search and detokenise, in the order of the input.

use crate::alignment::{copy_unknown, pieces};
use crate::beam_record::BeamObserver;
use crate::hypothesis::TextOf;
use crate::keep::kept;
use crate::minimum_risk::{drawing, rank};
use crate::pieces::{continuing, phrase_tokens};
use crate::source::{Reader, Source};
use crate::translation::{append, empty_hypothesis};
use crate::{
    Autoregressive, Candidate, DecodeCompute, DecodeConfig, DecodeError, Hypothesis, Part, Search, SentenceRequest,
    Shortlist, Translation, UnknownPieces, Utility,
};
use candle_core::Device;
use std::sync::{Arc, OnceLock};
use tallow_data::in_order;
use tallow_model::{AlignmentHeads, PreparedTransformer, Tokens};
use tallow_text::{Tokenizers, WordBegins};

/// Batches for each worker, if there are enough sentences. Sentences of equal length take different time, so the last
/// batches of the workers end at different times.
const SHARES: usize = 3;

/// The number of rows from which a batch is worth its reading of all weights.
const LEAST_ROWS: usize = 32;

/// A line to translate, and what is asked of its translation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Input {
    /// The line.
    pub text: String,
    /// The text with which the translation begins. It ends with a whole piece of the vocabulary, so the translation may
    /// continue its last word.
    pub prefix: String,
    /// Texts that the translation contains, as whole words. For a line that is translated in parts there must be none.
    pub phrases: Vec<String>,
}

impl AsRef<str> for Input {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

/// A model with its tokenizers, ready to translate lines. It owns its parts, is cheap to clone, and may be shared
/// between threads.
#[derive(Debug)]
pub struct Translator<M = PreparedTransformer> {
    pub(crate) model: Arc<M>,
    pub(crate) tokenizers: Tokenizers,
    pub(crate) config: DecodeConfig,
    /// Sequences of tokens that no translation contains.
    forbidden: Vec<Vec<u32>>,
    pub(crate) shortlist: Option<Arc<Shortlist>>,
    /// Whether each target token goes on with the word before it, once a phrase has been asked for.
    continuing: Arc<OnceLock<Box<[bool]>>>,
    pub(crate) word_begins: Arc<OnceLock<[WordBegins; 2]>>,
    pub(crate) device: Device,
    seed: u64,
    pub(crate) workers: usize,
    attention: bool,
    observer: Option<Arc<dyn BeamObserver>>,
}

impl<M> Clone for Translator<M> {
    fn clone(&self) -> Self {
        Self {
            model: self.model.clone(),
            tokenizers: self.tokenizers.clone(),
            config: self.config.clone(),
            forbidden: self.forbidden.clone(),
            shortlist: self.shortlist.clone(),
            continuing: self.continuing.clone(),
            word_begins: self.word_begins.clone(),
            device: self.device.clone(),
            seed: self.seed,
            workers: self.workers,
            attention: self.attention,
            observer: self.observer.clone(),
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
    attention: bool,
    observer: Option<Arc<dyn BeamObserver>>,
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

    /// Sets whether hypotheses have their attention. Default: only if the settings need it.
    pub fn attention(mut self, is_recorded: bool) -> Self {
        self.attention = is_recorded;
        self
    }

    /// Sets who gets every step of beam searches. Default: nobody.
    pub fn observer(mut self, observer: Arc<dyn BeamObserver>) -> Self {
        self.observer = Some(observer);
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
        if let Err(error) = AlignmentHeads::new(&self.config.alignment_heads, &architecture.model) {
            faults.push(format!("decode.alignment_heads: {error}"));
        }
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
            forbidden: self.config.forbidden_tokens(&self.tokenizers.target)?,
            shortlist: match &self.config.shortlist {
                Some(path) => Some(Arc::new(Shortlist::open(path, &self.tokenizers)?)),
                None => None,
            },
            continuing: Arc::default(),
            word_begins: Arc::default(),
            model: self.model,
            tokenizers: self.tokenizers,
            config: self.config,
            device: self.device,
            seed: self.seed,
            workers: self.workers,
            attention: self.attention,
            observer: self.observer,
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
            attention: false,
            observer: None,
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
        self.translate_with(lines, first_line, |_, _, _| Ok(()))
    }

    /// Translates lines, each with what is asked of its translation; otherwise as [`Self::translate`].
    ///
    /// # Errors
    /// When a translation cannot be as it is asked for, or the tokenizer or the model fails.
    pub fn translate_inputs(&self, inputs: &[Input], first_line: u64) -> Result<Vec<Translation>, DecodeError> {
        let tokenizer = &self.tokenizers.target;
        self.translate_with(inputs, first_line, |input, parts, requests| {
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

    /// Translates lines. `ask` gets a line, the number of its parts, and their requests.
    fn translate_with<S: AsRef<str> + Sync>(
        &self,
        lines: &[S],
        first_line: u64,
        ask: impl Fn(&S, usize, &mut [SentenceRequest]) -> Result<(), DecodeError>,
    ) -> Result<Vec<Translation>, DecodeError> {
        let reader = Reader {
            tokenizer: &self.tokenizers.source,
            config: &self.config,
            eos: self.model.architecture().eos_id,
            threads: self.workers,
        };
        let sources = reader.read(lines, first_line)?;
        // Every part is a separate sentence with its own number.
        let (mut sentences, mut requests) = (Vec::new(), Vec::new());
        for (line, source) in sources.iter().enumerate() {
            let number = first_line + line as u64;
            let parts = 0..source.parts.len();
            let mut of_line: Vec<SentenceRequest> = parts.map(|part| SentenceRequest::of_part(number, part)).collect();
            ask(&lines[line], source.parts.len(), &mut of_line)?;
            for (part, request) in source.parts.iter().zip(&mut of_line) {
                self.keep(&part.text, request)?;
            }
            sentences.extend(source.parts.iter().map(|part| part.tokens.as_slice()));
            requests.extend(of_line);
        }
        let mut hypotheses = self.search_all(&sentences, &requests)?.into_iter();
        let finish = |source: Source| {
            let found: Vec<Vec<Hypothesis>> = hypotheses.by_ref().take(source.parts.len()).collect();
            self.put_together(source, found)
        };
        sources.into_iter().map(finish).collect()
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

    /// Searches for the translations of sentences, in batches; the results are in the order of the sentences.
    pub(crate) fn search_all(
        &self,
        sentences: &[&[u32]],
        requests: &[SentenceRequest],
    ) -> Result<Vec<Vec<Hypothesis>>, DecodeError> {
        let batches = self.batches(sentences);
        let found = self.run(&batches, sentences, requests)?;
        let mut hypotheses: Vec<Vec<Hypothesis>> = vec![Vec::new(); sentences.len()];
        for (batch, results) in batches.iter().zip(found) {
            for (sentence, result) in batch.iter().zip(results) {
                hypotheses[*sentence] = result;
            }
        }
        Ok(hypotheses)
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

    /// Groups sentences of similar length into batches of similar size within the token limit, longest first. There are
    /// as many for each worker, so that no worker waits long for the last batch of another.
    fn batches(&self, encoded: &[&[u32]]) -> Vec<Vec<usize>> {
        let rows = match (self.config.mbr, self.config.sample) {
            (Utility::None, false) => self.config.beam,
            (Utility::None, true) => self.config.n_best,
            (Utility::Chrf | Utility::Bleu, _) => self.config.mbr_samples,
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
        requests: &[SentenceRequest],
    ) -> Result<Vec<Vec<Vec<Hypothesis>>>, DecodeError> {
        in_order(self.workers, batches, |batch| {
            let sentences: Vec<&[u32]> = batch.iter().map(|sentence| encoded[*sentence]).collect();
            let source = Tokens::new(&sentences, &self.device)?;
            let requests: Vec<SentenceRequest> = batch.iter().map(|sentence| requests[*sentence].clone()).collect();
            let text_of = |tokens: &[u32]| self.text_of(tokens);
            let texts: Option<&TextOf> = self.tells_texts_apart().then_some(&text_of);
            let continuing: &[bool] = match requests.iter().all(|request| request.phrases.is_empty()) {
                true => &[],
                false => self.continuing.get_or_init(|| continuing(&self.tokenizers.target)),
            };
            let run = |config: &DecodeConfig, texts| {
                let search = Search::new(config).seed(self.seed).forbidden(&self.forbidden);
                let search = search
                    .continuing(continuing)
                    .shortlist(self.shortlist.as_deref())
                    .attention(self.attention)
                    .observer(self.observer.as_deref())
                    .texts(texts);
                search.run(&*self.model, &source, &requests)
            };
            if self.config.mbr == Utility::None {
                return run(&self.config, texts);
            }
            let choose = |samples| {
                let mut ranked = rank(samples, self.config.mbr, &text_of)?;
                ranked.truncate(self.config.n_best);
                Ok(ranked)
            };
            run(&drawing(&self.config), None)?.into_iter().map(choose).collect()
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

    /// The text of a part's translation, with copies of unknown words if these are asked for.
    pub(crate) fn text_of_part(&self, hypothesis: &Hypothesis, part: &Part) -> Result<String, DecodeError> {
        let text = self.text_of(&hypothesis.tokens)?;
        if self.config.unknown != UnknownPieces::Copy {
            return Ok(text);
        }
        let (target, [begins, _]) = (&self.tokenizers.target, self.word_begins()?);
        let source = (&part.text[..], &part.tokens[..]);
        Ok(copy_unknown(&text, hypothesis, target, source, begins))
    }

    /// The pieces of target tokens.
    pub fn target_pieces(&self, tokens: &[u32]) -> Vec<String> {
        pieces(&self.tokenizers.target, tokens)
    }
}
