//! Counts in sentences.

use crate::progress::thousands;

/// A count and what is counted, in the right number: `1 line`, `2,000 lines`.
pub(crate) fn counted(count: impl TryInto<u64>, noun: &str) -> String {
    agreeing(count, noun, &format!("{noun}s"))
}

/// A count before words that differ for one and for many: `1 line is`, `2,000 lines are`.
pub(crate) fn agreeing(count: impl TryInto<u64>, one: &str, many: &str) -> String {
    let count = count.try_into().unwrap_or(u64::MAX);
    format!("{} {}", thousands(count as f64), if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_agree() {
        assert_eq!(
            [0, 1, 2, 2000].map(|n| counted(n, "line")),
            ["0 lines", "1 line", "2 lines", "2,000 lines"]
        );
        assert_eq!(
            [1, 2].map(|n| agreeing(n, "pair is", "pairs are")),
            ["1 pair is", "2 pairs are"]
        );
    }
}
