//! One process of a run: the server or the client of raw frames, of Homa or of TCP. It says on
//! standard output that it is ready, and what it measured; it ends when standard input does.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use homa::dpdk::{DeviceSpec, Hugepages, pin_current_thread};
use homa::load::apps::bench::{
    BenchClient, BenchClientConfig, BenchServer, BenchServerCounts, Measured, RawConfig, RawPort,
    Source, TcpPeer, Timing, echo, ping_pong, receive, send, tcp_echo, tcp_ping_pong,
};
use homa::load::bench::{Metric, Sampled, System};
use homa::node::{Node, NodeConfig};
use homa::time::Nanos;
use homa::wire::HomaPort;
use serde::{Deserialize, Serialize};

use super::priority;
use crate::server::counters;

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const PREFIX_LEN: u8 = 24;
const PORT: HomaPort = HomaPort(4000);
/// The client polls no more when the server ends, so nothing more will arrive.
const SERVER_DRAIN: Duration = Duration::from_millis(5);

/// What a process is to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SideSpec {
    pub(super) metric: Metric,
    pub(super) system: System,
    pub(super) is_server: bool,
    /// Path of the socket; the address of the server for a client of TCP.
    pub(super) endpoint: String,
    pub(super) cpu: usize,
    pub(super) warm_up_ns: u64,
    pub(super) duration_ns: u64,
    pub(super) idle: String,
    /// Bytes of raw frames.
    pub(super) frame_bytes: u16,
    /// Requests from attached memory.
    pub(super) attach: bool,
    pub(super) hugepages: bool,
    pub(super) memory_mb: u32,
}

/// What a process says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Said {
    /// A server can be reached at `endpoint`.
    Ready { endpoint: String },
    /// It polls no more.
    Done(SideResult),
    /// It ends for this reason.
    Failed(String),
}

/// What a process has measured and counted.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct SideResult {
    pub(super) windows: Vec<Sampled>,
    pub(super) failed: u64,
    pub(super) counters: BTreeMap<String, u64>,
    pub(super) priority: String,
}

impl From<Measured> for SideResult {
    fn from(measured: Measured) -> Self {
        Self { windows: measured.windows, failed: measured.failed, ..Self::default() }
    }
}

impl SideResult {
    fn with_count(mut self, name: &str, count: u64) -> Self {
        self.counters.insert(name.to_owned(), count);
        self
    }
}

pub(crate) fn run(spec: &SideSpec) -> Result<ExitCode, Box<dyn Error>> {
    let side = Side { spec, priority: priority::raise_group() };
    let ran = match spec.system {
        System::Raw => side.raw(),
        System::Homa if spec.is_server => side.homa_server(),
        System::Homa => side.homa_client(),
        System::Tcp => side.tcp(),
    };
    match ran {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            say(&Said::Failed(error.to_string()))?;
            Ok(ExitCode::FAILURE)
        }
    }
}

struct Side<'a> {
    spec: &'a SideSpec,
    priority: String,
}

