//! Over HTTP/3: floods on its own streams, requests that are reset at once, and streams that come to nothing or are never read.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use fanwire::telemetry::Limit;
use fanwire_protocol::frame::put_varint;
use fanwire_tests::{
    raw_http3::{RawHttp3, frame},
    soon,
};
use http::StatusCode;
use tokio::task::JoinSet;

use crate::{Memory, Witnesses, impatient};

#[tokio::test]
async fn floods_of_frames_on_the_control_stream_are_bounded() {
    let Some(mut witnesses) = Witnesses::apart(|_| ()).await else { return };
    let one = [7];
    // [RFC 9114 §7.2, RFC 9218 §7.2]
    let floods = [
        ("unknown frames", frame(0x21, &[0; 100])),
        ("empty unknown frames", frame(0x21, b"")),
        ("an endless unknown frame", [&[0x40, 0x21, 0xff, 0xff, 0xff, 0xff][..], &[0; 1000]].concat()),
        ("MAX_PUSH_ID", frame(0x0d, &one)),
        ("CANCEL_PUSH", frame(0x03, &one)),
        ("PRIORITY_UPDATE", frame(0xf0700, b"\x04u=1, i")),
        ("GOAWAY", frame(0x07, &[0])),
        ("SETTINGS", frame(0x04, &[0x21, 0x01])),
        ("DATA", frame(0x00, &[0; 100])),
        ("HEADERS", frame(0x01, &[0; 100])),
    ];
    for (name, flood) in floods {
        let mut http3 = RawHttp3::connect(&witnesses.hub).await;
        let memory = Memory::now();
        flood_stream(&mut http3.control, &flood).await;
        memory.grew_within(&format!("HTTP/3, {FLOOD_MIB} MiB of {name} on the control stream"), MEMORY_MAX);
        witnesses.served().await;
    }
    assert!(witnesses.reached(Limit::Frames) > 0);
    witnesses.alone().await;
}

#[tokio::test]
async fn floods_on_streams_and_requests_of_http3_are_bounded() {
    let Some(mut witnesses) = Witnesses::apart(|_| ()).await else { return };
    // [RFC 9204 §4.2] QPACK's encoder and decoder, a push stream, and one that nobody knows.
    for (kind, flood) in
        [(0x02, &[0x20][..]), (0x02, &[0x41, b'a', 1, b'b']), (0x03, &[0x81]), (0x01, &[0]), (0x21, &[0])]
    {
        let http3 = RawHttp3::connect(&witnesses.hub).await;
        let memory = Memory::now();
        let mut stream = http3.connection.open_uni().await.unwrap();
        let _ = stream.write_all(&[kind]).await;
        flood_stream(&mut stream, flood).await;
        memory.grew_within(&format!("HTTP/3, {FLOOD_MIB} MiB on a stream of type {kind:#x}"), MEMORY_MAX);
        witnesses.served().await;
    }
    // A request whose head never comes, and one with a body in very small frames.
    for (name, flood) in
        [("unknown frames", frame(0x21, &[0; 100])), ("empty DATA", frame(0, b"")), ("DATA", frame(0, &[7]))]
    {
        let http3 = RawHttp3::connect(&witnesses.hub).await;
        let memory = Memory::now();
        let fields =
            [(":method", "POST"), (":scheme", "https"), (":authority", &*http3.authority), (":path", "/events")];
        let (mut send, _recv) = match name {
            "unknown frames" => http3.connection.open_bi().await.unwrap(),
            _ => http3.request(&[&fields[..], &[("content-type", "application/x-ndjson")]].concat()).await,
        };
        flood_stream(&mut send, &flood).await;
        memory.grew_within(&format!("HTTP/3, {FLOOD_MIB} MiB of {name} on a request's stream"), MEMORY_MAX);
        witnesses.served().await;
    }
    witnesses.alone().await;
}

/// Writes as much as the hub takes, up to [`FLOOD_MIB`]. Whether it stops reading, resets the stream or hangs up is up to it.
async fn flood_stream(stream: &mut quinn::SendStream, flood: &[u8]) {
    let burst = flood.repeat((64 * 1024 / flood.len()).max(1));
    for _ in 0..(FLOOD_MIB << 20) / burst.len() {
        if !matches!(tokio::time::timeout(Duration::from_millis(200), stream.write_all(&burst)).await, Ok(Ok(()))) {
            return;
        }
    }
}

