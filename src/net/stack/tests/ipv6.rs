//! Conversations of a host with IPv6 and of one with both families.

use core::net::Ipv6Addr;

use super::super::super::{icmpv6, ipv6, ndp};
use super::*;

const IP6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2);
const LOCAL6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
const PEER6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 3);
const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xfe);
const FAR6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);

fn dual_with(change: impl FnOnce(&mut Config)) -> Stack {
    stack_with(|c| {
        c.addresses.push(InterfaceAddr::new(IP6, 64));
        c.addresses.push(InterfaceAddr::new(LOCAL6, 64));
        change(c);
    })
}

fn dual() -> Stack {
    dual_with(|_| {})
}

/// An IPv6 frame from the peer's station.
fn frame(dst_mac: MacAddr, packet: ipv6::Packet, payload: &[u8]) -> Vec<u8> {
    let mut header = ipv6::header(packet.src, packet.dst, packet.next_header, packet.hop_limit);
    ipv6::complete(&mut header, packet.traffic_class, payload.len() as u16);
    let link = Link { mac: PEER_MAC, vlan: None }.header(dst_mac, ethernet::ETHERTYPE_IPV6);
    [&link[..14], &header, payload].concat()
}

fn packet(src: Ipv6Addr, dst: Ipv6Addr, next_header: u8) -> ipv6::Packet {
    ipv6::Packet {
        traffic_class: 0xE0,
        next_header,
        hop_limit: 64,
        src,
        dst,
        header_bytes: 40,
        total_bytes: 40,
    }
}

fn homa() -> Vec<u8> {
    frame(MAC, packet(PEER6, IP6, HOMA_PROTOCOL), &homa_frame()[34..])
}

fn icmp(src: Ipv6Addr, dst: Ipv6Addr, mut message: Vec<u8>) -> Vec<u8> {
    message[2..4].fill(0);
    icmpv6::complete(&mut message, src, dst);
    frame(MAC, packet(src, dst, 58), &message)
}

fn discovery(dst_mac: MacAddr, src: Ipv6Addr, dst: Ipv6Addr, message: ndp::Message) -> Vec<u8> {
    let mut room = ndp::Message::room();
    let bytes = message.emit(&mut room);
    icmpv6::complete(bytes, src, dst);
    frame(dst_mac, ipv6::Packet { hop_limit: 255, ..packet(src, dst, 58) }, bytes)
}

/// Who has `target`? As the kernel asks for it.
fn solicitation(src: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let group = ipv6::solicited_node(target);
    let source_mac = (!src.is_unspecified()).then_some(PEER_MAC);
    let message = ndp::Message::Solicitation { target, source_mac };
    discovery(ipv6::multicast_mac(group), src, group, message)
}

fn advertisement(target: Ipv6Addr, mac: MacAddr, is_solicited: bool, over: bool) -> Vec<u8> {
    let message = ndp::Message::Advertisement {
        target,
        target_mac: Some(mac),
        is_solicited,
        is_override: over,
    };
    discovery(MAC, target, IP6, message)
}

/// What the stack says with IPv6: destination station, packet, ICMPv6 message with a right checksum.
fn said(stack: &mut Stack) -> Vec<(MacAddr, ipv6::Packet, Vec<u8>)> {
    let understood = |frame: Vec<u8>| {
        let link = ethernet::Header::parse(&frame).unwrap();
        assert_eq!((link.ethertype, link.src()), (ethernet::ETHERTYPE_IPV6, MAC));
        let packet = ipv6::Packet::parse(&frame[14..], frame.len() - 14).unwrap();
        let message = frame[54..14 + packet.total_bytes].to_vec();
        let pseudo = ipv6::pseudo_sum(packet.src, packet.dst, 58, message.len());
        assert!(checksum::is_valid(pseudo + checksum::sum(&message)));
        (link.dst(), packet, message)
    };
    frames(stack).into_iter().map(understood).collect()
}

