//! Cardinal numbers in English and German words. This is a language pair in miniature, with compounds
//! (`einundzwanzig`), a different word order (`twenty-one`: one-and-twenty) and words that change inside others
//! (`eins`, `ein`).

use std::collections::HashSet;

use super::{Split, ToyOptions};
use crate::shuffle::{Purpose, SplitMix64};

/// The largest number that [`english`] and [`german`] can spell.
pub const MAXIMUM: u32 = 999_999;

const ENGLISH_SMALL: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
const ENGLISH_TENS: [&str; 10] = [
    "", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
];

/// `ein`, not `eins`: this form stands before `und`, `hundert` and `tausend`.
const GERMAN_SMALL: [&str; 20] = [
    "null",
    "ein",
    "zwei",
    "drei",
    "vier",
    "fünf",
    "sechs",
    "sieben",
    "acht",
    "neun",
    "zehn",
    "elf",
    "zwölf",
    "dreizehn",
    "vierzehn",
    "fünfzehn",
    "sechzehn",
    "siebzehn",
    "achtzehn",
    "neunzehn",
];
const GERMAN_TENS: [&str; 10] = [
    "", "", "zwanzig", "dreißig", "vierzig", "fünfzig", "sechzig", "siebzig", "achtzig", "neunzig",
];

/// A number up to [`MAXIMUM`] in English, such as `one thousand and five` and `three hundred and twenty-one thousand
/// six hundred`. There are hyphens between tens and units, and no commas. `and` stands inside every group of three
/// digits and before a last group below one hundred. Larger numbers are written as digits.
pub fn english(number: u32) -> String {
    let (thousands, rest) = (number / 1000, number % 1000);
    match (thousands, rest) {
        (1000.., _) => number.to_string(),
        (0, _) => english_group(rest),
        (_, 0) => format!("{} thousand", english_group(thousands)),
        (_, 1..100) => format!("{} thousand and {}", english_group(thousands), english_group(rest)),
        _ => format!("{} thousand {}", english_group(thousands), english_group(rest)),
    }
}

/// A number below 1000.
fn english_group(number: u32) -> String {
    let (hundreds, rest) = ((number / 100) as usize, (number % 100) as usize);
    let below_hundred = match (rest / 10, rest % 10) {
        (0 | 1, _) => ENGLISH_SMALL[rest].to_owned(),
        (tens, 0) => ENGLISH_TENS[tens].to_owned(),
        (tens, units) => format!("{}-{}", ENGLISH_TENS[tens], ENGLISH_SMALL[units]),
    };
    match (hundreds, rest) {
        (0, _) => below_hundred,
        (_, 0) => format!("{} hundred", ENGLISH_SMALL[hundreds]),
        _ => format!("{} hundred and {below_hundred}", ENGLISH_SMALL[hundreds]),
    }
}

/// A number up to [`MAXIMUM`] in German, in one word, such as `einhunderteins` and
/// `einundzwanzigtausenddreihundertfünf`. It uses `einhundert` and `eintausend`, and `eins` only at the end. Larger
/// numbers are written as digits.
pub fn german(number: u32) -> String {
    let (thousands, rest) = (number / 1000, number % 1000);
    let mut word = match thousands {
        0 if rest == 0 => GERMAN_SMALL[0].to_owned(),
        0 => german_group(rest),
        1000.. => return number.to_string(),
        _ => format!("{}tausend{}", german_group(thousands), german_group(rest)),
    };
    if number % 100 == 1 {
        word.push('s');
    }
    word
}

/// A number below 1000 as a part of a word: with `ein`, and empty for 0.
fn german_group(number: u32) -> String {
    let (hundreds, rest) = ((number / 100) as usize, (number % 100) as usize);
    let below_hundred = match (rest / 10, rest % 10) {
        (0, 0) => String::new(),
        (0 | 1, _) => GERMAN_SMALL[rest].to_owned(),
        (tens, 0) => GERMAN_TENS[tens].to_owned(),
        (tens, units) => format!("{}und{}", GERMAN_SMALL[units], GERMAN_TENS[tens]),
    };
    if hundreds == 0 {
        below_hundred
    } else {
        format!("{}hundert{below_hundred}", GERMAN_SMALL[hundreds])
    }
}

