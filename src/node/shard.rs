//! The run-to-completion loop of one core: receive burst, protocol, application, timers, transmit.

mod crossing;
mod hand_off;
mod input;
mod row;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::dpdk::{Clock, Mempool, RxBurst, SpareLists};
use crate::net::{self, NetEvent, QuotedPacket, Stack, UnreachableCause};
use crate::time::Nanos;
use crate::transport::{self, Event, HostShare, RpcHandle, Unreachable};
use crate::wire::{HomaPort, RpcId};

use super::app::{
    Abandoned, App, CallFailed, Request, RequestHead, Responder, Response, Transport, Verdict,
};
use super::complaints::{About, Complaints};
use super::crossing::{Crossing, Outlet};
use super::cx::{AppState, Cx};
use super::egress::{Egress, Sink};
use super::hand_off::{AnswersOut, Desk};
use super::idle::Idle;
use super::link::LinkReturns;
use super::payload::{Message, PacketBytes};
use super::queues::{RxSource, TxSource};
use super::stats::{Published, ShardReport, ShardStats};
use super::trace::{Direction, Tracer};
use super::watch::{Callback, Watched};
use super::{NodeError, ShardConfig};
use row::Row;

/// Packets taken from the port at once. Few, so that answers to the first leave before the last are
/// looked at: the peer works on them meanwhile. More would make both sides wait for each other.
const RX_BURST: usize = 8;
/// The same after a full burst: more wait, and to fetch packets from a port costs more for few.
const RX_BURST_FULL: usize = 16;
/// The same while full bursts of long packets come in: of what long messages consist of few answers are
/// expected.
const RX_BURST_LONG: usize = 32;
/// Packets of at least so many bytes, on average, are long.
const LONG_PACKET_BYTES: usize = 1_024;
/// What the application sends for a packet leaves the shard at once for every second packet of a burst,
/// and for its last: with all of it at the end, two hosts with few RPCs between them work in turns.
const FLUSH_PACKETS: usize = 2;
/// The same for a full burst: enough comes in for both sides to be busy, and to hand packets to a port
/// costs more for few.
const FLUSH_PACKETS_FULL: usize = 8;
/// Polls of the port per turn when there is nothing else to do.
const IDLE_POLLS: usize = 16;
/// Housekeeping of the network stack happens this often.
const STACK_INTERVAL: Nanos = Nanos::from_ms(1);
/// A loop that did not come round for this long was not running: the time does not count as
/// silence of the peers.
const STALL: Nanos = Nanos::from_ms(1);
/// Acks that are held back for longer than this do not hold up the end of a shard.
const LINGER_MAX: Nanos = Nanos::from_ms(10);
/// More than a turn of the loop takes.
const TURN: Nanos = Nanos::from_us(100);
/// Counters are published every so many turns.
const PUBLISH_TURNS: u64 = 1024;
/// Times per turn that the transmit burst is filled and handed over.
const TX_ROUNDS: usize = 2;

/// What a shard is built from: the queues that are its own.
pub(super) struct ShardParts<'a> {
    pub(super) config: &'a ShardConfig,
    pub(super) rx: RxSource,
    pub(super) tx: TxSource,
    pub(super) rx_pool: Mempool,
    pub(super) tx_pool: Mempool,
    pub(super) header_pool: Mempool,
    pub(super) clock: Clock,
    pub(super) published: &'a Published,
    pub(super) stop: &'a AtomicBool,
    pub(super) link_returns: &'a LinkReturns,
    /// What this shard shares with others, if there are any.
    pub(super) host: Arc<HostShare>,
    pub(super) crossing: Option<(Crossing, Outlet)>,
    /// What is handed to other shards and back, if it is.
    pub(super) desk: Option<(Desk, AnswersOut)>,
    pub(super) trace: Option<Tracer>,
}

