//! Packets, payloads and messages of simulated hosts: sizes and identities, and bytes only where a
//! checker wants them.

use core::fmt;
use core::ops::Range;

use crate::transport::{OutMessage, Payload};
use crate::wire::{Body, Packet};

use super::config::Framing;

/// What is in messages. `()` moves nothing; [`Bytes`] moves real bytes.
pub trait Contents: Clone + fmt::Debug + Default {
    /// The bytes `range` of message number `message`.
    fn cut(message: u32, range: Range<u32>) -> Self;

    /// Keeps only `range` of the present bytes.
    fn narrow(&mut self, range: Range<u32>);

    /// Whether this is what [`Contents::cut`] gives.
    fn is_intact(&self, message: u32, range: Range<u32>) -> bool;
}

impl Contents for () {
    fn cut(_message: u32, _range: Range<u32>) {}

    fn narrow(&mut self, _range: Range<u32>) {}

    fn is_intact(&self, _message: u32, _range: Range<u32>) -> bool {
        true
    }
}

/// Payload bytes that tell which message they belong to, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl Bytes {
    fn byte(message: u32, offset: u32) -> u8 {
        let mixed =
            (u64::from(message) << 32 | u64::from(offset)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 40) as u8
    }
}

impl Contents for Bytes {
    fn cut(message: u32, range: Range<u32>) -> Self {
        Self(range.map(|offset| Self::byte(message, offset)).collect())
    }

    fn narrow(&mut self, range: Range<u32>) {
        self.0.truncate(range.end as usize);
        self.0.drain(..range.start as usize);
    }

    fn is_intact(&self, message: u32, range: Range<u32>) -> bool {
        self.0.len() == range.len()
            && self.0.iter().zip(range).all(|(&byte, offset)| byte == Self::byte(message, offset))
    }
}

/// The payload of a DATA packet.
#[derive(Clone, Debug, Default)]
pub struct Piece<C> {
    /// Place of its exchange in the table of the cluster.
    pub(crate) slot: u32,
    /// Number of the message it belongs to.
    pub(crate) message: u32,
    /// First byte, as an offset in the message.
    pub(crate) start: u32,
    pub(crate) length: u32,
    pub(crate) contents: C,
}

impl<C: Contents> Payload for Piece<C> {
    fn len(&self) -> u32 {
        self.length
    }

    fn narrow(&mut self, range: Range<u32>) {
        self.contents.narrow(range.clone());
        self.start += range.start;
        self.length = range.end - range.start;
    }
}

/// A message to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing {
    pub(crate) slot: u32,
    pub(crate) message: u32,
    pub(crate) length: u32,
    pub(crate) segment_bytes: u32,
}

impl Outgoing {
    /// The payload of a packet with the bytes `range`.
    pub(crate) fn cut<C: Contents>(&self, range: Range<u32>) -> Piece<C> {
        Piece {
            slot: self.slot,
            message: self.message,
            start: range.start,
            length: range.end - range.start,
            contents: C::cut(self.message, range),
        }
    }
}

impl OutMessage for Outgoing {
    fn len(&self) -> u32 {
        self.length
    }

    fn segment_bytes(&self) -> u32 {
        self.segment_bytes
    }
}

/// What switches look at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Label {
    /// What the packet occupies on a link, in bytes, preamble and gap included.
    pub(crate) wire_bytes: u32,
    /// The next packet in the queue it stands in.
    pub(crate) next: u32,
    pub(crate) src: u16,
    pub(crate) dst: u16,
    pub(crate) priority: u8,
}

/// A packet in the network.
#[derive(Clone, Debug)]
pub(crate) struct Frame<C> {
    pub(crate) label: Label,
    pub(crate) packet: Packet,
    pub(crate) piece: Piece<C>,
}

impl Framing {
    /// Preamble, Ethernet header, CRC and gap.
    const ETHERNET_BYTES: u32 = 38;
    /// The shortest frame with preamble and gap.
    const FRAME_BYTES_MIN: u32 = 84;
    const IPV4_BYTES: u32 = 20;

    /// What a packet with `payload` bytes of message occupies on a link.
    pub fn wire_bytes(self, packet: &Packet, payload: u32) -> u32 {
        let header = match (self, &packet.body) {
            (Self::Linux, _) => packet.emitted_len() as u32 + Self::IPV4_BYTES,
            // UDP, and 30 bytes of Homa in unscheduled, 16 in scheduled packets. The grants and all
            // else fit into a frame of minimal length.
            (Self::Paper, Body::Data(data)) if data.offset < data.incoming => 58,
            (Self::Paper, Body::Data(_)) => 44,
            (Self::Paper, _) => 0,
        };
        (header + payload + Self::ETHERNET_BYTES).max(Self::FRAME_BYTES_MIN)
    }

