//! Coming back: nothing lost, nothing twice, and loss told.

use fanwire::log::{Class, Retention};
use fanwire_client::{Connection, Item, Publication};
use fanwire_protocol::message::{GapReason, Verdict};
use fanwire_tests::{Story, TestHub, Way, soon};

use crate::on_every_way;

on_every_way!(
    a_cursor_resumes_exactly,
    a_cursor_is_good_on_every_other_transport,
    an_id_stands_for_its_first_use,
    earliest_gives_what_is_kept_and_no_gap,
    what_was_evicted_is_a_gap,
    a_cursor_of_another_log_is_told,
    a_position_that_nobody_knows_is_told,
    history_joins_the_live_feed_without_a_seam,
    the_newest_of_each_topic_comes_first,
    the_newest_that_may_be_seen_stands_for_its_topic,
    a_cursor_wins_over_the_newest,
    the_newest_of_too_many_topics_is_a_gap,
);

async fn a_cursor_resumes_exactly(way: Way) {
    let hub = TestHub::start();
    let mut feed = way.subscribe(&hub, &["numbers"]).await;
    hub.publish_numbers("numbers", 0..100).await;
    let story = Story::read(&mut feed, 40).await;
    let cursor = story.events.last().unwrap().cursor;
    feed.close().await;
    hub.publish_numbers("numbers", 100..200).await;
    let mut feed = way.resume(&hub, &["numbers"], &cursor.to_string()).await;
    let story = Story::read(&mut feed, 160).await;
    assert_eq!(story.numbers(), (40..200).collect::<Vec<_>>());
    let hello = story.hello.unwrap();
    assert_eq!((hello.verdict, hello.cursor, story.gaps), (Verdict::Resumed, cursor, vec![]));
}

async fn a_cursor_is_good_on_every_other_transport(way: Way) {
    let hub = TestHub::start();
    let mut feed = way.subscribe(&hub, &["numbers"]).await;
    hub.publish_numbers("numbers", 0..10).await;
    let cursor = Story::read(&mut feed, 5).await.events.last().unwrap().cursor.to_string();
    for other in Way::ALL {
        let mut feed = other.resume(&hub, &["numbers"], &cursor).await;
        assert_eq!(Story::read(&mut feed, 5).await.numbers(), [5, 6, 7, 8, 9], "{other:?}");
    }
}

async fn an_id_stands_for_its_first_use(way: Way) {
    let hub = TestHub::start();
    for (text, id) in [("0", "a"), ("1", "b"), ("2", "c"), ("3", "b"), ("4", "d")] {
        hub.publish_with_id("numbers", text, id).await;
    }
    let mut feed = way.resume(&hub, &["numbers"], "b").await;
    let story = Story::read(&mut feed, 3).await;
    assert_eq!((story.numbers(), story.hello.unwrap().verdict), (vec![2, 3, 4], Verdict::Resumed));
    let mut feed = way.resume(&hub, &["numbers"], "d").await;
    hub.publish_numbers("numbers", 5..6).await;
    assert_eq!(Story::read(&mut feed, 1).await.numbers(), [5]);
}

async fn earliest_gives_what_is_kept_and_no_gap(way: Way) {
    let hub = keeps(10);
    hub.publish_numbers("numbers", 0..50).await;
    let mut feed = way.resume(&hub, &["numbers"], "earliest").await;
    let story = Story::read(&mut feed, 10).await;
    assert_eq!(story.numbers(), (40..50).collect::<Vec<_>>());
    assert_eq!((story.hello.unwrap().verdict, story.gaps), (Verdict::Earliest, vec![]));
}

async fn what_was_evicted_is_a_gap(way: Way) {
    let hub = keeps(10);
    let mut feed = way.subscribe(&hub, &["numbers"]).await;
    hub.publish_numbers("numbers", 0..5).await;
    let cursor = Story::read(&mut feed, 5).await.events.last().unwrap().cursor;
    feed.close().await;
    hub.publish_numbers("numbers", 5..50).await;
    let mut feed = way.resume(&hub, &["numbers"], &cursor.to_string()).await;
    let story = Story::read(&mut feed, 10).await;
    assert_eq!(story.numbers(), (40..50).collect::<Vec<_>>());
    story.check_gaps(cursor.seq.0, story.events.last().unwrap().seq().0);
    assert_eq!(story.gaps.len(), 1);
    assert_eq!(story.gaps[0].reason, GapReason::Evicted);
}

async fn a_cursor_of_another_log_is_told(way: Way) {
    let hub = TestHub::start();
    hub.publish_numbers("numbers", 0..3).await;
    let mut feed = way.resume(&hub, &["numbers"], "#vvvvvvvvvv:7").await;
    let story = Story::read(&mut feed, 3).await;
    assert_eq!((story.numbers(), story.hello.unwrap().verdict), (vec![0, 1, 2], Verdict::NewEpoch));
    assert_eq!((story.gaps[0].reason, story.gaps[0].from), (GapReason::NewEpoch, None));
}

