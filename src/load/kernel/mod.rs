//! The same load over the kernel's TCP and UDP.
//!
//! Generator, contents, recorder and report are those of the load over Homa; what lies between client
//! and server are sockets of the kernel. So figures of Homa and of the kernel's transports come from the
//! same plan, the same clock and the same books.
//!
//! * [`frame`]: RPCs in a TCP connection. A client has several connections to each server, and gives an
//!   RPC to the one with the fewest bytes under way. Requests on one connection are answered in their
//!   order, or with a service time in that in which they are done; over connections the order is any.
//! * [`datagram`]: RPCs in UDP datagrams, with a window per message and without retransmission.
//! * [`Poll`]: busy-polling or sleeping in `epoll_wait`.
//!
//! Sockets do not block and do not wait to fill packets (no Nagle). What is due in the same turn of the
//! loop goes in one write. There is no `SO_BUSY_POLL`: it asks drivers of network cards for packets, which
//! loopback and veth do not have; on a card, `sysctl net.core.busy_read` turns it on for all sockets.

mod calls;
mod client;
mod counters;
pub mod datagram;
pub mod frame;
mod host;
mod poller;
mod server;
mod service;
mod tcp_client;
mod tcp_server;
mod udp_client;
mod udp_server;

use core::fmt;
use core::str::FromStr;
use std::io;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use rustix::net::sockopt;

use crate::load::apps::ServerCounts;
use crate::load::generator::Outcome;
use crate::load::report::CoreReport;
use crate::load::response::ServiceTime;
use crate::node::IdlePolicy;
use crate::time::Nanos;

pub use client::{KernelClient, KernelClientConfig, KernelResult, run_clients};
pub use counters::Counters;
pub use host::{KernelHostRun, run_kernel_host};
pub use poller::Poll;
pub use server::{Acceptor, KernelEngine, KernelServer, KernelServerConfig, Served};

/// Which transport of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelTransport {
    /// See [`frame`].
    Tcp,
    /// See [`datagram`].
    Udp,
}

impl FromStr for KernelTransport {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            _ => Err(format!("unknown transport of the kernel '{name}': use tcp or udp")),
        }
    }
}

impl fmt::Display for KernelTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// What clients and servers have in common.
#[derive(Clone, Copy, Debug)]
pub struct SocketConfig {
    /// Which transport.
    pub transport: KernelTransport,
    /// How a loop waits.
    pub poll: Poll,
    /// What a spinning loop does when there is nothing to do.
    pub idle: IdlePolicy,
    /// Bytes of an IP packet: UDP cuts messages so that each datagram is one.
    pub mtu: u16,
    /// UDP: silence after which an RPC is given up. TCP has repetitions of its own, see [`SILENCE_MIN`].
    pub timeout: Nanos,
}

/// A server from which nothing was heard for the timeout, and at least for this time, is given up. TCP
/// repeats what was lost after 200 ms at the earliest.
pub const SILENCE_MIN: Nanos = Nanos::from_secs(3);

/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;
/// Reads from one connection before others have their turn.
const READS_PER_TURN: u32 = 4;
/// Datagrams received, and sent, before the other direction has its turn.
const DATAGRAMS_PER_TURN: u32 = 64;
/// Timeouts, new connections and the stop flag are looked at this often.
const LOOK_AROUND: Duration = Duration::from_millis(10);
/// What UDP sockets ask for, in each direction; the kernel grants up to `net.core.rmem_max` and
/// `wmem_max`.
const BUFFER_BYTES: usize = 4 << 20;

/// The clock of all threads of a load.
#[derive(Clone, Copy, Debug)]
pub struct Monotonic {
    origin: Instant,
}

impl Monotonic {
    /// Starts at zero, now.
    #[expect(clippy::new_without_default, reason = "no two are equal")]
    pub fn new() -> Self {
        Self { origin: Instant::now() }
    }

    /// Time since then.
    #[inline]
    pub fn now(&self) -> Nanos {
        Nanos(self.origin.elapsed().as_nanos() as u64)
    }
}

/// An RPC to be sent.
#[derive(Clone, Copy, Debug)]
struct Ask {
    cookie: u64,
    destination: usize,
    request_bytes: u32,
    response_bytes: u32,
}

/// An RPC that is over.
#[derive(Clone, Copy, Debug)]
struct Done {
    cookie: u64,
    at: Nanos,
    outcome: Outcome,
}

/// The transport under a client. Errors name the server that is of no use any more, and why.
trait Wire: fmt::Debug + Send {
    /// Takes an RPC, to be sent with the next exchange; says whether there was room.
    fn call(&mut self, now: Nanos, ask: &Ask) -> bool;

    /// Sends and receives what can be; waits at most for `patience`, if it waits at all.
    fn exchange(
        &mut self,
        clock: Monotonic,
        patience: Duration,
        done: &mut Vec<Done>,
    ) -> Result<(), String>;

    /// Finds what has been silent for too long.
    fn look_around(&mut self, now: Nanos, done: &mut Vec<Done>) -> Result<(), String>;

    /// Ends all RPCs.
    fn give_up(&mut self, now: Nanos, done: &mut Vec<Done>);

    /// What was counted.
    fn counters(&self) -> Counters;

    /// How busy the thread was.
    fn usage(&self) -> CoreReport;
}

/// The transport under a server.
trait ServerWire: fmt::Debug + Send {
    /// Receives requests and answers them; waits at most for `patience`, if it waits at all.
    fn exchange(&mut self, patience: Duration) -> io::Result<()>;

    /// What passes between a request and its response from now on, and whether requests are checked.
    fn set_service(&mut self, time: ServiceTime, verify: bool);

    /// Takes new connections, and forgets what is old.
    fn look_around(&mut self) -> io::Result<()>;

    /// What was served.
    fn counts(&self) -> ServerCounts;

    /// What was counted.
    fn counters(&self) -> Counters;

    /// How busy the thread was.
    fn usage(&self) -> CoreReport;
}

/// Asks for long buffers, and says what was got for receiving.
fn ask_for_buffers(socket: &UdpSocket) -> u64 {
    for set in [sockopt::set_socket_recv_buffer_size, sockopt::set_socket_send_buffer_size] {
        if let Err(error) = set(socket, BUFFER_BYTES) {
            log::warn!("a UDP socket keeps its short buffers: {error}");
        }
    }
    // The kernel tells twice what it grants, to allow for its own needs.
    sockopt::socket_recv_buffer_size(socket).map_or(0, |bytes| bytes as u64 / 2)
}

#[cfg(test)]
mod tests;
