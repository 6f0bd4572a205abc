//! What stands behind an option, and how it is read.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use clap_complete::Shell;
use homa::load::baseline::Baseline;
use homa::load::quantity::{Rate, parse_duration, parse_size};
use homa::load::report::check_name;
use homa::load::response::PORTS_PER_GROUP;
use homa::load::workload::Workload;
use homa::net::MacAddr;
use homa::node::IdlePolicy;
use homa::time::Nanos;
use homa::wire::HomaPort;

use super::BaselineFile;
use crate::bench::SideSpec;
use crate::{WrongArguments, wrong_arguments};

/// CPUs, in the order of the shards that run on them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cores(pub(crate) Vec<usize>);

impl FromStr for Cores {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is not a list of CPUs such as 2 or 1-4,6");
        let mut cpus = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |text: &str| text.parse::<u16>().map_err(|_| wrong());
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(wrong());
            }
            cpus.extend((first..=last).map(usize::from));
        }
        Ok(Self(cpus))
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Neighbor(pub(crate) IpAddr, pub(crate) MacAddr);

impl FromStr for Neighbor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (addr, mac) = text
            .split_once('=')
            .ok_or("write it as ADDR=MAC, such as 10.0.0.2=02:00:00:00:00:02")?;
        let addr = addr.parse().map_err(|_| format!("'{addr}' is not an IP address"))?;
        let mac = mac.parse().map_err(|error| format!("'{mac}': {error}"))?;
        Ok(Self(addr, mac))
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerMtu(pub(crate) IpAddr, pub(crate) u16);

impl FromStr for PeerMtu {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (addr, bytes) =
            text.split_once('=').ok_or("write it as ADDR=BYTES, such as 10.0.0.2=1500")?;
        let addr = addr.parse().map_err(|_| format!("'{addr}' is not an IP address"))?;
        let bytes = bytes.parse().map_err(|_| format!("'{bytes}' is not a number of bytes"))?;
        Ok(Self(addr, bytes))
    }
}

/// The last server port is 32767, and those after the first of a group are used too.
const PORT_MAX: u16 = 32_767 - (PORTS_PER_GROUP - 1);

/// The base ports of `groups` groups from `base` on, if there are so many.
pub(crate) fn port_groups(base: HomaPort, groups: u16) -> Result<Vec<HomaPort>, String> {
    let last = u32::from(base.0) + u32::from(groups - 1) * u32::from(PORTS_PER_GROUP);
    if last > PORT_MAX.into() {
        return Err(format!(
            "{groups} groups of {PORTS_PER_GROUP} ports do not fit between {base} and 32767: lower \
             --ports or the port"
        ));
    }
    Ok((0..groups).map(|group| HomaPort(base.0 + group * PORTS_PER_GROUP)).collect())
}

/// Homa port of servers, unless given.
const DEFAULT_PORT: HomaPort = HomaPort(4000);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Server(pub(crate) IpAddr, pub(crate) HomaPort);

impl Server {
    /// A server of Homa, whose ports go up to 32766.
    pub(crate) fn of_homa(self) -> Result<Self, WrongArguments> {
        port(&self.1.to_string()).map_err(wrong_arguments)?;
        Ok(self)
    }
}

impl FromStr for Server {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // An IPv6 address has colons of its own; with a port it stands in brackets.
        if let Ok(addr) = text.parse() {
            return Ok(Self(addr, DEFAULT_PORT));
        }
        if let Ok(both) = text.parse::<SocketAddr>() {
            return match both.port() {
                0 => Err("a server port is a number above 0".to_owned()),
                port => Ok(Self(both.ip(), HomaPort(port))),
            };
        }
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        let addr = bare.and_then(|addr| addr.parse().ok());
        addr.map(|addr| Self(addr, DEFAULT_PORT)).ok_or_else(|| {
            format!(
                "'{text}' is not an address with or without a port: write 10.0.0.2, 10.0.0.2:4000, \
                 fd00::2 or [fd00::2]:4000"
            )
        })
    }
}

