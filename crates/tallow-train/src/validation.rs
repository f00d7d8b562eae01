//! How good a model is on text it was not trained on.

use crate::{TrainError, ValidationLine};
use candle_core::Device;
use std::sync::atomic::{AtomicUsize, Ordering};
use tallow_data::{Corpus, fixed_batches};
use tallow_decode::{DecodeConfig, DecodeError, Translator};
use tallow_model::{LossOptions, Pass, Tokens, Transformer};
use tallow_score::{ScoreConfig, exact_match};
use tallow_text::Tokenizers;

use crate::Metric;

/// Parallel text to validate on.
#[derive(Debug)]
pub struct ValidationSet {
    /// Source lines.
    pub source: Vec<String>,
    /// Their reference translations.
    pub target: Vec<String>,
    /// Both, as tokens.
    pub corpus: Corpus,
    /// Padded tokens of a batch.
    pub batch_tokens: usize,
    /// How translations are compared with their references.
    pub score: ScoreConfig,
}

/// The results of a validation.
#[derive(Clone, Debug, PartialEq)]
pub struct Validation {
    /// Cross-entropy per target token in nats, without label smoothing.
    pub loss: f64,
    /// The exponential of the loss. It compares models of one tokenizer only.
    pub perplexity: f64,
    /// BLEU, as the config wants it scored.
    pub bleu: Option<f64>,
    /// chrF2.
    pub chrf: Option<f64>,
    /// Percent of translations that equal their reference.
    pub exact_match: Option<f64>,
    /// Some source lines with their translations and references.
    pub samples: Vec<[String; 3]>,
}

impl Validation {
    fn of_broken_model() -> Self {
        Self {
            loss: f64::NAN,
            perplexity: f64::NAN,
            bleu: None,
            chrf: None,
            exact_match: None,
            samples: Vec::new(),
        }
    }

    /// The scores in words, for a model card: with the signatures of what measured them, and how it was searched for them.
    pub fn summary(&self, score: &ScoreConfig, search: &DecodeConfig) -> String {
        let shown = |name: &str, value: Option<f64>, signature: String| {
            value.map(|value| format!("{name} {value:.2} (`{signature}`)"))
        };
        let scores: Vec<String> = [
            shown("BLEU", self.bleu, score.bleu().signature(1).to_string()),
            shown("chrF2", self.chrf, score.chrf().signature(1).to_string()),
            Some(format!("perplexity per target token {:.2}", self.perplexity)),
        ]
        .into_iter()
        .flatten()
        .collect();
        format!("validation set, {}: {}.", search.summary(), scores.join(", "))
    }

    /// The value of a metric.
    pub fn value(&self, metric: Metric) -> f64 {
        match metric {
            Metric::Loss => self.loss,
            Metric::Perplexity => self.perplexity,
            Metric::Bleu => self.bleu.unwrap_or(f64::NAN),
            Metric::Chrf => self.chrf.unwrap_or(f64::NAN),
            Metric::ExactMatch => self.exact_match.unwrap_or(f64::NAN),
        }
    }
}

impl From<&Validation> for ValidationLine {
    fn from(validation: &Validation) -> Self {
        let scores = [
            ("bleu", validation.bleu),
            ("chrf", validation.chrf),
            ("exact_match", validation.exact_match),
        ];
        Self {
            loss: validation.loss,
            perplexity: validation.perplexity,
            scores: scores.map(|(key, score)| (key.to_owned(), score)).into(),
        }
    }
}

impl ValidationSet {
    /// Measures a model: the loss of the references, and the scores of its own translations. A model whose scores are not
    /// finite has none; whether its run can be saved is not for a validation to say.
    ///
    /// # Errors
    /// When the model or the search fails.
    pub fn validate(
        &self,
        model: &Transformer,
        tokenizers: &Tokenizers,
        decode: &DecodeConfig,
        samples: usize,
        workers: usize,
        device: &Device,
    ) -> Result<Validation, TrainError> {
        let (nats, tokens) = perplexity(model, &self.corpus, self.batch_tokens, workers, device)?;
        let translator = Translator::builder(model.clone(), tokenizers.clone())
            .config(decode.clone())
            .device(device.clone())
            .seed(0)
            .workers(workers)
            .build()?;
        let translations = match translator.translate(&self.source, 0) {
            Ok(translations) => translations,
            Err(DecodeError::NotFinite) => return Ok(Validation::of_broken_model()),
            Err(error) => return Err(error.into()),
        };
        let hypotheses: Vec<&str> = translations.iter().map(|translation| translation.text()).collect();
        let references = std::slice::from_ref(&self.target);
        // The same lines every time, spread over the set.
        let step = (hypotheses.len() / samples.max(1)).max(1);
        let sample = |i: usize| {
            [
                self.source[i].clone(),
                hypotheses[i].to_string(),
                self.target[i].clone(),
            ]
        };
        let loss = nats / tokens as f64;
        Ok(Validation {
            loss,
            perplexity: loss.exp(),
            bleu: Some(self.score.bleu().corpus(&hypotheses, references)?.score),
            chrf: Some(self.score.chrf().corpus(&hypotheses, references)?.score),
            exact_match: Some(exact_match(&hypotheses, references)?),
            samples: (0..hypotheses.len()).step_by(step).take(samples).map(sample).collect(),
        })
    }
}

/// The sum of the cross-entropy over all target tokens of a corpus, in nats and without label smoothing, and how many
/// tokens these are. Perplexity is exp(sum / tokens).
///
/// # Errors
/// When the model fails.
pub fn perplexity(
    model: &Transformer,
    corpus: &Corpus,
    batch_tokens: usize,
    workers: usize,
    device: &Device,
) -> Result<(f64, usize), TrainError> {
    let start_id = model.architecture().target_pad_id();
    let batches = fixed_batches(corpus, batch_tokens.div_ceil(workers));
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<(usize, f64, usize)>, TrainError> {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(indices) = batches.get(index) else {
                return Ok(done);
            };
            let flat = corpus.batch(indices).flatten(start_id);
            let source = Tokens::from_flat(&flat.source, &flat.source_lengths, device)?;
            let target = Tokens::from_flat(&flat.target_input, &flat.target_lengths, device)?;
            let loss = model
                .loss(&source, &target, &flat.labels, LossOptions::default(), Pass::default())?
                .to_scalar::<f32>()?;
            done.push((index, f64::from(loss), flat.labels.len()));
        }
    };
    let mut parts = std::thread::scope(|scope| {
        let threads: Vec<_> = (1..workers.min(batches.len())).map(|_| scope.spawn(work)).collect();
        let mut parts = work()?;
        for thread in threads {
            parts.extend(thread.join().unwrap_or(Err(TrainError::Worker))?);
        }
        Ok::<_, TrainError>(parts)
    })?;
    // The order of the additions must not depend on which worker was faster.
    parts.sort_by_key(|(index, _, _)| *index);
    Ok(parts
        .iter()
        .fold((0.0, 0), |(nats, tokens), part| (nats + part.1, tokens + part.2)))
}