#[tokio::test]
async fn a_rapid_reset_costs_the_hub_little() {
    // [CVE-2023-44487], as it would be on HTTP/3.
    let Some(mut witnesses) = Witnesses::apart(|_| ()).await else { return };
    let memory = Memory::now();
    // Each on a connection of its own: it waits for the hub to let it begin more.
    let mut floods = JoinSet::new();
    for path in ["/livez", "/events?topic=witness", "/client/fanwire.js"] {
        let http3 = RawHttp3::connect(&witnesses.hub).await;
        floods.spawn(async move {
            let fields = [(":method", "GET"), (":scheme", "https"), (":authority", &*http3.authority), (":path", path)];
            for _ in 0..3_000 {
                let Some((mut send, mut recv)) = http3.try_request(&fields).await else { break };
                let _ = send.reset(quinn::VarInt::from_u32(0x10c));
                let _ = recv.stop(quinn::VarInt::from_u32(0x10c));
            }
        });
    }
    while let Some(ended) = floods.join_next().await {
        ended.unwrap();
        witnesses.served().await;
    }
    memory.grew_within("HTTP/3, 3,000 resets of each of three paths at a time", MEMORY_MAX);
    witnesses.alone().await;
}

#[tokio::test]
async fn streams_that_come_to_nothing_are_given_up() {
    let Some(mut witnesses) = Witnesses::apart(impatient).await else { return };
    let memory = Memory::now();
    let mut connections = vec![];
    for _ in 0..40 {
        let http3 = RawHttp3::connect(&witnesses.hub).await;
        let mut streams = vec![];
        // As many as a connection may have that isn't busy: nothing of a head, some of it, and a session's that isn't there.
        for i in 0..8 {
            let (mut send, recv) = http3.connection.open_bi().await.unwrap();
            let begun: [&[u8]; 4] = [&[0x01], &[0x01, 0x40], &[0x01, 0x20, 0, 0], &[0x40, 0x41, 0x40]];
            send.write_all(begun[i % 4]).await.unwrap();
            streams.push((send, recv));
        }
        let mut uni = vec![];
        for _ in 0..3 {
            let mut send = http3.connection.open_uni().await.unwrap();
            send.write_all(&[0x40]).await.unwrap();
            uni.push(send);
        }
        connections.push((http3, streams, uni));
    }
    memory.grew_within("HTTP/3, 440 streams that come to nothing", MEMORY_MAX);
    witnesses.served().await;
    for (http3, streams, uni) in connections {
        for (mut send, mut recv) in streams {
            // Stopped, or taken down with its connection.
            let _ = soon(send.stopped()).await;
            let _ = (send.reset(quinn::VarInt::from_u32(0x10c)), recv.stop(quinn::VarInt::from_u32(0x10c)));
        }
        for mut send in uni {
            let _ = soon(send.stopped()).await;
            let _ = send.reset(quinn::VarInt::from_u32(0x10c));
        }
        // There is room for others again, if the connection is still there.
        if http3.connection.close_reason().is_none() {
            assert_eq!(http3.get("/livez").await.0, StatusCode::OK);
        }
    }
    witnesses.alone().await;
}

