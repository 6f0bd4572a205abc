//! Ends before the time: aborts, closed ports, errors from the network (protocol.md section 15),
//! restarts.

use super::solo;
use crate::time::Nanos;
use crate::transport::pair::*;
use crate::transport::*;
use crate::wire::Body;

fn failures(pair: &Pair) -> Vec<(u64, RpcError)> {
    let failed = pair.responses.iter().filter_map(|(cookie, result)| match result {
        Err(error) => Some((*cookie, *error)),
        Ok(_) => None,
    });
    failed.collect()
}

/// A pair with a request of 100 bytes at the application of the server, and one of 100 kB of which
/// the last part is not granted.
fn busy_pair(config: Config) -> (Pair, [RpcHandle; 2]) {
    let mut pair = Pair::new(config);
    pair.record = true;
    pair.lose = Some(Box::new(|_, frame| matches!(frame.packet.body, Body::Grant(_))));
    let calls = [pair.call(100, 1), pair.call(100_000, 2)];
    pair.idle(Nanos::from_ms(1));
    assert_eq!((pair.requests.len(), pair.shards[1].occupancy().server_rpcs), (1, 2));
    (pair, calls)
}

#[test]
fn an_abort_of_the_client_is_announced() {
    let (mut pair, calls) = busy_pair(Config::default());
    for call in calls {
        assert!(pair.shards[0].abort(pair.now, call));
        assert!(!pair.shards[0].abort(pair.now, call), "once");
    }
    pair.idle(Nanos::from_us(10));
    assert_eq!(pair.count(0, |body| matches!(body, Body::RpcUnknown)), 2);
    assert_eq!(pair.shards[1].metrics().server_ended_by_unknown, 2);
    let request = pair.requests.pop_front().unwrap();
    let refused = pair.reply(&request, outgoing(10, 0)).unwrap_err();
    assert_eq!(refused.reason, RefusedReason::NotInService);
    drop(request);
    assert!(pair.responses.is_empty(), "no event");
    pair.assert_empty();
}

#[test]
fn an_abort_of_the_client_is_found_out() {
    let config = Config { announce_aborts: false, ..Config::default() };
    let (mut pair, calls) = busy_pair(config);
    for call in calls {
        assert!(pair.shards[0].abort(pair.now, call));
    }
    pair.run(Nanos::from_ms(10), |_| Some(outgoing(10, 0)));
    assert!(
        pair.count(1, |body| matches!(body, Body::NeedAck)) == 1,
        "{:?}",
        briefs(&pair.sent[1])
    );
    assert_eq!(
        pair.shards[1].metrics().server_acked,
        1,
        "the short one, by the answer to NEED_ACK"
    );
    assert_eq!(pair.shards[1].metrics().server_ended_by_unknown, 1, "the long one, after RESEND");
    pair.assert_empty();
}

#[test]
fn an_abort_of_the_server_times_the_client_out() {
    let (mut pair, _) = busy_pair(Config::default());
    let request = pair.requests.pop_front().unwrap();
    assert!(pair.shards[1].abort(pair.now, request.rpc));
    drop(request);
    pair.lose = None;
    pair.run(Nanos::from_ms(110), |_| Some(outgoing(10, 0)));
    assert_eq!(failures(&pair), [(1, RpcError::Timeout)]);
    assert!(pair.shards[1].metrics().tombstone_hits > 0, "aborted for good");
    pair.responses.clear();
    pair.idle(Nanos::from_ms(10));
    pair.assert_empty();
}

#[test]
fn closing_the_port_of_the_client() {
    for announce_aborts in [true, false] {
        let config = Config { announce_aborts, ..Config::default() };
        let (mut pair, _) = busy_pair(config);
        let port = pair.ports[0];
        pair.shards[0].close_port(pair.now, port);
        pair.idle(Nanos::from_us(1));
        assert_eq!(failures(&pair), [(1, RpcError::PortClosed), (2, RpcError::PortClosed)]);
        let refused = pair.call_from(0, 10, 3).unwrap_err();
        assert_eq!(refused, RefusedReason::PortNotOpen);
        pair.run(Nanos::from_ms(10), |_| Some(outgoing(10, 0)));
        pair.assert_empty();
    }
}

