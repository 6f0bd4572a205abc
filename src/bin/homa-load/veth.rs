//! Two network namespaces joined by a virtual cable, on which Homa and the kernel's transports run
//! alike: Homa through packet sockets with addresses that the kernel does not know, the kernel with
//! addresses of its own.

use std::error::Error;
use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use homa::node::stop_on_signals;

/// The interface at either end.
pub(crate) const INTERFACE: &str = "homa-veth";
/// The kernel's addresses of client and server.
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 1);
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 2);
const PREFIX_LEN: u8 = 24;
const NAME_PREFIX: &str = "homa-load-";

/// The cable; removed when dropped, with the namespaces.
pub(crate) struct Cable {
    pub(crate) client: String,
    pub(crate) server: String,
}

impl Cable {
    /// Makes namespaces and cable; IP packets have `mtu` bytes.
    pub(crate) fn new(mtu: u16) -> Result<Self, String> {
        remove_left_behind();
        let name = |side: &str| format!("{NAME_PREFIX}{}-{side}", std::process::id());
        let cable = Self { client: name("client"), server: name("server") };
        for namespace in [&cable.client, &cable.server] {
            ip(&["netns", "add", namespace])?;
        }
        let (client, server, mtu) = (&*cable.client, &*cable.server, mtu.to_string());
        let link = ["link", "add", INTERFACE, "mtu", &mtu, "netns", client, "type", "veth"];
        let peer = ["peer", "name", INTERFACE, "mtu", &mtu, "netns", server];
        ip(&[&link[..], &peer[..]].concat())?;
        for (namespace, address) in [(client, CLIENT), (server, SERVER)] {
            // With IPv6 the interface would speak on its own.
            let quiet = "f=/proc/sys/net/ipv6/conf/all/disable_ipv6; [ ! -e $f ] || echo 1 > $f";
            ip(&["netns", "exec", namespace, "sh", "-c", quiet])?;
            let address = format!("{address}/{PREFIX_LEN}");
            ip(&["-n", namespace, "address", "add", &address, "dev", INTERFACE])?;
            ip(&["-n", namespace, "link", "set", "lo", "up"])?;
            ip(&["-n", namespace, "link", "set", INTERFACE, "up"])?;
        }
        Ok(cable)
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for namespace in [&self.client, &self.server] {
            let _ = Command::new("ip").args(["netns", "delete", namespace]).output();
        }
    }
}

/// Removes namespaces of processes that were killed and could not do it themselves.
fn remove_left_behind() {
    for entry in std::fs::read_dir("/var/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if owner(&name).is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = Command::new("ip").args(["netns", "delete", &name]).output();
        }
    }
}

/// The process that made the namespace, if it is one of ours.
fn owner(name: &str) -> Option<u32> {
    let (pid, side) = name.strip_prefix(NAME_PREFIX)?.split_once('-')?;
    pid.parse().ok().filter(|_| ["client", "server"].contains(&side))
}

fn ip(words: &[&str]) -> Result<(), String> {
    let output = Command::new("ip")
        .args(words)
        .output()
        .map_err(|error| format!("cannot run ip ({error}): install iproute2"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "ip {}: {} (--wire veth makes network namespaces: run it as root)",
        words.join(" "),
        said.split_whitespace().collect::<Vec<_>>().join(" ")
    ))
}

/// `command` as run in `namespace`, or where we are.
pub(crate) fn command(namespace: Option<&str>, program: impl AsRef<OsStr>) -> Command {
    match namespace {
        None => Command::new(program),
        Some(namespace) => {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", namespace]).arg(program);
            command
        }
    }
}

/// Runs this command line again at one end of a new cable.
pub(crate) fn run_at_one_end(mtu: u16) -> Result<ExitCode, Box<dyn Error>> {
    // Ctrl-C goes to the process inside as well, which ends well; what is left is to clean up.
    let stop: Arc<AtomicBool> = Arc::default();
    stop_on_signals(&stop)?;
    let cable = Cable::new(mtu)?;
    let status = command(Some(&cable.client), std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .arg(format!("--server-namespace={}", cable.server))
        .status()?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_namespaces_of_ours_have_an_owner() {
        assert_eq!(owner("homa-load-123-client"), Some(123));
        assert_eq!(owner("homa-load-123-server"), Some(123));
        for name in ["homa-load-123", "homa-load-x-client", "homa-123-a", "homa-load-1-router"] {
            assert_eq!(owner(name), None, "{name}");
        }
    }
}
