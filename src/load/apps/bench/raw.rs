//! Frames without a protocol, through the wrappers that the node uses: what a port can do.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::{IDLE_TURNS, Idling, Measured, Timing, is_set};
use crate::dpdk::{
    Clock, DeviceSpec, Eal, EalConfig, Hugepages, Mbuf, MbufCache, Mempool, Port, PortBuilder,
    RxBurst, RxQueue, TxBurst, TxQueue,
};
use crate::node::NodeError;
use crate::time::Nanos;

/// Packets taken from the port at once, and handed to it at once: as many as is usual with DPDK.
const RX_BURST: usize = 32;
const TX_BURST: usize = 64;
/// Packet buffers and descriptors: as many as the node has by default.
const POOL_MBUFS: u32 = 16_383;
const DESCRIPTORS: u16 = 1_024;
const LINK_TIMEOUT: Duration = Duration::from_secs(10);

/// Ethernet: to nobody in particular, of the type for local experiments.
const HEADER: [u8; 14] = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5];
/// The time a frame was sent stands behind its header.
const STAMP_BYTES: usize = 8;
/// The shortest frame possible.
const FRAME_MIN_BYTES: u16 = (HEADER.len() + STAMP_BYTES) as u16;
/// Silence after which frames count as lost; longer than a core is away.
const LOST_AFTER: Nanos = Nanos::from_ms(100);

/// What a [`RawPort`] is opened with.
#[derive(Clone, Debug)]
pub struct RawConfig {
    /// The port.
    pub device: DeviceSpec,
    /// Whether to use hugepages.
    pub hugepages: Hugepages,
    /// Memory for DPDK, in MB.
    pub memory_mb: u32,
    /// The CPU to run on.
    pub cpu: usize,
    /// DPDK's runtime directory; must differ between processes.
    pub file_prefix: String,
}

/// A port that is used without a node. One per process, because DPDK starts once.
#[derive(Debug)]
pub struct RawPort {
    cpu: usize,
    port: Port,
    rx_pool: Mempool,
    tx_pool: Mempool,
    eal: Eal,
}

/// What a raw loop works with.
#[derive(Debug)]
pub struct RawQueues {
    rx: RxQueue,
    tx: TxQueue,
    cache: MbufCache,
    clock: Clock,
}

impl RawPort {
    /// Starts DPDK and opens the port, with the pools and queues that a node has by default.
    ///
    /// # Errors
    /// When memory or rights are missing, or the device is not there.
    pub fn open(config: &RawConfig) -> Result<Self, NodeError> {
        let eal = Eal::start(&EalConfig {
            hugepages: config.hugepages,
            memory_mb: config.memory_mb,
            main_cpu: Some(config.cpu),
            file_prefix: config.file_prefix.clone(),
            devices: vec![config.device.clone()],
            ..EalConfig::default()
        })?;
        let pool = || Mempool::builder().mbufs(POOL_MBUFS).data_room_bytes(2_048).build(&eal);
        let (rx_pool, tx_pool) = (pool()?, pool()?);
        let port =
            PortBuilder::new(&rx_pool).descriptors(DESCRIPTORS, DESCRIPTORS).open(&eal, 0)?;
        Ok(Self { cpu: config.cpu, port, rx_pool, tx_pool, eal })
    }

