//! The result of a run: what is written as JSON, and what is shown at the end.
//!
//! A [`Report`] is everything a run has to say. It is a plain record, so that a report that was
//! written as JSON can be read again, shown and compared.
//!
//! # The JSON schema, version 1
//!
//! One object; its members are the fields of [`Report`], whose descriptions say what they mean. Times
//! are in ns, sizes in bytes and rates in units per second, as the names of the members say.
//! `schema` is [`SCHEMA`]: its number changes when a member is removed or changes its meaning, not
//! when one is added.
//!
//! Histograms are lists of `[value, count]` of the buckets that are not empty, where `value` is the
//! longest time that falls into the bucket. Buckets are less than 0.1 % wide; recording each value
//! again, count times, in an HDR histogram of three digits from 1 ns up gives the histogram back. So
//! reports of several senders of one run can be added up: [`Report::merge`].

use std::collections::BTreeMap;
use std::fmt;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::generator::{End, Failure, GeneratorConfig, Totals};
use super::recorder::{ClassRecord, LatencyHistogram, Recorder, Window};
use super::workload::Cut;

mod compare;
mod csv;
mod distribution;
pub mod hosts;
mod merge;
mod page;
mod rounds;
mod runs;
mod side;
mod text;

pub use compare::{CompareOptions, Comparison, Difference, Verdict};
pub use csv::{sizes_csv, windows_csv};
pub use distribution::Distribution;
pub use page::page;
pub use runs::{
    NamedReport, Runs, RunsError, check_folder, check_name, rewrite_folder, write_folder,
};
pub use side::{CoreReport, SideReport};

/// Name and version of the JSON schema.
pub const SCHEMA: &str = "homa-load/1";

/// What was run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunConfig {
    /// One line: what this was.
    pub title: String,
    /// Where the frames went: the description of the port.
    pub port: String,
    /// Sizes of the requests.
    pub workload: String,
    /// Mean length of a request.
    pub workload_mean_bytes: f64,
    /// The longest request when longer draws were cut to it, else absent.
    pub cut: Option<CutReport>,
    /// Closed or open loop, and how much.
    pub load: String,
    /// Sent but not measured before.
    pub warm_up_ns: u64,
    /// Threads that sent.
    pub shards: u32,
    /// The seed of sizes and times.
    pub seed: u64,
    /// Whatever else decides the result, by name.
    pub parameters: BTreeMap<String, String>,
}

/// What cutting at a maximum did to the workload.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CutReport {
    /// No request is longer.
    pub max_bytes: u32,
    /// Fraction of the requests that would have been longer.
    pub message_share: f64,
    /// Mean length before.
    pub mean_before_bytes: f64,
}

impl From<Cut> for CutReport {
    fn from(cut: Cut) -> Self {
        Self {
            max_bytes: cut.max_bytes,
            message_share: cut.message_share,
            mean_before_bytes: cut.mean_before_bytes,
        }
    }
}

impl RunConfig {
    /// Describes the load of all shards together; `title`, `port` and `parameters` are left to fill in.
    pub fn new(config: &GeneratorConfig, shards: u32, seed: u64) -> Self {
        let mut parameters = BTreeMap::new();
        if let End::Rpcs(rpcs) = config.end {
            parameters.insert("rpcs".to_owned(), rpcs.to_string());
        }
        Self {
            workload: config.workload.to_string(),
            workload_mean_bytes: config.workload.mean_bytes(),
            cut: config.workload.cut().map(CutReport::from),
            load: config.load.to_string(),
            warm_up_ns: config.warm_up.0,
            shards,
            seed,
            parameters,
            ..Self::default()
        }
    }
}

/// Where it was run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Name of the processor.
    pub cpu: String,
    /// Cores that the program may use.
    pub cores: usize,
    /// Version of the kernel.
    pub kernel: String,
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cpu = if self.cpu.is_empty() { "unknown processor" } else { &self.cpu };
        match self.kernel.as_str() {
            // Nothing runs on it: it is simulated.
            "" => f.write_str(cpu),
            kernel => write!(f, "{cpu}, {} cores, Linux {kernel}", self.cores),
        }
    }
}

