//! Ethernet II headers, untagged or with one 802.1Q tag.

use super::mac::MacAddr;
use super::{ipv6, ndp};

/// Bytes of an untagged header.
pub(super) const HEADER_BYTES: usize = 14;
/// Bytes of a header with one 802.1Q tag.
pub(super) const TAGGED_HEADER_BYTES: usize = 18;
/// The shortest frame that may go on the wire, without its frame check sequence (IEEE 802.3).
pub(super) const FRAME_MIN_BYTES: usize = 60;

pub(super) const ETHERTYPE_IPV4: u16 = 0x0800;
pub(super) const ETHERTYPE_ARP: u16 = 0x0806;
pub(super) const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;

/// The Ethernet header of a received frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header<'a> {
    bytes: &'a [u8; HEADER_BYTES],
    /// The VLAN of the tag, 0 without one: a tag with VLAN 0 carries only a priority (802.1Q).
    pub(super) vlan: u16,
    pub(super) ethertype: u16,
    /// Where the payload starts in the frame.
    pub(super) header_bytes: usize,
}

impl<'a> Header<'a> {
    /// Reads the header, `None` if the frame is too short to hold it.
    #[inline]
    pub(super) fn parse(frame: &'a [u8]) -> Option<Self> {
        let bytes = frame.first_chunk::<HEADER_BYTES>()?;
        let ethertype = u16::from_be_bytes([bytes[12], bytes[13]]);
        if ethertype != ETHERTYPE_VLAN {
            return Some(Self { bytes, vlan: 0, ethertype, header_bytes: HEADER_BYTES });
        }
        let &[c0, c1, t0, t1] = frame[HEADER_BYTES..].first_chunk::<4>()?;
        Some(Self {
            bytes,
            vlan: u16::from_be_bytes([c0, c1]) & 0x0FFF,
            ethertype: u16::from_be_bytes([t0, t1]),
            header_bytes: TAGGED_HEADER_BYTES,
        })
    }

    #[inline]
    pub(super) const fn dst(&self) -> MacAddr {
        let [a, b, c, d, e, f, ..] = *self.bytes;
        MacAddr([a, b, c, d, e, f])
    }

    #[inline]
    pub(super) const fn src(&self) -> MacAddr {
        let [_, _, _, _, _, _, a, b, c, d, e, f, ..] = *self.bytes;
        MacAddr([a, b, c, d, e, f])
    }
}

/// Whether a frame belongs to neighbour discovery (ARP, or the messages of RFC 4861 about
/// neighbours) and so is of interest to every stack that shares the network port, not only to the one
/// whose queue it arrived on.
#[inline]
pub fn is_neighbor_discovery(frame: &[u8]) -> bool {
    const TYPE_AT: usize = ipv6::HEADER_BYTES;
    Header::parse(frame).is_some_and(|header| match header.ethertype {
        ETHERTYPE_ARP => true,
        // None travels behind extension headers.
        ETHERTYPE_IPV6 => frame.get(header.header_bytes..).is_some_and(|packet| {
            packet.len() > TYPE_AT
                && packet[6] == ipv6::NEXT_HEADER_ICMPV6
                && matches!(packet[TYPE_AT], ndp::SOLICITATION | ndp::ADVERTISEMENT)
        }),
        _ => false,
    })
}

/// Our end of the link: what we put in the headers we send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) mac: MacAddr,
    /// The VLAN whose tag we send, if any.
    pub(super) vlan: Option<u16>,
}

impl Link {
    /// Bytes of the headers we send.
    pub(super) const fn header_bytes(&self) -> usize {
        if self.vlan.is_some() { TAGGED_HEADER_BYTES } else { HEADER_BYTES }
    }

    /// A header to `dst`; its first [`Self::header_bytes`] bytes are meant.
    pub(super) fn header(&self, dst: MacAddr, ethertype: u16) -> [u8; TAGGED_HEADER_BYTES] {
        let mut out = [0; TAGGED_HEADER_BYTES];
        out[..6].copy_from_slice(&dst.0);
        out[6..12].copy_from_slice(&self.mac.0);
        if let Some(vlan) = self.vlan {
            out[12..14].copy_from_slice(&ETHERTYPE_VLAN.to_be_bytes());
            out[14..16].copy_from_slice(&vlan.to_be_bytes());
            out[16..18].copy_from_slice(&ethertype.to_be_bytes());
        } else {
            out[12..14].copy_from_slice(&ethertype.to_be_bytes());
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xa]);
    const B: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xb]);

    #[test]
    fn what_is_written_is_read() {
        for vlan in [None, Some(1), Some(4094)] {
            let link = Link { mac: A, vlan };
            let bytes = link.header(B, ETHERTYPE_ARP);
            let header = Header::parse(&bytes[..link.header_bytes()]).unwrap();
            assert_eq!((header.dst(), header.src()), (B, A));
            assert_eq!((header.vlan, header.ethertype), (vlan.unwrap_or(0), ETHERTYPE_ARP));
            assert_eq!(header.header_bytes, link.header_bytes());
        }
    }

    #[test]
    fn tagged_header_byte_by_byte() {
        let bytes = Link { mac: A, vlan: Some(0x123) }.header(B, ETHERTYPE_IPV4);
        let expected = [2, 0, 0, 0, 0, 0xb, 2, 0, 0, 0, 0, 0xa, 0x81, 0x00, 0x01, 0x23, 0x08, 0x00];
        assert_eq!(bytes, expected);
    }

    #[test]
    fn the_priority_bits_of_a_tag_are_not_its_vlan() {
        let mut bytes = Link { mac: A, vlan: Some(0x123) }.header(B, ETHERTYPE_IPV4);
        bytes[14] |= 0xF0;
        assert_eq!(Header::parse(&bytes).unwrap().vlan, 0x123);
    }

    #[test]
    fn short_frames_have_no_header() {
        let tagged = Link { mac: A, vlan: Some(7) }.header(B, ETHERTYPE_ARP);
        for len in 0..TAGGED_HEADER_BYTES {
            assert_eq!(Header::parse(&tagged[..len]), None, "{len} bytes");
        }
        assert!(is_neighbor_discovery(&tagged));
        assert!(!is_neighbor_discovery(&tagged[..17]));
    }
}
