//! At the limits: who is one too many is told so, and those who were there before don't notice.

use std::time::Duration;

use fanwire::{config::Config, telemetry::Limit};
use fanwire_protocol::{HubUrl, Matcher};
use fanwire_tests::{
    Ask, ISSUER, TestHub, Version, Way, Wire,
    http2::{get, greeting},
    raw_http3::{RawHttp3, frame},
    soon,
};
use http::StatusCode;

use crate::{Memory, Witnesses, impatient};

#[tokio::test]
async fn a_connection_too_many_is_told_so() {
    let feed = "GET /events?topic=witness HTTP/1.1\r\nHost: localhost\r\n";
    let limits: [(Limit, Set, &str); 3] = [
        (Limit::Connections, |config, count| config.admission.connections_max = count, "503"),
        (
            Limit::ConnectionsPerAddress,
            |config, count| config.admission.connections_per_address_max = Some(count),
            "429",
        ),
        (Limit::Descriptors, |config, count| config.admission.tcp_connections_max = count, "503"),
    ];
    for (limit, set, status) in limits {
        // The witnesses, of whom some come over TCP, those who come to see that nothing is left, and one more.
        let room = if limit == Limit::Descriptors { 4 + 3 } else { 8 + 3 };
        let Some(mut witnesses) = Witnesses::apart(|config| set(config, room)).await else { return };
        let memory = Memory::now();
        let mut taken = vec![];
        let wires = async |taken: &mut Vec<Wire>| {
            let mut wire = Wire::cleartext(&witnesses.hub).await;
            wire.send(format!("{feed}\r\n")).await;
            let head = wire.until("\r\n\r\n").await;
            taken.push(wire);
            head
        };
        let told = loop {
            let head = wires(&mut taken).await;
            if !head.starts_with("HTTP/1.1 200") {
                break head;
            }
            assert!(taken.len() < 12, "{limit:?} isn't kept");
        };
        assert!(told.starts_with(&format!("HTTP/1.1 {status}")), "{limit:?}: {told}");
        assert!(told.contains("\r\nretry-after: 2\r\n") && told.contains("\r\nconnection: close\r\n"), "{told}");
        let body = String::from_utf8(taken.pop().unwrap().rest().await).unwrap();
        assert!(body.contains("too_many_connections"), "{body}");
        // EventSource would take that for final.
        let mut wire = Wire::cleartext(&witnesses.hub).await;
        wire.send(format!("{feed}Sec-Fetch-Dest: empty\r\nOrigin: http://localhost:3000\r\n\r\n")).await;
        let answer = String::from_utf8(wire.rest().await).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("retry: 2000\n\n"), "{answer}");
        assert!(answer.contains("\r\naccess-control-allow-origin: http://localhost:3000\r\n"), "{answer}");
        // The hub would wait for its end.
        drop(wire);
        // Nor is the hub to be restarted for it.
        for version in [Version::H1, Version::H2c, Version::H1Tls, Version::H2Tls] {
            assert_eq!(Ask::get("/livez").whole(version, &witnesses.hub).await.status, StatusCode::OK, "{version:?}");
            let refused = Ask::get("/").whole(version, &witnesses.hub).await.status;
            assert_eq!(refused.as_str(), status, "{version:?}");
        }
        memory.grew_within(&format!("connections too many, by {limit:?}"), MEMORY_MAX);
        let times = witnesses.hub.running().hub().metrics().times_reached(limit);
        assert!(times >= 10, "{times}");
        witnesses.served().await;
        drop(taken);
        witnesses.alone().await;
    }
}

#[tokio::test]
async fn a_publisher_that_is_too_fast_is_told_to_wait() {
    let Some(mut witnesses) = Witnesses::apart(|config| {
        // So few that a slow machine is too fast as well.
        (config.limits.publish_rate_max, config.limits.batch_lines_max) = (1, 40);
    })
    .await
    else {
        return;
    };
    let memory = Memory::now();
    let line = "{\"topic\": \"a\", \"data\": \"x\"}\n";
    let batch = |lines: usize| Ask::post("application/x-ndjson", line.repeat(lines));
    assert_eq!(
        batch(40).whole(Version::H1, &witnesses.hub).await.status,
        StatusCode::OK,
        "as many as a batch may have"
    );
    let refused = batch(20).whole(Version::H1, &witnesses.hub).await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(refused.text().contains("rate_limited"), "{}", refused.text());
    assert!(refused.headers.contains_key("retry-after"));
    for version in [Version::H1, Version::H2Tls, Version::H3] {
        let mut statuses = vec![];
        for _ in 0..10 {
            let one = Ask::post("application/x-www-form-urlencoded", "topic=a&data=x");
            statuses.push(one.whole(version, &witnesses.hub).await.status);
        }
        assert!(statuses.contains(&StatusCode::TOO_MANY_REQUESTS), "{version:?}: {statuses:?}");
    }
    memory.grew_within("a publisher that is too fast", MEMORY_MAX);
    let text = witnesses.hub.running().hub().metrics().to_text();
    assert!(text.contains("fanwire_refusals_total{code=\"rate_limited\"}"), "{text}");
    witnesses.alone().await;
}

