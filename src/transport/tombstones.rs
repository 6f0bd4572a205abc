//! Memory of finished server RPCs, so that a late duplicate of a request is not executed again
//! (at most once; reference-gaps.md G1).
//!
//! A client counts its ids up, so finished ids come in runs: an entry remembers 32 neighbouring ids
//! of one client in 16 bytes. Entries forget by themselves after two epochs.

use crate::time::Nanos;

use super::hash::Seed;
use super::mutation::Mutation;

/// Blocks per bucket, one cache line; a run has two buckets to go to.
const WAYS: usize = 4;
/// Blocks found lately that are looked at first.
const HINTS: usize = 256;
/// An id is even; the bits above that and above the block index select the entry.
const BLOCK_SHIFT: u32 = 6;
/// Most RPCs that may be open in a block at a time.
const OPEN_MAX: u32 = 0xff;

#[derive(Clone, Copy, Debug, Default)]
struct Block {
    /// Seeded hash of the client and the upper id bits; two clients share one with odds of 2^-64.
    fingerprint: u64,
    /// Bit i: id number i of the block has ended.
    ended: u32,
    /// From the top: epoch of the last addition (24 bits; 0 for a block never used), RPCs that are
    /// open and will be remembered here (8).
    epoch_and_open: u32,
}

impl Block {
    fn epoch(&self) -> u32 {
        self.epoch_and_open >> 8
    }

    fn open(&self) -> u32 {
        self.epoch_and_open & OPEN_MAX
    }
}

/// A set of ended RPCs with a fixed number of blocks and a fixed life.
#[derive(Debug)]
pub(super) struct Tombstones {
    buckets: Vec<[Block; WAYS]>,
    /// The block found last among those with the same upper bits in their fingerprints, as a guess: which of
    /// eight it is, a processor cannot.
    hints: Box<[u32; HINTS]>,
    seed: Seed,
    /// Half the time an id is remembered at least.
    epoch_ns: u64,
    epoch: u32,
    epoch_end: Nanos,
}

/// Where the end of an RPC will be remembered: found once when its first packet comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    block: u32,
    /// The bit of the id in its run.
    bit: u32,
}

/// Why there is no place for an RPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// It has ended not long ago.
    Ended,
    /// There is no room. A server that takes such a request could not keep its promise.
    Full,
}

impl Tombstones {
    /// Room for `blocks` runs of ids, each kept between `keep_ns` and 1.5 `keep_ns`.
    pub(super) fn new(blocks: usize, keep_ns: u64, seed: Seed) -> Self {
        let buckets = (blocks / WAYS).max(1).next_power_of_two();
        Self {
            buckets: vec![[Block::default(); WAYS]; buckets],
            hints: Box::new([0; HINTS]),
            seed,
            epoch_ns: (keep_ns / 2).max(1),
            epoch: 3,
            epoch_end: Nanos::ZERO,
        }
    }

    /// Tells the time. To be called before anything else, each time.
    #[inline]
    pub(super) fn advance(&mut self, now: Nanos) {
        if now >= self.epoch_end {
            let epoch = now.0 / self.epoch_ns;
            // Epochs 0 to 2 are never current, so that a fresh block is forgotten from the start.
            self.epoch = (epoch as u32 + 3) & EPOCH_MASK;
            self.epoch_end = Nanos((epoch + 1).saturating_mul(self.epoch_ns));
        }
    }

    fn remembers(&self, block: &Block) -> bool {
        self.epoch.wrapping_sub(block.epoch()) & EPOCH_MASK <= 2
    }

    fn in_use(&self, block: &Block) -> bool {
        self.remembers(block) || block.open() > 0
    }

    /// Finds a place for RPC `client_id` from `client_port` of the client with this seeded hash, and
    /// keeps it until [`Tombstones::bury`].
    #[inline]
    pub(super) fn reserve(
        &mut self,
        client_secret: u64,
        client_port: u16,
        client_id: u64,
    ) -> Result<Place, NoPlace> {
        let who = client_secret ^ u64::from(client_port).rotate_right(16);
        let fingerprint = self.seed.hash(who, client_id >> BLOCK_SHIFT);
        let bit = 1 << ((client_id >> 1) & 31);
        let hint = (fingerprint >> 32) as usize % HINTS;
        let guess = self.hints[hint] as usize;
        let (mut bucket, mut way) = (guess / WAYS, guess % WAYS);
        if self.buckets[bucket][way].fingerprint != fingerprint {
            (bucket, way) = self.find_or_take(fingerprint)?;
            self.hints[hint] = (bucket * WAYS + way) as u32;
        }
        let remembers = self.remembers(&self.buckets[bucket][way]);
        let block = &mut self.buckets[bucket][way];
        if !remembers {
            block.ended = 0;
        } else if block.ended & bit != 0 && !Mutation::SkipTombstones.is_on() {
            return Err(NoPlace::Ended);
        }
        if block.open() == OPEN_MAX {
            return Err(NoPlace::Full);
        }
        block.epoch_and_open += 1;
        Ok(Place { block: (bucket * WAYS + way) as u32, bit })
    }

    #[inline(never)]
    fn find_or_take(&mut self, fingerprint: u64) -> Result<(usize, usize), NoPlace> {
        let mask = self.buckets.len() - 1;
        let buckets = [(fingerprint >> 32) as usize & mask, fingerprint as usize & mask];
        let is_it = |block: &Block| block.fingerprint == fingerprint;
        let found = buckets.into_iter().find_map(|bucket| {
            self.buckets[bucket].iter().position(is_it).map(|way| (bucket, way))
        });
        match found {
            Some(place) => Ok(place),
            None => self.take_block(buckets, fingerprint),
        }
    }

