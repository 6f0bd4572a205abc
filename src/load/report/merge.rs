//! Adding up reports of several senders of one run.

use std::collections::BTreeMap;

use super::{
    Percentiles, RatesReport, Report, ReportError, SizeReport, SlowdownReport, TotalsReport,
    WindowsReport,
};
use crate::load::recorder::{
    LatencyHistogram, SlowdownHistogram, latency_histogram, slowdown_at, slowdown_histogram,
};

impl Report {
    /// One report of several that were made at the same time by different senders: hosts, or
    /// processes. Counts, rates and histograms are sums, the longest times the longest of all; percentiles are
    /// those of the sums. Clocks of hosts do not matter, except that windows of the same number are
    /// taken to be of the same time.
    ///
    /// # Errors
    /// [`ReportError::Unlike`] without reports, or when they have different size classes or definitions
    /// of slowdown.
    pub fn merge(reports: &[Self]) -> Result<Self, ReportError> {
        let Some((first, others)) = reports.split_first() else {
            return Err(ReportError::Unlike("there are none".to_owned()));
        };
        let mut merged = first.clone();
        for other in others {
            check_alike(first, other)?;
            merged.add(other);
        }
        let distinct = |of: fn(&Self) -> &str| distinct(reports.iter().map(of));
        merged.config.title = distinct(|report| &report.config.title);
        merged.config.port = distinct(|report| &report.config.port);
        merged.config.workload = distinct(|report| &report.config.workload);
        merged.config.load = counted(reports.iter().map(|report| &*report.config.load));
        merged.machine.cpu = distinct(|report| &report.machine.cpu);
        merged.machine.kernel = distinct(|report| &report.machine.kernel);
        merged.windows = WindowsReport::merge(reports);
        merged.finish();
        Ok(merged)
    }

    /// Adds what can be added up part by part.
    fn add(&mut self, other: &Self) {
        self.config.shards += other.config.shards;
        for (name, value) in &other.config.parameters {
            let entry = self.config.parameters.entry(name.clone());
            let ours = entry.or_insert_with(|| value.clone());
            if ours.split("; ").all(|known| known != value) {
                *ours += "; ";
                *ours += value;
            }
        }
        self.machine.cores += other.machine.cores;
        self.totals.add(&other.totals);
        self.rates.add(&other.rates);
        for (row, other) in self.by_size.iter_mut().zip(&other.by_size) {
            row.latency.add(&other.latency);
            add_buckets(&mut row.histogram, &other.histogram);
            for (slowdown, other) in row.slowdowns.iter_mut().zip(&other.slowdowns) {
                add_buckets(&mut slowdown.histogram, &other.histogram);
            }
        }
        self.latency.add(&other.latency);
        self.service.add(&other.service);
        self.lag.add(&other.lag);
        add_buckets(&mut self.service_histogram, &other.service_histogram);
        add_buckets(&mut self.lag_histogram, &other.lag_histogram);
        for side in &other.sides {
            match self.sides.iter_mut().find(|ours| ours.name == side.name) {
                Some(ours) => ours.add(side),
                None => self.sides.push(side.clone()),
            }
        }
        for (name, &value) in &other.counters {
            let ours = self.counters.entry(name.clone()).or_default();
            *ours = if name.ends_with("_max") { value.max(*ours) } else { *ours + value };
        }
    }

    /// Percentiles of what was added up.
    fn finish(&mut self) {
        let mut all = latency_histogram();
        for row in &mut self.by_size {
            let latencies = row.finish();
            // Equal bounds: adding cannot fail.
            let _ = all.add(&latencies);
        }
        self.latency.set_quantiles(&all);
        self.service.set_quantiles(&latencies_of(&self.service_histogram));
        self.lag.set_quantiles(&latencies_of(&self.lag_histogram));
    }
}

fn check_alike(one: &Report, other: &Report) -> Result<(), ReportError> {
    let classes = |report: &Report| -> Vec<(u32, u32)> {
        report.by_size.iter().map(|row| (row.min_bytes, row.max_bytes)).collect()
    };
    if classes(one) != classes(other) {
        return Err(ReportError::Unlike(format!(
            "size classes differ: workload {} and {}",
            one.config.workload, other.config.workload
        )));
    }
    if one.slowdown_definition != other.slowdown_definition
        || one.slowdown_definitions != other.slowdown_definitions
    {
        return Err(ReportError::Unlike(format!(
            "slowdown is \"{}\" and \"{}\"",
            one.slowdown_definition, other.slowdown_definition
        )));
    }
    if one.windows.window_ns != other.windows.window_ns {
        return Err(ReportError::Unlike(format!(
            "windows of {} ns and {} ns",
            one.windows.window_ns, other.windows.window_ns
        )));
    }
    Ok(())
}

impl TotalsReport {
    fn add(&mut self, other: &Self) {
        self.warm_up_sent += other.warm_up_sent;
        self.sent += other.sent;
        self.completed += other.completed;
        for (kind, count) in &other.failed {
            *self.failed.entry(kind.clone()).or_default() += count;
        }
        self.corrupted += other.corrupted;
        self.lost += other.lost;
        self.never_sent += other.never_sent;
        self.held += other.held;
        self.refused += other.refused;
        self.stale += other.stale;
        self.lag_ns_max = self.lag_ns_max.max(other.lag_ns_max);
        self.backlog += other.backlog;
        self.outstanding_peak += other.outstanding_peak;
        self.measured_ns = self.measured_ns.max(other.measured_ns);
    }
}

impl RatesReport {
    fn add(&mut self, other: &Self) {
        self.rps += other.rps;
        self.request_bps += other.request_bps;
        self.response_bps += other.response_bps;
    }
}

