//! What the hosts of a run gave, as one report.

use super::coordinator::Outcome;
use super::protocol::HostResult;
use crate::load::report::hosts::{HostReport, mark_outliers};
use crate::load::report::{Report, ReportError};

/// Adds up the results of all hosts; `None` if none of them sent anything that is known. Hosts of which
/// nothing is known are in the list of hosts and in no sum.
///
/// # Errors
/// The hosts have not run one load.
pub fn merged(outcome: &Outcome, title: &str) -> Result<Option<Report>, ReportError> {
    let mut reports = Vec::new();
    let mut hosts = Vec::with_capacity(outcome.hosts.len());
    for (rank, outcome) in outcome.hosts.iter().enumerate() {
        let result = outcome.result.as_ref();
        let report = result.and_then(|result| result.report.as_ref());
        let name = &outcome.host.name;
        let mut host = HostReport::new(name, rank as u32, outcome.host.address.to_string(), report);
        host.served = result.map(|result| result.served);
        host.missing = outcome.lost.clone();
        if outcome.is_early {
            host.outlier.push("ended before the others, told so by a signal".to_owned());
        }
        hosts.push(host);
        reports.extend(report.cloned());
    }
    mark_outliers(&mut hosts);
    if reports.is_empty() {
        return Ok(None);
    }
    let mut sum = Report::merge(&reports)?;
    title.clone_into(&mut sum.config.title);
    for result in outcome.hosts.iter().filter_map(|host| host.result.as_ref()) {
        add_server(&mut sum, result);
    }
    sum.hosts = hosts;
    Ok(Some(sum))
}

/// What a host knows as a server.
fn add_server(sum: &mut Report, result: &HostResult) {
    sum.totals.corrupted += result.served.corrupted;
    match sum.sides.iter_mut().find(|side| side.name == result.server.name) {
        Some(side) => side.add(&result.server),
        None => sum.sides.push(result.server.clone()),
    }
    for (name, count) in &result.counters {
        let value = sum.counters.entry(name.clone()).or_insert(0);
        // Of the longest times, the longer one stays.
        *value = if name.ends_with("_max") { (*value).max(*count) } else { *value + count };
    }
}

/// What is wrong with a run, in one line; `None` if every host was there to the end and every RPC was
/// answered with the right bytes.
pub fn trouble(outcome: &Outcome, report: Option<&Report>) -> Option<String> {
    let mut parts = Vec::new();
    let lost: Vec<String> = outcome
        .hosts
        .iter()
        .filter_map(|host| {
            let reason = host.lost.as_ref()?;
            Some(format!("host {} was lost ({reason})", host.host.name))
        })
        .collect();
    parts.extend(lost);
    let early = outcome.hosts.iter().filter(|host| host.is_early);
    parts.extend(early.map(|host| format!("host {} ended early", host.host.name)));
    if outcome.is_interrupted {
        parts.push("the run was interrupted".to_owned());
    }
    match report.map(|report| &report.totals) {
        None => parts.push("no host has said what it sent".to_owned()),
        Some(totals) => {
            let failed: u64 = totals.failed.values().sum();
            if failed + totals.lost > 0 {
                let sent = totals.sent;
                parts.push(format!("{} of {sent} RPCs were not answered", failed + totals.lost));
            }
            if totals.corrupted > 0 {
                parts.push(format!("{} messages arrived with wrong bytes", totals.corrupted));
            }
        }
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}
