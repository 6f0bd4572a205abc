//! What `homa-load` offers as a load generator, between two processes over shared memory (memif). No
//! privilege needed.
#![cfg(all(feature = "dpdk", feature = "cli"))]

mod support;

use homa::load::baseline::Baseline;
use homa::load::find_max::FindMax;
use homa::load::plan::Plan;
use homa::load::report::Report;

use support::load_report::{self, expect_clean};
use support::process::{homa_load, run};
use support::scratch::Scratch;
use support::{TIMEOUT_OPTION, one_at_a_time};

const COMMON: &str = "local --no-huge --warm-up 10ms --idle sleep";

/// Runs `homa-load local`, which checks every byte on both sides, and gives its report.
fn local(options: &str) -> Report {
    let scratch = Scratch::new();
    let json = scratch.path("report.json");
    let command = homa_load([COMMON, TIMEOUT_OPTION, options, "--json", &json]);
    run(&format!("homa-load local {options}"), &command).expect_code(0);
    load_report::of_client(&scratch, "report.json")
}

#[test]
fn loads_responses_and_service_times_of_all_kinds() {
    let _turn = one_at_a_time();
    for (options, load) in [
        ("--rps 3000 --arrival uniform", "uniform gaps at 3.00 kRPC/s"),
        ("--gbps 0.01 --arrival constant --response 4KB", "equal gaps at 10.0 Mbps of payload"),
        (
            "--wire-gbps 0.02 --arrival burst:4 --response w2",
            "bursts of 4 at 20.0 Mbps on the wire",
        ),
        ("--rps 2000 --response w1 --service-time exp:200us", "Poisson at 2.00 kRPC/s"),
    ] {
        let report = local(&format!("--workload w1:0.9,20KB:0.1 --duration 300ms {options}"));
        expect_clean(&report, 20);
        assert!(report.config.load.contains(load), "{}", report.config.load);
        assert_eq!(report.lag.count, report.totals.completed);
        for side in ["client", "server"] {
            let side = report.sides.iter().find(|known| known.name == side).expect("both sides");
            assert!(side.cycles_per_rpc().is_some(), "{side:?}");
            assert!(
                side.cores[0].busy_share() > 0.0 && side.cores[0].busy_share() < 1.0,
                "{side:?}"
            );
            assert!(side.sent_bytes_by_priority.iter().sum::<u64>() > 0, "{side:?}");
        }
    }
}

#[test]
fn a_service_time_is_waited_for_and_others_are_served_meanwhile() {
    let _turn = one_at_a_time();
    let report = local("--workload 100 --outstanding 64 --count 640 --service-time 20ms");
    expect_clean(&report, 640);
    assert!(report.latency.min_ns >= 20_000_000, "{:?}", report.latency);
    // One after the other they would need 12.8 s.
    assert!(report.totals.measured_ns < 12_000_000_000, "{:?}", report.totals);
}

/// The stall is a hundredth of the run or more: at least the predicted time in p99.9, and less only if
/// the machine did not run the client at all for the rest of the time.
#[test]
fn a_stalled_server_shows_from_the_planned_time() {
    let _turn = one_at_a_time();
    let report = local("--workload 100 --rps 2000 --duration 2s --stall 500ms+100ms");
    expect_clean(&report, 1_000);
    // S - (1 - q) T, less what chance does to 2 of 4000 requests.
    assert!(report.latency.p99_9_ns > 90_000_000, "{:?}", report.latency);
    assert!(report.latency.max_ns > 95_000_000, "{:?}", report.latency);
}

#[test]
fn a_baseline_is_measured_and_used() {
    let _turn = one_at_a_time();
    let scratch = Scratch::new();
    let file = scratch.path("baseline.json");
    let measure = format!("baseline --samples 20 --out {file}");
    let command = homa_load([&measure, COMMON, TIMEOUT_OPTION, "--workload w2"]);
    run("homa-load baseline", &command).expect_code(0);
    let text = std::fs::read_to_string(&file).expect("a file");
    let baseline = Baseline::from_json(&text).expect("a baseline");
    assert!(baseline.points.len() > 10, "{baseline:?}");
    for point in &baseline.points {
        assert_eq!(point.samples, 20);
        assert!(0 < point.min_ns && point.min_ns <= point.p50_ns, "{point:?}");
    }
    let report = local(&format!("--workload w2 --count 1000 --baseline {file}"));
    let names: Vec<&str> =
        report.slowdown_definitions.iter().map(|definition| definition.name.as_str()).collect();
    assert_eq!(names, ["idle", "idle-min", "cperf", "paper", "least"]);
    let report = local(&format!("--workload w2 --count 1000 --baseline {file} --slowdown paper"));
    assert_eq!(report.slowdown_definitions[0].name, "paper");
    let row = &report.by_size[0];
    assert_eq!(row.slowdown_p50, row.slowdowns[0].p50);
    // The medians are not shorter than the shortest times.
    assert!(row.slowdowns[1].p50 <= row.slowdowns[2].p50, "{row:?}");
}

