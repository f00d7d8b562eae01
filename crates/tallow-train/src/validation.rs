//! Validation: how good a model is on text that it was not trained on.

use crate::{Measure, TrainError};
use candle_core::Device;
use tallow_data::{Corpus, fixed_batches, in_order};
use tallow_decode::{DecodeConfig, DecodeError, Translation, Translator};
use tallow_model::{LossOptions, Pass, Tokens, Transformer};
use tallow_score::{Metric, Score, ScoreConfig};
use tallow_text::Tokenizers;

/// Parallel text to validate on.
#[derive(Debug)]
pub struct ValidationSet {
    /// Source lines.
    pub source: Vec<String>,
    /// The reference translations.
    pub target: Vec<String>,
    /// Source and target as tokens.
    pub corpus: Corpus,
    /// Size of a batch in padded tokens.
    pub batch_tokens: usize,
    /// The metrics of translations: [`ScoreConfig::metrics`], including that of `train.metric`.
    pub metrics: Vec<&'static dyn Metric>,
    /// How translations are compared with their references.
    pub score: ScoreConfig,
}

/// The results of a validation.
#[derive(Clone, Debug, PartialEq)]
pub struct Validation {
    /// Cross-entropy per target token in nats, without label smoothing.
    pub loss: f64,
    /// The exponential of the loss. Only models with the same tokenizer can be compared by it.
    pub perplexity: f64,
    /// The scores of translations that the config asks for, in the order of [`METRICS`](tallow_score::METRICS). A model
    /// whose scores are not finite numbers has none.
    pub scores: Vec<(&'static dyn Metric, Option<Score>)>,
    /// Some source lines with their translations and references.
    pub samples: Vec<[String; 3]>,
}

impl Validation {
    fn of_broken_model(metrics: &[&'static dyn Metric]) -> Self {
        Self {
            loss: f64::NAN,
            perplexity: f64::NAN,
            scores: metrics.iter().map(|metric| (*metric, None)).collect(),
            samples: Vec::new(),
        }
    }

    /// The scores in words for a model card, with the signatures of the metrics and the settings of the search.
    pub fn summary(&self, search: &DecodeConfig) -> String {
        let scores = self.scores.iter().filter_map(|(_, score)| score.as_ref());
        // Without a signature, a reader would not know which scores can be compared.
        let mut told: Vec<String> = scores
            .filter(|score| !score.signature.is_empty())
            .map(|score| format!("{} {:.2} (`{}`)", score.name, score.score, score.signature))
            .collect();
        told.push(format!("perplexity per target token {:.2}", self.perplexity));
        format!("validation set, {}: {}.", search.summary(), told.join(", "))
    }

    /// The value of a measure; NaN if there is none.
    pub fn value(&self, measure: Measure) -> f64 {
        match measure {
            Measure::Loss => self.loss,
            Measure::Perplexity => self.perplexity,
            Measure::Score(metric) => {
                let found = self.scores.iter().find(|(of, _)| *of == metric);
                found
                    .and_then(|(_, score)| score.as_ref())
                    .map_or(f64::NAN, |score| score.score)
            }
        }
    }
}

impl ValidationSet {
    /// Measures a model: the loss of the references, and the scores of the model's own translations. A model whose
    /// scores are not finite has none. Validation does not decide whether such a run can be saved.
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
        let translator = Translator::builder(model.prepare(decode.compute.into())?, tokenizers.clone())
            .config(decode.clone())
            .device(device.clone())
            .seed(0)
            .workers(workers)
            .build()?;
        let references = std::slice::from_ref(&self.target);
        let evaluation = match evaluate(
            &translator,
            &self.source,
            references,
            &self.metrics,
            &self.score,
            |_| {},
        ) {
            Ok(evaluation) => evaluation,
            Err(TrainError::Decode(DecodeError::NotFinite)) => {
                return Ok(Validation::of_broken_model(&self.metrics));
            }
            Err(error) => return Err(error),
        };
        let hypotheses = evaluation.hypotheses();
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
            samples: (0..hypotheses.len()).step_by(step).take(samples).map(sample).collect(),
            scores: evaluation
                .scores
                .into_iter()
                .map(|(metric, score)| (metric, Some(score)))
                .collect(),
        })
    }
}

/// A model's translations of a set, and their scores.
#[derive(Debug)]
pub struct Evaluation {
    /// The translation of each line.
    pub translations: Vec<Translation>,
    /// The score of each metric, in the requested order.
    pub scores: Vec<(&'static dyn Metric, Score)>,
}

impl Evaluation {
    /// The text of the best translation of each line.
    pub fn hypotheses(&self) -> Vec<&str> {
        self.translations.iter().map(Translation::text).collect()
    }
}

/// Lines that [`evaluate`] translates between two reports of its progress. Batches are best filled from many lines.
pub const EVALUATED_LINES: usize = 4096;

/// Translates a set and scores the translations. `references[r][i]` is the `r`-th reference of line `i`. `progress`
/// gets the translations so far, after every [`EVALUATED_LINES`] lines and at the end.
///
/// # Errors
/// When the search fails, or a metric cannot be computed.
pub fn evaluate(
    translator: &Translator,
    source: &[String],
    references: &[Vec<String>],
    metrics: &[&'static dyn Metric],
    score: &ScoreConfig,
    mut progress: impl FnMut(&[Translation]),
) -> Result<Evaluation, TrainError> {
    let mut translations = Vec::with_capacity(source.len());
    for block in source.chunks(EVALUATED_LINES) {
        translations.extend(translator.translate(block, translations.len() as u64)?);
        progress(&translations);
    }
    let mut evaluation = Evaluation {
        translations,
        scores: Vec::new(),
    };
    let hypotheses = evaluation.hypotheses();
    let scores = metrics
        .iter()
        .map(|metric| Ok((*metric, metric.corpus(&hypotheses, references, score)?)))
        .collect::<Result<_, TrainError>>()?;
    evaluation.scores = scores;
    Ok(evaluation)
}

/// The sum of the cross-entropy over all target tokens of a corpus, in nats and without label smoothing, and the number
/// of these tokens. Perplexity is exp(sum / tokens).
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
    let parts = in_order(workers, &batches, |indices| -> Result<(f64, usize), TrainError> {
        let flat = corpus.batch(indices).flatten(start_id);
        let source = Tokens::from_flat(&flat.source, &flat.source_lengths, device)?;
        let target = Tokens::from_flat(&flat.target_input, &flat.target_lengths, device)?;
        let loss = model
            .loss(&source, &target, &flat.labels, LossOptions::default(), Pass::default())?
            .total
            .to_scalar::<f32>()?;
        Ok((f64::from(loss), flat.labels.len()))
    })?;
    Ok(parts
        .iter()
        .fold((0.0, 0), |(nats, tokens), part| (nats + part.0, tokens + part.1)))
}
