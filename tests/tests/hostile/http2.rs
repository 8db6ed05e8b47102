//! Over HTTP/2: floods of frames that cost the sender little, and frames that can't be.

use std::time::Duration;

use fanwire::telemetry::Limit;
use fanwire_tests::{
    TestHub, Wire,
    http2::{
        CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PRIORITY, PUSH_PROMISE, RST_STREAM,
        SETTINGS, WINDOW_UPDATE, fields, frame, get, greeting,
    },
};

use crate::{Memory, Witnesses};

#[tokio::test]
async fn a_rapid_reset_costs_the_hub_little() {
    // [CVE-2023-44487]
    let Some(mut witnesses) = Witnesses::apart(|_| ()).await else { return };
    for path in ["/livez", "/events?topic=witness", "/client/fanwire.js"] {
        let mut connection = Http2::open(&witnesses.hub).await;
        let memory = Memory::now();
        let mut stream = 1;
        let hung_up = loop {
            let mut burst = vec![];
            for _ in 0..200 {
                burst.extend(get(stream, path));
                burst.extend(frame(RST_STREAM, 0, stream, &CANCEL));
                stream += 2;
            }
            if !connection.wire.send(&burst).await {
                break true;
            }
            if stream > 200_000 {
                break false;
            }
        };
        assert!(hung_up, "100,000 resets of {path} were taken");
        memory.grew_within(&format!("HTTP/2, 100,000 resets of {path}"), MEMORY_MAX);
        witnesses.served().await;
    }
    witnesses.alone().await;
}

#[tokio::test]
async fn floods_of_frames_that_want_answers_are_bounded() {
    let Some(mut witnesses) = Witnesses::apart(|_| ()).await else { return };
    let floods = [
        ("PING", frame(PING, 0, 0, &[7; 8])),
        ("SETTINGS", frame(SETTINGS, 0, 0, &[])),
        ("SETTINGS with entries", frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 16, 0].repeat(100))),
        ("PRIORITY", frame(PRIORITY, 0, 3, &[0, 0, 0, 1, 0])),
        ("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("unknown", frame(0x77, 0xff, 0, &[0; 100])),
        ("RST_STREAM of nothing", frame(RST_STREAM, 0, 1, &[0; 4])),
        ("DATA of nothing", frame(DATA, 0, 1, b"")),
    ];
    for (name, flood) in floods {
        let mut connection = Http2::open(&witnesses.hub).await;
        let memory = Memory::now();
        let burst = flood.repeat(64 * 1024 / flood.len());
        // Nothing is read meanwhile. Whether the hub stops reading or hangs up is up to it.
        for _ in 0..300 {
            let sent = tokio::time::timeout(Duration::from_millis(200), connection.wire.send(&burst)).await;
            if sent != Ok(true) {
                break;
            }
        }
        memory.grew_within(&format!("HTTP/2, 19 MiB of {name}"), MEMORY_MAX);
        witnesses.served().await;
    }
    witnesses.alone().await;
}

#[tokio::test]
async fn a_head_without_an_end_is_cut_off() {
    let Some(mut witnesses) = Witnesses::apart(|_| ()).await else { return };
    let mut connection = Http2::open(&witnesses.hub).await;
    let memory = Memory::now();
    // [CVE-2024-27316] HEADERS without END_HEADERS, and then CONTINUATION after CONTINUATION.
    connection.wire.send(frame(HEADERS, 0, 1, &fields("/livez"))).await;
    let field = literal(b"x-endless", &[b'x'; 200]);
    let continuation = frame(CONTINUATION, 0, 1, &field.repeat(16_000 / field.len()));
    let mut sent = 0;
    while connection.wire.send(&continuation).await {
        sent += continuation.len();
        assert!(sent < 64 << 20, "64 MiB of a head were taken");
    }
    memory.grew_within("HTTP/2, CONTINUATION without end", MEMORY_MAX);
    witnesses.alone().await;
}

#[tokio::test]
async fn frames_that_cannot_be_end_the_connection_only() {
    let mut witnesses = Witnesses::gather().await;
    let frames = [
        ("too long", vec![0xff, 0xff, 0xff, DATA, 0, 0, 0, 0, 1]),
        ("DATA on stream 0", frame(DATA, 0, 0, b"x")),
        ("HEADERS on an even stream", frame(HEADERS, END_ALL, 2, &fields("/livez"))),
        ("garbage for HPACK", frame(HEADERS, END_ALL, 1, &[0xff; 50])),
        ("a window beyond the limit", frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff])),
        ("SETTINGS of five bytes", frame(SETTINGS, 0, 0, &[0; 5])),
        ("CONTINUATION of nothing", frame(CONTINUATION, END_HEADERS, 1, b"")),
        ("PUSH_PROMISE of a client", frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2])),
    ];
    for (name, bytes) in frames {
        let mut connection = Http2::open(&witnesses.hub).await;
        connection.wire.send(bytes).await;
        assert!(connection.wire.ends_within(Duration::from_secs(10)).await, "{name}");
    }
    assert!(witnesses.reached(Limit::Frames) >= 4);
    witnesses.alone().await;
}

