//! Shards on cores, the run-to-completion loop and the application API.
//!
//! A node is one DPDK port with one address. Each shard is a pinned thread with its own receive and
//! transmit queue, transport and application; nothing on the packet path is shared. One turn of the
//! loop: time, receive burst, protocol, application, timers, transmit.
//!
//! This module must not know benchmarks or command lines.

mod app;
mod config;
mod cx;
mod egress;
mod idle;
mod outgoing;
mod payload;
mod shard;
mod signals;
mod stats;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub use app::{App, CallFailed, Request, RequestHead, Responder, Response, Verdict};
pub use config::NodeConfig;
pub use cx::{AllocError, Cx, is_transient};
pub use idle::IdlePolicy;
pub use outgoing::{MessageBuf, Outgoing};
pub use payload::{Message, PacketBytes};
pub use signals::stop_on_signals;
pub use stats::{ShardReport, ShardStats};

use crate::dpdk::{self, Capabilities, Eal, EalConfig, Mempool, Port, PortBuilder, allowed_cpus};
use crate::net::{self, MacAddr};
use crate::transport;
use shard::{Shard, ShardParts};
use stats::Published;

/// How soon a node that waits for the link hears that it is to stop.
const LINK_CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// What one shard is built from, besides its queues.
#[derive(Clone, Debug)]
struct ShardConfig {
    transport: transport::Config,
    net: net::Config,
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
    /// The application panicked; the text is its message.
    AppPanicked(String),
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
                write!(f, "{device}: no link: start the other side, or raise the link timeout")
            }
            Self::AppPanicked(text) => write!(f, "the application panicked: {text}"),
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
    cpu: usize,
    device: String,
    port: Port,
    rx_pool: Mempool,
    tx_pool: Mempool,
    header_pool: Mempool,
    eal: Eal,
    /// DPDK was started for this node and ends with it.
    owns_eal: bool,
    stop: Arc<AtomicBool>,
    published: Arc<Published>,
    link_timeout: Duration,
}

impl Node {
    /// Starts DPDK and opens the port.
    ///
    /// # Errors
    /// When a setting is out of range, memory or rights are missing, or the device is not there.
    pub fn start(config: &NodeConfig) -> Result<Self, NodeError> {
        config.validate()?;
        let cpu = config.cpu.or_else(|| allowed_cpus().first().copied());
        let eal = Eal::start(&EalConfig {
            hugepages: config.hugepages,
            memory_mb: config.memory_mb,
            main_cpu: Some(cpu.unwrap_or(0)),
            file_prefix: config.file_prefix.clone(),
            devices: vec![config.device.clone()],
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
        let cpus = allowed_cpus();
        let cpu = config.cpu.or_else(|| cpus.first().copied()).unwrap_or(0);
        // A frame must fit one mbuf: scattered reception would have to be copied together.
        let data_room = config.mtu.saturating_add(64).max(2048);
        let pool = |mbufs| Mempool::builder().mbufs(mbufs).data_room_bytes(data_room).build(eal);
        let (rx_pool, tx_pool) = (pool(config.rx_mbufs)?, pool(config.tx_mbufs)?);
        let header_pool = pool(config.header_mbufs)?;
        let port = PortBuilder::new(&rx_pool)
            .descriptors(config.descriptors, config.descriptors)
            .mtu(config.mtu)
            .open(eal, index)?;
        let hardware = port.spec().is_hardware();
        let shard = ShardConfig {
            transport: paced(config, &port, hardware),
            net: net::Config {
                mac: config.mac.unwrap_or_else(|| MacAddr(port.mac())),
                ..config.net.clone()
            },
            segment_bytes: config.segment_bytes(),
            idle: config.idle,
            cpus: cpus.len(),
            drain_ns: config.drain.as_nanos() as u64,
            drop_fraction: config.drop_fraction,
        };
        shard.transport.validate().map_err(NodeError::Transport)?;
        shard.net.validate().map_err(NodeError::Net)?;
        Ok(Self {
            shard,
            cpu,
            device: port.spec().to_string(),
            port,
            rx_pool,
            tx_pool,
            header_pool,
            eal: eal.clone(),
            owns_eal: false,
            stop: Arc::default(),
            published: Arc::default(),
            link_timeout: config.link_timeout,
        })
    }

    /// What the port can do, and what of it is used.
    pub fn capabilities(&self) -> &Capabilities {
        self.port.capabilities()
    }

    /// The environment, for external buffers.
    pub fn eal(&self) -> &Eal {
        &self.eal
    }

    /// Set it to end [`Node::run`] from another thread or a signal handler.
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// Reads the counters of the shard while it runs.
    pub fn stats_reader(&self) -> impl Fn() -> ShardStats + Send + 'static {
        let published = Arc::clone(&self.published);
        move || published.read()
    }

    /// Runs until an application calls [`Cx::stop`] or the stop flag is set. `make_app` builds the
    /// application on its shard's thread. Once in the life of a node.
    ///
    /// # Errors
    /// When the link does not come up, the application panics, or the node has run before.
    pub fn run<A: App>(
        &mut self,
        make_app: impl FnOnce(&mut Cx<'_>) -> A + Send,
    ) -> Result<ShardReport, NodeError> {
        self.wait_for_link()?;
        let taken = (self.port.take_rx_queue(0), self.port.take_tx_queue(0));
        let (Some(rx), Some(tx)) = taken else {
            return Err(NodeError::Config(format!("{}: the node has run before", self.device)));
        };
        let parts = ShardParts {
            config: &self.shard,
            rx,
            tx,
            tx_pool: self.tx_pool.clone(),
            header_pool: self.header_pool.clone(),
            clock: self.eal.clock(),
            published: &self.published,
            stop: &self.stop,
        };
        let (eal, cpu) = (&self.eal, self.cpu);
        std::thread::scope(|scope| {
            let shard = move || {
                let lcore = eal.register_lcore_thread(Some(cpu))?;
                let report = Shard::new(parts, make_app)?.run();
                drop(lcore);
                Ok(report)
            };
            let thread = std::thread::Builder::new().name("homa-shard-0".into());
            match thread.spawn_scoped(scope, shard) {
                Ok(handle) => handle.join().unwrap_or_else(|panic| {
                    Err(NodeError::AppPanicked(panic_text(panic.as_ref())))
                }),
                Err(error) => Err(NodeError::Config(format!("no thread for the shard: {error}"))),
            }
        })
    }

    /// Returns when the link is up, or the node was told to stop.
    fn wait_for_link(&self) -> Result<(), NodeError> {
        let begin = Instant::now();
        while !self.port.wait_for_link(LINK_CHECK_INTERVAL)? && !self.stop.load(Ordering::Relaxed) {
            if begin.elapsed() >= self.link_timeout {
                return Err(NodeError::NoLink(self.device.clone()));
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
