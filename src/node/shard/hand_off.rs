//! Requests that this shard hands to others and takes from them, and their answers.

use std::rc::Rc;

use crate::time::Nanos;
use crate::transport::{Event, Refused, RefusedReason, RpcHandle};

use super::super::app::{App, Request, Responder};
use super::super::hand_off::{Answer, Handed, Home};
use super::super::outgoing::SendOutgoing;
use super::super::payload::{PacketBytes, SendPacketBytes};
use super::Shard;

impl<A: App> Shard<'_, A> {
    /// Hands a request to another shard, if there is one for it; else gives it back.
    #[cold]
    pub(super) fn hand_off(&mut self, event: Event<PacketBytes>) -> Option<Event<PacketBytes>> {
        let (Some(desk), Event::Request { .. }) = (&mut self.desk, &event) else {
            return Some(event);
        };
        let (to, is_full) = desk.choose();
        self.stats.hand_offs_full += u64::from(is_full);
        let Some(to) = to else { return Some(event) };
        let Event::Request { rpc, id, client, client_port, port, message, .. } = event else {
            return None;
        };
        let message = message.loosen().map(PacketBytes::into_send);
        let request = Handed { rpc, id, client, client_port, port, message };
        match desk.hand_over(to, request) {
            Ok(()) => self.stats.handed_out += 1,
            Err(request) => {
                // It stays in the account once.
                let packets = request.message.packets();
                let message = self.transport.adopt(request.message.map(SendPacketBytes::open));
                self.transport.settle_loose(packets);
                // Handed over or not, the application was asked before.
                let is_head_due = false;
                return Some(Event::Request {
                    rpc,
                    id,
                    client,
                    client_port,
                    port,
                    message,
                    is_head_due,
                });
            }
        }
        None
    }

    /// Takes answers to what was handed out, and what others hand to us. Gives the number of both.
    pub(super) fn exchange(&mut self, now: Nanos) -> usize {
        let shards = self.desk.as_ref().map_or(0, |desk| desk.shards());
        let mut taken = 0;
        self.retry_answers(now);
        for other in 0..shards {
            while let Some(answer) = self.desk.as_mut().and_then(|desk| desk.answer(other)) {
                taken += 1;
                self.take_answer(now, other as u8, answer);
            }
            let mut nth = 0;
            // Others keep what does not fit, and serve it themselves.
            while self.transport.may_adopt()
                && let Some(request) = self.desk.as_mut().and_then(|desk| desk.take(other, nth))
            {
                nth += 1;
                self.serve_for(now, other as u8, request);
            }
            taken += nth;
        }
        taken
    }

    fn serve_for(&mut self, now: Nanos, shard: u8, request: Handed) {
        let Handed { rpc, id, client, client_port, port, message } = request;
        let home = Some(Home { shard, packets: message.packets() });
        let message = self.transport.adopt(message.map(SendPacketBytes::open));
        let abandoned = Some(Rc::clone(&self.abandoned));
        let responder = Responder { rpc, id, client, client_port, port, abandoned, home };
        self.stats.handed_in += 1;
        self.with_app_at(now, |app, cx| app.on_request(cx, Request { message, responder }));
    }

    fn take_answer(&mut self, now: Nanos, by: u8, answer: Answer) {
        self.transport.settle_loose(answer.packets);
        match answer.response {
            Some(response) => drop(self.send_answer(now, by, answer.rpc, response)),
            None => {
                self.transport.abort(now, answer.rpc);
                self.settle(by);
            }
        }
    }

    /// Gives false if it has to be tried again.
    fn send_answer(&mut self, now: Nanos, by: u8, rpc: RpcHandle, response: SendOutgoing) -> bool {
        let response = response.open(&self.state.spares);
        let replied = self.with_app_at(now, |_, cx| cx.reply(rpc, response));
        match replied {
            Err(Refused { reason: RefusedReason::TooManyOutgoingBytes, message }) => {
                if let (Some(desk), Ok(message)) = (&mut self.desk, message.into_send()) {
                    desk.keep(by, rpc, message);
                    return false;
                }
            }
            // The client has given up meanwhile.
            Err(_) => self.stats.answers_late += 1,
            Ok(()) => {}
        }
        self.settle(by);
        true
    }

    fn retry_answers(&mut self, now: Nanos) {
        while let Some((by, rpc, response)) = self.desk.as_mut().and_then(|desk| desk.kept()) {
            if !self.send_answer(now, by, rpc, response) {
                return;
            }
        }
    }

    fn settle(&mut self, by: u8) {
        if let Some(desk) = &mut self.desk {
            desk.settle(by.into());
        }
    }

    /// Tells the shard that has the RPC that its request was dropped without an answer.
    pub(super) fn abandon(&mut self, home: Home, rpc: RpcHandle) {
        if let Some(answers) = &mut self.state.answers {
            let answer = Answer { rpc, packets: home.packets, response: None };
            let _ = answers.send(home.shard, answer);
        }
    }
}
