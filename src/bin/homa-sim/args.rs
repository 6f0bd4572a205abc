//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use homa::load::quantity::parse_duration;
use homa::load::workload::Workload;
use homa::sim::{Framing, PaperLoad};

/// A deterministic cluster that runs the Homa of this library.
#[derive(Debug, Parser)]
#[command(name = "homa-sim", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Simulate one workload and print slowdowns by message size
    Run(RunArgs),
    /// Run workloads in the set-up of the Homa paper and print them beside its published curves
    Compare(CompareArgs),
    /// Measure how fast the simulator is
    Bench(BenchArgs),
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// w1 to w5, another name, a size, or a file of size_bytes,cdf
    #[arg(long, default_value = "w4")]
    pub(crate) workload: Workload,
    /// Share of the host links that the load takes, with headers and grants as the paper counts them
    #[arg(long, default_value_t = 0.8)]
    pub(crate) load: f64,
    /// Settings of the cluster as TOML; what is not in it is as without a file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print the settings as TOML instead of running
    #[arg(long)]
    pub(crate) print_config: bool,
    #[command(flatten)]
    pub(crate) preset: PresetArgs,
    /// Write the table, as CSV, to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) csv: Option<PathBuf>,
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
    #[arg(long, default_value_t = 1)]
    pub(crate) runs: u64,
    /// Runs at the same time
    #[arg(long, short, default_value_t = 1)]
    pub(crate) jobs: usize,
    /// Write the tables, as CSV, to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) csv: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// w1 to w5, another name, a size, or a file of size_bytes,cdf
    #[arg(long, default_value = "w3")]
    pub(crate) workload: Workload,
    /// Share of the host links that the load takes
    #[arg(long, default_value_t = 0.8)]
    pub(crate) load: f64,
    #[command(flatten)]
    pub(crate) preset: PresetArgs,
}

/// The set-up of the Homa paper, and what can be changed in it.
#[derive(Clone, Debug, Args)]
pub(crate) struct PresetArgs {
    /// Simulated time that is measured; a tenth of it comes before as warm-up [default: 10 ms, and
    /// for compare what suits the workload]
    #[arg(long, value_name = "TIME", value_parser = duration_ns)]
    pub(crate) time: Option<u64>,
    /// Decides everything random
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Sizes of headers
    #[arg(long, value_enum, default_value = "paper")]
    pub(crate) headers: HeadersArg,
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

fn duration_ns(text: &str) -> Result<u64, String> {
    parse_duration(text).map(|duration| duration.0).map_err(|error| error.to_string())
}
