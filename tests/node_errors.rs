//! What `homa-load` says when it cannot do what it is asked.
#![cfg(all(feature = "dpdk", feature = "cli"))]

mod support;

use std::process::{Command, Stdio};

use support::one_at_a_time;
use support::process::{homa_load, run};
use support::scratch::Scratch;

const SERVER: &str = "server --no-huge --ip 10.0.0.1/24";
const CLIENT: &str = "client --no-huge --device ring --ip 10.0.0.1/24 --server 10.0.0.2";

/// Runs `homa-load`, which must exit with `code` and one line on standard error that has all `parts`.
/// With wrong arguments, code 2, DPDK must not be started, which would be logged as another line.
fn expect_error(code: i32, command: &str, parts: &[&str]) {
    let mut words = homa_load([command]);
    if code == 2 {
        words.splice(0..0, ["env".to_owned(), "RUST_LOG=homa::dpdk=debug".to_owned()]);
    }
    let ended = run(command, &words);
    ended.expect_code(code);
    let line = ended.one_line_of_stderr();
    assert!(line.starts_with("error: "), "{command}: {line}");
    for part in parts {
        assert!(line.contains(part), "{command}: '{part}' is missing in: {line}");
    }
    assert_eq!(ended.stdout, "", "{command} says nothing on standard output");
}

