//! Server, client and `local` over the kernel's TCP and UDP.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use homa::load::apps::{ClientConfig, ClientResult, MessageFormat, Progress};
use homa::load::kernel::{
    Counters, KernelClientConfig, KernelServer, KernelServerConfig, KernelTransport, Poll,
    SocketConfig, run_clients,
};
use homa::load::live::LiveMode;
use homa::load::report::{Machine, Report};
use homa::load::response::ServiceTime;
use homa::node::{IdlePolicy, stop_on_signals};
use homa::wire::HomaPort;

use crate::args::{
    AgentArgs, ClientArgs, ConnectionArgs, KernelArgs, LiveArg, LoadArgs, LocalArgs, MachineArgs,
    NodeArgs, ServerArgs, Transport, Wire,
};
use crate::client::{Dialect, Target, chosen, name_cores, trouble};
use crate::live::Show;
use crate::local::{Directory, Server, meet, service_time_arg, two_cpus};
use crate::server::{self, ServerReport, stop_at_end_of_input};
use crate::task::{
    Done, Next, Runner, Task, check_load, client_config, dry_run, find_max, finish_baseline,
    finish_find_max, measure_baseline, run_config,
};
use crate::{WrongArguments, check_writable, live, report, style, veth, wrong_arguments};

/// Connections of TCP to a server unless given: a long message keeps those behind it waiting.
const TCP_CONNECTIONS: usize = 4;

/// Options of sockets, with Homa.
pub(crate) fn refuse_socket_options(
    kernel: &KernelArgs,
    connections: Option<&ConnectionArgs>,
) -> Result<(), WrongArguments> {
    let given = [
        ("--poll", kernel.poll.is_some()),
        ("--connections", connections.is_some_and(|args| args.connections.is_some())),
    ];
    refuse(&given, "is for --transport tcp and udp; --idle says how Homa waits")
}

/// What loads over sockets cannot do.
fn refuse_load_options(load: &LoadArgs) -> Result<(), WrongArguments> {
    let given = [("--live dashboard", load.out.live == Some(LiveArg::Dashboard))];
    refuse(&given, "is for --transport homa")
}

/// Options of Homa's packets and ports, with sockets.
fn refuse_machine_options(machine: &MachineArgs) -> Result<(), WrongArguments> {
    let given = [
        ("--link-gbps", machine.link_gbps.is_some()),
        ("--huge", machine.huge),
        ("--memory-mb", machine.memory_mb.is_some()),
        ("--drop-percent", machine.drop_percent > 0.0),
        ("--trace", machine.trace.is_some()),
        ("--detour", machine.detour),
        ("--hand-off", machine.hand_off.is_some()),
        ("--metrics", machine.metrics.is_some()),
        ("--telemetry", machine.telemetry),
    ];
    refuse(&given, "is for Homa: the kernel's transports have no use for it")
}

fn refuse_node_options(node: &NodeArgs, format: MessageFormat) -> Result<(), WrongArguments> {
    let given = [
        ("--device", node.device.is_some()),
        ("--gateway", !node.gateways.is_empty()),
        ("--vlan", node.vlan.is_some()),
        ("--marked-tcp", node.marked_tcp),
        ("--marked-tcp-peer", !node.marked_tcp_peers.is_empty()),
        ("--peer-mtu", !node.peer_mtus.is_empty()),
        ("--neighbor", !node.neighbors.is_empty()),
    ];
    refuse(&given, "is for Homa: the kernel's transports use the host's own interfaces")?;
    refuse(&[("--protocol cp_node", format == MessageFormat::CpNode)], "is for Homa")?;
    refuse_machine_options(&node.machine)
}

fn refuse(given: &[(&str, bool)], why: &str) -> Result<(), WrongArguments> {
    match given.iter().find(|option| option.1) {
        Some((option, _)) => Err(wrong_arguments(format!("{option} {why}"))),
        None => Ok(()),
    }
}

fn socket_config(
    transport: KernelTransport,
    kernel: &KernelArgs,
    machine: &MachineArgs,
) -> SocketConfig {
    SocketConfig {
        transport,
        poll: kernel.poll.unwrap_or_default(),
        idle: machine.idle,
        mtu: machine.mtu,
        timeout: machine.timeout,
    }
}

pub(crate) fn cpus(machine: &MachineArgs) -> Vec<usize> {
    machine.cores.as_ref().map_or_else(Vec::new, |cores| cores.0.clone())
}

