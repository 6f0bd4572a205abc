//! What a shard does when it finds nothing to do.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// How a shard waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IdlePolicy {
    /// `Spin` if the process may use several CPUs, else `Yield`.
    #[default]
    Auto,
    /// Poll again at once.
    Spin,
    /// Tell the processor that this is a wait loop, then poll: kinder to a sibling thread, slower to
    /// react (20 to 40 ns; on a virtual machine much more if the hypervisor traps it).
    Pause,
    /// Let other threads run, then poll. For more shards than CPUs.
    Yield,
    /// Sleep up to 100 us after some idle milliseconds. Costs latency, saves energy.
    Sleep,
}

impl fmt::Display for IdlePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Spin => "spin",
            Self::Pause => "pause",
            Self::Yield => "yield",
            Self::Sleep => "sleep",
        })
    }
}

impl FromStr for IdlePolicy {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Ok(match name {
            "auto" => Self::Auto,
            "spin" => Self::Spin,
            "pause" => Self::Pause,
            "yield" => Self::Yield,
            "sleep" => Self::Sleep,
            _ => {
                return Err(format!(
                    "unknown idle policy '{name}': use auto, spin, pause, yield or sleep"
                ));
            }
        })
    }
}

/// Polls that found nothing before a shard does anything about it.
const PATIENCE: u32 = 64;
const SLEEP_PATIENCE: u32 = 20_000;
const SLEEP_STEP_US: u64 = 1;
const SLEEP_MAX_US: u64 = 100;

/// Counts idle turns and waits as the policy says.
#[derive(Debug)]
pub(super) struct Idle {
    policy: IdlePolicy,
    turns: u32,
    sleep_us: u64,
}

impl Idle {
    pub(super) fn new(policy: IdlePolicy, cpus: usize) -> Self {
        let policy = match policy {
            IdlePolicy::Auto if cpus > 1 => IdlePolicy::Spin,
            IdlePolicy::Auto => IdlePolicy::Yield,
            policy => policy,
        };
        Self { policy, turns: 0, sleep_us: 0 }
    }

    /// Whether the last turn found nothing to do.
    #[inline]
    pub(super) fn is_idle(&self) -> bool {
        self.turns > 0
    }

    #[inline]
    pub(super) fn worked(&mut self) {
        self.turns = 0;
        self.sleep_us = 0;
    }

    #[inline]
    pub(super) fn wait(&mut self) {
        self.turns = self.turns.saturating_add(1);
        match self.policy {
            IdlePolicy::Spin | IdlePolicy::Auto => {}
            IdlePolicy::Pause => core::hint::spin_loop(),
            IdlePolicy::Yield if self.turns > PATIENCE => std::thread::yield_now(),
            IdlePolicy::Sleep if self.turns > SLEEP_PATIENCE => self.sleep(),
            IdlePolicy::Yield | IdlePolicy::Sleep => core::hint::spin_loop(),
        }
    }

    #[cold]
    fn sleep(&mut self) {
        self.sleep_us = (self.sleep_us + SLEEP_STEP_US).min(SLEEP_MAX_US);
        std::thread::sleep(Duration::from_micros(self.sleep_us));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_yields_on_one_cpu_and_spins_on_several() {
        assert_eq!(Idle::new(IdlePolicy::Auto, 1).policy, IdlePolicy::Yield);
        assert_eq!(Idle::new(IdlePolicy::Auto, 2).policy, IdlePolicy::Spin);
        assert_eq!(Idle::new(IdlePolicy::Sleep, 2).policy, IdlePolicy::Sleep);
    }

    #[test]
    fn sleeping_ramps_up_and_starts_over_after_work() {
        let mut idle = Idle::new(IdlePolicy::Sleep, 1);
        for _ in 0..SLEEP_PATIENCE + 5 {
            idle.wait();
        }
        assert_eq!(idle.sleep_us, 5);
        idle.worked();
        idle.wait();
        assert_eq!(idle.sleep_us, 0);
    }

    #[test]
    fn names_are_parsed() {
        for policy in ["auto", "spin", "pause", "yield", "sleep"] {
            assert_eq!(
                policy.parse::<IdlePolicy>().map(|it| it.to_string()),
                Ok(policy.to_owned())
            );
        }
        assert!("nap".parse::<IdlePolicy>().unwrap_err().contains("'nap'"));
    }
}
