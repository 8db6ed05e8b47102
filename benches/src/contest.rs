//! A contest: the same load on one server after the other, in turns, round after round.
//!
//! A, B, C, A, B, C, …: what the machine does meanwhile hits all of them alike, and ratios are of neighbours in time.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::{
    latency::Times,
    load::{self, Job, Outcome, Publish, Report, Style},
    scenario::Scenario,
    server::Server,
    way::Way,
};

/// One of those that are compared.
pub trait Contestant {
    /// Its name in tables.
    fn name(&self) -> String;
    /// How its subscribers connect.
    fn way(&self) -> Way;
    /// Starts it for one turn.
    fn start(&self, scenario: &Scenario) -> Result<Started>;
}

/// A contestant that runs.
pub struct Started {
    /// Its process; none if it isn't ours.
    pub server: Option<Server>,
    /// The URL of its feed, without topics.
    pub feed: String,
    /// See [`Job::topic_query`].
    pub topic_query: String,
    /// Where events are posted.
    pub publish: String,
    /// In what words.
    pub style: Style,
}

/// A hub of ours, on one way.
#[derive(Debug, Clone)]
pub struct Hub {
    /// The binary, and what to call it if there are several.
    pub binary: PathBuf,
    /// Comes before the way in the name.
    pub label: Option<String>,
    /// The way.
    pub way: Way,
    /// Arguments besides the scenario's.
    pub arguments: Vec<String>,
}

/// A hub that runs somewhere.
#[derive(Debug, Clone)]
pub struct Elsewhere {
    /// Its `/events`.
    pub http: Option<url::Url>,
    /// The same over TLS and QUIC.
    pub https: Option<url::Url>,
    /// The way.
    pub way: Way,
}

/// One turn.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Turn {
    /// Counts from 0.
    pub round: usize,
    /// How long each subscriber took to connect.
    pub connect: Times,
    /// What the load saw.
    pub outcome: Outcome,
    /// The server's time on a processor while it was measured; none if it isn't ours.
    pub cpu_seconds: Option<f64>,
    /// How much its resident memory rose from before the first connection to the end; none if it isn't ours.
    pub resident_kib: Option<f64>,
    /// What it complained of.
    pub complaints: Vec<String>,
}

/// All turns of one contestant.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Series {
    /// Its name.
    pub name: String,
    /// Its way.
    pub way: Way,
    /// How many subscribers it had.
    pub subscribers: usize,
    /// A turn a round.
    pub turns: Vec<Turn>,
}

impl Turn {
    /// The server's time on a processor for a delivery, in microseconds.
    pub fn cpu_us(&self) -> Option<f64> {
        Some(self.cpu_seconds? / self.outcome.measured.max(1) as f64 * 1e6)
    }

    /// Deliveries a second.
    pub fn per_second(&self) -> f64 {
        self.outcome.measured as f64 / self.outcome.seconds.max(1e-9)
    }
}

/// What is told while it runs.
pub trait Watcher {
    /// A turn begins.
    fn turn(&mut self, round: usize, contestant: &str);
    /// Its deliveries so far, of all.
    fn deliveries(&mut self, so_far: u64, of: u64);
}

/// Runs every contestant once a round. `own_load`: how this program is told to be the load.
pub fn run(
    scenario: &Scenario,
    contestants: &[Box<dyn Contestant>],
    rounds: usize,
    watcher: &mut dyn Watcher,
) -> Result<Vec<Series>> {
    let mut all: Vec<Series> = contestants
        .iter()
        .map(|contestant| Series {
            name: contestant.name(),
            way: contestant.way(),
            subscribers: scenario.subscribers,
            turns: Vec::new(),
        })
        .collect();
    for round in 0..rounds {
        for (contestant, series) in contestants.iter().zip(&mut all) {
            watcher.turn(round, &series.name);
            let turn = turn(scenario, &**contestant, round, watcher);
            series.turns.push(turn.with_context(|| format!("{}, {}", scenario.name, series.name))?);
        }
    }
    Ok(all)
}

