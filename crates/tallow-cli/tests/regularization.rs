//! The keys against overfitting on small data take effect: they change the cuts, passes and initial weights of a run.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of a test may panic like the test itself.

use serde_json::Value;
use std::path::Path;
use std::process::Command;

const CONFIG: &str = r#"
[text]
vocabulary = 60
byte_fallback = false
[data]
train = [{ source = "a.en", target = "a.de" }]
batch_tokens = 100000
[model]
d_model = 16
feed_forward = 16
encoder_layers = 2
decoder_layers = 2
heads = 2
dropout = 0.2
[train]
max_updates = 3
workers = 1
log_every = 1
"#;

/// The loss and the number of target tokens of each update of a run with these changes. An epoch is one update.
fn updates(at: &Path, changes: &[&str]) -> Vec<(f64, u64)> {
    let set = changes.iter().flat_map(|change| ["--set", change]);
    let output = Command::new(env!("CARGO_BIN_EXE_tallow"))
        .current_dir(at)
        .args(["train", "run.toml", "--overwrite"])
        .args(set)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let log = std::fs::read_to_string(at.join("runs/run/metrics.jsonl")).unwrap();
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines
        .filter_map(|line| Some((line["loss"].as_f64()?, line["target_tokens"].as_u64()?)))
        .collect()
}

#[test]
fn what_the_config_asks_for_happens() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let text = |words: [&str; 4]| -> String {
        let line = |i: usize| format!("{} {} {}\n", words[i % 4], words[i / 4 % 4], words[i / 16 % 4]);
        (0..64).map(line).collect()
    };
    std::fs::write(at.join("a.en"), text(["seventeen", "thousand", "hundred", "million"])).unwrap();
    std::fs::write(at.join("a.de"), text(["siebzehn", "tausend", "hundert", "Millionen"])).unwrap();
    std::fs::write(at.join("run.toml"), CONFIG).unwrap();

    let plain = updates(at, &[]);
    assert_eq!(plain.len(), 3);
    assert!(plain.iter().all(|(_, tokens)| *tokens == plain[0].1), "{plain:?}");

    // Every epoch has other cuts, which are longer than the usual ones.
    for change in [
        &["text.bpe_dropout=0.3"][..],
        &["text.kind=\"unigram\"", "text.unigram_alpha=0.2"],
    ] {
        let kind: Vec<&str> = change
            .iter()
            .filter(|change| change.contains("kind"))
            .copied()
            .collect();
        let whole = updates(at, &kind)[0].1;
        let cut: Vec<u64> = updates(at, change).iter().map(|(_, tokens)| *tokens).collect();
        assert!(cut.iter().all(|tokens| *tokens > whole), "{change:?}: {cut:?} {whole}");
        assert!(cut[0] != cut[1] || cut[1] != cut[2], "{change:?}: {cut:?}");
    }

    // The tokens stay the same. Two differing passes increase the loss, the more the larger the weight of their
    // difference is.
    let (light, heavy) = (updates(at, &["train.r_drop=0.01"]), updates(at, &["train.r_drop=100"]));
    assert_eq!((light[0].1, heavy[0].1), (plain[0].1, plain[0].1));
    assert!(
        light[0].0 != plain[0].0 && heavy[0].0 > light[0].0 + 0.01,
        "{light:?} {heavy:?}"
    );

    // The initial weights differ.
    let xavier = updates(at, &["train.initialisation=\"xavier\""]);
    assert!(xavier[0].0 != plain[0].0 && xavier[0].1 == plain[0].1, "{xavier:?}");
}
