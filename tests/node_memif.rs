//! Two processes over shared memory (memif). No privilege needed.
//!
//! The side that polls must not be there when the other one takes the shared memory away, see
//! `Capabilities::unmaps_when_peer_leaves`: so the server always ends first, while the client is there
//! but does not poll.
#![cfg(all(feature = "dpdk", feature = "cli"))]

mod support;

use std::collections::BTreeMap;
use std::io::Read;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use homa::dpdk::{Hugepages, allowed_cpus};
use homa::load::report::Report;
use homa::node::{IdlePolicy, Node, NodeConfig, stop_on_signals};

use support::choosy_server::{
    ABANDONED, ATTACHED, CLOSED, ChoosyServer, ECHO, LATER, REFUSED_BYTES, Served,
};
use support::load_report::{self, counter, expect_clean};
use support::planned_calls::{Outcomes, Planned, PlannedCalls};
use support::process::{Process, homa_load, role, role_parameter, run};
use support::scratch::Scratch;
use support::{TIMEOUT_OPTION, one_at_a_time, patient};

/// Runs `homa-load local`, which checks every byte on both sides, and gives its report.
fn local(options: &str) -> Report {
    let scratch = Scratch::new();
    let json = scratch.path("report.json");
    let command =
        homa_load(["local --warm-up 10ms --idle sleep", TIMEOUT_OPTION, options, "--json", &json]);
    run(&format!("homa-load local {options}"), &command).expect_code(0);
    load_report::of_client(&scratch, "report.json")
}

/// Packets were lost on both sides, and what they carried was sent again.
fn expect_recovery(report: &Report) {
    for name in ["loop_rx_dropped_on_purpose", "bytes_resent"] {
        assert!(counter(report, name) > 0, "client: {name}: {:?}", report.counters);
        let server = format!("server_{name}");
        assert!(counter(report, &server) > 0, "{server}: {:?}", report.counters);
    }
}

#[test]
fn workloads_w1_to_w4_arrive_intact() {
    let _turn = one_at_a_time();
    for (workload, rpcs) in [("w1", 20_000), ("w2", 20_000), ("w3", 5_000), ("w4", 1_000)] {
        let report = local(&format!("--no-huge --workload {workload} --count {rpcs}"));
        expect_clean(&report, rpcs);
        assert!(report.config.port.contains("no hugepages"), "{}", report.config.port);
    }
}

#[test]
fn messages_of_every_length_arrive_intact() {
    let _turn = one_at_a_time();
    // Around full packets of MTU 1500 (1424 bytes) and the unscheduled bytes (40000).
    let lengths = [1, 2, 1_423, 1_424, 1_425, 39_999, 40_000, 40_001, 1_000_000];
    for bytes in lengths {
        let report = local(&format!("--no-huge --workload {bytes} --count 100"));
        expect_clean(&report, 100);
    }
    // Around full packets of MTU 600 (524 bytes).
    for bytes in [523, 524, 525, 1_000_000] {
        let report = local(&format!("--no-huge --mtu 600 --workload {bytes} --count 50"));
        expect_clean(&report, 50);
    }
}

#[test]
fn large_frames_arrive_intact_and_once() {
    let _turn = one_at_a_time();
    for memory in ["--no-huge", ""] {
        for mtu in [2_031, 9_000] {
            let report = local(&format!("{memory} --mtu {mtu} --workload w4 --count 2000"));
            expect_clean(&report, 2_000);
            let count = |name| report.counters.get(name).copied().unwrap_or(0);
            let (sent, received) = (count("server_loop_tx_packets"), count("loop_rx_packets"));
            assert!(received <= sent, "MTU {mtu}: {received} received of {sent} sent");
        }
    }
}

#[test]
fn thousands_of_rpcs_are_outstanding() {
    let _turn = one_at_a_time();
    let report = local("--workload w2 --outstanding 5000 --count 50000");
    expect_clean(&report, 50_000);
    let report = local("--no-huge --workload w3 --outstanding 2000 --count 10000");
    expect_clean(&report, 10_000);
}

#[test]
fn short_responses_and_an_open_loop_work() {
    let _turn = one_at_a_time();
    expect_clean(&local("--workload w4 --response short --count 500"), 500);
    let report = local("--no-huge --workload w3 --rps 2000 --duration 1s");
    expect_clean(&report, 500);
}

#[test]
fn lost_packets_are_sent_again() {
    let _turn = one_at_a_time();
    for (options, rpcs) in [
        ("--no-huge --drop-percent 1 --workload w3 --count 3000", 3_000),
        ("--drop-percent 1 --workload w4 --count 500", 500),
        ("--no-huge --drop-percent 10 --workload w2 --outstanding 2000 --count 10000", 10_000),
        ("--no-huge --drop-percent 10 --workload w4 --count 300", 300),
        ("--drop-percent 10 --mtu 600 --workload w3 --count 1000", 1_000),
        ("--no-huge --drop-percent 10 --mtu 600 --workload 1MB --count 20", 20),
    ] {
        let report = local(options);
        expect_clean(&report, rpcs);
        expect_recovery(&report);
    }
}

// ---- applications of the test, in two processes ------------------------------------------------

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 60, 0, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 60, 0, 2);

