//! IPv4: the header we send, the checks on the header we receive, and what is on our subnet.

use core::net::Ipv4Addr;

use super::checksum;
use super::counters::DropReason;
use super::stack::IpChecksum;

/// Bytes of a header without options, the only kind we send.
pub(super) const HEADER_BYTES: usize = 20;
/// The largest packet the total length field can tell.
pub(super) const PACKET_MAX_BYTES: usize = 65_535;
pub(super) const PROTOCOL_ICMP: u8 = 1;
/// Where the checksum stands.
pub(super) const CHECKSUM: core::ops::Range<usize> = 10..12;

const DONT_FRAGMENT: [u8; 2] = [0x40, 0x00];
/// The "more fragments" bit and the fragment offset: both zero in a whole packet.
const FRAGMENT_MASK: u16 = 0x3FFF;
const TTL: u8 = 64;

/// What a checked header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) tos: u8,
    pub(super) protocol: u8,
    pub(super) src: Ipv4Addr,
    pub(super) dst: Ipv4Addr,
    pub(super) header_bytes: usize,
    /// Header and payload; padding that the link added behind them is not part of it.
    pub(super) total_bytes: usize,
}

impl Packet {
    /// Checks the header at the start of `bytes`, of a packet that fills at most `packet_bytes` of
    /// its frame (RFC 791 section 3.1). Options are skipped, fragments refused.
    #[inline]
    pub(super) fn parse(
        bytes: &[u8],
        packet_bytes: usize,
        checksum: IpChecksum,
    ) -> Result<Self, DropReason> {
        let header = bytes.first_chunk::<HEADER_BYTES>().ok_or(DropReason::Truncated)?;
        let header_bytes = usize::from(header[0] & 0x0F) * 4;
        if header[0] >> 4 != 4 || header_bytes < HEADER_BYTES {
            return Err(DropReason::Ipv4Malformed);
        }
        let sum_is_valid = match checksum {
            IpChecksum::Good => true,
            IpChecksum::Bad => false,
            IpChecksum::Unknown if header_bytes == HEADER_BYTES => {
                checksum::is_valid(checksum::sum_20(header))
            }
            IpChecksum::Unknown => {
                let header = bytes.get(..header_bytes).ok_or(DropReason::Truncated)?;
                checksum::is_valid(checksum::sum(header))
            }
        };
        if !sum_is_valid {
            return Err(DropReason::Ipv4Checksum);
        }
        let total_bytes = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if total_bytes < header_bytes || total_bytes > packet_bytes {
            return Err(DropReason::Ipv4Malformed);
        }
        if header_bytes > bytes.len() {
            return Err(DropReason::Truncated);
        }
        if u16::from_be_bytes([header[6], header[7]]) & FRAGMENT_MASK != 0 {
            return Err(DropReason::Fragment);
        }
        Ok(Self {
            tos: header[1],
            protocol: header[9],
            src: Ipv4Addr::new(header[12], header[13], header[14], header[15]),
            dst: Ipv4Addr::new(header[16], header[17], header[18], header[19]),
            header_bytes,
            total_bytes,
        })
    }
}

/// A header as Linux sends it for Homa (observed.md: ID 0, DF, TTL 64), with type of service, total
/// length and checksum still zero: [`complete`] fills them in.
pub(super) fn header(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[0] = 0x45;
    header[6..8].copy_from_slice(&DONT_FRAGMENT);
    header[8] = TTL;
    header[9] = protocol;
    header[12..16].copy_from_slice(&src.octets());
    header[16..20].copy_from_slice(&dst.octets());
    header
}

/// Completes a copy of [`header`], whose partial sum is `partial`.
#[inline(always)]
pub(super) fn complete(header: &mut [u8; HEADER_BYTES], partial: u32, tos: u8, total_bytes: u16) {
    let sum = checksum::finish(partial + u32::from(tos) + u32::from(total_bytes));
    header[1] = tos;
    header[2..4].copy_from_slice(&total_bytes.to_be_bytes());
    header[CHECKSUM].copy_from_slice(&sum.to_be_bytes());
}

/// The partial checksum of the pseudo header without the length (RFC 9293 section 3.1).
pub(super) fn pseudo_sum(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8) -> u32 {
    checksum::sum(&src.octets()) + checksum::sum(&dst.octets()) + u32::from(protocol)
}

