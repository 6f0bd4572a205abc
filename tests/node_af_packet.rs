//! Packet sockets on virtual cables between network namespaces. Runs as root.
#![cfg(all(feature = "dpdk", feature = "cli"))]

mod support;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use homa::load::report::Report;
use homa::node::stop_on_signals;
use homa::time::Nanos;

use support::load_report::{self, counter, expect_clean};
use support::lossy_cable::{Faults, carry};
use support::namespace::Namespace;
use support::one_at_a_time;
use support::ping::ping;
use support::process::{Ended, Process, homa_load, role, role_parameter, run};
use support::scratch::Scratch;

const ALIKE: &str = "--no-huge --idle sleep --timeout 3s";

/// A server in `namespace` on `interface`, ready.
fn server(namespace: &Namespace, interface: &str, scratch: &Scratch, options: &str) -> Process {
    let device = format!("--device af_packet:{interface}");
    let json = scratch.path("server.json");
    let command = homa_load(["server", &device, ALIKE, options, "--json", &json]);
    let mut server = Process::spawn("server", &namespace.within(&command));
    server.wait_for("serving on");
    server
}

/// Runs a client in `namespace` on `interface` to its end.
fn client(namespace: &Namespace, interface: &str, scratch: &Scratch, options: &str) -> Ended {
    let device = format!("--device af_packet:{interface}");
    let json = scratch.path("client.json");
    let command = homa_load(["client --warm-up 10ms", &device, ALIKE, options, "--json", &json]);
    run("client", &namespace.within(&command))
}

fn client_report(scratch: &Scratch) -> Report {
    load_report::of_client(scratch, "client.json")
}

fn stop(mut server: Process, scratch: &Scratch) -> serde_json::Value {
    server.signal("TERM");
    server.wait().expect_code(0);
    let report = load_report::of_server(scratch, "server.json");
    assert_eq!(report["counts"]["corrupted"], 0, "{report}");
    report
}

#[test]
fn rpcs_pass_between_namespaces() {
    let _turn = one_at_a_time();
    let (a, b, scratch) = (Namespace::new("a"), Namespace::new("b"), Scratch::new());
    a.cable("eth", &b, "eth");
    let serving = server(&b, "eth", &scratch, "--ip 10.70.0.2/24");
    for (load, rpcs) in [
        ("--workload w2 --outstanding 500 --count 5000", 5_000),
        ("--workload w4 --count 300", 300),
        ("--workload 1MB --count 10", 10),
    ] {
        let options = format!("--ip 10.70.0.1/24 --server 10.70.0.2 {load}");
        client(&a, "eth", &scratch, &options).expect_code(0);
        let report = client_report(&scratch);
        expect_clean(&report, rpcs);
        // Nobody told the client where the server is: it asked.
        assert!(counter(&report, "net_arp_requests_sent") > 0, "{:?}", report.counters);
        assert!(counter(&report, "net_neighbors_learned") > 0, "{:?}", report.counters);
    }
    let served = stop(serving, &scratch);
    assert!(served["counts"]["requests"].as_u64() >= Some(5_310), "{served}");
    assert!(served["counters"]["net_arp_replies_sent"].as_u64() >= Some(1), "{served}");
}

#[test]
fn delayed_lost_doubled_and_reordered_packets_are_made_up_for() {
    let _turn = one_at_a_time();
    let (a, middle, b) = (Namespace::new("a"), Namespace::new("middle"), Namespace::new("b"));
    let scratch = Scratch::new();
    a.cable("eth", &middle, "left");
    b.cable("eth", &middle, "right");
    let mut cable = Process::spawn("cable", &middle.within(&role("lossy_cable", "")));
    cable.wait_for("the cable carries frames");
    let serving = server(&b, "eth", &scratch, "--ip 10.71.0.2/24");
    for (load, rpcs) in [
        ("--workload w3 --outstanding 50 --count 1000", 1_000),
        ("--workload 200KB --count 30", 30),
    ] {
        let options = format!("--ip 10.71.0.1/24 --server 10.71.0.2 {load}");
        client(&a, "eth", &scratch, &options).expect_code(0);
        let report = client_report(&scratch);
        expect_clean(&report, rpcs);
        println!("{load}: {:?} {:?}", report.totals, report.counters);
        let usual_ns = report.by_size.iter().map(|size| size.latency.p50_ns).max();
        assert!(usual_ns >= Some(2_000_000), "1 ms each way: {usual_ns:?}");
        assert!(counter(&report, "duplicates") > 0, "{:?}", report.counters);
        assert!(counter(&report, "bytes_resent") > 0, "{:?}", report.counters);
    }
    stop(serving, &scratch);
    cable.signal("TERM");
    let ended = cable.wait();
    ended.expect_code(0);
    assert!(ended.stdout.contains("frames were lost"), "{}", ended.stdout);
}

