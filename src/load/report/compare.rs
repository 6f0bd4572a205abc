//! Two reports beside each other: what differs by more than chance.
//!
//! A percentile of a run is an estimate. If RPCs were independent of each other, how far it may be off
//! followed from their number alone. They are not: a queue, or a neighbour on the machine, makes many in a
//! row slow. How much more a run wavers than independent RPCs would, its windows show: the median of
//! each window has a rank among all RPCs of the run; from windows of `n` independent RPCs, these ranks
//! would spread by `1 / (2 √n)` around the middle. The ratio of the real spread (the variance) to that is
//! taken of single windows and of longer stretches, and the largest counts. All intervals are as if the
//! run had so many times fewer RPCs. Of a size class with a share of the RPCs, fewer lie close together: its
//! part of the excess is that share, as in samples of clusters (the design effect of Kish).
//!
//! What changes from run to run and not within one (where memory lies, how a virtual machine is placed)
//! is not in these intervals: compare two runs of the same thing to see it.

use super::{Distribution, NamedReport, Report, SizeReport};
use crate::load::quantity::{show_bytes, show_count, show_ns, show_scaled};
use crate::load::table::{Align, Style, Table, field};

/// Standard deviations that a difference must exceed. About 40 values are compared; with three, one
/// in ten comparisons of equal things names one of them.
const DEVIATIONS: f64 = 3.0;
/// Stretches of windows whose spread is looked at: halves of it make no spread.
const STRETCHES_MIN: usize = 8;
/// RPCs beyond a percentile that it needs to mean anything.
const BEYOND_MIN: f64 = 10.0;
/// What is compared of each distribution.
const QUANTILES: [(f64, &str); 3] = [(0.5, "p50"), (0.99, "p99"), (0.999, "p99.9")];

/// How to compare.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CompareOptions {
    /// Differences below this share do not count, however certain: 0.05 for 5 %.
    pub least: f64,
}

impl Default for CompareOptions {
    fn default() -> Self {
        Self { least: 0.05 }
    }
}

/// How the second of two values is to the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing beyond noise.
    Same,
    /// Better than noise explains.
    Better,
    /// Worse than noise explains.
    Worse,
    /// Too few RPCs, or too few that are independent of each other, to say.
    Unknown,
}

/// A value of both.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Of what: a range of sizes, `all sizes`, or the rate.
    pub of: String,
    /// Which value of it.
    pub value: &'static str,
    /// Of the first and the second: a time in ns, or RPCs per second.
    pub values: (f64, f64),
    /// Second by first.
    pub ratio: f64,
    /// The ratio may be off by this factor; infinite if that cannot be said.
    pub noise: f64,
    /// What that means.
    pub verdict: Verdict,
}

impl Difference {
    fn unknown(of: &str, value: &'static str, values: (f64, f64)) -> Self {
        let ratio = if values.0 > 0.0 { values.1 / values.0 } else { 0.0 };
        let (of, verdict) = (of.to_owned(), Verdict::Unknown);
        Self { of, value, values, ratio, noise: f64::INFINITY, verdict }
    }
}

/// Two reports compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Names of the first and the second.
    pub names: (String, String),
    /// By size and percentile, then of all sizes, then the rate.
    pub differences: Vec<Difference>,
    /// How many times fewer independent RPCs each is worth; `None` without windows.
    pub dependence: (Option<f64>, Option<f64>),
    /// Why the two may not be comparable, and other reservations.
    pub remarks: Vec<String>,
}

