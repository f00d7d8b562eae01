//! Repeated substrings against the definition.
#![allow(clippy::expect_used)] // Outside test functions, too.

use std::collections::{BTreeMap, BTreeSet};

use esaxx_rs::suffix_rs;

fn found(text: &str) -> Vec<(String, u32)> {
    suffix_rs(text)
        .expect("a text that is short enough")
        .iter()
        .map(|(substring, occurrences)| (substring.iter().collect(), occurrences))
        .collect()
}

/// Counts every substring, and keeps those that occur again and go on in at least two ways.
fn by_definition(text: &str) -> BTreeMap<String, u32> {
    let text: Vec<char> = text.chars().collect();
    let mut occurrences: BTreeMap<&[char], (u32, BTreeSet<Option<char>>)> = BTreeMap::new();
    for start in 0..text.len() {
        for end in start..=text.len() {
            let (count, next) = occurrences.entry(&text[start..end]).or_default();
            *count += 1;
            next.insert(text.get(end).copied());
        }
    }
    occurrences
        .into_iter()
        .filter(|(substring, (count, next))| *count > 1 && (substring.is_empty() || next.len() > 1))
        .map(|(substring, (count, _))| (substring.iter().collect(), count))
        .collect()
}

fn check(text: &str) {
    let substrings = found(text);
    let expected = by_definition(text);
    assert_eq!(substrings.len(), expected.len(), "{text:?}");
    assert_eq!(substrings.into_iter().collect::<BTreeMap<_, _>>(), expected, "{text:?}");
}

#[test]
fn substrings_in_the_order_of_the_replaced_crate() {
    let expected = [("abra", 2), ("a", 5), ("bra", 2), ("ra", 2), ("", 11)];
    assert_eq!(
        found("abracadabra"),
        expected.map(|(substring, count)| (substring.to_owned(), count))
    );
}

#[test]
fn short_texts() {
    for text in ["", "a", "aa", "ab", "aaaaaaaa", "\0\0\0", "\u{10ffff}a\u{10ffff}"] {
        check(text);
    }
}

#[test]
fn texts_that_made_the_replaced_crate_panic_or_forget() {
    check("banana$band$$");
    check("▁a\0▁doga\0▁one\0▁one\0▁old\0▁ctea\0▁thold\0\0\0▁one\0▁cat\0▁t\0▁ehh\0");
}

#[test]
fn random_texts() {
    // A linear congruential generator: any sequence will do.
    let mut state = 1u64;
    let mut below = |limit: u64| {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 33) % limit
    };
    for _ in 0..3000 {
        let length = below(60);
        let letters = 1 + below(5);
        let text: String = (0..length)
            .map(|_| ['\0', 'a', 'b', '▁', 'é'][below(letters) as usize])
            .collect();
        check(&text);
    }
}
