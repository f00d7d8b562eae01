//! What a translation costs: by calculation, and measured on this machine.

use crate::Result;
use candle_core::IndexOp;
use serde::Serialize;
use std::time::Instant;
use tallow_decode::Autoregressive;
use tallow_model::{Architecture, Pass, PreparedTransformer, RowRequest, StageCost, Tokens, Transformer};
use tallow_ops::profile;

/// The bytes of a number.
const BYTES: u64 = 4;

/// The name of attention in a profile.
const ATTENTION: &str = "attention";

/// Measurements shorter than this are repeated, in seconds.
const SHORT: f64 = 0.05;

/// The cost of a sentence of some length by calculation.
#[derive(Clone, Debug, Serialize)]
pub struct Cost {
    /// The source tokens, `</s>` included.
    pub source: u64,
    /// The target tokens, `</s>` included.
    pub target: u64,
    /// The stages with a cache of keys and values.
    pub cached: Vec<StageOf>,
    /// The stages if every step computes the whole prefix anew.
    pub uncached: Vec<StageOf>,
    /// Bytes of the cache at the end.
    pub cache_bytes: u64,
}

/// A stage of a translation.
#[derive(Clone, Debug, Serialize)]
pub struct StageOf {
    /// Its name.
    pub stage: &'static str,
    /// Whether its cost grows with the square of the length.
    pub is_attention: bool,
    /// Multiplications, each with its addition.
    pub multiplications: u64,
    /// Bytes of weights in f32 that are read, each as often as the stage runs.
    pub weight_bytes: u64,
}

impl Cost {
    /// The cost of translating one sentence, in f32.
    pub fn new(architecture: &Architecture, source: u64, target: u64) -> Self {
        let stages = |is_cached| {
            let stage = |cost: &StageCost| StageOf {
                stage: cost.stage.name(),
                is_attention: cost.stage.is_attention(),
                multiplications: cost.multiplications,
                weight_bytes: BYTES * cost.weights_read,
            };
            architecture.cost(source, target, is_cached).iter().map(stage).collect()
        };
        Self {
            source,
            target,
            cached: stages(true),
            uncached: stages(false),
            cache_bytes: BYTES * architecture.cached_numbers(source, target),
        }
    }

    /// The multiplications of all stages, with or without a cache.
    pub fn multiplications(&self, is_cached: bool) -> u64 {
        let stages = if is_cached { &self.cached } else { &self.uncached };
        stages.iter().map(|stage| stage.multiplications).sum()
    }

    /// The share of attention itself, whose cost grows with the square of the length, with a cache: from 0 to 1.
    pub fn attention_share(&self) -> f64 {
        let attention = self.cached.iter().filter(|stage| stage.is_attention);
        let of_attention: u64 = attention.map(|stage| stage.multiplications).sum();
        of_attention as f64 / self.multiplications(true).max(1) as f64
    }
}

/// The time of one sentence on one core, in seconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Measured {
    /// The length of the source and of the target, in tokens.
    pub length: u64,
    /// The encoder, and the keys and values of the source.
    pub encoder: f64,
    /// All steps of the decoder, with a cache of keys and values.
    pub cached: f64,
    /// All steps, each of which runs the decoder over the whole prefix; `None` where that would take too long.
    pub uncached: Option<f64>,
}