#[tokio::test]
async fn heads_that_trickle_are_given_up() {
    let Some(mut witnesses) = Witnesses::apart(|config| config.quic.head = Duration::from_secs(2)).await else {
        return;
    };
    let memory = Memory::now();
    let mut trickling = vec![];
    let mut connections = vec![];
    for i in 0..20 {
        let http3 = RawHttp3::connect(&witnesses.hub).await;
        // One that has had an answer has no more time for the next.
        if i % 2 == 0 {
            assert_eq!(http3.get("/livez").await.0, StatusCode::OK);
        }
        for _ in 0..15 {
            let (mut send, recv) = http3.connection.open_bi().await.unwrap();
            trickling.push(tokio::spawn(async move {
                // HEADERS of 16 KiB, of a request or a session; they come in a day.
                let begun = [0x01, 0x80, 0, 0x40, 0].into_iter();
                let (begin, mut count) = (Instant::now(), 0);
                for byte in begun.chain(std::iter::repeat(0)) {
                    if send.write_all(&[byte]).await.is_err() {
                        break;
                    }
                    count += 1;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                drop(recv);
                (begin.elapsed(), count)
            }));
        }
        connections.push(http3);
    }
    witnesses.served().await;
    memory.grew_within("HTTP/3, 300 heads that trickle", MEMORY_MAX);
    for trickling in trickling {
        let (took, count) = soon(trickling).await.unwrap();
        assert!(took >= Duration::from_millis(1_900) && count > 5, "{took:?}, after {count} bytes");
    }
    assert!(witnesses.reached(Limit::HeadTime) >= 300, "{}", witnesses.reached(Limit::HeadTime));
    for http3 in connections.into_iter().step_by(2) {
        assert_eq!(http3.get("/livez").await.0, StatusCode::OK, "there is room again");
    }
    witnesses.alone().await;
}

#[tokio::test]
async fn heads_that_are_too_large_are_refused_one_by_one() {
    let Some(mut witnesses) = Witnesses::apart(|_| ()).await else { return };
    let memory = Memory::now();
    let (long, longer) = ("x".repeat(20_000), "x".repeat(64 * 1024));
    for _ in 0..4 {
        let http3 = RawHttp3::connect(&witnesses.hub).await;
        for _ in 0..30 {
            for (value, answered) in [(&long, true), (&longer, false)] {
                let fields =
                    [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", "/livez")];
                let Some((mut send, mut recv)) = http3.try_request(&[&fields[..], &[("x-long", value)]].concat()).await
                else {
                    assert!(!answered);
                    continue;
                };
                let _ = send.finish();
                let answer = soon(recv.read_to_end(1024)).await.unwrap_or_default();
                // 431 in HPACK's Huffman code, or a reset.
                assert!(answer.is_empty() || answer.ends_with(&[0x83, 0x69, 0x90, 0xff]), "{answer:?}");
                assert!(!answered || !answer.is_empty(), "20,000 bytes are answered");
            }
        }
        assert_eq!(http3.get("/livez").await.0, StatusCode::OK);
    }
    memory.grew_within("HTTP/3, 240 heads of 20 and 64 KiB", MEMORY_MAX);
    assert!(witnesses.reached(Limit::HeadBytes) >= 240, "{}", witnesses.reached(Limit::HeadBytes));
    witnesses.alone().await;
}

/// A connection with room on each stream for a head, and for no more.
async fn that_reads_heads_only(witnesses: &Witnesses) -> RawHttp3 {
    let mut transport = quinn::TransportConfig::default();
    transport.stream_receive_window(quinn::VarInt::from_u32(1000));
    RawHttp3::with(&witnesses.hub, transport).await
}

#[tokio::test]
async fn streams_that_are_never_read_hold_little() {
    let Some(mut witnesses) = Witnesses::apart(|config| config.feed_limits.stalled_ms_max = 1_000).await else {
        return;
    };
    let before = witnesses.count();
    let memory = Memory::now();
    let mut connections = vec![];
    for _ in 0..10 {
        let http3 = that_reads_heads_only(&witnesses).await;
        let mut streams = vec![];
        for i in 0..16 {
            let path = if i < 10 { "/events?topic=big" } else { "/client/fanwire.js" };
            let (status, recv) = http3.get(path).await;
            assert_eq!(status, StatusCode::OK);
            streams.push(recv);
        }
        connections.push((http3, streams));
    }
    witnesses.until(|hub| hub.running().hub().subscribers() == before + 100).await;
    witnesses.publish_big("big").await;
    witnesses.served().await;
    witnesses.until(|hub| hub.running().hub().subscribers() == before).await;
    memory.grew_within("HTTP/3, 100 feeds and 60 files that are never read, 8 MiB published", MEMORY_MAX);
    let text = witnesses.hub.running().hub().metrics().to_text();
    assert!(text.contains("fanwire_feeds_ended_total{how=\"stalled\"} 100\n"), "{text}");
    drop(connections);
    witnesses.alone().await;
}

#[tokio::test]
async fn sessions_that_are_never_read_hold_little() {
    let Some(mut witnesses) = Witnesses::apart(|config| config.feed_limits.stalled_ms_max = 1_000).await else {
        return;
    };
    let before = witnesses.count();
    let memory = Memory::now();
    let mut connections = vec![];
    for _ in 0..10 {
        let http3 = Arc::new(that_reads_heads_only(&witnesses).await);
        let mut sessions = vec![];
        for _ in 0..5 {
            sessions.push(http3.session("/events?topic=big").await);
        }
        connections.push((http3, sessions));
    }
    witnesses.until(|hub| hub.running().hub().subscribers() == before + 50).await;
    witnesses.publish_big("big").await;
    witnesses.served().await;
    witnesses.until(|hub| hub.running().hub().subscribers() == before).await;
    memory.grew_within("WebTransport, 50 feeds that are never read, 8 MiB published", MEMORY_MAX);
    drop(connections);
    witnesses.alone().await;
}

#[tokio::test]
async fn streams_without_end_are_no_more_than_a_connection_may_have() {
    let Some(mut witnesses) = Witnesses::apart(|_| ()).await else { return };
    let memory = Memory::now();
    let http3 = RawHttp3::connect(&witnesses.hub).await;
    let mut prefix = vec![];
    put_varint(&mut prefix, 0x54);
    // A session that isn't there.
    put_varint(&mut prefix, 4_000);
    let mut opened = 0;
    let flood = async {
        loop {
            let Ok(mut send) = http3.connection.open_uni().await else { return };
            let _ = send.write_all(&prefix).await;
            let _ = send.write_all(&[0; 1000]).await;
            // It is gone for the client, whatever the hub makes of it.
            let _ = send.finish();
            opened += 1;
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), flood).await;
    memory.grew_within(&format!("HTTP/3, {opened} streams of no session"), MEMORY_MAX);
    drop(http3);
    witnesses.alone().await;
}

const FLOOD_MIB: usize = 16;
/// Far less than is sent or published to all of them.
const MEMORY_MAX: usize = 64 << 20;
