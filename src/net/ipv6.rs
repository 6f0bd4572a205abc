//! IPv6: the header we send, the checks on the header we receive, kinds of addresses.

use core::net::Ipv6Addr;

use super::checksum;
use super::counters::DropReason;
use super::mac::MacAddr;

/// Bytes of a header without extensions, the only kind we send.
pub(super) const HEADER_BYTES: usize = 40;
pub(super) const NEXT_HEADER_ICMPV6: u8 = 58;
/// Every link carries packets of this size (RFC 8200 section 5).
pub(super) const MTU_MIN_BYTES: u16 = 1280;
/// Hop limit of what we send, like that of Linux.
pub(super) const HOP_LIMIT: u8 = 64;
/// All nodes on the link (RFC 4291 section 2.7.1).
pub(super) const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;
/// Extension headers looked behind. Two are seen in life; more cost time and bring nothing.
const EXTENSIONS_MAX: usize = 4;

/// What a checked header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) traffic_class: u8,
    /// What follows the last extension header.
    pub(super) next_header: u8,
    pub(super) hop_limit: u8,
    pub(super) src: Ipv6Addr,
    pub(super) dst: Ipv6Addr,
    /// Header and extension headers.
    pub(super) header_bytes: usize,
    /// Headers and payload; padding that the link added behind them is not part of it.
    pub(super) total_bytes: usize,
}

impl Packet {
    /// Checks the header at the start of `bytes`, of a packet that fills at most `packet_bytes` of
    /// its frame (RFC 8200 section 3). Extension headers are skipped, fragments refused.
    pub(super) fn parse(bytes: &[u8], packet_bytes: usize) -> Result<Self, DropReason> {
        let header = bytes.first_chunk::<HEADER_BYTES>().ok_or(DropReason::Truncated)?;
        if header[0] >> 4 != 6 {
            return Err(DropReason::Ipv6Malformed);
        }
        let payload_bytes = usize::from(u16::from_be_bytes([header[4], header[5]]));
        let total_bytes = HEADER_BYTES + payload_bytes;
        if total_bytes > packet_bytes {
            return Err(DropReason::Ipv6Malformed);
        }
        let (next_header, header_bytes) = skip_extensions(bytes, header[6], total_bytes)?;
        Ok(Self {
            traffic_class: header[0] << 4 | header[1] >> 4,
            next_header,
            hop_limit: header[7],
            src: address(header, 8),
            dst: address(header, 24),
            header_bytes,
            total_bytes,
        })
    }
}

/// The first header that is no extension, and where it starts.
fn skip_extensions(bytes: &[u8], first: u8, total_bytes: usize) -> Result<(u8, usize), DropReason> {
    let (mut next, mut at) = (first, HEADER_BYTES);
    for _ in 0..=EXTENSIONS_MAX {
        match next {
            HOP_BY_HOP | DESTINATION_OPTIONS | ROUTING => {}
            FRAGMENT => return Err(DropReason::Fragment),
            _ => return Ok((next, at)),
        }
        let &[following, length, _, segments_left] =
            bytes.get(at..).and_then(|rest| rest.first_chunk()).ok_or(DropReason::Truncated)?;
        // A packet to be passed on by us: we are no router.
        if next == ROUTING && segments_left != 0 {
            return Err(DropReason::Ipv6Malformed);
        }
        at += (usize::from(length) + 1) * 8;
        if at > total_bytes {
            return Err(DropReason::Ipv6Malformed);
        }
        if at > bytes.len() {
            return Err(DropReason::Truncated);
        }
        next = following;
    }
    Err(DropReason::Ipv6Malformed)
}

fn address(header: &[u8; HEADER_BYTES], at: usize) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&header[at..at + 16]);
    Ipv6Addr::from(octets)
}

/// A header with traffic class and payload length still zero: [`complete`] fills them in.
///
/// The flow label is the same for all packets between two addresses and not zero, as RFC 6437
/// wants and Linux does.
pub(super) fn header(
    src: Ipv6Addr,
    dst: Ipv6Addr,
    next_header: u8,
    hop_limit: u8,
) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&(0x6000_0000 | flow_label(src, dst)).to_be_bytes());
    header[6] = next_header;
    header[7] = hop_limit;
    header[8..24].copy_from_slice(&src.octets());
    header[24..].copy_from_slice(&dst.octets());
    header
}

