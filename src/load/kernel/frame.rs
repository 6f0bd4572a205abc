//! The framing of RPCs in a TCP connection.
//!
//! A connection carries frames one after the other, requests one way and responses the other: a header
//! of [`HEADER_BYTES`] bytes, all numbers lowest byte first, and the payload.
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0-3 | magic | [`MAGIC`] |
//! | 4-7 | length | bytes of payload after the header, 1 to [`MESSAGE_BYTES_MAX`] |
//! | 8-11 | response | how long the response is to be; a response repeats it |
//! | 12-19 | id | chosen by the client, repeated in the response; key of the [`Pattern`] of both |
//!
//! The payload is made and checked piece by piece in one buffer, as a receiver of Homa reads it in the
//! packet buffers: no message is ever put together in memory of its own.

use core::fmt;
use std::collections::VecDeque;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::load::payload::{Direction, Mismatch, Pattern};
use crate::load::workload::MESSAGE_BYTES_MAX;

/// Length of the header.
pub const HEADER_BYTES: usize = size_of::<RawHeader>();
/// The first bytes of a frame: "hld1".
pub const MAGIC: u32 = u32::from_le_bytes(*b"hld1");

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawHeader {
    magic: U32,
    length: U32,
    response: U32,
    id: U64,
}

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the payload.
    pub length: u32,
    /// Bytes that the response is to have, or has.
    pub response_bytes: u32,
    /// The RPC.
    pub id: u64,
}

impl Header {
    /// The header of the response to the request with this header.
    #[must_use]
    pub const fn of_response(self) -> Self {
        Self { length: self.response_bytes, ..self }
    }

    fn to_bytes(self) -> [u8; HEADER_BYTES] {
        zerocopy::transmute!(RawHeader {
            magic: MAGIC.into(),
            length: self.length.into(),
            response: self.response_bytes.into(),
            id: self.id.into(),
        })
    }

    fn parse(bytes: [u8; HEADER_BYTES]) -> Result<Self, FrameError> {
        let raw: RawHeader = zerocopy::transmute!(bytes);
        if raw.magic.get() != MAGIC {
            return Err(FrameError::NotAFrame(raw.magic.get()));
        }
        for length in [raw.length.get(), raw.response.get()] {
            check_length(length)?;
        }
        Ok(Self { length: raw.length.get(), response_bytes: raw.response.get(), id: raw.id.get() })
    }
}

/// Whether a message may be this long.
pub(super) const fn check_length(length: u32) -> Result<(), FrameError> {
    if length == 0 || length > MESSAGE_BYTES_MAX {
        return Err(FrameError::Length(length));
    }
    Ok(())
}

/// Bytes that are no frame: the peer is no homa-load, or there is a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// These stand where [`MAGIC`] should.
    NotAFrame(u32),
    /// A length that no message has.
    Length(u32),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAFrame(found) => {
                write!(f, "{found:#010x} instead of {MAGIC:#010x}: the peer is no homa-load")
            }
            Self::Length(bytes) => {
                write!(f, "a message of {bytes} bytes: 1 to {MESSAGE_BYTES_MAX} are possible")
            }
        }
    }
}

impl std::error::Error for FrameError {}

/// A frame that has come in whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its header.
    pub header: Header,
    /// The first byte that is wrong, where bytes are checked.
    pub mismatch: Option<Mismatch>,
}

/// A frame whose payload is coming in.
#[derive(Debug)]
struct Body {
    frame: Frame,
    pattern: Pattern,
    offset: u32,
}

/// Cuts the bytes of a connection into frames, whatever pieces they come in.
#[derive(Debug)]
pub struct FrameReader {
    direction: Direction,
    verify: bool,
    head: [u8; HEADER_BYTES],
    head_bytes: usize,
    body: Option<Body>,
}

impl FrameReader {
    /// A reader for a new connection; it checks payloads if it is to `verify`.
    pub const fn new(direction: Direction, verify: bool) -> Self {
        Self { direction, verify, head: [0; HEADER_BYTES], head_bytes: 0, body: None }
    }

    /// Whether a frame has come in in part.
    pub const fn is_within_frame(&self) -> bool {
        self.head_bytes > 0 || self.body.is_some()
    }

