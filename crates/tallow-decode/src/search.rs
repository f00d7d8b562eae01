//! The choice between the searches.

use crate::beam::search_beams;
use crate::beam_record::BeamObserver;
use crate::hypothesis::TextOf;
use crate::phrases::Phrases;
use crate::request::length_limit;
use crate::rules::Rules;
use crate::sampling::{Choice, sample, without_repeats};
use crate::{Autoregressive, DecodeConfig, DecodeError, Hypothesis, SentenceRequest, Shortlist, UnknownPieces};
use std::ops::Range;
use tallow_model::Tokens;

/// A search with its settings, for batches of sentences.
#[derive(Clone, Copy)]
pub struct Search<'a> {
    pub(crate) config: &'a DecodeConfig,
    pub(crate) seed: u64,
    pub(crate) forbidden: &'a [Vec<u32>],
    pub(crate) text_of: Option<&'a TextOf<'a>>,
    continuing: &'a [bool],
    shortlist: Option<&'a Shortlist>,
    attention: bool,
    pub(crate) observer: Option<&'a dyn BeamObserver>,
}

impl<'a> Search<'a> {
    /// A search with these settings. `forbid`, `unknown` and `distinct` concern texts and pieces by name; they take
    /// effect in a [`crate::Translator`], which knows the tokenizer.
    pub fn new(config: &'a DecodeConfig) -> Self {
        Self {
            config,
            seed: 1,
            forbidden: &[],
            text_of: None,
            continuing: &[],
            shortlist: None,
            attention: false,
            observer: None,
        }
    }

    /// Sets the seed of sampling. Default: 1.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Sets sequences of tokens that no translation contains. Default: none.
    #[must_use]
    pub fn forbidden(mut self, sequences: &'a [Vec<u32>]) -> Self {
        self.forbidden = sequences;
        self
    }

    /// Sets, for each token, whether it goes on with the word before it: phrases must not be followed by such tokens.
    /// Default: phrases may end within words.
    #[must_use]
    pub fn continuing(mut self, tokens: &'a [bool]) -> Self {
        self.continuing = tokens;
        self
    }

    /// Restricts every sentence to the pieces of a shortlist. Default: all pieces.
    #[must_use]
    pub fn shortlist(mut self, shortlist: Option<&'a Shortlist>) -> Self {
        self.shortlist = shortlist;
        self
    }

    /// The state of a model before the first token.
    pub(crate) fn start<M: Autoregressive>(
        &self,
        model: &M,
        source: &Tokens,
        requests: &[SentenceRequest],
    ) -> Result<M::State, DecodeError> {
        let mut state = match self.shortlist {
            None => model.start(source)?,
            Some(shortlist) => {
                let ids = source.ids.to_vec1::<u32>()?;
                let candidates = |(range, request): (Range<usize>, &SentenceRequest)| {
                    let mut pieces = shortlist.of_sentence(&ids[range]);
                    pieces.extend(request.prefix.iter().chain(request.phrases.iter().flatten()));
                    pieces.retain(|piece| (*piece as usize) < model.architecture().classes());
                    pieces.sort_unstable();
                    pieces.dedup();
                    pieces
                };
                let candidates: Vec<Vec<u32>> = source.sentences.ranges().zip(requests).map(candidates).collect();
                model.start_among(source, &candidates)?
            }
        };
        if self.records_attention() {
            model.record_attention(&mut state, &self.config.alignment_heads)?;
        }
        Ok(state)
    }

    /// Records the attention of hypotheses. Default: only if the settings need it.
    #[must_use]
    pub fn attention(mut self, is_recorded: bool) -> Self {
        self.attention = is_recorded;
        self
    }

    /// Tells every step of a beam search to an observer. Default: none.
    #[must_use]
    pub fn observer(mut self, observer: Option<&'a dyn BeamObserver>) -> Self {
        self.observer = observer;
        self
    }

    /// Whether the attention of hypotheses is recorded.
    pub(crate) fn records_attention(&self) -> bool {
        self.attention || self.config.coverage_penalty > 0.0 || self.config.unknown == UnknownPieces::Copy
    }

