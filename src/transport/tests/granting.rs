//! Grants: who may send how much, when, at which priority (protocol.md section 11).

use super::solo::*;
use crate::addr::HostAddr;
use crate::time::Nanos;
use crate::transport::pair::*;
use crate::transport::*;
use crate::wire::{Body, Grant, Packet};

/// A server without hysteresis, FIFO share and early probes, so that grants can be computed.
fn plain() -> Config {
    Config { grant_min_bytes: 0, grant_fifo_permille: 0, pacing: false, ..Config::default() }
}

fn client(n: u8) -> HostAddr {
    HostAddr::from([10, 0, 1, n])
}

/// A packet of a long request from `from`, without ending the burst.
fn feed(solo: &mut Solo, from: HostAddr, id: u64, range: core::ops::Range<u32>, length: u32) {
    let (body, bytes) = data_with(range, length, |data| data.incoming = length.min(10_000));
    let packet = Packet { header: client_header(RpcId(id)), body };
    solo.shard.on_packet(solo.now, from, &packet, Bytes(bytes));
}

/// Ends the burst and gives the grants sent: id of the request, offset, priority.
fn grants(solo: &mut Solo) -> Vec<(u64, u32, u8)> {
    solo.shard.end_burst(solo.now);
    let frames = solo.sent();
    let grants = frames.iter().filter_map(|frame| match frame.packet.body {
        Body::Grant(Grant { offset, priority }) => {
            Some((frame.packet.header.sender_id.flip().0, offset, priority))
        }
        _ => None,
    });
    grants.collect()
}

/// Protocol.md section 11.1: max_incoming / (active + 1).
#[test]
fn the_window_is_shared_among_the_active_messages() {
    for (count, window) in [(1, 200_000), (2, 133_333), (3, 100_000), (7, 50_000), (8, 44_444)] {
        let mut solo = Solo::new(plain());
        for n in 1..=count {
            feed(&mut solo, client(n), 2 * u64::from(n), 0..1_000, 900_000 + u32::from(n));
        }
        let grants = grants(&mut solo);
        assert_eq!(grants.len(), usize::from(count));
        // The budget of 400,000 bytes is enough for all these windows.
        assert!(grants.iter().all(|grant| grant.1 == 1_000 + window), "{count}: {grants:?}");
    }
}

#[test]
fn a_fixed_window() {
    let mut solo = Solo::new(Config { window_bytes: 30_000, ..plain() });
    feed(&mut solo, CLIENT, 2, 0..1_000, 900_000);
    feed(&mut solo, CLIENT, 4, 0..2_000, 900_000);
    assert_eq!(grants(&mut solo), [(4, 32_000, 1), (2, 31_000, 0)]);
}

#[test]
fn a_window_smaller_than_the_smallest_grant_is_refused() {
    let config = Config { window_bytes: 5_000, grant_min_bytes: 10_000, ..Config::default() };
    let error = config.validate().unwrap_err();
    assert_eq!((error.name, error.value), ("grant_min_bytes", 10_000));
}

#[test]
fn no_grant_beyond_the_length_and_none_for_what_needs_none() {
    let mut solo = Solo::new(plain());
    feed(&mut solo, CLIENT, 2, 0..1_000, 12_000);
    feed(&mut solo, CLIENT, 4, 0..1_000, 10_000);
    assert_eq!(grants(&mut solo), [(2, 12_000, 0)]);
    assert_eq!(solo.shard.occupancy().grantable, 0);
    assert_eq!(solo.shard.occupancy().incoming_bytes, 11_000 + 9_000);
}

/// Protocol.md section 11.4, in order of bytes remaining.
#[test]
fn scheduled_priorities_use_the_lowest_levels() {
    for (count, expected) in [
        (1, vec![0]),
        (2, vec![1, 0]),
        (4, vec![3, 2, 1, 0]),
        (6, vec![3, 2, 1, 0, 0, 0]),
        (8, vec![3, 2, 1, 0, 0, 0, 0, 0]),
    ] {
        let mut solo = Solo::new(plain());
        for n in 1..=count {
            feed(&mut solo, client(n), 2 * u64::from(n), 0..1_000, 100_000 + u32::from(n));
        }
        let grants = grants(&mut solo);
        assert!(grants.iter().map(|grant| grant.0).eq((1..=u64::from(count)).map(|n| 2 * n)));
        assert!(grants.iter().map(|grant| grant.2).eq(expected), "{grants:?}");
    }
}

