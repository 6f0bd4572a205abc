//! Protocol.md section 7.1: what every packet does to an RPC of ours, one test per cell.
//!
//! An RPC is removed when its response is complete, so the column "complete" is that of an RPC
//! that is not there. It differs in one row: RESEND is answered by RPC_UNKNOWN instead of data.
//! That is right because whoever has sent a whole response has the whole request, so such a RESEND
//! is late; and if its sender still keeps the RPC, RPC_UNKNOWN does what the ack would do.

use super::solo::*;
use crate::time::Nanos;
use crate::transport::pair::*;
use crate::transport::*;
use crate::wire::{AckRecord, Body, Resend};

const COOKIE: u64 = 77;

#[derive(Clone, Copy, Debug, PartialEq)]
enum At {
    /// The unscheduled part of the request is sent.
    Outgoing,
    /// The first packet of the response is here, all of it is granted.
    Incoming,
    /// The response is delivered.
    Complete,
    /// Never heard of.
    NoRpc,
}

fn rpc_at(at: At) -> (Solo, RpcId) {
    let mut solo = Solo::new(config());
    if at == At::NoRpc {
        return (solo, RpcId(0x1234));
    }
    let (_, id) = solo.call(LENGTH, COOKIE);
    assert_eq!(solo.sent().len(), 2);
    if at != At::Outgoing {
        solo.server_sends(id, data(0..SEGMENT, LENGTH));
        assert_eq!(solo.sent_briefs(), ["GRANT offset=5000 prio=0 @7"]);
    }
    if at == At::Complete {
        solo.server_sends(id, data(SEGMENT..LENGTH, LENGTH));
        match solo.events().pop() {
            Some(Event::Response { cookie: COOKIE, id: ended, result: Ok(message) }) => {
                assert_eq!((ended, message.to_vec()), (id, pattern(LENGTH as usize, SEED)));
            }
            event => panic!("{event:?}"),
        }
    }
    (solo, id)
}

fn state(at: At) -> Option<State> {
    match at {
        At::Outgoing => Some(State::ClientOutgoing),
        At::Incoming => Some(State::ClientIncoming),
        At::Complete | At::NoRpc => None,
    }
}

/// Feeds one packet to an RPC in a state; checks what is sent, the state after, that silence is
/// broken by DATA, GRANT and BUSY alone, and that the application hears nothing.
fn check(at: At, content: Content, sent: &[&str], after: At) {
    let (mut solo, id) = rpc_at(at);
    assert_eq!(solo.state(id), state(at));
    solo.now = solo.now + Nanos::from_us(50);
    let breaks_silence = matches!(content.0, Body::Data(_) | Body::Grant(_) | Body::Busy);
    assert_eq!(solo.server_sends(id, content), Outcome::Done);
    let frames = solo.sent();
    assert_eq!(briefs(&frames), sent);
    for frame in &frames {
        let header = frame.packet.header;
        assert_eq!((header.sport, header.dport), (solo.port, SERVICE), "{}", frame.brief());
        assert_eq!((header.sender_id, frame.to), (id, SERVER), "{}", frame.brief());
    }
    assert_eq!(solo.state(id), state(after));
    if let Some(rpc) = solo.rpc(id) {
        assert_eq!(rpc.quiet_since == solo.now, breaks_silence, "silence");
    }
    assert!(solo.events().is_empty());
}

macro_rules! cells {
    ($($name:ident: $at:ident, $content:expr => $sent:expr, $after:ident;)*) => {$(
        #[test]
        fn $name() {
            check(At::$at, $content, &$sent, At::$after);
        }
    )*};
}

const NOTHING: [&str; 0] = [];