#[test]
fn wrong_arguments_exit_with_2_and_one_line() {
    for (command, part) in [
        ("", "subcommand"),
        ("sevrer", "sevrer"),
        ("baseline", "[subcommands: local, client, help]"),
        ("baseline --out /tmp/x", "[subcommands: local, client, help]"),
        ("local --timeout 1us", "more than 5ms is needed"),
        ("local --timeout 5ms", "more than 5ms is needed"),
        ("compare-transports --timeout 2ms", "more than 5ms is needed"),
        ("local --duration 0s", "nothing can be measured in no time"),
        ("server --ip 10.0.0.1/24", "--device"),
        ("server --device ring", "--ip"),
        ("server --transport quic", "homa, tcp or udp"),
        ("server --transport tcp --device ring", "--device"),
        ("server --transport udp --vlan 5", "--vlan"),
        ("server --transport tcp --poll select", "spin or epoll"),
        ("server --transport tcp --protocol cp_node", "--protocol"),
        ("server --device ring --ip 10.0.0.1/24 --poll epoll", "--poll"),
        ("local --connections 2", "--connections"),
        ("local --transport tcp --trace /tmp/x", "--trace"),
        ("local --transport udp --drop-percent 1", "--drop-percent"),
        ("client --transport tcp --server localhost", "localhost"),
        ("client --transport tcp", "--server"),
        ("server --device bogus:x --ip 10.0.0.1/24", "no kind \"bogus\""),
        ("server --device tap --ip 10.0.0.1/24", "tap"),
        ("server --device memif:/x,role=king --ip 10.0.0.1/24", "king"),
        ("server --device ring --ip 10.0.0/24", "\"10.0.0/24\" is not an address"),
        ("server --device ring --ip 10.0.0.1/33", "10.0.0.1/33"),
        ("server --device ring --ip 10.0.0.0/24", "10.0.0.0/24 is the address of a network"),
        ("server --device ring --ip fd00::/64", "fd00::/64 is the address of a network"),
        ("server --device ring --ip 10.0.0.1/24 --ip 10.0.1.1/24", "2 IPv4"),
        ("server --device ring --ip fd00::1/64 --mtu 1000", "1280"),
        ("server --device ring --ip 10.0.0.1/24 --vlan-pcp", "--vlan"),
        ("server --device ring --ip 10.0.0.1/24 --marked-tcp-peer host", "host"),
        ("server --device ring --ip 10.0.0.1/24 --marked-tcp-peer 224.0.0.1", "224.0.0.1"),
        ("server --device ring --ip 10.0.0.1/24 --peer-mtu 10.0.0.2", "ADDR=BYTES"),
        ("server --device ring --ip 10.0.0.1/24 --peer-mtu 10.0.0.2=9000", "552 to 1500"),
        ("server --device ring --ip 10.0.0.1/24 --unresolved-packets 0", "65536"),
        ("server --device ring --ip fd00::1/64 --gateway 10.0.0.1", "gateway 10.0.0.1"),
        ("server --device ring --ip 224.0.0.1/24", "224.0.0.1"),
        ("server --device ring --ip 10.0.0.1/24 --gateway 11.0.0.1", "gateway 11.0.0.1"),
        ("server --device ring --ip 10.0.0.1/24 --vlan 5000", "from 1 to 4094"),
        ("server --device ring --ip 10.0.0.1/24 --vlan x", "from 1 to 4094"),
        ("server --device ring --ip 10.0.0.1/24 --neighbor 10.0.0.2", "ADDR=MAC"),
        ("server --device ring --ip 10.0.0.1/24 --neighbor 10.0.0.2=1:2", "1:2"),
        ("server --device ring --ip 10.0.0.1/24 --neighbor 10.0.0.1=02:00:00:00:00:01", "10.0.0.1"),
        ("server --device ring --ip 10.0.0.1/24 --mtu 100", "100"),
        ("server --device ring --ip 10.0.0.1/24 --mtu 99999", "99999"),
        ("server --device ring --ip 10.0.0.1/24 --cpu 4096", "CPU 4096"),
        ("server --device ring --ip 10.0.0.1/24 --cpu first", "first"),
        ("server --device ring --ip 10.0.0.1/24 --idle nap", "'nap'"),
        ("server --device ring --ip 10.0.0.1/24 --huge --no-huge", "--no-huge"),
        ("server --device ring --ip 10.0.0.1/24 --memory-mb 1", "1"),
        ("server --device ring --ip 10.0.0.1/24 --drop-percent 91", "91"),
        ("server --device ring --ip 10.0.0.1/24 --drop-percent -1", "from 0 to 90"),
        ("server --device ring --ip 10.0.0.1/24 --link-gbps 0", "0"),
        ("server --device ring --ip 10.0.0.1/24 --link-gbps 1e12", "link_bps"),
        ("server --device ring --ip 10.0.0.1/24 --timeout 1us", "more than 5ms is needed"),
        ("server --device ring --ip 10.0.0.1/24 --port 40000", "32765"),
        ("server --device ring --ip 10.0.0.1/24 --port 0", "32765"),
        ("client --device ring --ip 10.0.0.1/24", "--server"),
        ("client --device ring --ip 10.0.0.1/24 --server host", "'host'"),
        ("client --device ring --ip 10.0.0.1/24 --server 10.0.0.2:x", "port"),
        ("client --device ring --ip fd00::1/64 --server [fd00::2]:40000", "32765"),
        ("client --device ring --ip 10.0.0.1/24 --server fd00::2", "no address of that family"),
        ("client --device ring --ip 10.0.0.1/24 --server 11.0.0.2", "give the node a gateway"),
        ("client --device ring --ip 10.0.0.1/24 --server 10.0.0.1", "this node itself"),
        ("ping --device ring --ip 10.0.0.1/24 10.0.0.255", "a unicast address"),
        ("ping --device ring --ip fd00::1/64 10.0.0.2", "no address of that family"),
        ("ping --device memif:/tmp/x,bsize=100 --ip 10.0.0.1/24 10.0.0.2", "bsize=1518"),
        ("local --workload w9", "w9"),
        ("local --workload 0", "0"),
        ("local --workload /nowhere/sizes.csv", "/nowhere/sizes.csv"),
        ("local --outstanding 0", "0"),
        ("local --outstanding 70000", "60000"),
        ("local --outstanding 8 --gbps 1", "--gbps"),
        ("local --gbps 0", "0"),
        ("local --gbps -1", "above 0"),
        ("local --rps -0.5", "above 0"),
        ("local --rps NaN", "NaN"),
        ("local --rps 1e30", "100 MRPC/s"),
        ("local --workload 1 --gbps 1", "100 MRPC/s"),
        ("local --outstanding x", "from 1 to 60000"),
        ("local --response long", "'long'"),
        ("local --duration 5", "5"),
        ("local --duration 5s --count 10", "--count"),
        ("local --count 0", "at least 1"),
        ("local --warm-up 1", "no unit"),
        ("local --wire pigeon", "pigeon"),
        ("local --seed -1", "-1"),
        ("local --cpu 4096", "CPU 4096"),
    ] {
        expect_error(2, command, &[part]);
    }
}

