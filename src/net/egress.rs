//! What leaves a stack on its own account: frames and events, counted.

use core::net::{IpAddr, Ipv4Addr};

use super::counters::Counters;
use super::ethernet::{ETHERTYPE_ARP, ETHERTYPE_IPV4, Link};
use super::event::{EventQueue, NetEvent};
use super::mac::MacAddr;
use super::neighbor::Action;
use super::outbox::Outbox;
use super::{arp, checksum, ipv4};

#[derive(Debug)]
pub(super) struct Egress {
    pub(super) link: Link,
    /// Our address.
    pub(super) addr: Ipv4Addr,
    pub(super) outbox: Outbox,
    pub(super) events: EventQueue,
    /// The counters of the whole stack.
    pub(super) counters: Counters,
}

impl Egress {
    /// Does what the neighbour table wants done.
    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::Solicit { ip: IpAddr::V4(ip), to } => self.send_arp_request(ip, to),
            // No IPv6 address gets into the table.
            Action::Solicit { ip: IpAddr::V6(_), .. } => {}
            Action::Resolved(ip) => self.tell(NetEvent::Resolved(ip)),
            Action::Failed(ip) => {
                self.counters.resolutions_failed += 1;
                self.tell(NetEvent::ResolutionFailed(ip));
            }
        }
    }

    pub(super) fn tell(&mut self, event: NetEvent) {
        if !self.events.push(event) {
            self.counters.events_lost += 1;
        }
    }

    /// Asks who has `ip`: the station `to`, or everybody.
    fn send_arp_request(&mut self, ip: Ipv4Addr, to: Option<MacAddr>) {
        let dst = to.unwrap_or(MacAddr::BROADCAST);
        let target_mac = to.unwrap_or(MacAddr::UNSPECIFIED);
        if self.send_arp(dst, arp::Operation::Request, target_mac, ip) {
            self.counters.arp_requests_sent += 1;
        }
    }

    /// Tells the station `mac`, which has `ip`, that our address is ours.
    pub(super) fn send_arp_reply(&mut self, ip: Ipv4Addr, mac: MacAddr) {
        if self.send_arp(mac, arp::Operation::Reply, mac, ip) {
            self.counters.arp_replies_sent += 1;
        }
    }

    /// Tells everybody that our address is ours (RFC 5227 section 2.3).
    pub(super) fn send_announcement(&mut self) {
        let everybody = MacAddr::BROADCAST;
        if self.send_arp(everybody, arp::Operation::Request, MacAddr::UNSPECIFIED, self.addr) {
            self.counters.announcements_sent += 1;
        }
    }

    fn send_arp(
        &mut self,
        dst: MacAddr,
        operation: arp::Operation,
        target_mac: MacAddr,
        target_ip: Ipv4Addr,
    ) -> bool {
        let packet = arp::Packet {
            operation,
            sender_mac: self.link.mac,
            sender_ip: self.addr,
            target_mac,
            target_ip,
        };
        self.send(dst, ETHERTYPE_ARP, [&packet.to_bytes(), &[], &[]])
    }

    /// Sends an ICMP message, made of `start` and `rest`, to `ip` by way of the station `mac`.
    pub(super) fn send_icmp(
        &mut self,
        mac: MacAddr,
        ip: Ipv4Addr,
        tos: u8,
        start: &[u8],
        rest: &[u8],
    ) -> bool {
        let mut header = ipv4::header(self.addr, ip, ipv4::PROTOCOL_ICMP);
        let partial = checksum::sum_20(&header);
        let total_bytes = header.len() + start.len() + rest.len();
        ipv4::complete(&mut header, partial, tos, total_bytes as u16);
        self.send(mac, ETHERTYPE_IPV4, [&header, start, rest])
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
