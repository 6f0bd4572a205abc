//! Messages of one packet, the common case: without reassembly, queues and events.
//!
//! What is decided here is what [`Transport::take_in`] decides of any packet. It stays in registers where it
//! can: what is written to memory waits behind what was written to the port, and whoever reads it at once
//! waits as well.

use crate::addr::HostAddr;
use crate::time::Nanos;
use crate::wire::{Body, Data, Header, Packet, RpcId};

use super::Transport;
use super::buffers::{OutMessage, Payload};
use super::event::{Event, RpcHandle};
use super::message::Message;
use super::metrics::Probe;
use super::peer::PendingAck;
use super::receive::Received;

/// What a DATA packet with all of a message in it has become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whole {
    /// A new request, for the application.
    Request(RpcHandle),
    /// The response of a call, which has ended.
    Response {
        /// What the caller gave with the call.
        cookie: u64,
        /// The id that the call got.
        id: RpcId,
    },
    /// Nothing: it was refused, and counted.
    Refused,
}

impl<B: Payload, M: OutMessage, P: Probe> Transport<B, M, P> {
    /// Takes in a DATA packet from `src` that has all of its message in `payload_bytes`. Gives `None`, and has
    /// done nothing, if it is not plain: then [`Transport::take_in`] is to have it, with its payload. Of
    /// what it gives else, [`Transport::whole_message`] makes the message.
    #[inline(always)]
    pub fn take_whole(
        &mut self,
        now: Nanos,
        src: HostAddr,
        header: &Header,
        data: &Data,
        payload_bytes: u32,
    ) -> Option<Whole> {
        if !is_whole(data, payload_bytes) {
            return None;
        }
        let received = Received { now, src, header, id: header.sender_id.flip(), index: None };
        if received.id.is_client() {
            self.whole_response(&received, data)
        } else {
            self.whole_request(&received, data)
        }
    }

    #[inline(always)]
    fn whole_response(&mut self, received: &Received<'_>, data: &Data) -> Option<Whole> {
        let index = self.find_client(received.id, received.header.dport)?;
        let is_foreign =
            self.config.check_response_source && !self.is_from_its_peer(index, received.src);
        if is_foreign || self.inbound(index).is_some() {
            return None;
        }
        self.count_whole(received, data);
        self.note_news(received, data);
        self.count_message(data);
        let (cookie, id) = self.close_call(received.now, index)?;
        Some(Whole::Response { cookie, id })
    }

    #[inline(always)]
    fn whole_request(&mut self, received: &Received<'_>, data: &Data) -> Option<Whole> {
        let (id, port, sport) = (received.id, received.header.dport, received.header.sport);
        if !self.ports.is_serving(port) {
            return None;
        }
        let peer = self.peers.find_or_insert(received.src, received.now)?;
        let hash = self.server_hash(peer, id);
        if self.find_hashed(hash, peer, id, port, Some(sport)).is_some() {
            return None;
        }
        self.count_whole(received, data);
        self.note_news(received, data);
        let bytes = data.message_length;
        let Some(tombstone) = self.admit_request(received, peer, data, bytes) else {
            return Some(Whole::Refused);
        };
        let rpc = self.server_rpc(received, peer, hash, data, tombstone, None);
        let handle = self.insert_rpc(received.now, rpc)?;
        self.count_message(data);
        self.metrics.server_requests += 1;
        Some(Whole::Request(RpcHandle(handle)))
    }

    #[inline(always)]
    fn count_whole(&mut self, received: &Received<'_>, data: &Data) {
        let packet = Packet { header: *received.header, body: Body::Data(*data) };
        self.count_received(received.now, received.src, &packet, data.message_length);
    }

    /// Accounts for a message that has come in one packet.
    #[inline]
    fn count_message(&mut self, data: &Data) {
        self.cutoffs.count(data.message_length);
        self.metrics.useful_retransmits += u64::from(data.retransmit);
        self.metrics.message_bytes_received += u64::from(data.message_length);
    }

    /// The message of a packet that [`Transport::take_whole`] has taken in.
    #[inline(always)]
    pub fn whole_message(&self, mut payload: B) -> Message<B> {
        self.detach_if_scarce(&mut payload);
        Message::whole(payload, &self.ledger)
    }

    /// The same as an event.
    pub(super) fn whole_event(
        &self,
        whole: Whole,
        src: HostAddr,
        header: &Header,
        payload: B,
    ) -> Option<Event<B>> {
        match whole {
            Whole::Request(rpc) => Some(Event::Request {
                rpc,
                id: header.sender_id,
                client: src,
                client_port: header.sport,
                port: header.dport,
                message: self.whole_message(payload),
                is_head_due: false,
            }),
            Whole::Response { cookie, id } => {
                Some(Event::Response { cookie, id, result: Ok(self.whole_message(payload)) })
            }
            Whole::Refused => None,
        }
    }

    /// Ends a call whose response is complete; gives what the application is told beside it.
    #[inline]
    pub(super) fn close_call(&mut self, now: Nanos, index: u32) -> Option<(u64, RpcId)> {
        let rpc = self.rpcs.get(index)?;
        let (cookie, id, peer) = (rpc.cookie, rpc.id, rpc.peer);
        // The data is in our memory: the server need not wait for the application to look at it
        // (reference-gaps.md G5).
        let ack = PendingAck { id, client_port: rpc.local_port, server_port: rpc.remote_port };
        self.metrics.client_done += 1;
        self.put_message_aside(index);
        self.end_rpc(now, index);
        self.note_ack(now, peer, ack);
        Some((cookie, id))
    }
}

/// Whether the packet is all of a message.
#[inline(always)]
fn is_whole(data: &Data, payload: u32) -> bool {
    data.offset == 0 && payload == data.message_length && payload > 0
}
