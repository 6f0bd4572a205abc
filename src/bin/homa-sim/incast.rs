//! `homa-sim incast`.

use std::error::Error;
use std::process::ExitCode;

use homa::sim::{Buffer, Incast, IncastOutcome, IncastRecord, SimConfig};

use crate::args::IncastArgs;
use crate::jobs::in_parallel;
use crate::report::{Results, check_folder};
use crate::run::{change, read};

pub(crate) fn run(args: &IncastArgs) -> Result<ExitCode, Box<dyn Error>> {
    let mut config = match &args.config {
        Some(path) => read(path)?,
        None => SimConfig::default(),
    };
    config.network.buffer = Buffer::PerPort(args.buffer.into());
    config.seed = args.seed;
    let config = change(config, &args.set)?;
    let mut without = config.clone();
    without.homa.incast_rpcs_min = 0;
    check_folder(args.out.as_deref())?;
    let jobs: Vec<(&SimConfig, Incast)> = args
        .rpcs
        .iter()
        .flat_map(|&rpcs| [(&without, rpcs), (&config, rpcs)])
        .map(|(config, rpcs)| {
            let (request_bytes, response_bytes) = (args.request, args.response);
            (config, Incast { rpcs, request_bytes, response_bytes, rounds: args.rounds })
        })
        .collect();
    let outcomes = in_parallel(&jobs, args.jobs, "runs", |(config, incast)| incast.run(config));
    let outcomes = outcomes.into_iter().collect::<Result<Vec<_>, _>>()?;
    let note = format!(
        "n responses of {} bytes at once to one of {} hosts at {} Gbps, {} bytes of buffer per port; \
         requests are marked from {} outstanding on.",
        args.response,
        config.network.hosts(),
        config.network.host_bps as f64 / 1e9,
        args.buffer,
        config.homa.incast_rpcs_min,
    );
    println!("{note}");
    let group = "goodput    lost  sent again   round   queue";
    let units = "   Gbps       %          KB      ms      KB";
    println!("       {:-^43}   {:-^43}", " without incast control ", " with incast control ");
    println!("    n  {group}   {group}\n       {units}   {units}");
    for (&rpcs, pair) in args.rpcs.iter().zip(outcomes.chunks(2)) {
        println!("{rpcs:5}  {}   {}", columns(&pair[0]), columns(&pair[1]));
    }
    if let Some(dir) = &args.out {
        let rows = args.rpcs.iter().zip(outcomes.chunks(2));
        let rows = rows.map(|(&rpcs, pair)| (rpcs, pair[0], pair[1])).collect();
        Results::Incast(IncastRecord { note, rows }).save(dir, "incast")?;
    }
    let failed: u64 = outcomes.iter().map(|outcome| outcome.failed).sum();
    if failed > 0 {
        println!("{failed} RPCs failed");
        return Ok(ExitCode::from(3));
    }
    Ok(ExitCode::SUCCESS)
}

fn columns(outcome: &IncastOutcome) -> String {
    format!(
        "{:7.2} {:7.2} {:11.0} {:7.2} {:7.0}",
        outcome.goodput_bps / 1e9,
        100.0 * outcome.dropped as f64 / outcome.packets as f64,
        outcome.resent_bytes as f64 / 1e3,
        outcome.round_max_ns as f64 / 1e6,
        outcome.queued_bytes_max as f64 / 1e3,
    )
}
