//! Acks: the record that tells a server to forget an RPC, and the packet that carries up to five of
//! them (protocol.md sections 3.3 and 3.5).

use core::fmt;

use zerocopy::byteorder::big_endian::{U16, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{ACK_LEN, Header, HomaPort, MAX_ACK_RECORDS, PacketType, RawCommon, RpcId};

/// One finished RPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AckRecord {
    /// The RPC as its client writes it. Never 0, which stands for an empty record.
    pub client_id: RpcId,
    /// The port that the request went to.
    pub server_port: HomaPort,
}

/// The bytes of an ack record.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct RawAckRecord {
    /// The RPC as its client writes it; 0: empty record.
    pub client_id: U64,
    /// The port that the request went to.
    pub server_port: U16,
}

impl RawAckRecord {
    /// The empty record.
    pub const EMPTY: Self = Self { client_id: U64::ZERO, server_port: U16::ZERO };

    /// The bytes of `record`, or of the empty record.
    #[inline]
    pub fn new(record: Option<AckRecord>) -> Self {
        match record {
            Some(AckRecord { client_id, server_port }) => {
                Self { client_id: client_id.0.into(), server_port: server_port.0.into() }
            }
            None => Self::EMPTY,
        }
    }

    /// What the record means; `None` if it is empty.
    #[inline]
    pub fn record(&self) -> Option<AckRecord> {
        let client_id = RpcId(self.client_id.get());
        let server_port = HomaPort(self.server_port.get());
        (client_id.0 != 0).then_some(AckRecord { client_id, server_port })
    }
}

/// The records of an ACK packet, up to [`MAX_ACK_RECORDS`]. The RPC in the packet's header is
/// finished as well and is not among them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// Unused places hold `UNUSED`, so that equal lists are equal.
    records: [AckRecord; MAX_ACK_RECORDS],
    len: u8,
}

const UNUSED: AckRecord = AckRecord { client_id: RpcId(0), server_port: HomaPort(0) };

impl Ack {
    /// No records.
    pub const fn new() -> Self {
        Self { records: [UNUSED; MAX_ACK_RECORDS], len: 0 }
    }

    /// Adds `record`. Returns whether it was added: it is not if the list is full or the record is
    /// empty (id 0).
    #[inline]
    pub fn push(&mut self, record: AckRecord) -> bool {
        if record.client_id.0 == 0 {
            return false;
        }
        let Some(place) = self.records.get_mut(usize::from(self.len)) else { return false };
        *place = record;
        self.len += 1;
        true
    }

    /// The records in the order of the packet.
    #[inline]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = AckRecord> + '_ {
        self.records.iter().take(self.len()).copied()
    }

    /// How many records there are.
    #[inline]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there are no records.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Default for Ack {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Ack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The bytes of an ACK packet.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct RawAck {
    /// The common header.
    pub common: RawCommon,
    /// Leading records that count; more than [`MAX_ACK_RECORDS`] are all of them.
    pub num_acks: U16,
    /// The records.
    pub acks: [RawAckRecord; MAX_ACK_RECORDS],
}

impl RawAck {
    /// The bytes of an ACK packet.
    pub fn new(header: &Header, ack: &Ack) -> Self {
        let mut acks = [RawAckRecord::EMPTY; MAX_ACK_RECORDS];
        for (raw, record) in acks.iter_mut().zip(ack.iter()) {
            *raw = RawAckRecord::new(Some(record));
        }
        let common = RawCommon::control(header, PacketType::Ack);
        Self { common, num_acks: u16::from(ack.len).into(), acks }
    }

    /// The records that count and are not empty.
    pub fn ack(&self) -> Ack {
        let mut ack = Ack::new();
        let counted = self.acks.iter().take(usize::from(self.num_acks.get()));
        for record in counted.filter_map(RawAckRecord::record) {
            ack.push(record);
        }
        ack
    }
}

const _: () = assert!(size_of::<RawAckRecord>() == 10);
const _: () = assert!(size_of::<RawAck>() == ACK_LEN);

#[cfg(test)]
mod tests {
    use super::*;

    fn record(client_id: u64) -> AckRecord {
        AckRecord { client_id: RpcId(client_id), server_port: HomaPort(99) }
    }

    const HEADER: Header =
        Header { sport: HomaPort(32768), dport: HomaPort(99), sender_id: RpcId(2) };

    #[test]
    fn five_records_fit_and_no_more() {
        let mut ack = Ack::new();
        assert!(ack.is_empty());
        for id in [2, 4, 6, 8, 10] {
            assert!(ack.push(record(id)));
        }
        let full = ack;
        assert!(!ack.push(record(12)));
        assert_eq!(ack, full);
        assert_eq!(ack.len(), 5);
        assert!(ack.iter().map(|r| r.client_id.0).eq([2, 4, 6, 8, 10]));
    }

    #[test]
    fn empty_records_are_neither_taken_nor_read() {
        let mut ack = Ack::new();
        assert!(!ack.push(record(0)));
        assert!(ack.is_empty());

        let mut raw = RawAck::new(&HEADER, &ack);
        raw.num_acks = 4.into();
        raw.acks[1] = RawAckRecord::new(Some(record(6)));
        raw.acks[3] = RawAckRecord::new(Some(record(8)));
        raw.acks[4] = RawAckRecord::new(Some(record(10)));
        assert!(raw.ack().iter().eq([record(6), record(8)]), "the fifth is not counted");
    }

    #[test]
    fn a_count_above_five_means_five() {
        let mut ack = Ack::new();
        while ack.push(record(2 + 2 * ack.len() as u64)) {}
        let mut raw = RawAck::new(&HEADER, &ack);
        raw.num_acks = u16::MAX.into();
        assert_eq!(raw.ack(), ack);
    }
}
