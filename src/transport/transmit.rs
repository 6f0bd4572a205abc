//! What is sent, and in what order: control packets, then short messages, then what has to be sent
//! again, then the rest by SRPT within the pacing limit (protocol.md section 10).

use core::ops::Range;
use std::collections::VecDeque;

use crate::time::Nanos;
use crate::wire::{Body, Data, Packet};

use super::Transport;
use super::buffers::{OutMessage, Payload, PeerRef, TxSink, run};
use super::config::{Config, Order};
use super::cutoffs::unscheduled_priority;
use super::heap::{Heap, Key, Positions};
use super::metrics::{Metrics, Probe};
use super::mutation::Mutation;
use super::pacer::Pacer;
use super::peer::{Peer, Peers};
use super::rpc::{Outbound, State};
use super::slab::Handle;

/// A range to be sent again, in whole packets of the original boundaries.
#[derive(Debug)]
struct Resending {
    rpc: Handle,
    /// First byte of the next packet.
    next: u32,
    end: u32,
    /// What the packets say about bytes to come (protocol.md section 13.3).
    incoming: u32,
    priority: u8,
}

#[derive(Debug)]
pub(super) struct Sender {
    control: VecDeque<(u32, Packet)>,
    /// Messages that are not paced, in order of arrival; and new long ones for their first packet.
    urgent: VecDeque<Handle>,
    resending: VecDeque<Resending>,
    /// All other messages that can send, by bytes left.
    waiting: Heap,
    places: Positions,
    /// The same by age, for the share of the oldest.
    by_age: Heap,
    age_places: Positions,
    pub(super) pacer: Pacer,
    /// Bytes that the oldest message may send, grown by what others send ahead of it.
    oldest_credit: i64,
    order: Order,
}

impl Sender {
    pub(super) fn new(config: &Config) -> Self {
        let rpcs = config.client_rpcs_max + config.server_rpcs_max;
        Self {
            // Small, because a ring uses all of its memory in turn; grows when that is needed.
            control: VecDeque::with_capacity(config.control_packets_max.min(32)),
            urgent: VecDeque::new(),
            resending: VecDeque::new(),
            waiting: Heap::default(),
            places: Positions::new(rpcs),
            by_age: Heap::default(),
            age_places: Positions::new(rpcs),
            pacer: Pacer::new(config),
            oldest_credit: 0,
            order: config.order,
        }
    }

    /// Whether anything waits, paced or not.
    pub(super) fn has_work(&self) -> bool {
        !self.control.is_empty()
            || !self.urgent.is_empty()
            || !self.resending.is_empty()
            || !self.waiting.is_empty()
    }

    /// The order of what is sent next of that which waits for its turn; what is sent again comes first.
    fn next_paced(resending: &VecDeque<Resending>, waiting: &Heap) -> Option<Key> {
        match resending.is_empty() {
            true => waiting.peek().map(|best| best.key),
            false => Some(Key { bytes: 0, age_ns: 0 }),
        }
    }

    /// Whether something waits that pacing does not hold back.
    fn has_unpaced_work(&self) -> bool {
        !self.control.is_empty() || !self.urgent.is_empty()
    }

    fn insert<M: OutMessage>(&mut self, index: u32, outbound: &Outbound<M>) {
        let key = outbound.key(self.order);
        self.waiting.set(index, key, &mut self.places);
        if !self.age_places.contains(index) {
            let age = Key { bytes: 0, age_ns: key.age_ns };
            self.by_age.set(index, age, &mut self.age_places);
        }
    }

    /// Takes a message out of the order: nothing granted to send, or gone.
    pub(super) fn remove(&mut self, index: u32) {
        if self.waiting.remove(index, &mut self.places) {
            self.by_age.remove(index, &mut self.age_places);
        }
    }
}

/// See [`Transport::send_order`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SendOrder {
    is_paced: bool,
    key: Key,
}

/// What of a message is about to be sent.
struct Segment {
    range: Range<u32>,
    incoming: u32,
    /// Priority before the map; `None` takes the one of the message.
    priority: Option<u8>,
    retransmit: bool,
}

