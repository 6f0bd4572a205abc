//! Settings of a simulated cluster.

use core::fmt;

#[cfg(feature = "cli")]
use serde::{Deserialize, Serialize};

use crate::transport::{Config, Order, SHARDS_MAX};
use crate::wire::NUM_PRIORITIES;

/// Everything about a run but the workload.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "cli", derive(Serialize, Deserialize), serde(default, deny_unknown_fields))]
pub struct SimConfig {
    /// Decides everything random.
    pub seed: u64,
    /// Hosts and what connects them.
    pub network: NetworkConfig,
    /// What a host costs.
    pub host: HostConfig,
    /// What the transports are told.
    pub homa: HomaConfig,
    /// What messages are part of.
    pub exchange: Exchange,
    /// When to measure.
    pub time: TimeConfig,
    /// Compare times within a rack with an ideal in which the switch takes no time, as the published
    /// simulations did.
    pub intra_rack_slip: bool,
}

/// Hosts, links and switches.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "cli", derive(Serialize, Deserialize), serde(default, deny_unknown_fields))]
pub struct NetworkConfig {
    /// Racks; each has one switch.
    pub racks: u32,
    /// Hosts in each rack.
    pub hosts_per_rack: u32,
    /// Switches that connect the racks, each linked to each rack; 0 with a single rack.
    pub spines: u32,
    /// Speed of the links to hosts, in bits per second.
    pub host_bps: u64,
    /// Speed of the links between switches, in bits per second.
    pub core_bps: u64,
    /// Propagation delay of each link, in nanoseconds.
    pub propagation_ns: u64,
    /// Time from the arrival of a packet at a switch to its place in a queue, in nanoseconds.
    pub switch_ns: u64,
    /// Forward a packet before its end has come, where the next link is not faster.
    pub cut_through: bool,
    /// Which of the spines a packet takes.
    pub routing: Routing,
    /// Room in switches.
    pub buffer: Buffer,
    /// Sizes of headers.
    pub framing: Framing,
}

/// How packets between racks choose a spine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(Serialize, Deserialize), serde(rename_all = "kebab-case"))]
pub enum Routing {
    /// Each packet at random.
    Spray,
    /// By a hash of source, destination and RPC, as ECMP does.
    FlowHash,
}

/// Room for waiting packets in a switch. A packet that finds none is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(Serialize, Deserialize), serde(rename_all = "kebab-case"))]
pub enum Buffer {
    /// As much as it takes.
    Unlimited,
    /// So many bytes per port.
    PerPort(u64),
    /// So many bytes per switch, shared by its ports.
    Shared(u64),
}

impl fmt::Display for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unlimited => f.write_str("unlimited room"),
            Self::PerPort(bytes) => write!(f, "{bytes} bytes of room per port"),
            Self::Shared(bytes) => write!(f, "{bytes} bytes of room per switch"),
        }
    }
}

/// Sizes of headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(Serialize, Deserialize), serde(rename_all = "kebab-case"))]
pub enum Framing {
    /// Homa of this library in IPv4: 56 bytes of DATA header.
    Linux,
    /// The simulations of the Homa paper (SIGCOMM 2018): UDP, 30 bytes of Homa header in unscheduled
    /// and 16 in scheduled packets, all else in frames of minimal length.
    Paper,
}

/// What a host costs.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "cli", derive(Serialize, Deserialize), serde(default, deny_unknown_fields))]
pub struct HostConfig {
    /// Software delay from the transport to the NIC, in nanoseconds.
    pub tx_delay_ns: u64,
    /// Delay of NIC and software from the wire to the transport, in nanoseconds.
    pub rx_delay_ns: u64,
    /// CPU time per received packet, in nanoseconds; packets that come faster wait. 0 for none.
    pub rx_cpu_ns: u64,
    /// Packets taken in one turn of the receive loop when they wait.
    pub rx_burst_packets: u32,
    /// The NIC takes packets while what it has to send takes at most this long, in nanoseconds. With
    /// 0 it asks for a packet whenever it is idle, so that nothing waits behind a choice once made.
    pub nic_backlog_ns: u64,
    /// Shards, each with a transport; packets are spread over them as on a real host.
    pub shards: u32,
    /// Time that a packet takes from the shard it came to, to the one it belongs to, in nanoseconds.
    pub hop_ns: u64,
    /// Every packet is passed on to another shard first.
    pub detour: bool,
    /// Mean time between stalls of a shard, in nanoseconds; 0 for none.
    pub stall_every_ns: u64,
    /// How long a shard does not run then, in nanoseconds.
    pub stall_ns: u64,
}

