//! Charts of runs of one workload.

use super::{NamedReport, Report, shown_time};
use crate::load::quantity::{show_bytes, show_count, show_digits};
use crate::load::report::{Distribution, SizeReport};
use crate::load::slowdown::BestCase;
use crate::report::{Axis, Chart, Section, Series, Table, average, thinned};

/// Runs of one workload, with the same size classes.
pub(super) struct Group<'a> {
    pub(super) runs: Vec<&'a NamedReport>,
}

/// Points of a line at most: of a distribution, over time.
const POINTS: usize = 240;
const TIME_POINTS: usize = 80;
/// Runs this many times as long as others are drawn over parts of their time.
const LENGTHS_RATIO: f64 = 3.0;
/// Slowdowns all above this are drawn without the way from 1.
const FAR: f64 = 20.0;
/// How the line of an idle system looks.
const IDLE_STYLE: usize = 3;
/// The last of the windows may be short of completions; fewer than these are no line over time.
const WINDOWS_MIN: usize = 3;

impl Group<'_> {
    pub(super) fn sections(&self) -> Vec<Section> {
        let first = &self.runs[0].report;
        let mut sections = vec![self.by_size(first), self.distribution()];
        sections.extend(self.over_time());
        sections
    }

    pub(super) fn heading(&self, what: &str) -> String {
        format!("{}: {what}", super::short_workload(&self.runs[0].report))
    }

    fn series(&self, points: impl Fn(&Report) -> Vec<(f64, f64)>) -> Vec<Series> {
        let series = self.runs.iter().enumerate().map(|(style, run)| Series {
            name: run.name.clone(),
            points: points(&run.report),
            style,
        });
        series.collect()
    }

    // ---- by size -----------------------------------------------------------------------------

    fn by_size(&self, first: &Report) -> Section {
        let mut section = Section {
            heading: self.heading("latency by size"),
            table: Some(self.size_table(first)),
            ..Section::default()
        };
        if first.by_size.len() < 2 {
            return section;
        }
        let (note, best) = self.best_case();
        section.text.push(format!(
            "Across, each tenth of the messages has the same room, however short they are. Slowdown: {note}."
        ));
        for (what, is_median) in [("median", true), ("99th percentile", false)] {
            let value = |row: &SizeReport, _: usize| {
                let ns = if is_median { row.latency.p50_ns } else { row.latency.p99_ns };
                (row.latency.count > 0).then_some(ns as f64)
            };
            let series = self.series(|report| size_points(report, value));
            let y = time_axis("RPC time", &series, |point| point.1);
            section.charts.push(self.size_chart(format!("RPC time by size, {what}"), y, series));
        }
        for (what, q) in [("median", 0.5), ("99th percentile", 0.99)] {
            let value = |row: &SizeReport, class: usize| slowdown(row, q, best.get(class).copied());
            let mut series = self.series(|report| size_points(report, value));
            let (low, high) = span(&series, |point| point.1).unwrap_or((1.0, 2.0));
            let low = if low > FAR && !is_baseline(first) { low } else { low.min(1.0) };
            if best.is_empty() && is_baseline(first) {
                series.push(Series::reference(
                    "idle: 1",
                    IDLE_STYLE,
                    vec![(0.0, 1.0), (100.0, 1.0)],
                ));
            }
            let y = log_axis("slowdown", low, high.max(2.0));
            section.charts.push(self.size_chart(format!("Slowdown by size, {what}"), y, series));
        }
        section
    }

    fn size_chart(&self, title: String, y: Axis, series: Vec<Series>) -> Chart {
        let first = &self.runs[0].report;
        let x = Axis::linear(
            "size of the request; between two ticks lie 10 % of the messages",
            0.0,
            100.0,
        )
        .with_ticks(size_ticks(first));
        let is_alike = self.runs.iter().all(|run| run.report.config.load == first.config.load);
        let note = if is_alike { first.config.load.as_str() } else { "each run at its own load" };
        Chart { title, note: note.to_owned(), x, y, series }
    }

    /// What slowdown is relative to here, in words, and by size class where it is not that of the
    /// reports themselves.
    fn best_case(&self) -> (String, Vec<f64>) {
        let first = &self.runs[0].report.slowdown_definition;
        let is_least_seen = *first == BestCase::LeastSeen.to_string();
        let is_alike = self.runs.iter().all(|run| run.report.slowdown_definition == *first);
        if self.runs.len() == 1 || is_alike && !is_least_seen {
            return (first.clone(), Vec::new());
        }
        let least = |class: usize| {
            let times = self.runs.iter().map(|run| &run.report.by_size[class].latency);
            let least = times.filter(|times| times.count > 0).map(|times| times.min_ns).min();
            least.unwrap_or(0).max(1) as f64
        };
        let classes = self.runs[0].report.by_size.len();
        let text = "RPC time / shortest of its size class in any of these runs";
        (text.to_owned(), (0..classes).map(least).collect())
    }

    /// A line for each size class and run.
    fn size_table(&self, first: &Report) -> Table {
        let (_, best) = self.best_case();
        let is_alone = self.runs.len() == 1;
        let mut head: Vec<String> =
            ["request", "run", "RPCs", "p50", "p99", "p99.9", "longest", "slowdown p50", "p99"]
                .map(String::from)
                .to_vec();
        let mut rows = Vec::new();
        for class in 0..first.by_size.len() {
            for (index, run) in self.runs.iter().enumerate() {
                let row = &run.report.by_size[class];
                let slow = |q| match slowdown(row, q, best.get(class).copied()) {
                    Some(value) => show_digits(value),
                    None => "–".to_owned(),
                };
                let times = &row.latency;
                let mut cells = vec![if index == 0 { range(row) } else { String::new() }];
                cells.extend([run.name.clone(), show_count(times.count)]);
                cells.extend(
                    [times.p50_ns, times.p99_ns, times.p99_9_ns, times.max_ns]
                        .map(|ns| shown_time(times, ns)),
                );
                cells.extend([slow(0.5), slow(0.99)]);
                rows.push(cells);
            }
        }
        if is_alone {
            head.remove(1);
            rows.iter_mut().for_each(|cells| drop(cells.remove(1)));
        }
        Table { head, rows }
    }

    // ---- distribution ------------------------------------------------------------------------

    fn distribution(&self) -> Section {
        let below = self.series(|report| Distribution::of_latency(report).cdf(POINTS));
        let above = self.series(|report| Distribution::of_latency(report).ccdf(POINTS));
        let percent = |share: f64| (share, format!("{} %", share * 100.0));
        let cdf = Chart {
            title: "RPC time: how many took at most so long".into(),
            note: "all sizes, from when the RPC was due; CDF".into(),
            x: time_axis("RPC time", &below, |point| point.0),
            y: Axis::linear("share of the RPCs", 0.0, 1.0)
                .with_ticks([0.0, 0.25, 0.5, 0.75, 1.0].map(percent).to_vec()),
            series: below,
        };
        let rarest = span(&above, |point| point.1).map_or(0.01, |range| range.0).min(0.1);
        let decades = rarest.log10().floor() as i32;
        let mut y = Axis::log("share of the RPCs", 10f64.powi(decades), 1.0);
        y.ticks = (decades..=0).map(tail).collect();
        let ccdf = Chart {
            title: "RPC time: how many took longer".into(),
            note: "the same from above, for the tail; CCDF".into(),
            x: time_axis("RPC time", &above, |point| point.0),
            y,
            series: above,
        };
        Section {
            heading: self.heading("distribution of latency"),
            charts: vec![cdf, ccdf],
            ..Section::default()
        }
    }

    // ---- over time ---------------------------------------------------------------------------

    fn over_time(&self) -> Option<Section> {
        let windows = |report: &Report| report.windows.krps_and_median_ns.len();
        if self.runs.iter().all(|run| windows(&run.report) < WINDOWS_MIN) {
            return None;
        }
        let mut charts = vec![self.throughput()];
        let outstanding = self.series(|report| {
            let counts = report.windows.outstanding.iter().map(|&count| f64::from(count));
            self.over_windows(report, counts.collect())
        });
        if let Some((_, most)) = span(&outstanding, |point| point.1) {
            charts.push(Chart {
                title: "Outstanding RPCs over time".into(),
                note: "sent and not yet answered; open loops queue here when they are behind"
                    .into(),
                x: self.time(),
                y: Axis::linear("RPCs", 0.0, most),
                series: outstanding,
            });
        }
        let medians = self.series(|report| {
            let windows = &report.windows.krps_and_median_ns;
            self.over_windows(report, windows.iter().map(|window| gap_if_zero(window.1)).collect())
        });
        let p99s = self.series(|report| {
            let times = &report.windows.p99_ns;
            self.over_windows(report, times.iter().map(|&ns| gap_if_zero(ns)).collect())
        });
        for (what, series) in [("median", medians), ("99th percentile", p99s)] {
            if span(&series, |point| point.1).is_some() {
                charts.push(Chart {
                    title: format!("RPC time over time, {what}"),
                    note: self.window_note(),
                    x: self.time(),
                    y: time_axis("RPC time", &series, |point| point.1),
                    series,
                });
            }
        }
        Some(Section { heading: self.heading("over time"), charts, ..Section::default() })
    }

    fn window_note(&self) -> String {
        let first = self.runs[0].report.windows.window_ns;
        let is_alike = self.runs.iter().all(|run| run.report.windows.window_ns == first);
        match is_alike {
            true => format!("windows of {} ms, means of neighbours", first as f64 / 1e6),
            false => "windows, means of neighbours".to_owned(),
        }
    }

    /// Payload where sizes vary, else RPCs.
    fn throughput(&self) -> Chart {
        let first = &self.runs[0].report;
        let in_bits = first.by_size.len() > 1
            && self.runs.iter().all(|run| {
                let windows = &run.report.windows;
                windows.request_and_response_bps.len() == windows.krps_and_median_ns.len()
            });
        let series = self.series(|report| {
            let windows = &report.windows;
            let values: Vec<f64> = if in_bits {
                let rates = windows.request_and_response_bps.iter();
                rates.map(|bps| (bps.0 + bps.1) / 1e9).collect()
            } else {
                windows.krps_and_median_ns.iter().map(|window| window.0).collect()
            };
            self.over_windows(report, values)
        });
        let most = span(&series, |point| point.1).map_or(1.0, |range| range.1);
        let (label, what) = if in_bits {
            ("Gbps", "payload of requests and responses together")
        } else {
            ("thousand RPCs per second", "RPCs completed")
        };
        Chart {
            title: "Throughput over time".into(),
            note: format!("{what}; {}", self.window_note()),
            x: self.time(),
            y: Axis::linear(label, 0.0, most),
            series,
        }
    }

    /// The length of a run, and of the longest, in seconds.
    fn lengths(&self) -> (f64, f64) {
        let lengths = self.runs.iter().map(|run| length_s(&run.report));
        let ends = lengths.filter(|length| *length > 0.0);
        ends.fold((f64::MAX, 0.01), |(low, high), length| (low.min(length), high.max(length)))
    }

    /// Whether runs are too different in length to be drawn over the same seconds.
    fn is_relative(&self) -> bool {
        let (shortest, longest) = self.lengths();
        longest > LENGTHS_RATIO * shortest
    }

    fn time(&self) -> Axis {
        let (label, end) = match self.is_relative() {
            true => ("percent of each measurement", 100.0),
            false => ("seconds of the measurement", self.lengths().1),
        };
        let mut axis = Axis::linear(label, 0.0, end);
        // The line should reach the end.
        axis.range.1 = end;
        axis.ticks.retain(|tick| tick.0 <= end);
        axis
    }

    /// The values of windows at their middles, thinned.
    fn over_windows(&self, report: &Report, values: Vec<f64>) -> Vec<(f64, f64)> {
        let window_s = report.windows.window_ns as f64 / 1e9;
        let unit = if self.is_relative() { 100.0 / length_s(report).max(1e-9) } else { 1.0 };
        let at = |index: usize| (index as f64 + 0.5) * window_s * unit;
        let points: Vec<(f64, f64)> =
            values.into_iter().enumerate().map(|(index, value)| (at(index), value)).collect();
        thinned(&points, TIME_POINTS, |values| {
            let measured: Vec<f64> =
                values.iter().copied().filter(|value| value.is_finite()).collect();
            if measured.is_empty() { f64::NAN } else { average(&measured) }
        })
    }
}

