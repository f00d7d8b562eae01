//! Made-up addresses, numbers, tags, placeholders and emoji, the same on both sides.

use crate::shuffle::SplitMix64;

/// Puts the same thing into both sides: at the beginning, at the end, before the final mark, beside a word that both
/// sides share, or around the whole.
pub(super) fn insert(sides: &mut [String; 2], generator: &mut SplitMix64) {
    let kind = generator.below(7);
    if kind == 6 {
        let tag = pick(&TAGS, generator);
        for side in sides {
            *side = format!("<{tag}>{side}</{tag}>");
        }
        return;
    }
    let thing = match kind {
        0 => url(generator),
        1 => mail(generator),
        2 => number(generator),
        3 => placeholder(generator),
        _ => emoji(generator),
    };
    let anchor = anchor(sides, generator);
    let place = match anchor {
        Some(_) => generator.below(4),
        None => generator.below(3),
    };
    for side in 0..2 {
        let text = &sides[side];
        sides[side] = match (place, anchor) {
            (0, _) => format!("{thing} {text}"),
            (1, _) => format!("{text} {thing}"),
            (2, _) => {
                let bare = text.trim_end_matches(['.', '!', '?', '…', '。', '！', '？']);
                format!("{bare} {thing}{}", &text[bare.len()..])
            }
            (_, Some(ends)) => format!("{} {thing}{}", &text[..ends[side]], &text[ends[side]..]),
            (_, None) => continue,
        };
    }
}

/// The ends of a word that occurs once on each side, such as a name or a number: what stands behind it there stands
/// behind it here.
fn anchor(sides: &[String; 2], generator: &mut SplitMix64) -> Option<[usize; 2]> {
    let words = |text: &str| -> Vec<(String, usize)> {
        let mut found = Vec::new();
        for word in text.split_inclusive(char::is_whitespace) {
            let begin = word.as_ptr() as usize - text.as_ptr() as usize;
            let word = word.trim_end();
            found.push((word.to_owned(), begin + word.len()));
        }
        found
    };
    let (source, target) = (words(&sides[0]), words(&sides[1]));
    let once = |words: &[(String, usize)], wanted: &str| {
        let mut same = words.iter().filter(|(word, _)| word == wanted);
        same.next().map(|(_, end)| *end).filter(|_| same.next().is_none())
    };
    let is_telling = |word: &str| word.chars().count() > 1 && word.chars().all(char::is_alphanumeric);
    let shared: Vec<[usize; 2]> = source
        .iter()
        .filter(|(word, _)| is_telling(word))
        .filter_map(|(word, _)| Some([once(&source, word)?, once(&target, word)?]))
        .collect();
    shared.get(generator.below(shared.len() as u64) as usize).copied()
}

const TAGS: [&str; 8] = ["b", "i", "u", "em", "strong", "p", "code", "span"];
const DOMAINS: [&str; 12] = [
    "com", "org", "net", "de", "fr", "eu", "io", "co.uk", "info", "edu", "jp", "cz",
];
const PLACEHOLDERS: [&str; 14] = [
    "%s", "%d", "%1$s", "%2$s", "%u", "%.2f", "{0}", "{1}", "{2}", "%1", "%2", "%%", "$1", "{}",
];
const NAMES: [&str; 10] = [
    "name", "count", "user", "file", "path", "date", "size", "title", "id", "value",
];

fn pick<'a>(from: &[&'a str], generator: &mut SplitMix64) -> &'a str {
    from[generator.below(from.len() as u64) as usize]
}

/// Random letters, sometimes digits.
fn word(generator: &mut SplitMix64) -> String {
    const LETTERS: &[u8] = b"aabcdeeefghiiijklmnooopqrsttuuvwxyz";
    let length = 2 + generator.below(9);
    let letter = |_| match generator.below(20) {
        0 => char::from(b'0' + generator.below(10) as u8),
        _ => char::from(LETTERS[generator.below(LETTERS.len() as u64) as usize]),
    };
    (0..length).map(letter).collect()
}

