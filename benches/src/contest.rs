//! A contest: the same load on one server after the other, in turns, round after round.
//!
//! A, B, C, A, B, C, …: what the machine does meanwhile hits all of them alike, and ratios are of neighbours in time.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::{
    latency::Times,
    link,
    load::{self, Access, Job, Outcome, Publish, Report, Style},
    scenario::Scenario,
    server::Server,
    way::Way,
    wire,
};

/// One of those that are compared.
pub trait Contestant {
    /// Its name in tables.
    fn name(&self) -> String;
    /// How its subscribers connect.
    fn way(&self) -> Way;
    /// What it is beside the others.
    fn role(&self) -> Role;
    /// Whether every subscriber is meant to get every event, so that a loss is a fault of the bench or of the hub.
    fn is_lossless(&self) -> bool {
        self.way().is_lossless()
    }
    /// Starts it for one turn.
    fn start(&self, scenario: &Scenario) -> Result<Started>;
}

/// What a contestant is beside the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Fanwire.
    Hub,
    /// Somebody else's server that could be used instead.
    Peer,
    /// What does less than any server has to.
    Floor,
}

/// A contestant that runs.
pub struct Started {
    /// Its process; none if it isn't ours.
    pub server: Option<Server>,
    /// The URL of its feed, without topics.
    pub feed: String,
    /// What it asks for, and what it shows.
    pub access: Access,
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
    /// Who is let in, and to whom.
    pub access: Access,
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
    /// The server's time on a processor for each second in which nothing happened; none if it isn't ours, or there was no such time.
    pub idle_cpu: Option<f64>,
    /// Bytes in packets of any kind, with their headers, while it was measured; none if others use the network as well.
    pub wire_bytes: Option<u64>,
    /// What went over the link while it was measured; none if there was none.
    pub link: Option<link::Counts>,
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
    /// What it is beside the others.
    pub role: Role,
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

    /// What was on the wire for a delivery, in bytes.
    pub fn wire_bytes(&self) -> Option<f64> {
        Some(self.wire_bytes? as f64 / self.outcome.measured.max(1) as f64)
    }

    /// The latency of those who stay in a storm, before it and while the others come back.
    pub fn around_the_storm(&self) -> Option<(Times, Times)> {
        let Outcome { timeline, recovery, cut_slice, .. } = &self.outcome;
        let lasted = (recovery.quantile_ms(1.0)? / load::SLICE_MS as f64).ceil() as usize;
        let (before, after) = timeline.split_at_checked(*cut_slice)?;
        Some((Times::merge(before), Times::merge(after.iter().take(lasted.max(1)))))
    }

    /// What should be nothing: deliveries that were lost, came again or weren't asked for, and feeds that ended.
    pub fn wrong(&self) -> u64 {
        let Outcome { duplicates, strays, ended, .. } = self.outcome;
        self.outcome.lost() + duplicates + strays + ended
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

/// Runs every contestant once a round. `program`: this one, which is started again to be the load.
pub fn run(
    program: &Path,
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
            role: contestant.role(),
            subscribers: scenario.subscribers,
            turns: Vec::new(),
        })
        .collect();
    for round in 0..rounds {
        for (contestant, series) in contestants.iter().zip(&mut all) {
            watcher.turn(round, &series.name);
            let turn = turn(program, scenario, &**contestant, round, watcher);
            series.turns.push(turn.with_context(|| format!("{}, {}", scenario.name, series.name))?);
        }
    }
    Ok(all)
}

