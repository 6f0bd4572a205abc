//! One transport, fed packet by packet: the bench for tests of what one packet does.

use core::ops::Range;

use crate::addr::HostAddr;
use crate::time::Nanos;
use crate::transport::pair::*;
use crate::transport::*;
use crate::wire::{Ack, AckRecord, Body, Cutoffs, Data, Grant, Header, Packet, Resend};

/// A body, and the payload if it is DATA.
pub(super) type Content = (Body, Vec<u8>);

/// Two full packets of a message of [`LENGTH`] bytes are unscheduled.
pub(super) const UNSCHED: u32 = 3_000;
pub(super) const LENGTH: u32 = 5_000;
pub(super) const HALF: u32 = 2 * SEGMENT;
/// Seed of the patterns in requests and responses.
pub(super) const SEED: u64 = 3;

pub(super) struct Solo {
    pub(super) now: Nanos,
    pub(super) shard: Shard,
    pub(super) port: HomaPort,
}

pub(super) fn config() -> Config {
    Config { unsched_bytes: UNSCHED, pacing: false, seed: 5, ..Config::default() }
}

impl Solo {
    pub(super) fn new(config: Config) -> Self {
        let mut shard = Shard::new(config, ()).unwrap();
        assert!(shard.open_server_port(SERVICE));
        let port = shard.open_client_port().unwrap();
        Self { now: Nanos::from_ms(1), shard, port }
    }

    /// Starts an RPC to [`SERVER`].
    pub(super) fn call(&mut self, len: u32, cookie: u64) -> (RpcHandle, RpcId) {
        let message = outgoing(len as usize, SEED);
        self.shard.call(self.now, self.port, SERVER, SERVICE, message, cookie).unwrap()
    }

    /// Takes in one packet as a burst of its own.
    pub(super) fn receive(&mut self, from: HostAddr, header: Header, content: Content) -> Outcome {
        let packet = Packet { header, body: content.0 };
        let outcome = self.shard.on_packet(self.now, from, &packet, Bytes(content.1));
        self.shard.end_burst(self.now);
        outcome
    }

    /// A packet of the server about our RPC `id`.
    pub(super) fn server_sends(&mut self, id: RpcId, content: Content) -> Outcome {
        let header = Header { sport: SERVICE, dport: self.port, sender_id: id.flip() };
        self.receive(SERVER, header, content)
    }

    /// A packet of the client about its RPC `id`.
    pub(super) fn client_sends(&mut self, id: RpcId, content: Content) -> Outcome {
        self.receive(CLIENT, client_header(id), content)
    }

    /// All that may be sent now.
    pub(super) fn sent(&mut self) -> Vec<Frame> {
        let mut sink = Sink::with_room(10_000, self.now);
        self.shard.poll_transmit(self.now, &mut sink);
        sink.frames
    }

    pub(super) fn sent_briefs(&mut self) -> Vec<String> {
        briefs(&self.sent())
    }

    pub(super) fn events(&mut self) -> Vec<Event<Bytes>> {
        core::iter::from_fn(|| self.shard.poll_event()).collect()
    }

    /// The one request waiting for the application.
    pub(super) fn request(&mut self) -> (RpcHandle, Message<Bytes>) {
        let mut events = self.events();
        assert_eq!(events.len(), 1, "{events:?}");
        match events.pop() {
            Some(Event::Request { rpc, message, .. }) => (rpc, message),
            event => panic!("{event:?}"),
        }
    }

    /// Takes in a whole request of `len` bytes and hands it to the application.
    pub(super) fn serve(&mut self, id: RpcId, len: u32) -> RpcHandle {
        self.client_sends(id, data(0..len, len));
        let (rpc, message) = self.request();
        assert_eq!(message.to_vec(), pattern(len as usize, SEED));
        rpc
    }

    pub(super) fn reply(&mut self, rpc: RpcHandle, len: u32) {
        self.shard.reply(self.now, rpc, outgoing(len as usize, SEED)).unwrap();
    }

    /// A server RPC whose response of 100 bytes is sent, and waits for its ack.
    pub(super) fn answered(&mut self, id: RpcId) {
        let rpc = self.serve(id, 100);
        self.reply(rpc, 100);
        assert_eq!(self.sent().len(), 1);
    }

    pub(super) fn rpc(&self, id: RpcId) -> Option<&Rpc<Bytes, Outgoing>> {
        (0..self.shard.rpcs.bound())
            .filter_map(|index| self.shard.rpcs.get(index))
            .find(|rpc| rpc.id == id)
    }

    pub(super) fn state(&self, id: RpcId) -> Option<State> {
        self.rpc(id).map(|rpc| rpc.state)
    }

    /// Runs the timers up to `until`, with all that is sent in between.
    pub(super) fn pass_time(&mut self, until: Nanos) -> Vec<Frame> {
        let mut frames = self.sent();
        let mut turns = 0;
        while let Some(next) = self.shard.next_deadline(self.now).filter(|next| *next <= until) {
            turns += 1;
            assert!(turns < 1_000_000, "a deadline at {next} that nothing meets");
            self.now = self.now.max(next);
            self.shard.on_timer(self.now);
            frames.extend(self.sent());
        }
        self.now = until;
        frames
    }
}

/// The port of the client that [`Solo::client_sends`] plays.
pub(super) const FOREIGN_PORT: HomaPort = HomaPort(40_000);

pub(super) fn client_header(id: RpcId) -> Header {
    Header { sport: FOREIGN_PORT, dport: SERVICE, sender_id: id }
}

/// A part of a message of `length` bytes as a first transmission carries it, cutoffs known.
pub(super) fn data(range: Range<u32>, length: u32) -> Content {
    data_with(range, length, |_| {})
}

pub(super) fn data_with(range: Range<u32>, length: u32, change: impl FnOnce(&mut Data)) -> Content {
    let mut data = Data {
        message_length: length,
        incoming: length.min(HALF),
        ack: None,
        cutoff_version: 1,
        retransmit: false,
        incast: false,
        offset: range.start,
    };
    change(&mut data);
    let bytes = pattern(range.end as usize, SEED).split_off(range.start as usize);
    (Body::Data(data), bytes)
}

pub(super) fn bare(body: Body) -> Content {
    (body, Vec::new())
}

pub(super) fn grant(offset: u32, priority: u8) -> Content {
    bare(Body::Grant(Grant { offset, priority }))
}

pub(super) fn resend(offset: u32, length: u32, priority: u8) -> Content {
    bare(Body::Resend(Resend { offset, length, priority: Some(priority) }))
}

pub(super) fn cutoffs(cutoffs: [u32; 8], version: u16) -> Content {
    bare(Body::Cutoffs(Cutoffs { cutoffs, version }))
}

/// Records of RPCs to [`SERVICE`].
pub(super) fn ack(ids: &[RpcId]) -> Content {
    let mut ack = Ack::new();
    for id in ids {
        assert!(ack.push(AckRecord { client_id: *id, server_port: SERVICE }));
    }
    bare(Body::Ack(ack))
}
