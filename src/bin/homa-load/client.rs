//! `homa-load client`.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use homa::load::apps::{ClientResult, MessageFormat, Progress, ResponseKind, run_loads};
use homa::load::arrival::Load;
use homa::load::cp_node::{Lines, Second};
use homa::load::pattern::Rank;
use homa::load::report::{Machine, Report, SideReport, TotalsReport};
use homa::load::response::ServiceTime;
use homa::node::Node;
use homa::time::Nanos;
use homa::wire::HomaPort;

use crate::args::{ClientArgs, LoadArgs, OutputFormat, Server, Transport, port_groups};
use crate::live::{self, Watched};
use crate::observe::Observers;
use crate::server::counters;
use crate::task::{
    Done, Task, check_load, client_config, dry_run, finish_baseline, finish_find_max, run_config,
};
use crate::{
    WrongArguments, check_writable, complain, kernel, node_config, report, style, wrong_arguments,
};

pub(crate) fn run(args: &ClientArgs) -> Result<ExitCode, Box<dyn Error>> {
    report::check(&args.load.out)?;
    if let Transport::Kernel(transport) = args.kernel.transport {
        return kernel::ask(args, transport);
    }
    let target = target(args)?;
    if args.load.dry_run {
        return dry_run(&args.load, &target, ServiceTime::None);
    }
    if target.servers.is_empty() {
        println!(
            "{}: this host only answers in this pattern, and has nothing to send",
            target.title
        );
        return Ok(ExitCode::SUCCESS);
    }
    let is_silent = target.dialect.lines.is_some();
    let done = on_node(args, &target, Task::of(&args.load))?;
    match done {
        Done::Report(report) => finish(&args.load, *report, is_silent, |_| ()),
        Done::FindMax(result) => finish_find_max(&args.load, &result),
        Done::Baseline(_) => Ok(ExitCode::SUCCESS),
    }
}

/// `homa-load baseline client`.
pub(crate) fn run_baseline(
    args: &ClientArgs,
    out: &Path,
    samples: u64,
) -> Result<ExitCode, Box<dyn Error>> {
    check_writable(Some(out))?;
    if let Transport::Kernel(transport) = args.kernel.transport {
        return kernel::ask_baseline(args, transport, out, samples);
    }
    match on_node(args, &target(args)?, Task::Baseline(samples))? {
        Done::Baseline(baseline) => finish_baseline(out, &baseline),
        Done::Report(_) | Done::FindMax(_) => Ok(ExitCode::SUCCESS),
    }
}

/// Does `task` on a node of its own.
fn on_node(args: &ClientArgs, target: &Target, task: Task) -> Result<Done, Box<dyn Error>> {
    let config = node_config(&args.node)?;
    for &(server, _) in &target.servers {
        config.check_destination(server).map_err(WrongArguments)?;
    }
    let observers = Observers::new(&args.node.machine)?;
    let mut node = Node::start(&config)?;
    let observed = observers.watch(&node)?;
    let done = task.run(&mut node, &args.load, target);
    drop(observed);
    let closed = node.close();
    let done = done?;
    closed?;
    Ok(done)
}

fn target(args: &ClientArgs) -> Result<Target, WrongArguments> {
    kernel::refuse_socket_options(&args.kernel, Some(&args.connections))?;
    check_load(&args.load, args.node.machine.link_gbps).map_err(wrong_arguments)?;
    let servers = servers(args)?;
    let mut parameters = BTreeMap::new();
    if let Some(pattern) = args.pattern {
        parameters.insert("pattern".to_owned(), pattern.to_string());
    }
    if args.ports > 1 {
        parameters.insert("ports".to_owned(), format!("{} groups", args.ports));
    }
    Ok(Target {
        title: format!("homa-load client: {} server(s)", servers.len() / usize::from(args.ports)),
        servers,
        port: args.node.device_text(),
        transport: Transport::Homa,
        timeout: args.node.machine.timeout,
        mtu: args.node.machine.mtu,
        link_gbps: args.node.machine.link_gbps,
        parameters,
        dialect: Dialect { messages: args.protocol, lines: lines(args) },
    })
}

