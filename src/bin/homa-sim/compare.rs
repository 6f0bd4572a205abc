//! `homa-sim compare`.

use std::error::Error;
use std::process::ExitCode;

use homa::load::workload::Workload;
use homa::sim::{Comparison, Curve, Line, PaperLoad, Sigcomm18, Tally, Verdict};

use crate::args::CompareArgs;
use crate::jobs::{Job, run_all};
use crate::run::{describe, preset};

/// Workloads and how long to measure them by default, in nanoseconds: long enough for 2 to 4 million
/// messages, or, where messages are long, for as many as minutes allow.
const WORKLOADS: [(&str, u64); 5] = [
    ("w1", 5_000_000),
    ("w2", 10_000_000),
    ("w3", 50_000_000),
    ("w4", 200_000_000),
    ("w5", 400_000_000),
];

pub(crate) fn run(args: &CompareArgs) -> Result<ExitCode, Box<dyn Error>> {
    let wanted = args.workload.to_lowercase();
    let chosen: Vec<_> =
        WORKLOADS.iter().filter(|(name, _)| wanted == "all" || wanted == *name).collect();
    if chosen.is_empty() {
        return Err(format!("workload {wanted}: curves exist for w1 to w5; say one, or all").into());
    }
    let runs = args.runs.max(1);
    let mut jobs = Vec::new();
    for &&(name, time_ns) in &chosen {
        for run in 0..runs {
            jobs.push(job(args, name, time_ns, run)?);
        }
    }
    let results = run_all(&jobs, args.jobs)?;
    let load = args.load.paper();
    let mut csv = format!("{}\n", Tally::CSV_HEADER);
    let mut verdicts = Vec::new();
    for (index, &&(name, _)) in chosen.iter().enumerate() {
        let of_workload = &results[index * runs as usize..(index + 1) * runs as usize];
        let mut tally = of_workload[0].0.clone();
        for (other, _) in &of_workload[1..] {
            tally.add(other);
        }
        let Some(comparison) = Comparison::new(&tally, name, load) else {
            return Err(format!("{name}: nothing was measured; raise --time").into());
        };
        print(name, load, &comparison);
        println!("{}\n", describe(&tally, &of_workload[0].1));
        let unsched_bytes = jobs[index * runs as usize].config.homa.unsched_bytes;
        csv += &tally.csv_rows(&name.to_uppercase(), "homa-dpdk", load.fraction(), unsched_bytes);
        verdicts.push((name, comparison.verdict));
    }
    if let Some(path) = &args.csv {
        std::fs::write(path, csv)?;
    }
    Ok(conclude(&verdicts))
}

fn job(args: &CompareArgs, name: &str, time_ns: u64, run: u64) -> Result<Job, Box<dyn Error>> {
    let workload: Workload = name.parse()?;
    let load = args.load.paper();
    let curve = Curve::published(name, "Homa", load).ok_or("no published curve")?;
    let mut config = preset(&args.preset, name, time_ns).config();
    config.seed += run;
    Ok(Job {
        payload_bps: Sigcomm18::payload_bps(&workload, load.fraction()),
        tally: Tally::new(curve.0.iter().map(|point| point.upper_bytes)),
        workload,
        config,
    })
}

fn print(name: &str, load: PaperLoad, comparison: &Comparison) {
    println!("{} at {:.0} %: slowdown", name.to_uppercase(), load.fraction() * 100.0);
    println!(
        "                          ------ p50 ----------------    ------ p99 ----------------"
    );
    println!(
        " messages   up to bytes     ours   Homa pFabric oracle     ours   Homa pFabric oracle"
    );
    for line in &comparison.lines {
        let Line { range_pct: (from, to), upper_bytes, ours, homa, pfabric, oracle, .. } = line;
        println!(
            "{from:3.0}-{to:3.0} %  {upper_bytes:12}   {:6.3} {:6.3} {:6.3} {:6.3}   {:6.2} {:6.2} {:6.2} {:6.2}",
            ours.p50,
            homa.p50,
            pfabric.p50,
            oracle.p50,
            ours.p99,
            homa.p99,
            pfabric.p99,
            oracle.p99,
        );
    }
    let (ours, homa) = comparison.mean;
    println!("mean of all {ours:.3}, Homa {homa:.3}");
}

fn conclude(verdicts: &[(&str, Verdict)]) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for (name, verdict) in verdicts {
        match verdict {
            Verdict::Passed => println!("{name}: within tolerance of Homa, or better"),
            Verdict::Worse(count) => {
                println!("{name}: {count} of 21 values worse than Homa's beyond tolerance");
                code = ExitCode::from(3);
            }
        }
    }
    println!("(up to the 99th percentile of messages; tolerance: p50 and mean 5 %, p99 10 %)");
    code
}
