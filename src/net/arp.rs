//! ARP for IPv4 over Ethernet (RFC 826).

use core::net::Ipv4Addr;

use super::mac::MacAddr;

/// Bytes of a packet.
pub(super) const PACKET_BYTES: usize = 28;

/// Hardware type Ethernet, protocol type IPv4, and the lengths of their addresses.
const ETHERNET_IPV4: [u8; 6] = [0, 1, 0x08, 0x00, 6, 4];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Request,
    Reply,
}

/// A request or reply; the field names are those of RFC 826 written out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) operation: Operation,
    pub(super) sender_mac: MacAddr,
    pub(super) sender_ip: Ipv4Addr,
    pub(super) target_mac: MacAddr,
    pub(super) target_ip: Ipv4Addr,
}

impl Packet {
    /// Reads a packet, `None` unless it is a request or reply for IPv4 over Ethernet from a station
    /// that can have sent it. What follows the packet is padding.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.first_chunk::<PACKET_BYTES>()?;
        let operation = match bytes[6..8] {
            [0, 1] => Operation::Request,
            [0, 2] => Operation::Reply,
            _ => return None,
        };
        let mac = |at: usize| {
            let [a, b, c, d, e, f] = *bytes[at..].first_chunk()?;
            Some(MacAddr([a, b, c, d, e, f]))
        };
        let ip = |at: usize| bytes[at..].first_chunk::<4>().map(|&octets| Ipv4Addr::from(octets));
        let packet = Self {
            operation,
            sender_mac: mac(8)?,
            sender_ip: ip(14)?,
            target_mac: mac(18)?,
            target_ip: ip(24)?,
        };
        (bytes[..6] == ETHERNET_IPV4 && packet.sender_mac.is_unicast()).then_some(packet)
    }

    /// The packet as it goes behind the Ethernet header.
    pub(super) fn to_bytes(self) -> [u8; PACKET_BYTES] {
        let mut out = [0; PACKET_BYTES];
        out[..6].copy_from_slice(&ETHERNET_IPV4);
        out[7] = match self.operation {
            Operation::Request => 1,
            Operation::Reply => 2,
        };
        out[8..14].copy_from_slice(&self.sender_mac.0);
        out[14..18].copy_from_slice(&self.sender_ip.octets());
        out[18..24].copy_from_slice(&self.target_mac.0);
        out[24..28].copy_from_slice(&self.target_ip.octets());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLY: Packet = Packet {
        operation: Operation::Reply,
        sender_mac: MacAddr([2, 0x77, 0, 0, 0, 3]),
        sender_ip: Ipv4Addr::new(10, 77, 0, 3),
        target_mac: MacAddr([2, 0x77, 0, 0, 0, 2]),
        target_ip: Ipv4Addr::new(10, 77, 0, 2),
    };

    /// A reply seen between two Linux hosts.
    const REPLY_BYTES: [u8; PACKET_BYTES] = [
        0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x02, 0x02, 0x77, 0x00, 0x00, 0x00, 0x03, 0x0a,
        0x4d, 0x00, 0x03, 0x02, 0x77, 0x00, 0x00, 0x00, 0x02, 0x0a, 0x4d, 0x00, 0x02,
    ];

    #[test]
    fn a_reply_byte_by_byte() {
        assert_eq!(REPLY.to_bytes(), REPLY_BYTES);
        assert_eq!(Packet::parse(&REPLY_BYTES), Some(REPLY));
        let mut padded = REPLY_BYTES.to_vec();
        padded.resize(46, 0xEE);
        assert_eq!(Packet::parse(&padded), Some(REPLY));
    }

    #[test]
    fn other_packets_are_refused() {
        for (at, value, why) in [
            (1, 6, "hardware type"),
            (2, 0x86, "protocol type"),
            (4, 8, "hardware address length"),
            (5, 16, "protocol address length"),
            (7, 3, "operation"),
            (6, 1, "operation"),
            (8, 0x03, "group sender"),
        ] {
            let mut bytes = REPLY_BYTES;
            bytes[at] = value;
            assert_eq!(Packet::parse(&bytes), None, "{why}");
        }
        let mut bytes = REPLY_BYTES;
        bytes[8..14].fill(0);
        assert_eq!(Packet::parse(&bytes), None, "unspecified sender");
        for len in 0..PACKET_BYTES {
            assert_eq!(Packet::parse(&REPLY_BYTES[..len]), None, "{len} bytes");
        }
    }
}
