//! Interfaces of the kernel whose other end is the node (tap). Runs as root.
#![cfg(all(feature = "dpdk", feature = "cli"))]

mod support;

use std::collections::BTreeMap;
use std::io::Read;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use homa::dpdk::Hugepages;
use homa::node::{IdlePolicy, Node, NodeConfig};

use support::choosy_server::ECHO;
use support::load_report::{self, counter, expect_clean};
use support::namespace::Namespace;
use support::ping::ping;
use support::planned_calls::{Outcomes, Planned, PlannedCalls};
use support::process::{Process, homa_load, role, role_parameter, run};
use support::scratch::Scratch;
use support::{TIMEOUT_OPTION, one_at_a_time, patient};

const ALIKE: &str = "--no-huge --idle sleep";
const KERNEL: Ipv4Addr = Ipv4Addr::new(10, 80, 0, 1);
const NODE: Ipv4Addr = Ipv4Addr::new(10, 80, 0, 2);

/// A server behind the interface `tap` of `namespace`, ready.
fn server(namespace: &Namespace, scratch: &Scratch) -> Process {
    let json = scratch.path("server.json");
    let command = homa_load([
        "server --device tap:tap",
        ALIKE,
        TIMEOUT_OPTION,
        &format!("--ip {NODE}/24"),
        "--json",
        &json,
    ]);
    let mut server = Process::spawn("server", &namespace.within(&command));
    server.wait_for("serving on");
    server
}

#[test]
fn the_kernel_pings_the_node() {
    let _turn = one_at_a_time();
    let (namespace, scratch) = (Namespace::new("tap"), Scratch::new());
    let mut serving = server(&namespace, &scratch);
    namespace.address("tap", "10.80.0.1/24");
    run("pings", &namespace.within(&role("pings", ""))).expect_code(0);
    serving.signal("TERM");
    serving.wait().expect_code(0);
    let served = load_report::of_server(&scratch, "server.json");
    assert!(served["counters"]["net_echo_replies_sent"].as_u64() >= Some(20), "{served}");
}

#[test]
#[ignore = "a process of other tests"]
fn pings() {
    for payload_bytes in [56, 1_400] {
        assert_eq!(ping(NODE, 10, payload_bytes), 10, "pings of {payload_bytes} bytes");
    }
}

#[test]
fn a_bridge_carries_rpcs_between_a_tap_and_a_packet_socket() {
    let _turn = one_at_a_time();
    let (a, b, scratch) = (Namespace::new("tap"), Namespace::new("b"), Scratch::new());
    b.cable("eth", &a, "far");
    a.run(&["ip", "link", "add", "bridge", "type", "bridge"]);
    a.up("bridge");
    a.run(&["ip", "link", "set", "far", "master", "bridge"]);
    let mut serving = server(&a, &scratch);
    a.run(&["ip", "link", "set", "tap", "master", "bridge"]);
    a.up("tap");
    let json = scratch.path("client.json");
    for (load, rpcs) in [
        ("--workload w3 --outstanding 50 --count 1000", 1_000),
        ("--workload 300KB --outstanding 2 --count 10", 10),
    ] {
        let command = homa_load([
            "client --device af_packet:eth --ip 10.80.0.3/24 --warm-up 10ms",
            ALIKE,
            TIMEOUT_OPTION,
            &format!("--server {NODE}"),
            load,
            "--json",
            &json,
        ]);
        run("client", &b.within(&command)).expect_code(0);
        let report = load_report::of_client(&scratch, "client.json");
        expect_clean(&report, rpcs);
        assert!(counter(&report, "net_arp_requests_sent") > 0, "{:?}", report.counters);
    }
    serving.signal("TERM");
    serving.wait().expect_code(0);
    let served = load_report::of_server(&scratch, "server.json");
    assert_eq!(served["counts"]["corrupted"], 0, "{served}");
}

#[test]
fn a_host_that_does_not_speak_homa_says_so() {
    let _turn = one_at_a_time();
    let namespace = Namespace::new("tap");
    let command = role("caller_of_the_kernel", &KERNEL.to_string());
    let mut caller = Process::spawn("caller", &namespace.within(&command));
    caller.wait_for("the interface is there");
    namespace.address("tap", "10.80.0.1/24");
    caller.end_input();
    caller.wait().expect_code(0);
}

#[test]
#[ignore = "a process of other tests"]
fn caller_of_the_kernel() {
    let host: Ipv4Addr = role_parameter().parse().expect("an address");
    let config = NodeConfig::new("tap:tap".parse().expect("a device"), NODE, 24);
    let mut node = Node::start(&NodeConfig {
        hugepages: Hugepages::Never,
        idle: IdlePolicy::Sleep,
        transport: patient(),
        ..config
    })
    .expect("a node");
    println!("the interface is there");
    let _ = std::io::stdin().read_to_end(&mut Vec::new());

    let alive = Arc::new(AtomicUsize::new(0));
    let outcomes = Arc::new(Mutex::new(Outcomes::default()));
    // All at once: the kernel limits how often it says so.
    let calls = vec![Planned { port: ECHO, bytes: 100, attached: false }; 5];
    let (eal, lent, result) = (node.eal().clone(), alive.clone(), outcomes.clone());
    node.run(move |_| PlannedCalls::new(eal, lent, host.into(), calls, 5, result))
        .expect("the client ends well");
    let outcomes = outcomes.lock().expect("no panic").clone();
    let failed = BTreeMap::from([("ProtocolUnreachable".to_owned(), 5)]);
    assert_eq!((outcomes.answered, &outcomes.failed), (0, &failed));
    node.close().expect("every packet buffer is back");
    assert_eq!(alive.load(Ordering::SeqCst), 0);
}
