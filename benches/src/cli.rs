//! `fanwire bench`: the command line, the same in the hub's binary and in this crate's own.

use std::{
    io::IsTerminal as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    contest::{self, Contestant, Elsewhere, Hub, Series, Turn, Watcher},
    link::Link,
    load::{Access, Kind},
    report::{self, Contest},
    scenario::Scenario,
    table,
    way::Way,
    wire,
};

/// Measure transports side by side, the same load on each, in turns
#[derive(Debug, Args)]
pub struct Bench {
    /// The events of a running hub, like http://localhost:8080/events, to which bench/0 and so on are published [default: a hub of
    /// its own for each turn]
    #[arg(value_name = "URL")]
    url: Option<url::Url>,

    /// What to measure: broadcast, saturated, tokens, dashboard, idle, connect, storm, lossy, lossy-defaults, or a file; may be repeated
    #[arg(long, short, value_name = "SCENARIO", default_values_t = ["broadcast".to_owned()])]
    scenario: Vec<String>,

    /// Only these ways: sse-h1, sse-h1-tls, sse-h2c, sse-h2, sse-h3, webtransport, webtransport-per-topic, webtransport-datagram
    #[arg(long, short, value_name = "WAY", value_delimiter = ',')]
    transport: Vec<Way>,

    /// How many rounds; each measures everything once, in turns
    #[arg(long, value_name = "COUNT", default_value_t = 3)]
    rounds: usize,

    /// Subscribers, instead of the scenario's
    #[arg(long, value_name = "COUNT")]
    subscribers: Option<usize>,

    /// Events a second, instead of the scenario's
    #[arg(long, value_name = "RATE")]
    rate: Option<f64>,

    /// Bytes of data of an event, instead of the scenario's
    #[arg(long, value_name = "BYTES")]
    bytes: Option<usize>,

    /// For how long to measure, instead of the scenario's
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<f64>,

    /// Another hub's binary, to compare; may be repeated [default: this one]
    #[arg(long, value_name = "[NAME=]FILE", conflicts_with = "url")]
    hub: Vec<String>,

    /// An argument of the hubs, like --hub-argument=--shards=1; may be repeated
    #[arg(long, value_name = "ARGUMENT", conflicts_with = "url", allow_hyphen_values = true)]
    hub_argument: Vec<String>,

    /// Every scenario for a moment, with few subscribers, and an error if anything is lost: to see whether all works, not how fast
    #[arg(long, conflicts_with_all = ["scenario", "rounds", "subscribers", "rate", "bytes", "seconds"])]
    quick: bool,

    /// Of a running hub: take any certificate, as is done on this machine anyway
    #[arg(long, requires = "url")]
    insecure: bool,

    /// The access token for a running hub; better as a variable than as a flag, which others can see
    #[arg(long, env = "FANWIRE_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<fanwire_client::Token>,

