//! What is sent, in what order, how fast, at which priority (protocol.md sections 9, 10 and 12).

use super::solo::*;
use crate::time::Nanos;
use crate::transport::pair::*;
use crate::transport::*;
use crate::wire::{Body, Data};

fn data_of(frame: &Frame) -> Data {
    match frame.packet.body {
        Body::Data(data) => data,
        _ => panic!("{}", frame.brief()),
    }
}

/// A client that may send `unsched_bytes` of each message at once.
fn unscheduled(unsched_bytes: u32) -> Config {
    Config { unsched_bytes, early_packet: false, seed: 5, ..Config::default() }
}

/// Cookies in the order of the DATA packets; a call's cookie is its place in `ids`.
fn order(frames: &[Frame], ids: &[RpcId]) -> Vec<usize> {
    let place = |frame: &Frame| ids.iter().position(|id| *id == frame.packet.header.sender_id);
    frames.iter().filter_map(place).collect()
}

#[test]
fn the_unscheduled_part_ends_at_a_packet_boundary() {
    for (length, segment, expected) in [
        (1, 1_424, 1),
        (40_000, 1_424, 40_000),
        (40_001, 1_424, 39_872),
        (100_000, 1_424, 39_872),
        (100_000, 8_924, 35_696),
        (100_000, 50_000, 50_000),
        (100_000, 200_000, 100_000),
        (1_000_000, 100, 40_000),
    ] {
        let mut solo = Solo::new(Config { pacing: false, ..unscheduled(40_000) });
        let message = Outgoing { bytes: pattern(length, 0), segment };
        solo.shard.call(solo.now, solo.port, SERVER, SERVICE, message, 0).unwrap();
        let frames = solo.sent();
        let sent: usize = frames.iter().map(|frame| frame.payload.0.len()).sum();
        assert_eq!(sent, expected, "{length} bytes in packets of {segment}");
        assert!(frames.iter().all(|frame| data_of(frame).incoming == expected as u32));
    }
}

#[test]
fn every_packet_but_the_last_is_full() {
    for segment in [100, 1_404, 1_424, 8_924] {
        let mut solo = Solo::new(Config { pacing: false, ..unscheduled(1_000_000) });
        let message = Outgoing { bytes: pattern(20_000, 0), segment };
        solo.shard.call(solo.now, solo.port, SERVER, SERVICE, message, 0).unwrap();
        let mut at = 0;
        for frame in solo.sent() {
            assert_eq!(data_of(&frame).offset, at);
            let end = (at + segment).min(20_000);
            assert_eq!(frame.payload.0, pattern(20_000, 0)[at as usize..end as usize]);
            at = end;
        }
        assert_eq!(at, 20_000);
    }
}

#[test]
fn a_sink_without_room_gets_nothing_and_one_with_room_for_1_gets_1() {
    let mut solo = Solo::new(Config { pacing: false, ..unscheduled(40_000) });
    solo.call(5_000, 0);
    solo.server_sends(RpcId(2), resend(0, 1, 0));
    for (room, briefs_expected) in [
        (0, vec![]),
        (1, vec!["RPC_UNKNOWN @7"]),
        (1, vec!["DATA 0..1424/5000 incoming=5000 cutoffs=0 @6"]),
        (0, vec![]),
        (
            2,
            vec![
                "DATA 1424..2848/5000 incoming=5000 cutoffs=0 @6",
                "DATA 2848..4272/5000 incoming=5000 cutoffs=0 @6",
            ],
        ),
        (64, vec!["DATA 4272..5000/5000 incoming=5000 cutoffs=0 @6"]),
        (64, vec![]),
    ] {
        let mut sink = Sink::with_room(room, solo.now);
        let sent = solo.shard.poll_transmit(solo.now, &mut sink);
        assert_eq!(briefs(&sink.frames), briefs_expected);
        assert_eq!(sent, sink.frames.len());
    }
}

#[test]
fn whole_exchanges_through_a_sink_with_room_for_1() {
    let mut pair = Pair::new(Config::default());
    pair.room = 1;
    let calls = [(1, 100), (2, 5_000), (3, 200_000)];
    for (cookie, len) in calls {
        pair.call(len, cookie);
    }
    pair.run(Nanos::from_ms(20), echo);
    pair.assert_echoed(&calls);
    pair.assert_empty();
}

