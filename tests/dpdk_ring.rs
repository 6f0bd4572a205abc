//! Packet buffers, bursts and ports on rings: one process, no privilege, no hugepages needed.
#![cfg(feature = "dpdk")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::BufMut;
use homa::dpdk::{
    Eal, EalConfig, Error, ExternalBuffer, FreeBurst, HEADROOM_BYTES, IpChecksum, Mbuf, MbufCache,
    MbufRef, Mempool, MessageBytes, OwnedSource, Port, PortBuilder, RxBurst, RxQueue, SegmentedBuf,
    Source, SpareLists, TxBurst, TxQueue,
};

/// EAL starts once per process, so there is one test; its steps share EAL and nothing else.
#[test]
fn everything_on_rings() {
    let devices = ["ring", "ring:a,entries=64", "ring:a,entries=64", "null:size=64", "ring"];
    let config = EalConfig {
        devices: devices.iter().map(|text| text.parse().unwrap()).collect(),
        memory_mb: 64,
        ..EalConfig::default()
    };
    let cpus = homa::dpdk::allowed_cpus();
    let eal = Eal::start(&config).unwrap();
    assert_eq!(homa::dpdk::allowed_cpus(), cpus, "the caller's affinity is as before");
    assert_eq!(Eal::start(&config).unwrap_err(), Error::AlreadyStarted);
    assert_eq!(eal.devices().len(), devices.len());

    edges_of_one_segment(&eal);
    chains(&eal);
    shared_packets(&eal);
    windows_on_packets(&eal);
    external_memory(&eal);
    pools_run_dry_and_recover(&eal);
    buffers_freed_last_are_used_first(&eal);
    packets_freed_together(&eal);
    messages_of_all_kinds_are_owned_once(&eal);
    buffers_that_are_not_full_shrink(&eal);
    messages_copied_and_recycled(&eal);
    wrong_settings(&eal);
    loop_passes_packets_and_keeps_leftovers(&eal);
    pair_is_wired_crosswise_between_threads(&eal);
    chains_are_copied_where_the_port_needs_it(&eal);
    packets_in_rings_come_back_at_close(&eal);
    clock_runs(&eal);
    eal.shutdown().unwrap();
}

fn pool(eal: &Eal, mbufs: u32) -> Mempool {
    Mempool::builder().mbufs(mbufs).cache(0).build(eal).unwrap()
}

fn packet(cache: &mut MbufCache, bytes: &[u8]) -> Mbuf {
    let mut mbuf = cache.alloc().unwrap();
    assert!(mbuf.extend_from_slice(bytes));
    mbuf
}

/// Runs a step and sees to it that every buffer is back.
fn without_leak(eal: &Eal, mbufs: u32, step: impl FnOnce(&Mempool, &mut MbufCache)) {
    let pool = pool(eal, mbufs);
    let mut cache = pool.cache();
    step(&pool, &mut cache);
    drop(cache);
    assert_eq!(pool.in_use(), 0);
    assert_eq!(pool.available(), mbufs);
}

