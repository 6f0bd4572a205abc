//! Pings, short and long.

use super::*;

#[test]
fn a_ping_is_answered_byte_by_byte() {
    let mut stack = stack();
    let ping = with_icmp_checksum(hex("08000000 12340001 a55a77"));
    let mut frame = ipv4_frame(PEER, IP, ipv4::PROTOCOL_ICMP, &ping);
    frame.resize(60, 0);
    assert_eq!(receive(&mut stack, &frame), Received::Consumed);
    let pong = with_icmp_checksum(hex("00000000 12340001 a55a77"));
    let mut expected = hex("027700000003 027700000002 0800
                            4500001f 00004000 40012640 0a4d0002 0a4d0003");
    expected.extend(pong);
    expected.resize(60, 0);
    assert_eq!(frames(&mut stack), [expected]);
}

/// With that many bytes of data.
fn ping(data: usize) -> Vec<u8> {
    let mut message = vec![8, 0, 0, 0, 0, 1, 0, 1];
    message.resize(8 + data, 0x5A);
    ipv4_frame(PEER, IP, ipv4::PROTOCOL_ICMP, &with_icmp_checksum(message))
}

#[test]
fn pings_too_long_or_too_many_are_not_answered() {
    let mut stack = stack_with(|c| {
        c.echo_rate_per_s = 10;
        c.echo_burst = 2;
    });
    let refused = Received::Dropped(DropReason::EchoRefused);
    assert_eq!(receive(&mut stack, &ping(1_473)), refused);
    assert_eq!(receive(&mut stack, &ping(1_472)), Received::Consumed);
    assert_eq!(receive(&mut stack, &ping(0)), Received::Consumed);
    assert_eq!(receive(&mut stack, &ping(0)), refused);
    assert_eq!((frames(&mut stack).len(), stack.counters().echo_replies_sent), (2, 2));
    // Not all of it is in the first segment.
    let long = ping(1_000);
    let received = stack.receive(START, &long[..200], long.len(), IpChecksum::Good);
    assert_eq!(received, Received::Dropped(DropReason::IcmpMalformed));
}

/// How people find out whether large frames get through.
#[test]
fn a_ping_that_fills_the_mtu_is_answered_and_none_above() {
    for (mtu_bytes, vlan) in [(1_000, None), (9_000, None), (9_000, Some(5)), (9_600, None)] {
        let mut stack = stack_with(|c| {
            c.mtu_bytes = mtu_bytes;
            c.vlan = vlan;
        });
        let tagged = |frame: Vec<u8>| vlan.map_or_else(|| frame.clone(), |tci| tagged(&frame, tci));
        let full = tagged(ping(usize::from(mtu_bytes) - 28));
        assert_eq!(receive(&mut stack, &full), Received::Consumed);
        let answer = frames(&mut stack).remove(0);
        let start = full.len() - usize::from(mtu_bytes);
        assert_eq!((answer.len(), &answer[start + 28..]), (full.len(), &full[start + 28..]));
        assert!(checksum::is_valid(checksum::sum(&answer[start + 20..])));
        let longer = tagged(ping(usize::from(mtu_bytes) - 27));
        assert_eq!(receive(&mut stack, &longer), Received::Dropped(DropReason::EchoRefused));
    }
}
