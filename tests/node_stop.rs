//! How nodes end: by signals, in the middle of everything, and when the other side goes.
#![cfg(all(feature = "dpdk", feature = "cli"))]

mod support;

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use homa::dpdk::Hugepages;
use homa::load::apps::{ServerApp, ServerConfig, ServerResult};
use homa::load::report::Report;
use homa::node::{
    App, CallFailed, Cx, IdlePolicy, Node, NodeConfig, Request, Response, stop_on_signals,
};
use homa::time::Nanos;
use homa::wire::HomaPort;

use support::load_report;
use support::namespace::Namespace;
use support::one_at_a_time;
use support::process::{PATIENCE, Process, homa_load, role, run};
use support::scratch::Scratch;

const ALIKE: &str = "--no-huge --idle sleep";
/// Long enough that no run ends by itself while its test waits for something.
const ENDLESS: &str = "--duration 10m --warm-up 10ms";
/// What a process that is told to end may take, on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// Two namespaces with a cable, a server in one.
struct Site {
    scratch: Scratch,
    // Processes end before the namespaces they are in.
    server: Process,
    client_namespace: Namespace,
    server_namespace: Namespace,
}

impl Site {
    fn new() -> Self {
        let scratch = Scratch::new();
        let (a, b) = (Namespace::new("client"), Namespace::new("server"));
        a.cable("eth", &b, "eth");
        let server = server(&b, &scratch);
        Self { scratch, server, client_namespace: a, server_namespace: b }
    }

    /// A client that runs until it is told to end.
    fn client(&self, options: &str) -> Process {
        Process::spawn("client", &self.client_command(options))
    }

    fn client_command(&self, options: &str) -> Vec<String> {
        let json = self.scratch.path("client.json");
        let command = homa_load([
            "client --device af_packet:eth --ip 10.90.0.1/24 --server 10.90.0.2",
            ALIKE,
            options,
            "--json",
            &json,
        ]);
        self.client_namespace.within(&command)
    }

    fn client_report(&self) -> Report {
        load_report::of_client(&self.scratch, "client.json")
    }
}

fn server(namespace: &Namespace, scratch: &Scratch) -> Process {
    let json = scratch.path("server.json");
    let command =
        homa_load(["server --device af_packet:eth --ip 10.90.0.2/24", ALIKE, "--json", &json]);
    let mut server = Process::spawn("server", &namespace.within(&command));
    server.wait_for("serving on");
    server
}

/// Waits until a node runs its shard, however slow the machine, then lets traffic flow for a while.
fn let_run(node: &Process) {
    let deadline = Instant::now() + PATIENCE;
    while !has_thread(node.pid(), "homa-shard-0") {
        assert!(Instant::now() < deadline, "the node does not start");
        thread::sleep(Duration::from_millis(10));
    }
    thread::sleep(Duration::from_millis(1_500));
}

fn has_thread(pid: u32, name: &str) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.any(|comm| comm.trim_end() == name)
}

#[test]
fn a_client_ends_in_order_when_told_to() {
    let _turn = one_at_a_time();
    let site = Site::new();
    for signal in ["TERM", "INT"] {
        let options = format!("--workload w3 --timeout 3s {ENDLESS}");
        let mut client = site.client(&options);
        let_run(&client);
        client.signal(signal);
        let told = Instant::now();
        client.wait().expect_code(0);
        assert!(told.elapsed() < SOON);
        let totals = site.client_report().totals;
        assert!(totals.completed > 0, "{totals:?}");
        assert_eq!((totals.lost, totals.corrupted), (0, 0), "what was under way arrived");
    }
    let mut server = site.server;
    server.signal("TERM");
    server.wait().expect_code(0);
}

#[test]
fn a_server_ends_in_order_when_told_to() {
    let _turn = one_at_a_time();
    for signal in ["TERM", "INT"] {
        let mut site = Site::new();
        let mut client = site.client(&format!("--workload w3 {ENDLESS}"));
        let_run(&client);
        site.server.signal(signal);
        let told = Instant::now();
        let ended = site.server.wait();
        ended.expect_code(0);
        assert!(told.elapsed() < SOON);
        assert!(ended.stdout.contains("served "), "{}", ended.stdout);
        let served = load_report::of_server(&site.scratch, "server.json");
        assert!(served["counts"]["requests"].as_u64() > Some(0), "{served}");
        // The client lives on and reports what happened.
        assert!(client.is_running());
        client.signal("TERM");
        let ended = client.wait();
        ended.expect_code(1);
        assert!(ended.stderr.contains("did the server stop?"), "{}", ended.stderr);
    }
}

#[test]
fn local_ends_in_order_when_told_to() {
    let _turn = one_at_a_time();
    let scratch = Scratch::new();
    let json = scratch.path("report.json");
    for signal in ["TERM", "INT"] {
        let command = homa_load(["local --timeout 3s", ALIKE, ENDLESS, "--json", &json]);
        let mut local = Process::spawn("local", &command);
        let_run(&local);
        local.signal(signal);
        local.wait().expect_code(0);
        let totals = load_report::of_client(&scratch, "report.json").totals;
        assert!(totals.completed > 0 && totals.lost == 0, "{totals:?}");
        assert!(!std::env::temp_dir().join(format!("homa-load-{}", local.pid())).exists());
    }
}

