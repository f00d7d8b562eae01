//! Small valid directories that an input damages, and the seeds made from them.

mod pickled;

use crate::PART;
use crate::targets::{MODEL_FILES, PREPARED_FILES, TOKENIZER_FILES, prepared_files};
use candle_core::{DType, Device};
use std::fs::{create_dir_all, read, read_dir, write};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use tallow::Config;
use tallow_data::{Corpus, DataConfig, Filters, ParallelText, ReadReport};
use tallow_decode::DecodeConfig;
use tallow_model::{
    Architecture, InferenceCompute, Initialisation, ModelConfig, Norm, Params, Positions, PreparedTransformer,
    Transformer,
};
use tallow_text::{Kind, TextConfig, Tokenizers};
use tallow_train::{
    CHECKSUMS_FILE, Checkpoint, Ema, Fingerprint, ModelCard, Optimizer, RunDirectory, TrainConfig, TrainState,
    TrainerParts, sha256,
};
use tempfile::tempdir;

/// The files below a directory: names, with `/`, and contents.
pub(crate) type Files = Vec<(String, Vec<u8>)>;

/// The update of the only checkpoint.
pub(crate) const UPDATE: u64 = 5;

/// Text to learn a tokenizer from.
const LINES: [&str; 6] = [
    "one red cat",
    "two red cats and a dog",
    "a dog and one old cat",
    "the old dog is red",
    "two old cats",
    "is one cat the dog",
];

/// A valid config, of the run that the model belongs to.
pub(crate) const CONFIG: &str = r#"seed = 3
#! decode.beam=2
[data]
train = [{ source = "a.en", target = "a.de" }, { tsv = "b.tsv", weight = 0.5 }]
valid = { source = "c.en", target = "c.de" }
batch_tokens = 64
[text]
kind = "char"
vocabulary = 300
[model]
d_model = 8
heads = 2
dropout = 0.25
[train]
max_updates = 20
workers = "auto"
schedule = "inverse-sqrt"
[decode]
max_length = 9
"#;

/// Reads the files below a directory.
fn files_of(root: &Path) -> Files {
    fn collect(root: &Path, below: &str, files: &mut Files) {
        for entry in read_dir(root.join(below)).expect("a directory") {
            let entry = entry.expect("an entry");
            let name = entry.file_name().into_string().expect("a name");
            let name = if below.is_empty() {
                name
            } else {
                format!("{below}/{name}")
            };
            if entry.path().is_dir() {
                collect(root, &name, files);
            } else {
                files.push((name, read(entry.path()).expect("a file")));
            }
        }
    }
    let mut files = Files::new();
    collect(root, "", &mut files);
    files.sort();
    files
}

/// Makes a directory and writes files into it.
pub(crate) fn write_files<'a>(root: &Path, files: impl IntoIterator<Item = (&'a str, &'a [u8])>) {
    create_dir_all(root).expect("a directory");
    for (name, contents) in files {
        let path = root.join(name);
        create_dir_all(path.parent().expect("a parent")).expect("a directory");
        write(path, contents).expect("a file");
    }
}

/// Converts [`Files`] for [`write_files`].
pub(crate) fn named(files: &Files) -> impl Iterator<Item = (&str, &[u8])> {
    files
        .iter()
        .map(|(name, contents)| (name.as_str(), contents.as_slice()))
}

/// Renews the checksums of a directory that has them.
pub(crate) fn sum_anew(directory: &Path) {
    let line = |(name, _): &(String, Vec<u8>)| {
        let sum = sha256(&directory.join(name)).expect("a file");
        format!("{sum}  {name}\n")
    };
    let files = files_of(directory);
    let text: String = files
        .iter()
        .filter(|(name, _)| name != CHECKSUMS_FILE)
        .map(line)
        .collect();
    write(directory.join(CHECKSUMS_FILE), text).expect("checksums");
}

fn learn(kind: Kind, byte_fallback: bool, shared: bool) -> Tokenizers {
    let config = TextConfig {
        kind,
        vocabulary: if byte_fallback { 290 } else { 32 },
        shared,
        byte_fallback,
        ..TextConfig::default()
    };
    Tokenizers::learn(&config, LINES, LINES, 1).expect("a tokenizer")
}

