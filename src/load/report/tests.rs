use std::sync::Arc;

use super::*;
use crate::load::arrival::{Arrival, Load};
use crate::load::classes::SizeClasses;
use crate::load::generator::{Sample, Traffic};
use crate::load::quantity::Rate;
use crate::load::recorder::RecorderConfig;
use crate::load::slowdown::{BestCase, IdleTimes};
use crate::load::table::{COLUMNS, Style};
use crate::load::workload::Workload;
use crate::time::Nanos;

/// A run of one second with 100,000 RPCs, evenly over the quantiles of the workload. Each takes
/// 10 us + 1 ns per byte as when idle, plus a wait that is worse for longer messages.
pub(in crate::load) fn report() -> Report {
    let workload = Workload::embedded("w4").unwrap().cut_at(1_000_000).unwrap();
    let config = GeneratorConfig {
        load: Load::Open {
            rate: Rate::Rps(100e3),
            arrival: Arrival::Poisson,
            outstanding_max: 1024,
        },
        start: Nanos::ZERO,
        warm_up: Nanos::from_ms(500),
        end: End::After(Nanos::from_secs(1)),
        drain: Nanos::from_ms(100),
        destinations: 1,
        workload: Arc::new(workload.clone()),
    };
    let idle_ns = |size: u32| 10e3 + f64::from(size);
    let idle = [1, 1_000_000].map(|size| (size, idle_ns(size))).to_vec();
    let measured_from = config.start + config.warm_up;
    let mut recorder = Recorder::new(RecorderConfig::new(
        SizeClasses::deciles(&workload),
        BestCase::Idle(IdleTimes::new(idle).unwrap()),
        measured_from,
        Nanos::from_secs(1),
    ));
    let mut traffic = Traffic::default();
    let mut samples = Vec::new();
    for i in 0..100_000_u64 {
        let size = workload.quantile((i * 7919 % 100_000) as f64 / 100e3);
        let planned = measured_from + Nanos(i * 9_900);
        let worst = 0.5 + f64::from(size).log10();
        let wait = idle_ns(size) * worst * (((i * 31) % 1000) as f64 / 1e3).powi(4);
        let sent = planned + Nanos(i % 50 * 10);
        let done = planned + Nanos((idle_ns(size) + wait) as u64);
        samples.push(Sample {
            request_bytes: size,
            response_bytes: size,
            planned,
            sent,
            done,
            measured: true,
        });
        let size = u64::from(size);
        traffic.merge(Traffic { completed: 1, request_bytes: size, response_bytes: size });
    }
    samples.sort_by_key(|sample| sample.done);
    for sample in &samples {
        recorder.record(sample);
    }
    recorder.finish(Nanos::from_ms(1_600));
    let totals = Totals {
        warm_up_sent: 50_000,
        sent: 100_009,
        completed: 100_000,
        failed: [2, 0, 0, 1, 0],
        corrupted: 0,
        lost: 6,
        never_sent: 0,
        held: 12,
        refused: 1,
        stale: 0,
        lag_max: Nanos(12_345),
        backlog: 5,
        outstanding_peak: 40,
        measured_from,
        measured_to: measured_from + Nanos::from_secs(1),
        traffic,
    };
    let run = RunConfig {
        title: "client of 10.0.0.2:4000".to_owned(),
        port: "memif:/run/homa.sock,role=client".to_owned(),
        ..RunConfig::new(&config, 2, 42)
    };
    let machine = Machine { cpu: "Test CPU".to_owned(), cores: 2, kernel: "6.1.0-test".to_owned() };
    let counters = [("resends_sent", 17), ("busy_sent", 0), ("rx_missed", 1_234)];
    let counters = counters.map(|(name, count)| (name.to_owned(), count)).into();
    Report::new(run, machine, &totals, &recorder, counters)
}

#[test]
fn the_text_is_this() {
    let text = report().render(Style::PLAIN);
    assert_eq!(text, include_str!("tests/report.txt"));
    assert!(text.lines().all(|line| line.chars().count() <= COLUMNS));
}

#[test]
fn colour_changes_no_character() {
    let report = report();
    let coloured = report.render(Style::new(true, None));
    assert!(coloured.contains("\x1b[1;31m3 failed (1 aborted, 2 timeout)\x1b[0m"));
    let mut plain = coloured;
    for code in ["1", "2", "36", "32", "1;31", "0"] {
        plain = plain.replace(&format!("\x1b[{code}m"), "");
    }
    assert_eq!(plain, report.render(Style::PLAIN));
}

