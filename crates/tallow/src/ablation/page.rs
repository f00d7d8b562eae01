//! The page of an ablation.

use super::Ablation;
use crate::Result;
use crate::page::page;
use serde_json::{Value, json};

impl Ablation {
    /// The ablation as a page that works from a disk, without a network.
    ///
    /// # Errors
    /// When the numbers cannot be written.
    pub fn to_html(&self) -> Result<String> {
        let whole = self.rows.first().and_then(|row| row.summary(None).0);
        let row = |row: &super::AblationRow| {
            let (mean, spread) = row.summary(None);
            let values: Vec<Option<f64>> = row.runs.iter().map(|run| run.value).collect();
            json!({
                "mean": mean,
                "deviation": spread.map(|spread| spread.deviation),
                "values": values,
                "set": row.part.set,
                "failures": row.runs.iter().filter_map(|run| run.failure.clone()).collect::<Vec<_>>(),
                "marian_mt_faults": row.marian_mt_faults,
            })
        };
        let rows: Vec<Value> = self.rows.iter().map(row).collect();
        let data = json!({
            "name": self.name,
            "about": self.about(),
            "measure": self.measure,
            "is_more_better": self.is_more_better,
            "digits": self.digits,
            "whole": whole,
            "table": self.table(),
            "rows": rows,
            "settings": self.settings,
        });
        page(include_str!("page.html"), &data)
    }
}
