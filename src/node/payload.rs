//! Bytes of a received packet, kept in the mbuf they arrived in.

use std::ops::Range;

use crate::dpdk::{FreeBurst, Mbuf, SendMbuf};
use crate::transport::{self, Payload};

/// A part of a received packet. Two words, because received messages are moved often.
#[derive(Debug)]
pub struct PacketBytes(Bytes);

const _: () = assert!(size_of::<PacketBytes>() == 16);

/// Where the bytes lie, and which of those there: packets have less than 64 KiB.
#[derive(Debug)]
enum Bytes {
    Mbuf {
        start: u16,
        len: u16,
        mbuf: Mbuf,
    },
    /// Copied out, because receive buffers ran short or the packet had several segments.
    Heap {
        start: u16,
        len: u16,
        bytes: Box<Box<[u8]>>,
    },
}

/// The same on its way to another thread, in as many bytes.
#[derive(Debug)]
pub(super) struct SendPacketBytes(SendBytes);

#[derive(Debug)]
enum SendBytes {
    Mbuf { start: u16, len: u16, mbuf: SendMbuf },
    Heap { start: u16, len: u16, bytes: Box<Box<[u8]>> },
}

impl SendPacketBytes {
    /// The bytes, now of this thread.
    pub(super) fn open(self) -> PacketBytes {
        PacketBytes(match self.0 {
            SendBytes::Mbuf { start, len, mbuf } => Bytes::Mbuf { start, len, mbuf: mbuf.open() },
            SendBytes::Heap { start, len, bytes } => Bytes::Heap { start, len, bytes },
        })
    }
}

/// A received request or response: slices of the mbufs it arrived in. Dropping it frees them.
pub type Message = transport::Message<PacketBytes>;

impl PacketBytes {
    /// Bytes `range` of the one segment of `mbuf`.
    #[inline(always)]
    pub(super) fn of_mbuf(mbuf: Mbuf, range: Range<usize>) -> Self {
        debug_assert!(range.end <= mbuf.data_len());
        // A segment has no more.
        Self(Bytes::Mbuf { start: range.start as u16, len: (range.end - range.start) as u16, mbuf })
    }

    pub(super) fn into_send(self) -> SendPacketBytes {
        SendPacketBytes(match self.0 {
            Bytes::Mbuf { start, len, mbuf } => {
                SendBytes::Mbuf { start, len, mbuf: mbuf.into_send() }
            }
            Bytes::Heap { start, len, bytes } => SendBytes::Heap { start, len, bytes },
        })
    }

    /// A copy of `payload`, which is part of a packet.
    pub(super) fn of_copy(payload: &[u8]) -> Self {
        let len = u16::try_from(payload.len()).unwrap_or(u16::MAX);
        Self(Bytes::Heap { start: 0, len, bytes: Box::new(payload.into()) })
    }

    #[inline(always)]
    fn range_mut(&mut self) -> (&mut u16, &mut u16) {
        match &mut self.0 {
            Bytes::Mbuf { start, len, .. } | Bytes::Heap { start, len, .. } => (start, len),
        }
    }
}

impl AsRef<[u8]> for PacketBytes {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        let (start, len, all) = match &self.0 {
            Bytes::Mbuf { start, len, mbuf } => (*start, *len, mbuf.data()),
            Bytes::Heap { start, len, bytes } => (*start, *len, &***bytes),
        };
        &all[usize::from(start)..usize::from(start) + usize::from(len)]
    }
}

impl Payload for PacketBytes {
    #[inline(always)]
    fn len(&self) -> u32 {
        match &self.0 {
            Bytes::Mbuf { len, .. } | Bytes::Heap { len, .. } => u32::from(*len),
        }
    }

    fn narrow(&mut self, range: Range<u32>) {
        // Within the present bytes.
        let (start, len) = self.range_mut();
        *start += range.start as u16;
        *len = (range.end - range.start) as u16;
    }

    fn detach(&mut self) {
        if matches!(self.0, Bytes::Mbuf { .. }) {
            *self = Self::of_copy(self.as_ref());
        }
    }

    fn discard(payloads: impl Iterator<Item = Self>) {
        let mut burst = FreeBurst::new();
        for payload in payloads {
            match payload.0 {
                Bytes::Mbuf { mbuf, .. } => burst.push(mbuf),
                Bytes::Heap { bytes, .. } => drop(bytes),
            }
        }
    }
}
