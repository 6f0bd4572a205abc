//! From the transport's packets to mbufs in the transmit burst.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::ops::Range;

use zerocopy::{FromBytes, IntoBytes};

use crate::addr::HostAddr;
use crate::dpdk::{Capabilities, Mbuf, MbufCache, TxBurst, copy_short};
use crate::net::{Encapsulation, Path, PathState, Stack, UnreachableReason};
use crate::time::Nanos;
use crate::transport::{OutMessage, PeerRef, TxSink, run};
use crate::wire::{Body, DATA_HEADER_LEN, Data, DataForm, MAX_HEADER_LEN, Packet, RawData};

use super::outgoing::Outgoing;
use segmentation::Segmentation;

mod segmentation;

/// Packets handed to the port at once.
pub(super) const TX_BURST: usize = 64;
/// Where the checksum stands in a Homa header, which is that of TCP.
const CHECKSUM_AT: usize = 16;

/// Destinations without a way that are remembered until the transport is told; of others it is told
/// when it tries them again.
const UNREACHABLE_MAX: usize = 16;

/// What happened to packets on their way out; see [`super::ShardStats`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct EgressCounters {
    /// No mbuf for a packet.
    pub(super) no_mbuf: u64,
    /// No way to the destination.
    pub(super) no_path: u64,
    /// Too many packets waited for the resolution of addresses.
    pub(super) unresolved_dropped: u64,
    /// Packets that the port is to cut into segments.
    pub(super) segmented: u64,
}

/// The way to a peer, valid while the stack's generation is what it was.
struct CachedPath {
    addr: HostAddr,
    generation: u32,
    path: Path,
}

/// A Homa packet, without the headers around it, whose destination is being resolved.
struct Unresolved {
    dst: IpAddr,
    priority: u8,
    packet: Mbuf,
}

/// The state of the way out that lives from turn to turn.
pub(super) struct Egress {
    pub(super) burst: TxBurst<TX_BURST>,
    /// Packets that callbacks have handed to the port in this turn.
    pub(super) flushed: usize,
    /// For messages of the application.
    pub(super) messages: MbufCache,
    /// For headers and packets of the node's own, which messages must not take.
    headers: MbufCache,
    /// By peer index.
    paths: Vec<Option<CachedPath>>,
    unresolved: VecDeque<Unresolved>,
    unresolved_max: usize,
    /// Some of them can be sent, and found no room.
    resolved_waiting: bool,
    /// What turned out to have no way, for the transport to be told.
    unreachable: Vec<IpAddr>,
    segmentation: Segmentation,
    pub(super) counters: EgressCounters,
}

impl Egress {
    pub(super) fn new(
        messages: MbufCache,
        headers: MbufCache,
        peers_max: usize,
        unresolved_max: usize,
        port: &Capabilities,
    ) -> Self {
        Self {
            burst: TxBurst::new(),
            flushed: 0,
            messages,
            headers,
            paths: Vec::with_capacity(peers_max),
            unresolved: VecDeque::with_capacity(unresolved_max),
            unresolved_max,
            resolved_waiting: false,
            unreachable: Vec::with_capacity(UNREACHABLE_MAX),
            segmentation: Segmentation::new(port),
            counters: EgressCounters::default(),
        }
    }

    /// Sends the frames that the stack wants to send on its own: ARP, ICMP. What finds no room in the
    /// burst is sent in the next turns.
    pub(super) fn send_own_frames(&mut self, stack: &mut Stack) {
        stack.poll_transmit(self.burst.room(), |frame| {
            let Some(mut mbuf) = self.headers.alloc() else {
                self.counters.no_mbuf += 1;
                return;
            };
            if !mbuf.extend_from_slice(frame) || self.burst.push(mbuf).is_err() {
                self.counters.no_mbuf += 1;
            }
        });
    }

