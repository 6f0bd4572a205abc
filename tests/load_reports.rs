//! Folders of reports, comparisons, and what the programs say about their own command lines.
#![cfg(all(feature = "dpdk", feature = "cli"))]

mod support;

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use homa::load::report::Report;
use support::process::{Ended, homa_load, run};
use support::scratch::Scratch;
use support::{TIMEOUT_OPTION, one_at_a_time};

fn homa(command: &str) -> Ended {
    run(command, &homa_load([command]))
}

/// A report as an older version of the program wrote it.
const OLD: &str = include_str!("data/reports/homa-load-1.json");

#[test]
fn runs_into_one_folder_share_a_page() {
    let _turn = one_at_a_time();
    let scratch = Scratch::new();
    let folder = scratch.path("runs");
    for name in ["first", "second"] {
        let command = format!(
            "local --no-huge --idle sleep --workload w2 --warm-up 10ms --count 20000 {TIMEOUT_OPTION} \
             --report {folder} --name {name}"
        );
        let ended = homa(&command);
        ended.expect_code(0);
        assert!(ended.stderr.contains("report.html"), "{}", ended.stderr);
    }
    let short = format!("local --no-huge --idle sleep --workload w2 --count 200 {TIMEOUT_OPTION}");
    homa(&format!("{short} --report {}", scratch.path("unnamed"))).expect_code(0);
    assert!(Path::new(&scratch.path("unnamed/homa.json")).exists(), "named by its transport");
    let folder = Path::new(&folder);
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect(name);
    let report = Report::from_json(&read("second.json")).expect("a report");
    assert_eq!(report.latency.count, 20_000);
    let page = read("report.html");
    for part in ["<svg", "first", "second", "Throughput over time", "</html>"] {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("<script") && !page.contains("href="), "nothing from elsewhere");
    assert_eq!(read("by_size.csv").lines().count(), 1 + 2 * report.by_size.len());
    assert!(read("windows.csv").lines().count() > 2);

    // The same run again differs in nothing from itself.
    let file = folder.join("first.json");
    let same = homa(&format!("compare {0} {0}", file.display()));
    same.expect_code(0);
    assert!(same.stdout.contains("No difference"), "{}", same.stdout);
}

#[test]
fn a_slower_run_ends_a_comparison_with_1() {
    let scratch = Scratch::new();
    let (old, slow) = (scratch.path("old.json"), scratch.path("slow.json"));
    let mut report = Report::from_json(OLD).expect("an old report can be read");
    std::fs::write(&old, OLD).expect("a file");
    for row in &mut report.by_size {
        row.histogram.iter_mut().for_each(|bucket| bucket.0 *= 3);
    }
    for window in &mut report.windows.krps_and_median_ns {
        window.1 *= 3;
    }
    std::fs::write(&slow, report.to_json().expect("JSON")).expect("a file");
    let ended = homa(&format!("compare {old} {slow}"));
    ended.expect_code(1);
    assert!(ended.stdout.contains("slow is worse than old"), "{}", ended.stdout);
    homa(&format!("compare {slow} {old}")).expect_code(0);
    // The same name in another folder.
    std::fs::create_dir(scratch.path("other")).expect("a folder");
    std::fs::copy(&slow, scratch.path("other/old.json")).expect("a copy");
    let ended = homa(&format!("compare {old} {}", scratch.path("other/old.json")));
    ended.expect_code(1);
    assert!(ended.stdout.contains("other/old.json is worse than"), "{}", ended.stdout);
}

#[test]
fn an_old_report_is_drawn() {
    let scratch = Scratch::new();
    std::fs::write(scratch.path("old.json"), OLD).expect("a file");
    homa(&format!("report {}", scratch.directory().display())).expect_code(0);
    let page = std::fs::read_to_string(scratch.path("report.html")).expect("a page");
    assert!(page.contains("RPC time by size, median"));
    assert!(!page.contains("Outstanding RPCs over time"), "it was not recorded then");
}

