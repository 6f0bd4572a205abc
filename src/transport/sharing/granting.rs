//! Grants of one shard of several: the same rules as alone, with the messages of all shards in the
//! order and the budget borrowed.

use crate::time::Nanos;

use super::super::Transport;
use super::super::buffers::{OutMessage, Payload};
use super::super::grants::scheduled_priority;
use super::super::heap::{BEST_MAX, Entry};
use super::super::metrics::Probe;
use super::super::peer::Peers;
use super::boards::{GrantLine, TOLD, Told};
use super::{LOOK_INTERVAL, Share};

fn told(peers: &Peers, peer: u32, entry: Entry) -> Told {
    // All shards of a host have the same seed, so the same peer has the same tag.
    Told { key: entry.key, tag: peers.get(peer).map_or(0, |peer| peer.secret as u16) }
}

impl<B: Payload, M: OutMessage, P: Probe> Transport<B, M, P> {
    /// Grants to those of our messages that are among the best of the host.
    pub(in super::super) fn grant_sharing(&mut self, now: Nanos, degree: usize, reserve: u64) {
        let Some(mut share) = self.share.take() else { return };
        share.refresh();
        share.cover(self.grants.incoming_bytes());
        let (active, count) = self.grants.active(&self.peers, degree);
        let mut own = [Told { key: Entry::NONE.key, tag: 0 }; BEST_MAX];
        for (told_to, &entry) in own.iter_mut().zip(&active[..count]) {
            *told_to = self.told(entry);
        }
        let ranks = share.rank(now, &own[..count], degree);
        let window = match self.config.window_bytes {
            0 => self.config.incoming_max_bytes / (ranks.count as u32 + 1),
            window => window,
        };
        let (mut waits, mut hungry) = (false, false);
        for (place, entry) in active[..count].iter().enumerate() {
            let Some(rank) = ranks.of[place] else {
                waits = true;
                continue;
            };
            let Some((want, is_rest)) = self.wanted(entry.index, window) else { continue };
            // What a better message of another shard is waiting for is not ours to take.
            let may_borrow = ranks.hungry.is_none_or(|better| rank < better);
            let incoming = self.grants.incoming_bytes();
            let bytes = share.room(want, incoming, reserve as i64, may_borrow);
            hungry |= bytes < want;
            if bytes == 0 || bytes < self.config.grant_min_bytes && !(is_rest && bytes == want) {
                continue;
            }
            let priority = scheduled_priority(self.cutoffs.sched_max(), rank, ranks.count);
            self.grant(now, entry.index, bytes, priority);
        }
        share.hungry_at = hungry.then_some(now);
        share.next_look = (waits || hungry).then(|| now + LOOK_INTERVAL);
        self.share = Some(share);
    }

    fn told(&self, entry: Entry) -> Told {
        let peer = self.rpcs.get(entry.index).map_or(u32::MAX, |rpc| rpc.peer);
        told(&self.peers, peer, entry)
    }

    /// Bytes that a message lacks to have its window, and whether they are its last; `None` for none,
    /// or too few to be worth a grant.
    fn wanted(&self, index: u32, window: u32) -> Option<(u32, bool)> {
        let inbound = self.inbound(index)?;
        let length = inbound.reassembly.length();
        let target = (inbound.reassembly.received() + window).min(length);
        let want = target.saturating_sub(inbound.granted);
        (want > 0 && (target == length || want >= self.config.grant_min_bytes))
            .then_some((want, target == length))
    }

    /// The room for a grant to our oldest message, if it is the oldest of the host.
    pub(in super::super) fn oldest_room_sharing(&self, age: Nanos) -> u32 {
        let Some(share) = self.share.as_deref().filter(|share| share.has_oldest(age)) else {
            return 0;
        };
        let want = self.config.grant_fifo_bytes;
        share.room(want, self.grants.incoming_bytes(), 0, true)
    }

    /// After a change: gives back what is not needed and tells the others what there is.
    pub(in super::super) fn tell_grants(&mut self) {
        let Some(mut share) = self.share.take() else { return };
        let incoming = self.grants.incoming_bytes();
        let grantable = self.grants.grantable();
        share.cover(incoming);
        share.give_back(incoming, grantable > 0);
        let mut line = GrantLine {
            grantable: grantable as u32,
            oldest: self.grants.oldest_age(),
            hungry_at: share.hungry_at,
            ..GrantLine::default()
        };
        if grantable > 0 {
            let (active, count) = self.grants.active(&self.peers, TOLD);
            for &entry in &active[..count] {
                line.push(self.told(entry));
            }
        } else {
            (share.next_look, share.hungry_at, line.hungry_at) = (None, None, None);
        }
        share.tell(line);
        self.share = Some(share);
    }
}

impl Share {
    /// Whether it is time to look whether others let us go on.
    pub(in super::super) fn is_look_due(&self, now: Nanos) -> bool {
        self.next_look.is_some_and(|at| now >= at)
    }
}
