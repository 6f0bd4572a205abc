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

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use homa::load::command_line::{completions, end_when_nobody_reads, manual, show_error, start_log};

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
            print!("{}", completions(&mut Cli::command(), shell));
            Ok(ExitCode::SUCCESS)
        }
        Command::Man { subcommand } => {
            manual(&Cli::command(), subcommand.as_deref()).map_err(Into::into).map(|page| {
                print!("{page}");
                ExitCode::SUCCESS
            })
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
