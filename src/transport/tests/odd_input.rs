//! Protocol.md section 7.3: malformed or odd input, one test per row of the table. That about packets
//! which cannot be read (type, length) belongs to `wire` and `tests/node_malformed.rs`.

use super::solo::*;
use crate::time::Nanos;
use crate::transport::pair::*;
use crate::transport::*;
use crate::wire::{Ack, AckRecord, Body, Header, Packet, Resend};

const ID: RpcId = RpcId(0x5678);

/// A request of this length is dropped without a trace.
fn check_request_length(length: u32) {
    let mut solo = Solo::new(config());
    let mut content = data_with(0..100, 100, |data| data.message_length = length);
    if length == 0 {
        content.1.clear();
    }
    solo.client_sends(ID, content);
    assert_eq!(solo.shard.occupancy().server_rpcs, 0);
    assert_eq!(solo.shard.metrics().bad_length, 1);
    assert!(solo.pass_time(solo.now + Nanos::from_ms(300)).is_empty());
}

#[test]
fn request_too_long() {
    check_request_length(1_000_001);
}

#[test]
fn request_of_negative_length() {
    check_request_length(-1_i32 as u32);
    check_request_length(i32::MIN as u32);
}

#[test]
fn request_of_length_0() {
    check_request_length(0);
}

#[test]
fn the_longest_request_is_accepted() {
    let mut solo = Solo::new(config());
    solo.client_sends(ID, data(0..100, 1_000_000));
    assert_eq!(solo.shard.occupancy().server_rpcs, 1);
}

/// A first response packet of this length fails the RPC.
fn check_response_length(length: u32) {
    let mut solo = Solo::new(config());
    let (_, id) = solo.call(100, 8);
    solo.sent();
    solo.server_sends(id, data_with(0..100, 100, |data| data.message_length = length));
    match solo.events().as_slice() {
        [Event::Response { cookie: 8, result: Err(error), .. }] => {
            assert_eq!(*error, RpcError::BadResponseLength(length));
        }
        events => panic!("{events:?}"),
    }
    assert_eq!(solo.shard.occupancy().client_rpcs, 0);
}

#[test]
fn response_too_long() {
    check_response_length(1_000_001);
}

#[test]
fn response_of_negative_length() {
    check_response_length(-5_i32 as u32);
}

#[test]
fn response_of_length_0() {
    check_response_length(0);
}

#[test]
fn length_differs_from_that_of_the_first_packet() {
    let mut solo = Solo::new(config());
    solo.client_sends(ID, data(0..SEGMENT, LENGTH));
    for length in [LENGTH - 1, LENGTH + 1, 0, u32::MAX] {
        solo.client_sends(
            ID,
            data_with(SEGMENT..HALF, LENGTH, |data| data.message_length = length),
        );
    }
    assert_eq!(solo.shard.metrics().length_mismatch, 4);
    solo.client_sends(ID, data(SEGMENT..LENGTH, LENGTH));
    let (_, message) = solo.request();
    assert_eq!(message.to_vec(), pattern(LENGTH as usize, SEED));
}

#[test]
fn incoming_beyond_the_length_means_unscheduled() {
    let mut solo = Solo::new(config());
    solo.client_sends(ID, data_with(0..SEGMENT, LENGTH, |data| data.incoming = 60_000));
    assert!(solo.sent().is_empty(), "no grant");
    assert_eq!(solo.shard.occupancy().grantable, 0);
}

#[test]
fn incoming_negative_or_huge_takes_no_more_of_the_budget_than_unscheduled_bytes() {
    for incoming in [-1_i32 as u32, i32::MIN as u32, i32::MAX as u32, 1_000_000] {
        let mut solo = Solo::new(config());
        solo.client_sends(ID, data_with(0..100, 1_000_000, |data| data.incoming = incoming));
        assert_eq!(solo.shard.occupancy().incoming_bytes, u64::from(UNSCHED) - 100);
    }
}

