//! Control messages: JSON objects, the payload of WebTransport frames and the data of SSE events of type `fanwire`.

use serde::{Deserialize, Serialize};

use crate::{Cursor, Seq};

/// The type of SSE events that carry control messages; nobody can publish it.
pub const SSE_EVENT_TYPE: &str = "fanwire";

/// A message from the hub about the feed, in the feed's order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// The feed begins.
    Hello(Hello),
    /// Loss, told.
    Gap(Gap),
    /// Nothing happened up to here.
    Ping(Ping),
    /// Matchers or rights changed.
    Changed(Changed),
    /// The feed ends.
    Bye(Bye),
}

impl Message {
    /// The message as it goes out on SSE, with its name around it.
    pub fn to_sse_json(&self) -> String {
        serde_json::to_string(self).expect("plain data with string keys")
    }

    /// The cursor that a client has after this message, if the message sets one.
    pub fn cursor(&self) -> Option<Cursor> {
        match self {
            Self::Hello(hello) => Some(hello.cursor),
            Self::Gap(gap) => Some(gap.cursor),
            Self::Ping(ping) => Some(ping.watermark),
            Self::Changed(_) | Self::Bye(_) => None,
        }
    }
}

/// The first message of a feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`crate::PROTOCOL_VERSION`].
    pub version: u32,
    /// Everything after it follows.
    pub cursor: Cursor,
    /// What became of the `last_event_id`.
    pub verdict: Verdict,
    /// Twice this long without a byte: the connection is dead.
    pub heartbeat_ms: u64,
}

/// What became of the `last_event_id` that a subscriber gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// None was given: the feed starts now.
    Live,
    /// The feed starts after it.
    Resumed,
    /// The feed starts at the oldest event, as asked.
    Earliest,
    /// The feed starts with the newest event of each topic, as asked.
    Latest,
    /// It is of another log.
    NewEpoch,
    /// The hub doesn't know it (any more).
    UnknownCursor,
}

/// A stretch in which events may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Why.
    pub reason: GapReason,
    /// The first number that may be missing; none where the position asked for means nothing in this log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// The last number that may be missing.
    pub to: u64,
    /// Where the feed goes on.
    pub cursor: Cursor,
}

impl Gap {
    /// Whether an event of this number may be missing.
    pub fn contains(&self, seq: Seq) -> bool {
        self.from.is_none_or(|from| from <= seq.0) && seq.0 <= self.to
    }
}

/// Why events may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapReason {
    /// They are no longer kept.
    Evicted,
    /// The cursor is of another log.
    NewEpoch,
    /// The cursor or id isn't known.
    UnknownCursor,
    /// More topics have a newest event than a feed begins with.
    Limit,
}

/// A heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    /// The feed is complete up to here.
    pub watermark: Cursor,
}

/// The matchers or rights of a feed changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// The request that asked for it.
    pub request_id: u64,
    /// Holds for every number above.
    pub from_seq: u64,
}

/// The end of a feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bye {
    /// A [`ByeCode`].
    pub code: u32,
    /// For people.
    pub reason: String,
    /// Come back after so many milliseconds; none: don't come back by yourself.
    pub retry_ms: Option<u64>,
}

impl Bye {
    /// An end without return.
    pub fn terminal(code: ByeCode, reason: impl Into<String>) -> Self {
        Self { code: code as u32, reason: reason.into(), retry_ms: None }
    }

    /// An end with an invitation to come back.
    pub fn retry(code: ByeCode, reason: impl Into<String>, retry_ms: u64) -> Self {
        Self { code: code as u32, reason: reason.into(), retry_ms: Some(retry_ms) }
    }
}

/// The first frame of a stream that carries some of a feed's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lane {
    /// Which of them it is; the events of one topic all come on one.
    pub lane: u64,
}

/// Why a feed ends; also the code of the WebTransport close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum ByeCode {
    /// The client asked for it.
    Closed = 0,
    /// The hub is shutting down.
    Drain = 1,
    /// The query or a frame was wrong.
    BadRequest = 2,
    /// No valid credentials.
    Unauthorized = 3,
    /// A limit was reached.
    Limit = 4,
    /// The client read nothing for too long.
    Stalled = 5,
    /// A fault of the hub.
    Internal = 6,
    /// The hub can't read its log now.
    LogUnavailable = 7,
    /// The token has expired.
    Expired = 8,
    /// What had let the feed in was withdrawn.
    Revoked = 9,
}

/// `SUBSCRIBE` and `UNSUBSCRIBE` on the control stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscribe {
    /// Names the request in its answer.
    pub request_id: u64,
    /// Exact topics, or `*`.
    #[serde(rename = "match", default)]
    pub matchers: Vec<String>,
    /// URL patterns, or `*`.
    #[serde(rename = "match_urlpattern", default, skip_serializing_if = "Vec::is_empty")]
    pub patterns: Vec<String>,
}

/// `AUTH` on the control stream.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Auth {
    /// Names the request in its answer.
    pub request_id: u64,
    /// The access token.
    pub token: String,
}

impl std::fmt::Debug for Auth {
    /// A token is nobody's but its bearer's.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth").field("request_id", &self.request_id).finish_non_exhaustive()
    }
}

/// The hub's answer to a request on the control stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The request.
    pub request_id: u64,
    /// How it went.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// How a request on the control stream went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was done.
    Ok(Done),
    /// It was refused.
    Error(Refusal),
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Done {
    /// `PUBLISH`.
    Published {
        /// The publisher's id, or else the cursor.
        id: String,
        /// The event's position.
        cursor: Cursor,
    },
    /// `AUTH`: see [`Changed`].
    Authorized {
        /// Holds for every number above.
        from_seq: u64,
        /// When the token expires, in milliseconds since the Unix epoch.
        expires_at_ms: u64,
    },
    /// `SUBSCRIBE` or `UNSUBSCRIBE`, or `AUTH` on a hub that looks at no tokens: see [`Changed`].
    Changed {
        /// Holds for every number above.
        from_seq: u64,
    },
}

/// Why something was refused: the body of an HTTP error, a line of an NDJSON answer, an `ANSWER`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Stable, for programs.
    pub code: String,
    /// For people.
    pub message: String,
}
