//! The form of one pair in a file.
//!
//! | bytes | content |
//! |---|---|
//! | 4 | CRC-32C of the number of the pair, as 8 bytes, and of the rest of the record |
//! | 8 | the line of the pair in its corpus, from 0 |
//! | 4, 4 | the numbers of source and of target tokens |
//! | 4 | the number of links; only in corpora with word alignments |
//! | 2 or 4 each | source tokens, target tokens |
//! | 4, 4 each | links: the source word, and the target word with its highest bit set if the link is not certain |

use crate::word_alignments::Link;

const CHECKSUM: usize = 4;
const LINE: usize = 8;
const COUNT: usize = 4;
const UNSURE: u32 = 1 << 31;

/// The form of the records of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Form {
    /// Whether tokens have two bytes, otherwise four.
    pub(super) is_narrow: bool,
    /// Whether pairs have links.
    pub(super) has_links: bool,
}

/// A pair without its number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) line: u64,
    pub(super) source: Vec<u32>,
    pub(super) target: Vec<u32>,
    pub(super) links: Vec<Link>,
}

impl Form {
    fn token_bytes(self) -> usize {
        if self.is_narrow { 2 } else { 4 }
    }

    /// The length of the record with this head.
    pub(super) fn length(self, head: &[u8]) -> Option<u64> {
        let counts = head
            .get(CHECKSUM + LINE..)?
            .chunks_exact(COUNT)
            .map(|count| u64::from(number_of(count)));
        let counts: Vec<u64> = counts.collect();
        let links = if self.has_links { *counts.get(2)? } else { 0 };
        let tokens = counts.first()? + counts.get(1)?;
        Some(self.head() as u64 + tokens * self.token_bytes() as u64 + links * 2 * COUNT as u64)
    }

    /// Bytes before the tokens.
    pub(super) fn head(self) -> usize {
        CHECKSUM + LINE + 2 * COUNT + if self.has_links { COUNT } else { 0 }
    }

    /// Appends the record of a pair. With `is_narrow`, tokens are below 2^16.
    pub(super) fn write(self, number: u64, record: &Record, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; CHECKSUM]);
        out.extend_from_slice(&record.line.to_le_bytes());
        for side in [&record.source, &record.target] {
            out.extend_from_slice(&(side.len() as u32).to_le_bytes());
        }
        if self.has_links {
            out.extend_from_slice(&(record.links.len() as u32).to_le_bytes());
        }
        for token in record.source.iter().chain(&record.target) {
            match self.is_narrow {
                true => out.extend_from_slice(&(*token as u16).to_le_bytes()),
                false => out.extend_from_slice(&token.to_le_bytes()),
            }
        }
        if self.has_links {
            for link in &record.links {
                let target = if link.is_sure {
                    link.target
                } else {
                    link.target | UNSURE
                };
                out.extend_from_slice(&link.source.to_le_bytes());
                out.extend_from_slice(&target.to_le_bytes());
            }
        }
        let checksum = checksum(number, &out[start + CHECKSUM..]);
        out[start..start + CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
    }

    /// Reads the record of a pair into `record`. Returns whether it is intact.
    pub(super) fn read(self, number: u64, bytes: &[u8], record: &mut Record) -> bool {
        let Some((head, body)) = bytes.split_at_checked(self.head()) else {
            return false;
        };
        let (found, rest) = bytes.split_at(CHECKSUM);
        if number_of(found) != checksum(number, rest) {
            return false;
        }
        let count = |place: usize| {
            let start = CHECKSUM + LINE + place * COUNT;
            number_of(&head[start..start + COUNT]) as usize
        };
        let [source, target, links] = [count(0), count(1), if self.has_links { count(2) } else { 0 }];
        // Counts of 32 bits do not overflow here.
        if (source + target) * self.token_bytes() + links * 2 * COUNT != body.len() {
            return false;
        }
        let mut line = [0; LINE];
        line.copy_from_slice(&head[CHECKSUM..CHECKSUM + LINE]);
        record.line = u64::from_le_bytes(line);
        let (sources, rest) = body.split_at(source * self.token_bytes());
        let (targets, pairs) = rest.split_at(target * self.token_bytes());
        for (side, bytes) in [(&mut record.source, sources), (&mut record.target, targets)] {
            side.clear();
            side.extend(bytes.chunks_exact(self.token_bytes()).map(number_of));
        }
        record.links.clear();
        record.links.extend(pairs.chunks_exact(2 * COUNT).map(|pair| {
            let target = number_of(&pair[COUNT..]);
            Link {
                source: number_of(&pair[..COUNT]),
                target: target & !UNSURE,
                is_sure: target & UNSURE == 0,
            }
        }));
        true
    }
}

fn checksum(number: u64, rest: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&number.to_le_bytes()), rest)
}

/// A little-endian number of at most four bytes.
fn number_of(bytes: &[u8]) -> u32 {
    let mut whole = [0; 4];
    whole[..bytes.len()].copy_from_slice(bytes);
    u32::from_le_bytes(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let link = |source, target, is_sure| Link {
            source,
            target,
            is_sure,
        };
        Record {
            line: 1 << 40,
            source: vec![5, 65_535, 0],
            target: vec![7],
            links: vec![link(0, 1, true), link(2, 0, false)],
        }
    }

    fn forms() -> impl Iterator<Item = Form> {
        [(false, false), (false, true), (true, false), (true, true)]
            .into_iter()
            .map(|(is_narrow, has_links)| Form { is_narrow, has_links })
    }

    #[test]
    fn the_bytes_are_those_of_the_table() {
        let mut bytes = Vec::new();
        let form = Form {
            is_narrow: true,
            has_links: true,
        };
        form.write(3, &record(), &mut bytes);
        let rest = [
            &[0, 0, 0, 0, 0, 1, 0, 0][..],
            &[3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0],
            &[5, 0, 255, 255, 0, 0, 7, 0],
            &[0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 128],
        ]
        .concat();
        assert_eq!(bytes[4..], rest);
        let numbered = [&3_u64.to_le_bytes()[..], &rest].concat();
        assert_eq!(bytes[..4], crc32c::crc32c(&numbered).to_le_bytes());
    }

    #[test]
    fn records_come_back() {
        for form in forms() {
            for mut record in [record(), Record::default()] {
                let (mut bytes, mut read) = (vec![9; 3], super::tests::record());
                form.write(8, &record, &mut bytes);
                assert!(form.read(8, &bytes[3..], &mut read));
                if !form.has_links {
                    record.links.clear();
                }
                assert_eq!(read, record);
            }
        }
    }

    #[test]
    fn every_damage_is_noticed() {
        for form in forms() {
            let mut bytes = Vec::new();
            form.write(8, &record(), &mut bytes);
            let mut read = Record::default();
            assert!(!form.read(9, &bytes, &mut read));
            for bit in 0..8 * bytes.len() {
                let mut damaged = bytes.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert!(!form.read(8, &damaged, &mut read), "{bit}");
            }
            for length in 0..bytes.len() {
                assert!(!form.read(8, &bytes[..length], &mut read));
            }
            bytes.push(0);
            assert!(!form.read(8, &bytes, &mut read));
        }
    }
}
