//! Counting lines, with examples.

use serde::{Deserialize, Serialize};

/// The number of lines with some property, and the first of these lines.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// The number of lines.
    pub count: u64,
    /// The line numbers, from 1, of the first [`Tally::EXAMPLES`] such lines.
    pub lines: Vec<u64>,
}

impl Tally {
    /// Number of line numbers that are kept.
    pub const EXAMPLES: usize = 3;

    /// Counts a line, by its number from 1.
    pub fn add(&mut self, line: u64) {
        self.count += 1;
        if self.lines.len() < Self::EXAMPLES {
            self.lines.push(line);
        }
    }

    /// The examples in words, such as `lines 3, 9, 12, ...`.
    pub fn examples(&self) -> String {
        let lines: Vec<String> = self.lines.iter().map(u64::to_string).collect();
        let word = if self.count == 1 { "line" } else { "lines" };
        let more = if self.count > lines.len() as u64 { ", ..." } else { "" };
        format!("{word} {}{more}", lines.join(", "))
    }
}
