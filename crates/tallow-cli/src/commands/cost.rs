//! `tallow cost`.

use crate::activity::Activity;
use crate::arguments::CostArguments;
use crate::table::table;
use crate::threads;
use crate::usage::wrong_usage;
use crate::ways_out::with_flags;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::io::{Write, stdout};
use std::process::ExitCode;
use tallow::cost::{Cost, Measured, curve, encoder_attention};
use tallow::report::{Plot, PlotLine, PlotPoint};
use tallow::{Config, Device};
use tallow_model::{Architecture, InferenceCompute, Initialisation, Params, Transformer};

/// Lengths that take longer are not measured, in seconds.
const MOST_SECONDS: f64 = 4.0;

/// The length from whose time the others are predicted, or the longest that is shorter.
const KNOWN: u64 = 64;

/// The cost of one length.
struct Row {
    cost: Cost,
    measured: Measured,
    /// Seconds of the encoder's attention, and of the rest of the encoder, in the kernels of training.
    encoder: Option<(f64, f64)>,
}

pub(crate) fn run(arguments: CostArguments) -> Result<ExitCode> {
    threads::set_operation_threads(1);
    let config = with_flags(Config::compose(&arguments.config.config, &arguments.config.set))?.config;
    if config.init.is_some() {
        return Err(wrong_usage(
            "this config begins with a model (`init`), whose shape it does not know; `tallow look MODEL SENTENCE` tells the \
             cost of a model",
        ));
    }
    // `<pad>` is one of these.
    let vocabulary = config.text.vocabulary;
    let architecture = Architecture {
        model: config.model.clone(),
        source_vocabulary: vocabulary,
        target_vocabulary: vocabulary,
        shared_vocabulary: config.text.shared,
        eos_id: 0,
        unk_id: 1,
    };
    let mut activity = Activity::new(true);
    activity.begin("measuring");
    let params = Params::initialise(
        &architecture,
        Initialisation::Xavier,
        1,
        candle_core::DType::F32,
        &Device::Cpu,
    )?;
    let model = Transformer::for_inference(&architecture, &params, None)?;
    let prepared = model.prepare(InferenceCompute::F32)?;
    let mut rows = Vec::new();
    for measured in curve((&model, &prepared), arguments.longest, MOST_SECONDS)? {
        rows.push(Row {
            cost: Cost::new(&architecture, measured.length, measured.length),
            encoder: encoder_attention(&model, measured.length)?,
            measured,
        });
    }
    activity.end();
    if let Some(path) = &arguments.svg {
        std::fs::write(path, picture(&rows)).with_context(|| format!("cannot write {}", path.display()))?;
    }
    match arguments.json {
        true => writeln!(stdout(), "{:#}", to_json(&rows))?,
        false => print(&config, vocabulary, &rows)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn whole(measured: &Measured) -> f64 {
    measured.encoder + measured.cached
}

/// The time that a length should take if a multiplication always took as long as at the known length.
fn predicted(rows: &[Row], row: &Row) -> Option<f64> {
    let known = known(rows)?;
    let of_one = whole(&known.measured) / known.cost.multiplications(true) as f64;
    Some(of_one * row.cost.multiplications(true) as f64)
}

fn known(rows: &[Row]) -> Option<&Row> {
    rows.iter().rfind(|row| row.measured.length <= KNOWN)
}

fn print(config: &Config, vocabulary: usize, rows: &[Row]) -> Result<()> {
    let millions = |count: u64| format!("{:.1}", count as f64 / 1e6);
    let milliseconds =
        |seconds: Option<f64>| seconds.map_or(String::new(), |seconds| format!("{:.2}", 1000.0 * seconds));
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let mut operations = vec![
        ["tokens", "M multiplications", "attention", "without cache", "cache, MB"]
            .map(String::from)
            .to_vec(),
    ];
    let mut times = vec![
        [
            "tokens",
            "encoder, ms",
            "attention",
            "decoder, ms",
            "both, ms",
            "predicted",
            "decoder without cache",
        ]
        .map(String::from)
        .to_vec(),
    ];
    for row in rows {
        let length = row.measured.length.to_string();
        operations.push(vec![
            length.clone(),
            millions(row.cost.multiplications(true)),
            percent(row.cost.attention_share()),
            millions(row.cost.multiplications(false)),
            format!("{:.2}", row.cost.cache_bytes as f64 / 1e6),
        ]);
        times.push(vec![
            length,
            milliseconds(Some(row.measured.encoder)),
            row.encoder.map_or(String::new(), |(attention, rest)| {
                percent(attention / (attention + rest))
            }),
            milliseconds(Some(row.measured.cached)),
            milliseconds(Some(whole(&row.measured))),
            milliseconds(predicted(rows, row)),
            milliseconds(row.measured.uncached),
        ]);
    }
    let mut writer = stdout().lock();
    writeln!(
        writer,
        "{}: one sentence of so many tokens on both sides, token by token; {vocabulary} pieces\n\nby calculation\n{}\n\n\
         measured on one core, in f32; predicted from the time of {} tokens and the multiplications\n{}",
        config.name,
        table(&operations, 0),
        known(rows).map_or(0, |row| row.measured.length),
        table(&times, 0)
    )?;
    Ok(())
}

fn to_json(rows: &[Row]) -> Value {
    let row = |row: &Row| {
        json!({
            "length": row.measured.length,
            "cost": row.cost,
            "measured": row.measured,
            "encoder_attention_seconds": row.encoder.map(|(attention, _)| attention),
            "encoder_other_seconds": row.encoder.map(|(_, rest)| rest),
            "predicted_seconds": predicted(rows, row),
        })
    };
    rows.iter().map(row).collect()
}

/// Times over lengths.
fn picture(rows: &[Row]) -> String {
    let line = |run: usize, value: &dyn Fn(&Row) -> Option<f64>| PlotLine {
        run,
        is_validation: true,
        points: rows
            .iter()
            .filter_map(|row| {
                Some(PlotPoint {
                    update: row.measured.length,
                    seconds: 0.0,
                    value: 1000.0 * value(row)?,
                })
            })
            .collect(),
    };
    let names = ["encoder", "decoder", "both, predicted", "decoder without cache"];
    let plot = Plot {
        name: "cost".into(),
        title: "time of a sentence over its length in tokens, ms".into(),
        lines: vec![
            line(0, &|row| Some(row.measured.encoder)),
            line(1, &|row| Some(row.measured.cached)),
            line(2, &|row| predicted(rows, row)),
            line(3, &|row| row.measured.uncached),
        ],
    };
    plot.to_svg(&names.map(String::from))
}