/// Measures the translation of a sentence of this length, token by token.
///
/// Without a cache, a step runs the decoder over all tokens so far, as in training: all of them side by side.
///
/// # Errors
/// When the length exceeds the positions of the model, or the model fails.
pub fn measure(
    (model, prepared): (&Transformer, &PreparedTransformer),
    length: u64,
    with_uncached: bool,
) -> Result<Measured> {
    let architecture = model.architecture();
    let tokens = some_tokens(architecture, length);
    let source = Tokens::new(&[&tokens], model.device())?;
    let input = [
        &[architecture.target_pad_id()],
        &tokens[..tokens.len().saturating_sub(1)],
    ]
    .concat();
    let encoder = shortest(|| prepared.start(&source).map(drop).map_err(Into::into))?;
    let both = shortest(|| {
        let mut state = Autoregressive::start(prepared, &source)?;
        for token in &input {
            prepared.best(&[*token], &mut state, 1, &[RowRequest::default()])?;
        }
        Ok(())
    })?;
    let uncached = match with_uncached {
        false => None,
        true => {
            let encoded = model.encode(&source, Pass::default())?;
            Some(shortest(|| {
                for end in 1..=input.len() {
                    let prefix = Tokens::new(&[&input[..end]], model.device())?;
                    let hidden = model.decode(&prefix, &encoded, Pass::default())?;
                    model.logits(&hidden.i(end - 1..end)?)?;
                }
                Ok(())
            })?)
        }
    };
    Ok(Measured {
        length,
        encoder,
        cached: (both - encoder).max(0.0),
        uncached,
    })
}

/// The seconds of the encoder's attention (scores, softmax and mixing), and of all else in the encoder, for a sentence
/// of this length; `None` where the model does not run on the kernels for the CPU.
///
/// # Errors
/// When the length exceeds the positions of the model, or the model fails.
pub fn encoder_attention(model: &Transformer, length: u64) -> Result<Option<(f64, f64)>> {
    let tokens = some_tokens(model.architecture(), length);
    let source = Tokens::new(&[&tokens], model.device())?;
    let mut best: Option<(f64, f64)> = None;
    for _ in 0..3 {
        profile::reset();
        profile::set_running(true);
        let begin = Instant::now();
        let encoded = model.encode(&source, Pass::default());
        let whole = begin.elapsed().as_secs_f64();
        profile::set_running(false);
        encoded?;
        let shares = profile::shares();
        let attention = shares.iter().find(|share| share.name == ATTENTION);
        let Some(attention) = attention
            .map(|share| share.time.as_secs_f64())
            .filter(|time| *time > 0.0)
        else {
            return Ok(None);
        };
        if best.is_none_or(|(a, b)| whole < a + b) {
            best = Some((attention, whole - attention));
        }
    }
    Ok(best)
}

/// Tokens for a measurement: any will do.
fn some_tokens(architecture: &Architecture, length: u64) -> Vec<u32> {
    let classes = architecture.classes().max(1) as u64;
    (0..length).map(|place| ((7 * place + 3) % classes) as u32).collect()
}

/// The shortest time of some runs, in seconds; the first is a warm-up if it is short.
fn shortest(mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut best = f64::INFINITY;
    let mut spent = 0.0;
    for number in 0..20 {
        let begin = Instant::now();
        run()?;
        let seconds = begin.elapsed().as_secs_f64();
        spent += seconds;
        best = best.min(seconds);
        if spent >= SHORT && number > 0 || seconds >= SHORT {
            break;
        }
    }
    Ok(best)
}

/// Measures lengths that double, from 8 on, up to the longest, until one takes longer than `most_seconds`, or the
/// positions end. Without a cache, lengths are measured as long as they take no longer than that.
///
/// # Errors
/// Those of [`measure`].
pub fn curve(models: (&Transformer, &PreparedTransformer), longest: u64, most_seconds: f64) -> Result<Vec<Measured>> {
    let limit = models
        .0
        .architecture()
        .model
        .position_limit()
        .map_or(u64::MAX, |limit| limit as u64);
    let longest = longest.min(limit);
    let mut points: Vec<Measured> = Vec::new();
    let mut length = 8.min(longest);
    let mut with_uncached = true;
    while length > 0 && length <= longest {
        let point = measure(models, length, with_uncached)?;
        points.push(point);
        // Without a cache, twice the length takes about four to eight times as long.
        with_uncached &= point.uncached.is_some_and(|seconds| 4.0 * seconds <= most_seconds);
        if point.encoder + point.cached > most_seconds / 2.0 {
            break;
        }
        // The longest itself is the last.
        length = match 2 * length > longest && length < longest {
            true => longest,
            false => 2 * length,
        };
    }
    Ok(points)
}
