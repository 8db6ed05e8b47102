//! Over TCP: garbage, halves of things, and clients that never come to the point.

use std::time::Duration;

use fanwire::telemetry::Limit;
use fanwire_tests::{Ask, TestHub, Version, Wire, http2::PREFACE, soon};
use http::StatusCode;

use crate::{Memory, Witnesses, http2, impatient, noise};

#[tokio::test]
async fn garbage_is_hung_up_on() {
    let mut witnesses = Witnesses::with(impatient).await;
    let client_hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &noise(7, 505)].concat();
    let garbage = [
        noise(1, 100),
        noise(2, 64 * 1024),
        vec![0; 4096],
        vec![0xff; 4096],
        b"\r\n".repeat(2000),
        b"\n".to_vec(),
        b"GET\r\n\r\n".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"GET /events?topic=a HTTP/1.1\r\nHost: a\r\n b\r\n: c\r\n\r\n".to_vec(),
        b"POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n".to_vec(),
        b"POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_vec(),
        b"POST /events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_vec(),
        b"POST /events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n"
            .to_vec(),
        client_hello,
    ];
    for (index, garbage) in garbage.iter().enumerate() {
        for port in ["cleartext", "tls", "in tls", "in tls as h2"] {
            let mut wire = match port {
                "cleartext" => Wire::cleartext(&witnesses.hub).await,
                "tls" => Wire::to_tls_port(&witnesses.hub).await,
                "in tls" => Wire::tls(&witnesses.hub, &[b"http/1.1"]).await,
                _ => Wire::tls(&witnesses.hub, &[b"h2"]).await,
            };
            wire.send(garbage).await;
            assert!(wire.ends_within(BOUND).await, "garbage {index} to the port in {port}");
        }
        witnesses.served().await;
    }
    witnesses.alone().await;
}

