//! Slowdown: how many times the best case a message took.
//!
//! Published slowdowns do not all mean the same. What the best case is, is a [`BestCase`], and every
//! report names the one it used.

use core::fmt;
use core::fmt::Write;

use super::classes::SizeClasses;
use super::workload::Workload;
use crate::time::Nanos;

/// What slowdown is relative to.
#[derive(Clone, Debug, PartialEq)]
pub enum BestCase {
    /// The time of an RPC of that size on an idle system, measured before: the definition of the
    /// measurements in RAMCloud (the shortest) and in the paper on Linux Homa (ATC 2021, the median).
    Idle(IdleTimes),
    /// A constant plus the time of the request on the link: what the benchmark of Linux Homa uses
    /// since November 2025. The response is not charged, so that a large echo scores about 2 at best.
    FixedPlusLink {
        /// The constant: 15 us or 25 us there, depending on the machine.
        fixed: Nanos,
        /// Link speed in bits per second.
        link_bps: f64,
    },
    /// The computed time of request and response one way each in an idle network, as the simulations
    /// of the Homa paper (SIGCOMM 2018) compute it for their one-way messages. Software and waiting
    /// for the CPU count as slowdown.
    Computed {
        /// Speed of the hosts' links in bits per second; that of the core is four times as high.
        link_bps: f64,
        /// Where the server stands.
        path: Path,
    },
    /// The shortest time seen in the run for the size class, when nothing better is known. Flatters a
    /// system that is never idle.
    LeastSeen,
}

impl BestCase {
    /// The best case of an RPC in ns; `None` when it is known only after the run.
    #[inline]
    pub fn best_ns(&self, request_bytes: u32, response_bytes: u32) -> Option<f64> {
        match *self {
            Self::Idle(ref times) => Some(times.at(request_bytes)),
            Self::FixedPlusLink { fixed, link_bps } => {
                Some(fixed.0 as f64 + f64::from(request_bytes) * 8e9 / link_bps)
            }
            Self::Computed { link_bps, path } => {
                let way = |bytes| ideal_us(bytes, link_bps, path) * 1e3;
                Some(way(request_bytes) + way(response_bytes))
            }
            Self::LeastSeen => None,
        }
    }

    /// Its name in reports and on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Idle(times) => match times.statistic {
                IdleStatistic::Minimum => "idle-min",
                IdleStatistic::Median | IdleStatistic::Unknown => "idle",
            },
            Self::FixedPlusLink { .. } => "cperf",
            Self::Computed { .. } => "paper",
            Self::LeastSeen => "least",
        }
    }
}

impl fmt::Display for BestCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Idle(times) => {
                let which = match times.statistic {
                    IdleStatistic::Minimum => "shortest time",
                    IdleStatistic::Median => "median time",
                    IdleStatistic::Unknown => "time",
                };
                write!(f, "RPC time / {which} of that size when idle")
            }
            Self::FixedPlusLink { fixed, link_bps } => {
                let us = fixed.0 as f64 / 1e3;
                write!(f, "RPC time / ({us} us + request at {} Gbps)", link_bps / 1e9)
            }
            Self::Computed { link_bps, path } => {
                let gbps = link_bps / 1e9;
                let path = match path {
                    Path::IntraRack => "within a rack",
                    Path::InterRack => "between racks",
                };
                write!(f, "RPC time / computed time of both messages at {gbps} Gbps {path}")
            }
            Self::LeastSeen => f.write_str("RPC time / shortest of its size class in this run"),
        }
    }
}

/// Why a table of idle times could not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdleTimesError {
    line: usize,
    reason: &'static str,
}

impl fmt::Display for IdleTimesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "idle times: {}", self.reason),
            line => write!(f, "idle times, line {line}: {}", self.reason),
        }
    }
}

impl std::error::Error for IdleTimesError {}

/// Which of many times on an idle system stands in the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IdleStatistic {
    /// Not said.
    #[default]
    Unknown,
    /// The median.
    Median,
    /// The shortest.
    Minimum,
}

/// Times of RPCs on an idle system by size of the request; linear between the sizes measured.
#[derive(Clone, Debug, PartialEq)]
pub struct IdleTimes {
    statistic: IdleStatistic,
    /// Size and time in ns, sizes rising strictly.
    points: Box<[(u32, f64)]>,
    /// `slopes[i]` is the rise in ns per byte from point i to the next.
    slopes: Box<[f64]>,
}

