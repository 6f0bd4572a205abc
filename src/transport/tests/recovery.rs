//! Loss and silence, row by row of protocol.md section 13.

use super::solo;
use crate::time::Nanos;
use crate::transport::pair::*;
use crate::transport::*;
use crate::wire::{Body, Resend};

/// The timer wheel looks at an RPC at most a tick of 131,072 ns late; and a server starts its clock
/// when the packet arrives.
const TICK_US: u64 = 132 + 6;

/// Times in microseconds are those expected in milliseconds, or up to a tick later.
fn assert_times(times_us: &[u64], expected_ms: &[u64]) {
    let close = times_us.len() == expected_ms.len()
        && times_us
            .iter()
            .zip(expected_ms)
            .all(|(time, expected)| (expected * 1_000..=expected * 1_000 + TICK_US).contains(time));
    assert!(close, "{times_us:?} us, expected {expected_ms:?} ms");
}

fn is_resend(body: &Body) -> bool {
    matches!(body, Body::Resend(_))
}

fn is_need_ack(body: &Body) -> bool {
    matches!(body, Body::NeedAck)
}

fn is_data(body: &Body) -> bool {
    matches!(body, Body::Data(_))
}

/// A pair whose network loses what `lose` says.
fn pair_losing(config: Config, lose: impl FnMut(usize, &Frame) -> bool + 'static) -> Pair {
    let mut pair = Pair::new(config);
    pair.record = true;
    pair.lose = Some(Box::new(lose));
    pair
}

/// Loses the first packet of `side` that `matches` picks.
fn first(side: usize, matches: fn(&Body) -> bool) -> impl FnMut(usize, &Frame) -> bool + 'static {
    let mut lost = false;
    move |from, frame| {
        let hit = !lost && from == side && matches(&frame.packet.body);
        lost |= hit;
        hit
    }
}

fn both_configs() -> [Config; 2] {
    [Config::default(), Config::to_the_letter()]
}

#[test]
fn a_client_asks_19_times_and_gives_up_after_100_ms() {
    for config in both_configs() {
        let mut pair = pair_losing(config, |_, _| true);
        pair.call(100, 1);
        pair.idle(Nanos(99_990_000));
        assert!(pair.responses.is_empty());
        let expected: Vec<u64> = (1..20).map(|n| 5 * n).collect();
        assert_times(&pair.times_us(0, is_resend), &expected);
        for frame in pair.sent[0].iter().filter(|frame| is_resend(&frame.packet.body)) {
            assert_eq!(frame.brief(), "RESEND 0..all prio=7 @7");
        }
        pair.idle(Nanos::from_us(TICK_US + 20));
        assert_eq!(
            pair.responses.pop().map(|(_, result)| result.unwrap_err()),
            Some(RpcError::Timeout)
        );
        pair.assert_empty();
    }
}

#[test]
fn a_server_asks_19_times_for_a_request_and_drops_it_after_100_ms() {
    let mut sent = 0;
    let mut pair = pair_losing(Config::default(), move |from, _| {
        sent += u32::from(from == 0);
        from == 0 && sent > 2
    });
    pair.call(5_000, 1);
    pair.idle(Nanos(99_990_000));
    assert_eq!(pair.shards[1].occupancy().server_rpcs, 1);
    let expected: Vec<u64> = (1..20).map(|n| 5 * n).collect();
    assert_times(&pair.times_us(1, is_resend), &expected);
    pair.idle(Nanos::from_us(TICK_US + 20));
    assert_eq!(pair.shards[1].occupancy().server_rpcs, 0);
    assert_eq!(pair.shards[1].metrics().server_timeouts, 1);
}

