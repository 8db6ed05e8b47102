//! The one binary.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match fanwire::cli::Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fanwire: {error:#}");
            ExitCode::FAILURE
        }
    }
}
