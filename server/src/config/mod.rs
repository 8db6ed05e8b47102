//! Configuration: flags, environment and a TOML file set the same keys; flags win over the environment, and that over the file.
//!
//! [`Layer`] is what was written, [`Config`] what it means. Only this room reads files and the environment.

mod issuer_rule;
mod layer;
mod retention_rule;
mod tokens;
mod value;

use std::{
    net::{SocketAddr, ToSocketAddrs},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use fanwire_certs::{DevDirectory, PemFiles, Source};

use crate::{
    admission, auth, core, fanout,
    http::Origin,
    hub,
    log::{Class, Fsync, KeyWindow, Retention, TopicRule},
    transport::{quic, tcp},
};

pub use issuer_rule::{IssuerRule, Secret};
pub use layer::Layer;
pub use value::Span;

/// What a hub is to be.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where cleartext HTTP/1.x and HTTP/2 are served, if anywhere.
    pub http: Option<SocketAddr>,
    /// Where TLS and QUIC are served, if anywhere.
    pub https: Option<SocketAddr>,
    /// Where metrics are served, if anywhere.
    pub metrics: Option<SocketAddr>,
    /// Where Mercure 0.x is spoken.
    pub mercure0: Listeners,
    /// The certificate; none where nothing is served over TLS.
    pub identity: Option<Source>,
    /// How many connections there may be.
    pub admission: admission::Limits,
    /// Whom it lets in.
    pub auth: auth::Config,
    /// Without keys, anyone who reaches the hub may publish and subscribe.
    pub allow_anonymous: bool,
    /// Origins whose pages may use the hub besides its own.
    pub allowed_origins: Vec<Origin>,
    /// Tell who is subscribed, of so many subscriptions at the most; none: don't.
    pub subscriptions_max: Option<usize>,
    /// How many threads serve connections.
    pub shards: usize,
    /// How many reads of history each of them has under way; further ones wait.
    pub reads_max: usize,
    /// Publish the host's vital signs.
    pub demo: bool,
    /// How long a shutdown may take.
    pub drain_deadline: Duration,
    /// What is kept.
    pub retention: Retention,
    /// Where it is kept: in a directory, or in memory.
    pub data_dir: Option<PathBuf>,
    /// When a log on disk syncs.
    pub fsync: Fsync,
    /// What the hub takes and gives.
    pub limits: hub::Limits,
    /// What a feed may hold.
    pub feed_limits: core::Limits,
    /// What a TCP connection may do.
    pub tcp: tcp::Limits,
    /// What a QUIC connection may do.
    pub quic: quic::connection::Limits,
    /// What QUIC's transport may hold.
    pub quic_endpoint: quic::endpoint::Config,
    /// What is logged, in `tracing`'s filter syntax.
    pub log_filter: String,
}

/// Some of the listeners.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Listeners {
    /// That of [`Config::http`].
    pub http: bool,
    /// That of [`Config::https`], over TCP and QUIC.
    pub https: bool,
}

impl Config {
    /// Makes sense of what was written on the command line, in the environment, and in the file that `--config` names.
    pub fn load(flags: Layer) -> Result<Self> {
        let file = match &flags.config {
            Some(path) => read_file(path)?,
            None => Layer::default(),
        };
        Self::resolve(flags.over(file))
    }

    /// The data directory alone: what a flag or the environment says, or else the file.
    pub fn data_dir(flag: Option<PathBuf>, file: Option<&Path>) -> Result<PathBuf> {
        let in_file = || file.map(|path| Ok::<_, anyhow::Error>(read_file(path)?.data_dir)).transpose();
        let directory = match flag {
            Some(directory) => Some(directory),
            None => in_file()?.flatten(),
        };
        directory.context("say where the log is: --data-dir DIR")
    }

    /// Whether every listener is on loopback.
    pub fn is_loopback_only(&self) -> bool {
        [self.http, self.https].into_iter().flatten().all(|address| address.ip().is_loopback())
    }

