//! Shards on cores, the run-to-completion loop and the application API.
//!
//! A node is one DPDK port with one address. Each shard is a pinned thread with its own receive and
//! transmit queue, transport and application. One turn of the loop: time, receive burst, packets from
//! other shards, protocol, application, timers, transmit.
//!
//! Every packet belongs to one shard ([`net::Steering`]); one that came to another is passed on
//! through a ring. Shards share nothing else but the cells of [`transport::HostShare`], through which
//! they grant and send as one host.
//!
//! This module must not know benchmarks or command lines.

mod app;
mod complaints;
mod config;
mod crossing;
mod cx;
mod egress;
mod hand_off;
mod idle;
mod link;
mod outgoing;
mod payload;
mod queues;
mod ring;
mod shard;
mod signals;
mod stats;
mod steer;
mod trace;
mod watch;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;
use std::time::{Duration, Instant};

pub use app::{App, CallFailed, Request, RequestHead, Responder, Response, Verdict};
pub use config::NodeConfig;
pub use cx::{AllocError, Cx, is_transient};
pub use hand_off::{HandOff, HandOffWhen};
pub use idle::IdlePolicy;
pub use outgoing::{MessageBuf, Outgoing};
pub use payload::{Message, PacketBytes};
pub use ring::{Consumer, Producer, ring};
pub use signals::stop_on_signals;
pub use stats::{LoopTime, NodeReport, ShardCounters, ShardReport, ShardStats};
pub use steer::{Arrival, IdRules, PortSpread};
pub use trace::TraceConfig;
pub use watch::{Callback, SlowCallback};

use crate::dpdk::{
    self, Capabilities, Eal, EalConfig, Mempool, Port, PortBuilder, allowed_cpus, free_hugepages,
};
use crate::net::{self, MacAddr, Steering};
use crate::transport::{self, HostShare};
use link::LinkReturns;
use shard::{Shard, ShardParts};
use stats::Published;
use trace::{TraceWriter, Tracer};

/// What [`free_hugepages`] counts, in MB.
const HUGEPAGE_MB: u64 = 2;
/// How soon a node that waits for the link hears that it is to stop.
const LINK_CHECK_INTERVAL: Duration = Duration::from_millis(50);
/// A network card has its link within this time.
const LINK_USUAL: Duration = Duration::from_secs(3);

/// What one shard is built from, besides its queues.
#[derive(Clone, Debug)]
struct ShardConfig {
    transport: transport::Config,
    net: net::Config,
    port: Capabilities,
    unresolved_packets_max: usize,
    segment_bytes: u32,
    idle: IdlePolicy,
    cpus: usize,
    drain_ns: u64,
    drop_fraction: f64,
}

/// Why a node does not start, or did not end well.
#[derive(Debug)]
#[non_exhaustive]
pub enum NodeError {
    /// DPDK, the port or its memory.
    Dpdk(dpdk::Error),
    /// The settings of the network.
    Net(net::ConfigError),
    /// The settings of the protocol.
    Transport(transport::ConfigError),
    /// A setting of the node itself.
    Config(String),
    /// The link did not come up.
    NoLink(String),
    /// The application panicked.
    AppPanicked {
        /// The shard it ran on.
        shard: u8,
        /// The callback it ran in.
        callback: Callback,
        /// What it said.
        text: String,
    },
    /// Packet buffers were not given back: received, transmitted.
    Leaked {
        /// Mbufs of the receive pool still in use.
        rx_mbufs: u32,
        /// Mbufs of the transmit pools still in use.
        tx_mbufs: u32,
    },
}

impl fmt::Display for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dpdk(error) => error.fmt(f),
            Self::Net(error) => error.fmt(f),
            Self::Transport(error) => error.fmt(f),
            Self::Config(text) => f.write_str(text),
            Self::NoLink(device) => {
                write!(
                    f,
                    "{device}: no link: start the other side, bring the interface up, or raise the \
                     link timeout"
                )
            }
            Self::AppPanicked { shard, callback, text } => {
                write!(f, "the application panicked on shard {shard} in {callback}: {text}")
            }
            Self::Leaked { rx_mbufs, tx_mbufs } => write!(
                f,
                "{rx_mbufs} mbufs of the receive pool and {tx_mbufs} of the transmit pool were not \
                 given back"
            ),
        }
    }
}

