//! The hosts of a run on several: what each sent and answered, and which of them stand out.

use serde::{Deserialize, Serialize};

use super::{Machine, Percentiles, Report};
use crate::load::quantity::{show_count, show_ns, show_scaled};
use crate::load::table::{Align, Style, Table};

/// A host is slow if its 99th percentile is this many times the median of all.
const SLOW: f64 = 1.5;
/// A host is behind if its rate is this fraction of the median of all.
const BEHIND: f64 = 0.75;
/// Fewer hosts have no median worth the name.
const HOSTS_MIN: usize = 3;

/// What a host answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// Requests, those of the warm-up and of the search for the way among them.
    pub requests: u64,
    /// Their bytes.
    pub request_bytes: u64,
    /// Requests with wrong bytes.
    pub corrupted: u64,
    /// Responses that the transport did not take.
    pub refused: u64,
}

/// A host of the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HostReport {
    /// Its name.
    pub name: String,
    /// Its place among the hosts, from 0.
    pub rank: u32,
    /// Its address in the network under test.
    pub address: String,
    /// Why nothing is known of it; its RPCs are in no other number then.
    pub missing: Option<String>,
    /// Where it ran; absent if it sent nothing.
    pub machine: Option<Machine>,
    /// RPCs that it sent in the measured time; absent if it sends to nobody.
    pub sent: Option<u64>,
    /// Those that were answered with the right bytes.
    pub completed: u64,
    /// Those that failed, were answered with wrong bytes, or were lost.
    pub trouble: u64,
    /// RPCs completed per second.
    pub rps: f64,
    /// Payload of its requests and of the responses to them, bits per second.
    pub bps: f64,
    /// Latency from the planned time.
    pub latency: Percentiles,
    /// The longest time from due to sent.
    pub lag_ns_max: u64,
    /// What it answered; absent if it is missing.
    pub served: Option<Served>,
    /// What sets it apart from the others, one remark each.
    pub outlier: Vec<String>,
}

impl HostReport {
    /// A host that has said how it went; `report` is absent if it sends to nobody.
    pub fn new(name: &str, rank: u32, address: String, report: Option<&Report>) -> Self {
        let host = Self { name: name.to_owned(), rank, address, ..Self::default() };
        let Some(report) = report else { return host };
        let totals = &report.totals;
        let failed: u64 = totals.failed.values().sum();
        Self {
            machine: Some(report.machine.clone()),
            sent: Some(totals.sent),
            completed: totals.completed,
            trouble: failed + totals.corrupted + totals.lost,
            rps: report.rates.rps,
            bps: report.rates.request_bps + report.rates.response_bps,
            latency: report.latency,
            lag_ns_max: totals.lag_ns_max,
            ..host
        }
    }
}

/// Notes at each host what sets it apart from the other senders: a 99th percentile above 1.5 times, or
/// a rate below 0.75 times their median. Needs three senders.
pub fn mark_outliers(hosts: &mut [HostReport]) {
    let senders = || hosts.iter().filter(|host| host.sent.is_some() && host.missing.is_none());
    if senders().count() < HOSTS_MIN {
        return;
    }
    let p99_ns = median(senders().map(|host| host.latency.p99_ns as f64).collect());
    let rps = median(senders().map(|host| host.rps).collect());
    for host in hosts.iter_mut().filter(|host| host.sent.is_some() && host.missing.is_none()) {
        let slow = host.latency.p99_ns as f64 / p99_ns;
        if slow.is_finite() && slow > SLOW {
            host.outlier.push(format!("p99 {slow:.1} x the median"));
        }
        let ahead = host.rps / rps;
        if ahead < BEHIND {
            host.outlier.push(format!("rate {ahead:.2} x the median"));
        }
    }
}

/// The middle value, or the mean of both.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        len if len % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}

/// The table of hosts; empty without hosts.
pub(super) fn text(hosts: &[HostReport], style: Style) -> String {
    if hosts.is_empty() {
        return String::new();
    }
    let right = Align::Right;
    let mut table = Table::new(&[
        ("host", Align::Left),
        ("sent", right),
        ("trouble", right),
        ("RPC/s", right),
        ("bps", right),
        ("p50", right),
        ("p99", right),
        ("lag", right),
        ("served", right),
    ]);
    for host in hosts {
        let is_sender = host.sent.is_some();
        let cell = |text: String| if is_sender { text } else { "-".to_owned() };
        table.row(vec![
            host.name.clone(),
            cell(show_count(host.sent.unwrap_or(0))),
            cell(show_count(host.trouble)),
            cell(show_scaled(host.rps)),
            cell(show_scaled(host.bps)),
            cell(show_ns(host.latency.p50_ns as f64)),
            cell(show_ns(host.latency.p99_ns as f64)),
            cell(show_ns(host.lag_ns_max as f64)),
            host.served.map_or_else(|| "-".to_owned(), |served| show_count(served.requests)),
        ]);
    }
    let mut text = format!("\n{}\n{}", style.title("hosts"), table.render(style));
    for host in hosts {
        if let Some(reason) = &host.missing {
            text += &format!("  {}\n", style.bad(&format!("{} is missing: {reason}", host.name)));
        }
        for remark in &host.outlier {
            text += &format!("  {} stands out: {remark}\n", host.name);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(name: &str, rps: f64, p99_ns: u64) -> HostReport {
        HostReport {
            name: name.to_owned(),
            sent: Some(1_000),
            completed: 1_000,
            rps,
            latency: Percentiles { count: 1_000, p50_ns: 900, p99_ns, ..Percentiles::default() },
            served: Some(Served { requests: 12, ..Served::default() }),
            ..HostReport::default()
        }
    }

    #[test]
    fn hosts_that_stand_out_are_named() {
        let mut hosts = vec![
            sender("a", 100.0, 1_000),
            sender("b", 110.0, 1_100),
            sender("slow", 95.0, 1_700),
            sender("behind", 70.0, 1_000),
            HostReport { name: "server".to_owned(), ..HostReport::default() },
        ];
        mark_outliers(&mut hosts);
        let remarks: Vec<_> = hosts.iter().map(|host| host.outlier.join("; ")).collect();
        assert_eq!(remarks, ["", "", "p99 1.6 x the median", "rate 0.72 x the median", ""]);
        let text = text(&hosts, Style::PLAIN);
        assert!(text.contains("  slow stands out: p99 1.6 x the median\n"), "{text}");
        let server = text.lines().find(|line| line.starts_with("  server ")).unwrap();
        assert!(server.split_whitespace().skip(1).all(|cell| cell == "-"), "{text}");
    }

    #[test]
    fn two_senders_have_nobody_to_be_compared_with() {
        let mut hosts = vec![sender("a", 100.0, 1_000), sender("b", 1.0, 100_000)];
        mark_outliers(&mut hosts);
        assert!(hosts.iter().all(|host| host.outlier.is_empty()));
    }

    #[test]
    fn missing_hosts_do_not_count_and_are_named() {
        let lost = HostReport {
            missing: Some("connection closed".to_owned()),
            ..HostReport::new("gone", 3, "10.0.0.4".to_owned(), None)
        };
        let mut hosts = vec![sender("a", 9.0, 9), sender("b", 9.0, 9), lost];
        mark_outliers(&mut hosts);
        let text = text(&hosts, Style::PLAIN);
        assert!(text.contains("  gone is missing: connection closed\n"), "{text}");
        assert_eq!(super::text(&[], Style::PLAIN), "");
    }

    #[test]
    fn medians() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(Vec::new()), 0.0);
    }
}
