//! When RPCs are due.
//!
//! A closed loop keeps a number of RPCs outstanding: its rate is whatever the system gives. An open
//! loop plans its sends ahead of time from the rate alone, so a slow system does not slow down the
//! plan, and latency measured from the planned time leaves out nothing (no coordinated omission).

use core::fmt;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;

use super::quantity::Rate;
use super::workload::unit_interval;
use crate::time::Nanos;

/// How much load is offered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// This many RPCs outstanding at all times.
    Closed {
        /// RPCs outstanding.
        outstanding: u32,
    },
    /// A Poisson process of this rate, with a limit of RPCs outstanding that only delays (and counts)
    /// sends.
    Open {
        /// Mean rate.
        rate: Rate,
        /// Limit of RPCs outstanding.
        outstanding_max: u32,
    },
}

impl Load {
    /// The part of this load that one of `parts` equal senders offers; `part` counts from 0. The
    /// parts together offer exactly this load, except that each keeps at least one RPC outstanding.
    #[must_use]
    pub fn part(self, part: u32, parts: u32) -> Self {
        let parts = parts.max(1);
        let share = |whole: u32| (whole / parts + u32::from(part < whole % parts)).max(1);
        match self {
            Self::Closed { outstanding } => Self::Closed { outstanding: share(outstanding) },
            Self::Open { rate, outstanding_max } => Self::Open {
                rate: rate.scaled(1.0 / f64::from(parts)),
                outstanding_max: share(outstanding_max),
            },
        }
    }

    /// The most RPCs outstanding.
    pub const fn outstanding_max(self) -> u32 {
        match self {
            Self::Closed { outstanding } => outstanding,
            Self::Open { outstanding_max, .. } => outstanding_max,
        }
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed { outstanding } => write!(f, "closed loop, {outstanding} outstanding"),
            Self::Open { rate, outstanding_max } => {
                write!(f, "open loop, Poisson at {rate}, at most {outstanding_max} outstanding")
            }
        }
    }
}

/// The times of a Poisson process: gaps are exponentially distributed and independent.
#[derive(Clone, Debug)]
pub struct PoissonArrivals {
    rng: Xoshiro256PlusPlus,
    start: Nanos,
    gap_mean_ns: f64,
    /// Time from the start to the next arrival. Kept as a float so that rounding to whole
    /// nanoseconds does not add up: 53 bits are exact to 0.1 us after 10 years.
    next_ns: f64,
}

impl PoissonArrivals {
    /// A process of `rps` arrivals per second after `start`; the same seed gives the same times.
    pub fn new(start: Nanos, rps: f64, seed: u64) -> Self {
        let mut arrivals = Self {
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            start,
            gap_mean_ns: 1e9 / rps,
            next_ns: 0.0,
        };
        arrivals.advance();
        arrivals
    }

    /// The next arrival. Stays until [`Self::advance`].
    #[inline]
    pub fn next(&self) -> Nanos {
        self.start + Nanos(self.next_ns as u64)
    }

    /// Goes on to the arrival after the next.
    #[inline]
    pub fn advance(&mut self) {
        // 1 - u is in (0,1], so the logarithm is finite. Not that of the platform: simulations are to be
        // the same everywhere.
        self.next_ns -= self.gap_mean_ns * libm::log(1.0 - unit_interval(&mut self.rng));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gaps_ns(rps: f64, seed: u64, count: usize) -> Vec<f64> {
        let mut arrivals = PoissonArrivals::new(Nanos(500), rps, seed);
        let mut last = Nanos(500);
        (0..count)
            .map(|_| {
                let at = arrivals.next();
                arrivals.advance();
                let gap = (at.0 - last.0) as f64;
                last = at;
                gap
            })
            .collect()
    }

    #[test]
    fn gaps_are_exponential() {
        let n = 200_000;
        let gaps = gaps_ns(100_000.0, 7, n);
        let mean = gaps.iter().sum::<f64>() / n as f64;
        let variance = gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / n as f64;
        // Standard errors: mean 0.22 %, variance 0.63 % (kurtosis of an exponential is 9).
        assert!((mean / 10_000.0 - 1.0).abs() < 0.01, "mean {mean}");
        assert!((variance / 1e8 - 1.0).abs() < 0.03, "variance {variance}");
        // P(gap > 3 means) = e^-3.
        let long = gaps.iter().filter(|&&g| g > 30_000.0).count() as f64 / n as f64;
        assert!((long / (-3.0_f64).exp() - 1.0).abs() < 0.05, "share of long gaps {long}");
    }

    #[test]
    fn gaps_are_independent() {
        let gaps = gaps_ns(1e6, 3, 100_000);
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let covariance = gaps.windows(2).map(|w| (w[0] - mean) * (w[1] - mean)).sum::<f64>();
        let variance = gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>();
        assert!((covariance / variance).abs() < 0.015, "correlation {}", covariance / variance);
    }

    #[test]
    fn a_seed_decides_the_times() {
        assert_eq!(gaps_ns(1e5, 1, 100), gaps_ns(1e5, 1, 100));
        assert_ne!(gaps_ns(1e5, 1, 100), gaps_ns(1e5, 2, 100));
    }

    #[test]
    fn fractions_of_a_nanosecond_do_not_get_lost() {
        // 7 ns mean gap: truncating each gap alone would lose half a nanosecond of 7 each time.
        let gaps = gaps_ns(1e9 / 7.0, 5, 400_000);
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        assert!((mean - 7.0).abs() < 0.05, "{mean}");
    }

    #[test]
    fn parts_add_up() {
        let closed = Load::Closed { outstanding: 10 };
        let parts: Vec<u32> = (0..4).map(|i| closed.part(i, 4).outstanding_max()).collect();
        assert_eq!(parts, [3, 3, 2, 2]);
        let open = Load::Open { rate: Rate::Rps(9e3), outstanding_max: 1 };
        assert_eq!(open.part(2, 3), Load::Open { rate: Rate::Rps(9e3 / 3.0), outstanding_max: 1 });
        assert_eq!(open.to_string(), "open loop, Poisson at 9.00 kRPC/s, at most 1 outstanding");
        assert_eq!(closed.to_string(), "closed loop, 10 outstanding");
    }
}
