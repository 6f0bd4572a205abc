//! Requests and responses of the store as bytes.
//!
//! ```text
//! request    operation  key length      key         value
//!            1 byte     2 bytes, big-   1 to 250    PUT only,
//!                       endian          bytes       to the end
//! response   status     value or reason
//!            1 byte     to the end
//! ```

use std::fmt;

use bytes::{Buf, BufMut};

/// Longest key, in bytes.
pub(crate) const KEY_BYTES_MAX: usize = 250;
/// Operation and key length.
const REQUEST_HEADER_BYTES: usize = 3;
/// Status.
pub(crate) const RESPONSE_HEADER_BYTES: usize = 1;

const GET: u8 = 1;
const PUT: u8 = 2;
const DELETE: u8 = 3;

/// What a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request<'a> {
    /// The value of a key.
    Get { key: &'a [u8] },
    /// Store a value, in place of the one before.
    Put { key: &'a [u8], value: &'a [u8] },
    /// Forget a key.
    Delete { key: &'a [u8] },
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Status {
    /// Done; the value follows if one was asked for.
    Ok = 0,
    /// There is no such key.
    NotFound = 1,
    /// The request could not be understood; the reason follows as text.
    BadRequest = 2,
    /// The store has no room for the value.
    Full = 3,
}

/// Why bytes are not a request or a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FormatError {
    /// The message ends before its header or its key does.
    Truncated { needed_bytes: usize, present_bytes: usize },
    /// There is no such operation.
    UnknownOperation(u8),
    /// There is no such status.
    UnknownStatus(u8),
    /// A key has 1 to [`KEY_BYTES_MAX`] bytes.
    KeyLength(usize),
    /// Bytes follow the key where only PUT has a value.
    UnexpectedValue(usize),
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { needed_bytes, present_bytes } => {
                write!(f, "the message has {present_bytes} bytes and needs {needed_bytes}")
            }
            Self::UnknownOperation(byte) => {
                write!(f, "there is no operation {byte}: use 1 (GET), 2 (PUT) or 3 (DELETE)")
            }
            Self::UnknownStatus(byte) => write!(f, "there is no status {byte}: use 0 to 3"),
            Self::KeyLength(bytes) => {
                write!(f, "a key has 1 to {KEY_BYTES_MAX} bytes, not {bytes}")
            }
            Self::UnexpectedValue(bytes) => {
                write!(f, "{bytes} bytes follow the key: only PUT has a value")
            }
        }
    }
}

impl std::error::Error for FormatError {}

impl<'a> Request<'a> {
    /// Reads a request.
    ///
    /// # Errors
    /// When `bytes` is anything else.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, FormatError> {
        let mut rest = bytes;
        need(bytes, REQUEST_HEADER_BYTES)?;
        let operation = rest.get_u8();
        let key_bytes = usize::from(rest.get_u16());
        if !(1..=KEY_BYTES_MAX).contains(&key_bytes) {
            return Err(FormatError::KeyLength(key_bytes));
        }
        need(bytes, REQUEST_HEADER_BYTES + key_bytes)?;
        let (key, value) = rest.split_at(key_bytes);
        match operation {
            PUT => Ok(Self::Put { key, value }),
            GET | DELETE if !value.is_empty() => Err(FormatError::UnexpectedValue(value.len())),
            GET => Ok(Self::Get { key }),
            DELETE => Ok(Self::Delete { key }),
            _ => Err(FormatError::UnknownOperation(operation)),
        }
    }

    /// Writes the request.
    ///
    /// # Errors
    /// When the key is empty or too long; nothing is written then.
    pub(crate) fn emit(&self, out: &mut impl BufMut) -> Result<(), FormatError> {
        let (operation, key, value) = match *self {
            Self::Get { key } => (GET, key, &[][..]),
            Self::Put { key, value } => (PUT, key, value),
            Self::Delete { key } => (DELETE, key, &[][..]),
        };
        let key_bytes = u16::try_from(key.len())
            .ok()
            .filter(|_| (1..=KEY_BYTES_MAX).contains(&key.len()))
            .ok_or(FormatError::KeyLength(key.len()))?;
        out.put_u8(operation);
        out.put_u16(key_bytes);
        out.put_slice(key);
        out.put_slice(value);
        Ok(())
    }
}

