//! A scenario: who subscribes to what, and what is published.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::{
    load::{Pace, Topics},
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
    /// How many of them a subscriber has. Default: one.
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
    /// Arguments of the hub.
    #[serde(default)]
    pub hub_arguments: Vec<String>,
    /// Ways that have no part in it.
    #[serde(default)]
    pub without: Vec<Way>,
}

/// The scenarios that come with the program.
const OWN: [(&str, &str); 1] = [("broadcast", include_str!("../scenarios/broadcast.toml"))];

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
        match self.rate {
            Some(rate) => ensure!(rate > 0.0 && self.seconds > 0.0, "rate and seconds are above 0"),
            None => ensure!(self.events > 0 && self.window > 0, "without a rate it needs events"),
        }
        Ok(())
    }

    pub(crate) fn topics(&self) -> Topics {
        Topics { count: self.topics, per_subscriber: self.topics_per_subscriber }
    }

    pub(crate) fn pace(&self) -> Pace {
        self.rate.map_or(Pace::FlatOut(self.window), Pace::PerSecond)
    }

    /// Events of the warm-up, and after it.
    pub(crate) fn events(&self) -> (u32, u32) {
        match self.rate {
            Some(rate) => ((rate * self.warm_up_seconds).round() as u32, (rate * self.seconds).round().max(1.0) as u32),
            None => (self.events / 10, self.events),
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