    /// Payload bytes of a full DATA packet: what an MTU of 1500 leaves.
    pub const fn segment_bytes(self) -> u32 {
        match self {
            Self::Linux => 1_424,
            Self::Paper => 1_442,
        }
    }
}

/// Frames in the network, by index, so that queues and events hold four bytes each. Labels have an
/// array of their own: hops touch nothing else.
#[derive(Debug)]
pub(crate) struct Frames<C> {
    labels: Vec<Label>,
    packets: Vec<(Packet, Piece<C>)>,
    free: Vec<u32>,
}

impl<C: Contents> Frames<C> {
    pub(crate) fn new() -> Self {
        Self { labels: Vec::new(), packets: Vec::new(), free: Vec::new() }
    }

    pub(crate) fn insert(&mut self, frame: Frame<C>) -> u32 {
        let Frame { label, packet, piece } = frame;
        match self.free.pop() {
            Some(index) => {
                self.labels[index as usize] = label;
                self.packets[index as usize] = (packet, piece);
                index
            }
            None => {
                self.labels.push(label);
                self.packets.push((packet, piece));
                (self.labels.len() - 1) as u32
            }
        }
    }

    #[inline]
    pub(crate) fn label(&self, index: u32) -> &Label {
        &self.labels[index as usize]
    }

    #[inline]
    pub(crate) fn label_mut(&mut self, index: u32) -> &mut Label {
        &mut self.labels[index as usize]
    }

    #[inline]
    pub(crate) fn packet(&self, index: u32) -> &Packet {
        &self.packets[index as usize].0
    }

    /// Gives the place of a frame back and its piece out.
    pub(crate) fn remove(&mut self, index: u32) -> Piece<C> {
        self.free.push(index);
        std::mem::take(&mut self.packets[index as usize].1)
    }

    /// Frames in the network.
    pub(crate) fn len(&self) -> usize {
        self.labels.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::workload::paper_wire_bytes;
    use crate::wire::{Data, Grant, Header, HomaPort, RpcId};

    fn packet(body: Body) -> Packet {
        let header = Header { sport: HomaPort(1), dport: HomaPort(2), sender_id: RpcId(2) };
        Packet { header, body }
    }

    fn data(offset: u32, incoming: u32) -> Packet {
        packet(Body::Data(Data {
            message_length: 100_000,
            incoming,
            ack: None,
            cutoff_version: 0,
            retransmit: false,
            incast: false,
            offset,
        }))
    }

    #[test]
    fn frames_of_the_paper_cost_what_its_load_counts() {
        for size in [1, 26, 27, 700, 1_442] {
            let wire = Framing::Paper.wire_bytes(&data(0, size), size);
            assert_eq!(u64::from(wire), paper_wire_bytes(size), "{size} bytes");
        }
        let scheduled = Framing::Paper.wire_bytes(&data(20_000, 10_000), 1_456);
        assert_eq!(scheduled, 1_538);
        let grant = packet(Body::Grant(Grant { offset: 1, priority: 0 }));
        assert_eq!(Framing::Paper.wire_bytes(&grant, 0), 84);
    }

    #[test]
    fn our_frames_are_those_of_ipv4_on_ethernet() {
        // 1424 + 56 + 20 = the MTU.
        assert_eq!(Framing::Linux.wire_bytes(&data(0, 9), 1_424), 1_538);
        let grant = packet(Body::Grant(Grant { offset: 1, priority: 0 }));
        assert_eq!(Framing::Linux.wire_bytes(&grant, 0), 33 + 20 + 38);
        assert_eq!(Framing::Linux.wire_bytes(&packet(Body::Busy), 0), 86);
    }

    #[test]
    fn narrowed_pieces_stay_intact() {
        let mut piece = Piece {
            slot: 0,
            message: 7,
            start: 100,
            length: 50,
            contents: Bytes::cut(7, 100..150),
        };
        piece.narrow(10..40);
        assert_eq!((piece.start, piece.len()), (110, 30));
        assert!(piece.contents.is_intact(7, 110..140));
        assert!(!piece.contents.is_intact(8, 110..140));
        assert!(!piece.contents.is_intact(7, 111..141));
    }
}
