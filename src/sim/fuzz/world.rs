//! A run: hosts and applications on a network with faults, from event to event.

use crate::sim::events::{Event, Kind, Picos};
use crate::sim::fabric::{Fabric, PS_PER_NS};
use crate::sim::host::address;
use crate::sim::packet::Piece;
use crate::time::Nanos;
use crate::transport::{Message, Outcome, Payload, RpcHandle, Unreachable};

use super::dice::Dice;
use super::faults::{Fate, Fault, flip_bits};
use super::host::{Arrived, Held, Host, SERVICE};
use super::oracle::Oracle;
use super::plan::{CallPlan, Plan};
use super::report::Report;
use super::trace::Trace;
use super::watch::Watch;

/// Something that will happen at a time.
#[derive(Debug)]
pub(super) enum Action {
    /// A host makes a call of the plan, or one of those made afterwards.
    Call(u32),
    /// The client of a call gives up.
    Abort(u32),
    /// An application answers a request.
    Answer {
        host: u16,
        life: u32,
        rpc: RpcHandle,
        call: u32,
    },
    /// An application drops a message.
    Drop {
        host: u16,
        message: Message<Piece<Held>>,
    },
    /// A packet that was held up comes after all.
    Arrive {
        host: u16,
        arrived: Arrived,
    },
    /// A host is told that a packet of its was for a closed port.
    Unreachable {
        host: u16,
        from: u16,
        what: Unreachable,
    },
    /// A fault begins or ends.
    Begin(usize),
    End(usize),
    /// All RPCs must have ended; some more calls are made.
    Settled,
    /// These must have ended as well.
    Finish,
}

/// Postponed, because its host is stuck, stalled or without memory for it now.
const LATER_NS: u64 = 200_000;

/// Events of a run: some hundred times what the largest need.
const EVENTS_MAX: u64 = 50_000_000;

/// A run under way.
#[derive(Debug)]
pub(super) struct World<'a> {
    plan: &'a Plan,
    pub(super) fabric: Fabric<Held>,
    pub(super) hosts: Vec<Host>,
    pub(super) oracle: Oracle,
    actions: Vec<Option<Action>>,
    dice: Dice,
    now_ps: Picos,
    finished: bool,
    trace: Trace,
    events: u64,
    hash: u64,
}

impl<'a> World<'a> {
    pub(super) fn new(plan: &'a Plan, trace: Trace) -> Self {
        let fabric = Fabric::new(&plan.network, plan.delay_ns, plan.delay_ns, plan.seed);
        let mut world = Self {
            plan,
            fabric,
            hosts: Vec::new(),
            oracle: Oracle::new(plan),
            actions: Vec::new(),
            dice: Dice::new(plan.seed ^ 0x6469_6365),
            now_ps: 0,
            finished: false,
            trace,
            events: 0,
            hash: 0,
        };
        for index in 0..plan.hosts.len() as u16 {
            let host = world.host(index, 0);
            world.hosts.push(host);
        }
        for (call, at) in plan.calls.iter().enumerate() {
            world.at(at.at_ns, Action::Call(call as u32));
        }
        for (fault, at) in plan.faults.iter().enumerate() {
            world.at(at.from_ns, Action::Begin(fault));
        }
        world.at(plan.faults_end_ns + plan.settle_ns(), Action::Settled);
        world
    }

    fn host(&self, index: u16, life: u32) -> Host {
        let plan = &self.plan.hosts[usize::from(index)];
        let seed = Dice::new(self.plan.seed ^ u64::from(index) << 32 ^ u64::from(life)).any();
        let watch = Watch::new(index, &plan.config, self.trace.clone());
        Host::new(plan.clone(), seed, life, watch)
    }

    /// Runs to the end, or to the first violation.
    pub(super) fn run(mut self) -> Report {
        while !self.finished && self.oracle.violation.is_none() && self.step() {}
        Report {
            violation: self.oracle.violation,
            simulated: Nanos(self.now_ps / PS_PER_NS),
            events: self.events,
            packets: self.fabric.counts.sent,
            answered: self.oracle.answered,
            failed: self.oracle.failed,
            executions: self.oracle.executions,
            hash: self.hash,
        }
    }

