//! Translation of text.

// Helpers outside `#[test]` functions unwrap too: a panic is how a test fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::small_translator;
use candle_core::{DType, Device};
use small_translator::{LINES, config, model, subwords, tokenizers};
use tallow_decode::{DecodeConfig, LongLines, Translation, Translator};
use tallow_model::{Architecture, InferenceCompute, Initialisation, ModelConfig, Params, Positions, Tie, Transformer};
use tallow_text::{Kind, TextConfig, Tokenizers};

fn translate<S: AsRef<str> + Sync>(config: &DecodeConfig, lines: &[S], workers: usize) -> Vec<Translation> {
    let tokenizers = subwords();
    let model = model(&tokenizers, &[]);
    let translator = Translator::builder(model.clone(), tokenizers.clone())
        .config(config.clone())
        .seed(4)
        .workers(workers)
        .build()
        .unwrap();
    translator.translate(lines, 0).unwrap()
}

fn texts(translations: &[Translation]) -> Vec<&str> {
    translations.iter().map(Translation::text).collect()
}

/// Lines are translated in batches, longest first. The translations are in the order of the lines, and each equals the
/// translation of its line alone.
#[test]
fn output_has_the_order_of_the_input() {
    let lines: Vec<&str> = LINES.iter().cycle().take(20).copied().collect();
    let config = DecodeConfig {
        batch_tokens: 100,
        ..config()
    };
    let together = translate(&config, &lines, 1);
    assert_eq!(together.len(), lines.len());
    let alone: Vec<String> = LINES
        .iter()
        .map(|line| translate(&config, &[line], 1)[0].text().to_string())
        .collect();
    for (i, translation) in together.iter().enumerate() {
        assert_eq!(translation.text(), alone[i % LINES.len()], "line {i}");
        let tokenizers = subwords();
        let mut source = tokenizers.source.encode(lines[i]).unwrap();
        source.push(tokenizers.source.eos_id());
        assert_eq!((&translation.parts[0].tokens, translation.cut_tokens), (&source, 0));
        assert_eq!(
            (translation.parts.len(), translation.source_tokens()),
            (1, source.len())
        );
    }
    let mut distinct = alone.clone();
    distinct.sort();
    distinct.dedup();
    assert!(distinct.len() > 3, "{alone:?}: the test shows nothing");
}

/// One, two and three workers, and batches of any size, give the same text, by beam search and by sampling. Samples
/// depend on the line number, so a file may be translated in pieces.
#[test]
fn workers_and_batches_change_nothing() {
    let lines: Vec<&str> = LINES.iter().cycle().take(31).copied().collect();
    let sampled = DecodeConfig {
        sample: true,
        n_best: 2,
        ..config()
    };
    for config in [config(), sampled] {
        let expected = translate(&config, &lines, 1);
        for (workers, batch_tokens) in [(2, 2048), (3, 2048), (1, 1), (2, 60), (3, 150), (64, 100)] {
            let config = DecodeConfig {
                batch_tokens,
                ..config.clone()
            };
            let found = translate(&config, &lines, workers);
            let all = |translations: &[Translation]| -> Vec<String> {
                let candidates = translations.iter().flat_map(|t| &t.candidates);
                candidates.map(|candidate| candidate.text.clone()).collect()
            };
            assert_eq!(all(&found), all(&expected), "{workers} workers, {batch_tokens} tokens");
        }
        let tokenizers = subwords();
        let model = model(&tokenizers, &[]);
        let translator = Translator::builder(model.clone(), tokenizers.clone())
            .config(config.clone())
            .seed(4)
            .build()
            .unwrap();
        let mut pieces = translator.translate(&lines[..13], 0).unwrap();
        pieces.extend(translator.translate(&lines[13..], 13).unwrap());
        assert_eq!(texts(&pieces), texts(&expected));
    }
}

