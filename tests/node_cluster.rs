//! A cluster of four hosts: namespaces on a bridge, an agent in each, and a coordinator. Runs as root.
#![cfg(all(feature = "dpdk", feature = "cli"))]

mod support;

use homa::load::report::Report;

use support::load_report::{self, counter};
use support::namespace::Namespace;
use support::one_at_a_time;
use support::process::{Ended, Process, homa_load};
use support::scratch::Scratch;

const HOSTS: usize = 4;
/// The control connection has a network of its own on the same interfaces.
const COORDINATOR: &str = "10.79.1.254:7146";

/// Four hosts on a bridge. The kernel has an address on each interface, for the control connection;
/// that for Homa it does not know.
struct Cluster {
    hosts: Vec<Namespace>,
    switch: Namespace,
    scratch: Scratch,
}

impl Cluster {
    fn new() -> Self {
        let switch = Namespace::new("switch");
        switch.run(&["ip", "link", "add", "br0", "type", "bridge"]);
        switch.up("br0");
        switch.address("br0", "10.79.1.254/24");
        let host = |number: usize| {
            let host = Namespace::new(&number.to_string());
            let port = format!("port{number}");
            host.cable("eth", &switch, &port);
            switch.run(&["ip", "link", "set", &port, "master", "br0"]);
            host.run(&["sh", "-c", "echo 0 > /proc/sys/net/ipv4/ip_forward"]);
            host.address("eth", &format!("10.79.1.{}/24", number + 1));
            host
        };
        Self { hosts: (0..HOSTS).map(host).collect(), switch, scratch: Scratch::new() }
    }

    fn coordinator(&self, options: &str) -> Process {
        let json = self.scratch.path("merged.json");
        let command = homa_load([
            "coordinator --agents 4 --wait 120s --setup 120s --silence 60s --listen",
            COORDINATOR,
            options,
            "--json",
            &json,
        ]);
        let mut coordinator = Process::spawn("coordinator", &self.switch.within(&command));
        coordinator.wait_for("waiting for agents");
        coordinator
    }

    /// An agent on each host.
    fn agents(&self) -> Vec<Process> {
        let agent = |(number, host): (usize, &Namespace)| {
            let address = format!("--ip 10.79.0.{}/24 --name n{number}", number + 1);
            let command = homa_load([
                "agent --device af_packet:eth --no-huge --idle sleep --timeout 3s --coordinator",
                COORDINATOR,
                &address,
            ]);
            Process::spawn(&format!("n{number}"), &host.within(&command))
        };
        self.hosts.iter().enumerate().map(agent).collect()
    }

    fn report(&self) -> Report {
        load_report::of_client(&self.scratch, "merged.json")
    }
}

fn expect_codes(agents: Vec<Process>, codes: [i32; HOSTS]) -> Vec<Ended> {
    let wait = |(mut agent, code): (Process, i32)| {
        let ended = agent.wait();
        ended.expect_code(code);
        ended
    };
    agents.into_iter().zip(codes).map(wait).collect()
}

fn expect_whole(report: &Report) {
    let totals = &report.totals;
    assert!(totals.sent > 0 && totals.completed == totals.sent, "{totals:?}");
    assert_eq!((totals.corrupted, totals.lost), (0, 0), "{totals:?}");
    let by_host: u64 = report.hosts.iter().map(|host| host.completed).sum();
    assert_eq!(by_host, totals.completed, "{:?}", report.hosts);
    let histograms = report.by_size.iter().flat_map(|size| &size.histogram);
    assert_eq!(histograms.map(|bucket| bucket.1).sum::<u64>(), totals.completed);
    // Every request was answered by somebody, those of the warm-up and the greetings too.
    let served: u64 = report.hosts.iter().filter_map(|host| host.served).map(|s| s.requests).sum();
    let greetings = served - totals.sent - totals.warm_up_sent;
    assert!((1..=HOSTS * (HOSTS - 1)).contains(&(greetings as usize)), "{greetings}");
    assert!(counter(report, "server_requests") > 0, "{:?}", report.counters);
}

#[test]
fn four_hosts_send_from_all_to_all() {
    let _turn = one_at_a_time();
    let cluster = Cluster::new();
    let load = "--pattern all-to-all --workload w3 --rps 400 --duration 1s";
    let mut coordinator = cluster.coordinator(load);
    let agents = cluster.agents();
    let ended = coordinator.wait();
    ended.expect_code(0);
    expect_codes(agents, [0; HOSTS]);
    let report = cluster.report();
    expect_whole(&report);
    let names: Vec<_> = report.hosts.iter().map(|host| host.name.as_str()).collect();
    assert_eq!(names, ["n0", "n1", "n2", "n3"]);
    for host in &report.hosts {
        assert!(host.sent > Some(0) && host.missing.is_none(), "{host:?}");
        assert!(host.served.is_some_and(|served| served.requests > 0), "{host:?}");
        assert!(ended.stdout.contains(&format!("  {} ", host.name)), "{}", ended.stdout);
    }
    assert_eq!(report.config.parameters["pattern"], "all-to-all");
}

