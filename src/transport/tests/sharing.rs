//! Several shards of one host: together they grant and send as one.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::random::Random;
use super::solo::*;
use crate::addr::HostAddr;
use crate::time::Nanos;
use crate::transport::pair::*;
use crate::transport::*;
use crate::wire::{Ack, AckRecord, Body, Grant, Header, Packet};

fn shards(count: u8, config: &Config) -> (Arc<HostShare>, Vec<Solo>) {
    let host = HostShare::new(count, config).unwrap();
    let shard = |shard| {
        let config = Config { shard, ..config.clone() };
        let mut shard = Shard::sharing(config, (), &host).unwrap();
        assert!(shard.open_server_port(SERVICE));
        let port = shard.open_client_port().unwrap();
        Solo { now: Nanos::from_ms(1), shard, port }
    };
    let solos = (0..count).map(shard).collect();
    (host, solos)
}

fn plain() -> Config {
    Config { grant_min_bytes: 0, grant_fifo_permille: 0, pacing: false, ..Config::default() }
}

fn client(n: u64) -> HostAddr {
    HostAddr::from([10, 0, 1, n as u8])
}

/// Takes in a packet of the request `id` of client `n` as a burst.
fn feed(solo: &mut Solo, n: u64, id: u64, range: core::ops::Range<u32>, length: u32) {
    let content = data_with(range, length, |data| data.incoming = length.min(10_000));
    solo.receive(client(n), client_header(RpcId(id)), content);
}

/// Grants sent: id of the request and offset.
fn grants(solo: &mut Solo) -> Vec<(u64, u32)> {
    let frames = solo.sent();
    let grants = frames.iter().filter_map(|frame| match frame.packet.body {
        Body::Grant(Grant { offset, .. }) => Some((frame.packet.header.sender_id.flip().0, offset)),
        _ => None,
    });
    grants.collect()
}

fn look(solo: &mut Solo, at: Nanos) {
    solo.now = at;
    solo.shard.end_burst(at);
}

fn assert_balanced(host: &HostShare, budget: i64) {
    let held: i64 = (0..host.shards()).map(|shard| host.leased_bytes(shard)).sum();
    assert_eq!(held + host.free_bytes(), budget, "{host:?}");
}

#[test]
fn the_degree_of_overcommitment_is_that_of_the_host() {
    let (_, mut solos) = shards(2, &Config { overcommit_max: 1, ..plain() });
    feed(&mut solos[0], 1, 2, 0..1_000, 500_000);
    assert_eq!(grants(&mut solos[0]), [(2, 201_000)], "alone");
    // A shorter one on the other shard takes the only place.
    feed(&mut solos[1], 2, 4, 0..1_000, 20_000);
    assert_eq!(grants(&mut solos[1]), [(4, 20_000)]);
    feed(&mut solos[0], 1, 2, 1_000..2_000, 500_000);
    assert_eq!(grants(&mut solos[0]), [(2, 202_000)], "the other is granted in full");
    feed(&mut solos[1], 3, 6, 0..1_000, 300_000);
    // What the budget has left, less what shard 0 has borrowed in whole chunks and not used.
    let [(6, offset)] = grants(&mut solos[1])[..] else { panic!("one grant") };
    assert!((170_000..=179_000).contains(&offset), "{offset}");
    feed(&mut solos[0], 1, 2, 2_000..3_000, 500_000);
    assert!(grants(&mut solos[0]).is_empty(), "300,000 bytes go before 497,000");
}

#[test]
fn who_waits_for_another_shard_looks_again_by_itself() {
    let (_, mut solos) = shards(2, &Config { overcommit_max: 1, ..plain() });
    feed(&mut solos[1], 2, 4, 0..1_000, 300_000);
    assert_eq!(grants(&mut solos[1]).len(), 1);
    feed(&mut solos[0], 1, 2, 0..1_000, 500_000);
    assert!(grants(&mut solos[0]).is_empty());
    let due = solos[0].shard.next_deadline(solos[0].now).unwrap();
    assert!(due <= solos[0].now + Nanos::from_us(4), "{due}");
    // The other message is given up.
    let header = client_header(RpcId(4));
    solos[1].receive(client(2), header, bare(Body::RpcUnknown));
    look(&mut solos[0], due);
    assert_eq!(grants(&mut solos[0]), [(2, 201_000)]);
}

/// Two messages of equal length of one client, on two shards: both go on, to the end.
#[test]
fn equal_messages_on_two_shards_both_progress() {
    let (host, mut solos) = shards(2, &plain());
    const LENGTH: u32 = 400_000;
    let mut sent = [10_000_u32; 2];
    for (at, solo) in solos.iter_mut().enumerate() {
        feed(solo, 1, 2 + 2 * at as u64, 0..10_000, LENGTH);
    }
    for turn in 0..1_000 {
        let at = turn % 2;
        let solo = &mut solos[at];
        solo.now = solo.now + Nanos::from_us(1);
        let granted = grants(solo).into_iter().map(|(_, offset)| offset).max();
        // Everything granted arrives at once.
        if let Some(granted) = granted {
            feed(solo, 1, 2 + 2 * at as u64, sent[at]..granted, LENGTH);
            sent[at] = granted;
        } else {
            look(solo, solo.now);
        }
        assert!(sent[0].abs_diff(sent[1]) <= 200_000 || sent == [LENGTH; 2], "{sent:?}");
        assert_balanced(&host, 400_000);
    }
    assert_eq!(sent, [LENGTH; 2]);
    assert_eq!(host.free_bytes(), 400_000, "all of the budget is back");
}

