//! The one binary.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match fanwire::cli::Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("fanwire: {error:#}");
            ExitCode::FAILURE
        }
    }
}