/// Our address and the network it is on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subnet {
    pub(super) addr: Ipv4Addr,
    mask: u32,
    /// The directed broadcast address; networks of one or two addresses have none (RFC 3021).
    broadcast: Option<Ipv4Addr>,
}

impl Subnet {
    /// The network of the first `prefix_len` bits of `addr`, at most 32.
    pub(super) fn new(addr: Ipv4Addr, prefix_len: u8) -> Self {
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix_len)).unwrap_or(0);
        let broadcast = (prefix_len < 31).then(|| Ipv4Addr::from_bits(addr.to_bits() | !mask));
        Self { addr, mask, broadcast }
    }

    /// Whether `addr` can be reached without a gateway.
    pub(super) fn is_on_link(&self, addr: Ipv4Addr) -> bool {
        (addr.to_bits() ^ self.addr.to_bits()) & self.mask == 0
    }

    /// Whether `addr` means several hosts.
    #[inline]
    pub(super) fn is_group(&self, addr: Ipv4Addr) -> bool {
        addr.octets()[0] >= 224 || self.broadcast == Some(addr)
    }

    /// Whether `addr` can be that of one host on the network (RFC 1122 section 3.2.1.3).
    #[inline]
    pub(super) fn is_host(&self, addr: Ipv4Addr) -> bool {
        is_host(addr) && self.broadcast != Some(addr)
    }

    /// Whether `addr` names the network itself; networks of one or two addresses have no such name.
    pub(super) fn is_network(&self, addr: Ipv4Addr) -> bool {
        self.broadcast.is_some() && addr.to_bits() & !self.mask == 0
    }
}

/// Whether `addr` can be that of one host on some network (RFC 1122 section 3.2.1.3).
#[inline]
pub(super) fn is_host(addr: Ipv4Addr) -> bool {
    let first = addr.octets()[0];
    first != 0 && first != 127 && first < 224
}

#[cfg(test)]
mod tests {
    use super::*;

