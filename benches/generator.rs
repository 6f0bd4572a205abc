//! What the load generator itself costs: deciding what is due, keeping the books and recording, without
//! a transport. Prints ns per RPC. Under `valgrind --tool=callgrind` the difference of two runs of
//! different length gives instructions per RPC: see docs/PERFORMANCE.md.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use homa::load::arrival::{Arrival, Load};
use homa::load::classes::SizeClasses;
use homa::load::generator::{End, Generator, GeneratorConfig, Outcome};
use homa::load::quantity::Rate;
use homa::load::recorder::{Recorder, RecorderConfig};
use homa::load::slowdown::{BestCase, IdleTimes, Path};
use homa::load::workload::Workload;
use homa::time::Nanos;

/// RPCs that complete per turn of the loop, and what a turn takes.
const BURST: usize = 8;
const TURN: Nanos = Nanos(4_000);

/// The definitions of slowdown that a run with a baseline records.
fn definitions() -> Option<Vec<BestCase>> {
    let idle = || IdleTimes::new((0..12).map(|i| (1 << i, 4_000.0 + f64::from(i))).collect()).ok();
    Some(vec![
        BestCase::Idle(idle()?),
        BestCase::Idle(idle()?),
        BestCase::FixedPlusLink { fixed: Nanos::from_us(15), link_bps: 25e9 },
        BestCase::Computed { link_bps: 10e9, path: Path::IntraRack },
        BestCase::LeastSeen,
    ])
}

fn run(name: &str, workload: &str, load: Load, best_cases: &[BestCase], rpcs: u64) {
    let (Ok(workload), [shown, others @ ..]) = (workload.parse::<Workload>(), best_cases) else {
        return;
    };
    let recorder = RecorderConfig {
        other_best_cases: others.to_vec(),
        ..RecorderConfig::new(
            SizeClasses::deciles(&workload),
            shown.clone(),
            Nanos::ZERO,
            Nanos::from_secs(60),
        )
    };
    let config = GeneratorConfig {
        workload: Arc::new(workload),
        load,
        start: Nanos::ZERO,
        warm_up: Nanos::ZERO,
        end: End::Rpcs(rpcs),
        drain: Nanos::from_ms(1),
        destinations: 1,
    };
    let mut generator = Generator::new(config, 1);
    let mut recorder = Recorder::new(recorder);
    let mut under_way = Vec::with_capacity(64);
    let mut now = Nanos::ZERO;
    let mut done = 0;
    let start = Instant::now();
    while done < rpcs {
        now = now + TURN;
        for (cookie, size_bytes) in under_way.drain(..) {
            let answer = Outcome::Response { size_bytes };
            if let Some(sample) = generator.on_done(now, cookie, answer) {
                recorder.record(&sample);
            }
            done += 1;
        }
        for _ in 0..BURST {
            let Some(planned) = generator.next(now) else { break };
            generator.on_sent(now, planned.cookie);
            under_way.push((planned.cookie, planned.size_bytes));
        }
        black_box(generator.is_finished(now));
    }
    let ns = start.elapsed().as_nanos() as f64 / rpcs as f64;
    println!("{name}: {ns:.1} ns per RPC");
}

/// `generator [closed|open|mixed] [RPCs]`: one kind alone, for counting instructions.
fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let rpcs: u64 = args.iter().find_map(|arg| arg.parse().ok()).unwrap_or(1_000_000);
    let kinds = ["closed", "open", "mixed"];
    let wants = |kind: &str| {
        args.iter().any(|arg| arg == kind) || !args.iter().any(|arg| kinds.contains(&arg.as_str()))
    };
    let Some(all) = definitions() else { return };
    // One RPC for each 500 ns on average, which is what a turn completes.
    let open = |arrival| Load::Open { rate: Rate::Rps(2e6), arrival, outstanding_max: 64 };
    let closed = Load::Closed { outstanding: BURST as u32 };
    if wants("closed") {
        run("100 B, closed loop, no baseline", "100", closed, &all[2..], rpcs);
        run("100 B, closed loop, with a baseline", "100", closed, &all, rpcs);
    }
    if wants("open") {
        run("100 B, Poisson, no baseline", "100", open(Arrival::Poisson), &all[2..], rpcs);
        run("100 B, equal gaps, no baseline", "100", open(Arrival::Constant), &all[2..], rpcs);
    }
    if wants("mixed") {
        run("w4, Poisson, with a baseline", "w4", open(Arrival::Poisson), &all, rpcs);
    }
}
