//! Checks whether line N of one side translates line N of the other.
//!
//! A long sentence has a long translation (Gale and Church 1993). So the lengths of the two sides are correlated where
//! lines belong together, and uncorrelated where they do not. If one file lacks a line, everything after it is shifted:
//! its lengths then correlate with the lines before or after.

use serde::Serialize;

/// Number of lines in a window, which are examined together.
const WINDOW: usize = 200;
/// Least number of lines from which a correlation tells anything.
const LEAST: usize = 50;
/// Greatest shift at which counterparts are searched.
const FARTHEST: i64 = 10;
/// The correlation of another shift must be greater by at least this margin, and by at least this many times 1 /
/// sqrt(lines), the deviation of correlations of unrelated lines.
const MARGIN: f64 = 0.3;
const MARGIN_DEVIATIONS: f64 = 4.5;
/// Lines of a window whose correlation is below the first value are unrelated, provided that the correlations of many
/// windows are above the second. Lines with a correlation below the second value do not belong together at any shift.
const UNRELATED: f64 = 0.15;
const RELATED: f64 = 0.5;

/// Lines whose translation stands elsewhere.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stretch {
    /// The first source line, from 1; accurate to a few lines.
    pub first: u64,
    /// The last source line.
    pub last: u64,
    /// How many lines further down the matching target lines are; `None` if no lines within reach match.
    pub shift: Option<i64>,
}

/// How well the lengths of the two sides agree.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LineAlignment {
    /// The correlation of the logarithms of the lengths in characters, over all lines; `None` if there are too few
    /// lines, or if all are equally long.
    pub correlation: Option<f64>,
    /// The stretches in which lines do not belong together.
    pub misaligned: Vec<Stretch>,
}

impl LineAlignment {
    /// Compares the sides of a corpus. They may have different numbers of lines.
    pub fn of(source: &[String], target: &[String]) -> Self {
        let lengths = |lines: &[String]| lines.iter().map(|line| Self::length(line)).collect::<Vec<f64>>();
        Self::of_lengths(&lengths(source), &lengths(target))
    }

    /// The measure of a line's length: the logarithm of its characters.
    pub(crate) fn length(line: &str) -> f64 {
        ((line.trim().chars().count() + 1) as f64).ln()
    }

    /// Compares lines whose lengths are known.
    pub(crate) fn of_lengths(source: &[f64], target: &[f64]) -> Self {
        let both = source.len().min(target.len());
        let overall = correlation(&source[..both], &target[..both]);
        let windows: Vec<Window> = (0..source.len().div_ceil(WINDOW))
            .map(|i| {
                // The last window is also a full one, if there are enough lines.
                let last = ((i + 1) * WINDOW).min(source.len());
                Window::of(source, target, last.saturating_sub(WINDOW), last)
            })
            .collect();
        // The usual correlation of lines that belong together. It is taken from the upper quarter, so up to half a
        // corpus may be misaligned.
        let mut usual: Vec<f64> = windows.iter().map(|window| window.best().1).collect();
        usual.sort_by(f64::total_cmp);
        let is_related = usual.get(usual.len() * 3 / 4).is_some_and(|usual| *usual > RELATED);
        let mut misaligned: Vec<Stretch> = Vec::new();
        let mut before = 0;
        for window in &windows {
            let (shift, best) = window.best();
            let own = window.of_shift(0);
            let found = if shift != 0 && best > RELATED && best > own.max(0.0) + window.margin() {
                Some(Some(shift))
            } else if own < UNRELATED && best < RELATED && is_related && window.is_varied(source, target) {
                Some(None)
            } else {
                None
            };
            match (found, misaligned.last_mut()) {
                (Some(shift), Some(stretch)) if stretch.last as usize >= window.first && stretch.shift == shift => {
                    stretch.last = window.last as u64;
                }
                (Some(shift), _) => {
                    let first = match shift {
                        Some(shift) => border(source, target, before..window.last, shift),
                        None => window.first,
                    };
                    misaligned.push(Stretch {
                        first: first as u64 + 1,
                        last: window.last as u64,
                        shift,
                    });
                }
                (None, _) => {}
            }
            before = window.first;
        }
        Self {
            correlation: overall,
            misaligned,
        }
    }
}

