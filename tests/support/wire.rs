//! A node on a ring of DPDK whose other end is in the hands of the test, frame by frame.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use homa::dpdk::{Eal, EalConfig, Hugepages, MbufCache, Mempool, Port, PortBuilder};
use homa::dpdk::{RxBurst, RxQueue, TxBurst, TxQueue};
use homa::net::{self, HOMA_PROTOCOL, MacAddr};
use homa::node::{IdlePolicy, Node, NodeConfig};
use homa::wire::Packet;

/// The node.
pub(crate) const OURS: Ipv4Addr = Ipv4Addr::new(10, 90, 0, 2);
const OUR_MAC: [u8; 6] = [2, 0x90, 0, 0, 0, 2];
/// Who the other end says it is; the node knows its station.
pub(crate) const PEER: Ipv4Addr = Ipv4Addr::new(10, 90, 0, 1);
const PEER_MAC: [u8; 6] = [2, 0x90, 0, 0, 0, 1];
/// Bytes in front of the IP payload, both ways.
pub(crate) const HEADERS_BYTES: usize = 34;
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// DPDK with both ends of a ring.
pub(crate) fn start_eal() -> Eal {
    let devices = vec!["ring:wire".parse().expect("a device"); 2];
    Eal::start(&EalConfig {
        devices,
        hugepages: Hugepages::Never,
        memory_mb: 256,
        file_prefix: format!("homa-test-{}", std::process::id()),
        ..EalConfig::default()
    })
    .expect("DPDK starts")
}

/// The node at the first end.
pub(crate) fn start_node(eal: &Eal) -> Node {
    let config = NodeConfig::new("ring:wire".parse().expect("a device"), OURS, 24);
    let config = NodeConfig {
        idle: IdlePolicy::Sleep,
        rx_mbufs: 8_191,
        tx_mbufs: 8_191,
        mac: Some(MacAddr(OUR_MAC)),
        net: net::Config {
            static_neighbors: vec![(PEER.into(), MacAddr(PEER_MAC))],
            ..config.net.clone()
        },
        ..config
    };
    Node::start_on(eal, 0, &config).expect("a node")
}

/// Stops a node at the end of a test, also at one by a panic: the test waits for the node's thread.
pub(crate) struct StopAtEnd(pub(crate) Arc<AtomicBool>);

impl Drop for StopAtEnd {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A frame from the peer to the node.
pub(crate) fn frame(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut ip = vec![0x45, 0];
    ip.extend((20 + payload.len() as u16).to_be_bytes());
    ip.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
    ip.extend(PEER.octets());
    ip.extend(OURS.octets());
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum);
    let mut frame = [OUR_MAC, PEER_MAC].concat();
    frame.extend([8, 0]);
    frame.extend(ip);
    frame.extend(payload);
    // Ethernet pads: the IP header says where the packet ends.
    frame.resize(frame.len().max(60), 0);
    frame
}

/// The Internet checksum of fewer than 64 KiB.
pub(crate) fn checksum(bytes: &[u8]) -> [u8; 2] {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    let sum: u32 = bytes.chunks(2).map(word).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    (!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes()
}

/// The other end of the ring, without a node.
pub(crate) struct Wire {
    rx: RxQueue,
    tx: TxQueue,
    cache: MbufCache,
    port: Port,
}

impl Wire {
    pub(crate) fn open(eal: &Eal, pool: &Mempool) -> Self {
        let mut port = PortBuilder::new(pool).open(eal, 1).expect("the other port");
        let (rx, tx) = (port.take_rx_queue(0), port.take_tx_queue(0));
        Self { rx: rx.expect("a queue"), tx: tx.expect("a queue"), cache: pool.cache(), port }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
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

    /// The frames of an IP protocol that have come until one has.
    pub(crate) fn receive(&mut self, protocol: u8) -> Vec<Vec<u8>> {
        let begin = Instant::now();
        let mut wanted = Vec::new();
        let mut burst = RxBurst::<32>::new();
        while wanted.is_empty() {
            assert!(begin.elapsed() < PATIENCE, "no answer");
            self.rx.rx_burst(&mut burst);
            let frames = burst.by_ref().map(|mbuf| mbuf.data().to_vec());
            wanted.extend(frames.filter(|frame| frame[12..14] == [8, 0] && frame[23] == protocol));
        }
        wanted
    }

    /// The Homa packets that have come until one has.
    pub(crate) fn receive_homa(&mut self) -> Vec<Packet> {
        let packet =
            |frame: &Vec<u8>| Packet::parse(&frame[HEADERS_BYTES..]).expect("a Homa packet");
        self.receive(HOMA_PROTOCOL).iter().map(packet).collect()
    }

    pub(crate) fn close(self) {
        let Self { rx, tx, cache, port } = self;
        drop((rx, tx, cache));
        port.close().expect("the port closes");
    }
}
