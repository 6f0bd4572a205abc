//! The command line.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use crate::meeting::Meeting;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use homa::dpdk::DeviceSpec;
use homa::load::apps::{MessageFormat, ResponseKind, Stall};
use homa::load::arrival::Arrival;
use homa::load::baseline::Baseline;
use homa::load::bench::{LARGE_FRAME_BYTES, Metric, SHORT_FRAME_BYTES};
use homa::load::command_line::{LogFormat, whole};
use homa::load::pattern::{Rank, TrafficPattern};
use homa::load::response::ServiceTime;
use homa::load::workload::Workload;
use homa::net::InterfaceAddr;
use homa::node::{HandOffWhen, IdlePolicy};
use homa::time::Nanos;
use homa::wire::HomaPort;

use crate::bench::SideSpec;

mod cluster;
mod transports;
mod values;

pub(crate) use cluster::{AgentArgs, CoordinatorArgs, HostLoadArgs, LoadFlags};
pub(crate) use transports::{CompareTransportsArgs, ConnectionArgs, KernelArgs, Transport};
pub(crate) use values::{Cores, Neighbor, PeerMtu, Server, port_groups};
use values::{
    baseline, count, duration, duration_above_0, metrics_address, percent, ping_seconds, polling,
    port, positive, report_name, rpc_timeout, run_seconds, share, shell, side_spec, whole_count,
    workload,
};

/// Exit codes, at the end of the help.
const EXIT_CODES: &str = "Exit codes:
  0  all went well: every RPC was answered with the right bytes; the server answered (ping);
     nothing is worse in the second report (compare)
  1  RPCs failed, were lost or came back with wrong bytes; no answer (ping); something is worse
     (compare); or what was started failed
  2  wrong arguments, or a file or address in them cannot be used: nothing was started; with ping
     also other trouble";

/// Load generator and benchmark for Homa over DPDK
#[derive(Debug, Parser)]
#[command(name = "homa-load", version, max_term_width = 100, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    /// How to log to standard error; RUST_LOG says what
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) log_format: LogFormat,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Answer requests until SIGINT or SIGTERM
    Server(ServerArgs),
    /// Send requests to servers and report
    Client(Box<ClientArgs>),
    /// Send one RPC a second to a server and show what becomes of it, like ping(8)
    Ping(PingArgs),
    /// Be a host of a cluster: answer and send what a coordinator says
    Agent(Box<AgentArgs>),
    /// Run one load on the hosts of a cluster, and report
    Coordinator(Box<CoordinatorArgs>),
    /// Run server and client as two processes on two cores over memif, and report
    Local(Box<LocalArgs>),
    /// Measure RPCs of each size one at a time, to compare the latency of later runs with
    Baseline(BaselineArgs),
    /// Measure Homa against raw frames over memif between two processes on two cores
    Bench(BenchArgs),
    /// Run the same loads over Homa and the kernel's TCP and UDP on the same two cores, in turns
    CompareTransports(CompareTransportsArgs),
    /// Draw the reports of a directory as one page, side by side
    Report(ReportArgs),
    /// Compare a report with another: what differs by more than noise
    Compare(CompareArgs),
    /// Print the script by which a shell completes this program's arguments
    Completions(CompletionsArgs),
    /// Print the manual page of this program or of a subcommand, for man -l -
    Man(ManArgs),
    /// One process of a benchmark, started by another homa-load
    #[command(hide = true)]
    BenchSide(BenchSideArgs),
}

