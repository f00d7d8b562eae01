//! The errors of scoring.

/// Reasons why a score could not be computed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScoreError {
    /// There is no hypothesis; a corpus score without sentences is not defined.
    #[error("there is no hypothesis to score; a score needs at least one sentence")]
    EmptyCorpus,
    /// There is no reference stream, or no reference of a sentence.
    #[error("there is no reference to score against; give at least one reference per hypothesis")]
    NoReferences,
    /// A reference stream has another number of lines than the hypotheses.
    #[error(
        "reference stream {stream} has {references} line{}, but there are {hypotheses} to score; \
         line i of every stream must translate the same sentence as hypothesis i",
        if *references == 1 { "" } else { "s" }
    )]
    CountMismatch {
        /// The number of the reference stream, counted from one.
        stream: usize,
        /// Number of hypotheses.
        hypotheses: usize,
        /// Number of lines of this stream.
        references: usize,
    },
    /// The name of a tokenization is not known.
    #[error("unknown tokenization `{name}`; choose 13a, intl, zh, char, flores200, flores101 or none")]
    UnknownTokenization {
        /// The given name.
        name: String,
    },
    /// A tokenization of sacreBLEU that needs MeCab.
    #[error(
        "`{name}` cuts lines by MeCab and a compiled dictionary, which no Rust library reads both safely and with MeCab's \
         results; \
         choose char or flores200, or give the translations (a run keeps those of its test set) to sacreBLEU itself"
    )]
    NoMecab {
        /// The given name.
        name: String,
    },
    /// The file of a SentencePiece model cannot be used.
    #[error("score.sentencepiece: {reason}; {way_out}")]
    SentencePiece {
        /// The file and what is wrong with it.
        reason: String,
        /// Where to get the file.
        way_out: String,
    },
    /// The name of a smoothing method is not known.
    #[error("unknown smoothing `{name}`; choose exp, floor, add-k or none")]
    UnknownSmoothing {
        /// The given name.
        name: String,
    },
    /// A smoothing value was given to a method that has none.
    #[error("smoothing `{method}` takes no value, but {value} was given; only floor and add-k take one")]
    UnusedSmoothingValue {
        /// The smoothing method.
        method: String,
        /// The value, as text.
        value: String,
    },
    /// The options of a metric are not valid.
    #[error("{}", faults.join("; "))]
    Options {
        /// Every fault, each starting with the option's name.
        faults: Vec<String>,
    },
}

impl ScoreError {
    /// An error that names all of `faults`, if there are any.
    pub(crate) fn if_any(faults: Vec<String>) -> Result<(), Self> {
        if faults.is_empty() {
            Ok(())
        } else {
            Err(Self::Options { faults })
        }
    }
}
