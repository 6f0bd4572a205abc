//! Nodes on rings within one process: two that are wired to each other, and one that calls itself. No
//! privilege needed.
#![cfg(all(feature = "dpdk", feature = "cli"))]

mod support;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use homa::dpdk::{Eal, EalConfig, Hugepages, allowed_cpus};
use homa::net;
use homa::node::{
    App, CallFailed, Cx, IdlePolicy, Node, NodeConfig, NodeError, Request, RequestHead, Response,
    ShardReport, Verdict,
};
use homa::transport;

use support::choosy_server::{
    ABANDONED, ATTACHED, CLOSED, ChoosyServer, ECHO, LATER, REFUSED_BYTES, Served,
};
use support::planned_calls::{Outcomes, Planned, PlannedCalls};
use support::process::{role, role_parameter, run};
use support::{one_at_a_time, patient};

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 50, 0, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 50, 0, 2);
const PREFIX_LEN: u8 = 24;
const MEMORY_MB: u32 = 256;

#[test]
fn two_nodes_in_one_process_without_hugepages() {
    let _turn = one_at_a_time();
    run("pair", &role("pair", "no-huge")).expect_code(0);
}

#[test]
fn two_nodes_in_one_process_with_hugepages_if_there_are_some() {
    let _turn = one_at_a_time();
    run("pair", &role("pair", "auto")).expect_code(0);
}

#[test]
fn packets_are_sent_again_while_the_ring_still_holds_them() {
    let _turn = one_at_a_time();
    run("pair", &role("pair", "impatient")).expect_code(0);
}

#[test]
fn a_node_calls_itself_over_a_loop() {
    let _turn = one_at_a_time();
    run("itself", &role("itself", "no-huge")).expect_code(0);
}

#[test]
fn calls_without_a_way_end_at_once() {
    let _turn = one_at_a_time();
    // Behind a gateway that there is not, of another family, to many at once, to the node itself.
    for host in ["11.0.0.2", "fd00::2", "224.0.0.1", "10.50.0.1"] {
        run(host, &role("stray", host)).expect_code(0);
    }
}

#[test]
fn a_program_can_have_one_node_after_the_other() {
    let _turn = one_at_a_time();
    run("again", &role("again", "no-huge")).expect_code(0);
}

fn hugepages() -> Hugepages {
    if role_parameter() == "auto" { Hugepages::Auto } else { Hugepages::Never }
}

/// Packets are lost, and asked for long before a busy receiver has taken them from its ring.
fn is_impatient() -> bool {
    role_parameter() == "impatient"
}

fn transport_config() -> transport::Config {
    if !is_impatient() {
        return patient();
    }
    transport::Config {
        resend_after_ns: 200_000,
        resend_interval_ns: 200_000,
        response_keep_ns: 1_000_000_000,
        ..patient()
    }
}

fn node_config(device: &str, address: Ipv4Addr, cpu: Option<usize>) -> NodeConfig {
    let device = device.parse().expect("a device");
    let config = NodeConfig::new(device, address, PREFIX_LEN);
    NodeConfig {
        cpus: cpu.into_iter().collect(),
        idle: IdlePolicy::Sleep,
        memory_mb: Some(MEMORY_MB),
        hugepages: hugepages(),
        rx_mbufs: 8_191,
        tx_mbufs: 8_191,
        transport: transport_config(),
        drop_fraction: if is_impatient() { 0.01 } else { 0.0 },
        // The last ack may be lost, and then the server forgets only after a while.
        drain: Duration::from_secs(10),
        ..config
    }
}

