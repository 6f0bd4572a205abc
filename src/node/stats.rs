//! Counters of a shard, readable from other threads while it runs.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

use crate::time::Nanos;
use crate::transport::{Metrics, Occupancy};

use super::watch::{Callback, SlowCallback};

macro_rules! shard_stats {
    ($($(#[doc = $doc:literal])* $name:ident),* $(,)?) => {
        /// What a shard has done so far.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct ShardStats {
            $($(#[doc = $doc])* pub $name: u64,)*
        }

        impl ShardStats {
            /// Names and descriptions of the counters, in the order of [`ShardStats::iter`].
            pub const FIELDS: &'static [(&'static str, &'static str)] =
                &[$((stringify!($name), concat!($($doc),*))),*];

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
    /// Packets that the port did not bring to their shard though it has a rule for them: see the log.
    rule_misses,
    /// Requests handed to the application on other shards.
    handed_out,
    /// Requests that other shards have handed over, served here for them.
    handed_in,
    /// Requests that found another shard with as many of ours as may be there.
    hand_offs_full,
    /// Answers of other shards that came when the RPC had ended.
    answers_late,
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

/// The counters of a transport and what is in its tables, as [`Cells`] are.
#[derive(Debug)]
struct TransportCells {
    received: [AtomicU64; 9],
    sent: [AtomicU64; 9],
    sent_bytes_by_priority: [AtomicU64; 8],
    single: [AtomicU64; Metrics::SINGLE.len()],
    tables: [AtomicU64; 7],
}

impl Default for TransportCells {
    fn default() -> Self {
        Self {
            received: Default::default(),
            sent: Default::default(),
            sent_bytes_by_priority: Default::default(),
            single: std::array::from_fn(|_| AtomicU64::new(0)),
            tables: Default::default(),
        }
    }
}

impl TransportCells {
    fn store(&self, metrics: &Metrics, occupancy: &Occupancy) {
        let store = |cells: &[AtomicU64], values: &[u64]| {
            cells
                .iter()
                .zip(values)
                .for_each(|(cell, &value)| cell.store(value, Ordering::Relaxed));
        };
        store(&self.received, &metrics.received);
        store(&self.sent, &metrics.sent);
        store(&self.sent_bytes_by_priority, &metrics.sent_bytes_by_priority);
        for (cell, (_, value)) in self.single.iter().zip(metrics.iter()) {
            cell.store(value, Ordering::Relaxed);
        }
        let tables = [
            occupancy.client_rpcs as u64,
            occupancy.server_rpcs as u64,
            occupancy.peers as u64,
            occupancy.retained_packets.into(),
            occupancy.incoming_bytes,
            occupancy.grantable as u64,
            occupancy.outgoing_bytes,
        ];
        store(&self.tables, &tables);
    }

    fn load(&self) -> (Metrics, Occupancy) {
        fn load<const N: usize>(cells: &[AtomicU64; N]) -> [u64; N] {
            std::array::from_fn(|at| cells[at].load(Ordering::Relaxed))
        }
        let metrics = Metrics {
            received: load(&self.received),
            sent: load(&self.sent),
            sent_bytes_by_priority: load(&self.sent_bytes_by_priority),
            ..Metrics::default()
        };
        let [client, server, peers, retained, incoming, grantable, outgoing] = load(&self.tables);
        let occupancy = Occupancy {
            client_rpcs: client as usize,
            server_rpcs: server as usize,
            peers: peers as usize,
            retained_packets: retained as u32,
            incoming_bytes: incoming,
            grantable: grantable as usize,
            outgoing_bytes: outgoing,
        };
        (metrics.with_single(load(&self.single)), occupancy)
    }
}

/// All counters of a shard at a moment, as it has published them.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShardCounters {
    /// Those of the loop.
    pub stats: ShardStats,
    /// Those of the transport.
    pub metrics: Metrics,
    /// What is in the transport's tables.
    pub occupancy: Occupancy,
}

/// The place where a shard publishes its counters.
#[derive(Debug, Default)]
pub(super) struct Published(CachePadded<Cells>, CachePadded<AtomicU8>, CachePadded<TransportCells>);

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

    pub(super) fn publish(&self, stats: &ShardStats, metrics: &Metrics, occupancy: &Occupancy) {
        self.0.store(stats);
        self.2.store(metrics, occupancy);
    }

    pub(super) fn read_all(&self) -> ShardCounters {
        let (metrics, occupancy) = self.2.load();
        ShardCounters { stats: self.read(), metrics, occupancy }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_is_read() {
        let published = Published::default();
        let stats = ShardStats { rx_packets: 7, stall_ns_max: 9, ..ShardStats::default() };
        let metrics = Metrics {
            received: [1, 2, 3, 4, 5, 6, 7, 8, 9],
            sent_bytes_by_priority: [8; 8],
            client_started: 11,
            peers_evicted: 12,
            ..Metrics::default()
        };
        let occupancy =
            Occupancy { client_rpcs: 3, grantable: 4, outgoing_bytes: 5, ..Occupancy::default() };
        published.publish(&stats, &metrics, &occupancy);
        let read = published.read_all();
        assert_eq!((read.stats, read.metrics), (stats, metrics));
        assert_eq!((read.occupancy.client_rpcs, read.occupancy.grantable), (3, 4));
        assert_eq!(read.occupancy.outgoing_bytes, 5);
    }

    #[test]
    fn every_counter_is_described() {
        for (name, text) in ShardStats::FIELDS.iter().chain(Metrics::SINGLE) {
            assert!(text.trim().ends_with('.'), "{name}: {text:?}");
        }
        assert_eq!(ShardStats::FIELDS.len(), ShardStats::default().iter().count());
        assert_eq!(Metrics::SINGLE.len(), Metrics::default().iter().count());
    }
}
