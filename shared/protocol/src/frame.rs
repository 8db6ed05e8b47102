//! WebTransport frames: `type (varint) length (varint) payload`.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::{Cursor, Data, Draft, Epoch, Event, EventId, EventType, Seq, Topic};

/// The feed begins; JSON.
pub const HELLO: u64 = 0x00;
/// An event; binary.
pub const EVENT: u64 = 0x01;
/// Loss, told; JSON.
pub const GAP: u64 = 0x02;
/// Matchers or rights changed; JSON.
pub const CHANGED: u64 = 0x03;
/// A heartbeat; JSON.
pub const PING: u64 = 0x04;
/// The feed ends; JSON.
pub const BYE: u64 = 0x05;
/// A stream of events beside the feed's begins; JSON.
pub const LANE: u64 = 0x06;
/// Control stream: credentials; JSON. Kept for tokens.
pub const AUTH: u64 = 0x10;
/// Control stream: more topics; JSON.
pub const SUBSCRIBE: u64 = 0x11;
/// Control stream: fewer topics; JSON.
pub const UNSUBSCRIBE: u64 = 0x12;
/// Control stream: publish; JSON.
pub const PUBLISH: u64 = 0x13;
/// Control stream: the hub's answer; JSON.
pub const ANSWER: u64 = 0x20;

/// The largest payload that a client needs to take, in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The largest payload that a hub takes, in bytes.
pub const REQUEST_BYTES_MAX: usize = 2 * 1024 * 1024;

const FLAG_ID: u64 = 1;
const FLAG_TYPE: u64 = 2;
const FLAG_RETRY: u64 = 4;
const FLAG_BINARY: u64 = 8;
const FLAG_PRIVATE: u64 = 16;

/// Appends a QUIC variable-length integer. [RFC 9000 §16]
///
/// # Panics
/// If the value is 2^62 or more.
pub fn put_varint(out: &mut impl BufMut, value: u64) {
    match value {
        0..=0x3f => out.put_u8(value as u8),
        0x40..=0x3fff => out.put_u16(0x4000 | value as u16),
        0x4000..=0x3fff_ffff => out.put_u32(0x8000_0000 | value as u32),
        0x4000_0000..=0x3fff_ffff_ffff_ffff => out.put_u64(0xc000_0000_0000_0000 | value),
        _ => panic!("{value} is no QUIC variable-length integer"),
    }
}

/// How many bytes [`put_varint`] appends.
pub fn varint_bytes(value: u64) -> usize {
    match value {
        0..=0x3f => 1,
        0x40..=0x3fff => 2,
        0x4000..=0x3fff_ffff => 4,
        _ => 8,
    }
}

/// Reads a variable-length integer off the front; `None`, and nothing read, if it isn't all there.
pub fn get_varint(input: &mut &[u8]) -> Option<u64> {
    let first = *input.first()?;
    let len = 1 << (first >> 6);
    let (head, rest) = input.split_at_checked(len)?;
    *input = rest;
    Some(head[1..].iter().fold(u64::from(first & 0x3f), |value, &byte| value << 8 | u64::from(byte)))
}

/// A frame with a JSON payload.
pub fn json<T: serde::Serialize>(kind: u64, payload: &T) -> Bytes {
    let payload = serde_json::to_vec(payload).expect("plain data with string keys");
    let mut out = BytesMut::with_capacity(payload.len() + 9);
    put_varint(&mut out, kind);
    put_varint(&mut out, payload.len() as u64);
    out.extend_from_slice(&payload);
    out.freeze()
}

/// A frame with a JSON payload that says what comes before it in the feed, since other streams carry some of that: see [`read_prev`].
pub fn linked_json<T: serde::Serialize>(kind: u64, prev: Seq, payload: &T) -> Bytes {
    #[derive(serde::Serialize)]
    struct Linked<'a, T> {
        prev_seq: u64,
        #[serde(flatten)]
        payload: &'a T,
    }
    json(kind, &Linked { prev_seq: prev.0, payload })
}

/// What a payload of [`linked_json`] says comes before it.
pub fn read_prev(payload: &[u8]) -> Option<Seq> {
    #[derive(serde::Deserialize)]
    struct Link {
        prev_seq: u64,
    }
    serde_json::from_slice::<Link>(payload).ok().map(|link| Seq(link.prev_seq))
}

