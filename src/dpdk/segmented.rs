//! Bytes written into a list of packet buffers, each filled up to the same length, with room for
//! headers in front: ready to be transmitted packet by packet without a copy.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use bytes::BufMut;
use bytes::buf::UninitSlice;

use super::message_bytes::{MessageBytes, Owned, TwoWords, View, ViewMut};
use super::short_copy::copy_short;
use super::{Mbuf, MbufCache, MbufRef, SendMbuf, TcpOffload};

/// Lists kept for the next buffer of several packets.
const SPARE_LISTS_MAX: usize = 1024;

/// Emptied lists of packets, so that making and dropping buffers does not allocate in steady state.
/// One per thread.
#[derive(Clone, Debug, Default)]
#[expect(
    clippy::vec_box,
    reason = "the boxes are what buffers point to, and are used again as well"
)]
pub struct SpareLists(Rc<RefCell<Vec<Box<List>>>>);

impl SpareLists {
    fn take(&self, segment_bytes: u32) -> Box<List> {
        let mut list = self.0.borrow_mut().pop().unwrap_or_default();
        list.segment_bytes = segment_bytes;
        list.home = Some(self.clone());
        list
    }
}

/// The packets of a buffer that has several.
#[derive(Debug, Default)]
pub(super) struct List {
    packets: Vec<MbufRef>,
    segment_bytes: u32,
    /// Where it goes when it is no longer used; none while it lies there.
    home: Option<SpareLists>,
}

impl List {
    /// Becomes a spare one.
    pub(super) fn go_home(mut self: Box<Self>) {
        let Some(home) = self.home.take() else { return };
        self.packets.clear();
        let mut spares = home.0.borrow_mut();
        if spares.len() < SPARE_LISTS_MAX {
            spares.push(self);
        }
    }
}

/// A buffer of fixed capacity over packet buffers. Write through [`BufMut`].
#[repr(transparent)]
#[derive(Debug)]
pub struct SegmentedBuf(TwoWords);

/// A [`SegmentedBuf`] on its way to another thread.
#[derive(Debug)]
pub struct SendSegmentedBuf {
    packets: SendPackets,
    capacity: u32,
    len: u32,
}

#[derive(Debug)]
enum SendPackets {
    One(SendMbuf),
    Many { segment_bytes: u32, packets: Vec<SendMbuf> },
}

impl SendSegmentedBuf {
    /// The buffer, now of this thread; `spares` are those of the thread.
    pub fn open(self, spares: &SpareLists) -> SegmentedBuf {
        let Self { packets, capacity, len } = self;
        let open = |packet: SendMbuf| packet.open().share();
        SegmentedBuf(match packets {
            SendPackets::One(packet) => TwoWords::one(open(packet), capacity, len),
            SendPackets::Many { segment_bytes, packets } => {
                let mut list = spares.take(segment_bytes);
                list.packets.extend(packets.into_iter().map(open));
                TwoWords::many(list, capacity, len)
            }
        })
    }
}

impl SegmentedBuf {
    /// A buffer for `capacity` bytes, `segment_bytes` in each packet. `None` if `cache` runs out of
    /// packet buffers or they are too small.
    #[inline(always)]
    pub fn new(
        capacity: u32,
        segment_bytes: u32,
        cache: &mut MbufCache,
        spares: &SpareLists,
    ) -> Option<Self> {
        if capacity > segment_bytes {
            return Self::of_many(capacity, segment_bytes, cache, spares);
        }
        Some(Self(TwoWords::one(Self::packet(capacity, cache)?, capacity, 0)))
    }

    #[inline(never)]
    fn of_many(
        capacity: u32,
        segment_bytes: u32,
        cache: &mut MbufCache,
        spares: &SpareLists,
    ) -> Option<Self> {
        if capacity > TwoWords::CAPACITY_MAX {
            return None;
        }
        let mut buffer = Self(TwoWords::many(spares.take(segment_bytes), capacity, 0));
        let ViewMut::Many(list) = buffer.0.view_mut() else { return None };
        let mut left = capacity;
        while left > 0 {
            let bytes = left.min(segment_bytes);
            list.packets.push(Self::packet(bytes, cache)?);
            left -= bytes;
        }
        Some(buffer)
    }

    /// At most 64 KiB, as packets have.
    #[inline(always)]
    fn packet(bytes: u32, cache: &mut MbufCache) -> Option<MbufRef> {
        Some(cache.alloc_filled(bytes as usize)?.share())
    }

    /// A buffer with `bytes` in it, copied. As [`SegmentedBuf::new`] else.
    #[inline(always)]
    pub fn of_bytes(
        bytes: &[u8],
        segment_bytes: u32,
        cache: &mut MbufCache,
        spares: &SpareLists,
    ) -> Option<Self> {
        let len = u32::try_from(bytes.len()).ok()?;
        if len > segment_bytes {
            let mut buffer = Self::of_many(len, segment_bytes, cache, spares)?;
            buffer.put_slice(bytes);
            return Some(buffer);
        }
        let mut packet = cache.alloc_filled(bytes.len())?;
        copy_short(packet.data_mut()?, bytes);
        Some(Self(TwoWords::one(packet.share(), len, len)))
    }

