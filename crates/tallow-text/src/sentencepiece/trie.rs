//! A tree of the bytes of pieces.

use std::ops::Range;

/// Finds all pieces with which a text begins. Nodes are stored in the order of their depth, and siblings side by side
/// in the order of their bytes.
#[derive(Debug)]
pub(crate) struct Trie {
    /// The byte that leads to each node; the root's byte is not used.
    bytes: Vec<u8>,
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    children: Range<u32>,
    value: Option<u32>,
}

impl Trie {
    /// The root of every tree.
    pub(crate) const ROOT: usize = 0;

    /// A tree of these keys and their values. All keys must differ.
    pub(crate) fn new<'a>(entries: impl IntoIterator<Item = (&'a str, u32)>) -> Self {
        let mut entries: Vec<(&[u8], u32)> = entries
            .into_iter()
            .map(|(key, value)| (key.as_bytes(), value))
            .collect();
        entries.sort_unstable();
        let node = Node {
            children: 0..0,
            value: None,
        };
        let mut trie = Self {
            bytes: vec![0],
            nodes: vec![node],
        };
        // For each node that has no children yet, in the order of the nodes: the entries below it.
        let mut below = vec![Range {
            start: 0,
            end: entries.len(),
        }];
        let (mut depth, mut first) = (0, 0);
        while !below.is_empty() {
            let mut next = Vec::new();
            for (index, range) in (first..).zip(below) {
                let mut rest = &entries[range.clone()];
                let mut start = range.start;
                if let Some((key, value)) = rest.first()
                    && key.len() == depth
                {
                    trie.nodes[index].value = Some(*value);
                    (rest, start) = (&rest[1..], start + 1);
                }
                let begin = trie.nodes.len();
                for group in rest.chunk_by(|(a, _), (b, _)| a[depth] == b[depth]) {
                    trie.bytes.push(group[0].0[depth]);
                    trie.nodes.push(Node {
                        children: 0..0,
                        value: None,
                    });
                    next.push(start..start + group.len());
                    start += group.len();
                }
                trie.nodes[index].children = begin as u32..trie.nodes.len() as u32;
            }
            first += trie.nodes.len() - first - next.len();
            depth += 1;
            below = next;
        }
        trie
    }

    /// The node to which a byte leads from `node`.
    pub(crate) fn step(&self, node: usize, byte: u8) -> Option<usize> {
        let children = &self.nodes[node].children;
        let (start, end) = (children.start as usize, children.end as usize);
        let found = self.bytes[start..end].binary_search(&byte).ok()?;
        Some(start + found)
    }

    /// The value of the key that ends at a node.
    pub(crate) fn value(&self, node: usize) -> Option<u32> {
        self.nodes[node].value
    }

    /// The longest key with which a text begins: its length in bytes and its value.
    pub(crate) fn longest(&self, text: &str) -> Option<(usize, u32)> {
        let (mut node, mut found) = (Self::ROOT, None);
        for (i, byte) in text.bytes().enumerate() {
            let Some(next) = self.step(node, byte) else { break };
            node = next;
            found = self.value(node).map(|value| (i + 1, value)).or(found);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found() {
        let keys = ["b", "abc", "a", "ä", "abd", "", "bcd"];
        let trie = Trie::new(keys.into_iter().zip(0..));
        let value = |text: &str| {
            let node = text.bytes().try_fold(Trie::ROOT, |node, byte| trie.step(node, byte));
            node.and_then(|node| trie.value(node))
        };
        for (key, id) in keys.into_iter().zip(0..) {
            assert_eq!(value(key), Some(id), "{key}");
        }
        assert_eq!([value("ab"), value("abcd"), value("c")], [None; 3]);
        assert_eq!(trie.longest("abcc"), Some((3, 1)));
        assert_eq!(trie.longest("abx"), Some((1, 2)));
        assert_eq!(trie.longest("xyz"), None);
        assert_eq!(Trie::new([]).longest("a"), None);
    }
}
