//! Counting the words of a text: all that learning looks at.

use std::collections::{BTreeMap, HashMap};

use rayon::ThreadPool;
use rayon::prelude::*;

use crate::error::TextError;
use crate::form::Form;

/// Lines that are counted between two reads from the caller's iterator.
const BLOCK_LINES: usize = 1 << 14;

/// How often each word occurs. Ordered, so that whatever is computed from it does not depend on hashing.
pub(crate) type WordCounts = BTreeMap<String, u64>;

/// Counts the words of a text, as `form` cuts them.
///
/// # Errors
/// The first error among the lines; [`TextError::NoText`] if there is no word.
pub(crate) fn count<I, S>(form: &Form, lines: I, pool: &ThreadPool) -> Result<WordCounts, TextError>
where
    I: IntoIterator<Item = Result<S, TextError>>,
    S: AsRef<str>,
{
    let mut counts: HashMap<String, u64> = HashMap::new();
    let mut lines = lines.into_iter();
    loop {
        let block = lines
            .by_ref()
            .take(BLOCK_LINES)
            .map(|line| line.map(|line| line.as_ref().to_owned()))
            .collect::<Result<Vec<String>, TextError>>()?;
        if block.is_empty() {
            break;
        }
        let partial = pool.install(|| {
            let chunk = block.len().div_ceil(rayon::current_num_threads());
            block
                .par_chunks(chunk)
                .map(|lines| count_block(form, lines))
                .collect::<Result<Vec<_>, TextError>>()
        })?;
        for (word, count) in partial.into_iter().flatten() {
            *counts.entry(word).or_default() += count;
        }
    }
    if counts.is_empty() {
        return Err(TextError::NoText);
    }
    Ok(counts.into_iter().collect())
}

fn count_block(form: &Form, lines: &[String]) -> Result<HashMap<String, u64>, TextError> {
    let mut counts = HashMap::new();
    for line in lines {
        let words = form.words(line).map_err(|error| TextError::Learn(error.to_string()))?;
        for word in words {
            *counts.entry(word).or_default() += 1;
        }
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::{Kind, Normalization};

    fn pool(threads: usize) -> ThreadPool {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
    }

    #[test]
    fn counts_do_not_depend_on_threads() {
        let form = Form::new(Kind::Bpe, Normalization::None).unwrap();
        let lines = || (0..40_000).map(|i| Ok(format!("a b{} a", i % 7)));
        let one = count(&form, lines(), &pool(1)).unwrap();
        let three = count(&form, lines(), &pool(3)).unwrap();
        assert_eq!(one, three);
        assert_eq!(one["▁a"], 80_000);
        assert_eq!(one.len(), 8);
    }

    #[test]
    fn a_text_of_empty_lines_is_no_text() {
        let form = Form::new(Kind::Bpe, Normalization::None).unwrap();
        let lines = ["", ""].map(Ok);
        assert!(matches!(count(&form, lines, &pool(1)), Err(TextError::NoText)));
    }
}
