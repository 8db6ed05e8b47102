//! Names: topics, publishers' event ids and event types.

use std::{borrow::Borrow, fmt, sync::Arc};

use crate::text::forbidden_char;

/// What an event is published on: 1 to [`Topic::BYTES_MAX`] bytes of UTF-8 without control or format characters, and not `*`.
/// Compared byte for byte. [Mercure, Terminology; Exact Matching]
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic(Arc<str>);

impl Topic {
    /// The longest topic that may be published on, in bytes.
    pub const BYTES_MAX: usize = 1024;
    /// The longest topic of the hub's own events, in bytes: there is a matcher in it, in which each byte may take three.
    pub const OF_EVENT_BYTES_MAX: usize = 4096;

    /// Parses a topic.
    pub fn new(text: &str) -> Result<Self, TopicError> {
        if text.len() > Self::BYTES_MAX { Err(TopicError::TooLong) } else { Self::of_event(text) }
    }

    /// Parses a topic of an event that is there, which may be one of the hub's own.
    pub fn of_event(text: &str) -> Result<Self, TopicError> {
        if text.is_empty() {
            return Err(TopicError::Empty);
        }
        if text.len() > Self::OF_EVENT_BYTES_MAX {
            return Err(TopicError::TooLong);
        }
        if text == "*" {
            return Err(TopicError::Wildcard);
        }
        match forbidden_char(text) {
            Some(c) => Err(TopicError::Forbidden(c)),
            None => Ok(Self(text.into())),
        }
    }

    /// The topic as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn shared(&self) -> Arc<str> {
        self.0.clone()
    }
}

impl Borrow<str> for Topic {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Why a text is no topic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// The text is empty.
    #[error("a topic must not be empty")]
    Empty,
    /// The text is longer than [`Topic::BYTES_MAX`].
    #[error("a topic has at most {} bytes", Topic::BYTES_MAX)]
    TooLong,
    /// `*` stands for every topic and is none itself.
    #[error("\"*\" is the wildcard and can't be a topic")]
    Wildcard,
    /// A control or format character.
    #[error("a topic must not contain the character U+{:04X}", *.0 as u32)]
    Forbidden(char),
}

/// An id that a publisher gave its event: 1 to [`EventId::BYTES_MAX`] bytes without control or format characters, not beginning with
/// `#` (the hub's own) and not `earliest`. It may be used again; then it stands for its first use. [Mercure, Publication]
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EventId(Arc<str>);

impl EventId {
    /// The longest id, in bytes.
    pub const BYTES_MAX: usize = 255;

    /// Parses a publisher's id.
    pub fn new(text: &str) -> Result<Self, EventIdError> {
        if text.is_empty() {
            return Err(EventIdError::Empty);
        }
        if text.len() > Self::BYTES_MAX {
            return Err(EventIdError::TooLong);
        }
        if text.starts_with('#') || text == "earliest" {
            return Err(EventIdError::Reserved);
        }
        match forbidden_char(text) {
            Some(c) => Err(EventIdError::Forbidden(c)),
            None => Ok(Self(text.into())),
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for EventId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Why a text is no publisher's id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventIdError {
    /// The text is empty.
    #[error("an id must not be empty: leave it out instead")]
    Empty,
    /// The text is longer than [`EventId::BYTES_MAX`].
    #[error("an id has at most {} bytes", EventId::BYTES_MAX)]
    TooLong,
    /// Begins with `#`, or is `earliest`.
    #[error("ids that begin with \"#\", and \"earliest\", are reserved for the hub")]
    Reserved,
    /// A control or format character.
    #[error("an id must not contain the character U+{:04X}", *.0 as u32)]
    Forbidden(char),
}

/// An event's type, SSE's `event` field: 1 to [`EventType::BYTES_MAX`] bytes without control or format characters, and neither of the
/// reserved types `fanwire` and `mercure`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EventType(Arc<str>);

impl EventType {
    /// The longest type, in bytes.
    pub const BYTES_MAX: usize = 255;

    /// Parses a type.
    pub fn new(text: &str) -> Result<Self, EventTypeError> {
        if text == MERCURE { Err(EventTypeError::Reserved) } else { Self::of_event(text) }
    }

    /// The type of the hub's own events. [Mercure, Subscription Events]
    pub fn mercure() -> Self {
        Self(MERCURE.into())
    }

    /// Parses a type of an event that is there, which may be one of the hub's own.
    pub fn of_event(text: &str) -> Result<Self, EventTypeError> {
        if text.is_empty() {
            return Err(EventTypeError::Empty);
        }
        if text.len() > Self::BYTES_MAX {
            return Err(EventTypeError::TooLong);
        }
        if text == crate::message::SSE_EVENT_TYPE {
            return Err(EventTypeError::Reserved);
        }
        match forbidden_char(text) {
            Some(c) => Err(EventTypeError::Forbidden(c)),
            None => Ok(Self(text.into())),
        }
    }

    /// The type as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Why a text is no type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventTypeError {
    /// The text is empty.
    #[error("a type must not be empty: leave it out instead")]
    Empty,
    /// The text is longer than [`EventType::BYTES_MAX`].
    #[error("a type has at most {} bytes", EventType::BYTES_MAX)]
    TooLong,
    /// `fanwire` or `mercure`.
    #[error("the types \"fanwire\" and \"mercure\" are reserved for the hub")]
    Reserved,
    /// A control or format character.
    #[error("a type must not contain the character U+{:04X}", *.0 as u32)]
    Forbidden(char),
}

const MERCURE: &str = "mercure";
