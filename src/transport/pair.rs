//! Two transports and a network between them in virtual time: the bench for tests.

use core::ops::Range;
use std::collections::{BTreeMap, HashSet};
use std::net::Ipv4Addr;

use crate::addr::HostAddr;
use crate::time::Nanos;
use crate::wire::{Body, HomaPort, Packet};

use super::*;

/// A payload or message in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Payload for Bytes {
    fn len(&self) -> u32 {
        self.0.len() as u32
    }

    fn narrow(&mut self, range: Range<u32>) {
        self.0.truncate(range.end as usize);
        self.0.drain(..range.start as usize);
    }
}

/// A message to send, cut into packets of `segment`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outgoing {
    pub(crate) bytes: Vec<u8>,
    pub(crate) segment: u32,
}

impl OutMessage for Outgoing {
    fn len(&self) -> u32 {
        self.bytes.len() as u32
    }

    fn segment_bytes(&self) -> u32 {
        self.segment
    }
}

/// A packet on its way.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    /// When it left.
    pub(crate) at: Nanos,
    pub(crate) to: HostAddr,
    pub(crate) priority: u8,
    pub(crate) packet: Packet,
    pub(crate) payload: Bytes,
}

/// Collects what a transport sends.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    pub(crate) frames: Vec<Frame>,
    pub(crate) room: usize,
    /// Has no short way for whole messages.
    pub(crate) refuses_whole: bool,
    now: Nanos,
}

impl Sink {
    pub(crate) fn with_room(room: usize, now: Nanos) -> Self {
        Self { frames: Vec::new(), room, refuses_whole: false, now }
    }
}

impl Frame {
    /// Type, fields and priority on the wire, without ports and id: `BUSY @7`.
    pub(crate) fn brief(&self) -> String {
        let line = self.packet.with_payload(self.payload.0.len()).to_string();
        let words: Vec<&str> = line.split(' ').collect();
        let fields = [&words[..1], &words[3..]].concat().join(" ");
        format!("{fields} @{}", self.priority)
    }
}

/// [`Frame::brief`] of all.
pub(crate) fn briefs(frames: &[Frame]) -> Vec<String> {
    frames.iter().map(Frame::brief).collect()
}

impl TxSink<Outgoing> for Sink {
    fn room(&self) -> usize {
        self.room - self.frames.len()
    }

    fn control(&mut self, to: PeerRef, priority: u8, packet: &Packet) {
        self.push(to, priority, packet, Vec::new());
    }

    fn data(
        &mut self,
        to: PeerRef,
        priority: u8,
        packet: &Packet,
        message: &mut Outgoing,
        range: Range<u32>,
    ) {
        let bytes = message.bytes[range.start as usize..range.end as usize].to_vec();
        self.push(to, priority, packet, bytes);
    }

    fn whole(
        &mut self,
        to: PeerRef,
        priority: u8,
        packet: &Packet,
        message: &mut Outgoing,
    ) -> bool {
        if !self.refuses_whole {
            self.data(to, priority, packet, message, 0..message.len());
        }
        !self.refuses_whole
    }
}

impl Sink {
    fn push(&mut self, to: PeerRef, priority: u8, packet: &Packet, bytes: Vec<u8>) {
        assert!(self.frames.len() < self.room, "more packets than the sink has room for");
        let (to, packet, payload) = (to.addr, *packet, Bytes(bytes));
        self.frames.push(Frame { at: self.now, to, priority, packet, payload });
    }
}

pub(crate) type Shard = Transport<Bytes, Outgoing>;

pub(crate) const CLIENT: HostAddr = HostAddr::v4(Ipv4Addr::new(10, 0, 0, 1));
pub(crate) const SERVER: HostAddr = HostAddr::v4(Ipv4Addr::new(10, 0, 0, 2));
pub(crate) const SERVICE: HomaPort = HomaPort(99);
pub(crate) const SEGMENT: u32 = 1_424;

/// Bytes of a message that can be told from any other.
pub(crate) fn pattern(len: usize, seed: u64) -> Vec<u8> {
    (0..len as u64).map(|i| ((i + seed).wrapping_mul(0x9E37_79B9) >> 11) as u8).collect()
}

pub(crate) fn outgoing(len: usize, seed: u64) -> Outgoing {
    Outgoing { bytes: pattern(len, seed), segment: SEGMENT }
}

/// What the network does to a packet.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) loss_percent: u64,
    pub(crate) duplicate_percent: u64,
    /// Extra delay of up to this much, which reorders.
    pub(crate) jitter_ns: u64,
}

/// A request that the application of one side has.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) side: usize,
    pub(crate) rpc: RpcHandle,
    pub(crate) message: Message<Bytes>,
}

/// Says of a packet that side 0 or 1 has sent whether the network loses it.
type Lose = Box<dyn FnMut(usize, &Frame) -> bool>;