#[test]
fn missing_devices_are_named() {
    let _turn = one_at_a_time();
    let scratch = Scratch::new();
    let missing = scratch.path("missing/memif.sock");
    let taken = scratch.path("taken.sock");
    let _serving = std::os::unix::net::UnixListener::bind(&taken).expect("a socket");
    for (device, parts) in [
        (format!("memif:{missing},role=server"), ["does not exist", "make it first"]),
        ("af_packet:homa-none".to_owned(), ["homa-none", "ip link"]),
        ("af_xdp:homa-none".to_owned(), ["homa-none", "ip link"]),
        ("pci:0000:ff:1f.7".to_owned(), ["0000:ff:1f.7", "lspci"]),
        ("pcap:rx=/nowhere/a.pcap".to_owned(), ["/nowhere/a.pcap", "does not exist"]),
        ("ring:half".to_owned(), ["ring:half", "twice"]),
        (format!("memif:{taken},role=server"), ["already in use", "remove the file"]),
    ] {
        expect_error(1, &format!("{SERVER} --device {device}"), &parts);
    }
}

#[test]
fn missing_memory_is_explained() {
    let _turn = one_at_a_time();
    // More hugepages than any machine has.
    let command = "server --huge --memory-mb 1048576 --device ring --ip 10.0.0.1/24";
    expect_error(1, command, &["hugepages", "1048576 MB are needed"]);
    expect_error(1, &format!("{SERVER} --memory-mb 64 --device ring"), &["memory", "64"]);
    // Less than is asked for, and not for want of hugepages.
    let mut command = homa_load([SERVER, "--memory-mb 4096 --device ring"]);
    command.splice(0..0, ["prlimit".to_owned(), "--as=1000000000".to_owned()]);
    let ended = run("server", &command);
    ended.expect_code(1);
    let line = ended.one_line_of_stderr();
    assert!(line.contains("4096 MB of ordinary memory cannot be had: ask for less"), "{line}");
}

#[test]
fn reports_that_cannot_be_written_are_noticed_first() {
    let _turn = one_at_a_time();
    let scratch = Scratch::new();
    let missing = scratch.path("missing/report.json");
    let directory = scratch.directory().display().to_string();
    for file in [&missing, &directory] {
        expect_error(2, &format!("{CLIENT} --json {file}"), &[file.as_str(), "directory"]);
        expect_error(2, &format!("{SERVER} --device ring --json {file}"), &[file.as_str()]);
        expect_error(2, &format!("local --no-huge --json {file}"), &[file.as_str()]);
        expect_error(2, &format!("bench --no-huge --json {file}"), &[file.as_str()]);
        expect_error(2, &format!("baseline --out {file} local"), &[file.as_str()]);
    }
    let below_a_file = scratch.path("file/reports");
    std::fs::write(scratch.path("file"), "").expect("a file");
    expect_error(2, &format!("local --report {below_a_file}"), &["file/reports", "can be made"]);
}

#[test]
fn a_client_says_that_nobody_listens() {
    let _turn = one_at_a_time();
    let scratch = Scratch::new();
    let socket = scratch.path("memif.sock");
    let command = format!(
        "client --no-huge --ip 10.0.0.1/24 --server 10.0.0.2 --device memif:{socket},role=client"
    );
    expect_error(1, &command, &["no server answers on the socket", "start it first"]);
}

#[test]
fn a_client_without_a_server_fails_and_says_what_to_do() {
    let _turn = one_at_a_time();
    // A port that receives what it sends, and nobody else.
    let load = "--workload 100 --outstanding 1 --count 2 --warm-up 1ms";
    let ended = run("client", &homa_load([CLIENT, load]));
    ended.expect_code(1);
    let line = ended.stderr.lines().last().unwrap_or_default();
    assert!(line.starts_with("error: none of 2 RPCs was answered"), "{}", ended.stderr);
    assert!(line.contains("start the server first"), "{line}");
}

#[test]
fn help_and_version_are_no_errors() {
    for arguments in [&["--help"][..], &["server", "--help"], &["--version"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_homa-load"))
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("homa-load runs");
        assert_eq!(output.status.code(), Some(0));
        assert!(output.stderr.is_empty() && !output.stdout.is_empty());
    }
}

#[test]
fn what_dpdk_says_at_its_start_can_be_seen() {
    let _turn = one_at_a_time();
    let scratch = Scratch::new();
    let file = scratch.path("no-capture");
    std::fs::write(&file, "not a capture").expect("a file");
    let mut command = homa_load([SERVER, &format!("--device pcap:rx={file}")]);
    command.splice(0..0, ["env".to_owned(), "RUST_LOG=dpdk=trace".to_owned()]);
    let ended = run("server", &command);
    ended.expect_code(1);
    assert!(
        ended.stderr.contains("TRACE dpdk") || ended.stderr.contains("TRACE] dpdk"),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("EAL: "), "{}", ended.stderr);
}
