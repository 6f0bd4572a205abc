//! Messages to be sent: written into mbufs, or memory of the application.

use std::ops::Range;

use crate::dpdk::{
    ExternalBuffer, Mbuf, MbufCache, MbufRef, MessageBytes, OwnedSource, SegmentedBuf,
    SendSegmentedBuf, Source, SpareLists, TcpOffload,
};
use crate::transport::OutMessage;

/// A packet with no more payload is a copy, the port's alone. One that the message holds as well costs
/// more: to give it back, the port decrements a counter atomically, and before it can, everything
/// it has written must have got to the memory that it shares with the other side.
const COPY_MAX_BYTES: u32 = 256;

/// A message under construction: made by [`Cx::alloc`](super::Cx::alloc), written through
/// [`bytes::BufMut`], sent without another copy.
pub type MessageBuf = SegmentedBuf;

/// What a call or a reply sends.
#[derive(Debug)]
pub struct Outgoing(MessageBytes);

/// The same on its way to the shard that sends it.
#[derive(Debug)]
pub(super) struct SendOutgoing(SendSource);

#[derive(Debug)]
enum SendSource {
    Packets(SendSegmentedBuf),
    External(ExternalBuffer),
}

impl SendOutgoing {
    /// The message, now of this thread.
    pub(super) fn open(self, spares: &SpareLists) -> Outgoing {
        Outgoing(match self.0 {
            SendSource::Packets(buffer) => buffer.open(spares).into(),
            SendSource::External(buffer) => buffer.into(),
        })
    }
}

impl From<MessageBuf> for Outgoing {
    #[inline(always)]
    fn from(mut buffer: MessageBuf) -> Self {
        buffer.finish();
        Self(buffer.into())
    }
}

impl Outgoing {
    pub(super) fn external(mut buffer: ExternalBuffer, segment_bytes: u32) -> Self {
        buffer.set_segment_bytes(segment_bytes);
        Self(buffer.into())
    }

    /// The way to another thread.
    ///
    /// # Errors
    /// Gives the message back if it was sent already.
    pub(super) fn into_send(self) -> Result<SendOutgoing, Self> {
        let source = match self.0.into_source() {
            OwnedSource::Packets(buffer) => {
                SendSource::Packets(buffer.into_send().map_err(|buffer| Self(buffer.into()))?)
            }
            OwnedSource::External(buffer) => SendSource::External(buffer),
        };
        Ok(SendOutgoing(source))
    }

    /// A packet of the bytes `range`, one segment of the message, behind `header_bytes` that `fill`
    /// writes, for `offload` by the port. Short ones are copied, and memory of the application. `None` when
    /// packet buffers run out.
    #[inline]
    pub(super) fn packet(
        &mut self,
        range: Range<u32>,
        header_bytes: usize,
        cache: &mut MbufCache,
        offload: Option<&TcpOffload>,
        fill: impl FnOnce(&mut [u8]),
    ) -> Option<MbufRef> {
        match self.0.packets_mut() {
            Some(buffer) => {
                // Most messages have one packet; a division is dear.
                let first = range.start == 0;
                let index = if first { 0 } else { (range.start / buffer.segment_bytes()) as usize };
                let is_short = range.end - range.start <= COPY_MAX_BYTES;
                if is_short
                    && offload.is_none()
                    && let Some(copy) = cache.alloc()
                {
                    return buffer
                        .copy_with_header(index, header_bytes, copy, fill)
                        .map(Mbuf::share);
                }
                buffer.with_header(index, header_bytes, cache, offload, fill)
            }
            None => {
                let Source::External(buffer) = self.0.source() else { return None };
                let range = range.start as usize..range.end as usize;
                match offload {
                    Some(offload) => window_on(buffer, range, header_bytes, cache, offload, fill),
                    None => copy_of(&buffer.data()[range], header_bytes, cache, fill),
                }
                .map(Mbuf::share)
            }
        }
    }

    /// All bytes if they are in one packet, and so few that a copy costs less than sharing them with the
    /// port.
    #[inline(always)]
    pub(super) fn short_bytes(&self) -> Option<&[u8]> {
        if self.0.len() > COPY_MAX_BYTES {
            return None;
        }
        self.0.in_one_packet()
    }

    /// Gives the buffer of a message that nobody needs any more back to `cache`, if it has one only.
    #[inline]
    pub(super) fn recycle(self, cache: &mut MbufCache) {
        if let OwnedSource::Packets(buffer) = self.0.into_source() {
            buffer.recycle(cache);
        }
    }

    /// A window on the bytes `range`, which lie within one segment of the message. `None` when packet
    /// buffers run out.
    pub(super) fn window(&self, range: Range<u32>, cache: &mut MbufCache) -> Option<Mbuf> {
        match self.0.source() {
            Source::Packets(buffer) => {
                let segment_bytes = buffer.segment_bytes();
                let index = range.start / segment_bytes;
                let start = index * segment_bytes;
                buffer.window(index as usize, range.start - start..range.end - start, cache)
            }
            Source::External(buffer) => {
                cache.alloc_external(buffer, range.start as usize..range.end as usize)
            }
        }
    }

    /// The bytes `range`, which are one segment of the message.
    pub(super) fn bytes(&self, range: Range<u32>) -> &[u8] {
        match self.0.source() {
            Source::Packets(buffer) => {
                buffer.segment((range.start / buffer.segment_bytes()) as usize)
            }
            Source::External(buffer) => &buffer.data()[range.start as usize..range.end as usize],
        }
    }
}

/// A packet that the port has for itself. Ports that can send memory of the application are software and copy
/// it as well (see [`ExternalBuffer`]); two buffers for each packet, and a counter of the references to that
/// memory that changes atomically, cost as much as this copy, and more when the other side's core is far.
#[inline]
fn copy_of(
    bytes: &[u8],
    header_bytes: usize,
    cache: &mut MbufCache,
    fill: impl FnOnce(&mut [u8]),
) -> Option<Mbuf> {
    let mut packet = cache.alloc_filled(header_bytes + bytes.len())?;
    let (header, rest) = packet.data_mut()?.split_at_mut_checked(header_bytes)?;
    fill(header);
    rest.copy_from_slice(bytes);
    Some(packet)
}

/// A packet that refers to external memory, for the port to cut it.
fn window_on(
    buffer: &ExternalBuffer,
    range: Range<usize>,
    header_bytes: usize,
    cache: &mut MbufCache,
    offload: &TcpOffload,
    fill: impl FnOnce(&mut [u8]),
) -> Option<Mbuf> {
    let window = cache.alloc_external(buffer, range)?;
    let mut head = cache.alloc()?;
    fill(head.append(header_bytes)?);
    head.request_tcp_offload(offload);
    head.chain(window).ok()?;
    Some(head)
}

impl OutMessage for Outgoing {
    #[inline(always)]
    fn len(&self) -> u32 {
        self.0.len()
    }

    #[inline(always)]
    fn segment_bytes(&self) -> u32 {
        match self.0.source() {
            Source::Packets(buffer) => buffer.segment_bytes(),
            Source::External(buffer) => buffer.segment_bytes(),
        }
    }
}
