//! The agent's end of the control connection.

use std::fmt;
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::coordinator::ALIVE_INTERVAL;
use super::protocol::{
    Alive, Assignment, FromAgent, FromCoordinator, Hello, LinkError, MESSAGE_BYTES_MAX,
    MessageReader, write_message,
};

/// Pause between attempts to reach the coordinator.
const RETRY_INTERVAL: Duration = Duration::from_millis(300);
/// One attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Until the coordinator has said how long is too long.
const FIRST_SILENCE: Duration = Duration::from_secs(30);
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the coordinator may take to close the connection when it has our last message.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
const STOP_CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// Why an agent has nothing to do.
#[derive(Debug)]
#[non_exhaustive]
pub enum AgentError {
    /// The coordinator was not reached.
    Unreachable {
        /// Its address.
        coordinator: String,
        /// How long it was tried.
        tried: Duration,
        /// What the last attempt gave.
        error: io::Error,
    },
    /// The coordinator does not want this agent.
    Refused(String),
    /// The connection failed.
    Link(LinkError),
    /// Told to stop.
    Interrupted,
}

impl fmt::Display for AgentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { coordinator, tried, error } => write!(
                f,
                "the coordinator at {coordinator} was not reached in {} s: {error}; start it, or see \
                 that its address is right",
                tried.as_secs()
            ),
            Self::Refused(reason) => write!(f, "the coordinator has sent us home: {reason}"),
            Self::Link(error) => write!(f, "the coordinator is lost: {error}"),
            Self::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl std::error::Error for AgentError {}

impl From<LinkError> for AgentError {
    fn from(error: LinkError) -> Self {
        Self::Link(error)
    }
}

/// What the threads of a link share.
#[derive(Debug)]
struct Shared {
    /// Locked for a message at a time.
    stream: Mutex<TcpStream>,
    alive: Mutex<Alive>,
    is_closing: AtomicBool,
}

/// A connection to the coordinator. Gives signs of life by itself.
#[derive(Debug)]
pub struct AgentLink {
    shared: Arc<Shared>,
    /// Locked by the one thread that waits for orders at a time.
    orders: Mutex<Receiver<Result<FromCoordinator, LinkError>>>,
}

impl AgentLink {
    /// Connects to `coordinator`, `HOST:PORT`, and introduces itself; tries again for `patience`, for
    /// the coordinator may be started later, and its name be known later.
    ///
    /// # Errors
    /// The coordinator was not reached, or `stop` was set.
    pub fn connect(
        coordinator: &str,
        hello: &Hello,
        patience: Duration,
        stop: &AtomicBool,
    ) -> Result<Self, AgentError> {
        let began = Instant::now();
        let stream = loop {
            let error = match connect_once(coordinator) {
                Ok(stream) => break stream,
                Err(error) => error,
            };
            let tried = began.elapsed();
            if tried >= patience {
                let coordinator = coordinator.to_owned();
                return Err(AgentError::Unreachable { coordinator, tried, error });
            }
            if stop.load(Ordering::Relaxed) {
                return Err(AgentError::Interrupted);
            }
            thread::sleep(RETRY_INTERVAL);
        };
        let listening = stream.try_clone().map_err(LinkError::from)?;
        let link = Self {
            shared: Arc::new(Shared {
                stream: Mutex::new(stream),
                alive: Mutex::default(),
                is_closing: AtomicBool::new(false),
            }),
            orders: Mutex::new(listen(listening)),
        };
        link.send(&FromAgent::Hello(hello.clone()))?;
        let shared = Arc::clone(&link.shared);
        thread::spawn(move || live(&shared));
        Ok(link)
    }

    /// Waits for the assignment.
    ///
    /// # Errors
    /// The coordinator does not want us or is lost, or `stop` was set.
    pub fn assignment(&self, stop: &AtomicBool) -> Result<Assignment, AgentError> {
        loop {
            if stop.load(Ordering::Relaxed) {
                return Err(AgentError::Interrupted);
            }
            match self.next(STOP_CHECK_INTERVAL) {
                None => {}
                Some(Ok(FromCoordinator::Assign(assignment))) => {
                    let silence = Duration::from_millis(assignment.silence_ms.max(1));
                    let stream = self.shared.stream.lock().unwrap_or_else(PoisonError::into_inner);
                    stream.set_read_timeout(Some(silence)).map_err(LinkError::from)?;
                    return Ok(assignment);
                }
                Some(Ok(FromCoordinator::Refused { reason })) => {
                    return Err(AgentError::Refused(reason));
                }
                Some(Ok(order)) => {
                    let text = format!("{order:?} before an assignment");
                    return Err(LinkError::Malformed(text).into());
                }
                Some(Err(error)) => return Err(error.into()),
            }
        }
    }

    /// The next order, if there is one within `timeout`. After an error there are none.
    pub fn next(&self, timeout: Duration) -> Option<Result<FromCoordinator, LinkError>> {
        let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        match orders.recv_timeout(timeout) {
            Ok(order) => Some(order),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Err(LinkError::Closed)),
        }
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The connection failed.
    pub fn send(&self, message: &FromAgent) -> Result<(), LinkError> {
        self.shared.send(message)
    }

    /// Sets what the next sign of life says.
    pub fn set_alive(&self, alive: Alive) {
        *self.shared.alive.lock().unwrap_or_else(PoisonError::into_inner) = alive;
    }

    /// Sends the last message and waits until the coordinator has it: until it closes its end.
    ///
    /// # Errors
    /// The connection failed before.
    pub fn close(self, message: &FromAgent) -> Result<(), LinkError> {
        self.shared.is_closing.store(true, Ordering::Relaxed);
        self.send(message)?;
        let give_up = Instant::now() + CLOSE_TIMEOUT;
        {
            let stream = self.shared.stream.lock().unwrap_or_else(PoisonError::into_inner);
            stream.shutdown(std::net::Shutdown::Write)?;
        }
        while Instant::now() < give_up {
            if matches!(self.next(STOP_CHECK_INTERVAL), Some(Err(_))) {
                break;
            }
        }
        Ok(())
    }
}

impl Drop for AgentLink {
    fn drop(&mut self) {
        self.shared.is_closing.store(true, Ordering::Relaxed);
        let stream = self.shared.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = stream.shutdown(std::net::Shutdown::Both);
    }
}

impl Shared {
    fn send(&self, message: &FromAgent) -> Result<(), LinkError> {
        let stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        write_message(&*stream, message)
    }
}

fn connect_once(coordinator: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in coordinator.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
                stream.set_read_timeout(Some(FIRST_SILENCE))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Hands on orders, but for signs of life, on a thread that ends with the connection.
fn listen(stream: TcpStream) -> Receiver<Result<FromCoordinator, LinkError>> {
    let (sender, orders) = channel();
    thread::spawn(move || {
        let mut reader = MessageReader::new(stream);
        reader.allow(MESSAGE_BYTES_MAX);
        loop {
            let order = reader.read();
            let is_last = order.is_err();
            if matches!(order, Ok(FromCoordinator::Alive)) {
                continue;
            }
            if sender.send(order).is_err() || is_last {
                return;
            }
        }
    });
    orders
}

/// Gives signs of life until the link is closed.
fn live(shared: &Shared) {
    loop {
        thread::sleep(ALIVE_INTERVAL);
        if shared.is_closing.load(Ordering::Relaxed) {
            return;
        }
        let alive = *shared.alive.lock().unwrap_or_else(PoisonError::into_inner);
        if shared.send(&FromAgent::Alive(alive)).is_err() {
            // Whoever listens hears of it as well.
            return;
        }
    }
}
