//! DATA: a part of a message, or all of it (protocol.md section 3.4). The hottest code of the
//! product.

use zerocopy::byteorder::big_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{AckRecord, DATA_HEADER_LEN, Header, PacketType, RawAckRecord, RawCommon};

/// What a DATA header means. The payload is the rest of the packet after [`DATA_HEADER_LEN`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Data {
    /// Bytes of the whole message; from the network this is any value, also 0 or beyond
    /// [`MAX_MESSAGE_LENGTH`](super::MAX_MESSAGE_LENGTH).
    pub message_length: u32,
    /// The sender will send the message up to this offset without further grants.
    pub incoming: u32,
    /// An RPC that the client at the sending host has finished.
    pub ack: Option<AckRecord>,
    /// Version of the cutoffs by which the sender chose priorities, 0 if it has none.
    pub cutoff_version: u16,
    /// Whether this packet answers a RESEND or an RPC_UNKNOWN.
    pub retransmit: bool,
    /// In a request: many RPCs of the sender are outstanding, and a long response should wait for its
    /// grants from the first byte on, lest all of them come at once (SIGCOMM 2018, section 3.6). Not
    /// part of Linux Homa, which sends 0 here and does not look.
    pub incast: bool,
    /// Place in the message of the first payload byte.
    pub offset: u32,
}

/// [`RawData::seg_offset`] where the sequence field tells the offset.
const NO_SEG_OFFSET: u32 = u32::MAX;

/// In which of the two fields that can hold it a DATA packet tells its offset. A receiver takes the
/// segment offset, unless that is absent (all ones); then it takes the sequence field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataOffsets {
    /// In both: every receiver understands it, also one whose NIC or kernel merges segments.
    Both,
    /// In the sequence field, as first transmissions of Linux without native segmentation do.
    Sequence,
    /// In the segment offset while the sequence field holds something else: a segment that a NIC or
    /// kernel has cut from a longer native packet.
    Segment {
        /// The sequence field.
        sequence: u32,
    },
}

/// How a DATA header is written where the protocol leaves a choice to the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataForm {
    /// Where the offset goes.
    pub offsets: DataOffsets,
    /// The byte with TCP's data offset in its high nibble. It guides NICs that segment; no receiver
    /// reads it.
    pub doff: u8,
}

impl DataForm {
    /// The form of this implementation and of [`Packet::emit`](super::Packet::emit): both offsets.
    pub const OURS: Self = Self { offsets: DataOffsets::Both, doff: 0xE0 };

    /// The form of first transmissions of Linux without native segmentation: the sequence field
    /// alone. With hijacking it is the one form that TCP segmentation offload can cut.
    pub const LINUX: Self = Self { offsets: DataOffsets::Sequence, doff: 0xE0 };
}

/// The bytes of a DATA header.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct RawData {
    /// The common header.
    pub common: RawCommon,
    /// Bytes of the whole message.
    pub message_length: U32,
    /// The sender will send up to this offset without further grants.
    pub incoming: U32,
    /// A finished RPC, or the empty record.
    pub ack: RawAckRecord,
    /// Version of the sender's cutoffs.
    pub cutoff_version: U16,
    /// 1 in packets sent again, else 0.
    pub retransmit: u8,
    /// 1 in requests of a host with many RPCs outstanding, else 0; Linux Homa always has 0.
    pub incast: u8,
    /// 0.
    pub pad: [u8; 2],
    /// Place in the message of the first payload byte, or all ones: see the sequence field.
    pub seg_offset: U32,
}

impl RawData {
    /// The bytes of a DATA header in the form `form`.
    #[inline(always)]
    pub fn new(header: &Header, data: &Data, form: DataForm) -> Self {
        let (sequence, seg_offset) = match form.offsets {
            DataOffsets::Both => (data.offset, data.offset),
            DataOffsets::Sequence => (data.offset, NO_SEG_OFFSET),
            DataOffsets::Segment { sequence } => (sequence, data.offset),
        };
        Self {
            common: RawCommon::new(header, PacketType::Data, sequence, form.doff),
            message_length: data.message_length.into(),
            incoming: data.incoming.into(),
            ack: RawAckRecord::new(data.ack),
            cutoff_version: data.cutoff_version.into(),
            retransmit: u8::from(data.retransmit),
            incast: u8::from(data.incast),
            pad: [0; 2],
            seg_offset: seg_offset.into(),
        }
    }

