//! What every packet does in every state (protocol.md sections 5 and 7).

use crate::addr::HostAddr;
use crate::time::Nanos;
use crate::wire::{Ack, Body, Data, Header, Packet, RpcId};

use super::Transport;
use super::buffers::{OutMessage, Payload};
use super::event::{Event, RpcError, RpcHandle};
use super::message::Message;
use super::metrics::{Metrics, Probe};
use super::mutation::Mutation;
use super::reassembly::Added;
use super::rpc::{Inbound, Outbound, Rpc, State};
use super::slab::Handle;
use super::tombstones::{NoPlace, Place};

/// What the caller has to do about a received packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing.
    Done,
    /// Nobody has the destination port open: answer with ICMP port unreachable.
    PortUnreachable,
}

/// A received packet taken apart, with what was found out about it.
pub(super) struct Received<'a> {
    pub(super) now: Nanos,
    pub(super) src: HostAddr,
    pub(super) header: &'a Header,
    /// The RPC id as we know it: even if we are the client.
    pub(super) id: RpcId,
    /// The RPC, if there is one.
    pub(super) index: Option<u32>,
}

impl Received<'_> {
    /// The header of an answer to this packet.
    pub(super) fn answer_header(&self) -> Header {
        let wrong = Mutation::WrongRoleBit.is_on();
        let sender_id = if wrong { self.id.flip() } else { self.id };
        Header { sport: self.header.dport, dport: self.header.sport, sender_id }
    }
}

impl<B: Payload, M: OutMessage, P: Probe> Transport<B, M, P> {
    /// Takes in one packet from `src`. `payload` are the bytes after the header of a DATA packet (for
    /// other types it is dropped). Call [`Transport::end_burst`] after the last one of a burst.
    pub fn on_packet(&mut self, now: Nanos, src: HostAddr, packet: &Packet, payload: B) -> Outcome {
        if !self.is_port_open(&packet.header) && !matches!(packet.body, Body::Freeze) {
            return self.port_closed(now, src, packet, payload.len());
        }
        if let Some(event) = self.take_in(now, src, packet, payload) {
            self.events.push_back(event);
        }
        Outcome::Done
    }

    /// As [`Transport::on_packet`], of a packet to a port that is open; what a message in one packet is to
    /// the application comes back at once, which spares it the queue of events.
    #[inline]
    pub fn take_in(
        &mut self,
        now: Nanos,
        src: HostAddr,
        packet: &Packet,
        payload: B,
    ) -> Option<Event<B>> {
        let header = &packet.header;
        if let Body::Data(data) = &packet.body {
            if let Some(whole) = self.take_whole(now, src, header, data, payload.len()) {
                return self.whole_event(whole, src, header, payload);
            }
            if let Some(onward) = self.take_onward(now, src, header, data, payload.len()) {
                self.append(now, onward, payload);
                return None;
            }
        }
        self.catch_up();
        self.count_received(now, src, packet, payload.len());
        let id = header.sender_id.flip();
        if matches!(packet.body, Body::Freeze) {
            return None;
        }
        let mut received = Received { now, src, header, id, index: None };
        if id.is_client() {
            received.index = self.find_client(id, header.dport);
            self.client_packet(&received, packet, payload);
        } else {
            self.server_packet(&mut received, packet, payload);
        }
        None
    }

    #[inline(always)]
    pub(super) fn count_received(
        &mut self,
        now: Nanos,
        src: HostAddr,
        packet: &Packet,
        payload_bytes: u32,
    ) {
        self.metrics.received[Metrics::type_index(packet)] += 1;
        self.probe.received(now, src, packet, payload_bytes);
    }

    /// The owner of the port is gone. A server that asks whether its response has arrived is told
    /// that nobody wants it any more (reference-gaps.md G4).
    #[cold]
    fn port_closed(&mut self, now: Nanos, src: HostAddr, packet: &Packet, payload: u32) -> Outcome {
        self.count_received(now, src, packet, payload);
        self.metrics.unknown_port += 1;
        let header = &packet.header;
        let received = Received { now, src, header, id: header.sender_id.flip(), index: None };
        if matches!(packet.body, Body::NeedAck) && received.id.is_client() {
            self.answer(&received, Body::Ack(Ack::new()));
        }
        Outcome::PortUnreachable
    }

