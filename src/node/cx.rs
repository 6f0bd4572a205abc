//! What a callback can do.

use std::any::Any;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::IpAddr;

use crate::dpdk::{ExternalBuffer, SegmentedBuf, SpareLists};
use crate::net::Stack;
use crate::time::Nanos;
use crate::transport::{Metrics, Occupancy, OutMessage, Refused, RefusedReason, RpcHandle};
use crate::wire::{HomaPort, MAX_MESSAGE_LENGTH, RpcId};

use super::app::Transport;
use super::crossing::{Letter, Outlet};
use super::egress::{Egress, Sink};
use super::hand_off::{Answer, AnswersOut, Home};
use super::outgoing::{MessageBuf, Outgoing};
use super::queues::TxSource;
use super::stats::{LoopTime, ShardStats};

/// Timers of an application that may be set at a time.
const TIMERS_MAX: usize = 65_536;

/// What of a shard an application can reach through [`Cx`], and that does not change by the turn.
#[derive(Debug)]
pub(super) struct AppState {
    pub(super) shard: u8,
    pub(super) client_port: HomaPort,
    /// Payload bytes of a full DATA packet.
    pub(super) segment_bytes: u32,
    pub(super) spares: SpareLists,
    pub(super) timers: BinaryHeap<Reverse<(Nanos, u64)>>,
    pub(super) stop: bool,
    /// The way to other shards, if there are any.
    pub(super) outlet: Option<Box<Outlet>>,
    /// The way home for answers to requests of other shards.
    pub(super) answers: Option<Box<AnswersOut>>,
}

/// The shard as a callback sees it.
pub struct Cx<'a> {
    pub(super) now: Nanos,
    pub(super) transport: &'a mut Transport,
    pub(super) egress: &'a mut Egress,
    pub(super) stack: &'a mut Stack,
    pub(super) state: &'a mut AppState,
    pub(super) stats: &'a ShardStats,
    /// Where the first message of this callback goes at once, with what waits before it.
    pub(super) at_once: Option<&'a mut TxSource>,
}

/// Why there is no [`MessageBuf`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AllocError {
    /// A message has 1 to 1,000,000 bytes, and not this many.
    BadLength(usize),
    /// All mbufs of the shard are in use.
    OutOfMbufs,
}

impl std::fmt::Display for AllocError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::BadLength(length) => {
                write!(f, "a message has 1 to {MAX_MESSAGE_LENGTH} bytes, not {length}")
            }
            Self::OutOfMbufs => f.write_str("all mbufs are in use: raise the size of the pool"),
        }
    }
}

impl std::error::Error for AllocError {}