impl Side<'_> {
    fn timing(&self) -> Result<Timing, String> {
        Ok(Timing {
            warm_up: Nanos(self.spec.warm_up_ns),
            duration: Nanos(self.spec.duration_ns),
            idle: self.spec.idle.parse()?,
        })
    }

    fn device(&self) -> Result<DeviceSpec, Box<dyn Error>> {
        let role = if self.spec.is_server { "server" } else { "client" };
        Ok(format!("memif:{},role={role}", self.spec.endpoint).parse()?)
    }

    fn hugepages(&self) -> Hugepages {
        if self.spec.hugepages { Hugepages::Require } else { Hugepages::Never }
    }

    /// Says that a client may come, if this is the server.
    fn ready(&self, endpoint: &str) -> Result<(), Box<dyn Error>> {
        if self.spec.is_server {
            say(&Said::Ready { endpoint: endpoint.to_owned() })?;
        }
        Ok(())
    }

    /// Says what was measured, and waits until the process may end: a client until its server is gone.
    fn done(&self, result: SideResult, end: JoinHandle<()>) -> Result<(), Box<dyn Error>> {
        say(&Said::Done(SideResult { priority: self.priority.clone(), ..result }))?;
        end.join().map_err(|_| "standard input cannot be read")?;
        Ok(())
    }

    fn raw(&self) -> Result<(), Box<dyn Error>> {
        let (spec, timing, stop) = (self.spec, self.timing()?, Arc::<AtomicBool>::default());
        let end = stop_at_end_of_input(Arc::clone(&stop));
        let stop = &*stop;
        let mut port = RawPort::open(&RawConfig {
            device: self.device()?,
            hugepages: self.hugepages(),
            memory_mb: spec.memory_mb,
            cpu: spec.cpu,
            file_prefix: format!("homa-{}", std::process::id()),
        })?;
        self.ready(&spec.endpoint)?;
        let (frame, outstanding) = (spec.frame_bytes, spec.metric.outstanding());
        let ran = port.run(|queues| match (spec.metric.is_large(), spec.is_server) {
            (false, false) => ping_pong(queues, frame, outstanding, timing, stop).into(),
            (false, true) => SideResult::default().with_count("frames", echo(queues, timing, stop)),
            (true, false) => {
                SideResult::default().with_count("frames", send(queues, frame, timing, stop))
            }
            (true, true) => {
                let (measured, frames) = receive(queues, timing, stop);
                SideResult::from(measured).with_count("frames", frames)
            }
        });
        self.done(ran?, end)?;
        Ok(port.close()?)
    }

    fn node(&self, address: Ipv4Addr) -> Result<Node, Box<dyn Error>> {
        let mut config = NodeConfig::new(self.device()?, address, PREFIX_LEN);
        config.cpus = vec![self.spec.cpu];
        config.idle = self.spec.idle.parse()?;
        config.hugepages = self.hugepages();
        config.memory_mb = Some(self.spec.memory_mb);
        if self.spec.is_server {
            config.drain = SERVER_DRAIN;
        }
        Ok(Node::start(&config)?)
    }

    fn homa_server(&self) -> Result<(), Box<dyn Error>> {
        let mut node = self.node(SERVER)?;
        let end = stop_at_end_of_input(node.stop_flag());
        self.ready(&self.spec.endpoint)?;
        let counts: Arc<Mutex<BenchServerCounts>> = Arc::default();
        let result = Arc::clone(&counts);
        let report = node.run(move |cx| BenchServer::new(cx, PORT, result))?;
        let refused = counts.lock().map_err(|_| "the server's counts are lost")?.refused;
        let result = SideResult { failed: refused, counters: counters(&report), ..<_>::default() };
        self.done(result, end)?;
        Ok(node.close()?)
    }

    fn homa_client(&self) -> Result<(), Box<dyn Error>> {
        let mut node = self.node(CLIENT)?;
        let end = stop_at_end_of_input(node.stop_flag());
        let metric = self.spec.metric;
        let config = BenchClientConfig {
            server: SERVER.into(),
            port: PORT,
            request_bytes: metric.request_bytes(),
            outstanding: metric.outstanding(),
            source: if self.spec.attach { Source::Attached } else { Source::Copied },
            timing: self.timing()?,
        };
        let measured: Arc<Mutex<Measured>> = Arc::default();
        let (eal, result) = (node.eal().clone(), Arc::clone(&measured));
        let report = node.run(move |cx| BenchClient::new(cx, eal, config, result))?;
        let measured = std::mem::take(&mut *measured.lock().map_err(|_| "nothing was measured")?);
        self.done(SideResult { counters: counters(&report), ..measured.into() }, end)?;
        Ok(node.close()?)
    }

    fn tcp(&self) -> Result<(), Box<dyn Error>> {
        let (timing, stop) = (self.timing()?, Arc::<AtomicBool>::default());
        let end = stop_at_end_of_input(Arc::clone(&stop));
        pin_current_thread(self.spec.cpu)?;
        if self.spec.is_server {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            self.ready(&listener.local_addr()?.to_string())?;
            let peer = TcpPeer::accept(&listener, timing.idle, &stop)?;
            let echoed = peer.map(tcp_echo).transpose()?;
            return self.done(SideResult::default().with_count("echoed", echoed.unwrap_or(0)), end);
        }
        let peer = TcpPeer::connect(self.spec.endpoint.parse()?, timing.idle, &stop)?;
        self.done(tcp_ping_pong(peer, timing)?.into(), end)
    }
}

fn say(said: &Said) -> Result<(), Box<dyn Error>> {
    let line = serde_json::to_string(said)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// Sets `stop` at the end of standard input: a process of a benchmark must not outlive the one that
/// started it. The thread ends then as well.
fn stop_at_end_of_input(stop: Arc<AtomicBool>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        stop.store(true, Ordering::Relaxed);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_survives_the_command_line() {
        let spec = SideSpec {
            metric: Metric::Large32k,
            system: System::Homa,
            is_server: true,
            endpoint: "/tmp/with blank".to_owned(),
            cpu: 1,
            warm_up_ns: 1,
            duration_ns: 2,
            idle: "spin".to_owned(),
            frame_bytes: 190,
            attach: true,
            hugepages: false,
            memory_mb: 256,
        };
        let text = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<SideSpec>(&text).unwrap(), spec);
    }
}
