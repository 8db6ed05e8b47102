//! `shared/vectors/*.json` say what this crate does; the JavaScript client is tested against the same files.
//!
//! After a change of the wire: `UPDATE_VECTORS=1 cargo test -p fanwire-protocol --test vectors`, and read the difference.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{path::PathBuf, time::Duration};

use bytes::Bytes;
use fanwire_protocol::{
    Cursor, Data, Draft, Epoch, Event, EventId, EventType, Seq, Topic,
    frame::{self, Decoder},
    message::{
        Answer, Bye, ByeCode, Changed, Done, Gap, GapReason, Hello, Lane, Message, Outcome, Ping, Refusal, Verdict,
    },
    sse::{self, ControlId, Parser},
};
use serde_json::{Value, json};

fn epoch() -> Epoch {
    "0a1b2c3d4e".parse().unwrap()
}

fn event(seq: u64, topics: &[&str], data: Data) -> Event {
    let topics = topics.iter().map(|topic| Topic::new(topic).unwrap()).collect();
    let draft = Draft::new(topics, data).unwrap();
    Event { cursor: Cursor { epoch: epoch(), seq: Seq(seq) }, at_ms: 1_763_757_945_123, draft }
}

fn events() -> Vec<(&'static str, u64, Event)> {
    let mut full =
        event(16_384, &["https://example.com/books/1", "books"], Data::text("line one\r\nline two\rline three\n"));
    full.draft.id = Some(EventId::new("urn:uuid:1 with space; and #").unwrap());
    full.draft.kind = Some(EventType::new("update").unwrap());
    full.draft.retry = Some(Duration::from_millis(1500));
    let mut private = event(Seq::MAX.0, &["a;b c%d=é"], Data::text("{\"größe\": \"🎉日本語\"}"));
    private.draft.private = true;
    vec![
        ("a plain text", 0, event(1, &["orders/42"], Data::text("hello"))),
        ("no data", 1, event(2, &["orders/42"], Data::text(""))),
        ("every field, line ends made LF", 63, full),
        ("many bytes of a character, the highest seq, private", 64, private),
        ("binary", 16_383, event(1_073_741_824, &["b"], Data::Binary(Bytes::from_static(b"\0\x01\xfe\xff\r\n")))),
        ("binary, empty", 5, event(7, &["b"], Data::Binary(Bytes::new()))),
        ("data that looks like SSE", 7, event(8, &["s"], Data::text(" data: x\n\n: no comment\nid: 9\n\u{feff}"))),
    ]
}

fn event_vectors() -> Value {
    let rows = events().into_iter().map(|(name, prev_seq, event)| {
        let body = frame::event_body(&event);
        let mut bytes = Vec::new();
        frame::put_event_head(&mut bytes, Seq(prev_seq), body.len());
        bytes.extend_from_slice(&body);
        let draft = &event.draft;
        json!({
            "name": name,
            "prev_seq": prev_seq,
            "event": {
                "cursor": event.cursor,
                "seq": event.seq().0,
                "at": event.at_ms,
                "topic": draft.canonical().as_str(),
                "id": draft.id.as_ref().map(EventId::as_str),
                "type": draft.kind.as_ref().map(EventType::as_str),
                "retry": draft.retry.map(|retry| retry.as_millis() as u64),
                "private": draft.private,
                "binary": draft.data.is_binary(),
                "text": draft.data.to_sse_text(),
            },
            "frame_hex": hex(&bytes),
            "sse": String::from_utf8(sse::event(&event)).unwrap(),
            "sse_control": String::from_utf8(sse::event_with_control_id(&event)).unwrap(),
        })
    });
    json!({ "epoch": epoch().to_string(), "vectors": rows.collect::<Vec<_>>() })
}

fn message_vectors() -> Value {
    let cursor = |seq| Cursor { epoch: epoch(), seq: Seq(seq) };
    let messages = [
        Message::Hello(Hello { version: 1, cursor: cursor(41), verdict: Verdict::Resumed, heartbeat_ms: 15_000 }),
        Message::Gap(Gap { reason: GapReason::Evicted, from: Some(43), to: 97, cursor: cursor(97) }),
        Message::Gap(Gap { reason: GapReason::NewEpoch, from: None, to: 0, cursor: cursor(0) }),
        Message::Ping(Ping { watermark: cursor(120) }),
        Message::Changed(Changed { request_id: 7, from_seq: 131 }),
        Message::Bye(Bye::retry(ByeCode::Drain, "the hub is shutting down", 1200)),
        Message::Bye(Bye::terminal(ByeCode::BadRequest, "no matcher")),
    ];
    let rows = messages.into_iter().map(|message| {
        let (kind, bytes) = message_frame(&message);
        json!({
            "message": message,
            "frame_type": kind,
            "frame_hex": hex(&bytes),
            "sse_control": String::from_utf8(sse::control_message(&message).to_vec()).unwrap(),
        })
    });
    let answers = [
        Outcome::Ok(Done::Published { id: "mine".into(), cursor: cursor(42) }),
        Outcome::Ok(Done::Changed { from_seq: 131 }),
        Outcome::Error(Refusal { code: "no_topic".into(), message: "an event needs at least one topic".into() }),
    ];
    let answers = answers.into_iter().map(|outcome| {
        let answer = Answer { request_id: 2, outcome };
        json!({ "answer": answer, "frame_hex": hex(&frame::json(frame::ANSWER, &answer)) })
    });
    let linked = [
        (97, Message::Ping(Ping { watermark: cursor(120) })),
        (41, Message::Gap(Gap { reason: GapReason::Evicted, from: Some(43), to: 97, cursor: cursor(97) })),
    ];
    let linked = linked.into_iter().map(|(prev, message)| {
        let bytes = match &message {
            Message::Ping(ping) => frame::linked_json(frame::PING, Seq(prev), ping),
            Message::Gap(gap) => frame::linked_json(frame::GAP, Seq(prev), gap),
            _ => unreachable!("only these two"),
        };
        let payload = message_payload(&bytes);
        assert_eq!(frame::read_prev(&payload), Some(Seq(prev)));
        json!({ "message": message, "prev_seq": prev, "frame_hex": hex(&bytes) })
    });
    let lane = json!({ "lane": 3, "frame_hex": hex(&frame::json(frame::LANE, &Lane { lane: 3 })) });
    json!({ "vectors": rows.collect::<Vec<_>>(), "answers": answers.collect::<Vec<_>>(), "linked": linked.collect::<Vec<_>>(), "lane": lane })
}

