//! What goes wrong between a client and a hub.

use std::time::Duration;

use fanwire_protocol::{Cursor, Seq, frame::Malformed, message::ByeCode, sse::TooLong};

use crate::{CertificateHash, target::Place};

/// What a transport said.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The URL can't be used.
    #[error("{url} can't be used: {why}")]
    Url {
        /// The URL.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The name has no address.
    #[error("the name {host:?} can't be resolved")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        #[source]
        source: std::io::Error,
    },
    /// No TCP connection.
    #[error("no tcp connection to {place}")]
    Tcp {
        /// `host:port`.
        place: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// No UDP socket.
    #[error("no udp socket can be opened")]
    Udp {
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// No QUIC connection.
    #[error("no quic connection to udp {place}")]
    Quic {
        /// `host:port`.
        place: String,
        /// What quinn said.
        #[source]
        source: Source,
    },
    /// The hub's certificate isn't one that the options trust.
    #[error("the certificate of {place} isn't trusted: use --insecure or pin its hash ({why}; its sha-256 is {hash})")]
    Untrusted {
        /// `host:port`.
        place: String,
        /// Why not.
        why: String,
        /// The certificate that was offered.
        hash: CertificateHash,
    },
    /// No TLS, though not for the certificate.
    #[error("no tls with {place}: {why}")]
    Tls {
        /// `host:port`.
        place: String,
        /// What that probably means.
        why: &'static str,
        /// What rustls said.
        #[source]
        source: Source,
    },
    /// The hub doesn't speak this version of HTTP.
    #[error("{place} doesn't speak {version}")]
    Version {
        /// `host:port`.
        place: String,
        /// The version.
        version: &'static str,
    },
    /// It took too long.
    #[error("{place} didn't answer within {} ms", .after.as_millis())]
    Timeout {
        /// `host:port`, with `udp` before it where it is that.
        place: String,
        /// How long the client waited.
        after: Duration,
    },
    /// The hub, or what stands before it, refused the request.
    #[error(transparent)]
    Refused(#[from] Box<HubError>),
    /// It answered 200, but not with a feed.
    #[error("{url} answered with {content_type}, not with text/event-stream")]
    NotAFeed {
        /// What was asked.
        url: String,
        /// What came.
        content_type: String,
    },
    /// The exchange broke off before there was an answer.
    #[error("{url} didn't answer as http does")]
    Http {
        /// What was asked.
        url: String,
        /// What the HTTP library said.
        #[source]
        source: Source,
    },
    /// `/.well-known/fanwire` can't be read.
    #[error("{url} isn't a fanwire hub's: {why}")]
    Discover {
        /// The page.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The hub has no QUIC.
    #[error("{url} offers no webtransport and no http/3")]
    NotOffered {
        /// The page that says so.
        url: String,
    },
    /// [`crate::Choice::Auto`]: neither way.
    #[error("{sse}; nor over webtransport: {webtransport}")]
    Both {
        /// Why not SSE.
        #[source]
        sse: Box<ConnectError>,
        /// Why not WebTransport.
        webtransport: Box<ConnectError>,
    },
    /// The transport was up, but no hello came.
    #[error("{url} was connected, but no hello came")]
    NoHello {
        /// What was asked.
        url: String,
        /// What came instead.
        #[source]
        source: ReceiveError,
    },
}

impl ConnectError {
    /// Whether trying again can't help: the request, the URL or the certificate is wrong.
    pub fn is_terminal(&self) -> bool {
        match self {
            Self::Url { .. } | Self::Untrusted { .. } | Self::NotOffered { .. } => true,
            Self::Refused(error) => error.is_terminal(),
            Self::Both { sse, .. } => sse.is_terminal(),
            Self::NoHello { source, .. } => source.is_terminal(),
            _ => false,
        }
    }

    /// How long the hub wants to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(error) => error.retry_after,
            Self::Both { sse, .. } => sse.retry_after(),
            _ => None,
        }
    }

    pub(crate) fn tls(place: &Place, why: &'static str, source: impl Into<Source>) -> Self {
        Self::Tls { place: place.to_string(), why, source: source.into() }
    }

    pub(crate) fn http(url: &url::Url, source: impl Into<Source>) -> Self {
        Self::Http { url: url.to_string(), source: source.into() }
    }
}

/// An HTTP answer that isn't the one hoped for. [PROTOCOL §2.3]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{url} answered {status}{}{code}{}{message}", if .code.is_empty() { "" } else { " " }, if .message.is_empty() { "" } else { ": " })]
pub struct HubError {
    /// What was asked.
    pub url: String,
    /// The HTTP status.
    pub status: u16,
    /// The hub's code; empty where the answer isn't the hub's, or has no body (WebTransport).
    pub code: String,
    /// The hub's message, or the beginning of a stranger's text.
    pub message: String,
    /// How long to stay away.
    pub retry_after: Option<Duration>,
}

impl HubError {
    /// Whether the same request will be refused again: every 2xx, 3xx and 4xx but 408, 425 and 429.
    pub fn is_terminal(&self) -> bool {
        self.status < 500 && !matches!(self.status, 408 | 425 | 429)
    }
}

/// Why a connection gives no more items. The connection is over after each of these.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// The stream ended without a bye.
    #[error("the feed ended without a bye")]
    Ended,
    /// The connection broke.
    #[error("the connection broke")]
    Cut(#[source] Source),
    /// The hub closed the WebTransport session, and no bye came before.
    #[error("the hub closed the session: {code} {reason:?}")]
    Closed {
        /// A [`ByeCode`].
        code: u32,
        /// For people.
        reason: String,
    },
    /// Two heartbeats without a byte.
    #[error("no byte for {} ms, two heartbeats: the connection is dead", .after.as_millis())]
    Silent {
        /// How long nothing came.
        after: Duration,
    },
    /// The hub's bytes aren't the protocol's.
    #[error("the hub breaks the protocol: {0}")]
    Malformed(#[from] Malformed),
    /// A control message isn't what its name says.
    #[error("the hub breaks the protocol: a bad {name} message")]
    Message {
        /// Its name.
        name: &'static str,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// An event is longer than the options take.
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// An event comes twice or out of order, or is of another log.
    #[error("the hub breaks the protocol: {got} comes after {after}")]
    Order {
        /// Where the feed was.
        after: Cursor,
        /// What came.
        got: Cursor,
    },
    /// An event isn't the one that follows: the chain of `prev_seq` is broken.
    #[error("the hub breaks the protocol: {got} is to follow {prev}, but comes after {after}")]
    Skipped {
        /// What came last.
        after: Seq,
        /// What the event says came last.
        prev: Seq,
        /// The event.
        got: Cursor,
    },
    /// With [`Delivery::PerTopic`](crate::Delivery::PerTopic): too much came ahead of something that is missing.
    #[error("too much came ahead of what comes after {of}")]
    Ahead {
        /// The last event, or gap, that nothing is missing before.
        of: Seq,
    },
}

impl ReceiveError {
    /// Whether trying again can't help: the hub closed the session for good.
    pub fn is_terminal(&self) -> bool {
        const TERMINAL: [ByeCode; 4] = [ByeCode::Closed, ByeCode::BadRequest, ByeCode::Unauthorized, ByeCode::Revoked];
        matches!(self, Self::Closed { code, .. } if TERMINAL.iter().any(|&terminal| terminal as u32 == *code))
    }
}
