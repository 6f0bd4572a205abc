//! The loop over events, and the messages that hosts exchange.

use core::fmt;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use crate::load::arrival::{Arrival, Arrivals};
use crate::load::pattern::TrafficPattern;
use crate::load::response::ResponseKind;
use crate::load::workload::Workload;
use crate::time::Nanos;
use crate::transport::{Event as HomaEvent, Message, Metrics, Payload, RpcError, Transport};
use crate::wire::{Body, Cutoffs, Header, HomaPort, NUM_PRIORITIES, Packet, RpcId};

use super::config::{Counted, Exchange, SimConfig, SimError, TimeConfig};
use super::events::{Event, Kind, Picos};
use super::fabric::{Fabric, PS_PER_NS, PacketCounts};
use super::host::{Host, address};
use super::ideal::Ideal;
use super::levels::{Levels, levels};
use super::nic::Nic;
use super::observe::{Delivery, Exchanged, Observer};
use super::packet::{Contents, Outgoing, Piece};
use super::shards::{Crossings, HostFaults, ShardRpc, Shards};

/// The port that all hosts call from and serve.
const SERVICE: HomaPort = HomaPort(99);

/// Who sends to whom, and what is answered, where that is not what the settings say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Traffic {
    /// Who sends to whom.
    pub pattern: TrafficPattern,
    /// What requests are answered with; by the settings if absent.
    pub response: Option<ResponseKind>,
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Simulated time, in nanoseconds.
    pub simulated_ns: u64,
    /// Events.
    pub events: u64,
    /// Packets.
    pub packets: PacketCounts,
    /// Messages started in all.
    pub started: u64,
    /// Messages that have arrived in all.
    pub delivered: u64,
    /// Their bytes.
    pub delivered_bytes: u64,
    /// Requests that an application got a second time.
    pub delivered_twice: u64,
    /// Measured messages that had not arrived when the run stopped; all that had not, where those count
    /// that arrive in the measured time.
    pub unfinished: u64,
    /// Calls that a transport refused.
    pub refused: u64,
    /// Calls that ended with an error.
    pub failed: u64,
    /// Mean over ports to hosts of the most bytes that waited there.
    pub host_port_bytes_max_mean: f64,
    /// Most bytes that waited at a port to a host.
    pub host_port_bytes_max: u64,
    /// Depends on every event of the run: equal for equal runs.
    pub trace_hash: u64,
}

/// An exchange under way.
#[derive(Clone, Copy, Debug)]
struct Pending {
    handle: Option<ShardRpc>,
    started_ps: Picos,
    size_bytes: u32,
    /// Number of the request; that of the response is one more.
    message: u32,
    src: u16,
    dst: u16,
    measured: bool,
    delivered: bool,
}

impl Pending {
    /// How it ended.
    fn over(&self, at_ns: u64, response_bytes: u32, result: Result<bool, RpcError>) -> Exchanged {
        Exchanged {
            at_ns,
            started_ns: self.started_ps / PS_PER_NS,
            request_bytes: self.size_bytes,
            response_bytes,
            measured: self.measured,
            result,
        }
    }
}

/// Hosts, the network between them and the load they offer.
pub struct Cluster<C: Contents = (), O: Observer = ()> {
    config: SimConfig,
    workload: Workload,
    hosts: Vec<Host<C>>,
    fabric: Fabric<C>,
    ideal: Ideal,
    observer: O,
    /// By host; empty if everybody sends to all others.
    destinations: Vec<Vec<u16>>,
    response: Option<ResponseKind>,
    pending: Vec<Pending>,
    free_slots: Vec<u32>,
    /// RPCs that the simulator has to end at the client.
    to_end: Vec<(u16, ShardRpc)>,
    now_ps: Picos,
    offers: bool,
    measured_open: u64,
    next_message: u32,
    events: u64,
    started: u64,
    delivered: u64,
    delivered_bytes: u64,
    delivered_twice: u64,
    refused: u64,
    failed: u64,
    trace_hash: u64,
}

/// What queues and progress are at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "cli", derive(serde::Serialize, serde::Deserialize))]
pub struct Sample {
    /// When, in nanoseconds of simulated time.
    pub at_ns: u64,
    /// Bytes that wait at the ports to hosts: on average, and at the fullest one.
    pub queued_bytes: (f64, u64),
    /// Bytes of all messages that have arrived so far.
    pub delivered_bytes: u64,
}