    fn resolve(layer: Layer) -> Result<Self> {
        let auth = tokens::resolve_auth(&layer)?;
        let http = address("http", layer.http.as_deref().unwrap_or("127.0.0.1:8080"))?;
        let https = address("https", layer.https.as_deref().unwrap_or("127.0.0.1:4433"))?;
        let metrics = address("metrics", layer.metrics.as_deref().unwrap_or("off"))?;
        ensure!(http.is_some() || https.is_some(), "both http and https are off: there is nothing to serve");
        let mercure0 = tokens::resolve_mercure0(&layer, &auth, (http.is_some(), https.is_some()))?;
        let identity = match (layer.cert, layer.key) {
            (Some(cert), Some(key)) => Some(Source::Files(PemFiles::new(cert, key))),
            (None, None) if https.is_none() => None,
            (None, None) => Some(Source::Dev(DevDirectory::new(dev_directory(layer.dev_identity_dir)?))),
            (Some(_), None) => bail!("cert is given without key"),
            (None, Some(_)) => bail!("key is given without cert"),
        };
        let defaults = hub::Limits::default();
        let mut limits = hub::Limits {
            subscribers_max: layer.subscribers_max.unwrap_or(defaults.subscribers_max),
            heartbeat_default: layer.heartbeat.map_or(defaults.heartbeat_default, |value| value.0),
            retry: layer.retry.map_or(defaults.retry, |value| value.0),
            ..defaults
        };
        if let Some(bytes) = layer.event_bytes_max {
            // A frame takes 8 MiB.
            ensure!((1..=4 << 20).contains(&bytes.0), "event_bytes_max is from 1 B to 4 MiB");
            limits.event.data_bytes_max = bytes.0;
            limits.body_bytes_max = 3 * bytes.0 + 64 * 1024;
            limits.batch_bytes_max = limits.batch_bytes_max.max(limits.body_bytes_max);
        }
        let beat = limits.heartbeat_default;
        let (min, max) = (limits.heartbeat_min, limits.heartbeat_max);
        ensure!((min..=max).contains(&beat), "heartbeat is from {min:?} to {max:?}, not {beat:?}");
        let drain_deadline = layer.drain_deadline.map_or(Duration::from_secs(10), |value| value.0);
        for (key, value) in [("retry", limits.retry), ("drain_deadline", drain_deadline)] {
            ensure!(value <= HOUR, "{key} is an hour at the most, not {value:?}");
        }
        let fsync = match (layer.fsync.map(|value| value.0), &layer.data_dir) {
            (None, _) => Fsync::Always,
            // Who writes it counts on what a log in memory doesn't keep.
            (Some(_), None) => bail!("fsync is about a log on disk: say where it is with data_dir"),
            (Some(Fsync::Interval(interval)), _) if !(FSYNC_MIN..=FSYNC_MAX).contains(&interval) => {
                bail!("fsync is \"always\", or an interval from {FSYNC_MIN:?} to {FSYNC_MAX:?}, not {interval:?}")
            }
            (Some(fsync), _) => fsync,
        };
        let admission = admission::Limits::default();
        let admission = admission::Limits {
            connections_max: layer.connections_max.unwrap_or(admission.connections_max),
            connections_per_address_max: layer.connections_per_address_max,
            ..admission
        };
        let subscriptions = layer.subscriptions.unwrap_or(false);
        ensure!(
            !subscriptions || !auth.issuers.is_empty(),
            "subscriptions needs keys: who is subscribed is told to those whose tokens grant it"
        );
        let origins = layer.allowed_origins.unwrap_or_default();
        let allowed_origins = origins.iter().map(|origin| origin.parse().context("allowed_origins"));
        let config = Self {
            http,
            https,
            metrics,
            mercure0,
            identity,
            auth,
            subscriptions_max: subscriptions.then(|| layer.subscriptions_max.unwrap_or(SUBSCRIPTIONS_MAX)),
            allow_anonymous: layer.allow_anonymous.unwrap_or(false),
            allowed_origins: allowed_origins.collect::<Result<_>>()?,
            shards: match layer.shards {
                None | Some(0) => std::thread::available_parallelism().map_or(1, usize::from),
                Some(count) => count,
            },
            reads_max: fanout::READS_MAX,
            demo: !layer.no_demo.unwrap_or(false),
            admission,
            drain_deadline,
            feed_limits: core::Limits { retry_ms: limits.retry.as_millis() as u64, ..core::Limits::default() },
            limits,
            tcp: tcp::Limits::default(),
            quic: quic::connection::Limits::default(),
            quic_endpoint: quic::endpoint::Config::default(),
            log_filter: layer.log.unwrap_or_else(|| "info".to_owned()),
            retention: Retention::default(),
            data_dir: layer.data_dir,
            fsync,
        };
        let default = Class::default();
        let default = Class {
            events_max: layer.history_events_max.unwrap_or(default.events_max),
            bytes_max: layer.history_bytes_max.map_or(default.bytes_max, |value| value.0),
            age_max: layer.history_age_max.map_or(default.age_max, |value| Some(value.0)),
            ..default
        };
        let mut classes: Vec<Class> = layer.retention.unwrap_or_default().into_iter().map(Class::from).collect();
        let config = Self { demo: config.demo && config.is_loopback_only(), ..config };
        if config.subscriptions_max.is_some() {
            classes.insert(0, subscriptions_class());
        }
        if config.demo {
            classes.insert(0, demo_class());
        }
        if !config.is_loopback_only() && !config.allow_anonymous && config.auth.issuers.is_empty() {
            let address = [http, https].into_iter().flatten().find(|address| !address.ip().is_loopback());
            bail!(
                "{} can be reached from elsewhere, and this hub has no keys: whoever reaches it could publish and \
                 subscribe; give it the key of an issuer (--token-issuer), or, if that is what you want, say --allow-anonymous",
                address.map(|address| address.to_string()).unwrap_or_default()
            );
        }
        // A hub for trying is for this machine alone, and may be tried as hard as its owner likes.
        let for_trying = config.is_loopback_only() && config.auth.issuers.is_empty();
        let rate = if for_trying { 0 } else { config.limits.publish_rate_max };
        let of_one = |written: Option<usize>, total: usize| {
            let share = if for_trying { total } else { (total / 5).max(1) };
            written.unwrap_or(share).min(total)
        };
        let subscriptions_max = config.subscriptions_max.unwrap_or(SUBSCRIPTIONS_MAX);
        let limits = hub::Limits {
            patterns_per_client_max: of_one(layer.patterns_per_client_max, config.limits.patterns_max),
            subscriptions_per_client_max: of_one(layer.subscriptions_per_client_max, subscriptions_max),
            publish_rate_max: layer.publish_rate_max.unwrap_or(rate),
            subscribers_per_client_max: of_one(layer.subscribers_per_client_max, config.limits.subscribers_max),
            ..config.limits
        };
        let admission = config.admission;
        let admission = admission::Limits {
            connections_per_address_max: admission
                .connections_per_address_max
                .or(for_trying.then_some(admission.connections_max)),
            ..admission
        };
        let config = Self { limits, admission, ..config };
        let keys = KeyWindow::default();
        let keys = KeyWindow {
            age_max: layer.idempotency_window.map_or(keys.age_max, |value| value.0),
            keys_max: layer.idempotency_keys_max.unwrap_or(keys.keys_max),
        };
        Ok(Self { retention: Retention::new(classes, default).with_keys(keys), ..config })
    }
}

