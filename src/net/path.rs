//! A way to a destination, as the bytes to put in front of a Homa packet.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::checksum;
use super::ethernet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, HEADER_BYTES, Link, TAGGED_HEADER_BYTES};
use super::mac::MacAddr;
use super::stack::Encapsulation;
use super::{HOMA_PROTOCOL, ipv4, ipv6, marked_tcp};

/// The length of the headers of most paths: no tag, IPv4.
const PLAIN_BYTES: usize = HEADER_BYTES + ipv4::HEADER_BYTES;

/// The prebuilt Ethernet and IP header to one destination.
///
/// Valid as long as [`Stack::generation`](super::Stack::generation) stays what it was when the path
/// was given out.
#[derive(Clone, Copy)]
pub struct Path {
    /// Ethernet header, tag if any, IP header.
    headers: [u8; Self::HEADER_MAX_BYTES],
    link_bytes: u8,
    header_bytes: u8,
    /// Whether the tag carries the priority of the packet.
    pcp_from_priority: bool,
    encapsulation: Encapsulation,
    /// Bytes of the largest Homa packet that fits, header included.
    payload_max: u16,
    /// The partial checksum of an IPv4 header.
    ip_sum: u32,
    /// The partial checksum of TCP's pseudo header without the length.
    pseudo_sum: u32,
}

/// What a path is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    pub(super) dst_mac: MacAddr,
    pub(super) addresses: RouteAddresses,
    pub(super) pcp_from_priority: bool,
    pub(super) encapsulation: Encapsulation,
    /// Bytes of the largest IP packet.
    pub(super) mtu_bytes: u16,
}

/// Source and destination.
#[derive(Clone, Copy, Debug)]
pub(super) enum RouteAddresses {
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

impl Path {
    /// Bytes before the Homa packet with the longest headers.
    pub const HEADER_MAX_BYTES: usize = TAGGED_HEADER_BYTES + ipv6::HEADER_BYTES;

    pub(super) fn new(link: &Link, route: &Route) -> Self {
        let protocol = match route.encapsulation {
            Encapsulation::Native => HOMA_PROTOCOL,
            Encapsulation::MarkedTcp => marked_tcp::PROTOCOL,
        };
        let link_bytes = link.header_bytes();
        let mut headers = [0; Self::HEADER_MAX_BYTES];
        let (ethertype, ip_bytes, ip_sum, pseudo_sum) = match route.addresses {
            RouteAddresses::V4(src, dst) => {
                let ip = ipv4::header(src, dst, protocol);
                headers[link_bytes..][..ip.len()].copy_from_slice(&ip);
                let pseudo = ipv4::pseudo_sum(src, dst, marked_tcp::PROTOCOL);
                (ETHERTYPE_IPV4, ip.len(), checksum::sum_20(&ip), pseudo)
            }
            RouteAddresses::V6(src, dst) => {
                let ip = ipv6::header(src, dst, protocol, ipv6::HOP_LIMIT);
                headers[link_bytes..][..ip.len()].copy_from_slice(&ip);
                let pseudo = ipv6::pseudo_sum(src, dst, marked_tcp::PROTOCOL, 0);
                (ETHERTYPE_IPV6, ip.len(), 0, pseudo)
            }
        };
        let ethernet = link.header(route.dst_mac, ethertype);
        headers[..link_bytes].copy_from_slice(&ethernet[..link_bytes]);
        Self {
            headers,
            link_bytes: link_bytes as u8,
            header_bytes: (link_bytes + ip_bytes) as u8,
            pcp_from_priority: route.pcp_from_priority && link.vlan.is_some(),
            encapsulation: route.encapsulation,
            payload_max: route.mtu_bytes.saturating_sub(ip_bytes as u16),
            ip_sum,
            pseudo_sum,
        }
    }

    /// Bytes in front of the Homa packet: 34 with IPv4, 54 with IPv6, 4 more with an 802.1Q tag.
    #[inline]
    pub const fn header_len(&self) -> usize {
        self.header_bytes as usize
    }

