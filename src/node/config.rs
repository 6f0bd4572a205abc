//! Settings of a node.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::dpdk::{DeviceSpec, Hugepages};
use crate::net::{self, MacAddr};
use crate::transport;

use super::idle::IdlePolicy;

/// Bytes of an IPv4 header and of the Homa header of a DATA packet.
const HEADERS_BYTES: u16 = 20 + 56;

/// Everything a node is built from. Start with [`NodeConfig::new`] and change what differs.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The port.
    pub device: DeviceSpec,
    /// The network around Homa: our address, gateway, static neighbours. Its `mac` is used only if
    /// `mac` below is set; otherwise that of the port is.
    pub net: net::Config,
    /// Our hardware address, if not that of the port.
    pub mac: Option<MacAddr>,
    /// The protocol.
    pub transport: transport::Config,
    /// Speed of the link in bits per second, to pace sending by. `None` takes what the port says;
    /// software ports, which cannot say, are not paced then.
    pub link_bps: Option<u64>,
    /// Bytes of an IP packet.
    pub mtu: u16,
    /// The CPU of the shard. `None` takes the first that this process may use.
    pub cpu: Option<usize>,
    /// What to do when there is nothing to do.
    pub idle: IdlePolicy,
    /// Whether to use hugepages.
    pub hugepages: Hugepages,
    /// Memory for DPDK, in MB.
    pub memory_mb: u32,
    /// Mbufs for received packets: those in the port's queue and those of messages that the
    /// application holds.
    pub rx_mbufs: u32,
    /// Mbufs for messages to be sent, which are kept until their RPC ends.
    pub tx_mbufs: u32,
    /// Descriptors of the receive and of the transmit queue.
    pub descriptors: u16,
    /// How long to wait for the link at the start.
    pub link_timeout: Duration,
    /// How long RPCs under way may take to end when the node stops.
    pub drain: Duration,
    /// Fraction of received packets to drop, to see the protocol recover. 0 in normal life.
    pub drop_fraction: f64,
    /// DPDK's runtime directory; must differ between processes.
    pub file_prefix: String,
}

impl NodeConfig {
    /// A node with address `ipv4` in a network of `prefix_len` bits, on `device`.
    pub fn new(device: DeviceSpec, ipv4: Ipv4Addr, prefix_len: u8) -> Self {
        Self {
            device,
            net: net::Config { ipv4, prefix_len, ..net::Config::default() },
            mac: None,
            transport: transport::Config { seed: seed(), ..transport::Config::default() },
            link_bps: None,
            mtu: 1500,
            cpu: None,
            idle: IdlePolicy::Auto,
            hugepages: Hugepages::Auto,
            memory_mb: 256,
            rx_mbufs: 16_383,
            tx_mbufs: 16_383,
            descriptors: 1024,
            link_timeout: Duration::from_secs(10),
            drain: Duration::from_millis(200),
            drop_fraction: 0.0,
            file_prefix: format!("homa-{}", std::process::id()),
        }
    }

    /// Payload bytes of a full DATA packet (protocol.md section 2).
    pub fn segment_bytes(&self) -> u32 {
        u32::from(self.mtu.saturating_sub(HEADERS_BYTES))
    }

    /// Packet buffers that received messages may hold: what the receive queue, caches and bursts
    /// leave over.
    pub(super) fn retained_packets_max(&self) -> u32 {
        let reserved = u32::from(self.descriptors) + 1024;
        self.transport.retained_packets_max.min(self.rx_mbufs.saturating_sub(reserved))
    }
}

/// A seed that differs between runs: the standard library's hash maps are keyed with one.
fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}
