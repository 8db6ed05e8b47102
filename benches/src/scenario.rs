//! A scenario: who subscribes to what, and what is published.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::Path,
};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::{
    link::{self, Link, Links},
    load::{Kind, Pace, Topics},
    stamp::Stamp,
    way::Way,
};

/// A file in `benches/scenarios`. An unknown key is an error.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it is called.
    pub name: String,
    /// What it is about, in a few words.
    pub about: String,
    /// How many subscribers there are.
    pub subscribers: usize,
    /// How many of them connect at a time.
    #[serde(default = "at_once")]
    pub at_once: usize,
    /// Topics. Default: one.
    #[serde(default = "one")]
    pub topics: usize,
    /// How many of them a subscriber has. Default: one. In a storm those who stay have all, whatever this says, and the others one.
    #[serde(default = "one")]
    pub topics_per_subscriber: usize,
    /// Events a second, of all topics together; none: as fast as the slowest subscriber keeps up.
    pub rate: Option<f64>,
    /// Without a rate: how many events at most not every subscriber has.
    #[serde(default = "window")]
    pub window: u32,
    /// Events a request.
    #[serde(default = "one")]
    pub batch: usize,
    /// Bytes of data of an event.
    pub bytes: usize,
    /// For how long is measured, with a rate.
    #[serde(default)]
    pub seconds: f64,
    /// How many events are measured, without one.
    #[serde(default)]
    pub events: u32,
    /// How long the load runs before anything is measured; without a rate a tenth of the events.
    #[serde(default)]
    pub warm_up_seconds: f64,
    /// Instead of a time: so many events of a warm-up, a thousand a request, as fast as they go.
    #[serde(default)]
    pub warm_up_events: u32,
    /// How long subscribers are left alone before anything is published; memory is looked at then.
    #[serde(default)]
    pub idle_seconds: f64,
    /// Each topic has an event before anybody comes, and a subscriber begins with the newest of each of its topics.
    #[serde(default)]
    pub replay_latest: bool,
    /// Subscribers come, get one event and leave, so many times. Nothing else is published.
    pub connect_times: Option<u32>,
    /// Subscribers lose their connections, and come back.
    pub storm: Option<Storm>,
    /// Links between the hub and its subscribers on which it is measured; none: they are on loopback.
    pub links: Option<Links>,
    /// The one of them that it is measured on now.
    #[serde(skip_deserializing)]
    pub link: Option<Link>,
    /// Arguments of the hub.
    #[serde(default)]
    pub hub_arguments: Vec<String>,
    /// Ways that have no part in it.
    #[serde(default)]
    pub without: Vec<Way>,
}

/// Who is cut off, and when.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storm {
    /// How many stay. Latency is theirs.
    pub bystanders: usize,
    /// When the others are cut off, from the first measured event on.
    pub after_seconds: f64,
}

/// The scenarios that come with the program.
const OWN: [(&str, &str); 9] = [
    ("broadcast", include_str!("../scenarios/broadcast.toml")),
    ("saturated", include_str!("../scenarios/saturated.toml")),
    ("tokens", include_str!("../scenarios/tokens.toml")),
    ("dashboard", include_str!("../scenarios/dashboard.toml")),
    ("idle", include_str!("../scenarios/idle.toml")),
    ("connect", include_str!("../scenarios/connect.toml")),
    ("storm", include_str!("../scenarios/storm.toml")),
    ("lossy", include_str!("../scenarios/lossy.toml")),
    ("lossy-defaults", include_str!("../scenarios/lossy-defaults.toml")),
];

impl Scenario {
    /// Reads one that comes with the program, or a file.
    pub fn load(name: &str) -> Result<Self> {
        let text = match OWN.iter().find(|(own, _)| *own == name) {
            Some((_, text)) => (*text).to_owned(),
            None if name.contains(['/', '.']) => {
                std::fs::read_to_string(Path::new(name)).with_context(|| format!("the scenario {name}"))?
            }
            None => {
                anyhow::bail!("there is no scenario {name:?}: there are {}, and files", Self::own().join(", "));
            }
        };
        let scenario: Self = toml::from_str(&text).with_context(|| format!("the scenario {name}"))?;
        scenario.check().with_context(|| format!("the scenario {name}"))?;
        Ok(scenario)
    }