impl IdleTimes {
    /// A table of (size in bytes, time in ns), in any order.
    ///
    /// # Errors
    /// No point, two of one size, or a time that is not above zero.
    pub fn new(mut points: Vec<(u32, f64)>) -> Result<Self, IdleTimesError> {
        let error = |reason| Err(IdleTimesError { line: 0, reason });
        points.sort_by_key(|point| point.0);
        if points.is_empty() {
            return error("no measured size; measure the idle system first");
        }
        if points.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return error("one size stands there twice");
        }
        if points.iter().any(|point| !(point.1.is_finite() && point.1 > 0.0)) {
            return error("a time is not above zero");
        }
        let slope =
            |pair: &[(u32, f64)]| (pair[1].1 - pair[0].1) / f64::from(pair[1].0 - pair[0].0);
        let slopes = points.windows(2).map(slope).collect();
        Ok(Self { statistic: IdleStatistic::Unknown, points: points.into(), slopes })
    }

    /// The same table, which says what its times are.
    #[must_use]
    pub fn of(self, statistic: IdleStatistic) -> Self {
        Self { statistic, ..self }
    }

    /// Reads lines `size_bytes,idle_ns` after a line of column names, as [`Self::to_csv`] writes them.
    ///
    /// # Errors
    /// The line that cannot be read, else as [`Self::new`].
    pub fn from_csv(text: &str) -> Result<Self, IdleTimesError> {
        let mut points = Vec::new();
        for (index, line) in text.lines().enumerate().skip(1) {
            let point = line
                .split_once(',')
                .and_then(|(size, ns)| Some((size.trim().parse().ok()?, ns.trim().parse().ok()?)));
            points.push(point.ok_or(IdleTimesError {
                line: index + 1,
                reason: "must be size_bytes,idle_ns, two numbers",
            })?);
        }
        Self::new(points)
    }

    /// The table as text.
    pub fn to_csv(&self) -> String {
        let mut text = String::from("size_bytes,idle_ns\n");
        for (size, ns) in &self.points {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{size},{ns}");
        }
        text
    }

    /// The time of one size in ns. Below the smallest size measured it is the time of that; above the
    /// largest it goes on as between the last two.
    #[inline]
    pub fn at(&self, size_bytes: u32) -> f64 {
        let right = self.points.partition_point(|point| point.0 < size_bytes);
        if right == 0 || self.slopes.is_empty() {
            return self.points[0].1;
        }
        let left = (right - 1).min(self.slopes.len() - 1);
        let (size, ns) = self.points[left];
        // A table that falls towards its end must not be followed below zero.
        (ns + f64::from(size_bytes - size) * self.slopes[left]).max(1.0)
    }
}

/// The sizes at which to measure an idle system for slowdowns of `workload`: the ends of its size
/// classes and the powers of two between, where the number of packets changes the slope.
pub fn idle_sizes(workload: &Workload) -> Vec<u32> {
    let by_count = SizeClasses::deciles(workload);
    let by_power = SizeClasses::powers_of_two(workload.min_bytes(), workload.max_bytes());
    let ends = |classes: &SizeClasses| -> Vec<u32> {
        (0..classes.len()).map(|class| classes.range(class).1).collect()
    };
    let mut sizes = ends(&by_count);
    sizes.extend(ends(&by_power));
    sizes.push(workload.min_bytes());
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

/// Where the receiver stands in the simulations of the Homa paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Under the same top-of-rack switch.
    IntraRack,
    /// Across the core of the network.
    InterRack,
}

/// The ideal one-way time of a message in the simulations of the Homa paper (SIGCOMM 2018), in us:
/// store and forward, 10 Gbps hosts, 40 Gbps core, frames without Homa headers. Kept as those
/// simulations computed it, including that the delay of the switch within a rack is left out, so that
/// slowdowns compare with the published ones.
pub fn paper_ideal_us(size_bytes: u32, path: Path) -> f64 {
    ideal_us(size_bytes, 10e9, path)
}

