//! `fanwire serve`.

use std::io::Write as _;

use anyhow::{Context, Result, bail};
use clap::CommandFactory;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Cli;
use crate::{
    app::{App, Running},
    config::{Config, Layer},
    telemetry,
};

pub(super) fn run(flags: Layer) -> Result<()> {
    check_environment()?;
    let config = Config::load(flags)?;
    telemetry::start_logging(&config.log_filter)?;
    // Every connection takes a descriptor.
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(async {
        let deadline = config.drain_deadline;
        let demo = config.demo;
        let running = App::bind(config)?.start()?;
        // Before anybody is told that there is something to stop.
        let signals = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        announce(&running, demo);
        wait_for(signals).await;
        tracing::info!("draining: telling the subscribers, at most {deadline:?}");
        if running.drain(deadline).await {
            tracing::info!("drained");
        } else {
            tracing::warn!("connections were still open after {deadline:?} and were cut");
        }
        Ok(())
    })
}

fn announce(running: &Running, demo: bool) {
    let lines = [
        running.http().map(|address| format!("page and HTTP/1, h2c:          http://{address}/\n")),
        running.https().map(|address| format!("HTTP/1, 2, 3 and WebTransport: https://{address}/\n")),
        running.http().map(|address| format!("publish: curl http://{address}/events -d topic=hello -d data=world\n")),
        demo.then(|| "live input on host/… (--no-demo turns it off)\n".to_owned()),
    ];
    // At once, and come what may: that nobody reads it, as behind `| head -1`, is no reason not to serve.
    let text: String = lines.into_iter().flatten().collect();
    let mut out = std::io::stdout().lock();
    if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        tracing::debug!(%error, "nobody reads where the hub listens");
    }
}

async fn wait_for((mut interrupt, mut terminate): (Signal, Signal)) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// A misspelt variable must not be silently nothing.
fn check_environment() -> Result<()> {
    let command = Cli::command();
    let known: Vec<_> = command.get_arguments().filter_map(|argument| argument.get_env()).collect();
    for (name, _) in std::env::vars_os() {
        let ours = name.to_str().is_some_and(|name| name.starts_with("FANWIRE_"));
        if ours && !known.contains(&name.as_os_str()) {
            bail!("the environment variable {} is unknown: see fanwire serve --help", name.display());
        }
    }
    Ok(())
}