#[derive(Args, Clone, Debug)]
pub(crate) struct NodeArgs {
    /// The port: memif:PATH,role=server|client  tap:NAME  af_packet:IF  af_xdp:IF  pci:ADDRESS
    /// ring  null  pcap:...
    #[arg(long, value_name = "PORT", env = "HOMA_LOAD_DEVICE")]
    pub(crate) device: Option<DeviceSpec>,
    /// Our address and the length of the network's prefix, such as 10.0.0.1/24 or fd00::1/64, which
    /// are also the lengths if none is given; repeatable: one of IPv4, several of IPv6
    #[arg(long = "ip", value_name = "ADDR/LEN", value_delimiter = ',', env = "HOMA_LOAD_IP")]
    pub(crate) addresses: Vec<InterfaceAddr>,
    /// Router to other networks; one for each family of addresses
    #[arg(long = "gateway", value_name = "ADDR")]
    pub(crate) gateways: Vec<IpAddr>,
    /// 802.1Q VLAN of all frames, 1 to 4094
    #[arg(long, value_name = "ID", value_parser = whole::<u16>(1..=4094))]
    pub(crate) vlan: Option<u16>,
    /// Copy the priority of each packet into its VLAN tag
    #[arg(long, requires = "vlan")]
    pub(crate) vlan_pcp: bool,
    /// Send Homa inside marked TCP, as Linux does with hijack_tcp; it is always accepted
    #[arg(long)]
    pub(crate) marked_tcp: bool,
    /// The same to this host alone; repeatable
    #[arg(long = "marked-tcp-peer", value_name = "ADDR")]
    pub(crate) marked_tcp_peers: Vec<IpAddr>,
    /// A host to which only IP packets of this size get; repeatable
    #[arg(long = "peer-mtu", value_name = "ADDR=BYTES")]
    pub(crate) peer_mtus: Vec<PeerMtu>,
    /// A host that need not be asked for its hardware address; repeatable
    #[arg(long = "neighbor", value_name = "ADDR=MAC")]
    pub(crate) neighbors: Vec<Neighbor>,
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
}

impl NodeArgs {
    /// The port as it was written, for reports.
    pub(crate) fn device_text(&self) -> String {
        self.device.as_ref().map(ToString::to_string).unwrap_or_default()
    }
}

