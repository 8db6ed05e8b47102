//! What a client wants, and where from.

use std::{sync::Arc, time::Duration};

use fanwire_protocol::{Delivery, HubUrl, LastEventId, Matcher, Matchers, PatternError, TopicError, frame};
use hyper::HeaderMap;
use url::Url;

use crate::{Retry, Token, Trust, dial::Shared};

/// What to connect to, whom to trust and what to ask for.
///
/// Clones share one UDP endpoint and one set of system roots, which are made when they are first needed. The endpoint belongs to the
/// runtime that made it: options aren't for use on two runtimes.
#[derive(Debug, Clone)]
pub struct Options {
    /// The hub's `/events`, `http` or `https`. Its own query is kept, before what the fields below add.
    pub url: Url,
    /// Which certificates are the hub's. Default: those that the system's roots vouch for.
    pub trust: Trust,
    /// The topics of the feed, besides those in the URL.
    pub matchers: Matchers,
    /// Where the feed starts. Default: now.
    pub last_event_id: Option<LastEventId>,
    /// The heartbeat to ask for. Default: the hub's, 15 s.
    pub heartbeat: Option<Duration>,
    /// How events come over WebTransport. Default: in order. With [`Delivery::PerTopic`] the cursor says up to where nothing is missing:
    /// events above it were handed out, and come again on a connection that goes on at it. A [`crate::Feed`] drops those. With
    /// [`Delivery::Datagram`] events may be missing anywhere once history is through, and each is newer than those before it of its topic;
    /// the cursor is the newest thing that was handed out, and a connection that goes on at it repairs nothing before it.
    pub delivery: Delivery,
    /// Ask for control messages on SSE. Default: true; without them there are no cursors, no [`crate::Item::Hello`], and events are
    /// [`crate::PlainEvent`]s.
    pub control: bool,
    /// Headers that go out with every request.
    pub headers: HeaderMap,
    /// The access token. Default: none.
    pub token: Option<Token>,
    /// On WebTransport, show the token on the control stream, as browsers have to, and not in a header, which takes no round trip.
    /// Default: false.
    pub auth_in_band: bool,
    /// How long it may take until the hub has answered; for a [`crate::Feed`] until it has said hello. Default: 10 s.
    pub connect_timeout: Duration,
    /// How long the answer to a publish or to a request on the control stream may take. Default: 30 s.
    pub request_timeout: Duration,
    /// The longest event that is taken, in bytes as it comes over the wire; also how much a connection may have to hold in memory.
    /// Default: 8 MiB.
    pub event_bytes_max: usize,
    /// When a [`crate::Feed`] connects again.
    pub retry: Retry,
    /// How much earlier than SSE [`crate::Choice::Auto`] tries WebTransport. Default: 300 ms.
    pub head_start: Duration,
    /// The UDP endpoint for QUIC, if it isn't to be the client's own. It needs no configuration of its own.
    pub endpoint: Option<quinn::Endpoint>,
    pub(crate) shared: Arc<Shared>,
}

impl Options {
    /// Defaults for a hub. A URL without a path stands for `/events`.
    pub fn new(url: &str) -> Result<Self, OptionsError> {
        let bad = |why: String| OptionsError::Url { url: url.to_owned(), why };
        let mut parsed = Url::parse(url).map_err(|error| bad(error.to_string()))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(bad(format!("the scheme is {}, not http or https", parsed.scheme())));
        }
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(bad("credentials belong in a header".to_owned()));
        }
        if parsed.path() == "/" {
            parsed.set_path("/events");
        }
        parsed.set_fragment(None);
        Ok(Self {
            url: parsed,
            trust: Trust::System,
            matchers: Matchers::default(),
            last_event_id: None,
            heartbeat: None,
            delivery: Delivery::default(),
            control: true,
            headers: HeaderMap::new(),
            token: None,
            auth_in_band: false,
            connect_timeout: CONNECT_TIMEOUT,
            request_timeout: REQUEST_TIMEOUT,
            event_bytes_max: frame::PAYLOAD_BYTES_MAX,
            retry: Retry::default(),
            head_start: HEAD_START,
            endpoint: None,
            shared: Arc::new(Shared::default()),
        })
    }

    /// Adds a topic to the feed: an exact one, or `*` for all.
    pub fn topic(mut self, topic: &str) -> Result<Self, TopicError> {
        self.matchers.insert(Matcher::exact(topic)?);
        Ok(self)
    }

    /// Adds the topics that a URL pattern takes. The hub resolves a relative one against its own URL.
    pub fn pattern(mut self, pattern: &str) -> Result<Self, PatternError> {
        self.matchers.insert(Matcher::pattern(pattern, &HubUrl::default())?);
        Ok(self)
    }

    /// Says how events come.
    pub fn delivery(mut self, delivery: Delivery) -> Self {
        self.delivery = delivery;
        self
    }

    /// Says whom to trust.
    pub fn trust(mut self, trust: Trust) -> Self {
        self.trust = trust;
        self
    }

    /// Says what to be let in with.
    pub fn token(mut self, token: Token) -> Self {
        self.token = Some(token);
        self
    }

    /// Says where the feed starts.
    pub fn last_event_id(mut self, id: LastEventId) -> Self {
        self.last_event_id = Some(id);
        self
    }
}

impl Options {
    /// How events are asked for, here or in the URL.
    pub(crate) fn asked_delivery(&self) -> Delivery {
        let in_url =
            || self.url.query_pairs().find(|(name, _)| name == "delivery").and_then(|(_, name)| name.parse().ok());
        if self.delivery == Delivery::default() { in_url().unwrap_or_default() } else { self.delivery }
    }
}

/// Why options can't be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// The URL isn't one of a hub.
    #[error("{url:?} can't be the url of a hub: {why}")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const HEAD_START: Duration = Duration::from_millis(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_checked() {
        assert_eq!(Options::new("http://localhost:1").unwrap().url.as_str(), "http://localhost:1/events");
        assert_eq!(Options::new("https://a/x?match=b#c").unwrap().url.as_str(), "https://a/x?match=b");
        for bad in ["", "localhost:1/events", "ftp://a/", "https://me:pw@a/events", "http://"] {
            assert!(Options::new(bad).is_err(), "{bad}");
        }
    }
}
