//! How long things last: what a server remembers, who keeps whom alive, and what must not be kept.

use super::solo::*;
use crate::time::Nanos;
use crate::transport::pair::*;
use crate::transport::*;
use crate::wire::{Body, Packet};

const ID: RpcId = RpcId(0x5678);

/// A request that the application drops; gives whether a copy is executed after `pause`.
fn is_executed_again(solo: &mut Solo, pause: Nanos, excused: bool) -> bool {
    let rpc = solo.serve(ID, 100);
    assert!(solo.shard.abort(solo.now, rpc));
    solo.shard.on_timer(solo.now);
    solo.now = solo.now + pause;
    if excused {
        solo.shard.excuse(solo.now, pause.0);
    }
    solo.shard.on_timer(solo.now);
    solo.client_sends(ID, data(0..100, 100));
    !solo.events().is_empty()
}

/// Also if the timers have not run for long, because there was nothing to do for them.
#[test]
fn an_end_is_remembered_from_when_it_came() {
    let mut solo = Solo::new(config());
    solo.now = Nanos::from_secs(10);
    assert!(!is_executed_again(&mut solo, Nanos::from_ms(150), false));
}

/// Packets that have waited for a shard meet the memory it had.
#[test]
fn a_shard_that_did_not_run_has_forgotten_nothing() {
    for excused in [true, false] {
        let mut solo = Solo::new(config());
        let again = is_executed_again(&mut solo, Nanos::from_secs(5), excused);
        assert_eq!(again, !excused);
    }
}

/// A client that did not run for long asks a server that may have forgotten.
#[test]
fn a_request_is_not_started_again_after_a_long_stall() {
    for (stall_ms, starts_again) in [(0, true), (90, true), (101, false), (10_000, false)] {
        let mut solo = Solo::new(config());
        let (_, id) = solo.call(100, 7);
        assert_eq!(solo.sent().len(), 1);
        // In pieces, as a busy machine does it.
        for _ in 0..stall_ms {
            solo.now = solo.now + Nanos::from_ms(1);
            solo.shard.excuse(solo.now, 1_000_000);
        }
        solo.server_sends(id, bare(Body::RpcUnknown));
        assert_eq!(solo.sent().len(), usize::from(starts_again), "{stall_ms} ms");
        let failed = matches!(
            solo.events()[..],
            [Event::Response { cookie: 7, result: Err(RpcError::Timeout), .. }]
        );
        assert_eq!(failed, !starts_again, "{stall_ms} ms");
    }
}

/// What a packet proves that has waited in the ring is as old as the stall.
#[test]
fn a_packet_that_comes_right_after_a_stall_proves_nothing_new() {
    for (pause, starts_again) in [(Nanos::from_us(10), false), (Nanos::from_ms(6), true)] {
        let mut solo = Solo::new(config());
        let (_, id) = solo.call(100, 7);
        solo.sent();
        solo.now = solo.now + Nanos::from_secs(1);
        solo.shard.excuse(solo.now, 1_000_000_000);
        solo.now = solo.now + pause;
        solo.server_sends(id, bare(Body::Busy));
        solo.now = solo.now + Nanos::from_ms(5);
        solo.server_sends(id, bare(Body::RpcUnknown));
        assert_eq!(solo.sent().len(), usize::from(starts_again), "{pause}");
    }
}

/// What is started again and cannot be sent does not hold the RPC for ever.
#[test]
fn a_request_started_again_that_cannot_be_sent_times_out() {
    let mut solo = Solo::new(config());
    let (_, id) = solo.call(LENGTH, 7);
    solo.sent();
    solo.now = Nanos::from_ms(50);
    solo.server_sends(id, bare(Body::RpcUnknown));
    for ms in 50..105 {
        solo.now = Nanos::from_ms(ms);
        solo.shard.on_timer(solo.now);
    }
    assert!(solo.state(id).is_none() && solo.events().len() == 1);
    assert!(!solo.sent_briefs().iter().any(|brief| brief.starts_with("DATA")));
}

