//! The progress of a command while it works.

use crate::status_line::{Bar, Part, status_line, terminal_width};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use std::fmt::Write;
use std::io::{IsTerminal, stderr, stdout};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tallow::humanize::{duration, thousands};
use tallow_decode::DecodeConfig;

/// The interval between redraws of a moving line.
const TICK: Duration = Duration::from_millis(120);

/// Work that takes at least this long tells how much time is left.
const LONG: Duration = Duration::from_secs(10);

const FRAMES: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];

/// A line on a terminal at standard error: the current work, its progress and the time spent so far. The line
/// disappears when this value is dropped.
pub(crate) struct Activity {
    manner: Manner,
    /// Set while work is in progress.
    bar: Option<ProgressBar>,
    now: Arc<Mutex<Now>>,
}

/// The ways to show progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// A line that is redrawn.
    Moving,
    /// A new line for each stage.
    Lines,
    /// Nothing, because another program writes to the same terminal.
    Silent,
}

impl Manner {
    fn of(may_show: bool, is_terminal: bool, has_cursor: bool) -> Self {
        match (is_terminal, may_show, has_cursor) {
            (true, false, _) => Self::Silent,
            (true, true, true) => Self::Moving,
            _ => Self::Lines,
        }
    }
}

/// The contents of the line.
#[derive(Clone, Debug)]
struct Now {
    what: String,
    begin: Instant,
    /// The number of finished items, and the total number if it is known.
    count: Option<(u64, Option<u64>)>,
    /// The number of items that were finished when the work began.
    before: u64,
    /// The name of the counted items.
    unit: &'static str,
    tokens_per_second: Option<f64>,
}

impl Now {
    fn new(what: String) -> Self {
        Self {
            what,
            begin: Instant::now(),
            count: None,
            before: 0,
            unit: "",
            tokens_per_second: None,
        }
    }

    /// The line for a terminal of this width. The name of the work matters most, then the count, the time, the bar, and
    /// the speed.
    fn line(&self, width: usize, elapsed: Duration) -> String {
        let frame = FRAMES[(elapsed.as_millis() / TICK.as_millis()) as usize % FRAMES.len()];
        let mut parts = vec![Part::new(4, 0, format!("{frame} {}", self.what))];
        let mut share = None;
        if let Some((done, all)) = self.count {
            let count = match all {
                Some(all) => format!("{}/{}", thousands(done as f64), thousands(all as f64)),
                None => thousands(done as f64),
            };
            parts.push(Part::new(3, 0, format!("{count} {}", self.unit)));
            share = all.map(|all| done as f64 / all.max(1) as f64);
        }
        if let Some(speed) = self.tokens_per_second {
            parts.push(Part::new(0, 12, format!("{} tok/s", thousands(speed))));
        }
        let seconds = elapsed.as_secs();
        match seconds {
            0 => {}
            1..60 => parts.push(Part::new(2, 14, format!("{seconds} s"))),
            _ => parts.push(Part::new(2, 14, duration(seconds as f64))),
        }
        if let Some(left) = self.seconds_left(elapsed) {
            parts.push(Part::new(1, 16, format!("{} left", duration(left))));
        }
        status_line(width, share.map(|share| Bar { share, weight: 1 }), &parts)
    }

    /// The time that the rest will take, if it is long enough to be worth telling.
    fn seconds_left(&self, elapsed: Duration) -> Option<f64> {
        let (done, all) = self.count?;
        let fresh = done.checked_sub(self.before).filter(|fresh| *fresh > 0)?;
        let left = elapsed.as_secs_f64() * all?.saturating_sub(done) as f64 / fresh as f64;
        (elapsed + Duration::from_secs_f64(left) >= LONG && left >= 1.0).then_some(left)
    }

    /// The progress in words, for a line of its own.
    fn told(&self, elapsed: Duration) -> Option<String> {
        let (done, all) = self.count?;
        let of_all = all.map_or(String::new(), |all| format!(" of {}", thousands(all as f64)));
        let speed = done.saturating_sub(self.before) as f64 / elapsed.as_secs_f64().max(1e-3);
        let left = self
            .seconds_left(elapsed)
            .map_or(String::new(), |left| format!(", {} left", duration(left)));
        let unit = self.unit;
        Some(format!(
            "{}: {}{of_all} {unit}, {speed:.1} {unit}/s{left}",
            self.what,
            thousands(done as f64)
        ))
    }
}

impl Activity {
    /// Shows nothing before work begins. On a terminal, shows nothing at all unless `may_show`.
    pub(crate) fn new(may_show: bool) -> Self {
        // On a dumb terminal nothing can be redrawn, and indicatif would hide the line.
        let has_cursor = !ProgressDrawTarget::stderr().is_hidden();
        Self {
            manner: Manner::of(may_show, stderr().is_terminal(), has_cursor),
            bar: None,
            now: Arc::new(Mutex::new(Now::new(String::new()))),
        }
    }

    /// For a command that writes output while it works. If the output goes into a pipe, nothing is shown on a terminal,
    /// because the reading program, for example a pager, may write to the same terminal.
    pub(crate) fn beside_output(may_show: bool) -> Self {
        Self::new(may_show && !is_pipe())
    }

    /// Shows a new piece of work in place of the last one.
    pub(crate) fn begin(&mut self, what: impl Into<String>) {
        self.end();
        self.change(|now| *now = Now::new(what.into()));
        let now = self.now.clone();
        let line = move |_: &ProgressState, out: &mut dyn Write| {
            let now = now.lock().unwrap_or_else(PoisonError::into_inner).clone();
            // If a line cannot be written, the next one replaces it.
            let _ = out.write_str(&now.line(terminal_width(), now.begin.elapsed()));
        };
        if let (Manner::Moving, Ok(style)) = (self.manner, ProgressStyle::with_template("{line}")) {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.set_style(style.with_key("line", line));
            bar.enable_steady_tick(TICK);
            self.bar = Some(bar);
        }
    }

