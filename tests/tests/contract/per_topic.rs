//! `delivery=per-topic`: each topic in order and exactly once, whatever the others do.

use std::collections::BTreeMap;

use fanwire::log::{Class, Retention};
use fanwire_client::{Choice, Connection, Feed, Item, Publication, Transport, Update};
use fanwire_protocol::{Matcher, Seq, message::ByeCode};
use fanwire_tests::{Story, TestHub, Way, soon};

use crate::slow::{EVENTS, publish_big};

const TOPICS: usize = 40;

/// What came of each topic, in order.
#[derive(Default)]
struct Told(BTreeMap<String, Vec<usize>>);

impl Told {
    fn take(&mut self, item: &Item) -> bool {
        let Item::Event(event) = item else { return false };
        let draft = &event.event.draft;
        let number = std::str::from_utf8(draft.data.bytes()).unwrap().parse().unwrap();
        self.0.entry(draft.canonical().as_str().to_owned()).or_default().push(number);
        true
    }

    fn count(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// Each topic has every number that was published on it, once and in order.
    fn check(&self, rounds: usize) {
        for topic in 0..TOPICS {
            let expected: Vec<usize> = (0..rounds).map(|round| round * TOPICS + topic).collect();
            assert_eq!(self.0[&format!("topic/{topic}")], expected, "topic/{topic}");
        }
    }
}

async fn publish(hub: &TestHub, rounds: std::ops::Range<usize>) {
    for number in rounds.start * TOPICS..rounds.end * TOPICS {
        hub.publish_numbers(&format!("topic/{}", number % TOPICS), number..number + 1).await;
    }
}

#[tokio::test]
async fn each_topic_comes_in_order_and_the_cursor_is_complete() {
    let hub = TestHub::start();
    let mut options = Way::PerTopic.options(&hub).topic("*").unwrap();
    options.heartbeat = Some(std::time::Duration::from_millis(100));
    let mut feed = Way::PerTopic.connect(&options).await;
    assert!(matches!(soon(feed.next()).await.unwrap(), Item::Hello(_)));
    let mut told = Told::default();
    let (mut seen, mut cursors) = (vec![], 0);
    let read = async {
        while told.count() < 50 * TOPICS {
            let item = soon(feed.next()).await.unwrap();
            if told.take(&item) {
                let Item::Event(event) = &item else { unreachable!() };
                seen.push(event.event.seq());
            }
            let cursor = feed.cursor().unwrap().seq;
            cursors += usize::from(seen.iter().filter(|seq| **seq <= cursor).count() as u64 == cursor.0);
        }
    };
    tokio::join!(read, publish(&hub, 0..50));
    told.check(50);
    assert!(cursors >= 50 * TOPICS, "nothing up to the cursor is missing, ever");
    while soon(feed.next()).await.is_ok_and(|item| !matches!(item, Item::Ping(ping) if ping.watermark.seq.0 == 2_000)) {
    }
    assert_eq!(feed.cursor().unwrap().seq, Seq(2_000));
}

#[tokio::test]
async fn a_feed_that_is_cut_again_and_again_brings_each_event_once() {
    let hub = TestHub::start();
    let options = Way::PerTopic.options(&hub).topic("*").unwrap();
    let mut feed = Feed::new(Choice::Only(Transport::WebTransport), options);
    let mut told = Told::default();
    loop {
        if let Update::Item(Item::Hello(_)) = soon(feed.next()).await.unwrap() {
            break;
        }
    }
    let read = async {
        let mut cuts = 0;
        while told.count() < 100 * TOPICS {
            if let Update::Item(item) = soon(feed.next()).await.unwrap() {
                assert!(!matches!(item, Item::Gap(_)), "{item:?}");
                told.take(&item);
            }
            if told.count() / (20 * TOPICS) > cuts
                && let Some(quic) = feed.connection().and_then(Connection::quic)
            {
                cuts += 1;
                quic.close(0u8.into(), b"");
            }
        }
        cuts
    };
    let (cuts, ()) = tokio::join!(read, publish(&hub, 0..100));
    assert!(cuts >= 3, "{cuts}");
    told.check(100);
}

#[tokio::test]
async fn history_comes_the_same_way_and_a_change_after_what_is_before_it() {
    let hub = TestHub::start();
    publish(&hub, 0..30).await;
    let mut feed = Way::PerTopic.resume(&hub, &["*"], "earliest").await;
    let mut told = Told::default();
    while told.count() < 30 * TOPICS {
        told.take(&soon(feed.next()).await.unwrap());
    }
    told.check(30);
    let control = feed.control().unwrap();
    let (from, ()) = tokio::join!(
        async { soon(control.unsubscribe(&[Matcher::Any])).await.unwrap() },
        hub.publish_numbers("topic/0", 5_000..5_100)
    );
    let changed = loop {
        match soon(feed.next()).await.unwrap() {
            Item::Changed(changed) => break changed,
            Item::Event(event) => assert!(event.event.seq() <= from),
            _ => {}
        }
    };
    assert_eq!(changed.from_seq, from.0);
    assert!(feed.cursor().unwrap().seq <= from, "and everything up to there has come");
}

#[tokio::test]
async fn a_bye_that_waits_is_read_though_the_session_has_closed() {
    let hub = TestHub::start();
    let mut feed = Way::PerTopic.subscribe(&hub, &["*"]).await;
    publish(&hub, 0..1).await;
    let quic = feed.quic().unwrap().clone();
    let drained = tokio::spawn(hub.into_running().drain(std::time::Duration::from_secs(10)));
    soon(quic.closed()).await;
    let bye = loop {
        match soon(feed.next()).await.unwrap() {
            Item::Bye(bye) => break bye,
            item => assert!(matches!(item, Item::Event(_)), "{item:?}"),
        }
    };
    assert_eq!(bye.code, ByeCode::Drain as u32);
    assert!(soon(drained).await.unwrap());
}

#[tokio::test]
async fn a_slow_reader_that_lost_history_is_told_which() {
    let hub = TestHub::with(|config| {
        config.retention = Retention::new(vec![], Class { bytes_max: 2 << 20, ..Class::default() });
    });
    let mut slow = Way::PerTopic.subscribe(&hub, &["big"]).await;
    let first = slow.cursor().unwrap().seq.0;
    publish_big(&hub, EVENTS).await;
    let last = hub.publish(&Publication::text("big", "last")).await.cursor.unwrap().seq;
    let mut story = Story::default();
    while slow.cursor().unwrap().seq < last {
        match soon(slow.next()).await.unwrap() {
            Item::Event(event) => story.events.push(event.event),
            Item::Gap(gap) => story.gaps.push(gap),
            _ => {}
        }
    }
    assert!(!story.gaps.is_empty(), "40 MB went by, and 2 are kept");
    story.check_gaps(first, last.0);
}
