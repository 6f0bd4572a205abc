//! Hash index from keys to slab indices: open addressing with linear probing, keys not stored.

/// An entry: the hash of the key, and a slab index. The hash settles almost all comparisons without a
/// look at the slab.
#[derive(Clone, Copy, Debug)]
struct Cell {
    hash: u32,
    index: u32,
}

const EMPTY: Cell = Cell { hash: 0, index: u32::MAX };

/// Cells in use at first: a few cache lines for a few RPCs, since every packet looks here.
const CELLS_MIN: usize = 256;

/// At most half full, so probes are short. Memory for the configured maximum is reserved at the start;
/// of it no more is used than the entries need, so that few entries stay in the cache.
#[derive(Debug)]
pub(super) struct Index {
    cells: Vec<Cell>,
    /// Where the entries go when they need more room.
    larger: Vec<Cell>,
    mask: usize,
    len: usize,
}

impl Index {
    /// An index for up to `capacity` entries. The caller never inserts more.
    pub(super) fn new(capacity: usize) -> Self {
        let most = (2 * capacity.max(1)).next_power_of_two().max(CELLS_MIN);
        let mut cells = Vec::with_capacity(most);
        cells.resize(CELLS_MIN, EMPTY);
        Self { cells, larger: Vec::with_capacity(most), mask: CELLS_MIN - 1, len: 0 }
    }

    /// Doubles the cells in use. Within the memory reserved.
    #[cold]
    fn grow(&mut self) {
        let cells = 2 * self.cells.len();
        self.larger.clear();
        self.larger.resize(cells, EMPTY);
        core::mem::swap(&mut self.cells, &mut self.larger);
        self.mask = cells - 1;
        for i in 0..self.larger.len() {
            let cell = self.larger[i];
            if cell.index != u32::MAX {
                self.put(cell);
            }
        }
    }

    #[inline]
    fn put(&mut self, cell: Cell) {
        let mut at = cell.hash as usize & self.mask;
        while self.cells[at].index != u32::MAX {
            at = (at + 1) & self.mask;
        }
        self.cells[at] = cell;
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
        if 2 * (self.len + 1) > self.cells.len() {
            self.grow();
        }
        self.len += 1;
        self.put(Cell { hash, index });
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
        self.len -= 1;
        if self.len == 0 && self.cells.len() > CELLS_MIN {
            // All cells are empty: back to a few.
            self.cells.truncate(CELLS_MIN);
            self.mask = CELLS_MIN - 1;
        }
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
        fn agrees_with_a_set(
            keys in 4u32..600,
            steps in proptest::collection::vec((0u32..600, 0u8..4), 1..800),
        ) {
            let hash = |key: u32| (key / 7) | (key % 3) << 16;
            let mut index = Index::new(keys as usize);
            let mut model = BTreeSet::new();
            for (step, (key, what)) in steps.into_iter().enumerate() {
                let key = key % keys;
                // Long stretches of filling and of emptying.
                let insert = (what > 0) == (step % 400 < 200);
                if insert && model.insert(key) {
                    index.insert(hash(key), key);
                } else if !insert && model.remove(&key) {
                    index.remove(hash(key), key);
                }
                let found = index.find(hash(key), |candidate| candidate == key);
                prop_assert_eq!(found.is_some(), model.contains(&key));
            }
            for key in 0..keys {
                let found = index.find(hash(key), |candidate| candidate == key);
                prop_assert_eq!(found.is_some(), model.contains(&key));
            }
        }
    }
}