/// The time that the windows of a report cover, in seconds.
fn length_s(report: &Report) -> f64 {
    report.windows.window_ns as f64 * report.windows.krps_and_median_ns.len() as f64 / 1e9
}

/// Whether slowdown is relative to measured times of an idle system.
fn is_baseline(report: &Report) -> bool {
    report.slowdown_definitions.first().is_some_and(|found| found.name.starts_with("idle"))
}

/// A time that was not measured is none.
fn gap_if_zero(ns: u64) -> f64 {
    if ns == 0 { f64::NAN } else { ns as f64 }
}

/// A value for each size class in the middle of its share of the messages, in percent.
fn size_points(
    report: &Report,
    value: impl Fn(&SizeReport, usize) -> Option<f64>,
) -> Vec<(f64, f64)> {
    let total = report.by_size.iter().map(|row| row.latency.count).sum::<u64>().max(1) as f64;
    let mut before = 0;
    let mut points = Vec::new();
    for (class, row) in report.by_size.iter().enumerate() {
        let middle = (before as f64 + row.latency.count as f64 / 2.0) / total * 100.0;
        before += row.latency.count;
        points.extend(value(row, class).map(|value| (middle, value)));
    }
    points
}

/// Where size classes meet, and the size there.
fn size_ticks(report: &Report) -> Vec<(f64, String)> {
    let total = report.by_size.iter().map(|row| row.latency.count).sum::<u64>().max(1) as f64;
    let mut ticks = vec![(0.0, tick_bytes(report.by_size[0].min_bytes))];
    let mut before = 0;
    for row in &report.by_size {
        before += row.latency.count;
        ticks.push((before as f64 / total * 100.0, tick_bytes(row.max_bytes)));
    }
    ticks
}