#[test]
fn homa_comes_in_both_families_and_both_forms() {
    let mut stack = dual();
    let expected = Datagram {
        src: PEER6.into(),
        dst: IP6.into(),
        priority: 7,
        encapsulation: Encapsulation::Native,
        start: 54,
        len: 37,
    };
    assert_eq!(receive(&mut stack, &homa()), Received::Homa(expected));
    let mut padded = homa();
    padded.extend([0xEE; 9]);
    assert_eq!(receive(&mut stack, &padded), Received::Homa(expected));
    let marked = frame(MAC, packet(PEER6, IP6, 6), &homa_frame()[34..]);
    let encapsulation = Encapsulation::MarkedTcp;
    let expected = Datagram { encapsulation, ..expected };
    assert_eq!(receive(&mut stack, &marked), Received::Homa(expected));
    assert!(matches!(receive(&mut stack, &homa_frame()), Received::Homa(_)));
    let tagged = receive(&mut dual_with(|c| c.vlan = Some(5)), &tagged(&homa(), 0xE005));
    assert!(matches!(tagged, Received::Homa(Datagram { start: 58, .. })), "{tagged:?}");
}

#[test]
fn bad_frames_row_by_row() {
    let rows: [(usize, u8, DropReason); 12] = [
        (5, 9, DropReason::OtherMac),
        (0, 0x33, DropReason::Group),
        (14, 0x45, DropReason::Ipv6Malformed),
        (19, 60, DropReason::Ipv6Malformed),
        (20, 17, DropReason::UnknownProtocol),
        (20, 44, DropReason::Fragment),
        (20, 58, DropReason::IcmpChecksum),
        (22, 0xff, DropReason::MartianSource),
        (37, 2, DropReason::MartianSource),
        (38, 0xff, DropReason::Group),
        (53, 9, DropReason::OtherAddress),
        (12, 0x88, DropReason::UnknownEthertype),
    ];
    for (at, value, reason) in rows {
        let mut stack = dual();
        let mut frame = homa();
        frame[at] = value;
        assert_eq!(receive(&mut stack, &frame), Received::Dropped(reason), "{at} = {value:#x}");
        assert_eq!((frames(&mut stack), events(&mut stack)), (vec![], vec![]));
    }
    let to_group =
        frame(ipv6::multicast_mac(ipv6::ALL_NODES), packet(PEER6, ipv6::ALL_NODES, 146), &[0; 28]);
    assert_eq!(receive(&mut dual(), &to_group), Received::Dropped(DropReason::Group));
    // Without an address of the family nothing is for us.
    assert_eq!(receive(&mut stack(), &homa()), Received::Dropped(DropReason::OtherAddress));
    let mut only6 = dual_with(|c| _ = c.addresses.remove(0));
    let other = Received::Dropped(DropReason::OtherAddress);
    assert_eq!(receive(&mut only6, &homa_frame()), other);
    assert!(matches!(receive(&mut only6, &homa()), Received::Homa(_)));
}

#[test]
fn a_solicitation_is_answered_and_teaches() {
    let mut stack = dual();
    for target in [IP6, LOCAL6] {
        assert_eq!(receive(&mut stack, &solicitation(PEER6, target)), Received::Consumed);
        let said = said(&mut stack);
        let [(mac, packet, message)] = &said[..] else { panic!("one answer: {said:?}") };
        assert_eq!(
            (*mac, packet.src, packet.dst, packet.hop_limit),
            (PEER_MAC, target, PEER6, 255)
        );
        let expected = ndp::Message::Advertisement {
            target,
            target_mac: Some(MAC),
            is_solicited: true,
            is_override: true,
        };
        let read = ndp::Message::parse(message, 255, packet.src, packet.dst);
        assert_eq!(read, Some(expected));
    }
    // Who asked is known without asking back, and asked once it is in use for a while.
    assert_eq!(ready(stack.path(START, PEER6.into())).dst_mac(), PEER_MAC);
    assert_eq!(frames(&mut stack), [[0_u8; 0]; 0]);
    stack.on_timer(stack.next_deadline().unwrap());
    let said = said(&mut stack);
    assert_eq!((said[0].0, said[0].1.dst, said[0].2[0]), (PEER_MAC, PEER6, ndp::SOLICITATION));
    assert_eq!((stack.counters().nd_received, stack.counters().nd_advertisements_sent), (2, 2));
}

