//! What messages take on the wire: payload, headers, and the time between frames.
//!
//! A DATA packet costs its payload, the header of Homa, that of IP, and 42 bytes of Ethernet: 18 of
//! header and VLAN tag, 24 of preamble, start delimiter, checksum and gap. That is what pacing charges
//! (protocol.md section 2). Only DATA counts: grants, acks and retransmissions are not known ahead.
//!
//! Over the kernel's TCP and UDP the same is said of segments and datagrams.

use std::net::IpAddr;

use super::workload::Workload;

/// The header of DATA.
const HOMA_BYTES: u32 = 56;
/// TCP with the option of time stamps, which Linux sends.
const TCP_BYTES: u32 = 32;
const UDP_BYTES: u32 = 8;
/// Ethernet with a VLAN tag, preamble, start delimiter, checksum and gap.
const ETHERNET_BYTES: u32 = 42;

/// Cost of packets on one kind of network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireCost {
    segment_bytes: u32,
    packet_bytes: u32,
    /// What stands before a message besides the headers of its packets.
    message_bytes: u32,
}

impl WireCost {
    /// Packets of at most `mtu` bytes of IP, of the family of `address`.
    pub const fn new(mtu: u16, address: IpAddr) -> Self {
        Self::of_headers(mtu, address, HOMA_BYTES, 0)
    }

    /// The same of a TCP connection in which each message stands behind `frame_bytes` of header. It is
    /// the most it can be: TCP joins what is sent at the same time.
    pub const fn tcp(mtu: u16, address: IpAddr, frame_bytes: u32) -> Self {
        Self::of_headers(mtu, address, TCP_BYTES, frame_bytes)
    }

    /// The same of UDP datagrams that begin with `datagram_bytes` of header.
    pub const fn udp(mtu: u16, address: IpAddr, datagram_bytes: u32) -> Self {
        Self::of_headers(mtu, address, UDP_BYTES + datagram_bytes, 0)
    }

    const fn of_headers(mtu: u16, address: IpAddr, bytes: u32, message_bytes: u32) -> Self {
        let ip_bytes = if address.is_ipv4() { 20 } else { 40 };
        let segment = (mtu as u32).saturating_sub(ip_bytes + bytes);
        Self {
            segment_bytes: if segment == 0 { 1 } else { segment },
            packet_bytes: ip_bytes + bytes + ETHERNET_BYTES,
            message_bytes,
        }
    }

    /// Packets with data of a message.
    pub const fn packets(self, message_bytes: u32) -> u32 {
        (self.message_bytes + message_bytes).div_ceil(self.segment_bytes)
    }

    /// Bytes that a message takes.
    pub const fn bytes(self, message_bytes: u32) -> u64 {
        let packets = self.packets(message_bytes) as u64;
        (self.message_bytes + message_bytes) as u64 + packets * self.packet_bytes as u64
    }

    /// Bytes that a message of `workload` takes on average.
    pub fn mean_bytes(self, workload: &Workload) -> f64 {
        workload.mean_of(|size| self.bytes(size) as f64)
    }

    /// DATA packets of a message of `workload` on average.
    pub fn mean_packets(self, workload: &Workload) -> f64 {
        workload.mean_of(|size| f64::from(self.packets(size)))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

    #[test]
    fn packets_end_where_the_mtu_says() {
        let cost = WireCost::new(1500, V4);
        for (size, packets, bytes) in [
            (1, 1, 119),
            (1424, 1, 1424 + 118),
            (1425, 2, 1425 + 2 * 118),
            (1_000_000, 703, 1_000_000 + 703 * 118),
        ] {
            assert_eq!((cost.packets(size), cost.bytes(size)), (packets, bytes), "{size} B");
        }
        let cost = WireCost::new(9000, V6);
        assert_eq!((cost.packets(8904), cost.packets(8905)), (1, 2));
        assert_eq!(cost.bytes(8904), 8904 + 138);
    }

    #[test]
    fn sockets_have_headers_of_their_own() {
        let tcp = WireCost::tcp(1500, V4, 20);
        assert_eq!((tcp.packets(1428), tcp.packets(1429)), (1, 2));
        assert_eq!(tcp.bytes(100), 100 + 20 + 20 + 32 + 42);
        let udp = WireCost::udp(1500, V4, 28);
        assert_eq!((udp.packets(1444), udp.packets(1445)), (1, 2));
        assert_eq!(udp.bytes(2888), 2888 + 2 * (20 + 8 + 28 + 42));
    }

    #[test]
    fn means_are_those_of_the_distribution() {
        let cost = WireCost::new(1500, V4);
        let mixed = Workload::from_csv("t", "100,0.75\n2000,1").unwrap();
        assert_eq!(cost.mean_packets(&mixed), 0.75 + 0.25 * 2.0);
        assert_eq!(cost.mean_bytes(&mixed), 0.75 * 218.0 + 0.25 * (2000.0 + 236.0));
    }
}
