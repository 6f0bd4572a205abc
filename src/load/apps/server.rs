//! The server of the load generator.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use crate::dpdk::Clock;
use crate::load::payload::{Direction, Pattern};
use crate::load::report::SideReport;
use crate::load::response::{PORTS_PER_GROUP, ServiceTime};
use crate::node::{App, CallFailed, Cx, Request, Responder, Response};
use crate::time::Nanos;
use crate::wire::HomaPort;

use super::meter::Meter;
use super::{ResponseKind, check, complain, message};

/// Responses that wait for a buffer. Beyond that, requests are dropped.
const WAITING_MAX: usize = 4_096;
/// Requests whose service time runs, at most: as many as a shard has timers.
const SERVED_MAX: usize = 65_536;

/// What to serve.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Port for echoes; short responses are on the next one, drawn ones on the one after that.
    pub port: HomaPort,
    /// Groups of such ports, one after the other.
    pub port_groups: u16,
    /// What the ports of drawn responses answer with; without it they are closed.
    pub drawn: Option<ResponseKind>,
    /// How long to wait before answering.
    pub service_time: ServiceTime,
    /// A pause in which nothing is done, to see whether a client tells of it.
    pub stall: Option<Stall>,
    /// Check requests and fill responses with bytes that can be checked.
    pub verify: bool,
}

/// A scripted pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    /// When it begins, counted from the first request.
    pub after: Nanos,
    /// How long it lasts.
    pub length: Nanos,
}

impl ServerConfig {
    /// One group of ports, answers at once, contents checked.
    pub const fn new(port: HomaPort) -> Self {
        let service_time = ServiceTime::None;
        Self { port, port_groups: 1, drawn: None, service_time, stall: None, verify: true }
    }

    /// The ports to open.
    fn ports(&self) -> impl Iterator<Item = HomaPort> {
        let kinds = [ResponseKind::Echo, ResponseKind::Short].into_iter().chain(self.drawn.clone());
        let kinds: Vec<ResponseKind> = kinds.collect();
        let groups = 0..self.port_groups.max(1);
        let base = self.port;
        groups.flat_map(move |group| {
            let base = HomaPort(base.0.wrapping_add(group * PORTS_PER_GROUP));
            kinds.clone().into_iter().map(move |kind| kind.port(base))
        })
    }

    /// Length of the response of an RPC that came to `port`.
    fn response_bytes(&self, port: HomaPort, rpc_id: u64, request_bytes: u32) -> u32 {
        let kind = match port.0.wrapping_sub(self.port.0) % PORTS_PER_GROUP {
            0 => &ResponseKind::Echo,
            1 => &ResponseKind::Short,
            _ => self.drawn.as_ref().unwrap_or(&ResponseKind::Echo),
        };
        kind.bytes(rpc_id, request_bytes)
    }
}

/// What the server has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ServerCounts {
    /// Requests.
    pub requests: u64,
    /// Their bytes.
    pub request_bytes: u64,
    /// Bytes of the responses that the transport took.
    #[serde(default)]
    pub response_bytes: u64,
    /// Requests with wrong bytes.
    pub corrupted: u64,
    /// Responses that the transport did not take, the client having given up among other reasons.
    pub refused: u64,
    /// Responses given without their service time: too many were waiting.
    #[serde(default)]
    pub hurried: u64,
}

impl ServerCounts {
    /// Adds what another shard has seen.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.request_bytes += other.request_bytes;
        self.response_bytes += other.response_bytes;
        self.corrupted += other.corrupted;
        self.refused += other.refused;
        self.hurried += other.hurried;
    }
}

/// What is left of a server; of several shards, the sum.
#[derive(Clone, Debug, Default)]
pub struct ServerResult {
    /// What it has seen.
    pub counts: ServerCounts,
    /// What it cost, one core for each shard in the order in which they ended, each named by its shard.
    pub side: SideReport,
}

/// Answers every request.
#[derive(Debug)]
pub struct ServerApp {
    config: ServerConfig,
    counts: ServerCounts,
    clock: Clock,
    shard: u8,
    meter: Meter,
    /// Requests when the meter was last looked at.
    metered: u64,
    /// When the scripted pause begins.
    stall_at: Option<Nanos>,
    waiting: VecDeque<(Responder, u32)>,
    /// Whose service time runs, and how long their responses are; the place is the token of the timer.
    served: Vec<Option<(Responder, u32)>>,
    served_free: Vec<u32>,
    result: Arc<Mutex<ServerResult>>,
}

