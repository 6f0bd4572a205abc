//! Identity, and every limit of `Config` reached: refused and counted, and whatever was accepted
//! completes.

use std::cell::Cell;
use std::collections::HashSet;

use super::solo::*;
use crate::addr::HostAddr;
use crate::time::Nanos;
use crate::transport::pair::*;
use crate::transport::*;
use crate::wire::{Body, Packet, Resend};

const ID: RpcId = RpcId(0x5678);

// ---- at most once ----------------------------------------------------------------------------

/// A late duplicate of a request is not executed again (reference-gaps.md G1).
#[test]
fn a_late_duplicate_is_not_executed_again() {
    let mut solo = Solo::new(config());
    solo.answered(ID);
    solo.client_sends(ID, ack(&[]));
    assert_eq!(solo.shard.occupancy().server_rpcs, 0);
    for _ in 0..50 {
        solo.pass_time(solo.now + Nanos::from_ms(4));
        solo.client_sends(ID, data(0..100, 100));
        assert!(solo.events().is_empty());
    }
    assert_eq!(solo.shard.metrics().tombstone_hits, 50);
}

#[test]
fn a_tombstone_is_forgotten_after_its_time() {
    let mut solo = Solo::new(config());
    solo.answered(ID);
    solo.client_sends(ID, ack(&[]));
    solo.now = solo.now + Nanos::from_ms(301);
    solo.shard.on_timer(solo.now);
    solo.client_sends(ID, data(0..100, 100));
    assert_eq!(solo.events().len(), 1);
}

#[test]
fn without_tombstones_a_late_duplicate_is_a_new_request() {
    let mut solo = Solo::new(Config { tombstone_keep_ns: 0, ..config() });
    solo.answered(ID);
    solo.client_sends(ID, ack(&[]));
    solo.client_sends(ID, data(0..100, 100));
    assert_eq!(solo.events().len(), 1);
}

#[test]
fn a_tombstone_concerns_one_client_port_and_address() {
    let mut solo = Solo::new(config());
    solo.answered(ID);
    solo.client_sends(ID, ack(&[]));
    solo.receive(SERVER, client_header(ID), data(0..100, 100));
    let other_port = crate::wire::Header { sport: HomaPort(50_000), ..client_header(ID) };
    solo.receive(CLIENT, other_port, data(0..100, 100));
    assert_eq!(solo.events().len(), 2);
}

/// A server that could not remember the end of an RPC does not start it.
#[test]
fn a_server_that_cannot_remember_more_refuses() {
    let mut solo = Solo::new(Config { tombstones_max: 4, ..config() });
    for client in 0..20 {
        let from = HostAddr::from([10, 0, 2, client]);
        solo.receive(from, client_header(ID), data(0..100, 100));
        for event in solo.events() {
            let Event::Request { rpc, .. } = event else { panic!("{event:?}") };
            solo.reply(rpc, 10);
        }
        solo.sent();
        solo.receive(from, client_header(ID), ack(&[]));
    }
    assert_eq!(solo.shard.metrics().server_acked, 4);
    assert_eq!(solo.shard.metrics().refused_tombstones, 16);
    // None of those served is executed again.
    for client in 0..4 {
        let from = HostAddr::from([10, 0, 2, client]);
        solo.receive(from, client_header(ID), data(0..100, 100));
    }
    assert!(solo.events().is_empty());
}

/// The same when all are in service together, and end only later.
#[test]
fn a_server_promises_no_more_than_it_can_remember() {
    let mut solo = Solo::new(Config { tombstones_max: 4, ..config() });
    for client in 0..20 {
        let from = HostAddr::from([10, 0, 2, client]);
        solo.receive(from, client_header(ID), data(0..100, 100));
    }
    let requests = solo.events();
    for event in &requests {
        let Event::Request { rpc, .. } = event else { panic!("{event:?}") };
        solo.reply(*rpc, 10);
    }
    solo.sent();
    let mut clients = Vec::new();
    for event in &requests {
        let Event::Request { client, .. } = event else { panic!("{event:?}") };
        solo.receive(*client, client_header(ID), ack(&[]));
        clients.push(*client);
    }
    assert_eq!(solo.shard.occupancy().server_rpcs, 0);
    for client in clients {
        solo.receive(client, client_header(ID), data(0..100, 100));
    }
    assert!(solo.events().is_empty(), "executed twice");
}

#[test]
fn duplicates_of_every_packet_change_nothing() {
    let mut pair = Pair::new(Config::default());
    pair.faults.duplicate_percent = 100;
    let sizes = [1, 1_424, 1_425, 40_000, 300_000];
    let calls: Vec<(u64, usize)> = (0..).zip(sizes).collect();
    for (cookie, len) in &calls {
        pair.call(*len, *cookie);
    }
    pair.run(Nanos::from_ms(20), echo);
    pair.assert_echoed(&calls);
    pair.assert_empty();
    assert!(pair.shards[1].metrics().duplicates > 200);
}

