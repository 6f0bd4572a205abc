//! RPCs in datagrams of the kernel's UDP, the asking side.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use super::calls::Calls;
use super::datagram::{
    Arrived, Assembly, DATAGRAM_BYTES_MAX, HEADER_BYTES, Header, Kind, Sending, piece_bytes,
};
use super::poller::Poller;
use super::{Ask, Counters, DATAGRAMS_PER_TURN, Done, Monotonic, Wire, ask_for_buffers};
use crate::load::generator::{Failure, Outcome};
use crate::load::payload::{Direction, Pattern};
use crate::load::report::CoreReport;
use crate::time::Nanos;

#[derive(Debug)]
struct Call {
    cookie: u64,
    socket: usize,
    response_bytes: u32,
    request: Header,
    sending: Sending,
    response: Option<Assembly>,
    /// When something was last sent or heard of it.
    heard: Nanos,
}

#[derive(Debug)]
struct Socket {
    socket: UdpSocket,
    server: SocketAddr,
    /// When something was last heard, or when there was last nothing to be heard of.
    heard: Nanos,
    outstanding: u32,
}

/// What a client over UDP is made from.
#[derive(Debug)]
pub(super) struct UdpClientConfig<'a> {
    pub(super) servers: &'a [SocketAddr],
    pub(super) source: Option<IpAddr>,
    pub(super) per_server: usize,
    pub(super) calls_max: u32,
    pub(super) mtu: u16,
    /// An RPC of which nothing is heard for this long has failed.
    pub(super) timeout: Nanos,
    /// A server of which nothing is heard for this long is given up.
    pub(super) silence: Nanos,
    pub(super) verify: bool,
}

/// Sockets to all servers.
#[derive(Debug)]
pub(super) struct UdpClient {
    poller: Poller,
    sockets: Vec<Socket>,
    per_server: usize,
    calls: Calls<Call>,
    /// Requests of which more may be sent.
    to_send: VecDeque<u64>,
    mtu: u16,
    timeout: Nanos,
    silence: Nanos,
    verify: bool,
    ready: Vec<usize>,
    buffer: Box<[u8]>,
    counters: Counters,
}

