//! Settings of a node.

use std::net::IpAddr;
use std::time::Duration;

use crate::dpdk::{DeviceSpec, Hugepages, Mempool, MempoolBuilder, allowed_cpus};
use crate::net::{self, InterfaceAddr, MacAddr};
use crate::transport::{self, SHARDS_MAX};

use super::NodeError;
use super::hand_off::HandOff;
use super::idle::IdlePolicy;
use super::trace::TraceConfig;

/// Bytes of an IP header and of the Homa header of a DATA packet.
const HEADERS_BYTES_IPV4: u16 = 20 + 56;
const HEADERS_BYTES_IPV6: u16 = 40 + 56;

/// What a packet buffer takes besides its data: headroom, description, place in its pool.
const MBUF_OVERHEAD_BYTES: u64 = 128 + 128 + 64 + 64;
/// Memory for DPDK besides packet buffers: rings, queues, room lost between pools.
const SPARE_MB: u32 = 64;
const PAGE_BYTES: u64 = 4_096;
/// What DPDK gets if packet buffers need less.
const MEMORY_MB_MIN: u32 = 256;

/// Some address of a station.
const ANY_STATION: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

/// Everything a node is built from. Start with [`NodeConfig::new`] and change what differs.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The port.
    pub device: DeviceSpec,
    /// The network around Homa: our addresses, gateways, static neighbours. Its `mac` and `mtu_bytes`
    /// do not count: `mac` and `mtu` below do, or the port's own address.
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
    /// One shard runs on each of these CPUs, in this order; a CPU may be named more than once. Empty for
    /// one shard on the first CPU that this process may use.
    pub cpus: Vec<usize>,
    /// With several shards: blocks of ports that the calls of each rotate among, 1 to 64. More of them
    /// spread the RPCs between two hosts better over the shards of the server.
    pub client_port_blocks: u16,
    /// With several shards: pass every received packet on to another shard first. For tests.
    pub detour: bool,
    /// With several shards: hand complete requests to the applications on others, for services whose
    /// answers take long (default not). The application sees no difference but that
    /// [`Cx::shard`](super::Cx::shard) is not the one that the client's packets come to; whatever it
    /// keeps by client must do for all shards.
    pub hand_off: Option<HandOff>,
    /// What to do when there is nothing to do.
    pub idle: IdlePolicy,
    /// Whether to use hugepages.
    pub hugepages: Hugepages,
    /// Memory for DPDK, in MB; by default 256, or more if the packet buffers of all shards need it.
    pub memory_mb: Option<u32>,
    /// Mbufs of each shard for received packets: those in the port's queue and those of messages that the
    /// application holds.
    pub rx_mbufs: u32,
    /// Mbufs of each shard for messages to be sent, which are kept until their RPC ends.
    pub tx_mbufs: u32,
    /// Mbufs of each shard for headers and for packets of the node's own, such as grants and ARP. Messages cannot
    /// take them, however many the application sends.
    pub header_mbufs: u32,
    /// Packets that wait at most while the hardware addresses of their destinations are being
    /// resolved. Each takes one of `header_mbufs`, of which as many again must be left.
    pub unresolved_packets_max: u32,
    /// Descriptors of the receive and of the transmit queue.
    pub descriptors: u16,
    /// How long to wait for the link at the start; [`Duration::MAX`] for as long as it takes.
    pub link_timeout: Duration,
    /// How long RPCs under way may take to end when the node stops.
    pub drain: Duration,
    /// Fraction of received packets to drop, to see the protocol recover. 0 in normal life.
    pub drop_fraction: f64,
    /// Record all frames in a file.
    pub trace: Option<TraceConfig>,
    /// DPDK's runtime directory; must differ between processes.
    pub file_prefix: String,
    /// Let DPDK answer telemetry in it.
    pub telemetry: bool,
}

impl NodeConfig {
    /// A node with address `ip` in a network of `prefix_len` bits, on `device`.
    pub fn new(device: DeviceSpec, ip: impl Into<IpAddr>, prefix_len: u8) -> Self {
        Self::of_addresses(device, vec![InterfaceAddr::new(ip, prefix_len)])
    }