/// Messages come to four shards at random; what is granted and not received never exceeds the budget,
/// and all of them arrive.
#[test]
fn grants_of_all_shards_never_exceed_the_budget() {
    const BUDGET: i64 = 100_000;
    for seed in 0..20_u64 {
        let config = Config {
            incoming_max_bytes: BUDGET as u32,
            unsched_bytes: 2_000,
            grant_min_bytes: 1_000,
            pacing: false,
            ..Config::default()
        };
        let (host, mut solos) = shards(4, &config);
        let mut random = Random(seed);
        // By id: shard, client, length, sent, granted.
        let mut open: BTreeMap<u64, (usize, u64, u32, u32, u32)> = BTreeMap::new();
        let (mut started, mut turns) = (0, 0);
        let mut now = Nanos::from_ms(1);
        while started < 100 || !open.is_empty() {
            turns += 1;
            assert!(turns < 200_000, "seed {seed}: {} messages do not end: {open:?}", open.len());
            now = now + Nanos(500);
            let at = random.below(4) as usize;
            solos[at].now = now;
            if started < 100 && random.below(4) == 0 {
                started += 1;
                let (id, n) = (2 * started, random.below(20));
                let length = 1 + random.below(200_000) as u32;
                let first = length.min(1_000);
                let announced = length.min(2_000);
                let content = data_with(0..first, length, |data| data.incoming = announced);
                solos[at].receive(client(n), client_header(RpcId(id)), content);
                open.insert(id, (at, n, length, first, announced));
            } else {
                let mine =
                    open.iter().filter(|(_, message)| message.0 == at && message.3 < message.4);
                let mine: Vec<u64> = mine.map(|(&id, _)| id).collect();
                if let Some(&id) = mine.get(random.below(mine.len().max(1) as u64) as usize) {
                    let message = open.get_mut(&id).unwrap();
                    let end = message.4.min(message.3 + 1 + random.below(10_000) as u32);
                    let content = data_with(message.3..end, message.2, |data| data.incoming = end);
                    message.3 = end;
                    let n = message.1;
                    solos[at].receive(client(n), client_header(RpcId(id)), content);
                } else {
                    solos[at].shard.on_timer(now);
                    look(&mut solos[at], now);
                }
            }
            for (id, offset) in grants(&mut solos[at]) {
                open.get_mut(&id).unwrap().4 = offset;
            }
            open.retain(|_, message| message.3 < message.2);
            // A lone packet announces up to 2,000 bytes that nobody was asked for.
            let incoming: i64 = open.values().map(|m| i64::from(m.4) - i64::from(m.3)).sum();
            let announced = 2_000 * open.len() as i64;
            assert!(incoming <= BUDGET + announced, "seed {seed}: {incoming}");
            let counted: u64 = solos.iter().map(|s| s.shard.occupancy().incoming_bytes).sum();
            assert!(host.free_bytes() >= 0 || counted as i64 <= BUDGET + announced);
            assert_balanced(&host, BUDGET);
        }
        assert_eq!(host.free_bytes(), BUDGET, "seed {seed}");
    }
}

#[test]
fn a_shard_that_ends_gives_its_lease_back_and_blocks_nobody() {
    let (host, mut solos) = shards(2, &Config { overcommit_max: 1, ..plain() });
    feed(&mut solos[1], 2, 4, 0..1_000, 300_000);
    assert!(host.leased_bytes(1) > 200_000);
    feed(&mut solos[0], 1, 2, 0..1_000, 500_000);
    assert!(grants(&mut solos[0]).is_empty());
    solos.pop();
    assert_eq!(host.leased_bytes(1), 0);
    let now = solos[0].now + Nanos::from_us(10);
    look(&mut solos[0], now);
    assert_eq!(grants(&mut solos[0]).len(), 1);
}

/// The client's port is not in an ack record, so it may reach a shard that knows nothing of the RPC.
#[test]
fn an_ack_that_reached_the_wrong_shard_finds_its_rpc() {
    let (_, mut solos) = shards(2, &config());
    solos[1].answered(RpcId(8));
    let mut record = Ack::new();
    record.push(AckRecord { client_id: RpcId(8), server_port: SERVICE });
    // On an ACK packet about another RPC of the client, which shard 0 has served.
    solos[0].answered(RpcId(6));
    solos[0].client_sends(RpcId(6), bare(Body::Ack(record)));
    assert_eq!(solos[0].state(RpcId(7)), None);
    let missed = solos[0].shard.poll_missed_ack().unwrap();
    assert_eq!(missed, MissedAck { client: CLIENT, id: RpcId(8), server_port: SERVICE });
    assert_eq!(solos[0].shard.poll_missed_ack(), None);
    assert!(solos[1].state(RpcId(9)).is_some());
    let now = solos[1].now;
    solos[1].shard.on_missed_ack(now, &missed);
    assert_eq!(solos[1].state(RpcId(9)), None);
    assert_eq!(solos[1].shard.poll_missed_ack(), None, "it does not go round");
}

