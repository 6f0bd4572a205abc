//! ICMP (RFC 792): echo, and destination unreachable in both directions.

use core::net::IpAddr;

use super::counters::DropReason;
use super::event::{QuotedPacket, UnreachableCause};
use super::{HOMA_PROTOCOL, checksum, ipv4, marked_tcp};

/// Bytes of the header every message starts with.
pub(super) const HEADER_BYTES: usize = 8;
/// The longest error message, with its IP header (RFC 1812 section 4.3.2.3).
const ERROR_MAX_BYTES: usize = 576;
/// How much of an offending packet an error quotes at most.
pub(super) const QUOTE_MAX_BYTES: usize = ERROR_MAX_BYTES - ipv4::HEADER_BYTES - HEADER_BYTES;
/// The type of service of errors: internetwork control (RFC 1812 section 4.3.2.5).
pub(super) const ERROR_TOS: u8 = 0xC0;

const ECHO_REPLY: u8 = 0;
const UNREACHABLE: u8 = 3;
const ECHO_REQUEST: u8 = 8;
const CODE_PORT: u8 = 3;
const CODE_FRAGMENTATION_NEEDED: u8 = 4;
/// A message we act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message<'a> {
    /// A ping; `rest` is everything behind type, code and checksum.
    EchoRequest {
        rest: &'a [u8],
    },
    Unreachable {
        cause: UnreachableCause,
        code: u8,
        quoted: &'a [u8],
    },
    /// A packet did not fit the next link, which takes `mtu_bytes`.
    PacketTooBig {
        mtu_bytes: u32,
        quoted: &'a [u8],
    },
}

impl<'a> Message<'a> {
    /// Reads a whole message. Redirects and everything else we do not act on are refused.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, DropReason> {
        let &[kind, code, _, _, _, _, mtu_high, mtu_low] =
            bytes.first_chunk::<HEADER_BYTES>().ok_or(DropReason::IcmpMalformed)?;
        if !checksum::is_valid(checksum::sum(bytes)) {
            return Err(DropReason::IcmpChecksum);
        }
        let quoted = &bytes[HEADER_BYTES..];
        match (kind, code) {
            (ECHO_REQUEST, 0) => Ok(Self::EchoRequest { rest: &bytes[4..] }),
            (UNREACHABLE, CODE_FRAGMENTATION_NEEDED) => {
                let mtu_bytes = u16::from_be_bytes([mtu_high, mtu_low]).into();
                Ok(Self::PacketTooBig { mtu_bytes, quoted })
            }
            (UNREACHABLE, _) => {
                let cause = cause(code).ok_or(DropReason::IcmpMalformed)?;
                Ok(Self::Unreachable { cause, code, quoted })
            }
            _ => Err(DropReason::IcmpUnhandled),
        }
    }
}

/// What a code of destination unreachable means (RFC 792, RFC 1812 section 5.2.7.1).
const fn cause(code: u8) -> Option<UnreachableCause> {
    match code {
        0 | 6 | 11 => Some(UnreachableCause::Network),
        1 | 5 | 7 | 8 | 12 | 14 | 15 => Some(UnreachableCause::Host),
        2 => Some(UnreachableCause::Protocol),
        CODE_PORT => Some(UnreachableCause::Port),
        9 | 10 | 13 => Some(UnreachableCause::Prohibited),
        _ => None,
    }
}

/// Reads the quotation of an error. It must be the start of a Homa packet, native or marked TCP, and
/// reach past the ports; the identification is read when it is there. Whether the source is ours is
/// for the caller to see.
pub(super) fn parse_quoted(quoted: &[u8]) -> Result<QuotedPacket, DropReason> {
    // A router may have changed the checksum with the TTL, or cut the packet short: neither counts.
    let packet =
        ipv4::Packet::parse(quoted, ipv4::PACKET_MAX_BYTES, super::stack::IpChecksum::Good)
            .map_err(|_| DropReason::IcmpMalformed)?;
    let homa = &quoted[packet.header_bytes..];
    let (src, dst) = (IpAddr::V4(packet.src), IpAddr::V4(packet.dst));
    quoted_homa(packet.protocol, homa, src, dst, packet.total_bytes)
}