impl Machine {
    /// Asks Linux; what it does not tell is empty.
    pub fn detect() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let cpu = read("/proc/cpuinfo")
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
            .map(|(_, name)| name.trim().to_owned());
        Self {
            cpu: cpu.unwrap_or_default(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

/// What became of the RPCs due in the measured time, see [`Totals`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TotalsReport {
    /// Sent in the warm-up.
    pub warm_up_sent: u64,
    /// Sent.
    pub sent: u64,
    /// Answered with the right bytes.
    pub completed: u64,
    /// Failures by kind, those that occurred.
    pub failed: BTreeMap<String, u64>,
    /// Answered with wrong bytes.
    pub corrupted: u64,
    /// Sent and never heard of again.
    pub lost: u64,
    /// Due and never sent.
    pub never_sent: u64,
    /// Sent late because of the limit of RPCs outstanding.
    pub held: u64,
    /// Times that the transport had no room.
    pub refused: u64,
    /// Answers to no RPC outstanding: delivered twice.
    pub stale: u64,
    /// The longest time from due to sent.
    pub lag_ns_max: u64,
    /// Due before the measured time ended and not over then.
    #[serde(default)]
    pub backlog: u64,
    /// The most RPCs outstanding at a time; of several senders, the sum of theirs.
    #[serde(default)]
    pub outstanding_peak: u64,
    /// Length of the measured time.
    pub measured_ns: u64,
}

impl From<&Totals> for TotalsReport {
    fn from(totals: &Totals) -> Self {
        let failed = Failure::ALL.iter().zip(totals.failed).filter(|kind| kind.1 > 0);
        Self {
            warm_up_sent: totals.warm_up_sent,
            sent: totals.sent,
            completed: totals.completed,
            failed: failed.map(|(kind, count)| (kind.name().to_owned(), count)).collect(),
            corrupted: totals.corrupted,
            lost: totals.lost,
            never_sent: totals.never_sent,
            held: totals.held,
            refused: totals.refused,
            stale: totals.stale,
            lag_ns_max: totals.lag_max.0,
            backlog: totals.backlog,
            outstanding_peak: totals.outstanding_peak,
            measured_ns: totals.measured().0,
        }
    }
}

/// Throughput: what was completed in the measured time, whenever it was due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RatesReport {
    /// RPCs per second.
    pub rps: f64,
    /// Payload of the requests, bits per second.
    pub request_bps: f64,
    /// Payload of the responses, bits per second.
    pub response_bps: f64,
}

impl From<&Totals> for RatesReport {
    fn from(totals: &Totals) -> Self {
        let per_second = match totals.measured().0 {
            0 => 0.0,
            ns => 1e9 / ns as f64,
        };
        Self {
            rps: totals.traffic.completed as f64 * per_second,
            request_bps: totals.traffic.request_bytes as f64 * 8.0 * per_second,
            response_bps: totals.traffic.response_bytes as f64 * 8.0 * per_second,
        }
    }
}

/// A distribution of times in ns; all zero when nothing was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the field's")]
pub struct Percentiles {
    pub count: u64,
    pub mean_ns: f64,
    pub min_ns: u64,
    pub p50_ns: u64,
    pub p90_ns: u64,
    pub p99_ns: u64,
    pub p99_9_ns: u64,
    pub max_ns: u64,
}

impl From<&LatencyHistogram> for Percentiles {
    fn from(histogram: &LatencyHistogram) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        Self {
            count: histogram.len(),
            mean_ns: histogram.mean(),
            min_ns: histogram.min(),
            p50_ns: histogram.value_at_quantile(0.5),
            p90_ns: histogram.value_at_quantile(0.9),
            p99_ns: histogram.value_at_quantile(0.99),
            p99_9_ns: histogram.value_at_quantile(0.999),
            max_ns: histogram.max(),
        }
    }
}

/// A definition of slowdown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlowdownDefinition {
    /// Its short name: `idle`, `idle-min`, `cperf`, `paper` or `least`.
    pub name: String,
    /// What is divided by what.
    pub text: String,
}

