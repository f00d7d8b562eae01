//! A comparison as text.

use crate::table::table;
use std::fmt::Write;
use tallow::comparison::{Change, Comparison, Grouping, MetricComparison, Span, SystemScore};
use tallow::humanize::{agreeing, counted, thousands};

/// Below this probability, a difference is marked.
const SIGNIFICANT: f64 = 0.05;

/// The comparison, with `width` digits after the decimal point of scores.
pub(super) fn text(comparison: &Comparison, width: usize) -> String {
    let mut text = format!(
        "{}, {}; {}, {}, seed {}; p and * (below {SIGNIFICANT}) against {}\n",
        counted(comparison.lines as u64, "line"),
        counted(comparison.references as u64, "reference"),
        comparison.test.name,
        counted(comparison.test.trials as u64, "trial"),
        comparison.test.seed,
        comparison.systems[0]
    );
    // Writing into a string cannot fail.
    for metric in &comparison.metrics {
        let _ = writeln!(text, "\n{}", metric_table(metric, &comparison.systems, width));
        if !metric.signature.is_empty() {
            let _ = writeln!(text, "{}|{}", metric.name, metric.signature);
        }
    }
    for grouping in &comparison.groups {
        for measure in 0..grouping.measures.len() {
            let _ = writeln!(text, "\n{}", group_table(grouping, measure, &comparison.systems, width));
        }
    }
    let has_runs = comparison
        .metrics
        .iter()
        .any(|metric| metric.systems.iter().any(|system| system.runs.is_some()));
    for (changes, name) in comparison.changes.iter().zip(&comparison.systems[1..]) {
        let _ = writeln!(
            text,
            "\n{name} against {}: {} higher by chrF, {} lower; {} the same{}",
            comparison.systems[0],
            agreeing(changes.better as u64, "line scores", "lines score"),
            thousands(changes.worse as f64),
            agreeing(changes.same as u64, "translation is", "translations are"),
            if has_runs { " (first run of each)" } else { "" }
        );
        for (title, list) in [("gained most", &changes.gained), ("lost most", &changes.lost)] {
            if !list.is_empty() {
                let _ = writeln!(text, "\n{title}, [changed words] in brackets:");
            }
            let names = (comparison.systems[0].as_str(), name.as_str());
            list.iter().for_each(|change| text += &sentence(change, names));
        }
    }
    text
}

fn metric_table(metric: &MetricComparison, systems: &[String], width: usize) -> String {
    let has_runs = metric.systems.iter().any(|system| system.runs.is_some());
    let better = if metric.is_more_better { "" } else { " (less is better)" };
    let mut rows = vec![vec![
        String::new(),
        format!("{}{better}", metric.name),
        "mean".into(),
        "95 %".into(),
        "p".into(),
    ]];
    if has_runs {
        rows[0].extend(["over runs", "95 %", "p of runs"].map(String::from));
    }
    for (system, name) in metric.systems.iter().zip(systems) {
        let number = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.width$}"));
        let half = |value: Option<f64>| value.map_or(String::new(), |value| format!("± {value:.width$}"));
        let mut row = vec![
            name.clone(),
            number(Some(system.score)),
            number(system.mean),
            half(system.half_width),
            // Systems that score the same do not differ, whatever the test says.
            probability(system.p_value, system.score == metric.systems[0].score),
        ];
        if has_runs {
            row.extend(over_runs(system, width));
        }
        rows.push(row);
    }
    table(&rows, 1)
}

fn over_runs(system: &SystemScore, width: usize) -> [String; 3] {
    let Some(runs) = &system.runs else {
        return Default::default();
    };
    let scores: Vec<String> = runs.scores.iter().map(|score| format!("{score:.width$}")).collect();
    [
        scores.join(" "),
        format!("± {:.width$}", runs.half_width),
        probability(runs.p_value, false),
    ]
}

/// A probability, with a mark if it is low.
fn probability(p: Option<f64>, is_same: bool) -> String {
    match p {
        Some(p) if p < SIGNIFICANT && !is_same => format!("{p:.4} *"),
        Some(p) => format!("{p:.4}  "),
        None => String::new(),
    }
}

/// A table for one measure.
fn group_table(grouping: &Grouping, measure: usize, systems: &[String], width: usize) -> String {
    let mut rows = vec![vec![
        format!("{} by {}", grouping.measures[measure], grouping.by),
        grouping.unit.to_owned(),
    ]];
    rows[0].extend(systems.iter().cloned());
    for group in &grouping.groups {
        let mut row = vec![group.label.clone(), thousands(group.count as f64)];
        row.extend(group.values[measure].iter().map(|value| format!("{value:.width$}")));
        rows.push(row);
    }
    table(&rows, 1)
}

fn sentence(change: &Change, (first, other): (&str, &str)) -> String {
    let mut lines = vec![format!(
        "line {}  chrF {:.1} -> {:.1}",
        change.line, change.first_score, change.other_score
    )];
    lines.extend(change.source.as_ref().map(|source| format!("  source     {source}")));
    lines.push(format!("  reference  {}", change.reference));
    lines.push(format!("  {first}: {}", words(&change.first)));
    lines.push(format!("  {other}: {}", words(&change.other)));
    lines.join("\n") + "\n"
}

/// The words, each run of changed ones in brackets.
fn words(spans: &[Span]) -> String {
    let groups = spans.chunk_by(|a, b| a.is_changed == b.is_changed);
    let told = groups.map(|group| {
        let words: Vec<&str> = group.iter().map(|span| span.text.as_str()).collect();
        match group[0].is_changed {
            true => format!("[{}]", words.join(" ")),
            false => words.join(" "),
        }
    });
    told.collect::<Vec<_>>().join(" ")
}