#[test]
#[ignore = "a process of other tests"]
fn lossy_cable() {
    let stop = Arc::default();
    stop_on_signals(&stop).expect("signals");
    let faults = Faults { delay: Nanos::from_ms(1), loss: 0.03, doubling: 0.02, lateness: 0.02 };
    let (frames, lost) = carry(["left", "right"], &faults, &stop);
    println!("{lost} of {frames} frames were lost");
    assert!(lost * 100 > frames && lost * 10 < frames, "{lost} of {frames}");
}

#[test]
fn a_router_takes_packets_to_other_networks() {
    let _turn = one_at_a_time();
    let (a, router, b) = (Namespace::new("a"), Namespace::new("router"), Namespace::new("b"));
    let scratch = Scratch::new();
    a.cable("eth", &router, "left");
    b.cable("eth", &router, "right");
    router.address("left", "10.72.0.254/24");
    router.address("right", "10.73.0.254/24");
    router.run(&["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]);
    let serving = server(&b, "eth", &scratch, "--ip 10.73.0.2/24 --gateway 10.73.0.254");
    let load = "--workload w3 --outstanding 100 --count 1000";
    let near = "--ip 10.72.0.1/24 --server 10.73.0.2";
    client(&a, "eth", &scratch, &format!("{near} --gateway 10.72.0.254 {load}")).expect_code(0);
    expect_clean(&client_report(&scratch), 1_000);

    // Without the router there is no way, which is said before anything starts.
    let ended = client(&a, "eth", &scratch, &format!("{near} {load}"));
    ended.expect_code(2);
    let line = ended.one_line_of_stderr();
    assert!(line.contains("10.73.0.2") && line.contains("give the node a gateway"), "{line}");
    stop(serving, &scratch);
}

#[test]
fn the_kernel_pings_the_node() {
    let _turn = one_at_a_time();
    let (a, b, scratch) = (Namespace::new("a"), Namespace::new("b"), Scratch::new());
    a.cable("eth", &b, "eth");
    a.address("eth", "10.74.0.1/24");
    let serving = server(&b, "eth", &scratch, "--ip 10.74.0.2/24");
    run("pings", &a.within(&role("pings", "10.74.0.2"))).expect_code(0);
    let served = stop(serving, &scratch);
    assert!(served["counters"]["net_echo_replies_sent"].as_u64() >= Some(29), "{served}");
}

#[test]
#[ignore = "a process of other tests"]
fn pings() {
    let host: Ipv4Addr = role_parameter().parse().expect("an address");
    for payload_bytes in [0, 56, 1_400] {
        assert_eq!(ping(host, 10, payload_bytes), 10, "pings of {payload_bytes} bytes");
    }
}

#[test]
fn static_neighbors_are_not_asked_for() {
    let _turn = one_at_a_time();
    let (a, b, scratch) = (Namespace::new("a"), Namespace::new("b"), Scratch::new());
    a.cable("eth", &b, "eth");
    let (mac_a, mac_b) = ("02:00:00:00:77:01", "02:00:00:00:77:02");
    for (host, mac) in [(&a, mac_a), (&b, mac_b)] {
        host.run(&["ip", "link", "set", "eth", "address", mac]);
    }
    let options = format!("--ip 10.77.0.2/24 --neighbor 10.77.0.1={mac_a}");
    let serving = server(&b, "eth", &scratch, &options);
    let load = "--workload w2 --outstanding 20 --count 300";
    let options = format!("--ip 10.77.0.1/24 --server 10.77.0.2 --neighbor 10.77.0.2={mac_b}");
    client(&a, "eth", &scratch, &format!("{options} {load}")).expect_code(0);
    let report = client_report(&scratch);
    expect_clean(&report, 300);
    let served = stop(serving, &scratch);
    assert_eq!(counter(&report, "net_arp_requests_sent"), 0, "{:?}", report.counters);
    assert_eq!(served["counters"]["net_arp_requests_sent"].as_u64().unwrap_or(0), 0, "{served}");
    // What both say on their own is heard, and agrees.
    assert!(counter(&report, "net_announcements_sent") > 0, "{:?}", report.counters);
    assert!(served["counters"]["net_arp_received"].as_u64() > Some(0), "{served}");
    assert_eq!(served["counters"]["net_drop_static_mismatch"].as_u64().unwrap_or(0), 0, "{served}");
}

#[test]
fn addresses_are_announced_again_when_the_link_comes_back() {
    let _turn = one_at_a_time();
    let (a, b, scratch) = (Namespace::new("a"), Namespace::new("b"), Scratch::new());
    a.cable("eth", &b, "eth");
    let mut serving = server(&b, "eth", &scratch, "--ip 10.78.0.2/24");
    // The two announcements of the start are two seconds apart.
    thread::sleep(Duration::from_millis(2_500));
    a.run(&["ip", "link", "set", "eth", "down"]);
    serving.wait_for_complaint("af_packet:eth: the link is down");
    a.up("eth");
    serving.wait_for_complaint("af_packet:eth: the link is up again");
    let load = "--workload 100 --outstanding 1 --count 30";
    let options = format!("--ip 10.78.0.1/24 --server 10.78.0.2 {load}");
    client(&a, "eth", &scratch, &options).expect_code(0);
    let served = stop(serving, &scratch);
    assert!(served["counters"]["net_announcements_sent"].as_u64() >= Some(3), "{served}");
}

#[test]
fn an_interface_that_is_down_is_waited_for() {
    let _turn = one_at_a_time();
    let (a, b, scratch) = (Namespace::new("a"), Namespace::new("b"), Scratch::new());
    a.cable("eth", &b, "eth");
    a.run(&["ip", "link", "set", "eth", "down"]);
    let mut serving = server(&b, "eth", &scratch, "--ip 10.78.1.2/24");
    serving.wait_for_complaint("no link yet");
    let options = "--ip 10.78.1.1/24 --server 10.78.1.2 --workload 100 --outstanding 1 --count 30";
    let ended = client(&a, "eth", &scratch, options);
    ended.expect_code(1);
    assert!(ended.stderr.contains("bring the interface up"), "{}", ended.stderr);
    a.up("eth");
    client(&a, "eth", &scratch, options).expect_code(0);
    stop(serving, &scratch);
}

#[test]
fn a_port_that_nobody_serves_is_reported_at_once() {
    let _turn = one_at_a_time();
    let (a, b, scratch) = (Namespace::new("a"), Namespace::new("b"), Scratch::new());
    a.cable("eth", &b, "eth");
    let serving = server(&b, "eth", &scratch, "--ip 10.75.0.2/24");
    let options = "--ip 10.75.0.1/24 --server 10.75.0.2:4100 --workload 100 --outstanding 1";
    let before = Instant::now();
    client(&a, "eth", &scratch, &format!("{options} --count 30")).expect_code(1);
    let report = client_report(&scratch);
    let failed: Vec<_> = report.totals.failed.iter().collect();
    assert_eq!(failed, [(&"unreachable".to_owned(), &30)], "{:?}", report.totals);
    assert!(before.elapsed() < Duration::from_secs(30), "one call after the other, none waits");
    let served = stop(serving, &scratch);
    assert!(served["counters"]["net_port_unreachable_sent"].as_u64() >= Some(30), "{served}");
}

#[test]
fn a_host_that_is_not_there_is_reported() {
    let _turn = one_at_a_time();
    let (a, b, scratch) = (Namespace::new("a"), Namespace::new("b"), Scratch::new());
    a.cable("eth", &b, "eth");
    let options = "--ip 10.76.0.1/24 --server 10.76.0.2 --workload 100 --outstanding 1 --count 3";
    let ended = client(&a, "eth", &scratch, options);
    ended.expect_code(1);
    assert!(ended.stderr.contains("10.76.0.2 does not answer ARP"), "{}", ended.stderr);
    let report = client_report(&scratch);
    assert_eq!(report.totals.completed, 0);
    let failed: Vec<&str> = report.totals.failed.keys().map(String::as_str).collect();
    assert_eq!(failed, ["unreachable"], "{:?}", report.totals);
}
