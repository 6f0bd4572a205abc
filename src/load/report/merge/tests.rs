use std::sync::Arc;

use super::*;
use crate::load::arrival::{Arrival, Load};
use crate::load::classes::SizeClasses;
use crate::load::generator::{End, GeneratorConfig, Sample, Totals, Traffic};
use crate::load::quantity::Rate;
use crate::load::recorder::{Recorder, RecorderConfig};
use crate::load::report::{CoreReport, Machine, RunConfig, SideReport};
use crate::load::slowdown::{BestCase, IdleTimes, Path};
use crate::load::workload::Workload;
use crate::time::Nanos;

const MEASURED: Nanos = Nanos::from_ms(100);

fn workload() -> Workload {
    Workload::from_csv("t", "100,0.5\n20000,1").unwrap()
}

fn recorder_config(best_case: BestCase) -> RecorderConfig {
    let classes = SizeClasses::deciles(&workload());
    RecorderConfig {
        other_best_cases: vec![
            BestCase::Computed { link_bps: 10e9, path: Path::IntraRack },
            BestCase::LeastSeen,
        ],
        ..RecorderConfig::new(classes, best_case, Nanos::ZERO, MEASURED)
    }
}

/// What senders `senders` of ten together saw of one run: each sends in turn.
fn report_of(senders: std::ops::Range<u64>, best_case: BestCase) -> Report {
    let load = Load::Open {
        rate: Rate::Rps(1e5 * (senders.end - senders.start) as f64),
        arrival: Arrival::Poisson,
        outstanding_max: 10,
    };
    let config = GeneratorConfig {
        workload: Arc::new(workload()),
        load,
        start: Nanos::ZERO,
        warm_up: Nanos::ZERO,
        end: End::After(MEASURED),
        drain: Nanos::ZERO,
        destinations: 1,
    };
    let mut recorder = Recorder::new(recorder_config(best_case));
    let mut totals = Totals { measured_to: MEASURED, ..Totals::default() };
    for i in (0..100_000_u64).filter(|i| senders.contains(&(i % 10))) {
        let planned = Nanos(i * 900);
        let sent = planned + Nanos(i % 100);
        let request_bytes = if i % 3 == 0 { 20_000 } else { 100 };
        recorder.record(&Sample {
            request_bytes,
            response_bytes: 100,
            planned,
            sent,
            done: sent + Nanos(9_000 + u64::from(request_bytes) + i * i % 10_007),
            measured: true,
        });
        totals.sent += 1;
        totals.completed += 1;
        totals.lag_max = totals.lag_max.max(sent.since(planned));
        totals.traffic.merge(Traffic {
            completed: 1,
            request_bytes: request_bytes.into(),
            response_bytes: 100,
        });
    }
    recorder.finish(MEASURED);
    totals.failed[0] = senders.start;
    let run = RunConfig { title: "part".to_owned(), ..RunConfig::new(&config, 1, 7) };
    let machine = Machine { cpu: "CPU".to_owned(), cores: 2, kernel: "6".to_owned() };
    let counters = [("resends_sent".to_owned(), 3), ("stall_ns_max".to_owned(), senders.end)];
    let mut report = Report::new(run, machine, &totals, &recorder, counters.into());
    report.sides.push(SideReport {
        name: "client".to_owned(),
        cores: vec![CoreReport { name: format!("{}", senders.start), busy_ns: 1, total_ns: 2 }],
        rpcs: totals.completed,
        ..SideReport::default()
    });
    report
}

fn idle() -> BestCase {
    BestCase::Idle(IdleTimes::new(vec![(100, 9e3), (20_000, 29e3)]).unwrap())
}

