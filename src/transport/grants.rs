//! Who may send how much: grants for incoming messages (protocol.md section 11).
//!
//! The active messages are chosen anew at the end of each burst from live values: in order of
//! bytes remaining, one of each peer first, then the rest (reference-gaps.md G20, G21).

use crate::time::Nanos;
use crate::wire::{Body, Grant, Packet};

use super::Transport;
use super::buffers::{OutMessage, Payload};
use super::config::Config;
use super::heap::{BEST_MAX, Entry, Heap, Key, Positions};
use super::metrics::Probe;
use super::mutation::Mutation;
use super::peer::Peers;

/// The order of grantable messages, and the budget. A message is in the heap of its peer while
/// `granted < length`; a peer is in `peers` while its heap has messages.
#[derive(Debug)]
pub(super) struct Grants {
    peers: Heap,
    peer_places: Positions,
    message_places: Positions,
    by_age: Heap,
    age_places: Positions,
    /// Sum of `Inbound::incoming` over all incomplete messages that are counted.
    incoming_bytes: u64,
    /// Something changed since the last decision.
    dirty: bool,
    /// The last decision let only one message go on, because packet buffers were scarce.
    held_back: bool,
    next_fifo: Nanos,
    fifo_interval: Option<Nanos>,
    live_srpt: bool,
}

impl Grants {
    pub(super) fn new(config: &Config) -> Self {
        let rpcs = config.client_rpcs_max + config.server_rpcs_max;
        Self {
            peers: Heap::default(),
            peer_places: Positions::new(config.peers_max),
            message_places: Positions::new(rpcs),
            by_age: Heap::default(),
            age_places: Positions::new(rpcs),
            incoming_bytes: 0,
            dirty: false,
            held_back: false,
            next_fifo: Nanos::ZERO,
            fifo_interval: Self::fifo_interval(config),
            live_srpt: config.live_srpt,
        }
    }

    /// Time in which the FIFO share of the link carries one FIFO grant.
    fn fifo_interval(config: &Config) -> Option<Nanos> {
        let share_bps = config.link_bps / 1_000 * u64::from(config.grant_fifo_permille);
        let bits = u64::from(config.grant_fifo_bytes) * 8;
        (share_bps > 0 && bits > 0).then(|| Nanos(bits * 1_000_000_000 / share_bps))
    }

    /// Bytes announced or granted and not yet received.
    pub(super) fn incoming_bytes(&self) -> u64 {
        self.incoming_bytes
    }

    /// When the oldest message that needs grants began.
    pub(super) fn oldest_age(&self) -> Option<Nanos> {
        self.by_age.peek().map(|entry| Nanos(entry.key.age_ns))
    }

    /// Messages that need grants.
    pub(super) fn grantable(&self) -> usize {
        self.by_age.len()
    }

    /// Accounts for a change of one message's share of the budget.
    #[inline]
    pub(super) fn adjust(&mut self, before: u32, after: u32) {
        if before != after {
            self.account(before, after);
            self.dirty = true;
        }
    }

    fn account(&mut self, before: u32, after: u32) {
        self.incoming_bytes = self.incoming_bytes + u64::from(after) - u64::from(before);
    }

    /// Enters a message that needs grants, or moves it to where its bytes remaining put it.
    pub(super) fn set(&mut self, peers: &mut Peers, peer: u32, index: u32, key: Key) {
        let Some(entry) = peers.get_mut(peer) else { return };
        if !self.age_places.contains(index) {
            let age = Key { bytes: 0, age_ns: key.age_ns };
            self.by_age.set(index, age, &mut self.age_places);
        } else if !self.live_srpt {
            self.dirty = true;
            return;
        }
        entry.grantable.set(index, key, &mut self.message_places);
        self.refresh_peer(peers, peer);
    }

    /// Has the next decision look at all messages again.
    pub(super) fn reconsider(&mut self) {
        self.dirty = true;
    }

    /// Takes a message out: fully granted, or gone.
    pub(super) fn remove(&mut self, peers: &mut Peers, peer: u32, index: u32) {
        if !self.by_age.remove(index, &mut self.age_places) {
            return;
        }
        if let Some(entry) = peers.get_mut(peer) {
            entry.grantable.remove(index, &mut self.message_places);
        }
        self.refresh_peer(peers, peer);
    }

    fn refresh_peer(&mut self, peers: &Peers, peer: u32) {
        self.dirty = true;
        match peers.get(peer).and_then(|entry| entry.grantable.peek()) {
            Some(best) => self.peers.set(peer, best.key, &mut self.peer_places),
            None => {
                self.peers.remove(peer, &mut self.peer_places);
            }
        }
    }

    /// The best grantable message of all.
    pub(super) fn best(&self, peers: &Peers) -> Option<u32> {
        let peer = self.peers.peek()?.index;
        peers.get(peer)?.grantable.peek().map(|entry| entry.index)
    }

