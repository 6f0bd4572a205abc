//! What is seen of a transport from outside: packets in both directions, RPCs that end. Keeps an account
//! of grants of its own, so that that of the transport need not be believed.

use std::collections::BTreeMap;

use crate::addr::HostAddr;
use crate::sim::host::host_at;
use crate::time::Nanos;
use crate::transport::{Config, PeerRef, Probe};
use crate::wire::{Body, Header, HomaPort, Packet, RpcId};

use super::trace::Trace;

/// Watches one life of one host.
#[derive(Debug)]
pub(super) struct Watch {
    host: u16,
    unsched_bytes: u32,
    /// RPCs in the tables, by local id: several, if corrupted packets have come.
    live: BTreeMap<RpcId, u32>,
    /// Messages on their way, by local id and port of the other side.
    flows: BTreeMap<(RpcId, HomaPort), Flow>,
    /// RPCs that have ended since this was last emptied.
    pub(super) ended: Vec<RpcId>,
    /// Grants were sent since this was last reset.
    pub(super) has_granted: bool,
    trace: Trace,
}

/// A message on its way to this host.
#[derive(Clone, Copy, Debug, Default)]
struct Flow {
    /// What came without a grant, as far as it counts.
    unscheduled: u64,
    /// Bytes up to which the sender may send.
    top: u64,
    /// The part of this that was granted.
    granted: u64,
    /// Payload bytes that came, repeated ones counted again.
    received: u64,
    /// What is missing was asked for since a packet came.
    asked: bool,
    /// It was asked for again and counts as lost.
    lost: bool,
}

impl Flow {
    /// Bytes granted and not received.
    fn open_bytes(&self) -> u64 {
        if self.lost {
            return 0;
        }
        let expected = self.unscheduled + self.granted;
        self.granted.min(expected.saturating_sub(self.received))
    }
}

impl Watch {
    pub(super) fn new(host: u16, config: &Config, trace: Trace) -> Self {
        Self {
            host,
            unsched_bytes: config.unsched_bytes,
            live: BTreeMap::new(),
            flows: BTreeMap::new(),
            ended: Vec::new(),
            has_granted: false,
            trace,
        }
    }

    /// Whether the RPC with this local id is in the tables.
    pub(super) fn is_live(&self, id: RpcId) -> bool {
        self.live.contains_key(&id)
    }

    /// Bytes granted and not received; rather too few than too many, because bytes that come twice
    /// count twice.
    pub(super) fn granted_bytes(&self) -> u64 {
        self.flows.values().map(Flow::open_bytes).sum()
    }
}

impl Probe for Watch {
    fn received(&mut self, now: Nanos, from: HostAddr, packet: &Packet, payload: u32) {
        let host = self.host;
        self.trace.line(now, || {
            let line = packet.with_payload(payload as usize);
            format!("host {host} got from {}: {line}", host_at(from))
        });
        if let Body::Data(data) = &packet.body {
            let announced = data.incoming.min(data.message_length);
            let key = (packet.header.sender_id.flip(), packet.header.sport);
            let flow = self.flows.entry(key).or_default();
            if flow.received == 0 {
                flow.unscheduled = announced.min(self.unsched_bytes).into();
            }
            flow.top = flow.top.max(announced.into());
            flow.received += u64::from(payload);
            (flow.asked, flow.lost) = (false, false);
        }
    }

    fn sent(&mut self, now: Nanos, to: PeerRef, priority: u8, packet: &Packet, payload: u32) {
        let host = self.host;
        self.trace.line(now, || {
            let line = packet.with_payload(payload as usize);
            format!("host {host} to {} @{priority}: {line}", host_at(to.addr))
        });
        let header = &packet.header;
        if matches!(packet.body, Body::Resend(_))
            && let Some(flow) = self.flows.get_mut(&(header.sender_id, header.dport))
        {
            flow.asked = true;
        }
    }

    // Not when the packet leaves: another RPC may have the same id by then.
    fn granted(&mut self, _now: Nanos, header: &Header, offset: u32) {
        if let Some(flow) = self.flows.get_mut(&(header.sender_id, header.dport)) {
            flow.granted += u64::from(offset).saturating_sub(flow.top);
            flow.top = flow.top.max(offset.into());
            self.has_granted = true;
        }
    }

    fn written_off(&mut self, _now: Nanos, header: &Header) {
        if let Some(flow) = self.flows.get_mut(&(header.sender_id, header.dport)) {
            flow.lost = flow.asked;
        }
    }

    fn rpc_started(&mut self, _now: Nanos, id: RpcId) {
        *self.live.entry(id).or_default() += 1;
    }

    fn rpc_ended(&mut self, now: Nanos, id: RpcId) {
        let host = self.host;
        self.trace.line(now, || format!("host {host} ends RPC {id}"));
        if let Some(count) = self.live.get_mut(&id) {
            *count -= 1;
            if *count == 0 {
                self.live.remove(&id);
            }
        }
        self.flows.retain(|(of, _), _| *of != id);
        self.ended.push(id);
    }
}