/// Every kind of call, from 1 byte to the longest, in an order that mixes them.
fn mixed_calls() -> Vec<Planned> {
    let sizes = [1, 7, 100, 1_424, 1_425, 9_000, 40_000, 40_001, 100_003, 300_000, 1_000_000];
    let ports = [ECHO, LATER, ATTACHED];
    let mut calls = Vec::new();
    for round in 0..20_usize {
        for (at, &bytes) in sizes.iter().enumerate() {
            let port = ports[(round + at) % ports.len()];
            calls.push(Planned { port, bytes, attached: (round + at) % 2 == 1 });
        }
        for extra in 0..100 {
            let bytes = (round * 131 + extra * 17) as u32 % 3_000 + 1;
            calls.push(Planned { port: ports[extra % 3], bytes, attached: extra % 5 == 0 });
        }
    }
    calls
}

/// Calls that are not answered: abandoned by the server, refused at their head, to a closed port.
fn hopeless_calls() -> Vec<Planned> {
    let call = |port, bytes| Planned { port, bytes, attached: false };
    let mut calls = vec![call(ABANDONED, 100); 30];
    calls.extend(vec![call(ABANDONED, 50_000); 10]);
    calls.extend(vec![call(ECHO, REFUSED_BYTES); 10]);
    calls.extend(vec![call(CLOSED, 100); 10]);
    calls.extend(vec![call(CLOSED, 50_000); 10]);
    calls
}

fn expect_failures(outcomes: &Outcomes) {
    let expected = BTreeMap::from([("Timeout".to_owned(), 50), ("PortUnreachable".to_owned(), 20)]);
    assert_eq!(outcomes.failed, expected, "{outcomes:?}");
    assert_eq!(outcomes.corrupted, 0);
}

fn expect_empty(report: &ShardReport) {
    let occupancy = report.occupancy;
    assert_eq!((occupancy.client_rpcs, occupancy.server_rpcs), (0, 0), "{occupancy:?}");
    assert_eq!((occupancy.retained_packets, occupancy.outgoing_bytes), (0, 0), "{occupancy:?}");
}

/// For the reader of a failed test.
fn describe(name: &str, report: &ShardReport) {
    let counters: Vec<_> =
        report.metrics.iter().chain(report.stats.iter()).filter(|counter| counter.1 > 0).collect();
    println!("{name}: {counters:?}, {:?}", report.occupancy);
}

