//! The two ends of a port that a core polls.

use std::cell::Cell;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::Arc;

use dpdk_sys as sys;
use dpdk_sys::rte_mbuf;

use super::burst::{RxBurst, TxBurst};
use super::mbuf::Mbuf;
use super::mempool::Mempool;
use super::port::Owned;

/// Packets passed to a driver at once: the memif driver of DPDK 22.11 fails with more than this.
const DRIVER_BURST_MAX: usize = 64;

/// A receive queue, of which there is one handle. It may move to another thread but not be used by
/// two.
#[derive(Debug)]
pub struct RxQueue {
    port_id: u16,
    queue_id: u16,
    /// The pool to copy from when packets arrive that others still hold.
    copy_shared: bool,
    pool: Mempool,
    copies_failed: u64,
    _port: Arc<Owned>,
    _one_thread: PhantomData<Cell<()>>,
}

impl RxQueue {
    pub(super) fn new(port: &Arc<Owned>, queue_id: u16, pool: Mempool, copy_shared: bool) -> Self {
        Self {
            port_id: port.port_id,
            queue_id,
            copy_shared,
            pool,
            copies_failed: 0,
            _port: Arc::clone(port),
            _one_thread: PhantomData,
        }
    }

    /// The number of the queue within its port.
    pub fn queue_id(&self) -> u16 {
        self.queue_id
    }

    /// The pool that received packets come from.
    pub fn pool(&self) -> &Mempool {
        &self.pool
    }

    /// Packets lost because they were shared with their sender and the pool had no buffer for a
    /// copy.
    pub fn copies_failed(&self) -> u64 {
        self.copies_failed
    }

    /// Adds received packets, if there are any, to `burst` and returns how many.
    #[inline]
    pub fn rx_burst<const N: usize>(&mut self, burst: &mut RxBurst<N>) -> usize {
        self.rx_burst_of(burst, N)
    }

    /// As [`RxQueue::rx_burst`], with `most` packets at most.
    #[inline]
    pub fn rx_burst_of<const N: usize>(&mut self, burst: &mut RxBurst<N>, most: usize) -> usize {
        let slots = burst.free_slots();
        let room = slots.len().min(most).min(DRIVER_BURST_MAX) as u16;
        // SAFETY: the queue is set up and started as long as its port lives; this is the only
        // handle of it; the array has room for as many pointers as said.
        let received =
            unsafe { sys::homa_rx_burst(self.port_id, self.queue_id, slots.as_mut_ptr(), room) };
        let mut n = usize::from(received.min(room));
        if self.copy_shared && n > 0 {
            n = self.own_each(&mut burst.free_slots()[..n]);
        }
        // SAFETY: the driver filled the slots and gave the packets up; drivers give out packets
        // with one reference, and those that pass on the sender's were seen to just now.
        unsafe { burst.filled(n) };
        n
    }

    /// Replaces packets that their sender holds as well by copies; returns how many are left.
    fn own_each(&mut self, slots: &mut [*mut rte_mbuf]) -> usize {
        let mut kept = 0;
        for at in 0..slots.len() {
            let Some(raw) = NonNull::new(slots[at]) else { continue };
            // SAFETY: perhaps not the only owner, but only read, then kept or freed as one owner.
            let packet = ManuallyDrop::new(unsafe { Mbuf::from_raw(raw) });
            let owned = if packet.is_sole_owner() {
                Some(ManuallyDrop::into_inner(packet))
            } else {
                let copy = self.pool.copy_of(&packet);
                drop(ManuallyDrop::into_inner(packet));
                copy
            };
            match owned {
                Some(owned) => {
                    slots[kept] = owned.into_raw();
                    kept += 1;
                }
                None => self.copies_failed += 1,
            }
        }
        kept
    }
}

/// A transmit queue, of which there is one handle. It may move to another thread but not be used
/// by two.
#[derive(Debug)]
pub struct TxQueue {
    port_id: u16,
    queue_id: u16,
    segments_max: u16,
    prepare: bool,
    packets: u64,
    unsendable: u64,
    _port: Arc<Owned>,
    _one_thread: PhantomData<Cell<()>>,
}

impl TxQueue {
    pub(super) fn new(port: &Arc<Owned>, queue_id: u16, segments_max: u16, prepare: bool) -> Self {
        Self {
            port_id: port.port_id,
            queue_id,
            segments_max,
            prepare,
            packets: 0,
            unsendable: 0,
            _port: Arc::clone(port),
            _one_thread: PhantomData,
        }
    }

    /// The number of the queue within its port.
    pub fn queue_id(&self) -> u16 {
        self.queue_id
    }

    /// Packets the driver took.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Packets freed because the port cannot send their like: more segments than it takes and no
    /// room to copy them together, or refused by the driver.
    pub fn unsendable(&self) -> u64 {
        self.unsendable
    }

    /// Offers what waits in `burst` to the driver once; returns how many packets it took. The
    /// rest stays in the burst. [`TxBurst::flush`] goes on while there is progress.
    #[inline]
    pub fn tx_burst<const N: usize>(&mut self, burst: &mut TxBurst<N>) -> usize {
        // A limit that chains of ours never reach costs no look at the packets.
        if self.segments_max < 32 {
            self.shorten_chains(burst);
        }
        let waiting = burst.waiting();
        let mut offered = waiting.len().min(DRIVER_BURST_MAX) as u16;
        if offered == 0 {
            return 0;
        }
        if self.prepare {
            offered = self.prepare_burst(burst, offered);
        }
        let waiting = burst.waiting().as_mut_ptr();
        // SAFETY: the queue is set up and started as long as its port lives; this is the only
        // handle of it; the burst owns at least as many packets as offered.
        let taken = unsafe { sys::homa_tx_burst(self.port_id, self.queue_id, waiting, offered) };
        let taken = usize::from(taken.min(offered));
        // SAFETY: the driver took the first `taken` packets and no other.
        unsafe { burst.taken(taken) };
        self.packets += taken as u64;
        taken
    }

    /// Lets the driver free packets it has sent; an idle queue keeps them otherwise. Returns how
    /// many it freed; zero also where the driver cannot do this.
    pub fn reclaim(&mut self) -> usize {
        // SAFETY: the queue is set up as long as its port lives; this is the only handle of it.
        let freed = unsafe { sys::rte_eth_tx_done_cleanup(self.port_id, self.queue_id, 0) };
        usize::try_from(freed).unwrap_or(0)
    }

    fn shorten_chains<const N: usize>(&mut self, burst: &mut TxBurst<N>) {
        let mut at = 0;
        while let Some(raw) = burst.waiting().get(at).copied().and_then(NonNull::new) {
            // SAFETY: the burst keeps its reference; changed only if it is the only one.
            let mut packet = ManuallyDrop::new(unsafe { Mbuf::from_raw(raw) });
            let fits = packet.segment_count() <= usize::from(self.segments_max)
                || (packet.is_sole_owner() && packet.linearize());
            if fits {
                at += 1;
            } else {
                burst.discard(at);
                self.unsendable += 1;
            }
        }
    }

    /// Lets the driver look at the offloads of what it is about to get; returns how many of the
    /// first packets are fine.
    fn prepare_burst<const N: usize>(&mut self, burst: &mut TxBurst<N>, offered: u16) -> u16 {
        let waiting = burst.waiting().as_mut_ptr();
        // SAFETY: as for transmitting.
        let fine = unsafe { sys::homa_tx_prepare(self.port_id, self.queue_id, waiting, offered) };
        if fine < offered {
            burst.discard(usize::from(fine));
            self.unsendable += 1;
        }
        fine
    }
}
