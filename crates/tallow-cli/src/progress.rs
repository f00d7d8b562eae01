//! The display of training.

use crate::activity::Activity;
use crate::colour::{Stream, Tone, warning};
use crate::notices::say;
use crate::profile::table;
use crate::status_line::{Bar, Part, fit, status_line, terminal_width};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use std::cell::RefCell;
use std::fmt::Write;
use std::io::{IsTerminal, Write as _, stderr, stdout};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tallow::humanize::{duration, thousands};
use tallow::{Listener, Notice, TestScores, Work};
use tallow_train::{Ending, Event, Measure, Observer, Validation};

/// The interval between lines if there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// The number of columns of a sample if there is no terminal to take the width from.
const SAMPLE_COLUMNS: usize = 200;

/// A remaining time of more than a year is not shown.
const MOST_SECONDS: f64 = 365.0 * 86400.0;

/// A progress bar on a terminal, lines elsewhere. Both go to standard error.
pub(crate) struct Progress {
    bar: ProgressBar,
    terminal: bool,
    state: RefCell<State>,
    standing: Arc<Mutex<Standing>>,
    /// The reason why scores could not be printed. A listener has nobody to return it to.
    unprinted: RefCell<Option<std::io::Error>>,
    /// The work before training.
    work: RefCell<WorkShown>,
}

/// Work that is shown while it lasts.
struct WorkShown {
    activity: Activity,
    /// Empty if there is none.
    what: &'static str,
    last_line: Instant,
}

impl WorkShown {
    fn new() -> Self {
        Self {
            activity: Activity::new(true),
            what: "",
            last_line: Instant::now(),
        }
    }

    fn show(&mut self, work: &Work) {
        if self.what != work.what {
            self.activity.begin(work.what);
            (self.what, self.last_line) = (work.what, Instant::now());
        }
        self.activity.count(work.done, work.all, "lines");
        if self.last_line.elapsed() >= LINE_EVERY {
            self.activity.tell_progress();
            self.last_line = Instant::now();
        }
    }

    fn end(&mut self) {
        if !self.what.is_empty() {
            self.activity.end();
            self.what = "";
        }
    }
}

/// How many lines of work pass between two looks at it.
const LINES_OF_WORK: u64 = 256;

/// Sums since the last line, and the times for the speed.
struct State {
    last_line: Instant,
    loss: f64,
    target_tokens: f64,
    seconds: f64,
    max_updates: u64,
    first_update: u64,
    begin: Instant,
}

/// The progress of a run, for its bar.
#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    update: u64,
    max_updates: u64,
    seconds_left: Option<f64>,
    /// `None` before the first update.
    latest: Option<Latest>,
}

#[derive(Clone, Copy, Debug)]
struct Latest {
    loss: f64,
    target_tokens_per_second: f64,
    epoch: u64,
}

impl Standing {
    /// The line for a terminal of this width. The progress matters most, then the loss, the remaining time, the bar,
    /// the speed, and the epoch.
    fn line(&self, width: usize) -> String {
        let max = self.max_updates.to_string();
        let count = format!("{:>width$}/{max}", self.update, width = max.len());
        let mut parts = vec![Part::new(6, 0, count)];
        if let Some(latest) = self.latest {
            let speed = format!("{} tok/s", thousands(latest.target_tokens_per_second));
            parts.push(Part::new(5, 10, format!("loss {:.3}", latest.loss)));
            parts.push(Part::new(2, 12, speed));
            parts.push(Part::new(1, 8, format!("epoch {}", latest.epoch + 1)));
        }
        if let Some(seconds) = self.seconds_left {
            parts.push(Part::new(4, 14, format!("{} left", duration(seconds))));
        }
        let share = self.update as f64 / self.max_updates.max(1) as f64;
        status_line(width, Some(Bar { share, weight: 3 }), &parts)
    }
}

