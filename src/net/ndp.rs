//! Neighbour Discovery (RFC 4861): solicitations and advertisements of neighbours.

use core::net::Ipv6Addr;

use super::ipv6;
use super::mac::MacAddr;

pub(super) const SOLICITATION: u8 = 135;
pub(super) const ADVERTISEMENT: u8 = 136;
/// Messages travel with the largest hop limit, so that none can come from beyond a router.
pub(super) const HOP_LIMIT: u8 = 255;
/// Bytes of a message without options.
const MESSAGE_BYTES: usize = 24;
/// Bytes of the longest message we send: with a link-layer address.
const MESSAGE_MAX_BYTES: usize = MESSAGE_BYTES + 8;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;
const SOURCE_LINK_LAYER: u8 = 1;
const TARGET_LINK_LAYER: u8 = 2;

/// A message about the station that has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// Who has `target`? An unspecified sender wants the address for itself (RFC 4862 section 5.4).
    Solicitation {
        target: Ipv6Addr,
        /// The station that asks, if it says so.
        source_mac: Option<MacAddr>,
    },
    /// I have `target`.
    Advertisement {
        target: Ipv6Addr,
        target_mac: Option<MacAddr>,
        /// It answers a solicitation sent to that very station.
        is_solicited: bool,
        /// It counts more than what was known.
        is_override: bool,
    },
}

impl Message {
    /// Reads a message whose ICMPv6 checksum was found right, `None` unless it passes the checks of
    /// RFC 4861 sections 7.1.1 and 7.1.2.
    pub(super) fn parse(bytes: &[u8], hop_limit: u8, src: Ipv6Addr, dst: Ipv6Addr) -> Option<Self> {
        let head = bytes.first_chunk::<MESSAGE_BYTES>()?;
        let target = Ipv6Addr::from(*head.last_chunk::<16>()?);
        if hop_limit != HOP_LIMIT || head[1] != 0 || !ipv6::is_host(target) {
            return None;
        }
        let options = &bytes[MESSAGE_BYTES..];
        match head[0] {
            SOLICITATION => {
                let source_mac = link_layer_address(options, SOURCE_LINK_LAYER)?;
                let is_probe = src.is_unspecified();
                let is_fine = dst == ipv6::solicited_node(target) && source_mac.is_none();
                (!is_probe || is_fine).then_some(Self::Solicitation { target, source_mac })
            }
            ADVERTISEMENT => {
                let target_mac = link_layer_address(options, TARGET_LINK_LAYER)?;
                let is_solicited = head[4] & SOLICITED != 0;
                let is_override = head[4] & OVERRIDE != 0;
                (!is_solicited || !dst.is_multicast()).then_some(Self::Advertisement {
                    target,
                    target_mac,
                    is_solicited,
                    is_override,
                })
            }
            _ => None,
        }
    }

    /// Writes the message with its checksum still zero to `out`; returns what was written.
    pub(super) fn emit(self, out: &mut [u8; MESSAGE_MAX_BYTES]) -> &mut [u8] {
        out.fill(0);
        let (kind, target, option, mac) = match self {
            Self::Solicitation { target, source_mac } => {
                (SOLICITATION, target, SOURCE_LINK_LAYER, source_mac)
            }
            Self::Advertisement { target, target_mac, is_solicited, is_override } => {
                out[4] = if is_solicited { SOLICITED } else { 0 }
                    | if is_override { OVERRIDE } else { 0 };
                (ADVERTISEMENT, target, TARGET_LINK_LAYER, target_mac)
            }
        };
        out[0] = kind;
        out[8..24].copy_from_slice(&target.octets());
        let Some(mac) = mac else { return &mut out[..MESSAGE_BYTES] };
        out[24] = option;
        out[25] = 1;
        out[26..].copy_from_slice(&mac.0);
        out
    }

    /// Room for [`Self::emit`].
    pub(super) const fn room() -> [u8; MESSAGE_MAX_BYTES] {
        [0; MESSAGE_MAX_BYTES]
    }
}