// ---- tables ----------------------------------------------------------------------------------

/// Makes calls as long as they are taken, runs, and goes on with those refused, until all `count`
/// have their answers. Gives how many refusals there were.
fn all_in_the_end(pair: &mut Pair, count: u64, len: usize, expected: RefusedReason) -> u64 {
    let (mut refused, mut next, mut done) = (0, 0, 0);
    for _ in 0..2_000 {
        while next < count {
            match pair.call_from(0, len, next) {
                Ok(_) => next += 1,
                Err(reason) => {
                    assert_eq!(reason, expected);
                    refused += 1;
                    break;
                }
            }
        }
        pair.run(Nanos::from_us(100), echo);
        for (cookie, result) in pair.responses.drain(..) {
            assert!(result.is_ok_and(|message| message.to_vec() == pattern(len, cookie)));
            done += 1;
        }
        if done == count {
            break;
        }
    }
    pair.idle(Nanos::from_ms(10));
    assert_eq!(done, count);
    pair.assert_empty();
    assert_eq!(pair.shards[0].metrics().refused_calls, refused);
    refused
}

#[test]
fn client_rpcs_max() {
    let mut pair = Pair::new(Config { client_rpcs_max: 3, ..Config::default() });
    let refused = all_in_the_end(&mut pair, 20, 100, RefusedReason::TooManyRpcs);
    assert!(refused > 0);
}

#[test]
fn outgoing_max_bytes() {
    let mut pair = Pair::new(Config { outgoing_max_bytes: 10_000, ..Config::default() });
    let refused = all_in_the_end(&mut pair, 20, 6_000, RefusedReason::TooManyOutgoingBytes);
    assert!(refused > 0);
}

#[test]
fn a_reply_beyond_outgoing_max_bytes_comes_back_and_can_be_given_later() {
    let mut solo = Solo::new(Config { outgoing_max_bytes: 1_000, ..config() });
    let first = solo.serve(ID, 100);
    let second = solo.serve(RpcId(0x9000), 100);
    solo.reply(first, 1_000);
    solo.sent();
    let refused = solo.shard.reply(solo.now, second, outgoing(10, 0)).unwrap_err();
    assert_eq!(refused.reason, RefusedReason::TooManyOutgoingBytes);
    solo.client_sends(ID, ack(&[]));
    solo.shard.reply(solo.now, second, refused.message).unwrap();
    assert_eq!(solo.sent().len(), 1);
}

#[test]
fn server_rpcs_max() {
    let server = Config { server_rpcs_max: 3, ..Config::default() };
    let mut pair = Pair::with_configs(Config::default(), server);
    for cookie in 0..30 {
        pair.call(100, cookie);
    }
    pair.run(Nanos::from_ms(100), echo);
    pair.assert_echoed(&(0..30).map(|cookie| (cookie, 100)).collect::<Vec<_>>());
    assert!(pair.shards[1].metrics().refused_rpcs > 0);
    pair.idle(Nanos::from_ms(10));
    pair.assert_empty();
}

#[test]
fn server_rpcs_per_peer_max() {
    let server = Config { server_rpcs_per_peer_max: 3, ..Config::default() };
    let mut pair = Pair::with_configs(Config::default(), server);
    for cookie in 0..30 {
        pair.call(100, cookie);
    }
    pair.run(Nanos::from_ms(100), echo);
    pair.assert_echoed(&(0..30).map(|cookie| (cookie, 100)).collect::<Vec<_>>());
    assert!(pair.shards[1].metrics().refused_per_peer > 0);
    pair.idle(Nanos::from_ms(10));
    pair.assert_empty();
}

#[test]
fn calls_of_impossible_length_come_back() {
    let mut solo = Solo::new(config());
    for len in [0, 1_000_001] {
        let called = solo.shard.call(solo.now, solo.port, SERVER, SERVICE, outgoing(len, 0), 0);
        let refused = called.unwrap_err();
        assert_eq!(refused.reason, RefusedReason::BadLength(len as u32));
        assert_eq!(refused.message.bytes.len(), len);
    }
    assert_eq!(solo.shard.metrics().refused_calls, 2);
    assert_eq!(solo.shard.occupancy(), Occupancy::default());
}

