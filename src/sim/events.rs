//! What happens next: a calendar queue in the order (time, sequence).
//!
//! Nearly all events of a cluster lie a few microseconds ahead (the next hop of a packet), so they
//! go into a ring of short buckets; the few beyond the ring wait in a heap. A bucket is sorted when
//! its time comes. Events of the same time leave in the order they were entered, so runs repeat.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Simulated time in picoseconds: a byte at 40 Gbps takes 200.
pub(crate) type Picos = u64;

/// What an event is about. The meaning of `node` depends on the kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Event {
    pub(crate) kind: Kind,
    /// Index of a port or a host.
    pub(crate) node: u16,
    /// Index of a packet, 0 where there is none.
    pub(crate) packet: u32,
}

/// Kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Kind {
    /// A packet comes to the queue of a switch port.
    Enqueue,
    /// A switch port has sent a packet and others wait.
    PortFree,
    /// A packet comes to a host.
    Receive,
    /// The CPU of a host has time for packets that wait.
    Process,
    /// The NIC of a host takes packets again.
    NicFree,
    /// A timer of the transport of a host.
    Timer,
    /// The next message of a host is due.
    Arrival,
}

/// An event in its place in the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    pub(crate) at_ps: Picos,
    sequence: u64,
    pub(crate) event: Event,
}

/// log2 of the time that a bucket covers: 8.192 ns.
const BUCKET_SHIFT: u32 = 13;
/// Buckets of the ring: 33.6 us ahead.
const BUCKETS: usize = 4_096;

/// The queue.
#[derive(Debug)]
pub(crate) struct EventQueue {
    ring: Vec<Vec<Entry>>,
    /// One bit per bucket that has entries.
    occupied: [u64; BUCKETS / 64],
    /// Events of the present bucket, latest first.
    now: Vec<Entry>,
    /// Number of the present bucket, counted from time 0.
    bucket: u64,
    far: BinaryHeap<Reverse<Entry>>,
    sequence: u64,
}

impl EventQueue {
    pub(crate) fn new() -> Self {
        Self {
            ring: (0..BUCKETS).map(|_| Vec::new()).collect(),
            occupied: [0; BUCKETS / 64],
            now: Vec::new(),
            bucket: 0,
            far: BinaryHeap::new(),
            sequence: 0,
        }
    }

    /// Events that wait.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.ring.iter().map(Vec::len).sum::<usize>() + self.now.len() + self.far.len()
    }

    /// Enters an event. A time before the event taken last counts as that time.
    #[inline]
    pub(crate) fn push(&mut self, at_ps: Picos, event: Event) {
        self.sequence += 1;
        let entry = Entry { at_ps, sequence: self.sequence, event };
        let bucket = at_ps >> BUCKET_SHIFT;
        if bucket <= self.bucket {
            let place = self.now.partition_point(|other| *other > entry);
            self.now.insert(place, entry);
        } else if bucket < self.bucket + BUCKETS as u64 {
            self.put(bucket, entry);
        } else {
            self.far.push(Reverse(entry));
        }
    }

    #[inline]
    fn put(&mut self, bucket: u64, entry: Entry) {
        let slot = bucket as usize % BUCKETS;
        self.ring[slot].push(entry);
        self.occupied[slot / 64] |= 1 << (slot % 64);
    }

    /// Takes the next event.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Entry> {
        if self.now.is_empty() && !self.advance() {
            return None;
        }
        self.now.pop()
    }

    /// Goes on to the next bucket that has events. False if there is none.
    fn advance(&mut self) -> bool {
        let near = self.next_occupied();
        let far = self.far.peek().map(|entry| entry.0.at_ps >> BUCKET_SHIFT);
        let Some(bucket) = near.into_iter().chain(far).min() else { return false };
        self.bucket = bucket;
        let slot = bucket as usize % BUCKETS;
        if near == Some(bucket) {
            // The emptied list stays in the ring, with its memory.
            std::mem::swap(&mut self.now, &mut self.ring[slot]);
            self.occupied[slot / 64] &= !(1 << (slot % 64));
        }
        while let Some(Reverse(entry)) = self.far.peek() {
            let later = entry.at_ps >> BUCKET_SHIFT;
            if later >= self.bucket + BUCKETS as u64 {
                break;
            }
            let Some(Reverse(entry)) = self.far.pop() else { break };
            if later == bucket {
                self.now.push(entry);
            } else {
                self.put(later, entry);
            }
        }
        self.now.sort_unstable_by(|a, b| b.cmp(a));
        true
    }

    /// The number of the first bucket of the ring after the present one that has entries.
    fn next_occupied(&self) -> Option<u64> {
        let start = (self.bucket + 1) as usize % BUCKETS;
        let words = BUCKETS / 64;
        (0..=words).find_map(|step| {
            let word = (start / 64 + step) % words;
            let mut bits = self.occupied[word];
            if step == 0 {
                bits &= !0 << (start % 64);
            } else if step == words {
                bits &= !(!0 << (start % 64));
            }
            (bits != 0).then(|| {
                let slot = word * 64 + bits.trailing_zeros() as usize;
                self.bucket + 1 + ((slot + BUCKETS - start) % BUCKETS) as u64
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn event(packet: u32) -> Event {
        Event { kind: Kind::Enqueue, node: 0, packet }
    }

    #[test]
    fn events_of_one_time_leave_in_the_order_they_were_entered() {
        let mut queue = EventQueue::new();
        // In the ring, beyond it, and in the present bucket.
        for at_ps in [100_000, 900_000_000_000, 5] {
            for packet in 0..50 {
                queue.push(at_ps, event(packet));
            }
        }
        for at_ps in [5, 100_000, 900_000_000_000] {
            for packet in 0..50 {
                let entry = queue.pop().unwrap();
                assert_eq!((entry.at_ps, entry.event.packet), (at_ps, packet));
            }
        }
        assert_eq!((queue.pop(), queue.len()), (None, 0));
    }

    proptest! {
        /// Against a plain heap, with events entered while others are taken.
        #[test]
        fn the_order_is_that_of_a_heap(
            steps in prop::collection::vec((0u64..100_000_000, 0u32..3, any::<bool>()), 1..400)
        ) {
            let (mut queue, mut model) = (EventQueue::new(), BinaryHeap::new());
            let (mut now, mut sequence) = (0, 0u64);
            for (ahead, scale, take) in steps {
                // From within a bucket to far beyond the ring.
                let at_ps = now + (ahead >> (10 * scale));
                sequence += 1;
                queue.push(at_ps, event(sequence as u32));
                model.push(Reverse((at_ps, sequence)));
                if take {
                    let Reverse((at_ps, number)) = model.pop().unwrap();
                    let entry = queue.pop().unwrap();
                    prop_assert_eq!((entry.at_ps, entry.event.packet), (at_ps, number as u32));
                    now = at_ps;
                }
                prop_assert_eq!(queue.len(), model.len());
            }
            while let Some(Reverse((at_ps, number))) = model.pop() {
                let entry = queue.pop().unwrap();
                prop_assert_eq!((entry.at_ps, entry.event.packet), (at_ps, number as u32));
            }
            prop_assert_eq!(queue.pop(), None);
        }
    }
}
