//! The library as a program uses it: its examples, and behaviour that they do not show.

// Helpers outside `#[test]` functions unwrap too: a test fails by a panic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::cell::RefCell;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use tallow::{Begin, Composed, Config, Ending, Error, Event, Listener, Notice, Observer, SavedModel, Silent, Training};

/// An example program, built together with this test.
fn example(name: &str) -> Command {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.push("examples");
    path.push(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(path.exists(), "{}: cargo test builds it", path.display());
    Command::new(path)
}

/// The config of a very small model, with its text.
fn config(place: &Path) -> PathBuf {
    let words = ["red", "blue", "green", "cat", "dog", "bird"];
    let lines: String = (0..60)
        .map(|i| format!("{} {} {}\n", words[i % 3], words[3 + i % 2], words[3 + i / 2 % 3]))
        .collect();
    for name in ["a.en", "a.de"] {
        std::fs::write(place.join(name), &lines).unwrap();
    }
    let corpus = format!(
        "{{ source = {:?}, target = {:?} }}",
        place.join("a.en"),
        place.join("a.de")
    );
    let text = format!(
        "output = {:?}\n[text]\nkind = \"word\"\n[data]\ntrain = [{corpus}]\nvalid = {corpus}\ntest = {corpus}\n\
         batch_tokens = 200\n[model]\nd_model = 16\nfeed_forward = 16\nencoder_layers = 1\ndecoder_layers = 1\nheads = 2\n\
         [train]\nmax_updates = 6\nwarmup_updates = 2\nworkers = 1\n[decode]\nbeam = 2\nmax_length = 8\n",
        place.join("run")
    );
    let path = place.join("small.toml");
    std::fs::write(&path, text).unwrap();
    path
}

fn composed(place: &Path) -> Composed {
    Config::open(config(place)).unwrap()
}

/// A listener that remembers its messages.
#[derive(Default)]
struct Memory(RefCell<Vec<String>>);

impl Observer for Memory {
    fn observe(&self, event: &Event) {
        if let Event::Validated { update, .. } = event {
            self.0.borrow_mut().push(format!("validated {update}"));
        }
    }
}

impl Listener for Memory {
    fn notice(&self, notice: &Notice) {
        self.0.borrow_mut().push(notice.to_string());
    }
}

#[test]
fn the_examples_run() {
    let place = tempfile::tempdir().unwrap();
    let config = config(place.path());
    let trained = example("train")
        .arg(&config)
        .arg("train.max_updates=3")
        .output()
        .unwrap();
    let told = String::from_utf8(trained.stdout).unwrap();
    assert!(trained.status.success(), "{}", String::from_utf8_lossy(&trained.stderr));
    assert!(
        told.starts_with("3 updates, ") && told.contains("exact match "),
        "{told}"
    );
    // A library prints nothing by itself.
    assert!(
        trained.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&trained.stderr)
    );

    let mut translate = example("translate")
        .arg(place.path().join("run"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    translate.stdin.take().unwrap().write_all(b"red cat dog\n\n").unwrap();
    let translated = translate.wait_with_output().unwrap();
    assert!(translated.status.success());
    assert_eq!(String::from_utf8(translated.stdout).unwrap().lines().count(), 2);
}

/// An encoder alone fills every gap, also those that only the words after them can tell.
#[test]
fn an_encoder_alone_sees_both_sides() {
    let filled = example("encoder_alone").output().unwrap();
    let told = String::from_utf8(filled.stdout).unwrap();
    assert!(filled.status.success(), "{}", String::from_utf8_lossy(&filled.stderr));
    assert!(
        told.ends_with("60 of 60 gaps are filled with the right word\n"),
        "{told}"
    );
}

#[test]
fn a_run_is_told_stopped_and_resumed() {
    let place = tempfile::tempdir().unwrap();
    let memory = Memory::default();
    let ready = Training::new(composed(place.path())).prepare(&memory).unwrap();
    // A second process must wait until the run is dropped.
    let second = Training::new(composed(place.path()))
        .begin(Begin::Overwrite)
        .prepare(&Silent);
    assert!(
        second
            .err()
            .unwrap()
            .to_string()
            .contains("another process is training here")
    );
    let stopped = ready.run(&memory, &AtomicBool::new(true)).unwrap();
    assert_eq!(stopped.ending, Ending::Interrupted);
    assert!(stopped.test.is_empty());

    // An existing run is not replaced by accident.
    let again = Training::new(composed(place.path())).run(&Silent).unwrap_err();
    assert!(again.to_string().contains("there is a run already"), "{again}");

    let trained = Training::new(composed(place.path()))
        .begin(Begin::Resume)
        .run(&memory)
        .unwrap();
    assert_eq!((trained.ending, trained.update), (Ending::Finished, 6));
    assert_eq!((trained.spent.processes, trained.spent.killed), (2, 0));
    let test = &trained.test[0];
    assert_eq!((test.lines, test.beam, test.scores.len()), (60, 2, 2));
    let told = memory.0.into_inner();
    for part in [
        "learned ",
        "60 training pairs, ",
        "resuming ",
        "validated 6",
        "training ends after update 6",
    ] {
        assert!(told.iter().any(|line| line.starts_with(part)), "{part}\n{told:#?}");
    }

    let model = SavedModel::find(&place.path().join("run").display().to_string(), &hub(&place), &Silent).unwrap();
    assert_eq!(model.decode_config().beam, 2);
    let translator = model.translator().unwrap();
    // A server shares the translator.
    let answers: Vec<String> = std::thread::scope(|scope| {
        let ask = || translator.translate(&["blue bird"], 0).unwrap()[0].text().to_owned();
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(answers[0], answers[1]);
}

fn hub(place: &tempfile::TempDir) -> tallow::Hub {
    tallow::Hub::offline(place.path().join("cache"))
}

#[test]
fn errors_can_be_told_apart() {
    let place = tempfile::tempdir().unwrap();
    let resumed = Training::new(composed(place.path())).begin(Begin::Resume).run(&Silent);
    assert!(matches!(resumed, Err(Error::NoRun { .. })), "{resumed:?}");
    let faulty = Config::compose(config(place.path()), &["train.max_updates=0", "model.heads=3"]);
    match faulty.unwrap_err() {
        Error::Config { faults, .. } => assert_eq!(faults.len(), 3, "{faults:?}"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(
        Config::compose(config(place.path()), &["x"]),
        Err(Error::Usage(_))
    ));
    let missing = SavedModel::at(place.path().join("none"), &Silent).unwrap_err();
    assert!(missing.to_string().contains("there is no such run"), "{missing}");
    // The network is never used without permission.
    let offline = SavedModel::find("owner/name", &hub(&place), &Silent)
        .unwrap_err()
        .whole();
    assert!(offline.contains("is not in the cache"), "{offline}");
}
