//! The beginning of a project: parallel text is split into training, validation and test sets, and a config is written
//! whose values follow from the text.

mod config_text;
mod speed;
mod split;

use crate::advice::{Fitting, epochs_that_serve, target_tokens};
use crate::error::{WithContext, bail};
use crate::languages::languages_of;
use crate::notice::{Listener, Notice};
use crate::{Config, Result};
use config_text::{Choices, config_text};
pub use split::Split;
use std::path::{Path, PathBuf};
use tallow_data::CorpusFiles;

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

/// Splits the text of a project and writes its config. The folder is there only if all of it could be written.
///
/// # Errors
/// When the text cannot be read or is too little, the folder is in use or cannot be written, or the time is too short
/// for any training.
pub fn begin(plan: &ProjectPlan, listener: &dyn Listener) -> Result<Project> {
    let name = name_of_run(plan)?;
    must_be_read_twice(&plan.corpus)?;
    let languages = languages(plan)?;
    let mut aside = plan.folder.as_os_str().to_owned();
    aside.push(".partial");
    let aside = PathBuf::from(aside);
    if aside.exists() {
        // An earlier beginning was killed.
        std::fs::remove_dir_all(&aside).with_context(|| format!("cannot remove {}", aside.display()))?;
    }
    std::fs::create_dir_all(&aside).with_context(|| format!("cannot make {}", aside.display()))?;
    let begun = begin_in(plan, &aside, (&name, &languages), listener).and_then(|project| {
        if plan.folder.exists() {
            std::fs::remove_dir(&plan.folder).with_context(|| format!("cannot replace {}", plan.folder.display()))?;
        }
        std::fs::rename(&aside, &plan.folder).with_context(|| format!("cannot make {}", plan.folder.display()))?;
        Ok(project)
    });
    if begun.is_err() {
        // The first error matters more.
        let _ = std::fs::remove_dir_all(&aside);
    }
    begun
}

/// The name of the run, which is the last part of the folder.
fn name_of_run(plan: &ProjectPlan) -> Result<String> {
    let shown = plan.folder.display();
    let Some(folder) = plan.folder.to_str() else {
        bail!("{shown}: this name is not UTF-8, so no config can have it");
    };
    let name = plan
        .folder
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let is_odd = folder.contains(char::is_control) || name.contains(['\\', '"']);
    if name.is_empty() || name.starts_with('.') || is_odd {
        bail!("{shown}: the last part of this folder cannot be the name of a run");
    }
    let is_used = plan.folder.read_dir().is_ok_and(|mut entries| entries.next().is_some());
    if is_used || plan.folder.is_file() {
        bail!("{shown}: exists already and is not empty; choose another folder");
    }
    Ok(name)
}

/// A pipe can be read only once.
fn must_be_read_twice(corpus: &CorpusFiles) -> Result<()> {
    let paths = [&corpus.source, &corpus.target, &corpus.tsv, &corpus.tmx, &corpus.po];
    for path in paths.into_iter().flatten() {
        let is_pipe = path.as_os_str() == "-" || std::fs::metadata(path).is_ok_and(|data| !data.is_file());
        if is_pipe {
            bail!("{}: the text is read twice, so it must be in files", path.display());
        }
    }
    Ok(())
}

fn begin_in(
    plan: &ProjectPlan,
    aside: &Path,
    (name, languages): (&str, &[Option<String>; 2]),
    listener: &dyn Listener,
) -> Result<Project> {
    let split = split::split(plan, aside, languages, listener)?;
    let facts = split.facts;
    let fittings = Fitting::for_text_and_smaller(&facts);
    let wanted = |fitting: &Fitting| fitting.updates(&facts, epochs_that_serve(&facts));
    let mut chosen = None;
    for (number, fitting) in fittings.iter().enumerate() {
        listener.notice(&Notice::Note(format!(
            "timing updates of a model of width {} with {}+{} layers",
            fitting.d_model, fitting.layers, fitting.layers
        )));
        let seconds = speed::seconds_per_update(fitting, &split, plan.seed)?;
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
        name,
        languages,
        plan,
        split: &split,
        fitting,
        largest: &fittings[0],
        updates,
        seconds_per_update,
        epochs: updates as f64 * fitting.tokens_per_update().min(target_tokens(&facts))
            / target_tokens(&facts).max(1.0),
    };
    let file = format!("{name}.toml");
    let config = aside.join(&file);
    let text = config_text(&choices);
    std::fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
    // What was written must be usable.
    Config::compose::<&str>(&config, &[])?;
    Ok(Project {
        config: plan.folder.join(file),
        split,
        seconds,
    })
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
    if plan.corpus.tmx.is_some() && plan.languages.is_none() {
        bail!("a translation memory needs the codes of source and target language, such as en and de");
    }
    let found = match &plan.languages {
        Some(codes) => codes.clone().map(Some),
        None => {
            let mut config = Config::default();
            config.data.train = vec![plan.corpus.clone()];
            languages_of(&config)
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
