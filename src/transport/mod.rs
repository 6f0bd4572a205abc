//! The Homa protocol of one shard, sans-IO.
//!
//! A [`Transport`] is everything one core knows about Homa. It owns RPC tables, reassembly, grants,
//! sending order, acks, timers, cutoffs, peers and limits; it must not know clocks, threads, mbufs or
//! sockets. Time is a parameter, packets come in through [`Transport::on_packet`] and leave through a
//! [`TxSink`], what concerns the application comes out of [`Transport::poll_event`].
//!
//! | file | holds |
//! |---|---|
//! | `receive`, `control` | what every packet does in every state: DATA, and the others |
//! | `whole` | the short cut for messages of one packet |
//! | `onward` | the short cut for packets in the middle of long messages |
//! | `calls` | the application's verbs: call, reply, abort, ports |
//! | `timers`, `stalls` | silence, RESEND, NEED_ACK, giving up |
//! | `grants` | who may send how much to us |
//! | `transmit`, `pacer` | what we send, in what order, how fast |
//! | `reassembly`, `message` | received bytes |
//! | `cutoffs` | priorities of unscheduled packets |
//! | `peer`, `ports`, `rpc`, `tombstones` | tables and their entries |
//! | `sharing` | what the shards of one host share |
//! | `slab`, `index`, `heap`, `wheel`, `hash` | the structures below them |
#![forbid(unsafe_code)]

mod buffers;
mod calls;
mod config;
mod control;
mod cutoffs;
mod event;
mod grants;
mod hash;
mod heap;
mod index;
mod message;
mod metrics;
pub(crate) mod mutation;
mod onward;
mod pacer;
mod peer;
mod ports;
mod reassembly;
mod receive;
mod rpc;
mod sharing;
mod slab;
mod stalls;
mod timers;
mod tombstones;
mod transmit;
mod wheel;
mod whole;

#[cfg(test)]
mod pair;
#[cfg(test)]
mod tests;

use core::fmt;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

pub use buffers::{OutMessage, Payload, PeerRef, TxSink, run};
pub use config::{Config, ConfigError, Order};
pub use event::{Event, Refused, RefusedReason, RpcError, RpcHandle};
pub use message::{LooseMessage, Message, Reader};
pub use metrics::{Metrics, Probe};
pub use onward::Onward;
pub use receive::Outcome;
pub use sharing::{HostShare, MissedAck, SHARDS_MAX};
pub use timers::Unreachable;
pub use transmit::SendOrder;
pub use whole::Whole;

use crate::addr::HostAddr;
use crate::time::Nanos;
use crate::wire::{AckRecord, HomaPort, NUM_PRIORITIES, RpcId};
use cutoffs::Cutoffs;
use grants::Grants;
use hash::Seed;
use index::Index;
use message::Ledger;
use mutation::Mutation;
use onward::LastMessage;
use peer::Peers;
use ports::Ports;
use rpc::{Inbound, Rpc, State};
use sharing::Share;
use slab::{Handle, Slab};
use stalls::Stalls;
use tombstones::{Place, Tombstones};
use transmit::Sender;
use wheel::Wheel;

/// Cutoffs are recomputed this often.
const CUTOFFS_INTERVAL: Nanos = Nanos::from_secs(1);
/// Shards that do not compute them look this often whether there are new ones.
const CUTOFFS_LOOK_INTERVAL: Nanos = Nanos::from_ms(10);

/// One shard's Homa. `B` is a received payload, `M` an outgoing message, `P` watches.
pub struct Transport<B: Payload, M: OutMessage, P: Probe = ()> {
    config: Config,
    rpcs: Slab<Rpc<B, M>>,
    server_index: Index,
    client_count: usize,
    server_count: usize,
    peers: Peers,
    ports: Ports,
    tombstones: Option<Tombstones>,
    wheel: Wheel,
    grants: Grants,
    last_message: LastMessage,
    sender: Sender,
    /// With other shards of the host; `None` alone.
    share: Option<Box<Share>>,
    cutoffs: Cutoffs,
    next_cutoffs: Nanos,
    ledger: Rc<Ledger<B>>,
    /// The message that may exceed the limit on retained packets.
    overdraft: Option<Handle>,
    events: VecDeque<Event<B>>,
    /// Messages that nobody needs any more since this burst: their RPCs have ended.
    done_messages: Vec<M>,
    /// Acks received in this burst, and from whom.
    acks: Vec<(HostAddr, AckRecord)>,
    /// Peers with acks that wait for a DATA packet, and since when.
    ack_flushes: VecDeque<(u32, Nanos)>,
    /// Bytes of requests held for sending, and of responses. Each has a limit of its own: servers that
    /// are clients of each other must not wait for room that only a response can make.
    request_bytes: u64,
    response_bytes: u64,
    id_seed: Seed,
    server_seed: Seed,
    /// Time during which the shard itself did not run; silence in it proves nothing.
    stalled_ns: u64,
    stalls: Stalls,
    metrics: Metrics,
    probe: P,
}