impl<C: Contents, O: Observer> Cluster<C, O> {
    /// A cluster in which every host offers messages of `workload` with `payload_bps` bits per second
    /// of payload, to destinations chosen at random.
    ///
    /// # Errors
    /// [`SimError`] says which setting is wrong.
    pub fn new(
        config: &SimConfig,
        workload: &Workload,
        payload_bps: f64,
        observer: O,
    ) -> Result<Self, SimError> {
        config.validate()?;
        let host_bps = config.network.host_bps;
        if !(payload_bps > 0.0 && payload_bps <= host_bps as f64) {
            return Err(SimError::Load { payload_bps, host_bps });
        }
        let mut seeds = Xoshiro256PlusPlus::seed_from_u64(config.seed);
        let (network, times) = (&config.network, &config.host);
        let fabric_seed = seeds.next_u64();
        let fabric = Fabric::new(network, times.tx_delay_ns, times.rx_delay_ns, fabric_seed);
        let cutoffs = Self::cutoffs(config, workload);
        let rps = payload_bps / 8.0 / workload.mean_bytes();
        let hosts = (0..network.hosts())
            .map(|index| Self::host(config, index as u16, cutoffs, rps, &mut seeds))
            .collect::<Result<Vec<_>, _>>()?;
        let mut cluster = Self {
            ideal: Ideal::new(network, times, config.intra_rack_slip),
            config: config.clone(),
            workload: workload.clone(),
            hosts,
            fabric,
            observer,
            destinations: Vec::new(),
            response: None,
            pending: Vec::new(),
            free_slots: Vec::new(),
            to_end: Vec::new(),
            now_ps: 0,
            offers: true,
            measured_open: 0,
            next_message: 0,
            events: 0,
            started: 0,
            delivered: 0,
            delivered_bytes: 0,
            delivered_twice: 0,
            refused: 0,
            failed: 0,
            trace_hash: 0,
        };
        cluster.introduce(cutoffs);
        for host in 0..cluster.hosts.len() as u16 {
            cluster.schedule_arrival(host);
        }
        Ok(cluster)
    }

    fn cutoffs(config: &SimConfig, workload: &Workload) -> [u32; NUM_PRIORITIES] {
        let homa = &config.homa;
        if homa.cutoffs.is_empty() {
            let segment_bytes = config.network.framing.segment_bytes();
            let Levels { cutoffs, .. } = levels(
                workload,
                homa.num_priorities,
                homa.unscheduled_priorities,
                homa.unsched_bytes,
                segment_bytes,
            );
            return cutoffs;
        }
        let mut cutoffs = [0; NUM_PRIORITIES];
        cutoffs[..homa.cutoffs.len()].copy_from_slice(&homa.cutoffs);
        cutoffs
    }

    fn host(
        config: &SimConfig,
        index: u16,
        cutoffs: [u32; NUM_PRIORITIES],
        rps: f64,
        seeds: &mut Xoshiro256PlusPlus,
    ) -> Result<Host<C>, SimError> {
        let mut settings =
            config.homa.transport(config.network.host_bps, cutoffs, seeds.next_u64());
        settings.peers_max = config.network.hosts() as usize + 1;
        let transport = Shards::new(&settings, &config.host, address(index), SERVICE)
            .map_err(SimError::Transport)?;
        Ok(Host {
            transport,
            nic: Nic::new(config.host.nic_backlog_ns.saturating_mul(PS_PER_NS)),
            nic_wakes: false,
            timer_ps: Picos::MAX,
            waiting: Default::default(),
            processing: false,
            cpu_free_ps: 0,
            arrivals: Arrivals::new(Arrival::Poisson, Nanos::ZERO, rps, seeds.next_u64()),
            random: Xoshiro256PlusPlus::seed_from_u64(seeds.next_u64()),
        })
    }