    /// Bytes of the Ethernet header, with its tag.
    #[inline]
    pub const fn link_len(&self) -> usize {
        self.link_bytes as usize
    }

    /// Bytes of the IP header.
    #[inline]
    pub const fn ip_len(&self) -> usize {
        (self.header_bytes - self.link_bytes) as usize
    }

    /// Bytes of the largest Homa packet, header included, that gets to the destination in one piece
    /// (protocol.md section 2).
    #[inline]
    pub const fn payload_max(&self) -> usize {
        self.payload_max as usize
    }

    /// How Homa packets are wrapped.
    #[inline]
    pub const fn encapsulation(&self) -> Encapsulation {
        self.encapsulation
    }

    /// Whether a Homa packet of `payload_len` bytes, header included, goes as it is: native, and not
    /// too large.
    #[inline]
    pub fn takes(&self, payload_len: usize) -> bool {
        payload_len <= self.payload_max() && self.encapsulation == Encapsulation::Native
    }

    /// Writes the headers for a Homa packet of `payload_len` bytes, header included, at network
    /// priority `priority` (its low three bits count) to the first [`Self::header_len`] bytes of
    /// `out`. The IPv4 checksum is complete.
    ///
    /// # Panics
    ///
    /// If `out` is shorter than [`Self::header_len`] or the length fields cannot hold the length.
    #[inline(always)]
    pub fn write(&self, out: &mut [u8], priority: u8, payload_len: usize) {
        let priority_bits = priority << 5;
        let total_bytes = payload_len + ipv4::HEADER_BYTES;
        if total_bytes > ipv4::PACKET_MAX_BYTES {
            does_not_fit(payload_len);
        }
        if self.header_len() == PLAIN_BYTES
            && let Some(out) = out.first_chunk_mut::<PLAIN_BYTES>()
            && let Some(headers) = self.headers.first_chunk()
        {
            *out = *headers;
            if let Some(ip) = out.last_chunk_mut() {
                ipv4::complete(ip, self.ip_sum, priority_bits, total_bytes as u16);
            }
        } else {
            self.write_other(out, priority_bits, payload_len as u16);
        }
    }

    /// With a tag, or with IPv6.
    #[inline(never)]
    fn write_other(&self, out: &mut [u8], priority_bits: u8, payload_bytes: u16) {
        let header_bytes = self.header_len();
        out[..header_bytes].copy_from_slice(&self.headers[..header_bytes]);
        if self.pcp_from_priority {
            // Both keep the priority in the top three bits of a byte.
            out[HEADER_BYTES] |= priority_bits;
        }
        let ip = &mut out[self.link_len()..header_bytes];
        if let Some(ip) = ip.first_chunk_mut::<{ ipv6::HEADER_BYTES }>() {
            ipv6::complete(ip, priority_bits, payload_bytes);
        } else if let Some(ip) = ip.first_chunk_mut::<{ ipv4::HEADER_BYTES }>() {
            let total_bytes = payload_bytes + ipv4::HEADER_BYTES as u16;
            ipv4::complete(ip, self.ip_sum, priority_bits, total_bytes);
        }
    }

    /// The TCP checksum of a Homa packet that consists of `header`, whose own checksum is zero, and
    /// `payload` (RFC 9293 section 3.1).
    pub fn tcp_checksum(&self, header: &[u8], payload: &[u8]) -> u16 {
        self.tcp_checksum_with(header, Self::payload_checksum(payload), payload.len())
    }

    /// What [`Self::tcp_checksum_with`] needs to know of a payload.
    pub fn payload_checksum(payload: &[u8]) -> u16 {
        checksum::fold(checksum::sum(payload))
    }

    /// As [`Self::tcp_checksum`], of a payload of `payload_len` bytes of which
    /// [`Self::payload_checksum`] is known. The header has an even number of bytes.
    pub fn tcp_checksum_with(&self, header: &[u8], payload_sum: u16, payload_len: usize) -> u16 {
        debug_assert!(header.len().is_multiple_of(2) || payload_len == 0);
        let bytes = (header.len() + payload_len) as u32;
        checksum::finish(self.pseudo_sum + bytes + checksum::sum(header) + u32::from(payload_sum))
    }

