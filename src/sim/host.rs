//! A simulated host: its transports, a NIC, and what its software costs.

use core::ops::Range;
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};

use rand_xoshiro::Xoshiro256PlusPlus;

use crate::addr::HostAddr;
use crate::load::arrival::Arrivals;
use crate::time::Nanos;
use crate::transport::{PeerRef, TxSink};
use crate::wire::Packet;

use super::config::Framing;
use super::events::{Event, Kind, Picos};
use super::fabric::{Fabric, PS_PER_NS};
use super::packet::{Contents, Frame, Label, Outgoing, Piece};
use super::shards::Shards;

/// 10.0.0.0, which stands for host 0.
const NETWORK: u32 = 10 << 24;

/// The address of a host.
pub(crate) fn address(host: u16) -> HostAddr {
    HostAddr::v4(Ipv4Addr::from_bits(NETWORK | u32::from(host)))
}

/// The host that has an address.
pub(crate) fn host_at(addr: HostAddr) -> u16 {
    match addr.ip() {
        IpAddr::V4(addr) => (addr.to_bits() & 0xffff) as u16,
        IpAddr::V6(_) => unreachable!("hosts of the simulator have IPv4 addresses"),
    }
}

/// The sending half of a NIC: a queue that drains at the rate of the link.
#[derive(Debug)]
pub(crate) struct Nic {
    /// When it has sent all it was given.
    pub(crate) free_at_ps: Picos,
    /// It takes packets while it has less than this to send.
    pub(crate) backlog_ps: Picos,
    /// An event will come when it takes packets again.
    pub(crate) wakes: bool,
}

/// One host.
#[derive(Debug)]
pub(crate) struct Host<C: Contents> {
    pub(crate) transport: Shards<C>,
    pub(crate) nic: Nic,
    /// When the earliest timer event comes, the end of time if none will.
    pub(crate) timer_ps: Picos,
    /// Packets that wait for the CPU.
    pub(crate) waiting: VecDeque<u32>,
    pub(crate) processing: bool,
    pub(crate) cpu_free_ps: Picos,
    pub(crate) arrivals: Arrivals,
    pub(crate) random: Xoshiro256PlusPlus,
}

/// What the transport of a host sends into.
struct NicSink<'a, C> {
    now_ps: Picos,
    host: u16,
    framing: Framing,
    nic: &'a mut Nic,
    fabric: &'a mut Fabric<C>,
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
        usize::from(self.nic.free_at_ps <= self.now_ps + self.nic.backlog_ps)
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

impl<C: Contents> Host<C> {
    /// Sends what may go and sees to it that there is an event when there is more to do.
    pub(crate) fn transmit(
        &mut self,
        now_ps: Picos,
        host: u16,
        framing: Framing,
        fabric: &mut Fabric<C>,
    ) {
        let now = Nanos(now_ps / PS_PER_NS);
        let mut sink = NicSink { now_ps, host, framing, nic: &mut self.nic, fabric };
        self.transport.poll_transmit(now, &mut sink);
        let nic_is_full = sink.room() == 0;
        let Some(deadline) = self.transport.next_deadline(now) else { return };
        if deadline <= now && nic_is_full {
            if !self.nic.wakes {
                self.nic.wakes = true;
                let at_ps = self.nic.free_at_ps.saturating_sub(self.nic.backlog_ps).max(now_ps);
                fabric.events.push(at_ps, Event { kind: Kind::NicFree, node: host, packet: 0 });
            }
            return;
        }
        let at_ps = deadline.0.saturating_mul(PS_PER_NS).max(now_ps);
        if at_ps < self.timer_ps {
            self.timer_ps = at_ps;
            fabric.events.push(at_ps, Event { kind: Kind::Timer, node: host, packet: 0 });
        }
    }
}
