//! What is asked of translations of text: prefixes, phrases, forbidden and unknown pieces, minimum Bayes risk, and
//! scores of given translations.

// Helpers outside `#[test]` functions unwrap too: a panic is how a test fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::small_translator;
use small_translator::{LINES, config, model, subwords, translator};
use tallow_decode::{DecodeConfig, DecodeError, Hypothesis, Input, Translator, UnknownPieces, Unscored, Utility};

/// Prefixes and phrases are texts of the target vocabulary.
#[test]
fn translations_as_they_are_asked_for() {
    let tokenizers = subwords();
    let translator = translator(config(), &tokenizers, &[]);
    let input = |prefix: &str, phrases: &[&str]| Input {
        text: LINES[0].into(),
        prefix: prefix.into(),
        phrases: phrases.iter().map(|phrase| (*phrase).into()).collect(),
    };
    let inputs = [
        input("", &[]),
        input("a bird", &[]),
        input("", &["dog", "sees"]),
        input("the", &["cat"]),
    ];
    let found = translator.translate_inputs(&inputs, 0).unwrap();
    assert_eq!(found[0].text(), translator.translate(&LINES[..1], 0).unwrap()[0].text());
    assert!(found[1].text().starts_with("a bird"), "{}", found[1].text());
    let words: Vec<&str> = found[2].text().split([' ', ',', '!']).collect();
    assert!(words.contains(&"dog") && words.contains(&"sees"), "{words:?}");
    assert!(found[3].text().starts_with("the") && found[3].text().contains("cat"));
    // A blank line stays blank.
    let blank = Input {
        text: String::new(),
        ..input("a", &["dog"])
    };
    assert_eq!(translator.translate_inputs(&[blank], 0).unwrap()[0].text(), "");

    let refused = |input: Input| translator.translate_inputs(&[Input::default(), input], 6).unwrap_err();
    let error = refused(input("", &["Fuß"]));
    assert!(
        matches!(&error, DecodeError::UnknownText { line: 8, text } if text == "Fuß"),
        "{error}"
    );
    let error = refused(input(&LINES.join(" "), &[]));
    assert!(
        matches!(error, DecodeError::LongRequest { line: 8, limit: 12, .. }),
        "{error}"
    );
    let narrow = DecodeConfig {
        max_source_length: 5,
        ..config()
    };
    let narrow = self::translator(narrow, &tokenizers, &[]);
    let error = narrow.translate_inputs(&[input("", &["dog"])], 0).unwrap_err();
    assert!(matches!(error, DecodeError::PhrasesOfParts { line: 1 }), "{error}");
    // A prefix begins the first part.
    let parts = narrow.translate_inputs(&[input("a bird", &[])], 0).unwrap();
    assert!(parts[0].parts.len() > 1 && parts[0].text().starts_with("a bird"));
}

/// A forbidden text does not occur, neither at the beginning of a word nor within one.
#[test]
fn forbidden_texts() {
    let tokenizers = subwords();
    let free = translator(config(), &tokenizers, &[]).translate(&LINES, 0).unwrap();
    let tokenizer = &tokenizers.target;
    let piece = |token: &u32| tokenizer.piece(*token).unwrap();
    // Each piece that occurs, forbidden by its text.
    let mut found: Vec<&u32> = free.iter().flat_map(|found| &found.best[0].tokens).collect();
    found.sort_unstable();
    found.dedup();
    let is_plain = |text: &str| !text.is_empty() && !text.contains('<');
    let texts: Vec<&str> = found
        .iter()
        .map(|token| piece(token).trim_start_matches('\u{2581}'))
        .collect();
    let texts: Vec<&str> = texts.into_iter().filter(|text| is_plain(text)).take(5).collect();
    assert!(!texts.is_empty());
    for text in texts {
        let forbid = DecodeConfig {
            forbid: vec![text.into()],
            ..config()
        };
        let begun = tokenizer.encode(text).unwrap();
        for found in translator(forbid, &tokenizers, &[]).translate(&LINES, 0).unwrap() {
            let tokens = &found.best[0].tokens;
            assert!(
                !tokens.windows(begun.len()).any(|window| window == begun),
                "{text} in {}",
                found.text()
            );
            assert!(
                tokens.iter().all(|token| piece(token) != text),
                "{text} in {}",
                found.text()
            );
        }
    }
    let foreign = DecodeConfig {
        forbid: vec!["ß".into()],
        ..config()
    };
    let builder = Translator::builder(model(&tokenizers, &[]), tokenizers.clone()).config(foreign);
    let error = builder.build().unwrap_err();
    assert!(
        matches!(&error, DecodeError::UnknownForbidden(text) if text == "ß"),
        "{error}"
    );
}

