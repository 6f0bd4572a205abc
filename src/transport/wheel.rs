//! A timing wheel with one entry per slab index: bounded memory, no allocation, no cancelling.
//!
//! An entry says "look at this index not later than then". Who is looked at too early is put in
//! again; so pushing a deadline back costs nothing, and an entry left behind by an RPC that ended
//! serves the next RPC of the same index.

use crate::time::Nanos;

const SLOTS: usize = 1024;
const WORDS: usize = SLOTS / 64;
const NIL: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Links {
    next: u32,
    prev: u32,
    /// The tick this entry is due at, `NOT_QUEUED` if it is in no list.
    tick: u64,
}

const NOT_QUEUED: u64 = u64::MAX;

#[derive(Debug)]
pub(super) struct Wheel {
    heads: Box<[u32; SLOTS]>,
    occupied: [u64; WORDS],
    /// One bit per word of `occupied` that is not 0.
    words: u16,
    links: Vec<Links>,
    /// Everything before this tick has been handed out.
    tick: u64,
    /// log2 of the nanoseconds per tick.
    shift: u32,
}

impl Wheel {
    /// A wheel for `capacity` indices. A tick is the power of two at or below `tick_ns`.
    pub(super) fn new(capacity: usize, tick_ns: u64) -> Self {
        Self {
            heads: Box::new([NIL; SLOTS]),
            occupied: [0; WORDS],
            words: 0,
            links: Vec::with_capacity(capacity),
            tick: 0,
            shift: tick_ns.max(1).ilog2(),
        }
    }

    /// Asks for a look at `index` at `deadline` or earlier. An earlier request stays as it is.
    #[inline]
    pub(super) fn arm(&mut self, index: u32, deadline: Nanos) {
        // Rounded up, so that what is handed out is due.
        let due = (deadline.0 >> self.shift) + 1;
        // The entry of the RPC before, most often.
        if self.links.get(index as usize).is_none_or(|links| links.tick > due) {
            self.move_to(index, due);
        }
    }

    fn move_to(&mut self, index: u32, due: u64) {
        // Never in the past; within one turn.
        let due = due.clamp(self.tick + 1, self.tick + SLOTS as u64 - 1);
        if index as usize >= self.links.len() {
            let empty = Links { next: NIL, prev: NIL, tick: NOT_QUEUED };
            self.links.resize(index as usize + 1, empty);
        }
        let queued = self.links[index as usize].tick;
        if queued <= due {
            return;
        }
        if queued != NOT_QUEUED {
            self.unlink(index);
        }
        self.push(index, due);
    }

    /// The end of the first tick that has entries.
    #[inline]
    pub(super) fn next_deadline(&self) -> Option<Nanos> {
        if self.words == 0 {
            return None;
        }
        let start = (self.tick + 1) as usize % SLOTS;
        let first = self.occupied[start / 64] & (!0 << (start % 64));
        let slot = if first != 0 {
            start / 64 * 64 + first.trailing_zeros() as usize
        } else {
            // The words after it, in order; its own lower part comes last.
            let after = start / 64 + 1;
            let ahead = self.words.rotate_right(after as u32).trailing_zeros() as usize;
            let word = (after + ahead) % WORDS;
            word * 64 + self.occupied[word].trailing_zeros() as usize
        };
        let ahead = (slot + SLOTS - start) % SLOTS;
        Some(Nanos((self.tick + 1 + ahead as u64) << self.shift))
    }

    /// Whether [`Wheel::pop`] would have something to do.
    #[inline]
    pub(super) fn is_behind(&self, now: Nanos) -> bool {
        now.0 >> self.shift > self.tick
    }

    /// The next index that is due, `None` when the wheel has caught up with `now`.
    pub(super) fn pop(&mut self, now: Nanos) -> Option<u32> {
        let target = now.0 >> self.shift;
        if target > self.tick + SLOTS as u64 {
            // Time jumped: one turn of the wheel sees every entry.
            self.skip_to(target - SLOTS as u64);
        }
        while self.tick < target {
            let slot = (self.tick + 1) as usize % SLOTS;
            let index = self.heads[slot];
            if index != NIL {
                self.unlink(index);
                return Some(index);
            }
            self.tick += 1;
        }
        None
    }

