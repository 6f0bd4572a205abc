//! RPCs over connections of the kernel's TCP, the answering side.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::frame::{FrameReader, FrameWriter, Header};
use super::poller::Poller;
use super::server::KernelServerConfig;
use super::service::InService;
use super::{Counters, READ_BYTES, READS_PER_TURN, ServerWire};
use crate::load::apps::ServerCounts;
use crate::load::payload::Direction;
use crate::load::report::CoreReport;
use crate::load::response::ServiceTime;

/// Responses that may wait on a connection; nothing more is read from it until some were sent. What
/// waits is a header: the payload is made when it is sent.
const WAITING_MAX: usize = 65_536;

/// New connections on their way to the thread that is to serve them.
pub(super) type Inbox = Arc<Mutex<Vec<TcpStream>>>;

#[derive(Debug)]
struct Connection {
    /// No other has the same number.
    number: u64,
    stream: TcpStream,
    reader: FrameReader,
    writer: FrameWriter,
    /// What the poller was told.
    interest: (bool, bool),
}

/// What is to become of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Keep,
    Close,
}

/// The connections of one thread.
#[derive(Debug)]
pub(super) struct TcpServer {
    poller: Poller,
    connections: Vec<Option<Connection>>,
    inbox: Inbox,
    verify: bool,
    ready: Vec<usize>,
    buffer: Box<[u8]>,
    /// On which connection the response goes, and what it is.
    service: InService<(usize, u64, Header)>,
    counts: ServerCounts,
    counters: Counters,
}

impl TcpServer {
    pub(super) fn new(poller: Poller, inbox: Inbox, config: &KernelServerConfig) -> Self {
        Self {
            poller,
            connections: Vec::new(),
            inbox,
            verify: config.verify,
            service: InService::new(config.service_time),
            ready: Vec::new(),
            buffer: vec![0; READ_BYTES].into(),
            counts: ServerCounts::default(),
            counters: Counters::default(),
        }
    }

    fn take_in(&mut self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let free = self.connections.iter().position(Option::is_none);
        let token = free.unwrap_or(self.connections.len());
        self.poller.add(&stream, token)?;
        let connection = Connection {
            number: self.counters.tcp_connections,
            stream,
            reader: FrameReader::new(Direction::Request, self.verify),
            writer: FrameWriter::new(Direction::Response, self.verify),
            interest: (true, false),
        };
        match free {
            Some(token) => self.connections[token] = Some(connection),
            None => self.connections.push(Some(connection)),
        }
        self.counters.tcp_connections += 1;
        Ok(())
    }

    /// Reads requests and sends responses on one connection.
    fn serve(&mut self, token: usize) -> bool {
        let Some(mut connection) = self.connections.get_mut(token).and_then(Option::take) else {
            return false;
        };
        let mut worked = false;
        let then = self.read(&mut connection, token, &mut worked);
        let then = match then {
            Then::Keep => self.write(&mut connection, &mut worked),
            Then::Close => Then::Close,
        };
        let then = match then {
            Then::Keep => self.show_interest(&mut connection, token),
            Then::Close => Then::Close,
        };
        match then {
            Then::Keep => self.connections[token] = Some(connection),
            Then::Close => self.poller.remove(&connection.stream, token),
        }
        worked
    }

    fn read(&mut self, connection: &mut Connection, token: usize, worked: &mut bool) -> Then {
        for _ in 0..READS_PER_TURN {
            if connection.writer.waiting() + self.service.len() >= WAITING_MAX {
                break;
            }
            let bytes = match connection.stream.read(&mut self.buffer) {
                Ok(0) => {
                    if connection.reader.is_within_frame() {
                        self.counters.tcp_cut_requests += 1;
                    }
                    return Then::Close;
                }
                Ok(bytes) => bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // The client went away without a good-bye.
                Err(_) => return Then::Close,
            };
            *worked = true;
            self.counters.tcp_reads += 1;
            let (counts, writer) = (&mut self.counts, &mut connection.writer);
            let (service, number) = (&mut self.service, connection.number);
            let read = connection.reader.read(&self.buffer[..bytes], |frame| {
                counts.requests += 1;
                counts.request_bytes += u64::from(frame.header.length);
                counts.response_bytes += u64::from(frame.header.response_bytes);
                if let Some(mismatch) = frame.mismatch {
                    counts.corrupted += 1;
                    log::error!("request: {mismatch}");
                }
                let response = frame.header.of_response();
                if let Some((_, _, response)) =
                    service.begin(response.id, (token, number, response))
                {
                    writer.push(response);
                }
            });
            if let Err(error) = read {
                self.counters.tcp_not_ours += 1;
                log::warn!("a connection was closed: {error}");
                return Then::Close;
            }
            if bytes < READ_BYTES {
                break;
            }
        }
        Then::Keep
    }

    /// Sends the responses whose service time has passed.
    fn finish_service(&mut self) -> bool {
        let mut worked = false;
        while let Some((token, number, response)) = self.service.done() {
            let connection = self.connections.get_mut(token).and_then(Option::as_mut);
            // The client may be gone, and another in its place.
            let Some(connection) = connection.filter(|other| other.number == number) else {
                continue;
            };
            connection.writer.push(response);
            worked |= self.serve(token);
        }
        worked
    }

    fn write(&mut self, connection: &mut Connection, worked: &mut bool) -> Then {
        while !connection.writer.is_empty() {
            match connection.stream.write(connection.writer.bytes()) {
                Ok(written) => {
                    connection.writer.sent(written);
                    self.counters.tcp_writes += 1;
                    *worked = true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.counters.tcp_writes_blocked += 1;
                    break;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Then::Close,
            }
        }
        Then::Keep
    }

    fn show_interest(&self, connection: &mut Connection, token: usize) -> Then {
        let reads = connection.writer.waiting() + self.service.len() < WAITING_MAX;
        let interest = (reads, !connection.writer.is_empty());
        if interest != connection.interest {
            connection.interest = interest;
            let (reads, writes) = interest;
            if self.poller.set_interest(&connection.stream, token, reads, writes).is_err() {
                return Then::Close;
            }
        }
        Then::Keep
    }
}

impl ServerWire for TcpServer {
    fn exchange(&mut self, patience: Duration) -> io::Result<()> {
        let mut ready = std::mem::take(&mut self.ready);
        self.poller.wait(self.service.patience(patience), &mut ready)?;
        let mut worked = self.finish_service();
        for &token in &ready {
            worked |= self.serve(token);
        }
        self.ready = ready;
        self.poller.turned(worked);
        Ok(())
    }

    fn set_service(&mut self, time: ServiceTime, verify: bool) {
        self.service = InService::new(time);
        self.verify = verify;
    }

    fn look_around(&mut self) -> io::Result<()> {
        let arrived = std::mem::take(&mut *self.inbox.lock().expect("nobody panics with it"));
        for stream in arrived {
            // A client that is gone already is no failure of the server.
            if let Err(error) = self.take_in(stream) {
                log::warn!("a connection was lost at once: {error}");
            }
        }
        Ok(())
    }

    fn counts(&self) -> ServerCounts {
        self.counts
    }

    fn usage(&self) -> CoreReport {
        self.poller.usage()
    }

    fn counters(&self) -> Counters {
        self.counters
    }
}
