//! A distribution as a report stores it: buckets of values with counts.

use super::{Report, SizeReport};

/// Counts of values, rising.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    /// Value and how many are not above it.
    below: Vec<(u64, u64)>,
}

impl Distribution {
    /// Of lists of value and count, put together.
    pub fn new<'a>(lists: impl IntoIterator<Item = &'a [(u64, u64)]>) -> Self {
        let mut buckets: Vec<(u64, u64)> = lists.into_iter().flatten().copied().collect();
        buckets.sort_unstable();
        let mut below: Vec<(u64, u64)> = Vec::with_capacity(buckets.len());
        let mut total = 0;
        for (value, count) in buckets.into_iter().filter(|bucket| bucket.1 > 0) {
            total += count;
            match below.last_mut().filter(|last| last.0 == value) {
                Some(last) => last.1 = total,
                None => below.push((value, total)),
            }
        }
        Self { below }
    }

    /// Latency of all RPCs of a run, from the planned time.
    pub fn of_latency(report: &Report) -> Self {
        Self::new(report.by_size.iter().map(|row| &row.histogram[..]))
    }

    /// Latency of a size class.
    pub fn of_class(class: &SizeReport) -> Self {
        Self::new([&class.histogram[..]])
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.below.last().map_or(0, |last| last.1)
    }

    /// The smallest value.
    pub fn min(&self) -> Option<u64> {
        self.below.first().map(|first| first.0)
    }

    /// The value that a fraction `q` does not exceed; `None` without values.
    pub fn quantile(&self, q: f64) -> Option<u64> {
        let rank = ((self.count() as f64 * q).ceil() as u64).max(1);
        let at = self.below.partition_point(|point| point.1 < rank);
        self.below.get(at).or_else(|| self.below.last()).map(|point| point.0)
    }

    /// The fraction that is below `value`, with half of those equal to it.
    pub fn rank(&self, value: u64) -> f64 {
        let at = self.below.partition_point(|point| point.0 < value);
        let under = at.checked_sub(1).map_or(0, |at| self.below[at].1);
        let upto = match self.below.get(at) {
            Some(&(same, upto)) if same == value => upto,
            _ => under,
        };
        (under + upto) as f64 / 2.0 / self.count().max(1) as f64
    }

    /// Value and the fraction of values not above it, rising; `points_max` at most.
    pub fn cdf(&self, points_max: usize) -> Vec<(f64, f64)> {
        self.thinned(points_max, |under, total| under as f64 / total as f64)
    }

    /// Value and the fraction of values above it, falling, without the last, above which there is none.
    pub fn ccdf(&self, points_max: usize) -> Vec<(f64, f64)> {
        let mut points =
            self.thinned(points_max, |under, total| (total - under) as f64 / total as f64);
        points.retain(|point| point.1 > 0.0);
        points
    }

    /// Points that are apart in value, in share, or in the share that is left.
    fn thinned(&self, points_max: usize, share: impl Fn(u64, u64) -> f64) -> Vec<(f64, f64)> {
        let (total, last) = (self.count(), self.below.len().saturating_sub(1));
        let Some(least) = self.min() else { return Vec::new() };
        let most = self.below[last].0;
        let step = 3.0 / points_max.max(3) as f64;
        let decades = (most as f64 / least.max(1) as f64).ln().max(1e-9);
        let tails = (total as f64).ln().max(1e-9);
        // Where a value stands: along both axes, and along the logarithm of what is left.
        let place = |&(value, under): &(u64, u64)| {
            let left = (total - under).max(1) as f64;
            [
                (value.max(1) as f64 / least.max(1) as f64).ln() / decades,
                under as f64 / total as f64,
                -(left / total as f64).ln() / tails,
            ]
        };
        let mut kept: Vec<(f64, f64)> = Vec::new();
        let mut at = [f64::NEG_INFINITY; 3];
        for (index, point) in self.below.iter().enumerate() {
            let here = place(point);
            let moved = here.iter().zip(at).any(|(here, at)| here - at >= step);
            if moved || index == last {
                kept.push((point.0 as f64, share(point.1, total)));
                at = here;
            }
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_and_ranks_of_a_small_one() {
        let d = Distribution::new([&[(10, 2), (30, 1)][..], &[(20, 5), (10, 2)][..]]);
        assert_eq!((d.count(), d.min()), (10, Some(10)));
        let at = |q| d.quantile(q).unwrap();
        assert_eq!(
            [at(0.0), at(0.4), at(0.5), at(0.9), at(0.91), at(1.0)],
            [10, 10, 20, 20, 30, 30]
        );
        assert_eq!(
            [d.rank(5), d.rank(10), d.rank(15), d.rank(20), d.rank(99)],
            [0.0, 0.2, 0.4, 0.65, 1.0]
        );
        assert_eq!(d.cdf(100), [(10.0, 0.4), (20.0, 0.9), (30.0, 1.0)]);
        assert_eq!(d.ccdf(100), [(10.0, 0.6), (20.0, 0.1)]);
    }

    #[test]
    fn nothing_has_no_quantile() {
        let none = Distribution::new([]);
        assert_eq!((none.count(), none.quantile(0.5), none.rank(7)), (0, None, 0.0));
        assert!(none.cdf(10).is_empty() && none.ccdf(10).is_empty());
    }

    #[test]
    fn few_points_reach_both_ends_and_the_tail() {
        let buckets: Vec<(u64, u64)> =
            (0..5_000).map(|i| (1_000 + i * i, 1 + 100_000 / (i + 1))).collect();
        let d = Distribution::new([&buckets[..]]);
        let cdf = d.cdf(120);
        assert!(cdf.len() <= 130 && cdf.len() > 40, "{}", cdf.len());
        assert_eq!((cdf[0].0, cdf[cdf.len() - 1].1), (1_000.0, 1.0));
        let ccdf = d.ccdf(120);
        assert!(ccdf.is_sorted_by(|a, b| a.1 > b.1));
        assert!(ccdf[ccdf.len() - 1].1 < 1e-4, "the tail is there: {:?}", ccdf.last());
    }
}
