//! What the transport asks of packet buffers and messages. It never looks inside them.

use core::ops::Range;

use crate::addr::HostAddr;
use crate::wire::Packet;

/// The payload of one received DATA packet, still in the buffer it arrived in.
///
/// The transport keeps it until the application has dropped the message it belongs to. The DPDK node
/// implements it on a slice of an mbuf, the simulator on a byte count.
pub trait Payload {
    /// Payload bytes.
    fn len(&self) -> u32;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keeps only `range` of the present bytes. The transport stays within `0..len()`.
    fn narrow(&mut self, range: Range<u32>);

    /// Moves the bytes out of the receive buffer so that the buffer can be reused, if that is
    /// possible and worth it. Called when receive buffers run short.
    fn detach(&mut self) {}

    /// Drops the payloads of one message. To give buffers back together can cost less than one by one.
    fn discard(payloads: impl Iterator<Item = Self>)
    where
        Self: Sized,
    {
        payloads.for_each(drop);
    }
}

/// A message to be sent: a handle with a length. The transport keeps it until its RPC ends.
pub trait OutMessage {
    /// Message bytes.
    fn len(&self) -> u32;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Payload bytes of every DATA packet of this message but the last. Fixed for the life of the
    /// message, because retransmissions must keep the original boundaries (protocol.md section 8).
    fn segment_bytes(&self) -> u32;
}

/// A peer as the sink sees it: a small index that stays the same while the peer is in use, for
/// arrays of cached routes, and its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerRef {
    /// Index below `Config::peers_max`. Reused for another address after the peer was evicted.
    pub index: u32,
    /// Where packets to this peer go.
    pub addr: HostAddr,
}

/// Where packets leave the transport.
pub trait TxSink<M> {
    /// Packets that it takes now. The transport never passes more.
    fn room(&self) -> usize;

    /// Sends a packet without payload at `priority` (the value for the wire).
    fn control(&mut self, to: PeerRef, priority: u8, packet: &Packet);

    /// Sends a DATA header and the bytes `range` of `message` at `priority`.
    fn data(
        &mut self,
        to: PeerRef,
        priority: u8,
        packet: &Packet,
        message: &mut M,
        range: Range<u32>,
    );
}
