//! One side of a capture played by us: the packets of the other side come in at the times they were
//! captured, and an application calls or answers as the one that was recorded did.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Range;

use homa::net::{IpChecksum, MacAddr, NetEvent, Received, Stack, UnreachableCause};
use homa::time::Nanos;
use homa::transport::{
    Config, Event, OutMessage, Payload, PeerRef, RpcError, RpcHandle, Transport, TxSink,
    Unreachable,
};
use homa::wire::{Body, Cutoffs, DATA_HEADER_LEN, Header, HomaPort, Packet, RpcId};

use crate::capture::{Captured, Frame, frames, homa_in_frame, path};

/// Which side of a capture we play.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Client,
    Server,
}

/// What was known before the capture began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Before {
    /// The cutoffs that the peer had told, and their version; `None` on first contact.
    pub(crate) peer_cutoffs: Option<u16>,
    /// The version of our own cutoffs.
    pub(crate) own_version: u16,
}

/// The cutoffs of all hosts in the captures.
pub(crate) const CUTOFFS: [u32; 8] = [0, 0, 0, 0, 1_000_000, 15_000, 2_800, 200];
/// A node goes on for a while after the last packet.
const TAIL: Nanos = Nanos::from_ms(15);
const BEGIN: Nanos = Nanos::from_secs(1);

/// A packet that one side has sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) priority: u8,
    pub(crate) packet: Packet,
    pub(crate) payload_bytes: u32,
}

/// What one side did in a capture.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) sent: Vec<Sent>,
    /// How often it said port unreachable.
    pub(crate) port_unreachable: usize,
    /// How calls ended that had no response, and when.
    pub(crate) failed: Vec<(Nanos, RpcError)>,
    /// Lengths of the responses that calls had.
    pub(crate) responses: Vec<u32>,
    /// Lengths of the requests that were served.
    pub(crate) requests: Vec<u32>,
    /// RPCs left at the end.
    pub(crate) open_rpcs: usize,
}

#[derive(Debug)]
struct Bytes(u32);

impl Payload for Bytes {
    fn len(&self) -> u32 {
        self.0
    }

    fn narrow(&mut self, range: Range<u32>) {
        self.0 = range.end - range.start;
    }
}

#[derive(Debug)]
struct Outgoing {
    bytes: u32,
    segment_bytes: u32,
}

impl OutMessage for Outgoing {
    fn len(&self) -> u32 {
        self.bytes
    }

    fn segment_bytes(&self) -> u32 {
        self.segment_bytes
    }
}

struct Wire<'a>(&'a mut Vec<Sent>);

impl TxSink<Outgoing> for Wire<'_> {
    fn room(&self) -> usize {
        1_000
    }

    fn control(&mut self, _: PeerRef, priority: u8, packet: &Packet) {
        self.0.push(Sent { priority, packet: *packet, payload_bytes: 0 });
    }

    fn data(
        &mut self,
        _: PeerRef,
        priority: u8,
        packet: &Packet,
        _: &mut Outgoing,
        range: Range<u32>,
    ) {
        let payload_bytes = range.end - range.start;
        self.0.push(Sent { priority, packet: *packet, payload_bytes });
    }
}

/// What the recorded application did about one RPC.
#[derive(Clone, Copy, Debug, Default)]
struct Story {
    begin: Nanos,
    server: Option<(IpAddr, HomaPort)>,
    client_port: HomaPort,
    request_bytes: u32,
    /// Length of the response and when its first packet was seen.
    response: Option<(u32, Nanos)>,
    /// Some of it was sent again: it was there before it was asked for, though perhaps not on the wire.
    response_again: bool,
}

/// A capture taken apart.
pub(crate) struct Scene {
    frames: Vec<Frame>,
    packets: Vec<Captured>,
    stories: BTreeMap<RpcId, Story>,
    client: IpAddr,
    server: IpAddr,
    segment_bytes: u32,
}

impl Scene {
    pub(crate) fn of(name: &str) -> Self {
        let frames = frames(&std::fs::read(path(name)).unwrap());
        let packets: Vec<Captured> = frames
            .iter()
            .filter_map(homa_in_frame)
            .filter(|captured| !captured.is_cut_in_header())
            .collect();
        let first = &packets[0];
        let is_request = first.packet().header.sender_id.is_client();
        let (client, server) =
            if is_request { (first.src, first.dst) } else { (first.dst, first.src) };
        let segment_bytes = if client.is_ipv4() { 1_424 } else { 1_404 };
        let stories = stories(&packets);
        Self { frames, packets, stories, client, server, segment_bytes }
    }

