//! RPCs in datagrams of the kernel's UDP, the answering side.

use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::datagram::{
    Arrived, Assembly, DATAGRAM_BYTES_MAX, HEADER_BYTES, Header, KEEP_MIN, Kind, Sending,
};
use super::poller::Poller;
use super::server::KernelServerConfig;
use super::service::InService;
use super::udp_client::is_full;
use super::{Counters, DATAGRAMS_PER_TURN, ServerWire, ask_for_buffers};
use crate::load::apps::ServerCounts;
use crate::load::payload::{Direction, Pattern};
use crate::load::report::CoreReport;
use crate::load::response::ServiceTime;

/// Messages of several datagrams that are under way, in each direction; more are dropped.
const MESSAGES_MAX: usize = 65_536;

/// An RPC: a client's ids are its own.
type Rpc = (SocketAddr, u64);

#[derive(Debug)]
struct Incoming {
    assembly: Assembly,
    heard: Instant,
}

#[derive(Debug)]
struct Outgoing {
    header: Header,
    sending: Sending,
    heard: Instant,
    /// Whether it stands in the queue.
    is_queued: bool,
}

/// The socket of one thread.
#[derive(Debug)]
pub(super) struct UdpServer {
    poller: Poller,
    socket: UdpSocket,
    verify: bool,
    keep: Duration,
    incoming: HashMap<Rpc, Incoming>,
    outgoing: HashMap<Rpc, Outgoing>,
    /// Responses of which more may be sent.
    service: InService<(SocketAddr, Header)>,
    to_send: VecDeque<Rpc>,
    ready: Vec<usize>,
    received: Box<[u8]>,
    sent: Box<[u8]>,
    counts: ServerCounts,
    counters: Counters,
}

