//! Names of things on the wire: ports and RPC ids (protocol.md section 4).

use core::fmt;

/// A Homa port. The space is that of Homa alone: UDP and TCP ports of the same number are
/// unrelated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HomaPort(pub u16);

impl HomaPort {
    /// The lowest port that is assigned to clients; the ports below, save 0, belong to servers.
    pub const FIRST_CLIENT: Self = Self(0x8000);
}

impl fmt::Display for HomaPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id of an RPC as one of its two sides writes it: even at the client, the same with bit 0 set
/// at the server. The other 63 bits have a meaning to the client alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RpcId(pub u64);

impl RpcId {
    /// Whether the side that writes the id this way is the client.
    #[inline]
    pub const fn is_client(self) -> bool {
        self.0 & 1 == 0
    }

    /// The id as the other side writes it.
    #[inline]
    pub const fn flip(self) -> Self {
        Self(self.0 ^ 1)
    }
}

impl fmt::Display for RpcId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_ids_are_even_and_flip_changes_the_side_only() {
        for id in [2, 0x0500_0000_0000_04b0, u64::MAX - 1].map(RpcId) {
            assert!(id.is_client());
            assert!(!id.flip().is_client());
            assert_eq!(id.flip().0, id.0 + 1);
            assert_eq!(id.flip().flip(), id);
        }
    }

    #[test]
    fn display_is_plain_decimal() {
        assert_eq!(HomaPort::FIRST_CLIENT.to_string(), "32768");
        assert_eq!(RpcId(u64::MAX).to_string(), "18446744073709551615");
    }
}