    // ---- we are the client -------------------------------------------------------------------

    fn client_packet(&mut self, received: &Received<'_>, packet: &Packet, payload: B) {
        if self.config.check_response_source
            && let Some(index) = received.index
            && !self.is_from_its_peer(index, received.src)
        {
            self.metrics.foreign_source += 1;
            return;
        }
        let now = received.now;
        if let Some(index) = received.index {
            self.hear(now, index, &packet.body);
        }
        match (&packet.body, received.index) {
            (Body::Data(data), Some(index)) => self.response_data(received, index, data, payload),
            (Body::Grant(grant), Some(index)) => self.on_grant(now, index, grant),
            (Body::Resend(resend), Some(index)) => self.on_resend(received, index, resend),
            (Body::Resend(_), None) => {
                self.metrics.unknown_rpc += 1;
                self.answer(received, Body::RpcUnknown);
            }
            (Body::RpcUnknown, Some(index)) => self.restart(now, index),
            (Body::Cutoffs(cutoffs), _) => self.on_cutoffs(received, cutoffs),
            (Body::NeedAck, Some(index)) if self.goes_on(index) => {
                self.request_resend(now, index);
            }
            // No room for the response now: the server must keep it.
            (Body::NeedAck, Some(_)) => self.answer(received, Body::Busy),
            (Body::NeedAck, None) if Mutation::NoAckForUnknown.is_on() => {}
            (Body::NeedAck, None) => {
                if let Some(peer) = self.peers.find_or_insert(received.src, now) {
                    let records = self.peers.get_mut(peer).map(|peer| peer.take_acks());
                    let body = Body::Ack(records.unwrap_or_default());
                    self.send_control(peer, Packet { header: received.answer_header(), body });
                }
            }
            (Body::Ack(_), Some(_)) => self.metrics.wrong_direction += 1,
            (Body::Ack(ack), None) => {
                if let Some(peer) = self.peers.find(received.src) {
                    self.on_ack_records(now, peer, ack);
                }
            }
            (Body::Data(_) | Body::Grant(_) | Body::RpcUnknown, None) => {
                self.metrics.unknown_rpc += 1;
            }
            (Body::Busy | Body::Freeze, _) => {}
        }
    }

    #[inline]
    pub(super) fn is_from_its_peer(&self, index: u32, src: HostAddr) -> bool {
        let peer = self.rpcs.get(index).and_then(|rpc| self.peers.get(rpc.peer));
        peer.is_some_and(|peer| peer.addr == src)
    }

    /// Packets that show the peer at work on this RPC break the silence, even useless ones. For DATA see
    /// [`Transport::add_data`].
    fn hear(&mut self, now: Nanos, index: u32, body: &Body) {
        let busy = matches!(body, Body::Busy) && !Mutation::IgnoreBusy.is_on();
        if matches!(body, Body::Grant(_)) || busy {
            let time = self.timer_time(now);
            if let Some(rpc) = self.rpcs.get_mut(index) {
                // What a sender is busy with that has another length in mind will never do.
                let disputed = rpc.inbound.as_ref().is_some_and(|inbound| inbound.disputed);
                if !(busy && disputed) {
                    rpc.quiet_since = time;
                }
            }
        }
    }

    /// What rides on a DATA packet.
    #[inline]
    pub(super) fn note_news(&mut self, received: &Received<'_>, data: &Data) {
        self.refresh_cutoffs(received, data.cutoff_version);
        if let Some(ack) = data.ack {
            self.defer_ack(received, ack);
        }
    }

    fn response_data(&mut self, received: &Received<'_>, index: u32, data: &Data, payload: B) {
        let now = received.now;
        self.note_news(received, data);
        let Some(rpc) = self.rpcs.get_mut(index) else { return };
        if rpc.inbound.is_none() {
            if data.message_length == 0 || data.message_length > self.config.message_max_bytes {
                // Waiting for a good one would leave the RPC to hang (reference-gaps.md G7).
                self.metrics.bad_length += 1;
                self.fail_client(now, index, RpcError::BadResponseLength(data.message_length));
                return;
            }
            if !in_range(data, data.message_length, payload.len()) {
                // Believed, it would leave the RPC waiting for nothing, without a timer.
                self.metrics.bad_range += 1;
                return;
            }
            rpc.state = State::ClientIncoming;
            rpc.inbound = Some(Inbound::new(data.message_length, now));
            self.cutoffs.count(data.message_length);
        }
        if self.add_data(now, index, data, payload)
            && let Some(message) = self.take_message(index)
            && let Some((cookie, id)) = self.close_call(now, index)
        {
            self.events.push_back(Event::Response { cookie, id, result: Ok(message) });
        }
    }