#[test]
#[ignore = "a process of other tests"]
fn pair() {
    let devices = ["ring:pair", "ring:pair"];
    let eal = Eal::start(&EalConfig {
        devices: devices.iter().map(|text| text.parse().expect("a device")).collect(),
        memory_mb: MEMORY_MB,
        hugepages: hugepages(),
        file_prefix: format!("homa-test-{}", std::process::id()),
        ..EalConfig::default()
    })
    .expect("DPDK starts");
    let cpus = allowed_cpus();
    let configs = [
        node_config(devices[0], CLIENT, cpus.first().copied()),
        node_config(devices[1], SERVER, cpus.last().copied()),
    ];
    let [mut client, mut server] =
        [0, 1].map(|index| Node::start_on(&eal, index, &configs[index]).expect("a node"));
    let again = Node::start_on(&eal, 0, &configs[0]).expect_err("opened before");
    assert!(matches!(&again, NodeError::Dpdk(_)), "{again}");

    let alive = Arc::new(AtomicUsize::new(0));
    let served = Arc::new(Mutex::new(Served::default()));
    let outcomes = Arc::new(Mutex::new(Outcomes::default()));
    let (mixed, hopeless) = (mixed_calls(), hopeless_calls());
    let answered = mixed.len() as u64;
    let calls = if is_impatient() { mixed } else { [mixed, hopeless].concat() };
    let outstanding_max = if is_impatient() { 50 } else { 1_000 };
    let (client_report, server_report) = thread::scope(|scope| {
        let stop_server = server.stop_flag();
        let read_stats = server.stats_reader();
        let (server_eal, server_alive, result) = (eal.clone(), alive.clone(), served.clone());
        let serving = scope.spawn(|| {
            server.run(move |cx| ChoosyServer::new(cx, server_eal, server_alive, result))
        });
        let (client_eal, client_alive, result) = (eal.clone(), alive.clone(), outcomes.clone());
        let report = client.run(move |_| {
            PlannedCalls::new(
                client_eal,
                client_alive,
                SERVER.into(),
                calls,
                outstanding_max,
                result,
            )
        });
        assert!(read_stats().rx_packets > 0, "the server's counters can be read while it runs");
        stop_server.store(true, Ordering::Relaxed);
        (report, serving.join().expect("the server's thread"))
    });
    let client_report = client_report.expect("the client ends well");
    let server_report = server_report.expect("the server ends well");
    let second = client.run(|_| -> PlannedCalls { unreachable!("it does not run") });
    assert!(second.expect_err("once in its life").to_string().contains("has run before"));

    describe("client", &client_report);
    describe("server", &server_report);
    if is_impatient() {
        for report in [&client_report, &server_report] {
            assert!(report.metrics.bytes_resent > 100_000, "{:?}", report.metrics);
            assert!(report.metrics.duplicates > 0, "{:?}", report.metrics);
        }
    }
    let outcomes = outcomes.lock().expect("no panic").clone();
    let served = *served.lock().expect("no panic");
    assert_eq!(outcomes.answered, answered, "{outcomes:?}");
    assert!(outcomes.outstanding_most * 2 > outstanding_max, "{outcomes:?}");
    if is_impatient() {
        assert!(outcomes.failed.is_empty() && outcomes.corrupted == 0, "{outcomes:?}");
        assert_eq!((served.corrupted, served.requests), (0, answered), "{served:?}");
    } else {
        expect_failures(&outcomes);
        assert_eq!((served.corrupted, served.abandoned, served.refused), (0, 40, 10), "{served:?}");
        assert_eq!((served.requests, served.responses_refused), (answered + 40, 0), "{served:?}");
    }
    expect_empty(&client_report);
    expect_empty(&server_report);
    Node::close_all([client, server]).expect("every packet buffer is back");
    assert_eq!(alive.load(Ordering::SeqCst), 0, "memory of the application is its own again");
    eal.shutdown().expect("nothing is left");
}

/// Server and client at once.
struct Both {
    server: ChoosyServer,
    client: PlannedCalls,
}

impl App for Both {
    fn on_request(&mut self, cx: &mut Cx<'_>, request: Request) {
        self.server.on_request(cx, request);
    }

    fn on_response(&mut self, cx: &mut Cx<'_>, response: Result<Response, CallFailed>) {
        self.client.on_response(cx, response);
    }

    fn on_request_head(&mut self, head: RequestHead<'_>) -> Verdict {
        self.server.on_request_head(head)
    }

    fn on_poll(&mut self, cx: &mut Cx<'_>) {
        self.server.on_poll(cx);
        self.client.on_poll(cx);
    }
}

#[test]
#[ignore = "a process of other tests"]
fn itself() {
    let config = node_config("ring", CLIENT, None);
    let loopback = net::Config { loopback: true, ..config.net.clone() };
    let mut node = Node::start(&NodeConfig { net: loopback, ..config }).expect("a node");
    let alive = Arc::new(AtomicUsize::new(0));
    let served = Arc::new(Mutex::new(Served::default()));
    let outcomes = Arc::new(Mutex::new(Outcomes::default()));
    let calls = [mixed_calls(), hopeless_calls()].concat();
    let answered = mixed_calls().len() as u64;
    let report = {
        let (eal, alive, host) = (node.eal().clone(), alive.clone(), IpAddr::from(CLIENT));
        let (served, outcomes) = (served.clone(), outcomes.clone());
        node.run(move |cx| Both {
            server: ChoosyServer::new(cx, eal.clone(), alive.clone(), served),
            client: PlannedCalls::new(eal, alive, host, calls, 1_000, outcomes),
        })
    };
    let report = report.expect("the node ends well");
    describe("both", &report);
    let outcomes = outcomes.lock().expect("no panic").clone();
    assert_eq!(outcomes.answered, answered, "{outcomes:?}");
    expect_failures(&outcomes);
    assert_eq!(served.lock().expect("no panic").corrupted, 0);
    expect_empty(&report);
    node.close().expect("every packet buffer is back, and nothing else is left");
    assert_eq!(alive.load(Ordering::SeqCst), 0, "memory of the application is its own again");
}

