//! What happened in each window of some milliseconds, at next to no cost for what happens.

use serde::{Deserialize, Serialize};

use crate::time::Nanos;

/// Length of a window: shorter than the host leaves the cores where they are, long enough for
/// thousands of round trips.
pub const WINDOW: Nanos = Nanos::from_ms(5);

/// One window: thousand completions per second, and the median of their times in ns (zero where
/// times make no sense, as for frames one way). In JSON a list of these two.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampled(pub f64, pub f64);

/// Buckets per doubling: a median is exact to 0.4 %.
const BUCKETS_PER_OCTAVE: usize = 128;
const OCTAVE_BITS: u32 = BUCKETS_PER_OCTAVE.ilog2();
/// Longer times, about 9 s, count as this one.
const NS_MAX: u64 = (1 << 33) - 1;

/// Counts of times in buckets, each at most 1/128 wide; exact below 256 ns.
#[derive(Clone, Debug)]
struct Times {
    counts: Box<[u32]>,
    total: u32,
}

impl Times {
    fn new() -> Self {
        Self { counts: vec![0; Self::bucket(NS_MAX) + 1].into_boxed_slice(), total: 0 }
    }

    #[inline]
    fn bucket(ns: u64) -> usize {
        let ns = ns.min(NS_MAX);
        let shift = (u64::BITS - ns.leading_zeros()).saturating_sub(OCTAVE_BITS + 1);
        (shift as usize) * BUCKETS_PER_OCTAVE + (ns >> shift) as usize
    }

    /// The middle of a bucket, in ns.
    fn middle(bucket: usize) -> f64 {
        let shift = (bucket / BUCKETS_PER_OCTAVE).saturating_sub(1);
        let low = (bucket - shift * BUCKETS_PER_OCTAVE) << shift;
        low as f64 + ((1_u64 << shift) - 1) as f64 / 2.0
    }

    #[inline]
    fn add(&mut self, ns: u64) {
        self.counts[Self::bucket(ns)] += 1;
        self.total += 1;
    }

    /// The median, zero of nothing; everything is forgotten.
    fn take_median(&mut self) -> f64 {
        if self.total == 0 {
            return 0.0;
        }
        let rank = self.total.div_ceil(2);
        let mut seen = 0;
        let at = self.counts.iter().position(|&count| {
            seen += count;
            seen >= rank
        });
        self.counts.fill(0);
        self.total = 0;
        at.map_or(0.0, Self::middle)
    }
}

/// Splits a run into windows.
///
/// A window ends with the first completion that is due after [`WINDOW`], and its rate is that of the
/// time it really took. So a window of few long completions is not rounded to whole ones, and a core
/// that was away makes one long window, not an empty one.
///
/// The run begins with the first completion; nothing is kept of the warm-up that follows.
#[derive(Clone, Debug)]
pub struct WindowSampler {
    warm_up: Nanos,
    duration: Nanos,
    /// Of the window under way; `None` before the first completion.
    start: Option<Nanos>,
    /// When the window under way, or the warm-up, ends.
    due: Nanos,
    /// When the run ends.
    until: Nanos,
    warm: bool,
    completions: u64,
    times: Times,
    windows: Vec<Sampled>,
}

impl WindowSampler {
    /// For a run of `duration` after `warm_up`. All memory is allocated here.
    pub fn new(warm_up: Nanos, duration: Nanos) -> Self {
        let windows = usize::try_from(duration.0 / WINDOW.0).unwrap_or(0) + 1;
        Self {
            warm_up,
            duration,
            start: None,
            due: Nanos::ZERO,
            until: Nanos::MAX,
            warm: false,
            completions: 0,
            times: Times::new(),
            windows: Vec::with_capacity(windows),
        }
    }

    /// One completion at `now` that took `time`.
    #[inline]
    pub fn record(&mut self, now: Nanos, time: Nanos) {
        self.count(now, 1);
        if self.warm {
            self.times.add(time.0);
        }
    }

    /// `n` completions at `now` of which no time is known.
    #[inline]
    pub fn count(&mut self, now: Nanos, n: u64) {
        if now >= self.due {
            self.turn(now);
        }
        self.completions += n;
    }

    /// A window, or the warm-up, ends at `now`.
    #[cold]
    fn turn(&mut self, now: Nanos) {
        let Some(start) = self.start else {
            self.start = Some(now);
            self.due = now + self.warm_up;
            if self.warm_up == Nanos::ZERO {
                self.turn(now);
            }
            return;
        };
        if !self.warm {
            self.warm = true;
            self.until = now + self.duration;
        } else if self.windows.len() < self.windows.capacity() {
            let elapsed_ns = now.since(start).0.max(1) as f64;
            let k_per_s = self.completions as f64 / elapsed_ns * 1e6;
            self.windows.push(Sampled(rounded(k_per_s), rounded(self.times.take_median())));
        }
        self.start = Some(now);
        self.due = now + WINDOW;
        self.completions = 0;
    }