impl Status {
    /// Reads a response: its status, and the bytes behind it.
    ///
    /// # Errors
    /// When `bytes` is anything else.
    pub(crate) fn parse(bytes: &[u8]) -> Result<(Self, &[u8]), FormatError> {
        need(bytes, RESPONSE_HEADER_BYTES)?;
        let (header, rest) = bytes.split_at(RESPONSE_HEADER_BYTES);
        let status = match header[0] {
            0 => Self::Ok,
            1 => Self::NotFound,
            2 => Self::BadRequest,
            3 => Self::Full,
            other => return Err(FormatError::UnknownStatus(other)),
        };
        Ok((status, rest))
    }
}

fn need(bytes: &[u8], needed_bytes: usize) -> Result<(), FormatError> {
    if bytes.len() >= needed_bytes {
        return Ok(());
    }
    Err(FormatError::Truncated { needed_bytes, present_bytes: bytes.len() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn emitted(request: Request<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        request.emit(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn the_format_is_as_documented() {
        assert_eq!(emitted(Request::Get { key: b"ab" }), b"\x01\x00\x02ab");
        assert_eq!(emitted(Request::Put { key: b"k", value: b"v1" }), b"\x02\x00\x01kv1");
        assert_eq!(emitted(Request::Delete { key: b"k" }), b"\x03\x00\x01k");
        assert_eq!(Status::parse(b"\x00value"), Ok((Status::Ok, &b"value"[..])));
        for status in [Status::Ok, Status::NotFound, Status::BadRequest, Status::Full] {
            assert_eq!(Status::parse(&[status as u8]), Ok((status, &[][..])));
        }
    }

    #[test]
    fn an_empty_value_is_a_value() {
        let put = Request::Put { key: b"k", value: b"" };
        assert_eq!(Request::parse(&emitted(put)), Ok(put));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let truncated = |needed_bytes, present_bytes| {
            Err(FormatError::Truncated { needed_bytes, present_bytes })
        };
        assert_eq!(Request::parse(b""), truncated(3, 0));
        assert_eq!(Request::parse(b"\x01\x00"), truncated(3, 2));
        assert_eq!(Request::parse(b"\x01\x00\x05abcd"), truncated(8, 7));
        assert_eq!(Request::parse(b"\x01\x00\x00"), Err(FormatError::KeyLength(0)));
        assert_eq!(Request::parse(b"\x02\xff\xff"), Err(FormatError::KeyLength(65_535)));
        assert_eq!(Request::parse(b"\x09\x00\x01k"), Err(FormatError::UnknownOperation(9)));
        assert_eq!(Request::parse(b"\x01\x00\x01kv"), Err(FormatError::UnexpectedValue(1)));
        assert_eq!(Request::parse(b"\x03\x00\x01kvv"), Err(FormatError::UnexpectedValue(2)));
        assert_eq!(
            Status::parse(b""),
            Err(FormatError::Truncated { needed_bytes: 1, present_bytes: 0 })
        );
        assert_eq!(Status::parse(b"\x04"), Err(FormatError::UnknownStatus(4)));
    }

    #[test]
    fn keys_that_cannot_be_sent_are_refused() {
        for length in [0, KEY_BYTES_MAX + 1, 70_000] {
            let mut out = Vec::new();
            let key = vec![b'k'; length];
            let refused = Request::Get { key: &key }.emit(&mut out);
            assert_eq!(refused, Err(FormatError::KeyLength(length)));
            assert!(out.is_empty());
        }
    }

    proptest! {
        #[test]
        fn requests_survive_the_wire(
            key in prop::collection::vec(any::<u8>(), 1..=KEY_BYTES_MAX),
            value in prop::collection::vec(any::<u8>(), 0..2_000),
        ) {
            for request in [
                Request::Get { key: &key },
                Request::Put { key: &key, value: &value },
                Request::Delete { key: &key },
            ] {
                let bytes = emitted(request);
                prop_assert_eq!(Request::parse(&bytes), Ok(request));
            }
        }

        #[test]
        fn any_bytes_are_a_request_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            if let Ok(request) = Request::parse(&bytes) {
                prop_assert_eq!(emitted(request), bytes);
            }
        }
    }
}