impl std::error::Error for NodeError {}

impl From<dpdk::Error> for NodeError {
    fn from(error: dpdk::Error) -> Self {
        Self::Dpdk(error)
    }
}

/// A started port, ready to run: [`Node::start`], [`Node::run`], [`Node::close`]. DPDK starts once per
/// process: for several nodes in one, start it first ([`Eal::start`]) and then each node with
/// [`Node::start_on`].
#[derive(Debug)]
pub struct Node {
    shard: ShardConfig,
    /// One shard on each.
    cpus: Vec<usize>,
    client_port_blocks: u16,
    detour: bool,
    hand_off: Option<HandOff>,
    device: String,
    port: Port,
    rx_pool: Mempool,
    tx_pool: Mempool,
    header_pool: Mempool,
    eal: Eal,
    /// DPDK was started for this node and ends with it.
    owns_eal: bool,
    stop: Arc<AtomicBool>,
    /// By shard.
    published: Arc<[Published]>,
    steering: Arc<Steering>,
    arrival: Arrival,
    link_timeout: Duration,
    trace: Option<TraceConfig>,
}

impl Node {
    /// Starts DPDK and opens the port.
    ///
    /// # Errors
    /// When a setting is out of range, memory or rights are missing, or the device is not there.
    pub fn start(config: &NodeConfig) -> Result<Self, NodeError> {
        config.validate()?;
        let cpu = config.cpus.first().copied().or_else(|| allowed_cpus().first().copied());
        let eal = Eal::start(&EalConfig {
            hugepages: config.hugepages,
            memory_mb: config.memory_mb_needed(free_hugepages() * HUGEPAGE_MB),
            main_cpu: Some(cpu.unwrap_or(0)),
            file_prefix: config.file_prefix.clone(),
            devices: vec![config.device.clone().for_mtu(config.mtu)],
            telemetry: config.telemetry,
            ..EalConfig::default()
        })?;
        Ok(Self { owns_eal: true, ..Self::start_on(&eal, 0, config)? })
    }

    /// Opens device `index` of a DPDK that runs already: several nodes in one process, or a node in a
    /// program that uses DPDK for more. The settings of `config` that concern DPDK as a whole, and its
    /// description of the device, count for nothing here.
    ///
    /// # Errors
    /// When a setting is out of range, memory is missing, or the device was opened before.
    pub fn start_on(eal: &Eal, index: usize, config: &NodeConfig) -> Result<Self, NodeError> {
        config.validate()?;
        let allowed = allowed_cpus();
        let cpus = match &config.cpus[..] {
            [] => vec![allowed.first().copied().unwrap_or(0)],
            cpus => cpus.to_vec(),
        };
        let shards = config.shards();
        let pool = |mbufs| config.pool(mbufs).build(eal);
        let (rx_pool, tx_pool) = (pool(config.rx_mbufs)?, pool(config.tx_mbufs)?);
        let header_pool = pool(config.header_mbufs)?;
        let builder = PortBuilder::new(&rx_pool)
            .descriptors(config.descriptors, config.descriptors)
            .mtu(config.mtu)
            // Neighbour Discovery asks groups of stations.
            .all_multicast(config.speaks_ipv6());
        let (port, steering, arrival) = steer::open(builder, eal, index, config)?;
        let hardware = port.spec().is_hardware();
        let shard = ShardConfig {
            transport: paced(config, &port, hardware),
            net: config.net_config(config.mac.unwrap_or_else(|| MacAddr(port.mac()))),
            port: port.capabilities().clone(),
            unresolved_packets_max: config.unresolved_packets_max as usize,
            segment_bytes: config.segment_bytes(),
            idle: config.idle,
            // More shards than CPUs must let each other run.
            cpus: if is_oversubscribed(&cpus) { 1 } else { allowed.len() },
            drain_ns: config.drain.as_nanos() as u64,
            drop_fraction: config.drop_fraction,
        };
        shard.transport.validate().map_err(NodeError::Transport)?;
        shard.net.validate().map_err(NodeError::Net)?;
        Ok(Self {
            shard,
            cpus,
            client_port_blocks: config.client_port_blocks,
            detour: config.detour && shards > 1,
            hand_off: config.hand_off.filter(|_| shards > 1),
            device: port.spec().to_string(),
            port,
            rx_pool,
            tx_pool,
            header_pool,
            eal: eal.clone(),
            owns_eal: false,
            stop: Arc::default(),
            published: (0..shards).map(|_| Published::default()).collect(),
            steering: Arc::new(steering),
            arrival,
            link_timeout: config.link_timeout,
            trace: config.trace.clone(),
        })
    }

