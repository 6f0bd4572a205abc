//! A packet buffer with one owner.
//!
//! Its fields are read in place through [`Fields`], whose layout is checked against the DPDK
//! release at compile time: a call into C per field would cost more than the protocol itself.

use std::marker::PhantomData;
use std::mem::{ManuallyDrop, offset_of};
use std::ops::Range;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicU16, Ordering};

use dpdk_sys as sys;
use dpdk_sys::rte_mbuf;

use super::{ExternalBuffer, MbufRef};

/// Free bytes in front of the data of a freshly allocated [`Mbuf`].
pub const HEADROOM_BYTES: usize = sys::HOMA_PKTMBUF_HEADROOM_BYTES as usize;

/// The front of `struct rte_mbuf`.
#[repr(C)]
pub(super) struct Fields {
    buf_addr: *mut u8,
    _buf_iova: u64,
    data_off: u16,
    refcnt: AtomicU16,
    nb_segs: u16,
    port: u16,
    ol_flags: u64,
    packet_type: u32,
    pkt_len: u32,
    data_len: u16,
    vlan_tci: u16,
    hash_rss: u32,
    _hash_rest: u32,
    _vlan_tci_outer: u16,
    buf_len: u16,
    pool: *mut sys::rte_mempool,
    next: *mut rte_mbuf,
    tx_offload: u64,
}

const _: () = {
    assert!(offset_of!(Fields, buf_addr) == sys::HOMA_MBUF_AT_BUF_ADDR as usize);
    assert!(offset_of!(Fields, data_off) == sys::HOMA_MBUF_AT_DATA_OFF as usize);
    assert!(offset_of!(Fields, refcnt) == sys::HOMA_MBUF_AT_REFCNT as usize);
    assert!(offset_of!(Fields, nb_segs) == sys::HOMA_MBUF_AT_NB_SEGS as usize);
    assert!(offset_of!(Fields, port) == sys::HOMA_MBUF_AT_PORT as usize);
    assert!(offset_of!(Fields, ol_flags) == sys::HOMA_MBUF_AT_OL_FLAGS as usize);
    assert!(offset_of!(Fields, packet_type) == sys::HOMA_MBUF_AT_PACKET_TYPE as usize);
    assert!(offset_of!(Fields, pkt_len) == sys::HOMA_MBUF_AT_PKT_LEN as usize);
    assert!(offset_of!(Fields, data_len) == sys::HOMA_MBUF_AT_DATA_LEN as usize);
    assert!(offset_of!(Fields, vlan_tci) == sys::HOMA_MBUF_AT_VLAN_TCI as usize);
    assert!(offset_of!(Fields, hash_rss) == sys::HOMA_MBUF_AT_HASH_RSS as usize);
    assert!(offset_of!(Fields, buf_len) == sys::HOMA_MBUF_AT_BUF_LEN as usize);
    assert!(offset_of!(Fields, pool) == sys::HOMA_MBUF_AT_POOL as usize);
    assert!(offset_of!(Fields, next) == sys::HOMA_MBUF_AT_NEXT as usize);
    assert!(offset_of!(Fields, tx_offload) == sys::HOMA_MBUF_AT_TX_OFFLOAD as usize);
    assert!(size_of::<Fields>() <= sys::HOMA_MBUF_SIZE as usize);
};

/// What a port found out about the IPv4 header checksum of a received packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpChecksum {
    /// Not looked at: verify in software.
    Unknown,
    /// Right.
    Good,
    /// Wrong: drop the packet.
    Bad,
}

/// What a port is to do to a TCP packet that it transmits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpOffload {
    /// Bytes of the Ethernet header with its tag, less than 128.
    pub l2_len_bytes: u8,
    /// Bytes of the IP header.
    pub l3_len_bytes: u8,
    /// Bytes of the TCP header with its options, repeated in each segment.
    pub l4_len_bytes: u8,
    /// Whether the IP header is that of IPv6.
    pub is_ipv6: bool,
    /// Cut the packet into segments with this many bytes behind the TCP header.
    pub segment_bytes: Option<u16>,
}

