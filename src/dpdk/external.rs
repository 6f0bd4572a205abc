//! Memory of the application as packet data.

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::ptr::NonNull;

use dpdk_sys as sys;

use super::{Eal, Error, Mbuf};

/// Bytes that the application owns and packets point at ([`Mbuf::attach_external`]). The owner is
/// dropped when this handle and every such packet are gone, on whichever thread is last.
#[derive(Debug)]
pub struct ExternalBuffer {
    shared: NonNull<sys::rte_mbuf_ext_shared_info>,
    start: NonNull<u8>,
    len_bytes: usize,
    drop_owner: DropOwner,
}

/// What the last reference calls, once, with what [`ExternalBuffer::new`] gave DPDK for it.
///
/// # Safety
/// `opaque` comes from there, and nobody uses the buffer any more.
type DropOwner = unsafe extern "C" fn(addr: *mut c_void, opaque: *mut c_void);

/// What DPDK keeps a pointer to; boxed, so that it stays where it is.
#[repr(C)]
struct Shared<T> {
    info: sys::rte_mbuf_ext_shared_info,
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
        // SAFETY: the structure consists of a nullable pointer to a function, a pointer and a
        // counter; it is filled in below.
        let info = unsafe { MaybeUninit::zeroed().assume_init() };
        let shared = NonNull::from(Box::leak(Box::new(Shared { info, owner })));
        // SAFETY: just made, and the owner is neither moved nor borrowed mutably until its drop,
        // so what it lends now stays lent.
        let bytes = unsafe { (*shared.as_ptr()).owner.as_ref() };
        let (start, len_bytes) = (NonNull::from(bytes).cast::<u8>(), bytes.len());
        let drop_owner: DropOwner = drop_shared::<T>;
        let opaque = shared.as_ptr().cast::<c_void>();
        let shared = shared.cast::<sys::rte_mbuf_ext_shared_info>();
        // SAFETY: `info` is the first field of the boxed structure, which lives until the callback.
        unsafe { sys::homa_ext_init(shared.as_ptr(), Some(drop_owner), opaque) };
        Ok(Self { shared, start, len_bytes, drop_owner })
    }

    /// Bytes in the buffer.
    pub fn len(&self) -> usize {
        self.len_bytes
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len_bytes == 0
    }

    /// The bytes.
    pub fn data(&self) -> &[u8] {
        // SAFETY: the owner keeps them in place while it lives, and this handle keeps it alive.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len_bytes) }
    }

    /// `mbuf` is direct, empty and of one segment.
    pub(super) fn attach_to(&self, mbuf: &mut Mbuf, range: Range<usize>) -> bool {
        if range.start > range.end || range.end > self.len_bytes {
            return false;
        }
        let Ok(len) = u16::try_from(range.end - range.start) else { return false };
        // SAFETY: the boxed structure lives; reading and adding are atomic. The reference taken
        // is the mbuf's, which gives it up when freed. The range is within the buffer.
        unsafe {
            if sys::homa_ext_refcnt(self.shared.as_ptr()) == u16::MAX {
                return false;
            }
            sys::homa_ext_refcnt_add(self.shared.as_ptr(), 1);
            let addr = self.start.as_ptr().add(range.start).cast::<c_void>();
            sys::homa_mbuf_attach_external(mbuf.as_raw(), addr, len, self.shared.as_ptr());
        }
        true
    }
}

impl Drop for ExternalBuffer {
    fn drop(&mut self) {
        // SAFETY: gives up the reference that `new` counted; the last one drops the owner.
        unsafe {
            if sys::homa_ext_refcnt_add(self.shared.as_ptr(), -1) == 0 {
                let opaque = self.shared.as_ptr().cast::<c_void>();
                (self.drop_owner)(self.start.as_ptr().cast::<c_void>(), opaque);
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
