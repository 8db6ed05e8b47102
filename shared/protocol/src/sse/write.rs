//! Writing the text of an event stream. [WHATWG HTML §9.2.5]

use bytes::Bytes;

use crate::{
    Cursor, Data, Event,
    message::{Message, SSE_EVENT_TYPE},
    text::{percent_decode, percent_encode},
};

/// An event as every SSE client gets it: the publisher's id, or else the cursor.
pub fn event(event: &Event) -> Vec<u8> {
    let mut out = begin(event);
    out.extend_from_slice(b"id: ");
    match &event.draft.id {
        Some(id) => out.extend_from_slice(id.as_str().as_bytes()),
        None => event.cursor.write_to(&mut out),
    }
    finish(event, out)
}

/// An event as a client with `control=1` gets it: see [`ControlId`].
pub fn event_with_control_id(event: &Event) -> Vec<u8> {
    let mut out = begin(event);
    out.extend_from_slice(b"id: ");
    event.cursor.write_to(&mut out);
    out.extend_from_slice(b";t=");
    out.extend_from_slice(itoa::Buffer::new().format(event.at_ms).as_bytes());
    out.extend_from_slice(b";n=");
    percent_encode(event.draft.canonical().as_str(), &mut out);
    if event.draft.data.is_binary() {
        out.extend_from_slice(b";b");
    }
    if let Some(id) = &event.draft.id {
        out.push(b' ');
        out.extend_from_slice(id.as_str().as_bytes());
    }
    finish(event, out)
}

fn begin(event: &Event) -> Vec<u8> {
    Vec::with_capacity(event.draft.data.bytes().len() * 5 / 4 + 160)
}

fn finish(event: &Event, mut out: Vec<u8>) -> Vec<u8> {
    let draft = &event.draft;
    if let Some(kind) = &draft.kind {
        out.extend_from_slice(b"\nevent: ");
        out.extend_from_slice(kind.as_str().as_bytes());
    }
    if let Some(retry) = draft.retry {
        out.extend_from_slice(b"\nretry: ");
        out.extend_from_slice(itoa::Buffer::new().format(retry.as_millis()).as_bytes());
    }
    match &draft.data {
        Data::Text(text) => {
            for line in text.as_str().split('\n') {
                out.extend_from_slice(b"\ndata: ");
                out.extend_from_slice(line.as_bytes());
            }
        }
        Data::Binary(_) => {
            out.extend_from_slice(b"\ndata: ");
            out.extend_from_slice(draft.data.to_sse_text().as_bytes());
        }
    }
    out.extend_from_slice(b"\n\n");
    out
}

/// A control message, as clients with `control=1` get it.
pub fn control_message(message: &Message) -> Bytes {
    let mut out = Vec::with_capacity(160);
    if let Some(cursor) = message.cursor() {
        out.extend_from_slice(b"id: ");
        cursor.write_to(&mut out);
        out.push(b'\n');
    }
    out.extend_from_slice(format!("event: {SSE_EVENT_TYPE}\ndata: {}\n\n", message.to_sse_json()).as_bytes());
    out.into()
}

/// A block that sets a browser's last event id: an empty event of a type that nobody listens to.
///
/// An id alone should be enough [WHATWG HTML §9.2.6], but Firefox 153 forgets it unless the block fires an event.
pub fn id_block(cursor: Cursor) -> Bytes {
    format!("event: {SSE_EVENT_TYPE}\nid: {cursor}\ndata:\n\n").into()
}

/// A comment line. No blank line follows: several decoders make an event of one.
pub fn comment(text: &str) -> Bytes {
    format!(": {text}\n").into()
}

/// The `id` of an event with `control=1`, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlId {
    /// The event's position.
    pub cursor: Cursor,
    /// When the hub took it, in milliseconds since the Unix epoch.
    pub at_ms: Option<u64>,
    /// Its canonical topic.
    pub topic: Option<String>,
    /// Whether the data is base64 of binary.
    pub binary: bool,
    /// The publisher's id.
    pub publisher: Option<String>,
}

impl ControlId {
    /// Parses an id; `None` if it isn't one of `control=1`. Unknown attributes are ignored.
    pub fn parse(id: &str) -> Option<Self> {
        let (position, publisher) = match id.split_once(' ') {
            Some((position, publisher)) => (position, Some(publisher.to_owned())),
            None => (id, None),
        };
        let mut attributes = position.split(';');
        let cursor = attributes.next()?.parse().ok()?;
        let mut parsed = Self { cursor, at_ms: None, topic: None, binary: false, publisher };
        for attribute in attributes {
            match attribute.split_once('=') {
                Some(("t", ms)) => parsed.at_ms = ms.parse().ok(),
                Some(("n", topic)) => parsed.topic = percent_decode(topic),
                None if attribute == "b" => parsed.binary = true,
                _ => {}
            }
        }
        Some(parsed)
    }
}