/// The live input's own class: a minute, that no other topic pays for.
fn demo_class() -> Class {
    Class {
        name: "demo".into(),
        topics: vec![TopicRule::Prefix(crate::demo::TOPIC_PREFIX.to_owned())],
        events_max: 3_000,
        bytes_max: 2 * 1024 * 1024,
        age_max: Some(Duration::from_secs(60)),
    }
}

/// The events about who is subscribed: enough to go on from after a cut, and no more. Whoever comes later reads the list.
fn subscriptions_class() -> Class {
    Class {
        name: "subscriptions".into(),
        topics: vec![TopicRule::Prefix(format!("{}/", crate::subscriptions::NAMESPACE))],
        events_max: 50_000,
        bytes_max: 32 * 1024 * 1024,
        age_max: Some(HOUR),
    }
}

fn read_file(path: &Path) -> Result<Layer> {
    let text = std::fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))?;
    // The parser's message has several lines, with a picture of the place; one line is enough.
    toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        anyhow::anyhow!("{}, line {line}: {}", path.display(), error.message().replace('\n', "; "))
    })
}

fn address(key: &str, text: &str) -> Result<Option<SocketAddr>> {
    if text == "off" {
        return Ok(None);
    }
    let mut found = text.to_socket_addrs().map_err(|error| {
        anyhow::anyhow!("{key} = {text:?} is no address to listen on, like 127.0.0.1:8080: {error}")
    })?;
    Ok(Some(found.next().with_context(|| format!("{key} = {text:?} resolves to no address"))?))
}

fn dev_directory(given: Option<PathBuf>) -> Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    given
        .or_else(|| Some(variable("XDG_STATE_HOME")?.join("fanwire")))
        .or_else(|| Some(variable("HOME")?.join(".local/state/fanwire")))
        .context("no place for the development identity: HOME is not set; name one with --dev-identity-dir")
}

