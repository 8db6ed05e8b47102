//! What the hub counts. Only this room names metrics, and no topic is ever in a label.
//!
//! What a feed does is counted on its shard, once for each batch that is taken from it, and summed when somebody asks.

use std::{
    array,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use fanwire_protocol::message::GapReason;
use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeMetric, prometheus_text},
    metrics::{
        MetricType,
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::{ConstGauge, Gauge},
    },
    registry::Registry,
};

use super::process;
use crate::core::{Item, Losses};

/// Everything that a hub counts.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    connections: Family<Label, Gauge>,
    connections_begun: Family<Label, Counter>,
    published: Counter,
    published_bytes: Counter,
    refusals: Family<Label, Counter>,
    limits: [Counter; Limit::ALL.len()],
    shards: Shards,
}

/// What a connection comes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// TCP in cleartext.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// QUIC.
    Quic,
}

/// How a feed is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Server-Sent Events on HTTP/1.
    SseH1,
    /// On HTTP/2.
    SseH2,
    /// On HTTP/3.
    SseH3,
    /// A WebTransport session.
    WebTransport,
}

/// A limit below requests: whoever reaches it gets no code. Those that have a code are counted as refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// `connections_max`.
    Connections,
    /// `connections_per_address_max`.
    ConnectionsPerAddress,
    /// The process has no descriptor to spare for another connection.
    Descriptors,
    /// Connections that are turned away with an answer: more are closed without one.
    TurnedAway,
    /// A TLS or QUIC handshake took too long.
    HandshakeTime,
    /// So many QUIC handshakes were under way that a client had to prove its address first.
    Handshakes,
    /// So many QUIC handshakes were under way, in all or from one address, that one more was refused.
    HandshakesMax,
    /// A request's head, or the first request of a connection, took too long.
    HeadTime,
    /// A request's head was too large.
    HeadBytes,
    /// A connection without a feed or a request was idle for too long.
    IdleTime,
    /// A connection has as many requests and feeds open as it may have.
    Streams,
    /// A peer flooded its connection with frames, or sent one that can't be.
    Frames,
    /// So many QUIC handshakes waited to be begun that the first packet of one more was dropped.
    HandshakesWaiting,
    /// So many packets waited that had come to another shard's socket that one more was lost.
    PassedOn,
    /// A connection of whoever asks for metrics was one too many.
    MetricsConnections,
    /// A connection of the operator's had to wait for another to end.
    OperatorConnections,
    /// A read of history had to wait for another to end.
    HistoryReads,
    /// A set of keys had more bytes than are read of one.
    JwksBytes,
    /// A set had more keys than are kept of one.
    JwksKeys,
    /// A set of keys took too long to come.
    JwksTime,
}

/// Counts what the feeds of one shard do. Written by that shard's thread alone.
#[derive(Debug)]
pub struct ShardCounters {
    begun: [AtomicU64; Transport::ALL.len()],
    ended: [AtomicU64; Transport::ALL.len()],
    deliveries: [AtomicU64; Transport::ALL.len()],
    delivered_bytes: [AtomicU64; Transport::ALL.len()],
    gaps: [AtomicU64; GAP_REASONS.len()],
    endings: [AtomicU64; ENDINGS.len()],
    let_go: [AtomicU64; LOSSES.len()],
}

/// Counts a connection as open until it is dropped.
#[derive(Debug)]
pub struct OpenConnection(Gauge);

type Label = [(&'static str, &'static str); 1];
type Shards = Arc<Mutex<Vec<Arc<ShardCounters>>>>;

impl Metrics {
    /// Everything at zero.
    pub fn new() -> Self {
        let mut root = Registry::default();
        root.register_collector(Box::new(process::Process));
        let registry = root.sub_registry_with_prefix("fanwire");
        let shards = Shards::default();
        let (connections, connections_begun) = (Family::<Label, Gauge>::default(), Family::<Label, Counter>::default());
        let (published, published_bytes, refusals) = (Counter::default(), Counter::default(), Family::default());
        let reached = Family::<Label, Counter>::default();
        registry.register("connections", "Connections that are open", connections.clone());
        registry.register("connections_begun", "Connections that were taken", connections_begun.clone());
        registry.register("events_published", "Events that were committed", published.clone());
        registry.register("published_bytes", "Bytes of their data", published_bytes.clone());
        registry.register("refusals", "Requests that were refused, by the code that they were told", refusals.clone());
        registry.register("limits_reached", "How often a limit was reached that has no code", reached.clone());
        registry.register_collector(Box::new(Sums(shards.clone())));
        for carrier in Carrier::ALL {
            // What hasn't happened yet is 0, and not missing: an alert can be written for it.
            let _ = connections.get_or_create_owned(&[("carrier", carrier.name())]);
            let _ = connections_begun.get_or_create_owned(&[("carrier", carrier.name())]);
        }
        let limits = Limit::ALL.map(|limit| reached.get_or_create_owned(&[("limit", limit.name())]));
        Self { registry: root, connections, connections_begun, published, published_bytes, refusals, limits, shards }
    }

