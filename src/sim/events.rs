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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) kind: Kind,
    /// Index of a port or a host.
    pub(crate) node: u16,
    /// Index of a packet, 0 where there is none.
    pub(crate) packet: u32,
}

impl Event {
    /// All of it in one word, which moves faster than its parts.
    #[inline]
    pub(crate) fn code(self) -> u64 {
        (self.kind as u64) << 48 | u64::from(self.node) << 32 | u64::from(self.packet)
    }

    #[inline]
    fn decode(code: u64) -> Self {
        let kind = KINDS[(code >> 48) as usize % KINDS.len()];
        Self { kind, node: (code >> 32) as u16, packet: code as u32 }
    }
}

/// Kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// The kinds by their number.
const KINDS: [Kind; 8] = [
    Kind::Enqueue,
    Kind::PortFree,
    Kind::Receive,
    Kind::Process,
    Kind::NicFree,
    Kind::Timer,
    Kind::Arrival,
    // Filled up to a power of two.
    Kind::Arrival,
];

/// An event in its place in the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    at_ps: Picos,
    sequence: u64,
    code: u64,
}

impl Entry {
    fn bucket(&self) -> u64 {
        self.at_ps >> BUCKET_SHIFT
    }

    /// Whether it comes after `other`. No two entries have the same sequence.
    #[inline]
    fn is_after(&self, other: &Self) -> bool {
        (self.at_ps, self.sequence) > (other.at_ps, other.sequence)
    }
}

/// log2 of the time that a bucket covers: 2.048 ns, in which a large cluster has a few events.
const BUCKET_SHIFT: u32 = 11;
/// Buckets of the ring: 33.6 us ahead.
const BUCKETS: usize = 16_384;
const WORDS: usize = BUCKETS / 64;
const NIL: u32 = u32::MAX;

/// An entry in the list of a bucket.
#[derive(Clone, Copy, Debug)]
struct Node {
    entry: Entry,
    next: u32,
}

/// The queue. Buckets are lists through one array whose free places are used again at once, so that
/// the memory in use is that of the events that wait.
#[derive(Debug)]
pub(crate) struct EventQueue {
    /// First node of each bucket.
    heads: Box<[u32; BUCKETS]>,
    /// One bit per bucket that has entries.
    occupied: Box<[u64; WORDS]>,
    nodes: Vec<Node>,
    free: u32,
    /// Events of the present bucket, latest first.
    now: Vec<Entry>,
    /// Number of the present bucket, counted from time 0.
    bucket: u64,
    far: BinaryHeap<Reverse<Entry>>,
    /// The bucket of the first of them, the last one there is without any.
    far_bucket: u64,
    sequence: u64,
}

impl EventQueue {
    pub(crate) fn new() -> Self {
        Self {
            heads: Box::new([NIL; BUCKETS]),
            occupied: Box::new([0; WORDS]),
            nodes: Vec::new(),
            free: NIL,
            now: Vec::new(),
            bucket: 0,
            far: BinaryHeap::new(),
            far_bucket: u64::MAX,
            sequence: 0,
        }
    }

    /// Enters an event. A time before the event taken last counts as that time.
    #[inline]
    pub(crate) fn push(&mut self, at_ps: Picos, event: Event) {
        self.sequence += 1;
        let entry = Entry { at_ps, sequence: self.sequence, code: event.code() };
        let bucket = entry.bucket();
        if bucket <= self.bucket {
            self.put_now(entry);
        } else if bucket < self.bucket + BUCKETS as u64 {
            self.put(bucket, entry);
        } else {
            self.far_bucket = self.far_bucket.min(bucket);
            self.far.push(Reverse(entry));
        }
    }

    /// Enters an event of the present bucket. There are few: it moves past those that come earlier.
    #[inline]
    fn put_now(&mut self, entry: Entry) {
        let mut place = self.now.len();
        self.now.push(entry);
        while place > 0 && entry.is_after(&self.now[place - 1]) {
            self.now[place] = self.now[place - 1];
            place -= 1;
        }
        self.now[place] = entry;
    }

