//! `tallow ablate` and `tallow cost`.
// Helpers of a test may panic like the test itself.
#![allow(clippy::unwrap_used, clippy::panic)]

mod program;

use program::{fault, printed};
use serde_json::Value;
use std::path::Path;

fn project(at: &Path) {
    std::fs::write(at.join("a"), "one\ntwo\nthree\nfour\n").unwrap();
    std::fs::write(at.join("b"), "eins\nzwei\ndrei\nvier\n").unwrap();
    let config = "[text]\nkind = \"char\"\nbyte_fallback = false\n[data]\ntrain = [{ source = \"a\", target = \"b\" }]\n\
                  valid = { source = \"a\", target = \"b\" }\n[model]\nd_model = 8\nheads = 2\nfeed_forward = 8\n\
                  encoder_layers = 1\ndecoder_layers = 1\n[train]\nmax_updates = 4\nvalidate_every = 2\n\
                  metric = \"chrf\"\nworkers = 1\n[decode]\nmax_length = 12\n";
    std::fs::write(at.join("run.toml"), config).unwrap();
}

/// Every part can be switched off: each run trains, validates and translates, and the table has the values of the logs.
#[test]
fn every_part_is_trained_without() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    project(at);
    let found: Value = serde_json::from_str(&printed(at, &["ablate", "run.toml", "--seeds", "1", "--json"])).unwrap();
    let rows = found["rows"].as_array().unwrap();
    assert!(rows.len() >= 15, "{found}");
    for row in rows {
        let name = row["part"]["name"].as_str().unwrap();
        let runs = row["runs"].as_array().unwrap();
        assert_eq!(runs.len(), 1, "{name}");
        let log = std::fs::read_to_string(at.join(format!("runs/run.ablation/{name}-1/metrics.jsonl"))).unwrap();
        let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let best = lines.iter().rfind(|line| line["is_best"] == true).unwrap();
        assert_eq!(runs[0]["value"], best["valid"]["chrf"], "{name}");
        assert_eq!(runs[0]["loss"], best["valid"]["loss"], "{name}");
        assert!(runs[0]["failure"].is_null());
    }
    let losses: Vec<&Value> = rows.iter().map(|row| &row["runs"][0]["loss"]).collect();
    let different: std::collections::HashSet<String> = losses.iter().map(|loss| loss.to_string()).collect();
    assert!(different.len() > 12, "parts that change nothing: {losses:?}");
    let markdown = std::fs::read_to_string(at.join("runs/run.ablation/ablation.md")).unwrap();
    assert_eq!(
        markdown.lines().filter(|line| line.starts_with("| ")).count(),
        1 + rows.len()
    );
    assert!(markdown.contains("| causal-mask | no causal mask | ") && markdown.contains("no MarianMT model"));
    assert!(
        std::fs::read_to_string(at.join("runs/run.ablation/ablation.html"))
            .unwrap()
            .contains("part by part")
    );
    // A model without parts can be opened again, and is no MarianMT model.
    let said = fault(at, &["export", "runs/run.ablation/residual-1", "-o", "exported"]);
    assert!(said.contains("model.residual: only true can be expressed"), "{said}");
    printed(at, &["look", "runs/run.ablation/cross-attention-1", "two"]);
}

