//! The file of the SentencePiece model of BLEU: it is read once, and every fault of it is told with the way out.

// A broken fixture must fail the test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs::File;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use tallow_score::{BLEU, Bleu, CHRF, PairedTest, Resampling, ScoreConfig, ScoreError, TER, assess};

/// A copy of the small model in a folder of its own.
fn model(folder: &Path) -> PathBuf {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/learned_flores101.model.gz");
    let path = folder.join("small.model");
    let mut contents = GzDecoder::new(File::open(fixture).unwrap());
    std::io::copy(&mut contents, &mut File::create(&path).unwrap()).unwrap();
    path
}

fn config(tokenize: &str, sentencepiece: Option<&Path>) -> ScoreConfig {
    let mut config = serde_json::json!({ "tokenize": tokenize });
    if let Some(path) = sentencepiece {
        config["sentencepiece"] = path.to_str().unwrap().into();
    }
    serde_json::from_value(config).unwrap()
}

fn references() -> Vec<Vec<String>> {
    vec![vec![
        "我们在北京看见了一座旧桥。".to_owned(),
        "The old bridge .".to_owned(),
    ]]
}

const HYPOTHESES: [&str; 2] = ["我们在北京看见了旧桥。", "An old bridge ."];

/// A config, its copies and what is made of it share one model: they do without the file once it has been read.
#[test]
fn a_model_is_read_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = model(folder.path());
    let config = config("flores101", Some(&path));
    let copy = config.clone();
    config.open_files().unwrap();
    std::fs::remove_file(&path).unwrap();
    let whole = BLEU.corpus(&HYPOTHESES, &references(), &copy).unwrap();
    assert!(whole.score > 10.0 && whole.score < 90.0, "{}", whole.score);
    assert!(whole.signature.to_string().contains("|tok:flores101|"));
    // A BLEU of single sentences and pairs does not read it either.
    let bleu = copy.bleu();
    let sentence = bleu.sentence(HYPOTHESES[0], &[&references()[0][0]]).unwrap();
    let pairs = bleu.pairwise(&[HYPOTHESES[0], &references()[0][0]]).unwrap();
    assert_eq!(pairs[0][1], sentence.score);
    // Read again, it would be missed.
    let again: ScoreConfig = serde_json::from_str(&serde_json::to_string(&config).unwrap()).unwrap();
    assert_eq!(again, config);
    let error = BLEU.corpus(&HYPOTHESES, &references(), &again).unwrap_err();
    assert!(matches!(error, ScoreError::SentencePiece { .. }), "{error}");
}

#[test]
fn paired_tests_name_the_tokenization() {
    let folder = tempfile::tempdir().unwrap();
    let path = model(folder.path());
    let config = config("flores101", Some(&path));
    let counts = |hypotheses: [&str; 2]| [BLEU.counts(&hypotheses, &references(), &config).unwrap()];
    let systems = [counts(HYPOTHESES), counts(["", "bridge ."])];
    let systems: Vec<&[_]> = systems.iter().map(|system| &system[..]).collect();
    let resampling = Resampling::new(PairedTest::Bootstrap);
    let found = assess(BLEU, &systems, 1, &config, &resampling).unwrap();
    let signature = found[1].scores[0].signature.to_string();
    assert!(
        signature.starts_with("nrefs:1|bs:1000|seed:12345|case:mixed|eff:no|tok:flores101|"),
        "{signature}"
    );
    assert!(found[0].score > found[1].score);
}

/// chrF and TER cut no lines by a model.
#[test]
fn other_metrics_do_without_the_model() {
    let (with, without) = (config("flores200", Some(Path::new("missing"))), config("13a", None));
    for metric in [CHRF, TER] {
        let score = |config: &ScoreConfig| metric.corpus(&HYPOTHESES, &references(), config).unwrap();
        assert_eq!(score(&with), score(&without));
    }
}

#[test]
fn every_fault_names_the_key_the_file_and_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, contents: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, contents).unwrap();
        path
    };
    let whole = std::fs::read(model(folder.path())).unwrap();
    let missing = folder.path().join("missing.model");
    let faulty = [
        (missing.clone(), "cannot read"),
        (folder.path().to_owned(), "cannot read"),
        (write("empty.model", b""), "it is empty"),
        (write("page.model", b"<!DOCTYPE html><title>404</title>"), "a web page"),
        (write("text.model", b"a b c\n"), "is not a SentencePiece model"),
        (write("cut.model", &whole[..whole.len() / 2]), "cut off"),
        (write("noise.model", &[0xff; 64]), "is not a SentencePiece model"),
    ];
    for (path, reason) in &faulty {
        for (tokenize, file) in [
            ("flores200", "flores200_sacrebleu_tokenizer_spm.model"),
            ("flores101", "sacrebleu_tokenizer_spm.model"),
        ] {
            let config = config(tokenize, Some(path));
            assert!(config.validate().is_empty(), "files are not read here");
            let opened = config.open_files().unwrap_err().to_string();
            let scored = BLEU
                .corpus(&HYPOTHESES, &references(), &config)
                .unwrap_err()
                .to_string();
            assert_eq!(opened, scored);
            for part in [
                "score.sentencepiece: ",
                path.to_str().unwrap(),
                reason,
                file,
                "https://",
                ".sacrebleu/models",
            ] {
                assert!(opened.contains(part), "{part}: {opened}");
            }
        }
    }
    // Without a file, and with one that is not used: faults of the config.
    for (tokenize, path, part) in [
        (
            "flores200",
            None,
            "flores200 needs the file of its SentencePiece model; set score.sentencepiece",
        ),
        ("spm", None, "flores101 needs the file"),
        (
            "zh",
            Some(missing.as_path()),
            "zh does not use a SentencePiece model; remove the key",
        ),
        ("13a", Some(missing.as_path()), "13a does not use"),
    ] {
        let config = config(tokenize, path);
        let faults = config.validate();
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(
            faults[0].starts_with("score.sentencepiece: ") && faults[0].contains(part),
            "{faults:?}"
        );
        let errors = [
            config.open_files().unwrap_err(),
            BLEU.corpus(&HYPOTHESES, &references(), &config).unwrap_err(),
            config.bleu().sentence("a", &["a"]).unwrap_err(),
            config.bleu().pairwise(&["a"]).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.to_string(), faults[0]);
        }
    }
    assert!(Bleu::default().tokenizer().is_ok());
}
