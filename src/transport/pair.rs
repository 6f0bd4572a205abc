//! Two transports and a network between them in virtual time: the bench for tests.

use core::ops::Range;
use std::net::{IpAddr, Ipv4Addr};

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
    pub(crate) to: IpAddr,
    pub(crate) priority: u8,
    pub(crate) packet: Packet,
    pub(crate) payload: Bytes,
}

/// Collects what a transport sends.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    pub(crate) frames: Vec<Frame>,
    pub(crate) room: usize,
}

impl Sink {
    pub(crate) fn with_room(room: usize) -> Self {
        Self { frames: Vec::new(), room }
    }
}

impl TxSink<Outgoing> for Sink {
    fn room(&self) -> usize {
        self.room - self.frames.len()
    }

    fn control(&mut self, to: PeerRef, priority: u8, packet: &Packet) {
        let frame = Frame { to: to.addr, priority, packet: *packet, payload: Bytes(Vec::new()) };
        self.frames.push(frame);
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
        self.frames.push(Frame { to: to.addr, priority, packet: *packet, payload: Bytes(bytes) });
    }
}

pub(crate) type Shard = Transport<Bytes, Outgoing>;

pub(crate) const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
pub(crate) const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
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

/// A client and a server with 5 us of network between them.
pub(crate) struct Pair {
    pub(crate) now: Nanos,
    pub(crate) shards: [Shard; 2],
    pub(crate) port: HomaPort,
    pub(crate) faults: Faults,
    in_flight: std::collections::BTreeMap<(Nanos, u64), (usize, Frame)>,
    sequence: u64,
    random: u64,
    /// Requests the server has, in order of arrival; the test answers them.
    pub(crate) requests: VecDeque<(RpcHandle, Message<Bytes>)>,
    pub(crate) responses: Vec<(u64, Result<Message<Bytes>, RpcError>)>,
    pub(crate) sent: [Vec<Frame>; 2],
    pub(crate) record: bool,
}

pub(crate) const DELAY: Nanos = Nanos::from_us(5);

impl Pair {
    pub(crate) fn new(config: Config) -> Self {
        let shard = |seed| Shard::new(Config { seed, ..config.clone() }, ()).unwrap();
        let mut shards = [shard(1), shard(2)];
        assert!(shards[1].open_server_port(SERVICE));
        let port = shards[0].open_client_port().unwrap();
        Self {
            now: Nanos::from_ms(1),
            shards,
            port,
            faults: Faults::default(),
            in_flight: Default::default(),
            sequence: 0,
            random: 0x2545_F491_4F6C_DD1D,
            requests: VecDeque::new(),
            responses: Vec::new(),
            sent: [Vec::new(), Vec::new()],
            record: false,
        }
    }

    pub(crate) fn call(&mut self, len: usize, cookie: u64) -> RpcHandle {
        let message = outgoing(len, cookie);
        self.shards[0].call(self.now, self.port, SERVER, SERVICE, message, cookie).unwrap().0
    }

    pub(crate) fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    fn put_on_wire(&mut self, to: usize, frame: Frame) {
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
            let mut sink = Sink::with_room(64);
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
                Event::Request { rpc, message, .. } => self.requests.push_back((rpc, message)),
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
            let from = if to == 1 { CLIENT } else { SERVER };
            self.shards[to].on_packet(self.now, from, &frame.packet, frame.payload);
        }
        for shard in &mut self.shards {
            shard.end_burst(self.now);
            shard.on_timer(self.now);
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
            let more = self.step(until);
            self.drain(1);
            while let Some((rpc, request)) = self.requests.pop_front() {
                match service(&request) {
                    Some(response) => {
                        // Refused if the client has given up in the meantime.
                        let _ = self.shards[1].reply(self.now, rpc, response);
                    }
                    None => kept.push_back((rpc, request)),
                }
            }
            if !more {
                self.drain(0);
                self.drain(1);
                break;
            }
        }
        self.requests = kept;
    }

    /// Nothing in the tables of either side but peers.
    pub(crate) fn assert_empty(&self) {
        for shard in &self.shards {
            let occupancy = shard.occupancy();
            let empty = Occupancy { peers: occupancy.peers, ..Occupancy::default() };
            assert_eq!(occupancy, empty);
        }
    }

    /// Types of the packets a side has sent, in order, each with its `Display`.
    pub(crate) fn log(&self, side: usize) -> Vec<String> {
        self.sent[side].iter().map(|frame| frame.packet.to_string()).collect()
    }

    pub(crate) fn count(&self, side: usize, matches: impl Fn(&Body) -> bool) -> usize {
        self.sent[side].iter().filter(|frame| matches(&frame.packet.body)).count()
    }
}

/// The server of most tests: sends the request back.
pub(crate) fn echo(request: &Message<Bytes>) -> Option<Outgoing> {
    Some(Outgoing { bytes: request.to_vec(), segment: SEGMENT })
}
