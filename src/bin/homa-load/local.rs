//! `homa-load local`: server and client as two processes on one machine, with no other set-up.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use homa::dpdk::{DeviceSpec, allowed_cpus};
use homa::load::response::{ResponseKind, ServiceTime};
use homa::node::{IdlePolicy, Node, NodeConfig};
use homa::wire::HomaPort;

use crate::args::{LocalArgs, MachineArgs, Transport, Wire};
use crate::client::{Dialect, Target, finish};
use crate::observe::Observers;
use crate::server::ServerReport;
use crate::task::{Done, Task, check_load, dry_run, finish_baseline, finish_find_max};
use crate::{WrongArguments, apply_machine, check_writable, kernel, report, veth, wrong_arguments};

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const PREFIX_LEN: u8 = 24;
const PORT: HomaPort = HomaPort(4000);
/// How long the server may take to start, and to end.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn run(args: &LocalArgs) -> Result<ExitCode, Box<dyn Error>> {
    report::check(&args.load.out)?;
    if needs_cable(args) && !args.load.dry_run {
        return veth::run_at_one_end(args.machine.mtu);
    }
    if let Transport::Kernel(transport) = args.kernel.transport {
        return kernel::local(args, transport, Task::of(&args.load));
    }
    check_load(&args.load, args.machine.link_gbps).map_err(wrong_arguments)?;
    if args.load.dry_run {
        let port = format!("{}, MTU {}", wire_name(args.wire), args.machine.mtu);
        return dry_run(&args.load, &target(args, port), args.service_time);
    }
    let (done, served) = on_pair(args, Task::of(&args.load))?;
    match done {
        Done::Report(report) => finish(&args.load, *report, false, |report| {
            report.totals.corrupted += served.counts.corrupted;
            for (name, value) in served.counters {
                report.counters.insert(format!("server_{name}"), value);
            }
            report.sides.push(served.side);
        }),
        Done::FindMax(result) => finish_find_max(&args.load, &result),
        Done::Baseline(_) => Ok(ExitCode::SUCCESS),
    }
}

/// `homa-load baseline local`.
pub(crate) fn run_baseline(
    args: &LocalArgs,
    out: &Path,
    samples: u64,
) -> Result<ExitCode, Box<dyn Error>> {
    check_writable(Some(out))?;
    if needs_cable(args) {
        return veth::run_at_one_end(args.machine.mtu);
    }
    if let Transport::Kernel(transport) = args.kernel.transport {
        return kernel::local_baseline(args, transport, out, samples);
    }
    match on_pair(args, Task::Baseline(samples))?.0 {
        Done::Baseline(baseline) => finish_baseline(out, &baseline),
        Done::Report(_) | Done::FindMax(_) => Ok(ExitCode::SUCCESS),
    }
}

fn target(args: &LocalArgs, port: String) -> Target {
    let mut parameters = BTreeMap::new();
    if args.service_time != ServiceTime::None {
        parameters.insert("service".to_owned(), args.service_time.to_string());
    }
    if let Some(stall) = args.stall {
        parameters.insert("stall".to_owned(), stall.to_string());
    }
    Target {
        servers: vec![(SERVER.into(), PORT)],
        transport: Transport::Homa,
        title: format!("homa-load local: two processes over {}", wire_name(args.wire)),
        port,
        timeout: args.machine.timeout,
        mtu: args.machine.mtu,
        link_gbps: args.machine.link_gbps,
        parameters,
        dialect: Dialect::default(),
    }
}

/// Whether a cable is still to be made.
const fn needs_cable(args: &LocalArgs) -> bool {
    matches!(args.wire, Wire::Veth) && args.server_namespace.is_none()
}

const fn wire_name(wire: Wire) -> &'static str {
    match wire {
        Wire::Memif => "memif",
        Wire::Veth => "veth",
    }
}