/// What a liar announces must not come onto the account together with a later grant.
#[test]
fn a_grant_counts_only_what_it_grants() {
    let mut solo = Solo::new(config());
    solo.client_sends(ID, data_with(0..100, 1_000_000, |data| data.incoming = 900_000));
    solo.client_sends(RpcId(0x9000), data(0..100, 900_000));
    solo.pass_time(solo.now + Nanos::from_ms(4));
    assert!(solo.shard.metrics().fifo_grant_bytes > 0);
    let budget = u64::from(solo.shard.config().incoming_max_bytes);
    let incoming = solo.shard.occupancy().incoming_bytes;
    assert!(incoming <= budget, "{incoming} of {budget}");
}

#[test]
fn payload_outside_the_message_starts_no_request() {
    for range in [LENGTH..LENGTH + 10, LENGTH - 5..LENGTH + 5, 0..LENGTH + 1] {
        let mut solo = Solo::new(config());
        solo.client_sends(ID, data(range.clone(), LENGTH));
        assert_eq!(solo.shard.occupancy().server_rpcs, 0, "{range:?}");
        assert_eq!(solo.shard.metrics().bad_range, 1);
    }
}

#[test]
fn payload_outside_the_message_is_dropped() {
    let mut solo = Solo::new(config());
    solo.client_sends(ID, data(0..SEGMENT, LENGTH));
    for range in [LENGTH..LENGTH + 10, LENGTH - 5..LENGTH + 5] {
        solo.client_sends(ID, data(range, LENGTH));
    }
    solo.client_sends(ID, data_with(0..100, LENGTH, |data| data.offset = u32::MAX - 5));
    assert_eq!(solo.shard.metrics().bad_range, 3);
    assert_eq!(solo.shard.occupancy().retained_packets, 1);
    solo.client_sends(ID, data(SEGMENT..LENGTH, LENGTH));
    assert_eq!(solo.request().1.to_vec(), pattern(LENGTH as usize, SEED));
}

/// Nothing of a first response packet is believed if its range is wrong: or the RPC would wait for
/// a message of which nothing is announced, without a timer.
#[test]
fn a_first_response_outside_its_message_does_not_stop_recovery() {
    let mut solo = Solo::new(config());
    let (_, id) = solo.call(100, 8);
    solo.sent();
    solo.server_sends(
        id,
        data_with(0..10, 1_000, |data| (data.offset, data.incoming) = (2_000, 0)),
    );
    assert_eq!(solo.shard.metrics().bad_range, 1);
    assert_eq!(solo.state(id), Some(State::ClientOutgoing));
    let frames = solo.pass_time(solo.now + Nanos::from_ms(6));
    assert_eq!(briefs(&frames), ["RESEND 0..all prio=7 @7"]);
    solo.pass_time(solo.now + Nanos::from_ms(100));
    assert_eq!(solo.events().len(), 1, "times out");
}

#[test]
fn data_without_payload_announces_and_opens_no_gap() {
    let mut solo = Solo::new(config());
    solo.client_sends(ID, data_with(4_000..4_000, 60_000, |data| data.incoming = 0));
    assert_eq!(solo.sent_briefs(), ["GRANT offset=60000 prio=0 @7"]);
    assert_eq!(solo.shard.occupancy().retained_packets, 0);
    let inbound = solo.rpc(ID.flip()).and_then(|rpc| rpc.inbound.as_ref()).unwrap();
    assert_eq!((inbound.reassembly.high(), inbound.reassembly.gap_count()), (0, 0));
    solo.client_sends(ID, data(0..60_000, 60_000));
    assert_eq!(solo.request().1.to_vec(), pattern(60_000, SEED));
}

#[test]
fn bytes_beyond_what_was_granted_are_accepted() {
    let mut solo =
        Solo::new(Config { incoming_max_bytes: 10_000, grant_min_bytes: 1_000, ..config() });
    solo.client_sends(ID, data(0..SEGMENT, 50_000));
    solo.client_sends(ID, data(SEGMENT..50_000, 50_000));
    assert_eq!(solo.request().1.to_vec(), pattern(50_000, SEED));
    assert_eq!(solo.shard.occupancy().incoming_bytes, 0);
}