impl Percentiles {
    /// Count, mean and extremes; the quantiles are left to [`Self::set_quantiles`].
    fn add(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = *other;
            return;
        }
        let count = self.count + other.count;
        let sum = self.mean_ns * self.count as f64 + other.mean_ns * other.count as f64;
        self.mean_ns = sum / count as f64;
        self.count = count;
        self.min_ns = self.min_ns.min(other.min_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    fn set_quantiles(&mut self, histogram: &LatencyHistogram) {
        let Self { p50_ns, p90_ns, p99_ns, p99_9_ns, .. } = Self::from(histogram);
        *self = Self { p50_ns, p90_ns, p99_ns, p99_9_ns, ..*self };
    }
}

impl SizeReport {
    /// Percentiles from the histograms; gives that of the latencies.
    fn finish(&mut self) -> LatencyHistogram {
        let latencies = latencies_of(&self.histogram);
        self.latency.set_quantiles(&latencies);
        for slowdown in &mut self.slowdowns {
            slowdown.finish(&latencies);
        }
        if let Some(shown) = self.slowdowns.first() {
            (self.slowdown_p50, self.slowdown_p99) = (shown.p50, shown.p99);
        }
        latencies
    }
}

impl SlowdownReport {
    fn finish(&mut self, latencies: &LatencyHistogram) {
        let mut all: SlowdownHistogram = slowdown_histogram();
        record_all(&mut all, &self.histogram);
        // The one that is relative to the shortest time has no histogram of its own.
        let known = (!self.histogram.is_empty()).then_some(&all);
        self.p50 = slowdown_at(known, latencies, 0.5);
        self.p99 = slowdown_at(known, latencies, 0.99);
        self.p99_9 = slowdown_at(known, latencies, 0.999);
    }
}

impl WindowsReport {
    /// Rates and counts are added, times are means of the reports' times, weighted by their rates. What
    /// one of the reports does not have is left out.
    fn merge(reports: &[Report]) -> Self {
        let len = reports.iter().map(|report| report.windows.krps_and_median_ns.len()).max();
        let mut sums = vec![Sums::default(); len.unwrap_or(0)];
        for Self { krps_and_median_ns, p99_ns, request_and_response_bps, outstanding, .. } in
            reports.iter().map(|report| &report.windows)
        {
            for (at, (sum, &(krps, median_ns))) in
                sums.iter_mut().zip(krps_and_median_ns).enumerate()
            {
                sum.krps += krps;
                sum.median += krps * median_ns as f64;
                sum.p99 += krps * p99_ns.get(at).copied().unwrap_or(0) as f64;
                let bps = request_and_response_bps.get(at).copied().unwrap_or_default();
                sum.bps = (sum.bps.0 + bps.0, sum.bps.1 + bps.1);
                sum.outstanding += outstanding.get(at).copied().unwrap_or(0);
            }
        }
        let all = |len: fn(&Self) -> usize| {
            reports
                .iter()
                .all(|report| len(&report.windows) == report.windows.krps_and_median_ns.len())
        };
        let mean = |krps: f64, weighted: f64| {
            if krps > 0.0 { (weighted / krps).round() as u64 } else { 0 }
        };
        let (has_p99, has_bps) = (
            all(|windows| windows.p99_ns.len()),
            all(|windows| windows.request_and_response_bps.len()),
        );
        let has_outstanding = all(|windows| windows.outstanding.len());
        Self {
            window_ns: reports.first().map_or(0, |report| report.windows.window_ns),
            krps_and_median_ns: sums
                .iter()
                .map(|sum| (sum.krps, mean(sum.krps, sum.median)))
                .collect(),
            p99_ns: sums.iter().map(|sum| mean(sum.krps, sum.p99)).filter(|_| has_p99).collect(),
            request_and_response_bps: sums.iter().map(|sum| sum.bps).filter(|_| has_bps).collect(),
            outstanding: sums
                .iter()
                .map(|sum| sum.outstanding)
                .filter(|_| has_outstanding)
                .collect(),
        }
    }
}

/// A window of all reports together; times are weighted by rates.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    krps: f64,
    median: f64,
    p99: f64,
    bps: (f64, f64),
    outstanding: u32,
}

/// The histogram whose buckets these are.
fn latencies_of(buckets: &[(u64, u64)]) -> LatencyHistogram {
    let mut histogram = latency_histogram();
    record_all(&mut histogram, buckets);
    histogram
}

fn record_all(histogram: &mut hdrhistogram::Histogram<u64>, buckets: &[(u64, u64)]) {
    for &(value, count) in buckets {
        histogram.saturating_record_n(value, count);
    }
}

fn add_buckets(into: &mut Vec<(u64, u64)>, from: &[(u64, u64)]) {
    let mut sums: BTreeMap<u64, u64> = into.iter().copied().collect();
    for &(value, count) in from {
        *sums.entry(value).or_default() += count;
    }
    *into = sums.into_iter().collect();
}

/// The texts that differ, in their order.
fn distinct<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let mut seen: Vec<&str> = Vec::new();
    for text in texts {
        if !seen.contains(&text) {
            seen.push(text);
        }
    }
    seen.join("; ")
}

/// The texts that differ, in their order, each with its count unless there is but one text.
fn counted<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let mut seen: Vec<(&str, usize)> = Vec::new();
    for text in texts {
        match seen.iter_mut().find(|known| known.0 == text) {
            Some(known) => known.1 += 1,
            None => seen.push((text, 1)),
        }
    }
    match &seen[..] {
        [(text, 1)] => (*text).to_owned(),
        _ => {
            let parts: Vec<String> =
                seen.iter().map(|(text, count)| format!("{count} x {text}")).collect();
            parts.join("; ")
        }
    }
}

#[cfg(test)]
mod tests;
