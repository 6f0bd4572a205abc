//! Two nodes over a bridge of virtual cables in network namespaces: every family of addresses, form
//! of packets and size of frames, also with loss; and the ordinary tools of a host against a node.
//! Runs as root.
#![cfg(all(feature = "dpdk", feature = "cli"))]

mod support;

use std::process::{Command, Output};
use std::sync::Arc;

use homa::node::stop_on_signals;
use homa::time::Nanos;

use support::load_report::{self, counter, expect_clean};
use support::lossy_cable::{Faults, carry};
use support::namespace::Namespace;
use support::one_at_a_time;
use support::process::{Process, homa_load, role, run};
use support::scratch::Scratch;

const ALIKE: &str = "--no-huge --idle sleep --timeout 3s";
const DEVICE: &str = "--device af_packet:eth";

/// What a pair of nodes is told.
struct Pair {
    /// Options of both.
    both: &'static str,
    server: &'static str,
    client: &'static str,
    /// MTU of the interfaces of server and client.
    mtus: [u16; 2],
}

const PLAIN: Pair = Pair { both: "", server: "--ip 10.60.0.2/24", client: "", mtus: [1500, 1500] };

/// Two hosts on a bridge.
struct Bridged {
    server: Namespace,
    client: Namespace,
    _bridge: Namespace,
    scratch: Scratch,
}

impl Bridged {
    fn new(mtus: [u16; 2]) -> Self {
        let bridge = Namespace::new("bridge");
        bridge.run(&["ip", "link", "add", "bridge", "type", "bridge"]);
        let mut hosts = ["server", "client"].into_iter().zip(mtus).map(|(role, mtu)| {
            let host = Namespace::new(role);
            host.cable("eth", &bridge, role);
            host.run(&["ip", "link", "set", "eth", "mtu", &mtu.to_string()]);
            bridge.run(&["ip", "link", "set", role, "mtu", &mtu.to_string(), "master", "bridge"]);
            host
        });
        let (server, client) = (hosts.next().expect("two"), hosts.next().expect("two"));
        drop(hosts);
        bridge.up("bridge");
        Self { server, client, _bridge: bridge, scratch: Scratch::new() }
    }
}

fn start_server(host: &Namespace, scratch: &Scratch, options: &str) -> Process {
    let json = scratch.path("server.json");
    let command = homa_load(["server", options, ALIKE, "--json", &json]);
    let mut server = Process::spawn("server", &host.within(&command));
    server.wait_for("serving on");
    server
}

fn stop_server(mut server: Process, scratch: &Scratch) -> serde_json::Value {
    server.signal("TERM");
    server.wait().expect_code(0);
    let served = load_report::of_server(scratch, "server.json");
    assert_eq!(served["counts"]["corrupted"], 0, "{served}");
    served
}

/// Runs a client that must complete all of `rpcs` RPCs with right contents; gives its counters.
fn complete(
    host: &Namespace,
    scratch: &Scratch,
    options: &str,
    rpcs: u64,
) -> homa::load::report::Report {
    let json = scratch.path("client.json");
    let command = homa_load(["client --warm-up 10ms", options, ALIKE, "--json", &json]);
    run("client", &host.within(&command)).expect_code(0);
    let report = load_report::of_client(scratch, "client.json");
    expect_clean(&report, rpcs);
    report
}

fn device(mtu: u16) -> String {
    format!("{DEVICE} --mtu {mtu}")
}

/// A mixed workload between two nodes completes; returns what server and client have counted.
fn exchange(pair: &Pair) -> (serde_json::Value, homa::load::report::Report) {
    let Pair { both, server, client, mtus } = pair;
    let bridged = Bridged::new(*mtus);
    let scratch = &bridged.scratch;
    let options = format!("{} {both} {server}", device(mtus[0]));
    let serving = start_server(&bridged.server, scratch, &options);
    let client = format!("{} {both} {client}", device(mtus[1]));
    let short = format!("{client} --workload w2 --outstanding 100 --count 2000");
    complete(&bridged.client, scratch, &short, 2_000);
    let long = format!("{client} --workload 300KB --outstanding 3 --count 20");
    complete(&bridged.client, scratch, &long, 20);
    let mixed = format!("{client} --workload w4 --outstanding 20 --count 300");
    let report = complete(&bridged.client, scratch, &mixed, 300);
    (stop_server(serving, scratch), report)
}

