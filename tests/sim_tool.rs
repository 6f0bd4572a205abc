//! The command line of homa-sim, from outside.
#![cfg(feature = "cli")]

use std::path::PathBuf;
use std::process::{Command, Output};

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("homa-sim-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.0.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn homa_sim(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_homa-sim")).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn results_become_a_page_and_pictures() {
    let folder = Folder::new("report");
    let incast = homa_sim(&["incast", "--rpcs", "5,40", "--rounds", "1", "--out", folder.path()]);
    assert!(incast.status.success(), "{}", text(&incast.stderr));
    assert!(text(&incast.stdout).contains("without incast control"));
    let run = ["run", "--workload", "w2", "--time", "100us", "--out", folder.path()];
    let run = homa_sim(&run);
    assert!(run.status.success(), "{}", text(&run.stderr));
    assert!(text(&run.stdout).starts_with("workload,protocol,load_label"));
    let report = homa_sim(&["report", folder.path()]);
    assert!(report.status.success(), "{}", text(&report.stderr));
    let page = text(&folder.read("report.html"));
    assert!(page.contains("W2 at 80 %") && page.contains("Incast"), "{page}");
    // Slowdown twice, queues, goodput; and goodput of the incast.
    assert_eq!(page.matches("<svg").count(), 5);
    assert!(text(&folder.read("w2-0.8-p99.svg")).contains("Homa (paper)"));
}

#[test]
fn ablation_names_each_setting_and_its_figures() {
    let small = "network.hosts_per_rack=2";
    let ablate = homa_sim(&["ablate", "--workload", "w2", "--time", "50us", "--set", small]);
    assert!(ablate.status.success(), "{}", text(&ablate.stderr));
    let table = text(&ablate.stdout);
    for line in ["W2: all as set", "W2: order: product", "W2: no grant hysteresis"] {
        assert!(table.contains(line), "{line} in {table}");
    }
}

#[test]
fn the_benchmark_tells_both_times() {
    let bench = homa_sim(&["bench", "--workload", "w2", "--time", "100us"]);
    assert!(bench.status.success(), "{}", text(&bench.stderr));
    let lines = text(&bench.stdout);
    for word in ["packet-hops, ", "CPU time ", "wall time "] {
        assert!(lines.contains(word), "{word} in {lines}");
    }
}

#[test]
fn wrong_arguments_are_named_and_end_with_2() {
    for (args, word) in [
        (vec!["run", "--set", "homa.no_such=1"], "no_such"),
        (vec!["run", "--set", "homa.overcommit_max=9", "--time", "1us"], "overcommit_max is 9"),
        (vec!["run", "--set", "nowhere"], "NAME=VALUE"),
        (vec!["run", "--set", "homa.num_priorities=99"], "num_priorities is 99"),
        (vec!["run", "--set", "network.hosts_per_rack=0"], "hosts is 0"),
        (vec!["run", "--load", "3"], "up to 1"),
        (vec!["run", "--load", "nan"], "up to 1"),
        (vec!["run", "--load", "0"], "up to 1"),
        (vec!["run", "--gbps", "11"], "11.000 Gbps, and its link carries 10"),
        (vec!["run", "--rps", "100M"], "its link carries 10"),
        (vec!["run", "--time", "0s"], "measure_ns is 0"),
        (vec!["run", "--time", "100000000s"], "measure_ns is 1"),
        (vec!["run", "--out", "/proc/none"], "/proc/none: cannot keep results"),
        (vec!["run", "--csv", "/proc/none/x"], "/proc/none/x"),
        (vec!["compare", "--workload", "w9"], "w9"),
        (vec!["compare", "--runs", "0"], "from 1 on"),
        (vec!["compare", "--out", "/proc/none"], "/proc/none"),
        (vec!["ablate", "--load", "1.5"], "up to 1"),
        (vec!["ablate", "--out", "/proc/none"], "/proc/none"),
        (vec!["bench", "--load", "inf"], "up to 1"),
        (vec!["incast", "--rpcs", "0"], "from 1 to"),
        (vec!["incast", "--rounds", "0"], "from 1 to"),
        (vec!["incast", "--buffer", "big"], "big"),
        (vec!["run", "--seed", "1.5"], "a whole number"),
        (vec!["fuzz", "--jobs", "x"], "a whole number"),
        (vec!["incast", "--response", "5000000"], "5000000: must be between 1 and 1000000"),
        (vec!["incast", "--out", "/proc/none"], "/proc/none"),
        (vec!["fuzz", "--seed", "1", "--trace", "/proc/none/x"], "/proc/none/x"),
        (vec!["fuzz", "--failures-max", "0"], "from 1 on"),
        (vec!["report", "/no/such/folder"], "/no/such/folder"),
        (vec!["run", "--config", "/no/such/file"], "/no/such/file"),
    ] {
        let output = homa_sim(&args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let message = text(&output.stderr);
        assert!(message.contains(word), "{args:?}: {message}");
    }
}
