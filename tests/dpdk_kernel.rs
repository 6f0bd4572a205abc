//! Ports on interfaces of the kernel, in a network namespace of this test's own.
#![cfg(feature = "dpdk")]

use std::process::Command;
use std::time::{Duration, Instant};

use homa::dpdk::{
    Eal, EalConfig, FlowRule, Mbuf, MbufCache, Mempool, Port, PortBuilder, RxBurst, RxQueue,
    TxBurst, TxQueue,
};

const PATIENCE: Duration = Duration::from_secs(10);
const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
/// Of local experiments; nothing else on these links has it.
const ETHERTYPE_TEST: [u8; 2] = [0x88, 0xb5];

#[test]
fn tap_and_af_packet() {
    // SAFETY: asks for a number.
    let root = unsafe { libc::geteuid() } == 0;
    assert!(root, "this test makes a network namespace and interfaces in it: run it as root");
    // SAFETY: changes the network namespace of this thread and of those it starts.
    let rc = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    assert_eq!(rc, 0, "cannot make a network namespace: {}", std::io::Error::last_os_error());
    ip("link add homa-a type veth peer name homa-b");
    for interface in ["homa-a", "homa-b"] {
        ip(&format!("link set {interface} up"));
    }

    let devices = [
        "tap:homa-tap,mac=02:00:00:00:00:07",
        "af_packet:homa-a",
        "af_packet:homa-b",
        "tap:homa-rules",
    ];
    let config = EalConfig {
        devices: devices.iter().map(|text| text.parse().unwrap()).collect(),
        memory_mb: 128,
        ..EalConfig::default()
    };
    let eal = Eal::start(&config).unwrap();
    let pool = Mempool::builder().mbufs(8191).build(&eal).unwrap();
    a_tap_knows_no_rules_for_bytes(&eal, &pool);
    tap_is_answered_by_the_kernel(&eal, &pool);
    veth_carries_frames_both_ways(&eal, &pool);
    assert_eq!(pool.in_use(), 0, "every buffer is back");
    drop(pool);
    eal.shutdown().unwrap();
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    let output = output.unwrap_or_else(|error| panic!("install iproute2: {error}"));
    assert!(output.status.success(), "ip {arguments}: {output:?}");
}

struct Side {
    rx: RxQueue,
    tx: TxQueue,
    cache: MbufCache,
    port: Port,
}

impl Side {
    fn open(eal: &Eal, pool: &Mempool, index: usize) -> Self {
        let builder = PortBuilder::new(pool).descriptors(256, 256).promiscuous(true);
        let mut port = builder.open(eal, index).unwrap();
        let (rx, tx) = (port.take_rx_queue(0).unwrap(), port.take_tx_queue(0).unwrap());
        Self { rx, tx, cache: pool.cache(), port }
    }

    fn send(&mut self, bytes: &[u8]) {
        let mut mbuf = self.cache.alloc().unwrap();
        assert!(mbuf.extend_from_slice(bytes));
        let mut burst = TxBurst::<1>::new();
        burst.push(mbuf).unwrap();
        assert_eq!(burst.flush(&mut self.tx), 1);
    }

    /// The next frame of this type; the kernel sends frames of its own.
    fn receive(&mut self, ethertype: [u8; 2]) -> Option<Mbuf> {
        let deadline = Instant::now() + PATIENCE;
        let mut burst = RxBurst::<32>::new();
        while Instant::now() < deadline {
            self.rx.rx_burst(&mut burst);
            if let Some(found) = burst.find(|mbuf| mbuf.data().get(12..14) == Some(&ethertype)) {
                return Some(found);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        None
    }
}

/// The driver has rules, for headers that the kernel knows, and says so before anything is changed.
fn a_tap_knows_no_rules_for_bytes(eal: &Eal, pool: &Mempool) {
    let mut side = Side::open(eal, pool, 3);
    for is_ipv6 in [false, true] {
        let rule = FlowRule {
            has_vlan: is_ipv6,
            is_ipv6,
            protocol: 146,
            offset_bytes: 20,
            spec: vec![0, 1],
            mask: vec![0xff, 1],
            queue: 0,
        };
        let refused = side.port.add_flow_rules(&[rule]).expect_err("a rule for bytes").to_string();
        assert!(refused.starts_with("device tap:homa-rules: the driver does not take the rule: "));
        assert!(refused.contains("item not supported"), "{refused}");
    }
    let Side { rx, tx, cache, port } = side;
    drop((rx, tx, cache));
    port.close().expect("nothing is left of the rules");
}

fn tap_is_answered_by_the_kernel(eal: &Eal, pool: &Mempool) {
    let mut side = Side::open(eal, pool, 0);
    let capabilities = side.port.capabilities();
    assert_eq!(capabilities.driver, "net_tap");
    assert!(capabilities.tx_ipv4_checksum && capabilities.rx_ipv4_checksum);
    assert_eq!(side.port.mac(), [2, 0, 0, 0, 0, 7]);
    ip("addr add 10.146.0.1/24 dev homa-tap");
    ip("link set homa-tap up");

    let mut request = vec![0xff; 6];
    request.extend(side.port.mac());
    request.extend(ETHERTYPE_ARP);
    request.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    request.extend(side.port.mac());
    request.extend([10, 146, 0, 2]);
    request.extend([0; 6]);
    request.extend([10, 146, 0, 1]);
    side.send(&request);
    loop {
        let frame = side.receive(ETHERTYPE_ARP).expect("the kernel answers");
        // Operation 2 is a reply.
        if frame.data()[20..22] == [0, 2] {
            assert_eq!(frame.data()[28..32], [10, 146, 0, 1]);
            assert_eq!(frame.data()[..6], side.port.mac());
            break;
        }
    }
}

fn veth_carries_frames_both_ways(eal: &Eal, pool: &Mempool) {
    let (mut a, mut b) = (Side::open(eal, pool, 1), Side::open(eal, pool, 2));
    assert_eq!(a.port.capabilities().driver, "net_af_packet");
    assert!(!a.port.capabilities().tx_ipv4_checksum);
    for n in 0..20_u8 {
        let mut frame = vec![0xff; 12];
        frame.extend(ETHERTYPE_TEST);
        frame.extend(vec![n; 46 + usize::from(n) * 70]);
        let (from, to) = if n % 2 == 0 { (&mut a, &mut b) } else { (&mut b, &mut a) };
        from.send(&frame);
        let received = to.receive(ETHERTYPE_TEST).expect("the frame arrives");
        assert_eq!(received.data(), frame);
        // The driver has copied the frame: nothing is held until a later burst.
        assert_eq!(from.tx.packets(), u64::from(n / 2) + 1);
    }
}
