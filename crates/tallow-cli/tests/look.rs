//! `tallow look`: the numbers and the page.
// Helpers of a test may panic like the test itself.
#![allow(clippy::unwrap_used, clippy::panic)]

mod program;
mod small_model;

use program::{printed, run};
use serde_json::Value;
use small_model::model;

const SENTENCE: &str = "The old </script><b>lighthouse</b> stands.";

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
    // Every head has a translation without it, and the cross-attention its agreement with the heads that align.
    for head in look["without"].as_array().unwrap() {
        assert!(head["translation"].is_string() && head["alone"].is_number(), "{head}");
    }
    let last = look["decoder"]["attention"].as_array().unwrap().last().unwrap();
    assert_eq!(last["block"], "cross");
    for head in last["heads"].as_array().unwrap() {
        let agreement = head["agreement"].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&agreement));
        let asked = look["encoder"]["tokens"].as_array().unwrap().len();
        assert_eq!(floats(&head["value_norms"]).len(), asked);
    }
    assert!(
        look["without"]
            .as_array()
            .unwrap()
            .iter()
            .all(|head| head["best"].as_array().unwrap().len() == steps.len())
    );
}

/// The tree ends with what `translate` prints; the cost is that of the calculation; times are those of lengths that
/// double.
#[test]
fn the_search_is_that_of_translations() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    model(at);
    std::fs::write(at.join("line"), "The old harbour sleeps.\n").unwrap();
    let json = |arguments: &[&str]| -> Value { serde_json::from_str(&printed(at, arguments)).unwrap() };
    let look = json(&[
        "look",
        "model",
        "The old harbour sleeps.",
        "--format",
        "json",
        "-o",
        "-",
    ]);
    let best = json(&["translate", "model", "--input", "line", "--format", "json"]);
    let search = &look["search"];
    let found = search["found"].as_array().unwrap();
    assert_eq!(found[0]["text"], best["translation"]);
    assert_eq!(found[0]["score"], best["candidates"][0]["score"]);
    assert_eq!(look["target_text"], best["translation"]);
    let greedy = json(&[
        "translate",
        "model",
        "--input",
        "line",
        "--beam",
        "1",
        "--format",
        "json",
    ]);
    assert_eq!(search["greedy"]["text"], greedy["translation"]);
    assert_eq!(
        search["greedy"]["log_probability"],
        greedy["candidates"][0]["log_probability"]
    );
    // The way of the winner goes from the first step to its end.
    let winners: Vec<&Value> = search["steps"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|step| step["nodes"].as_array().unwrap())
        .filter(|node| node["is_winner"] == true)
        .collect();
    let pieces: Vec<&Value> = winners.iter().map(|node| &node["piece"]).collect();
    let tokens = found[0]["pieces"].as_array().unwrap();
    if found[0]["is_finished"] == true {
        assert_eq!(pieces.len(), tokens.len() + 1);
        assert_eq!(winners.last().unwrap()["ends"], found[0]["score"]);
    }
    assert!(pieces.iter().zip(tokens).all(|(a, b)| *a == b), "{pieces:?} {tokens:?}");
    let sum = |stages: &str| -> u64 {
        let stages = look["cost"][stages].as_array().unwrap();
        stages
            .iter()
            .map(|stage| stage["multiplications"].as_u64().unwrap())
            .sum()
    };
    assert!(sum("uncached") > sum("cached"));
    let lengths: Vec<u64> = look["times"]
        .as_array()
        .unwrap()
        .iter()
        .map(|time| time["length"].as_u64().unwrap())
        .collect();
    assert!(
        lengths.len() > 1 && lengths.windows(2).all(|pair| pair[1] == 2 * pair[0]),
        "{lengths:?}"
    );
    // The merges of this vocabulary end with the pieces of the line.
    let words = look["cuts"][0]["merges"].as_array().unwrap().iter();
    let merged: Vec<&Value> = words
        .flat_map(|steps| steps.as_array().unwrap().last().unwrap().as_array().unwrap())
        .collect();
    let tokens = look["encoder"]["tokens"].as_array().unwrap().iter();
    let tokens: Vec<&Value> = tokens.map(|token| &token["piece"]).collect();
    assert_eq!(merged, tokens[..tokens.len() - 1]);
}

/// Settings that draw at random or return several translations do not change a look.
#[test]
fn a_look_is_the_same_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let config = "[text]\nkind = \"char\"\n[data]\ntrain = [{ source = \"a\", target = \"b\" }]\n[model]\nd_model = 8\n\
                  heads = 2\nfeed_forward = 8\nencoder_layers = 1\ndecoder_layers = 1\n[train]\nmax_updates = 3\n\
                  workers = 1\n[decode]\nsample = true\nbeam = 1\nn_best = 8\nmax_length = 12\n";
    std::fs::write(at.join("run.toml"), config).unwrap();
    std::fs::write(at.join("a"), "one\ntwo\nthree\n").unwrap();
    std::fs::write(at.join("b"), "eins\nzwei\ndrei\n").unwrap();
    printed(at, &["train", "run.toml"]);
    let look = || -> Value {
        let text = printed(at, &["look", "runs/run", "two", "--format", "json"]);
        let mut look: Value = serde_json::from_str(&text).unwrap();
        look["times"] = Value::Null;
        look
    };
    let first = look();
    assert_eq!(look(), first);
    assert_eq!(first["search"]["beam"], 4);
}

#[test]
fn checkpoints_are_looked_at_one_after_another() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let config = "[text]\nkind = \"char\"\n[data]\ntrain = [{ source = \"a\", target = \"b\" }]\n[model]\nd_model = 8\n\
                  heads = 2\nfeed_forward = 8\nencoder_layers = 1\ndecoder_layers = 1\n[train]\nmax_updates = 6\n\
                  checkpoint_every = 2\nworkers = 1\n";
    std::fs::write(at.join("run.toml"), config).unwrap();
    std::fs::write(at.join("a"), "one\ntwo\nthree\n").unwrap();
    std::fs::write(at.join("b"), "eins\nzwei\ndrei\n").unwrap();
    printed(at, &["train", "run.toml"]);
    let arguments = [
        "look",
        "runs/run",
        "two",
        "--checkpoints",
        "--format",
        "json",
        "-o",
        "-",
    ];
    let looks: Value = serde_json::from_str(&printed(at, &arguments)).unwrap();
    let updates: Vec<u64> = looks
        .as_array()
        .unwrap()
        .iter()
        .map(|look| look["update"].as_u64().unwrap())
        .collect();
    assert_eq!(updates, [2, 4, 6]);
    // All predict the same translation, and learn.
    assert_eq!(looks[0]["target_text"], looks[2]["target_text"]);
    assert_ne!(looks[0]["steps"][0]["entropy"], looks[2]["steps"][0]["entropy"]);
    printed(at, &["look", "runs/run", "two", "--checkpoints"]);
    std::fs::rename(at.join("runs/run/best"), at.join("model")).unwrap();
    let output = run(at, &["look", "model", "two", "--checkpoints"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("belongs to no run"), "{said}");
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
        // The name of SVG is an address that nobody opens.
        let page = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!page.contains(outside), "{outside}");
    }
    // The two elements of the page itself, and none of the sentence.
    assert_eq!(page.matches("</script>").count(), 2);
    let (_, data) = page
        .split_once("<script type=\"application/json\" id=\"data\">")
        .unwrap();
    let (data, _) = data.split_once("</script>").unwrap();
    let look: Value = serde_json::from_str(data).unwrap();
    assert_eq!(look[0]["source_text"], SENTENCE);
    assert_eq!(look[0]["is_forced"], false);
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
