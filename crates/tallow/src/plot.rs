//! Values of runs over their updates: as points, as a picture for papers (SVG), and as a table (CSV).

use crate::chart::{COLOURS, escaped, label, round_values};
use crate::humanize::thousands;
use serde::Serialize;
use std::fmt::Write;

/// One value over the course of runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plot {
    /// A name for files: lower case, words joined by `-`.
    pub name: String,
    /// What it shows, with its unit.
    pub title: String,
    /// The lines.
    pub lines: Vec<PlotLine>,
}

/// The values of one run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlotLine {
    /// The number of the run, from 0.
    pub run: usize,
    /// Whether the values are those of validations, which are few.
    pub is_validation: bool,
    /// The points, by update.
    pub points: Vec<PlotPoint>,
}

/// A value at an update.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PlotPoint {
    /// The update.
    pub update: u64,
    /// Seconds of training until then.
    pub seconds: f64,
    /// The value.
    pub value: f64,
}

const SIZE: (f64, f64) = (460.0, 300.0);
const MARGIN: (f64, f64) = (60.0, 40.0);

impl Plot {
    /// The picture, over updates. `runs` are the names of the runs.
    pub fn to_svg(&self, runs: &[String]) -> String {
        let mut svg = String::new();
        // Writing into a string cannot fail.
        let _ = self.draw(runs, &mut svg);
        svg
    }