    /// Shards of the node.
    pub fn shards(&self) -> u8 {
        self.published.len() as u8
    }

    /// The CPUs of the shards, in their order.
    pub fn cpus(&self) -> &[usize] {
        &self.cpus
    }

    /// What the port can do, and what of it is used.
    pub fn capabilities(&self) -> &Capabilities {
        self.port.capabilities()
    }

    /// How received packets come to their shards.
    pub fn arrival(&self) -> &Arrival {
        &self.arrival
    }

    /// The environment, for external buffers.
    pub fn eal(&self) -> &Eal {
        &self.eal
    }

    /// Set it to end [`Node::run`] from another thread or a signal handler.
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// Reads the counters of all shards together while they run.
    pub fn stats_reader(&self) -> impl Fn() -> ShardStats + Send + 'static {
        let read = self.shard_stats_reader();
        move || {
            let mut sum = ShardStats::default();
            read().iter().for_each(|stats| sum.add(stats));
            sum
        }
    }

    /// Reads the counters of each shard while they run.
    pub fn shard_stats_reader(&self) -> impl Fn() -> Vec<ShardStats> + Send + 'static {
        let published = Arc::clone(&self.published);
        move || published.iter().map(Published::read).collect()
    }

    /// Reads all counters of each shard while they run.
    pub fn counters_reader(&self) -> impl Fn() -> Vec<ShardCounters> + Send + 'static {
        let published = Arc::clone(&self.published);
        move || published.iter().map(Published::read_all).collect()
    }

    /// Runs a node of one shard until its application calls [`Cx::stop`] or the stop flag is set.
    /// `make_app` builds the application on its shard's thread. Once in the life of a node.
    ///
    /// # Errors
    /// When the node has several shards (see [`Node::run_shards`]), the link does not come up, the
    /// application panics, or the node has run before.
    pub fn run<A: App>(
        &mut self,
        make_app: impl FnOnce(&mut Cx<'_>) -> A + Send,
    ) -> Result<ShardReport, NodeError> {
        if self.shards() > 1 {
            return Err(NodeError::Config(format!(
                "the node has {} shards, and one application was given: use Node::run_shards",
                self.shards()
            )));
        }
        self.run_each(vec![make_app]).map(|report| report.merged())
    }

    /// Runs all shards until the application of one of them calls [`Cx::stop`], the stop flag is set, or
    /// one of them fails. `make_app` builds the application of each shard on its thread; the number of
    /// the shard is [`Cx::shard`]. Once in the life of a node.
    ///
    /// # Errors
    /// When the link does not come up, an application panics (the others are stopped then), or the
    /// node has run before.
    pub fn run_shards<A: App>(
        &mut self,
        make_app: impl Fn(&mut Cx<'_>) -> A + Sync,
    ) -> Result<NodeReport, NodeError> {
        self.run_each(vec![&make_app; self.published.len()])
    }

    /// Runs one shard for each of `make_apps`.
    fn run_each<A: App, F: FnOnce(&mut Cx<'_>) -> A + Send>(
        &mut self,
        make_apps: Vec<F>,
    ) -> Result<NodeReport, NodeError> {
        self.wait_for_link()?;
        let shards = self.shards();
        let queues = queues::deal(&mut self.port, shards)?;
        let host = HostShare::new(shards, &self.shard.transport)?;
        let routes = crossing::Routes {
            steering: &self.steering,
            has_id_rules: self.arrival.has_id_rules(),
            detour: self.detour,
        };
        let crossings = crossing::crossings(&routes, shards, self.client_port_blocks);
        let mut desks = self.hand_off.map(|config| hand_off::desks(config, shards).into_iter());
        let configs: Vec<ShardConfig> = (0..shards).map(|shard| self.shard.of(shard)).collect();
        let (tracers, trace_writer) = self.open_trace()?;
        // One clock: shards compare ages of messages.
        let (eal, clock, stop) = (&self.eal, self.eal.clock(), &*self.stop);
        let (link_returns, waiting) = (LinkReturns::default(), std::thread::current());
        let (link_returns, waiting) = (&link_returns, &waiting);
        let parts = configs.iter().zip(&*self.published).zip(queues).zip(crossings);
        let threads = parts.zip(&self.cpus).zip(make_apps).zip(tracers);
        std::thread::scope(|scope| {
            // It ends when the shards have dropped their ends of the rings.
            if let Some(writer) = trace_writer {
                scope.spawn(move || {
                    if let Err(error) = writer.run() {
                        log::error!("the trace is not complete: {error}");
                    }
                });
            }
            let mut handles = Vec::with_capacity(shards.into());
            for ((((((config, published), (rx, tx)), crossing), &cpu), make_app), trace) in threads
            {
                let parts = ShardParts {
                    config,
                    rx,
                    tx,
                    rx_pool: self.rx_pool.clone(),
                    tx_pool: self.tx_pool.clone(),
                    header_pool: self.header_pool.clone(),
                    clock,
                    published,
                    stop,
                    link_returns,
                    host: Arc::clone(&host),
                    crossing: (shards > 1).then_some(crossing),
                    desk: desks.as_mut().and_then(Iterator::next),
                    trace,
                };
                let run = move || {
                    // However this shard ends, the others do, too.
                    let _stop = StopOthers(stop, waiting);
                    let lcore = eal.register_lcore_thread(Some(cpu))?;
                    let report = Shard::new(parts, make_app)?.run();
                    drop(lcore);
                    Ok(report)
                };
                let shard = config.transport.shard;
                let thread = std::thread::Builder::new().name(format!("homa-shard-{shard}"));
                match thread.spawn_scoped(scope, run) {
                    Ok(handle) => handles.push((shard, published, handle)),
                    Err(error) => {
                        stop.store(true, Ordering::Relaxed);
                        let text = format!("no thread for shard {shard}: {error}");
                        return Err(NodeError::Config(text));
                    }
                }
            }
            link::watch(&self.port, link_returns, stop);
            // All must have ended before the first error is told.
            let ended: Vec<Result<ShardReport, NodeError>> = handles
                .into_iter()
                .map(|(shard, published, handle)| {
                    handle.join().unwrap_or_else(|panic| {
                        let callback = published.callback();
                        let text = panic_text(panic.as_ref());
                        Err(NodeError::AppPanicked { shard, callback, text })
                    })
                })
                .collect();
            let shards: Result<Vec<ShardReport>, NodeError> = ended.into_iter().collect();
            Ok(NodeReport { shards: shards? })
        })
    }

    /// A tracer for each shard, and the one that writes what they record; none without a trace.
    fn open_trace(&self) -> Result<(Vec<Option<Tracer>>, Option<TraceWriter>), NodeError> {
        let shards = usize::from(self.shards());
        let Some(config) = &self.trace else {
            return Ok(((0..shards).map(|_| None).collect(), None));
        };
        let now = self.eal.clock().now();
        let (tracers, writer) = trace::create(config, now, shards).map_err(|error| {
            let file = config.file.display();
            NodeError::Config(format!(
                "{file}: {error}: name a file for the trace that may be written"
            ))
        })?;
        Ok((tracers.into_iter().map(Some).collect(), Some(writer)))
    }

    /// Returns when the link is up, or the node was told to stop.
    fn wait_for_link(&self) -> Result<(), NodeError> {
        let begin = Instant::now();
        // Others connect when their peer does.
        let mut is_told = !self.port.spec().has_lasting_link();
        while !self.port.wait_for_link(LINK_CHECK_INTERVAL)? && !self.stop.load(Ordering::Relaxed) {
            if begin.elapsed() >= self.link_timeout {
                return Err(NodeError::NoLink(self.device.clone()));
            }
            if !is_told && begin.elapsed() >= LINK_USUAL {
                log::warn!(
                    "{}: no link yet: is the interface up, and its other side?",
                    self.device
                );
                is_told = true;
            }
        }
        Ok(())
    }

    /// Closes the port, checks that every packet buffer has come back, and shuts DPDK down if
    /// [`Node::start`] started it.
    ///
    /// # Errors
    /// When buffers were not given back.
    pub fn close(self) -> Result<(), NodeError> {
        Self::close_all([self])
    }

    /// Closes nodes that are wired to each other with rings, where each may hold packet buffers of the
    /// other as long as its port is open.
    ///
    /// # Errors
    /// As [`Node::close`].
    pub fn close_all(nodes: impl IntoIterator<Item = Self>) -> Result<(), NodeError> {
        let mut rest = Vec::new();
        for Self { port, rx_pool, tx_pool, header_pool, eal, owns_eal, .. } in nodes {
            port.close()?;
            rest.push((rx_pool, [tx_pool, header_pool], eal, owns_eal));
        }
        for (rx_pool, tx_pools, eal, owns_eal) in rest {
            let rx_mbufs = rx_pool.in_use();
            let tx_mbufs = tx_pools.iter().map(Mempool::in_use).sum::<u32>();
            if rx_mbufs + tx_mbufs > 0 {
                return Err(NodeError::Leaked { rx_mbufs, tx_mbufs });
            }
            drop((rx_pool, tx_pools));
            if owns_eal {
                eal.shutdown()?;
            }
        }
        Ok(())
    }
}

/// Stops the other shards of a node when this one ends, and wakes the thread that waits for all.
struct StopOthers<'a>(&'a AtomicBool, &'a Thread);

impl Drop for StopOthers<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        self.1.unpark();
    }
}

impl ShardConfig {
    /// The settings of shard number `shard`.
    fn of(&self, shard: u8) -> Self {
        let mut config = self.clone();
        config.transport.shard = shard;
        // All stacks see how neighbours are reached; the first speaks for the host.
        config.net.arp_responder &= shard == 0;
        config.net.announce &= shard == 0;
        config
    }
}

/// Whether several shards run on one CPU.
fn is_oversubscribed(cpus: &[usize]) -> bool {
    cpus.iter().enumerate().any(|(at, cpu)| cpus[..at].contains(cpu))
}

/// The transport's settings, with the speed of this link and the buffers of this port.
fn paced(config: &NodeConfig, port: &Port, hardware: bool) -> transport::Config {
    let mut settings = transport::Config {
        retained_packets_max: config.retained_packets_max(),
        ..config.transport.clone()
    };
    // What a software port says of its speed means nothing.
    let reported = port.link().ok().and_then(|link| link.speed_mbps).filter(|_| hardware);
    let link_bps = config.link_bps.or_else(|| reported.map(|mbps| u64::from(mbps) * 1_000_000));
    settings.pacing = link_bps.is_some();
    if let Some(link_bps) = link_bps {
        settings.link_bps = link_bps;
    }
    settings
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".into())
}