/// Settings of the transport that simulations vary; see [`Config`] for what they mean. All others
/// are those of [`Config::default`], sizes of tables apart.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "cli", derive(Serialize, Deserialize), serde(default, deny_unknown_fields))]
#[allow(missing_docs)]
pub struct HomaConfig {
    pub message_max_bytes: u32,
    pub unsched_bytes: u32,
    pub unsched_by_rtt: bool,
    pub incast_rpcs_min: usize,
    pub incast_unsched_bytes: u32,
    pub window_bytes: u32,
    pub incoming_max_bytes: u32,
    pub overcommit_max: usize,
    pub grant_min_bytes: u32,
    pub grant_fifo_permille: u32,
    pub grant_fifo_bytes: u32,
    pub budget_unscheduled: bool,
    pub order: Order,
    pub live_srpt: bool,
    pub pacing: bool,
    pub backlog_max_ns: u64,
    pub defer_min_bytes: u32,
    pub send_fifo_permille: u32,
    pub early_packet: bool,
    pub num_priorities: u8,
    /// Levels for unscheduled packets; 0 computes them from the workload.
    pub unscheduled_priorities: u8,
    /// Cutoffs, highest level last; empty computes them from the workload.
    pub cutoffs: Vec<u32>,
    pub resend_after_ns: u64,
    pub resend_interval_ns: u64,
    pub timeout_ns: u64,
    pub gap_recovery_ns: u64,
    pub tombstone_keep_ns: u64,
    /// Control packets waiting to be sent. Their queue is a ring that is touched all around, in every
    /// host: short ones stay in the cache.
    pub control_packets_max: usize,
    /// RPCs of each role that a host holds.
    pub rpcs_max: usize,
}

/// What a message is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(Serialize, Deserialize), serde(rename_all = "kebab-case"))]
pub enum Exchange {
    /// Nothing: the message is a request, and once it has arrived the simulator ends the RPC at both
    /// ends, without packets. Only for networks that lose nothing.
    OneWay,
    /// An RPC with a response of so many bytes; 0 for one as long as the request.
    Rpc(u32),
}

/// When to measure, in nanoseconds of simulated time.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "cli", derive(Serialize, Deserialize), serde(default, deny_unknown_fields))]
pub struct TimeConfig {
    /// Messages before this are not measured.
    pub warm_up_ns: u64,
    /// Messages in this time after the warm-up are measured.
    pub measure_ns: u64,
    /// The load goes on until all messages that started in the measured time have arrived, but at most
    /// this long.
    pub drain_max_ns: u64,
    /// What it takes for a message to be in the measured time.
    pub counted: Counted,
}

/// Which messages are measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(Serialize, Deserialize), serde(rename_all = "kebab-case"))]
pub enum Counted {
    /// Those that start in the measured time, however late they arrive.
    #[default]
    Started,
    /// Those that arrive in it. The run ends with it: in a short one the slowest messages are missing.
    Arrived,
}

impl Default for SimConfig {
    fn default() -> Self {
        Self {
            seed: 1,
            network: NetworkConfig::default(),
            host: HostConfig::default(),
            homa: HomaConfig::default(),
            exchange: Exchange::Rpc(0),
            time: TimeConfig::default(),
            intra_rack_slip: false,
        }
    }
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self {
            racks: 1,
            hosts_per_rack: 16,
            spines: 0,
            host_bps: 25_000_000_000,
            core_bps: 100_000_000_000,
            propagation_ns: 10,
            switch_ns: 400,
            cut_through: false,
            routing: Routing::FlowHash,
            buffer: Buffer::Unlimited,
            framing: Framing::Linux,
        }
    }
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            tx_delay_ns: 500,
            rx_delay_ns: 1_000,
            rx_cpu_ns: 0,
            rx_burst_packets: 32,
            nic_backlog_ns: 1_000_000,
            shards: 1,
            hop_ns: 0,
            detour: false,
            stall_every_ns: 0,
            stall_ns: 0,
        }
    }
}

