//! What must be true whatever happens, and the memory needed to tell.

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};

use crate::sim::packet::{Contents, Piece};
use crate::time::Nanos;
use crate::transport::{Message, Payload, RpcError, RpcHandle};
use crate::wire::{Body, Packet, RpcId};

use super::host::{Held, Host};
use super::plan::{CallPlan, Plan};

/// A rule and how it was broken.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Simulated time.
    pub at: Nanos,
    /// The rule, in a few words that stay the same.
    pub rule: &'static str,
    /// What happened.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, rule, detail } = self;
        write!(f, "at {at}: {rule}: {detail}")
    }
}

/// A delivery of a request to an application.
#[derive(Clone, Copy, Debug)]
struct Execution {
    /// The life of the server in which it happened.
    life: u32,
    /// When the RPC ended there, in time that the server ran.
    ended_ns: Option<u64>,
}

/// Where a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Planned,
    Open { life: u32, handle: RpcHandle },
    Ended,
}

#[derive(Debug)]
struct Call {
    plan: CallPlan,
    phase: Phase,
    id: RpcId,
    executions: Vec<Execution>,
    answered: bool,
}

/// Knows all calls.
#[derive(Debug)]
pub(super) struct Oracle {
    calls: Vec<Call>,
    by_id: BTreeMap<RpcId, u32>,
    /// When server RPCs ended last, by host, life and client id, in time that the host ran.
    ends: BTreeMap<(u16, u32, RpcId), u64>,
    /// Client ids that corrupted packets named or lost: nothing is promised about their content.
    tainted: BTreeSet<RpcId>,
    is_calm: bool,
    /// Corrupted packets do not tell the account of grants from outside what they tell the transport.
    checks_grants: bool,
    /// Hosts that were told that a port is closed.
    icmp_to: BTreeSet<u16>,
    closed_ports: BTreeSet<u16>,
    largest_message_packets: u32,
    pub(super) violation: Option<Violation>,
    pub(super) answered: u64,
    pub(super) failed: u64,
    pub(super) executions: u64,
}

impl Oracle {
    pub(super) fn new(plan: &Plan) -> Self {
        let call = |plan: &CallPlan| Call {
            plan: plan.clone(),
            phase: Phase::Planned,
            id: RpcId(0),
            executions: Vec::new(),
            answered: false,
        };
        let longest = plan.calls.iter().map(|call| call.request_bytes.max(call.response_bytes));
        let shortest = plan.hosts.iter().map(|host| host.segment_bytes).min().unwrap_or(1);
        Self {
            calls: plan.calls.iter().map(call).collect(),
            by_id: BTreeMap::new(),
            ends: BTreeMap::new(),
            tainted: BTreeSet::new(),
            is_calm: plan.is_calm,
            checks_grants: !plan.has_corruption(),
            icmp_to: BTreeSet::new(),
            closed_ports: BTreeSet::new(),
            largest_message_packets: longest.max().unwrap_or(1).div_ceil(shortest),
            violation: None,
            answered: 0,
            failed: 0,
            executions: 0,
        }
    }

    /// Only the first violation counts: what follows may come from it.
    pub(super) fn violate(
        &mut self,
        at: Nanos,
        rule: &'static str,
        detail: impl FnOnce() -> String,
    ) {
        if self.violation.is_none() {
            self.violation = Some(Violation { at, rule, detail: detail() });
        }
    }

    /// Takes in a call that is not of the plan and must succeed; gives its number.
    pub(super) fn add_call(&mut self, plan: CallPlan) -> u32 {
        let phase = Phase::Planned;
        let executions = Vec::new();
        self.calls.push(Call { plan, phase, id: RpcId(0), executions, answered: false });
        (self.calls.len() - 1) as u32
    }

    pub(super) fn plan(&self, call: u32) -> CallPlan {
        self.calls[call as usize].plan.clone()
    }

