//! A simulated host: its transports, a NIC, and what its software costs.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};

use rand_xoshiro::Xoshiro256PlusPlus;

use crate::addr::HostAddr;
use crate::load::arrival::Arrivals;
use crate::time::Nanos;

use super::config::Framing;
use super::events::{Event, Kind, Picos};
use super::fabric::{Fabric, PS_PER_NS};
use super::nic::{Nic, NicSink};
use super::packet::Contents;
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

/// One host.
#[derive(Debug)]
pub(crate) struct Host<C: Contents> {
    pub(crate) transport: Shards<C>,
    pub(crate) nic: Nic,
    /// An event will come when the NIC takes packets again.
    pub(crate) nic_wakes: bool,
    /// When the earliest timer event comes, the end of time if none will.
    pub(crate) timer_ps: Picos,
    /// Packets that wait for the CPU.
    pub(crate) waiting: VecDeque<u32>,
    pub(crate) processing: bool,
    pub(crate) cpu_free_ps: Picos,
    pub(crate) arrivals: Arrivals,
    pub(crate) random: Xoshiro256PlusPlus,
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
        let nic_is_full = !self.nic.has_room(now_ps);
        let Some(deadline) = self.transport.next_deadline(now) else { return };
        if deadline <= now && nic_is_full {
            if !self.nic_wakes {
                self.nic_wakes = true;
                let at_ps = self.nic.room_at_ps().max(now_ps);
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
