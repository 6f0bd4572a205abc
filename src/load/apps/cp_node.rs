//! Servers and requests that `cp_node` of Linux Homa understands.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use bytes::BufMut;

use crate::load::cp_node::{FLAG_RESPONSE, FLAG_SHORT_RESPONSE, HEADER_BYTES, Header};
use crate::load::payload::{Direction, Pattern};
use crate::node::{
    AllocError, App, CallFailed, Cx, Message, MessageBuf, Request, Responder, Response,
};
use crate::time::Nanos;
use crate::wire::HomaPort;

use super::{ResponseKind, ServerCounts};

/// Requests that wait for a buffer for their answer. Beyond that, requests are dropped.
const WAITING_MAX: usize = 256;
/// Counts are given out this often.
const INTERVAL: Nanos = Nanos::from_secs(1);

/// The header of request number `cookie` to server number `destination`.
fn request_header(cookie: u64, destination: u32, bytes: u32, response: &ResponseKind) -> Header {
    let flags = match response {
        ResponseKind::Short => FLAG_SHORT_RESPONSE,
        // Its servers draw no sizes.
        ResponseKind::Echo | ResponseKind::Drawn(_) => 0,
    };
    Header { length: bytes as i32, connection: destination, message: cookie as u16, flags }
}

/// A request of at least a header. After that come the bytes of `pattern`.
pub(super) fn request(
    cx: &mut Cx<'_>,
    (cookie, destination, bytes): (u64, u32, u32),
    response: &ResponseKind,
    pattern: Option<Pattern>,
) -> Result<MessageBuf, AllocError> {
    let mut message = cx.alloc(bytes as usize)?;
    message.put_slice(&request_header(cookie, destination, bytes, response).to_bytes());
    message.write_with(|offset, piece| {
        if let Some(pattern) = pattern {
            pattern.fill(offset, piece);
        }
    });
    Ok(message)
}

/// Whether `message` answers request number `cookie`: the header always, the bytes after it if
/// `verify` is set and they must be those of the request. Says what is wrong.
pub(super) fn check_response(
    message: &Message,
    (cookie, rpc_id): (u64, u64),
    response: &ResponseKind,
    verify: bool,
) -> Result<(), String> {
    let mut bytes = [0; HEADER_BYTES];
    if message.len() < HEADER_BYTES {
        return Err(format!("{} bytes are less than a header", message.len()));
    }
    copy_start(message, &mut bytes);
    let header = Header::parse(&bytes).unwrap_or_default();
    if header.flags & FLAG_RESPONSE == 0 || header.message != cookie as u16 {
        return Err(format!("it is no answer to request {}: {header:?}", cookie as u16));
    }
    if !verify || *response == ResponseKind::Short {
        return Ok(());
    }
    let pattern = Pattern::new(rpc_id, Direction::Request);
    let mut offset = 0;
    for chunk in message.chunks() {
        let skip = HEADER_BYTES.saturating_sub(offset).min(chunk.len());
        pattern.check(offset + skip, &chunk[skip..]).map_err(|error| error.to_string())?;
        offset += chunk.len();
    }
    Ok(())
}

/// Copies the first bytes of a message that is long enough.
fn copy_start(message: &Message, out: &mut [u8]) {
    let mut at = 0;
    for chunk in message.chunks() {
        let count = chunk.len().min(out.len() - at);
        out[at..at + count].copy_from_slice(&chunk[..count]);
        at += count;
        if at == out.len() {
            return;
        }
    }
}

/// Answers as `cp_node server` does: the bytes of the request, or the first 100 if a short response is
/// asked for.
#[derive(Debug)]
pub struct CpNodeServer {
    counts: ServerCounts,
    waiting: VecDeque<(Responder, Message)>,
    link: SyncSender<ServerCounts>,
}

impl CpNodeServer {
    /// A server on `port`. Its counts so far come once a second, and once at the end.
    pub fn new(cx: &mut Cx<'_>, port: HomaPort, link: SyncSender<ServerCounts>) -> Self {
        cx.open_server_port(port);
        cx.set_timer(cx.now() + INTERVAL, 0);
        let waiting = VecDeque::with_capacity(WAITING_MAX);
        Self { counts: ServerCounts::default(), waiting, link }
    }

    /// The two ends of the way for the counts.
    pub fn link() -> (SyncSender<ServerCounts>, Receiver<ServerCounts>) {
        sync_channel(4)
    }

    fn respond(&mut self, cx: &mut Cx<'_>, responder: Responder, message: Message) {
        match answer(cx, &message) {
            Ok(response) => {
                // The request's buffers are free again before the response is sent.
                drop(message);
                let bytes = u64::from(response.len());
                match responder.reply(cx, response) {
                    Ok(()) => self.counts.response_bytes += bytes,
                    Err(_) => self.counts.refused += 1,
                }
            }
            // All buffers are under way: some will be back soon.
            Err(_) if self.waiting.len() < WAITING_MAX => {
                self.waiting.push_back((responder, message));
            }
            Err(_) => self.counts.refused += 1,
        }
    }
}

/// The answer to a request that has a header.
fn answer(cx: &mut Cx<'_>, request: &Message) -> Result<MessageBuf, AllocError> {
    let mut header = [0; HEADER_BYTES];
    copy_start(request, &mut header);
    let (header, length) =
        Header::parse(&header).unwrap_or_default().response(request.len() as u32);
    let mut response = cx.alloc(length as usize)?;
    response.put_slice(&header.to_bytes());
    let (mut skip, mut room) = (HEADER_BYTES, length as usize - HEADER_BYTES);
    for chunk in request.chunks() {
        let from = skip.min(chunk.len());
        skip -= from;
        let piece = &chunk[from..from + room.min(chunk.len() - from)];
        response.put_slice(piece);
        room -= piece.len();
    }
    // A short response may be longer than its request.
    response.put_bytes(0, room);
    Ok(response)
}

impl App for CpNodeServer {
    fn on_request(&mut self, cx: &mut Cx<'_>, request: Request) {
        let Request { message, responder } = request;
        self.counts.requests += 1;
        self.counts.request_bytes += message.len() as u64;
        if message.len() < HEADER_BYTES {
            // Not from a cp_node: the client times out.
            self.counts.corrupted += 1;
            return;
        }
        self.respond(cx, responder, message);
    }

    fn on_response(&mut self, _cx: &mut Cx<'_>, _response: Result<Response, CallFailed>) {
        // A server calls nobody.
    }

    fn on_poll(&mut self, cx: &mut Cx<'_>) {
        if let Some((responder, message)) = self.waiting.pop_front() {
            self.respond(cx, responder, message);
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_>, _token: u64) {
        cx.set_timer(cx.now() + INTERVAL, 0);
        // Nobody took the last ones: the next second is longer then.
        let _ = self.link.try_send(self.counts);
    }
}

impl Drop for CpNodeServer {
    fn drop(&mut self) {
        let _ = self.link.send(self.counts);
    }
}
