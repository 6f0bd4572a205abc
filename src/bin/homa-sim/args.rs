//! The command line.

use std::ops::Range;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use homa::load::command_line::{LogFormat, whole};
use homa::load::pattern::TrafficPattern;
use homa::load::quantity::{Rate, parse_duration, parse_size};
use homa::load::report::check_name;
use homa::load::response::ResponseKind;
use homa::load::workload::Workload;
use homa::sim::{Framing, PaperLoad};

/// Exit codes, at the end of the help.
const EXIT_CODES: &str = "Exit codes:
  0  all went well
  1  a run broke a rule (fuzz)
  2  wrong arguments or files
  3  worse than the published curves beyond tolerance (compare), or RPCs failed (incast)";

/// A deterministic cluster that runs the Homa of this library.
#[derive(Debug, Parser)]
#[command(name = "homa-sim", version, max_term_width = 100, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    /// How to log to standard error; RUST_LOG says what
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) log_format: LogFormat,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Simulate one workload and print slowdowns by message size
    Run(Box<RunArgs>),
    /// Run workloads in the set-up of the Homa paper and print them beside its published curves
    Compare(CompareArgs),
    /// Send many responses to one host at once, with and without incast control
    Incast(IncastArgs),
    /// Change one setting after the other and print what it is worth
    Ablate(AblateArgs),
    /// Draw what is in a folder of results: one HTML page, and each chart as SVG and PNG
    Report(ReportArgs),
    /// Measure how fast the simulator is
    Bench(BenchArgs),
    /// Search for faults: random clusters, loads, settings and failures, with rules that must hold
    Fuzz(FuzzArgs),
    /// Print the script by which a shell completes this program's arguments
    Completions {
        /// bash, zsh or fish
        #[arg(value_name = "SHELL", value_parser = shell)]
        shell: Shell,
    },
    /// Print the manual page of this program or of a subcommand, for man -l -
    Man {
        /// The subcommand
        #[arg(value_name = "SUBCOMMAND")]
        subcommand: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// w1 to w5, another name, a size, or a file of size_bytes,cdf
    #[arg(long, default_value = "w4")]
    pub(crate) workload: Workload,
    /// Cut longer messages to this size, as homa-load does at 1MB
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) cut: Option<u32>,
    /// Share of the host links that the load takes, with headers and grants as the paper counts them
    #[arg(long, default_value_t = 0.8, group = "rate", value_parser = share)]
    pub(crate) load: f64,
    /// Load of each host that sends as payload of its requests, in Gbps
    #[arg(long, value_name = "GBPS", group = "rate", value_parser = positive)]
    pub(crate) gbps: Option<f64>,
    /// Load of each host that sends, in requests per second
    #[arg(long, value_name = "RATE", group = "rate", value_parser = count)]
    pub(crate) rps: Option<f64>,
    /// Who sends to whom: all-to-all, incast:N, outcast:N, permutation
    #[arg(long, value_name = "PATTERN", default_value = "all-to-all")]
    pub(crate) pattern: TrafficPattern,
    /// Answer requests: echo, short (100 bytes), or sizes as for --workload; without it the set-up of
    /// the paper sends one way
    #[arg(long, value_name = "KIND")]
    pub(crate) response: Option<ResponseKind>,
    /// Settings of the cluster as TOML; what is not in it is as without a file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Write a report as homa-load's to FILE as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write a report as homa-load's to DIR, and a page and tables of all reports that are there
    #[arg(long, value_name = "DIR")]
    pub(crate) report: Option<PathBuf>,
    /// What the report is called beside others in DIR
    #[arg(long, value_name = "NAME", default_value = "sim", requires = "report", value_parser = report_name)]
    pub(crate) name: String,
    /// Print the settings as TOML instead of running
    #[arg(long)]
    pub(crate) print_config: bool,
    #[command(flatten)]
    pub(crate) preset: PresetArgs,
    /// Write the table, as CSV, to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) csv: Option<PathBuf>,
    /// Keep the results in this folder, for report
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// w1 to w5, or all
    #[arg(long, default_value = "all")]
    pub(crate) workload: String,
    /// The load of the curves
    #[arg(long, value_enum, default_value = "0.8")]
    pub(crate) load: LoadArg,
    #[command(flatten)]
    pub(crate) preset: PresetArgs,
    /// Runs with different seeds, put together
    #[arg(long, default_value_t = 1, value_parser = at_least_one)]
    pub(crate) runs: u64,
    /// Runs at the same time; 0 for as many as there are CPUs
    #[arg(long, short, default_value_t = 0, value_parser = whole(0..=1_024_usize))]
    pub(crate) jobs: usize,
    /// Write the tables, as CSV, to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) csv: Option<PathBuf>,
    /// Keep the results in this folder, for report
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct IncastArgs {
    /// Numbers of RPCs at once
    #[arg(long, value_delimiter = ',', default_values_t = [1, 15, 50, 100, 200, 500, 1_000, 2_000, 5_000], value_parser = whole(1..=u32::MAX))]
    pub(crate) rpcs: Vec<u32>,
    /// Bytes of a request
    #[arg(long, default_value_t = 100, value_parser = whole(1..=u32::MAX))]
    pub(crate) request: u32,
    /// Bytes of a response
    #[arg(long, default_value_t = 10_000, value_parser = whole(1..=u32::MAX))]
    pub(crate) response: u32,
    /// Bytes that may wait at each port of the switch
    #[arg(long, value_name = "SIZE", default_value = "1MB", value_parser = size)]
    pub(crate) buffer: u32,
    /// How often, one after the other
    #[arg(long, default_value_t = 3, value_parser = whole(1..=u32::MAX))]
    pub(crate) rounds: u32,
    /// Settings of the cluster as TOML; without it 16 hosts at one switch, 25 Gbps
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Change a setting, as in homa.incast_rpcs_min=50
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) set: Vec<String>,
    /// Decides everything random
    #[arg(long, default_value_t = 1, value_parser = whole(0..=u64::MAX))]
    pub(crate) seed: u64,
    /// Runs at the same time; 0 for as many as there are CPUs
    #[arg(long, short, default_value_t = 0, value_parser = whole(0..=1_024_usize))]
    pub(crate) jobs: usize,
    /// Keep the results in this folder, for report
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct AblateArgs {
    /// Workloads, separated by commas
    #[arg(long, value_delimiter = ',', default_value = "w2,w3,w4,w5")]
    pub(crate) workload: Vec<Workload>,
    /// Share of the host links that requests and responses take
    #[arg(long, default_value_t = 0.8, value_parser = share)]
    pub(crate) load: f64,
    /// Simulated time that is measured
    #[arg(long, value_name = "TIME", value_parser = duration_ns, default_value = "20ms")]
    pub(crate) time: u64,
    /// Settings of the cluster as TOML; without it 32 hosts in 4 racks, 25 Gbps, 1 MB per switch
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Change a setting for all runs
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) set: Vec<String>,
    /// Runs of each variant with different seeds
    #[arg(long, default_value_t = 1, value_parser = at_least_one)]
    pub(crate) runs: u64,
    /// Decides everything random
    #[arg(long, default_value_t = 1, value_parser = whole(0..=u64::MAX))]
    pub(crate) seed: u64,
    /// Runs at the same time; 0 for as many as there are CPUs
    #[arg(long, short, default_value_t = 0, value_parser = whole(0..=1_024_usize))]
    pub(crate) jobs: usize,
    /// Keep the results in this folder, for report
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// The folder
    pub(crate) dir: PathBuf,
    /// Title of the page
    #[arg(long, default_value = "Homa in a simulated cluster")]
    pub(crate) title: String,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// w1 to w5, another name, a size, or a file of size_bytes,cdf
    #[arg(long, default_value = "w3")]
    pub(crate) workload: Workload,
    /// Share of the host links that the load takes
    #[arg(long, default_value_t = 0.8, value_parser = share)]
    pub(crate) load: f64,
    #[command(flatten)]
    pub(crate) preset: PresetArgs,
}

