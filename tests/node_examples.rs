//! The examples as the README shows them: built, a server and a client started, and what they say.
#![cfg(all(feature = "dpdk", feature = "cli"))]

mod support;

use std::path::Path;
use std::process::Command;

use support::one_at_a_time;
use support::process::{Ended, Process, run};
use support::scratch::Scratch;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// A process that others keep from its core for longer than the 100 ms of a timeout fails.
const TRIES: usize = 5;

/// Builds an example as this test was built; gives its path.
fn build(example: &str) -> String {
    let built = Path::new(env!("CARGO_BIN_EXE_homa-load")).parent().expect("a directory");
    let target = built.parent().expect("the target directory");
    let profile = if built.ends_with("release") { "release" } else { "dev" };
    let ended = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "--profile", profile, "--example", example])
        .arg("--target-dir")
        .arg(target)
        .current_dir(ROOT)
        .output()
        .expect("cargo runs");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    built.join("examples").join(example).display().to_string()
}

fn words(program: &str, arguments: &str) -> Vec<String> {
    [program].into_iter().chain(arguments.split(' ')).map(str::to_owned).collect()
}

/// Runs server and client of an example; gives what the client says.
fn serve_and_call(example: &str, client_arguments: &str) -> Ended {
    let program = build(example);
    let mut last = None;
    for _ in 0..TRIES {
        let scratch = Scratch::new();
        let socket = scratch.path("memif.sock");
        let server = words(&program, &format!("server memif:{socket},role=server 10.0.0.2"));
        let mut server = Process::spawn("server", &server);
        let client =
            format!("client memif:{socket},role=client 10.0.0.1 10.0.0.2{client_arguments}");
        let client = run("client", &words(&program, &client));
        server.signal("TERM");
        server.wait().expect_code(0);
        if client.stderr.is_empty() {
            return client;
        }
        last = Some(client);
    }
    last.expect("a run")
}

#[test]
fn echo_echoes() {
    let _turn = one_at_a_time();
    let client = serve_and_call("echo", "");
    client.expect_code(0);
    assert!(client.stdout.starts_with("10000 requests of 100 bytes echoed"), "{}", client.stdout);
}

#[test]
fn kv_does_what_the_readme_says() {
    let _turn = one_at_a_time();
    let readme = std::fs::read_to_string(Path::new(ROOT).join("README.md")).expect("the README");
    let commands = " put colour blue get colour delete colour get colour";
    assert!(readme.contains(commands), "the README shows other commands");
    let client = serve_and_call("kv", commands);
    client.expect_code(0);
    assert_eq!(client.stdout.lines().count(), 4, "{}", client.stdout);
    assert!(readme.contains(&format!("```text\n{}```", client.stdout)), "{}", client.stdout);
}

#[test]
fn wrong_arguments_are_answered_with_the_right_ones() {
    for example in ["echo", "kv"] {
        let program = build(example);
        for arguments in ["sevrer", "server", "client ring 10.0.0.1"] {
            let ended = run(example, &words(&program, arguments));
            ended.expect_code(2);
            assert!(ended.stderr.starts_with("usage: "), "{example} {arguments}: {}", ended.stderr);
        }
        for (arguments, told) in [
            ("server bogus:x 10.0.0.2", "no kind \"bogus\""),
            ("server ring host", "\"host\" is not an address"),
        ] {
            expect_wrong(&program, arguments, told);
        }
    }
    expect_wrong(&build("echo"), "client ring 10.0.0.1 host", "'host' is not an address");
    expect_wrong(&build("kv"), "client ring 10.0.0.1 host get k", "'host' is not an address");
    expect_wrong(&build("kv"), "client ring 10.0.0.1 10.0.0.2 get", "'get' is not an operation");
}

fn expect_wrong(program: &str, arguments: &str, told: &str) {
    let ended = run("example", &words(program, arguments));
    ended.expect_code(2);
    assert!(ended.stderr.contains(told), "{arguments}: {}", ended.stderr);
}
