//! Two endpoints in virtual time: sizes, faults, slow applications, many RPCs at once.

use core::ops::Range;

use crate::time::Nanos;
use crate::transport::pair::*;
use crate::transport::*;
use crate::wire::Body;

const SIZES: [usize; 18] = [
    1, 2, 100, 200, 201, 1_000, 1_001, 1_423, 1_424, 1_425, 5_000, 39_872, 39_873, 40_000, 40_001,
    100_000, 999_999, 1_000_000,
];

#[test]
fn one_rpc_of_every_size_class() {
    for len in SIZES {
        let mut pair = Pair::new(Config::default());
        pair.call(len, 7);
        pair.run(Nanos::from_ms(20), echo);
        pair.assert_echoed(&[(7, len)]);
        pair.assert_empty();
        assert_eq!(pair.shards[0].metrics().duplicates, 0);
        assert_eq!(pair.shards[1].metrics().bytes_resent, 0);
    }
}

#[test]
fn requests_and_responses_of_different_sizes() {
    for (request, response) in [(1, 1_000_000), (1_000_000, 1), (1_424, 40_001), (100_000, 1_425)] {
        for config in [Config::default(), Config::to_the_letter()] {
            let mut pair = Pair::new(config);
            pair.call(request, 1);
            pair.run(Nanos::from_ms(20), |_| Some(outgoing(response, 9)));
            let (_, result) = pair.responses.pop().unwrap();
            assert!(result.unwrap().to_vec() == pattern(response, 9));
            pair.idle(Nanos::from_ms(20));
            pair.assert_empty();
        }
    }
}

#[test]
fn packets_of_every_size() {
    for segment in [100, 1_404, 1_424, 8_924] {
        let mut pair = Pair::new(Config::default());
        pair.segment = segment;
        let calls: Vec<_> = (0..).zip([1, 99, 100, 101, 9_000, 40_000, 123_456]).collect();
        for (cookie, len) in &calls {
            pair.call(*len, *cookie);
        }
        pair.run(Nanos::from_ms(20), echo);
        pair.assert_echoed(&calls);
        pair.assert_empty();
    }
}

/// Loss, duplication and reordering at a rate; then a quiet network, on which all must end.
fn check_faults(faults: Faults, count: u64, config: Config) {
    let mut pair = Pair::new(config);
    pair.seed(faults.loss_percent + faults.jitter_ns);
    pair.faults = faults;
    let calls: Vec<_> = (0..count).map(|n| (n, SIZES[n as usize * 5 % 16])).collect();
    for (cookie, len) in &calls {
        pair.call(*len, *cookie);
    }
    pair.run(Nanos::from_ms(400), echo);
    pair.faults = Faults::default();
    pair.run(Nanos::from_secs(2), echo);
    pair.assert_echoed(&calls);
    pair.assert_empty();
}

#[test]
fn loss_of_1_percent() {
    check_faults(Faults { loss_percent: 1, ..Faults::default() }, 200, Config::default());
}

#[test]
fn loss_of_10_percent() {
    check_faults(Faults { loss_percent: 10, ..Faults::default() }, 200, Config::default());
}

#[test]
fn loss_of_30_percent() {
    check_faults(Faults { loss_percent: 30, ..Faults::default() }, 100, Config::default());
}

#[test]
fn loss_of_10_percent_to_the_letter() {
    check_faults(Faults { loss_percent: 10, ..Faults::default() }, 100, Config::to_the_letter());
}

#[test]
fn reordering() {
    check_faults(Faults { jitter_ns: 80_000, ..Faults::default() }, 200, Config::default());
}

#[test]
fn reordering_by_milliseconds() {
    check_faults(Faults { jitter_ns: 3_000_000, ..Faults::default() }, 50, Config::default());
}

#[test]
fn loss_duplication_and_reordering() {
    let faults = Faults { loss_percent: 10, duplicate_percent: 20, jitter_ns: 200_000 };
    check_faults(faults, 200, Config::default());
}

#[test]
fn replies_out_of_order() {
    let mut pair = Pair::new(Config::default());
    let calls: Vec<_> = (0..50).map(|cookie| (cookie, 2_000)).collect();
    for (cookie, len) in &calls {
        pair.call(*len, *cookie);
    }
    pair.idle(Nanos::from_ms(1));
    assert_eq!(pair.requests.len(), 50);
    // The last come first, half of them after a long time.
    for round in 0..2 {
        for _ in 0..25 {
            let request = pair.requests.pop_back().unwrap();
            pair.reply(&request, echo(&request.message).unwrap()).unwrap();
        }
        pair.idle(Nanos::from_ms(1 + round * 700));
    }
    pair.assert_echoed(&calls);
    pair.assert_empty();
}

#[test]
fn five_thousand_rpcs_at_once() {
    let mut pair = Pair::new(Config::default());
    let calls: Vec<_> = (0..5_000).map(|n| (n, 1 + n as usize * 37 % 3_000)).collect();
    for (cookie, len) in &calls {
        pair.call(*len, *cookie);
    }
    pair.run(Nanos::from_ms(20), echo);
    pair.assert_echoed(&calls);
    assert_eq!(pair.shards[0].metrics().bytes_resent, 0);
    pair.idle(Nanos::from_ms(50));
    pair.assert_empty();
}

