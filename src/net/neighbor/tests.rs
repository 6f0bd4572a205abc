use super::*;

/// Times that make the rounding of `NeighborTable::reachable` exact in most tests.
const LIMITS: Limits = Limits {
    neighbors_max: 4,
    resolving_max: 2,
    tries: 3,
    retry_ns: 200_000_000,
    reachable_ns: 8_000_000_000,
    probe_delay_ns: 1_000_000_000,
    failed_ns: 1_000_000_000,
};

const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xa]);
const B: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xb]);

fn ip(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

fn ask(ip: IpAddr) -> Action {
    Action::Solicit { ip, to: None }
}

fn probe(ip: IpAddr) -> Action {
    Action::Solicit { ip, to: Some(A) }
}

fn note(actions: &mut Vec<Action>, action: Action) -> bool {
    actions.push(action);
    true
}

/// A table, the time, and what the table wanted since it was last looked at.
struct Bench {
    table: NeighborTable,
    now: Nanos,
    actions: Vec<Action>,
}

impl Bench {
    fn new(permanent: &[(IpAddr, MacAddr)]) -> Self {
        let table = NeighborTable::new(LIMITS, permanent);
        Self { table, now: Nanos::from_secs(100), actions: Vec::new() }
    }

    fn lookup(&mut self, ip: IpAddr) -> Lookup {
        self.table.lookup(self.now, ip, &mut |action| note(&mut self.actions, action))
    }

    fn heard(&mut self, ip: IpAddr, mac: MacAddr, may_learn: bool) -> Heard {
        self.hears(Advert { ip, mac, may_learn, is_confirmed: true, is_override: true })
    }

    fn hears(&mut self, advert: Advert) -> Heard {
        self.table.heard(self.now, advert, &mut |action| note(&mut self.actions, action))
    }

    /// Moves to the next time that something is due, past the times at which nothing is any more,
    /// and serves it; says how many milliseconds that took.
    fn step(&mut self) -> u64 {
        let start = self.now;
        let due = |table: &NeighborTable| table.neighbors.iter().map(Neighbor::deadline).min();
        let next = due(&self.table).unwrap_or(Nanos::MAX);
        assert_ne!(next, Nanos::MAX, "nothing to wait for");
        loop {
            assert!(self.table.deadline() <= next, "the table would wake too late");
            self.now = self.table.deadline().max(self.now);
            self.table.on_timer(self.now, &mut |action| note(&mut self.actions, action));
            if self.now >= next {
                break;
            }
        }
        self.now.since(start).0 / 1_000_000
    }

    fn actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    fn resolved(&mut self, ip: IpAddr) {
        assert_eq!(self.lookup(ip), Lookup::Resolving);
        assert_eq!(self.heard(ip, A, false), Heard::Learned);
        assert_eq!(self.actions(), [ask(ip), Action::Resolved(ip)]);
    }

    /// Whether `action` changes the generation.
    fn renews(&mut self, action: impl FnOnce(&mut Self)) -> bool {
        let before = self.table.generation();
        action(self);
        before != self.table.generation()
    }
}

#[test]
fn asked_three_times_then_given_up_for_a_second() {
    let mut bench = Bench::new(&[]);
    assert_eq!(bench.lookup(ip(1)), Lookup::Resolving);
    assert_eq!(bench.actions(), [ask(ip(1))]);
    assert_eq!(bench.lookup(ip(1)), Lookup::Resolving);
    for _ in 0..2 {
        assert_eq!(bench.step(), 200);
        assert_eq!(bench.actions(), [ask(ip(1))]);
    }
    assert!(bench.renews(|bench| assert_eq!(bench.step(), 200)));
    assert_eq!(bench.actions(), [Action::Failed(ip(1))]);
    assert_eq!(bench.table.deadline(), Nanos::MAX);
    bench.now = bench.now + Nanos::from_ms(999);
    assert_eq!(bench.lookup(ip(1)), Lookup::NoAnswer);
    assert_eq!(bench.actions(), []);
    bench.now = bench.now + Nanos::from_ms(1);
    assert_eq!(bench.lookup(ip(1)), Lookup::Resolving);
    assert_eq!(bench.actions(), [ask(ip(1))]);
}

#[test]
fn a_question_without_room_does_not_count_as_asked() {
    let mut bench = Bench::new(&[]);
    let mut asked = 0;
    let mut no_room = |_| {
        asked += 1;
        false
    };
    assert_eq!(bench.table.lookup(bench.now, ip(1), &mut no_room), Lookup::Resolving);
    for _ in 0..5 {
        bench.now = bench.table.deadline();
        bench.table.on_timer(bench.now, &mut no_room);
    }
    assert_eq!(asked, 6);
    for _ in 0..3 {
        assert_eq!(bench.step(), 200);
        assert_eq!(bench.actions(), [ask(ip(1))]);
    }
    assert_eq!(bench.step(), 200);
    assert_eq!(bench.actions(), [Action::Failed(ip(1))]);
}

#[test]
fn an_answer_resolves_even_after_giving_up() {
    let mut bench = Bench::new(&[]);
    assert!(bench.renews(|bench| bench.resolved(ip(1))));
    assert_eq!(bench.lookup(ip(1)), Lookup::Ready(A));

    bench.lookup(ip(2));
    while !bench.actions().contains(&Action::Failed(ip(2))) {
        bench.step();
    }
    assert!(bench.renews(|bench| assert_eq!(bench.heard(ip(2), B, false), Heard::Learned)));
    assert_eq!(bench.actions(), [Action::Resolved(ip(2))]);
    assert_eq!(bench.lookup(ip(2)), Lookup::Ready(B));
}

#[test]
fn a_neighbor_in_use_is_asked_when_it_has_been_silent() {
    let mut bench = Bench::new(&[]);
    bench.resolved(ip(1));
    assert!(bench.renews(|bench| assert_eq!(bench.step(), 8_000)));
    assert_eq!(bench.actions(), []);
    // Used again: still ready, asked after a second, and alive when it answers.
    assert_eq!(bench.lookup(ip(1)), Lookup::Ready(A));
    assert_eq!(bench.actions(), []);
    assert_eq!(bench.step(), 1_000);
    assert_eq!(bench.actions(), [probe(ip(1))]);
    assert!(!bench.renews(|bench| assert_eq!(bench.heard(ip(1), A, false), Heard::Refreshed)));
    assert_eq!(bench.step(), 8_000);
    assert_eq!(bench.actions(), []);
}

#[test]
fn a_neighbor_not_in_use_is_left_alone() {
    let mut bench = Bench::new(&[]);
    bench.resolved(ip(1));
    bench.step();
    assert_eq!((bench.actions(), bench.table.deadline()), (vec![], Nanos::MAX));
}

#[test]
fn a_neighbor_that_went_away_is_asked_for_everywhere() {
    let mut bench = Bench::new(&[]);
    bench.resolved(ip(1));
    bench.step();
    bench.lookup(ip(1));
    for wait_ms in [1_000, 200, 200] {
        assert_eq!(bench.step(), wait_ms);
        assert_eq!(bench.actions(), [probe(ip(1))]);
        assert_eq!(bench.lookup(ip(1)), Lookup::Ready(A));
    }
    assert!(bench.renews(|bench| assert_eq!(bench.step(), 200)));
    assert_eq!(bench.lookup(ip(1)), Lookup::Resolving);
    assert_eq!(bench.actions(), [ask(ip(1))]);
    // It comes back on another station.
    assert!(bench.renews(|bench| assert_eq!(bench.heard(ip(1), B, false), Heard::Learned)));
    assert_eq!(bench.lookup(ip(1)), Lookup::Ready(B));
}

#[test]
fn strangers_are_learned_only_when_allowed() {
    let mut bench = Bench::new(&[]);
    assert_eq!(bench.heard(ip(1), A, false), Heard::Ignored);
    assert_eq!(bench.lookup(ip(1)), Lookup::Resolving);
    assert!(!bench.renews(|bench| assert_eq!(bench.heard(ip(2), A, true), Heard::Learned)));
    assert_eq!(bench.lookup(ip(2)), Lookup::Ready(A));
}

#[test]
fn a_move_changes_the_generation_for_those_we_send_to() {
    let mut bench = Bench::new(&[]);
    bench.heard(ip(1), A, true);
    assert!(!bench.renews(|bench| assert_eq!(bench.heard(ip(1), B, false), Heard::Moved)));
    assert_eq!(bench.lookup(ip(1)), Lookup::Ready(B));
    assert!(bench.renews(|bench| assert_eq!(bench.heard(ip(1), A, false), Heard::Moved)));
    assert_eq!(bench.lookup(ip(1)), Lookup::Ready(A));
}

#[test]
fn static_neighbors_stay() {
    let mut bench = Bench::new(&[(ip(9), B), (ip(1), A)]);
    assert!(bench.table.is_static(ip(1)) && bench.table.is_static(ip(9)));
    assert!(!bench.table.is_static(ip(2)));
    assert_eq!(bench.lookup(ip(9)), Lookup::Ready(B));
    assert_eq!(bench.heard(ip(1), B, true), Heard::StaticMismatch);
    assert_eq!(bench.heard(ip(1), A, true), Heard::Refreshed);
    assert_eq!(bench.lookup(ip(1)), Lookup::Ready(A));
    assert_eq!(bench.table.deadline(), Nanos::MAX);
}

#[test]
fn only_so_many_are_resolved_at_a_time() {
    let mut bench = Bench::new(&[]);
    bench.lookup(ip(1));
    bench.lookup(ip(2));
    assert_eq!(bench.lookup(ip(3)), Lookup::TooManyResolutions);
    assert_eq!(bench.actions().len(), 2);
    bench.heard(ip(1), A, false);
    assert_eq!(bench.lookup(ip(3)), Lookup::Resolving);
    assert_eq!(bench.lookup(ip(4)), Lookup::TooManyResolutions);
    while bench.table.deadline() != Nanos::MAX && bench.now < Nanos::from_secs(102) {
        bench.step();
    }
    assert_eq!(bench.lookup(ip(4)), Lookup::Resolving, "those that failed made room");
    assert_eq!(bench.lookup(ip(2)), Lookup::Resolving);
    bench.now = bench.now + Nanos::from_secs(5);
    assert_eq!(bench.lookup(ip(3)), Lookup::TooManyResolutions);
}

#[test]
fn a_full_table_gives_up_what_is_not_in_use() {
    let mut bench = Bench::new(&[]);
    for last in 1..=3 {
        bench.resolved(ip(last));
    }
    bench.heard(ip(4), A, true);
    // A stranger may displace another stranger only.
    assert_eq!(bench.heard(ip(5), B, true), Heard::Learned);
    assert_eq!(bench.heard(ip(4), B, false), Heard::Ignored);
    // Who is wanted displaces a stranger, but not one in use.
    bench.resolved(ip(6));
    assert_eq!(bench.heard(ip(5), B, false), Heard::Ignored);
    assert_eq!(bench.lookup(ip(7)), Lookup::TableFull);
    assert_eq!(bench.heard(ip(7), B, true), Heard::Ignored);
    // Silent ones go, the longest silent first; the one still used stays.
    bench.step();
    assert_eq!(bench.lookup(ip(1)), Lookup::Ready(A));
    assert_eq!(bench.heard(ip(7), B, true), Heard::Ignored);
    for last in 7..=9 {
        assert_eq!(bench.lookup(ip(last)), Lookup::Resolving);
        bench.heard(ip(last), B, false);
    }
    assert_eq!(bench.lookup(ip(1)), Lookup::Ready(A));
    assert_eq!(bench.lookup(ip(2)), Lookup::TableFull);
}

#[test]
fn many_neighbors_change_the_generation_rarely() {
    let limits = Limits { neighbors_max: 1_000, resolving_max: 1_000, ..LIMITS };
    let mut bench = Bench { table: NeighborTable::new(limits, &[]), ..Bench::new(&[]) };
    let address = |n: u64| IpAddr::from([10, 0, (n >> 8) as u8, n as u8]);
    for n in 0..1_000 {
        bench.lookup(address(n));
        bench.heard(address(n), A, false);
        bench.now = bench.now + Nanos::from_ms(8);
    }
    let mut changes = 0;
    while bench.table.deadline() != Nanos::MAX {
        changes += u32::from(bench.renews(|bench| _ = bench.step()));
    }
    assert!((2..=9).contains(&changes), "{changes} changes");
}

mod random {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever happens, the bounds hold, the list stays sorted, and a resolution that was begun
        /// ends.
        #[test]
        fn bounds_hold(steps in proptest::collection::vec((0_u8..5, 0_u8..8, 0_u64..3_000), 1..200)) {
            let mut bench = Bench::new(&[(ip(0), A)]);
            for (what, last, wait_ms) in steps {
                match what {
                    0 | 1 => _ = bench.lookup(ip(last)),
                    2 => _ = bench.heard(ip(last), A, true),
                    3 => _ = bench.heard(ip(last), B, false),
                    _ => {
                        bench.now = bench.now + Nanos::from_ms(wait_ms);
                        bench.table.on_timer(bench.now, &mut |action| note(&mut bench.actions, action));
                    }
                }
                let table = &bench.table;
                let incomplete = |n: &&Neighbor| matches!(n.state, State::Incomplete { .. });
                prop_assert!(table.neighbors.len() <= LIMITS.neighbors_max);
                prop_assert_eq!(table.neighbors.iter().filter(incomplete).count(), table.resolving);
                prop_assert!(table.neighbors.is_sorted_by(|a, b| a.ip < b.ip));
                prop_assert!(table.neighbors.iter().all(|n| n.deadline() >= table.deadline));
                prop_assert!(table.is_static(ip(0)));
            }
            for _ in 0..100 {
                if bench.table.deadline() == Nanos::MAX {
                    break;
                }
                bench.now = bench.table.deadline().max(bench.now);
                bench.table.on_timer(bench.now, &mut |action| note(&mut bench.actions, action));
            }
            prop_assert_eq!(bench.table.resolving, 0);
            prop_assert_eq!(bench.table.deadline(), Nanos::MAX);
        }
    }
}
