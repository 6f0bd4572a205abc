//! Transports of the kernel beside Homa, and their comparison.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use homa::load::kernel::{KernelTransport, Poll};
use homa::time::Nanos;

use super::{Wire, positive, rpc_timeout, run_seconds, whole};

/// The kernel's transports in place of Homa.
#[derive(Args, Clone, Debug)]
pub(crate) struct KernelArgs {
    /// homa over --device, or tcp or udp: sockets of the kernel on the host's own interfaces, where
    /// --ip is optional
    #[arg(long, value_name = "NAME", default_value = "homa")]
    pub(crate) transport: Transport,
    /// tcp, udp: how to wait, spin (the default) or epoll
    #[arg(long, value_name = "HOW")]
    pub(crate) poll: Option<Poll>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ConnectionArgs {
    /// tcp, udp: connections or sockets of each client thread to each server; 4 and 1 by default. The
    /// one with the least under way takes the next RPC
    #[arg(long, value_name = "N", value_parser = whole::<u16>(1..=1024))]
    pub(crate) connections: Option<u16>,
}

/// What carries the RPCs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Homa,
    Kernel(KernelTransport),
}

impl FromStr for Transport {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        if name == "homa" {
            return Ok(Self::Homa);
        }
        let kernel = name.parse().map(Self::Kernel);
        kernel.map_err(|_| format!("unknown transport '{name}': use homa, tcp or udp"))
    }
}

impl std::fmt::Display for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Homa => f.write_str("homa"),
            Self::Kernel(transport) => transport.fmt(f),
        }
    }
}

/// Who gets which part of a load; nobody in particular if all get the same.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shares(pub(crate) Vec<(Transport, f64)>);

impl FromStr for Shares {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "equal" {
            return Ok(Self(vec![]));
        }
        let mut shares: Vec<(Transport, f64)> = vec![];
        for part in text.split(',') {
            let (name, number) = part
                .split_once('=')
                .ok_or_else(|| format!("'{part}' is not TRANSPORT=PART, such as homa=70"))?;
            let transport = name.parse()?;
            let share = positive(number)?;
            if shares.iter().any(|other| other.0 == transport) {
                return Err(format!("{name} stands there twice"));
            }
            shares.push((transport, share));
        }
        if shares.len() < 2 {
            return Err("name two transports at least, such as homa=70,tcp=30".to_owned());
        }
        Ok(Self(shares))
    }
}

impl Shares {
    /// The part that each gets, from 0 to 1; `all` alike if nobody was named.
    pub(crate) fn parts(&self, all: &[Transport]) -> Vec<(Transport, f64)> {
        let named = match self.0.is_empty() {
            true => all.iter().map(|&transport| (transport, 1.0)).collect(),
            false => self.0.clone(),
        };
        let sum: f64 = named.iter().map(|share| share.1).sum();
        named.into_iter().map(|(transport, share)| (transport, share / sum)).collect()
    }
}

#[derive(Args, Clone, Debug)]
pub(crate) struct CompareTransportsArgs {
    /// Rounds; in each, every load runs once over every transport, in changing order
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = whole::<u32>(1..=10_000))]
    pub(crate) rounds: u32,
    /// Seconds that each run measures, after 0.2 s of warm-up
    #[arg(long, value_name = "S", default_value_t = 1.0, value_parser = run_seconds)]
    pub(crate) seconds: f64,
    /// The loads: echo (100 B, one at a time), and what --workload takes
    #[arg(
        long,
        value_name = "LOADS",
        value_delimiter = ',',
        default_value = "echo,w1,w2,w3,w4,w5"
    )]
    pub(crate) only: Vec<String>,
    /// Closed loop: RPCs outstanding of all loads but echo
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = whole::<u32>(1..=60_000))]
    pub(crate) outstanding: u32,
    /// Run all loads but echo as an open loop as well, with this much payload per second in Gbps
    #[arg(long, value_name = "GBPS", value_parser = positive)]
    pub(crate) gbps: Option<f64>,
    /// Which transports: homa, tcp, udp
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "homa,tcp,udp")]
    pub(crate) transports: Vec<Transport>,
    /// Run the transports at the same time as well, each with its share of the load: homa=70,tcp=30;
    /// alone, all of --transports alike
    #[arg(long, value_name = "SHARES", num_args = 0..=1, default_missing_value = "equal")]
    pub(crate) at_once: Option<Shares>,
    /// What lies between the two processes: memif for Homa and loopback for the kernel, or one virtual
    /// cable for all (as root)
    #[arg(long, value_enum, default_value_t = Wire::Memif)]
    pub(crate) wire: Wire,
    /// tcp, udp: how to wait, spin or epoll
    #[arg(long, value_name = "HOW", default_value = "spin")]
    pub(crate) poll: Poll,
    #[command(flatten)]
    pub(crate) connections: ConnectionArgs,
    /// Silence after which an RPC of Homa or UDP is given up
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = rpc_timeout)]
    pub(crate) timeout: Nanos,
    /// Bytes of an IP packet of Homa, of a datagram over UDP, and on the cable of --wire veth; loopback
    /// keeps its own
    #[arg(long, value_name = "BYTES", default_value_t = 1500,
          value_parser = whole::<u16>(576..=9600))]
    pub(crate) mtu: u16,
    /// Do without hugepages
    #[arg(long)]
    pub(crate) no_huge: bool,
    /// Write the reports to DIR as JSON, LOAD-TRANSPORT.json, and a page and tables (CSV) of all
    #[arg(long, value_name = "DIR")]
    pub(crate) report: Option<PathBuf>,
    /// Print the results as a table in Markdown
    #[arg(long)]
    pub(crate) markdown: bool,
}