impl Default for HomaConfig {
    fn default() -> Self {
        let config = Config::default();
        Self {
            message_max_bytes: config.message_max_bytes,
            unsched_bytes: config.unsched_bytes,
            unsched_by_rtt: config.unsched_by_rtt,
            incast_rpcs_min: config.incast_rpcs_min,
            incast_unsched_bytes: config.incast_unsched_bytes,
            window_bytes: config.window_bytes,
            incoming_max_bytes: config.incoming_max_bytes,
            overcommit_max: config.overcommit_max,
            grant_min_bytes: config.grant_min_bytes,
            grant_fifo_permille: config.grant_fifo_permille,
            grant_fifo_bytes: config.grant_fifo_bytes,
            budget_unscheduled: config.budget_unscheduled,
            order: config.order,
            live_srpt: config.live_srpt,
            pacing: config.pacing,
            backlog_max_ns: config.backlog_max_ns,
            defer_min_bytes: config.defer_min_bytes,
            send_fifo_permille: config.send_fifo_permille,
            early_packet: config.early_packet,
            num_priorities: config.num_priorities,
            unscheduled_priorities: 0,
            cutoffs: Vec::new(),
            resend_after_ns: config.resend_after_ns,
            resend_interval_ns: config.resend_interval_ns,
            timeout_ns: config.timeout_ns,
            gap_recovery_ns: config.gap_recovery_ns,
            tombstone_keep_ns: config.tombstone_keep_ns,
            control_packets_max: 1_024,
            rpcs_max: 4_096,
        }
    }
}

impl Default for TimeConfig {
    fn default() -> Self {
        Self {
            warm_up_ns: 1_000_000,
            measure_ns: 10_000_000,
            drain_max_ns: 100_000_000,
            counted: Counted::Started,
        }
    }
}

impl HomaConfig {
    /// The settings of a transport of a host with links of `link_bps`.
    pub fn transport(&self, link_bps: u64, cutoffs: [u32; NUM_PRIORITIES], seed: u64) -> Config {
        Config {
            message_max_bytes: self.message_max_bytes,
            unsched_bytes: self.unsched_bytes,
            unsched_by_rtt: self.unsched_by_rtt,
            incast_rpcs_min: self.incast_rpcs_min,
            incast_unsched_bytes: self.incast_unsched_bytes,
            window_bytes: self.window_bytes,
            incoming_max_bytes: self.incoming_max_bytes,
            overcommit_max: self.overcommit_max,
            grant_min_bytes: self.grant_min_bytes,
            grant_fifo_permille: self.grant_fifo_permille,
            grant_fifo_bytes: self.grant_fifo_bytes,
            budget_unscheduled: self.budget_unscheduled,
            order: self.order,
            live_srpt: self.live_srpt,
            link_bps,
            pacing: self.pacing,
            backlog_max_ns: self.backlog_max_ns,
            defer_min_bytes: self.defer_min_bytes,
            send_fifo_permille: self.send_fifo_permille,
            early_packet: self.early_packet,
            num_priorities: self.num_priorities,
            cutoffs,
            resend_after_ns: self.resend_after_ns,
            resend_interval_ns: self.resend_interval_ns,
            timeout_ns: self.timeout_ns,
            gap_recovery_ns: self.gap_recovery_ns,
            tombstone_keep_ns: self.tombstone_keep_ns,
            control_packets_max: self.control_packets_max,
            // An end without packets must stay one.
            announce_aborts: false,
            client_rpcs_max: self.rpcs_max,
            server_rpcs_max: self.rpcs_max,
            gaps_per_message_max: 1_000_000,
            outgoing_max_bytes: u64::MAX,
            retained_packets_max: 1 << 30,
            seed,
            ..Config::default()
        }
    }
}

impl NetworkConfig {
    /// Hosts in all racks.
    pub const fn hosts(&self) -> u32 {
        self.racks * self.hosts_per_rack
    }
}

