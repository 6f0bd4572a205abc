//! ICMP of both families: pings, and errors both ways.

use super::super::egress::Way;
use super::super::event::QuotedPacket;
use super::super::icmp::{self, Message};
use super::super::{ethernet, icmpv6, ipv4, ipv6};
use super::input::{Checked, IpPacket};
use super::{DropReason, IpChecksum, MacAddr, NetEvent, Received, Stack};
use crate::time::Nanos;

/// The smallest MTU an IPv4 link may have (RFC 791).
const IPV4_MTU_MIN_BYTES: u32 = 68;

impl Stack {
    #[cold]
    pub(super) fn receive_icmp(
        &mut self,
        now: Nanos,
        checked: &Checked<'_>,
    ) -> Result<Received, DropReason> {
        let Checked { link, packet, payload } = checked;
        if payload.len() < packet.total_bytes() - packet.header_bytes() {
            return Err(DropReason::IcmpMalformed);
        }
        let message = match packet {
            IpPacket::V4(_) => Message::parse(payload)?,
            IpPacket::V6(packet) => match icmpv6::Message::parse(payload, packet)? {
                icmpv6::Message::Icmp(message) => message,
                icmpv6::Message::Neighbor(message) => {
                    return self.receive_ndp(now, link.src(), packet.src, message);
                }
            },
        };
        let reporter = packet.src();
        if self.egress.addresses.is_own(reporter) && !self.loopback {
            return Err(DropReason::MartianSource);
        }
        match message {
            Message::EchoRequest { rest } => self.answer_echo(now, checked, rest)?,
            Message::Unreachable { cause, code, quoted } => {
                let quoted = self.parse_quoted(packet, quoted)?;
                if quoted.sender_id.is_none() && !self.vague_bucket.take(now) {
                    return Err(DropReason::IcmpNotOurs);
                }
                self.egress.counters.unreachable_received += 1;
                self.egress.tell(NetEvent::PeerUnreachable { reporter, cause, code, quoted });
            }
            Message::PacketTooBig { mtu_bytes, quoted } => {
                let quoted = self.parse_quoted(packet, quoted)?;
                let mtu_bytes = credible_mtu(packet, mtu_bytes, &quoted)?;
                self.egress.counters.mtu_hints_received += 1;
                self.egress.tell(NetEvent::MtuHint { reporter, mtu_bytes, quoted });
            }
        }
        Ok(Received::Consumed)
    }

    /// The Homa packet of ours that an error quotes.
    fn parse_quoted(&self, packet: &IpPacket, quoted: &[u8]) -> Result<QuotedPacket, DropReason> {
        let quoted = match packet {
            IpPacket::V4(_) => icmp::parse_quoted(quoted)?,
            IpPacket::V6(_) => icmpv6::parse_quoted(quoted)?,
        };
        let is_ours = self.egress.addresses.is_own(quoted.src);
        if is_ours { Ok(quoted) } else { Err(DropReason::IcmpNotOurs) }
    }

    fn answer_echo(
        &mut self,
        now: Nanos,
        checked: &Checked<'_>,
        rest: &[u8],
    ) -> Result<(), DropReason> {
        const START_BYTES: usize = 4;
        let Checked { link, packet, .. } = checked;
        let ip_bytes = match packet {
            IpPacket::V4(_) => ipv4::HEADER_BYTES,
            IpPacket::V6(_) => ipv6::HEADER_BYTES,
        };
        let reply_bytes = ip_bytes + START_BYTES + rest.len();
        let may_answer = link.src().is_unicast() && reply_bytes <= self.mtu_bytes();
        if !may_answer || !self.echo_bucket.take(now) {
            return Err(DropReason::EchoRefused);
        }
        // Answers go back the way the question came, so that strangers cannot make us resolve.
        let tos = packet.traffic_class();
        let is_sent = match packet {
            IpPacket::V4(packet) => {
                let start = icmp::echo_reply_start(rest);
                self.egress.send_icmp(way_back_v4(link.src(), packet), tos, &start, rest)
            }
            IpPacket::V6(packet) => {
                let way = way_back_v6(link.src(), packet);
                let start = icmpv6::echo_reply_start(rest, way.src, way.dst);
                self.egress.send_icmpv6(way, tos, &start, rest)
            }
        };
        self.egress.counters.echo_replies_sent += u64::from(is_sent);
        Ok(())
    }

