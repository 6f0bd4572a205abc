//! Percentiles as the published curves have them: of the messages of each receiver, then averaged.
//!
//! The 99th percentile of few values is about their largest, and the mean of the largest of many small
//! samples is far below the 99th percentile of all: on W5 by a quarter. docs/SIMULATION.md, "Beside
//! the published curves", says how it was found that the published percentiles are such means.

/// Slowdowns by size and receiver: 4 bytes per message.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ByReceiver {
    /// Receivers whose messages are taken together.
    per_group: u16,
    /// By bin of size, then by group of receivers.
    bins: Vec<Vec<Vec<f32>>>,
}

impl ByReceiver {
    /// Nothing yet, in `bins` bins of size; `per_group` neighbouring receivers are taken together.
    pub(super) fn new(bins: usize, per_group: u16) -> Self {
        Self { per_group: per_group.max(1), bins: vec![Vec::new(); bins] }
    }

    pub(super) fn record(&mut self, bin: usize, receiver: u16, slowdown: f64) {
        let group = usize::from(receiver / self.per_group);
        let groups = &mut self.bins[bin];
        if group >= groups.len() {
            groups.resize(group + 1, Vec::new());
        }
        groups[group].push(slowdown as f32);
    }

    /// Takes over what another run has counted: its receivers are others.
    pub(super) fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.bins.iter_mut().zip(&other.bins) {
            mine.extend(theirs.iter().cloned());
        }
    }

    /// The mean over groups, weighted by messages, of the slowdown that a fraction `q` of the group's
    /// messages of this bin does not exceed (nearest rank); not a number without messages.
    pub(super) fn quantile(&self, bin: usize, q: f64) -> f64 {
        let (mut sum, mut count) = (0.0, 0);
        for group in self.bins[bin].iter().filter(|group| !group.is_empty()) {
            let mut sorted = group.clone();
            sorted.sort_unstable_by(f32::total_cmp);
            let rank = ((sorted.len() as f64 * q).ceil() as usize).max(1);
            sum += f64::from(sorted[rank - 1]) * sorted.len() as f64;
            count += sorted.len();
        }
        sum / count as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 100 values for receiver 0, 10 for receiver 1, 4 for receiver 2.
    fn example(per_group: u16) -> ByReceiver {
        let mut all = ByReceiver::new(2, per_group);
        (1..=100).for_each(|i| all.record(1, 0, f64::from(i)));
        (1..=10).for_each(|i| all.record(1, 1, f64::from(i) * 100.0));
        (1..=4).for_each(|i| all.record(1, 2, f64::from(i)));
        all
    }

    #[test]
    fn a_receiver_counts_by_its_messages() {
        let each = example(1);
        let expected = (99.0 * 100.0 + 1_000.0 * 10.0 + 4.0 * 4.0) / 114.0;
        assert!((each.quantile(1, 0.99) - expected).abs() < 1e-9);
        let medians = (50.0 * 100.0 + 500.0 * 10.0 + 2.0 * 4.0) / 114.0;
        assert!((each.quantile(1, 0.5) - medians).abs() < 1e-9);
        assert!(each.quantile(0, 0.5).is_nan());
    }

    #[test]
    fn receivers_are_taken_together_and_runs_are_not() {
        let mut all = example(3);
        // Rank 113 of 114.
        assert_eq!(all.quantile(1, 0.99), 900.0);
        let mut other = ByReceiver::new(2, 3);
        (0..114).for_each(|_| other.record(1, 0, 100.0));
        all.add(&other);
        assert_eq!(all.quantile(1, 0.99), 500.0);
    }
}