/// One RESEND per gap, and one for the tail.
#[test]
fn a_resend_for_every_gap_and_the_tail() {
    let mut pair = pair_losing(Config::default(), |from, frame| {
        let Body::Data(data) = frame.packet.body else { return false };
        from == 0 && !data.retransmit && ![1_424, 4_272].contains(&data.offset)
    });
    pair.call(10_000, 1);
    pair.idle(Nanos::from_us(5_200));
    let asked = pair.sent[1].iter().filter(|frame| is_resend(&frame.packet.body));
    let asked: Vec<String> = asked.map(Frame::brief).collect();
    let expected = ["0..1424", "2848..4272", "5696..10000"];
    assert_eq!(asked, expected.map(|range| format!("RESEND {range} prio=7 @7")));
    let is_late = |frame: &&Frame| frame.at > Nanos::from_ms(2) && is_data(&frame.packet.body);
    let again: Vec<String> = pair.sent[0].iter().filter(is_late).map(Frame::brief).collect();
    assert!(again[0].starts_with("DATA 0..1424/10000 incoming=1424 cutoffs="), "{again:?}");
    assert!(again[5].starts_with("DATA 9968..10000/10000 incoming=10000 cutoffs="), "{again:?}");
    assert!(again.iter().all(|brief| brief.ends_with("retransmit @7")), "{again:?}");
    pair.run(Nanos::from_ms(2), echo);
    pair.assert_echoed(&[(1, 10_000)]);
}

#[test]
fn gaps_asked_for_at_once_are_limited() {
    let config = Config { resends_per_rpc_max: 3, gap_recovery_ns: 0, ..Config::default() };
    let mut pair = pair_losing(config, |from, frame| match frame.packet.body {
        Body::Data(data) => {
            from == 0 && !data.retransmit && (data.offset / SEGMENT).is_multiple_of(2)
        }
        _ => false,
    });
    pair.call(20_000, 1);
    pair.idle(Nanos::from_us(5_200));
    assert_eq!(pair.count(1, is_resend), 3);
    pair.run(Nanos::from_ms(30), echo);
    pair.assert_echoed(&[(1, 20_000)]);
}

#[test]
fn need_acks_at_doubling_distances_until_the_response_is_dropped() {
    let mut pair =
        pair_losing(Config::default(), |from, frame| from == 0 && !is_data(&frame.packet.body));
    pair.shards[0] =
        Shard::new(Config { ack_delay_ns: u64::MAX, ..Config::default() }, ()).unwrap();
    pair.ports[0] = pair.shards[0].open_client_port().unwrap();
    pair.call(100, 1);
    pair.run(Nanos::from_ms(999), echo);
    let mut expected = vec![2, 6, 14, 30, 62];
    expected.extend((0..14).map(|n| 126 + 64 * n));
    assert_times(&pair.times_us(1, is_need_ack), &expected);
    assert_eq!(pair.shards[1].occupancy().server_rpcs, 1);
    pair.idle(Nanos::from_ms(2));
    assert_eq!(pair.shards[1].occupancy().server_rpcs, 0);
    assert_eq!(pair.shards[1].metrics().server_timeouts, 1);
    pair.idle(Nanos::from_secs(1));
    assert_eq!(pair.count(1, is_need_ack), expected.len());
}

#[test]
fn need_acks_every_millisecond_to_the_letter() {
    let mut pair = pair_losing(Config::to_the_letter(), |from, frame| {
        from == 0 && !is_data(&frame.packet.body)
    });
    pair.call(100, 1);
    pair.run(Nanos(50_500_000), echo);
    let expected: Vec<u64> = (2..=50).collect();
    assert_times(&pair.times_us(1, is_need_ack), &expected);
}

#[test]
fn a_lost_single_packet_request_is_sent_again_after_rpc_unknown() {
    let mut pair = pair_losing(Config::default(), first(0, is_data));
    pair.call(100, 1);
    pair.run(Nanos::from_ms(6), echo);
    pair.assert_echoed(&[(1, 100)]);
    let client: Vec<String> = pair.sent[0].iter().take(3).map(Frame::brief).collect();
    assert_eq!(
        client,
        [
            "DATA 0..100/100 incoming=100 cutoffs=0 @6",
            "RESEND 0..all prio=7 @7",
            "DATA 0..100/100 incoming=100 cutoffs=0 retransmit @6",
        ]
    );
    assert_eq!(pair.sent[1][0].brief(), "RPC_UNKNOWN @7");
    assert_eq!(pair.count(0, is_data), 2);
    pair.idle(Nanos::from_ms(1));
    pair.assert_empty();
}