#[test]
fn three_hosts_send_to_one() {
    let _turn = one_at_a_time();
    let cluster = Cluster::new();
    let mut coordinator = cluster.coordinator("--pattern incast:3 --workload w3 --count 300");
    let agents = cluster.agents();
    coordinator.wait().expect_code(0);
    expect_codes(agents, [0; HOSTS]);
    let report = cluster.report();
    expect_whole(&report);
    assert_eq!(report.totals.completed, 3 * 300);
    let sent: Vec<_> = report.hosts.iter().map(|host| host.sent).collect();
    assert_eq!(sent, [None, Some(300), Some(300), Some(300)]);
    let served = |host: usize| report.hosts[host].served.expect("not missing").requests;
    assert!(served(0) >= 900 && (1..HOSTS).all(|host| served(host) == 0), "{:?}", report.hosts);
    let sides: Vec<_> = report.sides.iter().map(|side| &*side.name).collect();
    assert_eq!(sides, ["client", "server"]);
}

/// Over sockets the same cluster needs no namespaces, just addresses.
#[test]
fn agents_run_over_tcp_and_udp() {
    let _turn = one_at_a_time();
    for (transport, listen) in [("tcp", "127.0.9.9:7147"), ("udp", "127.0.9.9:7148")] {
        let scratch = Scratch::new();
        let json = scratch.path("merged.json");
        let load = "--pattern all-to-all --workload w2 --rps 300 --duration 700ms \
                    --service-time 100us --wait 60s --setup 60s --silence 60s";
        let command =
            homa_load(["coordinator --agents 3", load, "--listen", listen, "--json", &json]);
        let mut coordinator = Process::spawn("coordinator", &command);
        coordinator.wait_for("waiting for agents");
        let agent = |number: usize| {
            let who = format!("--ip 127.0.9.{}/8 --name s{number}", number + 1);
            let options = "agent --timeout 3s --coordinator";
            let command = homa_load([options, listen, &who, "--transport", transport]);
            Process::spawn(&format!("s{number}"), &command)
        };
        let agents: Vec<Process> = (0..3).map(agent).collect();
        coordinator.wait().expect_code(0);
        for mut agent in agents {
            agent.wait().expect_code(0);
        }
        let report = load_report::of_client(&scratch, "merged.json");
        let totals = &report.totals;
        assert!(totals.sent > 0 && totals.completed == totals.sent, "{transport}: {totals:?}");
        assert_eq!((totals.corrupted, totals.lost), (0, 0), "{totals:?}");
        assert_eq!(report.config.parameters["transport"], transport);
        assert!(report.latency.min_ns >= 100_000, "{:?}", report.latency);
        for host in &report.hosts {
            assert!(host.sent > Some(0) && host.missing.is_none(), "{host:?}");
            assert!(host.served.is_some_and(|served| served.requests > 0), "{host:?}");
        }
        let sides: Vec<_> = report.sides.iter().map(|side| &*side.name).collect();
        assert_eq!(sides, ["client", "server"]);
    }
}

#[test]
fn hosts_of_an_inventory_share_a_file_that_only_the_coordinator_has() {
    let _turn = one_at_a_time();
    let cluster = Cluster::new();
    let options = "\"--no-huge\", \"--idle=sleep\", \"--timeout=3s\"";
    let mut inventory = format!("coordinator = \"{COORDINATOR}\"\noptions = [{options}]\n");
    // Not in the order of their names.
    for (number, name) in ["d", "c", "b", "a"].iter().enumerate() {
        inventory += &format!(
            "[[host]]\nname = \"{name}\"\naddress = \"10.79.0.{}/24\"\n\
             device = \"af_packet:eth\"\n",
            number + 1
        );
    }
    let file = cluster.scratch.path("inventory.toml");
    std::fs::write(&file, inventory).expect("a file");
    let sizes = cluster.scratch.path("sizes.csv");
    std::fs::write(&sizes, "size_bytes,cdf\n77,0.5\n3000,1\n").expect("a file");
    let command = homa_load([
        "coordinator --pattern outcast --count 60 --wait 120s --setup 120s --silence 60s --inventory",
        &file,
        "--listen",
        COORDINATOR,
        "--workload",
        &sizes,
        "--response short --json",
        &cluster.scratch.path("merged.json"),
    ]);
    let mut coordinator = Process::spawn("coordinator", &cluster.switch.within(&command));
    coordinator.wait_for("waiting for agents");
    let agent = |(host, name): (&Namespace, &str)| {
        let command = homa_load(["agent --inventory", &file, "--name", name]);
        Process::spawn(name, &host.within(&command))
    };
    let agents = cluster.hosts.iter().zip(["d", "c", "b", "a"]).map(agent).collect();
    coordinator.wait().expect_code(0);
    expect_codes(agents, [0; HOSTS]);
    let report = cluster.report();
    let sent: Vec<_> = report.hosts.iter().map(|host| (&*host.name, host.sent)).collect();
    assert_eq!(sent, [("d", Some(60)), ("c", None), ("b", None), ("a", None)]);
    let bounds: Vec<_> = report.by_size.iter().map(|size| size.max_bytes).collect();
    assert_eq!(bounds, [77, 3_000], "{:?}", report.config);
    assert_eq!(report.totals.completed, 60);
}

