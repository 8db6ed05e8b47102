//! Fanwire measured, as a user would run it: the real binary in a process of its own, and beside it peers and floors.

mod goals;
mod hub;
mod peers;
mod publish;
mod resume;
mod soak;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use fanwire_bench::{cli::Bench, contest::Contestant, link, load, scenario::Scenario};

#[derive(Debug, Parser)]
#[command(name = "fanwire-bench", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure transports side by side, with peers and floors in the same rounds
    Run {
        #[command(flatten)]
        bench: Box<Bench>,
        /// Who else takes part [default: all that are known and installed]
        #[arg(long, value_name = "PEER", value_delimiter = ',')]
        peers: Option<Vec<peers::Kind>>,
    },
    /// Measure everything that Fanwire is meant to reach, and write benches/RESULTS.md; takes some 20 minutes
    Goals(goals::Goals),
    #[command(name = fanwire_bench::contest::LOAD, hide = true)]
    Load,
    #[command(name = link::RELAY, hide = true)]
    Link,
    /// Be a peer or a floor
    #[command(hide = true)]
    Peer { kind: peers::Kind },
    /// Serve the live input to many subscribers for long, and watch the hub's memory, its log and what it delivers
    Soak(soak::Soak),
    /// Publish as fast as the hub answers, to a log in memory and on disk, and measure throughput and latency
    Publish(publish::Publish),
    /// Come back at the newest event of a log on disk that grows, and measure what that costs
    Resume(resume::Resume),
}

fn main() -> Result<()> {
    let Cli { command } = Cli::parse();
    match command {
        Command::Run { bench, peers } => {
            let peers = peers.unwrap_or_else(peers::Kind::installed);
            let entered = |scenario: &Scenario| -> Vec<Box<dyn Contestant>> {
                peers.iter().filter(|kind| kind.fits(scenario)).map(|kind| Box::new(*kind) as _).collect()
            };
            bench.run(&hub_beside_this_one()?, &entered)
        }
        Command::Goals(goals) => goals.run(),
        Command::Load => load::run(),
        Command::Link => link::relay(),
        Command::Peer { kind } => kind.serve(),
        Command::Soak(soak) => on_a_runtime(soak.run()),
        Command::Publish(publish) => on_a_runtime(publish.run()),
        Command::Resume(resume) => on_a_runtime(resume.run()),
    }
}

fn on_a_runtime<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    // Publishers are many and small: they share a thread.
    tokio::task::LocalSet::new().block_on(&runtime, work)
}

fn hub_beside_this_one() -> Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name("fanwire"))
}
