//! Fault simulation: random clusters, loads, settings and faults, and the rules that must hold
//! whatever happens.
//!
//! A seed decides a [`Plan`]: hosts with their settings, calls with what both applications do, faults
//! and when they are in force. A run has two parts. First the faults, then quiet, in which every RPC
//! must end and every table become empty within [`Plan::settle_ns`]; then each host makes one more
//! call, which must succeed. After every turn of a host the rules are checked:
//!
//! - a message arrives with the bytes that were sent, in order, or not at all;
//! - no request is delivered twice while the server that has delivered it runs and remembers
//!   (`tombstone_keep_ns` of its own running time after the RPC has ended there); with a memory of
//!   four times `timeout_ns`, none is as long as the server runs;
//! - no request and no response arrives that nobody has sent, and every call ends exactly once;
//! - granted bytes, packet buffers, and entries in tables stay within their limits;
//! - the packet buffers that the transport counts are those in use, and all come back;
//! - an error has a cause; in calm runs, with slow applications, duplicates and reordering only,
//!   every call succeeds.
//!
//! Corruption behind the checksum of the link is survived, not detected: headers of Homa have no
//! checksum. What corrupted packets have named is exempt from the rules about content, and runs with
//! corruption from the account of grants, not from the others.
//!
//! | file | holds |
//! |---|---|
//! | `plan` | what a run does |
//! | `faults` | what goes wrong, and with which packets |
//! | `world` | the run, from event to event |
//! | `application` | what applications do |
//! | `host` | a transport behind a ring and a NIC |
//! | `watch`, `oracle` | what is seen, and the rules |
//! | `shrink` | a smaller plan that fails alike |
//! | `trace` | the story of a run |

mod application;
mod dice;
mod faults;
mod host;
mod oracle;
mod plan;
mod report;
mod shrink;
mod trace;
mod watch;
mod world;

#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use oracle::Violation;
pub use plan::Plan;
pub use report::Report;
pub use shrink::shrink;

use trace::Trace;
use world::World;

/// Runs a plan to its end or to the first broken rule. A panic counts as one.
pub fn run(plan: &Plan) -> Report {
    run_traced(plan, Trace::default())
}

/// Runs a plan; gives its story as well.
pub fn replay(plan: &Plan) -> (Report, String) {
    let trace = Trace::kept();
    let report = run_traced(plan, trace.clone());
    (report, trace.into_text())
}

fn run_traced(plan: &Plan, trace: Trace) -> Report {
    let run = AssertUnwindSafe(|| World::new(plan, trace).run());
    catch_unwind(run).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Report::of_panic(text.unwrap_or("without a message"))
    })
}
