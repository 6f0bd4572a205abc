//! Latency as it is recorded while the load runs.
//!
//! One [`Recorder`] per generator, without sharing; those of a run are merged at its end. Recording
//! is a few additions to counters and does not allocate.

use core::fmt;

use hdrhistogram::Histogram;

use super::classes::SizeClasses;
use super::generator::Sample;
use super::slowdown::BestCase;
use crate::time::Nanos;

use counts::Counts;

mod counts;

/// Longer times are recorded as this.
pub const LATENCY_MAX: Nanos = Nanos::from_secs(60);

/// Slowdowns are recorded in thousandths, up to 1,000,000 times.
const SLOWDOWN_UNIT: f64 = 1000.0;
const SLOWDOWN_MAX: u64 = 1_000_000_000;

/// What to record, and how finely.
#[derive(Clone, Debug)]
pub struct RecorderConfig {
    /// Rows of the table by size.
    pub classes: SizeClasses,
    /// What slowdown is relative to.
    pub best_case: BestCase,
    /// Further definitions of slowdown to record beside it.
    pub other_best_cases: Vec<BestCase>,
    /// Where the first window begins: where measuring begins.
    pub measured_from: Nanos,
    /// Length of a window.
    pub window: Nanos,
    /// Windows kept; completions after the last are in no window.
    pub windows_max: usize,
}

impl RecorderConfig {
    /// 5 ms: shorter than the time for which a virtual machine usually stays as it is placed, long
    /// enough for a median.
    pub const WINDOW: Nanos = Nanos::from_ms(5);

    /// Windows of 5 ms for a run measured for `measured`, at most ten minutes of them.
    pub fn new(
        classes: SizeClasses,
        best_case: BestCase,
        measured_from: Nanos,
        measured: Nanos,
    ) -> Self {
        let windows = measured.0 / Self::WINDOW.0;
        Self {
            classes,
            best_case,
            other_best_cases: Vec::new(),
            measured_from,
            window: Self::WINDOW,
            windows_max: windows.min(120_000) as usize,
        }
    }

    /// All definitions of slowdown that are recorded, the one that is shown first.
    pub fn best_cases(&self) -> impl Iterator<Item = &BestCase> {
        std::iter::once(&self.best_case).chain(&self.other_best_cases)
    }
}

/// Latencies in ns. A percentile is the upper end of the bucket of the histogram that holds it: at most 0.1 % too
/// large.
pub type LatencyHistogram = Histogram<u64>;

/// A histogram of `digits` significant digits from 1 to `max`.
///
/// # Panics
/// For bounds that no histogram can have; those of this module are constants that tests cover.
fn histogram<T: hdrhistogram::Counter>(max: u64, digits: u8) -> Histogram<T> {
    Histogram::new_with_bounds(1, max, digits).expect("1 <= max / 2 and digits in 0..=5")
}

/// One second (or whatever the reader likes) of completions, for a live line.
#[derive(Clone, Debug)]
pub struct Interval {
    /// RPCs completed.
    pub completed: u64,
    /// Payload of their requests.
    pub request_bytes: u64,
    /// Payload of their responses.
    pub response_bytes: u64,
    /// Their latency from the planned time in ns, two significant digits.
    pub latency: Histogram<u32>,
}

impl Interval {
    /// An empty interval.
    pub fn new() -> Self {
        Self {
            completed: 0,
            request_bytes: 0,
            response_bytes: 0,
            latency: histogram(LATENCY_MAX.0, 2),
        }
    }

    /// Adds another shard's completions of the same time.
    pub fn merge(&mut self, other: &Self) {
        self.completed += other.completed;
        self.request_bytes += other.request_bytes;
        self.response_bytes += other.response_bytes;
        // All intervals have the same bounds, so that adding cannot fail.
        let _ = self.latency.add(&other.latency);
    }

    /// Empties it.
    pub fn reset(&mut self) {
        self.completed = 0;
        self.request_bytes = 0;
        self.response_bytes = 0;
        self.latency.reset();
    }
}

impl Default for Interval {
    fn default() -> Self {
        Self::new()
    }
}

/// What becomes an [`Interval`].
#[derive(Clone, Debug)]
struct Recent {
    request_bytes: u64,
    response_bytes: u64,
    latency: Counts<8>,
}

impl Recent {
    #[inline]
    fn record(&mut self, sample: &Sample, latency_ns: u64) {
        self.request_bytes += u64::from(sample.request_bytes);
        self.response_bytes += u64::from(sample.response_bytes);
        self.latency.record(latency_ns);
    }

