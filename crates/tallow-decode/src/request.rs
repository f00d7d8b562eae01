//! What is asked of the translation of a single sentence, beyond the settings of its search.

use crate::DecodeConfig;

/// How far the number of a part is shifted in the number of its sentence; the lower bits are the number of its line.
const PART_BITS: u32 = 40;

/// What is asked of the translation of one sentence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SentenceRequest {
    /// The number of the sentence, such as its line in a file: samples depend on it, and on nothing else of the batch.
    pub number: u64,
    /// The tokens with which the translation begins.
    pub prefix: Vec<u32>,
    /// Sequences of tokens that the translation contains, in any order. They may overlap.
    pub phrases: Vec<Vec<u32>>,
    /// Whether the translation ends behind its prefix, so that nothing is left to choose.
    pub ends: bool,
}

impl SentenceRequest {
    /// A request that asks for nothing but a translation.
    pub fn numbered(number: u64) -> Self {
        Self {
            number,
            ..Self::default()
        }
    }

    /// A request for a part of a line, both numbered from 0, that asks for nothing but a translation.
    pub(crate) fn of_part(line: u64, part: usize) -> Self {
        Self::numbered(line | (part as u64) << PART_BITS)
    }

    /// A request for a given translation, to score it.
    pub fn forced(tokens: Vec<u32>) -> Self {
        Self {
            prefix: tokens,
            ends: true,
            ..Self::default()
        }
    }

    /// The number of the line in messages, from 1.
    pub(crate) fn line(&self) -> u64 {
        (self.number & ((1 << PART_BITS) - 1)) + 1
    }

    /// The fewest target tokens that can do justice to the request, `</s>` included.
    pub(crate) fn least_length(&self) -> usize {
        let of_phrases: usize = self.phrases.iter().map(Vec::len).sum();
        self.prefix.len() + of_phrases + 1
    }
}

/// The largest number of target tokens of a sentence, `</s>` included.
pub(crate) fn length_limit(config: &DecodeConfig, source_length: usize, request: &SentenceRequest) -> usize {
    let limit = match config.max_length_factor {
        0.0 => config.max_length,
        factor => {
            let relative = (factor * source_length as f64).ceil() as usize;
            let least = request.least_length().max(config.min_length);
            relative.max(least).min(config.max_length)
        }
    };
    limit.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits() {
        let limit = |factor, source, prefix| {
            let config = DecodeConfig {
                max_length: 20,
                min_length: 3,
                max_length_factor: factor,
                ..DecodeConfig::default()
            };
            let request = SentenceRequest {
                prefix: vec![2; prefix],
                phrases: vec![vec![3; 2]],
                ..SentenceRequest::default()
            };
            length_limit(&config, source, &request)
        };
        assert_eq!(limit(0.0, 5, 0), 20);
        assert_eq!(limit(1.5, 5, 0), 8);
        assert_eq!(limit(3.0, 9, 0), 20);
        // Room for what is asked for.
        assert_eq!((limit(1.0, 1, 0), limit(1.0, 1, 4)), (3, 7));
    }
}
