//! Pages: one HTML file each, which needs nothing else, with its data inside.

use crate::Result;
use serde_json::Value;

/// Where the data stand in a template.
const DATA: &str = "\"data of the page\"";

/// Where the style of all pages stands in a template.
const STYLE: &str = "/* style of all pages */";

/// Where the functions of all pages stand in a template.
const SCRIPT: &str = "/* functions of all pages */";

/// A template with its data.
pub(crate) fn page(template: &str, data: &Value) -> Result<String> {
    // Nothing in the data may end the element that holds them.
    let data = serde_json::to_string(data)?.replace('<', "\\u003c");
    let page = template
        .replacen(STYLE, include_str!("style.css"), 1)
        .replacen(SCRIPT, include_str!("functions.js"), 1);
    Ok(page.replacen(DATA, &data, 1))
}
