//! `homa-load server`.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Read;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use homa::load::apps::{
    CpNodeServer, MessageFormat, ResponseKind, ServerApp, ServerConfig, ServerCounts, ServerResult,
};
use homa::load::cp_node::{Lines, Second};
use homa::load::quantity::show_count;
use homa::load::report::SideReport;
use homa::node::{Cx, Node, ShardReport, stop_on_signals};
use serde::{Deserialize, Serialize};

use crate::args::{OutputFormat, ServerArgs, Transport, port_groups};
use crate::client::time_of_day;
use crate::observe::Observers;
use crate::{check_writable, kernel, node_config, wrong_arguments};

/// What a server says at its end.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct ServerReport {
    /// What it served.
    pub(crate) counts: ServerCounts,
    /// What that cost, from the first request to the last.
    #[serde(default)]
    pub(crate) side: SideReport,
    /// Counters of loop and transport, by name.
    pub(crate) counters: BTreeMap<String, u64>,
    /// What the transport still held at the end, by name.
    pub(crate) left: BTreeMap<String, u64>,
}

pub(crate) fn run(args: &ServerArgs) -> Result<ExitCode, Box<dyn Error>> {
    if let Transport::Kernel(transport) = args.kernel.transport {
        return kernel::serve(args, transport);
    }
    kernel::refuse_socket_options(&args.kernel, None)?;
    check_writable(args.json.as_deref())?;
    port_groups(args.port, args.ports).map_err(wrong_arguments)?;
    if args.response.as_ref().is_some_and(|kind| !matches!(kind, ResponseKind::Drawn(_))) {
        let text = "--response of a server is for sizes: echo and short need no option";
        return Err(wrong_arguments(text.to_owned()).into());
    }
    let mut config = node_config(&args.node)?;
    let observers = Observers::new(&args.node.machine)?;
    // A server is there first.
    config.link_timeout = Duration::MAX;
    let mut node = Node::start(&config)?;
    let observed = observers.watch(&node)?;
    let stop = node.stop_flag();
    stop_on_signals(&stop)?;
    if let Some(file) = &args.ready {
        std::fs::write(file, "")?;
    }
    if args.child {
        stop_at_end_of_input(Arc::clone(&stop));
    } else {
        let ports = match args.protocol {
            MessageFormat::Plain => plain_ports(args),
            MessageFormat::CpNode => format!("{} (cp_node)", args.port),
        };
        let addresses: Vec<String> =
            args.node.addresses.iter().map(|address| address.ip.to_string()).collect();
        if node.shards() > 1 {
            println!("{} shards; {}", node.shards(), node.arrival());
        }
        println!("serving on {} port {ports}; Ctrl-C ends", addresses.join(", "));
    }
    let (ServerResult { counts, side }, report) = match args.protocol {
        MessageFormat::Plain => serve(&mut node, args)?,
        MessageFormat::CpNode => serve_cp_node(&mut node, args)?,
    };
    drop(observed);
    let closed = node.close();
    let server = ServerReport { counts, side, counters: counters(&report), left: left(&report) };
    let code = publish(args, &server)?;
    closed?;
    Ok(code)
}

