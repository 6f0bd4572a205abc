//! Who else may look at a node while it runs: Prometheus, DPDK's telemetry.

use std::error::Error;

use homa::dpdk::TelemetryCommand;
use homa::load::apps::counters::{exposition, telemetry};
use homa::load::metrics::{MetricsListener, MetricsServer};
use homa::node::{Node, NodeError};

use crate::WrongArguments;
use crate::args::MachineArgs;

/// The command of telemetry.
const COMMAND: &str = "/homa/stats";
const COMMAND_HELP: &str = "Counters of the Homa transport and its loop. Parameters: number of a shard; all together without";

/// What observers need, taken before anything is started.
#[derive(Debug)]
pub(crate) struct Observers {
    metrics: Option<MetricsListener>,
    telemetry: bool,
}

/// Observers at work; they end when this is dropped.
#[derive(Debug)]
pub(crate) struct Observed {
    _metrics: Option<MetricsServer>,
    _telemetry: Option<TelemetryCommand>,
}

impl Observers {
    /// Takes the addresses that are asked for.
    pub(crate) fn new(args: &MachineArgs) -> Result<Self, WrongArguments> {
        let bind = |address| {
            MetricsListener::bind(address).map_err(|error| {
                WrongArguments(NodeError::Config(format!(
                    "--metrics {address}: {error}: name an address of this machine and a free port"
                )))
            })
        };
        Ok(Self { metrics: args.metrics.map(bind).transpose()?, telemetry: args.telemetry })
    }

    /// Lets them look at `node`.
    pub(crate) fn watch(self, node: &Node) -> Result<Observed, Box<dyn Error>> {
        let metrics = self.metrics.map(|listener| {
            if let Some(address) = listener.address() {
                log::info!("metrics at http://{address}/metrics");
            }
            let read = node.counters_reader();
            listener.serve(move || exposition(&read()))
        });
        let telemetry = match self.telemetry {
            false => None,
            true => {
                let read = node.counters_reader();
                let answer = move |parameters: &str| telemetry(&read(), parameters);
                let directory = node.eal().runtime_directory();
                // DPDK goes on without it.
                if !directory.is_dir() {
                    let parent = std::env::var("XDG_RUNTIME_DIR").unwrap_or_else(|_| "/tmp".into());
                    return Err(format!(
                        "--telemetry: DPDK could not make a directory for its socket in {parent}: set \
                         XDG_RUNTIME_DIR to where it may"
                    )
                    .into());
                }
                log::info!("telemetry in {}", directory.display());
                Some(TelemetryCommand::register(COMMAND, COMMAND_HELP, answer)?)
            }
        };
        Ok(Observed { _metrics: metrics, _telemetry: telemetry })
    }
}
