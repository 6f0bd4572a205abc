//! Looking at a node while it runs: Prometheus and DPDK's telemetry.
#![cfg(all(feature = "dpdk", feature = "cli"))]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::{Domain, SockAddr, Socket, Type};

use support::one_at_a_time;
use support::process::{PATIENCE, Process, homa_load, run};

const PAUSE: Duration = Duration::from_millis(50);

/// An address that was free a moment ago.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address")
}

/// Asks until `wanted` is content with the answer.
fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>, wanted: impl Fn(&T) -> bool) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().filter(&wanted) {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::sleep(PAUSE);
    }
}

fn get(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    let request = "GET /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// The value of a line of the answer.
fn value(answer: &str, name: &str) -> Option<f64> {
    answer.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

/// Where DPDK puts the socket of its telemetry, with and without privileges.
fn telemetry_sockets(pid: u32) -> Vec<PathBuf> {
    let user = std::env::var("XDG_RUNTIME_DIR").unwrap_or_else(|_| "/tmp".into());
    ["/var/run", &user]
        .map(|parent| PathBuf::from(format!("{parent}/dpdk/homa-{pid}/dpdk_telemetry.v2")))
        .into()
}

/// What DPDK answers to `command`.
fn telemetry(pid: u32, command: &str) -> Option<Value> {
    let path = telemetry_sockets(pid).into_iter().find(|path| path.exists())?;
    let mut socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None).ok()?;
    socket.set_read_timeout(Some(PATIENCE)).ok()?;
    socket.connect(&SockAddr::unix(path).ok()?).ok()?;
    let mut buffer = vec![0; 64 * 1024];
    // It introduces itself first.
    let hello = socket.read(&mut buffer).ok()?;
    assert!(hello > 0);
    socket.write_all(command.as_bytes()).ok()?;
    let length = socket.read(&mut buffer).ok()?;
    serde_json::from_slice(&buffer[..length]).ok()
}

#[test]
fn counters_can_be_read_while_the_load_runs() {
    let _turn = one_at_a_time();
    let address = free_address();
    let command = homa_load([
        "local --no-huge --idle sleep --duration 10m --workload 100 --telemetry --timeout 20s",
        &format!("--metrics {address}"),
    ]);
    let mut local = Process::spawn("local", &command);
    let done = "homa_rpcs_completed_total{shard=\"0\"}";
    let is_busy = |answer: &String| value(answer, done).is_some_and(|done| done > 100.0);
    let answer = wait_for("metrics", || get(address), is_busy);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    for line in ["# TYPE homa_rpcs_completed_total counter", "# HELP homa_client_rpcs "] {
        assert!(answer.contains(line), "{line} in {answer}");
    }
    let first = answer.clone();
    wait_for("more of them", || get(address), |answer| value(answer, done) > value(&first, done));

    let pid = local.pid();
    let counters = wait_for("telemetry", || telemetry(pid, "/homa/stats"), |_| true);
    let counters = &counters["/homa/stats"];
    assert!(counters["client_done"].as_u64() > Some(100), "{counters}");
    assert!(counters["loop_rx_packets"].as_u64() > Some(100), "{counters}");
    let of_shard = telemetry(pid, "/homa/stats,0").expect("an answer");
    assert!(of_shard["/homa/stats"]["client_done"].as_u64() > Some(100), "{of_shard}");
    let of_none = telemetry(pid, "/homa/stats,7").expect("an answer");
    assert!(of_none["/homa/stats"].is_null(), "there is no shard 7: {of_none}");
    let help = telemetry(pid, "/help,/homa/stats").expect("an answer");
    assert!(help.to_string().contains("Counters of the Homa transport"), "{help}");

    local.signal("INT");
    local.wait().expect_code(0);
    assert!(get(address).is_none(), "nobody answers any more");
}

#[test]
fn addresses_that_cannot_be_had_end_it_before_it_starts() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("its address").to_string();
    for (address, part) in [
        ("localhost", "127.0.0.1:9464"),
        ("9464", "127.0.0.1:9464"),
        ("192.0.2.1:9464", "192.0.2.1:9464"),
        (&taken, taken.as_str()),
    ] {
        for command in [
            format!("server --device ring --ip 10.0.0.1/24 --metrics {address}"),
            format!("client --device ring --ip 10.0.0.1/24 --server 10.0.0.2 --metrics {address}"),
            format!("local --metrics {address}"),
            format!(
                "agent --coordinator 127.0.0.1:1 --device ring --ip 10.0.0.1/24 --metrics {address}"
            ),
        ] {
            let ended = run(&command, &homa_load([&command]));
            ended.expect_code(2);
            let line = ended.one_line_of_stderr();
            assert!(line.contains("--metrics") && line.contains(part), "{command}: {line}");
        }
    }
}
