//! A hub on a disk of its own, with subscribers on every way that must not notice what happens to the disk.

use std::time::Duration;

use fanwire_client::{Choice, HttpVersion, Publisher};
use fanwire_protocol::{Cursor, LastEventId};
use fanwire_tests::{HubProcess, Manner, Mount, Recorder, Way, checker::Keeps};

pub(crate) struct Watched {
    pub(crate) hub: HubProcess,
    pub(crate) recorder: Recorder,
    publisher: Publisher,
    number: usize,
    newcomers: usize,
}

impl Watched {
    pub(crate) async fn start(mount: &Mount) -> Self {
        let hub = HubProcess::start(&mount.path().join("data"), &["--history-bytes-max", "1GB"]);
        let publisher = Publisher::new(hub.options(Way::SseH1), HttpVersion::H1);
        let mut watched = Self { hub, recorder: Recorder::default(), publisher, number: 0, newcomers: 0 };
        watched.newcomers("at first");
        watched.recorder.all_connected().await;
        watched.publish(100).await.expect("the disk is well");
        watched
    }

    /// One more subscriber on each way, of everything that there is.
    pub(crate) fn newcomers(&mut self, when: &str) {
        for way in Way::ALL {
            let options = self.hub.options(way).topic("t").unwrap().last_event_id(LastEventId::Earliest);
            self.recorder.follow(&format!("{way:?}, who came {when}"), Choice::Only(way.transport()), options);
        }
        self.newcomers += 1;
    }

    /// Publishes an event of so many bytes; where it is, if it was acknowledged.
    pub(crate) async fn publish(&mut self, bytes: usize) -> Option<Cursor> {
        let text = format!("{} {}", self.number, "x".repeat(bytes));
        self.number += 1;
        self.recorder.publish(&mut self.publisher, Manner::Single, "t", &[text]).await[0]
    }

    /// Publishes until the hub refuses.
    pub(crate) async fn publish_until_refused(&mut self, bytes: usize) {
        for _ in 0..20_000 {
            if self.publish(bytes).await.is_none() {
                return;
            }
        }
        panic!("the disk never gets full");
    }

    /// The hub refuses for its log, again and again, and everybody stays connected and can come, and gets what is stored.
    pub(crate) async fn is_in_trouble(&mut self, bytes: usize) {
        for _ in 0..5 {
            assert_eq!(self.publish(bytes).await, None);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(self.recorder.refusals(), ["log_unavailable"]);
        self.newcomers("in trouble");
        self.recorder.all_connected().await;
        self.recorder.all_reach(self.recorder.newest().expect("something was acknowledged")).await;
        assert_eq!(self.recorder.reconnects(), 0, "feeds go on");
    }

    /// The hub takes events again, by itself.
    pub(crate) async fn recovers(&mut self) {
        let begin = tokio::time::Instant::now();
        while self.publish(100).await.is_none() {
            assert!(begin.elapsed() < Duration::from_secs(10), "the hub doesn't come back: {:#?}", self.hub.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.settled().await;
    }

    /// Everybody has everything, and nobody was disturbed.
    pub(crate) async fn settled(&mut self) {
        let last = self.publish(10).await.expect("the disk is well");
        self.recorder.all_reach(last).await;
        assert_eq!(self.recorder.reconnects(), 0, "feeds go on");
        self.recorder.history(Keeps::Everything, Some(last)).assert_kept();
    }

    /// The hub is killed and comes back, and everything is there.
    pub(crate) async fn crashes(&mut self) {
        self.hub.crash();
        self.hub.again();
        self.newcomers("after a crash");
        let last = self.publish(10).await.expect("the disk is well");
        self.recorder.all_reach(last).await;
        self.recorder.history(Keeps::Everything, Some(last)).assert_kept();
    }
}