    /// The up to `degree` messages that may be granted to, best first.
    pub(super) fn active(&self, peers: &Peers, degree: usize) -> ([Entry; BEST_MAX], usize) {
        let mut best_peers = [Entry::NONE; BEST_MAX];
        let peer_count = self.peers.best(&mut best_peers, degree);
        let mut active = [Entry::NONE; BEST_MAX];
        let mut others = [Entry::NONE; BEST_MAX];
        let mut other_count = 0;
        for (i, peer) in best_peers[..peer_count].iter().enumerate() {
            let mut messages = [Entry::NONE; BEST_MAX];
            let heap = peers.get(peer.index).map(|entry| &entry.grantable);
            let found = heap.map_or(0, |heap| heap.best(&mut messages, degree - peer_count + 1));
            active[i] = messages[0];
            for &message in messages[..found].iter().skip(1) {
                other_count = insert_sorted(&mut others, other_count, message);
            }
        }
        let second_round = other_count.min(degree - peer_count);
        let count = peer_count + second_round;
        active[peer_count..count].copy_from_slice(&others[..second_round]);
        active[..count].sort_unstable();
        (active, count)
    }
}

/// Inserts into the first `count` sorted entries, dropping the worst when full.
fn insert_sorted(entries: &mut [Entry; BEST_MAX], count: usize, entry: Entry) -> usize {
    let at = entries[..count].partition_point(|other| *other < entry);
    if at == BEST_MAX {
        return count;
    }
    let count = (count + 1).min(BEST_MAX);
    entries.copy_within(at..count - 1, at + 1);
    entries[at] = entry;
    count
}

impl<B: Payload, M: OutMessage, P: Probe> Transport<B, M, P> {
    /// Decides on grants. Once per burst, not per packet, so that a burst of DATA costs one GRANT.
    #[inline]
    pub(super) fn decide_grants(&mut self, now: Nanos) {
        self.catch_up();
        // Most bursts bring whole messages only.
        if self.share.is_some() || self.grants.grantable() > 0 {
            self.decide_among_grantable(now);
        }
    }

    fn decide_among_grantable(&mut self, now: Nanos) {
        if self.grants.held_back && self.ledger.retained() <= self.retained_scarce() {
            // The application has dropped messages.
            self.grants.dirty = true;
        }
        if self.share.as_ref().is_some_and(|share| share.is_look_due(now)) {
            self.grants.dirty = true;
        }
        let changed = self.grants.dirty;
        // A message that is fully granted makes room for the next one; more than that is rare.
        for _ in 0..DECISIONS_MAX {
            if !self.grants.dirty {
                break;
            }
            self.grants.dirty = false;
            self.grant_active(now);
        }
        self.grant_oldest(now);
        if changed && self.share.is_some() {
            self.tell_grants();
        }
    }

    fn grant_active(&mut self, now: Nanos) {
        let mut degree = self.config.overcommit_max;
        self.grants.held_back = self.ledger.retained() > self.retained_scarce();
        if self.grants.held_back {
            // Finish what is there before more comes in.
            degree = 1;
        }
        let times = if Mutation::GrantPastBudget.is_on() { 2 } else { 1 };
        let budget = times * u64::from(self.config.incoming_max_bytes);
        let reserve = if self.shares_with_oldest() && self.grants.fifo_interval.is_some() {
            u64::from(self.config.grant_fifo_bytes).min(budget / 4)
        } else {
            0
        };
        if self.share.is_some() {
            return self.grant_sharing(now, degree, reserve);
        }
        let (active, count) = self.grants.active(&self.peers, degree);
        let window = match self.config.window_bytes {
            0 => self.config.incoming_max_bytes / (count as u32 + 1),
            window => window,
        };
        for (rank, entry) in active[..count].iter().enumerate() {
            let room = (budget - reserve).saturating_sub(self.grants.incoming_bytes);
            if room == 0 {
                // Whoever comes first when room appears is decided then.
                break;
            }
            let Some(inbound) = self.inbound(entry.index) else { continue };
            let length = inbound.reassembly.length();
            let received = inbound.reassembly.received();
            let target = (received + window).min(length);
            let want = target.saturating_sub(inbound.granted);
            let bytes = inbound.grantable(want, room);
            let last = inbound.granted + bytes == length;
            if bytes == 0 || bytes < self.config.grant_min_bytes && !last {
                continue;
            }
            let priority = scheduled_priority(self.cutoffs.sched_max(), rank, count);
            self.grant(now, entry.index, bytes, priority);
        }
    }

    /// The share of the oldest message, so that it makes progress whatever else is going on
    /// (protocol.md section 11.5; inside the budget, reference-gaps.md G31).
    fn grant_oldest(&mut self, now: Nanos) {
        let Some(interval) = self.grants.fifo_interval else { return };
        if now < self.grants.next_fifo {
            return;
        }
        // A lone message gets all it can use without this.
        if !self.shares_with_oldest() {
            return;
        }
        let Some(oldest) = self.grants.by_age.peek() else { return };
        self.grants.next_fifo = now + interval;
        let room = if self.share.is_some() {
            u64::from(self.oldest_room_sharing(Nanos(oldest.key.age_ns)))
        } else {
            let budget = u64::from(self.config.incoming_max_bytes);
            budget.saturating_sub(self.grants.incoming_bytes)
        };
        let Some(inbound) = self.inbound(oldest.index) else { return };
        let increment = self.config.grant_fifo_bytes;
        if inbound.incoming() >= 2 * increment {
            return;
        }
        let rest = inbound.reassembly.length() - inbound.granted;
        let bytes = increment.min(rest).min(u32::try_from(room).unwrap_or(u32::MAX));
        if bytes > 0 {
            self.metrics.fifo_grant_bytes += u64::from(bytes);
            let priority = self.config.num_priorities.saturating_sub(2);
            self.grant(now, oldest.index, bytes, priority);
        }
    }