#[test]
fn resolving_in_virtual_time() {
    let mut stack = dual();
    let generation = stack.generation();
    assert!(matches!(stack.path(START, PEER6.into()), PathState::Resolving));
    let said = said(&mut stack);
    let (mac, packet, message) = &said[0];
    assert_eq!((mac.to_string(), packet.src), ("33:33:ff:00:00:03".to_owned(), IP6));
    assert_eq!((packet.dst, packet.hop_limit), (ipv6::solicited_node(PEER6), 255));
    let expected = ndp::Message::Solicitation { target: PEER6, source_mac: Some(MAC) };
    assert_eq!(ndp::Message::parse(message, 255, packet.src, packet.dst), Some(expected));
    let answer = advertisement(PEER6, PEER_MAC, true, true);
    assert_eq!(receive(&mut stack, &answer), Received::Consumed);
    assert_eq!(events(&mut stack), [NetEvent::Resolved(PEER6.into())]);
    assert_ne!(stack.generation(), generation);
    let path = ready(stack.path(START, PEER6.into()));
    assert_eq!((path.dst(), path.dst_mac(), path.header_len()), (PEER6.into(), PEER_MAC, 54));
    // The kernel would take it.
    let mut out = vec![0; 54 + 28];
    path.write(&mut out, 5, 28);
    let written = ipv6::Packet::parse(&out[14..], 68).unwrap();
    assert_eq!((written.src, written.dst, written.traffic_class), (IP6, PEER6, 0xA0));
}

#[test]
fn nobody_answers() {
    let mut stack = dual();
    stack.path(START, PEER6.into());
    while let Some(deadline) = stack.next_deadline() {
        stack.on_timer(deadline);
    }
    assert_eq!(said(&mut stack).len(), 3);
    assert_eq!(events(&mut stack), [NetEvent::ResolutionFailed(PEER6.into())]);
}

/// RFC 4861 section 7.2.5: what an advertisement with these flags does to a known neighbour.
#[test]
fn another_station_says_that_it_is_the_neighbor() {
    for (is_solicited, is_override, believed) in
        [(false, false, false), (true, false, false), (false, true, true), (true, true, true)]
    {
        let mut stack = dual();
        stack.path(START, PEER6.into());
        receive(&mut stack, &advertisement(PEER6, PEER_MAC, true, true));
        ready(stack.path(START, PEER6.into()));
        let generation = stack.generation();
        let other = advertisement(PEER6, OTHER_MAC, is_solicited, is_override);
        let received = receive(&mut stack, &other);
        assert_eq!(received == Received::Consumed, believed, "{is_solicited} {is_override}");
        // In both cases the paths are to be looked at again: the old one is in doubt.
        assert_ne!(stack.generation(), generation);
        let expected = if believed { OTHER_MAC } else { PEER_MAC };
        assert_eq!(ready(stack.path(START, PEER6.into())).dst_mac(), expected);
        assert_eq!(stack.counters().neighbors_moved, u64::from(believed));
    }
}

#[test]
fn a_group_may_be_sent_to_one_station_but_not_a_host_to_a_group_of_them() {
    let mut stack = dual();
    let mut question = solicitation(PEER6, IP6);
    question[..6].copy_from_slice(&MAC.0);
    assert_eq!(receive(&mut stack, &question), Received::Consumed);
    assert_eq!(said(&mut stack).len(), 1);
    let mut shouted = homa();
    shouted[..6].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 1]);
    assert_eq!(receive(&mut stack, &shouted), Received::Dropped(DropReason::Group));
}

