//! Ratios to a raw baseline, beside the goals and what is known of other systems.
//!
//! On a shared virtual machine a figure alone says little. What holds is the ratio to a raw exchange
//! of frames over the same port, interleaved with the measured runs in the same minutes, and compared
//! near with near and far with far; see [`windows`](super::windows).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::report::Machine;
use super::table::{Align, Style, Table, field};
use super::windows::{Better, Pool, Ratio, Split, Summary};

/// Name and version of the JSON schema.
pub const SCHEMA: &str = "homa-bench/1";

/// Near and far ratio of a system to its raw baseline.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Known {
    /// Which system.
    pub name: &'static str,
    /// Ratio of the near windows.
    pub near: f64,
    /// Ratio of the far windows.
    pub far: f64,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Round trip of 100 B there and 100 B back with one RPC outstanding, in ns; raw is the round trip
    /// of one frame of that size.
    RttNs,
    /// Thousand RPCs of 100 B and 100 B per second with 32 outstanding; raw is the echo of frames of
    /// 160 B, 32 outstanding.
    Krps,
    /// Payload of large messages in Gbps; raw is 1500-byte frames one way.
    LargeGbps,
}

impl Metric {
    /// Its name in reports.
    pub const fn title(self) -> &'static str {
        match self {
            Self::RttNs => "round trip of 100 B and 100 B, ns",
            Self::Krps => "RPCs of 100 B and 100 B, 32 outstanding, thousand/s",
            Self::LargeGbps => "large messages, Gbps",
        }
    }

    /// Which end is good.
    pub const fn better(self) -> Better {
        match self {
            Self::RttNs => Better::Lower,
            Self::Krps | Self::LargeGbps => Better::Higher,
        }
    }

    /// Other systems over memif on one machine, one thread a side, as ratios to raw memif in the same
    /// minutes; the first is the best, and to equal it is the goal. Source: measuring.md sections 1, 4
    /// and 5. RTT: section 5, raw 0.51 us near and 2.03 us far. RPCs: section 4, raw 5050 and 1900
    /// thousand per second. Large messages: section 4, 25.9 and 9.9 Gbps of 121 and 23.
    pub const fn known(self) -> &'static [Known] {
        match self {
            Self::RttNs => &[
                Known { name: "eRPC without congestion control", near: 1.9, far: 1.15 },
                Known { name: "eRPC", near: 2.8, far: 1.46 },
                Known { name: "Homa in C++ (PlatformLab)", near: 4.4, far: 2.2 },
            ],
            Self::Krps => &[
                Known { name: "eRPC", near: 0.53, far: 0.67 },
                Known { name: "eRPC without congestion control", near: 0.37, far: 0.49 },
                Known { name: "Homa in C++ (PlatformLab)", near: 0.14, far: 0.18 },
            ],
            Self::LargeGbps => {
                &[Known { name: "Homa in C++ (PlatformLab), 32 KB x 8", near: 0.21, far: 0.43 }]
            }
        }
    }

    fn meets(self, ratio: f64, goal: f64) -> bool {
        match self.better() {
            Better::Lower => ratio <= goal,
            Better::Higher => ratio >= goal,
        }
    }
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
}

impl Comparison {
    /// Compares the windows of the measured runs with those of the raw runs interleaved with them;
    /// `None` when one of them has no window in which anything completed.
    pub fn new(metric: Metric, detail: &str, raw: &Pool, measured: &Pool) -> Option<Self> {
        let (raw, measured) = (raw.split()?, measured.split()?);
        let ratio = measured.ratio_to(&raw);
        Some(Self { metric, detail: detail.to_owned(), raw, measured, ratio })
    }

    /// Whether near and far both equal the best system known; `None` when they could not be told
    /// apart.
    pub fn meets_goal(&self) -> Option<bool> {
        let goal = self.metric.known().first()?;
        let (near, far) = self.ratio.near.zip(self.ratio.far)?;
        Some(self.metric.meets(near, goal.near) && self.metric.meets(far, goal.far))
    }

