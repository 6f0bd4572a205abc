//! One RPC as a shard sees it, from either side (protocol.md section 6).

use crate::time::Nanos;
use crate::wire::{Header, HomaPort, RpcId};

use super::buffers::{OutMessage, Payload};
use super::config::Order;
use super::heap::Key;
use super::reassembly::Reassembly;
use super::tombstones::Place;

/// Where an RPC is in its life. A client RPC is removed as soon as its response is complete, so
/// the state "complete" of the protocol needs no entry here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Client: sending the request, or waiting for the first byte of the response.
    ClientOutgoing,
    /// Client: part of the response is here.
    ClientIncoming,
    /// Server: part of the request is here.
    ServerIncoming,
    /// Server: the application has the request.
    ServerInService,
    /// Server: the response is being sent, or was sent and not acknowledged.
    ServerOutgoing,
}

impl State {
    pub(super) fn is_client(self) -> bool {
        matches!(self, Self::ClientOutgoing | Self::ClientIncoming)
    }
}

/// The message we send.
#[derive(Debug)]
pub(super) struct Outbound<M> {
    pub(super) message: M,
    pub(super) length: u32,
    pub(super) segment_bytes: u32,
    /// Bytes sent without a grant; a multiple of the segment size unless it is all.
    pub(super) unscheduled: u32,
    /// Bytes that may be sent.
    pub(super) granted: u32,
    /// First byte not yet handed to the sink.
    pub(super) sent_to: u32,
    /// Priority of the last grant that raised `granted`.
    pub(super) priority: u8,
    /// Sent again from the start because the server knows nothing of it.
    pub(super) restarted: bool,
    /// A packet without payload has to go first, to tell the peer that the message waits for grants.
    pub(super) announce: bool,
    /// In a request: the response should wait for grants.
    pub(super) incast: bool,
    /// When its first packet was sent.
    pub(super) first_sent: Nanos,
    /// Stands in the queue of messages that are not paced.
    pub(super) urgent: bool,
    /// When the message was handed in.
    pub(super) created: Nanos,
}

impl<M: OutMessage> Outbound<M> {
    #[inline(always)]
    pub(super) fn new(message: M, unsched_bytes: u32, now: Nanos) -> Self {
        let length = message.len();
        let segment_bytes = message.segment_bytes().max(1);
        let unscheduled = if length <= unsched_bytes {
            length
        } else {
            // Cutting at a packet boundary keeps all packets but the last full.
            (unsched_bytes / segment_bytes * segment_bytes).max(segment_bytes).min(length)
        };
        Self {
            message,
            length,
            segment_bytes,
            unscheduled,
            granted: unscheduled,
            sent_to: 0,
            priority: 0,
            restarted: false,
            announce: false,
            incast: false,
            first_sent: Nanos::ZERO,
            urgent: false,
            created: now,
        }
    }

    /// Has all of the message wait for grants, before any of it was sent.
    pub(super) fn wait_for_grants(&mut self) {
        (self.unscheduled, self.granted, self.announce) = (0, 0, true);
    }

    /// Whether the next packet may go: its first byte is granted (protocol.md section 9).
    pub(super) fn is_sendable(&self) -> bool {
        self.sent_to < self.granted || self.announce
    }

    pub(super) fn remaining(&self) -> u32 {
        self.length - self.sent_to
    }

    pub(super) fn is_sent(&self) -> bool {
        self.sent_to == self.length
    }

    /// Its place in the order of sending.
    pub(super) fn key(&self, order: Order) -> Key {
        Key { bytes: order.key_bytes(self.remaining(), self.length), age_ns: self.created.0 }
    }
}

/// The gaps there were at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct GapWatch {
    /// When to look whether they have lasted.
    due: Nanos,
    /// Start of the first.
    first: u32,
    /// They lie below this; gaps above are younger.
    below: u32,
}

/// The message we receive.
#[derive(Debug)]
pub(super) struct Inbound<B> {
    pub(super) reassembly: Reassembly<B>,
    /// Bytes that the sender may send, as far as we know.
    pub(super) granted: u32,
    /// The part of `granted` that counts against our budget: what we granted ourselves, and of what
    /// the sender announced at most our own unscheduled limit.
    pub(super) budgeted: u32,
    /// What `budgeted` was before it was taken off the account.
    written_off: u32,
    /// Silence has made us ask for what is missing, and nothing has come since.
    asked: bool,
    /// The last packet was of a message of another length.
    pub(super) disputed: bool,
    /// When its first packet came.
    pub(super) created: Nanos,
    /// When gaps may be asked for although the message still flows.
    pub(super) gap_watch: Option<GapWatch>,
    /// The application knows of it.
    pub(super) announced: bool,
}

impl<B: Payload> Inbound<B> {
    pub(super) fn new(length: u32, now: Nanos) -> Self {
        Self {
            reassembly: Reassembly::new(length),
            granted: 0,
            budgeted: 0,
            written_off: 0,
            asked: false,
            disputed: false,
            created: now,
            gap_watch: None,
            announced: false,
        }
    }

