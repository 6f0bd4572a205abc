//! The header that all packets share, laid over a TCP header (protocol.md section 3.2).

use core::fmt;

use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{
    ACK_LEN, COMMON_HEADER_LEN, CUTOFFS_LEN, DATA_HEADER_LEN, GRANT_LEN, HomaPort, MARK_FLAGS,
    MARK_URGENT, RESEND_SHORT_LEN, RpcId,
};

/// The type of a packet (protocol.md section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum PacketType {
    /// A part of a message.
    Data = 0x10,
    /// Permission to send more of a message.
    Grant = 0x11,
    /// Demand to send a part of a message again.
    Resend = 0x12,
    /// Answer to a RESEND for an RPC that the answering side does not know.
    RpcUnknown = 0x13,
    /// Answer to a RESEND: the message will come, later.
    Busy = 0x14,
    /// Priorities to use for the unscheduled bytes of messages to this host.
    Cutoffs = 0x15,
    /// Debugging aid of Linux Homa.
    Freeze = 0x16,
    /// Demand of a server to be told that its response has arrived.
    NeedAck = 0x17,
    /// List of RPCs that their client has finished.
    Ack = 0x18,
}

impl PacketType {
    /// All types in the order of their codes.
    pub const ALL: [Self; 9] = [
        Self::Data,
        Self::Grant,
        Self::Resend,
        Self::RpcUnknown,
        Self::Busy,
        Self::Cutoffs,
        Self::Freeze,
        Self::NeedAck,
        Self::Ack,
    ];

    /// The type with this code.
    #[inline]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0x10 => Some(Self::Data),
            0x11 => Some(Self::Grant),
            0x12 => Some(Self::Resend),
            0x13 => Some(Self::RpcUnknown),
            0x14 => Some(Self::Busy),
            0x15 => Some(Self::Cutoffs),
            0x16 => Some(Self::Freeze),
            0x17 => Some(Self::NeedAck),
            0x18 => Some(Self::Ack),
            _ => None,
        }
    }

    /// The code in the packet.
    #[inline]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Bytes that a packet of this type has at least. For RESEND this is the short form of 36
    /// bytes.
    pub const fn min_len(self) -> usize {
        match self {
            Self::Data => DATA_HEADER_LEN,
            Self::Grant => GRANT_LEN,
            Self::Resend => RESEND_SHORT_LEN,
            Self::Cutoffs => CUTOFFS_LEN,
            Self::Ack => ACK_LEN,
            Self::RpcUnknown | Self::Busy | Self::Freeze | Self::NeedAck => COMMON_HEADER_LEN,
        }
    }

    /// The name of the type in the protocol, for example `NEED_ACK`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Data => "DATA",
            Self::Grant => "GRANT",
            Self::Resend => "RESEND",
            Self::RpcUnknown => "RPC_UNKNOWN",
            Self::Busy => "BUSY",
            Self::Cutoffs => "CUTOFFS",
            Self::Freeze => "FREEZE",
            Self::NeedAck => "NEED_ACK",
            Self::Ack => "ACK",
        }
    }
}

impl fmt::Display for PacketType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What the common header means: between which ports, about which RPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Port of the sender of this packet.
    pub sport: HomaPort,
    /// Port of the receiver of this packet.
    pub dport: HomaPort,
    /// The RPC as the sender of this packet writes it; the receiver's own id is [`RpcId::flip`] of
    /// it.
    pub sender_id: RpcId,
}

/// The bytes of the common header. The fields that Homa does not use keep the names of TCP.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct RawCommon {
    /// Port of the sender.
    pub sport: U16,
    /// Port of the receiver.
    pub dport: U16,
    /// In DATA an offset that counts only without a segment offset, see
    /// [`DataOffsets`](super::DataOffsets); else 0.
    pub sequence: U32,
    /// 0; the high bytes of TCP's acknowledgement number.
    pub acknowledgement_high: [u8; 3],
    /// The code of a [`PacketType`].
    pub packet_type: u8,
    /// Header length in words of 32 bits, in the high nibble, for the eyes of a NIC; Homa takes no
    /// notice.
    pub doff: u8,
    /// [`MARK_FLAGS`].
    pub flags: u8,
    /// 0.
    pub window: U16,
    /// TCP checksum in hijacked packets; anything in native ones.
    pub checksum: U16,
    /// [`MARK_URGENT`].
    pub urgent: U16,
    /// The RPC as the sender of this packet writes it.
    pub sender_id: U64,
}