    /// A node with all of `addresses`, on `device`.
    pub fn of_addresses(device: DeviceSpec, addresses: Vec<InterfaceAddr>) -> Self {
        Self {
            device,
            net: net::Config { addresses, ..net::Config::default() },
            mac: None,
            transport: transport::Config { seed: seed(), ..transport::Config::default() },
            link_bps: None,
            mtu: 1500,
            cpus: Vec::new(),
            client_port_blocks: 8,
            detour: false,
            hand_off: None,
            idle: IdlePolicy::Auto,
            hugepages: Hugepages::Auto,
            memory_mb: None,
            rx_mbufs: 16_383,
            tx_mbufs: 16_383,
            header_mbufs: 8_191,
            unresolved_packets_max: 4_096,
            descriptors: 1024,
            link_timeout: Duration::from_secs(10),
            drain: Duration::from_millis(200),
            drop_fraction: 0.0,
            trace: None,
            file_prefix: format!("homa-{}", std::process::id()),
            telemetry: false,
        }
    }

    /// Checks everything that can be checked before DPDK starts; [`Node::start`](super::Node::start) does
    /// so first.
    ///
    /// # Errors
    /// Names the first setting that cannot be, and what can.
    pub fn validate(&self) -> Result<(), NodeError> {
        let mtu_min = if self.speaks_ipv6() { 1_280 } else { 576 };
        if !(mtu_min..=9_600).contains(&self.mtu) {
            return Err(NodeError::Config(format!(
                "an MTU of {} bytes is not possible: use {mtu_min} to 9600",
                self.mtu
            )));
        }
        self.device.clone().for_mtu(self.mtu).check_mtu(self.mtu)?;
        if self.retained_packets_max() < 1_024 {
            return Err(NodeError::Config(format!(
                "{} receive mbufs are too few with {} descriptors: use {} or more",
                self.rx_mbufs,
                self.descriptors,
                u32::from(self.descriptors) + 2_048
            )));
        }
        if self.unresolved_packets_max > self.header_mbufs / 2 + 1 {
            return Err(NodeError::Config(format!(
                "{} packets that wait for addresses are too many for {} header mbufs: use {} or \
                 fewer, or more header mbufs",
                self.unresolved_packets_max,
                self.header_mbufs,
                self.header_mbufs / 2 + 1
            )));
        }
        let cpus = allowed_cpus();
        if let Some(cpu) = self.cpus.iter().find(|cpu| !cpus.contains(cpu)) {
            return Err(NodeError::Config(format!(
                "CPU {cpu} is not one that this process may use: use one of {cpus:?}"
            )));
        }
        if self.cpus.len() > usize::from(SHARDS_MAX) {
            return Err(NodeError::Config(format!(
                "{} shards are too many: use 1 to {SHARDS_MAX} CPUs",
                self.cpus.len()
            )));
        }
        if !(1..=64).contains(&self.client_port_blocks) {
            return Err(NodeError::Config(format!(
                "{} blocks of client ports: use 1 to 64",
                self.client_port_blocks
            )));
        }
        if let Some(HandOff { requests_max, .. }) = self.hand_off
            && !(1..=4_096).contains(&requests_max)
        {
            return Err(NodeError::Config(format!(
                "{requests_max} requests with another shard: use 1 to 4096"
            )));
        }
        // The port's own address, where it is used, is looked at when the port is open.
        let mac = self.mac.unwrap_or(ANY_STATION);
        self.net_config(mac).validate().map_err(NodeError::Net)?;
        let link_bps = self.link_bps.unwrap_or(self.transport.link_bps);
        let paced = transport::Config { link_bps, ..self.transport.clone() };
        paced.validate().map_err(NodeError::Transport)
    }

