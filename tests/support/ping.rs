//! Pings from the kernel, since not every machine has a program for it.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;

/// Sends `count` echo requests to `host` from the kernel of this process's network namespace, one
/// after the other, and returns how many were answered with the bytes that were sent.
pub(crate) fn ping(host: Ipv4Addr, count: u16, payload_bytes: usize) -> u16 {
    let mut socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))
        .unwrap_or_else(|error| panic!("no raw socket ({error}): run these tests as root"));
    socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
    socket.connect(&SocketAddr::from((host, 0)).into()).expect("a way to the host");
    (0..count).filter(|&sequence| exchange(&mut socket, sequence, payload_bytes)).count() as u16
}

fn exchange(socket: &mut Socket, sequence: u16, payload_bytes: usize) -> bool {
    let request = echo_request(sequence, payload_bytes);
    // Refused when an earlier error about the host is to be reported.
    if socket.write_all(&request).is_err() {
        return false;
    }
    let deadline = Instant::now() + Duration::from_secs(2);
    let mut packet = [0; 2048];
    while Instant::now() < deadline {
        match socket.read(&mut packet) {
            Ok(length) if is_answer(&packet[..length], &request) => return true,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return false,
        }
    }
    false
}

/// Whether `packet`, an IPv4 packet, is the reply to `request`, an ICMP message.
fn is_answer(packet: &[u8], request: &[u8]) -> bool {
    let header_bytes = usize::from(packet[0] & 15) * 4;
    let message = packet.get(header_bytes..).unwrap_or_default();
    message.len() == request.len()
        && message[..2] == [ECHO_REPLY, 0]
        && message[4..] == request[4..]
        && checksum(message) == 0
}

fn echo_request(sequence: u16, payload_bytes: usize) -> Vec<u8> {
    let mut message = vec![ECHO_REQUEST, 0, 0, 0];
    message.extend((std::process::id() as u16).to_be_bytes());
    message.extend(sequence.to_be_bytes());
    message.extend((0..payload_bytes).map(|at| (at * 7 + usize::from(sequence)) as u8));
    let sum = checksum(&message).to_be_bytes();
    message[2..4].copy_from_slice(&sum);
    message
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