/// The CPUs of client and server.
pub(crate) fn two_cpus(args: &LocalArgs) -> Result<(usize, usize), WrongArguments> {
    let cpus = allowed_cpus();
    let wanted = match args.machine.cores.as_ref().map(|cores| &cores.0[..]) {
        Some(&[cpu]) => Some(cpu),
        None => None,
        Some(cores) => {
            return Err(wrong_arguments(format!(
                "local runs one shard on each side: name one CPU for the client, not {}",
                cores.len()
            )));
        }
    };
    let client_cpu = wanted.or_else(|| cpus.first().copied()).unwrap_or(0);
    let server_cpu = cpus.iter().copied().find(|&cpu| cpu != client_cpu).unwrap_or(client_cpu);
    if client_cpu == server_cpu {
        log::warn!("one CPU for client and server: times will be those of the scheduler");
    }
    Ok((client_cpu, server_cpu))
}

/// Does `task` on a node of this process, against a server in another.
fn on_pair(args: &LocalArgs, task: Task) -> Result<(Done, ServerReport), Box<dyn Error>> {
    kernel::refuse_socket_options(&args.kernel, Some(&args.connections))?;
    let (client_cpu, server_cpu) = two_cpus(args)?;
    let observers = Observers::new(&args.machine)?;
    let directory = Directory::new()?;
    let server_json = directory.0.join("server.json");
    let link = Link::new(args.wire, &directory.0);
    let device: DeviceSpec = link.client.parse()?;
    let mut config = NodeConfig::new(device.clone(), CLIENT, PREFIX_LEN);
    apply_machine(&mut config, &args.machine)?;
    config.cpus = vec![client_cpu];
    if client_cpu == server_cpu {
        config.idle = IdlePolicy::Yield;
    }
    let mut server = Server::start(args, &link, &server_json, server_cpu)?;
    server.wait_until_ready(&link.ready)?;
    let mut node = Node::start(&config)?;
    let observed = observers.watch(&node)?;
    let memory = if node.eal().has_hugepages() { "hugepages" } else { "no hugepages" };
    let port =
        format!("{}, {memory}, MTU {}, CPUs {client_cpu} and {server_cpu}", link.name, config.mtu);
    let done = meet(args).and_then(|()| task.run(&mut node, &args.load, &target(args, port)));
    // The side that polls must not be there when the other takes the shared memory away: the server
    // goes first, while nobody polls here.
    let ended = server.end();
    drop(observed);
    let closed = node.close();
    let done = done?;
    ended?;
    closed?;
    Ok((done, serde_json::from_slice(&std::fs::read(&server_json)?)?))
}

/// Waits for the others that are to start at the same time.
pub(crate) fn meet(args: &LocalArgs) -> Result<(), Box<dyn Error>> {
    args.meet.as_ref().map_or(Ok(()), |meeting| meeting.wait().map_err(Into::into))
}

/// What lies between client and server.
struct Link {
    name: &'static str,
    /// The ports.
    client: String,
    server: String,
    /// The file that is there when the server can be reached.
    ready: PathBuf,
}

impl Link {
    fn new(wire: Wire, directory: &Path) -> Self {
        match wire {
            Wire::Memif => {
                let socket = directory.join("memif.sock");
                let port = |role: &str| format!("memif:{},role={role}", socket.display());
                Self {
                    name: "memif",
                    client: port("client"),
                    server: port("server"),
                    ready: socket,
                }
            }
            Wire::Veth => {
                let port = format!("af_packet:{}", veth::INTERFACE);
                let (client, server) = (port.clone(), port);
                Self { name: "af_packet over veth", client, server, ready: directory.join("ready") }
            }
        }
    }
}

/// A directory of our own for socket and files, removed at the end.
pub(crate) struct Directory(pub(crate) PathBuf);

const DIRECTORY_PREFIX: &str = "homa-load-";

