//! `homa-load` over the kernel's TCP and UDP, on loopback. No privilege needed.
#![cfg(all(feature = "dpdk", feature = "cli"))]

mod support;

use support::load_report::{self, counter, expect_clean};
use support::one_at_a_time;
use support::process::{Ended, Process, homa_load, run};
use support::scratch::Scratch;

const ALIKE: &str = "--idle sleep --timeout 3s";
const EVERYTHING: [&str; 4] = [
    "--transport tcp --poll spin",
    "--transport tcp --poll epoll",
    "--transport udp --poll spin",
    "--transport udp --poll epoll",
];

/// A server on a port of its own, and its address.
fn server(scratch: &Scratch, options: &str) -> (Process, String) {
    let (ready, json) = (scratch.path("ready"), scratch.path("server.json"));
    let listen = ["server --ip 127.0.0.1/8", ALIKE, options, "--ready", &ready, "--json", &json];
    let mut server = Process::spawn("server", &homa_load(listen));
    let line = server.wait_for("serving on");
    let address = line.split(' ').nth(2).expect("serving on ADDRESS over ...").to_owned();
    (server, address)
}

fn client_command(scratch: &Scratch, address: &str, options: &str) -> Vec<String> {
    let json = scratch.path("client.json");
    let asks = ["client --warm-up 10ms --server", address, ALIKE, options, "--json", &json];
    homa_load(asks)
}

fn client(scratch: &Scratch, address: &str, options: &str) -> Ended {
    run(&format!("client {options}"), &client_command(scratch, address, options))
}

fn stop(mut server: Process, scratch: &Scratch) -> serde_json::Value {
    server.signal("TERM");
    server.wait().expect_code(0);
    let report = load_report::of_server(scratch, "server.json");
    assert_eq!(report["counts"]["corrupted"], 0, "{report}");
    report
}

#[test]
fn both_transports_and_both_loops_carry_every_byte() {
    let _turn = one_at_a_time();
    for transport in EVERYTHING {
        let scratch = Scratch::new();
        let (serving, address) = server(&scratch, transport);
        let mut sent = 0;
        for (load, rpcs) in [
            ("--workload w1 --outstanding 32 --count 5000", 5_000),
            ("--workload w4 --outstanding 4 --count 200", 200),
            ("--workload w3 --rps 500 --count 100 --response short", 100),
        ] {
            client(&scratch, &address, &format!("{transport} {load}")).expect_code(0);
            let report = load_report::of_client(&scratch, "client.json");
            expect_clean(&report, rpcs);
            let name = transport.split(' ').nth(1).expect("--transport NAME");
            assert_eq!(report.config.parameters["transport"], name);
            sent += report.totals.sent + report.totals.warm_up_sent;
        }
        let served = stop(serving, &scratch);
        assert_eq!(served["counts"]["requests"], sent, "{transport}: {served}");
    }
}

#[test]
fn local_runs_over_the_kernel_and_says_so() {
    let _turn = one_at_a_time();
    for (transport, shown) in [("tcp", "kernel TCP"), ("udp", "kernel UDP")] {
        let scratch = Scratch::new();
        let json = scratch.path("client.json");
        let load = "local --workload w2 --count 2000 --warm-up 10ms --poll epoll --transport";
        let ended = run("local", &homa_load([load, transport, "--timeout 3s", "--json", &json]));
        ended.expect_code(0);
        assert!(ended.stdout.contains(shown), "{}", ended.stdout);
        let report = load_report::of_client(&scratch, "client.json");
        expect_clean(&report, 2_000);
        assert!(report.config.port.contains(shown), "{}", report.config.port);
        let read = format!(
            "server_{transport}_{}",
            match transport {
                "tcp" => "reads",
                _ => "datagrams_received",
            }
        );
        assert!(counter(&report, &read) > 0, "{:?}", report.counters);
    }
}

