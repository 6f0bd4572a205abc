//! What a received frame is.

use core::net::IpAddr;

use super::super::icmpv6;
use super::super::{HOMA_PROTOCOL, arp, ethernet, ipv4, ipv6, marked_tcp};
use super::{Datagram, DropReason, Encapsulation, IpChecksum, MacAddr, Received, Stack};
use crate::time::Nanos;

/// A frame whose Ethernet and IP headers were found right.
pub(super) struct Checked<'a> {
    pub(super) link: ethernet::Header<'a>,
    pub(super) packet: IpPacket,
    /// The IP payload as far as it is in the first segment.
    pub(super) payload: &'a [u8],
}

/// The header of either kind of IP packet.
#[derive(Clone, Copy, Debug)]
pub(super) enum IpPacket {
    V4(ipv4::Packet),
    V6(ipv6::Packet),
}

impl IpPacket {
    pub(super) const fn src(&self) -> IpAddr {
        match self {
            Self::V4(packet) => IpAddr::V4(packet.src),
            Self::V6(packet) => IpAddr::V6(packet.src),
        }
    }

    pub(super) const fn dst(&self) -> IpAddr {
        match self {
            Self::V4(packet) => IpAddr::V4(packet.dst),
            Self::V6(packet) => IpAddr::V6(packet.dst),
        }
    }

    pub(super) const fn protocol(&self) -> u8 {
        match self {
            Self::V4(packet) => packet.protocol,
            Self::V6(packet) => packet.next_header,
        }
    }

    /// The type of service or traffic class.
    pub(super) const fn traffic_class(&self) -> u8 {
        match self {
            Self::V4(packet) => packet.tos,
            Self::V6(packet) => packet.traffic_class,
        }
    }

    pub(super) const fn header_bytes(&self) -> usize {
        match self {
            Self::V4(packet) => packet.header_bytes,
            Self::V6(packet) => packet.header_bytes,
        }
    }

    pub(super) const fn total_bytes(&self) -> usize {
        match self {
            Self::V4(packet) => packet.total_bytes,
            Self::V6(packet) => packet.total_bytes,
        }
    }

    /// Whether it is an ICMP packet of its family.
    pub(super) const fn is_icmp(&self) -> bool {
        match self {
            Self::V4(packet) => packet.protocol == ipv4::PROTOCOL_ICMP,
            Self::V6(packet) => packet.next_header == ipv6::NEXT_HEADER_ICMPV6,
        }
    }
}

impl Stack {
    #[inline(never)]
    pub(super) fn classify(
        &mut self,
        now: Nanos,
        frame: &[u8],
        frame_len: usize,
        checksum: IpChecksum,
    ) -> Result<Received, DropReason> {
        let link = ethernet::Header::parse(frame).ok_or(DropReason::Truncated)?;
        let checked = match link.ethertype {
            ethernet::ETHERTYPE_IPV4 => self.check_ipv4(link, frame, frame_len, checksum)?,
            ethernet::ETHERTYPE_IPV6 => {
                let (link, packet) = self.check_ipv6(link, frame, frame_len)?;
                if packet.dst.is_multicast() || packet.src.is_unspecified() {
                    return self.receive_multicast(now, link, packet, frame);
                }
                checked(link, IpPacket::V6(packet), frame)
            }
            _ => return self.receive_other(now, &link, frame),
        };
        let encapsulation = match checked.packet.protocol() {
            HOMA_PROTOCOL => Encapsulation::Native,
            marked_tcp::PROTOCOL if marked_tcp::is_homa(checked.payload) => {
                self.egress.counters.marked_tcp_received += 1;
                Encapsulation::MarkedTcp
            }
            marked_tcp::PROTOCOL => return Err(DropReason::TcpUnmarked),
            _ if checked.packet.is_icmp() => return self.receive_icmp(now, &checked),
            _ => return Err(DropReason::UnknownProtocol),
        };
        self.egress.counters.homa_received += 1;
        let Checked { link, packet, .. } = checked;
        Ok(Received::Homa(Datagram {
            src: packet.src().into(),
            dst: packet.dst().into(),
            priority: packet.traffic_class() >> 5,
            encapsulation,
            start: link.header_bytes + packet.header_bytes(),
            len: packet.total_bytes() - packet.header_bytes(),
        }))
    }

