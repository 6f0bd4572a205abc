//! What a benchmark runs: RPCs that cost nearly nothing beside the node, frames without a protocol
//! over the same port, and the kernel's TCP.

mod raw;
mod rpc;
mod tcp;

use std::sync::atomic::{AtomicBool, Ordering};

pub use raw::{RawConfig, RawPort, RawQueues, echo, ping_pong, receive, send};
pub use rpc::{BenchClient, BenchClientConfig, BenchServer, BenchServerCounts, Source};
pub use tcp::{TcpPeer, tcp_echo, tcp_ping_pong};

use crate::load::bench::{Sampled, WindowSampler};
use crate::node::IdlePolicy;
use crate::time::Nanos;

/// A run without an answer ends this long after it should have.
const PATIENCE: Nanos = Nanos::from_secs(5);
/// Turns without anything to do between looks at the clock and the stop flag.
const IDLE_TURNS: u32 = 1_024;

/// What the side that measures has to say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    /// The windows.
    pub windows: Vec<Sampled>,
    /// RPCs that failed, or frames that were lost.
    pub failed: u64,
}

/// How long to measure, and how to wait meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Time before measuring begins, counted from the first completion.
    pub warm_up: Nanos,
    /// Time that is measured.
    pub duration: Nanos,
    /// What to do when there is nothing to do.
    pub idle: IdlePolicy,
}

impl Timing {
    fn sampler(&self) -> WindowSampler {
        WindowSampler::new(self.warm_up, self.duration)
    }

    /// When a run that started at `start` ends even if nothing comes back.
    fn deadline(&self, start: Nanos) -> Nanos {
        start + self.warm_up + self.duration + PATIENCE
    }
}

/// Waits in loops that have no node to do it.
#[derive(Debug)]
struct Idling {
    policy: IdlePolicy,
    turns: u32,
}

impl Idling {
    const fn new(policy: IdlePolicy) -> Self {
        Self { policy, turns: 0 }
    }

    /// One turn without anything to do; now and then says that it is time to look around.
    #[inline]
    fn turn(&mut self) -> bool {
        match self.policy {
            IdlePolicy::Spin => {}
            IdlePolicy::Yield => std::thread::yield_now(),
            IdlePolicy::Auto | IdlePolicy::Pause | IdlePolicy::Sleep => core::hint::spin_loop(),
        }
        self.turns = self.turns.wrapping_add(1);
        self.turns.is_multiple_of(IDLE_TURNS)
    }
}

fn is_set(stop: &AtomicBool) -> bool {
    stop.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idling_looks_around_now_and_then() {
        for policy in [IdlePolicy::Spin, IdlePolicy::Pause, IdlePolicy::Yield] {
            let mut idling = Idling::new(policy);
            let looks = (0..4 * IDLE_TURNS).filter(|_| idling.turn()).count();
            assert_eq!(looks, 4, "{policy:?}");
        }
    }

    #[test]
    fn a_run_without_answers_ends() {
        let timing = Timing {
            warm_up: Nanos::from_ms(100),
            duration: Nanos::from_secs(1),
            idle: IdlePolicy::Spin,
        };
        assert_eq!(timing.deadline(Nanos::from_secs(2)), Nanos::from_ms(8_100));
    }
}