    /// The client `id` of a corrupted packet, or one that it lost.
    pub(super) fn taint(&mut self, packet: &Packet) {
        self.tainted.insert(RpcId(packet.header.sender_id.0 & !1));
        match &packet.body {
            Body::Data(data) => self.tainted.extend(data.ack.map(|ack| ack.client_id)),
            Body::Ack(ack) => self.tainted.extend(ack.iter().map(|ack| ack.client_id)),
            _ => {}
        }
    }

    fn is_tainted(&self, id: RpcId) -> bool {
        self.tainted.contains(&id)
    }

    pub(super) fn note_icmp(&mut self, host: u16) {
        self.icmp_to.insert(host);
    }

    pub(super) fn note_closed_port(&mut self, host: u16) {
        self.closed_ports.insert(host);
    }

    // ---- clients ---------------------------------------------------------------------------------

    pub(super) fn called(&mut self, call: u32, life: u32, handle: RpcHandle, id: RpcId) {
        self.calls[call as usize].phase = Phase::Open { life, handle };
        self.calls[call as usize].id = id;
        self.by_id.insert(id, call);
    }

    pub(super) fn refused(&mut self, now: Nanos, call: u32, why: &dyn fmt::Display) {
        self.calls[call as usize].phase = Phase::Ended;
        if self.is_calm {
            self.violate(now, "calm calls succeed", || format!("call {call} refused: {why}"));
        }
    }

    /// The handle of a call that is open in this life of its host.
    pub(super) fn open_handle(&self, call: u32, life: u32) -> Option<RpcHandle> {
        match self.calls[call as usize].phase {
            Phase::Open { life: of, handle } if of == life => Some(handle),
            _ => None,
        }
    }

    pub(super) fn aborted(&mut self, call: u32) {
        self.calls[call as usize].phase = Phase::Ended;
    }

    /// A host goes down: its calls are forgotten.
    pub(super) fn forget_calls_of(&mut self, host: u16) {
        for call in self.calls.iter_mut().filter(|call| call.plan.from == host) {
            if matches!(call.phase, Phase::Open { .. }) {
                call.phase = Phase::Ended;
            }
        }
    }

    /// A call has ended with an event.
    pub(super) fn response(
        &mut self,
        now: Nanos,
        host: u16,
        life: u32,
        cookie: u64,
        result: &Result<Message<Piece<Held>>, RpcError>,
    ) {
        let call = cookie as u32;
        let Some(state) = self.calls.get_mut(cookie as usize) else {
            return self.violate(now, "one end per call", || format!("unknown cookie {cookie}"));
        };
        let was = core::mem::replace(&mut state.phase, Phase::Ended);
        let (id, answered) = (state.id, state.answered);
        let expected = state.plan.response_bytes;
        if !matches!(was, Phase::Open { life: of, .. } if of == life) || state.plan.from != host {
            return self.violate(now, "one end per call", || {
                format!("host {host} was told of the end of call {call}, which was {was:?}")
            });
        }
        let tainted = self.is_tainted(id);
        match result {
            Ok(message) => {
                self.answered += 1;
                if !answered && !tainted {
                    self.violate(now, "no response for nothing", || format!("call {call}"));
                }
                if !tainted && !is_message(message, 2 * call + 1, expected) {
                    self.violate(now, "bytes intact", || format!("response of call {call}"));
                }
            }
            Err(error) => {
                self.failed += 1;
                self.check_error(now, host, call, *error, tainted);
            }
        }
    }

    fn check_error(&mut self, now: Nanos, host: u16, call: u32, error: RpcError, tainted: bool) {
        if self.is_calm {
            self.violate(now, "calm calls succeed", || format!("call {call}: {error}"));
        }
        let has_cause = match error {
            RpcError::Timeout => true,
            RpcError::PortClosed => self.closed_ports.contains(&host),
            RpcError::PortUnreachable => self.icmp_to.contains(&host),
            RpcError::BadResponseLength(_) => tainted,
            _ => false,
        };
        if !has_cause {
            self.violate(now, "errors have a cause", || format!("call {call}: {error}"));
        }
    }

    // ---- servers ---------------------------------------------------------------------------------

