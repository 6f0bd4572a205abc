//! `homa-load client`.

use std::error::Error;
use std::io::{IsTerminal, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use homa::load::apps::{
    ClientApp, ClientConfig, ClientResult, ClientWatch, MessageFormat, Progress, ResponseKind,
    client_links,
};
use homa::load::arrival::Load;
use homa::load::classes::SizeClasses;
use homa::load::cp_node::{Lines, Second};
use homa::load::generator::{End, GeneratorConfig};
use homa::load::live::{Live, LiveMode};
use homa::load::quantity::Rate;
use homa::load::recorder::RecorderConfig;
use homa::load::report::{Machine, Report, RunConfig, TotalsReport};
use homa::load::slowdown::BestCase;
use homa::load::wire_cost::WireCost;
use homa::node::{Node, stop_on_signals};
use homa::time::Nanos;
use homa::wire::HomaPort;

use crate::args::{ClientArgs, LoadArgs, OutputFormat, port_groups};
use crate::server::counters;
use crate::{WrongArguments, check_writable, node_config, style, wrong_arguments};

/// How long to wait for responses after the last request, beyond the time in which an RPC ends one way
/// or the other.
const DRAIN: Nanos = Nanos::from_ms(400);
/// 5 ms windows are kept for runs of unknown length as well, up to this length.
const WINDOWS_FOR: Nanos = Nanos::from_secs(60);

/// How long the live line waits for the numbers of a shard.
const LATE: Duration = Duration::from_millis(200);

/// What of a shard the live line needs.
struct Shown {
    progress: Receiver<Box<Progress>>,
    give_back: SyncSender<Box<Progress>>,
}

pub(crate) fn run(args: &ClientArgs) -> Result<ExitCode, Box<dyn Error>> {
    let servers = servers(args)?;
    let title = format!("homa-load client: {} server(s)", args.servers.len());
    check_writable(args.load.json.as_deref())?;
    let mut node = Node::start(&node_config(&args.node)?)?;
    let target = Target {
        servers,
        title,
        port: args.node.device.to_string(),
        timeout: args.node.machine.timeout,
        mtu: args.node.machine.mtu,
        dialect: Dialect { messages: args.protocol, lines: lines(args) },
    };
    let is_silent = target.dialect.lines.is_some();
    let outcome = load(&mut node, &args.load, &target)?;
    let closed = node.close();
    let code = finish(&args.load, outcome, is_silent, |_| ())?;
    closed?;
    Ok(code)
}

/// Every group of ports at every server.
fn servers(args: &ClientArgs) -> Result<Vec<(IpAddr, HomaPort)>, WrongArguments> {
    if let (MessageFormat::CpNode, ResponseKind::Drawn(sizes)) =
        (args.protocol, &args.load.response)
    {
        let text = format!("servers of cp_node answer with echo or short, not with sizes {sizes}");
        return Err(wrong_arguments(text));
    }
    let mut servers = Vec::new();
    for server in &args.servers {
        let ports = match args.protocol {
            MessageFormat::Plain => port_groups(server.1, args.ports).map_err(wrong_arguments)?,
            MessageFormat::CpNode => (0..args.ports).map(|i| HomaPort(server.1.0 + i)).collect(),
        };
        servers.extend(ports.into_iter().map(|port| (server.0, port)));
    }
    Ok(servers)
}

/// What the load goes to, and how that is called.
pub(crate) struct Target {
    /// Addresses and base ports.
    pub(crate) servers: Vec<(IpAddr, HomaPort)>,
    /// What this run is.
    pub(crate) title: String,
    /// The port of the node.
    pub(crate) port: String,
    /// Silence after which an RPC is given up.
    pub(crate) timeout: Nanos,
    /// Bytes of an IP packet.
    pub(crate) mtu: u16,
    /// How to talk to the servers, and to people.
    pub(crate) dialect: Dialect,
}

/// How to talk to servers, and to people.
#[derive(Default)]
pub(crate) struct Dialect {
    /// What messages look like.
    messages: MessageFormat,
    /// Lines of `cp_node` once a second, instead of a report.
    lines: Option<Lines>,
}

fn lines(args: &ClientArgs) -> Option<Lines> {
    let OutputFormat::CpNode = args.format?;
    let name = || format!("homa_{}", args.load.workload.name());
    Some(Lines::new(args.exp.clone().unwrap_or_else(name)))
}

/// The load as the library wants it, all times counted from the start of the shard.
pub(crate) fn client_config(args: &LoadArgs, target: &Target) -> ClientConfig {
    let servers = target.servers.clone();
    let workload = Arc::new(args.workload.clone());
    let wire = || {
        let address = servers.first().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |server| server.0);
        let request_mean_bytes = WireCost::new(target.mtu, address).mean_bytes(&workload);
        args.wire_gbps.map(|gbps| Rate::WireBps { bps: gbps * 1e9, request_mean_bytes })
    };
    let rate = args.gbps.map(|gbps| Rate::Bps(gbps * 1e9));
    let rate = rate.or_else(|| args.rps.map(Rate::Rps)).or_else(wire);
    let load = match rate {
        Some(rate) => {
            let (arrival, outstanding_max) = (args.arrival, args.outstanding_max);
            Load::Open { rate, arrival, outstanding_max }
        }
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
            drain: target.timeout + DRAIN,
            destinations: servers.len() as u32,
        },
        recorder,
        servers,
        response: args.response.clone(),
        format: target.dialect.messages,
        verify: !args.no_verify,
        seed: args.seed,
    }
}

