//! Publishing over HTTP. [PROTOCOL §6]

use std::time::{Duration, Instant};

use bytes::Bytes;
use fanwire_protocol::{Cursor, message::Refusal};
use http_body_util::Full;
use hyper::{HeaderMap, Request, StatusCode, header};

use crate::{
    ConnectError, HttpVersion, HubError, Options, Publication, Published, Source,
    backoff::Backoff,
    http::{HttpConnection, Wanted, hub_error},
    target::{Place, headers},
};

/// Publishes to one hub, over a connection that is opened with the first request, kept, and opened again when it has ended.
///
/// A request is sent again only if nothing of it had been sent; anything else would publish an event twice. No other retries, but with
/// [`Publisher::retry_for`].
#[derive(Debug)]
pub struct Publisher {
    options: Options,
    version: HttpVersion,
    retry_for: Duration,
    /// Taken out while a request is under way: one that is given up takes its connection with it.
    http: Option<HttpConnection>,
}

/// An answer as it came.
#[derive(Debug, Clone)]
pub struct HttpAnswer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Publisher {
    /// A publisher for the hub of these options. Matchers don't matter.
    pub fn new(options: Options, version: HttpVersion) -> Self {
        Self { options, version, retry_for: Duration::ZERO, http: None }
    }

    /// Tries a request again for so long, from the first failure on, while the hub can't be reached, doesn't answer or asks for patience
    /// (429, 503). Each request gets an `Idempotency-Key` of its own, so that no event is published twice, whatever was lost; what has a
    /// key already keeps it. [PROTOCOL §6.4]
    pub fn retry_for(mut self, time: Duration) -> Self {
        self.retry_for = time;
        self
    }

    /// Publishes an event as JSON.
    pub async fn publish(&mut self, publication: &Publication) -> Result<Published, PublishError> {
        let body = json(publication);
        let answer = self.accepted("application/json", body.into()).await?;
        self.read(&answer.body)
    }

    /// Publishes an event as a form, as every Mercure hub takes it. What isn't text can't be.
    pub async fn publish_form(&mut self, publication: &Publication) -> Result<Published, PublishError> {
        let form = publication.to_form().ok_or(PublishError::NotText)?;
        let answer = self.accepted("application/x-www-form-urlencoded", form.into()).await?;
        let id = std::str::from_utf8(&answer.body).map_err(|_| self.unreadable("its id isn't utf-8"))?;
        Ok(Published { id: id.to_owned(), cursor: id.parse().ok() })
    }

    /// Publishes events in one request, and gives a result for each. The hub takes at most 10,000 of them and 8 MiB.
    pub async fn publish_batch(
        &mut self,
        publications: &[Publication],
    ) -> Result<Vec<Result<Published, Refusal>>, PublishError> {
        let mut lines = Vec::new();
        for publication in publications {
            write_json(&mut lines, publication);
            lines.push(b'\n');
        }
        let answer = self.accepted("application/x-ndjson", lines.into()).await?;
        let lines = answer.body.split(|&byte| byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
        let result = |line: &[u8]| {
            let neither = || self.unreadable("a line has neither an id nor an error");
            self.read::<Line>(line)?.into_result().ok_or_else(neither)
        };
        let results = lines.map(result).collect::<Result<Vec<_>, _>>()?;
        if results.len() != publications.len() {
            let (got, sent) = (results.len(), publications.len());
            return Err(self.unreadable(format!("it has {got} lines for {sent} events")));
        }
        Ok(results)
    }

    /// Posts anything, and gives the answer as it is, whatever its status.
    pub async fn post(&mut self, content_type: &str, body: Bytes) -> Result<HttpAnswer, PublishError> {
        let after = self.options.request_timeout;
        let mut request = Request::post(self.options.url.as_str())
            .body(Full::new(body))
            .map_err(|error| ConnectError::http(&self.options.url, error))?;
        *request.headers_mut() = headers(&self.options);
        let content_type = header::HeaderValue::from_str(content_type)
            .map_err(|error| ConnectError::http(&self.options.url, error))?;
        request.headers_mut().insert(header::CONTENT_TYPE, content_type);
        if !self.retry_for.is_zero() && !request.headers().contains_key("idempotency-key") {
            let random = || getrandom::u64().map_err(|error| PublishError::Entropy(error.to_string()));
            let key = format!("{:016x}{:016x}", random()?, random()?);
            let key =
                header::HeaderValue::try_from(key).map_err(|error| ConnectError::http(&self.options.url, error))?;
            request.headers_mut().insert("idempotency-key", key);
        }
        let (mut backoff, mut deadline) = (Backoff::new(self.options.retry), None);
        loop {
            let answer = tokio::time::timeout(after, self.exchange(request.clone())).await.unwrap_or_else(|_| {
                let place = Place::of(&self.options.url)?.to_string();
                Err(PublishError::Timeout { place, after })
            });
            let Some(asked) = may_work_later(&answer) else { return answer };
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + self.retry_for);
            let Some(wait) = backoff.fail(asked, getrandom::u64().unwrap_or(u64::MAX)) else { return answer };
            if Instant::now() + wait > deadline {
                return answer;
            }
            tracing::debug!(?answer, ?wait, "a publish request is tried again");
            tokio::time::sleep(wait).await;
        }
    }