pub(crate) fn named(counters: &Counters) -> BTreeMap<String, u64> {
    let some = counters.iter().filter(|counter| counter.1 > 0);
    some.map(|(name, value)| (name.to_owned(), value)).collect()
}

/// `homa-load server --transport tcp|udp`.
pub(crate) fn serve(
    args: &ServerArgs,
    transport: KernelTransport,
) -> Result<ExitCode, Box<dyn Error>> {
    refuse_node_options(&args.node, args.protocol)?;
    let given = [
        ("--ports", args.ports > 1),
        ("--response", args.response.is_some()),
        ("--stall", args.stall.is_some()),
        ("--format cp_node", args.format.is_some()),
    ];
    refuse(&given, "is for Homa: over sockets a server answers with as much as it is asked for")?;
    check_writable(args.json.as_deref())?;
    let stop: Arc<AtomicBool> = Arc::default();
    stop_on_signals(&stop)?;
    // All addresses, those of IPv4 as well.
    let any = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let ip = args.node.addresses.first().map_or(any, |address| address.ip);
    let port = if args.ready.is_some() { 0 } else { args.port.0 };
    let config = KernelServerConfig {
        socket: socket_config(transport, &args.kernel, &args.node.machine),
        listen: SocketAddr::new(ip, port),
        cpus: cpus(&args.node.machine),
        verify: !args.no_verify,
        service_time: args.service_time,
    };
    let server = KernelServer::bind(&config).map_err(|error| {
        format!(
            "cannot serve at {}: {error}; name an address of this host with --ip, and a free port",
            config.listen
        )
    })?;
    if args.child {
        stop_at_end_of_input(Arc::clone(&stop));
    } else {
        println!("serving on {} over {transport}; Ctrl-C ends", server.address());
    }
    if let Some(file) = &args.ready {
        write_whole(file, &server.address().to_string())?;
    }
    let mut served = server.serve(&stop)?;
    name_cores(&mut served.side, &cpus(&args.node.machine));
    let report = ServerReport {
        counts: served.counts,
        counters: named(&served.counters),
        side: served.side,
        ..ServerReport::default()
    };
    server::publish(args, &report)
}

/// Writes a file that is there only when it is whole.
fn write_whole(file: &Path, text: &str) -> std::io::Result<()> {
    let partial = file.with_extension("partial");
    std::fs::write(&partial, text)?;
    std::fs::rename(&partial, file)
}

/// `homa-load client --transport tcp|udp`.
pub(crate) fn ask(
    args: &ClientArgs,
    transport: KernelTransport,
) -> Result<ExitCode, Box<dyn Error>> {
    let run = client_run(args, transport)?;
    if args.load.dry_run {
        return dry_run(&args.load, &run.target(), ServiceTime::None);
    }
    run.run(Task::of(&args.load))?.finish(&args.load)
}

/// `homa-load baseline client --transport tcp|udp`.
pub(crate) fn ask_baseline(
    args: &ClientArgs,
    transport: KernelTransport,
    out: &Path,
    samples: u64,
) -> Result<ExitCode, Box<dyn Error>> {
    let done = client_run(args, transport)?.run(Task::Baseline(samples))?;
    done.finish_baseline(out)
}

fn client_run(
    args: &ClientArgs,
    transport: KernelTransport,
) -> Result<KernelRun<'_>, WrongArguments> {
    refuse_node_options(&args.node, args.protocol)?;
    refuse_load_options(&args.load)?;
    let given = [("--format cp_node", args.format.is_some()), ("--ports", args.ports > 1)];
    refuse(&given, "is for Homa")?;
    let servers: Vec<_> =
        chosen(args)?.iter().map(|server| SocketAddr::new(server.0, server.1.0)).collect();
    let names: Vec<String> = servers.iter().map(ToString::to_string).collect();
    check_load(&args.load, None).map_err(wrong_arguments)?;
    Ok(KernelRun {
        load: &args.load,
        socket: socket_config(transport, &args.kernel, &args.node.machine),
        connections: connections(transport, &args.connections),
        source: args.node.addresses.first().map(|address| address.ip),
        cpus: cpus(&args.node.machine),
        title: format!("homa-load client: {} server(s)", servers.len()),
        port: format!("kernel {}, {}", shown(transport), names.join(" ")),
        servers,
        stop: Arc::default(),
    })
}

fn connections(transport: KernelTransport, args: &ConnectionArgs) -> usize {
    args.connections.map_or_else(
        || match transport {
            KernelTransport::Tcp => TCP_CONNECTIONS,
            KernelTransport::Udp => 1,
        },
        usize::from,
    )
}