const HOUR: Duration = Duration::from_secs(60 * 60);
const SUBSCRIPTIONS_MAX: usize = 250_000;
const FSYNC_MIN: Duration = Duration::from_millis(1);
/// What is written in between is in memory, or in new room of the file.
const FSYNC_MAX: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Config as Auth;

    fn load(toml: &str) -> std::result::Result<Config, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fanwire.toml");
        std::fs::write(&path, toml).unwrap();
        let flags =
            Layer { config: Some(path), dev_identity_dir: Some(directory.path().to_owned()), ..Layer::default() };
        Config::load(flags).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn a_file_sets_every_key() {
        let config = load(
            r#"
            http = "127.0.0.1:0"
            https = "off"
            no_demo = true
            heartbeat = "20s"
            event_bytes_max = "64 KiB"
            allowed_origins = ["https://app.example"]
            resource = "https://hub.example/.well-known/mercure"
            clock_skew = "5s"
            feed_lifetime_max = "1h"
            history_events_max = 5
            history_age_max = "1h"
            mercure_0x = ["http"]
            [[issuer]]
            iss = "https://app.example"
            secret = "0123456789abcdef0123456789abcdef"
            algorithms = ["HS256"]
            mercure_0x = ["subscribe"]
            [[issuer]]
            secret = "another secret that nobody guesses"
            mercure_0x = ["publish", "subscribe"]
            [[issuer]]
            iss = "https://login.example"
            jwks = "https://login.example/.well-known/jwks.json"
            [[retention]]
            name = "ticks"
            topics = ["ticks/*"]
            events_max = 10
            bytes_max = "1 MiB"
            "#,
        )
        .unwrap();
        assert_eq!((config.https, config.demo), (None, false));
        assert_eq!(config.limits.heartbeat_default, Duration::from_secs(20));
        let Auth { issuers, clock_skew, feed_lifetime_max, .. } = &config.auth;
        let names: Vec<&str> = issuers.iter().map(|issuer| issuer.name.as_str()).collect();
        assert_eq!(
            (names, *clock_skew),
            (vec!["https://app.example", "", "https://login.example"], Duration::from_secs(5))
        );
        let for_0x: Vec<_> = issuers.iter().map(|it| (it.mercure0.publish, it.mercure0.subscribe)).collect();
        assert_eq!(for_0x, [(false, true), (true, true), (false, false)]);
        assert_eq!(config.mercure0, Listeners { http: true, https: false });
        assert_eq!(*feed_lifetime_max, Some(Duration::from_secs(3600)));
        assert_eq!(config.limits.event.data_bytes_max, 65536);
        let classes = config.retention.classes();
        assert_eq!((classes.len(), classes[0].events_max, classes[1].events_max), (2, 10, 5));
        assert_eq!(classes[0].age_max, None);
    }

    #[test]
    fn one_client_has_a_share_of_what_there_may_be() {
        let keys = "resource = 'r'\ntoken_issuer = 'x'\ntoken_secret = '0123456789abcdef0123456789abcdef'\n";
        let of_one = |toml: &str| {
            let Config { limits, admission, .. } = load(toml).unwrap();
            let of_one = [limits.subscribers_per_client_max, limits.patterns_per_client_max];
            (admission.of_one()[0], of_one, limits.subscriptions_per_client_max)
        };
        let fewer = "connections_max = 1000\nsubscribers_max = 500\n";
        assert_eq!(of_one(keys), (20_000, [20_000, 2_000], 50_000));
        assert_eq!(of_one(&format!("{keys}{fewer}")), (400, [100, 2_000], 50_000));
        let told_of = "subscriptions = true\nsubscriptions_max = 4";
        assert_eq!(of_one(&format!("{keys}subscribers_max = 4\n{told_of}")), (20_000, [1, 2_000], 1));
        let written = "connections_per_address_max = 700\nsubscribers_per_client_max = 200\n";
        assert_eq!(of_one(&format!("{keys}{fewer}{written}")), (700, [200, 2_000], 50_000));
        let too_many = "connections_per_address_max = 2000\nsubscribers_per_client_max = 2000\n";
        assert_eq!(of_one(&format!("{keys}{fewer}{too_many}")), (1_000, [500, 2_000], 50_000));
        // For trying: all, unless it says otherwise.
        assert_eq!(of_one(fewer), (1_000, [500, 10_000], 250_000));
        assert_eq!(of_one(&format!("{fewer}{written}")), (700, [200, 10_000], 250_000));
        let anonymous = "http = '0.0.0.0:0'\nallow_anonymous = true\n";
        assert_eq!(of_one(&format!("{anonymous}{fewer}")), (400, [100, 2_000], 50_000));
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line() {
        for (toml, said) in [
            ("htp = 'x'", "fanwire.toml, line 1: unknown field `htp`"),
            ("http = 'off'\nhtp = 'x'", "fanwire.toml, line 2: unknown field `htp`"),
            ("retry = '2h'", "retry is an hour at the most"),
            ("\n\nheartbeat = 3", "line 3: invalid type: integer `3`, expected"),
            ("http = 'nowhere'", "http = \"nowhere\" is no address to listen on"),
            ("http = 'off'\nhttps = 'off'", "nothing to serve"),
            ("cert = 'x'", "cert is given without key"),
            ("allowed_origins = ['app.example']", "is no origin"),
            ("http = '0.0.0.0:0'", "say --allow-anonymous"),
            (
                "token_issuer = 'x'\ntoken_secret = 'short'\nresource = 'r'",
                "issuer \"x\": a secret has at least 32 bytes",
            ),
            ("token_secret = '0123456789abcdef0123456789abcdef'", "without token_issuer"),
            ("[[issuer]]\niss = 'x'\nsecret = '0123456789abcdef0123456789abcdef'", "resource is missing"),
            ("resource = 'r'\n[[issuer]]\niss = 'x'", "it has no key"),
            ("resource = 'r'\n[[issuer]]\niss = 'x'\nsecret = 'a'\npem = 'b'", "a table for each"),
            (
                "resource = 'r'\n[[issuer]]\niss = 'x'\njwks = 'http://elsewhere.example/keys'",
                "can't be asked for keys",
            ),
            ("resource = 'r'\n[[issuer]]\niss = 'x'\npem = '/nowhere.pem'", "can't read /nowhere.pem"),
            (
                "resource = 'r'\n[[issuer]]\niss = 'x'\nsecret = '0123456789abcdef0123456789abcdef'\nalgorithms = ['none']",
                "\"none\" is no algorithm",
            ),
            (
                "resource = 'r'\n[[issuer]]\niss = 'x'\nsecret = '0123456789abcdef0123456789abcdef'\nalgorithms = ['RS256']",
                "a key of this kind can't verify",
            ),
            ("mercure_0x = ['h2']", "\"h2\" is no listener"),
            ("http = 'off'\nmercure_0x = ['http']", "http is off"),
            (
                "mercure_0x = ['http']\nresource = 'r'\ntoken_issuer = 'x'\ntoken_secret = '0123456789abcdef0123456789abcdef'",
                "no key is for its tokens",
            ),
            (
                "token_secret = '0123456789abcdef0123456789abcdef'\ntoken_mercure_0x = ['publish']",
                "which no listener takes",
            ),
            ("[[issuer]]\nsecret = '0123456789abcdef0123456789abcdef'", "iss is empty"),
            ("[[issuer]]\nmercure_0x = ['revoke']", "is nothing that tokens of Mercure 0.x are for"),
            ("subscriptions = true", "subscriptions needs keys"),
            ("cookie = 'a b'", "no name of a cookie"),
            ("clock_skew = '1h'", "clock_skew is"),
            ("heartbeat = '1h'", "heartbeat is from"),
            ("fsync = 'always'", "say where it is with data_dir"),
            ("data_dir = 'd'\nfsync = 'never'", "\"never\" is neither \"always\" nor an interval like 100ms"),
            ("data_dir = 'd'\nfsync = '0s'", "from 1ms to 60s, not 0ns"),
            ("data_dir = 'd'\nfsync = '1h'", "from 1ms to 60s, not 3600s"),
            ("[[retention]]\ntopics = [\"a\\u0000\"]", "must not contain the character U+0000"),
        ] {
            let error = load(toml).unwrap_err();
            assert!(error.contains(said), "{toml}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn flags_win_over_the_file() {
        let flags = Layer { http: Some("127.0.0.1:1".into()), ..Layer::default() };
        let file = Layer { http: Some("127.0.0.1:2".into()), shards: Some(3), ..Layer::default() };
        let both = flags.over(file);
        assert_eq!((both.http.as_deref(), both.shards), (Some("127.0.0.1:1"), Some(3)));
    }
}
