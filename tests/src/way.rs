//! The ways to a feed that the contract holds for.

use fanwire_client::{Connection, Delivery, Item, Options, Transport};

use crate::{TestHub, soon};

/// A transport, in cleartext or in TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// WebTransport over HTTP/3.
    WebTransport,
    /// The same, with the topics on several streams.
    PerTopic,
    /// The same, in datagrams.
    Datagram,
    /// SSE over HTTP/1.1 in cleartext.
    SseH1,
    /// SSE over HTTP/1.1 in TLS.
    SseH1Tls,
    /// SSE over HTTP/2 with prior knowledge.
    SseH2c,
    /// SSE over HTTP/2 in TLS.
    SseH2Tls,
    /// SSE over HTTP/3.
    SseH3,
}

impl Way {
    /// Every way whose events come in the order of the log.
    pub const ALL: [Self; 6] =
        [Self::WebTransport, Self::SseH1, Self::SseH1Tls, Self::SseH2c, Self::SseH2Tls, Self::SseH3];

    /// Those, and the ways that keep order within a topic only.
    pub const EVERY: [Self; 8] = [
        Self::WebTransport,
        Self::PerTopic,
        Self::Datagram,
        Self::SseH1,
        Self::SseH1Tls,
        Self::SseH2c,
        Self::SseH2Tls,
        Self::SseH3,
    ];

    /// The transport.
    pub fn transport(self) -> Transport {
        match self {
            Self::WebTransport | Self::PerTopic | Self::Datagram => Transport::WebTransport,
            Self::SseH1 | Self::SseH1Tls => Transport::SseH1,
            Self::SseH2c | Self::SseH2Tls => Transport::SseH2,
            Self::SseH3 => Transport::SseH3,
        }
    }

    /// Whether it is a WebTransport session.
    pub fn is_session(self) -> bool {
        self.transport() == Transport::WebTransport
    }

    /// Whether it goes to the port without TLS.
    pub fn is_cleartext(self) -> bool {
        matches!(self, Self::SseH1 | Self::SseH2c)
    }

    /// Options for a feed over this way.
    pub fn options(self, hub: &TestHub) -> Options {
        let delivery = match self {
            Self::PerTopic => Delivery::PerTopic,
            Self::Datagram => Delivery::Datagram,
            _ => Delivery::Ordered,
        };
        hub.options(&if self.is_cleartext() { hub.http_url() } else { hub.https_url() }).delivery(delivery)
    }

    /// A feed of these topics, from now on: it has said hello, so what is published from here on is in it.
    pub async fn subscribe(self, hub: &TestHub, topics: &[&str]) -> Connection {
        let options = topics.iter().fold(self.options(hub), |options, topic| options.topic(topic).expect("a topic"));
        let mut connection = self.connect(&options).await;
        match soon(connection.next()).await {
            Ok(Item::Hello(_)) => connection,
            other => panic!("{self:?} begins with {other:?}"),
        }
    }

    /// A feed that starts after something.
    pub async fn resume(self, hub: &TestHub, topics: &[&str], last_event_id: &str) -> Connection {
        let options = topics.iter().fold(self.options(hub), |options, topic| options.topic(topic).expect("a topic"));
        let id = fanwire_protocol::LastEventId::parse(last_event_id).expect("an id").expect("not empty");
        self.connect(&options.last_event_id(id)).await
    }

    /// Connects.
    pub async fn connect(self, options: &Options) -> Connection {
        soon(Connection::connect(self.transport(), options)).await.unwrap_or_else(|error| panic!("{self:?}: {error}"))
    }
}
