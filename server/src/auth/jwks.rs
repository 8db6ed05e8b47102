//! Keys that an issuer publishes at a URL. [RFC 7517]
//!
//! They are fetched when the hub starts, at an interval, and when a token has a key that isn't known: at most once in a while, however
//! many such tokens come. A fetch that fails, or brings nothing that can be used, leaves the keys as they were, until that is too long
//! ago.

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use bytes::{Bytes, BytesMut};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use jsonwebtoken::{Algorithm, jwk::Jwk};
use rustls::pki_types::{CertificateDer, ServerName};
use serde::Deserialize;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{Notify, mpsc, oneshot},
    time::Instant,
};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;
use url::{Host, Url};

use super::Key;
use crate::telemetry::{Limit, Metrics};

/// How keys are fetched.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// From one fetch to the next, if nothing else asks for one.
    pub refresh: Duration,
    /// From one fetch to the next, whoever asks.
    pub refetch_min: Duration,
    /// How long a fetch may take.
    pub time_max: Duration,
    /// The largest answer, in bytes.
    pub bytes_max: usize,
    /// How long keys are good that can't be fetched again: one that was taken back meanwhile would be good for as long.
    pub stale_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            refresh: Duration::from_secs(5 * 60),
            refetch_min: Duration::from_secs(30),
            time_max: Duration::from_secs(10),
            bytes_max: 256 * 1024,
            stale_max: Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// Where keys are published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeysUrl {
    /// By [`parse_url`].
    pub url: Url,
    /// What the keys are for; empty: every algorithm that a key's kind has.
    pub algorithms: Vec<Algorithm>,
    /// Who vouches for the server; empty: whom the system trusts.
    pub authorities: Vec<CertificateDer<'static>>,
}

impl From<Url> for KeysUrl {
    fn from(url: Url) -> Self {
        Self { url, algorithms: vec![], authorities: vec![] }
    }
}

/// The keys at a URL, kept fresh for as long as this lives.
pub struct Jwks {
    at: KeysUrl,
    keys: Fetched,
    ask: mpsc::Sender<oneshot::Sender<()>>,
    _task: AbortOnDropHandle<()>,
}

/// None until there were any.
type Fetched = Arc<ArcSwapOption<Vec<Arc<Key>>>>;

/// Who hears what becomes of keys.
#[derive(Debug, Clone)]
pub(super) struct Told {
    /// That keys are good no more which were.
    pub(super) lost: Arc<Notify>,
    pub(super) metrics: Arc<Metrics>,
}

/// A set of keys.
#[derive(Debug)]
pub struct KeySet {
    /// Those that can be used, at most [`KeySet::KEYS_MAX`].
    pub keys: Vec<Key>,
    /// There were more of them.
    pub is_cut: bool,
}

/// A URL that keys can't be fetched from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} can't be asked for keys: it is https, or http on this machine, without credentials")]
pub struct BadUrl(String);

/// Checks a URL to fetch keys from: whoever can change the answer can let anybody in.
pub fn parse_url(text: &str) -> Result<Url, BadUrl> {
    let bad = || BadUrl(text.to_owned());
    let url = Url::parse(text).map_err(|_| bad())?;
    let local = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    let fine = url.scheme() == "https" || url.scheme() == "http" && local;
    if fine && url.username().is_empty() && url.password().is_none() { Ok(url) } else { Err(bad()) }
}

/// The keys of a set that can be used; those that can't are left out, as is what isn't understood. [RFC 7517 §5]
pub fn parse_set(json: &[u8], allowed: &[Algorithm]) -> Result<KeySet, serde_json::Error> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<Value>,
    }
    let Set { keys } = serde_json::from_slice(json)?;
    let mut usable = keys.into_iter().filter_map(|key| {
        let jwk: Jwk = serde_json::from_value(key).ok()?;
        Key::jwk(&jwk, allowed).inspect_err(|error| tracing::debug!(%error, "a key of a set is left out")).ok()
    });
    let keys = usable.by_ref().take(KeySet::KEYS_MAX).collect();
    Ok(KeySet { keys, is_cut: usable.next().is_some() })
}

impl KeySet {
    /// The most keys of a set: a token without a `kid` may be tried with each.
    pub const KEYS_MAX: usize = 32;
}

impl Jwks {
    /// Begins to fetch. Must be called on a tokio runtime.
    pub(super) fn start(at: KeysUrl, limits: Limits, told: Told) -> Self {
        let keys = Arc::new(ArcSwapOption::empty());
        let (ask, asked) = mpsc::channel(ASKED_MAX);
        let fetcher = Fetcher { at: at.clone(), limits, keys: keys.clone(), told, confirmed: None };
        Self { at, keys, ask, _task: AbortOnDropHandle::new(tokio::spawn(fetcher.keep_fresh(asked))) }
    }

    /// Whether these are the keys that are published there.
    pub(super) fn is_of(&self, at: &KeysUrl) -> bool {
        self.at == *at
    }

    /// The keys as they were fetched last; none if they never could be, or not for too long.
    pub(super) fn keys(&self) -> Option<Arc<Vec<Arc<Key>>>> {
        self.keys.load_full()
    }

    /// Fetches them again, if it hasn't been done just now, and waits until that is over.
    pub(super) async fn refresh(&self) {
        let (done, over) = oneshot::channel();
        // Where too many wait already, one more would learn nothing that they don't.
        if self.ask.try_send(done).is_ok() {
            let _ = over.await;
        }
    }
}

impl fmt::Debug for Jwks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwks").field("url", &self.at.url.as_str()).finish_non_exhaustive()
    }
}

