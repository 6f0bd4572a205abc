//! Nodes of several shards: over rings in one process, and as processes over memif, packet sockets and
//! a tap. More shards than CPUs: they let each other run.
#![cfg(all(feature = "dpdk", feature = "cli"))]

mod support;

use std::any::Any;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use homa::dpdk::{Eal, EalConfig, Hugepages, allowed_cpus};
use homa::load::payload::{Direction, Pattern};
use homa::node::{
    App, Arrival, CallFailed, Callback, Cx, HandOff, HandOffWhen, IdRules, IdlePolicy, Node,
    NodeConfig, NodeError, NodeReport, PortSpread, Request, Response, ShardReport, ShardStats,
};
use homa::wire::HomaPort;

use support::choosy_server::is_intact;
use support::load_report::{self, counter, expect_clean};
use support::namespace::Namespace;
use support::process::{Process, homa_load, role, role_parameter, run};
use support::scratch::Scratch;
use support::{one_at_a_time, patient};

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 51, 0, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 51, 0, 2);
const PORT: HomaPort = HomaPort(5000);
/// Calls of each client shard, of these sizes in turn.
const CALLS: usize = 400;
const SIZES: [u32; 9] = [1, 100, 1_424, 1_425, 9_000, 60_000, 700, 200_000, 3_000];
const OUTSTANDING_MAX: usize = 40;

#[test]
fn four_shards_with_four_queues() {
    let _turn = one_at_a_time();
    run("pair", &role("pair", "queues=4 shards=4")).expect_code(0);
}

#[test]
fn two_shards_with_two_queues() {
    let _turn = one_at_a_time();
    run("pair", &role("pair", "queues=2 shards=2")).expect_code(0);
}

#[test]
fn three_shards_take_turns_at_one_queue() {
    let _turn = one_at_a_time();
    run("pair", &role("pair", "queues=1 shards=3")).expect_code(0);
}

#[test]
fn every_packet_may_make_a_detour() {
    let _turn = one_at_a_time();
    run("pair", &role("pair", "queues=2 shards=2 detour")).expect_code(0);
}

#[test]
fn other_shards_serve_requests_and_the_owner_sends_the_answers() {
    let _turn = one_at_a_time();
    run("pair", &role("pair", "queues=2 shards=2 places=64")).expect_code(0);
}

#[test]
fn requests_stay_where_they_are_when_others_have_enough() {
    let _turn = one_at_a_time();
    run("pair", &role("pair", "queues=4 shards=4 places=1")).expect_code(0);
}

#[test]
fn a_request_that_another_shard_drops_is_forgotten_by_its_owner() {
    let _turn = one_at_a_time();
    run("forgetful", &role("forgetful", "")).expect_code(0);
}

#[test]
fn a_slow_callback_is_counted_and_named() {
    let _turn = one_at_a_time();
    run("sleeps", &role("sleeps", "")).expect_code(0);
}

#[test]
fn a_panic_on_one_shard_ends_the_node_and_names_shard_and_callback() {
    let _turn = one_at_a_time();
    for callback in ["on_request", "on_poll", "on_message"] {
        run("panics", &role("panics", callback)).expect_code(0);
    }
}

/// A number behind a name in the parameter of this process.
fn parameter(name: &str) -> Option<u8> {
    let parameter = role_parameter();
    let mut words = parameter.split(' ').filter_map(|word| word.split_once('='));
    let (_, value) = words.find(|(key, _)| *key == name)?;
    Some(value.parse().expect("a number"))
}

fn node_config(device: &str, address: Ipv4Addr, shards: u8) -> NodeConfig {
    let config = NodeConfig::new(device.parse().expect("a device"), address, 24);
    let cpus = allowed_cpus();
    NodeConfig {
        cpus: (0..usize::from(shards)).map(|shard| cpus[shard % cpus.len()]).collect(),
        idle: IdlePolicy::Yield,
        hugepages: Hugepages::Never,
        rx_mbufs: 4_095,
        tx_mbufs: 2_047,
        header_mbufs: 1_023,
        unresolved_packets_max: 512,
        descriptors: 256,
        transport: patient(),
        ..config
    }
}

fn eal(devices: &[String]) -> Eal {
    Eal::start(&EalConfig {
        devices: devices.iter().map(|text| text.parse().expect("a device")).collect(),
        memory_mb: 512,
        hugepages: Hugepages::Never,
        file_prefix: format!("homa-test-{}", std::process::id()),
        ..EalConfig::default()
    })
    .expect("DPDK starts")
}