    /// A request has come to an application. Gives its call, if it is one that can be told.
    pub(super) fn request(
        &mut self,
        now: Nanos,
        (index, host): (u16, &Host),
        (client, id): (u16, RpcId),
        message: &Message<Piece<Held>>,
    ) -> Option<u32> {
        let tainted = self.is_tainted(id);
        let Some(&call) = self.by_id.get(&id) else {
            if !tainted {
                self.violate(now, "no request for nothing", || format!("RPC {id} at {index}"));
            }
            return None;
        };
        self.executions += 1;
        let plan = &self.calls[call as usize].plan;
        let (to, from, expected) = (plan.to, plan.from, plan.request_bytes);
        if (to, from) != (index, client) && !tainted {
            self.violate(now, "no request for nothing", || {
                format!("call {call} from {from} to {to} came from {client} to {index}")
            });
        }
        if !tainted && !is_message(message, 2 * call, expected) {
            self.violate(now, "bytes intact", || format!("request of call {call}"));
        }
        self.check_once(now, call, host, tainted);
        // An application that was slow may hear of a request whose RPC has ended in the meantime.
        let has_ended = !host.transport.probe().is_live(id.flip());
        let end = self.ends.get(&(index, host.life, id)).copied();
        let execution = Execution { life: host.life, ended_ns: end.filter(|_| has_ended) };
        self.calls[call as usize].executions.push(execution);
        Some(call)
    }

    /// A server that remembers ended RPCs for a time delivers no request twice while that time, on
    /// its own core, has not passed since the RPC ended there. If that is four times as long as a client
    /// tries, which is longer than the network of a plan holds packets up, it does so never.
    fn check_once(&mut self, now: Nanos, call: u32, host: &Host, tainted: bool) {
        let keep_ns = host.plan.config.tombstone_keep_ns;
        let running_ns = host.running_ns(now);
        let executions = &self.calls[call as usize].executions;
        let again = executions.iter().rfind(|earlier| earlier.life == host.life);
        let Some(earlier) = again.copied() else { return };
        let lasts = |ended| running_ns - ended <= keep_ns;
        let remembers = keep_ns > 0 && earlier.ended_ns.is_none_or(lasts);
        let for_good = keep_ns >= 4 * host.plan.config.timeout_ns;
        if (remembers || for_good) && !tainted {
            self.violate(now, "no request twice", || match earlier.ended_ns {
                None => format!("call {call} while the first is open"),
                Some(ended) => {
                    format!("call {call}, {} us after its end", (running_ns - ended) / 1_000)
                }
            });
        }
    }

    /// An RPC has left the tables of a host.
    pub(super) fn rpc_ended(&mut self, id: RpcId, host: u16, life: u32, running_ns: u64) {
        if id.is_client() {
            return;
        }
        self.ends.insert((host, life, id.flip()), running_ns);
        let Some(&call) = self.by_id.get(&id.flip()) else { return };
        let executions = self.calls[call as usize].executions.iter_mut();
        let open = executions.rev().find(|execution| execution.life == life);
        if let Some(execution) = open
            && execution.ended_ns.is_none()
        {
            execution.ended_ns = Some(running_ns);
        }
    }

    pub(super) fn answered(&mut self, call: u32) {
        self.calls[call as usize].answered = true;
    }

    // ---- everybody -------------------------------------------------------------------------------