    /// Of words that are not those of an external buffer.
    #[inline(always)]
    pub(super) fn from_words(words: TwoWords) -> Self {
        Self(words)
    }

    #[inline(always)]
    pub(super) fn into_words(self) -> TwoWords {
        self.0
    }

    /// As [`Self::from_words`].
    #[inline(always)]
    pub(super) fn of_words(words: &TwoWords) -> &Self {
        // SAFETY: it is that and nothing else.
        unsafe { &*std::ptr::from_ref(words).cast() }
    }

    /// As [`Self::from_words`].
    #[inline(always)]
    pub(super) fn of_words_mut(words: &mut TwoWords) -> &mut Self {
        // SAFETY: it is that and nothing else.
        unsafe { &mut *std::ptr::from_mut(words).cast() }
    }

    /// Ends the buffer; its packet, if it has one only, goes to `cache` unless somebody else holds it.
    #[inline(always)]
    pub fn recycle(self, cache: &mut MbufCache) {
        match self.0.into_owned() {
            Owned::One(packet) => {
                if let Ok(packet) = packet.try_into_unique() {
                    cache.free(packet);
                }
            }
            Owned::Many(list) => list.go_home(),
            Owned::External(buffer) => drop(buffer),
        }
    }

    /// The way to another thread, for a buffer of which nothing was handed to a port yet.
    ///
    /// # Errors
    /// Gives it back if somebody else holds one of its packets.
    pub fn into_send(self) -> Result<SendSegmentedBuf, Self> {
        if !self.list().iter().all(MbufRef::is_unique) {
            return Err(self);
        }
        let (capacity, len) = (self.0.capacity(), self.len());
        let packets = match self.0.into_owned() {
            Owned::One(packet) => {
                let shared = |packet| Self(TwoWords::one(packet, capacity, len));
                SendPackets::One(packet.try_into_unique().map_err(shared)?.into_send())
            }
            Owned::Many(mut list) => {
                let segment_bytes = list.segment_bytes;
                // In place: both are pointers. Nobody has taken one meanwhile.
                let packets = std::mem::take(&mut list.packets).into_iter();
                let unique = packets.filter_map(|packet| packet.try_into_unique().ok());
                let packets = unique.map(Mbuf::into_send).collect();
                list.go_home();
                SendPackets::Many { segment_bytes, packets }
            }
            Owned::External(buffer) => return Err(Self(MessageBytes::from(buffer).into_words())),
        };
        Ok(SendSegmentedBuf { packets, capacity, len })
    }

    /// Bytes written.
    #[inline(always)]
    pub fn len(&self) -> u32 {
        self.0.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes in every packet but the last.
    #[inline(always)]
    pub fn segment_bytes(&self) -> u32 {
        match self.0.view() {
            View::Many(list) => list.segment_bytes,
            View::One(_) | View::External(_) => self.0.capacity().max(1),
        }
    }

    /// Counts `bytes` more as written.
    #[inline(always)]
    fn grow(&mut self, bytes: u32) {
        self.0.set(self.0.capacity(), self.0.len() + bytes);
    }

    #[inline(always)]
    fn list(&self) -> &[MbufRef] {
        match self.0.view() {
            View::One(packet) => std::slice::from_ref(packet),
            View::Many(list) => &list.packets,
            View::External(_) => &[],
        }
    }

    #[inline(always)]
    fn list_mut(&mut self) -> &mut [MbufRef] {
        match self.0.view_mut() {
            ViewMut::One(packet) => std::slice::from_mut(packet),
            ViewMut::Many(list) => &mut list.packets,
            ViewMut::External => &mut [],
        }
    }

    /// Bytes that belong to packet `index`.
    #[inline]
    fn bytes_of(&self, index: usize) -> Range<u32> {
        let segment_bytes = self.segment_bytes();
        let start = index as u32 * segment_bytes;
        start..(start + segment_bytes).min(self.len())
    }

    /// The bytes of packet `index`, without headers that transmissions have put in front.
    pub fn segment(&self, index: usize) -> &[u8] {
        let range = self.bytes_of(index);
        let bytes = (range.end - range.start) as usize;
        let data = self.list()[index].data();
        // Headers stand in front; room reserved and never written stands behind.
        let skip = data.len() - self.segment_room(index);
        &data[skip..skip + bytes]
    }

    /// All bytes, packet by packet.
    pub fn segments(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len().div_ceil(self.segment_bytes()) as usize).map(|index| self.segment(index))
    }

    /// Writes the rest of the capacity in place: `write` is given the offset of each piece and the
    /// piece, which holds whatever bytes were there.
    #[inline]
    pub fn write_with(&mut self, mut write: impl FnMut(usize, &mut [u8])) {
        if self.is_empty()
            && let ViewMut::One(packet) = self.0.view_mut()
        {
            // Most messages. Nobody else holds the packet before the message is sent.
            if let Some(piece) = packet.get_mut().and_then(Mbuf::data_mut) {
                write(0, piece);
                self.grow(self.0.capacity());
            }
            return;
        }
        self.write_rest_with(write);
    }