fn fill(
    cx: &mut Cx<'_>,
    bytes: u32,
    id: u64,
    direction: Direction,
) -> Option<homa::node::MessageBuf> {
    let pattern = Pattern::new(id, direction);
    let mut message = cx.alloc(bytes as usize).ok()?;
    message.write_with(|offset, piece| pattern.fill(offset, piece));
    Some(message)
}

/// Echoes, and notes which shard served how much.
struct Echo {
    served: Arc<[AtomicU64]>,
    corrupted: Arc<AtomicU64>,
    waiting: Vec<(homa::node::Responder, u32)>,
}

impl Echo {
    fn answer(&mut self, cx: &mut Cx<'_>, responder: homa::node::Responder, bytes: u32) {
        match fill(cx, bytes, responder.id.0, Direction::Response) {
            Some(response) => drop(responder.reply(cx, response)),
            None => self.waiting.push((responder, bytes)),
        }
    }
}

impl App for Echo {
    fn on_request(&mut self, cx: &mut Cx<'_>, request: Request) {
        self.served[usize::from(cx.shard())].fetch_add(1, Ordering::Relaxed);
        let Request { message, responder } = request;
        let intact = is_intact(&message, Pattern::new(responder.id.0, Direction::Request));
        self.corrupted.fetch_add(u64::from(!intact), Ordering::Relaxed);
        let bytes = message.len() as u32;
        drop(message);
        self.answer(cx, responder, bytes);
    }

    fn on_response(&mut self, _cx: &mut Cx<'_>, response: Result<Response, CallFailed>) {
        unreachable!("a server calls nobody: {response:?}");
    }

    fn on_poll(&mut self, cx: &mut Cx<'_>) {
        if let Some((responder, bytes)) = self.waiting.pop() {
            self.answer(cx, responder, bytes);
        }
    }
}

/// Makes its calls, then tells shard 0, which stops the server when all shards have told it. Its own
/// node goes on until the server has ended: acks may be lost between shards that run by turns, and only
/// a client that is there answers when it is asked for them again.
struct Caller {
    begun: usize,
    ended: usize,
    answered: Arc<AtomicU64>,
    failures: Arc<Mutex<Vec<String>>>,
    told: bool,
    /// On shard 0: shards that are done.
    done: usize,
    stop_server: Arc<AtomicBool>,
}

impl Caller {
    fn new(
        answered: &Arc<AtomicU64>,
        failures: &Arc<Mutex<Vec<String>>>,
        stop_server: &Arc<AtomicBool>,
    ) -> Self {
        let (answered, failures) = (Arc::clone(answered), Arc::clone(failures));
        let stop_server = Arc::clone(stop_server);
        Self { begun: 0, ended: 0, answered, failures, told: false, done: 0, stop_server }
    }

    fn note_done(&mut self, cx: &Cx<'_>) {
        self.done += 1;
        if self.done == usize::from(cx.shards()) {
            self.stop_server.store(true, Ordering::Relaxed);
        }
    }
}

impl App for Caller {
    fn on_request(&mut self, _cx: &mut Cx<'_>, request: Request) {
        unreachable!("the client serves nobody: {request:?}");
    }

    fn on_response(&mut self, cx: &mut Cx<'_>, response: Result<Response, CallFailed>) {
        self.ended += 1;
        let fault = match response {
            Ok(response) => {
                assert_eq!(response.id.0 >> 56, u64::from(cx.shard()), "the id names its shard");
                let wanted = SIZES[response.cookie as usize % SIZES.len()] as usize;
                let pattern = Pattern::new(response.id.0, Direction::Response);
                let intact =
                    response.message.len() == wanted && is_intact(&response.message, pattern);
                (!intact).then(|| "wrong bytes".to_owned())
            }
            Err(failed) => Some(failed.to_string()),
        };
        match fault {
            None => drop(self.answered.fetch_add(1, Ordering::Relaxed)),
            Some(fault) => self.failures.lock().expect("no panic").push(fault),
        }
    }