    /// Copies a small payload out of its packet buffer when those run short.
    #[inline]
    pub(super) fn detach_if_scarce(&self, payload: &mut B) {
        if self.ledger.retained() > self.retained_scarce()
            && payload.len() < self.config.detach_below_bytes
        {
            payload.detach();
        }
    }

    /// Keeps the message that an RPC has sent, which ends now, until the end of the burst: to give its
    /// buffers back takes a while, and the application is waiting.
    #[inline]
    pub(super) fn put_message_aside(&mut self, index: u32) {
        if self.done_messages.len() >= DEFERRED_MAX {
            return;
        }
        let Some(rpc) = self.rpcs.get_mut(index) else { return };
        if !rpc.outbound.as_ref().is_some_and(Outbound::is_sent) {
            return;
        }
        let Some(outbound) = rpc.outbound.take() else { return };
        let is_client = rpc.state.is_client();
        let bytes = if is_client { &mut self.request_bytes } else { &mut self.response_bytes };
        *bytes -= u64::from(outbound.length);
        self.done_messages.push(outbound.message);
    }

    /// The server knows nothing of the request: it starts again, with what needs no grant. Unless so
    /// much time has passed that the server may have executed and forgotten it.
    fn restart(&mut self, now: Nanos, index: u32) {
        let Some(rpc) = self.rpcs.get(index) else { return };
        if rpc.state != State::ClientOutgoing {
            return;
        }
        if self.may_be_forgotten(now, rpc.quiet_since) {
            self.fail_client(now, index, RpcError::Timeout);
            return;
        }
        let Some(outbound) = self.outbound_mut(index).filter(|out| out.sent_to > 0) else { return };
        outbound.sent_to = 0;
        outbound.granted = outbound.unscheduled;
        outbound.restarted = true;
        self.sender.remove(index);
        if let Some(handle) = self.rpcs.handle(index) {
            self.start_sending(handle);
        }
    }

    // ---- we are the server -------------------------------------------------------------------

    fn server_packet(&mut self, received: &mut Received<'_>, packet: &Packet, payload: B) {
        let now = received.now;
        let (id, port) = (received.id, received.header.dport);
        // Only a request makes a peer: packets about nothing must not evict one.
        let peer = match packet.body {
            Body::Data(_) => self.peers.find_or_insert(received.src, now),
            _ => self.peers.find(received.src),
        };
        let Some(peer) = peer else { return self.stranger_packet(received, &packet.body) };
        let client_port = matches!(packet.body, Body::Data(_)).then_some(received.header.sport);
        received.index = self.find_server(peer, id, port, client_port);
        if let Body::Data(data) = &packet.body {
            return self.request_data(received, peer, data, payload);
        }
        self.peers.hear(peer, now);
        self.other_server_packet(received, peer, packet);
    }

    fn other_server_packet(&mut self, received: &Received<'_>, peer: u32, packet: &Packet) {
        let now = received.now;
        let (id, port) = (received.id, received.header.dport);
        if let Some(index) = received.index {
            self.hear(now, index, &packet.body);
        }
        match (&packet.body, received.index) {
            (Body::Grant(grant), Some(index)) => self.on_grant(now, index, grant),
            (Body::Resend(resend), Some(index)) => self.on_resend(received, index, resend),
            (Body::Resend(_), None) => {
                self.metrics.unknown_rpc += 1;
                self.answer(received, Body::RpcUnknown);
            }
            (Body::RpcUnknown, Some(index)) => {
                self.metrics.server_ended_by_unknown += 1;
                self.end_rpc(now, index);
            }
            (Body::Cutoffs(cutoffs), _) => self.on_cutoffs(received, cutoffs),
            (Body::NeedAck, _) => self.metrics.wrong_direction += 1,
            (Body::Ack(ack), _) => {
                self.on_ack(now, peer, id.flip(), port);
                self.on_ack_records(now, peer, ack);
            }
            (Body::RpcUnknown, None) => self.metrics.unknown_rpc += 1,
            (Body::Data(_) | Body::Grant(_) | Body::Busy | Body::Freeze, _) => {}
        }
    }

