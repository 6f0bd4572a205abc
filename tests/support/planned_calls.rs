//! A client that makes a list of calls and notes how each ended.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};

use homa::dpdk::{Eal, ExternalBuffer};
use homa::load::payload::{Direction, Pattern};
use homa::node::{App, CallFailed, Cx, Outgoing, Request, Response};
use homa::time::Nanos;
use homa::wire::HomaPort;

use super::choosy_server::{CountedBytes, is_intact};

/// One call to make.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Planned {
    /// The server's port.
    pub(crate) port: HomaPort,
    /// Bytes of the request, and of the response.
    pub(crate) bytes: u32,
    /// Send it from memory of the application, not from packet buffers.
    pub(crate) attached: bool,
}

/// How the calls ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcomes {
    /// Calls answered with the right bytes.
    pub(crate) answered: u64,
    /// Calls answered with wrong bytes or a wrong length.
    pub(crate) corrupted: u64,
    /// Calls that failed, by error.
    pub(crate) failed: BTreeMap<String, u64>,
    /// Most calls under way at a time.
    pub(crate) outstanding_most: usize,
    /// The longest time from a call to its failure.
    pub(crate) slowest_failure: Nanos,
}

/// The application; ends its node when all calls have ended.
#[derive(Debug)]
pub(crate) struct PlannedCalls {
    eal: Eal,
    alive: Arc<AtomicUsize>,
    server: IpAddr,
    calls: Vec<Planned>,
    /// When each call began, in order.
    begun: Vec<Nanos>,
    outstanding_max: usize,
    ended: usize,
    outcomes: Outcomes,
    result: Arc<Mutex<Outcomes>>,
}

impl PlannedCalls {
    /// Makes `calls` at `server`, at most `outstanding_max` at a time. `alive` counts requests in memory
    /// of the application.
    pub(crate) fn new(
        eal: Eal,
        alive: Arc<AtomicUsize>,
        server: IpAddr,
        calls: Vec<Planned>,
        outstanding_max: usize,
        result: Arc<Mutex<Outcomes>>,
    ) -> Self {
        let begun = Vec::with_capacity(calls.len());
        let outcomes = Outcomes::default();
        Self { eal, alive, server, calls, begun, outstanding_max, ended: 0, outcomes, result }
    }

    fn outstanding(&self) -> usize {
        self.begun.len() - self.ended
    }

    fn message(&self, cx: &mut Cx<'_>, call: Planned) -> Option<Outgoing> {
        let pattern = Pattern::new(cx.next_rpc_id()?.0, Direction::Request);
        if call.attached {
            let bytes = CountedBytes::new(pattern, call.bytes, &self.alive);
            return Some(
                cx.attach(ExternalBuffer::new(&self.eal, bytes).expect("a software port")),
            );
        }
        let mut message = cx.alloc(call.bytes as usize).ok()?;
        message.write_with(|offset, piece| pattern.fill(offset, piece));
        Some(message.into())
    }
}

impl App for PlannedCalls {
    fn on_request(&mut self, _cx: &mut Cx<'_>, request: Request) {
        unreachable!("the client serves nobody: {request:?}");
    }

    fn on_response(&mut self, cx: &mut Cx<'_>, response: Result<Response, CallFailed>) {
        self.ended += 1;
        match response {
            Ok(response) => {
                let call = self.calls[response.cookie as usize];
                let pattern = Pattern::new(response.id.0, Direction::Response);
                let intact = response.message.len() == call.bytes as usize
                    && is_intact(&response.message, pattern);
                self.outcomes.answered += u64::from(intact);
                self.outcomes.corrupted += u64::from(!intact);
            }
            Err(failed) => {
                let took = cx.now().since(self.begun[failed.cookie as usize]);
                self.outcomes.slowest_failure = self.outcomes.slowest_failure.max(took);
                *self.outcomes.failed.entry(format!("{:?}", failed.error)).or_default() += 1;
            }
        }
        if self.ended == self.calls.len() {
            cx.stop();
        }
    }

    fn on_poll(&mut self, cx: &mut Cx<'_>) {
        while self.begun.len() < self.calls.len() && self.outstanding() < self.outstanding_max {
            let cookie = self.begun.len();
            let call = self.calls[cookie];
            let Some(message) = self.message(cx, call) else { break };
            if cx.call(self.server, call.port, message, cookie as u64).is_err() {
                break;
            }
            self.begun.push(cx.now());
            self.outcomes.outstanding_most = self.outcomes.outstanding_most.max(self.outstanding());
        }
    }
}

impl Drop for PlannedCalls {
    fn drop(&mut self) {
        *self.result.lock().expect("nobody panics with it") = std::mem::take(&mut self.outcomes);
    }
}
