//! Bindings to DPDK: bindgen of a small allow-list plus a C shim.
//!
//! The shim (`shim.h`, `shim.c`) holds what bindgen cannot bind, namely inline functions, and what
//! is laid out differently from one DPDK release to the next (device information, configuration,
//! packet buffers): it offers flat structures of its own. Everything here is unsafe and documented
//! in DPDK's own headers; the safe side is the module `dpdk` of the crate `homa-dpdk`.
#![no_std]

use core::marker::{PhantomData, PhantomPinned};

/// A type that exists behind pointers only: not constructible, neither `Send` nor `Sync`.
macro_rules! opaque {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[allow(non_camel_case_types)]
        #[repr(C)]
        #[derive(Debug)]
        pub struct $name {
            _bytes: [u8; 0],
            _marker: PhantomData<(*mut u8, PhantomPinned)>,
        }
    )+};
}

opaque! {
    /// A packet buffer.
    rte_mbuf,
    /// A pool of packet buffers.
    rte_mempool,
    /// A ring of pointers.
    rte_ring,
}

mod bindings {
    #![allow(
        missing_docs,
        missing_debug_implementations,
        non_camel_case_types,
        non_snake_case,
        non_upper_case_globals,
        unreachable_pub,
        unused_qualifications,
        unsafe_op_in_unsafe_fn,
        clippy::all,
        clippy::missing_safety_doc,
        clippy::undocumented_unsafe_blocks,
        clippy::use_self
    )]

    use super::{rte_mbuf, rte_mempool, rte_ring};

    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

pub use bindings::*;