/// RPC_UNKNOWN does not break the silence (protocol.md section 13.4): a server that never accepts
/// the request does not hold its client for ever.
#[test]
fn a_client_whose_server_never_accepts_gives_up_after_100_ms() {
    let config = Config { server_rpcs_max: 1, ..Config::default() };
    let mut pair = Pair::new(config);
    pair.call(100, 1);
    pair.idle(Nanos::from_us(100));
    pair.call(100, 2);
    pair.idle(Nanos::from_ms(99));
    assert!(pair.responses.is_empty());
    pair.idle(Nanos::from_us(1_100 + TICK_US));
    assert!(matches!(pair.responses[..], [(2, Err(RpcError::Timeout))]), "{:?}", pair.responses);
    assert!(pair.shards[1].metrics().refused_rpcs >= 19);
}

/// NEED_ACK tells the client that there is a response: it asks for it at once.
#[test]
fn a_lost_response_is_asked_for_by_need_ack() {
    let mut pair = pair_losing(Config::default(), first(1, is_data));
    pair.call(100, 1);
    pair.run(Nanos(2_200_000), echo);
    pair.assert_echoed(&[(1, 100)]);
    assert_times(&pair.times_us(0, is_resend), &[2]);
}

#[test]
fn a_lost_response_is_asked_for_after_5_ms() {
    let mut lose_data = first(1, is_data);
    let mut pair = pair_losing(Config::default(), move |from, frame| {
        is_need_ack(&frame.packet.body) || lose_data(from, frame)
    });
    pair.call(100, 1);
    pair.run(Nanos(5_200_000), echo);
    pair.assert_echoed(&[(1, 100)]);
    assert_times(&pair.times_us(0, is_resend), &[5]);
}

#[test]
fn busy_keeps_the_client_of_a_slow_server_alive() {
    for config in both_configs() {
        let mut pair = Pair::new(config);
        pair.record = true;
        pair.call(100, 1);
        pair.idle(Nanos::from_secs(3));
        assert!(pair.responses.is_empty());
        let asked = pair.count(0, is_resend);
        assert!((550..=600).contains(&asked), "{asked}");
        assert_eq!(pair.count(1, |body| matches!(body, Body::Busy)), asked);
        let request = pair.requests.pop_front().unwrap();
        pair.reply(&request, outgoing(50, 9)).unwrap();
        pair.idle(Nanos::from_ms(1));
        assert_eq!(pair.responses.pop().unwrap().1.unwrap().to_vec(), pattern(50, 9));
    }
}

#[test]
fn a_lost_grant_is_made_up_for_by_resend() {
    for config in both_configs() {
        let mut pair = pair_losing(config, |_, frame| matches!(frame.packet.body, Body::Grant(_)));
        pair.call(50_000, 1);
        pair.run(Nanos(5_500_000), |_| Some(outgoing(1, 0)));
        assert_eq!(pair.responses.len(), 1);
        let asked = pair.sent[1].iter().find(|frame| is_resend(&frame.packet.body)).unwrap();
        assert_eq!(asked.brief(), "RESEND 39872..50000 prio=7 @7");
        // What was never sent is no retransmission.
        assert_eq!(pair.shards[0].metrics().bytes_resent, 0);
    }
}

#[test]
fn a_lost_ack_costs_one_need_ack() {
    let mut pair = pair_losing(Config::default(), first(0, |body| matches!(body, Body::Ack(_))));
    pair.call(100, 1);
    pair.run(Nanos(1_900_000), echo);
    assert_eq!(pair.shards[1].occupancy().server_rpcs, 1);
    pair.idle(Nanos::from_us(300));
    assert_times(&pair.times_us(1, is_need_ack), &[2]);
    assert_eq!(pair.count(0, |body| matches!(body, Body::Ack(_))), 2);
    pair.responses.clear();
    pair.assert_empty();
}