    fn on_poll(&mut self, cx: &mut Cx<'_>) {
        while self.begun < CALLS && self.begun - self.ended < OUTSTANDING_MAX {
            let Some(id) = cx.next_rpc_id() else { break };
            let bytes = SIZES[self.begun % SIZES.len()];
            let Some(message) = fill(cx, bytes, id.0, Direction::Request) else { break };
            if cx.call(SERVER.into(), PORT, message, self.begun as u64).is_err() {
                break;
            }
            self.begun += 1;
        }
        if self.ended == CALLS && !self.told {
            self.told = true;
            match cx.shard() {
                0 => self.note_done(cx),
                _ => self.told = cx.spawn_on(0, Box::new("done")).is_ok(),
            }
        }
    }

    fn on_message(&mut self, cx: &mut Cx<'_>, from: u8, message: Box<dyn Any + Send>) {
        assert_ne!(from, cx.shard());
        assert_eq!(message.downcast_ref(), Some(&"done"));
        self.note_done(cx);
    }
}

fn describe(name: &str, report: &NodeReport) {
    for (shard, ShardReport { stats, metrics, occupancy, .. }) in report.shards.iter().enumerate() {
        let counters: Vec<_> =
            metrics.iter().chain(stats.iter()).filter(|counter| counter.1 > 0).collect();
        println!("{name} {shard}: {counters:?}, {occupancy:?}");
    }
}

/// What a server of `requests` has handed between its shards, of which each may have had `places` of
/// every other one.
fn expect_handed(stats: &ShardStats, places: Option<u8>, requests: u64) {
    assert_eq!(stats.handed_out, stats.handed_in, "{stats:?}");
    assert_eq!(stats.answers_late, 0, "{stats:?}");
    match places {
        None => assert_eq!((stats.handed_out, stats.hand_offs_full), (0, 0)),
        // Nobody waits for more than 64 answers from a shard.
        Some(64) => assert!(stats.handed_out >= requests / 4, "{stats:?}"),
        Some(_) => {
            assert!(stats.handed_out > 0 && stats.handed_out < requests, "{stats:?}");
            assert!(stats.hand_offs_full > 0, "{stats:?}");
        }
    }
}

/// Rings have no rules for received packets: where there is a queue for each shard, they say so.
fn expect_no_rules(arrival: &Arrival, asked: bool) {
    let reason = "the driver has no rules for received packets";
    match (&arrival.by_id, asked) {
        (IdRules::NotAsked, false) => assert_eq!(arrival.by_ports, PortSpread::OneQueue),
        (IdRules::Refused(text), true) => assert!(text.contains(reason), "{text}"),
        _ => panic!("{arrival}"),
    }
    assert!(!arrival.has_id_rules());
}

#[test]
#[ignore = "a process of other tests"]
fn pair() {
    let (queues, shards) =
        (parameter("queues").expect("queues"), parameter("shards").expect("shards"));
    let places = parameter("places");
    let detour = role_parameter().ends_with("detour");
    let device = format!("ring:pair,queues={queues}");
    let eal = eal(&[device.clone(), device.clone()]);
    let [mut client, mut server] = [(0, CLIENT), (1, SERVER)].map(|(index, address)| {
        let drain = Duration::from_secs(10);
        let hand_off =
            places.map(|places| HandOff { when: HandOffWhen::Always, requests_max: places.into() });
        let config =
            NodeConfig { detour, drain, hand_off, ..node_config(&device, address, shards) };
        Node::start_on(&eal, index, &config).expect("a node")
    });
    assert_eq!(client.shards(), shards);
    for node in [&client, &server] {
        expect_no_rules(node.arrival(), queues > 1);
    }
    let alone = client.run(|_| -> Caller { unreachable!("several shards") });
    assert!(alone.expect_err("one application").to_string().contains("run_shards"));
    let served: Arc<[AtomicU64]> = (0..shards).map(|_| AtomicU64::new(0)).collect();
    let (answered, corrupted) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let failures = Arc::new(Mutex::new(Vec::new()));
    let (stop_client, stop_server) = (client.stop_flag(), server.stop_flag());
    let (client_report, server_report) = thread::scope(|scope| {
        let serving = scope.spawn(|| {
            let report = server.run_shards(|cx| {
                assert!(cx.open_server_port(PORT), "the port is free");
                let (served, corrupted) = (Arc::clone(&served), Arc::clone(&corrupted));
                Echo { served, corrupted, waiting: Vec::new() }
            });
            stop_client.store(true, Ordering::Relaxed);
            report
        });
        let report = client.run_shards(|_| Caller::new(&answered, &failures, &stop_server));
        stop_server.store(true, Ordering::Relaxed);
        (report, serving.join().expect("the server's thread"))
    });
    let client_report = client_report.expect("the client ends well");
    let server_report = server_report.expect("the server ends well");
    describe("client", &client_report);
    describe("server", &server_report);
    assert_eq!(*failures.lock().expect("no panic"), [""; 0]);
    assert_eq!(answered.load(Ordering::Relaxed), u64::from(shards) * CALLS as u64);
    assert_eq!(corrupted.load(Ordering::Relaxed), 0);
    assert!(served.iter().all(|served| served.load(Ordering::Relaxed) > 0), "{served:?}");
    expect_handed(&server_report.merged().stats, places, u64::from(shards) * CALLS as u64);
    for report in [client_report.merged(), server_report.merged()] {
        let (stats, left) = (report.stats, report.occupancy);
        assert!(stats.redirected_out > 0, "{stats:?}");
        assert_eq!((left.client_rpcs, left.server_rpcs), (0, 0), "{left:?}");
        assert_eq!((left.incoming_bytes, left.outgoing_bytes, left.grantable), (0, 0, 0));
        // Everything that came in crossed, and some twice.
        assert!(!detour || stats.redirected_in >= stats.rx_packets - stats.not_homa, "{stats:?}");
        assert_eq!(stats.no_such_shard, 0);
    }
    Node::close_all([client, server]).expect("every packet buffer is back");
    eal.shutdown().expect("nothing is left");
}