/// A packet of one or more segments, with one owner: nobody else reads or changes its data
/// or its description. Freed when dropped. One pointer wide.
///
/// Not `Send`: buffers are freed where they were allocated or received. [`Mbuf::into_send`] is
/// the explicit way to another thread.
#[repr(transparent)]
#[derive(Debug)]
pub struct Mbuf {
    pub(super) raw: NonNull<rte_mbuf>,
    _thread: PhantomData<*mut ()>,
}

impl Mbuf {
    /// # Safety
    /// `raw` is a valid packet, every segment of which has reference count 1 and no other owner.
    #[inline]
    pub(super) unsafe fn from_raw(raw: NonNull<rte_mbuf>) -> Self {
        Self { raw, _thread: PhantomData }
    }

    #[inline]
    pub(super) fn into_raw(self) -> *mut rte_mbuf {
        ManuallyDrop::new(self).raw.as_ptr()
    }

    #[inline]
    pub(super) fn as_raw(&self) -> *mut rte_mbuf {
        self.raw.as_ptr()
    }

    #[inline]
    fn fields(&self) -> &Fields {
        // SAFETY: the pointer is valid while this handle lives and the layout is asserted above.
        // While a packet is shared nobody changes a field but the atomic one.
        unsafe { &*self.raw.as_ptr().cast::<Fields>() }
    }

    #[inline]
    fn fields_mut(&mut self) -> &mut Fields {
        // SAFETY: as in `fields`, and `&mut Mbuf` exists for the only owner alone.
        unsafe { &mut *self.raw.as_ptr().cast::<Fields>() }
    }

    /// The bytes of the first segment.
    #[inline]
    pub fn data(&self) -> &[u8] {
        // SAFETY: only `trim`s and `append`s that keep the data within the buffer change it.
        unsafe { data_of(self.fields()) }
    }

    /// The bytes of the first segment for writing, or `None` if they are lent from another packet
    /// or external memory.
    #[inline]
    pub fn data_mut(&mut self) -> Option<&mut [u8]> {
        let fields = self.fields_mut();
        if !is_direct(fields) {
            return None;
        }
        let len = usize::from(fields.data_len);
        // SAFETY: the data lies within the segment's own buffer, of which `self` is the only owner.
        unsafe { Some(slice::from_raw_parts_mut(data_start(fields), len)) }
    }

    /// Bytes in the first segment.
    #[inline]
    pub fn data_len(&self) -> usize {
        usize::from(self.fields().data_len)
    }

    /// Bytes in all segments.
    #[inline]
    pub fn packet_len(&self) -> usize {
        self.fields().pkt_len as usize
    }

    /// How many segments the packet has, at least one.
    #[inline]
    pub fn segment_count(&self) -> usize {
        usize::from(self.fields().nb_segs)
    }

    /// Whether the first segment holds its data itself, so that it may be written.
    #[inline]
    pub fn is_direct(&self) -> bool {
        is_direct(self.fields())
    }

    /// Free bytes in front of the data.
    #[inline]
    pub fn headroom(&self) -> usize {
        if self.is_direct() { usize::from(self.fields().data_off) } else { 0 }
    }

    /// Free bytes behind the data of the first segment.
    #[inline]
    pub fn tailroom(&self) -> usize {
        if self.is_direct() { tailroom_of(self.fields()) } else { 0 }
    }

    /// Extends the packet by `n_bytes` at the front and returns them, with whatever bytes were
    /// there; `None` (and nothing changed) if the headroom is too small.
    #[inline]
    pub fn prepend(&mut self, n_bytes: usize) -> Option<&mut [u8]> {
        if n_bytes > self.headroom() {
            return None;
        }
        let fields = self.fields_mut();
        let n = u16::try_from(n_bytes).ok()?;
        let data_len = fields.data_len.checked_add(n)?;
        let pkt_len = fields.pkt_len.checked_add(u32::from(n))?;
        fields.data_off -= n;
        (fields.data_len, fields.pkt_len) = (data_len, pkt_len);
        // SAFETY: the bytes lie within the segment's own buffer, of which `self` is the only owner.
        unsafe { Some(slice::from_raw_parts_mut(data_start(fields), n_bytes)) }
    }

