//! Protocol.md section 7.2: what every packet does to an RPC of a peer, one test per cell.

use super::solo::*;
use crate::time::Nanos;
use crate::transport::pair::*;
use crate::transport::*;
use crate::wire::{AckRecord, Body, Header, Resend};

const ID: RpcId = RpcId(0x5678);

#[derive(Clone, Copy, Debug, PartialEq)]
enum At {
    /// The first packet of the request is here, all of it is granted.
    Incoming,
    /// The application has the request.
    InService,
    /// The unscheduled part of the response is sent.
    Outgoing,
    /// The whole response is sent.
    Sent,
    /// Never heard of.
    NoRpc,
}

fn rpc_at(at: At) -> Solo {
    let mut solo = Solo::new(config());
    match at {
        At::NoRpc => {}
        At::Incoming => {
            solo.client_sends(ID, data(0..SEGMENT, LENGTH));
            assert_eq!(solo.sent_briefs(), ["GRANT offset=5000 prio=0 @7"]);
        }
        At::InService => {
            solo.serve(ID, LENGTH);
        }
        At::Outgoing => {
            let rpc = solo.serve(ID, LENGTH);
            solo.reply(rpc, LENGTH);
            assert_eq!(solo.sent().len(), 2);
        }
        At::Sent => solo.answered(ID),
    }
    solo
}

fn state(at: At) -> Option<State> {
    match at {
        At::Incoming => Some(State::ServerIncoming),
        At::InService => Some(State::ServerInService),
        At::Outgoing | At::Sent => Some(State::ServerOutgoing),
        At::NoRpc => None,
    }
}