    /// Whether there are messages that want grants besides the oldest, in this shard or another.
    fn shares_with_oldest(&self) -> bool {
        match self.grants.by_age.len() {
            0 => false,
            1 => self.share.as_ref().is_some_and(|share| share.others_want_grants()),
            _ => true,
        }
    }

    /// When grants may be due without a packet: that of the oldest message, or because other shards may
    /// let us go on.
    pub(super) fn next_grant_look(&self) -> Option<Nanos> {
        let has_share = self.grants.fifo_interval.is_some() && self.shares_with_oldest();
        let fifo = has_share.then_some(self.grants.next_fifo);
        let look = self.share.as_ref().and_then(|share| share.next_look());
        fifo.into_iter().chain(look).min()
    }

    pub(super) fn grant(&mut self, now: Nanos, index: u32, bytes: u32, priority: u8) {
        let Some(rpc) = self.rpcs.get_mut(index) else { return };
        let (header, peer) = (rpc.header(), rpc.peer);
        let Some(inbound) = rpc.inbound.as_mut() else { return };
        let (before, come) = (inbound.incoming(), inbound.received_of_granted());
        inbound.granted += bytes;
        // Not all of `granted`: what the sender announced beyond our limit stays off the account.
        let counted = inbound.budgeted.max(come) + bytes;
        inbound.budgeted = counted.min(inbound.granted);
        let (offset, after) = (inbound.granted, inbound.incoming());
        let done = !inbound.needs_grants();
        // What was granted leaves nothing to decide anew, unless it makes room for the next message.
        self.grants.account(before, after);
        if done {
            self.grants.remove(&mut self.peers, peer, index);
        }
        self.probe.granted(now, &header, offset);
        let body = Body::Grant(Grant { offset, priority });
        self.send_control(peer, Packet { header, body });
    }
}

/// Rounds of decisions per burst.
const DECISIONS_MAX: usize = 3;

/// The lowest levels that suffice for `count` messages, so that the upper ones are free for a
/// better message that may appear (protocol.md section 11.4).
pub(super) fn scheduled_priority(sched_max: u8, rank: usize, count: usize) -> u8 {
    let max = usize::from(sched_max);
    let unused = (max + 1).saturating_sub(count);
    max.saturating_sub(rank + unused) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::HostAddr;

    #[test]
    fn active_messages_use_the_lowest_levels() {
        assert_eq!(scheduled_priority(3, 0, 1), 0);
        let four: Vec<u8> = (0..4).map(|rank| scheduled_priority(3, rank, 4)).collect();
        assert_eq!(four, [3, 2, 1, 0]);
        let eight: Vec<u8> = (0..8).map(|rank| scheduled_priority(3, rank, 8)).collect();
        assert_eq!(eight, [3, 2, 1, 0, 0, 0, 0, 0]);
    }

    /// Messages as (peer, bytes); gives the indices of the active ones in order.
    fn active_of(messages: &[(u8, u32)], degree: usize) -> Vec<u32> {
        let config = Config::default();
        let (mut grants, mut peers) = (Grants::new(&config), Peers::new(&config));
        for (index, &(host, bytes)) in messages.iter().enumerate() {
            let addr = HostAddr::from([10, 0, 0, host]);
            let peer = peers.find_or_insert(addr, Nanos::ZERO).unwrap();
            grants.set(&mut peers, peer, index as u32, Key { bytes, age_ns: 0 });
        }
        let (active, count) = grants.active(&peers, degree);
        active[..count].iter().map(|entry| entry.index).collect()
    }

    #[test]
    fn every_peer_gets_a_place_before_any_gets_two() {
        let messages = [(1, 10), (1, 20), (1, 30), (2, 500), (3, 400)];
        assert_eq!(active_of(&messages, 3), [0, 4, 3]);
        assert_eq!(active_of(&messages, 4), [0, 1, 4, 3]);
        assert_eq!(active_of(&messages, 8), [0, 1, 2, 4, 3]);
        assert_eq!(active_of(&messages, 1), [0]);
        assert!(active_of(&[], 8).is_empty());
    }

    #[test]
    fn second_places_go_to_the_shortest_of_all_peers() {
        let messages = [(1, 10), (1, 90), (2, 20), (2, 80), (3, 30), (3, 70), (1, 100)];
        assert_eq!(active_of(&messages, 5), [0, 2, 4, 5, 3]);
    }
}
