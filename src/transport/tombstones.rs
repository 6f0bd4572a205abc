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

/// The RPC an entry is about, as the server knows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) client_addr: u128,
    pub(super) client_port: u16,
    pub(super) client_id: u64,
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

    /// Fingerprint, the two buckets, and the bit of the id in its block.
    fn locate(&self, rpc: Ended) -> (u64, [usize; 2], u32) {
        let run = rpc.client_id >> BLOCK_SHIFT;
        let who = self.seed.hash_u128(rpc.client_addr, u64::from(rpc.client_port));
        let fingerprint = self.seed.hash(who, run);
        let mask = self.buckets.len() - 1;
        let buckets = [(fingerprint >> 32) as usize & mask, fingerprint as usize & mask];
        (fingerprint, buckets, 1 << ((rpc.client_id >> 1) & 31))
    }

    fn find(&self, fingerprint: u64, buckets: [usize; 2]) -> Option<(usize, usize)> {
        buckets.into_iter().find_map(|bucket| {
            let is_it = |block: &Block| block.fingerprint == fingerprint;
            self.buckets[bucket].iter().position(is_it).map(|way| (bucket, way))
        })
    }

    /// Whether `rpc` has ended not long ago.
    pub(super) fn contains(&self, rpc: Ended) -> bool {
        let (fingerprint, buckets, bit) = self.locate(rpc);
        self.find(fingerprint, buckets).is_some_and(|(bucket, way)| {
            let block = &self.buckets[bucket][way];
            block.ended & bit != 0 && self.live(block)
        })
    }

    /// Whether there is room to remember `rpc` when it ends. A server that takes a request for which
    /// there is none could not keep its promise.
    pub(super) fn has_room(&self, rpc: Ended) -> bool {
        let (fingerprint, buckets, _) = self.locate(rpc);
        buckets
            .into_iter()
            .flat_map(|bucket| &self.buckets[bucket])
            .any(|block| block.fingerprint == fingerprint || !self.live(block))
    }

    /// Remembers that `rpc` has ended. Says false if a live entry had to be overwritten for it.
    pub(super) fn insert(&mut self, rpc: Ended) -> bool {
        let (fingerprint, buckets, bit) = self.locate(rpc);
        let epoch = self.epoch;
        if let Some((bucket, way)) = self.find(fingerprint, buckets) {
            let live = self.live(&self.buckets[bucket][way]);
            let block = &mut self.buckets[bucket][way];
            block.ended = if live { block.ended | bit } else { bit };
            block.epoch = epoch;
            return true;
        }
        // The bucket with more room, there the block least recently added to: forgotten ones are
        // older than live ones.
        let age = |bucket: usize, way: usize| epoch.wrapping_sub(self.buckets[bucket][way].epoch);
        let room =
            |bucket: usize| self.buckets[bucket].iter().filter(|block| !self.live(block)).count();
        let bucket = if room(buckets[1]) > room(buckets[0]) { buckets[1] } else { buckets[0] };
        let way = (0..WAYS).max_by_key(|&way| age(bucket, way)).unwrap_or(0);
        let forgotten = !self.live(&self.buckets[bucket][way]);
        self.buckets[bucket][way] = Block { fingerprint, ended: bit, epoch };
        forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP_NS: u64 = 200_000_000;

    fn rpc(client: u128, id: u64) -> Ended {
        Ended { client_addr: client, client_port: 32768, client_id: id }
    }

    #[test]
    fn remembers_for_the_time_promised_and_then_forgets() {
        let mut tombstones = Tombstones::new(1024, KEEP_NS, Seed::new(1));
        for start in [0, 77, KEEP_NS / 2 - 1, KEEP_NS * 7 + 5] {
            tombstones.advance(Nanos(start));
            tombstones.insert(rpc(1, 100));
            tombstones.advance(Nanos(start + KEEP_NS));
            assert!(tombstones.contains(rpc(1, 100)));
            assert!(!tombstones.contains(rpc(1, 102)), "a neighbour in the same block");
            assert!(!tombstones.contains(rpc(2, 100)), "another client");
            tombstones.advance(Nanos(start + 2 * KEEP_NS));
            assert!(!tombstones.contains(rpc(1, 100)));
        }
    }

    #[test]
    fn a_run_of_ids_costs_one_block_for_32() {
        let mut tombstones = Tombstones::new(1024, KEEP_NS, Seed::new(1));
        tombstones.advance(Nanos(0));
        for id in 0..16_384 {
            assert!(tombstones.insert(rpc(1, 2 * id)), "id {id}");
        }
        assert!((0..16_384).all(|id| tombstones.contains(rpc(1, 2 * id))));
    }

    #[test]
    fn says_when_it_is_full() {
        let mut tombstones = Tombstones::new(4, KEEP_NS, Seed::new(1));
        tombstones.advance(Nanos(0));
        for client in 0..4 {
            assert!(tombstones.has_room(rpc(client, 2)));
            assert!(tombstones.insert(rpc(client, 2)));
        }
        assert!(!tombstones.has_room(rpc(9, 2)));
        assert!(tombstones.has_room(rpc(3, 4)), "same run as an entry that is there");
        assert!(!tombstones.insert(rpc(9, 2)));
        tombstones.advance(Nanos(2 * KEEP_NS));
        assert!(tombstones.has_room(rpc(10, 2)));
    }
}