    /// A packet from a host that we have no RPC with.
    fn stranger_packet(&mut self, received: &Received<'_>, body: &Body) {
        match body {
            Body::Data(_) => self.metrics.refused_peers += 1,
            Body::Cutoffs(cutoffs) => self.on_cutoffs(received, cutoffs),
            Body::Resend(_) => {
                self.metrics.unknown_rpc += 1;
                self.answer(received, Body::RpcUnknown);
            }
            Body::NeedAck => self.metrics.wrong_direction += 1,
            Body::RpcUnknown => self.metrics.unknown_rpc += 1,
            Body::Grant(_) | Body::Busy | Body::Ack(_) | Body::Freeze => {}
        }
    }

    fn request_data(&mut self, received: &Received<'_>, peer: u32, data: &Data, payload: B) {
        self.note_news(received, data);
        if let Some(index) = received.index {
            return self.more_request_data(received, index, data, payload);
        }
        let Some(tombstone) = self.admit_request(received, peer, data, payload.len()) else {
            return;
        };
        let now = received.now;
        let inbound = Inbound::new(data.message_length, now);
        let hash = self.server_hash(peer, received.id);
        let rpc = self.server_rpc(received, peer, hash, data, tombstone, Some(inbound));
        let Some(handle) = self.insert_rpc(now, rpc) else { return };
        self.cutoffs.count(data.message_length);
        let probe = self.timer_time(now) + Nanos(self.config.resend_after_ns);
        self.wheel.arm(handle.index, probe);
        self.more_request_data(received, handle.index, data, payload);
    }

    /// Bytes of a request that there is an RPC for.
    fn more_request_data(&mut self, received: &Received<'_>, index: u32, data: &Data, payload: B) {
        let now = received.now;
        let time = self.timer_time(now);
        let Some(rpc) = self.rpcs.get_mut(index) else { return };
        if rpc.state != State::ServerIncoming {
            rpc.quiet_since = time;
            self.metrics.duplicates += 1;
            return;
        }
        if !self.add_data(now, index, data, payload) {
            self.announce_head(index);
            return;
        }
        let Some(message) = self.take_message(index) else { return };
        let Some(handle) = self.rpcs.handle(index) else { return };
        let Some(rpc) = self.rpcs.get_mut(index) else { return };
        rpc.state = State::ServerInService;
        let is_announced = rpc.inbound.take().is_some_and(|inbound| inbound.announced);
        let is_head_due =
            self.config.announce_heads && (!is_announced || self.withdraw_head(handle));
        let event = self.request_event(received, handle, message, is_head_due);
        self.events.push_back(event);
    }

    /// Whether a new request may become an RPC; gives the place where its end will be remembered.
    #[inline]
    pub(super) fn admit_request(
        &mut self,
        received: &Received<'_>,
        peer: u32,
        data: &Data,
        payload: u32,
    ) -> Option<Place> {
        let length = data.message_length;
        if length == 0 || length > self.config.message_max_bytes {
            self.metrics.bad_length += 1;
            return None;
        }
        if !in_range(data, length, payload) {
            self.metrics.bad_range += 1;
            return None;
        }
        if !self.has_room_for_request(peer) {
            self.settle_acks(received.now);
            if !self.has_room_for_request(peer) {
                self.count_no_room()?;
            }
        }
        if self.ledger.retained() > self.retained_full() {
            self.metrics.refused_buffers += 1;
            return None;
        }
        self.reserve_tombstone(received, peer)
    }

    /// Counts a request that there is no room for.
    #[cold]
    fn count_no_room(&mut self) -> Option<()> {
        if self.server_count < self.config.server_rpcs_max {
            self.metrics.refused_per_peer += 1;
            return None;
        }
        if Mutation::NoServerLimit.is_on() {
            return Some(());
        }
        self.metrics.refused_rpcs += 1;
        None
    }