#[derive(Args, Clone, Debug)]
pub(crate) struct MachineArgs {
    /// Bytes of an IP packet
    #[arg(long, value_name = "BYTES", default_value_t = 1500,
          value_parser = whole::<u16>(576..=9600))]
    pub(crate) mtu: u16,
    /// Speed of the link in Gbps, to pace by; without it hardware is asked and software ports are not
    /// paced
    #[arg(long, value_name = "GBPS", value_parser = positive)]
    pub(crate) link_gbps: Option<f64>,
    /// CPUs to run on, such as 2 or 1-4,6: one shard on each; the first allowed one by default
    #[arg(long, visible_alias = "cpu", value_name = "CPUS", env = "HOMA_LOAD_CORES")]
    pub(crate) cores: Option<Cores>,
    /// With several shards: pass every received packet on to another one first, to test the way
    #[arg(long, hide = true)]
    pub(crate) detour: bool,
    /// With several shards: hand complete requests to other ones while packets wait (busy), or in turns
    /// (always)
    #[arg(long, value_name = "WHEN")]
    pub(crate) hand_off: Option<HandOffWhen>,
    /// When there is nothing to do: auto, spin, pause, yield or sleep
    #[arg(long, value_name = "HOW", default_value = "auto", env = "HOMA_LOAD_IDLE")]
    pub(crate) idle: IdlePolicy,
    /// Use hugepages or fail
    #[arg(long, conflicts_with = "no_huge")]
    pub(crate) huge: bool,
    /// Do without hugepages
    #[arg(long)]
    pub(crate) no_huge: bool,
    /// Memory for packet buffers in MB; 256 by default, more with a large MTU
    #[arg(long, value_name = "MB", value_parser = whole::<u32>(64..=1_048_576))]
    pub(crate) memory_mb: Option<u32>,
    /// Packets that wait at most until the addresses of their destinations are known
    #[arg(long, value_name = "N", default_value_t = 4_096,
          value_parser = whole::<u32>(1..=65_536))]
    pub(crate) unresolved_packets: u32,
    /// Silence after which an RPC is given up; the other side must run within this time
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = rpc_timeout,
          env = "HOMA_LOAD_TIMEOUT")]
    pub(crate) timeout: Nanos,
    /// Drop this percentage of received packets, to see the protocol recover
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, allow_negative_numbers = true,
          value_parser = percent)]
    pub(crate) drop_percent: f64,
    /// Record all frames in FILE as pcapng, for Wireshark
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
    /// Bytes of each frame that are recorded; 138 hold the headers of all, 0 records all
    #[arg(long, value_name = "BYTES", default_value_t = 0, requires = "trace",
          value_parser = whole::<u16>(0..=u16::MAX))]
    pub(crate) trace_bytes: u16,
    /// Give counters to Prometheus at http://ADDR:PORT/metrics
    #[arg(long, value_name = "ADDR:PORT", value_parser = metrics_address)]
    pub(crate) metrics: Option<SocketAddr>,
    /// Answer DPDK's telemetry (dpdk-telemetry.py), with the command /homa/stats
    #[arg(long)]
    pub(crate) telemetry: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ServerArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    /// Homa port of echoes; short responses are on the next one, those of --response on the one after
    #[arg(long, value_name = "PORT", default_value = "4000", value_parser = port)]
    pub(crate) port: HomaPort,
    #[command(flatten)]
    pub(crate) kernel: KernelArgs,
    /// Answer on this many groups of three such ports, one after the other
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = whole::<u16>(1..=1_000))]
    pub(crate) ports: u16,
    /// Sizes of responses for clients with the same --response: what --workload takes
    #[arg(long, value_name = "SIZES")]
    pub(crate) response: Option<ResponseKind>,
    /// Answer only after this time: 10us, or exp:10us for exponentially distributed times
    #[arg(long, value_name = "TIME", default_value = "0us")]
    pub(crate) service_time: ServiceTime,
    /// homa-load, or cp_node: answer the clients of Linux Homa's cp_node
    #[arg(long, value_name = "NAME", default_value = "homa-load")]
    pub(crate) protocol: MessageFormat,
    /// cp_node: print lines as cp_node does, once a second
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<OutputFormat>,
    /// Name in these lines
    #[arg(long, value_name = "NAME", default_value = "homa")]
    pub(crate) exp: String,
    /// Do nothing for a while, once: AFTER the first request, for LENGTH
    #[arg(long, hide = true, value_name = "AFTER+LENGTH")]
    pub(crate) stall: Option<StallArg>,
    /// Do not check requests, do not fill responses
    #[arg(long)]
    pub(crate) no_verify: bool,
    /// Write what was served to FILE as JSON at the end
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Started by another homa-load: end when standard input does
    #[arg(long, hide = true)]
    pub(crate) child: bool,
    /// Write where the server is to FILE when it can be reached; with tcp or udp take any free port
    #[arg(long, hide = true, value_name = "FILE")]
    pub(crate) ready: Option<PathBuf>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct LoadArgs {
    /// Message sizes: w1 to w5, another built-in name, a size such as 100 or 32KB, a CDF file, or a
    /// mixture such as w2:0.8,1MB:0.2
    #[arg(long, value_name = "SIZES", default_value = "w4", value_parser = workload)]
    pub(crate) workload: Workload,
    /// Closed loop: this many RPCs outstanding at all times (the default, with 8)
    #[arg(long, value_name = "N", group = "rate", value_parser = whole::<u32>(1..=60_000))]
    pub(crate) outstanding: Option<u32>,
    /// Open loop: requests arrive whether others were answered or not, with this much payload per second
    /// in Gbps
    #[arg(long, value_name = "GBPS", group = "rate", allow_negative_numbers = true, value_parser = positive)]
    pub(crate) gbps: Option<f64>,
    /// Open loop: requests that take this much of the wire in Gbps, with headers and gaps between frames
    #[arg(long, value_name = "GBPS", group = "rate", allow_negative_numbers = true, value_parser = positive)]
    pub(crate) wire_gbps: Option<f64>,
    /// Open loop: this many requests per second
    #[arg(long, value_name = "RATE", group = "rate", allow_negative_numbers = true, value_parser = count)]
    pub(crate) rps: Option<f64>,
    /// Open loop: how requests are spread over time: poisson, uniform (gaps from 0 to twice the mean),
    /// constant (equal gaps), burst:N (N at once, at random)
    #[arg(long, value_name = "HOW", default_value = "poisson")]
    pub(crate) arrival: Arrival,
    /// Open loop: RPCs outstanding at most; what is due beyond that waits, and its clock runs
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = whole::<u32>(1..=60_000))]
    pub(crate) outstanding_max: u32,
    /// echo: the response is as long as the request; short: 100 bytes; else sizes as for --workload,
    /// which the server must be given too
    #[arg(long, value_name = "KIND", default_value = "echo")]
    pub(crate) response: ResponseKind,
    /// Look for the highest load that is carried: double it, then halve the distance, in steps of
    /// --duration, beginning with --rps, --gbps or --wire-gbps
    #[arg(long, conflicts_with_all = ["outstanding", "count"])]
    pub(crate) find_max: bool,
    /// How close to the highest load to come, as a share of it
    #[arg(long, value_name = "SHARE", default_value_t = 0.05, value_parser = share)]
    pub(crate) find_precision: f64,
    /// Say what rates to expect, and send nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Times of the idle system for slowdown, as homa-load baseline wrote them
    #[arg(long, value_name = "FILE", value_parser = baseline)]
    pub(crate) baseline: Option<BaselineFile>,
    /// What slowdown is shown relative to; the report has all that are known. By default idle with
    /// --baseline, else least
    #[arg(long, value_enum, value_name = "NAME")]
    pub(crate) slowdown: Option<SlowdownName>,
    /// The best time of any RPC that the definition cperf adds to the time on the link
    #[arg(long, value_name = "TIME", default_value = "15us", value_parser = duration)]
    pub(crate) fixed_rtt: Nanos,
    /// Measure for this long
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration_above_0)]
    pub(crate) duration: Nanos,
    /// Measure this many RPCs, however long it takes
    #[arg(long, value_name = "N", conflicts_with = "duration", value_parser = whole_count)]
    pub(crate) count: Option<u64>,
    /// Time before measuring begins
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = duration)]
    pub(crate) warm_up: Nanos,
    /// Do not fill requests, do not check responses
    #[arg(long)]
    pub(crate) no_verify: bool,
    /// Seed of sizes and arrival times
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = whole::<u64>(0..=u64::MAX))]
    pub(crate) seed: u64,
    #[command(flatten)]
    pub(crate) out: OutArgs,
}