fn edges_of_one_segment(eal: &Eal) {
    without_leak(eal, 63, |pool, cache| {
        let mut mbuf = cache.alloc().unwrap();
        assert_eq!((mbuf.data_len(), mbuf.packet_len(), mbuf.segment_count()), (0, 0, 1));
        assert_eq!((mbuf.headroom(), mbuf.tailroom()), (HEADROOM_BYTES, pool.data_room_bytes()));
        assert_eq!(mbuf.ip_checksum(), IpChecksum::Unknown);
        assert_eq!((mbuf.rss_hash(), mbuf.stripped_vlan_tci()), (None, None));

        assert!(mbuf.extend_from_slice(b"payload"));
        mbuf.prepend(2).unwrap().copy_from_slice(b"h:");
        assert_eq!(mbuf.data(), b"h:payload");
        mbuf.data_mut().unwrap()[0] = b'H';
        assert!(mbuf.trim_front(1) && mbuf.truncate(4));
        assert_eq!(mbuf.data(), b":pay");

        // Nothing goes over an edge, and nothing changes when it would.
        for n in [usize::MAX, 1 << 16, HEADROOM_BYTES + 2] {
            assert!(mbuf.prepend(n).is_none());
        }
        for n in [usize::MAX, (1 << 16) + 1, mbuf.tailroom() + 1] {
            assert!(mbuf.append(n).is_none());
            assert!(!mbuf.trim_front(n) && !mbuf.truncate(n));
            assert!(!mbuf.set_len(n.saturating_add(mbuf.data_len())));
        }
        assert_eq!(mbuf.data(), b":pay");
        assert!(mbuf.set_len(2) && mbuf.set_len(3));
        assert_eq!(mbuf.packet_len(), 3);
        let (headroom, tailroom) = (mbuf.headroom(), mbuf.tailroom());
        assert_eq!(mbuf.prepend(headroom).unwrap().len(), headroom);
        assert_eq!(mbuf.append(tailroom).unwrap().len(), tailroom);
        assert_eq!((mbuf.headroom(), mbuf.tailroom()), (0, 0));
        cache.free(mbuf);
        let mbuf = cache.alloc().unwrap();
        assert_eq!((mbuf.data_len(), mbuf.headroom()), (0, HEADROOM_BYTES), "as if fresh");
    });
}

fn chains(eal: &Eal) {
    without_leak(eal, 63, |_, cache| {
        let mut chain = packet(cache, b"one ");
        chain.chain(packet(cache, b"two ")).unwrap();
        chain.chain(packet(cache, b"three")).unwrap();
        assert_eq!((chain.segment_count(), chain.packet_len(), chain.data_len()), (3, 13, 4));
        assert_eq!(chain.segments().collect::<Vec<_>>(), [&b"one "[..], b"two ", b"three"]);
        let mut out = [0; 6];
        assert_eq!(chain.copy_to(2, &mut out), 6);
        assert_eq!(&out, b"e two ");
        assert_eq!(chain.copy_to(12, &mut out), 1);
        assert_eq!(chain.copy_to(13, &mut out), 0);
        assert_eq!(chain.copy_to(usize::MAX, &mut out), 0);
        assert!(chain.append(1).is_none(), "one segment only");
        assert!(!chain.trim_front(5), "one segment only");

        let in_use = cache.pool().in_use();
        assert!(chain.truncate(6), "within the second segment");
        assert_eq!((chain.segment_count(), chain.packet_len()), (2, 6));
        assert_eq!(cache.pool().in_use(), in_use - 1, "the third was freed");
        assert!(chain.linearize());
        assert_eq!((chain.segment_count(), chain.data()), (1, &b"one tw"[..]));

        // At the border of a segment the segment behind goes as well.
        chain.chain(packet(cache, b"x")).unwrap();
        assert!(chain.truncate(6));
        assert_eq!(chain.segment_count(), 1);

        // No room to bring the data together: refused, unchanged.
        let tailroom = chain.tailroom();
        let mut long = cache.alloc().unwrap();
        long.append(tailroom + 1).unwrap().fill(7);
        chain.chain(long).unwrap();
        assert!(!chain.linearize());
        assert_eq!(chain.segment_count(), 2);
        cache.free(chain);
    });
}

fn shared_packets(eal: &Eal) {
    without_leak(eal, 63, |_, cache| {
        let mut kept = packet(cache, b"a").share();
        assert!(kept.get_mut().is_some(), "sole owner");
        let other = kept.clone();
        assert_eq!(other.data(), b"a");
        assert!(!kept.is_unique() && kept.get_mut().is_none());
        let kept = kept.try_into_unique().unwrap_err();
        drop(other);
        let mut mbuf = kept.try_into_unique().unwrap();
        mbuf.data_mut().unwrap()[0] = b'b';

        // A chain is sole property when each segment is.
        mbuf.chain(packet(cache, b"c")).unwrap();
        let chain = mbuf.share();
        let (second, third) = (chain.clone(), chain.clone());
        drop(chain);
        assert!(!second.is_unique());
        drop(third);
        assert!(second.is_unique());
        assert_eq!(second.segments().collect::<Vec<_>>(), [b"b", b"c"]);
    });
}

