//! The command line of agents and coordinators.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser};
use homa::load::pattern::TrafficPattern;
use homa::load::response::ServiceTime;
use homa::time::Nanos;
use homa::wire::HomaPort;

use super::{ConnectionArgs, KernelArgs, LoadArgs, NodeArgs, duration, port, whole};

#[derive(Args, Clone, Debug)]
pub(crate) struct AgentArgs {
    /// Where the coordinator is
    #[arg(long, value_name = "HOST:PORT", env = "HOMA_LOAD_COORDINATOR")]
    pub(crate) coordinator: String,
    /// Name of this host in reports; by default its host name
    #[arg(long, value_name = "NAME", env = "HOMA_LOAD_NAME")]
    pub(crate) name: Option<String>,
    /// Place among the hosts, from 0; by default the coordinator chooses, by name
    #[arg(long, value_name = "N", env = "HOMA_LOAD_RANK")]
    pub(crate) rank: Option<u32>,
    /// Take the device, the address, the cores, the coordinator and other options of this host from
    /// FILE
    #[arg(long, value_name = "FILE", env = "HOMA_LOAD_INVENTORY")]
    pub(crate) inventory: Option<PathBuf>,
    /// How long to try to reach the coordinator
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration,
          env = "HOMA_LOAD_PATIENCE")]
    pub(crate) patience: Nanos,
    /// Homa port of echoes; short responses are on the next one
    #[arg(long, value_name = "PORT", default_value = "4000", value_parser = port)]
    pub(crate) port: HomaPort,
    #[command(flatten)]
    pub(crate) kernel: KernelArgs,
    #[command(flatten)]
    pub(crate) connections: ConnectionArgs,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct CoordinatorArgs {
    /// Where agents connect to
    #[arg(
        long,
        value_name = "ADDR:PORT",
        default_value = "0.0.0.0:7146",
        env = "HOMA_LOAD_LISTEN"
    )]
    pub(crate) listen: SocketAddr,
    /// How many hosts there are
    #[arg(long, value_name = "N", value_parser = whole::<u32>(2..=1024),
          required_unless_present = "inventory", env = "HOMA_LOAD_AGENTS")]
    pub(crate) agents: Option<u32>,
    /// The hosts, by rank
    #[arg(long, value_name = "FILE", conflicts_with = "agents")]
    pub(crate) inventory: Option<PathBuf>,
    /// Who sends to whom: all-to-all, incast:N (N hosts to the first), outcast:N (the first to N hosts),
    /// permutation:SEED (each to one other); without N it is all others
    #[arg(long, value_name = "PATTERN", default_value = "all-to-all")]
    pub(crate) pattern: TrafficPattern,
    /// How long to wait for the agents
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    pub(crate) wait: Nanos,
    /// How long the nodes may take to start, and then to find each other
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    pub(crate) setup: Nanos,
    /// Silence after which an agent is taken for gone
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = silence)]
    pub(crate) silence: Nanos,
    #[command(flatten)]
    pub(crate) hosts: HostLoadArgs,
}

/// What each host is to do: rates and counts are those of one host.
#[derive(Args, Clone, Debug)]
pub(crate) struct HostLoadArgs {
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    /// Let servers wait before they answer: 10us, or exp:10us for exponentially distributed times
    #[arg(long, value_name = "TIME", default_value = "0us")]
    pub(crate) service_time: ServiceTime,
    /// Spread the load over this many groups of ports at each server
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = whole::<u16>(1..=1_000))]
    pub(crate) ports: u16,
}

/// The load as the coordinator passes it on.
#[derive(Debug, Parser)]
pub(crate) struct LoadFlags {
    #[command(flatten)]
    pub(crate) hosts: HostLoadArgs,
}

fn silence(text: &str) -> Result<Nanos, String> {
    // Signs of life are given once a second.
    let silence = duration(text)?;
    if silence < Nanos::from_secs(2) {
        return Err("2s is the least: signs of life come once a second".to_owned());
    }
    Ok(silence)
}
