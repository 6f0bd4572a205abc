//! What is kept of a run, and how it is drawn.

use serde::{Deserialize, Serialize};

use crate::report::{Axis, Chart, Section, Series, Table, average, thinned};

use super::cluster::Sample;
use super::compare::{Comparison, Verdict};
use super::config::{Exchange, Framing, SimConfig};
use super::incast::IncastOutcome;
use super::sigcomm18::{Curve, CurvePoint, PaperLoad};

/// A run, or several with different seeds, of one workload at one load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Name of the workload.
    pub workload: String,
    /// Share of the host links that the load takes.
    pub load: f64,
    /// The settings, of the first run.
    pub config: SimConfig,
    /// Runs put together.
    pub runs: u64,
    /// Messages measured.
    pub messages: u64,
    /// Mean, p50 and p99 of the slowdown of all messages.
    pub slowdown: (f64, f64, f64),
    /// By size.
    pub curve: Vec<CurvePoint>,
    /// The percentiles of `curve` are means over receivers.
    #[serde(default)]
    pub is_by_receiver: bool,
    /// Queues and progress over the time of the measurement, of the first run.
    pub samples: Vec<Sample>,
    /// Packets that switches dropped.
    pub dropped: u64,
}

/// Points of a line over time at most.
const TIME_POINTS: usize = 120;

/// Lines for comparison, with their places among the styles.
const PUBLISHED: [(&str, &str, usize); 3] =
    [("Homa", "Homa (paper)", 1), ("pFabric", "pFabric", 2), ("SRPT-Oracle", "SRPT oracle", 3)];

impl Record {
    /// The run beside the published curves, where there are any for its workload, load and network.
    pub fn comparison(&self) -> Option<Comparison> {
        let load = self.published_load()?;
        let all = (self.messages, self.slowdown.0);
        Comparison::of(&Curve(self.curve.clone()), all, &self.workload, load)
    }

    fn published_load(&self) -> Option<PaperLoad> {
        PaperLoad::of(self.load).filter(|_| self.config.exchange == Exchange::OneWay)
    }

    fn title(&self) -> String {
        format!("{} at {:.0} %", self.workload.to_uppercase(), 100.0 * self.load)
    }

    /// The part of a report about it.
    pub fn section(&self) -> Section {
        let comparison = self.comparison();
        let (mean, p50, p99) = self.slowdown;
        let headers = match self.config.network.framing {
            Framing::Paper => "headers as in the paper",
            Framing::Linux => "headers of Homa on IPv4",
        };
        let mut text = vec![format!(
            "{} messages in {} ms of simulated time ({} seed{}), {headers}, {} hosts. Slowdown: mean {mean:.3}, \
             p50 {p50:.3}, p99 {p99:.3}. {} packets dropped.",
            self.messages,
            self.config.time.measure_ns as f64 / 1e6,
            self.runs,
            if self.runs == 1 { "" } else { "s" },
            self.config.network.hosts(),
            self.dropped,
        )];
        if let Some(comparison) = &comparison {
            text.push(match comparison.verdict {
                Verdict::Passed => {
                    "Up to the 99th percentile of messages: within tolerance of the published Homa \
                     (p50 and mean 5 %, p99 10 %), or better."
                        .into()
                }
                Verdict::Worse(count) => format!(
                    "{count} of 21 values are worse than those of the published Homa by more than the \
                     tolerance (p50 and mean 5 %, p99 10 %)."
                ),
            });
        }
        if self.is_by_receiver {
            text.push(
                "The percentiles by size are means over receivers, as the published ones of Homa are; \
                 those of the messages of all receivers together are higher."
                    .into(),
            );
        }
        let mut charts = vec![
            self.slowdown_chart("median slowdown", |point| point.p50),
            self.slowdown_chart("99th percentile of the slowdown", |point| point.p99),
        ];
        charts.extend(
            (self.samples.len() > 1).then(|| [self.queues(), self.goodput()]).into_iter().flatten(),
        );
        Section {
            heading: self.title(),
            text,
            charts,
            table: comparison.map(|found| table(&found)),
            ..Section::default()
        }
    }

    /// The charts with names for files.
    pub fn charts(&self) -> Vec<(String, Chart)> {
        let names = ["p50", "p99", "queues", "goodput"];
        let stem = format!("{}-{}", self.workload, self.load);
        names
            .iter()
            .zip(self.section().charts)
            .map(|(name, chart)| (format!("{stem}-{name}"), chart))
            .collect()
    }

