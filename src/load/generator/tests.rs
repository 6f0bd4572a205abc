//! The generator against servers in virtual time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use proptest::prelude::*;

use super::*;
use crate::load::arrival::Arrival;
use crate::load::quantity::Rate;

fn config(load: Load, end: End) -> GeneratorConfig {
    GeneratorConfig {
        workload: Arc::new(Workload::fixed(100).unwrap()),
        load,
        start: Nanos::from_ms(1),
        warm_up: Nanos::from_ms(10),
        end,
        drain: Nanos::from_ms(50),
        destinations: 1,
    }
}

fn open(rps: f64, outstanding_max: u32) -> Load {
    Load::Open { rate: Rate::Rps(rps), arrival: Arrival::Poisson, outstanding_max }
}

const ANSWER: Outcome = Outcome::Response { size_bytes: 100 };

/// Runs `config` in steps of 5 us against a server that answers each request at the time that
/// `answer_at(sent)` says, and gives the samples and the totals.
fn run(config: GeneratorConfig, answer_at: impl Fn(Nanos) -> Nanos) -> (Vec<Sample>, Totals) {
    let mut generator = Generator::new(config, 1);
    let mut answers: BinaryHeap<Reverse<(Nanos, u64)>> = BinaryHeap::new();
    let mut samples = Vec::new();
    let mut now = Nanos::ZERO;
    while !generator.is_finished(now) {
        while let Some(&Reverse((at, cookie))) = answers.peek().filter(|next| next.0.0 <= now) {
            answers.pop();
            samples.extend(generator.on_done(at, cookie, ANSWER));
        }
        while let Some(planned) = generator.next(now) {
            generator.on_sent(now, planned.cookie);
            answers.push(Reverse((answer_at(now), planned.cookie)));
        }
        now = now + Nanos::from_us(5);
    }
    (samples, generator.finish(now))
}

fn quantile(values: impl Iterator<Item = Nanos>, q: f64) -> f64 {
    let mut sorted: Vec<u64> = values.map(|v| v.0).collect();
    sorted.sort_unstable();
    sorted[((sorted.len() - 1) as f64 * q) as usize] as f64
}

/// When a server answers that takes 20 us, but does nothing from 5 s on for `stall`.
fn stalled(stall: Nanos) -> impl Fn(Nanos) -> Nanos {
    const SERVICE: Nanos = Nanos::from_us(20);
    let (from, to) = (Nanos::from_secs(5), Nanos::from_secs(5) + stall);
    move |sent| if (from..to).contains(&sent) { to + SERVICE } else { sent + SERVICE }
}

fn planned_quantile(samples: &[Sample], q: f64) -> f64 {
    quantile(samples.iter().map(|s| s.done.since(s.planned)), q)
}

fn sent_quantile(samples: &[Sample], q: f64) -> f64 {
    quantile(samples.iter().map(|s| s.done.since(s.sent)), q)
}