fn windows_on_packets(eal: &Eal) {
    without_leak(eal, 63, |_, cache| {
        let mut payload = packet(cache, b"0123456789").share();
        let mut header = packet(cache, b"H");
        header.chain(cache.alloc_indirect(&payload, 2..5).unwrap()).unwrap();
        assert_eq!(header.segments().collect::<Vec<_>>(), [&b"H"[..], b"234"]);
        assert!(payload.get_mut().is_none(), "lent bytes do not change");

        // A window on a window is one on the packet behind it.
        let window = cache.alloc_indirect(&payload, 4..10).unwrap();
        let mut inner = cache.alloc_indirect(&window.share(), 1..2).unwrap();
        assert_eq!(inner.data(), b"5");
        assert!(inner.data_mut().is_none() && !inner.is_direct());
        assert!(inner.prepend(1).is_none() && inner.append(1).is_none());
        assert_eq!((inner.headroom(), inner.tailroom()), (0, 0));
        cache.free(inner);
        drop(header);
        assert_eq!(payload.get_mut().unwrap().data(), b"0123456789");

        #[allow(clippy::reversed_empty_ranges)]
        for range in [0..11, 11..11, 5..4, 0..usize::MAX] {
            assert!(cache.alloc_indirect(&payload, range).is_none());
        }
        let mut full = packet(cache, b"x");
        assert!(!full.attach_indirect(&payload, 0..1), "only an empty buffer becomes a window");
        assert_eq!(full.data(), b"x");
    });
}

struct Counted(Vec<u8>, Arc<AtomicUsize>);

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.fetch_add(1, Ordering::SeqCst);
    }
}

fn external_memory(eal: &Eal) {
    without_leak(eal, 63, |_, cache| {
        let dropped = Arc::new(AtomicUsize::new(0));
        let bytes: Vec<u8> = (0..100_000_u32).map(|n| n as u8).collect();
        let buffer = ExternalBuffer::new(eal, Counted(bytes, Arc::clone(&dropped))).unwrap();
        assert_eq!(buffer.len(), 100_000);
        let mut first = cache.alloc_external(&buffer, 1..4).unwrap();
        let second = cache.alloc_external(&buffer, 99_999..100_000).unwrap();
        assert_eq!((first.data(), second.data()), (&[1, 2, 3][..], &[159][..]));
        assert!(first.data_mut().is_none() && first.prepend(1).is_none());
        assert!(first.trim_front(1));
        assert_eq!(first.data(), [2, 3]);
        assert!(cache.alloc_external(&buffer, 0..65_536).is_none(), "beyond 16 bits");
        assert!(cache.alloc_external(&buffer, 0..100_001).is_none());
        let window = cache.alloc_indirect(&first.share(), 1..2).unwrap();
        drop(buffer);
        drop(second);
        assert_eq!(dropped.load(Ordering::SeqCst), 0, "a window is left");
        assert_eq!(window.data(), [3]);
        drop(window);
        assert_eq!(dropped.load(Ordering::SeqCst), 1);

        let owner = Counted(vec![1], Arc::clone(&dropped));
        drop(ExternalBuffer::new(eal, owner).unwrap());
        assert_eq!(dropped.load(Ordering::SeqCst), 2, "also when never attached");
        let fixed = ExternalBuffer::new(eal, &b"static"[..]).unwrap();
        assert_eq!(cache.alloc_external(&fixed, 0..6).unwrap().data(), fixed.data());
    });
}