#[test]
fn peers_max_refuses_when_all_are_in_use() {
    let mut solo = Solo::new(Config { peers_max: 2, ..config() });
    let peer = |n| HostAddr::from([10, 0, 3, n]);
    for n in 0..4 {
        solo.receive(peer(n), client_header(ID), data(0..100, 100));
    }
    assert_eq!(solo.events().len(), 2);
    assert_eq!(solo.shard.metrics().refused_peers, 2);
    let called = solo.shard.call(solo.now, solo.port, peer(9), SERVICE, outgoing(1, 0), 0);
    assert_eq!(called.unwrap_err().reason, RefusedReason::TooManyPeers);
    // One ends: there is room for another.
    solo.receive(peer(0), client_header(ID), bare(Body::RpcUnknown));
    solo.receive(peer(3), client_header(ID), data(0..100, 100));
    assert_eq!(solo.events().len(), 1);
    assert_eq!(solo.shard.occupancy().peers, 2);
}

/// A packet that waits to be sent must not go to whoever took the place of its peer.
#[test]
fn an_evicted_peer_takes_no_packets_of_its_own_elsewhere() {
    let mut solo = Solo::new(Config { peers_max: 1, ..config() });
    solo.receive(CLIENT, client_header(ID), resend(0, Resend::ALL, 7));
    solo.receive(SERVER, client_header(ID), resend(0, Resend::ALL, 7));
    for frame in solo.sent() {
        assert_eq!(frame.to, CLIENT, "{}", frame.brief());
    }
    solo.receive(SERVER, client_header(ID), resend(0, Resend::ALL, 7));
    let frames = solo.sent();
    assert_eq!((frames.len(), frames[0].to), (1, SERVER), "now there is room");
}

#[test]
fn thousands_of_peers_pass_through_a_small_table() {
    let mut solo = Solo::new(Config { peers_max: 8, ..config() });
    for n in 0..5_000_u32 {
        let from = HostAddr::from((0x0b00_0000 + n).to_be_bytes());
        solo.receive(from, client_header(ID), data(0..100, 100));
        let (rpc, _) = solo.request();
        solo.reply(rpc, 10);
        assert_eq!(solo.sent().len(), 1);
        solo.receive(from, client_header(ID), ack(&[]));
    }
    assert_eq!(solo.shard.metrics().server_acked, 5_000);
    assert_eq!(solo.shard.occupancy(), Occupancy { peers: 8, ..Occupancy::default() });
}

#[test]
fn control_packets_max() {
    let mut solo = Solo::new(Config { control_packets_max: 64, ..config() });
    for n in 0..100 {
        solo.client_sends(RpcId(2 * n), resend(0, Resend::ALL, 7));
    }
    assert_eq!(solo.shard.metrics().control_dropped, 36);
    assert_eq!(solo.sent().len(), 64);
}

#[test]
fn gaps_per_message_max() {
    let config = Config { gaps_per_message_max: 1, ..Config::default() };
    let mut pair = Pair::new(config);
    pair.lose = Some(Box::new(|_, frame| match frame.packet.body {
        Body::Data(data) => !data.retransmit && data.offset / SEGMENT % 3 == 1,
        _ => false,
    }));
    pair.call(30_000, 1);
    pair.run(Nanos::from_ms(200), echo);
    pair.assert_echoed(&[(1, 30_000)]);
    assert!(pair.shards[1].metrics().gap_limit > 0);
    pair.assert_empty();
}

#[test]
fn retransmits_max() {
    let mut pair = Pair::new(Config { retransmits_max: 1, ..Config::default() });
    pair.faults.loss_percent = 30;
    let calls: Vec<_> = (0..20).map(|cookie| (cookie, 30_000)).collect();
    for (cookie, len) in &calls {
        pair.call(*len, *cookie);
    }
    pair.run(Nanos::from_secs(1), echo);
    pair.faults.loss_percent = 0;
    pair.run(Nanos::from_secs(2), echo);
    pair.assert_echoed(&calls);
    assert!(pair.shards[0].metrics().retransmits_dropped > 0);
    pair.assert_empty();
}

// ---- receive buffers -------------------------------------------------------------------------

/// Messages of more packets than may be retained still arrive, one at a time.
#[test]
fn a_message_longer_than_all_receive_buffers() {
    let mut pair = Pair::new(Config { retained_packets_max: 64, ..Config::default() });
    pair.call(1_000_000, 1);
    pair.run(Nanos::from_ms(50), echo);
    pair.assert_echoed(&[(1, 1_000_000)]);
    pair.assert_empty();
}

/// Many unscheduled messages that together fill the receive buffers before any is complete.
#[test]
fn interleaved_messages_that_fill_the_receive_buffers() {
    let mut pair = Pair::new(Config { retained_packets_max: 64, ..Config::default() });
    pair.lose = Some(Box::new(|_, frame| match frame.packet.body {
        // Only the first third of each arrives at first.
        Body::Data(data) => !data.retransmit && data.offset > 12_000,
        _ => false,
    }));
    let calls: Vec<_> = (0..6).map(|cookie| (cookie, 36_000)).collect();
    for (cookie, len) in &calls {
        pair.call(*len, *cookie);
    }
    pair.run(Nanos::from_ms(10), |_| Some(outgoing(1, 0)));
    pair.lose = None;
    pair.run(Nanos::from_ms(200), |_| Some(outgoing(1, 0)));
    assert_eq!(pair.responses.len(), 6);
}

