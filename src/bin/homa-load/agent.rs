//! `homa-load agent`.

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Parser;
use homa::load::apps::{
    ClientConfig, HostConfig, HostEnd, HostRun, ResponseKind, ServerConfig, ServerCounts, run_host,
};
use homa::load::cluster::agent::{AgentError, AgentLink};
use homa::load::cluster::coordinator::hello;
use homa::load::cluster::protocol::{Assignment, FromAgent, HostResult};
use homa::load::kernel::{KernelServer, run_kernel_host};
use homa::load::pattern::TrafficPattern;
use homa::load::report::hosts::Served;
use homa::load::report::{Machine, Report, SideReport};
use homa::node::{Node, NodeConfig, stop_on_signals};
use homa::wire::HomaPort;

use crate::args::{AgentArgs, HostLoadArgs, LoadFlags, Transport, port_groups};
use crate::client::{Dialect, Target, name_cores};
use crate::coordinator::read_inventory;
use crate::local::Directory;
use crate::observe::Observers;
use crate::server::{counters, name_server_cores};
use crate::task::{client_config, run_config};
use crate::{kernel, node_config, one_line};

/// Seeds of hosts are this far apart, so that those of their shards differ too.
const SEED_STEP: u64 = 1_000_003;

/// Exit codes: 0 when the run went on to its end and the coordinator has the result, else 1.
pub(crate) fn run(args: &AgentArgs) -> Result<ExitCode, Box<dyn Error>> {
    let host = Host::new(args)?;
    let name = args.name.clone().unwrap_or_else(host_name);
    let address = args.node.addresses[0].ip;
    let stop = Arc::default();
    stop_on_signals(&stop)?;
    let patience = Duration::from_nanos(args.patience.0);
    let hello = hello(&name, args.rank, address, args.port.0);
    let link = AgentLink::connect(&args.coordinator, &hello, patience, &stop)?;
    println!("{name} ({address}) waits for the others");
    let assignment = link.assignment(&stop)?;
    println!(
        "{name} is host {} of {}: {}",
        assignment.rank,
        assignment.hosts.len(),
        assignment.flags.join(" ")
    );
    let outcome = match host {
        Host::Homa(config, observers) => {
            take_part(args, &config, observers, &link, &assignment, &stop)
        }
        Host::Kernel(server) => over_sockets(args, server, &link, &assignment, &stop),
    };
    let message = match outcome {
        Ok((result, None)) => FromAgent::Result(Box::new(result)),
        Ok((result, Some(error))) => {
            // The coordinator may be gone; it is told if it is not.
            let _ = link.close(&FromAgent::Result(Box::new(result)));
            return Err(error.into());
        }
        Err(error) => {
            let reason = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
            let _ = link.close(&FromAgent::Failed { reason });
            return Err(error);
        }
    };
    link.close(&message).map_err(AgentError::from)?;
    println!("{name} is through");
    Ok(ExitCode::SUCCESS)
}

/// What answers and asks here.
enum Host {
    Homa(Box<NodeConfig>, Observers),
    Kernel(KernelServer),
}

impl Host {
    fn new(args: &AgentArgs) -> Result<Self, Box<dyn Error>> {
        if let Transport::Kernel(transport) = args.kernel.transport {
            return Ok(Self::Kernel(kernel::agent_server(args, transport)?));
        }
        kernel::refuse_socket_options(&args.kernel, Some(&args.connections))?;
        Ok(Self::Homa(Box::new(node_config(&args.node)?), Observers::new(&args.node.machine)?))
    }
}

/// Serves and asks over sockets; gives the result, and why the run ended before its time.
fn over_sockets(
    args: &AgentArgs,
    mut server: KernelServer,
    link: &AgentLink,
    assignment: &Assignment,
    stop: &Arc<AtomicBool>,
) -> Result<(HostResult, Option<AgentError>), Box<dyn Error>> {
    let HostLoadArgs { load, service_time, ports } = host_load(assignment)?;
    let Transport::Kernel(transport) = args.kernel.transport else {
        return Err("no sockets".into());
    };
    if ports > 1 {
        return Err("--ports is for agents over Homa".into());
    }
    server.set_service(service_time, !load.no_verify);
    let servers: Vec<SocketAddr> = servers(assignment, 1)?
        .into_iter()
        .map(|(address, port)| SocketAddr::new(address, port.0))
        .collect();
    let seed = load.seed.wrapping_add(u64::from(assignment.rank) * SEED_STEP);
    let run = kernel::agent_run(args, &load, transport, servers, &assignment.pattern);
    let config = run.planned(seed)?;
    let asks = (!config.servers.is_empty()).then_some(&config);
    let cpus = kernel::cpus(&args.node.machine);
    let ran = run_kernel_host(link, server, asks, &cpus, stop)?;
    let mut own = kernel::named(&ran.served.counters);
    let report = ran.client.map(|result| {
        own.extend(kernel::named(&result.counters));
        let mut report = run.report(&config, result.result, std::mem::take(&mut own));
        report.sides = report.sides.into_iter().map(|side| on_host(side, assignment)).collect();
        report
    });
    let mut served = ran.served;
    name_cores(&mut served.side, &cpus);
    let (counts, server) = (in_report(served.counts), on_host(served.side, assignment));
    Ok((HostResult { report, served: counts, server, counters: own }, error_of(ran.end)))
}

