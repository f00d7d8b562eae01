//! The text of a model card about a run.

mod scores;
mod training;

use crate::Result;
use crate::config::Config;
use crate::hub::Reference;
use crate::humanize::thousands;
use crate::languages::languages_of;
use crate::run_record::{DataRecord, InitRecord, PairCounts, RunRecord};
pub use scores::add_scores;
use serde_json::Value;
use std::fmt::Write;
use std::path::Path;
use tallow_model::{Architecture, NPZ_FILE, Norm, Params, marian_mt_faults, npz_faults};
use tallow_text::Tokenizers;
use tallow_train::ModelCard;

/// The marks around the part of a card that explains how to use the model in its present form.
const USE: [&str; 2] = ["<!-- use -->", "<!-- end of use -->"];

/// The card of the models of a run. `record` is the run's `run.json`; it names the files of the run.
///
/// # Errors
/// When the config cannot be written as TOML.
pub fn of_run(
    config: &Config,
    record: &RunRecord,
    architecture: &Architecture,
    params: &Params,
    tokenizers: &Tokenizers,
) -> Result<ModelCard> {
    let languages = languages_of(config);
    let title = config.card.title.as_ref().unwrap_or(&config.name);
    let mut marian = marian_mt_faults(architecture);
    marian.extend(tokenizers.why_not_marian_tokenizer().map(|error| error.to_string()));

    let mut head = String::new();
    // The Hub's `language` takes codes of ISO 639 only; longer codes have a key of their own.
    let codes: Vec<&str> = languages.iter().flatten().map(String::as_str).collect();
    let iso: Vec<&str> = codes.iter().filter_map(|code| code.split('-').next()).collect();
    list(&mut head, "language", iso.clone())?;
    if codes != iso {
        list(&mut head, "language_bcp47", codes)?;
    }
    if let Some(license) = &config.card.license {
        writeln!(head, "license: {}", quoted(license))?;
    }
    if let Some(model) = begun_with(record).and_then(|begun| begun.on_the_hub) {
        writeln!(head, "base_model: {}", quoted(&model))?;
    }
    head += "pipeline_tag: translation\n";
    if marian.is_empty() {
        head += "library_name: transformers\n";
    }
    head += "tags:\n- translation\n- tallow\n";
    if marian.is_empty() {
        head += "- marian\n";
    }

    let from_to = match &languages {
        [Some(source), Some(target)] => format!(" from `{source}` to `{target}`"),
        _ => String::new(),
    };
    let before = format!(
        "# {title}\n\nA Transformer that translates{from_to}, trained with Tallow {}. {}\n",
        env!("CARGO_PKG_VERSION"),
        shape(config, architecture, params)
    );
    let mut after = String::new();
    if let Some(notes) = &config.card.notes {
        write!(after, "\n{}\n", notes.trim())?;
    }
    after += &format!(
        "\n{}\n{}\n{}\n",
        USE[0],
        usage(config, architecture, &marian).trim(),
        USE[1]
    );
    after += &data(record)?;
    after += &training::training(config, record)?;
    after += &licence(config, record);
    Ok(ModelCard::new(&head, &before, &after))
}

/// The card of an exported model: the model's own card if it has one that is text, else a new one. `commit` is the
/// commit on the Hub, if the model came from there.
pub fn exported(model: &str, commit: Option<&str>, card: Option<String>) -> String {
    card.unwrap_or_else(|| {
        format!(
            "---\ntags:\n- translation\n---\n\n# A translation model\n\nExported by Tallow from `{}`, whose card and licence hold.\n",
            without_place(model, commit)
        )
    })
}

/// The card of a model in Marian's form. The usage part of the model's own card no longer applies, so it is left out.
pub fn exported_for_marian(model: &str, commit: Option<&str>, card: Option<String>) -> String {
    let use_it = format!(
        "This directory holds the model in Marian's form, for CTranslate2:\n\n    ct2-marian-converter --model_path \
         {NPZ_FILE} --vocab_paths source.yml target.yml --output_dir ct2"
    );
    used_otherwise(&use_it, exported(model, commit, card))
}

