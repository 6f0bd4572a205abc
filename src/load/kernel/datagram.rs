//! RPCs in UDP datagrams: the simplest transport that can carry them, to compare with.
//!
//! A message goes in datagrams of a header of [`HEADER_BYTES`] bytes, all numbers lowest byte first, and
//! a piece of the payload. All pieces but the last are as long as the MTU allows.
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0-2 | magic | [`MAGIC`] |
//! | 3 | kind | 1 request, 2 response, 3 credit for a request, 4 credit for a response |
//! | 4-7 | length | bytes of the message; in a credit, bytes of it received so far |
//! | 8-11 | response | how long the response is to be |
//! | 12-19 | id | chosen by the client; key of the [`Pattern`](crate::load::payload::Pattern) |
//! | 20-23 | offset | of the piece in the message |
//! | 24-27 | piece | length of all pieces but the last |
//!
//! # What it does and does not do
//!
//! * **Window.** At most [`WINDOW_PIECES`] datagrams of a message are under way: the receiver of a
//!   longer one tells after every [`CREDIT_PIECES`] what it has. Short messages need no credit.
//! * **No retransmission.** An RPC that loses a datagram fails when nothing was heard of it for the
//!   timeout, and is counted as such. The server forgets what came of it after twice that time.
//! * **No congestion control and no order between messages** beyond the window. Losses are those of
//!   socket buffers, which are asked to be 4 MB.

use std::time::Duration;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::frame::check_length;

/// Length of the header.
pub const HEADER_BYTES: usize = size_of::<RawHeader>();
/// The first bytes of a datagram.
pub const MAGIC: [u8; 3] = *b"hld";
/// Datagrams of a message that are sent without having heard from the receiver.
pub const WINDOW_PIECES: u32 = 32;
/// The receiver of a message that is longer than the window tells what it has after so many datagrams.
pub const CREDIT_PIECES: u32 = 8;
/// The largest datagram of IPv4.
pub const DATAGRAM_BYTES_MAX: usize = 65_507;
/// How long a server keeps parts of messages at least.
pub(super) const KEEP_MIN: Duration = Duration::from_secs(1);

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawHeader {
    magic: [u8; 3],
    kind: u8,
    length: U32,
    response: U32,
    id: U64,
    offset: U32,
    piece: U32,
}

/// What a datagram is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A piece of a request.
    Request = 1,
    /// A piece of a response.
    Response = 2,
    /// To the sender of a request: so much of it was received.
    RequestCredit = 3,
    /// To the sender of a response: so much of it was received.
    ResponseCredit = 4,
}

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What it is for.
    pub kind: Kind,
    /// Bytes of the message; in a credit, how many of them were received.
    pub length: u32,
    /// Bytes that the response is to have, or has.
    pub response_bytes: u32,
    /// The RPC.
    pub id: u64,
    /// Where the piece lies.
    pub offset: u32,
    /// Length of all pieces but the last.
    pub piece_bytes: u32,
}

impl Header {
    /// Writes it to the beginning of `datagram`.
    pub fn write(&self, datagram: &mut [u8]) {
        let raw = RawHeader {
            magic: MAGIC,
            kind: self.kind as u8,
            length: self.length.into(),
            response: self.response_bytes.into(),
            id: self.id.into(),
            offset: self.offset.into(),
            piece: self.piece_bytes.into(),
        };
        datagram[..HEADER_BYTES].copy_from_slice(raw.as_bytes());
    }

    /// The header and the piece of a datagram; `None` if it is none of ours, or makes no sense.
    pub fn parse(datagram: &[u8]) -> Option<(Self, &[u8])> {
        let (raw, piece) = RawHeader::ref_from_prefix(datagram).ok()?;
        let kind = match raw.kind {
            1 => Kind::Request,
            2 => Kind::Response,
            3 => Kind::RequestCredit,
            4 => Kind::ResponseCredit,
            _ => return None,
        };
        let header = Self {
            kind,
            length: raw.length.get(),
            response_bytes: raw.response.get(),
            id: raw.id.get(),
            offset: raw.offset.get(),
            piece_bytes: raw.piece.get(),
        };
        (raw.magic == MAGIC && header.is_sound(piece)).then_some((header, piece))
    }

