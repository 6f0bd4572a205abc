//! RPCs over connections of the kernel's TCP, the asking side.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType};

use super::calls::Calls;
use super::frame::{Frame, FrameReader, FrameWriter, Header};
use super::poller::Poller;
use super::{Ask, Counters, Done, Monotonic, READ_BYTES, READS_PER_TURN, Wire};
use crate::load::generator::{Failure, Outcome};
use crate::load::payload::Direction;
use crate::load::report::CoreReport;
use crate::time::Nanos;

/// How long a connection may take to be made.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Call {
    cookie: u64,
    connection: usize,
    request_bytes: u32,
    response_bytes: u32,
}

impl Call {
    fn bytes(&self) -> u64 {
        u64::from(self.request_bytes) + u64::from(self.response_bytes)
    }
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    server: SocketAddr,
    writer: FrameWriter,
    reader: FrameReader,
    /// Bytes of requests and responses of the RPCs under way.
    outstanding_bytes: u64,
    /// When something was last heard, or when there was last nothing to be heard of.
    heard: Nanos,
    /// The kernel takes no more for now.
    is_blocked: bool,
}

/// Connections to all servers, several to each.
#[derive(Debug)]
pub(super) struct TcpClient {
    poller: Poller,
    connections: Vec<Connection>,
    per_server: usize,
    calls: Calls<Call>,
    silence: Nanos,
    verify: bool,
    ready: Vec<usize>,
    buffer: Box<[u8]>,
    counters: Counters,
}

/// What a client over TCP is made from.
#[derive(Debug)]
pub(super) struct TcpClientConfig<'a> {
    pub(super) servers: &'a [SocketAddr],
    pub(super) source: Option<IpAddr>,
    pub(super) per_server: usize,
    pub(super) calls_max: u32,
    /// A connection from which nothing is heard for this long is given up.
    pub(super) silence: Nanos,
    pub(super) verify: bool,
}

impl TcpClient {
    /// Connects to all servers.
    ///
    /// # Errors
    /// Which server cannot be reached, and why.
    pub(super) fn connect(config: &TcpClientConfig<'_>, poller: Poller) -> Result<Self, String> {
        let mut client = Self {
            poller,
            connections: Vec::new(),
            per_server: config.per_server.max(1),
            calls: Calls::new(config.calls_max),
            silence: config.silence,
            verify: config.verify,
            ready: Vec::new(),
            buffer: vec![0; READ_BYTES].into(),
            counters: Counters::default(),
        };
        for &server in config.servers {
            for _ in 0..client.per_server {
                let stream = connect(server, config.source).map_err(|error| {
                    format!(
                        "cannot connect to {server}: {error}; start the server first, with \
                         --transport tcp, and check its address and port"
                    )
                })?;
                let token = client.connections.len();
                client.poller.add(&stream, token).map_err(|error| error.to_string())?;
                client.connections.push(Connection {
                    stream,
                    server,
                    writer: FrameWriter::new(Direction::Request, config.verify),
                    reader: FrameReader::new(Direction::Response, config.verify),
                    outstanding_bytes: 0,
                    heard: Nanos::ZERO,
                    is_blocked: false,
                });
            }
        }
        Ok(client)
    }