#[test]
fn what_should_be_zero_is_shown_when_it_is() {
    let mut report = report();
    report.totals = TotalsReport::default();
    report.by_size[0].latency = Percentiles::default();
    let text = report.render(Style::PLAIN);
    assert!(
        text.contains("0 failed, 0 corrupted, 0 lost, 0 never sent, 0 answered twice"),
        "{text}"
    );
    assert!(text.contains("53 B – 315 B       0        -"), "{text}");
}

#[test]
fn what_it_cost_is_a_line_for_each_side() {
    let mut report = report();
    let core = |name: &str, busy_ns| CoreReport { name: name.to_owned(), busy_ns, total_ns: 1_000 };
    report.sides = vec![
        SideReport {
            name: "client".to_owned(),
            cores: vec![core("2", 255), core("3", 1_000)],
            rpcs: 100,
            busy_cycles: 250_049,
            grants: (3, 1_200),
            sent_bytes_by_priority: vec![0, 0, 10, 990, 0, 0, 0, 0],
            retained_packets_peak: 77,
            ..SideReport::default()
        },
        SideReport {
            name: "server".to_owned(),
            cores: vec![core("", 0)],
            resends: (1, 2),
            bytes_resent: 1_424,
            ..SideReport::default()
        },
    ];
    let text = report.render(Style::PLAIN);
    for line in [
        "  client     CPU 2: 25.5% busy, CPU 3: 100.0% busy, 2,500 cycles per RPC, grants 3 out 1,200 in,",
        "             priorities 2 (1.0%) 3 (99.0%), at most 77 buffers held",
        "  server     core: 0.0% busy, resends 1 out 2 in, 1,424 B sent again",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line}\n{text}");
    }
}

#[test]
fn json_gives_the_report_back() {
    let report = report();
    let json = report.to_json().unwrap();
    assert_eq!(Report::from_json(&json).unwrap(), report);
}

/// The members that programs rely on. A change here needs a new number in [`SCHEMA`].
#[test]
fn the_schema_is_kept() {
    let json: serde_json::Value = serde_json::from_str(&report().to_json().unwrap()).unwrap();
    assert_eq!(json["schema"], "homa-load/1");
    assert_eq!(json["config"]["cut"]["max_bytes"], 1_000_000);
    assert_eq!(json["totals"]["failed"]["timeout"], 2);
    assert_eq!(json["totals"]["lost"], 6);
    assert_eq!(json["counters"]["resends_sent"], 17);
    assert_eq!(json["rates"]["rps"], 100e3);
    assert_eq!(json["latency"]["count"], 100_000);
    let members = |value: &serde_json::Value| -> Vec<String> {
        value.as_object().unwrap().keys().cloned().collect()
    };
    assert_eq!(
        members(&json["latency"]),
        ["count", "max_ns", "mean_ns", "min_ns", "p50_ns", "p90_ns", "p99_9_ns", "p99_ns"]
    );
    assert_eq!(
        members(&json["by_size"][0]),
        [
            "histogram",
            "latency",
            "max_bytes",
            "min_bytes",
            "slowdown_p50",
            "slowdown_p99",
            "slowdowns"
        ]
    );
    let windows = json["windows"]["krps_and_median_ns"].as_array().unwrap();
    assert_eq!(json["windows"]["window_ns"], 5_000_000);
    assert_eq!(windows.len(), 200);
    let krps: f64 = windows.iter().map(|window| window[0].as_f64().unwrap()).sum();
    assert!((krps / 200.0 - 100.0).abs() < 1.0, "mean of the windows {krps}");
}

#[test]
fn a_histogram_can_be_built_again() {
    let report = report();
    let mut again: LatencyHistogram = Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap();
    for row in &report.by_size {
        for (value, count) in &row.histogram {
            again.record_n(*value, *count).unwrap();
        }
    }
    let again = Percentiles::from(&again);
    assert_eq!(again.p99_9_ns, report.latency.p99_9_ns);
    assert_eq!((again.count, again.max_ns), (report.latency.count, report.latency.max_ns));
}

#[test]
fn other_reports_are_refused() {
    let error = |json| Report::from_json(json).unwrap_err().to_string();
    assert_eq!(
        error(r#"{"schema":"homa-load/9"}"#),
        "a report of schema \"homa-load/9\", this program reads \"homa-load/1\"; use the version \
         that wrote it"
    );
    assert!(error("{}").starts_with("not a report of homa-load: missing field `schema`"));
}

#[test]
fn the_machine_is_found() {
    let machine = Machine::detect();
    assert!(machine.cores > 0);
    assert!(!machine.kernel.is_empty());
}
