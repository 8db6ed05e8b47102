//! One HTTP connection over TCP: HTTP/1.1 or HTTP/2, driven by whoever waits for it.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use fanwire_protocol::message::Refusal;
use http_body_util::Full;
use hyper::{
    HeaderMap, Request, Response, StatusCode, Version,
    body::{Body as _, Incoming},
    client::conn::{http1, http2},
    header,
};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;
use url::Url;

use crate::{ConnectError, HubError, Options, dial, dial::Stream, target::Place};

/// Which version to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    H1,
    H2,
    /// HTTP/2 if TLS negotiates it.
    Either,
}

/// An HTTP connection. Nothing runs in the background for HTTP/1.1; HTTP/2's own tasks end with it.
pub(crate) struct HttpConnection {
    sender: Sender,
    /// None once it has ended.
    driver: Option<Driver>,
    tasks: Tasks,
}

enum Sender {
    H1(http1::SendRequest<Full<Bytes>>),
    H2(http2::SendRequest<Full<Bytes>>),
}

type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;
type Io = TokioIo<Box<dyn Stream>>;

impl HttpConnection {
    /// Connects to where a URL points.
    pub(crate) async fn open(options: &Options, url: &Url, wanted: Wanted) -> Result<Self, ConnectError> {
        let place = Place::of(url)?;
        let alpn: &[&[u8]] = match wanted {
            Wanted::H1 => &[b"http/1.1"],
            Wanted::H2 => &[b"h2"],
            Wanted::Either => &[b"h2", b"http/1.1"],
        };
        let secure = url.scheme() == "https";
        let (stream, chosen) = dial::tcp(options, &place, secure, alpn).await?;
        let chosen_h2 = chosen.as_deref() == Some(b"h2");
        if secure && wanted == Wanted::H2 && !chosen_h2 {
            return Err(ConnectError::Version { place: place.to_string(), version: "http/2" });
        }
        let h2 = chosen_h2 || wanted == Wanted::H2;
        Self::handshake(TokioIo::new(stream), h2).await.map_err(|error| ConnectError::http(url, error))
    }

    async fn handshake(io: Io, h2: bool) -> hyper::Result<Self> {
        let tasks = Tasks::default();
        let (sender, driver): (_, Driver) = if h2 {
            let (sender, driver) = http2::Builder::new(tasks.clone())
                .initial_stream_window_size(WINDOW_BYTES)
                .initial_connection_window_size(WINDOW_BYTES)
                .max_header_list_size(HEAD_BYTES_MAX)
                .handshake(io)
                .await?;
            (Sender::H2(sender), Box::pin(driver))
        } else {
            let (sender, driver) = http1::Builder::new().max_buf_size(H1_BUFFER_BYTES).handshake(io).await?;
            (Sender::H1(sender), Box::pin(driver))
        };
        Ok(Self { sender, driver: Some(driver), tasks })
    }

    /// The version that it speaks.
    pub(crate) fn version(&self) -> Version {
        match self.sender {
            Sender::H1(_) => Version::HTTP_11,
            Sender::H2(_) => Version::HTTP_2,
        }
    }

