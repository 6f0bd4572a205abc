//! One network interface with its addresses.

use core::fmt;
use core::net::IpAddr;

use super::address::Addresses;
use super::claim::Claim;
use super::config::{Config, ConfigError};
use super::counters::{Counters, DropReason};
use super::egress::Egress;
use super::ethernet::{self, Link};
use super::event::{EventQueue, NetEvent, QuotedPacket};
use super::mac::MacAddr;
use super::neighbor::{Limits, Lookup, NeighborTable};
use super::outbox::Outbox;
use super::path::{Path, Route, RouteAddresses};
use super::path_mtu::PathMtus;
use super::token_bucket::TokenBucket;
use super::{ipv4, ipv6};
use crate::addr::HostAddr;
use crate::time::Nanos;
use expected::Expected;

mod discovery;
mod expected;
mod icmp;
mod input;
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
    pub src: HostAddr,
    /// Our address.
    pub dst: HostAddr,
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

impl Datagram {
    /// The Homa packet in `frame`, where it was found; nothing if only a part of it is there.
    #[inline]
    pub fn of<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        frame.get(self.start..self.start + self.len).unwrap_or_default()
    }
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
    /// We have no address of the family of the destination's.
    NoAddress,
    /// The destination is outside the subnet and there is no gateway.
    NoRoute,
    /// The destination is not the address of one host on the network.
    NotUnicast,
    /// The destination is our own address, and frames do not come back to us.
    OwnAddress,
    /// The next hop did not answer; it will not be asked again for
    /// [`Config::neighbor_failed_ns`].
    NoAnswer,
    /// [`Config::resolving_max`] other next hops are being resolved; try again later.
    TooManyResolutions,
    /// [`Config::neighbors_max`] other next hops are in use.
    TableFull,
}

impl UnreachableReason {
    /// Whether it lies in the settings, so that it will never be otherwise.
    pub const fn is_lasting(self) -> bool {
        matches!(self, Self::NoAddress | Self::NoRoute | Self::NotUnicast | Self::OwnAddress)
    }
}

impl fmt::Display for UnreachableReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoAddress => "this node has no address of that family: give it one",
            Self::NoRoute => {
                "it is in no network of this node: give the node a gateway, or an address with \
                 another prefix length"
            }
            Self::NotUnicast => "it is not the address of one host: give a unicast address",
            Self::OwnAddress => "it is an address of this node itself: give that of another host",
            Self::NoAnswer => "neither it nor the gateway to it answers: is it up?",
            Self::TooManyResolutions => "too many others are being asked for: try again later",
            Self::TableFull => "too many neighbours are in use: raise neighbors_max",
        })
    }
}

/// Bytes of the longest frame that is sent on our own: a ping that fills a packet, or an ICMP error.
fn own_frame_bytes(mtu_bytes: u16) -> usize {
    ethernet::TAGGED_HEADER_BYTES + usize::from(mtu_bytes.max(ipv6::MTU_MIN_BYTES))
}

/// One network interface with its addresses, see the [module](super).
#[derive(Debug)]
pub struct Stack {
    egress: Egress,
    /// The VLAN of the frames we receive, 0 for untagged ones.
    vlan: u16,
    accept_untagged: bool,
    loopback: bool,
    pcp_from_priority: bool,
    gateways: Vec<IpAddr>,
    path_mtus: PathMtus,
    /// Whether all peers get marked TCP; else those that are listed do.
    marked_tcp: bool,
    marked_tcp_peers: Vec<IpAddr>,
    announce: bool,
    arp_responder: bool,
    neighbors: NeighborTable,
    claim: Claim,
    error_bucket: TokenBucket,
    echo_bucket: TokenBucket,
    vague_bucket: TokenBucket,
    /// Frames that need no close look; none with a VLAN, or without an IPv4 address.
    expected: Option<Expected>,
}

