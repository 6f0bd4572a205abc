//! DATA packets that do not go as they are: in marked TCP, of which a port may take many at once and cut
//! them by itself; and too large for the way, so that they go in pieces.

use std::collections::VecDeque;
use std::ops::Range;

use zerocopy::IntoBytes;

use crate::dpdk::{Capabilities, Mbuf, TcpOffload, TxBurst};
use crate::net::{Encapsulation, Path};
use crate::transport::{OutMessage, PeerRef};
use crate::wire::{Body, DATA_HEADER_LEN, Data, DataForm, Packet, RawData};

use super::super::outgoing::Outgoing;
use super::{CHECKSUM_AT, Egress, TX_BURST, complete};

/// Segments joined at most: what fits the 16 bits of an IP packet's length at an MTU of 1500.
const JOINED_MAX: u16 = 40;
/// Bytes of a joined packet at most, headers included.
const JOINED_MAX_BYTES: usize = 65_000;

/// Packets of one message, one behind the other, that the port is to cut apart again.
struct Joined {
    /// Index of the peer.
    to: u32,
    path: Path,
    priority: u8,
    /// The first of them.
    packet: Packet,
    data: Data,
    /// Message bytes of all but the last.
    segment_bytes: u32,
    /// End in the message.
    end: u32,
    segments: u16,
    /// Room for the headers, then a window on each segment.
    frame: Mbuf,
}

/// What the port does by itself, and what waits for it.
pub(super) struct Segmentation {
    /// The port fills in TCP checksums.
    checksum: bool,
    /// Bytes of the largest frames that the port cuts from long packets of IPv4, of IPv6.
    frame_max_bytes: [u16; 2],
    segments_max: u16,
    joined: Option<Joined>,
    /// Pieces that found no room in the burst.
    spilled: VecDeque<Mbuf>,
}

impl Segmentation {
    pub(super) fn new(port: &Capabilities) -> Self {
        Self {
            checksum: port.tx_tcp_checksum,
            frame_max_bytes: port.tx_tcp_segment_max_bytes,
            // One buffer is that of the headers.
            segments_max: port.segments_max.saturating_sub(1).min(JOINED_MAX),
            joined: None,
            spilled: VecDeque::new(),
        }
    }

    /// How many packets of the transport find room where `burst_room` frames do. One frame is held
    /// back until it is known that nothing can be joined to it.
    #[inline]
    pub(super) fn room(&self, burst_room: usize) -> usize {
        if self.spilled.is_empty() {
            burst_room - usize::from(self.joined.is_some()).min(burst_room)
        } else {
            0
        }
    }

    #[inline]
    pub(super) fn is_joining(&self) -> bool {
        self.joined.is_some()
    }

    #[inline]
    pub(super) fn has_spilled(&self) -> bool {
        !self.spilled.is_empty()
    }

    /// Moves pieces to the burst as far as it has room.
    #[cold]
    pub(super) fn send_spilled(&mut self, burst: &mut TxBurst<TX_BURST>) {
        while burst.room() > 0
            && let Some(piece) = self.spilled.pop_front()
        {
            // There is room, so it is taken.
            let _ = burst.push(piece);
        }
    }

    /// Forgets everything that waits.
    pub(super) fn clear(&mut self) {
        self.joined = None;
        self.spilled.clear();
    }

    /// Whether the port can cut packets with `segment_bytes` each from a long one.
    fn can_cut(&self, path: &Path, segment_bytes: u32) -> bool {
        let frame_bytes = path.header_len() + DATA_HEADER_LEN + segment_bytes as usize;
        frame_bytes <= usize::from(self.frame_max_bytes[usize::from(path.is_ipv6())])
    }

    fn offload(&self, path: &Path, segment_bytes: Option<u16>) -> Option<TcpOffload> {
        let wanted = self.checksum && path.encapsulation() == Encapsulation::MarkedTcp;
        wanted.then(|| TcpOffload {
            l2_len_bytes: path.link_len() as u8,
            l3_len_bytes: path.ip_len() as u8,
            l4_len_bytes: DATA_HEADER_LEN as u8,
            is_ipv6: path.is_ipv6(),
            segment_bytes,
        })
    }
}