impl<B: Payload, M: OutMessage, P: Probe> Transport<B, M, P> {
    /// A transport with no ports open. Allocates all tables.
    pub fn new(config: Config, probe: P) -> Result<Self, ConfigError> {
        config.validate()?;
        let rpcs = config.client_rpcs_max + config.server_rpcs_max;
        let shortest_ns = config.resend_after_ns.min(config.need_ack_after_ns);
        let tombstones = (config.tombstone_keep_ns > 0).then(|| {
            let seed = Seed::new(config.seed ^ 0x746f_6d62);
            Tombstones::new(config.tombstones_max, config.tombstone_keep_ns, seed)
        });
        Ok(Self {
            rpcs: Slab::new(rpcs),
            server_index: Index::new(config.server_rpcs_max),
            client_count: 0,
            server_count: 0,
            peers: Peers::new(&config),
            ports: Ports::new(),
            tombstones,
            wheel: Wheel::new(rpcs, (shortest_ns / 8).clamp(1_024, 262_144)),
            grants: Grants::new(&config),
            last_message: LastMessage::default(),
            sender: Sender::new(&config),
            share: None,
            cutoffs: Cutoffs::new(&config),
            next_cutoffs: Nanos::ZERO,
            ledger: Ledger::new(),
            overdraft: None,
            // What one burst brings. Small, because a ring uses all of its memory in turn.
            events: VecDeque::with_capacity(16),
            done_messages: Vec::with_capacity(receive::DEFERRED_MAX),
            acks: Vec::with_capacity(receive::DEFERRED_MAX),
            ack_flushes: VecDeque::with_capacity(64),
            request_bytes: 0,
            response_bytes: 0,
            // Random, so that a restarted client does not meet the RPCs of its former life.
            id_seed: Seed::new(config.seed ^ 0x6964),
            server_seed: Seed::new(config.seed ^ 0x7372_7672),
            stalled_ns: 0,
            stalls: Stalls::new(),
            metrics: Metrics::default(),
            probe,
            config,
        })
    }

    /// The same as one of several shards of a host, number `config.shard` of them. All shards must have
    /// the same settings, the seed included, apart from the number.
    ///
    /// # Errors
    /// As [`Transport::new`], and when `host` has no such shard.
    pub fn sharing(config: Config, probe: P, host: &Arc<HostShare>) -> Result<Self, ConfigError> {
        let (shard, high) = (config.shard, host.shards() - 1);
        if shard > high {
            let (value, high) = (shard.into(), high.into());
            return Err(ConfigError { name: "shard", value, low: 0, high });
        }
        let mut transport = Self::new(config, probe)?;
        if high > 0 {
            transport.sender.pacer.share(host, shard);
            transport.share = Some(Box::new(Share::new(Arc::clone(host), shard)));
        }
        Ok(transport)
    }

    /// An ack record that is about no RPC of this shard: it may be about one of another. Give it to
    /// [`Transport::on_missed_ack`] of all other shards.
    #[inline]
    pub fn poll_missed_ack(&mut self) -> Option<MissedAck> {
        self.share.as_mut()?.pop_missed_ack()
    }

    /// Takes an ack record that another shard has received. Nothing happens if it is not ours either.
    pub fn on_missed_ack(&mut self, now: Nanos, ack: &MissedAck) {
        if let Some(peer) = self.peers.find(ack.client) {
            self.end_acked(now, peer, ack.id, ack.server_port);
        }
    }

    /// The settings it was built with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The counters.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// What watches.
    pub fn probe(&self) -> &P {
        &self.probe
    }

    /// What watches, for changing it.
    pub fn probe_mut(&mut self) -> &mut P {
        &mut self.probe
    }