    pub(super) fn now(&self) -> Nanos {
        Nanos(self.now_ps / PS_PER_NS)
    }

    /// Enters an action for a time.
    pub(super) fn at(&mut self, at_ns: u64, action: Action) {
        let packet = self.actions.len() as u32;
        self.actions.push(Some(action));
        let event = Event { kind: Kind::Arrival, node: 0, packet };
        self.fabric.events.push(at_ns.saturating_mul(PS_PER_NS), event);
    }

    pub(super) fn later(&mut self, after_ns: u64, action: Action) {
        self.at(self.now().0 + after_ns, action);
    }

    fn step(&mut self) -> bool {
        let Some((at_ps, event)) = self.fabric.events.pop() else { return false };
        if self.events > EVENTS_MAX {
            let now = self.now();
            self.oracle.violate(now, "work is bounded", || format!("{EVENTS_MAX} events"));
        }
        self.now_ps = self.now_ps.max(at_ps);
        let Event { kind, node, packet } = event;
        self.events += 1;
        self.hash =
            (self.hash.rotate_left(5) ^ at_ps ^ event.code()).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        match kind {
            Kind::Enqueue => self.fabric.enqueue(at_ps, node, packet),
            Kind::PortFree => self.fabric.port_free(at_ps, node),
            Kind::Receive => self.receive(node, packet),
            Kind::Timer => {
                let host = &mut self.hosts[usize::from(node)];
                // Otherwise an earlier one took its place.
                if host.wake_ps == at_ps {
                    host.wake_ps = Picos::MAX;
                    self.turn(node);
                }
            }
            Kind::Arrival => {
                if let Some(action) = self.actions[packet as usize].take() {
                    self.act(action);
                }
            }
            Kind::Process | Kind::NicFree => unreachable!("not used by fault simulation"),
        }
        true
    }

    // ---- the network -----------------------------------------------------------------------------

    /// A frame has come through the network: faults decide what becomes of it.
    fn receive(&mut self, host: u16, index: u32) {
        let piece = self.fabric.frames.remove(index);
        let frames = &self.fabric.frames;
        let src = frames.label(index).src;
        let mut arrived = Arrived { src, packet: *frames.packet(index), piece };
        let now = self.now();
        let mut fate = Fate::default();
        for fault in &self.plan.faults {
            if (fault.from_ns..fault.until_ns).contains(&now.0) {
                let since_ns = now.0 - fault.from_ns;
                let ends = (arrived.src, host);
                fault.fault.strike(&mut self.dice, since_ns, ends, &arrived.packet, &mut fate);
            }
        }
        if fate.lost {
            self.trace.line(now, || format!("lost on the way to {host}: {}", arrived.packet));
            return;
        }
        if let Some(after_ns) = fate.again_ns {
            let arrived = arrived.clone();
            self.later(fate.delay_ns + after_ns, Action::Arrive { host, arrived });
        }
        if fate.corrupt && !self.corrupt(&mut arrived) {
            return;
        }
        if fate.delay_ns > 0 {
            self.later(fate.delay_ns, Action::Arrive { host, arrived });
        } else {
            self.arrive(host, arrived);
        }
    }

    /// Damages a packet; false if it is not a packet any more.
    fn corrupt(&mut self, arrived: &mut Arrived) -> bool {
        let length = arrived.piece.len();
        if length > 1 && self.dice.flag() {
            // Shortened, it is a packet that carries less: nothing is wrong with what is left.
            let end = self.dice.between(1, u64::from(length) - 1) as u32;
            arrived.piece.narrow(0..end);
            return true;
        }
        let Some(changed) = flip_bits(&mut self.dice, &arrived.packet) else { return false };
        let (now, before) = (self.now(), arrived.packet);
        self.trace.line(now, || format!("corrupted: {before} became {changed}"));
        self.oracle.taint(&before);
        self.oracle.taint(&changed);
        arrived.packet = changed;
        true
    }