#[test]
fn ipv4_native() {
    let _turn = one_at_a_time();
    let client = "--ip 10.60.0.1/24 --server 10.60.0.2";
    let (served, _) = exchange(&Pair { client, ..PLAIN });
    assert_eq!(served["counters"]["net_marked_tcp_received"].as_u64(), None, "{served}");
}

#[test]
fn ipv6_native() {
    let _turn = one_at_a_time();
    let (served, report) = exchange(&Pair {
        server: "--ip fd60::2/64",
        client: "--ip fd60::1/64 --server fd60::2",
        ..PLAIN
    });
    // Nobody told the client where the server is: it asked.
    assert!(counter(&report, "net_nd_solicitations_sent") > 0, "{:?}", report.counters);
    assert!(served["counters"]["net_nd_advertisements_sent"].as_u64() > Some(0), "{served}");
    assert_eq!(counter(&report, "net_arp_requests_sent"), 0);
}

#[test]
fn both_families_at_once_and_link_local() {
    let _turn = one_at_a_time();
    let (_, report) = exchange(&Pair {
        server: "--ip 10.60.0.2/24 --ip fe80::2/64 --ip fd60::2/64",
        client: "--ip 10.60.0.1/24 --ip fe80::1/64 --ip fd60::1/64 --server 10.60.0.2 \
                 --server fe80::2 --server [fd60::2]:4000",
        ..PLAIN
    });
    for asked in ["net_arp_requests_sent", "net_nd_solicitations_sent"] {
        assert!(counter(&report, asked) > 0, "{:?}", report.counters);
    }
}

#[test]
fn marked_tcp_in_both_families() {
    let _turn = one_at_a_time();
    let (served, report) = exchange(&Pair {
        both: "--marked-tcp",
        server: "--ip 10.60.0.2/24 --ip fd60::2/64",
        client: "--ip 10.60.0.1/24 --ip fd60::1/64 --server 10.60.0.2 --server fd60::2",
        ..PLAIN
    });
    let all = |counters: &serde_json::Value| {
        let count = |name: &str| counters[name].as_u64().expect("a counter");
        assert_eq!(count("net_marked_tcp_received"), count("net_homa_received"), "{counters}");
        assert!(count("net_homa_received") > 300, "{counters}");
    };
    all(&served["counters"]);
    let counters = serde_json::to_value(&report.counters).expect("numbers");
    all(&counters);
}

#[test]
fn one_side_marks_and_the_other_does_not() {
    let _turn = one_at_a_time();
    let (served, report) = exchange(&Pair {
        server: "--ip 10.60.0.2/24",
        client: "--ip 10.60.0.1/24 --server 10.60.0.2 --marked-tcp-peer 10.60.0.2",
        ..PLAIN
    });
    assert!(served["counters"]["net_marked_tcp_received"].as_u64() > Some(300), "{served}");
    assert_eq!(counter(&report, "net_marked_tcp_received"), 0);
}

#[test]
fn jumbo_frames_in_both_families() {
    let _turn = one_at_a_time();
    exchange(&Pair {
        server: "--ip 10.60.0.2/24 --ip fd60::2/64",
        client: "--ip 10.60.0.1/24 --ip fd60::1/64 --server 10.60.0.2 --server fd60::2",
        mtus: [9000, 9000],
        ..PLAIN
    });
}

#[test]
fn a_jumbo_node_speaks_to_an_ordinary_one() {
    let _turn = one_at_a_time();
    for marking in ["", "--marked-tcp"] {
        exchange(&Pair {
            both: marking,
            server: "--ip 10.60.0.2/24 --ip fd60::2/64",
            client: "--ip 10.60.0.1/24 --ip fd60::1/64 --server 10.60.0.2 --server fd60::2 \
                     --peer-mtu 10.60.0.2=1500 --peer-mtu fd60::2=1500",
            mtus: [1500, 9000],
        });
    }
}

#[test]
fn tagged_frames_with_their_priority() {
    let _turn = one_at_a_time();
    exchange(&Pair {
        both: "--vlan 60 --vlan-pcp",
        server: "--ip 10.60.0.2/24 --ip fd60::2/64",
        client: "--ip 10.60.0.1/24 --ip fd60::1/64 --server 10.60.0.2 --server fd60::2",
        ..PLAIN
    });
}