#[test]
fn one_priority_is_enough_for_everything() {
    let mut solo = Solo::new(Config { num_priorities: 1, ..plain() });
    for n in 1..=4 {
        feed(&mut solo, client(n), 2 * u64::from(n), 0..1_000, 100_000);
    }
    assert!(grants(&mut solo).iter().all(|grant| grant.2 == 0));
}

#[test]
fn at_most_overcommit_max_messages_are_granted_to() {
    for overcommit_max in 1..=8 {
        let mut solo = Solo::new(Config { overcommit_max, ..plain() });
        for n in 1..=12 {
            feed(&mut solo, client(n), 2 * u64::from(n), 0..1_000, 900_000 - u32::from(n));
        }
        // The shortest, that is the last.
        let granted = grants(&mut solo);
        let ids: Vec<u64> = granted.iter().map(|grant| grant.0).collect();
        let expected: Vec<u64> = (0..overcommit_max as u64).map(|n| 2 * (12 - n)).collect();
        assert_eq!(ids, expected);
    }
}

#[test]
fn every_peer_is_granted_to_before_any_gets_two() {
    let mut solo = Solo::new(Config { overcommit_max: 3, ..plain() });
    for (from, id, length) in
        [(1, 2, 500_000), (1, 4, 600_000), (1, 6, 700_000), (2, 8, 800_000), (3, 10, 900_000)]
    {
        feed(&mut solo, client(from), id, 0..1_000, length);
    }
    let ids: Vec<u64> = grants(&mut solo).iter().map(|grant| grant.0).collect();
    assert_eq!(ids, [2, 8, 10]);
}

/// The order is that of now, not that of when messages came (reference-gaps.md G20).
#[test]
fn the_order_follows_the_bytes_remaining() {
    let mut solo = Solo::new(Config { window_bytes: 20_000, ..plain() });
    feed(&mut solo, client(1), 2, 0..1_000, 500_000);
    feed(&mut solo, client(2), 4, 0..1_000, 490_000);
    assert_eq!(grants(&mut solo), [(4, 21_000, 1), (2, 21_000, 0)]);
    // 15,000 bytes more of the longer one make it the shorter.
    feed(&mut solo, client(1), 2, 1_000..16_000, 500_000);
    feed(&mut solo, client(2), 4, 1_000..2_000, 490_000);
    assert_eq!(grants(&mut solo), [(2, 36_000, 1), (4, 22_000, 0)]);
}

#[test]
fn one_grant_per_message_and_burst() {
    let mut solo = Solo::new(plain());
    for packet in 0..20 {
        feed(&mut solo, CLIENT, 2, 1_000 * packet..1_000 * (packet + 1), 900_000);
    }
    assert_eq!(grants(&mut solo), [(2, 220_000, 0)]);
    assert_eq!(grants(&mut solo), []);
    feed(&mut solo, CLIENT, 2, 20_000..21_000, 900_000);
    assert_eq!(grants(&mut solo), [(2, 221_000, 0)]);
}

#[test]
fn small_grants_are_held_back_but_not_the_last() {
    let mut solo = Solo::new(Config { grant_min_bytes: 10_000, ..plain() });
    feed(&mut solo, CLIENT, 2, 0..1_000, 225_000);
    assert_eq!(grants(&mut solo), [(2, 201_000, 0)]);
    for packet in 1..10 {
        feed(&mut solo, CLIENT, 2, 1_000 * packet..1_000 * (packet + 1), 225_000);
        assert_eq!(grants(&mut solo), []);
    }
    feed(&mut solo, CLIENT, 2, 10_000..11_000, 225_000);
    assert_eq!(grants(&mut solo), [(2, 211_000, 0)]);
    feed(&mut solo, CLIENT, 2, 11_000..21_500, 225_000);
    assert_eq!(grants(&mut solo), [(2, 221_500, 0)]);
    feed(&mut solo, CLIENT, 2, 21_500..25_000, 225_000);
    assert_eq!(grants(&mut solo), [(2, 225_000, 0)], "3,500 bytes, the last");
}

