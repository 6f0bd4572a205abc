//! A ring between two shards: one writes, one reads, nobody waits.

use std::fmt;
use std::mem::MaybeUninit;

use crossbeam_utils::CachePadded;

use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Arc, UnsafeCell};

/// What both ends share. Positions count up for ever; the slot is their lower bits.
struct Shared<T> {
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
    /// Slots before this are filled. Written by the producer.
    tail: CachePadded<AtomicUsize>,
    /// Slots before this are empty again. Written by the consumer.
    head: CachePadded<AtomicUsize>,
}

// SAFETY: a slot is reached by the producer alone while it is empty and by the consumer alone while it
// is filled; `tail` and `head` hand it over with release and acquire. Values go from one thread to the
// other, so they must be `Send`; they are never seen by both.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    fn slot(&self, position: usize) -> &UnsafeCell<MaybeUninit<T>> {
        &self.slots[position & (self.slots.len() - 1)]
    }

    /// Takes out what is in the slot at `position`.
    ///
    /// # Safety
    /// The slot is filled, the caller may read it, and does so once.
    unsafe fn take(&self, position: usize) -> T {
        // SAFETY: the caller's promise.
        self.slot(position).with_mut(|slot| unsafe { (*slot).assume_init_read() })
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let tail = self.tail.load(Ordering::Acquire);
        let mut head = self.head.load(Ordering::Acquire);
        while head != tail {
            // SAFETY: both ends are gone, and slots from head to tail are filled.
            drop(unsafe { self.take(head) });
            head = head.wrapping_add(1);
        }
    }
}

/// A ring of `capacity` slots, rounded up to a power of two: its two ends, one for each thread.
pub fn ring<T: Send>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    let empty = |_| UnsafeCell::new(MaybeUninit::uninit());
    let shared = Arc::new(Shared {
        slots: (0..capacity.max(1).next_power_of_two()).map(empty).collect(),
        tail: CachePadded::new(AtomicUsize::new(0)),
        head: CachePadded::new(AtomicUsize::new(0)),
    });
    let consumer = Consumer { shared: Arc::clone(&shared), head: 0, tail_seen: 0 };
    (Producer { shared, tail: 0, flushed: 0, head_seen: 0 }, consumer)
}

/// The end that writes.
pub struct Producer<T: Send> {
    shared: Arc<Shared<T>>,
    tail: usize,
    /// The consumer knows of slots before this.
    flushed: usize,
    /// `head` as it was seen last: the line of the consumer is only read when the ring looks full.
    head_seen: usize,
}

impl<T: Send> Producer<T> {
    /// Adds a value. The consumer sees it after [`Producer::flush`].
    ///
    /// # Errors
    /// Gives it back when the ring is full.
    #[inline]
    pub fn push(&mut self, value: T) -> Result<(), T> {
        if self.tail.wrapping_sub(self.head_seen) == self.shared.slots.len() {
            self.head_seen = self.shared.head.load(Ordering::Acquire);
            if self.tail.wrapping_sub(self.head_seen) == self.shared.slots.len() {
                return Err(value);
            }
        }
        self.shared.slot(self.tail).with_mut(|slot| {
            // SAFETY: the slot is empty (head has passed it) and the consumer does not look at it
            // before the tail has passed it.
            unsafe { (*slot).write(value) };
        });
        self.tail = self.tail.wrapping_add(1);
        Ok(())
    }

    /// Shows the consumer what was added: once per burst.
    #[inline]
    pub fn flush(&mut self) {
        if self.flushed != self.tail {
            self.flushed = self.tail;
            self.shared.tail.store(self.tail, Ordering::Release);
        }
    }
}

impl<T: Send> Drop for Producer<T> {
    fn drop(&mut self) {
        self.flush();
    }
}

/// The end that reads.
pub struct Consumer<T: Send> {
    shared: Arc<Shared<T>>,
    head: usize,
    /// `tail` as it was seen last.
    tail_seen: usize,
}

impl<T: Send> Consumer<T> {
    /// The oldest value.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        if self.head == self.tail_seen {
            self.tail_seen = self.shared.tail.load(Ordering::Acquire);
            if self.head == self.tail_seen {
                return None;
            }
        }
        // SAFETY: the slot is filled (tail has passed it), and the producer does not touch it before
        // the head has passed it.
        let value = unsafe { self.shared.take(self.head) };
        self.head = self.head.wrapping_add(1);
        self.shared.head.store(self.head, Ordering::Release);
        Some(value)
    }
}

impl<T: Send> fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("pushed", &self.tail).finish_non_exhaustive()
    }
}

impl<T: Send> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("popped", &self.head).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn values_come_out_in_order_and_a_full_ring_says_so() {
        let (mut producer, mut consumer) = ring(4);
        for round in 0..10 {
            for value in 0..4 {
                assert_eq!(producer.push(Box::new(4 * round + value)), Ok(()));
            }
            assert_eq!(producer.push(Box::new(99)), Err(Box::new(99)));
            assert_eq!(consumer.pop(), None, "not flushed");
            producer.flush();
            for value in 0..4 {
                assert_eq!(consumer.pop(), Some(Box::new(4 * round + value)));
            }
            assert_eq!(consumer.pop(), None);
        }
    }

    #[test]
    fn what_is_left_is_dropped_with_the_ring() {
        let counted = Arc::new(());
        let (mut producer, mut consumer) = ring(8);
        for _ in 0..5 {
            assert!(producer.push(counted.clone()).is_ok());
        }
        producer.flush();
        drop(consumer.pop());
        assert!(producer.push(counted.clone()).is_ok());
        drop((producer, consumer));
        assert_eq!(Arc::strong_count(&counted), 1);
    }

    #[test]
    fn two_threads_pass_everything_on() {
        const COUNT: u64 = 200_000;
        let (mut producer, mut consumer) = ring(64);
        let writer = std::thread::spawn(move || {
            for mut value in 0..COUNT {
                while let Err(back) = producer.push(value) {
                    producer.flush();
                    std::thread::yield_now();
                    value = back;
                }
                if value.is_multiple_of(7) {
                    producer.flush();
                }
            }
        });
        for expected in 0..COUNT {
            let value = loop {
                match consumer.pop() {
                    Some(value) => break value,
                    None => std::thread::yield_now(),
                }
            };
            assert_eq!(value, expected);
        }
        writer.join().unwrap();
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::thread;

    /// More values than slots: each arrives once, in order, whole, or is given back.
    #[test]
    fn loom_a_ring_loses_nothing_and_makes_nothing_up() {
        loom::model(|| {
            let (mut producer, mut consumer) = ring(2);
            let writer = thread::spawn(move || {
                let mut taken = 0;
                for value in 1..=3_usize {
                    if producer.push(Box::new(value)).is_err() {
                        break;
                    }
                    taken = value;
                    producer.flush();
                }
                taken
            });
            let mut last = 0;
            for _ in 0..2 {
                if let Some(value) = consumer.pop() {
                    assert_eq!(*value, last + 1);
                    last = *value;
                }
            }
            let taken = writer.join().unwrap();
            while let Some(value) = consumer.pop() {
                assert_eq!(*value, last + 1);
                last = *value;
            }
            assert_eq!(last, taken);
        });
    }
}