    /// What the recorded side has sent.
    pub(crate) fn recorded(&self, role: Role) -> Record {
        let addr = self.address(role);
        let own = self.packets.iter().filter(|captured| captured.src == addr);
        let sent = own
            .map(|captured| Sent {
                priority: captured.priority,
                packet: captured.packet(),
                payload_bytes: captured.payload_bytes() as u32,
            })
            .collect();
        let own_icmp = self.frames.iter().filter(|frame| is_port_unreachable(frame, addr));
        let port_unreachable = own_icmp.count();
        Record { sent, port_unreachable, ..Record::default() }
    }

    /// Whether the capture shows anything of this RPC.
    pub(crate) fn shows(&self, id: RpcId) -> bool {
        self.stories.contains_key(&id)
    }

    /// RPCs of which the capture shows a response.
    pub(crate) fn answered(&self) -> usize {
        self.stories.values().filter(|story| story.response.is_some()).count()
    }

    fn address(&self, role: Role) -> IpAddr {
        match role {
            Role::Client => self.client,
            Role::Server => self.server,
        }
    }
}

fn stories(packets: &[Captured]) -> BTreeMap<RpcId, Story> {
    let mut stories = BTreeMap::<RpcId, Story>::new();
    for captured in packets {
        let packet = captured.packet();
        let Header { sport, dport, sender_id } = packet.header;
        let is_request = sender_id.is_client();
        let id = RpcId(sender_id.0 & !1);
        let story = stories.entry(id).or_insert_with(|| Story {
            begin: captured.at,
            client_port: if is_request { sport } else { dport },
            ..Story::default()
        });
        if let (Body::Data(data), false) = (packet.body, is_request) {
            story.response.get_or_insert((data.message_length, captured.at));
            story.response_again |= data.retransmit;
        }
        if is_request {
            story.server.get_or_insert((captured.dst, dport));
            if let Body::Data(data) = packet.body {
                story.request_bytes = data.message_length;
            }
        }
    }
    stories
}

fn is_port_unreachable(frame: &Frame, src: IpAddr) -> bool {
    let IpAddr::V4(src) = src else { return false };
    let bytes = &frame.bytes;
    bytes[12..14] == [0x08, 0x00]
        && bytes[23] == 1
        && bytes[26..30] == src.octets()
        && bytes[34..36] == [3, 3]
}

/// What happens next, in the order of time.
enum Cue<'a> {
    Frame(&'a Frame),
    Call(RpcId),
    Reply(RpcId),
    /// The recorded application went away.
    ClosePort(HomaPort),
}

/// Us in the role of one side.
pub(crate) struct Host<'a> {
    scene: &'a Scene,
    role: Role,
    now: Nanos,
    transport: Transport<Bytes, Outgoing>,
    /// For IPv4.
    stack: Option<Stack>,
    /// Recorded ids of calls by ours, and ours by recorded ones.
    recorded_id: BTreeMap<RpcId, RpcId>,
    our_id: BTreeMap<RpcId, RpcId>,
    /// Requests that wait for their answer.
    waiting: BTreeMap<RpcId, RpcHandle>,
    /// RPCs whose recorded answer is overdue here.
    overdue: BTreeSet<RpcId>,
    record: Record,
}

