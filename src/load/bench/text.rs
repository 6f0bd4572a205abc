//! A benchmark as text and as Markdown.

use super::metric::times;
use super::{BenchReport, Comparison, Known};
use crate::load::report::Machine;
use crate::load::table::{Align, Style, Table, field};
use crate::load::windows::{Better, Split, Summary};

/// Rows of one comparison: the part's name, raw, measured, ratio, goal and best system known.
struct Row {
    part: &'static str,
    raw: Summary,
    measured: Summary,
    ratio: Option<f64>,
    goal: Option<f64>,
    best: Option<f64>,
}

pub(super) fn report(report: &BenchReport, style: Style) -> String {
    let mut text = format!("{}  {}\n", style.title("homa-bench"), report.title);
    text += &field(style, "machine", &machine(&report.machine));
    for (name, value) in &report.parameters {
        text += &field(style, name, value);
    }
    for failure in &report.failures {
        text += &field(style, "failed", &style.bad(failure));
    }
    report.comparisons.iter().fold(text, |text, comparison| text + &render(comparison, style))
}

fn machine(machine: &Machine) -> String {
    let Machine { cpu, cores, kernel } = machine;
    format!("{cpu}, {cores} cores, Linux {kernel}")
}

fn render(comparison: &Comparison, style: Style) -> String {
    let (left, right) = (Align::Left, Align::Right);
    let mut table = Table::new(&[
        ("", left),
        ("windows", right),
        ("raw", right),
        ("[2-98%]", left),
        ("measured", right),
        ("[2-98%]", left),
        ("ratio", right),
        ("goal", right),
        ("best known", right),
        ("", left),
    ]);
    for row in rows(comparison) {
        table.row(vec![
            row.part.to_owned(),
            row.measured.windows.to_string(),
            figure(row.raw.median),
            range(row.raw),
            figure(row.measured.median),
            range(row.measured),
            or_dash(row.ratio),
            row.goal.map_or_else(|| "-".to_owned(), |goal| bar(comparison, goal)),
            or_dash(row.best),
            verdict(comparison, &row).to_owned(),
        ]);
    }
    let mut text = format!("\n{}\n", style.title(comparison.metric.title()));
    text += &field(style, "how", &comparison.detail);
    text += &table.render(style);
    if let Some(tcp) = tcp(comparison) {
        text += &field(style, "kernel TCP", &tcp);
    }
    let known: Vec<String> = comparison.metric.known().iter().map(Known::to_string).collect();
    text + &field(style, "known", &format!("near / far: {}", known.join("; ")))
}

/// Near and far where both can be split, and all.
fn rows(comparison: &Comparison) -> Vec<Row> {
    let (goal, best) = (comparison.metric.goal(), comparison.metric.known().first());
    let ratio = comparison.ratio;
    let mut rows = Vec::new();
    let parts = comparison.raw.parts.zip(comparison.measured.parts);
    if let Some((raw, measured)) = parts {
        rows.push(Row {
            part: "near",
            raw: raw.near,
            measured: measured.near,
            ratio: ratio.near,
            goal: Some(goal.near),
            best: best.map(|best| best.near),
        });
        rows.push(Row {
            part: "far",
            raw: raw.far,
            measured: measured.far,
            ratio: ratio.far,
            goal: Some(goal.far),
            best: best.map(|best| best.far),
        });
    }
    rows.push(Row {
        part: if parts.is_some() { "all" } else { "one" },
        raw: comparison.raw.all,
        measured: comparison.measured.all,
        ratio: Some(ratio.all),
        goal: None,
        best: None,
    });
    rows
}

fn verdict(comparison: &Comparison, row: &Row) -> &'static str {
    row.ratio.zip(row.goal).map_or("-", |(ratio, goal)| {
        if comparison.metric.meets(ratio, goal) { "met" } else { "missed" }
    })
}

/// `<= 1.50x`.
fn bar(comparison: &Comparison, goal: f64) -> String {
    let sign = if comparison.metric.better() == Better::Lower { "<=" } else { ">=" };
    format!("{sign} {}", times(goal))
}

fn or_dash(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "-".to_owned(), times)
}

/// What the kernel's TCP needs, and how many times as much that is.
fn tcp(comparison: &Comparison) -> Option<String> {
    let (tcp, ratio) = (comparison.tcp?, comparison.ratio_of_tcp()?);
    let times = match ratio.near.zip(ratio.far) {
        Some((near, far)) => format!("{near:.1} / {far:.1}"),
        None => format!("{:.1}", ratio.all),
    };
    Some(format!("{} ns, {times} times as long as measured", near_far(&tcp)))
}

/// `11000 / 18300 [9300-20000]`, or one median.
fn near_far(split: &Split) -> String {
    let median = match split.parts {
        Some(parts) => format!("{} / {}", figure(parts.near.median), figure(parts.far.median)),
        None => figure(split.all.median),
    };
    format!("{median} {}", range(split.all))
}

fn range(of: Summary) -> String {
    format!("[{}-{}]", figure(of.p2), figure(of.p98))
}

/// A figure of a window: whole from 100 up, else three digits.
fn figure(value: f64) -> String {
    match value {
        v if v >= 99.95 => format!("{v:.0}"),
        v if v >= 9.995 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

pub(super) fn markdown(report: &BenchReport) -> String {
    let mut text = format!("- machine: {}\n", machine(&report.machine));
    for (name, value) in &report.parameters {
        text += &format!("- {name}: {value}\n");
    }
    text += "\n| | windows | raw [2-98%] | measured [2-98%] | ratio | goal | best known | |\n";
    text += "|---|---|---|---|---|---|---|---|\n";
    for comparison in &report.comparisons {
        // A mixture of placements says nothing where they can be told apart.
        for row in rows(comparison).iter().filter(|row| row.part != "all") {
            let cells = [
                format!("{}: {}", comparison.metric.title(), row.part),
                row.measured.windows.to_string(),
                format!("{} {}", figure(row.raw.median), range(row.raw)),
                format!("{} {}", figure(row.measured.median), range(row.measured)),
                or_dash(row.ratio),
                row.goal.map_or_else(|| "-".to_owned(), |goal| bar(comparison, goal)),
                or_dash(row.best),
                verdict(comparison, row).to_owned(),
            ];
            text += &format!("| {} |\n", cells.join(" | "));
        }
    }
    for comparison in &report.comparisons {
        text += &format!("\n{}: {}.", comparison.metric.title(), comparison.detail);
        if let Some(tcp) = tcp(comparison) {
            text += &format!(" Kernel TCP: {tcp}.");
        }
        text.push('\n');
    }
    for failure in &report.failures {
        text += &format!("\nFailed: {failure}.\n");
    }
    text
}