/// Source lines `first..last` against target lines at every shift.
struct Window {
    first: usize,
    last: usize,
    /// One correlation for each shift, from -[`FARTHEST`] on.
    correlations: Vec<f64>,
}

impl Window {
    fn of(source: &[f64], target: &[f64], first: usize, last: usize) -> Self {
        let at = |shift: i64| {
            // The lines of the window that have a counterpart.
            let low = (first as i64).max(-shift);
            let high = (last as i64).min(target.len() as i64 - shift);
            if high - low < LEAST as i64 {
                return None;
            }
            let counterpart = (low + shift) as usize..(high + shift) as usize;
            correlation(&source[low as usize..high as usize], &target[counterpart])
        };
        let found: Vec<Option<f64>> = (-FARTHEST..=FARTHEST).map(at).collect();
        Self {
            first,
            last,
            correlations: found.into_iter().map(|value| value.unwrap_or(0.0)).collect(),
        }
    }

    fn margin(&self) -> f64 {
        MARGIN.max(MARGIN_DEVIATIONS / ((self.last - self.first) as f64).sqrt())
    }

    /// Whether lengths vary in this window as they do elsewhere. If they do not, as in a corpus sorted by length, a low
    /// correlation tells nothing.
    fn is_varied(&self, source: &[f64], target: &[f64]) -> bool {
        let of = |side: &[f64]| {
            let here = side.get(self.first..self.last);
            here.is_some_and(|here| deviation(here) > 0.6 * deviation(side))
        };
        of(source) && of(target)
    }

    fn of_shift(&self, shift: i64) -> f64 {
        self.correlations[(shift + FARTHEST) as usize]
    }

    /// The shift that fits best; of equally good shifts, the smallest.
    fn best(&self) -> (i64, f64) {
        let mut shifts: Vec<i64> = (-FARTHEST..=FARTHEST).collect();
        shifts.sort_by_key(|shift| shift.abs());
        let mut best = (0, self.of_shift(0));
        for shift in shifts {
            if self.of_shift(shift) > best.1 {
                best = (shift, self.of_shift(shift));
            }
        }
        best
    }
}

/// The line of `lines` from which the shift fits better than no shift. It minimizes the sum of the differences of
/// lengths, taken without the shift before this line and with the shift from there on.
fn border(source: &[f64], target: &[f64], lines: std::ops::Range<usize>, shift: i64) -> usize {
    let end = lines.end.saturating_sub(1);
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let ratio = mean(target) - mean(source);
    let cost = |line: usize, shift: i64| {
        let other = usize::try_from(line as i64 + shift)
            .ok()
            .and_then(|other| target.get(other));
        other.map_or(1.0, |other| (other - source[line] - ratio).powi(2))
    };
    let mut sum: f64 = lines.clone().map(|line| cost(line, shift)).sum();
    let mut best = (lines.start, sum);
    for line in lines {
        sum += cost(line, 0) - cost(line, shift);
        if sum < best.1 {
            best = (line + 1, sum);
        }
    }
    // If no line is better, the last one is used.
    best.0.min(end)
}

/// The standard deviation.
fn deviation(values: &[f64]) -> f64 {
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt()
}