pub(super) fn options() -> ToyOptions {
    ToyOptions {
        seed: 1,
        train: 20_000,
        valid: 500,
        test: 1_000,
        maximum: MAXIMUM,
        train_length: None,
        test_length: None,
    }
}

/// Numbers below this are small. They are the first ones that people type.
const SMALL: u32 = 1_000;

/// In the training set, one source in this many begins with a capital letter.
const CAPITAL: usize = 6;

/// Whether a number is round: at most three digits, followed by at least two zeros and nothing else. People type such
/// numbers too, but almost no number drawn by value or by length is round.
fn is_round(number: u32) -> bool {
    number >= 100 && number.is_multiple_of(100 * 10u32.pow((number.ilog10()).saturating_sub(4)))
}

/// Whether a number has one or two words in English (`five`, `twenty-one`, `nine hundred`, `forty thousand`). A corpus
/// of numbers of up to six digits has very few of them, so a model may learn the long ones and fail at `five`. They are
/// written once more as a separate corpus, which can be given a weight.
fn is_short(number: u32) -> bool {
    matches!(number, 0..100)
        || (number < 1_000 && number.is_multiple_of(100))
        || (number < 100_000 && number.is_multiple_of(1_000))
}

/// The splits. Train, valid and test share no number. Numbers of one word, from which all others are made, are in
/// train. `train.short` repeats the short numbers of train, with and without a capital letter. `all.round` and
/// `all.small` have all round and all small numbers; `unseen.round` and `unseen.small` have those of them that are not
/// in train.
pub(super) fn splits(options: &ToyOptions) -> Result<Vec<Split>, String> {
    let &ToyOptions {
        seed,
        train,
        valid,
        test,
        maximum,
        train_length,
        test_length,
    } = options;
    if train_length.is_some() || test_length.is_some() {
        return Err("lengths belong to the toys of sequences; numbers are bounded by their maximum".into());
    }
    if maximum > MAXIMUM {
        return Err(format!("maximum {maximum}: the largest number is {MAXIMUM}"));
    }
    let total = train.checked_add(valid).and_then(|sum| sum.checked_add(test));
    let Some(total) = total.filter(|&total| total <= maximum as usize + 1) else {
        return Err(format!(
            "{train} + {valid} + {test} different numbers are more than there are up to {maximum}; \
             ask for fewer pairs or for a larger maximum"
        ));
    };
    let atoms: Vec<u32> = (0..=maximum).filter(|&number| is_atom(number)).collect();
    if atoms.len() > train {
        return Err(format!(
            "train {train}: the {} numbers of one word do not fit; ask for more",
            atoms.len()
        ));
    }
    let mut generator = SplitMix64::keyed(seed, Purpose::ToyNumbers, &[]);
    let mut others = draw(total - atoms.len(), maximum, &mut generator);
    // Numbers drawn early are smaller on average than numbers drawn late. Without another shuffle, the test set would
    // differ in kind from the training set.
    generator.shuffle(&mut others);
    let test_numbers = others.split_off(others.len() - test);
    let valid_numbers = others.split_off(others.len() - valid);
    let mut train_numbers = [atoms, others].concat();
    generator.shuffle(&mut train_numbers);

    let is_trained: HashSet<u32> = train_numbers.iter().copied().collect();
    let short: Vec<u32> = train_numbers
        .iter()
        .copied()
        .filter(|&number| is_short(number))
        .collect();
    let plain = |number| (english(number), german(number));
    let capital = |number| (capitalized(&english(number)), german(number));
    let mixed = |numbers: Vec<u32>| -> Vec<(String, String)> {
        let spell = |(index, number)| {
            if index % CAPITAL == 0 {
                capital(number)
            } else {
                plain(number)
            }
        };
        numbers.into_iter().enumerate().map(spell).collect()
    };
    let mut splits = vec![
        ("train", mixed(train_numbers)),
        ("valid", mixed(valid_numbers)),
        ("test", mixed(test_numbers)),
        (
            "train.short",
            short
                .iter()
                .flat_map(|&number| [plain(number), capital(number)])
                .collect(),
        ),
    ];
    for (name, is_in) in [
        ("round", is_round as fn(u32) -> bool),
        ("small", |number| number < SMALL),
    ] {
        let all: Vec<u32> = (0..=maximum).filter(|&number| is_in(number)).collect();
        let unseen = all.iter().copied().filter(|number| !is_trained.contains(number));
        splits.push(match name {
            "round" => ("unseen.round", unseen.map(plain).collect()),
            _ => ("unseen.small", unseen.map(plain).collect()),
        });
        splits.push(match name {
            "round" => ("all.round", all.into_iter().map(plain).collect()),
            _ => ("all.small", all.into_iter().map(plain).collect()),
        });
    }
    let splits = splits.into_iter().map(|(name, pairs)| Split { name, pairs });
    // With a small maximum, a split may be empty.
    Ok(splits.filter(|split| !split.pairs.is_empty()).collect())
}