fn messages_copied_and_recycled(eal: &Eal) {
    without_leak(eal, 255, |_, cache| {
        let spares = SpareLists::default();
        let bytes: Vec<u8> = (0..250).map(|at| at as u8).collect();
        let short = SegmentedBuf::of_bytes(&bytes[..100], 100, cache, &spares).unwrap();
        let long = SegmentedBuf::of_bytes(&bytes, 100, cache, &spares).unwrap();
        for (buffer, expected) in [(&short, &bytes[..100]), (&long, &bytes[..])] {
            let all: Vec<u8> = buffer.segments().flatten().copied().collect();
            assert_eq!((buffer.len() as usize, all.as_slice()), (expected.len(), expected));
        }
        let place = short.segment(0).as_ptr();
        short.recycle(cache);
        long.recycle(cache);
        let next = SegmentedBuf::of_bytes(b"next", 100, cache, &spares).unwrap();
        assert_eq!((next.segment(0), next.segment(0).as_ptr()), (&b"next"[..], place));
    });
}

fn messages_of_all_kinds_are_owned_once(eal: &Eal) {
    without_leak(eal, 255, |_, cache| {
        let spares = SpareLists::default();
        let bytes: Vec<u8> = (0..250).map(|at| at as u8).collect();
        let dropped = Arc::new(AtomicUsize::new(0));
        let external = |bytes: &[u8]| {
            let owner = Counted(bytes.to_vec(), Arc::clone(&dropped));
            MessageBytes::from(ExternalBuffer::new(eal, owner).unwrap())
        };
        for segment_bytes in [250, 100] {
            let buffer = SegmentedBuf::of_bytes(&bytes, segment_bytes, cache, &spares).unwrap();
            let mut message = MessageBytes::from(buffer);
            assert!(message.packets_mut().is_some());
            let Source::Packets(buffer) = message.source() else { panic!("{message:?}") };
            assert_eq!((buffer.len(), buffer.segment_bytes()), (250, segment_bytes));
            let OwnedSource::Packets(buffer) = message.into_source() else { panic!("other kind") };
            assert_eq!(buffer.segments().flatten().copied().collect::<Vec<u8>>(), bytes);
            drop(MessageBytes::from(buffer));
        }
        let mut message = external(&bytes);
        assert!(message.packets_mut().is_none());
        let Source::External(buffer) = message.source() else { panic!("{message:?}") };
        assert_eq!(buffer.data(), bytes);
        let OwnedSource::External(mut buffer) = message.into_source() else { panic!("other kind") };
        assert_eq!(buffer.segment_bytes(), u32::MAX);
        buffer.set_segment_bytes(99);
        assert_eq!((buffer.len(), buffer.segment_bytes()), (250, 99));
        assert_eq!(dropped.load(Ordering::SeqCst), 0);
        drop(MessageBytes::from(buffer));
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
        drop(external(b"unused"));
        assert_eq!(dropped.load(Ordering::SeqCst), 2);
    });
}

fn buffers_that_are_not_full_shrink(eal: &Eal) {
    without_leak(eal, 255, |_, cache| {
        let spares = SpareLists::default();
        for (capacity, written, packets) in
            [(100, 40, 1), (250, 250, 3), (250, 101, 2), (250, 7, 1)]
        {
            let mut buffer = SegmentedBuf::new(capacity, 100, cache, &spares).unwrap();
            assert_eq!(buffer.remaining_mut(), capacity as usize);
            buffer.put_bytes(9, written);
            buffer.finish();
            let lengths: Vec<usize> = buffer.segments().map(<[u8]>::len).collect();
            assert_eq!((lengths.len(), lengths.iter().sum::<usize>()), (packets, written));
            assert_eq!(buffer.remaining_mut(), 0);
            assert!(buffer.segments().flatten().all(|&byte| byte == 9));
        }
        assert!(SegmentedBuf::new(u32::MAX, 100, cache, &spares).is_none());
    });
}

fn pools_run_dry_and_recover(eal: &Eal) {
    without_leak(eal, 63, |pool, cache| {
        let mut held: Vec<Mbuf> = std::iter::from_fn(|| cache.alloc()).collect();
        assert_eq!(held.len(), 63, "to the last buffer, not to the last full batch");
        assert!(pool.alloc().is_none());
        assert_eq!((pool.available(), pool.in_use()), (0, 63));
        cache.free(held.pop().unwrap());
        assert!(cache.alloc().is_some());
        drop(held);
        assert!(pool.alloc().is_some());
        assert_eq!(pool.copy_of(&packet(cache, b"copy")).unwrap().data(), b"copy");
    });
}