#[tokio::test]
async fn a_connection_without_a_request_is_given_up() {
    let Some(mut witnesses) = Witnesses::apart(|config| {
        impatient(config);
        (config.tcp.h2_idle, config.quic.idle) = (Duration::from_millis(500), Duration::from_millis(500));
        config.quic.first_request = Duration::from_millis(500);
    })
    .await
    else {
        return;
    };
    let memory = Memory::now();
    let get_livez = get(1, "/livez");
    // Neither comes to a request, or has had its answer.
    for (what, rest) in [("no request", 0), ("half a head", 15), ("one request", get_livez.len())] {
        let mut wire = Wire::cleartext(&witnesses.hub).await;
        wire.send(greeting(&[])).await;
        wire.send(&get_livez[..rest]).await;
        assert!(wire.ends_within(Duration::from_secs(8)).await, "{what} on HTTP/2");
    }
    for asks in [false, true] {
        let http3 = RawHttp3::connect(&witnesses.hub).await;
        if asks {
            assert_eq!(http3.get("/livez").await.0, StatusCode::OK);
        }
        let closed = tokio::time::timeout(Duration::from_secs(8), http3.connection.closed()).await;
        assert!(closed.is_ok(), "a QUIC connection that asked: {asks}");
    }
    memory.grew_within("connections without a request", MEMORY_MAX);
    // The witnesses have asked for feeds, and are no such connections.
    witnesses.served().await;
    let reached = |hub: &TestHub, limit| hub.running().hub().metrics().times_reached(limit);
    witnesses.until(|hub| reached(hub, Limit::HeadTime) >= 3 && reached(hub, Limit::IdleTime) >= 2).await;
    witnesses.alone().await;
}

#[tokio::test]
async fn one_client_leaves_seats_to_others() {
    let Some(mut witnesses) = Witnesses::apart(|config| {
        config.auth = TestHub::auth_with_keys();
        config.auth.allow_anonymous = true;
        // The witnesses have theirs by their address.
        config.limits.subscribers_per_client_max = 12;
    })
    .await
    else {
        return;
    };
    let memory = Memory::now();
    let greedy = format!("Bearer {}", ISSUER.token(&[], &[]).as_str());
    for version in [Version::H1, Version::H2c, Version::H2Tls, Version::H3] {
        let mut feeds = vec![];
        let refused = loop {
            let ask = Ask::get("/events?topic=a").header("authorization", greedy.as_str());
            let answer = ask.over(version, &witnesses.hub).await;
            if answer.status != StatusCode::OK {
                break answer;
            }
            feeds.push(answer);
        };
        assert_eq!((feeds.len(), refused.status), (12, StatusCode::TOO_MANY_REQUESTS), "{version:?}");
        assert!(refused.headers.contains_key("retry-after"));
        witnesses.served().await;
        let all = witnesses.count();
        let other = Ask::get("/events?topic=a").over(version, &witnesses.hub).await;
        assert_eq!(other.status, StatusCode::OK, "{version:?}: somebody else");
        drop((feeds, other, refused));
        witnesses.until(|hub| hub.running().hub().subscribers() == all).await;
    }
    memory.grew_within("one client that takes 12 seats, and no more, on each version", MEMORY_MAX);
    witnesses.alone().await;
}

