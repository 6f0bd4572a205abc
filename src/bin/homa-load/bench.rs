//! `homa-load bench`: Homa against raw frames over memif, in turn, each run in two fresh processes.

mod pair;
mod priority;
mod side;

use std::collections::BTreeMap;
use std::error::Error;
use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use homa::dpdk::{allowed_cpus, free_hugepages};
use homa::load::bench::{BenchReport, BenchRun, Comparison, Metric, System};
use homa::load::report::Machine;
use homa::node::{IdlePolicy, stop_on_signals};
use homa::time::Nanos;

use crate::args::{BenchArgs, LargeSource};
use crate::local::Directory;
use crate::{check_writable, style};

pub(crate) use side::{SideSpec, run as run_side};

const WARM_UP: Nanos = Nanos::from_ms(100);
/// Size of the hugepages that DPDK is given, in MB.
const HUGEPAGE_MB: u64 = 2;

pub(crate) fn run(args: &BenchArgs) -> Result<ExitCode, Box<dyn Error>> {
    check_writable(args.json.as_deref())?;
    let stop: Arc<AtomicBool> = Arc::default();
    stop_on_signals(&stop)?;
    let setting = Setting::of(args)?;
    let metrics: Vec<Metric> =
        Metric::ALL.into_iter().filter(|m| args.only.is_empty() || args.only.contains(m)).collect();
    let directory = Directory::new()?;
    let mut bench = Bench { args, setting, directory: &directory, runs: vec![], failures: vec![] };
    for round in 1..=args.rounds {
        for &metric in &metrics {
            for system in systems(metric, round, args.no_tcp) {
                // The first Ctrl-C ends the measuring, and what there is is reported.
                if !stop.load(Ordering::Relaxed) {
                    bench.measure(metric, system, round);
                }
            }
        }
    }
    let priority = bench.setting.priority.clone();
    let report = bench.report(&metrics, &priority);
    if args.markdown {
        print!("{}", report.to_markdown());
    } else {
        print!("{}", report.render(style()));
    }
    if let Some(file) = &args.json {
        std::fs::write(file, report.to_json()?)
            .map_err(|error| format!("{}: {error}", file.display()))?;
    }
    let whole = report.failures.is_empty() && report.comparisons.len() == metrics.len();
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What runs for a metric in a round; who is first changes, so that none profits from it.
fn systems(metric: Metric, round: u32, no_tcp: bool) -> Vec<System> {
    let mut systems = vec![System::Raw, System::Homa];
    if round.is_multiple_of(2) {
        systems.reverse();
    }
    if metric == Metric::Rtt && !no_tcp {
        systems.push(System::Tcp);
    }
    systems
}

/// What all runs have in common.
#[derive(Debug)]
struct Setting {
    client_cpu: usize,
    server_cpu: usize,
    idle: IdlePolicy,
    hugepages: bool,
    /// What the processes said of their priority.
    priority: String,
}

impl Setting {
    fn of(args: &BenchArgs) -> Result<Self, Box<dyn Error>> {
        let cpus = allowed_cpus();
        let client_cpu = cpus.first().copied().unwrap_or(0);
        let server_cpu = cpus.get(1).copied().unwrap_or(client_cpu);
        let mut idle = args.idle;
        if client_cpu == server_cpu {
            log::warn!("one CPU for both processes: figures will be those of the scheduler");
            idle = IdlePolicy::Yield;
        }
        let hugepages = decide_hugepages(args, free_hugepages())?;
        Ok(Self { client_cpu, server_cpu, idle, hugepages, priority: "unknown".to_owned() })
    }
}

/// The same for all runs: with hugepages or without.
fn decide_hugepages(args: &BenchArgs, free: u64) -> Result<bool, String> {
    let (free_mb, needed_mb) = (free * HUGEPAGE_MB, 2 * u64::from(args.memory_mb));
    if args.huge && free_mb < needed_mb {
        return Err(format!(
            "{free_mb} MB of hugepages are free, {needed_mb} MB are needed for two processes: \
             reserve more, lower --memory-mb, or leave out --huge"
        ));
    }
    Ok(!args.no_huge && free_mb >= needed_mb)
}

/// A benchmark under way.
struct Bench<'a> {
    args: &'a BenchArgs,
    setting: Setting,
    directory: &'a Directory,
    runs: Vec<BenchRun>,
    failures: Vec<String>,
}

