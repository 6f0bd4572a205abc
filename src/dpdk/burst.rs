//! Bursts: fixed arrays of packets on their way between a queue and the protocol, or back to a pool.

use std::ptr::{self, NonNull};

use dpdk_sys as sys;
use dpdk_sys::rte_mbuf;

use super::{Mbuf, MbufRef, Segments, TxQueue};

/// Up to `N` packets; the slots `head..len` are owned.
#[derive(Debug)]
struct Slots<const N: usize> {
    raw: [*mut rte_mbuf; N],
    head: usize,
    len: usize,
}

impl<const N: usize> Slots<N> {
    const fn new() -> Self {
        assert!(N > 0 && N <= u16::MAX as usize, "a burst holds 1 to 65535 packets");
        Self { raw: [ptr::null_mut(); N], head: 0, len: 0 }
    }

    #[inline]
    fn count(&self) -> usize {
        self.len - self.head
    }

    /// The bytes of what is owned, without the first `skip` packets.
    fn frames(&self, skip: usize) -> impl Iterator<Item = Segments<'_>> {
        let owned = &self.raw[self.head..self.len];
        // SAFETY: each slot holds one reference of a valid packet, kept while the burst is borrowed;
        // bytes of a packet in a burst are not changed.
        owned.iter().skip(skip).map(|&raw| unsafe { Segments::of_raw(raw) })
    }

    /// Moves what is owned to the front.
    #[inline]
    fn compact(&mut self) {
        if self.head > 0 {
            self.raw.copy_within(self.head..self.len, 0);
            self.len -= self.head;
            self.head = 0;
        }
    }
}

impl<const N: usize> Slots<N> {
    /// Frees what is owned.
    fn free_all(&mut self) {
        let owned = &mut self.raw[self.head..self.len];
        (self.head, self.len) = (0, 0);
        if let Ok(n @ 1..) = u32::try_from(owned.len()) {
            // SAFETY: each slot held one reference of a valid packet, given up here.
            unsafe { sys::rte_pktmbuf_free_bulk(owned.as_mut_ptr(), n) };
        }
    }
}

impl<const N: usize> Drop for Slots<N> {
    fn drop(&mut self) {
        self.free_all();
    }
}

/// Received packets: an iterator that hands them out one by one. What is not taken is freed when
/// the burst is dropped.
#[derive(Debug)]
pub struct RxBurst<const N: usize>(Slots<N>);

impl<const N: usize> RxBurst<N> {
    /// An empty burst, to be filled again and again.
    pub const fn new() -> Self {
        Self(Slots::new())
    }

    /// Packets not yet taken.
    #[inline]
    pub fn len(&self) -> usize {
        self.0.count()
    }

    /// Whether all were taken.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of the packets not yet taken.
    pub fn frames(&self) -> impl Iterator<Item = Segments<'_>> {
        self.0.frames(0)
    }

    /// Free slots behind what is not yet taken, to be filled by a driver.
    #[inline]
    pub(super) fn free_slots(&mut self) -> &mut [*mut rte_mbuf] {
        self.0.compact();
        &mut self.0.raw[self.0.len..]
    }

    /// # Safety
    /// The first `n` of the free slots were filled with packets that have no other owner.
    #[inline]
    pub(super) unsafe fn filled(&mut self, n: usize) {
        self.0.len += n;
    }
}

impl<const N: usize> Default for RxBurst<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Iterator for RxBurst<N> {
    type Item = Mbuf;

    /// The next packet. The bytes of the one after it are fetched to the cache meanwhile.
    #[inline]
    fn next(&mut self) -> Option<Mbuf> {
        let slots = &mut self.0;
        if slots.head == slots.len {
            return None;
        }
        let raw = NonNull::new(slots.raw[slots.head])?;
        slots.head += 1;
        if slots.head < slots.len {
            prefetch(slots.raw[slots.head]);
        }
        // SAFETY: the slot was filled by a driver with a packet of no other owner, and left now.
        Some(unsafe { Mbuf::from_raw(raw) })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len(), Some(self.len()))
    }
}

impl<const N: usize> ExactSizeIterator for RxBurst<N> {}

#[inline]
fn prefetch(raw: *const rte_mbuf) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the packet is owned by the burst, so its description may be read; prefetching is
    // harmless at any address.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let at_data_off = raw.byte_add(sys::HOMA_MBUF_AT_DATA_OFF as usize).cast::<u16>();
        let at_buf_addr = raw.byte_add(sys::HOMA_MBUF_AT_BUF_ADDR as usize).cast::<*const i8>();
        let data = (*at_buf_addr).wrapping_add(usize::from(*at_data_off));
        _mm_prefetch::<_MM_HINT_T0>(data);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = raw;
}