/// An empty line becomes an empty line, in any place and with any neighbours. A line of spaces, tabs or unknown
/// characters becomes one line like any other; no lines become no lines.
#[test]
fn lines_without_words() {
    let lines = ["", "the cat", "", "   ", "\t", "\u{4e00}\u{1f600}", "", "a dog", ""];
    let found = translate(&config(), &lines, 2);
    assert_eq!(found.len(), lines.len());
    for (line, translation) in lines.iter().zip(&found) {
        assert!(!translation.candidates.is_empty(), "{line:?}");
        assert!(!translation.text().contains(['\n', '\r']), "{line:?}");
        if line.is_empty() {
            assert_eq!((translation.text(), translation.parts.len()), ("", 0));
        }
    }
    let expected = translate(&config(), &["the cat", "a dog"], 1);
    assert_eq!(
        [found[1].text(), found[7].text()],
        [expected[0].text(), expected[1].text()]
    );
    assert!(translate::<&str>(&config(), &[], 2).is_empty());
    assert_eq!(texts(&translate(&config(), &["", ""], 3)), ["", ""]);
}

/// A line of a hundred thousand characters is cut to `max_source_length` tokens, reports the number of lost tokens, and
/// does not change the translations of its neighbours.
#[test]
fn an_endless_line_is_cut() {
    let line = "the dog sings and ".repeat(100_000 / 18 + 1);
    assert!(line.len() >= 100_000);
    let tokens = subwords().source.encode(&line).unwrap();
    let config = DecodeConfig {
        max_source_length: 64,
        long_lines: LongLines::Truncate,
        ..config()
    };
    let found = translate(&config, &["birds sing", &line, "a dog"], 2);
    let (cut, source) = (found[1].cut_tokens, &found[1].parts[0].tokens);
    assert_eq!((cut, source.len()), (tokens.len() - 63, 64));
    assert_eq!((&source[..63], source[63]), (&tokens[..63], 0));
    let expected = translate(&config, &["birds sing", "a dog"], 1);
    assert_eq!(
        [found[0].text(), found[2].text()],
        [expected[0].text(), expected[1].text()]
    );
    assert_eq!((found[0].cut_tokens, found[2].cut_tokens), (0, 0));
}

/// A line that is split is translated sentence by sentence, whatever its neighbours are; its scores cover all tokens.
#[test]
fn a_long_line_is_translated_sentence_by_sentence() {
    let sentences = ["The dog sings.", "A cat sings!", "the birds and the dogs sing."];
    let line = sentences.join("  ");
    let longest = sentences
        .iter()
        .map(|text| subwords().source.encode(text).unwrap().len() + 1)
        .max()
        .unwrap();
    for (beam, n_best) in [(1, 1), (3, 2)] {
        let config = DecodeConfig {
            max_source_length: longest,
            beam,
            n_best,
            ..config()
        };
        let alone = translate(&config, &sentences, 1);
        for workers in [1, 2] {
            let found = translate(&config, &["a dog", &line, "birds"], workers).remove(1);
            assert_eq!((found.parts.len(), found.cut_tokens), (3, 0));
            for (rank, candidate) in found.candidates.iter().enumerate() {
                let of_rank: Vec<_> = alone.iter().map(|one| &one.candidates[rank]).collect();
                let texts: Vec<&str> = of_rank.iter().map(|one| one.text.as_str()).collect();
                assert_eq!(candidate.text, texts.join(" "));
                let sum: f64 = of_rank.iter().map(|one| one.hypothesis.log_probability).sum();
                let count: usize = of_rank
                    .iter()
                    .map(|one| one.hypothesis.token_log_probabilities.len())
                    .sum();
                assert!((candidate.hypothesis.log_probability - sum).abs() < 1e-9);
                assert!((candidate.hypothesis.score - config.score(sum, count)).abs() < 1e-9);
            }
            assert_eq!(found.candidates.len(), n_best);
            for (best, one) in found.best.iter().zip(&alone) {
                assert_eq!(*best, one.candidates[0].hypothesis);
            }
        }
    }
}