/// The incoming bytes of messages that need no grants leave less for those that do
/// (reference-gaps.md G22).
#[test]
fn unscheduled_messages_use_the_budget() {
    for (budget_unscheduled, offset) in [(true, 1_000 + 400_000 - 390_000), (false, 201_000)] {
        let mut solo = Solo::new(Config { budget_unscheduled, ..plain() });
        for n in 1..=13 {
            let announce = data_with(0..0, 30_000, |data| data.incoming = 30_000);
            solo.receive(client(n), client_header(RpcId(2)), announce);
        }
        let content = data_with(0..1_000, 500_000, |data| data.incoming = 1_000);
        solo.receive(CLIENT, client_header(RpcId(4)), content);
        assert_eq!(grants(&mut solo), [(4, offset, 0)]);
    }
}

#[test]
fn an_exhausted_budget_stops_grants_until_bytes_arrive() {
    let mut solo =
        Solo::new(Config { incoming_max_bytes: 100_000, window_bytes: 90_000, ..plain() });
    feed(&mut solo, client(1), 2, 0..10_000, 500_000);
    feed(&mut solo, client(2), 4, 0..10_000, 500_000);
    assert_eq!(grants(&mut solo), [(2, 100_000, 1), (4, 20_000, 0)]);
    assert_eq!(solo.shard.occupancy().incoming_bytes, 100_000);
    feed(&mut solo, client(3), 6, 0..1_000, 10_001);
    assert_eq!(grants(&mut solo), [], "over the budget by what it announced");
    feed(&mut solo, client(1), 2, 10_000..40_000, 500_000);
    assert_eq!(grants(&mut solo), [(6, 10_001, 2), (2, 120_999, 1)]);
    assert_eq!(solo.shard.occupancy().incoming_bytes, 100_000);
}

#[test]
fn an_ended_message_gives_its_budget_back() {
    let mut solo = Solo::new(plain());
    feed(&mut solo, client(1), 2, 0..1_000, 900_000);
    assert_eq!(grants(&mut solo).len(), 1);
    solo.receive(client(1), client_header(RpcId(2)), bare(Body::RpcUnknown));
    assert_eq!(solo.shard.occupancy(), Occupancy { peers: 1, ..Occupancy::default() });
}

/// Protocol.md section 11.5: 50,000 bytes at priority 6 each 320 us, for the oldest.
#[test]
fn the_oldest_message_gets_its_share() {
    let config =
        Config { overcommit_max: 1, grant_min_bytes: 0, pacing: false, ..Config::default() };
    let mut solo = Solo::new(config);
    feed(&mut solo, client(1), 2, 0..1_000, 900_000);
    solo.now = solo.now + Nanos::from_us(1);
    feed(&mut solo, client(2), 4, 0..1_000, 500_000);
    let mut first = grants(&mut solo);
    first.sort_unstable();
    // The best one gets its window; the oldest its increment beyond the unscheduled bytes.
    assert_eq!(first, [(2, 60_000, 6), (4, 201_000, 0)]);
    // Later increments come from the timer; 109,000 bytes may wait to arrive.
    let started = solo.now;
    let frames = solo.pass_time(started + Nanos::from_us(1_600));
    let later: Vec<_> = frames.iter().map(|f| (f.at.since(started).0 / 1_000, f.brief())).collect();
    assert_eq!(later, [(320, "GRANT offset=110000 prio=6 @7".to_owned())]);
    assert_eq!(solo.shard.metrics().fifo_grant_bytes, 100_000);
}

#[test]
fn fifo_grants_stay_within_the_budget() {
    let config = Config { incoming_max_bytes: 60_000, grant_min_bytes: 0, ..Config::default() };
    let mut solo = Solo::new(config);
    feed(&mut solo, client(1), 2, 0..1_000, 900_000);
    feed(&mut solo, client(2), 4, 0..1_000, 500_000);
    solo.shard.end_burst(solo.now);
    solo.pass_time(solo.now + Nanos::from_ms(4));
    assert!(solo.shard.occupancy().incoming_bytes <= 60_000);
}

