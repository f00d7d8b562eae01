//! `tallow eval --compare-compute`: a test set in every number format.

use crate::activity::Activity;
use crate::arguments::EvalArguments;
use crate::commands::translate::target_tokens;
use crate::table::table as aligned;
use anyhow::{Result, bail};
use serde_json::{Value, json};
use std::io::{Write, stdout};
use std::process::ExitCode;
use std::time::Instant;
use tallow::humanize::thousands;
use tallow::{Device, SavedModel};
use tallow_decode::{DecodeCompute, DecodeConfig, NamedChoice, Translator};
use tallow_model::InferenceCompute;
use tallow_score::{Score, ScoreConfig};
use tallow_train::evaluate;

/// Lines that are translated before the time counts, so that the first format does not pay for the start.
const WARMUP_LINES: usize = 64;

/// The results of one format.
struct Row {
    compute: DecodeCompute,
    unit: &'static str,
    tokens_per_second: f64,
    mebibytes: f64,
    /// Lines whose translation differs from that in f32.
    different: usize,
    scores: Vec<Score>,
}

pub(super) fn run(
    arguments: &EvalArguments,
    saved: &SavedModel,
    (source, references): (&[String], &[Vec<String>]),
    (config, score): (DecodeConfig, &ScoreConfig),
    device: &Device,
) -> Result<ExitCode> {
    if !device.is_cpu() {
        bail!("number formats are compared on the CPU; leave out --device");
    }
    let mut activity = Activity::new(true);
    let (mut rows, mut exact): (Vec<Row>, Vec<String>) = (Vec::new(), Vec::new());
    for compute in DecodeCompute::ALL.iter().copied() {
        let Some(unit) = InferenceCompute::from(compute).unit_name() else {
            eprintln!(
                "note: this processor has no unit for {}, which is computed in f32 then",
                compute.name()
            );
            continue;
        };
        activity.begin(format!("translating in {}", compute.name()));
        let (model, tokenizers) = saved.open_prepared(device, compute.into())?;
        let bytes = model.packed_bytes().unwrap_or_default();
        let translator = Translator::builder(model, tokenizers)
            .config(DecodeConfig {
                compute,
                ..config.clone()
            })
            .seed(arguments.search.seed)
            .workers(arguments.search.workers(device))
            .build()?;
        translator.translate(&source[..source.len().min(WARMUP_LINES)], 0)?;
        let begin = Instant::now();
        let all = source.len() as u64;
        activity.count(0, Some(all), "lines");
        let metrics = &arguments.metric.metrics;
        let mut seconds = 0.0;
        let found = evaluate(&translator, source, references, metrics, score, |translations| {
            activity.count(translations.len() as u64, Some(all), "lines");
            seconds = begin.elapsed().as_secs_f64();
        })?;
        let texts: Vec<String> = found.hypotheses().into_iter().map(str::to_owned).collect();
        if exact.is_empty() {
            exact.clone_from(&texts);
        }
        let tokens: usize = found.translations.iter().map(target_tokens).sum();
        rows.push(Row {
            compute,
            unit,
            tokens_per_second: tokens as f64 / seconds,
            mebibytes: bytes as f64 / f64::from(1 << 20),
            different: texts.iter().zip(&exact).filter(|(a, b)| a != b).count(),
            scores: found.scores.into_iter().map(|(_, score)| score).collect(),
        });
    }
    activity.end();
    let width = usize::from(arguments.metric.width);
    if arguments.metric.json {
        let objects: Vec<Value> = rows.iter().map(|row| row.to_json(arguments.metric.width)).collect();
        writeln!(stdout(), "{:#}", Value::from(objects))?;
    } else {
        print(&rows, source.len(), width)?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Row {
    fn to_json(&self, width: u8) -> Value {
        json!({
            "compute": self.compute.name(),
            "unit": self.unit,
            "tokens_per_second": self.tokens_per_second,
            "weights_mebibytes": self.mebibytes,
            "different_translations": self.different,
            "scores": self
                .scores
                .iter()
                .map(|score| tallow_score::to_json(std::slice::from_ref(score), width))
                .collect::<Vec<_>>(),
        })
    }
}

/// Prints a table with a row for each format.
fn print(rows: &[Row], lines: usize, width: usize) -> Result<()> {
    let mut table: Vec<Vec<String>> = vec![
        ["compute", "unit", "tokens/s", "weights", "differ"]
            .map(String::from)
            .to_vec(),
    ];
    if let Some(first) = rows.first() {
        table[0].extend(first.scores.iter().map(|score| score.name.clone()));
    }
    for row in rows {
        let mut cells = vec![
            row.compute.name().to_owned(),
            row.unit.to_owned(),
            thousands(row.tokens_per_second),
            format!("{:.1} MB", row.mebibytes),
            format!("{:.1} %", 100.0 * row.different as f64 / lines.max(1) as f64),
        ];
        cells.extend(row.scores.iter().map(|score| format!("{:.width$}", score.score)));
        table.push(cells);
    }
    let mut writer = stdout().lock();
    writeln!(writer, "{}", aligned(&table, 2))?;
    for score in rows.first().iter().flat_map(|row| &row.scores) {
        writeln!(writer, "{}: {}", score.name, score.signature)?;
    }
    Ok(())
}