impl Joined {
    /// Whether the bytes `range` of a message can go on behind.
    fn takes(&self, to: PeerRef, priority: u8, packet: &Packet, range: &Range<u32>) -> bool {
        let Body::Data(data) = packet.body else { return false };
        // Every segment carries the ack of the first; one that is acknowledged twice does no harm.
        let same = Data { offset: self.data.offset, ack: self.data.ack, ..data } == self.data
            && (data.ack.is_none() || data.ack == self.data.ack)
            && packet.header == self.packet.header
            && (to.index, priority) == (self.to, self.priority);
        let follows = range.start == self.end && range.end - range.start <= self.segment_bytes;
        same && follows && self.bytes_up_to(range.end) <= JOINED_MAX_BYTES
    }

    /// Bytes of the whole frame if it goes up to `end` of the message.
    fn bytes_up_to(&self, end: u32) -> usize {
        self.path.header_len() + DATA_HEADER_LEN + (end - self.data.offset) as usize
    }
}

impl Egress {
    /// Sends the bytes `range` of `message`, one segment of it, which do not go as they are.
    pub(super) fn send_segmented(
        &mut self,
        to: PeerRef,
        path: &Path,
        priority: u8,
        packet: &Packet,
        message: &mut Outgoing,
        range: Range<u32>,
    ) {
        if DATA_HEADER_LEN + (range.end - range.start) as usize > path.payload_max() {
            self.flush_joined();
            self.send_pieces(path, priority, packet, message, range);
        } else if self.segmentation.can_cut(path, message.segment_bytes()) {
            self.join(to, path, priority, packet, message, range);
        } else {
            self.send_marked(path, priority, packet, message, range);
        }
    }

    /// One packet in marked TCP.
    fn send_marked(
        &mut self,
        path: &Path,
        priority: u8,
        packet: &Packet,
        message: &mut Outgoing,
        range: Range<u32>,
    ) {
        let link_len = path.header_len();
        let payload_len = (range.end - range.start) as usize;
        let offload = self.segmentation.offload(path, None);
        // Summed up before the packet is lent to its header.
        let payload_sum = match offload {
            Some(_) => 0,
            None => Path::payload_checksum(message.bytes(range.clone())),
        };
        let (header_bytes, cache) = (link_len + DATA_HEADER_LEN, &mut self.headers);
        let frame = message.packet(range, header_bytes, cache, offload.as_ref(), |out| {
            path.write(out, priority, DATA_HEADER_LEN + payload_len);
            let header = &mut out[link_len..];
            packet.emit(header);
            let checksum = match offload {
                Some(_) => path.tcp_pseudo_checksum(Some(DATA_HEADER_LEN + payload_len)),
                None => path.tcp_checksum_with(header, payload_sum, payload_len),
            };
            header[CHECKSUM_AT..CHECKSUM_AT + 2].copy_from_slice(&checksum.to_be_bytes());
        });
        match frame {
            // The transport asked for room first.
            Some(frame) => drop(self.burst.push_shared(frame)),
            None => self.counters.no_mbuf += 1,
        }
    }

    /// A packet too large for the way, in pieces that are not. The receiver takes them like any
    /// packets; sent again, they are the same pieces.
    #[cold]
    fn send_pieces(
        &mut self,
        path: &Path,
        priority: u8,
        packet: &Packet,
        message: &Outgoing,
        range: Range<u32>,
    ) {
        let Body::Data(data) = packet.body else { return };
        let piece_bytes = path.payload_max().saturating_sub(DATA_HEADER_LEN).max(1);
        for start in range.clone().step_by(piece_bytes) {
            let piece = start..range.end.min(start + piece_bytes as u32);
            let body = Body::Data(Data { offset: start, ..data });
            let packet = Packet { body, ..*packet };
            let Some(frame) = self.piece(path, priority, &packet, message, piece) else {
                self.counters.no_mbuf += 1;
                return;
            };
            let all_sent = self.segmentation.spilled.is_empty();
            if let Some(frame) = if all_sent { self.burst.push(frame).err() } else { Some(frame) } {
                self.segmentation.spilled.push_back(frame);
            }
        }
    }

