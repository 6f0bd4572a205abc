//! What silence means: RESEND, NEED_ACK, giving up (protocol.md section 13), and errors that the
//! network reports (section 15).

use crate::addr::HostAddr;
use crate::time::Nanos;
use crate::wire::{Body, HomaPort, Packet, Resend};

use super::buffers::{OutMessage, Payload};
use super::event::RpcError;
use super::metrics::Probe;
use super::mutation::Mutation;
use super::peer::{PROBE_WINDOW, PendingAck};
use super::rpc::{Inbound, Outbound, Rpc, State};
use super::{CUTOFFS_INTERVAL, CUTOFFS_LOOK_INTERVAL, Transport};

/// What an ICMP message says about a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// Nobody has this port open there; `local` is the port our packet came from.
    Port {
        /// Our port.
        local: HomaPort,
        /// The port at the peer.
        remote: HomaPort,
    },
    /// The host does not speak Homa.
    Protocol,
    /// The host cannot be reached.
    Host,
}

/// What the silence of an RPC calls for.
enum Step {
    /// Nothing is expected of the peer: look again after the usual time.
    Idle,
    /// Look again at this time.
    Wait(Nanos),
    /// Ask for what is missing.
    Resend(Due),
    /// Ask whether the response has arrived.
    NeedAck(Due),
    /// The peer is gone.
    GiveUp,
    /// No timer until the next transition.
    Disarm,
}

/// When to ask.
struct Due {
    /// Now or before.
    at: Nanos,
    /// Later than now: when to ask no more.
    give_up: Nanos,
}

impl<B: Payload, M: OutMessage, P: Probe> Transport<B, M, P> {
    /// Says that this shard did not run for `stall_ns` until `now`: its peers were not silent, it was
    /// deaf. Timeouts are pushed back by as much, and the memory of ended RPCs lasts as much longer.
    /// Of any time there is no more to excuse than has passed.
    pub fn excuse(&mut self, now: Nanos, stall_ns: u64) {
        self.stalled_ns += stall_ns;
        self.stalls.note(self.timer_time(now), stall_ns);
        if stall_ns > self.config.timeout_ns {
            self.fail_forgotten(now);
        }
    }

    /// Gives up the requests that were being started again when the shard stopped running.
    fn fail_forgotten(&mut self, now: Nanos) {
        for index in 0..self.rpcs.bound() {
            let is_forgotten = self.rpcs.get(index).is_some_and(|rpc| {
                let restarted = |out: &Outbound<M>| out.restarted && out.is_sendable();
                rpc.state == State::ClientOutgoing
                    && rpc.outbound.as_ref().is_some_and(restarted)
                    && self.may_be_forgotten(now, rpc.quiet_since)
            });
            if is_forgotten {
                self.fail_client(now, index, RpcError::Timeout);
            }
        }
    }

    /// Whether the server may have forgotten by now that it has executed a request it was last heard
    /// about at `quiet_since`. Its memory does not wait for us: what we have slept through counts. So does
    /// a stall just before, for what was heard then may have waited for us all the time.
    pub(super) fn may_be_forgotten(&self, now: Nanos, quiet_since: Nanos) -> bool {
        let silence_ns = self.timer_time(now).since(quiet_since).0;
        let sent_after = Nanos(quiet_since.0.saturating_sub(self.config.resend_after_ns));
        silence_ns.saturating_add(self.stalls.since(sent_after)) > self.config.timeout_ns
    }

    /// The time that timeouts are measured in: without stalls of our own.
    #[inline]
    pub(super) fn timer_time(&self, now: Nanos) -> Nanos {
        Nanos(now.0.saturating_sub(self.stalled_ns))
    }

    /// Does what has become due. Cheap when nothing has.
    #[inline]
    pub fn on_timer(&mut self, now: Nanos) {
        let acks_due =
            self.ack_flushes.front().is_some_and(|&(_, since)| now >= self.ack_due(since));
        let wheel_due = self.wheel.is_behind(self.timer_time(now));
        let grant_due = self.next_grant_look().is_some_and(|due| now >= due);
        let cutoffs_due = self.config.cutoffs_auto && now >= self.next_cutoffs;
        if acks_due || wheel_due || grant_due || cutoffs_due {
            self.do_due(now);
        }
    }

