//! Counters, and the hook through which tracers and checkers watch (protocol.md section 18).

use crate::time::Nanos;
use crate::wire::{Header, Packet, RpcId};

use super::buffers::PeerRef;

macro_rules! metrics {
    ($($(#[doc = $doc:literal])* $name:ident),* $(,)?) => {
        /// Monotonic counters of one transport. Plain integers: one thread writes them.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub struct Metrics {
            /// Packets received by type, index = type code - 0x10.
            pub received: [u64; 9],
            /// Packets sent by type, index = type code - 0x10.
            pub sent: [u64; 9],
            /// DATA payload bytes sent per priority on the wire.
            pub sent_bytes_by_priority: [u64; 8],
            $($(#[doc = $doc])* pub $name: u64,)*
        }

        impl Metrics {
            /// Names and descriptions of all single counters, in the order of [`Metrics::iter`].
            pub const SINGLE: &'static [(&'static str, &'static str)] =
                &[$((stringify!($name), concat!($($doc),*))),*];

            /// The counters with these values of the single ones, as [`Metrics::iter`] gives them.
            pub fn with_single(self, values: impl IntoIterator<Item = u64>) -> Self {
                let mut values = values.into_iter();
                Self { $($name: values.next().unwrap_or(0),)* ..self }
            }

            /// Names and values of all single counters, in a fixed order.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name)),*].into_iter()
            }

            /// Adds the counters of `other`, for a sum over shards.
            pub fn add(&mut self, other: &Self) {
                for (mine, theirs) in self.received.iter_mut().zip(other.received) {
                    *mine += theirs;
                }
                for (mine, theirs) in self.sent.iter_mut().zip(other.sent) {
                    *mine += theirs;
                }
                let bytes = other.sent_bytes_by_priority;
                for (mine, theirs) in self.sent_bytes_by_priority.iter_mut().zip(bytes) {
                    *mine += theirs;
                }
                $(self.$name += other.$name;)*
            }
        }
    };
}

metrics! {
    /// RPCs started by this side.
    client_started,
    /// Of these: ended with a response.
    client_done,
    /// Of these: ended with an error.
    client_failed,
    /// RPCs started by peers.
    server_started,
    /// Requests handed to the application.
    server_requests,
    /// Responses that the application gave.
    server_responses,
    /// Of these: announced only, because the client has many RPCs outstanding.
    responses_announced,
    /// Server RPCs ended by an ack.
    server_acked,
    /// Server RPCs given up: peer silent, or response never acknowledged.
    server_timeouts,
    /// Server RPCs ended by RPC_UNKNOWN.
    server_ended_by_unknown,
    /// Bytes of complete messages received.
    message_bytes_received,
    /// Bytes of messages handed in for sending.
    message_bytes_started,
    /// DATA payload bytes sent again.
    bytes_resent,
    /// DATA that brought nothing new.
    duplicates,
    /// Retransmitted DATA that brought something new.
    useful_retransmits,
    /// DATA of an RPC that ended a short time ago: would have been executed twice.
    tombstone_hits,
    /// Packets for an RPC that does not exist, other than DATA of new ones.
    unknown_rpc,
    /// Packets for a port that is not open.
    unknown_port,
    /// DATA with an impossible message length.
    bad_length,
    /// DATA whose message length differs from that of the first packet.
    length_mismatch,
    /// DATA outside its message.
    bad_range,
    /// Packets of a type that the state or the direction does not allow.
    wrong_direction,
    /// Packets for one of our client RPCs from another address than its server's.
    foreign_source,
    /// DATA that would have opened more gaps than allowed.
    gap_limit,
    /// New RPCs refused: table full.
    refused_rpcs,
    /// New RPCs refused: too many of one peer.
    refused_per_peer,
    /// New RPCs refused: no room to remember their end.
    refused_tombstones,
    /// New RPCs refused: too many packet buffers held.
    refused_buffers,
    /// Packets refused: peer table full.
    refused_peers,
    /// Calls refused to the application.
    refused_calls,
    /// DATA of known RPCs dropped: too many packet buffers held.
    data_dropped_no_buffers,
    /// Control packets dropped: queue full.
    control_dropped,
    /// Ranges not sent again: queue full.
    retransmits_dropped,
    /// RESENDs and NEED_ACKs not sent because of the limit per peer.
    probes_limited,
    /// Gaps asked for without waiting for silence.
    gap_recoveries,
    /// FIFO grants, in bytes.
    fifo_grant_bytes,
    /// ACK packets sent because no DATA packet came by.
    ack_packets_delayed,
    /// Times the cutoffs were recomputed and changed.
    cutoffs_changed,
    /// Peers evicted to make room.
    peers_evicted,
}

impl Metrics {
    /// Index of a packet's type in `received` and `sent`.
    pub(super) fn type_index(packet: &Packet) -> usize {
        packet.packet_type() as usize - 0x10
    }
}

/// Sees everything that passes. All methods do nothing unless implemented; with `()` they compile to
/// nothing.
pub trait Probe {
    /// A packet was received, before it is looked at.
    fn received(&mut self, now: Nanos, from: crate::addr::HostAddr, packet: &Packet, payload: u32) {
        let _ = (now, from, packet, payload);
    }

    /// A packet was handed to the sink.
    fn sent(&mut self, now: Nanos, to: PeerRef, priority: u8, packet: &Packet, payload: u32) {
        let _ = (now, to, priority, packet, payload);
    }

    /// A message may be sent up to `offset` now: a GRANT with this header will leave.
    fn granted(&mut self, now: Nanos, header: &Header, offset: u32) {
        let _ = (now, header, offset);
    }

    /// What a message may be sent and was not, although it was asked for, is off the budget until a packet
    /// comes; the header is that of packets about it.
    fn written_off(&mut self, now: Nanos, header: &Header) {
        let _ = (now, header);
    }

    /// An RPC was entered into the tables. `id` is the local id: odd on the server.
    fn rpc_started(&mut self, now: Nanos, id: RpcId) {
        let _ = (now, id);
    }

    /// An RPC was removed from the tables.
    fn rpc_ended(&mut self, now: Nanos, id: RpcId) {
        let _ = (now, id);
    }
}

impl Probe for () {}
