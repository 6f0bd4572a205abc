//! Ratios to a raw baseline, beside the goals and what is known of other systems.
//!
//! On a shared virtual machine a figure alone says little. What holds is the ratio to a raw exchange
//! of frames over the same port, interleaved with the measured runs in the same minutes, and compared
//! near with near and far with far; see [`windows`](super::windows).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::report::Machine;
use super::table::Style;
use super::windows::{Pool, Ratio, Split};

mod metric;
mod sampler;
mod text;

pub use metric::{Known, LARGE_FRAME_BYTES, Metric, SHORT_BYTES, SHORT_FRAME_BYTES};
pub use sampler::{Sampled, WINDOW, WindowSampler};

/// Name and version of the JSON schema.
pub const SCHEMA: &str = "homa-bench/2";

/// What ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum System {
    /// Frames without a protocol, over the same port.
    Raw,
    /// RPCs of Homa.
    Homa,
    /// A connection of the kernel's TCP over loopback.
    Tcp,
}

impl std::fmt::Display for System {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Raw => "raw",
            Self::Homa => "Homa",
            Self::Tcp => "TCP",
        })
    }
}

/// One run of one system.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BenchRun {
    /// What was measured.
    pub metric: Metric,
    /// Of what.
    pub system: System,
    /// In which round, from 1.
    pub round: u32,
    /// Bytes of what was completed: payload of a request, or a frame.
    pub item_bytes: u32,
    /// Thousand completions per second and median ns of each window.
    pub windows: Vec<Sampled>,
    /// RPCs that failed, or frames that were lost.
    pub failed: u64,
    /// Counters of both sides that are not zero, those of the server with `server_` in front.
    pub counters: BTreeMap<String, u64>,
}

/// One metric, measured and raw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// What is measured.
    pub metric: Metric,
    /// How it was measured: sizes, outstanding, shards.
    pub detail: String,
    /// The raw baseline.
    pub raw: Split,
    /// The system.
    pub measured: Split,
    /// Measured over raw.
    pub ratio: Ratio,
    /// The kernel's TCP, where it was measured as well.
    #[serde(default)]
    pub tcp: Option<Split>,
}

impl Comparison {
    /// Compares the windows of the measured runs with those of the raw runs interleaved with them;
    /// `None` when one of them has no window in which anything completed.
    pub fn new(metric: Metric, detail: &str, raw: &Pool, measured: &Pool) -> Option<Self> {
        let (raw, measured) = (raw.split()?, measured.split()?);
        let ratio = measured.ratio_to(&raw);
        Some(Self { metric, detail: detail.to_owned(), raw, measured, ratio, tcp: None })
    }

    /// Compares what `runs` say of `metric`; `None` as [`Comparison::new`].
    pub fn of_runs(metric: Metric, detail: &str, runs: &[BenchRun]) -> Option<Self> {
        let pool = |system| {
            let mut pool = Pool::new(metric.better());
            for run in runs.iter().filter(|run| (run.metric, run.system) == (metric, system)) {
                pool.extend(run.windows.iter().map(|&window| metric.value(window, run.item_bytes)));
            }
            pool
        };
        let comparison = Self::new(metric, detail, &pool(System::Raw), &pool(System::Homa))?;
        Some(Self { tcp: pool(System::Tcp).split(), ..comparison })
    }

    /// Whether near and far both reach the goal; `None` when they could not be told apart.
    pub fn meets_goal(&self) -> Option<bool> {
        let goal = self.metric.goal();
        let (near, far) = self.ratio.near.zip(self.ratio.far)?;
        Some(self.metric.meets(near, goal.near) && self.metric.meets(far, goal.far))
    }

    /// TCP over the system: how many times as long it takes.
    pub fn ratio_of_tcp(&self) -> Option<Ratio> {
        self.tcp.map(|tcp| tcp.ratio_to(&self.measured))
    }
}

/// The result of a benchmark.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BenchReport {
    /// [`SCHEMA`].
    pub schema: String,
    /// One line: what this was.
    pub title: String,
    /// Where it was run.
    pub machine: Machine,
    /// Whatever else decides the result, by name.
    pub parameters: BTreeMap<String, String>,
    /// The metrics.
    pub comparisons: Vec<Comparison>,
    /// Every run, with all its windows.
    pub runs: Vec<BenchRun>,
    /// Runs that did not end well, and why; they are not in `runs`.
    pub failures: Vec<String>,
}

impl BenchReport {
    /// A report without parameters, runs and failures.
    pub fn new(title: &str, machine: Machine, comparisons: Vec<Comparison>) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            title: title.to_owned(),
            machine,
            parameters: BTreeMap::new(),
            comparisons,
            runs: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// The report as text for a terminal.
    pub fn render(&self, style: Style) -> String {
        text::report(self, style)
    }

    /// The results as tables in Markdown.
    pub fn to_markdown(&self) -> String {
        text::markdown(self)
    }

    /// RPCs that failed and frames that were lost, of all runs.
    pub fn failed(&self) -> u64 {
        self.runs.iter().map(|run| run.failed).sum()
    }

