//! Who is subscribed: the events, the list, and the end of a feed by its name.

use std::time::Duration;

use fanwire::auth::{DETAIL_TYPE, mint::Claims};
use fanwire_client::{Connection, Item, Publication, Token};
use fanwire_protocol::{LastEventId, Matcher, Topic, message::ByeCode};
use fanwire_tests::{
    Ask, HubProcess, ISSUER, OTHER_ISSUER, RESOURCE, Story, TestHub, Version, Way, Whole, all, now_ms, soon,
};
use http::Method;
use serde_json::{Value, json};

const ALL: &str = "/.well-known/mercure/subscriptions";
const PATTERN: &str = "/.well-known/mercure/subscriptions/*";

fn hub() -> TestHub {
    TestHub::with_keys(|config| {
        config.auth.allow_anonymous = true;
        config.auth.issuers.push(OTHER_ISSUER.config());
        config.subscriptions_max = Some(1_000);
    })
}

pub(crate) fn watcher() -> Token {
    ISSUER.token_with_patterns((&[], &[]), (&[ALL], &[PATTERN]))
}

fn revoker(issuer: &fanwire_tests::Issuer) -> Token {
    let (name, resource) = (issuer.name.to_owned(), RESOURCE.to_owned());
    let claims = Claims { issuer: name, resource, revoke: true, ..Claims::default() };
    issuer.sign(&claims.to_json(now_ms(), Duration::from_secs(60)))
}

/// A feed of the events about all but its own.
async fn watch(hub: &TestHub, way: Way, after: Option<&str>) -> Connection {
    let mut options = way.options(hub).pattern("/.well-known/mercure/subscriptions/exact/*").unwrap().token(watcher());
    options.last_event_id = after.map(|id| LastEventId::parse(id).unwrap().unwrap());
    let mut feed = way.connect(&options).await;
    assert!(matches!(soon(feed.next()).await.unwrap(), Item::Hello(_)));
    feed
}

/// The next events about subscriptions, checked as far as all of them are alike.
async fn told(feed: &mut Connection, count: usize) -> Vec<Value> {
    let story = Story::read(feed, count).await;
    assert_eq!(story.gaps, []);
    let document = |event: &fanwire_protocol::Event| {
        let json: Value = serde_json::from_slice(event.draft.data.bytes()).unwrap();
        assert_eq!(event.draft.kind.as_ref().map(|kind| kind.as_str()), Some("mercure"));
        assert_eq!(
            (json["id"].as_str(), json["type"].as_str()),
            (Some(event.draft.canonical().as_str()), Some("subscription"))
        );
        json
    };
    story.events.iter().map(document).collect()
}

async fn ask(hub: &TestHub, path: &str, token: Option<&Token>) -> Whole {
    let mut ask = Ask::get(path);
    if let Some(token) = token {
        ask = ask.header("authorization", format!("Bearer {}", token.as_str()));
    }
    ask.whole(Version::H1, hub).await
}

