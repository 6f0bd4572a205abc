//! What leaves a stack on its own account: frames and events, counted.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::address::Addresses;
use super::counters::Counters;
use super::ethernet::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Link};
use super::event::{EventQueue, NetEvent};
use super::mac::MacAddr;
use super::neighbor::Action;
use super::outbox::Outbox;
use super::{arp, checksum, icmpv6, ipv4, ipv6, ndp};

#[derive(Debug)]
pub(super) struct Egress {
    pub(super) link: Link,
    pub(super) addresses: Addresses,
    pub(super) outbox: Outbox,
    pub(super) events: EventQueue,
    /// The counters of the whole stack.
    pub(super) counters: Counters,
}

/// Where an answer of our own goes: the station, from which address to which.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way<A> {
    pub(super) mac: MacAddr,
    pub(super) src: A,
    pub(super) dst: A,
}

impl Egress {
    /// Does what the neighbour table wants done, if there is room.
    pub(super) fn act(&mut self, action: Action) -> bool {
        match action {
            Action::Solicit { ip: IpAddr::V4(ip), to } => self.send_arp_request(ip, to),
            Action::Solicit { ip: IpAddr::V6(ip), to } => self.send_solicitation(ip, to),
            Action::Resolved(ip) => self.tell(NetEvent::Resolved(ip)),
            Action::Failed(ip) => {
                self.counters.resolutions_failed += 1;
                self.tell(NetEvent::ResolutionFailed(ip))
            }
        }
    }

    pub(super) fn tell(&mut self, event: NetEvent) -> bool {
        let is_queued = self.events.push(event);
        self.counters.events_lost += u64::from(!is_queued);
        is_queued
    }

    /// Tells everybody that our addresses are ours (RFC 5227 section 2.3, RFC 4861 section 7.2.6), and
    /// asks whether somebody uses one of IPv6 (RFC 4862 section 5.4).
    pub(super) fn announce_all(&mut self) {
        if let Some(ip) = self.addresses.source_for_v4() {
            self.announce(IpAddr::V4(ip));
        }
        for at in 0..self.addresses.v6.len() {
            let ip = self.addresses.v6[at].addr;
            self.send_probe(ip);
            self.announce(IpAddr::V6(ip));
        }
    }

    /// Tells everybody that `ip`, one of our addresses, is ours.
    pub(super) fn announce(&mut self, ip: IpAddr) {
        let is_sent = match ip {
            IpAddr::V4(ip) => {
                let nobody = MacAddr::UNSPECIFIED;
                self.send_arp(MacAddr::BROADCAST, arp::Operation::Request, nobody, ip)
            }
            IpAddr::V6(ip) => self.send_advertisement(ip, None),
        };
        self.counters.announcements_sent += u64::from(is_sent);
    }

    // ---- ARP ---------------------------------------------------------------------------------

    /// Asks who has `ip`: the station `to`, or everybody.
    fn send_arp_request(&mut self, ip: Ipv4Addr, to: Option<MacAddr>) -> bool {
        let dst = to.unwrap_or(MacAddr::BROADCAST);
        let target_mac = to.unwrap_or(MacAddr::UNSPECIFIED);
        let is_sent = self.send_arp(dst, arp::Operation::Request, target_mac, ip);
        self.counters.arp_requests_sent += u64::from(is_sent);
        is_sent
    }

    /// Tells the station `mac`, which has `ip`, that our address is ours.
    pub(super) fn send_arp_reply(&mut self, ip: Ipv4Addr, mac: MacAddr) {
        if self.send_arp(mac, arp::Operation::Reply, mac, ip) {
            self.counters.arp_replies_sent += 1;
        }
    }

    fn send_arp(
        &mut self,
        dst: MacAddr,
        operation: arp::Operation,
        target_mac: MacAddr,
        target_ip: Ipv4Addr,
    ) -> bool {
        let Some(sender_ip) = self.addresses.source_for_v4() else { return false };
        let packet =
            arp::Packet { operation, sender_mac: self.link.mac, sender_ip, target_mac, target_ip };
        self.send(dst, ETHERTYPE_ARP, [&packet.to_bytes(), &[], &[]])
    }

    // ---- Neighbour Discovery -----------------------------------------------------------------

