//! The ways that are compared.

use std::{fmt, str::FromStr};

use fanwire_client::Transport;
use serde::{Deserialize, Serialize};

/// A transport with what is asked of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// SSE over HTTP/1.1 in the clear.
    SseH1,
    /// SSE over HTTP/1.1 with TLS.
    SseH1Tls,
    /// SSE over HTTP/2 in the clear, with prior knowledge.
    SseH2c,
    /// SSE over HTTP/2 with TLS.
    SseH2,
    /// SSE over HTTP/3.
    SseH3,
    /// WebTransport, one ordered stream.
    #[serde(rename = "webtransport")]
    WebTransport,
    /// The same, with the topics on several streams.
    #[serde(rename = "webtransport-per-topic")]
    PerTopic,
    /// The same, in datagrams, of which some may be lost.
    #[serde(rename = "webtransport-datagram")]
    Datagram,
    /// Plain datagrams of UDP, each acknowledged: no hub has it; it is the floor under the last ones.
    #[serde(rename = "udp")]
    Udp,
}

impl Way {
    /// Those that a hub has.
    pub const HUB: [Self; 8] = [
        Self::SseH1,
        Self::SseH1Tls,
        Self::SseH2c,
        Self::SseH2,
        Self::SseH3,
        Self::WebTransport,
        Self::PerTopic,
        Self::Datagram,
    ];

    /// Its name on the command line and in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::SseH1 => "sse-h1",
            Self::SseH1Tls => "sse-h1-tls",
            Self::SseH2c => "sse-h2c",
            Self::SseH2 => "sse-h2",
            Self::SseH3 => "sse-h3",
            Self::WebTransport => "webtransport",
            Self::PerTopic => "webtransport-per-topic",
            Self::Datagram => "webtransport-datagram",
            Self::Udp => "udp",
        }
    }

    /// Whether it needs the hub's `https` address.
    pub fn is_secure(self) -> bool {
        !matches!(self, Self::SseH1 | Self::SseH2c | Self::Udp)
    }

    /// Whether its connections share UDP sockets.
    pub fn is_quic(self) -> bool {
        matches!(self, Self::SseH3 | Self::WebTransport | Self::PerTopic | Self::Datagram)
    }

    /// Whether every subscriber is meant to get every event.
    pub fn is_lossless(self) -> bool {
        !matches!(self, Self::Datagram | Self::Udp)
    }

    /// What the feed's query says besides its topics.
    pub fn query(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::PerTopic => &[("delivery", "per-topic")],
            Self::Datagram => &[("delivery", "datagram")],
            _ => &[],
        }
    }

    pub(crate) fn transport(self) -> Option<Transport> {
        match self {
            // Read by the load generator itself, which costs less than a client that can do anything.
            Self::SseH1 | Self::Udp => None,
            Self::SseH1Tls => Some(Transport::SseH1),
            Self::SseH2c | Self::SseH2 => Some(Transport::SseH2),
            Self::SseH3 => Some(Transport::SseH3),
            Self::WebTransport | Self::PerTopic | Self::Datagram => Some(Transport::WebTransport),
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Way {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::HUB.into_iter().find(|way| way.name() == name);
        found.ok_or_else(|| format!("there are {}", Self::HUB.map(Self::name).join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_on_the_command_line_and_in_json() {
        for way in Way::HUB {
            assert_eq!(way.name().parse(), Ok(way));
            assert_eq!(serde_json::to_value(way).unwrap(), way.name());
        }
        assert!("websocket".parse::<Way>().unwrap_err().contains("webtransport"));
    }
}
