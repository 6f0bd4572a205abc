//! What a client does, on its node or over sockets: one load, the search for the highest, or a baseline.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use homa::load::apps::{ClientConfig, ClientResult, run_loads};
use homa::load::arrival::Load;
use homa::load::baseline::{self, Baseline, BaselinePoint};
use homa::load::classes::SizeClasses;
use homa::load::find_max::{FindMax, StepReport};
use homa::load::generator::{End, GeneratorConfig};
use homa::load::kernel::{KernelTransport, datagram, frame};
use homa::load::plan::{Plan, Surroundings};
use homa::load::quantity::{Rate, show_count, show_ns};
use homa::load::recorder::RecorderConfig;
use homa::load::report::{Machine, Percentiles, RunConfig};
use homa::load::response::ServiceTime;
use homa::load::search::{Search, Verdict};
use homa::load::slowdown::{BestCase, IdleStatistic, Path, idle_sizes};
use homa::load::wire_cost::WireCost;
use homa::load::workload::Workload;
use homa::node::{Node, stop_on_signals};
use homa::time::Nanos;

use crate::args::{LoadArgs, SlowdownName, Transport};
use crate::client::{Target, content, load};
use crate::live::{Show, show_line};
use crate::style;

/// How long to wait for responses after the last request, beyond the time in which an RPC ends one way
/// or the other.
const DRAIN: Nanos = Nanos::from_ms(400);
/// 5 ms windows are kept for runs of unknown length as well, up to this length.
const WINDOWS_FOR: Nanos = Nanos::from_secs(60);
/// Warm-up of each size of a baseline.
const BASELINE_WARM_UP: Nanos = Nanos::from_ms(5);
/// Speeds that published slowdowns are computed with, for ports without a speed.
const CPERF_LINK_BPS: f64 = 25e9;
const PAPER_LINK_BPS: f64 = 10e9;

/// What to do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Task {
    /// One load, and a report.
    Load,
    /// Look for the highest load.
    FindMax,
    /// Measure so many RPCs of each size, one at a time.
    Baseline(u64),
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Done {
    Report(Box<homa::load::report::Report>),
    FindMax(Box<FindMax>),
    Baseline(Baseline),
}

impl Task {
    /// What `args` ask for.
    pub(crate) const fn of(args: &LoadArgs) -> Self {
        if args.find_max { Self::FindMax } else { Self::Load }
    }

    /// Does it on a node.
    pub(crate) fn run(
        self,
        node: &mut Node,
        args: &LoadArgs,
        target: &Target,
    ) -> Result<Done, Box<dyn Error>> {
        stop_on_signals(&node.stop_flag())?;
        Ok(match self {
            Self::Load => Done::Report(Box::new(load(node, args, target)?)),
            Self::FindMax => Done::FindMax(Box::new(find_max(node, args, target)?)),
            Self::Baseline(samples) => {
                Done::Baseline(measure_baseline(node, args, target, samples)?)
            }
        })
    }
}

/// What runs loads one after the other.
pub(crate) trait Runner {
    /// Runs `first`, and then whatever `next` says to the result of the run before.
    fn run_loads(
        &mut self,
        first: &ClientConfig,
        show: Show,
        next: &mut Next<'_>,
    ) -> Result<(), Box<dyn Error>>;

    /// Set when the user has had enough.
    fn stop_flag(&self) -> Arc<AtomicBool>;

    /// Threads that share a load.
    fn threads(&self) -> u32;
}

/// What to run after a run.
pub(crate) type Next<'a> = dyn FnMut(ClientResult) -> Option<ClientConfig> + Send + 'a;

impl Runner for Node {
    fn run_loads(
        &mut self,
        first: &ClientConfig,
        show: Show,
        next: &mut Next<'_>,
    ) -> Result<(), Box<dyn Error>> {
        run_loads(self, first, show, next)?;
        Ok(())
    }

    fn stop_flag(&self) -> Arc<AtomicBool> {
        Self::stop_flag(self)
    }

    fn threads(&self) -> u32 {
        self.shards().into()
    }
}

