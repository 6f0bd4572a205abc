//! One host: a transport between a ring of received packets and a NIC, and the loop that drives it.

use core::cell::Cell;
use core::ops::Range;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::sim::config::Framing;
use crate::sim::events::Picos;
use crate::sim::fabric::{Fabric, PS_PER_NS};
use crate::sim::nic::{Nic, NicSink};
use crate::sim::packet::{Bytes, Contents, Outgoing, Piece};
use crate::time::Nanos;
use crate::transport::{Config, Transport};
use crate::wire::{HomaPort, Packet};

use super::plan::HostPlan;
use super::watch::Watch;

/// The port that all hosts serve.
pub(super) const SERVICE: HomaPort = HomaPort(99);

/// Payload bytes and, once they have been received, the buffer they lie in.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    bytes: Bytes,
    buffer: Option<Buffer>,
}

/// A receive buffer in use. Counts itself out when it is dropped.
#[derive(Debug)]
struct Buffer(Rc<Cell<u32>>);

impl Buffer {
    fn take(account: &Rc<Cell<u32>>) -> Self {
        account.set(account.get() + 1);
        Self(Rc::clone(account))
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Self {
        Self::take(&self.0)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Contents for Held {
    fn cut(message: u32, range: Range<u32>) -> Self {
        Self { bytes: Bytes::cut(message, range), buffer: None }
    }

    fn narrow(&mut self, range: Range<u32>) {
        self.bytes.narrow(range);
    }

    fn is_intact(&self, message: u32, range: Range<u32>) -> bool {
        self.bytes.is_intact(message, range)
    }
}

/// A packet as a host has received it.
#[derive(Clone, Debug)]
pub(super) struct Arrived {
    pub(super) src: u16,
    pub(super) packet: Packet,
    pub(super) piece: Piece<Held>,
}

pub(super) type FuzzTransport = Transport<Piece<Held>, Outgoing, Watch>;

/// A host in one of its lives.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) plan: HostPlan,
    pub(super) transport: FuzzTransport,
    /// The port that its calls leave from.
    pub(super) call_port: HomaPort,
    /// Counts restarts.
    pub(super) life: u32,
    /// Receive buffers in use.
    buffers: Rc<Cell<u32>>,
    ring: VecDeque<Arrived>,
    nic: Nic,
    /// When its loop turns next, the end of time if it has nothing to do.
    pub(super) wake_ps: Picos,
    pub(super) down: u32,
    pub(super) off_core: u32,
    pub(super) stuck: u32,
    pub(super) port_closed: u32,
    off_core_since: Nanos,
    /// Time off its core that it has excused.
    off_core_ns: u64,
}

/// The node excuses a time off its core that is longer.
const STALL_NS: u64 = 1_000_000;

impl Host {
    pub(super) fn new(plan: HostPlan, seed: u64, life: u32, watch: Watch) -> Self {
        let config = Config { seed, ..plan.config.clone() };
        let mut transport =
            Transport::new(config, watch).unwrap_or_else(|error| panic!("a plan with {error}"));
        transport.open_server_port(SERVICE);
        let call_port = match plan.one_port {
            true => SERVICE,
            false => transport.open_client_port().unwrap_or(SERVICE),
        };
        let nic = Nic::new(plan.backlog_ns * PS_PER_NS);
        Self {
            plan,
            transport,
            call_port,
            life,
            buffers: Rc::default(),
            ring: VecDeque::new(),
            nic,
            wake_ps: Picos::MAX,
            down: 0,
            off_core: 0,
            stuck: 0,
            port_closed: 0,
            off_core_since: Nanos::ZERO,
            off_core_ns: 0,
        }
    }

    /// Takes over the faults that are in force from the host's former life.
    pub(super) fn resume_faults_of(&mut self, former: &Self) {
        self.down = former.down;
        self.off_core = former.off_core;
        self.stuck = former.stuck;
        self.port_closed = former.port_closed;
        self.off_core_since = former.off_core_since;
    }

    pub(super) fn buffers_in_use(&self) -> u32 {
        self.buffers.get()
    }

    /// The account of its receive buffers, which outlives it.
    pub(super) fn buffer_account(&self) -> Rc<Cell<u32>> {
        Rc::clone(&self.buffers)
    }

    pub(super) fn is_running(&self) -> bool {
        self.down == 0 && self.off_core == 0
    }

    pub(super) fn leave_core(&mut self, now: Nanos) {
        if self.off_core == 0 {
            self.off_core_since = now;
        }
        self.off_core += 1;
    }

    pub(super) fn return_to_core(&mut self, now: Nanos) {
        self.off_core -= 1;
        let away_ns = now.since(self.off_core_since).0;
        if self.off_core == 0 && away_ns > STALL_NS {
            self.transport.excuse(now, away_ns);
            self.off_core_ns += away_ns;
        }
    }

    /// Time on its core, as far as its transport knows, in nanoseconds.
    pub(super) fn running_ns(&self, now: Nanos) -> u64 {
        now.0 - self.off_core_ns
    }

    /// A packet comes from the wire; says whether there is room for it.
    pub(super) fn arrive(&mut self, arrived: Arrived) -> bool {
        let has_room = self.down == 0 && self.ring.len() < self.plan.ring_packets;
        if has_room {
            self.ring.push_back(arrived);
        }
        has_room
    }

    pub(super) fn has_arrivals(&self) -> bool {
        !self.ring.is_empty()
    }

    /// The next packet of the ring, in a receive buffer.
    pub(super) fn take_arrival(&mut self) -> Option<Arrived> {
        let mut arrived = self.ring.pop_front()?;
        arrived.piece.contents.buffer = Some(Buffer::take(&self.buffers));
        Some(arrived)
    }

    /// Sends what may go; gives the time when there is more to do.
    pub(super) fn transmit(
        &mut self,
        now_ps: Picos,
        host: u16,
        fabric: &mut Fabric<Held>,
    ) -> Option<Picos> {
        let now = Nanos(now_ps / PS_PER_NS);
        let nic = &mut self.nic;
        let mut sink = NicSink { now_ps, host, framing: Framing::Linux, nic, fabric };
        self.transport.poll_transmit(now, &mut sink);
        let is_full = !self.nic.has_room(now_ps);
        let deadline = self.transport.next_deadline(now)?;
        let nic_ps = self.nic.room_at_ps();
        let at_ps = deadline.0.saturating_mul(PS_PER_NS);
        Some(if deadline <= now && is_full { nic_ps } else { at_ps.max(now_ps) })
    }
}