fn range(row: &SizeReport) -> String {
    let (min, max) = (show_bytes(row.min_bytes.into()), show_bytes(row.max_bytes.into()));
    if row.min_bytes == row.max_bytes { max } else { format!("{min} – {max}") }
}

fn tick_bytes(bytes: u32) -> String {
    match bytes {
        0..10_000 => bytes.to_string(),
        10_000..1_000_000 => format!("{}k", (bytes + 500) / 1_000),
        _ => format!("{:.1}M", f64::from(bytes) / 1e6),
    }
}

fn slowdown(row: &SizeReport, q: f64, best_ns: Option<f64>) -> Option<f64> {
    match best_ns {
        Some(best_ns) => Distribution::of_class(row).quantile(q).map(|ns| ns as f64 / best_ns),
        None if q < 0.9 => row.slowdown_p50,
        None => row.slowdown_p99,
    }
}

/// The least and the largest of what `pick` takes of the points.
fn span(series: &[Series], pick: impl Fn(&(f64, f64)) -> f64) -> Option<(f64, f64)> {
    let points = series.iter().flat_map(|line| &line.points);
    let values = points.filter(|point| point.1.is_finite()).map(pick);
    values.fold(None, |range, value| {
        let (low, high) = range.unwrap_or((value, value));
        Some((f64::min(low, value), f64::max(high, value)))
    })
}

