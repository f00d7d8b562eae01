//! Iteration over a corpus: one hypothesis and its references at a time.

use crate::error::ScoreError;

/// Calls `visit(hypothesis, references)` for every segment, in order, after checking that the counts agree.
///
/// # Errors
/// If there is no hypothesis, no reference stream, or a stream of another length.
pub(crate) fn for_each_segment<'t>(
    hypotheses: &'t [impl AsRef<str>],
    references: &'t [Vec<String>],
    mut visit: impl FnMut(&'t str, &[&'t str]),
) -> Result<(), ScoreError> {
    if references.is_empty() {
        return Err(ScoreError::NoReferences);
    }
    let hypothesis_count = hypotheses.len();
    if let Some((index, stream)) = references
        .iter()
        .enumerate()
        .find(|(_, stream)| stream.len() != hypothesis_count)
    {
        return Err(ScoreError::CountMismatch {
            stream: index + 1,
            hypotheses: hypothesis_count,
            references: stream.len(),
        });
    }
    if hypotheses.is_empty() {
        return Err(ScoreError::EmptyCorpus);
    }
    let mut segment = Vec::with_capacity(references.len());
    for (line, hypothesis) in hypotheses.iter().enumerate() {
        segment.clear();
        segment.extend(
            references
                .iter()
                .filter_map(|stream| stream.get(line))
                .map(String::as_str),
        );
        visit(hypothesis.as_ref(), &segment);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_checked() {
        let streams = |lengths: &[usize]| lengths.iter().map(|&n| vec![String::new(); n]).collect::<Vec<_>>();
        let check = |hypotheses: usize, lengths: &[usize]| {
            for_each_segment(&vec![""; hypotheses], &streams(lengths), |_, references| {
                assert_eq!(references.len(), lengths.len());
            })
        };
        assert_eq!(check(2, &[2, 2]), Ok(()));
        assert_eq!(check(2, &[]), Err(ScoreError::NoReferences));
        assert_eq!(check(0, &[0]), Err(ScoreError::EmptyCorpus));
        let mismatch = check(2, &[2, 3]);
        assert_eq!(
            mismatch,
            Err(ScoreError::CountMismatch {
                stream: 2,
                hypotheses: 2,
                references: 3
            })
        );
        assert_eq!(
            mismatch.unwrap_err().to_string(),
            "reference stream 2 has 3 lines, but there are 2 to score; line i of every stream must translate the same \
             sentence as hypothesis i"
        );
    }
}