/// With `distinct`, candidates with the same text but different pieces count as one, the best of them. Other candidates
/// take the free places, and the first one stays the same.
#[test]
fn distinct_texts() {
    let tokenizers = tokenizers(Kind::Char, 400, true);
    // Two ways to spell one letter.
    let spellings = [("a", 9.0), ("<0x61>", 9.0), ("b", 8.5), ("</s>", 8.5)];
    let model = model(&tokenizers, &spellings);
    let translate = |config: &DecodeConfig, lines: &[&str]| -> Vec<Vec<String>> {
        let translator = Translator::builder(model.clone(), tokenizers.clone())
            .config(config.clone())
            .seed(4)
            .build()
            .unwrap();
        let translations = translator.translate(lines, 0).unwrap();
        let texts = |translation: Translation| translation.candidates.into_iter().map(|one| one.text).collect();
        translations.into_iter().map(texts).collect()
    };
    let repeats = |texts: &[String]| (1..texts.len()).any(|i| texts[..i].contains(&texts[i]));
    let long = LINES.join(". ");
    let lines: Vec<&str> = LINES.into_iter().chain([long.as_str()]).collect();
    for (early_stopping, sample) in [(false, false), (true, false), (false, true)] {
        let config = DecodeConfig {
            beam: 6,
            n_best: 4,
            early_stopping,
            sample,
            max_length: 6,
            max_source_length: 30,
            ..config()
        };
        let before = translate(&config, &lines);
        assert!(
            before.iter().any(|texts| repeats(texts)),
            "{before:?}: the test shows nothing"
        );
        let distinct = DecodeConfig {
            distinct: true,
            ..config.clone()
        };
        let after = translate(&distinct, &lines);
        for (before, after) in before.iter().zip(&after) {
            assert!(!repeats(after), "{after:?}");
            assert_eq!(before[0], after[0]);
            assert!(sample || after.len() == 4, "{before:?} {after:?}");
        }
        let single = DecodeConfig { n_best: 1, ..distinct };
        let usual = DecodeConfig { n_best: 1, ..config };
        assert_eq!(translate(&single, &lines), translate(&usual, &lines));
    }
}

/// Lengths that exceed the learned positions of a model are rejected before the translation starts.
#[test]
fn learned_positions() {
    let tokenizers = subwords();
    let usual = model(&tokenizers, &[]);
    let architecture = Architecture {
        model: ModelConfig {
            positions: Positions::Learned,
            max_positions: 10,
            ..usual.architecture().model.clone()
        },
        ..usual.architecture().clone()
    };
    let params = Params::initialise(&architecture, Initialisation::Xavier, 3, DType::F32, &Device::Cpu).unwrap();
    let model = Transformer::for_inference(&architecture, &params, None)
        .unwrap()
        .prepare(InferenceCompute::F32)
        .unwrap();
    let wide = config();
    let error = Translator::builder(model.clone(), tokenizers.clone())
        .config(wide.clone())
        .seed(0)
        .build()
        .unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("decode.max_length: 12") && error.contains("10 positions"),
        "{error}"
    );
    assert!(error.contains("decode.max_source_length: 512"), "{error}");
    // Lengths within the table work, also the attention of a translation that was cut at the end of the table.
    let fitting = DecodeConfig { min_length: 12, ..wide }.within(Some(10));
    assert_eq!(
        (fitting.max_length, fitting.min_length, fitting.max_source_length),
        (10, 10, 10)
    );
    let translator = Translator::builder(model.clone(), tokenizers.clone())
        .config(fitting.clone())
        .attention(true)
        .build()
        .unwrap();
    let translation = translator.translate(&[LINES.join(" ")], 0).unwrap().remove(0);
    assert!(translation.parts.len() > 1);
    for (part, best) in translation.parts.iter().zip(&translation.best) {
        let alignment = translator.alignment(part, best);
        assert_eq!((alignment.target.len(), alignment.weights.len()), (10, 10));
        let is_ended = alignment.target.last().is_some_and(|piece| piece == "</s>");
        assert_eq!(is_ended, best.finished);
    }
}

/// If a model spells line breaks byte by byte, each line still gives one line: breaks become spaces.
#[test]
fn line_breaks_are_never_written() {
    let tokenizers = tokenizers(Kind::Char, 400, true);
    let model = model(&tokenizers, &[("<0x0A>", 9.0), ("<0x0D>", 9.0), ("a", 9.0)]);
    let config = DecodeConfig {
        sample: true,
        n_best: 5,
        max_length: 40,
        ..DecodeConfig::default()
    };
    let translator = Translator::builder(model.clone(), tokenizers.clone())
        .config(config.clone())
        .seed(1)
        .build()
        .unwrap();
    let mut spelled = 0;
    for translation in translator.translate(&LINES, 0).unwrap() {
        for candidate in translation.candidates {
            assert!(!candidate.text.contains(['\n', '\r']), "{:?}", candidate.text);
            let raw = tokenizers.target.decode(&candidate.hypothesis.tokens).unwrap();
            spelled += usize::from(raw.contains(['\n', '\r']));
        }
    }
    assert!(spelled > 10, "{spelled}: the test shows nothing");
}

