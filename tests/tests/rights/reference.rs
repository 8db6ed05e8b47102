//! Random tokens, topics, matchers, patterns and events: what every transport delivers, live and replayed, is what a few lines say.
//!
//! A failure prints its seed: `TESTS_SEED=… cargo test -p fanwire-tests --test rights reference`.

use fanwire_client::{ControlError, Publication, PublishError};
use fanwire_tests::{ISSUER, Story, TestHub, Way, soon};

const TOPICS: [&str; 6] = ["a", "b", "c", "orders/1", "orders/2", "https://example.com/books/1"];
/// URL patterns, and the topics that they take.
const PATTERNS: [(&str, &[&str]); 3] = [
    ("orders/:id", &["orders/1", "orders/2"]),
    ("/.well-known/:one", &["a", "b", "c"]),
    ("https://example.com/*", &["https://example.com/books/1"]),
];
const ROUNDS: usize = 4;
const EVENTS: usize = 40;
const SUBSCRIBERS: usize = 21;

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
        let way = Way::ALL[number % Way::ALL.len()];
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
    last.publish(&Publication::text("end", "end")).await.unwrap();
    for (way, subscriber, mut feed) in live {
        let expected = expected(&subscriber, &published, totals);
        assert_eq!(delivered(&mut feed).await, expected, "{way:?}, live: {subscriber:?}");
        // The same again, from the log, over another way.
        let other = rng.choice(Way::ALL).unwrap();
        let mut replay = connect(&hub, other, rng.bool(), &subscriber, Some("earliest")).await;
        assert_eq!(delivered(&mut replay).await, expected, "{other:?}, replayed: {subscriber:?}");
    }
}

fn expected(subscriber: &Subscriber, published: &[Event], totals: &mut [usize; 4]) -> Vec<String> {
    for event in published.iter().filter(|event| event.private) {
        totals[usize::from(!subscriber.sees(event))] += 1;
    }
    let seen = published.iter().filter(|event| subscriber.sees(event));
    seen.map(|event| event.text.clone()).chain(["end".to_owned()]).collect()
}

async fn delivered(feed: &mut fanwire_client::Connection) -> Vec<String> {
    let mut story = Story::default();
    while story.texts().last() != Some(&"end") {
        let count = story.events.len() + 1;
        story.read_more(feed, count).await;
    }
    assert_eq!(story.gaps, []);
    story.texts().into_iter().map(str::to_owned).collect()
}

async fn connect(
    hub: &TestHub,
    way: Way,
    in_band: bool,
    subscriber: &Subscriber,
    from: Option<&str>,
) -> fanwire_client::Connection {
    let (topics, patterns) = split(&subscriber.matchers);
    let options = topics.iter().chain([&"end"]).fold(way.options(hub), |options, topic| options.topic(topic).unwrap());
    let mut options = patterns.iter().fold(options, |options, pattern| options.pattern(pattern).unwrap());
    options.token = subscriber.granted.as_ref().map(|granted| {
        let (topics, patterns) = split(granted);
        ISSUER.token_with_patterns((&[], &[]), (&topics, &patterns))
    });
    options.auth_in_band = in_band;
    options.last_event_id = from.map(|id| fanwire_protocol::LastEventId::parse(id).unwrap().unwrap());
    let mut feed = way.connect(&options).await;
    // It has begun, and what is published from here on is in it.
    assert!(matches!(soon(feed.next()).await.unwrap(), fanwire_client::Item::Hello(_)));
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
