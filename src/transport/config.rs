//! Settings of a transport. Defaults are those of Linux Homa where it has the setting
//! (protocol.md section 17).

use core::fmt;

use crate::wire::{MAX_MESSAGE_LENGTH, NUM_PRIORITIES};

use super::RPCS_MAX;

/// Everything that can be set. Build it with `Config { .., ..Config::default() }`; [`Config::validate`]
/// is called by [`Transport::new`](super::Transport::new). Immutable afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Longest message taken or accepted, in bytes. Linux Homa takes 1,000,000 (protocol.md section
    /// 1.1); more only makes sense where all hosts agree, as in a simulation.
    pub message_max_bytes: u32,
    /// Bytes of a message that are sent without waiting for a grant.
    pub unsched_bytes: u32,
    /// Send no more of a message without a grant than the link carries in a round trip to its peer, as
    /// far as that is known; `unsched_bytes` remains the most.
    pub unsched_by_rtt: bool,
    /// RPCs of ours outstanding from which on requests ask for long responses to wait for their grants
    /// (SIGCOMM 2018, section 3.6); 0 for never. Servers of Linux Homa do not look at it.
    pub incast_rpcs_min: usize,
    /// A response longer than this that a request asked to wait is announced by a packet without
    /// payload and sent as it is granted.
    pub incast_unsched_bytes: u32,
    /// Bytes that may be granted and unreceived per message; 0 divides `incoming_max_bytes` among
    /// the active messages (protocol.md section 11.1).
    pub window_bytes: u32,
    /// Budget for bytes announced or granted and not yet received, all messages together.
    pub incoming_max_bytes: u32,
    /// Messages that may receive grants at the same time, 1 to 8.
    pub overcommit_max: usize,
    /// A grant is held back until it would be this large or the last one of its message. 0 sends one
    /// per received batch as Linux does.
    pub grant_min_bytes: u32,
    /// Share of the link for the oldest grantable message, in thousandths (at most 500).
    pub grant_fifo_permille: u32,
    /// Size of a grant from that share, in bytes.
    pub grant_fifo_bytes: u32,
    /// Count all announced bytes against the budget, also those of messages that need no grants.
    pub budget_unscheduled: bool,
    /// Which message is first, in sending and in granting.
    pub order: Order,
    /// The order of grants follows what messages have left. Off, it stays as it was when they first
    /// needed grants, as in Linux.
    pub live_srpt: bool,

    /// Speed of the link, in bits per second: paces sending (with `pacing`) and the FIFO share.
    pub link_bps: u64,
    /// Keep the backlog of the NIC short. Off for software ports, whose speed is unknown.
    pub pacing: bool,
    /// The longest backlog of the NIC at which another packet is handed to it, in nanoseconds.
    pub backlog_max_ns: u64,
    /// Messages with at most this many bytes left are never paced.
    pub defer_min_bytes: u32,
    /// Share of sent bytes for the oldest message waiting, in thousandths.
    pub send_fifo_permille: u32,
    /// Send one packet of a new long message ahead of the messages before it, so that its grants
    /// arrive in time (reference-gaps.md G24).
    pub early_packet: bool,

    /// Priorities in use, 1 to 8.
    pub num_priorities: u8,
    /// From internal priority to the value on the wire, 0 to 7 each.
    pub priority_map: [u8; NUM_PRIORITIES],
    /// Largest message length per priority for unscheduled packets to this host.
    pub cutoffs: [u32; NUM_PRIORITIES],
    /// Recompute `cutoffs` from the traffic received, once a second (protocol.md section 12.3).
    pub cutoffs_auto: bool,

    /// Silence before the first RESEND, in nanoseconds.
    pub resend_after_ns: u64,
    /// Time between RESENDs for one RPC, in nanoseconds.
    pub resend_interval_ns: u64,
    /// Silence after which an RPC is given up, in nanoseconds.
    pub timeout_ns: u64,
    /// Time from the last packet of a response to the first NEED_ACK, in nanoseconds.
    pub need_ack_after_ns: u64,
    /// NEED_ACKs are repeated at doubling distances up to this one, in nanoseconds.
    pub need_ack_interval_max_ns: u64,
    /// Time after which a response that nobody acknowledges is dropped, in nanoseconds.
    pub response_keep_ns: u64,
    /// Acks that found no DATA packet to ride on are sent after this time, in nanoseconds.
    pub ack_delay_ns: u64,
    /// A gap in a message that still flows is asked for after this time, in nanoseconds; 0 waits for
    /// silence as Linux does.
    pub gap_recovery_ns: u64,
    /// Gaps asked for at a time per RPC.
    pub resends_per_rpc_max: u32,
    /// RESENDs and NEED_ACKs per peer and millisecond.
    pub probes_per_peer_ms_max: u32,
    /// How long an ended server RPC is remembered, in nanoseconds (0: not at all) of time that the shard
    /// runs. No copy of a request that comes in this time is executed again. Clients try for their
    /// `timeout_ns`: twice that leaves as much for what is held up in the network.
    pub tombstone_keep_ns: u64,
    /// Runs of up to 32 neighbouring ids that can be remembered.
    pub tombstones_max: usize,
    /// Tell the server with RPC_UNKNOWN when a client RPC is aborted (reference-gaps.md G62).
    pub announce_aborts: bool,
    /// Take a response only from the address the request went to. Off by default: a server with
    /// several addresses may answer from another.
    pub check_response_source: bool,
    /// Report each multi-packet request once its first packet is in, before it is complete; of one that is
    /// complete by then, its event says that this is due.
    pub announce_heads: bool,

    /// RPCs that we started and that have not ended.
    pub client_rpcs_max: usize,
    /// RPCs started by peers and not ended.
    pub server_rpcs_max: usize,
    /// The same for one peer.
    pub server_rpcs_per_peer_max: u32,
    /// Peers known at a time.
    pub peers_max: usize,
    /// Gaps per message.
    pub gaps_per_message_max: u32,
    /// Control packets waiting to be sent.
    pub control_packets_max: usize,
    /// Ranges waiting to be sent again.
    pub retransmits_max: usize,
    /// Bytes of requests held for sending and sending again, and as many of responses.
    pub outgoing_max_bytes: u64,
    /// Packet buffers held by received messages, complete or not, in the transport or in the
    /// application.
    pub retained_packets_max: u32,
    /// Packets smaller than this are copied out of their buffer when buffers run short.
    pub detach_below_bytes: u32,

    /// Number of this shard: the top byte of the ids it gives out.
    pub shard: u8,
    /// Seed of ids and of hash tables. Must differ between runs on a real network.
    pub seed: u64,
}

