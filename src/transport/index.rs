//! Hash index from keys to slab indices: open addressing with linear probing, keys not stored.

/// An entry: the hash of the key, and a slab index. The hash settles almost all comparisons without a
/// look at the slab.
#[derive(Clone, Copy, Debug)]
struct Cell {
    hash: u32,
    index: u32,
}

const EMPTY: Cell = Cell { hash: 0, index: u32::MAX };

/// At most half full by construction, so probes are short.
#[derive(Debug)]
pub(super) struct Index {
    cells: Box<[Cell]>,
    mask: usize,
}

impl Index {
    /// An index for up to `capacity` entries. The caller never inserts more.
    pub(super) fn new(capacity: usize) -> Self {
        let cells = (2 * capacity.max(1)).next_power_of_two();
        Self { cells: vec![EMPTY; cells].into_boxed_slice(), mask: cells - 1 }
    }

    /// The first entry with this hash that `matches` says is meant.
    #[inline]
    pub(super) fn find(&self, hash: u32, mut matches: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut at = hash as usize & self.mask;
        loop {
            let cell = self.cells[at];
            if cell.index == u32::MAX {
                return None;
            }
            if cell.hash == hash && matches(cell.index) {
                return Some(cell.index);
            }
            at = (at + 1) & self.mask;
        }
    }

    #[inline]
    pub(super) fn insert(&mut self, hash: u32, index: u32) {
        let mut at = hash as usize & self.mask;
        while self.cells[at].index != u32::MAX {
            at = (at + 1) & self.mask;
        }
        self.cells[at] = Cell { hash, index };
    }

    /// Removes the entry of `index`, which was inserted with `hash`.
    #[inline]
    pub(super) fn remove(&mut self, hash: u32, index: u32) {
        let mut hole = hash as usize & self.mask;
        while self.cells[hole].index != index {
            if self.cells[hole].index == u32::MAX {
                return;
            }
            hole = (hole + 1) & self.mask;
        }
        // Close the hole with whatever may move back, so that no probe is cut short.
        let mut at = hole;
        loop {
            at = (at + 1) & self.mask;
            let cell = self.cells[at];
            if cell.index == u32::MAX {
                break;
            }
            let home = cell.hash as usize & self.mask;
            if (at.wrapping_sub(home) & self.mask) >= (at.wrapping_sub(hole) & self.mask) {
                self.cells[hole] = cell;
                hole = at;
            }
        }
        self.cells[hole] = EMPTY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        /// Keys are their own slab index; the weak hash makes long probe runs.
        #[test]
        fn agrees_with_a_set(steps in proptest::collection::vec((0u32..32, any::<bool>()), 1..400)) {
            let hash = |key: u32| (key / 7) | (key % 3) << 16;
            let mut index = Index::new(32);
            let mut model = BTreeSet::new();
            for (key, insert) in steps {
                if insert && model.insert(key) {
                    index.insert(hash(key), key);
                } else if !insert && model.remove(&key) {
                    index.remove(hash(key), key);
                }
                for key in 0..32 {
                    let found = index.find(hash(key), |candidate| candidate == key);
                    prop_assert_eq!(found.is_some(), model.contains(&key));
                }
            }
        }
    }
}
