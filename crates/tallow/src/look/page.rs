//! The page of a look: one HTML file that needs nothing else.

use super::Look;

/// The page without its data.
const PAGE: &str = include_str!("page.html");

/// Where the data stand.
const DATA: &str = "\"data of the page\"";

impl Look {
    /// The look as a page that works from a disk, without a network.
    pub fn to_html(&self) -> String {
        // Nothing in the data may end the element that holds them.
        let data = serde_json::to_string(self).unwrap_or_default().replace('<', "\\u003c");
        PAGE.replacen(DATA, &data, 1)
    }
}
