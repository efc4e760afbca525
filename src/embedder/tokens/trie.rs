//! A vocabulary as a trie in one array (a "double array"): the child for a byte stands at the node's base xor the byte,
//! if the slot there names the node as its parent. Following a byte is one look into memory.

/// A place in the trie: what has been read so far.
pub type Node = u32;

/// No parent: the slot is free, or the root. No id: no entry ends here.
const NONE: u32 = u32::MAX;

/// The number of bytes, and so how far apart two children of a node can stand.
const BLOCK: usize = 256;

#[derive(Clone, Copy)]
struct Slot {
    parent: Node,
    /// 0 for a node without children: the first block holds the root alone, which is nobody's child.
    base: u32,
    id: u32,
}

const FREE: Slot = Slot { parent: NONE, base: 0, id: NONE };

/// Entries and their ids.
pub struct Trie {
    slots: Vec<Slot>,
}

impl Trie {
    /// Nothing read yet.
    pub const ROOT: Node = 0;

    /// A trie of these entries; an empty one is never found.
    pub fn new(entries: impl IntoIterator<Item = (String, u32)>) -> Self {
        let mut entries: Vec<_> = entries.into_iter().collect();
        entries.sort_unstable();
        let mut trie = Trie { slots: vec![FREE; 2 * BLOCK] };
        let mut lowest = BLOCK;
        let mut open = vec![(Self::ROOT, 0, entries.as_slice())];
        while let Some((node, depth, mut below)) = open.pop() {
            if let Some(((entry, id), longer)) = below.split_first()
                && entry.len() == depth
            {
                (trie.slots[node as usize].id, below) = (*id, longer);
            }
            let byte = |entry: &(String, u32)| entry.0.as_bytes()[depth];
            let children: Vec<_> = below.chunk_by(|a, b| byte(a) == byte(b)).collect();
            let bytes: Vec<u8> = children.iter().map(|child| byte(&child[0])).collect();
            if bytes.is_empty() {
                continue;
            }
            let base = trie.room(&bytes, &mut lowest);
            trie.slots[node as usize].base = base;
            for (byte, entries) in bytes.into_iter().zip(children) {
                let child = base ^ u32::from(byte);
                trie.slots[child as usize].parent = node;
                open.push((child, depth + 1, entries));
            }
        }
        trie
    }

    /// A base with free slots for all these bytes. No slot below `lowest` is free.
    fn room(&mut self, bytes: &[u8], lowest: &mut usize) -> u32 {
        while self.slots.get(*lowest).is_some_and(|slot| slot.parent != NONE) {
            *lowest += 1;
        }
        let mut first = *lowest;
        loop {
            if first == self.slots.len() {
                self.slots.resize(first + BLOCK, FREE);
            }
            let base = first ^ usize::from(bytes[0]);
            if bytes.iter().all(|byte| self.slots[base ^ usize::from(*byte)].parent == NONE) {
                return u32::try_from(base).expect("a vocabulary has less than four thousand million bytes");
            }
            first += 1;
        }
    }

    fn child(&self, node: Node, byte: u8) -> Option<Node> {
        let child = self.slots[node as usize].base ^ u32::from(byte);
        (self.slots[child as usize].parent == node).then_some(child)
    }

    /// Where reading `prefix` leads; nowhere if no entry begins so.
    pub fn node(&self, prefix: &str) -> Option<Node> {
        prefix.bytes().try_fold(Self::ROOT, |node, byte| self.child(node, byte))
    }

    /// The longest entry which reads as `node` and then the beginning of `bytes`: its id, and how many of them.
    pub fn longest(&self, mut node: Node, bytes: &[u8]) -> Option<(u32, usize)> {
        let mut found = None;
        for (read, byte) in (1..).zip(bytes) {
            let Some(child) = self.child(node, *byte) else { break };
            node = child;
            let id = self.slots[node as usize].id;
            if id != NONE {
                found = Some((id, read));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::Trie;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn the_longest_entry_is_found(
            entries in prop::collection::btree_map("[abß日#]{0,4}", 0..1_000u32, 0..60),
            prefix in "[ab#]{0,2}",
            text in "[abß日#c]{0,6}",
        ) {
            let trie = Trie::new(entries.clone());
            let longest = |entries: &BTreeMap<String, u32>| {
                (1..=text.len()).rev().filter(|end| text.is_char_boundary(*end)).find_map(|end| {
                    entries.get(&format!("{prefix}{}", &text[..end])).map(|id| (*id, end))
                })
            };
            prop_assert_eq!(trie.node(&prefix).and_then(|node| trie.longest(node, text.as_bytes())), longest(&entries));
        }
    }
}