    fn piece(
        &mut self,
        path: &Path,
        priority: u8,
        packet: &Packet,
        message: &Outgoing,
        range: Range<u32>,
    ) -> Option<Mbuf> {
        let window = message.window(range, &mut self.headers)?;
        let mut frame = self.headers.alloc()?;
        let out = frame.append(path.header_len() + DATA_HEADER_LEN)?;
        path.write(out, priority, DATA_HEADER_LEN + window.data_len());
        let header = &mut out[path.header_len()..];
        packet.emit(header);
        complete(path, header, window.data());
        frame.chain(window).ok()?;
        Some(frame)
    }

    /// A packet that the port can send together with those before and behind it.
    fn join(
        &mut self,
        to: PeerRef,
        path: &Path,
        priority: u8,
        packet: &Packet,
        message: &mut Outgoing,
        range: Range<u32>,
    ) {
        let Body::Data(data) = packet.body else { return };
        let (bytes, end) = (range.end - range.start, range.end);
        let may_go_on = bytes == message.segment_bytes() && end < data.message_length;
        let segments_max = self.segmentation.segments_max;
        let joined = self.segmentation.joined.take();
        let mut joined = match joined {
            Some(joined) if joined.takes(to, priority, packet, &range) => joined,
            other => {
                self.flush(other);
                if !may_go_on {
                    return self.send_marked(path, priority, packet, message, range);
                }
                let Some(mut frame) = self.headers.alloc() else {
                    self.counters.no_mbuf += 1;
                    return;
                };
                if frame.append(path.header_len() + DATA_HEADER_LEN).is_none() {
                    self.counters.no_mbuf += 1;
                    return;
                }
                Joined {
                    to: to.index,
                    path: *path,
                    priority,
                    packet: *packet,
                    data,
                    segment_bytes: bytes,
                    end: range.start,
                    segments: 0,
                    frame,
                }
            }
        };
        let window = message.window(range, &mut self.headers);
        if window.is_none_or(|window| joined.frame.chain(window).is_err()) {
            // What was joined before goes; this packet is lost as it could be on the wire.
            self.counters.no_mbuf += 1;
            return self.flush(Some(joined).filter(|joined| joined.segments > 0));
        }
        joined.end = end;
        joined.segments += 1;
        let is_full = !may_go_on || joined.segments >= segments_max;
        if is_full { self.flush(Some(joined)) } else { self.segmentation.joined = Some(joined) }
    }

    /// Sends what was joined so far.
    pub(super) fn flush_joined(&mut self) {
        let joined = self.segmentation.joined.take();
        self.flush(joined);
    }

    fn flush(&mut self, joined: Option<Joined>) {
        let Some(Joined {
            path,
            priority,
            packet,
            data,
            segment_bytes,
            end,
            segments,
            mut frame,
            ..
        }) = joined
        else {
            return;
        };
        let payload_len = (end - data.offset) as usize;
        // The port counts the sequence on and leaves the rest of the header as it is.
        let header = RawData::new(&packet.header, &data, DataForm::LINUX);
        let segment_bytes = (segments > 1).then_some(segment_bytes as u16);
        let length = (segments == 1).then_some(DATA_HEADER_LEN + payload_len);
        let checksum = path.tcp_pseudo_checksum(length);
        let link_len = path.header_len();
        let Some(out) = frame.data_mut() else { return };
        path.write(out, priority, DATA_HEADER_LEN + payload_len);
        self.counters.segmented += u64::from(segment_bytes.is_some());
        if segment_bytes.is_some() && !path.is_ipv6() {
            // Each segment gets a checksum of its own.
            path.clear_ipv4_checksum(out);
        }
        out[link_len..].copy_from_slice(header.as_bytes());
        let at = link_len + CHECKSUM_AT;
        out[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
        if let Some(offload) = self.segmentation.offload(&path, segment_bytes) {
            frame.request_tcp_offload(&offload);
        }
        // The transport left room for it.
        if self.burst.push(frame).is_err() {
            self.counters.no_mbuf += 1;
        }
    }
}
