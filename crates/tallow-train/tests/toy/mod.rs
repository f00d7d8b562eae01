//! A toy run: a tiny Transformer learns to copy short sentences of ten words, in its own run directory.

use candle_core::{DType, Device};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tallow_data::{Corpus, DataConfig, Filters, ParallelText, ReadReport};
use tallow_decode::DecodeConfig;
use tallow_model::{Architecture, Initialisation, ModelConfig, Params};
use tallow_ops::{Key, Purpose};
use tallow_score::ScoreConfig;
use tallow_text::{Kind, TextConfig, Tokenizers};
use tallow_train::{Event, Fingerprint, ModelCard, Observer, RunDirectory, TrainConfig, TrainerParts, ValidationSet};

pub(crate) const SEED: u64 = 3;

/// Random sentences of one to four words, from ten different words.
pub(crate) fn lines(seed: u64, count: usize) -> Vec<String> {
    let words = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    let line = |i| {
        let random = Key::new(seed, Purpose::Sampling).fold(i as u64).uniform(5);
        let length = 1 + (random[4] * 4.0) as usize;
        let chosen: Vec<&str> = random[..length].iter().map(|x| words[(x * 10.0) as usize]).collect();
        chosen.join(" ")
    };
    (0..count).map(line).collect()
}

/// A corpus in which every line is its own translation.
pub(crate) fn text(lines: Vec<String>) -> ParallelText {
    ParallelText {
        target: lines.clone(),
        source: lines,
        weight: 1.0,
        alignments: None,
        report: ReadReport::default(),
        files: Vec::new(),
    }
}

/// The corpus as tokens.
pub(crate) fn corpus(text: ParallelText, tokenizers: &Tokenizers) -> Corpus {
    corpus_of(&[text], tokenizers)
}

/// Several corpora as tokens.
pub(crate) fn corpus_of(texts: &[ParallelText], tokenizers: &Tokenizers) -> Corpus {
    let filters = Filters {
        drop_empty: true,
        drop_duplicates: false,
        max_length: None,
        max_length_ratio: None,
    };
    let encode = |lines: &[&str]| tokenizers.source.encode_batch(lines, 1);
    Corpus::build(texts, tokenizers.source.eos_id(), &filters, encode, encode).unwrap()
}

/// The defaults of the tests: updates take a fraction of a second, and all are logged.
pub(crate) fn train_config(max_updates: u64) -> TrainConfig {
    TrainConfig {
        max_updates,
        learning_rate: 3e-3,
        schedule: tallow_train::Schedule::InverseSqrt,
        warmup_updates: 20,
        validate_every: 20,
        checkpoint_every: 20,
        log_every: 1,
        ..TrainConfig::default()
    }
}

/// The parts of a trainer for a run in `place` with two workers.
pub(crate) fn parts(place: &Path, train: TrainConfig, dropout: f32) -> TrainerParts {
    let config = TextConfig {
        kind: Kind::Word,
        vocabulary: 20,
        byte_fallback: false,
        ..TextConfig::default()
    };
    let (training, validation) = (lines(1, 200), lines(2, 20));
    let tokenizers = Tokenizers::learn(&config, &training, &training, 1).unwrap();
    let architecture = Architecture {
        model: ModelConfig {
            d_model: 32,
            feed_forward: 48,
            encoder_layers: 1,
            decoder_layers: 1,
            heads: 4,
            dropout,
            attention_dropout: dropout,
            activation_dropout: dropout,
            ..ModelConfig::default()
        },
        source_vocabulary: tokenizers.source.vocabulary_size(),
        target_vocabulary: tokenizers.target.vocabulary_size(),
        shared_vocabulary: true,
        eos_id: tokenizers.source.eos_id(),
        unk_id: tokenizers.source.unk_id(),
    };
    let score = ScoreConfig::default();
    TrainerParts {
        group: tallow_comm::Group::alone(),
        params: Params::initialise(&architecture, Initialisation::Xavier, SEED, DType::F32, &Device::Cpu).unwrap(),
        architecture,
        logits_bias: None,
        corpus: Arc::new(corpus(text(training), &tokenizers)),
        valid: vec![ValidationSet {
            name: None,
            source: validation.clone(),
            target: validation.clone(),
            corpus: corpus(text(validation), &tokenizers),
            batch_tokens: 64,
            metrics: score.metrics(train.metric.metric()),
            score,
        }],
        tokenizers,
        data: DataConfig {
            batch_tokens: 160,
            pool_pairs: 60,
            ..DataConfig::default()
        },
        card: ModelCard::default(),
        decode: DecodeConfig {
            max_length: 10,
            ..DecodeConfig::default()
        },
        fingerprint: Fingerprint {
            defaults: Vec::new(),
            seed: SEED,
            data: vec!["words".into()],
            valid: Vec::new(),
            tokenizers: vec!["tokens".into()],
            config: vec![
                ("train.max_updates".into(), train.max_updates.to_string()),
                ("model.d_model".into(), "32".into()),
            ],
            workers: 2,
            instruction_set: tallow_ops::instruction_set().into(),
        },
        train,
        run: RunDirectory::new(place),
        device: Device::Cpu,
    }
}

/// An observer that requests a stop during an update, or never.
pub(crate) struct StopDuring<'a>(pub(crate) u64, pub(crate) &'a AtomicBool);

impl Observer for StopDuring<'_> {
    fn observe(&self, event: &Event) {
        if let Event::Updated { update, .. } = event
            && *update == self.0
        {
            self.1.store(true, Ordering::Relaxed);
        }
    }
}
