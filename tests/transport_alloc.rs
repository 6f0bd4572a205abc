//! In steady state the transport does not allocate: RPCs of one packet up to 1 MB, counted inside
//! its methods alone.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::ops::Range;

use homa::addr::HostAddr;
use homa::time::Nanos;
use homa::transport::{Config, Event, OutMessage, Payload, PeerRef, RpcHandle, Transport, TxSink};
use homa::wire::{HomaPort, Packet};

struct Counting;

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    if INSIDE.get() {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
    }
}

// SAFETY: passes everything on to the system's allocator, which keeps the promises of the trait;
// the counters are constant-initialised thread-locals of plain integers, which do not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the promises of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the promises of `GlobalAlloc::dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the promises of `GlobalAlloc::realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs a method of the transport and counts what it allocates.
fn inside<T>(method: impl FnOnce() -> T) -> T {
    INSIDE.set(true);
    let result = method();
    INSIDE.set(false);
    result
}

/// A payload that is only a number of bytes.
#[derive(Debug, Clone, Copy)]
struct Count(u32);

impl Payload for Count {
    fn len(&self) -> u32 {
        self.0
    }

    fn narrow(&mut self, range: Range<u32>) {
        self.0 = range.end - range.start;
    }
}

#[derive(Debug)]
struct Zeros(u32);

impl OutMessage for Zeros {
    fn len(&self) -> u32 {
        self.0
    }

    fn segment_bytes(&self) -> u32 {
        1_424
    }
}

/// A wire: packets in flight, in a buffer reserved beforehand.
struct Wire {
    frames: VecDeque<(Packet, u32)>,
    room: usize,
}

impl TxSink<Zeros> for Wire {
    fn room(&self) -> usize {
        self.room
    }

    fn control(&mut self, _: PeerRef, _: u8, packet: &Packet) {
        self.frames.push_back((*packet, 0));
        self.room -= 1;
    }

    fn data(&mut self, _: PeerRef, _: u8, packet: &Packet, _: &mut Zeros, range: Range<u32>) {
        self.frames.push_back((*packet, range.end - range.start));
        self.room -= 1;
    }
}

type Shard = Transport<Count, Zeros>;

const ADDRESSES: [HostAddr; 2] =
    [HostAddr::v4(Ipv4Addr::new(10, 0, 0, 1)), HostAddr::v4(Ipv4Addr::new(10, 0, 0, 2))];
const SERVICE: HomaPort = HomaPort(99);

struct Bench {
    now: Nanos,
    shards: [Shard; 2],
    /// What the transport of this index has sent.
    wires: [Wire; 2],
    port: HomaPort,
    replies: Vec<(RpcHandle, u32)>,
    done: u32,
}

impl Bench {
    fn new() -> Self {
        let shard = |seed| Shard::new(Config { seed, ..Config::default() }, ()).unwrap();
        let mut shards = [shard(1), shard(2)];
        assert!(shards[1].open_server_port(SERVICE));
        let port = shards[0].open_client_port().unwrap();
        let wire = || Wire { frames: VecDeque::with_capacity(100_000), room: 0 };
        let wires = [wire(), wire()];
        let now = Nanos::from_ms(1);
        Self { now, shards, wires, port, replies: Vec::with_capacity(1_000), done: 0 }
    }

    fn call(&mut self, length: u32) {
        let (now, port) = (self.now, self.port);
        let shard = &mut self.shards[0];
        let called =
            inside(|| shard.call(now, port, ADDRESSES[1], SERVICE, Zeros(length), length.into()));
        called.map_err(|refused| refused.reason).unwrap();
    }

    /// One turn of the loop of a node at each side, 2 us long.
    fn turn(&mut self, lose_one_in: u32, packets: &mut u32) {
        self.now = self.now + Nanos::from_us(2);
        let now = self.now;
        for (side, shard) in self.shards.iter_mut().enumerate() {
            for _ in 0..32 {
                let Some((packet, len)) = self.wires[1 - side].frames.pop_front() else { break };
                *packets += 1;
                let lost = lose_one_in > 0 && packets.is_multiple_of(lose_one_in);
                if !lost {
                    inside(|| shard.on_packet(now, ADDRESSES[1 - side], &packet, Count(len)));
                }
            }
            inside(|| shard.end_burst(now));
            while let Some(event) = inside(|| shard.poll_event()) {
                match event {
                    Event::Request { rpc, message, .. } => {
                        self.replies.push((rpc, message.len() as u32));
                        inside(|| drop(message));
                    }
                    Event::Response { cookie, result, .. } => {
                        let message = result.unwrap();
                        assert_eq!(message.len() as u64, cookie);
                        inside(|| drop(message));
                        self.done += 1;
                    }
                    Event::RequestHead { .. } => {}
                }
            }
            for (rpc, length) in self.replies.drain(..) {
                inside(|| shard.reply(now, rpc, Zeros(length))).map_err(|r| r.reason).unwrap();
            }
            inside(|| shard.on_timer(now));
            self.wires[side].room = 64;
            inside(|| shard.poll_transmit(now, &mut self.wires[side]));
            assert!(inside(|| shard.next_deadline(now)).is_none_or(|next| next >= now));
        }
    }

    /// Rounds of RPCs of all sizes, several at once; gives the allocations.
    fn rounds(&mut self, rounds: u32, lose_one_in: u32) -> u64 {
        let before = ALLOCATIONS.get();
        let mut packets = 0;
        for _ in 0..rounds {
            let started = self.done;
            let lengths = [1, 100, 1_424, 1_425, 10_000, 40_001, 300_000, 1_000_000];
            for length in lengths.into_iter().chain(lengths) {
                self.call(length);
            }
            for _ in 0..200_000 {
                self.turn(lose_one_in, &mut packets);
                if self.done - started == 16 {
                    break;
                }
            }
            assert_eq!(self.done - started, 16, "all answered");
        }
        ALLOCATIONS.get() - before
    }
}

#[test]
fn steady_state_does_not_allocate() {
    let mut bench = Bench::new();
    let warm_up = bench.rounds(20, 0);
    assert!(warm_up > 0, "the counter counts");
    assert_eq!(bench.rounds(100, 0), 0);
}

#[test]
fn recovery_from_loss_does_not_allocate() {
    let mut bench = Bench::new();
    bench.rounds(40, 97);
    let resent = bench.shards[0].metrics().bytes_resent;
    assert_eq!(bench.rounds(20, 97), 0);
    assert!(bench.shards[0].metrics().bytes_resent > resent);
}
