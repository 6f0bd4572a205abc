//! Many neighbours at once.

use super::*;

fn neighbor(n: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits(IP.to_bits() + 256 + u32::from(n))
}

/// Lets `stack` act at `now`; every question for the station of a neighbour is answered. Says what
/// became known.
fn act_and_be_answered(stack: &mut Stack, now: Nanos) -> Vec<NetEvent> {
    stack.on_timer(now);
    for question in frames(stack) {
        let asked = arp::Packet::parse(&question[ethernet::HEADER_BYTES..]).unwrap();
        receive_at(stack, now, &reply(asked.target_ip, PEER_MAC));
    }
    events(stack)
}

fn receive_at(stack: &mut Stack, now: Nanos, frame: &[u8]) {
    stack.receive(now, frame, frame.len(), IpChecksum::Unknown);
}

/// All become stale at once and are used on: far more questions than wait for the port at a time.
#[test]
fn a_thousand_neighbors_that_answer_are_never_given_up() {
    let mut stack = stack_with(|c| c.addresses = vec![InterfaceAddr::new(IP, 16)]);
    let all = || (0..1_000).map(neighbor);
    for ip in all() {
        receive_at(&mut stack, START, &request(ip, PEER_MAC, IP));
        ready(stack.path(START, ip.into()));
        frames(&mut stack);
    }
    let mut now = stack.next_deadline().unwrap();
    stack.on_timer(now);
    for ip in all() {
        ready(stack.path(now, ip.into()));
    }
    let end = now + Nanos::from_secs(20);
    while let Some(deadline) = stack.next_deadline().filter(|&deadline| deadline < end) {
        now = deadline.max(now);
        assert_eq!(act_and_be_answered(&mut stack, now), []);
        for ip in all() {
            ready(stack.path(now, ip.into()));
        }
    }
    let counters = stack.counters();
    assert!(counters.own_frames_lost > 0, "the queue was long enough for all");
    assert_eq!((counters.arp_requests_sent, counters.resolutions_failed), (1_000, 0));
}
