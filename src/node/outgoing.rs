//! Messages to be sent: written into mbufs, or memory of the application.

use std::ops::Range;

use crate::dpdk::{ExternalBuffer, MbufCache, MbufRef, SegmentedBuf};
use crate::transport::OutMessage;

/// A message under construction: made by [`Cx::alloc`](super::Cx::alloc), written through
/// [`bytes::BufMut`], sent without another copy.
pub type MessageBuf = SegmentedBuf;

/// What a call or a reply sends.
#[derive(Debug)]
pub struct Outgoing(Source);

#[derive(Debug)]
enum Source {
    Packets(SegmentedBuf),
    External { buffer: ExternalBuffer, segment_bytes: u32 },
}

impl From<MessageBuf> for Outgoing {
    fn from(mut buffer: MessageBuf) -> Self {
        buffer.finish();
        Self(Source::Packets(buffer))
    }
}

impl Outgoing {
    pub(super) fn external(buffer: ExternalBuffer, segment_bytes: u32) -> Self {
        Self(Source::External { buffer, segment_bytes })
    }

    /// A packet of the bytes `range`, one segment of the message, behind `header_bytes` that `fill`
    /// writes. `None` when packet buffers run out.
    #[inline]
    pub(super) fn packet(
        &mut self,
        range: Range<u32>,
        header_bytes: usize,
        cache: &mut MbufCache,
        fill: impl FnOnce(&mut [u8]),
    ) -> Option<MbufRef> {
        match &mut self.0 {
            Source::Packets(buffer) => {
                // Most messages have one packet; a division is dear.
                let first = range.start == 0;
                let index = if first { 0 } else { (range.start / buffer.segment_bytes()) as usize };
                buffer.with_header(index, header_bytes, cache, fill)
            }
            Source::External { buffer, .. } => {
                let window =
                    cache.alloc_external(buffer, range.start as usize..range.end as usize)?;
                let mut head = cache.alloc()?;
                fill(head.append(header_bytes)?);
                head.chain(window).ok()?;
                Some(head.share())
            }
        }
    }

    /// The bytes `range`, which are one segment of the message.
    pub(super) fn bytes(&self, range: Range<u32>) -> &[u8] {
        match &self.0 {
            Source::Packets(buffer) => {
                buffer.segment((range.start / buffer.segment_bytes()) as usize)
            }
            Source::External { buffer, .. } => {
                &buffer.data()[range.start as usize..range.end as usize]
            }
        }
    }
}

impl OutMessage for Outgoing {
    #[inline]
    fn len(&self) -> u32 {
        match &self.0 {
            Source::Packets(buffer) => buffer.len(),
            Source::External { buffer, .. } => u32::try_from(buffer.len()).unwrap_or(u32::MAX),
        }
    }

    #[inline]
    fn segment_bytes(&self) -> u32 {
        match &self.0 {
            Source::Packets(buffer) => buffer.segment_bytes(),
            Source::External { segment_bytes, .. } => *segment_bytes,
        }
    }
}
