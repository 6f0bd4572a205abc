//! `homa-sim ablate`: what single settings are worth.

use std::error::Error;
use std::process::ExitCode;

use homa::load::workload::Workload;
use homa::report::{Section, Table};
use homa::sim::{Ablation, Cluster, SWITCHES, SimConfig};

use crate::args::AblateArgs;
use crate::jobs::in_parallel;
use crate::report::{Results, check_folder};
use crate::run::{change, read};

/// A workload with one setting changed.
struct Variant<'a> {
    workload: &'a Workload,
    name: &'static str,
    config: SimConfig,
}

pub(crate) fn run(args: &AblateArgs) -> Result<ExitCode, Box<dyn Error>> {
    let mut base = match &args.config {
        Some(path) => read(path)?,
        None => Ablation::cluster(),
    };
    base.time.measure_ns = args.time;
    base.time.warm_up_ns = args.time / 10;
    base.seed = args.seed;
    let base = change(base, &args.set)?;
    let mut variants = Vec::new();
    for workload in &args.workload {
        variants.push(Variant { workload, name: "all as set", config: base.clone() });
        for switch in &SWITCHES {
            let mut config = base.clone();
            (switch.change)(&mut config.homa);
            if config != base {
                variants.push(Variant { workload, name: switch.name, config });
            }
        }
    }
    check_folder(args.out.as_deref())?;
    let runs = args.runs;
    let seeded = |variant: &Variant<'_>, run: u64| {
        let mut config = variant.config.clone();
        config.seed += run;
        (variant.workload.clone(), config)
    };
    let work: Vec<_> = variants
        .iter()
        .flat_map(|variant| (0..runs).map(move |run| seeded(variant, run)))
        .collect();
    let results = in_parallel(&work, args.jobs, "runs", |(workload, config)| {
        // Requests and responses share the load.
        let share = args.load / 2.0 * workload.paper_wire_share();
        let payload_bps = share * config.network.host_bps as f64;
        let ablation = Ablation::new(workload);
        let mut cluster = Cluster::<(), _>::new(config, workload, payload_bps, ablation)?;
        let summary = cluster.run();
        let metrics = cluster.metrics();
        Ok(cluster.into_observer().figures(&summary, &metrics))
    });
    let figures = results.into_iter().collect::<Result<Vec<_>, homa::sim::SimError>>()?;
    let head = std::iter::once(&"setting").chain(&Ablation::HEAD).map(|&head| head.into());
    let mut table = Table { head: head.collect(), rows: vec![] };
    for (variant, of_variant) in variants.iter().zip(figures.chunks(runs as usize)) {
        let first = format!("{}: {}", variant.workload.name().to_uppercase(), variant.name);
        table.rows.push(std::iter::once(first).chain(Ablation::row(of_variant)).collect());
    }
    print(&table);
    if let Some(dir) = &args.out {
        let text = format!(
            "RPCs that send each request back, on {} hosts at {} Gbps with {} for packets that wait, at {:.0} % \
             load for {} ms, {runs} run(s) each. Slowdowns are those of requests; of several runs, the \
             mean and half the distance from the lowest to the highest.",
            base.network.hosts(),
            base.network.host_bps as f64 / 1e9,
            base.network.buffer,
            100.0 * args.load,
            args.time as f64 / 1e6,
        );
        let heading = "What single settings are worth".into();
        let section =
            Section { heading, text: vec![text], table: Some(table), ..Section::default() };
        Results::Table(section).save(dir, "ablate")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print(table: &Table) {
    let columns = table.head.len();
    let lines = || std::iter::once(&table.head).chain(&table.rows);
    let widths: Vec<usize> = (0..columns)
        .map(|i| lines().map(|line| line[i].chars().count()).max().unwrap_or(0))
        .collect();
    for line in lines() {
        let cells = line.iter().zip(&widths).enumerate().map(|(i, (cell, &width))| match i {
            0 => format!("{cell:width$}"),
            _ => format!("{cell:>width$}"),
        });
        println!("{}", cells.collect::<Vec<_>>().join("  "));
    }
}
