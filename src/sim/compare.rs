//! A run beside the published curves, by tenths of the messages.

use super::sigcomm18::{Curve, CurvePoint, PaperLoad};
use super::tally::{Bin, Tally};

/// Bins with fewer messages are put together before percentiles are taken.
const MESSAGES_MIN: u64 = 1_000;
/// Upper ends of the lines, in percent of the messages in order of size. Published bins above 99 %
/// are noisy and not judged.
const ENDS_PCT: [f64; 11] = [10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 99.0, 100.0];
/// Lines that are judged.
const JUDGED: usize = 10;

/// Mean, p50 and p99 of the slowdown.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Slowdown {
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
}

/// A tenth of the messages. All slowdowns are means over bins of size, weighted by messages.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// From and to, in percent of the messages in order of size.
    pub range_pct: (f64, f64),
    /// Largest message of the published Homa curve here, in bytes.
    pub upper_bytes: u32,
    /// Messages of the run in it, about.
    pub messages: u64,
    /// This run, its percentiles taken as the published ones as far as it is known how.
    pub ours: Slowdown,
    /// p99 of this run with the messages of all receivers together, where `ours` is not that.
    pub p99_together: Option<f64>,
    /// Published: Homa.
    pub homa: Slowdown,
    /// Published: pFabric.
    pub pfabric: Slowdown,
    /// Published: the SRPT oracle.
    pub oracle: Slowdown,
}

/// How a run stands to the published Homa curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every value within 10 % (p99) and 5 % (p50 and the mean of all), or better.
    Passed,
    /// So many of the judged values are worse than that.
    Worse(u32),
}

/// A run beside the published curves.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// By tenths of the messages; the last tenth is cut in two at 99 %.
    pub lines: Vec<Line>,
    /// Mean over all messages: this run, and published for Homa.
    pub mean: (f64, f64),
    /// The verdict.
    pub verdict: Verdict,
}

impl Comparison {
    /// Compares what `tally` holds with the curves of `workload` ("w1" to "w5"); `None` if there are
    /// none, or if nothing was measured.
    pub fn new(tally: &Tally, workload: &str, load: PaperLoad) -> Option<Self> {
        let all = tally.all();
        let mut found = Self::of(&measured(tally), (all.count, all.mean()), workload, load)?;
        if tally.is_by_receiver() {
            let together = together(tally);
            for line in &mut found.lines {
                let (from, to) = line.range_pct;
                line.p99_together = Some(between(&together, from, to).p99);
            }
        }
        Some(found)
    }

    /// The same for a curve of which the number of messages and the mean of all are known.
    pub fn of(
        ours: &Curve,
        (messages, mean): (u64, f64),
        workload: &str,
        load: PaperLoad,
    ) -> Option<Self> {
        let published = |protocol| Curve::published(workload, protocol, load);
        let homa = published("Homa")?;
        let (pfabric, oracle) = (published("pFabric")?, published("SRPT-Oracle")?);
        if messages == 0 {
            return None;
        }
        let mut from = 0.0;
        let mut lines = Vec::new();
        for to in ENDS_PCT {
            lines.push(Line {
                range_pct: (from, to),
                upper_bytes: homa.size_at(to),
                messages: (messages as f64 * (to - from) / 100.0) as u64,
                ours: between(ours, from, to),
                p99_together: None,
                homa: between(&homa, from, to),
                pfabric: between(&pfabric, from, to),
                oracle: between(&oracle, from, to),
            });
            from = to;
        }
        let mean = (mean, between(&homa, 0.0, 100.0).mean);
        let verdict = judge(&lines, mean);
        Some(Self { lines, mean, verdict })
    }
}

/// A curve of what was measured, with percentiles of receivers if the tally has them.
pub fn measured(tally: &Tally) -> Curve {
    match tally.is_by_receiver() {
        true => curve(tally, tally.all().count),
        false => together(tally),
    }
}

/// The curve of all receivers together. Percentiles of few messages are too low at the top: bins are
/// merged.
fn together(tally: &Tally) -> Curve {
    curve(&tally.merged(MESSAGES_MIN), tally.all().count)
}

fn curve(tally: &Tally, messages: u64) -> Curve {
    let bins = tally.bins().iter().enumerate().filter(|(_, bin)| bin.count > 0);
    let point = |(index, bin): (usize, &Bin)| CurvePoint {
        upper_bytes: bin.upper_bytes,
        count_pct: 100.0 * bin.count as f64 / messages as f64,
        mean: bin.mean(),
        p50: tally.quantile(index, 0.5),
        p99: tally.quantile(index, 0.99),
    };
    Curve(bins.map(point).collect())
}

