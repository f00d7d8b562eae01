//! Prepared corpora: when they are used, when they are made anew, what damage does, and preparations that are killed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers here fail the test that calls them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime};
use tempfile::TempDir;

const CONFIG: &str = "[text]\nvocabulary = 320\n[data]\nbatch_tokens = 256\npool_pairs = 500\n\
                      train = [{ source = \"a.en\", target = \"a.de\" }, { tsv = \"b.*.tsv\", weight = 0.5 }]\n\
                      [model]\nd_model = 8\nheads = 2\nfeed_forward = 8\nencoder_layers = 1\ndecoder_layers = 1\n\
                      [train]\nmax_updates = 4\nworkers = 1\n";

/// Text from some time ago, so that its time of change tells whether it is the same.
fn write_old(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    let file = std::fs::File::options().append(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(100)).unwrap();
}

fn project(lines: usize) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let line = |n: usize| format!("word{} {} the {} of", n * n % 97, n % 13, n * 7 % 31);
    let source: String = (0..lines).map(|n| line(n) + "\n").collect();
    let target: String = (0..lines).map(|n| line(n).replace("the", "der") + "\n").collect();
    write_old(&at.join("a.en"), &source);
    write_old(&at.join("a.de"), &target);
    for part in 0..2 {
        let tsv: String = (0..40).map(|n| format!("{}\t{}\n", line(n + part), line(n))).collect();
        write_old(&at.join(format!("b.{part}.tsv")), &tsv);
    }
    std::fs::write(at.join("run.toml"), CONFIG).unwrap();
    folder
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tallow"));
    command.current_dir(folder).args(arguments);
    command
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    command(folder, arguments).output().unwrap()
}

/// What a command that succeeds prints: data and messages.
fn well(folder: &Path, arguments: &[&str]) -> (String, String) {
    let output = run(folder, arguments);
    let [data, said] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(output.status.success(), "{arguments:?}: {said}");
    (data, said)
}

