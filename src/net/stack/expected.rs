//! Frames that are as almost all are, told apart in a few steps.

use core::net::Ipv4Addr;

use super::{Datagram, Encapsulation, IpChecksum};
use crate::addr::HostAddr;
use crate::net::ipv4::{self, Subnet};
use crate::net::mac::MacAddr;
use crate::net::{HOMA_PROTOCOL, checksum, ethernet};

const LINK_BYTES: usize = ethernet::HEADER_BYTES;
const HEAD_BYTES: usize = LINK_BYTES + ipv4::HEADER_BYTES;
/// An Ethernet address in eight bytes.
const MAC_MASK: u64 = u64::from_ne_bytes([255, 255, 255, 255, 255, 255, 0, 0]);
/// From the end of the Ethernet header: IPv4, and five words of header.
const KIND: u32 = u32::from_ne_bytes([0x08, 0x00, 0x45, 0]);
const KIND_MASK: u32 = u32::from_ne_bytes([255, 255, 255, 0]);
/// From the middle of the IPv4 header: no fragment, any time to live, Homa.
const PROTOCOL: u32 = u32::from_ne_bytes([0, 0, 0, HOMA_PROTOCOL]);
const PROTOCOL_MASK: u32 = u32::from_ne_bytes([0x3F, 255, 0, 255]);

/// What frames to us look like. Compared as numbers, because a comparison of bytes is one of each.
#[derive(Debug)]
pub(super) struct Expected {
    mac: u64,
    subnet: Subnet,
    loopback: bool,
    /// Source and destination, as they stand in a header, of the frame before: both are good.
    addresses: u64,
}

impl Expected {
    pub(super) fn new(mac: MacAddr, subnet: Subnet, loopback: bool) -> Self {
        let [a, b, c, d, e, f] = mac.0;
        let mac = u64::from_ne_bytes([a, b, c, d, e, f, 0, 0]);
        // One of these is that of another host: a network has one broadcast address at most.
        let other = [1, 2].map(|bit| Ipv4Addr::from_bits(subnet.addr.to_bits() ^ bit));
        let src = if subnet.is_host(other[0]) { other[0] } else { other[1] };
        Self { mac, subnet, loopback, addresses: in_header(src.to_bits(), subnet.addr.to_bits()) }
    }

    /// What [`super::Stack::expected`] says.
    #[inline(always)]
    pub(super) fn datagram(
        &self,
        frame: &[u8],
        frame_len: usize,
        checksum: IpChecksum,
    ) -> Option<Datagram> {
        let head: &[u8; HEAD_BYTES] = frame.first_chunk()?;
        let ip: &[u8; ipv4::HEADER_BYTES] = head.last_chunk()?;
        let dst_mac = u64::from_ne_bytes(*head.first_chunk()?) & MAC_MASK;
        let kind = number(head, LINK_BYTES - 2) & KIND_MASK;
        let protocol = number(head, LINK_BYTES + 6) & PROTOCOL_MASK;
        let total_bytes = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
        let is_plain = (dst_mac ^ self.mac) | u64::from((kind ^ KIND) | (protocol ^ PROTOCOL)) == 0;
        let fits = total_bytes >= ipv4::HEADER_BYTES
            && total_bytes <= frame_len.max(frame.len()) - LINK_BYTES;
        let is_intact = match checksum {
            IpChecksum::Good => true,
            IpChecksum::Bad => false,
            IpChecksum::Unknown => checksum::is_intact_20(ip),
        };
        let addresses = u64::from_ne_bytes(*ip.last_chunk()?);
        let src = Ipv4Addr::new(ip[12], ip[13], ip[14], ip[15]);
        let from_good = addresses == self.addresses || self.is_good(ip, src);
        if !(is_plain && fits && is_intact && from_good) {
            return None;
        }
        Some(Datagram {
            src: HostAddr::v4(src),
            dst: HostAddr::v4(self.subnet.addr),
            priority: ip[1] >> 5,
            encapsulation: Encapsulation::Native,
            start: HEAD_BYTES,
            len: total_bytes - ipv4::HEADER_BYTES,
        })
    }

    /// Whether a packet can have come from `src`, and is for us.
    #[inline(never)]
    fn is_good(&self, ip: &[u8; ipv4::HEADER_BYTES], src: Ipv4Addr) -> bool {
        ip[16..] == self.subnet.addr.octets()
            && (src != self.subnet.addr || self.loopback)
            && self.subnet.is_host(src)
    }

    /// Notes the addresses of a frame that [`Self::datagram`] has found, or that is no different.
    #[inline(always)]
    pub(super) fn note(&mut self, datagram: &Datagram) {
        let [_, src] = datagram.src.halves();
        let [_, dst] = datagram.dst.halves();
        self.addresses = in_header(src as u32, dst as u32);
    }
}

/// Both addresses as a number, as they stand in a header.
#[inline(always)]
fn in_header(src: u32, dst: u32) -> u64 {
    u64::from_ne_bytes((u64::from(src) << 32 | u64::from(dst)).to_be_bytes())
}

#[inline(always)]
fn number(head: &[u8; HEAD_BYTES], at: usize) -> u32 {
    u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn before_the_first_frame_a_good_pair_of_addresses_is_known() {
        for (addr, prefix_len) in [("10.0.0.254", 24), ("10.0.0.1", 30), ("10.0.0.2", 31)] {
            let subnet = Subnet::new(addr.parse().unwrap(), prefix_len);
            let expected = Expected::new(MacAddr([2, 0, 0, 0, 0, 1]), subnet, false);
            let pair = expected.addresses.to_ne_bytes();
            let src = Ipv4Addr::from(*pair.first_chunk::<4>().unwrap());
            let mut ip = [0; ipv4::HEADER_BYTES];
            ip[12..].copy_from_slice(&pair);
            assert!(expected.is_good(&ip, src), "{addr}/{prefix_len}: {src}");
        }
    }
}
