//! Sums in a fixed order.

/// Adds up parts in a fixed tree: neighbours first, then neighbouring sums, and so on. Missing parts are left out. So
/// the sum of some parts is that of their sums, to the bit, if the parts are divided into runs of equal length, a power
/// of two: a rank adds up the parts of its workers, and the group adds up the ranks.
///
/// Returns `None` if all parts are missing.
pub fn tree_fold<T, E>(
    parts: Vec<Option<T>>,
    mut add: impl FnMut(&mut T, &T) -> Result<(), E>,
) -> Result<Option<T>, E> {
    let mut parts = parts;
    while parts.len() > 1 {
        let mut sums = Vec::with_capacity(parts.len().div_ceil(2));
        let mut rest = parts.into_iter();
        while let Some(left) = rest.next() {
            let sum = match (left, rest.next().flatten()) {
                (Some(mut left), Some(right)) => {
                    add(&mut left, &right)?;
                    Some(left)
                }
                (left, right) => left.or(right),
            };
            sums.push(sum);
        }
        parts = sums;
    }
    Ok(parts.pop().flatten())
}

/// The sum of lists of numbers of the same length, element by element, in the order of [`tree_fold`].
pub fn tree_sum(parts: Vec<Option<Vec<f32>>>) -> Option<Vec<f32>> {
    let add = |sum: &mut Vec<f32>, part: &Vec<f32>| {
        sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
        Ok::<_, std::convert::Infallible>(())
    };
    match tree_fold(parts, add) {
        Ok(sum) => sum,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written_out(parts: Vec<Option<&str>>) -> Option<String> {
        let parts = parts.into_iter().map(|part| part.map(str::to_owned)).collect();
        let add = |left: &mut String, right: &String| {
            *left = format!("({left}+{right})");
            Ok::<_, ()>(())
        };
        tree_fold(parts, add).unwrap()
    }

    #[test]
    fn neighbours_are_added_first() {
        let of = |parts: &str| written_out(parts.split(' ').map(|part| (part != "-").then_some(part)).collect());
        assert_eq!(of("a b c d").unwrap(), "((a+b)+(c+d))");
        assert_eq!(of("a b c d e f").unwrap(), "(((a+b)+(c+d))+(e+f))");
        assert_eq!(of("a b c").unwrap(), "((a+b)+c)");
        assert_eq!(of("a - - d").unwrap(), "(a+d)");
        assert_eq!(of("- b"), Some("b".to_owned()));
        assert_eq!(of("- -"), None);
        assert_eq!(written_out(vec![]), None);
    }

    #[test]
    fn sums_of_runs_are_the_sum() {
        let parts: Vec<Option<Vec<f32>>> = (0..24)
            .map(|i| (i != 7).then(|| (0..5).map(|j| (i as f32 * 0.37 + j as f32).sin() * 1e3).collect()))
            .collect();
        let whole = tree_sum(parts.clone());
        for run in [1, 2, 4, 8] {
            let of_runs: Vec<_> = parts.chunks(run).map(|run| tree_sum(run.to_vec())).collect();
            assert_eq!(tree_sum(of_runs), whole, "{run}");
        }
    }
}
