//! The simulator against the transport as it is, and as it must not be.

use super::*;
use crate::transport::mutation::Mutation;

fn check(seed: u64) {
    if let Some(violation) = run(&Plan::new(seed)).violation {
        panic!("homa-sim fuzz --seed {seed} --shrink --trace seed.txt\n{violation}");
    }
}

#[test]
fn rules_hold_whatever_happens() {
    (0..2_000).for_each(check);
}

/// Runs that have found faults of the transport. What each fault was stands with its own test in
/// `transport/tests/lasting.rs` and `transport/tombstones.rs`: the run of a seed changes when the
/// generator does.
#[test]
fn rules_hold_where_they_were_broken() {
    let executed_twice = [361, 1933, 2310, 3622, 3979, 4847, 8202, 8434, 9419, 11093];
    let heard_of_in_a_stall = [81387];
    let waited_for_room_of_each_other = [1447, 1464, 1530, 1929, 3356];
    let disagreed_about_a_length = [1669, 1866, 2626, 2816, 4100, 4188, 257_416];
    let kept_for_a_client_that_had_forgotten = [1561, 1636, 1941, 1989];
    let waited_for_a_grant = [65760, 105_069];
    let took_late_bytes_for_granted_ones = [216_735];
    let seeds = executed_twice
        .into_iter()
        .chain(heard_of_in_a_stall)
        .chain(waited_for_room_of_each_other)
        .chain(disagreed_about_a_length)
        .chain(kept_for_a_client_that_had_forgotten)
        .chain(waited_for_a_grant)
        .chain(took_late_bytes_for_granted_ones);
    seeds.for_each(check);
}

#[test]
fn a_run_repeats_bit_for_bit() {
    for seed in 0..50 {
        let [first, second] = [(); 2].map(|()| run(&Plan::new(seed)));
        assert_eq!((first.hash, first.events), (second.hash, second.events), "seed {seed}");
        assert!(first.events > 0);
    }
}

/// The first seed whose run breaks a rule with this fault in the transport.
fn caught(mutation: Mutation) -> Option<(u64, Violation)> {
    mutation.during(|| (0..1_000).find_map(|seed| Some((seed, run(&Plan::new(seed)).violation?))))
}

#[test]
fn deliberate_faults_are_found() {
    // Panics are expected, and their stories are of no interest.
    std::panic::set_hook(Box::new(|_| {}));
    let found = Mutation::ALL.map(|mutation| (mutation, caught(mutation)));
    let _ = std::panic::take_hook();
    for (mutation, caught) in &found {
        match caught {
            Some((seed, violation)) => println!("{mutation:?}: seed {seed}, {violation}"),
            None => println!("{mutation:?}: not found"),
        }
    }
    assert!(found.iter().all(|(_, caught)| caught.is_some()), "not all are found");
}

#[test]
fn a_failing_run_is_made_smaller_and_told() {
    Mutation::DeliverBeforeComplete.during(|| {
        let (seed, violation) = (0..1_000)
            .find_map(|seed| {
                let plan = Plan::new(seed);
                let violation = run(&plan).violation?;
                (plan.calls.len() > 5).then_some((seed, violation))
            })
            .unwrap();
        let plan = Plan::new(seed);
        let small = shrink(&plan, 2_000);
        assert!(small.calls.len() <= 3 && small.faults.len() <= 2, "{small}");
        let (report, story) = replay(&small);
        assert_eq!(report.violation.map(|found| found.rule), Some(violation.rule));
        assert!(story.contains("DATA") && story.contains("call 0"), "{story}");
    });
}

#[test]
fn plans_have_all_kinds_of_faults_and_both_kinds_of_runs() {
    let plans: Vec<Plan> = (0..500).map(Plan::new).collect();
    let kinds: std::collections::HashSet<_> = plans
        .iter()
        .flat_map(|plan| &plan.faults)
        .map(|plan| core::mem::discriminant(&plan.fault))
        .collect();
    assert_eq!(kinds.len(), 11);
    let calm = plans.iter().filter(|plan| plan.is_calm).count();
    assert!((50..200).contains(&calm), "{calm} of 500 are calm");
}
