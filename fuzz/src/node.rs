//! A whole host without its port: frames go through a stack into a transport whose application calls,
//! answers, waits and gives up. Whatever comes in, limits hold, every call ends once, and when nothing
//! more comes everything is forgotten.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;

use homa::net::{IpChecksum, NetEvent, Stack, UnreachableCause};
use homa::time::Nanos;
use homa::transport::{
    Config, Event, Message, OutMessage, Payload, PeerRef, RpcHandle, Transport, TxSink, Unreachable,
};
use homa::wire::{
    DATA_HEADER_LEN, HomaPort, IP_PROTOCOL, MAX_HEADER_LEN, MAX_MESSAGE_LENGTH, Packet, RpcId,
};

use super::frame;
use super::input::Input;
use super::net;

const SERVICE: HomaPort = HomaPort(4000);
const SEGMENT_BYTES: u32 = 1424;
/// The network that answers from us go into has this many hosts.
const PEERS: u8 = 6;
/// Packets that the way out takes at a time.
const ROOM: usize = 32;
/// Longer than anything is remembered.
const FOREVER: Nanos = Nanos::from_secs(30);
/// A deadline that is due again and again would hang a node.
const TURNS_MAX: usize = 200_000;
/// TCP, which marked Homa packets are taken for.
const TCP: u8 = 6;

/// A received payload: nobody looks at its bytes.
#[derive(Debug)]
pub struct Bytes(u32);

impl Payload for Bytes {
    fn len(&self) -> u32 {
        self.0
    }

    fn narrow(&mut self, range: Range<u32>) {
        assert!(range.start <= range.end && range.end <= self.0, "{range:?} of {}", self.0);
        self.0 = range.end - range.start;
    }
}

/// A message of ours.
#[derive(Debug)]
pub struct Outgoing(u32);

impl OutMessage for Outgoing {
    fn len(&self) -> u32 {
        self.0
    }

    fn segment_bytes(&self) -> u32 {
        SEGMENT_BYTES
    }
}

/// The way out: checks what it is given.
#[derive(Debug)]
struct Wire {
    room: usize,
}

impl Wire {
    fn send(&mut self, priority: u8, packet: &Packet) {
        assert!(self.room > 0, "more packets than there is room for");
        self.room -= 1;
        assert!(priority < 8);
        let mut bytes = [0; MAX_HEADER_LEN];
        let length = packet.emit(&mut bytes);
        assert_eq!(Packet::parse(&bytes[..length]), Ok(*packet));
    }
}

impl TxSink<Outgoing> for Wire {
    fn room(&self) -> usize {
        self.room
    }

    fn control(&mut self, _: PeerRef, priority: u8, packet: &Packet) {
        self.send(priority, packet);
    }

    fn data(
        &mut self,
        _: PeerRef,
        priority: u8,
        packet: &Packet,
        message: &mut Outgoing,
        range: Range<u32>,
    ) {
        assert!(range.start < range.end && range.end <= message.0, "{range:?} of {}", message.0);
        assert!(range.end - range.start <= SEGMENT_BYTES);
        assert_eq!(range.start % SEGMENT_BYTES, 0, "original boundaries");
        self.send(priority, packet);
    }
}

/// The host and what its application knows.
#[derive(Debug)]
struct Host {
    now: Nanos,
    stack: Stack,
    transport: Transport<Bytes, Outgoing>,
    client_port: HomaPort,
    /// All calls; the cookie of each is its index.
    calls: Vec<(RpcId, RpcHandle)>,
    /// Cookies of calls that have not ended.
    open: HashSet<u64>,
    /// Requests that wait for an answer.
    requests: Vec<RpcHandle>,
    /// Messages that the application has not dropped.
    held: Vec<Message<Bytes>>,
}

fn config(flags: u8) -> Config {
    let base = if flags & 1 == 0 { Config::default() } else { Config::to_the_letter() };
    Config {
        unsched_bytes: if flags & 2 == 0 { 40_000 } else { 3_000 },
        check_response_source: flags & 4 != 0,
        announce_heads: flags & 8 != 0,
        pacing: flags & 16 != 0,
        link_bps: 1_000_000_000,
        num_priorities: if flags & 32 == 0 { 8 } else { 2 },
        cutoffs_auto: flags & 64 != 0,
        tombstone_keep_ns: if flags & 128 == 0 { 200_000_000 } else { 0 },
        client_rpcs_max: 12,
        server_rpcs_max: 12,
        server_rpcs_per_peer_max: 8,
        peers_max: 4,
        gaps_per_message_max: 6,
        control_packets_max: 64,
        retransmits_max: 8,
        outgoing_max_bytes: 3_000_000,
        retained_packets_max: 64,
        tombstones_max: 64,
        seed: 1,
        ..base
    }
}