impl Progress {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        // Hidden, too, on a terminal that cannot move its cursor.
        let terminal = !bar.is_hidden();
        Self {
            bar,
            terminal,
            state: RefCell::new(State {
                last_line: now,
                loss: 0.0,
                target_tokens: 0.0,
                seconds: 0.0,
                max_updates: 0,
                first_update: 0,
                begin: now,
            }),
            standing: Arc::default(),
            unprinted: RefCell::default(),
            work: RefCell::new(WorkShown::new()),
        }
    }

    fn say(&self, line: &str) {
        if self.terminal {
            self.bar.println(line)
        } else {
            eprintln!("{line}")
        }
    }

    /// The error of standard output, if scores could not be printed.
    pub(crate) fn take_output_error(&self) -> Option<std::io::Error> {
        self.unprinted.take()
    }

    pub(crate) fn finish(&self) {
        self.work.borrow_mut().end();
        self.bar.finish_and_clear();
    }

    /// Shows a bar that takes the width of the terminal each time it is drawn.
    fn show(&self) {
        let standing = self.standing.clone();
        let line = move |state: &ProgressState, out: &mut dyn Write| {
            let mut standing = standing
                .lock()
                .map_or_else(|broken| *broken.into_inner(), |found| *found);
            let left = state.eta().as_secs_f64();
            // Nothing is known before the first updates.
            let is_known = (left > 0.0 || standing.update == standing.max_updates) && left < MOST_SECONDS;
            let is_known = is_known && standing.latest.is_some();
            standing.seconds_left = is_known.then_some(left);
            // If a line cannot be written, the next one replaces it.
            let _ = out.write_str(&standing.line(terminal_width()));
        };
        if let Ok(style) = ProgressStyle::with_template("{line}") {
            self.bar.set_style(style.with_key("line", line));
        }
    }

    /// Counts updates and time from this update on.
    fn begin(&self, update: u64) {
        let mut state = self.state.borrow_mut();
        (state.first_update, state.begin) = (update, Instant::now());
        self.stand(|standing| standing.update = update);
        self.bar.set_position(update);
        self.bar.reset_eta();
    }

    fn stand(&self, change: impl FnOnce(&mut Standing)) {
        change(&mut self.standing.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }

    fn updated(&self, update: u64, epoch: u64, loss: f64, target_tokens: usize, seconds: f64) {
        let mut state = self.state.borrow_mut();
        // A moving average over about twenty updates keeps the numbers readable.
        let weight = if state.target_tokens == 0.0 { 1.0 } else { 0.05 };
        state.loss += weight * (loss - state.loss);
        state.target_tokens += weight * (target_tokens as f64 - state.target_tokens);
        state.seconds += weight * (seconds - state.seconds);
        let speed = state.target_tokens / state.seconds;
        if self.terminal {
            self.stand(|standing| {
                standing.update = update;
                standing.latest = Some(Latest {
                    loss: state.loss,
                    target_tokens_per_second: speed,
                    epoch,
                });
            });
            self.bar.set_position(update);
        } else if state.last_line.elapsed() >= LINE_EVERY || update == 1 {
            let done = (update - state.first_update).max(1) as f64;
            let left = state.begin.elapsed().as_secs_f64() / done * (state.max_updates - update) as f64;
            let (loss, speed, left) = (state.loss, thousands(speed), duration(left));
            eprintln!(
                "update {update:>6}/{}  loss {loss:.3}  {speed} tok/s  epoch {}  {left} left",
                state.max_updates,
                epoch + 1
            );
            state.last_line = Instant::now();
        }
    }

    /// Prints a sample of a validation, one line for each of its texts.
    fn say_sample(&self, [source, hypothesis, reference]: &[String; 3]) {
        let mark = "     -> ";
        let width = if stderr().is_terminal() {
            terminal_width().saturating_sub(mark.len())
        } else {
            SAMPLE_COLUMNS
        };
        self.say(&format!("        {}", fit(source, width)));
        self.say(&format!("{mark}{}", fit(hypothesis, width)));
        if hypothesis != reference {
            self.say(&format!("     != {}", fit(reference, width)));
        }
    }
}

