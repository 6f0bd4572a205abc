//! What the shards of one host share, so that towards the network they act as one: the budget for
//! incoming bytes, the order of messages to grant to and to send, the backlog of the link, the
//! cutoffs, and acks that came to the wrong shard.
//!
//! Everything else belongs to one shard. The cells are lock-free and each is written by one shard,
//! except two numbers that are changed in one step: the free budget and the backlog of the link. What
//! is read of other shards is a moment old; that costs a wrong choice now and then, never more than
//! the budget.
//!
//! | file | holds |
//! |---|---|
//! | `leases` | the budget, lent to shards |
//! | `boards` | what shards tell each other about their messages |
//! | `link` | the backlog of the link |
//! | `snapshot` | words that are read whole |
//! | `cutoffs` | message sizes of all shards, and the cutoffs made of them |
//! | `granting` | grants of one shard of several |

mod boards;
mod cutoffs;
mod granting;
mod leases;
mod link;
mod snapshot;

use core::fmt;
use std::collections::VecDeque;
use std::sync::Arc;

use crate::addr::HostAddr;
use crate::time::Nanos;
use crate::wire::{HomaPort, RpcId};

use super::config::{Config, ConfigError};
use super::heap::{BEST_MAX, Key};
use boards::{GrantBoard, GrantLine, SendBoard, Told};
use cutoffs::CutoffsBoard;
use leases::Leases;
use link::Link;

pub(super) use cutoffs::CutoffsCopy;

/// Shards of a host.
pub const SHARDS_MAX: u8 = 64;
/// The budget is lent in pieces of this size or less.
const CHUNK_BYTES_MAX: i64 = 16_384;
/// Pieces of the budget per shard, at least.
const CHUNKS_PER_SHARD: i64 = 8;
/// A shard with messages that may not be granted to looks this often whether others let it.
const LOOK_INTERVAL: Nanos = Nanos::from_us(2);
/// Acks for other shards that wait to be fetched.
const MISSED_ACKS_MAX: usize = 256;

/// The cells that the shards of one host share. Make one, and give it to each of them
/// ([`Transport::sharing`](super::Transport::sharing)).
pub struct HostShare {
    shards: u8,
    chunk_bytes: i64,
    leases: Leases,
    grants: GrantBoard,
    sends: SendBoard,
    link: Link,
    cutoffs: CutoffsBoard,
}

impl HostShare {
    /// The cells of a host with `shards` shards whose transports have these settings.
    ///
    /// # Errors
    /// When `shards` is not 1 to [`SHARDS_MAX`].
    pub fn new(shards: u8, config: &Config) -> Result<Arc<Self>, ConfigError> {
        if !(1..=SHARDS_MAX).contains(&shards) {
            let (low, high) = (1, SHARDS_MAX.into());
            return Err(ConfigError { name: "shards", value: shards.into(), low, high });
        }
        let budget = i64::from(config.incoming_max_bytes);
        let count = usize::from(shards);
        let chunk_bytes = budget / (CHUNKS_PER_SHARD * i64::from(shards));
        Ok(Arc::new(Self {
            shards,
            chunk_bytes: chunk_bytes.clamp(1, CHUNK_BYTES_MAX),
            leases: Leases::new(count, budget),
            grants: GrantBoard::new(count),
            sends: SendBoard::new(count),
            link: Link::new(),
            cutoffs: CutoffsBoard::new(count),
        }))
    }

    /// Shards.
    pub fn shards(&self) -> u8 {
        self.shards
    }

    /// Bytes of the budget that no shard holds. Below zero when peers have announced more than all of
    /// it.
    pub fn free_bytes(&self) -> i64 {
        self.leases.free()
    }

    /// Bytes of the budget that `shard` holds.
    pub fn leased_bytes(&self, shard: u8) -> i64 {
        self.leases.held(usize::from(shard))
    }
}

impl fmt::Debug for HostShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let leased: Vec<i64> = (0..self.shards).map(|shard| self.leased_bytes(shard)).collect();
        f.debug_struct("HostShare")
            .field("free_bytes", &self.free_bytes())
            .field("leased_bytes", &leased)
            .finish_non_exhaustive()
    }
}

/// An ack record that came to a shard without the RPC it is about. Any other shard may have it: the
/// record does not name the client's port, so its owner cannot be computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissedAck {
    /// The client.
    pub client: HostAddr,
    /// The id of the RPC as the client knows it.
    pub id: RpcId,
    /// Our port.
    pub server_port: HomaPort,
}

/// One shard's view of what is shared.
#[derive(Debug)]
pub(super) struct Share {
    host: Arc<HostShare>,
    shard: usize,
    /// What the others told last, with the version of it.
    lines: Vec<(u64, GrantLine)>,
    /// What we told last.
    told: GrantLine,
    hungry_at: Option<Nanos>,
    /// When to look again, if messages wait for others.
    next_look: Option<Nanos>,
    /// Room for a decision.
    candidates: Vec<Candidate>,
    missed_acks: VecDeque<MissedAck>,
    cutoffs: CutoffsCopy,
}

