//! Watches the link of the port while the shards run, on the thread that waits for their end.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use crate::dpdk::Port;

/// Time between two looks at the link: it costs system calls. What goes and comes back in between is not seen.
const INTERVAL: Duration = Duration::from_millis(100);

/// How often the link of a port has come back. Shards announce their addresses then: the switch that they are
/// behind may be another one.
#[derive(Debug, Default)]
pub(super) struct LinkReturns(AtomicU32);

impl LinkReturns {
    /// Nothing is ordered by it, so a relaxed access does.
    #[inline]
    pub(super) fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    fn note(&self, was_up: bool, is_up: bool, port: &Port) {
        match (was_up, is_up) {
            (true, false) => log::warn!("{}: the link is down", port.spec()),
            (false, true) => {
                log::warn!("{}: the link is up again", port.spec());
                self.0.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
    }
}

/// Looks at the link of `port` until `stop` is set, which shards tell by unparking this thread. Returns at once
/// if it is of a kind whose link does not come back.
pub(super) fn watch(port: &Port, returns: &LinkReturns, stop: &AtomicBool) {
    if !port.spec().has_lasting_link() {
        return;
    }
    let mut was_up = true;
    while !stop.load(Ordering::Relaxed) {
        // A driver that cannot say has no news.
        let is_up = port.link().map_or(was_up, |link| link.up);
        returns.note(was_up, is_up, port);
        was_up = is_up;
        thread::park_timeout(INTERVAL);
    }
}
