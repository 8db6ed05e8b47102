//! One connection to a feed.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use fanwire_protocol::{Cursor, Delivery, frame::Malformed};
use hyper::http::response;
use tokio::time::Instant;

use crate::{
    ConnectError, Control, Item, Options, ReceiveError, Transport, http::Wanted, item::Order, sse, target::Place,
    watchdog::Watchdog, webtransport,
};

/// One connection to a feed, over one transport, without retries. Dropping it ends it.
#[derive(Debug)]
pub struct Connection {
    transport: Transport,
    source: Source,
    items: VecDeque<Item>,
    /// Comes after the items.
    failed: Option<ReceiveError>,
    over: bool,
    /// The feed says hello and checks are made: always, but for SSE without control messages.
    control: bool,
    order: Order,
    watchdog: Watchdog,
    begin: Instant,
    times: Times,
}

/// How long a connection took, from the call of [`Connection::connect`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// Until the hub accepted the feed: names, discovery, TCP or QUIC, TLS, and the answer's head.
    pub connect: Duration,
    /// Until the hello was handed out; none before.
    pub hello: Option<Duration>,
}

#[derive(Debug)]
enum Source {
    Sse { body: sse::Body, reader: sse::Reader, head: Box<response::Parts> },
    WebTransport { feed: Box<webtransport::Feed>, reader: webtransport::Reader },
    Lanes(Box<webtransport::Lanes>),
    Datagrams(Box<webtransport::Datagrams>),
}

impl Connection {
    /// Connects over a transport and asks for the feed, within [`Options::connect_timeout`].
    ///
    /// An `http` URL with WebTransport or HTTP/3 is first asked where they are: see [`crate::discover()`].
    pub async fn connect(transport: Transport, options: &Options) -> Result<Self, ConnectError> {
        within(
            options,
            transport.is_quic(),
            Box::pin(async {
                let begin = Instant::now();
                match transport {
                    Transport::WebTransport => {
                        let (feed, bytes_max) = (webtransport::open(options).await?, options.event_bytes_max);
                        let source = match options.asked_delivery() {
                            Delivery::Ordered => {
                                let reader = webtransport::Reader::new(bytes_max);
                                Source::WebTransport { feed: Box::new(feed), reader }
                            }
                            Delivery::PerTopic => Source::Lanes(Box::new(webtransport::Lanes::new(feed, bytes_max))),
                            Delivery::Datagram => {
                                Source::Datagrams(Box::new(webtransport::Datagrams::new(feed, bytes_max)))
                            }
                        };
                        Ok(Self::new(options, begin, transport, source))
                    }
                    Transport::SseH1 => Ok(Self::sse(options, begin, sse::over_tcp(options, Wanted::H1).await?)),
                    Transport::SseH2 => Ok(Self::sse(options, begin, sse::over_tcp(options, Wanted::H2).await?)),
                    Transport::SseH3 => Ok(Self::sse(options, begin, sse::over_h3(options).await?)),
                }
            }),
        )
        .await
    }

    /// Connects over SSE: HTTP/2 if TLS negotiates it, else HTTP/1.1.
    pub async fn connect_sse(options: &Options) -> Result<Self, ConnectError> {
        within(
            options,
            false,
            Box::pin(async {
                let begin = Instant::now();
                Ok(Self::sse(options, begin, sse::over_tcp(options, Wanted::Either).await?))
            }),
        )
        .await
    }

    fn sse(options: &Options, begin: Instant, opened: sse::Opened) -> Self {
        let sse::Opened { transport, head, body } = opened;
        let reader = sse::Reader::new(options.control, options.event_bytes_max);
        Self::new(options, begin, transport, Source::Sse { body, reader, head: Box::new(head) })
    }

    fn new(options: &Options, begin: Instant, transport: Transport, source: Source) -> Self {
        Self {
            transport,
            source,
            items: VecDeque::new(),
            failed: None,
            over: false,
            control: options.control || transport == Transport::WebTransport,
            order: Order::default(),
            watchdog: Watchdog::new(options.heartbeat.unwrap_or(HEARTBEAT)),
            begin,
            times: Times { connect: begin.elapsed(), hello: None },
        }
    }

    /// The next item. After an error, or [`Item::Bye`], there is nothing more but [`ReceiveError::Ended`].
    ///
    /// Cancel-safe: an item is lost by no `select!`.
    pub async fn next(&mut self) -> Result<Item, ReceiveError> {
        loop {
            if self.over {
                return Err(ReceiveError::Ended);
            }
            match self.pop() {
                Ok(Some(item)) => return self.hand_out(item),
                Ok(None) => {}
                Err(error) => self.failed = Some(error),
            }
            if let Some(error) = self.failed.take() {
                let last_word = if let Source::Lanes(lanes) = &mut self.source { lanes.last_word() } else { None };
                self.over = true;
                return last_word.map_or(Err(error), |bye| self.hand_out(bye));
            }
            self.failed = self.watchdog.watch(self.source.fill(&mut self.items)).await.and_then(|filled| filled).err();
        }
    }

    fn pop(&mut self) -> Result<Option<Item>, ReceiveError> {
        match &mut self.source {
            Source::Lanes(lanes) => lanes.pop(),
            Source::Datagrams(datagrams) => datagrams.pop(),
            _ => Ok(self.items.pop_front()),
        }
    }

