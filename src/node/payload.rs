//! Bytes of a received packet, kept in the mbuf they arrived in.

use std::ops::Range;

use crate::dpdk::{FreeBurst, Mbuf, SendMbuf};
use crate::transport::{self, Payload};

#[derive(Debug)]
enum Buffer {
    Mbuf(Mbuf),
    /// Copied out, because receive buffers ran short or the packet had several segments.
    Heap(Box<[u8]>),
}

/// A part of a received packet.
#[derive(Debug)]
pub struct PacketBytes {
    buffer: Buffer,
    start: u32,
    len: u32,
}

/// The same on its way to another thread.
#[derive(Debug)]
pub(super) struct SendPacketBytes {
    buffer: SendBuffer,
    start: u32,
    len: u32,
}

#[derive(Debug)]
enum SendBuffer {
    Mbuf(SendMbuf),
    Heap(Box<[u8]>),
}

impl SendPacketBytes {
    /// The bytes, now of this thread.
    pub(super) fn open(self) -> PacketBytes {
        let buffer = match self.buffer {
            SendBuffer::Mbuf(mbuf) => Buffer::Mbuf(mbuf.open()),
            SendBuffer::Heap(bytes) => Buffer::Heap(bytes),
        };
        PacketBytes { buffer, start: self.start, len: self.len }
    }
}

/// A received request or response: slices of the mbufs it arrived in. Dropping it frees them.
pub type Message = transport::Message<PacketBytes>;

impl PacketBytes {
    /// Bytes `range` of the one segment of `mbuf`.
    #[inline]
    pub(super) fn of_mbuf(mbuf: Mbuf, range: Range<usize>) -> Self {
        debug_assert!(range.end <= mbuf.data_len());
        Self {
            buffer: Buffer::Mbuf(mbuf),
            start: range.start as u32,
            len: (range.end - range.start) as u32,
        }
    }

    pub(super) fn into_send(self) -> SendPacketBytes {
        let buffer = match self.buffer {
            Buffer::Mbuf(mbuf) => SendBuffer::Mbuf(mbuf.into_send()),
            Buffer::Heap(bytes) => SendBuffer::Heap(bytes),
        };
        SendPacketBytes { buffer, start: self.start, len: self.len }
    }

    /// Bytes `range` of a packet that was copied out.
    pub(super) fn of_copy(bytes: Box<[u8]>, range: Range<usize>) -> Self {
        Self {
            buffer: Buffer::Heap(bytes),
            start: range.start as u32,
            len: (range.end - range.start) as u32,
        }
    }
}

impl AsRef<[u8]> for PacketBytes {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        let all = match &self.buffer {
            Buffer::Mbuf(mbuf) => mbuf.data(),
            Buffer::Heap(bytes) => bytes,
        };
        &all[self.start as usize..(self.start + self.len) as usize]
    }
}

impl Payload for PacketBytes {
    #[inline]
    fn len(&self) -> u32 {
        self.len
    }

    fn narrow(&mut self, range: Range<u32>) {
        self.start += range.start;
        self.len = range.end - range.start;
    }

    fn detach(&mut self) {
        if matches!(self.buffer, Buffer::Mbuf(_)) {
            self.buffer = Buffer::Heap(Box::from(self.as_ref()));
            self.start = 0;
        }
    }

    fn discard(payloads: impl Iterator<Item = Self>) {
        let mut burst = FreeBurst::new();
        for payload in payloads {
            match payload.buffer {
                Buffer::Mbuf(mbuf) => burst.push(mbuf),
                Buffer::Heap(bytes) => drop(bytes),
            }
        }
    }
}
