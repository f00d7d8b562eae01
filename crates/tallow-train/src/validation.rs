//! Validation: how good a model is on text that it was not trained on.

use crate::{Measure, TrainError, ValidCommand};
use candle_core::Device;
use std::fmt;
use tallow_comm::Group;
use tallow_data::{Corpus, fixed_batches, in_order};
use tallow_decode::{DecodeConfig, DecodeError, Translation, Translator};
use tallow_model::{LossOptions, Pass, Tokens, Transformer};
use tallow_score::{Metric, Score, ScoreConfig};
use tallow_text::Tokenizers;

/// Parallel text to validate on.
#[derive(Debug)]
pub struct ValidationSet {
    /// The name, if there are several sets.
    pub name: Option<String>,
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

/// The results of a validation: of a set, or what several sets give together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Validation {
    /// Cross-entropy per target token in nats, without label smoothing.
    pub loss: f64,
    /// The exponential of the loss. Only models with the same tokenizer can be compared by it.
    pub perplexity: f64,
    /// The scores of translations that the config asks for, in the order of [`METRICS`](tallow_score::METRICS). A model
    /// whose scores are not finite numbers has none.
    pub scores: Vec<(&'static dyn Metric, Option<Score>)>,
    /// The number of the user's program (`train.valid_command`): none if the config has no such program, and NaN if the
    /// program gave no number.
    pub command: Option<f64>,
    /// Some source lines with their translations and references.
    pub samples: Vec<[String; 3]>,
    /// The results of each set by its name, if there are several.
    pub sets: Vec<(String, Validation)>,
}

impl Validation {
    fn of_broken_model(metrics: &[&'static dyn Metric]) -> Self {
        Self {
            loss: f64::NAN,
            perplexity: f64::NAN,
            scores: metrics.iter().map(|metric| (*metric, None)).collect(),
            ..Self::default()
        }
    }

    /// What several sets give together: the results of one of them or, without `choice`, the mean of each number. The
    /// mean perplexity is the exponential of the mean loss.
    pub fn of_sets(sets: Vec<(String, Validation)>, choice: Option<&str>) -> Self {
        let chosen = choice.and_then(|choice| sets.iter().find(|(name, _)| name == choice));
        let samples = sets.first().map_or(Vec::new(), |(_, first)| first.samples.clone());
        let together = match chosen {
            Some((_, chosen)) => chosen.clone(),
            None => Self::mean(sets.iter().map(|(_, set)| set)),
        };
        Self {
            sets,
            samples,
            ..together
        }
    }

    fn mean<'a>(sets: impl Iterator<Item = &'a Validation> + Clone) -> Self {
        let mean = |value: &dyn Fn(&Validation) -> f64| {
            let values: Vec<f64> = sets.clone().map(value).collect();
            values.iter().sum::<f64>() / values.len() as f64
        };
        let loss = mean(&|set| set.loss);
        let metrics = sets.clone().next().map_or(&[][..], |first| &first.scores);
        let score = |(metric, _): &(&'static dyn Metric, Option<Score>)| {
            let value = mean(&|set| set.value(Measure::Score(*metric)));
            let name = metric.label();
            (*metric, value.is_finite().then(|| Score::new(name, value)))
        };
        let has_command = sets.clone().any(|set| set.command.is_some());
        Self {
            loss,
            perplexity: loss.exp(),
            scores: metrics.iter().map(score).collect(),
            command: has_command.then(|| mean(&|set| set.command.unwrap_or(f64::NAN))),
            ..Self::default()
        }
    }

    /// The scores in words for a model card, with the signatures of the metrics and the settings of the search.
    pub fn summary(&self, search: &DecodeConfig) -> String {
        if self.sets.is_empty() {
            return format!("validation set, {}: {}.", search.summary(), self.in_words());
        }
        let sets: Vec<String> = self
            .sets
            .iter()
            .map(|(name, set)| format!("{name}: {}", set.in_words()))
            .collect();
        format!("validation sets, {}: {}.", search.summary(), sets.join("; "))
    }

    fn in_words(&self) -> String {
        let scores = self.scores.iter().filter_map(|(_, score)| score.as_ref());
        // Without a signature, a reader would not know which scores can be compared.
        let mut told: Vec<String> = scores
            .filter(|score| !score.signature.is_empty())
            .map(|score| format!("{} {:.2} (`{}`)", score.name, score.score, score.signature))
            .collect();
        let command = self.command.filter(|value| value.is_finite());
        told.extend(command.map(|value| format!("the program of `train.valid_command` {value:.4}")));
        told.push(format!("perplexity per target token {:.2}", self.perplexity));
        told.join(", ")
    }