#[derive(Debug, Args)]
pub(crate) struct FuzzArgs {
    /// Runs to do, one per seed: from A up to but not including B
    #[arg(long, value_name = "A..B", value_parser = seed_range, default_value = "0..1000")]
    pub(crate) seeds: Range<u64>,
    /// Do this run alone and print what it does
    #[arg(long, value_name = "N", conflicts_with = "seeds", value_parser = whole(0..=u64::MAX))]
    pub(crate) seed: Option<u64>,
    /// Runs at the same time; 0 for as many as there are CPUs
    #[arg(long, short, default_value_t = 1, value_parser = whole(0..=1_024_usize))]
    pub(crate) jobs: usize,
    /// Look for a smaller run that breaks the same rule
    #[arg(long, requires = "seed")]
    pub(crate) shrink: bool,
    /// Write every packet and event of the run, after --shrink of the smaller one, to this file
    #[arg(long, value_name = "FILE", requires = "seed")]
    pub(crate) trace: Option<PathBuf>,
    /// Stop after this many runs that break a rule
    #[arg(long, default_value_t = 10, value_parser = at_least_one)]
    pub(crate) failures_max: u64,
}

/// The set-up of the Homa paper, and what can be changed in it.
#[derive(Clone, Debug, Args)]
pub(crate) struct PresetArgs {
    /// Simulated time that is measured; a tenth of it comes before as warm-up [default: 10 ms, and
    /// for compare what suits the workload]
    #[arg(long, value_name = "TIME", value_parser = duration_ns)]
    pub(crate) time: Option<u64>,
    /// Decides everything random
    #[arg(long, default_value_t = 1, value_parser = whole(0..=u64::MAX))]
    pub(crate) seed: u64,
    /// Sizes of headers
    #[arg(long, value_enum, default_value = "paper")]
    pub(crate) headers: HeadersArg,
    /// Change a setting, as in homa.overcommit_max=4; see run --print-config
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) set: Vec<String>,
    /// Shards of each host
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = whole(1..=64_u32))]
    pub(crate) shards: u32,
    /// Use ideal times within a rack that include the switch, unlike the published ones
    #[arg(long)]
    pub(crate) no_slip: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum HeadersArg {
    /// Those of the simulations of the paper
    Paper,
    /// Those of this library, which are those of Linux Homa
    Linux,
}

