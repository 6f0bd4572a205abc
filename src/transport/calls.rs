//! The application's verbs: ports, call, reply, abort.

use crate::addr::HostAddr;
use crate::time::Nanos;
use crate::wire::{Body, HomaPort, Packet, RpcId};

use super::buffers::{OutMessage, Payload, TxSink};
use super::event::{Refused, RefusedReason, RpcError, RpcHandle};
use super::metrics::Probe;
use super::mutation::Mutation;
use super::rpc::{Outbound, Rpc, State};
use super::slab::Handle;
use super::tombstones::Place;
use super::transmit::unsched_limit;
use super::{PLACE_SHIFT, SEQUENCE_MASK, SHARD_SHIFT, Transport};

impl<B: Payload, M: OutMessage, P: Probe> Transport<B, M, P> {
    /// Opens `port` for requests from peers (and for calls). False if it is open already, or 0.
    pub fn open_server_port(&mut self, port: HomaPort) -> bool {
        self.ports.open(port, true)
    }

    /// Opens a free port at or above 32768 for calls; `None` when all are open.
    pub fn open_client_port(&mut self) -> Option<HomaPort> {
        self.ports.open_any()
    }

    /// Opens `port` for calls. False if it is open already, or 0.
    pub fn open_call_port(&mut self, port: HomaPort) -> bool {
        self.ports.open(port, false)
    }

    /// Closes `port` and ends its RPCs: those started here fail with [`RpcError::PortClosed`], and
    /// their servers are told.
    pub fn close_port(&mut self, now: Nanos, port: HomaPort) {
        if !self.ports.close(port) || Mutation::LeavePortOpen.is_on() {
            return;
        }
        for index in 0..self.rpcs.bound() {
            if self.rpcs.get(index).is_some_and(|rpc| rpc.local_port == port) {
                self.announce_abort(index);
                self.give_up(now, index, RpcError::PortClosed);
            }
        }
    }

    /// Starts an RPC from `port` to `dst_port` at `dst`. The response, or the reason why there is
    /// none, comes as an [`Event::Response`](super::Event::Response) with `cookie`.
    pub fn call(
        &mut self,
        now: Nanos,
        port: HomaPort,
        dst: HostAddr,
        dst_port: HomaPort,
        message: M,
        cookie: u64,
    ) -> Result<(RpcHandle, RpcId), Refused<M>> {
        let (handle, id) = self.start_call(now, port, dst, dst_port, message, cookie)?;
        self.queue_call(now, handle);
        Ok((RpcHandle(handle), id))
    }

    /// As [`Transport::call`]; but a request of one packet goes to `sink` at once if it would be the
    /// next to go anyway, which spares it the queue.
    #[expect(clippy::too_many_arguments, reason = "those of `call`, and where packets go")]
    pub fn call_through(
        &mut self,
        now: Nanos,
        port: HomaPort,
        dst: HostAddr,
        dst_port: HomaPort,
        message: M,
        cookie: u64,
        sink: &mut impl TxSink<M>,
    ) -> Result<(RpcHandle, RpcId), Refused<M>> {
        let (handle, id) = self.start_call(now, port, dst, dst_port, message, cookie)?;
        if !self.send_now(now, handle, sink) {
            self.queue_call(now, handle);
        }
        Ok((RpcHandle(handle), id))
    }

    fn queue_call(&mut self, now: Nanos, handle: Handle) {
        let probe = self.timer_time(now) + Nanos(self.config.resend_after_ns);
        self.wheel.arm(handle.index, probe);
        self.start_sending(handle);
    }

    fn start_call(
        &mut self,
        now: Nanos,
        port: HomaPort,
        dst: HostAddr,
        dst_port: HomaPort,
        message: M,
        cookie: u64,
    ) -> Result<(Handle, RpcId), Refused<M>> {
        let (id, peer) = match self.admit_call(now, port, dst, &message) {
            Ok(admitted) => admitted,
            Err(reason) => {
                self.metrics.refused_calls += 1;
                return Err(Refused { reason, message });
            }
        };
        let mut outbound =
            Outbound::new(message, unsched_limit(&self.config, &self.peers, peer), now);
        let incast_rpcs_min = self.config.incast_rpcs_min;
        outbound.incast = incast_rpcs_min > 0 && self.client_count >= incast_rpcs_min;
        self.request_bytes += u64::from(outbound.length);
        self.metrics.message_bytes_started += u64::from(outbound.length);
        let quiet_since = self.timer_time(now);
        let next_probe = quiet_since + Nanos(self.config.resend_after_ns);
        let rpc = Rpc {
            id,
            peer,
            local_port: port,
            remote_port: dst_port,
            state: State::ClientOutgoing,
            cookie,
            outbound: Some(outbound),
            inbound: None,
            quiet_since,
            next_probe,
            need_acks: 0,
            incast: false,
            hash: 0,
            tombstone: Place::default(),
        };
        // `admit_call` has seen that there is room, so this is never refused.
        let handle = self.insert_rpc(now, rpc).expect("room for one more RPC");
        Ok((handle, id))
    }

