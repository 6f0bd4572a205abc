//! The line that is shown while a run goes on.

use super::generator::Totals;
use super::quantity::{show_count, show_digits, show_ns, show_scaled};
use super::recorder::Interval;
use super::table::Style;
use crate::time::Nanos;

/// Where the line goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LiveMode {
    /// A terminal: one line that is written over each time.
    Overwrite,
    /// A file or a pipe: a line each time.
    Lines,
    /// Nowhere.
    Silent,
}

/// Makes the live line.
#[derive(Clone, Copy, Debug)]
pub struct Live {
    mode: LiveMode,
    style: Style,
}

impl Live {
    /// A line for this place.
    pub const fn new(mode: LiveMode, style: Style) -> Self {
        Self { mode, style }
    }

    /// What to write for an `interval` of length `length` that ended `elapsed` after the start; all
    /// shards together. `totals` are those since the start.
    pub fn update(
        self,
        elapsed: Nanos,
        length: Nanos,
        interval: &Interval,
        outstanding: u32,
        totals: &Totals,
    ) -> String {
        let line = || self.line(elapsed, length, interval, outstanding, totals);
        match self.mode {
            // Back to the first column, and erase what a longer line left.
            LiveMode::Overwrite => format!("\r{}\x1b[K", line()),
            LiveMode::Lines => line() + "\n",
            LiveMode::Silent => String::new(),
        }
    }

    /// What to write after the last line, before anything else is written.
    pub const fn end(self) -> &'static str {
        match self.mode {
            LiveMode::Overwrite => "\r\x1b[K",
            LiveMode::Lines | LiveMode::Silent => "",
        }
    }

    fn line(
        self,
        elapsed: Nanos,
        length: Nanos,
        interval: &Interval,
        outstanding: u32,
        totals: &Totals,
    ) -> String {
        let per_second = |count: u64| count as f64 * 1e9 / length.0.max(1) as f64;
        let gbps = |bytes: u64| show_digits(per_second(bytes) * 8.0 / 1e9);
        let time = |q: f64| match interval.latency.len() {
            0 => "-".to_owned(),
            _ => show_ns(interval.latency.value_at_quantile(q) as f64),
        };
        let failures = totals.failures() + totals.corrupted;
        let failed = format!("{} failed", show_count(failures));
        format!(
            "{:>4.0} s {:>7}RPC/s  Gbps {:>5} out {:>5} in  p50 {:>7}  p99 {:>7}  outstanding {}  {}",
            elapsed.0 as f64 / 1e9,
            show_scaled(per_second(interval.completed)),
            gbps(interval.request_bytes),
            gbps(interval.response_bytes),
            time(0.5),
            time(0.99),
            outstanding,
            if failures > 0 { self.style.bad(&failed) } else { failed },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval() -> Interval {
        let mut interval = Interval::new();
        interval.completed = 1_020_000;
        interval.request_bytes = 1_020_000_000;
        interval.response_bytes = 102_000_000;
        for ns in 1..=1000 {
            interval.latency.saturating_record(ns * 10);
        }
        interval
    }

    const TEXT: &str = "  12 s  1.02 MRPC/s  Gbps  8.16 out 0.816 in  p50 5.02 us  p99 9.92 us  outstanding 32  0 failed";

    #[test]
    fn one_line_per_place() {
        let (totals, second) = (Totals::default(), Nanos::from_secs(1));
        let update = |mode| {
            let live = Live::new(mode, Style::PLAIN);
            live.update(Nanos::from_secs(12), second, &interval(), 32, &totals)
        };
        assert_eq!(update(LiveMode::Lines), format!("{TEXT}\n"));
        assert_eq!(update(LiveMode::Overwrite), format!("\r{TEXT}\x1b[K"));
        assert_eq!(update(LiveMode::Silent), "");
        assert!(TEXT.len() <= super::super::table::COLUMNS);
    }

    #[test]
    fn failures_stand_out_and_nothing_is_not_zero() {
        let totals = Totals { corrupted: 2, failed: [1, 0, 0, 0, 0], ..Totals::default() };
        let live = Live::new(LiveMode::Lines, Style::new(true, None));
        let line = live.update(Nanos::ZERO, Nanos::from_secs(1), &Interval::new(), 0, &totals);
        assert!(line.contains("\x1b[1;31m3 failed\x1b[0m"), "{line}");
        assert!(line.contains("p50       -  p99       -"), "{line}");
    }
}
