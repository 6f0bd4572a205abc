//! Size classes: the rows of a table of latency by message size.

use super::workload::Workload;

/// Consecutive ranges of message sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SizeClasses {
    min_bytes: u32,
    /// The longest message of each class, rising.
    max_bytes: Box<[u32]>,
}

impl SizeClasses {
    /// Classes that hold a tenth of the messages each, as near as the steps of the distribution
    /// allow: a step that holds several tenths (as a fixed size does) is one class.
    pub fn deciles(workload: &Workload) -> Self {
        let mut max_bytes: Vec<u32> =
            (1..=10).map(|tenth| workload.quantile(f64::from(tenth) / 10.0)).collect();
        max_bytes.dedup();
        Self { min_bytes: workload.min_bytes(), max_bytes: max_bytes.into() }
    }

    /// A class for each power of two: above one up to the next, from the first that holds `min_bytes`
    /// to the last that holds `max_bytes`.
    pub fn powers_of_two(min_bytes: u32, max_bytes: u32) -> Self {
        let (min_bytes, max_bytes) = (min_bytes.min(max_bytes), max_bytes);
        let first = min_bytes.max(1).checked_next_power_of_two();
        let mut uppers: Vec<u32> = std::iter::successors(first, |upper| upper.checked_mul(2))
            .take_while(|&upper| upper < max_bytes)
            .collect();
        uppers.push(max_bytes);
        Self { min_bytes, max_bytes: uppers.into() }
    }

    /// How many classes there are; at least one.
    #[expect(clippy::len_without_is_empty, reason = "there is always a class")]
    pub const fn len(&self) -> usize {
        self.max_bytes.len()
    }

    /// The class of a message; one above the last class counts as of that.
    #[inline]
    pub fn class_of(&self, size_bytes: u32) -> usize {
        let last = self.max_bytes.len() - 1;
        self.max_bytes[..last].partition_point(|&max| max < size_bytes)
    }

    /// The shortest and the longest message of a class.
    pub fn range(&self, class: usize) -> (u32, u32) {
        let min = match class {
            0 => self.min_bytes,
            _ => self.max_bytes[class - 1] + 1,
        };
        (min, self.max_bytes[class])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tenths_of_a_workload() {
        let w4 = Workload::embedded("w4").unwrap();
        let classes = SizeClasses::deciles(&w4);
        assert_eq!(classes.len(), 10);
        assert_eq!((classes.range(0), classes.range(9).1), ((53, 315), 10_000_000));
        for class in 0..10 {
            let (min, max) = classes.range(class);
            let share = w4.share_at_most(max) - w4.share_at_most(min - 1);
            assert!((share - 0.1).abs() < 0.01, "class {class} holds {share}");
        }
    }

    #[test]
    fn a_step_of_several_tenths_is_one_class() {
        let w = Workload::from_csv("t", "10,0.45\n20,0.5\n30,1").unwrap();
        let classes = SizeClasses::deciles(&w);
        let ranges: Vec<_> = (0..classes.len()).map(|class| classes.range(class)).collect();
        assert_eq!(ranges, [(10, 10), (11, 20), (21, 30)]);
        let fixed = SizeClasses::deciles(&Workload::fixed(100).unwrap());
        assert_eq!((fixed.len(), fixed.range(0)), (1, (100, 100)));
    }

    #[test]
    fn powers_of_two() {
        let classes = SizeClasses::powers_of_two(3, 20);
        let ranges: Vec<_> = (0..classes.len()).map(|class| classes.range(class)).collect();
        assert_eq!(ranges, [(3, 4), (5, 8), (9, 16), (17, 20)]);
        assert_eq!(SizeClasses::powers_of_two(1, u32::MAX).len(), 33);
        assert_eq!(SizeClasses::powers_of_two(u32::MAX, u32::MAX).len(), 1);
        assert_eq!(SizeClasses::powers_of_two(8, 8).range(0), (8, 8));
    }

    proptest! {
        #[test]
        fn every_size_is_in_its_class(min in 1_u32..1000, max in 1000_u32..2_000_000, at in 0.0..1.0) {
            let classes = SizeClasses::powers_of_two(min, max);
            let size = min + (f64::from(max - min) * at) as u32;
            let (low, high) = classes.range(classes.class_of(size));
            prop_assert!(low <= size && size <= high);
            prop_assert_eq!(classes.class_of(u32::MAX), classes.len() - 1);
        }
    }
}
