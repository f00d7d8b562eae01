//! Where a page, or its numbers, are written.

use crate::arguments::LookFormat;
use anyhow::{Context, Result};
use std::io::{Write, stdout};
use std::path::Path;

/// Writes a page into a file, by default of this name, or its numbers as JSON, by default to standard output.
pub(crate) fn write_page(output: Option<&Path>, format: LookFormat, name: &str, text: &str) -> Result<()> {
    let usual = match format {
        LookFormat::Html => name,
        LookFormat::Json => "-",
    };
    let path = output.unwrap_or(Path::new(usual));
    if path == Path::new("-") {
        write!(stdout(), "{text}")?;
        return Ok(());
    }
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    if format == LookFormat::Html {
        eprintln!("{}: open it in a browser", path.display());
    }
    Ok(())
}