/// Asks itself and drops the requests, wherever they are served; stops when nothing of them is left.
struct Forgetful {
    dropped: Arc<AtomicUsize>,
    /// Shards that have forgotten all.
    clear: Arc<AtomicUsize>,
    noted: bool,
    begun: usize,
}

impl Forgetful {
    const REQUESTS: usize = 40;
}

impl App for Forgetful {
    fn on_request(&mut self, _cx: &mut Cx<'_>, request: Request) {
        drop(request);
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    fn on_response(&mut self, _cx: &mut Cx<'_>, response: Result<Response, CallFailed>) {
        assert!(response.is_err(), "nobody answers: {response:?}");
    }

    fn on_poll(&mut self, cx: &mut Cx<'_>) {
        if cx.shard() == 0 && self.begun < Self::REQUESTS {
            let message = cx.message(&[7; 5_000]).expect("a message");
            let _ = cx.call(IpAddr::from(CLIENT), PORT, message, 0).expect("a call");
            self.begun += 1;
        }
        let all = self.dropped.load(Ordering::Relaxed) == Self::REQUESTS;
        if all && !self.noted && cx.occupancy().server_rpcs == 0 {
            self.noted = true;
            self.clear.fetch_add(1, Ordering::Relaxed);
        }
        if self.clear.load(Ordering::Relaxed) == usize::from(cx.shards()) {
            cx.stop();
        }
    }
}

#[test]
#[ignore = "a process of other tests"]
fn forgetful() {
    let mut config = node_config("ring", CLIENT, 2);
    config.net.loopback = true;
    config.drain = Duration::from_millis(100);
    config.hand_off = Some(HandOff { when: HandOffWhen::Always, requests_max: 64 });
    let mut node = Node::start(&config).expect("a node");
    let (dropped, clear) = (Arc::default(), Arc::default());
    let report = node.run_shards(|cx| {
        assert!(cx.open_server_port(PORT));
        let (dropped, clear) = (Arc::clone(&dropped), Arc::clone(&clear));
        Forgetful { dropped, clear, noted: false, begun: 0 }
    });
    let report = report.expect("it ends well").merged();
    assert_eq!(report.occupancy.server_rpcs, 0);
    assert!(report.stats.handed_in > 0, "{:?}", report.stats);
    assert_eq!(report.occupancy.retained_packets, 0, "the account is settled");
    node.close().expect("every packet buffer is back");
}

/// Shard 0 sends shard 1 a message, over which that sleeps before it ends the node.
struct Sleeper {
    told: bool,
}

impl Sleeper {
    /// Longer than a busy machine keeps a thread waiting.
    const TIME: Duration = Duration::from_millis(300);
}

impl App for Sleeper {
    fn on_request(&mut self, _cx: &mut Cx<'_>, request: Request) {
        unreachable!("nobody calls: {request:?}");
    }

    fn on_response(&mut self, _cx: &mut Cx<'_>, response: Result<Response, CallFailed>) {
        unreachable!("nobody was called: {response:?}");
    }

