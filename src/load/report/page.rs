//! Reports as a page: one run, or several side by side.
//!
//! Runs of the same workload share charts. The order of the runs decides how their lines look; that of
//! a folder is the order of the names of the files.

use std::collections::{BTreeMap, BTreeSet};

use super::hosts::HostReport;
use super::{NamedReport, Percentiles, Report, SideReport, TotalsReport};
use crate::load::quantity::{show_bytes, show_count, show_ns, show_scaled};
use crate::report::{Bar, Bars, Page, Section, Table, Tile, Tone};

mod charts;

/// Of more runs than this, tables do not have a column for each.
const COLUMNS_MAX: usize = 4;

use charts::Group;

/// The page about some runs.
pub fn page(title: &str, runs: &[NamedReport]) -> Page {
    let mut page = Page { title: title.to_owned(), text: vec![summary(runs)], ..Page::default() };
    let groups = groups(runs);
    match runs {
        [run] => page.tiles = vec![(String::new(), tiles(&run.report))],
        _ => page.sections.push(overview(&groups)),
    }
    for group in &groups {
        page.sections.extend(group.sections());
    }
    page.sections.extend(runs.iter().enumerate().filter_map(|(style, run)| hosts(run, style)));
    page.sections.extend(cores(runs));
    page.sections.push(trouble(runs));
    page.sections.extend(configuration(runs));
    if runs.len() > COLUMNS_MAX {
        let of_group = |group: &Group<'_>| counters(&group.heading("counters"), &group.runs);
        page.sections.extend(groups.iter().filter_map(of_group));
    } else {
        page.sections.extend(counters("Counters", &runs.iter().collect::<Vec<_>>()));
    }
    page
}

/// Runs of the same workload, with the first run of each in order.
fn groups(runs: &[NamedReport]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for run in runs {
        let classes = |report: &Report| -> Vec<u32> {
            report.by_size.iter().map(|row| row.max_bytes).collect()
        };
        let like = groups.iter_mut().find(|group| {
            let first = &group.runs[0].report;
            first.config.workload == run.report.config.workload
                && classes(first) == classes(&run.report)
        });
        match like {
            Some(group) => group.runs.push(run),
            None => groups.push(Group { runs: vec![run] }),
        }
    }
    groups
}

fn summary(runs: &[NamedReport]) -> String {
    let machines: Vec<String> =
        distinct(runs.iter().map(|run| run.report.machine.to_string())).collect();
    let on = match &machines[..] {
        [one] => format!("on {one}"),
        several => format!("on {} kinds of machines", several.len()),
    };
    match runs {
        [run] => {
            let Report { config, .. } = &run.report;
            format!("{}, {}, {on}.", config.workload, config.load)
        }
        _ => format!("{} runs {on}. Times count from when an RPC was due.", runs.len()),
    }
}

fn distinct(values: impl Iterator<Item = String>) -> impl Iterator<Item = String> {
    let mut seen = Vec::new();
    values.filter(move |value| {
        let is_new = !seen.contains(value);
        if is_new {
            seen.push(value.clone());
        }
        is_new
    })
}

/// Failures of any kind, wrong bytes, and RPCs of which nothing is known.
fn failures(totals: &TotalsReport) -> u64 {
    totals.failed.values().sum::<u64>() + totals.corrupted + totals.lost
}

fn tiles(report: &Report) -> Vec<Tile> {
    let tile = |name: &str, value: String, note: String| Tile {
        name: name.to_owned(),
        value,
        note,
        tone: Tone::Plain,
    };
    let latency = &report.latency;
    let time = |ns: u64| shown_time(latency, ns);
    let failed = failures(&report.totals);
    let (value, note) = match (failed, report.totals.never_sent) {
        (0, 0) => ("none".to_owned(), "failed, lost, corrupted".to_owned()),
        (0, unsent) => (show_count(unsent), "due and never sent".to_owned()),
        (failed, _) => (show_count(failed), "RPCs failed, lost or corrupted".to_owned()),
    };
    let tone = if value == "none" { Tone::Good } else { Tone::Bad };
    vec![
        tile(
            "Rate",
            format!("{}RPC/s", show_scaled(report.rates.rps)),
            format!("{} completed", show_count(report.totals.completed)),
        ),
        tile(
            "Requests",
            format!("{}bps", show_scaled(report.rates.request_bps)),
            "payload sent".into(),
        ),
        tile(
            "Responses",
            format!("{}bps", show_scaled(report.rates.response_bps)),
            "payload received".into(),
        ),
        tile("Median", time(latency.p50_ns), "RPC time from when it was due".into()),
        tile("99 %", time(latency.p99_ns), "are not slower".into()),
        tile("99.9 %", time(latency.p99_9_ns), format!("longest {}", time(latency.max_ns))),
        Tile { name: "Trouble".into(), value, note, tone },
    ]
}

