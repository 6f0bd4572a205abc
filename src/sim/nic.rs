//! The sending half of a NIC, and what a transport sends into.

use core::ops::Range;

use crate::transport::{PeerRef, TxSink};
use crate::wire::Packet;

use super::config::Framing;
use super::events::Picos;
use super::fabric::Fabric;
use super::host::host_at;
use super::packet::{Contents, Frame, Label, Outgoing, Piece};

/// A queue that drains at the rate of the link.
#[derive(Debug)]
pub(crate) struct Nic {
    /// When it has sent all it was given.
    free_at_ps: Picos,
    /// It takes packets while it has no more than this to send.
    backlog_ps: Picos,
}

impl Nic {
    pub(crate) fn new(backlog_ps: Picos) -> Self {
        Self { free_at_ps: 0, backlog_ps }
    }

    pub(crate) fn has_room(&self, now_ps: Picos) -> bool {
        self.free_at_ps <= now_ps + self.backlog_ps
    }

    /// When it takes packets again.
    pub(crate) fn room_at_ps(&self) -> Picos {
        self.free_at_ps.saturating_sub(self.backlog_ps)
    }
}

/// What the transport of a host sends into.
pub(crate) struct NicSink<'a, C> {
    pub(crate) now_ps: Picos,
    pub(crate) host: u16,
    pub(crate) framing: Framing,
    pub(crate) nic: &'a mut Nic,
    pub(crate) fabric: &'a mut Fabric<C>,
}

impl<C: Contents> NicSink<'_, C> {
    fn send(&mut self, to: PeerRef, priority: u8, packet: &Packet, piece: Piece<C>) {
        let frame = Frame {
            label: Label {
                wire_bytes: self.framing.wire_bytes(packet, piece.length),
                next: 0,
                src: self.host,
                dst: host_at(to.addr),
                priority,
            },
            packet: *packet,
            piece,
        };
        let start_ps = self.nic.free_at_ps.max(self.now_ps);
        self.nic.free_at_ps = self.fabric.send_from_host(start_ps, frame);
    }
}

impl<C: Contents> TxSink<Outgoing> for NicSink<'_, C> {
    fn room(&self) -> usize {
        usize::from(self.nic.has_room(self.now_ps))
    }

    fn control(&mut self, to: PeerRef, priority: u8, packet: &Packet) {
        self.send(to, priority, packet, Piece::default());
    }

    fn data(
        &mut self,
        to: PeerRef,
        priority: u8,
        packet: &Packet,
        message: &mut Outgoing,
        range: Range<u32>,
    ) {
        self.send(to, priority, packet, message.cut(range));
    }
}
