//! What `homa-load` says to those who may not use what they ask for, and about interfaces that nobody can
//! have. Runs as root, which can become another user.
#![cfg(all(feature = "dpdk", feature = "cli"))]

mod support;

use support::namespace::Namespace;
use support::one_at_a_time;
use support::process::{homa_load, run};
use support::scratch::Scratch;

const SERVER: &str = "server --no-huge --ip 10.0.0.1/24";

#[test]
fn an_interface_of_that_name_is_there() {
    let _turn = one_at_a_time();
    let ended = run("server", &homa_load([SERVER, "--device tap:lo"]));
    ended.expect_code(1);
    let line = ended.one_line_of_stderr();
    assert!(line.contains("did not open it") && line.contains("choose a name"), "{line}");
}

/// The command that runs `homa-load` as the user nobody, from where that user can reach it.
fn unprivileged(scratch: &Scratch, arguments: &str) -> Vec<String> {
    let program = scratch.path("homa-load");
    std::fs::copy(env!("CARGO_BIN_EXE_homa-load"), &program).expect("a copy of the program");
    let mut command = vec!["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    command.extend(["--inh-caps=-all", "--bounding-set=-all", "--", &program]);
    command.extend(arguments.split(' '));
    command.into_iter().map(str::to_owned).collect()
}

/// DPDK would run without its telemetry, and say nothing. Root has a directory in any case.
#[test]
fn telemetry_without_a_directory_is_an_error() {
    let _turn = one_at_a_time();
    let scratch = Scratch::new();
    let mut command = unprivileged(&scratch, &format!("{SERVER} --device ring --telemetry"));
    command.splice(0..0, ["env".to_owned(), "XDG_RUNTIME_DIR=/nowhere".to_owned()]);
    let ended = run("server", &command);
    ended.expect_code(1);
    let line = ended.one_line_of_stderr();
    assert!(line.contains("in /nowhere") && line.contains("XDG_RUNTIME_DIR"), "{line}");
}

#[test]
fn kernel_interfaces_need_privileges() {
    let _turn = one_at_a_time();
    let namespace = Namespace::new("privileges");
    let scratch = Scratch::new();
    namespace.run(&["ip", "link", "add", "plain", "type", "veth", "peer", "name", "other"]);
    for (device, privilege) in [
        ("af_packet:plain", "CAP_NET_RAW"),
        ("af_xdp:plain", "CAP_NET_ADMIN"),
        ("tap:plain2", "CAP_NET_ADMIN"),
    ] {
        let command = unprivileged(&scratch, &format!("{SERVER} --device {device}"));
        let ended = run(device, &namespace.within(&command));
        ended.expect_code(1);
        let line = ended.one_line_of_stderr();
        assert!(line.contains(privilege) && line.contains("run as root"), "{line}");
    }
}