    fn do_due(&mut self, now: Nanos) {
        self.grant_oldest_if_due(now);
        self.flush_acks(now);
        if self.config.cutoffs_auto && now >= self.next_cutoffs {
            self.update_cutoffs(now);
        }
        let time = self.timer_time(now);
        if !self.wheel.is_behind(time) {
            return;
        }
        while let Some(index) = self.wheel.pop(time) {
            self.check_silence(now, index);
        }
        self.decide_grants(now);
    }

    fn update_cutoffs(&mut self, now: Nanos) {
        let (changed, interval) = match &mut self.share {
            None => (self.cutoffs.recompute(), CUTOFFS_INTERVAL),
            // Those of the host, from the first shard: soon, so that peers hear of one version.
            Some(share) if self.config.shard > 0 => {
                (share.update_cutoffs(&mut self.cutoffs), CUTOFFS_LOOK_INTERVAL)
            }
            Some(share) => (share.update_cutoffs(&mut self.cutoffs), CUTOFFS_INTERVAL),
        };
        self.next_cutoffs = now + interval;
        self.metrics.cutoffs_changed += u64::from(changed);
    }

    fn grant_oldest_if_due(&mut self, now: Nanos) {
        if self.next_grant_look().is_some_and(|due| now >= due) {
            self.decide_grants(now);
        }
    }

    fn check_silence(&mut self, now: Nanos, index: u32) {
        let time = self.timer_time(now);
        let Some(rpc) = self.rpcs.get(index) else { return };
        let (state, peer) = (rpc.state, rpc.peer);
        let next = match self.step(index, rpc, time) {
            Step::Disarm => return,
            Step::Wait(next) => next,
            Step::Idle => {
                if let Some(rpc) = self.rpcs.get_mut(index) {
                    rpc.quiet_since = time;
                }
                // No message waits for ever for a grant that only its own packets would bring.
                self.grants.reconsider();
                time + Nanos(self.config.resend_after_ns)
            }
            Step::GiveUp => {
                if !state.is_client() {
                    self.metrics.server_timeouts += 1;
                }
                self.give_up(now, index, RpcError::Timeout);
                return;
            }
            Step::Resend(due) => {
                let asked = self.request_resend(now, index);
                if asked {
                    self.write_off_if_lost(now, index);
                }
                let interval = Nanos(self.config.resend_interval_ns);
                due.next_turn(time, asked, interval)
            }
            Step::NeedAck(due) => {
                let asked = self.request_ack(now, index, peer);
                due.next_turn(time, asked, self.need_ack_interval(index))
            }
        };
        if let Some(rpc) = self.rpcs.get_mut(index) {
            rpc.next_probe = rpc.next_probe.max(next);
        }
        self.wheel.arm(index, next);
    }

    /// Protocol.md section 13.1.
    fn step(&self, index: u32, rpc: &Rpc<B, M>, time: Nanos) -> Step {
        let expects_more = || rpc.inbound.as_ref().is_none_or(Inbound::expects_more);
        match rpc.state {
            State::ServerInService => return Step::Disarm,
            State::ServerOutgoing => return self.response_step(rpc, time),
            State::ClientOutgoing => {
                // Our own turn to send. One that is started again must go soon, or not at all: see
                // `may_be_forgotten`.
                if rpc.outbound.as_ref().is_some_and(|out| out.is_sendable() && !out.restarted) {
                    return Step::Idle;
                }
            }
            State::ClientIncoming | State::ServerIncoming => {
                // Nothing is to come, or there is no room for it.
                if !expects_more() || !self.goes_on(index) {
                    return Step::Idle;
                }
            }
        }
        let give_up = rpc.quiet_since + Nanos(self.config.timeout_ns);
        if Mutation::NeverGiveUp.is_on() {
            return Step::Idle;
        }
        if time >= give_up {
            return Step::GiveUp;
        }
        let at = rpc.next_probe.max(rpc.quiet_since + Nanos(self.config.resend_after_ns));
        if time < at { Step::Wait(at.min(give_up)) } else { Step::Resend(Due { at, give_up }) }
    }

