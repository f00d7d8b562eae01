//! `tallow report`, and the report that training keeps.
// Helpers of a test may panic like the test itself.
#![allow(clippy::unwrap_used, clippy::panic)]

mod program;

use program::{fault, printed};
use serde_json::Value;
use std::path::Path;

/// A config with text for everything, some of it hostile.
fn project(at: &Path) {
    let lines = |words: [&str; 4]| words.join("\n") + "\n";
    std::fs::write(at.join("a"), lines(["one", "two", "</script><b>three", "four"])).unwrap();
    std::fs::write(at.join("b"), lines(["eins", "zwei", "drei", "vier"])).unwrap();
    let config = "[text]\nkind = \"char\"\n[data]\ntrain = [{ source = \"a\", target = \"b\" }]\n\
                  valid = { source = \"a\", target = \"b\" }\ntest = { source = \"a\", target = \"b\" }\n[model]\n\
                  d_model = 8\nheads = 2\nfeed_forward = 8\nencoder_layers = 1\ndecoder_layers = 1\n[train]\n\
                  max_updates = 6\nvalidate_every = 3\nlog_every = 1\nsamples = 2\nworkers = 1\n[decode]\nmax_length = 12\n";
    std::fs::write(at.join("run.toml"), config).unwrap();
}

#[test]
fn a_report_is_what_the_run_has_logged() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    project(at);
    printed(at, &["train", "run.toml", "--report"]);
    printed(at, &["train", "run.toml", "--set", "name=other", "--set", "seed=2"]);
    // Training has kept a page, of the end of the run, and only where it was asked for.
    let kept = std::fs::read_to_string(at.join("runs/run/report.html")).unwrap();
    assert!(
        kept.contains("exact matches of the test set"),
        "the report is from before the end"
    );
    assert!(!at.join("runs/other/report.html").exists());
    let arguments = [
        "report",
        "runs/run",
        "runs/other",
        "--format",
        "json",
        "-o",
        "-",
        "--export",
        "plots",
    ];
    let report: Value = serde_json::from_str(&printed(at, &arguments)).unwrap();
    assert_eq!(report["differences"].as_array().unwrap().len(), 1);
    assert_eq!(report["differences"][0]["key"], "seed");
    // Every logged update is a point, at a time that grows.
    let log = std::fs::read_to_string(at.join("runs/run/metrics.jsonl")).unwrap();
    let log: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let losses: Vec<&Value> = log
        .iter()
        .filter(|line| line["loss"].is_number())
        .map(|line| &line["loss"])
        .collect();
    let plots = report["plots"].as_array().unwrap();
    let plot = |name: &str| plots.iter().find(|plot| plot["name"] == name).unwrap();
    let points = plot("loss")["lines"][0]["points"].as_array().unwrap();
    assert_eq!(points.iter().map(|point| &point["value"]).collect::<Vec<_>>(), losses);
    let seconds: Vec<f64> = points.iter().map(|point| point["seconds"].as_f64().unwrap()).collect();
    assert!(
        seconds.is_sorted() && seconds[5] > seconds[0] && seconds[0] > 0.0,
        "{seconds:?}"
    );
    let validations: Vec<&Value> = log.iter().filter(|line| line["valid"].is_object()).collect();
    let chrf = plot("chrf")["lines"][0]["points"].as_array().unwrap();
    assert_eq!(chrf.len(), 2);
    assert_eq!(chrf[1]["value"], validations[1]["valid"]["chrf"]);
    // The samples of the log, the test set, and the worst of its lines.
    let first = &report["runs"][0];
    assert_eq!(first["samples"][1]["samples"], validations[1]["samples"]);
    assert_eq!(first["samples"][0]["samples"].as_array().unwrap().len(), 2);
    assert_eq!(first["test_set"]["lines"], 4);
    let worst = first["test_set"]["worst"].as_array().unwrap();
    let scores: Vec<f64> = worst.iter().map(|line| line["score"].as_f64().unwrap()).collect();
    assert!(scores.len() == 4 && scores.is_sorted(), "{scores:?}");
    let csv = std::fs::read_to_string(at.join("plots/loss.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + 2 * 6 + 2 * 2);
    assert!(csv.contains("runs/other,validation,6,"), "{csv}");
    assert!(
        std::fs::read_to_string(at.join("plots/bleu.svg"))
            .unwrap()
            .contains("BLEU of the validation set")
    );
    // The page keeps text as text.
    printed(at, &["report", "runs/run"]);
    let page = std::fs::read_to_string(at.join("report.html")).unwrap();
    assert_eq!(page.matches("</script>").count(), 2);
    assert!(page.contains("\\u003c/script>\\u003cb>three"));
}

/// A report of a run that is still in progress, of one whose test set has changed, and of none.
#[test]
fn what_is_missing_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    project(at);
    printed(at, &["train", "run.toml"]);
    let read = || -> Value {
        let text = printed(at, &["report", "runs/run", "--format", "json"]);
        let report: Value = serde_json::from_str(&text).unwrap();
        report["runs"][0].clone()
    };
    std::fs::write(at.join("b"), "eins\nzwei\ndrei\nfünf\n").unwrap();
    let report = read();
    assert!(report["test_set"].is_null());
    let reason = report["no_test_set"].as_str().unwrap();
    assert!(reason.contains("b: this test set has changed"), "{reason}");
    std::fs::remove_file(at.join("runs/run/test.translations.txt")).unwrap();
    std::fs::remove_file(at.join("runs/run/timing.jsonl")).unwrap();
    let report = read();
    let reason = report["no_test_set"].as_str().unwrap();
    assert!(reason.contains("when training has ended"), "{reason}");
    assert!(fault(at, &["report", "runs/none"]).contains("runs/none: no run has logged anything here"));
    std::fs::write(at.join("runs/run/metrics.jsonl"), "").unwrap();
    assert!(fault(at, &["report", "runs/run"]).contains("nothing has been logged yet"));
}
