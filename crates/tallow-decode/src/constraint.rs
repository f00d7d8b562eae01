//! Constraints: tokens that must not come next.

use crate::DecodeConfig;

/// The tokens that must not come next. `</s>` is the last of them if the sentence is still too short.
///
/// `tokens` are the hypothesis' tokens so far.
pub(crate) fn forbidden(tokens: &[u32], eos_id: u32, config: &DecodeConfig) -> Vec<u32> {
    let mut forbidden = Vec::new();
    let size = config.no_repeat_ngram;
    if size > 0 && tokens.len() + 1 >= size {
        let start = &tokens[tokens.len() + 1 - size..];
        for window in tokens.windows(size) {
            if let Some((last, rest)) = window.split_last()
                && rest == start
            {
                forbidden.push(*last);
            }
        }
    }
    if tokens.len() + 1 < config.min_length {
        forbidden.push(eos_id);
    }
    forbidden
}

/// Sets the log-probability of every forbidden token to minus infinity. If no other token is possible, `</s>` stays
/// allowed, because a sentence must always be able to end.
pub(crate) fn constrain(log_probabilities: &mut [f32], tokens: &[u32], eos_id: u32, config: &DecodeConfig) {
    let forbidden = forbidden(tokens, eos_id, config);
    let eos = log_probabilities[eos_id as usize];
    for token in &forbidden {
        log_probabilities[*token as usize] = f32::NEG_INFINITY;
    }
    if !forbidden.is_empty() && !log_probabilities.iter().any(|x| x.is_finite()) {
        log_probabilities[eos_id as usize] = eos;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(tokens: &[u32], config: DecodeConfig) -> Vec<usize> {
        let mut values = vec![-1.0; 6];
        constrain(&mut values, tokens, 0, &config);
        (0..6).filter(|i| values[*i].is_finite()).collect()
    }

    #[test]
    fn repeated_ngrams() {
        let config = |size| DecodeConfig {
            no_repeat_ngram: size,
            ..DecodeConfig::default()
        };
        assert_eq!(allowed(&[2, 3, 4, 2, 3], config(3)), [0, 1, 2, 3, 5]);
        assert_eq!(allowed(&[2, 3, 4, 2], config(2)), [0, 1, 2, 4, 5]);
        assert_eq!(allowed(&[2, 3], config(1)), [0, 1, 4, 5]);
        assert_eq!(allowed(&[2, 3], config(0)).len(), 6);
        assert_eq!(allowed(&[], config(4)).len(), 6);
    }

    #[test]
    fn minimum_length_counts_the_end() {
        let config = |least| DecodeConfig {
            min_length: least,
            ..DecodeConfig::default()
        };
        assert_eq!(allowed(&[2], config(3)), [1, 2, 3, 4, 5]);
        assert_eq!(allowed(&[2, 3], config(3)).len(), 6);
        assert_eq!(allowed(&[], config(1)).len(), 6);
    }
}