#[tokio::test]
async fn one_client_leaves_patterns_to_others() {
    let Some(mut witnesses) = Witnesses::apart(|config| {
        config.auth = TestHub::auth_with_keys();
        config.auth.allow_anonymous = true;
        (config.limits.patterns_max, config.limits.patterns_per_client_max) = (20, 8);
    })
    .await
    else {
        return;
    };
    let memory = Memory::now();
    let greedy = ISSUER.token(&[], &[]);
    let ask = |patterns: std::ops::Range<usize>| {
        let texts: Vec<String> = patterns.map(|i| format!("match_urlpattern=/{i}/:id")).collect();
        Ask::get(format!("/events?{}", texts.join("&")))
    };
    for version in [Version::H1, Version::H2c, Version::H2Tls, Version::H3] {
        let greedily = |ask: Ask| ask.header("authorization", format!("Bearer {}", greedy.as_str()));
        // The same ones again take no more.
        let feeds = [greedily(ask(0..6)).over(version, &witnesses.hub).await, {
            greedily(ask(4..8)).over(version, &witnesses.hub).await
        }];
        assert_eq!(feeds.each_ref().map(|feed| feed.status), [StatusCode::OK; 2], "{version:?}");
        for _ in 0..30 {
            let refused = greedily(ask(8..9)).whole(version, &witnesses.hub).await;
            assert_eq!((refused.status, refused.code()), (StatusCode::TOO_MANY_REQUESTS, "too_many_patterns".into()));
            assert!(refused.headers.contains_key("retry-after"));
        }
        // Nor do those that weren't granted.
        let others = ask(100..108).over(version, &witnesses.hub).await;
        assert_eq!(others.status, StatusCode::OK, "{version:?}: somebody else");
        let full = ask(108..109).whole(version, &witnesses.hub).await;
        assert_eq!(full.status, StatusCode::TOO_MANY_REQUESTS, "{version:?}: nor may they have more");
        let (all, feeds) = (witnesses.count(), (feeds, others));
        drop(feeds);
        witnesses.until(|hub| hub.running().hub().subscribers() == all).await;
    }
    // In a session that changes what it wants, too: what is refused leaves nothing, and what is given up is there again.
    for way in [Way::WebTransport, Way::PerTopic, Way::Datagram] {
        let feed = way.connect(&way.options(&witnesses.hub).topic("a").unwrap().token(greedy.clone())).await;
        let control = feed.control().unwrap();
        let patterns = |range: std::ops::Range<usize>| -> Vec<Matcher> {
            range.map(|i| Matcher::pattern(&format!("/{i}/:id"), &HubUrl::default()).unwrap()).collect()
        };
        soon(control.subscribe(&patterns(0..8))).await.unwrap();
        for _ in 0..3 {
            let refused = soon(control.subscribe(&patterns(7..9))).await;
            assert!(format!("{refused:?}").contains("too_many_patterns"), "{way:?}: {refused:?}");
        }
        soon(control.unsubscribe(&patterns(0..1))).await.unwrap();
        soon(control.subscribe(&patterns(8..9))).await.unwrap();
        let elsewhere = ask(0..1).header("authorization", format!("Bearer {}", greedy.as_str()));
        assert_eq!(elsewhere.whole(Version::H1, &witnesses.hub).await.status, StatusCode::TOO_MANY_REQUESTS);
        let other = ask(9..10).over(Version::H1, &witnesses.hub).await;
        assert_eq!(other.status, StatusCode::OK, "{way:?}: somebody else");
        drop((feed, other));
        let all = witnesses.count();
        witnesses.until(|hub| hub.running().hub().subscribers() == all).await;
    }
    memory.grew_within("one client that takes 8 patterns, and no more", MEMORY_MAX);
    let text = witnesses.hub.running().hub().metrics().to_text();
    assert!(text.contains("fanwire_refusals_total{code=\"too_many_patterns\"} 136\n"), "{text}");
    witnesses.alone().await;
}

#[tokio::test]
async fn one_client_leaves_subscriptions_that_are_told_of_to_others() {
    let Some(mut witnesses) = Witnesses::apart(|config| {
        config.auth = TestHub::auth_with_keys();
        config.auth.allow_anonymous = true;
        config.subscriptions_max = Some(40);
        // The witnesses have one each, and newcomers.
        config.limits.subscriptions_per_client_max = 12;
    })
    .await
    else {
        return;
    };
    let memory = Memory::now();
    let greedy = ISSUER.token(&[], &[]);
    let ask = |count: usize| {
        let texts: Vec<String> = (0..count).map(|i| format!("topic={i}")).collect();
        Ask::get(format!("/events?{}", texts.join("&")))
    };
    let greedily = |count| ask(count).header("authorization", format!("Bearer {}", greedy.as_str()));
    for version in [Version::H1, Version::H2c, Version::H2Tls, Version::H3] {
        let feed = greedily(12).over(version, &witnesses.hub).await;
        assert_eq!(feed.status, StatusCode::OK, "{version:?}");
        let refused = greedily(1).whole(version, &witnesses.hub).await;
        let expected = (StatusCode::TOO_MANY_REQUESTS, "too_many_subscriptions".to_owned());
        assert_eq!((refused.status, refused.code()), expected, "{version:?}");
        let other = ask(1).over(version, &witnesses.hub).await;
        assert_eq!(other.status, StatusCode::OK, "{version:?}: somebody else");
        drop((feed, other));
        let all = witnesses.count();
        witnesses.until(|hub| hub.running().hub().subscribers() == all).await;
    }
    let way = Way::WebTransport;
    let feed = way.connect(&way.options(&witnesses.hub).topic("a").unwrap().token(greedy.clone())).await;
    let control = feed.control().unwrap();
    let topics = |range: std::ops::Range<usize>| -> Vec<Matcher> {
        range.map(|i| Matcher::exact(&i.to_string()).unwrap()).collect()
    };
    soon(control.subscribe(&topics(0..11))).await.unwrap();
    let refused = soon(control.subscribe(&topics(11..12))).await;
    assert!(format!("{refused:?}").contains("too_many_subscriptions"), "{refused:?}");
    soon(control.unsubscribe(&topics(0..1))).await.unwrap();
    soon(control.subscribe(&topics(11..12))).await.unwrap();
    assert_eq!(greedily(1).whole(Version::H1, &witnesses.hub).await.status, StatusCode::TOO_MANY_REQUESTS);
    drop(feed);
    memory.grew_within("one client that takes 12 subscriptions, and no more", MEMORY_MAX);
    let text = witnesses.hub.running().hub().metrics().to_text();
    assert!(text.contains("fanwire_refusals_total{code=\"too_many_subscriptions\"} 6\n"), "{text}");
    witnesses.alone().await;
}