/// One core's share of the node, with its application.
pub(super) struct Shard<'a, A> {
    app: Watched<'a, A>,
    transport: Transport,
    stack: Stack,
    rx: RxSource,
    tx: TxSource,
    /// The way to and from other shards, if there are any.
    crossing: Option<Box<Crossing>>,
    /// Where requests are handed to other shards, if they are.
    desk: Option<Box<Desk>>,
    /// For copies of frames that all shards must see.
    rx_pool: Mempool,
    rx_burst: RxBurst<RX_BURST_LONG>,
    /// Packets to be taken from the port at once: see [`RX_BURST`].
    rx_most: usize,
    /// The packet before, if it went on with a long message.
    row: Option<Row>,
    egress: Egress,
    /// What callbacks send goes to the port at once: see [`FLUSH_PACKETS`].
    at_once: bool,
    state: AppState,
    abandoned: Abandoned,
    clock: Clock,
    idle: Idle,
    stats: ShardStats,
    turns: u64,
    last_turn: Nanos,
    next_stack: Nanos,
    drain: Nanos,
    linger: Nanos,
    loss: Loss,
    complaints: Complaints,
    trace: Option<Tracer>,
    /// Packets waiting in the transmit burst that are in the trace already.
    traced: usize,
    published: &'a Published,
    stop: &'a AtomicBool,
    link_returns: &'a LinkReturns,
    /// How many of these were acted on.
    links_seen: u32,
}