/// A logarithmic axis for times in ns.
fn time_axis(label: &str, series: &[Series], pick: impl Fn(&(f64, f64)) -> f64) -> Axis {
    let (low, high) = span(series, pick).unwrap_or((1e3, 1e6));
    let mut axis = log_axis(label, low.max(1.0), high.max(low * 1.01));
    axis.ticks.iter_mut().for_each(|tick| tick.1 = tick_time(tick.0));
    axis
}

/// A logarithmic axis with neither too many ticks nor too few.
fn log_axis(label: &str, low: f64, high: f64) -> Axis {
    const FINE: [f64; 10] = [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];
    let axis = Axis::log(label, low, high);
    let (from, to) = axis.range;
    let every = |steps: &[f64]| -> Vec<(f64, String)> {
        let decades = from.log10().floor() as i32..=to.log10().ceil() as i32;
        let all =
            decades.flat_map(|decade| steps.iter().map(move |step| step * 10f64.powi(decade)));
        all.filter(|tick| (from * 0.999..=to * 1.001).contains(tick))
            .map(|tick| (tick, tick_number(tick)))
            .collect()
    };
    match to / from {
        // Three ticks a decade are too many for several decades.
        ratio if ratio > 1e3 => axis.with_ticks(every(&[1.0])),
        ratio if ratio <= 10.0 => axis.with_ticks(every(&FINE)),
        _ => axis,
    }
}

/// A round number.
fn tick_number(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{}M", (v / 1e5).round() / 10.0),
        v if v >= 1e4 => format!("{}k", (v / 1e2).round() / 10.0),
        v => format!("{}", (v * 1e3).round() / 1e3),
    }
}

fn tick_time(ns: f64) -> String {
    let (value, unit) = match ns {
        n if n < 999.0 => (n, "ns"),
        n if n < 999e3 => (n / 1e3, "us"),
        n if n < 999e6 => (n / 1e6, "ms"),
        n => (n / 1e9, "s"),
    };
    format!("{} {unit}", (value * 10.0).round() / 10.0)
}

