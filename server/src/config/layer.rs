//! What was written, in one place: on the command line and in the environment, or in a file.

use std::path::PathBuf;

use clap::Args;
use serde::Deserialize;

use super::{
    issuer_rule::{IssuerRule, Secret},
    retention_rule::RetentionRule,
    value::{Bytes, FsyncChoice, Span},
};

/// Every key, set or not. The file's keys are the fields' names, the flags the same with `-`, the environment's variables the
/// same in capitals behind `FANWIRE_`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    /// Read keys from this TOML file as well; flags and the environment win over it
    #[arg(long, env = "FANWIRE_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,

    /// Serve HTTP/1.x and h2c in cleartext here, or "off" [default: 127.0.0.1:8080]
    #[arg(long, env = "FANWIRE_HTTP", value_name = "ADDRESS", help_heading = LISTENING)]
    pub http: Option<String>,

    /// Serve TLS (HTTP/1.1, HTTP/2) and on the same UDP port HTTP/3 and WebTransport here, or "off" [default: 127.0.0.1:4433]
    #[arg(long, env = "FANWIRE_HTTPS", value_name = "ADDRESS", help_heading = LISTENING)]
    pub https: Option<String>,

    /// Serve metrics for Prometheus here, at /metrics, like 127.0.0.1:9090, or "off" [default: off]
    #[arg(long, env = "FANWIRE_METRICS", value_name = "ADDRESS", help_heading = LISTENING)]
    pub metrics: Option<String>,

    /// Certificate chain in PEM; without it the hub makes a development identity
    #[arg(long, env = "FANWIRE_CERT", value_name = "FILE", help_heading = LISTENING)]
    pub cert: Option<PathBuf>,

    /// The certificate's private key in PEM
    #[arg(long, env = "FANWIRE_KEY", value_name = "FILE", help_heading = LISTENING)]
    pub key: Option<PathBuf>,

    /// Where the development identity is kept [default: ~/.local/state/fanwire]
    #[arg(long, env = "FANWIRE_DEV_IDENTITY_DIR", value_name = "DIR", help_heading = LISTENING)]
    pub dev_identity_dir: Option<PathBuf>,

    /// Without keys: let anyone who reaches the hub publish and subscribe, which is needed to listen beyond loopback. With keys: let
    /// anyone subscribe to what isn't private
    #[arg(
        long, env = "FANWIRE_ALLOW_ANONYMOUS", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_name = "BOOL", help_heading = ACCESS
    )]
    pub allow_anonymous: Option<bool>,

    /// The hub's own name in tokens (`aud`), usually its URL; needed with keys
    #[arg(long, env = "FANWIRE_RESOURCE", value_name = "URL", help_heading = ACCESS)]
    pub resource: Option<String>,

    /// Whose tokens are taken (`iss`); more issuers, and more keys, are tables [[issuer]] in the file
    #[arg(long, env = "FANWIRE_TOKEN_ISSUER", value_name = "ISS", help_heading = ACCESS)]
    pub token_issuer: Option<String>,

    /// The issuer's secret, of 32 bytes or more, for HS256, HS384 and HS512; better as a variable than as a flag, which others can see
    #[arg(long, env = "FANWIRE_TOKEN_SECRET", hide_env_values = true, value_name = "SECRET", help_heading = ACCESS)]
    pub token_secret: Option<Secret>,

    /// A file with the issuer's public key in PEM
    #[arg(long, env = "FANWIRE_TOKEN_PEM", value_name = "FILE", help_heading = ACCESS)]
    pub token_pem: Option<String>,

    /// The URL, or a file, of the issuer's JWK set
    #[arg(long, env = "FANWIRE_TOKEN_JWKS", value_name = "URL", help_heading = ACCESS)]
    pub token_jwks: Option<String>,

    /// The algorithms that the issuer's keys are for [default: those that the keys' kind has]
    #[arg(long, env = "FANWIRE_TOKEN_ALGORITHMS", value_delimiter = ',', value_name = "NAME", help_heading = ACCESS)]
    pub token_algorithms: Option<Vec<String>>,

    /// What tokens of Mercure 0.x may be for that the issuer's keys have signed: publish, subscribe. Without token_issuer the keys are for
    /// such tokens alone [default: nothing]
    #[arg(long, env = "FANWIRE_TOKEN_MERCURE_0X", value_delimiter = ',', value_name = "ACTION", help_heading = ACCESS)]
    pub token_mercure_0x: Option<Vec<String>>,

    /// More issuers, and more keys.
    #[arg(skip)]
    pub issuer: Option<Vec<IssuerRule>>,

    /// Speak Mercure 0.x at /.well-known/mercure of these listeners: http, https. Its tokens are weaker [default: none]
    #[arg(long, env = "FANWIRE_MERCURE_0X", value_delimiter = ',', value_name = "LISTENER", help_heading = LISTENING)]
    pub mercure_0x: Option<Vec<String>>,

    /// How far a token's "not before" may be ahead of this clock; "exp" is never stretched [default: 30s]
    #[arg(long, env = "FANWIRE_CLOCK_SKEW", value_name = "DURATION", help_heading = ACCESS)]
    pub clock_skew: Option<Span>,

    /// The cookie that a token may come in [default: __Secure-mercure_access_token]
    #[arg(long, env = "FANWIRE_COOKIE", value_name = "NAME", help_heading = ACCESS)]
    pub cookie: Option<String>,

    /// How long a feed may be open before its client has to come back and show its token again [default: no limit]
    #[arg(long, env = "FANWIRE_FEED_LIFETIME_MAX", value_name = "DURATION", help_heading = ACCESS)]
    pub feed_lifetime_max: Option<Span>,

    /// Origins whose pages may publish and subscribe, like https://app.example; may be repeated
    #[arg(long, env = "FANWIRE_ALLOWED_ORIGINS", value_delimiter = ',', value_name = "ORIGIN", help_heading = ACCESS)]
    pub allowed_origins: Option<Vec<String>>,

    /// Don't publish the host's vital signs on host/… (it is done on loopback only)
    #[arg(long, env = "FANWIRE_NO_DEMO", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub no_demo: Option<bool>,

    /// Threads that serve connections; 0: one for each core [default: 0]
    #[arg(long, env = "FANWIRE_SHARDS", value_name = "COUNT")]
    pub shards: Option<usize>,

    /// From one heartbeat of a feed to the next, from 1s to 2m; keep it below half of every proxy's timeout [default: 15s]
    #[arg(long, env = "FANWIRE_HEARTBEAT", value_name = "DURATION", help_heading = LIMITS)]
    pub heartbeat: Option<Span>,

    /// How long clients are asked to wait before they connect again [default: 2s]
    #[arg(long, env = "FANWIRE_RETRY", value_name = "DURATION", help_heading = LIMITS)]
    pub retry: Option<Span>,

    /// How long a shutdown waits for connections to end [default: 10s]
    #[arg(long, env = "FANWIRE_DRAIN_DEADLINE", value_name = "DURATION", help_heading = LIMITS)]
    pub drain_deadline: Option<Span>,

    /// The largest data of an event, up to 4 MiB [default: 1 MiB]
    #[arg(long, env = "FANWIRE_EVENT_BYTES_MAX", value_name = "SIZE", help_heading = LIMITS)]
    pub event_bytes_max: Option<Bytes>,

    /// The most connections at a time, TCP and QUIC together [default: 50000]
    #[arg(long, env = "FANWIRE_CONNECTIONS_MAX", value_name = "COUNT", help_heading = LIMITS)]
    pub connections_max: Option<usize>,

    /// The most connections from one IP address; behind a proxy everybody has the proxy's [default: two fifths of all that there may
    /// be, and of those over TCP; on loopback without keys all]
    #[arg(long, env = "FANWIRE_CONNECTIONS_PER_ADDRESS_MAX", value_name = "COUNT", help_heading = LIMITS)]
    pub connections_per_address_max: Option<usize>,

    /// The most events a second that one publisher may publish, known by its token's subject, or by its address where it shows none;
    /// 0: any number [default: 50000; on loopback without keys 0]
    #[arg(long, env = "FANWIRE_PUBLISH_RATE_MAX", value_name = "COUNT", help_heading = LIMITS)]
    pub publish_rate_max: Option<u32>,

    /// The most feeds at a time; each takes 4 to 50 KiB [default: 100000]
    #[arg(long, env = "FANWIRE_SUBSCRIBERS_MAX", value_name = "COUNT", help_heading = LIMITS)]
    pub subscribers_max: Option<usize>,

    /// The most of them that one client has, known by its token's subject, or by its address where it shows none
    /// [default: a fifth of them; on loopback without keys all]
    #[arg(long, env = "FANWIRE_SUBSCRIBERS_PER_CLIENT_MAX", value_name = "COUNT", help_heading = LIMITS)]
    pub subscribers_per_client_max: Option<usize>,

    /// The most different URL patterns and URI templates that one client has in use at a time, known in the same way
    /// [default: 2000; on loopback without keys all: 10000]
    #[arg(long, env = "FANWIRE_PATTERNS_PER_CLIENT_MAX", value_name = "COUNT", help_heading = LIMITS)]
    pub patterns_per_client_max: Option<usize>,

    /// Tell who is subscribed, to those whose tokens grant it: as private events, and as a list
    #[arg(
        long, env = "FANWIRE_SUBSCRIPTIONS", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_name = "BOOL", help_heading = SUBSCRIPTIONS
    )]
    pub subscriptions: Option<bool>,

    /// The most subscriptions, one for each matcher of each feed, that are told of; each takes some 400 bytes [default: 250000]
    #[arg(long, env = "FANWIRE_SUBSCRIPTIONS_MAX", value_name = "COUNT", help_heading = SUBSCRIPTIONS)]
    pub subscriptions_max: Option<usize>,

    /// The most of them that one client has, known in the same way [default: a fifth of subscriptions_max]
    #[arg(long, env = "FANWIRE_SUBSCRIPTIONS_PER_CLIENT_MAX", value_name = "COUNT", help_heading = SUBSCRIPTIONS)]
    pub subscriptions_per_client_max: Option<usize>,

    /// The most events of the default retention class [default: 100000]
    #[arg(long, env = "FANWIRE_HISTORY_EVENTS_MAX", value_name = "COUNT", help_heading = HISTORY)]
    pub history_events_max: Option<usize>,

    /// The most bytes of the default retention class [default: 64 MiB]
    #[arg(long, env = "FANWIRE_HISTORY_BYTES_MAX", value_name = "SIZE", help_heading = HISTORY)]
    pub history_bytes_max: Option<Bytes>,

    /// The greatest age of an event in the default retention class [default: 24h]
    #[arg(long, env = "FANWIRE_HISTORY_AGE_MAX", value_name = "DURATION", help_heading = HISTORY)]
    pub history_age_max: Option<Span>,

    /// Keep the log in this directory, so that it survives a restart; without it, it is in memory
    #[arg(long, env = "FANWIRE_DATA_DIR", value_name = "DIR", help_heading = HISTORY)]
    pub data_dir: Option<PathBuf>,

    /// When a log on disk syncs: "always" before a publisher has its answer, or at an interval like 100ms, from 1ms to 1m, up to which a
    /// crash loses what was acknowledged [default: always]
    #[arg(long, env = "FANWIRE_FSYNC", value_name = "WHEN", help_heading = HISTORY)]
    pub fsync: Option<FsyncChoice>,

    /// A retention class of its own for some topics: "topics=ticks/*,a;events_max=10;bytes_max=1MiB;age_max=1h"; may be repeated
    #[arg(long, env = "FANWIRE_RETENTION", value_name = "CLASS", help_heading = HISTORY)]
    pub retention: Option<Vec<RetentionRule>>,

    /// How long idempotency keys of publishers are kept [default: 24h]
    #[arg(long, env = "FANWIRE_IDEMPOTENCY_WINDOW", value_name = "DURATION", help_heading = HISTORY)]
    pub idempotency_window: Option<Span>,

    /// The most idempotency keys that are kept, the newest; each takes some 100 bytes [default: 250000]
    #[arg(long, env = "FANWIRE_IDEMPOTENCY_KEYS_MAX", value_name = "COUNT", help_heading = HISTORY)]
    pub idempotency_keys_max: Option<usize>,

    /// What is logged: error, warn, info, debug, trace, or a filter like fanwire=debug,quinn_proto=warn [default: info]
    #[arg(long, env = "FANWIRE_LOG", value_name = "FILTER")]
    pub log: Option<String>,
}

