//! Acks: in DATA packets, in batches, by themselves (protocol.md section 14).

use super::solo;
use crate::time::Nanos;
use crate::transport::pair::*;
use crate::transport::*;
use crate::wire::{Ack, Body, Header};

fn acks(pair: &Pair) -> Vec<(RpcId, Ack)> {
    let sent = pair.sent[0].iter();
    sent.filter_map(|frame| match frame.packet.body {
        Body::Ack(ack) => Some((frame.packet.header.sender_id, ack)),
        _ => None,
    })
    .collect()
}

/// The ack that each DATA packet of the client carries.
fn piggybacked(pair: &Pair) -> Vec<Option<RpcId>> {
    let sent = pair.sent[0].iter();
    sent.filter_map(|frame| match frame.packet.body {
        Body::Data(data) => Some(data.ack.map(|record| record.client_id)),
        _ => None,
    })
    .collect()
}

fn recording(config: Config) -> Pair {
    let mut pair = Pair::new(config);
    pair.record = true;
    pair
}

/// Client and server that ask for no acks for a long time.
fn patient() -> Config {
    Config { ack_delay_ns: u64::MAX, need_ack_after_ns: 500_000_000, ..Config::default() }
}

#[test]
fn acks_ride_on_the_next_requests() {
    let mut pair = recording(patient());
    for cookie in 0..4 {
        pair.call(100, cookie);
        pair.run(Nanos::from_us(100), echo);
    }
    let is_data = |frame: &&Frame| matches!(frame.packet.body, Body::Data(_));
    let requests = pair.sent[0].iter().filter(is_data);
    let ids: Vec<RpcId> = requests.map(|frame| frame.packet.header.sender_id).collect();
    assert_eq!(piggybacked(&pair), [None, Some(ids[0]), Some(ids[1]), Some(ids[2])]);
    assert_eq!(pair.shards[1].metrics().server_acked, 3);
    assert_eq!(pair.shards[1].occupancy().server_rpcs, 1);
    assert!(acks(&pair).is_empty());
}

#[test]
fn the_newest_ack_rides_first() {
    let mut pair = recording(patient());
    for cookie in 0..3 {
        pair.call(100, cookie);
    }
    pair.run(Nanos::from_us(100), echo);
    let ids: Vec<RpcId> = pair.sent[0].iter().map(|frame| frame.packet.header.sender_id).collect();
    pair.call(5_000, 9);
    pair.run(Nanos::from_us(100), echo);
    assert_eq!(piggybacked(&pair)[3..], [Some(ids[2]), Some(ids[1]), Some(ids[0]), None]);
    assert_eq!(pair.shards[1].occupancy().server_rpcs, 1);
}

#[test]
fn the_sixth_response_makes_an_ack_packet_of_six() {
    let mut pair = recording(patient());
    for cookie in 0..6 {
        pair.call(100, cookie);
    }
    pair.run(Nanos::from_us(100), echo);
    let ids: Vec<RpcId> = pair.sent[0][..6].iter().map(|f| f.packet.header.sender_id).collect();
    let acks = acks(&pair);
    assert_eq!(acks.len(), 1);
    assert_eq!(acks[0].0, ids[5]);
    assert_eq!(acks[0].1.iter().map(|record| record.client_id).collect::<Vec<_>>(), ids[..5]);
    assert_eq!(pair.shards[1].occupancy().server_rpcs, 0);
}

#[test]
fn acks_that_find_no_data_go_by_themselves() {
    let mut pair = recording(Config::default());
    for cookie in 0..3 {
        pair.call(100, cookie);
    }
    pair.run(Nanos::from_us(108), echo);
    assert!(acks(&pair).is_empty());
    pair.run(Nanos::from_us(20), echo);
    let sent = acks(&pair);
    assert_eq!((sent.len(), sent[0].1.len()), (1, 2));
    assert_eq!(pair.shards[0].metrics().ack_packets_delayed, 1);
    pair.responses.clear();
    pair.assert_empty();
    pair.idle(Nanos::from_ms(50));
    assert_eq!(acks(&pair).len(), 1, "and not again");
}

/// A response carries the acks of calls in the other direction.
#[test]
fn acks_ride_on_responses_too() {
    let mut pair = Pair::symmetric(patient());
    pair.record = true;
    pair.call_from(0, 100, 1).unwrap();
    pair.run(Nanos::from_us(100), echo);
    pair.call_from(1, 100, 2).unwrap();
    pair.run(Nanos::from_us(100), echo);
    let response = pair.sent[0].last().unwrap();
    let Body::Data(data) = response.packet.body else { panic!("{}", response.brief()) };
    assert_eq!(
        data.ack.map(|record| record.client_id),
        Some(pair.sent[0][0].packet.header.sender_id)
    );
    assert_eq!(pair.shards[1].occupancy().server_rpcs, 0);
}

/// NEED_ACK takes along what waits for the same peer.
#[test]
fn the_answer_to_need_ack_brings_up_to_5_others() {
    let mut solo = solo::Solo::new(Config { ack_delay_ns: u64::MAX, ..solo::config() });
    let ids: Vec<RpcId> = (0..5).map(|cookie| solo.call(10, cookie).1).collect();
    solo.sent();
    for id in &ids {
        solo.server_sends(*id, solo::data(0..10, 10));
    }
    solo.server_sends(RpcId(0x4444), solo::bare(Body::NeedAck));
    let frames = solo.sent();
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0].packet.header.sender_id, RpcId(0x4444));
    let Body::Ack(ack) = frames[0].packet.body else { panic!("{}", frames[0].brief()) };
    assert_eq!(ack.iter().map(|record| record.client_id).collect::<Vec<_>>(), ids);
}

/// Acks go to the host that was called, though it may have answered from another of its addresses.
#[test]
fn acks_go_where_the_request_went() {
    let mut solo = solo::Solo::new(solo::config());
    let (_, id) = solo.call(10, 0);
    solo.sent();
    let header = Header { sport: SERVICE, dport: solo.port, sender_id: id.flip() };
    solo.receive("10.9.9.9".parse().unwrap(), header, solo::data(0..10, 10));
    assert_eq!(solo.events().len(), 1);
    let frames = solo.pass_time(solo.now + Nanos::from_ms(1));
    assert_eq!(briefs(&frames), ["ACK @7"]);
    assert_eq!((frames[0].to, frames[0].packet.header.sender_id), (SERVER, id));
}

#[test]
fn a_checked_source_must_be_the_one_called() {
    let mut solo = solo::Solo::new(Config { check_response_source: true, ..solo::config() });
    let (_, id) = solo.call(10, 0);
    let header = Header { sport: SERVICE, dport: solo.port, sender_id: id.flip() };
    solo.receive("10.9.9.9".parse().unwrap(), header, solo::data(0..10, 10));
    assert!(solo.events().is_empty());
    assert_eq!(solo.shard.metrics().foreign_source, 1);
    solo.server_sends(id, solo::data(0..10, 10));
    assert_eq!(solo.events().len(), 1);
}

/// A slow application does not prolong the life of the server's state (reference-gaps.md G5).
#[test]
fn the_ack_does_not_wait_for_the_application() {
    let mut pair = Pair::new(Config::default());
    pair.call(100, 1);
    pair.run(Nanos::from_ms(1), echo);
    assert_eq!(pair.shards[1].occupancy().server_rpcs, 0);
    assert_eq!(pair.shards[0].occupancy().retained_packets, 1, "the application has the response");
}
