//! `homa-load bench` measures every figure, and what it writes can be read.
#![cfg(all(feature = "dpdk", feature = "cli"))]

use std::path::PathBuf;
use std::process::{Command, Output};

use homa::load::bench::{BenchReport, Metric, System};

fn bench(options: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_homa-load")).arg("bench").args(options).output().unwrap()
}

/// One short round of everything. How fast it is says nothing on a busy machine; that every row has
/// windows, and that nothing was lost for good, does.
#[test]
fn every_row_has_windows() {
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("bench_smoke.json");
    let json = format!("--json={}", file.display());
    let output = bench(&["--rounds=1", "--seconds=0.3", "--no-huge", "--markdown", &json]);
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    let report: BenchReport = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(report.failures, Vec::<String>::new());
    assert_eq!(report.parameters["memory"], "no hugepages");
    let metrics: Vec<Metric> = report.comparisons.iter().map(|row| row.metric).collect();
    assert_eq!(metrics, Metric::ALL);
    let mut expected = vec![(Metric::Rtt, System::Tcp)];
    for metric in Metric::ALL {
        assert!(text.contains(metric.title()), "{metric} is not in\n{text}");
        expected.extend([(metric, System::Raw), (metric, System::Homa)]);
    }
    for (metric, system) in expected {
        let run = report.runs.iter().find(|run| (run.metric, run.system) == (metric, system));
        let windows = &run.unwrap_or_else(|| panic!("no run of {metric}, {system}")).windows;
        assert!(!windows.is_empty() && windows.len() <= 61, "{metric}, {system}: {windows:?}");
        for window in windows {
            let there_and_back = !(metric.is_large() && system == System::Raw);
            assert!(window.0 > 0.0 && (window.1 > 0.0) == there_and_back, "{metric}: {window:?}");
        }
    }
    for row in &report.comparisons {
        assert!(row.ratio.all > 0.0 && row.ratio.all.is_finite(), "{row:?}");
    }
}

#[test]
fn wrong_arguments_are_one_line_and_code_2() {
    for options in [["--only=latency"], ["--seconds=-1"], ["--rounds=many"]] {
        let output = bench(&options);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{options:?}: {errors}");
        assert_eq!(errors.trim_end().lines().count(), 1, "{errors}");
    }
    let output = bench(&["--huge", "--memory-mb=1000000"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("2000000 MB"), "{output:?}");
}
