//! What an event looks like when it arrives.

use bytes::Bytes;
use fanwire_client::{Body, Publication};
use fanwire_tests::{Story, TestHub, Way, seen};
use serde_json::json;

use crate::on_every_way;

on_every_way!(
    events_come_in_order_and_once,
    every_kind_of_event_arrives_as_it_was_published,
    a_large_event_arrives_whole,
    an_event_of_several_topics_arrives_once,
    a_star_takes_every_topic,
    a_private_event_reaches_nobody,
    a_publisher_id_is_what_others_see,
);

async fn events_come_in_order_and_once(way: Way) {
    let hub = TestHub::start();
    let mut feed = way.subscribe(&hub, &["numbers"]).await;
    let mut story = Story::read(&mut feed, 0).await;
    hub.publish_numbers("numbers", 0..1000).await;
    hub.publish_numbers("others", 0..10).await;
    hub.publish_numbers("numbers", 1000..3000).await;
    story.read_more(&mut feed, 3000).await;
    assert_eq!(story.numbers(), (0..3000).collect::<Vec<_>>());
    assert!(story.events.is_sorted_by(|a, b| a.seq() < b.seq()));
    assert_eq!(story.gaps, []);
}

async fn every_kind_of_event_arrives_as_it_was_published(way: Way) {
    let hub = TestHub::start();
    let mut feed = way.subscribe(&hub, &["kinds"]).await;
    let text = |text: &str| Publication::text("kinds", text);
    let every_byte: Vec<u8> = (0..=255).collect();
    let published = [
        (text("plain"), Bytes::from_static(b"plain")),
        (text(""), Bytes::new()),
        (Publication { body: Body::Empty, ..text("") }, Bytes::new()),
        (text("größe 日本語 🎉 \u{2028}"), "größe 日本語 🎉 \u{2028}".into()),
        (text("a\r\nb\rc\nd\n\n"), Bytes::from_static(b"a\nb\nc\nd\n\n")),
        (text(" data: x\nid: 9\n\n: c\n\u{feff}"), " data: x\nid: 9\n\n: c\n\u{feff}".into()),
        (text("a\0b"), Bytes::from_static(b"a\0b")),
        (
            Publication { body: Body::Json(json!({"a": [1, null]})), ..text("") },
            Bytes::from_static(b"{\"a\":[1,null]}"),
        ),
        (Publication::binary("kinds", every_byte.clone()), every_byte.into()),
        (Publication::binary("kinds", Bytes::new()), Bytes::new()),
        (
            Publication {
                kind: Some("update".into()),
                id: Some("urn:x: y".into()),
                retry_ms: Some(1500),
                ..text("all")
            },
            Bytes::from_static(b"all"),
        ),
    ];
    let mut expected = vec![];
    for (publication, bytes) in &published {
        let answer = hub.publish(publication).await;
        let binary = matches!(publication.body, Body::Binary(_));
        expected.push((answer.id, publication.kind.clone(), "kinds".to_owned(), bytes.to_vec(), binary));
    }
    let story = Story::read(&mut feed, published.len()).await;
    assert_eq!(story.events.iter().map(seen).collect::<Vec<_>>(), expected);
    assert_eq!(story.events.last().unwrap().draft.retry, Some(std::time::Duration::from_millis(1500)));
    let now = fanwire::hub::now_ms();
    assert!(story.events.iter().all(|event| event.at_ms.abs_diff(now) < 20_000));
}

async fn a_large_event_arrives_whole(way: Way) {
    let hub = TestHub::start();
    let mut feed = way.subscribe(&hub, &["large"]).await;
    let text: String = (0..1024 * 1024 / 8).map(|i| format!("{i:07}\n")).collect();
    let binary: Vec<u8> = (0..1024 * 1024).map(|i| (i % 251) as u8).collect();
    hub.publish(&Publication::text("large", text.clone())).await;
    hub.publish(&Publication::binary("large", binary.clone())).await;
    hub.publish(&Publication::text("large", "small")).await;
    let story = Story::read(&mut feed, 3).await;
    assert!(story.events[0].draft.data.bytes() == text.as_bytes());
    assert!(story.events[1].draft.data.bytes() == &binary);
    assert_eq!(&story.events[2].draft.data.bytes()[..], b"small");
}

async fn an_event_of_several_topics_arrives_once(way: Way) {
    let hub = TestHub::start();
    let mut feed = way.subscribe(&hub, &["b", "c", "*"]).await;
    let topics = ["a", "b", "c", "b"].map(str::to_owned).to_vec();
    hub.publish(&Publication { topics, ..Publication::text("", "once") }).await;
    hub.publish(&Publication::text("c", "then")).await;
    let story = Story::read(&mut feed, 2).await;
    assert_eq!(story.texts(), ["once", "then"]);
    assert_eq!(story.events[0].draft.canonical().as_str(), "a");
}

async fn a_star_takes_every_topic(way: Way) {
    let hub = TestHub::start();
    let mut feed = way.subscribe(&hub, &["*"]).await;
    for topic in ["a", "https://example.com/ü", "a b;c%d"] {
        hub.publish(&Publication::text(topic, topic)).await;
    }
    let story = Story::read(&mut feed, 3).await;
    let topics: Vec<_> = story.events.iter().map(|event| event.draft.canonical().as_str()).collect();
    assert_eq!(topics, ["a", "https://example.com/ü", "a b;c%d"]);
    assert_eq!(topics, story.texts());
}

async fn a_private_event_reaches_nobody(way: Way) {
    let hub = TestHub::start();
    let mut feed = way.subscribe(&hub, &["secrets"]).await;
    hub.publish(&Publication { private: true, ..Publication::text("secrets", "hidden") }).await;
    hub.publish(&Publication::text("secrets", "open")).await;
    assert_eq!(Story::read(&mut feed, 1).await.texts(), ["open"]);
    let mut replayed = way.resume(&hub, &["secrets"], "earliest").await;
    let story = Story::read(&mut replayed, 1).await;
    assert_eq!((story.texts(), story.gaps.len()), (vec!["open"], 0));
}

async fn a_publisher_id_is_what_others_see(way: Way) {
    let hub = TestHub::start();
    if way == Way::WebTransport {
        return; // It has no form without control messages.
    }
    let mut options = way.options(&hub).topic("plain").unwrap();
    options.control = false;
    let mut feed = way.connect(&options).await;
    let mine =
        Publication { id: Some("mine".into()), kind: Some("update".into()), ..Publication::text("plain", "1\n2") };
    let published = [hub.publish(&mine).await, hub.publish(&Publication::binary("plain", "\0")).await];
    for (published, data, kind) in [(&published[0], "1\n2", Some("update")), (&published[1], "AA==", None)] {
        let fanwire_client::Item::Plain(event) = fanwire_tests::soon(feed.next()).await.unwrap() else {
            panic!("no event")
        };
        assert_eq!((event.id, event.data.as_str(), event.kind.as_deref()), (published.id.clone(), data, kind));
    }
    assert_eq!(published[0].id, "mine");
}