    /// The counters of one more shard.
    pub fn shard(&self) -> Arc<ShardCounters> {
        let shard = Arc::new(ShardCounters::new());
        self.shards.lock().unwrap_or_else(PoisonError::into_inner).push(shard.clone());
        shard
    }

    /// A connection begins.
    pub fn connection(&self, carrier: Carrier) -> OpenConnection {
        let label = [("carrier", carrier.name())];
        self.connections_begun.get_or_create(&label).inc();
        let open = self.connections.get_or_create_owned(&label);
        open.inc();
        OpenConnection(open)
    }

    /// Events were committed, with so many bytes of data in all.
    pub fn published(&self, events: usize, bytes: usize) {
        self.published.inc_by(events as u64);
        self.published_bytes.inc_by(bytes as u64);
    }

    /// Somebody was refused something, and told this code.
    pub fn refused(&self, code: &'static str) {
        self.refusals.get_or_create(&[("code", code)]).inc();
    }

    /// A limit was reached.
    pub fn reached(&self, limit: Limit) {
        self.limits[limit as usize].inc();
    }

    /// How often a limit was reached.
    pub fn times_reached(&self, limit: Limit) -> u64 {
        self.limits[limit as usize].get()
    }

    /// All of it, in the text format of Prometheus, version 0.0.4.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        prometheus_text::encode(&mut text, &self.registry).expect("a String takes everything");
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl ShardCounters {
    fn new() -> Self {
        Self {
            begun: zeros(),
            ended: zeros(),
            deliveries: zeros(),
            delivered_bytes: zeros(),
            gaps: zeros(),
            endings: zeros(),
            let_go: zeros(),
        }
    }

    /// A feed begins.
    pub fn feed_begins(&self, transport: Transport) {
        add(&self.begun[transport as usize], 1);
    }

    /// A feed ends: with a bye of this code, or because its client went away.
    pub fn feed_ends(&self, transport: Transport, code: Option<u32>) {
        add(&self.ended[transport as usize], 1);
        let at = code.map_or(0, |code| code as usize + 1);
        if let Some(counter) = self.endings.get(at) {
            add(counter, 1);
        }
    }

    /// A feed's connection took these.
    pub fn taken(&self, transport: Transport, items: &[Item]) {
        let (mut events, mut bytes) = (0, 0);
        for item in items {
            match item {
                Item::Event { event, .. } => {
                    events += 1;
                    bytes += event.draft.data.bytes().len() as u64;
                }
                Item::Gap(gap) => {
                    if let Some(at) = GAP_REASONS.iter().position(|&(reason, _)| reason == gap.reason) {
                        add(&self.gaps[at], 1);
                    }
                }
                Item::Hello(_) | Item::Changed(_) | Item::Ping(_) | Item::Bye(_) => {}
            }
        }
        if events > 0 {
            add(&self.deliveries[transport as usize], events);
            add(&self.delivered_bytes[transport as usize], bytes);
        }
    }

    /// So many events were let go of since the shard began, where the newest of a topic wins.
    pub fn let_go(&self, losses: Losses) {
        let Losses { superseded, overflowed } = losses;
        for (counter, count) in self.let_go.iter().zip([superseded, overflowed]) {
            counter.store(count, Ordering::Relaxed);
        }
    }
}

impl Carrier {
    const ALL: [Self; 3] = [Self::Tcp, Self::Tls, Self::Quic];

    fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Quic => "quic",
        }
    }
}

impl Transport {
    const ALL: [Self; 4] = [Self::SseH1, Self::SseH2, Self::SseH3, Self::WebTransport];

    fn name(self) -> &'static str {
        match self {
            Self::SseH1 => "sse-h1",
            Self::SseH2 => "sse-h2",
            Self::SseH3 => "sse-h3",
            Self::WebTransport => "webtransport",
        }
    }
}

