//! Bytes of a peer, made up and made wrong: nothing panics, and what a browser reads is what was published.
//!
//! Each target runs for a second; `FUZZ_SECONDS=3600 cargo test --release -p fanwire-tests --test fuzz` for an hour. A failure prints its
//! seed, and `FUZZ_SEED=…` begins with it.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use fanwire::hub::{Limits, Publication, form_pairs, publication_from_form, publication_from_json};
use fanwire_protocol::{
    Cursor, Epoch, Event, HubUrl, LastEventId, Pattern, Seq, Topic, TopicUrl,
    frame::{self, Decoder, Frame},
    sse::{self, Parser},
};
use fastrand::Rng;

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
    fuzz(&bodies, |body, rng| {
        let limits = Limits::default();
        for published in [publication_from_form(body, &limits), publication_from_json(body, &limits)] {
            let Ok(Publication { draft, .. }) = published else { continue };
            let cursor = Cursor { epoch: Epoch::from_bits(rng.u64(..)), seq: Seq(rng.u64(1..1 << 53)) };
            let event = Event { cursor, at_ms: rng.u64(..1 << 50), draft };
            let data = event.draft.data.to_sse_text().into_owned();
            let kind = event.draft.kind.as_ref().map_or("message", |kind| kind.as_str());
            let expected = (event.public_id(), kind.to_owned(), data);
            let text = sse::event(&event);
            assert_eq!(by_the_standard(&text), std::slice::from_ref(&expected), "{:?}", String::from_utf8_lossy(&text));
            // Ours, however the network cuts it.
            let (mut parser, mut blocks) = (Parser::new(8 << 20), vec![]);
            let mut rest = &text[..];
            while !rest.is_empty() {
                let (part, left) = rest.split_at(rng.usize(1..=rest.len()));
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

#[test]
fn frames_are_the_same_however_they_are_cut() {
    let seeds: [&[u8]; 4] = [
        b"\x13\x11{\"request_id\": 1}",
        b"\x00\x02{}\x01\x0a\x00\x01\x05\x00\x01adata\x04\x02{}",
        b"\x21\x40\x05hello\x13\x00",
        b"\xc0\0\0\0\0\0\0\x13\x80\0\0\x02{}",
    ];
    fuzz(&seeds, |bytes, rng| {
        let decode = |cut: &mut dyn FnMut(usize) -> usize| {
            let (mut decoder, mut frames, mut rest) = (Decoder::new(1 << 16), vec![], bytes);
            loop {
                loop {
                    match decoder.next() {
                        Ok(Some(Frame { kind, payload })) => frames.push((kind, payload.to_vec())),
                        Ok(None) => break,
                        Err(error) => return (frames, Some(error.to_string())),
                    }
                }
                if rest.is_empty() {
                    return (frames, None);
                }
                let (part, left) = rest.split_at(cut(rest.len()));
                decoder.feed(part);
                rest = left;
            }
        };
        let whole = decode(&mut |all| all);
        assert_eq!(decode(&mut |all| rng.usize(1..=all)), whole);
        for (_, payload) in whole.0 {
            let _ = frame::read_event(Epoch::from_bits(0), Bytes::from(payload));
        }
    });
}

#[test]
fn queries_patterns_and_ids_are_taken_or_refused() {
    let seeds: [&[u8]; 6] = [
        b"topic=a&match_urlpattern=/a/:id(%5Cd%2B)*&last_event_id=%230a1b2c3d4e:42",
        b"https://*.example.com/:kind/{x}?/*?q=:v#*",
        b"/((((((a)+)+)+)+)+)",
        b"#0a1b2c3d4e:42;t=1;n=a id",
        b"earliest",
        b"%zz&=&&=%ff+",
    ];
    fuzz(&seeds, |bytes, _| {
        let began = Instant::now();
        let text = String::from_utf8_lossy(bytes);
        let _ = form_pairs(bytes).filter_map(Result::ok).count();
        let _ = LastEventId::parse(&text);
        let _ = sse::ControlId::parse(&text);
        let base = HubUrl::default();
        if let Ok(pattern) = Pattern::new(&text, &base) {
            for topic in [&*text, "https://a.example.com/b/1?q=2#3", "/a/1", "urn:a"] {
                let Ok(topic) = Topic::new(topic) else { continue };
                let url = TopicUrl::new(&topic, &base);
                assert_eq!(pattern.matches(&url), pattern.matches(&url));
            }
        }
        assert!(began.elapsed() < Duration::from_secs(5), "{text:?} takes {:?}", began.elapsed());
    });
}

/// Every event that an EventSource fires: its last event id, its type, and its data. [WHATWG HTML §9.2.6], word for word and slow.
fn by_the_standard(stream: &[u8]) -> Vec<(String, String, String)> {
    let text = String::from_utf8_lossy(stream).into_owned();
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text).replace("\r\n", "\n").replace('\r', "\n");
    let (mut data, mut kind, mut id) = (String::new(), String::new(), String::new());
    let mut fired = vec![];
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
            _ => {}
        }
    }
    fired
}

/// A frame's payload as a feed gets it.
fn with_prev(event: &Event) -> Bytes {
    let mut payload = vec![];
    frame::put_varint(&mut payload, event.seq().0 - 1);
    payload.extend_from_slice(&frame::event_body(event));
    payload.into()
}

/// Runs a target with inputs that are made of these, for as long as is asked for.
fn fuzz(seeds: &[&[u8]], mut target: impl FnMut(&[u8], &mut Rng)) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let end = Instant::now() + Duration::from_secs(number("FUZZ_SECONDS").unwrap_or(1));
    let first = number("FUZZ_SEED").unwrap_or_else(|| fastrand::u64(..1 << 48));
    for seed in first.. {
        let mut rng = Rng::with_seed(seed);
        let mut input = seeds[rng.usize(..seeds.len())].to_vec();
        // The first of a run is as it is written.
        for _ in 0..rng.usize(..8) {
            mutate(&mut input, seeds, &mut rng);
        }
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| target(&input, &mut rng)));
        if let Err(panic) = ran {
            eprintln!("FUZZ_SEED={seed} with {:?}", String::from_utf8_lossy(&input));
            std::panic::resume_unwind(panic);
        }
        if Instant::now() > end {
            return;
        }
    }
}

fn mutate(input: &mut Vec<u8>, seeds: &[&[u8]], rng: &mut Rng) {
    let at = rng.usize(..=input.len());
    match rng.u8(..7) {
        0 if at < input.len() => input[at] ^= 1 << rng.u8(..8),
        1 if at < input.len() => input[at] = rng.u8(..),
        2 => {
            let end = rng.usize(at..=input.len());
            input.drain(at..end);
        }
        3 => input.truncate(at),
        4 => {
            let part = input[at..rng.usize(at..=input.len())].repeat(rng.usize(1..20));
            input.splice(at..at, part);
        }
        5 => {
            let other = seeds[rng.usize(..seeds.len())];
            let from = rng.usize(..other.len());
            input.splice(at..at, other[from..].iter().copied());
        }
        _ => {
            let what: [&[u8]; 9] =
                [b"%0D%0A", b"\r\n", b"\0", b"\xff", b"\xef\xbb\xbf", b"\xf0\x9f\x98\x80", b"\\u0000", b"%00", b": "];
            input.splice(at..at, what[rng.usize(..what.len())].iter().copied());
        }
    }
}