impl Comparison {
    /// Compares the second with the first.
    pub fn new(first: &NamedReport, second: &NamedReport, options: CompareOptions) -> Self {
        let (a, b) = (&first.report, &second.report);
        let dependence = (dependence(a), dependence(b));
        let weights = (dependence.0.unwrap_or(1.0), dependence.1.unwrap_or(1.0));
        let mut remarks = remarks(a, b);
        for (name, dependence) in [(&first.name, dependence.0), (&second.name, dependence.1)] {
            if dependence.is_none() {
                remarks.push(format!(
                    "{name} has too few windows to tell how much it wavers: its noise is understated"
                ));
            }
        }
        let mut differences = Vec::new();
        let class = |row: &SizeReport| (row.min_bytes, row.max_bytes);
        if a.by_size.len() > 1 && a.by_size.iter().map(class).eq(b.by_size.iter().map(class)) {
            for (ours, theirs) in a.by_size.iter().zip(&b.by_size) {
                let of = range(ours);
                let pair = (Distribution::of_class(ours), Distribution::of_class(theirs));
                let of_class = |weight: f64, class: &SizeReport, all: &Report| {
                    let share = class.latency.count as f64 / all.latency.count.max(1) as f64;
                    1.0 + (weight - 1.0) * share
                };
                let weights = (of_class(weights.0, ours, a), of_class(weights.1, theirs, b));
                differences.extend(times(&of, &pair, weights, options));
            }
        }
        let pair = (Distribution::of_latency(a), Distribution::of_latency(b));
        differences.extend(times("all sizes", &pair, weights, options));
        differences.push(rate(a, b, options));
        let names = (first.name.clone(), second.name.clone());
        Self { names, differences, dependence, remarks }
    }

    /// The worst of all verdicts: worse, else better, else the same.
    pub fn verdict(&self) -> Verdict {
        let any = |verdict| self.differences.iter().any(|found| found.verdict == verdict);
        [Verdict::Worse, Verdict::Better, Verdict::Same]
            .into_iter()
            .find(|&verdict| any(verdict))
            .unwrap_or(Verdict::Unknown)
    }

    /// The comparison as text for a terminal.
    pub fn render(&self, style: Style) -> String {
        let (first, second) = &self.names;
        let mut text = format!("{}  {second} against {first}\n", style.title("homa-load compare"));
        for remark in &self.remarks {
            text += &field(style, "note", &style.bad(remark));
        }
        let worth = |dependence: Option<f64>| {
            dependence.map_or_else(|| "unknown".to_owned(), |times| format!("1 in {times:.1}"))
        };
        text += &field(
            style,
            "noise",
            &format!(
                "± is three standard deviations; RPCs that count as independent: {} of {first}, {} of {second}",
                worth(self.dependence.0),
                worth(self.dependence.1)
            ),
        );
        text + "\n" + &self.table(style) + "\n" + &self.conclusion(style)
    }

    fn table(&self, style: Style) -> String {
        let right = Align::Right;
        let (first, second) = &self.names;
        let mut table = Table::new(&[
            ("request", right),
            ("", Align::Left),
            (first, right),
            (second, right),
            ("ratio", right),
            ("±", right),
            ("", Align::Bar),
        ]);
        let mut last = "";
        for found in &self.differences {
            let show = |value: f64| match found.value {
                "RPC/s" => show_scaled(value).trim().to_owned(),
                _ => show_ns(value),
            };
            let is_there = found.values.0 > 0.0 && found.values.1 > 0.0;
            let known = |text: String| if is_there { text } else { "-".to_owned() };
            let noise = match found.noise.is_finite() {
                true => format!("{:.1}%", (found.noise - 1.0) * 100.0),
                false => "-".to_owned(),
            };
            table.row(vec![
                if last == found.of { String::new() } else { found.of.clone() },
                found.value.to_owned(),
                known(show(found.values.0)),
                known(show(found.values.1)),
                known(format!("{:.3}", found.ratio)),
                noise,
                match found.verdict {
                    Verdict::Same => String::new(),
                    Verdict::Better => "better".to_owned(),
                    Verdict::Worse => "WORSE".to_owned(),
                    Verdict::Unknown => "cannot tell".to_owned(),
                },
            ]);
            last = &found.of;
        }
        table.render(style)
    }