async fn a_position_that_nobody_knows_is_told(way: Way) {
    let hub = TestHub::start();
    hub.publish_numbers("numbers", 0..3).await;
    let beyond = format!("#{}:999", hub.running().hub().epoch());
    for unknown in ["unheard-of", &beyond] {
        let mut feed = way.resume(&hub, &["numbers"], unknown).await;
        let story = Story::read(&mut feed, 3).await;
        assert_eq!((story.numbers(), story.hello.unwrap().verdict), (vec![0, 1, 2], Verdict::UnknownCursor));
        assert_eq!(story.gaps[0].reason, GapReason::UnknownCursor);
    }
}

async fn history_joins_the_live_feed_without_a_seam(way: Way) {
    let hub = TestHub::start();
    hub.publish_numbers("numbers", 0..5_000).await;
    let mut feed = way.resume(&hub, &["numbers"], "earliest").await;
    let publish = hub.publish_numbers("numbers", 5_000..10_000);
    let (story, ()) = tokio::join!(Story::read(&mut feed, 10_000), publish);
    assert_eq!(story.numbers(), (0..10_000).collect::<Vec<_>>());
    assert_eq!(story.gaps, []);
}

fn keeps(events_max: usize) -> TestHub {
    TestHub::with(|config| config.retention = Retention::new(vec![], Class { events_max, ..Class::default() }))
}

/// A feed that begins with the newest event of each topic.
async fn latest(way: Way, hub: &TestHub, topics: &[&str], last_event_id: &str) -> Connection {
    let mut options = way.options(hub);
    options.url.query_pairs_mut().append_pair("replay", "latest").append_pair("last_event_id", last_event_id);
    way.connect(&topics.iter().fold(options, |options, topic| options.topic(topic).unwrap())).await
}

async fn the_newest_of_each_topic_comes_first(way: Way) {
    for topics in [&["a", "b", "c"][..], &["*"]] {
        let hub = TestHub::start();
        for (topic, numbers) in [("a", 0..3), ("b", 3..300), ("c", 300..301), ("a", 301..303)] {
            hub.publish_numbers(topic, numbers).await;
        }
        let mut feed = latest(way, &hub, topics, "").await;
        let (story, ()) = tokio::join!(Story::read(&mut feed, 1_003), hub.publish_numbers("b", 303..1_303));
        // What was published before the hub had looked is either among the newest or follows.
        let numbers = story.numbers();
        let (newest, live) = numbers.split_at(3);
        assert_eq!((newest, story.gaps), (&[299, 300, 302][..], vec![]), "{way:?}");
        assert_eq!(live, (303..1_303).collect::<Vec<_>>());
        let hello = story.hello.unwrap();
        assert_eq!((hello.verdict, hello.cursor.seq), (Verdict::Latest, fanwire_protocol::Seq(299)));
        // What it began with are positions like any other.
        let mut feed = way.resume(&hub, topics, &story.events[1].cursor.to_string()).await;
        assert_eq!(Story::read(&mut feed, 3).await.numbers(), [301, 302, 303]);
    }
    let hub = TestHub::start();
    let mut feed = latest(way, &hub, &["a"], "").await;
    let hello = soon(feed.next()).await.unwrap();
    assert!(matches!(&hello, Item::Hello(hello) if hello.verdict == Verdict::Latest), "{hello:?}");
    hub.publish_numbers("a", 0..2).await;
    assert_eq!(Story::read(&mut feed, 2).await.numbers(), [0, 1], "of nothing there is no newest");
}

async fn the_newest_that_may_be_seen_stands_for_its_topic(way: Way) {
    let hub = TestHub::start();
    hub.publish_numbers("a", 0..2).await;
    hub.publish_numbers("b", 2..3).await;
    hub.publish(&Publication { private: true, ..Publication::text("a", "hidden") }).await;
    hub.publish(&Publication { private: true, ..Publication::text("c", "hidden") }).await;
    for topics in [&["a", "b", "c"][..], &["*"]] {
        let mut feed = latest(way, &hub, topics, "").await;
        let story = Story::read(&mut feed, 2).await;
        assert_eq!((story.numbers(), story.gaps), (vec![1, 2], vec![]), "{way:?}");
        // Nothing shows where the others lie.
        assert_eq!(story.hello.unwrap().cursor.seq, fanwire_protocol::Seq(1));
    }
}

async fn a_cursor_wins_over_the_newest(way: Way) {
    let hub = TestHub::start();
    hub.publish_numbers("a", 0..10).await;
    let cursor = format!("#{}:4", hub.running().hub().epoch());
    let mut feed = latest(way, &hub, &["a"], &cursor).await;
    let story = Story::read(&mut feed, 6).await;
    assert_eq!((story.numbers(), story.hello.unwrap().verdict), ((4..10).collect(), Verdict::Resumed));
}

async fn the_newest_of_too_many_topics_is_a_gap(way: Way) {
    let hub = TestHub::start();
    for topic in 0..1_200 {
        hub.publish_numbers(&format!("topic/{topic}"), topic..topic + 1).await;
    }
    let mut feed = latest(way, &hub, &["*"], "").await;
    let story = Story::read(&mut feed, 1_000).await;
    assert_eq!(story.numbers(), (200..1_200).collect::<Vec<_>>());
    assert_eq!((story.gaps[0].reason, story.gaps[0].from, story.gaps[0].to), (GapReason::Limit, None, 200));
}