/// ICMP errors per second, and in a row, that quote too little to say which RPC they are about. Whoever
/// acts on one has to look at all RPCs.
const VAGUE_ERRORS: (u32, u32) = (100, 20);

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
            tries: config.neighbor_tries,
            retry_ns: config.neighbor_retry_ns,
            reachable_ns: config.neighbor_reachable_ns,
            probe_delay_ns: config.neighbor_probe_delay_ns,
            failed_ns: config.neighbor_failed_ns,
        };
        let announce = config.announce && config.arp_responder;
        let egress = Egress {
            link: Link { mac: config.mac, vlan: config.vlan },
            addresses: Addresses::new(&config.addresses),
            outbox: Outbox::new(config.own_frames_max, own_frame_bytes(config.mtu_bytes)),
            events: EventQueue::new(config.events_max),
            counters: Counters::default(),
        };
        let expected = match egress.addresses.v4 {
            Some(subnet) if config.vlan.unwrap_or(0) == 0 => {
                Some(Expected::new(config.mac, subnet, config.loopback))
            }
            _ => None,
        };
        Ok(Self {
            egress,
            expected,
            vlan: config.vlan.unwrap_or(0),
            accept_untagged: config.vlan_accept_untagged,
            loopback: config.loopback,
            pcp_from_priority: config.vlan_pcp_from_priority,
            gateways: config.gateways,
            path_mtus: PathMtus::new(
                config.mtu_bytes,
                config.peer_mtus,
                config.path_mtus_max,
                config.path_mtu_keep_ns,
            ),
            marked_tcp: config.marked_tcp,
            marked_tcp_peers: config.marked_tcp_peers,
            announce,
            arp_responder: config.arp_responder,
            neighbors: NeighborTable::new(limits, &config.static_neighbors),
            claim: Claim::new(announce),
            error_bucket: TokenBucket::new(config.icmp_rate_per_s, config.icmp_burst),
            echo_bucket: TokenBucket::new(config.echo_rate_per_s, config.echo_burst),
            vague_bucket: TokenBucket::new(VAGUE_ERRORS.0, VAGUE_ERRORS.1),
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
            self.count_expected(&datagram);
            return Received::Homa(datagram);
        }
        let received = self.classify(now, frame, frame_len, checksum);
        received.unwrap_or_else(|reason| {
            self.egress.counters.count_drop(reason);
            Received::Dropped(reason)
        })
    }

    /// A received frame of one segment, if it is as almost all are: untagged, an IPv4 header without options,
    /// Homa, to us, and nothing wrong with it. Whoever acts on it calls [`Self::count_expected`]. `None` says
    /// nothing: [`Self::receive`] looks closely.
    #[inline(always)]
    pub fn expected(
        &self,
        frame: &[u8],
        frame_len: usize,
        checksum: IpChecksum,
    ) -> Option<Datagram> {
        self.expected.as_ref()?.datagram(frame, frame_len, checksum)
    }

    /// Counts a frame that [`Self::expected`] has found.
    #[inline(always)]
    pub fn count_expected(&mut self, datagram: &Datagram) {
        self.egress.counters.homa_received += 1;
        if let Some(expected) = &mut self.expected {
            expected.note(datagram);
        }
    }

    /// Counts a frame whose headers are those of one that [`Self::expected`] has found.
    #[inline(always)]
    pub fn count_repeated(&mut self) {
        self.egress.counters.homa_received += 1;
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
        if self.egress.addresses.is_own(dst) {
            return self.path_via(self.egress.link.mac, dst);
        }
        match self.neighbors.lookup(now, next_hop, &mut |action| self.egress.act(action)) {
            Lookup::Ready(mac) => self.path_via(mac, dst),
            Lookup::Resolving => PathState::Resolving,
            Lookup::NoAnswer => PathState::Unreachable(UnreachableReason::NoAnswer),
            Lookup::TooManyResolutions => {
                PathState::Unreachable(UnreachableReason::TooManyResolutions)
            }
            Lookup::TableFull => PathState::Unreachable(UnreachableReason::TableFull),
        }
    }

    fn path_via(&self, dst_mac: MacAddr, dst: IpAddr) -> PathState {
        let addresses = match (self.egress.addresses.source_for(dst), dst) {
            (Some(IpAddr::V4(src)), IpAddr::V4(dst)) => RouteAddresses::V4(src, dst),
            (Some(IpAddr::V6(src)), IpAddr::V6(dst)) => RouteAddresses::V6(src, dst),
            _ => return PathState::Unreachable(UnreachableReason::NoAddress),
        };
        let is_marked = self.marked_tcp || self.marked_tcp_peers.contains(&dst);
        let route = Route {
            dst_mac,
            addresses,
            pcp_from_priority: self.pcp_from_priority,
            encapsulation: if is_marked { Encapsulation::MarkedTcp } else { Encapsulation::Native },
            mtu_bytes: self.path_mtus.mtu_bytes(dst),
        };
        PathState::Ready(Path::new(&self.egress.link, &route))
    }

    /// Why nothing can ever be sent to `dst`; `None` if it can, as far as the settings tell.
    pub fn refusal(&self, dst: IpAddr) -> Option<UnreachableReason> {
        self.route(dst).err()
    }

    /// The destination in its plain form, and its next hop.
    fn route(&self, dst: IpAddr) -> Result<(IpAddr, IpAddr), UnreachableReason> {
        let dst = dst.to_canonical();
        let ours = &self.egress.addresses;
        if ours.source_for(dst).is_none() {
            return Err(UnreachableReason::NoAddress);
        }
        if !ours.is_host(dst) {
            return Err(UnreachableReason::NotUnicast);
        }
        if ours.is_own(dst) && !self.loopback {
            return Err(UnreachableReason::OwnAddress);
        }
        if ours.is_on_link(dst) || self.neighbors.is_static(dst) {
            return Ok((dst, dst));
        }
        let mut gateways = self.gateways.iter();
        let gateway = gateways.find(|gateway| gateway.is_ipv4() == dst.is_ipv4());
        Ok((dst, *gateway.ok_or(UnreachableReason::NoRoute)?))
    }

    /// Bytes of the largest IP packet that the link takes.
    pub(super) const fn mtu_bytes(&self) -> usize {
        self.path_mtus.link_bytes() as usize
    }

    /// Bytes of the largest Homa packet, header included, that gets to `dst` in one piece.
    pub fn payload_max(&self, dst: IpAddr) -> usize {
        let dst = dst.to_canonical();
        let ip_bytes = if dst.is_ipv4() { ipv4::HEADER_BYTES } else { ipv6::HEADER_BYTES };
        usize::from(self.path_mtus.mtu_bytes(dst)).saturating_sub(ip_bytes)
    }

    /// Lowers the size of packets to the destination of `quoted`, of which a router said that it was
    /// too large ([`NetEvent::MtuHint`]). Ask first whether we can have sent that packet: anybody can
    /// make such news up. Says whether anything changed.
    pub fn lower_path_mtu(&mut self, now: Nanos, quoted: &QuotedPacket, mtu_bytes: u16) -> bool {
        let is_lower = u32::from(self.path_mtus.mtu_bytes(quoted.dst)) >= quoted.packet_bytes
            && self.path_mtus.learn(now, quoted.dst, mtu_bytes);
        if is_lower {
            self.neighbors.renew_paths();
        }
        is_lower
    }

    /// Changes whenever a [`Path`] given out may be out of date, or an answer other than a path.
    /// Never 0 at the start.
    #[inline]
    pub const fn generation(&self) -> u32 {
        self.neighbors.generation()
    }

    /// Our address to speak to `dst` from; `None` if we have none of its family.
    pub fn source_for(&self, dst: IpAddr) -> Option<IpAddr> {
        self.egress.addresses.source_for(dst)
    }

    /// Announces our addresses anew, as is useful after a link came up. Does nothing unless
    /// [`Config::announce`] and [`Config::arp_responder`] are set. The timer is due at once.
    pub const fn announce(&mut self, now: Nanos) {
        if self.announce {
            self.claim.restart(now);
        }
    }

    /// Takes out up to `frames_max` frames that the stack wants sent on its own, oldest first: ARP,
    /// Neighbour Discovery and ICMP, complete and padded to the Ethernet minimum. The others wait.
    #[inline]
    pub fn poll_transmit(&mut self, frames_max: usize, emit: impl FnMut(&[u8])) {
        self.egress.outbox.drain(frames_max, emit);
    }

    /// Whether there are frames to take out, or events.
    #[inline]
    pub fn has_output(&self) -> bool {
        !self.egress.outbox.is_empty() || !self.egress.events.is_empty()
    }

    /// Takes out the oldest event.
    #[inline]
    pub fn poll_event(&mut self) -> Option<NetEvent> {
        self.egress.events.pop()
    }

    /// When [`Self::on_timer`] wants to be called next; `None` for never. May be early.
    #[inline]
    pub fn next_deadline(&self) -> Option<Nanos> {
        let deadline =
            self.neighbors.deadline().min(self.claim.deadline()).min(self.path_mtus.deadline());
        (deadline < Nanos::MAX).then_some(deadline)
    }

    /// Announces, asks again, gives up. Calling it early does no harm.
    pub fn on_timer(&mut self, now: Nanos) {
        if self.claim.is_due(now) {
            self.egress.announce_all();
        }
        if self.path_mtus.on_timer(now) {
            self.neighbors.renew_paths();
        }
        self.neighbors.on_timer(now, &mut |action| self.egress.act(action));
    }

    /// What was counted so far.
    pub const fn counters(&self) -> &Counters {
        &self.egress.counters
    }
}
