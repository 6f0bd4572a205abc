//! Pools of packet buffers, and a thread's own stock of them.

use std::ffi::{CStr, CString};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use dpdk_sys as sys;
use dpdk_sys::rte_mbuf;

use super::error::{Error, errno_text, last_errno};
use super::mbuf::{HEADROOM_BYTES, Mbuf};
use super::mbuf_ref::MbufRef;
use super::{Eal, ExternalBuffer};

/// DPDK's limit of 32 bytes for names allows no more than a number; names are per process.
static POOLS_MADE: AtomicU32 = AtomicU32::new(0);

/// Buffers freed last are used first, so that those in use stay few and in the caches: a ring goes
/// through the whole pool, which is larger than they are, whenever a long message is freed. This
/// one has no lock.
const LAST_FREED_FIRST: &CStr = c"lf_stack";
/// DPDK's default.
const FIRST_FREED_FIRST: &CStr = c"ring_mp_mc";

/// The settings of a [`Mempool`].
///
/// A pool must hold, for each core that uses it: the descriptors of its receive and transmit
/// queues, one and a half caches, the bursts, and what the protocol retains.
#[derive(Clone, Debug)]
pub struct MempoolBuilder {
    mbufs: u32,
    data_room_bytes: u16,
    cache: u32,
    private_bytes: u16,
    numa_node: Option<u16>,
}

impl Default for MempoolBuilder {
    /// 8191 buffers that hold a frame of MTU 1500 each (about 20 MB).
    fn default() -> Self {
        Self { mbufs: 8191, data_room_bytes: 2048, cache: 256, private_bytes: 0, numa_node: None }
    }
}

impl MempoolBuilder {
    /// How many buffers; a power of two minus one wastes least.
    pub fn mbufs(mut self, mbufs: u32) -> Self {
        self.mbufs = mbufs;
        self
    }

    /// Bytes each buffer has for data, not counting the headroom.
    pub fn data_room_bytes(mut self, data_room_bytes: u16) -> Self {
        self.data_room_bytes = data_room_bytes;
        self
    }

    /// Buffers that each registered thread keeps for itself; fewer than two thirds of all.
    pub fn cache(mut self, cache: u32) -> Self {
        self.cache = cache;
        self
    }

    /// Bytes of private data in each buffer; a multiple of 8.
    pub fn private_bytes(mut self, private_bytes: u16) -> Self {
        self.private_bytes = private_bytes;
        self
    }

    /// The NUMA node of the memory; `None` for any.
    pub fn numa_node(mut self, numa_node: Option<u16>) -> Self {
        self.numa_node = numa_node;
        self
    }

    /// Makes the pool.
    ///
    /// # Errors
    /// When the settings contradict each other or the memory given to EAL does not suffice.
    pub fn build(&self, eal: &Eal) -> Result<Mempool, Error> {
        let room_bytes = self.check()?;
        let number = POOLS_MADE.fetch_add(1, Ordering::Relaxed);
        let name = CString::new(format!("homa_pool_{number}")).unwrap_or_default();
        let numa_node = self.numa_node.map_or(sys::HOMA_SOCKET_ID_ANY, i32::from);
        let create = |order: &CStr| {
            // SAFETY: EAL is running, both strings are NUL-terminated and copied.
            let raw = unsafe {
                sys::rte_pktmbuf_pool_create_by_ops(
                    name.as_ptr(),
                    self.mbufs,
                    self.cache,
                    self.private_bytes,
                    room_bytes,
                    numa_node,
                    order.as_ptr(),
                )
            };
            NonNull::new(raw)
        };
        let mut raw = create(LAST_FREED_FIRST);
        if raw.is_none() && matches!(last_errno(), libc::EINVAL | libc::ENOTSUP) {
            log::info!("DPDK has no pools that are stacks here (librte_mempool_stack): rings do");
            raw = create(FIRST_FREED_FIRST);
        }
        let raw = raw.ok_or_else(|| {
            Error::Config(format!(
                "no memory for {} packet buffers of {} bytes (about {} MB): {}; use fewer or \
                 give EAL more memory (now {} MB)",
                self.mbufs,
                self.data_room_bytes,
                self.size_mb(),
                errno_text(last_errno()),
                eal.memory_mb(),
            ))
        })?;
        Ok(Mempool(Arc::new(Owned { raw, mbufs: self.mbufs, eal: eal.clone() })))
    }

    /// Memory the pool takes, in MB, rounded up.
    pub fn size_mb(&self) -> u64 {
        let each = 64
            + u64::from(sys::HOMA_MBUF_SIZE)
            + u64::from(self.private_bytes)
            + u64::from(self.data_room_bytes)
            + HEADROOM_BYTES as u64;
        (u64::from(self.mbufs) * each).div_ceil(1 << 20)
    }

