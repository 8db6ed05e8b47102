//! URL patterns: live and from history, on one connection and on many.

use fanwire::log::{Class, Retention, TopicRule};
use fanwire_client::{ControlError, Item};
use fanwire_protocol::{HubUrl, Matcher, Seq};
use fanwire_tests::{Ask, Story, TestHub, Version, Way, soon};

fn pattern(text: &str) -> Matcher {
    Matcher::pattern(text, &HubUrl::default()).unwrap()
}

#[tokio::test]
async fn history_is_read_with_patterns_as_the_live_feed_is() {
    for way in Way::ALL {
        let hub = TestHub::start();
        // Longer than one look at history goes, and with little in it.
        hub.publish_numbers("/orders/1", 0..1).await;
        hub.publish_numbers("elsewhere", 0..9_000).await;
        hub.publish_numbers("/orders/2", 1..400).await;
        let options = way.options(&hub).pattern("/orders/:id").unwrap();
        let earliest = fanwire_protocol::LastEventId::Earliest;
        let mut feed = way.connect(&options.last_event_id(earliest)).await;
        let mut story = Story::read(&mut feed, 400).await;
        hub.publish_numbers("/orders/3", 400..500).await;
        story.read_more(&mut feed, 500).await;
        assert_eq!(story.numbers(), (0..500).collect::<Vec<_>>(), "{way:?}");
        assert_eq!(story.gaps, []);
    }
}

#[tokio::test]
async fn what_a_pattern_may_have_missed_is_told() {
    let quiet = Class { topics: vec![TopicRule::parse("/quiet/*").unwrap()], ..Class::default() };
    let hub = TestHub::with(|config| {
        config.retention = Retention::new(vec![quiet], Class { events_max: 100, ..Class::default() });
    });
    hub.publish_numbers("/quiet/1", 0..10).await;
    hub.publish_numbers("/noisy/1", 10..5_000).await;
    hub.publish_numbers("/quiet/1", 5_000..5_010).await;
    for way in Way::ALL {
        let options = way.options(&hub).pattern("/:kind/1").unwrap();
        let start = format!("#{}:0", hub.running().hub().epoch());
        let start = fanwire_protocol::LastEventId::parse(&start).unwrap().unwrap();
        let mut feed = way.connect(&options.last_event_id(start)).await;
        let story = Story::read(&mut feed, 120).await;
        story.check_gaps(0, 5_010);
        let kept = (0..10).chain(4_900..5_010);
        assert_eq!(story.numbers(), kept.collect::<Vec<_>>(), "{way:?}");
    }
}

#[tokio::test]
async fn patterns_come_and_go_on_the_control_stream() {
    let hub = TestHub::start();
    let mut feed = Way::WebTransport.subscribe(&hub, &["a"]).await;
    let control = feed.control().unwrap();
    let matchers = [pattern("/orders/:id"), Matcher::exact("b").unwrap()];
    let from = soon(control.subscribe(&matchers)).await.unwrap();
    hub.publish_numbers("/orders/1", 0..1).await;
    hub.publish_numbers("b", 1..2).await;
    let (mut numbers, mut changes) = (vec![], vec![]);
    let mut read = async |count: usize| {
        while numbers.len() < count {
            match soon(feed.next()).await.unwrap() {
                Item::Event(event) => numbers.push(event.event.draft.data.bytes().to_vec()),
                Item::Changed(changed) => changes.push(Seq(changed.from_seq)),
                Item::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    };
    read(2).await;
    soon(control.unsubscribe(&[pattern("/orders/:id")])).await.unwrap();
    hub.publish_numbers("/orders/1", 2..3).await;
    hub.publish_numbers("a", 3..4).await;
    read(3).await;
    assert_eq!(numbers, [b"0", b"1", b"3"]);
    assert_eq!((changes[0], changes.len()), (from, 2));
    soon(control.subscribe(&[Matcher::exact("c").unwrap()])).await.unwrap();
    let many: Vec<_> = (0..99).map(|i| pattern(&format!("/{i}/:id"))).collect();
    let refused = soon(control.subscribe(&many)).await;
    assert!(matches!(&refused, Err(ControlError::Refused { code, .. }) if code == "too_many_matchers"), "{refused:?}");
}

#[tokio::test]
async fn patterns_that_are_none_or_cost_too_much_are_refused() {
    let hub = TestHub::start();
    let encode = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    for version in Version::ALL {
        let long = format!("/{}", "a".repeat(1024));
        for text in
            ["", "https://[", "/a{b", "/(?:a)", "/((?=a)b)", "/((?:a{1000}){1000})", "/\u{200b}", "/\u{7f}", &long]
        {
            let answer = Ask::get(format!("/.well-known/mercure?match=a&match_urlpattern={}", encode(text)));
            let answer = answer.whole(version, &hub).await;
            assert_eq!((answer.status.as_u16(), answer.code()), (400, "bad_matcher".into()), "{version:?} {text}");
        }
        for name in ["match_urlPattern", "Match_urlpattern", "match_regexp", "matches", "MATCH", "match_"] {
            let answer = Ask::get(format!("/.well-known/mercure?match=a&{name}=b")).whole(version, &hub).await;
            assert_eq!((answer.status.as_u16(), answer.code()), (400, "unknown_matcher".into()), "{version:?} {name}");
        }
        let many: String = (0..101).map(|i| format!("&match_urlpattern=/{i}/*")).collect();
        let answer = Ask::get(format!("/.well-known/mercure?{many}")).whole(version, &hub).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (400, "too_many_matchers".into()), "{version:?}");
    }
    assert_eq!(hub.running().hub().subscribers(), 0);
}

#[tokio::test]
async fn so_many_different_patterns_are_in_use_and_no_more() {
    let hub = TestHub::with(|config| config.limits.patterns_max = 2);
    let ask = async |text: &str| Ask::get(format!("/events?match_urlpattern={text}")).over(Version::H1, &hub).await;
    let (first, _second, again) = (ask("/a/:id").await, ask("/b/:id").await, ask("/a/:id").await);
    assert_eq!(first.status, 200);
    let full = ask("/c/:id").await;
    assert_eq!((full.status, full.header("retry-after").is_empty()), (http::StatusCode::SERVICE_UNAVAILABLE, false));
    drop((first, again));
    // Until the hub has seen that they are gone.
    soon(async {
        while ask("/c/:id").await.status != 200 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_hubs_own_name_takes_what_is_relative() {
    let hub = TestHub::with_keys(|config| config.auth.allow_anonymous = true);
    for way in Way::ALL {
        let options = way.options(&hub).pattern("https://hub.example/orders/:id").unwrap();
        let mut feed = way.connect(&options).await;
        assert!(matches!(soon(feed.next()).await.unwrap(), Item::Hello(_)));
        hub.publish_numbers("https://elsewhere.example/orders/1", 0..1).await;
        hub.publish_numbers("/orders/1", 1..2).await;
        hub.publish_numbers("https://hub.example/orders/2", 2..3).await;
        assert_eq!(Story::read(&mut feed, 2).await.numbers(), [1, 2], "{way:?}");
    }
}
