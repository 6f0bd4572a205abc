//! `homa-load compare-transports`: each run is a `homa-load local` of its own.

use std::error::Error;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use homa::load::report::{NamedReport, Report, Runs, check_folder, check_name};
use homa::load::transports::{Case, Contender, Rounds, render, to_markdown};
use homa::load::workload::Workload;
use homa::node::stop_on_signals;

use crate::args::{CompareTransportsArgs, Transport, Wire};
use crate::local::Directory;
use crate::{WrongArguments, style, veth, wrong_arguments};

/// RPCs of each size of the baseline.
const BASELINE_SAMPLES: u32 = 500;
/// The same of the only size of echo, which the first moments of the processes would make up otherwise.
const ECHO_SAMPLES: u32 = 20_000;
/// The short RPCs that run one at a time.
const ECHO: &str = "echo";
const ECHO_BYTES: &str = "100";

/// A load.
struct Load {
    name: String,
    title: String,
    workload: String,
    amount: Amount,
}

/// How much of it.
#[derive(Clone, Copy)]
enum Amount {
    Outstanding(u32),
    Gbps(f64),
}

impl Amount {
    /// The option for a part of it, from 0 to 1.
    fn option(self, part: f64) -> String {
        match self {
            Self::Outstanding(rpcs) => {
                format!("--outstanding={}", (f64::from(rpcs) * part).round().max(1.0))
            }
            Self::Gbps(gbps) => format!("--gbps={}", gbps * part),
        }
    }
}