    /// The data room with headroom, if all settings fit together.
    fn check(&self) -> Result<u16, Error> {
        let wrong = |text: String| Err(Error::Config(text));
        if self.mbufs == 0 {
            return wrong("a pool needs at least one packet buffer".into());
        }
        if self.cache > sys::HOMA_MEMPOOL_CACHE_MAX {
            return wrong(format!(
                "a cache of {} packet buffers is too large: at most {}",
                self.cache,
                sys::HOMA_MEMPOOL_CACHE_MAX
            ));
        }
        if u64::from(self.cache) * 3 / 2 > u64::from(self.mbufs) {
            return wrong(format!(
                "a cache of {} packet buffers needs a pool of {} or more, not {}",
                self.cache,
                self.cache * 3 / 2,
                self.mbufs
            ));
        }
        if !self.private_bytes.is_multiple_of(8) {
            return wrong(format!(
                "{} private bytes per packet buffer is not a multiple of 8",
                self.private_bytes
            ));
        }
        self.data_room_bytes.checked_add(sys::HOMA_PKTMBUF_HEADROOM_BYTES).ok_or_else(|| {
            Error::Config(format!(
                "a data room of {} bytes is too large: at most {}",
                self.data_room_bytes,
                u16::MAX - sys::HOMA_PKTMBUF_HEADROOM_BYTES
            ))
        })
    }
}

/// A pool of packet buffers; clones are the same pool.
///
/// When the last handle goes (ports and caches hold one each) and all buffers are back, the memory
/// is freed. If a buffer is still out, the pool is left in memory, a warning says so, and
/// [`Eal::shutdown`] refuses, so that the buffer stays valid.
#[derive(Clone, Debug)]
pub struct Mempool(Arc<Owned>);

#[derive(Debug)]
struct Owned {
    raw: NonNull<sys::rte_mempool>,
    mbufs: u32,
    eal: Eal,
}

// SAFETY: DPDK's mempools are made for use by many threads at once.
unsafe impl Send for Owned {}
// SAFETY: as above.
unsafe impl Sync for Owned {}

impl Mempool {
    /// A pool with the default settings of [`MempoolBuilder`], to be changed.
    pub fn builder() -> MempoolBuilder {
        MempoolBuilder::default()
    }

    /// One buffer, empty, or `None` if all are in use. [`MbufCache::alloc`] is faster.
    pub fn alloc(&self) -> Option<Mbuf> {
        let mut raw = ptr::null_mut();
        // SAFETY: the pool is valid and there is room for one pointer.
        let rc = unsafe { sys::homa_mbuf_alloc_bulk(self.as_raw(), &mut raw, 1) };
        // SAFETY: a fresh buffer with one reference, ours.
        (rc == 0).then(|| NonNull::new(raw).map(|raw| unsafe { Mbuf::from_raw(raw) }))?
    }

    /// A stock of buffers for one thread.
    pub fn cache(&self) -> MbufCache {
        MbufCache {
            mbufs: [ptr::null_mut(); MbufCache::BATCH],
            len: 0,
            recycled_as: self.as_raw(),
            pool: self.clone(),
        }
    }

    /// A copy of a packet in one buffer, or in several if it is long; `None` if the pool is empty.
    pub fn copy_of(&self, packet: &Mbuf) -> Option<Mbuf> {
        // SAFETY: the packet is valid, and so is the pool; UINT32_MAX means all of it.
        let raw = unsafe { sys::rte_pktmbuf_copy(packet.as_raw(), self.as_raw(), 0, u32::MAX) };
        // SAFETY: a fresh packet with one reference, ours.
        NonNull::new(raw).map(|raw| unsafe { Mbuf::from_raw(raw) })
    }

    /// How many buffers the pool was made with.
    pub fn capacity(&self) -> u32 {
        self.0.mbufs
    }

    /// Buffers that can be allocated; caches of threads count as available. Not for every packet:
    /// it looks at every cache.
    pub fn available(&self) -> u32 {
        // SAFETY: the pool is valid.
        unsafe { sys::rte_mempool_avail_count(self.as_raw()) }
    }

    /// Buffers that are out: held by packets, queues and [`MbufCache`]s.
    pub fn in_use(&self) -> u32 {
        self.0.in_use()
    }

    /// Bytes for data in each buffer, not counting the headroom.
    pub fn data_room_bytes(&self) -> usize {
        // SAFETY: the pool is valid.
        let with_headroom = unsafe { sys::homa_pool_data_room(self.as_raw()) };
        usize::from(with_headroom).saturating_sub(HEADROOM_BYTES)
    }

