//! What a person sees of training.

use crate::profile::table;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::cell::RefCell;
use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};
use tallow_train::{Event, Metric, Observer, Validation};

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// A progress bar on a terminal, lines elsewhere; both on standard error.
pub(crate) struct Progress {
    bar: ProgressBar,
    terminal: bool,
    state: RefCell<State>,
}

/// Sums since the last line, and the speed of the last updates.
struct State {
    last_line: Instant,
    loss: f64,
    target_tokens: f64,
    seconds: f64,
    max_updates: u64,
    first_update: u64,
    begin: Instant,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let terminal = stderr().is_terminal();
        let target = if terminal {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let now = Instant::now();
        Self {
            bar: ProgressBar::with_draw_target(None, target),
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
        }
    }

    fn say(&self, line: &str) {
        if self.terminal {
            self.bar.println(line)
        } else {
            eprintln!("{line}")
        }
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn updated(&self, update: u64, epoch: u64, loss: f64, target_tokens: usize, seconds: f64) {
        let mut state = self.state.borrow_mut();
        // A moving average over some twenty updates keeps the numbers readable.
        let weight = if state.target_tokens == 0.0 { 1.0 } else { 0.05 };
        state.loss += weight * (loss - state.loss);
        state.target_tokens += weight * (target_tokens as f64 - state.target_tokens);
        state.seconds += weight * (seconds - state.seconds);
        let speed = state.target_tokens / state.seconds;
        if self.terminal {
            self.bar.set_position(update);
            self.bar.set_message(format!(
                "loss {:.3}  {} tok/s  epoch {}",
                state.loss,
                thousands(speed),
                epoch + 1
            ));
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
                let mut state = self.state.borrow_mut();
                (state.max_updates, state.first_update) = (*max_updates, *update);
                state.begin = Instant::now();
                let millions = *parameters as f64 / 1e6;
                self.say(&format!(
                    "training {millions:.1} M parameters with {workers} workers, to update {max_updates}"
                ));
                self.bar.set_length(*max_updates);
                self.bar.set_position(*update);
                self.bar.reset_eta();
                let template = "{bar:24} {pos}/{len}  {msg}  {eta} left";
                if let Ok(style) = ProgressStyle::with_template(template) {
                    self.bar.set_style(style);
                }
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
                self.say(&format!("warning: update {update} was left out: not finite ({what})"));
            }
            Event::Spiked { update, loss, usual } => {
                self.say(&format!(
                    "warning: update {update} has a loss of {loss:.3}; {usual:.3} is usual"
                ));
            }
            Event::WentBack {
                from,
                to,
                learning_rate_factor,
            } => {
                self.say(&format!(
                    "warning: the run has diverged at update {from}; it goes on from the checkpoint of update {to} with \
                     {learning_rate_factor} of the learning rate"
                ));
            }
            Event::Decides { by: Metric::Bleu, .. } => {
                self.say("BLEU has reached 5: from now on it decides which model is best")
            }
            Event::Decides { .. } => {
                self.say("BLEU is below 5, where its differences are noise: until it is not, the loss decides which model is best");
            }
            Event::Validated {
                update,
                validation,
                metric,
                is_best,
                seconds,
            } => {
                let best = if *is_best { "  best so far" } else { "" };
                let took = duration(*seconds);
                self.say(&format!(
                    "update {update:>6}  valid {}  ({took}){best}",
                    describe(validation, *metric)
                ));
                for [source, hypothesis, reference] in &validation.samples {
                    self.say(&format!("        {source}\n     -> {hypothesis}"));
                    if hypothesis != reference {
                        self.say(&format!("     != {reference}"));
                    }
                }
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
                    "better: it is the best model now"
                } else {
                    "not better"
                };
                let what = describe(validation, *metric);
                self.say(&format!(
                    "average of {checkpoints} checkpoints: valid {what}  {verdict}"
                ));
            }
        }
    }
}

pub(crate) fn describe(validation: &Validation, metric: Metric) -> String {
    let mut text = format!("loss {:.3}  ppl {:.2}", validation.loss, validation.perplexity);
    let scores = [
        (Metric::Bleu, "BLEU", validation.bleu),
        (Metric::Chrf, "chrF", validation.chrf),
        (Metric::ExactMatch, "exact", validation.exact_match),
    ];
    for (of, name, value) in scores {
        if let Some(value) = value {
            let star = if of == metric { "*" } else { "" };
            text += &format!("  {name}{star} {value:.1}");
        }
    }
    text
}

/// A count with its thousands apart: 12,345.
pub(crate) fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.max(0.0));
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Seconds as people say them: 45 s, 3:05 min, 2:10 h.
pub(crate) fn duration(seconds: f64) -> String {
    let whole = seconds.round().max(0.0) as u64;
    match whole {
        0..10 => format!("{seconds:.1} s"),
        10..60 => format!("{whole} s"),
        60..3600 => format!("{}:{:02} min", whole / 60, whole % 60),
        _ => format!("{}:{:02} h", whole / 3600, whole / 60 % 60),
    }
}

/// An amount of memory as people read it.
pub(crate) fn memory(bytes: f64) -> String {
    if bytes < 1e9 {
        format!("{:.0} MB", bytes / 1e6)
    } else {
        format!("{:.1} GB", bytes / 1e9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_can_read_it() {
        assert_eq!(thousands(1234567.4), "1,234,567");
        assert_eq!(thousands(12.0), "12");
        assert_eq!(duration(3.21), "3.2 s");
        assert_eq!(duration(185.0), "3:05 min");
        assert_eq!(duration(7800.0), "2:10 h");
    }
}
