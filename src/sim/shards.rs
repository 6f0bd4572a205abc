//! The transports of a simulated host: one, or several shards that share what those of a real host share,
//! with the same function that says which packet belongs to which.

use std::collections::VecDeque;
use std::sync::Arc;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use crate::addr::HostAddr;
use crate::net::Steering;
use crate::time::Nanos;
use crate::transport::{
    Config, ConfigError, Event, HostShare, Metrics, Refused, RpcHandle, Transport, TxSink,
};
use crate::wire::{HomaPort, Packet};

use super::config::HostConfig;
use super::packet::{Contents, Outgoing, Piece};

/// Ports that the calls of a shard rotate among, to spread over the shards of the servers.
const CALL_PORTS: usize = 8;
/// Packets that wait for a shard; more are lost.
const RING_PACKETS: usize = 1_024;

/// An RPC of a host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ShardRpc {
    shard: usize,
    rpc: RpcHandle,
}

/// What was found wrong with a host as a whole. All zero in a run without faults of ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostFaults {
    /// Times that the leases of all shards and the free budget were not the budget.
    pub leases_unbalanced: u64,
    /// Times that a shard had granted more than it had leased.
    pub lease_exceeded: u64,
    /// Packets whose id named no shard.
    pub no_owner: u64,
}

/// What crossed from shard to shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Crossings {
    /// Packets passed on.
    pub redirected: u64,
    /// Packets lost because too many waited.
    pub dropped: u64,
    /// Stalls.
    pub stalls: u64,
}

/// A packet on its way to another shard, or to one that does not run.
#[derive(Debug)]
struct Waiting<C> {
    ready: Nanos,
    src: HostAddr,
    packet: Packet,
    piece: Piece<C>,
}

#[derive(Debug)]
struct Shard<C: Contents> {
    transport: Transport<Piece<C>, Outgoing>,
    ports: Vec<HomaPort>,
    next_port: usize,
    ring: VecDeque<Waiting<C>>,
    /// It does not run before this.
    stalled_until: Nanos,
    next_stall: Nanos,
}

impl<C: Contents> Shard<C> {
    fn runs(&self, now: Nanos) -> bool {
        now >= self.stalled_until
    }

    fn take_ring(&mut self, now: Nanos) {
        while self.ring.front().is_some_and(|waiting| waiting.ready <= now) {
            let Some(Waiting { src, packet, piece, .. }) = self.ring.pop_front() else { return };
            let _ = self.transport.on_packet(now, src, &packet, piece);
        }
    }
}

/// The shards of a host.
#[derive(Debug)]
pub(crate) struct Shards<C: Contents> {
    shards: Vec<Shard<C>>,
    host: Arc<HostShare>,
    steering: Steering,
    ours: HostAddr,
    budget: i64,
    next_caller: usize,
    hop: Nanos,
    detour: bool,
    stall_every_ns: u64,
    stall_ns: u64,
    random: Xoshiro256PlusPlus,
    pub(crate) faults: HostFaults,
    pub(crate) crossings: Crossings,
}

impl<C: Contents> Shards<C> {
    pub(crate) fn new(
        config: &Config,
        host: &HostConfig,
        ours: HostAddr,
        service: HomaPort,
    ) -> Result<Self, ConfigError> {
        let count = u8::try_from(host.shards).unwrap_or(u8::MAX);
        let share = HostShare::new(count, config)?;
        let mut random = Xoshiro256PlusPlus::seed_from_u64(config.seed ^ 0x7368_6172);
        let shards = (0..count)
            .map(|shard| {
                let config = Config { shard, ..config.clone() };
                let mut transport = Transport::sharing(config, (), &share)?;
                transport.open_server_port(service);
                let ports = if count == 1 {
                    vec![service]
                } else {
                    (0..CALL_PORTS).filter_map(|_| transport.open_client_port()).collect()
                };
                Ok(Shard {
                    transport,
                    ports,
                    next_port: 0,
                    ring: VecDeque::new(),
                    stalled_until: Nanos::ZERO,
                    next_stall: next_stall(Nanos::ZERO, host.stall_every_ns, &mut random),
                })
            })
            .collect::<Result<_, ConfigError>>()?;
        Ok(Self {
            shards,
            host: share,
            steering: Steering::new(count, 0),
            ours,
            budget: i64::from(config.incoming_max_bytes),
            next_caller: 0,
            hop: Nanos(host.hop_ns),
            detour: host.detour,
            stall_every_ns: host.stall_every_ns,
            stall_ns: host.stall_ns,
            random,
            faults: HostFaults::default(),
            crossings: Crossings::default(),
        })
    }