/// From another station than the neighbour is reached at, as of a router with a shared address.
#[test]
fn who_does_not_say_where_it_is_changes_nothing() {
    let mut stack = dual();
    let from_other = |mut frame: Vec<u8>| {
        frame[6..12].copy_from_slice(&OTHER_MAC.0);
        frame
    };
    let group = ipv6::solicited_node(IP6);
    let question = ndp::Message::Solicitation { target: IP6, source_mac: None };
    let question = from_other(discovery(ipv6::multicast_mac(group), PEER6, group, question));
    assert_eq!(receive(&mut stack, &question), Received::Consumed);
    let answers = said(&mut stack);
    assert_eq!((answers.len(), answers[0].0, answers[0].1.dst), (1, OTHER_MAC, PEER6));
    let answer = ndp::Message::Advertisement {
        target: PEER6,
        target_mac: None,
        is_solicited: true,
        is_override: true,
    };
    let answer = from_other(discovery(MAC, PEER6, IP6, answer));
    assert!(matches!(stack.path(START, PEER6.into()), PathState::Resolving), "not learned");
    assert_eq!(receive(&mut stack, &answer), Received::Dropped(DropReason::NdIgnored));
    assert!(matches!(stack.path(START, PEER6.into()), PathState::Resolving));
    // Where it is known, that it answers is news all the same.
    receive(&mut stack, &advertisement(PEER6, PEER_MAC, false, true));
    ready(stack.path(START, PEER6.into()));
    let probe_at = stack.next_deadline().unwrap();
    assert_eq!(receive(&mut stack, &answer), Received::Consumed);
    assert_eq!(ready(stack.path(START, PEER6.into())).dst_mac(), PEER_MAC);
    frames(&mut stack);
    stack.on_timer(probe_at);
    assert_eq!((frames(&mut stack), stack.counters().neighbors_moved), (vec![], 0));
    // Our own address is ours, wherever another says it is.
    let intruder = ndp::Message::Advertisement {
        target: IP6,
        target_mac: None,
        is_solicited: false,
        is_override: true,
    };
    let intruder = from_other(discovery(MAC, IP6, IP6, intruder));
    events(&mut stack);
    assert_eq!(receive(&mut stack, &intruder), Received::Consumed);
    let conflict = NetEvent::AddressConflict { ip: IP6.into(), mac: OTHER_MAC };
    assert_eq!(events(&mut stack), [conflict]);
}

#[test]
fn discovery_that_is_ignored() {
    let mut stack = dual();
    let ignored = Received::Dropped(DropReason::NdIgnored);
    assert_eq!(receive(&mut stack, &advertisement(PEER6, PEER_MAC, false, true)), ignored);
    // The last three bytes are those of our address, so the group is ours; the address is not.
    let alike = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 1, 0, 2);
    assert_eq!(receive(&mut stack, &solicitation(PEER6, alike)), ignored);
    let group = receive(&mut stack, &solicitation(PEER6, PEER6));
    assert_eq!(group, Received::Dropped(DropReason::Group));
    let mut routed = solicitation(PEER6, IP6);
    routed[14 + 7] = 64;
    assert_eq!(receive(&mut stack, &routed), Received::Dropped(DropReason::NdMalformed));
    let mut damaged = solicitation(PEER6, IP6);
    damaged[14 + 40 + 30] ^= 1;
    assert_eq!(receive(&mut stack, &damaged), Received::Dropped(DropReason::IcmpChecksum));
    let mut ours = solicitation(PEER6, IP6);
    ours[6..12].copy_from_slice(&MAC.0);
    assert_eq!(receive(&mut stack, &ours), Received::Dropped(DropReason::OwnMac));
    assert_eq!(frames(&mut stack), [[0_u8; 0]; 0]);
    assert!(matches!(stack.path(START, PEER6.into()), PathState::Resolving));
}

