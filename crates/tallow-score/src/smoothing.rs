//! The smoothing of BLEU: values in place of a precision of zero.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::ScoreError;

/// How BLEU treats n-gram orders without a match, which would make the geometric mean zero. The methods are those of
/// Chen and Cherry 2014, "A Systematic Comparison of Smoothing Techniques for Sentence-Level BLEU". If no order has a
/// match, the score is zero with every method.
///
/// In TOML: `"exp"`, `{ floor = 0.1 }`, `{ add-k = 1.0 }` or `"none"`.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Smoothing {
    /// `exp`, method 3: the k-th order without a match counts as `1 / 2^k` matches.
    #[default]
    #[serde(rename = "exp")]
    Exponential,
    /// `floor`, method 1: an order without a match counts as this many matches (usually 0.1).
    Floor(f64),
    /// `add-k`, method 2: this number (usually 1) is added to the matches and totals of every order above the first.
    AddK(f64),
    /// `none`: an order without a match makes the score zero.
    None,
}

impl Smoothing {
    /// The smoothing that sacreBLEU calls `method` (`exp`, `floor`, `add-k`, `none`). Without a `value`, floor takes
    /// 0.1 and add-k 1.
    ///
    /// # Errors
    /// If the name is unknown, or a value comes with a method that takes none.
    pub fn new(method: &str, value: Option<f64>) -> Result<Self, ScoreError> {
        match (method, value) {
            ("floor", value) => Ok(Self::Floor(value.unwrap_or(0.1))),
            ("add-k", value) => Ok(Self::AddK(value.unwrap_or(1.0))),
            ("exp", None) => Ok(Self::Exponential),
            ("none", None) => Ok(Self::None),
            ("exp" | "none", Some(value)) => Err(ScoreError::UnusedSmoothingValue {
                method: method.to_string(),
                value: value.to_string(),
            }),
            _ => Err(ScoreError::UnknownSmoothing {
                name: method.to_string(),
            }),
        }
    }

    /// The value, if the method has one.
    pub(crate) fn value(self) -> Option<f64> {
        match self {
            Self::Floor(value) | Self::AddK(value) => Some(value),
            Self::Exponential | Self::None => None,
        }
    }
}

/// The form in signatures: `exp`, `floor[0.10]`, `add-k[1.00]`, `none`.
impl fmt::Display for Smoothing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exponential => formatter.write_str("exp"),
            Self::Floor(value) => write!(formatter, "floor[{value:.2}]"),
            Self::AddK(value) => write!(formatter, "add-k[{value:.2}]"),
            Self::None => formatter.write_str("none"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_belong_to_methods() {
        assert_eq!(Smoothing::new("floor", None), Ok(Smoothing::Floor(0.1)));
        assert_eq!(Smoothing::new("add-k", Some(2.0)), Ok(Smoothing::AddK(2.0)));
        assert_eq!(Smoothing::new("none", None), Ok(Smoothing::None));
        let unused = Smoothing::new("exp", Some(0.5)).unwrap_err().to_string();
        assert_eq!(
            unused,
            "smoothing `exp` takes no value, but 0.5 was given; only floor and add-k take one"
        );
        let unknown = Smoothing::new("ex", None).unwrap_err().to_string();
        assert_eq!(unknown, "unknown smoothing `ex`; choose exp, floor, add-k or none");
    }

    #[test]
    fn smoothing_is_read_from_configs() {
        let read = |text: &str| serde_json::from_str::<Smoothing>(text).unwrap();
        assert_eq!(read("\"exp\""), Smoothing::Exponential);
        assert_eq!(read("{\"add-k\": 2}"), Smoothing::AddK(2.0));
        assert_eq!(read("{\"floor\": 0.1}"), Smoothing::Floor(0.1));
        assert_eq!(read("\"none\""), Smoothing::None);
    }
}
