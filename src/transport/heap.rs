//! A binary heap whose entries can be found, moved and removed: the order structure of SRPT.
//!
//! Each entry is a slab index with a key. Where an index stands is kept outside, in [`Positions`],
//! so that many heaps (one per peer) can share one array as long as an index is in one of them.

use core::cmp::Ordering;

/// Smaller is better: fewer bytes left, then older, then the lower index (so that the order is
/// total and runs repeat).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) bytes: u32,
    pub(super) age_ns: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) index: u32,
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key.cmp(&other.key).then(self.index.cmp(&other.index))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

const ABSENT: u32 = u32::MAX;

/// For every slab index its place in the one heap that holds it.
#[derive(Debug)]
pub(super) struct Positions(Vec<u32>);

impl Positions {
    pub(super) fn new(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    fn get(&self, index: u32) -> Option<usize> {
        self.0.get(index as usize).filter(|&&place| place != ABSENT).map(|&place| place as usize)
    }

    fn set(&mut self, index: u32, place: u32) {
        let index = index as usize;
        if index >= self.0.len() {
            self.0.resize(index + 1, ABSENT);
        }
        self.0[index] = place;
    }

    pub(super) fn contains(&self, index: u32) -> bool {
        self.get(index).is_some()
    }
}

#[derive(Debug, Default)]
pub(super) struct Heap(Vec<Entry>);

impl Heap {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The best entry.
    pub(super) fn peek(&self) -> Option<Entry> {
        self.0.first().copied()
    }

    /// Inserts `index`, or gives it a new key if it is here.
    pub(super) fn set(&mut self, index: u32, key: Key, positions: &mut Positions) {
        let entry = Entry { key, index };
        match positions.get(index) {
            Some(place) => {
                let before = core::mem::replace(&mut self.0[place], entry);
                // Bytes left shrink with every packet, and the best entry has nowhere to rise.
                if entry > before {
                    self.sift_down(place, positions);
                } else if place > 0 {
                    self.sift_up(place, positions);
                }
            }
            None => {
                self.0.push(entry);
                self.sift_up(self.0.len() - 1, positions);
            }
        }
    }

    /// Removes `index`; says whether it was here.
    pub(super) fn remove(&mut self, index: u32, positions: &mut Positions) -> bool {
        let Some(place) = positions.get(index) else { return false };
        positions.set(index, ABSENT);
        self.0.swap_remove(place);
        if place < self.0.len() {
            self.sift(place, positions);
        }
        true
    }

    /// Writes the best entries in order into `best` and says how many there are. Costs
    /// O(k log k) for k results, whatever the size of the heap.
    pub(super) fn best(&self, best: &mut [Entry; BEST_MAX], want: usize) -> usize {
        // Children can only follow their parents, so the next best is always on the frontier.
        let mut frontier = [0u32; BEST_MAX + 1];
        let mut open = usize::from(!self.0.is_empty());
        let mut found = 0;
        while open > 0 && found < want.min(BEST_MAX) {
            let at = (0..open).min_by_key(|&i| self.0[frontier[i] as usize]).unwrap_or(0);
            let place = frontier[at] as usize;
            best[found] = self.0[place];
            found += 1;
            open -= 1;
            frontier[at] = frontier[open];
            for child in [2 * place + 1, 2 * place + 2] {
                if child < self.0.len() && open < frontier.len() {
                    frontier[open] = child as u32;
                    open += 1;
                }
            }
        }
        found
    }

    fn sift(&mut self, place: usize, positions: &mut Positions) {
        if place > 0 && self.0[place] < self.0[(place - 1) / 2] {
            self.sift_up(place, positions);
        } else {
            self.sift_down(place, positions);
        }
    }

    fn sift_up(&mut self, mut place: usize, positions: &mut Positions) {
        let entry = self.0[place];
        while place > 0 {
            let parent = (place - 1) / 2;
            if self.0[parent] <= entry {
                break;
            }
            self.0[place] = self.0[parent];
            positions.set(self.0[place].index, place as u32);
            place = parent;
        }
        self.0[place] = entry;
        positions.set(entry.index, place as u32);
    }

    fn sift_down(&mut self, mut place: usize, positions: &mut Positions) {
        let entry = self.0[place];
        loop {
            let mut child = 2 * place + 1;
            if child >= self.0.len() {
                break;
            }
            if child + 1 < self.0.len() && self.0[child + 1] < self.0[child] {
                child += 1;
            }
            if entry <= self.0[child] {
                break;
            }
            self.0[place] = self.0[child];
            positions.set(self.0[place].index, place as u32);
            place = child;
        }
        self.0[place] = entry;
        positions.set(entry.index, place as u32);
    }
}

/// The most entries [`Heap::best`] gives: the upper bound of the degree of overcommitment.
pub(super) const BEST_MAX: usize = 8;

impl Entry {
    pub(super) const NONE: Self =
        Self { key: Key { bytes: u32::MAX, age_ns: u64::MAX }, index: u32::MAX };
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn agrees_with_a_sorted_map(
            steps in proptest::collection::vec((0u32..40, 0u32..100, any::<bool>()), 1..300)
        ) {
            let (mut heap, mut positions) = (Heap::default(), Positions::new(0));
            let mut model: BTreeMap<u32, Key> = BTreeMap::new();
            for (index, bytes, insert) in steps {
                if insert {
                    let key = Key { bytes, age_ns: u64::from(index % 3) };
                    heap.set(index, key, &mut positions);
                    model.insert(index, key);
                } else {
                    prop_assert_eq!(heap.remove(index, &mut positions), model.remove(&index).is_some());
                }
                let mut sorted: Vec<Entry> = model.iter().map(|(&index, &key)| Entry { key, index }).collect();
                sorted.sort();
                prop_assert_eq!(heap.peek(), sorted.first().copied());
                prop_assert_eq!(heap.len(), sorted.len());
                let mut best = [Entry::NONE; BEST_MAX];
                let found = heap.best(&mut best, BEST_MAX);
                prop_assert_eq!(&best[..found], &sorted[..sorted.len().min(BEST_MAX)]);
            }
        }
    }
}