impl Directory {
    pub(crate) fn new() -> io::Result<Self> {
        let parent = std::env::temp_dir();
        remove_left_behind(&parent);
        let path = parent.join(format!("{DIRECTORY_PREFIX}{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

/// Removes directories of processes that were killed and could not do it themselves.
fn remove_left_behind(parent: &Path) {
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(DIRECTORY_PREFIX));
        let is_dead = |pid: u32| !Path::new(&format!("/proc/{pid}")).exists();
        if pid.and_then(|pid| pid.parse().ok()).is_some_and(is_dead) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The server process; ended when dropped.
pub(crate) struct Server {
    child: Child,
}

impl Server {
    fn start(
        args: &LocalArgs,
        link: &Link,
        json: &Path,
        cpu: usize,
    ) -> Result<Self, Box<dyn Error>> {
        let exe = std::env::current_exe()?;
        let mut command = veth::command(args.server_namespace.as_deref(), exe);
        command
            .arg("server")
            .arg("--child")
            .arg(format!("--device={}", link.server))
            .arg(format!("--ip={SERVER}/{PREFIX_LEN}"))
            .arg(format!("--port={PORT}"))
            .arg(format!("--cpu={cpu}"))
            .arg("--json")
            .arg(json)
            .args(machine_args(&args.machine));
        let is_alone = allowed_cpus().len() == 1;
        let idle = if is_alone { IdlePolicy::Yield } else { args.machine.idle };
        command.arg(format!("--idle={idle}"));
        if args.wire == Wire::Veth {
            command.arg("--ready").arg(&link.ready);
        }
        if args.load.no_verify {
            command.arg("--no-verify");
        }
        if let ResponseKind::Drawn(sizes) = &args.load.response {
            command.arg(format!("--response={}", sizes.name()));
        }
        if let Some(stall) = args.stall {
            command.arg(format!("--stall={stall}"));
        }
        if args.service_time != ServiceTime::None {
            command.arg(format!("--service-time={}", service_time_arg(args.service_time)));
        }
        Self::spawn(command)
    }

    /// Starts a server that ends with its standard input.
    pub(crate) fn spawn(mut command: Command) -> Result<Self, Box<dyn Error>> {
        // A process group of its own: Ctrl-C is for the client, which then ends the server.
        let child = command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        Ok(Self { child })
    }

    /// The server listens when its socket, or the file that says so, is there.
    pub(crate) fn wait_until_ready(&mut self, socket: &Path) -> Result<(), Box<dyn Error>> {
        let give_up = Instant::now() + PATIENCE;
        while !socket.exists() {
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("the server process ended at its start ({status})").into());
            }
            if Instant::now() > give_up {
                return Err(format!("the server did not start within {PATIENCE:?}").into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Ends the server by closing its standard input, and waits for it.
    pub(crate) fn end(&mut self) -> Result<(), Box<dyn Error>> {
        drop(self.child.stdin.take());
        let give_up = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return if status.success() {
                    Ok(())
                } else {
                    Err(format!("the server process failed ({status})").into())
                };
            }
            if Instant::now() > give_up {
                return Err(format!("the server did not end within {PATIENCE:?}").into());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.end().is_err() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

pub(crate) fn service_time_arg(time: ServiceTime) -> String {
    let ns = time.mean().0;
    if matches!(time, ServiceTime::Exponential(_)) {
        format!("exp:{ns}ns")
    } else {
        format!("{ns}ns")
    }
}

/// The options that both processes share, for the command line of the second.
fn machine_args(args: &MachineArgs) -> Vec<String> {
    let mut list = vec![
        format!("--mtu={}", args.mtu),
        format!("--unresolved-packets={}", args.unresolved_packets),
        format!("--timeout={}ns", args.timeout.0),
        format!("--drop-percent={}", args.drop_percent),
    ];
    if let Some(memory_mb) = args.memory_mb {
        list.push(format!("--memory-mb={memory_mb}"));
    }
    if let Some(gbps) = args.link_gbps {
        list.push(format!("--link-gbps={gbps}"));
    }
    if args.huge {
        list.push("--huge".to_owned());
    }
    if args.no_huge {
        list.push("--no-huge".to_owned());
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_of_dead_processes_are_removed_and_no_others() {
        let own = Directory::new().unwrap();
        let inside = |name: &str| own.0.join(name);
        // No process has a number this high.
        let dead = inside("homa-load-4194305");
        let alive = inside(&format!("homa-load-{}", std::process::id()));
        let others = [inside("homa-load-notes"), inside("something-4194305")];
        for path in [&dead, &alive, &others[0], &others[1]] {
            std::fs::create_dir(path).unwrap();
        }
        remove_left_behind(&own.0);
        assert!(!dead.exists());
        assert!(alive.exists() && others.iter().all(|path| path.exists()));
    }
}
