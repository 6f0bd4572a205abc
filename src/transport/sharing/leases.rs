//! The budget for incoming bytes of a host, lent to its shards.

use crossbeam_utils::CachePadded;

use crate::sync::atomic::{AtomicI64, Ordering};

/// What is free, and what each shard holds. The sum is the budget, always; a shard grants only
/// what it holds, so the grants of all shards together never exceed the budget.
#[derive(Debug)]
pub(super) struct Leases {
    free: CachePadded<AtomicI64>,
    /// Each written by its shard alone; others read it in tests and reports.
    held: Box<[CachePadded<AtomicI64>]>,
}

impl Leases {
    pub(super) fn new(shards: usize, budget_bytes: i64) -> Self {
        let none = |_| CachePadded::new(AtomicI64::new(0));
        Self {
            free: CachePadded::new(AtomicI64::new(budget_bytes)),
            held: (0..shards).map(none).collect(),
        }
    }

    /// Bytes that nobody holds. Below zero when peers have announced more than the budget.
    pub(super) fn free(&self) -> i64 {
        self.free.load(Ordering::Relaxed)
    }

    pub(super) fn held(&self, shard: usize) -> i64 {
        self.held[shard].load(Ordering::Relaxed)
    }

    /// Borrows up to `want` bytes, leaving `reserve` untouched; says how many it got.
    pub(super) fn take(&self, shard: usize, want: i64, reserve: i64) -> i64 {
        let mut free = self.free.load(Ordering::Relaxed);
        loop {
            let got = want.min(free - reserve);
            if got <= 0 {
                return 0;
            }
            // Nothing but the number itself is handed over: no other memory is ordered by it.
            let swapped = self.free.compare_exchange_weak(
                free,
                free - got,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            match swapped {
                Ok(_) => {
                    self.hold(shard, got);
                    return got;
                }
                Err(now) => free = now,
            }
        }
    }

    /// Takes `bytes` whether they are free or not: peers send them without asking. Below zero,
    /// nobody gets more until they have arrived.
    pub(super) fn take_announced(&self, shard: usize, bytes: i64) {
        self.free.fetch_sub(bytes, Ordering::Relaxed);
        self.hold(shard, bytes);
    }

    pub(super) fn give_back(&self, shard: usize, bytes: i64) {
        self.hold(shard, -bytes);
        self.free.fetch_add(bytes, Ordering::Relaxed);
    }

    fn hold(&self, shard: usize, more: i64) {
        let held = &self.held[shard];
        held.store(held.load(Ordering::Relaxed) + more, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn lends_no_more_than_there_is() {
        let leases = Leases::new(2, 100);
        assert_eq!(leases.take(0, 60, 0), 60);
        assert_eq!(leases.take(1, 60, 10), 30, "ten are reserved");
        assert_eq!(leases.take(1, 60, 10), 0);
        leases.take_announced(0, 50);
        assert_eq!((leases.free(), leases.held(0), leases.held(1)), (-40, 110, 30));
        assert_eq!(leases.take(1, 1, 0), 0);
        leases.give_back(0, 110);
        leases.give_back(1, 30);
        assert_eq!(leases.free(), 100);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    /// Two shards borrow at the same time: together never more than the budget, and all of it comes
    /// back.
    #[test]
    fn loom_leases_never_exceed_the_budget() {
        loom::model(|| {
            let leases = Arc::new(Leases::new(2, 3));
            let other = {
                let leases = Arc::clone(&leases);
                thread::spawn(move || {
                    let got = leases.take(1, 2, 0);
                    leases.take_announced(1, 1);
                    leases.give_back(1, 1);
                    got
                })
            };
            let mut got = leases.take(0, 2, 0);
            got += leases.take(0, 1, 0);
            assert!(leases.held(0) == got);
            let other_got = other.join().unwrap();
            assert!(got + other_got <= 3, "{got} and {other_got}");
            assert_eq!(leases.free() + leases.held(0) + leases.held(1), 3);
            leases.give_back(0, got);
            leases.give_back(1, other_got);
            assert_eq!(leases.free(), 3);
        });
    }
}