/// Fetches the keys, again and again.
struct Fetcher {
    at: KeysUrl,
    limits: Limits,
    keys: Fetched,
    told: Told,
    /// When they were fetched last, if they are there.
    confirmed: Option<Instant>,
}

impl Fetcher {
    async fn keep_fresh(mut self, mut asked: mpsc::Receiver<oneshot::Sender<()>>) {
        // Those who wait for the fetch that is under way. They are told by being dropped.
        let mut waiting = Vec::new();
        loop {
            let begin = Instant::now();
            if let Err(error) = self.fetch_keys(begin).await {
                self.do_without(&*error);
            }
            waiting.clear();
            while asked.try_recv().is_ok() {}
            let soonest = begin + self.limits.refetch_min;
            let next =
                self.confirmed.map_or(soonest, |at| (begin + self.limits.refresh).min(at + self.limits.stale_max));
            loop {
                tokio::select! {
                    () = tokio::time::sleep_until(next) => break,
                    asker = asked.recv() => match asker {
                        None => return,
                        // They look again, and find what they knew.
                        Some(_) if Instant::now() < soonest => {}
                        Some(asker) => {
                            waiting.push(asker);
                            break;
                        }
                    },
                }
            }
        }
    }

    async fn fetch_keys(&mut self, now: Instant) -> Result<(), FetchError> {
        let Limits { time_max, bytes_max, .. } = self.limits;
        let json = match tokio::time::timeout(time_max, fetch(&self.at, bytes_max)).await {
            Ok(fetched) => fetched.inspect_err(|error| {
                if error.is::<TooLong>() {
                    self.told.metrics.reached(Limit::JwksBytes);
                }
            })?,
            Err(_) => {
                self.told.metrics.reached(Limit::JwksTime);
                return Err("it took too long".into());
            }
        };
        let KeySet { keys: mut set, is_cut } = parse_set(&json, &self.at.algorithms)?;
        if is_cut {
            self.told.metrics.reached(Limit::JwksKeys);
            tracing::warn!(url = self.at.url.as_str(), "of the keys there the first {} are used", KeySet::KEYS_MAX);
        }
        // A secret that is published is none.
        set.retain(|key| !key.is_secret());
        if set.is_empty() {
            return Err("no key there can be used".into());
        }
        let before = self.keys.swap(Some(Arc::new(set.iter().cloned().map(Arc::new).collect())));
        self.confirmed = Some(now);
        if before.is_some_and(|before| before.iter().any(|key| !set.contains(key))) {
            self.told.lost.notify_one();
        }
        Ok(())
    }

    /// Goes on with the keys that are there, unless they are too old.
    fn do_without(&mut self, error: &(dyn std::error::Error + Send + Sync + 'static)) {
        let url = self.at.url.as_str();
        if self.confirmed.is_some_and(|at| at.elapsed() >= self.limits.stale_max) {
            tracing::error!(url, error, "the keys couldn't be fetched for too long, and are good no more");
            self.keys.store(None);
            self.confirmed = None;
            self.told.lost.notify_one();
        } else {
            tracing::warn!(url, error, "the keys stay as they were");
        }
    }
}

type FetchError = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, thiserror::Error)]
#[error("it has more than {0} bytes")]
struct TooLong(usize);

/// Gets what is there, if it is 200 and not too long. Redirects aren't followed: whoever they lead to isn't whom the configuration trusts.
async fn fetch(at: &KeysUrl, bytes_max: usize) -> Result<Bytes, FetchError> {
    let url = &at.url;
    let host = url.host().ok_or("the url has no host")?;
    let name = match &host {
        Host::Domain(name) => (*name).to_owned(),
        Host::Ipv4(address) => address.to_string(),
        Host::Ipv6(address) => address.to_string(),
    };
    let port = url.port_or_known_default().ok_or("the url has no port")?;
    let stream = TcpStream::connect((name.as_str(), port)).await?;
    if url.scheme() == "http" {
        return get(url, stream, bytes_max).await;
    }
    let authorities = at.authorities.clone();
    let config = tokio::task::spawn_blocking(move || tls_config(authorities)).await??;
    let stream = TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(name)?, stream).await?;
    get(url, stream, bytes_max).await
}

/// Trusts these, or whom the system trusts.
fn tls_config(mut authorities: Vec<CertificateDer<'static>>) -> Result<rustls::ClientConfig, FetchError> {
    if authorities.is_empty() {
        authorities = rustls_native_certs::load_native_certs().certs;
    }
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(authorities);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

async fn get<S>(url: &Url, stream: S, bytes_max: usize) -> Result<Bytes, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut requests, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let path = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let request = Request::get(path)
        .header(header::HOST, url.authority())
        .header(header::ACCEPT, "application/jwk-set+json, application/json")
        .header(header::USER_AGENT, concat!("fanwire/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())?;
    let exchange = async {
        let mut response = requests.send_request(request).await?;
        if response.status().is_redirection() {
            return Err(format!("it answered {}, and redirects aren't followed", response.status()).into());
        }
        if response.status() != StatusCode::OK {
            return Err(format!("it answered {}", response.status()).into());
        }
        let mut body = BytesMut::new();
        while let Some(frame) = response.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            if body.len() + data.len() > bytes_max {
                return Err(TooLong(bytes_max).into());
            }
            body.extend_from_slice(&data);
        }
        Ok(body.freeze())
    };
    let mut connection = std::pin::pin!(connection);
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        biased;
        done = &mut exchange => done,
        // The connection may end with the answer's last byte.
        ended = &mut connection => {
            ended?;
            exchange.await
        }
    }
}

/// The most who wait for a fetch.
const ASKED_MAX: usize = 1024;
