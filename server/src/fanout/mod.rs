//! Drives the pure [`core::Shard`](crate::core::Shard)s: one single-threaded runtime per core, each with its own feeds.
//!
//! A connection is given to a shard when it is accepted and lives there; all that it shares with others is in the same thread, so
//! there is no lock and no wake-up per subscriber and event across threads. The log's tail reaches each shard once.

mod feed;
mod feeds;
mod shard;

use std::{
    io,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::{core, log::SharedLog, subscriptions::Subscriptions, telemetry::Metrics};

use feeds::{COMMANDS_MAX, Command};

pub use feed::Feed;
pub use feeds::{Feeds, Gate};
pub use shard::{Counted, LocalShard};

/// Every shard of a hub.
#[derive(Debug)]
pub struct Shards {
    shards: Vec<Remote>,
    drain: CancellationToken,
}

/// How to make shards.
#[derive(Debug, Clone)]
pub struct Config {
    /// How many; each has a thread of its own.
    pub count: usize,
    /// What each allows.
    pub limits: core::Limits,
    /// Over how long the feeds of a drain are asked to come back, in milliseconds.
    pub drain_spread_ms: u64,
    /// Who is told of feeds that come and go.
    pub subscriptions: Option<Arc<Subscriptions>>,
}

#[derive(Debug)]
struct Remote {
    jobs: mpsc::Sender<(Job, Counted)>,
    commands: mpsc::Sender<Command>,
    connections: Arc<AtomicUsize>,
    /// None once it was joined.
    thread: Option<JoinHandle<()>>,
    /// None once it was seen to be done.
    done: Option<oneshot::Receiver<()>>,
    stop: CancellationToken,
}

type Job = Box<dyn FnOnce(Rc<LocalShard>, Counted) + Send>;

impl Shards {
    /// Starts the threads.
    pub fn start(
        config: &Config,
        log: &SharedLog,
        gate: &Gate,
        metrics: &Metrics,
        mut entropy: impl FnMut() -> u64,
    ) -> io::Result<Self> {
        let drain = CancellationToken::new();
        let shards = (0..config.count.max(1))
            .map(|index| {
                let (jobs, inbox) = mpsc::channel(JOBS_MAX);
                let (commands, commanded) = mpsc::channel(COMMANDS_MAX);
                let (finished, done) = oneshot::channel();
                let (connections, stop) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
                let setup = shard::Setup {
                    log: log.clone(),
                    gate: gate.clone(),
                    counters: metrics.shard(),
                    subscriptions: config.subscriptions.clone(),
                    tail: log.tail(),
                    limits: config.limits,
                    seed: entropy(),
                    drain: drain.clone(),
                    drain_spread_ms: config.drain_spread_ms,
                    stop: stop.clone(),
                };
                let thread = std::thread::Builder::new().name(format!("shard-{index}")).spawn(move || {
                    shard::run(setup, inbox, commanded);
                    let _ = finished.send(());
                })?;
                Ok(Remote { jobs, commands, connections, thread: Some(thread), done: Some(done), stop })
            })
            .collect::<io::Result<_>>()?;
        Ok(Self { shards, drain })
    }

    /// Gives a connection to the shard with the fewest: `serve` is called there. Waits while the shard has too many to begin with.
    pub async fn deal(&self, serve: impl FnOnce(Rc<LocalShard>, Counted) + Send + 'static) {
        let fewest = self.shards.iter().min_by_key(|shard| shard.connections.load(Ordering::Relaxed));
        if let Some(shard) = fewest {
            // A shard that is gone takes nothing; that is a shutdown.
            let counted = Counted::new(shard.connections.clone());
            let _ = shard.jobs.send((Box::new(serve), counted)).await;
        }
    }

    /// Reaches every feed, for as long as there are shards.
    pub fn feeds(&self) -> Feeds {
        Feeds::new(self.shards.iter().map(|shard| shard.commands.clone()))
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.shards.iter().map(|shard| shard.connections.load(Ordering::Relaxed)).sum()
    }

    /// Tells every subscriber, and waits until the connections have ended by themselves. False if they haven't by the deadline.
    pub async fn drain(&mut self, deadline: Duration) -> bool {
        self.drain.cancel();
        let ended = async {
            for shard in &mut self.shards {
                shard.wait().await;
            }
        };
        tokio::time::timeout(deadline, ended).await.is_ok()
    }

    /// Ends what is left, and waits for the threads.
    pub async fn stop(self) {
        for mut shard in self.shards {
            shard.stop.cancel();
            shard.wait().await;
            if shard.thread.take().is_some_and(|thread| thread.join().is_err()) {
                tracing::error!("a shard has panicked");
            }
        }
    }
}

impl Drop for Remote {
    /// A hub that is dropped without a drain ends, too.
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Remote {
    async fn wait(&mut self) {
        if let Some(done) = &mut self.done {
            // An error means that the thread has panicked, and is as good.
            let _ = done.await;
            self.done = None;
        }
    }
}

/// The most connections that wait for a shard to begin with them.
const JOBS_MAX: usize = 1024;
