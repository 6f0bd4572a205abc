//! `homa-sim bench`: speed of the simulator.

use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use homa::sim::{Cluster, Sigcomm18};

use crate::args::BenchArgs;
use crate::run::preset;

const TIME_NS_DEFAULT: u64 = 5_000_000;

pub(crate) fn run(args: &BenchArgs) -> Result<ExitCode, Box<dyn Error>> {
    let config = preset(&args.preset, args.workload.name(), TIME_NS_DEFAULT)?;
    let payload_bps = Sigcomm18::payload_bps(&args.workload, args.load);
    let mut cluster = Cluster::<()>::new(&config, &args.workload, payload_bps, ())?;
    let (start, cpu_start) = (Instant::now(), cpu_time());
    let summary = cluster.run();
    let cpu = cpu_start.and_then(|before| Some(cpu_time()?.saturating_sub(before)));
    let times = [("CPU time", cpu), ("wall time", Some(start.elapsed()))];
    let hops = summary.packets.hops as f64;
    println!(
        "{:.2} ms simulated: {} packet-hops, {:.2} events per hop",
        summary.simulated_ns as f64 / 1e6,
        summary.packets.hops,
        summary.events as f64 / hops,
    );
    for (name, time) in times {
        let Some(time) = time else { continue };
        let seconds = time.as_secs_f64();
        println!(
            "{name:9} {seconds:.3} s: {:.2} M packet-hops/s, {:.2} M events/s",
            hops / seconds / 1e6,
            summary.events as f64 / seconds / 1e6,
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Time that the thread has spent on a CPU, which others on the machine lengthen less than the wall time;
/// `None` where the kernel does not tell. Read as a file, for the clock of rustix crashes under valgrind.
fn cpu_time() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    stat.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}
