//! A report for people.

use super::{Percentiles, Report, SideReport, TotalsReport, hosts};
use crate::load::quantity::{show_bytes, show_count, show_ns, show_scaled};
use crate::load::table::{Align, Style, Table, bar, field};

const BAR_CELLS: usize = 10;

impl Report {
    /// The report as text for a terminal, at most [`crate::load::table::COLUMNS`] wide.
    pub fn render(&self, style: Style) -> String {
        let mut text = self.header(style);
        text += &self.totals_text(style);
        text += &self.latency_text(style);
        text += &self.sizes_text(style);
        text += &hosts::text(&self.hosts, style);
        text
    }

    fn header(&self, style: Style) -> String {
        let config = &self.config;
        let mut text = format!("{}  {}\n", style.title("homa-load"), config.title);
        text += &field(style, "port", &config.port);
        let mut workload =
            format!("{}, mean {}", config.workload, show_bytes(config.workload_mean_bytes));
        if let Some(cut) = config.cut {
            workload += &format!(
                "; {:.2}% of the requests were longer (mean {})",
                cut.message_share * 100.0,
                show_bytes(cut.mean_before_bytes)
            );
        }
        text += &field(style, "workload", &workload);
        text += &field(style, "load", &config.load);
        let plural = if config.shards == 1 { "" } else { "s" };
        text += &field(
            style,
            "duration",
            &format!(
                "{} measured after {} of warm-up, {} shard{plural}, seed {}",
                show_ns(self.totals.measured_ns as f64),
                show_ns(config.warm_up_ns as f64),
                config.shards,
                config.seed
            ),
        );
        for (name, value) in &config.parameters {
            text += &field(style, name, value);
        }
        text + &field(style, "machine", &self.machine.to_string())
    }

    fn totals_text(&self, style: Style) -> String {
        let totals = &self.totals;
        let rpcs =
            format!("{} sent, {} completed", show_count(totals.sent), show_count(totals.completed));
        let rate = format!(
            "{}RPC/s, requests {}bps, responses {}bps",
            show_scaled(self.rates.rps),
            show_scaled(self.rates.request_bps),
            show_scaled(self.rates.response_bps)
        );
        let plan = format!(
            "sent at most {} late; {} held by the limit, {} refused by the transport; at most {} under \
             way, {} left over at the end",
            show_ns(totals.lag_ns_max as f64),
            show_count(totals.held),
            show_count(totals.refused),
            show_count(totals.outstanding_peak),
            show_count(totals.backlog)
        );
        let mut text = format!("\n{}\n", style.title("totals"));
        text += &field(style, "RPCs", &rpcs);
        text += &field(style, "trouble", &trouble(totals, style));
        text += &field(style, "rate", &rate);
        text += &field(style, "plan", &plan);
        for side in &self.sides {
            text += &field(style, &side.name, &cost(side));
        }
        let counters = self.counters.iter().filter(|(_, count)| **count > 0);
        let counters: Vec<String> =
            counters.map(|(name, count)| format!("{name} {}", show_count(*count))).collect();
        if !counters.is_empty() {
            text += &field(style, "counters", &counters.join(", "));
        }
        text
    }

    fn latency_text(&self, style: Style) -> String {
        let right = Align::Right;
        let mut table = Table::new(&[
            ("from", Align::Left),
            ("mean", right),
            ("min", right),
            ("p50", right),
            ("p90", right),
            ("p99", right),
            ("p99.9", right),
            ("max", right),
        ]);
        let times = [
            ("planned time", &self.latency),
            ("real send", &self.service),
            ("plan to send", &self.lag),
        ];
        for (name, times) in times {
            let ns = |ns: u64| time(times, ns as f64);
            table.row(vec![
                name.to_owned(),
                time(times, times.mean_ns),
                ns(times.min_ns),
                ns(times.p50_ns),
                ns(times.p90_ns),
                ns(times.p99_ns),
                ns(times.p99_9_ns),
                ns(times.max_ns),
            ]);
        }
        format!("\n{}\n{}", style.title("latency"), table.render(style))
    }

