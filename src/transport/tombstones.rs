//! Memory of finished server RPCs, so that a late duplicate of a request is not executed again
//! (at most once; reference-gaps.md G1).
//!
//! A client counts its ids up, so finished ids come in runs: an entry remembers 32 neighbouring ids
//! of one client in 16 bytes. Entries forget by themselves after two epochs.

use crate::time::Nanos;

use super::hash::Seed;

/// Blocks per bucket, one cache line; a run has two buckets to go to.
const WAYS: usize = 4;
/// An id is even; the bits above that and above the block index select the entry.
const BLOCK_SHIFT: u32 = 6;

#[derive(Clone, Copy, Debug, Default)]
struct Block {
    /// Seeded hash of the client and the upper id bits; two clients share one with odds of 2^-64.
    fingerprint: u64,
    /// Bit i: id number i of the block has ended.
    ended: u32,
    /// Epoch of the last addition; 0 for a block never used.
    epoch: u32,
}

/// A set of ended RPCs with a fixed number of blocks and a fixed life.
#[derive(Debug)]
pub(super) struct Tombstones {
    buckets: Vec<[Block; WAYS]>,
    seed: Seed,
    /// Half the time an id is remembered at least.
    epoch_ns: u64,
    epoch: u32,
}

/// The name of an RPC here: hashed once when its first packet comes, kept until it ends.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Name {
    fingerprint: u64,
    /// The bit of the id in its run.
    bit: u32,
}

/// What is known about a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Memory {
    /// Nothing, and there is room to remember it.
    Unknown,
    /// The RPC has ended not long ago.
    Ended,
    /// Nothing, and there is no room. A server that takes such a request could not keep its promise.
    NoRoom,
}

impl Tombstones {
    /// Room for `blocks` runs of ids, each kept between `keep_ns` and 1.5 `keep_ns`.
    pub(super) fn new(blocks: usize, keep_ns: u64, seed: Seed) -> Self {
        let buckets = (blocks / WAYS).max(1).next_power_of_two();
        Self {
            buckets: vec![[Block::default(); WAYS]; buckets],
            seed,
            epoch_ns: (keep_ns / 2).max(1),
            epoch: 3,
        }
    }

    /// Tells the time. Cheap enough for every burst.
    pub(super) fn advance(&mut self, now: Nanos) {
        // Epochs 0 to 2 are never current, so that a fresh block is forgotten from the start.
        self.epoch = (now.0 / self.epoch_ns) as u32 + 3;
    }

    fn live(&self, block: &Block) -> bool {
        self.epoch.wrapping_sub(block.epoch) <= 2
    }

    /// The name of RPC `client_id` from `client_port` of the client with this seeded hash.
    #[inline]
    pub(super) fn name(&self, client_secret: u64, client_port: u16, client_id: u64) -> Name {
        let who = client_secret ^ u64::from(client_port).rotate_right(16);
        let fingerprint = self.seed.hash(who, client_id >> BLOCK_SHIFT);
        Name { fingerprint, bit: 1 << ((client_id >> 1) & 31) }
    }

    #[inline]
    fn buckets_of(&self, name: Name) -> [usize; 2] {
        let mask = self.buckets.len() - 1;
        [(name.fingerprint >> 32) as usize & mask, name.fingerprint as usize & mask]
    }

    #[inline]
    fn find(&self, name: Name) -> Option<(usize, usize)> {
        self.buckets_of(name).into_iter().find_map(|bucket| {
            let is_it = |block: &Block| block.fingerprint == name.fingerprint;
            self.buckets[bucket].iter().position(is_it).map(|way| (bucket, way))
        })
    }

    /// What is known about `name`.
    #[inline]
    pub(super) fn recall(&self, name: Name) -> Memory {
        if let Some((bucket, way)) = self.find(name) {
            let block = &self.buckets[bucket][way];
            let ended = block.ended & name.bit != 0 && self.live(block);
            return if ended { Memory::Ended } else { Memory::Unknown };
        }
        let mut blocks = self.buckets_of(name).into_iter().flat_map(|at| &self.buckets[at]);
        if blocks.any(|block| !self.live(block)) { Memory::Unknown } else { Memory::NoRoom }
    }