    /// Slowdown by size, on the x axis of the Homa paper: linear in the number of messages.
    fn slowdown_chart(&self, what: &str, value: impl Fn(&CurvePoint) -> f64) -> Chart {
        let ours = Curve(self.curve.clone());
        let points = |curve: &Curve| -> Vec<(f64, f64)> {
            curve.by_messages().map(|(pct, point)| (pct, value(point))).collect()
        };
        let mut series = vec![Series::main("this Homa", points(&ours))];
        if let Some(load) = self.published_load() {
            series.extend(PUBLISHED.iter().filter_map(|&(protocol, name, style)| {
                let curve = Curve::published(&self.workload, protocol, load)?;
                Some(Series::reference(name, style, points(&curve)))
            }));
        }
        let values = || series.iter().flat_map(|line| &line.points).map(|point| point.1);
        let (low, high) = (values().fold(1.0, f64::min), values().fold(1.5, f64::max));
        let mut y = Axis::log("slowdown", 1.0, high);
        // The published ideal is a little slow for some messages.
        y.range.0 = low;
        let ticks = (0..=10).map(|tenth| f64::from(tenth) * 10.0);
        let x = Axis::linear(
            "message size in bytes; between two ticks lie 10 % of the messages",
            0.0,
            100.0,
        )
        .with_ticks(ticks.map(|pct| (pct, size_label(ours.size_at(pct)))).collect());
        Chart {
            title: format!("{}: {what}", self.title()),
            note: "time from sender to receiver over that on an idle network".into(),
            x,
            y,
            series,
        }
    }

    fn times_ms(&self) -> impl Iterator<Item = f64> {
        let start_ns = self.config.time.warm_up_ns as f64;
        self.samples.iter().map(move |sample| (sample.at_ns as f64 - start_ns) / 1e6)
    }

    fn time_axis(&self) -> Axis {
        Axis::linear("time in ms", 0.0, self.config.time.measure_ns as f64 / 1e6)
    }

    fn queues(&self) -> Chart {
        let line = |value: &dyn Fn(&Sample) -> f64, together: fn(&[f64]) -> f64| {
            let points: Vec<_> = self.times_ms().zip(self.samples.iter().map(value)).collect();
            thinned(&points, TIME_POINTS, together)
        };
        let largest = line(&|sample| sample.queued_bytes.1 as f64 / 1e3, |values| {
            values.iter().copied().fold(0.0, f64::max)
        });
        let mean = line(&|sample| sample.queued_bytes.0 / 1e3, average);
        let high = largest.iter().map(|point| point.1).fold(1.0, f64::max);
        Chart {
            title: format!("{}: queues at ports to hosts", self.title()),
            note: "bytes that wait in switches, at regular times".into(),
            x: self.time_axis(),
            y: Axis::linear("KB", 0.0, high),
            series: vec![
                Series::main("mean of ports", mean),
                Series::reference("fullest port", 1, largest),
            ],
        }
    }

    fn goodput(&self) -> Chart {
        let hosts = f64::from(self.config.network.hosts());
        let rates = self.samples.windows(2).map(|pair| {
            let bits = (pair[1].delivered_bytes - pair[0].delivered_bytes) as f64 * 8.0;
            bits / (pair[1].at_ns - pair[0].at_ns).max(1) as f64 / hosts
        });
        let points: Vec<_> = self.times_ms().skip(1).zip(rates).collect();
        let rate = thinned(&points, TIME_POINTS, average);
        let high = rate.iter().map(|point| point.1).fold(0.0, f64::max);
        Chart {
            title: format!("{}: goodput", self.title()),
            note: "bytes of messages that have arrived whole, per host".into(),
            x: self.time_axis(),
            y: Axis::linear("Gbps", 0.0, high),
            series: vec![Series::main("this Homa", rate)],
        }
    }
}

/// Many responses at once, with and without incast control.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IncastRecord {
    /// The set-up, in a sentence.
    pub note: String,
    /// RPCs at once, and what came of them without and with.
    pub rows: Vec<(u32, IncastOutcome, IncastOutcome)>,
}

impl IncastRecord {
    /// Goodput by the number of responses.
    pub fn chart(&self) -> Chart {
        let line = |pick: fn(&(u32, IncastOutcome, IncastOutcome)) -> f64| {
            self.rows.iter().map(|row| (f64::from(row.0), pick(row) / 1e9)).collect::<Vec<_>>()
        };
        let (without, with) = (line(|row| row.1.goodput_bps), line(|row| row.2.goodput_bps));
        let high = without.iter().chain(&with).map(|point| point.1).fold(1.0, f64::max);
        let most = self.rows.iter().map(|row| row.0).max().unwrap_or(1);
        Chart {
            title: "Goodput of n responses at the same time".into(),
            note: "until the last of them has come whole".into(),
            x: Axis::log("responses at once", 1.0, most.into()),
            y: Axis::linear("Gbps", 0.0, high),
            series: vec![
                Series::main("with control", with),
                Series::reference("without", 1, without),
            ],
        }
    }