/// [`paper_ideal_us`] with hosts of `link_bps` and a core four times as fast.
pub fn ideal_us(size_bytes: u32, link_bps: f64, path: Path) -> f64 {
    let host_us_per_byte = 8e6 / link_bps;
    let core_us_per_byte = host_us_per_byte / 4.0;
    let (full, rest) = (size_bytes / 1472, size_bytes % 1472);
    let rest_frame = if rest > 0 { (rest + 66).max(84) } else { 0 };
    let wire_bytes = f64::from(full) * 1538.0 + f64::from(rest_frame);
    let first_frame = if full > 0 { 1538.0 } else { f64::from(rest_frame) };
    let hosts_us = 2.0 * 0.5 + 0.5;
    let sent_us = hosts_us + wire_bytes * host_us_per_byte + first_frame * host_us_per_byte;
    match path {
        Path::IntraRack => sent_us,
        Path::InterRack => sent_us + 3.0 * 0.25 + 2.0 * first_frame * core_us_per_byte,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_between_the_sizes_measured() {
        let idle = IdleTimes::new(vec![(1000, 30e3), (100, 10e3), (200, 12e3)]).unwrap();
        for (size, ns) in [
            (1, 10e3),
            (100, 10e3),
            (150, 11e3),
            (200, 12e3),
            (600, 21e3),
            (1000, 30e3),
            (2000, 52.5e3),
        ] {
            assert_eq!(idle.at(size), ns, "{size} B");
        }
        assert_eq!(IdleTimes::from_csv(&idle.to_csv()), Ok(idle.clone()));
        assert_eq!(BestCase::Idle(idle).best_ns(150, 1), Some(11e3));
        assert_eq!(IdleTimes::new(vec![(5, 7.0)]).unwrap().at(1_000_000), 7.0);
        assert_eq!(IdleTimes::new(vec![(1, 9.0), (2, 2.0)]).unwrap().at(100), 1.0);
    }

    #[test]
    fn faults_of_a_table() {
        let error = |text| IdleTimes::from_csv(text).unwrap_err().to_string();
        assert_eq!(
            error("size_bytes,idle_ns\n"),
            "idle times: no measured size; measure the idle system first"
        );
        assert_eq!(error("h\n1,2\n1,3"), "idle times: one size stands there twice");
        assert_eq!(error("h\n1,-2"), "idle times: a time is not above zero");
        assert_eq!(
            error("h\n1,2\n3"),
            "idle times, line 3: must be size_bytes,idle_ns, two numbers"
        );
    }

    #[test]
    fn fixed_plus_link() {
        let best = BestCase::FixedPlusLink { fixed: Nanos::from_us(15), link_bps: 25e9 };
        assert_eq!(best.best_ns(1_000_000, 1_000_000), Some(335_000.0));
        assert_eq!(best.to_string(), "RPC time / (15 us + request at 25 Gbps)");
        assert_eq!(BestCase::LeastSeen.best_ns(100, 100), None);
    }

    /// Sizes and times, inter-rack and intra-rack, that the simulations are known to give.
    #[test]
    fn the_ideal_of_the_simulations() {
        for (size, inter_us, intra_us, tolerance) in [
            (1, 2.418, 1.634, 0.0006),
            (100, 2.582, 1.766, 0.0006),
            (1_000, 4.382, 3.206, 0.0006),
            (10_000, 12.465, 11.100, 0.0006),
            (1_000_000, 840.0, 838.6, 0.06),
            (10_000_000, 8_362.8, 8_361.5, 0.06),
        ] {
            for (path, us) in [(Path::InterRack, inter_us), (Path::IntraRack, intra_us)] {
                let ideal = paper_ideal_us(size, path);
                assert!((ideal - us).abs() < tolerance, "{size} B {path:?}: {ideal}, not {us}");
            }
        }
    }

    #[test]
    fn both_messages_are_computed() {
        let best = BestCase::Computed { link_bps: 10e9, path: Path::InterRack };
        let us = best.best_ns(10_000, 100).unwrap() / 1e3;
        assert!((us - (12.465 + 2.582)).abs() < 0.001, "{us}");
        assert_eq!(
            best.to_string(),
            "RPC time / computed time of both messages at 10 Gbps between racks"
        );
        // Ten times the speed leaves the delays of hosts and switches.
        assert!((ideal_us(1_000_000, 100e9, Path::IntraRack) - 85.2).abs() < 0.1);
        let idle = IdleTimes::new(vec![(1, 1.0)]).unwrap();
        let names = [IdleStatistic::Unknown, IdleStatistic::Median, IdleStatistic::Minimum]
            .map(|statistic| BestCase::Idle(idle.clone().of(statistic)))
            .map(|best| (best.name(), best.to_string()));
        assert_eq!(names[1], ("idle", "RPC time / median time of that size when idle".to_owned()));
        assert_eq!(
            names[2],
            ("idle-min", "RPC time / shortest time of that size when idle".to_owned())
        );
    }

    #[test]
    fn idle_sizes_cover_the_workload() {
        let w = Workload::embedded("w4").unwrap().cut_at(1_000_000).unwrap();
        let sizes = idle_sizes(&w);
        assert_eq!((sizes[0], sizes[sizes.len() - 1]), (53, 1_000_000));
        assert!(sizes.contains(&65_536) && sizes.is_sorted() && sizes.len() < 40, "{sizes:?}");
        assert_eq!(idle_sizes(&Workload::fixed(100).unwrap()), [100]);
    }
}