    /// The value of a measure; NaN if there is none.
    pub fn value(&self, measure: Measure) -> f64 {
        match measure {
            Measure::Loss => self.loss,
            Measure::Perplexity => self.perplexity,
            Measure::Command => self.command.unwrap_or(f64::NAN),
            Measure::Score(metric) => {
                let found = self.scores.iter().find(|(of, _)| *of == metric);
                found
                    .and_then(|(_, score)| score.as_ref())
                    .map_or(f64::NAN, |score| score.score)
            }
        }
    }
}

/// How a set is validated.
#[derive(Clone, Copy)]
pub struct ValidationOptions<'a> {
    /// The number of lines to show.
    pub samples: usize,
    /// The number of threads.
    pub workers: usize,
    /// A program of the user's that scores the translations, too.
    pub command: Option<ValidCommand<'a>>,
    /// Gets the reason, in words, why this program gave no number.
    pub on_fault: &'a dyn Fn(String),
}

impl fmt::Debug for ValidationOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValidationOptions")
            .field("samples", &self.samples)
            .field("workers", &self.workers)
            .field("command", &self.command)
            .finish_non_exhaustive()
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
        options: ValidationOptions<'_>,
        device: &Device,
    ) -> Result<Validation, TrainError> {
        self.validate_together(&Group::alone(), model, tokenizers, decode, options, device)?
            .ok_or(TrainError::Worker)
    }

    /// Does the same with work that the processes of a group share. All of them must call this; the root gets the
    /// result.
    pub(crate) fn validate_together(
        &self,
        group: &Group,
        model: &Transformer,
        tokenizers: &Tokenizers,
        decode: &DecodeConfig,
        options: ValidationOptions<'_>,
        device: &Device,
    ) -> Result<Option<Validation>, TrainError> {
        let ValidationOptions {
            samples,
            workers,
            command,
            on_fault,
        } = options;
        let loss = group_loss(model, &self.corpus, self.batch_tokens, (workers, group), device)?;
        let translator = Translator::builder(model.prepare(decode.compute.into())?, tokenizers.clone())
            .config(decode.clone())
            .device(device.clone())
            .seed(0)
            .workers(workers)
            .build()?;
        let Some(translations) = self.group_translations(&translator, group)? else {
            return Ok(None);
        };
        let Some((nats, tokens)) = loss else {
            return Ok(None);
        };
        let Some(hypotheses) = translations else {
            return Ok(Some(Validation {
                command: command.map(|_| f64::NAN),
                ..Validation::of_broken_model(&self.metrics)
            }));
        };
        let hypotheses: Vec<&str> = hypotheses.iter().map(String::as_str).collect();
        let references = std::slice::from_ref(&self.target);
        let scores = scores(&hypotheses, references, &self.metrics, &self.score)?;
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
        let command = command.map(|command| {
            let lines = [
                self.source.iter().map(String::as_str).collect(),
                hypotheses.clone(),
                self.target.iter().map(String::as_str).collect::<Vec<_>>(),
            ];
            let score = command.score(self.name.as_deref(), lines.each_ref().map(Vec::as_slice));
            score.unwrap_or_else(|fault| {
                let set = self.name.as_ref().map_or(String::new(), |name| format!("{name}: "));
                on_fault(format!("{set}{fault}"));
                f64::NAN
            })
        });
        Ok(Some(Validation {
            loss,
            perplexity: loss.exp(),
            command,
            sets: Vec::new(),
            samples: (0..hypotheses.len()).step_by(step).take(samples).map(sample).collect(),
            scores: scores
                .into_iter()
                .map(|(metric, score)| (metric, Some(score)))
                .collect(),
        }))
    }

    /// The translations of all lines, of which each rank makes its share; `None` where the group's root is elsewhere. A
    /// model whose scores are not finite has none.
    fn group_translations(
        &self,
        translator: &Translator,
        group: &Group,
    ) -> Result<Option<Option<Vec<String>>>, TrainError> {
        let own: Vec<String> = of_rank(&self.source, group).cloned().collect();
        let own = match translations(translator, &own, |_| {}) {
            Ok(translations) => Some(translations.iter().map(|line| line.text().to_owned()).collect()),
            Err(TrainError::Decode(DecodeError::NotFinite)) => None,
            Err(error) => return Err(error),
        };
        if group.is_alone() {
            return Ok(Some(own));
        }
        let Some(of_ranks) = group.gather(serde_json::to_vec(&own)?)? else {
            return Ok(None);
        };
        let mut lines = Vec::with_capacity(of_ranks.len());
        for of_rank in of_ranks {
            let Some(of_rank): Option<Vec<String>> = serde_json::from_slice(&of_rank)? else {
                return Ok(Some(None));
            };
            lines.push(of_rank.into_iter());
        }
        let size = lines.len();
        let in_order = (0..self.source.len()).filter_map(|line| lines[line % size].next());
        Ok(Some(Some(in_order.collect())))
    }
}