/// What is quoted of the Homa packet whose first bytes are `homa`.
pub(super) fn quoted_homa(
    protocol: u8,
    homa: &[u8],
    src: IpAddr,
    dst: IpAddr,
    packet_bytes: usize,
) -> Result<QuotedPacket, DropReason> {
    let is_homa =
        protocol == HOMA_PROTOCOL || protocol == marked_tcp::PROTOCOL && marked_tcp::is_homa(homa);
    if !is_homa {
        return Err(DropReason::IcmpNotOurs);
    }
    let &[s0, s1, d0, d1] = homa.first_chunk::<4>().ok_or(DropReason::IcmpMalformed)?;
    Ok(QuotedPacket {
        src,
        dst,
        src_port: u16::from_be_bytes([s0, s1]),
        dst_port: u16::from_be_bytes([d0, d1]),
        sender_id: homa
            .get(20..28)
            .and_then(|id| id.first_chunk())
            .map(|&id| u64::from_be_bytes(id)),
        packet_bytes: packet_bytes as u32,
    })
}

/// The first four bytes of the reply to a ping; the rest is that of the request.
pub(super) fn echo_reply_start(rest: &[u8]) -> [u8; 4] {
    let sum = checksum::sum(&[ECHO_REPLY, 0]) + checksum::sum(rest);
    let [s0, s1] = checksum::finish(sum).to_be_bytes();
    [ECHO_REPLY, 0, s0, s1]
}

