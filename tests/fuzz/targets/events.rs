//! What is published, and what a browser reads of it.

use bytes::Bytes;
use fanwire::hub::{Limits, Publication, publication_from_form, publication_from_json};
use fanwire_protocol::{
    Cursor, Epoch, Event, Seq, frame,
    sse::{self, ControlId, Parser},
};

use crate::fuzz;

#[test]
fn what_a_browser_reads_is_what_was_published() {
    let bodies: [&[u8]; 6] = [
        b"topic=a&data=x%0Ay&id=1&type=t&retry=5",
        b"topic=a&topic=b&data=%0D%0A%0D&private",
        b"topic=%C3%A9&data=data%3A%20x%0A%0Aid%3A%201",
        br#"{"topic": "a", "data": "x\r\ny\u0000\ufeff", "id": "1", "type": "t", "retry": 1}"#,
        br#"{"topic": ["a", "b"], "data": {"a": [1, "\n"]}, "private": true}"#,
        br#"{"topic": "a", "data_base64": "AAEC/w=="}"#,
    ];
    fuzz(bolero::check!(), &bodies, |body, choices| {
        let limits = Limits::default();
        for published in [publication_from_form(body, &limits), publication_from_json(body, &limits)] {
            let Ok(Publication { draft, .. }) = published else { continue };
            let cursor = Cursor { epoch: Epoch::from_bits(choices.u64()), seq: Seq(1 + choices.u64() % Seq::MAX.0) };
            let event = Event { cursor, at_ms: choices.u64() >> 14, draft };
            let data = event.draft.data.to_sse_text().into_owned();
            let kind = event.draft.kind.as_ref().map_or("message", |kind| kind.as_str());
            let retry = event.draft.retry.map(|retry| retry.as_millis().to_string());
            let text = sse::event_with_control_id(&event);
            let (fired, told) = by_the_standard(&text);
            let [(id, ..)] = &fired[..] else { panic!("{:?}", String::from_utf8_lossy(&text)) };
            let expected = ControlId {
                cursor,
                at_ms: Some(event.at_ms),
                topic: Some(event.draft.canonical().as_str().to_owned()),
                binary: event.draft.data.is_binary(),
                publisher: event.draft.id.as_ref().map(|id| id.as_str().to_owned()),
            };
            assert_eq!((ControlId::parse(id), &told), (Some(expected), &retry));
            assert_eq!((&fired[0].1, &fired[0].2), (&kind.to_owned(), &data));
            let expected = (event.public_id(), kind.to_owned(), data);
            let text = sse::event(&event);
            let seen = by_the_standard(&text);
            assert_eq!(seen, (vec![expected.clone()], retry), "{:?}", String::from_utf8_lossy(&text));
            // Ours, however the network cuts it.
            let (mut parser, mut blocks) = (Parser::new(8 << 20), vec![]);
            let mut rest = &text[..];
            while !rest.is_empty() {
                let (part, left) = rest.split_at(choices.among(1..=rest.len()));
                parser.feed(part, |block| blocks.push(block)).unwrap();
                rest = left;
            }
            let block = blocks.pop().unwrap();
            let kind = block.kind.unwrap_or_else(|| "message".to_owned());
            assert_eq!((block.last_id, kind, block.data.unwrap()), expected);
            assert!(blocks.is_empty());
            // And over WebTransport.
            let read = frame::read_event(cursor.epoch, with_prev(&event)).unwrap();
            assert_eq!((read.event.draft.data, read.event.cursor), (event.draft.data, event.cursor));
        }
    });
}

/// Every event that an EventSource fires: its last event id, its type, and its data; and what it was told of when to come back.
/// [WHATWG HTML §9.2.6], word for word and slow.
fn by_the_standard(stream: &[u8]) -> (Vec<(String, String, String)>, Option<String>) {
    let text = String::from_utf8_lossy(stream).into_owned();
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text).replace("\r\n", "\n").replace('\r', "\n");
    let (mut data, mut kind, mut id) = (String::new(), String::new(), String::new());
    let (mut fired, mut retry) = (vec![], None);
    // A line without an end is none.
    let lines: Vec<&str> = text.split('\n').collect();
    for line in &lines[..lines.len() - 1] {
        if line.is_empty() {
            let (mut data, kind) = (std::mem::take(&mut data), std::mem::take(&mut kind));
            if data.is_empty() {
                continue;
            }
            data.pop();
            let kind = if kind.is_empty() { "message".to_owned() } else { kind };
            fired.push((id.clone(), kind, data));
            continue;
        }
        let (name, value) = match line.split_once(':') {
            Some(("", _)) => continue,
            Some((name, value)) => (name, value.strip_prefix(' ').unwrap_or(value)),
            None => (*line, ""),
        };
        match name {
            "event" => value.clone_into(&mut kind),
            "data" => data.extend([value, "\n"]),
            "id" if !value.contains('\0') => value.clone_into(&mut id),
            "retry" if value.bytes().all(|byte| byte.is_ascii_digit()) => retry = Some(value.to_owned()),
            _ => {}
        }
    }
    (fired, retry)
}

/// A frame's payload as a feed gets it.
fn with_prev(event: &Event) -> Bytes {
    let mut payload = vec![];
    frame::put_varint(&mut payload, event.seq().0 - 1);
    payload.extend_from_slice(&frame::event_body(event));
    payload.into()
}
