//! Minimum-Bayes-risk decoding (Kumar and Byrne 2004): of many samples of a sentence, the one that agrees best with all
//! of them (Eikema and Aziz 2022).

use crate::hypothesis::TextOf;
use crate::{DecodeConfig, DecodeError, Hypothesis, Utility};
use tallow_score::{Bleu, Chrf};

/// The settings with which samples are drawn for minimum-Bayes-risk decoding.
pub(crate) fn drawing(config: &DecodeConfig) -> DecodeConfig {
    DecodeConfig {
        sample: true,
        n_best: config.mbr_samples,
        distinct: false,
        keep: Vec::new(),
        mbr: Utility::None,
        ..config.clone()
    }
}

/// Ranks the samples of a sentence: best are those with the greatest mean utility, with every sample as a reference. Of
/// samples with the same text, one is kept, the most probable one; but every sample counts as a reference. The score of
/// a hypothesis becomes its mean utility.
///
/// # Errors
/// When tokens have no text.
pub(crate) fn rank(
    samples: Vec<Hypothesis>,
    utility: Utility,
    text_of: &TextOf,
) -> Result<Vec<Hypothesis>, DecodeError> {
    let mut texts: Vec<String> = Vec::new();
    let mut counts: Vec<f64> = Vec::new();
    let mut kept: Vec<Hypothesis> = Vec::new();
    for sample in samples {
        let text = text_of(&sample.tokens)?;
        match texts.iter().position(|other| *other == text) {
            Some(known) => {
                counts[known] += 1.0;
                if sample.log_probability > kept[known].log_probability {
                    kept[known] = sample;
                }
            }
            None => {
                texts.push(text);
                counts.push(1.0);
                kept.push(sample);
            }
        }
    }
    let utilities = match utility {
        Utility::Chrf => Chrf::default().pairwise(&texts)?,
        // Orders that short sentences do not have are left out.
        Utility::Bleu => Bleu {
            effective_order: true,
            ..Bleu::default()
        }
        .pairwise(&texts)?,
        Utility::None => return Ok(kept),
    };
    let total: f64 = counts.iter().sum();
    for (hypothesis, of_text) in kept.iter_mut().zip(utilities) {
        let weighted = of_text.iter().zip(&counts).map(|(utility, count)| utility * count);
        hypothesis.score = weighted.sum::<f64>() / total;
    }
    let order = |a: &Hypothesis, b: &Hypothesis| {
        let by_utility = b.score.total_cmp(&a.score);
        by_utility.then(b.log_probability.total_cmp(&a.log_probability))
    };
    kept.sort_by(order);
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(token: u32, log_probability: f64) -> Hypothesis {
        Hypothesis {
            tokens: vec![token],
            log_probability,
            ..crate::translation::empty_hypothesis()
        }
    }

    /// Against every sample compared with every other by itself.
    #[test]
    fn the_best_agrees_with_most() {
        let texts = ["a dog runs", "a dog ran", "the dog runs", "fish", "a dog  runs"];
        let text_of = |tokens: &[u32]| Ok(texts[tokens[0] as usize].to_owned());
        let drawn = [0, 3, 1, 2, 3, 0, 4, 1];
        let samples: Vec<Hypothesis> = drawn
            .iter()
            .enumerate()
            .map(|(i, token)| sample(*token, -(i as f64)))
            .collect();
        for utility in [Utility::Chrf, Utility::Bleu] {
            let of_pair = |ours: &str, theirs: &str| match utility {
                Utility::Chrf => Chrf::default().sentence(ours, &[theirs]).unwrap().score,
                _ => {
                    let bleu = Bleu {
                        effective_order: true,
                        ..Bleu::default()
                    };
                    bleu.sentence(ours, &[theirs]).unwrap().score
                }
            };
            let risk = |token: u32| -> f64 {
                let with = |other: &u32| of_pair(texts[token as usize], texts[*other as usize]);
                drawn.iter().map(with).sum::<f64>() / drawn.len() as f64
            };
            let mut expected: Vec<(u32, f64)> = (0..5).map(|token| (token, risk(token))).collect();
            expected.sort_by(|a, b| b.1.total_cmp(&a.1));
            let ranked = rank(samples.clone(), utility, &text_of).unwrap();
            assert_eq!(ranked.len(), 5);
            for (found, (token, risk)) in ranked.iter().zip(&expected) {
                assert!((found.score - risk).abs() < 1e-9, "{utility:?} {token}");
            }
            assert_eq!(ranked[4].tokens, [3]);
            // Of several samples with one text, the most probable one is kept.
            let best_fish = ranked.iter().find(|found| found.tokens == [3]).unwrap();
            assert_eq!(best_fish.log_probability, -1.0);
        }
    }
}
