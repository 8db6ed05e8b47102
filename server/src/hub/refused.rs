//! Why a request is refused, in a word for programs and a sentence for people.

use std::{fmt::Display, time::Duration};

use fanwire_protocol::{
    DraftError, EventIdError, EventTypeError, TopicError,
    message::{Bye, ByeCode, Refusal},
};
use http::StatusCode;

use crate::auth::{Denied, TooManyRevocations};

/// A refusal; the codes are listed in the protocol's §2.3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The status that HTTP gives it.
    pub status: StatusCode,
    /// For programs.
    pub code: &'static str,
    /// For people.
    pub message: String,
    /// When it is worth another try.
    pub retry_after: Option<Duration>,
    /// What HTTP's `WWW-Authenticate` says of the token that was shown, or wasn't. [RFC 6750 §3]
    pub challenge: Option<&'static str>,
}

impl Refused {
    /// The client's fault.
    pub fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// A refusal with a status of its own.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry_after: None, challenge: None }
    }

    /// More than the hub takes.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    /// The hub doesn't answer to this name.
    pub fn foreign_host(host: Option<&str>) -> Self {
        let message = format!("this hub answers to localhost only, not to {:?}", host.unwrap_or_default());
        Self::new(StatusCode::FORBIDDEN, "foreign_host", message)
    }

    pub(super) fn log_unavailable(error: &dyn Display) -> Self {
        Self::later("log_unavailable", error.to_string())
    }

    pub(super) fn draining() -> Self {
        Self::later("draining", "the hub is shutting down")
    }

    pub(super) fn too_many_subscribers() -> Self {
        Self::later("too_many_connections", "the hub has as many subscribers as it may have")
    }

    pub(super) fn too_many_of_one_client() -> Self {
        Self::too_many("too_many_connections", "this client has as many feeds as one may have")
    }

    pub(super) fn too_many_patterns_of_one_client() -> Self {
        Self::too_many(
            "too_many_patterns",
            "the feeds of this client have as many different patterns as one's may have",
        )
    }

    pub(super) fn too_many_subscriptions_of_one_client() -> Self {
        Self::too_many(
            "too_many_subscriptions",
            "the feeds of this client have as many matchers as may be told of one's",
        )
    }

    pub(super) fn too_many_patterns() -> Self {
        Self::later("too_many_patterns", "the feeds of this hub have as many different patterns as they may have")
    }

    pub(super) fn too_many_subscriptions() -> Self {
        Self::later("too_many_subscriptions", "the feeds of this hub have as many matchers as it may tell of")
    }

    pub(super) fn too_busy() -> Self {
        Self::later("too_busy", "more is being published than the hub may hold at a time")
    }

    pub(super) fn rate_limited(rate_max: u32, after: Duration) -> Self {
        let message =
            format!("a publisher may publish {rate_max} events a second: try again in {} ms", after.as_millis());
        let refused = Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", message);
        Self { retry_after: Some(after), ..refused }
    }

    /// Too many connections: from one address, or in all.
    pub fn too_many_connections(from_one_address: bool) -> Self {
        if from_one_address {
            let message = "there are as many connections from this address as there may be";
            return Self::too_many("too_many_connections", message);
        }
        Self::later("too_many_connections", "the hub has as many connections as it may have")
    }

    pub(super) fn key_reused() -> Self {
        let message =
            "this idempotency key was given to another event: a key stands for one event, and for tries to publish it";
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", message)
    }

    /// One client has as much as one may have.
    fn too_many(code: &'static str, message: &'static str) -> Self {
        let refused = Self::new(StatusCode::TOO_MANY_REQUESTS, code, message);
        Self { retry_after: Some(RETRY_AFTER), ..refused }
    }

    fn later(code: &'static str, message: impl Into<String>) -> Self {
        let refused = Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message);
        Self { retry_after: Some(RETRY_AFTER), ..refused }
    }

    /// As a member of an answer.
    pub fn to_refusal(&self) -> Refusal {
        Refusal { code: self.code.to_owned(), message: self.message.clone() }
    }

    /// As the end of a WebTransport session.
    pub fn to_bye(&self) -> Bye {
        let code = match self.code {
            "draining" => ByeCode::Drain,
            "no_token" | "invalid_token" | "insufficient_scope" => ByeCode::Unauthorized,
            "keys_unavailable" => ByeCode::Internal,
            "too_many_connections" | "too_many_patterns" | "too_many_subscriptions" => ByeCode::Limit,
            "log_unavailable" => ByeCode::LogUnavailable,
            _ => ByeCode::BadRequest,
        };
        match self.retry_after {
            Some(after) => Bye::retry(code, self.message.clone(), after.as_millis() as u64),
            None => Bye::terminal(code, format!("{}: {}", self.code, self.message)),
        }
    }
}

impl From<Denied> for Refused {
    fn from(denied: Denied) -> Self {
        let (status, code, challenge) = match denied {
            Denied::NoToken => (StatusCode::UNAUTHORIZED, "no_token", Some("Bearer")),
            Denied::InvalidToken => (StatusCode::UNAUTHORIZED, "invalid_token", Some("Bearer error=\"invalid_token\"")),
            Denied::InvalidRequest(_) => {
                (StatusCode::BAD_REQUEST, "invalid_request", Some("Bearer error=\"invalid_request\""))
            }
            Denied::InsufficientScope => {
                (StatusCode::FORBIDDEN, "insufficient_scope", Some("Bearer error=\"insufficient_scope\""))
            }
            Denied::ForeignPage => (StatusCode::FORBIDDEN, "foreign_origin", None),
            Denied::TooManyTickets => return Self::later("too_busy", denied.to_string()),
            Denied::NoKeys => return Self::later("keys_unavailable", denied.to_string()),
        };
        Self { challenge, ..Self::new(status, code, denied.to_string()) }
    }
}

impl From<TooManyRevocations> for Refused {
    fn from(error: TooManyRevocations) -> Self {
        Self::later("too_busy", error.to_string())
    }
}

impl From<DraftError> for Refused {
    fn from(error: DraftError) -> Self {
        let message = error.to_string();
        match error {
            DraftError::NoTopic => Self::bad_request("no_topic", message),
            DraftError::Topic(TopicError::TooLong)
            | DraftError::Id(EventIdError::TooLong)
            | DraftError::Type(EventTypeError::TooLong)
            | DraftError::TooLarge { .. } => Self::too_large(message),
            DraftError::TooManyTopics { .. } => Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_many_topics", message),
            DraftError::Topic(TopicError::Wildcard) => Self::bad_request("reserved_topic", message),
            DraftError::Topic(_) => Self::bad_request("bad_topic", message),
            DraftError::Id(EventIdError::Reserved) => Self::bad_request("reserved_id", message),
            DraftError::Id(_) => Self::bad_request("bad_id", message),
            DraftError::Type(EventTypeError::Reserved) => Self::bad_request("reserved_type", message),
            DraftError::Type(_) => Self::bad_request("bad_type", message),
        }
    }
}

/// Long enough for a shutdown and a start, or for a burst of reconnects to pass.
const RETRY_AFTER: Duration = Duration::from_secs(2);
