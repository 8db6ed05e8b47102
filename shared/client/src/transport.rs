//! The ways to a hub.

use std::{fmt, str::FromStr};

/// One way to get a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// WebTransport over HTTP/3.
    WebTransport,
    /// Server-Sent Events over HTTP/1.1, with TLS if the URL is `https`.
    SseH1,
    /// Server-Sent Events over HTTP/2: over TLS with ALPN, or in the clear with prior knowledge.
    SseH2,
    /// Server-Sent Events over HTTP/3.
    SseH3,
}

impl Transport {
    /// Every transport.
    pub const ALL: [Self; 4] = [Self::WebTransport, Self::SseH1, Self::SseH2, Self::SseH3];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::WebTransport => "webtransport",
            Self::SseH1 => "sse-h1",
            Self::SseH2 => "sse-h2",
            Self::SseH3 => "sse-h3",
        }
    }

    /// Whether it runs on UDP.
    pub fn is_quic(self) -> bool {
        matches!(self, Self::WebTransport | Self::SseH3)
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Transport {
    type Err = UnknownTransport;

    fn from_str(name: &str) -> Result<Self, UnknownTransport> {
        Self::ALL
            .into_iter()
            .find(|transport| transport.name() == name)
            .ok_or_else(|| UnknownTransport(name.to_owned()))
    }
}

/// How a feed picks its transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Choice {
    /// WebTransport raced with SSE: see [`crate::Feed`].
    #[default]
    Auto,
    /// SSE over HTTP/2 if TLS negotiates it, else over HTTP/1.1.
    Sse,
    /// This one and no other.
    Only(Transport),
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.pad("auto"),
            Self::Sse => f.pad("sse"),
            Self::Only(transport) => transport.fmt(f),
        }
    }
}

impl FromStr for Choice {
    type Err = UnknownTransport;

    fn from_str(name: &str) -> Result<Self, UnknownTransport> {
        match name {
            "auto" => Ok(Self::Auto),
            "sse" => Ok(Self::Sse),
            name => name.parse().map(Self::Only),
        }
    }
}

impl From<Transport> for Choice {
    fn from(transport: Transport) -> Self {
        Self::Only(transport)
    }
}

/// A name that no transport has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no transport: there are auto, sse, webtransport, sse-h1, sse-h2 and sse-h3")]
pub struct UnknownTransport(pub String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for choice in [Choice::Auto, Choice::Sse].into_iter().chain(Transport::ALL.map(Choice::Only)) {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        assert!("websocket".parse::<Choice>().is_err());
        assert!("auto".parse::<Transport>().is_err());
    }
}