impl Cx<'_> {
    /// The time at the beginning of this turn of the loop.
    pub fn now(&self) -> Nanos {
        self.now
    }

    /// The number of this shard.
    pub fn shard(&self) -> u8 {
        self.state.shard
    }

    /// Shards of this node, numbered from 0.
    pub fn shards(&self) -> u8 {
        self.state.outlet.as_ref().map_or(1, |outlet| outlet.shards() as u8)
    }

    /// Sends `message` to the application on another shard, which gets it in
    /// [`App::on_message`](super::App::on_message).
    ///
    /// # Errors
    /// The message comes back if there is no other shard of this number, or if too many messages wait
    /// there: try again later.
    pub fn spawn_on(
        &mut self,
        shard: u8,
        message: Box<dyn Any + Send>,
    ) -> Result<(), Box<dyn Any + Send>> {
        let Some(outlet) = &mut self.state.outlet else { return Err(message) };
        outlet.send(shard, Letter::Message(message)).map_err(|letter| match letter {
            Letter::Message(message) => message,
            Letter::Frame(_) | Letter::Ack(_) => unreachable!("it was a message"),
        })
    }

    /// A buffer for a message of up to `capacity` bytes.
    ///
    /// # Errors
    /// When `capacity` is not 1 to 1,000,000, and when mbufs run out.
    #[inline(always)]
    pub fn alloc(&mut self, capacity: usize) -> Result<MessageBuf, AllocError> {
        let bytes = message_bytes(capacity)?;
        let (segment_bytes, spares) = (self.state.segment_bytes, &self.state.spares);
        SegmentedBuf::new(bytes, segment_bytes, &mut self.egress.messages, spares)
            .ok_or(AllocError::OutOfMbufs)
    }

    /// A message of `bytes`, copied.
    ///
    /// # Errors
    /// As [`Cx::alloc`].
    #[inline(always)]
    pub fn message(&mut self, bytes: &[u8]) -> Result<MessageBuf, AllocError> {
        message_bytes(bytes.len())?;
        let (segment_bytes, spares) = (self.state.segment_bytes, &self.state.spares);
        SegmentedBuf::of_bytes(bytes, segment_bytes, &mut self.egress.messages, spares)
            .ok_or(AllocError::OutOfMbufs)
    }

    /// A message whose bytes stay in memory of the application until they are sent: each packet is copied
    /// as it leaves. Only with software ports.
    pub fn attach(&self, buffer: ExternalBuffer) -> Outgoing {
        Outgoing::external(buffer, self.state.segment_bytes)
    }

    /// Opens `port` for requests. False if it is open already, or 0.
    pub fn open_server_port(&mut self, port: HomaPort) -> bool {
        self.transport.open_server_port(port)
    }

    /// Closes a port and ends its RPCs.
    pub fn close_port(&mut self, port: HomaPort) {
        self.transport.close_port(self.now, port);
    }

    /// The port that calls of this shard come from; with several shards, one of them.
    pub fn client_port(&self) -> HomaPort {
        self.state.client_port
    }

    /// Starts an RPC to `port` at `host`. The response comes to
    /// [`App::on_response`](super::App::on_response) with `cookie`.
    ///
    /// # Errors
    /// The message comes back when a limit is reached or its length is not 1 to 1,000,000 bytes.
    #[inline(always)]
    pub fn call(
        &mut self,
        host: IpAddr,
        port: HomaPort,
        message: impl Into<Outgoing>,
        cookie: u64,
    ) -> Result<RpcId, Refused<Outgoing>> {
        let from = match &mut self.state.outlet {
            None => self.state.client_port,
            Some(outlet) => outlet.port_for(self.transport, self.stack, host, port),
        };
        let (now, message) = (self.now, message.into());
        let mut sink = Sink::new(now, self.egress, self.stack);
        let transport = &mut *self.transport;
        let started =
            transport.call_through(now, from, host.into(), port, message, cookie, &mut sink);
        sink.finish();
        self.flush_at_once();
        started.map(|(_, id)| id)
    }

    /// The id that the next successful [`Cx::call`] of this shard will get, for messages whose content
    /// depends on it. `None` when no call is possible now.
    pub fn next_rpc_id(&self) -> Option<RpcId> {
        self.transport.next_rpc_id()
    }

    #[inline(always)]
    pub(super) fn reply(
        &mut self,
        rpc: RpcHandle,
        response: Outgoing,
    ) -> Result<(), Refused<Outgoing>> {
        let mut sink = Sink::new(self.now, self.egress, self.stack);
        let replied = self.transport.reply_through(self.now, rpc, response, &mut sink);
        sink.finish();
        self.flush_at_once();
        replied
    }

    /// What the application does after it has sent something need not hold that up.
    #[inline]
    fn flush_at_once(&mut self) {
        if let Some(tx) = self.at_once.take() {
            self.egress.flushed += tx.flush(&mut self.egress.burst);
        }
    }

    /// Sends the answer to a request of another shard there.
    #[cold]
    pub(super) fn reply_home(
        &mut self,
        home: Home,
        rpc: RpcHandle,
        response: Outgoing,
    ) -> Result<(), Refused<Outgoing>> {
        let refuse = |reason, message| Err(Refused { reason, message });
        let length = response.len();
        if !(1..=MAX_MESSAGE_LENGTH).contains(&length) {
            return refuse(RefusedReason::BadLength(length), response);
        }
        let response = match response.into_send() {
            Ok(response) => response,
            Err(response) => return refuse(RefusedReason::NotInService, response),
        };
        let Some(answers) = &mut self.state.answers else {
            return refuse(RefusedReason::NotInService, response.open(&self.state.spares));
        };
        let answer = Answer { rpc, packets: home.packets, response: Some(response) };
        match answers.send(home.shard, answer) {
            Ok(()) | Err(Answer { response: None, .. }) => Ok(()),
            Err(Answer { response: Some(response), .. }) => {
                let response = response.open(&self.state.spares);
                refuse(RefusedReason::TooManyOutgoingBytes, response)
            }
        }
    }

    /// Asks for [`App::on_timer`](super::App::on_timer) with `token` at `at` or a little later.
    /// False if too many timers are set.
    pub fn set_timer(&mut self, at: Nanos, token: u64) -> bool {
        let has_room = self.state.timers.len() < TIMERS_MAX;
        if has_room {
            self.state.timers.push(Reverse((at, token)));
        }
        has_room
    }

    /// Ends the node, after [`App::on_stop`](super::App::on_stop).
    pub fn stop(&mut self) {
        self.state.stop = true;
    }

    /// The counters of this shard's transport.
    pub fn metrics(&self) -> &Metrics {
        self.transport.metrics()
    }

    /// How this shard has spent its time.
    pub fn loop_time(&self) -> LoopTime {
        LoopTime { busy: Nanos(self.stats.busy_ns), idle: Nanos(self.stats.idle_ns) }
    }

    /// How full this shard's tables are.
    pub fn occupancy(&self) -> Occupancy {
        self.transport.occupancy()
    }
}

impl std::fmt::Debug for Cx<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cx").field("now", &self.now).field("state", &self.state).finish()
    }
}

/// A length that a message may have.
#[inline]
fn message_bytes(bytes: usize) -> Result<u32, AllocError> {
    u32::try_from(bytes)
        .ok()
        .filter(|bytes| (1..=MAX_MESSAGE_LENGTH).contains(bytes))
        .ok_or(AllocError::BadLength(bytes))
}

/// Whether a refused call may succeed if it is tried again a little later.
pub fn is_transient(reason: RefusedReason) -> bool {
    !matches!(reason, RefusedReason::BadLength(_) | RefusedReason::PortNotOpen)
}
