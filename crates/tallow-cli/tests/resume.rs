//! Runs that are killed, run out of space, meet another process or have a damaged checkpoint. Each case has one clear
//! outcome, and a resumed run equals an undisturbed one, byte by byte.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of a test may panic like the test itself.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// A folder with a corpus, and a config that uses every feature with a state.
fn project() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let lines = |words: [&str; 5]| -> String {
        let line = |i: usize| format!("{} {} {}\n", words[i % 5], words[i / 5 % 5], words[i / 25 % 5]);
        (0..60).map(line).collect()
    };
    std::fs::write(
        folder.path().join("a.en"),
        lines(["one", "two", "three", "four", "five"]),
    )
    .unwrap();
    std::fs::write(
        folder.path().join("a.de"),
        lines(["eins", "zwei", "drei", "vier", "fünf"]),
    )
    .unwrap();
    std::fs::write(folder.path().join("a.align"), "0-0 1-1 2-2\n".repeat(60)).unwrap();
    let config = "[text]\nvocabulary = 40\nbyte_fallback = false\nbpe_dropout = 0.3\n[data]\nbatch_tokens = 150\n\
                  train = [{ source = \"a.en\", target = \"a.de\", alignments = \"a.align\" }]\nvalid = { source = \"a.en\", target = \"a.de\" }\n\
                  [model]\nd_model = 32\nheads = 2\nfeed_forward = 32\nencoder_layers = 1\ndecoder_layers = 1\n\
                  [train]\nmax_updates = 6\nschedule = \"inverse-sqrt\"\nwarmup_updates = 1000\nworkers = 2\nlog_every = 1\ncheckpoint_every = 2\nvalidate_every = 3\n\
                  keep_last = 2\naccumulate = 2\nema_decay = 0.9\nr_drop = 0.5\nmetric = \"loss\"\n[decode]\nbeam = 1\n\
                  max_length = 8\n";
    std::fs::write(folder.path().join("run.toml"), config).unwrap();
    folder
}

