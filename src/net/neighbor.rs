//! The neighbour table: which station has which address, and whether it still answers.
//!
//! The states are those of RFC 4861 section 7.3.2, for both families of addresses. The table is one sorted list of
//! bounded length; what it decides depends on its inputs alone.

use core::net::IpAddr;

use super::mac::MacAddr;
use crate::time::Nanos;

#[cfg(test)]
mod tests;

/// What the table wants done, or wants told. Whoever is asked to says whether there was room for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Ask who has `ip`: the station last known, or everybody.
    Solicit {
        ip: IpAddr,
        to: Option<MacAddr>,
    },
    Resolved(IpAddr),
    Failed(IpAddr),
}

/// The answer to a question for the station of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    Ready(MacAddr),
    Resolving,
    /// Asked in vain a moment ago.
    NoAnswer,
    TooManyResolutions,
    TableFull,
}

/// A station's word that it has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Advert {
    pub(super) ip: IpAddr,
    pub(super) mac: MacAddr,
    /// It makes a new entry if there is none. One that strangers cause never displaces an address
    /// that we wanted.
    pub(super) may_learn: bool,
    /// It shows that our packets get there: an answer to a question of ours.
    pub(super) is_confirmed: bool,
    /// It counts more than another station that is known.
    pub(super) is_override: bool,
}

/// What became of a station's word that it has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// A new entry.
    Learned,
    /// A known entry has another station now.
    Moved,
    /// The known station is alive.
    Refreshed,
    /// Not a neighbour of ours, or no room for a stranger.
    Ignored,
    /// The address is configured to be elsewhere.
    StaticMismatch,
}

/// Bounds and times, see [`Config`](super::Config).
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) neighbors_max: usize,
    pub(super) resolving_max: usize,
    pub(super) tries: u8,
    pub(super) retry_ns: u64,
    pub(super) reachable_ns: u64,
    pub(super) probe_delay_ns: u64,
    pub(super) failed_ns: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Configured.
    Static,
    /// Everybody was asked `sent` times; nobody has answered.
    Incomplete { sent: u8, retry_at: Nanos },
    /// Heard from not long ago.
    Reachable { until: Nanos },
    /// Not heard from since, nor asked for.
    Stale { since: Nanos },
    /// Asked for while stale: used as before while the station is asked `sent` times.
    Probe { sent: u8, retry_at: Nanos },
    /// Nobody answered.
    Failed { until: Nanos },
}

#[derive(Clone, Copy, Debug)]
struct Neighbor {
    ip: IpAddr,
    /// Unspecified while incomplete or failed.
    mac: MacAddr,
    state: State,
    /// Whether we have ever wanted to send to it.
    is_wanted: bool,
}

impl Neighbor {
    /// How readily the entry is given up for a new one, the smallest first; `None`: not at all,
    /// since it may be in use. Nobody holds a path to a stale entry: the generation changed when it
    /// became stale, and asking for it again would have ended that.
    fn eviction_rank(&self) -> Option<(u8, Nanos)> {
        match self.state {
            State::Failed { until } => Some((0, until)),
            State::Stale { since } => Some((1, since)),
            State::Reachable { until } if !self.is_wanted => Some((2, until)),
            _ => None,
        }
    }

    /// When the timer has something to do for this entry.
    fn deadline(&self) -> Nanos {
        match self.state {
            State::Incomplete { retry_at, .. } | State::Probe { retry_at, .. } => retry_at,
            State::Reachable { until } => until,
            State::Static | State::Stale { .. } | State::Failed { .. } => Nanos::MAX,
        }
    }
}

/// The neighbours of one interface.
#[derive(Debug)]
pub(super) struct NeighborTable {
    /// Sorted by address.
    neighbors: Vec<Neighbor>,
    limits: Limits,
    /// How many entries are incomplete.
    resolving: usize,
    generation: u32,
    /// Not later than the earliest deadline of an entry.
    deadline: Nanos,
}

impl NeighborTable {
    /// A table with the given permanent entries, at most `limits.neighbors_max`, each address once.
    pub(super) fn new(limits: Limits, permanent: &[(IpAddr, MacAddr)]) -> Self {
        let mut neighbors = Vec::with_capacity(limits.neighbors_max);
        neighbors.extend(permanent.iter().map(|&(ip, mac)| Neighbor {
            ip,
            mac,
            state: State::Static,
            is_wanted: true,
        }));
        neighbors.sort_unstable_by_key(|neighbor| neighbor.ip);
        Self { neighbors, limits, resolving: 0, generation: 1, deadline: Nanos::MAX }
    }