    /// After each turn of a host.
    pub(super) fn check_host(&mut self, now: Nanos, index: u16, host: &Host) {
        let occupancy = host.transport.occupancy();
        let config = &host.plan.config;
        let in_use = host.buffers_in_use();
        if occupancy.retained_packets != in_use {
            self.violate(now, "buffers are accounted for", || {
                let counted = occupancy.retained_packets;
                format!("host {index} counts {counted} packet buffers, {in_use} are in use")
            });
        }
        // What has been begun may go on where it must, see `Transport`: the next message in the order
        // of grants and one more. Single packets of RPCs that were let in come on top.
        let excess = 2 * self.largest_message_packets
            + config.client_rpcs_max.max(config.server_rpcs_max) as u32;
        let most = config.retained_packets_max.saturating_add(excess);
        if in_use > most {
            self.violate(now, "buffers within budget", || {
                format!("host {index}: {in_use} of {most}")
            });
        }
        // As much for requests as for responses, and checked before a message: one may go beyond.
        let outgoing_max = 2 * (config.outgoing_max_bytes + 1_000_000);
        let within = occupancy.client_rpcs <= config.client_rpcs_max
            && occupancy.server_rpcs <= config.server_rpcs_max
            && occupancy.peers <= config.peers_max
            && occupancy.outgoing_bytes <= outgoing_max;
        if !within {
            self.violate(now, "tables within limits", || format!("host {index}: {occupancy:?}"));
        }
        let watch = host.transport.probe();
        let granted = watch.granted_bytes();
        let checks = self.checks_grants && watch.has_granted;
        if checks && granted > config.incoming_max_bytes.into() {
            self.violate(now, "grants within budget", || {
                format!("host {index}: {granted} of {}", config.incoming_max_bytes)
            });
        }
    }

    /// At the end: no call is open, no table holds anything.
    pub(super) fn check_settled(&mut self, now: Nanos, hosts: &[Host]) {
        let is_open = |call: &Call| matches!(call.phase, Phase::Open { .. });
        if let Some(open) = self.calls.iter().position(is_open) {
            let CallPlan { from, to, .. } = self.calls[open].plan;
            let left = [from, to].map(|host| hosts[usize::from(host)].transport.occupancy());
            self.violate(now, "every call ends", || {
                format!(
                    "call {open} is open, client {from}: {:?}, server {to}: {:?}",
                    left[0], left[1]
                )
            });
        }
        for (index, host) in hosts.iter().enumerate() {
            let left = host.transport.occupancy();
            let holds = left.client_rpcs + left.server_rpcs + left.grantable > 0
                || left.retained_packets > 0
                || left.incoming_bytes > 0
                || left.outgoing_bytes > 0;
            if holds {
                self.violate(now, "tables end empty", || format!("host {index}: {left:?}"));
            }
            let in_use = host.buffers_in_use();
            if in_use > 0 {
                self.violate(now, "buffers return", || format!("host {index}: {in_use} in use"));
            }
        }
    }

    /// A host is gone: all its buffers must have come back with it.
    pub(super) fn check_gone(&mut self, now: Nanos, index: u16, in_use: u32) {
        if in_use > 0 {
            self.violate(now, "buffers return", || format!("host {index} down, {in_use} in use"));
        }
    }

    /// In a calm run nothing is left to a timeout: every response is acknowledged.
    pub(super) fn check_nobody_gave_up(&mut self, now: Nanos, hosts: &[Host]) {
        if !self.is_calm {
            return;
        }
        for (index, host) in hosts.iter().enumerate() {
            let given_up = host.transport.metrics().server_timeouts;
            if given_up > 0 {
                self.violate(now, "calm runs need no timeout", || {
                    format!("host {index} gave up {given_up} RPCs")
                });
            }
        }
    }

    /// A port is closed: nothing of it is left but, on a host that calls from others, its own calls.
    pub(super) fn check_port_closed(&mut self, now: Nanos, index: u16, host: &Host) {
        let left = host.transport.occupancy();
        let calls = if host.plan.one_port { left.client_rpcs } else { 0 };
        if left.server_rpcs + calls > 0 {
            self.violate(now, "a closed port has no RPCs", || format!("host {index}: {left:?}"));
        }
    }

    /// From here on every call must succeed.
    pub(super) fn be_calm(&mut self) {
        self.is_calm = true;
    }
}

/// Whether this is message `number`, of so many bytes, in order and unchanged.
fn is_message(message: &Message<Piece<Held>>, number: u32, bytes: u32) -> bool {
    let mut end = 0;
    message.payloads().all(|piece| {
        let start = end;
        end += piece.len();
        piece.message == number
            && piece.start == start
            && piece.contents.is_intact(number, start..end)
    }) && end == bytes
        && message.len() == bytes as usize
}