impl<B: Payload, M: OutMessage, P: Probe> Transport<B, M, P> {
    /// Queues a control packet. When the queue is full the packet is lost, as it could be on the
    /// wire: the protocol recovers.
    pub(super) fn send_control(&mut self, peer: u32, packet: Packet) {
        if self.sender.control.len() >= self.config.control_packets_max {
            self.metrics.control_dropped += 1;
            return;
        }
        if let Some(peer) = self.peers.get_mut(peer) {
            // Until it is sent, no other peer may take this one's place.
            peer.control_queued += 1;
        }
        self.sender.control.push_back((peer, packet));
    }

    /// Puts the outgoing message of `handle` where it will be sent from, if it can send.
    pub(super) fn start_sending(&mut self, handle: Handle) {
        let Some(rpc) = self.rpcs.get_mut(handle.index) else { return };
        let Some(outbound) = rpc.outbound.as_mut().filter(|out| out.is_sendable()) else { return };
        if outbound.urgent {
            return;
        }
        let short = outbound.remaining() <= self.config.defer_min_bytes;
        // The first packet of a long message goes ahead, so that its grants are on their way while
        // others are sent.
        let listed = self.sender.places.contains(handle.index);
        let early = self.config.early_packet
            && outbound.sent_to == 0
            && outbound.granted < outbound.length
            && self.sender.waiting.len() > usize::from(listed);
        if short || early || outbound.announce {
            outbound.urgent = true;
            self.sender.urgent.push_back(handle);
            if listed {
                self.sender.remove(handle.index);
            }
        } else {
            self.sender.insert(handle.index, outbound);
        }
    }

    /// Sends a message just handed in if it is one short packet and nothing goes before it; says whether
    /// it did.
    #[inline(always)]
    pub(super) fn send_now(
        &mut self,
        now: Nanos,
        handle: Handle,
        sink: &mut impl TxSink<M>,
    ) -> bool {
        let is_next = !self.sender.has_unpaced_work() && sink.room() > 0;
        is_next && self.transmit_whole(now, handle.index, sink)
    }

    /// Sends a new message if it is one short packet; says whether it did. What `transmit_next` does, in
    /// few steps: most messages go this way.
    #[inline(always)]
    fn transmit_whole(&mut self, now: Nanos, index: u32, sink: &mut impl TxSink<M>) -> bool {
        let time = self.timer_time(now);
        let Some(rpc) = self.rpcs.get_mut(index) else { return false };
        let header = rpc.header();
        let Some(outbound) = rpc.outbound.as_mut() else { return false };
        let Some(peer) = self.peers.get_mut(rpc.peer) else { return false };
        let length = outbound.length;
        let is_short = length <= outbound.segment_bytes.min(self.config.defer_min_bytes);
        if !is_short || outbound.granted < length {
            return false;
        }
        let priority =
            unscheduled_priority(&peer.cutoffs, self.config.num_priorities, outbound.length);
        let priority = self.config.priority_map[usize::from(priority)];
        let data = Data {
            message_length: length,
            incoming: length,
            ack: peer.newest_ack(),
            cutoff_version: peer.cutoff_version,
            retransmit: false,
            incast: outbound.incast,
            offset: 0,
        };
        let packet = Packet { header, body: Body::Data(data) };
        let to = PeerRef { index: rpc.peer, addr: peer.addr };
        if !sink.whole(to, priority, &packet, &mut outbound.message) {
            return self.transmit_next(now, index, 1, sink) > 0;
        }
        peer.ack_sent();
        (outbound.sent_to, outbound.first_sent) = (length, now);
        let wait_ns = match rpc.state {
            State::ServerOutgoing => self.config.need_ack_after_ns,
            _ => self.config.resend_after_ns,
        };
        rpc.quiet_since = time;
        rpc.next_probe = time + Nanos(wait_ns);
        self.metrics.sent[Metrics::type_index(&packet)] += 1;
        self.metrics.sent_bytes_by_priority[usize::from(priority)] += u64::from(length);
        self.probe.sent(now, to, priority, &packet, length);
        self.sender.pacer.charge(now, length);
        self.wheel.arm(index, time + Nanos(wait_ns.min(self.config.timeout_ns)));
        true
    }