/// Runs the load on `node`, showing progress, and gives the report.
pub(crate) fn load(
    node: &mut Node,
    args: &LoadArgs,
    target: &Target,
) -> Result<Report, Box<dyn Error>> {
    let stop = node.stop_flag();
    stop_on_signals(&stop)?;
    let dialect = &target.dialect;
    let config = client_config(args, target);
    if let (Some(lines), Load::Open { rate, .. }) = (&dialect.lines, &config.generator.load) {
        let mean_bytes = config.generator.workload.mean_bytes();
        let rate_per_s = rate.rps(mean_bytes);
        print!("{}", lines.offered(time_of_day(), mean_bytes, rate_per_s));
    }
    let run = run_config(args, &config.generator, node.shards(), target);
    let (links, watches): (Vec<_>, Vec<_>) = client_links(node.shards()).into_iter().unzip();
    let (shown, results): (Vec<_>, Vec<_>) = watches
        .into_iter()
        .map(|ClientWatch { progress, give_back, result }| (Shown { progress, give_back }, result))
        .unzip();
    let clock = node.eal().clock();
    let lines = dialect.lines.clone();
    let shown = std::thread::spawn(move || match lines {
        Some(lines) => show_lines(&lines, &shown),
        None => show(&shown),
    });
    // Each shard takes its own, by its number.
    let links: Vec<_> = links.into_iter().map(|link| Mutex::new(Some(link))).collect();
    let shards = u32::from(node.shards());
    let ran = node.run_shards(|cx| {
        let shard = u32::from(cx.shard());
        let link = links[usize::from(cx.shard())].lock().ok().and_then(|mut link| link.take());
        let part = ClientConfig {
            generator: config.generator.part(shard, shards),
            seed: config.seed.wrapping_add(shard.into()),
            ..config.clone()
        };
        ClientApp::new(cx, clock, part, link.expect("one link for each shard"))
    });
    let _ = shown.join();
    let ran = ran?.merged();
    let mut all: Option<ClientResult> = None;
    for result in results {
        let part = result.recv().map_err(|_| "the client gave no result")?;
        match &mut all {
            None => all = Some(part),
            Some(all) => {
                all.totals.merge(&part.totals);
                all.recorder.merge(&part.recorder).map_err(|_| "shards recorded differently")?;
            }
        }
    }
    let all = all.ok_or("the client gave no result")?;
    Ok(Report::new(run, Machine::detect(), &all.totals, &all.recorder, counters(&ran)))
}

/// What the report says about the load.
pub(crate) fn run_config(
    args: &LoadArgs,
    generator: &GeneratorConfig,
    shards: u8,
    target: &Target,
) -> RunConfig {
    let mut run = RunConfig::new(generator, shards.into(), args.seed);
    run.title.clone_from(&target.title);
    run.port.clone_from(&target.port);
    run.parameters.insert("response".to_owned(), args.response.to_string());
    run.parameters.insert("content".to_owned(), content(args).to_owned());
    run
}

const fn content(args: &LoadArgs) -> &'static str {
    if args.no_verify { "not checked" } else { "checked, every byte" }
}

/// Writes the live line until the client is gone.
fn show(shards: &[Shown]) {
    let out = std::io::stdout();
    let mode = if out.is_terminal() { LiveMode::Overwrite } else { LiveMode::Silent };
    let live = Live::new(mode, style());
    each_second(shards, |sum| {
        let line =
            live.update(sum.elapsed, sum.length, &sum.interval, sum.outstanding, &sum.totals);
        let mut out = out.lock();
        let _ = out.write_all(line.as_bytes());
        let _ = out.flush();
    });
    print!("{}", live.end());
}

/// Calls `shown` with the sums over all shards, each second until the first of them is gone.
fn each_second(shards: &[Shown], mut shown: impl FnMut(&Progress)) {
    let Some((first, others)) = shards.split_first() else { return };
    while let Ok(mut sum) = first.progress.recv() {
        for shard in others {
            // One that has ended, or is late, is left out of this line.
            let Ok(part) = shard.progress.recv_timeout(LATE) else { continue };
            sum.interval.merge(&part.interval);
            sum.totals.merge(&part.totals);
            sum.outstanding += part.outstanding;
            let _ = shard.give_back.try_send(part);
        }
        shown(&sum);
        let _ = first.give_back.try_send(sum);
    }
}

/// Writes the lines of `cp_node` until the client is gone.
fn show_lines(lines: &Lines, shards: &[Shown]) {
    each_second(shards, |sum| {
        let second = Second {
            length: Duration::from_nanos(sum.length.0),
            rpcs: sum.interval.completed,
            request_bytes: sum.interval.request_bytes,
            response_bytes: sum.interval.response_bytes,
        };
        let rtt_us =
            [0.5, 0.99, 0.999].map(|q| sum.interval.latency.value_at_quantile(q) as f64 / 1e3);
        let lag = sum.totals.lag_max.0 as f64 / sum.elapsed.0.max(1) as f64;
        print!("{}", lines.client(time_of_day(), &second, rtt_us, lag, sum.outstanding));
    });
}

/// Time since 1970.
pub(crate) fn time_of_day() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// Prints and stores the report; the exit code says whether all went well.
pub(crate) fn finish(
    args: &LoadArgs,
    mut report: Report,
    is_silent: bool,
    amend: impl FnOnce(&mut Report),
) -> Result<ExitCode, Box<dyn Error>> {
    amend(&mut report);
    if !is_silent {
        println!("{}", report.render(style()));
    }
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