    /// Checks that there is a way to `destination`, as far as the settings tell.
    ///
    /// # Errors
    /// Says why there is none: no address of its family, no gateway.
    pub fn check_destination(&self, destination: IpAddr) -> Result<(), NodeError> {
        let settings = self.net_config(self.mac.unwrap_or(ANY_STATION));
        let stack = net::Stack::new(settings).map_err(NodeError::Net)?;
        match stack.refusal(destination) {
            None => Ok(()),
            Some(reason) => {
                Err(NodeError::Config(format!("{destination} cannot be sent to: {reason}")))
            }
        }
    }

    /// Lets `packets` wait while the hardware addresses of their destinations are being resolved, and
    /// makes room for them.
    pub fn set_unresolved_packets_max(&mut self, packets: u32) {
        self.unresolved_packets_max = packets;
        self.header_mbufs = self.header_mbufs.max(packets.saturating_mul(2).saturating_sub(1));
    }

    /// A pool for `mbufs` buffers for each shard.
    pub(super) fn pool(&self, mbufs: u32) -> MempoolBuilder {
        let mbufs = mbufs.saturating_mul(self.shards().into());
        Mempool::builder().mbufs(mbufs).data_room_bytes(self.data_room_bytes())
    }

    /// The settings of the network, with the address of the station.
    pub(super) fn net_config(&self, mac: MacAddr) -> net::Config {
        net::Config { mac, mtu_bytes: self.mtu, ..self.net.clone() }
    }

    /// Payload bytes of a full DATA packet (protocol.md section 2). As with a socket of Linux, a node
    /// that speaks IPv6 leaves room for its header also in packets to IPv4 peers.
    pub fn segment_bytes(&self) -> u32 {
        let headers = if self.speaks_ipv6() { HEADERS_BYTES_IPV6 } else { HEADERS_BYTES_IPV4 };
        u32::from(self.mtu.saturating_sub(headers))
    }

    pub(super) fn speaks_ipv6(&self) -> bool {
        self.net.addresses.iter().any(|address| address.ip.is_ipv6())
    }

    /// Shards of the node.
    pub fn shards(&self) -> u8 {
        self.cpus.len().clamp(1, SHARDS_MAX.into()) as u8
    }

    /// Bytes that a packet buffer has room for: a whole frame (scattered reception would have to be
    /// copied together), or a slot of packet sockets, which is a little larger.
    pub(super) fn data_room_bytes(&self) -> u16 {
        let ordinary = 2_048;
        match self.mtu {
            ..=1_500 => ordinary,
            large => large.saturating_add(576).max(ordinary),
        }
    }

