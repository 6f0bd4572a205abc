//! `homa-sim compare`.

use std::error::Error;
use std::process::ExitCode;

use homa::load::workload::Workload;
use homa::sim::{Comparison, Curve, Line, PaperLoad, Sigcomm18, Tally, Traffic, Verdict};

use crate::args::{CompareArgs, HeadersArg, PresetArgs};
use crate::jobs::{Job, Outcome, record, run_all};
use crate::report::{Results, check_file, check_folder, write};
use crate::run::{describe, preset};

/// Workloads and how long to measure them by default, in nanoseconds: long enough for two million
/// messages, or, where messages are long, for as many as minutes allow. W5 is as long as published.
const WORKLOADS: [(&str, u64); 5] = [
    ("w1", 5_000_000),
    ("w2", 10_000_000),
    ("w3", 50_000_000),
    ("w4", 200_000_000),
    ("w5", 1_900_000_000),
];

pub(crate) fn run(args: &CompareArgs) -> Result<ExitCode, Box<dyn Error>> {
    let wanted = args.workload.to_lowercase();
    let chosen: Vec<_> =
        WORKLOADS.iter().filter(|(name, _)| wanted == "all" || wanted == *name).collect();
    if chosen.is_empty() {
        return Err(format!("workload {wanted}: curves exist for w1 to w5; say one, or all").into());
    }
    check_folder(args.out.as_deref())?;
    check_file(args.csv.as_deref())?;
    let runs = args.runs as usize;
    // Our headers are longer than those of the paper: a run with theirs tells how much that explains.
    let headers = match args.preset.headers {
        HeadersArg::Linux => vec![HeadersArg::Linux, HeadersArg::Paper],
        HeadersArg::Paper => vec![HeadersArg::Paper],
    };
    let mut jobs = Vec::new();
    for &&(name, time_ns) in &chosen {
        for &headers in &headers {
            let preset = PresetArgs { headers, ..args.preset.clone() };
            for run in 0..runs {
                jobs.push(job(&preset, args.load.paper(), name, time_ns, run as u64)?);
            }
        }
    }
    let results = run_all(&jobs, args.jobs)?;
    let load = args.load.paper();
    let mut csv = format!("{}\n", Tally::CSV_HEADER);
    let mut verdicts = Vec::new();
    let per_workload = runs * headers.len();
    for (index, &&(name, _)) in chosen.iter().enumerate() {
        let of_workload = &results[index * per_workload..][..per_workload];
        let job = &jobs[index * per_workload];
        let (ours, paper) = of_workload.split_at(runs);
        let tally = together(ours);
        let Some(comparison) = Comparison::new(&tally, name, load) else {
            return Err(format!("{name}: nothing was measured; raise --time").into());
        };
        print(name, load, &comparison);
        if !paper.is_empty() {
            print_share_of_headers(&comparison, together(paper).all().mean());
        }
        println!("{}\n", describe(&tally, &ours[0].summary));
        let unsched_bytes = job.config.homa.unsched_bytes;
        csv += &tally.csv_rows(&name.to_uppercase(), "homa-dpdk", load.fraction(), unsched_bytes);
        if let Some(dir) = &args.out {
            let record = record(job, load.fraction(), ours, &tally);
            let file = format!("{name}-{}", load.fraction());
            Results::Slowdown(Box::new(record)).save(dir, &file)?;
        }
        verdicts.push((name, comparison.verdict));
    }
    if let Some(path) = &args.csv {
        write(path, csv.as_bytes())?;
    }
    Ok(conclude(&verdicts))
}

/// The tallies of runs that differ in their seeds.
fn together(outcomes: &[Outcome]) -> Tally {
    let mut tally = outcomes[0].tally.clone();
    outcomes[1..].iter().for_each(|other| tally.add(&other.tally));
    tally
}

fn job(
    preset_args: &PresetArgs,
    load: PaperLoad,
    name: &str,
    time_ns: u64,
    run: u64,
) -> Result<Job, Box<dyn Error>> {
    let workload: Workload = name.parse()?;
    let curve = Curve::published(name, "Homa", load).ok_or("no published curve")?;
    let mut preset_args = preset_args.clone();
    // As far as can be told from the published curves: see docs/SIMULATION.md. What the user sets counts.
    preset_args.set.insert(0, "time.counted=arrived".into());
    let mut config = preset(&preset_args, name, time_ns)?;
    config.seed += run;
    let mut tally = Tally::new(curve.0.iter().map(|point| point.upper_bytes));
    if let Some(together) = Sigcomm18::receivers_together(&workload, load, config.time.measure_ns) {
        tally = tally.by_receiver(together);
    }
    Ok(Job {
        payload_bps: Sigcomm18::payload_bps(&workload, load.fraction()),
        tally,
        workload,
        config,
        traffic: Traffic::default(),
        reported: false,
    })
}

/// What of the difference to the published mean comes from longer headers.
fn print_share_of_headers(comparison: &Comparison, paper_mean: f64) {
    let (ours, homa) = comparison.mean;
    println!(
        "with the headers of the paper the mean is {paper_mean:.3}: headers are {:+.3} of the difference of {:+.3}",
        ours - paper_mean,
        ours - homa,
    );
}

fn print(name: &str, load: PaperLoad, comparison: &Comparison) {
    println!("{} at {:.0} %: slowdown", name.to_uppercase(), load.fraction() * 100.0);
    let is_by_receiver = comparison.lines.iter().any(|line| line.p99_together.is_some());
    let together = if is_by_receiver { " together" } else { "" };
    println!(
        "                       ---- mean ---    ------ p50 ----------------    ------ p99 ----------------"
    );
    println!(
        " messages   up to bytes   ours   Homa     ours   Homa pFabric oracle     ours   Homa pFabric oracle{together}"
    );
    for line in &comparison.lines {
        let Line { range_pct: (from, to), upper_bytes, ours, homa, pfabric, oracle, .. } = line;
        let mean = format!("{:6.3} {:6.3}", ours.mean, homa.mean);
        let p50 = [ours, homa, pfabric, oracle].map(|of| format!("{:6.3}", of.p50)).join(" ");
        let p99 = [ours, homa, pfabric, oracle].map(|of| format!("{:6.2}", of.p99)).join(" ");
        let together = line.p99_together.map_or(String::new(), |p99| format!("   {p99:6.2}"));
        println!("{from:3.0}-{to:3.0} %  {upper_bytes:12} {mean}   {p50}   {p99}{together}");
    }
    let (ours, homa) = comparison.mean;
    println!("mean of all {ours:.3}, Homa {homa:.3}");
    if is_by_receiver {
        println!(
            "p50 and p99: means over receivers, as Homa's; \"together\": p99 of the messages of all receivers"
        );
    }
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
