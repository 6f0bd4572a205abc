//! The highest load that a system carries.
//!
//! A [`Search`] says which rates to try, one after the other, and is told what became of each: it
//! doubles the rate until one is not carried, then halves the distance to the last that was. It knows
//! neither the transport nor the time a step takes.
//!
//! # What is carried
//!
//! A step offers an open loop for some time. It is carried if its [backlog](Totals::backlog) stays bounded:
//!
//! 1. no RPC failed, was lost or corrupted, and none that was due was never sent;
//! 2. what was due and not over when the measured time ended, sent or not, is at most
//!    [`BACKLOG_SHARE`] of what became due in the measured time, or at most [`BACKLOG_MIN`] RPCs.
//!
//! A load above capacity by a share s leaves about s of what was due behind, more with the warm-up. Its
//! backlog grows with time, be it in the client (lag) or under way (outstanding), whereas a pause of
//! the machine in the middle of the step is made up for. One just before its end is not; so a step
//! that was not carried is tried again, and counts only if it is not carried twice.

use core::fmt;

use super::generator::Totals;
use super::quantity::show_count;

/// The part of what was due that may be left over.
pub const BACKLOG_SHARE: f64 = 0.02;
/// So many RPCs may be left over however few were due.
pub const BACKLOG_MIN: u64 = 16;
/// Rates below the first by more than this factor are not tried.
const FACTOR_MAX: f64 = 1e6;

/// Whether a load was carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was.
    Carried,
    /// So many RPCs were not answered well.
    Failed(u64),
    /// So many RPCs were never sent.
    NeverSent(u64),
    /// So many RPCs were left over, of which this many may be.
    Backlog(u64, u64),
}

impl Verdict {
    /// Judges a step of which `totals` are all there is.
    pub fn of(totals: &Totals) -> Self {
        let failed = totals.failures() + totals.lost + totals.corrupted;
        let due = totals.sent + totals.never_sent;
        let limit = ((due as f64 * BACKLOG_SHARE) as u64).max(BACKLOG_MIN);
        match totals {
            _ if failed > 0 => Self::Failed(failed),
            totals if totals.never_sent > 0 => Self::NeverSent(totals.never_sent),
            totals if totals.backlog > limit => Self::Backlog(totals.backlog, limit),
            _ => Self::Carried,
        }
    }

    /// Whether the load was carried.
    pub const fn is_carried(self) -> bool {
        matches!(self, Self::Carried)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Carried => f.write_str("carried"),
            Self::Failed(rpcs) => write!(f, "{} failed", show_count(rpcs)),
            Self::NeverSent(rpcs) => write!(f, "{} never sent", show_count(rpcs)),
            Self::Backlog(rpcs, limit) => {
                write!(f, "{} left over, not {}", show_count(rpcs), show_count(limit))
            }
        }
    }
}

/// Looks for the highest rate that is carried. The unit of rates does not matter.
#[derive(Clone, Debug)]
pub struct Search {
    first: f64,
    precision: f64,
    next: f64,
    /// The highest rate that was carried.
    carried: Option<f64>,
    /// The lowest that was not.
    refused: Option<f64>,
    /// Whether the next step repeats one that was not carried.
    repeats: bool,
}

impl Search {
    /// Begins at rate `first` and ends when the answer is known to a share of `precision`.
    ///
    /// # Panics
    /// If either is not above zero.
    pub fn new(first: f64, precision: f64) -> Self {
        assert!(first > 0.0 && precision > 0.0, "a search from {first} to a share of {precision}");
        Self { first, precision, next: first, carried: None, refused: None, repeats: false }
    }

    /// The rate to try next; `None` when the search is over.
    pub fn next(&self) -> Option<f64> {
        let is_known = match (self.carried, self.refused) {
            (Some(carried), Some(refused)) => refused <= carried * (1.0 + self.precision),
            _ => false,
        };
        let is_possible = (self.first / FACTOR_MAX..=self.first * FACTOR_MAX).contains(&self.next);
        (is_possible && !is_known).then_some(self.next)
    }