    pub(crate) fn first(&self) -> &Transport<Piece<C>, Outgoing> {
        &self.shards[0].transport
    }

    /// Gives all shards a packet, as if each had talked to its sender.
    pub(crate) fn teach(&mut self, src: HostAddr, packet: &Packet) {
        for shard in &mut self.shards {
            let _ = shard.transport.on_packet(Nanos::ZERO, src, packet, Piece::default());
        }
    }

    pub(crate) fn on_packet(
        &mut self,
        now: Nanos,
        src: HostAddr,
        packet: &Packet,
        piece: Piece<C>,
    ) {
        if let [alone] = &mut self.shards[..]
            && self.stall_every_ns == 0
        {
            let _ = alone.transport.on_packet(now, src, packet, piece);
            return;
        }
        let Some(owner) = self.steering.owner(src.ip(), self.ours.ip(), &packet.header) else {
            self.faults.no_owner += 1;
            return;
        };
        // The NIC spreads by addresses alone: what it can do with packets that are not TCP.
        let none = HomaPort(0);
        let arrived =
            self.steering.hash(src.ip(), self.ours.ip(), none, none) as usize % self.shards.len();
        let owner = usize::from(owner);
        let crosses = arrived != owner || self.detour;
        self.crossings.redirected += u64::from(crosses);
        let shard = &mut self.shards[owner];
        let hop = if crosses { self.hop } else { Nanos::ZERO };
        if shard.runs(now) && hop == Nanos::ZERO && shard.ring.is_empty() {
            let _ = shard.transport.on_packet(now, src, packet, piece);
        } else if shard.ring.len() < RING_PACKETS {
            let ready = now + hop;
            shard.ring.push_back(Waiting { ready, src, packet: *packet, piece });
        } else {
            self.crossings.dropped += 1;
        }
    }

    /// A turn of every shard that runs.
    pub(crate) fn end_burst(&mut self, now: Nanos) {
        for shard in &mut self.shards {
            if self.stall_every_ns > 0 && now >= shard.next_stall {
                shard.stalled_until = now + Nanos(self.stall_ns);
                let after = shard.stalled_until;
                shard.next_stall = next_stall(after, self.stall_every_ns, &mut self.random);
                shard.transport.excuse(after, self.stall_ns);
                self.crossings.stalls += 1;
            }
            if shard.runs(now) {
                shard.take_ring(now);
                shard.transport.end_burst(now);
            }
        }
        self.pass_acks_on(now);
        if self.shards.len() > 1 {
            self.check(now);
        }
    }

    fn pass_acks_on(&mut self, now: Nanos) {
        for from in 0..self.shards.len() {
            while let Some(ack) = self.shards[from].transport.poll_missed_ack() {
                for to in (0..self.shards.len()).filter(|&to| to != from) {
                    self.shards[to].transport.on_missed_ack(now, &ack);
                }
            }
        }
    }

    /// Whether the shards are one host.
    fn check(&mut self, now: Nanos) {
        let leased = |shard: usize| self.host.leased_bytes(shard as u8);
        let sum: i64 = (0..self.shards.len()).map(leased).sum();
        self.faults.leases_unbalanced += u64::from(sum + self.host.free_bytes() != self.budget);
        let granted = |shard: &Shard<C>| shard.transport.occupancy().incoming_bytes as i64;
        // A shard that does not run has not settled yet.
        let exceeded = self.shards.iter().enumerate().filter(|(_, shard)| shard.runs(now));
        let exceeded = exceeded.filter(|&(at, shard)| granted(shard) > leased(at)).count();
        self.faults.lease_exceeded += exceeded as u64;
    }

