//! Shared memory between two processes: this test starts itself again as the other side.
#![cfg(feature = "dpdk")]

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use homa::dpdk::{
    DeviceSpec, Eal, EalConfig, Mbuf, MbufCache, Mempool, Port, PortBuilder, RxBurst, RxQueue,
    TxBurst, TxQueue,
};

const ROLE: &str = "DPDK_MEMIF_TEST_ROLE";
const SOCKET: &str = "DPDK_MEMIF_TEST_SOCKET";
const PATIENCE: Duration = Duration::from_secs(30);
/// Frames from one segment of shared memory to several.
const SIZES: [usize; 6] = [60, 160, 1500, 2048, 3000, 8000];
const BYE: &[u8] = b"bye";

#[test]
fn memif_between_two_processes() {
    match env::var(ROLE).as_deref() {
        Ok("client") => client(),
        Ok("alone") => alone(),
        _ => server(),
    }
}

struct Side {
    // Dropped first to last: queues and stock before port, pool and EAL.
    rx: RxQueue,
    tx: TxQueue,
    cache: MbufCache,
    port: Port,
    pool: Mempool,
    eal: Eal,
}

impl Side {
    fn open(role: &str, socket: &Path) -> Self {
        let spec: DeviceSpec = format!("memif:{},role={role}", socket.display()).parse().unwrap();
        let config =
            EalConfig { devices: vec![spec.for_mtu(9000)], memory_mb: 64, ..EalConfig::default() };
        let eal = Eal::start(&config).unwrap();
        let pool = Mempool::builder().mbufs(4095).build(&eal).unwrap();
        let mut port = PortBuilder::new(&pool).mtu(9000).open(&eal, 0).unwrap();
        assert!(port.capabilities().unmaps_when_peer_leaves && port.capabilities().multi_segs);
        let (rx, tx) = (port.take_rx_queue(0).unwrap(), port.take_tx_queue(0).unwrap());
        Self { rx, tx, cache: pool.cache(), port, pool, eal }
    }

