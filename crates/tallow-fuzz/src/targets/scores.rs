//! Files of hypotheses and references.

use super::parts;
use crate::message;
use std::fs::write;
use tallow_data::read_lines;
use tallow_score::{Bleu, Chrf, Score, ScoreError, Ter, Tokenization, exact_match, to_json_text, to_text};
use tempfile::tempdir;

/// The largest effect of rounding on a score of 100.
const ROUNDING: f64 = 1e-6;

/// Hypotheses and references. Scores are within their bounds, and the references themselves score perfectly.
///
/// # Panics
/// When a promise is broken.
pub fn scores(data: &[u8]) {
    let Some((&choice, rest)) = data.split_first() else {
        return;
    };
    let place = tempdir().expect("a place");
    let (left, right) = parts(rest).unwrap_or((rest, rest));
    let mut texts = Vec::new();
    for (name, contents) in [("hypotheses.txt", left), ("references.txt", right)] {
        let path = place.path().join(name);
        write(&path, contents).expect("an input");
        match read_lines(&path) {
            Ok(text) => texts.push(text.lines),
            Err(error) => return message::check(&error, &[name], data),
        }
    }
    let [hypotheses, references] = <[Vec<String>; 2]>::try_from(texts).expect("two texts");
    let options = Options::new(choice);
    match options.scores(&hypotheses, std::slice::from_ref(&references)) {
        Ok(scores) => {
            assert!(!hypotheses.is_empty() && hypotheses.len() == references.len());
            scores.iter().for_each(check);
            let json: serde_json::Value = serde_json::from_str(&to_json_text(&scores, choice & 7)).expect("JSON");
            assert_eq!(json.as_array().map(Vec::len), Some(scores.len()));
            assert_eq!(to_text(&scores, choice & 7).lines().count(), scores.len());
        }
        Err(error) => {
            assert!(hypotheses.is_empty() || hypotheses.len() != references.len());
            message::check(&error, &[], data);
        }
    }
    if !references.is_empty() {
        check_perfect(&options, &references);
        // If the hypotheses equal the first reference, a second one does not lower the score.
        if hypotheses.len() == references.len() {
            let both = [hypotheses.clone(), references];
            let exact = exact_match(&hypotheses, &both).expect("a share");
            assert_eq!(exact, 100.0);
            options
                .scores(&hypotheses, &both)
                .expect("scores with two references")
                .iter()
                .for_each(check);
        }
    }
}

/// The metrics with the options of the command line.
struct Options {
    bleu: Bleu,
    chrf: Chrf,
    ter: Ter,
}

impl Options {
    fn new(choice: u8) -> Self {
        let lowercase = choice & 4 > 0;
        Self {
            bleu: Bleu {
                tokenization: match choice & 7 {
                    0 | 4 => Tokenization::V13a,
                    1 | 5 => Tokenization::International,
                    2 | 6 => Tokenization::Character,
                    3 => Tokenization::None,
                    // Chinese has no case, so one of both is enough for it.
                    _ => Tokenization::Chinese,
                },
                lowercase,
                ..Bleu::default()
            },
            chrf: Chrf {
                word_order: usize::from(choice >> 3 & 3),
                lowercase,
                ..Chrf::default()
            },
            ter: Ter {
                case_sensitive: choice & 32 > 0,
                normalized: choice & 64 > 0,
                no_punct: choice & 128 > 0,
                asian_support: choice & 192 > 0,
            },
        }
    }

    fn scores(&self, hypotheses: &[String], references: &[Vec<String>]) -> Result<Vec<Score>, ScoreError> {
        Ok(vec![
            self.bleu.corpus(hypotheses, references)?,
            self.chrf.corpus(hypotheses, references)?,
            self.ter.corpus(hypotheses, references)?,
        ])
    }
}

fn check(score: &Score) {
    let most = if score.name == "TER" {
        f64::MAX
    } else {
        100.0 + ROUNDING
    };
    assert!((0.0..=most).contains(&score.score), "{}: {}", score.name, score.score);
}

/// Scores lines against themselves.
fn check_perfect(options: &Options, lines: &[String]) {
    let references = vec![lines.to_vec()];
    let scores = options
        .scores(lines, &references)
        .expect("scores of lines against themselves");
    let [bleu, chrf, ter] = [&scores[0], &scores[1], &scores[2]];
    scores.iter().for_each(check);
    let is_perfect = |score: &Score| (score.score - 100.0).abs() <= ROUNDING;
    // Without a sequence of four tokens, BLEU has nothing to count and is 0.
    let tallow_score::Statistics::Bleu(counts) = &bleu.statistics else {
        panic!("not the counts of BLEU")
    };
    assert_eq!(counts.matches, counts.totals);
    assert!(is_perfect(bleu) || counts.totals.contains(&0), "{}", bleu.score);
    let has_characters = lines
        .iter()
        .any(|line| line.chars().any(|c| !c.is_whitespace() && !c.is_control()));
    assert!(is_perfect(chrf) || !has_characters, "{}", chrf.score);
    assert_eq!(ter.score, 0.0);
    assert_eq!(exact_match(lines, &references), Ok(100.0));
}