/// Bytes of the oldest message, of 1 MB, that a client is allowed to send in 4 ms while a shorter one
/// is always better.
fn progress_of_the_oldest(grant_fifo_permille: u32) -> u32 {
    let config = Config { grant_fifo_permille, overcommit_max: 1, grant_min_bytes: 0, ..plain() };
    let mut solo = Solo::new(config);
    feed(&mut solo, client(1), 2, 0..10_000, 1_000_000);
    solo.now = solo.now + Nanos::from_us(1);
    feed(&mut solo, client(2), 4, 0..600_000, 1_000_000);
    let (mut granted, mut sent) = (10_000, 10_000);
    for step in 0..200 {
        for (id, offset, _) in grants(&mut solo) {
            granted = if id == 2 { granted.max(offset) } else { granted };
        }
        solo.now = solo.now + Nanos::from_us(20);
        solo.shard.on_timer(solo.now);
        let shorter = 600_000 + 1_000 * step;
        feed(&mut solo, client(2), 4, shorter..shorter + 1_000, 1_000_000);
        feed(&mut solo, client(1), 2, sent..granted, 1_000_000);
        sent = granted;
    }
    granted
}

#[test]
fn a_long_message_is_not_starved() {
    assert_eq!(progress_of_the_oldest(0), 10_000, "without the FIFO share it is");
    // 4 ms / 320 us.
    assert_eq!(progress_of_the_oldest(50), 10_000 + 13 * 50_000);
    assert!(progress_of_the_oldest(25) < 400_000);
}

/// A slow sender of granted bytes does not keep a place from others (reference-gaps.md G21).
#[test]
fn a_fully_granted_message_keeps_no_place() {
    let mut solo = Solo::new(Config { overcommit_max: 1, ..plain() });
    feed(&mut solo, client(1), 2, 0..1_000, 50_000);
    feed(&mut solo, client(2), 4, 0..1_000, 60_000);
    // Nothing more of the first has come, but the second is granted to at once.
    assert_eq!(grants(&mut solo), [(2, 50_000, 0), (4, 60_000, 0)]);
    assert_eq!(solo.shard.occupancy().grantable, 0);
}

/// The application frees packet buffers without any packet arriving: others may go on.
#[test]
fn dropped_messages_let_grants_go_on() {
    let config = Config { retained_packets_max: 64, window_bytes: 20_000, ..plain() };
    let mut solo = Solo::new(config);
    for n in 0..50 {
        feed(&mut solo, client(3), 1_000 + 2 * n, 0..1_000, 1_000);
    }
    feed(&mut solo, client(1), 2, 0..1_000, 500_000);
    feed(&mut solo, client(2), 4, 0..1_000, 600_000);
    let first: Vec<u64> = grants(&mut solo).iter().map(|grant| grant.0).collect();
    assert_eq!(first, [2], "buffers are scarce: only the best goes on");
    drop(solo.events());
    let second: Vec<u64> = grants(&mut solo).iter().map(|grant| grant.0).collect();
    assert_eq!(second, [4]);
}

#[test]
fn without_live_order_a_message_keeps_the_place_it_came_to() {
    for (live_srpt, first) in [(true, 2), (false, 4)] {
        let mut solo =
            Solo::new(Config { live_srpt, overcommit_max: 1, window_bytes: 10_000, ..plain() });
        feed(&mut solo, client(1), 2, 0..1_000, 60_000);
        feed(&mut solo, client(2), 4, 0..1_000, 50_000);
        // The longer one gets ahead.
        feed(&mut solo, client(1), 2, 1_000..20_000, 60_000);
        solo.sent();
        feed(&mut solo, client(2), 4, 1_000..2_000, 50_000);
        feed(&mut solo, client(1), 2, 20_000..21_000, 60_000);
        let last = grants(&mut solo);
        assert_eq!(last.last().map(|grant| grant.0), Some(first), "live: {live_srpt}, {last:?}");
    }
}