/// A power of ten as a share: `10 %`, `0.01 %`.
fn tail(decade: i32) -> (f64, String) {
    let percent = match decade {
        -2.. => format!("{}", 10f64.powi(decade + 2).round()),
        _ => format!("{:.*}", (-decade - 2) as usize, 10f64.powi(decade + 2)),
    };
    (10f64.powi(decade), format!("{percent} %"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::report::tests::report;

    fn run(name: &str, wait: u64) -> NamedReport {
        let mut report = report();
        let slower = |ns: &mut u64| *ns += wait;
        for row in &mut report.by_size {
            row.histogram.iter_mut().for_each(|bucket| slower(&mut bucket.0));
            [&mut row.latency.min_ns, &mut row.latency.p50_ns].into_iter().for_each(slower);
        }
        report.slowdown_definition = BestCase::LeastSeen.to_string();
        NamedReport { name: name.to_owned(), report }
    }

    #[test]
    fn several_runs_are_compared_with_the_best_of_all() {
        let (fast, slow) = (run("fast", 0), run("slow", 90_000));
        let group = Group { runs: vec![&slow, &fast] };
        let (text, best) = group.best_case();
        assert!(text.ends_with("in any of these runs"));
        assert_eq!(best[0], fast.report.by_size[0].latency.min_ns as f64);
        let section = group.by_size(&slow.report);
        let [_, _, median, _] = &section.charts[..] else { panic!("four charts") };
        let first = |line: usize| median.series[line].points[0];
        assert!(first(0).1 > 9.0 && first(1).1 < 1.3, "{:?} {:?}", first(0), first(1));
        assert!((first(0).0 - 5.0).abs() < 0.5, "in the middle of the first tenth");
        let table = section.table.unwrap();
        assert_eq!((table.head.len(), table.rows.len()), (9, 20));
        assert_eq!((table.rows[1][0].as_str(), table.rows[1][1].as_str()), ("", "fast"));
    }

    #[test]
    fn a_single_size_has_no_curve_over_sizes() {
        let mut one = run("one", 0);
        one.report.by_size.truncate(1);
        let group = Group { runs: vec![&one] };
        assert!(group.by_size(&one.report).charts.is_empty());
        let over_time = group.over_time().unwrap();
        assert_eq!(over_time.charts[0].y.label, "thousand RPCs per second");
    }

    #[test]
    fn axes_name_times_and_tails() {
        let series = [Series::main("a", vec![(0.0, 900.0), (1.0, 3e6), (2.0, f64::NAN)])];
        let axis = time_axis("t", &series, |point| point.1);
        let labels: Vec<&str> = axis.ticks.iter().map(|tick| tick.1.as_str()).collect();
        assert_eq!(labels, ["1 us", "10 us", "100 us", "1 ms"]);
        assert_eq!(
            [0, -1, -2, -4].map(|decade| tail(decade).1),
            ["100 %", "10 %", "1 %", "0.01 %"]
        );
        assert_eq!([500.0, 2_000.0, 5e7, 2e9].map(tick_time), ["500 ns", "2 us", "50 ms", "2 s"]);
    }

    #[test]
    fn runs_of_other_lengths_share_an_axis() {
        let (long, mut short) = (run("long", 0), run("short", 0));
        short.report.windows.window_ns /= 100;
        let group = Group { runs: vec![&long, &short] };
        let section = group.over_time().unwrap();
        let chart = &section.charts[0];
        assert_eq!(chart.x.label, "percent of each measurement");
        let ends = chart.series.iter().map(|line| line.points.last().unwrap().0);
        assert!(ends.into_iter().all(|end| (98.0..100.0).contains(&end)));
        assert!(Group { runs: vec![&long] }.time().label.starts_with("seconds"));
    }

    #[test]
    fn ticks_are_neither_many_nor_few() {
        let labels = |low, high| log_axis("", low, high).ticks.len();
        assert_eq!(labels(11.0, 15.0), 3, "10, 15, 20");
        assert_eq!(labels(1.0, 50.0), 6);
        assert_eq!(labels(1.0, 80_000.0), 6, "powers of ten");
        assert_eq!(log_axis("", 1.0, 80_000.0).ticks[5].1, "100k");
    }

    #[test]
    fn windows_without_rpcs_leave_gaps() {
        let mut one = run("one", 0);
        // Three windows make a point.
        one.report.windows.krps_and_median_ns[99..102].fill((0.0, 0));
        let group = Group { runs: vec![&one] };
        let section = group.over_time().unwrap();
        let median = section.charts.iter().find(|chart| chart.title.ends_with("median")).unwrap();
        let points = &median.series[0].points;
        assert!(points.len() <= TIME_POINTS);
        assert!(points[33].1.is_nan() && points[32].1 > 0.0 && points[34].1 > 0.0, "{points:?}");
    }
}