    /// Whether the step that is tried next repeats the one before.
    pub const fn is_repeat(&self) -> bool {
        self.repeats
    }

    /// What became of the rate that [`Self::next`] named.
    pub fn on_step(&mut self, is_carried: bool) {
        if !is_carried && !self.repeats {
            self.repeats = true;
            return;
        }
        self.repeats = false;
        if is_carried {
            self.carried = Some(self.next);
        } else {
            self.refused = Some(self.next);
        }
        self.next = match (self.carried, self.refused) {
            (Some(carried), Some(refused)) => (carried * refused).sqrt(),
            (Some(carried), None) => carried * 2.0,
            (None, Some(refused)) => refused / 2.0,
            (None, None) => self.next,
        };
    }

    /// The answer so far: the highest rate that was carried.
    pub const fn answer(&self) -> Option<f64> {
        self.carried
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The rates tried against a system that carries up to `capacity`, and the answer.
    fn search(first: f64, capacity: f64) -> (Vec<f64>, Option<f64>) {
        let mut search = Search::new(first, 0.05);
        let mut tried = Vec::new();
        while let Some(rate) = search.next() {
            tried.push(rate);
            assert!(tried.len() < 200, "{tried:?}");
            search.on_step(rate <= capacity);
        }
        (tried, search.answer())
    }

    #[test]
    fn doubles_then_halves_the_distance() {
        let (tried, answer) = search(100.0, 1_000.0);
        assert_eq!(tried[..6], [100.0, 200.0, 400.0, 800.0, 1_600.0, 1_600.0]);
        assert!((tried[6] - (800.0_f64 * 1_600.0).sqrt()).abs() < 1e-9);
        let answer = answer.unwrap();
        assert!((952.0..=1_000.0).contains(&answer), "{answer}");
    }

    #[test]
    fn a_first_rate_above_capacity_is_halved() {
        let (tried, answer) = search(100.0, 30.0);
        assert_eq!(tried[..5], [100.0, 100.0, 50.0, 50.0, 25.0]);
        assert!(answer.unwrap() > 28.0);
        assert_eq!(search(100.0, 0.0).1, None);
    }

    #[test]
    fn one_bad_moment_does_not_count() {
        let mut search = Search::new(100.0, 0.05);
        search.on_step(false);
        assert_eq!((search.next(), search.is_repeat()), (Some(100.0), true));
        search.on_step(true);
        assert_eq!((search.next(), search.is_repeat()), (Some(200.0), false));
        assert_eq!(search.answer(), Some(100.0));
    }

    #[test]
    fn verdicts() {
        let good = Totals { sent: 10_000, completed: 10_000, backlog: 200, ..Totals::default() };
        let of = |totals: Totals| Verdict::of(&totals);
        assert!(of(good).is_carried());
        assert_eq!(of(Totals { backlog: 201, ..good }).to_string(), "201 left over, not 200");
        assert_eq!(of(Totals { never_sent: 2, ..good }), Verdict::NeverSent(2));
        assert_eq!(of(Totals { lost: 1, corrupted: 2, ..good }), Verdict::Failed(3));
        assert_eq!(of(Totals { failed: [1; 5], ..good }).to_string(), "5 failed");
        let few = Totals { sent: 10, backlog: 16, ..good };
        assert!(of(few).is_carried());
        assert!(!of(Totals { backlog: 17, ..few }).is_carried());
    }

    proptest! {
        #[test]
        fn every_capacity_is_found(first in 1.0_f64..1e6, factor in 1e-3_f64..1e3) {
            let capacity = first * factor;
            let answer = search(first, capacity).1.unwrap();
            prop_assert!(answer <= capacity && capacity < answer * 1.05, "{answer} of {capacity}");
        }
    }
}