fn paced() -> Config {
    // 5 us at 10 Gbps: 6,250 bytes; 2 us are reserved at a time.
    Config { link_bps: 10_000_000_000, early_packet: false, ..Config::default() }
}

/// Packets that `solo` sends now, of a message of `length` bytes begun before.
fn data_sent(solo: &mut Solo) -> usize {
    solo.sent().iter().filter(|frame| matches!(frame.packet.body, Body::Data(_))).count()
}

#[test]
fn all_shards_together_keep_the_backlog_short() {
    let alone = {
        let (_, mut solos) = shards(1, &paced());
        solos[0].call(40_000, 0);
        data_sent(&mut solos[0])
    };
    assert_eq!(alone, 5);
    let (_, mut solos) = shards(4, &paced());
    for solo in &mut solos {
        solo.call(40_000, 0);
    }
    let together: usize = solos.iter_mut().map(data_sent).sum();
    assert!((alone..=alone + 2).contains(&together), "{together} packets, alone {alone}");
    // And at the rate of the link: 40 us are 50,000 bytes.
    let mut packets = 0;
    for us in 1..=40 {
        for solo in &mut solos {
            solo.now = Nanos::from_ms(1) + Nanos::from_us(us);
            packets += data_sent(solo);
        }
    }
    let bytes = packets * 1_542;
    assert!((46_000..=54_000).contains(&bytes), "{bytes} bytes in 40 us");
}

#[test]
fn the_shorter_message_of_another_shard_goes_first() {
    let (_, mut solos) = shards(2, &paced());
    solos[0].call(40_000, 0);
    data_sent(&mut solos[0]);
    solos[1].call(5_000, 0);
    assert_eq!(data_sent(&mut solos[1]), 0, "the backlog is at its limit");
    // Half of the backlog has gone: there is room, but not for the longer one.
    let later = solos[0].now + Nanos::from_us(3);
    solos[0].now = later;
    solos[1].now = later;
    assert_eq!(data_sent(&mut solos[0]), 0);
    let due = solos[0].shard.next_deadline(later).unwrap();
    assert!(due > later, "no deadline that nothing meets");
    assert!(data_sent(&mut solos[1]) >= 1);
    // Everything sent before is on the wire: nobody waits for anybody.
    solos[0].now = later + Nanos::from_us(20);
    assert!(data_sent(&mut solos[0]) >= 1);
}

#[test]
fn cutoffs_are_made_of_what_all_shards_have_seen() {
    let (_, mut solos) = shards(2, &Config { cutoffs_auto: true, ..config() });
    // Neither shard has seen enough for itself.
    for (at, solo) in solos.iter_mut().enumerate() {
        for n in 0..6_000 {
            let length = 1 + (n * 7 + at as u32) % 1_400;
            solo.client_sends(RpcId(u64::from(n) * 2 + 2), data(0..length, length));
            let (rpc, _) = solo.request();
            solo.shard.abort(solo.now, rpc);
        }
    }
    let before = solos[0].shard.cutoffs();
    for at in [1, 0, 1] {
        let solo = &mut solos[at];
        solo.now = solo.now + Nanos::from_secs(2);
        solo.shard.on_timer(solo.now);
    }
    let after = solos[0].shard.cutoffs();
    assert_ne!(after, before);
    assert_eq!(solos[1].shard.cutoffs(), after);
    // Both tell peers the same version.
    let mut versions = solos.iter_mut().map(|solo| {
        solo.client_sends(RpcId(100_000), data_with(0..10, 10, |data| data.cutoff_version = 1));
        solo.sent_briefs().into_iter().find(|brief| brief.starts_with("CUTOFFS")).unwrap()
    });
    let first = versions.next().unwrap();
    assert_eq!(versions.next().unwrap(), first);
}

#[test]
fn a_host_alone_shares_nothing_and_a_wrong_shard_is_named() {
    let (host, mut solos) = shards(1, &plain());
    feed(&mut solos[0], 1, 2, 0..1_000, 500_000);
    assert_eq!(grants(&mut solos[0]).len(), 1);
    assert_eq!(host.leased_bytes(0), 0, "its budget is its own");
    let wrong = Shard::sharing(Config { shard: 1, ..plain() }, (), &host).unwrap_err();
    assert_eq!((wrong.name, wrong.value, wrong.high), ("shard", 1, 0));
    assert_eq!(HostShare::new(65, &plain()).unwrap_err().name, "shards");
    let header = Header { sport: SERVICE, dport: SERVICE, sender_id: RpcId(2) };
    let packet = Packet { header, body: Body::Busy };
    solos[0].shard.on_packet(Nanos::from_ms(2), CLIENT, &packet, Bytes(Vec::new()));
    assert_eq!(solos[0].shard.poll_missed_ack(), None);
}
