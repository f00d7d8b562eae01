//! The beginning of a project: parallel text is split into training, validation and test sets, and a config is written
//! whose values follow from the text.

mod config_text;
mod speed;
mod split;

use crate::advice::{Fitting, TextFacts, epochs_that_serve, target_tokens};
use crate::error::{WithContext, bail};
use crate::notice::{Listener, Notice};
use crate::{Config, Result};
use config_text::{Choices, config_text};
pub use split::Split;
use std::path::PathBuf;
use tallow_data::{CleanConfig, CorpusFiles};

/// What a project begins with.
#[derive(Clone, Debug)]
pub struct ProjectPlan {
    /// The parallel text.
    pub corpus: CorpusFiles,
    /// The folder of the project, which must not exist or be empty. Its last part is the name of the run.
    pub folder: PathBuf,
    /// The codes of source and target language. Default: the extensions of the files.
    pub languages: Option<[String; 2]>,
    /// The time that training may take on this machine, in seconds. Default: what the text needs.
    pub budget: Option<f64>,
    /// The seed of the choice of held-out pairs, and of the run.
    pub seed: u64,
}

/// A project that has begun.
#[derive(Clone, Debug)]
pub struct Project {
    /// The config.
    pub config: PathBuf,
    /// The split of the text.
    pub split: Split,
    /// The expected duration of training on this machine, in seconds.
    pub seconds: f64,
}

/// The share of a budget that updates may take; validations and the preparation of the text need time, too.
const OF_BUDGET: f64 = 0.85;

/// Splits the text of a project and writes its config.
///
/// # Errors
/// When the text cannot be read or is too little, the folder is in use or cannot be written, or the time is too short
/// for any training.
pub fn begin(plan: &ProjectPlan, listener: &dyn Listener) -> Result<Project> {
    let name = plan
        .folder
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    if name.is_empty() || name.starts_with('.') {
        bail!("{}: the last part of this folder names no run", plan.folder.display());
    }
    let is_used = plan.folder.read_dir().is_ok_and(|mut entries| entries.next().is_some());
    if is_used || plan.folder.is_file() {
        bail!(
            "{}: exists already and is not empty; choose another folder",
            plan.folder.display()
        );
    }
    let languages = languages(plan)?;
    let split = split::split(plan, &languages, listener)?;
    let facts = split.facts;
    let fittings = Fitting::for_text_and_smaller(&facts);
    let wanted = |fitting: &Fitting| fitting.updates(&facts, epochs_that_serve(&facts));
    let mut chosen = None;
    for (number, fitting) in fittings.iter().enumerate() {
        listener.notice(&Notice::Note(format!(
            "timing updates of a model of width {} with {}+{} layers",
            fitting.d_model, fitting.layers, fitting.layers
        )));
        let seconds = speed::seconds_per_update(fitting, &split.lengths, plan.seed)?;
        let Some(budget) = plan.budget else {
            chosen = Some((fitting, seconds, wanted(fitting)));
            break;
        };
        let possible = (OF_BUDGET * budget / seconds) as u64;
        let is_last = number + 1 == fittings.len();
        // A model that sees half of what serves it is better than a smaller one that sees all.
        if 2 * possible >= wanted(fitting) || is_last {
            chosen = Some((fitting, seconds, possible.min(2 * wanted(fitting))));
            break;
        }
    }
    let Some((fitting, seconds_per_update, updates)) = chosen else {
        bail!("no model fits this text");
    };
    if updates < LEAST_UPDATES {
        bail!(
            "in {} this machine does {updates} updates of the smallest model, and fewer than {LEAST_UPDATES} teach nothing; give it \
             more time",
            crate::humanize::duration(plan.budget.unwrap_or_default())
        );
    }
    let updates = rounded(updates);
    let seconds = updates as f64 * seconds_per_update;
    let choices = Choices {
        name: &name,
        languages: &languages,
        plan,
        split: &split,
        fitting,
        largest: &fittings[0],
        updates,
        seconds_per_update,
        epochs: updates as f64 * fitting.tokens_per_update() / target_tokens(&facts).max(1.0),
    };
    let config = plan.folder.join(format!("{name}.toml"));
    let text = config_text(&choices);
    std::fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
    // What was written must be usable.
    Config::compose::<&str>(&config, &[])?;
    Ok(Project { config, split, seconds })
}

/// Fewer updates are no training.
const LEAST_UPDATES: u64 = 100;

/// A number of updates with two digits.
fn rounded(updates: u64) -> u64 {
    let digits = 10u64.pow(updates.max(1).ilog10().saturating_sub(1));
    (updates / digits * digits).max(1)
}

/// The languages that are given, or the extensions of the files.
fn languages(plan: &ProjectPlan) -> Result<[Option<String>; 2]> {
    let found = match &plan.languages {
        Some(codes) => codes.clone().map(Some),
        None => {
            let mut config = Config::default();
            config.data.train = vec![plan.corpus.clone()];
            crate::card::languages(&config)
        }
    };
    let of_card = tallow_train::CardConfig {
        source_language: found[0].clone(),
        target_language: found[1].clone(),
        ..Default::default()
    };
    if let Some(fault) = of_card.validate().first() {
        bail!("{fault}");
    }
    if found[0].is_some() && found[0] == found[1] {
        bail!("source and target have the same language; give both codes");
    }
    Ok(found)
}

/// The rules of cleaning with these languages, as far as text of them can be told from other text.
fn rules(languages: &[Option<String>; 2]) -> CleanConfig {
    let code = |code: &Option<String>| {
        code.clone()
            .filter(|code| CleanConfig::knows_language(code))
            .unwrap_or_default()
    };
    CleanConfig {
        languages: Some(languages.each_ref().map(code)),
        ..CleanConfig::default()
    }
}

/// What is known of the text that the size of a model follows from.
impl Split {
    /// The facts about the training text.
    pub fn facts(&self) -> TextFacts {
        self.facts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_are_round() {
        for (updates, expected) in [
            (7, 7),
            (99, 99),
            (123, 120),
            (2999, 2900),
            (100_000, 100_000),
            (123_456, 120_000),
        ] {
            assert_eq!(rounded(updates), expected);
        }
    }
}
