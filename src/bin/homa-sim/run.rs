//! `homa-sim run`.

use std::error::Error;
use std::io::IsTerminal;
use std::process::ExitCode;

use homa::load::quantity::Rate;
use homa::load::report::{Report, write_folder};
use homa::load::table::Style;
use homa::load::workload::Workload;
use homa::sim::{Exchange, Sigcomm18, SimConfig, Summary, Tally, Traffic};

use crate::args::{PresetArgs, RunArgs};
use crate::jobs::{Job, Outcome, record, run_all};
use crate::report::{Results, check_file, check_folder, write};

const TIME_NS_DEFAULT: u64 = 10_000_000;

/// The preset with what the command line changes.
pub(crate) fn preset(
    args: &PresetArgs,
    workload: &str,
    time_ns: u64,
) -> Result<SimConfig, Box<dyn Error>> {
    let preset = Sigcomm18 {
        framing: args.headers.framing(),
        seed: args.seed,
        measure_ns: args.time.unwrap_or(time_ns),
        intra_rack_slip: !args.no_slip,
        unscheduled_priorities: Sigcomm18::published_levels(workload),
        shards: args.shards,
    };
    change(preset.config(), &args.set)
}

/// Sets single settings by name.
pub(crate) fn change(config: SimConfig, changes: &[String]) -> Result<SimConfig, Box<dyn Error>> {
    if changes.is_empty() {
        return Ok(config);
    }
    let mut table = toml::Table::try_from(config)?;
    for change in changes {
        let wrong = |why: &str| format!("--set {change}: {why}");
        let (name, value) = change.split_once('=').ok_or_else(|| wrong("must be NAME=VALUE"))?;
        let parsed: toml::Table = toml::from_str(&format!("value = {value}"))
            .or_else(|_| toml::from_str(&format!("value = {value:?}")))?;
        let (parents, last) = name.rsplit_once('.').unwrap_or(("", name));
        let mut place = &mut table;
        for parent in parents.split('.').filter(|part| !part.is_empty()) {
            let inner = place.get_mut(parent).and_then(toml::Value::as_table_mut);
            place = inner.ok_or_else(|| wrong("no such setting; see run --print-config"))?;
        }
        place.insert(last.to_owned(), parsed["value"].clone());
    }
    table.try_into().map_err(|error| format!("--set: {error}").into())
}

/// Edges of bins: as many as the published curves have, of about the same number of messages each.
fn edges(workload: &Workload) -> Vec<u32> {
    let mut edges: Vec<u32> = (1..=100).map(|i| workload.quantile(f64::from(i) / 100.0)).collect();
    edges.extend([0.995, 0.999, 0.9999].map(|q| workload.quantile(q)));
    edges.sort_unstable();
    edges.dedup();
    edges
}

pub(crate) fn run(args: &RunArgs) -> Result<ExitCode, Box<dyn Error>> {
    let mut config = match &args.config {
        None => preset(&args.preset, args.workload.name(), TIME_NS_DEFAULT)?,
        Some(path) => change(read(path)?, &args.preset.set)?,
    };
    if args.response.is_some() && config.exchange == Exchange::OneWay {
        config.exchange = Exchange::Rpc(0);
    }
    if args.print_config {
        print!("{}", toml::to_string(&config)?);
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(folder) = &args.report {
        homa::load::report::check_folder(folder)?;
    }
    check_folder(args.out.as_deref())?;
    check_file(args.csv.as_deref())?;
    check_file(args.json.as_deref())?;
    let workload = match args.cut {
        Some(bytes) => args.workload.clone().cut_at(bytes)?,
        None => args.workload.clone(),
    };
    let job = Job {
        payload_bps: payload_bps(args, &workload, config.network.host_bps as f64)?,
        tally: Tally::new(edges(&workload)),
        traffic: Traffic { pattern: args.pattern, response: args.response.clone() },
        reported: args.json.is_some() || args.report.is_some(),
        workload,
        config,
    };
    let outcome = run_all(std::slice::from_ref(&job), 1)?.remove(0);
    let Outcome { tally, summary, .. } = &outcome;
    let name = job.workload.name().to_uppercase();
    let rows = tally.csv_rows(&name, "homa-dpdk", args.load, job.config.homa.unsched_bytes);
    let table = format!("{}\n{rows}", Tally::CSV_HEADER);
    match (&args.csv, &outcome.report) {
        (Some(path), _) => write(path, table.as_bytes())?,
        (None, None) => print!("{table}"),
        (None, Some(_)) => {}
    }
    if let Some(report) = &outcome.report {
        write_report(args, report)?;
    }
    if let Some(dir) = &args.out {
        let record = record(&job, args.load, std::slice::from_ref(&outcome), tally);
        let file = format!("{}-{}", job.workload.name(), args.load);
        Results::Slowdown(Box::new(record)).save(dir, &file)?;
    }
    eprintln!("{}", describe(tally, summary));
    Ok(ExitCode::SUCCESS)
}

/// Payload of each host that sends.
fn payload_bps(args: &RunArgs, workload: &Workload, host_bps: f64) -> Result<f64, String> {
    let from_rate =
        |rps: f64| Rate::Rps(rps).rps(workload.mean_bytes()) * workload.mean_bytes() * 8.0;
    let stated = args.gbps.map(|gbps| gbps * 1e9).or_else(|| args.rps.map(from_rate));
    let bps = stated.unwrap_or_else(|| args.load * workload.paper_wire_share() * host_bps);
    if bps > host_bps {
        let [offered, carried] = [bps, host_bps].map(|bps| bps / 1e9);
        return Err(format!(
            "each host would send {offered:.3} Gbps, and its link carries {carried}: lower --gbps or \
             --rps, or raise network.host_bps"
        ));
    }
    Ok(bps)
}

/// Prints a report as homa-load does, and writes it wherever it was asked for.
fn write_report(args: &RunArgs, report: &Report) -> Result<(), Box<dyn Error>> {
    let no_color = std::env::var("NO_COLOR").ok();
    let style = Style::new(std::io::stdout().is_terminal(), no_color.as_deref());
    println!("{}", report.render(style));
    if let Some(path) = &args.json {
        write(path, report.to_json()?.as_bytes())?;
    }
    if let Some(folder) = &args.report {
        let page = write_folder(folder, &args.name, report)?;
        eprintln!("{}", page.display());
    }
    Ok(())
}

pub(crate) fn read(path: &std::path::Path) -> Result<SimConfig, Box<dyn Error>> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(toml::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?)
}

/// What a run was, in a few lines.
pub(crate) fn describe(tally: &Tally, summary: &Summary) -> String {
    let all = tally.all();
    let Summary { packets, .. } = summary;
    let mut text = format!(
        "{} messages measured in {:.2} ms: slowdown mean {:.3}, p50 {:.3}, p99 {:.3}; {} not arrived\n\
         {} events, {} packet-hops, {} packets dropped; {:.1} KB waited at most at a host port, \
         {:.1} KB on average over ports; trace {:016x}",
        all.count,
        summary.simulated_ns as f64 / 1e6,
        all.mean(),
        all.quantile(0.5),
        all.quantile(0.99),
        summary.unfinished,
        summary.events,
        packets.hops,
        packets.dropped,
        summary.host_port_bytes_max as f64 / 1e3,
        summary.host_port_bytes_max_mean / 1e3,
        summary.trace_hash,
    );
    if summary.refused + summary.failed > 0 {
        text += &format!(
            "\n{} calls refused (raise homa.rpcs_max), {} failed",
            summary.refused, summary.failed
        );
    }
    text
}