impl Bench<'_> {
    /// One run. If it does not end well, the others go on.
    fn measure(&mut self, metric: Metric, system: System, round: u32) {
        let name = format!("round {round}, {metric}, {system}");
        // A socket of its own: whatever a run leaves behind does not concern the next one.
        let socket = self.directory.0.join(format!("{}-{round}-{system}.sock", metric.name()));
        let spec = self.spec(metric, system, &socket);
        let measured = pair::run(&spec, self.setting.server_cpu);
        let _ = std::fs::remove_file(&socket);
        match measured {
            Ok(measured) => {
                show_progress(&name, &format!("{} windows", measured.windows.len()));
                self.setting.priority = measured.priority;
                self.runs.push(BenchRun {
                    metric,
                    system,
                    round,
                    item_bytes: item_bytes(&spec),
                    windows: measured.windows,
                    failed: measured.failed,
                    counters: measured.counters,
                });
            }
            Err(error) => {
                show_progress(&name, &error.to_string());
                self.failures.push(format!("{name}: {error}"));
            }
        }
    }

    /// The client's side of a run.
    fn spec(&self, metric: Metric, system: System, socket: &Path) -> SideSpec {
        let args = self.args;
        SideSpec {
            metric,
            system,
            is_server: false,
            endpoint: socket.display().to_string(),
            cpu: self.setting.client_cpu,
            warm_up_ns: WARM_UP.0,
            duration_ns: (args.seconds * 1e9) as u64,
            idle: self.setting.idle.to_string(),
            frame_bytes: if metric.is_large() { args.raw_large_frame } else { args.raw_frame },
            attach: metric.is_large() && args.large == LargeSource::Attach,
            hugepages: self.setting.hugepages,
            memory_mb: args.memory_mb,
        }
    }

    fn report(self, metrics: &[Metric], priority: &str) -> BenchReport {
        let comparisons = metrics
            .iter()
            .filter_map(|&metric| {
                Comparison::of_runs(metric, &detail(metric, self.args), &self.runs)
            })
            .collect();
        let title = "Homa against raw frames over memif, two processes on two cores";
        let mut report = BenchReport::new(title, Machine::detect(), comparisons);
        report.parameters = self.parameters(priority);
        let failed: u64 = self.runs.iter().map(|run| run.failed).sum();
        report.parameters.insert("lost".to_owned(), format!("{failed} RPCs or frames"));
        report.runs = self.runs;
        report.failures = self.failures;
        report
    }

    fn parameters(&self, priority: &str) -> BTreeMap<String, String> {
        let (args, setting) = (self.args, &self.setting);
        let memory = if setting.hugepages { "hugepages" } else { "no hugepages" };
        let cpus = format!("client {}, server {}", setting.client_cpu, setting.server_cpu);
        // Fewer than asked for after Ctrl-C.
        let rounds = self.runs.iter().map(|run| run.round).max().unwrap_or(0);
        let rounds = format!(
            "{rounds} interleaved, {} s each after {} s of warm-up, windows of 5 ms",
            args.seconds,
            WARM_UP.0 as f64 / 1e9
        );
        [
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("memory", memory.to_owned()),
            ("CPUs", cpus),
            ("idle", setting.idle.to_string()),
            ("priority", priority.to_owned()),
            ("rounds", rounds),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }
}

/// Bytes of what a run counts.
fn item_bytes(spec: &SideSpec) -> u32 {
    match spec.system {
        System::Raw => spec.frame_bytes.into(),
        System::Homa | System::Tcp => spec.metric.request_bytes(),
    }
}

/// How a metric is measured, in words.
fn detail(metric: Metric, args: &BenchArgs) -> String {
    let (frame, large_frame) = (args.raw_frame, args.raw_large_frame);
    let outstanding = metric.outstanding();
    match metric {
        Metric::Rtt => format!("raw: ping-pong of one frame of {frame} B"),
        Metric::Rate8 | Metric::Rate32 => {
            format!("raw: echo of frames of {frame} B, {outstanding} outstanding")
        }
        Metric::Large32k | Metric::Large1m => {
            let source = match args.large {
                LargeSource::Attach => "requests from attached memory of the application",
                LargeSource::Copy => "requests copied into packet buffers",
            };
            format!(
                "payload of {source}, responses of 100 B; raw: frames of {large_frame} B one way, \
                 all their bytes"
            )
        }
    }
}

fn show_progress(name: &str, text: &str) {
    if std::io::stderr().is_terminal() {
        eprintln!("{name}: {text}");
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn args(options: &[&str]) -> BenchArgs {
        let words = ["homa-load", "bench"].iter().chain(options);
        match Cli::try_parse_from(words).unwrap().command {
            Command::Bench(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_round_has_raw_and_homa_in_turn() {
        assert_eq!(systems(Metric::Rtt, 1, false), [System::Raw, System::Homa, System::Tcp]);
        assert_eq!(systems(Metric::Rtt, 2, true), [System::Homa, System::Raw]);
        assert_eq!(systems(Metric::Large1m, 3, false), [System::Raw, System::Homa]);
    }

    #[test]
    fn hugepages_must_do_for_both_processes() {
        assert_eq!(decide_hugepages(&args(&[]), 256), Ok(true));
        assert_eq!(decide_hugepages(&args(&[]), 255), Ok(false));
        assert_eq!(decide_hugepages(&args(&["--no-huge"]), 512), Ok(false));
        assert_eq!(decide_hugepages(&args(&["--huge", "--memory-mb=512"]), 512), Ok(true));
        let text = decide_hugepages(&args(&["--huge"]), 100).unwrap_err();
        assert!(text.contains("200 MB") && text.contains("512 MB"), "{text}");
    }

    #[test]
    fn wrong_arguments_are_named() {
        for (options, part) in [
            (["--only=rtt,latency"], "unknown figure 'latency'"),
            (["--seconds=0"], "0.05 to 600"),
            (["--rounds=0"], "from 1 to 10000"),
            (["--idle=sleep"], "spin, pause or yield"),
            (["--raw-frame=9000"], "from 60 to 1514"),
        ] {
            let words = ["homa-load", "bench"].iter().chain(&options);
            let text = Cli::try_parse_from(words).unwrap_err().to_string();
            assert!(text.contains(part), "{options:?}: {text}");
        }
    }

    #[test]
    fn the_details_name_the_frames() {
        let args = args(&["--only", "rtt,large1m", "--large=copy"]);
        assert_eq!(args.only, [Metric::Rtt, Metric::Large1m]);
        assert_eq!(detail(Metric::Rtt, &args), "raw: ping-pong of one frame of 190 B");
        assert!(detail(Metric::Rate8, &args).contains("8 outstanding"));
        assert!(detail(Metric::Large1m, &args).contains("copied into packet buffers"));
    }
}
