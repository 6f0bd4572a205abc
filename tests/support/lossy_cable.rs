//! A cable that delays, loses, doubles and reorders frames: two interfaces, and a process that carries
//! frames from one to the other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use homa::dpdk::{
    Clock, Eal, EalConfig, Hugepages, Mbuf, Mempool, PortBuilder, RxBurst, RxQueue, TxBurst,
    TxQueue,
};
use homa::time::Nanos;

/// What happens to frames.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Faults {
    /// Every frame takes this long.
    pub(crate) delay: Nanos,
    /// Fraction of frames that do not arrive.
    pub(crate) loss: f64,
    /// Fraction of frames that arrive twice.
    pub(crate) doubling: f64,
    /// Fraction of frames that take twice as long, so that others overtake them.
    pub(crate) lateness: f64,
}

/// One direction of the cable.
struct Lane {
    rx: RxQueue,
    tx: TxQueue,
    received: RxBurst<32>,
    burst: TxBurst<32>,
    /// Frames on their way, by arrival.
    held: BTreeMap<(Nanos, u64), Mbuf>,
    holds: u64,
    frames: u64,
    lost: u64,
    dice: Dice,
}

impl Lane {
    fn new(rx: RxQueue, tx: TxQueue, seed: u64) -> Self {
        Self {
            rx,
            tx,
            received: RxBurst::new(),
            burst: TxBurst::new(),
            held: BTreeMap::new(),
            holds: 0,
            frames: 0,
            lost: 0,
            dice: Dice(seed),
        }
    }

    /// Moves frames; says whether there were any.
    fn turn(&mut self, now: Nanos, faults: &Faults, pool: &Mempool) -> bool {
        let mut worked = self.rx.rx_burst(&mut self.received) > 0;
        while let Some(frame) = self.received.next() {
            self.frames += 1;
            if self.dice.falls(faults.loss) {
                self.lost += 1;
                continue;
            }
            if self.dice.falls(faults.doubling)
                && let Some(twin) = pool.copy_of(&frame)
            {
                self.hold(now + faults.delay, twin);
            }
            let extra = if self.dice.falls(faults.lateness) { faults.delay } else { Nanos::ZERO };
            self.hold(now + faults.delay + extra, frame);
        }
        while self.burst.room() > 0
            && self.held.first_key_value().is_some_and(|((due, _), _)| *due <= now)
            && let Some((_, frame)) = self.held.pop_first()
        {
            worked = true;
            // There is room, so it is taken.
            drop(self.burst.push(frame));
        }
        self.burst.flush(&mut self.tx);
        worked
    }

    fn hold(&mut self, due: Nanos, frame: Mbuf) {
        self.held.insert((due, self.holds), frame);
        self.holds += 1;
    }
}

/// Carries frames between two interfaces of this network namespace until `stop`; returns how many it
/// carried and how many it lost.
pub(crate) fn carry(interfaces: [&str; 2], faults: &Faults, stop: &Arc<AtomicBool>) -> (u64, u64) {
    let devices = interfaces.map(|name| format!("af_packet:{name}").parse().expect("a device"));
    let eal = Eal::start(&EalConfig {
        devices: devices.to_vec(),
        memory_mb: 64,
        hugepages: Hugepages::Never,
        file_prefix: format!("homa-test-{}", std::process::id()),
        ..EalConfig::default()
    })
    .expect("DPDK starts");
    let pool = Mempool::builder().mbufs(8_191).build(&eal).expect("a pool");
    let mut ports = [0, 1].map(|index| PortBuilder::new(&pool).open(&eal, index).expect("a port"));
    let clock: Clock = eal.clock();
    println!("the cable carries frames");
    let carried = {
        let mut lane = |from: usize, to: usize, seed| {
            let rx = ports[from].take_rx_queue(0).expect("a queue");
            Lane::new(rx, ports[to].take_tx_queue(0).expect("a queue"), seed)
        };
        let mut lanes = [lane(0, 1, 0x1234_5678_9abc_def1), lane(1, 0, 0x0fed_cba9_8765_4321)];
        while !stop.load(Ordering::Relaxed) {
            let now = clock.now();
            let worked =
                lanes.iter_mut().fold(false, |worked, lane| lane.turn(now, faults, &pool) | worked);
            if !worked {
                std::thread::sleep(Duration::from_micros(20));
            }
        }
        lanes.iter().fold((0, 0), |sum, lane| (sum.0 + lane.frames, sum.1 + lane.lost))
    };
    for port in ports {
        port.close().expect("the port closes");
    }
    assert_eq!(pool.in_use(), 0, "every packet buffer is back");
    carried
}

/// Pseudo-random numbers (xorshift64).
struct Dice(u64);

impl Dice {
    /// True in `fraction` of the cases.
    fn falls(&mut self, fraction: f64) -> bool {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 32) as f64) < fraction * f64::from(u32::MAX)
    }
}
