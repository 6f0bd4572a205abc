//! One set of cutoffs per host, made of the message sizes that all its shards have seen.

use crossbeam_utils::CachePadded;

use crate::sync::atomic::{AtomicU64, Ordering};
use crate::wire::NUM_PRIORITIES;

use super::super::cutoffs::{Cutoffs, HISTOGRAM};
use super::snapshot::Snapshot;

/// Two cutoffs per word, and the version.
const WORDS: usize = NUM_PRIORITIES / 2 + 1;

/// Sizes counted by each shard since the start, each written by its shard alone; and the cutoffs in
/// force, written by shard 0.
#[derive(Debug)]
pub(super) struct CutoffsBoard {
    sizes: Box<[Box<[AtomicU64]>]>,
    current: CachePadded<Snapshot<WORDS>>,
}

impl CutoffsBoard {
    pub(super) fn new(shards: usize) -> Self {
        let zeros = |_| (0..HISTOGRAM).map(|_| AtomicU64::new(0)).collect();
        let current = CachePadded::new(Snapshot::new([0; WORDS]));
        Self { sizes: (0..shards).map(zeros).collect(), current }
    }

    fn count(&self, shard: usize, sizes: &[u64; HISTOGRAM]) {
        for (cell, &more) in self.sizes[shard].iter().zip(sizes) {
            cell.store(cell.load(Ordering::Relaxed) + more, Ordering::Relaxed);
        }
    }

    fn sum(&self) -> [u64; HISTOGRAM] {
        let mut sum = [0; HISTOGRAM];
        for sizes in &self.sizes {
            for (total, cell) in sum.iter_mut().zip(sizes.iter()) {
                *total += cell.load(Ordering::Relaxed);
            }
        }
        sum
    }

    fn install(&self, cutoffs: [u32; NUM_PRIORITIES], version: u16) {
        let mut words = [0; WORDS];
        for (word, pair) in words.iter_mut().zip(cutoffs.chunks_exact(2)) {
            *word = u64::from(pair[1]) << 32 | u64::from(pair[0]);
        }
        words[WORDS - 1] = version.into();
        self.current.write(&words);
    }
}

/// What a shard knows of the board.
#[derive(Debug)]
pub(crate) struct CutoffsCopy {
    /// Version of the cutoffs read last.
    seen: u64,
    /// Shard 0: the sizes that went into the last computation.
    counted: [u64; HISTOGRAM],
}

impl Default for CutoffsCopy {
    fn default() -> Self {
        Self { seen: 0, counted: [0; HISTOGRAM] }
    }
}

impl super::Share {
    /// Hands the sizes seen by this shard in; shard 0 computes cutoffs from those of all, the others
    /// take over what it has computed. Says whether they changed.
    pub(in super::super) fn update_cutoffs(&mut self, cutoffs: &mut Cutoffs) -> bool {
        let board = &self.host.cutoffs;
        board.count(self.shard, &cutoffs.take_sizes());
        if self.shard != 0 {
            let Some(words) = board.current.read(&mut self.cutoffs.seen) else { return false };
            let mut read = [0; NUM_PRIORITIES];
            for (pair, word) in read.chunks_exact_mut(2).zip(words) {
                (pair[0], pair[1]) = (word as u32, (word >> 32) as u32);
            }
            cutoffs.adopt(read, words[WORDS - 1] as u16);
            return true;
        }
        let sum = board.sum();
        let mut fresh = sum;
        for (new, old) in fresh.iter_mut().zip(self.cutoffs.counted) {
            *new -= old;
        }
        self.cutoffs.counted = sum;
        cutoffs.add_sizes(&fresh);
        let changed = cutoffs.recompute();
        if changed {
            board.install(cutoffs.current(), cutoffs.version());
        }
        changed
    }
}