/// The header of a port unreachable in front of `quoted`.
pub(super) fn port_unreachable_header(quoted: &[u8]) -> [u8; HEADER_BYTES] {
    let sum = checksum::sum(&[UNREACHABLE, CODE_PORT]) + checksum::sum(quoted);
    let [s0, s1] = checksum::finish(sum).to_be_bytes();
    [UNREACHABLE, CODE_PORT, s0, s1, 0, 0, 0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    use core::net::Ipv4Addr;

    const OWN: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 3);

    /// A port unreachable that Linux sent: the ICMP header, then the refused RESEND with its IP
    /// header.
    const SEEN: [u8; 65] = [
        0x03, 0x03, 0x11, 0xc7, 0x00, 0x00, 0x00, 0x00, 0x45, 0xe0, 0x00, 0x39, 0x00, 0x00, 0x40,
        0x00, 0x40, 0x92, 0x24, 0xb5, 0x0a, 0x4d, 0x00, 0x03, 0x0a, 0x4d, 0x00, 0x02, 0x80, 0x11,
        0x13, 0x87, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x12, 0x50, 0x06, 0x00, 0x00, 0x46,
        0x93, 0xb9, 0x7d, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x74, 0x00, 0x00, 0x00, 0x00,
        0xff, 0xff, 0xff, 0xff, 0x07,
    ];

    fn with_checksum(mut bytes: Vec<u8>) -> Vec<u8> {
        bytes[2..4].fill(0);
        let sum = checksum::finish(checksum::sum(&bytes));
        bytes[2..4].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    #[test]
    fn a_port_unreachable_of_linux() {
        let Ok(Message::Unreachable { cause, code: 3, quoted }) = Message::parse(&SEEN) else {
            panic!("not read as a port unreachable");
        };
        assert_eq!(cause, UnreachableCause::Port);
        let expected = QuotedPacket {
            src: IpAddr::V4(OWN),
            dst: IpAddr::V4(Ipv4Addr::new(10, 77, 0, 2)),
            src_port: 0x8011,
            dst_port: 0x1387,
            sender_id: Some(0x74),
            packet_bytes: 57,
        };
        assert_eq!(parse_quoted(quoted), Ok(expected));
        assert_eq!(port_unreachable_header(quoted), SEEN[..8]);
    }

    #[test]
    fn eight_quoted_bytes_are_enough() {
        let short = parse_quoted(&SEEN[8..36]).unwrap();
        assert_eq!((short.src_port, short.dst_port, short.sender_id), (0x8011, 0x1387, None));
        assert!(parse_quoted(&SEEN[8..56]).unwrap().sender_id.is_some());
        assert_eq!(parse_quoted(&SEEN[8..55]).unwrap().sender_id, None);
        for end in 8..32 {
            assert_eq!(parse_quoted(&SEEN[8..end]), Err(DropReason::IcmpMalformed), "{end}");
        }
    }

    #[test]
    fn quotations_that_are_not_ours_row_by_row() {
        for (at, value, reason) in [
            (8, 0x65, DropReason::IcmpMalformed),
            (8, 0x44, DropReason::IcmpMalformed),
            (15, 0x08, DropReason::IcmpMalformed),
            (17, 17, DropReason::IcmpNotOurs),
        ] {
            let mut bytes = SEEN;
            bytes[at] = value;
            assert_eq!(parse_quoted(&bytes[8..]), Err(reason), "byte {at} = {value:#x}");
        }
    }

    #[test]
    fn quoted_marked_tcp_is_ours_and_other_tcp_is_not() {
        let mut bytes = SEEN;
        bytes[17] = marked_tcp::PROTOCOL;
        assert!(parse_quoted(&bytes[8..]).is_ok());
        // Without the marks in the quotation it could be anybody's.
        assert_eq!(parse_quoted(&bytes[8..36]), Err(DropReason::IcmpNotOurs));
        bytes[41] = 0x02;
        assert_eq!(parse_quoted(&bytes[8..]), Err(DropReason::IcmpNotOurs));
    }

    #[test]
    fn codes_have_causes() {
        use UnreachableCause::{Host, Network, Port, Prohibited, Protocol};
        for (code, cause) in
            [(0, Network), (1, Host), (2, Protocol), (3, Port), (7, Host), (13, Prohibited)]
        {
            let mut bytes = SEEN.to_vec();
            bytes[1] = code;
            let bytes = with_checksum(bytes);
            let quoted = &bytes[8..];
            assert_eq!(Message::parse(&bytes), Ok(Message::Unreachable { cause, code, quoted }));
        }
    }

    #[test]
    fn fragmentation_needed_tells_the_mtu() {
        let mut bytes = SEEN.to_vec();
        bytes[1] = 4;
        bytes[6..8].copy_from_slice(&1400_u16.to_be_bytes());
        let bytes = with_checksum(bytes);
        let quoted = &bytes[8..];
        let expected = Message::PacketTooBig { mtu_bytes: 1400, quoted };
        assert_eq!(Message::parse(&bytes), Ok(expected));
    }

    #[test]
    fn other_messages_are_refused() {
        for (kind, code, reason) in [
            (0, 0, DropReason::IcmpUnhandled),
            (5, 1, DropReason::IcmpUnhandled),
            (8, 1, DropReason::IcmpUnhandled),
            (11, 0, DropReason::IcmpUnhandled),
            (3, 16, DropReason::IcmpMalformed),
        ] {
            let mut bytes = SEEN.to_vec();
            (bytes[0], bytes[1]) = (kind, code);
            assert_eq!(Message::parse(&with_checksum(bytes)), Err(reason), "{kind}/{code}");
        }
        let mut damaged = SEEN;
        damaged[64] ^= 1;
        assert_eq!(Message::parse(&damaged), Err(DropReason::IcmpChecksum));
        for len in 0..8 {
            assert_eq!(Message::parse(&SEEN[..len]), Err(DropReason::IcmpMalformed), "{len}");
        }
    }

    #[test]
    fn an_echo_reply_is_valid() {
        let request = with_checksum(vec![8, 0, 0, 0, 0x12, 0x34, 0, 1, 0xA5, 0x5A, 0x77]);
        let Ok(Message::EchoRequest { rest }) = Message::parse(&request) else {
            panic!("not read as an echo request");
        };
        let mut reply = echo_reply_start(rest).to_vec();
        reply.extend(rest);
        assert_eq!((reply[0], &reply[4..]), (0, &request[4..]));
        assert!(checksum::is_valid(checksum::sum(&reply)));
    }
}