/// Feeds one packet to an RPC in a state; checks what is sent, the state after, and that the
/// application hears nothing.
fn check(at: At, content: Content, sent: &[&str], after: At) -> Solo {
    let mut solo = rpc_at(at);
    assert_eq!(solo.state(ID.flip()), state(at));
    solo.now = solo.now + Nanos::from_us(50);
    let breaks_silence = matches!(content.0, Body::Data(_) | Body::Grant(_) | Body::Busy);
    assert_eq!(solo.client_sends(ID, content), Outcome::Done);
    let frames = solo.sent();
    assert_eq!(briefs(&frames), sent);
    for frame in &frames {
        let header = frame.packet.header;
        assert_eq!((header.sport, header.dport), (SERVICE, FOREIGN_PORT), "{}", frame.brief());
        assert_eq!((header.sender_id, frame.to), (ID.flip(), CLIENT), "{}", frame.brief());
    }
    assert_eq!(solo.state(ID.flip()), state(after));
    if let Some(rpc) = solo.rpc(ID.flip()) {
        assert!(!breaks_silence || rpc.quiet_since == solo.now, "silence");
    }
    assert!(solo.events().is_empty());
    solo
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
    data_in_incoming: Incoming, data(SEGMENT..HALF, LENGTH) => NOTHING, Incoming;
    duplicate_data_in_incoming: Incoming, data(0..SEGMENT, LENGTH) => NOTHING, Incoming;
    data_in_service: InService, data(0..SEGMENT, LENGTH) => NOTHING, InService;
    data_in_outgoing: Outgoing, data(0..SEGMENT, LENGTH) => NOTHING, Outgoing;
    data_in_sent: Sent, data(0..100, 100) => NOTHING, Sent;
    data_without_rpc: NoRpc, data(0..SEGMENT, LENGTH)
        => ["GRANT offset=5000 prio=0 @7"], Incoming;
    data_without_rpc_need_not_start_at_0: NoRpc, data(SEGMENT..HALF, LENGTH)
        => ["GRANT offset=5000 prio=0 @7"], Incoming;

    grant_in_incoming: Incoming, grant(LENGTH, 3) => NOTHING, Incoming;
    grant_in_service: InService, grant(LENGTH, 3) => NOTHING, InService;
    grant_in_outgoing: Outgoing, grant(LENGTH, 3) => [
        "DATA 2848..4272/5000 incoming=2848 cutoffs=0 @3",
        "DATA 4272..5000/5000 incoming=2848 cutoffs=0 @3",
    ], Sent;
    grant_in_sent: Sent, grant(LENGTH, 3) => NOTHING, Sent;
    grant_without_rpc: NoRpc, grant(LENGTH, 3) => NOTHING, NoRpc;

    resend_in_incoming: Incoming, resend(0, Resend::ALL, 7) => ["BUSY @7"], Incoming;
    resend_in_service: InService, resend(0, Resend::ALL, 7) => ["BUSY @7"], InService;
    resend_in_outgoing: Outgoing, resend(SEGMENT, 10, 5)
        => ["DATA 1424..2848/5000 incoming=1434 cutoffs=0 retransmit @5"], Outgoing;
    resend_of_all_in_outgoing: Outgoing, resend(0, Resend::ALL, 7) => [
        "DATA 0..1424/5000 incoming=2848 cutoffs=0 retransmit @7",
        "DATA 1424..2848/5000 incoming=2848 cutoffs=0 retransmit @7",
    ], Outgoing;
    resend_beyond_what_is_granted: Outgoing, resend(HALF, LENGTH - HALF, 7) => [
        "BUSY @7",
        "DATA 2848..4272/5000 incoming=2848 cutoffs=0 @0",
        "DATA 4272..5000/5000 incoming=2848 cutoffs=0 @0",
    ], Sent;
    resend_in_sent: Sent, resend(0, Resend::ALL, 7)
        => ["DATA 0..100/100 incoming=100 cutoffs=0 retransmit @7"], Sent;
    resend_without_rpc: NoRpc, resend(0, Resend::ALL, 7) => ["RPC_UNKNOWN @7"], NoRpc;

    rpc_unknown_in_incoming: Incoming, bare(Body::RpcUnknown) => NOTHING, NoRpc;
    rpc_unknown_in_service: InService, bare(Body::RpcUnknown) => NOTHING, NoRpc;
    rpc_unknown_in_outgoing: Outgoing, bare(Body::RpcUnknown) => NOTHING, NoRpc;
    rpc_unknown_in_sent: Sent, bare(Body::RpcUnknown) => NOTHING, NoRpc;
    rpc_unknown_without_rpc: NoRpc, bare(Body::RpcUnknown) => NOTHING, NoRpc;

    busy_in_incoming: Incoming, bare(Body::Busy) => NOTHING, Incoming;
    busy_in_service: InService, bare(Body::Busy) => NOTHING, InService;
    busy_in_outgoing: Outgoing, bare(Body::Busy) => NOTHING, Outgoing;
    busy_without_rpc: NoRpc, bare(Body::Busy) => NOTHING, NoRpc;

    need_ack_in_incoming: Incoming, bare(Body::NeedAck) => NOTHING, Incoming;
    need_ack_in_service: InService, bare(Body::NeedAck) => NOTHING, InService;
    need_ack_in_outgoing: Outgoing, bare(Body::NeedAck) => NOTHING, Outgoing;
    need_ack_in_sent: Sent, bare(Body::NeedAck) => NOTHING, Sent;
    need_ack_without_rpc: NoRpc, bare(Body::NeedAck) => NOTHING, NoRpc;

    // Acks count only for a response that is wholly sent (reference-gaps.md G9).
    ack_in_incoming: Incoming, ack(&[]) => NOTHING, Incoming;
    ack_in_service: InService, ack(&[]) => NOTHING, InService;
    ack_in_outgoing: Outgoing, ack(&[]) => NOTHING, Outgoing;
    ack_in_sent: Sent, ack(&[]) => NOTHING, NoRpc;
    ack_without_rpc: NoRpc, ack(&[]) => NOTHING, NoRpc;
}

#[test]
fn need_acks_in_the_wrong_direction_are_counted() {
    let solo = check(At::Sent, bare(Body::NeedAck), &NOTHING, At::Sent);
    assert_eq!(solo.shard.metrics().wrong_direction, 1);
}

/// CUTOFFS concern the peer, in whatever state the RPC is whose header they borrow.
fn check_cutoffs(at: At) {
    let changed = cutoffs([9, 0, 0, 0, 1_000_000, 300, 200, 100], 12);
    let mut solo = check(at, changed, &NOTHING, at);
    let rpc = solo.serve(RpcId(0x9000), 10);
    solo.reply(rpc, 250);
    assert_eq!(solo.sent_briefs(), ["DATA 0..250/250 incoming=250 cutoffs=12 @5"]);
}

#[test]
fn cutoffs_in_incoming() {
    check_cutoffs(At::Incoming);
}

#[test]
fn cutoffs_in_service() {
    check_cutoffs(At::InService);
}

#[test]
fn cutoffs_in_outgoing() {
    check_cutoffs(At::Outgoing);
}

