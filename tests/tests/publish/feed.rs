//! The head of a feed over SSE, and what it opens with.

use std::time::Duration;

use fanwire::log::{Class, Retention};
use fanwire_tests::{Ask, TestHub, Version, Wire};
use http::{Method, StatusCode};

use crate::stored;

#[tokio::test]
async fn the_head_is_that_of_a_stream() {
    let hub = TestHub::start();
    for version in Version::ALL {
        for path in ["/events?topic=a", "/.well-known/mercure?topic=a"] {
            let mut answer = Ask::get(path).over(version, &hub).await;
            assert_eq!(answer.status, StatusCode::OK);
            assert_eq!(answer.header("content-type"), "text/event-stream");
            assert_eq!(answer.header("cache-control"), "no-store");
            assert_eq!(answer.header("x-accel-buffering"), "no");
            assert_eq!(answer.header("content-length"), "");
            if !matches!(version, Version::H1 | Version::H1Tls) {
                for name in ["connection", "transfer-encoding", "keep-alive"] {
                    assert_eq!(answer.header(name), "", "{version:?}");
                }
            }
            if matches!(version, Version::H1Tls | Version::H2Tls) {
                let port = hub.running().https().unwrap().port();
                assert_eq!(answer.header("alt-svc"), format!("h3=\":{port}\"; ma=86400"), "{version:?}");
            }
            assert_eq!(answer.until(": fanwire\n").await, "retry: 2000\n: fanwire\n", "{version:?}");
        }
    }
}

#[tokio::test]
async fn a_browser_gets_the_cursor_at_once() {
    let hub = TestHub::start();
    hub.publish_numbers("a", 0..5).await;
    let epoch = hub.running().hub().epoch();
    for version in Version::ALL {
        let ask = Ask::get("/events?topic=a").header("sec-fetch-dest", "empty");
        let mut answer = ask.over(version, &hub).await;
        let opening = format!("retry: 2000\n: fanwire\nevent: fanwire\nid: #{epoch}:5\ndata:\n\n");
        assert_eq!(answer.until("\n\n").await, opening, "{version:?}");
    }
}

#[tokio::test]
async fn the_id_that_a_feed_starts_after_is_told() {
    let hub = TestHub::with(|config| {
        config.retention = Retention::new(vec![], Class { events_max: 3, ..Class::default() });
    });
    let epoch = hub.running().hub().epoch();
    let cursor = |seq: u64| format!("#{epoch}:{seq}");
    let told = async |query: &str, header: Option<&str>, version: Version| {
        let mut ask = Ask::get(format!("/events?topic=a{query}"));
        if let Some(header) = header {
            ask = ask.header("last-event-id", header);
        }
        let answer = ask.over(version, &hub).await;
        answer.header("mercure-last-event-id").to_owned()
    };
    for version in Version::ALL {
        assert_eq!(told("&last_event_id=earliest", None, version).await, "earliest", "nothing precedes");
    }
    hub.publish_with_id("a", "1", "one").await;
    hub.publish_with_id("a", "2", "two").await;
    hub.publish_with_id("a", "3", "three").await;
    for version in Version::ALL {
        assert_eq!(told("", None, version).await, cursor(3), "live");
        assert_eq!(told("&last_event_id=", Some(""), version).await, cursor(3), "live");
        assert_eq!(told("", Some(&cursor(2)), version).await, cursor(2), "resumed");
        assert_eq!(told("", Some(&format!("{};t=1;n=a two", cursor(2))), version).await, cursor(2), "of control=1");
        assert_eq!(told("", Some("two"), version).await, "two", "the publisher's");
        assert_eq!(told("&last_event_id=one", Some("two"), version).await, "two", "the header wins");
        assert_eq!(told("", Some("unknown"), version).await, "earliest");
        assert_eq!(told("", Some(&cursor(999)), version).await, "earliest", "beyond the end");
        assert_eq!(told("", Some("#vvvvvvvvvv:1"), version).await, "earliest", "of another log");
        assert_eq!(told("", Some("earliest"), version).await, "earliest");
    }
    hub.publish_numbers("a", 4..8).await;
    assert_eq!(told("", Some("one"), Version::H1).await, "earliest", "evicted");
    assert_eq!(told("", Some(&cursor(1)), Version::H1).await, "earliest", "what followed is evicted");
}

