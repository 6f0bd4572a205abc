//! A packet buffer with several owners.

use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::atomic::Ordering;

use dpdk_sys::rte_mbuf;

use super::Mbuf;

/// One of several handles of a packet, which nobody may change meanwhile. A queue that transmits
/// is an owner like any other: its handle is gone when the port has sent the packet.
///
/// To transmit and keep: put the header into the headroom of an [`Mbuf`], [`Mbuf::share`] it, give
/// a clone to the transmit burst and keep the other. Later [`MbufRef::get_mut`] tells whether the
/// port is done with it. If not, send a fresh header chained to a window on the payload
/// ([`super::MbufCache::alloc_indirect`]).
#[repr(transparent)]
#[derive(Debug)]
pub struct MbufRef {
    // Derefs to Mbuf, and is freed by it: giving up a reference is the same for the last one.
    packet: Mbuf,
    _thread: PhantomData<*mut ()>,
}

impl MbufRef {
    #[inline]
    pub(super) fn new(packet: Mbuf) -> Self {
        Self { packet, _thread: PhantomData }
    }

    #[inline]
    pub(super) fn into_raw(self) -> *mut rte_mbuf {
        self.packet.into_raw()
    }

    /// Whether this is the only handle left.
    #[inline]
    pub fn is_unique(&self) -> bool {
        self.packet.is_sole_owner()
    }

    /// The packet for changing it in place, if this is the only handle left.
    #[inline]
    pub fn get_mut(&mut self) -> Option<&mut Mbuf> {
        if self.is_unique() { Some(&mut self.packet) } else { None }
    }

    /// The packet for changing it.
    ///
    /// # Errors
    /// Gives the handle back if there are others.
    #[inline]
    pub fn try_into_unique(self) -> Result<Mbuf, Self> {
        if self.is_unique() { Ok(self.packet) } else { Err(self) }
    }

    /// Whether one more reference fits the counter of every segment.
    #[inline]
    fn may_take_reference(&self) -> bool {
        self.packet.reference_counts().all(|count| count.load(Ordering::Relaxed) < u16::MAX)
    }
}

impl Clone for MbufRef {
    /// One more handle of the same packet.
    ///
    /// # Panics
    /// At 65,535 handles, which is beyond the descriptors of any queue.
    #[inline]
    fn clone(&self) -> Self {
        assert!(self.may_take_reference(), "a packet has at most 65535 handles");
        for count in self.packet.reference_counts() {
            // A count of 1 is ours alone, so no other thread changes it: skip the locked addition.
            if count.load(Ordering::Relaxed) == 1 {
                count.store(2, Ordering::Relaxed);
            } else {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
        // SAFETY: not a unique owner, but wrapped at once in the type that does not claim it.
        Self::new(unsafe { Mbuf::from_raw(self.packet.raw) })
    }
}

/// Everything that reads an [`Mbuf`] reads a shared one.
impl Deref for MbufRef {
    type Target = Mbuf;

    #[inline]
    fn deref(&self) -> &Mbuf {
        &self.packet
    }
}

impl AsRef<[u8]> for MbufRef {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        self.packet.data()
    }
}

impl From<Mbuf> for MbufRef {
    fn from(packet: Mbuf) -> Self {
        packet.share()
    }
}