    /// Sends what waits on a connection, as far as the kernel takes it.
    fn write(&mut self, index: usize) -> Result<bool, String> {
        let connection = &mut self.connections[index];
        let mut wrote = false;
        let mut blocks = false;
        while !connection.writer.is_empty() {
            let bytes = connection.writer.bytes();
            match connection.stream.write(bytes) {
                Ok(written) => {
                    connection.writer.sent(written);
                    self.counters.tcp_writes += 1;
                    wrote = true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.counters.tcp_writes_blocked += 1;
                    blocks = true;
                    break;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(broken(connection, &error.to_string())),
            }
        }
        if blocks != connection.is_blocked {
            connection.is_blocked = blocks;
            let set = self.poller.set_interest(&connection.stream, index, true, blocks);
            set.map_err(|error| error.to_string())?;
        }
        Ok(wrote)
    }

    /// Takes what came on a connection.
    fn read(
        &mut self,
        index: usize,
        clock: Monotonic,
        done: &mut Vec<Done>,
    ) -> Result<bool, String> {
        let mut worked = false;
        for _ in 0..READS_PER_TURN {
            let connection = &mut self.connections[index];
            let bytes = match connection.stream.read(&mut self.buffer) {
                Ok(0) => return Err(broken(connection, "it closed the connection")),
                Ok(bytes) => bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(broken(connection, &error.to_string())),
            };
            worked = true;
            self.counters.tcp_reads += 1;
            let now = clock.now();
            connection.heard = now;
            let (calls, verify) = (&mut self.calls, self.verify);
            let mut answered_bytes = 0;
            let mut strange = 0;
            let read = connection.reader.read(&self.buffer[..bytes], |frame| {
                match calls.remove(frame.header.id) {
                    Some(call) => {
                        answered_bytes += call.bytes();
                        let outcome = outcome(&frame, &call, verify);
                        done.push(Done { cookie: call.cookie, at: now, outcome });
                    }
                    None => strange += 1,
                }
            });
            connection.outstanding_bytes -= answered_bytes;
            self.counters.tcp_unknown_responses += strange;
            read.map_err(|error| broken(&self.connections[index], &error.to_string()))?;
            if bytes < READ_BYTES {
                break;
            }
        }
        Ok(worked)
    }

    /// A connection that has been silent for too long.
    fn silent(&self, now: Nanos) -> Option<String> {
        let silent = self.connections.iter().find(|connection| {
            connection.outstanding_bytes > 0 && now.since(connection.heard) > self.silence
        })?;
        let seconds = self.silence.0 as f64 / 1e9;
        Some(broken(silent, &format!("nothing was heard of it for {seconds} s")))
    }
}

impl Wire for TcpClient {
    fn call(&mut self, now: Nanos, ask: &Ask) -> bool {
        let first = ask.destination * self.per_server;
        let range = first..first + self.per_server;
        // The connection with the fewest bytes ahead of it.
        let Some(index) = range.min_by_key(|&i| self.connections[i].outstanding_bytes) else {
            return false;
        };
        let call = Call {
            cookie: ask.cookie,
            connection: index,
            request_bytes: ask.request_bytes,
            response_bytes: ask.response_bytes,
        };
        let bytes = call.bytes();
        let Some(id) = self.calls.insert(call) else { return false };
        let connection = &mut self.connections[index];
        if connection.outstanding_bytes == 0 {
            connection.heard = now;
        }
        connection.outstanding_bytes += bytes;
        let response_bytes = ask.response_bytes;
        connection.writer.push(Header { length: ask.request_bytes, response_bytes, id });
        true
    }

    fn exchange(
        &mut self,
        clock: Monotonic,
        patience: Duration,
        done: &mut Vec<Done>,
    ) -> Result<(), String> {
        let mut worked = false;
        for index in 0..self.connections.len() {
            let connection = &self.connections[index];
            if !connection.writer.is_empty() && !connection.is_blocked {
                worked |= self.write(index)?;
            }
        }
        let mut ready = std::mem::take(&mut self.ready);
        self.poller.wait(patience, &mut ready).map_err(|error| error.to_string())?;
        for &index in &ready {
            worked |= self.read(index, clock, done)?;
            if self.connections[index].is_blocked {
                worked |= self.write(index)?;
            }
        }
        self.ready = ready;
        self.poller.turned(worked);
        Ok(())
    }

    fn look_around(&mut self, now: Nanos, _done: &mut Vec<Done>) -> Result<(), String> {
        self.silent(now).map_or(Ok(()), Err)
    }

    fn give_up(&mut self, now: Nanos, done: &mut Vec<Done>) {
        let outcome = Outcome::Failed(Failure::Aborted);
        let connections = &mut self.connections;
        self.calls.remove_if(
            |_| true,
            |call| {
                connections[call.connection].outstanding_bytes -= call.bytes();
                done.push(Done { cookie: call.cookie, at: now, outcome });
            },
        );
    }

    fn usage(&self) -> CoreReport {
        self.poller.usage()
    }

    fn counters(&self) -> Counters {
        let mut counters = self.counters;
        counters.tcp_connections += self.connections.len() as u64;
        counters
    }
}

/// Makes a connection that does not block and does not wait for more to send.
fn connect(server: SocketAddr, source: Option<IpAddr>) -> std::io::Result<TcpStream> {
    let stream = match source {
        None => TcpStream::connect_timeout(&server, CONNECT_PATIENCE)?,
        Some(source) => {
            let family = if server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
            let socket = rustix::net::socket(family, SocketType::STREAM, None)?;
            rustix::net::bind(&socket, &SocketAddr::new(source, 0))?;
            rustix::net::connect(&socket, &server)?;
            TcpStream::from(socket)
        }
    };
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

fn broken(connection: &Connection, why: &str) -> String {
    format!("the server {}: {why}: did it stop?", connection.server)
}

fn outcome(frame: &Frame, call: &Call, verify: bool) -> Outcome {
    let size_bytes = frame.header.length;
    if size_bytes != call.response_bytes {
        log::error!("response: {size_bytes} bytes instead of {}", call.response_bytes);
        return Outcome::Corrupted;
    }
    if let Some(mismatch) = frame.mismatch.filter(|_| verify) {
        log::error!("response: {mismatch}");
        return Outcome::Corrupted;
    }
    Outcome::Response { size_bytes }
}