/// A message that takes part in a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    key: Key,
    shard: usize,
    place: usize,
    tag: u16,
    chosen: bool,
}

/// Which of our messages may be granted to.
#[derive(Debug, Default)]
struct Ranks {
    /// By place in our own order: the rank among all.
    of: [Option<usize>; BEST_MAX],
    /// Messages of all shards that may be granted to.
    count: usize,
    /// The best rank of another shard that finds the budget too small.
    hungry: Option<usize>,
}

impl Share {
    pub(super) fn new(host: Arc<HostShare>, shard: u8) -> Self {
        let shards = usize::from(host.shards);
        Self {
            shard: usize::from(shard),
            // An odd version is never that of a line: everything is read at first.
            lines: vec![(1, GrantLine::default()); shards],
            told: GrantLine::default(),
            hungry_at: None,
            next_look: None,
            candidates: Vec::with_capacity(BEST_MAX + boards::TOLD * shards),
            missed_acks: VecDeque::with_capacity(MISSED_ACKS_MAX),
            cutoffs: CutoffsCopy::default(),
            host,
        }
    }

    pub(super) fn next_look(&self) -> Option<Nanos> {
        self.next_look
    }

    /// Reads what the others told.
    fn refresh(&mut self) {
        for (shard, (seen, line)) in self.lines.iter_mut().enumerate() {
            if shard != self.shard {
                self.host.grants.refresh(shard, seen, line);
            }
        }
    }

    fn others(&self) -> impl Iterator<Item = (usize, &GrantLine)> {
        let lines = self.lines.iter().enumerate().filter(|&(shard, _)| shard != self.shard);
        lines.map(|(shard, (_, line))| (shard, line))
    }

    /// Whether other shards have messages that want grants, as far as we know.
    pub(super) fn others_want_grants(&self) -> bool {
        self.others().any(|(_, line)| line.grantable > 0)
    }

    /// Whether no other shard has an older message that wants grants than one of this age.
    fn has_oldest(&self, age: Nanos) -> bool {
        self.others().all(|(shard, line)| {
            line.oldest.is_none_or(|oldest| (age, self.shard) <= (oldest, shard))
        })
    }

    /// Ranks `own` messages, best first, among those of all shards: of each peer one first, then the
    /// rest, up to `degree` in all.
    fn rank(&mut self, now: Nanos, own: &[Told], degree: usize) -> Ranks {
        let mut candidates = std::mem::take(&mut self.candidates);
        candidates.clear();
        let candidate = |shard, place, told: Told| Candidate {
            key: told.key,
            shard,
            place,
            tag: told.tag,
            chosen: false,
        };
        candidates
            .extend(own.iter().enumerate().map(|(at, &told)| candidate(self.shard, at, told)));
        for (shard, line) in self.others() {
            candidates.extend(line.told().enumerate().map(|(at, told)| candidate(shard, at, told)));
        }
        candidates.sort_unstable();
        choose(&mut candidates, degree);
        let mut ranks = Ranks::default();
        for chosen in candidates.iter().filter(|candidate| candidate.chosen) {
            if chosen.shard == self.shard {
                ranks.of[chosen.place] = Some(ranks.count);
            } else if ranks.hungry.is_none() && self.lines[chosen.shard].1.is_hungry(now) {
                ranks.hungry = Some(ranks.count);
            }
            ranks.count += 1;
        }
        self.candidates = candidates;
        ranks
    }

    // ---- budget ------------------------------------------------------------------------------

    /// Takes what peers have announced and we did not borrow.
    fn cover(&self, incoming: u64) {
        let lacking = incoming as i64 - self.host.leases.held(self.shard);
        if lacking > 0 {
            self.host.leases.take_announced(self.shard, lacking);
        }
    }

    /// Up to `want` bytes that may be granted beyond the `incoming` ones. Borrows more if need be and
    /// if `may_borrow`, but leaves `reserve` for the oldest message of the host.
    fn room(&self, want: u32, incoming: u64, reserve: i64, may_borrow: bool) -> u32 {
        let leases = &self.host.leases;
        let mut room = leases.held(self.shard) - incoming as i64;
        let lacking = i64::from(want) - room;
        if lacking > 0 && may_borrow {
            let chunk = self.host.chunk_bytes;
            // Whole chunks, unless the budget ends before.
            room += leases.take(self.shard, (lacking + chunk - 1) / chunk * chunk, reserve);
        }
        room.clamp(0, want.into()) as u32
    }

    /// Gives back what is not needed for the `incoming` bytes.
    fn give_back(&self, incoming: u64, has_grantable: bool) {
        let chunk = self.host.chunk_bytes;
        let incoming = incoming as i64;
        let keep = if has_grantable { (incoming + chunk - 1) / chunk * chunk } else { incoming };
        let surplus = self.host.leases.held(self.shard) - keep;
        if surplus > 0 {
            self.host.leases.give_back(self.shard, surplus);
        }
    }

    fn tell(&mut self, line: GrantLine) {
        if line != self.told {
            self.host.grants.tell(self.shard, &line);
            self.told = line;
        }
    }

    // ---- acks --------------------------------------------------------------------------------