fn buffers_freed_last_are_used_first(eal: &Eal) {
    let pool = pool(eal, 255);
    let place = |mbuf: &Mbuf| mbuf.data().as_ptr();
    let many: Vec<Mbuf> = (0..100).map(|_| pool.alloc().unwrap()).collect();
    let last = many.last().map(place);
    drop(many);
    for _ in 0..3 {
        let mbuf = pool.alloc().unwrap();
        assert_eq!(Some(place(&mbuf)), last, "the pool goes through cold memory");
    }
}

fn packets_freed_together(eal: &Eal) {
    without_leak(eal, 255, |pool, cache| {
        let mut burst = FreeBurst::default();
        for _ in 0..65 {
            burst.push(pool.alloc().unwrap());
        }
        assert_eq!(pool.in_use(), 1, "all but what came when it was full");
        let mut chain = packet(cache, b"head");
        chain.chain(packet(cache, b"tail")).unwrap();
        burst.push(chain);
        drop(burst);
    });
}

fn wrong_settings(eal: &Eal) {
    let text = |error: Error| error.to_string();
    let huge = Mempool::builder().mbufs(1 << 20).build(eal).unwrap_err();
    assert!(text(huge).contains("no memory for 1048576 packet buffers of 2048 bytes"));
    let cache = Mempool::builder().mbufs(100).cache(100).build(eal).unwrap_err();
    assert!(text(cache).contains("needs a pool of 150"));
    assert!(Mempool::builder().mbufs(0).build(eal).is_err());
    assert!(Mempool::builder().data_room_bytes(u16::MAX).build(eal).is_err());
    assert!(Mempool::builder().private_bytes(3).build(eal).is_err());

    let pool = pool(eal, 63);
    let builder = PortBuilder::new(&pool);
    let queues = builder.clone().queues(17, 1).open(eal, 0).unwrap_err();
    assert!(text(queues).contains("17 receive queues: the driver takes 1 to 16"));
    let index = builder.clone().open(eal, 99).unwrap_err();
    assert!(text(index).contains("there is no device 99"));
    let pools = builder.queues(3, 1).pools(vec![pool.clone(); 2]).open(eal, 0).unwrap_err();
    assert!(text(pools).contains("2 pools for 3 receive queues"));
    let wide = PortBuilder::new(&pool).mtu(9000).open(eal, 3).unwrap_err();
    assert!(text(wide).contains("does not fit a packet buffer of 2048"));
}

fn receive(port: &mut RxQueue) -> Vec<Mbuf> {
    let mut burst = RxBurst::<32>::new();
    let mut all = Vec::new();
    while port.rx_burst(&mut burst) > 0 {
        all.extend(&mut burst);
    }
    all
}