/// The card of a model whose weights are 8-bit integers.
pub fn exported_in_int8(model: &str, commit: Option<&str>, card: Option<String>) -> String {
    let use_it = "This directory holds the model with weights in 8-bit integers, for Tallow:\n\n    tallow translate \
                  DIRECTORY < lines\n\nScores below are those of the model before its weights were rounded.";
    used_otherwise(use_it, exported(model, commit, card))
}

/// A card without its part about usage, and with another one before it.
fn used_otherwise(use_it: &str, card: String) -> String {
    let card = card.replace("\r\n", "\n");
    let (head, text) = match card.strip_prefix("---\n").and_then(|rest| rest.split_once("\n---\n")) {
        Some((head, text)) => (head, text),
        None => ("tags:\n- translation", card.as_str()),
    };
    let head: Vec<&str> = head
        .lines()
        .filter(|line| *line != "library_name: transformers")
        .collect();
    // Only the text between the marks is ours to remove. The notes, which may hold anything, stand before them.
    let mut lines: Vec<&str> = text.split('\n').collect();
    let place = |mark: &str| lines.iter().rposition(|line| line.trim_end() == mark);
    if let (Some(begin), Some(end)) = (place(USE[0]), place(USE[1]))
        && begin < end
    {
        lines.drain(begin..=end);
    }
    let text = lines.join("\n");
    format!(
        "---\n{}\n---\n\n{use_it}\n\nWhat follows is the model's own card.\n{text}",
        head.join("\n")
    )
}

/// Adds a list to the head of a card, without repetitions. An empty list is left out.
fn list(head: &mut String, key: &str, mut values: Vec<&str>) -> Result<()> {
    values.dedup();
    if !values.is_empty() {
        writeln!(head, "{key}:")?;
    }
    Ok(values
        .iter()
        .try_for_each(|value| writeln!(head, "- {}", quoted(value)))?)
}

/// Text quoted for YAML. A JSON string is also a YAML string, except for characters that YAML wants escaped and JSON
/// does not.
fn quoted(text: &str) -> String {
    let raw = Value::from(text).to_string();
    let escaped = |c: char| match c {
        '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{fffe}' | '\u{ffff}' => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    };
    raw.chars().map(escaped).collect()
}

/// Text in a cell of a Markdown table.
fn in_a_cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn shape(config: &Config, architecture: &Architecture, params: &Params) -> String {
    let model = &architecture.model;
    let pieces = match architecture.shared_vocabulary {
        true => format!(
            "{} pieces for both sides",
            thousands(architecture.source_vocabulary as f64)
        ),
        false => format!(
            "{} pieces and {}",
            thousands(architecture.source_vocabulary as f64),
            thousands(architecture.target_vocabulary as f64)
        ),
    };
    let kind = match config.init.is_none() && config.text.learns() {
        true => format!("{} ", config.text.kind),
        false => String::new(),
    };
    let mut norm = match model.norm {
        Norm::Post => "normalisation after each sublayer",
        Norm::Pre => "normalisation before each sublayer",
        Norm::None => "no normalisation",
    }
    .to_owned();
    for (is_there, lack) in [
        (model.residual, "no residual connections"),
        (model.causal_mask, "no causal mask"),
        (model.cross_attention, "no attention to the source"),
    ] {
        if !is_there {
            norm += ", ";
            norm += lack;
        }
    }
    format!(
        "{} layers in the encoder, {} in the decoder, width {}, {} in the feed-forward layers, {} heads, {norm}; \
         {kind}vocabulary of {pieces}; {:.1} million parameters.",
        model.encoder_layers,
        model.decoder_layers,
        model.d_model,
        model.feed_forward,
        model.heads,
        params.elements() as f64 / 1e6
    )
}