/// The part of an `EVENT` frame that is the same for every feed: everything after `prev_seq`.
pub fn event_body(event: &Event) -> Bytes {
    let draft = &event.draft;
    let data = draft.data.bytes();
    let (id, kind) = (draft.id.as_ref().map(EventId::as_str), draft.kind.as_ref().map(EventType::as_str));
    let names = id.map_or(0, str::len) + kind.map_or(0, str::len) + draft.canonical().as_str().len();
    let mut out = BytesMut::with_capacity(data.len() + names + 48);
    put_varint(&mut out, event.seq().0);
    put_varint(&mut out, event.at_ms);
    let mut flags = 0;
    for (present, flag) in [
        (id.is_some(), FLAG_ID),
        (kind.is_some(), FLAG_TYPE),
        (draft.retry.is_some(), FLAG_RETRY),
        (draft.data.is_binary(), FLAG_BINARY),
        (draft.private, FLAG_PRIVATE),
    ] {
        flags |= if present { flag } else { 0 };
    }
    put_varint(&mut out, flags);
    for name in [id, kind].into_iter().flatten() {
        put_name(&mut out, name);
    }
    if let Some(retry) = draft.retry {
        put_varint(&mut out, retry.as_millis() as u64);
    }
    put_name(&mut out, draft.canonical().as_str());
    out.extend_from_slice(data);
    out.freeze()
}

/// The part of an `EVENT` frame that is a feed's own: type, length and `prev_seq`; an [`event_body`] of `body_bytes` follows.
pub fn put_event_head(out: &mut impl BufMut, prev: Seq, body_bytes: usize) {
    put_varint(out, EVENT);
    put_varint(out, (varint_bytes(prev.0) + body_bytes) as u64);
    put_varint(out, prev.0);
}

/// How many bytes an `EVENT` frame takes: an [`event_body`] of `body_bytes`, and what [`put_event_head`] puts before it.
pub fn event_bytes(prev: Seq, body_bytes: usize) -> usize {
    let payload_bytes = varint_bytes(prev.0) + body_bytes;
    varint_bytes(EVENT) + varint_bytes(payload_bytes as u64) + payload_bytes
}

fn put_name(out: &mut BytesMut, name: &str) {
    put_varint(out, name.len() as u64);
    out.extend_from_slice(name.as_bytes());
}

/// An `EVENT` as a client gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedEvent {
    /// The event before it in this feed.
    pub prev: Seq,
    /// The event; of its topics only the canonical one.
    pub event: Event,
}

/// Reads the payload of an `EVENT`. The epoch is that of the feed's `HELLO`.
pub fn read_event(epoch: Epoch, payload: Bytes) -> Result<FeedEvent, Malformed> {
    let mut input = &payload[..];
    let varint = |input: &mut &[u8]| get_varint(input).ok_or(Malformed("an EVENT ends in the middle of a number"));
    let prev = Seq(varint(&mut input)?);
    let seq = Seq(varint(&mut input)?);
    let at_ms = varint(&mut input)?;
    let flags = varint(&mut input)?;
    let id = (flags & FLAG_ID != 0).then(|| get_name(&mut input)).transpose()?;
    let kind = (flags & FLAG_TYPE != 0).then(|| get_name(&mut input)).transpose()?;
    let retry = (flags & FLAG_RETRY != 0).then(|| varint(&mut input)).transpose()?;
    let topic = Topic::of_event(get_name(&mut input)?).map_err(|_| Malformed("an EVENT with a topic that is none"))?;
    let data = payload.slice(payload.len() - input.len()..);
    let data = if flags & FLAG_BINARY != 0 {
        Data::Binary(data)
    } else {
        Data::from_utf8(data).ok_or(Malformed("an EVENT whose text isn't UTF-8"))?
    };
    let mut draft = Draft::new(vec![topic], data).map_err(|_| Malformed("an EVENT without a topic"))?;
    draft.id = id.map(EventId::new).transpose().map_err(|_| Malformed("an EVENT with an id that is none"))?;
    draft.kind =
        kind.map(EventType::of_event).transpose().map_err(|_| Malformed("an EVENT with a type that is none"))?;
    draft.retry = retry.map(Duration::from_millis);
    draft.private = flags & FLAG_PRIVATE != 0;
    Ok(FeedEvent { prev, event: Event { cursor: Cursor { epoch, seq }, at_ms, draft } })
}

fn get_name<'a>(input: &mut &'a [u8]) -> Result<&'a str, Malformed> {
    let short = Malformed("an EVENT ends in the middle of a name");
    let len = get_varint(input).ok_or(short)?;
    let (name, rest) = usize::try_from(len).ok().and_then(|len| input.split_at_checked(len)).ok_or(short)?;
    *input = rest;
    std::str::from_utf8(name).map_err(|_| Malformed("an EVENT with a name that isn't UTF-8"))
}

