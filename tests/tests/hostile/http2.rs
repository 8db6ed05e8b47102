//! Over HTTP/2: floods of frames that cost the sender little, and frames that can't be.

use std::time::Duration;

use fanwire::telemetry::Limit;
use fanwire_tests::{TestHub, Wire};

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
                burst.extend(headers(stream, path));
                burst.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
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
    connection.wire.send(frame(HEADERS, 0, 1, &block("/livez"))).await;
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
        ("HEADERS on an even stream", frame(HEADERS, END_ALL, 2, &block("/livez"))),
        ("garbage for HPACK", frame(HEADERS, END_ALL, 1, &[0xff; 50])),
        ("a window beyond the limit", frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff])),
        ("SETTINGS of five bytes", frame(SETTINGS, 0, 0, &[0; 5])),
        ("CONTINUATION of nothing", frame(CONTINUATION, 4, 1, b"")),
        ("PUSH_PROMISE of a client", frame(0x05, 4, 1, &[0, 0, 0, 2])),
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
        connection.wire.send(headers(2 * i + 1, "/events?topic=witness")).await;
    }
    witnesses.until(|hub| hub.running().hub().subscribers() == before + 10).await;
    witnesses.served().await;
    // One is given back, and another gets in.
    connection.wire.send(frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])).await;
    witnesses.until(|hub| hub.running().hub().subscribers() == before + 9).await;
    connection.wire.send(headers(61, "/events?topic=witness")).await;
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
            connection.wire.send(headers(2 * i + 1, "/events?topic=witness")).await;
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
    wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    // A window of nothing for each stream.
    wire.send(frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])).await;
    for stream in [1, 3, 5, 7, 9] {
        wire.send(headers(stream, "/events?topic=witness")).await;
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
        wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        wire.send(frame(SETTINGS, 0, 0, &[])).await;
        Self { wire }
    }
}

/// [RFC 9113 §4.1]
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).expect("short");
    let mut out = len.to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// What a connection begins with, and a head whose frame says that it has 16,000 bytes more.
pub(crate) fn a_long_head_begins() -> Vec<u8> {
    let begun = block("/events?topic=a");
    let head = frame(HEADERS, END_ALL, 1, &[&begun[..], &[0; 16_000]].concat());
    let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    out.extend(frame(SETTINGS, 0, 0, &[]));
    out.extend_from_slice(&head[..head.len() - 16_000]);
    out
}

pub(crate) fn headers(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_ALL, stream, &block(path))
}

/// `GET http://localhost/…` [RFC 7541 Appendix A]
fn block(path: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x04, u8::try_from(path.len()).expect("short")];
    block.extend_from_slice(path.as_bytes());
    block.extend([0x01, 9]);
    block.extend_from_slice(b"localhost");
    block
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

const DATA: u8 = 0x00;
const HEADERS: u8 = 0x01;
const PRIORITY: u8 = 0x02;
const RST_STREAM: u8 = 0x03;
const SETTINGS: u8 = 0x04;
const PING: u8 = 0x06;
const WINDOW_UPDATE: u8 = 0x08;
const CONTINUATION: u8 = 0x09;
/// END_STREAM and END_HEADERS.
const END_ALL: u8 = 0x05;
/// Far less than was sent, and room for what other tests do at the same time.
const MEMORY_MAX: usize = 64 << 20;