pub(super) fn port(text: &str) -> Result<HomaPort, String> {
    let number = text.parse().ok().filter(|port| (1..=PORT_MAX).contains(port));
    number.map(HomaPort).ok_or_else(|| format!("a server port is a number from 1 to {PORT_MAX}"))
}

pub(super) fn workload(text: &str) -> Result<Workload, String> {
    let workload: Workload = text.parse().map_err(|error| format!("{error}"))?;
    let max = homa::load::workload::MESSAGE_BYTES_MAX;
    workload.cut_at(max).map_err(|error| error.to_string())
}

pub(super) fn baseline(file: &str) -> Result<BaselineFile, String> {
    let json = std::fs::read_to_string(file).map_err(|error| {
        format!("{file}: {error}: write one with homa-load baseline --out {file} local")
    })?;
    Baseline::from_json(&json).map(BaselineFile).map_err(|error| format!("{file}: {error}"))
}

pub(super) fn share(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|share| (0.001..=1.0).contains(share));
    value.ok_or_else(|| "a share from 0.001 to 1 is needed".to_owned())
}

pub(super) fn run_seconds(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|seconds| (0.05..=600.0).contains(seconds));
    value.ok_or_else(|| "a run takes 0.05 to 600 seconds".to_owned())
}

pub(super) fn ping_seconds(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|seconds| (0.001..=3_600.0).contains(seconds));
    value.ok_or_else(|| "0.001 to 3600 seconds are possible".to_owned())
}

pub(super) fn polling(text: &str) -> Result<IdlePolicy, String> {
    match text.parse()? {
        policy @ (IdlePolicy::Spin | IdlePolicy::Pause | IdlePolicy::Yield) => Ok(policy),
        _ => Err(format!("'{text}' is not a way to poll: use spin, pause or yield")),
    }
}

pub(super) fn side_spec(text: &str) -> Result<SideSpec, String> {
    serde_json::from_str(text).map_err(|error| format!("not a description of a side: {error}"))
}

pub(super) fn duration(text: &str) -> Result<Nanos, String> {
    parse_duration(text).map_err(|error| error.to_string())
}

/// The silence after which an RPC is given up: longer than that after which the peer is asked, which is 5 ms.
pub(super) fn rpc_timeout(text: &str) -> Result<Nanos, String> {
    match duration(text)? {
        time if time > Nanos::from_ms(5) && time <= Nanos::from_secs(1_000) => Ok(time),
        _ => Err("more than 5ms is needed, and at most 1000s".to_owned()),
    }
}

/// A time in which something is measured.
pub(super) fn duration_above_0(text: &str) -> Result<Nanos, String> {
    duration(text).and_then(|time| match time {
        Nanos::ZERO => Err("nothing can be measured in no time".to_owned()),
        time => Ok(time),
    })
}

pub(super) fn positive(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|value: &f64| value.is_finite() && *value > 0.0);
    value.ok_or_else(|| "a number above 0 is needed".to_owned())
}

pub(super) fn metrics_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("'{text}' is not an address with a port: write 127.0.0.1:9464 or [::]:9464")
    })
}

pub(super) fn shell(text: &str) -> Result<Shell, String> {
    match text.parse() {
        Ok(shell @ (Shell::Bash | Shell::Zsh | Shell::Fish)) => Ok(shell),
        _ => Err(format!("'{text}' is not one of bash, zsh and fish")),
    }
}

pub(super) fn report_name(text: &str) -> Result<String, String> {
    check_name(text).map(|()| text.to_owned()).map_err(|error| error.to_string())
}

pub(super) fn percent(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|value| (0.0..=90.0).contains(value));
    value.ok_or_else(|| "a percentage from 0 to 90 is needed".to_owned())
}

pub(super) fn whole_count(text: &str) -> Result<u64, String> {
    parse_size(text).map_err(|error| error.to_string()).and_then(|count| match count {
        0 => Err("at least 1 is needed".to_owned()),
        count => Ok(count),
    })
}

pub(super) fn count(text: &str) -> Result<f64, String> {
    match text.parse::<Rate>() {
        Ok(Rate::Rps(rps)) => Ok(rps),
        _ => positive(text),
    }
}
