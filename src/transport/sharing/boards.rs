//! What each shard tells the others about its messages: the best that want grants, and the best that
//! waits to be sent.

use crossbeam_utils::CachePadded;

use crate::time::Nanos;

use super::super::heap::Key;
use super::snapshot::Snapshot;

/// Grantable messages that a shard tells of. More than the second of one peer rarely matter.
pub(super) const TOLD: usize = 4;
const GRANT_WORDS: usize = 2 * TOLD + 3;
/// A shard that was hungry, and has not been heard of for so long, does not run: the others do not wait
/// for it.
const HUNGRY_FOR: Nanos = Nanos::from_us(50);

/// A message that wants grants, as other shards see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) key: Key,
    /// Tells peers apart: a hash of the address.
    pub(super) tag: u16,
}

/// What one shard tells about grants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct GrantLine {
    pub(super) told: [Option<Told>; TOLD],
    /// All its messages that want grants.
    pub(super) grantable: u32,
    /// When the oldest of them began.
    pub(super) oldest: Option<Nanos>,
    /// When it last found the budget too small for what it may grant.
    pub(super) hungry_at: Option<Nanos>,
}

impl GrantLine {
    pub(super) fn push(&mut self, told: Told) {
        if let Some(free) = self.told.iter_mut().find(|slot| slot.is_none()) {
            *free = Some(told);
        }
    }

    pub(super) fn told(&self) -> impl Iterator<Item = Told> {
        self.told.into_iter().flatten()
    }

    pub(super) fn is_hungry(&self, now: Nanos) -> bool {
        self.hungry_at.is_some_and(|at| now.since(at) < HUNGRY_FOR)
    }

    fn pack(&self) -> [u64; GRANT_WORDS] {
        let mut words = [0; GRANT_WORDS];
        for (pair, told) in words.chunks_exact_mut(2).zip(&self.told) {
            if let Some(Told { key, tag }) = told {
                pair[0] = 1 << 48 | u64::from(*tag) << 32 | u64::from(key.bytes);
                pair[1] = key.age_ns;
            }
        }
        let time = |at: Option<Nanos>| at.map_or(0, |at| at.0 + 1);
        words[2 * TOLD] = self.grantable.into();
        words[2 * TOLD + 1] = time(self.oldest);
        words[2 * TOLD + 2] = time(self.hungry_at);
        words
    }

    fn unpack(words: &[u64; GRANT_WORDS]) -> Self {
        let mut line = Self::default();
        for (told, pair) in line.told.iter_mut().zip(words.chunks_exact(2)) {
            *told = (pair[0] >> 48 != 0).then(|| Told {
                key: Key { bytes: pair[0] as u32, age_ns: pair[1] },
                tag: (pair[0] >> 32) as u16,
            });
        }
        let time = |word: u64| word.checked_sub(1).map(Nanos);
        line.grantable = words[2 * TOLD] as u32;
        line.oldest = time(words[2 * TOLD + 1]);
        line.hungry_at = time(words[2 * TOLD + 2]);
        line
    }
}

/// The messages of all shards that want grants: one line per shard, written by it alone.
#[derive(Debug)]
pub(super) struct GrantBoard {
    lines: Box<[CachePadded<Snapshot<GRANT_WORDS>>]>,
}

impl GrantBoard {
    pub(super) fn new(shards: usize) -> Self {
        let empty = |_| CachePadded::new(Snapshot::new(GrantLine::default().pack()));
        Self { lines: (0..shards).map(empty).collect() }
    }

    pub(super) fn tell(&self, shard: usize, line: &GrantLine) {
        self.lines[shard].write(&line.pack());
    }

    /// Brings a copy of a line up to date.
    pub(super) fn refresh(&self, shard: usize, seen: &mut u64, copy: &mut GrantLine) {
        if let Some(words) = self.lines[shard].read(seen) {
            *copy = GrantLine::unpack(&words);
        }
    }
}

/// The message of each shard that the link keeps waiting: one line per shard, written by it alone.
#[derive(Debug)]
pub(super) struct SendBoard {
    lines: Box<[CachePadded<Snapshot<2>>]>,
}

/// No message waits.
const NONE: [u64; 2] = [u64::MAX; 2];

impl SendBoard {
    pub(super) fn new(shards: usize) -> Self {
        let empty = |_| CachePadded::new(Snapshot::new(NONE));
        Self { lines: (0..shards).map(empty).collect() }
    }

    pub(super) fn tell(&self, shard: usize, key: Option<Key>) {
        self.lines[shard].write(&key.map_or(NONE, |key| [key.bytes.into(), key.age_ns]));
    }

    /// Brings a copy of a line up to date.
    pub(super) fn refresh(&self, shard: usize, seen: &mut u64, copy: &mut Option<Key>) {
        if let Some(words) = self.lines[shard].read(seen) {
            let key = Key { bytes: words[0] as u32, age_ns: words[1] };
            *copy = (words != NONE).then_some(key);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_line_arrives_as_it_was_told() {
        let board = GrantBoard::new(2);
        let (mut seen, mut copy) = (1, GrantLine::default());
        board.refresh(0, &mut seen, &mut copy);
        assert_eq!(copy, GrantLine::default());
        let mut line = GrantLine {
            grantable: 9,
            oldest: Some(Nanos::ZERO),
            hungry_at: Some(Nanos(7)),
            ..GrantLine::default()
        };
        for bytes in 1..=6 {
            let key = Key { bytes: u32::MAX - bytes, age_ns: 1 << 60 };
            line.push(Told { key, tag: u16::MAX });
        }
        board.tell(0, &line);
        board.refresh(0, &mut seen, &mut copy);
        assert_eq!(copy, line);
        assert_eq!(copy.told().count(), TOLD, "no more than there is room for");
        assert!(copy.is_hungry(Nanos(8)) && !copy.is_hungry(Nanos::from_ms(1)));
    }

    #[test]
    fn what_waits_is_told_until_it_is_taken_back() {
        let board = SendBoard::new(1);
        let (mut seen, mut copy) = (1, None);
        let key = Key { bytes: 0, age_ns: 0 };
        board.tell(0, Some(key));
        board.refresh(0, &mut seen, &mut copy);
        assert_eq!(copy, Some(key));
        board.tell(0, None);
        board.refresh(0, &mut seen, &mut copy);
        assert_eq!(copy, None);
    }
}