/// Why a host has ended before its time, if it has.
fn error_of(end: HostEnd) -> Option<AgentError> {
    match end {
        HostEnd::Told => None,
        HostEnd::Refused(reason) => Some(AgentError::Refused(reason)),
        HostEnd::Orphaned(error) => Some(AgentError::Link(error)),
        HostEnd::Signal => Some(AgentError::Interrupted),
    }
}

/// Runs the node; gives the result, and why the run ended before its time.
fn take_part(
    args: &AgentArgs,
    config: &NodeConfig,
    observers: Observers,
    link: &AgentLink,
    assignment: &Assignment,
    stop: &Arc<AtomicBool>,
) -> Result<(HostResult, Option<AgentError>), Box<dyn Error>> {
    let HostLoadArgs { load, service_time, ports } = host_load(assignment)?;
    let target = Target {
        transport: Transport::Homa,
        servers: servers(assignment, ports)?,
        title: String::new(),
        port: args.node.device_text(),
        timeout: args.node.machine.timeout,
        mtu: args.node.machine.mtu,
        link_gbps: args.node.machine.link_gbps,
        parameters: [("pattern".to_owned(), assignment.pattern.clone())].into(),
        dialect: Dialect::default(),
    };
    let client = if target.servers.is_empty() {
        None
    } else {
        let seed = load.seed.wrapping_add(u64::from(assignment.rank) * SEED_STEP);
        Some(ClientConfig { seed, ..client_config(&load, &target)? })
    };
    let is_drawn = matches!(load.response, ResponseKind::Drawn(_));
    let server = ServerConfig {
        port_groups: ports,
        drawn: is_drawn.then(|| load.response.clone()),
        service_time,
        verify: !load.no_verify,
        ..ServerConfig::new(args.port)
    };
    let host = HostConfig { server, client };
    let mut node = Node::start(config)?;
    stop_on_signals(&node.stop_flag())?;
    if stop.load(Ordering::Relaxed) {
        return Err(AgentError::Interrupted.into());
    }
    let observed = observers.watch(&node)?;
    let shards = node.shards().into();
    let ran = run_host(&mut node, link, &host);
    drop(observed);
    let HostRun { client, mut served, report, end } = ran?;
    name_server_cores(&mut served.side, node.cpus());
    let mut own = counters(&report);
    let report = client.zip(host.client.as_ref()).map(|(mut result, config)| {
        let run = run_config(&load, &target, &config.generator, shards);
        let counters = std::mem::take(&mut own);
        let machine = Machine::detect();
        let mut report = Report::new(run, machine, &result.totals, &result.recorder, counters);
        name_cores(&mut result.side, node.cpus());
        report.sides.push(on_host(result.side, assignment));
        report
    });
    node.close()?;
    let (counts, server) = (in_report(served.counts), on_host(served.side, assignment));
    Ok((HostResult { report, served: counts, server, counters: own }, error_of(end)))
}

/// Names the cores of this host apart from those of the others.
fn on_host(mut side: SideReport, assignment: &Assignment) -> SideReport {
    let name = assignment.hosts.get(assignment.rank as usize).map_or("", |host| &host.name);
    for core in &mut side.cores {
        core.name = format!("{name}/{}", core.name);
    }
    side
}

const fn in_report(counts: ServerCounts) -> Served {
    Served {
        requests: counts.requests,
        request_bytes: counts.request_bytes,
        corrupted: counts.corrupted,
        refused: counts.refused,
    }
}

