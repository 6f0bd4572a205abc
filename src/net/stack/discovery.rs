//! ARP and Neighbour Discovery: answering, learning, defending our addresses.

use core::net::{IpAddr, Ipv6Addr};

use super::super::neighbor::{Advert, Heard};
use super::super::{arp, ndp};
use super::{DropReason, MacAddr, NetEvent, Received, Stack};
use crate::time::Nanos;

impl Stack {
    pub(super) fn receive_arp(
        &mut self,
        now: Nanos,
        packet: &arp::Packet,
    ) -> Result<Received, DropReason> {
        self.egress.counters.arp_received += 1;
        let &arp::Packet { sender_mac, sender_ip, target_ip, .. } = packet;
        if sender_mac == self.egress.link.mac {
            return Err(DropReason::OwnMac);
        }
        let sender = IpAddr::V4(sender_ip);
        if self.egress.addresses.is_own(sender) {
            self.contest_address(now, sender, sender_mac);
            return Ok(Received::Consumed);
        }
        let is_request = packet.operation == arp::Operation::Request;
        let is_for_us = is_request && self.egress.addresses.is_own(IpAddr::V4(target_ip));
        let heard = if self.egress.addresses.is_host(sender) {
            self.hear(
                now,
                Advert {
                    ip: sender,
                    mac: sender_mac,
                    // A question for us is a good reason to know who asks; anything else can be
                    // made up.
                    may_learn: is_for_us && self.egress.addresses.is_on_link(sender),
                    is_confirmed: true,
                    is_override: true,
                },
            )
        } else {
            Heard::Ignored
        };
        if is_for_us && self.arp_responder {
            self.egress.send_arp_reply(sender_ip, sender_mac);
        }
        match heard {
            Heard::StaticMismatch => Err(DropReason::StaticMismatch),
            Heard::Ignored if !is_for_us => Err(DropReason::ArpIgnored),
            _ => Ok(Received::Consumed),
        }
    }

    /// A message that passed the checks of RFC 4861 section 7.1, from the host `src` at `station`.
    pub(super) fn receive_ndp(
        &mut self,
        now: Nanos,
        station: MacAddr,
        src: Ipv6Addr,
        message: ndp::Message,
    ) -> Result<Received, DropReason> {
        self.egress.counters.nd_received += 1;
        if !station.is_unicast() {
            return Err(DropReason::NdMalformed);
        }
        if station == self.egress.link.mac {
            return Err(DropReason::OwnMac);
        }
        match message {
            ndp::Message::Solicitation { target, source_mac } => {
                self.receive_solicitation(now, station, src, target, source_mac)
            }
            ndp::Message::Advertisement { target, target_mac, is_solicited, is_override } => {
                let ip = IpAddr::V6(target);
                if self.egress.addresses.is_own(ip) {
                    self.contest_address(now, ip, target_mac.unwrap_or(station));
                    return Ok(Received::Consumed);
                }
                // Where the neighbour is unless it says so is no news (RFC 4861 section 7.2.5): the frame
                // may come from another station than it is reached at.
                let known_mac = self.neighbors.station(ip);
                let mac = target_mac.or(known_mac).ok_or(DropReason::NdIgnored)?;
                let (may_learn, is_confirmed) = (false, is_solicited);
                self.receive_advertisement(
                    now,
                    Advert { ip, mac, may_learn, is_confirmed, is_override },
                )
            }
        }
    }

    fn receive_solicitation(
        &mut self,
        now: Nanos,
        station: MacAddr,
        src: Ipv6Addr,
        target: Ipv6Addr,
        source_mac: Option<MacAddr>,
    ) -> Result<Received, DropReason> {
        if !self.egress.addresses.is_own_v6(target) {
            return Err(DropReason::NdIgnored);
        }
        let asker = IpAddr::V6(src);
        if self.egress.addresses.is_own(asker) {
            self.contest_address(now, asker, station);
            return Ok(Received::Consumed);
        }
        let mut heard = Heard::Ignored;
        let reply_to = (!src.is_unspecified()).then(|| (src, source_mac.unwrap_or(station)));
        if let (Some(mac), true) = (source_mac, self.egress.addresses.is_on_link(asker)) {
            let (may_learn, is_confirmed, is_override) = (true, false, true);
            let advert = Advert { ip: asker, mac, may_learn, is_confirmed, is_override };
            heard = self.hear(now, advert);
        }
        if self.arp_responder && self.egress.send_advertisement(target, reply_to) {
            self.egress.counters.nd_advertisements_sent += 1;
        }
        match heard {
            Heard::StaticMismatch => Err(DropReason::StaticMismatch),
            _ => Ok(Received::Consumed),
        }
    }

    fn receive_advertisement(
        &mut self,
        now: Nanos,
        advert: Advert,
    ) -> Result<Received, DropReason> {
        match self.hear(now, advert) {
            Heard::StaticMismatch => Err(DropReason::StaticMismatch),
            Heard::Ignored => Err(DropReason::NdIgnored),
            _ => Ok(Received::Consumed),
        }
    }

    /// Another station uses our address `ip`: tells so and, if we announce at all, insists.
    fn contest_address(&mut self, now: Nanos, ip: IpAddr, mac: MacAddr) {
        self.egress.counters.address_conflicts += 1;
        if self.arp_responder && self.claim.contest(now) {
            self.egress.tell(NetEvent::AddressConflict { ip, mac });
            if self.announce {
                self.egress.announce(ip);
            }
        }
    }

    fn hear(&mut self, now: Nanos, advert: Advert) -> Heard {
        let egress = &mut self.egress;
        let heard = self.neighbors.heard(now, advert, &mut |action| egress.act(action));
        match heard {
            Heard::Learned => self.egress.counters.neighbors_learned += 1,
            Heard::Moved => self.egress.counters.neighbors_moved += 1,
            Heard::Refreshed | Heard::Ignored | Heard::StaticMismatch => {}
        }
        heard
    }
}
