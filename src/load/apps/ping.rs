//! One RPC after the other, for people who want to see whether a server is there.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::mpsc::Sender;

use crate::load::payload::{Direction, Pattern};
use crate::load::ping::Outcome;
use crate::node::{App, CallFailed, Cx, Request, Response};
use crate::time::Nanos;
use crate::wire::{HomaPort, PacketType};

use super::{MessageFormat, ResponseKind, cp_node, message};

/// How often it is said of an RPC that the server is at work on it.
const BUSY_INTERVAL: Nanos = Nanos::from_secs(1);

/// Whom to ask, and how often.
#[derive(Clone, Debug)]
pub struct PingConfig {
    /// The server.
    pub host: IpAddr,
    /// Its port.
    pub port: HomaPort,
    /// Bytes of a request.
    pub bytes: u32,
    /// Time between requests.
    pub interval: Nanos,
    /// Time for which each answer is waited for.
    pub wait: Nanos,
    /// Requests; without end if `None`.
    pub count: Option<u64>,
    /// What the messages look like.
    pub format: MessageFormat,
}

/// Sends requests at their times and tells what becomes of them.
#[derive(Debug)]
pub struct PingApp {
    config: PingConfig,
    link: Sender<(u64, Outcome)>,
    sent: u64,
    next: Nanos,
    /// RPCs under way, oldest first.
    open: VecDeque<Open>,
    /// BUSY packets seen so far.
    busy: u64,
}

/// An RPC under way.
#[derive(Debug)]
struct Open {
    number: u64,
    since: Nanos,
    /// When it was told last that the server is at work on it.
    told_busy: Option<Nanos>,
}

impl PingApp {
    /// Starts at once; what happens is told through `link`.
    pub fn new(cx: &Cx<'_>, config: PingConfig, link: Sender<(u64, Outcome)>) -> Self {
        let now = cx.now();
        Self { config, link, sent: 0, next: now, open: VecDeque::new(), busy: 0 }
    }

    fn tell(&self, number: u64, outcome: Outcome) {
        // Nobody listens any more only when the program ends.
        let _ = self.link.send((number, outcome));
    }

    fn send(&mut self, cx: &mut Cx<'_>) {
        self.sent += 1;
        let number = self.sent;
        self.tell(number, Outcome::Sent);
        if self.call(cx, number) {
            self.open.push_back(Open { number, since: cx.now(), told_busy: None });
        } else {
            self.tell(number, Outcome::NotSent);
        }
    }

    fn call(&self, cx: &mut Cx<'_>, number: u64) -> bool {
        let PingConfig { host, port, bytes, .. } = self.config;
        let Some(id) = cx.next_rpc_id() else { return false };
        let pattern = Some(Pattern::new(id.0, Direction::Request));
        let request = match self.config.format {
            MessageFormat::Plain => message(cx, bytes, pattern),
            MessageFormat::CpNode => {
                cp_node::request(cx, (number, 0, bytes), &ResponseKind::Echo, pattern)
            }
        };
        request.is_ok_and(|request| cx.call(host, port, request, number).is_ok())
    }

    /// Tells of BUSY packets, which can only be about what waits longest. Servers send many.
    fn look_for_busy(&mut self, cx: &Cx<'_>) {
        let busy =
            cx.metrics().received[usize::from(PacketType::Busy.code() - PacketType::Data.code())];
        if busy == self.busy {
            return;
        }
        self.busy = busy;
        let now = cx.now();
        let Some(open) = self.open.front_mut() else { return };
        if open.told_busy.is_none_or(|told| now.since(told) >= BUSY_INTERVAL) {
            open.told_busy = Some(now);
            let number = open.number;
            self.tell(number, Outcome::Busy);
        }
    }

    /// Gives up what has waited too long. The transport, which is patient with a node that gets little
    /// time and with servers at work, may not have done so yet.
    fn expire(&mut self, now: Nanos) {
        while self.open.front().is_some_and(|open| now.since(open.since) > self.config.wait) {
            let Some(open) = self.open.pop_front() else { return };
            let busy = open.told_busy.is_some();
            self.tell(open.number, Outcome::Unanswered { busy });
        }
    }

    fn is_done(&self) -> bool {
        self.config.count == Some(self.sent) && self.open.is_empty()
    }
}

impl App for PingApp {
    fn on_request(&mut self, _cx: &mut Cx<'_>, _request: Request) {
        // No port is open for requests.
    }

    fn on_response(&mut self, cx: &mut Cx<'_>, response: Result<Response, CallFailed>) {
        let number = match &response {
            Ok(response) => response.cookie,
            Err(failed) => failed.cookie,
        };
        let Some(at) = self.open.iter().position(|open| open.number == number) else { return };
        let Some(Open { since, .. }) = self.open.remove(at) else { return };
        let outcome = match response {
            Ok(response) => {
                let bytes = response.message.len() as u32;
                Outcome::Answered { bytes, rtt: cx.now().since(since) }
            }
            Err(failed) => Outcome::Failed(failed.error),
        };
        self.tell(number, outcome);
    }

    fn on_poll(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now();
        self.look_for_busy(cx);
        self.expire(now);
        if now >= self.next && self.config.count.is_none_or(|count| self.sent < count) {
            self.next = (self.next + self.config.interval).max(now);
            self.send(cx);
        } else if self.is_done() {
            cx.stop();
        }
    }
}
