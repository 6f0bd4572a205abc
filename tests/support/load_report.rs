//! Reports that `homa-load` writes.

use homa::load::report::Report;
use serde_json::Value;

use super::scratch::Scratch;

/// The report of a client, from `file` of `scratch`.
pub(crate) fn of_client(scratch: &Scratch, file: &str) -> Report {
    let text = std::fs::read_to_string(scratch.path(file)).expect("the client wrote its report");
    Report::from_json(&text).expect("a report of this version")
}

/// The report of a server, from `file` of `scratch`.
pub(crate) fn of_server(scratch: &Scratch, file: &str) -> Value {
    let text = std::fs::read_to_string(scratch.path(file)).expect("the server wrote its report");
    serde_json::from_str(&text).expect("JSON")
}

/// Fails the test unless every RPC of the client was answered, and with the right bytes.
pub(crate) fn expect_clean(report: &Report, rpcs_min: u64) {
    let totals = &report.totals;
    assert!(totals.completed >= rpcs_min, "at least {rpcs_min} RPCs: {totals:?}");
    assert_eq!((totals.corrupted, totals.lost), (0, 0), "{totals:?}");
    assert!(totals.failed.is_empty(), "{totals:?}");
    assert_eq!((totals.stale, totals.never_sent), (0, 0), "{totals:?}");
}

/// A counter of a report; counters that are 0 are left out of it.
pub(crate) fn counter(report: &Report, name: &str) -> u64 {
    report.counters.get(name).copied().unwrap_or(0)
}