    fn is_sound(&self, piece: &[u8]) -> bool {
        if matches!(self.kind, Kind::RequestCredit | Kind::ResponseCredit) {
            return piece.is_empty();
        }
        let lengths = check_length(self.length).and_then(|()| check_length(self.response_bytes));
        // Offsets are multiples of the length of pieces, which a message needs at most a few thousand of.
        let places = self.piece_bytes >= PIECE_BYTES_MIN
            && self.offset < self.length
            && self.offset.is_multiple_of(self.piece_bytes);
        let expected = self.piece_bytes.min(self.length.saturating_sub(self.offset));
        lengths.is_ok() && places && piece.len() == expected as usize
    }
}

/// Pieces are at least this long, which bounds what is kept of a message.
const PIECE_BYTES_MIN: u32 = 128;

/// Bytes of a message in each datagram when IP packets have `mtu` bytes.
pub(super) fn piece_bytes(mtu: u16, is_ipv6: bool) -> u32 {
    // The headers of IP and UDP.
    let headers = if is_ipv6 { 48 } else { 28 };
    let datagram = usize::from(mtu).saturating_sub(headers).min(DATAGRAM_BYTES_MAX);
    (datagram.saturating_sub(HEADER_BYTES) as u32).max(PIECE_BYTES_MIN)
}

/// How far a message has been sent, and how far it may be.
#[derive(Clone, Copy, Debug)]
pub struct Sending {
    length: u32,
    piece_bytes: u32,
    sent_bytes: u32,
    allowed_bytes: u32,
}

impl Sending {
    /// A message of which nothing was sent.
    pub const fn new(length: u32, piece_bytes: u32) -> Self {
        Self {
            length,
            piece_bytes,
            sent_bytes: 0,
            allowed_bytes: WINDOW_PIECES.saturating_mul(piece_bytes),
        }
    }

    /// Offset and length of the piece that may be sent now.
    pub fn next(&self) -> Option<(u32, u32)> {
        let may = self.sent_bytes < self.length.min(self.allowed_bytes);
        may.then(|| (self.sent_bytes, self.piece_bytes.min(self.length - self.sent_bytes)))
    }

    /// That piece was sent.
    pub fn advance(&mut self) {
        self.sent_bytes = self.length.min(self.sent_bytes + self.piece_bytes);
    }

    /// The receiver has so many bytes.
    pub fn credit(&mut self, received_bytes: u32) {
        let window = WINDOW_PIECES.saturating_mul(self.piece_bytes);
        self.allowed_bytes = self.allowed_bytes.max(received_bytes.saturating_add(window));
    }

    /// Whether everything was sent.
    pub const fn is_done(&self) -> bool {
        self.sent_bytes >= self.length
    }
}

/// What a piece did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrived {
    /// It was there already, or belongs to another message of the same id.
    Useless,
    /// More is to come; the sender is to hear what is there if this is some.
    Part(Option<u32>),
    /// The message is complete.
    Whole,
}

/// Which pieces of a message have come, in any order. The bytes are checked as they come and not kept.
#[derive(Debug)]
pub struct Assembly {
    length: u32,
    piece_bytes: u32,
    received_bytes: u32,
    pieces: u32,
    seen: Vec<u64>,
    /// Whether all bytes so far were right.
    pub is_intact: bool,
}

impl Assembly {
    /// Nothing yet of the message that `header` speaks of.
    pub fn new(header: &Header) -> Self {
        let pieces = header.length.div_ceil(header.piece_bytes.max(1)) as usize;
        Self {
            length: header.length,
            piece_bytes: header.piece_bytes,
            received_bytes: 0,
            pieces: 0,
            seen: vec![0; pieces.div_ceil(64)],
            is_intact: true,
        }
    }

    /// Notes a piece.
    pub fn add(&mut self, header: &Header, piece: &[u8]) -> Arrived {
        if (header.length, header.piece_bytes) != (self.length, self.piece_bytes) {
            return Arrived::Useless;
        }
        let index = (header.offset / self.piece_bytes) as usize;
        let (word, bit) = (index / 64, 1 << (index % 64));
        match self.seen.get_mut(word) {
            Some(seen) if *seen & bit == 0 => *seen |= bit,
            _ => return Arrived::Useless,
        }
        self.received_bytes += piece.len() as u32;
        self.pieces += 1;
        if self.received_bytes == self.length {
            return Arrived::Whole;
        }
        let window = WINDOW_PIECES.saturating_mul(self.piece_bytes);
        let is_long = self.length > window;
        let tells = is_long && self.pieces.is_multiple_of(CREDIT_PIECES);
        Arrived::Part(tells.then_some(self.received_bytes))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PIECE: u32 = 1_000;

    fn header(length: u32, offset: u32) -> Header {
        Header {
            kind: Kind::Request,
            length,
            response_bytes: 100,
            id: 0x0102_0304_0506_0708,
            offset,
            piece_bytes: PIECE,
        }
    }

    fn datagram(header: &Header, piece_len: usize) -> Vec<u8> {
        let mut datagram = vec![7; HEADER_BYTES + piece_len];
        header.write(&mut datagram);
        datagram
    }

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let bytes = datagram(&header(2_500, 2_000), 500);
        let (read, piece) = Header::parse(&bytes).unwrap();
        assert_eq!((read, piece), (header(2_500, 2_000), &[7; 500][..]));
        let credit = Header { kind: Kind::ResponseCredit, length: 9, ..header(1, 0) };
        assert_eq!(Header::parse(&datagram(&credit, 0)), Some((credit, &[][..])));
    }