    fn write_rest_with(&mut self, mut write: impl FnMut(usize, &mut [u8])) {
        while self.len() < self.0.capacity() {
            let index = (self.len() / self.segment_bytes()) as usize;
            let at = (self.len() % self.segment_bytes()) as usize;
            let offset = self.len() as usize;
            let packet = self.list_mut()[index].get_mut().and_then(|packet| packet.data_mut());
            // Nobody else holds a packet before the message is sent.
            let Some(piece) = packet.map(|data| &mut data[at..]) else { return };
            let count = piece.len() as u32;
            write(offset, piece);
            self.grow(count);
        }
    }

    /// Ends writing: gives back what was reserved and not written.
    #[inline(always)]
    pub fn finish(&mut self) {
        if self.len() != self.0.capacity() && !self.is_empty() {
            self.shrink();
        }
    }

    #[cold]
    fn shrink(&mut self) {
        let used = self.len().div_ceil(self.segment_bytes()) as usize;
        let range = self.bytes_of(used - 1);
        if let ViewMut::Many(list) = self.0.view_mut() {
            list.packets.truncate(used);
        }
        self.0.set(self.len(), self.len());
        if let Some(packet) = self.list_mut()[used - 1].get_mut() {
            packet.truncate((range.end - range.start) as usize);
        }
    }

    /// A window on the part `range` of the bytes of packet `index`. `None` if `cache` runs out of
    /// packet buffers.
    pub fn window(&self, index: usize, range: Range<u32>, cache: &mut MbufCache) -> Option<Mbuf> {
        let packet = self.list().get(index)?;
        let start = packet.data_len() - self.segment_room(index) + range.start as usize;
        cache.alloc_indirect(packet, start..start + (range.end - range.start) as usize)
    }

    /// Bytes behind the headers of packet `index`, written or not.
    fn segment_room(&self, index: usize) -> usize {
        let segment_bytes = self.segment_bytes();
        (self.0.capacity() - index as u32 * segment_bytes).min(segment_bytes) as usize
    }

    /// Fills the empty packet `copy` with `header_bytes` that `fill` writes and the bytes of packet `index`.
    /// `None` if it is too small.
    #[inline]
    pub fn copy_with_header(
        &self,
        index: usize,
        header_bytes: usize,
        mut copy: Mbuf,
        fill: impl FnOnce(&mut [u8]),
    ) -> Option<Mbuf> {
        let bytes = self.segment(index);
        let (header, rest) = copy.append(header_bytes + bytes.len())?.split_at_mut(header_bytes);
        fill(header);
        rest.copy_from_slice(bytes);
        Some(copy)
    }

    /// A handle of packet `index` with `header_bytes` in front that `fill` writes, for `offload` by the
    /// port. In place if nobody
    /// else holds the packet; otherwise (a transmit queue still has it) in a packet of its own that
    /// refers to the bytes of this one. `None` if `cache` runs out of packet buffers.
    #[inline]
    pub fn with_header(
        &mut self,
        index: usize,
        header_bytes: usize,
        cache: &mut MbufCache,
        offload: Option<&TcpOffload>,
        fill: impl FnOnce(&mut [u8]),
    ) -> Option<MbufRef> {
        let range = self.bytes_of(index);
        let bytes = (range.end - range.start) as usize;
        let packet = self.list_mut().get_mut(index)?;
        if let Some(own) = packet.get_mut() {
            // The header of an earlier transmission.
            let stale = own.data_len() - bytes;
            if stale > 0 {
                own.trim_front(stale);
            }
            fill(own.prepend(header_bytes)?);
            if let Some(offload) = offload {
                own.request_tcp_offload(offload);
            }
            return Some(packet.clone());
        }
        let stale = packet.data_len() - bytes;
        let window = cache.alloc_indirect(packet, stale..stale + bytes)?;
        let mut head = cache.alloc()?;
        fill(head.append(header_bytes)?);
        if let Some(offload) = offload {
            head.request_tcp_offload(offload);
        }
        head.chain(window).ok()?;
        Some(head.share())
    }
}

// SAFETY: `advance_mut` counts bytes within the capacity only, and `chunk_mut` gives the bytes
// that follow those counted, which are initialised memory of packets with no other owner.
unsafe impl BufMut for SegmentedBuf {
    fn remaining_mut(&self) -> usize {
        (self.0.capacity() - self.len()) as usize
    }

    unsafe fn advance_mut(&mut self, count: usize) {
        assert!(count <= self.remaining_mut(), "advance by {count} of {}", self.remaining_mut());
        self.grow(count as u32);
    }

    fn chunk_mut(&mut self) -> &mut UninitSlice {
        if self.len() == self.0.capacity() {
            return UninitSlice::new(&mut []);
        }
        let index = (self.len() / self.segment_bytes()) as usize;
        let at = (self.len() % self.segment_bytes()) as usize;
        let packet = self.list_mut()[index].get_mut().and_then(|packet| packet.data_mut());
        match packet {
            Some(data) => UninitSlice::new(&mut data[at..]),
            None => UninitSlice::new(&mut []),
        }
    }
}
