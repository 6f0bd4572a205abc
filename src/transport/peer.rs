//! What is known about each peer host: its cutoffs, the acks we owe it, its share of our limits.

use crate::addr::HostAddr;
use crate::time::Nanos;
use crate::wire::{Ack, AckRecord, Header, HomaPort, NUM_PRIORITIES, RpcId};

use super::config::Config;
use super::cutoffs::UNKNOWN_PEER;
use super::hash::Seed;
use super::heap::Heap;
use super::index::Index;
use super::slab::Slab;

/// Acks kept per peer until a DATA packet takes them (protocol.md section 14).
const ACKS_MAX: usize = 5;
/// Entries looked at in search of one to evict.
const EVICTION_STEPS: u32 = 64;
/// A longer round trip moves the estimate by one part in so many of the difference.
const RTT_DRIFT: u32 = 256;
/// Peers found lately that are looked at first.
const RECENT: usize = 256;
/// CUTOFFS go to a peer at most once in this time.
const CUTOFFS_INTERVAL: Nanos = Nanos::from_ms(1);
/// The limit on RESENDs and NEED_ACKs counts them over this time.
pub(super) const PROBE_WINDOW: Nanos = Nanos::from_ms(1);

/// An ack not sent yet, with what an ACK packet of its own needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct PendingAck {
    pub(super) id: RpcId,
    pub(super) client_port: HomaPort,
    pub(super) server_port: HomaPort,
}

impl PendingAck {
    fn record(self) -> AckRecord {
        AckRecord { client_id: self.id, server_port: self.server_port }
    }
}

/// In order of use: every packet touches the first cache line, packets with data the second.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Peer {
    /// When we last had to do with it.
    pub(super) last_heard: Nanos,
    /// RPCs in our tables with this peer, both roles.
    pub(super) rpcs: u32,
    pub(super) server_rpcs: u32,
    pub(super) addr: HostAddr,
    /// The peer stands in the list of those whose acks wait for a packet to ride on.
    pub(super) ack_flush_queued: bool,
    ack_count: u8,
    pub(super) cutoff_version: u16,
    /// Control packets to it that wait to be sent.
    pub(super) control_queued: u32,
    /// Time from a message's first packet to its first grant at its shortest, lately; 0 if not known.
    pub(super) rtt_ns: u32,
    /// Cutoffs the peer has sent, for our unscheduled packets to it.
    pub(super) cutoffs: [u32; NUM_PRIORITIES],
    /// Its messages that need grants.
    pub(super) grantable: Heap,
    /// Seeded hash of the address, for the tables that contain it in their keys.
    pub(super) secret: u64,
    acks: [PendingAck; ACKS_MAX],
    /// Since when there have been acks without a break.
    acks_since: Nanos,
    cutoffs_sent: Option<Nanos>,
    probe_window: u64,
    probes: u32,
}

impl Peer {
    fn new(addr: HostAddr, secret: u64, now: Nanos) -> Self {
        let none = PendingAck { id: RpcId(0), client_port: HomaPort(0), server_port: HomaPort(0) };
        Self {
            addr,
            secret,
            rpcs: 0,
            server_rpcs: 0,
            last_heard: now,
            cutoffs: UNKNOWN_PEER,
            cutoff_version: 0,
            cutoffs_sent: None,
            acks: [none; ACKS_MAX],
            ack_count: 0,
            acks_since: now,
            ack_flush_queued: false,
            control_queued: 0,
            rtt_ns: 0,
            probe_window: 0,
            probes: 0,
            grantable: Heap::default(),
        }
    }

    /// Takes in how long the first grant of a message took to come. Most of it may be waiting, so the
    /// shortest counts; that a path has become longer is believed slowly.
    pub(super) fn measure_rtt(&mut self, took: Nanos) {
        let took = u32::try_from(took.0).unwrap_or(u32::MAX).max(1);
        self.rtt_ns = match self.rtt_ns {
            0 => took,
            known if took < known => took,
            known => known + (took - known) / RTT_DRIFT,
        };
    }

    /// Adopts received cutoffs. Entry 0 is without limit whatever the packet says.
    pub(super) fn set_cutoffs(&mut self, mut cutoffs: [u32; NUM_PRIORITIES], version: u16) {
        cutoffs[0] = u32::MAX;
        self.cutoffs = cutoffs;
        self.cutoff_version = version;
    }

    /// Whether CUTOFFS may be sent now; if so, it is taken as sent.
    pub(super) fn take_cutoffs_turn(&mut self, now: Nanos) -> bool {
        let due = self.cutoffs_sent.is_none_or(|sent| now.since(sent) >= CUTOFFS_INTERVAL);
        if due {
            self.cutoffs_sent = Some(now);
        }
        due
    }