#[test]
fn an_agent_that_is_killed_is_named_and_the_others_finish() {
    let _turn = one_at_a_time();
    let cluster = Cluster::new();
    let load = "--pattern all-to-all --workload w3 --rps 200 --duration 3s";
    let mut coordinator = cluster.coordinator(load);
    let mut agents = cluster.agents();
    coordinator.wait_for("the load begins");
    agents[2].signal("KILL");
    let ended = coordinator.wait();
    ended.expect_code(1);
    assert!(ended.stdout.contains("n2 is lost: connection closed; the others go on"));
    let error = ended.one_line_of_stderr();
    assert!(error.starts_with("error: host n2 was lost (connection closed)"), "{error}");
    assert!(ended.stdout.contains("n2 is missing: connection closed"), "{}", ended.stdout);
    assert_eq!(agents.remove(2).wait().status.code(), None);
    for mut agent in agents {
        agent.wait().expect_code(0);
    }
    let report = cluster.report();
    let missing: Vec<_> = report.hosts.iter().map(|host| host.missing.as_deref()).collect();
    assert_eq!(missing, [None, None, Some("connection closed"), None]);
    for (number, host) in report.hosts.iter().enumerate() {
        assert_eq!(host.sent > Some(0), number != 2, "{host:?}");
        // The three that are left went on to answer each other.
        assert!(number == 2 || host.completed > 0, "{host:?}");
    }
    let totals = &report.totals;
    let failed: u64 = totals.failed.values().sum();
    assert_eq!(totals.sent, totals.completed + failed + totals.lost, "{totals:?}");
}

#[test]
fn a_signal_to_the_coordinator_ends_all_in_order() {
    let _turn = one_at_a_time();
    let cluster = Cluster::new();
    // Without the signal this takes an hour.
    let load = "--pattern permutation --workload 100 --rps 500 --warm-up 0s --duration 3600s";
    let mut coordinator = cluster.coordinator(load);
    let agents = cluster.agents();
    coordinator.wait_for("the load begins");
    coordinator.signal("INT");
    let ended = coordinator.wait();
    ended.expect_code(1);
    assert!(ended.one_line_of_stderr().contains("the run was interrupted"), "{}", ended.stderr);
    expect_codes(agents, [0; HOSTS]);
    assert!(cluster.report().hosts.iter().all(|host| host.missing.is_none()));
}

#[test]
fn what_is_wrong_on_one_host_is_named_at_the_coordinator() {
    let _turn = one_at_a_time();
    let cluster = Cluster::new();
    // The last host has no such interface any more.
    cluster.hosts[3].run(&["ip", "link", "set", "eth", "down"]);
    cluster.hosts[3].run(&["ip", "link", "set", "eth", "name", "other"]);
    cluster.hosts[3].up("other");
    let mut coordinator = cluster.coordinator("--workload 100 --count 1");
    let agents = cluster.agents();
    let ended = coordinator.wait();
    ended.expect_code(1);
    let error = ended.one_line_of_stderr();
    assert!(error.starts_with("error: host n3: "), "{error}");
    assert!(error.ends_with("the load was not started"), "{error}");
    for ended in expect_codes(agents, [1; HOSTS]).iter().take(3) {
        assert!(ended.stderr.contains("host n3: "), "{}", ended.stderr);
    }
}

#[test]
fn wrong_arguments_are_found_before_anything_starts() {
    for (options, says) in [
        ("coordinator", "--agents <N>"),
        ("coordinator --agents 1", "from 2 to 1024"),
        ("coordinator --agents 3 --pattern incast:3", "incast:3: 3 hosts, and the pattern needs 4"),
        ("coordinator --agents 3 --pattern star", "unknown pattern 'star'"),
        ("coordinator --agents 3 --silence 1s", "2s is the least"),
        ("coordinator --agents 3 --find-max", "--find-max and --dry-run are for homa-load client"),
        ("coordinator --inventory /nowhere/x.toml", "/nowhere/x.toml: "),
        ("agent --device null --ip 10.0.0.1/24", "--coordinator <HOST:PORT>"),
        ("agent --inventory /nowhere/x.toml", "/nowhere/x.toml: "),
    ] {
        let ended = support::process::run("homa-load", &homa_load([options]));
        ended.expect_code(2);
        let error = ended.one_line_of_stderr();
        assert!(error.starts_with("error: ") && error.contains(says), "{options}: {error}");
    }
}