#[test]
fn grant_beyond_the_length() {
    let mut solo = Solo::new(config());
    let (_, id) = solo.call(LENGTH, 0);
    solo.sent();
    solo.server_sends(id, grant(u32::MAX, 1));
    let ends = ["DATA 2848..4272/5000", "DATA 4272..5000/5000"];
    for (brief, end) in solo.sent_briefs().iter().zip(ends) {
        assert!(brief.starts_with(end), "{brief}");
    }
}

#[test]
fn grant_priority_too_high() {
    for (num_priorities, wire) in [(8, 7), (4, 3), (1, 0)] {
        let mut solo = Solo::new(Config { num_priorities, ..config() });
        let (_, id) = solo.call(LENGTH, 0);
        solo.sent();
        solo.server_sends(id, grant(LENGTH, 200));
        assert!(solo.sent().iter().all(|frame| frame.priority == wire));
    }
}

#[test]
fn resend_priority_too_high() {
    for (num_priorities, wire) in [(8, 7), (4, 3), (1, 0)] {
        let mut solo = Solo::new(Config { num_priorities, ..config() });
        let (_, id) = solo.call(LENGTH, 0);
        solo.sent();
        solo.server_sends(id, resend(0, 10, 255));
        let frames = solo.sent();
        assert_eq!(frames.len(), 1);
        assert_eq!(frames[0].priority, wire);
    }
}

#[test]
fn resend_without_priority_is_of_the_highest() {
    let mut solo = Solo::new(config());
    let (_, id) = solo.call(LENGTH, 0);
    solo.sent();
    solo.server_sends(id, bare(Body::Resend(Resend { offset: 0, length: 10, priority: None })));
    assert_eq!(solo.sent()[0].priority, 7);
}

/// Nothing is sent again; BUSY if the offset lies beyond what was sent, but not beyond the message.
#[test]
fn resend_of_nothing() {
    for (offset, length, sent) in [
        (0, 0, vec![]),
        (100, -7_i32 as u32, vec![]),
        (100, i32::MIN as u32, vec![]),
        (HALF, 0, vec!["BUSY @7"]),
        (HALF + 1, -7_i32 as u32, vec!["BUSY @7"]),
        (u32::MAX, 0, vec![]),
    ] {
        let mut solo = Solo::new(config());
        let (_, id) = solo.call(LENGTH, 0);
        solo.sent();
        solo.server_sends(id, resend(offset, length, 7));
        assert_eq!(solo.sent_briefs(), sent, "{offset} + {length}");
    }
}

#[test]
fn resend_past_the_end() {
    let mut solo = Solo::new(config());
    let (_, id) = solo.call(LENGTH, 0);
    solo.sent();
    solo.server_sends(id, resend(SEGMENT, 1_000_000, 6));
    assert_eq!(
        solo.sent_briefs(),
        [
            "DATA 1424..2848/5000 incoming=2848 cutoffs=0 retransmit @6",
            "DATA 2848..4272/5000 incoming=2848 cutoffs=0 @0",
            "DATA 4272..5000/5000 incoming=2848 cutoffs=0 @0",
        ]
    );
    // What does not exist will never come: BUSY would keep the server waiting for it.
    for offset in [LENGTH, u32::MAX] {
        solo.server_sends(id, resend(offset, i32::MAX as u32, 6));
        assert!(solo.sent_briefs().is_empty());
    }
}

/// Nor if what does exist has to wait for its turn: the server has another message in mind.
#[test]
fn resend_past_the_end_is_not_put_off() {
    for (length, busy) in [(10, true), (LENGTH, false)] {
        let mut solo = Solo::new(Config { retransmits_max: 1, ..config() });
        let (_, id) = solo.call(LENGTH, 0);
        solo.sent();
        solo.server_sends(id, resend(0, 10, 7));
        solo.server_sends(id, resend(SEGMENT, length, 7));
        let has_busy = solo.sent().iter().any(|frame| frame.packet.body == Body::Busy);
        assert_eq!(has_busy, busy, "{length}");
    }
}

