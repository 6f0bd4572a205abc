//! Our own addresses: which they are, what they reach, which of them speaks to whom.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

use super::{ipv4, ipv6};

/// An address of an interface with the length of its network's prefix, written as `10.0.0.1/24` or
/// `fd00::1/64`. Read without a length it has the usual one of a link: 24 or 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InterfaceAddr {
    /// The address.
    pub ip: IpAddr,
    /// How many leading bits name the network, at most 32 or 128.
    pub prefix_len: u8,
}

impl InterfaceAddr {
    /// The address `ip` in a network of `prefix_len` bits.
    pub fn new(ip: impl Into<IpAddr>, prefix_len: u8) -> Self {
        Self { ip: ip.into(), prefix_len }
    }

    /// Bits of an address of this family.
    pub(super) const fn bits(&self) -> u8 {
        if self.ip.is_ipv4() { 32 } else { 128 }
    }

    /// Whether this names a network and no host on it: all bits behind the prefix are zero.
    pub(super) fn is_network(&self) -> bool {
        match self.ip {
            IpAddr::V4(ip) => ipv4::Subnet::new(ip, self.prefix_len).is_network(ip),
            IpAddr::V6(ip) => ipv6::Subnet::new(ip, self.prefix_len).is_router_anycast(),
        }
    }
}

impl fmt::Display for InterfaceAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix_len)
    }
}

impl FromStr for InterfaceAddr {
    type Err = InterfaceAddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || InterfaceAddrParseError { text: text.to_owned() };
        let (ip, len) = match text.split_once('/') {
            Some((ip, len)) => (ip, Some(len)),
            None => (text, None),
        };
        let ip: IpAddr = ip.parse().map_err(|_| error())?;
        let usual = if ip.is_ipv4() { 24 } else { 64 };
        let is_number = |len: &str| len.bytes().all(|b| b.is_ascii_digit());
        let prefix_len = match len {
            None => usual,
            Some(len) if is_number(len) => len.parse().map_err(|_| error())?,
            Some(_) => return Err(error()),
        };
        let address = Self { ip, prefix_len };
        if (1..=address.bits()).contains(&prefix_len) { Ok(address) } else { Err(error()) }
    }
}

/// A text that is no [`InterfaceAddr`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceAddrParseError {
    text: String,
}

impl fmt::Display for InterfaceAddrParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is not an address with the length of its network's prefix: write one like \
             10.0.0.1/24 (length 1 to 32) or fd00::1/64 (1 to 128)",
            self.text
        )
    }
}

impl std::error::Error for InterfaceAddrParseError {}

/// All addresses of an interface: at most one of IPv4, any number of IPv6.
#[derive(Clone, Debug)]
pub(super) struct Addresses {
    pub(super) v4: Option<ipv4::Subnet>,
    pub(super) v6: Vec<ipv6::Subnet>,
}

impl Addresses {
    pub(super) fn new(addresses: &[InterfaceAddr]) -> Self {
        let mut all = Self { v4: None, v6: Vec::new() };
        for &InterfaceAddr { ip, prefix_len } in addresses {
            match ip {
                IpAddr::V4(ip) => all.v4 = Some(ipv4::Subnet::new(ip, prefix_len)),
                IpAddr::V6(ip) => all.v6.push(ipv6::Subnet::new(ip, prefix_len)),
            }
        }
        all
    }

