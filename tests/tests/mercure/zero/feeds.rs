//! What is subscribed to, and where a feed begins.

use fanwire_client::{Item, Publication};
use fanwire_tests::{Ask, ISSUER, TestHub, Version, Way, soon};

use super::*;

#[tokio::test]
async fn what_a_publisher_of_0x_sends_its_subscribers_get() {
    let hub = hub(|_| ());
    let token = sign(&grants(&[], &["https://example.com/users/1"]));
    for version in Version::ALL {
        let mine = ["https://example.com/books/1", "bar"];
        let mut feed = open(ask(&mine).header("authorization", bearer(&token)), version, &hub).await;
        let mut all =
            open(ask(&["*"]).header("authorization", bearer(&sign(&grants(&[], &["*"])))), version, &hub).await;
        for (fields, private) in [
            (
                vec![
                    ("topic", "https://example.com/books/1"),
                    ("data", "public"),
                    ("id", "urn:uuid:1"),
                    ("type", "book"),
                ],
                false,
            ),
            (vec![("topic", "https://example.com/books/1"), ("data", "not for you")], true),
            (
                vec![
                    ("topic", "https://example.com/books/1"),
                    ("topic", "https://example.com/users/1"),
                    ("data", "for you"),
                ],
                true,
            ),
            (vec![("topic", "https://example.com/users/1"), ("data", "not asked for")], true),
            (vec![("topic", "bar"), ("data", "end"), ("retry", "1500")], false),
        ] {
            let value = if private { vec![("private", "on")] } else { vec![] };
            publish(&hub, &[fields, value].concat()).await;
        }
        let text = feed.until("data: end\n\n").await;
        assert!(
            text.contains("id: urn:uuid:1\n") && text.contains("event: book\n") && text.contains("retry: 1500\n"),
            "{text}"
        );
        let seen: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
        assert_eq!(seen, ["public", "for you", "end"], "{version:?}");
        assert_eq!(data(&mut all).await, ["public", "not for you", "for you", "not asked for", "end"], "{version:?}");
    }
}

#[tokio::test]
async fn what_is_for_targets_is_refused() {
    let hub = hub(|_| ());
    let token = sign(&grants(&["*"], &[]));
    for version in Version::ALL {
        let targeted = [("topic", "a"), ("data", "for some"), ("target", "https://example.com/users/1")];
        let answer = post(&hub, version, Some(&token), &targeted).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (400, "targets_unsupported".into()), "{version:?}");
    }
    // Nothing of it is kept: the first id is that of the next event.
    assert!(publish(&hub, &[("topic", "a")]).await.ends_with(":1"));
}

#[tokio::test]
async fn a_feed_begins_after_the_event_that_any_version_of_0x_names() {
    let hub = hub(|config| config.auth.allow_anonymous = true);
    let first = publish(&hub, &[("topic", "a"), ("data", "1")]).await;
    publish(&hub, &[("topic", "a"), ("data", "2"), ("id", "urn:uuid:2")]).await;
    publish(&hub, &[("topic", "a"), ("data", "end")]).await;
    let encoded: String = url::form_urlencoded::byte_serialize(first.as_bytes()).collect();
    for (query, header, preceding, expected) in [
        (format!("lastEventID={encoded}"), None, &*first, &["2", "end"][..]),
        ("Last-Event-ID=urn:uuid:2".into(), None, "urn:uuid:2", &["end"]),
        ("Last-Event-Id=urn:uuid:2".into(), None, "urn:uuid:2", &["end"]),
        ("lastEventId=urn:uuid:2".into(), None, "urn:uuid:2", &["end"]),
        ("lastEventID=&Last-Event-ID=urn:uuid:2".into(), None, "urn:uuid:2", &["end"]),
        (format!("lastEventID={encoded}"), Some("urn:uuid:2"), "urn:uuid:2", &["end"]),
        ("lastEventID=earliest".into(), None, "earliest", &["1", "2", "end"]),
        // What another hub has given: there is no such event here.
        ("lastEventID=urn:uuid:other".into(), None, "earliest", &["1", "2", "end"]),
        (String::new(), Some("#7"), "earliest", &["1", "2", "end"]),
    ] {
        for version in Version::ALL {
            let mut ask = Ask::get(format!("{HUB}?topic=a&{query}"));
            ask.headers.extend(header.map(|header| ("last-event-id", header.to_owned())));
            let mut feed = open(ask, version, &hub).await;
            assert_eq!(feed.header("last-event-id"), preceding, "{version:?} {query}");
            assert_eq!(data(&mut feed).await, expected, "{version:?} {query}");
        }
    }
}

#[tokio::test]
async fn pages_of_allowed_origins_may_read_where_a_feed_begins() {
    let hub = hub(|config| config.allowed_origins = vec!["https://app.example".parse().unwrap()]);
    let cookie = format!("mercureAuthorization={}", sign(&grants(&[], &[])));
    for version in Version::ALL {
        let page = |origin: &str| {
            ask(&["a"]).header("origin", origin).header("cookie", &cookie).method("HEAD".parse().unwrap())
        };
        let answer = page("https://app.example").whole(version, &hub).await;
        let exposed: Vec<&str> = answer.header("access-control-expose-headers").split(", ").collect();
        assert_eq!((answer.status.as_u16(), exposed.contains(&"Last-Event-ID")), (200, true), "{version:?}");
        assert_eq!(answer.header("access-control-allow-origin"), "https://app.example", "{version:?}");
        assert_eq!(answer.header("access-control-allow-credentials"), "true", "{version:?}");
        let refused = ask(&["a"]).header("origin", "https://evil.example").header("cookie", &cookie);
        assert_eq!(refused.whole(version, &hub).await.code(), "foreign_origin", "{version:?}");
    }
}