impl Observer for Progress {
    fn observe(&self, event: &Event) {
        match event {
            Event::Started {
                update,
                max_updates,
                workers,
                parameters,
            } => {
                self.work.borrow_mut().end();
                self.state.borrow_mut().max_updates = *max_updates;
                let millions = *parameters as f64 / 1e6;
                self.say(&format!(
                    "training {millions:.1} M parameters with {workers} workers, to update {max_updates}"
                ));
                self.stand(|standing| standing.max_updates = *max_updates);
                self.show();
                self.bar.set_length(*max_updates);
                self.begin(*update);
            }
            Event::Updated {
                update,
                epoch,
                loss,
                target_tokens,
                seconds,
                ..
            } => {
                self.updated(*update, *epoch, *loss, *target_tokens, *seconds);
            }
            Event::Skipped {
                update,
                loss,
                gradient_norm,
            } => {
                let what = format!("loss {loss}, gradient norm {gradient_norm}");
                let warning = warning();
                self.say(&format!("{warning} update {update} was left out: not finite ({what})"));
            }
            Event::Spiked { update, loss, usual } => {
                let warning = warning();
                self.say(&format!(
                    "{warning} update {update} has a loss of {loss:.3}; {usual:.3} is usual"
                ));
            }
            Event::WentBack {
                from,
                to,
                learning_rate_factor,
            } => {
                let warning = warning();
                self.say(&format!(
                    "{warning} the run has diverged at update {from}; it goes on from the checkpoint of update {to} with \
                     {learning_rate_factor} of the learning rate"
                ));
                self.begin(*to);
            }
            Event::NotSaved { update, last_sound } => {
                let warning = warning();
                let since = last_sound.map_or(String::new(), |sound| format!(" since update {sound}"));
                self.say(&format!(
                    "{warning} update {update} gets no checkpoint: the loss is far too large or not finite{since}. Until it is normal again, no \
                     regular checkpoint is written, and the best model stays"
                ));
            }
            Event::Stage { number, of, name, .. } => {
                let name = match *name == (number + 1).to_string() {
                    true => String::new(),
                    false => format!(": {name}"),
                };
                self.say(&format!("stage {} of {of}{name}", number + 1));
            }
            Event::CommandFailed { reason, .. } => {
                let warning = warning();
                self.say(&format!(
                    "{warning} the program of train.valid_command gave no number: {reason}. The run goes on without it"
                ));
            }
            Event::Decides { metric, by, .. } => {
                if let Some(threshold) = metric.metric().and_then(|metric| metric.threshold()) {
                    self.say(if by == metric {
                        threshold.reached
                    } else {
                        threshold.missed
                    });
                }
            }
            Event::Validated {
                update,
                validation,
                metric,
                is_best,
                seconds,
            } => {
                let best = match is_best {
                    true => format!("  {}", Stream::Error.paint(Tone::Good, "best so far")),
                    false => String::new(),
                };
                let took = duration(*seconds);
                self.say(&format!(
                    "update {update:>6}  valid {}  ({took}){best}",
                    describe(validation, *metric)
                ));
                for (name, set) in &validation.sets {
                    self.say(&format!("               {name}: {}", describe(set, *metric)));
                }
                validation.samples.iter().for_each(|sample| self.say_sample(sample));
            }
            Event::Saved { .. } => {}
            Event::Profiled(profile) => self.say(&table(profile)),
            Event::Averaged {
                checkpoints,
                validation,
                metric,
                is_best,
            } => {
                let verdict = if *is_best {
                    Stream::Error.paint(Tone::Good, "better: it is the best model now")
                } else {
                    "not better".to_owned()
                };
                let what = describe(validation, *metric);
                self.say(&format!(
                    "average of {checkpoints} checkpoints: valid {what}  {verdict}"
                ));
            }
        }
    }
}

impl Listener for Progress {
    fn working(&self, work: &Work) {
        if work.done.is_multiple_of(LINES_OF_WORK) || work.all == Some(work.done) {
            self.work.borrow_mut().show(work);
        }
    }

    fn notice(&self, notice: &Notice) {
        self.work.borrow_mut().end();
        match notice {
            // The caller prints this together with the command to resume.
            Notice::Ended {
                ending: Ending::Interrupted,
                ..
            } => self.finish(),
            Notice::Ended { .. } => {
                self.finish();
                say(notice);
            }
            Notice::Tested(test) => {
                say(notice);
                if let Err(error) = print_scores(test) {
                    self.unprinted.replace(Some(error));
                }
            }
            _ => say(notice),
        }
    }
}

