//! Checks of the model: its size, its speed, and proofs of its training.

use crate::commands::check::tokens::Encoded;
use crate::commands::check::{Report, place_of};
use anyhow::{Context, Result};
use candle_core::Device;
use serde_json::{Map, json};
use std::time::{Duration, Instant};
use tallow::Config;
use tallow::advice::{RunFacts, remarks};
use tallow::humanize::{duration, memory, thousands};
use tallow::initial::{self, Initial};
use tallow::record;
use tallow::scaling::{Expected, Network, UpdateCost, expected, late_parameters, sentence_costs};
use tallow_data::{Batch, Corpus, Example, Sampler};
use tallow_ops::Compute;
use tallow_train::proof::{
    ModelSubject, Proof, Subject, cached_decoding_is_exact, gradient_reaches_every_parameter,
    neighbours_change_nothing, no_position_looks_ahead, one_batch_is_learned, resume_is_exact, sample,
};
use tallow_train::{ComputeKind, ModelCard, RunDirectory, Speed, TrainConfig, TrainError, TrainerParts, measure_speed};

/// The duration of the timing of updates.
const PROBE: Duration = Duration::from_secs(5);

type Prove = fn(&dyn Subject, &[Example]) -> Result<Proof, TrainError>;

pub(super) fn check(
    config: &Config,
    encoded: Encoded,
    init: Option<Initial>,
    device: &Device,
    plan: Option<(usize, f64)>,
    report: &mut Report,
) -> Result<()> {
    let Encoded {
        tokenizers,
        corpus,
        valid_pairs,
    } = encoded;
    report.stage("making the model");
    let architecture = initial::architecture(config, &tokenizers)?;
    let (params, logits_bias) = initial::weights(config, init, &architecture, device)?;
    tallow::check_workers(config, device)?;
    let workers = tallow::workers(config, device, params.elements());
    let subject = ModelSubject {
        architecture: &architecture,
        params: &params,
        logits_bias: logits_bias.as_ref(),
        train: &config.train,
        seed: config.seed,
        workers,
        device,
    };
    size(&subject, report)?;
    let pairs: std::sync::Arc<dyn tallow_data::PairSource> = corpus.clone();
    let found = speed(config, &subject, &pairs, report)?;
    if let Some(plan) = plan {
        processes(config, &subject, &pairs, &found, plan, report)?;
    }
    advice(config, &subject, (&*corpus, valid_pairs), &found, report)?;

    let sample = sample(&*pairs)?;
    let proofs: [(&str, Prove); 5] = [
        ("that every parameter gets a gradient", gradient_reaches_every_parameter),
        ("that neighbours change nothing", neighbours_change_nothing),
        ("that no position looks ahead", no_position_looks_ahead),
        ("that decoding with a cache is exact", cached_decoding_is_exact),
        ("that one batch can be learned", one_batch_is_learned),
    ];
    for (what, prove) in proofs {
        report.stage(&format!("proving {what}"));
        add(prove(&subject, &sample)?, report)?;
    }
    report.stage("proving that a resumed run is the uninterrupted one");
    let place = place_of(config)?;
    std::fs::create_dir_all(&place).with_context(|| format!("cannot make {}", place.display()))?;
    let files: Vec<_> = corpus.files().collect();
    let fingerprint = record::fingerprint(config, &files, &[], &tokenizers, workers)?;
    let parts = || -> Result<TrainerParts, TrainError> {
        Ok(TrainerParts {
            group: tallow_comm::Group::alone(),
            architecture: architecture.clone(),
            params: params.copy()?,
            logits_bias: logits_bias.clone(),
            tokenizers: tokenizers.clone(),
            corpus: corpus.clone(),
            valid: Vec::new(),
            train: config.train.clone(),
            data: config.data.clone(),
            decode: config.decode.clone(),
            card: ModelCard::default(),
            fingerprint: fingerprint.clone(),
            run: RunDirectory::new(&place),
            device: device.clone(),
        })
    };
    let proof = resume_is_exact(&place, parts);
    // Removed in any case: the results of the proofs are in the report.
    std::fs::remove_dir_all(&place).with_context(|| format!("cannot remove {}", place.display()))?;
    add(proof?, report)
}

fn add(proof: Proof, report: &mut Report) -> Result<()> {
    match proof.outcome {
        Ok(found) => report.ok(proof.name, found),
        Err(fault) => report.faulty(proof.name, fault.what, fault.advice),
    }
}