    /// Takes the IPv4 checksum out of headers that [`Self::write`] has written: the port is to fill
    /// it in.
    pub fn clear_ipv4_checksum(&self, out: &mut [u8]) {
        if !self.is_ipv6() {
            out[self.link_len()..][ipv4::CHECKSUM].fill(0);
        }
    }

    /// What a port that fills in TCP checksums wants to find in the field: the sum of the pseudo
    /// header of a Homa packet of `payload_len` bytes. A port that also cuts packets into segments
    /// adds the lengths by itself and wants `None`.
    pub const fn tcp_pseudo_checksum(&self, payload_len: Option<usize>) -> u16 {
        let bytes = match payload_len {
            Some(bytes) => bytes as u32,
            None => 0,
        };
        checksum::fold(self.pseudo_sum + bytes)
    }

    /// The station the frames go to: the destination, or the gateway in front of it.
    pub const fn dst_mac(&self) -> MacAddr {
        let [a, b, c, d, e, f, ..] = self.headers;
        MacAddr([a, b, c, d, e, f])
    }

    /// The address the packets go to.
    pub fn dst(&self) -> IpAddr {
        let headers = &self.headers[..self.header_len()];
        let v6 = headers.last_chunk::<16>().filter(|_| self.is_ipv6());
        let v4 = headers.last_chunk::<4>();
        v6.map(|&octets| IpAddr::from(octets))
            .or_else(|| v4.map(|&octets| IpAddr::from(octets)))
            .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }

    /// Whether the destination has an IPv6 address.
    #[inline]
    pub const fn is_ipv6(&self) -> bool {
        self.ip_len() == ipv6::HEADER_BYTES
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Path({} at {})", self.dst(), self.dst_mac())
    }
}

#[cold]
#[inline(never)]
fn does_not_fit(payload_len: usize) -> ! {
    panic!(
        "a Homa packet of {payload_len} bytes does not fit in an IP packet: send at most what \
         payload_max says"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr([2, 0x77, 0, 0, 0, 3]);
    const PEER: MacAddr = MacAddr([2, 0x77, 0, 0, 0, 2]);
    const V4: RouteAddresses =
        RouteAddresses::V4(Ipv4Addr::new(10, 77, 0, 3), Ipv4Addr::new(10, 77, 0, 2));
    const V6: RouteAddresses = RouteAddresses::V6(
        Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 3),
        Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2),
    );
    const ROUTE: Route = Route {
        dst_mac: PEER,
        addresses: V4,
        pcp_from_priority: false,
        encapsulation: Encapsulation::Native,
        mtu_bytes: 1500,
    };

    fn path(vlan: Option<u16>, route: Route) -> Path {
        Path::new(&Link { mac: MAC, vlan }, &route)
    }

    /// The headers of a frame that Linux Homa sent.
    const SEEN: [u8; 34] = [
        0x02, 0x77, 0x00, 0x00, 0x00, 0x02, 0x02, 0x77, 0x00, 0x00, 0x00, 0x03, 0x08, 0x00, 0x45,
        0xe0, 0x00, 0xb0, 0x00, 0x00, 0x40, 0x00, 0x40, 0x92, 0x24, 0x3e, 0x0a, 0x4d, 0x00, 0x03,
        0x0a, 0x4d, 0x00, 0x02,
    ];

    #[test]
    fn the_headers_are_those_of_linux() {
        let path = path(None, ROUTE);
        assert_eq!((path.header_len(), path.dst_mac()), (34, PEER));
        let mut out = [0xAA; 40];
        path.write(&mut out, 7, 156);
        assert_eq!(out[..34], SEEN);
        assert_eq!(out[34..], [0xAA; 6]);
    }

    #[test]
    fn a_tag_lies_between() {
        for (pcp_from_priority, tag) in
            [(false, [0x81, 0x00, 0x01, 0x23]), (true, [0x81, 0x00, 0xE1, 0x23])]
        {
            let path = path(Some(0x123), Route { pcp_from_priority, ..ROUTE });
            assert_eq!(path.header_len(), 38);
            let mut out = [0xAA; 38];
            path.write(&mut out, 7, 156);
            assert_eq!((&out[..12], &out[16..]), (&SEEN[..12], &SEEN[12..]));
            assert_eq!(out[12..16], tag);
        }
    }