#[test]
fn cutoffs_with_entry_0_too_small() {
    let mut solo = Solo::new(config());
    let (_, id) = solo.call(100, 0);
    solo.server_sends(id, cutoffs([0; 8], 3));
    solo.sent();
    solo.call(LENGTH, 0);
    assert!(solo.sent().iter().all(|frame| frame.priority == 0));
}

#[test]
fn ack_with_more_than_5_records() {
    let mut solo = Solo::new(config());
    let ids: Vec<RpcId> = (1..=6).map(|n| RpcId(1_000 * n)).collect();
    for id in &ids {
        solo.answered(*id);
    }
    let mut bytes = [0; 80];
    let mut records = Ack::new();
    for id in &ids[..5] {
        records.push(AckRecord { client_id: *id, server_port: SERVICE });
    }
    let packet = Packet { header: client_header(RpcId(4)), body: Body::Ack(records) };
    packet.emit(&mut bytes);
    bytes[28..30].copy_from_slice(&60_000_u16.to_be_bytes());
    let Packet { header, body } = Packet::parse(&bytes).unwrap();
    solo.receive(CLIENT, header, bare(body));
    assert_eq!(solo.shard.occupancy().server_rpcs, 1);
    assert_eq!(solo.state(ids[5].flip()), Some(State::ServerOutgoing));
}

#[test]
fn rpcs_with_one_id_and_many_ports_are_bounded_per_peer() {
    let mut solo = Solo::new(Config { server_rpcs_per_peer_max: 10, ..config() });
    for port in 0..50 {
        let header = Header { sport: HomaPort(33_000 + port), ..client_header(ID) };
        solo.receive(CLIENT, header, data(0..100, 100));
    }
    assert_eq!(solo.shard.occupancy().server_rpcs, 10);
    assert_eq!(solo.shard.metrics().refused_per_peer, 40);
}

#[test]
fn packets_to_a_closed_port() {
    let mut solo = Solo::new(config());
    for body in [data(0..100, 100), resend(0, 10, 0), bare(Body::NeedAck), ack(&[])] {
        let header = Header { dport: HomaPort(7), ..client_header(ID) };
        assert_eq!(solo.receive(CLIENT, header, body), Outcome::PortUnreachable);
    }
    assert!(solo.sent().is_empty());
    assert_eq!(solo.shard.metrics().unknown_port, 4);
    assert_eq!(solo.shard.occupancy().server_rpcs, 0);
}

#[test]
fn a_request_to_a_port_for_calls_only() {
    let mut solo = Solo::new(config());
    let header = Header { dport: solo.port, ..client_header(ID) };
    assert_eq!(solo.receive(CLIENT, header, data(0..100, 100)), Outcome::PortUnreachable);
    assert_eq!(solo.shard.occupancy().server_rpcs, 0);
}

/// The server of a client that is gone is released at once (reference-gaps.md G4).
#[test]
fn need_ack_to_a_closed_port_is_answered() {
    let mut solo = Solo::new(config());
    let header = Header { sport: SERVICE, dport: HomaPort(50_000), sender_id: ID.flip() };
    assert_eq!(solo.receive(SERVER, header, bare(Body::NeedAck)), Outcome::PortUnreachable);
    let frames = solo.sent();
    assert_eq!(briefs(&frames), ["ACK @7"]);
    assert_eq!(
        frames[0].packet.header,
        Header { sport: HomaPort(50_000), dport: SERVICE, sender_id: ID }
    );
}

#[test]
fn id_0_in_a_request_is_an_id_like_any_other_but_cannot_be_acknowledged_by_record() {
    let mut solo = Solo::new(config());
    solo.answered(RpcId(0));
    solo.client_sends(RpcId(0), ack(&[]));
    assert_eq!(solo.shard.occupancy().server_rpcs, 0);
}