#[test]
fn files_that_are_no_reports_end_with_2() {
    let scratch = Scratch::new();
    std::fs::write(scratch.path("notes.json"), "{}").expect("a file");
    let notes = scratch.path("notes.json");
    for (command, part) in [
        (format!("compare {notes} {notes}"), "notes.json: not a report"),
        ("report /no/such/folder".to_owned(), "/no/such/folder"),
        (format!("report {}", scratch.path("empty")), "empty"),
        (format!("local --report {}", scratch.directory().display()), "notes.json"),
        (format!("local --report {} --name ../x", scratch.path("new")), "../x"),
        ("local --name x".to_owned(), "--report"),
        ("local --find-max --report x".to_owned(), "--find-max"),
        ("man walk".to_owned(), "no subcommand 'walk'"),
        ("completions tcsh".to_owned(), "tcsh"),
    ] {
        let ended = homa(&command);
        ended.expect_code(2);
        assert!(ended.one_line_of_stderr().contains(part), "{command}: {}", ended.stderr);
    }
}

#[test]
fn completions_and_manual_pages_are_there() {
    for shell in ["bash", "zsh", "fish"] {
        let ended = homa(&format!("completions {shell}"));
        ended.expect_code(0);
        assert!(ended.stdout.contains("outstanding"), "{shell}");
    }
    let page = homa("man client");
    page.expect_code(0);
    assert!(page.stdout.contains(".TH homa-load-client 1"), "{}", page.stdout);
    let whole = homa("man");
    whole.expect_code(0);
    assert!(whole.stdout.contains("EXIT STATUS") || whole.stdout.contains("Exit codes"));
}

#[test]
fn errors_can_be_json() {
    let ended = homa("--log-format json report /no/such/folder");
    ended.expect_code(2);
    let line: serde_json::Value = serde_json::from_str(ended.stderr.trim()).expect("JSON");
    assert_eq!(line["level"], "ERROR");
    assert!(line["message"].as_str().expect("text").contains("/no/such/folder"));
    // What was found at the end of a run, too.
    let none = "local --no-huge --idle sleep --workload 100 --count 20 --warm-up 1ms --timeout 200ms \
                --drop-percent 90 --log-format json";
    let ended = homa(none);
    ended.expect_code(1);
    let last = ended.stderr.lines().last().expect("a line");
    let line: serde_json::Value = serde_json::from_str(last).expect("JSON");
    assert!(line["message"].as_str().expect("text").contains("answered"), "{last}");
}

/// Runs `homa-sim` with the words of `command`.
fn sim(command: &str) -> Ended {
    let program = env!("CARGO_BIN_EXE_homa-sim").to_owned();
    let words = command.split(' ').map(str::to_owned);
    run(command, &std::iter::once(program).chain(words).collect::<Vec<_>>())
}

/// Four simulated hosts at one switch.
const SMALL: &str = "--set network.racks=1 --set network.spines=0 --set network.hosts_per_rack=4";

#[test]
fn a_simulated_cluster_goes_through_the_same_report() {
    let _turn = one_at_a_time();
    let scratch = Scratch::new();
    let folder = scratch.path("runs");
    let real = format!(
        "local --no-huge --idle sleep --workload w2 --warm-up 10ms --count 20000 {TIMEOUT_OPTION} \
         --report {folder} --name real"
    );
    homa(&real).expect_code(0);
    let simulated = format!(
        "run --workload w2 --cut 1MB --gbps 2 --pattern incast:3 --response echo --headers linux \
         --time 5ms {SMALL} --report {folder} --name sim"
    );
    let ended = sim(&simulated);
    ended.expect_code(0);
    assert!(ended.stdout.contains("4 simulated hosts"), "{}", ended.stdout);
    let folder = Path::new(&folder);
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect(name);
    let report = Report::from_json(&read("sim.json")).expect("a report");
    assert!(report.totals.sent > 1_000 && report.totals.completed == report.totals.sent);
    assert_eq!(report.config.parameters["pattern"], "incast:3");
    let page = read("report.html");
    // The same workload and classes: one chart for both.
    assert_eq!(page.matches("aria-label=\"RPC time by size, median\"").count(), 1);
    let compared = homa(&format!("compare {0}/real.json {0}/sim.json", folder.display()));
    assert!(matches!(compared.status.code(), Some(0 | 1)), "{}", compared.stderr);
    assert!(compared.stdout.contains("different loads"), "{}", compared.stdout);
}

