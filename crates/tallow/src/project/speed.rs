//! How fast a model that is not there yet trains on this machine.

use super::Split;
use crate::Result;
use crate::advice::{Fitting, tokens_of};
use crate::config::Config;
use crate::workers::workers;
use candle_core::{DType, Device};
use std::sync::Arc;
use std::time::Duration;
use tallow_data::{Corpus, Filters, PairSource, ParallelText, ReadReport};
use tallow_model::{Architecture, Params};
use tallow_train::measure_speed;
use tallow_train::proof::ModelSubject;

/// The duration of the timing.
const PROBE: Duration = Duration::from_secs(3);
/// Ids of a vocabulary that are no text.
const SPECIAL: u32 = 3;

/// The seconds of an update with sentences as long as those of the text. Their tokens are random.
pub(super) fn seconds_per_update(fitting: &Fitting, split: &Split, seed: u64) -> Result<f64> {
    let config = config_of(fitting);
    let lengths = &split.lengths;
    let token_count = |side: usize, characters: usize| tokens_of(characters as f64, split.facts.has_spaces[side]);
    let architecture = Architecture {
        model: config.model.clone(),
        source_vocabulary: fitting.vocabulary,
        target_vocabulary: fitting.vocabulary,
        shared_vocabulary: true,
        eos_id: 0,
        unk_id: 1,
    };
    let device = Device::Cpu;
    let params = Params::initialise(&architecture, config.train.initialisation, seed, DType::F32, &device)?;
    let text = ParallelText {
        source: lengths
            .iter()
            .map(|lengths| token_count(0, lengths[0]).to_string())
            .collect(),
        target: lengths
            .iter()
            .map(|lengths| token_count(1, lengths[1]).to_string())
            .collect(),
        weight: 1.0,
        alignments: None,
        report: ReadReport::default(),
        files: Vec::new(),
    };
    let tokens = |lines: &[&str]| -> Result<Vec<Vec<u32>>, std::convert::Infallible> {
        let pieces = fitting.vocabulary as u32 - SPECIAL - 1;
        let token = |place: usize, at: usize| SPECIAL + (place as u32 * 7919 + at as u32 * 104_729) % pieces;
        let line = |(place, line): (usize, &&str)| {
            let count: f64 = line.parse().unwrap_or(1.0);
            (0..(count as usize).clamp(1, 99)).map(|at| token(place, at)).collect()
        };
        Ok(lines.iter().enumerate().map(line).collect())
    };
    let corpus = Corpus::build(&[text], 0, &Filters::NONE, tokens, tokens)?;
    let pairs: Arc<dyn PairSource> = Arc::new(corpus);
    let subject = ModelSubject {
        architecture: &architecture,
        params: &params,
        logits_bias: None,
        train: &config.train,
        seed,
        workers: workers(&config, &device, params.elements()),
        device: &device,
    };
    Ok(measure_speed(&subject, &pairs, &config.data, PROBE)?.seconds_per_update)
}

/// The config of a fitting, as far as the speed depends on it.
fn config_of(fitting: &Fitting) -> Config {
    let mut config = Config::default();
    config.model.d_model = fitting.d_model;
    config.model.feed_forward = fitting.feed_forward;
    config.model.encoder_layers = fitting.layers;
    config.model.decoder_layers = fitting.layers;
    config.model.heads = fitting.heads;
    config.model.dropout = fitting.dropout;
    config.train.compute = super::config_text::COMPUTE;
    config.data.batch_tokens = fitting.batch_tokens;
    config
}
