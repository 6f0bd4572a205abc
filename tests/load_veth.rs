//! `homa-load` with a virtual cable of its own. Runs as root.
#![cfg(all(feature = "dpdk", feature = "cli"))]

mod support;

use std::thread;
use std::time::Duration;

use support::load_report::{self, expect_clean};
use support::one_at_a_time;
use support::process::{Process, homa_load};
use support::scratch::Scratch;

#[test]
fn homa_and_the_kernel_run_over_the_same_kind_of_cable() {
    let _turn = one_at_a_time();
    for (transport, port, options) in [
        ("homa", "af_packet over veth", "--no-huge --idle sleep"),
        ("tcp", "kernel TCP, veth", "--poll epoll"),
        ("udp", "kernel UDP, veth", "--poll epoll"),
    ] {
        let scratch = Scratch::new();
        let json = scratch.path("client.json");
        let load = "local --wire veth --workload w2 --count 1000 --warm-up 10ms --timeout 3s";
        let over = ["--transport", transport, options, "--json", &json].join(" ");
        let mut local = Process::spawn("local", &homa_load([load, &over]));
        local.end_input();
        let mut seen_most = 0;
        while local.is_running() {
            seen_most = seen_most.max(namespaces_of(&local).len());
            thread::sleep(Duration::from_millis(2));
        }
        local.wait().expect_code(0);
        assert_eq!(
            (seen_most, namespaces_of(&local)),
            (2, vec![]),
            "namespaces while it ran and after"
        );
        let report = load_report::of_client(&scratch, "client.json");
        expect_clean(&report, 1_000);
        assert!(report.config.port.contains(port), "{}", report.config.port);
    }
}

#[test]
fn wrong_options_inside_are_told_outside_and_nothing_is_left_behind() {
    let _turn = one_at_a_time();
    let wrong = homa_load(["local --wire veth --transport tcp --trace /tmp/x"]);
    let mut local = Process::spawn("local", &wrong);
    local.end_input();
    let ended = local.wait();
    ended.expect_code(2);
    assert!(ended.one_line_of_stderr().contains("--trace"), "{}", ended.stderr);
    assert_eq!(namespaces_of(&local), Vec::<String>::new());
}

/// The network namespaces that `process` made: others may make some at the same time.
fn namespaces_of(process: &Process) -> Vec<String> {
    let start = format!("homa-load-{}-", process.pid());
    let entries = std::fs::read_dir("/var/run/netns").into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(&start)).collect()
}