    /// Shows a new piece of work. If no line can be redrawn, prints it as a line of its own.
    pub(crate) fn stage(&mut self, what: &str) {
        match self.manner {
            Manner::Moving => self.begin(what),
            Manner::Lines | Manner::Silent => self.tell(what),
        }
    }

    /// Prints work as a line, without a moving line: for work that writes messages itself.
    pub(crate) fn tell(&mut self, what: &str) {
        self.end();
        if self.manner == Manner::Silent {
            return;
        }
        // Written in one piece, because the program that reads standard output may write to the same terminal.
        let line = format!("{what} ...\n");
        eprint!("{line}");
    }

    /// Shows how many items are done. The first count of a piece of work is the number that were done before it began.
    pub(crate) fn count(&self, done: u64, all: Option<u64>, unit: &'static str) {
        self.change(|now| {
            if now.count.is_none() {
                now.before = done;
            }
            (now.count, now.unit) = (Some((done, all)), unit);
        });
    }

    /// Prints the progress as a line of its own, if no line can be redrawn.
    pub(crate) fn tell_progress(&self) {
        let now = self.now.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if self.manner == Manner::Lines
            && let Some(told) = now.told(now.begin.elapsed())
        {
            eprintln!("{told}");
        }
    }

    pub(crate) fn speed(&self, tokens_per_second: f64) {
        self.change(|now| now.tokens_per_second = Some(tokens_per_second));
    }

    fn change(&self, change: impl FnOnce(&mut Now)) {
        change(&mut self.now.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Hides the line while something else is written.
    pub(crate) fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// Removes the line until new work begins.
    pub(crate) fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Activity {
    fn drop(&mut self) {
        self.end();
    }
}

/// A summary of a translation: its size and its speed.
pub(crate) fn summary(model: &Path, lines: u64, search: &DecodeConfig, tokens: usize, spent: Duration) -> String {
    let seconds = spent.as_secs_f64();
    let speed = if seconds > 0.0 { tokens as f64 / seconds } else { 0.0 };
    format!(
        "{}: {lines} lines, {}, {} tokens/s, {}",
        model.display(),
        search.summary(),
        thousands(speed),
        duration(seconds)
    )
}

/// Whether standard output goes into a pipe to another program.
fn is_pipe() -> bool {
    #[cfg(unix)]
    {
        use std::os::fd::AsFd;
        use std::os::unix::fs::FileTypeExt;
        let output = stdout().as_fd().try_clone_to_owned().map(std::fs::File::from);
        let kind = output
            .and_then(|output| output.metadata())
            .map(|found| found.file_type());
        kind.is_ok_and(|kind| kind.is_fifo() || kind.is_socket())
    }
    #[cfg(not(unix))]
    {
        !stdout().is_terminal()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_it_is_said() {
        for (may_show, is_terminal, has_cursor, expected) in [
            (true, true, true, Manner::Moving),
            // On a dumb terminal.
            (true, true, false, Manner::Lines),
            // Into a file.
            (true, false, false, Manner::Lines),
            // The output goes into a pager on the same terminal.
            (false, true, true, Manner::Silent),
            (false, true, false, Manner::Silent),
            // Both go into pipes.
            (false, false, false, Manner::Lines),
        ] {
            let found = Manner::of(may_show, is_terminal, has_cursor);
            assert_eq!(found, expected, "{may_show} {is_terminal} {has_cursor}");
        }
    }

    #[test]
    fn what_the_line_says() {
        let now = |count, tokens_per_second| Now {
            count,
            tokens_per_second,
            unit: "lines",
            ..Now::new("translating".into())
        };
        let line = |now: &Now, width, seconds| now.line(width, Duration::from_secs(seconds));
        let begun = now(None, None);
        assert_eq!(line(&begun, 80, 0), "⠋ translating");
        // 25 s are 208 ticks of 120 ms, and a turn has ten frames.
        assert_eq!(line(&begun, 80, 25), "⠇ translating  25 s");
        assert_eq!(line(&begun, 18, 25), "⠇ translating");
        assert_eq!(line(&begun, 8, 25), "⠇ trans…");
        // The total number is unknown for a stream.
        let stream = now(Some((8192, None)), Some(1234.0));
        assert_eq!(
            line(&stream, 80, 85),
            "⠇ translating  8,192 lines  1,234 tok/s  1:25 min"
        );
        // The total number is known for a file. The widths are 13 + 18 + 12 + 14, and gaps of 2 beside the bar.
        let file = Now {
            before: 1000,
            ..now(Some((4096, Some(10_000))), Some(1234.0))
        };
        // 3,096 lines took 25 s, so 5,904 take 47.7 s.
        let told = "⠇ translating  4,096/10,000 lines  1,234 tok/s  25 s  48 s left";
        assert_eq!(line(&file, 68, 25), told);
        assert!(line(&file, 100, 25).ends_with(told));
        let in_words = file.told(Duration::from_secs(25)).unwrap();
        assert_eq!(in_words, "translating: 4,096 of 10,000 lines, 123.8 lines/s, 48 s left");
        assert_eq!(
            now(Some((8192, None)), None).told(Duration::from_secs(8)).unwrap(),
            "translating: 8,192 lines, 1024.0 lines/s"
        );
        for width in 0..200 {
            assert!(console::measure_text_width(&line(&file, width, 100_000)) <= width);
        }
    }
}
