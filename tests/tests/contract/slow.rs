//! Readers that are slow: they hurt nobody, cost little, and miss nothing that is kept.

use std::time::Duration;

use fanwire::log::{Class, Retention};
use fanwire_client::{Item, Publication, ReceiveError};
use fanwire_tests::{Story, TestHub, Way, soon};

use crate::on_every_way;

on_every_way!(
    a_slow_reader_is_caught_up_from_the_log_and_slows_nobody,
    a_slow_reader_that_lost_history_is_told_which,
    a_reader_that_never_reads_is_cut_off,
);
on_every_way!(@way per_topic PerTopic [
    a_slow_reader_is_caught_up_from_the_log_and_slows_nobody,
    a_reader_that_never_reads_is_cut_off
]);

on_every_way!(@way datagram Datagram [a_reader_that_never_reads_is_cut_off]);

/// More than sockets and windows hold.
pub(crate) const EVENTS: usize = 700;
const EVENT_BYTES: usize = 60_000;

async fn a_slow_reader_is_caught_up_from_the_log_and_slows_nobody(way: Way) {
    let hub = TestHub::with(|config| {
        config.retention = Retention::new(vec![], Class { bytes_max: 100 << 20, ..Class::default() });
    });
    let mut slow = way.subscribe(&hub, &["big"]).await;
    let mut quick = way.subscribe(&hub, &["big"]).await;
    let (quick_story, ()) = tokio::join!(Story::read(&mut quick, EVENTS), publish_big(&hub, EVENTS));
    check_big(&quick_story, EVENTS);
    // Only now the slow one reads.
    let slow_story = Story::read(&mut slow, EVENTS).await;
    check_big(&slow_story, EVENTS);
    assert_eq!(slow_story.gaps, []);
}

async fn a_slow_reader_that_lost_history_is_told_which(way: Way) {
    let hub = TestHub::with(|config| {
        config.retention = Retention::new(vec![], Class { bytes_max: 2 << 20, ..Class::default() });
    });
    let mut slow = way.subscribe(&hub, &["big"]).await;
    let first = slow.cursor().unwrap().seq.0;
    publish_big(&hub, EVENTS).await;
    hub.publish(&Publication::text("big", "last")).await;
    let mut story = Story::default();
    while story.events.last().is_none_or(|event| event.draft.data.bytes() != "last") {
        let count = story.events.len() + 1;
        story.read_more(&mut slow, count).await;
    }
    assert!(!story.gaps.is_empty(), "40 MB went by, and 2 are kept");
    let last = story.events.last().unwrap().seq().0;
    story.check_gaps(first, last);
}

async fn a_reader_that_never_reads_is_cut_off(way: Way) {
    let hub = TestHub::with(|config| config.feed_limits.stalled_ms_max = 300);
    let mut feed = way.subscribe(&hub, &["big"]).await;
    publish_big(&hub, EVENTS).await;
    let hub_view = hub.running().hub().clone();
    soon(async {
        while hub_view.subscribers() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    // What was on its way is still there to be read; then it ends.
    let end = loop {
        match soon(feed.next()).await {
            Ok(Item::Bye(bye)) => break Ok(bye.code),
            Ok(_) => {}
            Err(error) => break Err(error),
        }
    };
    assert!(!matches!(end, Err(ReceiveError::Order { .. } | ReceiveError::Skipped { .. })), "{end:?}");
}

pub(crate) async fn publish_big(hub: &TestHub, count: usize) {
    let mut publisher = hub.publisher();
    for number in 0..count {
        let text = format!("{number:0>EVENT_BYTES$}");
        soon(publisher.publish(&Publication::text("big", text)))
            .await
            .expect("a slow reader never slows the publisher");
    }
}

fn check_big(story: &Story, count: usize) {
    assert_eq!(story.events.len(), count);
    for (number, event) in story.events.iter().enumerate() {
        assert!(event.draft.data.bytes() == format!("{number:0>EVENT_BYTES$}").as_bytes(), "event {number}");
    }
}
