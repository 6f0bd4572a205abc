//! What an application implements, and what it is given.

use std::any::Any;
use std::cell::RefCell;
use std::rc::Rc;

use super::cx::Cx;
use super::hand_off::Home;
use super::outgoing::Outgoing;
use super::payload::{Message, PacketBytes};
use crate::addr::HostAddr;
use crate::transport::{Refused, RpcError, RpcHandle};
use crate::wire::{HomaPort, RpcId};

/// An application on one shard. Each shard has its own value, built on its core and never shared, so
/// it needs no locks. Callbacks run between the receipt of a burst and the transmission of the
/// answers: while one runs, its shard does nothing else.
pub trait App {
    /// The shard is up; ports may be opened and calls made.
    fn on_start(&mut self, cx: &mut Cx<'_>) {
        let _ = cx;
    }

    /// A request is complete. Answer it now ([`Request::reply`]), or keep it and answer later. A
    /// request that is dropped without an answer is forgotten; its client times out.
    fn on_request(&mut self, cx: &mut Cx<'_>, request: Request);

    /// A call of this shard has ended.
    fn on_response(&mut self, cx: &mut Cx<'_>, response: Result<Response, CallFailed>);

    /// The first packet of a request of several packets is here (only with
    /// `transport::Config::announce_heads`), or all of them are. Says whether it is wanted. Each such request
    /// is asked about once, before [`App::on_request`] has it.
    fn on_request_head(&mut self, head: RequestHead<'_>) -> Verdict {
        let _ = head;
        Verdict::Take
    }

    /// Once per turn of the loop.
    fn on_poll(&mut self, cx: &mut Cx<'_>) {
        let _ = cx;
    }

    /// A timer set with [`Cx::set_timer`] is due.
    fn on_timer(&mut self, cx: &mut Cx<'_>, token: u64) {
        let _ = (cx, token);
    }

    /// Another shard's application has sent a message with [`Cx::spawn_on`].
    fn on_message(&mut self, cx: &mut Cx<'_>, from: u8, message: Box<dyn Any + Send>) {
        let _ = (cx, from, message);
    }

    /// The node is about to stop: the last callback in which calls and replies are possible. The
    /// loop goes on for a moment, so that what is under way can arrive.
    fn on_stop(&mut self, cx: &mut Cx<'_>) {
        let _ = cx;
    }
}

/// What to do with a request of which the first packet is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Receive the rest.
    Take,
    /// Forget it; the client times out.
    Refuse,
}

/// The beginning of a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// Bytes of the whole request.
    pub length: u32,
    /// The first bytes: those of the first packet.
    pub first: &'a [u8],
}

/// Requests dropped without an answer, to be forgotten by the transport.
pub(super) type Abandoned = Rc<RefCell<Vec<(Option<Home>, RpcHandle)>>>;

/// A request of a client, and the right to answer it.
#[derive(Debug)]
pub struct Request {
    /// The message.
    pub message: Message,
    /// Who sent it, and the way back.
    pub responder: Responder,
}

impl Request {
    /// Answers. See [`Responder::reply`].
    #[inline(always)]
    pub fn reply(
        self,
        cx: &mut Cx<'_>,
        response: impl Into<Outgoing>,
    ) -> Result<(), Refused<Outgoing>> {
        self.responder.reply(cx, response)
    }
}

/// The right to answer one request. Can be kept when the request itself is no longer needed.
#[derive(Debug)]
pub struct Responder {
    pub(super) rpc: RpcHandle,
    /// The id of the RPC as its client knows it.
    pub id: RpcId,
    /// The client's address.
    pub client: HostAddr,
    /// The client's port.
    pub client_port: HomaPort,
    /// Our port that the request went to.
    pub port: HomaPort,
    pub(super) abandoned: Option<Abandoned>,
    /// Another shard has the RPC.
    pub(super) home: Option<Home>,
}

impl Responder {
    /// Answers. The response belongs to the node from here on; it is kept until the client has it.
    ///
    /// # Errors
    /// The response comes back if its length is not 1 to 1,000,000 bytes, if the transport holds too
    /// many bytes already, or if the RPC has ended because the client gave up.
    #[inline(always)]
    pub fn reply(
        mut self,
        cx: &mut Cx<'_>,
        response: impl Into<Outgoing>,
    ) -> Result<(), Refused<Outgoing>> {
        let result = match self.home {
            None => cx.reply(self.rpc, response.into()),
            Some(home) => cx.reply_home(home, self.rpc, response.into()),
        };
        if result.is_ok() {
            self.abandoned = None;
        }
        result
    }
}

impl Drop for Responder {
    #[inline]
    fn drop(&mut self) {
        if let Some(abandoned) = self.abandoned.take() {
            abandoned.borrow_mut().push((self.home, self.rpc));
        }
    }
}

/// The response to a call.
#[derive(Debug)]
pub struct Response {
    /// What the caller gave to [`Cx::call`].
    pub cookie: u64,
    /// The id that the call got.
    pub id: RpcId,
    /// The message.
    pub message: Message,
}

/// A call that ended without a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallFailed {
    /// What the caller gave to [`Cx::call`].
    pub cookie: u64,
    /// The id that the call got.
    pub id: RpcId,
    /// Why.
    pub error: RpcError,
}

impl std::fmt::Display for CallFailed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RPC {}: {}", self.id, self.error)
    }
}

impl std::error::Error for CallFailed {}

/// The transport as the node instantiates it.
pub(super) type Transport = crate::transport::Transport<PacketBytes, Outgoing>;
