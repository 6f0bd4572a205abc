//! The frames around Homa: a conversation of any frames, and what a stack does about them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use homa::net::{Config, InterfaceAddr, IpChecksum, MacAddr, NetEvent, PathState, Received, Stack};
use homa::time::Nanos;

use super::frame;
use super::input::Input;

const OUR_ADDR_IPV6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2);
/// The longest frame that a stack sends of its own: Ethernet with a tag.
const OWN_FRAME_MAX: usize = 1518;
/// The shortest frame of Ethernet, without its check sequence.
const FRAME_MIN: usize = 60;

/// A stack with the address of the server in the captures, and small tables.
pub fn stack(vlan: Option<u16>) -> Stack {
    let config = Config {
        mac: MacAddr(frame::OUR_MAC),
        addresses: vec![
            InterfaceAddr::new(frame::OUR_ADDR, frame::PREFIX_LEN),
            InterfaceAddr::new(OUR_ADDR_IPV6, 64),
        ],
        gateways: vec![Ipv4Addr::new(10, 77, 0, 254).into()],
        vlan,
        vlan_accept_untagged: true,
        neighbors_max: 8,
        resolving_max: 4,
        own_frames_max: 16,
        events_max: 16,
        ..Config::default()
    };
    Stack::new(config).expect("good settings")
}

/// Takes `input` for frames, times and questions about the way to hosts.
pub fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let flags = input.byte();
    let mut stack = stack((flags & 1 != 0).then_some(7));
    let mut now = Nanos::from_secs(1);
    while !input.is_empty() {
        let operation = input.byte();
        match operation % 4 {
            0 | 1 => {
                let mut bytes = input.string().to_vec();
                if operation & 0x80 == 0 {
                    frame::repair(&mut bytes);
                }
                if receive(&mut stack, now, &bytes, checksum(operation)).is_some() {
                    // What a node does when nobody has the port open.
                    stack.port_unreachable(now, &bytes);
                }
            }
            2 => {
                let addr = Ipv4Addr::from(0x0A4D_0000 | u32::from(input.short()));
                ask_for_path(&mut stack, now, IpAddr::V4(addr));
            }
            _ => {
                now = now + input.duration();
                stack.on_timer(now);
            }
        }
        collect(&mut stack);
    }
}

/// What the network interface says about the checksum.
fn checksum(operation: u8) -> IpChecksum {
    match operation >> 2 & 3 {
        0 => IpChecksum::Good,
        1 => IpChecksum::Bad,
        _ => IpChecksum::Unknown,
    }
}

/// Hands a frame to the stack; gives the Homa packet in it.
pub fn receive<'a>(
    stack: &mut Stack,
    now: Nanos,
    frame: &'a [u8],
    checksum: IpChecksum,
) -> Option<(IpAddr, &'a [u8])> {
    let Received::Homa(datagram) = stack.receive(now, frame, frame.len(), checksum) else {
        return None;
    };
    assert!(datagram.priority < 8);
    assert_eq!(datagram.dst.ip(), IpAddr::V4(frame::OUR_ADDR));
    let packet = frame.get(datagram.start..datagram.start + datagram.len);
    let packet = packet.expect("a packet lies within its frame");
    Some((datagram.src.ip(), packet))
}

fn ask_for_path(stack: &mut Stack, now: Nanos, addr: IpAddr) {
    if let PathState::Ready(path) = stack.path(now, addr) {
        let mut header = vec![0; path.header_len()];
        path.write(&mut header, 7, 1000);
        assert_eq!(header[6..12], frame::OUR_MAC);
    }
}

/// Takes what the stack wants sent, and its news.
pub fn collect(stack: &mut Stack) -> Vec<NetEvent> {
    stack.poll_transmit(usize::MAX, |frame| {
        assert!((FRAME_MIN..=OWN_FRAME_MAX).contains(&frame.len()), "{} bytes", frame.len());
        assert_eq!(frame[6..12], frame::OUR_MAC);
    });
    std::iter::from_fn(|| stack.poll_event()).collect()
}
