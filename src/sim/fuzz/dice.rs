//! Random choices of the kinds that plans need.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// A seeded generator.
#[derive(Clone, Debug)]
pub(super) struct Dice(Xoshiro256PlusPlus);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(Xoshiro256PlusPlus::seed_from_u64(seed))
    }

    pub(super) fn any(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// From `0..bound`.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        debug_assert!(bound > 0 && bound <= 1 << 32, "{bound}");
        ((self.0.next_u64() >> 32) * bound) >> 32
    }

    /// From `low..=high`.
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// From `1..=max`, small values as likely as large ones: the magnitude is drawn first.
    pub(super) fn magnitude(&mut self, max: u64) -> u64 {
        let bits = self.between(1, u64::from(max.ilog2()) + 1);
        self.between(1, max.min((1 << bits) - 1))
    }

    /// True in so many of 1000 cases.
    pub(super) fn chance(&mut self, permille: u64) -> bool {
        self.below(1_000) < permille
    }

    pub(super) fn flag(&mut self) -> bool {
        self.chance(500)
    }

    pub(super) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_kept_and_reached() {
        let mut dice = Dice::new(1);
        let drawn: Vec<u64> = (0..1_000).map(|_| dice.between(3, 6)).collect();
        assert_eq!((drawn.iter().min(), drawn.iter().max()), (Some(&3), Some(&6)));
        let drawn: Vec<u64> = (0..5_000).map(|_| dice.magnitude(1_000)).collect();
        assert!(drawn.iter().all(|n| (1..=1_000).contains(n)));
        let small = drawn.iter().filter(|&&n| n < 32).count();
        assert!((2_000..3_500).contains(&small), "{small} of 5000 below 32");
        assert!(!dice.chance(0) && dice.chance(1_000));
    }
}