    fn admit_call(
        &mut self,
        now: Nanos,
        port: HomaPort,
        dst: HostAddr,
        message: &M,
    ) -> Result<(RpcId, u32), RefusedReason> {
        let reason = if !self.ports.is_open(port) {
            Some(RefusedReason::PortNotOpen)
        } else if self.client_count >= self.config.client_rpcs_max {
            Some(RefusedReason::TooManyRpcs)
        } else if self.ledger.retained() > self.retained_full() {
            Some(RefusedReason::ReceiveBuffersLow)
        } else {
            self.refuse_message(message, self.request_bytes)
        };
        if let Some(reason) = reason {
            return Err(reason);
        }
        let id = self.next_rpc_id().ok_or(RefusedReason::TooManyRpcs)?;
        let peer = self.peers.find_or_insert(dst, now).ok_or(RefusedReason::TooManyPeers)?;
        Ok((id, peer))
    }

    fn refuse_message(&self, message: &M, held_bytes: u64) -> Option<RefusedReason> {
        let length = message.len();
        if length == 0 || length > self.config.message_max_bytes {
            Some(RefusedReason::BadLength(length))
        } else if held_bytes >= self.config.outgoing_max_bytes {
            Some(RefusedReason::TooManyOutgoingBytes)
        } else {
            None
        }
    }

    /// The id that the next successful call will get: shard byte, place in the table, a sequence per
    /// place with a random start, role bit 0 (multicore.md section 4.2; the place in the id makes the
    /// look-up of a response an array access). `None` when the table is full.
    pub fn next_rpc_id(&self) -> Option<RpcId> {
        let handle = self.rpcs.next_handle()?;
        let start = self.id_seed.hash(handle.index.into(), 0);
        // Never 0, which would make id 0 on place 0 of shard 0: that means "no ack".
        let sequence = (start.wrapping_add(handle.generation.into()) & SEQUENCE_MASK).max(1);
        let place = u64::from(handle.index) << PLACE_SHIFT;
        Some(RpcId(u64::from(self.config.shard) << SHARD_SHIFT | place | sequence << 1))
    }

    /// Answers a request. A message for an RPC that has ended comes back as refused; that is normal
    /// when the client has given up.
    pub fn reply(&mut self, now: Nanos, rpc: RpcHandle, message: M) -> Result<(), Refused<M>> {
        self.start_reply(now, rpc, message)?;
        self.queue_reply(now, rpc.0);
        Ok(())
    }

    /// As [`Transport::reply`]; but a response of one packet goes to `sink` at once if it would be the
    /// next to go anyway, which spares it the queue.
    pub fn reply_through(
        &mut self,
        now: Nanos,
        rpc: RpcHandle,
        message: M,
        sink: &mut impl TxSink<M>,
    ) -> Result<(), Refused<M>> {
        self.start_reply(now, rpc, message)?;
        if !self.send_now(now, rpc.0, sink) {
            self.queue_reply(now, rpc.0);
        }
        Ok(())
    }

    fn queue_reply(&mut self, now: Nanos, handle: Handle) {
        let look_ns = self.config.timeout_ns.min(self.config.response_keep_ns);
        self.wheel.arm(handle.index, self.timer_time(now) + Nanos(look_ns));
        self.start_sending(handle);
    }

    fn start_reply(&mut self, now: Nanos, rpc: RpcHandle, message: M) -> Result<(), Refused<M>> {
        if self.response_bytes >= self.config.outgoing_max_bytes {
            // Acks that have come in may make room.
            self.settle_acks(now);
        }
        if let Some(reason) = self.refuse_message(&message, self.response_bytes) {
            return Err(Refused { reason, message });
        }
        // Looked at here so that the response is written where it stays.
        let awaits =
            |rpc: &&mut Rpc<B, M>| rpc.state == State::ServerInService && rpc.outbound.is_none();
        let Some(entry) = self.rpcs.resolve_mut(rpc.0).filter(awaits) else {
            return Err(Refused { reason: RefusedReason::NotInService, message });
        };
        let unsched_bytes = unsched_limit(&self.config, &self.peers, entry.peer);
        let length = message.len();
        let outbound = entry.outbound.insert(Outbound::new(message, unsched_bytes, now));
        if entry.incast && length > self.config.incast_unsched_bytes {
            self.metrics.responses_announced += 1;
            outbound.wait_for_grants();
        }
        self.response_bytes += u64::from(length);
        self.metrics.message_bytes_started += u64::from(length);
        self.metrics.server_responses += 1;
        entry.state = State::ServerOutgoing;
        entry.quiet_since = Nanos(now.0.saturating_sub(self.stalled_ns));
        entry.need_acks = 0;
        Ok(())
    }

    /// Gives up an RPC without an event. False if it has ended already. The client of a request
    /// that is never answered times out.
    pub fn abort(&mut self, now: Nanos, rpc: RpcHandle) -> bool {
        let Some(index) = self.rpcs.resolve(rpc.0) else { return false };
        self.announce_abort(index);
        self.end_rpc(now, index);
        true
    }

    /// Tells the server of one of our RPCs that it need not go on (reference-gaps.md G62).
    fn announce_abort(&mut self, index: u32) {
        if !self.config.announce_aborts {
            return;
        }
        let Some(rpc) = self.rpcs.get(index).filter(|rpc| rpc.state.is_client()) else { return };
        let (peer, header) = (rpc.peer, rpc.header());
        self.send_control(peer, Packet { header, body: Body::RpcUnknown });
    }
}