#[test]
fn the_highest_load_is_found() {
    let _turn = one_at_a_time();
    let scratch = Scratch::new();
    let json = scratch.path("find.json");
    let options = "--workload 100 --find-max --duration 50ms --find-precision 0.5 --rps 1000";
    let command = homa_load([COMMON, TIMEOUT_OPTION, options, "--json", &json]);
    let ended = run("homa-load local --find-max", &command);
    ended.expect_code(0);
    let text = std::fs::read_to_string(&json).expect("a file");
    let found: FindMax = serde_json::from_str(&text).expect("JSON");
    let max = found.max_rps.expect("some load is carried");
    assert!(found.steps.iter().any(|step| step.carried && step.offered_rps == max), "{found:?}");
    // Only what was tried twice counts as too much.
    let refused = found.steps.iter().filter(|step| !step.carried && step.is_repeat);
    let least = refused.map(|step| step.offered_rps).fold(f64::INFINITY, f64::min);
    assert!(max < least && least <= max * 1.5, "{found:?}");
}

#[test]
fn a_dry_run_sends_nothing() {
    let scratch = Scratch::new();
    let json = scratch.path("plan.json");
    let options = "--workload 1000 --rps 100k --response short --dry-run --link-gbps 10";
    let ended = run("dry run", &homa_load([COMMON, options, "--json", &json]));
    ended.expect_code(0);
    let text = std::fs::read_to_string(&json).expect("a file");
    let plan: Plan = serde_json::from_str(&text).expect("JSON");
    assert_eq!((plan.rps, plan.request.payload_bps), (Some(100e3), Some(800e6)));
    // A device that does not exist is not looked for.
    let client =
        "client --device af_packet:nosuch --ip 10.0.0.1/24 --server 10.0.0.2 --rps 5 --dry-run";
    run("dry run of a client", &homa_load([client])).expect_code(0);
}

#[test]
fn a_host_without_anything_to_send_says_so() {
    let hosts = "--server 10.0.0.1 --server 10.0.0.2 --server 10.0.0.3";
    let client = format!("client --device ring --ip 10.0.0.1/24 {hosts}");
    let ended = run("receiver", &homa_load([&client, "--pattern incast:2 --rank 0/3"]));
    ended.expect_code(0);
    assert!(ended.stdout.contains("has nothing to send"), "{}", ended.stdout);
    let ended = run("sender", &homa_load([&client, "--pattern incast:2 --rank 1/3 --dry-run"]));
    ended.expect_code(0);
    assert!(ended.stdout.contains("1 destination(s)"), "{}", ended.stdout);
}

#[test]
fn wrong_arguments_are_told_in_one_line() {
    let client = "client --device ring --ip 10.0.0.1/24 --server 10.0.0.2";
    for (options, told) in [
        ("--arrival sometimes", "use poisson, uniform, constant, or burst:N"),
        ("--workload w1:1,w2:0", "part \"w2:0\" of a mixture"),
        ("--response loud", "neither echo nor short"),
        ("--slowdown idle", "needs --baseline FILE"),
        ("--baseline /nonexistent", "write one with homa-load baseline"),
        ("--pattern incast --rank 0/3", "name the servers of all hosts"),
        ("--pattern ring --rank 0/1", "use all-to-all, incast:N"),
        ("--pattern incast", "--rank"),
        ("--ports 1000 --server 10.0.0.3:32000", "do not fit"),
        ("--protocol cp_node --response w3", "servers of cp_node answer with echo or short"),
    ] {
        let ended = run(options, &homa_load([client, options]));
        ended.expect_code(2);
        let line = ended.one_line_of_stderr();
        assert!(line.contains(told), "{options}: {line}");
    }
}

/// A reader that has gone ends the program quietly, as others that write to a pipe.
#[test]
fn nobody_who_reads_is_no_panic() {
    for arguments in
        ["local --dry-run --workload w3 --gbps 1", "man client", "completions bash", "--version"]
    {
        let command = homa_load([arguments]);
        let mut process = std::process::Command::new(&command[0])
            .args(&command[1..])
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .expect("homa-load starts");
        drop(process.stdout.take());
        let ended = process.wait_with_output().expect("it ends");
        assert_eq!(ended.status.code(), Some(141), "{arguments}");
        assert!(ended.stderr.is_empty(), "{}", String::from_utf8_lossy(&ended.stderr));
    }
}

#[test]
fn a_full_disk_is_an_error() {
    let command = homa_load(["local --dry-run --workload w3 --gbps 1"]);
    let ended = std::process::Command::new(&command[0])
        .args(&command[1..])
        .stdout(std::fs::File::create("/dev/full").expect("a device that is always full"))
        .output()
        .expect("homa-load runs");
    assert_eq!(ended.status.code(), Some(1));
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.starts_with("error: standard output: No space left"), "{said}");
}