impl<'a> Host<'a> {
    /// Plays `role` of a capture to its end and tells what we did.
    pub(crate) fn play(
        scene: &'a Scene,
        role: Role,
        config: Config,
        before: Before,
        closed: &[(Nanos, HomaPort)],
    ) -> Record {
        let mut host = Self::new(scene, role, config);
        host.prepare(before);
        let mut cues: Vec<(Nanos, Cue<'_>)> = Vec::new();
        for frame in &scene.frames {
            cues.push((frame.at, Cue::Frame(frame)));
        }
        for (&id, story) in &scene.stories {
            match role {
                Role::Client => cues.push((story.begin, Cue::Call(id))),
                Role::Server => {
                    let at = story.response.filter(|_| !story.response_again);
                    cues.push((at.map_or(story.begin, |(_, at)| at), Cue::Reply(id)));
                }
            }
        }
        cues.extend(closed.iter().map(|&(at, port)| (at, Cue::ClosePort(port))));
        // At the same time the application comes first: what it sends is in the capture by then.
        cues.sort_by_key(|(at, cue)| (*at, matches!(cue, Cue::Frame(_))));
        for (at, cue) in cues {
            host.pass_time(BEGIN + at);
            host.act(cue);
            host.settle();
        }
        let end = host.now + TAIL;
        host.pass_time(end);
        let occupancy = host.transport.occupancy();
        host.record.open_rpcs = occupancy.client_rpcs + occupancy.server_rpcs;
        host.record
    }

    fn new(scene: &'a Scene, role: Role, config: Config) -> Self {
        let mut transport = Transport::new(config, ()).expect("good settings");
        for story in scene.stories.values() {
            match (role, story.server) {
                (Role::Client, _) => transport.open_server_port(story.client_port),
                // The one port that the recorded server had not open.
                (Role::Server, Some((_, port))) if port != HomaPort(4999) => {
                    transport.open_server_port(port)
                }
                _ => false,
            };
        }
        let stack = match scene.address(role) {
            IpAddr::V4(ipv4) => {
                let mac = match role {
                    Role::Client => MacAddr([2, 0x77, 0, 0, 0, 3]),
                    Role::Server => MacAddr([2, 0x77, 0, 0, 0, 2]),
                };
                let addresses = vec![homa::net::InterfaceAddr::new(ipv4, 24)];
                let config = homa::net::Config { mac, addresses, ..homa::net::Config::default() };
                Some(Stack::new(config).expect("good settings"))
            }
            IpAddr::V6(_) => None,
        };
        Self {
            scene,
            role,
            now: BEGIN,
            transport,
            stack,
            recorded_id: BTreeMap::new(),
            our_id: BTreeMap::new(),
            waiting: BTreeMap::new(),
            overdue: BTreeSet::new(),
            record: Record::default(),
        }
    }

    /// What the hosts had told each other before the capture began.
    fn prepare(&mut self, before: Before) {
        for _ in 1..before.own_version {
            self.transport.set_cutoffs(CUTOFFS);
        }
        let Some(version) = before.peer_cutoffs else { return };
        let peer = match self.role {
            Role::Client => self.scene.server,
            Role::Server => self.scene.client,
        };
        let dport =
            self.scene.stories.values().next().map_or(HomaPort(0), |story| match self.role {
                Role::Client => story.client_port,
                Role::Server => story.server.map_or(HomaPort(0), |(_, port)| port),
            });
        // An id of nothing, so that it is about the host alone.
        let id = RpcId(if self.role == Role::Client { 0xFFFF_0001 } else { 0xFFFF_0000 });
        let header = Header { sport: HomaPort(9), dport, sender_id: id };
        let body = Body::Cutoffs(Cutoffs { cutoffs: CUTOFFS, version });
        self.transport.on_packet(self.now, peer.into(), &Packet { header, body }, Bytes(0));
    }

    fn act(&mut self, cue: Cue<'_>) {
        match cue {
            Cue::Frame(frame) => self.receive(frame),
            Cue::Call(id) => self.call(id),
            Cue::Reply(id) => match self.waiting.remove(&id) {
                Some(rpc) => self.reply(id, rpc),
                None => drop(self.overdue.insert(id)),
            },
            Cue::ClosePort(port) => self.transport.close_port(self.now, port),
        }
    }

    fn call(&mut self, id: RpcId) {
        let story = self.scene.stories[&id];
        let (Some((server, port)), 1..) = (story.server, story.request_bytes) else { return };
        let message =
            Outgoing { bytes: story.request_bytes, segment_bytes: self.scene.segment_bytes };
        let called =
            self.transport.call(self.now, story.client_port, server.into(), port, message, id.0);
        let ours = called.expect("room for the call").1;
        self.recorded_id.insert(ours, id);
        self.our_id.insert(id, ours);
    }

    fn reply(&mut self, id: RpcId, rpc: RpcHandle) {
        let bytes = self.scene.stories[&id].response.map_or(100, |(bytes, _)| bytes);
        let message = Outgoing { bytes, segment_bytes: self.scene.segment_bytes };
        self.transport.reply(self.now, rpc, message).expect("the request is in service");
    }

    /// A frame of the other side; our own are for comparison.
    fn receive(&mut self, frame: &Frame) {
        let us = self.scene.address(self.role);
        let captured = homa_in_frame(frame).filter(|captured| captured.dst == us);
        if let Some(stack) = &mut self.stack {
            let known = frame.bytes.len();
            let length =
                captured.as_ref().map_or(known, |c| known - c.bytes.len() + c.length_bytes);
            let received = stack.receive(self.now, &frame.bytes, length, IpChecksum::Unknown);
            let Received::Homa(datagram) = received else { return };
            let captured = captured.as_ref().expect("the stack and we agree on what is Homa");
            assert_eq!((datagram.src.ip(), datagram.len), (captured.src, captured.length_bytes));
        }
        let Some(captured) = captured.filter(|captured| !captured.is_cut_in_header()) else {
            return;
        };
        let mut packet = captured.packet();
        let recorded = RpcId(packet.header.sender_id.0 & !1);
        if let Some(ours) = self.our_id.get(&recorded) {
            packet.header.sender_id = ours.flip();
        }
        if !self.transport.is_port_open(&packet.header)
            && let Some(stack) = &mut self.stack
        {
            stack.port_unreachable(self.now, &frame.bytes);
        }
        let payload = captured.length_bytes.saturating_sub(DATA_HEADER_LEN) as u32;
        self.transport.on_packet(self.now, captured.src.into(), &packet, Bytes(payload));
    }

    fn pass_time(&mut self, until: Nanos) {
        while let Some(next) = self.transport.next_deadline(self.now).filter(|next| *next <= until)
        {
            self.now = self.now.max(next);
            self.transport.on_timer(self.now);
            self.settle();
        }
        self.now = until;
    }

    fn settle(&mut self) {
        self.transport.end_burst(self.now);
        while let Some(event) = self.transport.poll_event() {
            self.on_event(event);
        }
        if let Some(stack) = &mut self.stack {
            let sent = &mut self.record.port_unreachable;
            stack.poll_transmit(usize::MAX, |frame| {
                *sent += usize::from(frame[12..14] == [0x08, 0x00] && frame[34..36] == [3, 3]);
            });
            while let Some(event) = stack.poll_event() {
                if let NetEvent::PeerUnreachable { cause: UnreachableCause::Port, quoted, .. } =
                    event
                {
                    let (local, remote) = (HomaPort(quoted.src_port), HomaPort(quoted.dst_port));
                    let what = Unreachable::Port { local, remote };
                    self.transport.on_unreachable(self.now, quoted.dst.into(), what);
                }
            }
        }
        let first = self.record.sent.len();
        self.transport.poll_transmit(self.now, &mut Wire(&mut self.record.sent));
        for sent in &mut self.record.sent[first..] {
            restore_ids(&mut sent.packet, &self.recorded_id);
        }
    }

    fn on_event(&mut self, event: Event<Bytes>) {
        match event {
            Event::RequestHead { .. } => {}
            Event::Request { rpc, id, message, .. } => {
                self.record.requests.push(message.len() as u32);
                if self.overdue.remove(&id) {
                    self.reply(id, rpc);
                } else {
                    self.waiting.insert(id, rpc);
                }
            }
            Event::Response { result: Ok(message), .. } => {
                self.record.responses.push(message.len() as u32);
            }
            Event::Response { result: Err(error), .. } => {
                self.record.failed.push((self.now - BEGIN, error));
            }
        }
    }
}

/// Names RPCs of ours as the recorded client did.
fn restore_ids(packet: &mut Packet, recorded: &BTreeMap<RpcId, RpcId>) {
    let name = |id: RpcId| recorded.get(&id).copied().unwrap_or(id);
    packet.header.sender_id = name(packet.header.sender_id);
    match &mut packet.body {
        Body::Data(data) => {
            if let Some(ack) = &mut data.ack {
                ack.client_id = name(ack.client_id);
            }
        }
        Body::Ack(ack) => {
            let mut renamed = homa::wire::Ack::new();
            for mut record in ack.iter() {
                record.client_id = name(record.client_id);
                renamed.push(record);
            }
            *ack = renamed;
        }
        _ => {}
    }
}
