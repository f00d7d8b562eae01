//! The spread of scores over runs that differ in their seed.

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};

/// The scores of several runs of one recipe.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The score of each run.
    pub scores: Vec<f64>,
    /// The standard deviation, with one run less in the denominator.
    pub deviation: f64,
    /// Half of the width of the 95 % interval of the mean, by Student's t.
    pub half_width: f64,
    /// The probability of such a difference between the means by the choice of seeds alone: Welch's t-test (1947, "The
    /// Generalization of Student's Problem when Several Different Population Variances are Involved"); `None` where
    /// there is nothing to compare with, or nothing varies.
    pub p_value: Option<f64>,
}

impl Spread {
    /// The spread of several scores, and the difference of their mean from that of others; `None` for one score.
    pub(crate) fn new(scores: Vec<f64>, others: Option<&[f64]>) -> Option<Self> {
        let (count, _, variance) = moments(&scores)?;
        let half_width = StudentsT::new(0.0, 1.0, count - 1.0)
            .map(|student| student.inverse_cdf(0.975) * (variance / count).sqrt())
            .ok()?;
        Some(Self {
            deviation: variance.sqrt(),
            half_width,
            p_value: others.and_then(|others| welch(&scores, others)),
            scores,
        })
    }
}

/// The number of values, their mean and their variance; `None` if they are fewer than two.
fn moments(values: &[f64]) -> Option<(f64, f64, f64)> {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
    (values.len() > 1).then(|| (count, mean, squares / (count - 1.0)))
}

fn welch(a: &[f64], b: &[f64]) -> Option<f64> {
    let ((m, mean_a, variance_a), (n, mean_b, variance_b)) = (moments(a)?, moments(b)?);
    let (of_a, of_b) = (variance_a / m, variance_b / n);
    let sum = of_a + of_b;
    if sum <= 0.0 {
        return None;
    }
    let freedom = sum.powi(2) / (of_a.powi(2) / (m - 1.0) + of_b.powi(2) / (n - 1.0));
    let student = StudentsT::new(0.0, 1.0, freedom).ok()?;
    Some(2.0 * student.sf((mean_a - mean_b).abs() / sum.sqrt()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `scipy.stats.t.interval` and `scipy.stats.ttest_ind(a, b, equal_var=False)` of SciPy 1.17.
    #[test]
    fn means_and_tests_are_those_of_scipy() {
        let (a, b) = ([35.1, 35.9, 35.4], [36.2, 36.8, 36.1, 36.6]);
        let found = Spread::new(a.to_vec(), Some(&b)).unwrap();
        assert!((found.deviation - 0.404_145_188_432_736_7).abs() < 1e-9, "{found:?}");
        assert!((found.half_width - 1.003_952_303_608_204_5).abs() < 1e-9, "{found:?}");
        assert!(
            (found.p_value.unwrap() - 0.030_093_118_692_766_648).abs() < 1e-9,
            "{found:?}"
        );
        assert_eq!(Spread::new(vec![1.0], None), None);
        let same = Spread::new(vec![1.0, 1.0], Some(&[1.0, 1.0])).unwrap();
        assert_eq!((same.deviation, same.half_width, same.p_value), (0.0, 0.0, None));
    }
}