/// An application that holds on to its messages: new requests are refused, those accepted complete
/// once it lets go.
#[test]
fn a_slow_application_holds_the_receive_buffers() {
    let server = Config { retained_packets_max: 64, ..Config::default() };
    let mut pair = Pair::with_configs(Config::default(), server);
    let mut held = Vec::new();
    for cookie in 0..80 {
        pair.call(1_000, cookie);
    }
    pair.idle(Nanos::from_ms(1));
    held.extend(pair.requests.drain(..));
    assert_eq!(held.len(), 57, "7/8 of 64, and one");
    assert!(pair.shards[1].metrics().refused_buffers >= 23);
    let called = pair.call_from(1, 10, 999);
    assert_eq!(called.unwrap_err(), RefusedReason::ReceiveBuffersLow);
    pair.idle(Nanos::from_ms(30));
    for request in held.drain(..) {
        let response = echo(&request.message).unwrap();
        pair.reply(&request, response).unwrap();
    }
    pair.run(Nanos::from_ms(30), echo);
    pair.assert_echoed(&(0..80).map(|cookie| (cookie, 1_000)).collect::<Vec<_>>());
    pair.idle(Nanos::from_ms(10));
    pair.assert_empty();
}

#[test]
fn small_packets_are_copied_out_when_buffers_run_short() {
    #[derive(Debug)]
    struct Counted(u32, Rc<Cell<u32>>);
    impl Payload for Counted {
        fn len(&self) -> u32 {
            self.0
        }
        fn narrow(&mut self, range: core::ops::Range<u32>) {
            self.0 = range.end - range.start;
        }
        fn detach(&mut self) {
            self.1.set(self.1.get() + 1);
        }
    }
    let config = Config { retained_packets_max: 64, ..config() };
    let mut shard = Transport::<Counted, Outgoing>::new(config, ()).unwrap();
    assert!(shard.open_server_port(SERVICE));
    let detached = Rc::new(Cell::new(0));
    let mut held = Vec::new();
    for n in 1..=56_u64 {
        let length = if n % 2 == 0 { 255 } else { 256 };
        let header = client_header(RpcId(2 * n));
        let packet = Packet { header, body: data(0..length, length).0 };
        let payload = Counted(length, detached.clone());
        shard.on_packet(Nanos::from_ms(1), CLIENT, &packet, payload);
        held.extend(shard.poll_event());
    }
    assert_eq!(held.len(), 56);
    // From the 50th on, every second one.
    assert_eq!(detached.get(), 4);
}

/// All limits tiny, all sizes, losses: whatever is accepted completes in the end.
#[test]
fn tiny_limits_all_at_once() {
    let config = Config {
        client_rpcs_max: 8,
        server_rpcs_max: 4,
        server_rpcs_per_peer_max: 3,
        peers_max: 1,
        gaps_per_message_max: 1,
        control_packets_max: 64,
        retransmits_max: 1,
        outgoing_max_bytes: 1_000_000,
        retained_packets_max: 64,
        resends_per_rpc_max: 1,
        probes_per_peer_ms_max: 1,
        incoming_max_bytes: 10_000,
        grant_min_bytes: 1_000,
        unsched_bytes: 2_000,
        overcommit_max: 1,
        tombstones_max: 4,
        // A server that is always full must not make the client give up.
        timeout_ns: 20_000_000_000,
        // Nor must a client that has no room for more of a response be taken for dead.
        response_keep_ns: 20_000_000_000,
        ..Config::default()
    };
    let mut pair = Pair::new(config);
    pair.faults = Faults { loss_percent: 5, duplicate_percent: 5, jitter_ns: 20_000 };
    let sizes = [1, 1_000, 1_424, 5_000, 50_000, 200_000];
    let (mut next, mut done) = (0, HashSet::new());
    for _ in 0..3_000 {
        let len = |cookie: u64| sizes[cookie as usize % sizes.len()];
        while next < 40 && pair.call_from(0, len(next), next).is_ok() {
            next += 1;
        }
        pair.run(Nanos::from_ms(10), echo);
        for (cookie, result) in pair.responses.drain(..) {
            assert!(result.is_ok_and(|message| message.to_vec() == pattern(len(cookie), cookie)));
            assert!(done.insert(cookie));
        }
        if done.len() == 40 {
            break;
        }
    }
    assert_eq!((next, done.len()), (40, 40), "{:?}", pair.shards);
    pair.faults = Faults::default();
    pair.idle(Nanos::from_ms(100));
    pair.assert_empty();
}