/// 20 bits, not all zero, that differ between pairs of addresses.
fn flow_label(src: Ipv6Addr, dst: Ipv6Addr) -> u32 {
    let mixed = (src.to_bits() ^ dst.to_bits().rotate_left(41))
        .wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    (mixed >> 108) as u32 | 1
}

/// Completes a copy of [`header`].
#[inline]
pub(super) fn complete(header: &mut [u8; HEADER_BYTES], traffic_class: u8, payload_bytes: u16) {
    header[0] |= traffic_class >> 4;
    header[1] |= traffic_class << 4;
    header[4..6].copy_from_slice(&payload_bytes.to_be_bytes());
}

/// The partial checksum of the pseudo header (RFC 8200 section 8.1).
pub(super) fn pseudo_sum(src: Ipv6Addr, dst: Ipv6Addr, next_header: u8, bytes: usize) -> u32 {
    checksum::sum(&src.octets())
        + checksum::sum(&dst.octets())
        + u32::from(next_header)
        + bytes as u32
}

/// Whether `addr` can be that of one host on a network (RFC 4291): an IPv4 address in the clothes
/// of IPv6 does not travel.
pub(super) fn is_host(addr: Ipv6Addr) -> bool {
    !addr.is_unspecified()
        && !addr.is_loopback()
        && !addr.is_multicast()
        && addr.to_ipv4_mapped().is_none()
}

/// The group that neighbours ask for `addr` at (RFC 4291 section 2.7.1).
pub(super) fn solicited_node(addr: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = addr.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]))
}

/// The Ethernet address of a multicast group (RFC 2464 section 7).
pub(super) const fn multicast_mac(group: Ipv6Addr) -> MacAddr {
    let [.., a, b, c, d] = group.octets();
    MacAddr([0x33, 0x33, a, b, c, d])
}

/// One of our addresses and the network it is on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subnet {
    pub(super) addr: Ipv6Addr,
    mask: u128,
}

impl Subnet {
    /// The network of the first `prefix_len` bits of `addr`, at most 128.
    pub(super) fn new(addr: Ipv6Addr, prefix_len: u8) -> Self {
        let mask = u128::MAX.checked_shl(128 - u32::from(prefix_len)).unwrap_or(0);
        Self { addr, mask }
    }

    /// Whether `addr` can be reached without a gateway.
    pub(super) fn is_on_link(&self, addr: Ipv6Addr) -> bool {
        (addr.to_bits() ^ self.addr.to_bits()) & self.mask == 0
    }

    /// Whether our address is that of all routers of the network (RFC 4291 section 2.6.1), so not
    /// that of a host. Networks of one or two addresses have none (RFC 6164).
    pub(super) fn is_router_anycast(&self) -> bool {
        !self.mask > 1 && self.addr.to_bits() & !self.mask == 0
    }

