//! The config of a new project, with a reason beside each value.

use super::split::writes_spaces;
use super::{ProjectPlan, Split};
use crate::advice::Fitting;
use crate::humanize::{duration, thousands};
use std::fmt::Write;
use std::path::Path;
use tallow_data::CorpusFiles;
use tallow_train::ComputeKind;

/// The number format of new configs.
pub(super) const COMPUTE: ComputeKind = ComputeKind::Bf16;

/// Shares of pairs from which a setting is on.
const UNCLEAN: f64 = 0.005;
const REPEATED: f64 = 0.01;

/// What a config is written from.
pub(super) struct Choices<'a> {
    pub(super) name: &'a str,
    pub(super) languages: &'a [Option<String>; 2],
    pub(super) plan: &'a ProjectPlan,
    pub(super) split: &'a Split,
    pub(super) fitting: &'a Fitting,
    /// The fitting for the text without a limit of time.
    pub(super) largest: &'a Fitting,
    pub(super) updates: u64,
    pub(super) seconds_per_update: f64,
    pub(super) epochs: f64,
}

/// Lines of TOML, each with its reason in a column of its own.
struct Document(String);

impl Document {
    fn section(&mut self, name: &str) {
        self.0.push_str(&format!("\n[{name}]\n"));
    }

    /// A value, and the reason for it.
    fn set(&mut self, key: &str, value: impl std::fmt::Display, reason: &str) {
        let line = format!("{key} = {value}");
        // Writing to a string cannot fail.
        let _ = match reason {
            "" => writeln!(self.0, "{line}"),
            reason => writeln!(self.0, "{line:<36} # {reason}"),
        };
    }

    fn comment(&mut self, text: &str) {
        self.0.push_str(&format!("# {text}\n"));
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn path(path: Option<&Path>) -> String {
    quoted(&path.map_or(String::new(), |path| path.to_string_lossy().into_owned()))
}

fn entry(files: &CorpusFiles) -> String {
    format!(
        "{{ source = {}, target = {} }}",
        path(files.source.as_deref()),
        path(files.target.as_deref())
    )
}

/// The text of the config.
pub(super) fn config_text(choices: &Choices<'_>) -> String {
    let Choices {
        split,
        fitting,
        updates,
        ..
    } = choices;
    let mut to = Document(String::new());
    let [train, valid, test] = split.pairs.map(|pairs| thousands(pairs as f64));
    let tokens = thousands(crate::advice::target_tokens(&split.facts));
    to.comment(&format!(
        "{train} training pairs with some {tokens} target tokens; {valid} pairs to validate on and {test} to test on, whose"
    ));
    to.comment("sources and targets occur nowhere else. Train, and continue after a stop, with");
    to.comment(&format!(
        "  tallow train {}",
        choices.plan.folder.join(format!("{}.toml", choices.name)).display()
    ));
    to.0.push('\n');
    to.set("name", quoted(choices.name), "");
    to.set("seed", choices.plan.seed, "");

    to.section("text");
    to.set(
        "vocabulary",
        fitting.vocabulary,
        &format!("usual for {tokens} target tokens; byte pieces spell every other character"),
    );
    data(&mut to, choices);

    to.section("model");
    let size = |fitting: &Fitting| (fitting.d_model, fitting.layers);
    let why = match size(fitting) == size(choices.largest) {
        true => "as large as so much text serves".to_owned(),
        false => format!(
            "the text would serve {} and {}+{} layers, for which the time is too short",
            choices.largest.d_model, choices.largest.layers, choices.largest.layers
        ),
    };
    to.set("d_model", fitting.d_model, &why);
    to.set("feed_forward", fitting.feed_forward, "");
    to.set("encoder_layers", fitting.layers, "");
    to.set("decoder_layers", fitting.layers, "");
    to.set("heads", fitting.heads, "");
    let why = match fitting.dropout > 0.15 {
        true => "little text is learned by heart without",
        false => "the usual value for so much text",
    };
    to.set("dropout", fitting.dropout, why);

    to.section("train");
    to.set(
        "max_updates",
        updates,
        &format!(
            "{:.0} passes over the text, {} on this machine ({:.2} s an update)",
            choices.epochs,
            duration(*updates as f64 * choices.seconds_per_update),
            choices.seconds_per_update
        ),
    );
    to.set(
        "compute",
        quoted(COMPUTE.name()),
        "where the processor has a unit for it; f32 elsewhere",
    );
    let every = (updates / 20).max(1);
    to.set("validate_every", every, "twenty validations; the best model is kept");
    to.set("checkpoint_every", every, "what a crash can lose");
    to.set("patience", 6, "ends when six validations in a row were no better");
    to.comment("The learning rate, its warmup and its fall to zero are defaults that fit the width; `tallow explain` shows all values.");

    scores(&mut to, choices);
    to.section("card");
    for (key, language) in ["source_language", "target_language"].iter().zip(choices.languages) {
        if let Some(language) = language {
            to.set(key, quoted(language), "");
        }
    }
    to.0
}

fn data(to: &mut Document, choices: &Choices<'_>) {
    let split = choices.split;
    let all = split.pairs.iter().sum::<u64>() + split.overlapping;
    let share = |part: u64| part as f64 / all.max(1) as f64;
    let percent = |part: u64| format!("{:.1} %", 100.0 * share(part));
    to.section("data");
    let [train, valid, test] = split.files.each_ref().map(entry);
    to.set("train", format!("[{train}]"), "");
    to.set("valid", valid, "");
    to.set("test", test, "");
    let why = match choices.fitting.batch_tokens < 4096 {
        true => "tokens of an update; few, so that a pass over little text has enough updates",
        false => "tokens of an update",
    };
    to.set("batch_tokens", choices.fitting.batch_tokens, why);
    let repeated = split.repeated as f64 / split.looked_at.max(1) as f64;
    if repeated >= REPEATED {
        let why = format!("{:.1} % of the pairs occur again", 100.0 * repeated);
        to.set("drop_duplicates", true, &why);
    }
    let unclean: u64 = split.unclean.values().sum();
    if share(unclean) >= UNCLEAN {
        let mut rules: Vec<_> = split.unclean.iter().collect();
        rules.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let told = rules
            .iter()
            .take(3)
            .map(|(rule, count)| format!("{} {rule}", thousands(**count as f64)));
        to.comment("Pairs that are probably no translations, for example");
        told.for_each(|line| to.comment(&format!("  {line}")));
        to.comment("`tallow clean` shows them; {} drops them with the usual rules.");
        let why = format!("{} of the pairs, and those that are nearly repeated", percent(unclean));
        to.set("clean", "{}", &why);
    }
    to.comment(
        "Some pairs are changed in every epoch, so that the model takes capitals, typing errors, addresses and emoji.",
    );
    to.set("augment", "{}", "on clean text it costs a little: docs/data.md");
}

fn scores(to: &mut Document, choices: &Choices<'_>) {
    let target = choices.languages[1].as_deref().unwrap_or_default();
    let tokenize = match target.split(['-', '_']).next().unwrap_or_default() {
        "zh" => Some(("zh", "Chinese, as in sacreBLEU")),
        _ if !target.is_empty() && !writes_spaces(target) => Some(("char", "text without spaces between words")),
        _ => None,
    };
    if let Some((tokenize, why)) = tokenize {
        to.section("score");
        to.set("tokenize", quoted(tokenize), why);
    }
}