    pub(super) fn as_raw(&self) -> *mut sys::rte_mempool {
        self.0.raw.as_ptr()
    }
}

impl Owned {
    fn in_use(&self) -> u32 {
        // SAFETY: the pool is valid.
        unsafe { sys::rte_mempool_in_use_count(self.raw.as_ptr()) }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if self.in_use() == 0 {
            // Nobody can allocate any more. A thread that counted its last buffer as returned may
            // still be storing the pointer; a moment is ample for that.
            thread::sleep(Duration::from_millis(1));
        }
        match self.in_use() {
            // SAFETY: no handle of the pool and no buffer of it is left.
            0 => unsafe { sys::rte_mempool_free(self.raw.as_ptr()) },
            out => {
                self.eal.note_leak();
                log::warn!(
                    "{out} of {} packet buffers are still in use: their pool stays in memory",
                    self.mbufs
                );
            }
        }
    }
}

/// A thread's own stock of empty buffers, filled by the batch, so that an allocation is a few
/// instructions. What is left goes back to the pool when it is dropped.
#[derive(Debug)]
pub struct MbufCache {
    mbufs: [*mut rte_mbuf; Self::BATCH],
    len: usize,
    /// The pool whose buffers [`MbufCache::free`] may keep.
    recycled_as: *mut sys::rte_mempool,
    pool: Mempool,
}

impl MbufCache {
    /// Buffers fetched from the pool at once, and most kept.
    pub const BATCH: usize = 64;

    /// One buffer with `n_bytes` in it, whatever they are. `None` if the pool has none, or they are too
    /// small.
    #[inline(always)]
    pub fn alloc_filled(&mut self, n_bytes: usize) -> Option<Mbuf> {
        let mut mbuf = self.alloc()?;
        mbuf.fill_blank(n_bytes).then_some(mbuf)
    }

    /// One empty buffer, or `None` if the pool has none.
    #[inline(always)]
    pub fn alloc(&mut self) -> Option<Mbuf> {
        if self.len == 0 && !self.refill() {
            return None;
        }
        self.len -= 1;
        // SAFETY: the array up to `len` holds fresh buffers with one reference, ours.
        NonNull::new(self.mbufs[self.len]).map(|raw| unsafe { Mbuf::from_raw(raw) })
    }

    /// A window on bytes `range` of the first segment of `of`; `None` if the pool is empty or the
    /// range is not within the segment. See [`Mbuf::attach_indirect`].
    #[inline]
    pub fn alloc_indirect(&mut self, of: &MbufRef, range: std::ops::Range<usize>) -> Option<Mbuf> {
        let mut window = self.alloc()?;
        window.attach_indirect(of, range).then_some(window)
    }

    /// A window on bytes `range` of external memory; see [`Mbuf::attach_external`].
    pub fn alloc_external(
        &mut self,
        of: &ExternalBuffer,
        range: std::ops::Range<usize>,
    ) -> Option<Mbuf> {
        let mut window = self.alloc()?;
        window.attach_external(of, range).then_some(window)
    }

    /// Frees a packet, keeping its buffer for the next allocation if it is a plain one of this
    /// pool: cheaper than dropping it.
    #[inline]
    pub fn free(&mut self, mut mbuf: Mbuf) {
        if self.len < Self::BATCH && mbuf.pool_raw() == self.recycled_as && mbuf.reset() {
            self.mbufs[self.len] = mbuf.into_raw();
            self.len += 1;
        }
    }

    /// The pool the buffers come from.
    pub fn pool(&self) -> &Mempool {
        &self.pool
    }

    #[cold]
    fn refill(&mut self) -> bool {
        // A pool that is nearly empty may still have a few.
        for n in [Self::BATCH / 2, 8, 1] {
            let Ok(n_c) = u32::try_from(n) else { return false };
            // SAFETY: the pool is valid and the array has room for `n` pointers.
            let rc = unsafe {
                sys::homa_mbuf_alloc_bulk(self.pool.as_raw(), self.mbufs.as_mut_ptr(), n_c)
            };
            if rc == 0 {
                self.len = n;
                return true;
            }
        }
        false
    }
}

impl Drop for MbufCache {
    fn drop(&mut self) {
        if let Ok(n @ 1..) = u32::try_from(self.len) {
            // SAFETY: the array up to `len` holds buffers that are ours alone.
            unsafe { sys::rte_pktmbuf_free_bulk(self.mbufs.as_mut_ptr(), n) };
        }
    }
}