    /// Queues an ICMP port unreachable that answers a received Homa packet whose port nobody
    /// listens on. `offending_frame` is what [`Stack::receive`] was given and took for Homa.
    ///
    /// Counted but not sent beyond the rate limit, and for packets that must not be answered: to or
    /// from more than one host, fragments, ICMP (RFC 1122 section 3.2.2, RFC 4443 section 2.4).
    #[cold]
    pub fn port_unreachable(&mut self, now: Nanos, offending_frame: &[u8]) {
        // The length and checksum were found right before; a first segment may be all we have.
        let frame_len = ethernet::TAGGED_HEADER_BYTES + ipv4::PACKET_MAX_BYTES;
        let checked = ethernet::Header::parse(offending_frame)
            .filter(|link| link.src().is_unicast())
            .and_then(|link| self.check_ip(link, offending_frame, frame_len, IpChecksum::Good).ok())
            .filter(|checked| !checked.packet.is_icmp());
        let Some(checked) = checked else {
            self.egress.counters.port_unreachable_refused += 1;
            return;
        };
        if !self.error_bucket.take(now) {
            self.egress.counters.port_unreachable_limited += 1;
            return;
        }
        let offending = &offending_frame[checked.link.header_bytes..];
        let at_hand_bytes = checked.packet.header_bytes() + checked.payload.len();
        let station = checked.link.src();
        let is_sent = match &checked.packet {
            IpPacket::V4(packet) => {
                let quoted = &offending[..at_hand_bytes.min(icmp::QUOTE_MAX_BYTES)];
                let header = icmp::port_unreachable_header(quoted);
                let way = way_back_v4(station, packet);
                self.egress.send_icmp(way, icmp::ERROR_TOS, &header, quoted)
            }
            IpPacket::V6(packet) => {
                let quoted = &offending[..at_hand_bytes.min(icmpv6::QUOTE_MAX_BYTES)];
                let way = way_back_v6(station, packet);
                let header = icmpv6::port_unreachable_header(quoted, way.src, way.dst);
                self.egress.send_icmpv6(way, icmp::ERROR_TOS, &header, quoted)
            }
        };
        self.egress.counters.port_unreachable_sent += u64::from(is_sent);
    }
}

const fn way_back_v4(mac: MacAddr, packet: &ipv4::Packet) -> Way<core::net::Ipv4Addr> {
    Way { mac, src: packet.dst, dst: packet.src }
}

const fn way_back_v6(mac: MacAddr, packet: &ipv6::Packet) -> Way<core::net::Ipv6Addr> {
    Way { mac, src: packet.dst, dst: packet.src }
}

/// The MTU that a router told, if it can be true of the quoted packet: a legal one, and smaller than
/// the packet that did not fit (RFC 1191, RFC 8201 section 4).
fn credible_mtu(
    packet: &IpPacket,
    mtu_bytes: u32,
    quoted: &QuotedPacket,
) -> Result<u16, DropReason> {
    let min_bytes = match packet {
        IpPacket::V4(_) => IPV4_MTU_MIN_BYTES,
        IpPacket::V6(_) => ipv6::MTU_MIN_BYTES.into(),
    };
    let is_credible = (min_bytes..quoted.packet_bytes).contains(&mtu_bytes);
    u16::try_from(mtu_bytes).ok().filter(|_| is_credible).ok_or(DropReason::IcmpNotOurs)
}
