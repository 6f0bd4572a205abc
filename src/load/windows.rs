//! Windows of many runs, split by where the host had placed the cores.
//!
//! A virtual machine's cores move, within a second, between placements whose costs differ by a factor
//! of three; a mean over them says how the host behaved, not the software. So the windows of all runs
//! of one configuration are pooled, and the pool is split in two at the best break of the logarithms:
//! the one that leaves the least variance within the two parts (Otsu's criterion). **Near** is the
//! better part, **far** the worse. Where no break is clear the pool stays **one**.

use serde::{Deserialize, Serialize};

/// A break is clear if it explains at least this part of the variance of the logarithms. The best
/// break of one heap explains 0.64 of it when the heap is a normal distribution and 0.75 when it is
/// flat; that of two heaps apart, 0.85 and more.
const EXPLAINED_MIN: f64 = 0.8;

/// ... if the medians of the parts differ at least by this factor ...
const FACTOR_MIN: f64 = 1.25;

/// ... if each part has at least this share of the windows: fewer are outliers, not a placement ...
const SHARE_MIN: f64 = 0.05;

/// ... and if there are at least so many windows that chance does not make it.
const WINDOWS_MIN: usize = 20;

/// Which end of a scale is the good one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// As for times.
    Lower,
    /// As for rates.
    Higher,
}

/// One figure per window, of any number of runs of one configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    better: Better,
    values: Vec<f64>,
    empty: usize,
}

impl Pool {
    /// An empty pool.
    pub const fn new(better: Better) -> Self {
        Self { better, values: Vec::new(), empty: 0 }
    }

    /// Adds a window. One without completions has no figure (zero); it is counted apart.
    pub fn push(&mut self, value: f64) {
        if value > 0.0 && value.is_finite() {
            self.values.push(value);
        } else {
            self.empty += 1;
        }
    }

    /// Windows that had no figure.
    pub const fn empty(&self) -> usize {
        self.empty
    }

    /// Which end is good.
    pub const fn better(&self) -> Better {
        self.better
    }

    /// Splits the pool; `None` when it has no window with a figure.
    pub fn split(&self) -> Option<Split> {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let all = Summary::of(&sorted)?;
        let (at, explained) = best_break(&sorted);
        let (low, high) = sorted.split_at(at);
        let parts = Summary::of(low).zip(Summary::of(high));
        let share = low.len().min(high.len()) as f64 / sorted.len() as f64;
        let clear = sorted.len() >= WINDOWS_MIN && explained >= EXPLAINED_MIN && share >= SHARE_MIN;
        let parts = parts
            .filter(|(low, high)| clear && high.median / low.median >= FACTOR_MIN)
            .map(|(low, high)| match self.better {
                Better::Lower => Parts { near: low, far: high },
                Better::Higher => Parts { near: high, far: low },
            });
        Some(Split { all, parts, explained, empty: self.empty })
    }
}

impl Extend<f64> for Pool {
    fn extend<I: IntoIterator<Item = f64>>(&mut self, values: I) {
        values.into_iter().for_each(|value| self.push(value));
    }
}

/// Figures of some windows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// How many windows.
    pub windows: usize,
    /// Their median.
    pub median: f64,
    /// 2 % of the windows are below.
    pub p2: f64,
    /// 2 % of the windows are above.
    pub p98: f64,
}

impl Summary {
    /// `None` of no windows. `sorted` rises.
    fn of(sorted: &[f64]) -> Option<Self> {
        let last = sorted.len().checked_sub(1)?;
        let at = |q: f64| sorted[(last as f64 * q).round() as usize];
        Some(Self { windows: sorted.len(), median: at(0.5), p2: at(0.02), p98: at(0.98) })
    }
}

/// The two parts of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parts {
    /// The better windows.
    pub near: Summary,
    /// The worse windows.
    pub far: Summary,
}

/// A pool, split if there is a clear break.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Split {
    /// All windows.
    pub all: Summary,
    /// `None`: one.
    pub parts: Option<Parts>,
    /// The share of the variance of the logarithms that the best break explains.
    pub explained: f64,
    /// Windows without completions, in no other figure.
    pub empty: usize,
}

/// Medians of one pool over those of another.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// Of the near parts, where both have one.
    pub near: Option<f64>,
    /// Of the far parts, where both have one.
    pub far: Option<f64>,
    /// Of all windows. Mixes placements; what there is when a pool is one.
    pub all: f64,
}

impl Split {
    /// This over `raw`, which must have been interleaved with this in the same minutes.
    pub fn ratio_to(&self, raw: &Self) -> Ratio {
        let parts = self.parts.zip(raw.parts);
        Ratio {
            near: parts.map(|(ours, raw)| ours.near.median / raw.near.median),
            far: parts.map(|(ours, raw)| ours.far.median / raw.far.median),
            all: self.all.median / raw.all.median,
        }
    }
}