    /// Write everything that was measured, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Write a report with plots, a page that needs nothing else
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

impl Bench {
    /// Runs it and prints the tables. `hub`: the binary that is meant where none is named. `peers`: who else takes part in a scenario.
    pub fn run(self, hub: &Path, peers: &dyn Fn(&Scenario) -> Vec<Box<dyn Contestant>>) -> Result<()> {
        let rounds = if self.quick { 1 } else { self.rounds };
        ensure!(rounds > 0, "--rounds is at least 1");
        if self.url.is_none() {
            wire::isolate();
        }
        let program = std::env::current_exe().context("this program's own file")?;
        let names = if self.quick { Scenario::own() } else { self.scenario.iter().map(String::as_str).collect() };
        let (mut results, mut wrong) = (Vec::new(), 0);
        for name in names {
            let scenario = self.scenario(name)?;
            if scenario.links.is_some() {
                ensure!(self.url.is_none(), "the scenario {name} has links of its own: it goes without a URL");
                if let (Some(why), true) = (Link::impossible(), self.quick) {
                    println!("SKIPPED: {name}: {why}");
                    continue;
                }
            }
            let mut contestants = peers(&scenario);
            contestants.extend(self.hubs(hub, &scenario)?);
            println!("## {}: {}\n", scenario.name, scenario.about);
            let scenarios = scenario.each();
            let mut bar = Bar::new(rounds * contestants.len() * scenarios.len());
            let mut over_links = Vec::new();
            for scenario in scenarios {
                let all = contest::run(&program, &scenario, &contestants, rounds, &mut bar)?;
                bar.0.suspend(|| {
                    println!("{}", describe(&scenario, rounds));
                    println!("{}", table::markdown(&scenario, &all));
                });
                for (series, contestant) in all.iter().zip(&contestants) {
                    complain(series);
                    if contestant.is_lossless() {
                        wrong += series.turns.iter().map(Turn::wrong).sum::<u64>();
                    }
                }
                over_links.extend(scenario.link.clone().map(|link| (link, all.clone())));
                results.push(Contest { scenario, rounds, series: all });
            }
            drop(bar);
            if over_links.len() > 1 {
                println!("p99 latency in ms, and what the links lost of what the hub sent:\n");
                println!("{}", table::aligned(&table::over_links(&over_links)));
            }
        }
        if let Some(file) = &self.json {
            let all: Vec<_> = results
                .iter()
                .map(|contest| serde_json::json!({ "scenario": contest.scenario, "series": contest.series }))
                .collect();
            std::fs::write(file, serde_json::to_vec(&all)?).with_context(|| format!("--json {}", file.display()))?;
        }
        if let Some(file) = &self.html {
            std::fs::write(file, report::html(&results)).with_context(|| format!("--html {}", file.display()))?;
        }
        ensure!(
            !self.quick || wrong == 0,
            "{wrong} deliveries were lost, came twice or weren't asked for, or feeds ended"
        );
        Ok(())
    }

    fn scenario(&self, name: &str) -> Result<Scenario> {
        let mut scenario = Scenario::load(name)?;
        if self.quick {
            scenario = scenario.quick();
        }
        if let Some(subscribers) = self.subscribers {
            scenario = scenario.with_subscribers(subscribers);
        }
        if self.rate.is_some() {
            scenario.rate = self.rate;
        }
        if let Some(bytes) = self.bytes {
            scenario.bytes = bytes;
        }
        if let Some(seconds) = self.seconds {
            scenario.seconds = seconds;
        }
        scenario.check()?;
        Ok(scenario)
    }