/// A model that likes `<unk>` above all: it appears by its name, or not at all, or as the source word with most of the
/// attention.
#[test]
fn unknown_pieces() {
    let tokenizers = subwords();
    let of_kind = |unknown, beam| {
        let config = DecodeConfig {
            unknown,
            beam,
            ..config()
        };
        translator(config, &tokenizers, &[("<unk>", 8.0)])
    };
    let line = "the Fuß sees";
    for beam in [1, 3] {
        let allowed = of_kind(UnknownPieces::Allow, beam).translate(&[line], 0).unwrap();
        assert!(allowed[0].text().contains("<unk>"));
        let forbidden = of_kind(UnknownPieces::Forbid, beam).translate(&[line], 0).unwrap();
        assert!(!forbidden[0].text().contains("<unk>"));
        let copying = of_kind(UnknownPieces::Copy, beam);
        let copied = copying.translate(&[line], 0).unwrap();
        assert_eq!(copied[0].best[0].tokens, allowed[0].best[0].tokens);
        assert!(!copied[0].text().contains("<unk>"), "{}", copied[0].text());
        // Each is a copy of the word that its piece looks at.
        let alignment = copying.alignment(&copied[0].parts[0], &copied[0].best[0]);
        let first = alignment.target.iter().position(|piece| piece == "<unk>").unwrap();
        let weights = &alignment.weights[first][..alignment.source.len() - 1];
        let most = (0..weights.len())
            .max_by(|a, b| weights[*a].total_cmp(&weights[*b]))
            .unwrap();
        let begun = alignment.source[..=most]
            .iter()
            .filter(|piece| piece.starts_with('\u{2581}'))
            .count();
        let word = line.split(' ').nth(begun - 1).unwrap();
        let before = allowed[0].text().split("<unk>").next().unwrap();
        assert!(
            copied[0].text().starts_with(&format!("{before}{word}")),
            "{} {word}",
            copied[0].text()
        );
    }
}

/// Minimum-Bayes-risk decoding chooses among the samples that sampling draws with the same seed.
#[test]
fn minimum_bayes_risk() {
    let tokenizers = subwords();
    let sampling = DecodeConfig {
        sample: true,
        n_best: 16,
        ..config()
    };
    let samples = translator(sampling, &tokenizers, &[]).translate(&LINES, 5).unwrap();
    for mbr in [Utility::Chrf, Utility::Bleu] {
        let deciding = DecodeConfig {
            mbr,
            mbr_samples: 16,
            n_best: 2,
            ..config()
        };
        let found = translator(deciding, &tokenizers, &[]).translate(&LINES, 5).unwrap();
        for (found, samples) in found.iter().zip(&samples) {
            let texts: Vec<&str> = samples.candidates.iter().map(|one| one.text.as_str()).collect();
            let utility = |ours: &str| -> f64 {
                let score = |theirs: &&str| match mbr {
                    Utility::Chrf => tallow_score::Chrf::default().sentence(ours, &[theirs]).unwrap().score,
                    _ => {
                        let bleu = tallow_score::Bleu {
                            effective_order: true,
                            ..Default::default()
                        };
                        bleu.sentence(ours, &[theirs]).unwrap().score
                    }
                };
                texts.iter().map(score).sum::<f64>() / texts.len() as f64
            };
            let best = texts.iter().map(|text| utility(text)).fold(0.0, f64::max);
            let score = |hypothesis: &Hypothesis| hypothesis.score;
            assert!((score(&found.candidates[0].hypothesis) - best).abs() < 1e-9);
            assert!((utility(found.text()) - best).abs() < 1e-9);
            assert_eq!(found.candidates.len(), 2);
            assert!(score(&found.candidates[1].hypothesis) <= best);
        }
    }
}

/// Scores of pairs are those that the search gives its own translations; pairs that cannot be scored say why.
#[test]
fn scores_of_pairs() {
    let tokenizers = subwords();
    let translator = translator(config(), &tokenizers, &[("</s>", 3.0)]);
    let found = translator.translate(&LINES, 0).unwrap();
    let whole: Vec<usize> = (0..LINES.len()).filter(|i| found[*i].best[0].finished).collect();
    assert!(!whole.is_empty());
    let sources: Vec<&str> = whole.iter().map(|i| LINES[*i]).collect();
    let targets: Vec<&str> = whole.iter().map(|i| found[*i].text()).collect();
    let mut equal = 0;
    for ((scored, i), target) in translator
        .score_pairs(&sources, &targets)
        .unwrap()
        .iter()
        .zip(&whole)
        .zip(&targets)
    {
        let scored = scored.as_ref().unwrap();
        assert_eq!(scored.tokens, tokenizers.target.encode(target).unwrap());
        // The search may have cut the text into other pieces.
        if scored.tokens == found[*i].best[0].tokens {
            assert_eq!(scored, &found[*i].best[0]);
            equal += 1;
        }
    }
    assert!(equal > 0);
    let long = "a bird ".repeat(300);
    let scored = translator
        .score_pairs(&[" ", &long, LINES[0], LINES[0]], &["a", "a", &long, ""])
        .unwrap();
    let faults: Vec<Option<Unscored>> = scored.iter().map(|one| one.as_ref().err().copied()).collect();
    let expected = [Unscored::BlankSource, Unscored::LongSource, Unscored::LongTarget].map(Some);
    assert_eq!(faults, [&expected[..], &[None]].concat());
    assert_eq!(scored[3].as_ref().unwrap().token_log_probabilities.len(), 1);
    let error = translator.score_pairs(&LINES[..2], &LINES[..1]).unwrap_err();
    assert!(
        matches!(error, DecodeError::UnpairedLines { sources: 2, targets: 1 }),
        "{error}"
    );
}