/// What is shown while a run goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LiveArg {
    /// A line that is written over each second; off a terminal, a line each second
    Line,
    /// Rates, latency, queue, losses and cores on the whole terminal
    Dashboard,
    /// Nothing
    Off,
}

/// Where the report goes, besides the terminal.
#[derive(Args, Clone, Debug)]
pub(crate) struct OutArgs {
    /// Write the report to FILE as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write the report to DIR as JSON, and a page and tables (CSV) of all reports that are there
    #[arg(long, value_name = "DIR", conflicts_with = "find_max")]
    pub(crate) report: Option<PathBuf>,
    /// What to show while the run goes on: line, dashboard or off; by default the dashboard on a
    /// terminal, and nothing elsewhere
    #[arg(long, value_enum, value_name = "HOW")]
    pub(crate) live: Option<LiveArg>,
    /// What the report is called beside others in DIR; by default the name of the transport, homa
    #[arg(long, value_name = "NAME", requires = "report", value_parser = report_name)]
    pub(crate) name: Option<String>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ReportArgs {
    /// The directory; its files NAME.json are reports
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Title of the page
    #[arg(long, value_name = "TEXT")]
    pub(crate) title: Option<String>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct CompletionsArgs {
    /// bash, zsh or fish
    #[arg(value_name = "SHELL", value_parser = shell)]
    pub(crate) shell: Shell,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ManArgs {
    /// The subcommand
    #[arg(value_name = "SUBCOMMAND")]
    pub(crate) subcommand: Option<String>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct CompareArgs {
    /// The report to compare with
    #[arg(value_name = "A.json")]
    pub(crate) first: PathBuf,
    /// The report that is compared
    #[arg(value_name = "B.json")]
    pub(crate) second: PathBuf,
    /// Differences below this percentage do not count, however certain
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0, value_parser = percent)]
    pub(crate) least: f64,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ClientArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    /// A server, ADDR or ADDR:PORT (an IPv6 address before a port in brackets); repeatable
    #[arg(long = "server", value_name = "ADDR[:PORT]", required = true)]
    pub(crate) servers: Vec<Server>,
    #[command(flatten)]
    pub(crate) kernel: KernelArgs,
    #[command(flatten)]
    pub(crate) connections: ConnectionArgs,
    /// Spread the load over this many groups of ports at each server
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = whole::<u16>(1..=1_000))]
    pub(crate) ports: u16,
    /// Who sends to whom among the hosts of all --server: all-to-all, incast:N, outcast:N,
    /// permutation:SEED
    #[arg(long, value_name = "PATTERN", requires = "rank")]
    pub(crate) pattern: Option<TrafficPattern>,
    /// Which of the hosts this is, and how many there are: the first of four is 0/4
    #[arg(long, value_name = "I/N", requires = "pattern")]
    pub(crate) rank: Option<Rank>,
    /// homa-load, or cp_node: ask servers of Linux Homa's cp_node
    #[arg(long, value_name = "NAME", default_value = "homa-load")]
    pub(crate) protocol: MessageFormat,
    /// cp_node: print lines as cp_node does, once a second, instead of a report
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<OutputFormat>,
    /// Name in these lines; by default homa_ and the name of the workload
    #[arg(long, value_name = "NAME")]
    pub(crate) exp: Option<String>,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct PingArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    /// The server, ADDR or ADDR:PORT
    #[arg(value_name = "HOST")]
    pub(crate) server: Server,
    /// Stop after this many RPCs
    #[arg(short, value_name = "COUNT", value_parser = whole::<u64>(1..=u64::MAX))]
    pub(crate) count: Option<u64>,
    /// Seconds between RPCs
    #[arg(short, value_name = "SECONDS", default_value_t = 1.0, value_parser = ping_seconds)]
    pub(crate) interval: f64,
    /// Bytes of a request
    #[arg(short, value_name = "BYTES", default_value_t = 100,
          value_parser = whole::<u32>(1..=1_000_000))]
    pub(crate) size: u32,
    /// Seconds to wait for an answer; takes the place of --timeout
    #[arg(short = 'W', value_name = "SECONDS", default_value_t = 1.0, value_parser = ping_seconds)]
    pub(crate) wait: f64,
    /// homa-load, or cp_node: ask a server of Linux Homa's cp_node
    #[arg(long, value_name = "NAME", default_value = "homa-load")]
    pub(crate) protocol: MessageFormat,
}