const fn shown(transport: KernelTransport) -> &'static str {
    match transport {
        KernelTransport::Tcp => "TCP",
        KernelTransport::Udp => "UDP",
    }
}

/// The server of `homa-load agent --transport tcp|udp`.
pub(crate) fn agent_server(
    args: &AgentArgs,
    transport: KernelTransport,
) -> Result<KernelServer, Box<dyn Error>> {
    refuse_node_options(&args.node, MessageFormat::Plain)?;
    let Some(address) = args.node.addresses.first() else {
        let text = "--ip ADDR/LEN is needed: the address of this host that others send to";
        return Err(wrong_arguments(text.to_owned()).into());
    };
    let config = KernelServerConfig {
        socket: agent_socket(args, transport),
        listen: SocketAddr::new(address.ip, args.port.0),
        cpus: cpus(&args.node.machine),
        verify: true,
        service_time: ServiceTime::None,
    };
    let server = KernelServer::bind(&config);
    Ok(server.map_err(|error| format!("cannot serve at {}: {error}", config.listen))?)
}

/// The server and the client of an agent share its CPUs: unless told otherwise they sleep.
fn agent_socket(args: &AgentArgs, transport: KernelTransport) -> SocketConfig {
    let mut kernel = args.kernel.clone();
    kernel.poll.get_or_insert(Poll::Epoll);
    socket_config(transport, &kernel, &args.node.machine)
}

/// The client of an agent.
pub(crate) fn agent_run<'a>(
    args: &AgentArgs,
    load: &'a LoadArgs,
    transport: KernelTransport,
    servers: Vec<SocketAddr>,
    pattern: &str,
) -> KernelRun<'a> {
    KernelRun {
        load,
        socket: agent_socket(args, transport),
        connections: connections(transport, &args.connections),
        source: args.node.addresses.first().map(|address| address.ip),
        cpus: cpus(&args.node.machine),
        title: String::new(),
        port: format!("kernel {}, pattern {pattern}", shown(transport)),
        servers,
        stop: Arc::default(),
    }
}

/// A load over sockets.
pub(crate) struct KernelRun<'a> {
    load: &'a LoadArgs,
    socket: SocketConfig,
    connections: usize,
    source: Option<IpAddr>,
    cpus: Vec<usize>,
    title: String,
    port: String,
    servers: Vec<SocketAddr>,
    stop: Arc<AtomicBool>,
}

/// What it gave.
struct KernelDone {
    done: Done,
    transport: KernelTransport,
    broken: Option<String>,
}

impl Runner for &KernelRun<'_> {
    /// Each run has connections of its own.
    fn run_loads(
        &mut self,
        first: &ClientConfig,
        mut show: Show,
        next: &mut Next<'_>,
    ) -> Result<(), Box<dyn Error>> {
        let mut following = Some(first.clone());
        while let Some(config) = following {
            let config = self.client_config(config);
            let ran = run_clients(&config, &self.cpus, &self.stop, &mut *show)?;
            if let Some(why) = ran.broken {
                return Err(why.into());
            }
            following = next(ran.result);
        }
        Ok(())
    }

    fn stop_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    fn threads(&self) -> u32 {
        self.cpus.len().max(1) as u32
    }
}

