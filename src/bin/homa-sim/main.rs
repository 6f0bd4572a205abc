//! `homa-sim`: a simulated cluster that runs the Homa of this library. Argument parsing and wiring only.

mod ablate;
mod args;
mod bench;
mod compare;
mod fuzz;
mod incast;
mod jobs;
mod report;
mod run;

use std::error::Error;
use std::io::{self, stdout};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use homa::load::command_line::{
    end_when_nobody_reads, show_error, start_log, write_completions, write_manual,
};

use args::{Cli, Command};

fn main() -> ExitCode {
    end_when_nobody_reads();
    let cli = Cli::parse();
    start_log(cli.log_format);
    let result = match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Incast(args) => incast::run(&args),
        Command::Ablate(args) => ablate::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Completions { shell } => {
            done(write_completions(&mut Cli::command(), shell, &mut stdout()))
        }
        Command::Man { subcommand } => {
            done(write_manual(&Cli::command(), subcommand.as_deref(), &mut stdout()))
        }
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            show_error("homa-sim", &error.to_string());
            // Nothing but arguments and files can be wrong.
            ExitCode::from(2)
        }
    }
}

fn done(written: io::Result<()>) -> Result<ExitCode, Box<dyn Error>> {
    Ok(written.map(|()| ExitCode::SUCCESS)?)
}