    /// Notes an ack. If the list is full it comes back, together with the whole list, as the ACK
    /// packet to send.
    pub(super) fn add_ack(&mut self, now: Nanos, ack: PendingAck) -> Option<(Header, Ack)> {
        if self.ack_count == 0 {
            self.acks_since = now;
        }
        if usize::from(self.ack_count) == ACKS_MAX {
            return Some((Self::ack_header(ack), self.take_acks()));
        }
        self.acks[usize::from(self.ack_count)] = ack;
        self.ack_count += 1;
        None
    }

    /// The newest ack, to ride on a DATA packet.
    #[inline]
    pub(super) fn pop_ack(&mut self) -> Option<AckRecord> {
        let newest = self.newest_ack();
        self.ack_sent();
        newest
    }

    /// The same, which stays until [`Peer::ack_sent`].
    #[inline(always)]
    pub(super) fn newest_ack(&self) -> Option<AckRecord> {
        let newest = self.ack_count.checked_sub(1)?;
        Some(self.acks[usize::from(newest)].record())
    }

    /// The newest ack has found a packet to ride on.
    #[inline(always)]
    pub(super) fn ack_sent(&mut self) {
        self.ack_count = self.ack_count.saturating_sub(1);
    }

    /// Acks that wait.
    #[inline]
    pub(super) fn ack_count(&self) -> usize {
        usize::from(self.ack_count)
    }

    /// Since when the oldest ack may have been waiting; `None` if there is none.
    pub(super) fn acks_since(&self) -> Option<Nanos> {
        (self.ack_count > 0).then_some(self.acks_since)
    }

    /// All acks as one packet: the newest in its header, the rest as records.
    pub(super) fn flush_acks(&mut self) -> Option<(Header, Ack)> {
        self.ack_count = self.ack_count.checked_sub(1)?;
        let newest = self.acks[usize::from(self.ack_count)];
        Some((Self::ack_header(newest), self.take_acks()))
    }

    /// All acks as records of an ACK packet about another RPC.
    pub(super) fn take_acks(&mut self) -> Ack {
        let mut packet = Ack::new();
        for ack in &self.acks[..usize::from(self.ack_count)] {
            packet.push(ack.record());
        }
        self.ack_count = 0;
        packet
    }

    fn ack_header(ack: PendingAck) -> Header {
        Header { sport: ack.client_port, dport: ack.server_port, sender_id: ack.id }
    }

    /// Whether another RESEND or NEED_ACK may go to this peer in this millisecond; counts it.
    pub(super) fn take_probe(&mut self, now: Nanos, max: u32) -> bool {
        let window = now.0 / PROBE_WINDOW.0;
        if window != self.probe_window {
            (self.probe_window, self.probes) = (window, 0);
        }
        self.probes += 1;
        self.probes <= max
    }
}

#[derive(Debug)]
pub(super) struct Peers {
    slab: Slab<Peer>,
    index: Index,
    seed: Seed,
    /// The peer looked up last among those whose addresses end in the same byte, as a guess: in a
    /// subnet of that size it is always right.
    recent: Box<[u32; RECENT]>,
    /// Where the search for an idle peer goes on.
    hand: u32,
    pub(super) evicted: u64,
}

