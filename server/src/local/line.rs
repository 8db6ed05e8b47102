//! An event as a line of JSON, with the members of the protocol's §6.2 and two more: its `cursor`, and `at`, when the hub took it.

use std::{borrow::Cow, time::Duration};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use fanwire_protocol::{Cursor, Event, EventId, EventType, Topic};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    hub::{Limits, Publication, Refused, publication_from_json},
    log::{IdempotencyKey, Stamped},
    subscriptions::NAMESPACE,
};

#[derive(Serialize)]
struct Line<'a> {
    cursor: Cursor,
    /// Milliseconds since the Unix epoch.
    at: u64,
    topic: Topics<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    private: bool,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Topics<'a> {
    One(&'a str),
    Many(Vec<&'a str>),
}

/// Appends an event's line.
pub(super) fn write(event: &Event, out: &mut Vec<u8>) {
    let draft = &event.draft;
    let text = match &draft.data {
        fanwire_protocol::Data::Text(text) => Some(text.as_str()),
        fanwire_protocol::Data::Binary(_) => None,
    };
    let line = Line {
        cursor: event.cursor,
        at: event.at_ms,
        topic: match draft.topics() {
            [one] => Topics::One(one.as_str()),
            many => Topics::Many(many.iter().map(Topic::as_str).collect()),
        },
        id: draft.id.as_ref().map(EventId::as_str),
        kind: draft.kind.as_ref().map(EventType::as_str),
        data: text,
        data_base64: text.is_none().then(|| BASE64_STANDARD.encode(draft.data.bytes())),
        retry: draft.retry.as_ref().map(Duration::as_millis).map(|retry| retry as u64),
        private: draft.private,
    };
    serde_json::to_writer(&mut *out, &line).expect("plain data with string keys");
    out.push(b'\n');
}

#[derive(Deserialize)]
struct Origin {
    cursor: Option<Cursor>,
    at: Option<u64>,
}

/// Whether a line is one of a hub's own events, which nobody can publish: they are about that hub's subscribers, and mean nothing elsewhere. Those
/// for clients of Mercure 0.x have no type, and are told by their topic.
pub(super) fn is_of_hub(line: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Own<'a> {
        #[serde(borrow, default, rename = "type")]
        kind: Option<Cow<'a, str>>,
        #[serde(default)]
        topic: Value,
    }
    serde_json::from_slice::<Own<'_>>(line).is_ok_and(|line| {
        let below = |topic: &str| topic.strip_prefix(NAMESPACE).is_some_and(|rest| rest.starts_with('/'));
        line.kind.is_some_and(|kind| kind == EventType::mercure().as_str()) || line.topic.as_str().is_some_and(below)
    })
}

/// Reads an exported line, or one that could be published, which gets the time `now_ms`. What was exported is known by its cursor when it
/// comes again.
pub(super) fn read(line: &[u8], now_ms: u64, limits: &Limits) -> Result<Stamped, Refused> {
    let Publication { draft, key } = publication_from_json(line, limits)?;
    let malformed = |error: serde_json::Error| Refused::bad_request("malformed", error.to_string());
    let Origin { cursor, at } = serde_json::from_slice(line).map_err(malformed)?;
    let name = cursor.map(|cursor| cursor.to_string()).or(key.map(|key| key.text));
    let key = name.map(|name| IdempotencyKey::new(SCOPE, &name, None, &draft).given_at(now_ms));
    Ok(Stamped { draft, at_ms: at.unwrap_or(now_ms), key })
}

/// Whose keys these are: no publisher's.
const SCOPE: &str = "fanwire log import";

#[cfg(test)]
mod tests {
    use fanwire_protocol::{Data, Draft, Epoch, Seq};

    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let topics = |names: &[&str]| names.iter().map(|name| Topic::new(name).unwrap()).collect();
        let mut full = Draft::new(topics(&["a", "ü/\"b\""]), Data::text("{\"x\":\n\u{1}\u{2028}}")).unwrap();
        full.id = Some(EventId::new("mine").unwrap());
        full.kind = Some(EventType::new("update").unwrap());
        full.retry = Some(Duration::from_millis(1500));
        full.private = true;
        let empty = Draft::new(topics(&["a"]), Data::text("")).unwrap();
        let binary = Draft::new(topics(&["a"]), Data::Binary(vec![0, 255, 10].into())).unwrap();
        for draft in [full, empty, binary] {
            let event = Event { cursor: Cursor { epoch: Epoch::from_bits(1), seq: Seq(7) }, at_ms: 99, draft };
            let mut line = Vec::new();
            write(&event, &mut line);
            assert_eq!(line.iter().filter(|&&byte| byte == b'\n').count(), 1);
            assert!(line.starts_with(b"{\"cursor\":"), "what tells events from messages");
            let stamped = read(&line, 0, &Limits::default()).unwrap();
            assert_eq!((stamped.at_ms, stamped.draft), (99, event.draft));
        }
    }

    #[test]
    fn a_hubs_own_events_are_told_from_others() {
        for own in [
            &br#"{"cursor":"x","topic":"/.well-known/mercure/subscriptions/exact/a/b","type":"mercure","data":"{}"}"#[..],
            br#"{"cursor":"x","topic":"/.well-known/mercure/subscriptions/a/b","data":"{}"}"#,
        ] {
            assert!(is_of_hub(own));
        }
        for other in [
            &br#"{"topic":"a","type":"update"}"#[..],
            br#"{"topic":"a","data":"mercure"}"#,
            br#"{"topic":["a","b"],"data":"x"}"#,
            br#"{"topic":"/.well-known/mercure/subscriptionsX","data":"x"}"#,
            b"x",
        ] {
            assert!(!is_of_hub(other));
        }
    }

    #[test]
    fn a_line_to_publish_is_taken_at_its_time_and_what_is_wrong_is_said() {
        let read = |line: &str| read(line.as_bytes(), 5, &Limits::default());
        assert_eq!(read(r#"{"topic": "a"}"#).unwrap().at_ms, 5);
        for (line, code) in [
            ("x", "malformed"),
            (r#"{"topic": "a", "at": -1}"#, "malformed"),
            (r#"{"topic": "a", "at": "now"}"#, "malformed"),
            (r#"{"topic": "a", "cursor": "42"}"#, "malformed"),
            (r#"{"topic": "*"}"#, "reserved_topic"),
            (r#"{"data": "x"}"#, "no_topic"),
        ] {
            assert_eq!(read(line).unwrap_err().code, code, "{line}");
        }
    }
}