// What is missing is told, as elsewhere, and not the help.
#[derive(Args, Clone, Debug)]
#[command(arg_required_else_help = false)]
pub(crate) struct BaselineArgs {
    /// Write the times to FILE as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// RPCs of each size
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = whole::<u64>(1..=1_000_000))]
    pub(crate) samples: u64,
    #[command(subcommand)]
    pub(crate) over: BaselineOver,
}

/// What a baseline is measured over. Sizes are those of --workload; other options of loads are not
/// used.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum BaselineOver {
    /// Two processes on two cores over memif, as in homa-load local
    Local(Box<LocalArgs>),
    /// This host and a server, as in homa-load client
    Client(Box<ClientArgs>),
}

/// What slowdown is relative to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SlowdownName {
    /// The median time of that size when idle (Linux Homa, ATC 2021)
    Idle,
    /// The shortest time of that size when idle (RAMCloud)
    IdleMin,
    /// A fixed time and that of the request on the link (cperf of Linux Homa since November 2025)
    Cperf,
    /// The computed time of both messages in an idle network (simulations of the Homa paper)
    Paper,
    /// The shortest time of the size class in this run
    Least,
}

impl SlowdownName {
    /// As the library calls it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::IdleMin => "idle-min",
            Self::Cperf => "cperf",
            Self::Paper => "paper",
            Self::Least => "least",
        }
    }
}

/// A baseline that was read from a file.
#[derive(Clone, Debug)]
pub(crate) struct BaselineFile(pub(crate) Baseline);

/// A pause of the server: `AFTER+LENGTH`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StallArg(pub(crate) Stall);

impl FromStr for StallArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (after, length) =
            text.split_once('+').ok_or("write it as AFTER+LENGTH, such as 2s+100ms")?;
        Ok(Self(Stall { after: duration(after)?, length: duration(length)? }))
    }
}

