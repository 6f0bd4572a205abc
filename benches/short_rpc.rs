//! Cost of a short RPC in wire and transport alone: client and server in one thread, no port, no
//! copies of payload. Prints ns per RPC; under `valgrind --tool=callgrind` the instruction count per
//! RPC is (total of two runs of different length, subtracted) repeatable to a few instructions:
//! `cargo bench --bench short_rpc -- 100000`.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
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
        1_424
    }
}

const BURST: usize = 32;

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
fn carry(now: Nanos, wire: &mut Wire, from: &mut Shard, to: &mut Shard, addr: IpAddr) {
    while from.poll_transmit(now, wire) > 0 {
        for (bytes, len, payload) in &wire.packets[..wire.len] {
            if let Ok(packet) = Packet::parse(&bytes[..*len]) {
                to.on_packet(now, addr, &packet, Length(*payload));
            }
        }
        wire.len = 0;
        to.end_burst(now);
    }
}

fn main() {
    let rpcs: u64 = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(1_000_000);
    let shard = |seed| Shard::new(Config { pacing: false, seed, ..Config::default() }, ());
    let (Ok(mut client), Ok(mut server)) = (shard(1), shard(2)) else { return };
    let hosts = [IpAddr::from(Ipv4Addr::new(10, 0, 0, 1)), Ipv4Addr::new(10, 0, 0, 2).into()];
    let port = HomaPort(99);
    server.open_server_port(port);
    let Some(client_port) = client.open_client_port() else { return };
    let mut wire = Wire::new();
    for window in [1, 8, 32] {
        let (mut done, mut outstanding, mut now) = (0, 0, Nanos::from_ms(1));
        let start = Instant::now();
        while done < rpcs {
            now = now + Nanos(250);
            while outstanding < window {
                if client.call(now, client_port, hosts[1], port, Length(100), done).is_err() {
                    break;
                }
                outstanding += 1;
            }
            client.on_timer(now);
            carry(now, &mut wire, &mut client, &mut server, hosts[0]);
            while let Some(event) = server.poll_event() {
                if let Event::Request { rpc, message, .. } = event {
                    let length = black_box(message).len() as u32;
                    let _ = server.reply(now, rpc, Length(length));
                }
            }
            server.on_timer(now);
            carry(now, &mut wire, &mut server, &mut client, hosts[1]);
            while let Some(event) = client.poll_event() {
                if let Event::Response { result, .. } = event {
                    black_box(result.is_ok());
                    outstanding -= 1;
                    done += 1;
                }
            }
        }
        let ns = start.elapsed().as_nanos() as f64 / rpcs as f64;
        println!("window {window}: {ns:.1} ns per RPC, both sides");
    }
}
