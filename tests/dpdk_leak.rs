//! A packet that outlives its pool: it stays valid, and shutting down says why it cannot.
#![cfg(feature = "dpdk")]

use homa::dpdk::{Eal, EalConfig, Mempool};

#[test]
fn a_packet_outlives_its_pool() {
    let eal = Eal::start(&EalConfig { memory_mb: 64, ..EalConfig::default() }).unwrap();
    let pool = Mempool::builder().mbufs(63).cache(0).build(&eal).unwrap();
    let text = eal.clone().shutdown().unwrap_err().to_string();
    assert!(text.contains("in use by 2 pools, ports or threads"), "{text}");

    let mut mbuf = pool.alloc().unwrap();
    assert!(mbuf.extend_from_slice(b"still here"));
    drop(pool);
    // Other pools come and go meanwhile; none takes the memory.
    for _ in 0..3 {
        let other = Mempool::builder().mbufs(63).cache(0).build(&eal).unwrap();
        let mut packet = other.alloc().unwrap();
        packet.append(1000).unwrap().fill(0xff);
    }
    assert_eq!(mbuf.data(), b"still here");
    let text = eal.shutdown().unwrap_err().to_string();
    assert!(text.contains("packet buffers were not returned"), "{text}");
    assert_eq!(mbuf.data(), b"still here");
}