    /// Sends a request and waits for the head of its answer. The request comes back if nothing of it was sent.
    pub(crate) async fn send(
        &mut self,
        url: &Url,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, (hyper::Error, Option<Request<Full<Bytes>>>)> {
        let Self { sender, driver, .. } = self;
        let sent = async {
            match sender {
                Sender::H1(sender) => {
                    if let Err(error) = sender.ready().await {
                        return Err((error, Some(request)));
                    }
                    // HTTP/1.1 has the path alone in its first line, and the host in a header.
                    if let Ok(host) = header::HeaderValue::from_str(url.authority()) {
                        request.headers_mut().insert(header::HOST, host);
                    }
                    if let Some(path) = request.uri().path_and_query() {
                        *request.uri_mut() = path.clone().into();
                    }
                    sender.try_send_request(request).await.map_err(taken_apart)
                }
                Sender::H2(sender) => match sender.ready().await {
                    Ok(()) => sender.try_send_request(request).await.map_err(taken_apart),
                    Err(error) => Err((error, Some(request))),
                },
            }
        };
        let mut sent = pin!(sent);
        poll_fn(|cx| {
            drive(driver, cx);
            sent.as_mut().poll(cx)
        })
        .await
    }

    /// The next bytes of an answer; none at its end.
    pub(crate) fn poll_data(
        &mut self,
        body: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Bytes>>> {
        loop {
            drive(&mut self.driver, cx);
            match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => return Poll::Ready(Some(Ok(data))),
                    Err(_trailers) => {}
                },
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// A whole body, or its first `bytes_max` and whether that is all.
    pub(crate) async fn read_body(&mut self, mut body: Incoming, bytes_max: usize) -> hyper::Result<(Bytes, bool)> {
        let mut whole = BytesMut::new();
        while let Some(part) = poll_fn(|cx| self.poll_data(&mut body, cx)).await {
            let part = part?;
            let room = bytes_max - whole.len();
            if part.len() > room {
                whole.extend_from_slice(&part[..room]);
                return Ok((whole.freeze(), false));
            }
            whole.extend_from_slice(&part);
        }
        Ok((whole.freeze(), true))
    }

    /// Makes an error of an answer, with as much of its body as comes soon.
    pub(crate) async fn refused(&mut self, url: &Url, response: Response<Incoming>) -> Box<HubError> {
        let (head, body) = response.into_parts();
        let body = tokio::time::timeout(ERROR_WAIT, self.read_body(body, ERROR_BYTES_MAX)).await;
        let body = body.ok().and_then(Result::ok).map(|(body, _)| body).unwrap_or_default();
        hub_error(url, head.status, &head.headers, &body)
    }
}

impl Drop for HttpConnection {
    fn drop(&mut self) {
        self.tasks.abort();
    }
}

impl fmt::Debug for HttpConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpConnection").field("version", &self.version()).finish_non_exhaustive()
    }
}

/// Moves a connection on. How it ends shows in its requests and bodies.
fn drive(driver: &mut Option<Driver>, cx: &mut Context<'_>) {
    if let Some(running) = driver
        && let Poll::Ready(ended) = running.as_mut().poll(cx)
    {
        tracing::debug!(?ended, "an http connection ended");
        *driver = None;
    }
}

fn taken_apart<B>(mut error: hyper::client::conn::TrySendError<Request<B>>) -> (hyper::Error, Option<Request<B>>) {
    let unsent = error.take_message();
    (error.into_error(), unsent)
}

/// Reads the hub's `{"error": {"code", "message"}}`, or makes the best of what is there instead. [PROTOCOL §2.3]
pub(crate) fn hub_error(url: &Url, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Box<HubError> {
    #[derive(serde::Deserialize)]
    struct Answer {
        error: Refusal,
    }
    let (code, message) = match serde_json::from_slice(body) {
        Ok(Answer { error: Refusal { code, message } }) => (code, message),
        Err(_) => {
            let text = String::from_utf8_lossy(body);
            let first = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
            let message = match headers.get(header::LOCATION).and_then(|value| value.to_str().ok()) {
                Some(location) if status.is_redirection() => format!("use {location}"),
                _ => first.chars().filter(|c| !c.is_control()).take(STRANGERS_CHARS_MAX).collect(),
            };
            (String::new(), message)
        }
    };
    let retry_after = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = retry_after.and_then(|value| value.trim().parse().ok()).map(Duration::from_secs);
    Box::new(HubError { url: url.to_string(), status: status.as_u16(), code, message, retry_after })
}

/// HTTP/2's tasks of one connection.
#[derive(Clone, Default)]
struct Tasks(Arc<Mutex<JoinSet<()>>>);

impl Tasks {
    fn abort(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}

impl<F: Future<Output: Send> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, task: F) {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async {
            task.await;
        });
    }
}

/// What may come ahead of the reader, in HTTP/2.
const WINDOW_BYTES: u32 = 1024 * 1024;
/// The same in HTTP/1.1; also the longest head.
const H1_BUFFER_BYTES: usize = 64 * 1024;
const HEAD_BYTES_MAX: u32 = 64 * 1024;
const ERROR_BYTES_MAX: usize = 64 * 1024;
const ERROR_WAIT: Duration = Duration::from_secs(5);
const STRANGERS_CHARS_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_the_hubs_or_the_best_that_can_be_made() {
        let url = Url::parse("http://h/events").unwrap();
        let mut headers = HeaderMap::new();
        let body = br#"{"error": {"code": "no_matcher", "message": "say what"}, "more": 1}"#;
        let error = hub_error(&url, StatusCode::BAD_REQUEST, &headers, body);
        assert_eq!(error.to_string(), "http://h/events answered 400 no_matcher: say what");
        assert!(error.is_terminal());

        headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static("7"));
        let error = hub_error(&url, StatusCode::BAD_GATEWAY, &headers, b"\n<html>Bad\x07 Gateway\n</html>");
        assert_eq!(error.to_string(), "http://h/events answered 502: <html>Bad Gateway");
        assert_eq!(error.retry_after, Some(Duration::from_secs(7)));
        assert!(!error.is_terminal());
        assert_eq!(hub_error(&url, StatusCode::FORBIDDEN, &headers, b"").to_string(), "http://h/events answered 403");

        headers.insert(header::LOCATION, header::HeaderValue::from_static("https://h/events"));
        let error = hub_error(&url, StatusCode::PERMANENT_REDIRECT, &headers, b"moved");
        assert_eq!((&*error.message, error.is_terminal()), ("use https://h/events", true));
    }
}