/// Fewest bytes left first, then the older.
#[test]
fn messages_go_shortest_first() {
    let mut solo = Solo::new(unscheduled(1_000_000));
    let lengths = [30_000, 10_000, 20_000, 10_000];
    let ids = lengths.map(|len| solo.call(len, 0).1);
    let mut frames = solo.pass_time(solo.now + Nanos::from_us(40));
    frames.retain(|frame| matches!(frame.packet.body, Body::Data(_)));
    let mut order = order(&frames, &ids);
    // The share of the oldest is one packet in 20 here.
    let first_of_oldest = order.iter().position(|&place| place == 0).unwrap();
    assert!(first_of_oldest > 18, "{order:?}");
    order.retain(|&place| place != 0);
    order.dedup();
    assert_eq!(order, [1, 3, 2]);
}

#[test]
fn a_shorter_message_overtakes_what_waits() {
    let mut solo = Solo::new(unscheduled(1_000_000));
    let (_, long) = solo.call(100_000, 0);
    let before = solo.sent().len();
    assert_eq!(before, 11, "5 us at 25 Gbps, and one packet");
    let (_, short) = solo.call(3_000, 0);
    let frames = solo.pass_time(solo.now + Nanos::from_us(3));
    assert_eq!(order(&frames, &[long, short])[..4], [1, 1, 1, 0]);
}

/// Messages of at most `defer_min_bytes` are never held back.
#[test]
fn the_shortest_messages_are_not_paced() {
    let mut solo = Solo::new(unscheduled(1_000_000));
    solo.call(100_000, 0);
    solo.sent();
    let (_, short) = solo.call(1_000, 0);
    let (_, longer) = solo.call(1_001, 0);
    let frames = solo.sent();
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0].packet.header.sender_id, short);
    let frames = solo.pass_time(solo.now + Nanos::from_us(2));
    assert_eq!(frames[0].packet.header.sender_id, longer);
}

#[test]
fn the_link_is_kept_busy_and_its_backlog_short() {
    for link_bps in [1_000_000_000, 25_000_000_000, 100_000_000_000] {
        let mut solo = Solo::new(Config { link_bps, ..unscheduled(1_000_000) });
        let start = solo.now;
        solo.call(1_000_000, 0);
        let mut frames = solo.pass_time(start + Nanos::from_ms(9));
        frames.retain(|frame| matches!(frame.packet.body, Body::Data(_)));
        assert_eq!(frames.len(), 703);
        // Bytes on the wire so far, against those the link has carried.
        let mut handed_over = 0.0;
        let bytes_per_ns = link_bps as f64 / 8e9;
        for frame in &frames {
            let carried = frame.at.since(start).0 as f64 * bytes_per_ns;
            let backlog_ns = (handed_over - carried) / bytes_per_ns;
            assert!(backlog_ns <= 5_000.0 * 1.02, "{link_bps}: {backlog_ns} ns");
            handed_over += frame.payload.0.len() as f64 + 118.0;
        }
        let took_ns = frames.last().unwrap().at.since(start).0 as f64 + 5_000.0;
        let ideal_ns = handed_over / bytes_per_ns;
        assert!((took_ns / ideal_ns - 1.0).abs() < 0.02, "{took_ns} of {ideal_ns} ns");
    }
}

/// What the oldest of two messages sends, as a share of all, until the other is done.
fn share_of_the_oldest(segment: u32, send_fifo_permille: u32) -> f64 {
    let config = Config { send_fifo_permille, ..unscheduled(1_000_000) };
    let mut solo = Solo::new(config);
    let call = |solo: &mut Solo, len| {
        let message = Outgoing { bytes: pattern(len, 0), segment };
        solo.shard.call(solo.now, solo.port, SERVER, SERVICE, message, 0).unwrap().1
    };
    let oldest = call(&mut solo, 1_000_000);
    solo.now = solo.now + Nanos(1);
    let other = call(&mut solo, 900_000);
    let frames = solo.pass_time(solo.now + Nanos::from_ms(1));
    let last = frames.iter().rposition(|f| f.packet.header.sender_id == other).unwrap();
    let bytes = |id| -> usize {
        let frames = frames[..last].iter().filter(|frame| frame.packet.header.sender_id == id);
        frames.map(|frame| frame.payload.0.len()).sum()
    };
    bytes(oldest) as f64 / (bytes(oldest) + bytes(other)) as f64
}

