//! Estimate of what the NIC still has to send, so that it never has much: packets that wait here can
//! be overtaken by shorter messages, packets in the NIC cannot (protocol.md section 10.2).

use std::sync::Arc;

use crate::time::Nanos;

use super::config::Config;
use super::heap::Key;
use super::sharing::{HostShare, SharedLink};

/// Ethernet header, VLAN tag, preamble, start delimiter, CRC and gap.
const FRAME_OVERHEAD_BYTES: u64 = 42;
/// IP header and Homa header, as the reference charges them: an IPv4 header.
const HEADERS_BYTES: u64 = 20 + 56;
/// Fraction bits of `idle_at`: at 100 Gbps a byte takes 0.08 ns.
const FRACTION: u32 = 6;

#[derive(Debug)]
pub(super) struct Pacer {
    enabled: bool,
    /// When everything handed over will be on the wire, in 1/64 ns.
    idle_at: u64,
    /// 1/64 ns per byte, times 1024.
    per_byte: u64,
    backlog_max: u64,
    /// The link is that of several shards: then this one counts, not `idle_at`.
    link: Option<Box<SharedLink>>,
}

/// Several shards reserve the link for so many full packets, or for this time, at once: whichever is
/// less.
const RUN_PACKETS: u64 = 8;
const RUN_NS: u64 = 2_000;
const FULL_PACKET_BYTES: u64 = 1_500 + FRAME_OVERHEAD_BYTES;

impl Pacer {
    pub(super) fn new(config: &Config) -> Self {
        let scale = (8u128 * 1_000_000_000) << FRACTION << 10;
        Self {
            enabled: config.pacing,
            idle_at: 0,
            per_byte: (scale / u128::from(config.link_bps)) as u64,
            backlog_max: config.backlog_max_ns << FRACTION,
            link: None,
        }
    }

    /// Counts what all shards of the host send.
    pub(super) fn share(&mut self, host: &Arc<HostShare>, shard: u8) {
        if self.enabled {
            let packets = (RUN_PACKETS * FULL_PACKET_BYTES * self.per_byte) >> 10;
            let run_cost = packets.clamp(1, RUN_NS << FRACTION);
            self.link = Some(Box::new(SharedLink::new(Arc::clone(host), shard, run_cost)));
        }
    }

    /// Says which message is next, for a link that is shared.
    #[inline]
    pub(super) fn want(&mut self, key: impl FnOnce() -> Option<Key>) {
        if let Some(link) = &mut self.link {
            link.want(key());
        }
    }

    /// To be called after the last packet of a burst, with the message that still waits.
    #[inline]
    pub(super) fn settle(&mut self, now: Nanos, waiting: impl FnOnce() -> Option<Key>) {
        if let Some(link) = &mut self.link {
            link.settle(now.0 << FRACTION, waiting());
        }
    }

    /// Whether a packet that can wait may go. It may overshoot the limit by itself.
    #[inline]
    pub(super) fn may_send(&mut self, now: Nanos) -> bool {
        match &mut self.link {
            None => self.is_below_limit(now),
            Some(link) => link.may_send(now.0 << FRACTION, self.backlog_max),
        }
    }

    #[inline]
    fn is_below_limit(&self, now: Nanos) -> bool {
        !self.enabled || self.idle_at <= (now.0 << FRACTION) + self.backlog_max
    }

    /// Accounts for a packet with `payload` bytes handed to the NIC.
    #[inline]
    pub(super) fn charge(&mut self, now: Nanos, payload: u32) {
        if self.enabled {
            let bytes = u64::from(payload) + HEADERS_BYTES + FRAME_OVERHEAD_BYTES;
            let cost = (bytes * self.per_byte) >> 10;
            match &mut self.link {
                None => self.idle_at = self.idle_at.max(now.0 << FRACTION) + cost,
                Some(link) => link.charge(now.0 << FRACTION, cost),
            }
        }
    }

    /// When `may_send` turns true again, if it is false at `now`.
    pub(super) fn next_send(&self, now: Nanos) -> Option<Nanos> {
        let at = match &self.link {
            None => (!self.is_below_limit(now)).then(|| self.idle_at - self.backlog_max),
            Some(link) => link.next_send(now.0 << FRACTION, self.backlog_max),
        };
        at.map(|at| Nanos(at.div_ceil(1 << FRACTION)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sends_at_the_rate_of_the_link() {
        for link_bps in [1_000_000_000, 25_000_000_000, 100_000_000_000] {
            let mut pacer = Pacer::new(&Config { link_bps, ..Config::default() });
            let (mut now, mut bytes) = (Nanos(1_000), 0u64);
            while bytes < 10_000_000 {
                match pacer.next_send(now) {
                    Some(later) => now = later,
                    None => {
                        pacer.charge(now, 1_424);
                        bytes += 1_424 + 118;
                    }
                }
            }
            let ideal_ns = bytes * 8_000_000_000 / link_bps;
            let spent_ns = now.0 - 1_000 + 5_000;
            let error = spent_ns.abs_diff(ideal_ns) as f64 / ideal_ns as f64;
            assert!(error < 0.02, "{link_bps}: {spent_ns} instead of {ideal_ns}");
        }
    }

    #[test]
    fn the_backlog_stays_within_the_limit_and_one_packet() {
        let mut pacer = Pacer::new(&Config::default());
        let mut sent = 0;
        while pacer.may_send(Nanos(50)) {
            pacer.charge(Nanos(50), 1_424);
            sent += 1;
        }
        // 5 us at 25 Gbps are 15,625 bytes: ten full packets, and one more.
        assert_eq!(sent, 11);
        assert!(pacer.next_send(Nanos(50)).is_some_and(|next| next < Nanos(50 + 500)));
    }
}
