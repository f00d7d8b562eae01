//! The page of a comparison.

use super::Comparison;
use crate::Result;
use crate::page::page;

impl Comparison {
    /// The comparison as a page that works from a disk, without a network.
    ///
    /// # Errors
    /// When the numbers cannot be written.
    pub fn to_html(&self) -> Result<String> {
        page(include_str!("page.html"), &serde_json::to_value(self)?)
    }
}