impl KernelRun<'_> {
    fn run(&self, task: Task) -> Result<KernelDone, Box<dyn Error>> {
        stop_on_signals(&self.stop)?;
        let (target, mut runner) = (self.target(), self);
        let done = match task {
            Task::Load => return self.run_load(),
            Task::FindMax => Done::FindMax(Box::new(find_max(&mut runner, self.load, &target)?)),
            Task::Baseline(samples) => {
                Done::Baseline(measure_baseline(&mut runner, self.load, &target, samples)?)
            }
        };
        Ok(KernelDone { done, transport: self.socket.transport, broken: None })
    }

    /// A load as sockets want it.
    fn client_config(&self, load: ClientConfig) -> KernelClientConfig {
        KernelClientConfig {
            socket: self.socket,
            generator: load.generator,
            recorder: load.recorder,
            servers: self.servers.clone(),
            source: self.source,
            connections: self.connections,
            response: load.response,
            verify: load.verify,
            seed: load.seed,
        }
    }

    /// The load as sockets want it, with this seed.
    pub(crate) fn planned(&self, seed: u64) -> Result<KernelClientConfig, String> {
        Ok(KernelClientConfig {
            seed,
            ..self.client_config(client_config(self.load, &self.target())?)
        })
    }

    /// The report of a run.
    pub(crate) fn report(
        &self,
        config: &KernelClientConfig,
        result: ClientResult,
        counters: BTreeMap<String, u64>,
    ) -> Report {
        let run = run_config(self.load, &self.target(), &config.generator, self.threads());
        let ClientResult { totals, recorder, mut side } = result;
        let mut report = Report::new(run, Machine::detect(), &totals, &recorder, counters);
        name_cores(&mut side, &self.cpus);
        report.sides.push(side);
        report
    }

    fn run_load(&self) -> Result<KernelDone, Box<dyn Error>> {
        let config = self.planned(self.load.seed)?;
        let show = match self.load.out.live {
            Some(LiveArg::Line) => live::line(LiveMode::Lines),
            Some(LiveArg::Off) => Box::new(|_: &Progress| ()),
            Some(LiveArg::Dashboard) | None => live::show_line(),
        };
        let ran = run_clients(&config, &self.cpus, &self.stop, show)?;
        let report = self.report(&config, ran.result, named(&ran.counters));
        let done = Done::Report(Box::new(report));
        Ok(KernelDone { done, transport: self.socket.transport, broken: ran.broken })
    }

    /// What the load is described by.
    fn target(&self) -> Target {
        let transport = self.socket.transport;
        let sockets = match transport {
            KernelTransport::Tcp => "connection(s)",
            KernelTransport::Udp => "socket(s)",
        };
        let poll = match self.socket.poll {
            Poll::Spin => "spinning",
            Poll::Epoll => "sleeping in epoll_wait",
        };
        let sockets = format!("{} {sockets} to each server, {poll}", self.connections);
        Target {
            // Homa's ports are others; those of sockets stand in the addresses.
            servers: self.servers.iter().map(|server| (server.ip(), HomaPort(1))).collect(),
            transport: Transport::Kernel(transport),
            title: self.title.clone(),
            port: self.port.clone(),
            timeout: self.socket.timeout,
            mtu: self.socket.mtu,
            link_gbps: None,
            parameters: BTreeMap::from([
                ("transport".to_owned(), transport.to_string()),
                ("sockets".to_owned(), sockets),
            ]),
            dialect: Dialect::default(),
        }
    }
}

impl KernelDone {
    /// Prints and stores the result; the exit code says whether all went well.
    fn finish(self, args: &LoadArgs) -> Result<ExitCode, Box<dyn Error>> {
        let report = match &self.done {
            Done::Report(report) => report,
            Done::FindMax(result) => return finish_find_max(args, result),
            Done::Baseline(_) => return Ok(ExitCode::SUCCESS),
        };
        println!("{}", report.render(style()));
        report::write(&args.out, report)?;
        // What went wrong is said as an error of the program is.
        match self.trouble(report) {
            Some(trouble) => Err(trouble.into()),
            None => Ok(ExitCode::SUCCESS),
        }
    }

    fn finish_baseline(self, out: &Path) -> Result<ExitCode, Box<dyn Error>> {
        match &self.done {
            Done::Baseline(baseline) => finish_baseline(out, baseline),
            Done::Report(_) | Done::FindMax(_) => Ok(ExitCode::SUCCESS),
        }
    }

    fn trouble(&self, report: &Report) -> Option<String> {
        if self.broken.is_some() {
            return self.broken.clone();
        }
        let trouble = trouble(&report.totals)?;
        let totals = &report.totals;
        let timeouts = totals.failed.get("timeout").copied().unwrap_or(0);
        if self.transport == KernelTransport::Udp && totals.corrupted == 0 && timeouts > 0 {
            return Some(format!(
                "{timeouts} of {} RPCs were not answered: datagrams were lost, which UDP does not \
                 repeat; lower the load, or raise net.core.rmem_max",
                totals.sent
            ));
        }
        Some(trouble)
    }
}

/// Bytes of an IP packet between the two processes, as far as it is known.
fn mtu_between(args: &LocalArgs) -> String {
    match args.wire {
        Wire::Veth => args.machine.mtu.to_string(),
        Wire::Memif => std::fs::read_to_string("/sys/class/net/lo/mtu")
            .map_or_else(|_| "unknown".to_owned(), |mtu| mtu.trim().to_owned()),
    }
}

