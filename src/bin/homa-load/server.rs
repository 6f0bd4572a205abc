//! `homa-load server`.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Read;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use homa::load::apps::{ServerApp, ServerConfig, ServerCounts};
use homa::load::quantity::show_count;
use homa::node::{Node, ShardReport, stop_on_signals};
use serde::{Deserialize, Serialize};

use crate::args::ServerArgs;
use crate::{check_writable, node_config};

/// What a server says at its end.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct ServerReport {
    /// What it served.
    pub(crate) counts: ServerCounts,
    /// Counters of loop and transport, by name.
    pub(crate) counters: BTreeMap<String, u64>,
    /// What the transport still held at the end, by name.
    pub(crate) left: BTreeMap<String, u64>,
}

pub(crate) fn run(args: &ServerArgs) -> Result<ExitCode, Box<dyn Error>> {
    check_writable(args.json.as_deref())?;
    let mut config = node_config(&args.node)?;
    // A server is there first.
    config.link_timeout = Duration::MAX;
    let mut node = Node::start(&config)?;
    let stop = node.stop_flag();
    stop_on_signals(&stop)?;
    if args.child {
        stop_at_end_of_input(Arc::clone(&stop));
    } else {
        println!(
            "serving on {} port {} (echo) and {} (short responses); Ctrl-C ends",
            args.node.ip.addr,
            args.port,
            args.port.0 + 1
        );
    }
    let counts: Arc<Mutex<ServerCounts>> = Arc::default();
    let result = Arc::clone(&counts);
    let config = ServerConfig { port: args.port, verify: !args.no_verify };
    let report = node.run(|cx| ServerApp::new(cx, config, result))?;
    let closed = node.close();
    let counts = *counts.lock().map_err(|_| "the server's counts are lost")?;
    let server = ServerReport { counts, counters: counters(&report), left: left(&report) };
    if let Some(file) = &args.json {
        std::fs::write(file, serde_json::to_string(&server)?)
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
    closed?;
    Ok(if counts.corrupted == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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
fn stop_at_end_of_input(stop: Arc<AtomicBool>) {
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        stop.store(true, Ordering::Relaxed);
    });
}
