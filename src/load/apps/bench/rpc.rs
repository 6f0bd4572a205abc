//! A closed loop of RPCs with next to no work of its own: no generator, no table, the start of each
//! RPC in its cookie.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use super::{Measured, Timing};
use crate::dpdk::{Eal, ExternalBuffer};
use crate::load::bench::{SHORT_BYTES, WindowSampler};
use crate::node::{App, CallFailed, Cx, Outgoing, Request, Response};
use crate::time::Nanos;
use crate::wire::HomaPort;

/// Where the bytes of requests come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Copied into packet buffers for each request, as most applications do.
    Copied,
    /// Memory of the application, attached to packets without a copy.
    Attached,
}

/// What to ask whom.
#[derive(Clone, Copy, Debug)]
pub struct BenchClientConfig {
    /// The server.
    pub server: IpAddr,
    /// Its port.
    pub port: HomaPort,
    /// Bytes of a request.
    pub request_bytes: u32,
    /// RPCs under way at all times.
    pub outstanding: u32,
    /// Where the bytes of requests come from.
    pub source: Source,
    /// How long.
    pub timing: Timing,
}

/// Keeps a fixed number of RPCs under way and measures them.
#[derive(Debug)]
pub struct BenchClient {
    config: BenchClientConfig,
    eal: Eal,
    payload: Arc<[u8]>,
    outstanding: u32,
    sampler: Option<WindowSampler>,
    failed: u64,
    deadline: Nanos,
    stopping: bool,
    result: Arc<Mutex<Measured>>,
}

impl BenchClient {
    /// A client that starts at once; what it measured is in `result` when it has ended.
    pub fn new(
        cx: &Cx<'_>,
        eal: Eal,
        config: BenchClientConfig,
        result: Arc<Mutex<Measured>>,
    ) -> Self {
        // Not zeros: pages of zeros would all be the same one.
        let payload: Arc<[u8]> = (0..config.request_bytes).map(|at| at as u8 | 1).collect();
        Self {
            config,
            eal,
            payload,
            outstanding: 0,
            sampler: Some(config.timing.sampler()),
            failed: 0,
            deadline: config.timing.deadline(cx.now()),
            stopping: false,
            result,
        }
    }

    #[inline]
    fn request(&self, cx: &mut Cx<'_>) -> Option<Outgoing> {
        match self.config.source {
            Source::Copied => cx.message(&self.payload).ok().map(Outgoing::from),
            Source::Attached => {
                let bytes = Arc::clone(&self.payload);
                ExternalBuffer::new(&self.eal, bytes).ok().map(|buffer| cx.attach(buffer))
            }
        }
    }

    /// Starts RPCs until enough are under way. What is refused is tried again in the next turn.
    #[inline]
    fn fill(&mut self, cx: &mut Cx<'_>, now: Nanos) {
        while self.outstanding < self.config.outstanding && !self.stopping {
            let Some(request) = self.request(cx) else { return };
            let (server, port) = (self.config.server, self.config.port);
            if cx.call(server, port, request, now.0).is_err() {
                return;
            }
            self.outstanding += 1;
        }
    }

    fn finish(&mut self) {
        let Some(sampler) = self.sampler.take() else { return };
        if let Ok(mut result) = self.result.lock() {
            *result = Measured { windows: sampler.into_windows(), failed: self.failed };
        }
    }
}

impl App for BenchClient {
    fn on_request(&mut self, _cx: &mut Cx<'_>, _request: Request) {
        // No port is open for requests.
    }

    #[inline]
    fn on_response(&mut self, cx: &mut Cx<'_>, response: Result<Response, CallFailed>) {
        self.outstanding -= 1;
        // When the port was polled, as in the raw loops.
        let now = cx.now();
        match response {
            Ok(response) if response.message.len() == SHORT_BYTES as usize => {
                if let Some(sampler) = &mut self.sampler {
                    sampler.record(now, now.since(Nanos(response.cookie)));
                }
            }
            Ok(_) | Err(_) => self.failed += 1,
        }
        self.fill(cx, now);
    }

    #[inline]
    fn on_poll(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now();
        if self.outstanding < self.config.outstanding {
            self.fill(cx, now);
        }
        let finished = self.sampler.as_ref().is_none_or(|sampler| sampler.is_finished(now));
        if finished || now >= self.deadline {
            self.stopping = true;
            cx.stop();
        }
    }

    fn on_stop(&mut self, _cx: &mut Cx<'_>) {
        self.stopping = true;
    }
}

impl Drop for BenchClient {
    fn drop(&mut self) {
        self.finish();
    }
}

/// What the server has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BenchServerCounts {
    /// Requests answered.
    pub answered: u64,
    /// Requests not answered: no packet buffer, or the client had given up.
    pub refused: u64,
}

/// Answers every request with [`SHORT_BYTES`] bytes. It looks at no byte of the requests, as the raw
/// receiver looks at no payload.
#[derive(Debug)]
pub struct BenchServer {
    counts: BenchServerCounts,
    result: Arc<Mutex<BenchServerCounts>>,
}

impl BenchServer {
    /// A server on `port`; its counts are in `result` when it has ended.
    pub fn new(cx: &mut Cx<'_>, port: HomaPort, result: Arc<Mutex<BenchServerCounts>>) -> Self {
        cx.open_server_port(port);
        Self { counts: BenchServerCounts::default(), result }
    }
}

impl App for BenchServer {
    #[inline]
    fn on_request(&mut self, cx: &mut Cx<'_>, request: Request) {
        const RESPONSE: [u8; SHORT_BYTES as usize] = [b'r'; SHORT_BYTES as usize];
        let Request { message, responder } = request;
        // The request's buffers are free again before the response needs one.
        drop(message);
        let answered =
            cx.message(&RESPONSE).is_ok_and(|response| responder.reply(cx, response).is_ok());
        if answered {
            self.counts.answered += 1;
        } else {
            self.counts.refused += 1;
        }
    }

    fn on_response(&mut self, _cx: &mut Cx<'_>, _response: Result<Response, CallFailed>) {
        // A server calls nobody.
    }
}

impl Drop for BenchServer {
    fn drop(&mut self) {
        if let Ok(mut result) = self.result.lock() {
            *result = self.counts;
        }
    }
}
