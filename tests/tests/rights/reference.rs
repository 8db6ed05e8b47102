//! Random tokens, topics, matchers, patterns and events: what every transport delivers, live and replayed, is what a few lines say.
//!
//! A failure prints its seed: `TESTS_SEED=… cargo test -p fanwire-tests --test rights reference`.

use std::{collections::BTreeMap, time::Duration};

use fanwire_client::{Connection, ControlError, Item, Publication, PublishError};
use fanwire_protocol::Seq;
use fanwire_tests::{ISSUER, TestHub, Way, soon};

const TOPICS: [&str; 6] = ["a", "b", "c", "orders/1", "orders/2", "https://example.com/books/1"];
/// URL patterns, and the topics that they take.
const PATTERNS: [(&str, &[&str]); 3] = [
    ("orders/:id", &["orders/1", "orders/2"]),
    ("/.well-known/:one", &["a", "b", "c"]),
    ("https://example.com/*", &["https://example.com/books/1"]),
];
const ROUNDS: usize = 4;
const EVENTS: usize = 40;
const SUBSCRIBERS: usize = 24;

/// What a subscriber wants, and what its token grants: none where it shows none.
#[derive(Debug, Clone)]
struct Subscriber {
    matchers: Vec<&'static str>,
    granted: Option<Vec<&'static str>>,
}

struct Event {
    topics: Vec<&'static str>,
    private: bool,
    text: String,
}

/// The reference.
impl Subscriber {
    fn sees(&self, event: &Event) -> bool {
        let any = |list: &[&str]| event.topics.iter().any(|topic| covers(list, topic));
        any(&self.matchers) && (!event.private || self.granted.as_deref().is_some_and(any))
    }
}

fn may_publish(granted: &[&str], event: &Event) -> bool {
    event.topics.iter().all(|topic| covers(granted, topic))
}

fn covers(list: &[&str], topic: &str) -> bool {
    let by_pattern = |(text, takes): &(&str, &[&str])| list.contains(text) && takes.contains(&topic);
    list.contains(&"*") || list.contains(&topic) || PATTERNS.iter().any(by_pattern)
}