    fn on_poll(&mut self, cx: &mut Cx<'_>) {
        if cx.shard() == 0 && !self.told {
            self.told = cx.spawn_on(1, Box::new(())).is_ok();
        }
    }

    fn on_message(&mut self, cx: &mut Cx<'_>, _from: u8, _message: Box<dyn Any + Send>) {
        thread::sleep(Self::TIME);
        cx.stop();
    }
}

#[test]
#[ignore = "a process of other tests"]
fn sleeps() {
    let mut node = Node::start(&node_config("ring", CLIENT, 2)).expect("a node");
    let report = node.run_shards(|_| Sleeper { told: false }).expect("it ends well");
    let slowest = report.shards[1].slowest.expect("a slow callback");
    assert_eq!(slowest.callback, Callback::OnMessage);
    // The clock of the loop and that of the kernel go at rates that differ a little.
    let least = Sleeper::TIME * 9 / 10;
    assert!(u128::from(slowest.took_ns) >= least.as_nanos(), "{slowest:?}");
    assert!(report.shards[1].stats.slow_callbacks >= 1);
    assert_eq!(report.merged().slowest, Some(slowest));
    node.close().expect("every packet buffer is back");
}

/// Does nothing until it panics in the callback named by the parameter, on shard 1.
struct Panicker {
    begun: Arc<AtomicUsize>,
}

impl Panicker {
    fn maybe_panic(&self, cx: &Cx<'_>, callback: &str) {
        assert!(role_parameter() != callback || cx.shard() != 1, "deliberately");
    }
}

impl App for Panicker {
    fn on_request(&mut self, cx: &mut Cx<'_>, request: Request) {
        self.maybe_panic(cx, "on_request");
        let bytes = cx.message(b"no").expect("a message");
        let _ = request.reply(cx, bytes);
    }