    fn requests_of(&self, peer: u32) -> u32 {
        self.peers.get(peer).map_or(0, |peer| peer.server_rpcs)
    }

    #[inline]
    fn has_room_for_request(&self, peer: u32) -> bool {
        self.server_count < self.config.server_rpcs_max
            && self.requests_of(peer) < self.config.server_rpcs_per_peer_max
    }

    fn reserve_tombstone(&mut self, received: &Received<'_>, peer: u32) -> Option<Place> {
        let time = match Mutation::ForgetInStall.is_on() {
            true => received.now,
            false => self.timer_time(received.now),
        };
        let Some(tombstones) = &mut self.tombstones else { return Some(Place::default()) };
        tombstones.advance(time);
        let secret = self.peers.get(peer).map_or(0, |peer| peer.secret);
        let (port, id) = (received.header.sport.0, received.header.sender_id.0);
        match tombstones.reserve(secret, port, id) {
            Ok(place) => Some(place),
            Err(NoPlace::Ended) => {
                self.metrics.tombstone_hits += 1;
                None
            }
            Err(NoPlace::Full) => {
                self.metrics.refused_tombstones += 1;
                None
            }
        }
    }

    /// The entry of a new request: in service if it is complete, that is without `inbound`.
    #[inline(always)]
    pub(super) fn server_rpc(
        &self,
        received: &Received<'_>,
        peer: u32,
        hash: u32,
        data: &Data,
        tombstone: Place,
        inbound: Option<Inbound<B>>,
    ) -> Rpc<B, M> {
        let quiet_since = self.timer_time(received.now);
        let state = if inbound.is_some() { State::ServerIncoming } else { State::ServerInService };
        Rpc {
            id: received.id,
            peer,
            local_port: received.header.dport,
            remote_port: received.header.sport,
            state,
            cookie: 0,
            outbound: None,
            inbound,
            quiet_since,
            next_probe: quiet_since + Nanos(self.config.resend_after_ns),
            need_acks: 0,
            incast: data.incast,
            hash,
            tombstone,
        }
    }

    #[inline]
    fn request_event(
        &mut self,
        received: &Received<'_>,
        handle: Handle,
        message: Message<B>,
        is_head_due: bool,
    ) -> Event<B> {
        self.metrics.server_requests += 1;
        Event::Request {
            rpc: RpcHandle(handle),
            id: received.header.sender_id,
            client: received.src,
            client_port: received.header.sport,
            port: received.header.dport,
            message,
            is_head_due,
        }
    }

    /// Takes back an announcement that the application has not seen yet; says whether there was one.
    fn withdraw_head(&mut self, handle: Handle) -> bool {
        let of_this =
            |event: &Event<B>| matches!(event, Event::RequestHead { rpc, .. } if rpc.0 == handle);
        let place = self.events.iter().position(of_this);
        place.and_then(|place| self.events.remove(place)).is_some()
    }

    fn announce_head(&mut self, index: u32) {
        if !self.config.announce_heads {
            return;
        }
        let Some(handle) = self.rpcs.handle(index) else { return };
        let Some(inbound) = self.rpcs.get_mut(index).and_then(|rpc| rpc.inbound.as_mut()) else {
            return;
        };
        if !inbound.announced && inbound.reassembly.head().is_some() {
            inbound.announced = true;
            let length = inbound.reassembly.length();
            self.events.push_back(Event::RequestHead { rpc: RpcHandle(handle), length });
        }
    }

    // ---- both --------------------------------------------------------------------------------

