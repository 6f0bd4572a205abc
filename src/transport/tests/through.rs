//! Calls and replies that go to the sink at once, past the queue.

use super::solo::*;
use crate::transport::pair::*;
use crate::transport::*;
use crate::wire::{Header, Packet, RpcId};

fn call_through(solo: &mut Solo, len: u32, sink: &mut Sink) -> RpcId {
    let message = outgoing(len as usize, SEED);
    let (now, port) = (solo.now, solo.port);
    solo.shard.call_through(now, port, SERVER, SERVICE, message, 7, sink).unwrap().1
}

#[test]
fn a_request_of_one_packet_leaves_at_once_and_only_once() {
    let mut solo = Solo::new(config());
    let mut sink = Sink::with_room(10, solo.now);
    let id = call_through(&mut solo, 100, &mut sink);
    assert_eq!(briefs(&sink.frames), ["DATA 0..100/100 incoming=100 cutoffs=0 @6"]);
    assert_eq!(sink.frames[0].packet.header.sender_id, id);
    assert!(solo.sent().is_empty());
    assert_eq!(solo.state(id), Some(State::ClientOutgoing));
}

#[test]
fn a_response_of_one_packet_leaves_at_once_and_only_once() {
    let mut solo = Solo::new(config());
    let rpc = solo.serve(RpcId(2), 100);
    solo.sent();
    let mut sink = Sink::with_room(10, solo.now);
    solo.shard.reply_through(solo.now, rpc, outgoing(100, SEED), &mut sink).unwrap();
    assert_eq!(briefs(&sink.frames), ["DATA 0..100/100 incoming=100 cutoffs=0 @6"]);
    assert!(solo.sent().is_empty());
    solo.client_sends(RpcId(4), ack(&[RpcId(2)]));
    assert_eq!(solo.state(RpcId(3)), None, "sent, so an ack ends it");
}

/// Also the ack that rides along, which leaves once, and the look at what comes of it.
#[test]
fn what_the_sink_has_no_short_way_for_leaves_at_once_as_well() {
    let run = |refuses_whole| {
        let mut solo = Solo::new(config());
        let mut sink = Sink::with_room(10, solo.now);
        sink.refuses_whole = refuses_whole;
        let before = solo.call(10, 7).1;
        solo.sent();
        solo.server_sends(before, data(0..5, 5));
        assert_eq!(solo.events().len(), 1);
        let id = call_through(&mut solo, 100, &mut sink);
        let rpc = solo.serve(RpcId(2), 100);
        solo.shard.reply_through(solo.now, rpc, outgoing(100, SEED), &mut sink).unwrap();
        let states = [solo.state(id), solo.state(RpcId(3))];
        assert_eq!(states, [Some(State::ClientOutgoing), Some(State::ServerOutgoing)]);
        let later = solo.pass_time(solo.now + Nanos::from_ms(50));
        (briefs(&sink.frames), briefs(&later))
    };
    let (at_once, later) = run(false);
    assert_eq!((&at_once, &later), (&run(true).0, &run(true).1));
    assert_eq!(at_once.iter().filter(|brief| brief.contains("ack=")).count(), 1, "{at_once:?}");
    assert_eq!(at_once.len(), 2);
    assert!(!later.is_empty(), "asks for the response, and for the ack");
}

#[test]
fn what_has_more_packets_or_waits_for_others_takes_the_queue() {
    let mut solo = Solo::new(config());
    let mut full = Sink::with_room(0, solo.now);
    let first = call_through(&mut solo, 100, &mut full);
    // Behind the first, though there is room now.
    let mut sink = Sink::with_room(10, solo.now);
    let second = call_through(&mut solo, 200, &mut sink);
    let long = call_through(&mut solo, SEGMENT + 1, &mut sink);
    assert!(full.frames.is_empty() && sink.frames.is_empty());
    let ids: Vec<RpcId> = solo.sent().iter().map(|frame| frame.packet.header.sender_id).collect();
    assert_eq!(ids, [first, second, long, long]);
}

#[test]
fn what_is_refused_comes_back() {
    let mut solo = Solo::new(config());
    let rpc = solo.serve(RpcId(2), 100);
    solo.shard.abort(solo.now, rpc);
    let mut sink = Sink::with_room(10, solo.now);
    let refused = solo.shard.reply_through(solo.now, rpc, outgoing(9, SEED), &mut sink);
    assert_eq!(refused.unwrap_err().message.bytes, pattern(9, SEED));
    assert!(sink.frames.is_empty());
}

/// What was sent is handed back when its RPC has ended well, and once.
#[test]
fn messages_of_ended_rpcs_are_handed_back_for_their_buffers() {
    let mut solo = Solo::new(config());
    let mut sink = Sink::with_room(10, solo.now);
    let id = call_through(&mut solo, 100, &mut sink);
    let served = solo.serve(RpcId(2), 30);
    solo.shard.reply_through(solo.now, served, outgoing(60, SEED), &mut sink).unwrap();

    let (header, (body, bytes)) = (client_header(id), data(0..30, 30));
    let answer = Header { sport: SERVICE, dport: solo.port, sender_id: id.flip() };
    let response = Packet { header: answer, body };
    solo.shard.on_packet(solo.now, SERVER, &response, Bytes(bytes));
    let (body, bytes) = ack(&[RpcId(2)]);
    let acked = Packet { header: Header { sender_id: RpcId(4), ..header }, body };
    solo.shard.on_packet(solo.now, CLIENT, &acked, Bytes(bytes));

    for expected in [&[60, 100][..], &[]] {
        let mut lengths = Vec::new();
        solo.shard.end_burst_with(solo.now, |message| lengths.push(message.bytes.len()));
        lengths.sort_unstable();
        assert_eq!(lengths, expected);
    }
    assert_eq!(solo.shard.occupancy().outgoing_bytes, 0);
}