    pub(super) fn arrive(&mut self, host: u16, arrived: Arrived) {
        let (now, packet) = (self.now(), arrived.packet);
        if self.hosts[usize::from(host)].arrive(arrived) {
            self.wake(host, self.now_ps);
        } else {
            self.trace.line(now, || format!("no room in host {host} for: {packet}"));
        }
    }

    // ---- the loop of a host ----------------------------------------------------------------------

    /// Sees to it that the loop of a host turns at a time or earlier.
    pub(super) fn wake(&mut self, host: u16, at_ps: Picos) {
        let state = &mut self.hosts[usize::from(host)];
        let at_ps = at_ps.max(self.now_ps);
        if at_ps < state.wake_ps {
            state.wake_ps = at_ps;
            self.fabric.events.push(at_ps, Event { kind: Kind::Timer, node: host, packet: 0 });
        }
    }

    /// One turn, as that of a node: packets, grants, application, timers, sending.
    fn turn(&mut self, index: u16) {
        if !self.hosts[usize::from(index)].is_running() {
            return;
        }
        let now = self.now();
        let mut taken = 0;
        while taken < self.hosts[usize::from(index)].plan.burst_packets {
            let Some(arrived) = self.hosts[usize::from(index)].take_arrival() else { break };
            self.take_in(now, index, arrived);
            taken += 1;
        }
        let host = &mut self.hosts[usize::from(index)];
        host.transport.end_burst(now);
        self.deliver(now, index);
        self.hosts[usize::from(index)].transport.on_timer(now);
        self.deliver(now, index);
        let host = &mut self.hosts[usize::from(index)];
        let next = host.transmit(self.now_ps, index, &mut self.fabric);
        let turn_ps = host.plan.turn_ns * PS_PER_NS;
        let next = if host.has_arrivals() { Some(self.now_ps) } else { next };
        if let Some(next_ps) = next {
            // A turn takes time, so that packets wait for the next one.
            self.wake(index, next_ps.max(self.now_ps + turn_ps));
        }
        self.check(now, index);
    }

    fn take_in(&mut self, now: Nanos, index: u16, arrived: Arrived) {
        let Arrived { src, packet, piece } = arrived;
        let host = &mut self.hosts[usize::from(index)];
        let outcome = host.transport.on_packet(now, address(src), &packet, piece);
        if outcome == Outcome::PortUnreachable {
            // What the host that sent the packet called its port and the other's.
            let (local, remote) = (packet.header.sport, packet.header.dport);
            let what = Unreachable::Port { local, remote };
            self.later(10_000, Action::Unreachable { host: src, from: index, what });
        }
    }

    fn check(&mut self, now: Nanos, index: u16) {
        self.note_ended(now, index);
        let host = &mut self.hosts[usize::from(index)];
        self.oracle.check_host(now, index, host);
        host.transport.probe_mut().has_granted = false;
    }

    pub(super) fn note_ended(&mut self, now: Nanos, index: u16) {
        let host = &mut self.hosts[usize::from(index)];
        let running_ns = host.running_ns(now);
        for id in std::mem::take(&mut host.transport.probe_mut().ended) {
            self.oracle.rpc_ended(id, index, host.life, running_ns);
        }
    }

    // ---- what the plan says ----------------------------------------------------------------------

    fn act(&mut self, action: Action) {
        let now = self.now();
        match action {
            Action::Arrive { host, arrived } => self.arrive(host, arrived),
            Action::Unreachable { host, from, what } => {
                let state = &mut self.hosts[usize::from(host)];
                if state.is_running() {
                    state.transport.on_unreachable(now, address(from), what);
                    self.oracle.note_icmp(host);
                    self.wake(host, self.now_ps);
                }
            }
            Action::Begin(fault) => self.begin(fault),
            Action::End(fault) => self.end(fault),
            Action::Settled => self.settled(),
            Action::Finish => {
                self.oracle.check_settled(now, &self.hosts);
                self.finished = true;
            }
            Action::Call(_) | Action::Abort(_) | Action::Answer { .. } | Action::Drop { .. } => {
                self.act_in_application(action);
            }
        }
    }

