//! When RPCs are due.
//!
//! A closed loop keeps a number of RPCs outstanding: its rate is whatever the system gives. An open
//! loop plans its sends ahead of time from the rate alone, so a slow system does not slow down the
//! plan, and latency measured from the planned time leaves out nothing (no coordinated omission).

use core::fmt;
use core::str::FromStr;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;

use super::quantity::Rate;
use super::workload::unit_interval;
use crate::time::Nanos;

/// The most RPCs that may be due at one moment.
const BURST_MAX: u32 = 1_000_000;

/// How the requests of an open loop are spread over time. The mean rate is the same for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arrival {
    /// A Poisson process: as of many users who know nothing of each other.
    #[default]
    Poisson,
    /// Gaps of any length from nothing to twice the mean, all equally likely.
    Uniform,
    /// Equal gaps, from a random moment of the first on.
    Constant,
    /// This many at once; the bursts themselves are a Poisson process.
    Burst(u32),
}

impl fmt::Display for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Poisson => f.write_str("Poisson"),
            Self::Uniform => f.write_str("uniform gaps"),
            Self::Constant => f.write_str("equal gaps"),
            Self::Burst(rpcs) => write!(f, "bursts of {rpcs}"),
        }
    }
}

impl FromStr for Arrival {
    type Err = String;

    /// Reads `poisson`, `uniform`, `constant` or `burst:N`.
    fn from_str(text: &str) -> Result<Self, String> {
        let burst = text.strip_prefix("burst:").and_then(|rpcs| rpcs.parse().ok());
        match (text, burst) {
            ("poisson", _) => Ok(Self::Poisson),
            ("uniform", _) => Ok(Self::Uniform),
            ("constant", _) => Ok(Self::Constant),
            (_, Some(rpcs @ 1..=BURST_MAX)) => Ok(Self::Burst(rpcs)),
            _ => Err(format!(
                "unknown arrival '{text}': use poisson, uniform, constant, or burst:N with N from 1 \
                 to {BURST_MAX}"
            )),
        }
    }
}

/// How much load is offered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// This many RPCs outstanding at all times.
    Closed {
        /// RPCs outstanding.
        outstanding: u32,
    },
    /// This rate whatever becomes of the RPCs, with a limit of RPCs outstanding that only delays (and
    /// counts) sends.
    Open {
        /// Mean rate.
        rate: Rate,
        /// How the requests are spread over time.
        arrival: Arrival,
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
            Self::Open { rate, arrival, outstanding_max } => Self::Open {
                rate: rate.scaled(1.0 / f64::from(parts)),
                arrival,
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
            Self::Open { rate, arrival, outstanding_max } => {
                write!(f, "open loop, {arrival} at {rate}, at most {outstanding_max} outstanding")
            }
        }
    }
}

/// The times of the requests of an open loop.
#[derive(Clone, Debug)]
pub struct Arrivals {
    arrival: Arrival,
    rng: Xoshiro256PlusPlus,
    start: Nanos,
    gap_mean_ns: f64,
    /// Time from the start to the next arrival. Kept as a float so that rounding to whole
    /// nanoseconds does not add up: 53 bits are exact to 0.1 us after 10 years.
    next_ns: f64,
    /// Those of the burst that come after the next.
    burst_rest: u32,
}

impl Arrivals {
    /// `rps` arrivals per second on average after `start`; the same seed gives the same times.
    pub fn new(arrival: Arrival, start: Nanos, rps: f64, seed: u64) -> Self {
        let mut arrivals = Self {
            arrival,
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            start,
            gap_mean_ns: 1e9 / rps,
            next_ns: 0.0,
            burst_rest: 0,
        };
        if arrival == Arrival::Constant {
            // Generators of one run must not go in step.
            arrivals.next_ns = arrivals.gap_mean_ns * unit_interval(&mut arrivals.rng);
        } else {
            arrivals.advance();
        }
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
        match self.arrival {
            Arrival::Poisson => self.next_ns += self.exponential_gap_ns(),
            Arrival::Uniform => {
                self.next_ns += 2.0 * self.gap_mean_ns * unit_interval(&mut self.rng);
            }
            Arrival::Constant => self.next_ns += self.gap_mean_ns,
            Arrival::Burst(rpcs) => self.advance_burst(rpcs),
        }
    }