#[test]
fn lost_cutoffs_are_sent_again_on_the_next_data() {
    let is_cutoffs = |body: &Body| matches!(body, Body::Cutoffs(_));
    let mut pair = pair_losing(Config::default(), first(1, is_cutoffs));
    for (cookie, version) in [(1, 0), (2, 0), (3, 1)] {
        let before = pair.sent[0].len();
        pair.call(100, cookie);
        pair.run(Nanos(1_500_000), echo);
        let brief = pair.sent[0][before].brief();
        assert!(brief.contains(&format!("cutoffs={version}")), "{brief}");
    }
    assert_eq!(pair.count(1, is_cutoffs), 2);
}

#[test]
fn cutoffs_go_to_a_peer_at_most_once_a_millisecond() {
    let mut solo = solo::Solo::new(solo::config());
    for _ in 0..20 {
        let id = RpcId(0x100 + solo.now.0);
        solo.client_sends(id, solo::data_with(0..9, 9, |data| data.cutoff_version = 9));
        solo.now = solo.now + Nanos::from_us(100);
    }
    let sent = solo.sent_briefs();
    assert_eq!(sent.len(), 2, "{sent:?}");
    assert_eq!(sent[0], "CUTOFFS 2147483647,0,0,0,1000000,15000,2800,200 version=1 @7");
}

/// Loses the second packet of the request, once.
fn second_packet() -> impl FnMut(usize, &Frame) -> bool + 'static {
    first(0, |body| matches!(body, Body::Data(data) if data.offset == SEGMENT))
}

#[test]
fn a_gap_in_a_flowing_message_is_asked_for_soon() {
    let mut pair = pair_losing(Config::default(), second_packet());
    pair.call(1_000_000, 1);
    pair.run(Nanos::from_ms(1), |_| Some(outgoing(1, 0)));
    assert_eq!(pair.responses.len(), 1, "done in a millisecond");
    assert_eq!(pair.shards[1].metrics().gap_recoveries, 1);
    let asked = pair.times_us(1, is_resend);
    assert!(asked.len() == 1 && (105..130).contains(&asked[0]), "{asked:?}");
    assert_eq!(pair.shards[0].metrics().bytes_resent, u64::from(SEGMENT));
}

#[test]
fn a_gap_waits_for_silence_without_gap_recovery() {
    for config in [Config { gap_recovery_ns: 0, ..Config::default() }, Config::to_the_letter()] {
        let mut pair = pair_losing(config, second_packet());
        pair.call(1_000_000, 1);
        pair.run(Nanos::from_ms(5), |_| Some(outgoing(1, 0)));
        assert_eq!((pair.responses.len(), pair.count(1, is_resend)), (0, 0));
        pair.run(Nanos::from_ms(1), |_| Some(outgoing(1, 0)));
        assert_eq!(pair.responses.len(), 1);
        assert_eq!(pair.count(1, is_resend), 1);
    }
}

/// Reordering shorter than the bound costs nothing.
#[test]
fn reordering_is_not_taken_for_loss() {
    let mut pair = Pair::new(Config::default());
    pair.faults.jitter_ns = 50_000;
    pair.call(1_000_000, 1);
    pair.run(Nanos::from_ms(2), |_| Some(outgoing(1, 0)));
    assert_eq!(pair.responses.len(), 1);
    assert_eq!(pair.shards[0].metrics().bytes_resent, 0);
}

/// A shard that did not run was deaf: its peers were not silent.
#[test]
fn a_stall_of_our_own_is_excused() {
    for excused in [true, false] {
        let mut pair = pair_losing(Config::default(), |_, _| true);
        pair.call(100, 1);
        pair.idle(Nanos::from_ms(50));
        pair.now = pair.now + Nanos::from_ms(500);
        if excused {
            let now = pair.now;
            pair.shards[0].excuse(now, 500_000_000);
        }
        pair.idle(Nanos::from_ms(1));
        assert_eq!(pair.responses.is_empty(), excused);
        if excused {
            pair.idle(Nanos(48_900_000));
            assert!(pair.responses.is_empty());
            pair.idle(Nanos::from_us(100 + TICK_US));
            assert_eq!(pair.responses.len(), 1);
        }
    }
}

