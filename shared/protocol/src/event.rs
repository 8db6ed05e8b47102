//! Events, before and after the log has taken them.

use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;

use crate::{
    Cursor, EventId, EventIdError, EventType, EventTypeError, Seq, Topic, TopicError, text::normalize_line_ends,
};

/// An event's content.
#[derive(Clone, PartialEq, Eq)]
pub enum Data {
    /// Text: valid UTF-8 with LF line ends.
    Text(Text),
    /// Anything; on SSE it is its base64.
    Binary(Bytes),
}

/// UTF-8 with LF line ends, in reference-counted bytes.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Text(Bytes);

impl Text {
    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("made from a str, or checked, and never changed")
    }
}

impl Data {
    /// Text data; CR and CRLF become LF.
    pub fn text(text: &str) -> Self {
        let normal = normalize_line_ends(text).unwrap_or_else(|| text.to_owned());
        Self::Text(Text(normal.into()))
    }

    /// Text data from bytes, without a copy where the line ends are LF already; `None` if they aren't UTF-8.
    pub fn from_utf8(bytes: Bytes) -> Option<Self> {
        let text = std::str::from_utf8(&bytes).ok()?;
        match normalize_line_ends(text) {
            Some(normal) => Some(Self::Text(Text(normal.into()))),
            None => Some(Self::Text(Text(bytes))),
        }
    }

    /// Binary data from its base64.
    pub fn from_base64(text: &str) -> Result<Self, base64::DecodeError> {
        BASE64_STANDARD.decode(text).map(|bytes| Self::Binary(bytes.into()))
    }

    /// The bytes that were published.
    pub fn bytes(&self) -> &Bytes {
        match self {
            Self::Text(text) => &text.0,
            Self::Binary(bytes) => bytes,
        }
    }

    /// What an SSE client gets as data: the text, or the base64 of binary.
    pub fn to_sse_text(&self) -> std::borrow::Cow<'_, str> {
        match self {
            Self::Text(text) => text.as_str().into(),
            Self::Binary(bytes) => BASE64_STANDARD.encode(bytes).into(),
        }
    }

    /// Whether the data is binary.
    pub fn is_binary(&self) -> bool {
        matches!(self, Self::Binary(_))
    }
}

impl std::fmt::Debug for Data {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => write!(f, "Text({:?})", text.as_str()),
            Self::Binary(bytes) => write!(f, "Binary({} bytes)", bytes.len()),
        }
    }
}

/// An event as the log holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its position: the log and its number there.
    pub cursor: Cursor,
    /// When the hub took it, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// What was published.
    pub draft: Draft,
}

impl Event {
    /// Its number in the log.
    pub fn seq(&self) -> Seq {
        self.cursor.seq
    }

    /// What SSE clients see as its id: the publisher's, or else the cursor.
    pub fn public_id(&self) -> String {
        match &self.draft.id {
            Some(id) => id.as_str().to_owned(),
            None => self.cursor.to_string(),
        }
    }
}

/// A valid event that has no number yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    topics: Box<[Topic]>,
    /// The publisher's id.
    pub id: Option<EventId>,
    /// SSE's `event`.
    pub kind: Option<EventType>,
    /// The content.
    pub data: Data,
    /// SSE's `retry`: how long a client waits before it connects again.
    pub retry: Option<Duration>,
    /// Only for those who have the right.
    pub private: bool,
}

impl Draft {
    /// An event on these topics, the first being canonical. Limits other than "at least one" are the publisher's edge's:
    /// see [`Limits`].
    pub fn new(topics: Vec<Topic>, data: Data) -> Result<Self, DraftError> {
        if topics.is_empty() {
            return Err(DraftError::NoTopic);
        }
        Ok(Self { topics: topics.into(), id: None, kind: None, data, retry: None, private: false })
    }

    /// Its topics, the first canonical; never empty.
    pub fn topics(&self) -> &[Topic] {
        &self.topics
    }

    /// The first topic.
    pub fn canonical(&self) -> &Topic {
        &self.topics[0]
    }

    /// Roughly what the event occupies in memory, in bytes; what retention by bytes counts.
    pub fn cost(&self) -> usize {
        const OVERHEAD: usize = 256;
        let names: usize = self.topics.iter().map(|topic| topic.as_str().len() + 32).sum();
        OVERHEAD + names + self.data.bytes().len() + self.id.as_ref().map_or(0, |id| id.as_str().len())
    }
}

/// What a hub takes from a publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The largest data of an event, in bytes.
    pub data_bytes_max: usize,
    /// The most topics of an event.
    pub topics_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { data_bytes_max: 1024 * 1024, topics_max: 16 }
    }
}

impl Limits {
    /// Whether an event keeps to the limits.
    pub fn check(&self, draft: &Draft) -> Result<(), DraftError> {
        if draft.topics.len() > self.topics_max {
            return Err(DraftError::TooManyTopics { max: self.topics_max });
        }
        if draft.data.bytes().len() > self.data_bytes_max {
            return Err(DraftError::TooLarge { max: self.data_bytes_max });
        }
        Ok(())
    }
}

/// Why something can't be published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DraftError {
    /// No topic.
    #[error("an event needs at least one topic")]
    NoTopic,
    /// A topic that is none.
    #[error("{0}")]
    Topic(#[from] TopicError),
    /// More topics than the hub takes.
    #[error("an event has at most {max} topics")]
    TooManyTopics {
        /// The limit.
        max: usize,
    },
    /// An id that is none.
    #[error("{0}")]
    Id(#[from] EventIdError),
    /// A type that is none.
    #[error("{0}")]
    Type(#[from] EventTypeError),
    /// More data than the hub takes.
    #[error("an event has at most {max} bytes of data")]
    TooLarge {
        /// The limit, in bytes.
        max: usize,
    },
}
