//! What the integration tests of the node share. Each test file is a program of its own and uses a
//! part of it.
#![allow(dead_code, reason = "each test file uses a part")]

pub(crate) mod choosy_server;
pub(crate) mod load_report;
pub(crate) mod lossy_cable;
pub(crate) mod namespace;
pub(crate) mod ping;
pub(crate) mod planned_calls;
pub(crate) mod process;
pub(crate) mod scratch;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Tests of one program run one after the other: each polls with as many threads as there are cores.
pub(crate) fn one_at_a_time() -> MutexGuard<'static, ()> {
    static RUNNING: Mutex<()> = Mutex::new(());
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A number that no other test of this program has been given.
pub(crate) fn unique() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
