//! The shells' proposals, from the shells themselves.
// Helpers of a test may panic like the test itself.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::path::Path;
use std::process::{Command, Output};

fn script(shell: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_tallow"))
        .args(["completions", shell])
        .output()
        .unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

/// Asks bash to complete the last of these words, divided as bash divides a line.
fn bash(at: &Path, words: &[&str]) -> Option<Vec<String>> {
    let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let [.., before, last] = words else { panic!("{words:?}") };
    // Directly after the sign of --set=, nothing has been typed.
    let typed = if *last == "=" { "" } else { last };
    let ask = format!(
        "source ./tallow.bash\nCOMP_WORDS=({})\nCOMP_CWORD={}\n_tallow_values tallow '{typed}' '{before}'\n\
         printf '%s\\n' \"${{COMPREPLY[@]}}\"\n",
        quoted.join(" "),
        words.len() - 1,
    );
    let asked = Command::new("bash")
        .current_dir(at)
        .args(["--norc", "--noprofile", "-c", &ask])
        .output();
    let Ok(Output { stdout, stderr, .. }) = asked else {
        println!("there is no bash: nothing is tested");
        return None;
    };
    assert!(stderr.is_empty(), "{}", String::from_utf8_lossy(&stderr));
    let mut proposed: Vec<String> = String::from_utf8(stdout).unwrap().lines().map(str::to_owned).collect();
    proposed.retain(|word| !word.is_empty());
    proposed.sort();
    Some(proposed)
}

#[test]
fn bash_completes_keys_configs_and_models() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    std::fs::write(at.join("tallow.bash"), script("bash")).unwrap();
    for name in ["my run.toml", "my notes.txt"] {
        std::fs::write(at.join(name), "").unwrap();
    }
    for name in ["runs", "my models"] {
        std::fs::create_dir(at.join(name)).unwrap();
    }
    for (words, expected) in [
        // Keys, with the equals sign and without a space: all keys, or those of the search.
        (&["train", "--set", "train.warm"][..], &["train.warmup_updates="][..]),
        (&["check", "x.toml", "--set", "=", "init"], &["init="]),
        (&["tokenizer", "train", "--set", "text.k"], &["text.kind="]),
        (&["translate", "m", "--set", "decode.be"], &["decode.beam="]),
        (&["translate", "m", "--set", "train.warm"], &[]),
        // Configs are TOML files, models are directories.
        (&["train", "my"], &["my models", "my run.toml"]),
        (&["explain", ""], &["my models", "my run.toml", "runs"]),
        (&["translate", ""], &["my models", "runs"]),
        (&["eval", "r"], &["runs"]),
        // Proposals of clap itself.
        (&["verif"], &["verify"]),
        (&["train", "--over"], &["--overwrite"]),
        (&["translate", "m", "--format", "j"], &["json"]),
        (&["tokenizer", "enc"], &["encode"]),
    ] {
        let Some(found) = bash(at, &[&["tallow"], words].concat()) else {
            return;
        };
        assert_eq!(found, expected, "{words:?}");
    }
    let all = bash(at, &["tallow", "train", "--set", "="]).unwrap();
    for key in ["name=", "data.train=", "model.d_model=", "card.title="] {
        assert!(all.iter().any(|known| known == key), "{key} of {all:?}");
    }
    // Sections are not keys.
    assert!(all.len() > 80 && !all.iter().any(|known| known == "model="), "{all:?}");
}

/// Works without these shells: all intended replacements in clap's scripts were made.
#[test]
fn zsh_and_fish_know_the_keys() {
    let zsh = script("zsh");
    assert!(zsh.contains("local -a keys=(name= seed= ") && zsh.contains("local -a keys=(decode.beam= "));
    // train, clean, prepare, check, ablate, cost, explain, tokenizer train; translate, serve, eval, compare,
    // score-pairs.
    assert_eq!(zsh.matches(":KEY=VALUE:_tallow_keys'").count(), 8);
    assert_eq!(zsh.matches(":KEY=VALUE:_tallow_decode_keys'").count(), 5);
    assert_eq!(zsh.matches("file:_files -g \"*.toml\"'").count(), 8);
    let fish = script("fish");
    assert!(fish.contains(
        "\"__fish_tallow_using_subcommand train clean prepare check ablate cost explain\" -l set -x -a \"name= seed= "
    ));
    assert!(fish.contains(
        "\"__fish_tallow_using_subcommand translate serve eval compare score-pairs\" -l set -x -a \"decode.beam= "
    ));
    for (script, shell) in [(zsh, "zsh"), (fish, "fish"), (script("bash"), "bash")] {
        let open = ["@KEYS@", "@DECODE_KEYS@", "COMMANDS@", "@OPTIONS@"];
        assert!(!open.iter().any(|place| script.contains(place)), "{shell}");
    }
}