pub(crate) fn run(args: &CompareTransportsArgs) -> Result<ExitCode, Box<dyn Error>> {
    let loads = loads(args)?;
    refuse_twice(args)?;
    if let Some(folder) = &args.report {
        check_folder(folder).map_err(|error| wrong_arguments(error.to_string()))?;
    }
    let stop: Arc<AtomicBool> = Arc::default();
    stop_on_signals(&stop)?;
    let directory = Directory::new()?;
    let contest = Contest { args, directory: &directory.0 };
    let contenders: Vec<Contender> = args
        .transports
        .iter()
        .map(|transport| Contender { transport: transport.to_string(), rounds: vec![] })
        .collect();
    let case = |load: &Load| Case {
        name: load.name.clone(),
        title: load.title.clone(),
        contenders: contenders.clone(),
    };
    let parts = args.at_once.as_ref().map(|shares| shares.parts(&args.transports));
    let mut cases: Vec<Case> = loads.iter().map(case).collect();
    let mut shared: Vec<Case> = Vec::new();
    if let Some(parts) = &parts {
        shared.extend(loads.iter().map(|load| shared_case(load, parts)));
    }
    let mut failures = 0;
    for round in 0..args.rounds {
        for (at, (load, case)) in loads.iter().zip(&mut cases).enumerate() {
            let what = |over: &str| {
                format!("round {} of {}: {} over {over}", round + 1, args.rounds, load.name)
            };
            // Who is first changes, so that none profits from it.
            for turn in 0..args.transports.len() {
                let at = (turn + round as usize) % args.transports.len();
                // The first Ctrl-C ends the measuring, and what there is is reported.
                if stop.load(Ordering::Relaxed) {
                    continue;
                }
                let transport = args.transports[at];
                let what = what(&transport.to_string());
                let report = twice_if_need_be(&what, &stop, || contest.run(load, transport));
                failures += u32::from(report.is_none());
                case.contenders[at].rounds.push(report);
            }
            let (Some(parts), false) = (&parts, stop.load(Ordering::Relaxed)) else { continue };
            let what = what("all at once");
            let all = || contest.run_at_once(load, parts)?.into_iter().collect();
            let reports: Option<Vec<Report>> = twice_if_need_be(&what, &stop, all);
            failures += u32::from(reports.is_none());
            let mut reports = reports.into_iter().flatten();
            for contender in &mut shared[at].contenders {
                contender.rounds.push(reports.next());
            }
        }
    }
    show_progress("");
    cases.extend(shared);
    if args.markdown {
        print!("{}", to_markdown(&cases));
    } else {
        println!("{}", heading(args));
        print!("{}", render(&cases, style()));
    }
    if let Some(folder) = &args.report {
        println!("{}", write(folder, &cases)?.display());
    }
    Ok(if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Does it, and once more if it gives nothing: where others use the cores, one of them may be away for longer
/// than transports have patience. Why it failed is told.
fn twice_if_need_be<T>(
    what: &str,
    stop: &AtomicBool,
    run: impl Fn() -> Result<T, Box<dyn Error>>,
) -> Option<T> {
    show_progress(what);
    let tell = |why: &dyn Error, then: &str| {
        show_progress("");
        eprintln!("{what}: {why}{then}");
    };
    let again = match run() {
        Ok(result) => return Some(result),
        Err(why) if stop.load(Ordering::Relaxed) => Err(why),
        Err(why) => {
            tell(&*why, "; once more");
            run()
        }
    };
    again.inspect_err(|why| tell(&**why, "")).ok()
}

/// A line on a terminal that the next one takes the place of.
fn show_progress(text: &str) {
    if std::io::stderr().is_terminal() {
        eprint!("\r{text}\x1b[K");
    }
}

fn heading(args: &CompareTransportsArgs) -> String {
    let between = match args.wire {
        Wire::Memif => "Homa over memif, the kernel's over loopback",
        Wire::Veth => "all over one veth pair, Homa through packet sockets",
    };
    format!(
        "{} round(s) of {} s; {between}, {}; MTU of Homa {}; slowdown = RPC time / median time of that \
         size over idle Homa",
        args.rounds, args.seconds, args.poll, args.mtu
    )
}

/// A load of which each transport carries a part at the same time.
fn shared_case(load: &Load, parts: &[(Transport, f64)]) -> Case {
    let shown: Vec<String> =
        parts.iter().map(|(transport, part)| format!("{:.0}% {transport}", part * 100.0)).collect();
    Case {
        name: format!("{}-at-once", load.name),
        title: format!("{}; at once {}", load.title, shown.join(", ")),
        contenders: parts
            .iter()
            .map(|part| Contender { transport: part.0.to_string(), rounds: vec![] })
            .collect(),
    }
}

/// What is to run, in the order that was asked for.
fn loads(args: &CompareTransportsArgs) -> Result<Vec<Load>, WrongArguments> {
    let mut loads = Vec::new();
    for name in &args.only {
        if name == ECHO {
            loads.push(Load {
                name: ECHO.to_owned(),
                title: "100 B there and back, 1 outstanding".to_owned(),
                workload: ECHO_BYTES.to_owned(),
                amount: Amount::Outstanding(1),
            });
            continue;
        }
        let sizes = name.parse::<Workload>();
        sizes.map_err(|error| wrong_arguments(format!("--only: echo, or {error}")))?;
        check_name(name).map_err(|error| wrong_arguments(error.to_string()))?;
        loads.push(Load {
            name: name.clone(),
            title: format!("{name} echoed, {} outstanding", args.outstanding),
            workload: name.clone(),
            amount: Amount::Outstanding(args.outstanding),
        });
        if let Some(gbps) = args.gbps {
            loads.push(Load {
                name: format!("{name}-open"),
                title: format!("{name} echoed, open loop of {gbps} Gbps"),
                workload: name.clone(),
                amount: Amount::Gbps(gbps),
            });
        }
    }
    Ok(loads)
}

/// A transport or load named twice would be written over.
fn refuse_twice(args: &CompareTransportsArgs) -> Result<(), WrongArguments> {
    let transports: Vec<String> = args.transports.iter().map(ToString::to_string).collect();
    for (option, list) in [("--transports", &transports), ("--only", &args.only)] {
        let twice = list.iter().enumerate().find(|(at, name)| list[..*at].contains(*name));
        if let Some((_, name)) = twice {
            return Err(wrong_arguments(format!("{option}: {name} stands there twice")));
        }
    }
    Ok(())
}

/// What a run gave, or why it gave nothing.
type Ran = Result<Report, Box<dyn Error>>;

struct Contest<'a> {
    args: &'a CompareTransportsArgs,
    directory: &'a Path,
}

impl Contest<'_> {
    /// One run, in processes of its own.
    fn run(&self, load: &Load, transport: Transport) -> Ran {
        let json = self.directory.join("report.json");
        let _ = std::fs::remove_file(&json);
        let mut command = Command::new(std::env::current_exe()?);
        self.add_load(&mut command, load, &load.amount.option(1.0), &json)?;
        self.add_transport(&mut command, transport);
        run_quietly(command)?;
        Ok(Report::from_json(&std::fs::read_to_string(&json)?)?)
    }

    /// All of `parts` at the same time, on the same two CPUs and, if there is one, over the same cable.
    fn run_at_once(
        &self,
        load: &Load,
        parts: &[(Transport, f64)],
    ) -> Result<Vec<Ran>, Box<dyn Error>> {
        let meeting = self.directory.join("meeting");
        let _ = std::fs::remove_dir_all(&meeting);
        std::fs::create_dir(&meeting)?;
        // The baseline first: it has the machine for itself.
        self.baseline_of(load)?;
        let cable = match self.args.wire {
            Wire::Memif => None,
            Wire::Veth => Some(veth::Cable::new(self.args.mtu)?),
        };
        let mut started = Vec::new();
        for (transport, part) in parts {
            let json = self.directory.join(format!("report-{transport}.json"));
            let _ = std::fs::remove_file(&json);
            let inside = cable.as_ref().map(|cable| &*cable.client);
            let mut command = veth::command(inside, std::env::current_exe()?);
            self.add_load(&mut command, load, &load.amount.option(*part), &json)?;
            self.add_transport(&mut command, *transport);
            if let Some(cable) = &cable {
                command.arg(format!("--server-namespace={}", cable.server));
            }
            // Who has nothing to do lets the others run.
            command.arg("--idle=yield");
            command.arg(format!("--meet={}:{}", parts.len(), meeting.display()));
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
            started.push((command.spawn()?, json));
        }
        Ok(started
            .into_iter()
            .map(|(process, json)| {
                check(&process.wait_with_output()?)?;
                Ok(Report::from_json(&std::fs::read_to_string(&json)?)?)
            })
            .collect())
    }

    fn add_load(
        &self,
        command: &mut Command,
        load: &Load,
        amount: &str,
        json: &Path,
    ) -> Result<(), Box<dyn Error>> {
        command.args(["local", "--live=off", "--warm-up=200ms", amount]);
        command.arg(format!("--duration={}ms", (self.args.seconds * 1e3) as u64));
        command.arg(format!("--workload={}", load.workload));
        command.arg("--json").arg(json);
        if let Some(file) = self.baseline_of(load)? {
            command.arg("--baseline").arg(file);
        }
        Ok(())
    }

    /// The baseline, if Homa is among those that are compared.
    fn baseline_of(&self, load: &Load) -> Result<Option<PathBuf>, Box<dyn Error>> {
        let has_homa = self.args.transports.contains(&Transport::Homa);
        has_homa.then(|| self.baseline(load)).transpose()
    }

    fn add_transport(&self, command: &mut Command, transport: Transport) {
        command.arg(format!("--transport={transport}"));
        command.arg(format!("--timeout={}ns", self.args.timeout.0));
        command.arg(format!("--mtu={}", self.args.mtu));
        if self.args.wire == Wire::Veth {
            command.arg("--wire=veth");
        }
        match transport {
            Transport::Homa if self.args.no_huge => drop(command.arg("--no-huge")),
            Transport::Homa => {}
            Transport::Kernel(_) => {
                command.arg(format!("--poll={}", self.args.poll));
                if let Some(connections) = self.args.connections.connections {
                    command.arg(format!("--connections={connections}"));
                }
            }
        }
    }

    /// The times of Homa when idle, by size: what the slowdown of all is relative to. Measured when
    /// first needed.
    fn baseline(&self, load: &Load) -> Result<PathBuf, Box<dyn Error>> {
        let file = self.directory.join(format!("baseline-{}.json", load.workload));
        if file.exists() {
            return Ok(file);
        }
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("baseline").arg("--out").arg(&file);
        let samples = if load.name == ECHO { ECHO_SAMPLES } else { BASELINE_SAMPLES };
        command.arg(format!("--samples={samples}"));
        command.args(["local", &format!("--workload={}", load.workload)]);
        self.add_transport(&mut command, Transport::Homa);
        let measured = run_quietly(command);
        // A file of a run that failed is none.
        measured.inspect_err(|_| drop(std::fs::remove_file(&file)))?;
        Ok(file)
    }
}