fn size(subject: &ModelSubject, report: &mut Report) -> Result<()> {
    let (params, architecture) = (subject.params, subject.architecture);
    let of_vocabulary: usize = params
        .iter()
        .filter(|parameter| parameter.frozen_row.is_some())
        .map(|parameter| parameter.var.elem_count())
        .sum();
    report.ok(
        "model",
        format!(
            "{} parameters, {} of them in embeddings and output ({} source and {} target pieces)",
            thousands(params.elements() as f64),
            thousands(of_vocabulary as f64),
            thousands(architecture.source_vocabulary as f64),
            thousands(architecture.target_vocabulary as f64)
        ),
    )?;
    // A multiplication and an addition, once forward and twice backward; everything twice with R-Drop.
    let (source, target) = architecture.multiplications();
    let passes = if subject.train.r_drop > 0.0 { 2 } else { 1 };
    let flops = [6 * passes * source, 6 * passes * target];
    report.ok(
        "model",
        format!(
            "training takes {:.1} MFLOP for a source token and {:.1} for a target token{}, attention not counted",
            flops[0] as f64 / 1e6,
            flops[1] as f64 / 1e6,
            if passes == 2 { ", both passes of R-Drop" } else { "" }
        ),
    )?;
    let averaged = usize::from(subject.train.ema_decay > 0.0);
    // Weights, two moments, the averaged weights, and a gradient for each worker.
    let bytes = 4 * params.elements() * (3 + averaged + subject.workers);
    let figures = json!({
        "parameters": params.elements(),
        "vocabulary_parameters": of_vocabulary,
        "training_flops_per_source_token": flops[0],
        "training_flops_per_target_token": flops[1],
        "state_bytes": bytes,
    });
    report.figure("model", &figures)?;
    report.ok(
        "memory",
        format!(
            "weights, moments and the gradients of {} take {}",
            match subject.workers {
                1 => "one worker".to_owned(),
                workers => format!("{workers} workers"),
            },
            memory(bytes as f64)
        ),
    )
}

/// Reports the meaning of `train.compute` on this processor, and the speeds of the other choices.
fn others(
    config: &Config,
    subject: &ModelSubject,
    pairs: &std::sync::Arc<dyn tallow_data::PairSource>,
    report: &mut Report,
) -> Result<()> {
    if !subject.device.is_cpu() {
        return Ok(());
    }
    let has_unit = |kind: ComputeKind| Compute::from(kind).unit_name().is_some();
    let own = match config.train.compute {
        kind if has_unit(kind) => kind,
        kind => {
            if kind != ComputeKind::F32 {
                let found = format!(
                    "{:?} is f32 on this processor, which has no fast unit for it",
                    kind.name()
                );
                report.ok("train.compute", found)?;
            }
            ComputeKind::F32
        }
    };
    let mut speeds = Map::new();
    let mut told = Vec::new();
    for kind in ComputeKind::ALL {
        if kind == own || kind != ComputeKind::F32 && !has_unit(kind) {
            continue;
        }
        let train = TrainConfig {
            compute: kind,
            ..subject.train.clone()
        };
        let subject = ModelSubject {
            train: &train,
            ..*subject
        };
        report.stage(&format!("timing updates in {} for {} s", kind.name(), PROBE.as_secs()));
        let speed = measure_speed(&subject, pairs, &config.data, PROBE)?.target_tokens_per_second;
        speeds.insert(kind.name().to_owned(), json!(speed));
        told.push(format!(
            "{} target tokens a second with {:?}",
            thousands(speed),
            kind.name()
        ));
    }
    if told.is_empty() {
        return Ok(());
    }
    report.figure("other_speeds", &speeds)?;
    let long = PROBE.as_secs();
    let found = format!(
        "{}; a sample of {long} s each, and shared processors change their speed",
        told.join(", ")
    );
    report.ok("train.compute", found)
}

