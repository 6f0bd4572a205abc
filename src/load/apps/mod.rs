//! The load generator as applications of a node: the server that answers, the client that asks.

pub mod bench;
mod client;
pub mod counters;
mod cp_node;
mod host;
mod meter;
mod ping;
mod server;
mod session;

pub use client::{
    ClientApp, ClientConfig, ClientLink, ClientResult, ClientWatch, NextRun, Progress, client_links,
};
pub use cp_node::CpNodeServer;
pub use host::{HostConfig, HostEnd, HostRun, run_host};
pub use ping::{PingApp, PingConfig};
pub use server::{ServerApp, ServerConfig, ServerCounts, ServerResult, Stall};
pub use session::{SessionError, run_loads};
pub(in crate::load) use session::{Shown, each_progress};

pub use super::response::{ResponseKind, SHORT_RESPONSE_BYTES};

use core::fmt::Display;

use crate::node::{AllocError, Cx, Message, MessageBuf};
use crate::wire::RpcId;

use super::payload::{Mismatch, Pattern};

/// Wrong messages are described in the log up to this many; all are counted.
const COMPLAINTS_MAX: u64 = 10;

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

/// Logs what is wrong with a message, the `count`th that is, unless enough was said before.
#[cold]
fn complain(count: u64, kind: &str, id: RpcId, problem: &dyn Display) {
    if let Some(line) = complaint(count, kind, id, problem) {
        log::error!("{line}");
    }
}

fn complaint(count: u64, kind: &str, id: RpcId, problem: &dyn Display) -> Option<String> {
    match count {
        ..COMPLAINTS_MAX => Some(format!("{kind} {id}: {problem}")),
        COMPLAINTS_MAX => Some(format!(
            "{kind} {id}: {problem}; others are only counted. Both ends must be given the same \
             --protocol, and --no-verify unless both are homa-load"
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_of_wrong_messages_are_ten_lines() {
        let lines: Vec<String> = (1..=5_000)
            .filter_map(|count| complaint(count, "request", RpcId(count * 2), &"it is short"))
            .collect();
        assert_eq!(lines.len(), 10);
        assert_eq!(lines[0], "request 2: it is short");
        assert!(lines[9].starts_with("request 20: it is short; others are only counted"));
    }
}
