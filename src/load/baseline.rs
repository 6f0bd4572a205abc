//! Times of RPCs on an idle system by size: measured once, kept in a file, and what later runs are
//! compared with.
//!
//! # The file
//!
//! JSON; its members are the fields of [`Baseline`]. `schema` is [`SCHEMA`].

use std::fmt;

use serde::{Deserialize, Serialize};

use super::recorder::LatencyHistogram;
use super::report::{Machine, Percentiles};
use super::slowdown::{BestCase, IdleStatistic, IdleTimes, IdleTimesError};

/// Name and version of the JSON schema.
pub const SCHEMA: &str = "homa-load-baseline/1";

/// RPCs of one size, one at a time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BaselinePoint {
    /// Length of the request.
    pub size_bytes: u32,
    /// RPCs that were measured.
    pub samples: u64,
    /// The shortest time, and the median and 99th percentile.
    pub min_ns: u64,
    /// See `min_ns`.
    pub p50_ns: u64,
    /// See `min_ns`.
    pub p99_ns: u64,
}

impl BaselinePoint {
    /// The point of RPCs that took the times of `latency`; `None` without any.
    pub fn new(size_bytes: u32, latency: &LatencyHistogram) -> Option<Self> {
        let times = Percentiles::from(latency);
        (times.count > 0).then_some(Self {
            size_bytes,
            samples: times.count,
            min_ns: times.min_ns,
            p50_ns: times.p50_ns,
            p99_ns: times.p99_ns,
        })
    }
}

/// Times of an idle system.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// [`SCHEMA`].
    pub schema: String,
    /// Where it was measured.
    pub machine: Machine,
    /// Over what: the description of the port.
    pub port: String,
    /// The workload whose sizes these are.
    pub workload: String,
    /// What the servers answered with.
    pub response: String,
    /// Sizes rising.
    pub points: Vec<BaselinePoint>,
}

/// A file that is no baseline.
#[derive(Debug)]
#[non_exhaustive]
pub enum BaselineError {
    /// Not JSON, or not of this schema.
    Json(serde_json::Error),
    /// Of another version, whose name this is.
    Schema(String),
    /// Times that cannot be.
    Times(IdleTimesError),
}

impl fmt::Display for BaselineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(error) => write!(f, "not a baseline of homa-load: {error}"),
            Self::Schema(schema) => write!(
                f,
                "a baseline of schema \"{schema}\", this program reads \"{SCHEMA}\"; measure it again"
            ),
            Self::Times(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BaselineError {}

impl Baseline {
    /// The baseline as JSON, a line for each size.
    ///
    /// # Errors
    /// Only those of serde_json, which such a record does not cause.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// Reads what [`Self::to_json`] wrote.
    ///
    /// # Errors
    /// The text is not JSON, not a baseline, of another version, or has times that cannot be.
    pub fn from_json(json: &str) -> Result<Self, BaselineError> {
        #[derive(Deserialize)]
        struct Version {
            schema: String,
        }
        let version: Version = serde_json::from_str(json).map_err(BaselineError::Json)?;
        if version.schema != SCHEMA {
            return Err(BaselineError::Schema(version.schema));
        }
        let baseline: Self = serde_json::from_str(json).map_err(BaselineError::Json)?;
        for statistic in [IdleStatistic::Median, IdleStatistic::Minimum] {
            baseline.times(statistic)?;
        }
        Ok(baseline)
    }

    /// The medians, or else the shortest times.
    ///
    /// # Errors
    /// There is no point, two of one size, or a time of zero.
    pub fn times(&self, statistic: IdleStatistic) -> Result<IdleTimes, BaselineError> {
        let time = |point: &BaselinePoint| match statistic {
            IdleStatistic::Minimum => point.min_ns,
            IdleStatistic::Median | IdleStatistic::Unknown => point.p50_ns,
        };
        let points = self.points.iter().map(|point| (point.size_bytes, time(point) as f64));
        IdleTimes::new(points.collect())
            .map(|times| times.of(statistic))
            .map_err(BaselineError::Times)
    }

    /// The two definitions of slowdown that need a baseline: by the medians (ATC 2021), and by the
    /// shortest times (RAMCloud).
    ///
    /// # Errors
    /// As [`Self::times`].
    pub fn best_cases(&self) -> Result<[BestCase; 2], BaselineError> {
        Ok([
            BestCase::Idle(self.times(IdleStatistic::Median)?),
            BestCase::Idle(self.times(IdleStatistic::Minimum)?),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::Histogram;

    fn baseline() -> Baseline {
        let point = |size_bytes, min_ns, p50_ns| BaselinePoint {
            size_bytes,
            samples: 9,
            min_ns,
            p50_ns,
            p99_ns: 2 * p50_ns,
        };
        Baseline {
            schema: SCHEMA.to_owned(),
            machine: Machine::default(),
            port: "memif".to_owned(),
            workload: "w1".to_owned(),
            response: "echo".to_owned(),
            points: vec![point(1, 2_000, 3_000), point(1_001, 3_000, 5_000)],
        }
    }

    #[test]
    fn json_gives_the_baseline_back() {
        let baseline = baseline();
        assert_eq!(Baseline::from_json(&baseline.to_json().unwrap()).unwrap(), baseline);
        let error = |json: &str| Baseline::from_json(json).unwrap_err().to_string();
        assert!(error("{}").starts_with("not a baseline of homa-load: missing field `schema`"));
        assert_eq!(
            error(r#"{"schema":"x"}"#),
            "a baseline of schema \"x\", this program reads \"homa-load-baseline/1\"; measure it again"
        );
        let empty = Baseline { points: Vec::new(), ..baseline.clone() };
        let empty = error(&empty.to_json().unwrap());
        assert!(empty.starts_with("idle times: no measured size"), "{empty}");
        let mut zero = baseline;
        zero.points[0].min_ns = 0;
        assert!(error(&zero.to_json().unwrap()).contains("not above zero"));
    }

    #[test]
    fn medians_and_shortest_times() {
        let [median, shortest] = baseline().best_cases().unwrap();
        assert_eq!((median.name(), shortest.name()), ("idle", "idle-min"));
        assert_eq!(
            (median.best_ns(501, 1), shortest.best_ns(501, 1)),
            (Some(4_000.0), Some(2_500.0))
        );
    }

    #[test]
    fn points_come_from_recorded_times() {
        let mut latency: LatencyHistogram = Histogram::new_with_bounds(1, 1_000_000, 3).unwrap();
        assert_eq!(BaselinePoint::new(5, &latency), None);
        for ns in 1..=100 {
            latency.record(ns * 10).unwrap();
        }
        let point = BaselinePoint::new(5, &latency).unwrap();
        assert_eq!((point.samples, point.min_ns, point.p50_ns, point.p99_ns), (100, 10, 500, 990));
    }
}
