//! What came of a run.

use crate::time::Nanos;

use super::oracle::Violation;

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// The first rule that was broken.
    pub violation: Option<Violation>,
    /// Simulated time.
    pub simulated: Nanos,
    /// Events.
    pub events: u64,
    /// Packets that hosts have sent.
    pub packets: u64,
    /// Calls that ended with a response.
    pub answered: u64,
    /// Calls that ended with an error.
    pub failed: u64,
    /// Requests handed to applications.
    pub executions: u64,
    /// Depends on every event: equal for equal runs.
    pub hash: u64,
}

impl Report {
    /// A run that ended with a panic.
    pub(super) fn of_panic(message: &str) -> Self {
        let detail = message.to_owned();
        Self {
            violation: Some(Violation { at: Nanos::ZERO, rule: "no panic", detail }),
            simulated: Nanos::ZERO,
            events: 0,
            packets: 0,
            answered: 0,
            failed: 0,
            executions: 0,
            hash: 0,
        }
    }
}
