//! Counts of values, quick to record in.

use hdrhistogram::{Counter, Histogram};

/// Counts by value, in the buckets of an HDR histogram with `1 << SUB_BITS` values in the first: 8 for
/// two significant digits, 11 for three. Recording is one addition; most questions
/// are asked of a histogram ([`Self::record_in`]).
#[derive(Clone, Debug)]
pub(super) struct Counts<const SUB_BITS: u32> {
    max: u64,
    total: u64,
    counts: Box<[u64]>,
}

impl<const SUB_BITS: u32> Counts<SUB_BITS> {
    /// Empty counts; values above `max` count as `max`.
    pub(super) fn new(max: u64) -> Self {
        Self { max, total: 0, counts: vec![0; Self::index(max) + 1].into() }
    }

    /// The bucket of a value: those of a magnitude are half as many as in the first, twice as wide as those
    /// below.
    #[inline]
    const fn index(value: u64) -> usize {
        let first = (1 << SUB_BITS) - 1;
        let magnitude = (u64::BITS - SUB_BITS) - (value | first).leading_zeros();
        ((magnitude as usize) << (SUB_BITS - 1)) + (value >> magnitude) as usize
    }

    /// The smallest value of a bucket, and how many it has.
    const fn bucket(index: usize) -> (u64, u64) {
        let half = 1 << (SUB_BITS - 1);
        if index < 2 * half {
            return (index as u64, 1);
        }
        let magnitude = index / half - 1;
        (((index % half + half) as u64) << magnitude, 1 << magnitude)
    }

    /// Counts a value.
    #[inline]
    pub(super) fn record(&mut self, value: u64) {
        let value = if value < self.max { value } else { self.max };
        // Always there: `max` is.
        if let Some(count) = self.counts.get_mut(Self::index(value)) {
            *count += 1;
            self.total += 1;
        }
    }

    /// How many were counted.
    pub(super) const fn len(&self) -> u64 {
        self.total
    }

    /// The middle of the bucket that holds the value which a fraction `q` of the values does not exceed; 0
    /// without values.
    pub(super) fn quantile(&self, q: f64) -> u64 {
        let rank = ((q * self.total as f64).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                let (value, width) = Self::bucket(index);
                return value + width / 2;
            }
        }
        0
    }

    /// Adds what others of the same kind counted.
    pub(super) fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.total += other.total;
    }

    /// Empties them.
    pub(super) fn reset(&mut self) {
        self.counts.fill(0);
        self.total = 0;
    }

    /// Records them in a histogram, whose buckets should be of this width.
    pub(super) fn record_in<T: Counter>(&self, histogram: &mut Histogram<T>) {
        for (index, &count) in self.counts.iter().enumerate().filter(|bucket| *bucket.1 > 0) {
            // Nobody counts so much that it does not fit.
            if let Some(count) = T::from_u64(count) {
                histogram.saturating_record_n(Self::bucket(index).0, count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The crate's own histogram is the reference.
        #[test]
        fn the_buckets_are_those_of_a_histogram(
            values in proptest::collection::vec((0_u64..40, any::<u64>()), 0..200),
        ) {
            let max = 60_000_000_000;
            let mut reference: Histogram<u64> = Histogram::new_with_bounds(1, max, 3).unwrap();
            let mut counts: Counts<11> = Counts::new(max);
            for (shift, value) in values {
                let value = (value >> 24 >> shift).min(max);
                reference.saturating_record(value);
                counts.record(value);
            }
            let mut histogram: Histogram<u64> = Histogram::new_with_bounds(1, max, 3).unwrap();
            counts.record_in(&mut histogram);
            prop_assert_eq!(&histogram, &reference);
            prop_assert_eq!(counts.len(), reference.len());
            for q in [0.5, 0.99] {
                let value = reference.median_equivalent(reference.value_at_quantile(q));
                prop_assert_eq!(counts.quantile(q), if reference.is_empty() { 0 } else { value });
            }
        }

        #[test]
        fn every_value_is_in_its_bucket(shift in 0_u32..64, value: u64) {
            let value = value >> shift;
            let (low, width) = Counts::<8>::bucket(Counts::<8>::index(value));
            prop_assert!(low <= value && value - low < width, "{value} {low} {width}");
            prop_assert!(width == 1 || width * 128 <= low);
        }
    }

    #[test]
    fn sums_and_empty_counts() {
        let mut counts: Counts<8> = Counts::new(1_000);
        assert_eq!((counts.len(), counts.quantile(0.5)), (0, 0));
        let mut others = counts.clone();
        counts.record(5);
        others.record(7);
        others.record(1 << 40);
        counts.add(&others);
        assert_eq!((counts.len(), counts.quantile(0.5)), (3, 7));
        counts.reset();
        assert_eq!((counts.len(), counts.quantile(0.5)), (0, 0));
    }
}