/// Takes `input` for packets, calls, answers and the passing of time.
pub fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let mut host = Host::new(input.byte());
    while !input.is_empty() {
        host.step(&mut input);
        host.settle();
    }
    host.finish();
}

impl Host {
    fn new(flags: u8) -> Self {
        let mut transport = Transport::new(config(flags), ()).expect("good settings");
        assert!(transport.open_server_port(SERVICE));
        let client_port = transport.open_client_port().expect("a port");
        Self {
            now: Nanos::from_secs(1),
            stack: net::stack(None),
            transport,
            client_port,
            calls: Vec::new(),
            open: HashSet::new(),
            requests: Vec::new(),
            held: Vec::new(),
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let operation = input.byte();
        match operation % 12 {
            0 => {
                let mut frame = input.string().to_vec();
                frame::repair(&mut frame);
                self.receive(&frame);
            }
            1..=5 => self.receive_packet(operation, input),
            6 => self.call(input),
            7 => self.reply(input),
            8 => self.pass_time(input.duration()),
            9 => self.forget(input.byte()),
            10 => self.held.truncate(usize::from(input.byte()) / 8),
            _ => self.stall(input.duration()),
        }
    }

    /// The loop did not come round for a while. That is over, so the time has passed.
    fn stall(&mut self, time: Nanos) {
        self.now = self.now + time;
        self.transport.excuse(self.now, time.0);
    }

    /// A Homa packet that is likely to concern an RPC: ports and id fit, the rest is as it comes.
    fn receive_packet(&mut self, operation: u8, input: &mut Input<'_>) {
        let (code, about) = (input.byte(), input.byte());
        let mut packet = input.string().to_vec();
        packet.resize(packet.len().max(homa::wire::COMMON_HEADER_LEN), 0);
        let is_response = about & 0x80 != 0;
        let (sport, dport, id) = if is_response {
            let newest = usize::from(about & 0x0F);
            let id = self.calls.iter().rev().nth(newest).map_or(RpcId(1), |call| call.0.flip());
            (SERVICE, self.client_port, id)
        } else {
            (HomaPort(40_000), SERVICE, RpcId(u64::from(about & 0x0F) * 2 + 2))
        };
        packet[..2].copy_from_slice(&sport.0.to_be_bytes());
        packet[2..4].copy_from_slice(&dport.0.to_be_bytes());
        packet[11] = 0x10 + code % 9;
        packet[20..28].copy_from_slice(&id.0.to_be_bytes());
        let is_marked = operation & 0x80 != 0;
        if is_marked {
            packet[13] = 0x06;
            packet[18..20].copy_from_slice(&[0xB9, 0x7D]);
        }
        let src = Ipv4Addr::new(10, 77, 0, 3 + (about >> 4 & 7) % PEERS);
        self.receive(&frame::ipv4(src, if is_marked { TCP } else { IP_PROTOCOL }, &packet));
    }

    /// As the node does it.
    fn receive(&mut self, frame: &[u8]) {
        let received = net::receive(&mut self.stack, self.now, frame, IpChecksum::Unknown);
        let Some((src, bytes)) = received else { return };
        let Ok(packet) = Packet::parse(bytes) else { return };
        if !self.transport.is_port_open(&packet.header) {
            self.stack.port_unreachable(self.now, frame);
        }
        let payload = Bytes(bytes.len().saturating_sub(DATA_HEADER_LEN) as u32);
        self.transport.on_packet(self.now, src.into(), &packet, payload);
    }

    fn call(&mut self, input: &mut Input<'_>) {
        let peer = Ipv4Addr::new(10, 77, 0, 3 + input.byte() % PEERS);
        // Also lengths that are refused.
        let message = Outgoing(input.word() % (MAX_MESSAGE_LENGTH + 2));
        let cookie = self.calls.len() as u64;
        let (port, to) = (self.client_port, IpAddr::V4(peer));
        if let Ok((rpc, id)) =
            self.transport.call(self.now, port, to.into(), SERVICE, message, cookie)
        {
            assert!(id.is_client() && id.0 != 0);
            self.calls.push((id, rpc));
            self.open.insert(cookie);
        }
    }

    fn reply(&mut self, input: &mut Input<'_>) {
        let (which, length) = (usize::from(input.byte()), input.word());
        if self.requests.is_empty() {
            return;
        }
        let rpc = self.requests.swap_remove(which % self.requests.len());
        if self.transport.reply(self.now, rpc, Outgoing(length % (MAX_MESSAGE_LENGTH + 2))).is_err()
        {
            self.transport.abort(self.now, rpc);
        }
    }

    fn forget(&mut self, which: u8) {
        let cookie = u64::from(which);
        let Some(&(_, rpc)) = self.calls.get(usize::from(which)) else { return };
        // A call that the application gives up ends without an event.
        if self.transport.abort(self.now, rpc) {
            assert!(self.open.remove(&cookie), "call {cookie} ended twice");
        }
    }

    fn pass_time(&mut self, time: Nanos) {
        let until = self.now + time;
        for turn in 0.. {
            let Some(next) = self.transport.next_deadline(self.now).filter(|next| *next <= until)
            else {
                break;
            };
            assert!(turn < TURNS_MAX, "a deadline at {next} that nothing meets");
            self.now = self.now.max(next);
            self.transport.on_timer(self.now);
            self.stack.on_timer(self.now);
            self.settle();
        }
        self.now = until;
        self.stack.on_timer(self.now);
    }

    /// The rest of a turn of the loop.
    fn settle(&mut self) {
        self.transport.end_burst(self.now);
        while let Some(event) = self.transport.poll_event() {
            self.on_event(event);
        }
        for event in net::collect(&mut self.stack) {
            self.on_net_event(&event);
        }
        for _ in 0..4 {
            let mut wire = Wire { room: ROOM };
            self.transport.poll_transmit(self.now, &mut wire);
            if wire.room == ROOM {
                break;
            }
        }
        self.check_limits();
    }

    fn on_event(&mut self, event: Event<Bytes>) {
        match event {
            Event::RequestHead { rpc, .. } => assert!(self.transport.head(rpc).is_some()),
            Event::Request { rpc, message, .. } => {
                self.requests.push(rpc);
                self.take(message);
            }
            Event::Response { cookie, result, .. } => {
                assert!(self.open.remove(&cookie), "call {cookie} ended twice");
                if let Ok(message) = result {
                    self.take(message);
                }
            }
        }
    }

    fn take(&mut self, message: Message<Bytes>) {
        let bytes: u64 = message.payloads().map(|payload| u64::from(payload.0)).sum();
        assert_eq!(bytes, message.len() as u64, "a complete message has all its bytes, once");
        self.held.push(message);
    }

    fn on_net_event(&mut self, event: &NetEvent) {
        if let NetEvent::PeerUnreachable { cause, quoted, .. } = event {
            let what = match cause {
                UnreachableCause::Port => Unreachable::Port {
                    local: HomaPort(quoted.src_port),
                    remote: HomaPort(quoted.dst_port),
                },
                UnreachableCause::Protocol => Unreachable::Protocol,
                _ => Unreachable::Host,
            };
            self.transport.on_unreachable(self.now, quoted.dst.into(), what);
        }
    }

    fn check_limits(&self) {
        let (occupancy, config) = (self.transport.occupancy(), self.transport.config());
        assert!(occupancy.client_rpcs <= config.client_rpcs_max);
        assert!(occupancy.server_rpcs <= config.server_rpcs_max);
        assert!(occupancy.peers <= config.peers_max);
        assert!(occupancy.retained_packets <= config.retained_packets_max);
        // As much for requests as for responses, and checked before a message: one may go beyond.
        let outgoing_max = 2 * (config.outgoing_max_bytes + u64::from(MAX_MESSAGE_LENGTH));
        assert!(occupancy.outgoing_bytes <= outgoing_max);
    }

    /// The network falls silent, the application takes and answers nothing more.
    fn finish(mut self) {
        self.held.clear();
        for rpc in std::mem::take(&mut self.requests) {
            self.transport.abort(self.now, rpc);
        }
        self.pass_time(FOREVER);
        assert!(self.open.is_empty(), "calls without an end: {:?}", self.open);
        let occupancy = self.transport.occupancy();
        assert_eq!((occupancy.client_rpcs, occupancy.server_rpcs), (0, 0), "{occupancy:?}");
        assert_eq!((occupancy.retained_packets, occupancy.incoming_bytes), (0, 0), "{occupancy:?}");
        assert_eq!((occupancy.grantable, occupancy.outgoing_bytes), (0, 0), "{occupancy:?}");
    }
}
