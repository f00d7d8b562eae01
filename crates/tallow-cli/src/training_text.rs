//! Text that a model was trained on, or text like it.

use crate::arguments::TrainedTextArguments;
use anyhow::{Result, bail};
use tallow::SavedModel;
use tallow::preparation::with_kept_text;
use tallow_data::{CorpusFiles, ParallelText};

/// The lines of parallel text: sources and their translations.
pub(crate) type Lines = (Vec<String>, Vec<String>);

/// The given files, or else the training text of the model's run.
pub(crate) fn training_text(given: &TrainedTextArguments, saved: &SavedModel) -> Result<Lines> {
    let name = &given.model;
    let corpora: Vec<CorpusFiles> = match (&given.source, &given.target, &saved.config) {
        (Some(source), Some(target), _) => vec![CorpusFiles::two_files(source, target)],
        (_, _, Some(config)) => with_kept_text(config)?.data.train,
        _ => bail!(
            "{name}: this model belongs to no run; give text like that of its training with --source and --target"
        ),
    };
    let (mut source, mut target) = (Vec::new(), Vec::new());
    for files in &corpora {
        let files = CorpusFiles {
            alignments: None,
            ..files.clone()
        };
        let text = ParallelText::open(&files)?;
        source.extend(text.source);
        target.extend(text.target);
    }
    Ok((source, target))
}

/// The numbers of at most `most` of so many lines, evenly from all of them.
pub(crate) fn evenly(lines: usize, most: usize) -> Vec<usize> {
    let most = most.min(lines);
    (0..most).map(|number| number * lines / most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_evenly_from_all() {
        assert_eq!(evenly(10, 3), [0, 3, 6]);
        assert_eq!(evenly(3, 10), [0, 1, 2]);
        assert_eq!(evenly(0, 10), [0; 0]);
    }
}