    fn on_response(&mut self, _cx: &mut Cx<'_>, _response: Result<Response, CallFailed>) {}

    fn on_poll(&mut self, cx: &mut Cx<'_>) {
        self.maybe_panic(cx, "on_poll");
        if cx.shard() == 0 {
            let _ = cx.spawn_on(1, Box::new(()));
            assert!(cx.spawn_on(0, Box::new(())).is_err(), "not to itself");
            assert!(cx.spawn_on(7, Box::new(())).is_err(), "there is no such shard");
            // To ourselves, over the loop: some of these are served by shard 1.
            if self.begun.fetch_add(1, Ordering::Relaxed) < 200 {
                let message = cx.message(b"panic").expect("a message");
                let _ = cx.call(IpAddr::from(CLIENT), PORT, message, 0);
            }
        }
    }

    fn on_message(&mut self, cx: &mut Cx<'_>, from: u8, _message: Box<dyn Any + Send>) {
        assert_eq!(from, 0);
        self.maybe_panic(cx, "on_message");
    }
}

#[test]
#[ignore = "a process of other tests"]
fn panics() {
    let mut config = node_config("ring", CLIENT, 2);
    config.net.loopback = true;
    let mut node = Node::start(&config).expect("a node");
    let begun = Arc::default();
    let ended = node.run_shards(|cx| {
        assert!(cx.open_server_port(PORT));
        Panicker { begun: Arc::clone(&begun) }
    });
    let error = ended.expect_err("it panics");
    println!("{error}");
    let expected = match &*role_parameter() {
        "on_request" => Callback::OnRequest,
        "on_poll" => Callback::OnPoll,
        _ => Callback::OnMessage,
    };
    let NodeError::AppPanicked { shard: 1, callback, text } = &error else {
        panic!("{error}");
    };
    assert_eq!((*callback, text.as_str()), (expected, "deliberately"));
    assert!(error.to_string().contains(&format!("shard 1 in {expected}")), "{error}");
    node.close().expect("every packet buffer is back");
}

// ---- processes ---------------------------------------------------------------------------------

const ALIKE: &str = "--no-huge --idle yield --timeout 3s";

/// The CPUs of `shards` shards, oversubscribed if need be.
fn cores(shards: usize) -> String {
    let cpus = allowed_cpus();
    let cpus: Vec<String> = (0..shards).map(|shard| cpus[shard % cpus.len()].to_string()).collect();
    format!("--cores {}", cpus.join(","))
}

/// Makes the command line that runs a command line somewhere: here, or in a network namespace.
type Within<'a> = &'a dyn Fn(&[String]) -> Vec<String>;

/// Runs a mixed load between two processes; checks every byte, and that packets crossed on both sides.
fn mixed_load(
    [server_within, client_within]: [Within<'_>; 2],
    [server_device, client_device]: [&str; 2],
    [server_shards, client_shards]: [usize; 2],
) {
    let scratch = Scratch::new();
    let json = scratch.path("server.json");
    let device = format!("--device {server_device} --ip 10.52.0.2/24");
    let command = homa_load(["server", &device, ALIKE, &cores(server_shards), "--json", &json]);
    let mut server = Process::spawn("server", &server_within(&command));
    server.wait_for(&format!("{server_shards} shards; packets are spread by the port"));
    server.wait_for("serving on");
    let json = scratch.path("client.json");
    let device = format!("--device {client_device} --ip 10.52.0.1/24 --server 10.52.0.2");
    let load = "--workload w4 --outstanding 32 --count 800 --warm-up 10ms";
    let command =
        homa_load(["client", &device, ALIKE, load, &cores(client_shards), "--json", &json]);
    run("client", &client_within(&command)).expect_code(0);
    server.signal("TERM");
    server.wait().expect_code(0);
    let report = load_report::of_client(&scratch, "client.json");
    expect_clean(&report, 800);
    assert!(counter(&report, "loop_redirected_in") > 0, "{:?}", report.counters);
    let served = load_report::of_server(&scratch, "server.json");
    assert_eq!(served["counts"]["corrupted"], 0, "{served}");
    assert!(served["counters"]["loop_redirected_in"].as_u64() > Some(0), "{served}");
}

fn here(command: &[String]) -> Vec<String> {
    command.to_vec()
}

#[test]
fn memif_with_as_many_queues_as_shards() {
    let _turn = one_at_a_time();
    for shards in [2, 4] {
        let scratch = Scratch::new();
        let socket = scratch.path("memif.sock");
        let devices = ["server", "client"].map(|role| format!("memif:{socket},role={role}"));
        mixed_load([&here, &here], [&devices[0], &devices[1]], [shards, shards]);
    }
}

#[test]
fn packet_sockets_spread_packets_in_a_way_of_their_own() {
    let _turn = one_at_a_time();
    for shards in [2, 4] {
        let (a, b) = (Namespace::new("a"), Namespace::new("b"));
        a.cable("eth", &b, "eth");
        let device = format!("af_packet:eth,qpairs={shards}");
        let within = |namespace: &Namespace, command: &[String]| namespace.within(command);
        mixed_load(
            [&|command| within(&b, command), &|command| within(&a, command)],
            [&device, &device],
            [shards, shards],
        );
    }
}

#[test]
fn a_tap_with_several_queues() {
    let _turn = one_at_a_time();
    for shards in [2, 4] {
        let (a, b) = (Namespace::new("tap"), Namespace::new("b"));
        b.cable("eth", &a, "far");
        a.run(&["ip", "link", "add", "bridge", "type", "bridge"]);
        a.up("bridge");
        a.run(&["ip", "link", "set", "far", "master", "bridge"]);
        // The interface is there when the server is; then it becomes part of the bridge.
        let scratch = Scratch::new();
        let json = scratch.path("server.json");
        let command = homa_load([
            "server --device tap:tap --ip 10.52.0.2/24",
            ALIKE,
            &cores(shards),
            "--json",
            &json,
        ]);
        let mut server = Process::spawn("server", &a.within(&command));
        server.wait_for("serving on");
        a.run(&["ip", "link", "set", "tap", "master", "bridge"]);
        a.up("tap");
        let json = scratch.path("client.json");
        let command = homa_load([
            "client --device af_packet:eth --ip 10.52.0.1/24 --server 10.52.0.2",
            ALIKE,
            "--workload w3 --outstanding 32 --count 800 --warm-up 10ms",
            &cores(2),
            "--json",
            &json,
        ]);
        run("client", &b.within(&command)).expect_code(0);
        server.signal("TERM");
        server.wait().expect_code(0);
        expect_clean(&load_report::of_client(&scratch, "client.json"), 800);
        let served = load_report::of_server(&scratch, "server.json");
        assert_eq!(served["counts"]["corrupted"], 0, "{served}");
        assert!(served["counters"]["loop_redirected_in"].as_u64() > Some(0), "{served}");
    }
}
