//! Protocol.md section 7.3, first row: packets of invalid type or length are dropped and counted, by a
//! whole node.
#![cfg(all(feature = "dpdk", feature = "cli"))]

mod support;

use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use homa::dpdk::{Eal, EalConfig, Hugepages, MbufCache, Mempool, Port, PortBuilder};
use homa::dpdk::{RxBurst, RxQueue, TxBurst, TxQueue};
use homa::net::{self, MacAddr};
use homa::node::{App, CallFailed, Cx, IdlePolicy, Node, NodeConfig, Request, Response};
use homa::wire::{Body, Header, HomaPort, Packet, PacketType, Resend, RpcId};

const OURS: Ipv4Addr = Ipv4Addr::new(10, 90, 0, 2);
const OUR_MAC: [u8; 6] = [2, 0x90, 0, 0, 0, 2];
const PEER: Ipv4Addr = Ipv4Addr::new(10, 90, 0, 1);
const PEER_MAC: [u8; 6] = [2, 0x90, 0, 0, 0, 1];
const PORT: HomaPort = HomaPort(4000);
/// Where the type of a packet is in it.
const TYPE_AT: usize = 11;
const PATIENCE: Duration = Duration::from_secs(20);

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

fn frame(homa: &[u8]) -> Vec<u8> {
    let mut ip = vec![0x45, 0];
    ip.extend((20 + homa.len() as u16).to_be_bytes());
    ip.extend([0, 0, 0x40, 0, 64, 146, 0, 0]);
    ip.extend(PEER.octets());
    ip.extend(OURS.octets());
    let words = ip.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    let sum = !(((sum & 0xffff) + (sum >> 16)) as u16);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut frame = [OUR_MAC, PEER_MAC].concat();
    frame.extend([8, 0]);
    frame.extend(ip);
    frame.extend(homa);
    // Ethernet pads: the IP header says where the packet ends.
    frame.resize(frame.len().max(60), 0);
    frame
}

/// The other end of the ring, without a node.
struct Wire {
    rx: RxQueue,
    tx: TxQueue,
    cache: MbufCache,
    port: Port,
}

impl Wire {
    fn open(eal: &Eal, pool: &Mempool) -> Self {
        let mut port = PortBuilder::new(pool).open(eal, 1).expect("the other port");
        let (rx, tx) = (port.take_rx_queue(0), port.take_tx_queue(0));
        Self { rx: rx.expect("a queue"), tx: tx.expect("a queue"), cache: pool.cache(), port }
    }

    fn send(&mut self, bytes: &[u8]) {
        let mut mbuf = self.cache.alloc().expect("a packet buffer");
        assert!(mbuf.extend_from_slice(bytes));
        let mut burst = TxBurst::<1>::new();
        burst.push(mbuf).expect("room");
        let begin = Instant::now();
        while burst.flush(&mut self.tx) == 0 {
            assert!(begin.elapsed() < PATIENCE, "the node takes nothing");
            thread::yield_now();
        }
    }

    /// The Homa packets that have come until one has.
    fn receive(&mut self) -> Vec<Packet> {
        let begin = Instant::now();
        let mut packets = Vec::new();
        let mut burst = RxBurst::<32>::new();
        while packets.is_empty() {
            assert!(begin.elapsed() < PATIENCE, "no answer");
            self.rx.rx_burst(&mut burst);
            let frames: Vec<Vec<u8>> = burst.by_ref().map(|mbuf| mbuf.data().to_vec()).collect();
            let homa = frames.iter().filter(|frame| frame[12..14] == [8, 0] && frame[23] == 146);
            packets.extend(homa.map(|frame| Packet::parse(&frame[34..]).expect("a packet")));
        }
        packets
    }
}

#[test]
fn packets_of_invalid_type_or_length_are_dropped_and_counted() {
    let devices = vec!["ring:wire".parse().expect("a device"); 2];
    let eal = Eal::start(&EalConfig {
        devices,
        hugepages: Hugepages::Never,
        memory_mb: 256,
        file_prefix: format!("homa-test-{}", std::process::id()),
        ..EalConfig::default()
    })
    .expect("DPDK starts");
    let config = NodeConfig::new("ring:wire".parse().expect("a device"), OURS, 24);
    let mut node = Node::start_on(
        &eal,
        0,
        &NodeConfig {
            idle: IdlePolicy::Sleep,
            rx_mbufs: 8_191,
            tx_mbufs: 8_191,
            mac: Some(MacAddr(OUR_MAC)),
            net: net::Config {
                static_neighbors: vec![(PEER.into(), MacAddr(PEER_MAC))],
                ..config.net.clone()
            },
            ..config
        },
    )
    .expect("a node");
    let pool = Mempool::builder().mbufs(4_095).build(&eal).expect("a pool");
    let mut wire = Wire::open(&eal, &pool);
    let stop = node.stop_flag();
    let nonsense = nonsense();
    let report = thread::scope(|scope| {
        let running = scope.spawn(|| node.run(|_| Unasked));
        for packet in &nonsense {
            wire.send(&frame(packet));
        }
        // What comes behind them is answered, and they are not.
        wire.send(&frame(&question()));
        let answers = wire.receive();
        stop.store(true, Ordering::Relaxed);
        assert_eq!(answers.len(), 1, "{answers:?}");
        assert_eq!(answers[0].body, Body::RpcUnknown);
        assert_eq!(answers[0].header.sender_id, RpcId(0x1234).flip());
        running.join().expect("the node's thread")
    });
    let report = report.expect("the node ends well");
    assert_eq!(report.stats.malformed, nonsense.len() as u64, "{:?}", report.stats);
    let occupancy = report.occupancy;
    assert_eq!((occupancy.server_rpcs, occupancy.retained_packets), (0, 0), "{occupancy:?}");
    let Wire { rx, tx, cache, port } = wire;
    drop((rx, tx, cache));
    port.close().expect("the port closes");
    node.close().expect("every packet buffer is back");
    drop(pool);
    eal.shutdown().expect("nothing is left");
}