    /// Sends packets whose destinations can be reached now; forgets those that cannot. What finds no
    /// room in the burst is sent in the next turns.
    #[cold]
    pub(super) fn send_resolved(&mut self, now: Nanos, stack: &mut Stack) {
        self.resolved_waiting = false;
        for _ in 0..self.unresolved.len() {
            let Some(mut waiting) = self.unresolved.pop_front() else { return };
            match stack.path(now, waiting.dst) {
                PathState::Resolving => self.unresolved.push_back(waiting),
                PathState::Unreachable(UnreachableReason::NoAnswer) => {
                    self.note_unreachable(waiting.dst);
                }
                PathState::Unreachable(_) => self.counters.no_path += 1,
                PathState::Ready(path) if self.burst.room() > 0 => {
                    let length = waiting.packet.data_len();
                    if let Some(packet) = waiting.packet.data_mut() {
                        complete(&path, packet, &[]);
                    }
                    if let Some(header) = waiting.packet.prepend(path.header_len()) {
                        path.write(header, waiting.priority, length);
                        // There is room, so it is taken.
                        let _ = self.burst.push(waiting.packet);
                    }
                }
                PathState::Ready(_) => {
                    self.resolved_waiting = true;
                    self.unresolved.push_back(waiting);
                }
            }
        }
    }

    #[cold]
    fn note_unreachable(&mut self, dst: IpAddr) {
        self.counters.no_path += 1;
        if self.unreachable.len() < UNREACHABLE_MAX && !self.unreachable.contains(&dst) {
            self.unreachable.push(dst);
        }
    }

    /// Whether there is something for [`Self::take_unreachable`].
    #[inline]
    pub(super) fn has_unreachable(&self) -> bool {
        !self.unreachable.is_empty()
    }

    /// A destination to which there is no way, once.
    pub(super) fn take_unreachable(&mut self) -> Option<IpAddr> {
        self.unreachable.pop()
    }

    /// Whether packets wait here for the port.
    #[inline]
    pub(super) fn has_work(&self) -> bool {
        !self.burst.is_empty() || self.segmentation.has_spilled()
    }

    /// Whether [`Egress::send_resolved`] has left packets for want of room.
    #[inline]
    pub(super) fn has_resolved(&self) -> bool {
        self.resolved_waiting
    }

    /// Forgets everything on the way, for an orderly end.
    pub(super) fn clear(&mut self) {
        self.unresolved.clear();
        self.segmentation.clear();
        self.burst.clear();
    }
}