/// Pearson's correlation; `None` where one side does not vary.
fn correlation(a: &[f64], b: &[f64]) -> Option<f64> {
    if a.len() < LEAST {
        return None;
    }
    let count = a.len() as f64;
    let (mean_a, mean_b) = (a.iter().sum::<f64>() / count, b.iter().sum::<f64>() / count);
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (x, y) in a.iter().zip(b) {
        ab += (x - mean_a) * (y - mean_b);
        aa += (x - mean_a).powi(2);
        bb += (y - mean_b).powi(2);
    }
    let scale = (aa * bb).sqrt();
    (scale > 1e-9).then(|| ab / scale)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shuffle::{Purpose, SplitMix64};

    /// Lines of 3 to 60 letters and translations of about the same length.
    fn corpus(lines: usize) -> (Vec<String>, Vec<String>) {
        let mut random = SplitMix64::keyed(4, Purpose::Pairs, &[]);
        let mut below = |most: u64| random.below(most);
        (0..lines)
            .map(|_| {
                let length = 3 + below(58) as usize;
                let other = length * 9 / 10 + below(8) as usize;
                ("a".repeat(length), "b".repeat(other))
            })
            .unzip()
    }

    #[test]
    fn what_belongs_together_is_left_alone() {
        for lines in [0, 1, 49, 60, 399, 1000, 4100] {
            let (source, target) = corpus(lines);
            let found = LineAlignment::of(&source, &target);
            assert_eq!(found.misaligned, [], "{lines}");
            assert_eq!(found.correlation.is_some(), lines >= LEAST);
        }
        let (source, target) = corpus(1000);
        assert!(LineAlignment::of(&source, &target).correlation.unwrap() > 0.8);
        // If all lines are equally long, nothing can be concluded.
        let same = vec!["abc".to_string(); 1000];
        let found = LineAlignment::of(&same, &same);
        assert_eq!((found.correlation, found.misaligned.len()), (None, 0));
        // Sorted by length, as some corpora are, every neighbour fits.
        let mut sorted = source;
        sorted.sort_by_key(String::len);
        assert_eq!(LineAlignment::of(&sorted, &sorted).misaligned, []);
        // A part in random order and a part sorted by the length of the source. In the sorted part, little correlation
        // is left.
        let (mut source, mut target) = corpus(4000);
        let (more, others) = corpus(3000);
        let mut pairs: Vec<(String, String)> = more.into_iter().zip(others).collect();
        pairs.sort_by_key(|(source, _)| source.len());
        for (one, other) in pairs {
            source.push(one);
            target.push(other);
        }
        assert_eq!(LineAlignment::of(&source, &target).misaligned, []);
    }

    /// A few unrelated lines are not mistaken for shifted ones.
    #[test]
    fn chance_is_no_shift() {
        for lines in [50, 60, 100, 150, 300] {
            for start in 0..12 {
                let (source, _) = corpus(lines + start);
                let (_, mut target) = corpus(3 * lines);
                target.reverse();
                let found = LineAlignment::of(&source[start..], &target[..lines]).misaligned;
                assert_eq!(found, [], "{lines} {start}");
            }
        }
    }

    #[test]
    fn a_line_that_is_missing_is_found() {
        for (lines, missing) in [(3000, 1700), (3000, 0), (500, 250), (2000, 1200)] {
            let (source, mut target) = corpus(lines);
            target.remove(missing);
            // With equally many lines on both sides, as after a careless repair, and with one line fewer.
            for fill in [false, true] {
                let mut target = target.clone();
                target.extend(fill.then(|| "b".repeat(20)));
                let found = LineAlignment::of(&source, &target).misaligned;
                assert_eq!(found.len(), 1, "{lines} {missing} {found:?}");
                assert_eq!(found[0].shift, Some(-1));
                assert_eq!(found[0].last, lines as u64);
                assert!(
                    (found[0].first as i64 - missing as i64).abs() < 20,
                    "{missing} {found:?}"
                );
            }
        }
    }

    #[test]
    fn lines_that_are_surplus_or_foreign_are_found() {
        let (source, mut target) = corpus(3000);
        for _ in 0..3 {
            target.insert(1500, "b".repeat(30));
        }
        let found = LineAlignment::of(&source, &target).misaligned;
        assert_eq!((found.len(), found[0].shift), (1, Some(3)), "{found:?}");
        // The middle third in another order.
        let (source, mut target) = corpus(3600);
        target[1200..2400].reverse();
        let found = LineAlignment::of(&source, &target).misaligned;
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].first, found[0].last, found[0].shift), (1201, 2400, None));
        // A corpus in a completely different order: no correlation, and no shift fits.
        let (source, mut target) = corpus(3600);
        target.reverse();
        let found = LineAlignment::of(&source, &target);
        assert!(
            found.correlation.unwrap().abs() < 0.1 && found.misaligned.is_empty(),
            "{found:?}"
        );
    }
}