impl UdpClient {
    /// A socket or more for each server. Whether the servers are there is seen later.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn open(config: &UdpClientConfig<'_>, poller: Poller) -> Result<Self, String> {
        let mut client = Self {
            poller,
            sockets: Vec::new(),
            per_server: config.per_server.max(1),
            calls: Calls::new(config.calls_max),
            to_send: VecDeque::new(),
            mtu: config.mtu,
            timeout: config.timeout,
            silence: config.silence,
            verify: config.verify,
            ready: Vec::new(),
            buffer: vec![0; DATAGRAM_BYTES_MAX].into(),
            counters: Counters::default(),
        };
        for &server in config.servers {
            for _ in 0..client.per_server {
                let socket = open(server, config.source)
                    .map_err(|error| format!("no UDP socket to {server}: {error}"))?;
                let token = client.sockets.len();
                client.poller.add(&socket, token).map_err(|error| error.to_string())?;
                client.counters.udp_receive_buffer_bytes_max = ask_for_buffers(&socket);
                client.sockets.push(Socket { socket, server, heard: Nanos::ZERO, outstanding: 0 });
            }
        }
        Ok(client)
    }

    /// Sends what may be sent of the requests that wait, in turn; stops when the kernel takes no more.
    fn send_waiting(&mut self) -> Result<bool, String> {
        let mut sent = false;
        for _ in 0..DATAGRAMS_PER_TURN {
            let Some(&id) = self.to_send.front() else { break };
            let Some(call) = self.calls.get_mut(id) else {
                self.to_send.pop_front();
                continue;
            };
            let Some((offset, length)) = call.sending.next() else {
                self.to_send.pop_front();
                continue;
            };
            let datagram = &mut self.buffer[..HEADER_BYTES + length as usize];
            Header { offset, ..call.request }.write(datagram);
            if self.verify {
                let pattern = Pattern::new(id, Direction::Request);
                pattern.fill(offset as usize, &mut datagram[HEADER_BYTES..]);
            }
            let socket = &self.sockets[call.socket];
            match socket.socket.send(datagram) {
                Ok(_) => {
                    call.sending.advance();
                    self.counters.udp_datagrams_sent += 1;
                    sent = true;
                }
                Err(error) if is_full(&error) => {
                    self.counters.udp_sends_blocked += 1;
                    break;
                }
                Err(error) => return Err(gone(socket, &error)),
            }
        }
        Ok(sent)
    }

    /// Takes what came at one socket.
    fn receive(
        &mut self,
        index: usize,
        clock: Monotonic,
        done: &mut Vec<Done>,
    ) -> Result<bool, String> {
        let mut worked = false;
        for _ in 0..DATAGRAMS_PER_TURN {
            let socket = &mut self.sockets[index];
            let bytes = match socket.socket.recv(&mut self.buffer) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(gone(socket, &error)),
            };
            worked = true;
            let now = clock.now();
            socket.heard = now;
            self.counters.udp_datagrams_received += 1;
            match Header::parse(&self.buffer[..bytes]) {
                Some((header, piece)) => {
                    let what = take(&mut self.calls, now, &header, piece, self.verify);
                    self.act(index, now, &header, what, done);
                }
                None => self.counters.udp_not_ours += 1,
            }
        }
        Ok(worked)
    }

    fn act(
        &mut self,
        index: usize,
        now: Nanos,
        header: &Header,
        what: Taken,
        done: &mut Vec<Done>,
    ) {
        match what {
            Taken::Nothing => {}
            Taken::Unknown => self.counters.udp_late_datagrams += 1,
            Taken::MaySend => self.to_send.push_back(header.id),
            Taken::Tell(received_bytes) => {
                let credit =
                    Header { kind: Kind::ResponseCredit, length: received_bytes, ..*header };
                let mut datagram = [0; HEADER_BYTES];
                credit.write(&mut datagram);
                // A credit that is lost is made up for by the next.
                let _ = self.sockets[index].socket.send(&datagram);
                self.counters.udp_credits_sent += 1;
            }
            Taken::Whole(outcome) => {
                if let Some(call) = self.calls.remove(header.id) {
                    self.sockets[call.socket].outstanding -= 1;
                    done.push(Done { cookie: call.cookie, at: now, outcome });
                }
            }
        }
    }
}

impl Wire for UdpClient {
    fn call(&mut self, now: Nanos, ask: &Ask) -> bool {
        let first = ask.destination * self.per_server;
        let range = first..first + self.per_server;
        let Some(index) = range.min_by_key(|&i| self.sockets[i].outstanding) else { return false };
        let socket = &mut self.sockets[index];
        let piece_bytes = piece_bytes(self.mtu, socket.server.is_ipv6());
        let request = Header {
            kind: Kind::Request,
            length: ask.request_bytes,
            response_bytes: ask.response_bytes,
            id: 0,
            offset: 0,
            piece_bytes,
        };
        let call = Call {
            cookie: ask.cookie,
            socket: index,
            response_bytes: ask.response_bytes,
            request,
            sending: Sending::new(ask.request_bytes, piece_bytes),
            response: None,
            heard: now,
        };
        let Some(id) = self.calls.insert(call) else { return false };
        if let Some(call) = self.calls.get_mut(id) {
            call.request.id = id;
        }
        if socket.outstanding == 0 {
            socket.heard = now;
        }
        socket.outstanding += 1;
        self.to_send.push_back(id);
        true
    }

    fn exchange(
        &mut self,
        clock: Monotonic,
        patience: Duration,
        done: &mut Vec<Done>,
    ) -> Result<(), String> {
        let mut worked = self.send_waiting()?;
        // What still waits was refused by the kernel or is more than a turn's share: soon again.
        let patience = if self.to_send.is_empty() { patience } else { Duration::ZERO };
        let mut ready = std::mem::take(&mut self.ready);
        self.poller.wait(patience, &mut ready).map_err(|error| error.to_string())?;
        for &index in &ready {
            worked |= self.receive(index, clock, done)?;
        }
        self.ready = ready;
        self.poller.turned(worked);
        Ok(())
    }