/// Completes a Homa packet, of which `header` lacks nothing but the checksum that marked TCP needs;
/// `payload` is what of it lies elsewhere.
#[inline]
fn complete(path: &Path, header: &mut [u8], payload: &[u8]) {
    if path.encapsulation() == Encapsulation::MarkedTcp {
        let checksum = path.tcp_checksum(header, payload);
        header[CHECKSUM_AT..CHECKSUM_AT + 2].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// Where the transport's packets go in one turn of the loop. Ends with [`Sink::finish`].
pub(super) struct Sink<'a> {
    now: Nanos,
    egress: &'a mut Egress,
    stack: &'a mut Stack,
}

/// Where the way to a peer stands.
enum Way {
    /// In [`Egress::paths`], under the index of the peer.
    Cached,
    Resolving,
    None,
}

/// The way to `to`, if it is known and still valid.
#[inline]
fn cached(paths: &[Option<CachedPath>], generation: u32, to: PeerRef) -> Option<&Path> {
    let way = paths.get(to.index as usize)?.as_ref()?;
    (way.generation == generation && way.addr == to.addr).then_some(&way.path)
}

impl<'a> Sink<'a> {
    #[inline]
    pub(super) fn new(now: Nanos, egress: &'a mut Egress, stack: &'a mut Stack) -> Self {
        if egress.segmentation.has_spilled() {
            egress.segmentation.send_spilled(&mut egress.burst);
        }
        Self { now, egress, stack }
    }

    /// Sends what was held back to be joined with more.
    #[inline]
    pub(super) fn finish(self) {
        if self.egress.segmentation.is_joining() {
            self.egress.flush_joined();
        }
    }

    /// Sees to it that the way to `to` is known, if it can be.
    #[inline]
    fn way(&mut self, to: PeerRef) -> Way {
        match cached(&self.egress.paths, self.stack.generation(), to) {
            Some(_) => Way::Cached,
            None => self.look_up(to),
        }
    }

    #[cold]
    fn look_up(&mut self, to: PeerRef) -> Way {
        // A way that was used before need not be one still: the stack asks for itself, now and then.
        let index = to.index as usize;
        match self.stack.path(self.now, to.addr.ip()) {
            PathState::Ready(path) => {
                let generation = self.stack.generation();
                if index >= self.egress.paths.len() {
                    self.egress.paths.resize_with(index + 1, || None);
                }
                self.egress.paths[index] = Some(CachedPath { addr: to.addr, generation, path });
                Way::Cached
            }
            PathState::Resolving => Way::Resolving,
            PathState::Unreachable(reason) if reason.is_lasting() => {
                if self.egress.counters.no_path == 0 {
                    log::warn!("{} cannot be sent to: {reason}", to.addr.ip());
                }
                self.egress.note_unreachable(to.addr.ip());
                Way::None
            }
            PathState::Unreachable(_) => {
                self.egress.counters.no_path += 1;
                Way::None
            }
        }
    }

    /// Keeps a packet until the address of its destination is known. Off the fast path: copies.
    #[cold]
    fn keep(&mut self, to: PeerRef, priority: u8, packet: &Packet, payload: &[u8]) {
        let egress = &mut *self.egress;
        if egress.unresolved.len() >= egress.unresolved_max {
            egress.counters.unresolved_dropped += 1;
            return;
        }
        let Some(mut mbuf) = egress.headers.alloc() else {
            egress.counters.no_mbuf += 1;
            return;
        };
        let mut header = [0; MAX_HEADER_LEN];
        let length = packet.emit(&mut header);
        if mbuf.extend_from_slice(&header[..length]) && mbuf.extend_from_slice(payload) {
            egress.unresolved.push_back(Unresolved { dst: to.addr.ip(), priority, packet: mbuf });
        } else {
            egress.counters.no_mbuf += 1;
        }
    }

    /// Keeps a DATA packet, in as many pieces as the MTU of its destination asks for. Copied: the
    /// message may be sent again or be gone before the address is known.
    #[cold]
    fn keep_data(&mut self, to: PeerRef, priority: u8, packet: &Packet, payload: &[u8]) {
        let Body::Data(data) = packet.body else { return };
        let piece_bytes =
            self.stack.payload_max(to.addr.ip()).saturating_sub(DATA_HEADER_LEN).max(1);
        for (index, piece) in payload.chunks(piece_bytes).enumerate() {
            let offset = data.offset + (index * piece_bytes) as u32;
            let body = Body::Data(Data { offset, ..data });
            self.keep(to, priority, &Packet { body, ..*packet }, piece);
        }
    }
}

impl TxSink<Outgoing> for Sink<'_> {
    #[inline]
    fn room(&self) -> usize {
        self.egress.segmentation.room(self.egress.burst.room())
    }

    fn control(&mut self, to: PeerRef, priority: u8, packet: &Packet) {
        match self.way(to) {
            Way::Cached => {}
            Way::Resolving => return self.keep(to, priority, packet, &[]),
            Way::None => return,
        }
        let egress = &mut *self.egress;
        let Some(path) = cached(&egress.paths, self.stack.generation(), to) else { return };
        let Some(mut mbuf) = egress.headers.alloc() else {
            egress.counters.no_mbuf += 1;
            return;
        };
        let (link_len, homa_len) = (path.header_len(), packet.emitted_len());
        let Some(frame) = mbuf.append(link_len + homa_len) else { return };
        path.write(frame, priority, homa_len);
        packet.emit(&mut frame[link_len..]);
        complete(path, &mut frame[link_len..], &[]);
        // The transport asked for room first.
        let _ = egress.burst.push(mbuf);
    }

    fn data(
        &mut self,
        to: PeerRef,
        priority: u8,
        packet: &Packet,
        message: &mut Outgoing,
        range: Range<u32>,
    ) {
        self.any_data(to, priority, *packet, message, range);
    }

    #[inline(always)]
    fn whole(
        &mut self,
        to: PeerRef,
        priority: u8,
        packet: &Packet,
        message: &mut Outgoing,
    ) -> bool {
        self.short_data(to, priority, packet, message).is_some()
    }

    fn data_run(
        &mut self,
        to: PeerRef,
        priority: u8,
        packet: &Packet,
        message: &mut Outgoing,
        range: Range<u32>,
    ) {
        if !self.plain_run(to, priority, packet, message, range.clone()) {
            for (packet, range) in run(packet, range, message.segment_bytes()) {
                self.any_data(to, priority, packet, message, range);
            }
        }
    }
}

