//! The course of runs as a picture: loss and score over updates, as an SVG made from `metrics.jsonl`.

use crate::humanize::thousands;
use crate::{Config, Error, Result};
use std::fmt::Write;
use tallow_score::{BLEU, Metric};
use tallow_train::{MetricsLine, RunDirectory, read_log};

/// A value at an update.
type Point = (u64, f64);

/// The course of one run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Course {
    /// The run's name in the picture.
    pub name: String,
    /// The training loss of each logged update, in nats per target token.
    pub training_loss: Vec<Point>,
    /// The validation loss, in nats per target token.
    pub validation_loss: Vec<Point>,
    /// The score of validations, in percent.
    pub score: Vec<Point>,
}

impl Course {
    /// Reads the course of a run, with this score. If the run went back and repeated updates, only the values that
    /// counted in the end are shown.
    ///
    /// # Errors
    /// When the log cannot be read, or is empty.
    pub fn of_run(run: &RunDirectory, score: &'static dyn Metric) -> Result<Self> {
        let mut course = Self {
            name: run.path().display().to_string(),
            ..Self::default()
        };
        for line in read_log::<MetricsLine>(&run.metrics())? {
            course.add(line?, &score.key());
        }
        if course.training_loss.is_empty() {
            let path = run.metrics();
            return Err(Error::Other(format!("{}: nothing has been logged yet", path.display())));
        }
        Ok(course)
    }

    fn add(&mut self, line: MetricsLine, score: &str) {
        match line {
            MetricsLine::Training { update, loss, .. } => self.training_loss.push((update, loss)),
            MetricsLine::Validation { update, valid, .. } => {
                self.validation_loss
                    .extend(Some((update, valid.loss)).filter(|point| point.1.is_finite()));
                self.score.extend(valid.score(score).map(|value| (update, value)));
            }
            MetricsLine::WentBack { gone_back_to, .. } => {
                for points in [&mut self.training_loss, &mut self.validation_loss, &mut self.score] {
                    points.retain(|point| point.0 <= gone_back_to);
                }
            }
            MetricsLine::Skipped { .. }
            | MetricsLine::Spike { .. }
            | MetricsLine::NotSaved { .. }
            | MetricsLine::Stage { .. }
            | MetricsLine::Decides { .. } => {}
        }
    }
}

/// The score to show for a run: its `train.metric`, or BLEU if that is a loss.
///
/// # Errors
/// When the config of the run cannot be read.
pub fn score_of(run: &RunDirectory) -> Result<&'static dyn Metric> {
    let measure = Config::of_run(&run.config())?.train.metric;
    Ok(measure.metric().unwrap_or(BLEU))
}

/// Colours that people with colour blindness can tell apart (Okabe and Ito 2008).
pub(crate) const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

/// A panel of the picture, in pixels.
struct Panel {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
    /// The last update.
    updates: u64,
    /// The smallest and the largest value.
    values: (f64, f64),
}

impl Panel {
    fn x(&self, update: u64) -> f64 {
        self.left + self.width * update as f64 / self.updates.max(1) as f64
    }

    fn y(&self, value: f64) -> f64 {
        let (least, most) = self.values;
        self.top + self.height * (1.0 - (value.clamp(least, most) - least) / (most - least))
    }

    /// Draws the frame, grid lines at round values, and the title.
    fn frame(&self, title: &str, svg: &mut String) -> std::fmt::Result {
        let (right, bottom) = (self.left + self.width, self.top + self.height);
        writeln!(
            svg,
            r#"<text class="title" x="{:.0}" y="{:.0}">{}</text>"#,
            self.left,
            self.top - 12.0,
            escaped(title)
        )?;
        for value in round_values(self.values) {
            let y = self.y(value);
            writeln!(
                svg,
                r#"<line class="grid" x1="{:.0}" y1="{y:.1}" x2="{right:.0}" y2="{y:.1}"/>"#,
                self.left
            )?;
            writeln!(
                svg,
                r#"<text class="value" x="{:.0}" y="{:.1}">{}</text>"#,
                self.left - 8.0,
                y + 4.0,
                label(value)
            )?;
        }
        let updates = round_values((0.0, self.updates as f64));
        for update in updates.into_iter().filter(|update| update.fract() == 0.0) {
            let x = self.x(update as u64);
            writeln!(
                svg,
                r#"<text class="update" x="{x:.1}" y="{:.0}">{}</text>"#,
                bottom + 18.0,
                thousands(update)
            )?;
        }
        Ok(())
    }

