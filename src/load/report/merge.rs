//! Several reports of one load as one.

use hdrhistogram::Histogram;

use super::{Percentiles, Report, buckets};
use crate::load::recorder::{LATENCY_MAX, LatencyHistogram};

/// Reports that are not of one load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MergeReportsError(&'static str);

impl std::fmt::Display for MergeReportsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "reports that differ in {} cannot be merged: use one load for all", self.0)
    }
}

impl std::error::Error for MergeReportsError {}

impl Report {
    /// Adds what another host or process measured with the same load at the same time. Counts and rates
    /// are added, histograms too; percentiles come from the sums.
    ///
    /// # Errors
    /// The reports differ in their size classes, their windows or what slowdown is relative to.
    pub fn merge(&mut self, other: &Self) -> Result<(), MergeReportsError> {
        let sizes = |report: &Self| -> Vec<(u32, u32)> {
            report.by_size.iter().map(|size| (size.min_bytes, size.max_bytes)).collect()
        };
        if sizes(self) != sizes(other) {
            return Err(MergeReportsError("size classes"));
        }
        if self.windows.window_ns != other.windows.window_ns {
            return Err(MergeReportsError("windows"));
        }
        if self.slowdown_definition != other.slowdown_definition {
            return Err(MergeReportsError("what slowdown is relative to"));
        }
        self.merge_totals(other);
        self.merge_latency(other);
        self.merge_windows(other);
        for (name, count) in &other.counters {
            let sum = self.counters.entry(name.clone()).or_insert(0);
            // Of the longest times, the longer one stays.
            *sum = if name.ends_with("_max") { (*sum).max(*count) } else { *sum + count };
        }
        self.config.shards += other.config.shards;
        Ok(())
    }

    fn merge_totals(&mut self, other: &Self) {
        let (into, from) = (&mut self.totals, &other.totals);
        into.warm_up_sent += from.warm_up_sent;
        into.sent += from.sent;
        into.completed += from.completed;
        for (kind, count) in &from.failed {
            *into.failed.entry(kind.clone()).or_insert(0) += count;
        }
        into.corrupted += from.corrupted;
        into.lost += from.lost;
        into.never_sent += from.never_sent;
        into.held += from.held;
        into.refused += from.refused;
        into.stale += from.stale;
        into.lag_ns_max = into.lag_ns_max.max(from.lag_ns_max);
        into.measured_ns = into.measured_ns.max(from.measured_ns);
        self.rates.rps += other.rates.rps;
        self.rates.request_bps += other.rates.request_bps;
        self.rates.response_bps += other.rates.response_bps;
    }

    fn merge_latency(&mut self, other: &Self) {
        let mut all = histogram(&[]);
        for (into, from) in self.by_size.iter_mut().zip(&other.by_size) {
            // Slowdowns have no histogram here: their percentiles are weighted by counts, unless they
            // follow from the times themselves.
            let weights = (into.latency.count as f64, from.latency.count as f64);
            let mut sum = histogram(&into.histogram);
            add(&mut sum, &from.histogram);
            let minimum = into.latency.min_ns.max(1);
            let is_relative_to_least = into.slowdown_p50.is_none_or(|slowdown| {
                (slowdown - into.latency.p50_ns as f64 / minimum as f64).abs() < 1e-6 * slowdown
            });
            into.latency = exact(Percentiles::from(&sum), into.latency, from.latency);
            into.histogram = buckets(&sum);
            let of_least = |ns: u64| {
                (into.latency.count > 0).then(|| ns as f64 / into.latency.min_ns.max(1) as f64)
            };
            if is_relative_to_least {
                into.slowdown_p50 = of_least(into.latency.p50_ns);
                into.slowdown_p99 = of_least(into.latency.p99_ns);
            } else {
                into.slowdown_p50 = weighted(into.slowdown_p50, from.slowdown_p50, weights);
                into.slowdown_p99 = weighted(into.slowdown_p99, from.slowdown_p99, weights);
            }
            add(&mut all, &into.histogram);
        }
        self.latency = exact(Percentiles::from(&all), self.latency, other.latency);
        let mut service = histogram(&self.service_histogram);
        add(&mut service, &other.service_histogram);
        self.service = exact(Percentiles::from(&service), self.service, other.service);
        self.service_histogram = buckets(&service);
    }

    fn merge_windows(&mut self, other: &Self) {
        let into = &mut self.windows.krps_and_median_ns;
        let from = &other.windows.krps_and_median_ns;
        into.resize(into.len().max(from.len()), (0.0, 0));
        for ((krps, median_ns), &(other_krps, other_median_ns)) in into.iter_mut().zip(from) {
            let sum = *krps + other_krps;
            let weighted = *krps * *median_ns as f64 + other_krps * other_median_ns as f64;
            *median_ns = if sum > 0.0 { (weighted / sum) as u64 } else { 0 };
            *krps = sum;
        }
    }
}