/// The link-layer address among `options`: `None` if an option is malformed, `Some(None)` if there is
/// no such option.
fn link_layer_address(mut options: &[u8], wanted: u8) -> Option<Option<MacAddr>> {
    let mut found = None;
    while let Some(&[kind, units]) = options.first_chunk::<2>() {
        let bytes = usize::from(units) * 8;
        if bytes == 0 {
            return None;
        }
        let option = options.get(..bytes)?;
        if kind == wanted {
            let mac = MacAddr(*option[2..].first_chunk()?);
            if bytes != 8 || !mac.is_unicast() {
                return None;
            }
            found = Some(mac);
        }
        options = &options[bytes..];
    }
    options.is_empty().then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr([2, 0x77, 0, 0, 0, 3]);

    fn ip(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    fn bytes(message: Message) -> Vec<u8> {
        message.emit(&mut Message::room()).to_vec()
    }

    fn solicitation() -> Message {
        Message::Solicitation { target: ip("fd77::2"), source_mac: Some(MAC) }
    }

    fn advertisement() -> Message {
        Message::Advertisement {
            target: ip("fd77::3"),
            target_mac: Some(MAC),
            is_solicited: true,
            is_override: true,
        }
    }

    fn parse(bytes: &[u8]) -> Option<Message> {
        Message::parse(bytes, 255, ip("fd77::3"), ip("fd77::2"))
    }

    #[test]
    fn a_solicitation_byte_by_byte() {
        let expected = [
            135, 0, 0, 0, 0, 0, 0, 0, 0xfd, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1, 1,
            2, 0x77, 0, 0, 0, 3,
        ];
        assert_eq!(bytes(solicitation()), expected);
        assert_eq!(bytes(advertisement())[..5], [136, 0, 0, 0, 0x60]);
        assert_eq!(bytes(advertisement())[24..], [2, 1, 2, 0x77, 0, 0, 0, 3]);
    }

    #[test]
    fn what_is_written_is_read() {
        let plain = Message::Advertisement {
            target: ip("fe80::1"),
            target_mac: None,
            is_solicited: false,
            is_override: false,
        };
        for message in [solicitation(), advertisement(), plain] {
            assert_eq!(parse(&bytes(message)), Some(message));
        }
    }

    #[test]
    fn other_options_are_skipped() {
        let mut long = bytes(Message::Solicitation { target: ip("fd77::2"), source_mac: None });
        // A nonce (RFC 3971), then the address.
        long.extend([14, 1, 1, 2, 3, 4, 5, 6]);
        long.extend([1, 1]);
        long.extend(MAC.0);
        assert_eq!(parse(&long), Some(solicitation()));
    }

    /// The checks of RFC 4861 section 7.1, each broken alone.
    #[test]
    fn what_must_be_dropped_row_by_row() {
        for message in [solicitation(), advertisement()] {
            let good = bytes(message);
            let (src, dst) = (ip("fd77::3"), ip("fd77::2"));
            for hop_limit in [0, 64, 254] {
                assert_eq!(Message::parse(&good, hop_limit, src, dst), None, "{hop_limit}");
            }
            for len in 0..32 {
                assert_eq!(parse(&good[..len]).is_some(), len == 24, "{len} bytes");
            }
            for (at, value, why) in [
                (0, 134, "type"),
                (1, 1, "code"),
                (8, 0xff, "multicast target"),
                (25, 0, "option of no length"),
                (25, 2, "option longer than the message"),
                (26, 3, "address of a group"),
            ] {
                let mut bad = good.clone();
                bad[at] = value;
                assert_eq!(parse(&bad), None, "{why}");
            }
        }
        let good = bytes(advertisement());
        let group = Message::parse(&good, 255, ip("fd77::3"), ipv6::ALL_NODES);
        assert_eq!(group, None, "solicited by nobody in particular");
    }

    #[test]
    fn who_has_no_address_yet_gives_none() {
        let target = ip("fd77::2");
        let probe = bytes(Message::Solicitation { target, source_mac: None });
        let unspecified = Ipv6Addr::UNSPECIFIED;
        let group = ipv6::solicited_node(target);
        assert!(Message::parse(&probe, 255, unspecified, group).is_some());
        assert_eq!(Message::parse(&probe, 255, unspecified, target), None);
        assert_eq!(Message::parse(&bytes(solicitation()), 255, unspecified, group), None);
    }
}
