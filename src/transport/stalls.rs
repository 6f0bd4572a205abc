//! The times at which the shard itself did not run, as far back as anybody may ask.

use std::collections::VecDeque;

use crate::time::Nanos;

/// Stalls remembered one by one. Older ones are put together.
const RECENT_MAX: usize = 64;

/// Recent stalls: when, in the time of timers (which stands still meanwhile), and how long.
#[derive(Debug)]
pub(super) struct Stalls {
    recent: VecDeque<(Nanos, u64)>,
}

impl Stalls {
    pub(super) fn new() -> Self {
        Self { recent: VecDeque::with_capacity(RECENT_MAX) }
    }

    /// Notes a stall at `time`, not before earlier ones.
    pub(super) fn note(&mut self, time: Nanos, stall_ns: u64) {
        if self.recent.len() == RECENT_MAX
            && let Some((_, oldest_ns)) = self.recent.pop_front()
            && let Some((_, second_ns)) = self.recent.front_mut()
        {
            // As if both had come when the second did: rather too late than too early.
            *second_ns = second_ns.saturating_add(oldest_ns);
        }
        self.recent.push_back((time, stall_ns));
    }

    /// How long the shard did not run after `time`. May be too much, never too little.
    pub(super) fn since(&self, time: Nanos) -> u64 {
        let later = self.recent.iter().rev().take_while(|(at, _)| *at >= time);
        later.fold(0, |sum: u64, (_, stall_ns)| sum.saturating_add(*stall_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_came_later() {
        let mut stalls = Stalls::new();
        stalls.note(Nanos(10), 100);
        stalls.note(Nanos(20), 7);
        let since = [0, 10, 11, 20, 21].map(|time| stalls.since(Nanos(time)));
        assert_eq!(since, [107, 107, 7, 7, 0]);
    }

    #[test]
    fn many_stalls_cost_no_more_memory_and_are_never_underestimated() {
        let mut stalls = Stalls::new();
        for time in 0..1_000 {
            stalls.note(Nanos(time), 1);
        }
        assert_eq!(stalls.since(Nanos(0)), 1_000);
        assert_eq!(stalls.since(Nanos(999)), 1);
        assert!((0..1_000).all(|time| stalls.since(Nanos(time)) >= 1_000 - time));
        assert_eq!(stalls.recent.capacity(), RECENT_MAX);
    }
}