/// The client of a server that is killed ends soon, with one line that names it.
#[test]
fn a_killed_server_ends_its_clients() {
    let _turn = one_at_a_time();
    for transport in EVERYTHING {
        let scratch = Scratch::new();
        let (mut serving, address) = server(&scratch, transport);
        let options = format!("{transport} --workload w2 --duration 1h");
        let mut asking = Process::spawn("client", &client_command(&scratch, &address, &options));
        // RPCs pass once the report's file is there; give them a moment.
        while !std::path::Path::new(&scratch.path("client.json")).exists() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert!(asking.is_running(), "{transport}: the client goes on for an hour");
        serving.signal("KILL");
        serving.wait();
        let ended = asking.wait();
        ended.expect_code(1);
        let line = ended.one_line_of_stderr();
        assert!(line.contains(&address) && line.contains("did it stop?"), "{transport}: {line}");
        let report = load_report::of_client(&scratch, "client.json");
        assert!(report.totals.failed.values().sum::<u64>() > 0, "{:?}", report.totals);
    }
}

#[test]
fn a_stopped_client_reports_what_it_has() {
    let _turn = one_at_a_time();
    for transport in ["--transport tcp", "--transport udp --poll epoll"] {
        let scratch = Scratch::new();
        let (serving, address) = server(&scratch, transport);
        let options = format!("{transport} --workload w1 --duration 1h");
        let mut asking = Process::spawn("client", &client_command(&scratch, &address, &options));
        std::thread::sleep(std::time::Duration::from_millis(500));
        asking.signal("INT");
        asking.wait().expect_code(0);
        let report = load_report::of_client(&scratch, "client.json");
        assert_eq!((report.totals.corrupted, report.totals.lost), (0, 0), "{:?}", report.totals);
        stop(serving, &scratch);
    }
}

#[test]
fn a_server_that_is_not_there_is_said_in_one_line() {
    let _turn = one_at_a_time();
    let scratch = Scratch::new();
    // A port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback").local_addr();
    let port = free.expect("an address").port();
    for transport in ["--transport tcp", "--transport udp"] {
        let ended =
            client(&scratch, &format!("127.0.0.1:{port}"), &format!("{transport} --count 5"));
        ended.expect_code(1);
        assert!(ended.one_line_of_stderr().contains("start the server first"), "{}", ended.stderr);
    }
    let taken = "server --transport tcp --ip 192.0.2.77/24";
    let ended = run("server", &homa_load([taken]));
    ended.expect_code(1);
    assert!(ended.one_line_of_stderr().contains("192.0.2.77"), "{}", ended.stderr);
}

/// What a load over Homa can be, one over sockets can be too.
#[test]
fn the_highest_load_a_plan_and_a_baseline_are_there_as_well() {
    let _turn = one_at_a_time();
    for transport in ["--transport tcp", "--transport udp --poll epoll"] {
        let scratch = Scratch::new();
        let (json, base) = (scratch.path("client.json"), scratch.path("base.json"));
        let options = "local --workload 100 --find-max --duration 50ms --warm-up 10ms \
                       --find-precision 0.5 --rps 1000 --idle yield --json";
        let ended = run("find-max", &homa_load([options, &json, transport]));
        let found: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&json).expect("a result")).expect("JSON");
        assert!(!found["steps"].as_array().expect("steps").is_empty(), "{found}");
        // Whether a load is carried is up to the machine.
        let code = if found["max_rps"].is_null() { 1 } else { 0 };
        ended.expect_code(code);

        let plan = "local --workload 1000 --rps 100k --response short --dry-run";
        let ended = run("dry run", &homa_load([plan, transport]));
        ended.expect_code(0);
        assert!(ended.stdout.contains("nothing is sent"), "{}", ended.stdout);
        let header_bytes = if transport.contains("tcp") { 20 + 20 + 32 } else { 20 + 8 + 28 };
        let wire = format!("{} B on the wire", 1_042 + header_bytes);
        assert!(ended.stdout.replace(',', "").contains(&wire), "{wire}: {}", ended.stdout);

        let idle = "local --workload w1 --idle yield";
        let measure = ["baseline --samples 20 --out", &base, idle, transport];
        run("baseline", &homa_load(measure)).expect_code(0);
        let options = [idle, transport, "--count 50 --warm-up 1ms --baseline", &base];
        let ended = run("local", &homa_load(options));
        ended.expect_code(0);
        assert!(ended.stdout.contains("when idle"), "{}", ended.stdout);
    }
}

