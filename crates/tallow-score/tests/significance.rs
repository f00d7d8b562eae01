//! Compares the paired tests with sacreBLEU's results from `scripts/fixtures/sacrebleu_paired_tests.py`.

// A broken fixture must fail the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use flate2::read::GzDecoder;
use serde::Deserialize;
use std::fs::File;
use std::path::{Path, PathBuf};
use tallow_score::{BLEU, CHRF, Counts, METRICS, Metric, PairedTest, Resampling, ScoreConfig, TER, assess};

#[derive(Deserialize)]
struct Text {
    systems: Vec<Vec<String>>,
    references: Vec<Vec<String>>,
}

#[derive(Deserialize)]
struct Fixture {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    test: String,
    trials: usize,
    samples: i64,
    seed: u64,
    references: usize,
    metric: String,
    signature: String,
    systems: Vec<Expected>,
}

#[derive(Deserialize)]
struct Expected {
    score: f64,
    p: Option<f64>,
    mean: Option<f64>,
    interval: Option<f64>,
}

fn at(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The text of the fixture, with the systems that the script makes of it.
fn text() -> Text {
    let file = File::open(at("sacrebleu_scores.json.gz")).unwrap();
    let mut text: Text = serde_json::from_reader(GzDecoder::new(file)).unwrap();
    let (first, second) = (text.systems[0].clone(), text.systems[1].clone());
    let mixed = first
        .iter()
        .zip(&second)
        .enumerate()
        .map(|(line, (a, b))| if line % 8 == 3 { b } else { a });
    text.systems.push(mixed.cloned().collect());
    text.systems.push(first);
    text
}

fn counts(metric: &dyn Metric, text: &Text, references: usize, config: &ScoreConfig) -> Vec<[Counts; 1]> {
    let of_system = |system: &Vec<String>| {
        let lines: Vec<&str> = system.iter().map(String::as_str).collect();
        [metric.counts(&lines, &text.references[..references], config).unwrap()]
    };
    text.systems.iter().map(of_system).collect()
}

#[test]
fn paired_tests_are_those_of_sacrebleu() {
    let text = text();
    let fixture: Fixture = serde_json::from_reader(File::open(at("paired_tests.json")).unwrap()).unwrap();
    let config = ScoreConfig {
        chrf_word_order: 2,
        ..ScoreConfig::default()
    };
    let (mut cases, mut intervals) = (0, 0);
    for case in &fixture.cases {
        let metric = match case.metric.as_str() {
            "BLEU" => BLEU,
            "chrF2++" => CHRF,
            "TER" => TER,
            other => panic!("{other}"),
        };
        let resampling = Resampling {
            test: if case.test == "bs" {
                PairedTest::Bootstrap
            } else {
                PairedTest::Randomization
            },
            trials: case.trials,
            interval_samples: usize::try_from(case.samples).ok(),
            seed: case.seed,
        };
        let counts = counts(metric, &text, case.references, &config);
        let systems: Vec<&[Counts]> = counts.iter().map(|counts| &counts[..]).collect();
        let found = assess(metric, &systems, case.references, &config, &resampling).unwrap();
        assert_eq!(found.len(), case.systems.len());
        for (found, expected) in found.iter().zip(&case.systems) {
            let name = format!("{} {} {} {}", case.test, case.trials, case.seed, case.metric);
            let is_near = |a: f64, b: f64, tolerance: f64| (a - b).abs() <= tolerance * b.abs().max(1.0);
            assert!(is_near(found.score, expected.score, 1e-9), "{name}");
            assert_eq!(found.p_value, expected.p, "{name}");
            assert_eq!(found.interval.is_some(), expected.mean.is_some(), "{name}");
            if let (Some((mean, interval)), Some(expected_mean), Some(expected_interval)) =
                (found.interval, expected.mean, expected.interval)
            {
                // sacreBLEU computes these in 32 bits.
                assert!(is_near(mean, expected_mean, 2e-6), "{name}: {mean} {expected_mean}");
                assert!(
                    is_near(interval, expected_interval, 2e-5),
                    "{name}: {interval} {expected_interval}"
                );
                intervals += 1;
            }
            let signature = found.scores[0].signature.to_string();
            let without_version = |text: &str| text.rsplit_once("|version:").unwrap().0.to_owned();
            assert_eq!(without_version(&signature), without_version(&case.signature));
            cases += 1;
        }
    }
    assert_eq!((cases, intervals), (192, 144));
}

/// A system of several runs: the same run twice is the run, and better runs make a better system.
#[test]
fn a_system_may_be_several_runs() {
    let text = text();
    let config = ScoreConfig::default();
    for metric in METRICS {
        let all: Vec<Counts> = counts(*metric, &text, 1, &config).into_iter().flatten().collect();
        let twice = [all[0].clone(), all[0].clone()];
        let both = [all[0].clone(), all[1].clone()];
        for test in [PairedTest::Bootstrap, PairedTest::Randomization] {
            let resampling = Resampling {
                trials: 200,
                ..Resampling::new(test)
            };
            let one = assess(*metric, &[&all[..1], &all[1..2]], 1, &config, &resampling).unwrap();
            let two = assess(
                *metric,
                &[&twice, &[all[1].clone(), all[1].clone()]],
                1,
                &config,
                &resampling,
            )
            .unwrap();
            assert_eq!(one[1].p_value, two[1].p_value, "{metric:?}");
            assert!((one[1].score - two[1].score).abs() < 1e-9);
            let mixed = assess(*metric, &[&both, &both], 1, &config, &resampling).unwrap();
            assert!(
                (mixed[0].score - (one[0].score + one[1].score) / 2.0).abs() < 1e-9,
                "{metric:?}"
            );
        }
        let fault = assess(
            *metric,
            &[&all[..1], &both],
            1,
            &config,
            &Resampling::new(PairedTest::Randomization),
        );
        assert!(fault.unwrap_err().to_string().contains("as many runs"));
    }
}

/// Scores of parts follow from counts, and are those of a corpus of these sentences alone.
#[test]
fn counts_give_the_scores_of_any_selection() {
    let text = text();
    let config = ScoreConfig::default();
    let chosen: Vec<usize> = (0..text.systems[0].len()).filter(|line| line % 3 == 1).collect();
    let pick = |lines: &[String]| -> Vec<String> { chosen.iter().map(|line| lines[*line].clone()).collect() };
    let references: Vec<Vec<String>> = text.references.iter().map(|stream| pick(stream)).collect();
    let hypotheses = pick(&text.systems[0]);
    let lines: Vec<&str> = hypotheses.iter().map(String::as_str).collect();
    for metric in METRICS {
        let all: Vec<&str> = text.systems[0].iter().map(String::as_str).collect();
        let counts = metric.counts(&all, &text.references, &config).unwrap();
        assert_eq!(counts.sentences(), all.len());
        let found = metric.of_counts(&counts.sum(chosen.iter().copied()), references.len(), &config);
        assert_eq!(
            found,
            metric.corpus(&lines, &references, &config).unwrap(),
            "{metric:?}"
        );
    }
    assert!(BLEU.counts(&[], &[vec![]], &config).is_err());
}