fn last_event_id(answer: &Whole) -> String {
    let link = answer.header("link");
    assert!(link.starts_with("</.well-known/mercure>; rel=\"mercure\";"), "{link}");
    assert!(link.contains("; type=\"mercure\"") && link.contains("; content-type=\"application/json\""), "{link}");
    link.split("last-event-id=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
}

/// Asks until the list has so many.
async fn listed(hub: &TestHub, path: &str, count: usize) -> (Vec<Value>, String) {
    soon(async {
        loop {
            let answer = ask(hub, path, Some(&watcher())).await;
            assert_eq!(answer.status, 200);
            let json = answer.json();
            assert_eq!(json["type"], "subscriptions");
            let subscriptions = json["subscriptions"].as_array().unwrap().clone();
            if subscriptions.len() == count {
                return (subscriptions, last_event_id(&answer));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
}

#[tokio::test]
async fn every_transport_tells_of_feeds_on_every_transport() {
    // What is told comes a second late: feeds of each kind have a hub of their own, and all are waited for at once.
    all(Way::ALL.map(|way| async move {
        let hub = hub();
        let mut watchers = Vec::new();
        for way in Way::ALL {
            watchers.push(watch(&hub, way, None).await);
        }
        // A stranger, too: who it is isn't told.
        let feed = way.subscribe(&hub, &["one", "https://example.com/ü?"]).await;
        for watcher in &mut watchers {
            let told = told(watcher, 2).await;
            assert_eq!(told[0]["subscriber"], told[1]["subscriber"], "one feed is one subscriber");
            assert!(told[0]["subscriber"].as_str().unwrap().starts_with("urn:uuid:"));
            let mut matches: Vec<&str> = told.iter().map(|it| it["match"].as_str().unwrap()).collect();
            matches.sort_unstable();
            assert_eq!(matches, ["https://example.com/ü?", "one"]);
            assert!(told.iter().all(|it| it["active"] == true && it["match_type"] == "exact"));
        }
        drop(feed);
        for watcher in &mut watchers {
            assert!(told(watcher, 2).await.iter().all(|it| it["active"] == false), "{way:?}");
        }
    }))
    .await;
}

#[tokio::test]
async fn only_those_who_are_granted_it_are_told() {
    let hub = hub();
    let end = "end";
    let mut feeds = Vec::new();
    for way in Way::ALL {
        for (token, granted) in [(None, false), (Some(ISSUER.token(&["*"], &["one"])), false), (Some(watcher()), true)]
        {
            let mut options = way.options(&hub).topic("*").unwrap();
            options.token = token;
            let mut feed = way.connect(&options).await;
            assert!(matches!(soon(feed.next()).await.unwrap(), Item::Hello(_)));
            feeds.push((way, granted, feed));
        }
    }
    listed(&hub, ALL, feeds.len()).await;
    hub.publish_numbers(end, 0..1).await;
    for (way, granted, feed) in &mut feeds {
        let mut count = 0;
        loop {
            match soon(feed.next()).await.unwrap() {
                Item::Event(event) if event.event.draft.canonical().as_str() == end => break,
                Item::Event(_) => count += 1,
                Item::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(count > 0, *granted, "{way:?}");
    }
    // The list, by the same grants.
    let one = "/.well-known/mercure/subscriptions/exact/%2A";
    let exactly = ISSUER.token(&[], &[one]);
    let (all, _) = listed(&hub, one, 18).await;
    let subscriber = all[0]["id"].as_str().unwrap();
    for (path, token, status) in [
        (ALL, None, 401),
        (ALL, Some(ISSUER.token(&["*"], &[])), 403),
        (ALL, Some(exactly.clone()), 403),
        (one, Some(exactly.clone()), 200),
        // Another spelling of the same.
        ("/events/subscriptions/exact/*", Some(exactly.clone()), 200),
        (subscriber, Some(exactly.clone()), 403),
        (subscriber, Some(watcher()), 200),
        (subscriber, Some(ISSUER.token(&[], &["*"])), 200),
        (
            "/.well-known/mercure/subscriptions/exact/a/urn%3Auuid%3Abb3de268-05b0-4c65-b44e-8f9acefc29d6",
            Some(watcher()),
            404,
        ),
        ("/.well-known/mercure/subscriptions/exact", Some(watcher()), 404),
        ("/.well-known/mercure/subscriptions/glob/a", Some(watcher()), 404),
        ("/.well-known/mercure/subscriptions/exact/nobody", Some(watcher()), 200),
    ] {
        let answer = ask(&hub, path, token.as_ref()).await;
        assert_eq!(answer.status.as_u16(), status, "{path}");
        assert_eq!(answer.headers.contains_key("www-authenticate"), matches!(status, 401 | 403), "{path}");
    }
    let hub = TestHub::with_keys(|_| ());
    assert_eq!(ask(&hub, ALL, Some(&watcher())).await.status, 404, "it is off by default");
}

#[tokio::test]
async fn the_list_and_the_events_behind_its_cursor_are_the_whole_story() {
    let hub = hub();
    assert_eq!(last_event_id(&ask(&hub, ALL, Some(&watcher())).await), "earliest");
    let first = Way::SseH1.subscribe(&hub, &["one"]).await;
    let (subscriptions, cursor) = listed(&hub, ALL, 1).await;
    let answer = ask(&hub, ALL, Some(&watcher())).await;
    assert_eq!(answer.json()["id"], ALL);
    assert_eq!(answer.header("content-type"), "application/json");
    let id = subscriptions[0]["id"].as_str().unwrap();
    let document = ask(&hub, id, Some(&watcher())).await;
    assert_eq!(document.json(), subscriptions[0], "a document is the event's");
    last_event_id(&document);
    // A copy that is still fresh needn't come again.
    let again = |tag: &str| {
        Ask::get(ALL).header("authorization", format!("Bearer {}", watcher().as_str())).header("if-none-match", tag)
    };
    for version in Version::ALL {
        let fresh = again(answer.header("etag")).whole(version, &hub).await;
        assert_eq!((fresh.status.as_u16(), fresh.body.len()), (304, 0), "{version:?}");
        last_event_id(&fresh);
        let head = again("\"x\"").method(Method::HEAD).whole(version, &hub).await;
        assert_eq!((head.status.as_u16(), head.body.len()), (200, 0), "{version:?}");
        assert_eq!(again("\"x\"").whole(version, &hub).await.json(), answer.json(), "{version:?}");
    }
    // It has gone by the time that the watcher comes with the cursor of the list.
    drop(first);
    let second = Way::WebTransport.subscribe(&hub, &["two"]).await;
    let mut watcher = watch(&hub, Way::SseH2Tls, Some(&cursor)).await;
    let mut told = told(&mut watcher, 2).await;
    told.sort_by_key(|document| document["match"].to_string());
    assert_eq!((told[0]["id"].as_str(), &told[0]["active"]), (Some(id), &json!(false)));
    assert_eq!((&told[1]["match"], &told[1]["active"]), (&json!("two"), &json!(true)));
    drop(second);
}

#[tokio::test]
async fn matchers_that_change_in_a_session_are_told_and_what_is_undone_isnt() {
    let hub = hub();
    let mut watcher = watch(&hub, Way::SseH1, None).await;
    let feed = Way::WebTransport.subscribe(&hub, &["one"]).await;
    assert_eq!(told(&mut watcher, 1).await[0]["match"], "one");
    let control = feed.control().unwrap();
    let matcher = |text| [Matcher::exact(text).unwrap()];
    soon(control.subscribe(&matcher("brief"))).await.unwrap();
    soon(control.unsubscribe(&matcher("brief"))).await.unwrap();
    soon(control.unsubscribe(&matcher("one"))).await.unwrap();
    soon(control.subscribe(&matcher("one"))).await.unwrap();
    soon(control.subscribe(&matcher("two"))).await.unwrap();
    let joined = told(&mut watcher, 1).await;
    assert_eq!((&joined[0]["match"], &joined[0]["active"]), (&json!("two"), &json!(true)));
    soon(control.unsubscribe(&matcher("two"))).await.unwrap();
    let left = told(&mut watcher, 1).await;
    assert_eq!((&left[0]["match"], &left[0]["active"]), (&json!("two"), &json!(false)));
    drop(feed);
    assert_eq!(told(&mut watcher, 1).await[0]["match"], "one");
}

#[tokio::test]
async fn payloads_are_those_of_the_first_detail_that_covers_the_matcher() {
    let hub = hub();
    let mut watcher = watch(&hub, Way::SseH1, None).await;
    let detail = |topics: Value, payload: Value| {
        let mut detail = json!({ "type": DETAIL_TYPE, "actions": ["subscribe"], "topics": topics });
        if !payload.is_null() {
            detail["payload"] = payload;
        }
        detail
    };
    let with = |details: Value| {
        let mut claims = ISSUER.claims(&[], &[]);
        claims["authorization_details"] = details;
        ISSUER.sign(&claims)
    };
    let token = with(json!([
        detail(json!([{ "match": "https://example.com/foo" }]), json!({"a": 1})),
        detail(json!([{ "match": "https://example.com/*", "match_type": "urlpattern" }]), json!({"b": [1]})),
        detail(json!([{ "match": "*" }]), json!({"c": null})),
    ]));
    let mut options = Way::WebTransport.options(&hub).token(token);
    for topic in ["https://example.com/foo", "https://example.com/bar", "else"] {
        options = options.topic(topic).unwrap();
    }
    let feed = Way::WebTransport.connect(&options).await;
    let told = told(&mut watcher, 3).await;
    let payload = |text: &str, told: &[Value]| told.iter().find(|it| it["match"] == text).unwrap()["payload"].clone();
    assert_eq!(payload("https://example.com/foo", &told), json!({"a": 1}));
    assert_eq!(payload("https://example.com/bar", &told), json!({"b": [1]}));
    assert_eq!(payload("else", &told), json!({"c": null}));
    // Another token in place: what it attaches is told where it differs.
    let token = with(json!([detail(json!([{ "match": "*" }]), json!({"c": null}))]));
    soon(feed.control().unwrap().authenticate(&token)).await.unwrap();
    let renewed = self::told(&mut watcher, 2).await;
    assert!(renewed.iter().all(|it| it["payload"] == json!({"c": null}) && it["match"] != "else"));
}

#[tokio::test]
async fn whoever_may_revoke_ends_a_feed_by_its_subscription() {
    let hub = hub();
    for way in Way::ALL {
        let options = way.options(&hub).topic("one").unwrap().token(ISSUER.token(&[], &["one"]));
        let (mut bad, mut good) = (way.connect(&options).await, way.subscribe(&hub, &["two"]).await);
        let (subscriptions, _) = listed(&hub, "/events/subscriptions/exact/one", 1).await;
        let id = subscriptions[0]["id"].as_str().unwrap();
        let delete = |token: &Token, path: &str| {
            let ask = Ask::get(path).method(Method::DELETE);
            ask.header("authorization", format!("Bearer {}", token.as_str()))
        };
        for (token, path, status) in [
            (watcher(), id, 403),
            (revoker(&OTHER_ISSUER), id, 403),
            (revoker(&ISSUER), "/events/subscriptions/exact/one", 404),
            (revoker(&ISSUER), ALL, 404),
        ] {
            assert_eq!(delete(&token, path).whole(Version::H1, &hub).await.status.as_u16(), status, "{way:?} {path}");
        }
        let done = delete(&revoker(&ISSUER), id).whole(Version::H2Tls, &hub).await;
        assert_eq!((done.status.as_u16(), done.json()), (200, json!({"closed": 1})), "{way:?}");
        loop {
            match soon(bad.next()).await.unwrap() {
                Item::Bye(bye) => {
                    assert_eq!((bye.code, bye.retry_ms), (ByeCode::Revoked as u32, None), "{way:?}");
                    break;
                }
                Item::Hello(_) | Item::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
        hub.publish_numbers("two", 0..1).await;
        assert_eq!(Story::read(&mut good, 1).await.numbers(), [0], "{way:?}");
        listed(&hub, "/events/subscriptions/exact/one", 0).await;
    }
}

#[tokio::test]
async fn a_matcher_however_long_is_told_of() {
    let hub = hub();
    let mut watchers = Vec::new();
    for way in Way::ALL {
        watchers.push(watch(&hub, way, None).await);
    }
    let long = "é".repeat(Topic::BYTES_MAX / 2);
    let _feed = Way::SseH2Tls.subscribe(&hub, &[&long]).await;
    for watcher in &mut watchers {
        assert_eq!(told(watcher, 1).await[0]["match"], long.as_str());
    }
}

#[tokio::test]
async fn a_hub_that_is_full_of_subscriptions_says_so() {
    let hub = TestHub::with_keys(|config| {
        config.auth.allow_anonymous = true;
        config.subscriptions_max = Some(3);
    });
    let feed = Way::WebTransport.subscribe(&hub, &["a", "b"]).await;
    let answer = ask(&hub, "/events?topic=c&topic=d", None).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (503, "too_many_subscriptions"));
    let control = feed.control().unwrap();
    let refused = soon(control.subscribe(&["c", "d"].map(|text| Matcher::exact(text).unwrap()))).await;
    assert!(format!("{refused:?}").contains("too_many_subscriptions"), "{refused:?}");
    soon(control.subscribe(&[Matcher::exact("c").unwrap()])).await.unwrap();
}

#[tokio::test]
async fn after_a_crash_what_was_active_is_told_to_be_over() {
    let directory = tempfile::tempdir().unwrap();
    let secret = "a secret of the tests, long enough to be one";
    let flags = ["--subscriptions", "--allow-anonymous", "--resource", RESOURCE, "--token-issuer", ISSUER.name];
    let mut hub = HubProcess::start(directory.path(), &[&flags[..], &["--token-secret", secret]].concat());
    let options = hub.options(Way::SseH1);
    let feed =
        fanwire_client::Connection::connect(Way::SseH1.transport(), &options.topic("one").unwrap()).await.unwrap();
    let watching = |hub: &HubProcess, after: LastEventId| {
        let pattern = "/.well-known/mercure/subscriptions/exact/*";
        let mut options = hub.options(Way::SseH1).pattern(pattern).unwrap().token(watcher());
        options.last_event_id = Some(after);
        options
    };
    let mut watcher = Way::SseH1.connect(&watching(&hub, LastEventId::Earliest)).await;
    let before = told(&mut watcher, 1).await;
    assert_eq!((&before[0]["match"], &before[0]["active"]), (&json!("one"), &json!(true)));
    hub.crash();
    drop((feed, watcher));
    hub.again();
    let mut watcher = Way::SseH1.connect(&watching(&hub, LastEventId::Earliest)).await;
    let after = told(&mut watcher, 2).await;
    assert_eq!(after[0], before[0]);
    assert_eq!((&after[1]["id"], &after[1]["active"]), (&before[0]["id"], &json!(false)));
    // In order this time: there is nothing more to tell of it.
    hub.terminate();
    assert!(hub.ended().await.success());
    hub.again();
    let mut publisher = fanwire_client::Publisher::new(
        hub.options(Way::SseH1).token(ISSUER.token(&["*"], &[])),
        fanwire_client::HttpVersion::H1,
    );
    let mut options = watching(&hub, LastEventId::Earliest).pattern("end").unwrap();
    options.heartbeat = None;
    let mut watcher = Way::SseH1.connect(&options).await;
    publisher.publish(&Publication::text("end", "")).await.unwrap();
    let mut topics = Vec::new();
    while topics.last().is_none_or(|topic| topic != "end") {
        if let Item::Event(event) = soon(watcher.next()).await.unwrap() {
            topics.push(event.event.draft.canonical().as_str().to_owned());
        }
    }
    assert_eq!(topics.len(), 3, "{topics:?}");
}