    /// The next thing for the application.
    #[inline]
    pub fn poll_event(&mut self) -> Option<Event<B>> {
        self.events.pop_front()
    }

    /// To be called after the packets of a receive burst: takes in their acks, and decides on grants, once
    /// for all of them.
    pub fn end_burst(&mut self, now: Nanos) {
        self.end_burst_with(now, drop);
    }

    /// As [`Transport::end_burst`]; messages whose RPCs have ended well go to `recycle`, which may use their
    /// buffers again.
    #[inline]
    pub fn end_burst_with(&mut self, now: Nanos, mut recycle: impl FnMut(M)) {
        if !self.acks.is_empty() {
            self.settle_acks(now);
        }
        while let Some(message) = self.done_messages.pop() {
            recycle(message);
        }
        self.decide_grants(now);
    }

    /// The earliest time at which [`Transport::on_timer`] or [`Transport::poll_transmit`] has
    /// something to do. `now` is the earliest answer.
    pub fn next_deadline(&self, now: Nanos) -> Option<Nanos> {
        let transmit = self.next_transmit(now);
        if transmit == Some(now) {
            return transmit;
        }
        let wheel = self.wheel.next_deadline().map(|at| at + Nanos(self.stalled_ns));
        let acks = self.ack_flushes.front().map(|&(_, since)| self.ack_due(since));
        let cutoffs = self.config.cutoffs_auto.then_some(self.next_cutoffs);
        let first = [wheel, acks, cutoffs, self.next_grant_look()]
            .into_iter()
            .fold(transmit, |first, at| {
                first.map_or(at, |first| Some(at.map_or(first, |at| at.min(first))))
            });
        first.map(|at| at.max(now))
    }

    /// A snapshot of what is in the tables.
    pub fn occupancy(&self) -> Occupancy {
        Occupancy {
            client_rpcs: self.client_count,
            server_rpcs: self.server_count,
            peers: self.peers.len(),
            retained_packets: self.ledger.retained(),
            incoming_bytes: self.grants.incoming_bytes(),
            grantable: self.grants.grantable(),
            outgoing_bytes: self.request_bytes + self.response_bytes,
        }
    }

    /// The cutoffs in force for packets to this host.
    pub fn cutoffs(&self) -> [u32; NUM_PRIORITIES] {
        self.cutoffs.current()
    }

    /// Sets the cutoffs; peers are told with their next packet.
    pub fn set_cutoffs(&mut self, cutoffs: [u32; NUM_PRIORITIES]) {
        self.cutoffs.set(cutoffs);
    }

    /// The first payload of a request announced by [`Event::RequestHead`], while it is incomplete.
    pub fn head(&self, rpc: RpcHandle) -> Option<&B> {
        let index = self.rpcs.resolve(rpc.0)?;
        self.inbound(index)?.reassembly.head()
    }

    /// Whether a packet with this header has a port to go to.
    #[inline]
    pub fn is_port_open(&self, header: &crate::wire::Header) -> bool {
        // To the client side any open port will do, to the server side one that serves.
        if header.sender_id.is_client() {
            self.ports.is_serving(header.dport)
        } else {
            self.ports.is_open(header.dport)
        }
    }

    /// Whether there is an RPC with the host `addr` that a packet sent from `port` can belong to whose
    /// sender's id is `id`: news about packets that we never sent are made up.
    pub fn has_rpc(&mut self, addr: HostAddr, port: HomaPort, id: RpcId) -> bool {
        let Some(peer) = self.peers.find(addr) else { return false };
        if id.is_client() {
            let found = self.find_client(id, port).and_then(|index| self.rpcs.get(index));
            found.is_some_and(|rpc| rpc.peer == peer)
        } else {
            self.find_server(peer, id, port, None).is_some()
        }
    }

    /// Whether there is any RPC with the host `addr` between our port `local` and its port `remote`: all
    /// that can be asked about a packet of which no more is known.
    pub fn has_rpc_between(&mut self, addr: HostAddr, local: HomaPort, remote: HomaPort) -> bool {
        let Some(peer) = self.peers.find(addr) else { return false };
        (0..self.rpcs.bound())
            .filter_map(|index| self.rpcs.get(index))
            .any(|rpc| rpc.peer == peer && rpc.local_port == local && rpc.remote_port == remote)
    }

