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

use clap::Parser;

use args::{Cli, Command};

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Incast(args) => incast::run(&args),
        Command::Ablate(args) => ablate::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            // Nothing but arguments and files can be wrong.
            ExitCode::from(2)
        }
    }
}