/// A slow link is no reason to give a response up.
#[test]
fn a_response_is_sent_however_long_it_takes() {
    let config = Config {
        unsched_bytes: 1_000_000,
        link_bps: 100_000_000,
        response_keep_ns: 10_000_000,
        ..Config::default()
    };
    let mut pair = Pair::new(config);
    pair.call(100, 1);
    pair.run(Nanos::from_ms(200), |_| Some(outgoing(1_000_000, 1)));
    pair.assert_echoed(&[(1, 1_000_000)]);
    assert_eq!(pair.shards[1].metrics().server_timeouts, 0);
}

/// The client is alive and talks, but of other RPCs.
#[test]
fn a_response_half_sent_is_not_kept_for_a_client_that_has_forgotten_it() {
    let config = Config { announce_aborts: false, ..Config::default() };
    let mut pair = Pair::new(config);
    pair.lose = Some(Box::new(|_, frame| matches!(frame.packet.body, Body::Grant(_))));
    let call = pair.call(100, 0);
    pair.run(Nanos::from_ms(1), |_| Some(outgoing(100_000, 0)));
    assert!(pair.shards[0].abort(pair.now, call));
    assert_eq!(pair.shards[1].occupancy().outgoing_bytes, 100_000);
    for cookie in 1..40 {
        pair.call(100, cookie);
        pair.run(Nanos::from_ms(5), echo);
    }
    assert_eq!(pair.responses.len(), 39);
    pair.responses.clear();
    pair.assert_empty();
}

/// The client has all it was granted and is silent for long, but has not forgotten.
#[test]
fn a_response_half_sent_is_kept_for_a_client_that_waits() {
    let mut pair = Pair::new(Config::default());
    let hold = Rc::new(core::cell::Cell::new(true));
    let held = hold.clone();
    let granted = move |_, frame: &Frame| matches!(frame.packet.body, Body::Grant(_)) && held.get();
    pair.lose = Some(Box::new(granted));
    pair.call(100, 1);
    // RESENDs take the place of the grants that are lost.
    pair.run(Nanos::from_ms(400), |_| Some(outgoing(500_000, 1)));
    hold.set(false);
    pair.run(Nanos::from_ms(400), echo);
    pair.assert_echoed(&[(1, 500_000)]);
}

/// Each has as much to send as it may, and can answer all the same.
#[test]
fn servers_that_are_clients_of_each_other_do_not_wait_for_room() {
    let mut pair = Pair::symmetric(Config { outgoing_max_bytes: 1, ..Config::default() });
    for side in [0, 1] {
        pair.call_from(side, 3_000, side as u64).unwrap();
        let refused = pair.call_from(side, 1, 9).unwrap_err();
        assert_eq!(refused, RefusedReason::TooManyOutgoingBytes);
    }
    pair.run(Nanos::from_ms(5), echo);
    pair.assert_echoed(&[(0, 3_000), (1, 3_000)]);
}

/// One of the lengths is wrong; neither side can tell which.
#[test]
fn a_message_of_two_lengths_does_not_live_for_ever() {
    let mut solo = Solo::new(config());
    solo.client_sends(ID, data(0..SEGMENT, LENGTH));
    for ms in (1..=120).step_by(4) {
        solo.pass_time(Nanos::from_ms(ms));
        solo.client_sends(ID, data(SEGMENT..HALF, LENGTH + 1));
    }
    assert_eq!(solo.state(ID.flip()), None);
    assert!(solo.shard.metrics().length_mismatch > 20);
    assert_eq!(solo.shard.occupancy().retained_packets, 0);
}

/// The sender has the message for shorter or longer than it was told at first, by a packet that was
/// damaged; that it is busy means nothing.
#[test]
fn a_sender_that_is_busy_does_not_keep_a_message_of_two_lengths_alive() {
    for length in [LENGTH - 1, LENGTH + 1] {
        let mut solo = Solo::new(config());
        solo.client_sends(ID, data(0..SEGMENT, LENGTH));
        for ms in (1..=120).step_by(4) {
            solo.pass_time(Nanos::from_ms(ms));
            solo.client_sends(ID, data(0..SEGMENT, length));
            solo.client_sends(ID, bare(Body::Busy));
        }
        assert_eq!(solo.state(ID.flip()), None, "{length}");
    }
}