/// DPDK starts once and keeps a device from being opened twice; nodes come and go, each on a device of
/// its own, and the second finds nothing of the first.
#[test]
#[ignore = "a process of other tests"]
fn again() {
    let devices = vec!["ring".parse().expect("a device"); 2];
    let eal = Eal::start(&EalConfig {
        devices,
        memory_mb: MEMORY_MB,
        hugepages: hugepages(),
        file_prefix: format!("homa-test-{}", std::process::id()),
        ..EalConfig::default()
    })
    .expect("DPDK starts");
    let config = node_config("ring", CLIENT, None);
    let config = NodeConfig { net: net::Config { loopback: true, ..config.net.clone() }, ..config };
    for index in 0..2 {
        let mut node = Node::start_on(&eal, index, &config).expect("a node");
        let alive = Arc::new(AtomicUsize::new(0));
        let served = Arc::new(Mutex::new(Served::default()));
        let outcomes = Arc::new(Mutex::new(Outcomes::default()));
        let report = {
            let (eal, alive, host) = (eal.clone(), alive.clone(), IpAddr::from(CLIENT));
            let (served, outcomes) = (served.clone(), outcomes.clone());
            node.run(move |cx| Both {
                server: ChoosyServer::new(cx, eal.clone(), alive.clone(), served),
                client: PlannedCalls::new(eal, alive, host, mixed_calls(), 1_000, outcomes),
            })
        };
        let report = report.expect("the node ends well");
        let outcomes = outcomes.lock().expect("no panic").clone();
        let expected = mixed_calls().len() as u64;
        assert_eq!((outcomes.answered, outcomes.corrupted), (expected, 0), "{index}: {outcomes:?}");
        assert_eq!(served.lock().expect("no panic").requests, expected, "{index}");
        assert_eq!(report.metrics.client_started, expected, "{index}: counted from zero");
        expect_empty(&report);
        node.close().expect("every packet buffer is back");
        assert_eq!(alive.load(Ordering::SeqCst), 0, "{index}");
        let reopened = Node::start_on(&eal, index, &config).expect_err("opened before");
        assert!(reopened.to_string().contains("was opened before"), "{reopened}");
    }
    let directory = eal.runtime_directory();
    assert!(directory.is_dir(), "{}", directory.display());
    eal.shutdown().expect("nothing is left");
    assert!(!directory.exists(), "{} is left", directory.display());
    let restarted = Node::start(&config).expect_err("DPDK has ended");
    assert!(restarted.to_string().contains("cannot start again"), "{restarted}");
}

#[test]
#[ignore = "a process of other tests"]
fn stray() {
    let host: IpAddr = role_parameter().parse().expect("an address");
    let config = NodeConfig {
        hugepages: Hugepages::Never,
        idle: IdlePolicy::Sleep,
        ..NodeConfig::new("ring".parse().expect("a device"), CLIENT, PREFIX_LEN)
    };
    assert!(config.check_destination(host).is_err());
    let mut node = Node::start(&config).expect("a node");
    let outcomes = Arc::new(Mutex::new(Outcomes::default()));
    let (eal, told) = (node.eal().clone(), outcomes.clone());
    let calls = vec![Planned { port: ECHO, bytes: 5_000, attached: false }; 100];
    let report = node.run(move |_| PlannedCalls::new(eal, Arc::default(), host, calls, 10, told));
    let outcomes = outcomes.lock().expect("no panic").clone();
    assert_eq!(outcomes.failed, BTreeMap::from([("HostUnreachable".to_owned(), 100)]));
    expect_empty(&report.expect("the node ends well"));
    node.close().expect("every packet buffer is back");
}
