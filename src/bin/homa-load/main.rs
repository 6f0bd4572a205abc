//! `homa-load`: load generator and benchmark for Homa over DPDK. Argument parsing and wiring only.

mod agent;
mod args;
mod bench;
mod client;
mod compare_transports;
mod coordinator;
mod kernel;
mod live;
mod local;
mod meeting;
mod observe;
mod ping;
mod report;
mod server;
mod task;
mod veth;

use std::error::Error;
use std::fs::OpenOptions;
use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser};
use homa::dpdk::Hugepages;
use homa::load::command_line::{completions, end_when_nobody_reads, manual, show_error, start_log};
use homa::load::table::Style;
use homa::node::{HandOff, NodeConfig, NodeError, TraceConfig};
use homa::time::Nanos;
use homa::transport;

use args::{BaselineArgs, BaselineOver, Cli, Command, MachineArgs, NodeArgs};

/// RPCs that a shard ends in a microsecond, at most.
const ENDED_PER_US_MAX: u64 = 4;
/// Ids that one entry remembers.
const IDS_PER_TOMBSTONE: u64 = 32;
/// 64 MB of them.
const TOMBSTONES_MAX: usize = 1 << 22;

/// Exit code for wrong arguments.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    end_when_nobody_reads();
    let words = match agent::with_inventory(std::env::args_os().collect()) {
        Ok(words) => words,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(USAGE);
        }
    };
    let cli = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => {
            eprintln!("{}", one_line(&error.to_string()));
            return ExitCode::from(USAGE);
        }
        Err(help) => {
            print!("{help}");
            return ExitCode::SUCCESS;
        }
    };
    start_log(cli.log_format);
    let result = match cli.command {
        Command::Server(args) => server::run(&args),
        Command::Client(args) => client::run(&args),
        Command::Ping(args) => return ping::run(&args),
        Command::Agent(args) => agent::run(&args),
        Command::Coordinator(args) => coordinator::run(&args),
        Command::Local(args) => local::run(&args),
        Command::Baseline(BaselineArgs { out, samples, over }) => match over {
            BaselineOver::Local(args) => local::run_baseline(&args, &out, samples),
            BaselineOver::Client(args) => client::run_baseline(&args, &out, samples),
        },
        Command::Bench(args) => bench::run(&args),
        Command::CompareTransports(args) => compare_transports::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Compare(args) => report::compare(&args),
        Command::Completions(args) => print_completions(args.shell),
        Command::Man(args) => print_manual(args.subcommand.as_deref()),
        Command::BenchSide(args) => bench::run_side(&args.spec),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            complain(&error.to_string());
            if error.is::<WrongArguments>() { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
        }
    }
}

/// Says on standard error what went wrong.
fn complain(error: &str) {
    show_error("homa-load", error);
}

fn print_completions(shell: clap_complete::Shell) -> Result<ExitCode, Box<dyn Error>> {
    print!("{}", completions(&mut Cli::command(), shell));
    Ok(ExitCode::SUCCESS)
}

fn print_manual(subcommand: Option<&str>) -> Result<ExitCode, Box<dyn Error>> {
    print!("{}", manual(&Cli::command(), subcommand).map_err(wrong_arguments)?);
    Ok(ExitCode::SUCCESS)
}

/// Arguments that are wrong together, or on this machine; found before anything is started.
#[derive(Debug)]
struct WrongArguments(NodeError);

impl std::fmt::Display for WrongArguments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for WrongArguments {}

/// What is wrong with the arguments together.
fn wrong_arguments(text: String) -> WrongArguments {
    WrongArguments(NodeError::Config(text))
}

/// The first paragraph of a message of clap, in one line. Without arguments its message is the help.
fn one_line(message: &str) -> String {
    let first = message.split("\n\n").next().unwrap_or(message);
    let words: Vec<&str> = first.split_whitespace().collect();
    let said = words.join(" ");
    let said = if said.starts_with("error: ") {
        said
    } else {
        "error: a subcommand is needed: server, client, ping, local, agent, coordinator, report or \
         compare"
            .to_owned()
    };
    said + " (--help tells more)"
}