    /// Takes the next bytes and calls `on_frame` for each frame that ends in them.
    ///
    /// # Errors
    /// What stands where a frame should begin is none. The connection is of no use then.
    pub fn read(
        &mut self,
        mut bytes: &[u8],
        mut on_frame: impl FnMut(Frame),
    ) -> Result<(), FrameError> {
        while !bytes.is_empty() {
            let taken = match &mut self.body {
                None => self.read_head(bytes)?,
                Some(body) => body.read(bytes, self.verify),
            };
            bytes = &bytes[taken..];
            if let Some(body) = self.body.take_if(|body| body.offset == body.frame.header.length) {
                on_frame(body.frame);
            }
        }
        Ok(())
    }

    /// Takes bytes of a header; says how many.
    fn read_head(&mut self, bytes: &[u8]) -> Result<usize, FrameError> {
        let taken = bytes.len().min(HEADER_BYTES - self.head_bytes);
        self.head[self.head_bytes..][..taken].copy_from_slice(&bytes[..taken]);
        self.head_bytes += taken;
        if self.head_bytes == HEADER_BYTES {
            self.head_bytes = 0;
            let header = Header::parse(self.head)?;
            let pattern = Pattern::new(header.id, self.direction);
            self.body = Some(Body { frame: Frame { header, mismatch: None }, pattern, offset: 0 });
        }
        Ok(taken)
    }
}

impl Body {
    /// Takes bytes of the payload; says how many.
    fn read(&mut self, bytes: &[u8], verify: bool) -> usize {
        let taken = bytes.len().min((self.frame.header.length - self.offset) as usize);
        if verify && self.frame.mismatch.is_none() {
            let checked = self.pattern.check(self.offset as usize, &bytes[..taken]);
            self.frame.mismatch = checked.err();
        }
        self.offset += taken as u32;
        taken
    }
}

/// Bytes that a [`FrameWriter`] has ready at most.
const BUFFER_BYTES: usize = 64 * 1024;

/// Makes the bytes of the frames that wait to be sent on a connection, in their order.
#[derive(Debug)]
pub struct FrameWriter {
    direction: Direction,
    verify: bool,
    waiting: VecDeque<Header>,
    /// Bytes of the first frame, header and payload, that are in the buffer or sent.
    made: usize,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl FrameWriter {
    /// A writer for a new connection. Payloads are whatever the buffer holds unless it is to `verify`.
    pub fn new(direction: Direction, verify: bool) -> Self {
        Self {
            direction,
            verify,
            waiting: VecDeque::new(),
            made: 0,
            buffer: vec![0; BUFFER_BYTES].into(),
            start: 0,
            end: 0,
        }
    }

    /// One more frame.
    pub fn push(&mut self, header: Header) {
        self.waiting.push_back(header);
    }

    /// Frames that are not in the buffer yet, or not whole.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether everything was sent.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.start == self.end
    }

    /// The bytes to be sent next: as many as fit the buffer; none when all were sent.
    pub fn bytes(&mut self) -> &[u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        while let Some(&header) = self.waiting.front() {
            let room = &mut self.buffer[self.end..];
            if room.is_empty() {
                break;
            }
            let made = make(header, self.direction, self.verify, self.made, room);
            self.made += made;
            self.end += made;
            if self.made == HEADER_BYTES + header.length as usize {
                self.made = 0;
                self.waiting.pop_front();
            }
        }
        &self.buffer[self.start..self.end]
    }

    /// The first `bytes` of them were sent.
    pub fn sent(&mut self, bytes: usize) {
        self.start = (self.start + bytes).min(self.end);
    }
}