impl<'a, A: App> Shard<'a, A> {
    /// Builds the shard on the thread it will run on; `make_app` builds its application.
    pub(super) fn new(
        parts: ShardParts<'a>,
        make_app: impl FnOnce(&mut Cx<'_>) -> A,
    ) -> Result<Self, NodeError> {
        let config = parts.config;
        let mut transport = Transport::sharing(config.transport.clone(), (), &parts.host)?;
        let (crossing, outlet) = parts.crossing.unzip();
        let (desk, answers) = parts.desk.unzip();
        let mut stack = Stack::new(config.net.clone())?;
        let client_port = transport.open_client_port().unwrap_or(HomaPort::FIRST_CLIENT);
        let mut egress = Egress::new(
            parts.tx_pool.cache(),
            parts.header_pool.cache(),
            config.transport.peers_max,
            config.unresolved_packets_max,
            &config.port,
        );
        let mut state = AppState {
            shard: config.transport.shard,
            client_port,
            segment_bytes: config.segment_bytes,
            spares: SpareLists::default(),
            timers: BinaryHeap::new(),
            stop: false,
            outlet: outlet.map(Box::new),
            answers: answers.map(Box::new),
        };
        let now = parts.clock.now();
        let mut cx = Cx {
            now,
            transport: &mut transport,
            egress: &mut egress,
            stack: &mut stack,
            state: &mut state,
            stats: &ShardStats::default(),
            at_once: None,
        };
        parts.published.enter(Callback::Build);
        let app = Watched::new(make_app(&mut cx), parts.clock, parts.published);
        Ok(Self {
            app,
            transport,
            stack,
            rx: parts.rx,
            tx: parts.tx,
            crossing: crossing.map(Box::new),
            desk: desk.map(Box::new),
            rx_pool: parts.rx_pool,
            rx_burst: RxBurst::new(),
            rx_most: RX_BURST,
            row: None,
            egress,
            at_once: false,
            state,
            abandoned: Rc::default(),
            clock: parts.clock,
            idle: Idle::new(config.idle, config.cpus),
            stats: ShardStats::default(),
            turns: 0,
            last_turn: now,
            next_stack: now,
            drain: Nanos(config.drain_ns),
            linger: Nanos(config.transport.ack_delay_ns).min(LINGER_MAX) + TURN,
            loss: Loss::new(config.drop_fraction),
            complaints: Complaints::default(),
            trace: parts.trace,
            traced: 0,
            published: parts.published,
            stop: parts.stop,
            link_returns: parts.link_returns,
            links_seen: parts.link_returns.count(),
        })
    }

    /// Runs until told to stop, then lets what is under way arrive.
    pub(super) fn run(mut self) -> ShardReport {
        self.with_app(|app, cx| app.on_start(cx));
        while !self.stop.load(Ordering::Relaxed) && !self.state.stop {
            self.turn();
        }
        self.stop.store(true, Ordering::Relaxed);
        self.with_app(|app, cx| app.on_stop(cx));
        self.drain();
        self.finish()
    }

    /// Goes on until what is under way has arrived, and a little longer: the acks of the last responses
    /// wait for packets to ride on, and without them the servers would keep those responses.
    fn drain(&mut self) {
        let give_up = self.clock.now() + self.drain;
        let mut busy_at = self.clock.now();
        let mut noted = false;
        loop {
            let now = self.clock.now();
            if !self.is_drained() {
                busy_at = now;
            }
            if now >= give_up {
                return;
            }
            if now > busy_at + self.linger {
                // Others may still need us: packets for them come to our queue.
                let Some(crossing) = &self.crossing else { return };
                if !std::mem::replace(&mut noted, true) {
                    crossing.note_drained();
                }
                if crossing.all_drained() {
                    return;
                }
            }
            self.turn();
        }
    }

    fn is_drained(&self) -> bool {
        let occupancy = self.transport.occupancy();
        occupancy.client_rpcs == 0 && occupancy.server_rpcs == 0 && self.egress.burst.is_empty()
    }

    fn finish(mut self) -> ShardReport {
        self.collect_stats();
        let report = ShardReport {
            stats: self.stats,
            metrics: *self.transport.metrics(),
            occupancy: self.transport.occupancy(),
            net: self.stack.counters().iter().collect(),
            slowest: self.app.slowest,
        };
        self.published.publish(&self.stats, &report.metrics, &report.occupancy);
        self.published.enter(Callback::None);
        // Handles of queues and buffers go in this order: the application's messages first.
        drop(self.app);
        drop(self.transport);
        self.egress.clear();
        self.tx.reclaim();
        report
    }

    /// One turn of the loop.
    #[inline]
    fn turn(&mut self) {
        let mut received = self.poll_rx();
        // Read after the poll: what has just come in is not late.
        let now = self.clock.now();
        self.note_stall(now);
        let mut sent = 0;
        if let Some(desk) = &mut self.desk {
            let is_long = self.rx_most == RX_BURST_LONG;
            let full = if is_long { RX_BURST_LONG } else { RX_BURST };
            desk.note_burst(received >= full, RX_BURST);
        }
        if received > 0 {
            self.take_in(now, received);
        }
        if self.crossing.is_some() {
            received += self.cross(now);
        }
        if received > 0 {
            self.deliver(now);
            // Answers leave before anything that can wait is looked at.
            sent += self.transmit(now);
        }
        // Also without packets: messages that the application dropped may let others go on.
        let spare = &mut self.egress.messages;
        self.transport.end_burst_with(now, |message| message.recycle(spare));
        self.with_app_at(now, |app, cx| app.on_poll(cx));
        if self.egress.has_unreachable() {
            self.report_unreachable(now);
        }
        self.deliver(now);
        self.run_timers(now);
        sent += self.transmit(now);
        if received + sent > 0 {
            self.stats.busy_turns += 1;
            self.idle.worked();
        } else {
            self.stats.idle_turns += 1;
            self.idle.wait();
        }
        self.turns += 1;
        if self.turns.is_multiple_of(PUBLISH_TURNS) {
            self.collect_stats();
            let (metrics, occupancy) = (self.transport.metrics(), self.transport.occupancy());
            self.published.publish(&self.stats, metrics, &occupancy);
        }
    }

    #[inline]
    fn note_stall(&mut self, now: Nanos) {
        let away = now.since(self.last_turn);
        if away <= STALL {
            let time =
                if self.idle.is_idle() { &mut self.stats.idle_ns } else { &mut self.stats.busy_ns };
            *time += away.0;
        } else {
            self.transport.excuse(now, away.0);
            self.stats.stalls += 1;
            self.stats.stall_ns_max = self.stats.stall_ns_max.max(away.0);
        }
        self.last_turn = now;
    }

    fn with_app<R>(&mut self, callback: impl FnOnce(&mut Watched<'a, A>, &mut Cx<'_>) -> R) -> R {
        let now = self.clock.now();
        self.with_app_at(now, callback)
    }

    #[inline]
    fn with_app_at<R>(
        &mut self,
        now: Nanos,
        callback: impl FnOnce(&mut Watched<'a, A>, &mut Cx<'_>) -> R,
    ) -> R {
        let mut cx = Cx {
            now,
            transport: &mut self.transport,
            egress: &mut self.egress,
            stack: &mut self.stack,
            state: &mut self.state,
            stats: &self.stats,
            at_once: self.at_once.then_some(&mut self.tx),
        };
        callback(&mut self.app, &mut cx)
    }

    // ---- in ----------------------------------------------------------------------------------

    /// Fetches a burst from the port. When the last turn found nothing to do, a few times in a row:
    /// what comes in meanwhile is seen sooner than after another turn.
    #[inline]
    fn poll_rx(&mut self) -> usize {
        let polls = if self.idle.is_idle() { IDLE_POLLS } else { 1 };
        for _ in 1..polls {
            let received = self.rx.rx_burst(&mut self.rx_burst, self.rx_most);
            if received > 0 {
                return received;
            }
        }
        self.rx.rx_burst(&mut self.rx_burst, self.rx_most)
    }

    #[inline]
    fn take_in(&mut self, now: Nanos, received: usize) {
        self.stats.rx_packets += received as u64;
        let is_full = received == self.rx_most;
        self.stats.full_bursts += u64::from(is_full);
        if let Some(trace) = &mut self.trace {
            trace.record_all(now, Direction::In, self.rx_burst.frames());
        }
        if self.crossing.is_some() {
            // The shard that packets go to may be another one by now.
            self.row = None;
        }
        let flush_packets = if is_full { FLUSH_PACKETS_FULL } else { FLUSH_PACKETS };
        let bytes_before = self.stats.rx_bytes;
        while let Some(mbuf) = self.rx_burst.next() {
            self.stats.rx_bytes += mbuf.packet_len() as u64;
            if self.loss.strikes() {
                self.stats.rx_dropped_on_purpose += 1;
                continue;
            }
            let is_turn = self.rx_burst.len().is_multiple_of(flush_packets);
            self.at_once = is_turn && self.trace.is_none();
            if mbuf.segment_count() == 1 {
                self.input(now, mbuf, false);
            } else {
                self.input_chain(now, mbuf);
            }
        }
        self.at_once = false;
        let bytes = self.stats.rx_bytes - bytes_before;
        let is_long = received >= RX_BURST && bytes >= (received * LONG_PACKET_BYTES) as u64;
        self.rx_most = match is_full {
            _ if is_long => RX_BURST_LONG,
            true => RX_BURST_FULL,
            false => RX_BURST,
        };
    }

    // ---- application -------------------------------------------------------------------------

    /// Hands what the transport has for the application to it.
    #[inline]
    fn deliver(&mut self, now: Nanos) {
        while let Some(event) = self.transport.poll_event() {
            self.hand_over(now, event);
        }
        if !self.abandoned.borrow().is_empty() {
            self.forget_abandoned(now);
        }
    }

    fn hand_over(&mut self, now: Nanos, mut event: Event<PacketBytes>) {
        if let Event::Request { rpc, message, is_head_due: true, .. } = &event
            && self.refuses(message)
        {
            let rpc = *rpc;
            drop(event);
            self.transport.abort(now, rpc);
            return;
        }
        if self.desk.as_ref().is_some_and(|desk| desk.is_open()) {
            match self.hand_off(event) {
                Some(stays) => event = stays,
                None => return,
            }
        }
        match event {
            Event::Request { rpc, id, client, client_port, port, message, .. } => {
                let abandoned = Some(Rc::clone(&self.abandoned));
                let responder =
                    Responder { rpc, id, client, client_port, port, abandoned, home: None };
                let request = Request { message, responder };
                self.with_app_at(now, |app, cx| app.on_request(cx, request));
            }
            Event::Response { cookie, id, result } => {
                let response = match result {
                    Ok(message) => Ok(Response { cookie, id, message }),
                    Err(error) => Err(CallFailed { cookie, id, error }),
                };
                self.with_app_at(now, |app, cx| app.on_response(cx, response));
            }
            Event::RequestHead { rpc, length } => self.announce(now, rpc, length),
        }
    }

    /// Asks the application whether it wants a request that is complete already.
    #[cold]
    fn refuses(&mut self, message: &Message) -> bool {
        let first = message.payloads().next().map_or(&[][..], |first| first.as_ref());
        let head = RequestHead { length: message.len() as u32, first };
        self.app.on_request_head(head) == Verdict::Refuse
    }

    fn announce(&mut self, now: Nanos, rpc: RpcHandle, length: u32) {
        let Some(first) = self.transport.head(rpc) else { return };
        let head = RequestHead { length, first: first.as_ref() };
        if self.app.on_request_head(head) == Verdict::Refuse {
            self.transport.abort(now, rpc);
        }
    }

    /// Requests that the application dropped without an answer.
    #[cold]
    fn forget_abandoned(&mut self, now: Nanos) {
        let abandoned = Rc::clone(&self.abandoned);
        for (home, rpc) in abandoned.borrow_mut().drain(..) {
            match home {
                None => drop(self.transport.abort(now, rpc)),
                Some(home) => self.abandon(home, rpc),
            }
        }
    }

    // ---- timers ------------------------------------------------------------------------------

    #[inline]
    fn run_timers(&mut self, now: Nanos) {
        self.transport.on_timer(now);
        if self.state.timers.peek().is_some_and(|Reverse((at, _))| *at <= now) {
            self.run_app_timers(now);
        }
        if now >= self.next_stack {
            self.next_stack = now + STACK_INTERVAL;
            let links = self.link_returns.count();
            if std::mem::replace(&mut self.links_seen, links) != links {
                self.stack.announce(now);
            }
            self.stack.on_timer(now);
        }
    }

    fn run_app_timers(&mut self, now: Nanos) {
        while let Some(&Reverse((at, token))) = self.state.timers.peek() {
            if at > now {
                break;
            }
            self.state.timers.pop();
            self.with_app_at(now, |app, cx| app.on_timer(cx, token));
        }
        self.deliver(now);
    }

    fn on_net_event(&mut self, now: Nanos, event: NetEvent) {
        match event {
            NetEvent::Resolved(_) => self.egress.send_resolved(now, &mut self.stack),
            NetEvent::ResolutionFailed(hop) => {
                self.egress.send_resolved(now, &mut self.stack);
                let question = if hop.is_ipv4() { "ARP" } else { "Neighbour Solicitations" };
                if let Some(times) = self.complaints.count(About::NoAnswer, hop) {
                    log::warn!(
                        "{hop} does not answer {question}: is it up, and on this network?{times}"
                    );
                }
                self.transport.on_unreachable(now, hop.into(), Unreachable::Host);
            }
            NetEvent::PeerUnreachable { cause, quoted, .. } => {
                self.on_peer_unreachable(now, cause, &quoted);
            }
            NetEvent::MtuHint { mtu_bytes, quoted, .. } => {
                self.on_mtu_hint(now, mtu_bytes, &quoted);
            }
            NetEvent::AddressConflict { ip, mac } => {
                log::error!("{mac} uses our address {ip} as well: give one of us another");
            }
        }
    }

    /// Ends the RPCs with hosts to which there is no way.
    #[cold]
    fn report_unreachable(&mut self, now: Nanos) {
        while let Some(dst) = self.egress.take_unreachable() {
            self.transport.on_unreachable(now, dst.into(), Unreachable::Host);
        }
    }

    fn on_peer_unreachable(&mut self, now: Nanos, cause: UnreachableCause, quoted: &QuotedPacket) {
        // A short quotation does not say which RPC it was.
        let (local, remote) = (HomaPort(quoted.src_port), HomaPort(quoted.dst_port));
        let can_be_ours = match quoted.sender_id {
            Some(_) => self.is_under_way(quoted),
            None => self.transport.has_rpc_between(quoted.dst.into(), local, remote),
        };
        if !can_be_ours {
            return;
        }
        let what = match cause {
            UnreachableCause::Port => Unreachable::Port { local, remote },
            UnreachableCause::Protocol => {
                let peer = quoted.dst;
                if let Some(times) = self.complaints.count(About::NotHoma, peer) {
                    log::warn!(
                        "{peer} does not speak Homa: its host says \"protocol unreachable\"{times}"
                    );
                }
                Unreachable::Protocol
            }
            UnreachableCause::Network | UnreachableCause::Host | UnreachableCause::Prohibited => {
                Unreachable::Host
            }
        };
        self.transport.on_unreachable(now, quoted.dst.into(), what);
    }

    /// Smaller packets to a peer from now on, if the one that was too large can have been ours.
    fn on_mtu_hint(&mut self, now: Nanos, mtu_bytes: u16, quoted: &QuotedPacket) {
        if self.is_under_way(quoted) && self.stack.lower_path_mtu(now, quoted, mtu_bytes) {
            log::info!("packets to {} shrink to {mtu_bytes} bytes: a link on the way", quoted.dst);
        }
    }

    /// Whether a quoted packet belongs to an RPC that we have: anybody can make one up.
    fn is_under_way(&mut self, quoted: &QuotedPacket) -> bool {
        let port = HomaPort(quoted.src_port);
        quoted
            .sender_id
            .is_some_and(|id| self.transport.has_rpc(quoted.dst.into(), port, RpcId(id)))
    }

    // ---- out ---------------------------------------------------------------------------------

    #[inline]
    fn transmit(&mut self, now: Nanos) -> usize {
        if self.stack.has_output() || self.egress.has_resolved() {
            self.transmit_own(now);
        }
        let mut handed_over = std::mem::take(&mut self.egress.flushed);
        for _ in 0..TX_ROUNDS {
            if !self.transport.has_to_send() && !self.egress.has_work() {
                break;
            }
            let mut sink = Sink::new(now, &mut self.egress, &mut self.stack);
            self.transport.poll_transmit(now, &mut sink);
            sink.finish();
            if self.egress.burst.is_empty() {
                break;
            }
            let taken = self.flush(now);
            handed_over += taken;
            if taken == 0 {
                break;
            }
        }
        self.stats.tx_packets += handed_over as u64;
        handed_over
    }

    /// What the network stack has to send and to tell.
    #[cold]
    fn transmit_own(&mut self, now: Nanos) {
        self.egress.send_own_frames(&mut self.stack);
        if self.egress.has_resolved() {
            self.egress.send_resolved(now, &mut self.stack);
        }
        while let Some(event) = self.stack.poll_event() {
            self.on_net_event(now, event);
        }
    }

    /// Hands waiting packets to the port.
    #[inline]
    fn flush(&mut self, now: Nanos) -> usize {
        if self.trace.is_some() {
            return self.flush_traced(now);
        }
        self.tx.flush(&mut self.egress.burst)
    }

    #[cold]
    fn flush_traced(&mut self, now: Nanos) -> usize {
        if let Some(trace) = &mut self.trace {
            trace.record_all(now, Direction::Out, self.egress.burst.frames(self.traced));
        }
        let taken = self.tx.flush(&mut self.egress.burst);
        self.traced = self.egress.burst.len();
        taken
    }

    fn collect_stats(&mut self) {
        self.stats.trace_dropped = self.trace.as_ref().map_or(0, Tracer::dropped);
        let egress = self.egress.counters;
        self.stats.tx_no_mbuf = egress.no_mbuf;
        self.stats.tx_no_path = egress.no_path;
        self.stats.tx_segmented = egress.segmented;
        self.stats.tx_unresolved = egress.unresolved_dropped;
        self.stats.tx_unsendable = self.tx.unsendable();
        self.stats.slow_callbacks = self.app.slow;
    }
}

/// Drops received packets at random on request, so that recovery can be seen at work.
struct Loss {
    /// Strikes when a random 32-bit number is below; 0 for never.
    threshold: u32,
    random: u64,
}

impl Loss {
    fn new(fraction: f64) -> Self {
        Self { threshold: (fraction * f64::from(u32::MAX)) as u32, random: 0x9E37_79B9_7F4A_7C15 }
    }

    #[inline]
    fn strikes(&mut self) -> bool {
        self.threshold > 0 && self.draw() < self.threshold
    }

    fn draw(&mut self) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 32) as u32
    }
}

impl From<transport::ConfigError> for NodeError {
    fn from(error: transport::ConfigError) -> Self {
        Self::Transport(error)
    }
}

impl From<net::ConfigError> for NodeError {
    fn from(error: net::ConfigError) -> Self {
        Self::Net(error)
    }
}
