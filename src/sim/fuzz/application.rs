//! What the applications of a run do.

use crate::sim::host::{address, host_at};
use crate::sim::packet::{Outgoing, Piece};
use crate::time::Nanos;
use crate::transport::{Event, Message, RefusedReason, RpcHandle};

use super::host::{Held, SERVICE};
use super::world::{Action, World};

impl World<'_> {
    /// Hands to the application of a host what its transport has for it.
    pub(super) fn deliver(&mut self, now: Nanos, index: u16) {
        if self.hosts[usize::from(index)].stuck > 0 {
            return;
        }
        // A request may come after the end of the same in one burst.
        self.note_ended(now, index);
        while let Some(event) = self.hosts[usize::from(index)].transport.poll_event() {
            match event {
                Event::RequestHead { rpc, .. } => self.on_head(now, index, rpc),
                Event::Request { rpc, id, client, message, .. } => {
                    let host = &self.hosts[usize::from(index)];
                    let from = (host_at(client), id);
                    match self.oracle.request(now, (index, host), from, &message) {
                        Some(call) => self.on_request(now, index, rpc, call, message),
                        None => drop(self.hosts[usize::from(index)].transport.abort(now, rpc)),
                    }
                }
                Event::Response { cookie, result, .. } => {
                    let life = self.hosts[usize::from(index)].life;
                    self.trace().line(now, || match &result {
                        Ok(message) => format!("call {cookie} answered, {} B", message.len()),
                        Err(error) => format!("call {cookie} failed: {error}"),
                    });
                    self.oracle.response(now, index, life, cookie, &result);
                    if let Ok(message) = result {
                        let hold_ns = self.oracle.plan(cookie as u32).hold_ns;
                        self.keep(index, hold_ns, message);
                    }
                }
            }
        }
    }

    /// Keeps a message for a time.
    fn keep(&mut self, host: u16, hold_ns: u64, message: Message<Piece<Held>>) {
        if hold_ns > 0 {
            self.later(hold_ns, Action::Drop { host, message });
        }
    }

    fn on_head(&mut self, now: Nanos, index: u16, rpc: RpcHandle) {
        let transport = &mut self.hosts[usize::from(index)].transport;
        let Some(call) = transport.head(rpc).map(|piece| piece.slot) else { return };
        if self.oracle.plan(call).drop_at_head {
            transport.abort(now, rpc);
        }
    }

    fn on_request(
        &mut self,
        now: Nanos,
        host: u16,
        rpc: RpcHandle,
        call: u32,
        message: Message<Piece<Held>>,
    ) {
        self.trace().line(now, || format!("host {host} has the request of call {call}"));
        let plan = self.oracle.plan(call);
        self.keep(host, plan.hold_ns, message);
        let life = self.hosts[usize::from(host)].life;
        match plan.answer_ns {
            Some(0) => self.answer(now, host, rpc, call),
            Some(after_ns) => self.later(after_ns, Action::Answer { host, life, rpc, call }),
            None => drop(self.hosts[usize::from(host)].transport.abort(now, rpc)),
        }
    }

    fn answer(&mut self, now: Nanos, host: u16, rpc: RpcHandle, call: u32) {
        let state = &mut self.hosts[usize::from(host)];
        let response = Outgoing {
            slot: call,
            message: 2 * call + 1,
            length: self.oracle.plan(call).response_bytes,
            segment_bytes: state.plan.segment_bytes,
        };
        let life = state.life;
        match state.transport.reply(now, rpc, response) {
            Ok(()) => self.oracle.answered(call),
            // What was sent before makes room when it is acknowledged.
            Err(refused) if refused.reason == RefusedReason::TooManyOutgoingBytes => {
                self.postpone(Action::Answer { host, life, rpc, call });
            }
            // The RPC has ended.
            Err(_) => {}
        }
    }

    fn call(&mut self, now: Nanos, call: u32) {
        let plan = self.oracle.plan(call);
        let host = &mut self.hosts[usize::from(plan.from)];
        let request = Outgoing {
            slot: call,
            message: 2 * call,
            length: plan.request_bytes,
            segment_bytes: host.plan.segment_bytes,
        };
        let to = address(plan.to);
        let called =
            host.transport.call(now, host.call_port, to, SERVICE, request, u64::from(call));
        match called {
            Ok((handle, id)) => {
                self.oracle.called(call, host.life, handle, id);
                self.trace().line(now, || format!("call {call}: {plan}, RPC {id}"));
                if let Some(after_ns) = plan.abort_ns {
                    self.later(after_ns, Action::Abort(call));
                }
            }
            Err(refused) => self.oracle.refused(now, call, &refused.reason),
        }
    }

    fn abort(&mut self, now: Nanos, call: u32) {
        let from = self.oracle.plan(call).from;
        let host = &mut self.hosts[usize::from(from)];
        let Some(handle) = self.oracle.open_handle(call, host.life) else { return };
        // If it has ended, its event is on the way.
        if host.transport.abort(now, handle) {
            self.oracle.aborted(call);
            self.trace().line(now, || format!("call {call} aborted"));
        }
    }

    /// Does what is up to an application, now or when it runs again.
    pub(super) fn act_in_application(&mut self, action: Action) {
        let now = self.now();
        let index = match &action {
            Action::Call(call) | Action::Abort(call) => self.oracle.plan(*call).from,
            Action::Answer { host, .. } | Action::Drop { host, .. } => *host,
            _ => return,
        };
        let host = &self.hosts[usize::from(index)];
        if host.down > 0 && matches!(action, Action::Call(_)) {
            return;
        }
        if host.off_core > 0 || host.stuck > 0 {
            return self.postpone(action);
        }
        let lives = host.life;
        match action {
            Action::Call(call) => self.call(now, call),
            Action::Abort(call) => self.abort(now, call),
            Action::Answer { host, life, rpc, call } if life == lives => {
                self.answer(now, host, rpc, call);
            }
            Action::Drop { message, .. } => drop(message),
            // An action of a former life.
            _ => {}
        }
        self.wake(index, 0);
    }
}
