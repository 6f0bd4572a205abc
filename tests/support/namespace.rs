//! Network namespaces and the links between them.

use std::process::Command;

/// A network namespace of one test, without IPv6 and with nothing but what the test puts in. Removed
/// at the end, with the interfaces in it.
#[derive(Debug)]
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one whose name contains `role`.
    pub(crate) fn new(role: &str) -> Self {
        let name = format!("homa-{}-{}-{role}", std::process::id(), super::unique());
        ip(&["netns", "add", &name]);
        let namespace = Self { name };
        // Kernels without IPv6 have no such file. With it, interfaces speak on their own.
        namespace.run(&[
            "sh",
            "-c",
            "f=/proc/sys/net/ipv6/conf; for i in all default; do \
             [ ! -e $f/$i/disable_ipv6 ] || echo 1 > $f/$i/disable_ipv6; done",
        ]);
        namespace.run(&["ip", "link", "set", "lo", "up"]);
        namespace
    }

    /// The arguments that run `command` in the namespace.
    pub(crate) fn within(&self, command: &[String]) -> Vec<String> {
        let enter = ["ip", "netns", "exec", &self.name].map(str::to_owned);
        enter.iter().chain(command).cloned().collect()
    }

    /// Runs a command of the set-up to its end.
    pub(crate) fn run(&self, command: &[&str]) {
        ip(&[&["netns", "exec", &self.name], command].concat());
    }

    /// Brings an interface up.
    pub(crate) fn up(&self, interface: &str) {
        self.run(&["ip", "link", "set", interface, "up"]);
    }

    /// Gives an interface an address of the kernel, such as `10.0.0.1/24`.
    pub(crate) fn address(&self, interface: &str, address: &str) {
        self.run(&["ip", "address", "add", address, "dev", interface]);
    }

    /// Lets the kernel speak IPv6 here, on the interfaces that are there and on those to come. It says
    /// nothing on its own but what its addresses need.
    pub(crate) fn with_ipv6(&self) {
        self.run(&[
            "sh",
            "-c",
            "for f in /proc/sys/net/ipv6/conf/*; do echo 0 > $f/accept_dad; \
             echo 0 > $f/disable_ipv6; done",
        ]);
    }

    /// A virtual cable from `interface` here to `other_interface` in `other`, both ends up.
    pub(crate) fn cable(&self, interface: &str, other: &Self, other_interface: &str) {
        let mut words = vec!["link", "add", interface, "netns", &self.name, "type", "veth"];
        words.extend(["peer", "name", other_interface, "netns", &other.name]);
        ip(&words);
        self.up(interface);
        other.up(other_interface);
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}

/// Runs iproute2's `ip`.
fn ip(words: &[&str]) {
    let output = Command::new("ip").args(words).output().unwrap_or_else(|error| {
        panic!("cannot run ip ({error}): install iproute2; these tests make network namespaces")
    });
    assert!(
        output.status.success(),
        "ip {}: {}(these tests make network namespaces: run them as root, in a container with \
         --privileged)",
        words.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
}
