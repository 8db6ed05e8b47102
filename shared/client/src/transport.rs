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
        let found = Self::ALL.into_iter().find(|transport| transport.name() == name);
        found.ok_or_else(|| UnknownTransport { name: name.to_owned(), known: TRANSPORTS })
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

/// Which version of HTTP a publisher speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum HttpVersion {
    /// HTTP/2 if TLS negotiates it, else HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/1.1.
    H1,
    /// HTTP/2; in the clear with prior knowledge.
    H2,
}

impl fmt::Display for HttpVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Auto => "auto",
            Self::H1 => "h1",
            Self::H2 => "h2",
        })
    }
}

impl FromStr for HttpVersion {
    type Err = UnknownTransport;

    fn from_str(name: &str) -> Result<Self, UnknownTransport> {
        let versions = [Self::Auto, Self::H1, Self::H2];
        let found = versions.into_iter().find(|version| version.to_string() == name);
        found.ok_or_else(|| UnknownTransport { name: name.to_owned(), known: "auto, h1 and h2" })
    }
}

/// A name that no transport has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is no transport: there are {known}")]
pub struct UnknownTransport {
    /// What was given.
    pub name: String,
    known: &'static str,
}

const TRANSPORTS: &str = "auto, sse, webtransport, sse-h1, sse-h2 and sse-h3";

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
        assert_eq!("h2".parse(), Ok(HttpVersion::H2));
        assert!("h3".parse::<HttpVersion>().unwrap_err().to_string().ends_with("there are auto, h1 and h2"));
    }
}
