//! `tallow look`: the numbers and the page.
// Helpers of a test may panic like the test itself.
#![allow(clippy::unwrap_used, clippy::panic)]

mod small_model;

use serde_json::Value;
use small_model::model;
use std::path::Path;
use std::process::{Command, Output};

const SENTENCE: &str = "The old </script><b>lighthouse</b> stands.";

fn run(at: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tallow"));
    command.current_dir(at).args(arguments).output().unwrap()
}

/// The output of a command that must succeed.
fn printed(at: &Path, arguments: &[&str]) -> String {
    let output = run(at, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

#[test]
fn the_numbers_are_those_of_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    model(at);
    let target = "Der alte Hafen schläft.";
    let arguments = [
        "look",
        "model",
        "The old harbour sleeps.",
        "--target",
        target,
        "--format",
        "json",
        "-o",
        "-",
    ];
    let look: Value = serde_json::from_str(&printed(at, &arguments)).unwrap();
    std::fs::write(at.join("s"), "The old harbour sleeps.\n").unwrap();
    std::fs::write(at.join("t"), format!("{target}\n")).unwrap();
    let scored = printed(
        at,
        &[
            "score-pairs",
            "model",
            "--source",
            "s",
            "--target",
            "t",
            "--format",
            "json",
        ],
    );
    let scored: Value = serde_json::from_str(&scored).unwrap();
    let steps = look["steps"].as_array().unwrap();
    let expected = floats(&scored["token_log_probabilities"]);
    assert_eq!(steps.len(), expected.len());
    for (step, expected) in steps.iter().zip(expected) {
        assert!(
            (step["log_probability"].as_f64().unwrap() - expected).abs() < 1e-3,
            "{step} {expected}"
        );
        let best = step["best"].as_array().unwrap();
        let probabilities: Vec<f64> = best.iter().map(|x| x["probability"].as_f64().unwrap()).collect();
        assert!(probabilities.is_sorted_by(|a, b| a >= b), "{probabilities:?}");
        // The last layer's lens is the prediction itself.
        let lens = step["lens"].as_array().unwrap();
        assert_eq!(lens.last().unwrap()[0]["piece"], best[0]["piece"]);
    }
    // All heads of all layers, with rows of weights that add up to one.
    let config: Value = serde_json::from_str(&std::fs::read_to_string(at.join("model/config.json")).unwrap()).unwrap();
    let size = |key: &str| config[key].as_u64().unwrap() as usize;
    let (of_encoder, of_decoder) = (
        size("encoder_layers") * size("encoder_attention_heads"),
        size("decoder_layers") * size("decoder_attention_heads"),
    );
    assert_eq!(look["without"].as_array().unwrap().len(), of_encoder + 2 * of_decoder);
    for stack in ["encoder", "decoder"] {
        for attention in look[stack]["attention"].as_array().unwrap() {
            for head in attention["heads"].as_array().unwrap() {
                for (asking, row) in head["weights"].as_array().unwrap().iter().enumerate() {
                    let row = floats(row);
                    assert!((row.iter().sum::<f64>() - 1.0).abs() < 2e-3, "{row:?}");
                    let is_causal = attention["is_causal"] == Value::Bool(true);
                    assert!(!is_causal || row[asking + 1..].iter().all(|weight| *weight == 0.0));
                }
            }
        }
    }
    assert!(
        look["without"]
            .as_array()
            .unwrap()
            .iter()
            .all(|head| head["best"].as_array().unwrap().len() == steps.len())
    );
}

#[test]
fn the_page_needs_nothing_else_and_keeps_text_as_text() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    model(at);
    let arguments = ["look", "model", SENTENCE];
    let output = run(at, &arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout.is_empty());
    let page = std::fs::read_to_string(at.join("look.html")).unwrap();
    for outside in ["http:", "https:", "src=", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    // The two elements of the page itself, and none of the sentence.
    assert_eq!(page.matches("</script>").count(), 2);
    let (_, data) = page
        .split_once("<script type=\"application/json\" id=\"data\">")
        .unwrap();
    let (data, _) = data.split_once("</script>").unwrap();
    let look: Value = serde_json::from_str(data).unwrap();
    assert_eq!(look["source_text"], SENTENCE);
    assert_eq!(look["is_forced"], false);
    for (arguments, reason) in [
        (&["look", "model", " "][..], "the sentence is blank"),
        (
            &["look", "model", "A.", "-o", "no/such/folder.html"],
            "cannot write no/such/folder.html",
        ),
    ] {
        let output = run(at, arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(reason), "{said}");
    }
}
