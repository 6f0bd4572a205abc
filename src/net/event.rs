//! What a stack has to tell.

use core::net::IpAddr;
use std::collections::VecDeque;

use super::mac::MacAddr;

/// News from the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetEvent {
    /// A next hop that was being resolved can now be sent to. For destinations behind a gateway this
    /// names the gateway (see [`Stack::next_hop`](super::Stack::next_hop)).
    Resolved(IpAddr),
    /// A next hop did not answer.
    ResolutionFailed(IpAddr),
    /// Some host says that a Homa packet of ours could not be delivered (protocol.md section 15).
    /// Whether we ever sent such a packet is for the receiver of the event to check.
    PeerUnreachable {
        /// Who says so: the destination itself, or a router on the way.
        reporter: IpAddr,
        /// What could not be reached.
        cause: UnreachableCause,
        /// The ICMP code as received.
        code: u8,
        /// The packet that was not delivered.
        quoted: QuotedPacket,
    },
    /// Some router says that a Homa packet of ours was too large for the next link (RFC 1191, RFC 8201).
    MtuHint {
        /// Who says so.
        reporter: IpAddr,
        /// The largest IP packet that fits, smaller than the packet that did not.
        mtu_bytes: u16,
        /// The packet that was too large.
        quoted: QuotedPacket,
    },
    /// Another station uses our address (RFC 5227, RFC 4862). Told at most once in ten seconds.
    AddressConflict {
        /// Our address.
        ip: IpAddr,
        /// The other station.
        mac: MacAddr,
    },
}

/// What an ICMP error says cannot be reached (RFC 792, RFC 1812 section 5.2.7.1, RFC 4443).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnreachableCause {
    /// There is no route to the network.
    Network,
    /// The host does not answer, or may not be reached in this way.
    Host,
    /// The host does not speak Homa.
    Protocol,
    /// Nothing listens on the Homa port.
    Port,
    /// A filter forbids it.
    Prohibited,
}

/// What an ICMP error quotes of a Homa packet with our address as its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotedPacket {
    /// Our address.
    pub src: IpAddr,
    /// The peer's address.
    pub dst: IpAddr,
    /// Our Homa port.
    pub src_port: u16,
    /// The peer's Homa port.
    pub dst_port: u16,
    /// The `sender_id` field, if the quotation is long enough to hold it (protocol.md section 3.2).
    pub sender_id: Option<u64>,
    /// Bytes of the whole IP packet.
    pub packet_bytes: u32,
}

/// Events waiting to be polled, at most as many as there was room for at first.
#[derive(Debug)]
pub(super) struct EventQueue {
    events: VecDeque<NetEvent>,
    events_max: usize,
}

impl EventQueue {
    pub(super) fn new(events_max: usize) -> Self {
        Self { events: VecDeque::with_capacity(events_max), events_max }
    }

    /// Appends an event unless the queue is full.
    pub(super) fn push(&mut self, event: NetEvent) -> bool {
        let has_room = self.events.len() < self.events_max;
        if has_room {
            self.events.push_back(event);
        }
        has_room
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    pub(super) fn pop(&mut self) -> Option<NetEvent> {
        self.events.pop_front()
    }
}