/// A client (side 0) and a server (side 1) with 5 us of network between them. Every step checks
/// that no request is delivered twice and that grants stay within the budget.
pub(crate) struct Pair {
    pub(crate) now: Nanos,
    pub(crate) shards: [Shard; 2],
    /// The ports that calls come from.
    pub(crate) ports: [HomaPort; 2],
    pub(crate) faults: Faults,
    /// Losses that a test chooses.
    pub(crate) lose: Option<Lose>,
    /// Hosts report closed ports.
    pub(crate) icmp: bool,
    /// Payload bytes of full packets.
    pub(crate) segment: u32,
    /// Packets that the NIC takes at a time.
    pub(crate) room: usize,
    in_flight: BTreeMap<(Nanos, u64), (usize, Frame)>,
    sequence: u64,
    random: u64,
    delivered: HashSet<(usize, RpcId)>,
    /// Requests not answered, in order of arrival.
    pub(crate) requests: VecDeque<Request>,
    pub(crate) responses: Vec<(u64, Result<Message<Bytes>, RpcError>)>,
    pub(crate) sent: [Vec<Frame>; 2],
    pub(crate) record: bool,
}

pub(crate) const DELAY: Nanos = Nanos::from_us(5);
const ADDRESSES: [HostAddr; 2] = [CLIENT, SERVER];

impl Pair {
    pub(crate) fn new(config: Config) -> Self {
        Self::with_configs(config.clone(), config)
    }

    /// Different settings at client and server.
    pub(crate) fn with_configs(client: Config, server: Config) -> Self {
        let mut shards = [
            Shard::new(Config { seed: client.seed + 1, ..client }, ()).unwrap(),
            Shard::new(Config { seed: server.seed + 2, ..server }, ()).unwrap(),
        ];
        assert!(shards[1].open_server_port(SERVICE));
        let port = shards[0].open_client_port().unwrap();
        Self {
            now: Nanos::from_ms(1),
            shards,
            ports: [port, SERVICE],
            faults: Faults::default(),
            lose: None,
            icmp: true,
            segment: SEGMENT,
            room: 64,
            in_flight: BTreeMap::new(),
            sequence: 0,
            random: 0x2545_F491_4F6C_DD1D,
            delivered: HashSet::new(),
            requests: VecDeque::new(),
            responses: Vec::new(),
            sent: [Vec::new(), Vec::new()],
            record: false,
        }
    }

    /// Both sides serve and call, all from one port.
    pub(crate) fn symmetric(config: Config) -> Self {
        let mut pair = Self::new(config);
        assert!(pair.shards[0].open_server_port(SERVICE));
        pair.ports = [SERVICE; 2];
        pair
    }

    /// Seeds the faults.
    pub(crate) fn seed(&mut self, seed: u64) {
        self.random = (seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    }

    pub(crate) fn call(&mut self, len: usize, cookie: u64) -> RpcHandle {
        self.call_from(0, len, cookie).unwrap()
    }

    /// A call of a message that [`pattern`] makes of `len` and `cookie`.
    pub(crate) fn call_from(
        &mut self,
        side: usize,
        len: usize,
        cookie: u64,
    ) -> Result<RpcHandle, RefusedReason> {
        let message = Outgoing { bytes: pattern(len, cookie), segment: self.segment };
        let (port, to) = (self.ports[side], ADDRESSES[1 - side]);
        let called = self.shards[side].call(self.now, port, to, SERVICE, message, cookie);
        called.map(|(handle, _)| handle).map_err(|refused| refused.reason)
    }

    pub(crate) fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    fn put_on_wire(&mut self, to: usize, frame: Frame) {
        if self.lose.as_mut().is_some_and(|lose| lose(1 - to, &frame)) {
            return;
        }
        if self.random(100) < self.faults.loss_percent {
            return;
        }
        let copies = 1 + u64::from(self.random(100) < self.faults.duplicate_percent);
        for _ in 0..copies {
            let jitter =
                if self.faults.jitter_ns > 0 { self.random(self.faults.jitter_ns) } else { 0 };
            self.sequence += 1;
            let at = self.now + DELAY + Nanos(jitter);
            self.in_flight.insert((at, self.sequence), (to, frame.clone()));
        }
    }

    fn drain(&mut self, side: usize) {
        loop {
            let mut sink = Sink::with_room(self.room, self.now);
            if self.shards[side].poll_transmit(self.now, &mut sink) == 0 {
                break;
            }
            for frame in sink.frames {
                if self.record {
                    self.sent[side].push(frame.clone());
                }
                self.put_on_wire(1 - side, frame);
            }
        }
        while let Some(event) = self.shards[side].poll_event() {
            match event {
                Event::Request { rpc, id, message, .. } => {
                    assert!(self.delivered.insert((side, id)), "request {id} delivered twice");
                    self.requests.push_back(Request { side, rpc, message });
                }
                Event::Response { cookie, result, .. } => self.responses.push((cookie, result)),
                Event::RequestHead { .. } => {}
            }
        }
    }

    /// Delivers what arrives next, or moves to the next deadline. False when nothing is left to do
    /// before `until`.
    pub(crate) fn step(&mut self, until: Nanos) -> bool {
        self.drain(0);
        self.drain(1);
        let arrival = self.in_flight.keys().next().map(|key| key.0);
        let deadlines = self.shards.iter().filter_map(|shard| shard.next_deadline(self.now));
        let Some(next) = deadlines.chain(arrival).min().filter(|next| *next <= until) else {
            self.now = until;
            return false;
        };
        self.now = self.now.max(next);
        while let Some(entry) = self.in_flight.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let (to, frame) = entry.remove();
            let (from, header) = (ADDRESSES[1 - to], frame.packet.header);
            let outcome = self.shards[to].on_packet(self.now, from, &frame.packet, frame.payload);
            if outcome == Outcome::PortUnreachable && self.icmp {
                let what = Unreachable::Port { local: header.sport, remote: header.dport };
                self.shards[1 - to].on_unreachable(self.now, ADDRESSES[to], what);
            }
        }
        for shard in &mut self.shards {
            let announced = shard.occupancy().incoming_bytes;
            shard.end_burst(self.now);
            shard.on_timer(self.now);
            let budget = u64::from(shard.config().incoming_max_bytes);
            let incoming = shard.occupancy().incoming_bytes;
            assert!(incoming <= announced.max(budget), "granted to {incoming} of {budget}");
        }
        true
    }

