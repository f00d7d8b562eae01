//! The languages that a config translates between.

use crate::config::Config;
use std::path::PathBuf;
use tallow_data::CleanConfig;

/// The languages of both sides: those of the config, or else the extensions of the files, if those have two letters
/// each.
pub(crate) fn languages_of(config: &Config) -> [Option<String>; 2] {
    let first = config.data.train.first();
    let extension = |path: Option<&PathBuf>| {
        let mut path = path?.clone();
        if path
            .extension()
            .is_some_and(|extension| extension == "gz" || extension == "zst")
        {
            path.set_extension("");
        }
        let code = path.extension()?.to_str()?.to_owned();
        (code.len() == 2 && code.chars().all(|c| c.is_ascii_lowercase())).then_some(code)
    };
    let source = extension(first.and_then(|files| files.source.as_ref()));
    let target = extension(first.and_then(|files| files.target.as_ref()));
    let (source, target) = if source == target {
        (None, None)
    } else {
        (source, target)
    };
    let card = &config.card;
    [
        card.source_language.clone().or(source),
        card.target_language.clone().or(target),
    ]
}

/// The rules of cleaning with the languages of a config, unless they name languages themselves. A code that cannot be
/// told from others is no reason to refuse text.
pub(crate) fn rules_with_languages(rules: CleanConfig, languages: [Option<String>; 2]) -> CleanConfig {
    let known = |code: Option<String>| {
        code.filter(|code| CleanConfig::knows_language(code))
            .unwrap_or_default()
    };
    CleanConfig {
        languages: Some(rules.languages.clone().unwrap_or_else(|| languages.map(known))),
        ..rules
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tallow_data::{CorpusFiles, DataConfig};

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
    fn languages_are_the_ends_of_names() {
        let of = |source: &str, target: &str| languages_of(&config(source, target)).map(Option::unwrap_or_default);
        assert_eq!(of("a/train.lc.en", "b.de.gz"), ["en", "de"]);
        assert_eq!(of("train.src", "train.tgt"), ["", ""]);
        assert_eq!(of("en/train.tx", "de/train.tx"), ["", ""]);
        let mut config = config("train.en", "train.de");
        config.card.target_language = Some("nds".into());
        assert_eq!(languages_of(&config).map(Option::unwrap_or_default), ["en", "nds"]);
    }
}