impl UdpServer {
    /// Serves at `socket`, and keeps parts of messages for twice the timeout of clients.
    pub(super) fn new(
        mut poller: Poller,
        socket: UdpSocket,
        timeout: Duration,
        config: &KernelServerConfig,
    ) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        poller.add(&socket, 0)?;
        let udp_receive_buffer_bytes_max = ask_for_buffers(&socket);
        let counters = Counters { udp_receive_buffer_bytes_max, ..Counters::default() };
        Ok(Self {
            poller,
            socket,
            verify: config.verify,
            service: InService::new(config.service_time),
            keep: (timeout * 2).max(KEEP_MIN),
            incoming: HashMap::new(),
            outgoing: HashMap::new(),
            to_send: VecDeque::new(),
            ready: Vec::new(),
            received: vec![0; DATAGRAM_BYTES_MAX].into(),
            sent: vec![0; DATAGRAM_BYTES_MAX].into(),
            counts: ServerCounts::default(),
            counters,
        })
    }

    fn receive(&mut self) -> io::Result<bool> {
        let mut worked = false;
        for _ in 0..DATAGRAMS_PER_TURN {
            let (bytes, peer) = match self.socket.recv_from(&mut self.received) {
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // Of a client that is gone.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => continue,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            worked = true;
            self.counters.udp_datagrams_received += 1;
            match Header::parse(&self.received[..bytes]).map(|(header, _)| header) {
                Some(header) if header.kind == Kind::Request => self.take(peer, &header, bytes),
                Some(header) if header.kind == Kind::ResponseCredit => self.credit(peer, &header),
                _ => self.counters.udp_not_ours += 1,
            }
        }
        Ok(worked)
    }

    /// Takes a piece of a request, which lies in the buffer.
    fn take(&mut self, peer: SocketAddr, header: &Header, bytes: usize) {
        let piece = &self.received[HEADER_BYTES..bytes];
        let checked = match self.verify {
            true => {
                Pattern::new(header.id, Direction::Request).check(header.offset as usize, piece)
            }
            false => Ok(()),
        };
        if let Err(mismatch) = &checked {
            log::error!("request: {mismatch}");
        }
        if piece.len() == header.length as usize {
            return self.answer(peer, header, checked.is_ok());
        }
        let rpc = (peer, header.id);
        if !self.incoming.contains_key(&rpc) && self.incoming.len() >= MESSAGES_MAX {
            self.counters.udp_requests_dropped += 1;
            return;
        }
        let now = Instant::now();
        let incoming = self
            .incoming
            .entry(rpc)
            .or_insert_with(|| Incoming { assembly: Assembly::new(header), heard: now });
        incoming.heard = now;
        incoming.assembly.is_intact &= checked.is_ok();
        match incoming.assembly.add(header, piece) {
            Arrived::Useless | Arrived::Part(None) => {}
            Arrived::Part(Some(received_bytes)) => {
                let credit =
                    Header { kind: Kind::RequestCredit, length: received_bytes, ..*header };
                let mut datagram = [0; HEADER_BYTES];
                credit.write(&mut datagram);
                // A credit that is lost is made up for by the next.
                let _ = self.socket.send_to(&datagram, peer);
                self.counters.udp_credits_sent += 1;
            }
            Arrived::Whole => {
                let is_intact = incoming.assembly.is_intact;
                self.incoming.remove(&rpc);
                self.answer(peer, header, is_intact);
            }
        }
    }

    fn answer(&mut self, peer: SocketAddr, request: &Header, is_intact: bool) {
        self.counts.requests += 1;
        self.counts.request_bytes += u64::from(request.length);
        self.counts.response_bytes += u64::from(request.response_bytes);
        self.counts.corrupted += u64::from(!is_intact);
        let header =
            Header { kind: Kind::Response, length: request.response_bytes, offset: 0, ..*request };
        if self.service.len() >= MESSAGES_MAX {
            self.counts.refused += 1;
        } else if let Some((peer, header)) = self.service.begin(header.id, (peer, header)) {
            self.respond(peer, header);
        }
    }

    fn respond(&mut self, peer: SocketAddr, header: Header) {
        let sending = Sending::new(header.length, header.piece_bytes);
        let heard = Instant::now();
        let mut outgoing = Outgoing { header, sending, heard, is_queued: true };
        // Most responses are one datagram, and gone at once.
        if header.length <= header.piece_bytes && self.to_send.is_empty() {
            let _ = self.send_piece(peer, &mut outgoing);
            if outgoing.sending.is_done() {
                return;
            }
        }
        if self.outgoing.len() >= MESSAGES_MAX {
            self.counts.refused += 1;
            return;
        }
        let rpc = (peer, header.id);
        self.outgoing.insert(rpc, outgoing);
        self.to_send.push_back(rpc);
    }

    fn credit(&mut self, peer: SocketAddr, header: &Header) {
        let rpc = (peer, header.id);
        let Some(outgoing) = self.outgoing.get_mut(&rpc) else { return };
        outgoing.heard = Instant::now();
        outgoing.sending.credit(header.length);
        if !outgoing.is_queued && outgoing.sending.next().is_some() {
            outgoing.is_queued = true;
            self.to_send.push_back(rpc);
        }
    }

    /// Sends the next piece of a message; says whether the kernel took it.
    fn send_piece(&mut self, peer: SocketAddr, outgoing: &mut Outgoing) -> bool {
        let Some((offset, length)) = outgoing.sending.next() else { return true };
        let datagram = &mut self.sent[..HEADER_BYTES + length as usize];
        Header { offset, ..outgoing.header }.write(datagram);
        if self.verify {
            let pattern = Pattern::new(outgoing.header.id, Direction::Response);
            pattern.fill(offset as usize, &mut datagram[HEADER_BYTES..]);
        }
        match self.socket.send_to(datagram, peer) {
            Err(error) if is_full(&error) => {
                self.counters.udp_sends_blocked += 1;
                return false;
            }
            Ok(_) => self.counters.udp_datagrams_sent += 1,
            // The client is gone, or the way to it: as if the datagram were lost.
            Err(_) => self.counters.udp_sends_failed += 1,
        }
        outgoing.sending.advance();
        true
    }

    fn send_waiting(&mut self) -> bool {
        let mut sent = false;
        for _ in 0..DATAGRAMS_PER_TURN {
            let Some(&rpc) = self.to_send.front() else { break };
            // Taken out while it is worked on, since sending needs the rest of us.
            let Some(mut outgoing) = self.outgoing.remove(&rpc) else {
                self.to_send.pop_front();
                continue;
            };
            let took = self.send_piece(rpc.0, &mut outgoing);
            sent |= took;
            let is_done = outgoing.sending.is_done();
            if is_done || outgoing.sending.next().is_none() {
                outgoing.is_queued = false;
                self.to_send.pop_front();
            }
            if !is_done {
                self.outgoing.insert(rpc, outgoing);
            }
            if !took {
                break;
            }
        }
        sent
    }
}

impl ServerWire for UdpServer {
    fn exchange(&mut self, patience: Duration) -> io::Result<()> {
        let patience = if self.to_send.is_empty() { patience } else { Duration::ZERO };
        let mut ready = std::mem::take(&mut self.ready);
        self.poller.wait(self.service.patience(patience), &mut ready)?;
        let mut worked = false;
        while let Some((peer, response)) = self.service.done() {
            self.respond(peer, response);
            worked = true;
        }
        if !ready.is_empty() {
            worked |= self.receive()?;
        }
        self.ready = ready;
        worked |= self.send_waiting();
        self.poller.turned(worked);
        Ok(())
    }

    fn set_service(&mut self, time: ServiceTime, verify: bool) {
        self.service = InService::new(time);
        self.verify = verify;
    }

    fn look_around(&mut self) -> io::Result<()> {
        let (now, keep) = (Instant::now(), self.keep);
        let before = self.incoming.len() + self.outgoing.len();
        self.incoming.retain(|_, incoming| now.duration_since(incoming.heard) < keep);
        self.outgoing.retain(|_, outgoing| now.duration_since(outgoing.heard) < keep);
        let forgotten = before - self.incoming.len() - self.outgoing.len();
        self.counters.udp_messages_forgotten += forgotten as u64;
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
