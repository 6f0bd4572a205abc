//! One network interface with one IPv4 address.

use core::net::{IpAddr, Ipv4Addr};

use super::checksum;
use super::claim::Claim;
use super::config::{Config, ConfigError};
use super::counters::{Counters, DropReason};
use super::egress::Egress;
use super::ethernet::{self, Link};
use super::event::{EventQueue, NetEvent};
use super::icmp::{self, Message};
use super::ipv4::{self, Subnet};
use super::mac::MacAddr;
use super::neighbor::{Heard, Limits, Lookup, NeighborTable};
use super::outbox::{FRAME_MAX_BYTES, Outbox};
use super::path::Path;
use super::token_bucket::TokenBucket;
use super::{HOMA_PROTOCOL, arp, marked_tcp};
use crate::time::Nanos;

#[cfg(test)]
mod tests;

/// What the network interface says about the IPv4 header checksum of a received frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpChecksum {
    /// It was found right; it is not looked at again.
    Good,
    /// It was found wrong.
    Bad,
    /// Nothing; it is verified in software.
    Unknown,
}

/// What became of a received frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// It holds a Homa packet for us.
    Homa(Datagram),
    /// It was for the stack itself. There may be frames to send and events to collect now.
    Consumed,
    /// It is of no use, for this reason. Counted.
    Dropped(DropReason),
}

/// A Homa packet in a received frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// The peer.
    pub src: IpAddr,
    /// Our address.
    pub dst: IpAddr,
    /// The network priority it travelled at, 0 to 7.
    pub priority: u8,
    /// How it was wrapped.
    pub encapsulation: Encapsulation,
    /// Where the Homa header starts in the frame.
    pub start: usize,
    /// Bytes of the Homa packet, its header included; padding of the frame is not. If the frame has
    /// several segments this may reach past the first, but never past the last.
    pub len: usize,
}

/// How a Homa packet lies in an IP packet (protocol.md section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encapsulation {
    /// As IP protocol 146.
    Native,
    /// As IP protocol 6 with the marks that tell it from TCP.
    MarkedTcp,
}

/// Whether and how a destination can be sent to.
#[derive(Clone, Copy, Debug)]
pub enum PathState {
    /// With these headers, as long as [`Stack::generation`] does not change.
    Ready(Path),
    /// Not yet: the next hop was asked. [`NetEvent::Resolved`] or [`NetEvent::ResolutionFailed`]
    /// will follow, with a new generation. Ask again then.
    Resolving,
    /// Not now.
    Unreachable(UnreachableReason),
}

/// Why a destination cannot be sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnreachableReason {
    /// The destination is an IPv6 address and we have none.
    NoIpv6,
    /// The destination is outside the subnet and there is no gateway.
    NoRoute,
    /// The destination is not the address of one host on the network.
    NotUnicast,
    /// The destination is our own address, and frames do not come back to us.
    OwnAddress,
    /// The next hop did not answer; it will not be asked again for
    /// [`Config::arp_failed_ns`].
    NoAnswer,
    /// [`Config::resolving_max`] other next hops are being resolved; try again later.
    TooManyResolutions,
    /// [`Config::neighbors_max`] other next hops are in use.
    TableFull,
}

/// One network interface with one IPv4 address, see the [module](super).
#[derive(Debug)]
pub struct Stack {
    egress: Egress,
    subnet: Subnet,
    /// The VLAN of the frames we receive, 0 for untagged ones.
    vlan: u16,
    accept_untagged: bool,
    loopback: bool,
    pcp_from_priority: bool,
    gateway: Option<Ipv4Addr>,
    announce: bool,
    arp_responder: bool,
    neighbors: NeighborTable,
    claim: Claim,
    error_bucket: TokenBucket,
    echo_bucket: TokenBucket,
}

/// A frame whose Ethernet and IPv4 headers were found right.
struct Checked<'a> {
    link: ethernet::Header<'a>,
    packet: ipv4::Packet,
    /// The IPv4 payload as far as it is in the first segment.
    payload: &'a [u8],
}

