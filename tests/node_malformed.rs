//! Protocol.md section 7.3, first row: packets of invalid type or length are dropped and counted, by a
//! whole node.
#![cfg(all(feature = "dpdk", feature = "cli"))]

mod support;

use std::thread;

use homa::dpdk::Mempool;
use homa::net::HOMA_PROTOCOL;
use homa::node::{App, CallFailed, Cx, Request, Response};
use homa::wire::{Body, Header, HomaPort, Packet, PacketType, Resend, RpcId};

use support::wire::{self, StopAtEnd, Wire};

const PORT: HomaPort = HomaPort(4000);
/// Where the type of a packet is in it.
const TYPE_AT: usize = 11;

/// A server that must not be asked.
struct Unasked;

impl App for Unasked {
    fn on_start(&mut self, cx: &mut Cx<'_>) {
        cx.open_server_port(PORT);
    }

    fn on_request(&mut self, _: &mut Cx<'_>, request: Request) {
        panic!("a request out of nonsense: {} bytes", request.message.len());
    }

    fn on_response(&mut self, _: &mut Cx<'_>, _: Result<Response, CallFailed>) {}
}

/// A valid packet with an unknown RPC, which is answered with RPC_UNKNOWN.
fn question() -> Vec<u8> {
    let header = Header { sport: HomaPort(40_000), dport: PORT, sender_id: RpcId(0x1234) };
    let resend = Resend { offset: 0, length: 100, priority: Some(7) };
    let packet = Packet { header, body: Body::Resend(resend) };
    let mut bytes = vec![0; packet.emitted_len()];
    packet.emit(&mut bytes);
    bytes
}

/// Packets of every unknown type, and of every known type at every length that is too short.
fn nonsense() -> Vec<Vec<u8>> {
    let of_type = |code: u8, len: usize| {
        let mut bytes = question();
        bytes.resize(200, 0);
        bytes[TYPE_AT] = code;
        bytes.truncate(len);
        bytes
    };
    let known = PacketType::ALL.map(PacketType::code);
    assert_eq!(question()[TYPE_AT], PacketType::Resend.code());
    let mut all: Vec<_> =
        (0..=255).filter(|code| !known.contains(code)).map(|code| of_type(code, 200)).collect();
    for kind in PacketType::ALL {
        all.extend((0..kind.min_len()).map(|len| of_type(kind.code(), len)));
    }
    all
}

#[test]
fn packets_of_invalid_type_or_length_are_dropped_and_counted() {
    let eal = wire::start_eal();
    let mut node = wire::start_node(&eal);
    let pool = Mempool::builder().mbufs(4_095).build(&eal).expect("a pool");
    let mut wire = Wire::open(&eal, &pool);
    let stop = StopAtEnd(node.stop_flag());
    let nonsense = nonsense();
    let report = thread::scope(|scope| {
        let running = scope.spawn(|| node.run(|_| Unasked));
        let stop = stop;
        for packet in &nonsense {
            wire.send(&wire::frame(HOMA_PROTOCOL, packet));
        }
        // What comes behind them is answered, and they are not.
        wire.send(&wire::frame(HOMA_PROTOCOL, &question()));
        let answers = wire.receive_homa();
        drop(stop);
        assert_eq!(answers.len(), 1, "{answers:?}");
        assert_eq!(answers[0].body, Body::RpcUnknown);
        assert_eq!(answers[0].header.sender_id, RpcId(0x1234).flip());
        running.join().expect("the node's thread")
    });
    let report = report.expect("the node ends well");
    assert_eq!(report.stats.malformed, nonsense.len() as u64, "{:?}", report.stats);
    let occupancy = report.occupancy;
    assert_eq!((occupancy.server_rpcs, occupancy.retained_packets), (0, 0), "{occupancy:?}");
    wire.close();
    node.close().expect("every packet buffer is back");
    drop(pool);
    eal.shutdown().expect("nothing is left");
}