/// Without ICMP too: NEED_ACK for a closed port is answered (reference-gaps.md G4), and RESEND is
/// asked in vain until the timeout.
#[test]
fn closing_the_port_of_the_client_without_icmp() {
    let config = Config { announce_aborts: false, ..Config::default() };
    let (mut pair, _) = busy_pair(config);
    pair.icmp = false;
    let port = pair.ports[0];
    pair.shards[0].close_port(pair.now, port);
    pair.run(Nanos::from_ms(5), |_| Some(outgoing(10, 0)));
    assert_eq!(pair.shards[1].metrics().server_acked, 1);
    pair.idle(Nanos::from_ms(100));
    assert_eq!(pair.shards[1].metrics().server_timeouts, 1);
    pair.assert_empty();
}

#[test]
fn closing_the_port_of_the_server() {
    let (mut pair, _) = busy_pair(Config::default());
    pair.shards[1].close_port(pair.now, SERVICE);
    assert_eq!(pair.shards[1].occupancy().server_rpcs, 0);
    let request = pair.requests.pop_front().unwrap();
    assert!(pair.reply(&request, outgoing(10, 0)).is_err());
    drop(request);
    // The clients find out when their next packet draws ICMP.
    pair.idle(Nanos::from_ms(6));
    let unreachable = RpcError::PortUnreachable;
    let mut failed = failures(&pair);
    failed.sort_by_key(|(cookie, _)| *cookie);
    assert_eq!(failed, [(1, unreachable), (2, unreachable)]);
    pair.assert_empty();
}

#[test]
fn a_port_can_be_opened_again() {
    let mut pair = Pair::new(Config::default());
    pair.shards[1].close_port(pair.now, SERVICE);
    assert!(pair.shards[1].open_server_port(SERVICE));
    pair.call(100, 1);
    pair.run(Nanos::from_ms(1), echo);
    pair.assert_echoed(&[(1, 100)]);
}

#[test]
fn unreachable_ends_what_it_concerns() {
    let other_port = HomaPort(7);
    for (what, error, failed) in [
        (Unreachable::Host, RpcError::HostUnreachable, vec![1, 2]),
        (Unreachable::Protocol, RpcError::ProtocolUnreachable, vec![1, 2]),
        (
            Unreachable::Port { local: HomaPort(0x8000), remote: SERVICE },
            RpcError::PortUnreachable,
            vec![1],
        ),
        (Unreachable::Port { local: HomaPort(1), remote: SERVICE }, RpcError::Timeout, vec![]),
    ] {
        let mut solo = solo::Solo::new(solo::config());
        let elsewhere = "10.0.0.77".parse().unwrap();
        let ports = [(SERVER, SERVICE), (SERVER, other_port), (elsewhere, SERVICE)];
        for ((addr, port), cookie) in ports.into_iter().zip(1..) {
            let message = outgoing(10, 0);
            solo.shard.call(solo.now, solo.port, addr, port, message, cookie).unwrap();
        }
        solo.shard.on_unreachable(solo.now, SERVER, what);
        let events = solo.events().into_iter().map(|event| match event {
            Event::Response { cookie, result: Err(why), .. } => {
                assert_eq!(why, error);
                cookie
            }
            event => panic!("{event:?}"),
        });
        assert_eq!(events.collect::<Vec<u64>>(), failed, "{what:?}");
        assert_eq!(solo.shard.occupancy().client_rpcs, 3 - failed.len());
    }
}

#[test]
fn unreachable_frees_the_server_of_a_closed_client() {
    let mut solo = solo::Solo::new(solo::config());
    solo.answered(RpcId(4));
    let wrong = Unreachable::Port { local: SERVICE, remote: HomaPort(3) };
    solo.shard.on_unreachable(solo.now, CLIENT, wrong);
    assert_eq!(solo.shard.occupancy().server_rpcs, 1);
    let closed = Unreachable::Port { local: SERVICE, remote: solo::FOREIGN_PORT };
    solo.shard.on_unreachable(solo.now, CLIENT, closed);
    assert_eq!(solo.shard.occupancy().server_rpcs, 0);
    assert!(solo.events().is_empty());
}