fn shown_time(times: &Percentiles, ns: u64) -> String {
    if times.count == 0 { "–".to_owned() } else { show_ns(ns as f64) }
}

/// A line for each run, by workload.
fn overview(groups: &[Group<'_>]) -> Section {
    let head = [
        "run",
        "workload",
        "load",
        "RPC/s",
        "requests",
        "responses",
        "p50",
        "p99",
        "p99.9",
        "longest",
        "failed",
    ];
    let row = |NamedReport { name, report }: &&NamedReport| {
        let time = |ns| shown_time(&report.latency, ns);
        vec![
            name.clone(),
            short_workload(report),
            short_load(&report.config.load),
            show_scaled(report.rates.rps).trim().to_owned(),
            format!("{}bps", show_scaled(report.rates.request_bps)),
            format!("{}bps", show_scaled(report.rates.response_bps)),
            time(report.latency.p50_ns),
            time(report.latency.p99_ns),
            time(report.latency.p99_9_ns),
            time(report.latency.max_ns),
            show_count(failures(&report.totals)),
        ]
    };
    Section {
        heading: "Runs".into(),
        table: Some(Table {
            head: head.map(String::from).to_vec(),
            rows: groups.iter().flat_map(|group| &group.runs).map(row).collect(),
        }),
        ..Section::default()
    }
}

fn short_workload(report: &Report) -> String {
    let name = report.config.workload.split([' ', ',']).next().unwrap_or_default();
    match name.strip_prefix("fixed:").and_then(|bytes| bytes.parse::<u32>().ok()) {
        Some(bytes) => show_bytes(bytes.into()),
        None if name.is_empty() => "–".to_owned(),
        None => name.to_uppercase(),
    }
}

fn short_load(load: &str) -> String {
    load.split(", at most").next().unwrap_or(load).to_owned()
}

/// How busy the cores were, and what else the sides say, of the runs that measured it.
fn cores(runs: &[NamedReport]) -> Option<Section> {
    let (mut bars, mut rows) = (Vec::new(), Vec::new());
    for (style, NamedReport { name, report }) in runs.iter().enumerate() {
        let mut of_run = Vec::new();
        for side in &report.sides {
            of_run.extend(side.cores.iter().map(|core| Bar {
                name: format!("{}, CPU {}", side.name, core.name),
                value: core.busy_share(),
                label: format!("{:.0} % busy", core.busy_share() * 100.0),
                style,
            }));
            rows.push(side_row(name, side));
        }
        if !of_run.is_empty() {
            bars.push(Bars {
                title: if runs.len() == 1 { "Load of the cores".into() } else { name.clone() },
                note: "share of the time spent on packets, RPCs and timers, not on polling".into(),
                full: 1.0,
                bars: of_run,
            });
        }
    }
    let head = [
        "run",
        "side",
        "cycles per RPC",
        "RESENDs sent",
        "received",
        "GRANTs sent",
        "received",
        "bytes sent again",
        "priorities used",
        "buffers held at most",
    ];
    let table = Table { head: head.map(String::from).to_vec(), rows };
    let heading = "Cores, and what the protocol did".into();
    let is_known = !table.rows.is_empty();
    is_known.then(|| Section { heading, bars, table: Some(table), ..Section::default() })
}

fn side_row(run: &str, side: &SideReport) -> Vec<String> {
    let cycles = side.cycles_per_rpc();
    vec![
        run.to_owned(),
        side.name.clone(),
        cycles.map_or_else(|| "–".to_owned(), |cycles| show_count(cycles as u64)),
        show_count(side.resends.0),
        show_count(side.resends.1),
        show_count(side.grants.0),
        show_count(side.grants.1),
        show_count(side.bytes_resent),
        side.priorities_used().to_string(),
        show_count(side.retained_packets_peak),
    ]
}

/// Hosts of a run on several, where the runs have some.
fn hosts(NamedReport { name, report }: &NamedReport, style: usize) -> Option<Section> {
    if report.hosts.is_empty() {
        return None;
    }
    let senders = || report.hosts.iter().filter(|host| host.sent.is_some());
    let bars =
        |title: &str, note: &str, value: fn(&HostReport) -> f64, label: fn(f64) -> String| Bars {
            title: title.to_owned(),
            note: note.to_owned(),
            full: senders().map(value).fold(0.0, f64::max),
            bars: senders()
                .map(|host| Bar {
                    name: host.name.clone(),
                    value: value(host),
                    label: label(value(host)),
                    style,
                })
                .collect(),
        };
    let rate = |value: f64| format!("{}RPC/s", show_scaled(value));
    let remarks = report.hosts.iter().flat_map(|host| {
        let missing = host.missing.iter().map(|why| format!("{} is missing: {why}.", host.name));
        let outlier = host.outlier.iter().map(|what| format!("{} stands out: {what}.", host.name));
        missing.chain(outlier)
    });
    Some(Section {
        heading: format!("{name}: hosts"),
        text: remarks.collect(),
        bars: vec![
            bars("Rate by host", "RPCs completed per second", |host| host.rps, rate),
            bars(
                "RPC time by host, 99th percentile",
                "from when an RPC was due",
                |host| host.latency.p99_ns as f64,
                show_ns,
            ),
        ],
        table: Some(host_table(&report.hosts)),
        ..Section::default()
    })
}

fn host_table(hosts: &[HostReport]) -> Table {
    let head = [
        "host",
        "address",
        "sent",
        "completed",
        "trouble",
        "RPC/s",
        "payload",
        "p50",
        "p99",
        "latest send",
        "served",
    ];
    let row = |host: &HostReport| {
        let sent = |text: String| if host.sent.is_some() { text } else { "–".to_owned() };
        vec![
            host.name.clone(),
            host.address.clone(),
            sent(show_count(host.sent.unwrap_or(0))),
            sent(show_count(host.completed)),
            sent(show_count(host.trouble)),
            sent(show_scaled(host.rps).trim().to_owned()),
            sent(format!("{}bps", show_scaled(host.bps))),
            shown_time(&host.latency, host.latency.p50_ns),
            shown_time(&host.latency, host.latency.p99_ns),
            sent(format!("{} late", show_ns(host.lag_ns_max as f64))),
            host.served.map_or_else(|| "–".to_owned(), |served| show_count(served.requests)),
        ]
    };
    Table { head: head.map(String::from).to_vec(), rows: hosts.iter().map(row).collect() }
}

/// Everything that should be zero, also when it is.
fn trouble(runs: &[NamedReport]) -> Section {
    let kinds: Vec<String> = distinct(
        runs.iter().flat_map(|run| run.report.totals.failed.keys().map(|kind| kind.to_owned())),
    )
    .collect();
    let mut head: Vec<String> = ["run", "due and sent", "completed"].map(String::from).to_vec();
    head.extend(kinds.iter().map(|kind| format!("failed: {kind}")));
    if kinds.is_empty() {
        head.push("failed".into());
    }
    head.extend(
        [
            "corrupted",
            "lost",
            "never sent",
            "answered twice",
            "held by the limit",
            "refused",
            "latest send",
        ]
        .map(String::from),
    );
    let row = |NamedReport { name, report }: &NamedReport| {
        let totals = &report.totals;
        let mut cells = vec![name.clone(), show_count(totals.sent), show_count(totals.completed)];
        cells.extend(
            kinds.iter().map(|kind| show_count(totals.failed.get(kind).copied().unwrap_or(0))),
        );
        if kinds.is_empty() {
            cells.push("0".into());
        }
        let counts = [
            totals.corrupted,
            totals.lost,
            totals.never_sent,
            totals.stale,
            totals.held,
            totals.refused,
        ];
        cells.extend(counts.map(show_count));
        cells.push(format!("{} late", show_ns(totals.lag_ns_max as f64)));
        cells
    };
    let failed: u64 = runs.iter().map(|run| failures(&run.report.totals)).sum();
    let unsent: u64 = runs.iter().map(|run| run.report.totals.never_sent).sum();
    let text = match (failed, unsent) {
        (0, 0) => "Every RPC that was due was sent and answered.".to_owned(),
        (failed, unsent) => format!(
            "{} RPCs failed, were lost or came back with wrong bytes; {} were due and never sent.",
            show_count(failed),
            show_count(unsent)
        ),
    };
    Section {
        heading: "Totals and trouble".into(),
        text: vec![text],
        table: Some(Table { head, rows: runs.iter().map(row).collect() }),
        ..Section::default()
    }
}

/// Counters that are not zero in any run: a line for each, a column for each side of each run.
fn counters(heading: &str, runs: &[&NamedReport]) -> Option<Section> {
    const SERVER: &str = "server_";
    let bare = |name: &'_ str| -> String { name.strip_prefix(SERVER).unwrap_or(name).to_owned() };
    let all = || runs.iter().flat_map(|run| run.report.counters.iter().filter(|c| *c.1 > 0));
    let names: BTreeSet<String> = all().map(|(name, _)| bare(name)).collect();
    let has_server = all().any(|(name, _)| name.starts_with(SERVER));
    if names.is_empty() {
        return None;
    }
    let mut head = vec!["counter".to_owned()];
    for run in runs {
        if has_server {
            head.extend(["client", "server"].map(|side| format!("{} {side}", run.name)));
        } else {
            head.push(run.name.clone());
        }
    }
    let row = |name: &String| {
        let mut cells = vec![name.clone()];
        for run in runs {
            let value = |name: &str| {
                let count = run.report.counters.get(name);
                count.map_or_else(|| "–".to_owned(), |&count| show_count(count))
            };
            cells.push(value(name));
            cells.extend(has_server.then(|| value(&format!("{SERVER}{name}"))));
        }
        cells
    };
    Some(Section {
        heading: heading.to_owned(),
        text: vec!["Of loop, network stack and transport, warm-up included.".into()],
        table: Some(Table { head, rows: names.iter().map(row).collect() }),
        ..Section::default()
    })
}

/// Settings and machine: what is alike in all runs once, what differs beside each other.
fn configuration(runs: &[NamedReport]) -> Vec<Section> {
    let all: Vec<BTreeMap<String, String>> = runs.iter().map(|run| settings(&run.report)).collect();
    let names: BTreeSet<&String> = all.iter().flat_map(BTreeMap::keys).collect();
    let value = |of: &BTreeMap<String, String>, name: &String| -> String {
        of.get(name).filter(|text| !text.is_empty()).cloned().unwrap_or_else(|| "–".to_owned())
    };
    let (alike, different): (Vec<&String>, Vec<&String>) = names
        .into_iter()
        .partition(|name| all.iter().all(|of| value(of, name) == value(&all[0], name)));
    let mut sections = Vec::new();
    if !different.is_empty() {
        let head = std::iter::once(String::new()).chain(runs.iter().map(|run| run.name.clone()));
        let row = |name: &&String| {
            std::iter::once((*name).clone()).chain(all.iter().map(|of| value(of, name))).collect()
        };
        let rows = different.iter().map(row).collect();
        let by_setting = Table { head: head.collect(), rows };
        let is_wide = runs.len() > COLUMNS_MAX;
        sections.push(Section {
            heading: "Configuration: what differs".into(),
            facts: Some(if is_wide { by_setting.turned() } else { by_setting }),
            ..Section::default()
        });
    }
    let row = |name: &&String| vec![(*name).clone(), value(&all[0], name)];
    let heading =
        if different.is_empty() { "Configuration" } else { "Configuration: what is alike" };
    sections.push(Section {
        heading: heading.into(),
        facts: Some(Table {
            head: vec!["setting".into(), "value".into()],
            rows: alike.iter().map(row).collect(),
        }),
        ..Section::default()
    });
    sections
}

/// Everything that decides the result, by name.
fn settings(report: &Report) -> BTreeMap<String, String> {
    let config = &report.config;
    let mut settings: BTreeMap<String, String> = config.parameters.clone();
    let mut workload =
        format!("{}, mean {}", config.workload, show_bytes(config.workload_mean_bytes));
    if let Some(cut) = config.cut {
        workload += &format!("; {:.2} % of the requests were longer", cut.message_share * 100.0);
    }
    let mut set = |name: &str, value: String| settings.insert(name.to_owned(), value);
    set("run", config.title.clone());
    set("port", config.port.clone());
    set("workload", workload);
    set("load", config.load.clone());
    set("measured", show_ns(report.totals.measured_ns as f64));
    set("warm-up", show_ns(config.warm_up_ns as f64));
    set("shards", config.shards.to_string());
    set("seed", config.seed.to_string());
    set("machine", report.machine.to_string());
    set("slowdown", report.slowdown_definition.clone());
    settings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::report::CoreReport;
    use crate::load::report::tests::report;

    fn named(name: &str) -> NamedReport {
        NamedReport { name: name.to_owned(), report: report() }
    }

    #[test]
    fn one_run_has_tiles_charts_and_its_configuration() {
        let page = page("A run", &[named("homa")]);
        let [(_, tiles)] = &page.tiles[..] else { panic!("{:?}", page.tiles) };
        let trouble = tiles.last().unwrap();
        assert_eq!((trouble.value.as_str(), trouble.tone), ("9", Tone::Bad));
        let html = page.html();
        for part in [
            "Slowdown by size, median",
            "RPC time: how many took longer",
            "Throughput over time",
            "Test CPU, 2 cores, Linux 6.1.0-test",
            "resends_sent",
            "RPC time / time of that size when idle",
        ] {
            assert!(html.contains(part), "{part}");
        }
        assert!(!html.contains("Load of the cores"), "not measured, not shown");
        assert!(!html.contains("NaN") && !html.contains("<script"));
    }

    #[test]
    fn runs_of_one_workload_share_charts_and_others_do_not() {
        let mut other = named("other");
        other.report.config.workload = "w9".into();
        let mut tcp = named("tcp");
        tcp.report.config.port = "kernel".into();
        tcp.report.sides = vec![SideReport {
            name: "client".into(),
            cores: vec![CoreReport { name: "3".into(), busy_ns: 1, total_ns: 2 }],
            rpcs: 10,
            busy_cycles: 12_345,
            ..SideReport::default()
        }];
        let runs = [named("homa"), other, tcp];
        let found = groups(&runs);
        let names: Vec<Vec<&str>> = found
            .iter()
            .map(|group| group.runs.iter().map(|run| run.name.as_str()).collect())
            .collect();
        assert_eq!(names, [vec!["homa", "tcp"], vec!["other"]]);
        let page = page("Three", &runs);
        assert!(page.tiles.is_empty());
        let html = page.html();
        for part in
            ["client, CPU 3", "50 % busy", "1,234", "Configuration: what differs", "3 runs on"]
        {
            assert!(html.contains(part), "{part}");
        }
        let differing =
            page.sections.iter().find(|part| part.heading.ends_with("what differs")).unwrap();
        let rows: Vec<&str> =
            differing.facts.as_ref().unwrap().rows.iter().map(|row| row[0].as_str()).collect();
        assert_eq!(rows, ["port", "workload"]);
    }

    #[test]
    fn hosts_have_their_part_and_missing_ones_are_named() {
        let mut run = named("all");
        run.report.hosts = vec![
            HostReport::new("one", 0, "10.0.0.1".into(), Some(&report())),
            HostReport {
                missing: Some("it was silent".into()),
                ..HostReport::new("two", 1, String::new(), None)
            },
        ];
        let html = page("Hosts", &[run]).html();
        for part in ["all: hosts", "two is missing: it was silent.", "Rate by host", "10.0.0.1"] {
            assert!(html.contains(part), "{part}");
        }
    }

    #[test]
    fn a_run_without_answers_is_a_page_too() {
        let mut nothing = named("none");
        nothing.report.by_size.iter_mut().for_each(|row| {
            row.histogram.clear();
            row.latency = Percentiles::default();
            (row.slowdown_p50, row.slowdown_p99) = (None, None);
        });
        nothing.report.latency = Percentiles::default();
        nothing.report.windows = Default::default();
        let html = page("Nothing", &[nothing]).html();
        assert!(html.contains("nothing was measured") && !html.contains("NaN"));
    }
}