    fn conclusion(&self, style: Style) -> String {
        let list = |verdict| {
            let found = self.differences.iter().filter(|found| found.verdict == verdict);
            found.map(|found| format!("{} of {}", found.value, found.of)).collect::<Vec<_>>()
        };
        let (worse, better) = (list(Verdict::Worse), list(Verdict::Better));
        let (first, second) = &self.names;
        let mut text = String::new();
        if !worse.is_empty() {
            text += &field(style, "worse", &style.bad(&worse.join(", ")));
        }
        if !better.is_empty() {
            text += &field(style, "better", &style.good(&better.join(", ")));
        }
        text + &match self.verdict() {
            Verdict::Worse => {
                let plural = if worse.len() == 1 { "" } else { "s" };
                format!("{second} is worse than {first} in {} value{plural}.\n", worse.len())
            }
            Verdict::Better => format!("{second} is better than {first}, and worse in nothing.\n"),
            Verdict::Same => format!("No difference between {first} and {second} beyond noise.\n"),
            Verdict::Unknown => "Too few RPCs to say anything.\n".to_owned(),
        }
    }
}

fn range(row: &SizeReport) -> String {
    let (min, max) = (show_bytes(row.min_bytes.into()), show_bytes(row.max_bytes.into()));
    if min == max { max } else { format!("{min} – {max}") }
}

/// What about the runs themselves differs, and should not.
fn remarks(a: &Report, b: &Report) -> Vec<String> {
    let pairs = [
        ("workloads", &a.config.workload, &b.config.workload),
        ("loads", &a.config.load, &b.config.load),
        ("processors", &a.machine.cpu, &b.machine.cpu),
    ];
    let mut remarks: Vec<String> = pairs
        .into_iter()
        .filter(|(_, ours, theirs)| ours != theirs)
        .map(|(what, ours, theirs)| format!("different {what}: {ours} / {theirs}"))
        .collect();
    let failed = |report: &Report| {
        let totals = &report.totals;
        totals.failed.values().sum::<u64>() + totals.corrupted + totals.lost + totals.never_sent
    };
    let (ours, theirs) = (failed(a), failed(b));
    if ours + theirs > 0 {
        remarks.push(format!(
            "RPCs without a time, because they failed or were not sent: {} / {}",
            show_count(ours),
            show_count(theirs)
        ));
    }
    remarks
}

fn times(
    of: &str,
    pair: &(Distribution, Distribution),
    weights: (f64, f64),
    options: CompareOptions,
) -> Vec<Difference> {
    let one = |(q, value): (f64, &'static str)| {
        let at = |times: &Distribution| times.quantile(q).map_or(0.0, |ns| ns.max(1) as f64);
        let values = (at(&pair.0), at(&pair.1));
        match (deviation(&pair.0, q, weights.0), deviation(&pair.1, q, weights.1)) {
            (Some(ours), Some(theirs)) => {
                judged(of, value, values, ours.hypot(theirs) * DEVIATIONS, options, true)
            }
            _ => Difference::unknown(of, value, values),
        }
    };
    QUANTILES.into_iter().map(one).collect()
}

/// The standard deviation of the logarithm of a percentile if `dependence` RPCs are worth one; `None` with
/// too few.
fn deviation(times: &Distribution, q: f64, dependence: f64) -> Option<f64> {
    let independent = times.count() as f64 / dependence.max(1.0);
    if independent * (1.0 - q).min(q) < BEYOND_MIN {
        return None;
    }
    let deviation = (q * (1.0 - q) / independent).sqrt();
    let at = |q: f64| times.quantile(q.clamp(0.0, 1.0)).map(|ns| ns.max(1) as f64);
    let (low, high) = (at(q - deviation)?, at(q + deviation)?);
    Some((high / low).ln() / 2.0)
}

/// Completed RPCs per second; the windows show how much they waver.
fn rate(a: &Report, b: &Report, options: CompareOptions) -> Difference {
    let deviation = |report: &Report| {
        let krps: Vec<f64> =
            report.windows.krps_and_median_ns.iter().map(|window| window.0).collect();
        deviation_of_mean(&krps)
    };
    let values = (a.rates.rps, b.rates.rps);
    match (deviation(a), deviation(b)) {
        (Some(ours), Some(theirs)) if values.0 > 0.0 && values.1 > 0.0 => {
            judged("all sizes", "RPC/s", values, ours.hypot(theirs) * DEVIATIONS, options, false)
        }
        _ => Difference::unknown("all sizes", "RPC/s", values),
    }
}