/// The tokenizer of the models.
pub(crate) fn tokenizers() -> &'static Tokenizers {
    static TOKENIZERS: OnceLock<Tokenizers> = OnceLock::new();
    TOKENIZERS.get_or_init(|| learn(Kind::Bpe, false, true))
}

/// The files of `MarianTokenizer`, with one vocabulary or with two.
pub(crate) fn marian_files(shared: bool) -> &'static Files {
    static FILES: [OnceLock<Files>; 2] = [OnceLock::new(), OnceLock::new()];
    FILES[usize::from(shared)].get_or_init(|| {
        let place = tempdir().expect("a place");
        let tokenizers = learn(Kind::Unigram, false, shared);
        tokenizers.save_marian_tokenizer(place.path()).expect("a tokenizer");
        files_of(place.path())
    })
}

fn architecture(model: ModelConfig) -> Architecture {
    let tokenizers = tokenizers();
    Architecture {
        model: ModelConfig {
            d_model: 4,
            feed_forward: 4,
            encoder_layers: 1,
            decoder_layers: 1,
            heads: 2,
            max_positions: 16,
            ..model
        },
        source_vocabulary: tokenizers.source.vocabulary_size(),
        target_vocabulary: tokenizers.target.vocabulary_size(),
        shared_vocabulary: true,
        eos_id: tokenizers.source.eos_id(),
        unk_id: tokenizers.source.unk_id(),
    }
}

fn params(architecture: &Architecture) -> Params {
    Params::initialise(architecture, Initialisation::Xavier, 1, DType::F32, &Device::Cpu).expect("parameters")
}

/// A model with its tokenizer, in the form of `tallow_model::save`.
fn files_of_model(model: ModelConfig) -> Files {
    let place = tempdir().expect("a place");
    let architecture = architecture(model);
    tallow_model::save(
        place.path(),
        &architecture,
        &params(&architecture),
        None,
        tallow_model::SearchSettings::new(2, 6),
    )
    .expect("a model");
    tokenizers().save(place.path()).expect("a tokenizer");
    files_of(place.path())
}

/// The files of a model directory.
pub(crate) fn model_files() -> &'static Files {
    static FILES: OnceLock<Files> = OnceLock::new();
    FILES.get_or_init(|| files_of_model(ModelConfig::default()))
}

/// A model that MarianMT cannot express.
fn other_model() -> ModelConfig {
    ModelConfig {
        norm: Norm::Pre,
        positions: Positions::Learned,
        ..ModelConfig::default()
    }
}

/// A model to translate with.
pub(crate) fn translation_model() -> (&'static PreparedTransformer, &'static Tokenizers) {
    static MODEL: OnceLock<PreparedTransformer> = OnceLock::new();
    let model = MODEL.get_or_init(|| {
        let architecture = architecture(ModelConfig::default());
        let model = Transformer::for_inference(&architecture, &params(&architecture), None).expect("a model");
        model.prepare(InferenceCompute::F32).expect("a prepared model")
    });
    (model, tokenizers())
}

fn corpus() -> Arc<Corpus> {
    static CORPUS: OnceLock<Arc<Corpus>> = OnceLock::new();
    let corpus = CORPUS.get_or_init(|| {
        let lines: Vec<String> = LINES.iter().map(|line| (*line).to_owned()).collect();
        let text = ParallelText {
            source: lines.clone(),
            target: lines,
            weight: 1.0,
            alignments: None,
            report: ReadReport::default(),
            files: Vec::new(),
        };
        let encode = |lines: &[&str]| tokenizers().source.encode_batch(lines, 1);
        let end = tokenizers().source.eos_id();
        Arc::new(Corpus::build(&[text], end, &Filters::NONE, encode, encode).expect("a corpus"))
    });
    corpus.clone()
}

/// The parts that a trainer needs to continue a checkpoint for one more update.
pub(crate) fn trainer_parts(run: RunDirectory) -> TrainerParts {
    let architecture = architecture(ModelConfig::default());
    TrainerParts {
        group: tallow_comm::Group::alone(),
        params: params(&architecture),
        architecture,
        logits_bias: None,
        tokenizers: tokenizers().clone(),
        corpus: corpus(),
        valid: Vec::new(),
        train: TrainConfig {
            max_updates: UPDATE + 1,
            ema_decay: 0.9,
            ..TrainConfig::default()
        },
        data: DataConfig {
            batch_tokens: 32,
            ..DataConfig::default()
        },
        card: ModelCard::default(),
        decode: DecodeConfig::default(),
        fingerprint: Fingerprint {
            defaults: Vec::new(),
            seed: 3,
            data: vec!["words".into()],
            valid: Vec::new(),
            tokenizers: vec!["pieces".into()],
            config: vec![("model.d_model".into(), "4".into())],
            workers: 1,
            instruction_set: tallow_ops::instruction_set().into(),
        },
        run,
        device: Device::Cpu,
    }
}