/// Writes a result to a file if one is named.
pub(crate) fn write_json(args: &LoadArgs, json: &str) -> Result<(), Box<dyn Error>> {
    let Some(file) = &args.out.json else { return Ok(()) };
    Ok(std::fs::write(file, json).map_err(|error| format!("{}: {error}", file.display()))?)
}

/// Prints and stores the result of a search.
pub(crate) fn finish_find_max(
    args: &LoadArgs,
    result: &FindMax,
) -> Result<ExitCode, Box<dyn Error>> {
    println!("{}", result.render(style()));
    write_json(args, &result.to_json()?)?;
    Ok(if result.max_rps.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The rate of an open loop, if one was asked for.
fn rate(args: &LoadArgs, workload: &Workload, cost: WireCost) -> Option<Rate> {
    let wire = |gbps: f64| {
        let request_mean_bytes = cost.mean_bytes(workload);
        Rate::WireBps { bps: gbps * 1e9, request_mean_bytes }
    };
    let payload = args.gbps.map(|gbps| Rate::Bps(gbps * 1e9));
    payload.or_else(|| args.rps.map(Rate::Rps)).or_else(|| args.wire_gbps.map(wire))
}

/// What slowdown is relative to: the definition to show first, then the others that are known.
fn best_cases(args: &LoadArgs, link_gbps: Option<f64>) -> Result<Vec<BestCase>, String> {
    let mut known = Vec::new();
    if let Some(baseline) = &args.baseline {
        known.extend(baseline.0.best_cases().map_err(|error| error.to_string())?);
    }
    let link_bps = link_gbps.map(|gbps| gbps * 1e9);
    known.push(BestCase::FixedPlusLink {
        fixed: args.fixed_rtt,
        link_bps: link_bps.unwrap_or(CPERF_LINK_BPS),
    });
    known.push(BestCase::Computed {
        link_bps: link_bps.unwrap_or(PAPER_LINK_BPS),
        path: Path::IntraRack,
    });
    known.push(BestCase::LeastSeen);
    let default = if args.baseline.is_some() { SlowdownName::Idle } else { SlowdownName::Least };
    let wanted = args.slowdown.unwrap_or(default).name();
    let Some(shown) = known.iter().position(|best| best.name() == wanted) else {
        return Err(format!("--slowdown {wanted} needs --baseline FILE, from homa-load baseline"));
    };
    let shown = known.remove(shown);
    known.insert(0, shown);
    Ok(known)
}

/// Requests per second that an open loop can plan: more than any machine answers, few enough that those
/// which are never sent can be counted at the end.
const PLANNED_RPS_MAX: f64 = 1e8;

/// Sees to it that a load can be run, before anything is started.
pub(crate) fn check_load(args: &LoadArgs, link_gbps: Option<f64>) -> Result<(), String> {
    best_cases(args, link_gbps)?;
    let rps_of = |gbps: f64| gbps * 1e9 / 8.0 / args.workload.mean_bytes();
    let rps = args.rps.or_else(|| args.gbps.or(args.wire_gbps).map(rps_of));
    match rps {
        Some(rps) if rps > PLANNED_RPS_MAX => Err(format!(
            "an open loop of {} is beyond what can be planned: ask for at most {}",
            Rate::Rps(rps),
            Rate::Rps(PLANNED_RPS_MAX)
        )),
        _ => Ok(()),
    }
}

/// The load as the library wants it, all times counted from the start of the run.
pub(crate) fn client_config(args: &LoadArgs, target: &Target) -> Result<ClientConfig, String> {
    let workload = Arc::new(args.workload.clone());
    let load = match rate(args, &workload, target.wire_cost()) {
        Some(rate) => {
            let (arrival, outstanding_max) = (args.arrival, args.outstanding_max);
            Load::Open { rate, arrival, outstanding_max }
        }
        None => Load::Closed { outstanding: args.outstanding.unwrap_or(8) },
    };
    let (end, measured) = match args.count {
        Some(rpcs) => (End::Rpcs(rpcs), WINDOWS_FOR),
        None => (End::After(args.duration), args.duration),
    };
    let classes = if workload.is_fixed() {
        SizeClasses::powers_of_two(workload.min_bytes(), workload.max_bytes())
    } else {
        SizeClasses::deciles(&workload)
    };
    let mut best_cases = best_cases(args, target.link_gbps)?;
    let others = best_cases.split_off(1);
    let shown = best_cases.swap_remove(0);
    let recorder = RecorderConfig {
        other_best_cases: others,
        ..RecorderConfig::new(classes, shown, args.warm_up, measured)
    };
    Ok(ClientConfig {
        generator: GeneratorConfig {
            workload,
            load,
            start: Nanos::ZERO,
            warm_up: args.warm_up,
            end,
            drain: target.timeout + DRAIN,
            destinations: target.servers.len() as u32,
        },
        recorder,
        servers: target.servers.clone(),
        response: args.response.clone(),
        format: target.dialect.messages,
        verify: !args.no_verify,
        seed: args.seed,
    })
}

impl Target {
    /// What packets to the servers cost on the wire.
    fn wire_cost(&self) -> WireCost {
        let unknown = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let address = self.servers.first().map_or(unknown, |server| server.0);
        match self.transport {
            Transport::Homa => WireCost::new(self.mtu, address),
            Transport::Kernel(KernelTransport::Tcp) => {
                WireCost::tcp(self.mtu, address, frame::HEADER_BYTES as u32)
            }
            Transport::Kernel(KernelTransport::Udp) => {
                WireCost::udp(self.mtu, address, datagram::HEADER_BYTES as u32)
            }
        }
    }
}

/// Describes the run.
pub(crate) fn run_config(
    args: &LoadArgs,
    target: &Target,
    generator: &GeneratorConfig,
    shards: u32,
) -> RunConfig {
    let mut run = RunConfig::new(generator, shards, args.seed);
    run.title.clone_from(&target.title);
    run.port.clone_from(&target.port);
    run.parameters.insert("transport".to_owned(), "homa".to_owned());
    run.parameters.insert("response".to_owned(), args.response.to_string());
    run.parameters.insert("content".to_owned(), content(args).to_owned());
    run.parameters.extend(target.parameters.clone());
    run
}

/// Says what to expect, without starting anything.
pub(crate) fn dry_run(
    args: &LoadArgs,
    target: &Target,
    service_time: ServiceTime,
) -> Result<ExitCode, Box<dyn Error>> {
    let config = client_config(args, target)?;
    let idle =
        args.baseline.as_ref().map(|file| file.0.times(IdleStatistic::Median)).transpose()?;
    let around = Surroundings {
        cost: target.wire_cost(),
        response: args.response.clone(),
        service_time,
        idle,
        link_bps: target.link_gbps.map(|gbps| gbps * 1e9),
    };
    let plan = Plan::new(&config.generator, &around);
    print!("{}", plan.render(style()));
    write_json(args, &(serde_json::to_string(&plan)? + "\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// The rate that a search begins with unless one is given: little for any machine.
fn first_rps(config: &ClientConfig) -> f64 {
    const RPS: f64 = 10_000.0;
    const BPS: f64 = 1e9;
    let mean_bytes = config.generator.workload.mean_bytes();
    match config.generator.load {
        Load::Open { rate, .. } => rate.rps(mean_bytes),
        Load::Closed { .. } => RPS.min(Rate::Bps(BPS).rps(mean_bytes)),
    }
}

pub(crate) fn find_max(
    runner: &mut impl Runner,
    args: &LoadArgs,
    target: &Target,
) -> Result<FindMax, Box<dyn Error>> {
    let base = client_config(args, target)?;
    let mean_bytes = base.generator.workload.mean_bytes();
    let at = |rps: f64, step: u64| {
        let mut config = base.clone();
        config.generator.load = Load::Open {
            rate: Rate::Rps(rps),
            arrival: args.arrival,
            outstanding_max: args.outstanding_max,
        };
        config.seed = args.seed.wrapping_add(step << 32);
        config
    };
    let mut search = Search::new(first_rps(&base), args.find_precision);
    let mut steps: Vec<StepReport> = Vec::new();
    let first = at(first_rps(&base), 0);
    let stop = runner.stop_flag();
    runner.run_loads(&first, show_line(), &mut |result: ClientResult| {
        let rps = search.next()?;
        if stop.load(Ordering::Relaxed) {
            return None;
        }
        let ClientResult { totals, recorder, .. } = result;
        let latency = Percentiles::from(&recorder.latency());
        let lag = Percentiles::from(&recorder.lag());
        let is_repeat = search.is_repeat();
        let step = StepReport::new(rps, mean_bytes, is_repeat, &totals, latency, lag);
        eprintln!("{} RPC/s: {}", show_count(rps as u64), step.verdict);
        steps.push(step);
        search.on_step(Verdict::of(&totals).is_carried());
        search.next().map(|rps| at(rps, steps.len() as u64))
    })?;
    let run = run_config(args, target, &first.generator, runner.threads());
    Ok(FindMax::new(run, Machine::detect(), args.find_precision, steps))
}

pub(crate) fn measure_baseline(
    runner: &mut impl Runner,
    args: &LoadArgs,
    target: &Target,
    samples: u64,
) -> Result<Baseline, Box<dyn Error>> {
    let base = client_config(args, target)?;
    let sizes = idle_sizes(&args.workload);
    let at = |size: u32| {
        let mut config = base.clone();
        // Sizes of a distribution are never zero.
        config.generator.workload = Arc::new(Workload::fixed(size).ok()?);
        config.generator.load = Load::Closed { outstanding: 1 };
        config.generator.warm_up = BASELINE_WARM_UP;
        config.generator.end = End::Rpcs(samples);
        config.recorder = RecorderConfig::new(
            SizeClasses::powers_of_two(size, size),
            BestCase::LeastSeen,
            BASELINE_WARM_UP,
            Nanos::ZERO,
        );
        config.seed = args.seed.wrapping_add(u64::from(size) << 32);
        Some(config)
    };
    let mut left = sizes.iter().copied();
    let first = left.next().and_then(at).ok_or("a workload without sizes")?;
    let mut measured = sizes.iter().copied();
    let mut points = Vec::new();
    let mut troubles = 0;
    runner.run_loads(&first, show_line(), &mut |result: ClientResult| {
        let point = BaselinePoint::new(measured.next()?, &result.recorder.latency());
        troubles += result.totals.failures() + result.totals.corrupted + result.totals.lost;
        points.extend(point);
        left.next().and_then(at)
    })?;
    if troubles > 0 || points.len() < sizes.len() {
        return Err(format!(
            "{} of {} sizes were measured, {troubles} RPCs failed: is the server there, and the way \
             to it free of loss?",
            points.len(),
            sizes.len()
        )
        .into());
    }
    Ok(Baseline {
        schema: baseline::SCHEMA.to_owned(),
        machine: Machine::detect(),
        port: target.port.clone(),
        workload: args.workload.to_string(),
        response: args.response.to_string(),
        points,
    })
}

/// Prints and stores a baseline.
pub(crate) fn finish_baseline(
    out: &std::path::Path,
    baseline: &Baseline,
) -> Result<ExitCode, Box<dyn Error>> {
    println!("{:>10}  {:>10}  {:>10}  {:>10}", "request", "min", "p50", "p99");
    for point in &baseline.points {
        let ns = |ns: u64| show_ns(ns as f64);
        println!(
            "{:>9}B  {:>10}  {:>10}  {:>10}",
            show_count(point.size_bytes.into()),
            ns(point.min_ns),
            ns(point.p50_ns),
            ns(point.p99_ns)
        );
    }
    std::fs::write(out, baseline.to_json()?)
        .map_err(|error| format!("{}: {error}", out.display()))?;
    println!("written to {}; use it with --baseline {0}", out.display());
    Ok(ExitCode::SUCCESS)
}
