use super::*;
use crate::load::slowdown::IdleTimes;
use crate::load::workload::Workload;

fn config(best_case: BestCase) -> RecorderConfig {
    let classes = SizeClasses::powers_of_two(1, 1000);
    RecorderConfig::new(classes, best_case, Nanos::from_ms(10), Nanos::from_ms(20))
}

fn sample(request_bytes: u32, planned_us: u64, wait_us: u64, service_us: u64) -> Sample {
    let planned = Nanos::from_us(planned_us);
    let sent = planned + Nanos::from_us(wait_us);
    Sample {
        request_bytes,
        response_bytes: 7,
        planned,
        sent,
        done: sent + Nanos::from_us(service_us),
        measured: planned >= Nanos::from_ms(10),
    }
}

#[test]
fn latency_counts_from_the_plan_and_service_from_the_send() {
    let mut recorder = Recorder::new(config(BestCase::LeastSeen));
    for i in 1..=1000 {
        recorder.record(&sample(100, 10_000 + i, i, 10));
    }
    let latency = recorder.latency();
    for (q, us) in [(0.5, 510.0), (0.99, 1_000.0), (1.0, 1_010.0)] {
        let ns = latency.value_at_quantile(q) as f64;
        assert!((ns / (us * 1e3) - 1.0).abs() < 0.001, "{q}: {ns}");
    }
    assert_eq!(recorder.service().len(), 1000);
    assert!(recorder.service().max() < 10_010);
}

#[test]
fn sizes_go_to_their_classes() {
    let mut recorder = Recorder::new(config(BestCase::LeastSeen));
    for size in [1, 2, 3, 4, 1000, 1000] {
        recorder.record(&sample(size, 10_000, 0, 5));
    }
    let counts: Vec<u64> = recorder.classes().iter().map(|class| class.latency.len()).collect();
    assert_eq!(counts, [1, 1, 2, 0, 0, 0, 0, 0, 0, 0, 2]);
    assert_eq!(recorder.classes()[3].slowdown_at(0.5), None);
}

#[test]
fn slowdown_is_relative_to_the_size() {
    let idle = IdleTimes::new(vec![(100, 10e3), (200, 20e3)]).unwrap();
    let mut recorder = Recorder::new(config(BestCase::Idle(idle)));
    for _ in 0..99 {
        recorder.record(&sample(150, 10_000, 0, 30));
    }
    recorder.record(&sample(200, 10_000, 0, 300));
    let class = &recorder.classes()[recorder.config().classes.class_of(150)];
    assert!((class.slowdown_at(0.5).unwrap() - 2.0).abs() < 0.01);
    assert!((class.slowdown_at(1.0).unwrap() - 15.0).abs() < 0.08);

    let mut recorder = Recorder::new(config(BestCase::LeastSeen));
    for us in [10, 20, 50] {
        recorder.record(&sample(100, 10_000, 0, us));
    }
    let class = &recorder.classes()[recorder.config().classes.class_of(100)];
    assert!((class.slowdown_at(0.5).unwrap() - 2.0).abs() < 0.005);
    assert!((class.slowdown_at(1.0).unwrap() - 5.0).abs() < 0.01);
}

#[test]
fn windows_have_no_gaps_and_begin_where_measuring_does() {
    let mut recorder = Recorder::new(config(BestCase::LeastSeen));
    recorder.record(&sample(8, 9_000, 0, 500)); // done at 9.5 ms: before the first window
    recorder.record(&sample(8, 9_900, 0, 200)); // done at 10.1 ms, warm-up: in the first
    for us in [100, 200, 300] {
        recorder.record(&sample(8, 14_000, 0, us));
    }
    recorder.record(&sample(8, 22_000, 0, 40)); // the third; the second is empty
    recorder.record(&sample(8, 31_000, 0, 40)); // after the last
    recorder.finish(Nanos::from_ms(100));
    let windows = recorder.windows();
    let counts: Vec<u64> = windows.iter().map(|window| window.completed).collect();
    assert_eq!(counts, [4, 0, 1, 0]);
    assert!((windows[0].median_ns as f64 / 200e3 - 1.0).abs() < 0.01, "{windows:?}");
    assert!((windows[2].median_ns as f64 / 40e3 - 1.0).abs() < 0.01, "{windows:?}");
    assert_eq!(windows[1].median_ns, 0);
    assert_eq!(recorder.latency().len(), 5, "those of the warm-up are not measured");
}

#[test]
fn an_interval_is_taken_once() {
    let mut recorder = Recorder::new(config(BestCase::LeastSeen));
    let mut interval = Interval::new();
    recorder.record(&sample(100, 0, 0, 10));
    recorder.record(&sample(50, 20_000, 0, 10));
    recorder.take_interval(&mut interval);
    assert_eq!((interval.completed, interval.request_bytes, interval.response_bytes), (2, 150, 14));
    assert_eq!(interval.latency.len(), 2);
    recorder.take_interval(&mut interval);
    assert_eq!((interval.completed, interval.latency.len()), (0, 0));
}

#[test]
fn recorders_of_a_run_merge() {
    let mut whole = Recorder::new(config(BestCase::LeastSeen));
    let mut parts = [whole.clone(), whole.clone()];
    for i in 0..1000_u64 {
        let sample = sample((i % 1000) as u32 + 1, 10_000 + i * 19, i % 3, 5 + i % 50);
        whole.record(&sample);
        parts[(i % 2) as usize].record(&sample);
    }
    let end = Nanos::from_ms(30);
    whole.finish(end);
    let [mut merged, mut other] = parts;
    merged.finish(end);
    other.finish(end);
    merged.merge(&other).unwrap();
    assert_eq!(merged.latency(), whole.latency());
    assert_eq!(merged.service(), whole.service());
    assert_eq!(merged.windows().len(), whole.windows().len());
    for (merged, whole) in merged.windows().iter().zip(whole.windows()) {
        assert_eq!(merged.completed, whole.completed);
        assert!((merged.median_ns as f64 / whole.median_ns as f64 - 1.0).abs() < 0.1);
    }
    let classes = SizeClasses::deciles(&Workload::embedded("w1").unwrap());
    let foreign = Recorder::new(RecorderConfig { classes, ..config(BestCase::LeastSeen) });
    assert_eq!(merged.merge(&foreign), Err(MergeError));
}

#[test]
fn times_beyond_the_range_are_the_largest() {
    let mut recorder = Recorder::new(config(BestCase::LeastSeen));
    recorder.record(&Sample { done: Nanos::MAX, ..sample(1, 10_000, 0, 0) });
    recorder.record(&Sample { done: Nanos::ZERO, ..sample(1, 10_000, 0, 0) });
    let latency = recorder.latency();
    assert!(latency.max() as f64 / LATENCY_MAX.0 as f64 - 1.0 < 0.2, "{}", latency.max());
    assert_eq!(latency.min(), 0);
}

#[test]
fn windows_of_an_overload_know_times_beyond_a_second() {
    let in_range = RecorderConfig { windows_max: 1, ..config(BestCase::LeastSeen) };
    let mut recorder = Recorder::new(RecorderConfig { window: Nanos::from_secs(30), ..in_range });
    for late_us in [2_000_000, 5_000_000, 9_000_000] {
        recorder.record(&sample(8, 20_000, late_us, 10));
    }
    recorder.finish(Nanos::from_secs(60));
    let window = recorder.windows()[0];
    assert!((window.median_ns as f64 / 5e9 - 1.0).abs() < 0.01, "{window:?}");
    assert!((window.p99_ns as f64 / 9e9 - 1.0).abs() < 0.01, "{window:?}");
}