    /// How many leading bits `addr` has in common with our address.
    pub(super) fn common_bits(&self, addr: Ipv6Addr) -> u32 {
        (addr.to_bits() ^ self.addr.to_bits()).leading_zeros()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    fn completed(next_header: u8, traffic_class: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = header(ip("fd77::2"), ip("fd77::3"), next_header, HOP_LIMIT);
        complete(&mut out, traffic_class, payload.len() as u16);
        [&out[..], payload].concat()
    }

    /// A header of Linux Homa, but for the flow label, which is any.
    #[test]
    fn the_header_is_that_of_linux() {
        let bytes = completed(146, 0xE0, &[0; 28]);
        assert_eq!((bytes[0], bytes[1] & 0xF0), (0x6E, 0x00));
        assert_ne!(u32::from_be_bytes([0, bytes[1] & 0x0F, bytes[2], bytes[3]]), 0);
        assert_eq!(bytes[4..8], [0, 28, 146, 64]);
        assert_eq!(bytes[8..24], ip("fd77::2").octets());
        assert_eq!(bytes[24..40], ip("fd77::3").octets());
    }

    #[test]
    fn what_is_written_is_read() {
        for traffic_class in [0, 0x20, 0xA5, 0xE0] {
            let mut bytes = completed(146, traffic_class, &[0x55; 30]);
            bytes.resize(90, 0xEE);
            let expected = Packet {
                traffic_class,
                next_header: 146,
                hop_limit: 64,
                src: ip("fd77::2"),
                dst: ip("fd77::3"),
                header_bytes: 40,
                total_bytes: 70,
            };
            assert_eq!(Packet::parse(&bytes, 90), Ok(expected));
            assert_eq!(Packet::parse(&bytes, 70), Ok(expected));
            assert_eq!(Packet::parse(&bytes, 69), Err(DropReason::Ipv6Malformed));
        }
    }

    #[test]
    fn extensions_are_skipped() {
        // Hop-by-hop options of 8 bytes, then destination options of 16, then Homa.
        let mut payload = vec![60, 0, 1, 4, 0, 0, 0, 0, 146, 1, 1, 12];
        payload.resize(24, 0);
        payload.extend([0x55; 28]);
        let packet = Packet::parse(&completed(0, 0, &payload), 100).unwrap();
        assert_eq!((packet.next_header, packet.header_bytes, packet.total_bytes), (146, 64, 92));
        // A source route that has been followed to its end.
        let route = [146, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(Packet::parse(&completed(43, 0, &route), 48).unwrap().header_bytes, 48);
    }

    /// Each row: the first next header, the payload, the answer.
    #[test]
    fn bad_extensions_row_by_row() {
        let endless = [0; 200];
        let rows: [(u8, &[u8], DropReason); 6] = [
            (44, &[146, 0, 0, 0, 0, 0, 0, 1], DropReason::Fragment),
            (60, &[44, 0, 1, 4, 0, 0, 0, 0], DropReason::Fragment),
            (43, &[146, 0, 0, 1, 0, 0, 0, 0], DropReason::Ipv6Malformed),
            (60, &[146, 1, 1, 4, 0, 0, 0, 0], DropReason::Ipv6Malformed),
            (60, &[146, 0, 1], DropReason::Truncated),
            (0, &endless, DropReason::Ipv6Malformed),
        ];
        for (next_header, payload, reason) in rows {
            let bytes = completed(next_header, 0, payload);
            assert_eq!(Packet::parse(&bytes, bytes.len()), Err(reason), "{next_header}");
        }
        // The extension reaches past the first segment.
        let bytes = completed(60, 0, &[146, 3, 1, 4, 0, 0, 0, 0]);
        let mut long = bytes;
        long[5] = 40;
        assert_eq!(Packet::parse(&long, 80), Err(DropReason::Truncated));
    }

    #[test]
    fn short_slices_and_other_versions_are_refused() {
        let bytes = completed(146, 0, &[]);
        for len in 0..40 {
            assert_eq!(Packet::parse(&bytes[..len], 1500), Err(DropReason::Truncated), "{len}");
        }
        let mut bytes = bytes;
        bytes[0] = 0x45;
        assert_eq!(Packet::parse(&bytes, 1500), Err(DropReason::Ipv6Malformed));
    }

    #[test]
    fn groups_and_their_stations() {
        let group = solicited_node(ip("fd77::1:2a34:5678"));
        assert_eq!(group, ip("ff02::1:ff34:5678"));
        assert_eq!(multicast_mac(group).to_string(), "33:33:ff:34:56:78");
        assert_eq!(multicast_mac(ALL_NODES).to_string(), "33:33:00:00:00:01");
    }

    #[test]
    fn hosts_and_others() {
        for (addr, host) in [
            ("fd77::1", true),
            ("fe80::1", true),
            ("2001:db8::1", true),
            ("::", false),
            ("::1", false),
            ("ff02::1", false),
            ("::ffff:10.0.0.1", false),
        ] {
            assert_eq!(is_host(ip(addr)), host, "{addr}");
        }
    }

    #[test]
    fn subnets() {
        let subnet = Subnet::new(ip("fd77::1:5"), 112);
        assert!(subnet.is_on_link(ip("fd77::1:ffff")) && !subnet.is_on_link(ip("fd77::2:5")));
        assert!(!subnet.is_router_anycast());
        assert!(Subnet::new(ip("fd77::"), 64).is_router_anycast());
        assert!(!Subnet::new(ip("fd77::"), 127).is_router_anycast());
        assert!(Subnet::new(ip("fd77::1"), 0).is_on_link(ip("2001:db8::1")));
        assert!(!Subnet::new(ip("fd77::1"), 128).is_on_link(ip("fd77::2")));
    }
}
