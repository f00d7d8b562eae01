//! The repeated substrings of a text, from which a unigram vocabulary takes its first candidates.
//!
//! The learner in `tokenizers` takes these from the crate `esaxx-rs`. That crate's sorting of suffixes is wrong for
//! some texts: substrings get lost, and a few short texts make it panic. This crate has its name and the functions that
//! `tokenizers` calls, and replaces it (`[patch.crates-io]` in the workspace's `Cargo.toml`).

mod suffix_array;

use suffix_array::{common_prefixes, suffix_array};

/// A text that cannot be searched.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum SuffixError {
    /// The text has too many characters.
    #[error("a text of {0} characters is too long: at most 4,294,967,294 can be searched for repetitions")]
    TooLong(usize),
}

/// The substrings of a text that occur at least twice and that are followed by different characters, or once by the
/// end of the text: the inner nodes of its suffix tree. Every other repeated substring is the beginning of one of them,
/// with the same number of occurrences.
pub struct Suffix {
    text: Vec<char>,
    nodes: Vec<Node>,
}

struct Node {
    start: u32,
    length: u32,
    occurrences: u32,
}

/// Searches a text for repeated substrings. The time grows with n log² n in the worst case, and the memory is at most
/// 32 bytes per character.
///
/// Follows Abouelhoda, Kurtz and Ohlebusch, "Replacing suffix trees with enhanced suffix arrays" (2004), section 3: a
/// node is an interval of the sorted suffixes whose common prefixes are at least as long as the node.
///
/// # Errors
/// [`SuffixError::TooLong`] beyond 2^32 - 2 characters.
pub fn suffix_rs(text: &str) -> Result<Suffix, SuffixError> {
    let text: Vec<char> = text.chars().collect();
    let suffixes = suffix_array(&text)?;
    let prefixes = common_prefixes(&text, &suffixes);
    let mut nodes = Vec::new();
    // Open intervals: where each begins, and its length. The first is the empty substring.
    let mut open: Vec<(usize, u32)> = vec![(0, 0)];
    for end in 1..=suffixes.len() {
        // The common prefix of the suffixes before and after this place; none after the last one.
        let prefix = prefixes.get(end).copied();
        let mut begin = end - 1;
        while let Some(&(opened, length)) = open.last()
            && prefix.is_none_or(|prefix| length > prefix)
        {
            open.pop();
            begin = opened;
            if end - begin > 1 {
                nodes.push(Node {
                    start: suffixes[begin],
                    length,
                    occurrences: (end - begin) as u32,
                });
            }
        }
        if let Some(prefix) = prefix
            && open.last().is_none_or(|&(_, length)| length < prefix)
        {
            open.push((begin, prefix));
        }
    }
    Ok(Suffix { text, nodes })
}

impl Suffix {
    /// Each substring with the number of its occurrences, those that overlap included. The empty one is the last.
    pub fn iter(&self) -> impl Iterator<Item = (&[char], u32)> {
        self.nodes.iter().map(|node| {
            let start = node.start as usize;
            (&self.text[start..start + node.length as usize], node.occurrences)
        })
    }
}