    /// Bytes of the budget this message uses: to come without another grant.
    pub(super) fn incoming(&self) -> u32 {
        self.budgeted.saturating_sub(self.received_of_granted())
    }

    /// Bytes received of those that the sender may send. It may have sent others: in an earlier life
    /// of the RPC.
    pub(super) fn received_of_granted(&self) -> u32 {
        self.reassembly.received_below(self.granted)
    }

    /// How many of `want` more bytes may be granted when the budget has room for `room`: what has come
    /// already costs nothing.
    pub(super) fn grantable(&self, want: u32, room: u64) -> u32 {
        let mut bytes = want;
        loop {
            let end = self.granted + bytes;
            let come = self.reassembly.received_below(end) - self.received_of_granted();
            let most = u32::try_from(room + u64::from(come)).unwrap_or(u32::MAX);
            if bytes <= most {
                return bytes;
            }
            bytes = most;
        }
    }

    /// Whether bytes are missing that the sender may send.
    pub(super) fn expects_more(&self) -> bool {
        self.received_of_granted() < self.granted
    }

    /// The sender was asked for what is missing. Says whether it was asked before and nothing has come
    /// since: then nothing is on its way, and nothing stays on the account (reference-gaps.md G33).
    pub(super) fn note_asked(&mut self) -> bool {
        let again = core::mem::replace(&mut self.asked, true);
        if again {
            self.written_off = self.written_off.max(core::mem::take(&mut self.budgeted));
        }
        again
    }

    /// A packet of the message has come: the others that were asked for may be on their way.
    pub(super) fn note_heard(&mut self) {
        self.asked = false;
        self.disputed = false;
        self.budgeted = self.budgeted.max(core::mem::take(&mut self.written_off));
    }

    /// A packet says that the sender will send up to `incoming` without further grants. A later one may say
    /// more; the end of a range sent again may be lower.
    pub(super) fn note_announced(&mut self, incoming: u32, unsched_bytes: u32) {
        let announced = incoming.min(self.reassembly.length());
        self.granted = self.granted.max(announced);
        self.budgeted = self.budgeted.max(announced.min(unsched_bytes));
    }

    /// Takes a message that needs no grants off the account if nothing of it was there before its last packet:
    /// Linux never counts those.
    pub(super) fn forget_unscheduled(&mut self, before: u32) {
        if !self.needs_grants() && self.granted == self.budgeted && before == 0 {
            self.budgeted = 0;
        }
    }

    /// Whether gaps have lasted longer than reordering does; if so, the offset below which they lie.
    pub(super) fn lasting_gaps(&mut self, now: Nanos, gap_recovery: Nanos) -> Option<u32> {
        if self.reassembly.gap_count() == 0 || gap_recovery == Nanos::ZERO {
            self.gap_watch = None;
            return None;
        }
        let watch = self.gap_watch.filter(|watch| now >= watch.due);
        if self.gap_watch.is_some() && watch.is_none() {
            return None;
        }
        let first = self.reassembly.gaps().next().map_or(0, |gap| gap.start);
        // A first gap that has changed is being filled, by packets out of order or sent again.
        let lasting = watch.filter(|watch| watch.first == first).map(|watch| watch.below);
        // After asking, give the answer time before asking again.
        let wait = if lasting.is_some() { gap_recovery + gap_recovery } else { gap_recovery };
        self.gap_watch = Some(GapWatch { due: now + wait, first, below: self.reassembly.high() });
        lasting
    }

    pub(super) fn needs_grants(&self) -> bool {
        self.granted < self.reassembly.length()
    }

    /// Its place in the order of grants.
    pub(super) fn key(&self, order: Order) -> Key {
        let (left, length) = (self.reassembly.remaining(), self.reassembly.length());
        Key { bytes: order.key_bytes(left, length), age_ns: self.created.0 }
    }
}

#[derive(Debug)]
pub(super) struct Rpc<B, M> {
    /// Even if we are the client, odd if we are the server.
    pub(super) id: RpcId,
    pub(super) peer: u32,
    pub(super) local_port: HomaPort,
    pub(super) remote_port: HomaPort,
    pub(super) state: State,
    /// What the application wants back with the response.
    pub(super) cookie: u64,
    pub(super) outbound: Option<Outbound<M>>,
    pub(super) inbound: Option<Inbound<B>>,
    /// When we last heard of this RPC, or last had nothing to hear.
    pub(super) quiet_since: Nanos,
    /// No RESEND or NEED_ACK before this.
    pub(super) next_probe: Nanos,
    /// NEED_ACKs sent.
    pub(super) need_acks: u32,
    /// Server: the client asked that a long response wait for grants.
    pub(super) incast: bool,
    /// Server: the hash it stands in the index with.
    pub(super) hash: u32,
    /// Server: where its end will be remembered.
    pub(super) tombstone: Place,
}

impl<B, M> Rpc<B, M> {
    /// Header of a packet that we send about this RPC.
    pub(super) fn header(&self) -> Header {
        Header { sport: self.local_port, dport: self.remote_port, sender_id: self.id }
    }
}