/// Writes a frame from its byte `from` on into `room`, as far as it fits; says how many bytes.
fn make(header: Header, direction: Direction, verify: bool, from: usize, room: &mut [u8]) -> usize {
    if from < HEADER_BYTES {
        let head = &header.to_bytes()[from..];
        let bytes = head.len().min(room.len());
        room[..bytes].copy_from_slice(&head[..bytes]);
        return bytes;
    }
    let offset = from - HEADER_BYTES;
    let bytes = (header.length as usize - offset).min(room.len());
    if verify {
        Pattern::new(header.id, direction).fill(offset, &mut room[..bytes]);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The bytes of `headers`, taken from the writer in pieces of the lengths `cuts`, repeated.
    fn written(headers: &[Header], cuts: &[usize]) -> Vec<u8> {
        let mut writer = FrameWriter::new(Direction::Request, true);
        for &header in headers {
            writer.push(header);
        }
        let (mut bytes, mut cuts) = (Vec::new(), cuts.iter().cycle());
        while !writer.is_empty() {
            let ready = writer.bytes();
            let cut = (*cuts.next().unwrap()).min(ready.len());
            bytes.extend_from_slice(&ready[..cut]);
            writer.sent(cut);
        }
        assert!(writer.bytes().is_empty());
        bytes
    }

    fn header(id: u64, length: u32) -> Header {
        Header { length, response_bytes: 100, id }
    }

    fn headers() -> impl Strategy<Value = Vec<Header>> {
        let length = prop_oneof![1_u32..200, 1_u32..200_000];
        let header = (length, 1_u32..=MESSAGE_BYTES_MAX, any::<u64>())
            .prop_map(|(length, response_bytes, id)| Header { length, response_bytes, id });
        proptest::collection::vec(header, 1..8)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever pieces frames are sent and received in, they arrive as they were.
        #[test]
        fn frames_survive_any_cuts(
            headers in headers(),
            sent in proptest::collection::vec(1_usize..70_000, 1..6),
            received in proptest::collection::vec(1_usize..70_000, 1..6),
        ) {
            let bytes = written(&headers, &sent);
            let mut reader = FrameReader::new(Direction::Request, true);
            let (mut rest, mut frames) = (&bytes[..], Vec::new());
            for &cut in received.iter().cycle() {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                reader.read(piece, |frame| frames.push(frame)).unwrap();
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            let expected: Vec<Frame> =
                headers.iter().map(|&header| Frame { header, mismatch: None }).collect();
            prop_assert_eq!(frames, expected);
            prop_assert!(!reader.is_within_frame());
        }

        /// A byte by byte connection is the hardest: no piece holds a whole header.
        #[test]
        fn a_wrong_byte_is_told_for_its_frame_alone(lengths in proptest::collection::vec(1_u32..50, 2..5), at: prop::sample::Index) {
            let headers: Vec<_> =
                lengths.iter().enumerate().map(|(id, &length)| header(id as u64, length)).collect();
            let mut bytes = written(&headers, &[7]);
            let victim = at.index(headers.len());
            let before: usize =
                lengths[..victim].iter().map(|&length| HEADER_BYTES + length as usize).sum();
            bytes[before + HEADER_BYTES] ^= 1;
            let mut reader = FrameReader::new(Direction::Request, true);
            let mut wrong = Vec::new();
            for byte in bytes {
                reader.read(&[byte], |frame| wrong.push(frame.mismatch.map(|m| m.offset))).unwrap();
            }
            let expected: Vec<_> = (0..headers.len()).map(|i| (i == victim).then_some(0)).collect();
            prop_assert_eq!(wrong, expected);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut reader = FrameReader::new(Direction::Response, true);
            let _ = reader.read(&bytes, |_| ());
        }
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        let read = |bytes: &[u8]| {
            FrameReader::new(Direction::Request, true).read(bytes, |_| panic!("a frame"))
        };
        let error = read(b"GET / HTTP/1.1\r\nHost: x\r\n").unwrap_err();
        assert!(error.to_string().contains("the peer is no homa-load"), "{error}");
        for (length, response_bytes) in [(0, 1), (1_000_001, 1), (1, 0), (1, u32::MAX)] {
            let error = read(&Header { length, response_bytes, id: 1 }.to_bytes()).unwrap_err();
            assert!(matches!(error, FrameError::Length(_)), "{error:?}");
        }
    }

    #[test]
    fn bytes_are_not_looked_at_unless_wanted() {
        let mut reader = FrameReader::new(Direction::Request, false);
        let mut bytes = header(7, 3).to_bytes().to_vec();
        bytes.extend([1, 2, 3]);
        let mut frames = 0;
        reader.read(&bytes, |frame| frames += u32::from(frame.mismatch.is_none())).unwrap();
        assert_eq!(frames, 1);
        assert_eq!(header(7, 3).of_response(), header(7, 100));
    }
}