#[test]
fn who_wants_our_address_is_told_that_it_is_taken() {
    let mut stack = dual_with(|c| c.announce = true);
    let probe = solicitation(Ipv6Addr::UNSPECIFIED, IP6);
    assert_eq!(receive(&mut stack, &probe), Received::Consumed);
    let said_to_all = said(&mut stack);
    let (mac, packet, message) = &said_to_all[0];
    assert_eq!((mac.to_string(), packet.dst), ("33:33:00:00:00:01".to_owned(), ipv6::ALL_NODES));
    let expected = ndp::Message::Advertisement {
        target: IP6,
        target_mac: Some(MAC),
        is_solicited: false,
        is_override: true,
    };
    assert_eq!(ndp::Message::parse(message, 255, packet.src, packet.dst), Some(expected));
    assert_eq!((events(&mut stack), stack.counters().neighbors_learned), (vec![], 0));
    // Somebody else does use it: told, and defended, now and then.
    let intruder = advertisement(IP6, OTHER_MAC, false, true);
    assert_eq!(receive(&mut stack, &intruder), Received::Consumed);
    assert_eq!(receive(&mut stack, &intruder), Received::Consumed);
    let conflict = NetEvent::AddressConflict { ip: IP6.into(), mac: OTHER_MAC };
    assert_eq!((events(&mut stack), said(&mut stack).len()), (vec![conflict], 1));
}

#[test]
fn all_addresses_are_announced_and_asked_for() {
    let mut stack = dual_with(|c| c.announce = true);
    stack.on_timer(START);
    let all = frames(&mut stack);
    let ethertypes: Vec<_> =
        all.iter().map(|frame| ethernet::Header::parse(frame).unwrap().ethertype).collect();
    let (arp, v6) = (ethernet::ETHERTYPE_ARP, ethernet::ETHERTYPE_IPV6);
    assert_eq!(ethertypes, [arp, v6, v6, v6, v6]);
    let kinds: Vec<_> = all[1..].iter().map(|frame| (frame[54], frame[53])).collect();
    // The question for an address goes to the group of its last bytes, the news to all nodes.
    assert_eq!(kinds, [(135, 2), (136, 1), (135, 2), (136, 1)]);
    assert_eq!(all[1][22..38], [0; 16], "from nobody yet");
    assert_eq!(stack.counters().announcements_sent, 3);
    assert!(ethernet::is_neighbor_discovery(&all[0]) && ethernet::is_neighbor_discovery(&all[1]));
    assert!(!ethernet::is_neighbor_discovery(&homa()));
}

#[test]
fn a_ping_is_answered() {
    let mut stack = dual();
    let rest = hex("12340001 a55a77");
    let ping = icmp(PEER6, IP6, [&hex("80000000")[..], &rest].concat());
    assert_eq!(receive(&mut stack, &ping), Received::Consumed);
    let said = said(&mut stack);
    let (mac, packet, message) = &said[0];
    assert_eq!((*mac, packet.src, packet.dst), (PEER_MAC, IP6, PEER6));
    assert_eq!((message[0], message[1], &message[4..]), (129, 0, &rest[..]));
    assert_eq!(stack.counters().echo_replies_sent, 1);
    let mut long = vec![128, 0, 0, 0];
    long.resize(1_500, 0x5A);
    let refused = receive(&mut stack, &icmp(PEER6, IP6, long));
    assert_eq!(refused, Received::Dropped(DropReason::EchoRefused));
}