    const SRC: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 2);
    const DST: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 5);

    fn completed(protocol: u8, tos: u8, total_bytes: u16) -> [u8; HEADER_BYTES] {
        let mut out = header(SRC, DST, protocol);
        let partial = checksum::sum_20(&out);
        complete(&mut out, partial, tos, total_bytes);
        out
    }

    /// The IPv4 headers of the published wire vectors.
    #[test]
    fn headers_match_the_wire_vectors() {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        for (protocol, tos, homa_bytes, expected) in [
            (146, 224, 28, "45e0003000004000409223560a0001020a000105"),
            (146, 192, 72, "45c0005c000040004092234a0a0001020a000105"),
            (6, 0, 1480, "450005dc0000400040061f160a0001020a000105"),
        ] {
            assert_eq!(hex(&completed(protocol, tos, 20 + homa_bytes)), expected);
        }
    }

    #[test]
    fn a_good_header_is_read() {
        let mut bytes = completed(146, 0xA0, 48).to_vec();
        bytes.resize(60, 0xEE);
        let expected = Packet {
            tos: 0xA0,
            protocol: 146,
            src: SRC,
            dst: DST,
            header_bytes: 20,
            total_bytes: 48,
        };
        assert_eq!(Packet::parse(&bytes, 60, IpChecksum::Unknown), Ok(expected));
        assert_eq!(Packet::parse(&bytes, 48, IpChecksum::Good), Ok(expected));
    }

    #[test]
    fn options_are_skipped_and_summed() {
        let mut bytes = vec![0x46, 0, 0, 32, 0, 0, 0x40, 0, 64, 146, 0, 0];
        bytes.extend(SRC.octets());
        bytes.extend(DST.octets());
        bytes.extend([0x94, 0x04, 0x00, 0x00]);
        let sum = checksum::finish(checksum::sum(&bytes));
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        bytes.extend([0x55; 8]);
        let packet = Packet::parse(&bytes, 32, IpChecksum::Unknown).unwrap();
        assert_eq!((packet.header_bytes, packet.total_bytes), (24, 32));
        bytes[23] ^= 1;
        let damaged = Packet::parse(&bytes, 32, IpChecksum::Unknown);
        assert_eq!(damaged, Err(DropReason::Ipv4Checksum));
    }

    /// Each row: a byte to change in a good header of a 48-byte packet, what to write there, and the
    /// answer when the NIC vouches for the checksum.
    #[test]
    fn bad_headers_row_by_row() {
        let rows: [(usize, u8, DropReason); 12] = [
            (0, 0x65, DropReason::Ipv4Malformed),
            (0, 0x05, DropReason::Ipv4Malformed),
            (0, 0x44, DropReason::Ipv4Malformed),
            (0, 0x40, DropReason::Ipv4Malformed),
            (0, 0x4F, DropReason::Ipv4Malformed),
            (3, 19, DropReason::Ipv4Malformed),
            (3, 0, DropReason::Ipv4Malformed),
            (3, 49, DropReason::Ipv4Malformed),
            (2, 0xFF, DropReason::Ipv4Malformed),
            (6, 0x20, DropReason::Fragment),
            (6, 0x1F, DropReason::Fragment),
            (7, 0x01, DropReason::Fragment),
        ];
        for (at, value, reason) in rows {
            let mut bytes = completed(146, 0, 48).to_vec();
            bytes.resize(48, 0);
            bytes[at] = value;
            let checked = Packet::parse(&bytes, 48, IpChecksum::Good);
            assert_eq!(checked, Err(reason), "byte {at} = {value:#x}");
            // The same damage is caught by the checksum or the structure when we check ourselves.
            assert!(Packet::parse(&bytes, 48, IpChecksum::Unknown).is_err());
        }
    }

    #[test]
    fn the_verdict_of_the_nic_counts() {
        let mut bytes = completed(146, 0, 20).to_vec();
        let bad = Packet::parse(&bytes, 20, IpChecksum::Bad);
        assert_eq!(bad, Err(DropReason::Ipv4Checksum));
        bytes[8] = 63;
        let unknown = Packet::parse(&bytes, 20, IpChecksum::Unknown);
        assert_eq!(unknown, Err(DropReason::Ipv4Checksum));
        assert!(Packet::parse(&bytes, 20, IpChecksum::Good).is_ok());
    }

    #[test]
    fn short_slices_are_refused() {
        let bytes = completed(146, 0, 20);
        for len in 0..20 {
            let cut = Packet::parse(&bytes[..len], 1500, IpChecksum::Unknown);
            assert_eq!(cut, Err(DropReason::Truncated), "{len} bytes");
        }
        // The options reach past the first segment.
        let mut bytes = bytes;
        bytes[0] = 0x4F;
        bytes[3] = 60;
        for checksum in [IpChecksum::Good, IpChecksum::Unknown] {
            assert_eq!(Packet::parse(&bytes, 1500, checksum), Err(DropReason::Truncated));
        }
    }

    #[test]
    fn subnets() {
        let subnet = |prefix_len| Subnet::new(Ipv4Addr::new(10, 1, 2, 3), prefix_len);
        let ip = Ipv4Addr::new;
        for (prefix_len, addr, on_link, group) in [
            (24, ip(10, 1, 2, 200), true, false),
            (24, ip(10, 1, 3, 3), false, false),
            (24, ip(10, 1, 2, 255), true, true),
            (16, ip(10, 1, 2, 255), true, false),
            (16, ip(10, 1, 255, 255), true, true),
            (31, ip(10, 1, 2, 2), true, false),
            (31, ip(10, 1, 2, 4), false, false),
            (32, ip(10, 1, 2, 3), true, false),
            (32, ip(10, 1, 2, 2), false, false),
            (0, ip(192, 0, 2, 1), true, false),
            (24, ip(255, 255, 255, 255), false, true),
            (24, ip(224, 0, 0, 1), false, true),
        ] {
            let subnet = subnet(prefix_len);
            assert_eq!(subnet.is_on_link(addr), on_link, "{addr}/{prefix_len}");
            assert_eq!(subnet.is_group(addr), group, "{addr}/{prefix_len}");
        }
        for (addr, host) in [
            (ip(10, 1, 2, 9), true),
            (ip(8, 8, 8, 8), true),
            (ip(0, 0, 0, 0), false),
            (ip(127, 0, 0, 1), false),
            (ip(240, 0, 0, 1), false),
            (ip(10, 1, 2, 255), false),
        ] {
            assert_eq!(subnet(24).is_host(addr), host, "{addr}");
        }
    }
}