    /// Queues `range` of the outgoing message for sending again at `priority`. Says false if the
    /// queue is full.
    pub(super) fn resend(&mut self, handle: Handle, range: Range<u32>, priority: u8) -> bool {
        let Some(rpc) = self.rpcs.get(handle.index) else { return true };
        let Some(outbound) = rpc.outbound.as_ref() else { return true };
        let end = range.end.min(outbound.sent_to);
        if range.start >= end {
            return true;
        }
        let next = range.start - range.start % outbound.segment_bytes;
        let overlaps =
            |other: &&mut Resending| other.rpc == handle && next < other.end && end > other.next;
        let mut first = self.sender.resending.iter_mut().take(RESENDING_LOOKED_AT);
        if let Some(other) = first.find(overlaps) {
            // What this one has sent again already is on its way.
            other.end = other.end.max(end);
            other.incoming = other.incoming.max(end);
            return true;
        }
        if self.sender.resending.len() >= self.config.retransmits_max {
            self.metrics.retransmits_dropped += 1;
            return false;
        }
        let resending = Resending { rpc: handle, next, end, incoming: end, priority };
        self.sender.resending.push_back(resending);
        true
    }

    /// Hands to `sink` what may go now, as far as it has room. Gives the number of packets.
    pub fn poll_transmit(&mut self, now: Nanos, sink: &mut impl TxSink<M>) -> usize {
        if !self.sender.has_work() {
            return 0;
        }
        let mut sent = 0;
        self.sender.pacer.want(|| Sender::next_paced(&self.sender.resending, &self.sender.waiting));
        while sink.room() > 0 {
            if self.transmit_control(now, sink) || self.transmit_urgent(now, sink) {
                sent += 1;
                continue;
            }
            match self.transmit_paced(now, sink) {
                0 => break,
                packets => sent += packets,
            }
        }
        let (resending, waiting) = (&self.sender.resending, &self.sender.waiting);
        self.sender.pacer.settle(now, || Sender::next_paced(resending, waiting));
        sent
    }

    /// Whether [`Transport::poll_transmit`] has something to send, as soon as pacing lets it.
    #[inline]
    pub fn has_to_send(&self) -> bool {
        self.sender.has_work()
    }

    /// The place of what would be sent next in the order of all shards of a host: for a queue of the NIC
    /// that several take turns at. The smallest goes first; `None` if nothing waits.
    pub fn send_order(&self) -> Option<SendOrder> {
        if self.sender.has_unpaced_work() {
            return Some(SendOrder { is_paced: false, key: Key { bytes: 0, age_ns: 0 } });
        }
        let key = Sender::next_paced(&self.sender.resending, &self.sender.waiting)?;
        Some(SendOrder { is_paced: true, key })
    }

    /// When [`Transport::poll_transmit`] has something to do: now, or when the link has caught up.
    pub(super) fn next_transmit(&self, now: Nanos) -> Option<Nanos> {
        if self.sender.has_unpaced_work() {
            return Some(now);
        }
        self.sender.has_work().then(|| self.sender.pacer.next_send(now).unwrap_or(now))
    }

    fn transmit_control(&mut self, now: Nanos, sink: &mut impl TxSink<M>) -> bool {
        while let Some((peer, packet)) = self.sender.control.pop_front() {
            let Some(entry) = self.peers.get_mut(peer) else { continue };
            entry.control_queued -= 1;
            let to = PeerRef { index: peer, addr: entry.addr };
            let top = self.config.num_priorities - 1;
            let priority = self.config.priority_map[usize::from(top)];
            self.metrics.sent[Metrics::type_index(&packet)] += 1;
            self.probe.sent(now, to, priority, &packet, 0);
            sink.control(to, priority, &packet);
            self.sender.pacer.charge(now, 0);
            return true;
        }
        false
    }

    fn transmit_urgent(&mut self, now: Nanos, sink: &mut impl TxSink<M>) -> bool {
        let defer_min_bytes = self.config.defer_min_bytes;
        while let Some(handle) = self.sender.urgent.pop_front() {
            let Some(index) = self.rpcs.resolve(handle) else { continue };
            let sent = self.transmit_next(now, index, 1, sink) > 0;
            let Some(outbound) = self.outbound_mut(index) else { continue };
            outbound.urgent = false;
            if outbound.is_sendable() {
                if outbound.remaining() <= defer_min_bytes {
                    outbound.urgent = true;
                    self.sender.urgent.push_front(handle);
                } else {
                    // More than a short rest goes on by SRPT, paced.
                    self.start_sending(handle);
                }
            }
            if sent {
                return true;
            }
        }
        false
    }

    fn transmit_paced(&mut self, now: Nanos, sink: &mut impl TxSink<M>) -> usize {
        if !self.sender.pacer.may_send(now) {
            0
        } else if self.transmit_again(now, sink) {
            1
        } else {
            self.transmit_waiting(now, sink)
        }
    }