#[test]
fn port_unreachable_goes_both_ways() {
    let mut stack = dual();
    stack.port_unreachable(START, &homa());
    let said = said(&mut stack);
    let (mac, packet, message) = &said[0];
    assert_eq!((*mac, packet.src, packet.dst), (PEER_MAC, IP6, PEER6));
    assert_eq!((&message[..2], &message[8..]), (&[1, 4][..], &homa()[14..]));
    // The host that sent the packet understands.
    let mut peer = stack_with(|c| {
        c.mac = PEER_MAC;
        c.addresses = vec![InterfaceAddr::new(PEER6, 64)];
    });
    let mut answer = icmp(IP6, PEER6, message.clone());
    answer[..6].copy_from_slice(&PEER_MAC.0);
    assert_eq!(receive(&mut peer, &answer), Received::Consumed);
    let quoted = QuotedPacket {
        src: PEER6.into(),
        dst: IP6.into(),
        src_port: 0x8011,
        dst_port: 0x1387,
        sender_id: Some(0x74),
        packet_bytes: 77,
    };
    let cause = UnreachableCause::Port;
    let event = NetEvent::PeerUnreachable { reporter: IP6.into(), cause, code: 4, quoted };
    assert_eq!(events(&mut peer), [event]);
    let mut forged = message.clone();
    forged[8 + 8 + 15] = 9;
    let mut forged = icmp(IP6, PEER6, forged);
    forged[..6].copy_from_slice(&PEER_MAC.0);
    assert_eq!(receive(&mut peer, &forged), Received::Dropped(DropReason::IcmpNotOurs));
    // A long packet is quoted as far as every link carries the answer.
    let long = frame(MAC, super::ipv6::packet(PEER6, IP6, HOMA_PROTOCOL), &[0x55; 1_400]);
    stack.port_unreachable(START, &long);
    assert_eq!(super::ipv6::said(&mut stack)[0].1.total_bytes, 1_280);
}

#[test]
fn a_smaller_mtu_on_the_way_is_believed_if_it_can_be_true() {
    let mut stack = dual_with(|c| c.gateways = vec![GATEWAY6.into()]);
    let mut quoted = ipv6::header(IP6, FAR6, HOMA_PROTOCOL, 60);
    ipv6::complete(&mut quoted, 0, 1_460);
    let quoted = [&quoted[..], &homa_frame()[34..]].concat();
    let hint = |stack: &mut Stack, mtu_bytes: u32| {
        let message = [&[2, 0, 0, 0][..], &mtu_bytes.to_be_bytes(), &quoted].concat();
        receive(stack, &icmp(GATEWAY6, IP6, message))
    };
    for mtu_bytes in [0, 1_279, 1_500, 70_000] {
        let refused = Received::Dropped(DropReason::IcmpNotOurs);
        assert_eq!(hint(&mut stack, mtu_bytes), refused, "{mtu_bytes}");
    }
    assert_eq!(hint(&mut stack, 1_400), Received::Consumed);
    let Some(NetEvent::MtuHint { mtu_bytes: 1_400, quoted, .. }) = stack.poll_event() else {
        panic!("no hint");
    };
    receive(&mut stack, &solicitation(GATEWAY6, IP6));
    let before = ready(stack.path(START, FAR6.into()));
    assert_eq!((before.dst_mac(), before.payload_max()), (PEER_MAC, 1_460));
    let generation = stack.generation();
    assert!(stack.lower_path_mtu(START, &quoted, 1_400));
    assert!(!stack.lower_path_mtu(START, &quoted, 1_400), "nothing new");
    assert_ne!(stack.generation(), generation);
    assert_eq!(ready(stack.path(START, FAR6.into())).payload_max(), 1_360);
    // After its time the larger size is tried again.
    let later = START + Nanos::from_secs(600);
    stack.on_timer(later);
    assert_eq!(ready(stack.path(later, FAR6.into())).payload_max(), 1_460);
}