/// Runs a command to its end; what it says when it fails is the error, unless it left a report, whose
/// RPCs that were not answered then tell.
fn run_quietly(mut command: Command) -> Result<(), Box<dyn Error>> {
    check(&command.stdin(Stdio::null()).stdout(Stdio::null()).output()?)
}

fn check(output: &Output) -> Result<(), Box<dyn Error>> {
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().rfind(|line| line.starts_with("error: ")).unwrap_or("no reason given");
    if line.contains("were not answered") {
        return Ok(());
    }
    Err(line.trim_start_matches("error: ").into())
}

/// Writes a report for each load and transport, all rounds together, and the page; gives its path.
fn write(folder: &Path, cases: &[Case]) -> Result<PathBuf, Box<dyn Error>> {
    std::fs::create_dir_all(folder)?;
    let rounds = Rounds::new("Homa beside TCP and UDP of the kernel", cases);
    rounds.write(folder)?;
    let mut runs = Runs::default();
    for case in cases {
        for contender in &case.contenders {
            let Some(report) = contender.pooled() else { continue };
            let name = format!("{}-{}", case.name, contender.transport);
            std::fs::write(folder.join(format!("{name}.json")), report.to_json()?)?;
            runs.0.push(NamedReport { name, report });
        }
    }
    Ok(runs.write(folder, Some(&rounds.title), rounds.section())?)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn what_failed_is_done_once_more_unless_somebody_wants_to_go() {
        let (stop, tries) = (AtomicBool::new(false), Cell::new(0));
        let run = |good: u32| {
            tries.set(0);
            twice_if_need_be("w1 over homa", &stop, || {
                tries.set(tries.get() + 1);
                if tries.get() >= good { Ok(tries.get()) } else { Err("no".into()) }
            })
        };
        assert_eq!((run(1), tries.get()), (Some(1), 1));
        assert_eq!((run(2), tries.get()), (Some(2), 2));
        assert_eq!((run(3), tries.get()), (None, 2));
        stop.store(true, Ordering::Relaxed);
        assert_eq!((run(2), tries.get()), (None, 1));
    }
}