/// The load, read from options as the command line gives them.
fn host_load(assignment: &Assignment) -> Result<HostLoadArgs, Box<dyn Error>> {
    let directory = Directory::new()?;
    let mut words = vec!["homa-load".to_owned()];
    words.extend(assignment.flags.iter().cloned());
    for file in &assignment.files {
        let name = Path::new(&file.name).file_name().unwrap_or_else(|| OsStr::new("file"));
        let path = directory.0.join(name);
        std::fs::write(&path, &file.content)?;
        words.push(format!("{}={}", file.option, path.display()));
    }
    let flags = LoadFlags::try_parse_from(words).map_err(|error| {
        let error = one_line(&error.to_string());
        format!("the coordinator's options are not understood here: {error}")
    })?;
    Ok(flags.hosts)
}

/// Those that this host sends to: every group of ports at every destination.
fn servers(assignment: &Assignment, ports: u16) -> Result<Vec<(IpAddr, HomaPort)>, Box<dyn Error>> {
    let pattern: TrafficPattern = assignment.pattern.parse()?;
    let hosts = assignment.hosts.len() as u32;
    let mut servers = Vec::new();
    for rank in pattern.destinations(assignment.rank, hosts)? {
        let Some(host) = assignment.hosts.get(rank as usize) else { continue };
        let ports = port_groups(HomaPort(host.port), ports)?;
        servers.extend(ports.into_iter().map(|port| (host.address, port)));
    }
    Ok(servers)
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

/// Adds what an inventory says about this host to the command line of an agent.
pub(crate) fn with_inventory(words: Vec<OsString>) -> Result<Vec<OsString>, String> {
    // Options of all subcommands may stand before it.
    let Some(place) = words.iter().take(4).position(|word| word == "agent") else {
        return Ok(words);
    };
    let Some(file) = value_of(&words, "--inventory", "HOMA_LOAD_INVENTORY") else {
        return Ok(words);
    };
    let name = value_of(&words, "--name", "HOMA_LOAD_NAME");
    let name = name.map_or_else(host_name, |name| name.to_string_lossy().into_owned());
    let inventory = read_inventory(Path::new(&file))?;
    let options = inventory.agent_options(&name).ok_or_else(|| {
        format!(
            "{} has no host \"{name}\", but {}: choose one with --name",
            Path::new(&file).display(),
            inventory.names().join(", ")
        )
    })?;
    let (first, rest) = words.split_at(place + 1);
    let options = options.into_iter().map(OsString::from);
    Ok(first.iter().cloned().chain(options).chain(rest.iter().cloned()).collect())
}

/// The value of an option, else of a variable of the environment.
fn value_of(words: &[OsString], option: &str, variable: &str) -> Option<OsString> {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == option {
            return words.next().cloned();
        }
        let rest = word.to_str().and_then(|word| word.strip_prefix(option)?.strip_prefix('='));
        if let Some(value) = rest {
            return Some(value.into());
        }
    }
    std::env::var_os(variable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn an_inventory_gives_options_before_those_given() {
        let file = format!("homa-inventory-{}.toml", std::process::id());
        let file = std::env::temp_dir().join(file);
        let text = "[[host]]\nname = \"a\"\naddress = \"10.0.0.1/24\"\ndevice = \"null\"\n";
        std::fs::write(&file, text).unwrap();
        let path = file.clone();
        let file = file.display().to_string();
        for inventory in [format!("--inventory {file}"), format!("--inventory={file}")] {
            let got = with_inventory(words(&format!("homa-load agent {inventory} --name a")));
            let wanted =
                format!("homa-load agent --device=null --ip=10.0.0.1/24 {inventory} --name a");
            assert_eq!(got.unwrap(), words(&wanted));
        }
        let before = format!("h --log-format json agent --name a --inventory {file}");
        let got = with_inventory(words(&before)).unwrap();
        let inserted = words("h --log-format json agent --device=null --ip=10.0.0.1/24 --name a");
        assert_eq!(got[..inserted.len()], inserted);
        let error = with_inventory(words(&format!("h agent --name=b --inventory={file}")));
        assert!(error.unwrap_err().contains("has no host \"b\", but a: choose one with --name"));
        std::fs::remove_file(path).unwrap();
        let error = with_inventory(words("h agent --inventory=/nowhere --name a")).unwrap_err();
        assert!(error.starts_with("/nowhere: "), "{error}");
    }

    #[test]
    fn other_commands_are_left_alone() {
        let other = words("homa-load server --inventory /nowhere");
        assert_eq!(with_inventory(other.clone()).unwrap(), other);
    }
}