    fn transmit_again(&mut self, now: Nanos, sink: &mut impl TxSink<M>) -> bool {
        while let Some(front) = self.sender.resending.front_mut() {
            let Some(index) = self.rpcs.resolve(front.rpc) else {
                self.sender.resending.pop_front();
                continue;
            };
            let outbound = self.rpcs.get(index).and_then(|rpc| rpc.outbound.as_ref());
            let Some(outbound) = outbound.filter(|out| front.next < front.end.min(out.sent_to))
            else {
                self.sender.resending.pop_front();
                continue;
            };
            let range = front.next..(front.next + outbound.segment_bytes).min(outbound.length);
            front.next = range.end;
            self.sender.pacer.charge(now, range.end - range.start);
            let segment = Segment {
                range,
                incoming: front.incoming,
                priority: Some(front.priority),
                retransmit: true,
            };
            self.transmit_segment(now, index, segment, sink);
            return true;
        }
        false
    }

    /// Sends a few packets of the message whose turn it is. What it has left only shrinks, so it stays
    /// the best one meanwhile.
    fn transmit_waiting(&mut self, now: Nanos, sink: &mut impl TxSink<M>) -> usize {
        let Some(best) = self.sender.waiting.peek() else { return 0 };
        let oldest = self.sender.by_age.peek().unwrap_or(best).index;
        // The best one needs no turn.
        let has_turn = oldest != best.index && self.sender.oldest_credit >= OLDEST_TURN_BYTES;
        let index = if has_turn { oldest } else { best.index };
        let before = self.outbound_mut(index).map_or(0, |out| out.sent_to);
        let run = if has_turn { 1 } else { RUN_PACKETS };
        let mut packets = 0;
        while packets < run && sink.room() > 0 && self.sender.pacer.may_send(now) {
            match self.transmit_next(now, index, (run - packets).min(sink.room()), sink) {
                0 => break,
                sent => packets += sent,
            }
        }
        let Some(outbound) = self.rpcs.get(index).and_then(|rpc| rpc.outbound.as_ref()) else {
            self.sender.remove(index);
            return packets;
        };
        let bytes = i64::from(outbound.sent_to - before);
        if index != oldest {
            let permille = i64::from(self.config.send_fifo_permille);
            self.sender.oldest_credit += bytes * permille / (1_000 - permille);
        } else if index != best.index {
            self.sender.oldest_credit -= bytes;
        }
        if outbound.is_sendable() {
            self.sender.insert(index, outbound);
        } else {
            self.sender.remove(index);
        }
        packets
    }

    /// Sends the next packet of a message, if it may, and behind it those that differ from it in their offsets
    /// only, as far as pacing lets them: up to `packets_max`. Gives the number.
    fn transmit_next(
        &mut self,
        now: Nanos,
        index: u32,
        packets_max: usize,
        sink: &mut impl TxSink<M>,
    ) -> usize {
        let Some(rpc) = self.rpcs.get_mut(index) else { return 0 };
        let Some(outbound) = rpc.outbound.as_mut().filter(|out| out.is_sendable()) else {
            return 0;
        };
        let acks = self.peers.get(rpc.peer).map_or(0, Peer::ack_count);
        // Each packet may take an ack along.
        let packets_max = if acks > 1 || outbound.restarted { 1 } else { packets_max };
        let (start, length) = (outbound.sent_to, outbound.length);
        let is_unscheduled = start < outbound.unscheduled;
        let limit = if is_unscheduled { outbound.unscheduled } else { outbound.granted };
        let (mut end, mut packets) = (start, 0);
        if core::mem::take(&mut outbound.announce) {
            self.sender.pacer.charge(now, 0);
            packets = 1;
        } else {
            while packets == 0
                || packets < packets_max && end < limit && self.sender.pacer.may_send(now)
            {
                let next = (end + outbound.segment_bytes).min(length);
                self.sender.pacer.charge(now, next - end);
                (end, packets) = (next, packets + 1);
            }
        }
        if start == 0 {
            outbound.first_sent = now;
        }
        outbound.sent_to = end;
        let segment = Segment {
            range: start..end,
            incoming: outbound.unscheduled,
            priority: None,
            retransmit: outbound.restarted,
        };
        self.transmit_segment(now, index, segment, sink);
        if end == length {
            self.message_sent(now, index);
        }
        packets
    }