    /// Every RPC has ended. The service must be as good as new.
    fn settled(&mut self) {
        let now = self.now();
        self.oracle.check_settled(now, &self.hosts);
        self.oracle.check_nobody_gave_up(now, &self.hosts);
        self.oracle.be_calm();
        let hosts = self.hosts.len() as u16;
        let mut longest_ns = 0;
        for from in 0..hosts {
            let call = CallPlan {
                at_ns: now.0,
                from,
                to: (from + 1) % hosts,
                request_bytes: 3_000,
                response_bytes: 100,
                abort_ns: None,
                answer_ns: Some(0),
                drop_at_head: false,
                hold_ns: 0,
            };
            let call = self.oracle.add_call(call);
            self.at(now.0, Action::Call(call));
            let config = &self.plan.hosts[usize::from(from)].config;
            longest_ns = longest_ns.max(config.timeout_ns + config.response_keep_ns);
        }
        self.later(longest_ns + 1_000_000, Action::Finish);
    }

    fn begin(&mut self, index: usize) {
        let now = self.now();
        let plan = self.plan.faults[index];
        self.trace.line(now, || format!("fault begins: {plan}"));
        match plan.fault {
            Fault::Crash { host } => self.crash(host),
            Fault::Stall { host } => self.hosts[usize::from(host)].leave_core(now),
            Fault::Stuck { host } => self.hosts[usize::from(host)].stuck += 1,
            Fault::PortClosed { host } => {
                let state = &mut self.hosts[usize::from(host)];
                state.port_closed += 1;
                if state.down == 0 {
                    state.transport.close_port(now, SERVICE);
                    self.oracle.check_port_closed(now, host, state);
                    self.note_ended(now, host);
                }
                self.oracle.note_closed_port(host);
                self.wake(host, self.now_ps);
            }
            _ => return,
        }
        self.at(plan.until_ns.max(now.0 + 1), Action::End(index));
    }

    fn end(&mut self, index: usize) {
        let now = self.now();
        let plan = self.plan.faults[index];
        self.trace.line(now, || format!("fault ends: {plan}"));
        let host = match plan.fault {
            Fault::Crash { host } => {
                let state = &mut self.hosts[usize::from(host)];
                state.down -= 1;
                if state.down == 0 && state.port_closed > 0 {
                    state.transport.close_port(now, SERVICE);
                }
                host
            }
            Fault::Stall { host } => {
                self.hosts[usize::from(host)].return_to_core(now);
                host
            }
            Fault::Stuck { host } => {
                self.hosts[usize::from(host)].stuck -= 1;
                host
            }
            Fault::PortClosed { host } => {
                let state = &mut self.hosts[usize::from(host)];
                state.port_closed -= 1;
                if state.down == 0 && state.port_closed == 0 {
                    state.transport.open_server_port(SERVICE);
                }
                host
            }
            _ => return,
        };
        self.wake(host, self.now_ps);
    }

    /// Host and application are gone with all they knew. The next life begins when the fault ends;
    /// its faults that are in force go on.
    fn crash(&mut self, index: u16) {
        let now = self.now();
        let next = self.host(index, self.hosts[usize::from(index)].life + 1);
        let host = &mut self.hosts[usize::from(index)];
        let account = host.buffer_account();
        let old = std::mem::replace(host, next);
        host.resume_faults_of(&old);
        host.down += 1;
        drop(old);
        for action in &mut self.actions {
            if let Some(Action::Drop { host, .. } | Action::Answer { host, .. }) = action
                && *host == index
            {
                *action = None;
            }
        }
        self.oracle.forget_calls_of(index);
        self.oracle.check_gone(now, index, account.get());
    }

    pub(super) fn postpone(&mut self, action: Action) {
        self.later(LATER_NS, action);
    }

    pub(super) fn trace(&self) -> &Trace {
        &self.trace
    }
}