    /// Tells every host the cutoffs of all others, as if they had talked before.
    fn introduce(&mut self, cutoffs: [u32; NUM_PRIORITIES]) {
        let header = Header { sport: SERVICE, dport: SERVICE, sender_id: RpcId(2) };
        let packet = Packet { header, body: Body::Cutoffs(Cutoffs { cutoffs, version: 1 }) };
        for (index, host) in self.hosts.iter_mut().enumerate() {
            for other in 0..self.config.network.hosts() as u16 {
                if usize::from(other) != index {
                    host.transport.teach(address(other), &packet);
                }
            }
        }
    }

    /// Changes who sends to whom, and what is answered. Before the run begins.
    ///
    /// # Errors
    /// There are too few hosts for the pattern, or messages are to be answered that go one way.
    pub fn set_traffic(&mut self, traffic: &Traffic) -> Result<(), SimError> {
        if traffic.response.is_some() && self.config.exchange == Exchange::OneWay {
            return Err(SimError::OneWayWithResponse);
        }
        self.response.clone_from(&traffic.response);
        self.destinations.clear();
        if traffic.pattern != TrafficPattern::AllToAll {
            let hosts = self.config.network.hosts();
            for host in 0..hosts {
                let found = traffic.pattern.destinations(host, hosts).map_err(SimError::Pattern)?;
                self.destinations.push(found.into_iter().map(|host| host as u16).collect());
            }
        }
        Ok(())
    }

    /// Runs to the end of the measurement.
    pub fn run(&mut self) -> Summary {
        while !self.advance(u64::MAX) {}
        self.summary()
    }

    /// Runs until `until_ns` of simulated time, or to the end of the measurement; says whether that
    /// has come.
    pub fn advance(&mut self, until_ns: u64) -> bool {
        let time = &self.config.time;
        let measured_ps = (time.warm_up_ns + time.measure_ns) * PS_PER_NS;
        let end_ps = measured_ps + time.drain_max_ns * PS_PER_NS;
        let until_ps = until_ns.saturating_mul(PS_PER_NS);
        while self.now_ps < until_ps {
            if self.now_ps >= end_ps || self.now_ps >= measured_ps && self.measured_open == 0 {
                return true;
            }
            if !self.step() {
                return true;
            }
        }
        false
    }

    /// Offers no more messages and runs until nothing is left in the network and no exchange is open,
    /// but at most `max_ns` longer; says whether it came to that.
    pub fn settle(&mut self, max_ns: u64) -> bool {
        self.offers = false;
        self.empty(max_ns)
    }

    /// Offers no messages but these: one of `size_bytes` from `src` to each of `destinations`, all at
    /// once; runs until their exchanges have ended, but at most `max_ns`, and says whether they have.
    pub(crate) fn burst(
        &mut self,
        src: u16,
        destinations: impl Iterator<Item = u16>,
        size_bytes: u32,
        max_ns: u64,
    ) -> bool {
        self.offers = false;
        for dst in destinations {
            self.call(src, dst, size_bytes);
        }
        self.transmit(src);
        self.empty(max_ns)
    }

    fn empty(&mut self, max_ns: u64) -> bool {
        let until_ps = self.now_ps + max_ns * PS_PER_NS;
        loop {
            if self.open_exchanges() == 0 && self.fabric.frames.len() == 0 {
                return true;
            }
            if self.now_ps >= until_ps || !self.step() {
                return false;
            }
        }
    }

    /// Exchanges that have not ended.
    pub fn open_exchanges(&self) -> usize {
        self.pending.len() - self.free_slots.len()
    }

    /// What has come of the run so far.
    pub fn summary(&self) -> Summary {
        let ports = self.hosts.len() as f64;
        let most = self.fabric.host_port_bytes_max();
        let packets =
            PacketCounts { in_network: self.fabric.frames.len() as u64, ..self.fabric.counts };
        Summary {
            simulated_ns: self.now_ps / PS_PER_NS,
            events: self.events,
            packets,
            started: self.started,
            delivered: self.delivered,
            delivered_bytes: self.delivered_bytes,
            delivered_twice: self.delivered_twice,
            unfinished: match self.config.time.counted {
                Counted::Started => self.measured_open,
                Counted::Arrived => {
                    let delivered = self.delivered - self.delivered_twice;
                    self.started.saturating_sub(delivered + self.failed)
                }
            },
            refused: self.refused,
            failed: self.failed,
            host_port_bytes_max_mean: most.sum::<u64>() as f64 / ports,
            host_port_bytes_max: self.fabric.host_port_bytes_max().max().unwrap_or(0),
            trace_hash: self.trace_hash,
        }
    }