    /// Remembers that `name` has ended. Says false if a live entry had to be overwritten for it.
    #[inline]
    pub(super) fn insert(&mut self, name: Name) -> bool {
        let (epoch, bit) = (self.epoch, name.bit);
        if let Some((bucket, way)) = self.find(name) {
            let live = self.live(&self.buckets[bucket][way]);
            let block = &mut self.buckets[bucket][way];
            block.ended = if live { block.ended | bit } else { bit };
            block.epoch = epoch;
            return true;
        }
        self.insert_block(name)
    }

    fn insert_block(&mut self, name: Name) -> bool {
        let epoch = self.epoch;
        let buckets = self.buckets_of(name);
        // The bucket with more room, there the block least recently added to: forgotten ones are
        // older than live ones.
        let age = |bucket: usize, way: usize| epoch.wrapping_sub(self.buckets[bucket][way].epoch);
        let room =
            |bucket: usize| self.buckets[bucket].iter().filter(|block| !self.live(block)).count();
        let bucket = if room(buckets[1]) > room(buckets[0]) { buckets[1] } else { buckets[0] };
        let way = (0..WAYS).max_by_key(|&way| age(bucket, way)).unwrap_or(0);
        let forgotten = !self.live(&self.buckets[bucket][way]);
        self.buckets[bucket][way] = Block { fingerprint: name.fingerprint, ended: name.bit, epoch };
        forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP_NS: u64 = 200_000_000;

    fn recall(tombstones: &Tombstones, client: u64, id: u64) -> Memory {
        tombstones.recall(tombstones.name(client, 32768, id))
    }

    fn insert(tombstones: &mut Tombstones, client: u64, id: u64) -> bool {
        tombstones.insert(tombstones.name(client, 32768, id))
    }

    #[test]
    fn remembers_for_the_time_promised_and_then_forgets() {
        let mut tombstones = Tombstones::new(1024, KEEP_NS, Seed::new(1));
        for start in [0, 77, KEEP_NS / 2 - 1, KEEP_NS * 7 + 5] {
            tombstones.advance(Nanos(start));
            insert(&mut tombstones, 1, 100);
            tombstones.advance(Nanos(start + KEEP_NS));
            assert_eq!(recall(&tombstones, 1, 100), Memory::Ended);
            // A neighbour in the same block, and another client.
            assert_eq!(recall(&tombstones, 1, 102), Memory::Unknown);
            assert_eq!(recall(&tombstones, 2, 100), Memory::Unknown);
            tombstones.advance(Nanos(start + 2 * KEEP_NS));
            assert_eq!(recall(&tombstones, 1, 100), Memory::Unknown);
        }
    }

    #[test]
    fn a_run_of_ids_costs_one_block_for_32() {
        let mut tombstones = Tombstones::new(1024, KEEP_NS, Seed::new(1));
        tombstones.advance(Nanos(0));
        for id in 0..16_384 {
            assert!(insert(&mut tombstones, 1, 2 * id), "id {id}");
        }
        assert!((0..16_384).all(|id| recall(&tombstones, 1, 2 * id) == Memory::Ended));
    }

    #[test]
    fn says_when_it_is_full() {
        let mut tombstones = Tombstones::new(4, KEEP_NS, Seed::new(1));
        tombstones.advance(Nanos(0));
        for client in 0..4 {
            assert_eq!(recall(&tombstones, client, 2), Memory::Unknown);
            assert!(insert(&mut tombstones, client, 2));
        }
        assert_eq!(recall(&tombstones, 9, 2), Memory::NoRoom);
        // The same run as an entry that is there.
        assert_eq!(recall(&tombstones, 3, 4), Memory::Unknown);
        assert!(!insert(&mut tombstones, 9, 2));
        tombstones.advance(Nanos(2 * KEEP_NS));
        assert_eq!(recall(&tombstones, 10, 2), Memory::Unknown);
    }
}
