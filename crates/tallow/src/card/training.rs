//! The training part of a card: the config, without the places of files on somebody's machine.

use super::without_place;
use crate::Result;
use crate::config::Config;
use crate::run_record::RunRecord;
use std::path::PathBuf;
use tallow_data::{CleanConfig, CorpusFiles, DataConfig, EvaluationSets};
use tallow_score::{ScoreConfig, SentencePieceFile};
use tallow_text::TextConfig;
use tallow_train::{CardConfig, TrainConfig};

/// The training part of a card: the config, without the places of files and without the section `[card]`, which the
/// card shows already.
pub(super) fn training(config: &Config, record: &RunRecord) -> Result<String> {
    let name = |path: &PathBuf| PathBuf::from(path.file_name().unwrap_or_default());
    let corpus = |corpus: &CorpusFiles| CorpusFiles {
        source: corpus.source.as_ref().map(name),
        target: corpus.target.as_ref().map(name),
        tsv: corpus.tsv.as_ref().map(name),
        tmx: corpus.tmx.as_ref().map(name),
        po: corpus.po.as_ref().map(name),
        alignments: corpus.alignments.as_ref().map(name),
        ..corpus.clone()
    };
    let sets = |sets: &EvaluationSets| EvaluationSets::from(sets.iter().map(corpus).collect::<Vec<_>>());
    let config = Config {
        output: None,
        init: config
            .init
            .as_deref()
            .map(|model| without_place(model, record.init.as_ref().and_then(|init| init.commit.as_deref()))),
        text: TextConfig {
            path: config.text.path.as_ref().map(name),
            ..config.text.clone()
        },
        data: DataConfig {
            train: config.data.train.iter().map(corpus).collect(),
            valid: sets(&config.data.valid),
            test: sets(&config.data.test),
            prepared: None,
            clean: config.data.clean.clone().map(|rules| CleanConfig {
                model: rules.model.as_ref().map(name),
                ..rules
            }),
            ..config.data.clone()
        },
        score: ScoreConfig {
            sentencepiece: config.score.sentencepiece.as_ref().map(|file| {
                let path = file.path().file_name().unwrap_or_default();
                SentencePieceFile::new(path)
            }),
            ..config.score.clone()
        },
        train: TrainConfig {
            valid_command: config.train.valid_command.iter().map(|word| last_part(word)).collect(),
            ..config.train.clone()
        },
        card: CardConfig::default(),
        ..config.clone()
    };
    let config = config.to_toml()?;
    let mut fence = "```".to_string();
    while config.contains(&fence) {
        fence.push('`');
    }
    Ok(format!(
        "\n## Training\n\n`tallow train` with this config, of which defaults are a part, beside files of these names:\n\n{fence}toml\n\
         {config}{fence}\n"
    ))
}

/// What follows the last `/` of a word: the name of a file without its folder.
fn last_part(word: &str) -> String {
    word.rsplit('/').next().unwrap_or(word).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(source: &str, target: &str) -> Config {
        Config {
            name: "run".into(),
            data: DataConfig {
                train: vec![CorpusFiles::two_files(source, target)],
                ..DataConfig::default()
            },
            ..Config::default()
        }
    }

    #[test]
    fn the_config_of_a_card_tells_no_places() {
        let mut config = config("/home/me/train.en", "/home/me/train.de");
        config.output = Some("/home/me/out".into());
        config.init = Some("/home/me/models/begun".into());
        config.data.test = CorpusFiles::tsv("../secret/test.tsv").into();
        config.text.path = Some("/home/me/vocabulary".into());
        config.score.sentencepiece = Some(SentencePieceFile::new("/home/me/flores.model"));
        config.data.clean = Some(CleanConfig {
            model: Some("/home/me/runs/judge".into()),
            ..CleanConfig::default()
        });
        config.train.valid_command = vec!["python3".into(), "/home/me/comet.py".into()];
        config.card.notes = Some("```\nnot the end\n```".into());
        let text = training(&config, &RunRecord::default()).unwrap();
        for place in ["home", "secret", "not the end"] {
            assert!(!text.contains(place), "{text}");
        }
        for name in [
            "\"train.en\"",
            "\"test.tsv\"",
            "\"begun\"",
            "\"vocabulary\"",
            "\"flores.model\"",
            "\"judge\"",
            "\"comet.py\"",
        ] {
            assert!(text.contains(name), "{name}\n{text}");
        }
        // The fence must be longer than any fence inside it.
        config.init = Some("a/```b".into());
        let text = training(&config, &RunRecord::default()).unwrap();
        assert!(text.contains("\n````toml\n") && text.ends_with("\n````\n"), "{text}");
    }
}