fn usage(config: &Config, architecture: &Architecture, marian: &[String]) -> String {
    let mut text = "## Use\n\nWith Tallow, from the directory that holds this file:\n\n    echo \"a sentence\" | tallow translate .\n"
        .to_string();
    if marian.is_empty() {
        text += "
With Hugging Face transformers:

```python
from transformers import MarianMTModel, MarianTokenizer

tokenizer = MarianTokenizer.from_pretrained(\".\")
model = MarianMTModel.from_pretrained(\".\")
batch = tokenizer([\"a sentence\"], return_tensors=\"pt\")
print(tokenizer.batch_decode(model.generate(**batch), skip_special_tokens=True))
```
";
        match architecture.shared_vocabulary {
            true => {
                let search = config.decode.search_settings();
                let no_repeat = match search.no_repeat_ngram {
                    0 => String::new(),
                    size => format!(", no_repeat_ngram_size={size}"),
                };
                text += &format!(
                    "
With CTranslate2, after `ct2-transformers-converter --model . --output_dir ct2`:

```python
import ctranslate2
from transformers import MarianTokenizer

tokenizer = MarianTokenizer.from_pretrained(\".\")
translator = ctranslate2.Translator(\"ct2\")
pieces = tokenizer.tokenize(\"a sentence\") + [tokenizer.eos_token]
result = translator.translate_batch([pieces], beam_size={}, length_penalty={:?}{no_repeat})
print(tokenizer.convert_tokens_to_string(result[0].hypotheses[0]))
```
",
                    search.beam, search.length_penalty
                );
            }
            // The loader of Hugging Face for these directories knows only one vocabulary.
            false => {
                text += "
With CTranslate2, by way of `tallow export . --form marian --output DIRECTORY` and `ct2-marian-converter`.
";
            }
        }
        return text;
    }
    text += "\nHugging Face's MarianMT cannot express this model:\n\n";
    marian.iter().for_each(|fault| text += &format!("- {fault}\n"));
    if npz_faults(architecture).is_empty() {
        text += "\n`tallow export . --form marian --output DIRECTORY` writes it for CTranslate2 (`ct2-marian-converter`).\n";
    }
    text
}

fn data(record: &RunRecord) -> Result<String> {
    let mut text = "\n## Data\n\n| part | file | SHA-256 of its plain text |\n|---|---|---|\n".to_string();
    for DataRecord { part, path, sha256 } in &record.data {
        let name = in_a_cell(&path.file_name().unwrap_or_default().to_string_lossy());
        writeln!(text, "| {part} | {name} | `{sha256}` |")?;
    }
    let PairCounts { train, valid, test } = record.pairs;
    let counts: Vec<String> = [("train", train), ("valid", valid), ("test", test)]
        .into_iter()
        .filter_map(|(part, count)| Some(format!("{} in {part}", thousands(count? as f64))))
        .collect();
    if !counts.is_empty() {
        writeln!(text, "\nPairs of sentences: {}.", counts.join(", "))?;
    }
    if let Some(Begun { model, commit, .. }) = begun_with(record) {
        let commit = commit.map_or(String::new(), |commit| format!(" at commit `{commit}`"));
        writeln!(text, "\nTraining began with the weights of `{model}`{commit}.")?;
    }
    Ok(text)
}

/// The model whose weights a run began with.
struct Begun<'a> {
    /// The name of the model, without its place on this machine.
    model: String,
    commit: Option<&'a str>,
    /// The model's name on the Hub, if it came from there.
    on_the_hub: Option<String>,
}

/// The model that a run began with, according to the run's record.
fn begun_with(record: &RunRecord) -> Option<Begun<'_>> {
    let InitRecord { model, commit, .. } = record.init.as_ref()?;
    let commit = commit.as_deref();
    Some(Begun {
        model: without_place(model, commit),
        commit,
        on_the_hub: commit.and_then(|_| Some(Reference::parse(model)?.name().to_owned())),
    })
}