impl Limit {
    const ALL: [Self; 20] = [
        Self::Connections,
        Self::ConnectionsPerAddress,
        Self::Descriptors,
        Self::TurnedAway,
        Self::HandshakeTime,
        Self::Handshakes,
        Self::HandshakesMax,
        Self::HeadTime,
        Self::HeadBytes,
        Self::IdleTime,
        Self::Streams,
        Self::Frames,
        Self::HandshakesWaiting,
        Self::PassedOn,
        Self::MetricsConnections,
        Self::OperatorConnections,
        Self::HistoryReads,
        Self::JwksBytes,
        Self::JwksKeys,
        Self::JwksTime,
    ];

    /// The label's value.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::ConnectionsPerAddress => "connections_per_address",
            Self::Descriptors => "descriptors",
            Self::TurnedAway => "turned_away",
            Self::HandshakeTime => "handshake_time",
            Self::Handshakes => "handshakes",
            Self::HandshakesMax => "handshakes_max",
            Self::HeadTime => "head_time",
            Self::HeadBytes => "head_bytes",
            Self::IdleTime => "idle_time",
            Self::Streams => "streams",
            Self::Frames => "frames",
            Self::HandshakesWaiting => "handshakes_waiting",
            Self::PassedOn => "passed_on",
            Self::MetricsConnections => "metrics_connections",
            Self::OperatorConnections => "operator_connections",
            Self::HistoryReads => "history_reads",
            Self::JwksBytes => "jwks_bytes",
            Self::JwksKeys => "jwks_keys",
            Self::JwksTime => "jwks_time",
        }
    }
}

/// Sums what the shards count.
#[derive(Debug)]
struct Sums(Shards);

impl prometheus_client::collector::Collector for Sums {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let shards = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let each = |names: &[&'static str], of: &dyn Fn(&ShardCounters, usize) -> u64| -> Vec<(&'static str, u64)> {
            let total = |at| shards.iter().map(|shard| of(shard, at)).sum();
            names.iter().enumerate().map(|(at, name)| (*name, total(at))).collect()
        };
        let transports = Transport::ALL.map(Transport::name);
        // In this order: what ends in between is counted as open, and nothing ends before it begins.
        let ended = each(&transports, &|shard, at| load(&shard.ended[at]));
        let begun = each(&transports, &|shard, at| load(&shard.begun[at]));
        let mut feeds = encoder.encode_descriptor("feeds", "Feeds that are open", None, MetricType::Gauge)?;
        for ((name, begun), (_, ended)) in begun.iter().zip(&ended) {
            ConstGauge::new(begun.saturating_sub(*ended)).encode(feeds.encode_family(&[("transport", *name)])?)?;
        }
        let mut counters = |name: &str, help: &str, label: &str, values: &[(&str, u64)]| {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for &(value, count) in values {
                ConstCounter::new(count).encode(family.encode_family(&[(label, value)])?)?;
            }
            Ok::<_, std::fmt::Error>(())
        };
        counters("feeds_begun", "Feeds that were opened", "transport", &begun)?;
        let endings = each(&ENDINGS, &|shard, at| load(&shard.endings[at]));
        counters("feeds_ended", "Feeds that ended: gone, or by the code of their bye", "how", &endings)?;
        let deliveries = each(&transports, &|shard, at| load(&shard.deliveries[at]));
        counters("deliveries", "Events that feeds' connections took", "transport", &deliveries)?;
        let bytes = each(&transports, &|shard, at| load(&shard.delivered_bytes[at]));
        counters("delivered_bytes", "Bytes of their data", "transport", &bytes)?;
        let gaps = each(&GAP_REASONS.map(|(_, name)| name), &|shard, at| load(&shard.gaps[at]));
        counters("gaps_told", "Gaps that feeds were told", "reason", &gaps)?;
        let let_go = each(&LOSSES, &|shard, at| load(&shard.let_go[at]));
        let help = "Events that feeds with delivery=datagram let go of before they were sent: a newer one of the topic came, or others \
                    were too many";
        counters("events_let_go", help, "why", &let_go)
    }
}

fn zeros<const N: usize>() -> [AtomicU64; N] {
    array::from_fn(|_| AtomicU64::new(0))
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

/// Gone, and then the codes of a bye in their order. [PROTOCOL §3.5]
const ENDINGS: [&str; 11] = [
    "gone",
    "closed",
    "drain",
    "bad_request",
    "unauthorized",
    "limit",
    "stalled",
    "internal",
    "log_unavailable",
    "expired",
    "revoked",
];
const LOSSES: [&str; 2] = ["superseded", "overflowed"];
const GAP_REASONS: [(GapReason, &str); 4] = [
    (GapReason::Evicted, "evicted"),
    (GapReason::NewEpoch, "new_epoch"),
    (GapReason::UnknownCursor, "unknown_cursor"),
    (GapReason::Limit, "limit"),
];