/// What a stall of length S in a run of length T must do to latency from the planned time. Requests
/// due evenly over the run are due in the stall with probability S / T, and then wait for the rest of
/// it, which is evenly distributed between 0 and S. So
///
/// ```text
/// P(latency > t) = (S - t) / T     and the quantile q is     S - (1 - q) T     for 1 - q < S / T.
/// ```
///
/// With S = 100 ms and T = 10 s, p99.9 is 90 ms and p99.5 is 50 ms, however few RPCs may be outstanding
/// and however requests are spread. From the real send, the limit of outstanding RPCs hides the stall.
#[test]
fn a_stall_shows_as_coordinated_omission_says() {
    let run_ns = 10e9;
    for (arrival, stall_ms) in [
        (Arrival::Poisson, 100),
        (Arrival::Poisson, 20),
        (Arrival::Uniform, 100),
        (Arrival::Constant, 100),
        (Arrival::Burst(4), 100),
    ] {
        let load = Load::Open { rate: Rate::Rps(10_000.0), arrival, outstanding_max: 16 };
        let config = config(load, End::After(Nanos::from_secs(10)));
        let stall = Nanos::from_ms(stall_ms);
        let (samples, totals) = run(config, stalled(stall));
        for q in [0.995, 0.999, 0.9995] {
            let predicted = stall.0 as f64 - (1.0 - q) * run_ns;
            if predicted < 0.0 {
                continue;
            }
            let seen = planned_quantile(&samples, q);
            // Of 10,000 per second, 1 - q are due after the quantile: the standard deviation of their
            // number, as time, is sqrt((1 - q) T / 10,000 Hz), or twice that in bursts of 4. Steps of 5 us
            // and the service add little.
            let burst = if arrival == Arrival::Burst(4) { 4.0 } else { 1.0 };
            let deviation = (burst * (1.0 - q) * run_ns * 1e5).sqrt();
            let tolerance = 4.0 * deviation + 50e3;
            assert!(
                (seen - predicted).abs() < tolerance,
                "{arrival}, {stall_ms} ms, {q}: {seen} is not {predicted} +- {tolerance}"
            );
        }
        let from_send = sent_quantile(&samples, 0.999);
        assert!(from_send < 100e3, "p99.9 from the real send {from_send}");
        // All but the 16 that were out had to wait.
        let waiting = stall_ms as f64 * 10.0;
        assert!((totals.held as f64 / waiting - 1.0).abs() < 0.4, "{totals:?}");
        assert!(totals.lag_max.0 as f64 > 0.9 * stall.0 as f64, "{totals:?}");
        assert_eq!((totals.lost, totals.never_sent), (0, 0));
    }
}

/// The same server asked by a closed loop: each of the 8 senders notices the stall once, 8 of 4 million
/// RPCs. p99.9 tells nothing of it, from either time.
#[test]
fn a_closed_loop_hides_a_stall() {
    let load = Load::Closed { outstanding: 8 };
    let config = config(load, End::After(Nanos::from_secs(10)));
    let (samples, totals) = run(config, stalled(Nanos::from_ms(100)));
    assert!(totals.completed > 3_900_000, "{totals:?}");
    for q in [0.5, 0.999, 0.99999] {
        assert_eq!(planned_quantile(&samples, q), 20e3);
        assert_eq!(sent_quantile(&samples, q), 20e3);
    }
    let slow = samples.iter().filter(|s| s.done.since(s.planned) > Nanos::from_us(20)).count();
    assert_eq!(slow, 8);
}

/// Nothing is left over by a server that keeps up; of one that is too slow, what it does not serve is.
#[test]
fn the_backlog_is_what_is_left_over() {
    let at_10k = || config(open(10_000.0, 1_000_000), End::After(Nanos::from_secs(1)));
    let (_, totals) = run(at_10k(), |sent| sent + Nanos::from_us(100));
    assert!(totals.backlog < 10 && (1..20).contains(&totals.outstanding_peak), "{totals:?}");
    // Serves one each 200 us, one after the other: half of what is due in 1.01 s.
    let free = std::cell::Cell::new(Nanos::ZERO);
    let serve = |sent: Nanos| {
        free.set(free.get().max(sent) + Nanos::from_us(200));
        free.get()
    };
    let (_, totals) = run(GeneratorConfig { drain: Nanos::from_secs(9), ..at_10k() }, serve);
    assert!((totals.backlog as f64 / 5_050.0 - 1.0).abs() < 0.1, "{totals:?}");
    assert!((totals.outstanding_peak as f64 / 5_050.0 - 1.0).abs() < 0.1, "{totals:?}");
    assert_eq!((totals.lost, totals.never_sent), (0, 0));
    // With a limit, what is left over was not sent.
    free.set(Nanos::ZERO);
    let config = config(open(10_000.0, 16), End::After(Nanos::from_secs(1)));
    let (_, totals) = run(config, serve);
    assert!((totals.backlog as f64 / 5_050.0 - 1.0).abs() < 0.1, "{totals:?}");
    assert!(totals.never_sent > 4_000 && totals.outstanding_peak == 16, "{totals:?}");
}

