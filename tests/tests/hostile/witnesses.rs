//! Well-behaved subscribers on every way, beside whom the others misbehave.

use std::time::Duration;

use fanwire::{config::Config, hub::Publication, telemetry::Limit};
use fanwire_client::Connection;
use fanwire_protocol::{Data, Draft, Topic};
use fanwire_tests::{Story, TestHub, Way, panics, watch_for_panics};

use crate::apart::is_apart;

pub(crate) struct Witnesses {
    pub(crate) hub: TestHub,
    feeds: Vec<(Way, Connection, Story)>,
    published: usize,
}

impl Witnesses {
    /// A hub with a subscriber on each way.
    pub(crate) async fn gather() -> Self {
        Self::with(|_| ()).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        watch_for_panics();
        let hub = TestHub::with(change);
        let mut feeds = vec![];
        for way in Way::EVERY {
            feeds.push((way, way.subscribe(&hub, &[TOPIC]).await, Story::default()));
        }
        Self { hub, feeds, published: 0 }
    }

    /// The same for a test that measures memory: in a process of its own. None where it has run there, and passed.
    pub(crate) async fn apart(change: impl FnOnce(&mut Config)) -> Option<Self> {
        if is_apart() { Some(Self::with(change).await) } else { None }
    }

    /// Everybody gets what is published now.
    pub(crate) async fn served(&mut self) {
        let next = self.published;
        self.hub.publish_numbers(TOPIC, next..next + 3).await;
        self.published += 3;
        for (way, feed, story) in &mut self.feeds {
            if *way == Way::Datagram {
                continue;
            }
            story.read_more(feed, self.published).await;
            assert_eq!(story.numbers(), (0..self.published).collect::<Vec<_>>(), "{way:?}");
            assert_eq!(story.gaps, [], "{way:?}");
        }
        self.the_newest_comes_in_a_datagram().await;
    }

    /// Older ones may have been let go of, and a datagram may be lost, so that the next one is the newest.
    async fn the_newest_comes_in_a_datagram(&mut self) {
        let of_datagrams = self.feeds.iter_mut().find(|(way, ..)| *way == Way::Datagram);
        let (_, feed, story) = of_datagrams.expect("there is one");
        let mut patience = 100;
        while story.numbers().last() != Some(&(self.published - 1)) {
            let more = tokio::time::timeout(LOST, story.read_more(feed, story.events.len() + 1));
            if more.await.is_err() {
                patience -= 1;
                assert!(patience > 0, "datagrams come no more");
                self.hub.publish_numbers(TOPIC, self.published..self.published + 1).await;
                self.published += 1;
            }
        }
        let numbers = story.numbers();
        assert!(numbers.is_sorted_by(|one, next| one < next), "in datagrams: {numbers:?}");
    }

    /// Everybody is served, newcomers too, and nothing is left of anybody else.
    pub(crate) async fn alone(&mut self) {
        self.served().await;
        for way in Way::EVERY {
            let mut newcomer = way.resume(&self.hub, &[TOPIC], "earliest").await;
            let story = Story::read(&mut newcomer, self.published).await;
            assert_eq!(story.numbers(), (0..self.published).collect::<Vec<_>>(), "{way:?}");
            newcomer.close().await;
        }
        let all = self.feeds.len();
        self.until(|hub| hub.running().hub().subscribers() == all && hub.running().connections() == all).await;
        self.served().await;
        assert_eq!(panics(), [] as [&str; 0]);
    }

    /// Waits for something about the hub to become true.
    pub(crate) async fn until(&self, is: impl Fn(&TestHub) -> bool) {
        let becomes = async {
            while !is(&self.hub) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let running = self.hub.running();
        if tokio::time::timeout(PATIENCE, becomes).await.is_err() {
            let (subscribers, connections) = (running.hub().subscribers(), running.connections());
            panic!("{subscribers} subscribers and {connections} connections are left");
        }
    }

    /// Publishes 8 MiB on a topic.
    pub(crate) async fn publish_big(&self, topic: &str) {
        for _ in 0..128 {
            let draft = Draft::new(vec![Topic::new(topic).unwrap()], Data::text(&"x".repeat(64 * 1024))).unwrap();
            self.hub.running().hub().publish("", vec![Publication { draft, key: None }]).await.unwrap();
        }
    }

    /// How often the hub has come to a limit.
    pub(crate) fn reached(&self, limit: Limit) -> u64 {
        self.hub.running().hub().metrics().times_reached(limit)
    }

    /// How many they are.
    pub(crate) fn count(&self) -> usize {
        self.feeds.len()
    }
}

/// When a datagram that hasn't come is taken for lost.
const LOST: Duration = Duration::from_millis(500);
const TOPIC: &str = "witness";
const PATIENCE: Duration = Duration::from_secs(15);
