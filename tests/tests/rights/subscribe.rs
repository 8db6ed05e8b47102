//! What a feed is let in with, and for how long.

use std::time::Duration;

use fanwire_client::{ConnectError, Connection, Item, Options, Publication};
use fanwire_protocol::{
    LastEventId,
    message::{ByeCode, GapReason, Verdict},
};
use fanwire_tests::{Ask, ISSUER, Story, TestHub, Version, Way, all, now_ms, soon};
use serde_json::json;

fn private(topic: &str, text: &str) -> Publication {
    Publication { private: true, ..Publication::text(topic, text) }
}

/// How a way refuses: the status of HTTP, or the code of the bye.
pub(crate) async fn refusal(way: Way, options: &Options) -> u32 {
    match soon(Connection::connect(way.transport(), options)).await {
        Err(ConnectError::Refused(error)) => u32::from(error.status),
        Ok(mut connection) => match soon(connection.next()).await {
            Ok(Item::Bye(bye)) => bye.code,
            Ok(item) => panic!("{way:?} delivers {item:?}"),
            Err(fanwire_client::ReceiveError::Closed { code, .. }) => code,
            Err(error) => panic!("{way:?}: {error}"),
        },
        Err(error) => panic!("{way:?}: {error}"),
    }
}

#[tokio::test]
async fn without_a_token_there_is_no_feed_or_a_public_one() {
    let closed = TestHub::with_keys(|_| ());
    let open = TestHub::with_keys(|config| config.auth.allow_anonymous = true);
    for way in Way::EVERY {
        let expected = if way.is_session() { ByeCode::Unauthorized as u32 } else { 401 };
        let options = way.options(&closed).topic("a").unwrap();
        assert_eq!(refusal(way, &options).await, expected, "{way:?}");
        // A client that had a token and lost it isn't let in as a stranger.
        let mut options = way.options(&open).topic("a").unwrap();
        options.url.set_query(Some("auth=required"));
        assert_eq!(refusal(way, &options).await, expected, "{way:?}");
        let mut feed = way.subscribe(&open, &["a"]).await;
        let mut publisher = open.publisher_with(ISSUER.token(&["*"], &[]));
        publisher.publish(&private("a", "not for you")).await.unwrap();
        publisher.publish(&Publication::text("a", "for all")).await.unwrap();
        assert_eq!(Story::read(&mut feed, 1).await.texts(), ["for all"], "{way:?}");
        let mut replay = way.resume(&open, &["a"], "earliest").await;
        assert_eq!(Story::read(&mut replay, 1).await.texts(), ["for all"], "{way:?}");
    }
    assert_eq!(closed.running().hub().subscribers(), 0);
}