/// Slowdowns of a size class by one definition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SlowdownReport {
    /// Median; absent without RPCs.
    pub p50: Option<f64>,
    /// 99th percentile; absent without RPCs.
    pub p99: Option<f64>,
    /// 99.9th percentile; absent without RPCs.
    pub p99_9: Option<f64>,
    /// In thousandths, less than 1 % wide; empty for `least`, which the latencies give.
    pub histogram: Vec<(u64, u64)>,
}

impl SlowdownReport {
    fn new(class: &ClassRecord, definition: usize) -> Self {
        Self {
            p50: class.slowdown_by(definition, 0.5),
            p99: class.slowdown_by(definition, 0.99),
            p99_9: class.slowdown_by(definition, 0.999),
            histogram: class.slowdowns(definition).map(buckets).unwrap_or_default(),
        }
    }
}

/// A size class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SizeReport {
    /// The shortest request of the class.
    pub min_bytes: u32,
    /// The longest request of the class.
    pub max_bytes: u32,
    /// Latency from the planned time.
    pub latency: Percentiles,
    /// Median slowdown; absent without RPCs.
    pub slowdown_p50: Option<f64>,
    /// 99th percentile of slowdown; absent without RPCs.
    pub slowdown_p99: Option<f64>,
    /// Latency in full.
    pub histogram: Vec<(u64, u64)>,
    /// Slowdown by each of [`Report::slowdown_definitions`], the first of which is the one above.
    #[serde(default)]
    pub slowdowns: Vec<SlowdownReport>,
}

/// The windows of the measured time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WindowsReport {
    /// Length of one.
    pub window_ns: u64,
    /// Of each: thousands of RPCs completed per second, and their median latency in ns (0 when none
    /// completed).
    pub krps_and_median_ns: Vec<(f64, u64)>,
    /// Of each: the 99th percentile of their latency in ns.
    #[serde(default)]
    pub p99_ns: Vec<u64>,
    /// Of each: payload of the requests and of the responses completed, bits per second.
    #[serde(default)]
    pub request_and_response_bps: Vec<(f64, f64)>,
    /// Of each: RPCs outstanding at its end; empty if nobody counted them.
    #[serde(default)]
    pub outstanding: Vec<u32>,
}

impl WindowsReport {
    fn new(window_ns: u64, windows: &[Window]) -> Self {
        let krps = |completed: u64| completed as f64 * 1e6 / window_ns as f64;
        let bps = |bytes: u64| bytes as f64 * 8e9 / window_ns as f64;
        let counted = windows.iter().any(|window| window.outstanding > 0);
        let counts = windows.iter().map(|window| window.outstanding);
        Self {
            window_ns,
            krps_and_median_ns: windows.iter().map(|w| (krps(w.completed), w.median_ns)).collect(),
            p99_ns: windows.iter().map(|window| window.p99_ns).collect(),
            request_and_response_bps: windows
                .iter()
                .map(|window| (bps(window.request_bytes), bps(window.response_bytes)))
                .collect(),
            outstanding: counts.filter(|_| counted).collect(),
        }
    }
}

/// The result of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// What was run.
    pub config: RunConfig,
    /// Where it was run.
    pub machine: Machine,
    /// What became of the RPCs.
    pub totals: TotalsReport,
    /// Throughput.
    pub rates: RatesReport,
    /// From the planned time.
    pub latency: Percentiles,
    /// From the real send.
    pub service: Percentiles,
    /// From the planned time to the real send.
    #[serde(default)]
    pub lag: Percentiles,
    /// What slowdown is relative to.
    pub slowdown_definition: String,
    /// All definitions of slowdown that were recorded, the one above first.
    #[serde(default)]
    pub slowdown_definitions: Vec<SlowdownDefinition>,
    /// Latency and slowdown by size of the request.
    pub by_size: Vec<SizeReport>,
    /// Rate and median over time.
    pub windows: WindowsReport,
    /// `service` in full; `latency` in full is the sum of those of `by_size`.
    pub service_histogram: Vec<(u64, u64)>,
    /// `lag` in full.
    #[serde(default)]
    pub lag_histogram: Vec<(u64, u64)>,
    /// What it cost, by side: `client`, and `server` if that is known.
    #[serde(default)]
    pub sides: Vec<SideReport>,
    /// Counters of the transport and the port, by name.
    pub counters: BTreeMap<String, u64>,
    /// The hosts of a run on several, by rank; else absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<hosts::HostReport>,
}

