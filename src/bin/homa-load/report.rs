//! `homa-load report` and `homa-load compare`, and the files that a run leaves.

use std::error::Error;
use std::process::ExitCode;

use homa::load::report::{
    CompareOptions, Comparison, NamedReport, Report, RunsError, Verdict, check_folder,
    rewrite_folder, write_folder,
};

use crate::args::{CompareArgs, OutArgs, ReportArgs};
use crate::{WrongArguments, check_writable, live, style};

/// Draws what lies in a directory.
pub(crate) fn run(args: &ReportArgs) -> Result<ExitCode, Box<dyn Error>> {
    let path = rewrite_folder(&args.dir, args.title.as_deref()).map_err(wrong)?;
    println!("{}", path.display());
    Ok(ExitCode::SUCCESS)
}

/// Compares two reports; the exit code says whether the second is worse.
pub(crate) fn compare(args: &CompareArgs) -> Result<ExitCode, Box<dyn Error>> {
    let read = |path| NamedReport::read(path).map_err(wrong);
    let (mut first, mut second) = (read(&args.first)?, read(&args.second)?);
    // Files of the same name in two folders.
    if first.name == second.name && args.first != args.second {
        first.name = args.first.display().to_string();
        second.name = args.second.display().to_string();
    }
    let options = CompareOptions { least: args.least / 100.0 };
    let comparison = Comparison::new(&first, &second, options);
    print!("{}", comparison.render(style()));
    Ok(match comparison.verdict() {
        Verdict::Worse => ExitCode::FAILURE,
        Verdict::Same | Verdict::Better | Verdict::Unknown => ExitCode::SUCCESS,
    })
}

/// Sees to it that the report of a run can be written, before the run.
pub(crate) fn check(out: &OutArgs) -> Result<(), Box<dyn Error>> {
    check_writable(out.json.as_deref())?;
    live::check(out)?;
    match &out.report {
        Some(folder) => Ok(check_folder(folder).map_err(wrong)?),
        None => Ok(()),
    }
}

/// Writes the report of a run wherever it was asked for.
pub(crate) fn write(out: &OutArgs, report: &Report) -> Result<(), Box<dyn Error>> {
    if let Some(file) = &out.json {
        std::fs::write(file, report.to_json()?)
            .map_err(|error| format!("{}: {error}", file.display()))?;
    }
    if let Some(folder) = &out.report {
        let path = write_folder(folder, &name(out, report), report)?;
        eprintln!("{}", path.display());
    }
    Ok(())
}

/// What a report is called beside others: as was said, or as what carried its messages.
fn name(out: &OutArgs, report: &Report) -> String {
    let transport = || report.config.parameters.get("transport").map_or("homa", String::as_str);
    out.name.clone().unwrap_or_else(|| transport().to_lowercase())
}

/// Files named on the command line that are not what they should be.
fn wrong(error: RunsError) -> WrongArguments {
    WrongArguments(homa::node::NodeError::Config(error.to_string()))
}
