//! What publishers send, made into publications or refused.

use std::{borrow::Cow, fmt, time::Duration};

use fanwire_protocol::{Data, Draft, EventId, EventType, Topic};
use serde::{
    Deserialize, Deserializer,
    de::{SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use smallvec::SmallVec;

use super::{Limits, Publication, PublicationKey, Refused, form_pairs, reserved::is_reserved};

/// An event from a Mercure publish form: `topic` (1 or more), `data`, `id`, `type`, `retry`, `private`. Unknown fields are
/// ignored; of a field that is given twice the first counts. [Mercure, Publication]
pub fn publication_from_form(body: &[u8], limits: &Limits) -> Result<Publication, Refused> {
    let mut fields = Fields::default();
    for pair in form_pairs(body) {
        let (name, value) = pair?;
        match &*name {
            "topic" => fields.topics.push(value),
            "data" => fields.data = fields.data.or_else(|| Some(Data::text(&value))),
            "id" => fields.id = fields.id.or(Some(value)),
            "type" => fields.kind = fields.kind.or(Some(value)),
            "retry" if fields.retry.is_none() => fields.retry = Some(retry_ms(&value)?),
            "private" => fields.private = true,
            _ => {}
        }
    }
    // A form can't leave a field out as easily as JSON can: an empty id or type is none.
    fields.id = fields.id.filter(|id| !id.is_empty());
    fields.kind = fields.kind.filter(|kind| !kind.is_empty());
    Ok(Publication { draft: fields.into_draft(limits)?, key: None })
}

/// An event from JSON: the protocol's §6.2.
pub fn publication_from_json(body: &[u8], limits: &Limits) -> Result<Publication, Refused> {
    let malformed = |message: String| Refused::bad_request("malformed", message);
    let not_utf8 = |_| Refused::bad_request("not_utf8", "the body isn't valid UTF-8");
    let text = std::str::from_utf8(body).map_err(not_utf8)?;
    // serde would take an array for the members in their order.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(malformed("an event is an object".into()));
    }
    let event: JsonEvent<'_> = serde_json::from_str(text).map_err(|error| malformed(words(&error)))?;
    let data = match (event.data, event.data_base64) {
        (Some(_), Some(_)) => return Err(malformed("an event has data or data_base64, not both".into())),
        (Some(raw), None) if raw.get().starts_with('"') => {
            let Text(text) = serde_json::from_str(raw.get()).map_err(|error| malformed(words(&error)))?;
            Some(Data::text(&text))
        }
        (Some(raw), None) => Some(Data::text(raw.get())),
        (None, Some(text)) => {
            let bad = |error| Refused::bad_request("bad_data", format!("data_base64 is no base64: {error}"));
            Some(Data::from_base64(&text).map_err(bad)?)
        }
        (None, None) => None,
    };
    let topics = match event.topic {
        None => SmallVec::new(),
        Some(OneOrMany::One(topic)) => SmallVec::from([topic]),
        Some(OneOrMany::Many(topics)) => topics.into(),
    };
    let (id, kind, private) = (event.id, event.kind, event.private.unwrap_or(false));
    if event.retry.is_some_and(|retry| retry > RETRY_MS_MAX) {
        return Err(bad_retry());
    }
    let key = event.idempotency_key.map(|text| PublicationKey::new(&text)).transpose()?;
    let draft = Fields { topics, data, id, kind, retry: event.retry, private }.into_draft(limits)?;
    Ok(Publication { draft, key })
}

/// Where in its text it is wrong; the line only where there are several, since a line of a batch has another number there.
fn words(error: &serde_json::Error) -> String {
    error.to_string().replace(" at line 1 column ", " at column ")
}

/// Text that is borrowed where nothing in it is escaped; of itself serde has a `Cow` own what it reads.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
struct JsonEvent<'a> {
    #[serde(borrow)]
    topic: Option<OneOrMany<'a>>,
    #[serde(borrow, default, deserialize_with = "given")]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    data_base64: Option<Cow<'a, str>>,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    retry: Option<u64>,
    private: Option<bool>,
    #[serde(borrow)]
    idempotency_key: Option<Cow<'a, str>>,
}

impl PublicationKey {
    /// The longest key, in bytes.
    pub const BYTES_MAX: usize = 255;

