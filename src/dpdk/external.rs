//! Memory of the application as packet data.

use std::ffi::c_void;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ops::Range;
use std::ptr::NonNull;

use dpdk_sys as sys;

use super::{Eal, Error, Mbuf};

/// Bytes that the application owns and packets point at ([`Mbuf::attach_external`]). The owner is
/// dropped when this handle and every such packet are gone, on whichever thread is last.
#[repr(transparent)]
#[derive(Debug)]
pub struct ExternalBuffer {
    /// One pointer, because messages are moved often.
    head: NonNull<Head>,
}

/// What the last reference calls, once, with what [`ExternalBuffer::new`] gave DPDK for it.
///
/// # Safety
/// `opaque` comes from there, and nobody uses the buffer any more.
type DropOwner = unsafe extern "C" fn(addr: *mut c_void, opaque: *mut c_void);

/// What is known of a buffer whatever its owner.
#[repr(C)]
struct Head {
    /// What DPDK keeps a pointer to.
    info: sys::rte_mbuf_ext_shared_info,
    start: NonNull<u8>,
    len_bytes: usize,
    /// Only the handle looks at it.
    segment_bytes: u32,
    drop_owner: DropOwner,
}

/// Boxed, so that it stays where it is.
#[repr(C)]
struct Shared<T> {
    head: Head,
    owner: T,
}

// SAFETY: the counter is atomic, the bytes are only read, and the owner may be dropped anywhere.
unsafe impl Send for ExternalBuffer {}

impl ExternalBuffer {
    /// Takes over `owner`: an `Arc<[u8]>`, a `&'static [u8]`, a `Vec<u8>` or anything else that
    /// keeps bytes where they are.
    ///
    /// The memory is not mapped for DMA, so only software ports, which copy with the processor,
    /// can transmit it.
    ///
    /// # Errors
    /// When EAL was started with a hardware device.
    pub fn new<T>(eal: &Eal, owner: T) -> Result<Self, Error>
    where
        T: AsRef<[u8]> + Send + 'static,
    {
        if eal.has_hardware() {
            return Err(Error::Config(
                "external memory is not mapped for DMA: with a pci device, copy into packet \
                 buffers instead"
                    .into(),
            ));
        }
        let head = Head {
            // SAFETY: the structure consists of a nullable pointer to a function, a pointer and a
            // counter; it is filled in below.
            info: unsafe { MaybeUninit::zeroed().assume_init() },
            start: NonNull::dangling(),
            len_bytes: 0,
            segment_bytes: u32::MAX,
            drop_owner: drop_shared::<T>,
        };
        let shared = NonNull::from(Box::leak(Box::new(Shared { head, owner })));
        // SAFETY: just made, and the owner is neither moved nor borrowed mutably until its drop,
        // so what it lends now stays lent.
        let bytes = unsafe { (*shared.as_ptr()).owner.as_ref() };
        let (start, len_bytes) = (NonNull::from(bytes).cast::<u8>(), bytes.len());
        let opaque = shared.as_ptr().cast::<c_void>();
        let head = shared.cast::<Head>();
        // SAFETY: the head is the first field of the boxed structure, which lives until the callback, and
        // nobody else knows of it yet. The bytes may lie in the owner, never in the head.
        unsafe {
            (*head.as_ptr()).start = start;
            (*head.as_ptr()).len_bytes = len_bytes;
            sys::homa_ext_init(Self::info(head), Some(drop_shared::<T>), opaque);
        }
        Ok(Self { head })
    }

    /// The handle as a pointer, for [`Self::from_raw`].
    pub(super) fn into_raw(self) -> NonNull<c_void> {
        ManuallyDrop::new(self).head.cast()
    }

    /// # Safety
    /// `raw` comes from [`Self::into_raw`], once.
    pub(super) unsafe fn from_raw(raw: NonNull<c_void>) -> Self {
        Self { head: raw.cast() }
    }

    fn info(head: NonNull<Head>) -> *mut sys::rte_mbuf_ext_shared_info {
        // The first field.
        head.cast().as_ptr()
    }

    fn start(&self) -> NonNull<u8> {
        // SAFETY: this handle keeps the structure alive; only the counter in it changes, which is not looked at.
        unsafe { (*self.head.as_ptr()).start }
    }

    /// Bytes in the buffer.
    pub fn len(&self) -> usize {
        // SAFETY: as for `start`.
        unsafe { (*self.head.as_ptr()).len_bytes }
    }

    /// Bytes that each packet made of the buffer takes, but for the last: all, unless told otherwise.
    pub fn segment_bytes(&self) -> u32 {
        // SAFETY: as for `start`; changed through the only handle.
        unsafe { (*self.head.as_ptr()).segment_bytes }
    }

    /// Sets [`Self::segment_bytes`].
    pub fn set_segment_bytes(&mut self, segment_bytes: u32) {
        // SAFETY: nobody but this handle, which is borrowed mutably, looks at the field.
        unsafe { (*self.head.as_ptr()).segment_bytes = segment_bytes };
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes.
    pub fn data(&self) -> &[u8] {
        // SAFETY: the owner keeps them in place while it lives, and this handle keeps it alive.
        unsafe { std::slice::from_raw_parts(self.start().as_ptr(), self.len()) }
    }

    /// `mbuf` is direct, empty and of one segment.
    pub(super) fn attach_to(&self, mbuf: &mut Mbuf, range: Range<usize>) -> bool {
        if range.start > range.end || range.end > self.len() {
            return false;
        }
        let Ok(len) = u16::try_from(range.end - range.start) else { return false };
        // SAFETY: the boxed structure lives; reading and adding are atomic. The reference taken
        // is the mbuf's, which gives it up when freed. The range is within the buffer.
        unsafe {
            let info = Self::info(self.head);
            if sys::homa_ext_refcnt(info) == u16::MAX {
                return false;
            }
            sys::homa_ext_refcnt_add(info, 1);
            let addr = self.start().as_ptr().add(range.start).cast::<c_void>();
            sys::homa_mbuf_attach_external(mbuf.as_raw(), addr, len, info);
        }
        true
    }
}

impl Drop for ExternalBuffer {
    fn drop(&mut self) {
        // SAFETY: gives up the reference that `new` counted; the last one drops the owner.
        unsafe {
            if sys::homa_ext_refcnt_add(Self::info(self.head), -1) == 0 {
                let drop_owner = (*self.head.as_ptr()).drop_owner;
                drop_owner(self.start().as_ptr().cast(), self.head.as_ptr().cast());
            }
        }
    }
}

/// A panic in the owner's `drop` ends the process here: it must not unwind through C.
///
/// # Safety
/// As for [`DropOwner`], with the `T` of the owner.
unsafe extern "C" fn drop_shared<T>(_addr: *mut c_void, opaque: *mut c_void) {
    // SAFETY: `opaque` is what `new` leaked, and the last reference calls this once.
    drop(unsafe { Box::from_raw(opaque.cast::<Shared<T>>()) });
}
