//! What the public conformance suite asks for, over every transport: what matches comes as it was published, and nothing else does.

use fanwire_client::{Connection, Item};
use fanwire_tests::{Ask, Story, TestHub, Version, Way, seen, soon};
use http::StatusCode;

const FORM: &str = "application/x-www-form-urlencoded";

/// A feed of these exact topics and these patterns, and of what follows it.
async fn feed(way: Way, hub: &TestHub, topics: &[&str], patterns: &[&str]) -> Connection {
    let mut options = way.options(hub).topic("what follows").unwrap();
    for topic in topics {
        options = options.topic(topic).unwrap();
    }
    for pattern in patterns {
        options = options.pattern(pattern).unwrap();
    }
    let mut connection = way.connect(&options).await;
    match soon(connection.next()).await.unwrap() {
        Item::Hello(_) => connection,
        other => panic!("{way:?} begins with {other:?}"),
    }
}

/// Publishes a form as a Mercure publisher does, and gives the answer's id.
async fn publish(hub: &TestHub, fields: &[(&str, &str)]) -> String {
    let body = form_urlencoded(fields);
    let answer = Ask { path: "/.well-known/mercure".into(), ..Ask::post(FORM, body) }.whole(Version::H1, hub).await;
    assert_eq!((answer.status, answer.header("content-type")), (StatusCode::OK, "text/plain; charset=utf-8"));
    answer.text().to_owned()
}

fn form_urlencoded(fields: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

const URL: &str = "https://example.net/foo/1f3a";
const PATTERN: &str = "https://example.net/foo/:random";

#[tokio::test]
async fn what_matches_is_received_as_it_was_published() {
    let data = "data for\n\n        a raw string";
    for way in Way::ALL {
        for (topic, topics, patterns) in [
            ("1f3a", vec!["1f3a"], vec![]),
            ("1f3a", vec!["foo", "1f3a"], vec![]),
            (URL, vec![URL], vec![]),
            (URL, vec![], vec![PATTERN]),
            (URL, vec!["*"], vec![]),
            (URL, vec![], vec!["*"]),
        ] {
            let hub = TestHub::start();
            let mut feed = feed(way, &hub, &topics, &patterns).await;
            let id = format!("id-[\"{topic}\"]");
            assert_eq!(publish(&hub, &[("topic", topic), ("id", &id), ("data", data)]).await, id);
            let story = Story::read(&mut feed, 1).await;
            let expected = (id, None, topic.to_owned(), data.as_bytes().to_vec(), false);
            assert_eq!(seen(&story.events[0]), expected, "{way:?} {topics:?} {patterns:?}");
        }
    }
}

#[tokio::test]
async fn what_does_not_match_or_is_private_is_not_received() {
    for way in Way::ALL {
        let hub = TestHub::start();
        for (topic, private, topics, patterns) in [
            ("will-not-match", false, vec!["another-name"], vec![]),
            ("https://example.net/foo/will-not-match", false, vec!["https://example.net/foo/another-name"], vec![]),
            ("https://example.net/foo/will-not-match", false, vec![], vec!["https://example.net/bar/:var"]),
            // An exact matcher is no pattern, and a pattern's text no topic.
            (URL, false, vec![PATTERN], vec![]),
            ("1f3a", true, vec!["1f3a"], vec![]),
            (URL, true, vec![URL], vec![]),
            (URL, true, vec![], vec![PATTERN]),
            (URL, true, vec!["*"], vec![]),
        ] {
            let mut feed = feed(way, &hub, &topics, &patterns).await;
            let mut fields = vec![("topic", topic), ("data", "not for you")];
            // Whatever its value. [Mercure, Publication]
            let value = ["on", "", "false", "0"][topics.len() % 4];
            fields.extend(private.then_some(("private", value)));
            publish(&hub, &fields).await;
            publish(&hub, &[("topic", "what follows"), ("data", "for you")]).await;
            let story = Story::read(&mut feed, 1).await;
            assert_eq!(story.texts(), ["for you"], "{way:?} {topic} {topics:?} {patterns:?}");
        }
    }
}

#[tokio::test]
async fn an_alternate_topic_is_as_good_as_the_canonical_one() {
    for way in Way::ALL {
        let hub = TestHub::start();
        for (topics, patterns) in [(vec![URL], vec![]), (vec![], vec![PATTERN]), (vec!["1f3a"], vec![PATTERN])] {
            let mut feed = feed(way, &hub, &topics, &patterns).await;
            publish(&hub, &[("topic", "1f3a"), ("topic", URL), ("data", "once")]).await;
            publish(&hub, &[("topic", "what follows"), ("data", "then")]).await;
            let story = Story::read(&mut feed, 2).await;
            assert_eq!(story.texts(), ["once", "then"], "{way:?} {topics:?} {patterns:?}");
        }
    }
}