cells! {
    data_in_outgoing: Outgoing, data(0..SEGMENT, LENGTH)
        => ["GRANT offset=5000 prio=0 @7"], Incoming;
    data_in_incoming: Incoming, data(SEGMENT..HALF, LENGTH) => NOTHING, Incoming;
    duplicate_data_in_incoming: Incoming, data(0..SEGMENT, LENGTH) => NOTHING, Incoming;
    data_in_complete: Complete, data(0..SEGMENT, LENGTH) => NOTHING, Complete;
    data_without_rpc: NoRpc, data(0..SEGMENT, LENGTH) => NOTHING, NoRpc;

    grant_in_outgoing: Outgoing, grant(LENGTH, 3) => [
        "DATA 2848..4272/5000 incoming=2848 cutoffs=0 @3",
        "DATA 4272..5000/5000 incoming=2848 cutoffs=0 @3",
    ], Outgoing;
    grant_inside_a_packet_sends_it_whole: Outgoing, grant(HALF + 1, 2)
        => ["DATA 2848..4272/5000 incoming=2848 cutoffs=0 @2"], Outgoing;
    grant_of_what_is_sent: Outgoing, grant(HALF, 2) => NOTHING, Outgoing;
    grant_in_incoming: Incoming, grant(LENGTH, 3) => NOTHING, Incoming;
    grant_in_complete: Complete, grant(LENGTH, 3) => NOTHING, Complete;
    grant_without_rpc: NoRpc, grant(LENGTH, 3) => NOTHING, NoRpc;

    resend_in_outgoing: Outgoing, resend(100, 1_000, 5)
        => ["DATA 0..1424/5000 incoming=1100 cutoffs=0 retransmit @5"], Outgoing;
    resend_of_all_in_outgoing: Outgoing, resend(0, Resend::ALL, 7) => [
        "DATA 0..1424/5000 incoming=2848 cutoffs=0 retransmit @7",
        "DATA 1424..2848/5000 incoming=2848 cutoffs=0 retransmit @7",
    ], Outgoing;
    resend_beyond_what_is_granted: Outgoing, resend(HALF, 1_000, 7)
        => ["BUSY @7", "DATA 2848..4272/5000 incoming=2848 cutoffs=0 @0"], Outgoing;
    resend_across_what_is_sent: Outgoing, resend(HALF - 1, 2, 6) => [
        "DATA 1424..2848/5000 incoming=2848 cutoffs=0 retransmit @6",
        "DATA 2848..4272/5000 incoming=2848 cutoffs=0 @0",
    ], Outgoing;
    resend_in_incoming: Incoming, resend(0, SEGMENT, 7)
        => ["DATA 0..1424/5000 incoming=1424 cutoffs=0 retransmit @7"], Incoming;
    resend_in_complete: Complete, resend(0, Resend::ALL, 7) => ["RPC_UNKNOWN @7"], Complete;
    resend_without_rpc: NoRpc, resend(0, Resend::ALL, 7) => ["RPC_UNKNOWN @7"], NoRpc;

    rpc_unknown_in_outgoing: Outgoing, bare(Body::RpcUnknown) => [
        "DATA 0..1424/5000 incoming=2848 cutoffs=0 retransmit @6",
        "DATA 1424..2848/5000 incoming=2848 cutoffs=0 retransmit @6",
    ], Outgoing;
    rpc_unknown_in_incoming: Incoming, bare(Body::RpcUnknown) => NOTHING, Incoming;
    rpc_unknown_in_complete: Complete, bare(Body::RpcUnknown) => NOTHING, Complete;
    rpc_unknown_without_rpc: NoRpc, bare(Body::RpcUnknown) => NOTHING, NoRpc;

    busy_in_outgoing: Outgoing, bare(Body::Busy) => NOTHING, Outgoing;
    busy_in_incoming: Incoming, bare(Body::Busy) => NOTHING, Incoming;
    busy_in_complete: Complete, bare(Body::Busy) => NOTHING, Complete;
    busy_without_rpc: NoRpc, bare(Body::Busy) => NOTHING, NoRpc;

    need_ack_in_outgoing: Outgoing, bare(Body::NeedAck) => ["RESEND 0..all prio=7 @7"], Outgoing;
    need_ack_in_incoming: Incoming, bare(Body::NeedAck)
        => ["RESEND 1424..5000 prio=7 @7"], Incoming;
    need_ack_without_rpc: NoRpc, bare(Body::NeedAck) => ["ACK @7"], NoRpc;

    ack_in_outgoing: Outgoing, ack(&[]) => NOTHING, Outgoing;
    ack_in_incoming: Incoming, ack(&[]) => NOTHING, Incoming;
    ack_in_complete: Complete, ack(&[]) => NOTHING, Complete;
    ack_without_rpc: NoRpc, ack(&[]) => NOTHING, NoRpc;

    freeze_in_outgoing: Outgoing, bare(Body::Freeze) => NOTHING, Outgoing;
    freeze_without_rpc: NoRpc, bare(Body::Freeze) => NOTHING, NoRpc;
}

