//! Cost of passing packets from one shard to another: ns per item through the ring, in bursts, on one
//! thread (instructions and cache hits alone) and between two.

use std::hint::black_box;
use std::time::Instant;

use homa::node::ring;

const BURST: u64 = 32;
const ITEMS: u64 = 20_000_000;

fn one_thread() -> f64 {
    let (mut producer, mut consumer) = ring::<u64>(1_024);
    let start = Instant::now();
    for burst in 0..ITEMS / BURST {
        for item in 0..BURST {
            let _ = producer.push(black_box(burst + item));
        }
        producer.flush();
        while let Some(item) = consumer.pop() {
            black_box(item);
        }
    }
    start.elapsed().as_nanos() as f64 / ITEMS as f64
}

fn two_threads() -> f64 {
    let (mut producer, mut consumer) = ring::<u64>(1_024);
    let start = Instant::now();
    let writer = std::thread::spawn(move || {
        for item in 0..ITEMS {
            let mut item = item;
            while let Err(back) = producer.push(item) {
                producer.flush();
                std::thread::yield_now();
                item = back;
            }
            if item.is_multiple_of(BURST) {
                producer.flush();
            }
        }
    });
    let mut taken = 0;
    while taken < ITEMS {
        match consumer.pop() {
            Some(item) => taken += u64::from(black_box(item) < u64::MAX),
            None => std::thread::yield_now(),
        }
    }
    let ns = start.elapsed().as_nanos() as f64 / ITEMS as f64;
    let _ = writer.join();
    ns
}

fn main() {
    println!("one thread, bursts of {BURST}: {:.1} ns per item", one_thread());
    println!("two threads, bursts of {BURST}: {:.1} ns per item", two_threads());
}
