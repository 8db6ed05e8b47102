//! In a WebTransport session: frames that can't be, streams that aren't wanted, and requests without end.

use std::time::Duration;

use fanwire::log::{Class, Retention, TopicRule};
use fanwire_protocol::frame::{ANSWER, AUTH, BYE, EVENT, HELLO, PING, PUBLISH, SUBSCRIBE, put_varint};
use fanwire_tests::{
    raw_http3::{RawFeed, RawHttp3, RawSession, closed, frame},
    soon,
};
use http::StatusCode;
use serde_json::json;

use crate::{Memory, Witnesses, noise};

#[tokio::test]
async fn a_frame_that_cannot_be_ends_the_session_with_a_reason() {
    let mut witnesses = Witnesses::gather().await;
    let mut too_long = vec![PUBLISH as u8];
    put_varint(&mut too_long, 2 * 1024 * 1024 + 1);
    let mut endless = vec![0x21];
    put_varint(&mut endless, (1 << 62) - 1);
    let bad = [
        ("a frame beyond 2 MiB", too_long),
        ("a frame beyond everything", endless),
        ("no JSON", frame(PUBLISH, b"garbage")),
        ("nothing", frame(SUBSCRIBE, b"")),
        ("not UTF-8", frame(PUBLISH, b"{\"request_id\":\"\xff\"}")),
        ("an array", frame(SUBSCRIBE, b"[1]")),
        ("no request_id", frame(PUBLISH, br#"{"topic": "witness", "data": "x"}"#)),
        ("a request_id that is none", frame(PUBLISH, br#"{"request_id": -1, "topic": "witness", "data": "x"}"#)),
        ("AUTH without a number", frame(AUTH, b"{}")),
        ("deep nesting", frame(SUBSCRIBE, "[".repeat(100_000).as_bytes())),
    ];
    // One connection bears it all.
    let http3 = RawHttp3::connect(&witnesses.hub).await;
    for (name, bytes) in &bad {
        let mut session = hello(&http3).await;
        let (mut send, _recv) = http3.open_bi(session.id).await;
        send.write_all(bytes).await.unwrap();
        let bye = session.feed.json(BYE).await;
        assert_eq!((bye["code"].as_u64(), &bye["retry_ms"]), (Some(2), &json!(null)), "{name}");
        let reason = bye["reason"].as_str().unwrap().to_owned();
        assert!(!reason.is_empty());
        assert_eq!(session.closed().await, Some((2, reason)), "{name}");
        witnesses.served().await;
    }
    drop(http3);
    witnesses.alone().await;
}

#[tokio::test]
async fn a_control_stream_that_is_cut_leaves_the_feed_as_it_is() {
    let mut witnesses = Witnesses::gather().await;
    let http3 = RawHttp3::connect(&witnesses.hub).await;
    let request = frame(PUBLISH, br#"{"request_id": 1, "topic": "witness", "data": "never"}"#);
    for end in [0, 1, 2, 20, request.len() - 1] {
        for reset in [false, true] {
            let mut session = hello(&http3).await;
            let (mut send, _recv) = http3.open_bi(session.id).await;
            send.write_all(&request[..end]).await.unwrap();
            if reset {
                send.reset(quinn::VarInt::from_u32(7)).unwrap();
            } else {
                send.finish().unwrap();
            }
            witnesses.served().await;
            while session.feed.next().await.expect("a feed that goes on").kind != EVENT {}
        }
    }
    drop(http3);
    witnesses.alone().await;
}

#[tokio::test]
async fn frames_that_nobody_knows_are_skipped() {
    let mut witnesses = Witnesses::gather().await;
    let http3 = RawHttp3::connect(&witnesses.hub).await;
    let session = hello(&http3).await;
    let (mut send, recv) = http3.open_bi(session.id).await;
    let mut answers = RawFeed::new(recv);
    for (id, size) in [(1, 0), (2, 1), (3, 70_000), (4, 2 * 1024 * 1024)] {
        for kind in [0x06, 0x14, 0x21, 0x3fff_ffff, (1 << 62) - 1] {
            send.write_all(&frame(kind, &noise(kind, size))).await.unwrap();
        }
        // The hub's own frames mean nothing from a client.
        send.write_all(&frame(HELLO, b"garbage")).await.unwrap();
        send.write_all(&frame(ANSWER, b"garbage")).await.unwrap();
        let subscribe = json!({"request_id": id, "match": ["x"], "strange": [1, {}]}).to_string();
        send.write_all(&frame(SUBSCRIBE, subscribe.as_bytes())).await.unwrap();
        let answer = answers.json(ANSWER).await;
        assert_eq!(answer["request_id"], id);
        assert!(answer["ok"]["from_seq"].is_u64(), "{answer}");
    }
    drop(http3);
    witnesses.alone().await;
}

#[tokio::test]
async fn streams_beyond_the_first_are_refused_and_the_first_works_on() {
    let mut witnesses = Witnesses::gather().await;
    let http3 = RawHttp3::connect(&witnesses.hub).await;
    let session = hello(&http3).await;
    let (mut send, recv) = http3.open_bi(session.id).await;
    let mut answers = RawFeed::new(recv);
    let mut ask = async |id: u64| {
        let subscribe = json!({"request_id": id, "match": ["x"]}).to_string();
        send.write_all(&frame(SUBSCRIBE, subscribe.as_bytes())).await.unwrap();
        assert_eq!(answers.json(ANSWER).await["request_id"], id);
    };
    ask(1).await;
    // Its code 0, as HTTP/3 carries it.
    let refused = quinn::VarInt::from_u64(0x52e4_a40f_a8db).unwrap();
    for round in 0..40 {
        let (second, mut answer) = http3.open_bi(session.id).await;
        assert_eq!(soon(second.stopped()).await.unwrap(), Some(refused));
        let reset = quinn::ReadToEndError::Read(quinn::ReadError::Reset(refused));
        assert_eq!(soon(answer.read_to_end(10)).await.unwrap_err(), reset);
        let uni = http3.open_uni(session.id).await;
        assert_eq!(soon(uni.stopped()).await.unwrap(), Some(refused));
        ask(round + 2).await;
    }
    drop(http3);
    witnesses.alone().await;
}

#[tokio::test]
async fn a_flood_of_datagrams_is_nothing() {
    let Some(mut witnesses) = Witnesses::apart(|_| ()).await else { return };
    let memory = Memory::now();
    let http3 = RawHttp3::connect(&witnesses.hub).await;
    let mut session = hello(&http3).await;
    for i in 0..20_000_u64 {
        // For this session, for none, and no session's at all.
        let mut datagram = match i % 3 {
            0 => vec![u8::try_from(session.id / 4).unwrap()],
            1 => vec![0x3f],
            _ => vec![],
        };
        datagram.extend(noise(i, 1000));
        if http3.connection.send_datagram_wait(datagram.into()).await.is_err() {
            panic!("the hub hung up");
        }
    }
    witnesses.served().await;
    while session.feed.next().await.expect("a feed that goes on").kind != EVENT {}
    memory.grew_within("WebTransport, 20,000 datagrams", MEMORY_MAX);
    drop(http3);
    witnesses.alone().await;
}

#[tokio::test]
async fn datagrams_that_nobody_reads_are_bounded_and_hold_up_nobody() {
    let Some(mut witnesses) = Witnesses::apart(|config| {
        // Of the flood alone: a shard that is far behind it rightly tells of a gap where what it missed may be the witnesses'.
        let topics = vec![TopicRule::parse("/flood/*").unwrap()];
        let kept = Class { topics, bytes_max: 4 << 20, ..Class::default() };
        config.retention = Retention::new(vec![kept], Class::default());
    })
    .await
    else {
        return;
    };
    let http3 = RawHttp3::connect(&witnesses.hub).await;
    // As many as one connection may have.
    let mut sessions = vec![];
    for _ in 0..30 {
        let mut session = http3.session("/events?match_urlpattern=/flood/*&delivery=datagram").await;
        session.feed.json(PING).await;
        sessions.push(session);
    }
    witnesses.hub.publish_numbers("/flood/0", 0..1_000).await;
    let memory = Memory::now();
    for round in 0..12 {
        for topic in 0..1_500 {
            witnesses.hub.publish_numbers(&format!("/flood/{topic}"), round..round + 1).await;
        }
    }
    memory.grew_within("WebTransport, 30 feeds of datagrams that nobody reads", MEMORY_MAX);
    let text = witnesses.hub.running().hub().metrics().to_text();
    let let_go = |why: &str| {
        let name = format!("fanwire_events_let_go_total{{why=\"{why}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&*name)).unwrap().parse::<u64>().unwrap()
    };
    assert!(let_go("superseded") > 0, "{text}");
    witnesses.served().await;
    drop((sessions, http3));
    witnesses.alone().await;
}

#[tokio::test]
async fn who_reads_no_answers_gets_no_more_done_and_holds_up_nobody() {
    let Some(mut witnesses) = Witnesses::apart(|_| ()).await else { return };
    // It takes 1,000 bytes of answers, and then no more.
    let mut transport = quinn::TransportConfig::default();
    transport.stream_receive_window(quinn::VarInt::from_u32(1000));
    let http3 = RawHttp3::with(&witnesses.hub, transport).await;
    let memory = Memory::now();
    let mut session = hello(&http3).await;
    let (mut send, _unread) = http3.open_bi(session.id).await;
    let publish = |id: u64| json!({"request_id": id, "topic": "flood", "data": "x".repeat(1000)}).to_string();
    let mut sent = 0;
    let flood = async {
        loop {
            send.write_all(&frame(PUBLISH, publish(sent).as_bytes())).await.unwrap();
            sent += 1;
        }
    };
    // It comes to a stop by itself.
    assert!(tokio::time::timeout(Duration::from_secs(1), flood).await.is_err());
    assert!(sent < 2_000, "{sent} requests were taken, and no answer read");
    memory.grew_within("WebTransport, requests whose answers are never read", MEMORY_MAX);
    witnesses.served().await;
    while session.feed.next().await.expect("a feed that goes on").kind != EVENT {}
    drop(http3);
    witnesses.alone().await;
}

#[tokio::test]
async fn who_takes_no_stream_holds_no_seat() {
    let mut witnesses = Witnesses::with(|config| config.feed_limits.stalled_ms_max = 500).await;
    let before = witnesses.count();
    let mut transport = quinn::TransportConfig::default();
    // Enough for HTTP/3's own.
    transport.max_concurrent_uni_streams(quinn::VarInt::from_u32(3));
    let http3 = RawHttp3::with(&witnesses.hub, transport).await;
    let (status, _send, mut recv) = http3.try_session("/events?topic=witness&heartbeat=0.2", &[]).await;
    assert_eq!(status, StatusCode::OK);
    witnesses.until(|hub| hub.running().hub().subscribers() == before + 1).await;
    assert_eq!(closed(&mut recv).await.map(|(code, _)| code), Some(5));
    // Who is refused has to hear of it as well.
    let (_, _send, mut recv) = http3.try_session("/events", &[]).await;
    assert_eq!(closed(&mut recv).await.map(|(code, _)| code), Some(2));
    drop(http3);
    witnesses.alone().await;
}

#[tokio::test]
async fn sessions_that_may_not_be_are_refused() {
    let mut witnesses = Witnesses::gather().await;
    let http3 = RawHttp3::connect(&witnesses.hub).await;
    let events = "/events?topic=witness";
    for path in ["/", "/event", "/events/", "/.well-known/fanwire", "*", "/%65vents"] {
        assert_eq!(http3.try_session(path, &[]).await.0, StatusCode::NOT_FOUND, "{path}");
    }
    for header in [("origin", "https://evil.example"), ("origin", "null"), (":authority", "evil.example")] {
        assert_eq!(http3.try_session(events, &[header]).await.0, StatusCode::FORBIDDEN, "{header:?}");
    }
    let (status, ..) = http3.try_session(events, &[("origin", "http://localhost:3000")]).await;
    assert_eq!(status, StatusCode::OK);
    let (status, ..) = http3.try_session("/.well-known/mercure?topic=witness", &[]).await;
    assert_eq!(status, StatusCode::OK);
    drop(http3);
    witnesses.alone().await;
}

#[tokio::test]
async fn a_query_that_is_wrong_is_told_on_the_feed_and_with_the_close() {
    let mut witnesses = Witnesses::gather().await;
    let http3 = RawHttp3::connect(&witnesses.hub).await;
    for (path, code) in [
        ("/events", "no_matcher"),
        ("/events?topic=%ff", "not_utf8"),
        ("/events?topic=a&matchRegex=b", "unknown_matcher"),
        ("/events?topic=a&heartbeat=1e9", "bad_heartbeat"),
    ] {
        let mut session = http3.session(path).await;
        let bye = session.feed.next().await.expect("a frame");
        assert_eq!(bye.kind, BYE);
        let bye: serde_json::Value = serde_json::from_slice(&bye.payload).unwrap();
        let reason = bye["reason"].as_str().unwrap().to_owned();
        assert_eq!((bye["code"].as_u64(), reason.starts_with(code)), (Some(2), true), "{path}: {reason}");
        assert!(session.feed.next().await.is_none());
        assert_eq!(session.closed().await, Some((2, reason)));
    }
    drop(http3);
    witnesses.alone().await;
}

#[tokio::test]
async fn sessions_and_requests_share_a_connection() {
    let mut witnesses = Witnesses::gather().await;
    let before = witnesses.count();
    let http3 = RawHttp3::connect(&witnesses.hub).await;
    let mut sessions = vec![];
    for _ in 0..4 {
        sessions.push(hello(&http3).await);
    }
    let (status, _feed) = http3.get("/events?topic=witness").await;
    assert_eq!(status, StatusCode::OK);
    let mut controls = vec![];
    for (index, session) in sessions.iter().enumerate() {
        let (mut send, recv) = http3.open_bi(session.id).await;
        let publish = json!({"request_id": index, "topic": "other", "data": index}).to_string();
        send.write_all(&frame(PUBLISH, publish.as_bytes())).await.unwrap();
        controls.push((send, RawFeed::new(recv)));
    }
    for (index, (_, answers)) in controls.iter_mut().enumerate() {
        assert_eq!(answers.json(ANSWER).await["request_id"], index);
    }
    assert_eq!(witnesses.hub.running().hub().subscribers(), before + 5);
    witnesses.served().await;
    for session in &mut sessions {
        while session.feed.next().await.expect("a feed that goes on").kind != EVENT {}
    }
    assert_eq!(http3.get("/livez").await.0, StatusCode::OK);
    // One goes wrong, one is closed, one is reset: the others and the requests don't notice.
    controls[0].0.write_all(&frame(PUBLISH, b"garbage")).await.unwrap();
    assert_eq!(sessions[0].closed().await.map(|(code, _)| code), Some(2));
    sessions[1].connect.0.finish().unwrap();
    sessions[2].connect.0.reset(quinn::VarInt::from_u32(0x10c)).unwrap();
    witnesses.until(|hub| hub.running().hub().subscribers() == before + 2).await;
    witnesses.served().await;
    let event = async { while sessions[3].feed.next().await.expect("a feed that goes on").kind != EVENT {} };
    soon(event).await;
    assert_eq!(http3.get("/livez").await.0, StatusCode::OK);
    drop(http3);
    witnesses.alone().await;
}

/// A session whose feed has begun.
async fn hello(http3: &RawHttp3) -> RawSession {
    let mut session = http3.session("/events?topic=witness").await;
    assert_eq!(session.feed.next().await.expect("a frame").kind, HELLO);
    session
}

const MEMORY_MAX: usize = 64 << 20;