/// The name of a model that came from the Hub with this commit, or else the last part of a path: a card should not tell
/// where files lie on somebody's machine.
fn without_place(model: &str, commit: Option<&str>) -> String {
    match Path::new(model).file_name().filter(|_| commit.is_none()) {
        Some(name) => name.to_string_lossy().into_owned(),
        None => model.to_owned(),
    }
}

fn licence(config: &Config, record: &RunRecord) -> String {
    let model = match &config.card.license {
        Some(license) => format!("The model is under {license}."),
        None => "No licence has been chosen for this model.".to_string(),
    };
    let begun = match begun_with(record) {
        Some(Begun { model, .. }) => format!(" That of `{model}`, whose weights training began with, binds it."),
        None => String::new(),
    };
    format!(
        "\n## Licence\n\n{model}{begun} The texts that it was trained on have terms of their own, which may bind models, too.\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_run_began_with() {
        assert!(begun_with(&RunRecord::default()).is_none());
        let record = |model: &str, commit: Option<&str>| RunRecord {
            init: Some(InitRecord {
                model: model.to_owned(),
                commit: commit.map(str::to_owned),
                ..InitRecord::default()
            }),
            ..RunRecord::default()
        };
        let of = |model: &str, commit: Option<&str>| {
            let record = record(model, commit);
            let Begun { model, on_the_hub, .. } = begun_with(&record).unwrap();
            (model, on_the_hub)
        };
        for place in ["./runs/x", "~/x", "/home/me/x", "my models/x", "a/b/x", "runs/x"] {
            assert_eq!(of(place, None), ("x".into(), None));
        }
        for name in ["owner/name", "owner/name@refs/pr/3"] {
            assert_eq!(of(name, Some("c0ffee")), (name.into(), Some("owner/name".into())));
        }
        let record = record("owner/name", Some("c0ffee"));
        let text = data(&record).unwrap();
        assert!(
            text.contains("the weights of `owner/name` at commit `c0ffee`."),
            "{text}"
        );
        let text = licence(&Config::default(), &record);
        assert!(text.contains("That of `owner/name`, whose weights"), "{text}");
    }

    #[test]
    fn heads_are_yaml() {
        let mut head = String::new();
        list(&mut head, "language", vec!["de", "de"]).unwrap();
        list(&mut head, "none", Vec::new()).unwrap();
        assert_eq!(head, "language:\n- \"de\"\n");
        assert_eq!(quoted("a: \"b\"\n#c"), r##""a: \"b\"\n#c""##);
        assert_eq!(quoted("\u{7f}\u{85}\u{2028}ü"), "\"\\u007f\\u0085\\u2028ü\"");
        assert_eq!(in_a_cell("a|b"), "a\\|b");
    }

    #[test]
    fn a_card_for_marian_tells_how_to_use_that() {
        let own = "---\nlicense: \"mit\"\nlibrary_name: transformers\n---\n\n# T\n\n## Use\n\nWith care.\n\n<!-- use -->\n\
                   transformers\n<!-- end of use -->\n\n## Data\n\nx\n";
        let card = exported_for_marian("runs/t", None, Some(own.into()));
        assert!(card.starts_with("---\nlicense: \"mit\"\n---\n\n"), "{card}");
        assert!(
            !card.contains("transformers") && card.ends_with("# T\n\n## Use\n\nWith care.\n\n\n## Data\n\nx\n"),
            "{card}"
        );
        // A card written by a person keeps all its text, whatever its headings are.
        let own = "# T\n\n## Use\n\n<!-- use -->\n\n## Limits\n\n## Data\n";
        assert!(exported_for_marian("runs/t", None, Some(own.into())).ends_with(own));
        assert!(card.contains("ct2-marian-converter"), "{card}");
        let card = exported_for_marian("a/b", Some("c0ffee"), None);
        assert!(card.contains("`a/b`, whose card and licence hold"), "{card}");
        assert_eq!(exported("a/b", None, Some("Mine.".into())), "Mine.");
        assert!(exported_for_marian("a/b", None, Some("Mine.".into())).ends_with("Mine."));
    }
}