impl ServerApp {
    /// A server; what it has to say is added to `result` when it has ended.
    pub fn new(
        cx: &mut Cx<'_>,
        clock: Clock,
        config: ServerConfig,
        result: Arc<Mutex<ServerResult>>,
    ) -> Self {
        for port in config.ports() {
            cx.open_server_port(port);
        }
        let served_max = if config.service_time == ServiceTime::None { 0 } else { SERVED_MAX };
        Self {
            config,
            counts: ServerCounts::default(),
            clock,
            shard: cx.shard(),
            meter: Meter::default(),
            metered: 0,
            stall_at: None,
            waiting: VecDeque::with_capacity(WAITING_MAX),
            served: (0..served_max).map(|_| None).collect(),
            served_free: (0..served_max as u32).rev().collect(),
            result,
        }
    }

    /// Looks at the meter while requests come, so that it shows the time from the first to the last.
    #[cold]
    fn note_cost(&mut self, cx: &Cx<'_>) {
        if self.counts.requests == self.metered {
            self.meter.skip(cx.now());
            return;
        }
        self.metered = self.counts.requests;
        self.meter.look(cx);
    }

    /// Does nothing for a while, once, if the script says so and the time has come.
    #[cold]
    fn stall(&mut self, now: Nanos, stall: Stall) {
        let at = *self.stall_at.get_or_insert(now + stall.after);
        if now >= at {
            self.stall_at = Some(Nanos::MAX);
            log::warn!("stalling for {} ms as asked", stall.length.0 / 1_000_000);
            std::thread::sleep(std::time::Duration::from_nanos(stall.length.0));
        }
    }

    /// Answers when the service time is over.
    fn serve(&mut self, cx: &mut Cx<'_>, responder: Responder, bytes: u32) {
        let time = self.config.service_time.of(responder.id.0);
        if let Some(place) = self.served_free.pop() {
            if cx.set_timer(cx.now() + time, place.into()) {
                self.served[place as usize] = Some((responder, bytes));
                return;
            }
            self.served_free.push(place);
        }
        self.counts.hurried += 1;
        self.respond(cx, responder, bytes);
    }

    fn respond(&mut self, cx: &mut Cx<'_>, responder: Responder, bytes: u32) {
        let pattern = self.config.verify.then(|| Pattern::new(responder.id.0, Direction::Response));
        match message(cx, bytes, pattern) {
            Ok(response) => match responder.reply(cx, response) {
                Ok(()) => self.counts.response_bytes += u64::from(bytes),
                Err(_) => self.counts.refused += 1,
            },
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
        if let Some(stall) = self.config.stall {
            self.stall(cx.now(), stall);
        }
        self.counts.requests += 1;
        self.counts.request_bytes += u64::from(length);
        if self.config.verify {
            let pattern = Pattern::new(responder.id.0, Direction::Request);
            if let Err(mismatch) = check(&message, pattern) {
                self.counts.corrupted += 1;
                complain(self.counts.corrupted, "request", responder.id, &mismatch);
            }
        }
        // The request's buffers are free again before the response needs some.
        drop(message);
        let bytes = self.config.response_bytes(responder.port, responder.id.0, length);
        if self.config.service_time == ServiceTime::None {
            self.respond(cx, responder, bytes);
        } else {
            self.serve(cx, responder, bytes);
        }
    }

    fn on_response(&mut self, _cx: &mut Cx<'_>, _response: Result<Response, CallFailed>) {
        // A server calls nobody.
    }

    fn on_timer(&mut self, cx: &mut Cx<'_>, token: u64) {
        let Some(served) = self.served.get_mut(token as usize) else { return };
        if let Some((responder, bytes)) = served.take() {
            self.served_free.push(token as u32);
            self.respond(cx, responder, bytes);
        }
    }

    fn on_poll(&mut self, cx: &mut Cx<'_>) {
        if self.meter.is_due(cx.now()) {
            self.note_cost(cx);
        }
        if let Some((responder, bytes)) = self.waiting.pop_front() {
            self.respond(cx, responder, bytes);
        }
    }
}

impl Drop for ServerApp {
    fn drop(&mut self) {
        if let Ok(mut result) = self.result.lock() {
            result.counts.add(&self.counts);
            let mut side = self.meter.report("server", self.clock);
            for core in &mut side.cores {
                core.name = self.shard.to_string();
            }
            result.side.name.clone_from(&side.name);
            result.side.add(&side);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_has_a_port_for_each_kind() {
        let mut config = ServerConfig { port_groups: 2, ..ServerConfig::new(HomaPort(4000)) };
        let ports = |config: &ServerConfig| config.ports().map(|port| port.0).collect::<Vec<_>>();
        assert_eq!(ports(&config), [4000, 4001, 4003, 4004]);
        config.drawn = Some("7".parse().unwrap());
        assert_eq!(ports(&config), [4000, 4001, 4002, 4003, 4004, 4005]);
        let bytes: Vec<u32> =
            config.ports().map(|port| config.response_bytes(port, 2, 50)).collect();
        assert_eq!(bytes, [50, 100, 7, 50, 100, 7]);
    }
}
