//! A program of the user's own that scores the translations of a validation.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How often to look whether the program has ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The end of the program's output that is read: its number is in the last line.
const READ_AT_MOST: u64 = 1 << 16;
/// The end of the program's messages that a fault quotes, in characters.
const QUOTE_AT_MOST: usize = 200;

/// A program that prints a number for translations, of which more is better.
///
/// It gets three files of lines as its last arguments, source, translations and references, or in place of
/// `{source}`, `{translations}` and `{references}`. Its number is the last word of the last line of its output. A
/// program that fails, prints no number or takes too long gives no number, and harms nothing.
#[derive(Clone, Copy, Debug)]
pub struct ValidCommand<'a> {
    /// The program and its arguments.
    pub command: &'a [String],
    /// The program and all that it has started are killed after this time.
    pub limit: Duration,
    /// The folder for the files.
    pub folder: &'a Path,
}

/// The files that a program gets, by the names of their places.
const PLACES: [&str; 3] = ["{source}", "{translations}", "{references}"];

impl ValidCommand<'_> {
    /// Runs the program on a set, whose name becomes part of the names of files.
    ///
    /// # Errors
    /// A message for people, if there is no number.
    pub fn score(&self, set: Option<&str>, lines: [&[impl AsRef<str>]; 3]) -> Result<f64, String> {
        let in_words = |error: io::Error, path: &Path| format!("{}: {error}", path.display());
        std::fs::create_dir_all(self.folder).map_err(|error| in_words(error, self.folder))?;
        let prefix = set.map_or(String::new(), |set| format!("{set}."));
        let path = |name: &str| self.folder.join(format!("{prefix}{name}"));
        let files = ["source.txt", "translations.txt", "references.txt"].map(path);
        for (file, lines) in files.iter().zip(lines) {
            let mut text = String::new();
            for line in lines {
                text.push_str(line.as_ref());
                text.push('\n');
            }
            std::fs::write(file, text).map_err(|error| in_words(error, file))?;
        }
        let (output, messages) = (path("output.txt"), path("messages.txt"));
        let create = |path: &PathBuf| File::create(path).map_err(|error| in_words(error, path));
        let arguments = with_files(self.command, &files);
        let Some((program, arguments)) = arguments.split_first() else {
            return Err("it names no program".into());
        };
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(create(&output)?)
            .stderr(create(&messages)?);
        // A group of its own, so that all its processes can be killed, and so that ^C reaches only this one, which ends
        // after the update.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let begun = command.spawn().map_err(|error| format!("{program}: {error}"))?;
        let status = wait(begun, self.limit)?;
        if !status.success() {
            let said = tail(&messages).unwrap_or_default();
            return Err(format!(
                "{status}{}; {} has all of it",
                quoted(&said),
                messages.display()
            ));
        }
        let said = tail(&output).map_err(|error| in_words(error, &output))?;
        let last_line = said.lines().rev().find(|line| !line.trim().is_empty());
        let last_word = last_line.and_then(|line| line.split_whitespace().next_back());
        let number = last_word
            .and_then(|word| word.parse().ok())
            .filter(|number: &f64| number.is_finite());
        number.ok_or_else(|| {
            format!(
                "the last word of its output is no number{}",
                quoted(last_line.unwrap_or_default())
            )
        })
    }
}

/// The command with its files.
fn with_files(command: &[String], files: &[PathBuf; 3]) -> Vec<String> {
    let files = files.each_ref().map(|file| file.to_string_lossy().into_owned());
    let has_places = |argument: &String| PLACES.iter().any(|place| argument.contains(place));
    if !command.iter().any(has_places) {
        return command.iter().cloned().chain(files).collect();
    }
    let fill = |argument: &String| {
        let places = PLACES.iter().zip(&files);
        places.fold(argument.clone(), |filled, (place, file)| filled.replace(place, file))
    };
    command.iter().map(fill).collect()
}