    /// The names of those that come with the program.
    pub fn own() -> Vec<&'static str> {
        OWN.iter().map(|(name, _)| *name).collect()
    }

    /// What doesn't go together.
    pub fn check(&self) -> Result<()> {
        ensure!(self.subscribers > 0, "it has no subscribers");
        ensure!(self.topics > 0 && self.batch > 0 && self.at_once > 0, "topics, batch and at_once are at least 1");
        ensure!(
            (1..=self.topics.min(100)).contains(&self.topics_per_subscriber),
            "a subscriber has from 1 to 100 topics, and no more than there are"
        );
        ensure!(self.bytes >= Stamp::BYTES, "an event has at least {} bytes", Stamp::BYTES);
        if let Some(Storm { bystanders, after_seconds }) = self.storm {
            ensure!(bystanders < self.subscribers, "somebody is cut off in a storm");
            ensure!(self.topics_per_subscriber == 1, "in a storm those who are cut off have one topic");
            ensure!(self.batch == 1, "a storm publishes events one by one, since each has an id");
            ensure!(after_seconds < self.seconds, "the storm comes before the end");
        }
        ensure!(
            self.connect_times != Some(0) && self.idle_seconds >= 0.0,
            "connect_times and idle_seconds are above 0"
        );
        ensure!(
            !self.replay_latest || self.storm.is_none() && self.connect_times.is_none(),
            "who begins with the newest events connects once"
        );
        if let Some(links) = &self.links {
            ensure!(self.storm.is_none() && self.connect_times.is_none(), "over links subscribers connect once");
            links.check()?;
        }
        if self.connect_times.is_some() {
            return Ok(());
        }
        match self.rate {
            Some(rate) => ensure!(rate > 0.0 && self.seconds > 0.0, "rate and seconds are above 0"),
            None => ensure!(self.events > 0 && self.window > 0, "without a rate it needs events"),
        }
        Ok(())
    }

    /// One for each of its links, or itself.
    pub fn each(self) -> Vec<Self> {
        let Some(links) = &self.links else { return vec![self] };
        links.each().into_iter().map(|link| Self { link: Some(link), ..self.clone() }).collect()
    }

    /// Where the server listens.
    pub fn address(&self) -> IpAddr {
        if self.link.is_some() { link::SERVER } else { Ipv4Addr::LOCALHOST.into() }
    }

    pub(crate) fn topics(&self) -> Topics {
        Topics { count: self.topics, per_subscriber: self.topics_per_subscriber }
    }

    pub(crate) fn pace(&self) -> Pace {
        self.rate.map_or(Pace::FlatOut(self.window), Pace::PerSecond)
    }

    pub(crate) fn kind(&self) -> Kind {
        match (self.connect_times, self.storm) {
            (Some(times), _) => Kind::Connect(times),
            (None, Some(Storm { bystanders, after_seconds })) => {
                Kind::Storm { bystanders, after_ms: (after_seconds * 1000.0) as u64 }
            }
            (None, None) => Kind::Feed,
        }
    }

    /// The same for a moment, with few: to see whether it is measured right, not what comes out.
    pub fn quick(mut self) -> Self {
        let before = self.subscribers;
        self.subscribers = (before / 20).clamp(10, 50);
        let smaller = self.subscribers as f64 / before as f64;
        if self.topics > 1 {
            self.topics = self.topics.min(self.subscribers);
            self.topics_per_subscriber = self.topics_per_subscriber.min(5);
            self.rate = self.rate.map(|rate| rate * smaller);
            self.batch = self.batch.min(10);
        }
        self.seconds = self.seconds.min(0.6);
        self.warm_up_seconds = self.warm_up_seconds.min(0.2);
        self.idle_seconds = self.idle_seconds.min(0.3);
        self.events = self.events.min(5_000);
        self.rate = self.rate.map(|rate| rate.max(20.0));
        self.connect_times = self.connect_times.map(|_| 2);
        self.links = self.links.map(|links| Links {
            loss_percent: links.loss_percent.into_iter().max_by(f64::total_cmp).into_iter().collect(),
            round_trip_ms: links.round_trip_ms.into_iter().min_by(f64::total_cmp).into_iter().collect(),
            tcp_congestion: links.tcp_congestion.into_iter().take(1).collect(),
            ..links
        });
        self.storm = self.storm.map(|_| Storm { bystanders: self.subscribers / 3, after_seconds: 0.2 });
        self
    }

    /// With so many subscribers; where each has a topic of its own, as many topics, at the same rate each.
    pub fn with_subscribers(mut self, subscribers: usize) -> Self {
        if self.topics == self.subscribers {
            self.rate = self.rate.map(|rate| rate / self.topics as f64 * subscribers as f64);
            self.topics = subscribers;
        }
        self.subscribers = subscribers;
        self
    }

    /// Events before anybody comes.
    pub(crate) fn before(&self) -> u32 {
        if self.replay_latest { self.topics as u32 } else { 0 }
    }

    /// Events of the warm-up and before it, and after it.
    pub(crate) fn events(&self) -> (u32, u32) {
        if self.connect_times.is_some() {
            return (0, 1);
        }
        match self.rate {
            Some(rate) => {
                let warm_up = (rate * self.warm_up_seconds).round() as u32;
                let warm_up = self.before() + self.warm_up_events.max(warm_up);
                (warm_up, (rate * self.seconds).round().max(1.0) as u32)
            }
            None => (self.before() + self.events / 10, self.events),
        }
    }
}

fn one() -> usize {
    1
}

fn at_once() -> usize {
    50
}

fn window() -> u32 {
    4_096
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_with_the_program_is_sound() {
        for name in Scenario::own() {
            let scenario = Scenario::load(name).unwrap();
            assert_eq!(scenario.name, name);
            scenario.quick().check().unwrap();
        }
        let message = format!("{:#}", Scenario::load("bradcost").unwrap_err());
        assert!(message.contains("broadcast"), "{message}");
    }

    #[test]
    fn a_misspelt_key_is_an_error() {
        let text = OWN[0].1.replace("subscribers", "subcribers");
        assert!(toml::from_str::<Scenario>(&text).unwrap_err().to_string().contains("subcribers"));
    }
}