/// Where to break `sorted` (the length of the lower part), and which share of the variance of the
/// logarithms that explains; (0, 0) when all are equal.
fn best_break(sorted: &[f64]) -> (usize, f64) {
    let logs: Vec<f64> = sorted.iter().map(|value| value.ln()).collect();
    let n = logs.len() as f64;
    let mean = logs.iter().sum::<f64>() / n;
    let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / n;
    let mut best = (0, 0.0);
    // Sum of the lower part relative to the mean, from which both parts' distances follow.
    let mut below = 0.0;
    for at in 1..logs.len() {
        below += logs[at - 1] - mean;
        if logs[at] <= logs[at - 1] {
            continue;
        }
        let lower = at as f64;
        let between = below * below / (lower * (n - lower));
        let explained = between / variance;
        if explained > best.1 {
            best = (at, explained);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_xoshiro::Xoshiro256PlusPlus;
    use rand_xoshiro::rand_core::SeedableRng;

    use super::*;
    use crate::load::workload::unit_interval;

    /// `n` values around `median`, log-normal with a standard deviation of `spread`.
    fn heap(median: f64, spread: f64, n: usize, seed: u64) -> Vec<f64> {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut normal = || (0..12).map(|_| unit_interval(&mut rng)).sum::<f64>() - 6.0;
        (0..n).map(|_| median * (spread * normal()).exp()).collect()
    }

    fn split(better: Better, heaps: &[Vec<f64>]) -> Split {
        let mut pool = Pool::new(better);
        heaps.iter().for_each(|heap| pool.extend(heap.iter().copied()));
        pool.split().unwrap()
    }

    #[track_caller]
    fn assert_near(value: f64, expected: f64) {
        assert!((value / expected - 1.0).abs() < 0.05, "{value} is not about {expected}");
    }

    #[test]
    fn three_placements_are_near_and_far() {
        // Siblings, same cache, different cache.
        let heaps =
            [heap(270.0, 0.05, 200, 1), heap(490.0, 0.05, 500, 2), heap(1620.0, 0.05, 900, 3)];
        let parts = split(Better::Lower, &heaps).parts.unwrap();
        assert_eq!((parts.near.windows, parts.far.windows), (700, 900));
        assert_near(parts.near.median, 480.0);
        assert_near(parts.far.median, 1620.0);
        assert!(parts.near.p2 < 290.0 && parts.near.p98 < 600.0, "{parts:?}");
    }

    #[test]
    fn near_is_the_higher_rate() {
        let heaps = [heap(5050.0, 0.08, 300, 1), heap(1900.0, 0.1, 300, 2)];
        let parts = split(Better::Higher, &heaps).parts.unwrap();
        assert_near(parts.near.median, 5050.0);
        assert_near(parts.far.median, 1900.0);
    }

    #[test]
    fn one_heap_stays_one() {
        for (seed, spread) in (0..20).zip([0.01, 0.1, 0.3, 1.0].into_iter().cycle()) {
            let split = split(Better::Lower, &[heap(6500.0, spread, 200, seed)]);
            assert_eq!(split.parts, None, "spread {spread}: {split:?}");
            assert!((0.55..0.75).contains(&split.explained), "{split:?}");
        }
        let flat: Vec<f64> = (0..500).map(|i| (f64::from(i) / 100.0).exp()).collect();
        assert_eq!(split(Better::Lower, &[flat]).parts, None);
    }

    #[test]
    fn a_few_outliers_are_no_placement() {
        let heaps = [heap(320.0, 0.03, 490, 1), heap(1150.0, 0.03, 10, 2)];
        assert_eq!(split(Better::Lower, &heaps).parts, None);
        // Two heaps less than a quarter apart are the software's own spread.
        let heaps = [heap(100.0, 0.005, 250, 1), heap(115.0, 0.005, 250, 2)];
        assert_eq!(split(Better::Lower, &heaps).parts, None);
    }

    #[test]
    fn equal_single_and_empty() {
        let equal = split(Better::Lower, &[vec![5.0; 100]]);
        assert_eq!((equal.parts, equal.all.median, equal.explained), (None, 5.0, 0.0));
        assert_eq!(split(Better::Lower, &[vec![7.0]]).all.p98, 7.0);
        let mut pool = Pool::new(Better::Higher);
        pool.extend([0.0, f64::NAN]);
        assert_eq!((pool.split(), pool.empty()), (None, 2));
    }

    #[test]
    fn ratios_compare_like_with_like() {
        let raw = split(Better::Lower, &[heap(500.0, 0.05, 300, 1), heap(2000.0, 0.05, 300, 2)]);
        // The same software, but the host left it far for nine windows in ten.
        let ours = split(Better::Lower, &[heap(1000.0, 0.05, 60, 3), heap(2400.0, 0.05, 540, 4)]);
        let ratio = ours.ratio_to(&raw);
        assert_near(ratio.near.unwrap(), 2.0);
        assert_near(ratio.far.unwrap(), 1.2);
        let one = split(Better::Lower, &[heap(6500.0, 0.05, 100, 5)]);
        let ratio = one.ratio_to(&raw);
        assert_eq!((ratio.near, ratio.far), (None, None));
    }

    proptest! {
        /// The break found is the best of all, by the definition.
        #[test]
        fn no_other_break_is_better(values in proptest::collection::vec(1.0_f64..1e6, 2..60)) {
            let mut sorted = values;
            sorted.sort_by(f64::total_cmp);
            let within = |at: usize| {
                let (low, high) = sorted.split_at(at);
                [low, high].iter().filter(|part| !part.is_empty()).map(|part| {
                    let mean = part.iter().map(|v| v.ln()).sum::<f64>() / part.len() as f64;
                    part.iter().map(|v| (v.ln() - mean).powi(2)).sum::<f64>()
                }).sum::<f64>()
            };
            let (at, explained) = best_break(&sorted);
            for other in 1..sorted.len() {
                prop_assert!(within(at) <= within(other) + 1e-9);
            }
            prop_assert!((1.0 - within(at) / within(0) - explained).abs() < 1e-6);
        }
    }
}