    pub(crate) fn poll_event(&mut self, now: Nanos) -> Option<(usize, Event<Piece<C>>)> {
        let shards = self.shards.iter_mut().enumerate();
        let mut running = shards.filter(|(_, shard)| shard.runs(now));
        running.find_map(|(at, shard)| Some((at, shard.transport.poll_event()?)))
    }

    /// A call by the shard whose turn it is.
    pub(crate) fn call(
        &mut self,
        now: Nanos,
        dst: HostAddr,
        service: HomaPort,
        message: Outgoing,
        cookie: u64,
    ) -> Result<ShardRpc, Refused<Outgoing>> {
        let caller = self.next_caller;
        self.next_caller = (caller + 1) % self.shards.len();
        let shard = &mut self.shards[caller];
        let port = shard.ports[shard.next_port];
        shard.next_port = (shard.next_port + 1) % shard.ports.len();
        let (rpc, _) = shard.transport.call(now, port, dst, service, message, cookie)?;
        Ok(ShardRpc { shard: caller, rpc })
    }

    pub(crate) fn of(shard: usize, rpc: RpcHandle) -> ShardRpc {
        ShardRpc { shard, rpc }
    }

    pub(crate) fn reply(
        &mut self,
        now: Nanos,
        rpc: ShardRpc,
        message: Outgoing,
    ) -> Result<(), Refused<Outgoing>> {
        self.shards[rpc.shard].transport.reply(now, rpc.rpc, message)
    }

    pub(crate) fn abort(&mut self, now: Nanos, rpc: ShardRpc) {
        self.shards[rpc.shard].transport.abort(now, rpc.rpc);
    }

    pub(crate) fn on_timer(&mut self, now: Nanos) {
        for shard in self.shards.iter_mut().filter(|shard| shard.runs(now)) {
            shard.transport.on_timer(now);
        }
    }

    /// Sends what may go now: of all shards, what is best first, as through one queue of the NIC.
    pub(crate) fn poll_transmit(&mut self, now: Nanos, sink: &mut impl TxSink<Outgoing>) {
        if let [alone] = &mut self.shards[..]
            && alone.runs(now)
        {
            alone.transport.poll_transmit(now, sink);
            return;
        }
        // Shards that have nothing, or may not send.
        let mut done: u64 = 0;
        while sink.room() > 0 {
            let shards = self.shards.iter().enumerate();
            let able = shards.filter(|(at, shard)| done & 1 << at == 0 && shard.runs(now));
            let next = able.filter_map(|(at, shard)| Some((shard.transport.send_order()?, at)));
            let Some((_, at)) = next.min() else { return };
            if self.shards[at].transport.poll_transmit(now, sink) == 0 {
                done |= 1 << at;
            }
        }
    }

    pub(crate) fn next_deadline(&self, now: Nanos) -> Option<Nanos> {
        let deadline = |shard: &Shard<C>| {
            let packet = shard.ring.front().map(|waiting| waiting.ready);
            let next = packet.into_iter().chain(shard.transport.next_deadline(now)).min()?;
            Some(next.max(shard.stalled_until))
        };
        self.shards.iter().filter_map(deadline).min()
    }

    pub(crate) fn add_metrics(&self, sum: &mut Metrics) {
        self.shards.iter().for_each(|shard| sum.add(shard.transport.metrics()));
    }
}

fn next_stall(now: Nanos, every_ns: u64, random: &mut Xoshiro256PlusPlus) -> Nanos {
    match every_ns {
        0 => Nanos::MAX,
        every_ns => now + Nanos(1 + random.next_u64() % (2 * every_ns)),
    }
}
