//! Addresses of hosts as the packet path carries them.

use core::fmt;
use core::net::{AddrParseError, IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

/// An IPv4 or IPv6 address in two registers: [`IpAddr`] is a tag and up to 16 bytes, which is written in
/// small pieces and read in large ones, and processors wait for that. An IPv4 address is kept in its
/// mapped form (RFC 4291 section 2.5.5.2), so that both spellings of it are equal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostAddr {
    high: u64,
    low: u64,
}

/// What stands before the 32 bits of an IPv4 address.
const MAPPED: u64 = 0xffff << 32;

impl HostAddr {
    /// An IPv4 address.
    #[inline]
    pub const fn v4(addr: Ipv4Addr) -> Self {
        Self { high: 0, low: MAPPED | addr.to_bits() as u64 }
    }

    /// An IPv6 address.
    #[inline]
    pub const fn v6(addr: Ipv6Addr) -> Self {
        let bits = addr.to_bits();
        Self { high: (bits >> 64) as u64, low: bits as u64 }
    }

    /// Any address.
    #[inline]
    pub const fn new(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(addr) => Self::v4(addr),
            IpAddr::V6(addr) => Self::v6(addr),
        }
    }

    /// The same in the form of the standard library, IPv4 where it is.
    #[inline]
    pub const fn ip(self) -> IpAddr {
        if self.high == 0 && self.low & !0xffff_ffff == MAPPED {
            return IpAddr::V4(Ipv4Addr::from_bits(self.low as u32));
        }
        IpAddr::V6(Ipv6Addr::from_bits((self.high as u128) << 64 | self.low as u128))
    }

    /// The two halves, for hashing.
    #[inline]
    pub(crate) const fn halves(self) -> [u64; 2] {
        [self.high, self.low]
    }
}

impl From<IpAddr> for HostAddr {
    #[inline]
    fn from(addr: IpAddr) -> Self {
        Self::new(addr)
    }
}

impl From<Ipv4Addr> for HostAddr {
    #[inline]
    fn from(addr: Ipv4Addr) -> Self {
        Self::v4(addr)
    }
}

impl From<Ipv6Addr> for HostAddr {
    #[inline]
    fn from(addr: Ipv6Addr) -> Self {
        Self::v6(addr)
    }
}

impl From<[u8; 4]> for HostAddr {
    #[inline]
    fn from(octets: [u8; 4]) -> Self {
        Self::v4(octets.into())
    }
}

impl FromStr for HostAddr {
    type Err = AddrParseError;

    fn from_str(text: &str) -> Result<Self, AddrParseError> {
        text.parse().map(Self::new)
    }
}

impl From<HostAddr> for IpAddr {
    #[inline]
    fn from(addr: HostAddr) -> Self {
        addr.ip()
    }
}

impl fmt::Display for HostAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ip().fmt(f)
    }
}

impl fmt::Debug for HostAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ip().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_come_back() {
        for text in ["10.0.0.1", "255.255.255.255", "0.0.0.0", "fd00::1", "::", "::1", "fe80::2:3"]
        {
            let addr: HostAddr = text.parse().unwrap();
            assert_eq!(addr.to_string(), text);
            assert_eq!(addr.ip(), text.parse::<IpAddr>().unwrap());
        }
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_one() {
        let mapped: HostAddr = "::ffff:10.0.0.1".parse().unwrap();
        assert_eq!(mapped, HostAddr::v4(Ipv4Addr::new(10, 0, 0, 1)));
    }
}