impl std::fmt::Display for StallArg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}ns+{}ns", self.0.after.0, self.0.length.0)
    }
}

/// Whose output to imitate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// The load generator that comes with Linux Homa
    #[value(name = "cp_node")]
    CpNode,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct LocalArgs {
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
    /// Let the server wait before it answers: 10us, or exp:10us for exponentially distributed times
    #[arg(long, value_name = "TIME", default_value = "0us")]
    pub(crate) service_time: ServiceTime,
    /// Let the server do nothing for a while, once: AFTER the first request, for LENGTH
    #[arg(long, hide = true, value_name = "AFTER+LENGTH")]
    pub(crate) stall: Option<StallArg>,
    /// What lies between the two processes
    #[arg(long, value_enum, default_value_t = Wire::Memif)]
    pub(crate) wire: Wire,
    /// We are in the namespace at one end of the cable; the server belongs into this one
    #[arg(long, hide = true, value_name = "NAMESPACE")]
    pub(crate) server_namespace: Option<String>,
    /// Start at the same time as others: COUNT processes that name this directory
    #[arg(long, hide = true, value_name = "COUNT:DIR")]
    pub(crate) meet: Option<Meeting>,
    #[command(flatten)]
    pub(crate) kernel: KernelArgs,
    #[command(flatten)]
    pub(crate) connections: ConnectionArgs,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct BenchArgs {
    /// Rounds; in each, every figure is measured once, raw and Homa in turn
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = whole::<u32>(1..=10_000))]
    pub(crate) rounds: u32,
    /// Seconds that each run measures, after 0.1 s of warm-up
    #[arg(long, value_name = "S", default_value_t = 1.0, value_parser = run_seconds)]
    pub(crate) seconds: f64,
    /// Measure these figures only: rtt, rate8, rate32, large32k, large1m
    #[arg(long, value_name = "FIGURES", value_delimiter = ',')]
    pub(crate) only: Vec<Metric>,
    /// Bytes of the raw frames that are echoed; by default those of the frame of a 100-byte message
    #[arg(long, value_name = "BYTES", default_value_t = SHORT_FRAME_BYTES,
          value_parser = whole::<u16>(60..=1514))]
    pub(crate) raw_frame: u16,
    /// Bytes of the raw frames that are sent one way
    #[arg(long, value_name = "BYTES", default_value_t = LARGE_FRAME_BYTES,
          value_parser = whole::<u16>(60..=1514))]
    pub(crate) raw_large_frame: u16,
    /// Where the bytes of large requests come from
    #[arg(long, value_enum, default_value_t = LargeSource::Attach)]
    pub(crate) large: LargeSource,
    /// Do not measure the kernel's TCP beside the round trip
    #[arg(long)]
    pub(crate) no_tcp: bool,
    /// When there is nothing to do: spin, pause or yield, Homa and raw alike
    #[arg(long, value_name = "HOW", default_value = "spin", value_parser = polling)]
    pub(crate) idle: IdlePolicy,
    /// Use hugepages or fail; by default they are used if enough are free for both processes
    #[arg(long, conflicts_with = "no_huge")]
    pub(crate) huge: bool,
    /// Do without hugepages
    #[arg(long)]
    pub(crate) no_huge: bool,
    /// Memory for packet buffers in MB, of each process
    #[arg(long, value_name = "MB", default_value_t = 256,
          value_parser = whole::<u32>(192..=1_048_576))]
    pub(crate) memory_mb: u32,
    /// Write the report and all windows to FILE as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Print the results as tables in Markdown
    #[arg(long)]
    pub(crate) markdown: bool,
}

/// Where the bytes of large requests come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LargeSource {
    /// Memory of the application, attached to the message and copied packet by packet as it is sent
    Attach,
    /// Copied into packet buffers for each request
    Copy,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct BenchSideArgs {
    /// What to do, as JSON
    #[arg(value_name = "SPEC", value_parser = side_spec)]
    pub(crate) spec: SideSpec,
}

/// What connects the two processes of `homa-load local`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Wire {
    /// Shared memory; for the kernel's transports loopback
    Memif,
    /// A virtual cable between two network namespaces that are made for it, as root
    Veth,
}