#[tokio::test]
async fn more_feeds_than_a_connection_may_have_are_refused_one_by_one() {
    let mut witnesses = Witnesses::with(|config| config.tcp.h2_streams_max = 10).await;
    let before = witnesses.count();
    let mut connection = Http2::open(&witnesses.hub).await;
    for i in 0..30 {
        connection.wire.send(get(2 * i + 1, "/events?topic=witness")).await;
    }
    witnesses.until(|hub| hub.running().hub().subscribers() == before + 10).await;
    witnesses.served().await;
    // One is given back, and another gets in.
    connection.wire.send(frame(RST_STREAM, 0, 1, &CANCEL)).await;
    witnesses.until(|hub| hub.running().hub().subscribers() == before + 9).await;
    connection.wire.send(get(61, "/events?topic=witness")).await;
    witnesses.until(|hub| hub.running().hub().subscribers() == before + 10).await;
    drop(connection);
    assert!(witnesses.reached(Limit::Streams) >= 1);
    witnesses.alone().await;
}

#[tokio::test]
async fn a_connection_cut_off_takes_its_feeds_with_it() {
    let mut witnesses = Witnesses::gather().await;
    let before = witnesses.count();
    for _ in 0..5 {
        let mut connection = Http2::open(&witnesses.hub).await;
        for i in 0..20 {
            connection.wire.send(get(2 * i + 1, "/events?topic=witness")).await;
        }
        witnesses.until(|hub| hub.running().hub().subscribers() == before + 20).await;
        connection.wire.reset();
        witnesses.until(|hub| hub.running().hub().subscribers() == before).await;
    }
    witnesses.alone().await;
}

#[tokio::test]
async fn a_feed_that_is_never_read_is_reset_and_its_neighbours_go_on() {
    let mut witnesses = Witnesses::with(|config| config.feed_limits.stalled_ms_max = 500).await;
    let before = witnesses.count();
    let mut wire = Wire::cleartext(&witnesses.hub).await;
    // A window of nothing for each stream.
    wire.send(greeting(&[0, 4, 0, 0, 0, 0])).await;
    for stream in [1, 3, 5, 7, 9] {
        wire.send(get(stream, "/events?topic=witness")).await;
    }
    witnesses.until(|hub| hub.running().hub().subscribers() == before + 5).await;
    // One of them is read after all.
    wire.send(frame(WINDOW_UPDATE, 0, 9, &0x00ff_ffff_u32.to_be_bytes())).await;
    witnesses.served().await;
    witnesses.until(|hub| hub.running().hub().subscribers() == before + 1).await;
    let text = witnesses.hub.running().hub().metrics().to_text();
    assert!(text.contains("fanwire_feeds_ended_total{how=\"stalled\"} 4\n"), "{text}");
    witnesses.served().await;
    drop(wire);
    witnesses.alone().await;
}

pub(crate) struct Http2 {
    pub(crate) wire: Wire,
}

impl Http2 {
    pub(crate) async fn open(hub: &TestHub) -> Self {
        let mut wire = Wire::cleartext(hub).await;
        wire.send(greeting(&[])).await;
        Self { wire }
    }
}

/// What a connection begins with, and a head whose frame says that it has 16,000 bytes more.
pub(crate) fn a_long_head_begins() -> Vec<u8> {
    let begun = fields("/events?topic=a");
    let head = frame(HEADERS, END_ALL, 1, &[&begun[..], &[0; 16_000]].concat());
    [&greeting(&[])[..], &head[..head.len() - 16_000]].concat()
}

/// A literal field without indexing. [RFC 7541 §6.2.2]
fn literal(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut field = vec![0, u8::try_from(name.len()).expect("short")];
    field.extend_from_slice(name);
    // 127 and the rest.
    field.extend([0x7f, u8::try_from(value.len() - 127).expect("short")]);
    field.extend_from_slice(value);
    field
}

const END_ALL: u8 = END_STREAM | END_HEADERS;
/// Far less than was sent, and room for what other tests do at the same time.
const MEMORY_MAX: usize = 64 << 20;
