//! The server: threads that answer, and one that takes connections.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketType, sockopt};

use super::poller::{Poll, Poller};
use super::tcp_server::{Inbox, TcpServer};
use super::udp_server::UdpServer;
use super::{Counters, KernelTransport, LOOK_AROUND, ServerWire, SocketConfig};
use crate::dpdk::pin_current_thread;
use crate::load::apps::ServerCounts;
use crate::load::report::SideReport;
use crate::load::response::ServiceTime;

/// Turns of a spinning loop between looks at the clock and the stop flag.
const TURNS_PER_LOOK: u32 = 256;
/// How long the thread that takes connections sleeps at most.
const ACCEPT_PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// What to serve.
#[derive(Clone, Debug)]
pub struct KernelServerConfig {
    /// How to talk.
    pub socket: SocketConfig,
    /// Where; a port of 0 is replaced by a free one.
    pub listen: SocketAddr,
    /// A thread on each; one thread, wherever it likes, if there are none.
    pub cpus: Vec<usize>,
    /// Check requests and fill responses with bytes that can be checked.
    pub verify: bool,
    /// What passes between a request and its response.
    pub service_time: ServiceTime,
}

/// What a server has to say at its end.
#[derive(Clone, Debug, Default)]
pub struct Served {
    /// What it served.
    pub counts: ServerCounts,
    /// What the transport counted.
    pub counters: Counters,
    /// How busy its threads were, in their order.
    pub side: SideReport,
}

impl Served {
    fn merge(&mut self, other: &Self) {
        self.counts.add(&other.counts);
        self.counters.merge(&other.counters);
        self.side.name.clone_from(&other.side.name);
        self.side.add(&other.side);
    }
}

/// A server that can be reached.
#[derive(Debug)]
pub struct KernelServer {
    address: SocketAddr,
    cpus: Vec<usize>,
    /// Takes connections; UDP has none.
    pub acceptor: Option<Acceptor>,
    /// One for each thread.
    pub engines: Vec<KernelEngine>,
}

impl KernelServer {
    /// Opens the sockets.
    ///
    /// # Errors
    /// Those of the system: the address is not ours, the port is taken.
    pub fn bind(config: &KernelServerConfig) -> io::Result<Self> {
        let threads = config.cpus.len().max(1);
        let SocketConfig { transport, poll, idle, timeout, .. } = config.socket;
        let mut engines = Vec::new();
        let cpus = config.cpus.clone();
        if transport == KernelTransport::Tcp {
            let listener = TcpListener::bind(config.listen)?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            let inboxes: Vec<Inbox> = (0..threads).map(|_| Inbox::default()).collect();
            for inbox in &inboxes {
                let poller = Poller::new(poll, idle)?;
                let server = TcpServer::new(poller, Inbox::clone(inbox), config);
                engines.push(KernelEngine::new(server, poll));
            }
            let acceptor = Some(Acceptor { listener, inboxes, next: 0 });
            return Ok(Self { address, cpus, acceptor, engines });
        }
        let mut address = config.listen;
        for _ in 0..threads {
            let socket = bind_shared(address)?;
            address = socket.local_addr()?;
            let poller = Poller::new(poll, idle)?;
            let timeout = Duration::from_nanos(timeout.0);
            let server = UdpServer::new(poller, socket, timeout, config)?;
            engines.push(KernelEngine::new(server, poll));
        }
        Ok(Self { address, cpus, acceptor: None, engines })
    }

    /// What passes between a request and its response from now on, and whether requests are checked.
    pub fn set_service(&mut self, time: ServiceTime, verify: bool) {
        self.engines.iter_mut().for_each(|engine| engine.wire.set_service(time, verify));
    }

