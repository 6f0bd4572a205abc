//! Requests that are being served: the answer goes out when the service time has passed.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use crate::load::response::ServiceTime;

/// What waits for its service time to pass, in the order in which that happens. Waiting costs nothing: the
/// time is that of a disk or of another server, not of our CPU.
#[derive(Debug)]
pub(super) struct InService<T> {
    time: ServiceTime,
    waiting: BinaryHeap<Reverse<Waiting<T>>>,
    begun: u64,
}

#[derive(Debug)]
struct Waiting<T> {
    due: Instant,
    /// Of two that are due at the same time the one that came first is first.
    number: u64,
    what: T,
}

impl<T> Waiting<T> {
    fn key(&self) -> (Instant, u64) {
        (self.due, self.number)
    }
}

impl<T> PartialEq for Waiting<T> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<T> Eq for Waiting<T> {}

impl<T> PartialOrd for Waiting<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Waiting<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl<T> InService<T> {
    pub(super) fn new(time: ServiceTime) -> Self {
        Self { time, waiting: BinaryHeap::new(), begun: 0 }
    }

    /// Begins to serve the request `id`. Gives `what` back if that takes no time.
    pub(super) fn begin(&mut self, id: u64, what: T) -> Option<T> {
        if self.time == ServiceTime::None {
            return Some(what);
        }
        let due = Instant::now() + Duration::from_nanos(self.time.of(id).0);
        self.begun += 1;
        self.waiting.push(Reverse(Waiting { due, number: self.begun, what }));
        None
    }

    /// One whose time has passed.
    pub(super) fn done(&mut self) -> Option<T> {
        let Reverse(first) = self.waiting.peek()?;
        if first.due > Instant::now() {
            return None;
        }
        self.waiting.pop().map(|Reverse(first)| first.what)
    }

    /// `patience`, or less if one is done earlier.
    pub(super) fn patience(&self, patience: Duration) -> Duration {
        match self.waiting.peek() {
            Some(Reverse(first)) => {
                patience.min(first.due.saturating_duration_since(Instant::now()))
            }
            None => patience,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Nanos;

    #[test]
    fn without_a_service_time_nothing_waits() {
        let mut service = InService::new(ServiceTime::None);
        assert_eq!(service.begin(1, 'a'), Some('a'));
        assert_eq!((service.done(), service.patience(Duration::MAX)), (None, Duration::MAX));
    }

    #[test]
    fn whose_time_is_shorter_is_done_first() {
        let time = ServiceTime::Exponential(Nanos::from_ms(1));
        let mut ids: Vec<u64> = (0..50).collect();
        let mut service = InService::new(time);
        for &id in &ids {
            assert_eq!(service.begin(id, id), None);
        }
        assert!(service.patience(Duration::MAX) < Duration::from_millis(1));
        std::thread::sleep(Duration::from_millis(30));
        let done: Vec<u64> = std::iter::from_fn(|| service.done()).collect();
        ids.sort_by_key(|&id| time.of(id));
        // Those that began later by what a busy machine takes may come later.
        assert_eq!((done.len(), service.len()), (50, 0));
        assert_eq!(done[0], ids[0]);
    }
}
