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
pub(crate) mod wire;

use homa::transport::Config;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Tests of one program run one after the other: each polls with as many threads as there are cores.
pub(crate) fn one_at_a_time() -> MutexGuard<'static, ()> {
    static RUNNING: Mutex<()> = Mutex::new(());
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Option of `homa-load`: on a machine with other work a process may not run for longer than the 100 ms
/// after which an RPC is given up otherwise.
pub(crate) const TIMEOUT_OPTION: &str = "--timeout 3s";

/// Settings for applications of tests on such a machine, where to move the messages of a test may take more
/// than a second. While a node does not run, its timeouts do not either: that a request was served before
/// must be remembered for much longer than they say.
pub(crate) fn patient() -> Config {
    Config {
        timeout_ns: 3_000_000_000,
        response_keep_ns: 10_000_000_000,
        tombstone_keep_ns: 300_000_000_000,
        announce_heads: true,
        seed: u64::from(std::process::id()),
        ..Config::default()
    }
}

/// A number that no other test of this program has been given.
pub(crate) fn unique() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