#[test]
fn an_open_loop_keeps_its_rate() {
    let config = config(open(50_000.0, 1000), End::After(Nanos::from_secs(2)));
    let (samples, totals) = run(config, |sent| sent + Nanos::from_us(100));
    assert!((totals.sent as f64 / 100_000.0 - 1.0).abs() < 0.02, "{totals:?}");
    assert_eq!(totals.completed, totals.sent);
    assert_eq!(samples.iter().filter(|s| s.measured).count() as u64, totals.sent);
    assert!((totals.warm_up_sent as f64 / 500.0 - 1.0).abs() < 0.2, "{totals:?}");
    assert_eq!(totals.measured(), Nanos::from_secs(2));
    let completed = totals.traffic.completed as f64;
    assert!((completed / totals.sent as f64 - 1.0).abs() < 0.001, "{totals:?}");
    assert_eq!(totals.traffic.request_bytes, totals.traffic.completed * 100);
    assert_eq!(totals.held, 0);
}

#[test]
fn a_closed_loop_keeps_its_depth() {
    let load = Load::Closed { outstanding: 8 };
    let config = config(load, End::After(Nanos::from_ms(100)));
    let (samples, totals) = run(config, |sent| sent + Nanos::from_us(100));
    // 8 every 100 us for 100 ms.
    assert!((7_900..=8_008).contains(&totals.sent), "{totals:?}");
    assert!(samples.iter().all(|s| s.done.since(s.planned) == Nanos::from_us(100)));
    assert_eq!((totals.held, totals.lag_max), (0, Nanos::ZERO));
}

#[test]
fn a_count_ends_the_run() {
    let load = Load::Closed { outstanding: 4 };
    let (samples, totals) = run(config(load, End::Rpcs(1000)), |sent| sent + Nanos::from_us(50));
    assert_eq!((totals.sent, totals.completed), (1000, 1000));
    let last = samples.iter().map(|s| s.done).max().unwrap();
    assert_eq!(totals.measured_to, last);
    assert_eq!(totals.measured_from, Nanos::from_ms(11));
    let open = config(open(1e5, 64), End::Rpcs(1000));
    assert_eq!(run(open, |sent| sent + Nanos::from_us(50)).1.completed, 1000);
}

#[test]
fn what_a_dead_server_swallows_is_lost_or_never_sent() {
    let config = config(open(10_000.0, 32), End::After(Nanos::from_secs(1)));
    let (_, totals) = run(config, |_| Nanos::MAX);
    // The warm-up sends 32, and the rest is held for ever.
    assert_eq!((totals.warm_up_sent, totals.sent, totals.lost), (32, 0, 0));
    assert!((9_600..10_400).contains(&totals.never_sent), "{totals:?}");
    assert!(totals.lag_max > Nanos::from_secs(1), "{totals:?}");
    let closed = config_of_dead_closed_loop();
    let (_, totals) = run(closed, |_| Nanos::MAX);
    assert_eq!((totals.sent, totals.lost, totals.never_sent), (32, 32, 0));
}

fn config_of_dead_closed_loop() -> GeneratorConfig {
    GeneratorConfig {
        warm_up: Nanos::ZERO,
        ..config(Load::Closed { outstanding: 32 }, End::After(Nanos::from_ms(20)))
    }
}

#[test]
fn what_the_transport_refuses_comes_again_with_its_clock_running() {
    let load = Load::Closed { outstanding: 2 };
    let mut generator =
        Generator::new(GeneratorConfig { warm_up: Nanos::ZERO, ..config(load, End::Rpcs(5)) }, 1);
    let (due, later) = (Nanos::from_ms(1), Nanos::from_ms(3));
    assert_eq!(generator.next(Nanos::ZERO), None, "before the start");
    let first = generator.next(due).unwrap();
    generator.on_refused(first.cookie);
    assert_eq!(generator.lag(later), Nanos::from_ms(2));
    assert_eq!(generator.next(later), Some(first));
    generator.on_sent(later, first.cookie);
    assert_eq!((generator.outstanding(), generator.lag(later)), (1, Nanos::ZERO));
    let sample = generator.on_done(Nanos::from_ms(4), first.cookie, ANSWER).unwrap();
    assert_eq!((sample.planned, sample.sent), (due, later));
    let totals = *generator.totals();
    assert_eq!((totals.refused, totals.lag_max), (1, Nanos::from_ms(2)));
}