#[test]
fn five_thousand_rpcs_of_which_a_tenth_of_the_packets_is_lost() {
    let mut pair = Pair::new(Config::default());
    pair.faults.loss_percent = 10;
    let calls: Vec<_> = (0..5_000).map(|n| (n, 1 + n as usize * 37 % 3_000)).collect();
    for (cookie, len) in &calls {
        pair.call(*len, *cookie);
    }
    pair.run(Nanos::from_ms(90), echo);
    pair.faults.loss_percent = 0;
    pair.run(Nanos::from_secs(1), echo);
    pair.assert_echoed(&calls);
    pair.assert_empty();
}

/// Both sides are client and server at once, on one port.
#[test]
fn calls_in_both_directions_on_one_port() {
    for loss_percent in [0, 10] {
        let mut pair = Pair::symmetric(Config::default());
        pair.faults.loss_percent = loss_percent;
        let calls: Vec<_> = (0..100).map(|n| (n, SIZES[n as usize % 15])).collect();
        for (cookie, len) in &calls {
            pair.call_from(*cookie as usize % 2, *len, *cookie).unwrap();
        }
        pair.run(Nanos::from_ms(300), echo);
        pair.faults.loss_percent = 0;
        pair.run(Nanos::from_secs(1), echo);
        pair.assert_echoed(&calls);
        pair.assert_empty();
    }
}

/// A sender that cuts its retransmissions at other places, as after a change of MTU.
#[test]
fn partial_overlaps_of_a_sender_that_cuts_anew() {
    use super::solo::*;
    let mut solo = Solo::new(config());
    let id = RpcId(0x5678);
    let length = 30_000;
    for start in (0..length).step_by(2_000) {
        solo.client_sends(id, data(start..start + 1_000, length));
    }
    solo.sent();
    for start in (0..length).step_by(700) {
        let end = (start + 700).min(length);
        solo.client_sends(id, data_with(start..end, length, |data| data.retransmit = true));
    }
    assert_eq!(solo.request().1.to_vec(), pattern(length as usize, SEED));
    assert_eq!(solo.shard.occupancy().retained_packets, 0);
}

#[test]
fn heads_are_announced_before_the_body_is_there() {
    use super::solo::*;
    let mut solo = Solo::new(Config { announce_heads: true, ..config() });
    let id = RpcId(0x5678);
    solo.client_sends(id, data(SEGMENT..HALF, LENGTH));
    assert!(solo.events().is_empty(), "not the first packet");
    solo.client_sends(id, data(0..SEGMENT, LENGTH));
    let events = solo.events();
    let [Event::RequestHead { rpc, length: LENGTH }] = events[..] else { panic!("{events:?}") };
    let head = solo.shard.head(rpc).map(|head| head.0.clone());
    assert_eq!(head, Some(pattern(SEGMENT as usize, SEED)));
    solo.client_sends(id, data(HALF..LENGTH, LENGTH));
    let (complete, _) = solo.request();
    assert_eq!((complete, solo.shard.head(rpc)), (rpc, None));
}

/// The first packet comes last, or the application does not look before all packets have come.
#[test]
fn a_head_that_was_not_announced_in_time_is_due() {
    use super::solo::*;
    let mut solo = Solo::new(Config { announce_heads: true, ..config() });
    let mut due_of = |id: RpcId, parts: &[Range<u32>]| {
        for part in parts {
            solo.client_sends(id, data(part.clone(), LENGTH));
        }
        let events = solo.events();
        let [Event::Request { is_head_due, .. }] = events[..] else { panic!("{events:?}") };
        is_head_due
    };
    assert!(due_of(RpcId(0x5678), &[SEGMENT..HALF, HALF..LENGTH, 0..SEGMENT]));
    assert!(due_of(RpcId(0x567a), &[0..SEGMENT, SEGMENT..HALF, HALF..LENGTH]));
    let mut plain = Solo::new(config());
    plain.client_sends(RpcId(2), data(0..LENGTH, LENGTH));
    let events = plain.events();
    assert!(matches!(events[..], [Event::Request { is_head_due: false, .. }]), "{events:?}");
}

/// Without losses, nothing is sent that need not be.
#[test]
fn an_exchange_without_loss_is_minimal() {
    let mut pair = Pair::new(Config::default());
    pair.call(100, 0);
    pair.run(Nanos::from_ms(5), echo);
    pair.record = true;
    pair.call(100, 1);
    pair.run(Nanos::from_ms(5), echo);
    let expected = ["DATA 0..100/100 incoming=100 cutoffs=1 @7", "ACK @7"];
    assert_eq!(briefs(&pair.sent[0]), expected);
    assert_eq!(briefs(&pair.sent[1]), expected[..1]);
    pair.sent = [Vec::new(), Vec::new()];
    pair.call(1_000_000, 2);
    pair.run(Nanos::from_ms(5), |_| Some(outgoing(1, 0)));
    assert_eq!(pair.count(0, |body| matches!(body, Body::Data(_))), 703);
    let grants = pair.count(1, |body| matches!(body, Body::Grant(_)));
    assert!((60..=96).contains(&grants), "{grants} of at least 10,000 bytes, 200,000 at once");
}