/// Prints the scores of a test set. They are data, so on standard output.
fn print_scores(test: &TestScores) -> std::io::Result<()> {
    let mut out = stdout().lock();
    if let Some(name) = &test.name {
        writeln!(out, "{name}:")?;
    }
    if !test.scores.is_empty() {
        writeln!(out, "{}", tallow_score::to_text(&test.scores, 1))?;
    }
    writeln!(out, "exact match = {:.1} %", test.exact_match)
}

pub(crate) fn describe(validation: &Validation, decides: Measure) -> String {
    let mut text = format!("loss {:.3}  ppl {:.2}", validation.loss, validation.perplexity);
    for (metric, score) in &validation.scores {
        if let Some(score) = score {
            let star = if Measure::Score(*metric) == decides { "*" } else { "" };
            text += &format!("  {}{star} {:.1}", metric.label(), score.score);
        }
    }
    if let Some(value) = validation.command.filter(|value| value.is_finite()) {
        let star = if decides == Measure::Command { "*" } else { "" };
        text += &format!("  command{star} {value:.4}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After going back, updates are counted from the update where the run continues.
    #[test]
    fn going_back_begins_anew() {
        let progress = Progress::new();
        progress.observe(&Event::Started {
            update: 5,
            max_updates: 9,
            workers: 1,
            parameters: 1,
        });
        progress.observe(&Event::WentBack {
            from: 7,
            to: 0,
            learning_rate_factor: 0.5,
        });
        assert_eq!(progress.state.borrow().first_update, 0);
        assert_eq!(progress.standing.lock().unwrap().update, 0);
        // The first update is always shown.
        progress.updated(1, 0, 1.0, 10, 0.1);
    }

    #[test]
    fn the_bar_fits_the_terminal() {
        let standing = Standing {
            update: 1234,
            max_updates: 10_000,
            seconds_left: Some(3725.0),
            latest: Some(Latest {
                loss: 3.1234,
                target_tokens_per_second: 12_345.6,
                epoch: 2,
            }),
        };
        let bar = |full: usize, empty: usize| "█".repeat(full) + &"░".repeat(empty);
        let all = " 1234/10000  loss 3.123  12,346 tok/s  epoch 3  1:02 h left";
        for (width, expected) in [
            // The rest takes 65 columns, and 0.1234 of the remaining ones are full.
            (200, format!("{}  {all}", bar(16, 119))),
            (140, format!("{}  {all}", bar(9, 66))),
            (80, format!("{}  {all}", bar(1, 14))),
            (75, format!("{}  {all}", bar(1, 9))),
            // 55 columns without the epoch, 41 without the speed.
            (74, format!("{}  {}", bar(2, 17), all.replace("  epoch 3", ""))),
            (60, format!("{}   1234/10000  loss 3.123  1:02 h left", bar(2, 17))),
            (51, format!("{}   1234/10000  loss 3.123  1:02 h left", bar(1, 9))),
            // Without a bar there is room for the speed.
            (50, "1234/10000  loss 3.123  12,346 tok/s  1:02 h left".into()),
            (40, "1234/10000  loss 3.123  1:02 h left".into()),
            (30, "1234/10000  loss 3.123".into()),
            (12, "1234/10000".into()),
            (9, "1234/100…".into()),
        ] {
            assert_eq!(standing.line(width), expected, "{width}");
        }
        let begun = Standing {
            latest: None,
            seconds_left: None,
            ..standing
        };
        assert_eq!(begun.line(40), format!("{}   1234/10000", bar(3, 24)));
        let long = Standing {
            update: u64::MAX,
            max_updates: u64::MAX,
            ..standing
        };
        for (width, standing) in (0..300).flat_map(|width| [standing, begun, long].map(|standing| (width, standing))) {
            assert!(console::measure_text_width(&standing.line(width)) <= width, "{width}");
        }
    }
}