/// The text with a capital letter at its beginning.
fn capitalized(text: &str) -> String {
    let mut characters = text.chars();
    characters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

/// Whether a number has a word, or a form of a word, that no combination of smaller numbers shows.
fn is_atom(number: u32) -> bool {
    matches!(
        number,
        0..=20 | 30 | 40 | 50 | 60 | 70 | 80 | 90 | 100 | 1_000 | 10_000 | 100_000
    )
}

/// Draws `count` different numbers that are not atoms. Three ways take turns: uniformly from all numbers that are left;
/// uniformly from those with a uniformly chosen number of digits, so that small numbers get their share; and in this
/// second way from the round numbers.
fn draw(count: usize, maximum: u32, generator: &mut SplitMix64) -> Vec<u32> {
    let mut order: Vec<u32> = (0..=maximum).filter(|&number| !is_atom(number)).collect();
    generator.shuffle(&mut order);
    // One queue for all numbers, and one for each number of digits, all in the same random order. A number may have
    // been taken from another queue; the next number of a queue that was not taken is a uniform draw from its remaining
    // ones.
    let by_digits = |is_in: fn(u32) -> bool| -> Vec<Vec<u32>> {
        let mut queues: Vec<Vec<u32>> = Vec::new();
        for &number in order.iter().rev().filter(|&&number| is_in(number)) {
            let digits = number.max(1).ilog10() as usize;
            queues.resize(queues.len().max(digits + 1), Vec::new());
            queues[digits].push(number);
        }
        queues.retain(|queue| !queue.is_empty());
        queues
    };
    let mut kinds = [by_digits(|_| true), by_digits(is_round)];
    let mut taken = vec![false; maximum as usize + 1];
    let mut left = order.iter().copied();
    let mut drawn = Vec::with_capacity(count);
    while drawn.len() < count {
        let kind = drawn.len() % 3;
        let next = if kind == 0 || kinds[kind - 1].is_empty() {
            left.find(|&number| !taken[number as usize])
        } else {
            let queues = &mut kinds[kind - 1];
            let digits = generator.below(queues.len() as u64) as usize;
            let queue = &mut queues[digits];
            let next = std::iter::from_fn(|| queue.pop()).find(|&number| !taken[number as usize]);
            if next.is_none() {
                queues.swap_remove(digits);
                continue;
            }
            next
        };
        let Some(number) = next else { break };
        taken[number as usize] = true;
        drawn.push(number);
    }
    drawn
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn tricky_numbers_written_out() {
        let expected = [
            (0, "zero", "null"),
            (1, "one", "eins"),
            (6, "six", "sechs"),
            (7, "seven", "sieben"),
            (10, "ten", "zehn"),
            (11, "eleven", "elf"),
            (12, "twelve", "zwölf"),
            (16, "sixteen", "sechzehn"),
            (17, "seventeen", "siebzehn"),
            (20, "twenty", "zwanzig"),
            (21, "twenty-one", "einundzwanzig"),
            (30, "thirty", "dreißig"),
            (40, "forty", "vierzig"),
            (60, "sixty", "sechzig"),
            (66, "sixty-six", "sechsundsechzig"),
            (70, "seventy", "siebzig"),
            (77, "seventy-seven", "siebenundsiebzig"),
            (100, "one hundred", "einhundert"),
            (101, "one hundred and one", "einhunderteins"),
            (111, "one hundred and eleven", "einhundertelf"),
            (121, "one hundred and twenty-one", "einhunderteinundzwanzig"),
            (200, "two hundred", "zweihundert"),
            (1_000, "one thousand", "eintausend"),
            (1_001, "one thousand and one", "eintausendeins"),
            (1_005, "one thousand and five", "eintausendfünf"),
            (1_100, "one thousand one hundred", "eintausendeinhundert"),
            (1_101, "one thousand one hundred and one", "eintausendeinhunderteins"),
            (21_000, "twenty-one thousand", "einundzwanzigtausend"),
            (
                21_305,
                "twenty-one thousand three hundred and five",
                "einundzwanzigtausenddreihundertfünf",
            ),
            (100_000, "one hundred thousand", "einhunderttausend"),
            (101_000, "one hundred and one thousand", "einhunderteintausend"),
            (
                101_101,
                "one hundred and one thousand one hundred and one",
                "einhunderteintausendeinhunderteins",
            ),
            (
                321_600,
                "three hundred and twenty-one thousand six hundred",
                "dreihunderteinundzwanzigtausendsechshundert",
            ),
            (
                700_716,
                "seven hundred thousand seven hundred and sixteen",
                "siebenhunderttausendsiebenhundertsechzehn",
            ),
            (
                999_999,
                "nine hundred and ninety-nine thousand nine hundred and ninety-nine",
                "neunhundertneunundneunzigtausendneunhundertneunundneunzig",
            ),
            (1_000_000, "1000000", "1000000"),
        ];
        for (number, in_english, in_german) in expected {
            assert_eq!(english(number), in_english);
            assert_eq!(german(number), in_german);
        }
    }

    #[test]
    fn no_two_numbers_are_spelled_alike() {
        for spell in [english, german] {
            let mut seen = HashSet::with_capacity(MAXIMUM as usize + 1);
            let twice = (0..=MAXIMUM).find(|&number| !seen.insert(spell(number)));
            assert_eq!(twice, None);
        }
    }

    #[test]
    fn splits_are_disjoint_and_atoms_are_in_train() {
        let options = ToyOptions {
            train: 600,
            valid: 100,
            test: 300,
            maximum: 999,
            ..options()
        };
        let splits = splits(&options).unwrap();
        let sizes: Vec<_> = splits.iter().map(|split| (split.name, split.pairs.len())).collect();
        assert_eq!(sizes[..3], [("train", 600), ("valid", 100), ("test", 300)]);
        // The splits take all 1000 numbers, so disjoint splits have each exactly once.
        let all: HashSet<_> = splits[..3].iter().flat_map(|split| &split.pairs).collect();
        assert_eq!(all.len(), 1000);
        let train: HashSet<&str> = splits[0].pairs.iter().map(|(source, _)| source.as_str()).collect();
        for atom in ["zero", "one", "nineteen", "twenty", "thirty", "ninety", "one hundred"] {
            assert!(train.contains(atom), "{atom}");
        }
    }

    #[test]
    fn short_training_numbers_come_once_more() {
        let splits = splits(&options()).unwrap();
        let names: Vec<&str> = splits.iter().map(|split| split.name).collect();
        let expected = [
            "train",
            "valid",
            "test",
            "train.short",
            "unseen.round",
            "all.round",
            "unseen.small",
            "all.small",
        ];
        assert_eq!(names, expected);
        let sources = |split: usize| -> Vec<String> {
            splits[split]
                .pairs
                .iter()
                .map(|(source, _)| source.to_lowercase())
                .collect()
        };
        let train: HashSet<String> = sources(0).into_iter().collect();
        let short = sources(3);
        // Each number once as it is and once with a capital letter.
        assert!(
            short
                .chunks(2)
                .all(|pair| pair[0] == pair[1] && train.contains(&pair[0]))
        );
        for pair in [
            ("five", "fünf"),
            ("Five", "fünf"),
            ("One thousand", "eintausend"),
            ("one hundred", "einhundert"),
        ] {
            assert!(splits[3].pairs.contains(&(pair.0.into(), pair.1.into())), "{pair:?}");
        }
        // From 100 to 900, 1,000 to 9,900, 10,000 to 99,900 and 100,000 to 999,000.
        assert_eq!(
            (splits[5].pairs.len(), splits[7].pairs.len()),
            (9 + 90 + 900 + 900, 1_000)
        );
        for (unseen, all) in [(4, 5), (6, 7)] {
            let all = sources(all);
            let expected: Vec<&String> = all.iter().filter(|source| !train.contains(*source)).collect();
            assert_eq!(sources(unseen).iter().collect::<Vec<_>>(), expected);
            assert!(expected.len() > 40);
        }
    }

    #[test]
    fn one_source_in_six_begins_with_a_capital_letter() {
        for split in splits(&options()).unwrap().iter().take(3) {
            let capitals = split
                .pairs
                .iter()
                .filter(|(source, _)| source.starts_with(char::is_uppercase));
            assert_eq!(capitals.count(), split.pairs.len().div_ceil(CAPITAL), "{}", split.name);
            assert!(
                split
                    .pairs
                    .iter()
                    .all(|(_, target)| target.starts_with(char::is_lowercase))
            );
        }
    }

    #[test]
    fn round_numbers() {
        for number in [100, 900, 1_000, 9_900, 12_300, 99_900, 100_000, 123_000, 999_000] {
            assert!(is_round(number), "{number}");
        }
        for number in [0, 10, 90, 110, 1_010, 12_340, 100_100, 123_400] {
            assert!(!is_round(number), "{number}");
        }
    }

    #[test]
    fn small_and_round_numbers_have_their_share() {
        let mut generator = SplitMix64::keyed(3, Purpose::ToyNumbers, &[]);
        let drawn = draw(6_000, MAXIMUM, &mut generator);
        assert_eq!(drawn.iter().collect::<HashSet<_>>().len(), 6_000);
        let share = |range: std::ops::Range<u32>| drawn.iter().filter(|number| range.contains(number)).count();
        // Of the 2,000 draws by digits, the first 360 or so take all 72 numbers of two digits that are not atoms. The
        // other draws are shared by four lengths: about 72 + 410 each. Uniform draws add 2 and 18, round ones 8 and 89.
        assert_eq!(share(21..100), 72);
        assert!((440..550).contains(&share(100..1_000)), "{}", share(100..1_000));
        assert!((530..640).contains(&share(1_000..10_000)), "{}", share(1_000..10_000));
        // All of the 1,899 except four atoms.
        assert_eq!(drawn.iter().filter(|number| is_round(**number)).count(), 1_895);
    }

    #[test]
    fn options_that_cannot_be_met_are_named() {
        let message = |change: fn(&mut ToyOptions)| {
            let mut options = options();
            change(&mut options);
            splits(&options).map(|_| ()).unwrap_err()
        };
        assert!(message(|options| options.maximum = 999).contains("are more than there are up to 999"));
        assert!(message(|options| options.maximum = 1_000_000).contains("the largest number is 999999"));
        assert!(message(|options| options.train = 20).starts_with("train 20: the 32 numbers of one word"));
        assert!(message(|options| options.train = usize::MAX).contains("are more than"));
        assert!(message(|options| options.train_length = Some(3)).contains("lengths belong"));
    }
}