impl Stack {
    /// Makes a stack and takes all memory it will ever use.
    ///
    /// # Errors
    ///
    /// What [`Config::validate`] finds.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        config.validate()?;
        let limits = Limits {
            neighbors_max: config.neighbors_max,
            resolving_max: config.resolving_max,
            tries: config.arp_tries,
            retry_ns: config.arp_retry_ns,
            reachable_ns: config.arp_reachable_ns,
            probe_delay_ns: config.arp_probe_delay_ns,
            failed_ns: config.arp_failed_ns,
        };
        let announce = config.announce && config.arp_responder;
        let egress = Egress {
            link: Link { mac: config.mac, vlan: config.vlan },
            addr: config.ipv4,
            outbox: Outbox::new(config.own_frames_max),
            events: EventQueue::new(config.events_max),
            counters: Counters::default(),
        };
        Ok(Self {
            egress,
            subnet: Subnet::new(config.ipv4, config.prefix_len),
            vlan: config.vlan.unwrap_or(0),
            accept_untagged: config.vlan_accept_untagged,
            loopback: config.loopback,
            pcp_from_priority: config.vlan_pcp_from_priority,
            gateway: config.gateway,
            announce,
            arp_responder: config.arp_responder,
            neighbors: NeighborTable::new(limits, &config.static_neighbors),
            claim: Claim::new(announce),
            error_bucket: TokenBucket::new(config.icmp_rate_per_s, config.icmp_burst),
            echo_bucket: TokenBucket::new(config.echo_rate_per_s, config.echo_burst),
        })
    }

    /// Says what a received frame is, and acts on it if it is not Homa.
    ///
    /// `frame` is the first segment, from the Ethernet header on without frame check sequence;
    /// `frame_len` counts the bytes of all segments (with one segment, those of `frame`). The IP
    /// headers must lie in the first segment, and so must the whole of an ARP or ICMP packet; a
    /// packet that claims to be longer than `frame_len` is dropped.
    #[inline]
    pub fn receive(
        &mut self,
        now: Nanos,
        frame: &[u8],
        frame_len: usize,
        checksum: IpChecksum,
    ) -> Received {
        if let Some(datagram) = self.expected(frame, frame_len, checksum) {
            self.egress.counters.homa_received += 1;
            return Received::Homa(datagram);
        }
        let received = self.classify(now, frame, frame_len, checksum);
        received.unwrap_or_else(|reason| {
            self.egress.counters.count_drop(reason);
            Received::Dropped(reason)
        })
    }

    /// The frame that almost all are: untagged, an IPv4 header without options, Homa, to us, and
    /// nothing wrong with it. `None` says nothing; [`Self::classify`] looks closely.
    #[inline(always)]
    fn expected(&self, frame: &[u8], frame_len: usize, checksum: IpChecksum) -> Option<Datagram> {
        const LINK_BYTES: usize = ethernet::HEADER_BYTES;
        let head: &[u8; LINK_BYTES + ipv4::HEADER_BYTES] = frame.first_chunk()?;
        let ip: &[u8; ipv4::HEADER_BYTES] = head.last_chunk()?;
        let total_bytes = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
        let fragment = u16::from_be_bytes([ip[6], ip[7]]) & 0x3FFF;
        let src = Ipv4Addr::new(ip[12], ip[13], ip[14], ip[15]);
        let is_plain = self.vlan == 0
            && head[..6] == self.egress.link.mac.0
            && head[12..15] == [0x08, 0x00, 0x45]
            && ip[9] == HOMA_PROTOCOL
            && fragment == 0
            && ip[16..] == self.subnet.addr.octets()
            && total_bytes >= ipv4::HEADER_BYTES
            && total_bytes <= frame_len.max(frame.len()) - LINK_BYTES
            && src != self.subnet.addr
            && self.subnet.is_host(src);
        let is_intact = match checksum {
            IpChecksum::Good => true,
            IpChecksum::Bad => false,
            IpChecksum::Unknown => checksum::is_intact_20(ip),
        };
        if !(is_plain && is_intact) {
            return None;
        }
        Some(Datagram {
            src: IpAddr::V4(src),
            dst: IpAddr::V4(self.subnet.addr),
            priority: ip[1] >> 5,
            encapsulation: Encapsulation::Native,
            start: LINK_BYTES + ipv4::HEADER_BYTES,
            len: total_bytes - ipv4::HEADER_BYTES,
        })
    }

    #[inline(never)]
    fn classify(
        &mut self,
        now: Nanos,
        frame: &[u8],
        frame_len: usize,
        checksum: IpChecksum,
    ) -> Result<Received, DropReason> {
        let link = ethernet::Header::parse(frame).ok_or(DropReason::Truncated)?;
        if link.ethertype != ethernet::ETHERTYPE_IPV4 {
            return self.receive_other(now, &link, frame);
        }
        let checked = self.check_ipv4(link, frame, frame_len, checksum)?;
        let encapsulation = match checked.packet.protocol {
            HOMA_PROTOCOL => Encapsulation::Native,
            marked_tcp::PROTOCOL if marked_tcp::is_homa(checked.payload) => {
                self.egress.counters.marked_tcp_received += 1;
                Encapsulation::MarkedTcp
            }
            marked_tcp::PROTOCOL => return Err(DropReason::TcpUnmarked),
            ipv4::PROTOCOL_ICMP => return self.receive_icmp(now, &checked),
            _ => return Err(DropReason::UnknownProtocol),
        };
        self.egress.counters.homa_received += 1;
        let Checked { link, packet, .. } = checked;
        Ok(Received::Homa(Datagram {
            src: IpAddr::V4(packet.src),
            dst: IpAddr::V4(packet.dst),
            priority: packet.tos >> 5,
            encapsulation,
            start: link.header_bytes + packet.header_bytes,
            len: packet.total_bytes - packet.header_bytes,
        }))
    }

    /// Whether an IPv4 frame is in order and for us alone.
    #[inline]
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
        if packet.dst != self.subnet.addr {
            let is_group = self.subnet.is_group(packet.dst);
            return Err(if is_group { DropReason::Group } else { DropReason::OtherAddress });
        }
        let is_own = packet.src == self.subnet.addr;
        if !self.subnet.is_host(packet.src) || is_own && !self.loopback {
            return Err(DropReason::MartianSource);
        }
        let payload = &bytes[packet.header_bytes..bytes.len().min(packet.total_bytes)];
        Ok(Checked { link, packet, payload })
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

    fn receive_arp(&mut self, now: Nanos, packet: &arp::Packet) -> Result<Received, DropReason> {
        self.egress.counters.arp_received += 1;
        let &arp::Packet { sender_mac, sender_ip, target_ip, .. } = packet;
        if sender_mac == self.egress.link.mac {
            return Err(DropReason::OwnMac);
        }
        if sender_ip == self.subnet.addr {
            self.contest_address(now, sender_mac);
            return Ok(Received::Consumed);
        }
        let is_request = packet.operation == arp::Operation::Request;
        let is_for_us = is_request && target_ip == self.subnet.addr;
        let heard = if self.subnet.is_host(sender_ip) {
            // A question for us is a good reason to know who asks; anything else can be made up.
            let may_learn = is_for_us && self.subnet.is_on_link(sender_ip);
            self.hear(now, sender_ip, sender_mac, may_learn)
        } else {
            Heard::Ignored
        };
        if is_for_us && self.arp_responder {
            self.egress.send_arp_reply(sender_ip, sender_mac);
        }
        match heard {
            Heard::StaticMismatch => Err(DropReason::ArpStaticMismatch),
            Heard::Ignored if !is_for_us => Err(DropReason::ArpIgnored),
            _ => Ok(Received::Consumed),
        }
    }

    /// Another station uses our address: tells so and, if we announce at all, insists.
    fn contest_address(&mut self, now: Nanos, mac: MacAddr) {
        self.egress.counters.address_conflicts += 1;
        if self.arp_responder && self.claim.contest(now) {
            self.egress.tell(NetEvent::AddressConflict { ip: IpAddr::V4(self.subnet.addr), mac });
            if self.announce {
                self.egress.send_announcement();
            }
        }
    }

    fn hear(&mut self, now: Nanos, ip: Ipv4Addr, mac: MacAddr, may_learn: bool) -> Heard {
        let egress = &mut self.egress;
        let act = &mut |action| egress.act(action);
        let heard = self.neighbors.heard(now, IpAddr::V4(ip), mac, may_learn, act);
        match heard {
            Heard::Learned => self.egress.counters.neighbors_learned += 1,
            Heard::Moved => self.egress.counters.neighbors_moved += 1,
            Heard::Refreshed | Heard::Ignored | Heard::StaticMismatch => {}
        }
        heard
    }

    #[cold]
    fn receive_icmp(&mut self, now: Nanos, checked: &Checked<'_>) -> Result<Received, DropReason> {
        let Checked { packet, payload, .. } = checked;
        if payload.len() < packet.total_bytes - packet.header_bytes {
            return Err(DropReason::IcmpMalformed);
        }
        let reporter = IpAddr::V4(packet.src);
        match Message::parse(payload)? {
            Message::EchoRequest { rest } => self.answer_echo(now, checked, rest)?,
            Message::Unreachable { cause, code, quoted } => {
                let quoted = icmp::parse_quoted(quoted, self.subnet.addr)?;
                self.egress.counters.unreachable_received += 1;
                self.egress.tell(NetEvent::PeerUnreachable { reporter, cause, code, quoted });
            }
            Message::FragmentationNeeded { mtu_bytes, quoted } => {
                let packet = icmp::parse_quoted(quoted, self.subnet.addr)?;
                if !icmp::is_credible_mtu(mtu_bytes, quoted) {
                    return Err(DropReason::IcmpNotOurs);
                }
                self.egress.counters.mtu_hints_received += 1;
                self.egress.tell(NetEvent::MtuHint { reporter, mtu_bytes, quoted: packet });
            }
        }
        Ok(Received::Consumed)
    }

    fn answer_echo(
        &mut self,
        now: Nanos,
        checked: &Checked<'_>,
        rest: &[u8],
    ) -> Result<(), DropReason> {
        let start = icmp::echo_reply_start(rest);
        let reply_bytes =
            self.egress.link.header_bytes() + ipv4::HEADER_BYTES + start.len() + rest.len();
        let may_answer = checked.link.src().is_unicast() && reply_bytes <= FRAME_MAX_BYTES;
        if !may_answer || !self.echo_bucket.take(now) {
            return Err(DropReason::EchoRefused);
        }
        // Answers go back the way the question came, so that strangers cannot make us resolve.
        let (mac, ip) = (checked.link.src(), checked.packet.src);
        if self.egress.send_icmp(mac, ip, checked.packet.tos, &start, rest) {
            self.egress.counters.echo_replies_sent += 1;
        }
        Ok(())
    }

    /// Queues an ICMP port unreachable that answers a received Homa packet whose port nobody
    /// listens on. `offending_frame` is what [`Self::receive`] was given and took for Homa.
    ///
    /// Counted but not sent beyond the rate limit, and for packets that must not be answered: to or
    /// from more than one host, fragments, ICMP (RFC 1122 section 3.2.2).
    #[cold]
    pub fn port_unreachable(&mut self, now: Nanos, offending_frame: &[u8]) {
        // The length and checksum were found right before; a first segment may be all we have.
        let frame_len = ethernet::TAGGED_HEADER_BYTES + ipv4::PACKET_MAX_BYTES;
        let checked = ethernet::Header::parse(offending_frame)
            .filter(|link| link.ethertype == ethernet::ETHERTYPE_IPV4 && link.src().is_unicast())
            .and_then(|link| {
                self.check_ipv4(link, offending_frame, frame_len, IpChecksum::Good).ok()
            })
            .filter(|checked| checked.packet.protocol != ipv4::PROTOCOL_ICMP);
        let Some(checked) = checked else {
            self.egress.counters.port_unreachable_refused += 1;
            return;
        };
        if !self.error_bucket.take(now) {
            self.egress.counters.port_unreachable_limited += 1;
            return;
        }
        let packet = &offending_frame[checked.link.header_bytes..];
        let quoted_bytes =
            icmp::QUOTE_MAX_BYTES.min(checked.packet.header_bytes + checked.payload.len());
        let quoted = &packet[..quoted_bytes];
        let header = icmp::port_unreachable_header(quoted);
        let (mac, ip) = (checked.link.src(), checked.packet.src);
        if self.egress.send_icmp(mac, ip, icmp::ERROR_TOS, &header, quoted) {
            self.egress.counters.port_unreachable_sent += 1;
        }
    }

    /// Where packets to `dst` go first: `dst` itself, or the gateway. `None` if nowhere. Events
    /// name this address.
    pub fn next_hop(&self, dst: IpAddr) -> Option<IpAddr> {
        self.route(dst).ok().map(|(_, next_hop)| next_hop)
    }

    /// The headers to send to `dst` with. Starts to resolve the next hop if that is needed, so there
    /// may be frames to send afterwards.
    ///
    /// Not meant for every packet: keep the answer while [`Self::generation`] stays the same. Asking
    /// again after it changed is also how the stack learns which neighbours are in use.
    pub fn path(&mut self, now: Nanos, dst: IpAddr) -> PathState {
        let (dst, next_hop) = match self.route(dst) {
            Ok(route) => route,
            Err(reason) => return PathState::Unreachable(reason),
        };
        if dst == self.subnet.addr {
            return PathState::Ready(self.path_via(self.egress.link.mac, dst));
        }
        match self.neighbors.lookup(now, next_hop, &mut |action| self.egress.act(action)) {
            Lookup::Ready(mac) => PathState::Ready(self.path_via(mac, dst)),
            Lookup::Resolving => PathState::Resolving,
            Lookup::NoAnswer => PathState::Unreachable(UnreachableReason::NoAnswer),
            Lookup::TooManyResolutions => {
                PathState::Unreachable(UnreachableReason::TooManyResolutions)
            }
            Lookup::TableFull => PathState::Unreachable(UnreachableReason::TableFull),
        }
    }

    fn path_via(&self, mac: MacAddr, dst: Ipv4Addr) -> Path {
        Path::new(&self.egress.link, mac, self.subnet.addr, dst, self.pcp_from_priority)
    }

    /// The destination as an IPv4 address, and its next hop.
    fn route(&self, dst: IpAddr) -> Result<(Ipv4Addr, IpAddr), UnreachableReason> {
        let dst = dst.to_canonical();
        let IpAddr::V4(ipv4) = dst else { return Err(UnreachableReason::NoIpv6) };
        if !self.subnet.is_host(ipv4) {
            return Err(UnreachableReason::NotUnicast);
        }
        if ipv4 == self.subnet.addr && !self.loopback {
            return Err(UnreachableReason::OwnAddress);
        }
        if self.subnet.is_on_link(ipv4) || self.neighbors.is_static(dst) {
            return Ok((ipv4, dst));
        }
        let gateway = self.gateway.ok_or(UnreachableReason::NoRoute)?;
        Ok((ipv4, IpAddr::V4(gateway)))
    }

    /// Tells that `dst` answers what is sent to it, which saves a question to its next hop.
    ///
    /// A good time is before [`Self::path`] after a change of generation, for peers heard from in
    /// the last seconds; once a packet would be wasteful.
    pub fn confirm(&mut self, now: Nanos, dst: IpAddr) {
        if let Some(next_hop) = self.next_hop(dst) {
            self.neighbors.confirm(now, next_hop);
        }
    }

    /// Changes whenever a [`Path`] given out may be out of date, or an answer other than a path.
    /// Never 0 at the start.
    #[inline]
    pub const fn generation(&self) -> u32 {
        self.neighbors.generation()
    }

    /// Announces our address anew, as is useful after a link came up. Does nothing unless
    /// [`Config::announce`] and [`Config::arp_responder`] are set. The timer is due at once.
    pub const fn announce(&mut self, now: Nanos) {
        if self.announce {
            self.claim.restart(now);
        }
    }

    /// Takes out every frame the stack wants sent on its own, oldest first: ARP and ICMP, complete
    /// and padded to the Ethernet minimum.
    #[inline]
    pub fn poll_transmit(&mut self, emit: impl FnMut(&[u8])) {
        self.egress.outbox.drain(emit);
    }

    /// Takes out the oldest event.
    #[inline]
    pub fn poll_event(&mut self) -> Option<NetEvent> {
        self.egress.events.pop()
    }

    /// When [`Self::on_timer`] wants to be called next; `None` for never. May be early.
    #[inline]
    pub fn next_deadline(&self) -> Option<Nanos> {
        let deadline = self.neighbors.deadline().min(self.claim.deadline());
        (deadline < Nanos::MAX).then_some(deadline)
    }

    /// Announces, asks again, gives up. Calling it early does no harm.
    pub fn on_timer(&mut self, now: Nanos) {
        if self.claim.is_due(now) {
            self.egress.send_announcement();
        }
        self.neighbors.on_timer(now, &mut |action| self.egress.act(action));
    }

    /// What was counted so far.
    pub const fn counters(&self) -> &Counters {
        &self.egress.counters
    }
}