    /// Runs for `duration`, answering each request with what `service` makes of it.
    pub(crate) fn run(
        &mut self,
        duration: Nanos,
        mut service: impl FnMut(&Message<Bytes>) -> Option<Outgoing>,
    ) {
        let until = self.now + duration;
        let mut kept = VecDeque::new();
        loop {
            while let Some(request) = self.requests.pop_front() {
                match service(&request.message) {
                    // Refused if the client has given up in the meantime.
                    Some(response) => drop(self.reply(&request, response)),
                    None => kept.push_back(request),
                }
            }
            let more = self.step(until);
            self.drain(0);
            self.drain(1);
            if !more && self.requests.is_empty() {
                break;
            }
        }
        self.requests = kept;
    }

    /// Runs for `duration` without answering anything.
    pub(crate) fn idle(&mut self, duration: Nanos) {
        self.run(duration, |_| None);
    }

    pub(crate) fn reply(
        &mut self,
        request: &Request,
        response: Outgoing,
    ) -> Result<(), Refused<Outgoing>> {
        self.shards[request.side].reply(self.now, request.rpc, response)
    }

    /// For a server that restarts: what it did before it does not remember.
    pub(crate) fn forget_deliveries(&mut self) {
        self.delivered.clear();
    }

    /// Nothing in the tables of either side but peers.
    pub(crate) fn assert_empty(&self) {
        for shard in &self.shards {
            let occupancy = shard.occupancy();
            let empty = Occupancy { peers: occupancy.peers, ..Occupancy::default() };
            assert_eq!(occupancy, empty);
        }
    }

    /// All calls with these cookies and lengths were answered by [`echo`], each once.
    pub(crate) fn assert_echoed(&mut self, calls: &[(u64, usize)]) {
        let mut responses: Vec<_> = self.responses.drain(..).collect();
        responses.sort_by_key(|(cookie, _)| *cookie);
        let cookies: Vec<u64> = responses.iter().map(|(cookie, _)| *cookie).collect();
        assert_eq!(cookies, calls.iter().map(|(cookie, _)| *cookie).collect::<Vec<_>>());
        for ((cookie, result), (_, len)) in responses.into_iter().zip(calls) {
            let message = result.unwrap_or_else(|error| panic!("call {cookie}: {error}"));
            assert!(message.to_vec() == pattern(*len, cookie), "call {cookie} of {len} bytes");
        }
    }

    /// When `side` sent the packets that `matches` picks, in microseconds since the start.
    pub(crate) fn times_us(&self, side: usize, matches: impl Fn(&Body) -> bool) -> Vec<u64> {
        let picked = self.sent[side].iter().filter(|frame| matches(&frame.packet.body));
        picked.map(|frame| frame.at.since(Nanos::from_ms(1)).0 / 1_000).collect()
    }

    pub(crate) fn count(&self, side: usize, matches: impl Fn(&Body) -> bool) -> usize {
        self.sent[side].iter().filter(|frame| matches(&frame.packet.body)).count()
    }
}

/// The server of most tests: sends the request back.
pub(crate) fn echo(request: &Message<Bytes>) -> Option<Outgoing> {
    Some(Outgoing { bytes: request.to_vec(), segment: SEGMENT })
}