/// Says what was served; the exit code says whether the bytes were right.
pub(crate) fn publish(
    args: &ServerArgs,
    report: &ServerReport,
) -> Result<ExitCode, Box<dyn Error>> {
    let counts = report.counts;
    if let Some(file) = &args.json {
        std::fs::write(file, serde_json::to_string(report)?)
            .map_err(|error| format!("{}: {error}", file.display()))?;
    }
    if !args.child {
        println!(
            "served {} requests of {} bytes in all, {} corrupted, {} responses refused",
            show_count(counts.requests),
            show_count(counts.request_bytes),
            counts.corrupted,
            counts.refused
        );
    }
    Ok(if counts.corrupted == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn plain_ports(args: &ServerArgs) -> String {
    let mut text = format!("{} (echo), {} (short responses)", args.port, args.port.0 + 1);
    if let Some(response) = &args.response {
        text += &format!(", {} (responses {response})", args.port.0 + 2);
    }
    if args.ports > 1 {
        text += &format!(", and so on, {} groups", args.ports);
    }
    text
}

fn serve(
    node: &mut Node,
    args: &ServerArgs,
) -> Result<(ServerResult, ShardReport), Box<dyn Error>> {
    let served: Arc<Mutex<ServerResult>> = Arc::default();
    let (result, clock) = (Arc::clone(&served), node.eal().clock());
    let config = ServerConfig {
        port_groups: args.ports,
        drawn: args.response.clone(),
        service_time: args.service_time,
        stall: args.stall.map(|stall| stall.0),
        verify: !args.no_verify,
        ..ServerConfig::new(args.port)
    };
    let make = |cx: &mut Cx<'_>| ServerApp::new(cx, clock, config.clone(), Arc::clone(&result));
    let report = node.run_shards(make)?.merged();
    let mut served = served.lock().map_err(|_| "the server's counts are lost")?.clone();
    name_server_cores(&mut served.side, node.cpus());
    Ok((served, report))
}

/// Names cores, which are named by their shards, by the CPUs of those.
pub(crate) fn name_server_cores(side: &mut SideReport, cpus: &[usize]) {
    for core in &mut side.cores {
        let cpu = core.name.parse().ok().and_then(|shard: usize| cpus.get(shard));
        core.name = cpu.map_or_else(String::new, ToString::to_string);
    }
}

fn serve_cp_node(
    node: &mut Node,
    args: &ServerArgs,
) -> Result<(ServerResult, ShardReport), Box<dyn Error>> {
    let lines = args.format.map(|OutputFormat::CpNode| Lines::new(args.exp.clone()));
    let (link, counts) = CpNodeServer::link();
    let shown = std::thread::spawn(move || show_lines(lines.as_ref(), &counts));
    let port = args.port;
    let ran = node.run(|cx| CpNodeServer::new(cx, port, link));
    let counts = shown.join().map_err(|_| "the server's counts are lost")?;
    Ok((ServerResult { counts, ..ServerResult::default() }, ran?))
}

/// Writes a line for each second with requests; gives the last counts.
fn show_lines(lines: Option<&Lines>, counts: &Receiver<ServerCounts>) -> ServerCounts {
    let (mut last, mut since) = (ServerCounts::default(), Instant::now());
    while let Ok(now) = counts.recv() {
        let second = Second {
            length: since.elapsed(),
            rpcs: now.requests - last.requests,
            request_bytes: now.request_bytes - last.request_bytes,
            response_bytes: now.response_bytes - last.response_bytes,
        };
        (last, since) = (now, Instant::now());
        if let Some(lines) = lines.filter(|_| second.rpcs > 0) {
            print!("{}", lines.server(time_of_day(), &second, &[now.requests]));
        }
    }
    last
}

/// All counters of a shard that are not zero.
pub(crate) fn counters(report: &ShardReport) -> BTreeMap<String, u64> {
    let net = report.net.iter().map(|&(name, value)| (format!("net_{name}"), value));
    let stats = report.stats.iter().map(|(name, value)| (format!("loop_{name}"), value));
    let metrics = report.metrics.iter().map(|(name, value)| (name.to_owned(), value));
    metrics.chain(stats).chain(net).filter(|(_, value)| *value > 0).collect()
}

fn left(report: &ShardReport) -> BTreeMap<String, u64> {
    let occupancy = &report.occupancy;
    [
        ("server_rpcs", occupancy.server_rpcs as u64),
        ("retained_packets", occupancy.retained_packets.into()),
        ("incoming_bytes", occupancy.incoming_bytes),
        ("outgoing_bytes", occupancy.outgoing_bytes),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// A child must not outlive the process that started it.
pub(crate) fn stop_at_end_of_input(stop: Arc<AtomicBool>) {
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        stop.store(true, Ordering::Relaxed);
    });
}
