//! Server, client and `local` over the kernel's TCP and UDP.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use homa::load::apps::{MessageFormat, Progress};
use homa::load::kernel::{
    Counters, KernelClientConfig, KernelServer, KernelServerConfig, KernelTransport, Poll,
    SocketConfig, run_clients,
};
use homa::load::live::LiveMode;
use homa::load::report::{Machine, Report};
use homa::load::response::ServiceTime;
use homa::node::stop_on_signals;
use homa::wire::HomaPort;

use crate::args::{
    ClientArgs, ConnectionArgs, KernelArgs, LiveArg, LoadArgs, LocalArgs, MachineArgs, NodeArgs,
    ServerArgs, Transport, Wire,
};
use crate::client::{Dialect, Target, chosen, trouble};
use crate::local::{Directory, Server, two_cpus};
use crate::server::{self, ServerReport, stop_at_end_of_input};
use crate::task::{client_config, run_config};
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

/// Sockets, where only Homa can be.
pub(crate) fn refuse_sockets(
    kernel: &KernelArgs,
    connections: &ConnectionArgs,
) -> Result<(), WrongArguments> {
    let is_kernel = matches!(kernel.transport, Transport::Kernel(_));
    refuse(
        &[("--transport tcp or udp", is_kernel)],
        "cannot be measured like this: only homa can",
    )?;
    refuse_socket_options(kernel, Some(connections))
}

