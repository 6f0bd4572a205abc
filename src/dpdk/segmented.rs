//! Bytes written into a list of packet buffers, each filled up to the same length, with room for
//! headers in front: ready to be transmitted packet by packet without a copy.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use bytes::BufMut;
use bytes::buf::UninitSlice;

use super::{Mbuf, MbufCache, MbufRef, SendMbuf, TcpOffload};

/// Lists kept for the next buffer of several packets.
const SPARE_LISTS_MAX: usize = 1024;

/// Emptied lists of packets, so that making and dropping buffers does not allocate in steady state.
/// One per thread.
#[derive(Clone, Debug, Default)]
pub struct SpareLists(Rc<RefCell<Vec<Vec<MbufRef>>>>);

impl SpareLists {
    fn take(&self) -> Vec<MbufRef> {
        self.0.borrow_mut().pop().unwrap_or_default()
    }

    fn give(&self, mut list: Vec<MbufRef>) {
        list.clear();
        let mut spares = self.0.borrow_mut();
        if spares.len() < SPARE_LISTS_MAX {
            spares.push(list);
        }
    }
}

#[derive(Debug)]
enum Packets {
    One(MbufRef),
    Many(PacketList),
}

/// Packets of a buffer, in a list that goes back to the spare ones.
#[derive(Debug)]
struct PacketList {
    list: Vec<MbufRef>,
    spares: SpareLists,
}

impl Drop for PacketList {
    fn drop(&mut self) {
        self.spares.give(std::mem::take(&mut self.list));
    }
}

/// A buffer of fixed capacity over packet buffers. Write through [`BufMut`].
#[derive(Debug)]
pub struct SegmentedBuf {
    packets: Packets,
    segment_bytes: u32,
    capacity: u32,
    len: u32,
}

/// A [`SegmentedBuf`] on its way to another thread.
#[derive(Debug)]
pub struct SendSegmentedBuf {
    packets: SendPackets,
    segment_bytes: u32,
    capacity: u32,
    len: u32,
}

#[derive(Debug)]
enum SendPackets {
    One(SendMbuf),
    Many(Vec<SendMbuf>),
}

impl SendSegmentedBuf {
    /// The buffer, now of this thread; `spares` are those of the thread.
    pub fn open(self, spares: &SpareLists) -> SegmentedBuf {
        let Self { packets, segment_bytes, capacity, len } = self;
        let open = |packet: SendMbuf| packet.open().share();
        let packets = match packets {
            SendPackets::One(packet) => Packets::One(open(packet)),
            SendPackets::Many(list) => {
                let list = list.into_iter().map(open).collect();
                Packets::Many(PacketList { list, spares: spares.clone() })
            }
        };
        SegmentedBuf { packets, segment_bytes, capacity, len }
    }
}

impl SegmentedBuf {
    /// A buffer for `capacity` bytes, `segment_bytes` in each packet. `None` if `cache` runs out of
    /// packet buffers or they are too small.
    pub fn new(
        capacity: u32,
        segment_bytes: u32,
        cache: &mut MbufCache,
        spares: &SpareLists,
    ) -> Option<Self> {
        let packets = if capacity <= segment_bytes {
            Packets::One(Self::packet(capacity, cache)?)
        } else {
            let mut list = spares.take();
            let mut left = capacity;
            while left > 0 {
                let bytes = left.min(segment_bytes);
                let Some(packet) = Self::packet(bytes, cache) else {
                    spares.give(list);
                    return None;
                };
                list.push(packet);
                left -= bytes;
            }
            Packets::Many(PacketList { list, spares: spares.clone() })
        };
        Some(Self { packets, segment_bytes, capacity, len: 0 })
    }

    #[inline]
    fn packet(bytes: u32, cache: &mut MbufCache) -> Option<MbufRef> {
        let mut packet = cache.alloc()?;
        packet.append(bytes as usize)?;
        Some(packet.share())
    }

    /// A buffer with `bytes` in it, copied. As [`SegmentedBuf::new`] else.
    #[inline]
    pub fn of_bytes(
        bytes: &[u8],
        segment_bytes: u32,
        cache: &mut MbufCache,
        spares: &SpareLists,
    ) -> Option<Self> {
        let len = u32::try_from(bytes.len()).ok()?;
        if len <= segment_bytes {
            let mut packet = cache.alloc()?;
            packet.append(bytes.len())?.copy_from_slice(bytes);
            let packets = Packets::One(packet.share());
            return Some(Self { packets, segment_bytes, capacity: len, len });
        }
        let mut buffer = Self::new(len, segment_bytes, cache, spares)?;
        buffer.put_slice(bytes);
        Some(buffer)
    }