    fn add(&mut self, other: &Self) {
        self.request_bytes += other.request_bytes;
        self.response_bytes += other.response_bytes;
        self.latency.add(&other.latency);
    }

    /// Moves all into `into`.
    fn take(&mut self, into: &mut Interval) {
        into.reset();
        into.completed = self.latency.len();
        into.request_bytes = core::mem::take(&mut self.request_bytes);
        into.response_bytes = core::mem::take(&mut self.response_bytes);
        self.latency.record_in(&mut into.latency);
        self.latency.reset();
    }
}

/// One window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// RPCs completed in it.
    pub completed: u64,
    /// The median of their latency; 0 when none completed. Of several shards: the mean of their
    /// medians, weighted by their counts.
    pub median_ns: u64,
    /// The 99th percentile of their latency, as the median.
    pub p99_ns: u64,
    /// Payload of their requests.
    pub request_bytes: u64,
    /// Payload of their responses.
    pub response_bytes: u64,
    /// RPCs outstanding when it ended, as far as the recorder was told.
    pub outstanding: u32,
}

impl Window {
    fn merge(&mut self, other: &Self) {
        let completed = self.completed + other.completed;
        let mean = |ours: u64, theirs: u64| {
            let weighted = u128::from(self.completed) * u128::from(ours)
                + u128::from(other.completed) * u128::from(theirs);
            (weighted / u128::from(completed.max(1))) as u64
        };
        *self = Self {
            median_ns: mean(self.median_ns, other.median_ns),
            p99_ns: mean(self.p99_ns, other.p99_ns),
            completed,
            request_bytes: self.request_bytes + other.request_bytes,
            response_bytes: self.response_bytes + other.response_bytes,
            outstanding: self.outstanding.saturating_add(other.outstanding),
        };
    }
}

/// The windows of a run, one after the other without gaps.
#[derive(Clone, Debug)]
struct Windows {
    length: Nanos,
    /// Where the first begins.
    from: Nanos,
    /// Where the current one ends.
    ends: Nanos,
    windows: Vec<Window>,
    windows_max: usize,
    current: Counts<8>,
    /// Payload of the current window's requests and responses.
    bytes: (u64, u64),
    outstanding: u32,
}

impl Windows {
    fn new(config: &RecorderConfig) -> Self {
        let length = Nanos(config.window.0.max(1));
        Self {
            length,
            from: config.measured_from,
            ends: config.measured_from + length,
            windows: Vec::with_capacity(config.windows_max),
            windows_max: config.windows_max,
            current: Counts::new(LATENCY_MAX.0),
            bytes: (0, 0),
            outstanding: 0,
        }
    }

    #[inline]
    fn record(&mut self, sample: &Sample, latency_ns: u64) {
        self.advance(sample.done);
        // Before the first window, and after the last, there is nowhere to put it.
        if sample.done >= self.from && self.windows.len() < self.windows_max {
            self.current.record(latency_ns);
            self.bytes.0 += u64::from(sample.request_bytes);
            self.bytes.1 += u64::from(sample.response_bytes);
        }
    }

    #[inline]
    fn advance(&mut self, now: Nanos) {
        while now >= self.ends && self.windows.len() < self.windows_max {
            self.close();
        }
    }

    fn close(&mut self) {
        let completed = self.current.len();
        let [median_ns, p99_ns] = match completed {
            0 => [0; 2],
            _ => [0.5, 0.99].map(|q| self.current.quantile(q)),
        };
        let (request_bytes, response_bytes) = core::mem::take(&mut self.bytes);
        let outstanding = self.outstanding;
        self.windows.push(Window {
            completed,
            median_ns,
            p99_ns,
            request_bytes,
            response_bytes,
            outstanding,
        });
        if completed > 0 {
            self.current.reset();
        }
        self.ends = self.ends + self.length;
    }

    fn merge(&mut self, other: &Self) {
        let len = self.windows.len().max(other.windows.len());
        self.windows.resize(len, Window::default());
        for (into, from) in self.windows.iter_mut().zip(&other.windows) {
            into.merge(from);
        }
    }
}

/// What was recorded of one size class.
#[derive(Clone, Debug)]
pub struct ClassRecord {
    /// From the planned time, in ns.
    pub latency: LatencyHistogram,
    /// One for each definition, in the order of [`RecorderConfig::best_cases`]; `None` when the best
    /// case is known only after the run.
    slowdowns: Box<[Option<SlowdownHistogram>]>,
}

/// Slowdowns in thousandths, two significant digits.
pub type SlowdownHistogram = Histogram<u64>;