    /// Queues and progress now.
    pub fn sample(&self) -> Sample {
        let queued = || self.fabric.host_port_bytes();
        Sample {
            at_ns: self.now_ns(),
            queued_bytes: (
                queued().sum::<u64>() as f64 / self.hosts.len() as f64,
                queued().max().unwrap_or(0),
            ),
            delivered_bytes: self.delivered_bytes,
        }
    }

    /// The counters of all transports together.
    pub fn metrics(&self) -> Metrics {
        let mut sum = Metrics::default();
        for host in &self.hosts {
            host.transport.add_metrics(&mut sum);
        }
        sum
    }

    /// What was found wrong with hosts as a whole, and what crossed between their shards.
    pub fn shards(&self) -> (HostFaults, Crossings) {
        let (mut faults, mut crossings) = (HostFaults::default(), Crossings::default());
        for Host { transport, .. } in &self.hosts {
            faults.leases_unbalanced += transport.faults.leases_unbalanced;
            faults.lease_exceeded += transport.faults.lease_exceeded;
            faults.no_owner += transport.faults.no_owner;
            crossings.redirected += transport.crossings.redirected;
            crossings.dropped += transport.crossings.dropped;
            crossings.stalls += transport.crossings.stalls;
        }
        (faults, crossings)
    }

    /// The transport of one host, of its first shard if it has several.
    pub fn transport(&self, host: u16) -> &Transport<Piece<C>, Outgoing> {
        self.hosts[usize::from(host)].transport.first()
    }

    /// What watches.
    pub fn observer(&self) -> &O {
        &self.observer
    }

    /// Gives out what watches.
    pub fn into_observer(self) -> O {
        self.observer
    }

    /// Simulated time, in nanoseconds.
    pub fn now_ns(&self) -> u64 {
        self.now_ps / PS_PER_NS
    }

    fn now(&self) -> Nanos {
        Nanos(self.now_ps / PS_PER_NS)
    }

    fn step(&mut self) -> bool {
        let Some((at_ps, event)) = self.fabric.events.pop() else { return false };
        self.now_ps = at_ps;
        self.events += 1;
        let Event { kind, node, packet } = event;
        self.trace_hash = (self.trace_hash.rotate_left(5) ^ at_ps ^ event.code().rotate_left(17))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        match kind {
            Kind::Enqueue => self.fabric.enqueue(at_ps, node, packet),
            Kind::PortFree => self.fabric.port_free(at_ps, node),
            Kind::Receive => self.receive(node, packet),
            Kind::Process => self.process(node),
            Kind::NicFree => {
                // The timer of a host that always has something to send would never come.
                let state = &mut self.hosts[usize::from(node)];
                state.nic_wakes = false;
                state.transport.on_timer(Nanos(at_ps / PS_PER_NS));
                self.turn(node);
            }
            Kind::Timer => self.on_timer(node),
            Kind::Arrival => self.on_arrival(node),
        }
        true
    }

    fn receive(&mut self, host: u16, packet: u32) {
        let cpu_ps = self.config.host.rx_cpu_ns * PS_PER_NS;
        if cpu_ps == 0 {
            self.take_in(host, packet);
            self.turn(host);
            return;
        }
        let state = &mut self.hosts[usize::from(host)];
        state.waiting.push_back(packet);
        if !state.processing {
            state.processing = true;
            let at_ps = state.cpu_free_ps.max(self.now_ps) + cpu_ps;
            self.fabric.events.push(at_ps, Event { kind: Kind::Process, node: host, packet: 0 });
        }
    }