    /// A response, partly or wholly sent. Nobody may hold it forever.
    fn response_step(&self, rpc: &Rpc<B, M>, time: Nanos) -> Step {
        let is_sent = rpc.outbound.as_ref().is_some_and(|out| out.is_sent());
        if rpc.outbound.as_ref().is_some_and(|out| out.is_sendable()) {
            // Our own turn to send, however long the link takes.
            return Step::Idle;
        }
        // A client that has the whole response answers NEED_ACK. One that has not may keep us waiting
        // for a grant without a word about this RPC, as long as it is heard of at all.
        let heard = match self.peers.get(rpc.peer) {
            Some(peer) if !is_sent => rpc.quiet_since.max(self.timer_time(peer.last_heard)),
            _ => rpc.quiet_since,
        };
        let give_up = heard + Nanos(self.config.response_keep_ns);
        if time >= give_up {
            return Step::GiveUp;
        }
        // A client that wants more says so long before: one that does not know the RPC any more answers
        // with an ACK, and the rest need not be kept for it.
        let at = match is_sent {
            true => rpc.next_probe,
            false => rpc.next_probe.max(rpc.quiet_since + Nanos(self.config.timeout_ns)),
        };
        if time < at { Step::Wait(at.min(give_up)) } else { Step::NeedAck(Due { at, give_up }) }
    }

    /// NEED_ACKs of one RPC are sent at doubling distances (reference-gaps.md G3).
    fn need_ack_interval(&self, index: u32) -> Nanos {
        let sent = self.rpcs.get(index).map_or(0, |rpc| rpc.need_acks);
        let first = self.config.need_ack_after_ns.min(self.config.need_ack_interval_max_ns);
        let doubled = first.saturating_mul(1 << sent.min(20));
        Nanos(doubled.min(self.config.need_ack_interval_max_ns))
    }

    /// Sends NEED_ACK; says false if the limit of the peer does not allow it now.
    fn request_ack(&mut self, now: Nanos, index: u32, peer: u32) -> bool {
        if !self.take_probe(now, peer) {
            return false;
        }
        let Some(rpc) = self.rpcs.get_mut(index) else { return false };
        rpc.need_acks += 1;
        let header = rpc.header();
        self.send_control(peer, Packet { header, body: Body::NeedAck });
        true
    }

    fn take_probe(&mut self, now: Nanos, peer: u32) -> bool {
        let max = self.config.probes_per_peer_ms_max;
        let taken = self.peers.get_mut(peer).is_some_and(|peer| peer.take_probe(now, max));
        self.metrics.probes_limited += u64::from(!taken);
        taken
    }

    /// Asks for everything missing: one RESEND per gap and one for the tail, or one for all when
    /// nothing has come (protocol.md section 13.2). Says false if the limit of the peer does not
    /// allow it now.
    pub(super) fn request_resend(&mut self, now: Nanos, index: u32) -> bool {
        let Some(rpc) = self.rpcs.get_mut(index) else { return false };
        let (header, peer) = (rpc.header(), rpc.peer);
        if let Some(inbound) = &mut rpc.inbound {
            // The first packet of the answer must not look like proof that the rest is lost.
            inbound.gap_watch = None;
            return self.ask_for_missing(now, index, u32::MAX).is_some();
        }
        let taken = self.take_probe(now, peer);
        if taken {
            self.send_resend(peer, header, 0, Resend::ALL);
        }
        taken
    }

    /// After asking for what is missing: what was asked for before and has not come leaves the budget
    /// to others, and the message waits for a packet before it is granted more. A sender that says no
    /// more than that it is busy could hold the budget for ever.
    fn write_off_if_lost(&mut self, now: Nanos, index: u32) {
        let Some(rpc) = self.rpcs.get_mut(index) else { return };
        let (header, peer) = (rpc.header(), rpc.peer);
        let Some(inbound) = rpc.inbound.as_mut() else { return };
        let before = inbound.incoming();
        if inbound.note_asked() {
            self.probe.written_off(now, &header);
            self.grants.adjust(before, inbound.incoming());
            self.grants.remove(&mut self.peers, peer, index);
        }
    }

    /// Asks for the gaps below `below` of a message that still flows (reference-gaps.md G35).
    pub(super) fn recover_gaps(&mut self, now: Nanos, index: u32, below: u32) {
        let asked = self.ask_for_missing(now, index, below);
        self.metrics.gap_recoveries += asked.unwrap_or(0);
    }

