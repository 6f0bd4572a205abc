//! Reports as tables for other programs.

use std::fmt::Write;

use super::NamedReport;

/// Latency by size: a line for each run and size class. `share_upto` is the share of the RPCs of the run
/// that are not longer than the class; slowdowns are empty where there is none.
pub fn sizes_csv(runs: &[NamedReport]) -> String {
    let mut text = String::from(
        "run,min_bytes,max_bytes,rpcs,share_upto,mean_ns,min_ns,p50_ns,p90_ns,p99_ns,p99_9_ns,max_ns,\
         slowdown_p50,slowdown_p99\n",
    );
    for NamedReport { name, report } in runs {
        let total = report.by_size.iter().map(|row| row.latency.count).sum::<u64>().max(1);
        let mut upto = 0;
        for row in &report.by_size {
            let times = &row.latency;
            upto += times.count;
            let slowdown =
                |value: Option<f64>| value.map_or_else(String::new, |s| format!("{s:.4}"));
            // Writing into a string does not fail.
            let _ = writeln!(
                text,
                "{},{},{},{},{:.6},{:.1},{},{},{},{},{},{},{},{}",
                quoted(name),
                row.min_bytes,
                row.max_bytes,
                times.count,
                upto as f64 / total as f64,
                times.mean_ns,
                times.min_ns,
                times.p50_ns,
                times.p90_ns,
                times.p99_ns,
                times.p99_9_ns,
                times.max_ns,
                slowdown(row.slowdown_p50),
                slowdown(row.slowdown_p99),
            );
        }
    }
    text
}

/// The windows: a line for each run and window. What was not recorded is empty.
pub fn windows_csv(runs: &[NamedReport]) -> String {
    let mut text =
        String::from("run,start_ns,rps,request_bps,response_bps,p50_ns,p99_ns,outstanding\n");
    for NamedReport { name, report } in runs {
        let windows = &report.windows;
        for (index, (krps, median_ns)) in windows.krps_and_median_ns.iter().enumerate() {
            let cell = |value: Option<String>| value.unwrap_or_default();
            let bps = windows.request_and_response_bps.get(index);
            let _ = writeln!(
                text,
                "{},{},{:.1},{},{},{median_ns},{},{}",
                quoted(name),
                index as u64 * windows.window_ns,
                krps * 1e3,
                cell(bps.map(|bps| format!("{:.0}", bps.0))),
                cell(bps.map(|bps| format!("{:.0}", bps.1))),
                cell(windows.p99_ns.get(index).map(u64::to_string)),
                cell(windows.outstanding.get(index).map(u32::to_string)),
            );
        }
    }
    text
}

/// A cell that may hold commas.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::report::tests::report;

    #[test]
    fn a_line_for_each_class_and_window() {
        let runs = [NamedReport { name: "a, b".into(), report: report() }];
        let sizes = sizes_csv(&runs);
        let lines: Vec<&str> = sizes.lines().collect();
        assert_eq!(lines.len(), 11);
        assert!(lines[1].starts_with("\"a, b\",53,315,10331,0.103310,"), "{}", lines[1]);
        assert!(lines[10].contains(",1.000000,"), "{}", lines[10]);
        assert_eq!(
            lines[10].split(',').count(),
            lines[0].split(',').count() + 1,
            "the comma in the name"
        );
        let windows = windows_csv(&runs);
        assert_eq!(windows.lines().count(), 201);
        let second: Vec<&str> = windows.lines().nth(2).unwrap().rsplit(',').collect();
        assert_eq!(second[6], "5000000", "{second:?}");
        assert_eq!(second[0], "", "nobody counted what was outstanding");
    }
}
