//! `homa-sim fuzz`.

use std::error::Error;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use homa::sim::fuzz::{Plan, Report, replay, run as run_plan, shrink};

use crate::args::FuzzArgs;
use crate::jobs::thread_count;
use crate::report::check_file;

/// Runs that shrinking takes at most.
const SHRINK_RUNS_MAX: usize = 20_000;
/// Seeds between two looks at the progress.
const PROGRESS_SEEDS: u64 = 64;

pub(crate) fn run(args: &FuzzArgs) -> Result<ExitCode, Box<dyn Error>> {
    match args.seed {
        Some(seed) => one(seed, args),
        None => Ok(many(args)),
    }
}

/// One run in detail.
fn one(seed: u64, args: &FuzzArgs) -> Result<ExitCode, Box<dyn Error>> {
    check_file(args.trace.as_deref())?;
    let mut plan = Plan::new(seed);
    if args.shrink {
        plan = shrink(&plan, SHRINK_RUNS_MAX);
    }
    print!("{plan}");
    let report = match &args.trace {
        None => run_plan(&plan),
        Some(path) => {
            let (report, trace) = replay(&plan);
            std::fs::write(path, trace).map_err(|error| format!("{}: {error}", path.display()))?;
            report
        }
    };
    println!(
        "{} of simulated time, {} events, {} packets, {} requests delivered, {} calls answered, \
         {} failed; trace {:016x}",
        report.simulated,
        report.events,
        report.packets,
        report.executions,
        report.answered,
        report.failed,
        report.hash,
    );
    Ok(match report.violation {
        None => {
            println!("all rules hold");
            ExitCode::SUCCESS
        }
        Some(violation) => {
            println!("BROKEN {violation}");
            ExitCode::FAILURE
        }
    })
}

/// Many runs, of which only those that fail are told.
fn many(args: &FuzzArgs) -> ExitCode {
    let next = AtomicU64::new(args.seeds.start);
    let enough = AtomicBool::new(false);
    let totals = Mutex::new(Totals::default());
    let jobs = thread_count(args.jobs);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while !enough.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if !args.seeds.contains(&seed) {
                        break;
                    }
                    let report = run_plan(&Plan::new(seed));
                    let mut totals = totals.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                    totals.add(seed, &report);
                    if totals.failing_seeds >= args.failures_max {
                        enough.store(true, Ordering::Relaxed);
                    }
                    if totals.seeds % PROGRESS_SEEDS == 0 && std::io::stderr().is_terminal() {
                        eprint!(
                            "\r{} of {} seeds",
                            totals.seeds,
                            args.seeds.end - args.seeds.start
                        );
                    }
                }
            });
        }
    });
    let totals = totals.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
    println!(
        "{} seeds in {:.1} s: {} fail; {} calls answered, {} failed, {} requests delivered, \
         {} packets, {:.1} s of simulated time",
        totals.seeds,
        began.elapsed().as_secs_f64(),
        totals.failing_seeds,
        totals.answered,
        totals.failed,
        totals.executions,
        totals.packets,
        totals.simulated_ns as f64 / 1e9,
    );
    if totals.failing_seeds > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

#[derive(Default)]
struct Totals {
    seeds: u64,
    failing_seeds: u64,
    answered: u64,
    failed: u64,
    executions: u64,
    packets: u64,
    simulated_ns: u64,
}

impl Totals {
    fn add(&mut self, seed: u64, report: &Report) {
        self.seeds += 1;
        self.answered += report.answered;
        self.failed += report.failed;
        self.executions += report.executions;
        self.packets += report.packets;
        self.simulated_ns += report.simulated.0;
        if let Some(violation) = &report.violation {
            self.failing_seeds += 1;
            println!("seed {seed} BROKEN {violation}");
            println!("    homa-sim fuzz --seed {seed} --shrink --trace seed-{seed}.txt");
        }
    }
}
