//! What packets without payload of their own do: grants, what is to be sent again, cutoffs, acks.

use crate::time::Nanos;
use crate::wire::{Ack, AckRecord, Body, Cutoffs, Grant, HomaPort, Packet, Resend, RpcId};

use super::Transport;
use super::buffers::{OutMessage, Payload};
use super::metrics::Probe;
use super::mutation::Mutation;
use super::receive::{DEFERRED_MAX, Received};
use super::rpc::State;
use super::sharing::MissedAck;

impl<B: Payload, M: OutMessage, P: Probe> Transport<B, M, P> {
    pub(super) fn on_grant(&mut self, now: Nanos, index: u32, grant: &Grant) {
        let Some(rpc) = self.rpcs.get_mut(index) else { return };
        if !matches!(rpc.state, State::ClientOutgoing | State::ServerOutgoing) {
            return;
        }
        let Some(outbound) = rpc.outbound.as_mut() else { return };
        let offset = grant.offset.min(outbound.length);
        // A stale grant must not change the priority (reference-gaps.md G29).
        if offset > outbound.granted {
            if outbound.granted == outbound.unscheduled
                && let Some(peer) = self.peers.get_mut(rpc.peer)
            {
                peer.measure_rtt(now.since(outbound.first_sent));
            }
            outbound.granted = offset;
            outbound.priority = grant.priority.min(self.config.num_priorities - 1);
            if let Some(handle) = self.rpcs.handle(index) {
                self.start_sending(handle);
            }
        }
    }

    /// Protocol.md section 13.3.
    pub(super) fn on_resend(&mut self, received: &Received<'_>, index: u32, resend: &Resend) {
        let time = self.timer_time(received.now);
        let Some(handle) = self.rpcs.handle(index) else { return };
        let Some(rpc) = self.rpcs.get_mut(index) else { return };
        let Some(outbound) = rpc.outbound.as_mut() else {
            self.answer(received, Body::Busy);
            return;
        };
        let (sent_to, length) = (outbound.sent_to, outbound.length);
        let end = match resend.length {
            Resend::ALL => sent_to,
            // Negative lengths ask for nothing.
            wanted if wanted > i32::MAX as u32 => resend.offset,
            wanted => resend.offset.saturating_add(wanted),
        };
        // Who wants bytes that do not exist has been told of another length. It gets those that do exist,
        // but no word that others will come, which would keep both sides busy for ever.
        let begins_beyond = resend.length != Resend::ALL && resend.offset >= length;
        let is_beyond = begins_beyond || end > length;
        self.metrics.bad_range += u64::from(is_beyond);
        if begins_beyond {
            return;
        }
        if rpc.state == State::ServerOutgoing && !is_beyond {
            // The client is alive: it may take its time.
            rpc.quiet_since = time;
        }
        if end > resend.offset && end > outbound.granted {
            // The grant was lost.
            outbound.granted = end.min(length);
        }
        // What announced the message was lost.
        outbound.announce |= sent_to == 0 && outbound.granted == 0;
        let top = self.config.num_priorities - 1;
        let priority = resend.priority.unwrap_or(top).min(top);
        let queued = self.resend(handle, resend.offset..end, priority);
        self.start_sending(handle);
        // Also when too much waits to be sent again: we are there, the bytes will come later.
        if !is_beyond && (resend.offset >= sent_to || !queued) {
            self.answer(received, Body::Busy);
        }
    }

    pub(super) fn on_cutoffs(&mut self, received: &Received<'_>, cutoffs: &Cutoffs) {
        match self.peers.find_or_insert(received.src, received.now) {
            Some(peer) => {
                if let Some(peer) = self.peers.get_mut(peer) {
                    peer.set_cutoffs(cutoffs.cutoffs, cutoffs.version);
                }
            }
            None => self.metrics.refused_peers += 1,
        }
    }

    /// Tells the peer our cutoffs if its packet shows that it has others.
    #[inline]
    pub(super) fn refresh_cutoffs(&mut self, received: &Received<'_>, version: u16) {
        if version == self.cutoffs.version() {
            return;
        }
        let Some(peer_index) = self.peers.find_or_insert(received.src, received.now) else {
            return;
        };
        let due =
            self.peers.get_mut(peer_index).is_some_and(|peer| peer.take_cutoffs_turn(received.now));
        if due {
            let body = Body::Cutoffs(Cutoffs {
                cutoffs: self.cutoffs.current(),
                version: self.cutoffs.version(),
            });
            self.send_control(peer_index, Packet { header: received.answer_header(), body });
        }
    }

    /// Keeps the ack that rides on a DATA packet until the end of the burst: what the packet brings goes
    /// first.
    #[inline]
    pub(super) fn defer_ack(&mut self, received: &Received<'_>, ack: AckRecord) {
        if self.acks.len() >= DEFERRED_MAX {
            self.settle_acks(received.now);
        }
        self.acks.push((received.src, ack));
    }

    /// Takes in the acks that were kept.
    pub(super) fn settle_acks(&mut self, now: Nanos) {
        while let Some((src, ack)) = self.acks.pop() {
            if let Some(peer) = self.peers.find(src) {
                self.on_ack(now, peer, ack.client_id, ack.server_port);
            }
        }
    }

    pub(super) fn on_ack_records(&mut self, now: Nanos, peer: u32, ack: &Ack) {
        for record in ack.iter() {
            self.on_ack(now, peer, record.client_id, record.server_port);
        }
    }

    /// The client `peer` has the response of its RPC `client_id`. Only a response wholly sent can have
    /// arrived (reference-gaps.md G9); for another one, which we have asked about, it says that the
    /// client does not know the RPC any more.
    pub(super) fn on_ack(
        &mut self,
        now: Nanos,
        peer: u32,
        client_id: RpcId,
        server_port: HomaPort,
    ) {
        if !client_id.is_client() || Mutation::IgnoreAcks.is_on() {
            return;
        }
        if !self.end_acked(now, peer, client_id, server_port)
            && let Some(share) = &mut self.share
            && let Some(peer) = self.peers.get(peer)
        {
            share.miss_ack(MissedAck { client: peer.addr, id: client_id, server_port });
        }
    }

    /// Ends the server RPC that an ack is about, unless it cannot have been acked yet. Says whether
    /// there is one.
    pub(super) fn end_acked(
        &mut self,
        now: Nanos,
        peer: u32,
        client_id: RpcId,
        server_port: HomaPort,
    ) -> bool {
        let Some(index) = self.find_server(peer, client_id.flip(), server_port, None) else {
            return false;
        };
        let Some(rpc) = self.rpcs.get(index) else { return false };
        let sent = rpc.outbound.as_ref().is_some_and(|outbound| outbound.is_sent());
        if rpc.state == State::ServerOutgoing && (sent || rpc.need_acks > 0) {
            self.metrics.server_acked += 1;
            self.put_message_aside(index);
            self.end_rpc(now, index);
        }
        true
    }

    pub(super) fn answer(&mut self, received: &Received<'_>, body: Body) {
        if let Some(peer) = self.peers.find_or_insert(received.src, received.now) {
            self.send_control(peer, Packet { header: received.answer_header(), body });
        }
    }
}
