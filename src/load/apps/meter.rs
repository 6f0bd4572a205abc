//! What a run costs the shard it runs on.

use crate::dpdk::Clock;
use crate::load::report::{CoreReport, SideReport};
use crate::node::{Cx, LoopTime};
use crate::time::Nanos;
use crate::transport::Metrics;

/// Looks at the shard this often.
const INTERVAL: Nanos = Nanos::from_ms(5);

/// A moment.
#[derive(Clone, Copy, Debug, Default)]
struct Snapshot {
    at: Nanos,
    time: LoopTime,
    metrics: Metrics,
}

/// Looks at the counters of its shard now and then, and says what they counted from the first look to
/// the last.
#[derive(Clone, Debug, Default)]
pub(super) struct Meter {
    next: Nanos,
    first: Option<Snapshot>,
    last: Snapshot,
    retained_packets_peak: u32,
}

impl Meter {
    /// Whether it is time to look.
    #[inline]
    pub(super) fn is_due(&self, now: Nanos) -> bool {
        now >= self.next
    }

    /// Looks.
    #[cold]
    pub(super) fn look(&mut self, cx: &Cx<'_>) {
        let at = cx.now();
        self.next = at + INTERVAL;
        let retained_packets = cx.occupancy().retained_packets;
        self.retained_packets_peak = self.retained_packets_peak.max(retained_packets);
        self.last = Snapshot { at, time: cx.loop_time(), metrics: *cx.metrics() };
        self.first.get_or_insert(self.last);
    }

    /// Passes this time over.
    #[cold]
    pub(super) fn skip(&mut self, now: Nanos) {
        self.next = now + INTERVAL;
    }

    /// What was counted, for the side `name`; the name of the core is left to fill in.
    pub(super) fn report(&self, name: &str, clock: Clock) -> SideReport {
        let first = self.first.unwrap_or_default();
        let (was, is) = (&first.metrics, &self.last.metrics);
        let busy = self.last.time.since(first.time).busy;
        let pair = |type_code: usize| {
            let index = type_code - 0x10;
            (is.sent[index] - was.sent[index], is.received[index] - was.received[index])
        };
        let rpcs = |metrics: &Metrics| metrics.client_done + metrics.server_responses;
        let by_priority = is.sent_bytes_by_priority.iter().zip(was.sent_bytes_by_priority);
        SideReport {
            name: name.to_owned(),
            cores: vec![CoreReport {
                name: String::new(),
                busy_ns: busy.0,
                total_ns: self.last.at.since(first.at).0,
            }],
            rpcs: rpcs(is) - rpcs(was),
            busy_cycles: clock.ticks_in(busy),
            resends: pair(0x12),
            grants: pair(0x11),
            busys: pair(0x14),
            bytes_resent: is.bytes_resent - was.bytes_resent,
            sent_bytes_by_priority: by_priority.map(|(is, was)| is - was).collect(),
            retained_packets_peak: self.retained_packets_peak.into(),
        }
    }
}
