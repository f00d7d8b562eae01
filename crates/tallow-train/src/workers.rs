//! The number of threads that share an update.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The number of workers that share an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Workers {
    /// One for each core, but fewer if their gradients would need more than 4 GiB together; one on a GPU.
    #[default]
    Auto,
    /// Exactly this many.
    Count(usize),
}

impl Serialize for Workers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Workers::Auto => serializer.serialize_str("auto"),
            Workers::Count(count) => serializer.serialize_u64(*count as u64),
        }
    }
}

impl<'de> Deserialize<'de> for Workers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Count(usize),
            Word(String),
        }
        match Form::deserialize(deserializer) {
            Ok(Form::Count(count)) => Ok(Workers::Count(count)),
            Ok(Form::Word(word)) if word == "auto" => Ok(Workers::Auto),
            _ => Err(serde::de::Error::custom("expected \"auto\" or a number of workers")),
        }
    }
}

/// Memory that the workers' gradients may use together, in bytes.
const GRADIENT_MEMORY: usize = 4 << 30;

impl Workers {
    /// The fault of this number on a GPU, if there is one. Operations of several threads have no order there, so a
    /// worker could see weights while they are updated.
    pub fn fault_on_gpu(self) -> Option<String> {
        match self {
            Workers::Count(count) if count > 1 => Some(format!(
                "train.workers: {count}, but on a GPU one worker alone can train; set it to 1 or \"auto\""
            )),
            _ => None,
        }
    }

    /// The number of workers for a model of `elements` parameters on a machine with `cores`.
    pub fn resolve(self, cores: usize, elements: usize) -> usize {
        match self {
            Workers::Count(count) => count,
            Workers::Auto => cores.min(GRADIENT_MEMORY / (4 * elements.max(1))).max(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_worker_on_a_gpu() {
        assert_eq!(Workers::Auto.fault_on_gpu(), None);
        assert_eq!(Workers::Count(1).fault_on_gpu(), None);
        let fault = Workers::Count(2).fault_on_gpu().unwrap();
        assert!(fault.starts_with("train.workers: 2, but"), "{fault}");
    }

    #[test]
    fn workers_stay_within_memory() {
        assert_eq!(Workers::Auto.resolve(2, 10_000_000), 2);
        assert_eq!(Workers::Auto.resolve(64, 100_000_000), 10);
        assert_eq!(Workers::Auto.resolve(64, usize::MAX / 8), 1);
        assert_eq!(Workers::Count(3).resolve(2, 1), 3);
    }
}