/// Without the dispute it does, and so does a packet that fits after one that did not.
#[test]
fn a_sender_that_is_busy_keeps_a_message_alive() {
    let mut solo = Solo::new(config());
    solo.client_sends(ID, data(0..SEGMENT, LENGTH));
    solo.client_sends(ID, data(0..SEGMENT, LENGTH + 1));
    solo.client_sends(ID, data(0..SEGMENT, LENGTH));
    for ms in (1..=220).step_by(4) {
        solo.pass_time(Nanos::from_ms(ms));
        solo.client_sends(ID, bare(Body::Busy));
    }
    assert_eq!(solo.state(ID.flip()), Some(State::ServerIncoming));
}

/// A message whose sender says that it is busy, and sends nothing, must not keep the budget from others.
#[test]
fn what_was_asked_for_twice_and_did_not_come_is_off_the_budget() {
    let window_bytes = 10_000;
    let config =
        Config { incoming_max_bytes: 10_000, window_bytes, grant_min_bytes: 0, ..config() };
    let mut solo = Solo::new(config);
    let other = RpcId(0x9000);
    let incoming = |solo: &Solo| solo.shard.occupancy().incoming_bytes;
    let is_grant = |frame: &Frame| matches!(frame.packet.body, Body::Grant(_));
    solo.client_sends(ID, data(0..SEGMENT, 50_000));
    solo.client_sends(other, data(0..HALF, 100_000));
    assert!(solo.sent().iter().any(is_grant));
    assert_eq!(incoming(&solo), 10_000);
    let asked_once = solo.pass_time(Nanos::from_ms(7));
    solo.client_sends(ID, bare(Body::Busy));
    assert_eq!((asked_once.len(), asked_once.iter().any(is_grant)), (1, false));
    let asked_twice = solo.pass_time(Nanos::from_ms(13));
    let granted = asked_twice.iter().filter(|frame| is_grant(frame));
    let granted: Vec<RpcId> = granted.map(|frame| frame.packet.header.sender_id).collect();
    assert_eq!(granted, [other.flip()]);
    assert_eq!(incoming(&solo), 10_000);
    // Once a packet comes, so may the rest: it is on the account again.
    solo.client_sends(ID, data(SEGMENT..HALF, 50_000));
    assert_eq!(incoming(&solo), 20_000 - u64::from(SEGMENT));
    assert!(solo.sent().is_empty());
}

/// Bytes that an earlier life of the RPC was granted do not make room for more.
#[test]
fn bytes_beyond_the_grants_do_not_count_as_granted_ones() {
    let config = Config { incoming_max_bytes: 10_000, grant_min_bytes: 0, ..config() };
    let mut solo = Solo::new(config);
    let header = client_header(ID);
    for start in [0, 40_000, 50_000, 60_000] {
        let (body, bytes) = data(start..start + SEGMENT, 100_000);
        solo.shard.on_packet(solo.now, CLIENT, &Packet { header, body }, Bytes(bytes));
    }
    solo.shard.end_burst(solo.now);
    let inbound = solo.rpc(ID.flip()).and_then(|rpc| rpc.inbound.as_ref()).unwrap();
    // Nothing but the first packet is of what may come.
    let open = u64::from(inbound.granted - SEGMENT);
    assert_eq!(solo.shard.occupancy().incoming_bytes, open);
    assert!(open > 0 && open <= 10_000, "{open}");
}

/// Nothing would come for the receiver to act on: the grant must reach beyond what it has.
#[test]
fn a_sender_ahead_of_its_grants_is_granted_more() {
    let config = Config { incoming_max_bytes: 10_000, grant_min_bytes: 0, ..config() };
    let mut solo = Solo::new(config);
    for start in (0..30 * SEGMENT).step_by(SEGMENT as usize) {
        let (body, bytes) = data(start..start + SEGMENT, 100_000);
        let packet = Packet { header: client_header(ID), body };
        solo.shard.on_packet(solo.now, CLIENT, &packet, Bytes(bytes));
    }
    solo.shard.end_burst(solo.now);
    let offset = |frame: &Frame| match frame.packet.body {
        Body::Grant(grant) => Some(grant.offset),
        _ => None,
    };
    let granted = solo.sent().iter().filter_map(offset).max();
    assert!(granted.is_some_and(|granted| granted > 30 * SEGMENT), "{granted:?}");
}
