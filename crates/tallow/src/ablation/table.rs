//! The table of an ablation, as text and as Markdown.

use super::{Ablation, AblationRow};

impl Ablation {
    /// The rows of the table, the titles first. The spread is the standard deviation over seeds, p that of Welch's
    /// t-test against the recipe itself.
    pub fn table(&self) -> Vec<Vec<String>> {
        let titles = [
            "part",
            "what is trained",
            &self.measure,
            "difference",
            "p",
            "loss",
            "remarks",
        ];
        let whole = self.rows.first();
        let rows = self.rows.iter().enumerate();
        let rows = rows.map(|(number, row)| self.row(row, whole.filter(|_| number > 0)));
        std::iter::once(titles.map(str::to_owned))
            .chain(rows)
            .map(Vec::from)
            .collect()
    }

    fn row(&self, row: &AblationRow, whole: Option<&AblationRow>) -> [String; 7] {
        let (mean, spread) = row.summary(whole);
        let digits = self.digits;
        let number = |value: f64| format!("{value:.digits$}");
        let value = match (mean, &spread) {
            (Some(mean), Some(spread)) => format!("{} ± {}", number(mean), number(spread.deviation)),
            (Some(mean), None) => number(mean),
            (None, _) => "-".to_owned(),
        };
        let difference = match (mean, whole.and_then(|whole| whole.summary(None).0)) {
            (Some(own), Some(other)) => format!("{:+.digits$}", own - other),
            _ => String::new(),
        };
        let p_value = spread
            .and_then(|spread| spread.p_value)
            .map_or(String::new(), |p| format!("{p:.3}"));
        let losses: Vec<f64> = row
            .runs
            .iter()
            .filter_map(|run| run.loss)
            .filter(|loss| loss.is_finite())
            .collect();
        let loss = match losses.is_empty() {
            true => String::new(),
            false => format!("{:.3}", losses.iter().sum::<f64>() / losses.len() as f64),
        };
        let mut remarks = Vec::new();
        let failures: Vec<&String> = row.runs.iter().filter_map(|run| run.failure.as_ref()).collect();
        if let Some(reason) = failures.first() {
            remarks.push(format!("{} of {} failed ({reason})", failures.len(), row.runs.len()));
        }
        if row.runs.len() < self.seeds.len() {
            remarks.push(format!("{} of {} seeds", row.runs.len(), self.seeds.len()));
        }
        if !row.marian_mt_faults.is_empty() {
            remarks.push("no MarianMT model".to_owned());
        }
        [
            row.part.name.to_owned(),
            row.part.about.to_owned(),
            value,
            difference,
            p_value,
            loss,
            remarks.join("; "),
        ]
    }

    /// The table in Markdown, with a line about what it shows.
    pub fn to_markdown(&self) -> String {
        let mut text = format!("{}\n\n", self.about());
        for (number, row) in self.table().iter().enumerate() {
            let cells: Vec<String> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
            text += &format!("| {} |\n", cells.join(" | "));
            if number == 0 {
                text += "|---|---|--:|--:|--:|--:|---|\n";
            }
        }
        text
    }

    /// What the table shows, in one line.
    pub fn about(&self) -> String {
        let seeds: Vec<String> = self.seeds.iter().map(u64::to_string).collect();
        format!(
            "{} with one part switched off at a time; seed{} {}; mean ± standard deviation, p by Welch's t-test.",
            self.name,
            if seeds.len() == 1 { "" } else { "s" },
            seeds.join(", ")
        )
    }
}