    /// The next bytes of the feed as they came, neither read nor watched over; where it isn't one stream, its next datagram or the payload
    /// of its next frame. None at its end. For measuring: whoever takes them leaves nothing sound for [`Connection::next`]. Cancel-safe.
    pub async fn next_bytes(&mut self) -> Result<Option<Bytes>, ReceiveError> {
        match &mut self.source {
            Source::Sse { body, .. } => body.chunk().await.map_err(ReceiveError::Cut),
            Source::WebTransport { feed, .. } => feed.chunk().await,
            Source::Datagrams(datagrams) => datagrams.next_bytes().await,
            Source::Lanes(lanes) => lanes.next_payload().await,
        }
    }

    /// The transport; of [`Connection::connect_sse`] the one that was negotiated.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// How long it took.
    pub fn times(&self) -> Times {
        self.times
    }

    /// Up to where the feed is complete, with the items that were handed out; with [`Delivery::Datagram`] the newest of them.
    pub fn cursor(&self) -> Option<Cursor> {
        match &self.source {
            Source::Lanes(lanes) => lanes.chain().position(),
            Source::Datagrams(datagrams) => datagrams.newest().position(),
            _ => self.order.position(),
        }
    }

    /// Requests to the hub; none on SSE.
    pub fn control(&self) -> Option<Control> {
        match &self.source {
            Source::WebTransport { feed, .. } => Some(feed.control()),
            Source::Lanes(lanes) => Some(lanes.feed().control()),
            Source::Datagrams(datagrams) => Some(datagrams.feed().control()),
            Source::Sse { .. } => None,
        }
    }

    /// The head of the answer; none on WebTransport.
    pub fn head(&self) -> Option<&response::Parts> {
        match &self.source {
            Source::Sse { head, .. } => Some(head),
            Source::WebTransport { .. } | Source::Lanes(_) | Source::Datagrams(_) => None,
        }
    }

    /// SSE's last event id as it came; none on WebTransport. It may be ahead of the items that were handed out.
    pub fn last_event_id(&self) -> Option<&str> {
        match &self.source {
            Source::Sse { reader, .. } => Some(reader.last_event_id()),
            Source::WebTransport { .. } | Source::Lanes(_) | Source::Datagrams(_) => None,
        }
    }

    /// How long to wait before connecting again, if the stream or an event said so (SSE's `retry`).
    pub fn retry(&self) -> Option<Duration> {
        match &self.source {
            Source::Sse { reader, .. } => reader.retry(),
            Source::WebTransport { reader, .. } => reader.retry(),
            Source::Lanes(lanes) => lanes.retry(),
            Source::Datagrams(datagrams) => datagrams.retry(),
        }
    }

    /// The QUIC connection, for its statistics; none over TCP.
    pub fn quic(&self) -> Option<&quinn::Connection> {
        match &self.source {
            Source::Sse { body, .. } => body.quic(),
            Source::WebTransport { feed, .. } => Some(feed.quic()),
            Source::Lanes(lanes) => Some(lanes.feed().quic()),
            Source::Datagrams(datagrams) => Some(datagrams.feed().quic()),
        }
    }

    /// Ends the connection. On WebTransport it waits until the hub knows, for a moment at most; [`Drop`] doesn't.
    pub async fn close(mut self) {
        match &mut self.source {
            Source::WebTransport { feed, .. } => feed.close().await,
            Source::Lanes(lanes) => lanes.feed_mut().close().await,
            Source::Datagrams(datagrams) => datagrams.feed_mut().close().await,
            Source::Sse { .. } => {}
        }
    }

    fn hand_out(&mut self, item: Item) -> Result<Item, ReceiveError> {
        if self.control
            && !matches!(self.source, Source::Lanes(_) | Source::Datagrams(_))
            && let Err(error) = self.order.check(&item)
        {
            self.over = true;
            self.items.clear();
            return Err(error);
        }
        match &item {
            Item::Hello(hello) => {
                self.watchdog.set_heartbeat(Duration::from_millis(hello.heartbeat_ms));
                self.times.hello = Some(self.begin.elapsed());
            }
            Item::Bye(_) => {
                self.over = true;
                self.failed = None;
                self.items.clear();
            }
            _ => {}
        }
        Ok(item)
    }
}

impl Source {
    /// Waits for more items. Cancel-safe.
    async fn fill(&mut self, items: &mut VecDeque<Item>) -> Result<(), ReceiveError> {
        match self {
            Self::Sse { body, reader, .. } => match body.chunk().await.map_err(ReceiveError::Cut)? {
                Some(bytes) => reader.feed(&bytes, items),
                // An event that was begun doesn't count. [WHATWG HTML §9.2.6]
                None => Err(ReceiveError::Ended),
            },
            Self::WebTransport { feed, reader } => match feed.chunk().await? {
                Some(bytes) => reader.feed(&bytes, items),
                None if !reader.is_empty() => Err(Malformed("the feed ends inside a frame").into()),
                None => Err(ReceiveError::Ended),
            },
            Self::Lanes(lanes) => lanes.fill().await,
            Self::Datagrams(datagrams) => datagrams.fill().await,
        }
    }
}

async fn within(
    options: &Options,
    udp: bool,
    connect: impl Future<Output = Result<Connection, ConnectError>>,
) -> Result<Connection, ConnectError> {
    let after = options.connect_timeout;
    match tokio::time::timeout(after, connect).await {
        Ok(result) => result,
        Err(_) => {
            let place = Place::of(&options.url)?;
            let place = if udp { format!("{place} (or its udp port)") } else { place.to_string() };
            Err(ConnectError::Timeout { place, after })
        }
    }
}

/// The hub's default, until it says hello.
const HEARTBEAT: Duration = Duration::from_secs(15);
