//! Several processes that train together, started by `mpirun`. Needs the feature `mpi` and an MPI library; without
//! them, only what the program says then is tested, and the other tests say that they are skipped. The same trainer is
//! tested with threads in place of processes in `tallow-train`, always.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // Helpers may panic like the test itself.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const TALLOW: &str = env!("CARGO_BIN_EXE_tallow");

/// Whether processes can be started; otherwise prints why not.
fn can_start() -> bool {
    if cfg!(not(feature = "mpi")) {
        println!("skipped: built without the feature mpi (cargo test -p tallow-cli --features mpi --test ranks)");
        return false;
    }
    let found = Command::new("mpirun").arg("--version").output();
    if !found.is_ok_and(|output| output.status.success()) {
        println!("skipped: there is no mpirun here (Debian: openmpi-bin)");
        return false;
    }
    true
}

/// A folder with a corpus, and a config that uses every feature with a state.
fn project() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let lines = |words: [&str; 5]| -> String {
        let line = |i: usize| format!("{} {} {}\n", words[i % 5], words[i / 5 % 5], words[i / 25 % 5]);
        (0..120).map(line).collect()
    };
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("a.en", &lines(["one", "two", "three", "four", "five"]));
    write("a.de", &lines(["eins", "zwei", "drei", "vier", "fünf"]));
    let config = "[text]\nvocabulary = 300\nbpe_dropout = 0.3\n[data]\nbatch_tokens = 150\n\
                  train = [{ source = \"a.en\", target = \"a.de\" }]\nvalid = { source = \"a.en\", target = \"a.de\" }\n\
                  test = { source = \"a.en\", target = \"a.de\" }\n\
                  [model]\nd_model = 64\nheads = 2\nfeed_forward = 128\nencoder_layers = 2\ndecoder_layers = 2\n\
                  [train]\nmax_updates = 12\nwarmup_updates = 10\nlog_every = 1\ncheckpoint_every = 3\nvalidate_every = 6\n\
                  keep_last = 2\naccumulate = 2\nema_decay = 0.9\nr_drop = 0.5\nmetric = \"chrf\"\naverage_last = 2\n\
                  [decode]\nbeam = 1\nmax_length = 8\n";
    write("run.toml", config);
    folder
}