fn loop_passes_packets_and_keeps_leftovers(eal: &Eal) {
    // 16,384 slots is the ring driver's own choice; fewer buffers cannot fill it.
    without_leak(eal, 1023, |pool, cache| {
        let mut port: Port = PortBuilder::new(pool).queues(2, 2).open(eal, 0).unwrap();
        let capabilities = port.capabilities().clone();
        assert_eq!(capabilities.driver, "net_ring");
        assert!(capabilities.multi_segs && capabilities.shares_mbufs_with_receiver);
        assert!(port.link().unwrap().up);
        assert_eq!(port.mac()[0] & 3, 2, "locally administered, not a group");
        let (mut rx0, mut tx0) = (port.take_rx_queue(0).unwrap(), port.take_tx_queue(0).unwrap());
        assert!(port.take_rx_queue(0).is_none() && port.take_rx_queue(2).is_none());
        let mut rx1 = port.take_rx_queue(1).unwrap();

        let mut burst = TxBurst::<4>::new();
        assert_eq!(burst.flush(&mut tx0), 0);
        for n in 0..4_u8 {
            assert_eq!(burst.room(), 4 - usize::from(n));
            burst.push(packet(cache, &[n])).unwrap();
        }
        let returned = burst.push(packet(cache, b"!")).unwrap_err();
        assert_eq!(returned.data(), b"!");
        drop(returned);
        assert_eq!(burst.flush(&mut tx0), 4);
        assert!(burst.is_empty());
        assert!(receive(&mut rx1).is_empty(), "queue by queue");
        let data: Vec<u8> = receive(&mut rx0).iter().map(|mbuf| mbuf.data()[0]).collect();
        assert_eq!(data, [0, 1, 2, 3]);

        // A retained packet arrives as a copy: the sender's bytes are its own.
        let mut kept: MbufRef = packet(cache, b"kept").share();
        burst.push_shared(kept.clone()).unwrap();
        burst.push(packet(cache, b"given")).unwrap();
        burst.flush(&mut tx0);
        let mut received = receive(&mut rx0);
        received[0].data_mut().unwrap().fill(b'x');
        kept.get_mut().expect("the receiver has a copy").data_mut().unwrap()[0] = b'K';
        assert_eq!((kept.data(), received[0].data()), (&b"Kept"[..], &b"xxxx"[..]));
        assert_eq!((received[1].data(), rx0.copies_failed()), (&b"given"[..], 0));
        drop(received);

        // Dropped with packets inside, both kinds of burst free them: `without_leak` looks.
        burst.push(packet(cache, b"left")).unwrap();
        burst.flush(&mut tx0);
        burst.push(packet(cache, b"unsent")).unwrap();
        assert_eq!(burst.clear(), 1);
        burst.push(packet(cache, b"unsent")).unwrap();
        let mut untaken = RxBurst::<8>::new();
        assert_eq!(rx0.rx_burst_of(&mut untaken, 0), 0);
        assert_eq!(rx0.rx_burst_of(&mut untaken, 4), 1);
        assert_eq!((untaken.len(), tx0.packets(), tx0.unsendable()), (1, 7, 0));
        assert_eq!(tx0.reclaim(), 0);
        assert!(port.stats().unwrap().tx_packets >= 7);
        port.extended_stats().unwrap();

        let text = port.close().unwrap_err().to_string();
        assert!(text.contains("3 queues in use"), "{text}");
        drop((rx0, tx0, rx1));
        let text = PortBuilder::new(pool).open(eal, 0).unwrap_err().to_string();
        assert!(text.contains("device ring: was opened before"), "{text}");
    });
}

fn pair_is_wired_crosswise_between_threads(eal: &Eal) {
    const COUNT: u32 = 10_000;
    without_leak(eal, 1023, |pool, _| {
        let mut a = PortBuilder::new(pool).open(eal, 1).unwrap();
        let mut b = PortBuilder::new(pool).open(eal, 2).unwrap();
        assert_ne!(a.mac(), b.mac());
        let (mut echo_rx, mut echo_tx) = (b.take_rx_queue(0), b.take_tx_queue(0));
        let (mut rx, mut tx) = (a.take_rx_queue(0).unwrap(), a.take_tx_queue(0).unwrap());
        let mut cache = pool.cache();
        let (mut received, mut burst) = (RxBurst::<32>::new(), TxBurst::<16>::new());
        let (mut sent, mut back, mut echo) = (0_u32, 0_u32, None);
        while back < COUNT {
            while sent < COUNT
                && burst.room() > 0
                && let Some(mut mbuf) = cache.alloc()
            {
                assert!(mbuf.extend_from_slice(&sent.to_be_bytes()));
                burst.push(mbuf).unwrap();
                sent += 1;
            }
            // The ring has 63 free slots: what it does not take waits, in order.
            burst.flush(&mut tx);
            if !burst.is_empty() && echo.is_none() {
                assert_eq!(tx.packets(), 63);
                let (rx, tx) = (echo_rx.take().unwrap(), echo_tx.take().unwrap());
                echo = Some(spawn_echo(eal.clone(), rx, tx, COUNT));
            }
            if rx.rx_burst(&mut received) == 0 {
                thread::yield_now();
            }
            for mbuf in &mut received {
                assert_eq!(mbuf.data(), (!back).to_be_bytes());
                back += 1;
            }
        }
        echo.expect("10000 packets overrun a ring of 64").join().unwrap();

        // A packet may change threads when told to.
        let parcel = packet(&mut cache, b"moved").into_send();
        thread::spawn(move || assert_eq!(parcel.open().data(), b"moved")).join().unwrap();
    });
}