    /// Whether the run is over.
    #[inline]
    pub fn is_finished(&self, now: Nanos) -> bool {
        now >= self.until
    }

    /// Whether anything was completed yet.
    pub fn has_begun(&self) -> bool {
        self.start.is_some()
    }

    /// All complete windows.
    pub fn into_windows(self) -> Vec<Sampled> {
        self.windows
    }
}

/// To three decimals, so that JSON stays short.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_WARM_UP: Nanos = Nanos::ZERO;

    #[test]
    fn buckets_are_narrow_and_in_order() {
        for ns in (0..4_000).chain((2..33).flat_map(|bit| [(1 << bit) - 1, 1 << bit, 5 << bit])) {
            let middle = Times::middle(Times::bucket(ns));
            let ns = ns.min(NS_MAX) as f64;
            assert!((middle - ns).abs() <= ns / 256.0, "{ns} is in the bucket of {middle}");
        }
        for ns in 0..4_000 {
            let step = Times::bucket(ns + 1) - Times::bucket(ns);
            assert!(step == 1 || (step == 0 && ns >= 256), "{step} from {ns} on");
        }
        assert_eq!(Times::bucket(u64::MAX), Times::bucket(NS_MAX));
    }

    #[test]
    fn the_median_is_that_of_the_window() {
        let mut times = Times::new();
        [100, 900, 200, 800, 201].into_iter().for_each(|ns| times.add(ns));
        assert_eq!(times.take_median(), 201.0);
        times.add(7);
        assert_eq!(times.take_median(), 7.0, "nothing is left of the window before");
        assert_eq!(times.take_median(), 0.0);
    }

    #[test]
    fn windows_say_how_much_and_how_long() {
        let mut sampler = WindowSampler::new(NO_WARM_UP, Nanos::from_ms(20));
        let mut now = Nanos(77);
        assert!(!sampler.has_begun());
        while !sampler.is_finished(now) {
            sampler.record(now, Nanos(150));
            now = now + Nanos(500);
        }
        assert!(sampler.has_begun());
        sampler.record(now, Nanos(150));
        // One completion in 500 ns is two million per second.
        assert_eq!(sampler.into_windows(), [Sampled(2_000.0, 150.0); 4]);
    }

    #[test]
    fn the_warm_up_is_not_kept() {
        let mut sampler = WindowSampler::new(Nanos::from_ms(10), Nanos::from_ms(10));
        for ms in 0..10 {
            sampler.record(Nanos::from_ms(ms), Nanos(9_000));
        }
        for ms in 10..=20 {
            assert!(!sampler.is_finished(Nanos::from_ms(ms - 1)));
            sampler.record(Nanos::from_ms(ms), Nanos(200));
        }
        assert!(sampler.is_finished(Nanos::from_ms(20)));
        assert_eq!(sampler.into_windows(), [Sampled(1.0, 200.0); 2]);
    }

    #[test]
    fn long_completions_are_not_rounded_to_whole_ones() {
        let mut sampler = WindowSampler::new(NO_WARM_UP, Nanos::from_ms(100));
        for i in 0..35 {
            sampler.record(Nanos::from_ms(3 * i), Nanos::from_ms(3));
        }
        let windows = sampler.into_windows();
        // Two of 3 ms each take 6 ms, not one and two thirds 5 ms.
        assert_eq!(windows.len(), 17);
        assert!(windows.iter().all(|window| window.0 == 0.333), "{windows:?}");
    }

    #[test]
    fn a_core_that_was_away_makes_one_long_window() {
        let mut sampler = WindowSampler::new(NO_WARM_UP, Nanos::from_ms(1_000));
        for ms in [0, 1, 2, 3, 4, 5, 45, 46] {
            sampler.count(Nanos::from_ms(ms), 10);
        }
        assert_eq!(sampler.into_windows(), [Sampled(10.0, 0.0), Sampled(0.25, 0.0)]);
    }

    #[test]
    fn memory_does_not_grow() {
        let mut sampler = WindowSampler::new(NO_WARM_UP, Nanos::from_ms(10));
        (0..1_000).for_each(|i| sampler.count(Nanos::from_ms(5 * i), 1));
        assert_eq!(sampler.into_windows().len(), 3);
    }
}