/// Runs [`choosy_server`] and [`planned_calls`] as processes; each checks itself.
fn applications(options: &str) {
    let _turn = one_at_a_time();
    let scratch = Scratch::new();
    let parameter = format!("{} {options}", scratch.path("memif.sock"));
    let mut server = Process::spawn("server", &role("choosy_server", &parameter));
    server.wait_for("the server is ready");
    let mut client = Process::spawn("client", &role("planned_calls", &parameter));
    client.wait_for("the client has its answers");
    server.signal("TERM");
    server.wait().expect_code(0);
    client.end_input();
    client.wait().expect_code(0);
}

#[test]
fn applications_lend_abandon_keep_and_refuse() {
    applications("no-huge 1500 0");
}

#[test]
fn applications_do_so_with_hugepages_small_packets_and_loss() {
    applications("auto 600 0.01");
}

#[test]
fn applications_do_so_with_much_loss() {
    applications("no-huge 1500 0.1");
}

fn node_config(role: &str, address: Ipv4Addr, cpu: Option<usize>) -> NodeConfig {
    let parameter = role_parameter();
    let words: Vec<&str> = parameter.split(' ').collect();
    let [socket, memory, mtu, drop_fraction] = words[..] else { panic!("'{parameter}'") };
    let device = format!("memif:{socket},role={role}").parse().expect("a device");
    let config = NodeConfig::new(device, address, 24);
    NodeConfig {
        cpus: cpu.into_iter().collect(),
        idle: IdlePolicy::Sleep,
        mtu: mtu.parse().expect("a number"),
        drop_fraction: drop_fraction.parse().expect("a number"),
        hugepages: if memory == "no-huge" { Hugepages::Never } else { Hugepages::Auto },
        transport: patient(),
        ..config
    }
}

#[test]
#[ignore = "a process of other tests"]
fn choosy_server() {
    let cpu = allowed_cpus().last().copied();
    let mut node = Node::start(&node_config("server", SERVER, cpu)).expect("a node");
    stop_on_signals(&node.stop_flag()).expect("signals");
    println!("the server is ready");
    let alive = Arc::new(AtomicUsize::new(0));
    let served = Arc::new(Mutex::new(Served::default()));
    let (eal, lent, result) = (node.eal().clone(), alive.clone(), served.clone());
    let report = node.run(move |cx| ChoosyServer::new(cx, eal, lent, result));
    let served = *served.lock().expect("no panic");
    println!("{served:?}, {:?}", report.expect("the server ends well").occupancy);
    assert_eq!((served.corrupted, served.responses_refused), (0, 0));
    assert!(served.requests > 1_000 && served.abandoned == 40 && served.refused == 10);
    node.close().expect("every packet buffer is back");
    assert_eq!(alive.load(Ordering::SeqCst), 0, "memory of the application is its own again");
}

fn calls() -> Vec<Planned> {
    let sizes = [1, 100, 523, 524, 525, 1_424, 1_425, 40_001, 100_003, 1_000_000];
    let ports = [ECHO, ATTACHED, LATER];
    let of_round = |round: usize| {
        let large = sizes.iter().enumerate().map(move |(at, &bytes)| Planned {
            port: ports[(round + at) % 3],
            bytes,
            attached: (round + at).is_multiple_of(2),
        });
        let small = (0..100).map(move |at| Planned {
            port: ports[at % 3],
            bytes: (round * 131 + at * 37) as u32 % 4_000 + 1,
            attached: at % 4 == 0,
        });
        large.chain(small)
    };
    let mut calls: Vec<Planned> = (0..15).flat_map(of_round).collect();
    for (port, bytes, count) in [
        (ABANDONED, 100, 30),
        (ABANDONED, 50_000, 10),
        (ECHO, REFUSED_BYTES, 10),
        (CLOSED, 1_000, 10),
    ] {
        calls.extend(vec![Planned { port, bytes, attached: false }; count]);
    }
    calls
}

#[test]
#[ignore = "a process of other tests"]
fn planned_calls() {
    let cpu = allowed_cpus().first().copied();
    let mut node = Node::start(&node_config("client", CLIENT, cpu)).expect("a node");
    let alive = Arc::new(AtomicUsize::new(0));
    let outcomes = Arc::new(Mutex::new(Outcomes::default()));
    let (eal, lent, result) = (node.eal().clone(), alive.clone(), outcomes.clone());
    let report = node
        .run(move |_| PlannedCalls::new(eal, lent, SERVER.into(), calls(), 2_000, result))
        .expect("the client ends well");
    println!("the client has its answers");
    // The server leaves now; nobody polls here any more.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());

    let outcomes = outcomes.lock().expect("no panic").clone();
    println!("{outcomes:?}, {:?}", report.occupancy);
    let failed = BTreeMap::from([("Timeout".to_owned(), 50), ("PortUnreachable".to_owned(), 10)]);
    assert_eq!((&outcomes.failed, outcomes.corrupted), (&failed, 0));
    assert_eq!(outcomes.answered as usize, calls().len() - 60);
    assert!(outcomes.outstanding_most > 1_000);
    assert_eq!(report.occupancy.client_rpcs, 0);
    node.close().expect("every packet buffer is back");
    assert_eq!(alive.load(Ordering::SeqCst), 0, "memory of the application is its own again");
}