impl HeadersArg {
    pub(crate) fn framing(self) -> Framing {
        match self {
            Self::Paper => Framing::Paper,
            Self::Linux => Framing::Linux,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LoadArg {
    #[value(name = "0.5")]
    Half,
    #[value(name = "0.8")]
    Eighty,
}

impl LoadArg {
    pub(crate) fn paper(self) -> PaperLoad {
        match self {
            Self::Half => PaperLoad::Half,
            Self::Eighty => PaperLoad::Eighty,
        }
    }
}

fn size(text: &str) -> Result<u32, String> {
    let bytes = parse_size(text).map_err(|error| error.to_string())?;
    u32::try_from(bytes).map_err(|_| format!("{bytes} bytes are too many"))
}

/// A share of a link. More than a link carries has no steady state to measure.
fn share(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|value: &f64| *value > 0.0 && *value <= 1.0);
    value.ok_or_else(|| "must be a share of the link, above 0 and up to 1, as in 0.8".to_owned())
}

fn at_least_one(text: &str) -> Result<u64, String> {
    let value = text.parse().ok().filter(|value: &u64| *value > 0);
    value.ok_or_else(|| "a whole number from 1 on is needed".to_owned())
}

fn positive(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|value: &f64| value.is_finite() && *value > 0.0);
    value.ok_or_else(|| "a number above 0 is needed".to_owned())
}

fn count(text: &str) -> Result<f64, String> {
    match text.parse::<Rate>() {
        Ok(Rate::Rps(rps)) => Ok(rps),
        _ => positive(text),
    }
}

fn report_name(text: &str) -> Result<String, String> {
    check_name(text).map(|()| text.to_owned()).map_err(|error| error.to_string())
}

fn shell(text: &str) -> Result<Shell, String> {
    match text.parse() {
        Ok(shell @ (Shell::Bash | Shell::Zsh | Shell::Fish)) => Ok(shell),
        _ => Err(format!("'{text}' is not one of bash, zsh and fish")),
    }
}

fn duration_ns(text: &str) -> Result<u64, String> {
    parse_duration(text).map(|duration| duration.0).map_err(|error| error.to_string())
}

fn seed_range(text: &str) -> Result<Range<u64>, String> {
    let bad = || format!("`{text}` is not a range of seeds: write it as 0..1000");
    let (first, end) = text.split_once("..").ok_or_else(bad)?;
    let number = |text: &str| text.trim().parse::<u64>().map_err(|_| bad());
    let range = number(first)?..number(end)?;
    if range.is_empty() {
        return Err(format!("`{text}` has no seeds: the end must be above the start"));
    }
    Ok(range)
}