#[test]
fn the_oldest_message_gets_its_share_whatever_the_packet_size() {
    for segment in [1_424, 8_924] {
        for permille in [0, 50, 200] {
            let share = share_of_the_oldest(segment, permille);
            let expected = f64::from(permille) / 1_000.0;
            assert!((share - expected).abs() < 0.04, "{segment}, {permille}: {share}");
        }
    }
}

/// A message that was alone for a long time, and so was both the best and the oldest, has earned
/// nothing by that.
#[test]
fn sending_alone_earns_the_oldest_no_credit() {
    let mut solo = Solo::new(unscheduled(1_000_000));
    for _ in 0..30 {
        solo.call(1_000_000, 0);
        solo.pass_time(solo.now + Nanos::from_us(400));
    }
    let (_, long) = solo.call(1_000_000, 0);
    solo.pass_time(solo.now + Nanos::from_us(5));
    let (_, short) = solo.call(50_000, 0);
    let frames = solo.pass_time(solo.now + Nanos::from_us(10));
    let order = order(&frames, &[long, short]);
    assert!(order.iter().filter(|&&place| place == 0).count() <= 2, "{order:?}");
}

/// The first packet of a new long message does not wait for the one before it
/// (reference-gaps.md G24).
#[test]
fn a_long_message_sends_one_packet_early() {
    let config = Config { early_packet: true, ..unscheduled(10_000) };
    let mut solo = Solo::new(config);
    let (_, first) = solo.call(400_000, 0);
    solo.sent();
    solo.server_sends(first, grant(400_000, 0));
    solo.sent();
    let (_, second) = solo.call(500_000, 0);
    let (_, unscheduled) = solo.call(9_000, 0);
    let frames = solo.sent();
    assert_eq!(order(&frames, &[first, second, unscheduled]), [1], "one, though the NIC is busy");
    assert_eq!(data_of(&frames[0]).offset, 0);
    let frames = solo.pass_time(solo.now + Nanos::from_us(4));
    let order = order(&frames, &[first, second, unscheduled]);
    assert_eq!(order[..7], [2; 7]);
    assert!(!order.contains(&1), "{order:?}");
}

/// What was put on the unpaced queue for its first packet, and is granted all in the meantime, is
/// paced all the same.
#[test]
fn only_one_packet_goes_early() {
    let config = Config { early_packet: true, ..unscheduled(10_000) };
    let mut solo = Solo::new(config);
    let (_, first) = solo.call(400_000, 0);
    solo.server_sends(first, grant(400_000, 0));
    let (_, second) = solo.call(500_000, 0);
    let mut sink = Sink::with_room(3, solo.now);
    solo.shard.poll_transmit(solo.now, &mut sink);
    // The server has lost its memory; then a GRANT from before arrives.
    solo.server_sends(second, bare(Body::RpcUnknown));
    solo.server_sends(second, grant(500_000, 0));
    let frames = solo.sent();
    assert!(frames.len() < 20, "{} packets at once", frames.len());
}

/// A message whose rest is short enough to be unpaced leaves the order of the others, so that it does
/// not stand in their way.
#[test]
fn one_poll_sends_all_that_may_go() {
    let mut solo = Solo::new(unscheduled(1_000_000));
    let (_, first) = solo.call(11 * SEGMENT + 900, 0);
    let (_, second) = solo.call(11 * SEGMENT + 901, 0);
    assert_eq!(order(&solo.sent(), &[first, second]), [0; 11]);
    solo.server_sends(first, resend(0, 0, 0));
    assert_eq!(order(&solo.sent(), &[first, second]), [0], "in line again, now as a short one");
    solo.now = solo.now + Nanos::from_ms(1);
    assert_eq!(order(&solo.sent(), &[first, second]), [1; 11]);
}