#[test]
fn a_thousand_calls_at_once_wait_for_an_address_without_loss() {
    let _turn = one_at_a_time();
    let bridged = Bridged::new(PLAIN.mtus);
    let scratch = &bridged.scratch;
    let serving = start_server(&bridged.server, scratch, &format!("{DEVICE} --ip 10.60.0.2/24"));
    let options = format!(
        "{DEVICE} --ip 10.60.0.1/24 --server 10.60.0.2 --workload 100 --outstanding 1000 \
         --count 3000"
    );
    let report = complete(&bridged.client, scratch, &options, 3_000);
    assert_eq!(counter(&report, "loop_tx_unresolved"), 0, "{:?}", report.counters);
    stop_server(serving, scratch);
}

/// The driver of tap computes TCP checksums and cuts long packets, as a card would, as long as there is
/// room for its idea of an MTU; with IPv4 alone, packets fill the frame and are not cut.
#[test]
fn the_port_cuts_marked_tcp() {
    let _turn = one_at_a_time();
    for (ours, theirs, is_cut) in [
        ("--ip 10.66.0.2/24 --ip fd66::2/64", "--server 10.66.0.2 --server fd66::2", true),
        ("--ip 10.66.0.2/24", "--server 10.66.0.2", false),
    ] {
        let (a, b, scratch) = (Namespace::new("tap"), Namespace::new("b"), Scratch::new());
        b.cable("eth", &a, "far");
        a.run(&["ip", "link", "add", "bridge", "type", "bridge"]);
        a.up("bridge");
        a.run(&["ip", "link", "set", "far", "master", "bridge"]);
        let options = format!("--device tap:tap --marked-tcp {ours}");
        let serving = start_server(&a, &scratch, &options);
        a.run(&["ip", "link", "set", "tap", "master", "bridge"]);
        a.up("tap");
        let client = format!("{DEVICE} --marked-tcp --ip 10.66.0.1/24 --ip fd66::1/64 {theirs}");
        for (load, rpcs) in [
            ("--workload 300KB --outstanding 3 --count 30", 30),
            ("--workload w3 --outstanding 50 --count 1000", 1_000),
        ] {
            let report = complete(&b, &scratch, &format!("{client} {load}"), rpcs);
            let marked = counter(&report, "net_marked_tcp_received");
            assert_eq!(marked, counter(&report, "net_homa_received"), "{:?}", report.counters);
        }
        let served = stop_server(serving, &scratch);
        let cut = served["counters"]["loop_tx_segmented"].as_u64();
        assert_eq!(cut > Some(100), is_cut, "{served}");
    }
}

// ---- loss and reordering -----------------------------------------------------------------------

/// A cable with 2 % loss and reordering between two nodes with these options.
fn exchange_with_loss(server: &str, client: &str) {
    let (a, middle, b) = (Namespace::new("a"), Namespace::new("middle"), Namespace::new("b"));
    let scratch = Scratch::new();
    a.cable("eth", &middle, "left");
    b.cable("eth", &middle, "right");
    let mut cable = Process::spawn("cable", &middle.within(&role("cable", "")));
    cable.wait_for("the cable carries frames");
    let serving = start_server(&b, &scratch, &format!("{DEVICE} {server}"));
    for (load, rpcs) in [
        ("--workload w3 --outstanding 50 --count 600", 600),
        ("--workload 200KB --outstanding 4 --count 20", 20),
    ] {
        let report = complete(&a, &scratch, &format!("{DEVICE} {client} {load}"), rpcs);
        assert!(counter(&report, "bytes_resent") > 0, "{:?}", report.counters);
    }
    stop_server(serving, &scratch);
    cable.signal("TERM");
    cable.wait().expect_code(0);
}

#[test]
#[ignore = "a process of other tests"]
fn cable() {
    let stop = Arc::default();
    stop_on_signals(&stop).expect("signals");
    let faults = Faults { delay: Nanos::from_us(300), loss: 0.02, doubling: 0.0, lateness: 0.05 };
    let (frames, lost) = carry(["left", "right"], &faults, &stop);
    println!("{lost} of {frames} frames were lost");
    assert!(lost > 0);
}

#[test]
fn ipv6_with_loss_and_reordering() {
    let _turn = one_at_a_time();
    exchange_with_loss("--ip fd61::2/64", "--ip fd61::1/64 --server fd61::2");
}