    /// Whether `ip` is one of ours.
    pub(super) fn is_own(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => self.v4.is_some_and(|subnet| subnet.addr == ip),
            IpAddr::V6(ip) => self.is_own_v6(ip),
        }
    }

    pub(super) fn is_own_v6(&self, ip: Ipv6Addr) -> bool {
        self.v6.iter().any(|subnet| subnet.addr == ip)
    }

    /// Whether `ip` is a group that neighbours ask for one of our addresses at.
    pub(super) fn is_solicited_node(&self, ip: Ipv6Addr) -> bool {
        self.v6.iter().any(|subnet| ipv6::solicited_node(subnet.addr) == ip)
    }

    /// Whether `ip` can be that of one host on the networks we know.
    pub(super) fn is_host(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => match &self.v4 {
                Some(subnet) => subnet.is_host(ip),
                None => ipv4::is_host(ip),
            },
            IpAddr::V6(ip) => ipv6::is_host(ip),
        }
    }

    /// Whether `ip` can be reached without a gateway.
    pub(super) fn is_on_link(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => self.v4.is_some_and(|subnet| subnet.is_on_link(ip)),
            IpAddr::V6(ip) => {
                // The link-local network is that of every interface with IPv6.
                !self.v6.is_empty()
                    && (ip.is_unicast_link_local()
                        || self.v6.iter().any(|subnet| subnet.is_on_link(ip)))
            }
        }
    }

    /// The address to speak to `dst` from, of the same family; `None` if there is no such.
    pub(super) fn source_for(&self, dst: IpAddr) -> Option<IpAddr> {
        match dst {
            IpAddr::V4(_) => self.v4.map(|subnet| IpAddr::V4(subnet.addr)),
            IpAddr::V6(dst) => self.source_for_v6(dst).map(IpAddr::V6),
        }
    }

    pub(super) fn source_for_v4(&self) -> Option<Ipv4Addr> {
        self.v4.map(|subnet| subnet.addr)
    }

    /// Of the addresses of the right scope the one that is most like `dst`, the first of equals
    /// (RFC 6724 section 5, rules 2 and 8).
    pub(super) fn source_for_v6(&self, dst: Ipv6Addr) -> Option<Ipv6Addr> {
        let is_local = dst.is_unicast_link_local();
        let rank = |subnet: &&ipv6::Subnet| {
            (subnet.addr.is_unicast_link_local() == is_local, subnet.common_bits(dst))
        };
        self.v6.iter().rev().max_by_key(rank).map(|subnet| subnet.addr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Addresses {
        let all: Vec<InterfaceAddr> = texts.iter().map(|text| text.parse().unwrap()).collect();
        Addresses::new(&all)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn text_and_back() {
        for (text, written) in [
            ("10.0.0.1/8", "10.0.0.1/8"),
            ("10.0.0.1", "10.0.0.1/24"),
            ("fd00::1", "fd00::1/64"),
            ("fe80:0::1/10", "fe80::1/10"),
        ] {
            assert_eq!(text.parse::<InterfaceAddr>().unwrap().to_string(), written);
        }
        for text in
            ["", "10.0.0.1/0", "10.0.0.1/33", "10.0.0.1/+8", "fd00::1/129", "10.0.0/8", "x/8", "/8"]
        {
            let error = text.parse::<InterfaceAddr>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{text:?} is not")), "{error}");
        }
    }

    #[test]
    fn networks_are_not_hosts() {
        for (text, is_network) in [
            ("10.0.0.0/24", true),
            ("10.0.1.0/16", false),
            ("10.0.0.0/31", false),
            ("10.0.0.0/32", false),
            ("fd00::/64", true),
            ("fd00::/127", false),
            ("fd00::1/64", false),
        ] {
            assert_eq!(text.parse::<InterfaceAddr>().unwrap().is_network(), is_network, "{text}");
        }
    }

    #[test]
    fn who_speaks_to_whom() {
        let ours = addresses(&["10.0.0.1/24", "fe80::1/64", "fd00::1/64", "2001:db8::1/64"]);
        for (dst, src) in [
            ("10.0.0.9", "10.0.0.1"),
            ("192.0.2.1", "10.0.0.1"),
            ("fe80::9", "fe80::1"),
            ("fd00::9", "fd00::1"),
            ("fd00:1::9", "fd00::1"),
            ("2001:db8:1::9", "2001:db8::1"),
            ("2600::1", "2001:db8::1"),
        ] {
            assert_eq!(ours.source_for(ip(dst)), Some(ip(src)), "{dst}");
        }
        assert_eq!(addresses(&["10.0.0.1"]).source_for(ip("fd00::1")), None);
        assert_eq!(addresses(&["fd00::1"]).source_for(ip("10.0.0.1")), None);
        // Better than none at all.
        assert_eq!(addresses(&["fd00::1"]).source_for(ip("fe80::9")), Some(ip("fd00::1")));
    }

    #[test]
    fn what_is_near() {
        let ours = addresses(&["10.0.0.1/24", "fd00::1/64"]);
        for (dst, near) in [
            ("10.0.0.200", true),
            ("10.0.1.1", false),
            ("fd00::2", true),
            ("fd00:0:0:1::2", false),
            ("fe80::2", true),
        ] {
            assert_eq!(ours.is_on_link(ip(dst)), near, "{dst}");
        }
        assert!(!addresses(&["10.0.0.1"]).is_on_link(ip("fe80::2")));
    }
}