/// The files of a run with one checkpoint.
pub(crate) fn run_files() -> &'static Files {
    static FILES: OnceLock<Files> = OnceLock::new();
    FILES.get_or_init(|| {
        let place = tempdir().expect("a place");
        let run = RunDirectory::new(place.path());
        let parts = trainer_parts(run.clone());
        let mut state = TrainState::new(parts.fingerprint);
        state.update = UPDATE;
        state.selection.checkpoints = vec![(UPDATE, None)];
        // A seed must not depend on the processor.
        state.fingerprint.instruction_set = "any".into();
        let checkpoint = Checkpoint {
            architecture: &parts.architecture,
            params: &parts.params,
            logits_bias: None,
            tokenizers: &parts.tokenizers,
            search: tallow_model::SearchSettings::new(2, 6),
            card: &parts.card,
        };
        let optimizer = Optimizer::new(&parts.params).expect("moments");
        let ema = Ema::new(&parts.params, 0.9).expect("averages");
        checkpoint
            .save(&run, &state, &optimizer, Some(&ema))
            .expect("a checkpoint");
        write(run.config(), CONFIG).expect("a config");
        files_of(place.path())
    })
}

/// A config with every key that has a value.
fn composed(text: &str) -> String {
    let place = tempdir().expect("a place");
    let path = place.path().join("run.toml");
    write(&path, text).expect("a config");
    let composed = Config::open(&path).expect("a config that composes");
    composed.config.to_toml().expect("TOML")
}

