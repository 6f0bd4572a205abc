//! Packets of a long message that come one behind the other: their headers differ in the offset alone.

use crate::addr::HostAddr;
use crate::transport::Onward;
use crate::wire::{DATA_HEADER_LEN, Data, Header, RawData};

use zerocopy::FromBytes;

/// Bytes of the headers in a frame without anything unusual: Ethernet, IPv4, Homa.
const HEAD_BYTES: usize = LINK_AND_IP_BYTES + DATA_HEADER_LEN;
const LINK_AND_IP_BYTES: usize = 34;
// Where they say the offset: in two places.
const SEQUENCE_AT: usize = LINK_AND_IP_BYTES + 4;
const SEG_OFFSET_AT: usize = HEAD_BYTES - 4;
/// Where they name the RPC.
const ID_AT: usize = LINK_AND_IP_BYTES + 20;

/// A packet that went on with a message, and what was found in it. What is like it need not be looked into.
pub(super) struct Row {
    head: [u8; HEAD_BYTES],
    pub(super) src: HostAddr,
    pub(super) header: Header,
    data: Data,
    pub(super) onward: Onward,
    /// Bytes of the message that it brought, behind the headers.
    pub(super) payload_bytes: u32,
}

impl Row {
    /// Where payloads begin in frames.
    pub(super) const PAYLOAD_AT: usize = HEAD_BYTES;

    /// The packet in `frame`; `None` if its headers are longer than those of almost all.
    pub(super) fn new(
        frame: &[u8],
        payload_at: usize,
        (src, header, data): (HostAddr, Header, Data),
        onward: Onward,
        payload_bytes: u32,
    ) -> Option<Self> {
        let head = *frame.first_chunk()?;
        (payload_at == HEAD_BYTES).then_some(Self {
            head,
            src,
            header,
            data,
            onward,
            payload_bytes,
        })
    }

    /// What the header of the packet says, if it differs from this one in nothing but the offset.
    #[inline(always)]
    pub(super) fn data_of_next(&self, frame: &[u8]) -> Option<Data> {
        let head: &[u8; HEAD_BYTES] = frame.first_chunk()?;
        if word(head, ID_AT) != word(&self.head, ID_AT) {
            // Of another RPC: almost all that are not like it.
            return None;
        }
        let differences = WORDS.map(|at| word(head, at) ^ word(&self.head, at));
        let is_like = differences.into_iter().fold(0, |all, word| all | word) == 0;
        let is_whole = frame.len() >= HEAD_BYTES + self.payload_bytes as usize;
        if !(is_like && is_whole) {
            return None;
        }
        let raw = RawData::ref_from_bytes(head.last_chunk::<DATA_HEADER_LEN>()?).ok()?;
        Some(Data { offset: raw.data().offset, ..self.data })
    }
}

/// Words that together are all of the headers but the two offsets. Some overlap.
const WORDS: [usize; 11] = [
    0,
    8,
    16,
    24,
    SEQUENCE_AT - 8,
    SEQUENCE_AT + 4,
    SEQUENCE_AT + 12,
    SEQUENCE_AT + 20,
    SEQUENCE_AT + 28,
    SEQUENCE_AT + 36,
    SEG_OFFSET_AT - 8,
];

#[inline(always)]
fn word(head: &[u8; HEAD_BYTES], at: usize) -> u64 {
    let bytes = &head[at..at + 8];
    u64::from_ne_bytes([
        bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7],
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Body, HomaPort, Packet, RpcId};

    const PAYLOAD_BYTES: usize = 500;
    const HEADER: Header =
        Header { sport: HomaPort(32_768), dport: HomaPort(99), sender_id: RpcId(4) };

    fn data(offset: u32) -> Data {
        Data {
            message_length: 50_000,
            incoming: 40_000,
            ack: None,
            cutoff_version: 3,
            retransmit: false,
            incast: false,
            offset,
        }
    }

    /// A frame whose first headers are of no concern here.
    fn frame(offset: u32) -> Vec<u8> {
        let mut frame: Vec<u8> = (0..HEAD_BYTES + PAYLOAD_BYTES).map(|at| at as u8).collect();
        Packet { header: HEADER, body: Body::Data(data(offset)) }
            .emit(&mut frame[LINK_AND_IP_BYTES..]);
        frame
    }

    fn row() -> Row {
        let found = (HostAddr::v4([10, 0, 0, 1].into()), HEADER, data(500));
        Row::new(&frame(500), HEAD_BYTES, found, Onward::default(), PAYLOAD_BYTES as u32).unwrap()
    }

    #[test]
    fn what_differs_in_nothing_but_its_offset_is_like_the_packet_before() {
        assert_eq!(row().data_of_next(&frame(1_000)), Some(data(1_000)));
        assert_eq!(row().data_of_next(&frame(500)), Some(data(500)), "the transport refuses it");
        // Where the one offset does not count the other does (protocol.md section 3.4).
        let mut other = frame(7_000);
        other[SEG_OFFSET_AT..HEAD_BYTES].fill(0xFF);
        assert_eq!(row().data_of_next(&other), Some(data(7_000)));
    }

    #[test]
    fn any_other_difference_in_the_headers_is_seen() {
        let offsets = [SEQUENCE_AT, SEG_OFFSET_AT].map(|at| at..at + 4);
        for at in 0..HEAD_BYTES {
            let mut other = frame(1_000);
            other[at] ^= 0x10;
            let is_seen = row().data_of_next(&other).is_none();
            assert_eq!(is_seen, !offsets.iter().any(|bytes| bytes.contains(&at)), "byte {at}");
        }
    }

    #[test]
    fn the_rpc_is_named_where_it_is_looked_for() {
        assert_eq!(frame(500)[ID_AT..ID_AT + 8], HEADER.sender_id.0.to_be_bytes());
    }

    #[test]
    fn what_is_cut_short_is_not_like_it() {
        let whole = frame(1_000);
        for bytes in 0..whole.len() {
            assert_eq!(row().data_of_next(&whole[..bytes]), None, "{bytes} bytes");
        }
        let padded = [&whole[..], &[0; 9]].concat();
        assert_eq!(row().data_of_next(&padded), Some(data(1_000)));
    }

    #[test]
    fn frames_with_longer_headers_begin_no_row() {
        let found = (HostAddr::v4([10, 0, 0, 1].into()), HEADER, data(500));
        assert!(Row::new(&frame(500), HEAD_BYTES + 4, found, Onward::default(), 10).is_none());
    }
}