/// Sends `count` packets back with every bit inverted.
fn spawn_echo(eal: Eal, mut rx: RxQueue, mut tx: TxQueue, count: u32) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let lcore = eal.register_lcore_thread(None).unwrap();
        assert_ne!(lcore.lcore_id(), u32::MAX);
        let (mut received, mut burst) = (RxBurst::<32>::new(), TxBurst::<32>::new());
        let mut echoed = 0;
        while echoed < count {
            if rx.rx_burst(&mut received) == 0 && burst.is_empty() {
                thread::yield_now();
            }
            while burst.room() > 0
                && let Some(mut mbuf) = received.next()
            {
                let data = mbuf.data_mut().unwrap();
                data.iter_mut().for_each(|byte| *byte = !*byte);
                burst.push(mbuf).unwrap();
            }
            echoed += burst.flush(&mut tx) as u32;
        }
    })
}

fn chains_are_copied_where_the_port_needs_it(eal: &Eal) {
    without_leak(eal, 1023, |pool, cache| {
        let mut port = PortBuilder::new(pool).open(eal, 3).unwrap();
        assert!(!port.capabilities().multi_segs);
        let mut tx = port.take_tx_queue(0).unwrap();
        let mut chain = packet(cache, b"head");
        chain.chain(packet(cache, b"tail")).unwrap();
        let mut second = packet(cache, b"head");
        second.chain(packet(cache, b"tail")).unwrap();
        let held = second.share();
        let mut burst = TxBurst::<4>::new();
        burst.push_shared(held.clone()).unwrap();
        burst.push(chain).unwrap();
        burst.push(packet(cache, b"single")).unwrap();
        assert_eq!(burst.flush(&mut tx), 2);
        assert_eq!(tx.unsendable(), 1, "a shared chain cannot be changed");
        assert!(burst.is_empty() && held.is_unique());
        let mut rx = port.take_rx_queue(0).unwrap();
        let mut received = RxBurst::<4>::new();
        assert_eq!(rx.rx_burst(&mut received), 4);
        assert_eq!(received.next().unwrap().packet_len(), 64);
    });
}

fn packets_in_rings_come_back_at_close(eal: &Eal) {
    without_leak(eal, 255, |pool, cache| {
        let mut port = PortBuilder::new(pool).open(eal, 4).unwrap();
        let mut tx = port.take_tx_queue(0).unwrap();
        let mut burst = TxBurst::<64>::new();
        for n in 0..50 {
            burst.push(packet(cache, &[n])).unwrap();
        }
        assert_eq!(burst.flush(&mut tx), 50);
        assert!(pool.in_use() >= 50);
        drop(tx);
        port.close().unwrap();
    });
}

fn clock_runs(eal: &Eal) {
    let clock = eal.clock();
    // Both clocks are read in both orders, so that a suspended thread widens the bounds.
    let (before, start, after) = (Instant::now(), clock.now(), Instant::now());
    thread::sleep(Duration::from_millis(50));
    let at_least_ns = after.elapsed().as_nanos() as u64;
    let elapsed_ns = clock.now().since(start).0;
    let at_most_ns = before.elapsed().as_nanos() as u64;
    let tolerance_ns = at_least_ns / 500;
    assert!(elapsed_ns + tolerance_ns >= at_least_ns, "{elapsed_ns}, at least {at_least_ns}");
    assert!(elapsed_ns <= at_most_ns + tolerance_ns, "{elapsed_ns}, at most {at_most_ns}");
}