/// Waits for the end of a program, and kills it with all that it has started after the limit.
fn wait(mut child: Child, limit: Duration) -> Result<ExitStatus, String> {
    let begin = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) => {}
            Err(error) => {
                kill(&mut child);
                return Err(error.to_string());
            }
        }
        if begin.elapsed() >= limit {
            kill(&mut child);
            return Err(format!(
                "it was killed after {} seconds (train.valid_command_seconds)",
                limit.as_secs()
            ));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Kills a program and all of its group. Processes that have left the group live on, and nobody waits for them.
fn kill(child: &mut Child) {
    #[cfg(unix)]
    if let Some(group) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
        // It may just have ended by itself.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// The end of a file as text.
fn tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(READ_AT_MOST)))?;
    let mut bytes = Vec::new();
    file.take(READ_AT_MOST).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The last line of a message, as part of a sentence.
fn quoted(message: &str) -> String {
    let last = message.lines().rev().find(|line| !line.trim().is_empty());
    match last.map(str::trim) {
        None => String::new(),
        Some(line) => format!(": {:?}", line.chars().take(QUOTE_AT_MOST).collect::<String>()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(script: &str, limit: Duration) -> Result<f64, String> {
        let place = tempfile::tempdir().unwrap();
        let command = ["sh", "-c", script, "sh"].map(String::from);
        let lines: [&[&str]; 3] = [&["a b", "c"], &["x", "y"], &["z", "y"]];
        let command = ValidCommand {
            command: &command,
            limit,
            folder: &place.path().join("validation"),
        };
        command.score(Some("news"), lines)
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn the_last_word_is_the_number() {
        assert_eq!(score("echo 1; echo hyp.txt score: -0.25; echo", LONG), Ok(-0.25));
        // The three files are the last arguments.
        let script = "paste -d' ' \"$1\" \"$2\" \"$3\" | head -1 | grep -qx 'a b x z' && echo 7";
        assert_eq!(score(script, LONG), Ok(7.0));
    }

    #[test]
    fn files_in_places() {
        let command = ["score", "-s={source}", "{references}"].map(String::from);
        let files = ["s", "t", "r"].map(PathBuf::from);
        assert_eq!(with_files(&command, &files), ["score", "-s=s", "r"]);
        assert_eq!(with_files(&command[..1], &files), ["score", "s", "t", "r"]);
    }

    #[test]
    fn faults_are_messages() {
        for (script, expected) in [
            ("echo one; echo two", "no number: \"two\""),
            ("true", "no number"),
            ("echo nan", "no number"),
            ("echo oh no >&2; exit 3", "3: \"oh no\""),
            ("kill -9 $$", "signal: 9"),
            ("head -c 1000000 /dev/zero", "no number"),
        ] {
            let fault = score(script, LONG).unwrap_err();
            assert!(fault.contains(expected), "{script}: {fault}");
        }
        let place = tempfile::tempdir().unwrap();
        let command = ValidCommand {
            command: &["no-such-program-here".to_string()],
            limit: LONG,
            folder: place.path(),
        };
        let fault = command.score(None, [&["a"], &["b"], &["c"]]).unwrap_err();
        assert!(fault.starts_with("no-such-program-here: "), "{fault}");
    }

    #[test]
    fn what_takes_too_long_is_killed_with_all_of_its_processes() {
        let place = tempfile::tempdir().unwrap();
        let mark = place.path().join("alive");
        // The child would write the file long after the limit.
        let script = format!("(sleep 3; touch '{}') & sleep 100", mark.display());
        let begin = Instant::now();
        let fault = score(&script, Duration::from_millis(200)).unwrap_err();
        assert!(fault.contains("train.valid_command_seconds"), "{fault}");
        assert!(begin.elapsed() < Duration::from_secs(50));
        std::thread::sleep(Duration::from_millis(3500));
        assert!(!mark.exists());
    }
}