#[test]
fn the_second_signal_ends_at_once() {
    let _turn = one_at_a_time();
    let site = Site::new();
    // Stopped, so that both signals are there when it goes on: the first cannot be obeyed yet.
    let mut client = site.client(&format!("--workload w3 {ENDLESS}"));
    let_run(&client);
    client.signal("STOP");
    client.signal("TERM");
    client.signal("INT");
    client.signal("CONT");
    let status = client.wait().status;
    let code = status.code();
    assert!(code == Some(128 + 15) || code == Some(128 + 2), "{status}");
}

#[test]
fn a_client_survives_that_its_server_is_killed() {
    let _turn = one_at_a_time();
    let mut site = Site::new();
    let options = "--workload w3 --outstanding 50 --duration 4s --warm-up 10ms";
    let mut client = site.client(options);
    let_run(&client);
    site.server.signal("KILL");
    site.server.wait();
    let ended = client.wait();
    ended.expect_code(1);
    assert!(ended.stderr.contains("timeout"), "{}", ended.stderr);
    let totals = site.client_report().totals;
    assert!(totals.completed > 0, "{totals:?}");
    assert!(totals.failed.get("timeout") >= Some(&50), "each call got its error: {totals:?}");
    assert_eq!((totals.lost, totals.corrupted), (0, 0), "{totals:?}");

    // A new server serves the next client.
    let mut server = server(&site.server_namespace, &site.scratch);
    run("client", &site.client_command("--workload w3 --count 200 --timeout 3s")).expect_code(0);
    server.signal("TERM");
    server.wait().expect_code(0);
}

// ---- a server that says what it holds ----------------------------------------------------------

#[test]
fn a_server_forgets_clients_that_were_killed() {
    let _turn = one_at_a_time();
    let mut site = Site::new();
    site.server.signal("TERM");
    site.server.wait().expect_code(0);
    let command = site.server_namespace.within(&role("watched_server", ""));
    let mut server = Process::spawn("watched server", &command);
    server.wait_for("the server is ready");
    for _ in 0..3 {
        // Large messages both ways, so that some are incomplete at any time.
        let client = site.client(&format!("--workload 200KB --outstanding 100 {ENDLESS}"));
        server.wait_for("holds something");
        let_run(&client);
        client.signal("KILL");
        drop(client);
        wait_until_empty(&mut server);
    }
    run("client", &site.client_command("--workload w3 --count 200 --timeout 3s")).expect_code(0);
    server.signal("TERM");
    server.wait().expect_code(0);
}

/// The server says every so often what it holds; waits until that is nothing.
fn wait_until_empty(server: &mut Process) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let last = server.wait_for("holds");
        if last.contains("holds nothing") {
            return;
        }
        assert!(Instant::now() < deadline, "{last}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Says what the transport holds, besides serving.
struct Watched {
    server: ServerApp,
}

const WATCH_INTERVAL: Nanos = Nanos::from_ms(100);

impl App for Watched {
    fn on_start(&mut self, cx: &mut Cx<'_>) {
        self.on_timer(cx, 0);
    }

    fn on_request(&mut self, cx: &mut Cx<'_>, request: Request) {
        self.server.on_request(cx, request);
    }

    fn on_response(&mut self, cx: &mut Cx<'_>, response: Result<Response, CallFailed>) {
        self.server.on_response(cx, response);
    }

    fn on_poll(&mut self, cx: &mut Cx<'_>) {
        self.server.on_poll(cx);
    }

    fn on_timer(&mut self, cx: &mut Cx<'_>, token: u64) {
        let held = cx.occupancy();
        let nothing = held.server_rpcs == 0
            && held.retained_packets == 0
            && held.outgoing_bytes == 0
            && held.incoming_bytes == 0
            && held.grantable == 0;
        println!("holds {}: {held:?}", if nothing { "nothing" } else { "something" });
        assert!(cx.set_timer(cx.now() + WATCH_INTERVAL, token), "there is room for a timer");
    }
}

#[test]
#[ignore = "a process of other tests"]
fn watched_server() {
    let device = "af_packet:eth".parse().expect("a device");
    let config = NodeConfig::new(device, [10, 90, 0, 2], 24);
    let mut node =
        Node::start(&NodeConfig { hugepages: Hugepages::Never, idle: IdlePolicy::Sleep, ..config })
            .expect("a node");
    stop_on_signals(&node.stop_flag()).expect("signals");
    println!("the server is ready");
    let served: Arc<Mutex<ServerResult>> = Arc::default();
    let result = Arc::clone(&served);
    let clock = node.eal().clock();
    let config = ServerConfig::new(HomaPort(4000));
    node.run(|cx| Watched { server: ServerApp::new(cx, clock, config, result) })
        .expect("the server ends well");
    assert_eq!(served.lock().expect("no panic").counts.corrupted, 0);
    node.close().expect("every packet buffer is back");
}
