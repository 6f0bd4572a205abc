//! Putting the rounds of one measurement together.

use super::{Report, ReportError, WindowsReport};

impl Report {
    /// One report of several runs of the same load that came one after the other: what is counted is
    /// added up, rates are those of the whole measured time, percentiles those of all RPCs, and windows
    /// follow each other.
    ///
    /// # Errors
    /// As [`Report::merge`].
    pub fn pool(rounds: &[Self]) -> Result<Self, ReportError> {
        let mut pooled = Self::merge(rounds)?;
        let Some(first) = rounds.first() else { return Ok(pooled) };
        pooled.config.shards = first.config.shards;
        pooled.config.load.clone_from(&first.config.load);
        pooled.machine.clone_from(&first.machine);
        let measured_ns: u64 = rounds.iter().map(|round| round.totals.measured_ns).sum();
        let mean = |rate: fn(&Self) -> f64| {
            let of_round = |round: &Self| rate(round) * round.totals.measured_ns as f64;
            rounds.iter().map(of_round).sum::<f64>() / measured_ns.max(1) as f64
        };
        pooled.rates.rps = mean(|round| round.rates.rps);
        pooled.rates.request_bps = mean(|round| round.rates.request_bps);
        pooled.rates.response_bps = mean(|round| round.rates.response_bps);
        pooled.totals.measured_ns = measured_ns;
        let peaks = rounds.iter().map(|round| round.totals.outstanding_peak);
        pooled.totals.outstanding_peak = peaks.max().unwrap_or(0);
        pooled.windows = WindowsReport { window_ns: first.windows.window_ns, ..<_>::default() };
        for windows in rounds.iter().map(|round| &round.windows) {
            let all = &mut pooled.windows;
            all.krps_and_median_ns.extend(&windows.krps_and_median_ns);
            all.p99_ns.extend(&windows.p99_ns);
            all.request_and_response_bps.extend(&windows.request_and_response_bps);
            all.outstanding.extend(&windows.outstanding);
        }
        Ok(pooled)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::report;

    use super::*;

    #[test]
    fn rounds_are_one_long_run() {
        let (one, mut two) = (report(), report());
        two.rates.rps = one.rates.rps * 3.0;
        let pooled = Report::pool(&[one.clone(), two]).unwrap();
        assert_eq!(pooled.totals.measured_ns, 2 * one.totals.measured_ns);
        assert_eq!(pooled.totals.sent, 2 * one.totals.sent);
        assert!((pooled.rates.rps / one.rates.rps - 2.0).abs() < 1e-9, "{:?}", pooled.rates);
        assert_eq!(pooled.latency.count, 2 * one.latency.count);
        assert_eq!(pooled.latency.p50_ns, one.latency.p50_ns);
        let windows = one.windows.krps_and_median_ns.len();
        assert_eq!(pooled.windows.krps_and_median_ns.len(), 2 * windows);
        assert_eq!((pooled.config.shards, pooled.machine), (one.config.shards, one.machine));
        assert!(Report::pool(&[]).is_err());
    }
}