    /// Changes whenever an answer [`Lookup::Ready`] may have become wrong, or another answer has.
    pub(super) const fn generation(&self) -> u32 {
        self.generation
    }

    pub(super) fn is_static(&self, ip: IpAddr) -> bool {
        self.position(ip).is_ok_and(|at| self.neighbors[at].state == State::Static)
    }

    /// The station that was last known to have `ip`.
    pub(super) fn station(&self, ip: IpAddr) -> Option<MacAddr> {
        let mac = self.neighbors[self.position(ip).ok()?].mac;
        mac.is_unicast().then_some(mac)
    }

    /// The station that has `ip`; if it is not known, asks for it.
    pub(super) fn lookup(
        &mut self,
        now: Nanos,
        ip: IpAddr,
        act: &mut impl FnMut(Action) -> bool,
    ) -> Lookup {
        let at = match self.position(ip) {
            Ok(at) => at,
            Err(_) if self.resolving >= self.limits.resolving_max => {
                return Lookup::TooManyResolutions;
            }
            Err(_) => {
                let failed = State::Failed { until: now };
                let Some(at) = self.insert(ip, MacAddr::UNSPECIFIED, failed, true) else {
                    return Lookup::TableFull;
                };
                at
            }
        };
        let neighbor = &mut self.neighbors[at];
        neighbor.is_wanted = true;
        match neighbor.state {
            State::Static | State::Reachable { .. } | State::Probe { .. } => {
                Lookup::Ready(neighbor.mac)
            }
            State::Stale { .. } => {
                let mac = neighbor.mac;
                let retry_at = now + Nanos(self.limits.probe_delay_ns);
                self.set_state(at, State::Probe { sent: 0, retry_at });
                Lookup::Ready(mac)
            }
            State::Incomplete { .. } => Lookup::Resolving,
            State::Failed { until } if now < until => Lookup::NoAnswer,
            State::Failed { .. } if self.resolving >= self.limits.resolving_max => {
                Lookup::TooManyResolutions
            }
            State::Failed { .. } => {
                self.start_resolution(now, at, act);
                Lookup::Resolving
            }
        }
    }

    /// Takes note of what a station says (RFC 4861 sections 7.2.3 and 7.2.5).
    pub(super) fn heard(
        &mut self,
        now: Nanos,
        advert: Advert,
        act: &mut impl FnMut(Action) -> bool,
    ) -> Heard {
        let Advert { ip, mac, may_learn, is_confirmed, is_override } = advert;
        let learned = if is_confirmed { self.reachable(now) } else { State::Stale { since: now } };
        let Ok(at) = self.position(ip) else {
            let is_new = may_learn && self.insert(ip, mac, learned, false).is_some();
            return if is_new { Heard::Learned } else { Heard::Ignored };
        };
        let Neighbor { mac: old_mac, state, is_wanted, .. } = self.neighbors[at];
        let heard = match state {
            State::Static if old_mac != mac => return Heard::StaticMismatch,
            State::Static => return Heard::Refreshed,
            State::Incomplete { .. } | State::Failed { .. } => {
                act(Action::Resolved(ip));
                Heard::Learned
            }
            // Perhaps it has moved: whom we know is asked when it is next wanted.
            State::Reachable { .. } if old_mac != mac && !is_override => {
                self.change_path(is_wanted);
                self.set_state(at, State::Stale { since: now });
                return Heard::Ignored;
            }
            _ if old_mac != mac && !is_override => return Heard::Ignored,
            _ if old_mac != mac => Heard::Moved,
            _ if is_confirmed => Heard::Refreshed,
            // Nothing new, and no proof that it is still so.
            _ => return Heard::Refreshed,
        };
        self.neighbors[at].mac = mac;
        if heard != Heard::Refreshed {
            self.change_path(is_wanted);
        }
        self.set_state(at, learned);
        heard
    }

    /// Makes known that an answer given out may be wrong now.
    const fn change_path(&mut self, is_wanted: bool) {
        if is_wanted {
            self.generation = self.generation.wrapping_add(1);
        }
    }

    /// Makes known that paths are no longer what they were.
    pub(super) const fn renew_paths(&mut self) {
        self.change_path(true);
    }