fn message_payload(bytes: &[u8]) -> Bytes {
    let mut decoder = Decoder::new(1024);
    decoder.feed(bytes);
    decoder.next().unwrap().unwrap().payload
}

fn message_frame(message: &Message) -> (u64, Bytes) {
    match message {
        Message::Hello(m) => (frame::HELLO, frame::json(frame::HELLO, m)),
        Message::Gap(m) => (frame::GAP, frame::json(frame::GAP, m)),
        Message::Changed(m) => (frame::CHANGED, frame::json(frame::CHANGED, m)),
        Message::Ping(m) => (frame::PING, frame::json(frame::PING, m)),
        Message::Bye(m) => (frame::BYE, frame::json(frame::BYE, m)),
    }
}

fn stream_vectors() -> Value {
    json!({ "vectors": [
        { "name": "unknown frames are skipped", "hex": "3f00" .to_owned() + "4abc03010203" + &hex(&frame::json(frame::PING, &1)), "types": [63, 2748, 4], "error": false },
        { "name": "a length in more bytes than it needs", "hex": "04400131", "types": [4], "error": false },
        { "name": "cut in the middle", "hex": "0105aabb", "types": [], "error": false },
        { "name": "longer than 8 MiB", "hex": "01c000000000800001", "types": [], "error": true },
        { "name": "varints of every size", "hex": "25007bbd00".to_owned() + "9d7f3e7d00" + "c2197c5eff14e88c00", "types": [37, 15293, 494878333_u64, 151288809941952652_u64], "error": false }
    ]})
}

#[test]
fn events_are_as_the_vectors_say() {
    check("events.json", &event_vectors());
    for (name, prev, event) in events() {
        let mut only_canonical = Draft::new(vec![event.draft.canonical().clone()], event.draft.data.clone()).unwrap();
        only_canonical.id.clone_from(&event.draft.id);
        only_canonical.kind.clone_from(&event.draft.kind);
        (only_canonical.retry, only_canonical.private) = (event.draft.retry, event.draft.private);
        let expected = Event { draft: only_canonical, ..event.clone() };
        let body = frame::event_body(&event);
        let mut payload = Vec::new();
        frame::put_varint(&mut payload, prev);
        payload.extend_from_slice(&body);
        let got = frame::read_event(epoch(), payload.into()).unwrap();
        assert_eq!((got.prev, got.event), (Seq(prev), expected), "{name}");

        let mut blocks = vec![];
        Parser::new(1 << 20).feed(&sse::event_with_control_id(&event), |block| blocks.push(block)).unwrap();
        assert_eq!(blocks[0].data.as_deref(), Some(&*event.draft.data.to_sse_text()), "{name}");
        assert_eq!(ControlId::parse(&blocks[0].last_id).unwrap().cursor, event.cursor, "{name}");
    }
}

#[test]
fn messages_are_as_the_vectors_say() {
    check("messages.json", &message_vectors());
}

#[test]
fn streams_are_cut_as_the_vectors_say() {
    check("streams.json", &stream_vectors());
    for row in stream_vectors()["vectors"].as_array().unwrap() {
        let mut decoder = Decoder::new(frame::PAYLOAD_BYTES_MAX);
        decoder.feed(&unhex(row["hex"].as_str().unwrap()));
        let mut kinds = vec![];
        let error = loop {
            match decoder.next() {
                Ok(Some(frame)) => kinds.push(frame.kind),
                Ok(None) => break false,
                Err(_) => break true,
            }
        };
        assert_eq!((json!(kinds), json!(error)), (row["types"].clone(), row["error"].clone()), "{}", row["name"]);
    }
}

fn check(file: &str, expected: &Value) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../vectors").join(file);
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        std::fs::write(&path, format!("{expected:#}\n")).unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(&serde_json::from_str::<Value>(&text).unwrap(), expected, "{}", path.display());
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}