    /// Waits for the other side, then runs `body` on a thread of its own as a node would run a shard.
    /// Once in the life of a port.
    ///
    /// # Errors
    /// When the link does not come up, the CPU cannot be had, or `body` panics.
    pub fn run<R: Send>(
        &mut self,
        body: impl FnOnce(&mut RawQueues) -> R + Send,
    ) -> Result<R, NodeError> {
        let device = self.port.spec().to_string();
        if !self.port.wait_for_link(LINK_TIMEOUT)? {
            return Err(NodeError::NoLink(device));
        }
        let taken = (self.port.take_rx_queue(0), self.port.take_tx_queue(0));
        let (Some(rx), Some(tx)) = taken else {
            return Err(NodeError::Config(format!("{device}: the port has run before")));
        };
        let (eal, cpu, tx_pool) = (&self.eal, self.cpu, &self.tx_pool);
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                let lcore = eal.register_lcore_thread(Some(cpu))?;
                let mut queues = RawQueues { rx, tx, cache: tx_pool.cache(), clock: eal.clock() };
                let result = body(&mut queues);
                queues.tx.reclaim();
                drop((queues, lcore));
                Ok(result)
            });
            thread
                .join()
                .unwrap_or_else(|_| Err(NodeError::Config("the raw loop panicked".to_owned())))
        })
    }

    /// Closes the port and checks that every packet buffer has come back.
    ///
    /// # Errors
    /// When buffers were not given back.
    pub fn close(self) -> Result<(), NodeError> {
        self.port.close()?;
        let (rx_mbufs, tx_mbufs) = (self.rx_pool.in_use(), self.tx_pool.in_use());
        if rx_mbufs + tx_mbufs > 0 {
            return Err(NodeError::Leaked { rx_mbufs, tx_mbufs });
        }
        drop((self.rx_pool, self.tx_pool));
        self.eal.shutdown()?;
        Ok(())
    }
}

impl RawQueues {
    /// A frame of `frame_bytes` with a header. The rest is whatever was in the buffer.
    #[inline]
    fn frame(&mut self, frame_bytes: u16) -> Option<Mbuf> {
        let mut frame = self.cache.alloc()?;
        let bytes = frame.append(usize::from(frame_bytes.max(FRAME_MIN_BYTES)))?;
        bytes[..HEADER.len()].copy_from_slice(&HEADER);
        Some(frame)
    }

    /// Hands over everything in `burst`, however long that takes; gives up when told to stop.
    #[inline]
    fn flush(&mut self, burst: &mut TxBurst<TX_BURST>, stop: &AtomicBool) {
        while !burst.is_empty() && !is_set(stop) {
            burst.flush(&mut self.tx);
        }
    }
}

#[inline]
fn stamp(frame: &mut Mbuf, now: Nanos) {
    if let Some(place) = frame.data_mut().and_then(|data| data.get_mut(stamp_range())) {
        place.copy_from_slice(&now.0.to_ne_bytes());
    }
}

/// When the frame was sent; `None` of a frame that is none of ours.
#[inline]
fn stamp_of(frame: &Mbuf) -> Option<Nanos> {
    let bytes: [u8; STAMP_BYTES] = frame.data().get(stamp_range())?.try_into().ok()?;
    is_ours(frame).then(|| Nanos(u64::from_ne_bytes(bytes)))
}

const fn stamp_range() -> std::ops::Range<usize> {
    HEADER.len()..HEADER.len() + STAMP_BYTES
}

#[inline]
fn is_ours(frame: &Mbuf) -> bool {
    frame.data().get(12..14) == Some(&HEADER[12..14])
}

/// Keeps `outstanding` frames of `frame_bytes` on their way there and back, each in the buffer it
/// came back in, and measures their round trips.
pub fn ping_pong(
    queues: &mut RawQueues,
    frame_bytes: u16,
    outstanding: u32,
    timing: Timing,
    stop: &AtomicBool,
) -> Measured {
    let start = queues.clock.now();
    let mut run = PingPong {
        frame_bytes,
        outstanding,
        not_before: start,
        last: start,
        tx: TxBurst::new(),
        lost: 0,
    };
    let mut sampler = timing.sampler();
    let mut idling = Idling::new(timing.idle);
    let mut rx = RxBurst::<RX_BURST>::new();
    run.serve_up(queues, start);
    run.tx.flush(&mut queues.tx);
    loop {
        if queues.rx.rx_burst(&mut rx) == 0 {
            if idling.turn() {
                let now = queues.clock.now();
                if is_set(stop) || now >= timing.deadline(start) {
                    break;
                }
                run.replace_lost(queues, now);
            }
            continue;
        }
        // Once per burst, as the node does once per turn.
        let now = queues.clock.now();
        run.last = now;
        for mut frame in rx.by_ref() {
            match stamp_of(&frame) {
                Some(sent) if sent >= run.not_before => {
                    sampler.record(now, now.since(sent));
                    stamp(&mut frame, now);
                    // There is room for all that is outstanding.
                    drop(run.tx.push(frame));
                }
                _ => {}
            }
        }
        if sampler.is_finished(now) {
            break;
        }
        run.tx.flush(&mut queues.tx);
    }
    Measured { windows: sampler.into_windows(), failed: run.lost }
}