    /// Where it can be reached.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is set.
    ///
    /// # Errors
    /// Those of the system.
    pub fn serve(self, stop: &AtomicBool) -> Result<Served, Box<dyn std::error::Error>> {
        let Self { acceptor, engines, cpus, .. } = self;
        let results: Vec<Result<Served, String>> = thread::scope(|scope| {
            let serve = |(index, engine): (usize, KernelEngine)| {
                let cpu = cpus.get(index).copied();
                scope.spawn(move || {
                    let served = engine.run(cpu, stop);
                    // Without one of its threads the server is none.
                    stop.store(true, Ordering::Relaxed);
                    served
                })
            };
            let threads: Vec<_> = engines.into_iter().enumerate().map(serve).collect();
            let accepted = acceptor.map_or(Ok(()), |mut acceptor| acceptor.run(stop));
            let mut results: Vec<_> = threads
                .into_iter()
                .map(|thread| {
                    thread.join().unwrap_or_else(|_| Err("a thread failed, see above".to_owned()))
                })
                .collect();
            results.extend(accepted.err().map(|error| Err(error.to_string())));
            results
        });
        let mut all = Served::default();
        for result in results {
            all.merge(&result?);
        }
        Ok(all)
    }
}

/// A socket that shares its address with those of other threads; the kernel spreads clients over them.
fn bind_shared(address: SocketAddr) -> io::Result<UdpSocket> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket(family, SocketType::DGRAM, None)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    Ok(UdpSocket::from(socket))
}

/// Takes connections and deals them out to the threads in turn.
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
    inboxes: Vec<Inbox>,
    next: usize,
}

impl Acceptor {
    /// Takes connections until `stop` is set.
    ///
    /// # Errors
    /// Those of the system.
    pub fn run(&mut self, stop: &AtomicBool) -> io::Result<()> {
        while !stop.load(Ordering::Relaxed) {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    let inbox = &self.inboxes[self.next % self.inboxes.len()];
                    self.next += 1;
                    inbox.lock().expect("nobody panics with it").push(stream);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let mut listener = [PollFd::new(&self.listener, PollFlags::IN)];
                    // A signal wakes it up early, which does no harm.
                    let _ = poll(&mut listener, Some(&ACCEPT_PATIENCE));
                }
                // A connection that was gone before it was taken, or too many open files: the others go on.
                Err(error) => {
                    log::warn!("a connection was not accepted: {error}");
                    thread::sleep(LOOK_AROUND);
                }
            }
        }
        Ok(())
    }
}

/// The server of one thread, turn by turn.
#[derive(Debug)]
pub struct KernelEngine {
    wire: Box<dyn ServerWire>,
    poll: Poll,
    turns: u32,
    last_look: Instant,
}

impl KernelEngine {
    fn new(wire: impl ServerWire + 'static, poll: Poll) -> Self {
        Self { wire: Box::new(wire), poll, turns: 0, last_look: Instant::now() }
    }

    /// Answers what came, and waits at most for `patience` if it waits at all.
    ///
    /// # Errors
    /// Those of the system.
    pub fn turn(&mut self, patience: Duration) -> io::Result<()> {
        self.turns = self.turns.wrapping_add(1);
        self.wire.exchange(patience)?;
        let may_look = self.poll == Poll::Epoll || self.turns.is_multiple_of(TURNS_PER_LOOK);
        if may_look && self.last_look.elapsed() >= LOOK_AROUND {
            self.last_look = Instant::now();
            self.wire.look_around()?;
        }
        Ok(())
    }

    /// What was served so far.
    pub fn served(&self) -> Served {
        let side = SideReport {
            name: "server".to_owned(),
            cores: vec![self.wire.usage()],
            ..SideReport::default()
        };
        Served { counts: self.wire.counts(), counters: self.wire.counters(), side }
    }

    fn run(mut self, cpu: Option<usize>, stop: &AtomicBool) -> Result<Served, String> {
        if let Some(cpu) = cpu {
            pin_current_thread(cpu).map_err(|error| error.to_string())?;
        }
        while !stop.load(Ordering::Relaxed) {
            self.turn(LOOK_AROUND).map_err(|error| error.to_string())?;
        }
        Ok(self.served())
    }
}