impl Peers {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            slab: Slab::new(config.peers_max),
            index: Index::new(config.peers_max),
            seed: Seed::new(config.seed ^ 0x7065_6572),
            recent: Box::new([u32::MAX; RECENT]),
            hand: 0,
            evicted: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    #[inline]
    pub(super) fn get(&self, index: u32) -> Option<&Peer> {
        self.slab.get(index)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut Peer> {
        self.slab.get_mut(index)
    }

    /// Notes that a packet has come from this peer.
    #[inline]
    pub(super) fn hear(&mut self, index: u32, now: Nanos) {
        if let Some(peer) = self.slab.get_mut(index) {
            peer.last_heard = now;
        }
    }

    #[inline]
    pub(super) fn find(&mut self, addr: HostAddr) -> Option<u32> {
        let guess = self.recent[addr.halves()[1] as usize % RECENT];
        match self.slab.get(guess) {
            Some(peer) if peer.addr == addr => Some(guess),
            _ => self.search(addr),
        }
    }

    fn search(&mut self, addr: HostAddr) -> Option<u32> {
        let [high, low] = addr.halves();
        let hash = self.seed.hash(high, low) as u32;
        let slab = &self.slab;
        let found = self.index.find(hash, |i| slab.get(i).is_some_and(|peer| peer.addr == addr))?;
        self.recent[low as usize % RECENT] = found;
        Some(found)
    }

    /// The peer with this address; made, in place of an idle one if need be, when it is not known.
    /// `None` when all peers are in use.
    #[inline]
    pub(super) fn find_or_insert(&mut self, addr: HostAddr, now: Nanos) -> Option<u32> {
        let index = match self.find(addr) {
            Some(index) => index,
            None => self.insert(addr, now)?,
        };
        if let Some(peer) = self.slab.get_mut(index) {
            peer.last_heard = now;
        }
        Some(index)
    }

    fn insert(&mut self, addr: HostAddr, now: Nanos) -> Option<u32> {
        if self.slab.is_full() {
            let idle = self.find_idle()?;
            self.remove(idle);
            self.evicted += 1;
        }
        let [high, low] = addr.halves();
        let secret = self.seed.hash(high, low);
        let hash = secret as u32;
        let handle = self.slab.insert(Peer::new(addr, secret, now))?;
        self.index.insert(hash, handle.index);
        Some(handle.index)
    }

    /// The least recently used of the next few peers without RPCs.
    fn find_idle(&mut self) -> Option<u32> {
        let bound = self.slab.bound();
        let mut idle: Option<(Nanos, u32)> = None;
        for _ in 0..bound.min(EVICTION_STEPS) {
            self.hand = if self.hand + 1 < bound { self.hand + 1 } else { 0 };
            if let Some(peer) = self.slab.get(self.hand)
                && peer.rpcs == 0
                && !peer.ack_flush_queued
                && peer.control_queued == 0
                && idle.is_none_or(|(last_heard, _)| peer.last_heard < last_heard)
            {
                idle = Some((peer.last_heard, self.hand));
            }
        }
        idle.map(|(_, index)| index)
    }

    fn remove(&mut self, index: u32) {
        let Some(peer) = self.slab.get(index) else { return };
        self.index.remove(peer.secret as u32, index);
        self.slab.remove(index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn addr(n: u32) -> HostAddr {
        Ipv4Addr::from_bits(0x0a00_0000 + n).into()
    }

    #[test]
    fn evicts_idle_peers_only() {
        let mut peers = Peers::new(&Config { peers_max: 4, ..Config::default() });
        for n in 0..4 {
            let index = peers.find_or_insert(addr(n), Nanos(n.into())).unwrap();
            peers.get_mut(index).unwrap().rpcs = u32::from(n != 2);
        }
        assert_eq!(peers.find_or_insert(addr(9), Nanos(9)), Some(2));
        assert_eq!(peers.find(addr(2)), None);
        assert_eq!(peers.find(addr(3)), Some(3));
        peers.get_mut(2).unwrap().rpcs = 1;
        assert_eq!(peers.find_or_insert(addr(10), Nanos(10)), None, "all in use");
        assert_eq!((peers.len(), peers.evicted), (4, 1));
    }

    #[test]
    fn an_ipv4_peer_and_its_mapped_form_are_one() {
        let mut peers = Peers::new(&Config::default());
        let index = peers.find_or_insert(addr(1), Nanos(0));
        let mapped = Ipv4Addr::from_bits(0x0a00_0001).to_ipv6_mapped();
        assert_eq!(peers.find(mapped.into()), index);
    }

    #[test]
    fn the_sixth_ack_makes_a_packet_of_six() {
        let mut peers = Peers::new(&Config::default());
        let index = peers.find_or_insert(addr(1), Nanos(0)).unwrap();
        let peer = peers.get_mut(index).unwrap();
        let ack = |n: u64| PendingAck {
            id: RpcId(2 * n),
            client_port: HomaPort(32768),
            server_port: HomaPort(99),
        };
        for n in 1..=5 {
            assert!(peer.add_ack(Nanos(n), ack(n)).is_none());
        }
        let (header, records) = peer.add_ack(Nanos(6), ack(6)).unwrap();
        assert_eq!(header.sender_id, RpcId(12));
        assert_eq!(records.iter().map(|r| r.client_id.0).collect::<Vec<_>>(), [2, 4, 6, 8, 10]);
        assert_eq!(peer.pop_ack(), None);
        peer.add_ack(Nanos(7), ack(7));
        peer.add_ack(Nanos(8), ack(8));
        assert_eq!(peer.pop_ack().unwrap().client_id, RpcId(16), "newest first");
    }

    #[test]
    fn the_round_trip_is_the_shortest_seen_lately() {
        let mut peers = Peers::new(&Config::default());
        let index = peers.find_or_insert(addr(1), Nanos(0)).unwrap();
        let peer = peers.get_mut(index).unwrap();
        for (took_ns, expected) in [(9_000, 9_000), (400_000, 10_527), (8_000, 8_000)] {
            peer.measure_rtt(Nanos(took_ns));
            assert_eq!(peer.rtt_ns, expected);
        }
        for _ in 0..2_000 {
            peer.measure_rtt(Nanos(20_000));
        }
        assert!((19_000..20_000).contains(&peer.rtt_ns), "{}", peer.rtt_ns);
    }

    #[test]
    fn probes_are_limited_per_millisecond() {
        let mut peers = Peers::new(&Config::default());
        let index = peers.find_or_insert(addr(1), Nanos(0)).unwrap();
        let peer = peers.get_mut(index).unwrap();
        let taken = (0..10).filter(|_| peer.take_probe(Nanos(5), 3)).count();
        assert_eq!(taken, 3);
        assert!(peer.take_probe(Nanos::from_ms(1), 3));
    }
}
