//! A way to a destination, as the bytes to put in front of a Homa packet.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr};

use super::HOMA_PROTOCOL;
use super::checksum;
use super::ethernet::{ETHERTYPE_IPV4, HEADER_BYTES, Link, TAGGED_HEADER_BYTES};
use super::ipv4;
use super::mac::MacAddr;

/// The prebuilt Ethernet and IPv4 header to one destination.
///
/// Valid as long as [`Stack::generation`](super::Stack::generation) stays what it was when the path
/// was given out.
#[derive(Clone, Copy)]
pub struct Path {
    link: [u8; TAGGED_HEADER_BYTES],
    is_tagged: bool,
    /// Whether the tag carries the priority of the packet.
    pcp_from_priority: bool,
    ip: [u8; ipv4::HEADER_BYTES],
    /// The partial checksum of `ip`.
    ip_sum: u32,
}

impl Path {
    /// Bytes before the Homa packet with the longest headers.
    pub const HEADER_MAX_BYTES: usize = TAGGED_HEADER_BYTES + ipv4::HEADER_BYTES;

    pub(super) fn new(
        link: &Link,
        dst_mac: MacAddr,
        src: Ipv4Addr,
        dst: Ipv4Addr,
        pcp_from_priority: bool,
    ) -> Self {
        let ip = ipv4::header(src, dst, HOMA_PROTOCOL);
        Self {
            link: link.header(dst_mac, ETHERTYPE_IPV4),
            is_tagged: link.vlan.is_some(),
            pcp_from_priority,
            ip,
            ip_sum: checksum::sum_20(&ip),
        }
    }

    /// Bytes in front of the Homa packet: 34, or 38 with an 802.1Q tag.
    #[inline]
    pub const fn header_len(&self) -> usize {
        self.link_len() + ipv4::HEADER_BYTES
    }

    /// The largest Homa packet, header included, that an IP packet of `mtu_bytes` holds: what a
    /// network interface calls MTU, so without the Ethernet header (protocol.md section 2).
    #[inline]
    pub const fn mtu_payload(&self, mtu_bytes: usize) -> usize {
        mtu_bytes.saturating_sub(ipv4::HEADER_BYTES)
    }

    /// Writes the headers for a Homa packet of `payload_len` bytes, header included, at network
    /// priority `priority` (its low three bits count) to the first [`Self::header_len`] bytes of
    /// `out`. The IPv4 checksum is complete.
    ///
    /// # Panics
    ///
    /// If `out` is shorter than [`Self::header_len`] or the IP packet would exceed 65535 bytes.
    #[inline]
    pub fn write(&self, out: &mut [u8], priority: u8, payload_len: usize) {
        let total_bytes = ipv4::HEADER_BYTES + payload_len;
        assert!(
            total_bytes <= ipv4::PACKET_MAX_BYTES,
            "a Homa packet of {payload_len} bytes does not fit in an IPv4 packet: send at most \
             what mtu_payload says"
        );
        let tos = priority << 5;
        let ip_start = self.link_len();
        if self.is_tagged {
            out[..TAGGED_HEADER_BYTES].copy_from_slice(&self.link);
            if self.pcp_from_priority {
                // Both keep the priority in the top three bits of a byte.
                out[HEADER_BYTES] |= tos;
            }
        } else {
            out[..HEADER_BYTES].copy_from_slice(&self.link[..HEADER_BYTES]);
        }
        let mut ip = self.ip;
        ipv4::complete(&mut ip, self.ip_sum, tos, total_bytes as u16);
        out[ip_start..ip_start + ipv4::HEADER_BYTES].copy_from_slice(&ip);
    }

    const fn link_len(&self) -> usize {
        if self.is_tagged { TAGGED_HEADER_BYTES } else { HEADER_BYTES }
    }

    /// The station the frames go to: the destination, or the gateway in front of it.
    pub const fn dst_mac(&self) -> MacAddr {
        let [a, b, c, d, e, f, ..] = self.link;
        MacAddr([a, b, c, d, e, f])
    }

    /// The address the packets go to.
    pub const fn dst(&self) -> IpAddr {
        let [.., a, b, c, d] = self.ip;
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Path({} at {})", self.dst(), self.dst_mac())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr([2, 0x77, 0, 0, 0, 3]);
    const PEER: MacAddr = MacAddr([2, 0x77, 0, 0, 0, 2]);

    fn path(vlan: Option<u16>, pcp_from_priority: bool) -> Path {
        let (src, dst) = (Ipv4Addr::new(10, 77, 0, 3), Ipv4Addr::new(10, 77, 0, 2));
        Path::new(&Link { mac: MAC, vlan }, PEER, src, dst, pcp_from_priority)
    }

    /// The headers of a frame that Linux Homa sent.
    const SEEN: [u8; 34] = [
        0x02, 0x77, 0x00, 0x00, 0x00, 0x02, 0x02, 0x77, 0x00, 0x00, 0x00, 0x03, 0x08, 0x00, 0x45,
        0xe0, 0x00, 0xb0, 0x00, 0x00, 0x40, 0x00, 0x40, 0x92, 0x24, 0x3e, 0x0a, 0x4d, 0x00, 0x03,
        0x0a, 0x4d, 0x00, 0x02,
    ];

    #[test]
    fn the_headers_are_those_of_linux() {
        let path = path(None, true);
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
            let path = path(Some(0x123), pcp_from_priority);
            assert_eq!(path.header_len(), 38);
            let mut out = [0xAA; 38];
            path.write(&mut out, 7, 156);
            assert_eq!((&out[..12], &out[16..]), (&SEEN[..12], &SEEN[12..]));
            assert_eq!(out[12..16], tag);
        }
    }

    #[test]
    fn every_priority_and_length_has_a_valid_checksum() {
        let path = path(None, false);
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

    #[test]
    fn room_for_homa() {
        let path = path(None, false);
        // Less the 56 bytes of a DATA header these are the payloads of protocol.md section 2.
        for (mtu_bytes, payload) in [(1500, 1424), (3000, 2924), (9000, 8924)] {
            assert_eq!(path.mtu_payload(mtu_bytes), payload + 56);
        }
        assert_eq!(path.mtu_payload(19), 0);
    }

    #[test]
    #[should_panic(expected = "65516 bytes does not fit")]
    fn a_packet_too_long_for_ipv4_is_a_bug_of_the_caller() {
        path(None, false).write(&mut [0; 34], 0, 65_516);
    }

    #[test]
    fn a_path_is_small() {
        assert!(size_of::<Path>() <= 64);
    }
}