#[tokio::test]
async fn a_body_that_never_ends_is_given_up() {
    let Some(mut witnesses) = Witnesses::apart(|config| config.limits.body_time_max = Duration::from_millis(500)).await
    else {
        return;
    };
    let memory = Memory::now();
    let mut wires = vec![];
    for i in 0..20 {
        let mut wire = match i % 2 {
            0 => Wire::cleartext(&witnesses.hub).await,
            _ => Wire::tls(&witnesses.hub, &[b"http/1.1"]).await,
        };
        wire.send(format!("{POST}Content-Length: 1000\r\n\r\ntopic=witness&data=")).await;
        wires.push(wire);
    }
    for mut wire in wires {
        // It goes on, slowly.
        let slow = async { while wire.send("x").await && !wire.ends_within(Duration::from_millis(100)).await {} };
        soon(slow).await;
        let answer = String::from_utf8(wire.rest().await).unwrap();
        assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("\"timeout\""), "{answer}");
    }
    let http3 = RawHttp3::connect(&witnesses.hub).await;
    let head = [(":method", "POST"), (":scheme", "https"), (":authority", &*http3.authority), (":path", "/events")];
    let form = ("content-type", "application/x-www-form-urlencoded");
    let (mut send, mut recv) = http3.request(&[&head[..], &[form]].concat()).await;
    send.write_all(&frame(0, b"topic=witness&data=")).await.unwrap();
    let answer = soon(recv.read_to_end(64 * 1024)).await.unwrap();
    assert!(answer.windows(9).any(|part| part == b"\"timeout\""), "{:?}", String::from_utf8_lossy(&answer));
    memory.grew_within("21 bodies that never end", MEMORY_MAX);
    drop((send, http3));
    witnesses.alone().await;
}

#[tokio::test]
async fn bodies_that_wait_are_bounded_together() {
    let Some(mut witnesses) = Witnesses::apart(|config| config.limits.bodies_bytes_max = 100 * 1024).await else {
        return;
    };
    let memory = Memory::now();
    let mut wires = vec![];
    for _ in 0..2 {
        let mut wire = Wire::cleartext(&witnesses.hub).await;
        wire.send(format!("{POST}Content-Length: 100000\r\n\r\ntopic=a&data={}", "x".repeat(49_000))).await;
        wires.push(wire);
    }
    let publish = || Ask::post("application/x-www-form-urlencoded", format!("topic=a&data={}", "x".repeat(5_000)));
    // Once both are there.
    let refused = async {
        loop {
            let answer = publish().whole(Version::H1, &witnesses.hub).await;
            if answer.status != StatusCode::OK {
                break answer;
            }
        }
    };
    let refused = soon(refused).await;
    assert_eq!((refused.status, refused.code()), (StatusCode::SERVICE_UNAVAILABLE, "too_busy".to_owned()));
    assert!(refused.headers.contains_key("retry-after"));
    memory.grew_within("bodies of 100 KiB in all that wait", MEMORY_MAX);
    wires.clear();
    // They are gone, and have left nothing.
    let again = async {
        while publish().whole(Version::H1, &witnesses.hub).await.status != StatusCode::OK {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(again).await;
    witnesses.alone().await;
}

/// Far more than any of it takes.
const MEMORY_MAX: usize = 64 << 20;
const POST: &str = "POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n";

type Set = fn(&mut Config, usize);