    /// Extends a packet of one segment by `n_bytes` at the end and returns them, with whatever
    /// bytes were there; `None` (and nothing changed) if the tailroom is too small or there are
    /// more segments.
    #[inline]
    pub fn append(&mut self, n_bytes: usize) -> Option<&mut [u8]> {
        if self.segment_count() != 1 || n_bytes > self.tailroom() {
            return None;
        }
        let fields = self.fields_mut();
        let n = u16::try_from(n_bytes).ok()?;
        let old_len = usize::from(fields.data_len);
        fields.data_len = fields.data_len.checked_add(n)?;
        fields.pkt_len = u32::from(fields.data_len);
        // SAFETY: the bytes lie within the segment's own buffer, of which `self` is the only owner.
        unsafe { Some(slice::from_raw_parts_mut(data_start(fields).add(old_len), n_bytes)) }
    }

    /// Appends `bytes` to a packet of one segment; `false` (and nothing changed) if they do not fit.
    #[inline]
    pub fn extend_from_slice(&mut self, bytes: &[u8]) -> bool {
        self.append(bytes.len()).map(|room| room.copy_from_slice(bytes)).is_some()
    }

    /// Cuts `n_bytes` off the front of the first segment; `false` (and nothing changed) if it has
    /// fewer.
    #[inline]
    pub fn trim_front(&mut self, n_bytes: usize) -> bool {
        let fields = self.fields_mut();
        match u16::try_from(n_bytes) {
            Ok(n) if n <= fields.data_len => {
                fields.data_off += n;
                fields.data_len -= n;
                fields.pkt_len -= u32::from(n);
                true
            }
            _ => false,
        }
    }

    /// Cuts the packet to its first `len_bytes` and frees the segments behind; `false` (and nothing
    /// changed) if it is shorter.
    pub fn truncate(&mut self, len_bytes: usize) -> bool {
        let Some(excess) = self.packet_len().checked_sub(len_bytes) else { return false };
        if excess == 0 {
            return true;
        }
        let Ok(pkt_len) = u32::try_from(len_bytes) else { return false };
        let (mut rest, mut kept_segments) = (len_bytes, 1_u16);
        let mut segment = self.raw.as_ptr().cast::<Fields>();
        // SAFETY: the chain is valid and wholly ours. The lengths of the segments sum up to
        // `pkt_len`, so the walk ends at a segment; what is cut off is unlinked before it is freed.
        unsafe {
            while rest > usize::from((*segment).data_len) && !(*segment).next.is_null() {
                rest -= usize::from((*segment).data_len);
                segment = (*segment).next.cast();
                kept_segments += 1;
            }
            (*segment).data_len = u16::try_from(rest).unwrap_or((*segment).data_len);
            let behind = ptr::replace(&raw mut (*segment).next, ptr::null_mut());
            if !behind.is_null() {
                let behind_fields = behind.cast::<Fields>();
                (*behind_fields).nb_segs = self.fields().nb_segs - kept_segments;
                sys::homa_mbuf_free(behind);
            }
        }
        let fields = self.fields_mut();
        (fields.pkt_len, fields.nb_segs) = (pkt_len, kept_segments);
        true
    }

    /// Makes the data of a packet of one segment exactly `len_bytes` long, cutting or extending at
    /// the end; `false` (and nothing changed) if there is no room.
    #[inline]
    pub fn set_len(&mut self, len_bytes: usize) -> bool {
        match len_bytes.checked_sub(self.data_len()) {
            Some(more) => self.append(more).is_some(),
            None => self.segment_count() == 1 && self.truncate(len_bytes),
        }
    }

