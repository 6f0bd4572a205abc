//! `homa-load` with a virtual cable of its own. Runs as root.
#![cfg(all(feature = "dpdk", feature = "cli"))]

mod support;

use std::collections::BTreeSet;
use std::ffi::OsString;

use support::load_report::{self, expect_clean};
use support::one_at_a_time;
use support::process::{homa_load, run};
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
        run("local", &homa_load([load, &over])).expect_code(0);
        let report = load_report::of_client(&scratch, "client.json");
        expect_clean(&report, 1_000);
        assert!(report.config.port.contains(port), "{}", report.config.port);
    }
}

#[test]
fn wrong_options_inside_are_told_outside_and_nothing_is_left_behind() {
    let _turn = one_at_a_time();
    let namespaces = || -> BTreeSet<OsString> {
        let entries = std::fs::read_dir("/var/run/netns").into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name()).collect()
    };
    let before = namespaces();
    let ended = run("local", &homa_load(["local --wire veth --transport tcp --trace /tmp/x"]));
    ended.expect_code(2);
    assert!(ended.one_line_of_stderr().contains("--trace"), "{}", ended.stderr);
    // Those of programs that were killed earlier may be gone.
    let after = namespaces();
    assert!(after.is_subset(&before), "{after:?} and before {before:?}");
}