    /// Asks who has `target`: the station `to`, or all that may have it (RFC 4861 section 7.2.2).
    fn send_solicitation(&mut self, target: Ipv6Addr, to: Option<MacAddr>) -> bool {
        let Some(src) = self.addresses.source_for_v6(target) else { return false };
        let dst = if to.is_some() { target } else { ipv6::solicited_node(target) };
        let mac = to.unwrap_or_else(|| ipv6::multicast_mac(dst));
        let source_mac = Some(self.link.mac);
        let message = ndp::Message::Solicitation { target, source_mac };
        let is_sent = self.send_ndp(Way { mac, src, dst }, message);
        self.counters.nd_solicitations_sent += u64::from(is_sent);
        is_sent
    }

    /// Asks whether somebody else has our address `target`.
    fn send_probe(&mut self, target: Ipv6Addr) {
        let dst = ipv6::solicited_node(target);
        let way = Way { mac: ipv6::multicast_mac(dst), src: Ipv6Addr::UNSPECIFIED, dst };
        let message = ndp::Message::Solicitation { target, source_mac: None };
        if self.send_ndp(way, message) {
            self.counters.nd_solicitations_sent += 1;
        }
    }

    /// Tells the host and station `to`, which asked, or everybody, that our address `target` is ours
    /// (RFC 4861 sections 7.2.4 and 7.2.6).
    pub(super) fn send_advertisement(
        &mut self,
        target: Ipv6Addr,
        to: Option<(Ipv6Addr, MacAddr)>,
    ) -> bool {
        let group = ipv6::ALL_NODES;
        let (dst, mac) = to.unwrap_or_else(|| (group, ipv6::multicast_mac(group)));
        let message = ndp::Message::Advertisement {
            target,
            target_mac: Some(self.link.mac),
            is_solicited: to.is_some(),
            is_override: true,
        };
        self.send_ndp(Way { mac, src: target, dst }, message)
    }

    fn send_ndp(&mut self, way: Way<Ipv6Addr>, message: ndp::Message) -> bool {
        let mut room = ndp::Message::room();
        let bytes = message.emit(&mut room);
        icmpv6::complete(bytes, way.src, way.dst);
        self.send_ipv6(way, 0, ndp::HOP_LIMIT, bytes, &[])
    }

    // ---- ICMP --------------------------------------------------------------------------------

    /// Sends an ICMP message, made of `start` and `rest`.
    pub(super) fn send_icmp(
        &mut self,
        way: Way<Ipv4Addr>,
        tos: u8,
        start: &[u8],
        rest: &[u8],
    ) -> bool {
        let mut header = ipv4::header(way.src, way.dst, ipv4::PROTOCOL_ICMP);
        let partial = checksum::sum_20(&header);
        let total_bytes = header.len() + start.len() + rest.len();
        ipv4::complete(&mut header, partial, tos, total_bytes as u16);
        self.send(way.mac, ETHERTYPE_IPV4, [&header, start, rest])
    }

    /// Sends an ICMPv6 message, made of `start` and `rest`.
    pub(super) fn send_icmpv6(
        &mut self,
        way: Way<Ipv6Addr>,
        traffic_class: u8,
        start: &[u8],
        rest: &[u8],
    ) -> bool {
        self.send_ipv6(way, traffic_class, ipv6::HOP_LIMIT, start, rest)
    }

    fn send_ipv6(
        &mut self,
        way: Way<Ipv6Addr>,
        traffic_class: u8,
        hop_limit: u8,
        start: &[u8],
        rest: &[u8],
    ) -> bool {
        let mut header = ipv6::header(way.src, way.dst, ipv6::NEXT_HEADER_ICMPV6, hop_limit);
        ipv6::complete(&mut header, traffic_class, (start.len() + rest.len()) as u16);
        self.send(way.mac, ETHERTYPE_IPV6, [&header, start, rest])
    }

    /// Queues a frame whose payload is made of `parts`.
    fn send(&mut self, dst: MacAddr, ethertype: u16, parts: [&[u8]; 3]) -> bool {
        let link = self.link.header(dst, ethertype);
        let [first, second, third] = parts;
        let link = &link[..self.link.header_bytes()];
        let is_queued = self.outbox.push(&[link, first, second, third]);
        if !is_queued {
            self.counters.own_frames_lost += 1;
        }
        is_queued
    }
}
