//! One line with the width of the terminal: progress, or the beginning of a text.

use console::{Term, measure_text_width};

/// A bar has at least this many cells.
const LEAST_CELLS: usize = 10;

const GAP: &str = "  ";

/// A part of a line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Part {
    text: String,
    /// The columns reserved for the part beside a bar. Without them, the bar would change its length with every digit.
    room: usize,
    /// If there is not enough room, the part with the smallest weight is left out first.
    weight: u8,
}

impl Part {
    pub(crate) fn new(weight: u8, room: usize, text: String) -> Self {
        Self { text, room, weight }
    }
}

/// A bar that shows the finished share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bar {
    pub(crate) share: f64,
    /// Parts with a smaller weight are left out before the bar, others after it.
    pub(crate) weight: u8,
}

/// The parts side by side, after a bar that fills the rest of the line. With less room, the bar shrinks first. Next,
/// parts with a smaller weight than the bar are left out. At last, the bar itself is left out, and as many parts as
/// possible are shown. No line is wider than `width`.
pub(crate) fn status_line(width: usize, bar: Option<Bar>, parts: &[Part]) -> String {
    let mut kept: Vec<&Part> = parts.iter().collect();
    while let Some(Bar { share, weight }) = bar {
        let room = |part: &&Part| part.room.max(measure_text_width(&part.text));
        let beside = kept.iter().map(room).sum::<usize>() + GAP.len() * kept.len();
        let cells = width.saturating_sub(beside);
        if cells >= LEAST_CELLS {
            return format!("{}{GAP}{}", cells_of(cells, share), joined(&kept));
        }
        match lightest(&kept).filter(|i| kept[*i].weight < weight) {
            Some(i) => kept.remove(i),
            None => break,
        };
    }
    let mut kept: Vec<&Part> = parts.iter().collect();
    loop {
        let line = joined(&kept);
        let line = line.trim_start();
        match lightest(&kept) {
            Some(i) if kept.len() > 1 && measure_text_width(line) > width => kept.remove(i),
            _ => return fit(line, width),
        };
    }
}

fn lightest(parts: &[&Part]) -> Option<usize> {
    (0..parts.len()).min_by_key(|i| parts[*i].weight)
}

fn joined(parts: &[&Part]) -> String {
    parts
        .iter()
        .map(|part| part.text.as_str())
        .collect::<Vec<_>>()
        .join(GAP)
}

fn cells_of(cells: usize, share: f64) -> String {
    let full = ((share.clamp(0.0, 1.0) * cells as f64) as usize).min(cells);
    "█".repeat(full) + &"░".repeat(cells - full)
}

/// The beginning of a text that fits into this many columns, with an ellipsis if the text is longer. Characters that
/// would move the cursor are shown as U+FFFD.
pub(crate) fn fit(text: &str, width: usize) -> String {
    let visible = |c: char| match c {
        '\t' => ' ',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    let mut begun = String::new();
    for c in text.chars().map(visible) {
        let length = begun.len();
        begun.push(c);
        // The text is measured as a whole, because several characters may form one sign.
        if measure_text_width(&begun) > width {
            begun.truncate(length);
            while !begun.is_empty() && measure_text_width(&begun) + 1 > width {
                begun.pop();
            }
            return if width == 0 { String::new() } else { begun + "…" };
        }
    }
    begun
}

/// The number of columns of the terminal at standard error, or a usual number if it is unknown.
pub(crate) fn terminal_width() -> usize {
    usize::from(Term::stderr().size().1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_by_what_they_take_on_a_terminal() {
        for (text, width, expected) in [
            ("einem Hund", 10, "einem Hund"),
            ("einem Hund", 9, "einem Hu…"),
            ("einem Hund", 1, "…"),
            ("einem Hund", 0, ""),
            ("", 0, ""),
            // Two columns each.
            ("東京都", 6, "東京都"),
            ("東京都", 5, "東京…"),
            ("東京都", 4, "東…"),
            // No columns of their own.
            ("e\u{301}e\u{301}e\u{301}", 3, "e\u{301}e\u{301}e\u{301}"),
            ("e\u{301}e\u{301}e\u{301}", 2, "e\u{301}…"),
            // Text must not send commands to the terminal.
            ("a\tb\u{1b}[2Jc", 20, "a b\u{fffd}[2Jc"),
        ] {
            assert_eq!(fit(text, width), expected, "{text:?} in {width}");
        }
    }

    #[test]
    fn bars() {
        assert_eq!(cells_of(10, 0.0), "░░░░░░░░░░");
        assert_eq!(cells_of(10, 0.39), "███░░░░░░░");
        assert_eq!(cells_of(10, 1.0), "██████████");
        assert_eq!(cells_of(10, f64::NAN), "░░░░░░░░░░");
    }
}