/// What decides which of two messages is first. The older one is, where this is equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "cli", serde(rename_all = "kebab-case"))]
pub enum Order {
    /// Fewest bytes left (SRPT), as Linux does. Best for the mean time of a message.
    #[default]
    BytesLeft,
    /// Shortest message. The last part of a long message does not delay shorter ones, which lowers
    /// their highest slowdowns.
    Length,
    /// Smallest product of bytes left and length, between the two: best for the mean slowdown on a
    /// single link.
    Product,
}

impl Order {
    /// The value that is compared.
    #[inline]
    pub(super) fn key_bytes(self, left: u32, length: u32) -> u32 {
        match self {
            Self::BytesLeft => left,
            Self::Length => length,
            Self::Product => (u64::from(left) * u64::from(length)).isqrt() as u32,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            message_max_bytes: MAX_MESSAGE_LENGTH,
            unsched_bytes: 40_000,
            unsched_by_rtt: false,
            incast_rpcs_min: 32,
            incast_unsched_bytes: 400,
            window_bytes: 0,
            incoming_max_bytes: 400_000,
            overcommit_max: 8,
            grant_min_bytes: 10_000,
            grant_fifo_permille: 50,
            grant_fifo_bytes: 50_000,
            budget_unscheduled: true,
            order: Order::BytesLeft,
            live_srpt: true,
            link_bps: 25_000_000_000,
            pacing: true,
            backlog_max_ns: 5_000,
            defer_min_bytes: 1_000,
            send_fifo_permille: 50,
            early_packet: true,
            num_priorities: 8,
            priority_map: [0, 1, 2, 3, 4, 5, 6, 7],
            cutoffs: [0, 0, 0, 0, 1_000_000, 15_000, 2_800, 200],
            cutoffs_auto: false,
            resend_after_ns: 5_000_000,
            resend_interval_ns: 5_000_000,
            timeout_ns: 100_000_000,
            need_ack_after_ns: 2_000_000,
            need_ack_interval_max_ns: 64_000_000,
            response_keep_ns: 1_000_000_000,
            ack_delay_ns: 100_000,
            gap_recovery_ns: 100_000,
            resends_per_rpc_max: 16,
            probes_per_peer_ms_max: 64,
            tombstone_keep_ns: 200_000_000,
            tombstones_max: 262_144,
            announce_aborts: true,
            check_response_source: false,
            announce_heads: false,
            client_rpcs_max: 65_536,
            server_rpcs_max: 65_536,
            server_rpcs_per_peer_max: 65_536,
            peers_max: 10_000,
            gaps_per_message_max: 64,
            control_packets_max: 4_096,
            retransmits_max: 4_096,
            outgoing_max_bytes: 100_000_000,
            retained_packets_max: 8_192,
            detach_below_bytes: 256,
            shard: 0,
            seed: 0,
        }
    }
}