    /// Sends a part of a message in as many packets as it takes, for which the pacer was told.
    fn transmit_segment(
        &mut self,
        now: Nanos,
        index: u32,
        segment: Segment,
        sink: &mut impl TxSink<M>,
    ) {
        let Some(rpc) = self.rpcs.get_mut(index) else { return };
        let header = rpc.header();
        let Some(outbound) = rpc.outbound.as_mut() else { return };
        let Some(peer) = self.peers.get_mut(rpc.peer) else { return };
        let num_priorities = self.config.num_priorities;
        let priority = segment.priority.unwrap_or_else(|| {
            if segment.range.start < outbound.unscheduled || segment.range.is_empty() {
                unscheduled_priority(&peer.cutoffs, num_priorities, outbound.length)
            } else {
                outbound.priority
            }
        });
        let priority = self.config.priority_map[usize::from(priority.min(num_priorities - 1))];
        let data = Data {
            message_length: outbound.length,
            incoming: segment.incoming,
            ack: peer.pop_ack(),
            cutoff_version: peer.cutoff_version,
            retransmit: segment.retransmit,
            incast: outbound.incast,
            offset: match Mutation::ResendWrongOffset.is_on() && segment.retransmit {
                true => segment.range.start + 1,
                false => segment.range.start,
            },
        };
        let packet = Packet { header, body: Body::Data(data) };
        let to = PeerRef { index: rpc.peer, addr: peer.addr };
        let bytes = segment.range.end - segment.range.start;
        let sent = &mut self.metrics.sent[Metrics::type_index(&packet)];
        self.metrics.sent_bytes_by_priority[usize::from(priority)] += u64::from(bytes);
        if segment.retransmit {
            self.metrics.bytes_resent += u64::from(bytes);
        }
        if bytes == 0 {
            *sent += 1;
            self.probe.sent(now, to, priority, &packet, bytes);
            return sink.control(to, priority, &packet);
        }
        for (packet, range) in run(&packet, segment.range.clone(), outbound.segment_bytes) {
            *sent += 1;
            self.probe.sent(now, to, priority, &packet, range.end - range.start);
        }
        sink.data_run(to, priority, &packet, &mut outbound.message, segment.range);
    }

    /// The last packet of a message has gone: from here on we wait for the other side.
    fn message_sent(&mut self, now: Nanos, index: u32) {
        let now = self.timer_time(now);
        let Some(rpc) = self.rpcs.get_mut(index) else { return };
        // Starting again because of RPC_UNKNOWN does not break the silence (protocol.md section
        // 13.4): a server that never accepts the request must not hold us for ever.
        if !rpc.outbound.as_ref().is_some_and(|outbound| outbound.restarted) {
            rpc.quiet_since = now;
        }
        let wait_ns = match rpc.state {
            State::ServerOutgoing => self.config.need_ack_after_ns,
            _ => self.config.resend_after_ns,
        };
        rpc.next_probe = now + Nanos(wait_ns);
        self.wheel.arm(index, now + Nanos(wait_ns.min(self.config.timeout_ns)));
    }

    pub(super) fn outbound_mut(&mut self, index: u32) -> Option<&mut Outbound<M>> {
        self.rpcs.get_mut(index)?.outbound.as_mut()
    }
}

/// Bytes of a message to `peer` that need no grant.
#[inline]
pub(super) fn unsched_limit(config: &Config, peers: &Peers, peer: u32) -> u32 {
    let limit = config.unsched_bytes;
    if !config.unsched_by_rtt {
        return limit;
    }
    let rtt_ns = peers.get(peer).map_or(0, |peer| peer.rtt_ns);
    if rtt_ns == 0 {
        return limit;
    }
    let bytes = u64::from(rtt_ns) * (config.link_bps / 8_000) / 1_000_000;
    bytes.min(limit.into()) as u32
}

/// Ranges at the head of the queue that are compared with a new one, lest what is being sent again is
/// put in line once more for every RESEND that comes in the meantime.
const RESENDING_LOOKED_AT: usize = 64;
/// Credit at which the oldest message gets a turn of one packet, which may leave it in debt.
const OLDEST_TURN_BYTES: i64 = 1_500;
/// Packets of one message in a row before the order is looked at again.
const RUN_PACKETS: usize = 8;