#[tokio::test]
async fn what_is_asked_for_wrongly_is_refused() {
    let hub = hub(|config| config.auth.allow_anonymous = true);
    let many: String = (0..101).map(|number| format!("&topic={number}")).collect();
    for version in Version::ALL {
        for (query, code) in [
            ("", "no_matcher"),
            ("match=a", "no_matcher"),
            ("topic=", "bad_matcher"),
            ("topic=a%0Ab", "bad_matcher"),
            ("topic=%ff", "not_utf8"),
            (&many, "too_many_matchers"),
        ] {
            let answer = Ask::get(format!("{HUB}?{query}")).whole(version, &hub).await;
            assert_eq!((answer.status.as_u16(), answer.code().as_str()), (400, code), "{version:?} {query}");
        }
        for method in ["QUERY", "DELETE", "PUT"] {
            let answer = Ask::get(HUB).method(method.parse().unwrap()).whole(version, &hub).await;
            assert_eq!(
                (answer.status.as_u16(), answer.header("allow")),
                (405, "GET, HEAD, POST, OPTIONS"),
                "{version:?}"
            );
        }
    }
}

#[tokio::test]
async fn it_is_spoken_where_it_is_asked_for_and_nowhere_else() {
    let hub = hub(|config| config.mercure0 = Listeners { http: true, https: false });
    let legacy = sign(&grants(&["*"], &["*"]));
    let modern = ISSUER.token(&["*"], &["*"]);
    for version in Version::ALL {
        let statuses = async |path: &str| {
            let with =
                |token: &str| Ask::get(path).header("authorization", bearer(token)).method("HEAD".parse().unwrap());
            [
                with(&legacy).whole(version, &hub).await.status.as_u16(),
                with(modern.as_str()).whole(version, &hub).await.status.as_u16(),
            ]
        };
        let of_0x = if version.is_tls() { [401, 200] } else { [200, 401] };
        assert_eq!(statuses(&format!("{HUB}?topic=a")).await, of_0x, "{version:?}");
        assert_eq!(statuses("/events?topic=a").await, [401, 200], "{version:?}");
        let answer = Ask::get(format!("{HUB}?match=a")).header("authorization", bearer(modern.as_str()));
        let status = answer.method("HEAD".parse().unwrap()).whole(version, &hub).await.status.as_u16();
        assert_eq!(status, if version.is_tls() { 200 } else { 401 }, "{version:?}");
    }
    // Sessions are as ever, wherever 0.x is spoken.
    let hub = self::hub(|_| ());
    let mut options = Way::WebTransport.options(&hub).topic("a").unwrap().token(modern.clone());
    options.url.set_path(HUB);
    let mut feed = Way::WebTransport.connect(&options).await;
    assert!(matches!(soon(feed.next()).await.unwrap(), Item::Hello(_)));
    // And both meet in one log.
    hub.publisher_with(modern).publish(&Publication::text("a", "of 1.0")).await.unwrap();
    publish(&hub, &[("topic", "a"), ("data", "of 0.x")]).await;
    assert_eq!(fanwire_tests::Story::read(&mut feed, 2).await.texts(), ["of 1.0", "of 0.x"]);
}

#[tokio::test]
async fn without_keys_there_are_no_tokens() {
    let hub = TestHub::with(|config| config.mercure0 = EVERYWHERE);
    for version in Version::ALL {
        let mut feed = open(ask(&["a"]).header("authorization", "Basic x"), version, &hub).await;
        let answer = post(&hub, version, None, &[("topic", "a"), ("data", "end")]).await;
        assert_eq!(answer.status.as_u16(), 200, "{version:?}");
        assert_eq!(data(&mut feed).await, ["end"], "{version:?}");
    }
}

/// A native EventSource is told where it begins, in a block that is no event by the standard; parsers that pages bring along may take it for one.
#[tokio::test]
async fn only_a_browsers_own_event_source_begins_with_an_id() {
    let hub = hub(|config| config.auth.allow_anonymous = true);
    for version in Version::ALL {
        for (headers, block) in [
            (&[][..], false),
            (&[("sec-fetch-dest", "empty")], false),
            (&[("sec-fetch-dest", "empty"), ("cache-control", "no-cache")], true),
        ] {
            let mut ask = ask(&["a"]);
            ask.headers.extend(headers.iter().map(|&(name, value)| (name, value.to_owned())));
            let mut feed = ask.over(version, &hub).await;
            publish(&hub, &[("topic", "a"), ("data", "end")]).await;
            let text = feed.until("data: end\n\n").await;
            assert_eq!(text.matches("\n\n").count(), 1 + usize::from(block), "{version:?} {headers:?} {text}");
        }
        let token = sign(&grants(&[], &[]));
        let page = [("sec-fetch-dest", "empty"), ("cache-control", "no-cache")];
        let mut ask = ask(&["a"]).header("authorization", bearer(&token));
        ask.headers.extend(page.map(|(name, value)| (name, value.to_owned())));
        let mut feed = ask.over(version, &hub).await;
        publish(&hub, &[("topic", "a"), ("data", "end")]).await;
        assert_eq!(feed.until("data: end\n\n").await.matches("\n\n").count(), 1, "{version:?}");
    }
}