fn url(generator: &mut SplitMix64) -> String {
    let mut url = match generator.below(4) {
        0 => "http://".to_owned(),
        1 => "www.".to_owned(),
        2 => "https://www.".to_owned(),
        _ => "https://".to_owned(),
    };
    url += &word(generator);
    if generator.below(4) == 0 {
        url += &format!("-{}", word(generator));
    }
    url += &format!(".{}", pick(&DOMAINS, generator));
    for _ in 0..generator.below(3) {
        url += &format!("/{}", word(generator));
    }
    match generator.below(5) {
        0 => url += &format!("?{}={}", word(generator), generator.below(1000)),
        1 => url += ".html",
        2 => url.push('/'),
        _ => {}
    }
    url
}

fn mail(generator: &mut SplitMix64) -> String {
    let mut name = word(generator);
    if generator.below(2) == 0 {
        name += &format!("{}{}", pick(&[".", "_", "-"], generator), word(generator));
    }
    format!("{name}@{}.{}", word(generator), pick(&DOMAINS, generator))
}

fn number(generator: &mut SplitMix64) -> String {
    let digits = generator.below(6) as u32;
    let number = generator.below(10u64.pow(digits + 1));
    match generator.below(6) {
        0 => format!("{number}%"),
        1 => format!("{}:{:02}", generator.below(24), generator.below(60)),
        2 => format!("#{number}"),
        3 => format!("({number})"),
        4 => format!(
            "{}-{:02}-{:02}",
            1900 + generator.below(200),
            1 + generator.below(12),
            1 + generator.below(28)
        ),
        _ => number.to_string(),
    }
}

fn placeholder(generator: &mut SplitMix64) -> String {
    match generator.below(4) {
        0 => format!("{{{}}}", pick(&NAMES, generator)),
        1 => format!("%({})s", pick(&NAMES, generator)),
        2 => format!("${{{}}}", pick(&NAMES, generator)),
        _ => pick(&PLACEHOLDERS, generator).to_owned(),
    }
}

/// One to three emoji, all from the blocks of Unicode that have little else.
fn emoji(generator: &mut SplitMix64) -> String {
    const BLOCKS: [(u32, u32); 5] = [
        (0x1F600, 0x1F64F),
        (0x1F300, 0x1F5FF),
        (0x1F680, 0x1F6C5),
        (0x1F90C, 0x1F9FF),
        (0x2600, 0x26FF),
    ];
    let count = if generator.below(4) == 0 {
        1 + generator.below(3)
    } else {
        1
    };
    let draw = |_| {
        // Faces are half of what people write.
        let block = (generator.below(2 * BLOCKS.len() as u64) as usize).saturating_sub(BLOCKS.len());
        let (first, last) = BLOCKS[block];
        char::from_u32(first + generator.below(u64::from(last - first + 1)) as u32)
    };
    (0..count).filter_map(draw).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shuffle::Purpose;

    /// Without what was put in, the sides are what they were, and what was put in is the same.
    #[test]
    fn both_sides_get_the_same_at_the_same_place() {
        let (source, target) = ("Bob lives in Berlin.", "Bob wohnt in Berlin.");
        let (mut middle, mut whole, mut things) = (0, 0, std::collections::BTreeSet::new());
        for id in 0..2000 {
            let mut sides = [source.to_owned(), target.to_owned()];
            insert(&mut sides, &mut SplitMix64::keyed(1, Purpose::Augmentation, &[id]));
            let taken = sides.clone().map(|side| {
                let plain = side.replace("lives", "wohnt");
                let begin = plain.bytes().zip(target.bytes()).take_while(|(a, b)| a == b).count();
                let more = plain.len() - target.len();
                (begin, more)
            });
            assert_eq!(taken[0], taken[1], "{sides:?}");
            middle += usize::from(sides[1].starts_with("Bob ") && sides[1].ends_with("wohnt in Berlin."));
            whole += usize::from(sides[1].starts_with('<') && sides[1].ends_with('>'));
            things.insert(sides[1].clone());
        }
        assert!(
            middle > 100 && whole > 100 && things.len() > 1200,
            "{middle} {whole} {}",
            things.len()
        );
    }

    #[test]
    fn empty_and_wide_text() {
        for id in 0..300 {
            for text in ["", ".", "一。", "…", "a\u{a0}b 😀"] {
                let mut sides = [text.to_owned(), text.to_owned()];
                insert(&mut sides, &mut SplitMix64::keyed(2, Purpose::Augmentation, &[id]));
                assert!(sides[0] == sides[1] && sides[0].len() > text.len(), "{sides:?}");
            }
        }
    }
}
