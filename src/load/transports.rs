//! The same loads over several transports, in turns, side by side.
//!
//! On a machine whose speed changes from minute to minute a figure says little by itself. What holds is
//! the ratio of two runs of the same round: so transports run one after the other in each round, in
//! changing order, and what is shown beside the pooled figures is the median of the ratios of all
//! rounds, in Markdown with the least and the greatest.

use super::quantity::{show_count, show_digits, show_ns, show_scaled};
use super::report::{Distribution, Report};
use super::table::{Align, Style, Table};

mod rounds;

pub use rounds::Rounds;

/// One load over one transport.
#[derive(Clone, Debug)]
pub struct Contender {
    /// Its name: `homa`, `tcp`, `udp`.
    pub transport: String,
    /// What each round gave; `None` if that run failed.
    pub rounds: Vec<Option<Report>>,
}

/// One load over all of them.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its name, which files are named after.
    pub name: String,
    /// What it is.
    pub title: String,
    /// The transports, the one that others are compared with among them.
    pub contenders: Vec<Contender>,
}

/// What ratios are relative to, if it runs.
pub const REFERENCE: &str = "tcp";

/// Ratios of the same rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RoundRatio {
    /// The median.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl RoundRatio {
    /// Of what `of` says of the runs of two contenders, round by round; `None` if no round has both.
    pub fn new(one: &Contender, other: &Contender, of: impl Fn(&Report) -> f64) -> Option<Self> {
        let rounds = one.rounds.iter().zip(&other.rounds);
        Self::of(rounds.filter_map(|(one, other)| Some((of(one.as_ref()?), of(other.as_ref()?)))))
    }

    /// Of pairs of figures, one for each round; `None` without any above zero.
    fn of(both: impl Iterator<Item = (f64, f64)>) -> Option<Self> {
        let mut ratios: Vec<f64> =
            both.filter(|pair| pair.0 > 0.0 && pair.1 > 0.0).map(|pair| pair.0 / pair.1).collect();
        ratios.sort_by(f64::total_cmp);
        let (&min, &max) = ratios.first().zip(ratios.last())?;
        let half = ratios.len() / 2;
        let median = match ratios.len() % 2 {
            0 => f64::midpoint(ratios[half - 1], ratios[half]),
            _ => ratios[half],
        };
        Some(Self { median, min, max })
    }

    fn show(self, ranges: Ranges) -> String {
        let [median, min, max] = [self.median, self.min, self.max].map(show_digits);
        match ranges {
            Ranges::Shown => format!("{median} [{min}-{max}]"),
            Ranges::Hidden => median,
        }
    }
}

impl Contender {
    /// All rounds that gave something, as one report.
    pub fn pooled(&self) -> Option<Report> {
        let rounds: Vec<Report> = self.rounds.iter().flatten().cloned().collect();
        Report::pool(&rounds).ok()
    }
}

/// RPCs that failed or never came back.
fn failed(report: &Report) -> u64 {
    report.totals.failed.values().sum::<u64>() + report.totals.lost
}

/// The slowdown that a fraction `q` of all RPCs does not exceed, by the definition that is shown.
fn slowdown(report: &Report, q: f64) -> Option<f64> {
    let lists = report.by_size.iter().filter_map(|row| row.slowdowns.first());
    let all = Distribution::new(lists.map(|slowdown| &slowdown.histogram[..]));
    Some(all.quantile(q)? as f64 / 1e3)
}

/// The columns of the table and where they stand.
const COLUMNS: [(&str, Align); 12] = [
    ("load", Align::Left),
    ("over", Align::Left),
    ("RPC/s", Align::Right),
    ("Gbps", Align::Right),
    ("p50", Align::Right),
    ("p99", Align::Right),
    ("p99.9", Align::Right),
    ("slow50", Align::Right),
    ("slow99", Align::Right),
    ("failed", Align::Right),
    ("p50/TCP", Align::Right),
    ("rate/TCP", Align::Right),
];

/// Whether the least and the greatest ratio stand beside the median: a terminal is too narrow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ranges {
    Shown,
    Hidden,
}

/// Rows of all cases.
fn rows(cases: &[Case], ranges: Ranges) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for case in cases {
        let reference = case.contenders.iter().find(|one| one.transport == REFERENCE);
        for contender in &case.contenders {
            let mut row = vec![case.name.clone(), contender.transport.clone()];
            match contender.pooled() {
                None => row.extend((2..COLUMNS.len()).map(|_| "-".to_owned())),
                Some(pooled) => {
                    row.extend(figures(&pooled));
                    let other =
                        reference.filter(|reference| reference.transport != contender.transport);
                    let ratio = |of: fn(&Report) -> f64| {
                        let ratio = other.and_then(|other| RoundRatio::new(contender, other, of));
                        ratio.map_or_else(|| "-".to_owned(), |ratio| ratio.show(ranges))
                    };
                    row.push(ratio(|report| report.latency.p50_ns as f64));
                    row.push(ratio(|report| report.rates.rps));
                }
            }
            rows.push(row);
        }
    }
    rows
}

/// The figures of one transport, all rounds together.
fn figures(report: &Report) -> Vec<String> {
    let ns = |ns: u64| if report.latency.count == 0 { "-".to_owned() } else { show_ns(ns as f64) };
    let slow = |q| slowdown(report, q).map_or_else(|| "-".to_owned(), show_digits);
    vec![
        show_scaled(report.rates.rps),
        show_digits(report.rates.request_bps / 1e9),
        ns(report.latency.p50_ns),
        ns(report.latency.p99_ns),
        ns(report.latency.p99_9_ns),
        slow(0.5),
        slow(0.99),
        show_count(failed(report)),
    ]
}

