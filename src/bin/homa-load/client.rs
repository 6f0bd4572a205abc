//! `homa-load client`.

use std::error::Error;
use std::io::{IsTerminal, Write};
use std::net::IpAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};

use homa::load::apps::{ClientApp, ClientConfig, Progress, client_link};
use homa::load::arrival::Load;
use homa::load::classes::SizeClasses;
use homa::load::generator::{End, GeneratorConfig};
use homa::load::live::{Live, LiveMode};
use homa::load::quantity::Rate;
use homa::load::recorder::RecorderConfig;
use homa::load::report::{Machine, Report, RunConfig, TotalsReport};
use homa::load::slowdown::BestCase;
use homa::node::{Node, stop_on_signals};
use homa::time::Nanos;
use homa::wire::HomaPort;

use crate::args::{ClientArgs, LoadArgs};
use crate::server::counters;
use crate::{check_writable, node_config, style};

/// How long to wait for responses after the last request, beyond the time in which an RPC ends one way
/// or the other.
const DRAIN: Nanos = Nanos::from_ms(400);
/// 5 ms windows are kept for runs of unknown length as well, up to this length.
const WINDOWS_FOR: Nanos = Nanos::from_secs(60);

pub(crate) fn run(args: &ClientArgs) -> Result<ExitCode, Box<dyn Error>> {
    let servers = args.servers.iter().map(|server| (server.0, server.1)).collect();
    let title = format!("homa-load client: {} server(s)", args.servers.len());
    check_writable(args.load.json.as_deref())?;
    let mut node = Node::start(&node_config(&args.node)?)?;
    let (timeout, port) = (args.node.machine.timeout, args.node.device.to_string());
    let outcome = load(&mut node, &args.load, timeout, servers, &title, &port)?;
    let closed = node.close();
    let code = finish(&args.load, outcome, |_| ())?;
    closed?;
    Ok(code)
}

/// The load as the library wants it, all times counted from the start of the shard.
fn client_config(
    args: &LoadArgs,
    timeout: Nanos,
    servers: Vec<(IpAddr, HomaPort)>,
) -> ClientConfig {
    let workload = Arc::new(args.workload.clone());
    let rate = args.gbps.map(|gbps| Rate::Bps(gbps * 1e9)).or_else(|| args.rps.map(Rate::Rps));
    let load = match rate {
        Some(rate) => Load::Open { rate, outstanding_max: args.outstanding_max },
        None => Load::Closed { outstanding: args.outstanding.unwrap_or(8) },
    };
    let (end, measured) = match args.count {
        Some(rpcs) => (End::Rpcs(rpcs), WINDOWS_FOR),
        None => (End::After(args.duration), args.duration),
    };
    let classes = if workload.is_fixed() {
        SizeClasses::powers_of_two(workload.min_bytes(), workload.max_bytes())
    } else {
        SizeClasses::deciles(&workload)
    };
    let recorder = RecorderConfig::new(classes, BestCase::LeastSeen, args.warm_up, measured);
    ClientConfig {
        generator: GeneratorConfig {
            workload,
            load,
            start: Nanos::ZERO,
            warm_up: args.warm_up,
            end,
            drain: timeout + DRAIN,
            destinations: servers.len() as u32,
        },
        recorder,
        servers,
        response: args.response,
        verify: !args.no_verify,
        seed: args.seed,
    }
}

/// Runs the load on `node`, showing progress, and gives the report.
pub(crate) fn load(
    node: &mut Node,
    args: &LoadArgs,
    timeout: Nanos,
    servers: Vec<(IpAddr, HomaPort)>,
    title: &str,
    port: &str,
) -> Result<Report, Box<dyn Error>> {
    let stop = node.stop_flag();
    stop_on_signals(&stop)?;
    let config = client_config(args, timeout, servers);
    let mut run = RunConfig::new(&config.generator, 1, args.seed);
    title.clone_into(&mut run.title);
    port.clone_into(&mut run.port);
    run.parameters.insert("response".to_owned(), args.response.to_string());
    run.parameters.insert("content".to_owned(), content(args).to_owned());
    let (link, progress, give_back, result) = client_link();
    let clock = node.eal().clock();
    let shown = std::thread::spawn(move || show(&progress, &give_back));
    let ran = node.run(|cx| ClientApp::new(cx, clock, config, link));
    let _ = shown.join();
    let shard = ran?;
    let result = result.recv().map_err(|_| "the client gave no result")?;
    let (totals, recorder) = (&result.totals, &result.recorder);
    Ok(Report::new(run, Machine::detect(), totals, recorder, counters(&shard)))
}

const fn content(args: &LoadArgs) -> &'static str {
    if args.no_verify { "not checked" } else { "checked, every byte" }
}

/// Writes the live line until the client is gone.
fn show(progress: &Receiver<Box<Progress>>, give_back: &SyncSender<Box<Progress>>) {
    let out = std::io::stdout();
    let mode = if out.is_terminal() { LiveMode::Overwrite } else { LiveMode::Silent };
    let live = Live::new(mode, style());
    while let Ok(now) = progress.recv() {
        let line =
            live.update(now.elapsed, now.length, &now.interval, now.outstanding, &now.totals);
        let mut out = out.lock();
        let _ = out.write_all(line.as_bytes());
        let _ = out.flush();
        let _ = give_back.try_send(now);
    }
    print!("{}", live.end());
}

/// Prints and stores the report; the exit code says whether all went well.
pub(crate) fn finish(
    args: &LoadArgs,
    mut report: Report,
    amend: impl FnOnce(&mut Report),
) -> Result<ExitCode, Box<dyn Error>> {
    amend(&mut report);
    println!("{}", report.render(style()));
    if let Some(file) = &args.json {
        std::fs::write(file, report.to_json()?)
            .map_err(|error| format!("{}: {error}", file.display()))?;
    }
    let Some(trouble) = trouble(&report.totals) else { return Ok(ExitCode::SUCCESS) };
    eprintln!("error: {trouble}");
    Ok(ExitCode::FAILURE)
}

/// What went wrong, in one line, and what to do about it.
fn trouble(totals: &TotalsReport) -> Option<String> {
    let failed = totals.failed.values().sum::<u64>();
    let kinds: Vec<_> =
        totals.failed.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    if totals.corrupted > 0 {
        return Some(format!("{} messages arrived with wrong bytes", totals.corrupted));
    }
    if totals.completed == 0 && failed + totals.lost + totals.never_sent > 0 {
        let how = if kinds.is_empty() { "none failed either".to_owned() } else { kinds.join(", ") };
        return Some(format!(
            "none of {} RPCs was answered ({how}): start the server first, and check its address, \
             its port and the way there",
            totals.sent
        ));
    }
    (failed + totals.lost > 0).then(|| {
        format!(
            "{} of {} RPCs were not answered ({} lost{}{}): did the server stop?",
            failed + totals.lost,
            totals.sent,
            totals.lost,
            if kinds.is_empty() { "" } else { ", " },
            kinds.join(", ")
        )
    })
}