fn turn(
    program: &Path,
    scenario: &Scenario,
    contestant: &dyn Contestant,
    round: usize,
    watcher: &mut dyn Watcher,
) -> Result<Turn> {
    // The same packets are lost for all in a round, as far as they send the same.
    let mut link = scenario.link.as_ref().map(|link| link.start(program, round as u64 + 1)).transpose()?;
    let started = contestant.start(scenario)?;
    let usage = || started.server.as_ref().map(Server::usage).transpose();
    let (warm_up, events) = scenario.events();
    let job = Job {
        way: contestant.way(),
        feed: started.feed.clone(),
        kind: scenario.kind(),
        access: started.access.clone(),
        subscribers: scenario.subscribers,
        at_once: scenario.at_once,
        threads: 1,
        topics: scenario.topics(),
        network: link.as_ref().map(link::Running::subscribers),
        publish: Publish {
            url: started.publish.clone(),
            style: started.style,
            bytes: scenario.bytes,
            batch: scenario.batch,
            pace: scenario.pace(),
            before: scenario.before(),
            warm_up,
            warm_up_batch: if scenario.warm_up_events > 0 { WARM_UP_BATCH } else { 0 },
            events,
        },
    };
    let before = usage()?;
    let mut load = Load::start(program, &job)?;
    let Report::Connected(mut connect) = load.next()? else { bail!("the load said something else than expected") };
    let (mut idle_cpu, mut resident) = (None, None);
    if scenario.idle_seconds > 0.0 {
        let from = usage()?;
        pause(Duration::from_secs_f64(scenario.idle_seconds));
        resident = usage()?;
        idle_cpu = from.zip(resident).map(|(from, to)| (to.cpu_seconds - from.cpu_seconds) / scenario.idle_seconds);
    }
    load.say(load::PUBLISH)?;
    let (mut measuring, mut wire_from, mut link_from) = (None, None, None);
    let outcome = loop {
        match load.next()? {
            Report::Measuring => {
                (measuring, wire_from) = (usage()?, wire::bytes());
                link_from = link.as_mut().map(link::Running::counts).transpose()?;
            }
            Report::Progress(so_far, of) => watcher.deliveries(so_far, of),
            Report::Done(outcome) => break *outcome,
            Report::Connected(_) => bail!("the load connected twice"),
        }
    };
    let (after, wire_to) = (usage()?, wire::bytes());
    let link_to = link.as_mut().map(link::Running::counts).transpose()?;
    let over_link = link_from.zip(link_to).map(|(from, to)| to.since(&from));
    load.end()?;
    if outcome.connect.count() > 0 {
        connect = outcome.connect.clone();
    }
    Ok(Turn {
        round,
        connect,
        outcome,
        cpu_seconds: measuring.zip(after).map(|(from, to)| to.cpu_seconds - from.cpu_seconds),
        resident_kib: before
            .zip(resident.or(after))
            .map(|(from, to)| to.resident_kib as f64 - from.resident_kib as f64),
        idle_cpu,
        // Publishing is on loopback then, and doesn't count.
        wire_bytes: over_link
            .map_or_else(|| wire_from.zip(wire_to).map(|(from, to)| to - from), |over| Some(over.bytes())),
        link: over_link,
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
    fn start(program: &Path, job: &Job) -> Result<Self> {
        let mut child = Command::new(program)
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

    fn role(&self) -> Role {
        Role::Hub
    }

    fn start(&self, scenario: &Scenario) -> Result<Started> {
        let arguments: Vec<String> = scenario.hub_arguments.iter().chain(&self.arguments).cloned().collect();
        let (server, addresses) = Server::hub(&self.binary, scenario.address(), &arguments)?;
        let base = if self.way.is_secure() { &addresses.https } else { &addresses.http };
        Ok(Started {
            server: Some(server),
            access: Access { token: None, insecure: true },
            feed: format!("{base}/events"),
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

    fn role(&self) -> Role {
        Role::Hub
    }

    fn start(&self, _: &Scenario) -> Result<Started> {
        let side = if self.way.is_secure() { &self.https } else { &self.http };
        let feed = side.as_ref().with_context(|| format!("the hub has no address for {}", self.way))?;
        let publish = self.http.as_ref().or(self.https.as_ref()).context("the hub has no address")?;
        Ok(Started {
            server: None,
            access: self.access.clone(),
            feed: feed.to_string(),
            publish: publish.to_string(),
            style: Style::Fanwire,
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "nothing else runs in this process meanwhile")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

const WARM_UP_BATCH: usize = 1_000;
/// The hidden command that makes a program the load.
pub const LOAD: &str = "bench-load";
