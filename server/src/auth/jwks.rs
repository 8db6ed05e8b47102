//! Keys that an issuer publishes at a URL. [RFC 7517]
//!
//! They are fetched when the hub starts, at an interval, and when a token has a key that isn't known: at most once in a while, however
//! many such tokens come. A fetch that fails, or brings nothing that can be used, leaves the keys as they were.

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use bytes::{Bytes, BytesMut};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use jsonwebtoken::{Algorithm, jwk::Jwk};
use rustls::pki_types::ServerName;
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
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            refresh: Duration::from_secs(5 * 60),
            refetch_min: Duration::from_secs(30),
            time_max: Duration::from_secs(10),
            bytes_max: 256 * 1024,
        }
    }
}

/// The keys at a URL, kept fresh for as long as this lives.
pub struct Jwks {
    url: Url,
    allowed: Vec<Algorithm>,
    keys: Fetched,
    ask: mpsc::Sender<oneshot::Sender<()>>,
    _task: AbortOnDropHandle<()>,
}

/// None until there were any.
type Fetched = Arc<ArcSwapOption<Vec<Arc<Key>>>>;

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
pub fn parse_set(json: &[u8], allowed: &[Algorithm]) -> Result<Vec<Key>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<Value>,
    }
    let Set { keys } = serde_json::from_slice(json)?;
    let usable = keys.into_iter().filter_map(|key| {
        let jwk: Jwk = serde_json::from_value(key).ok()?;
        Key::jwk(&jwk, allowed).inspect_err(|error| tracing::debug!(%error, "a key of a set is left out")).ok()
    });
    Ok(usable.take(KEYS_MAX).collect())
}

impl Jwks {
    /// Begins to fetch. Must be called on a tokio runtime. `lost` is told when a key isn't published any more.
    pub fn start(url: Url, allowed: Vec<Algorithm>, limits: Limits, lost: Arc<Notify>) -> Self {
        let keys = Arc::new(ArcSwapOption::empty());
        let (ask, asked) = mpsc::channel(ASKED_MAX);
        let task = tokio::spawn(keep_fresh(url.clone(), allowed.clone(), limits, (keys.clone(), lost), asked));
        Self { url, allowed, keys, ask, _task: AbortOnDropHandle::new(task) }
    }

    /// Whether these are the keys of a URL, for these algorithms.
    pub(super) fn is_of(&self, url: &Url, allowed: &[Algorithm]) -> bool {
        (&self.url, &*self.allowed) == (url, allowed)
    }

    /// The keys as they were fetched last; none if they never could be.
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
        f.debug_struct("Jwks").field("url", &self.url.as_str()).finish_non_exhaustive()
    }
}

async fn keep_fresh(
    url: Url,
    allowed: Vec<Algorithm>,
    limits: Limits,
    (keys, lost): (Fetched, Arc<Notify>),
    mut asked: mpsc::Receiver<oneshot::Sender<()>>,
) {
    // Those who wait for the fetch that is under way. They are told by being dropped.
    let mut waiting = Vec::new();
    loop {
        let begin = Instant::now();
        let fetched = tokio::time::timeout(limits.time_max, fetch(&url, limits.bytes_max)).await;
        let fetched = fetched.unwrap_or_else(|_| Err("it took too long".into()));
        match fetched.and_then(|json| Ok(parse_set(&json, &allowed)?)) {
            Ok(mut set) => {
                // A secret that is published is none.
                set.retain(|key| !key.is_secret());
                if set.is_empty() {
                    tracing::warn!(url = url.as_str(), "no key there can be used; the keys stay as they were");
                } else {
                    let before = keys.swap(Some(Arc::new(set.iter().cloned().map(Arc::new).collect())));
                    if before.is_some_and(|before| before.iter().any(|key| !set.contains(key))) {
                        lost.notify_one();
                    }
                }
            }
            Err(error) => tracing::warn!(url = url.as_str(), error = &*error, "the keys stay as they were"),
        }
        waiting.clear();
        while asked.try_recv().is_ok() {}
        let soonest = begin + limits.refetch_min;
        let next = if keys.load().is_some() { begin + limits.refresh } else { soonest };
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

type FetchError = Box<dyn std::error::Error + Send + Sync>;

/// Gets what is there, if it is 200 and not too long. Redirects aren't followed.
async fn fetch(url: &Url, bytes_max: usize) -> Result<Bytes, FetchError> {
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
    let config = tokio::task::spawn_blocking(tls_config).await??;
    let stream = TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(name)?, stream).await?;
    get(url, stream, bytes_max).await
}

/// Trusts whom the system trusts.
fn tls_config() -> Result<rustls::ClientConfig, FetchError> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
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
        if response.status() != StatusCode::OK {
            return Err(format!("it answered {}", response.status()).into());
        }
        let mut body = BytesMut::new();
        while let Some(frame) = response.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            if body.len() + data.len() > bytes_max {
                return Err(format!("it has more than {bytes_max} bytes").into());
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

/// The most keys of a set; a token without a kid may be tried with each.
const KEYS_MAX: usize = 32;
/// The most who wait for a fetch.
const ASKED_MAX: usize = 1024;
