//! Many responses at once: requests ask for responses that wait for their grants.

use super::solo::*;
use crate::time::Nanos;
use crate::transport::pair::*;
use crate::transport::*;
use crate::wire::{Body, Data, Resend, RpcId};

const ID: RpcId = RpcId(100);

fn incast(rpcs_min: usize) -> Config {
    Config { incast_rpcs_min: rpcs_min, ..config() }
}

fn marked(len: u32) -> Content {
    data_with(0..len, len, |data| data.incast = true)
}

/// A server that has a marked request of 100 bytes, and its answer of `len` bytes.
fn answering(len: u32) -> Solo {
    let mut solo = Solo::new(config());
    solo.client_sends(ID, marked(100));
    let (rpc, _) = solo.request();
    solo.reply(rpc, len);
    solo
}

#[test]
fn requests_are_marked_while_many_are_open() {
    let mut solo = Solo::new(incast(3));
    for cookie in 0..5 {
        solo.call(100, cookie);
    }
    let marks: Vec<bool> = solo
        .sent()
        .iter()
        .map(|frame| matches!(frame.packet.body, Body::Data(Data { incast: true, .. })))
        .collect();
    assert_eq!(marks, [false, false, false, true, true]);
    let mut solo = Solo::new(incast(0));
    for cookie in 0..5 {
        solo.call(100, cookie);
    }
    assert!(solo.sent_briefs().iter().all(|brief| !brief.contains("incast")), "switched off");
}

#[test]
fn a_long_response_is_announced_and_waits_for_grants() {
    let mut solo = answering(LENGTH);
    assert_eq!(solo.sent_briefs(), ["DATA 0..0/5000 incoming=0 cutoffs=0 @6"]);
    assert_eq!(solo.shard.metrics().responses_announced, 1);
    assert!(solo.sent().is_empty());
    solo.client_sends(ID, grant(SEGMENT, 2));
    assert_eq!(solo.sent_briefs(), ["DATA 0..1424/5000 incoming=0 cutoffs=0 @2"]);
    solo.client_sends(ID, grant(LENGTH, 3));
    assert_eq!(solo.sent().len(), 3);
}

#[test]
fn a_short_response_goes_at_once() {
    assert_eq!(answering(400).sent_briefs(), ["DATA 0..400/400 incoming=400 cutoffs=0 @6"]);
}

#[test]
fn a_lost_announcement_is_sent_again() {
    let mut solo = answering(LENGTH);
    assert_eq!(solo.sent().len(), 1);
    solo.client_sends(ID, resend(0, Resend::ALL, 7));
    let sent = solo.sent_briefs();
    assert!(sent.contains(&"DATA 0..0/5000 incoming=0 cutoffs=0 @6".into()), "{sent:?}");
    // Grants that were lost are made good by the RESEND itself.
    solo.client_sends(ID, resend(0, 2_000, 7));
    let sent = solo.sent_briefs();
    assert_eq!(sent.iter().filter(|brief| brief.starts_with("DATA")).count(), 2, "{sent:?}");
}

#[test]
fn an_announcement_makes_the_client_grant() {
    let mut solo = Solo::new(incast(1));
    solo.call(100, 0);
    let (_, id) = solo.call(100, 1);
    assert!(solo.sent_briefs()[1].contains("incast"));
    solo.server_sends(id, data_with(0..0, LENGTH, |data| data.incoming = 0));
    assert_eq!(solo.sent_briefs(), ["GRANT offset=5000 prio=0 @7"]);
    assert_eq!(solo.shard.metrics().duplicates, 0);
}

#[test]
fn marked_rpcs_survive_loss() {
    for loss_percent in [0, 20] {
        let mut pair = Pair::new(Config { incast_rpcs_min: 1, ..Config::default() });
        pair.seed(loss_percent);
        pair.faults = Faults { loss_percent, ..Faults::default() };
        let calls: Vec<_> = (0..60).map(|n| (n, [100, 2_000, 60_000][n as usize % 3])).collect();
        for (cookie, len) in &calls {
            pair.call(*len, *cookie);
        }
        pair.run(Nanos::from_ms(400), echo);
        pair.faults = Faults::default();
        pair.run(Nanos::from_secs(2), echo);
        assert!(pair.shards[1].metrics().responses_announced >= 40);
        pair.assert_echoed(&calls);
        pair.assert_empty();
    }
}
