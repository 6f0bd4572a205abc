//! What the wrappers cost, in nanoseconds. Not run with the other tests:
//! `cargo test --release --test dpdk_cost -- --ignored --nocapture`
#![cfg(feature = "dpdk")]

use std::env;
use std::hint::black_box;
use std::process::Command;

use homa::dpdk::{Clock, Eal, EalConfig, Mempool, PortBuilder, RxBurst, TxBurst, TxQueue};

const TURNS: u32 = 200_000;
const ROUNDS: usize = 25;
const SOCKET: &str = "DPDK_COST_SOCKET";
const FRAME_BYTES: usize = 160;
/// Seconds of polling without a frame.
const POLLS_MAX: u64 = 1 << 31;
const PINGS: u64 = 300_000;

/// The median of several rounds, in nanoseconds per turn.
fn measure(clock: &Clock, name: &str, mut turn: impl FnMut()) {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = clock.now();
            (0..TURNS).for_each(|_| turn());
            clock.now().since(start).0 as f64 / f64::from(TURNS)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    println!("{name}: {:.1} ns (best {:.1})", rounds[ROUNDS / 2], rounds[0]);
}

#[test]
#[ignore = "measures"]
fn cost_of_buffers_and_bursts() {
    let config =
        EalConfig { devices: vec!["ring".parse().unwrap()], memory_mb: 64, ..EalConfig::default() };
    let eal = Eal::start(&config).unwrap();
    let _lcore = eal.register_lcore_thread(None).unwrap();
    let clock = eal.clock();
    let pool = Mempool::builder().build(&eal).unwrap();
    let mut port = PortBuilder::new(&pool).open(&eal, 0).unwrap();
    let (mut rx, mut tx) = (port.take_rx_queue(0).unwrap(), port.take_tx_queue(0).unwrap());
    let mut cache = pool.cache();
    println!("hugepages: {}", eal.has_hugepages());

    measure(&clock, "clock", || {
        black_box(clock.now());
    });
    measure(&clock, "alloc from the pool + drop", || drop(black_box(pool.alloc())));
    measure(&clock, "alloc from the cache + drop", || drop(black_box(cache.alloc())));
    measure(&clock, "alloc from the cache + free to it", || {
        let mbuf = black_box(cache.alloc()).unwrap();
        cache.free(mbuf);
    });
    let shared = cache.alloc().unwrap().share();
    measure(&clock, "share (clone) + drop", || drop(black_box(shared.clone())));
    measure(&clock, "alloc + window + drop", || {
        drop(black_box(cache.alloc_indirect(&shared, 0..0)));
    });
    measure(&clock, "alloc + append 100 + prepend 60 + read + free", || {
        let mut mbuf = cache.alloc().unwrap();
        black_box(mbuf.append(100).unwrap());
        mbuf.prepend(60).unwrap()[0] = 1;
        black_box(mbuf.data());
        cache.free(mbuf);
    });
    let (mut received, mut burst) = (RxBurst::<32>::new(), TxBurst::<32>::new());
    measure(&clock, "empty receive burst", || {
        black_box(rx.rx_burst(&mut received));
    });
    measure(&clock, "transmit 1 + receive 1 on a ring", || {
        burst.push(cache.alloc().unwrap()).unwrap();
        burst.flush(&mut tx);
        rx.rx_burst(&mut received);
        for mbuf in &mut received {
            cache.free(mbuf);
        }
    });
}

/// A memif server can send only what its client has made room for by polling.
fn send_all(burst: &mut TxBurst<32>, tx: &mut TxQueue) {
    let mut polls = 0_u64;
    while !burst.is_empty() {
        burst.flush(tx);
        polls += 1;
        assert!(polls < POLLS_MAX, "the peer is gone");
    }
}

#[test]
#[ignore = "measures"]
fn memif_ping_pong() {
    let (role, socket) = match env::var(SOCKET) {
        Ok(socket) => ("client", socket),
        Err(_) => {
            let name = format!("dpdk-cost-{}.sock", std::process::id());
            ("server", env::temp_dir().join(name).display().to_string())
        }
    };
    let config = EalConfig {
        devices: vec![format!("memif:{socket},role={role}").parse().unwrap()],
        memory_mb: 64,
        ..EalConfig::default()
    };
    let eal = Eal::start(&config).unwrap();
    // Before this thread is pinned: the child inherits where it may run.
    let mut child = (role == "server").then(|| {
        Command::new(env::current_exe().unwrap())
            .args(["--ignored", "--exact", "memif_ping_pong", "--nocapture"])
            .env(SOCKET, &socket)
            .spawn()
            .unwrap()
    });
    let cpu = homa::dpdk::allowed_cpus()[if role == "server" { 0 } else { 1 }];
    let _lcore = eal.register_lcore_thread(Some(cpu)).unwrap();
    let clock = eal.clock();
    let pool = Mempool::builder().build(&eal).unwrap();
    let mut port = PortBuilder::new(&pool).open(&eal, 0).unwrap();
    let (mut rx, mut tx) = (port.take_rx_queue(0).unwrap(), port.take_tx_queue(0).unwrap());
    let mut cache = pool.cache();
    assert!(port.wait_for_link(std::time::Duration::from_secs(20)).unwrap());

    let (mut received, mut burst) = (RxBurst::<32>::new(), TxBurst::<32>::new());
    let mut histogram = vec![0_u32; 100_000];
    for _ in 0..PINGS {
        let start = clock.now();
        if role == "server" {
            let mut mbuf = cache.alloc().unwrap();
            mbuf.append(FRAME_BYTES).unwrap()[..8].copy_from_slice(&start.0.to_be_bytes());
            burst.push(mbuf).unwrap();
            send_all(&mut burst, &mut tx);
        }
        let mut polls = 0_u64;
        while rx.rx_burst(&mut received) == 0 {
            polls += 1;
            assert!(polls < POLLS_MAX, "the peer is gone");
        }
        let mbuf = received.next().unwrap();
        black_box(mbuf.data()[0]);
        if role == "client" {
            burst.push(mbuf).unwrap();
            send_all(&mut burst, &mut tx);
        } else {
            cache.free(mbuf);
            let bucket = (clock.now().since(start).0 as usize).min(histogram.len() - 1);
            histogram[bucket] += 1;
        }
    }
    if let Some(child) = &mut child {
        for percent in [1, 25, 50, 75, 99] {
            let rank = PINGS * percent / 100;
            let mut seen = 0;
            let rtt_ns = histogram.iter().position(|&n| {
                seen += u64::from(n);
                seen >= rank
            });
            println!("memif {FRAME_BYTES} B round trip, {percent} %: {} ns", rtt_ns.unwrap());
        }
        // The last echo is received; the client may go.
        drop((rx, tx, port));
        assert!(child.wait().unwrap().success());
    }
}