    /// Remembers that the RPC with this place has ended.
    #[inline]
    pub(super) fn bury(&mut self, place: Place) {
        let (bucket, way) = (place.block as usize / WAYS, place.block as usize % WAYS);
        let remembers = self.remembers(&self.buckets[bucket][way]);
        let block = &mut self.buckets[bucket][way];
        block.ended = if remembers { block.ended | place.bit } else { place.bit };
        let epoch = self.epoch - if Mutation::StaleEpoch.is_on() { 2 } else { 0 };
        block.epoch_and_open = epoch << 8 | (block.open() - 1);
    }

    /// Takes a block that is not in use: in the bucket with more room, the one least recently added to.
    fn take_block(
        &mut self,
        buckets: [usize; 2],
        fingerprint: u64,
    ) -> Result<(usize, usize), NoPlace> {
        let is_free = |bucket: usize, way: usize| !self.in_use(&self.buckets[bucket][way]);
        let room = |bucket: usize| (0..WAYS).filter(|&way| is_free(bucket, way)).count();
        let bucket = buckets[usize::from(room(buckets[1]) > room(buckets[0]))];
        let age = |way: usize| self.epoch.wrapping_sub(self.buckets[bucket][way].epoch());
        let free = (0..WAYS).filter(|&way| is_free(bucket, way));
        let way = free.max_by_key(|&way| age(way) & EPOCH_MASK).ok_or(NoPlace::Full)?;
        self.buckets[bucket][way] = Block { fingerprint, ..Block::default() };
        Ok((bucket, way))
    }
}

/// Epochs have 24 bits, which with the default settings come round after 19 days.
const EPOCH_MASK: u32 = 0xff_ffff;

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP_NS: u64 = 200_000_000;

    fn reserve(tombstones: &mut Tombstones, client: u64, id: u64) -> Result<Place, NoPlace> {
        tombstones.reserve(client, 32768, id)
    }

    /// An RPC that begins and ends.
    fn pass(tombstones: &mut Tombstones, client: u64, id: u64) {
        let place = reserve(tombstones, client, id).unwrap();
        tombstones.bury(place);
    }

    #[test]
    fn remembers_for_the_time_promised_and_then_forgets() {
        for (start, id) in [(0, 100), (77, 200), (KEEP_NS / 2 - 1, 300), (KEEP_NS * 7 + 5, 400)] {
            let mut tombstones = Tombstones::new(1024, KEEP_NS, Seed::new(1));
            tombstones.advance(Nanos(start));
            pass(&mut tombstones, 1, id);
            tombstones.advance(Nanos(start + KEEP_NS));
            assert_eq!(reserve(&mut tombstones, 1, id), Err(NoPlace::Ended));
            // A neighbour in the same block, and another client.
            let neighbour = reserve(&mut tombstones, 1, id + 2).unwrap();
            pass(&mut tombstones, 2, id);
            tombstones.advance(Nanos(start + 2 * KEEP_NS));
            // The neighbour that is open keeps the block, not what it remembers.
            assert!(reserve(&mut tombstones, 1, id).is_ok());
            tombstones.bury(neighbour);
        }
    }

    #[test]
    fn a_run_of_ids_costs_one_block_for_32() {
        let mut tombstones = Tombstones::new(1024, KEEP_NS, Seed::new(1));
        tombstones.advance(Nanos(0));
        for id in 0..16_384 {
            pass(&mut tombstones, 1, 2 * id);
        }
        for id in 0..16_384 {
            assert_eq!(reserve(&mut tombstones, 1, 2 * id), Err(NoPlace::Ended), "id {id}");
        }
    }

    #[test]
    fn says_when_it_is_full() {
        let mut tombstones = Tombstones::new(4, KEEP_NS, Seed::new(1));
        tombstones.advance(Nanos(0));
        for client in 0..4 {
            pass(&mut tombstones, client, 2);
        }
        assert_eq!(reserve(&mut tombstones, 9, 2), Err(NoPlace::Full));
        // The same run as an entry that is there.
        assert!(reserve(&mut tombstones, 3, 4).is_ok());
        tombstones.advance(Nanos(2 * KEEP_NS));
        assert!(reserve(&mut tombstones, 10, 2).is_ok());
    }

    /// RPCs that are open at the same time do not push each other's memory out when they end.
    #[test]
    fn open_rpcs_keep_their_places() {
        let mut tombstones = Tombstones::new(4, KEEP_NS, Seed::new(1));
        tombstones.advance(Nanos(0));
        let places: Vec<_> =
            (0..4).map(|client| reserve(&mut tombstones, client, 2).unwrap()).collect();
        assert_eq!(reserve(&mut tombstones, 4, 2), Err(NoPlace::Full));
        tombstones.advance(Nanos(9 * KEEP_NS));
        assert_eq!(reserve(&mut tombstones, 4, 2), Err(NoPlace::Full));
        places.into_iter().for_each(|place| tombstones.bury(place));
        for client in 0..4 {
            assert_eq!(reserve(&mut tombstones, client, 2), Err(NoPlace::Ended));
        }
    }

    #[test]
    fn one_run_has_a_limit_of_open_rpcs() {
        let mut tombstones = Tombstones::new(4, KEEP_NS, Seed::new(1));
        for _ in 0..OPEN_MAX {
            reserve(&mut tombstones, 1, 2).unwrap();
        }
        assert_eq!(reserve(&mut tombstones, 1, 2), Err(NoPlace::Full));
    }
}