#[test]
fn a_stall_with_computed_cutoffs_does_not_keep_the_timer_busy() {
    let mut solo = solo::Solo::new(Config { cutoffs_auto: true, ..solo::config() });
    solo.pass_time(Nanos::from_ms(1_500));
    solo.shard.on_timer(solo.now);
    solo.now = Nanos::from_ms(2_500);
    solo.shard.excuse(solo.now, 1_000_000_000);
    solo.shard.on_timer(solo.now);
    assert_eq!(solo.shard.next_deadline(solo.now), Some(Nanos::from_ms(3_500)));
}

/// When more RPCs are silent than may be asked about at a time, all get their turn.
#[test]
fn limited_probes_reach_every_rpc_in_turn() {
    let config = Config { pacing: false, ..Config::default() };
    let mut lost = 0;
    let mut pair = pair_losing(config, move |from, frame| {
        lost += u32::from(from == 0 && is_data(&frame.packet.body));
        from == 0 && is_data(&frame.packet.body) && lost <= 3_000
    });
    for cookie in 0..3_000 {
        pair.call(100, cookie);
    }
    pair.run(Nanos::from_ms(120), echo);
    assert!(pair.shards[0].metrics().probes_limited > 0);
    let calls: Vec<_> = (0..3_000).map(|cookie| (cookie, 100)).collect();
    pair.assert_echoed(&calls);
}

#[test]
fn what_waits_to_be_sent_again_is_not_put_in_line_twice() {
    let mut solo = solo::Solo::new(solo::config());
    let (_, id) = solo.call(solo::LENGTH, 0);
    solo.sent();
    for _ in 0..10 {
        solo.server_sends(id, solo::resend(0, Resend::ALL, 7));
        solo.server_sends(id, solo::resend(SEGMENT, 10, 7));
    }
    assert_eq!(solo.sent().len(), 2);
    solo.server_sends(id, solo::resend(0, Resend::ALL, 7));
    assert_eq!(solo.sent().len(), 2);
}

#[test]
fn ranges_to_be_sent_again_are_bounded_by_the_queue() {
    let mut solo = solo::Solo::new(Config { retransmits_max: 4, ..solo::config() });
    let mut ids = Vec::new();
    for cookie in 0..10 {
        let (_, id) = solo.call(solo::HALF, cookie);
        ids.push(id);
    }
    solo.sent();
    for id in ids {
        solo.server_sends(id, solo::resend(0, Resend::ALL, 7));
    }
    assert_eq!(solo.shard.metrics().retransmits_dropped, 6);
    let sent = solo.sent_briefs();
    let count = |kind| sent.iter().filter(|brief| brief.starts_with(kind)).count();
    assert_eq!((count("DATA"), count("BUSY")), (8, 6));
}

/// A response that takes longer to send again than the server waits between NEED_ACKs.
#[test]
fn a_long_response_is_sent_again_once_however_often_it_is_asked_for() {
    let config = Config { link_bps: 1_000_000_000, ..Config::to_the_letter() };
    let mut pair = pair_losing(config, |from, frame| match frame.packet.body {
        Body::Data(data) => from == 1 && !data.retransmit && data.offset > 100_000,
        _ => false,
    });
    pair.call(100, 1);
    pair.run(Nanos::from_ms(60), |_| Some(outgoing(1_000_000, 0)));
    assert_eq!(pair.responses.len(), 1);
    let resent = pair.shards[1].metrics().bytes_resent;
    assert!(resent < 1_800_000, "{resent} bytes for 900,000");
}

/// A long answer to a RESEND is not asked for anew while it arrives.
#[test]
fn a_large_gap_is_asked_for_once() {
    let config = Config { link_bps: 1_000_000_000, gap_recovery_ns: 20_000, ..Config::default() };
    let mut pair = pair_losing(config, |from, frame| match frame.packet.body {
        Body::Data(data) => from == 0 && !data.retransmit && (2_848..38_000).contains(&data.offset),
        _ => false,
    });
    pair.call(500_000, 1);
    pair.run(Nanos::from_ms(10), |_| Some(outgoing(1, 0)));
    assert_eq!(pair.responses.len(), 1);
    let resent = pair.shards[0].metrics().bytes_resent;
    assert!(resent < 3 * 36_000, "{resent} bytes for 36,000");
}
