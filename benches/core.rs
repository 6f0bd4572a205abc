//! Cost of RPCs in wire and transport alone: client and server in one thread, no port, no copies of
//! payload. Prints ns per RPC and per packet. Under `valgrind --tool=callgrind` the difference of two
//! runs of different length gives instructions per RPC that repeat to a few: see
//! docs/PERFORMANCE.md.

use homa::addr::HostAddr;
use std::hint::black_box;
use std::ops::Range;
use std::time::Instant;

use homa::time::Nanos;
use homa::transport::{Config, Event, OutMessage, Payload, PeerRef, Transport, TxSink};
use homa::wire::{HomaPort, MAX_HEADER_LEN, Packet};

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
        SEGMENT
    }
}

const BURST: usize = 32;
const SEGMENT: u32 = 1_424;
const PORT: HomaPort = HomaPort(99);

/// Packets as bytes, headers only.
struct Wire {
    packets: [([u8; MAX_HEADER_LEN], usize, u32); BURST],
    len: usize,
}

impl Wire {
    fn new() -> Self {
        Self { packets: [([0; MAX_HEADER_LEN], 0, 0); BURST], len: 0 }
    }

    fn put(&mut self, packet: &Packet, payload: u32) {
        let slot = &mut self.packets[self.len];
        slot.1 = packet.emit(&mut slot.0);
        slot.2 = payload;
        self.len += 1;
    }
}

impl TxSink<Length> for Wire {
    fn room(&self) -> usize {
        BURST - self.len
    }
    fn control(&mut self, _to: PeerRef, _priority: u8, packet: &Packet) {
        self.put(packet, 0);
    }
    fn data(
        &mut self,
        _to: PeerRef,
        _priority: u8,
        packet: &Packet,
        _message: &mut Length,
        range: Range<u32>,
    ) {
        self.put(packet, range.end - range.start);
    }
}

type Shard = Transport<Length, Length>;

/// Moves what one side sends to the other.
fn carry(now: Nanos, wire: &mut Wire, from: &mut Shard, to: &mut Shard, addr: HostAddr) {
    loop {
        from.poll_transmit(now, wire);
        if wire.len == 0 {
            return;
        }
        for (bytes, len, payload) in &wire.packets[..wire.len] {
            if let Ok(packet) = Packet::parse(&bytes[..*len]) {
                to.on_packet(now, addr, &packet, Length(*payload));
            }
        }
        wire.len = 0;
        to.end_burst(now);
    }
}

/// Keeps `window` RPCs outstanding until `rpcs` are done.
fn run(
    client: &mut Shard,
    server: &mut Shard,
    request: u32,
    response: u32,
    window: u64,
    rpcs: u64,
    now: &mut Nanos,
) {
    let hosts = [HostAddr::from([10, 0, 0, 1]), HostAddr::from([10, 0, 0, 2])];
    let Some(client_port) = client.open_client_port() else { return };
    let mut wire = Wire::new();
    let (mut done, mut outstanding) = (0, 0);
    let start = Instant::now();
    while done < rpcs {
        *now = *now + Nanos(250);
        let now = *now;
        while outstanding < window {
            let message = Length(request);
            let call =
                client.call_through(now, client_port, hosts[1], PORT, message, done, &mut wire);
            if call.is_err() {
                break;
            }
            outstanding += 1;
        }
        client.on_timer(now);
        carry(now, &mut wire, client, server, hosts[0]);
        while let Some(event) = server.poll_event() {
            if let Event::Request { rpc, message, .. } = event {
                black_box(message);
                let _ = server.reply_through(now, rpc, Length(response), &mut wire);
            }
        }
        server.on_timer(now);
        carry(now, &mut wire, server, client, hosts[1]);
        while let Some(event) = client.poll_event() {
            if let Event::Response { result, .. } = event {
                black_box(result.is_ok());
                outstanding -= 1;
                done += 1;
            }
        }
    }
    let ns = start.elapsed().as_nanos() as f64 / rpcs as f64;
    let packets = request.div_ceil(SEGMENT);
    println!(
        "{request} B x {window}: {ns:.1} ns per RPC, {:.1} ns per packet of the request, both sides",
        ns / f64::from(packets)
    );
}

/// `core [small|large] [RPCs]`: one kind alone, for counting instructions.
fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let rpcs: u64 = args.iter().find_map(|arg| arg.parse().ok()).unwrap_or(1_000_000);
    let wants = |kind: &str| {
        args.iter().any(|arg| arg == kind)
            || !args.iter().any(|arg| arg == "small" || arg == "large")
    };
    let shard = |seed| Shard::new(Config { pacing: false, seed, ..Config::default() }, ());
    let (Ok(mut client), Ok(mut server)) = (shard(1), shard(2)) else { return };
    server.open_server_port(PORT);
    let mut now = Nanos::from_ms(1);
    if wants("small") {
        for window in [1, 8, 32] {
            run(&mut client, &mut server, 100, 100, window, rpcs, &mut now);
        }
    }
    if wants("large") {
        for (request, window) in [(32_000, 8), (1_000_000, 2)] {
            run(
                &mut client,
                &mut server,
                request,
                100,
                window,
                (rpcs * 1_000 / u64::from(request)).max(1),
                &mut now,
            );
        }
    }
}
