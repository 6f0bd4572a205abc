//! Counters of a shard, readable from other threads while it runs.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

use crate::transport::{Metrics, Occupancy};

macro_rules! shard_stats {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// What a shard has done so far.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct ShardStats {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl ShardStats {
            /// Names and values, in a fixed order.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name)),*].into_iter()
            }
        }

        /// The counters as one shard publishes them: written by that shard alone, read by anyone.
        /// Nothing is ordered by them, so relaxed accesses do.
        #[derive(Debug, Default)]
        struct Cells {
            $($name: AtomicU64,)*
        }

        impl Cells {
            fn store(&self, stats: &ShardStats) {
                $(self.$name.store(stats.$name, Ordering::Relaxed);)*
            }

            fn load(&self) -> ShardStats {
                ShardStats { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

shard_stats! {
    /// Turns of the loop in which something was done.
    busy_turns,
    /// Turns in which nothing was there to do.
    idle_turns,
    /// Receive bursts that were full: more is waiting.
    full_bursts,
    /// Packets received.
    rx_packets,
    /// Bytes of frames received.
    rx_bytes,
    /// Packets handed to the port.
    tx_packets,
    /// Received packets that are no Homa packets for us.
    not_homa,
    /// Received Homa packets that could not be parsed.
    malformed,
    /// Received packets of several segments that had to be copied.
    rx_copied,
    /// Received packets dropped because `NodeConfig::drop_fraction` says so.
    rx_dropped_on_purpose,
    /// Packets not sent: no mbuf.
    tx_no_mbuf,
    /// Packets not sent: no way to the destination.
    tx_no_path,
    /// Packets not sent: too many waited for the resolution of addresses.
    tx_unresolved,
    /// Packets the port could not send.
    tx_unsendable,
    /// Times the shard did not run for more than a millisecond.
    stalls,
    /// Longest of these, in nanoseconds.
    stall_ns_max,
}

/// The place where a shard publishes its counters.
#[derive(Debug, Default)]
pub(super) struct Published(CachePadded<Cells>);

impl Published {
    pub(super) fn publish(&self, stats: &ShardStats) {
        self.0.store(stats);
    }

    pub(super) fn read(&self) -> ShardStats {
        self.0.load()
    }
}

/// What is left when a shard has ended.
#[derive(Clone, Debug, Default)]
pub struct ShardReport {
    /// The loop's counters.
    pub stats: ShardStats,
    /// The transport's counters.
    pub metrics: Metrics,
    /// What was in the transport's tables when the application had stopped.
    pub occupancy: Occupancy,
    /// The counters of the network stack, by name.
    pub net: Vec<(&'static str, u64)>,
}