    /// Whether a frame is an IP packet in order and for us alone.
    pub(super) fn check_ip<'a>(
        &self,
        link: ethernet::Header<'a>,
        frame: &'a [u8],
        frame_len: usize,
        checksum: IpChecksum,
    ) -> Result<Checked<'a>, DropReason> {
        match link.ethertype {
            ethernet::ETHERTYPE_IPV4 => self.check_ipv4(link, frame, frame_len, checksum),
            ethernet::ETHERTYPE_IPV6 => {
                let (link, packet) = self.check_ipv6(link, frame, frame_len)?;
                if packet.dst.is_multicast() || packet.src.is_unspecified() {
                    return Err(DropReason::Group);
                }
                Ok(checked(link, IpPacket::V6(packet), frame))
            }
            _ => Err(DropReason::UnknownEthertype),
        }
    }

    /// Whether an IPv4 frame is in order and for us alone.
    fn check_ipv4<'a>(
        &self,
        link: ethernet::Header<'a>,
        frame: &'a [u8],
        frame_len: usize,
        checksum: IpChecksum,
    ) -> Result<Checked<'a>, DropReason> {
        if link.dst() != self.egress.link.mac {
            let is_group = link.dst().is_group();
            return Err(if is_group { DropReason::Group } else { DropReason::OtherMac });
        }
        self.check_vlan(link.vlan)?;
        let bytes = &frame[link.header_bytes..];
        let packet_bytes = frame_len.max(frame.len()) - link.header_bytes;
        let packet = ipv4::Packet::parse(bytes, packet_bytes, checksum)?;
        let subnet = self.egress.addresses.v4.ok_or(DropReason::OtherAddress)?;
        if packet.dst != subnet.addr {
            let is_group = subnet.is_group(packet.dst);
            return Err(if is_group { DropReason::Group } else { DropReason::OtherAddress });
        }
        let is_own = packet.src == subnet.addr;
        if !subnet.is_host(packet.src) || is_own && !self.loopback {
            return Err(DropReason::MartianSource);
        }
        Ok(checked(link, IpPacket::V4(packet), frame))
    }

    /// Whether an IPv6 frame is in order and for us, perhaps among others.
    fn check_ipv6<'a>(
        &self,
        link: ethernet::Header<'a>,
        frame: &[u8],
        frame_len: usize,
    ) -> Result<(ethernet::Header<'a>, ipv6::Packet), DropReason> {
        if link.dst() != self.egress.link.mac && !link.dst().is_group() {
            return Err(DropReason::OtherMac);
        }
        self.check_vlan(link.vlan)?;
        let packet_bytes = frame_len.max(frame.len()) - link.header_bytes;
        let packet = ipv6::Packet::parse(&frame[link.header_bytes..], packet_bytes)?;
        let ours = &self.egress.addresses;
        let is_group = packet.dst.is_multicast();
        let is_for_us = if is_group {
            packet.dst == ipv6::ALL_NODES || ours.is_solicited_node(packet.dst)
        } else {
            ours.is_own_v6(packet.dst)
        };
        // A group may be sent to one station alone (RFC 6085), one host not to a group of stations.
        if !is_for_us || link.dst().is_group() && !is_group {
            let reason = if is_group { DropReason::Group } else { DropReason::OtherAddress };
            return Err(if link.dst().is_group() { DropReason::Group } else { reason });
        }
        let is_own = ours.is_own_v6(packet.src) && !self.loopback;
        let is_host = ipv6::is_host(packet.src) && !is_own;
        // Only who asks whether an address is free has none. Two users of an address are told apart
        // by their stations.
        let is_icmp = packet.next_header == ipv6::NEXT_HEADER_ICMPV6;
        let is_discovery = is_icmp && (packet.src.is_unspecified() || is_own);
        if is_host || is_discovery { Ok((link, packet)) } else { Err(DropReason::MartianSource) }
    }

    /// An IPv6 packet to a group, or from nobody in particular: Neighbour Discovery or nothing.
    #[cold]
    fn receive_multicast(
        &mut self,
        now: Nanos,
        link: ethernet::Header<'_>,
        packet: ipv6::Packet,
        frame: &[u8],
    ) -> Result<Received, DropReason> {
        let Checked { payload, .. } = checked(link, IpPacket::V6(packet), frame);
        if packet.next_header != ipv6::NEXT_HEADER_ICMPV6 {
            return Err(DropReason::Group);
        }
        if payload.len() < packet.total_bytes - packet.header_bytes {
            return Err(DropReason::IcmpMalformed);
        }
        match icmpv6::Message::parse(payload, &packet)? {
            icmpv6::Message::Neighbor(message) => {
                self.receive_ndp(now, link.src(), packet.src, message)
            }
            icmpv6::Message::Icmp(_) => Err(DropReason::Group),
        }
    }

    #[inline]
    const fn check_vlan(&self, vlan: u16) -> Result<(), DropReason> {
        if vlan == self.vlan || vlan == 0 && self.accept_untagged {
            Ok(())
        } else {
            Err(DropReason::OtherVlan)
        }
    }

    #[cold]
    fn receive_other(
        &mut self,
        now: Nanos,
        link: &ethernet::Header<'_>,
        frame: &[u8],
    ) -> Result<Received, DropReason> {
        if link.dst() != self.egress.link.mac && link.dst() != MacAddr::BROADCAST {
            return Err(DropReason::OtherMac);
        }
        self.check_vlan(link.vlan)?;
        if link.ethertype != ethernet::ETHERTYPE_ARP {
            return Err(DropReason::UnknownEthertype);
        }
        let packet =
            arp::Packet::parse(&frame[link.header_bytes..]).ok_or(DropReason::ArpMalformed)?;
        self.receive_arp(now, &packet)
    }
}

/// The parts of a frame whose headers are right.
fn checked<'a>(link: ethernet::Header<'a>, packet: IpPacket, frame: &'a [u8]) -> Checked<'a> {
    let bytes = &frame[link.header_bytes..];
    let payload = &bytes[packet.header_bytes()..bytes.len().min(packet.total_bytes())];
    Checked { link, packet, payload }
}