    fn look_around(&mut self, now: Nanos, done: &mut Vec<Done>) -> Result<(), String> {
        let (timeout, sockets) = (self.timeout, &mut self.sockets);
        self.calls.remove_if(
            |call| now.since(call.heard) > timeout,
            |call| {
                sockets[call.socket].outstanding -= 1;
                let outcome = Outcome::Failed(Failure::Timeout);
                done.push(Done { cookie: call.cookie, at: now, outcome });
            },
        );
        let silent = self
            .sockets
            .iter()
            .find(|socket| socket.outstanding > 0 && now.since(socket.heard) > self.silence);
        silent.map_or(Ok(()), |socket| {
            let seconds = self.silence.0 as f64 / 1e9;
            Err(format!(
                "the server {}: nothing was heard of it for {seconds} s: did it stop?",
                socket.server
            ))
        })
    }

    fn give_up(&mut self, now: Nanos, done: &mut Vec<Done>) {
        let outcome = Outcome::Failed(Failure::Unreachable);
        let sockets = &mut self.sockets;
        self.calls.remove_if(
            |_| true,
            |call| {
                sockets[call.socket].outstanding -= 1;
                done.push(Done { cookie: call.cookie, at: now, outcome });
            },
        );
    }

    fn usage(&self) -> CoreReport {
        self.poller.usage()
    }

    fn counters(&self) -> Counters {
        self.counters
    }
}

/// What a datagram means for its RPC.
enum Taken {
    Nothing,
    /// The RPC is over: it failed before, or was answered.
    Unknown,
    /// More of the request may be sent.
    MaySend,
    /// The server is to hear how much of the response is there.
    Tell(u32),
    Whole(Outcome),
}

fn take(calls: &mut Calls<Call>, now: Nanos, header: &Header, piece: &[u8], verify: bool) -> Taken {
    let Some(call) = calls.get_mut(header.id) else { return Taken::Unknown };
    call.heard = now;
    match header.kind {
        Kind::RequestCredit => {
            let could = call.sending.next().is_some();
            call.sending.credit(header.length);
            // One that could send is in the queue.
            if could || call.sending.next().is_none() { Taken::Nothing } else { Taken::MaySend }
        }
        Kind::Response => take_piece(call, header, piece, verify),
        Kind::Request | Kind::ResponseCredit => Taken::Nothing,
    }
}

fn take_piece(call: &mut Call, header: &Header, piece: &[u8], verify: bool) -> Taken {
    if header.length != call.response_bytes {
        log::error!("response: {} bytes instead of {}", header.length, call.response_bytes);
        return Taken::Whole(Outcome::Corrupted);
    }
    let checked = match verify {
        true => Pattern::new(header.id, Direction::Response).check(header.offset as usize, piece),
        false => Ok(()),
    };
    if let Err(mismatch) = checked {
        log::error!("response: {mismatch}");
        return Taken::Whole(Outcome::Corrupted);
    }
    let whole = Taken::Whole(Outcome::Response { size_bytes: header.length });
    // Most responses have one piece, and need no account of what came.
    if piece.len() == header.length as usize {
        return whole;
    }
    let assembly = call.response.get_or_insert_with(|| Assembly::new(header));
    match assembly.add(header, piece) {
        Arrived::Useless | Arrived::Part(None) => Taken::Nothing,
        Arrived::Part(Some(received_bytes)) => Taken::Tell(received_bytes),
        Arrived::Whole => whole,
    }
}

fn open(server: SocketAddr, source: Option<IpAddr>) -> std::io::Result<UdpSocket> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((source.unwrap_or(any), 0))?;
    socket.connect(server)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Whether the kernel has no room, which passes.
pub(super) fn is_full(error: &std::io::Error) -> bool {
    let no_buffers = rustix::io::Errno::NOBUFS.raw_os_error();
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
        || error.raw_os_error() == Some(no_buffers)
}

fn gone(socket: &Socket, error: &std::io::Error) -> String {
    let server = socket.server;
    if error.kind() == ErrorKind::ConnectionRefused {
        return format!(
            "the server {server}: nobody listens there: start the server first, with --transport \
             udp; or did it stop?"
        );
    }
    format!("the server {server}: {error}")
}