/// What loads over sockets cannot do.
fn refuse_load_options(load: &LoadArgs) -> Result<(), WrongArguments> {
    let given = [
        ("--find-max", load.find_max),
        ("--dry-run", load.dry_run),
        ("--wire-gbps", load.wire_gbps.is_some()),
        ("--live dashboard", load.out.live == Some(LiveArg::Dashboard)),
    ];
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

fn cpus(machine: &MachineArgs) -> Vec<usize> {
    machine.cores.as_ref().map_or_else(Vec::new, |cores| cores.0.clone())
}

fn named(counters: &Counters) -> BTreeMap<String, u64> {
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
        ("--service-time", args.service_time != ServiceTime::None),
        ("--stall", args.stall.is_some()),
        ("--format cp_node", args.format.is_some()),
    ];
    refuse(
        &given,
        "is for Homa: over sockets a server answers at once, as long as it is asked for",
    )?;
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
    let served = server.serve(&stop)?;
    let report = ServerReport {
        counts: served.counts,
        counters: named(&served.counters),
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
    refuse_node_options(&args.node, args.protocol)?;
    refuse_load_options(&args.load)?;
    let given = [("--format cp_node", args.format.is_some()), ("--ports", args.ports > 1)];
    refuse(&given, "is for Homa")?;
    let servers: Vec<_> =
        chosen(args)?.iter().map(|server| SocketAddr::new(server.0, server.1.0)).collect();
    let names: Vec<String> = servers.iter().map(ToString::to_string).collect();
    let run = KernelRun {
        load: &args.load,
        socket: socket_config(transport, &args.kernel, &args.node.machine),
        connections: connections(transport, &args.connections),
        source: args.node.addresses.first().map(|address| address.ip),
        cpus: cpus(&args.node.machine),
        title: format!("homa-load client: {} server(s)", servers.len()),
        port: format!("kernel {}, {}", shown(transport), names.join(" ")),
        servers,
    };
    let done = run.run()?;
    done.finish(&args.load)
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

/// A load over sockets.
struct KernelRun<'a> {
    load: &'a LoadArgs,
    socket: SocketConfig,
    connections: usize,
    source: Option<IpAddr>,
    cpus: Vec<usize>,
    title: String,
    port: String,
    servers: Vec<SocketAddr>,
}

/// What it gave.
struct KernelDone {
    report: Report,
    transport: KernelTransport,
    broken: Option<String>,
}

impl KernelRun<'_> {
    fn run(&self) -> Result<KernelDone, Box<dyn Error>> {
        let stop: Arc<AtomicBool> = Arc::default();
        stop_on_signals(&stop)?;
        let target = self.target();
        let load = client_config(self.load, &target)?;
        let config = KernelClientConfig {
            socket: self.socket,
            generator: load.generator,
            recorder: load.recorder,
            servers: self.servers.clone(),
            source: self.source,
            connections: self.connections,
            response: load.response,
            verify: load.verify,
            seed: load.seed,
        };
        let threads = self.cpus.len().max(1) as u32;
        let run = run_config(self.load, &target, &config.generator, threads);
        let show = match self.load.out.live {
            Some(LiveArg::Line) => live::line(LiveMode::Lines),
            Some(LiveArg::Off) => Box::new(|_: &Progress| ()),
            Some(LiveArg::Dashboard) | None => live::show_line(),
        };
        let ran = run_clients(&config, &self.cpus, &stop, show)?;
        let (totals, recorder) = (&ran.result.totals, &ran.result.recorder);
        let report = Report::new(run, Machine::detect(), totals, recorder, named(&ran.counters));
        Ok(KernelDone { report, transport: self.socket.transport, broken: ran.broken })
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
    /// Prints and stores the report; the exit code says whether all went well.
    fn finish(self, args: &LoadArgs) -> Result<ExitCode, Box<dyn Error>> {
        println!("{}", self.report.render(style()));
        report::write(&args.out, &self.report)?;
        // What went wrong is said as an error of the program is.
        match self.trouble() {
            Some(trouble) => Err(trouble.into()),
            None => Ok(ExitCode::SUCCESS),
        }
    }

    fn trouble(self) -> Option<String> {
        if self.broken.is_some() {
            return self.broken;
        }
        let trouble = trouble(&self.report.totals)?;
        let totals = &self.report.totals;
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

/// `homa-load local --transport tcp|udp`: over loopback or a virtual cable, the client on the first CPU and the server on
/// the second.
pub(crate) fn local(
    args: &LocalArgs,
    transport: KernelTransport,
) -> Result<ExitCode, Box<dyn Error>> {
    refuse_machine_options(&args.machine)?;
    refuse_load_options(&args.load)?;
    let given = [
        ("--service-time", args.service_time != ServiceTime::None),
        ("--stall", args.stall.is_some()),
    ];
    refuse(&given, "is for Homa: over sockets a server answers at once")?;
    let (client_cpu, server_cpu) = two_cpus(args)?;
    let directory = Directory::new()?;
    let (ready, server_json) = (directory.0.join("ready"), directory.0.join("server.json"));
    let is_alone = client_cpu == server_cpu;
    let (ip, wire) = match args.wire {
        Wire::Memif => (Ipv4Addr::LOCALHOST, "loopback"),
        Wire::Veth => (veth::SERVER, "veth"),
    };
    let mut command = veth::command(args.server_namespace.as_deref(), std::env::current_exe()?);
    command
        .args(["server", "--child", &format!("--ip={ip}/24")])
        .arg(format!("--transport={transport}"))
        .arg(format!("--cpu={server_cpu}"))
        .arg(format!("--poll={}", args.kernel.poll.unwrap_or_default()))
        .arg(format!("--mtu={}", args.machine.mtu))
        .arg(format!("--timeout={}ns", args.machine.timeout.0))
        .arg(format!("--idle={}", if is_alone { "yield" } else { name(args.machine.idle) }))
        .arg("--ready")
        .arg(&ready)
        .arg("--json")
        .arg(&server_json);
    if args.load.no_verify {
        command.arg("--no-verify");
    }
    let mut server = Server::spawn(command)?;
    server.wait_until_ready(&ready)?;
    let address: SocketAddr = std::fs::read_to_string(&ready)?.parse()?;
    let mut socket = socket_config(transport, &args.kernel, &args.machine);
    if is_alone {
        socket.idle = homa::node::IdlePolicy::Yield;
    }
    let connections = connections(transport, &args.connections);
    let run = KernelRun {
        load: &args.load,
        socket,
        connections,
        source: None,
        cpus: vec![client_cpu],
        title: format!("homa-load local: two processes over {} on {wire}", shown(transport)),
        port: format!("kernel {}, {wire}, CPUs {client_cpu} and {server_cpu}", shown(transport)),
        servers: vec![address],
    };
    let done = run.run();
    let ended = server.end();
    let mut done = done?;
    ended?;
    let served: ServerReport = serde_json::from_slice(&std::fs::read(&server_json)?)?;
    done.report.totals.corrupted += served.counts.corrupted;
    for (name, value) in served.counters {
        done.report.counters.insert(format!("server_{name}"), value);
    }
    done.finish(&args.load)
}

const fn name(idle: homa::node::IdlePolicy) -> &'static str {
    use homa::node::IdlePolicy;
    match idle {
        IdlePolicy::Auto => "auto",
        IdlePolicy::Spin => "spin",
        IdlePolicy::Pause => "pause",
        IdlePolicy::Yield => "yield",
        IdlePolicy::Sleep => "sleep",
    }
}
