//! Two ports of one process, wired crosswise with rings.

use std::ffi::CString;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, Ordering};

use dpdk_sys as sys;

use super::error::{Error, errno_text, last_errno};

/// The rings between two ports. Freed, with what is in them, when both ports are closed.
#[derive(Debug)]
pub(super) struct RingPair {
    /// Towards port A, then towards port B, one per queue.
    rings: [Vec<NonNull<sys::rte_ring>>; 2],
    ports_open: AtomicU8,
}

// SAFETY: the rings are only touched by the ports on them and, when those are closed, by the drop
// of the last handle.
unsafe impl Send for RingPair {}
// SAFETY: as above.
unsafe impl Sync for RingPair {}

impl RingPair {
    /// Makes the rings and both ports; returns the ports' numbers.
    pub(super) fn new(name: &str, queues: u16, entries: u32) -> Result<(Self, [u16; 2]), Error> {
        let mut pair = Self { rings: [Vec::new(), Vec::new()], ports_open: AtomicU8::new(0) };
        for side in 0..2 {
            for queue in 0..queues {
                let ring = ring(&format!("homa_{name}_{side}_{queue}"), entries)?;
                pair.rings[side].push(ring);
            }
        }
        let a = port(&format!("{name}_a"), &pair.rings[0], &pair.rings[1])?;
        let b = port(&format!("{name}_b"), &pair.rings[1], &pair.rings[0])?;
        Ok((pair, [a, b]))
    }

    pub(super) fn port_opened(&self) {
        self.ports_open.fetch_add(1, Ordering::AcqRel);
    }

    /// The last port to close frees what neither side received.
    pub(super) fn port_closed(&self) {
        if self.ports_open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.drain();
        }
    }

    fn drain(&self) {
        for ring in self.rings.iter().flatten() {
            // SAFETY: the ring is valid and no port is open that would use it.
            unsafe { sys::homa_ring_drain(ring.as_ptr()) };
        }
    }
}

fn ring(name: &str, entries: u32) -> Result<NonNull<sys::rte_ring>, Error> {
    let c_name = CString::new(name).unwrap_or_default();
    let flags = sys::HOMA_RING_F_SP_ENQ | sys::HOMA_RING_F_SC_DEQ;
    // SAFETY: EAL is running; the name is NUL-terminated and copied. One queue handle on either
    // side means one producer and one consumer.
    let raw =
        unsafe { sys::rte_ring_create(c_name.as_ptr(), entries, sys::HOMA_SOCKET_ID_ANY, flags) };
    NonNull::new(raw).ok_or_else(|| {
        Error::Config(format!(
            "cannot make a ring of {entries} entries for {name}: {}; the number must be a power \
             of two",
            errno_text(last_errno())
        ))
    })
}

fn port(
    name: &str,
    towards: &[NonNull<sys::rte_ring>],
    away: &[NonNull<sys::rte_ring>],
) -> Result<u16, Error> {
    let c_name = CString::new(name).unwrap_or_default();
    let queues = u32::try_from(towards.len()).unwrap_or(0);
    // SAFETY: both arrays hold as many valid rings as said (a NonNull is a pointer); the driver
    // copies them.
    let port_id = unsafe {
        sys::rte_eth_from_rings(
            c_name.as_ptr(),
            towards.as_ptr().cast(),
            queues,
            away.as_ptr().cast(),
            queues,
            0,
        )
    };
    u16::try_from(port_id).map_err(|_| {
        Error::Config(format!(
            "cannot make the ring port {name} with {queues} queues: {}",
            errno_text(last_errno())
        ))
    })
}