    /// Asks for gaps that begin below `below`, and for the tail if that lies below. Gives the number
    /// of ranges, `None` if the limit of the peer does not allow any now.
    fn ask_for_missing(&mut self, now: Nanos, index: u32, below: u32) -> Option<u64> {
        let rpc = self.rpcs.get(index)?;
        let (header, peer) = (rpc.header(), rpc.peer);
        if !self.take_probe(now, peer) {
            return None;
        }
        let inbound = self.inbound(index)?;
        let tail = inbound.reassembly.high()..inbound.granted;
        let missing = inbound.reassembly.gaps().chain((!tail.is_empty()).then_some(tail));
        let max = (self.config.resends_per_rpc_max as usize).min(RESENDS_AT_ONCE);
        let mut wanted = [(0, 0); RESENDS_AT_ONCE];
        let mut count = 0;
        for range in missing.take_while(|range| range.start < below).take(max) {
            wanted[count] = (range.start, range.end - range.start);
            count += 1;
        }
        for &(offset, length) in &wanted[..count] {
            self.send_resend(peer, header, offset, length);
        }
        Some(count as u64)
    }

    pub(super) fn send_resend(
        &mut self,
        peer: u32,
        header: crate::wire::Header,
        offset: u32,
        length: u32,
    ) {
        let priority = Some(self.config.num_priorities - 1);
        let body = Body::Resend(Resend { offset, length, priority });
        self.send_control(peer, Packet { header, body });
    }

    /// Notes that a response has arrived. The ack rides on the next DATA packet to the peer, or goes
    /// by itself soon.
    pub(super) fn note_ack(&mut self, now: Nanos, peer_index: u32, ack: PendingAck) {
        let Some(peer) = self.peers.get_mut(peer_index) else { return };
        if let Some((header, records)) = peer.add_ack(now, ack) {
            self.send_control(peer_index, Packet { header, body: Body::Ack(records) });
        } else if !peer.ack_flush_queued && self.config.ack_delay_ns != u64::MAX {
            peer.ack_flush_queued = true;
            self.ack_flushes.push_back((peer_index, now));
        }
    }

    pub(super) fn ack_due(&self, since: Nanos) -> Nanos {
        since + Nanos(self.config.ack_delay_ns)
    }

    fn flush_acks(&mut self, now: Nanos) {
        while let Some(&(index, since)) = self.ack_flushes.front() {
            if now < self.ack_due(since) {
                return;
            }
            self.ack_flushes.pop_front();
            let Some(peer) = self.peers.get_mut(index) else { continue };
            // Acks that found packets to ride on in the meantime made room for younger ones.
            if let Some(since) = peer.acks_since()
                && now < since + Nanos(self.config.ack_delay_ns)
            {
                self.ack_flushes.push_back((index, since));
                continue;
            }
            peer.ack_flush_queued = false;
            if let Some((header, records)) = peer.flush_acks() {
                self.metrics.ack_packets_delayed += 1;
                self.send_control(index, Packet { header, body: Body::Ack(records) });
            }
        }
    }

    /// The network reports that packets to `addr` do not arrive. Our RPCs concerned fail at once,
    /// those of the peer are dropped.
    pub fn on_unreachable(&mut self, now: Nanos, addr: HostAddr, what: Unreachable) {
        let Some(peer) = self.peers.find(addr) else { return };
        let error = match what {
            Unreachable::Port { .. } => RpcError::PortUnreachable,
            Unreachable::Protocol => RpcError::ProtocolUnreachable,
            Unreachable::Host => RpcError::HostUnreachable,
        };
        for index in 0..self.rpcs.bound() {
            let concerned = self.rpcs.get(index).is_some_and(|rpc| {
                rpc.peer == peer
                    && match what {
                        Unreachable::Port { local, remote } => {
                            rpc.remote_port == remote && rpc.local_port == local
                        }
                        Unreachable::Protocol | Unreachable::Host => true,
                    }
            });
            if concerned {
                self.give_up(now, index, error);
            }
        }
    }
}

impl Due {
    /// When to ask again: at a fixed distance from when it was due, so that the lateness of single
    /// looks does not add up. Who was held back by the limit of the peer has another try when that is
    /// renewed.
    fn next_turn(&self, time: Nanos, asked: bool, interval: Nanos) -> Nanos {
        let on_time = self.at + interval;
        let next = match asked {
            false => time + PROBE_WINDOW,
            true if on_time > time => on_time,
            true => time + interval,
        };
        next.min(self.give_up)
    }
}

/// RESENDs that one look at an RPC sends at most; more gaps are asked for the next time.
const RESENDS_AT_ONCE: usize = 32;
