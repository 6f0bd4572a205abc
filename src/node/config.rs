//! Settings of a node.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::dpdk::{DeviceSpec, Hugepages, allowed_cpus};
use crate::net::{self, MacAddr};
use crate::transport;

use super::NodeError;
use super::idle::IdlePolicy;

/// Bytes of an IPv4 header and of the Homa header of a DATA packet.
const HEADERS_BYTES: u16 = 20 + 56;

/// Some address of a station.
const ANY_STATION: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

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
    /// Mbufs for headers and for packets of the node's own, such as grants and ARP. Messages cannot
    /// take them, however many the application sends.
    pub header_mbufs: u32,
    /// Descriptors of the receive and of the transmit queue.
    pub descriptors: u16,
    /// How long to wait for the link at the start; [`Duration::MAX`] for as long as it takes.
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
            header_mbufs: 4_095,
            descriptors: 1024,
            link_timeout: Duration::from_secs(10),
            drain: Duration::from_millis(200),
            drop_fraction: 0.0,
            file_prefix: format!("homa-{}", std::process::id()),
        }
    }

    /// Checks everything that can be checked before DPDK starts; [`Node::start`](super::Node::start) does
    /// so first.
    ///
    /// # Errors
    /// Names the first setting that cannot be, and what can.
    pub fn validate(&self) -> Result<(), NodeError> {
        if !(576..=9_600).contains(&self.mtu) {
            return Err(NodeError::Config(format!(
                "an MTU of {} bytes is not possible: use 576 to 9600",
                self.mtu
            )));
        }
        if self.retained_packets_max() < 1_024 {
            return Err(NodeError::Config(format!(
                "{} receive mbufs are too few with {} descriptors: use {} or more",
                self.rx_mbufs,
                self.descriptors,
                u32::from(self.descriptors) + 2_048
            )));
        }
        let cpus = allowed_cpus();
        if let Some(cpu) = self.cpu.filter(|cpu| !cpus.contains(cpu)) {
            return Err(NodeError::Config(format!(
                "CPU {cpu} is not one that this process may use: use one of {cpus:?}"
            )));
        }
        // The port's own address, where it is used, is looked at when the port is open.
        let mac = self.mac.unwrap_or(ANY_STATION);
        net::Config { mac, ..self.net.clone() }.validate().map_err(NodeError::Net)?;
        let link_bps = self.link_bps.unwrap_or(self.transport.link_bps);
        let paced = transport::Config { link_bps, ..self.transport.clone() };
        paced.validate().map_err(NodeError::Transport)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> NodeConfig {
        let device = "null".parse().expect("a device");
        NodeConfig::new(device, Ipv4Addr::new(10, 0, 0, 1), 24)
    }

    fn complaint(config: &NodeConfig) -> String {
        config.validate().expect_err("wrong").to_string()
    }

    #[test]
    fn wrong_settings_are_named_before_dpdk_starts() {
        assert!(config().validate().is_ok());
        assert!(complaint(&NodeConfig { mtu: 500, ..config() }).contains("500 bytes"));
        let few = NodeConfig { rx_mbufs: 2_000, ..config() };
        assert!(complaint(&few).contains("2000 receive mbufs"));
        let nowhere = NodeConfig { cpu: Some(100_000), ..config() };
        assert!(complaint(&nowhere).contains("CPU 100000"));
        let far = net::Config { gateway: Some(Ipv4Addr::new(11, 0, 0, 1)), ..config().net };
        assert!(complaint(&NodeConfig { net: far, ..config() }).contains("gateway 11.0.0.1"));
        let fast = NodeConfig { link_bps: Some(u64::MAX), ..config() };
        assert!(complaint(&fast).contains("link_bps"));
    }
}
