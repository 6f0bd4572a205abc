//! What the transport tells the application, and the ways in which an RPC or a call can fail.

use core::fmt;

use super::buffers::Payload;
use super::message::Message;
use super::slab::Handle;
use crate::addr::HostAddr;
use crate::wire::{HomaPort, RpcId};

/// Names one RPC of a transport. A handle whose RPC has ended names nothing, also after its place
/// has been taken by another RPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RpcHandle(pub(super) Handle);

/// Something for the application.
#[derive(Debug)]
pub enum Event<B: Payload> {
    /// The first packet of a request of several packets is here (only with `Config::announce_heads`).
    RequestHead {
        /// Argument for [`Transport::head`](super::Transport::head) and `abort`.
        rpc: RpcHandle,
        /// Bytes of the whole request.
        length: u32,
    },
    /// A complete request.
    Request {
        /// Argument for `reply` and `abort`.
        rpc: RpcHandle,
        /// The id as the client knows it.
        id: RpcId,
        /// The client's address.
        client: HostAddr,
        /// The client's port.
        client_port: HomaPort,
        /// Our port that the request went to.
        port: HomaPort,
        /// The request.
        message: Message<B>,
        /// It was complete before its first packet could be announced: that packet came last, or all
        /// came in one burst (only with `Config::announce_heads`).
        is_head_due: bool,
    },
    /// An RPC that we started has ended.
    Response {
        /// What the caller gave to `call`.
        cookie: u64,
        /// The id that `call` gave it.
        id: RpcId,
        /// The response, or why there is none.
        result: Result<Message<B>, RpcError>,
    },
}

/// Why an RPC ended without a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RpcError {
    /// The peer was silent for `Config::timeout_ns`.
    Timeout,
    /// The network says that the peer cannot be reached.
    HostUnreachable,
    /// Nobody serves the port at the peer.
    PortUnreachable,
    /// The peer's host does not speak Homa.
    ProtocolUnreachable,
    /// The response announced an impossible length.
    BadResponseLength(u32),
    /// Our port was closed.
    PortClosed,
    /// The application gave it up.
    Aborted,
}

impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("timed out: the peer stopped answering"),
            Self::HostUnreachable => f.write_str("host unreachable"),
            Self::PortUnreachable => {
                f.write_str("port unreachable: no server is bound to it at the peer")
            }
            Self::ProtocolUnreachable => {
                f.write_str("protocol unreachable: the peer does not speak Homa (IP protocol 146)")
            }
            Self::BadResponseLength(length) => {
                write!(f, "the response announced {length} bytes, possible are 1 to 1000000")
            }
            Self::PortClosed => f.write_str("the local port was closed"),
            Self::Aborted => f.write_str("aborted by the application"),
        }
    }
}

impl core::error::Error for RpcError {}

/// Why `call` or `reply` did not take a message. The message comes back with it.
#[derive(Debug)]
pub struct Refused<M> {
    /// Why.
    pub reason: RefusedReason,
    /// The message, unchanged.
    pub message: M,
}

/// See [`Refused`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefusedReason {
    /// The message is empty or longer than 1,000,000 bytes.
    BadLength(u32),
    /// `Config::client_rpcs_max` RPCs are open.
    TooManyRpcs,
    /// `Config::peers_max` peers are in use.
    TooManyPeers,
    /// `Config::outgoing_max_bytes` are waiting or kept for sending again.
    TooManyOutgoingBytes,
    /// Received messages hold too many packet buffers: the application must drop some.
    ReceiveBuffersLow,
    /// The local port is not open.
    PortNotOpen,
    /// The RPC has ended (the client gave up, or it was acknowledged already), or it has been
    /// answered, or it is not one of a client.
    NotInService,
}

impl fmt::Display for RefusedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadLength(length) => {
                write!(f, "a message has 1 to 1000000 bytes, this one has {length}")
            }
            Self::TooManyRpcs => f.write_str("too many RPCs open: raise client_rpcs_max"),
            Self::TooManyPeers => f.write_str("too many peers in use: raise peers_max"),
            Self::TooManyOutgoingBytes => {
                f.write_str("too many bytes waiting to be sent: raise outgoing_max_bytes")
            }
            Self::ReceiveBuffersLow => {
                f.write_str("received messages hold too many packet buffers: drop some")
            }
            Self::PortNotOpen => f.write_str("the local port is not open"),
            Self::NotInService => f.write_str("the RPC is not waiting for a response"),
        }
    }
}

impl core::error::Error for RefusedReason {}