fn turn(scenario: &Scenario, contestant: &dyn Contestant, round: usize, watcher: &mut dyn Watcher) -> Result<Turn> {
    let started = contestant.start(scenario)?;
    let usage = || started.server.as_ref().map(Server::usage).transpose();
    let (warm_up, events) = scenario.events();
    let job = Job {
        way: contestant.way(),
        feed: started.feed.clone(),
        topic_query: started.topic_query.clone(),
        subscribers: scenario.subscribers,
        at_once: scenario.at_once,
        threads: 1,
        topics: scenario.topics(),
        publish: Publish {
            url: started.publish.clone(),
            style: started.style,
            bytes: scenario.bytes,
            batch: scenario.batch,
            pace: scenario.pace(),
            warm_up,
            events,
        },
    };
    let before = usage()?;
    let mut load = Load::start(&job)?;
    let Report::Connected(connect) = load.next()? else { bail!("the load said something else than expected") };
    load.say(load::PUBLISH)?;
    let mut measuring = None;
    let outcome = loop {
        match load.next()? {
            Report::Measuring => measuring = usage()?,
            Report::Progress(so_far, of) => watcher.deliveries(so_far, of),
            Report::Done(outcome) => break *outcome,
            Report::Connected(_) => bail!("the load connected twice"),
        }
    };
    let after = usage()?;
    load.end()?;
    let between = |from: Option<_>| from.zip(after);
    Ok(Turn {
        round,
        connect,
        outcome,
        cpu_seconds: between(measuring)
            .map(|(from, to): (crate::server::Usage, crate::server::Usage)| to.cpu_seconds - from.cpu_seconds),
        resident_kib: between(before).map(|(from, to)| to.resident_kib as f64 - from.resident_kib as f64),
        complaints: started.server.as_ref().map(Server::complaints).unwrap_or_default(),
    })
}

/// The load's process.
struct Load {
    child: Child,
    tell: Option<ChildStdin>,
    hear: std::io::Lines<BufReader<ChildStdout>>,
}

impl Load {
    fn start(job: &Job) -> Result<Self> {
        let program = std::env::current_exe().context("this program's own file")?;
        let mut child = Command::new(&program)
            .arg(LOAD)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("can't run {}", program.display()))?;
        let tell = child.stdin.take();
        let hear = BufReader::new(child.stdout.take().context("piped")?).lines();
        let mut load = Self { child, tell, hear };
        load.say(&serde_json::to_string(job)?)?;
        Ok(load)
    }

    fn say(&mut self, line: &str) -> Result<()> {
        let tell = self.tell.as_mut().context("the load is at its end")?;
        writeln!(tell, "{line}").and_then(|()| tell.flush()).context("the load has ended: see what it said above")
    }

    fn next(&mut self) -> Result<Report> {
        let line = self.hear.next().transpose()?.context("the load has ended: see what it said above")?;
        serde_json::from_str(&line).with_context(|| format!("the load said {line:?}"))
    }

    fn end(mut self) -> Result<()> {
        self.tell = None;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Contestant for Hub {
    fn name(&self) -> String {
        match &self.label {
            Some(label) => format!("{label} {}", self.way),
            None => self.way.name().to_owned(),
        }
    }

    fn way(&self) -> Way {
        self.way
    }

    fn start(&self, scenario: &Scenario) -> Result<Started> {
        let arguments: Vec<String> = scenario.hub_arguments.iter().chain(&self.arguments).cloned().collect();
        let (server, addresses) = Server::hub(&self.binary, &arguments)?;
        let base = if self.way.is_secure() { &addresses.https } else { &addresses.http };
        Ok(Started {
            server: Some(server),
            feed: format!("{base}/events"),
            topic_query: TOPIC_QUERY.to_owned(),
            publish: format!("{}/events", addresses.http),
            style: Style::Fanwire,
        })
    }
}

impl Contestant for Elsewhere {
    fn name(&self) -> String {
        self.way.name().to_owned()
    }

    fn way(&self) -> Way {
        self.way
    }

    fn start(&self, _: &Scenario) -> Result<Started> {
        let side = if self.way.is_secure() { &self.https } else { &self.http };
        let feed = side.as_ref().with_context(|| format!("the hub has no address for {}", self.way))?;
        let publish = self.http.as_ref().or(self.https.as_ref()).context("the hub has no address")?;
        Ok(Started {
            server: None,
            feed: feed.to_string(),
            topic_query: TOPIC_QUERY.to_owned(),
            publish: publish.to_string(),
            style: Style::Fanwire,
        })
    }
}

/// The hidden command that makes a program the load.
pub const LOAD: &str = "bench-load";
const TOPIC_QUERY: &str = "topic={}";