impl SimConfig {
    /// Checks what the simulator itself needs; the transport checks its own settings.
    ///
    /// # Errors
    /// [`SimError`] says which setting is wrong and what it may be.
    pub fn validate(&self) -> Result<(), SimError> {
        let network = &self.network;
        let hosts = u64::from(network.racks) * u64::from(network.hosts_per_rack);
        let uplinks = u64::from(network.racks) * u64::from(network.spines);
        let checks = [
            ("network: hosts", hosts, 2, 20_000),
            ("network.spines", uplinks, u64::from(network.racks > 1), 10_000),
            ("network.host_bps", network.host_bps, 1_000_000, 1_000_000_000_000),
            ("network.core_bps", network.core_bps, 1_000_000, 1_000_000_000_000),
            ("host.rx_burst_packets", self.host.rx_burst_packets.into(), 1, 1_000_000),
            ("host.shards", self.host.shards.into(), 1, SHARDS_MAX.into()),
            ("time.measure_ns", self.time.measure_ns, 1, TIME_MAX_NS),
            ("time.warm_up_ns", self.time.warm_up_ns, 0, TIME_MAX_NS),
            ("time.drain_max_ns", self.time.drain_max_ns, 0, TIME_MAX_NS),
            ("homa.num_priorities", self.homa.num_priorities.into(), 1, NUM_PRIORITIES as u64),
            (
                "homa.unscheduled_priorities",
                self.homa.unscheduled_priorities.into(),
                0,
                NUM_PRIORITIES as u64,
            ),
            ("homa.cutoffs: levels", self.homa.cutoffs.len() as u64, 0, NUM_PRIORITIES as u64),
        ];
        for (name, value, low, high) in checks {
            if !(low..=high).contains(&value) {
                return Err(SimError::Setting { name, value, low, high });
            }
        }
        if self.exchange == Exchange::OneWay && network.buffer != Buffer::Unlimited {
            return Err(SimError::OneWayWithLoss);
        }
        if self.exchange == Exchange::OneWay && self.host.stall_every_ns > 0 {
            return Err(SimError::OneWayWithStalls);
        }
        Ok(())
    }
}

/// The longest time of a part of a run: a thousand hours, which picoseconds in 64 bits hold.
const TIME_MAX_NS: u64 = 3_600_000_000_000_000;

/// Why a cluster could not be built.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum SimError {
    /// A setting is outside its range.
    Setting {
        /// The setting.
        name: &'static str,
        /// What it was.
        value: u64,
        /// The smallest value allowed.
        low: u64,
        /// The largest value allowed.
        high: u64,
    },
    /// The load is not one that a host's link carries.
    Load {
        /// Payload of each host, in bits per second.
        payload_bps: f64,
        /// What a link carries, in bits per second.
        host_bps: u64,
    },
    /// One-way messages need a network that loses nothing.
    OneWayWithLoss,
    /// One-way messages need shards that always run: packets for others get lost.
    OneWayWithStalls,
    /// One-way messages are not answered.
    OneWayWithResponse,
    /// There are too few hosts.
    Pattern(crate::load::pattern::PatternError),
    /// The transport does not take its settings.
    Transport(crate::transport::ConfigError),
}

impl fmt::Display for SimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setting { name, value, low, high } => {
                write!(f, "{name} is {value}: must be between {low} and {high}")
            }
            Self::Load { payload_bps, host_bps } => write!(
                f,
                "each host offers {payload_bps} bits per second: must be above 0 and at most \
                 network.host_bps, {host_bps}"
            ),
            Self::OneWayWithLoss => f.write_str(
                "exchange one-way needs network.buffer unlimited: nobody would ask again for what \
                 is lost; set exchange to rpc",
            ),
            Self::OneWayWithStalls => f.write_str(
                "exchange one-way needs host.stall_every_ns 0: nobody would ask again for what is \
                 lost; set exchange to rpc",
            ),
            Self::OneWayWithResponse => f.write_str(
                "exchange one-way has no responses: leave the response out, or set exchange to rpc",
            ),
            Self::Pattern(error) => write!(f, "pattern: {error}"),
            Self::Transport(error) => write!(f, "homa.{error}"),
        }
    }
}

impl core::error::Error for SimError {}
