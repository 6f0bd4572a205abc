//! A token bucket, for what strangers can make us send.

use crate::time::Nanos;

/// Lets `rate_per_s` things pass per second on average and up to `burst` at once.
///
/// The number of tokens is kept as the time at which the bucket will be full again, so nothing
/// needs to be refilled.
#[derive(Clone, Debug)]
pub(super) struct TokenBucket {
    token_ns: u64,
    depth_ns: u64,
    full_at: Nanos,
}

impl TokenBucket {
    /// A full bucket. A rate or burst of zero lets nothing pass.
    pub(super) fn new(rate_per_s: u32, burst: u32) -> Self {
        let token_ns =
            1_000_000_000_u64.checked_div(u64::from(rate_per_s)).unwrap_or(u64::MAX).max(1);
        let depth_ns = if rate_per_s == 0 { 0 } else { token_ns.saturating_mul(u64::from(burst)) };
        Self { token_ns, depth_ns, full_at: Nanos::ZERO }
    }

    /// Takes a token if there is one.
    pub(super) fn take(&mut self, now: Nanos) -> bool {
        let full_at = self.full_at.max(now) + Nanos(self.token_ns);
        let allowed = full_at.since(now).0 <= self.depth_ns;
        if allowed {
            self.full_at = full_at;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(bucket: &mut TokenBucket, now: Nanos, tries: usize) -> usize {
        (0..tries).filter(|_| bucket.take(now)).count()
    }

    #[test]
    fn a_burst_then_the_rate() {
        let mut bucket = TokenBucket::new(1_000, 5);
        let start = Nanos::from_secs(10);
        assert_eq!(taken(&mut bucket, start, 20), 5);
        assert_eq!(taken(&mut bucket, start + Nanos(999_999), 20), 0);
        assert_eq!(taken(&mut bucket, start + Nanos::from_ms(1), 20), 1);
        assert_eq!(taken(&mut bucket, start + Nanos::from_ms(4), 20), 3);
        assert_eq!(taken(&mut bucket, start + Nanos::from_secs(9), 20), 5);
    }

    #[test]
    fn the_first_and_the_last_moment() {
        let mut bucket = TokenBucket::new(1_000, 5);
        assert_eq!(taken(&mut bucket, Nanos::ZERO, 20), 5);
        // Time does not go back; if it did, nothing would pass that would not have passed before.
        assert_eq!(taken(&mut bucket, Nanos::from_secs(9), 20), 5);
        assert_eq!(taken(&mut bucket, Nanos::from_secs(8), 20), 0);
    }

    #[test]
    fn zero_lets_nothing_pass() {
        for (rate_per_s, burst) in [(0, 5), (5, 0), (0, 0), (u32::MAX, 0)] {
            let mut bucket = TokenBucket::new(rate_per_s, burst);
            assert_eq!(taken(&mut bucket, Nanos::from_secs(1), 20), 0, "{rate_per_s} {burst}");
        }
    }
}
