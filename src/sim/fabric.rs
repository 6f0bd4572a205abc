//! Links and switches: output queues with 8 strict priorities, buffers, routes.
//!
//! A port is an output of a switch with the link behind it. A packet that finds its port idle takes
//! one event to the next hop; only where packets wait does a second event say that the port is free.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use crate::wire::NUM_PRIORITIES;

use super::config::{Buffer, NetworkConfig, Routing};
use super::events::{Event, EventQueue, Kind, Picos};
use super::packet::{Contents, Frame, Frames, Label};

const NIL: u32 = u32::MAX;
/// Picoseconds in a nanosecond.
pub(crate) const PS_PER_NS: u64 = 1_000;

/// What came of the packets of a run. `sent` is the sum of the others once the network is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PacketCounts {
    /// Packets that hosts gave to their NIC.
    pub sent: u64,
    /// Packets that arrived.
    pub received: u64,
    /// Packets dropped by a switch without room.
    pub dropped: u64,
    /// Packets on a link or in a queue.
    pub in_network: u64,
    /// Times a packet was sent over a link.
    pub hops: u64,
    /// Bytes that left hosts, with everything a link carries.
    pub wire_bytes: u64,
    /// Payload bytes that left hosts.
    pub payload_bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Queue {
    head: u32,
    tail: u32,
}

/// One output of a switch.
#[derive(Debug)]
struct Port {
    queues: [Queue; NUM_PRIORITIES],
    /// One bit per priority that has packets.
    occupied: u8,
    /// An event will come when the packet on the wire has gone.
    wakes: bool,
    /// When the packet on the wire has gone.
    free_at_ps: Picos,
    ps_per_byte: u64,
    queued_bytes: u64,
    queued_bytes_max: u64,
    switch: u32,
}

/// The network between the NICs.
#[derive(Debug)]
pub(crate) struct Fabric<C> {
    pub(crate) events: EventQueue,
    pub(crate) frames: Frames<C>,
    pub(crate) counts: PacketCounts,
    config: NetworkConfig,
    ports: Vec<Port>,
    /// Bytes that wait in each switch.
    switch_bytes: Vec<u64>,
    rack_of: Vec<u16>,
    random: Xoshiro256PlusPlus,
    host_ps_per_byte: u64,
    tx_delay_ps: Picos,
    rx_delay_ps: Picos,
    hop_delay_ps: Picos,
}

/// Time of a byte on a link.
pub(crate) fn ps_per_byte(bps: u64) -> u64 {
    (8_000_000_000_000 + bps / 2) / bps
}

impl<C: Contents> Fabric<C> {
    pub(crate) fn new(
        config: &NetworkConfig,
        tx_delay_ns: u64,
        rx_delay_ns: u64,
        seed: u64,
    ) -> Self {
        let hosts = config.hosts();
        let core = if config.racks > 1 { config.racks * config.spines } else { 0 };
        // In this order: to each host, from each rack to each spine, from each spine to each rack.
        let to_hosts = (0..hosts).map(|host| (config.host_bps, host / config.hosts_per_rack));
        let to_spines = (0..core).map(|link| (config.core_bps, link / config.spines));
        let to_racks = (0..core).map(|link| (config.core_bps, config.racks + link / config.racks));
        let ports = to_hosts.chain(to_spines).chain(to_racks);
        Self {
            events: EventQueue::new(),
            frames: Frames::new(),
            counts: PacketCounts::default(),
            ports: ports.map(|(bps, switch)| Port::new(bps, switch)).collect(),
            switch_bytes: vec![0; (config.racks + config.spines) as usize],
            rack_of: (0..hosts).map(|host| (host / config.hosts_per_rack) as u16).collect(),
            random: Xoshiro256PlusPlus::seed_from_u64(seed),
            host_ps_per_byte: ps_per_byte(config.host_bps),
            tx_delay_ps: (tx_delay_ns + config.propagation_ns) * PS_PER_NS,
            rx_delay_ps: (rx_delay_ns + config.propagation_ns) * PS_PER_NS,
            hop_delay_ps: config.switch_ns * PS_PER_NS,
            config: config.clone(),
        }
    }