/// [`RawCommon::doff`] of control packets.
const CONTROL_DOFF: u8 = 0x50;

impl RawCommon {
    /// The bytes of `header` in a control packet of type `packet_type`; checksum 0.
    #[inline]
    pub const fn control(header: &Header, packet_type: PacketType) -> Self {
        Self::new(header, packet_type, 0, CONTROL_DOFF)
    }

    #[inline]
    pub(super) const fn new(
        header: &Header,
        packet_type: PacketType,
        sequence: u32,
        doff: u8,
    ) -> Self {
        Self {
            sport: U16::new(header.sport.0),
            dport: U16::new(header.dport.0),
            sequence: U32::new(sequence),
            acknowledgement_high: [0; 3],
            packet_type: packet_type.code(),
            doff,
            flags: MARK_FLAGS,
            window: U16::ZERO,
            checksum: U16::ZERO,
            urgent: U16::new(MARK_URGENT),
            sender_id: U64::new(header.sender_id.0),
        }
    }

    /// What the header means.
    #[inline]
    pub const fn header(&self) -> Header {
        Header {
            sport: HomaPort(self.sport.get()),
            dport: HomaPort(self.dport.get()),
            sender_id: RpcId(self.sender_id.get()),
        }
    }
}

/// Whether `segment`, the bytes of a TCP segment from its first on, is a Homa packet in disguise:
/// flags exactly [`MARK_FLAGS`] and urgent pointer exactly [`MARK_URGENT`] (protocol.md section
/// 2.2). No real TCP sends both. Packets of IP protocol 146 need no mark.
#[inline]
pub fn is_marked(segment: &[u8]) -> bool {
    let Some(tcp_header) = segment.first_chunk::<20>() else { return false };
    tcp_header[13] == MARK_FLAGS && [tcp_header[18], tcp_header[19]] == MARK_URGENT.to_be_bytes()
}

const _: () = assert!(size_of::<RawCommon>() == COMMON_HEADER_LEN);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_types_are_a_bijection() {
        for code in 0..=u8::MAX {
            match PacketType::from_code(code) {
                Some(packet_type) => assert_eq!(packet_type.code(), code),
                None => assert!(!(0x10..=0x18).contains(&code), "{code:#x}"),
            }
        }
        assert!(PacketType::ALL.iter().map(|t| t.code()).eq(0x10..=0x18));
    }

    #[test]
    fn mark_needs_both_fields_exactly() {
        let mut segment = [0; 20];
        segment[13] = 0x06;
        segment[18..].copy_from_slice(&[0xb9, 0x7d]);
        assert!(is_marked(&segment));
        assert!(!is_marked(&segment[..19]));
        for (index, value) in [(13, 0x02), (13, 0x26), (18, 0xb8), (19, 0)] {
            let mut other = segment;
            other[index] = value;
            assert!(!is_marked(&other), "byte {index} = {value:#x}");
        }
    }

    #[test]
    fn common_header_layout() {
        let header = Header {
            sport: HomaPort(0x8001),
            dport: HomaPort(99),
            sender_id: RpcId(0x0102_0304_0506_0708),
        };
        let raw = RawCommon::new(&header, PacketType::Busy, 0x1122_3344, 0x50);
        let bytes = [
            0x80, 0x01, 0, 99, 0x11, 0x22, 0x33, 0x44, 0, 0, 0, 0x14, 0x50, 0x06, 0, 0, 0, 0, 0xb9,
            0x7d, 1, 2, 3, 4, 5, 6, 7, 8,
        ];
        assert_eq!(raw.as_bytes(), bytes);
        assert_eq!(raw.header(), header);
        assert!(is_marked(raw.as_bytes()));
    }
}