    /// Memory to ask for, in MB: what is configured, or what the packet buffers of all shards fit in,
    /// if `free_mb` of hugepages are free. In ordinary memory no packet buffer crosses a page of 4096
    /// bytes.
    pub(super) fn memory_mb_needed(&self, free_mb: u64) -> u32 {
        if let Some(memory_mb) = self.memory_mb {
            return memory_mb;
        }
        let mbufs = u64::from(self.rx_mbufs) + u64::from(self.tx_mbufs);
        let mbufs = (mbufs + u64::from(self.header_mbufs)) * u64::from(self.shards());
        let mbuf_bytes = u64::from(self.data_room_bytes()) + MBUF_OVERHEAD_BYTES;
        let in_mb = |bytes: u64| u32::try_from(bytes >> 20).unwrap_or(u32::MAX);
        let packed_mb = in_mb(mbufs * mbuf_bytes).saturating_add(SPARE_MB).max(MEMORY_MB_MIN);
        let has_hugepages = match self.hugepages {
            Hugepages::Require => true,
            Hugepages::Auto => free_mb >= packed_mb.into(),
            Hugepages::Never => false,
        };
        if has_hugepages {
            return packed_mb;
        }
        let pages = mbuf_bytes.div_ceil(PAGE_BYTES);
        let paged_mb = in_mb(mbufs * pages * PAGE_BYTES).saturating_add(SPARE_MB);
        paged_mb.max(MEMORY_MB_MIN)
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
    use crate::node::HandOffWhen;

    fn config() -> NodeConfig {
        let device = "null".parse().expect("a device");
        NodeConfig::new(device, [10, 0, 0, 1], 24)
    }

    fn complaint(config: &NodeConfig) -> String {
        config.validate().expect_err("wrong").to_string()
    }

    #[test]
    fn memory_grows_with_the_shards() {
        let needed = |shards: usize, hugepages, free_mb| {
            let cpus = vec![0; shards];
            NodeConfig { cpus, hugepages, ..config() }.memory_mb_needed(free_mb)
        };
        assert_eq!(needed(1, Hugepages::Auto, 0), 256, "as it was given");
        let packed = needed(4, Hugepages::Auto, 10_000);
        let paged = needed(4, Hugepages::Auto, 100);
        assert!((300..500).contains(&packed) && paged > packed, "{packed} and {paged}");
        assert_eq!(needed(4, Hugepages::Never, 10_000), paged);
        assert!(needed(4, Hugepages::Require, 0) == packed);
    }

    #[test]
    fn wrong_settings_are_named_before_dpdk_starts() {
        assert!(config().validate().is_ok());
        assert!(complaint(&NodeConfig { mtu: 500, ..config() }).contains("500 bytes"));
        let device = "memif:/tmp/x,bsize=4096".parse().expect("a device");
        let small = NodeConfig { mtu: 9_000, device, ..config() };
        assert!(complaint(&small).contains("write bsize=9018"));
        let few = NodeConfig { rx_mbufs: 2_000, ..config() };
        assert!(complaint(&few).contains("2000 receive mbufs"));
        let patient = NodeConfig { unresolved_packets_max: 5_000, ..config() };
        assert!(complaint(&patient).contains("5000 packets that wait"));
        let hand_off = Some(HandOff { when: HandOffWhen::Always, requests_max: 5_000 });
        assert!(complaint(&NodeConfig { hand_off, ..config() }).contains("5000 requests with"));
        let nowhere = NodeConfig { cpus: vec![100_000], ..config() };
        assert!(complaint(&nowhere).contains("CPU 100000"));
        let far = net::Config { gateways: vec![[11, 0, 0, 1].into()], ..config().net };
        assert!(complaint(&NodeConfig { net: far, ..config() }).contains("gateway 11.0.0.1"));
        let fast = NodeConfig { link_bps: Some(u64::MAX), ..config() };
        assert!(complaint(&fast).contains("link_bps"));
    }

    #[test]
    fn destinations_without_a_way_are_known_before_dpdk_starts() {
        let check = |config: &NodeConfig, to: &str| {
            let checked = config.check_destination(to.parse().expect("an address"));
            checked.map_err(|error| error.to_string())
        };
        assert_eq!(check(&config(), "10.0.0.2"), Ok(()));
        for (to, expected) in [
            ("fd00::2", "fd00::2 cannot be sent to: this node has no address of that family"),
            ("11.0.0.2", "11.0.0.2 cannot be sent to: it is in no network of this node"),
            ("10.0.0.255", "not the address of one host"),
            ("224.0.0.1", "not the address of one host"),
            ("10.0.0.1", "an address of this node itself"),
        ] {
            let problem = check(&config(), to).expect_err(to);
            assert!(problem.contains(expected), "{problem}");
        }
        let mut routed = config();
        routed.net.gateways = vec![[10, 0, 0, 254].into()];
        assert_eq!(check(&routed, "11.0.0.2"), Ok(()));
    }

    #[test]
    fn full_packets_are_as_long_as_those_of_linux() {
        let sizes = |config: &NodeConfig| {
            [1_500, 3_000, 9_000].map(|mtu| NodeConfig { mtu, ..config.clone() }.segment_bytes())
        };
        assert_eq!(sizes(&config()), [1_424, 2_924, 8_924]);
        let mut both = config();
        both.net.addresses.push("fd00::1/64".parse().expect("an address"));
        assert_eq!(sizes(&both), [1_404, 2_904, 8_904]);
    }
}
