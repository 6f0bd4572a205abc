//! What becomes of a received frame.

use std::ops::Range;
use std::rc::Rc;

use crate::addr::HostAddr;
use crate::dpdk::Mbuf;
use crate::net::{self, Received};
use crate::time::Nanos;
use crate::transport::{Onward, RpcHandle, Whole};
use crate::wire::{DATA_HEADER_LEN, Header, Packet};

use super::super::app::{App, Request, Responder, Response};
use super::super::crossing::Way;
use super::super::payload::PacketBytes;
use super::Shard;
use super::row::Row;

impl<A: App> Shard<'_, A> {
    /// One frame in one segment.
    #[inline]
    pub(super) fn input(&mut self, now: Nanos, mbuf: Mbuf, crossed: bool) {
        if let Some((onward, payload)) = self.next_in_row(now, &mbuf) {
            return self.transport.append(now, onward, PacketBytes::of_mbuf(mbuf, payload));
        }
        match self.input_plain(now, &mbuf, crossed) {
            Some((Plain::Whole(Whole::Request(rpc)), at)) => {
                self.hand_over_request(now, mbuf, rpc, &at);
            }
            Some((Plain::Whole(Whole::Response { cookie, id }), at)) => {
                let message = self.transport.whole_message(at.payload(mbuf));
                let response = Ok(Response { cookie, id, message });
                self.with_app_at(now, |app, cx| app.on_response(cx, response));
            }
            Some((Plain::Whole(Whole::Refused), _)) => {}
            Some((Plain::Onward(onward), at)) => {
                self.transport.append(now, onward, at.payload(mbuf));
            }
            None => self.input_any(now, mbuf, crossed),
        }
    }

    /// Takes in the headers of a packet that differs in nothing but its offset from the one before, and goes
    /// on with the same message; gives where its payload lies in the frame.
    #[inline(always)]
    fn next_in_row(&mut self, now: Nanos, mbuf: &Mbuf) -> Option<(Onward, Range<usize>)> {
        let row = self.row.as_ref()?;
        let data = row.data_of_next(mbuf.data())?;
        if checksum_of(mbuf) == net::IpChecksum::Bad {
            return None;
        }
        let (onward, bytes) = (row.onward, row.payload_bytes);
        if !self.transport.take_next(now, &onward, row.src, &row.header, &data, bytes) {
            return None;
        }
        self.stack.count_repeated();
        Some((onward, Row::PAYLOAD_AT..Row::PAYLOAD_AT + bytes as usize))
    }

    /// The short cut for messages of one packet, and for packets in the middle of long ones, in frames without
    /// anything unusual. `None`, and nothing done, for all others.
    #[inline(always)]
    fn input_plain(&mut self, now: Nanos, mbuf: &Mbuf, crossed: bool) -> Option<(Plain, Place)> {
        let frame = mbuf.data();
        let datagram = self.stack.expected(frame, frame.len(), checksum_of(mbuf))?;
        let bytes = datagram.of(frame);
        let (header, data) = Packet::parse_data(bytes)?;
        if let Some(crossing) = &self.crossing {
            let (src, dst) = (datagram.src.ip(), datagram.dst.ip());
            if crossing.way(src, dst, &header, crossed) != Way::Here {
                return None;
            }
        }
        let (src, payload_bytes) = (datagram.src, (bytes.len() - DATA_HEADER_LEN) as u32);
        let plain = if payload_bytes == data.message_length {
            if self.desk.is_some() {
                return None;
            }
            Plain::Whole(self.transport.take_whole(now, src, &header, &data, payload_bytes)?)
        } else {
            let onward = self.transport.take_onward(now, src, &header, &data, payload_bytes)?;
            let payload_at = datagram.start + DATA_HEADER_LEN;
            self.row = Row::new(frame, payload_at, (src, header, data), onward, payload_bytes);
            Plain::Onward(onward)
        };
        self.stack.count_expected(&datagram);
        let start = (datagram.start + DATA_HEADER_LEN) as u32;
        Some((plain, Place { src, header, start, bytes: payload_bytes }))
    }

    #[inline(always)]
    fn hand_over_request(&mut self, now: Nanos, mbuf: Mbuf, rpc: RpcHandle, at: &Place) {
        let message = self.transport.whole_message(at.payload(mbuf));
        let responder = Responder {
            rpc,
            id: at.header.sender_id,
            client: at.src,
            client_port: at.header.sport,
            port: at.header.dport,
            abandoned: Some(Rc::clone(&self.abandoned)),
            home: None,
        };
        let request = Request { message, responder };
        self.with_app_at(now, |app, cx| app.on_request(cx, request));
    }

    /// As [`Self::input`], of any frame.
    #[inline(never)]
    fn input_any(&mut self, now: Nanos, mbuf: Mbuf, crossed: bool) {
        // What is found is looked at where it is: moved, it would be copied.
        let frame = mbuf.data();
        let received = self.stack.receive(now, frame, frame.len(), checksum_of(&mbuf));
        let Received::Homa(datagram) = &received else {
            self.stats.not_homa += 1;
            return self.tell_all(&mbuf);
        };
        let parsed = Packet::parse(datagram.of(frame));
        let Ok(packet) = &parsed else {
            self.stats.malformed += 1;
            return self.tell_all(&mbuf);
        };
        if let Some(crossing) = &mut self.crossing {
            let way = crossing.way(datagram.src.ip(), datagram.dst.ip(), &packet.header, crossed);
            if way != Way::Here {
                if !crossed && crossing.has_rule_for(&packet.header) {
                    self.check_rule(way, datagram, packet);
                }
                self.redirect(way, mbuf);
                return;
            }
            if datagram.encapsulation == net::Encapsulation::MarkedTcp && !crossed {
                self.check_hash(&mbuf, datagram, packet);
            }
        }
        if !self.transport.is_port_open(&packet.header) {
            return self.closed_port(now, &mbuf, datagram, packet);
        }
        let end = datagram.start + datagram.len;
        let start = (datagram.start + DATA_HEADER_LEN).min(end);
        let payload = PacketBytes::of_mbuf(mbuf, start..end);
        if let Some(event) = self.transport.take_in(now, datagram.src, packet, payload) {
            self.hand_over(now, event);
        }
    }

    /// A packet to a port that nobody has opened.
    #[cold]
    fn closed_port(&mut self, now: Nanos, mbuf: &Mbuf, datagram: &net::Datagram, packet: &Packet) {
        self.stack.port_unreachable(now, mbuf.data());
        let nothing = PacketBytes::of_copy(&[]);
        self.transport.on_packet(now, datagram.src, packet, nothing);
    }

    /// A frame of several segments: put together in the first if it has the room, else copied out.
    #[cold]
    pub(super) fn input_chain(&mut self, now: Nanos, mut mbuf: Mbuf) {
        if mbuf.linearize() {
            return self.input(now, mbuf, false);
        }
        if self.crossing.is_some() {
            // Only packets of one segment cross. Frames that do not fit one come with a wrong MTU.
            self.stats.redirects_dropped += 1;
            return;
        }
        self.stats.rx_copied += 1;
        let mut frame = vec![0; mbuf.packet_len()].into_boxed_slice();
        mbuf.copy_to(0, &mut frame);
        let received = self.stack.receive(now, &frame, frame.len(), checksum_of(&mbuf));
        let Received::Homa(datagram) = received else {
            self.stats.not_homa += 1;
            return;
        };
        let Ok(packet) = Packet::parse(datagram.of(&frame)) else {
            self.stats.malformed += 1;
            return;
        };
        if !self.transport.is_port_open(&packet.header) {
            self.stack.port_unreachable(now, &frame);
        }
        let end = datagram.start + datagram.len;
        let start = (datagram.start + DATA_HEADER_LEN).min(end);
        let payload = PacketBytes::of_copy(frame.get(start..end).unwrap_or_default());
        self.transport.on_packet(now, datagram.src, &packet, payload);
    }
}

/// What a plain packet has become.
enum Plain {
    Whole(Whole),
    Onward(Onward),
}

/// What of a packet is needed when its message is handed over.
struct Place {
    src: HostAddr,
    header: Header,
    /// Where the payload begins in the frame.
    start: u32,
    bytes: u32,
}

impl Place {
    #[inline(always)]
    fn payload(&self, mbuf: Mbuf) -> PacketBytes {
        PacketBytes::of_mbuf(mbuf, self.start as usize..(self.start + self.bytes) as usize)
    }
}

#[inline]
pub(super) fn checksum_of(mbuf: &Mbuf) -> net::IpChecksum {
    match mbuf.ip_checksum() {
        crate::dpdk::IpChecksum::Good => net::IpChecksum::Good,
        crate::dpdk::IpChecksum::Bad => net::IpChecksum::Bad,
        crate::dpdk::IpChecksum::Unknown => net::IpChecksum::Unknown,
    }
}
