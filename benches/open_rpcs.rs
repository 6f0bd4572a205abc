//! What open RPCs cost: memory per RPC and per peer, and the time of a short RPC beside a million open
//! ones with ten thousand peers, against the time alone. Then the time of the client when any of the
//! million is answered and another begun, at random, against that with one: what caches are worth.

use std::net::Ipv4Addr;
use std::ops::Range;
use std::time::Instant;

use homa::addr::HostAddr;
use homa::time::Nanos;
use homa::transport::{Config, Event, OutMessage, Payload, PeerRef, Transport, TxSink};
use homa::wire::{Body, Data, Header, HomaPort, Packet, RpcId};

const PEERS: u32 = 10_000;
const OPEN: u32 = 1_000_000;
const ROUNDS: u32 = 500_000;
const PORT: HomaPort = HomaPort(99);

struct Length(u32);

impl Payload for Length {
    fn len(&self) -> u32 {
        self.0
    }
    fn narrow(&mut self, range: Range<u32>) {
        self.0 = range.end - range.start;
    }
}

impl OutMessage for Length {
    fn len(&self) -> u32 {
        self.0
    }
    fn segment_bytes(&self) -> u32 {
        1_424
    }
}

type Shard = Transport<Length, Length>;

#[derive(Default)]
struct Wire(Vec<(Packet, u32)>);

impl TxSink<Length> for Wire {
    fn room(&self) -> usize {
        32 - self.0.len()
    }
    fn control(&mut self, _to: PeerRef, _priority: u8, packet: &Packet) {
        self.0.push((*packet, 0));
    }
    fn data(&mut self, _: PeerRef, _: u8, packet: &Packet, _: &mut Length, range: Range<u32>) {
        self.0.push((*packet, range.end - range.start));
    }
}

fn host(number: u32) -> HostAddr {
    Ipv4Addr::from_bits((10 << 24) + number).into()
}

/// Resident memory of this process, in bytes.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * 4_096
}

fn carry(now: Nanos, wire: &mut Wire, from: &mut Shard, to: &mut Shard, addr: HostAddr) {
    while from.poll_transmit(now, wire) > 0 {
        for (packet, payload) in wire.0.drain(..) {
            to.on_packet(now, addr, &packet, Length(payload));
        }
        to.end_burst(now);
    }
}

/// Short RPCs to one server, one at a time: ns each, both sides.
fn rounds(client: &mut Shard, server: &mut Shard, port: HomaPort, now: Nanos) -> f64 {
    let mut wire = Wire::default();
    let start = Instant::now();
    for _ in 0..ROUNDS {
        if client.call(now, port, host(0), PORT, Length(100), 0).is_err() {
            return f64::NAN;
        }
        carry(now, &mut wire, client, server, host(1));
        while let Some(event) = server.poll_event() {
            if let Event::Request { rpc, .. } = event {
                let _ = server.reply(now, rpc, Length(100));
            }
        }
        carry(now, &mut wire, server, client, host(0));
        while client.poll_event().is_some() {}
    }
    start.elapsed().as_nanos() as f64 / f64::from(ROUNDS)
}

/// Answers one of the `open` RPCs after another, at random, and begins a new one to the same host for
/// each: ns for both, of the client alone.
fn turnover(client: &mut Shard, open: &mut [(RpcId, HostAddr)], port: HomaPort, now: Nanos) -> f64 {
    let (mut wire, mut random) = (Wire::default(), 0x9E37_79B9_7F4A_7C15_u64);
    let start = Instant::now();
    for _ in 0..ROUNDS {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let at = (random % open.len() as u64) as usize;
        let (id, server) = open[at];
        let data = Data {
            message_length: 100,
            incoming: 100,
            ack: None,
            cutoff_version: 0,
            retransmit: false,
            incast: false,
            offset: 0,
        };
        let header = Header { sport: PORT, dport: port, sender_id: id.flip() };
        let response = Packet { header, body: Body::Data(data) };
        client.on_packet(now, server, &response, Length(100));
        client.end_burst(now);
        if !matches!(client.poll_event(), Some(Event::Response { result: Ok(_), .. })) {
            return f64::NAN;
        }
        let Ok((_, id)) = client.call(now, port, server, PORT, Length(100), 0) else {
            return f64::NAN;
        };
        open[at].0 = id;
        while client.poll_transmit(now, &mut wire) > 0 {
            wire.0.clear();
        }
    }
    start.elapsed().as_nanos() as f64 / f64::from(ROUNDS)
}

fn main() {
    let config = |seed| Config {
        client_rpcs_max: OPEN as usize + 1_000,
        server_rpcs_max: 1_000,
        peers_max: PEERS as usize + 10,
        outgoing_max_bytes: u64::MAX,
        tombstone_keep_ns: 0,
        pacing: false,
        seed,
        ..Config::default()
    };
    let (Ok(mut client), Ok(mut server)) = (Shard::new(config(1), ()), Shard::new(config(2), ()))
    else {
        return;
    };
    server.open_server_port(PORT);
    let Some(port) = client.open_client_port() else { return };
    let now = Nanos::from_ms(1);
    let alone = rounds(&mut client, &mut server, port, now);
    let mut wire = Wire::default();
    let mut open_rpcs = Vec::with_capacity(OPEN as usize);
    open_rpcs.resize(OPEN as usize, (RpcId(0), host(0)));
    open_rpcs.clear();
    // Requests leave and are not answered yet.
    let mut open = |client: &mut Shard, number: u32| {
        let dst = host(100 + number % PEERS);
        let opened = client.call(now, port, dst, PORT, Length(100), 0);
        open_rpcs.extend(opened.map(|(_, id)| (id, dst)));
        client.poll_transmit(now, &mut wire);
        wire.0.clear();
    };
    open(&mut client, 0);
    let before = resident_bytes();
    (1..PEERS).for_each(|number| open(&mut client, number));
    let with_peers = resident_bytes();
    (PEERS..OPEN).for_each(|number| open(&mut client, number));
    let with_all = resident_bytes();
    let opened = open_rpcs.len();
    let per_rpc = (with_all - with_peers) / u64::from(OPEN - PEERS);
    let per_peer = ((with_peers - before) / u64::from(PEERS)).saturating_sub(per_rpc);
    let Ok(mut client_of_one) = Shard::new(config(3), ()) else { return };
    let Some(port_of_one) = client_of_one.open_client_port() else { return };
    let called = client_of_one.call(now, port_of_one, host(100), PORT, Length(100), 0);
    let Ok((_, id)) = called else { return };
    let mut one_open = [(id, host(100))];
    while client_of_one.poll_transmit(now, &mut wire) > 0 {
        wire.0.clear();
    }
    let beside = rounds(&mut client, &mut server, port, now);
    println!("{opened} open RPCs, {PEERS} peers: {per_rpc} B per RPC, {per_peer} B per peer");
    println!(
        "a short RPC, both sides: {alone:.0} ns alone, {beside:.0} ns beside them: {:.2} times",
        beside / alone
    );
    let one = turnover(&mut client_of_one, &mut one_open, port_of_one, now);
    let all = turnover(&mut client, &mut open_rpcs, port, now);
    println!(
        "a response and the next call, the client: {one:.0} ns with one open RPC, {all:.0} ns with \
         any of all: {:.2} times",
        all / one
    );
}