    #[test]
    fn what_makes_no_sense_is_no_datagram_of_ours() {
        for (header, piece_len) in [
            (header(0, 0), 0),
            (header(1_000_001, 0), 1_000),
            (header(2_500, 500), 1_000),
            (header(2_500, 2_000), 499),
            (header(2_500, 2_000), 501),
            (header(2_500, 3_000), 0),
            (Header { response_bytes: 0, ..header(10, 0) }, 10),
            (Header { piece_bytes: 1, ..header(10, 0) }, 1),
            (Header { kind: Kind::RequestCredit, ..header(10, 0) }, 10),
        ] {
            assert_eq!(Header::parse(&datagram(&header, piece_len)), None, "{header:?}");
        }
        let mut other = datagram(&header(10, 0), 10);
        other[3] = 9;
        assert_eq!(Header::parse(&other), None);
        other[..4].copy_from_slice(b"dns\x01");
        assert_eq!(Header::parse(&other), None);
        assert_eq!(Header::parse(&[]), None);
    }

    #[test]
    fn pieces_fill_the_mtu() {
        assert_eq!(piece_bytes(1_500, false), 1_444);
        assert_eq!(piece_bytes(1_500, true), 1_424);
        assert_eq!(piece_bytes(0, true), PIECE_BYTES_MIN);
        assert_eq!(piece_bytes(u16::MAX, false) as usize + HEADER_BYTES, DATAGRAM_BYTES_MAX);
    }

    #[test]
    fn a_window_is_not_exceeded_and_credit_opens_it() {
        let mut sending = Sending::new(100 * PIECE, PIECE);
        let send_all = |sending: &mut Sending| {
            let mut pieces = 0;
            while sending.next().is_some() {
                sending.advance();
                pieces += 1;
            }
            pieces
        };
        assert_eq!(send_all(&mut sending), 32);
        sending.credit(8 * PIECE);
        assert_eq!(send_all(&mut sending), 8);
        sending.credit(4 * PIECE);
        assert_eq!(send_all(&mut sending), 0, "late credits take nothing back");
        sending.credit(u32::MAX);
        assert_eq!((send_all(&mut sending), sending.is_done()), (60, true));
    }

    proptest! {
        /// In whatever order pieces come, and however often: the message is whole exactly when each
        /// was there, and the credit given on the way is enough to send all of it.
        #[test]
        fn messages_are_put_together_in_any_order(length in 1_u32..200_000, piece in 128_u32..2_000, dice: Vec<prop::sample::Index>) {
            let mut sending = Sending::new(length, piece);
            let template = Header { piece_bytes: piece, ..header(length, 0) };
            let mut assembly = Assembly::new(&template);
            let (mut under_way, mut dice, mut whole) = (Vec::new(), dice.iter().cycle(), 0);
            loop {
                while let Some((offset, len)) = sending.next() {
                    under_way.push((offset, len));
                    sending.advance();
                }
                if under_way.is_empty() {
                    break;
                }
                let at = dice.next().map_or(0, |die| die.index(under_way.len()));
                let (offset, len) = under_way.swap_remove(at);
                let header = Header { offset, ..template };
                let bytes = datagram(&header, len as usize);
                let (header, bytes) = Header::parse(&bytes).unwrap();
                match assembly.add(&header, bytes) {
                    Arrived::Part(Some(received)) => sending.credit(received),
                    Arrived::Part(None) => {}
                    Arrived::Whole => whole += 1,
                    Arrived::Useless => prop_assert!(false, "each piece comes once"),
                }
                prop_assert_eq!(assembly.add(&header, bytes), Arrived::Useless);
            }
            prop_assert!(sending.is_done());
            prop_assert_eq!(whole, 1);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = Header::parse(&bytes);
        }
    }
}