    #[test]
    fn ipv6_with_and_without_a_tag() {
        for vlan in [None, Some(0x123)] {
            let path = path(vlan, Route { addresses: V6, pcp_from_priority: true, ..ROUTE });
            let start = if vlan.is_some() { 18 } else { 14 };
            assert_eq!((path.header_len(), path.ip_len()), (start + 40, 40));
            assert_eq!(path.dst(), "fd77::2".parse::<IpAddr>().unwrap());
            let mut out = vec![0xAA; start + 40];
            path.write(&mut out, 5, 156);
            assert_eq!(out[start - 2..start], [0x86, 0xdd]);
            let packet = ipv6::Packet::parse(&out[start..], 196).unwrap();
            assert_eq!((packet.traffic_class, packet.next_header), (0xA0, 146));
            assert_eq!((packet.hop_limit, packet.total_bytes), (64, 196));
            assert_eq!(out[12..14] == [0x81, 0x00], vlan.is_some());
        }
    }

    #[test]
    fn every_priority_and_length_has_a_valid_checksum() {
        let path = path(None, ROUTE);
        let mut out = [0; 34];
        for priority in 0..8 {
            for payload_len in (0..=65_515).step_by(7).chain([65_515]) {
                path.write(&mut out, priority, payload_len);
                assert_eq!(out[15], priority << 5);
                let header = out[14..].first_chunk().unwrap();
                assert!(checksum::is_valid(checksum::sum_20(header)), "{priority} {payload_len}");
            }
        }
    }

    /// A single-packet request of Linux Homa with TCP hijacking, with its checksum.
    #[test]
    fn marked_tcp_has_a_checksum_of_tcp() {
        let encapsulation = Encapsulation::MarkedTcp;
        for addresses in [V4, V6] {
            let path = path(None, Route { addresses, encapsulation, ..ROUTE });
            let protocol_at = if path.is_ipv6() { 14 + 6 } else { 14 + 9 };
            let mut out = [0; 54];
            path.write(&mut out, 0, 61);
            assert_eq!(out[protocol_at], 6);
            let mut header: Vec<u8> = (0..56).collect();
            header[16..18].fill(0);
            let payload = [0xF1, 0xF2, 0xF3, 0xF4, 0xF5];
            let sum = path.tcp_checksum(&header, &payload);
            header[16..18].copy_from_slice(&sum.to_be_bytes());
            let pseudo = u32::from(path.tcp_pseudo_checksum(Some(61)));
            let whole = [header, payload.to_vec()].concat();
            assert!(checksum::is_valid(pseudo + checksum::sum(&whole)));
            let no_length = u32::from(path.tcp_pseudo_checksum(None));
            assert!(checksum::is_valid(no_length + 61 + checksum::sum(&whole)));
        }
    }

    #[test]
    fn room_for_homa() {
        // Less the 56 bytes of a DATA header these are the payloads of protocol.md section 2.
        for (mtu_bytes, v4, v6) in [(1500, 1424, 1404), (3000, 2924, 2904), (9000, 8924, 8904)] {
            for (addresses, payload) in [(V4, v4), (V6, v6)] {
                let path = path(None, Route { addresses, mtu_bytes, ..ROUTE });
                assert_eq!(path.payload_max(), payload + 56);
                assert!(path.takes(payload + 56) && !path.takes(payload + 57));
            }
        }
        let marked = Route { encapsulation: Encapsulation::MarkedTcp, ..ROUTE };
        assert!(!path(None, marked).takes(28));
    }

    #[test]
    #[should_panic(expected = "65516 bytes does not fit")]
    fn a_packet_too_long_for_ip_is_a_bug_of_the_caller() {
        path(None, ROUTE).write(&mut [0; 34], 0, 65_516);
    }

    #[test]
    fn a_path_is_small() {
        assert!(size_of::<Path>() <= 80);
    }
}