    /// A turn of the receive loop over what waits.
    fn process(&mut self, host: u16) {
        let cpu_ps = self.config.host.rx_cpu_ns * PS_PER_NS;
        let most = self.config.host.rx_burst_packets as usize;
        let burst = self.hosts[usize::from(host)].waiting.len().min(most);
        for _ in 0..burst {
            let Some(packet) = self.hosts[usize::from(host)].waiting.pop_front() else { break };
            self.take_in(host, packet);
        }
        self.turn(host);
        let state = &mut self.hosts[usize::from(host)];
        // The time of the first packet has passed already.
        state.cpu_free_ps = self.now_ps + (burst.max(1) as u64 - 1) * cpu_ps;
        state.processing = !state.waiting.is_empty();
        if state.processing {
            let at_ps = state.cpu_free_ps + cpu_ps;
            self.fabric.events.push(at_ps, Event { kind: Kind::Process, node: host, packet: 0 });
        }
    }

    fn take_in(&mut self, host: u16, index: u32) {
        self.fabric.counts.received += 1;
        let now = self.now();
        let piece = self.fabric.frames.remove(index);
        let src = address(self.fabric.frames.label(index).src);
        let packet = self.fabric.frames.packet(index);
        self.hosts[usize::from(host)].transport.on_packet(now, src, packet, piece);
    }

    /// What a host does after packets have come: grants, application, sending.
    fn turn(&mut self, host: u16) {
        let now = self.now();
        self.hosts[usize::from(host)].transport.end_burst(now);
        while let Some((shard, event)) = self.hosts[usize::from(host)].transport.poll_event(now) {
            match event {
                HomaEvent::Request { rpc, message, .. } => {
                    self.on_request(host, Shards::<C>::of(shard, rpc), &message);
                }
                HomaEvent::Response { cookie, result, .. } => {
                    let slot = cookie as u32;
                    let number = self.pending[slot as usize].message + 1;
                    let length = result.as_ref().map_or(0, |message| message.len() as u32);
                    let result = result.map(|message| is_intact(&message, number));
                    self.failed += u64::from(result.is_err());
                    self.observer.over(&self.pending[slot as usize].over(now.0, length, result));
                    self.observer.ended(now.0, result);
                    self.end(slot);
                }
                HomaEvent::RequestHead { .. } => {}
            }
        }
        self.transmit(host);
        while let Some((client, handle)) = self.to_end.pop() {
            self.hosts[usize::from(client)].transport.abort(now, handle);
        }
    }

    fn transmit(&mut self, host: u16) {
        let framing = self.config.network.framing;
        let state = &mut self.hosts[usize::from(host)];
        state.transmit(self.now_ps, host, framing, &mut self.fabric);
    }

    fn on_timer(&mut self, host: u16) {
        let now = self.now();
        let state = &mut self.hosts[usize::from(host)];
        if state.timer_ps != self.now_ps {
            // An earlier one took its place.
            return;
        }
        state.timer_ps = Picos::MAX;
        state.transport.on_timer(now);
        self.turn(host);
    }

    fn on_request(&mut self, host: u16, rpc: ShardRpc, message: &Message<Piece<C>>) {
        let Some(slot) = message.payloads().next().map(|piece| piece.slot) else { return };
        let now = self.now();
        let pending = &mut self.pending[slot as usize];
        let first = !std::mem::replace(&mut pending.delivered, true);
        let pending = *pending;
        let intact = is_intact(message, pending.message)
            && message.len() == pending.size_bytes as usize
            && pending.dst == host;
        self.delivered += 1;
        self.delivered_bytes += u64::from(pending.size_bytes);
        self.delivered_twice += u64::from(!first);
        self.measured_open -= u64::from(pending.measured && first);
        let intra = self.fabric.is_intra_rack(pending.src, host);
        let ideal_ps = self.ideal.time_ps(pending.size_bytes, intra);
        self.observer.delivered(&Delivery {
            at_ns: now.0,
            started_ns: pending.started_ps / PS_PER_NS,
            src: pending.src,
            dst: host,
            size_bytes: pending.size_bytes,
            slowdown: (self.now_ps - pending.started_ps) as f64 / ideal_ps as f64,
            measured: match self.config.time.counted {
                Counted::Started => pending.measured,
                Counted::Arrived => is_measured_time(&self.config.time, now),
            },
            intact,
        });
        let transport = &mut self.hosts[usize::from(host)].transport;
        match self.config.exchange {
            Exchange::OneWay => {
                self.observer.over(&pending.over(now.0, 0, Ok(intact)));
                transport.abort(now, rpc);
                if let Some(handle) = pending.handle {
                    self.to_end.push((pending.src, handle));
                }
                self.end(slot);
            }
            Exchange::Rpc(bytes) => {
                let length = match &self.response {
                    Some(kind) => kind.bytes(pending.message.into(), pending.size_bytes),
                    None if bytes == 0 => pending.size_bytes,
                    None => bytes,
                };
                let segment_bytes = self.config.network.framing.segment_bytes();
                let message = pending.message + 1;
                let response = Outgoing { slot, message, length, segment_bytes };
                if transport.reply(now, rpc, response).is_err() {
                    self.refused += 1;
                }
            }
        }
    }