#[test]
fn marked_tcp_on_a_vlan_with_loss_and_reordering() {
    let _turn = one_at_a_time();
    let alike = "--marked-tcp --vlan 61 --vlan-pcp";
    exchange_with_loss(
        &format!("{alike} --ip 10.61.0.2/24 --ip fd61::2/64"),
        &format!("{alike} --ip 10.61.0.1/24 --ip fd61::1/64 --server 10.61.0.2 --server fd61::2"),
    );
}

#[test]
fn pieces_for_a_smaller_mtu_with_loss_and_reordering() {
    let _turn = one_at_a_time();
    exchange_with_loss(
        "--ip 10.61.0.2/24 --peer-mtu 10.61.0.1=700",
        "--ip 10.61.0.1/24 --server 10.61.0.2 --peer-mtu 10.61.0.2=600",
    );
}

// ---- a router with a narrow link -----------------------------------------------------------------

/// Client with an MTU of 9000, router, narrow link of 1500, server. Nobody tells the client.
fn through_a_narrow_link(addresses: [&str; 2], routers: [&str; 2], forwarding: &str) {
    let (a, router, b) = (Namespace::new("a"), Namespace::new("router"), Namespace::new("b"));
    let scratch = Scratch::new();
    a.cable("eth", &router, "left");
    b.cable("eth", &router, "right");
    for (host, interface) in [(&a, "eth"), (&router, "left")] {
        host.run(&["ip", "link", "set", interface, "mtu", "9000"]);
    }
    router.with_ipv6();
    for (interface, address) in ["left", "right"].into_iter().zip(routers) {
        router.address(interface, address);
    }
    router.run(&["sh", "-c", forwarding]);
    let gateway = routers.map(|router| router.split('/').next().expect("an address"));
    let options = format!("{} --ip {}/64 --gateway {}", device(1500), addresses[1], gateway[1]);
    let options = options.replace("/64", if addresses[1].contains(':') { "/64" } else { "/24" });
    let serving = start_server(&b, &scratch, &options);
    let client = format!(
        "{} --ip {}/64 --gateway {} --server {} --workload 100KB --outstanding 3 --count 30",
        device(9000),
        addresses[0],
        gateway[0],
        addresses[1]
    );
    let client = client.replace("/64", if addresses[0].contains(':') { "/64" } else { "/24" });
    let report = complete(&a, &scratch, &client, 30);
    assert!(counter(&report, "net_mtu_hints_received") > 0, "{:?}", report.counters);
    stop_server(serving, &scratch);
}

#[test]
fn a_router_tells_of_a_narrow_link_with_ipv4() {
    let _turn = one_at_a_time();
    through_a_narrow_link(
        ["10.62.0.1", "10.63.0.2"],
        ["10.62.0.254/24", "10.63.0.254/24"],
        "echo 1 > /proc/sys/net/ipv4/ip_forward",
    );
}

#[test]
fn a_router_tells_of_a_narrow_link_with_ipv6() {
    let _turn = one_at_a_time();
    through_a_narrow_link(
        ["fd62::1", "fd63::2"],
        ["fd62::fe/64", "fd63::fe/64"],
        "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding",
    );
}

// ---- ordinary tools --------------------------------------------------------------------------------

/// Runs a tool of the kernel's host in `host`; `None`, and a line about it, if it is not installed.
fn tool(host: &Namespace, words: &[&str]) -> Option<Output> {
    if Command::new("which").arg(words[0]).output().is_ok_and(|found| !found.status.success()) {
        println!("{} is not installed: left out", words[0]);
        return None;
    }
    let command = host.within(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>());
    Some(Command::new(&command[0]).args(&command[1..]).output().expect("it runs"))
}

/// Runs a tool that must succeed, and returns what it says.
fn expect_tool(host: &Namespace, words: &[&str]) -> Option<String> {
    let output = tool(host, words)?;
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{words:?}: {said}");
    Some(said)
}

