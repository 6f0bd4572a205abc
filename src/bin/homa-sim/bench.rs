//! `homa-sim bench`: speed of the simulator.

use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;

use homa::sim::{Cluster, Sigcomm18};

use crate::args::BenchArgs;
use crate::run::preset;

const TIME_NS_DEFAULT: u64 = 5_000_000;

pub(crate) fn run(args: &BenchArgs) -> Result<ExitCode, Box<dyn Error>> {
    let config = preset(&args.preset, args.workload.name(), TIME_NS_DEFAULT)?;
    let payload_bps = Sigcomm18::payload_bps(&args.workload, args.load);
    let mut cluster = Cluster::<()>::new(&config, &args.workload, payload_bps, ())?;
    let start = Instant::now();
    let summary = cluster.run();
    let seconds = start.elapsed().as_secs_f64();
    let hops = summary.packets.hops as f64;
    println!(
        "{:.2} ms simulated in {seconds:.3} s: {:.2} M packet-hops/s, {:.2} M events/s, \
         {:.2} events per hop, {} hops",
        summary.simulated_ns as f64 / 1e6,
        hops / seconds / 1e6,
        summary.events as f64 / seconds / 1e6,
        summary.events as f64 / hops,
        summary.packets.hops,
    );
    Ok(ExitCode::SUCCESS)
}