    fn render(&self, style: Style) -> String {
        let right = Align::Right;
        let mut table = Table::new(&[
            ("", Align::Left),
            ("windows", right),
            ("raw", right),
            ("[2-98%]", Align::Left),
            ("measured", right),
            ("[2-98%]", Align::Left),
            ("ratio", right),
            ("goal", right),
            ("", Align::Left),
        ]);
        let goal = self.metric.known().first();
        if let Some((raw, ours)) = self.raw.parts.zip(self.measured.parts) {
            let rows = [
                ("near", raw.near, ours.near, self.ratio.near, goal.map(|goal| goal.near)),
                ("far", raw.far, ours.far, self.ratio.far, goal.map(|goal| goal.far)),
            ];
            for (name, raw, ours, ratio, goal) in rows {
                table.row(self.row(name, raw, ours, ratio, goal));
            }
        }
        let all = if self.measured.parts.is_some() { "all" } else { "one" };
        table.row(self.row(all, self.raw.all, self.measured.all, Some(self.ratio.all), None));
        let mut text = format!("\n{}\n", style.title(self.metric.title()));
        text += &field(style, "how", &self.detail);
        text += &table.render(style);
        let known: Vec<String> = self.metric.known().iter().map(Known::to_string).collect();
        text + &field(style, "known", &format!("near / far: {}", known.join("; ")))
    }

    fn row(
        &self,
        name: &str,
        raw: Summary,
        ours: Summary,
        ratio: Option<f64>,
        goal: Option<f64>,
    ) -> Vec<String> {
        let range = |of: Summary| format!("[{}-{}]", figure(of.p2), figure(of.p98));
        let sign = if self.metric.better() == Better::Lower { "<=" } else { ">=" };
        let verdict = ratio.zip(goal).map_or("", |(ratio, goal)| {
            if self.metric.meets(ratio, goal) { "met" } else { "missed" }
        });
        vec![
            name.to_owned(),
            ours.windows.to_string(),
            figure(raw.median),
            range(raw),
            figure(ours.median),
            range(ours),
            ratio.map_or_else(|| "-".to_owned(), times),
            goal.map_or_else(|| "-".to_owned(), |goal| format!("{sign} {}", times(goal))),
            verdict.to_owned(),
        ]
    }
}

impl std::fmt::Display for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} / {}", self.name, times(self.near), times(self.far))
    }
}

/// A ratio: `1.90x`.
fn times(ratio: f64) -> String {
    format!("{ratio:.2}x")
}

/// A figure of a window: whole from 100 up, else three digits.
fn figure(value: f64) -> String {
    match value {
        v if v >= 99.95 => format!("{v:.0}"),
        v if v >= 9.995 => format!("{v:.1}"),
        v => format!("{v:.2}"),
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
}

impl BenchReport {
    /// A report without parameters.
    pub fn new(title: &str, machine: Machine, comparisons: Vec<Comparison>) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            title: title.to_owned(),
            machine,
            parameters: BTreeMap::new(),
            comparisons,
        }
    }

    /// The report as text for a terminal.
    pub fn render(&self, style: Style) -> String {
        let mut text = format!("{}  {}\n", style.title("homa-bench"), self.title);
        let Machine { cpu, cores, kernel } = &self.machine;
        text += &field(style, "machine", &format!("{cpu}, {cores} cores, Linux {kernel}"));
        for (name, value) in &self.parameters {
            text += &field(style, name, value);
        }
        self.comparisons.iter().fold(text, |text, comparison| text + &comparison.render(style))
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
        BenchReport::new(
            "ratios to raw memif",
            machine,
            vec![
                comparison(Metric::RttNs, &[510.0, 2030.0], &[850.0, 2500.0]),
                comparison(Metric::Krps, &[5050.0, 1900.0], &[3000.0, 1400.0]),
                comparison(Metric::LargeGbps, &[121.0, 23.0], &[20.0]),
            ],
        )
    }

    #[test]
    fn the_text_is_this() {
        let text = report().render(Style::PLAIN);
        assert_eq!(text, include_str!("bench/report.txt"));
        assert!(text.lines().all(|line| line.chars().count() <= COLUMNS));
    }

    #[test]
    fn goals_are_those_of_the_best_system_known() {
        let meets: Vec<_> = report().comparisons.iter().map(Comparison::meets_goal).collect();
        assert_eq!(meets, [Some(false), Some(true), None]);
        let empty = Pool::new(Better::Lower);
        let raw = pool(Metric::RttNs, &[500.0]);
        assert_eq!(Comparison::new(Metric::RttNs, "", &raw, &empty), None);
        for metric in [Metric::RttNs, Metric::Krps, Metric::LargeGbps] {
            let [best, rest @ ..] = metric.known() else { panic!("no goal for {metric:?}") };
            for other in rest {
                assert!(metric.meets(best.near, other.near) && metric.meets(best.far, other.far));
            }
        }
    }

    #[test]
    fn json_gives_the_report_back() {
        let report = report();
        let json = report.to_json().unwrap();
        assert_eq!(serde_json::from_str::<BenchReport>(&json).unwrap(), report);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["schema"], "homa-bench/1");
        assert_eq!(json["comparisons"][0]["metric"], "rtt_ns");
        assert_eq!(json["comparisons"][2]["measured"]["parts"], serde_json::Value::Null);
    }
}