/// Parts, sent as JSON from hosts to whoever adds them up, give what one recorder of all would have.
#[test]
fn parts_give_the_report_of_the_whole() {
    for best_case in [idle(), BestCase::LeastSeen] {
        let whole = report_of(0..10, best_case.clone());
        let parts: Vec<Report> = [0..3, 3..4, 4..10]
            .map(|senders| report_of(senders, best_case.clone()).to_json().unwrap())
            .iter()
            .map(|json| Report::from_json(json).unwrap())
            .collect();
        let merged = Report::merge(&parts).unwrap();
        assert_eq!(merged.by_size.len(), 2);
        for (merged, whole) in merged.by_size.iter().zip(&whole.by_size) {
            assert_eq!(merged.histogram, whole.histogram);
            assert_percentiles(&merged.latency, &whole.latency);
            assert_eq!(merged.slowdowns, whole.slowdowns);
            assert_eq!(
                (merged.slowdown_p50, merged.slowdown_p99),
                (whole.slowdown_p50, whole.slowdown_p99)
            );
        }
        assert_percentiles(&merged.latency, &whole.latency);
        assert_percentiles(&merged.service, &whole.service);
        assert_percentiles(&merged.lag, &whole.lag);
        assert_eq!(merged.service_histogram, whole.service_histogram);
        assert_eq!(merged.lag_histogram, whole.lag_histogram);
        assert_eq!(merged.totals.completed, whole.totals.completed);
        assert_eq!(merged.totals.lag_ns_max, whole.totals.lag_ns_max);
        assert!((merged.rates.rps / whole.rates.rps - 1.0).abs() < 1e-9);
        assert!((merged.rates.request_bps / whole.rates.request_bps - 1.0).abs() < 1e-9);
        let krps = |report: &Report| -> f64 {
            report.windows.krps_and_median_ns.iter().map(|window| window.0).sum()
        };
        assert!((krps(&merged) / krps(&whole) - 1.0).abs() < 1e-9);
    }
}

#[track_caller]
fn assert_percentiles(one: &Percentiles, other: &Percentiles) {
    assert!((one.mean_ns / other.mean_ns - 1.0).abs() < 1e-9, "{one:?} {other:?}");
    assert_eq!(Percentiles { mean_ns: 0.0, ..*one }, Percentiles { mean_ns: 0.0, ..*other });
}

#[test]
fn texts_counters_and_sides() {
    let merged =
        Report::merge(&[report_of(0..3, idle()), report_of(3..6, idle()), report_of(6..7, idle())])
            .unwrap();
    assert_eq!(
        merged.config.load,
        "2 x open loop, Poisson at 300 kRPC/s, at most 10 outstanding; 1 x open loop, Poisson at 100 \
         kRPC/s, at most 10 outstanding"
    );
    assert_eq!((merged.config.title.as_str(), merged.config.shards), ("part", 3));
    assert_eq!(merged.totals.failed["timeout"], 9);
    assert_eq!((merged.counters["resends_sent"], merged.counters["stall_ns_max"]), (9, 7));
    assert_eq!((merged.machine.cpu.as_str(), merged.machine.cores), ("CPU", 6));
    let cores: Vec<&str> = merged.sides[0].cores.iter().map(|core| core.name.as_str()).collect();
    assert_eq!((merged.sides.len(), cores), (1, vec!["0", "3", "6"]));
}

/// A sender that had nothing to do changes nothing.
#[test]
fn an_empty_part_is_neutral() {
    let (busy, silent) = (report_of(0..10, idle()), report_of(10..10, idle()));
    let merged = Report::merge(&[silent, busy.clone()]).unwrap();
    assert_eq!(merged.latency, busy.latency);
    assert_eq!(merged.by_size[1], busy.by_size[1]);
}

#[test]
fn unlike_reports_are_refused() {
    let one = report_of(0..1, idle());
    let error = |reports: &[Report]| Report::merge(reports).unwrap_err().to_string();
    assert_eq!(error(&[]), "not reports of one run: there are none");
    assert_eq!(
        error(&[one.clone(), report_of(0..1, BestCase::LeastSeen)]),
        "not reports of one run: slowdown is \"RPC time / time of that size when idle\" and \"RPC \
         time / shortest of its size class in this run\""
    );
    let mut other = one.clone();
    other.by_size[0].max_bytes += 1;
    other.config.workload = "u".to_owned();
    assert_eq!(
        error(&[one.clone(), other]),
        "not reports of one run: size classes differ: workload t and u"
    );
    let mut other = one.clone();
    other.windows.window_ns = 1;
    assert!(error(&[one, other]).ends_with("windows of 5000000 ns and 1 ns"));
}