#[tokio::test]
async fn heartbeats_are_single_lines() {
    let hub = TestHub::start();
    for version in Version::ALL {
        let mut answer = Ask::get("/events?topic=a&heartbeat=0.1").over(version, &hub).await;
        assert_eq!(answer.until("ing\n").await, "retry: 2000\n: fanwire\n: ping\n", "{version:?}");
        assert_eq!(answer.until("ing\n").await, ": ping\n", "{version:?}");
    }
}

#[tokio::test]
async fn a_head_alone_takes_no_seat() {
    let hub = TestHub::start();
    hub.publish_numbers("a", 0..2).await;
    let epoch = hub.running().hub().epoch();
    for version in Version::ALL {
        let answer = Ask::get("/events?topic=a").method(Method::HEAD).whole(version, &hub).await;
        assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, 0), "{version:?}");
        assert_eq!(answer.header("content-type"), "text/event-stream");
        assert_eq!(answer.header("mercure-last-event-id"), format!("#{epoch}:2"));
        assert_eq!(hub.running().hub().subscribers(), 0);
        let answer = Ask::get("/events").method(Method::HEAD).whole(version, &hub).await;
        assert_eq!((answer.status, answer.body.len()), (StatusCode::BAD_REQUEST, 0), "{version:?}");
    }
    // The connection goes on.
    let mut wire = Wire::cleartext(&hub).await;
    for _ in 0..3 {
        wire.send("HEAD /events?topic=a HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        assert!(wire.until("\r\n\r\n").await.starts_with("HTTP/1.1 200"));
    }
    stored(&hub, 2).await;
}

#[tokio::test]
async fn http_1_0_gets_a_stream_that_ends_with_the_connection() {
    let hub = TestHub::start();
    let mut wire = Wire::cleartext(&hub).await;
    wire.send("GET /events?topic=a HTTP/1.0\r\nHost: localhost\r\n\r\n").await;
    let head = wire.until("\r\n\r\n").await.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 200 ok\r\n"), "{head}");
    assert!(head.contains("\r\nconnection: close\r\n") && !head.contains("transfer-encoding"), "{head}");
    assert!(!head.contains("content-length"), "{head}");
    assert_eq!(wire.until(": fanwire\n").await, "retry: 2000\n: fanwire\n");
    hub.publish_with_id("a", "1\n2", "one").await;
    assert_eq!(wire.until("\n\n").await.replace(": ", ":"), "id:one\ndata:1\ndata:2\n\n");
    let drained = tokio::spawn(hub.into_running().drain(Duration::from_secs(10)));
    let rest = String::from_utf8(wire.rest().await).unwrap();
    assert!(rest.starts_with("retry: "), "{rest}");
    assert!(drained.await.unwrap());
}

#[tokio::test]
async fn http_1_1_gets_chunks_and_their_end() {
    let hub = TestHub::start();
    let mut wire = Wire::cleartext(&hub).await;
    wire.send("GET /events?topic=a HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let head = wire.until("\r\n\r\n").await.to_ascii_lowercase();
    assert!(head.contains("\r\ntransfer-encoding: chunked\r\n") && !head.contains("content-length"), "{head}");
    wire.until(": fanwire\n\r\n").await;
    hub.publish_numbers("a", 0..1).await;
    wire.until("\n\n\r\n").await;
    let drained = tokio::spawn(hub.into_running().drain(Duration::from_secs(10)));
    let rest = String::from_utf8(wire.rest().await).unwrap();
    assert!(rest.ends_with("\r\n0\r\n\r\n"), "{rest}");
    assert!(drained.await.unwrap());
}
