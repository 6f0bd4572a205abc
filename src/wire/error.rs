//! Why bytes are not a Homa packet.

use core::fmt;

use super::{COMMON_HEADER_LEN, PacketType};

/// Why bytes are not a Homa packet. Such a packet is dropped and counted, never answered
/// (protocol.md section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// Shorter than the common header, so that not even the type is known.
    NoCommonHeader {
        /// Bytes there are.
        length_bytes: usize,
    },
    /// The type is none of protocol.md section 3.1.
    UnknownType {
        /// The type byte.
        code: u8,
    },
    /// Shorter than its type requires.
    TooShort {
        /// The type the packet claims.
        packet_type: PacketType,
        /// Bytes there are.
        length_bytes: usize,
    },
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NoCommonHeader { length_bytes } => write!(
                f,
                "{length_bytes} bytes cannot hold the Homa header of {COMMON_HEADER_LEN} bytes; \
                 drop the packet and check what cuts it short"
            ),
            Self::UnknownType { code } => write!(
                f,
                "unknown Homa packet type {code:#04x}; \
                 drop the packet and check that the sender speaks Homa"
            ),
            Self::TooShort { packet_type, length_bytes } => write!(
                f,
                "{packet_type} packet of {length_bytes} bytes, at least {} are required; \
                 drop the packet and check that the sender's Homa is not from before December 2024",
                packet_type.min_len()
            ),
        }
    }
}

impl core::error::Error for ParseError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_value_and_the_limit() {
        let text = ParseError::NoCommonHeader { length_bytes: 27 }.to_string();
        assert!(text.starts_with("27 bytes") && text.contains("28 bytes"), "{text}");
        let text = ParseError::UnknownType { code: 0x0f }.to_string();
        assert!(text.contains("type 0x0f"), "{text}");
        let text =
            ParseError::TooShort { packet_type: PacketType::Ack, length_bytes: 30 }.to_string();
        assert!(text.starts_with("ACK packet of 30 bytes, at least 80 "), "{text}");
    }
}