/// The part of each bin that lies between two shares of the messages, with the bin.
fn overlaps(curve: &Curve, from: f64, to: f64) -> impl Iterator<Item = (f64, &CurvePoint)> {
    let mut below = 0.0;
    curve.0.iter().filter_map(move |point| {
        let start = below;
        below += point.count_pct;
        let share = below.min(to) - start.max(from);
        (share > 1e-9).then_some((share, point))
    })
}

fn between(curve: &Curve, from: f64, to: f64) -> Slowdown {
    let (mut sum, mut weight) = (Slowdown::default(), 0.0);
    for (share, point) in overlaps(curve, from, to) {
        weight += share;
        sum.mean += share * point.mean;
        sum.p50 += share * point.p50;
        sum.p99 += share * point.p99;
    }
    Slowdown { mean: sum.mean / weight, p50: sum.p50 / weight, p99: sum.p99 / weight }
}

fn judge(lines: &[Line], mean: (f64, f64)) -> Verdict {
    let worse = |ours: f64, theirs: f64, factor: f64| u32::from(ours > theirs * factor);
    let of_lines = lines.iter().take(JUDGED).map(|line| {
        worse(line.ours.p50, line.homa.p50, 1.05) + worse(line.ours.p99, line.homa.p99, 1.10)
    });
    match of_lines.sum::<u32>() + worse(mean.0, mean.1, 1.05) {
        0 => Verdict::Passed,
        count => Verdict::Worse(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::observe::{Delivery, Observer};

    fn curve(points: &[(f64, f64)]) -> Curve {
        let point = |(index, &(count_pct, slow)): (usize, &(f64, f64))| CurvePoint {
            upper_bytes: index as u32 + 1,
            count_pct,
            mean: slow,
            p50: slow,
            p99: slow,
        };
        Curve(points.iter().enumerate().map(point).collect())
    }

    #[test]
    fn a_bin_counts_where_its_messages_are() {
        let curve = curve(&[(5.0, 1.0), (15.0, 2.0), (80.0, 4.0)]);
        assert_eq!(between(&curve, 0.0, 10.0).mean, 1.5);
        assert_eq!(between(&curve, 10.0, 20.0).p50, 2.0);
        assert_eq!(between(&curve, 10.0, 30.0).p99, 3.0);
        assert_eq!([1.0, 5.0, 12.0, 100.0].map(|pct| curve.size_at(pct)), [1, 1, 2, 3]);
    }

    /// Messages that all have the published slowdown of Homa, times `factor`.
    fn verdict(factor: f64) -> Verdict {
        let Curve(points) = Curve::published("w4", "Homa", PaperLoad::Eighty).unwrap();
        let mut tally = Tally::new(points.iter().map(|point| point.upper_bytes));
        for point in &points {
            for i in 0..(point.count_pct * 1_000.0) as u32 {
                let slowdown = if i % 50 == 0 { point.p99 } else { point.p50 } * factor;
                tally.delivered(&Delivery {
                    at_ns: 2,
                    started_ns: 1,
                    src: 0,
                    dst: 1,
                    size_bytes: point.upper_bytes,
                    slowdown,
                    measured: true,
                    intact: true,
                });
            }
        }
        Comparison::new(&tally, "w4", PaperLoad::Eighty).unwrap().verdict
    }

    #[test]
    fn the_verdict_has_a_tolerance_and_a_direction() {
        assert_eq!(verdict(1.0), Verdict::Passed);
        assert_eq!(verdict(0.5), Verdict::Passed, "better is well");
        assert_eq!(verdict(1.2), Verdict::Worse(21));
        assert!(matches!(verdict(1.07), Verdict::Worse(10..=11)), "{:?}", verdict(1.07));
    }

    /// One message in fifty is slow: four of five receivers have none.
    #[test]
    fn by_receiver_and_together_are_told_apart() {
        let mut tally = Tally::new([1_442]).by_receiver(1);
        for i in 0..10_000_u16 {
            tally.delivered(&Delivery {
                at_ns: 2,
                started_ns: 1,
                src: 0,
                dst: i / 10,
                size_bytes: 1_000,
                slowdown: if i % 50 == 0 { 11.0 } else { 1.0 },
                measured: true,
                intact: true,
            });
        }
        let found = Comparison::new(&tally, "w5", PaperLoad::Eighty).unwrap();
        let line = &found.lines[0];
        assert!((line.ours.p99 - 3.0).abs() < 1e-6, "one receiver in five has 11: {line:?}");
        assert!((line.p99_together.unwrap() - 11.0).abs() < 0.1, "{line:?}");
    }

    #[test]
    fn nothing_measured_is_not_compared() {
        assert_eq!(Comparison::new(&Tally::new([1]), "w1", PaperLoad::Half), None);
    }
}
