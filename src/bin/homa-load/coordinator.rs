//! `homa-load coordinator`.

use std::error::Error;
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory};
use homa::load::cluster::coordinator::{ClusterConfig, Coordinator, Note};
use homa::load::cluster::inventory::Inventory;
use homa::load::cluster::outcome;
use homa::load::cluster::protocol::LoadFile;
use homa::load::quantity::{show_count, show_scaled};
use homa::node::stop_on_signals;
use homa::time::Nanos;

use crate::args::{Cli, CoordinatorArgs, HostLoadArgs, LiveArg};
use crate::task::check_load;
use crate::{complain, report, style, wrong_arguments};

/// Options of the load that say what the coordinator itself does with the result.
const OWN_OPTIONS: [&str; 4] = ["json", "report", "live", "name"];
/// Options that name files, which only this host has.
const FILE_OPTIONS: [&str; 2] = ["workload", "baseline"];

pub(crate) fn run(args: &CoordinatorArgs) -> Result<ExitCode, Box<dyn Error>> {
    report::check(&args.hosts.load.out)?;
    let config = cluster_config(args)?;
    let title =
        format!("homa-load coordinator: {} hosts, pattern {}", config.agents, config.pattern);
    let stop: Arc<AtomicBool> = Arc::default();
    stop_on_signals(&stop)?;
    let coordinator = Coordinator::bind(args.listen, config)
        .map_err(|error| format!("cannot listen on {}: {error}", args.listen))?;
    println!("waiting for agents on {}", coordinator.local_addr()?);
    let live = args.hosts.load.out.live;
    let outcome = coordinator.run(&stop, &mut |note| show(live, note))?;
    let merged = outcome::merged(&outcome, &title)?;
    if let Some(report) = &merged {
        println!("{}", report.render(style()));
        report::write(&args.hosts.load.out, report)?;
    }
    let Some(trouble) = outcome::trouble(&outcome, merged.as_ref()) else {
        return Ok(ExitCode::SUCCESS);
    };
    complain(&trouble);
    Ok(ExitCode::FAILURE)
}

fn cluster_config(args: &CoordinatorArgs) -> Result<ClusterConfig, Box<dyn Error>> {
    let names = match &args.inventory {
        Some(file) => read_inventory(file).map_err(wrong_arguments)?.names(),
        None => Vec::new(),
    };
    let agents = args.agents.map_or(names.len(), |agents| agents as usize);
    let pattern = args.pattern;
    pattern
        .destinations(0, agents as u32)
        .map_err(|error| wrong_arguments(format!("--pattern {pattern}: {error}")))?;
    let load = &args.hosts.load;
    if load.out.live == Some(LiveArg::Dashboard) {
        let text = "--live dashboard is for homa-load client: use line or off";
        return Err(wrong_arguments(text.to_owned()).into());
    }
    if load.find_max || load.dry_run {
        let text = "--find-max and --dry-run are for homa-load client";
        return Err(wrong_arguments(text.to_owned()).into());
    }
    check_load(load, None).map_err(wrong_arguments)?;
    let words: Vec<OsString> = std::env::args_os().collect();
    let matches = Cli::command().try_get_matches_from(words)?;
    let matches = matches.subcommand().ok_or("no subcommand")?.1;
    let (flags, files) = load_flags(matches)?;
    Ok(ClusterConfig {
        agents,
        names,
        pattern: args.pattern.to_string(),
        flags,
        files,
        register_timeout: duration(args.wait),
        setup_timeout: duration(args.setup),
        silence: duration(args.silence),
    })
}

const fn duration(time: Nanos) -> Duration {
    Duration::from_nanos(time.0)
}

pub(crate) fn read_inventory(file: &Path) -> Result<Inventory, String> {
    let named = |error: String| format!("{}: {error}", file.display());
    let text = std::fs::read_to_string(file).map_err(|error| named(error.to_string()))?;
    Inventory::from_toml(&text).map_err(|error| named(error.to_string()))
}

/// The options of the load as they were given, for the command lines of others. Files that they name
/// come along.
fn load_flags(matches: &ArgMatches) -> Result<(Vec<String>, Vec<LoadFile>), Box<dyn Error>> {
    let (mut flags, mut files) = (Vec::new(), Vec::new());
    let options = HostLoadArgs::augment_args(clap::Command::new("load"));
    for option in options.get_arguments() {
        let id = option.get_id().as_str();
        let is_given = matches!(
            matches.value_source(id),
            Some(ValueSource::CommandLine | ValueSource::EnvVariable)
        );
        let Some(long) = option.get_long().filter(|_| is_given && !OWN_OPTIONS.contains(&id))
        else {
            continue;
        };
        if !option.get_action().takes_values() {
            flags.push(format!("--{long}"));
            continue;
        }
        for value in matches.get_raw(id).into_iter().flatten() {
            let value = value.to_str().ok_or_else(|| format!("--{long}: not UTF-8"))?;
            let path = Path::new(value);
            // Names of built-in workloads come first, as they do when the option is read.
            if FILE_OPTIONS.contains(&id) && path.is_file() && !is_builtin(value) {
                files.push(LoadFile {
                    option: format!("--{long}"),
                    name: path.file_name().map_or_else(String::new, |n| n.display().to_string()),
                    content: std::fs::read_to_string(path)?,
                });
            } else {
                flags.push(format!("--{long}={value}"));
            }
        }
    }
    Ok((flags, files))
}

fn is_builtin(workload: &str) -> bool {
    homa::load::workload::Workload::embedded(workload).is_some()
}

/// Writes what happens; how far the load is only for people who look on, unless they want it otherwise.
fn show(live: Option<LiveArg>, note: Note) {
    let mut out = std::io::stdout().lock();
    // The program is not about its output: a closed pipe does not end it.
    let _ = match note {
        Note::Said(text) => writeln!(out, "{text}"),
        Note::Progress { elapsed, sum } if wants_lines(live, out.is_terminal()) => writeln!(
            out,
            "{:>5.0} s  {} RPCs completed, {}B in all, {} outstanding",
            elapsed.as_secs_f64(),
            show_count(sum.completed),
            show_scaled(sum.bytes as f64),
            sum.outstanding
        ),
        Note::Progress { .. } => Ok(()),
    };
    let _ = out.flush();
}

const fn wants_lines(live: Option<LiveArg>, is_terminal: bool) -> bool {
    match live {
        None => is_terminal,
        Some(LiveArg::Line) => true,
        Some(LiveArg::Dashboard | LiveArg::Off) => false,
    }
}