/// What is asked before news about undelivered packets is believed.
#[test]
fn only_packets_of_our_rpcs_can_be_undelivered() {
    let mut solo = solo::Solo::new(solo::config());
    solo.answered(RpcId(4));
    let id = solo.shard.next_rpc_id().unwrap();
    solo.shard.call(solo.now, solo.port, SERVER, SERVICE, outgoing(10, 0), 1).unwrap();
    let elsewhere = "10.0.0.77".parse().unwrap();
    for (addr, port, id, ours) in [
        (SERVER, solo.port, id, true),
        (SERVER, solo.port, RpcId(id.0 + 2), false),
        (SERVER, HomaPort(7), id, false),
        (CLIENT, solo.port, id, false),
        (elsewhere, solo.port, id, false),
        (CLIENT, SERVICE, RpcId(4).flip(), true),
        (CLIENT, SERVICE, RpcId(6).flip(), false),
    ] {
        assert_eq!(solo.shard.has_rpc(addr, port, id), ours, "{addr} {port:?} {id}");
    }
    for (addr, local, remote, ours) in [
        (SERVER, solo.port, SERVICE, true),
        (SERVER, solo.port, HomaPort(7), false),
        (SERVER, HomaPort(7), SERVICE, false),
        (elsewhere, solo.port, SERVICE, false),
        (CLIENT, SERVICE, solo::FOREIGN_PORT, true),
        (CLIENT, solo::FOREIGN_PORT, SERVICE, false),
    ] {
        let found = solo.shard.has_rpc_between(addr, local, remote);
        assert_eq!(found, ours, "{addr} {local:?} {remote:?}");
    }
}

#[test]
fn unreachable_for_a_stranger_changes_nothing() {
    let mut solo = solo::Solo::new(solo::config());
    solo.shard.on_unreachable(solo.now, SERVER, Unreachable::Host);
    assert_eq!(solo.shard.occupancy(), Occupancy::default());
}

/// A restarted client has other ids, so it neither meets its former RPCs nor their tombstones
/// (reference-gaps.md G2).
#[test]
fn a_client_that_restarts_starts_afresh() {
    let mut pair = Pair::new(Config::default());
    for cookie in 0..10 {
        pair.call(100, cookie);
    }
    // Some answered, some in service, when the client dies.
    let mut answered = 0;
    pair.run(Nanos::from_us(50), |request| {
        answered += 1;
        if answered % 2 == 0 { echo(request) } else { None }
    });
    pair.responses.clear();
    pair.shards[0] = Shard::new(Config { seed: 99, ..Config::default() }, ()).unwrap();
    assert_eq!(pair.shards[0].open_client_port(), Some(pair.ports[0]), "the same port");
    for cookie in 0..10 {
        pair.call(200, cookie);
    }
    pair.run(Nanos::from_ms(20), |request| (request.len() == 200).then(|| echo(request).unwrap()));
    let calls: Vec<_> = (0..10).map(|cookie| (cookie, 200)).collect();
    pair.assert_echoed(&calls);
    assert_eq!(pair.shards[1].occupancy().server_rpcs, 5, "those in service");
    pair.run(Nanos::from_ms(20), echo);
    pair.assert_empty();
}

/// A server that restarts knows nothing: the client starts its requests again.
#[test]
fn a_server_that_restarts_gets_the_requests_again() {
    let mut pair = Pair::new(Config::default());
    let sizes = [100, 5_000, 100_000];
    for (size, cookie) in sizes.into_iter().zip(0..) {
        pair.call(size, cookie);
    }
    pair.idle(Nanos::from_us(50));
    pair.requests.clear();
    pair.forget_deliveries();
    pair.shards[1] = Shard::new(Config { seed: 99, ..Config::default() }, ()).unwrap();
    assert!(pair.shards[1].open_server_port(SERVICE));
    pair.run(Nanos::from_ms(30), echo);
    pair.assert_echoed(&[(0, 100), (1, 5_000), (2, 100_000)]);
    pair.assert_empty();
}

/// A client that is heard of keeps a response that waits for its grant; one that is silent does not.
#[test]
fn a_response_waiting_for_grants_lives_as_long_as_its_client() {
    let mut solo = solo::Solo::new(Config { response_keep_ns: 50_000_000, ..solo::config() });
    let waiting = RpcId(2);
    let handle = solo.serve(waiting, 10);
    solo.reply(handle, 500_000);
    solo.sent();
    for n in 2..12 {
        let other = RpcId(2 * n);
        solo.pass_time(solo.now + Nanos::from_ms(20));
        solo.serve(other, 10);
        assert!(solo.state(waiting.flip()).is_some(), "at {}", solo.now);
    }
    solo.pass_time(solo.now + Nanos::from_ms(400));
    assert!(solo.state(waiting.flip()).is_none());
}