/// The servers that this host sends to: those that its pattern says.
pub(crate) fn chosen(args: &ClientArgs) -> Result<Vec<Server>, WrongArguments> {
    let (Some(pattern), Some(Rank { rank, hosts })) = (args.pattern, args.rank) else {
        return Ok(args.servers.clone());
    };
    if hosts as usize != args.servers.len() {
        let count = args.servers.len();
        let text = format!(
            "--rank {rank}/{hosts} and {count} --server: name the servers of all hosts in their order, \
             this host's too"
        );
        return Err(wrong_arguments(text));
    }
    let destinations = pattern.destinations(rank, hosts);
    let destinations = destinations.map_err(|error| wrong_arguments(error.to_string()))?;
    Ok(destinations.into_iter().map(|host| args.servers[host as usize]).collect())
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
    for server in chosen(args)? {
        let server = server.of_homa()?;
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
    /// What packets to them are made of.
    pub(crate) transport: Transport,
    /// Silence after which an RPC is given up.
    pub(crate) timeout: Nanos,
    /// Bytes of an IP packet.
    pub(crate) mtu: u16,
    /// Speed of the link, if it was given.
    pub(crate) link_gbps: Option<f64>,
    /// What else decides the result, for the report.
    pub(crate) parameters: BTreeMap<String, String>,
    pub(crate) dialect: Dialect,
}

/// How to talk to servers, and to people.
#[derive(Default)]
pub(crate) struct Dialect {
    /// What messages look like.
    pub(crate) messages: MessageFormat,
    /// Lines of `cp_node` once a second, instead of a report.
    lines: Option<Lines>,
}

fn lines(args: &ClientArgs) -> Option<Lines> {
    let OutputFormat::CpNode = args.format?;
    let name = || format!("homa_{}", args.load.workload.name());
    Some(Lines::new(args.exp.clone().unwrap_or_else(name)))
}

/// Runs the load on `node`, showing progress, and gives the report.
pub(crate) fn load(
    node: &mut Node,
    args: &LoadArgs,
    target: &Target,
) -> Result<Report, Box<dyn Error>> {
    let dialect = &target.dialect;
    let config = client_config(args, target)?;
    if let (Some(lines), Load::Open { rate, .. }) = (&dialect.lines, &config.generator.load) {
        let mean_bytes = config.generator.workload.mean_bytes();
        let rate_per_s = rate.rps(mean_bytes);
        print!("{}", lines.offered(time_of_day(), mean_bytes, rate_per_s));
    }
    let run = run_config(args, target, &config.generator, node.shards().into());
    let mut result = None;
    let shown = match &dialect.lines {
        Some(lines) => show_each(lines.clone()),
        None => live::show(args.out.live, Watched::new(node, &target.title)),
    };
    let ran = run_loads(node, &config, shown, |all| {
        result = Some(all);
        None
    })?;
    let ClientResult { totals, recorder, mut side } = result.ok_or("the client gave no result")?;
    name_cores(&mut side, node.cpus());
    let ran = ran.merged();
    let mut report = Report::new(run, Machine::detect(), &totals, &recorder, counters(&ran));
    report.sides.push(side);
    Ok(report)
}

/// Names the cores of the shards by their CPUs.
pub(crate) fn name_cores(side: &mut SideReport, cpus: &[usize]) {
    for (core, cpu) in side.cores.iter_mut().zip(cpus) {
        core.name = cpu.to_string();
    }
}

pub(crate) const fn content(args: &LoadArgs) -> &'static str {
    if args.no_verify { "not checked" } else { "checked, every byte" }
}

/// Writes the lines of `cp_node`.
fn show_each(lines: Lines) -> Box<dyn FnMut(&Progress) + Send> {
    Box::new(move |sum| show_lines(&lines, sum))
}

/// Writes the lines of `cp_node`.
fn show_lines(lines: &Lines, sum: &Progress) {
    let second = Second {
        length: Duration::from_nanos(sum.length.0),
        rpcs: sum.interval.completed,
        request_bytes: sum.interval.request_bytes,
        response_bytes: sum.interval.response_bytes,
    };
    let rtt_us = [0.5, 0.99, 0.999].map(|q| sum.interval.latency.value_at_quantile(q) as f64 / 1e3);
    let lag = sum.totals.lag_max.0 as f64 / sum.elapsed.0.max(1) as f64;
    print!("{}", lines.client(time_of_day(), &second, rtt_us, lag, sum.outstanding));
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
    report::write(&args.out, &report)?;
    let Some(trouble) = trouble(&report.totals) else { return Ok(ExitCode::SUCCESS) };
    complain(&trouble);
    Ok(ExitCode::FAILURE)
}

/// What went wrong, in one line, and what to do about it.
pub(crate) fn trouble(totals: &TotalsReport) -> Option<String> {
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