/// An empty histogram of slowdowns.
pub(super) fn slowdown_histogram() -> SlowdownHistogram {
    histogram(SLOWDOWN_MAX, 2)
}

fn latencies_of(counts: &Counts<11>) -> LatencyHistogram {
    let mut latencies = latency_histogram();
    counts.record_in(&mut latencies);
    latencies
}

/// An empty histogram of latencies.
pub(super) fn latency_histogram() -> LatencyHistogram {
    histogram(LATENCY_MAX.0, 3)
}

/// The slowdown that a fraction `q` of the RPCs does not exceed; `None` without RPCs. `slowdowns` is
/// absent when the best case is the shortest of `latencies`.
pub(super) fn slowdown_at(
    slowdowns: Option<&SlowdownHistogram>,
    latencies: &LatencyHistogram,
    q: f64,
) -> Option<f64> {
    if latencies.is_empty() {
        return None;
    }
    Some(match slowdowns {
        Some(slowdowns) => {
            // The middle of a bucket: its upper end would be up to 1 % too large.
            let value = slowdowns.median_equivalent(slowdowns.value_at_quantile(q));
            value as f64 / SLOWDOWN_UNIT
        }
        None => latencies.value_at_quantile(q) as f64 / latencies.min().max(1) as f64,
    })
}

impl ClassRecord {
    /// The slowdown that a fraction `q` of the RPCs does not exceed, by [`RecorderConfig::best_case`];
    /// `None` without RPCs.
    pub fn slowdown_at(&self, q: f64) -> Option<f64> {
        self.slowdown_by(0, q)
    }

    /// The same by one of [`RecorderConfig::best_cases`].
    pub fn slowdown_by(&self, definition: usize, q: f64) -> Option<f64> {
        slowdown_at(self.slowdowns(definition), &self.latency, q)
    }

    /// All slowdowns by one of [`RecorderConfig::best_cases`]; `None` when that is known only after the
    /// run.
    pub fn slowdowns(&self, definition: usize) -> Option<&SlowdownHistogram> {
        self.slowdowns.get(definition)?.as_ref()
    }
}

/// Two recorders that do not measure the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MergeError;

impl fmt::Display for MergeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "recorders with different size classes, best cases or windows cannot be merged; \
             make those of a run from one configuration",
        )
    }
}

impl std::error::Error for MergeError {}

/// Counts of one size class, as [`ClassRecord`] gives them.
#[derive(Clone, Debug)]
struct ClassCounts {
    latency: Counts<11>,
    slowdowns: Box<[Option<Counts<8>>]>,
}

/// What turns the time of an RPC into slowdowns, for the lengths that were seen last: finding the best
/// cases takes longer than recording.
#[derive(Clone, Debug)]
struct Factors {
    /// Lengths of request and response, by a few bits of them.
    lengths: Box<[(u32, u32)]>,
    /// Thousandths per ns, one for each definition; those of `lengths[i]` are at `i * definitions`.
    factors: Box<[f64]>,
    definitions: usize,
}

impl Factors {
    /// Lengths kept; a power of two.
    const PLACES: usize = 256;

    fn new(definitions: usize) -> Self {
        Self {
            // No message has no bytes.
            lengths: vec![(0, 0); Self::PLACES].into(),
            factors: vec![0.0; Self::PLACES * definitions].into(),
            definitions,
        }
    }

    #[inline]
    fn of(&mut self, config: &RecorderConfig, request_bytes: u32, response_bytes: u32) -> &[f64] {
        let lengths = (request_bytes, response_bytes);
        let place = (request_bytes.wrapping_add(response_bytes >> 1)) as usize % Self::PLACES;
        let range = place * self.definitions..(place + 1) * self.definitions;
        if self.lengths[place] != lengths {
            self.lengths[place] = lengths;
            for (factor, best) in self.factors[range.clone()].iter_mut().zip(config.best_cases()) {
                // Of a best case that is not known yet, the factor is not used.
                let best_ns = best.best_ns(request_bytes, response_bytes).unwrap_or(f64::INFINITY);
                *factor = SLOWDOWN_UNIT / best_ns;
            }
        }
        &self.factors[range]
    }
}

/// Records completed RPCs.
#[derive(Clone, Debug)]
pub struct Recorder {
    config: RecorderConfig,
    classes: Vec<ClassCounts>,
    service: Counts<11>,
    lag: Counts<11>,
    windows: Windows,
    recent: Recent,
    factors: Factors,
}