/// Seeds that are valid or nearly valid: target, name, bytes. Fuzzers start from them. They are kept in `seeds/`,
/// beside inputs found by fuzzers.
pub fn seeds() -> Vec<(&'static str, String, Vec<u8>)> {
    let mut seeds = Vec::new();
    let mut add = |target: &'static str, name: &str, parts: &[&[u8]]| {
        seeds.push((target, format!("valid-{name}"), parts.concat()));
    };
    add("configs", "small", &[CONFIG.as_bytes()]);
    add("configs", "all", &[composed(CONFIG).as_bytes()]);
    let init = CONFIG
        .replace("seed = 3", "seed = 3\ninit = \"a/b\"")
        .replace("[text]\nkind = \"char\"\nvocabulary = 300\n", "");
    add("configs", "init", &[init.as_bytes()]);

    let place = |name: &str| TOKENIZER_FILES.iter().position(|file| *file == name).unwrap_or(0) as u8;
    for (kind, byte_fallback) in [
        (Kind::Bpe, false),
        (Kind::Bpe, true),
        (Kind::Unigram, false),
        (Kind::Word, false),
        (Kind::Char, false),
    ] {
        let learned = learn(kind, byte_fallback, true);
        let json = learned.source.to_json().unwrap_or_default();
        let value: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
        let name = format!("{kind}{}", if byte_fallback { "-bytes" } else { "" });
        // Compact JSON, which is easier for a fuzzer.
        add(
            "tokenizers",
            &name,
            &[&[place("tokenizer.json")], value.to_string().as_bytes()],
        );
    }
    for (name, contents) in named(marian_files(true)) {
        add("tokenizers", &name.replace('.', "-"), &[&[place(name)], contents]);
    }
    for (name, contents) in named(marian_files(false)).filter(|(name, _)| *name == "target_vocab.json") {
        add("tokenizers", &name.replace('.', "-"), &[&[place(name)], contents]);
    }

    let place = |name: &str| MODEL_FILES.iter().position(|file| *file == name).unwrap_or(0) as u8;
    for (name, contents) in named(model_files()) {
        add("models", &name.replace('.', "-"), &[&[place(name)], contents]);
    }
    for (name, contents) in files_of_model(other_model()) {
        if name.ends_with("config.json") {
            add(
                "models",
                &format!("other-{}", name.replace('.', "-")),
                &[&[place(&name)], &contents],
            );
        }
    }
    let architecture = architecture(ModelConfig::default());
    let tensors = params(&architecture).parts().expect("tensors");
    for (name, contents) in [
        ("zipped", pickled::zipped(&tensors)),
        ("older", pickled::older(&tensors)),
    ] {
        add("models", name, &[&[place("pytorch_model.bin")], &contents]);
    }
    add("models", "run", &[&[place("config.toml")], CONFIG.as_bytes()]);

    let run = run_files();
    for (index, (name, contents)) in run.iter().enumerate() {
        let name = name.rsplit('/').next().unwrap_or_default().replace('.', "-");
        for (mode, kept) in ["kept", "anew"].into_iter().enumerate() {
            // One seed is enough for files that other targets also read and whose checksums find every change.
            if mode == 1 || name.contains("state") || name == CHECKSUMS_FILE {
                add(
                    "checkpoints",
                    &format!("{name}-{kept}"),
                    &[&[index as u8, mode as u8], contents],
                );
            }
        }
    }

    let text = LINES.join("\n") + "\n";
    let tabs: String = LINES.iter().map(|line| format!("{line}\t{line}\n")).collect();
    add("corpora", "two", &[&[6], text.as_bytes(), PART, text.as_bytes()]);
    add(
        "corpora",
        "shared",
        &[&[64 + 32 + 16], text.as_bytes(), PART, text.to_uppercase().as_bytes()],
    );
    add(
        "corpora",
        "bytes",
        &[&[128], "ein Äpfel\r\n\n▁ 日本\n".as_bytes(), PART, b"an apple\n \nx\n"],
    );
    add("corpora", "tabs", &[&[1], tabs.as_bytes()]);
    add("corpora", "counts", &[&[0], b"a\nb\n", PART, b"a\n"]);
    let po = "# x\nmsgid \"\"\nmsgstr \"Language: de\\n\"\n\n#, fuzzy\nmsgid \"a\"\nmsgstr \"b\"\n\nmsgctxt \"menu\"\n\
              msgid \"Open \\\"%s\\\"\"\nmsgstr \"\"\n\"%s \"\n\"öffnen\\n\"\n\nmsgid \"%d file\"\nmsgid_plural \"%d files\"\n\
              msgstr[0] \"%d Datei\"\nmsgstr[1] \"%d Dateien\"\n#~ msgid \"old\"\n";
    add("catalogs", "po", &[&[0], po.as_bytes()]);
    let tmx = "<?xml version=\"1.0\"?><tmx version=\"1.4\"><header srclang=\"en\"/><body><tu><tuv xml:lang=\"en\"><seg>a &amp; \
               <bpt i=\"1\">x</bpt>b</seg></tuv><tuv xml:lang=\"de\"><seg>A &#65; <![CDATA[B]]></seg></tuv></tu><tu>\
               <tuv xml:lang=\"en\"><seg>alone</seg></tuv></tu></body></tmx>";
    add("catalogs", "tmx", &[&[1], tmx.as_bytes()]);
    add("catalogs", "tmx-languages", &[&[3], tmx.as_bytes()]);
    for has_links in [false, true] {
        for (place, contents) in prepared_files(has_links).iter().enumerate() {
            let (choice, name) = (place as u8 + 4 * u8::from(has_links), PREPARED_FILES[place]);
            let name = if has_links {
                format!("{name}-links")
            } else {
                name.to_owned()
            };
            add("prepared", &name, &[&[choice], contents]);
        }
    }
    for choice in [0u8, 1, 2, 3, 4, 4 + 8 + 16, 4 + 16 + 64, 4 + 32 + 128] {
        add("lines", &choice.to_string(), &[&[choice], text.as_bytes()]);
    }
    add(
        "lines",
        "odd",
        &[
            &[6],
            "\u{feff}one\r\n\n \0\n\u{2581}</s> <unk>\u{85}\n".as_bytes(),
            b"\xff\xfe \xc3\nlast\r",
        ],
    );
    add("scores", "equal", &[&[0], text.as_bytes()]);
    for choice in [1u8, 2, 4 + 8, 64 + 16, 128 + 32] {
        let other = "a red cat\nthe dog and two cats, old\n\n日本 x.y 1,000\n'the' &quot;old&quot; dog\nTwo\n";
        add(
            "scores",
            &choice.to_string(),
            &[&[choice], text.as_bytes(), PART, other.as_bytes()],
        );
    }
    seeds
}