#[test]
fn a_service_time_passes_before_the_answer_and_others_are_served_meanwhile() {
    let _turn = one_at_a_time();
    for transport in EVERYTHING {
        let scratch = Scratch::new();
        let json = scratch.path("client.json");
        let options = "local --workload 100 --outstanding 64 --count 320 --service-time 20ms \
                       --warm-up 1ms --timeout 3s --idle yield --json";
        run("local", &homa_load([options, &json, transport])).expect_code(0);
        let report = load_report::of_client(&scratch, "client.json");
        expect_clean(&report, 320);
        let windows = &report.windows;
        assert!(windows.outstanding.iter().any(|&count| count > 0), "{transport}: {windows:?}");
        assert!(report.latency.min_ns >= 20_000_000, "{transport}: {:?}", report.latency);
        // One at a time they would take 6.4 s.
        let rps = report.rates.rps;
        assert!(rps > 100.0, "{transport}: {rps} RPC/s");
        let sides: Vec<&str> = report.sides.iter().map(|side| &*side.name).collect();
        assert_eq!(sides, ["client", "server"]);
        for core in report.sides.iter().flat_map(|side| &side.cores) {
            assert!(core.busy_ns > 0 && core.busy_ns <= core.total_ns, "{transport}: {core:?}");
        }
    }
}

/// Two transports share the cores, each with its part of the load.
#[test]
fn transports_run_at_the_same_time() {
    let _turn = one_at_a_time();
    let scratch = Scratch::new();
    let folder = scratch.path("reports");
    let command = "compare-transports --rounds 1 --seconds 0.2 --only w2 --no-huge --timeout 3s \
                   --outstanding 10 --at-once homa=70,tcp=30 --transports homa,tcp --report";
    let ended = run("compare-transports", &homa_load([command, &folder]));
    ended.expect_code(0);
    for (transport, outstanding) in [("homa", "7 outstanding"), ("tcp", "3 outstanding")] {
        let file = format!("reports/w2-at-once-{transport}.json");
        let report = load_report::of_client(&scratch, &file);
        expect_clean(&report, 1);
        assert!(report.config.load.contains(outstanding), "{}", report.config.load);
    }
    assert!(ended.stdout.contains("70% homa, 30% tcp"), "{}", ended.stdout);
}

/// One short round of three loads over three transports: a row and a report for each.
#[test]
fn transports_are_compared_in_one_command() {
    let _turn = one_at_a_time();
    let scratch = Scratch::new();
    let folder = scratch.path("reports");
    let command = "compare-transports --rounds 1 --seconds 0.2 --only echo,w2,w4 --no-huge \
                   --timeout 3s --poll epoll --report";
    let ended = run("compare-transports", &homa_load([command, &folder]));
    ended.expect_code(0);
    for load in ["echo", "w2", "w4"] {
        for transport in ["homa", "tcp", "udp"] {
            let report =
                load_report::of_client(&scratch, &format!("reports/{load}-{transport}.json"));
            expect_clean(&report, 1);
            assert_eq!(report.config.parameters["transport"], transport);
            let row = ended.stdout.lines().find(|line| {
                let mut words = line.split_whitespace();
                (words.next(), words.next()) == (Some(load), Some(transport))
            });
            assert!(row.is_some(), "{load}, {transport} in:\n{}", ended.stdout);
        }
    }
    let page = || std::fs::read_to_string(scratch.path("reports/report.html")).expect("a page");
    let first = page();
    assert!(first.contains("w4-tcp"), "every run is on the page");
    assert!(first.contains("Relative to TCP"), "it begins with the ratios");
    run("report", &homa_load(["report", &folder])).expect_code(0);
    assert_eq!(page(), first, "made again from what lies in the folder");
}

#[test]
fn wrong_comparisons_are_one_line_and_code_2() {
    for (options, part) in [
        ("--only echo,echo", "echo stands there twice"),
        ("--only nothing", "echo, or workload"),
        ("--transports homa,quic", "homa, tcp or udp"),
        ("--rounds 0", "--rounds"),
        ("--at-once homa=1", "two transports"),
        ("--at-once homa=1,homa=2", "homa stands there twice"),
        ("--at-once homa=1,tcp=none", "above 0"),
    ] {
        let ended = run(options, &homa_load(["compare-transports", options]));
        ended.expect_code(2);
        assert!(ended.one_line_of_stderr().contains(part), "{options}: {}", ended.stderr);
    }
}