    /// Makes the header, of the form [`DataForm::OURS`], that of another packet of the same message: the one
    /// at `offset`.
    #[inline(always)]
    pub fn move_to(&mut self, offset: u32) {
        self.common.sequence = offset.into();
        self.seg_offset = offset.into();
    }

    /// What the header means.
    #[inline(always)]
    pub fn data(&self) -> Data {
        Data {
            message_length: self.message_length.get(),
            incoming: self.incoming.get(),
            ack: self.ack.record(),
            cutoff_version: self.cutoff_version.get(),
            retransmit: self.retransmit != 0,
            incast: self.incast == 1,
            offset: self.offset(),
        }
    }

    /// The offset rule of protocol.md section 3.4.
    #[inline]
    fn offset(&self) -> u32 {
        match self.seg_offset.get() {
            NO_SEG_OFFSET => self.common.sequence.get(),
            seg_offset => seg_offset,
        }
    }

    /// The form that the sender has chosen: [`RawData::new`] with it gives the same bytes again,
    /// save reserved fields, mark and checksum.
    pub fn form(&self) -> DataForm {
        let sequence = self.common.sequence.get();
        let offsets = match self.seg_offset.get() {
            NO_SEG_OFFSET => DataOffsets::Sequence,
            seg_offset if seg_offset == sequence => DataOffsets::Both,
            _ => DataOffsets::Segment { sequence },
        };
        DataForm { offsets, doff: self.common.doff }
    }
}

const _: () = assert!(size_of::<RawData>() == DATA_HEADER_LEN);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{HomaPort, RpcId};

    const HEADER: Header =
        Header { sport: HomaPort(32768), dport: HomaPort(4000), sender_id: RpcId(4) };

    fn data(offset: u32) -> Data {
        Data {
            message_length: 50_000,
            incoming: 40_000,
            ack: None,
            cutoff_version: 1,
            retransmit: false,
            incast: false,
            offset,
        }
    }

    #[test]
    fn segment_offset_wins_unless_it_is_all_ones() {
        let mut raw = RawData::new(&HEADER, &data(1424), DataForm::LINUX);
        assert_eq!((raw.common.sequence.get(), raw.seg_offset.get()), (1424, u32::MAX));
        assert_eq!(raw.data().offset, 1424);
        raw.seg_offset = 0.into();
        assert_eq!(raw.data().offset, 0, "0 is an offset like any other");
        raw.seg_offset = 2848.into();
        assert_eq!(raw.data().offset, 2848);
    }

    #[test]
    fn every_form_is_recognised_and_means_the_same() {
        let stale = DataForm { offsets: DataOffsets::Segment { sequence: 9 }, doff: 0xD0 };
        for form in [DataForm::OURS, DataForm::LINUX, stale] {
            let raw = RawData::new(&HEADER, &data(1424), form);
            assert_eq!(raw.form(), form);
            assert_eq!(raw.data(), data(1424));
        }
    }

    #[test]
    fn a_moved_header_is_that_of_the_other_offset() {
        let mut raw = RawData::new(&HEADER, &data(1424), DataForm::OURS);
        raw.move_to(2848);
        assert_eq!(raw, RawData::new(&HEADER, &data(2848), DataForm::OURS));
    }

    #[test]
    fn the_incast_mark_is_one_byte_that_linux_leaves_0() {
        let mut raw = RawData::new(&HEADER, &data(0), DataForm::OURS);
        let plain = raw.as_bytes().to_vec();
        assert_eq!(plain[49..52], [0; 3]);
        raw = RawData::new(&HEADER, &Data { incast: true, ..data(0) }, DataForm::OURS);
        assert_eq!(raw.as_bytes()[49..52], [1, 0, 0]);
        assert!(raw.data().incast);
        raw.incast = 0x80;
        assert!(!raw.data().incast, "noise in a reserved byte");
    }

    #[test]
    fn an_ack_with_id_0_is_none_whatever_its_port() {
        let mut raw = RawData::new(&HEADER, &data(0), DataForm::OURS);
        raw.ack.server_port = 4000.into();
        assert_eq!(raw.data().ack, None);
        raw.ack.client_id = 2.into();
        let ack = AckRecord { client_id: RpcId(2), server_port: HomaPort(4000) };
        assert_eq!(raw.data().ack, Some(ack));
    }
}