    fn sizes_text(&self, style: Style) -> String {
        let right = Align::Right;
        let mut table = Table::new(&[
            ("request", right),
            ("RPCs", right),
            ("p50", right),
            ("p99", right),
            ("p99.9", right),
            ("max", right),
            ("slow50", right),
            ("slow99", right),
            ("", Align::Bar),
        ]);
        let slowest =
            self.by_size.iter().filter_map(|row| row.slowdown_p99).fold(0.0, f64::max).max(1.0);
        for row in &self.by_size {
            let times = &row.latency;
            let ns = |ns: u64| time(times, ns as f64);
            table.row(vec![
                range(row.min_bytes, row.max_bytes),
                show_count(times.count),
                ns(times.p50_ns),
                ns(times.p99_ns),
                ns(times.p99_9_ns),
                ns(times.max_ns),
                slowdown(row.slowdown_p50),
                slowdown(row.slowdown_p99),
                row.slowdown_p99.map_or_else(String::new, |s| bar(s / slowest, BAR_CELLS)),
            ]);
        }
        format!(
            "\n{}\n{}\n{}",
            style.title("latency by size"),
            style.faint(&format!("  slowdown = {}", self.slowdown_definition)),
            table.render(style)
        )
    }
}

/// What a run cost one side.
fn cost(side: &SideReport) -> String {
    let busy = side.cores.iter().map(|core| {
        let cpu = if core.name.is_empty() { "core" } else { "CPU" };
        let busy = core.busy_share() * 100.0;
        format!("{cpu} {}: {busy:.1}% busy", core.name).replace(" :", ":")
    });
    let mut parts: Vec<String> = busy.collect();
    if let Some(cycles) = side.cycles_per_rpc() {
        parts.push(format!("{} cycles per RPC", show_count(cycles.round() as u64)));
    }
    let packets = [("grants", side.grants), ("resends", side.resends), ("busy", side.busys)];
    for (name, (sent, received)) in packets.iter().filter(|packets| packets.1 != (0, 0)) {
        parts.push(format!("{name} {} out {} in", show_count(*sent), show_count(*received)));
    }
    if side.bytes_resent > 0 {
        parts.push(format!("{} sent again", show_bytes(side.bytes_resent as f64)));
    }
    let bytes = side.sent_bytes_by_priority.iter().sum::<u64>().max(1) as f64;
    let used = side.sent_bytes_by_priority.iter().enumerate().filter(|level| *level.1 > 0);
    let used: Vec<String> = used
        .map(|(level, &sent)| format!("{level} ({:.1}%)", sent as f64 / bytes * 100.0))
        .collect();
    if !used.is_empty() {
        parts.push(format!("priorities {}", used.join(" ")));
    }
    // Sockets have none.
    if side.retained_packets_peak > 0 {
        parts.push(format!("at most {} buffers held", show_count(side.retained_packets_peak)));
    }
    parts.join(", ")
}

/// Everything that should be zero, shown also when it is.
fn trouble(totals: &TotalsReport, style: Style) -> String {
    let failures = totals.failed.values().sum();
    let mut kinds = Vec::new();
    for (kind, count) in &totals.failed {
        kinds.push(format!("{} {kind}", show_count(*count)));
    }
    let counts = [
        (failures, "failed"),
        (totals.corrupted, "corrupted"),
        (totals.lost, "lost"),
        (totals.never_sent, "never sent"),
        (totals.stale, "answered twice"),
    ];
    let mut parts: Vec<String> =
        counts.iter().map(|(count, name)| format!("{} {name}", show_count(*count))).collect();
    if !kinds.is_empty() {
        parts[0] += &format!(" ({})", kinds.join(", "));
    }
    let clean = counts.iter().all(|(count, _)| *count == 0);
    let painted = parts.iter().zip(counts).map(|(part, (count, _))| match (clean, count) {
        (true, _) => style.good(part),
        (false, 0) => part.clone(),
        (false, _) => style.bad(part),
    });
    painted.collect::<Vec<_>>().join(", ")
}

/// A time of `times`, `-` when nothing was counted.
fn time(times: &Percentiles, ns: f64) -> String {
    if times.count == 0 { "-".to_owned() } else { show_ns(ns) }
}

fn slowdown(slowdown: Option<f64>) -> String {
    match slowdown {
        None => "-".to_owned(),
        Some(s) if s < 9.995 => format!("{s:.2}"),
        Some(s) if s < 99.95 => format!("{s:.1}"),
        Some(s) => show_scaled(s).replace(' ', ""),
    }
}

fn range(min_bytes: u32, max_bytes: u32) -> String {
    let (min, max) = (show_bytes(min_bytes.into()), show_bytes(max_bytes.into()));
    if min_bytes == max_bytes { max } else { format!("{min} – {max}") }
}