#[test]
fn homa_sim_describes_itself_and_names_what_is_wrong() {
    sim("completions zsh").expect_code(0);
    let page = sim("man run");
    page.expect_code(0);
    assert!(page.stdout.contains(".TH homa-sim-run 1"), "{}", page.stdout);
    for (command, part) in [
        ("run --gbps 1 --load 0.5", "--load"),
        ("run --pattern star", "unknown pattern 'star'"),
        ("run --response loud", "response 'loud'"),
        ("run --gbps 0", "above 0"),
        ("run --name x", "--report"),
    ] {
        let ended = sim(command);
        ended.expect_code(2);
        assert!(ended.stderr.contains(part), "{command}: {}", ended.stderr);
    }
    let wide = sim(&format!("run --workload w2 --pattern incast:9 --time 1us {SMALL}"));
    wide.expect_code(2);
    assert!(wide.stderr.contains("4 hosts, and the pattern needs 10"), "{}", wide.stderr);
}

/// Enters and leaves the screen that programs draw on.
const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";

/// Runs `homa-load` on a terminal, types `keys` once the dashboard shows numbers, and gives the exit code
/// and what the terminal got.
fn on_a_terminal(keys: &str) -> (Option<i32>, String) {
    let program = homa_load(["local --no-huge --idle sleep --workload 100 --duration 10m"]);
    let command = format!("stty cols 100 rows 40; {} {TIMEOUT_OPTION}", program.join(" "));
    // script(1) makes the terminal; all ends with the thread of the test.
    let mut child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--", "script", "-qefc", &command, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("setpriv and script run: install util-linux");
    let mut stdin = child.stdin.take().expect("piped");
    let mut stdout = child.stdout.take().expect("piped");
    let (mut said, mut buffer, mut is_typed) = (Vec::new(), [0; 4096], false);
    loop {
        let length = stdout.read(&mut buffer).expect("its output");
        if length == 0 {
            break;
        }
        said.extend_from_slice(&buffer[..length]);
        if !is_typed && String::from_utf8_lossy(&said).contains("RPC/s") {
            stdin.write_all(keys.as_bytes()).and_then(|()| stdin.flush()).expect("it reads");
            is_typed = true;
        }
    }
    let status = child.wait().expect("it ends");
    (status.code(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn the_dashboard_gives_the_terminal_back() {
    let _turn = one_at_a_time();
    for keys in ["q", "\u{3}"] {
        let (code, said) = on_a_terminal(keys);
        assert_eq!(code, Some(0), "{said}");
        let (before, after) = said.rsplit_once(LEAVE).expect("it leaves the screen");
        assert!(before.contains(ENTER), "{before}");
        assert!(after.contains("latency by size"), "the report stands below: {after}");
    }
}

#[test]
fn a_dashboard_without_a_terminal_is_refused() {
    let ended = homa("local --live dashboard");
    ended.expect_code(2);
    assert!(ended.one_line_of_stderr().contains("--live line"), "{}", ended.stderr);
    let lines = homa(&format!(
        "local --no-huge --idle sleep --workload 100 --warm-up 10ms --duration 3s --live line {TIMEOUT_OPTION}"
    ));
    lines.expect_code(0);
    assert!(
        lines.stdout.contains("s ") && lines.stdout.contains("outstanding 8"),
        "{}",
        lines.stdout
    );
}