#[test]
fn outcomes_are_counted_apart_and_twice_is_stale() {
    let load = Load::Closed { outstanding: 8 };
    let mut generator =
        Generator::new(GeneratorConfig { warm_up: Nanos::ZERO, ..config(load, End::Rpcs(8)) }, 1);
    let now = Nanos::from_ms(2);
    let mut outcomes = vec![ANSWER, Outcome::Corrupted];
    outcomes.extend(Failure::ALL.map(Outcome::Failed));
    for outcome in outcomes {
        let cookie = generator.next(now).unwrap().cookie;
        generator.on_sent(now, cookie);
        assert_eq!(generator.on_done(now, cookie, outcome).is_some(), outcome == ANSWER);
        assert_eq!(generator.on_done(now, cookie, outcome), None);
    }
    let failed_before_sent = generator.next(now).unwrap().cookie;
    generator.on_done(now, failed_before_sent, Outcome::Failed(Failure::Other));
    generator.on_sent(now, u64::MAX);
    assert!(generator.is_finished(now));
    let totals = generator.finish(now);
    assert_eq!((totals.sent, totals.completed, totals.corrupted), (8, 1, 1));
    assert_eq!((totals.failed, totals.failures(), totals.stale), ([1, 1, 1, 1, 2], 6, 8));
}

#[test]
fn destinations_are_drawn_evenly_and_parts_add_up() {
    let whole = GeneratorConfig {
        destinations: 5,
        ..config(Load::Closed { outstanding: 10_000 }, End::Rpcs(10_001))
    };
    let mut generator = Generator::new(whole.clone(), 3);
    let mut counts = [0_u32; 5];
    while let Some(planned) = generator.next(Nanos::from_ms(1)) {
        counts[planned.destination as usize] += 1;
    }
    assert!(counts.iter().all(|count| (1_850..2_150).contains(count)), "{counts:?}");
    assert_eq!(whole.part(0, 2).end, End::Rpcs(5_001));
    assert_eq!(whole.part(1, 2).end, End::Rpcs(5_000));
}

#[test]
fn totals_of_generators_add_up() {
    let (_, one) = run(config(open(1e4, 10), End::After(Nanos::from_ms(50))), |sent| sent);
    let mut two = one;
    two.merge(&one);
    assert_eq!((two.sent, two.completed), (2 * one.sent, 2 * one.completed));
    assert_eq!(two.traffic.response_bytes, 2 * one.traffic.response_bytes);
    assert_eq!((two.lag_max, two.measured()), (one.lag_max, one.measured()));
}

proptest! {
    /// Whatever transport and caller do, every RPC is accounted for and none is over twice.
    #[test]
    fn nothing_gets_out_of_the_books(
        steps in proptest::collection::vec((0_u8..7, any::<prop::sample::Index>(), 0_u64..400), 1..400),
        closed: bool,
        slots in 1_u32..20,
    ) {
        let load = if closed { Load::Closed { outstanding: slots } } else { open(100_000.0, slots) };
        let end = End::After(Nanos::from_ms(20));
        let mut generator = Generator::new(
            GeneratorConfig { warm_up: Nanos::ZERO, start: Nanos::ZERO, ..config(load, end) }, 9,
        );
        let mut now = Nanos::ZERO;
        let mut cookies = vec![7 << 32 | 1];
        let mut recorded = 0;
        for (step, index, us) in steps {
            now = now + Nanos::from_us(us);
            let cookie = cookies[index.index(cookies.len())];
            match step {
                0..=2 => cookies.extend(generator.next(now).map(|p| p.cookie)),
                3 => generator.on_sent(now, cookie),
                4 => generator.on_refused(cookie),
                5 => recorded += u64::from(generator.on_done(now, cookie, ANSWER).is_some()),
                _ => recorded += u64::from(generator.on_done(now, cookie, Outcome::Corrupted).is_some()),
            }
            prop_assert!(generator.outstanding() <= slots);
        }
        let planned = generator.measured_planned;
        let totals = generator.finish(now);
        prop_assert_eq!(totals.completed, recorded);
        prop_assert_eq!(totals.sent, totals.completed + totals.corrupted + totals.lost);
        prop_assert!(totals.sent + totals.never_sent >= planned);
        if closed {
            prop_assert_eq!(totals.sent + totals.never_sent, planned);
        }
    }
}
