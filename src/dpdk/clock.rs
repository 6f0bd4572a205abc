//! The time-stamp counter as [`Nanos`].

use crate::time::Nanos;

use super::Eal;

/// Nanoseconds from the time-stamp counter: a few cycles to read, no system call. Copies share
/// the origin, so the shards of a process agree on the time (on one socket).
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin_ticks: u64,
    /// Nanoseconds per tick, times 2^32.
    ns_per_tick_q32: u64,
}

impl Clock {
    /// A clock that starts at zero now. Logs a warning when the processor does not promise a
    /// counter of constant rate, since time would then run unevenly.
    pub fn new(_eal: &Eal) -> Self {
        if !has_constant_rate_counter() {
            log::warn!(
                "the processor lacks constant_tsc or nonstop_tsc: time may run unevenly; \
                 disable frequency scaling and deep sleep states"
            );
        }
        // SAFETY: EAL is running, so the rate is known.
        let ticks_per_s = unsafe { dpdk_sys::rte_get_tsc_hz() };
        Self::with_rate(ticks(), ticks_per_s)
    }

    fn with_rate(origin_ticks: u64, ticks_per_s: u64) -> Self {
        let q32 = (1_000_000_000_u128 << 32) / u128::from(ticks_per_s.max(1));
        Self { origin_ticks, ns_per_tick_q32: u64::try_from(q32).unwrap_or(u64::MAX) }
    }

    /// The time since the clock was made.
    #[inline]
    pub fn now(&self) -> Nanos {
        self.at(ticks())
    }

    /// How many ticks of the counter `time` takes.
    pub fn ticks_in(&self, time: Nanos) -> u64 {
        ((u128::from(time.0) << 32) / u128::from(self.ns_per_tick_q32.max(1))) as u64
    }

    #[inline]
    fn at(&self, ticks: u64) -> Nanos {
        // Counters of two cores may differ by a few ticks; never run below zero.
        let elapsed = ticks.saturating_sub(self.origin_ticks);
        Nanos(((u128::from(elapsed) * u128::from(self.ns_per_tick_q32)) >> 32) as u64)
    }
}

#[inline]
fn ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has the instruction.
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: reads a counter.
    unsafe {
        dpdk_sys::homa_rdtsc()
    }
}

fn has_constant_rate_counter() -> bool {
    !cfg!(target_arch = "x86_64")
        || std::fs::read_to_string("/proc/cpuinfo")
            .is_ok_and(|text| text.contains("constant_tsc") && text.contains("nonstop_tsc"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_become_nanoseconds() {
        let clock = Clock::with_rate(1_000, 2_500_000_000);
        assert_eq!(clock.at(1_000), Nanos(0));
        assert_eq!(clock.at(3_500), Nanos(999), "rounds down");
        assert_eq!(clock.at(0), Nanos(0), "a core slightly behind");
        let second = clock.ticks_in(Nanos::from_secs(1));
        assert!((2_499_999_999..=2_500_000_001).contains(&second), "{second}");
        // A day later still within a microsecond.
        let day = clock.at(1_000 + 86_400 * 2_500_000_000);
        assert!(Nanos(86_400_000_000_000).since(day) < Nanos(21_000), "{day}");
    }
}
