//! How the events of a feed come over WebTransport.

use std::{fmt, str::FromStr};

/// How the events of a feed come over WebTransport. On SSE each of them means [`Delivery::Ordered`]. [PROTOCOL §5.6, §5.7]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Delivery {
    /// On one stream, in the order of the log.
    #[default]
    Ordered,
    /// On a stream for each of several groups of topics: in order within each topic, so that what one loses holds up no other.
    PerTopic,
    /// In datagrams, which may be lost: what is old is dropped for what is newer of its topic, by the hub and by the client.
    Datagram,
}

impl Delivery {
    /// Every one of them.
    pub const ALL: [Self; 3] = [Self::Ordered, Self::PerTopic, Self::Datagram];

    /// Its name in a query, and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ordered => "ordered",
            Self::PerTopic => "per-topic",
            Self::Datagram => "datagram",
        }
    }
}

impl fmt::Display for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Delivery {
    type Err = UnknownDelivery;

    fn from_str(name: &str) -> Result<Self, UnknownDelivery> {
        Self::ALL.into_iter().find(|delivery| delivery.name() == name).ok_or(UnknownDelivery)
    }
}

/// A name that no [`Delivery`] has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("delivery is ordered, per-topic or datagram")]
pub struct UnknownDelivery;