impl Recorder {
    /// An empty recorder. Takes about 0.3 MB for each size class.
    pub fn new(config: RecorderConfig) -> Self {
        let slowdowns = config.best_cases().map(|best_case| {
            let known = best_case.best_ns(1, 1).is_some();
            known.then(|| Counts::new(SLOWDOWN_MAX))
        });
        let latencies = || Counts::new(LATENCY_MAX.0);
        let class = ClassCounts { latency: latencies(), slowdowns: slowdowns.collect() };
        let recent =
            Recent { request_bytes: 0, response_bytes: 0, latency: Counts::new(LATENCY_MAX.0) };
        Self {
            factors: Factors::new(class.slowdowns.len()),
            classes: vec![class; config.classes.len()],
            service: latencies(),
            lag: latencies(),
            windows: Windows::new(&config),
            recent,
            config,
        }
    }

    /// Records one completed RPC; RPCs come in the order of their completion. Those of the warm-up show in the live interval and, if they are
    /// completed in measured time, in the windows; nowhere else.
    #[inline]
    pub fn record(&mut self, sample: &Sample) {
        let latency_ns = sample.done.since(sample.planned).0;
        self.recent.record(sample, latency_ns);
        self.windows.record(sample, latency_ns);
        if !sample.measured {
            return;
        }
        self.service.record(sample.done.since(sample.sent).0);
        self.lag.record(sample.sent.since(sample.planned).0);
        let class = &mut self.classes[self.config.classes.class_of(sample.request_bytes)];
        class.latency.record(latency_ns);
        let factors = self.factors.of(&self.config, sample.request_bytes, sample.response_bytes);
        for (slowdowns, factor) in class.slowdowns.iter_mut().zip(factors) {
            if let Some(slowdowns) = slowdowns {
                slowdowns.record((latency_ns as f64 * factor + 0.5) as u64);
            }
        }
    }

    /// Notes how many RPCs are outstanding now, for the window that is open.
    #[inline]
    pub const fn note_outstanding(&mut self, outstanding: u32) {
        self.windows.outstanding = outstanding;
    }

    /// Moves what was completed since the last call into `into`, whose content is thrown away. Does
    /// not allocate.
    pub fn take_interval(&mut self, into: &mut Interval) {
        self.recent.take(into);
    }

    /// Closes the windows that ended by `now`. Call it at the end, so that the last windows without
    /// any completion count too.
    pub fn finish(&mut self, now: Nanos) {
        self.windows.advance(now);
    }

    /// Adds what another recorder of the same run has; its live interval too.
    ///
    /// # Errors
    /// The recorders were made from different configurations.
    pub fn merge(&mut self, other: &Self) -> Result<(), MergeError> {
        let (ours, theirs) = (&self.config, &other.config);
        if ours.classes != theirs.classes
            || !ours.best_cases().eq(theirs.best_cases())
            || ours.measured_from != theirs.measured_from
            || ours.window != theirs.window
        {
            return Err(MergeError);
        }
        for (into, from) in self.classes.iter_mut().zip(&other.classes) {
            into.latency.add(&from.latency);
            for (into, from) in into.slowdowns.iter_mut().zip(&from.slowdowns) {
                if let (Some(into), Some(from)) = (into, from) {
                    into.add(from);
                }
            }
        }
        self.service.add(&other.service);
        self.lag.add(&other.lag);
        self.recent.add(&other.recent);
        self.windows.merge(&other.windows);
        Ok(())
    }

    /// How it was made.
    pub const fn config(&self) -> &RecorderConfig {
        &self.config
    }

    /// Latency from the planned time, all size classes together.
    pub fn latency(&self) -> LatencyHistogram {
        let mut all = latency_histogram();
        for class in &self.classes {
            class.latency.record_in(&mut all);
        }
        all
    }

    /// Latency from the real send.
    pub fn service(&self) -> LatencyHistogram {
        latencies_of(&self.service)
    }

    /// Time from the planned to the real send.
    pub fn lag(&self) -> LatencyHistogram {
        latencies_of(&self.lag)
    }

    /// One record per size class, in order.
    pub fn classes(&self) -> Vec<ClassRecord> {
        let record = |class: &ClassCounts| {
            let slowdowns = class.slowdowns.iter().map(|counts| {
                counts.as_ref().map(|counts| {
                    let mut slowdowns = slowdown_histogram();
                    counts.record_in(&mut slowdowns);
                    slowdowns
                })
            });
            ClassRecord { latency: latencies_of(&class.latency), slowdowns: slowdowns.collect() }
        };
        self.classes.iter().map(record).collect()
    }

    /// The windows closed so far, the first beginning where measuring begins.
    pub fn windows(&self) -> &[Window] {
        &self.windows.windows
    }
}

#[cfg(test)]
mod tests;
