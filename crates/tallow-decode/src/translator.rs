//! Translation of text: tokenise, batch, search and detokenise, in the order of the input.

use crate::alignment::{copy_unknown, pieces};
use crate::beam_record::BeamObserver;
use crate::hypothesis::TextOf;
use crate::minimum_risk::{drawing, rank};
use crate::pieces::continuing;
use crate::{
    Autoregressive, DecodeCompute, DecodeConfig, DecodeError, Hypothesis, Part, ReadLines, Search, Sentence,
    SentenceRequest, Shortlist, Translation, UnknownPieces, Utility,
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

    /// A builder with the parts and settings of this translator, for one of the same model with other settings.
    pub fn to_builder(&self) -> TranslatorBuilder<M> {
        TranslatorBuilder {
            model: self.model.clone(),
            tokenizers: self.tokenizers.clone(),
            config: self.config.clone(),
            device: self.device.clone(),
            seed: self.seed,
            workers: self.workers,
            attention: self.attention,
            observer: self.observer.clone(),
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
        let sentences = self.read_lines(lines, first_line, |_, _, _| Ok(()))?;
        self.translate_read(sentences)
    }

    /// Translates lines, each with what is asked of its translation; otherwise as [`Self::translate`].
    ///
    /// # Errors
    /// When a translation cannot be as it is asked for, or the tokenizer or the model fails.
    pub fn translate_inputs(&self, inputs: &[Input], first_line: u64) -> Result<Vec<Translation>, DecodeError> {
        self.translate_read(self.read(inputs, first_line)?)
    }

    fn translate_read(&self, lines: ReadLines) -> Result<Vec<Translation>, DecodeError> {
        let found = self.search_all(lines.sentences())?;
        self.finish(lines, found)
    }

    /// Searches for the translations of sentences, in batches; the results are in the order of the sentences.
    pub(crate) fn search_all(&self, sentences: &[Sentence]) -> Result<Vec<Vec<Hypothesis>>, DecodeError> {
        let lengths: Vec<usize> = sentences.iter().map(|sentence| sentence.tokens.len()).collect();
        let batches = self.batches(&lengths);
        let found = in_order(self.workers, &batches, |batch| {
            let batch: Vec<&Sentence> = batch.iter().map(|sentence| &sentences[*sentence]).collect();
            self.search(&batch)
        })?;
        let mut hypotheses: Vec<Vec<Hypothesis>> = vec![Vec::new(); sentences.len()];
        for (batch, results) in batches.iter().zip(found) {
            for (sentence, result) in batch.iter().zip(results) {
                hypotheses[*sentence] = result;
            }
        }
        Ok(hypotheses)
    }

    /// The number of rows of the model's input that the search for one sentence keeps going.
    pub fn rows(&self) -> usize {
        match (self.config.mbr, self.config.sample) {
            (Utility::None, false) => self.config.beam,
            (Utility::None, true) => self.config.n_best,
            (Utility::Chrf | Utility::Bleu, _) => self.config.mbr_samples,
        }
    }

    /// The most source tokens of a batch, padded, times [`Self::rows`].
    pub fn batch_limit(&self) -> usize {
        match self.config.compute {
            // 8-bit weights are read so fast that few rows suffice, and the keys and values of few rows stay in a
            // cache.
            DecodeCompute::Int8 => self.config.batch_tokens.div_ceil(4),
            DecodeCompute::F32 | DecodeCompute::Bf16 => self.config.batch_tokens,
        }
    }

    /// Groups sentences of similar length into batches of similar size within the token limit, longest first. There are
    /// as many for each worker, so that no worker waits long for the last batch of another.
    fn batches(&self, lengths: &[usize]) -> Vec<Vec<usize>> {
        let (rows, limit) = (self.rows(), self.batch_limit());
        let mut order: Vec<usize> = (0..lengths.len()).collect();
        order.sort_by_key(|i| (std::cmp::Reverse(lengths[*i]), *i));
        let all: usize = lengths.iter().map(|length| length * rows).sum();
        // Several batches for each worker, unless they would have so few rows that reading the weights takes the time.
        let several = (SHARES * self.workers).min(lengths.len() * rows / LEAST_ROWS);
        let count = all.div_ceil(limit).max(several).next_multiple_of(self.workers);
        let mut batches: Vec<Vec<usize>> = Vec::new();
        let mut so_far = 0;
        for line in order {
            // The batch in which the first token of this line lies if the tokens of all lines are divided evenly.
            let own = so_far * count / all.max(1);
            so_far += lengths[line] * rows;
            let batches_so_far = batches.len();
            match batches.last_mut() {
                // The first line of a batch is its longest.
                Some(batch) if (batch.len() + 1) * lengths[batch[0]] * rows <= limit && own < batches_so_far => {
                    batch.push(line);
                }
                _ => batches.push(vec![line]),
            }
        }
        batches
    }

    /// Searches for the translations of sentences in one batch, in the calling thread; the results are in the order of
    /// the sentences, best first. A sentence's translations do not depend on the others.
    ///
    /// # Errors
    /// When a translation cannot be as it is asked for, or the model fails.
    pub fn search(&self, batch: &[&Sentence]) -> Result<Vec<Vec<Hypothesis>>, DecodeError> {
        let sentences: Vec<&[u32]> = batch.iter().map(|sentence| &sentence.tokens[..]).collect();
        let source = Tokens::new(&sentences, &self.device)?;
        let requests: Vec<SentenceRequest> = batch.iter().map(|sentence| sentence.request.clone()).collect();
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
    }

    /// Whether candidates with the same text count as one. With only one candidate there is nothing to compare.
    pub(crate) fn tells_texts_apart(&self) -> bool {
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