    /// The data, segment by segment.
    #[inline]
    pub fn segments(&self) -> Segments<'_> {
        // SAFETY: the packet lives and is unchanged while `self` is borrowed.
        unsafe { Segments::of_raw(self.raw.as_ptr()) }
    }

    /// Copies bytes of the packet, from `offset_bytes` on, to `out`; returns how many there were.
    pub fn copy_to(&self, offset_bytes: usize, out: &mut [u8]) -> usize {
        let (mut skip, mut copied) = (offset_bytes, 0);
        for data in self.segments() {
            if copied == out.len() {
                break;
            }
            let from = skip.min(data.len());
            skip -= from;
            let n = (data.len() - from).min(out.len() - copied);
            out[copied..copied + n].copy_from_slice(&data[from..from + n]);
            copied += n;
        }
        copied
    }

    /// Puts the segments of `tail` behind those of this packet, without copying.
    ///
    /// # Errors
    /// Gives `tail` back when the packet would have too many segments or bytes.
    pub fn chain(&mut self, tail: Self) -> Result<(), Self> {
        if self.fields().pkt_len.checked_add(tail.fields().pkt_len).is_none() {
            return Err(tail);
        }
        // SAFETY: both packets are valid and ours alone.
        match unsafe { sys::homa_mbuf_chain(self.as_raw(), tail.as_raw()) } {
            0 => {
                let _ = tail.into_raw();
                Ok(())
            }
            _ => Err(tail),
        }
    }

    /// Copies all data into the first segment and frees the others; `false` (and nothing changed)
    /// if it has no room or is not direct.
    pub fn linearize(&mut self) -> bool {
        if self.segment_count() == 1 {
            return true;
        }
        if self.packet_len() - self.data_len() > self.tailroom() {
            return false;
        }
        // SAFETY: the packet is valid, ours alone, and its first segment has the room.
        unsafe { sys::homa_mbuf_linearize(self.as_raw()) == 0 }
    }

    /// Gives up the right to change the packet for the right to have several handles of it.
    #[inline]
    pub fn share(self) -> MbufRef {
        MbufRef::new(self)
    }

    /// Turns an empty buffer into a window on bytes `range` of the first segment of `of`, which
    /// stays in memory, unchangeable, as long as the window exists.
    ///
    /// `false` (and nothing changed) if this buffer is not empty, direct and of one segment, the
    /// range is not within the segment, or 65,535 windows exist.
    pub fn attach_indirect(&mut self, of: &MbufRef, range: Range<usize>) -> bool {
        let source = of.fields();
        if !self.is_blank() || range.start > range.end || range.end > usize::from(source.data_len) {
            return false;
        }
        let (Ok(start), Ok(len)) =
            (u16::try_from(range.start), u16::try_from(range.end - range.start))
        else {
            return false;
        };
        // SAFETY: this buffer is direct, unique and unlinked, and `of` is valid.
        if unsafe { sys::homa_mbuf_attach(self.as_raw(), of.as_raw()) } != 0 {
            return false;
        }
        let fields = self.fields_mut();
        fields.data_off += start;
        fields.data_len = len;
        fields.pkt_len = u32::from(len);
        true
    }

    /// Turns an empty buffer into a window on bytes `range` of external memory; `false` (and
    /// nothing changed) under the conditions of [`Mbuf::attach_indirect`], or when the range is
    /// longer than 65,535 bytes.
    pub fn attach_external(&mut self, buffer: &ExternalBuffer, range: Range<usize>) -> bool {
        self.is_blank() && buffer.attach_to(self, range)
    }

    /// What the port found out about the IPv4 header checksum.
    #[inline]
    pub fn ip_checksum(&self) -> IpChecksum {
        match self.fields().ol_flags & sys::HOMA_MBUF_RX_IP_CKSUM_MASK {
            sys::HOMA_MBUF_RX_IP_CKSUM_GOOD => IpChecksum::Good,
            sys::HOMA_MBUF_RX_IP_CKSUM_BAD => IpChecksum::Bad,
            _ => IpChecksum::Unknown,
        }
    }

    /// The RSS hash, if the port computed one.
    #[inline]
    pub fn rss_hash(&self) -> Option<u32> {
        let fields = self.fields();
        (fields.ol_flags & sys::HOMA_MBUF_RX_RSS_HASH != 0).then_some(fields.hash_rss)
    }

    /// The tag control field of the VLAN header that the port took off, if it did.
    #[inline]
    pub fn stripped_vlan_tci(&self) -> Option<u16> {
        let fields = self.fields();
        (fields.ol_flags & sys::HOMA_MBUF_RX_VLAN_STRIPPED != 0).then_some(fields.vlan_tci)
    }

    /// The port the packet came in on.
    #[inline]
    pub fn port_id(&self) -> u16 {
        self.fields().port
    }

    /// DPDK's classification of the packet (`RTE_PTYPE_*` bits); zero if unknown.
    #[inline]
    pub fn packet_type(&self) -> u32 {
        self.fields().packet_type
    }

    /// Asks the port to fill in the IPv4 header checksum, which must be zero in the packet. Only
    /// for ports with [`super::Capabilities::tx_ipv4_checksum`].
    #[inline]
    pub fn request_ipv4_checksum(&mut self, l2_len_bytes: u8, l3_len_bytes: u16) {
        const L2_MASK: u64 = (1 << sys::HOMA_MBUF_L2_LEN_BITS) - 1;
        const L3_MASK: u64 = (1 << sys::HOMA_MBUF_L3_LEN_BITS) - 1;
        let fields = self.fields_mut();
        fields.ol_flags |= sys::HOMA_MBUF_TX_IPV4 | sys::HOMA_MBUF_TX_IP_CKSUM;
        fields.tx_offload = (u64::from(l2_len_bytes) & L2_MASK)
            | (u64::from(l3_len_bytes) & L3_MASK) << sys::HOMA_MBUF_L2_LEN_BITS;
    }

    /// Asks the port to fill in the TCP checksum of the packet, and to cut it into segments if so
    /// wanted. Only for ports with [`super::Capabilities::tx_tcp_checksum`] and
    /// [`super::Capabilities::tx_tcp_segment_max_bytes`]. To be cut, an IPv4 packet has a header checksum
    /// of zero.
    #[inline]
    pub fn request_tcp_offload(&mut self, offload: &TcpOffload) {
        const L3_SHIFT: u32 = sys::HOMA_MBUF_L2_LEN_BITS;
        const L4_SHIFT: u32 = L3_SHIFT + sys::HOMA_MBUF_L3_LEN_BITS;
        const SEGMENT_SHIFT: u32 = L4_SHIFT + sys::HOMA_MBUF_L4_LEN_BITS;
        let mut flags = sys::HOMA_MBUF_TX_TCP_CKSUM;
        flags |= if offload.is_ipv6 { sys::HOMA_MBUF_TX_IPV6 } else { sys::HOMA_MBUF_TX_IPV4 };
        if offload.segment_bytes.is_some() {
            flags |= sys::HOMA_MBUF_TX_TCP_SEG;
            if !offload.is_ipv6 {
                flags |= sys::HOMA_MBUF_TX_IP_CKSUM;
            }
        }
        let fields = self.fields_mut();
        fields.ol_flags |= flags;
        fields.tx_offload = u64::from(offload.l2_len_bytes)
            | u64::from(offload.l3_len_bytes) << L3_SHIFT
            | u64::from(offload.l4_len_bytes) << L4_SHIFT
            | u64::from(offload.segment_bytes.unwrap_or(0)) << SEGMENT_SHIFT;
    }

    /// Makes the packet ready to be opened on another thread.
    pub fn into_send(self) -> SendMbuf {
        SendMbuf(self)
    }

    #[inline]
    pub(super) fn pool_raw(&self) -> *mut sys::rte_mempool {
        self.fields().pool
    }

    /// Back to the state of a fresh buffer, if that is what the memory allows: one direct segment.
    #[inline]
    pub(super) fn reset(&mut self) -> bool {
        let fields = self.fields_mut();
        if fields.nb_segs != 1 || !is_direct(fields) {
            return false;
        }
        fields.data_off = sys::HOMA_PKTMBUF_HEADROOM_BYTES.min(fields.buf_len);
        (fields.data_len, fields.pkt_len) = (0, 0);
        (fields.ol_flags, fields.tx_offload) = (0, 0);
        (fields.packet_type, fields.vlan_tci, fields.port) = (0, 0, u16::MAX);
        true
    }

    /// Gives an empty buffer, as pools have them, `n_bytes` of data; false if it has no room for them.
    #[inline(always)]
    pub(super) fn fill_blank(&mut self, n_bytes: usize) -> bool {
        let fields = self.fields_mut();
        debug_assert!(fields.data_len == 0 && fields.nb_segs == 1 && is_direct(fields));
        let fits = n_bytes <= tailroom_of(fields);
        if fits {
            // A buffer has less than 64 KiB.
            (fields.data_len, fields.pkt_len) = (n_bytes as u16, n_bytes as u32);
        }
        fits
    }

    #[inline]
    fn is_blank(&self) -> bool {
        let fields = self.fields();
        fields.pkt_len == 0 && fields.nb_segs == 1 && is_direct(fields)
    }

    /// The reference counts of the segments, first to last.
    #[inline]
    pub(super) fn reference_counts(&self) -> impl Iterator<Item = &AtomicU16> {
        let mut next = self.raw.as_ptr();
        std::iter::from_fn(move || {
            // SAFETY: the chain is valid while the handle lives.
            let fields = unsafe { next.cast::<Fields>().as_ref() }?;
            next = fields.next;
            Some(&fields.refcnt)
        })
    }

    /// Whether every segment has this handle alone.
    #[inline]
    pub(super) fn is_sole_owner(&self) -> bool {
        // Acquire: what others read before they let go happened before we write.
        if self.fields().nb_segs == 1 {
            return self.fields().refcnt.load(Ordering::Acquire) == 1;
        }
        self.reference_counts().all(|count| count.load(Ordering::Acquire) == 1)
    }
}