impl Config {
    /// The settings under which packet counts and times are those of Linux Homa: one grant per batch,
    /// no early packet, no incast control, no fast gap recovery, acks only on DATA, NEED_ACK at a fixed distance.
    pub fn to_the_letter() -> Self {
        Self {
            grant_min_bytes: 0,
            budget_unscheduled: false,
            incast_rpcs_min: 0,
            live_srpt: false,
            early_packet: false,
            gap_recovery_ns: 0,
            ack_delay_ns: u64::MAX,
            need_ack_interval_max_ns: 1_000_000,
            announce_aborts: false,
            ..Self::default()
        }
    }

    /// Checks that the settings make sense together.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let in_range = |name, value: u64, low: u64, high: u64| {
            (low..=high).contains(&value).then_some(()).ok_or(ConfigError {
                name,
                value,
                low,
                high,
            })
        };
        let any = u64::MAX;
        in_range("message_max_bytes", self.message_max_bytes.into(), 1, i32::MAX as u64)?;
        in_range("unsched_bytes", self.unsched_bytes.into(), 1, 1_000_000)?;
        in_range("incoming_max_bytes", self.incoming_max_bytes.into(), 10_000, i32::MAX as u64)?;
        in_range("overcommit_max", self.overcommit_max as u64, 1, 8)?;
        // A grant never exceeds the window: one that has to be larger would never be sent.
        let window_min = match self.window_bytes {
            0 => self.incoming_max_bytes / (self.overcommit_max as u32 + 1),
            window => window,
        };
        in_range("grant_min_bytes", self.grant_min_bytes.into(), 0, window_min.into())?;
        in_range("grant_fifo_bytes", self.grant_fifo_bytes.into(), 0, 1_000_000)?;
        in_range("backlog_max_ns", self.backlog_max_ns, 0, 1_000_000_000)?;
        in_range("grant_fifo_permille", self.grant_fifo_permille.into(), 0, 500)?;
        in_range("send_fifo_permille", self.send_fifo_permille.into(), 0, 500)?;
        in_range("link_bps", self.link_bps, 1_000_000, 10_000_000_000_000)?;
        in_range("num_priorities", self.num_priorities.into(), 1, NUM_PRIORITIES as u64)?;
        for &value in &self.priority_map {
            in_range("priority_map", value.into(), 0, 7)?;
        }
        in_range("resend_after_ns", self.resend_after_ns, 10_000, 1_000_000_000)?;
        in_range("resend_interval_ns", self.resend_interval_ns, 10_000, 1_000_000_000)?;
        in_range("timeout_ns", self.timeout_ns, self.resend_after_ns + 1, 1_000_000_000_000)?;
        in_range("need_ack_after_ns", self.need_ack_after_ns, 10_000, 1_000_000_000)?;
        in_range("need_ack_interval_max_ns", self.need_ack_interval_max_ns, 100_000, any)?;
        in_range("response_keep_ns", self.response_keep_ns, self.need_ack_after_ns, any)?;
        // Both roles share one table, whose places are named in ids.
        in_range("client_rpcs_max", self.client_rpcs_max as u64, 1, RPCS_MAX - 1)?;
        let server_rpcs_most = RPCS_MAX - self.client_rpcs_max as u64;
        in_range("server_rpcs_max", self.server_rpcs_max as u64, 1, server_rpcs_most)?;
        in_range("server_rpcs_per_peer_max", self.server_rpcs_per_peer_max.into(), 1, any)?;
        in_range("peers_max", self.peers_max as u64, 1, 1 << 24)?;
        in_range("gaps_per_message_max", self.gaps_per_message_max.into(), 1, 1_000_000)?;
        in_range("resends_per_rpc_max", self.resends_per_rpc_max.into(), 1, 1_000_000)?;
        in_range("probes_per_peer_ms_max", self.probes_per_peer_ms_max.into(), 1, any)?;
        in_range("control_packets_max", self.control_packets_max as u64, 64, 1 << 24)?;
        in_range("retransmits_max", self.retransmits_max as u64, 1, 1 << 24)?;
        in_range("outgoing_max_bytes", self.outgoing_max_bytes, 1, any)?;
        in_range("retained_packets_max", self.retained_packets_max.into(), 64, 1 << 30)
    }
}

/// A setting outside its range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The setting.
    pub name: &'static str,
    /// What it was.
    pub value: u64,
    /// The smallest value allowed.
    pub low: u64,
    /// The largest value allowed.
    pub high: u64,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, value, low, high } = self;
        if *high == u64::MAX {
            write!(f, "{name} is {value}: must be at least {low}")
        } else {
            write!(f, "{name} is {value}: must be between {low} and {high}")
        }
    }
}

impl core::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_presets_are_valid() {
        assert_eq!(Config::default().validate(), Ok(()));
        assert_eq!(Config::to_the_letter().validate(), Ok(()));
    }

    #[test]
    fn an_error_names_setting_value_and_range() {
        let config = Config { overcommit_max: 9, ..Config::default() };
        let error = config.validate().unwrap_err();
        assert_eq!(error.to_string(), "overcommit_max is 9: must be between 1 and 8");
    }
}
