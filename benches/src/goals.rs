//! What Fanwire is meant to reach, measured by one command and written down.

mod part;
mod results;

use std::{net::Ipv4Addr, path::PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use fanwire_bench::{
    contest::{self, Contestant, Hub, Series, Turn, Watcher},
    plot::{self, OverLink},
    scenario::Scenario,
    server::Server,
    table::ratios,
    way::Way,
    wire,
};

use crate::{
    peers::Kind,
    publish::{self, Load},
};
use part::{Goal, Part, Row};

#[derive(Debug, Args)]
pub(crate) struct Goals {
    /// Rounds of what is compared by ratios; what takes long has fewer
    #[arg(long, value_name = "COUNT", default_value_t = 4)]
    rounds: usize,

    /// Only these parts
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    only: Vec<Part>,

    /// The hub's binary [default: the fanwire beside this one]
    #[arg(long, value_name = "FILE")]
    hub: Option<PathBuf>,

    /// Where the results go, in Markdown
    #[arg(long, value_name = "FILE", default_value = "benches/RESULTS.md")]
    results: PathBuf,

    /// Where the picture goes; the one of lossy links goes beside it
    #[arg(long, value_name = "FILE", default_value = "benches/transports.svg")]
    picture: PathBuf,
}

/// What was measured so far.
struct Run {
    hub: PathBuf,
    program: PathBuf,
    rounds: usize,
    rows: Vec<Row>,
    tables: Vec<(Scenario, usize, Vec<Series>)>,
    picture: Option<String>,
    /// Links that lose packets, TCP with the congestion control that QUIC has.
    over_links: Vec<OverLink>,
    /// The same with the system's own congestion control.
    over_links_by_default: Vec<OverLink>,
}

impl Goals {
    pub(crate) fn run(self) -> Result<()> {
        wire::isolate();
        let hub = match self.hub {
            Some(hub) => hub,
            None => crate::hub_beside_this_one()?,
        };
        anyhow::ensure!(hub.exists(), "there is no hub at {}; build it with the same profile first", hub.display());
        let program = std::env::current_exe().context("this program's own file")?;
        let (rows, tables) = (Vec::new(), Vec::new());
        let mut run = Run {
            hub,
            program,
            rounds: self.rounds.max(1),
            rows,
            tables,
            picture: None,
            over_links: Vec::new(),
            over_links_by_default: Vec::new(),
        };
        for part in Part::ALL {
            if !self.only.is_empty() && !self.only.contains(&part) {
                run.rows.push(Row::failed(part, "not in this run".to_owned()));
                continue;
            }
            let begun = std::time::Instant::now();
            eprintln!("{part}");
            if let Err(error) = run.part(part) {
                // The others are still worth knowing.
                run.rows.push(Row::failed(part, format!("{error:#}")));
            }
            eprintln!("{part}: {} s", begun.elapsed().as_secs());
        }
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let text = results::markdown(&arguments.join(" "), &run);
        println!("{text}");
        std::fs::write(&self.results, text).with_context(|| format!("--results {}", self.results.display()))?;
        if let Some(picture) = run.picture {
            std::fs::write(&self.picture, picture).with_context(|| format!("--picture {}", self.picture.display()))?;
        }
        if let Some(picture) = plot::lossy(&run.over_links) {
            let file = self.picture.with_file_name("lossy.svg");
            std::fs::write(&file, picture).with_context(|| format!("the picture {}", file.display()))?;
        }
        Ok(())
    }
}

impl Run {
    fn part(&mut self, part: Part) -> Result<()> {
        match part {
            Part::Broadcast => self.broadcast(),
            Part::Saturated => self.saturated(),
            Part::Idle => self.idle(),
            Part::Connect => self.connect(),
            Part::Scale => self.scale(),
            Part::Storm => self.storm(),
            Part::Topics => self.topics(),
            Part::Publish => self.publish(),
            Part::Lossy => {
                self.over_links = self.over_links("lossy")?;
                Ok(())
            }
            Part::LossyDefaults => {
                self.over_links_by_default = self.over_links("lossy-defaults")?;
                Ok(())
            }
        }
    }

    /// Peers that this machine has, and ways of the hub; those that nobody knows are left out.
    fn contestants(&self, peers: &[Kind], ways: &[&str]) -> Vec<Box<dyn Contestant>> {
        let installed = Kind::installed();
        let peers = peers.iter().filter(|kind| installed.contains(kind)).map(|kind| Box::new(*kind) as _);
        let ways = ways.iter().filter_map(|name| name.parse().ok());
        peers.chain(ways.map(|way| self.hub(way))).collect()
    }

    fn hub(&self, way: Way) -> Box<dyn Contestant> {
        Box::new(Hub { binary: self.hub.clone(), label: None, way, arguments: Vec::new() })
    }

    fn contest(&mut self, scenario: Scenario, peers: &[Kind], ways: &[&str], rounds: usize) -> Result<Vec<Series>> {
        let contestants = self.contestants(peers, ways);
        let all = contest::run(&self.program, &scenario, &contestants, rounds, &mut Lines)?;
        self.tables.push((scenario, rounds, all.clone()));
        Ok(all)
    }

    fn broadcast(&mut self) -> Result<()> {
        let mut scenario = Scenario::load("broadcast")?;
        scenario.seconds = 4.0;
        let peers = [
            Kind::SendLoop,
            Kind::SendLoopThreads,
            Kind::SendLoopTls,
            Kind::SendLoopH2,
            Kind::UdpLoop,
            Kind::QuinnProto,
            Kind::QuinnProtoDatagram,
            Kind::Nchan,
            Kind::Axum,
            Kind::Quinn,
            Kind::QuinnDatagram,
        ];
        let ways = [
            "sse-h1",
            "sse-h1-tls",
            "sse-h2",
            "sse-h3",
            "webtransport",
            "webtransport-per-topic",
            "webtransport-datagram",
        ];
        let all = self.contest(scenario, &peers, &ways, self.rounds)?;
        let cpu: &dyn Fn(&Turn) -> Option<f64> = &Turn::cpu_us;
        let p99: &dyn Fn(&Turn) -> Option<f64> = &|turn| turn.outcome.latency.quantile_ms(0.99);
        let (none, threads, tls, frames) =
            (None, Some("send-loop-threads"), Some("send-loop-tls"), Some("send-loop-h2"));
        let (stream, datagram) = (Some("quinn-proto"), Some("quinn-proto-datagram"));
        for (what, one, other, floor, measure, most) in [
            ("SSE h1 in the clear, CPU per delivery, over the send loop", "sse-h1", "send-loop", threads, cpu, 1.1),
            ("the same over nchan", "sse-h1", "nchan", none, cpu, 0.65),
            ("its p99 latency over nchan's", "sse-h1", "nchan", none, p99, 0.75),
            ("SSE h1 with TLS, CPU per delivery, over the send loop", "sse-h1-tls", "send-loop", tls, cpu, 1.35),
            ("SSE h2 with TLS, the same", "sse-h2", "send-loop", frames, cpu, 1.6),
            ("WebTransport, ordered, the same", "webtransport", "send-loop", stream, cpu, 2.2),
            ("WebTransport, datagrams, over the UDP loop", "webtransport-datagram", "udp-loop", datagram, cpu, 1.15),
        ] {
            self.compare(&all, what, (one, other, floor), measure, Goal::AtMost(most));
        }
        self.picture = Some(plot::cpu_and_latency(&all));
        Ok(())
    }

    fn saturated(&mut self) -> Result<()> {
        let peers = [Kind::AxumBatched, Kind::AxumBatchedIds, Kind::QuinnProto, Kind::Quinn];
        let all =
            self.contest(Scenario::load("saturated")?, &peers, &["sse-h1", "webtransport"], self.rounds.min(3))?;
        let rate: &dyn Fn(&Turn) -> Option<f64> = &|turn| (turn.wrong() == 0).then(|| turn.per_second());
        for (what, pair) in [
            ("saturated, deliveries a second, SSE h1 over axum with batches", ("sse-h1", "axum-batched", None)),
            ("the same over axum with batches and ids", ("sse-h1", "axum-batched-ids", None)),
            ("the same, WebTransport over plain quinn with batches", ("webtransport", "quinn", Some("quinn-proto"))),
        ] {
            self.compare(&all, what, pair, rate, Goal::AtLeast(1.0));
        }
        Ok(())
    }

    fn idle(&mut self) -> Result<()> {
        let scenario = Scenario::load("idle")?;
        let subscribers = scenario.subscribers as f64;
        let peers = [Kind::QuinnProto, Kind::Quinn];
        let all = self.contest(scenario, &peers, &["sse-h1", "sse-h1-tls", "webtransport"], 2)?;
        let each = |name: &str| values(&all, name, &|turn| Some(turn.resident_kib? / subscribers));
        let floors =
            format!("quinn-proto {}, plain quinn {}", part::told(&each("quinn-proto")), part::told(&each("quinn")));
        for (name, most, figures) in
            [("sse-h1", 5.0, ""), ("sse-h1-tls", 16.0, ""), ("webtransport", 36.0, floors.as_str())]
        {
            let what = format!("resident KiB of an idle subscriber, {name}");
            self.rows.push(Row::new(what, Goal::AtMost(most), each(name), figures.to_owned()));
        }
        Ok(())
    }

    fn connect(&mut self) -> Result<()> {
        let all = self.contest(Scenario::load("connect")?, &[Kind::Quinn], &["sse-h1", "webtransport"], 3)?;
        let p99: &dyn Fn(&Turn) -> Option<f64> = &|turn| turn.outcome.first_event.quantile_ms(0.99);
        let figures = format!("plain quinn {}", part::told(&values(&all, "quinn", p99)));
        let what = "50 at once, WebTransport, from nothing to the first event, p99 ms";
        self.rows.push(Row::new(what, Goal::AtMost(100.0), values(&all, "webtransport", p99), figures));
        Ok(())
    }

    fn scale(&mut self) -> Result<()> {
        for (subscribers, way) in [(19_000, "sse-h1"), (50_000, "webtransport")] {
            let mut scenario = Scenario::load("broadcast")?.with_subscribers(subscribers);
            scenario.name = "scale".to_owned();
            scenario.about = "an event every five seconds to everybody in one process".to_owned();
            (scenario.rate, scenario.seconds, scenario.warm_up_seconds) = (Some(0.2), 15.0, 0.0);
            scenario.at_once = 200;
            let limits = ["--connections-max", "--connections-per-address-max", "--subscribers-per-client-max"];
            scenario.hub_arguments =
                limits.into_iter().flat_map(|limit| [limit.to_owned(), "60000".to_owned()]).collect();
            let what = format!("{subscribers} subscribers at once over {way}, deliveries lost");
            // One that fails is no reason to leave the other out.
            match self.contest(scenario, &[], &[way], 1) {
                Ok(all) => {
                    let last = part::told(&values(&all, way, &|turn| turn.outcome.latency.quantile_ms(1.0)));
                    let memory = values(&all, way, &|turn| Some(turn.resident_kib? / subscribers as f64));
                    let figures = format!("the last has an event after {last} ms; {} KiB each", part::told(&memory));
                    let lost = values(&all, way, &|turn| Some(turn.wrong() as f64));
                    self.rows.push(Row::new(what, Goal::AtMost(0.0), lost, figures));
                }
                Err(error) => self.rows.push(Row::new(what, Goal::AtMost(0.0), Vec::new(), format!("{error:#}"))),
            }
        }
        Ok(())
    }

    /// No goal of its own, but what a user has to know who chooses.
    fn over_links(&self, scenario: &str) -> Result<Vec<OverLink>> {
        let scenario = Scenario::load(scenario)?;
        let mut measured = Vec::new();
        let contestants: Vec<Box<dyn Contestant>> =
            Way::HUB.into_iter().filter(|way| !scenario.without.contains(way)).map(|way| self.hub(way)).collect();
        for scenario in scenario.each() {
            let Some(link) = scenario.link.clone() else { continue };
            eprintln!("  {}", link.about());
            let all =
                contest::run(&self.program, &scenario, &contestants, self.rounds.min(LOSSY_ROUNDS_MAX), &mut Lines)?;
            measured.push((link, all));
        }
        Ok(measured)
    }

    fn storm(&mut self) -> Result<()> {
        let mut scenario = Scenario::load("storm")?.with_subscribers(10_000);
        scenario.at_once = 200;
        // Four a second for everybody, and forty for those who stay.
        (scenario.topics, scenario.rate, scenario.seconds) = (10, Some(40.0), 16.0);
        let all = self.contest(scenario, &[], &["sse-h1", "webtransport"], 1)?;
        for way in ["sse-h1", "webtransport"] {
            let ratio = values(&all, way, &|turn| {
                let (before, meanwhile) = turn.around_the_storm()?;
                Some(meanwhile.quantile_ms(0.99)? / before.quantile_ms(0.99)?)
            });
            let back = part::told(&values(&all, way, &|turn| turn.outcome.recovery.quantile_ms(1.0)));
            let wrong = part::told(&values(&all, way, &|turn| Some(turn.wrong() as f64)));
            let figures = format!("the last is back after {back} ms; lost or doubled: {wrong}");
            let what = format!("10,000 come back over {way}: p99 of those who stayed, over before");
            self.rows.push(Row::new(what, Goal::AtMost(3.0), ratio, figures));
        }
        Ok(())
    }

    /// Neighbours in time, though they are two scenarios.
    fn topics(&mut self) -> Result<()> {
        let mut few = Scenario::load("broadcast")?.with_subscribers(1);
        few.about = "one subscriber of one topic".to_owned();
        few.name = "few topics".to_owned();
        (few.rate, few.seconds) = (Some(1_000.0), 4.0);
        let mut many = few.clone().with_subscribers(1_000);
        many.name = "many topics".to_owned();
        many.about = "100,000 topics, each with one of 1,000 subscribers, 100,000 matchers in all".to_owned();
        (many.topics, many.topics_per_subscriber, many.rate) = (100_000, 100, few.rate);
        many.warm_up_events = 100_000;
        many.hub_arguments = ["--history-events-max", "300000"].map(str::to_owned).to_vec();
        let (mut one, mut all) = (Vec::new(), Vec::new());
        for round in 0..self.rounds.min(3) {
            for (scenario, into) in [(&few, &mut one), (&many, &mut all)] {
                let hub = [self.hub(Way::SseH1)];
                let mut series = contest::run(&self.program, scenario, &hub, 1, &mut Lines)?;
                series[0].turns[0].round = round;
                match into.first_mut() {
                    None => into.extend(series),
                    Some(Series { turns, .. }) => turns.append(&mut series[0].turns),
                }
            }
        }
        for (what, measure) in [
            (
                "100,000 topics and matchers: CPU of an event to one subscriber, over an empty hub",
                &Turn::cpu_us as &dyn Fn(&Turn) -> Option<f64>,
            ),
            ("the same, p50 latency", &|turn| turn.outcome.latency.quantile_ms(0.5)),
        ] {
            let figures = format!(
                "{} and {}",
                part::told(&values(&all, "sse-h1", measure)),
                part::told(&values(&one, "sse-h1", measure))
            );
            self.rows.push(Row::new(what, Goal::AtMost(1.5), ratios(&all[0], &one[0], measure), figures));
        }
        self.tables.push((few, one[0].turns.len(), one));
        self.tables.push((many, all[0].turns.len(), all));
        Ok(())
    }

    fn publish(&mut self) -> Result<()> {
        let (mut ratio, mut batches, mut ours, mut bare) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let single = Load { publishers: 16, batch: 1 };
        for _ in 0..self.rounds.min(3) {
            let (_peer, feed) = Kind::Hyper.started()?;
            bare.push(publish::rate(&feed, single, PUBLISH_SECONDS)?);
            let (hub, addresses) = Server::hub(&self.hub, Ipv4Addr::LOCALHOST.into(), &[])?;
            let url = format!("{}/events", addresses.http);
            ours.push(publish::rate(&url, single, PUBLISH_SECONDS)?);
            batches.push(publish::rate(&url, Load { publishers: 4, batch: 500 }, PUBLISH_SECONDS)?);
            drop(hub);
            ratio.push(ours[ours.len() - 1] / bare[bare.len() - 1]);
        }
        let figures = format!("{} and {} a second", part::told(&ours), part::told(&bare));
        let what = "publish over HTTP/1.1, log in memory, over bare hyper answering the same POST";
        self.rows.push(Row::new(what, Goal::AtLeast(0.8), ratio, figures));
        let what = "publish in NDJSON batches of 500, events a second";
        self.rows.push(Row::new(what, Goal::AtLeast(400_000.0), batches, String::new()));
        Ok(())
    }

    /// `floor`: what the ratio would be of something that does less than the hub has to.
    fn compare(
        &mut self,
        all: &[Series],
        what: &str,
        (one, other, floor): (&str, &str, Option<&str>),
        measure: &dyn Fn(&Turn) -> Option<f64>,
        goal: Goal,
    ) {
        let find = |name: &str| all.iter().find(|series| series.name == name);
        let row = match (find(one), find(other)) {
            (Some(first), Some(second)) => {
                let (mine, theirs) = (values(all, one, measure), values(all, other, measure));
                let mut figures = format!("{} and {}", part::told(&mine), part::told(&theirs));
                let floor = floor.and_then(find);
                let floors = floor.map(|floor| ratios(floor, second, measure)).unwrap_or_default();
                if let Some(floor) = floor {
                    let over = part::told(&ratios(first, floor, measure));
                    figures.push_str(&format!("; {} {}, {over} × of which", floor.name, part::told(&floors)));
                }
                Row::beside_a_floor(what, goal, ratios(first, second, measure), &floors, figures)
            }
            (first, _) => {
                let missing = if first.is_none() { one } else { other };
                Row::new(what, goal, Vec::new(), format!("{missing} isn't there"))
            }
        };
        self.rows.push(row);
    }
}

fn values(all: &[Series], name: &str, measure: &dyn Fn(&Turn) -> Option<f64>) -> Vec<f64> {
    all.iter().filter(|series| series.name == name).flat_map(|series| series.turns.iter().filter_map(measure)).collect()
}

/// A line a turn, for whoever waits.
struct Lines;

impl Watcher for Lines {
    fn turn(&mut self, round: usize, contestant: &str) {
        eprintln!("  round {}, {contestant}", round + 1);
    }

    fn deliveries(&mut self, _: u64, _: u64) {}
}

const PUBLISH_SECONDS: f64 = 3.0;
/// Eight links with all ways take some seven minutes a round.
const LOSSY_ROUNDS_MAX: usize = 1;