#[tokio::test]
async fn every_transport_delivers_what_the_reference_says() {
    let seed = std::env::var("TESTS_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    eprintln!("TESTS_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut totals = [0; 4];
    for _ in 0..ROUNDS {
        round(&mut rng, &mut totals).await;
    }
    // A run that meets nothing proves nothing.
    assert!(totals.iter().all(|&count| count > 0), "private seen, private unseen, published, refused: {totals:?}");
}

async fn round(rng: &mut fastrand::Rng, totals: &mut [usize; 4]) {
    let hub = TestHub::with_keys(|config| config.auth.allow_anonymous = true);
    let mut live = Vec::new();
    for number in 0..SUBSCRIBERS {
        let granted = if rng.u8(..) < 40 { None } else { Some(some_topics(rng, 0)) };
        let subscriber = Subscriber { matchers: some_topics(rng, 1), granted };
        let way = Way::EVERY[number % Way::EVERY.len()];
        let feed = connect(&hub, way, rng.bool(), &subscriber, None).await;
        live.push((way, subscriber, feed));
    }
    let mut published = Vec::new();
    for number in 0..EVENTS {
        let topics = (0..rng.usize(1..4)).map(|_| *rng.choice(&TOPICS).unwrap()).collect();
        let event = Event { topics, private: rng.u8(..) < 150, text: number.to_string() };
        let granted = some_topics(rng, 0);
        let done = publish(&hub, rng, &granted, &event).await;
        assert_eq!(done, may_publish(&granted, &event), "{granted:?} publishes on {:?}", event.topics);
        totals[if done { 2 } else { 3 }] += 1;
        if done {
            published.push(event);
        }
    }
    let mut last = hub.publisher_with(ISSUER.token(&["end"], &[]));
    let end = last.publish(&Publication::text("end", "end")).await.unwrap().cursor.unwrap().seq;
    for (way, subscriber, mut feed) in live {
        let expected = expected(&subscriber, &published, totals);
        if way == Way::Datagram {
            newest(&mut feed, &expected).await;
        } else {
            assert_eq!(delivered(way, &mut feed, end).await, expected, "{way:?}, live: {subscriber:?}");
        }
        // The same again, from the log, over another way.
        let other = rng.choice(Way::EVERY).unwrap();
        let mut replay = connect(&hub, other, rng.bool(), &subscriber, Some("earliest")).await;
        assert_eq!(delivered(other, &mut replay, end).await, expected, "{other:?}, replayed: {subscriber:?}");
    }
}

/// What a subscriber is to be told: the first topic and the text of each event.
fn expected(subscriber: &Subscriber, published: &[Event], totals: &mut [usize; 4]) -> Vec<(String, String)> {
    for event in published.iter().filter(|event| event.private) {
        totals[usize::from(!subscriber.sees(event))] += 1;
    }
    let seen = published.iter().filter(|event| subscriber.sees(event));
    let seen = seen.map(|event| (event.topics[0].to_owned(), event.text.clone()));
    seen.chain([("end".to_owned(), "end".to_owned())]).collect()
}

/// Everything up to the end, in the order of the log.
async fn delivered(way: Way, feed: &mut Connection, end: Seq) -> Vec<(String, String)> {
    let mut events = vec![];
    if way == Way::PerTopic {
        // The end of one topic may overtake the others: the cursor says when all have come.
        while feed.cursor().is_none_or(|cursor| cursor.seq < end) {
            events.extend(next(feed).await);
        }
        let mut newest = BTreeMap::new();
        for event in &events {
            let before = newest.insert(event.draft.canonical().clone(), event.seq());
            assert!(before < Some(event.seq()), "a topic is in order");
        }
        events.sort_by_key(fanwire_protocol::Event::seq);
    } else {
        while events.last().is_none_or(|event: &fanwire_protocol::Event| event.seq() < end) {
            events.extend(next(feed).await);
        }
    }
    events.iter().map(told).collect()
}

/// Live datagrams: the newest of each topic, and of what is older nothing but what may be seen.
async fn newest(feed: &mut Connection, expected: &[(String, String)]) {
    let mut newest: BTreeMap<&String, &String> = expected.iter().map(|(topic, text)| (topic, text)).collect();
    while !newest.is_empty() {
        let Some(event) = next(feed).await else { continue };
        let (topic, text) = told(&event);
        assert!(expected.contains(&(topic.clone(), text.clone())), "{text} on {topic}, which isn't in {expected:?}");
        if newest.get(&topic).is_some_and(|newest| **newest == text) {
            newest.remove(&topic);
        }
    }
}

async fn next(feed: &mut Connection) -> Option<fanwire_protocol::Event> {
    match soon(feed.next()).await.unwrap() {
        Item::Event(event) => Some(event.event),
        Item::Ping(_) => None,
        other => panic!("{other:?}"),
    }
}

fn told(event: &fanwire_protocol::Event) -> (String, String) {
    let text = std::str::from_utf8(event.draft.data.bytes()).unwrap();
    (event.draft.canonical().as_str().to_owned(), text.to_owned())
}

async fn connect(hub: &TestHub, way: Way, in_band: bool, subscriber: &Subscriber, from: Option<&str>) -> Connection {
    let (topics, patterns) = split(&subscriber.matchers);
    let options = topics.iter().chain([&"end"]).fold(way.options(hub), |options, topic| options.topic(topic).unwrap());
    let mut options = patterns.iter().fold(options, |options, pattern| options.pattern(pattern).unwrap());
    options.token = subscriber.granted.as_ref().map(|granted| {
        let (topics, patterns) = split(granted);
        ISSUER.token_with_patterns((&[], &[]), (&topics, &patterns))
    });
    options.auth_in_band = in_band;
    // A ping tells a feed by topic how far all of them are.
    options.heartbeat = (way == Way::PerTopic).then_some(Duration::from_millis(100));
    options.last_event_id = from.map(|id| fanwire_protocol::LastEventId::parse(id).unwrap().unwrap());
    let mut feed = way.connect(&options).await;
    // It has begun, and what is published from here on is in it.
    assert!(matches!(soon(feed.next()).await.unwrap(), Item::Hello(_)));
    feed
}

/// Over HTTP or a session; false if the token doesn't grant it.
async fn publish(hub: &TestHub, rng: &mut fastrand::Rng, granted: &[&'static str], event: &Event) -> bool {
    let (topics, patterns) = split(granted);
    let token = ISSUER.token_with_patterns((&topics, &patterns), (&["*"], &[]));
    let body = Publication {
        topics: event.topics.iter().map(|&topic| topic.to_owned()).collect(),
        private: event.private,
        ..Publication::text("x", &event.text)
    };
    if rng.u8(..) < 50 {
        let options = Way::WebTransport.options(hub).topic("nothing").unwrap().token(token);
        let session = Way::WebTransport.connect(&options).await;
        return match soon(session.control().unwrap().publish(&body)).await {
            Ok(_) => true,
            Err(ControlError::Refused { code, .. }) if code == "insufficient_scope" => false,
            Err(error) => panic!("{error}"),
        };
    }
    let mut publisher = hub.publisher_with(token);
    let done = if rng.bool() { publisher.publish(&body).await } else { publisher.publish_form(&body).await };
    match done {
        Ok(_) => true,
        Err(PublishError::Refused(error)) if (error.status, &*error.code) == (403, "insufficient_scope") => false,
        Err(error) => panic!("{error}"),
    }
}

fn some_topics(rng: &mut fastrand::Rng, min: usize) -> Vec<&'static str> {
    match rng.u8(..) {
        0..50 => vec!["*"],
        _ => (0..rng.usize(min..5))
            .map(|_| if rng.u8(..) < 60 { rng.choice(&PATTERNS).unwrap().0 } else { *rng.choice(&TOPICS).unwrap() })
            .collect(),
    }
}

/// Exact topics, and patterns.
fn split(list: &[&'static str]) -> (Vec<&'static str>, Vec<&'static str>) {
    list.iter().partition(|&text| !PATTERNS.iter().any(|(pattern, _)| pattern == text))
}