    /// Hypotheses with the same text count as one.
    pub(crate) fn texts(mut self, text_of: Option<&'a TextOf<'a>>) -> Self {
        self.text_of = text_of;
        self
    }

    /// Translates a batch of token ids with the search of the config: sampling, greedy search (a beam of one) or beam
    /// search. There is one request for each sentence.
    ///
    /// # Errors
    /// When the settings or requests are invalid, the model fails or its scores are not finite.
    pub fn run<M: Autoregressive>(
        &self,
        model: &M,
        source: &Tokens,
        requests: &[SentenceRequest],
    ) -> Result<Vec<Vec<Hypothesis>>, DecodeError> {
        let faults = self.config.validate();
        if !faults.is_empty() {
            return Err(DecodeError::Config(faults));
        }
        if requests.len() != source.sentences.count() {
            let (requests, sentences) = (requests.len(), source.sentences.count());
            return Err(DecodeError::Request(format!(
                "{requests} requests for {sentences} sentences"
            )));
        }
        let architecture = model.architecture();
        let is_text = |token: &u32| *token != architecture.eos_id && (*token as usize) < architecture.classes();
        for request in requests {
            self.check(request)?;
            let tokens = request.prefix.iter().chain(request.phrases.iter().flatten());
            if let Some(token) = tokens.into_iter().find(|token| !is_text(token)) {
                let line = request.line();
                return Err(DecodeError::Request(format!(
                    "line {line} asks for the token {token}, which is no text"
                )));
            }
        }
        let mut forbidden = self.forbidden.iter().flatten();
        if let Some(token) = forbidden.find(|token| **token as usize >= architecture.classes()) {
            return Err(DecodeError::Request(format!(
                "the forbidden token {token} is not among the model's"
            )));
        }
        match (self.config.sample, self.config.beam) {
            (true, _) => {
                let drawn = sample(model, source, self, requests, Choice::Random)?;
                without_repeats(drawn, self.text_of)
            }
            (false, 1) => sample(model, source, self, requests, Choice::Greedy),
            (false, _) => search_beams(model, source, self, requests),
        }
    }

    /// Whether a sentence's request can be met.
    pub(crate) fn check(&self, request: &SentenceRequest) -> Result<(), DecodeError> {
        let line = request.line();
        if request.least_length() > self.config.max_length {
            return Err(DecodeError::LongRequest {
                line,
                tokens: request.least_length(),
                limit: self.config.max_length,
            });
        }
        let asks_for_phrases = request.phrases.iter().any(|phrase| !phrase.is_empty());
        if asks_for_phrases && (self.config.sample || self.config.beam < 2 * self.config.groups) {
            return Err(DecodeError::PhrasesNeedBeams { line });
        }
        Ok(())
    }

    /// The rules for a sentence of this source length.
    pub(crate) fn rules(&self, eos: u32, source_length: usize, request: &'a SentenceRequest) -> Rules<'a> {
        Rules {
            config: self.config,
            eos,
            forbidden: self.forbidden,
            prefix: &request.prefix,
            ends: request.ends,
            phrases: Phrases::new(&request.phrases, self.continuing),
            limit: length_limit(self.config, source_length, request),
            source_length,
        }
    }
}

/// Translates a batch of token ids with the search of the config: sampling, greedy search (a beam of one) or beam
/// search.
///
/// `sentences` are the row numbers for sampling, so the samples of a line do not depend on its batch. Hypotheses are
/// compared by their tokens. [`Search`] can do more.
///
/// # Errors
/// When the settings are invalid, the model fails or its scores are not finite.
pub fn search<M: Autoregressive>(
    model: &M,
    source: &Tokens,
    config: &DecodeConfig,
    seed: u64,
    sentences: &[u64],
) -> Result<Vec<Vec<Hypothesis>>, DecodeError> {
    let number = |sentence: usize| sentences.get(sentence).copied().unwrap_or(sentence as u64);
    let requests: Vec<SentenceRequest> = (0..source.sentences.count())
        .map(|sentence| SentenceRequest::numbered(number(sentence)))
        .collect();
    Search::new(config).seed(seed).run(model, source, &requests)
}