/// What is granted, the id that is asked with, what becomes of it, the number that the feed starts after, and what it gets.
type Row<'a> = (Option<&'a str>, &'a str, Verdict, u64, &'a [&'a str]);

#[tokio::test]
async fn the_id_of_what_may_not_be_seen_is_as_good_as_none() {
    let directory = tempfile::tempdir().unwrap();
    for data_dir in [None, Some(directory.path().to_owned())] {
        let hub = TestHub::with_keys(|config| {
            config.auth.allow_anonymous = true;
            config.data_dir.clone_from(&data_dir);
        });
        let with_id = |private, topic: &str, text: &str, id: &str| {
            let id = Some(id.to_owned());
            Publication { private, id, ..Publication::text(topic, text) }
        };
        let mut publisher = hub.publisher_with(ISSUER.token(&["*"], &[]));
        for publication in [
            with_id(false, "open", "1", "first"),
            with_id(true, "secret", "2", "hidden"),
            with_id(true, "secret", "3", "both"),
            with_id(false, "open", "4", "both"),
            with_id(false, "open", "5", "last"),
        ] {
            publisher.publish(&publication).await.unwrap();
        }
        let (stranger, other, reader) = (None, Some("elsewhere"), Some("secret"));
        let rows: [Row<'_>; 10] = [
            (stranger, "never published", Verdict::UnknownCursor, 0, &["1", "4", "5"]),
            (stranger, "hidden", Verdict::UnknownCursor, 0, &["1", "4", "5"]),
            (other, "never published", Verdict::UnknownCursor, 0, &["1", "4", "5"]),
            (other, "hidden", Verdict::UnknownCursor, 0, &["1", "4", "5"]),
            (reader, "never published", Verdict::UnknownCursor, 0, &["1", "4", "5"]),
            // Whatever its matchers are: a client may come back with others.
            (reader, "hidden", Verdict::Resumed, 2, &["4", "5"]),
            (stranger, "first", Verdict::Resumed, 1, &["4", "5"]),
            // The first that may be seen, as if there were no other.
            (stranger, "both", Verdict::Resumed, 4, &["5"]),
            (other, "both", Verdict::Resumed, 4, &["5"]),
            (reader, "both", Verdict::Resumed, 3, &["4", "5"]),
        ];
        for (granted, id, verdict, seq, texts) in rows {
            let token = granted.map(|topic| ISSUER.token(&[], &[topic]));
            for way in Way::EVERY {
                let mut options = way.options(&hub).topic("open").unwrap();
                options = options.last_event_id(LastEventId::parse(id).unwrap().unwrap());
                if let Some(token) = &token {
                    options = options.token(token.clone());
                }
                let story = Story::read(&mut way.connect(&options).await, texts.len()).await;
                let hello = story.hello.as_ref().unwrap();
                assert_eq!((hello.verdict, hello.cursor.seq.0), (verdict, seq), "{way:?} {id} {data_dir:?}");
                assert_eq!(story.texts(), texts, "{way:?} {id}");
                let gaps: Vec<_> = story.gaps.iter().map(|gap| (gap.reason, gap.from, gap.to)).collect();
                let unknown = vec![(GapReason::UnknownCursor, None, 0)];
                assert_eq!(gaps, if seq == 0 { unknown } else { vec![] }, "{way:?} {id}");
            }
            let mut ask = Ask::get("/events?topic=open").header("last-event-id", id);
            if let Some(token) = &token {
                ask = ask.header("authorization", format!("Bearer {}", token.as_str()));
            }
            for version in Version::ALL {
                let answer = ask.clone().over(version, &hub).await;
                let expected = if seq == 0 { "earliest" } else { id };
                assert_eq!(answer.header("mercure-last-event-id"), expected, "{version:?} {id}");
            }
        }
    }
}

#[tokio::test]
async fn a_cookie_lets_a_page_subscribe() {
    let hub = TestHub::with_keys(|_| ());
    let cookie = format!("__Secure-mercure_access_token={}", ISSUER.token(&[], &["a"]).as_str());
    for version in Version::ALL {
        let ask = Ask::get("/events?topic=a").header("cookie", cookie.as_str());
        let mut answer = ask.clone().header("sec-fetch-site", "same-origin").over(version, &hub).await;
        assert_eq!(answer.status.as_u16(), 200, "{version:?}");
        answer.until("\n").await;
        let mut publisher = hub.publisher_with(ISSUER.token(&["*"], &[]));
        publisher.publish(&private("a", "for you")).await.unwrap();
        assert!(answer.until("\n\n").await.contains("data: for you"), "{version:?}");
        let answer = ask.clone().header("sec-fetch-site", "cross-site").whole(version, &hub).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (403, "foreign_origin".into()), "{version:?}");
        let answer = Ask::get("/events?topic=a").header("cookie", format!("{cookie}x")).whole(version, &hub).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (401, "invalid_token".into()), "{version:?}");
        assert_eq!(answer.challenge(), "Bearer error=\"invalid_token\"");
        let answer = Ask::get("/events?topic=a&access_token=x").whole(version, &hub).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (400, "invalid_request".into()), "{version:?}");
        assert_eq!(answer.challenge(), "Bearer error=\"invalid_request\"");
    }
}

#[tokio::test]
async fn a_feed_ends_with_its_token() {
    let hub = TestHub::with_keys(|_| ());
    let feeds = Way::EVERY.map(|way| {
        let hub = &hub;
        async move {
            let mut claims = ISSUER.claims(&[], &["a"]);
            let expires_at_ms = now_ms() + 2_500;
            claims["exp"] = json!(expires_at_ms as f64 / 1000.0);
            let mut options = way.options(hub).topic("a").unwrap().token(ISSUER.sign(&claims));
            options.auth_in_band = true;
            let mut feed = way.connect(&options).await;
            loop {
                match soon(feed.next()).await.unwrap() {
                    Item::Bye(bye) => {
                        assert_eq!((bye.code, bye.retry_ms.is_some()), (ByeCode::Expired as u32, true), "{way:?}");
                        break;
                    }
                    Item::Hello(_) | Item::Ping(_) => {}
                    other => panic!("{way:?}: {other:?}"),
                }
            }
            let late = now_ms() as i64 - expires_at_ms as i64;
            // The hub's own margin is 100 ms; the rest is for a machine that has more to do. The next heartbeat would be in 15 s.
            assert!((-1_000..=5_000).contains(&late), "{way:?} ended {late} ms after its token");
            // It doesn't go on as anybody's.
            let expected = if way.is_session() { ByeCode::Unauthorized as u32 } else { 401 };
            tokio::time::sleep(Duration::from_millis(500)).await;
            assert_eq!(refusal(way, &options).await, expected, "{way:?}");
        }
    });
    all(feeds).await;
}

#[tokio::test]
async fn a_feed_has_a_longest_life() {
    let hub = TestHub::with_keys(|config| {
        config.auth.allow_anonymous = true;
        config.auth.feed_lifetime_max = Some(Duration::from_secs(1));
    });
    let feeds = Way::EVERY.map(|way| {
        let hub = &hub;
        async move {
            let mut feed = way.subscribe(hub, &["a"]).await;
            let bye = loop {
                match soon(feed.next()).await.unwrap() {
                    Item::Bye(bye) => break bye,
                    Item::Ping(_) => {}
                    other => panic!("{way:?}: {other:?}"),
                }
            };
            assert_eq!((bye.code, bye.retry_ms.is_some()), (ByeCode::Limit as u32, true), "{way:?}");
            assert!(bye.reason.starts_with("feed_lifetime_max"));
        }
    });
    all(feeds).await;
}