/// A tokenizer whose size differs from the model's vocabulary is rejected, and so are invalid settings.
#[test]
fn parts_that_do_not_belong_together() {
    let (small, large) = (subwords(), tokenizers(Kind::Word, 100, false));
    let model = model(&small, &[]);
    let error = Translator::builder(model.clone(), large.clone())
        .config(config().clone())
        .seed(0)
        .build()
        .unwrap_err()
        .to_string();
    let (of_tokenizer, of_model) = (large.source.vocabulary_size(), small.source.vocabulary_size());
    assert_ne!(of_tokenizer, of_model);
    for part in [of_tokenizer.to_string(), of_model.to_string(), "source".into()] {
        assert!(error.contains(&part), "{error}");
    }
    let wrong = DecodeConfig {
        temperature: -1.0,
        ..config()
    };
    let error = Translator::builder(model.clone(), small.clone())
        .config(wrong.clone())
        .seed(0)
        .build()
        .unwrap_err()
        .to_string();
    assert!(error.contains("decode.temperature"), "{error}");
}

/// With separate vocabularies, each side has its own tokenizer.
#[test]
fn separate_vocabularies() {
    let text = TextConfig {
        kind: Kind::Bpe,
        vocabulary: 60,
        shared: false,
        byte_fallback: false,
        ..TextConfig::default()
    };
    let upper: Vec<String> = LINES.iter().map(|line| line.to_uppercase()).collect();
    let tokenizers = Tokenizers::learn(&text, LINES, &upper, 1).unwrap();
    let architecture = Architecture {
        model: ModelConfig {
            tie: Tie::Output,
            ..model(&subwords(), &[]).architecture().model.clone()
        },
        source_vocabulary: tokenizers.source.vocabulary_size(),
        target_vocabulary: tokenizers.target.vocabulary_size(),
        shared_vocabulary: false,
        eos_id: tokenizers.target.eos_id(),
        unk_id: tokenizers.target.unk_id(),
    };
    let params = Params::initialise(&architecture, Initialisation::Xavier, 1, DType::F32, &Device::Cpu).unwrap();
    let model = Transformer::for_inference(&architecture, &params, None)
        .unwrap()
        .prepare(InferenceCompute::F32)
        .unwrap();
    let config = config();
    let translator = Translator::builder(model.clone(), tokenizers.clone())
        .config(config.clone())
        .seed(0)
        .build()
        .unwrap();
    for translation in translator.translate(&LINES, 0).unwrap() {
        assert!(
            !translation.text().contains(char::is_lowercase),
            "{}",
            translation.text()
        );
    }
}

/// An alignment has one row of weights for each target piece and one column for each source piece, `</s>` included; the
/// sum of a row is one.
#[test]
fn alignments() {
    let tokenizers = subwords();
    let model = model(&tokenizers, &[]);
    let config = config();
    let translator = Translator::builder(model.clone(), tokenizers.clone())
        .config(config.clone())
        .attention(true)
        .build()
        .unwrap();
    let translation = translator.translate(&LINES[..1], 0).unwrap().remove(0);
    let (part, best) = (&translation.parts[0], &translation.best[0]);
    let alignment = translator.alignment(part, best);
    assert_eq!(alignment.source.len(), part.tokens.len());
    assert_eq!(alignment.source.last().map(String::as_str), Some("</s>"));
    let length = best.tokens.len() + usize::from(best.finished);
    assert_eq!((alignment.target.len(), alignment.weights.len()), (length, length));
    let pairs = translator.word_pairs(&translation).unwrap();
    let words = translation.text().split_whitespace().count();
    assert!(!pairs.is_empty() && pairs.iter().all(|(source, target)| *source < 5 && *target < words));
    for row in &alignment.weights {
        assert_eq!(row.len(), alignment.source.len());
        assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5);
    }
}