    #[inline]
    fn put(&mut self, bucket: u64, entry: Entry) {
        let slot = bucket as usize % BUCKETS;
        self.occupied[slot / 64] |= 1 << (slot % 64);
        let node = Node { entry, next: self.heads[slot] };
        if self.free == NIL {
            self.heads[slot] = self.nodes.len() as u32;
            self.nodes.push(node);
        } else {
            self.heads[slot] = self.free;
            let place = &mut self.nodes[self.free as usize];
            self.free = place.next;
            *place = node;
        }
    }

    /// Takes the next event and its time.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<(Picos, Event)> {
        if self.now.is_empty() && !self.advance() {
            return None;
        }
        self.now.pop().map(|entry| (entry.at_ps, Event::decode(entry.code)))
    }

    /// Goes on to the next bucket that has events. False if there is none.
    fn advance(&mut self) -> bool {
        let near = self.next_occupied().unwrap_or(u64::MAX);
        let bucket = near.min(self.far_bucket);
        if bucket == u64::MAX {
            return false;
        }
        self.bucket = bucket;
        if near == bucket {
            self.take_list(bucket as usize % BUCKETS);
        }
        if self.far_bucket < bucket + BUCKETS as u64 {
            self.take_far();
        }
        true
    }

    /// Moves the entries of a bucket to the present ones.
    #[inline]
    fn take_list(&mut self, slot: usize) {
        self.occupied[slot / 64] &= !(1 << (slot % 64));
        let mut at = std::mem::replace(&mut self.heads[slot], NIL);
        while at != NIL {
            let node = &mut self.nodes[at as usize];
            let entry = node.entry;
            let next = std::mem::replace(&mut node.next, self.free);
            self.free = at;
            at = next;
            self.put_now(entry);
        }
    }

    /// Moves what the ring reaches now into it.
    fn take_far(&mut self) {
        self.far_bucket = u64::MAX;
        while let Some(Reverse(entry)) = self.far.pop() {
            let bucket = entry.bucket();
            if bucket >= self.bucket + BUCKETS as u64 {
                self.far_bucket = bucket;
                self.far.push(Reverse(entry));
                break;
            }
            if bucket == self.bucket {
                self.put_now(entry);
            } else {
                self.put(bucket, entry);
            }
        }
    }

    /// The number of the first bucket of the ring after the present one that has entries.
    #[inline]
    fn next_occupied(&self) -> Option<u64> {
        let start = (self.bucket + 1) as usize % BUCKETS;
        let first = self.occupied[start / 64] & (!0 << (start % 64));
        let found = |word: usize, bits: u64| {
            let slot = word * 64 + bits.trailing_zeros() as usize;
            self.bucket + 1 + ((slot + BUCKETS - start) % BUCKETS) as u64
        };
        if first != 0 {
            return Some(found(start / 64, first));
        }
        // The last step looks at the buckets of the first word that come a turn later.
        (1..=WORDS).find_map(|step| {
            let word = (start / 64 + step) % WORDS;
            let bits = self.occupied[word];
            (bits != 0).then(|| found(word, bits))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Events that wait.
    fn len(queue: &EventQueue) -> usize {
        let mut free = std::iter::successors(Some(queue.free), |&at| {
            (at != NIL).then(|| queue.nodes[at as usize].next)
        });
        let unused = free.by_ref().take_while(|&at| at != NIL).count();
        queue.nodes.len() - unused + queue.now.len() + queue.far.len()
    }

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
                assert_eq!(queue.pop(), Some((at_ps, event(packet))));
            }
        }
        assert_eq!((queue.pop(), len(&queue)), (None, 0));
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
                    prop_assert_eq!(queue.pop(), Some((at_ps, event(number as u32))));
                    now = at_ps;
                }
                prop_assert_eq!(len(&queue), model.len());
            }
            while let Some(Reverse((at_ps, number))) = model.pop() {
                prop_assert_eq!(queue.pop(), Some((at_ps, event(number as u32))));
            }
            prop_assert_eq!(queue.pop(), None);
        }
    }
}
