//! What the transport asks of packet buffers and messages. It never looks inside them.

use core::ops::Range;

use crate::addr::HostAddr;
use crate::wire::{Body, Data, Packet};

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

    /// Sends all of `message` as one packet, or has done nothing and says so: then [`TxSink::data_run`] is to
    /// have it. For a way that is shorter; what it does not keep of `packet` need not be in memory. The same
    /// as [`TxSink::data`] unless it is implemented otherwise.
    #[inline(always)]
    fn whole(&mut self, to: PeerRef, priority: u8, packet: &Packet, message: &mut M) -> bool
    where
        M: OutMessage,
    {
        let range = 0..message.len();
        self.data(to, priority, packet, message, range);
        true
    }

    /// Sends the bytes `range` of `message`, which begin where a packet of it begins, in as many packets as
    /// that takes: see [`run`]. The same as [`TxSink::data`] for each of them, which is what it does unless it
    /// is implemented otherwise.
    fn data_run(
        &mut self,
        to: PeerRef,
        priority: u8,
        packet: &Packet,
        message: &mut M,
        range: Range<u32>,
    ) where
        M: OutMessage,
    {
        for (packet, range) in run(packet, range, message.segment_bytes()) {
            self.data(to, priority, &packet, message, range);
        }
    }
}

/// The packets of one message that go in a row, with the bytes that each brings: `first`, which is DATA, and
/// behind it the same with the offsets that follow, but without its ack.
#[inline]
pub fn run(
    first: &Packet,
    range: Range<u32>,
    segment_bytes: u32,
) -> impl Iterator<Item = (Packet, Range<u32>)> {
    let (first, all) = (*first, range);
    all.clone().step_by(segment_bytes.max(1) as usize).map(move |offset| {
        let body = match first.body {
            Body::Data(data) if offset > all.start => {
                Body::Data(Data { offset, ack: None, ..data })
            }
            body => body,
        };
        let end = (offset + segment_bytes.max(1)).min(all.end);
        (Packet { body, ..first }, offset..end)
    })
}