/// Fetches what describes a packet, for it to be freed: two cache lines.
#[inline]
fn prefetch_description(raw: *const rte_mbuf) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: prefetching is harmless at any address.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let first = raw.cast::<i8>();
        _mm_prefetch::<_MM_HINT_T0>(first);
        _mm_prefetch::<_MM_HINT_T0>(first.wrapping_add(64));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = raw;
}

/// Packets to transmit. It owns what the driver has not taken; what is left is freed when it is
/// dropped.
#[derive(Debug)]
pub struct TxBurst<const N: usize>(Slots<N>);

impl<const N: usize> TxBurst<N> {
    /// An empty burst, to be filled and flushed again and again.
    pub const fn new() -> Self {
        Self(Slots::new())
    }

    /// How many more packets fit.
    #[inline]
    pub fn room(&self) -> usize {
        N - self.len()
    }

    /// Packets waiting.
    #[inline]
    pub fn len(&self) -> usize {
        self.0.count()
    }

    /// Whether none is waiting.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a packet at the end.
    ///
    /// # Errors
    /// Gives it back when the burst is full.
    #[inline(always)]
    pub fn push(&mut self, mbuf: Mbuf) -> Result<(), Mbuf> {
        if self.room() == 0 {
            return Err(mbuf);
        }
        self.put(mbuf.into_raw());
        Ok(())
    }

    /// Adds a packet that others hold as well.
    ///
    /// # Errors
    /// Gives it back when the burst is full.
    #[inline]
    pub fn push_shared(&mut self, mbuf: MbufRef) -> Result<(), MbufRef> {
        if self.room() == 0 {
            return Err(mbuf);
        }
        self.put(mbuf.into_raw());
        Ok(())
    }

    /// The bytes of the packets waiting, without the first `skip`.
    pub fn frames(&self, skip: usize) -> impl Iterator<Item = Segments<'_>> {
        self.0.frames(skip)
    }

    /// Transmits as long as the queue takes packets, and returns how many it took. What it does
    /// not take stays here, in order; no waiting.
    #[inline]
    pub fn flush(&mut self, queue: &mut TxQueue) -> usize {
        let mut taken = 0;
        // Each turn but the last makes the burst shorter.
        while let waiting @ 1.. = self.len() {
            taken += queue.tx_burst(self);
            if self.len() == waiting {
                break;
            }
        }
        taken
    }

    /// Frees what is waiting and returns how many packets that was.
    pub fn clear(&mut self) -> usize {
        let n = self.len();
        drop(std::mem::take(self));
        n
    }

    #[inline(always)]
    fn put(&mut self, raw: *mut rte_mbuf) {
        if self.0.len == N {
            self.0.compact();
        }
        self.0.raw[self.0.len] = raw;
        self.0.len += 1;
    }

    /// What is waiting, first to last.
    #[inline]
    pub(super) fn waiting(&mut self) -> &mut [*mut rte_mbuf] {
        &mut self.0.raw[self.0.head..self.0.len]
    }

    /// Frees packet `index` of what is waiting.
    #[cold]
    pub(super) fn discard(&mut self, index: usize) {
        let slots = &mut self.0;
        let at = slots.head + index;
        assert!(at < slots.len, "packet {index} of {} waiting", slots.len - slots.head);
        let raw = slots.raw[at];
        slots.raw.copy_within(at + 1..slots.len, at);
        slots.len -= 1;
        // SAFETY: the slot held one reference of a valid packet, and holds another packet now.
        unsafe { sys::homa_mbuf_free(raw) };
    }

    /// # Safety
    /// The first `n` of what was waiting now belong to somebody else.
    #[inline]
    pub(super) unsafe fn taken(&mut self, n: usize) {
        self.0.head += n;
        if self.0.head == self.0.len {
            (self.0.head, self.0.len) = (0, 0);
        }
    }
}

impl<const N: usize> Default for TxBurst<N> {
    fn default() -> Self {
        Self::new()
    }
}

/// Packets to be freed together, for less than one by one: of a long message, what describes them has
/// left the caches, and is fetched while others are added. What is left is freed when it is dropped.
#[derive(Debug)]
pub struct FreeBurst(Slots<{ Self::LEN }>);

impl FreeBurst {
    /// As many as the library hands to a pool at once.
    const LEN: usize = 64;

    /// An empty burst.
    #[inline]
    pub const fn new() -> Self {
        Self(Slots::new())
    }

    /// Adds a packet, after freeing those before it if there are many.
    #[inline]
    pub fn push(&mut self, mbuf: Mbuf) {
        let slots = &mut self.0;
        if slots.len == Self::LEN {
            slots.free_all();
        }
        let raw = mbuf.into_raw();
        prefetch_description(raw);
        slots.raw[slots.len] = raw;
        slots.len += 1;
    }
}

impl Default for FreeBurst {
    fn default() -> Self {
        Self::new()
    }
}