/// `homa-load local --transport tcp|udp`: over loopback or a virtual cable, the client on the first CPU and the server on
/// the second.
pub(crate) fn local(
    args: &LocalArgs,
    transport: KernelTransport,
    task: Task,
) -> Result<ExitCode, Box<dyn Error>> {
    if args.load.dry_run {
        let cpus = two_cpus(args)?;
        let address = SocketAddr::new(wire_of(args).0.into(), 1);
        let run = local_run(args, transport, address, cpus);
        refuse_local_options(args)?;
        return dry_run(&args.load, &run.target(), args.service_time);
    }
    on_pair(args, transport, task)?.finish(&args.load)
}

/// `homa-load baseline local --transport tcp|udp`.
pub(crate) fn local_baseline(
    args: &LocalArgs,
    transport: KernelTransport,
    out: &Path,
    samples: u64,
) -> Result<ExitCode, Box<dyn Error>> {
    on_pair(args, transport, Task::Baseline(samples))?.finish_baseline(out)
}

fn refuse_local_options(args: &LocalArgs) -> Result<(), WrongArguments> {
    refuse_machine_options(&args.machine)?;
    refuse_load_options(&args.load)?;
    refuse(&[("--stall", args.stall.is_some())], "is for Homa")?;
    check_load(&args.load, None).map_err(wrong_arguments)?;
    Ok(())
}

/// The server's address, and what lies in between.
fn wire_of(args: &LocalArgs) -> (Ipv4Addr, &'static str) {
    match args.wire {
        Wire::Memif => (Ipv4Addr::LOCALHOST, "loopback"),
        Wire::Veth => (veth::SERVER, "veth"),
    }
}

/// The client of `local`, on the first of `cpus`.
fn local_run(
    args: &LocalArgs,
    transport: KernelTransport,
    server: SocketAddr,
    (client_cpu, server_cpu): (usize, usize),
) -> KernelRun<'_> {
    let wire = wire_of(args).1;
    let mut socket = socket_config(transport, &args.kernel, &args.machine);
    if client_cpu == server_cpu {
        socket.idle = IdlePolicy::Yield;
    }
    KernelRun {
        load: &args.load,
        socket,
        connections: connections(transport, &args.connections),
        source: None,
        cpus: vec![client_cpu],
        title: format!("homa-load local: two processes over {} on {wire}", shown(transport)),
        port: format!(
            "kernel {}, {wire}, MTU {}, CPUs {client_cpu} and {server_cpu}",
            shown(transport),
            mtu_between(args)
        ),
        servers: vec![server],
        stop: Arc::default(),
    }
}

/// Does `task` in this process, against a server in another.
fn on_pair(
    args: &LocalArgs,
    transport: KernelTransport,
    task: Task,
) -> Result<KernelDone, Box<dyn Error>> {
    refuse_local_options(args)?;
    let (client_cpu, server_cpu) = two_cpus(args)?;
    let directory = Directory::new()?;
    let (ready, server_json) = (directory.0.join("ready"), directory.0.join("server.json"));
    let is_alone = client_cpu == server_cpu;
    let ip = wire_of(args).0;
    let mut command = veth::command(args.server_namespace.as_deref(), std::env::current_exe()?);
    command
        .args(["server", "--child", &format!("--ip={ip}/24")])
        .arg(format!("--transport={transport}"))
        .arg(format!("--cpu={server_cpu}"))
        .arg(format!("--poll={}", args.kernel.poll.unwrap_or_default()))
        .arg(format!("--mtu={}", args.machine.mtu))
        .arg(format!("--timeout={}ns", args.machine.timeout.0))
        .arg(format!("--idle={}", if is_alone { IdlePolicy::Yield } else { args.machine.idle }))
        .arg("--ready")
        .arg(&ready)
        .arg("--json")
        .arg(&server_json);
    if args.load.no_verify {
        command.arg("--no-verify");
    }
    if args.service_time != ServiceTime::None {
        command.arg(format!("--service-time={}", service_time_arg(args.service_time)));
    }
    let mut server = Server::spawn(command)?;
    server.wait_until_ready(&ready)?;
    let address: SocketAddr = std::fs::read_to_string(&ready)?.parse()?;
    let run = local_run(args, transport, address, (client_cpu, server_cpu));
    let done = meet(args).and_then(|()| run.run(task));
    let ended = server.end();
    let mut done = done?;
    ended?;
    let served: ServerReport = serde_json::from_slice(&std::fs::read(&server_json)?)?;
    if let Done::Report(report) = &mut done.done {
        report.totals.corrupted += served.counts.corrupted;
        for (name, value) in served.counters {
            report.counters.insert(format!("server_{name}"), value);
        }
        report.sides.push(served.side);
    }
    Ok(done)
}
