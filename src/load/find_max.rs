//! What a search for the highest load found.

use serde::{Deserialize, Serialize};

use super::generator::Totals;
use super::quantity::{show_count, show_ns, show_scaled};
use super::report::{Machine, Percentiles, RatesReport, RunConfig};
use super::search::{BACKLOG_MIN, BACKLOG_SHARE, Verdict};
use super::table::{Align, Style, Table, field};

/// Name and version of the JSON schema: the fields of [`FindMax`].
pub const SCHEMA: &str = "homa-load-find-max/1";

/// A load that was tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// RPCs per second that were offered.
    pub offered_rps: f64,
    /// Payload of these requests, bits per second.
    pub offered_bps: f64,
    /// What came of it in the measured time.
    pub rates: RatesReport,
    /// Whether it was carried.
    pub carried: bool,
    /// In words: that it was carried, or what kept it from being.
    pub verdict: String,
    /// Whether it was tried for a second time.
    pub is_repeat: bool,
    /// Due before the measured time ended and not over then.
    pub backlog: u64,
    /// The most RPCs outstanding at a time.
    pub outstanding_peak: u64,
    /// From the planned time.
    pub latency: Percentiles,
    /// From the planned time to the real send.
    pub lag: Percentiles,
}

impl StepReport {
    /// The step that offered `offered_rps` requests of `request_mean_bytes`, with what came of it.
    pub fn new(
        offered_rps: f64,
        request_mean_bytes: f64,
        is_repeat: bool,
        totals: &Totals,
        latency: Percentiles,
        lag: Percentiles,
    ) -> Self {
        let verdict = Verdict::of(totals);
        Self {
            offered_rps,
            offered_bps: offered_rps * request_mean_bytes * 8.0,
            rates: RatesReport::from(totals),
            carried: verdict.is_carried(),
            verdict: verdict.to_string(),
            is_repeat,
            backlog: totals.backlog,
            outstanding_peak: totals.outstanding_peak,
            latency,
            lag,
        }
    }
}

/// The highest load that is carried, and how it was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FindMax {
    /// [`SCHEMA`].
    pub schema: String,
    /// What was run; its `load` is that of the last step.
    pub config: RunConfig,
    /// Where it was run.
    pub machine: Machine,
    /// The answer is known to this share.
    pub precision: f64,
    /// The steps in their order.
    pub steps: Vec<StepReport>,
    /// The highest load that was carried, RPCs per second; absent if none was.
    pub max_rps: Option<f64>,
    /// Payload of its requests, bits per second.
    pub max_bps: Option<f64>,
}

impl FindMax {
    /// The result of `steps`.
    pub fn new(
        config: RunConfig,
        machine: Machine,
        precision: f64,
        steps: Vec<StepReport>,
    ) -> Self {
        let carried = steps.iter().filter(|step| step.carried);
        let best = carried.max_by(|a, b| a.offered_rps.total_cmp(&b.offered_rps));
        let (max_rps, max_bps) =
            (best.map(|step| step.offered_rps), best.map(|step| step.offered_bps));
        Self { schema: SCHEMA.to_owned(), config, machine, precision, steps, max_rps, max_bps }
    }

    /// The result as JSON, ending with a line feed.
    ///
    /// # Errors
    /// Only those of serde_json, which such a record does not cause.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        Ok(serde_json::to_string(self)? + "\n")
    }

    /// The result as text for a terminal.
    pub fn render(&self, style: Style) -> String {
        let title = style.title("homa-load");
        let mut text = format!("{title}  {}: the highest load\n", self.config.title);
        text += &field(style, "port", &self.config.port);
        text += &field(style, "workload", &self.config.workload);
        for (name, value) in &self.config.parameters {
            text += &field(style, name, value);
        }
        let machine = &self.machine;
        let machine = format!("{}, {} cores, Linux {}", machine.cpu, machine.cores, machine.kernel);
        text += &field(style, "machine", &machine);
        let criterion = format!(
            "nothing fails, and what is left over at the end is at most {}% of what was due, or {} \
             RPCs; steps that are not are tried twice",
            BACKLOG_SHARE * 100.0,
            BACKLOG_MIN
        );
        text += &field(style, "carried if", &criterion);
        text += &format!("\n{}", self.table(style));
        let answer = match (self.max_rps, self.max_bps) {
            (Some(rps), Some(bps)) => format!(
                "{}RPC/s, {}bps of payload, to {}%",
                show_scaled(rps),
                show_scaled(bps),
                self.precision * 100.0
            ),
            _ => style.bad("none of the loads was carried"),
        };
        text + "\n" + &field(style, "highest", &answer)
    }

    fn table(&self, style: Style) -> String {
        let right = Align::Right;
        let mut table = Table::new(&[
            ("offered/s", right),
            ("payload", right),
            ("done/s", right),
            ("p50", right),
            ("p99", right),
            ("late p99", right),
            ("peak", right),
            ("left over", right),
            ("", Align::Left),
        ]);
        for step in &self.steps {
            table.row(vec![
                show_scaled(step.offered_rps).trim_end().to_owned(),
                show_scaled(step.offered_bps) + "bps",
                show_scaled(step.rates.rps).trim_end().to_owned(),
                show_ns(step.latency.p50_ns as f64),
                show_ns(step.latency.p99_ns as f64),
                show_ns(step.lag.p99_ns as f64),
                show_count(step.outstanding_peak),
                show_count(step.backlog),
                step.verdict.clone() + if step.is_repeat { ", again" } else { "" },
            ]);
        }
        table.render(style)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Nanos;

    fn step(offered_rps: f64, backlog: u64, is_repeat: bool) -> StepReport {
        let totals = Totals {
            sent: 1_000,
            completed: 1_000,
            backlog,
            outstanding_peak: 12,
            measured_to: Nanos::from_secs(1),
            ..Totals::default()
        };
        let times = Percentiles { p50_ns: 5_000, p99_ns: 9_000, ..Percentiles::default() };
        StepReport::new(offered_rps, 100.0, is_repeat, &totals, times, times)
    }

    fn found(steps: Vec<StepReport>) -> FindMax {
        let config = RunConfig { title: "local".to_owned(), ..RunConfig::default() };
        FindMax::new(config, Machine::default(), 0.05, steps)
    }

    #[test]
    fn the_answer_is_the_highest_that_was_carried() {
        let steps = vec![
            step(1e4, 0, false),
            step(2e4, 500, false),
            step(2e4, 501, true),
            step(1.5e4, 20, false),
            step(1.4e4, 1, false),
        ];
        let result = found(steps);
        assert_eq!((result.max_rps, result.max_bps), (Some(1.5e4), Some(1.2e7)));
        let text = result.render(Style::PLAIN);
        assert!(text.contains("20.0 k  16.0 Mbps"), "{text}");
        assert!(text.contains("501 left over, not 20, again"), "{text}");
        assert!(text.contains("highest    15.0 kRPC/s, 12.0 Mbps of payload, to 5%"), "{text}");
        let json: FindMax = serde_json::from_str(&result.to_json().unwrap()).unwrap();
        assert_eq!(json, result);
    }

    #[test]
    fn there_may_be_no_answer() {
        let result = found(vec![step(1.0, 500, false)]);
        assert_eq!(result.max_rps, None);
        assert!(result.render(Style::PLAIN).contains("none of the loads was carried"));
    }
}
