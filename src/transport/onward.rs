//! Packets that just go on with a message: what long messages consist of, and come in rows. What
//! [`Transport::take_in`] looks up and weighs for any packet is known of these, or has no effect.

use crate::addr::HostAddr;
use crate::time::Nanos;
use crate::wire::{Body, Data, Header, Packet};

use super::Transport;
use super::buffers::{OutMessage, Payload};
use super::metrics::Probe;
use super::mutation::Mutation;
use super::slab::Handle;

/// The message that the last packets were of.
#[derive(Debug, Default)]
pub(super) struct LastMessage {
    /// Index of its RPC, which may have ended meanwhile.
    index: u32,
    /// Its place in the order of grants is that of some packets ago.
    is_behind: bool,
}

/// A packet that [`Transport::take_onward`] has found, for [`Transport::append`].
#[derive(Clone, Copy, Debug)]
#[cfg_attr(test, derive(Default))]
pub struct Onward {
    rpc: Handle,
    /// What the packet says that the sender will send without further grants.
    incoming: u32,
}

impl<B: Payload, M: OutMessage, P: Probe> Transport<B, M, P> {
    /// Takes in the header of a DATA packet from `src` that brings the next `payload_bytes` of the message that
    /// the packet before it was of, neither its first nor its last, and nothing else: the payload is to go to
    /// [`Transport::append`]. `None`, and nothing done, for all others.
    #[inline]
    pub fn take_onward(
        &mut self,
        now: Nanos,
        src: HostAddr,
        header: &Header,
        data: &Data,
        payload_bytes: u32,
    ) -> Option<Onward> {
        let index = self.last_message.index;
        let rpc = self.rpcs.get(index)?;
        let inbound = rpc.inbound.as_ref()?;
        let peer = rpc.peer;
        let is_of_rpc = rpc.id == header.sender_id.flip()
            && rpc.local_port == header.dport
            && rpc.remote_port == header.sport
            && self.peers.get(peer).is_some_and(|peer| peer.addr == src);
        let message = &inbound.reassembly;
        let is_next = data.offset > 0
            && data.offset == message.high()
            && message.gap_count() == 0
            && payload_bytes > 0
            && payload_bytes < message.remaining()
            && data.message_length == message.length();
        let is_plain =
            data.ack.is_none() && !data.retransmit && data.cutoff_version == self.cutoffs.version();
        let is_known = inbound.announced || !self.config.announce_heads || rpc.state.is_client();
        let has_room = self.ledger.retained() <= self.retained_scarce();
        let is_as_ever = !Mutation::DeliverBeforeComplete.is_on();
        if !(is_of_rpc && is_next && is_plain && is_known && has_room && is_as_ever) {
            return None;
        }
        let rpc = self.rpcs.handle(index)?;
        self.peers.hear(peer, now);
        let packet = Packet { header: *header, body: Body::Data(*data) };
        self.count_received(now, src, &packet, payload_bytes);
        Some(Onward { rpc, incoming: data.incoming })
    }

    /// As [`Transport::take_onward`], of a packet that differs in nothing but its offset from one that has
    /// become `onward`. Says whether it took it in.
    #[inline(always)]
    pub fn take_next(
        &mut self,
        now: Nanos,
        onward: &Onward,
        src: HostAddr,
        header: &Header,
        data: &Data,
        payload_bytes: u32,
    ) -> bool {
        // The RPC may have ended, and others may have begun.
        let is_last = self.last_message.index == onward.rpc.index;
        let Some(rpc) = self.rpcs.resolve_mut(onward.rpc) else { return false };
        let Some(inbound) = &rpc.inbound else { return false };
        let (peer, message) = (rpc.peer, &inbound.reassembly);
        let is_next = data.offset == message.high()
            && message.gap_count() == 0
            && payload_bytes < message.remaining()
            && data.message_length == message.length();
        let is_plain = data.cutoff_version == self.cutoffs.version();
        let has_room = self.ledger.retained() <= self.retained_scarce();
        if !(is_last && is_next && is_plain && has_room) {
            return false;
        }
        self.peers.hear(peer, now);
        let packet = Packet { header: *header, body: Body::Data(*data) };
        self.count_received(now, src, &packet, payload_bytes);
        true
    }

    /// Adds the payload of a packet that [`Transport::take_onward`] has just taken in to its message.
    #[inline]
    pub fn append(&mut self, now: Nanos, onward: Onward, payload: B) {
        let time = self.timer_time(now);
        let Some(rpc) = self.rpcs.get_mut(onward.rpc.index) else { return };
        rpc.quiet_since = time;
        let Some(inbound) = rpc.inbound.as_mut() else { return };
        let silent = inbound.incoming();
        inbound.note_heard();
        let before = inbound.incoming();
        inbound.note_announced(onward.incoming, self.config.unsched_bytes);
        inbound.reassembly.append(payload, &self.ledger);
        inbound.gap_watch = None;
        if !self.config.budget_unscheduled {
            inbound.forget_unscheduled(before);
        }
        let after = inbound.incoming();
        self.last_message.is_behind |= inbound.needs_grants();
        self.grants.adjust(silent, after);
    }

    /// The packets that come next may go on with this message.
    #[inline]
    pub(super) fn expect_more_of(&mut self, index: u32) {
        self.last_message.index = index;
    }

    /// Gives the last message the place in the order of grants that its packets have brought it to: once for
    /// all of them, before anything looks at that order.
    #[inline]
    pub(super) fn catch_up(&mut self) {
        if core::mem::take(&mut self.last_message.is_behind) {
            self.set_place(self.last_message.index);
        }
    }

    fn set_place(&mut self, index: u32) {
        let Some(rpc) = self.rpcs.get(index) else { return };
        let Some(inbound) = rpc.inbound.as_ref().filter(|inbound| inbound.needs_grants()) else {
            return;
        };
        let (peer, key) = (rpc.peer, inbound.key(self.config.order));
        self.grants.set(&mut self.peers, peer, index, key);
    }
}