    /// Moves the wheel's position; entries keep their slots, which come by within the next turn.
    fn skip_to(&mut self, tick: u64) {
        self.tick = tick;
        for slot in 0..SLOTS {
            let ahead = (slot + SLOTS - (tick + 1) as usize % SLOTS) % SLOTS;
            let mut index = self.heads[slot];
            while index != NIL {
                let links = &mut self.links[index as usize];
                links.tick = tick + 1 + ahead as u64;
                index = links.next;
            }
        }
    }

    fn push(&mut self, index: u32, due: u64) {
        let slot = due as usize % SLOTS;
        let head = self.heads[slot];
        self.links[index as usize] = Links { next: head, prev: NIL, tick: due };
        if head != NIL {
            self.links[head as usize].prev = index;
        }
        self.heads[slot] = index;
        self.occupied[slot / 64] |= 1 << (slot % 64);
        self.words |= 1 << (slot / 64);
    }

    fn unlink(&mut self, index: u32) {
        let Links { next, prev, tick } = self.links[index as usize];
        let slot = tick as usize % SLOTS;
        if prev == NIL {
            self.heads[slot] = next;
            if next == NIL {
                self.occupied[slot / 64] &= !(1 << (slot % 64));
                self.words &= !(u16::from(self.occupied[slot / 64] == 0) << (slot / 64));
            }
        } else {
            self.links[prev as usize].next = next;
        }
        if next != NIL {
            self.links[next as usize].prev = prev;
        }
        self.links[index as usize].tick = NOT_QUEUED;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pop_all(wheel: &mut Wheel, now: u64) -> Vec<u32> {
        let mut due: Vec<u32> = core::iter::from_fn(|| wheel.pop(Nanos(now))).collect();
        due.sort_unstable();
        due
    }

    #[test]
    fn hands_out_what_is_due_and_keeps_the_rest() {
        let mut wheel = Wheel::new(8, 1024);
        wheel.arm(1, Nanos(5_000));
        wheel.arm(2, Nanos(50_000));
        wheel.arm(2, Nanos(70_000)); // later: the earlier look stays
        assert!(pop_all(&mut wheel, 4_000).is_empty());
        assert_eq!(pop_all(&mut wheel, 6_200), [1]);
        assert!(pop_all(&mut wheel, 49_000).is_empty());
        assert_eq!(pop_all(&mut wheel, 52_000), [2]);
        assert_eq!(wheel.next_deadline(), None);
    }

    #[test]
    fn an_earlier_deadline_moves_the_entry_forward() {
        let mut wheel = Wheel::new(8, 1024);
        wheel.arm(1, Nanos(900_000));
        wheel.arm(1, Nanos(10_000));
        assert_eq!(pop_all(&mut wheel, 12_000), [1]);
        assert!(pop_all(&mut wheel, 1_000_000).is_empty());
    }

    proptest! {
        /// Every armed index is seen between its deadline and one tick later, or early because it
        /// lies beyond the wheel's turn; nothing is seen twice for one arming.
        #[test]
        fn never_late(
            steps in proptest::collection::vec((0u32..50, 0u64..3_000_000, 0u64..400_000), 1..100)
        ) {
            let mut wheel = Wheel::new(0, 1024);
            let mut armed: Vec<Option<u64>> = vec![None; 50];
            let mut now = 0;
            for (index, ahead, step) in steps {
                let deadline = now + ahead;
                wheel.arm(index, Nanos(deadline));
                let entry = &mut armed[index as usize];
                *entry = Some(entry.map_or(deadline, |old| old.min(deadline)));
                if let Some(next) = wheel.next_deadline() {
                    let first = armed.iter().flatten().min().copied().unwrap_or(u64::MAX);
                    prop_assert!(next.0 <= first + 2 * 1024, "{next:?} {first}");
                }
                now += step;
                for index in pop_all(&mut wheel, now) {
                    prop_assert!(armed[index as usize].take().is_some());
                }
                for deadline in armed.iter().flatten() {
                    prop_assert!(deadline + 2 * 1024 > now, "{deadline} is late at {now}");
                }
            }
        }
    }

    #[test]
    fn survives_a_jump_of_hours() {
        let mut wheel = Wheel::new(4, 1024);
        wheel.arm(3, Nanos(4_000));
        wheel.arm(2, Nanos(400_000));
        assert_eq!(pop_all(&mut wheel, 3_600_000_000_000), [2, 3]);
        wheel.arm(3, Nanos(3_600_000_010_000));
        assert_eq!(pop_all(&mut wheel, 3_600_000_020_000), [3]);
    }
}