    /// When [`Self::on_timer`] has something to do, [`Nanos::MAX`] for never.
    pub(super) const fn deadline(&self) -> Nanos {
        self.deadline
    }

    /// Asks again, gives up, and lets entries become stale.
    pub(super) fn on_timer(&mut self, now: Nanos, act: &mut impl FnMut(Action) -> bool) {
        if now < self.deadline {
            return;
        }
        for at in 0..self.neighbors.len() {
            if self.neighbors[at].deadline() <= now {
                self.expire(now, at, act);
            }
        }
        self.deadline = self.neighbors.iter().map(Neighbor::deadline).min().unwrap_or(Nanos::MAX);
    }

    /// A question for which there was no room does not count as asked: many neighbours are due at the
    /// same time, and nobody is given up unasked.
    fn expire(&mut self, now: Nanos, at: usize, act: &mut impl FnMut(Action) -> bool) {
        let Neighbor { ip, mac, state, is_wanted } = self.neighbors[at];
        let retry_at = now + Nanos(self.limits.retry_ns);
        match state {
            State::Reachable { .. } => {
                self.change_path(is_wanted);
                self.set_state(at, State::Stale { since: now });
            }
            State::Incomplete { sent, .. } if sent < self.limits.tries => {
                let sent = sent + u8::from(act(Action::Solicit { ip, to: None }));
                self.set_state(at, State::Incomplete { sent, retry_at });
            }
            State::Incomplete { .. } => {
                self.change_path(true);
                let until = now + Nanos(self.limits.failed_ns);
                self.set_state(at, State::Failed { until });
                act(Action::Failed(ip));
            }
            State::Probe { sent, .. } if sent < self.limits.tries => {
                let sent = sent + u8::from(act(Action::Solicit { ip, to: Some(mac) }));
                self.set_state(at, State::Probe { sent, retry_at });
            }
            State::Probe { .. } => {
                self.change_path(true);
                self.start_resolution(now, at, act);
            }
            State::Static | State::Stale { .. } | State::Failed { .. } => {}
        }
    }

    fn start_resolution(&mut self, now: Nanos, at: usize, act: &mut impl FnMut(Action) -> bool) {
        let neighbor = &mut self.neighbors[at];
        let ip = neighbor.ip;
        neighbor.mac = MacAddr::UNSPECIFIED;
        let retry_at = now + Nanos(self.limits.retry_ns);
        let sent = u8::from(act(Action::Solicit { ip, to: None }));
        self.set_state(at, State::Incomplete { sent, retry_at });
    }

    /// The state of a station heard from just now.
    ///
    /// Its end is rounded up to a multiple of an eighth of the time, so that however many
    /// neighbours there are, the generation changes only so often because of them.
    fn reachable(&self, now: Nanos) -> State {
        let until = now + Nanos(self.limits.reachable_ns);
        let step_ns = (self.limits.reachable_ns / 8).max(1);
        State::Reachable {
            until: until.0.checked_next_multiple_of(step_ns).map_or(Nanos::MAX, Nanos),
        }
    }

    fn position(&self, ip: IpAddr) -> Result<usize, usize> {
        self.neighbors.binary_search_by_key(&ip, |neighbor| neighbor.ip)
    }

    /// Adds an entry, in place of the most expendable one if the table is full.
    fn insert(&mut self, ip: IpAddr, mac: MacAddr, state: State, is_wanted: bool) -> Option<usize> {
        if self.neighbors.len() >= self.limits.neighbors_max {
            let expendable = self.neighbors.iter().enumerate();
            let (_, at) = expendable
                .filter(|(_, neighbor)| is_wanted || !neighbor.is_wanted)
                .filter_map(|(at, neighbor)| Some((neighbor.eviction_rank()?, at)))
                .min()?;
            self.neighbors.remove(at);
        }
        let at = self.position(ip).unwrap_or_else(|at| at);
        self.neighbors.insert(at, Neighbor { ip, mac, state, is_wanted });
        self.set_state(at, state);
        Some(at)
    }

    fn set_state(&mut self, at: usize, state: State) {
        let is_incomplete = |state| usize::from(matches!(state, State::Incomplete { .. }));
        let neighbor = &mut self.neighbors[at];
        self.resolving = self.resolving + is_incomplete(state) - is_incomplete(neighbor.state);
        neighbor.state = state;
        self.deadline = self.deadline.min(neighbor.deadline());
    }
}