/// The ack that answers names the RPC in its header, and brings along the acks that wait: here
/// that of the same RPC.
#[test]
fn need_ack_in_complete() {
    let (mut solo, id) = rpc_at(At::Complete);
    solo.server_sends(id, bare(Body::NeedAck));
    let frames = solo.sent();
    assert_eq!(frames.len(), 1, "{:?}", briefs(&frames));
    assert_eq!(frames[0].packet.header.sender_id, id);
    let Body::Ack(ack) = frames[0].packet.body else { panic!("{}", frames[0].brief()) };
    assert!(ack.iter().eq([AckRecord { client_id: id, server_port: SERVICE }]));
    assert!(solo.pass_time(solo.now + Nanos::from_ms(50)).is_empty(), "acknowledged once");
}

/// CUTOFFS concern the peer, in whatever state the RPC is whose header they borrow.
fn check_cutoffs(at: At) {
    let (mut solo, id) = rpc_at(at);
    let before = solo.state(id);
    solo.server_sends(id, cutoffs([9, 0, 0, 0, 1_000_000, 300, 200, 100], 12));
    assert!(solo.sent().is_empty());
    assert_eq!(solo.state(id), before);
    let sizes = [(100, 7), (101, 6), (201, 5), (301, 4), (LENGTH, 4)];
    for (len, priority) in sizes {
        solo.call(len, 0);
        let frames = solo.sent();
        assert_eq!(frames[0].priority, priority, "{len} bytes");
        assert!(frames[0].brief().contains("cutoffs=12"), "{}", frames[0].brief());
    }
}

#[test]
fn cutoffs_in_outgoing() {
    check_cutoffs(At::Outgoing);
}

#[test]
fn cutoffs_in_incoming() {
    check_cutoffs(At::Incoming);
}

#[test]
fn cutoffs_in_complete() {
    check_cutoffs(At::Complete);
}

#[test]
fn cutoffs_without_rpc() {
    check_cutoffs(At::NoRpc);
}

/// Another shard of [`SERVER`]'s client waits for an ack of ours in each test below.
fn with_server_rpc(at: At) -> (Solo, RpcId, RpcId) {
    let (mut solo, id) = rpc_at(at);
    let theirs = RpcId(0x8000);
    solo.receive(SERVER, client_header(theirs), data(0..100, 100));
    let (rpc, _) = solo.request();
    solo.reply(rpc, 100);
    solo.sent();
    assert_eq!(solo.state(theirs.flip()), Some(State::ServerOutgoing));
    (solo, id, theirs)
}

fn acking(theirs: RpcId) -> Content {
    let record = AckRecord { client_id: theirs, server_port: SERVICE };
    data_with(0..SEGMENT, LENGTH, |data| data.ack = Some(record))
}

#[test]
fn the_ack_in_data_counts_in_outgoing_and_incoming() {
    for at in [At::Outgoing, At::Incoming] {
        let (mut solo, id, theirs) = with_server_rpc(at);
        solo.server_sends(id, acking(theirs));
        assert_eq!(solo.state(theirs.flip()), None, "{at:?}");
    }
}

#[test]
fn the_ack_in_data_without_rpc_does_not_count() {
    for at in [At::Complete, At::NoRpc] {
        let (mut solo, id, theirs) = with_server_rpc(at);
        solo.server_sends(id, acking(theirs));
        assert_eq!(solo.state(theirs.flip()), Some(State::ServerOutgoing), "{at:?}");
    }
}

#[test]
fn records_of_an_ack_count_when_its_header_names_no_rpc_of_ours() {
    for at in [At::Complete, At::NoRpc] {
        let (mut solo, id, theirs) = with_server_rpc(at);
        solo.server_sends(id, ack(&[theirs]));
        assert_eq!(solo.state(theirs.flip()), None, "{at:?}");
    }
}

#[test]
fn an_ack_for_a_running_rpc_of_ours_is_counted_as_wrong() {
    for at in [At::Outgoing, At::Incoming] {
        let (mut solo, id, theirs) = with_server_rpc(at);
        solo.server_sends(id, ack(&[theirs]));
        assert_eq!(solo.state(id), state(at));
        assert_eq!(solo.shard.metrics().wrong_direction, 1);
    }
}

#[test]
fn the_last_packet_delivers_the_response_once() {
    let (mut solo, id) = rpc_at(At::Incoming);
    solo.server_sends(id, data(HALF..LENGTH, LENGTH));
    assert!(solo.events().is_empty());
    solo.server_sends(id, data(SEGMENT..HALF, LENGTH));
    assert_eq!(solo.events().len(), 1);
    solo.server_sends(id, data(SEGMENT..HALF, LENGTH));
    solo.server_sends(id, data(0..SEGMENT, LENGTH));
    assert!(solo.events().is_empty());
    assert_eq!(solo.shard.occupancy().client_rpcs, 0);
}
