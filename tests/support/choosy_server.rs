//! A server that treats requests differently, by the port they come to and by their length.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use homa::dpdk::{Eal, ExternalBuffer};
use homa::load::payload::{Direction, Pattern};
use homa::node::{App, CallFailed, Cx, Request, RequestHead, Responder, Response, Verdict};
use homa::time::Nanos;
use homa::wire::HomaPort;

/// Answered at once from packet buffers.
pub(crate) const ECHO: HomaPort = HomaPort(5000);
/// Answered from memory of the application.
pub(crate) const ATTACHED: HomaPort = HomaPort(5001);
/// Dropped without an answer.
pub(crate) const ABANDONED: HomaPort = HomaPort(5002);
/// Kept with its message for a while, then answered.
pub(crate) const LATER: HomaPort = HomaPort(5003);
/// Nobody serves this one.
pub(crate) const CLOSED: HomaPort = HomaPort(5999);
/// Requests of this length are refused as soon as their first packet is in.
pub(crate) const REFUSED_BYTES: u32 = 77_777;
/// How long a request to [`LATER`] is kept.
const KEEP: Nanos = Nanos::from_ms(3);
/// Requests kept at a time; more are answered early.
const KEPT_MAX: usize = 64;

/// What the server has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Served {
    /// Requests that were complete.
    pub(crate) requests: u64,
    /// Requests with wrong bytes.
    pub(crate) corrupted: u64,
    /// Requests dropped on purpose.
    pub(crate) abandoned: u64,
    /// Requests refused at their head.
    pub(crate) refused: u64,
    /// Responses that the node did not take.
    pub(crate) responses_refused: u64,
}

/// Bytes that count how many of their kind exist.
#[derive(Debug)]
pub(crate) struct CountedBytes {
    bytes: Vec<u8>,
    alive: Arc<AtomicUsize>,
}

impl CountedBytes {
    /// The first `length` bytes of `pattern`.
    pub(crate) fn new(pattern: Pattern, length: u32, alive: &Arc<AtomicUsize>) -> Self {
        let mut bytes = vec![0; length as usize];
        pattern.fill(0, &mut bytes);
        alive.fetch_add(1, Ordering::SeqCst);
        Self { bytes, alive: Arc::clone(alive) }
    }
}

impl AsRef<[u8]> for CountedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for CountedBytes {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Checks the bytes of a message.
pub(crate) fn is_intact(message: &homa::node::Message, pattern: Pattern) -> bool {
    let mut offset = 0;
    message.chunks().all(|chunk| {
        let fits = pattern.check(offset, chunk).is_ok();
        offset += chunk.len();
        fits
    })
}

/// The application.
#[derive(Debug)]
pub(crate) struct ChoosyServer {
    eal: Eal,
    alive: Arc<AtomicUsize>,
    kept: VecDeque<(Nanos, Request)>,
    /// Answers that found no packet buffer.
    waiting: VecDeque<(Responder, u32)>,
    served: Served,
    result: Arc<Mutex<Served>>,
}

impl ChoosyServer {
    /// Opens the ports; what was served is in `result` at the end. `alive` counts responses in memory
    /// of the application.
    pub(crate) fn new(
        cx: &mut Cx<'_>,
        eal: Eal,
        alive: Arc<AtomicUsize>,
        result: Arc<Mutex<Served>>,
    ) -> Self {
        for port in [ECHO, ATTACHED, ABANDONED, LATER] {
            assert!(cx.open_server_port(port), "{port} is free");
        }
        let (kept, waiting) = (VecDeque::new(), VecDeque::new());
        Self { eal, alive, kept, waiting, served: Served::default(), result }
    }

    fn answer(&mut self, cx: &mut Cx<'_>, responder: Responder, length: u32) {
        let pattern = Pattern::new(responder.id.0, Direction::Response);
        let Ok(mut response) = cx.alloc(length as usize) else {
            self.waiting.push_back((responder, length));
            return;
        };
        response.write_with(|offset, piece| pattern.fill(offset, piece));
        self.served.responses_refused += u64::from(responder.reply(cx, response).is_err());
    }

    fn answer_attached(&mut self, cx: &mut Cx<'_>, responder: Responder, length: u32) {
        let pattern = Pattern::new(responder.id.0, Direction::Response);
        let bytes = CountedBytes::new(pattern, length, &self.alive);
        let response = cx.attach(ExternalBuffer::new(&self.eal, bytes).expect("a software port"));
        self.served.responses_refused += u64::from(responder.reply(cx, response).is_err());
    }
}

impl App for ChoosyServer {
    fn on_request(&mut self, cx: &mut Cx<'_>, request: Request) {
        self.served.requests += 1;
        let pattern = Pattern::new(request.responder.id.0, Direction::Request);
        self.served.corrupted += u64::from(!is_intact(&request.message, pattern));
        let length = request.message.len() as u32;
        match request.responder.port {
            ATTACHED => self.answer_attached(cx, request.responder, length),
            ABANDONED => self.served.abandoned += 1,
            LATER if self.kept.len() < KEPT_MAX => self.kept.push_back((cx.now() + KEEP, request)),
            _ => self.answer(cx, request.responder, length),
        }
    }

    fn on_response(&mut self, _cx: &mut Cx<'_>, response: Result<Response, CallFailed>) {
        unreachable!("the server calls nobody: {response:?}");
    }

    fn on_request_head(&mut self, head: RequestHead<'_>) -> Verdict {
        assert!(!head.first.is_empty() && head.first.len() < head.length as usize);
        if head.length == REFUSED_BYTES {
            self.served.refused += 1;
            return Verdict::Refuse;
        }
        Verdict::Take
    }

    fn on_poll(&mut self, cx: &mut Cx<'_>) {
        if let Some((responder, length)) = self.waiting.pop_front() {
            self.answer(cx, responder, length);
        }
        while self.kept.front().is_some_and(|(due, _)| *due <= cx.now()) {
            let Some((_, request)) = self.kept.pop_front() else { return };
            // Still what it was, after all that went through the same buffers since.
            let pattern = Pattern::new(request.responder.id.0, Direction::Request);
            self.served.corrupted += u64::from(!is_intact(&request.message, pattern));
            let length = request.message.len() as u32;
            self.answer(cx, request.responder, length);
        }
    }
}

impl Drop for ChoosyServer {
    fn drop(&mut self) {
        *self.result.lock().expect("nobody panics with it") = self.served;
    }
}
