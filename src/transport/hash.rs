//! Seeded hashing of table keys. The seed comes from the configuration, so that runs repeat and
//! peers cannot aim at one bucket.

/// The secret of a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seed([u64; 2]);

impl Seed {
    pub(super) fn new(seed: u64) -> Self {
        // Two steps of splitmix64, so that small seeds differ in all bits.
        let step = |n: u64| {
            let z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15u64.wrapping_mul(n));
            let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^ (z >> 31)
        };
        Self([step(1), step(2) | 1])
    }

    /// Hash of two words.
    #[inline]
    pub(super) fn hash(self, a: u64, b: u64) -> u64 {
        let wide = u128::from(a ^ self.0[0]) * u128::from(b ^ self.0[1]);
        let folded = (wide >> 64) as u64 ^ wide as u64;
        // A second round: one multiplication leaves a zero factor visible.
        let wide = u128::from(folded ^ a.rotate_left(32)) * 0x9E37_79B9_7F4A_7C15;
        (wide >> 64) as u64 ^ wide as u64
    }
}