fn speed(
    config: &Config,
    subject: &ModelSubject,
    pairs: &std::sync::Arc<dyn tallow_data::PairSource>,
    report: &mut Report,
) -> Result<Speed> {
    report.stage(&format!("timing updates for {} s", PROBE.as_secs()));
    let found = measure_speed(subject, pairs, &config.data, PROBE)?;
    let most = found.updates_of_run(&config.train);
    let seconds = most as f64 * found.seconds_per_update;
    report.figure("speed", &found)?;
    if found.not_finite > 0 {
        report.faulty(
            "time",
            format!(
                "{} of the first {} updates had no finite loss or gradient",
                found.not_finite,
                found.updates + 1
            ),
            "lower train.learning_rate, raise train.warmup_updates, or look for extreme weights in the model of `init`",
        )?;
    }
    report.figure("expected_seconds", &seconds)?;
    report.ok(
        "time",
        format!(
            "{} target tokens a second; {} updates of {:.2} s, {:.1} epochs, take {} without validations",
            thousands(found.target_tokens_per_second),
            thousands(most as f64),
            found.seconds_per_update,
            found.epochs(most, &config.train),
            duration(seconds)
        ),
    )?;
    let peak = record::peak_memory();
    report.figure("peak_bytes", &peak)?;
    if let Some(bytes) = peak {
        report.ok(
            "memory",
            format!("at most {} so far, with updates running", memory(bytes as f64)),
        )?;
    }
    others(config, subject, pairs, report)?;
    Ok(found)
}

/// Seconds that a message between two machines takes at least, over TCP.
const LATENCY: f64 = 5e-5;

/// Batches of which the division among processes is looked at.
const DIVIDED_BATCHES: usize = 20;

/// Reports what up to so many processes, connected at so many Gbit/s, would bring.
fn processes(
    config: &Config,
    subject: &ModelSubject,
    pairs: &std::sync::Arc<dyn tallow_data::PairSource>,
    speed: &Speed,
    (most, gbits): (usize, f64),
    report: &mut Report,
) -> Result<()> {
    report.stage("dividing batches among processes");
    let sampler = Sampler::new(pairs.clone(), &config.data, config.seed);
    let begin = Instant::now();
    let window = sampler.window(0, 0)?;
    let batches: Vec<Batch> = (0..window.len()).map(|number| window.batch(number)).collect();
    let seconds_per_batch = begin.elapsed().as_secs_f64() / batches.len().max(1) as f64;
    let costs = batches.iter().take(DIVIDED_BATCHES);
    let cost = UpdateCost {
        seconds: speed.seconds_per_update,
        data_seconds: seconds_per_batch * config.train.accumulate as f64,
        workers: subject.workers,
        parameters: subject.params.elements(),
        late_parameters: late_parameters(subject.params),
        sentence_costs: costs.map(|batch| sentence_costs(batch, subject.architecture)).collect(),
    };
    let network = Network {
        gbits,
        latency: LATENCY,
    };
    let doubled = std::iter::successors(Some(1), |n| Some(n * 2)).take_while(|n| *n < most);
    let all: Vec<Expected> = doubled
        .chain([most])
        .map(|processes| expected(config, &cost, network, processes))
        .collect();
    report.figure("processes", &json!({ "network": network, "expected": all }))?;
    let updates = speed.updates_of_run(&config.train) as f64;
    let line = |expected: &Expected| {
        let limit = expected
            .limit()
            .map_or(String::new(), |limit| format!("; then {limit}"));
        format!(
            "{} of {} workers: {:.3} s an update, {} in all, {:.1} times one (efficiency {:.2}){limit}",
            expected.processes,
            subject.workers,
            expected.seconds,
            duration(updates * expected.seconds),
            cost.seconds / expected.seconds,
            expected.efficiency
        )
    };
    let lines: Vec<String> = all.iter().map(line).collect();
    let found = format!(
        "expected at {gbits} Gbit/s, one process on each machine\n{}",
        lines.join("\n")
    );
    report.ok("processes", found)
}

/// Reports what is unusual about sizes, epochs and schedule for this amount of text.
fn advice(
    config: &Config,
    subject: &ModelSubject,
    (corpus, valid_pairs): (&Corpus, u64),
    speed: &Speed,
    report: &mut Report,
) -> Result<()> {
    let updates = speed.updates_of_run(&config.train);
    let target_tokens = (0..corpus.len()).map(|pair| corpus.lengths(pair).1 as u64).sum();
    let facts = RunFacts {
        pairs: corpus.len() as u64,
        target_tokens,
        parameters: subject.params.elements() as u64,
        updates,
        epochs: speed.epochs(updates, &config.train),
        updates_per_epoch: speed.updates_per_epoch,
        valid_pairs,
    };
    let remarks = remarks(config, &facts);
    if remarks.is_empty() {
        report.ok(
            "advice",
            "model, vocabulary, epochs and schedule are usual for this amount of text",
        )?;
    }
    for remark in remarks {
        report.look(remark.key, remark.found, &remark.advice)?;
    }
    Ok(())
}