fn judged(
    of: &str,
    value: &'static str,
    values: (f64, f64),
    noise: f64,
    options: CompareOptions,
    less_is_better: bool,
) -> Difference {
    let ratio = values.1 / values.0;
    let differs = ratio.ln().abs() > noise.max(options.least.ln_1p());
    let verdict = match (differs, (ratio < 1.0) == less_is_better) {
        (false, _) => Verdict::Same,
        (true, true) => Verdict::Better,
        (true, false) => Verdict::Worse,
    };
    Difference { of: of.to_owned(), value, values, ratio, noise: noise.exp(), verdict }
}

/// The relative standard deviation of the mean of a series whose neighbours may be alike, or make up for
/// each other: that of the means of long stretches.
fn deviation_of_mean(values: &[f64]) -> Option<f64> {
    let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
    if values.len() < STRETCHES_MIN || mean <= 0.0 {
        return None;
    }
    let length = stretches(values.len()).last().unwrap_or(1);
    let means: Vec<f64> = values
        .chunks_exact(length)
        .map(|chunk| chunk.iter().sum::<f64>() / length as f64)
        .collect();
    let squares = means.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
    let count = means.len() as f64;
    Some((squares / (count - 1.0) / count).sqrt() / mean)
}

/// How many RPCs of a run are worth one that is independent of the others, at least 1; `None` with too few
/// windows.
fn dependence(report: &Report) -> Option<f64> {
    let all = Distribution::of_latency(report);
    let window_s = report.windows.window_ns as f64 / 1e9;
    let windows: Vec<(f64, f64)> = report
        .windows
        .krps_and_median_ns
        .iter()
        .filter(|window| window.1 > 0)
        .map(|&(krps, median_ns)| (krps * 1e3 * window_s, all.rank(median_ns) - 0.5))
        .collect();
    if windows.len() < STRETCHES_MIN || all.count() == 0 {
        return None;
    }
    let of_stretches = stretches(windows.len()).map(|length| {
        let ratios = windows.chunks_exact(length).map(|chunk| {
            let rpcs: f64 = chunk.iter().map(|window| window.0).sum();
            let rank = chunk.iter().map(|window| window.0 * window.1).sum::<f64>() / rpcs.max(1.0);
            // Over that of independent ones, 1 / 4n.
            4.0 * rpcs * rank * rank
        });
        let (sum, count) =
            ratios.fold((0.0, 0.0), |(sum, count), ratio| (sum + ratio, count + 1.0));
        sum / count
    });
    Some(of_stretches.fold(1.0, f64::max))
}

/// Lengths of stretches of `count` windows: 1, 2, 4 … while there are enough of them.
fn stretches(count: usize) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(1), |length| Some(length * 2))
        .take_while(move |length| count / length >= STRETCHES_MIN)
}

#[cfg(test)]
mod tests {
    use rand_xoshiro::Xoshiro256PlusPlus;
    use rand_xoshiro::rand_core::{Rng, SeedableRng};

    use super::*;
    use crate::load::report::tests::report;
    use crate::load::report::{Percentiles, WindowsReport};