    async fn accepted(&mut self, content_type: &str, body: Bytes) -> Result<HttpAnswer, PublishError> {
        let answer = self.post(content_type, body).await?;
        if answer.status == StatusCode::OK {
            return Ok(answer);
        }
        Err(PublishError::Refused(hub_error(&self.options.url, answer.status, &answer.headers, &answer.body)))
    }

    async fn exchange(&mut self, mut request: Request<Full<Bytes>>) -> Result<HttpAnswer, PublishError> {
        let url = &self.options.url;
        let cut = |error: hyper::Error| PublishError::Cut { url: url.to_string(), source: error.into() };
        let mut kept = self.http.take();
        let (mut http, response) = loop {
            let (mut http, fresh) = match kept.take() {
                Some(http) => (http, false),
                None => (self.open().await?, true),
            };
            match http.send(url, request).await {
                Ok(response) => break (http, response),
                Err((_, Some(unsent))) if !fresh => request = unsent,
                Err((error, _)) => return Err(cut(error)),
            }
        };
        let (head, body) = response.into_parts();
        let (body, whole) = http.read_body(body, ANSWER_BYTES_MAX).await.map_err(cut)?;
        if !whole {
            return Err(self.unreadable(format!("it is longer than {ANSWER_BYTES_MAX} bytes")));
        }
        self.http = Some(http);
        Ok(HttpAnswer { status: head.status, headers: head.headers, body })
    }

    async fn open(&self) -> Result<HttpConnection, ConnectError> {
        let wanted = match self.version {
            HttpVersion::Auto => Wanted::Either,
            HttpVersion::H1 => Wanted::H1,
            HttpVersion::H2 => Wanted::H2,
        };
        let after = self.options.connect_timeout;
        let opened = HttpConnection::open(&self.options, &self.options.url, wanted);
        tokio::time::timeout(after, opened).await.unwrap_or_else(|_| {
            let place = Place::of(&self.options.url)?.to_string();
            Err(ConnectError::Timeout { place, after })
        })
    }

    fn read<T: serde::de::DeserializeOwned>(&self, json: &[u8]) -> Result<T, PublishError> {
        serde_json::from_slice(json).map_err(|error| self.unreadable(error.to_string()))
    }

    fn unreadable(&self, why: impl Into<String>) -> PublishError {
        PublishError::Answer { url: self.options.url.to_string(), why: why.into() }
    }
}

fn json(publication: &Publication) -> Vec<u8> {
    let mut json = Vec::new();
    write_json(&mut json, publication);
    json
}

fn write_json(out: &mut Vec<u8>, publication: &Publication) {
    serde_json::to_writer(out, publication).expect("plain data with string keys, into memory");
}

/// Whether another try may have another outcome, and how long the hub wants to be left alone.
fn may_work_later(answer: &Result<HttpAnswer, PublishError>) -> Option<Option<Duration>> {
    match answer {
        Ok(answer) if matches!(answer.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) => {
            let after = answer.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            Some(after.map(Duration::from_secs))
        }
        Err(PublishError::Connect(error)) => (!error.is_terminal()).then(|| error.retry_after()),
        Err(PublishError::Cut { .. } | PublishError::Timeout { .. }) => Some(None),
        _ => None,
    }
}

/// One line of the answer to a batch: an error, or what was published.
#[derive(serde::Deserialize)]
struct Line {
    error: Option<Refusal>,
    id: Option<String>,
    cursor: Option<Cursor>,
}

impl Line {
    /// None for a line that is neither.
    fn into_result(self) -> Option<Result<Published, Refusal>> {
        match (self.error, self.id) {
            (Some(error), _) => Some(Err(error)),
            (None, Some(id)) => Some(Ok(Published { id, cursor: self.cursor })),
            (None, None) => None,
        }
    }
}

/// Why something wasn't published, or may not have been.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// There is no connection. Nothing was published.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The hub refused it. Nothing was published.
    #[error(transparent)]
    Refused(Box<HubError>),
    /// The connection broke before the answer came. It may have been published.
    #[error("{url} didn't answer: the event may have been published or not")]
    Cut {
        /// What was asked.
        url: String,
        /// What the HTTP library said.
        #[source]
        source: Source,
    },
    /// The answer didn't come in time. It may have been published.
    #[error("{place} didn't answer within {} ms: the event may have been published or not", .after.as_millis())]
    Timeout {
        /// `host:port`.
        place: String,
        /// How long the client waited.
        after: Duration,
    },
    /// The hub said yes in words that aren't the protocol's.
    #[error("the answer of {url} can't be read: {why}")]
    Answer {
        /// What was asked.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The system gives no randomness for a key.
    #[error("no idempotency key can be made: {0}")]
    Entropy(String),
    /// Only text can be published as a form.
    #[error("binary data can't be published as a form")]
    NotText,
}

/// 10,000 lines with the longest ids and some words.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
