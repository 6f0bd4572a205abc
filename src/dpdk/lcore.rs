//! Threads: pinning them and giving them a number of DPDK, on which mempool caches depend.

use std::io;
use std::marker::PhantomData;
use std::mem;

use super::error::{Error, errno_text, last_errno};
use super::{Clock, Eal};

/// A thread known to DPDK. The registration ends when this is dropped, on the same thread.
#[derive(Debug)]
pub struct LcoreThread {
    lcore_id: u32,
    registered: bool,
    _eal: Eal,
    /// The registration is the calling thread's: not `Send`.
    _thread: PhantomData<*mut ()>,
}

impl LcoreThread {
    /// The number DPDK gave the thread; it indexes mempool caches and is not the CPU's number.
    pub fn lcore_id(&self) -> u32 {
        self.lcore_id
    }
}

impl Drop for LcoreThread {
    fn drop(&mut self) {
        if self.registered {
            // SAFETY: registered by this very thread (the type is not Send) and not since undone.
            unsafe { dpdk_sys::rte_thread_unregister() };
        }
    }
}

impl Eal {
    /// Pins the calling thread to `cpu` (if given) and registers it with DPDK, so that mempools
    /// give it a cache of its own; without, allocation and freeing take two to three times longer.
    ///
    /// The thread that started EAL is registered already and is only pinned.
    ///
    /// # Errors
    /// When the CPU is not one this process may use, or DPDK has no number left.
    pub fn register_lcore_thread(&self, cpu: Option<usize>) -> Result<LcoreThread, Error> {
        if let Some(cpu) = cpu {
            pin_current_thread(cpu)?;
        }
        // SAFETY: reads a thread-local integer.
        let registered = unsafe { dpdk_sys::homa_lcore_id() } == dpdk_sys::HOMA_LCORE_ID_ANY;
        // SAFETY: EAL is running and this thread is not registered.
        if registered && unsafe { dpdk_sys::rte_thread_register() } < 0 {
            return Err(Error::Config(format!(
                "DPDK cannot register one more thread: {}; use fewer shards",
                errno_text(last_errno())
            )));
        }
        // SAFETY: as above.
        let lcore_id = unsafe { dpdk_sys::homa_lcore_id() };
        Ok(LcoreThread { lcore_id, registered, _eal: self.clone(), _thread: PhantomData })
    }

    /// A clock that starts now; see [`Clock::new`].
    pub fn clock(&self) -> Clock {
        Clock::new(self)
    }
}

/// The CPUs the calling thread may run on, in order.
pub fn allowed_cpus() -> Vec<usize> {
    affinity().map_or_else(
        |_| Vec::new(),
        |set| {
            let max = usize::try_from(libc::CPU_SETSIZE).unwrap_or(0);
            // SAFETY: the index is below the size of the set.
            (0..max).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect()
        },
    )
}

/// Lets the calling thread run on `cpu` only.
///
/// # Errors
/// When there is no such CPU or the process may not use it.
pub fn pin_current_thread(cpu: usize) -> Result<(), Error> {
    if cpu >= usize::try_from(libc::CPU_SETSIZE).unwrap_or(0) {
        return Err(Error::Config(format!("CPU {cpu} does not exist")));
    }
    // SAFETY: an all-zero set is the empty set.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: the index was checked above.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    set_affinity(&set).map_err(|error| {
        Error::Config(format!(
            "cannot run on CPU {cpu}: {error}; this process may use CPUs {:?}",
            allowed_cpus()
        ))
    })
}

pub(super) fn affinity() -> io::Result<libc::cpu_set_t> {
    // SAFETY: an all-zero set is the empty set.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: the set is as long as said; 0 is the calling thread.
    let rc = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &mut set) };
    if rc == 0 { Ok(set) } else { Err(io::Error::last_os_error()) }
}

pub(super) fn set_affinity(set: &libc::cpu_set_t) -> io::Result<()> {
    // SAFETY: the set is as long as said; 0 is the calling thread.
    let rc = unsafe { libc::sched_setaffinity(0, size_of_val(set), set) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_to_an_allowed_cpu_and_names_a_missing_one() {
        std::thread::spawn(|| {
            let cpus = allowed_cpus();
            let last = *cpus.last().expect("some CPU runs this");
            pin_current_thread(last).unwrap();
            assert_eq!(allowed_cpus(), [last]);
            let text = pin_current_thread(1_000).unwrap_err().to_string();
            assert!(text.contains("CPU 1000"), "{text}");
            assert!(pin_current_thread(1 << 40).is_err());
        })
        .join()
        .unwrap();
    }
}
