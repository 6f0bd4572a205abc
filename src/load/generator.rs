//! Which RPC to send next, and what became of every one.
//!
//! A [`Generator`] is the client of the load without its transport: it is told the time, says what is
//! due, and is told what happened. The order of calls for one RPC is
//!
//! ```text
//! next -> on_sent -> on_done            sent, and answered or failed
//! next -> on_refused -> (next again)    the transport had no room: it stays due, its clock runs on
//! next -> on_done                       failed before it was sent
//! ```
//!
//! Every RPC is accounted for: `sent = completed + failed + corrupted + lost` in [`Totals`], and what
//! was due without being sent is `never_sent`. Nothing allocates after [`Generator::new`].

use core::fmt;
use std::collections::VecDeque;
use std::sync::Arc;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use super::arrival::{Arrivals, Load};
use super::workload::Workload;
use crate::time::Nanos;

/// When a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// After measuring for this long.
    After(Nanos),
    /// After this many measured RPCs.
    Rpcs(u64),
}

/// What one generator offers.
#[derive(Clone, Debug)]
pub struct GeneratorConfig {
    /// Sizes of the requests.
    pub workload: Arc<Workload>,
    /// When requests are due.
    pub load: Load,
    /// Nothing is due before; one value for all generators of a run starts them together.
    pub start: Nanos,
    /// RPCs due in this time after the start are sent but not measured.
    pub warm_up: Nanos,
    /// When nothing more becomes due.
    pub end: End,
    /// How long after the end to wait for responses (and to send what is overdue).
    pub drain: Nanos,
    /// Servers to choose from, uniformly.
    pub destinations: u32,
}

impl GeneratorConfig {
    /// The part of one of `parts` equal generators that together offer this load; `part` from 0.
    #[must_use]
    pub fn part(&self, part: u32, parts: u32) -> Self {
        let parts = parts.max(1);
        let (share, rest) = (u64::from(parts), u64::from(part));
        let end = match self.end {
            End::Rpcs(rpcs) => End::Rpcs(rpcs / share + u64::from(rest < rpcs % share)),
            end @ End::After(_) => end,
        };
        Self { load: self.load.part(part, parts), end, ..self.clone() }
    }
}

/// An RPC that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Names the RPC in the calls that follow.
    pub cookie: u64,
    /// Length of the request.
    pub size_bytes: u32,
    /// Which server, from 0.
    pub destination: u32,
    /// When it was due; latency counts from here.
    pub planned: Nanos,
}

/// How an RPC failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The server stopped answering.
    Timeout,
    /// The server, its port or the way to it does not exist.
    Unreachable,
    /// A limit of memory or of RPCs was reached, here or there.
    Rejected,
    /// Either side gave it up.
    Aborted,
    /// Anything else.
    Other,
}

impl Failure {
    /// Every kind, in the order in which [`Totals::failed`] counts them.
    pub const ALL: [Self; 5] =
        [Self::Timeout, Self::Unreachable, Self::Rejected, Self::Aborted, Self::Other];

    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Rejected => "rejected",
            Self::Aborted => "aborted",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What became of an RPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A response with the right bytes.
    Response {
        /// Its length.
        size_bytes: u32,
    },
    /// A response with wrong bytes or of the wrong length.
    Corrupted,
    /// No response.
    Failed(Failure),
}

/// A completed RPC, for the recorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Length of the request.
    pub request_bytes: u32,
    /// Length of the response.
    pub response_bytes: u32,
    /// When it was due.
    pub planned: Nanos,
    /// When it was handed to the transport.
    pub sent: Nanos,
    /// When its response was there.
    pub done: Nanos,
    /// Whether it was due in the measured time, not in the warm-up.
    pub measured: bool,
}

/// What was completed in a stretch of time, no matter when it was due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// RPCs.
    pub completed: u64,
    /// Payload of their requests.
    pub request_bytes: u64,
    /// Payload of their responses.
    pub response_bytes: u64,
}

impl Traffic {
    /// Adds another shard's.
    pub const fn merge(&mut self, other: Self) {
        self.completed += other.completed;
        self.request_bytes += other.request_bytes;
        self.response_bytes += other.response_bytes;
    }
}