    /// A key of its own for one publication: 1 to [`PublicationKey::BYTES_MAX`] visible ASCII characters and spaces.
    pub fn new(text: &str) -> Result<Self, Refused> {
        let is_legal = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if text.is_empty() || text.len() > Self::BYTES_MAX || !is_legal {
            let message = format!("an idempotency key is 1 to {} visible ASCII characters", Self::BYTES_MAX);
            return Err(Refused::bad_request("bad_idempotency_key", message));
        }
        Ok(Self { text: text.to_owned(), line: None })
    }

    /// The value of an `Idempotency-Key` field: a string as [RFC 9651 §3.3.3] writes it, or the same without its quotes, as many clients send it.
    pub fn from_header(value: &[u8]) -> Result<Self, Refused> {
        let bad =
            || Refused::bad_request("bad_idempotency_key", "Idempotency-Key isn't a string in quotes, nor one without");
        let text = std::str::from_utf8(value).map_err(|_| bad())?.trim_ascii();
        let Some(quoted) = text.strip_prefix('"') else { return Self::new(text) };
        let quoted = quoted.strip_suffix('"').ok_or_else(bad)?;
        let (mut plain, mut rest) = (String::with_capacity(quoted.len()), quoted.chars());
        while let Some(next) = rest.next() {
            match next {
                '\\' => plain.push(rest.next().filter(|next| matches!(next, '"' | '\\')).ok_or_else(bad)?),
                '"' => return Err(bad()),
                next => plain.push(next),
            }
        }
        Self::new(&plain)
    }
}

/// `null` is JSON like any other, and not the same as nothing.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

enum OneOrMany<'a> {
    One(Cow<'a, str>),
    Many(Vec<Cow<'a, str>>),
}

impl<'de: 'a, 'a> Deserialize<'de> for OneOrMany<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Topics)
    }
}

/// Reads a [`OneOrMany`] as it comes; serde's own way would keep a copy of it to try each form.
struct Topics;

impl<'de> Visitor<'de> for Topics {
    type Value = OneOrMany<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a topic that is a string, or a list of strings")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(OneOrMany::One(text.into()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(OneOrMany::One(text.to_owned().into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut texts: A) -> Result<Self::Value, A::Error> {
        let mut topics = Vec::new();
        while let Some(text) = texts.next_element()? {
            topics.push(text);
        }
        Ok(OneOrMany::Many(topics))
    }
}

#[derive(Default)]
struct Fields<'a> {
    /// One, nearly always.
    topics: SmallVec<[Cow<'a, str>; 1]>,
    data: Option<Data>,
    id: Option<Cow<'a, str>>,
    kind: Option<Cow<'a, str>>,
    retry: Option<u64>,
    private: bool,
}

impl Fields<'_> {
    fn into_draft(self, limits: &Limits) -> Result<Draft, Refused> {
        let bad = fanwire_protocol::DraftError::from;
        if self.topics.len() > limits.event.topics_max {
            return Err(fanwire_protocol::DraftError::TooManyTopics { max: limits.event.topics_max }.into());
        }
        // With the room that it takes: what collects results makes room for more, and has it taken back.
        let mut topics = Vec::with_capacity(self.topics.len());
        for topic in &self.topics {
            topics.push(Topic::new(topic).map_err(bad)?);
        }
        if let Some(topic) = topics.iter().find(|topic| is_reserved(topic)) {
            let message = format!("the topic {topic:?} is under /.well-known/mercure, which is the hub's own");
            return Err(Refused::bad_request("reserved_topic", message));
        }
        let mut draft = Draft::new(topics, self.data.unwrap_or_else(|| Data::text("")))?;
        draft.id = self.id.map(|id| EventId::new(&id)).transpose().map_err(fanwire_protocol::DraftError::from)?;
        draft.kind =
            self.kind.map(|kind| EventType::new(&kind)).transpose().map_err(fanwire_protocol::DraftError::from)?;
        draft.retry = self.retry.map(Duration::from_millis);
        draft.private = self.private;
        limits.event.check(&draft)?;
        Ok(draft)
    }
}

fn retry_ms(text: &str) -> Result<u64, Refused> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|&retry| digits && retry <= RETRY_MS_MAX).ok_or_else(bad_retry)
}

fn bad_retry() -> Refused {
    Refused::bad_request(
        "bad_retry",
        format!("retry is a number of milliseconds, in digits, of at most {RETRY_MS_MAX}"),
    )
}

/// A day: a client that waits longer is gone.
const RETRY_MS_MAX: u64 = 24 * 60 * 60 * 1000;
