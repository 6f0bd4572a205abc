//! Ethernet addresses.

use core::fmt;
use core::str::FromStr;

/// A 48-bit Ethernet address.
///
/// Read and written as six hexadecimal octets joined by colons, `02:00:00:00:00:01`; dashes are
/// read too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// The address of every station on the link.
    pub const BROADCAST: Self = Self([0xff; 6]);
    /// The address that stands for "not known".
    pub const UNSPECIFIED: Self = Self([0; 6]);

    /// Whether this addresses several stations: broadcast or multicast.
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Whether this can be the address of one station: neither a group nor unspecified.
    pub fn is_unicast(self) -> bool {
        !self.is_group() && self != Self::UNSPECIFIED
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddr {
    type Err = MacAddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || MacAddrParseError { text: text.to_owned() };
        let mut octets = [0; 6];
        let mut parts = text.split([':', '-']);
        for octet in &mut octets {
            let part = parts.next().ok_or_else(error)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(error());
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| error())?;
        }
        if parts.next().is_some() { Err(error()) } else { Ok(Self(octets)) }
    }
}

/// A text that is no Ethernet address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MacAddrParseError {
    text: String,
}

impl fmt::Display for MacAddrParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = &self.text;
        write!(f, "{text:?} is not an Ethernet address: write six octets like 02:00:00:00:00:01")
    }
}

impl std::error::Error for MacAddrParseError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let mac = MacAddr([0x02, 0x77, 0, 0, 0xAB, 0x0f]);
        assert_eq!(mac.to_string(), "02:77:00:00:ab:0f");
        assert_eq!("02:77:00:00:ab:0f".parse(), Ok(mac));
        assert_eq!("02-77-00-00-AB-0F".parse(), Ok(mac));
    }

    #[test]
    fn bad_texts_are_named_in_the_error() {
        for text in [
            "",
            "02",
            "02:77:00:00:ab",
            "02:77:00:00:ab:0f:01",
            "02:77:00:00:ab:f",
            "02:77:00:00:ab:+f",
            "02:77:00:00:ab:0g",
            "0277.0000.ab0f",
        ] {
            let error = text.parse::<MacAddr>().unwrap_err();
            assert!(error.to_string().starts_with(&format!("{text:?} is not")), "{error}");
        }
    }

    #[test]
    fn groups_and_stations() {
        assert!(MacAddr::BROADCAST.is_group());
        assert!(MacAddr([0x01, 0, 0x5e, 0, 0, 1]).is_group());
        assert!(MacAddr([2, 0, 0, 0, 0, 1]).is_unicast());
        assert!(!MacAddr::UNSPECIFIED.is_unicast());
        assert!(!MacAddr::BROADCAST.is_unicast());
    }
}