    fn wait_for_link(&self, up: bool) {
        let deadline = Instant::now() + PATIENCE;
        while self.port.link().unwrap().up != up {
            assert!(Instant::now() < deadline, "the link did not become {up}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn send(&mut self, mbuf: Mbuf) {
        let mut burst = TxBurst::<1>::new();
        burst.push(mbuf).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while burst.flush(&mut self.tx) == 0 {
            assert!(Instant::now() < deadline, "nothing can be sent");
            std::thread::yield_now();
        }
    }

    fn receive(&mut self) -> Mbuf {
        let mut burst = RxBurst::<1>::new();
        let deadline = Instant::now() + PATIENCE;
        while self.rx.rx_burst(&mut burst) == 0 {
            assert!(Instant::now() < deadline, "nothing was received");
            std::thread::yield_now();
        }
        burst.next().unwrap()
    }

    /// A packet of `len` bytes as retransmissions are built: a header chained to a window.
    fn pattern(&mut self, len: usize) -> Mbuf {
        let mut packet: Option<Mbuf> = None;
        for start in (0..len).step_by(2000) {
            let bytes: Vec<u8> = (start..len.min(start + 2000)).map(byte_at).collect();
            let mut payload = self.cache.alloc().unwrap();
            assert!(payload.extend_from_slice(&bytes));
            let window = self.cache.alloc_indirect(&payload.share(), 0..bytes.len()).unwrap();
            match &mut packet {
                Some(packet) => packet.chain(window).unwrap(),
                None => packet = Some(window),
            }
        }
        packet.unwrap()
    }

    fn close(self) {
        let Self { rx, tx, cache, port, pool, eal } = self;
        drop((rx, tx, cache));
        port.close().unwrap();
        assert_eq!(pool.in_use(), 0, "every buffer is back");
        drop(pool);
        eal.shutdown().unwrap();
    }
}

fn byte_at(position: usize) -> u8 {
    (position * 31 % 251) as u8
}

fn bytes(mbuf: &Mbuf) -> Vec<u8> {
    let mut all = vec![0; mbuf.packet_len()];
    assert_eq!(mbuf.copy_to(0, &mut all), all.len());
    all
}

fn server() {
    let directory = env::temp_dir().join(format!("dpdk-memif-test-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    let socket = directory.join("memif.sock");

    let status = OtherProcess::start("alone", &socket).wait();
    assert!(status, "the client without a server did not end as it should");

    // The client comes first and goes on trying until the server is there.
    let first = OtherProcess::start("client", &socket);
    std::thread::sleep(Duration::from_millis(700));
    let mut side = Side::open("server", &socket);
    assert!(side.port.wait_for_link(PATIENCE).unwrap());
    exchange(&mut side, first);

    // Without a peer, nothing is taken and nothing is lost.
    let mut burst = TxBurst::<1>::new();
    let mbuf = side.pattern(60);
    burst.push(mbuf).unwrap();
    assert_eq!((burst.flush(&mut side.tx), burst.len()), (0, 1));
    assert_eq!(side.rx.rx_burst(&mut RxBurst::<4>::new()), 0);
    drop(burst);

    // Another client finds the same server.
    let second = OtherProcess::start("client", &socket);
    side.wait_for_link(true);
    exchange(&mut side, second);
    side.close();
    std::fs::remove_dir_all(&directory).unwrap();
}

/// Sends frames of all sizes, gets them back inverted, says goodbye and stops polling: only then
/// may the peer close, since the driver unmaps the shared memory when it does.
fn exchange(side: &mut Side, peer: OtherProcess) {
    for round in 0..50 {
        for len in SIZES {
            let mbuf = side.pattern(len);
            side.send(mbuf);
            let back = side.receive();
            let expected: Vec<u8> = (0..len).map(|at| !byte_at(at)).collect();
            assert_eq!(bytes(&back), expected, "{len} bytes in round {round}");
        }
    }
    let mut bye = side.cache.alloc().unwrap();
    assert!(bye.extend_from_slice(BYE));
    side.send(bye);
    side.wait_for_link(false);
    assert!(peer.wait(), "the client failed");
}

fn client() {
    let mut side = Side::open("client", &PathBuf::from(env::var_os(SOCKET).unwrap()));
    assert!(side.port.link().unwrap().up);
    loop {
        let received = side.receive();
        if received.data() == BYE {
            break;
        }
        let inverted: Vec<u8> = bytes(&received).iter().map(|byte| !byte).collect();
        drop(received);
        let mut packet: Option<Mbuf> = None;
        for part in inverted.chunks(2000) {
            let mut mbuf = side.cache.alloc().unwrap();
            assert!(mbuf.extend_from_slice(part));
            match &mut packet {
                Some(packet) => packet.chain(mbuf).unwrap(),
                None => packet = Some(mbuf),
            }
        }
        side.send(packet.unwrap());
    }
    side.close();
}

/// A client that nobody listens to gives up with an explanation.
fn alone() {
    let socket = env::var(SOCKET).unwrap();
    let config = EalConfig {
        devices: vec![format!("memif:{socket}").parse().unwrap()],
        memory_mb: 64,
        ..EalConfig::default()
    };
    let eal = Eal::start(&config).unwrap();
    let pool = Mempool::builder().mbufs(1023).build(&eal).unwrap();
    let port = PortBuilder::new(&pool).start_timeout(Duration::from_millis(100)).open(&eal, 0);
    let text = port.unwrap_err().to_string();
    assert!(text.contains("start it first"), "{text}");
    assert_eq!(pool.in_use(), 0);
    drop(pool);
    eal.shutdown().unwrap();
}

/// This test in another process; ended with its handle.
struct OtherProcess(Child);

impl OtherProcess {
    fn start(role: &str, socket: &Path) -> Self {
        let child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "memif_between_two_processes", "--nocapture"])
            .env(ROLE, role)
            .env(SOCKET, socket)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    fn wait(mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.success();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }
}

impl Drop for OtherProcess {
    fn drop(&mut self) {
        // Already ended in a test that went well; both calls do nothing then.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
