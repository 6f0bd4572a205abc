//! One estimate of what the NIC still has to send, for all shards that send through it.

use crossbeam_utils::CachePadded;

use crate::sync::atomic::{AtomicU64, Ordering};

/// When the link will have sent everything handed to it. The unit is the pacer's.
#[derive(Debug)]
pub(super) struct Link {
    idle_at: CachePadded<AtomicU64>,
}

impl Link {
    pub(super) fn new() -> Self {
        Self { idle_at: CachePadded::new(AtomicU64::new(0)) }
    }

    pub(super) fn idle_at(&self) -> u64 {
        self.idle_at.load(Ordering::Relaxed)
    }

    /// Takes `cost` of the link if it will be idle by `limit`. The test and the charge are one step, so
    /// all shards together overshoot the limit by one reservation.
    pub(super) fn reserve(&self, now: u64, limit: u64, cost: u64) -> bool {
        let take = |idle_at: u64| (idle_at <= limit).then(|| idle_at.max(now) + cost);
        self.idle_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// Charges what was sent without asking.
    pub(super) fn charge(&self, now: u64, cost: u64) {
        let add = |idle_at: u64| Some(idle_at.max(now) + cost);
        let _ = self.idle_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// Gives back what was reserved and not used.
    pub(super) fn give_back(&self, cost: u64) {
        self.idle_at.fetch_sub(cost, Ordering::Relaxed);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    /// Of two shards that find the link at its limit, one gets the last reservation.
    #[test]
    fn loom_reservations_overshoot_once() {
        loom::model(|| {
            let link = Arc::new(Link::new());
            let reserve = |link: &Link| u64::from(link.reserve(10, 12, 5));
            let other = {
                let link = Arc::clone(&link);
                thread::spawn(move || reserve(&link))
            };
            let mine = reserve(&link);
            let both = mine + other.join().unwrap();
            assert_eq!(both, 1, "10 + 5 is above 12");
            assert_eq!(link.idle_at(), 15);
        });
    }
}