#[test]
fn peers_of_both_families_are_sent_to_from_the_right_address() {
    let static_neighbors = [PEER.into(), PEER6.into(), GATEWAY6.into(), GATEWAY.into()]
        .map(|ip: IpAddr| (ip, PEER_MAC))
        .to_vec();
    let mut stack = dual_with(|c| {
        c.static_neighbors = static_neighbors;
        c.gateways = vec![GATEWAY.into(), GATEWAY6.into()];
        c.marked_tcp_peers = vec![PEER6.into()];
        c.peer_mtus = vec![(FAR.into(), 1_000)];
    });
    for (dst, src, encapsulation, payload_max) in [
        (IpAddr::from(PEER), IpAddr::from(IP), Encapsulation::Native, 1_480),
        (FAR.into(), IP.into(), Encapsulation::Native, 980),
        (PEER6.into(), IP6.into(), Encapsulation::MarkedTcp, 1_460),
        (FAR6.into(), IP6.into(), Encapsulation::Native, 1_460),
        (GATEWAY6.into(), LOCAL6.into(), Encapsulation::Native, 1_460),
    ] {
        let path = ready(stack.path(START, dst));
        assert_eq!((path.encapsulation(), path.payload_max()), (encapsulation, payload_max));
        let mut out = vec![0; path.header_len()];
        path.write(&mut out, 0, 28);
        let written = match src {
            IpAddr::V4(_) => {
                IpAddr::V4(ipv4::Packet::parse(&out[14..], 48, IpChecksum::Unknown).unwrap().src)
            }
            IpAddr::V6(_) => IpAddr::V6(ipv6::Packet::parse(&out[14..], 68).unwrap().src),
        };
        assert_eq!(written, src, "to {dst}");
    }
    for (dst, reason) in [
        (IP6, UnreachableReason::OwnAddress),
        (Ipv6Addr::UNSPECIFIED, UnreachableReason::NotUnicast),
        (ipv6::ALL_NODES, UnreachableReason::NotUnicast),
        (Ipv6Addr::LOCALHOST, UnreachableReason::NotUnicast),
    ] {
        assert_eq!(unreachable(stack.path(START, dst.into())), reason, "{dst}");
    }
    let mut without = dual();
    assert_eq!(unreachable(without.path(START, FAR6.into())), UnreachableReason::NoRoute);
}

#[test]
fn frames_cut_anywhere_are_dropped() {
    let ping = icmp(PEER6, IP6, hex("80000000 12340001 a55a77"));
    for frame in [homa(), tagged(&homa(), 5), solicitation(PEER6, IP6), ping] {
        for len in 0..frame.len() {
            let mut stack = dual_with(|c| c.vlan = (frame[12] == 0x81).then_some(5));
            let received = receive(&mut stack, &frame[..len]);
            assert!(matches!(received, Received::Dropped(_)), "{len} bytes: {received:?}");
            stack.port_unreachable(START, &frame[..len]);
        }
    }
}

/// Bytes that get far: a frame of one of the known kinds, changed in a few places and cut.
fn near_frames() -> impl Strategy<Value = Vec<u8>> {
    let error = [&hex("01040000 00000000")[..], &homa()[14..]].concat();
    let kinds = vec![
        homa(),
        solicitation(PEER6, IP6),
        advertisement(PEER6, PEER_MAC, true, true),
        icmp(PEER6, IP6, hex("80000000 12340001 a55a77")),
        icmp(PEER6, IP6, error),
        frame(MAC, packet(PEER6, IP6, 0), &hex("92000104 00000000 0000")),
    ];
    let changes = proptest::collection::vec((0_usize..140, any::<u8>()), 0..4);
    (proptest::sample::select(kinds), changes, 0_usize..160).prop_map(
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
    fn any_bytes_are_survived(near in near_frames(), more_bytes in 0_usize..2_000) {
        let mut stack = dual_with(|c| c.gateways = vec![GATEWAY6.into()]);
        let frame_len = near.len() + more_bytes;
        let received = stack.receive(START, &near, frame_len, IpChecksum::Unknown);
        if let Received::Homa(datagram) = received {
            prop_assert!(datagram.start <= near.len());
            prop_assert!(datagram.start + datagram.len <= frame_len);
        }
        stack.port_unreachable(START, &near);
        stack.on_timer(START);
        for own in frames(&mut stack) {
            prop_assert!((60..=1518).contains(&own.len()));
        }
        while stack.poll_event().is_some() {}
    }
}