#[test]
fn a_stale_grant_changes_neither_offset_nor_priority() {
    let mut solo = Solo::new(Config { pacing: false, ..unscheduled(UNSCHED) });
    let (_, id) = solo.call(20_000, 0);
    solo.sent();
    solo.server_sends(id, grant(8_000, 3));
    let frames = solo.sent();
    assert!(frames.iter().all(|frame| frame.priority == 3));
    solo.server_sends(id, grant(5_000, 1));
    solo.server_sends(id, grant(8_000, 0));
    assert!(solo.sent().is_empty());
    assert_eq!(solo.rpc(id).unwrap().outbound.as_ref().unwrap().priority, 3);
    solo.server_sends(id, grant(10_000, 2));
    let frames = solo.sent();
    assert!(!frames.is_empty() && frames.iter().all(|frame| frame.priority == 2));
}

#[test]
fn unscheduled_priorities_follow_the_cutoffs_of_the_peer() {
    let standard = [0, 0, 0, 0, 1_000_000, 15_000, 2_800, 200];
    for (num_priorities, lengths) in [
        (8, vec![(200, 7), (201, 6), (2_800, 6), (2_801, 5), (15_000, 5), (15_001, 4)]),
        (7, vec![(200, 6), (2_800, 6), (2_801, 5), (15_001, 4)]),
        (6, vec![(1, 5), (15_000, 5), (15_001, 4)]),
        (5, vec![(1, 4), (1_000_000, 4)]),
        (4, vec![(1, 0), (1_000_000, 0)]),
        (3, vec![(1, 0), (1_000_000, 0)]),
        (2, vec![(1, 0), (1_000_000, 0)]),
        (1, vec![(1, 0), (1_000_000, 0)]),
    ] {
        let mut solo = Solo::new(Config { num_priorities, pacing: false, ..Config::default() });
        solo.call(1, 0);
        let unknown = num_priorities.saturating_sub(1).min(6);
        assert_eq!(solo.sent()[0].priority, unknown, "before any CUTOFFS");
        solo.server_sends(RpcId(2), cutoffs(standard, 1));
        for (length, priority) in lengths {
            solo.call(length, 0);
            assert_eq!(solo.sent()[0].priority, priority, "{num_priorities}: {length} bytes");
        }
    }
}

/// The version that a retransmission carries is the newest too.
#[test]
fn new_cutoffs_hold_from_the_next_packet_on() {
    let mut solo = Solo::new(config());
    let (_, id) = solo.call(LENGTH, 0);
    assert!(solo.sent().iter().all(|frame| data_of(frame).cutoff_version == 0));
    solo.server_sends(id, cutoffs([0, 0, 0, 9_000, 100, 0, 0, 0], 7));
    solo.server_sends(id, resend(0, 10, 5));
    let frames = solo.sent();
    assert_eq!((data_of(&frames[0]).cutoff_version, frames[0].priority), (7, 5));
    solo.server_sends(id, bare(Body::RpcUnknown));
    assert!(solo.sent().iter().all(|frame| frame.priority == 3));
}

#[test]
fn the_priority_map_gives_the_values_on_the_wire() {
    let priority_map = [1, 1, 2, 2, 3, 3, 5, 4];
    let mut solo = Solo::new(Config { priority_map, ..config() });
    let (_, id) = solo.call(LENGTH, 0);
    assert!(solo.sent().iter().all(|frame| frame.priority == 5));
    solo.server_sends(id, grant(LENGTH, 1));
    assert!(solo.sent().iter().all(|frame| frame.priority == 1));
    solo.server_sends(RpcId(2), resend(0, 1, 0));
    assert_eq!(solo.sent()[0].priority, 4);
    assert_eq!(solo.shard.metrics().sent_bytes_by_priority[5], u64::from(HALF));
}

/// A message of 20,000 bytes of which few are left, and then one of 15,000.
#[test]
fn the_order_is_by_bytes_left_or_by_length_or_by_both() {
    for (order, left, expected) in [
        (Order::BytesLeft, 5, 0),
        (Order::BytesLeft, 12, 1),
        (Order::Length, 5, 1),
        (Order::Product, 10, 1),
        (Order::Product, 5, 0),
    ] {
        let config =
            Config { pacing: false, order, send_fifo_permille: 0, ..unscheduled(1_000_000) };
        let mut solo = Solo::new(config);
        let (_, long) = solo.call(20_000, 0);
        solo.shard.poll_transmit(solo.now, &mut Sink::with_room(15 - left, solo.now));
        let (_, short) = solo.call(15_000, 1);
        let first = self::order(&solo.sent(), &[long, short])[0];
        assert_eq!(first, expected, "{order:?} with {left} packets left");
    }
}