/// A report that cannot be read.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReportError {
    /// Not JSON, or not of this schema.
    Json(serde_json::Error),
    /// Of another version, whose name this is.
    Schema(String),
    /// Reports that are not parts of one run: what differs, and how.
    Unlike(String),
}

impl fmt::Display for ReportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(error) => write!(f, "not a report of homa-load: {error}"),
            Self::Schema(schema) => write!(
                f,
                "a report of schema \"{schema}\", this program reads \"{SCHEMA}\"; use the version \
                 that wrote it"
            ),
            Self::Unlike(how) => write!(f, "not reports of one run: {how}"),
        }
    }
}

impl std::error::Error for ReportError {}

impl Report {
    /// Puts together what a run gave, all shards merged.
    pub fn new(
        config: RunConfig,
        machine: Machine,
        totals: &Totals,
        recorder: &Recorder,
        counters: BTreeMap<String, u64>,
    ) -> Self {
        let sizes = &recorder.config().classes;
        let definitions = recorder.config().best_cases().count();
        let classes = recorder.classes();
        let by_size = classes.iter().enumerate().map(|(index, class)| {
            let (min_bytes, max_bytes) = sizes.range(index);
            SizeReport {
                min_bytes,
                max_bytes,
                latency: Percentiles::from(&class.latency),
                slowdown_p50: class.slowdown_at(0.5),
                slowdown_p99: class.slowdown_at(0.99),
                histogram: buckets(&class.latency),
                slowdowns: (0..definitions).map(|i| SlowdownReport::new(class, i)).collect(),
            }
        });
        Self {
            schema: SCHEMA.to_owned(),
            config,
            machine,
            totals: TotalsReport::from(totals),
            rates: RatesReport::from(totals),
            latency: Percentiles::from(&recorder.latency()),
            service: Percentiles::from(&recorder.service()),
            lag: Percentiles::from(&recorder.lag()),
            slowdown_definition: recorder.config().best_case.to_string(),
            slowdown_definitions: recorder
                .config()
                .best_cases()
                .map(|best| SlowdownDefinition {
                    name: best.name().to_owned(),
                    text: best.to_string(),
                })
                .collect(),
            by_size: by_size.collect(),
            windows: WindowsReport::new(recorder.config().window.0.max(1), recorder.windows()),
            service_histogram: buckets(&recorder.service()),
            lag_histogram: buckets(&recorder.lag()),
            sides: Vec::new(),
            counters,
            hosts: Vec::new(),
        }
    }

    /// The report as JSON, ending with a line feed.
    ///
    /// # Errors
    /// Only those of serde_json, which such a record does not cause.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        Ok(serde_json::to_string(self)? + "\n")
    }

    /// Reads what [`Self::to_json`] wrote.
    ///
    /// # Errors
    /// The text is not JSON, not such a report, or of another version.
    pub fn from_json(json: &str) -> Result<Self, ReportError> {
        #[derive(Deserialize)]
        struct Version {
            schema: String,
        }
        let version: Version = serde_json::from_str(json).map_err(ReportError::Json)?;
        if version.schema != SCHEMA {
            return Err(ReportError::Schema(version.schema));
        }
        serde_json::from_str(json).map_err(ReportError::Json)
    }
}

/// The buckets of a histogram that are not empty: highest value, count.
fn buckets(histogram: &Histogram<u64>) -> Vec<(u64, u64)> {
    histogram.iter_recorded().map(|v| (v.value_iterated_to(), v.count_at_value())).collect()
}

#[cfg(test)]
pub(super) mod tests;