    fn end(&mut self, slot: u32) {
        let pending = &mut self.pending[slot as usize];
        // A call may fail although, or before, its request has arrived.
        self.measured_open -= u64::from(pending.measured && !pending.delivered);
        pending.measured = false;
        self.free_slots.push(slot);
    }

    fn schedule_arrival(&mut self, host: u16) {
        let at_ps = self.hosts[usize::from(host)].arrivals.next().0 * PS_PER_NS;
        self.fabric.events.push(at_ps, Event { kind: Kind::Arrival, node: host, packet: 0 });
    }

    /// A message is due.
    fn on_arrival(&mut self, host: u16) {
        if !self.offers {
            return;
        }
        let destinations = self.destinations.get(usize::from(host)).map(|list| &list[..]);
        if destinations.is_some_and(<[u16]>::is_empty) {
            return;
        }
        let others = match destinations {
            Some(list) => list.len() as u64,
            None => u64::from(self.config.network.hosts() - 1),
        };
        let state = &mut self.hosts[usize::from(host)];
        state.arrivals.advance();
        let size_bytes = self.workload.sample(&mut state.random);
        let other = (((state.random.next_u64() >> 32) * others) >> 32) as u16;
        let dst = match destinations {
            Some(list) => list[usize::from(other)],
            None => other + u16::from(other >= host),
        };
        self.schedule_arrival(host);
        self.call(host, dst, size_bytes);
        self.transmit(host);
    }

    fn call(&mut self, src: u16, dst: u16, size_bytes: u32) {
        let (time, now) = (&self.config.time, self.now());
        let measured = time.counted == Counted::Started && is_measured_time(time, now);
        let message = self.next_message;
        self.next_message = message.wrapping_add(2);
        let pending = Pending {
            handle: None,
            started_ps: self.now_ps,
            size_bytes,
            message,
            src,
            dst,
            measured,
            delivered: false,
        };
        let slot = self.insert(pending);
        let segment_bytes = self.config.network.framing.segment_bytes();
        let request = Outgoing { slot, message, length: size_bytes, segment_bytes };
        let transport = &mut self.hosts[usize::from(src)].transport;
        let called = transport.call(now, address(dst), SERVICE, request, u64::from(slot));
        match called {
            Ok(handle) => {
                self.pending[slot as usize].handle = Some(handle);
                self.started += 1;
                self.measured_open += u64::from(measured);
                self.observer.started(now.0, measured);
            }
            Err(_) => {
                self.refused += 1;
                self.observer.refused(now.0, measured);
                self.free_slots.push(slot);
            }
        }
    }

    fn insert(&mut self, pending: Pending) -> u32 {
        match self.free_slots.pop() {
            Some(slot) => {
                self.pending[slot as usize] = pending;
                slot
            }
            None => {
                self.pending.push(pending);
                (self.pending.len() - 1) as u32
            }
        }
    }
}

fn is_measured_time(time: &TimeConfig, now: Nanos) -> bool {
    now.0 >= time.warm_up_ns && now.0 - time.warm_up_ns < time.measure_ns
}

/// Whether the pieces of a message are the whole of message number `number`, in order.
fn is_intact<C: Contents>(message: &Message<Piece<C>>, number: u32) -> bool {
    let mut end = 0;
    message.payloads().all(|piece| {
        let start = end;
        end += piece.len();
        piece.message == number
            && piece.start == start
            && piece.contents.is_intact(number, start..end)
    }) && end as usize == message.len()
}

impl<C: Contents, O: Observer> fmt::Debug for Cluster<C, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("config", &self.config)
            .field("summary", &self.summary())
            .finish_non_exhaustive()
    }
}