#[test]
fn ordinary_tools_see_the_node() {
    let _turn = one_at_a_time();
    let (a, b, scratch) = (Namespace::new("a"), Namespace::new("b"), Scratch::new());
    a.cable("eth", &b, "eth");
    a.with_ipv6();
    a.address("eth", "10.64.0.1/24");
    a.run(&["ip", "address", "add", "fd64::1/64", "dev", "eth", "nodad"]);
    let options = format!("{DEVICE} --ip 10.64.0.2/24 --ip fd64::2/64 --ip fe80::64:2/64");
    let serving = start_server(&b, &scratch, &options);
    let ping = ["-c", "3", "-i", "0.2", "-W", "5"];
    expect_tool(&a, &[&["ping"], &ping[..], &["10.64.0.2"]].concat());
    expect_tool(&a, &[&["ping", "-s", "1400"], &ping[..], &["10.64.0.2"]].concat());
    expect_tool(&a, &[&["ping", "-6"], &ping[..], &["fd64::2"]].concat());
    expect_tool(&a, &[&["ping", "-6"], &ping[..], &["fe80::64:2%eth"]].concat());
    expect_tool(&a, &["arping", "-c", "2", "-I", "eth", "10.64.0.2"]);
    for address in ["10.64.0.2", "fd64::2", "fe80::64:2"] {
        let said = expect_tool(&a, &["ip", "neigh", "show", address, "dev", "eth"]);
        let said = said.expect("ip is there, it made the namespaces");
        assert!(said.contains("lladdr"), "{said}");
        assert!(!said.contains("FAILED") && !said.contains("INCOMPLETE"), "{said}");
    }
    // No TCP here: nothing answers, nothing breaks.
    for address in ["10.64.0.2", "fd64::2"] {
        if let Some(output) = tool(&a, &["nc", "-z", "-w", "1", address, "4000"]) {
            assert!(!output.status.success(), "{address} seems to speak TCP");
        }
    }
    let served = stop_server(serving, &scratch);
    assert!(served["counters"]["net_echo_replies_sent"].as_u64() >= Some(12), "{served}");
    assert!(served["counters"]["net_nd_advertisements_sent"].as_u64() >= Some(2), "{served}");
    assert_eq!(served["counters"]["net_homa_received"].as_u64(), None, "{served}");
}

/// How people find out whether large frames get through.
#[test]
fn pings_that_fill_jumbo_frames_are_answered() {
    let _turn = one_at_a_time();
    let (a, b, scratch) = (Namespace::new("a"), Namespace::new("b"), Scratch::new());
    a.cable("eth", &b, "eth");
    for host in [&a, &b] {
        host.run(&["ip", "link", "set", "eth", "mtu", "9000"]);
    }
    a.with_ipv6();
    a.address("eth", "10.67.0.1/24");
    a.run(&["ip", "address", "add", "fd67::1/64", "dev", "eth", "nodad"]);
    let options = format!("{} --ip 10.67.0.2/24 --ip fd67::2/64", device(9_000));
    let serving = start_server(&b, &scratch, &options);
    let ping = ["ping", "-M", "do", "-c", "3", "-i", "0.2", "-W", "5", "-s"];
    expect_tool(&a, &[&ping[..], &["8972", "10.67.0.2"]].concat());
    expect_tool(&a, &[&ping[..], &["8952", "-6", "fd67::2"]].concat());
    stop_server(serving, &scratch);
}

/// Homa to a host whose kernel does not speak it.
fn kernel_refuses(client: &str, server: &str, address: &str) {
    let (a, b, scratch) = (Namespace::new("a"), Namespace::new("b"), Scratch::new());
    a.cable("eth", &b, "eth");
    b.with_ipv6();
    b.run(&["ip", "address", "add", address, "dev", "eth"]);
    let json = scratch.path("client.json");
    let load = "--workload 100 --outstanding 1 --count 3 --warm-up 0ms --timeout 60s";
    let command = homa_load([
        "client",
        DEVICE,
        "--no-huge --idle sleep",
        client,
        "--server",
        server,
        load,
        "--json",
        &json,
    ]);
    let ended = run("client", &a.within(&command));
    ended.expect_code(1);
    assert!(ended.stderr.contains("does not speak Homa"), "{}", ended.stderr);
    let report = load_report::of_client(&scratch, "client.json");
    assert_eq!(report.totals.completed, 0, "{:?}", report.totals);
    assert!(counter(&report, "net_unreachable_received") > 0, "{:?}", report.counters);
}

#[test]
fn a_kernel_that_does_not_speak_homa_is_reported() {
    let _turn = one_at_a_time();
    kernel_refuses("--ip 10.65.0.1/24", "10.65.0.2", "10.65.0.2/24");
}

#[test]
fn a_kernel_that_does_not_speak_homa_is_reported_with_ipv6() {
    let _turn = one_at_a_time();
    kernel_refuses("--ip fd65::1/64", "fd65::2", "fd65::2/64");
}
