//! Counters of a shard, readable from other threads while it runs.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

use crate::time::Nanos;
use crate::transport::{Metrics, Occupancy};

use super::watch::{Callback, SlowCallback};

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

            /// Adds the counters of another shard; of the longest times, the longer one stays.
            pub fn add(&mut self, other: &Self) {
                let stall_ns_max = self.stall_ns_max.max(other.stall_ns_max);
                $(self.$name += other.$name;)*
                self.stall_ns_max = stall_ns_max;
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
    /// Time of the turns of the first kind, in nanoseconds. Turns of more than a millisecond are in
    /// neither time: something else ran then.
    busy_ns,
    /// Time of the turns of the second kind, in nanoseconds.
    idle_ns,
    /// Receive bursts that were full: more is waiting.
    full_bursts,
    /// Packets received.
    rx_packets,
    /// Bytes of frames received.
    rx_bytes,
    /// Packets handed to the port.
    tx_packets,
    /// Long packets handed to the port to be cut into segments.
    tx_segmented,
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
    /// Frames left out of the trace: its ring was full.
    trace_dropped,
    /// Times the shard did not run for more than a millisecond.
    stalls,
    /// Longest of these, in nanoseconds.
    stall_ns_max,
    /// Turns in which callbacks of the application took more than a millisecond.
    slow_callbacks,
    /// Packets for other shards, handed over to them. Not in `not_homa`; counted in `rx_packets` of
    /// this shard alone.
    redirected_out,
    /// Packets that other shards have handed over.
    redirected_in,
    /// Packets for other shards lost because too many waited there.
    redirects_dropped,
    /// Packets about an RPC of ours whose id names no shard of this node.
    no_such_shard,
    /// Frames and acks for other shards lost because too many waited there.
    letters_dropped,
    /// Packets whose hash the port has computed otherwise than we do: see the log.
    hash_mismatches,
}

/// How a shard has spent its time so far, see [`ShardStats::busy_ns`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoopTime {
    /// With something to do.
    pub busy: Nanos,
    /// With nothing to do.
    pub idle: Nanos,
}

impl LoopTime {
    /// What has passed since `earlier`.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self { busy: self.busy.since(earlier.busy), idle: self.idle.since(earlier.idle) }
    }
}

/// The place where a shard publishes its counters.
#[derive(Debug, Default)]
pub(super) struct Published(CachePadded<Cells>, CachePadded<AtomicU8>);

impl Published {
    /// Notes which callback runs, for whoever finds the shard stuck or gone.
    #[inline]
    pub(super) fn enter(&self, callback: Callback) {
        self.1.store(callback as u8, Ordering::Relaxed);
    }

    /// The callback that ran last.
    pub(super) fn callback(&self) -> Callback {
        Callback::from_code(self.1.load(Ordering::Relaxed))
    }

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
    /// The slowest callback, if any took too long.
    pub slowest: Option<SlowCallback>,
}

/// What is left when all shards of a node have ended.
#[derive(Clone, Debug, Default)]
pub struct NodeReport {
    /// By shard.
    pub shards: Vec<ShardReport>,
}

impl NodeReport {
    /// All shards together.
    pub fn merged(&self) -> ShardReport {
        let mut sum = ShardReport::default();
        for shard in &self.shards {
            sum.stats.add(&shard.stats);
            sum.metrics.add(&shard.metrics);
            sum.occupancy.add(&shard.occupancy);
            if sum.net.is_empty() {
                sum.net.clone_from(&shard.net);
            } else {
                // All shards count the same things, in the same order.
                for (total, (_, value)) in sum.net.iter_mut().zip(&shard.net) {
                    total.1 += value;
                }
            }
            let slowest = [sum.slowest, shard.slowest];
            sum.slowest = slowest.into_iter().flatten().max_by_key(|slow| slow.took_ns);
        }
        sum
    }
}
