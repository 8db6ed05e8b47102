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
    let config = Config::load(flags.clone())?;
    telemetry::start_logging(&config.log_filter)?;
    // Every connection over TCP takes a descriptor.
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(async {
        let deadline = config.drain_deadline;
        let demo = config.demo;
        let running = App::bind(config)?.start()?;
        // Before anybody is told that there is something to stop.
        let signals = Signals::listen()?;
        announce(&running, demo);
        wait(signals, &running, &flags).await;
        tracing::info!("draining: telling the subscribers, at most {deadline:?}");
        if running.drain(deadline).await {
            tracing::info!("drained");
        } else {
            tracing::warn!("connections were still open after {deadline:?} and were cut");
        }
        Ok(())
    })
}

/// What people and supervisors say.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

fn announce(running: &Running, demo: bool) {
    let lines = [
        running.http().map(|address| format!("page and HTTP/1, h2c:          http://{address}/\n")),
        running.https().map(|address| format!("HTTP/1, 2, 3 and WebTransport: https://{address}/\n")),
        running.http().map(|address| {
            let token = if running.has_keys() { "-H \"Authorization: Bearer $FANWIRE_TOKEN\" " } else { "" };
            format!("publish: curl http://{address}/events {token}-d topic=hello -d data=world\n")
        }),
        running.metrics().map(|address| format!("metrics: http://{address}/metrics\n")),
        demo.then(|| "live input on host/… (--no-demo turns it off)\n".to_owned()),
    ];
    // At once, and come what may: that nobody reads it, as behind `| head -1`, is no reason not to serve.
    let text: String = lines.into_iter().flatten().collect();
    let mut out = std::io::stdout().lock();
    if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        tracing::debug!(%error, "nobody reads where the hub listens");
    }
}

/// Waits until the hub is to end. When it is told to hang up, it reads the configuration again.
async fn wait(signals: Signals, running: &Running, flags: &Layer) {
    let Signals { mut interrupt, mut terminate, mut hangup } = signals;
    loop {
        tokio::select! {
            _ = interrupt.recv() => return,
            _ = terminate.recv() => return,
            _ = hangup.recv() => match Config::load(flags.clone()) {
                Ok(config) => {
                    let closed = running.reload(&config).await;
                    tracing::info!(closed, "issuers, origins and certificates were read again; other keys need a restart");
                }
                Err(error) => tracing::error!("the configuration stays as it was: {error:#}"),
            },
        }
    }
}

/// A misspelt variable must not be silently nothing.
fn check_environment() -> Result<()> {
    let command = Cli::command();
    let all = command.get_arguments().chain(command.get_subcommands().flat_map(|sub| sub.get_arguments()));
    let known: Vec<_> = all.filter_map(|argument| argument.get_env()).collect();
    for (name, _) in std::env::vars_os() {
        let ours = name.to_str().is_some_and(|name| name.starts_with("FANWIRE_"));
        if ours && !known.contains(&name.as_os_str()) {
            bail!("the environment variable {} is unknown: see fanwire serve --help", name.display());
        }
    }
    Ok(())
}