/// What is finished is not trained again, more seeds go on, and other settings are refused.
#[test]
fn results_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    project(at);
    let ablate = |more: &[&str]| -> Vec<String> {
        [&["ablate", "run.toml", "--only", "positions,residual"], more]
            .concat()
            .into_iter()
            .map(String::from)
            .collect()
    };
    let run_of = |more: &[&str]| {
        let arguments = ablate(more);
        printed(at, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let first = run_of(&["--seeds", "1"]);
    assert!(
        first.contains("positions  no positions") && first.contains("chrf of the validation set"),
        "{first}"
    );
    let written = |name: &str| std::fs::metadata(at.join(name)).unwrap().modified().unwrap();
    let log = "runs/run.ablation/positions-1/metrics.jsonl";
    let before = written(log);
    // A process that was killed before it noted a result goes on with that run, to the same result.
    let results = at.join("runs/run.ablation/ablation.json");
    let mut stored: Value = serde_json::from_str(&std::fs::read_to_string(&results).unwrap()).unwrap();
    stored["runs"]
        .as_array_mut()
        .unwrap()
        .retain(|run| run["part"] != "residual");
    std::fs::write(&results, stored.to_string()).unwrap();
    assert_eq!(run_of(&["--seeds", "1"]), first);
    let second = run_of(&["--seeds", "2"]);
    assert_eq!(written(log), before, "a finished run was trained again");
    assert!(second.contains(" ± "), "{second}");
    assert!(at.join("runs/run.ablation/residual-2").is_dir());
    assert_eq!(run_of(&["--seeds", "2"]), second);
    // A run that another process holds is no result, and is trained once that has ended.
    std::fs::remove_dir_all(at.join("runs/run.ablation/residual-2")).unwrap();
    let mut stored: Value = serde_json::from_str(&std::fs::read_to_string(&results).unwrap()).unwrap();
    stored["runs"]
        .as_array_mut()
        .unwrap()
        .retain(|run| run["part"] != "residual" || run["seed"] != 2);
    std::fs::write(&results, stored.to_string()).unwrap();
    std::fs::create_dir_all(at.join("runs/run.ablation/residual-2")).unwrap();
    let lock = std::fs::File::create(at.join("runs/run.ablation/residual-2/run.lock")).unwrap();
    lock.lock().unwrap();
    let arguments = ablate(&["--seeds", "2"]);
    let said = fault(at, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(said.contains("another process is training here"), "{said}");
    drop(lock);
    assert_eq!(run_of(&["--seeds", "2"]), second);
    // A run of other settings is not mixed with these, even if no results are there.
    std::fs::remove_file(&results).unwrap();
    let arguments = ablate(&["--seeds", "1", "--set", "train.learning_rate=0.5"]);
    let said = fault(at, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(said.contains("all-parts-1: this run is of other settings"), "{said}");
    std::fs::remove_file(&results).unwrap();
    assert_eq!(run_of(&["--seeds", "2"]), second);
    let arguments = ablate(&["--set", "train.max_updates=6"]);
    let said = fault(at, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(
        said.contains("results are of other settings (train.max_updates differs)"),
        "{said}"
    );
    let said = fault(at, &["ablate", "run.toml", "--only", "wheels"]);
    assert!(
        said.contains("no part \"wheels\"") && said.contains("positions, scaling"),
        "{said}"
    );
    let listed = printed(at, &["ablate", "run.toml", "--list"]);
    assert!(listed.contains("model.residual=false"), "{listed}");
    std::fs::write(
        at.join("other.toml"),
        "[data]\ntrain = [{ source = \"a\", target = \"b\" }]\n",
    )
    .unwrap();
    let said = fault(at, &["ablate", "other.toml"]);
    assert!(said.contains("data.valid"), "{said}");
}

/// Recipes that need what a part brings: the part takes what needs it along, and the loss is told as what it is.
#[test]
fn parts_of_unusual_recipes() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    project(at);
    std::fs::write(at.join("links"), "0-0\n0-0\n0-0\n0-0\n").unwrap();
    let aligned = "data.train=[{ source = 'a', target = 'b', alignments = 'links' }]";
    let arguments = [
        "ablate",
        "run.toml",
        "--seeds",
        "1",
        "--only",
        "cross-attention",
        "--set",
        aligned,
        "--set",
        "decode.coverage_penalty=0.3",
        "--set",
        "decode.unknown='copy'",
        "--set",
        "train.metric='loss'",
        "--set",
        "data.test={ source = 'a', target = 'b' }",
    ];
    let printed_table = printed(at, &arguments);
    assert!(printed_table.contains("loss of the validation set"), "{printed_table}");
    let alone = [
        "--set",
        "model.cross_attention=false",
        "--set",
        "model.encoder_layers=0",
    ];
    let listed = printed(at, &[&["ablate", "run.toml", "--list"], &alone[..]].concat());
    assert!(
        !listed.contains("cross-attention") && !listed.contains("tying"),
        "{listed}"
    );
    let said = fault(
        at,
        &[&["train", "run.toml", "--set", "decode.unknown='copy'"], &alone[..]].concat(),
    );
    assert!(
        said.contains("decode.unknown: it needs the attention to the source"),
        "{said}"
    );
    printed(at, &[&["train", "run.toml"], &alone[..]].concat());
    let said = fault(at, &["alignment-heads", "runs/run", "--source", "a", "--target", "b"]);
    assert!(said.contains("model.cross_attention = false"), "{said}");
    let said = fault(at, &["export", "runs/run", "-o", "x"]);
    assert!(said.contains("model.cross_attention: only true"), "{said}");
}

#[test]
fn costs_are_calculated_and_measured() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    project(at);
    let rows: Value = serde_json::from_str(&printed(
        at,
        &["cost", "run.toml", "--longest", "32", "--json", "--svg", "cost.svg"],
    ))
    .unwrap();
    let lengths: Vec<u64> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["length"].as_u64().unwrap())
        .collect();
    assert_eq!(lengths, [8, 16, 32]);
    for row in rows.as_array().unwrap() {
        let sum = |stages: &Value, only_attention: bool| -> u64 {
            let stages = stages.as_array().unwrap().iter();
            let stages = stages.filter(|stage| !only_attention || stage["is_attention"] == true);
            stages.map(|stage| stage["multiplications"].as_u64().unwrap()).sum()
        };
        // One layer on each side, width 8: n^2 pairs, n (n + 1) / 2 and n^2, each 2 x 8.
        let n = row["length"].as_u64().unwrap();
        assert_eq!(
            sum(&row["cost"]["cached"], true),
            16 * (n * n + n * (n + 1) / 2 + n * n)
        );
        assert!(sum(&row["cost"]["uncached"], false) > sum(&row["cost"]["cached"], false));
        assert!(row["measured"]["cached"].as_f64().unwrap() > 0.0);
    }
    assert!(
        std::fs::read_to_string(at.join("cost.svg"))
            .unwrap()
            .starts_with("<svg ")
    );
    let text = printed(at, &["cost", "run.toml", "--longest", "20"]);
    assert!(
        text.contains("by calculation") && text.contains("from the time of 20 tokens"),
        "{text}"
    );
    let short = printed(at, &["cost", "run.toml", "--longest", "4", "--json"]);
    let short: Value = serde_json::from_str(&short).unwrap();
    assert_eq!(short[0]["length"], 4);
    let config = "init = \"somewhere\"\n[data]\ntrain = [{ source = \"a\", target = \"b\" }]\n";
    std::fs::write(at.join("tuned.toml"), config).unwrap();
    let said = fault(at, &["cost", "tuned.toml"]);
    assert!(said.contains("tallow look"), "{said}");
}