/// How to write tables on standard output.
fn style() -> Style {
    let no_color = std::env::var("NO_COLOR").ok();
    Style::new(std::io::stdout().is_terminal(), no_color.as_deref())
}

/// The settings that `server` and `client` have in common.
fn node_config(args: &NodeArgs) -> Result<NodeConfig, WrongArguments> {
    let Some(device) = args.device.clone() else {
        let text =
            "--device PORT is needed, such as memif:/tmp/x.sock,role=client or pci:0000:3b:00.0";
        return Err(wrong_arguments(text.to_owned()));
    };
    if args.addresses.is_empty() {
        return Err(wrong_arguments("--ip ADDR/LEN is needed, such as 10.0.0.1/24".to_owned()));
    }
    let mut config = NodeConfig::of_addresses(device, args.addresses.clone());
    config.net.gateways = args.gateways.clone();
    config.net.vlan = args.vlan;
    config.net.vlan_pcp_from_priority = args.vlan_pcp;
    config.net.marked_tcp = args.marked_tcp;
    config.net.marked_tcp_peers = args.marked_tcp_peers.clone();
    config.net.peer_mtus = args.peer_mtus.iter().map(|peer| (peer.0, peer.1)).collect();
    config.net.static_neighbors = args.neighbors.iter().map(|n| (n.0, n.1)).collect();
    apply_machine(&mut config, &args.machine)?;
    Ok(config)
}

fn apply_machine(config: &mut NodeConfig, args: &MachineArgs) -> Result<(), WrongArguments> {
    config.mtu = args.mtu;
    config.link_bps = args.link_gbps.map(|gbps| (gbps * 1e9) as u64);
    config.cpus = args.cores.as_ref().map_or_else(Vec::new, |cores| cores.0.clone());
    config.detour = args.detour;
    let requests_max = HandOff::REQUESTS_MAX;
    config.hand_off = args.hand_off.map(|when| HandOff { when, requests_max });
    config.idle = args.idle;
    config.set_unresolved_packets_max(args.unresolved_packets);
    config.memory_mb = args.memory_mb;
    config.telemetry = args.telemetry;
    set_timeout(&mut config.transport, args.timeout);
    config.drain = config.drain.max(Duration::from_nanos(args.timeout.0));
    config.drop_fraction = args.drop_percent / 100.0;
    check_writable(args.trace.as_deref())?;
    config.trace = args
        .trace
        .as_ref()
        .map(|file| TraceConfig { frame_bytes: args.trace_bytes, ..TraceConfig::new(file) });
    config.hugepages = match (args.huge, args.no_huge) {
        (true, _) => Hugepages::Require,
        (_, true) => Hugepages::Never,
        _ => Hugepages::Auto,
    };
    config.validate().map_err(WrongArguments)
}

/// What must outlive the peer's patience is kept twice as long.
fn set_timeout(config: &mut transport::Config, timeout: Nanos) {
    config.timeout_ns = timeout.0;
    let keep_ns = timeout.0.saturating_mul(2);
    config.response_keep_ns = config.response_keep_ns.max(keep_ns);
    config.tombstone_keep_ns = config.tombstone_keep_ns.max(keep_ns);
    // Room for what a shard can end in that time, or a fast one would refuse requests. Memory that is not
    // needed is never touched.
    let kept_us = config.tombstone_keep_ns / 1_000 * 3 / 2;
    let runs = kept_us.saturating_mul(ENDED_PER_US_MAX) / IDS_PER_TOMBSTONE;
    let runs = usize::try_from(runs).unwrap_or(usize::MAX).min(TOMBSTONES_MAX);
    config.tombstones_max = config.tombstones_max.max(runs);
}

/// Sees to it that a report can be written to `file`, before the run that it is about.
fn check_writable(file: Option<&Path>) -> Result<(), WrongArguments> {
    let Some(file) = file else { return Ok(()) };
    let opened = OpenOptions::new().append(true).create(true).open(file);
    opened.map(drop).map_err(|error| {
        wrong_arguments(format!(
            "{}: {error}: name a file that may be written, in a directory that exists",
            file.display()
        ))
    })
}