    fn line(&self, points: &[Point], class: &str, colour: &str, svg: &mut String) -> std::fmt::Result {
        let path: Vec<String> = points
            .iter()
            .map(|(update, value)| format!("{:.1},{:.1}", self.x(*update), self.y(*value)))
            .collect();
        writeln!(
            svg,
            r#"<polyline class="{class}" stroke="{colour}" points="{}"/>"#,
            path.join(" ")
        )?;
        if class == "valid" {
            for (update, value) in points {
                writeln!(
                    svg,
                    r#"<circle cx="{:.1}" cy="{:.1}" r="3" fill="{colour}"><title>update {update}: {value:.2}</title></circle>"#,
                    self.x(*update),
                    self.y(*value)
                )?;
            }
        }
        Ok(())
    }
}

/// About four to eight round values between two others.
pub(crate) fn round_values((least, most): (f64, f64)) -> Vec<f64> {
    let span = most - least;
    let rough = 10f64.powf((span / 4.0).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .map(|times| rough * times)
        .into_iter()
        .find(|step| span / step <= 6.0)
        .unwrap_or(span);
    let (first, last) = ((least / step).ceil() as i64, (most / step + 1e-9).floor() as i64);
    // Rounding removes the error of the division.
    (first..=last).map(|i| (i as f64 * step * 1e6).round() / 1e6).collect()
}

/// A value beside its line: short, whatever it is.
pub(crate) fn label(value: f64) -> String {
    if value.abs() < 1e6 {
        value.to_string()
    } else {
        format!("{value:e}")
    }
}

/// Text in XML, which allows no control characters.
pub(crate) fn escaped(text: &str) -> String {
    let text = text.replace(char::is_control, "\u{fffd}");
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A line through moving averages of the points, so that the course stands out from the noise.
fn smooth(points: &[Point]) -> Vec<Point> {
    let reach = points.len() / 60;
    let average = |i: usize| {
        let near = &points[i.saturating_sub(reach)..(i + reach + 1).min(points.len())];
        near.iter().map(|point| point.1).sum::<f64>() / near.len() as f64
    };
    points
        .iter()
        .enumerate()
        .map(|(i, point)| (point.0, average(i)))
        .collect()
}

/// The greatest of some values, 0 if there is none. What is not finite does not count.
fn greatest(values: impl Iterator<Item = f64>) -> f64 {
    values.filter(|value| value.is_finite()).fold(0.0, f64::max)
}

/// The picture: on the left the losses of training (thin) and validation (with dots), on the right the validation
/// score.
pub fn svg(courses: &[Course], score: &'static dyn Metric) -> String {
    let mut svg = String::new();
    // Writing into a string cannot fail.
    let _ = draw(courses, score.label(), &mut svg);
    svg
}

fn draw(courses: &[Course], score: &str, svg: &mut String) -> std::fmt::Result {
    const HEIGHT: f64 = 300.0;
    let legend = if courses.len() > 1 {
        20.0 * courses.len() as f64
    } else {
        0.0
    };
    let last = |points: &[Point]| points.last().map_or(0, |point| point.0);
    let updates = courses
        .iter()
        .map(|course| last(&course.training_loss).max(last(&course.validation_loss)))
        .max();
    let losses = courses
        .iter()
        .flat_map(|course| course.training_loss.iter().chain(&course.validation_loss));
    // Losses above twice that of the beginning come from divergence. They would flatten everything else.
    let usual = 2.0
        * greatest(
            courses
                .iter()
                .filter_map(|course| Some(course.training_loss.first()?.1)),
        )
        .max(0.5);
    let most_loss = greatest(losses.map(|point| point.1).filter(|loss| *loss <= usual));
    let scores = courses.iter().flat_map(|course| &course.score);
    let most_score = greatest(scores.map(|point| point.1));
    let panel = |left: f64, most: f64| Panel {
        left,
        top: 40.0,
        width: 360.0,
        height: HEIGHT,
        updates: updates.unwrap_or(1),
        values: (0.0, most.max(1e-3) * 1.02),
    };
    let (loss, of_score) = (panel(50.0, most_loss), panel(490.0, most_score.max(1.0)));
    writeln!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 880 {height:.0}" width="880" height="{height:.0}" role="img">
<style>
text {{ font: 12px system-ui, sans-serif; fill: #24292f; }}
.title {{ font-weight: 600; }}
.value {{ text-anchor: end; }}
.update {{ text-anchor: middle; }}
.grid {{ stroke: #d0d7de; }}
polyline {{ fill: none; stroke-width: 2; stroke-linejoin: round; }}
.train {{ stroke-width: 1; opacity: 0.7; }}
</style>
<rect width="100%" height="100%" rx="6" fill="white"/>"#,
        height = HEIGHT + 80.0 + legend
    )?;
    loss.frame("loss, in nats per target token (dots: validation)", svg)?;
    of_score.frame(&format!("{score} on the validation set"), svg)?;
    for (course, colour) in courses.iter().zip(COLOURS.iter().cycle()) {
        loss.line(&smooth(&course.training_loss), "train", colour, svg)?;
        loss.line(&course.validation_loss, "valid", colour, svg)?;
        of_score.line(&course.score, "valid", colour, svg)?;
    }
    if courses.len() > 1 {
        for (i, (course, colour)) in courses.iter().zip(COLOURS.iter().cycle()).enumerate() {
            let y = HEIGHT + 84.0 + 20.0 * i as f64;
            writeln!(
                svg,
                r#"<rect x="50" y="{:.0}" width="18" height="4" fill="{colour}"/>"#,
                y - 6.0
            )?;
            writeln!(svg, r#"<text x="76" y="{y:.0}">{}</text>"#, escaped(&course.name))?;
        }
    }
    writeln!(svg, "</svg>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_at_lines_are_round() {
        assert_eq!(round_values((0.0, 9.7)), [0.0, 2.0, 4.0, 6.0, 8.0]);
        assert_eq!(round_values((0.0, 0.5)), [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]);
        assert_eq!(
            round_values((0.0, 6000.0)),
            [0.0, 1000.0, 2000.0, 3000.0, 4000.0, 5000.0, 6000.0]
        );
    }

    /// Logs of damaged or diverged runs are drawn, too.
    #[test]
    fn odd_losses() {
        let draw = |losses: &[f64]| {
            let course = Course {
                training_loss: (1..).zip(losses.iter().copied()).collect(),
                ..Course::default()
            };
            svg(&[course], BLEU)
        };
        assert!(draw(&[-1.0]).ends_with("</svg>\n"));
        for losses in [&[5.0, 1e30, 3.0][..], &[5.0, f64::MAX, f64::MAX]] {
            let picture = draw(losses);
            assert!(picture.contains(">5<") || picture.contains(">4<"), "{picture}");
            assert!(!picture.contains("inf") && !picture.contains("00000000"), "{picture}");
        }
        // Every update is named once.
        let picture = draw(&[3.0, 2.0, 1.0]);
        let names: Vec<&str> = picture
            .lines()
            .filter(|line| line.contains("class=\"update\""))
            .collect();
        assert_eq!(names.len(), 2 * 4, "{names:?}");
        assert!(!escaped("a\u{1}b").contains('\u{1}'));
    }

    #[test]
    fn a_course_is_read_from_a_log() {
        let place = tempfile::tempdir().unwrap();
        let run = RunDirectory::new(place.path().join("a<b"));
        std::fs::create_dir_all(run.path()).unwrap();
        let training = |update: u64, loss: f64| {
            format!(
                r#"{{"update":{update},"epoch":0,"loss":{loss:?},"learning_rate":1.0,"gradient_norm":1.0,"target_tokens":1}}"#
            )
        };
        let log = [
            training(1, 4.0),
            r#"{"update":2,"valid":{"loss":3.0,"perplexity":20.0,"bleu":7.5},"is_best":true}"#.to_owned(),
            training(3, 90.0),
            r#"{"update":4,"gone_back_to":2,"learning_rate_factor":0.5}"#.to_owned(),
            training(3, 2.5),
            r#"{"update":4,"valid":{"loss":null,"perplexity":null,"bleu":null},"is_best":false}"#.to_owned(),
        ];
        std::fs::write(run.metrics(), log.join("\n") + "\n").unwrap();
        let course = Course::of_run(&run, BLEU).unwrap();
        assert_eq!(course.training_loss, [(1, 4.0), (3, 2.5)]);
        assert_eq!(course.validation_loss, [(2, 3.0)]);
        assert_eq!(course.score, [(2, 7.5)]);
        let picture = svg(&[course.clone(), course], BLEU);
        assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
        assert!(picture.contains("a&lt;b") && !picture.contains("a<b"), "{picture}");
        assert!(picture.contains("BLEU on the validation set") && !picture.contains("NaN"));
    }
}