#[test]
fn cutoffs_without_rpc() {
    check_cutoffs(At::NoRpc);
}

const OTHER: RpcId = RpcId(0xAB00);

/// The ack in a DATA packet counts in every state, also where its payload does not.
fn check_piggyback(at: At) {
    let mut solo = rpc_at(at);
    solo.answered(OTHER);
    let record = AckRecord { client_id: OTHER, server_port: SERVICE };
    let before = solo.state(ID.flip());
    solo.client_sends(ID, data_with(0..SEGMENT, LENGTH, |data| data.ack = Some(record)));
    assert_eq!(solo.state(OTHER.flip()), None);
    assert_eq!(solo.state(ID.flip()), before.or(Some(State::ServerIncoming)));
    assert_eq!(solo.shard.metrics().server_acked, 1);
}

#[test]
fn the_ack_in_data_counts_in_incoming() {
    check_piggyback(At::Incoming);
}

#[test]
fn the_ack_in_data_counts_in_service() {
    check_piggyback(At::InService);
}

#[test]
fn the_ack_in_data_counts_in_outgoing() {
    check_piggyback(At::Outgoing);
}

#[test]
fn the_ack_in_data_counts_without_rpc() {
    check_piggyback(At::NoRpc);
}

/// The records of an ACK count whatever becomes of the RPC in its header.
fn check_records(at: At) {
    let mut solo = rpc_at(at);
    solo.answered(OTHER);
    solo.client_sends(ID, ack(&[OTHER]));
    assert_eq!(solo.state(OTHER.flip()), None);
}

#[test]
fn ack_records_count_in_incoming() {
    check_records(At::Incoming);
}

#[test]
fn ack_records_count_in_service() {
    check_records(At::InService);
}

#[test]
fn ack_records_count_in_outgoing() {
    check_records(At::Outgoing);
}

#[test]
fn ack_records_count_without_rpc() {
    check_records(At::NoRpc);
}

#[test]
fn acks_of_another_host_or_port_do_not_count() {
    let mut solo = rpc_at(At::Sent);
    solo.receive(SERVER, client_header(ID), ack(&[ID]));
    assert_eq!(solo.state(ID.flip()), Some(State::ServerOutgoing), "another host");
    let mut to_other_port = client_header(RpcId(0x4444));
    to_other_port.dport = HomaPort(100);
    assert!(solo.shard.open_server_port(HomaPort(100)));
    solo.receive(CLIENT, to_other_port, ack(&[]));
    solo.receive(CLIENT, Header { sender_id: ID, ..to_other_port }, ack(&[]));
    assert_eq!(solo.state(ID.flip()), Some(State::ServerOutgoing), "another port");
    solo.client_sends(ID, ack(&[]));
    assert_eq!(solo.state(ID.flip()), None);
}

#[test]
fn an_ack_may_come_from_another_client_port() {
    let mut solo = rpc_at(At::Sent);
    let header = Header { sport: HomaPort(50_000), ..client_header(ID) };
    solo.receive(CLIENT, header, ack(&[]));
    assert_eq!(solo.state(ID.flip()), None);
}

#[test]
fn the_same_id_from_another_client_port_is_another_rpc() {
    let mut solo = rpc_at(At::InService);
    let header = Header { sport: HomaPort(50_000), ..client_header(ID) };
    solo.receive(CLIENT, header, data(0..100, 100));
    assert_eq!(solo.events().len(), 1);
    assert_eq!(solo.shard.occupancy().server_rpcs, 2);
}

#[test]
fn a_reply_to_an_rpc_that_has_ended_comes_back() {
    let mut solo = Solo::new(config());
    let rpc = solo.serve(ID, 100);
    solo.client_sends(ID, bare(Body::RpcUnknown));
    let refused = solo.shard.reply(solo.now, rpc, outgoing(10, 0)).unwrap_err();
    assert_eq!(refused.reason, RefusedReason::NotInService);
    assert_eq!(refused.message, outgoing(10, 0));
    assert!(solo.sent().is_empty());
}

#[test]
fn a_second_reply_comes_back() {
    let mut solo = Solo::new(config());
    let rpc = solo.serve(ID, 100);
    solo.reply(rpc, 10);
    let refused = solo.shard.reply(solo.now, rpc, outgoing(10, 0)).unwrap_err();
    assert_eq!(refused.reason, RefusedReason::NotInService);
    assert_eq!(solo.sent().len(), 1);
}