/// What became of the RPCs that were due in the measured time, and how the plan was kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Sent in the warm-up; not in any other count.
    pub warm_up_sent: u64,
    /// Sent.
    pub sent: u64,
    /// Answered with the right bytes.
    pub completed: u64,
    /// Failed, by kind in the order of [`Failure::ALL`].
    pub failed: [u64; Failure::ALL.len()],
    /// Answered with wrong bytes.
    pub corrupted: u64,
    /// Sent, with nothing heard of them to the end.
    pub lost: u64,
    /// Due and not sent to the end.
    pub never_sent: u64,
    /// Sent later than due because the limit of RPCs outstanding was reached.
    pub held: u64,
    /// Times that the transport had no room for an RPC.
    pub refused: u64,
    /// Calls about an RPC that is not outstanding: a response delivered twice.
    pub stale: u64,
    /// The longest time between due and sent.
    pub lag_max: Nanos,
    /// What was due before the measured time ended and was not over then, sent or not: how far behind
    /// the run was at last. 0 when a count ends the run.
    pub backlog: u64,
    /// The most RPCs outstanding at a time; of several generators, the sum of theirs.
    pub outstanding_peak: u64,
    /// The measured time; its end is that of the last measured RPC when a count ends the run.
    pub measured_from: Nanos,
    /// See `measured_from`.
    pub measured_to: Nanos,
    /// Completed between `measured_from` and `measured_to`: what throughput is computed from.
    pub traffic: Traffic,
}

impl Totals {
    /// All failures together.
    pub fn failures(&self) -> u64 {
        self.failed.iter().sum()
    }

    /// Length of the measured time.
    pub const fn measured(&self) -> Nanos {
        self.measured_to.since(self.measured_from)
    }

