//! The page of a report.

use super::{Plot, Report};
use crate::Result;
use crate::chart::COLOURS;
use crate::page::page;
use serde_json::Value;

/// The most points of a line on the page.
const POINTS: usize = 600;

impl Report {
    /// The report as a page that works from a disk, without a network.
    ///
    /// # Errors
    /// When the numbers cannot be written.
    pub fn to_html(&self) -> Result<String> {
        let thinned = Self {
            plots: self.plots.iter().map(|plot| plot.thinned(POINTS)).collect(),
            ..self.clone()
        };
        let mut data = serde_json::to_value(&thinned)?;
        data["ranges"] = self
            .plots
            .iter()
            .map(Plot::range)
            .map(|(least, most)| vec![least, most])
            .collect();
        data["colours"] = Value::from(COLOURS.to_vec());
        page(include_str!("page.html"), &data)
    }
}
