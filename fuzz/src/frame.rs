//! Frames as the network delivers them to the host under test.

use std::net::Ipv4Addr;

/// Our hardware address; that of the server in the captures.
pub const OUR_MAC: [u8; 6] = [0x02, 0x77, 0, 0, 0, 0x02];
/// Our address; that of the server in the captures.
pub const OUR_ADDR: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// Length of the prefix of our network.
pub const PREFIX_LEN: u8 = 24;

const ETHERNET_BYTES: usize = 14;
const IPV4_BYTES: usize = 20;

/// The frame in which `src` sends `payload` to us as IP protocol `protocol`.
pub fn ipv4(src: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = OUR_MAC.to_vec();
    frame.extend([0x02, 0x77, 0, 0, 0, src.octets()[3]]);
    frame.extend([0x08, 0x00, 0x45, 0]);
    frame.extend(((IPV4_BYTES + payload.len()) as u16).to_be_bytes());
    frame.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
    frame.extend(src.octets());
    frame.extend(OUR_ADDR.octets());
    frame.extend(payload);
    frame.resize(frame.len().max(60), 0);
    repair(&mut frame);
    frame
}

/// Makes a frame that claims to be IPv4 one for us, with the right header checksum: chance alone
/// would hardly ever get past those checks.
pub fn repair(frame: &mut [u8]) {
    if frame.len() < ETHERNET_BYTES + IPV4_BYTES || frame[12..14] != [0x08, 0x00] {
        return;
    }
    frame[..6].copy_from_slice(&OUR_MAC);
    frame[30..34].copy_from_slice(&OUR_ADDR.octets());
    let header_bytes = 4 * usize::from(frame[ETHERNET_BYTES] & 0x0F);
    let end = ETHERNET_BYTES + header_bytes;
    if header_bytes < IPV4_BYTES || end > frame.len() {
        return;
    }
    frame[24..26].fill(0);
    let sum = checksum(&frame[ETHERNET_BYTES..end]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    // The same for an ICMP message.
    let total_bytes = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
    if frame[23] == 1 && total_bytes >= header_bytes + 8 {
        let Some(message) = frame.get_mut(end..ETHERNET_BYTES + total_bytes) else { return };
        message[2..4].fill(0);
        let sum = checksum(message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    !(sum as u16)
}
