//! Sorting the suffixes of a text.

use crate::SuffixError;

/// Bits of a character plus one, which leaves zero for the end of the text. Three of them fit into 64 bits.
const CHARACTER_BITS: u32 = 21;

/// The beginnings of all suffixes, in the order of the suffixes.
///
/// Suffixes are sorted by their first three characters, then groups of equals by twice as many characters in each
/// round: prefix doubling as in Larsson and Sadakane, "Faster suffix sorting" (2007). A group is sorted by the ranks of
/// what follows; once a suffix is alone, it is not looked at again.
pub(crate) fn suffix_array(text: &[char]) -> Result<Vec<u32>, SuffixError> {
    let n = text.len();
    let count = u32::try_from(n)
        .ok()
        .filter(|&count| count < u32::MAX)
        .ok_or(SuffixError::TooLong(n))?;
    let first_characters = |&suffix: &u32| {
        (0..3).fold(0u64, |key, ahead| {
            let character = text
                .get(suffix as usize + ahead)
                .map_or(0, |&c| u64::from(u32::from(c)) + 1);
            key << CHARACTER_BITS | character
        })
    };
    let mut suffixes: Vec<u32> = (0..count).collect();
    suffixes.sort_by_cached_key(first_characters);

    // The rank of a suffix is one more than the last place of its group; the empty suffix has rank zero.
    let mut ranks = vec![0u32; n + 1];
    let mut groups: Vec<(u32, u32)> = Vec::new();
    split(&suffixes, 0, first_characters, &mut groups, &mut ranks);

    let mut sorted = 3;
    let mut next = Vec::new();
    while !groups.is_empty() {
        for &(begin, end) in &groups {
            let group = &mut suffixes[begin as usize..end as usize];
            let following = |&suffix: &u32| ranks.get(suffix as usize + sorted).copied().unwrap_or(0);
            // Ranks change after the comparison only, and only within the group.
            let mut keyed: Vec<(u32, u32)> = group.iter().map(|suffix| (following(suffix), *suffix)).collect();
            keyed.sort_unstable();
            for (place, (_, suffix)) in group.iter_mut().zip(&keyed) {
                *place = *suffix;
            }
            let mut keys = keyed.iter().map(|(key, _)| *key);
            split(group, begin, |_| keys.next(), &mut next, &mut ranks);
        }
        std::mem::swap(&mut groups, &mut next);
        next.clear();
        sorted *= 2;
    }
    Ok(suffixes)
}

/// Divides sorted suffixes, the first of which is at place `begin`, into groups with the same key; sets their ranks,
/// and adds the groups of more than one.
fn split<K: PartialEq>(
    suffixes: &[u32],
    begin: u32,
    mut key: impl FnMut(&u32) -> K,
    groups: &mut Vec<(u32, u32)>,
    ranks: &mut [u32],
) {
    let keys: Vec<K> = suffixes.iter().map(&mut key).collect();
    let mut start = 0;
    for end in 1..=suffixes.len() {
        if end < suffixes.len() && keys[end] == keys[start] {
            continue;
        }
        for &suffix in &suffixes[start..end] {
            ranks[suffix as usize] = begin + end as u32;
        }
        if end - start > 1 {
            groups.push((begin + start as u32, begin + end as u32));
        }
        start = end;
    }
}

/// For each place in the order, how many characters its suffix has in common with the suffix before; zero at the first.
///
/// Kasai and others, "Linear-time longest-common-prefix computation in suffix arrays" (2001): the suffix that begins
/// one character later has at most one character less in common.
pub(crate) fn common_prefixes(text: &[char], suffixes: &[u32]) -> Vec<u32> {
    let mut places = vec![0u32; text.len()];
    for (place, &suffix) in suffixes.iter().enumerate() {
        places[suffix as usize] = place as u32;
    }
    let mut prefixes = vec![0u32; text.len()];
    let mut common = 0;
    for (suffix, &place) in places.iter().enumerate() {
        if place == 0 {
            common = 0;
            continue;
        }
        let before = suffixes[place as usize - 1] as usize;
        let rest = text[suffix + common..].iter().zip(&text[before + common..]);
        common += rest.take_while(|(a, b)| a == b).count();
        prefixes[place as usize] = common as u32;
        common = common.saturating_sub(1);
    }
    prefixes
}