    /// Adds those of another generator of the same run. Start from those of the first, not from the
    /// default, whose measured time begins at zero.
    pub fn merge(&mut self, other: &Self) {
        self.warm_up_sent += other.warm_up_sent;
        self.sent += other.sent;
        self.completed += other.completed;
        for (sum, failed) in self.failed.iter_mut().zip(other.failed) {
            *sum += failed;
        }
        self.corrupted += other.corrupted;
        self.lost += other.lost;
        self.never_sent += other.never_sent;
        self.held += other.held;
        self.refused += other.refused;
        self.stale += other.stale;
        self.lag_max = self.lag_max.max(other.lag_max);
        self.backlog += other.backlog;
        self.outstanding_peak += other.outstanding_peak;
        self.measured_from = self.measured_from.min(other.measured_from);
        self.measured_to = self.measured_to.max(other.measured_to);
        self.traffic.merge(other.traffic);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    /// Given out by `next`.
    Due,
    /// Refused by the transport, in the queue to be given out again.
    Refused,
    Sent,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    generation: u32,
    state: State,
    measured: bool,
    size_bytes: u32,
    destination: u32,
    planned: Nanos,
    sent: Nanos,
}

/// The client side of a load, see the [module](self).
#[derive(Debug)]
pub struct Generator {
    config: GeneratorConfig,
    rng: Xoshiro256PlusPlus,
    /// `None` in a closed loop.
    arrivals: Option<Arrivals>,
    slots: Box<[Slot]>,
    free: Vec<u32>,
    /// Slots whose RPC the transport refused, to be given out again in order.
    refused: VecDeque<u32>,
    outstanding: u32,
    measured_planned: u64,
    /// Due so far, measured or not, and over before the measured time ended.
    planned: u64,
    over_in_time: u64,
    /// The last time that an RPC was due and no slot free.
    blocked: Option<Nanos>,
    last_planned: Nanos,
    totals: Totals,
}

impl Generator {
    /// A generator that will do the same again for the same `seed` and calls. Allocates one slot for
    /// each RPC that may be outstanding.
    pub fn new(config: GeneratorConfig, seed: u64) -> Self {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let arrivals = match config.load {
            Load::Closed { .. } => None,
            Load::Open { rate, arrival, .. } => {
                let rps = rate.rps(config.workload.mean_bytes());
                Some(Arrivals::new(arrival, config.start, rps, rng.next_u64()))
            }
        };
        let slot = Slot {
            // What comes late for another generator should not be taken for ours.
            generation: (seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as u32,
            state: State::Free,
            measured: false,
            size_bytes: 0,
            destination: 0,
            planned: Nanos::ZERO,
            sent: Nanos::ZERO,
        };
        let slots = config.load.outstanding_max().max(1);
        let measured_from = config.start + config.warm_up;
        let measured_to = match config.end {
            End::After(time) => measured_from + time,
            End::Rpcs(_) => measured_from,
        };
        Self {
            rng,
            arrivals,
            slots: vec![slot; slots as usize].into(),
            free: (0..slots).rev().collect(),
            refused: VecDeque::with_capacity(slots as usize),
            outstanding: 0,
            measured_planned: 0,
            planned: 0,
            over_in_time: 0,
            blocked: None,
            last_planned: config.start,
            totals: Totals { measured_from, measured_to, ..Totals::default() },
            config,
        }
    }

    /// The next RPC that is due at `now`, if any; call it until it says `None`, or as often as a burst
    /// is long.
    pub fn next(&mut self, now: Nanos) -> Option<Planned> {
        if let Some(index) = self.refused.pop_front() {
            self.slots[index as usize].state = State::Due;
            return Some(self.planned_of(index));
        }
        let planned = self.next_due(now)?;
        let Some(index) = self.free.pop() else {
            self.blocked = Some(now);
            self.totals.lag_max = self.totals.lag_max.max(now.since(planned));
            return None;
        };
        if let Some(arrivals) = &mut self.arrivals {
            arrivals.advance();
            let held = self.blocked.is_some_and(|blocked| planned <= blocked);
            self.totals.held += u64::from(held);
        }
        let measured = planned >= self.totals.measured_from;
        self.measured_planned += u64::from(measured);
        self.planned += 1;
        self.last_planned = planned;
        let size_bytes = self.config.workload.sample(&mut self.rng);
        let destination = self.draw_destination();
        let slot = &mut self.slots[index as usize];
        *slot = Slot {
            generation: slot.generation.wrapping_add(1),
            state: State::Due,
            measured,
            size_bytes,
            destination,
            planned,
            sent: planned,
        };
        Some(self.planned_of(index))
    }

    /// When the next RPC is due, if it is due at `now` and belongs to the run.
    fn next_due(&self, now: Nanos) -> Option<Nanos> {
        let due = match &self.arrivals {
            Some(arrivals) => arrivals.next(),
            // A closed loop sends whenever it may; that it may not is not a delay of its plan.
            None if self.free.is_empty() => return None,
            None => now,
        };
        (now >= self.config.start && due <= now && !self.is_past_end(due)).then_some(due)
    }

    /// Whether an RPC due at `due` would come after the end of the run.
    const fn is_past_end(&self, due: Nanos) -> bool {
        match self.config.end {
            End::After(_) => due.0 >= self.totals.measured_to.0,
            End::Rpcs(rpcs) => self.measured_planned >= rpcs,
        }
    }

    fn draw_destination(&mut self) -> u32 {
        // The high half of the product is uniform to within 2^-32, without a division.
        let word = u64::from(self.rng.next_u32());
        ((word * u64::from(self.config.destinations.max(1))) >> 32) as u32
    }

    fn planned_of(&self, index: u32) -> Planned {
        let slot = &self.slots[index as usize];
        Planned {
            cookie: u64::from(slot.generation) << 32 | u64::from(index),
            size_bytes: slot.size_bytes,
            destination: slot.destination,
            planned: slot.planned,
        }
    }

    /// The slot that `cookie` names if its RPC is with the caller or the transport.
    fn live_slot(&self, cookie: u64) -> Option<usize> {
        let index = (cookie & u64::from(u32::MAX)) as usize;
        let slot = self.slots.get(index)?;
        let live = matches!(slot.state, State::Due | State::Sent);
        (live && u64::from(slot.generation) == cookie >> 32).then_some(index)
    }

    /// The RPC was handed to the transport at `now`.
    pub fn on_sent(&mut self, now: Nanos, cookie: u64) {
        match self.live_slot(cookie) {
            Some(index) if self.slots[index].state == State::Due => self.note_sent(now, index),
            _ => self.totals.stale += 1,
        }
    }

    fn note_sent(&mut self, now: Nanos, index: usize) {
        let slot = &mut self.slots[index];
        slot.state = State::Sent;
        slot.sent = now;
        self.outstanding += 1;
        self.totals.outstanding_peak = self.totals.outstanding_peak.max(self.outstanding.into());
        self.totals.lag_max = self.totals.lag_max.max(now.since(slot.planned));
        let sent =
            if slot.measured { &mut self.totals.sent } else { &mut self.totals.warm_up_sent };
        *sent += 1;
    }

    /// The transport had no room for the RPC: [`Self::next`] will give it out again, first. Stop
    /// calling `next` until the next turn, else it gives out the same RPC for ever.
    pub fn on_refused(&mut self, cookie: u64) {
        match self.live_slot(cookie) {
            Some(index) if self.slots[index].state == State::Due => {
                self.totals.refused += 1;
                self.slots[index].state = State::Refused;
                self.refused.push_back(index as u32);
            }
            _ => self.totals.stale += 1,
        }
    }

    /// The RPC is over. Gives what to record if it completed; `None` for a failure, and for a cookie
    /// that names no RPC (counted in [`Totals::stale`]).
    pub fn on_done(&mut self, now: Nanos, cookie: u64, outcome: Outcome) -> Option<Sample> {
        let Some(index) = self.live_slot(cookie) else {
            self.totals.stale += 1;
            return None;
        };
        if self.slots[index].state == State::Due {
            self.note_sent(now, index);
        }
        let slot = &mut self.slots[index];
        slot.state = State::Free;
        let slot = *slot;
        self.free.push(index as u32);
        self.outstanding -= 1;
        self.note_done(now, &slot, outcome)
    }

    fn note_done(&mut self, now: Nanos, slot: &Slot, outcome: Outcome) -> Option<Sample> {
        let totals = &mut self.totals;
        self.over_in_time += u64::from(now < totals.measured_to);
        if slot.measured && matches!(self.config.end, End::Rpcs(_)) {
            totals.measured_to = totals.measured_to.max(now);
        }
        let measured = u64::from(slot.measured);
        let response_bytes = match outcome {
            Outcome::Response { size_bytes } => size_bytes,
            Outcome::Corrupted => {
                totals.corrupted += measured;
                return None;
            }
            Outcome::Failed(failure) => {
                totals.failed[failure as usize] += measured;
                return None;
            }
        };
        totals.completed += measured;
        let counted = match self.config.end {
            End::After(_) => now >= totals.measured_from && now < totals.measured_to,
            End::Rpcs(_) => now >= totals.measured_from,
        };
        if counted {
            totals.traffic.merge(Traffic {
                completed: 1,
                request_bytes: slot.size_bytes.into(),
                response_bytes: response_bytes.into(),
            });
        }
        Some(Sample {
            request_bytes: slot.size_bytes,
            response_bytes,
            planned: slot.planned,
            sent: slot.sent,
            done: now,
            measured: slot.measured,
        })
    }

    /// Length of the request that `cookie` names, if its RPC is not over.
    pub fn request_bytes(&self, cookie: u64) -> Option<u32> {
        self.live_slot(cookie).map(|index| self.slots[index].size_bytes)
    }

    /// RPCs sent and not over.
    pub const fn outstanding(&self) -> u32 {
        self.outstanding
    }

    /// How long the next RPC to send has been due, zero if none is.
    pub fn lag(&self, now: Nanos) -> Nanos {
        let refused = self.refused.front().map(|&index| self.slots[index as usize].planned);
        let due = refused.or_else(|| self.next_due(now));
        due.map_or(Nanos::ZERO, |due| now.since(due))
    }

    /// The counts so far; `lost` and `never_sent` are known only by [`Self::finish`].
    pub const fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Whether `now` is in the measured time.
    pub const fn is_measuring(&self, now: Nanos) -> bool {
        let ended = match self.config.end {
            End::After(_) => now.0 >= self.totals.measured_to.0,
            End::Rpcs(_) => false,
        };
        now.0 >= self.totals.measured_from.0 && !ended
    }

    /// Whether the run is over: nothing more will become due and nothing is outstanding or overdue,
    /// or the time to wait for that has passed.
    pub fn is_finished(&self, now: Nanos) -> bool {
        let next = self.arrivals.as_ref().map_or(now, Arrivals::next);
        if !self.is_past_end(next) {
            return match self.config.end {
                End::After(_) => now >= self.totals.measured_to + self.config.drain,
                End::Rpcs(_) => false,
            };
        }
        let last_due = match self.config.end {
            End::After(_) => self.totals.measured_to,
            End::Rpcs(_) => self.last_planned,
        };
        let idle = self.free.len() == self.slots.len();
        (idle && now >= last_due) || now >= last_due + self.config.drain
    }

    /// Ends the run at `now`, be it finished or broken off, and gives all counts.
    pub fn finish(mut self, now: Nanos) -> Totals {
        for slot in &self.slots {
            match slot.state {
                State::Sent => self.totals.lost += u64::from(slot.measured),
                State::Due | State::Refused => {
                    self.totals.never_sent += u64::from(slot.measured);
                }
                State::Free => {}
            }
        }
        while let Some(due) = self.next_due(now).filter(|_| self.arrivals.is_some()) {
            let measured = u64::from(due >= self.totals.measured_from);
            self.totals.never_sent += measured;
            self.measured_planned += measured;
            self.planned += 1;
            self.totals.lag_max = self.totals.lag_max.max(now.since(due));
            if let Some(arrivals) = &mut self.arrivals {
                arrivals.advance();
            }
        }
        if matches!(self.config.end, End::After(_)) {
            self.totals.backlog = self.planned - self.over_in_time;
        }
        self.totals.measured_to = self.totals.measured_to.min(now).max(self.totals.measured_from);
        self.totals
    }
}

#[cfg(test)]
mod tests;
