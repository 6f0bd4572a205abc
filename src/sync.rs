//! Atomics and shared cells, under one name for the product and for its models: with `--cfg loom`,
//! tests get those of loom, which tries every order that the memory model allows.

#[cfg(not(all(test, loom)))]
pub(crate) mod atomic {
    #[cfg(feature = "dpdk")]
    pub(crate) use core::sync::atomic::AtomicUsize;
    pub(crate) use core::sync::atomic::{AtomicI64, AtomicU64, Ordering, fence};
}

#[cfg(all(test, loom))]
pub(crate) mod atomic {
    #[cfg(feature = "dpdk")]
    pub(crate) use loom::sync::atomic::AtomicUsize;
    pub(crate) use loom::sync::atomic::{AtomicI64, AtomicU64, Ordering, fence};
}

/// `core::cell::UnsafeCell` with the interface of loom's.
#[cfg(all(feature = "dpdk", not(all(test, loom))))]
#[derive(Debug)]
pub(crate) struct UnsafeCell<T>(core::cell::UnsafeCell<T>);

#[cfg(all(feature = "dpdk", not(all(test, loom))))]
impl<T> UnsafeCell<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(core::cell::UnsafeCell::new(value))
    }

    #[inline(always)]
    pub(crate) fn with_mut<R>(&self, access: impl FnOnce(*mut T) -> R) -> R {
        access(self.0.get())
    }
}

#[cfg(all(feature = "dpdk", test, loom))]
pub(crate) use loom::cell::UnsafeCell;

#[cfg(all(feature = "dpdk", test, loom))]
pub(crate) use loom::sync::Arc;
#[cfg(all(feature = "dpdk", not(all(test, loom))))]
pub(crate) use std::sync::Arc;
