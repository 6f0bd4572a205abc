//! The server of the load generator.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use crate::load::payload::{Direction, Pattern};
use crate::node::{App, CallFailed, Cx, Request, Responder, Response};
use crate::wire::HomaPort;

use super::{ResponseKind, check, message};

/// Responses that wait for a buffer. Beyond that, requests are dropped.
const WAITING_MAX: usize = 4_096;

/// What to serve.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Port for echoes; short responses are on the next one.
    pub port: HomaPort,
    /// Check requests and fill responses with bytes that can be checked.
    pub verify: bool,
}

/// What the server has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ServerCounts {
    /// Requests.
    pub requests: u64,
    /// Their bytes.
    pub request_bytes: u64,
    /// Bytes of responses, where they are counted.
    #[serde(default)]
    pub response_bytes: u64,
    /// Requests with wrong bytes.
    pub corrupted: u64,
    /// Responses that the transport did not take, the client having given up among other reasons.
    pub refused: u64,
}

impl ServerCounts {
    /// Adds what another shard has seen.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.request_bytes += other.request_bytes;
        self.response_bytes += other.response_bytes;
        self.corrupted += other.corrupted;
        self.refused += other.refused;
    }
}

/// Answers every request.
#[derive(Debug)]
pub struct ServerApp {
    config: ServerConfig,
    counts: ServerCounts,
    waiting: VecDeque<(Responder, u32)>,
    result: Arc<Mutex<ServerCounts>>,
}

impl ServerApp {
    /// A server; its counts are added to `result` when it has ended.
    pub fn new(cx: &mut Cx<'_>, config: ServerConfig, result: Arc<Mutex<ServerCounts>>) -> Self {
        for kind in [ResponseKind::Echo, ResponseKind::Short] {
            cx.open_server_port(kind.port(config.port));
        }
        let waiting = VecDeque::with_capacity(WAITING_MAX);
        Self { config, counts: ServerCounts::default(), waiting, result }
    }

    fn respond(&mut self, cx: &mut Cx<'_>, responder: Responder, bytes: u32) {
        let pattern = self.config.verify.then(|| Pattern::new(responder.id.0, Direction::Response));
        match message(cx, bytes, pattern) {
            Ok(response) => {
                self.counts.refused += u64::from(responder.reply(cx, response).is_err());
            }
            // All buffers are under way: some will be back soon.
            Err(_) if self.waiting.len() < WAITING_MAX => {
                self.waiting.push_back((responder, bytes))
            }
            Err(_) => self.counts.refused += 1,
        }
    }
}

impl App for ServerApp {
    fn on_request(&mut self, cx: &mut Cx<'_>, request: Request) {
        let Request { message, responder } = request;
        let length = message.len() as u32;
        self.counts.requests += 1;
        self.counts.request_bytes += u64::from(length);
        if self.config.verify {
            let pattern = Pattern::new(responder.id.0, Direction::Request);
            if let Err(mismatch) = check(&message, pattern) {
                self.counts.corrupted += 1;
                log::error!("request {}: {mismatch}", responder.id);
            }
        }
        // The request's buffers are free again before the response needs some.
        drop(message);
        let kind = if responder.port == self.config.port {
            ResponseKind::Echo
        } else {
            ResponseKind::Short
        };
        self.respond(cx, responder, kind.bytes(length));
    }

    fn on_response(&mut self, _cx: &mut Cx<'_>, _response: Result<Response, CallFailed>) {
        // A server calls nobody.
    }

    fn on_poll(&mut self, cx: &mut Cx<'_>) {
        if let Some((responder, bytes)) = self.waiting.pop_front() {
            self.respond(cx, responder, bytes);
        }
    }
}

impl Drop for ServerApp {
    fn drop(&mut self) {
        if let Ok(mut result) = self.result.lock() {
            result.add(&self.counts);
        }
    }
}