impl Sink<'_> {
    /// Sends a short message to where the way is known, as a copy; `None` if it did not.
    #[inline(always)]
    fn short_data(
        &mut self,
        to: PeerRef,
        priority: u8,
        packet: &Packet,
        message: &Outgoing,
    ) -> Option<()> {
        let egress = &mut *self.egress;
        let bytes = message.short_bytes()?;
        let path = cached(&egress.paths, self.stack.generation(), to)?;
        let (link_len, homa_len) = (path.header_len(), DATA_HEADER_LEN + bytes.len());
        if !path.takes(homa_len) {
            return None;
        }
        let mut copy = egress.headers.alloc_filled(link_len + homa_len)?;
        let frame = copy.data_mut()?;
        path.write(frame, priority, homa_len);
        let homa = frame.get_mut(link_len..)?;
        packet.emit(homa);
        copy_short(homa.get_mut(DATA_HEADER_LEN..)?, bytes);
        // The transport asked for room first.
        let _ = egress.burst.push(copy);
        Some(())
    }

    /// Sends packets of one message that go as they are to where the way is known: all but the offset of
    /// their headers is written once. Says whether it did.
    fn plain_run(
        &mut self,
        to: PeerRef,
        priority: u8,
        packet: &Packet,
        message: &mut Outgoing,
        range: Range<u32>,
    ) -> bool {
        let egress = &mut *self.egress;
        let Some(path) = cached(&egress.paths, self.stack.generation(), to) else { return false };
        let Body::Data(data) = packet.body else { return false };
        let segment_bytes = message.segment_bytes();
        let full_len = DATA_HEADER_LEN + segment_bytes as usize;
        if !path.takes(full_len) {
            return false;
        }
        let link_len = path.header_len();
        let header_len = link_len + DATA_HEADER_LEN;
        let mut headers = [0; Path::HEADER_MAX_BYTES + DATA_HEADER_LEN];
        let headers = &mut headers[..header_len];
        path.write(headers, priority, full_len);
        packet.emit(&mut headers[link_len..]);
        let bare = RawData::new(&packet.header, &Data { ack: None, ..data }, DataForm::OURS);
        let mut offset = range.start;
        while offset < range.end {
            let end = (offset + segment_bytes).min(range.end);
            let fill = |header: &mut [u8]| {
                copy_short(header, headers);
                let homa_len = DATA_HEADER_LEN + (end - offset) as usize;
                if homa_len != full_len {
                    path.write(header, priority, homa_len);
                }
                if let Ok(raw) = RawData::mut_from_bytes(&mut header[link_len..]) {
                    raw.move_to(offset);
                }
            };
            match message.packet(offset..end, header_len, &mut egress.headers, None, fill) {
                // The transport asked for room first.
                Some(frame) => drop(egress.burst.push_shared(frame)),
                None => egress.counters.no_mbuf += 1,
            }
            if offset == range.start {
                headers[link_len..].copy_from_slice(bare.as_bytes());
            }
            offset = end;
        }
        true
    }

    #[inline(never)]
    fn any_data(
        &mut self,
        to: PeerRef,
        priority: u8,
        packet: Packet,
        message: &mut Outgoing,
        range: Range<u32>,
    ) {
        let packet = &packet;
        match self.way(to) {
            Way::Cached => {}
            Way::Resolving => return self.keep_data(to, priority, packet, message.bytes(range)),
            Way::None => return,
        }
        let egress = &mut *self.egress;
        let Some(path) = cached(&egress.paths, self.stack.generation(), to) else { return };
        let link_len = path.header_len();
        let payload_len = (range.end - range.start) as usize;
        if !path.takes(DATA_HEADER_LEN + payload_len) {
            let path = *path;
            return egress.send_segmented(to, &path, priority, packet, message, range);
        }
        let header_bytes = link_len + DATA_HEADER_LEN;
        let frame = message.packet(range, header_bytes, &mut egress.headers, None, |header| {
            path.write(header, priority, DATA_HEADER_LEN + payload_len);
            packet.emit(&mut header[link_len..]);
        });
        match frame {
            // The transport asked for room first.
            Some(frame) => drop(egress.burst.push_shared(frame)),
            None => egress.counters.no_mbuf += 1,
        }
    }
}
