//! `homa-load ping`, and messages and output of `cp_node`, between network namespaces. Runs as root.
#![cfg(all(feature = "dpdk", feature = "cli"))]

mod support;

use support::load_report::{self, expect_clean};
use support::namespace::Namespace;
use support::one_at_a_time;
use support::process::{Ended, Process, homa_load, run};
use support::scratch::Scratch;

const NODE: &str = "--device af_packet:eth --no-huge --idle sleep";

fn ping(namespace: &Namespace, options: &str) -> Ended {
    let command = homa_load(["ping", NODE, "--ip 10.73.0.1/24", options]);
    run("ping", &namespace.within(&command))
}

fn server(namespace: &Namespace, options: &str) -> Process {
    let command = homa_load(["server", NODE, "--timeout 3s --ip 10.73.0.2/24", options]);
    let mut server = Process::spawn("server", &namespace.within(&command));
    server.wait_for("serving on");
    server
}

#[test]
fn ping_says_what_it_finds() {
    let _turn = one_at_a_time();
    let (a, b) = (Namespace::new("a"), Namespace::new("b"));
    a.cable("eth", &b, "eth");
    let mut serving = server(&b, "");
    let answered = ping(&a, "-c 2 -i 0.05 -W 5 -s 200 10.73.0.2");
    answered.expect_code(0);
    // On a machine with other work the server may be slow, and says so.
    let lines = answered.stdout.lines().filter(|line| !line.contains(" BUSY: "));
    let lines: Vec<&str> = lines.collect();
    assert_eq!(lines[0], "HOMA 10.73.0.2 port 4000: 200 bytes of data.");
    for (number, line) in lines[1..3].iter().enumerate() {
        let begin = format!("200 bytes from 10.73.0.2: homa_seq={} time=", number + 1);
        assert!(line.starts_with(&begin) && line.ends_with(" ms"), "{line}");
    }
    let summary = "2 RPCs transmitted, 2 received, 0% RPC loss, time ";
    assert!(answered.stdout.contains(summary), "{}", answered.stdout);
    assert!(answered.stdout.contains("rtt min/avg/max/mdev = "), "{}", answered.stdout);
    let refused = ping(&a, "-c 1 -W 5 10.73.0.2:999");
    refused.expect_code(1);
    assert!(refused.stdout.contains("homa_seq=1 port unreachable"), "{}", refused.stdout);
    assert!(refused.stdout.contains("0 received, +1 errors, 100% RPC loss"), "{}", refused.stdout);
    let nobody = ping(&a, "-c 1 -W 5 10.73.0.9");
    nobody.expect_code(1);
    assert!(nobody.stdout.contains("homa_seq=1 host unreachable"), "{}", nobody.stdout);
    ping(&a, "-c 0 10.73.0.2").expect_code(2);
    serving.signal("TERM");
    serving.wait().expect_code(0);
}

#[test]
fn ping_tells_a_server_at_work_from_a_silent_one() {
    let _turn = one_at_a_time();
    let (a, b) = (Namespace::new("a"), Namespace::new("b"));
    a.cable("eth", &b, "eth");
    let mut serving = server(&b, "--service-time 300ms");
    let busy = "From 10.73.0.2: homa_seq=1 BUSY: the server is at work on it";
    let answered = ping(&a, "-c 1 -W 60 10.73.0.2");
    answered.expect_code(0);
    // The server says so again and again, a line is said once a second.
    assert_eq!(answered.stdout.lines().nth(1), Some(busy), "{}", answered.stdout);
    let slow = answered.stdout.lines().filter(|line| *line == busy).count();
    assert!(slow < 20, "{}", answered.stdout);
    let impatient = ping(&a, "-c 1 -W 0.1 10.73.0.2");
    impatient.expect_code(1);
    let told = "no answer from 10.73.0.2: homa_seq=1 still BUSY";
    assert!(impatient.stdout.contains(told), "{}", impatient.stdout);
    // A station that is not there.
    let silent = ping(&a, "--neighbor 10.73.0.2=02:00:00:00:00:99 -c 1 -W 0.1 10.73.0.2");
    silent.expect_code(1);
    let told = "no answer from 10.73.0.2: homa_seq=1 timed out";
    assert!(silent.stdout.contains(told), "{}", silent.stdout);
    serving.signal("TERM");
    serving.wait().expect_code(0);
}

/// The gateway is what does not answer, and the host behind it is what was asked for.
#[test]
fn a_silent_gateway_ends_the_rpcs_through_it() {
    let _turn = one_at_a_time();
    let (a, b) = (Namespace::new("a"), Namespace::new("b"));
    a.cable("eth", &b, "eth");
    let ended = ping(&a, "--gateway 10.73.0.254 -c 1 -W 20 10.99.0.2");
    ended.expect_code(1);
    let told = "no way to 10.99.0.2: homa_seq=1 host unreachable";
    assert!(ended.stdout.contains(told), "{}", ended.stdout);
}

/// A host whose kernel has no Homa says so, and the client says it at once.
#[test]
fn a_host_without_homa_is_told_from_one_that_is_silent() {
    let _turn = one_at_a_time();
    let (a, b) = (Namespace::new("a"), Namespace::new("b"));
    a.cable("eth", &b, "eth");
    b.address("eth", "10.73.0.2/24");
    let ended = ping(&a, "-c 1 -W 10 10.73.0.2");
    ended.expect_code(1);
    let told = "homa_seq=1 protocol unreachable: the peer does not speak Homa";
    assert!(ended.stdout.contains(told), "{}", ended.stdout);
}

#[test]
fn cp_node_messages_and_lines() {
    let _turn = one_at_a_time();
    let (a, b, scratch) = (Namespace::new("a"), Namespace::new("b"), Scratch::new());
    a.cable("eth", &b, "eth");
    let mut serving = server(&b, "--protocol cp_node --format cp_node --exp trial");
    for response in ["echo", "short"] {
        let json = scratch.path("client.json");
        let load = format!(
            "--server 10.73.0.2 --workload w3 --rps 200 --duration 1500ms --response {response}"
        );
        let format = "--timeout 3s --protocol cp_node --format cp_node";
        let command =
            homa_load(["client", NODE, "--ip 10.73.0.1/24", format, &load, "--json", &json]);
        let ended = run("client", &a.within(&command));
        ended.expect_code(0);
        expect_clean(&load_report::of_client(&scratch, "client.json"), 100);
        let said = &ended.stdout;
        for part in [
            "K/sec, expected BW ",
            " homa_w3 clients: ",
            " Gbps in, RTT (us) P50 ",
            " Outstanding client RPCs for homa_w3 experiment: ",
        ] {
            assert!(said.contains(part), "'{part}' in:\n{said}");
        }
        assert!(!said.contains("latency by size"), "no report:\n{said}");
    }
    serving.wait_for(" trial servers: ");
    serving.wait_for(" RPCs per trial server thread: ");
    serving.signal("TERM");
    let ended = serving.wait();
    ended.expect_code(0);
    assert!(ended.stdout.contains("0 corrupted, 0 responses refused"), "{}", ended.stdout);
}