    /// The report as JSON, ending with a line feed.
    ///
    /// # Errors
    /// Only those of serde_json, which such a record does not cause.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        Ok(serde_json::to_string(self)? + "\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::table::COLUMNS;
    use crate::load::windows::Better;

    /// Windows that lie evenly from 0.95 to 1.05 of each median, 200 to each.
    fn pool(metric: Metric, medians: &[f64]) -> Pool {
        let mut pool = Pool::new(metric.better());
        for median in medians {
            pool.extend((0..=200).map(|i| median * (0.95 + f64::from(i) * 0.0005)));
        }
        pool
    }

    fn comparison(metric: Metric, raw: &[f64], measured: &[f64]) -> Comparison {
        let (raw, measured) = (pool(metric, raw), pool(metric, measured));
        Comparison::new(metric, "memif, one shard a side", &raw, &measured).unwrap()
    }

    fn report() -> BenchReport {
        let machine =
            Machine { cpu: "Test CPU".to_owned(), cores: 2, kernel: "6.1.0-test".to_owned() };
        let tcp = pool(Metric::Rtt, &[11_000.0, 18_300.0]).split();
        let mut report = BenchReport::new(
            "ratios to raw memif",
            machine,
            vec![
                Comparison { tcp, ..comparison(Metric::Rtt, &[510.0, 2030.0], &[850.0, 2150.0]) },
                comparison(Metric::Rate32, &[5050.0, 1900.0], &[4000.0, 1700.0]),
                comparison(Metric::Large1m, &[121.0, 23.0], &[20.0]),
            ],
        );
        report.failures.push("round 2, rtt, raw: the client ended early".to_owned());
        report
    }

    #[test]
    fn the_text_is_this() {
        let text = report().render(Style::PLAIN);
        assert_eq!(text, include_str!("bench/report.txt"));
        assert!(text.lines().all(|line| line.chars().count() <= COLUMNS));
    }

    #[test]
    fn the_markdown_is_this() {
        assert_eq!(report().to_markdown(), include_str!("bench/report.md"));
    }

    #[test]
    fn goals_are_met_by_near_and_far_or_not() {
        let meets: Vec<_> = report().comparisons.iter().map(Comparison::meets_goal).collect();
        assert_eq!(meets, [Some(false), Some(true), None]);
        let empty = Pool::new(Better::Lower);
        let raw = pool(Metric::Rtt, &[500.0]);
        assert_eq!(Comparison::new(Metric::Rtt, "", &raw, &empty), None);
    }

    fn run(metric: Metric, system: System, item_bytes: u32, window: Sampled) -> BenchRun {
        BenchRun {
            metric,
            system,
            round: 1,
            item_bytes,
            windows: vec![window; 3],
            failed: 2,
            counters: BTreeMap::new(),
        }
    }

    #[test]
    fn runs_are_pooled_by_metric_and_system() {
        let runs = [
            run(Metric::Rtt, System::Raw, 190, Sampled(2_000.0, 500.0)),
            run(Metric::Rtt, System::Homa, 100, Sampled(1_000.0, 1_000.0)),
            run(Metric::Rtt, System::Homa, 100, Sampled(1_000.0, 1_000.0)),
            run(Metric::Rtt, System::Tcp, 100, Sampled(100.0, 10_000.0)),
            run(Metric::Large1m, System::Raw, 1_500, Sampled(2_000.0, 0.0)),
            run(Metric::Large1m, System::Homa, 1_000_000, Sampled(1.5, 600_000.0)),
        ];
        let rtt = Comparison::of_runs(Metric::Rtt, "", &runs).unwrap();
        assert_eq!((rtt.raw.all.windows, rtt.measured.all.windows), (3, 6));
        assert_eq!(rtt.ratio.all, 2.0);
        assert_eq!(rtt.ratio_of_tcp().unwrap().all, 10.0);
        let large = Comparison::of_runs(Metric::Large1m, "", &runs).unwrap();
        assert_eq!((large.raw.all.median, large.measured.all.median), (24.0, 12.0));
        assert_eq!((large.ratio.all, large.tcp), (0.5, None));
        assert_eq!(Comparison::of_runs(Metric::Rate8, "", &runs), None);
        let report = BenchReport { runs: runs.to_vec(), ..report() };
        assert_eq!(report.failed(), 12);
    }

    #[test]
    fn json_gives_the_report_back() {
        let mut report = report();
        report.runs.push(run(Metric::Rtt, System::Tcp, 100, Sampled(90.5, 11_000.0)));
        let json = report.to_json().unwrap();
        assert_eq!(serde_json::from_str::<BenchReport>(&json).unwrap(), report);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["schema"], SCHEMA);
        assert_eq!(json["comparisons"][0]["metric"], "rtt");
        assert_eq!(json["comparisons"][2]["measured"]["parts"], serde_json::Value::Null);
        assert_eq!(json["runs"][0]["windows"][2], serde_json::json!([90.5, 11_000.0]));
    }
}