    fn draw(&self, runs: &[String], svg: &mut String) -> std::fmt::Result {
        let (width, height) = SIZE;
        let legend = if runs.len() > 1 { 20.0 * runs.len() as f64 } else { 0.0 };
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let updates = points().map(|point| point.update).max().unwrap_or(1).max(1) as f64;
        let (least, most) = self.range();
        let x = |update: f64| MARGIN.0 + (width - MARGIN.0 - 20.0) * update / updates;
        let y = |value: f64| MARGIN.1 + (height - 2.0 * MARGIN.1) * (most - value.clamp(least, most)) / (most - least);
        writeln!(
            svg,
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0} {all:.0}" width="{width:.0}" height="{all:.0}" role="img">
<style>
text {{ font: 12px system-ui, sans-serif; fill: #24292f; }}
.title {{ font-weight: 600; }}
.value {{ text-anchor: end; }}
.update {{ text-anchor: middle; }}
.grid {{ stroke: #d0d7de; }}
polyline {{ fill: none; stroke-width: 1.5; stroke-linejoin: round; }}
</style>
<rect width="100%" height="100%" fill="white"/>
<text class="title" x="{:.0}" y="{:.0}">{}</text>"#,
            MARGIN.0,
            MARGIN.1 - 14.0,
            escaped(&self.title),
            all = height + legend
        )?;
        for value in round_values((least, most)) {
            let (at, right) = (y(value), width - 20.0);
            writeln!(
                svg,
                r#"<line class="grid" x1="{:.0}" y1="{at:.1}" x2="{right:.0}" y2="{at:.1}"/><text class="value" x="{:.0}" y="{:.1}">{}</text>"#,
                MARGIN.0,
                MARGIN.0 - 8.0,
                at + 4.0,
                label(value)
            )?;
        }
        for update in round_values((0.0, updates))
            .into_iter()
            .filter(|update| update.fract() == 0.0)
        {
            writeln!(
                svg,
                r#"<text class="update" x="{:.1}" y="{:.0}">{}</text>"#,
                x(update),
                height - MARGIN.1 + 18.0,
                thousands(update)
            )?;
        }
        for line in &self.lines {
            let colour = COLOURS[line.run % COLOURS.len()];
            let at = |point: &PlotPoint| format!("{:.1},{:.1}", x(point.update as f64), y(point.value));
            let path: Vec<String> = line.points.iter().map(at).collect();
            writeln!(svg, r#"<polyline stroke="{colour}" points="{}"/>"#, path.join(" "))?;
            for point in line.points.iter().filter(|_| line.is_validation) {
                writeln!(
                    svg,
                    r#"<circle cx="{:.1}" cy="{:.1}" r="2.5" fill="{colour}"/>"#,
                    x(point.update as f64),
                    y(point.value)
                )?;
            }
        }
        for (number, run) in runs.iter().enumerate().filter(|_| runs.len() > 1) {
            let at = height + 20.0 * number as f64;
            writeln!(
                svg,
                r#"<rect x="{:.0}" y="{:.0}" width="18" height="4" fill="{}"/><text x="{:.0}" y="{:.0}">{}</text>"#,
                MARGIN.0,
                at - 2.0,
                COLOURS[number % COLOURS.len()],
                MARGIN.0 + 26.0,
                at + 4.0,
                escaped(run)
            )?;
        }
        writeln!(svg, "</svg>")
    }

    /// The values that are shown: without the highest, which come from divergence, if they would flatten the rest.
    pub(crate) fn range(&self) -> (f64, f64) {
        let points = self.lines.iter().flat_map(|line| &line.points);
        let mut values: Vec<f64> = points
            .map(|point| point.value)
            .filter(|value| value.is_finite())
            .collect();
        values.sort_unstable_by(f64::total_cmp);
        let Some((least, most)) = values.first().copied().zip(values.last().copied()) else {
            return (0.0, 1.0);
        };
        // Values of updates may jump when a run diverges. Scores and times never are too high to be shown.
        let may_jump = matches!(self.name.as_str(), "loss" | "alignment-loss" | "gradient-norm");
        let usual = values[(values.len() - 1) * 99 / 100];
        let is_outlier = may_jump && values.len() >= 100 && usual > 0.0 && most > 4.0 * usual;
        let most = if is_outlier { 2.0 * usual } else { most };
        // From zero, unless that hides the differences.
        let least = if least > 0.0 && least < 0.6 * most { 0.0 } else { least };
        match most - least > f64::EPSILON * most.abs() {
            true => (least, most),
            false => (least - 0.5, least + 0.5),
        }
    }

    /// A table: run, kind (`training` or `validation`), update, seconds and value of every point.
    pub fn to_csv(&self, runs: &[String]) -> String {
        let mut csv = "run,kind,update,seconds,value\n".to_owned();
        for line in &self.lines {
            let name = runs.get(line.run).map_or("", String::as_str);
            let name = match name.contains([',', '"', '\n', '\r']) {
                true => format!("\"{}\"", name.replace('"', "\"\"")),
                false => name.to_owned(),
            };
            let kind = if line.is_validation { "validation" } else { "training" };
            for PlotPoint { update, seconds, value } in &line.points {
                // Writing into a string cannot fail.
                let _ = writeln!(csv, "{name},{kind},{update},{seconds:.3},{value}");
            }
        }
        csv
    }

    /// The same with at most so many points in a line, each the mean of neighbours.
    pub(crate) fn thinned(&self, most: usize) -> Self {
        let thin = |line: &PlotLine| {
            let size = line.points.len().div_ceil(most.max(1)).max(1);
            let mean = |points: &[PlotPoint]| {
                let value = points.iter().map(|point| point.value).sum::<f64>() / points.len() as f64;
                points.last().map(|last| PlotPoint { value, ..*last })
            };
            PlotLine {
                points: line.points.chunks(size).filter_map(mean).collect(),
                ..line.clone()
            }
        };
        Self {
            lines: self.lines.iter().map(thin).collect(),
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(values: &[f64]) -> Plot {
        let point = |(update, value): (u64, &f64)| PlotPoint {
            update,
            seconds: update as f64 / 2.0,
            value: *value,
        };
        Plot {
            name: "loss".into(),
            title: "loss <nats>".into(),
            lines: vec![PlotLine {
                run: 0,
                is_validation: true,
                points: (1..).zip(values).map(point).collect(),
            }],
        }
    }

    #[test]
    fn a_table_has_every_value() {
        let names = ["a, \"b\"".to_owned()];
        assert_eq!(
            plot(&[2.5, 1.0]).to_csv(&names),
            "run,kind,update,seconds,value\n\"a, \"\"b\"\"\",validation,1,0.500,2.5\n\"a, \"\"b\"\"\",validation,2,1.000,1\n"
        );
    }

    #[test]
    fn pictures_show_what_matters() {
        let svg = plot(&[2.5, 1.0]).to_svg(&["a".into()]);
        assert!(
            svg.starts_with("<svg ") && svg.ends_with("</svg>\n") && svg.contains("loss &lt;nats&gt;"),
            "{svg}"
        );
        assert_eq!(svg.matches("<circle").count(), 2);
        assert_eq!(plot(&[5.0, 3.0, 1.0]).range(), (0.0, 5.0));
        // Differences near a high value, divergence, nothing, and a constant.
        assert_eq!(plot(&[90.0, 99.0]).range(), (90.0, 99.0));
        let mut diverged = vec![3.0; 300];
        diverged.push(1e9);
        assert_eq!(plot(&diverged).range(), (0.0, 6.0));
        assert_eq!(plot(&[]).range(), (0.0, 1.0));
        assert_eq!(plot(&[2.0]).range(), (1.5, 2.5));
        // Two validations, the second of which is much better; and scores that rise late.
        assert_eq!(plot(&[5.0, 99.0]).range(), (0.0, 99.0));
        let mut scores = plot(&vec![1.0; 200]);
        scores.name = "bleu".into();
        scores.lines[0].points[199].value = 35.0;
        assert_eq!(scores.range(), (0.0, 35.0));
        for odd in [&[][..], &[f64::NAN], &[0.0, 0.0], &[1e300, -1e300]] {
            let svg = plot(odd).to_svg(&[]);
            assert!(svg.ends_with("</svg>\n"), "{svg}");
        }
        let thin = plot(&[1.0, 3.0, 5.0]).thinned(2);
        let values: Vec<(u64, f64)> = thin.lines[0]
            .points
            .iter()
            .map(|point| (point.update, point.value))
            .collect();
        assert_eq!(values, [(2, 2.0), (3, 5.0)]);
    }
}