#[tokio::test]
async fn a_request_cut_anywhere_leaves_nothing() {
    let mut witnesses = Witnesses::gather().await;
    let request = b"GET /events?topic=a HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n";
    for end in 0..=request.len() {
        let mut wire = Wire::cleartext(&witnesses.hub).await;
        wire.send(&request[..end]).await;
        wire.half_close().await;
        assert!(wire.ends_within(BOUND).await, "after {end} bytes");
        let mut wire = Wire::cleartext(&witnesses.hub).await;
        wire.send(&request[..end]).await;
        wire.reset();
    }
    witnesses.served().await;
    let post = b"POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 40\r\n\r\n{\"topic\":\"witness\",";
    for end in (40..=post.len()).step_by(7) {
        for cleartext in [true, false] {
            let wire = async || match cleartext {
                true => Wire::cleartext(&witnesses.hub).await,
                false => Wire::tls(&witnesses.hub, &[b"http/1.1"]).await,
            };
            let mut cut = wire().await;
            cut.send(&post[..end]).await;
            cut.half_close().await;
            assert!(cut.ends_within(BOUND).await, "after {end} bytes");
            let mut reset = wire().await;
            reset.send(&post[..end]).await;
            reset.reset();
        }
    }
    witnesses.alone().await;
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let Some(mut witnesses) = Witnesses::apart(|_| ()).await else { return };
    let memory = Memory::now();
    let large = "x".repeat(64 * 1024);
    let many: String = (0..5_000).map(|i| format!("X-{i}: {i}\r\n")).collect();
    for cleartext in [true, false].repeat(20) {
        for head in [
            format!("GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Large: {large}\r\n\r\n"),
            format!("GET /{large} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            format!("GET /livez HTTP/1.1\r\nHost: localhost\r\n{many}\r\n"),
        ] {
            let mut wire = match cleartext {
                true => Wire::cleartext(&witnesses.hub).await,
                false => Wire::tls(&witnesses.hub, &[b"http/1.1"]).await,
            };
            wire.send(&head).await;
            let answer = String::from_utf8(wire.rest().await).unwrap();
            let refused = answer.is_empty() || answer.starts_with("HTTP/1.1 431") || answer.starts_with("HTTP/1.1 414");
            assert!(refused, "{answer}");
        }
    }
    // Counted when the connection has ended.
    let refused = |count| move |hub: &TestHub| hub.running().hub().metrics().times_reached(Limit::HeadBytes) == count;
    witnesses.until(refused(120)).await;
    for version in [Version::H2c, Version::H2Tls] {
        let answer = Ask::get("/livez").header("x-large", "x".repeat(40 * 1024)).whole(version, &witnesses.hub).await;
        assert_eq!(answer.status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "{version:?}");
    }
    // The crate h2 answers by itself, and no answer of the hub's counts.
    witnesses.until(refused(122)).await;
    memory.grew_within("HTTP/1, 120 heads of 64 KiB, one after the other", MEMORY_MAX);
    witnesses.alone().await;
}

#[tokio::test]
async fn a_head_that_never_ends_is_given_up() {
    // Long enough that all of them are there at the same time.
    let Some(mut witnesses) = Witnesses::apart(|config| config.tcp.head = Duration::from_secs(5)).await else { return };
    let memory = Memory::now();
    let mut slow = vec![];
    for i in 0..300 {
        let mut wire = match i % 3 {
            0 => Wire::cleartext(&witnesses.hub).await,
            1 => Wire::tls(&witnesses.hub, &[b"http/1.1"]).await,
            _ => Wire::tls(&witnesses.hub, &[b"h2"]).await,
        };
        let begun: &[u8] = match i % 3 {
            2 => b"",
            _ => b"GET /events?topic=a HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
        };
        if begun.is_empty() {
            // Past the preface, which has a limit of its own.
            assert!(wire.send(http2::a_long_head_begins()).await);
        }
        // It never stops, and never comes to its end.
        slow.push(tokio::spawn(async move {
            for byte in begun.iter().copied().chain(std::iter::repeat(b'x')) {
                if !wire.send([byte]).await || wire.ends_within(Duration::from_millis(300)).await {
                    return;
                }
            }
        }));
    }
    witnesses.served().await;
    let all = witnesses.count() + slow.len();
    witnesses.until(|hub| hub.running().connections() == all).await;
    memory.grew_within("300 connections with heads that never end, two of three in TLS", MEMORY_MAX);
    for slow in slow {
        soon(slow).await.unwrap();
    }
    witnesses.until(|hub| hub.running().hub().metrics().times_reached(Limit::HeadTime) >= 300).await;
    witnesses.alone().await;
}

#[tokio::test]
async fn feeds_that_are_never_read_hold_little() {
    let Some(mut witnesses) = Witnesses::apart(|config| config.feed_limits.stalled_ms_max = 1_000).await else {
        return;
    };
    let before = witnesses.count();
    let memory = Memory::now();
    let mut wires = vec![];
    for i in 0..60 {
        let mut wire = match i % 2 {
            0 => Wire::cleartext(&witnesses.hub).await,
            _ => Wire::tls(&witnesses.hub, &[b"http/1.1"]).await,
        };
        wire.send("GET /events?topic=big HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        wire.until(": fanwire\n").await;
        wires.push(wire);
    }
    witnesses.until(|hub| hub.running().hub().subscribers() == before + 60).await;
    // More than sockets hold.
    for _ in 0..3 {
        witnesses.publish_big("big").await;
    }
    witnesses.served().await;
    witnesses.until(|hub| hub.running().hub().subscribers() == before).await;
    memory.grew_within("HTTP/1, 60 feeds that are never read, 24 MiB published", MEMORY_MAX);
    drop(wires);
    witnesses.alone().await;
}

#[tokio::test]
async fn who_says_nothing_is_given_up() {
    let Some(mut witnesses) = Witnesses::apart(impatient).await else { return };
    let memory = Memory::now();
    let mut silent = vec![];
    for end in [0, 1, 22, 23] {
        // Neither HTTP/1 nor HTTP/2 yet.
        let mut wire = Wire::cleartext(&witnesses.hub).await;
        wire.send(&PREFACE[..end]).await;
        silent.push((format!("{end} bytes of a preface"), wire));
        let mut wire = Wire::tls(&witnesses.hub, &[b"h2"]).await;
        wire.send(&PREFACE[..end]).await;
        silent.push((format!("{end} bytes of a preface in TLS"), wire));
        // A TLS record of 512 bytes is announced, and doesn't come.
        let mut wire = Wire::to_tls_port(&witnesses.hub).await;
        wire.send(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..end]).await;
        silent.push((format!("{end} bytes of a handshake"), wire));
    }
    for alpn in [&[b"http/1.1" as &[u8]] as &[&[u8]], &[]] {
        silent.push(("nothing after a handshake".to_owned(), Wire::tls(&witnesses.hub, alpn).await));
    }
    // A connection that has had its answer may stay as long, and no longer.
    let mut wire = Wire::cleartext(&witnesses.hub).await;
    wire.send("GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(wire.answer().await.status, StatusCode::OK);
    silent.push(("nothing after an answer".to_owned(), wire));
    witnesses.served().await;
    for (what, mut wire) in silent {
        assert!(wire.ends_within(BOUND).await, "{what}");
    }
    memory.grew_within("15 connections that say nothing, or half a preface, or half a handshake", MEMORY_MAX);
    assert!(witnesses.reached(Limit::HandshakeTime) >= 4 && witnesses.reached(Limit::HeadTime) >= 8);
    witnesses.alone().await;
}

#[tokio::test]
async fn a_connection_that_says_nothing_does_not_hold_up_a_drain() {
    let witnesses = Witnesses::gather().await;
    let mut silent = vec![
        Wire::cleartext(&witnesses.hub).await,
        Wire::to_tls_port(&witnesses.hub).await,
        Wire::tls(&witnesses.hub, &[b"http/1.1"]).await,
        Wire::tls(&witnesses.hub, &[b"h2"]).await,
    ];
    let mut half = Wire::cleartext(&witnesses.hub).await;
    half.send("PRI * ").await;
    silent.push(half);
    let all = witnesses.count() + silent.len();
    witnesses.until(|hub| hub.running().connections() == all).await;
    let Witnesses { hub, .. } = witnesses;
    let gracefully = soon(hub.into_running().drain(Duration::from_secs(60))).await;
    assert!(gracefully, "browsers open connections ahead of need, and say nothing on them");
    for mut wire in silent {
        assert!(wire.ends_within(BOUND).await);
    }
}

#[tokio::test]
async fn a_client_that_closes_its_side_ends_its_feed_only() {
    let mut witnesses = Witnesses::gather().await;
    let mut wire = Wire::cleartext(&witnesses.hub).await;
    wire.send("GET /events?topic=witness HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    wire.until(": fanwire\n").await;
    let all = witnesses.count();
    witnesses.until(|hub| hub.running().hub().subscribers() == all + 1).await;
    wire.half_close().await;
    assert!(wire.ends_within(BOUND).await);
    witnesses.until(|hub| hub.running().hub().subscribers() == all).await;
    // A publisher that has said all it has to say gets its answer.
    let mut wire = Wire::cleartext(&witnesses.hub).await;
    let head = "POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded";
    wire.send(format!("{head}\r\nContent-Length: 14\r\n\r\ntopic=a&data=1")).await;
    wire.half_close().await;
    assert_eq!(wire.answer().await.status, StatusCode::OK);
    witnesses.alone().await;
}

#[tokio::test]
async fn who_pipelines_gets_every_answer_up_to_the_feed() {
    let mut witnesses = Witnesses::gather().await;
    let mut wire = Wire::cleartext(&witnesses.hub).await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let (page, feed) = (get("/"), get("/events?topic=witness&last_event_id=earliest"));
    // What comes after the feed is nothing that will be answered.
    wire.send(format!("{}{page}{feed}{}{}", get("/livez"), get("/livez"), "x".repeat(100_000))).await;
    assert_eq!(wire.answer().await.body, b"live\n");
    assert!(!wire.answer().await.body.is_empty());
    let head = wire.until("\r\n\r\n").await;
    assert!(head.contains("content-type: text/event-stream"), "{head}");
    witnesses.served().await;
    wire.until("data: 0\n\n").await;
    drop(wire);
    witnesses.alone().await;
}

#[tokio::test]
async fn resets_in_the_middle_of_everything_leave_nothing() {
    let mut witnesses = Witnesses::gather().await;
    let feed = "GET /events?topic=witness HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for i in 0..40 {
        let mut wire = match i % 2 {
            0 => Wire::cleartext(&witnesses.hub).await,
            _ => Wire::tls(&witnesses.hub, &[b"http/1.1"]).await,
        };
        wire.send(feed).await;
        if i % 4 < 2 {
            wire.until(": fanwire\n").await;
        }
        wire.reset();
        Wire::to_tls_port(&witnesses.hub).await.reset();
        Wire::tls(&witnesses.hub, &[b"h2"]).await.reset();
    }
    witnesses.alone().await;
}

/// The history of what is published, and far less than it would be for each of them.
const MEMORY_MAX: usize = 64 << 20;
/// Far below what the hub would wait if its limits were not short, or not kept.
const BOUND: Duration = Duration::from_secs(8);