    /// Nobody is in between on this machine.
    fn access(&self, url: &url::Url) -> Access {
        let local = match url.host() {
            Some(url::Host::Domain(name)) => name == "localhost",
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        let token = self.token.as_ref().map(|token| token.as_str().to_owned());
        Access { token, insecure: self.insecure || local }
    }

    fn hubs(&self, own: &Path, scenario: &Scenario) -> Result<Vec<Box<dyn Contestant>>> {
        let wanted = |way: &Way| match &*self.transport {
            // One of each kind shows whether a scenario works.
            [] if self.quick && scenario.name != "broadcast" => matches!(way, Way::SseH1 | Way::WebTransport),
            [] => !scenario.without.contains(way),
            chosen => chosen.contains(way),
        };
        let ways: Vec<Way> = Way::HUB.into_iter().filter(wanted).collect();
        for way in &ways {
            let waits = scenario.kind() == Kind::Feed && scenario.rate.is_none();
            ensure!(!waits || way.is_lossless(), "{way} may lose what the publisher of {} waits for", scenario.name);
        }
        if let Some(url) = &self.url {
            let access = self.access(url);
            let (http, https) = sides(url, &access)?;
            let there = |way: &Way| if way.is_secure() { https.is_some() } else { http.is_some() };
            return Ok(ways
                .into_iter()
                .filter(there)
                .map(|way| {
                    Box::new(Elsewhere { http: http.clone(), https: https.clone(), access: access.clone(), way }) as _
                })
                .collect());
        }
        let hubs: Vec<(Option<String>, PathBuf)> = if self.hub.is_empty() {
            vec![(None, own.to_owned())]
        } else {
            self.hub.iter().map(|hub| named(hub, self.hub.len())).collect()
        };
        for (_, binary) in &hubs {
            ensure!(binary.exists(), "there is no hub at {}; build it with the same profile first", binary.display());
        }
        // Those that differ in the binary only are neighbours in time.
        let pairs = ways.into_iter().flat_map(|way| hubs.iter().map(move |hub| (way, hub)));
        Ok(pairs
            .map(|(way, (label, binary))| {
                let (label, binary, arguments) = (label.clone(), binary.clone(), self.hub_argument.clone());
                Box::new(Hub { binary, label, way, arguments }) as _
            })
            .collect())
    }
}

fn named(hub: &str, count: usize) -> (Option<String>, PathBuf) {
    match hub.split_once('=') {
        Some((name, file)) => (Some(name.to_owned()), file.into()),
        None => ((count > 1).then(|| hub.to_owned()), hub.into()),
    }
}

/// Where a running hub is, in the clear and with TLS: the one that was given, and the one that it says itself.
fn sides(url: &url::Url, access: &Access) -> Result<(Option<url::Url>, Option<url::Url>)> {
    let options = access.options(url.as_str())?;
    if url.scheme() == "https" {
        return Ok((None, Some(options.url)));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let offer = runtime.block_on(fanwire_client::discover(&options))?;
    Ok((Some(options.url), offer.webtransport.map(|side| side.url)))
}

/// What a scenario does, in a line.
pub fn describe(scenario: &Scenario, rounds: usize) -> String {
    let Scenario { subscribers, bytes, topics, topics_per_subscriber, .. } = scenario;
    let mut said = format!("{subscribers} subscribers");
    if *topics > 1 && scenario.storm.is_some() {
        said.push_str(&format!(", {topics} topics for those who stay, the first of them for the others"));
    } else if *topics > 1 {
        said.push_str(&format!(", {topics} topics, {topics_per_subscriber} for each"));
    }
    match (scenario.connect_times, scenario.rate) {
        (Some(times), _) => said.push_str(&format!(", {times} times")),
        (None, Some(rate)) => said.push_str(&format!(", {rate} events a second for {} s", scenario.seconds)),
        (None, None) => said.push_str(&format!(", {} events as fast as they go", scenario.events)),
    }
    let rounds =
        if rounds == 1 { "One round".to_owned() } else { format!("Medians of {rounds} rounds (lowest–highest)") };
    if let Some(link) = &scenario.link {
        said.push_str(&format!(", over a link with {}", link.about()));
    }
    format!("{said}, {bytes} bytes each. {rounds}.\n")
}

fn complain(series: &Series) {
    for turn in &series.turns {
        if turn.outcome.ended > 0 {
            println!("{}, round {}: {} feeds ended by themselves", series.name, turn.round + 1, turn.outcome.ended);
        }
        for line in turn.complaints.iter().take(3) {
            println!("{}, round {}: {line}", series.name, turn.round + 1);
        }
    }
}

/// How far it is, on standard error where that is a terminal.
struct Bar(ProgressBar);

impl Bar {
    fn new(turns: usize) -> Self {
        let bar = if std::io::stderr().is_terminal() { ProgressBar::new(turns as u64) } else { ProgressBar::hidden() };
        bar.set_style(ProgressStyle::with_template(BAR).expect("a template of our own").progress_chars("━╸─"));
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }
}

impl Watcher for Bar {
    fn turn(&mut self, round: usize, contestant: &str) {
        if self.0.message() != "" {
            self.0.inc(1);
        }
        self.0.set_message(format!("round {}, {contestant}", round + 1));
    }

    fn deliveries(&mut self, so_far: u64, of: u64) {
        self.0.set_prefix(format!("{:.0} %", so_far as f64 / of.max(1) as f64 * 100.0));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

const BAR: &str = "{bar:30} {pos}/{len} turns, {msg} {prefix}, {elapsed}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_names_what_can_be_measured() {
        let help = Bench::augment_args(clap::Command::new("bench")).term_width(1000).render_long_help().to_string();
        for name in Scenario::own().into_iter().chain(Way::HUB.into_iter().map(Way::name)) {
            assert!(help.contains(&format!(" {name},")) || help.contains(&format!(" {name}\n")), "{name} in {help}");
        }
    }
}