/// The comparison as a table for a terminal.
pub fn render(cases: &[Case], style: Style) -> String {
    let mut table = Table::new(&COLUMNS);
    for row in rows(cases, Ranges::Hidden) {
        table.row(row);
    }
    let mut text = table.render(style);
    for case in cases {
        text += &style.faint(&format!("  {}: {}", case.name, case.title));
        text.push('\n');
    }
    text + &style.faint(NOTE)
}

const NOTE: &str = "  Gbps of requests. Ratios: median of those of the rounds\n";

/// The comparison as a table in Markdown.
pub fn to_markdown(cases: &[Case]) -> String {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut text = line(COLUMNS.iter().map(|column| column.0.to_owned()).collect());
    text += &line(
        COLUMNS
            .iter()
            .map(|column| if column.1 == Align::Left { "---" } else { "---:" }.to_owned())
            .collect(),
    );
    for row in rows(cases, Ranges::Shown) {
        text += &line(row);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::report::tests::report as sample_report;

    fn report(rps: f64, p50_ns: u64) -> Report {
        let mut report = sample_report();
        report.rates.rps = rps;
        report.latency.p50_ns = p50_ns;
        report
    }

    pub(super) fn contender(transport: &str, rounds: &[Option<(f64, u64)>]) -> Contender {
        let rounds = rounds.iter().map(|round| round.map(|(rps, p50)| report(rps, p50)));
        Contender { transport: transport.to_owned(), rounds: rounds.collect() }
    }

    #[test]
    fn ratios_are_those_of_rounds_that_both_ran() {
        let homa = contender("homa", &[Some((40.0, 1)), Some((90.0, 2)), None, Some((10.0, 4))]);
        let tcp =
            contender("tcp", &[Some((10.0, 2)), Some((30.0, 2)), Some((1.0, 1)), Some((5.0, 1))]);
        let ratio = RoundRatio::new(&homa, &tcp, |report| report.rates.rps);
        assert_eq!(ratio, Some(RoundRatio { median: 3.0, min: 2.0, max: 4.0 }));
        let ratio = RoundRatio::new(&homa, &tcp, |report| report.latency.p50_ns as f64);
        assert_eq!(ratio, Some(RoundRatio { median: 1.0, min: 0.5, max: 4.0 }));
        let nothing = contender("udp", &[None, None]);
        assert_eq!(RoundRatio::new(&nothing, &tcp, |report| report.rates.rps), None);
        assert!(nothing.pooled().is_none());
    }

    #[test]
    fn an_even_number_of_rounds_has_a_middle() {
        let homa = contender("homa", &[Some((40.0, 1)), Some((90.0, 1))]);
        let tcp = contender("tcp", &[Some((10.0, 1)), Some((10.0, 1))]);
        let ratio = RoundRatio::new(&homa, &tcp, |report| report.rates.rps).unwrap();
        assert_eq!(ratio.median, 6.5);
    }

    #[test]
    fn a_page_begins_with_the_ratios() {
        let case = |name: &str, homa: Option<(f64, u64)>| Case {
            name: name.to_owned(),
            title: String::new(),
            contenders: vec![
                contender("homa", &[homa]),
                contender("tcp", &[Some((10.0, 10))]),
                contender("udp", &[Some((5.0, 20))]),
            ],
        };
        let cases = [case("w1", Some((30.0, 5))), case("w2", None)];
        let section = Rounds::new("", &cases).section().unwrap();
        let table = section.table.as_ref().unwrap();
        assert_eq!(table.head[1..3], ["median RPC time of homa", "rate of homa"]);
        assert_eq!(table.rows[0][1..3], ["0.500 [0.500-0.500]", "3.00 [3.00-3.00]"]);
        assert_eq!(table.rows[1][1..4], ["–", "–", "2.00 [2.00-2.00]"]);
        let [time, rate] = &section.charts[..] else { panic!("{:?}", section.charts) };
        assert_eq!(time.series[0].points[0], (0.5, 0.5));
        assert!(time.series[0].points[1].1.is_nan());
        assert_eq!(rate.series[1].points[1], (1.5, 0.5));
        assert_eq!(rate.series.len(), 3, "and the line of TCP");
        let mut alone = cases[0].clone();
        alone.contenders.remove(1);
        assert_eq!(Rounds::new("", &[alone]).section(), None);
    }

    #[test]
    fn every_transport_has_a_row_also_one_that_failed() {
        let case = Case {
            name: "w3".to_owned(),
            title: "W3, 8 outstanding".to_owned(),
            contenders: vec![
                contender("homa", &[Some((30.0, 5))]),
                contender("tcp", &[Some((10.0, 10))]),
                contender("udp", &[None]),
            ],
        };
        let text = render(std::slice::from_ref(&case), Style::PLAIN);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].contains("homa") && lines[1].ends_with("3.00"), "{text}");
        assert!(lines[0].chars().count() <= crate::load::table::COLUMNS, "{text}");
        assert!(lines[2].contains("tcp") && lines[2].ends_with('-'), "{text}");
        assert!(lines[3].contains("udp") && text.contains("W3, 8 outstanding"), "{text}");
        let markdown = to_markdown(&[case]);
        assert_eq!(markdown.lines().count(), 5);
        let cells = |line: &str| line.matches('|').count();
        assert!(markdown.contains("3.00 [3.00-3.00]"), "{markdown}");
        assert!(markdown.lines().all(|line| cells(line) == COLUMNS.len() + 1), "{markdown}");
    }
}