    fn inbound(&self, index: u32) -> Option<&Inbound<B>> {
        self.rpcs.get(index)?.inbound.as_ref()
    }

    /// Enters a message that another shard has received into the account of this transport.
    pub fn adopt(&self, message: LooseMessage<B>) -> Message<B> {
        Message::adopted(message, &self.ledger)
    }

    /// Whether messages of others may be adopted: not while packet buffers are scarce here.
    pub fn may_adopt(&self) -> bool {
        self.ledger.retained() <= self.retained_scarce()
    }

    /// Takes as many packet buffers out of the account as a message held that was loosened here, and is
    /// in that of another by now or gone.
    pub fn settle_loose(&self, packets: u32) {
        self.ledger.release(packets);
    }

    /// Retained packets above which only the best message gets grants, and small packets are copied.
    fn retained_scarce(&self) -> u32 {
        self.config.retained_packets_max / 4 * 3
    }

    /// Retained packets above which no RPC is started.
    fn retained_full(&self) -> u32 {
        self.config.retained_packets_max / 8 * 7
    }

    #[inline]
    fn server_hash(&self, peer: u32, id: RpcId) -> u32 {
        self.server_seed.hash(id.0, u64::from(peer)) as u32
    }

    /// The client RPC with this (even) id on `port`. Ids of ours say where the RPC stands.
    #[inline]
    fn find_client(&self, id: RpcId, port: HomaPort) -> Option<u32> {
        let place = ((id.0 >> PLACE_SHIFT) & PLACE_MASK) as u32;
        let rpc = self.rpcs.get(place)?;
        (rpc.id == id && rpc.local_port == port).then_some(place)
    }

    /// The server RPC with this (odd) id from `peer` on `port`; with `client_port`, only one from
    /// there.
    #[inline]
    fn find_server(
        &self,
        peer: u32,
        id: RpcId,
        port: HomaPort,
        client_port: Option<HomaPort>,
    ) -> Option<u32> {
        self.find_hashed(self.server_hash(peer, id), peer, id, port, client_port)
    }

    /// The same with the hash of peer and id.
    #[inline]
    fn find_hashed(
        &self,
        hash: u32,
        peer: u32,
        id: RpcId,
        port: HomaPort,
        client_port: Option<HomaPort>,
    ) -> Option<u32> {
        self.server_index.find(hash, |index| {
            self.rpcs.get(index).is_some_and(|rpc| {
                rpc.id == id
                    && rpc.peer == peer
                    && rpc.local_port == port
                    && client_port.is_none_or(|port| rpc.remote_port == port)
            })
        })
    }

