//! The load generator as applications of a node: the server that answers, the client that asks.

pub mod bench;
mod client;
mod cp_node;
mod host;
mod ping;
mod server;

pub use client::{
    ClientApp, ClientConfig, ClientLink, ClientResult, ClientWatch, Progress, client_links,
};
pub use cp_node::CpNodeServer;
pub use host::{HostConfig, HostEnd, HostRun, run_host};
pub use ping::{PingApp, PingConfig};
pub use server::{ServerApp, ServerConfig, ServerCounts};

use crate::node::{AllocError, Cx, Message, MessageBuf};
use crate::wire::HomaPort;

use super::payload::{Mismatch, Pattern};

/// Bytes of a short response.
pub const SHORT_RESPONSE_BYTES: u32 = 100;

/// What messages look like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MessageFormat {
    /// Payload and nothing else, which both ends can check.
    #[default]
    Plain,
    /// As those of `cp_node` of Linux Homa: behind a header.
    CpNode,
}

impl std::str::FromStr for MessageFormat {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "homa-load" => Ok(Self::Plain),
            "cp_node" => Ok(Self::CpNode),
            _ => Err(format!("unknown protocol '{name}': use homa-load or cp_node")),
        }
    }
}

/// What the server answers with. Each kind has a port of its own, so that messages carry nothing but
/// payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseKind {
    /// As many bytes as the request has.
    Echo,
    /// [`SHORT_RESPONSE_BYTES`] bytes.
    Short,
}

impl ResponseKind {
    /// The server's port for this kind: the base port, or the one after it.
    pub const fn port(self, base: HomaPort) -> HomaPort {
        match self {
            Self::Echo => base,
            Self::Short => HomaPort(base.0.wrapping_add(1)),
        }
    }

    /// Length of the response to a request of `request_bytes`.
    pub const fn bytes(self, request_bytes: u32) -> u32 {
        match self {
            Self::Echo => request_bytes,
            Self::Short => SHORT_RESPONSE_BYTES,
        }
    }
}

impl std::str::FromStr for ResponseKind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "echo" => Ok(Self::Echo),
            "short" => Ok(Self::Short),
            _ => Err(format!("unknown response '{name}': use echo or short")),
        }
    }
}

impl std::fmt::Display for ResponseKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Echo => "echo",
            Self::Short => "short",
        })
    }
}

/// A message of `bytes` bytes of `pattern`; without one, of whatever was in the buffers.
fn message(
    cx: &mut Cx<'_>,
    bytes: u32,
    pattern: Option<Pattern>,
) -> Result<MessageBuf, AllocError> {
    let mut message = cx.alloc(bytes as usize)?;
    message.write_with(|offset, piece| {
        if let Some(pattern) = pattern {
            pattern.fill(offset, piece);
        }
    });
    Ok(message)
}

/// Compares a received message with what it must be.
fn check(message: &Message, pattern: Pattern) -> Result<(), Mismatch> {
    let mut offset = 0;
    for chunk in message.chunks() {
        pattern.check(offset, chunk)?;
        offset += chunk.len();
    }
    Ok(())
}