/// What is known more exactly than histograms of histograms say.
fn exact(sum: Percentiles, a: Percentiles, b: Percentiles) -> Percentiles {
    let count = (a.count + b.count).max(1) as f64;
    let min_ns = match (a.count, b.count) {
        (0, _) => b.min_ns,
        (_, 0) => a.min_ns,
        _ => a.min_ns.min(b.min_ns),
    };
    Percentiles {
        mean_ns: (a.mean_ns * a.count as f64 + b.mean_ns * b.count as f64) / count,
        min_ns,
        max_ns: a.max_ns.max(b.max_ns),
        ..sum
    }
}

fn weighted(a: Option<f64>, b: Option<f64>, weights: (f64, f64)) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some((a * weights.0 + b * weights.1) / (weights.0 + weights.1)),
        (one, other) => one.or(other),
    }
}

fn histogram(buckets: &[(u64, u64)]) -> LatencyHistogram {
    let mut histogram =
        Histogram::new_with_bounds(1, LATENCY_MAX.0, 3).expect("as the recorder makes them");
    add(&mut histogram, buckets);
    histogram
}

fn add(histogram: &mut LatencyHistogram, buckets: &[(u64, u64)]) {
    for &(value, count) in buckets {
        histogram.saturating_record_n(value, count);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::load::arrival::Load;
    use crate::load::classes::SizeClasses;
    use crate::load::generator::{End, GeneratorConfig, Sample, Totals};
    use crate::load::recorder::{Recorder, RecorderConfig};
    use crate::load::report::{Machine, RunConfig};
    use crate::load::slowdown::BestCase;
    use crate::time::Nanos;

    fn recorder(classes: SizeClasses) -> Recorder {
        let measured = Nanos::from_ms(20);
        Recorder::new(RecorderConfig::new(classes, BestCase::LeastSeen, Nanos::ZERO, measured))
    }

    fn classes() -> SizeClasses {
        SizeClasses::powers_of_two(64, 256)
    }

    fn report(recorder: &Recorder, totals: &Totals) -> Report {
        let config = GeneratorConfig {
            workload: Arc::new("w3".parse().unwrap()),
            load: Load::Closed { outstanding: 1 },
            start: Nanos::ZERO,
            warm_up: Nanos::ZERO,
            end: End::After(Nanos::from_ms(20)),
            drain: Nanos::ZERO,
            destinations: 1,
        };
        let counters = [("a".to_owned(), 3), ("stall_ns_max".to_owned(), totals.sent)].into();
        Report::new(RunConfig::new(&config, 1, 1), Machine::default(), totals, recorder, counters)
    }

    #[test]
    fn merged_reports_say_what_one_recorder_says() {
        let (mut all, mut one, mut two) =
            (recorder(classes()), recorder(classes()), recorder(classes()));
        for i in 0..5_000_u64 {
            let sample = Sample {
                request_bytes: [64, 200][i as usize % 2],
                response_bytes: 100,
                planned: Nanos(i * 3_000),
                sent: Nanos(i * 3_000 + 50),
                done: Nanos(i * 3_000 + 1_000 + i * i % 70_001),
                measured: true,
            };
            all.record(&sample);
            if i % 3 == 0 { one.record(&sample) } else { two.record(&sample) }
        }
        for recorder in [&mut all, &mut one, &mut two] {
            recorder.finish(Nanos::from_ms(20));
        }
        let totals = |sent: u64| Totals {
            sent,
            completed: sent,
            failed: [1, 0, 0, 0, 2],
            measured_to: Nanos::from_ms(20),
            ..Totals::default()
        };
        let mut merged = report(&one, &totals(1_667));
        merged.merge(&report(&two, &totals(3_333))).unwrap();
        let whole = report(&all, &totals(5_000));
        assert_eq!(merged.totals.sent, 5_000);
        assert_eq!(merged.totals.failed["timeout"], 2);
        assert_eq!(merged.counters["a"], 6);
        assert_eq!(merged.counters["stall_ns_max"], 3_333);
        assert_eq!(merged.service_histogram, whole.service_histogram);
        for (merged, whole) in merged.by_size.iter().zip(&whole.by_size) {
            assert_eq!(merged.histogram, whole.histogram);
            assert_eq!(merged.latency.p99_ns, whole.latency.p99_ns);
            assert_eq!(merged.latency.max_ns, whole.latency.max_ns);
            assert_eq!(merged.latency.min_ns, whole.latency.min_ns);
            assert_eq!(merged.slowdown_p99, whole.slowdown_p99);
        }
        assert_eq!(merged.latency.p50_ns, whole.latency.p50_ns);
        assert_eq!(merged.latency.count, 5_000);
        let krps = |report: &Report| {
            report.windows.krps_and_median_ns.iter().map(|window| window.0).sum::<f64>()
        };
        assert!((krps(&merged) - krps(&whole)).abs() < 1e-6);
    }

    #[test]
    fn other_loads_are_refused() {
        let totals = Totals::default();
        let mut one = report(&recorder(classes()), &totals);
        let other = report(&recorder(SizeClasses::powers_of_two(64, 512)), &totals);
        assert_eq!(one.merge(&other), Err(MergeReportsError("size classes")));
        let mut other = one.clone();
        other.slowdown_definition = "another".to_owned();
        let error = one.merge(&other).unwrap_err();
        assert!(error.to_string().contains("slowdown"), "{error}");
    }
}
