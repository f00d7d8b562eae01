//! The attention of a translation, drawn in characters.

use console::measure_text_width;
use tallow_decode::Alignment;

/// The widest piece that is written out.
const PIECE: usize = 14;

/// Signs for weights from these values on.
const SHADES: [(f32, &str); 4] = [(0.65, "██"), (0.4, "▓▓"), (0.2, "▒▒"), (0.05, "░░")];

/// A row for each target piece, a column for each source piece; as many columns beside each other as the width allows.
pub(super) fn drawing(alignment: &Alignment, width: usize) -> String {
    let columns = width.saturating_sub(PIECE + 1).max(2) / 2;
    let mut lines: Vec<String> = Vec::new();
    for begin in (0..alignment.source.len()).step_by(columns) {
        let pieces = &alignment.source[begin..(begin + columns).min(alignment.source.len())];
        lines.extend(heads(pieces));
        for (piece, row) in alignment.target.iter().zip(&alignment.weights) {
            let shades: String = row
                .iter()
                .skip(begin)
                .take(pieces.len())
                .map(|weight| shade(*weight))
                .collect();
            let name = shortened(piece);
            let padding = " ".repeat(PIECE.saturating_sub(measure_text_width(&name)));
            lines.push(format!("{padding}{name} {shades}").trim_end().to_owned());
        }
    }
    lines.join("\n")
}

fn shade(weight: f32) -> &'static str {
    let found = SHADES.iter().find(|(least, _)| weight >= *least);
    found.map_or("  ", |(_, shade)| shade)
}

/// A piece that is not too wide.
fn shortened(piece: &str) -> String {
    if measure_text_width(piece) <= PIECE {
        return piece.to_owned();
    }
    let mut short = String::new();
    for letter in piece.chars() {
        if measure_text_width(&short) + 2 > PIECE {
            break;
        }
        short.push(letter);
    }
    short + "…"
}

/// The pieces as columns, read downwards and ending at the same line.
fn heads(pieces: &[String]) -> Vec<String> {
    let columns: Vec<Vec<char>> = pieces.iter().map(|piece| shortened(piece).chars().collect()).collect();
    let height = columns.iter().map(Vec::len).max().unwrap_or(0);
    let cell = |column: &Vec<char>, line: usize| {
        let letter = (line + column.len())
            .checked_sub(height)
            .and_then(|place| column.get(place));
        let letter = letter.map_or(String::new(), char::to_string);
        let padding = " ".repeat(2_usize.saturating_sub(measure_text_width(&letter)));
        letter + &padding
    };
    let line = |line: usize| {
        let cells: String = columns.iter().map(|column| cell(column, line)).collect();
        format!("{} {cells}", " ".repeat(PIECE)).trim_end().to_owned()
    };
    (0..height).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alignment() -> Alignment {
        Alignment {
            source: ["▁a", "▁dog", "</s>"].map(String::from).to_vec(),
            target: ["▁ein", "▁Donaudampfschifffahrt", "</s>"].map(String::from).to_vec(),
            weights: vec![vec![0.9, 0.06, 0.04], vec![0.2, 0.5, 0.3], vec![0.0, 0.01, 0.99]],
        }
    }

    #[test]
    fn it_is_a_picture() {
        let expected = "
                 ▁ <
                 d /
               ▁ o s
               a g >
          ▁ein ██░░
▁Donaudampfsc… ▒▒▓▓▒▒
          </s>     ██";
        assert_eq!(drawing(&alignment(), 80), expected.trim_start_matches('\n'));
        // Nothing is wider than the terminal; a second block has the rest of the source.
        let narrow = drawing(&alignment(), 20);
        assert!(narrow.lines().all(|line| measure_text_width(line) <= 20), "{narrow}");
        assert_eq!(narrow.matches("▁ein").count(), 2);
        assert_eq!(drawing(&alignment(), 0).matches("▁ein").count(), 3);
    }
}