/// The frames of a [`ping_pong`].
struct PingPong {
    frame_bytes: u16,
    outstanding: u32,
    /// Frames sent earlier were given up.
    not_before: Nanos,
    /// When something came back.
    last: Nanos,
    tx: TxBurst<TX_BURST>,
    lost: u64,
}

impl PingPong {
    fn serve_up(&mut self, queues: &mut RawQueues, now: Nanos) {
        for _ in 0..self.outstanding {
            let Some(mut frame) = queues.frame(self.frame_bytes) else { return };
            stamp(&mut frame, now);
            drop(self.tx.push(frame));
        }
    }

    /// After a long silence, starts over with new frames.
    #[cold]
    fn replace_lost(&mut self, queues: &mut RawQueues, now: Nanos) {
        if now.since(self.last) >= LOST_AFTER {
            self.lost += u64::from(self.outstanding);
            (self.last, self.not_before) = (now, now);
            self.tx.clear();
            self.serve_up(queues, now);
        }
        self.tx.flush(&mut queues.tx);
    }
}

/// Sends every frame back, in the buffer it came in, until told to stop; returns how many.
pub fn echo(queues: &mut RawQueues, timing: Timing, stop: &AtomicBool) -> u64 {
    let mut idling = Idling::new(timing.idle);
    let (mut rx, mut tx) = (RxBurst::<RX_BURST>::new(), TxBurst::<TX_BURST>::new());
    let mut echoed = 0;
    while !is_set(stop) {
        let received = queues.rx.rx_burst(&mut rx);
        if received == 0 {
            idling.turn();
            continue;
        }
        for frame in rx.by_ref() {
            // All went out in the turn before, so there is room.
            drop(tx.push(frame));
        }
        queues.flush(&mut tx, stop);
        echoed += received as u64;
    }
    echoed
}

/// Sends frames of `frame_bytes` one way as fast as the port takes them, for the warm-up and what is
/// measured; returns how many.
pub fn send(queues: &mut RawQueues, frame_bytes: u16, timing: Timing, stop: &AtomicBool) -> u64 {
    // The receiver's time begins later than ours.
    let margin = Nanos::from_ms(20);
    let until = queues.clock.now() + timing.warm_up + timing.duration + margin;
    let mut idling = Idling::new(timing.idle);
    let mut tx = TxBurst::<TX_BURST>::new();
    let (mut sent, mut turns) = (0, 0_u32);
    loop {
        while tx.len() < RX_BURST {
            let Some(frame) = queues.frame(frame_bytes) else { break };
            drop(tx.push(frame));
        }
        let taken = tx.flush(&mut queues.tx);
        sent += taken as u64;
        turns = turns.wrapping_add(1);
        let look = if taken == 0 { idling.turn() } else { turns.is_multiple_of(IDLE_TURNS) };
        if look && (is_set(stop) || queues.clock.now() >= until) {
            return sent;
        }
    }
}

/// Counts frames that come one way, looking at the header of each, until told to stop; returns how
/// many there were as well.
pub fn receive(queues: &mut RawQueues, timing: Timing, stop: &AtomicBool) -> (Measured, u64) {
    let mut sampler = timing.sampler();
    let mut idling = Idling::new(timing.idle);
    let mut rx = RxBurst::<RX_BURST>::new();
    let mut all = 0;
    while !is_set(stop) {
        if queues.rx.rx_burst(&mut rx) == 0 {
            idling.turn();
            continue;
        }
        let now = queues.clock.now();
        let ours = rx.by_ref().filter(is_ours).count() as u64;
        all += ours;
        if !sampler.is_finished(now) {
            sampler.count(now, ours);
        }
    }
    (Measured { windows: sampler.into_windows(), failed: 0 }, all)
}