    /// Enters an RPC into the tables. The caller has checked that there is room. Inlined, so that the
    /// entry is written where it stays.
    #[inline(always)]
    fn insert_rpc(&mut self, now: Nanos, rpc: Rpc<B, M>) -> Option<Handle> {
        let (id, peer, hash, is_client) = (rpc.id, rpc.peer, rpc.hash, rpc.state.is_client());
        let handle = self.rpcs.insert(rpc)?;
        if is_client {
            self.client_count += 1;
            self.metrics.client_started += 1;
        } else {
            self.server_index.insert(hash, handle.index);
            self.server_count += 1;
            self.metrics.server_started += 1;
        }
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.rpcs += 1;
            peer.server_rpcs += u32::from(!is_client);
        }
        self.probe.rpc_started(now, id);
        Some(handle)
    }

    /// Takes an RPC out of all tables; its buffers and messages go with it.
    #[inline]
    fn end_rpc(&mut self, now: Nanos, index: u32) {
        let Some(rpc) = self.rpcs.get(index) else { return };
        let (id, peer, is_client) = (rpc.id, rpc.peer, rpc.state.is_client());
        let has_messages = rpc.inbound.is_some() || rpc.outbound.is_some();
        if is_client {
            self.client_count -= 1;
        } else {
            let (hash, tombstone) = (rpc.hash, rpc.tombstone);
            self.forget_request(now, index, hash, tombstone);
        }
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.rpcs -= 1;
            peer.server_rpcs -= u32::from(!is_client);
        }
        if has_messages {
            self.end_messages(index);
        }
        self.rpcs.remove(index);
        self.probe.rpc_ended(now, id);
    }

    /// Takes the messages of an RPC that ends out of the accounts, and the orders of sending and granting.
    fn end_messages(&mut self, index: u32) {
        let Some(rpc) = self.rpcs.get_mut(index) else { return };
        if let Some(inbound) = &mut rpc.inbound {
            if !Mutation::LeakBudget.is_on() {
                self.grants.adjust(inbound.incoming(), 0);
            }
            self.grants.remove(&mut self.peers, rpc.peer, index);
            if !Mutation::LeakOnAbort.is_on() {
                inbound.reassembly.clear(&self.ledger);
            }
        }
        if let Some(outbound) = &rpc.outbound {
            // Only what can send stands in the order of sending.
            if outbound.is_sendable() {
                self.sender.remove(index);
            }
            let is_client = rpc.state.is_client();
            let bytes = if is_client { &mut self.request_bytes } else { &mut self.response_bytes };
            *bytes -= u64::from(outbound.length);
        }
    }

    /// Takes a request out of what only server RPCs stand in.
    #[inline]
    fn forget_request(&mut self, now: Nanos, index: u32, hash: u32, tombstone: Place) {
        self.server_count -= 1;
        self.server_index.remove(hash, index);
        if let Some(tombstones) = &mut self.tombstones {
            // In the time of timers: what waits for a shard that does not run must not outlive
            // the memory of it.
            let stalled_ns = if Mutation::ForgetInStall.is_on() { 0 } else { self.stalled_ns };
            tombstones.advance(Nanos(now.0.saturating_sub(stalled_ns)));
            tombstones.bury(tombstone);
        }
    }

    /// Ends a client RPC and tells the application why.
    fn fail_client(&mut self, now: Nanos, index: u32, error: RpcError) {
        let Some(rpc) = self.rpcs.get(index) else { return };
        debug_assert!(rpc.state.is_client());
        let event = Event::Response { cookie: rpc.cookie, id: rpc.id, result: Err(error) };
        self.metrics.client_failed += 1;
        self.end_rpc(now, index);
        if Mutation::FailTwice.is_on()
            && let Event::Response { cookie, id, result: Err(error) } = event
        {
            self.events.push_back(Event::Response { cookie, id, result: Err(error) });
        }
        self.events.push_back(event);
    }

    /// Ends an RPC that cannot go on: with an error to the application if it is ours.
    fn give_up(&mut self, now: Nanos, index: u32, error: RpcError) {
        match self.rpcs.get(index).map(|rpc| rpc.state) {
            Some(State::ClientOutgoing | State::ClientIncoming) => {
                self.fail_client(now, index, error);
            }
            Some(_) => self.end_rpc(now, index),
            None => {}
        }
    }
}

// An id, from the top: shard (8 bits), place in the table (20), sequence of that place (35), role (1).
const SHARD_SHIFT: u32 = 56;
const PLACE_SHIFT: u32 = 36;
const PLACE_MASK: u64 = (1 << (SHARD_SHIFT - PLACE_SHIFT)) - 1;
const SEQUENCE_MASK: u64 = (1 << (PLACE_SHIFT - 1)) - 1;
/// RPCs of both roles that the place in an id can name.
const RPCS_MAX: u64 = PLACE_MASK + 1;

/// How full a transport is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Occupancy {
    /// RPCs started here and not ended.
    pub client_rpcs: usize,
    /// RPCs started by peers and not ended.
    pub server_rpcs: usize,
    /// Peers known.
    pub peers: usize,
    /// Packet buffers held by received messages, complete or not.
    pub retained_packets: u32,
    /// Bytes announced or granted and not yet received.
    pub incoming_bytes: u64,
    /// Messages that need grants.
    pub grantable: usize,
    /// Bytes held for sending and sending again.
    pub outgoing_bytes: u64,
}

impl Occupancy {
    /// Adds what is in the tables of another shard. A peer that both know counts twice.
    pub fn add(&mut self, other: &Self) {
        self.client_rpcs += other.client_rpcs;
        self.server_rpcs += other.server_rpcs;
        self.peers += other.peers;
        self.retained_packets += other.retained_packets;
        self.incoming_bytes += other.incoming_bytes;
        self.grantable += other.grantable;
        self.outgoing_bytes += other.outgoing_bytes;
    }
}

impl<B: Payload, M: OutMessage, P: Probe> fmt::Debug for Transport<B, M, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("occupancy", &self.occupancy())
            .field("metrics", &self.metrics)
            .finish_non_exhaustive()
    }
}