    fn advance_burst(&mut self, rpcs: u32) {
        if self.burst_rest > 0 {
            self.burst_rest -= 1;
            return;
        }
        self.burst_rest = rpcs.max(1) - 1;
        self.next_ns += f64::from(rpcs.max(1)) * self.exponential_gap_ns();
    }

    #[inline]
    fn exponential_gap_ns(&mut self) -> f64 {
        // 1 - u is in (0,1], so the logarithm is finite. Not that of the platform: simulations are to be
        // the same everywhere.
        -self.gap_mean_ns * libm::log(1.0 - unit_interval(&mut self.rng))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gaps_ns(rps: f64, seed: u64, count: usize) -> Vec<f64> {
        gaps_of(Arrival::Poisson, rps, seed, count)
    }

    fn gaps_of(arrival: Arrival, rps: f64, seed: u64, count: usize) -> Vec<f64> {
        let mut arrivals = Arrivals::new(arrival, Nanos(500), rps, seed);
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
    fn uniform_gaps_end_at_twice_the_mean() {
        let gaps = gaps_of(Arrival::Uniform, 100_000.0, 7, 100_000);
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((mean / 10_000.0 - 1.0).abs() < 0.01, "mean {mean}");
        // (2 x mean)^2 / 12.
        assert!((variance / (4e8 / 12.0) - 1.0).abs() < 0.03, "variance {variance}");
        assert!(gaps.iter().all(|&gap| gap <= 20_001.0));
    }

    #[test]
    fn constant_gaps_begin_anywhere_in_the_first() {
        let gaps = gaps_of(Arrival::Constant, 300_000.0, 7, 10_000);
        assert!(gaps[0] < 3_334.0);
        assert!(gaps[1..].iter().all(|&gap| (3_333.0..=3_334.0).contains(&gap)));
        let total: f64 = gaps[1..].iter().sum();
        assert!((total - 9_999.0 * 1e9 / 300e3).abs() <= 1.0, "{total}");
        assert_ne!(gaps[0], gaps_of(Arrival::Constant, 300_000.0, 8, 1)[0]);
    }

    #[test]
    fn bursts_are_due_at_once_and_keep_the_rate() {
        let n = 8 * 20_000;
        let gaps = gaps_of(Arrival::Burst(8), 100_000.0, 7, n);
        for burst in gaps.chunks(8) {
            assert!(burst[0] > 0.0 && burst[1..].iter().all(|&gap| gap == 0.0), "{burst:?}");
        }
        let mean = gaps.iter().sum::<f64>() / n as f64;
        // Standard error of 20,000 exponential gaps: 0.7 %.
        assert!((mean / 10_000.0 - 1.0).abs() < 0.03, "{mean}");
        let single = gaps_of(Arrival::Burst(1), 1e5, 3, 100);
        assert_eq!(single, gaps_of(Arrival::Poisson, 1e5, 3, 100));
    }

    #[test]
    fn arrivals_are_read() {
        for (text, arrival, shown) in [
            ("poisson", Arrival::Poisson, "Poisson"),
            ("uniform", Arrival::Uniform, "uniform gaps"),
            ("constant", Arrival::Constant, "equal gaps"),
            ("burst:16", Arrival::Burst(16), "bursts of 16"),
        ] {
            assert_eq!(text.parse(), Ok(arrival));
            assert_eq!(arrival.to_string(), shown);
        }
        for text in ["burst", "burst:0", "burst:1000001", "burst:x", "often", ""] {
            let error = text.parse::<Arrival>().unwrap_err();
            assert!(
                error.starts_with(&format!("unknown arrival '{text}': use poisson")),
                "{error}"
            );
        }
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
        let arrival = Arrival::Poisson;
        let open = Load::Open { rate: Rate::Rps(9e3), arrival, outstanding_max: 1 };
        let part = Load::Open { rate: Rate::Rps(9e3 / 3.0), arrival, outstanding_max: 1 };
        assert_eq!(open.part(2, 3), part);
        assert_eq!(open.to_string(), "open loop, Poisson at 9.00 kRPC/s, at most 1 outstanding");
        assert_eq!(closed.to_string(), "closed loop, 10 outstanding");
    }
}
