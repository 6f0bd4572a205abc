//! ICMPv6 (RFC 4443): echo, and errors in both directions.

use core::net::{IpAddr, Ipv6Addr};

use super::counters::DropReason;
use super::event::{QuotedPacket, UnreachableCause};
use super::icmp::{self, HEADER_BYTES};
use super::{checksum, ipv6, ndp};

/// How much of an offending packet an error quotes at most: so much that the whole is a packet which
/// every link carries (RFC 4443 section 2.4).
pub(super) const QUOTE_MAX_BYTES: usize =
    ipv6::MTU_MIN_BYTES as usize - ipv6::HEADER_BYTES - HEADER_BYTES;

const UNREACHABLE: u8 = 1;
const PACKET_TOO_BIG: u8 = 2;
const PARAMETER_PROBLEM: u8 = 4;
const ECHO_REQUEST: u8 = 128;
const ECHO_REPLY: u8 = 129;
const CODE_PORT: u8 = 4;
const CODE_UNKNOWN_NEXT_HEADER: u8 = 1;

/// A message we act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message<'a> {
    /// One that IPv4 has as well.
    Icmp(icmp::Message<'a>),
    Neighbor(ndp::Message),
}

impl<'a> Message<'a> {
    /// Reads the whole message that `packet` carries.
    pub(super) fn parse(bytes: &'a [u8], packet: &ipv6::Packet) -> Result<Self, DropReason> {
        let &[kind, code, _, _, number @ ..] =
            bytes.first_chunk::<HEADER_BYTES>().ok_or(DropReason::IcmpMalformed)?;
        let pseudo =
            ipv6::pseudo_sum(packet.src, packet.dst, ipv6::NEXT_HEADER_ICMPV6, bytes.len());
        if !checksum::is_valid(pseudo + checksum::sum(bytes)) {
            return Err(DropReason::IcmpChecksum);
        }
        let quoted = &bytes[HEADER_BYTES..];
        let message = match (kind, code) {
            (ndp::SOLICITATION | ndp::ADVERTISEMENT, _) => {
                let message = ndp::Message::parse(bytes, packet.hop_limit, packet.src, packet.dst);
                return message.map(Self::Neighbor).ok_or(DropReason::NdMalformed);
            }
            (ECHO_REQUEST, 0) => icmp::Message::EchoRequest { rest: &bytes[4..] },
            (PACKET_TOO_BIG, _) => {
                let mtu_bytes = u32::from_be_bytes(number);
                icmp::Message::PacketTooBig { mtu_bytes, quoted }
            }
            (UNREACHABLE, _) => {
                let cause = cause(code).ok_or(DropReason::IcmpMalformed)?;
                icmp::Message::Unreachable { cause, code, quoted }
            }
            (PARAMETER_PROBLEM, CODE_UNKNOWN_NEXT_HEADER) => {
                icmp::Message::Unreachable { cause: UnreachableCause::Protocol, code, quoted }
            }
            _ => return Err(DropReason::IcmpUnhandled),
        };
        Ok(Self::Icmp(message))
    }
}

/// What a code of destination unreachable means (RFC 4443 section 3.1).
const fn cause(code: u8) -> Option<UnreachableCause> {
    match code {
        0 | 2 => Some(UnreachableCause::Network),
        1 | 5 | 6 => Some(UnreachableCause::Prohibited),
        3 => Some(UnreachableCause::Host),
        CODE_PORT => Some(UnreachableCause::Port),
        _ => None,
    }
}

/// Reads the quotation of an error, as [`icmp::parse_quoted`] does. Whether the source is ours is for
/// the caller to see.
pub(super) fn parse_quoted(quoted: &[u8]) -> Result<QuotedPacket, DropReason> {
    let any_length = ipv6::HEADER_BYTES + usize::from(u16::MAX);
    let packet = ipv6::Packet::parse(quoted, any_length).map_err(|_| DropReason::IcmpMalformed)?;
    let homa = &quoted[packet.header_bytes..];
    let (src, dst) = (IpAddr::V6(packet.src), IpAddr::V6(packet.dst));
    icmp::quoted_homa(packet.next_header, homa, src, dst, packet.total_bytes)
}

/// The first four bytes of the reply from `src` to a ping of `dst`; the rest is that of the request.
pub(super) fn echo_reply_start(rest: &[u8], src: Ipv6Addr, dst: Ipv6Addr) -> [u8; 4] {
    let pseudo = ipv6::pseudo_sum(src, dst, ipv6::NEXT_HEADER_ICMPV6, 4 + rest.len());
    let sum = pseudo + checksum::sum(&[ECHO_REPLY, 0]) + checksum::sum(rest);
    let [s0, s1] = checksum::finish(sum).to_be_bytes();
    [ECHO_REPLY, 0, s0, s1]
}

/// The header of a port unreachable from `src` to `dst` in front of `quoted`.
pub(super) fn port_unreachable_header(
    quoted: &[u8],
    src: Ipv6Addr,
    dst: Ipv6Addr,
) -> [u8; HEADER_BYTES] {
    let bytes = HEADER_BYTES + quoted.len();
    let pseudo = ipv6::pseudo_sum(src, dst, ipv6::NEXT_HEADER_ICMPV6, bytes);
    let sum = pseudo + checksum::sum(&[UNREACHABLE, CODE_PORT]) + checksum::sum(quoted);
    let [s0, s1] = checksum::finish(sum).to_be_bytes();
    [UNREACHABLE, CODE_PORT, s0, s1, 0, 0, 0, 0]
}