fn tallow(at: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tallow"));
    command.current_dir(at).args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Trains, which must succeed, and returns the messages.
fn train(at: &Path, extra: &[&str]) -> String {
    let output = tallow(at, &[&["train", "run.toml"], extra].concat());
    assert!(output.status.success(), "{}", said(&output));
    said(&output)
}

/// Trains, which must fail, and returns the messages.
fn refused(at: &Path, extra: &[&str]) -> String {
    let output = tallow(at, &[&["train", "run.toml"], extra].concat());
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(!said(&output).contains("panicked"), "{}", said(&output));
    said(&output)
}

/// The result of a run: the files of its last checkpoint, and its log.
fn result(at: &Path, update: u64) -> Vec<(PathBuf, Vec<u8>)> {
    let run = at.join("runs/run");
    let checkpoint = run.join("checkpoints").join(update.to_string());
    let mut paths: Vec<PathBuf> = [
        "model.safetensors",
        "state/moments.safetensors",
        "state/ema.safetensors",
        "SHA256SUMS",
    ]
    .map(|name| checkpoint.join(name))
    .into();
    paths.push(run.join("metrics.jsonl"));
    let read = |path: PathBuf| (path.strip_prefix(at).unwrap().to_owned(), std::fs::read(&path).unwrap());
    paths.into_iter().map(read).collect()
}

fn whole() -> Vec<(PathBuf, Vec<u8>)> {
    let folder = project();
    train(folder.path(), &[]);
    result(folder.path(), 6)
}

fn assert_same(found: &[(PathBuf, Vec<u8>)], expected: &[(PathBuf, Vec<u8>)]) {
    for (found, expected) in found.iter().zip(expected) {
        assert!(found == expected, "{} differs", found.0.display());
    }
}

/// Twenty kills at random moments, each followed by a resumption, as in `tallow check --resume`.
#[test]
fn killed_twenty_times() {
    let folder = project();
    let output = tallow(
        folder.path(),
        &["check", "run.toml", "--resume", "--updates", "80", "--kills", "20"],
    );
    let report = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(output.status.success(), "{report}{}", said(&output));
    assert!(report.starts_with("ok      resume"), "{report}");
    assert!(said(&output).contains("uninterrupted: 80 updates"), "{}", said(&output));
    // Its own files are gone, and the run itself was not touched.
    assert!(!folder.path().join("runs").join("run.check").exists() && !folder.path().join("runs/run").exists());
    let output = tallow(folder.path(), &["check", "run.toml", "--resume", "--updates", "20"]);
    assert!(
        output.status.code() == Some(2) && said(&output).contains("--updates 20"),
        "{}",
        said(&output)
    );
}

/// A run that was stopped by a signal and resumed averages the same checkpoints as the uninterrupted run, and has the
/// same best model.
#[cfg(unix)]
#[test]
fn stopped_between_two_checkpoints() {
    let average = [
        "train.average_last=2",
        "train.max_updates=800",
        "train.checkpoint_every=200",
        "train.validate_every=200",
        "train.patience=0",
    ];
    let average: Vec<&str> = average.iter().flat_map(|set| ["--set", *set]).collect();
    let best = |at: &Path| std::fs::read(at.join("runs/run/best/model.safetensors")).unwrap();
    let whole = project();
    train(whole.path(), &average);
    let folder = project();
    let at = folder.path();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tallow"));
    command.current_dir(at).args(["train", "run.toml"]).args(&average);
    let mut child = command
        .stderr(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    while !at.join("runs/run/checkpoints/600").exists() {
        assert!(child.try_wait().unwrap().is_none(), "it has ended by itself");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    Command::new("kill")
        .args(["-s", "INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    train(at, &[&average[..], &["--resume"]].concat());
    let read = |at: &Path| std::fs::read_to_string(at.join("runs/run/average.json")).unwrap();
    assert_eq!(read(at), read(whole.path()));
    assert!(best(at) == best(whole.path()), "the best models differ");
}

/// A missing or damaged best model or older checkpoint is noticed on resumption and chosen anew.
#[test]
fn damage_elsewhere() {
    let folder = project();
    let at = folder.path();
    train(at, &[]);
    std::fs::remove_dir_all(at.join("runs/run/best")).unwrap();
    std::fs::write(at.join("runs/run/checkpoints/4/config.json"), "{}").unwrap();
    let told = train(at, &["--resume"]);
    for part in [
        "best is not the best model any more",
        "checkpoints/4 is not used any more: config.json is not what",
    ] {
        assert!(told.contains(part), "{part:?} is not in: {told}");
    }
    assert!(at.join("runs/run/best/model.safetensors").exists());
    // The card of its replacement describes the new weights.
    let card = std::fs::read_to_string(at.join("runs/run/best/README.md")).unwrap();
    let weights = "the exponential average (`ema_decay` 0.9) of those up to update 6; the best ones were lost.";
    assert!(card.contains(weights), "{card}");
}

/// One bit of the newest checkpoint has changed: the one before it is used, with a message.
#[test]
fn a_damaged_checkpoint() {
    let folder = project();
    let at = folder.path();
    train(at, &["--set", "train.max_updates=4"]);
    let damage = |update: u64, name: &str| {
        let path = at.join(format!("runs/run/checkpoints/{update}/{name}"));
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        std::fs::write(&path, bytes).unwrap();
    };
    damage(4, "state/moments.safetensors");
    let told = train(at, &["--resume"]);
    assert!(
        told.contains("checkpoints/4: state/moments.safetensors is not what was written"),
        "{told}"
    );
    assert!(told.contains("from update 2"), "{told}");
    assert_same(&result(at, 6), &whole());

    damage(4, "model.safetensors");
    std::fs::remove_file(at.join("runs/run/checkpoints/6/config.json")).unwrap();
    let error = refused(at, &["--resume"]);
    for part in [
        "every checkpoint is damaged",
        "6: config.json",
        "4: model.safetensors",
        "--overwrite",
    ] {
        assert!(error.contains(part), "{part:?} is not in: {error}");
    }
}

/// The run died before the first checkpoint. Nothing can be lost, so training begins anew with or without `--resume`.
#[test]
fn nothing_was_saved() {
    for extra in [&["--resume"][..], &[]] {
        let folder = project();
        let at = folder.path();
        std::fs::create_dir_all(at.join("runs/run/checkpoints")).unwrap();
        std::fs::write(at.join("runs/run/config.toml"), "").unwrap();
        std::fs::write(at.join("runs/run/run.json"), "{}").unwrap();
        std::fs::write(at.join("runs/run/metrics.jsonl"), "{\"update\":1}\n").unwrap();
        let told = train(at, extra);
        assert_eq!(
            told.contains("nothing had been saved; beginning anew"),
            !extra.is_empty(),
            "{told}"
        );
        assert_same(&result(at, 6), &whole());
    }
    let folder = project();
    let at = folder.path();
    assert!(refused(at, &["--resume"]).contains("no run to resume"));
    assert!(!at.join("runs").exists());
    // A best model could be lost, even without a checkpoint.
    train(at, &[]);
    std::fs::remove_dir_all(at.join("runs/run/checkpoints")).unwrap();
    for extra in [&["--resume"][..], &[]] {
        assert!(refused(at, extra).contains("--overwrite"));
        assert!(at.join("runs/run/best/model.safetensors").exists());
    }
    // It still counts without the files that identify its run.
    for name in ["config.toml", "run.json"] {
        std::fs::remove_file(at.join("runs/run").join(name)).unwrap();
        assert!(refused(at, &[]).contains("--overwrite"));
    }
    assert!(at.join("runs/run/best/model.safetensors").exists());
}

/// A second process on the same run is refused and disturbs nothing.
#[test]
fn two_processes() {
    let folder = project();
    let at = folder.path();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tallow"));
    command
        .current_dir(at)
        .args(["train", "run.toml", "--set", "train.max_updates=1000000"]);
    let mut first = command
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    while !at.join("runs/run/checkpoints/2").exists() {
        assert!(first.try_wait().unwrap().is_none(), "the first process has ended");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    for extra in [&["--resume"][..], &["--overwrite"], &[]] {
        let error = refused(at, extra);
        assert!(error.contains("another process is training here"), "{error}");
    }
    first.kill().unwrap();
    first.wait().unwrap();
    // A lock ends with its process.
    let told = train(at, &["--resume", "--set", "train.max_updates=1"]);
    assert!(told.contains("resuming"), "{told}");
}

/// The first signal lets the update finish and saves it. A second one, during a long update, ends the process.
#[cfg(unix)]
#[test]
fn signals() {
    use std::process::{Child, Stdio};
    let start = |at: &Path, set: &str| -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tallow"));
        command.current_dir(at).args(["train", "run.toml", "--set", set]);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let signal = |name: &str, child: &mut Child| {
        let sent = Command::new("kill")
            .args(["-s", name, &child.id().to_string()])
            .status()
            .unwrap();
        if !sent.success() {
            let mut words = String::new();
            std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut words).unwrap();
            panic!("it has ended by itself, {:?}: {words}", child.wait());
        }
    };
    let pause = || std::thread::sleep(std::time::Duration::from_millis(5));
    for name in ["INT", "TERM", "HUP"] {
        let folder = project();
        let at = folder.path();
        let mut child = start(at, "train.max_updates=1000000");
        while !at.join("runs/run/checkpoints/2").exists() {
            assert!(child.try_wait().unwrap().is_none(), "it has ended by itself");
            pause();
        }
        signal(name, &mut child);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{name}: {}", said(&output));
        let words = said(&output);
        let update: u64 = words
            .split("stopped after update ")
            .nth(1)
            .unwrap()
            .split(';')
            .next()
            .unwrap()
            .parse()
            .unwrap();
        assert!(at.join(format!("runs/run/checkpoints/{update}")).exists(), "{words}");
        assert!(
            words.contains("tallow train run.toml --set train.max_updates=1000000 --resume"),
            "{words}"
        );
    }
    let folder = project();
    let at = folder.path();
    let mut child = start(at, "train.accumulate=100000000");
    while !at.join("runs/run/timing.jsonl").exists() {
        assert!(child.try_wait().unwrap().is_none(), "it has ended by itself");
        pause();
    }
    // A signal before the first update would end the run at once.
    std::thread::sleep(std::time::Duration::from_millis(700));
    signal("INT", &mut child);
    // The second signal has another meaning only after the first has been handled.
    std::thread::sleep(std::time::Duration::from_millis(300));
    let ended = child.try_wait().unwrap();
    signal("INT", &mut child);
    let output = child.wait_with_output().unwrap();
    assert!(
        ended.is_none(),
        "the first signal does not end an update: {}",
        said(&output)
    );
    assert_eq!(output.status.code(), Some(130), "{}", said(&output));
}

/// The CPU time limit ends the run like SIGTERM. Its repeated signal counts only once.
#[cfg(target_os = "linux")]
#[test]
fn no_time() {
    let folder = project();
    let at = folder.path();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tallow"));
    command.current_dir(at).args(["train", "run.toml"]);
    command.args(["--set", "train.max_updates=1000000", "--set", "train.accumulate=3000"]);
    let child = command
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // This file is written once the process handles signals.
    while !at.join("runs/run/timing.jsonl").exists() {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    for _ in 0..2 {
        // The process may already have ended at the second signal.
        let kill = ["-XCPU", &child.id().to_string()];
        let _ = Command::new("kill")
            .args(kill)
            .stderr(std::process::Stdio::null())
            .status();
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let output = child.wait_with_output().unwrap();
    let told = said(&output);
    assert_eq!(output.status.code(), Some(130), "{told}");
    let update = told
        .split("stopped after update ")
        .nth(1)
        .and_then(|rest| rest.split(';').next());
    assert!(told.contains("everything is saved"), "{told}");
    assert!(at.join("runs/run/checkpoints").join(update.unwrap()).exists(), "{told}");
}

/// A run from before the key `text.trim` has a vocabulary that does not trim, and can be resumed. A run whose text now
/// gives other pairs cannot.
#[test]
fn runs_of_before() {
    let folder = project();
    let at = folder.path();
    let short = ["--set", "train.max_updates=4"];
    train(at, &short);
    let config = at.join("runs/run/config.toml");
    let state = at.join("runs/run/checkpoints/4/state/state.json");
    let text = std::fs::read_to_string(&config).unwrap();
    assert!(text.contains("trim = true\n"), "{text}");
    std::fs::write(&config, text.replace("trim = true\n", "")).unwrap();
    let text = std::fs::read_to_string(&state).unwrap();
    let mut known: serde_json::Value = serde_json::from_str(&text).unwrap();
    let keys = known["fingerprint"]["config"].as_array_mut().unwrap();
    keys.retain(|pair| pair[0] != "text.trim");
    std::fs::write(&state, known.to_string()).unwrap();
    std::fs::remove_file(at.join("runs/run/checkpoints/4/SHA256SUMS")).unwrap();
    let error = refused(at, &["--resume", "--set", "text.trim=true"]);
    assert!(error.contains("text.trim: true instead of false"), "{error}");
    for (updates, extra) in [("5", &[][..]), ("6", &["--set", "text.trim=false"]), ("7", &[])] {
        let updates = format!("train.max_updates={updates}");
        let told = train(at, &[&["--resume", "--set", &updates], extra].concat());
        assert!(!told.contains("text.trim"), "{told}");
        assert!(std::fs::read_to_string(&config).unwrap().contains("trim = false\n"));
    }

    let record = at.join("runs/run/run.json");
    let text = std::fs::read_to_string(&record).unwrap();
    assert!(text.contains("\"train\": 60"), "{text}");
    std::fs::write(&record, text.replace("\"train\": 60", "\"train\": 61")).unwrap();
    let error = refused(at, &["--resume"]);
    for part in ["runs/run", "61 training pairs", "makes 60", "a new run"] {
        assert!(error.contains(part), "{part:?} is not in: {error}");
    }
}

/// No space for a checkpoint: the error names the file, the last checkpoint stays, and with more space the run can be
/// resumed.
#[cfg(unix)]
#[test]
fn no_room() {
    let folder = project();
    let at = folder.path();
    train(at, &["--set", "train.max_updates=4"]);
    // As if the run had died before it wrote the last one.
    std::fs::remove_dir_all(at.join("runs/run/checkpoints/4")).unwrap();
    let size = std::fs::metadata(at.join("runs/run/checkpoints/2/state/moments.safetensors"))
        .unwrap()
        .len();
    // Files may not grow beyond a quarter or half of the size of the moments, which is the size of the weights:
    // `ulimit` counts blocks of 512 or 1024 bytes. The best model of the next validation is the first file that is too
    // large.
    let script = format!(
        "ulimit -f {}; exec {} train run.toml --resume",
        size / 2048,
        env!("CARGO_BIN_EXE_tallow")
    );
    let output = Command::new("sh")
        .current_dir(at)
        .args(["-c", &script])
        .output()
        .unwrap();
    let error = said(&output);
    assert_eq!(output.status.code(), Some(1), "{error}");
    for part in [
        "saved up to update 2",
        "tallow train run.toml --resume",
        "runs/run/best.partial/model.safetensors: File too large",
    ] {
        assert!(error.contains(part), "{part:?} is not in: {error}");
    }
    assert!(at.join("runs/run/checkpoints/2").exists() && !at.join("runs/run/checkpoints/4").exists());
    let told = train(at, &["--resume"]);
    assert!(told.contains("from update 2"), "{told}");
    assert_same(&result(at, 6), &whole());
    assert!(!at.join("runs/run/best.partial").exists());
}

/// A place without write permission: the error names it before anything is computed.
#[test]
fn no_place() {
    let folder = project();
    let at = folder.path();
    let error = refused(at, &["--set", "output=a.en/run"]);
    assert!(error.contains("a.en/run"), "{error}");
    assert!(!error.contains("learned"), "{error}");
    // A user's own files, among them the config itself, in a directory that is no run's.
    std::fs::copy(at.join("run.toml"), at.join("config.toml")).unwrap();
    std::fs::write(at.join("tokenizer.json"), "mine").unwrap();
    for extra in [&[][..], &["--overwrite"]] {
        let error = refused(at, &[&["--set", "output=\".\""], extra].concat());
        assert!(error.contains("no run has written"), "{error}");
    }
    assert_eq!(std::fs::read_to_string(at.join("tokenizer.json")).unwrap(), "mine");
    assert_eq!(
        std::fs::read(at.join("config.toml")).unwrap(),
        std::fs::read(at.join("run.toml")).unwrap()
    );
}
