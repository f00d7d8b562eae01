//! Missing and other punctuation.

use crate::shuffle::SplitMix64;

/// Marks that end a sentence, and the marks that may stand in their place.
const MARKS: [&str; 4] = [".", "!", "?", "..."];
const WIDE_MARKS: [&str; 4] = ["。", "！", "？", "……"];

/// Typographic marks, and how they are typed on a plain keyboard.
const PLAIN: [(char, &str); 12] = [
    ('“', "\""),
    ('”', "\""),
    ('„', "\""),
    ('«', "\""),
    ('»', "\""),
    ('‘', "'"),
    ('’', "'"),
    ('‚', "'"),
    ('–', "-"),
    ('—', "-"),
    ('…', "..."),
    ('\u{a0}', " "),
];

/// A way to change a pair, whose sides have marks at their ends here.
type Way = fn(&mut [String; 2], [Option<usize>; 2], &mut SplitMix64);

/// Changes the punctuation of a pair in one of the ways that its text allows.
pub(super) fn change(sides: &mut [String; 2], generator: &mut SplitMix64) {
    let ends = [final_mark(&sides[0]), final_mark(&sides[1])];
    let mut ways: Vec<Way> = Vec::new();
    if let [Some(_), Some(_)] = ends {
        ways.push(without_mark);
        ways.push(other_mark);
    }
    if sides[0].contains([',', '，', '、']) {
        ways.push(without_commas);
    }
    if sides[0].contains(|c| PLAIN.iter().any(|(mark, _)| *mark == c)) {
        ways.push(plain_marks);
    }
    if let Some(way) = ways.get(generator.below(ways.len() as u64) as usize) {
        way(sides, ends, generator);
    }
}

/// Where the mark at the end of a sentence begins.
fn final_mark(text: &str) -> Option<usize> {
    let bare = text.trim_end_matches(['.', '!', '?', '…', '。', '！', '？']);
    (bare.len() < text.len() && bare.ends_with(char::is_alphanumeric)).then_some(bare.len())
}

fn without_mark(sides: &mut [String; 2], ends: [Option<usize>; 2], _: &mut SplitMix64) {
    for (side, end) in sides.iter_mut().zip(ends) {
        side.truncate(end.unwrap_or(side.len()));
    }
}

fn other_mark(sides: &mut [String; 2], ends: [Option<usize>; 2], generator: &mut SplitMix64) {
    let chosen = generator.below(MARKS.len() as u64) as usize;
    for (side, end) in sides.iter_mut().zip(ends) {
        let is_wide = side.ends_with(['。', '！', '？']);
        side.truncate(end.unwrap_or(side.len()));
        side.push_str(if is_wide { WIDE_MARKS[chosen] } else { MARKS[chosen] });
    }
}

fn without_commas(sides: &mut [String; 2], _: [Option<usize>; 2], _: &mut SplitMix64) {
    let text: Vec<char> = sides[0].chars().collect();
    // Between digits, a comma is part of a number; between letters, it is all that separates them.
    let is_inside = |at: Option<usize>| {
        at.and_then(|at| text.get(at))
            .is_some_and(|c| c.is_ascii_alphanumeric())
    };
    let is_kept = |at: usize| !",，、".contains(text[at]) || (is_inside(at.checked_sub(1)) && is_inside(Some(at + 1)));
    sides[0] = (0..text.len()).filter(|at| is_kept(*at)).map(|at| text[at]).collect();
}

fn plain_marks(sides: &mut [String; 2], _: [Option<usize>; 2], _: &mut SplitMix64) {
    for (mark, plain) in PLAIN {
        sides[0] = sides[0].replace(mark, plain);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shuffle::Purpose;
    use std::collections::BTreeSet;

    fn changes(source: &str, target: &str) -> BTreeSet<[String; 2]> {
        let change = |id| {
            let mut sides = [source.to_owned(), target.to_owned()];
            super::change(&mut sides, &mut SplitMix64::keyed(1, Purpose::Augmentation, &[id]));
            sides
        };
        (0..300).map(change).collect()
    }

    fn set(expected: &[[&str; 2]]) -> BTreeSet<[String; 2]> {
        expected.iter().map(|sides| sides.map(String::from)).collect()
    }

    #[test]
    fn every_way_and_no_other() {
        let expected = [
            ["Oh, 1,5 m", "Ach 1,5 m"],
            ["Oh, 1,5 m.", "Ach 1,5 m."],
            ["Oh, 1,5 m!", "Ach 1,5 m!"],
            ["Oh, 1,5 m?", "Ach 1,5 m?"],
            ["Oh, 1,5 m...", "Ach 1,5 m..."],
            ["Oh 1,5 m.", "Ach 1,5 m."],
        ];
        assert_eq!(changes("Oh, 1,5 m.", "Ach 1,5 m."), set(&expected));
        let expected = [["\"a\" - it's", "„a“ – b"]];
        assert_eq!(changes("“a” – it’s", "„a“ – b"), set(&expected));
        // A mark on one side only says nothing about the other.
        assert_eq!(changes("a.", "b"), set(&[["a.", "b"]]));
        assert_eq!(changes("", ""), set(&[["", ""]]));
        let wide: BTreeSet<_> = changes("一。", "one.").into_iter().collect();
        assert!(wide.contains(&["一！".to_owned(), "one!".to_owned()]), "{wide:?}");
    }
}