/// Writes the checksum of a message from `src` to `dst` whose checksum is still zero.
pub(super) fn complete(message: &mut [u8], src: Ipv6Addr, dst: Ipv6Addr) {
    let pseudo = ipv6::pseudo_sum(src, dst, ipv6::NEXT_HEADER_ICMPV6, message.len());
    let sum = checksum::finish(pseudo + checksum::sum(message));
    message[2..4].copy_from_slice(&sum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const SRC: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 3);
    const DST: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2);

    fn packet() -> ipv6::Packet {
        let header = ipv6::header(SRC, DST, ipv6::NEXT_HEADER_ICMPV6, 64);
        ipv6::Packet::parse(&header, 40).unwrap()
    }

    fn completed(kind: u8, code: u8, number: u32, quoted: &[u8]) -> Vec<u8> {
        let mut message = [&[kind, code, 0, 0], &number.to_be_bytes()[..], quoted].concat();
        complete(&mut message, SRC, DST);
        message
    }

    /// The start of a RESEND that we have sent.
    fn our_packet() -> Vec<u8> {
        let mut header = ipv6::header(DST, SRC, 146, 64);
        ipv6::complete(&mut header, 0xE0, 37);
        let mut bytes = header.to_vec();
        bytes.extend([0x80, 0x11, 0x13, 0x87, 0, 0, 0, 0, 0, 0, 0, 0x12, 0x50, 0x06, 0, 0]);
        bytes.extend([0, 0, 0xb9, 0x7d, 0, 0, 0, 0, 0, 0, 0, 0x74]);
        bytes
    }

    #[test]
    fn errors_have_causes() {
        use UnreachableCause::{Host, Network, Port, Prohibited, Protocol};
        let quoted = our_packet();
        for (kind, code, cause) in [
            (1, 0, Network),
            (1, 1, Prohibited),
            (1, 2, Network),
            (1, 3, Host),
            (1, 4, Port),
            (1, 5, Prohibited),
            (4, 1, Protocol),
        ] {
            let bytes = completed(kind, code, 0, &quoted);
            let expected = icmp::Message::Unreachable { cause, code, quoted: &quoted };
            let message = Message::parse(&bytes, &packet());
            assert_eq!(message, Ok(Message::Icmp(expected)), "{kind}/{code}");
        }
        let bytes = completed(2, 0, 1400, &quoted);
        let expected = icmp::Message::PacketTooBig { mtu_bytes: 1400, quoted: &quoted };
        assert_eq!(Message::parse(&bytes, &packet()), Ok(Message::Icmp(expected)));
    }

    #[test]
    fn other_messages_are_refused() {
        for (kind, code, reason) in [
            (1, 8, DropReason::IcmpMalformed),
            (3, 0, DropReason::IcmpUnhandled),
            (4, 0, DropReason::IcmpUnhandled),
            (128, 1, DropReason::IcmpUnhandled),
            (129, 0, DropReason::IcmpUnhandled),
            (134, 0, DropReason::IcmpUnhandled),
            (135, 0, DropReason::NdMalformed),
        ] {
            let bytes = completed(kind, code, 0, &[]);
            assert_eq!(Message::parse(&bytes, &packet()), Err(reason), "{kind}/{code}");
        }
        let mut damaged = completed(128, 0, 0, &[]);
        damaged[7] ^= 1;
        assert_eq!(Message::parse(&damaged, &packet()), Err(DropReason::IcmpChecksum));
        for len in 0..8 {
            let cut = Message::parse(&damaged[..len], &packet());
            assert_eq!(cut, Err(DropReason::IcmpMalformed), "{len} bytes");
        }
    }

    #[test]
    fn a_quotation_names_the_rpc() {
        let quoted = our_packet();
        let expected = QuotedPacket {
            src: DST.into(),
            dst: SRC.into(),
            src_port: 0x8011,
            dst_port: 0x1387,
            sender_id: Some(0x74),
            packet_bytes: 77,
        };
        assert_eq!(parse_quoted(&quoted), Ok(expected));
        assert_eq!(parse_quoted(&quoted[..44]).unwrap().sender_id, None);
        for end in 0..44 {
            let cut = parse_quoted(&quoted[..end]);
            assert_eq!(cut, Err(DropReason::IcmpMalformed), "{end} bytes");
        }
        let mut other = quoted;
        other[6] = 17;
        assert_eq!(parse_quoted(&other), Err(DropReason::IcmpNotOurs));
    }

    #[test]
    fn what_we_send_is_valid() {
        let valid = |message: &[u8]| {
            let pseudo = ipv6::pseudo_sum(SRC, DST, 58, message.len());
            checksum::is_valid(pseudo + checksum::sum(message))
        };
        let rest = [0x12, 0x34, 0, 1, 0xA5, 0x5A, 0x77];
        assert!(valid(&[&echo_reply_start(&rest, SRC, DST)[..], &rest].concat()));
        let quoted = our_packet();
        let header = port_unreachable_header(&quoted, SRC, DST);
        assert!(valid(&[&header[..], &quoted].concat()));
    }
}