    pub(super) fn miss_ack(&mut self, ack: MissedAck) {
        // What finds no room is asked for with NEED_ACK.
        if self.missed_acks.len() < MISSED_ACKS_MAX {
            self.missed_acks.push_back(ack);
        }
    }

    pub(super) fn pop_missed_ack(&mut self) -> Option<MissedAck> {
        self.missed_acks.pop_front()
    }
}

impl Drop for Share {
    /// A shard that ends leaves nothing behind that others would wait for.
    fn drop(&mut self) {
        let held = self.host.leases.held(self.shard);
        self.host.leases.give_back(self.shard, held);
        self.host.grants.tell(self.shard, &GrantLine::default());
    }
}

/// Marks the up to `degree` sorted candidates that may be granted to.
fn choose(candidates: &mut [Candidate], degree: usize) {
    let mut chosen = 0;
    for at in 0..candidates.len() {
        let tag = candidates[at].tag;
        if chosen < degree && !candidates[..at].iter().any(|other| other.tag == tag) {
            candidates[at].chosen = true;
            chosen += 1;
        }
    }
    let rest = candidates.iter_mut().filter(|candidate| !candidate.chosen);
    rest.take(degree - chosen).for_each(|candidate| candidate.chosen = true);
}

/// The link as one of several shards that send through it sees it.
#[derive(Debug)]
pub(super) struct SharedLink {
    host: Arc<HostShare>,
    shard: usize,
    /// Reserved on the link and not used yet.
    credit: u64,
    /// Sent without a reservation and not charged yet.
    debt: u64,
    /// What is reserved at a time.
    run_cost: u64,
    lines: Vec<(u64, Option<Key>)>,
    told: Option<Key>,
    /// The message that we would send next.
    wanted: Option<Key>,
}

impl SharedLink {
    /// `run_cost`: what to reserve at a time, in the unit of the pacer.
    pub(super) fn new(host: Arc<HostShare>, shard: u8, run_cost: u64) -> Self {
        let lines = vec![(1, None); usize::from(host.shards)];
        let (shard, told, wanted) = (usize::from(shard), None, None);
        Self { host, shard, credit: 0, debt: 0, run_cost, lines, told, wanted }
    }

    /// Says what would be sent next.
    pub(super) fn want(&mut self, key: Option<Key>) {
        self.wanted = key;
    }

    /// Whether we may send a packet at `now`; reserves a run of packets if so.
    pub(super) fn may_send(&mut self, now: u64, backlog_max: u64) -> bool {
        if self.credit > 0 {
            return true;
        }
        let idle_at = self.idle_at();
        if idle_at > now + backlog_max {
            return false;
        }
        if idle_at > now + backlog_max / 2 {
            self.refresh();
            if self.is_behind() {
                return false;
            }
        }
        let reserved = self.host.link.reserve(now, now + backlog_max - self.debt, self.run_cost);
        self.credit = if reserved { self.run_cost } else { 0 };
        reserved
    }

    /// When to try again if [`SharedLink::may_send`] has just said no.
    pub(super) fn next_send(&self, now: u64, backlog_max: u64) -> Option<u64> {
        let idle_at = self.idle_at();
        if self.credit > 0 {
            None
        } else if idle_at > now + backlog_max {
            Some(idle_at - backlog_max)
        } else {
            let half = backlog_max / 2;
            (idle_at > now + half && self.is_behind()).then(|| idle_at - half)
        }
    }

    fn idle_at(&self) -> u64 {
        self.host.link.idle_at() + self.debt
    }

    fn refresh(&mut self) {
        for (shard, (seen, key)) in self.lines.iter_mut().enumerate() {
            if shard != self.shard {
                self.host.sends.refresh(shard, seen, key);
            }
        }
    }

    /// Whether another shard waits to send something better.
    fn is_behind(&self) -> bool {
        let mine = self.wanted.map(|key| (key, self.shard));
        let better = |(shard, &(_, key)): (usize, &(u64, Option<Key>))| {
            shard != self.shard
                && key.is_some_and(|key| mine.is_none_or(|mine| (key, shard) < mine))
        };
        self.lines.iter().enumerate().any(better)
    }

    #[inline]
    pub(super) fn charge(&mut self, now: u64, cost: u64) {
        let rest = cost.saturating_sub(self.credit);
        self.credit = self.credit.saturating_sub(cost);
        self.debt += rest;
        if self.debt > self.run_cost {
            self.host.link.charge(now, std::mem::take(&mut self.debt));
        }
    }

    /// To be called when no more is sent for now: settles with the link, and tells what waits.
    pub(super) fn settle(&mut self, now: u64, waiting: Option<Key>) {
        if self.credit > 0 {
            self.host.link.give_back(std::mem::take(&mut self.credit));
        }
        if self.debt > 0 {
            self.host.link.charge(now, std::mem::take(&mut self.debt));
        }
        if waiting != self.told {
            self.host.sends.tell(self.shard, waiting);
            self.told = waiting;
        }
    }
}

impl Drop for SharedLink {
    fn drop(&mut self) {
        self.settle(0, None);
    }
}
