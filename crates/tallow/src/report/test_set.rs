//! The test set of a run: parts of it, and the worst translations.

use crate::comparison::{ComparedText, Grouping, System, WordCounts, groups_of};
use crate::error::bail;
use crate::preparation::with_kept_text;
use crate::{Config, Result, RunRecord};
use serde::Serialize;
use tallow_data::{FileRecord, ParallelText, read_lines};
use tallow_score::{CHRF, EXACT_MATCH};
use tallow_train::RunDirectory;

/// The sentences of the lowest scores that are listed.
const WORST: usize = 10;

/// The translations of the test set.
#[derive(Clone, Debug, Serialize)]
pub struct TestSet {
    /// The number of lines.
    pub lines: usize,
    /// Scores by the length of sentences, and words by how often they were trained on.
    pub groups: Vec<Grouping>,
    /// The sentences with the lowest chrF.
    pub worst: Vec<WorstSentence>,
}

/// A sentence with a low score.
#[derive(Clone, Debug, Serialize)]
pub struct WorstSentence {
    /// The number of the line, from 1.
    pub line: usize,
    /// Its chrF.
    pub score: f64,
    /// The source.
    pub source: String,
    /// The translation.
    pub translation: String,
    /// The reference.
    pub reference: String,
}

/// Reads the test set of a run and its translations.
pub(super) fn read(run: &RunDirectory, config: &Config, record: &RunRecord) -> Result<TestSet> {
    // Of several sets, the report shows the first one.
    let Some(files) = config.data.test.iter().next() else {
        bail!("the config names no test set (data.test)");
    };
    let name = files.name.as_deref().filter(|_| config.data.test.len() > 1);
    let translations = run.test_translations(name);
    if !translations.is_file() {
        bail!("the test set is translated when training has ended");
    }
    let text = ParallelText::open(files)?;
    same_text(&text.files, record)?;
    let lines = read_lines(&translations)?.lines;
    if lines.len() != text.source.len() {
        bail!(
            "{}: {} lines, but the test set has {}",
            translations.display(),
            lines.len(),
            text.source.len()
        );
    }
    let mut trained = WordCounts::for_words_of(text.target.iter().chain(&lines), &config.score)?;
    trained.count_targets(&with_kept_text(config)?.data.train)?;
    let compared = ComparedText {
        references: vec![text.target.clone()],
        trained: Some(trained),
        ..ComparedText::default()
    };
    let metrics = config.score.metrics(config.train.metric.metric());
    let system = System {
        name: run.path().display().to_string(),
        runs: vec![lines.clone()],
    };
    let references = &compared.references;
    let hypotheses: Vec<&str> = lines.iter().map(String::as_str).collect();
    let counts = CHRF.counts(&hypotheses, references, &config.score)?;
    let score = |line: usize| CHRF.of_counts(counts.row(line), references.len(), &config.score).score;
    let mut scored: Vec<(f64, usize)> = (0..lines.len()).map(|line| (score(line), line)).collect();
    scored.sort_by(|a, b| a.0.total_cmp(&b.0));
    let worst = scored.into_iter().take(WORST).map(|(score, line)| WorstSentence {
        line: line + 1,
        score,
        source: text.source[line].clone(),
        translation: lines[line].clone(),
        reference: text.target[line].clone(),
    });
    Ok(TestSet {
        lines: lines.len(),
        worst: worst.collect(),
        groups: groups_of(
            &system,
            &compared,
            &metrics
                .into_iter()
                .filter(|metric| *metric != EXACT_MATCH)
                .collect::<Vec<_>>(),
            &config.score,
        )?,
    })
}

/// Scores of other text would be wrong without a sign of it.
fn same_text(files: &[FileRecord], record: &RunRecord) -> Result<()> {
    for file in files {
        let known = record
            .data
            .iter()
            .find(|known| known.part == "test" && known.path == file.path);
        if known.is_some_and(|known| known.sha256 != file.sha256) {
            bail!("{}: this test set has changed since the run", file.path.display());
        }
    }
    Ok(())
}