    /// The part of a report about it.
    pub fn section(&self) -> Section {
        let head = [
            "responses",
            "Gbps without",
            "Gbps with",
            "lost % without",
            "lost % with",
            "queue KB without",
            "queue KB with",
        ];
        let rows = self.rows.iter().map(|(count, without, with)| {
            let both = |pick: fn(&IncastOutcome) -> f64| {
                [without, with].map(|o| format!("{:.2}", pick(o)))
            };
            let goodput = both(|outcome| outcome.goodput_bps / 1e9);
            let lost =
                both(|outcome| 100.0 * outcome.dropped as f64 / outcome.packets.max(1) as f64);
            let queue = both(|outcome| outcome.queued_bytes_max as f64 / 1e3);
            std::iter::once(count.to_string()).chain(goodput).chain(lost).chain(queue).collect()
        });
        Section {
            heading: "Incast".into(),
            text: vec![self.note.clone()],
            charts: vec![self.chart()],
            table: Some(Table { head: head.map(String::from).to_vec(), rows: rows.collect() }),
            ..Section::default()
        }
    }
}

fn size_label(bytes: u32) -> String {
    match bytes {
        0..10_000 => bytes.to_string(),
        10_000..1_000_000 => format!("{}k", (bytes + 500) / 1_000),
        _ => format!("{:.1}M", f64::from(bytes) / 1e6),
    }
}

fn table(comparison: &Comparison) -> Table {
    let head = [
        "messages",
        "up to bytes",
        "mean",
        "Homa",
        "p50",
        "Homa",
        "pFabric",
        "oracle",
        "p99",
        "Homa",
        "pFabric",
        "oracle",
        "p99 / Homa",
    ];
    let row = |line: &super::compare::Line| {
        let super::compare::Line { range_pct: (from, to), ours, homa, pfabric, oracle, .. } = line;
        let mut cells = vec![format!("{from:.0} to {to:.0} %"), line.upper_bytes.to_string()];
        let threes = [ours.mean, homa.mean, ours.p50, homa.p50, pfabric.p50, oracle.p50];
        cells.extend(threes.map(|value| format!("{value:.3}")));
        cells.extend(
            [ours.p99, homa.p99, pfabric.p99, oracle.p99].map(|value| format!("{value:.2}")),
        );
        cells.push(format!("{:.2}", ours.p99 / homa.p99));
        cells
    };
    Table {
        head: head.map(String::from).to_vec(),
        rows: comparison.lines.iter().map(row).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::Sigcomm18;

    fn record() -> Record {
        let sample = |i: u64| Sample {
            at_ns: 1_000_000 + i * 10_000,
            queued_bytes: (100.0 * i as f64, 1_000 * i),
            delivered_bytes: i * 1_000_000,
        };
        let Curve(curve) = Curve::published("w3", "Homa", PaperLoad::Eighty).unwrap();
        Record {
            workload: "w3".into(),
            load: 0.8,
            config: Sigcomm18::default().config(),
            runs: 1,
            messages: 1_000_000,
            slowdown: (1.4, 1.3, 2.3),
            curve,
            is_by_receiver: false,
            samples: (0..500).map(sample).collect(),
            dropped: 0,
        }
    }

    #[test]
    fn a_record_survives_json() {
        let record = record();
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
    }

    #[test]
    fn the_published_curve_agrees_with_itself() {
        let comparison = record().comparison().unwrap();
        assert_eq!(comparison.verdict, Verdict::Passed);
        let section = record().section();
        assert_eq!(section.charts.len(), 4);
        assert_eq!(section.charts[0].series.len(), 4);
        assert_eq!(section.table.unwrap().rows.len(), 11);
    }

    #[test]
    fn goodput_is_that_of_the_samples() {
        let chart = record().goodput();
        // 1 MB in 10 us for 144 hosts.
        assert!(chart.series[0].points.iter().all(|point| (point.1 - 800.0 / 144.0).abs() < 1e-9));
        assert!(chart.series[0].points.len() <= TIME_POINTS);
    }

    #[test]
    fn without_published_curves_there_is_only_ours() {
        let record = Record { load: 0.6, ..record() };
        assert_eq!(record.comparison(), None);
        assert_eq!(record.section().charts[1].series.len(), 1);
    }
}