    /// Ends the buffer; its packet, if it has one only, goes to `cache` unless somebody else holds it.
    #[inline]
    pub fn recycle(self, cache: &mut MbufCache) {
        if let Packets::One(packet) = self.packets
            && let Ok(packet) = packet.try_into_unique()
        {
            cache.free(packet);
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
        let Self { packets, segment_bytes, capacity, len } = self;
        let shared = |packet| {
            let packets = Packets::One(packet);
            Self { packets, segment_bytes, capacity, len }
        };
        let packets = match packets {
            Packets::One(packet) => {
                SendPackets::One(packet.try_into_unique().map_err(shared)?.into_send())
            }
            // In place: both are pointers. Nobody has taken one meanwhile.
            Packets::Many(mut many) => {
                let list = std::mem::take(&mut many.list);
                let unique = list.into_iter().filter_map(|packet| packet.try_into_unique().ok());
                SendPackets::Many(unique.map(Mbuf::into_send).collect())
            }
        };
        Ok(SendSegmentedBuf { packets, segment_bytes, capacity, len })
    }

    /// Bytes written.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes in every packet but the last.
    pub fn segment_bytes(&self) -> u32 {
        self.segment_bytes
    }

    #[inline]
    fn list(&self) -> &[MbufRef] {
        match &self.packets {
            Packets::One(packet) => std::slice::from_ref(packet),
            Packets::Many(many) => &many.list,
        }
    }

    #[inline]
    fn list_mut(&mut self) -> &mut [MbufRef] {
        match &mut self.packets {
            Packets::One(packet) => std::slice::from_mut(packet),
            Packets::Many(many) => &mut many.list,
        }
    }

    /// Bytes that belong to packet `index`.
    #[inline]
    fn bytes_of(&self, index: usize) -> Range<u32> {
        let start = index as u32 * self.segment_bytes;
        start..(start + self.segment_bytes).min(self.len)
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
        (0..self.len.div_ceil(self.segment_bytes) as usize).map(|index| self.segment(index))
    }

    /// Writes the rest of the capacity in place: `write` is given the offset of each piece and the
    /// piece, which holds whatever bytes were there.
    pub fn write_with(&mut self, mut write: impl FnMut(usize, &mut [u8])) {
        while self.len < self.capacity {
            let index = (self.len / self.segment_bytes) as usize;
            let at = (self.len % self.segment_bytes) as usize;
            let offset = self.len as usize;
            let packet = self.list_mut()[index].get_mut().and_then(|packet| packet.data_mut());
            // Nobody else holds a packet before the message is sent.
            let Some(piece) = packet.map(|data| &mut data[at..]) else { return };
            let count = piece.len() as u32;
            write(offset, piece);
            self.len += count;
        }
    }

    /// Ends writing: gives back what was reserved and not written.
    pub fn finish(&mut self) {
        if self.len == self.capacity || self.len == 0 {
            return;
        }
        let used = self.len.div_ceil(self.segment_bytes) as usize;
        if let Packets::Many(many) = &mut self.packets {
            many.list.truncate(used);
        }
        let range = self.bytes_of(used - 1);
        self.capacity = self.len;
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
        let start = index as u32 * self.segment_bytes;
        (self.capacity - start).min(self.segment_bytes) as usize
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
        (self.capacity - self.len) as usize
    }

    unsafe fn advance_mut(&mut self, count: usize) {
        assert!(count <= self.remaining_mut(), "advance by {count} of {}", self.remaining_mut());
        self.len += count as u32;
    }

    fn chunk_mut(&mut self) -> &mut UninitSlice {
        if self.len == self.capacity {
            return UninitSlice::new(&mut []);
        }
        let index = (self.len / self.segment_bytes) as usize;
        let at = (self.len % self.segment_bytes) as usize;
        let packet = self.list_mut()[index].get_mut().and_then(|packet| packet.data_mut());
        match packet {
            Some(data) => UninitSlice::new(&mut data[at..]),
            None => UninitSlice::new(&mut []),
        }
    }
}