/// Cuts a byte stream into frames. Holds at most one frame, of a bounded size.
#[derive(Debug)]
pub struct Decoder {
    buffered: BytesMut,
    payload_bytes_max: usize,
}

/// A frame as it came: its type, known or not, and its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The type.
    pub kind: u64,
    /// The payload.
    pub payload: Bytes,
}

impl Decoder {
    /// A decoder that takes payloads of so many bytes.
    pub fn new(payload_bytes_max: usize) -> Self {
        Self { buffered: BytesMut::new(), payload_bytes_max }
    }

    /// Takes bytes in. Call [`Decoder::next`] until it gives `None` before feeding more.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffered.extend_from_slice(bytes);
    }

    /// The next whole frame.
    #[expect(clippy::should_implement_trait, reason = "it can fail, and goes on after None")]
    pub fn next(&mut self) -> Result<Option<Frame>, Malformed> {
        let mut input = &self.buffered[..];
        let (Some(kind), Some(len)) = (get_varint(&mut input), get_varint(&mut input)) else { return Ok(None) };
        if len > self.payload_bytes_max as u64 {
            return Err(Malformed("a frame is longer than allowed"));
        }
        let (head, len) = (self.buffered.len() - input.len(), len as usize);
        if input.len() < len {
            self.buffered.reserve(head + len - self.buffered.len());
            return Ok(None);
        }
        self.buffered.advance(head);
        Ok(Some(Frame { kind, payload: self.buffered.split_to(len).freeze() }))
    }

    /// Whether the stream may end here: no frame is begun.
    pub fn is_empty(&self) -> bool {
        self.buffered.is_empty()
    }
}

/// The peer's bytes are no frames; what is wrong with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Event {
        let mut draft = Draft::new(vec![Topic::new("orders/ü").unwrap()], Data::text("a\r\nb")).unwrap();
        draft.id = Some(EventId::new("mine").unwrap());
        draft.kind = Some(EventType::new("update").unwrap());
        draft.retry = Some(Duration::from_millis(1500));
        Event { cursor: Cursor { epoch: Epoch::from_bits(7), seq: Seq(300) }, at_ms: 1_763_757_945_123, draft }
    }

    fn encode(prev: Seq, event: &Event) -> Vec<u8> {
        let body = event_body(event);
        let mut out = Vec::new();
        put_event_head(&mut out, prev, body.len());
        out.extend_from_slice(&body);
        out
    }

    #[test]
    fn an_event_comes_out_as_it_went_in() {
        for data in [Data::text("a\nb"), Data::text(""), Data::Binary(Bytes::from_static(b"\0\xff\r\n"))] {
            let mut event = sample();
            event.draft.data = data;
            let mut decoder = Decoder::new(1024);
            assert_eq!(encode(Seq(299), &event).len(), event_bytes(Seq(299), event_body(&event).len()));
            decoder.feed(&encode(Seq(299), &event));
            let frame = decoder.next().unwrap().unwrap();
            assert_eq!(frame.kind, EVENT);
            let got = read_event(event.cursor.epoch, frame.payload).unwrap();
            assert_eq!(got, FeedEvent { prev: Seq(299), event });
            assert!(decoder.is_empty());
        }
    }

    #[test]
    fn frames_may_come_a_byte_at_a_time() {
        let bytes = encode(Seq(5), &sample());
        let mut decoder = Decoder::new(1024);
        for byte in &bytes[..bytes.len() - 1] {
            decoder.feed(&[*byte]);
            assert_eq!(decoder.next(), Ok(None));
        }
        decoder.feed(&bytes[bytes.len() - 1..]);
        assert!(decoder.next().unwrap().is_some());
    }

    #[test]
    fn a_frame_beyond_the_limit_is_refused_before_it_is_buffered() {
        let mut decoder = Decoder::new(10);
        decoder.feed(&[0x01, 11]);
        assert!(decoder.next().is_err());
    }

    #[test]
    fn every_cut_of_an_event_is_an_error_and_no_panic() {
        let body = event_body(&sample());
        for end in 0..body.len() - 4 {
            let _ = read_event(Epoch::from_bits(0), body.slice(..end));
        }
    }

    proptest! {
        #[test]
        fn varints_round_trip(value in 0u64..1 << 62) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            prop_assert_eq!(out.len(), varint_bytes(value));
            let mut input = &out[..];
            prop_assert_eq!(get_varint(&mut input), Some(value));
            prop_assert!(input.is_empty());
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let mut decoder = Decoder::new(128);
            decoder.feed(&bytes);
            while let Ok(Some(frame)) = decoder.next() {
                let _ = read_event(Epoch::from_bits(0), frame.payload);
            }
        }
    }
}