    /// Windows of 500 RPCs. Times are exponential around 100 us times a factor that changes every
    /// `stretch` windows by up to `swing`.
    fn run(name: &str, seed: u64, mean_ns: f64, swing: f64, stretch: usize) -> NamedReport {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut uniform = || (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        let mut report = report();
        report.by_size.truncate(1);
        let (mut all, mut windows, mut factor) = (Vec::new(), Vec::new(), 1.0);
        for window in 0..400 {
            if window % stretch == 0 {
                factor = 1.0 + swing * uniform();
            }
            let mut times: Vec<u64> = (0..500)
                .map(|_| 1_000 + (-(1.0 - uniform()).ln() * mean_ns * factor) as u64 / 100 * 100)
                .collect();
            times.sort_unstable();
            windows.push((100.0 + uniform(), times[250]));
            all.extend(times.into_iter().map(|ns| (ns, 1)));
        }
        report.by_size[0].histogram = all;
        report.by_size[0].latency = Percentiles { count: 200_000, ..Percentiles::default() };
        report.windows = WindowsReport {
            window_ns: 5_000_000,
            krps_and_median_ns: windows,
            ..WindowsReport::default()
        };
        NamedReport { name: name.to_owned(), report }
    }

    fn verdicts(a: &NamedReport, b: &NamedReport) -> Vec<(&'static str, Verdict)> {
        let compared = Comparison::new(a, b, CompareOptions { least: 0.0 });
        compared.differences.iter().map(|found| (found.value, found.verdict)).collect()
    }

    #[test]
    fn independent_rpcs_are_worth_what_they_are() {
        let worth = dependence(&run("a", 1, 100e3, 0.0, 1).report).unwrap();
        assert!((1.0..2.0).contains(&worth), "{worth}");
        let worth = dependence(&run("a", 1, 100e3, 0.5, 1).report).unwrap();
        assert!(worth > 3.0, "windows that waver: {worth}");
        let long = dependence(&run("a", 1, 100e3, 0.5, 25).report).unwrap();
        assert!(long > 4.0 * worth, "and for longer: {long}");
    }

    #[test]
    fn equal_runs_do_not_differ_even_when_they_waver() {
        for seed in 0..10 {
            let (a, b) = (run("a", seed, 100e3, 0.4, 20), run("b", seed + 100, 100e3, 0.4, 20));
            let found = verdicts(&a, &b);
            let differs = |verdict| matches!(verdict, Verdict::Better | Verdict::Worse);
            assert!(!found.iter().any(|found| differs(found.1)), "seed {seed}: {found:?}");
        }
    }

    #[test]
    fn real_differences_are_named_in_both_directions() {
        let (a, b) = (run("a", 1, 100e3, 0.0, 1), run("b", 2, 110e3, 0.0, 1));
        let names = ["p50", "p99"];
        let of = |found: &[(&'static str, Verdict)], verdict| {
            names.iter().all(|name| found.contains(&(*name, verdict)))
        };
        assert!(of(&verdicts(&a, &b), Verdict::Worse), "{:?}", verdicts(&a, &b));
        assert!(of(&verdicts(&b, &a), Verdict::Better));
        // What is certain and small does not count if asked not to.
        let compared = Comparison::new(&a, &b, CompareOptions { least: 0.2 });
        assert_eq!(compared.verdict(), Verdict::Same);
        let text = Comparison::new(&a, &b, CompareOptions::default()).render(Style::PLAIN);
        assert!(text.contains("b is worse than a"), "{text}");
        assert!(text.contains("worse      p50 of all sizes, p99 of all sizes"), "{text}");
    }

    #[test]
    fn a_rate_that_falls_is_worse() {
        let (a, mut b) = (run("a", 1, 100e3, 0.0, 1), run("b", 1, 100e3, 0.0, 1));
        b.report.rates.rps *= 0.8;
        let found = verdicts(&a, &b);
        assert_eq!(found.last(), Some(&("RPC/s", Verdict::Worse)), "{found:?}");
    }

    #[test]
    fn few_rpcs_say_nothing_and_other_loads_are_remarked() {
        let (a, mut b) = (run("a", 1, 100e3, 0.0, 1), run("b", 1, 100e3, 0.0, 1));
        b.report.by_size[0].histogram.truncate(40);
        b.report.config.load = "another".into();
        b.report.windows.krps_and_median_ns.truncate(3);
        let compared = Comparison::new(&a, &b, CompareOptions::default());
        let p999 = compared.differences.iter().find(|found| found.value == "p99.9").unwrap();
        assert_eq!(p999.verdict, Verdict::Unknown);
        assert!(compared.remarks.iter().any(|text| text.starts_with("different loads")));
        assert!(compared.remarks.iter().any(|text| text.contains("too few windows")));
        assert!(compared.render(Style::PLAIN).contains("cannot tell"));
    }

    #[test]
    fn a_comparison_has_all_sizes() {
        let a = NamedReport { name: "a".into(), report: report() };
        let compared = Comparison::new(&a, &a, CompareOptions::default());
        assert_eq!(compared.differences.len(), 3 * 11 + 1);
        assert_eq!(compared.verdict(), Verdict::Same);
        let text = compared.render(Style::PLAIN);
        assert!(text.contains("53 B – 315 B") && text.contains("No difference"), "{text}");
    }
}