/// The message of a command that fails.
fn badly(folder: &Path, arguments: &[&str]) -> String {
    let output = run(folder, arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

/// The names of prepared files with this ending.
fn names_of_prepared(folder: &Path, ending: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder.join("runs/prepared")).unwrap();
    let files = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    let names = files.map(|path| path.file_name().unwrap().to_string_lossy().into_owned());
    names.filter(|name| name.ends_with(ending)).collect()
}

/// The prepared files with this ending, by name. Nothing may be writing them.
fn prepared(folder: &Path, ending: &str) -> BTreeMap<String, Vec<u8>> {
    let read = |name: String| {
        let contents = std::fs::read(folder.join("runs/prepared").join(&name)).unwrap();
        (name, contents)
    };
    names_of_prepared(folder, ending).into_iter().map(read).collect()
}

fn pairs_of(folder: &Path, corpus: &str) -> PathBuf {
    let mut names = names_of_prepared(folder, ".pairs").into_iter();
    let name = names.find(|name| name.starts_with(corpus));
    folder.join("runs/prepared").join(name.unwrap())
}

#[test]
fn what_fits_is_used_and_the_rest_is_made_anew() {
    let folder = project(700);
    let at = folder.path();
    let (data, said) = well(at, &["prepare", "run.toml"]);
    assert!(
        said.contains("learned 320 bpe pieces") && said.contains("prepared 700 pairs as runs/prepared/a.en-"),
        "{said}"
    );
    assert!(
        data.lines().count() == 2 && data.contains(".pairs\t700 pairs\t"),
        "{data}"
    );
    let first = prepared(at, ".pairs");
    // Nothing is done again, by training neither.
    let (again, said) = well(at, &["prepare", "run.toml", "--verify"]);
    assert_eq!(again, data);
    assert!(
        said.starts_with("using the 320 pieces of runs/prepared/vocabulary-") && said.lines().count() == 1,
        "{said}"
    );
    let (_, said) = well(at, &["train", "run.toml"]);
    assert!(
        !said.contains("prepared 7") && said.contains("780 training pairs"),
        "{said}"
    );
    assert_eq!(prepared(at, ".pairs"), first);
    // Another model or another weight needs nothing new; other filters and another vocabulary do, beside the old ones.
    for (set, files) in [
        ("model.d_model=16", 2),
        ("data.temperature=2", 2),
        ("data.max_length=50", 4),
        ("text.vocabulary=310", 6),
    ] {
        well(at, &["prepare", "run.toml", "--set", set]);
        assert_eq!(prepared(at, ".pairs").len(), files, "{set}");
    }
    // Text that was only written once more is the same text.
    write_old(
        &at.join("b.0.tsv"),
        &std::fs::read_to_string(at.join("b.0.tsv")).unwrap(),
    );
    let (_, said) = well(at, &["prepare", "run.toml"]);
    assert_eq!(said.lines().count(), 1, "{said}");
    // Other text of the same length is not, and the other corpus is as it was.
    let text = std::fs::read_to_string(at.join("b.1.tsv"))
        .unwrap()
        .replacen("the", "eht", 1);
    write_old(&at.join("b.1.tsv"), &text);
    let (_, said) = well(at, &["prepare", "run.toml", "--set", "text.path=runs/run"]);
    let expected = "preparing the corpus anew: runs/prepared/b._.tsv-";
    assert!(
        said.contains(expected) && said.contains(": the text has changed\n"),
        "{said}"
    );
    assert!(
        said.contains("prepared 80 pairs") && !said.contains("prepared 700"),
        "{said}"
    );
    // A run that began with the other text is not resumed with this one.
    let said = badly(at, &["train", "run.toml", "--resume", "--set", "train.max_updates=6"]);
    assert!(
        said.contains("the training corpora are not those that the run began with"),
        "{said}"
    );
}

#[test]
fn damage_is_one_clear_outcome() {
    let folder = project(700);
    let at = folder.path();
    well(at, &["train", "run.toml"]);
    let path = pairs_of(at, "a.en");
    let sound = std::fs::read(&path).unwrap();
    let train = ["train", "run.toml", "--overwrite"];
    // A flipped bit.
    let mut flipped = sound.clone();
    flipped[sound.len() / 2] ^= 16;
    std::fs::write(&path, &flipped).unwrap();
    for command in [&train[..], &["prepare", "run.toml", "--verify"]] {
        let said = badly(at, command);
        assert!(
            said.contains("is damaged; remove the file, and the corpus is prepared anew"),
            "{said}"
        );
        assert!(said.contains(path.file_name().unwrap().to_str().unwrap()), "{said}");
    }
    // The way out. A file that is missing or cut short is noticed before anything is read from it.
    for length in [None, Some(0), Some(sound.len() / 3)] {
        match length {
            None => std::fs::remove_file(&path).unwrap(),
            Some(length) => std::fs::write(&path, &sound[..length]).unwrap(),
        }
        let (_, said) = well(at, &train);
        assert!(
            said.contains("note: preparing the corpus anew: ") && said.contains("prepared 700 pairs"),
            "{said}"
        );
        assert_eq!(std::fs::read(&path).unwrap(), sound);
    }
    // A description that is no JSON, or one of another version.
    let description = path.with_extension("json");
    let text = std::fs::read_to_string(&description).unwrap();
    for other in ["{".to_owned(), text.replacen("\"version\": 1", "\"version\": 2", 1)] {
        std::fs::write(&description, other).unwrap();
        let (_, said) = well(at, &train);
        assert!(
            said.contains("preparing the corpus anew: ") && said.contains("prepared 700 pairs"),
            "{said}"
        );
    }
    // A damaged vocabulary is learned again.
    let entries = std::fs::read_dir(at.join("runs/prepared")).unwrap();
    let folders = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let vocabulary = folders.map(|path| path.join("tokenizer.json")).next().unwrap();
    let json = std::fs::read_to_string(&vocabulary).unwrap();
    std::fs::write(&vocabulary, json.replacen("of", "fo", 1)).unwrap();
    let (_, said) = well(at, &train);
    assert!(said.contains("learned 320 bpe pieces"), "{said}");
    assert_eq!(std::fs::read_to_string(&vocabulary).unwrap(), json);
}

#[test]
fn killed_preparations_and_runs_end_with_the_same_bits() {
    let folder = project(150_000);
    let at = folder.path();
    well(at, &["train", "run.toml"]);
    let (pairs, offsets) = (prepared(at, ".pairs"), prepared(at, ".offsets"));
    let model = std::fs::read(at.join("runs/run/best/model.safetensors")).unwrap();
    std::fs::remove_dir_all(at.join("runs")).unwrap();
    let has_state = || at.join("runs/prepared").exists() && !names_of_prepared(at, ".state.json").is_empty();
    let train = || {
        let begin = if at.join("runs/run/run.json").exists() {
            "--resume"
        } else {
            "--overwrite"
        };
        let mut command = command(at, &["train", "run.toml", begin]);
        command.stderr(Stdio::null()).spawn().unwrap()
    };
    // As soon as a part of the corpus is safe, and at any time.
    let moments = [5, 90, 260, 420].map(|moment| Some(Duration::from_millis(moment)));
    let mut resumed = 0;
    for moment in [None, None].into_iter().chain(moments) {
        let (begin, had_state) = (Instant::now(), has_state());
        resumed += usize::from(had_state);
        let mut child = train();
        let is_time = || match moment {
            Some(moment) => begin.elapsed() >= moment,
            None => has_state() && !had_state,
        };
        while !is_time() && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = child.kill();
        child.wait().unwrap();
    }
    assert!(resumed > 0, "no preparation was killed after a part was safe");
    assert!(train().wait().unwrap().success());
    assert_eq!(prepared(at, ".pairs"), pairs);
    assert_eq!(prepared(at, ".offsets"), offsets);
    assert_eq!(
        std::fs::read(at.join("runs/run/best/model.safetensors")).unwrap(),
        model
    );
    assert!(prepared(at, ".partial").is_empty() && prepared(at, ".state.json").is_empty());
}

/// Two processes that prepare the same: one waits for the other and uses its files.
#[test]
fn processes_prepare_one_after_another() {
    let folder = project(20_000);
    let at = folder.path();
    let start = || {
        command(at, &["prepare", "run.toml"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let outputs = [start(), start()].map(|child| child.wait_with_output().unwrap());
    let said = outputs
        .each_ref()
        .map(|output| String::from_utf8_lossy(&output.stderr).into_owned());
    assert!(outputs.iter().all(|output| output.status.success()), "{said:?}");
    assert_eq!(outputs[0].stdout, outputs[1].stdout);
    let prepared_by = said
        .iter()
        .filter(|said| said.contains("prepared 20,000 pairs"))
        .count();
    assert_eq!(prepared_by, 1, "{said:?}");
}

/// The same text plain, compressed and in many files gives the same pairs.
#[test]
fn text_may_be_compressed_and_in_many_files() {
    let folder = project(300);
    let at = folder.path();
    let ids = |train: &str| {
        let set = ["--set", train, "--set", "text.path=runs/run", "--set", "name=other"];
        well(at, &[&["prepare", "run.toml"][..], &set].concat());
        let found = prepared(at, ".pairs");
        std::fs::remove_dir_all(at.join("runs/prepared")).unwrap();
        assert_eq!(found.len(), 1);
        found.into_values().next().unwrap()
    };
    well(at, &["train", "run.toml"]);
    std::fs::remove_dir_all(at.join("runs/prepared")).unwrap();
    let plain = ids("data.train=[{source=\"a.en\", target=\"a.de\"}]");
    let [source, target] = ["a.en", "a.de"].map(|name| std::fs::read_to_string(at.join(name)).unwrap());
    let (mut ends, lines) = ([0, 0], [0, 120, 299, 300]);
    for part in 0..3 {
        for (side, (text, name)) in [(&source, "en"), (&target, "de")].into_iter().enumerate() {
            let count = lines[part + 1] - lines[part];
            let length: usize = text[ends[side]..].split_inclusive('\n').take(count).map(str::len).sum();
            let shard = &text.as_bytes()[ends[side]..ends[side] + length];
            ends[side] += length;
            // One side of one shard is compressed by zstd, another one by gzip.
            let contents = match (part, name) {
                (0, "en") => zstd::encode_all(shard, 3).unwrap(),
                (1, "de") => {
                    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                    std::io::Write::write_all(&mut encoder, shard).unwrap();
                    encoder.finish().unwrap()
                }
                _ => shard.to_vec(),
            };
            std::fs::write(at.join(format!("part{part}.{name}")), contents).unwrap();
        }
    }
    assert!(ids("data.train=[{source=\"part*.en\", target=\"part?.de\"}]") == plain);
    std::fs::remove_file(at.join("part1.de")).unwrap();
    let set = "data.train=[{source=\"part*.en\", target=\"part?.de\"}]";
    let said = badly(at, &["prepare", "run.toml", "--set", set]);
    assert!(
        said.contains("part*.en is the name of 3 files, and part?.de of 2 files"),
        "{said}"
    );
    let set = "data.train=[{source=\"part*.en\", target=\"nothing*.de\"}]";
    let said = badly(at, &["prepare", "run.toml", "--set", set]);
    assert!(
        said.contains("data.train[0].target: nothing*.de: no such file"),
        "{said}"
    );
}

/// Text from a pipe is read once, kept, and trained on.
#[test]
fn text_may_come_through_a_pipe() {
    let folder = project(300);
    let at = folder.path();
    let set = ["--set", "data.train=[{tsv=\"-\"}]"];
    let nothing = badly(at, &[&["train", "run.toml"][..], &set].concat());
    assert!(
        nothing.contains("data.train[0].tsv: -: a pipe is read by `tallow prepare`"),
        "{nothing}"
    );
    let text = std::fs::File::open(at.join("b.0.tsv")).unwrap();
    let mut command = command(at, &[&["prepare", "run.toml"][..], &set].concat());
    let output = command.stdin(text).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success() && said.contains("came through the pipe and are kept in"),
        "{said}"
    );
    // Nothing comes through the pipe any more, and the text is there.
    for arguments in [
        &["train", "run.toml"][..],
        &["prepare", "run.toml"],
        &["train", "run.toml", "--overwrite"],
    ] {
        let (_, said) = well(at, &[arguments, &set].concat());
        assert!(!said.contains("prepared 40 pairs"), "{said}");
    }
    // Other commands that look at the training text find it, too.
    let found = run(at, &[&["check", "run.toml"][..], &set].concat()).stdout;
    let found = String::from_utf8(found).unwrap();
    assert!(found.contains("40 pairs"), "{found}");
    well(at, &["shortlist", "runs/run", "--output", "short.safetensors"]);
    // Another run has its own standard input.
    let other = badly(at, &[&["train", "run.toml", "--set", "name=other"][..], &set].concat());
    assert!(other.contains("nothing has come through it"), "{other}");
    std::fs::rename(at.join("runs/prepared"), at.join("piped")).unwrap();
    well(at, &["prepare", "run.toml", "--set", "data.train=[{tsv=\"b.0.tsv\"}]"]);
    let pairs = |folder: &Path| {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let path = entries
            .into_iter()
            .find(|path| path.extension().is_some_and(|end| end == "pairs"));
        std::fs::read(path.unwrap()).unwrap()
    };
    assert_eq!(pairs(&at.join("piped")), pairs(&at.join("runs/prepared")));
}

/// A prefix of a corpus is a piece of its own, however few lines have it, and nothing else changes.
#[test]
fn prefixes_are_pieces() {
    let folder = project(700);
    let at = folder.path();
    let train =
        |prefixes: &str| format!("data.train=[{{source=\"a.en\", target=\"a.de\"}}, {{tsv=\"b.0.tsv\", {prefixes}}}]");
    // 40 of 740 lines have it: too few for a language tag that nobody names.
    let set = train("source_prefix=\">>de<<\", target_prefix=\"<BT>\"");
    let (_, said) = well(at, &["train", "run.toml", "--set", &set]);
    assert!(
        said.contains("language tags, which are pieces of their own: >>de<<"),
        "{said}"
    );
    let pieces = |line: &str, side: &[&str]| {
        let arguments = [&["tokenizer", "encode", "runs/run"][..], side].concat();
        let mut child = command(at, &arguments);
        let input = at.join("line");
        std::fs::write(&input, line).unwrap();
        let output = child.stdin(std::fs::File::open(input).unwrap()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(
        pieces(">>de<< word1\n", &[]).starts_with(">>de<< ▁"),
        "{}",
        pieces(">>de<< word1\n", &[])
    );
    assert!(
        pieces("<BT> word1\n", &["--target"]).contains("<BT> ▁"),
        "{}",
        pieces("<BT> word1\n", &["--target"])
    );
    let said = badly(
        at,
        &[
            "train",
            "run.toml",
            "--overwrite",
            "--set",
            &train("source_prefix=\"<pad>\""),
        ],
    );
    assert!(
        said.contains("data.train[1].source_prefix: \"<pad>\" has a meaning of its own"),
        "{said}"
    );
    let said = badly(
        at,
        &[
            "train",
            "run.toml",
            "--overwrite",
            "--set",
            &train("source_prefix=\" \""),
        ],
    );
    assert!(said.contains("data.train[1].source_prefix: must have text"), "{said}");
}