impl AsRef<[u8]> for Mbuf {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        self.data()
    }
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the handle owns one reference of every segment and gives it up here.
        unsafe { sys::homa_mbuf_free(self.as_raw()) };
    }
}

/// A packet on its way to another thread, where [`SendMbuf::open`] makes an [`Mbuf`] of it.
#[derive(Debug)]
pub struct SendMbuf(Mbuf);

// SAFETY: an Mbuf is the only owner of its packet; reference counts of lent memory are atomic and
// owners of external memory are Send. Staying on one thread is a matter of speed, not of safety.
unsafe impl Send for SendMbuf {}

impl SendMbuf {
    /// The packet, now of this thread.
    #[inline]
    pub fn open(self) -> Mbuf {
        self.0
    }
}

/// The data of a packet, segment by segment; see [`Mbuf::segments`].
#[derive(Debug, Clone)]
pub struct Segments<'a> {
    next: *const rte_mbuf,
    _packet: PhantomData<&'a Mbuf>,
}

impl Segments<'_> {
    /// # Safety
    /// `raw` is a valid packet that nobody changes or frees during the life of the result.
    pub(super) unsafe fn of_raw(raw: *const rte_mbuf) -> Self {
        Self { next: raw, _packet: PhantomData }
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        // SAFETY: the chain is valid and unchanged while the packet is borrowed.
        let fields = unsafe { self.next.cast::<Fields>().as_ref() }?;
        self.next = fields.next;
        // SAFETY: as in `Mbuf::data`.
        Some(unsafe { data_of(fields) })
    }
}

#[inline]
fn is_direct(fields: &Fields) -> bool {
    fields.ol_flags & (sys::HOMA_MBUF_INDIRECT | sys::HOMA_MBUF_EXTERNAL) == 0
}

#[inline]
fn tailroom_of(fields: &Fields) -> usize {
    let used = usize::from(fields.data_off) + usize::from(fields.data_len);
    usize::from(fields.buf_len).saturating_sub(used)
}

#[inline]
fn data_start(fields: &Fields) -> *mut u8 {
    fields.buf_addr.wrapping_add(usize::from(fields.data_off))
}

/// # Safety
/// The data lies within the segment's buffer, which lives for `'a` and is not written meanwhile.
#[inline]
unsafe fn data_of<'a>(fields: &Fields) -> &'a [u8] {
    // SAFETY: the caller's promise.
    unsafe { slice::from_raw_parts(data_start(fields), usize::from(fields.data_len)) }
}