    /// Adds the bytes of a DATA packet to the incoming message; says whether it is complete now.
    fn add_data(&mut self, now: Nanos, index: u32, data: &Data, mut payload: B) -> bool {
        let retained = self.ledger.retained();
        let goes_on = self.goes_on(index);
        let is_full = retained >= self.config.retained_packets_max;
        if goes_on && is_full && self.grants.best(&self.peers) != Some(index) {
            self.overdraft = self.rpcs.handle(index);
        }
        self.detach_if_scarce(&mut payload);
        let time = self.timer_time(now);
        let Some(rpc) = self.rpcs.get_mut(index) else { return false };
        let peer = rpc.peer;
        let Some(inbound) = rpc.inbound.as_mut() else { return false };
        let length = inbound.reassembly.length();
        if data.message_length != length {
            self.metrics.length_mismatch += 1;
            inbound.disputed = true;
            return false;
        }
        if !in_range(data, length, payload.len()) {
            self.metrics.bad_range += 1;
            return false;
        }
        // Not before: two sides that take the message for different ones must not keep it alive.
        rpc.quiet_since = time;
        let silent = inbound.incoming();
        inbound.note_heard();
        let before = inbound.incoming();
        self.grants.adjust(silent, before);
        inbound.note_announced(data.incoming, self.config.unsched_bytes);
        let is_announcement = payload.is_empty();
        let completes = payload.len() == inbound.reassembly.remaining();
        if !goes_on && !completes {
            self.metrics.data_dropped_no_buffers += 1;
        } else {
            let gaps_max = self.config.gaps_per_message_max;
            match inbound.reassembly.add(data.offset, payload, gaps_max, &self.ledger) {
                Added::New(_) => {
                    self.metrics.useful_retransmits += u64::from(data.retransmit);
                }
                Added::Duplicate => self.metrics.duplicates += u64::from(!is_announcement),
                Added::TooManyGaps => self.metrics.gap_limit += 1,
            }
        }
        self.after_data(now, index, peer, before)
    }

    /// Whether bytes of this incomplete message can be kept. When the receive buffers are used up, the
    /// message that is next to get grants goes on all the same, and one other at a time, or messages
    /// that have all been begun would block each other for ever. That one hands over when it has all
    /// it may expect, for others hold the budget that it needs for more.
    pub(super) fn goes_on(&self, index: u32) -> bool {
        if self.ledger.retained() < self.config.retained_packets_max
            || self.grants.best(&self.peers) == Some(index)
        {
            return true;
        }
        let holder = self.overdraft.and_then(|handle| self.rpcs.resolve(handle));
        let expects_more = |&holder: &u32| self.inbound(holder).is_some_and(Inbound::expects_more);
        let holder = holder.filter(expects_more);
        holder.is_none_or(|holder| holder == index)
    }

    /// Brings budget, grant order and gap recovery up to date; says whether the message is complete.
    fn after_data(&mut self, now: Nanos, index: u32, peer: u32, before: u32) -> bool {
        let gap_recovery = Nanos(self.config.gap_recovery_ns);
        let counts_all = self.config.budget_unscheduled;
        let Some(inbound) = self.rpcs.get_mut(index).and_then(|rpc| rpc.inbound.as_mut()) else {
            return false;
        };
        let needs_grants = inbound.needs_grants();
        if !counts_all {
            inbound.forget_unscheduled(before);
        }
        let (after, key) = (inbound.incoming(), inbound.key(self.config.order));
        let complete = inbound.reassembly.is_complete()
            || Mutation::DeliverBeforeComplete.is_on() && inbound.reassembly.remaining() == 1;
        let recover = inbound.lasting_gaps(now, gap_recovery);
        self.grants.adjust(before, after);
        if needs_grants {
            self.grants.set(&mut self.peers, peer, index, key);
        }
        // What there is no room for is not asked for.
        if let Some(below) = recover.filter(|_| self.goes_on(index)) {
            self.recover_gaps(now, index, below);
        }
        self.expect_more_of(index);
        complete
    }

    /// Hands the complete message over. Its packets stay on the account until it is dropped.
    fn take_message(&mut self, index: u32) -> Option<Message<B>> {
        let rpc = self.rpcs.get_mut(index)?;
        let peer = rpc.peer;
        let inbound = rpc.inbound.as_mut()?;
        let length = inbound.reassembly.length();
        let incoming = inbound.incoming();
        let fragments = inbound.reassembly.take();
        inbound.budgeted = 0;
        self.grants.adjust(incoming, 0);
        self.grants.remove(&mut self.peers, peer, index);
        self.metrics.message_bytes_received += u64::from(length);
        Some(Message::new(length, fragments, self.ledger.clone()))
    }
}

/// Acks kept until the end of a burst, and messages.
pub(super) const DEFERRED_MAX: usize = 32;

/// Whether the payload lies within the message.
fn in_range(data: &Data, length: u32, payload: u32) -> bool {
    data.offset < length && payload <= length - data.offset
}
