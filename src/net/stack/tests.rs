use core::net::Ipv4Addr;

use super::*;
use crate::net::{HOMA_PROTOCOL, InterfaceAddr, UnreachableCause, arp, checksum};

mod ipv6;
mod neighbors;
mod pings;
mod quick_look;

use proptest::prelude::*;

const MAC: MacAddr = MacAddr([2, 0x77, 0, 0, 0, 2]);
const PEER_MAC: MacAddr = MacAddr([2, 0x77, 0, 0, 0, 3]);
const OTHER_MAC: MacAddr = MacAddr([2, 0x77, 0, 0, 0, 9]);
const IP: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 3);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
const START: Nanos = Nanos::from_secs(50);

fn config() -> Config {
    Config {
        mac: MAC,
        addresses: vec![InterfaceAddr::new(IP, 24)],
        announce: false,
        ..Config::default()
    }
}

fn stack_with(change: impl FnOnce(&mut Config)) -> Stack {
    let mut config = config();
    change(&mut config);
    Stack::new(config).unwrap()
}

fn stack() -> Stack {
    stack_with(|_| {})
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let octet = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(octet).collect()
}

/// A RESEND from the peer, as seen between Linux hosts.
fn homa_frame() -> Vec<u8> {
    hex("027700000002 027700000003 0800
         45e00039 00004000 409224b5 0a4d0003 0a4d0002
         8011138700000000 0000001250060000 4693b97d00000000 0000007400000000 ffffffff07")
}

/// The answer of Linux when nothing listens on the port, but for the ID and DF of its IP header.
fn linux_port_unreachable() -> Vec<u8> {
    hex("027700000003 027700000002 0800
         45c00055 00004000 4001254a 0a4d0002 0a4d0003
         030311c7 00000000
         45e00039 00004000 409224b5 0a4d0003 0a4d0002
         8011138700000000 0000001250060000 4693b97d00000000 0000007400000000 ffffffff07")
}

/// An IPv4 frame from the peer with a right checksum.
fn ipv4_frame(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = ipv4::header(src, dst, protocol);
    let partial = checksum::sum_20(&header);
    ipv4::complete(&mut header, partial, 0, (20 + payload.len()) as u16);
    let link = Link { mac: PEER_MAC, vlan: None }.header(MAC, ethernet::ETHERTYPE_IPV4);
    [&link[..14], &header, payload].concat()
}

fn arp_frame(dst: MacAddr, packet: arp::Packet) -> Vec<u8> {
    let link = Link { mac: packet.sender_mac, vlan: None }.header(dst, ethernet::ETHERTYPE_ARP);
    let mut frame = [&link[..14], &packet.to_bytes()].concat();
    frame.resize(60, 0);
    frame
}

fn request(ip: Ipv4Addr, mac: MacAddr, target_ip: Ipv4Addr) -> Vec<u8> {
    let packet = arp::Packet {
        operation: arp::Operation::Request,
        sender_mac: mac,
        sender_ip: ip,
        target_mac: MacAddr::UNSPECIFIED,
        target_ip,
    };
    arp_frame(MacAddr::BROADCAST, packet)
}

fn reply(ip: Ipv4Addr, mac: MacAddr) -> Vec<u8> {
    let packet = arp::Packet {
        operation: arp::Operation::Reply,
        sender_mac: mac,
        sender_ip: ip,
        target_mac: MAC,
        target_ip: IP,
    };
    arp_frame(MAC, packet)
}

fn tagged(frame: &[u8], tci: u16) -> Vec<u8> {
    [&frame[..12], &[0x81, 0x00], &tci.to_be_bytes(), &frame[12..]].concat()
}

fn receive(stack: &mut Stack, frame: &[u8]) -> Received {
    stack.receive(START, frame, frame.len(), IpChecksum::Unknown)
}

fn frames(stack: &mut Stack) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    stack.poll_transmit(usize::MAX, |frame| frames.push(frame.to_vec()));
    frames
}

fn events(stack: &mut Stack) -> Vec<NetEvent> {
    core::iter::from_fn(|| stack.poll_event()).collect()
}

fn ready(state: PathState) -> Path {
    match state {
        PathState::Ready(path) => path,
        other => panic!("no path: {other:?}"),
    }
}

fn unreachable(state: PathState) -> UnreachableReason {
    match state {
        PathState::Unreachable(reason) => reason,
        other => panic!("not unreachable: {other:?}"),
    }
}

fn with_icmp_checksum(mut message: Vec<u8>) -> Vec<u8> {
    message[2..4].fill(0);
    let sum = checksum::finish(checksum::sum(&message));
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

#[test]
fn a_homa_packet_is_found_without_its_padding() {
    let mut stack = stack();
    let mut frame = homa_frame();
    let expected = Datagram {
        src: PEER.into(),
        dst: IP.into(),
        priority: 7,
        encapsulation: Encapsulation::Native,
        start: 34,
        len: 37,
    };
    assert_eq!(receive(&mut stack, &frame), Received::Homa(expected));
    frame.extend([0xEE; 9]);
    assert_eq!(receive(&mut stack, &frame), Received::Homa(expected));
    assert_eq!((stack.counters().homa_received, stack.counters().dropped()), (2, 0));
}

#[test]
fn several_segments_are_measured_together() {
    let mut stack = stack();
    let frame = ipv4_frame(PEER, IP, HOMA_PROTOCOL, &[0x55; 1480]);
    let Received::Homa(datagram) = stack.receive(START, &frame[..128], 1514, IpChecksum::Good)
    else {
        panic!("a packet in several segments was not taken");
    };
    assert_eq!((datagram.start, datagram.len), (34, 1480));
    let short = stack.receive(START, &frame[..128], 1513, IpChecksum::Good);
    assert_eq!(short, Received::Dropped(DropReason::Ipv4Malformed));
}

#[test]
fn marked_tcp_is_homa_and_other_tcp_is_not() {
    let mut stack = stack();
    let mut frame = ipv4_frame(PEER, IP, 6, &homa_frame()[34..]);
    let Received::Homa(datagram) = receive(&mut stack, &frame) else {
        panic!("marked TCP was not taken");
    };
    assert_eq!((datagram.encapsulation, datagram.len), (Encapsulation::MarkedTcp, 37));
    assert_eq!(stack.counters().marked_tcp_received, 1);
    frame[34 + 13] = 0x02;
    assert_eq!(receive(&mut stack, &frame), Received::Dropped(DropReason::TcpUnmarked));
}

/// Each row: a byte of a good frame, what to write there, and the answer if the NIC vouches for the
/// checksum. The counter of that reason, and no other, goes up by one.
#[test]
fn bad_frames_row_by_row() {
    let rows: [(usize, u8, DropReason); 17] = [
        (5, 9, DropReason::OtherMac),
        (0, 0x03, DropReason::Group),
        (12, 0x88, DropReason::UnknownEthertype),
        (13, 0x06, DropReason::ArpMalformed),
        (14, 0x65, DropReason::Ipv4Malformed),
        (14, 0x43, DropReason::Ipv4Malformed),
        (17, 19, DropReason::Ipv4Malformed),
        (17, 58, DropReason::Ipv4Malformed),
        (20, 0x20, DropReason::Fragment),
        (21, 0x10, DropReason::Fragment),
        (23, 17, DropReason::UnknownProtocol),
        (23, 1, DropReason::IcmpChecksum),
        (26, 224, DropReason::MartianSource),
        (26, 127, DropReason::MartianSource),
        (29, 2, DropReason::MartianSource),
        (33, 255, DropReason::Group),
        (33, 4, DropReason::OtherAddress),
    ];
    for (at, value, reason) in rows {
        let mut stack = stack();
        let mut frame = homa_frame();
        frame[at] = value;
        let received = stack.receive(START, &frame, frame.len(), IpChecksum::Good);
        assert_eq!(received, Received::Dropped(reason), "byte {at} = {value:#x}");
        let mut expected = Counters::default();
        expected.count_drop(reason);
        assert_eq!(stack.counters(), &expected, "byte {at} = {value:#x}");
        assert_eq!((frames(&mut stack), events(&mut stack)), (vec![], vec![]));
    }
}

#[test]
fn a_bad_checksum_is_found_by_nic_or_software() {
    let mut stack = stack();
    let dropped = Received::Dropped(DropReason::Ipv4Checksum);
    let mut frame = homa_frame();
    assert_eq!(stack.receive(START, &frame, frame.len(), IpChecksum::Bad), dropped);
    frame[22] ^= 1;
    assert_eq!(receive(&mut stack, &frame), dropped);
    assert_eq!(stack.counters().drop_ipv4_checksum, 2);
}

#[test]
fn frames_cut_anywhere_are_dropped() {
    let arp = request(PEER, PEER_MAC, IP);
    for frame in [homa_frame(), tagged(&homa_frame(), 5), arp[..42].to_vec()] {
        for len in 0..frame.len() {
            let mut stack = stack_with(|c| c.vlan = (frame[12] == 0x81).then_some(5));
            let received = receive(&mut stack, &frame[..len]);
            assert!(matches!(received, Received::Dropped(_)), "{len} bytes: {received:?}");
            stack.port_unreachable(START, &frame[..len]);
        }
    }
}

/// Each row: the VLAN we are on, whether we take untagged frames all the same, the tag of the frame,
/// whether it is taken.
#[test]
fn vlans_row_by_row() {
    let rows = [
        (None, false, None, true),
        (None, false, Some(0), true),
        (None, false, Some(0xE000), true),
        (None, false, Some(5), false),
        (Some(5), false, Some(5), true),
        (Some(5), false, Some(0xE005), true),
        (Some(5), false, Some(6), false),
        (Some(5), false, Some(0), false),
        (Some(5), false, None, false),
        (Some(5), true, None, true),
        (Some(5), true, Some(5), true),
        (Some(5), true, Some(6), false),
    ];
    for row in rows {
        let (vlan, vlan_accept_untagged, tci, taken) = row;
        let mut stack = stack_with(|c| {
            c.vlan = vlan;
            c.vlan_accept_untagged = vlan_accept_untagged;
        });
        for frame in [homa_frame(), request(PEER, PEER_MAC, IP)] {
            let frame = tci.map_or_else(|| frame.clone(), |tci| tagged(&frame, tci));
            match receive(&mut stack, &frame) {
                Received::Homa(datagram) => {
                    assert!(taken, "{row:?}");
                    assert_eq!(datagram.start, if tci.is_some() { 38 } else { 34 });
                }
                Received::Consumed => assert!(taken, "{row:?}"),
                Received::Dropped(reason) => {
                    assert_eq!((taken, reason), (false, DropReason::OtherVlan), "{row:?}");
                }
            }
        }
        for frame in frames(&mut stack) {
            assert_eq!(frame[12..14] == [0x81, 0x00], vlan.is_some(), "{row:?}");
        }
    }
}

#[test]
fn arp_is_answered_byte_by_byte() {
    let mut stack = stack();
    // As seen between Linux hosts.
    let request = hex("ffffffffffff 027700000003 0806
                       0001080006040001 027700000003 0a4d0003 000000000000 0a4d0002");
    assert_eq!(receive(&mut stack, &request), Received::Consumed);
    let mut answer = hex("027700000003 027700000002 0806
                          0001080006040002 027700000002 0a4d0002 027700000003 0a4d0003");
    answer.resize(60, 0);
    assert_eq!(frames(&mut stack), [answer]);
    // Who asked is known without asking back.
    assert_eq!(ready(stack.path(START, PEER.into())).dst_mac(), PEER_MAC);
    assert_eq!((frames(&mut stack), stack.counters().arp_replies_sent), (vec![], 1));
}

#[test]
fn arp_that_teaches_nothing() {
    let mut stack = stack();
    let ignored = Received::Dropped(DropReason::ArpIgnored);
    for frame in [
        reply(PEER, PEER_MAC),
        request(PEER, PEER_MAC, PEER),
        request(PEER, PEER_MAC, GATEWAY),
        request(Ipv4Addr::UNSPECIFIED, PEER_MAC, PEER),
    ] {
        assert_eq!(receive(&mut stack, &frame), ignored);
    }
    let own = receive(&mut stack, &request(PEER, MAC, IP));
    assert_eq!(own, Received::Dropped(DropReason::OwnMac));
    assert_eq!(frames(&mut stack), [[0_u8; 0]; 0]);
    // Answered, but not learned: a probe has no sender, and FAR is not on the link.
    for sender in [Ipv4Addr::UNSPECIFIED, FAR] {
        assert_eq!(receive(&mut stack, &request(sender, PEER_MAC, IP)), Received::Consumed);
        assert_eq!(frames(&mut stack).len(), 1);
    }
    assert_eq!(stack.counters().neighbors_learned, 0);
    assert!(matches!(stack.path(START, PEER.into()), PathState::Resolving));
}

#[test]
fn several_stacks_learn_and_one_answers() {
    let mut quiet = stack_with(|c| c.arp_responder = false);
    assert_eq!(receive(&mut quiet, &request(PEER, PEER_MAC, IP)), Received::Consumed);
    assert_eq!(frames(&mut quiet), [[0_u8; 0]; 0]);
    assert_eq!(ready(quiet.path(START, PEER.into())).dst_mac(), PEER_MAC);
    assert!(ethernet::is_neighbor_discovery(&request(PEER, PEER_MAC, IP)));
    assert!(!ethernet::is_neighbor_discovery(&homa_frame()));
}

#[test]
fn resolving_a_neighbor_in_virtual_time() {
    let mut stack = stack();
    let generation = stack.generation();
    assert_ne!(generation, 0);
    assert!(matches!(stack.path(START, PEER.into()), PathState::Resolving));
    let question = hex("ffffffffffff 027700000002 0806
                        0001080006040001 027700000002 0a4d0002 000000000000 0a4d0003");
    assert_eq!(frames(&mut stack)[0][..42], question);
    assert_eq!(stack.next_deadline(), Some(START + Nanos::from_ms(200)));
    stack.on_timer(START + Nanos::from_ms(199));
    assert_eq!(frames(&mut stack), [[0_u8; 0]; 0]);
    stack.on_timer(START + Nanos::from_ms(200));
    assert_eq!(frames(&mut stack)[0][..42], question);
    assert_eq!(receive(&mut stack, &reply(PEER, PEER_MAC)), Received::Consumed);
    assert_eq!(events(&mut stack), [NetEvent::Resolved(PEER.into())]);
    assert_ne!(stack.generation(), generation);

    let path = ready(stack.path(START, PEER.into()));
    assert_eq!((path.dst(), path.dst_mac()), (PEER.into(), PEER_MAC));
    let mut out = vec![0; path.header_len()];
    path.write(&mut out, 7, 37);
    let expected = hex("027700000003 027700000002 0800
                        45e00039 00004000 409224b5 0a4d0002 0a4d0003");
    assert_eq!(out, expected);
}

#[test]
fn a_neighbor_that_does_not_answer() {
    let mut stack = stack();
    let generation = stack.generation();
    stack.path(START, PEER.into());
    let mut now = START;
    while let Some(deadline) = stack.next_deadline() {
        now = deadline;
        stack.on_timer(now);
    }
    assert_eq!(now, START + Nanos::from_ms(600));
    assert_eq!(frames(&mut stack).len(), 3);
    assert_eq!(events(&mut stack), [NetEvent::ResolutionFailed(PEER.into())]);
    assert_ne!(stack.generation(), generation);
    assert_eq!(stack.counters().resolutions_failed, 1);
    let state = stack.path(now, PEER.into());
    assert_eq!(unreachable(state), UnreachableReason::NoAnswer);
    assert!(matches!(stack.path(now + Nanos::from_secs(1), PEER.into()), PathState::Resolving));
}

#[test]
fn an_old_neighbor_is_asked_directly_and_a_moved_one_renews_paths() {
    let mut stack = stack();
    receive(&mut stack, &request(PEER, PEER_MAC, IP));
    let generation = stack.generation();
    ready(stack.path(START, PEER.into()));
    let stale_at = stack.next_deadline().unwrap();
    stack.on_timer(stale_at);
    assert_ne!(stack.generation(), generation);
    frames(&mut stack);
    ready(stack.path(stale_at, PEER.into()));
    stack.on_timer(stack.next_deadline().unwrap());
    let question = hex("027700000003 027700000002 0806
                        0001080006040001 027700000002 0a4d0002 027700000003 0a4d0003");
    assert_eq!(frames(&mut stack)[0][..42], question);

    let generation = stack.generation();
    // The gratuitous announcement of a station that took the address over.
    assert_eq!(receive(&mut stack, &request(PEER, OTHER_MAC, PEER)), Received::Consumed);
    assert_ne!(stack.generation(), generation);
    assert_eq!(ready(stack.path(stale_at, PEER.into())).dst_mac(), OTHER_MAC);
    assert_eq!(stack.counters().neighbors_moved, 1);
}

#[test]
fn neighbors_that_ask_us_meanwhile_are_not_asked() {
    let mut stack = stack_with(|c| c.gateways = vec![GATEWAY.into()]);
    receive(&mut stack, &request(GATEWAY, PEER_MAC, IP));
    ready(stack.path(START, FAR.into()));
    frames(&mut stack);
    for _ in 0..10 {
        let now = stack.next_deadline().unwrap();
        stack.on_timer(now);
        ready(stack.path(now, FAR.into()));
        // Within the delay: nothing but the reply to it leaves.
        let question = request(GATEWAY, PEER_MAC, IP);
        stack.receive(now, &question, question.len(), IpChecksum::Unknown);
        assert_eq!(frames(&mut stack).len(), 1);
    }
    assert_eq!(stack.counters().arp_requests_sent, 0);
}

#[test]
fn far_destinations_go_through_the_gateway() {
    let mut stack = stack_with(|c| c.gateways = vec![GATEWAY.into()]);
    assert!(matches!(stack.path(START, FAR.into()), PathState::Resolving));
    assert_eq!(frames(&mut stack)[0][38..42], GATEWAY.octets());
    receive(&mut stack, &reply(GATEWAY, OTHER_MAC));
    assert_eq!(events(&mut stack), [NetEvent::Resolved(GATEWAY.into())]);
    assert_eq!(stack.next_hop(FAR.into()), Some(GATEWAY.into()));
    let path = ready(stack.path(START, FAR.into()));
    assert_eq!((path.dst(), path.dst_mac()), (FAR.into(), OTHER_MAC));
    assert_eq!(stack.next_hop(PEER.into()), Some(PEER.into()));
    assert!(matches!(stack.path(START, PEER.into()), PathState::Resolving));
}

#[test]
fn destinations_that_cannot_be_sent_to() {
    let mut stack = stack();
    for (dst, reason) in [
        (IpAddr::from(FAR), UnreachableReason::NoRoute),
        (IP.into(), UnreachableReason::OwnAddress),
        (Ipv4Addr::UNSPECIFIED.into(), UnreachableReason::NotUnicast),
        (Ipv4Addr::BROADCAST.into(), UnreachableReason::NotUnicast),
        (Ipv4Addr::new(10, 77, 0, 255).into(), UnreachableReason::NotUnicast),
        (Ipv4Addr::new(239, 1, 1, 1).into(), UnreachableReason::NotUnicast),
        (Ipv4Addr::LOCALHOST.into(), UnreachableReason::NotUnicast),
        ("fd77::3".parse().unwrap(), UnreachableReason::NoAddress),
        (FAR.to_ipv6_mapped().into(), UnreachableReason::NoRoute),
    ] {
        assert_eq!(unreachable(stack.path(START, dst)), reason, "{dst}");
        assert_eq!(stack.next_hop(dst), None, "{dst}");
    }
    assert_eq!(frames(&mut stack), [[0_u8; 0]; 0]);
    // An IPv4 address is the same address when written as an IPv6 one.
    assert!(matches!(stack.path(START, PEER.to_ipv6_mapped().into()), PathState::Resolving));
}

#[test]
fn static_neighbors_need_no_resolution() {
    let neighbors = vec![(PEER.into(), PEER_MAC), (FAR.into(), OTHER_MAC)];
    let mut stack = stack_with(|c| c.static_neighbors = neighbors);
    assert_eq!(ready(stack.path(START, PEER.into())).dst_mac(), PEER_MAC);
    assert_eq!(ready(stack.path(START, FAR.into())).dst_mac(), OTHER_MAC);
    let received = receive(&mut stack, &reply(PEER, OTHER_MAC));
    assert_eq!(received, Received::Dropped(DropReason::StaticMismatch));
    assert_eq!(ready(stack.path(START, PEER.into())).dst_mac(), PEER_MAC);
    assert_eq!((frames(&mut stack), stack.next_deadline()), (vec![], None));
}

#[test]
fn a_loopback_port_reaches_ourselves() {
    let mut stack = stack_with(|c| c.loopback = true);
    let path = ready(stack.path(START, IP.into()));
    let mut frame = vec![0x55; path.header_len() + 28];
    path.write(&mut frame, 3, 28);
    let Received::Homa(datagram) = receive(&mut stack, &frame) else {
        panic!("a frame to ourselves was not taken");
    };
    assert_eq!((datagram.src, datagram.dst, datagram.priority), (IP.into(), IP.into(), 3));
}

#[test]
fn the_address_is_announced_twice() {
    let mut stack = stack_with(|c| c.announce = true);
    let announcement = hex("ffffffffffff 027700000002 0806
                            0001080006040001 027700000002 0a4d0002 000000000000 0a4d0002");
    assert_eq!(stack.next_deadline(), Some(Nanos::ZERO));
    stack.on_timer(START);
    assert_eq!(frames(&mut stack)[0][..42], announcement);
    assert_eq!(stack.next_deadline(), Some(START + Nanos::from_secs(2)));
    stack.on_timer(START + Nanos::from_secs(2));
    assert_eq!(frames(&mut stack)[0][..42], announcement);
    assert_eq!(stack.next_deadline(), None);
    stack.announce(START);
    assert_eq!(stack.next_deadline(), Some(START));
    assert_eq!(stack.counters().announcements_sent, 2);

    let mut silent = stack_with(|c| c.announce = false);
    silent.announce(START);
    assert_eq!(silent.next_deadline(), None);
}

#[test]
fn another_user_of_the_address_is_told_and_answered_now_and_then() {
    let mut stack = stack_with(|c| c.announce = true);
    let intruder = request(IP, OTHER_MAC, PEER);
    assert_eq!(receive(&mut stack, &intruder), Received::Consumed);
    assert_eq!(receive(&mut stack, &intruder), Received::Consumed);
    let conflict = NetEvent::AddressConflict { ip: IP.into(), mac: OTHER_MAC };
    assert_eq!(events(&mut stack), [conflict]);
    let defence = frames(&mut stack);
    assert_eq!((defence.len(), &defence[0][28..32]), (1, &IP.octets()[..]));
    let later = START + Nanos::from_secs(10);
    stack.receive(later, &intruder, intruder.len(), IpChecksum::Unknown);
    assert_eq!(events(&mut stack), [conflict]);
    assert_eq!(stack.counters().address_conflicts, 3);
}

#[test]
fn port_unreachable_is_that_of_linux() {
    let mut stack = stack();
    stack.port_unreachable(START, &homa_frame());
    let sent = frames(&mut stack);
    assert_eq!(sent, [linux_port_unreachable()]);
    assert_eq!(stack.counters().port_unreachable_sent, 1);
    // Padding is not quoted.
    let mut padded = homa_frame();
    padded.resize(90, 0);
    stack.port_unreachable(START, &padded);
    assert_eq!(frames(&mut stack), sent);
}

#[test]
fn a_long_packet_is_quoted_up_to_576_bytes() {
    let mut stack = stack();
    let offending = ipv4_frame(PEER, IP, HOMA_PROTOCOL, &[0x55; 1480]);
    // One time all of it is at hand, one time the first segment only.
    for (in_segment, sent_bytes) in [(1514, 14 + 576), (100, 14 + 28 + 86)] {
        stack.port_unreachable(START, &offending[..in_segment]);
        let sent = frames(&mut stack).remove(0);
        assert_eq!(sent.len(), sent_bytes);
        assert!(checksum::is_valid(checksum::sum(&sent[34..])));
        assert_eq!(sent[42..], offending[14..][..sent_bytes - 42]);
    }
}

#[test]
fn port_unreachable_is_limited() {
    let mut stack = stack_with(|c| {
        c.icmp_rate_per_s = 100;
        c.icmp_burst = 3;
    });
    for _ in 0..10 {
        stack.port_unreachable(START, &homa_frame());
    }
    assert_eq!(frames(&mut stack).len(), 3);
    stack.port_unreachable(START + Nanos::from_ms(10), &homa_frame());
    assert_eq!(frames(&mut stack).len(), 1);
    let counters = stack.counters();
    assert_eq!((counters.port_unreachable_sent, counters.port_unreachable_limited), (4, 7));
}

#[test]
fn what_must_not_be_answered_is_not() {
    let rows: [(usize, u8, &str); 9] = [
        (0, 0x03, "to a group of stations"),
        (6, 0x03, "from a group of stations"),
        (20, 0x20, "first fragment"),
        (21, 0x01, "other fragment"),
        (23, 1, "ICMP"),
        (26, 224, "from a multicast address"),
        (29, 255, "from a broadcast address"),
        (33, 255, "to a broadcast address"),
        (13, 0x06, "ARP"),
    ];
    let mut stack = stack();
    for (at, value, why) in rows {
        let mut frame = homa_frame();
        frame[at] = value;
        stack.port_unreachable(START, &frame);
        assert_eq!(frames(&mut stack), [[0_u8; 0]; 0], "{why}");
    }
    assert_eq!(stack.counters().port_unreachable_refused, rows.len() as u64);
}

/// What one stack sends, another understands.
#[test]
fn a_port_unreachable_becomes_an_event() {
    let mut stack = stack_with(|c| {
        c.mac = PEER_MAC;
        c.addresses = vec![InterfaceAddr::new(PEER, 24)];
    });
    assert_eq!(receive(&mut stack, &linux_port_unreachable()), Received::Consumed);
    let quoted = QuotedPacket {
        src: PEER.into(),
        dst: IP.into(),
        src_port: 0x8011,
        dst_port: 0x1387,
        sender_id: Some(0x74),
        packet_bytes: 57,
    };
    let cause = UnreachableCause::Port;
    let event = NetEvent::PeerUnreachable { reporter: IP.into(), cause, code: 3, quoted };
    assert_eq!(events(&mut stack), [event]);
    assert_eq!(stack.counters().unreachable_received, 1);
    // The same message to a host that did not send the quoted packet.
    let mut other = stack_with(|c| {
        c.mac = PEER_MAC;
        c.addresses = vec![InterfaceAddr::new(PEER, 24)];
    });
    let mut forged = linux_port_unreachable()[34..].to_vec();
    forged[8 + 15] = 9;
    let frame = ipv4_frame(IP, PEER, ipv4::PROTOCOL_ICMP, &with_icmp_checksum(forged));
    let frame = [&PEER_MAC.0[..], &MAC.0, &frame[12..]].concat();
    assert_eq!(receive(&mut other, &frame), Received::Dropped(DropReason::IcmpNotOurs));
    assert_eq!(events(&mut other), []);
}

#[test]
fn an_mtu_hint_becomes_an_event_if_it_can_be_true() {
    let mut stack = stack();
    let quoted = &ipv4_frame(IP, FAR, HOMA_PROTOCOL, &[0x55; 1480])[14..42];
    let mut hint = |mtu_bytes: u16| {
        let [high, low] = mtu_bytes.to_be_bytes();
        let message = [&[3, 4, 0, 0, 0, 0, high, low], quoted].concat();
        let message = with_icmp_checksum(message);
        receive(&mut stack, &ipv4_frame(GATEWAY, IP, ipv4::PROTOCOL_ICMP, &message))
    };
    for mtu_bytes in [0, 67, 1500, 9000] {
        assert_eq!(hint(mtu_bytes), Received::Dropped(DropReason::IcmpNotOurs), "{mtu_bytes}");
    }
    assert_eq!(hint(1400), Received::Consumed);
    let quoted = QuotedPacket {
        src: IP.into(),
        dst: FAR.into(),
        src_port: 0x5555,
        dst_port: 0x5555,
        sender_id: None,
        packet_bytes: 1500,
    };
    let event = NetEvent::MtuHint { reporter: GATEWAY.into(), mtu_bytes: 1400, quoted };
    assert_eq!(events(&mut stack), [event]);
}

#[test]
fn errors_that_do_not_say_which_rpc_are_heard_now_and_then() {
    let mut stack = stack();
    let packet = &ipv4_frame(IP, PEER, HOMA_PROTOCOL, &[0x55; 200])[14..];
    let mut error = |now, quoted_bytes: usize| {
        let message = [&[3, 3, 0, 0, 0, 0, 0, 0], &packet[..quoted_bytes]].concat();
        let frame = ipv4_frame(PEER, IP, ipv4::PROTOCOL_ICMP, &with_icmp_checksum(message));
        let received = stack.receive(now, &frame, frame.len(), IpChecksum::Good);
        while stack.poll_event().is_some() {}
        received == Received::Consumed
    };
    let (short, long) = (28, 100);
    assert_eq!((0..40).filter(|_| error(START, short)).count(), 20);
    assert!((0..20).all(|_| error(START, long)));
    let later = START + Nanos::from_ms(50);
    assert_eq!((0..20).filter(|_| error(later, short)).count(), 5);
}

#[test]
fn full_queues_lose_and_count() {
    let mut stack = stack_with(|c| {
        c.own_frames_max = 2;
        c.events_max = 1;
    });
    for last in 3..6 {
        receive(&mut stack, &request(Ipv4Addr::new(10, 77, 0, last), PEER_MAC, IP));
    }
    assert_eq!((frames(&mut stack).len(), stack.counters().own_frames_lost), (2, 1));
    for last in 10..13 {
        let ip = Ipv4Addr::new(10, 77, 0, last);
        stack.path(START, ip.into());
        receive(&mut stack, &reply(ip, PEER_MAC));
    }
    assert_eq!((events(&mut stack).len(), stack.counters().events_lost), (1, 2));
}

#[test]
fn a_wrong_configuration_makes_no_stack() {
    let address = InterfaceAddr::new(IP, 40);
    let error = Stack::new(Config { addresses: vec![address], ..config() }).unwrap_err();
    assert_eq!(error, ConfigError::PrefixLen(address));
}

/// Bytes that get far: a frame of one of the known kinds, changed in a few places and cut.
fn near_frames() -> impl Strategy<Value = Vec<u8>> {
    let kinds = vec![
        homa_frame(),
        tagged(&homa_frame(), 0),
        request(PEER, PEER_MAC, IP),
        reply(PEER, PEER_MAC),
        ipv4_frame(PEER, IP, 1, &with_icmp_checksum(hex("08000000 12340001 a55a77"))),
        ipv4_frame(PEER, IP, 1, &linux_port_unreachable()[34..]),
    ];
    let changes = proptest::collection::vec((0_usize..100, any::<u8>()), 0..4);
    (proptest::sample::select(kinds), changes, 0_usize..120).prop_map(
        |(mut frame, changes, cut)| {
            for (at, value) in changes {
                if let Some(byte) = frame.get_mut(at) {
                    *byte = value;
                }
            }
            frame.truncate(cut);
            frame
        },
    )
}

proptest! {
    /// No bytes make the stack panic, and a Homa packet lies within its frame.
    #[test]
    fn any_bytes_are_survived(
        noise in proptest::collection::vec(any::<u8>(), 0..200),
        near in near_frames(),
        more_bytes in 0_usize..2_000,
        ms in 0_u64..5_000,
    ) {
        let mut stack = stack_with(|c| c.gateways = vec![GATEWAY.into()]);
        let mut addressed = noise.clone();
        addressed.splice(..addressed.len().min(6), MAC.0);
        for frame in [noise, addressed, near] {
            for checksum in [IpChecksum::Good, IpChecksum::Unknown] {
                let now = START + Nanos::from_ms(ms);
                let frame_len = frame.len() + more_bytes;
                let received = stack.receive(now, &frame, frame_len, checksum);
                if let Received::Homa(datagram) = received {
                    prop_assert!(datagram.start <= frame.len());
                    prop_assert!(datagram.start + datagram.len <= frame_len);
                }
                stack.port_unreachable(now, &frame);
                stack.on_timer(now);
                for own in frames(&mut stack) {
                    prop_assert!((60..=1518).contains(&own.len()));
                }
                while stack.poll_event().is_some() {}
            }
        }
    }

    /// What a path writes, a stack at the other end reads.
    #[test]
    fn written_headers_are_read(
        priority in 0_u8..8,
        payload_len in 0_usize..3_000,
        vlan in proptest::option::of(1_u16..4095),
        vlan_pcp_from_priority: bool,
    ) {
        let mut sender = stack_with(|c| {
            c.vlan = vlan;
            c.vlan_pcp_from_priority = vlan.is_some() && vlan_pcp_from_priority;
            c.static_neighbors = vec![(PEER.into(), PEER_MAC)];
        });
        let mut receiver = stack_with(|c| {
            c.mac = PEER_MAC;
            c.addresses = vec![InterfaceAddr::new(PEER, 24)];
            c.vlan = vlan;
        });
        let path = ready(sender.path(START, PEER.into()));
        let mut frame = vec![0; path.header_len() + payload_len];
        path.write(&mut frame, priority, payload_len);
        let expected = Datagram {
            src: IP.into(),
            dst: PEER.into(),
            priority,
            encapsulation: Encapsulation::Native,
            start: path.header_len(),
            len: payload_len,
        };
        prop_assert_eq!(receive(&mut receiver, &frame), Received::Homa(expected));
    }
}