/// Those of some pieces of work that a rank does: every n-th, so that all ranks have long and short ones.
fn of_rank<'a, T>(pieces: &'a [T], group: &Group) -> impl Iterator<Item = &'a T> {
    pieces.iter().skip(group.rank()).step_by(group.size())
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
    progress: impl FnMut(&[Translation]),
) -> Result<Evaluation, TrainError> {
    let mut evaluation = Evaluation {
        translations: translations(translator, source, progress)?,
        scores: Vec::new(),
    };
    evaluation.scores = scores(&evaluation.hypotheses(), references, metrics, score)?;
    Ok(evaluation)
}

fn translations(
    translator: &Translator,
    source: &[String],
    mut progress: impl FnMut(&[Translation]),
) -> Result<Vec<Translation>, TrainError> {
    let mut translations = Vec::with_capacity(source.len());
    for block in source.chunks(EVALUATED_LINES) {
        translations.extend(translator.translate(block, translations.len() as u64)?);
        progress(&translations);
    }
    Ok(translations)
}

fn scores(
    hypotheses: &[&str],
    references: &[Vec<String>],
    metrics: &[&'static dyn Metric],
    score: &ScoreConfig,
) -> Result<Vec<(&'static dyn Metric, Score)>, TrainError> {
    let of = |metric: &&'static dyn Metric| Ok((*metric, metric.corpus(hypotheses, references, score)?));
    metrics.iter().map(of).collect()
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
    let workers = (workers, &Group::alone());
    group_loss(model, corpus, batch_tokens, workers, device)?.ok_or(TrainError::Worker)
}

/// The same, with work that the ranks of a group share; `None` where the group's root is elsewhere.
fn group_loss(
    model: &Transformer,
    corpus: &Corpus,
    batch_tokens: usize,
    (workers, group): (usize, &Group),
    device: &Device,
) -> Result<Option<(f64, usize)>, TrainError> {
    let start_id = model.architecture().target_pad_id();
    let batches = fixed_batches(corpus, batch_tokens.div_ceil(workers * group.size()));
    let own: Vec<_> = of_rank(&batches, group).collect();
    let parts = in_order(workers, &own, |indices| -> Result<(f64, usize), TrainError> {
        let flat = corpus.batch(indices).flatten(start_id);
        let source = Tokens::from_flat(&flat.source, &flat.source_lengths, device)?;
        let target = Tokens::from_flat(&flat.target_input, &flat.target_lengths, device)?;
        let loss = model
            .loss(&source, &target, &flat.labels, LossOptions::default(), Pass::default())?
            .total
            .to_scalar::<f32>()?;
        Ok((f64::from(loss), flat.labels.len()))
    })?;
    let words = |(nats, tokens): &(f64, usize)| [nats.to_bits(), *tokens as u64];
    let own = parts.iter().flat_map(words).flat_map(u64::to_ne_bytes).collect();
    let Some(of_ranks) = group.gather(own)? else {
        return Ok(None);
    };
    // In the order of the batches, whichever rank had them.
    let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_ne_bytes);
    let mut of_ranks: Vec<_> = of_ranks.iter().map(|bytes| bytes.chunks_exact(16)).collect();
    let (mut nats, mut tokens) = (0.0, 0);
    for batch in 0..batches.len() {
        let part = of_ranks[batch % group.size()].next().ok_or(TrainError::Worker)?;
        nats += f64::from_bits(word(&part[..8]));
        tokens += word(&part[8..]) as usize;
    }
    Ok(Some((nats, tokens)))
}