    /// Whether two hosts are under the same switch.
    pub(crate) fn is_intra_rack(&self, a: u16, b: u16) -> bool {
        self.rack_of[usize::from(a)] == self.rack_of[usize::from(b)]
    }

    /// Most bytes that waited at each of the ports to hosts.
    pub(crate) fn host_port_bytes_max(&self) -> impl Iterator<Item = u64> + '_ {
        let hosts = self.config.hosts() as usize;
        self.ports[..hosts].iter().map(|port| port.queued_bytes_max)
    }

    /// Bytes that wait now at each of the ports to hosts.
    pub(crate) fn host_port_bytes(&self) -> impl Iterator<Item = u64> + '_ {
        let hosts = self.config.hosts() as usize;
        self.ports[..hosts].iter().map(|port| port.queued_bytes)
    }

    /// A NIC starts to send a frame at `start_ps`; gives the time when it has.
    pub(crate) fn send_from_host(&mut self, start_ps: Picos, frame: Frame<C>) -> Picos {
        let (bytes, payload) = (u64::from(frame.label.wire_bytes), u64::from(frame.piece.length));
        let end_ps = start_ps + bytes * self.host_ps_per_byte;
        self.counts.sent += 1;
        self.counts.hops += 1;
        self.counts.wire_bytes += bytes;
        self.counts.payload_bytes += payload;
        let port = self.first_port(&frame);
        let index = self.frames.insert(frame);
        let head_ps = self.head_ps(start_ps, end_ps, self.host_ps_per_byte, port);
        let at_ps = head_ps + self.tx_delay_ps + self.hop_delay_ps;
        self.events.push(at_ps, Event { kind: Kind::Enqueue, node: port, packet: index });
        end_ps
    }

    /// When the next hop may start with a frame: when it has all of it, or with cut-through its header.
    fn head_ps(&self, start_ps: Picos, end_ps: Picos, ps_per_byte: u64, next: u16) -> Picos {
        let faster = self.ports[usize::from(next)].ps_per_byte < ps_per_byte;
        if self.config.cut_through && !faster {
            end_ps.min(start_ps + CUT_THROUGH_BYTES * ps_per_byte)
        } else {
            end_ps
        }
    }

    fn spine(&mut self, frame: &Frame<C>) -> u32 {
        let random = match self.config.routing {
            Routing::Spray => self.random.next_u64(),
            Routing::FlowHash => {
                let ends = u64::from(frame.label.src) << 16 | u64::from(frame.label.dst);
                let rpc = frame.packet.header.sender_id.0 & !1;
                (rpc ^ ends.rotate_left(40)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
            }
        };
        // The upper half, scaled: no division, and no bias worth mentioning.
        (((random >> 32) * u64::from(self.config.spines)) >> 32) as u32
    }

    fn first_port(&mut self, frame: &Frame<C>) -> u16 {
        let Label { src, dst, .. } = frame.label;
        if self.is_intra_rack(src, dst) {
            return dst;
        }
        let rack = u32::from(self.rack_of[usize::from(src)]);
        let spine = self.spine(frame);
        (self.config.hosts() + rack * self.config.spines + spine) as u16
    }

    /// Where a frame that has left `port` goes next: another port, or its host (`None`).
    fn next_port(&self, port: u16, dst: u16) -> Option<u16> {
        let (hosts, spines) = (self.config.hosts(), self.config.spines);
        let uplinks = self.config.racks * spines;
        let port = u32::from(port);
        if port < hosts {
            None
        } else if port < hosts + uplinks {
            let spine = (port - hosts) % spines;
            let rack = u32::from(self.rack_of[usize::from(dst)]);
            Some((hosts + uplinks + spine * self.config.racks + rack) as u16)
        } else {
            Some(dst)
        }
    }

    /// A frame has come to the queue of `port`.
    pub(crate) fn enqueue(&mut self, now_ps: Picos, port: u16, index: u32) {
        let state = &self.ports[usize::from(port)];
        if state.occupied == 0 && state.free_at_ps <= now_ps {
            self.transmit(now_ps, port, index);
            return;
        }
        let label = self.frames.label(index);
        let (bytes, priority) = (u64::from(label.wire_bytes), usize::from(label.priority));
        if !self.has_room(port, bytes) {
            self.counts.dropped += 1;
            self.frames.remove(index);
            return;
        }
        let state = &mut self.ports[usize::from(port)];
        state.queued_bytes += bytes;
        state.queued_bytes_max = state.queued_bytes_max.max(state.queued_bytes);
        self.switch_bytes[state.switch as usize] += bytes;
        let wake_ps = (!state.wakes).then_some(state.free_at_ps);
        state.wakes = true;
        self.append(port, priority, index);
        if let Some(at_ps) = wake_ps {
            self.events.push(at_ps, Event { kind: Kind::PortFree, node: port, packet: 0 });
        }
    }

    fn has_room(&self, port: u16, bytes: u64) -> bool {
        let state = &self.ports[usize::from(port)];
        match self.config.buffer {
            Buffer::Unlimited => true,
            Buffer::PerPort(max) => state.queued_bytes + bytes <= max,
            Buffer::Shared(max) => self.switch_bytes[state.switch as usize] + bytes <= max,
        }
    }

    fn append(&mut self, port: u16, priority: usize, index: u32) {
        self.frames.label_mut(index).next = NIL;
        let state = &mut self.ports[usize::from(port)];
        let queue = &mut state.queues[priority];
        if state.occupied & (1 << priority) == 0 {
            queue.head = index;
            state.occupied |= 1 << priority;
        } else {
            self.frames.label_mut(queue.tail).next = index;
        }
        queue.tail = index;
    }

    /// The packet on the wire of `port` has gone: the first of the highest priority follows.
    pub(crate) fn port_free(&mut self, now_ps: Picos, port: u16) {
        let state = &mut self.ports[usize::from(port)];
        state.wakes = false;
        if state.occupied == 0 {
            return;
        }
        let priority = state.occupied.ilog2() as usize;
        let index = state.queues[priority].head;
        let label = self.frames.label(index);
        let bytes = u64::from(label.wire_bytes);
        if label.next == NIL {
            state.occupied &= !(1 << priority);
        } else {
            state.queues[priority].head = label.next;
        }
        state.queued_bytes -= bytes;
        self.switch_bytes[state.switch as usize] -= bytes;
        let waiting = state.occupied != 0;
        state.wakes = waiting;
        let free_at_ps = self.transmit(now_ps, port, index);
        if waiting {
            self.events.push(free_at_ps, Event { kind: Kind::PortFree, node: port, packet: 0 });
        }
    }

    fn transmit(&mut self, now_ps: Picos, port: u16, index: u32) -> Picos {
        let label = self.frames.label(index);
        let (bytes, dst) = (u64::from(label.wire_bytes), label.dst);
        let state = &mut self.ports[usize::from(port)];
        let end_ps = now_ps + bytes * state.ps_per_byte;
        state.free_at_ps = end_ps;
        let ps_per_byte = state.ps_per_byte;
        self.counts.hops += 1;
        let (at_ps, kind, node) = match self.next_port(port, dst) {
            Some(next) => {
                let head_ps = self.head_ps(now_ps, end_ps, ps_per_byte, next);
                let link_ps = self.config.propagation_ns * PS_PER_NS;
                (head_ps + link_ps + self.hop_delay_ps, Kind::Enqueue, next)
            }
            None => (end_ps + self.rx_delay_ps, Kind::Receive, dst),
        };
        self.events.push(at_ps, Event { kind, node, packet: index });
        end_ps
    }
}

/// What a switch has to see of a frame before it can forward it: preamble, Ethernet and IP header.
const CUT_THROUGH_BYTES: u64 = 42;

impl Port {
    fn new(bps: u64, switch: u32) -> Self {
        Self {
            queues: [Queue { head: NIL, tail: NIL }; NUM_PRIORITIES],
            occupied: 0,
            wakes: false,
            free_at_ps: 0,
            ps_per_byte: ps_per_byte(bps),
            queued_bytes: 0,
            queued_bytes_max: 0,
            switch,
        }
    }
}

#[cfg(test)]
mod tests;
