//! What silence means: RESEND, NEED_ACK, giving up (protocol.md section 13), and errors that the
//! network reports (section 15).

use std::net::IpAddr;

use crate::time::Nanos;
use crate::wire::{Body, HomaPort, Packet, Resend};

use super::buffers::{OutMessage, Payload};
use super::event::RpcError;
use super::metrics::Probe;
use super::peer::{PROBE_WINDOW, PendingAck};
use super::rpc::{Rpc, State};
use super::{CUTOFFS_INTERVAL, Transport};

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
    /// Ask for what is missing; this was due then.
    Resend(Nanos),
    /// Ask whether the response has arrived; this was due then.
    NeedAck(Nanos),
    /// The peer is gone.
    GiveUp,
    /// No timer until the next transition.
    Disarm,
}

impl<B: Payload, M: OutMessage, P: Probe> Transport<B, M, P> {
    /// Says that this shard did not run for `stall_ns` until now: its peers were not silent, it was
    /// deaf. Timeouts are pushed back by as much.
    pub fn excuse(&mut self, stall_ns: u64) {
        self.stalled_ns += stall_ns;
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
        let grant_due = self.next_fifo_grant().is_some_and(|due| now >= due);
        let cutoffs_due = self.config.cutoffs_auto && now >= self.next_cutoffs;
        if acks_due || wheel_due || grant_due || cutoffs_due {
            self.do_due(now);
        }
    }

    fn do_due(&mut self, now: Nanos) {
        self.grant_oldest_if_due(now);
        self.flush_acks(now);
        if self.config.cutoffs_auto && now >= self.next_cutoffs {
            self.next_cutoffs = now + CUTOFFS_INTERVAL;
            self.metrics.cutoffs_changed += u64::from(self.cutoffs.recompute());
        }
        let time = self.timer_time(now);
        if !self.wheel.is_behind(time) {
            return;
        }
        if let Some(tombstones) = &mut self.tombstones {
            tombstones.advance(now);
        }
        while let Some(index) = self.wheel.pop(time) {
            self.check_silence(now, index);
        }
    }

    fn grant_oldest_if_due(&mut self, now: Nanos) {
        if self.next_fifo_grant().is_some_and(|due| now >= due) {
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
                let give_up = rpc.quiet_since + Nanos(self.config.timeout_ns);
                let asked = self.request_resend(now, index);
                let interval = Nanos(self.config.resend_interval_ns);
                next_turn(due, time, asked, interval).min(give_up)
            }
            Step::NeedAck(due) => {
                let give_up = rpc.quiet_since + Nanos(self.config.response_keep_ns);
                let asked = self.request_ack(now, index, peer);
                next_turn(due, time, asked, self.need_ack_interval(index)).min(give_up)
            }
        };
        if let Some(rpc) = self.rpcs.get_mut(index) {
            rpc.next_probe = rpc.next_probe.max(next);
        }
        self.wheel.arm(index, next);
    }

    /// Protocol.md section 13.1.
    fn step(&self, index: u32, rpc: &Rpc<B, M>, time: Nanos) -> Step {
        let received_all_granted =
            || rpc.inbound.as_ref().is_some_and(|inb| inb.reassembly.received() >= inb.granted);
        match rpc.state {
            State::ServerInService => return Step::Disarm,
            State::ServerOutgoing => return self.response_step(rpc, time),
            State::ClientOutgoing => {
                // Our own turn to send.
                if rpc.outbound.as_ref().is_some_and(|out| out.is_sendable()) {
                    return Step::Idle;
                }
            }
            State::ClientIncoming | State::ServerIncoming => {
                // Nothing is to come, or there is no room for it.
                if received_all_granted() || !self.goes_on(index) {
                    return Step::Idle;
                }
            }
        }
        let give_up = rpc.quiet_since + Nanos(self.config.timeout_ns);
        if time >= give_up {
            return Step::GiveUp;
        }
        let due = rpc.next_probe.max(rpc.quiet_since + Nanos(self.config.resend_after_ns));
        if time < due { Step::Wait(due.min(give_up)) } else { Step::Resend(due) }
    }

    /// A response, partly or wholly sent. Nobody may hold it forever.
    fn response_step(&self, rpc: &Rpc<B, M>, time: Nanos) -> Step {
        let is_sent = rpc.outbound.as_ref().is_some_and(|out| out.is_sent());
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
        if !is_sent {
            return Step::Wait(give_up);
        }
        let due = rpc.next_probe;
        if time < due { Step::Wait(due.min(give_up)) } else { Step::NeedAck(due) }
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
        let Some(rpc) = self.rpcs.get(index) else { return false };
        let (header, peer) = (rpc.header(), rpc.peer);
        if !self.take_probe(now, peer) {
            return false;
        }
        let Some(inbound) = self.rpcs.get_mut(index).and_then(|rpc| rpc.inbound.as_mut()) else {
            self.send_resend(peer, header, 0, Resend::ALL);
            return true;
        };
        // The first packet of the answer must not look like proof that the rest is lost.
        inbound.gap_watch = None;
        let high = inbound.reassembly.high();
        let tail = (high < inbound.granted).then_some(high..inbound.granted);
        let max = self.config.resends_per_rpc_max as usize;
        let mut wanted = [(0, 0); RESENDS_AT_ONCE];
        let mut count = 0;
        for range in inbound.reassembly.gaps().chain(tail).take(max.min(RESENDS_AT_ONCE)) {
            wanted[count] = (range.start, range.end - range.start);
            count += 1;
        }
        for &(offset, length) in &wanted[..count] {
            self.send_resend(peer, header, offset, length);
        }
        true
    }

    /// Asks for the gaps below `below` of a message that still flows (reference-gaps.md G35).
    pub(super) fn recover_gaps(&mut self, now: Nanos, index: u32, below: u32) {
        let Some(rpc) = self.rpcs.get(index) else { return };
        let (header, peer) = (rpc.header(), rpc.peer);
        if !self.take_probe(now, peer) {
            return;
        }
        let Some(inbound) = self.inbound(index) else { return };
        let mut wanted = [(0, 0); RESENDS_AT_ONCE];
        let mut count = 0;
        let max = (self.config.resends_per_rpc_max as usize).min(RESENDS_AT_ONCE);
        for range in inbound.reassembly.gaps().take_while(|gap| gap.start < below).take(max) {
            wanted[count] = (range.start, range.end - range.start);
            count += 1;
        }
        self.metrics.gap_recoveries += count as u64;
        for &(offset, length) in &wanted[..count] {
            self.send_resend(peer, header, offset, length);
        }
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
    pub fn on_unreachable(&mut self, now: Nanos, addr: IpAddr, what: Unreachable) {
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

/// When to ask again: at a fixed distance from when it was due, so that the lateness of single looks
/// does not add up. Who was held back by the limit of the peer has another try when that is renewed.
fn next_turn(due: Nanos, time: Nanos, asked: bool, interval: Nanos) -> Nanos {
    if !asked {
        return time + PROBE_WINDOW;
    }
    let next = due + interval;
    if next > time { next } else { time + interval }
}

/// RESENDs that one look at an RPC sends at most; more gaps are asked for the next time.
const RESENDS_AT_ONCE: usize = 32;