impl Layer {
    /// This layer's keys, and where it has none, the lower layer's.
    pub fn over(self, lower: Self) -> Self {
        Self {
            config: self.config.or(lower.config),
            http: self.http.or(lower.http),
            https: self.https.or(lower.https),
            metrics: self.metrics.or(lower.metrics),
            cert: self.cert.or(lower.cert),
            key: self.key.or(lower.key),
            dev_identity_dir: self.dev_identity_dir.or(lower.dev_identity_dir),
            allow_anonymous: self.allow_anonymous.or(lower.allow_anonymous),
            resource: self.resource.or(lower.resource),
            token_issuer: self.token_issuer.or(lower.token_issuer),
            token_secret: self.token_secret.or(lower.token_secret),
            token_pem: self.token_pem.or(lower.token_pem),
            token_jwks: self.token_jwks.or(lower.token_jwks),
            token_algorithms: self.token_algorithms.or(lower.token_algorithms),
            token_mercure_0x: self.token_mercure_0x.or(lower.token_mercure_0x),
            issuer: self.issuer.or(lower.issuer),
            mercure_0x: self.mercure_0x.or(lower.mercure_0x),
            clock_skew: self.clock_skew.or(lower.clock_skew),
            cookie: self.cookie.or(lower.cookie),
            feed_lifetime_max: self.feed_lifetime_max.or(lower.feed_lifetime_max),
            allowed_origins: self.allowed_origins.or(lower.allowed_origins),
            no_demo: self.no_demo.or(lower.no_demo),
            shards: self.shards.or(lower.shards),
            heartbeat: self.heartbeat.or(lower.heartbeat),
            retry: self.retry.or(lower.retry),
            drain_deadline: self.drain_deadline.or(lower.drain_deadline),
            event_bytes_max: self.event_bytes_max.or(lower.event_bytes_max),
            connections_max: self.connections_max.or(lower.connections_max),
            connections_per_address_max: self.connections_per_address_max.or(lower.connections_per_address_max),
            publish_rate_max: self.publish_rate_max.or(lower.publish_rate_max),
            subscribers_max: self.subscribers_max.or(lower.subscribers_max),
            subscribers_per_client_max: self.subscribers_per_client_max.or(lower.subscribers_per_client_max),
            patterns_per_client_max: self.patterns_per_client_max.or(lower.patterns_per_client_max),
            subscriptions: self.subscriptions.or(lower.subscriptions),
            subscriptions_max: self.subscriptions_max.or(lower.subscriptions_max),
            subscriptions_per_client_max: self.subscriptions_per_client_max.or(lower.subscriptions_per_client_max),
            history_events_max: self.history_events_max.or(lower.history_events_max),
            history_bytes_max: self.history_bytes_max.or(lower.history_bytes_max),
            history_age_max: self.history_age_max.or(lower.history_age_max),
            data_dir: self.data_dir.or(lower.data_dir),
            fsync: self.fsync.or(lower.fsync),
            retention: self.retention.or(lower.retention),
            idempotency_window: self.idempotency_window.or(lower.idempotency_window),
            idempotency_keys_max: self.idempotency_keys_max.or(lower.idempotency_keys_max),
            log: self.log.or(lower.log),
        }
    }
}

const LISTENING: &str = "Where it listens, and as whom";
const ACCESS: &str = "Who may use it";
const LIMITS: &str = "Connections and limits";
const SUBSCRIPTIONS: &str = "Who is subscribed";
const HISTORY: &str = "What is kept";