/// `mpirun` in a folder, with so many processes of each of some commands.
fn mpirun(at: &Path, ranks: usize, commands: &[Vec<&str>]) -> Command {
    let mut command = Command::new("mpirun");
    command
        .current_dir(at)
        .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
        .args(["--oversubscribe", "--bind-to", "none"]);
    for (number, arguments) in commands.iter().enumerate() {
        if number > 0 {
            command.arg(":");
        }
        command.args(["-n", &ranks.to_string(), TALLOW]).args(arguments);
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// `tallow train run.toml` with so many processes, with other settings for each process if several are given.
fn train(at: &Path, ranks: usize, of_processes: &[&[&str]]) -> Command {
    let commands: Vec<Vec<&str>> = of_processes
        .iter()
        .map(|settings| [&["train", "run.toml"], *settings].concat())
        .collect();
    mpirun(at, ranks / of_processes.len(), &commands)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn trained(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    said(&output)
}

/// Everything of a run that must not differ.
fn result(run: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![run.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(run).unwrap().to_str().unwrap().to_owned();
            // Its name is in the config and in the card.
            let is_named = ["config.toml", "run.json", "SHA256SUMS"]
                .contains(&path.file_name().unwrap().to_str().unwrap())
                || name.ends_with("README.md");
            if path.is_dir() {
                folders.push(path);
            } else if !is_named
                && !name.starts_with("timing")
                && !name.starts_with("events")
                && !name.contains("state.json")
            {
                files.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    assert!(files.keys().any(|name| name.ends_with("moments.safetensors")));
    assert!(files.contains_key("best/model.safetensors") && files.contains_key("metrics.jsonl"));
    files
}

fn assert_same(found: &BTreeMap<String, Vec<u8>>, expected: &BTreeMap<String, Vec<u8>>, of: &str) {
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>(),
        "{of}"
    );
    for (name, bytes) in found {
        assert!(expected[name] == *bytes, "{of}: {name} differs");
    }
}

#[test]
fn any_number_of_processes_gives_the_same_bits() {
    if !can_start() {
        return;
    }
    let folder = project();
    let at = folder.path();
    let run = |ranks: usize, workers: usize, extra: &[&str]| {
        let name = format!("output=runs/{ranks}x{workers}{}", extra.len());
        let workers = format!("train.workers={workers}");
        let settings = [&["--set", &name, "--set", &workers], extra].concat();
        let output = match ranks {
            1 => Command::new(TALLOW)
                .current_dir(at)
                .args(["train", "run.toml"])
                .args(&settings)
                .output()
                .unwrap(),
            _ => train(at, ranks, &[&settings]).output().unwrap(),
        };
        assert!(output.status.success(), "{}", said(&output));
        // Of all ranks, one prints.
        let text = said(&output);
        assert_eq!(text.matches("training ends after update 12").count(), 1, "{text}");
        assert_eq!(
            String::from_utf8(output.stdout).unwrap().matches("exact match").count(),
            1
        );
        result(&at.join(name.trim_start_matches("output=")))
    };
    let alone = run(1, 4, &[]);
    for (ranks, workers) in [(2, 2), (4, 1)] {
        assert_same(&run(ranks, workers, &[]), &alone, &format!("{ranks} x {workers}"));
    }
    let whole_moments = ["--set", "train.shard_optimizer=false"];
    assert_same(&run(4, 1, &whole_moments), &alone, "4 x 1 without shards");
}

#[test]
fn processes_that_do_not_fit_say_so_once() {
    if !can_start() {
        return;
    }
    let folder = project();
    let output = train(folder.path(), 2, &[&["--set", "seed=1"], &["--set", "seed=2"]])
        .output()
        .unwrap();
    let text = said(&output);
    assert!(!output.status.success());
    assert!(
        text.contains("rank 1 (host ") && text.contains("seed: 2 instead of 1"),
        "{text}"
    );
    assert_eq!(text.matches("error:").count(), 1, "{text}");
    assert!(!folder.path().join("runs/run").exists());
    // A fault that all have.
    let output = train(folder.path(), 2, &[&["--set", "data.train=[]"]])
        .output()
        .unwrap();
    assert_eq!(said(&output).matches("error:").count(), 1, "{}", said(&output));
}

/// The processes of a group, once it trains.
#[cfg(target_os = "linux")]
fn ranks_of(mpirun: &Child, ranks: usize) -> Vec<u32> {
    let path = format!("/proc/{0}/task/{0}/children", mpirun.id());
    let begin = Instant::now();
    loop {
        let children = std::fs::read_to_string(&path).unwrap_or_default();
        let is_rank = |process: &u32| {
            let name = std::fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
            name.trim() == "tallow"
        };
        let found: Vec<u32> = children
            .split_whitespace()
            .map(|id| id.parse().unwrap())
            .filter(is_rank)
            .collect();
        if found.len() == ranks {
            return found;
        }
        assert!(begin.elapsed() < Duration::from_secs(30), "{children}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(target_os = "linux")]
fn signal(process: u32, name: &str) {
    let status = Command::new("kill")
        .args([name, &process.to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

/// Waits for a text in a file.
#[cfg(target_os = "linux")]
fn wait_for(path: &Path, text: &str) {
    let begin = Instant::now();
    while !std::fs::read_to_string(path).is_ok_and(|found| found.contains(text)) {
        assert!(
            begin.elapsed() < Duration::from_secs(60),
            "{} has no {text}",
            path.display()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

const LONG: [&str; 4] = ["--set", "train.max_updates=2000", "--set", "train.validate_every=2000"];

#[cfg(target_os = "linux")]
#[test]
fn a_signal_to_all_saves_and_stops_them() {
    if !can_start() {
        return;
    }
    let folder = project();
    let at = folder.path();
    let settings = [&LONG[..], &["--set", "train.workers=1"]].concat();
    let mpirun = train(at, 2, &[&settings]).spawn().unwrap();
    wait_for(&at.join("runs/run/metrics.jsonl"), "\"update\":2,");
    signal(mpirun.id(), "-USR1");
    let output = mpirun.wait_with_output().unwrap();
    assert!(said(&output).contains("everything is saved"), "{}", said(&output));
    // Goes on with one process of two workers.
    let last = ["--set", "train.max_updates=60", "--set", "train.validate_every=60"];
    let resumed = [&last[..], &["--set", "train.workers=2", "--resume"]].concat();
    let output = Command::new(TALLOW)
        .current_dir(at)
        .args(["train", "run.toml"])
        .args(&resumed)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
}

/// Kills a rank at a random moment, again and again, and resumes with another dealing of the same workers each time.
#[cfg(target_os = "linux")]
#[test]
fn a_killed_rank_costs_no_checkpoint() {
    if !can_start() {
        return;
    }
    let settings = ["--set", "train.max_updates=150", "--set", "train.validate_every=50"];
    let folder = project();
    let at = folder.path();
    let whole = [
        &settings[..],
        &["--set", "train.workers=2", "--set", "output=runs/whole"],
    ]
    .concat();
    let output = Command::new(TALLOW)
        .current_dir(at)
        .args(["train", "run.toml"])
        .args(&whole)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let mut random = 88172645463325252u64;
    let mut kills = 0;
    let mut is_done = false;
    for attempt in 0..60 {
        let (ranks, workers) = if attempt % 3 == 2 {
            (1, "train.workers=2")
        } else {
            (2, "train.workers=1")
        };
        let begin = if attempt == 0 { &[][..] } else { &["--resume"][..] };
        let all = [&settings[..], &["--set", workers], begin].concat();
        let mut child = match ranks {
            1 => Command::new(TALLOW)
                .current_dir(at)
                .args(["train", "run.toml"])
                .args(&all)
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap(),
            _ => train(at, ranks, &[&all]).spawn().unwrap(),
        };
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(400 + random % 1500) && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(10));
        }
        if child.try_wait().unwrap().is_none() && kills < 6 {
            let victims = if ranks == 1 {
                vec![child.id()]
            } else {
                ranks_of(&child, ranks)
            };
            signal(victims[random as usize / 7 % victims.len()], "-KILL");
            kills += 1;
        }
        let begun = Instant::now();
        let output = child.wait_with_output().unwrap();
        assert!(begun.elapsed() < Duration::from_secs(60) || output.status.success());
        if output.status.success() {
            is_done = true;
            break;
        }
    }
    assert!(is_done && kills >= 3, "{kills} kills");
    assert_same(
        &result(&at.join("runs/run")),
        &result(&at.join("runs/whole")),
        "after kills",
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_rank_that_hangs_ends_all_in_time() {
    if !can_start() {
        return;
    }
    for victim in [0, 1] {
        let folder = project();
        let at = folder.path();
        let settings = [
            &LONG[..],
            &["--set", "train.workers=1", "--set", "train.rank_timeout=2"],
        ]
        .concat();
        let mpirun = train(at, 2, &[&settings]).spawn().unwrap();
        wait_for(&at.join("runs/run/metrics.jsonl"), "\"update\":7,");
        signal(ranks_of(&mpirun, 2)[victim], "-STOP");
        let begin = Instant::now();
        let output = mpirun.wait_with_output().unwrap();
        assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
        assert!(!output.status.success());
        let text = said(&output);
        assert!(
            text.contains(&format!("rank {victim} did not answer for 2 seconds")),
            "{text}"
        );
        assert!(
            text.matches("error:").count() == 1 && !text.contains("panicked"),
            "{text}"
        );
        // The root's error says what is saved.
        assert!(victim == 0 || text.contains("the run is saved up to update"), "{text}");
    }
}

/// A program without MPI must not train the same run several times.
#[test]
fn without_mpi_the_program_says_what_to_build() {
    if cfg!(feature = "mpi") {
        println!("skipped: built with the feature mpi");
        return;
    }
    let folder = project();
    let launched = |arguments: &[&str]| {
        let mut command = Command::new(TALLOW);
        command.current_dir(folder.path()).args(arguments);
        command
            .env("OMPI_COMM_WORLD_RANK", "0")
            .env("OMPI_COMM_WORLD_SIZE", "2");
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        said(&output)
    };
    let text = launched(&["train", "run.toml"]);
    assert!(
        text.contains("2 processes were started together") && text.contains("--features mpi"),
        "{text}"
    );
    assert!(!folder.path().join("runs").exists());
    let text = launched(&["eval", "runs/run"]);
    assert!(
        text.contains("only `tallow train`, `translate` and `ablate` share their work"),
        "{text}"
    );
}

#[test]
fn one_process_of_a_launcher_trains_alone() {
    if !can_start() {
        return;
    }
    let folder = project();
    let text = trained(train(folder.path(), 1, &[&["--set", "train.workers=1"]]));
    assert!(text.contains("training ends after update 12"), "{text}");
}

#[test]
fn processes_share_a_translation_and_the_runs_of_an_ablation() {
    if !can_start() {
        return;
    }
    let folder = project();
    let at = folder.path();
    let alone = |arguments: &[&str]| {
        let output = Command::new(TALLOW).current_dir(at).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        output.stdout
    };
    let together = |arguments: &[&str]| {
        let output = mpirun(at, 3, &[arguments.to_vec()]).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        output.stdout
    };
    alone(&["train", "run.toml", "--set", "train.workers=1"]);
    let sampled = [
        "translate",
        "runs/run",
        "--input",
        "a.en",
        "--sample",
        "--seed",
        "3",
        "--format",
        "json",
    ];
    let expected = alone(&sampled);
    assert!(together(&sampled) == expected);
    let to_file = [
        "translate",
        "runs/run",
        "--input",
        "a.en",
        "--beam",
        "3",
        "--alignments",
    ];
    alone(&[&to_file[..], &["one.align", "--output", "one"]].concat());
    together(&[&to_file[..], &["three.align", "--output", "three"]].concat());
    for (one, three) in [("one", "three"), ("one.align", "three.align")] {
        let read = |name: &str| std::fs::read(at.join(name)).unwrap();
        assert!(!read(one).is_empty() && read(one) == read(three), "{one}");
    }
    // Other searches are no common work.
    let commands = [
        vec!["translate", "runs/run", "--input", "a.en"],
        vec!["translate", "runs/run", "--beam", "2"],
    ];
    let output = mpirun(at, 1, &commands).output().unwrap();
    let text = said(&output);
    assert!(text.contains("rank 1 (host ") && text.contains("search: "), "{text}");

    let ablation = |output: &str| {
        let settings = [
            "--set",
            "train.max_updates=3",
            "--set",
            "train.workers=1",
            "--set",
            "train.average_last=0",
        ];
        let parts = ["--seeds", "2", "--only", "residual", "--json", "--output"];
        let arguments = [&["ablate", "run.toml"], &settings[..], &parts, &[output]].concat();
        let found = match output {
            "alone" => alone(&arguments),
            _ => together(&arguments),
        };
        let found: serde_json::Value = serde_json::from_slice(&found).unwrap();
        let rows = found["rows"].as_array().unwrap().clone();
        let mut runs: Vec<serde_json::Value> = rows
            .iter()
            .flat_map(|row| row["runs"].as_array().unwrap().clone())
            .collect();
        runs.sort_by_key(ToString::to_string);
        runs
    };
    let expected = ablation("alone");
    assert_eq!(expected.len(), 4);
    assert_eq!(ablation("together"), expected);
}

/// A run that fails by itself ends all processes, with one error.
#[test]
fn a_run_that_diverges_ends_all() {
    if !can_start() {
        return;
    }
    let folder = project();
    let settings = [
        "--set",
        "train.learning_rate=1e30",
        "--set",
        "train.warmup_updates=0",
        "--set",
        "train.max_skipped=400",
        "--set",
        "train.max_updates=2000",
        "--set",
        "train.workers=1",
        "--set",
        "train.metric=\"loss\"",
        "--set",
        "train.patience=0",
    ];
    let output = train(folder.path(), 3, &[&settings]).output().unwrap();
    let text = said(&output);
    assert!(!output.status.success());
    assert!(text.contains("400 times in a row"), "{text}");
    assert!(
        text.matches("error:").count() == 1 && !text.contains("panicked"),
        "{text}"
    );
}

#[test]
fn help_and_wrong_usage_are_told_once() {
    if !can_start() {
        return;
    }
    let folder = project();
    let output = mpirun(folder.path(), 2, &[vec!["train", "--help"]]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).matches("Usage:").count(), 1);
    let output = mpirun(folder.path(), 2, &[vec!["train", "run.toml", "--no-such-flag"]])
        .output()
        .unwrap();
    assert_eq!(
        said(&output).matches("error: unexpected argument").count(),
        1,
        "{}",
        said(&output)
    );
}
