//! Requests over every version of HTTP, by clients that aren't ours.

use std::{fmt, net::Ipv4Addr, sync::Arc};

use bytes::{Buf, Bytes};
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;

use crate::{TestHub, soon, tls, wire::tcp};

/// A version of HTTP, in cleartext or in TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.1 in cleartext.
    H1,
    /// HTTP/1.1 in TLS.
    H1Tls,
    /// HTTP/2 with prior knowledge.
    H2c,
    /// HTTP/2 in TLS.
    H2Tls,
    /// HTTP/3.
    H3,
}

impl Version {
    /// Every version.
    pub const ALL: [Self; 5] = [Self::H1, Self::H1Tls, Self::H2c, Self::H2Tls, Self::H3];

    /// Whether it is served in TLS.
    pub fn is_tls(self) -> bool {
        matches!(self, Self::H1Tls | Self::H2Tls | Self::H3)
    }
}

/// A request to be made.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The method.
    pub method: Method,
    /// The path and the query.
    pub path: String,
    /// The host that is asked, if not the hub's address.
    pub authority: Option<String>,
    /// More headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Bytes,
}

impl Ask {
    /// A `GET`.
    pub fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), authority: None, headers: vec![], body: Bytes::new() }
    }

    /// A `POST` to `/events`.
    pub fn post(content_type: &str, body: impl Into<Bytes>) -> Self {
        let headers = vec![("content-type", content_type.to_owned())];
        Self { method: Method::POST, headers, body: body.into(), ..Self::get("/events") }
    }

    /// With another method.
    pub fn method(self, method: Method) -> Self {
        Self { method, ..self }
    }

    /// With a header.
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// For another host.
    pub fn authority(self, authority: impl Into<String>) -> Self {
        Self { authority: Some(authority.into()), ..self }
    }

    /// Asks the hub, and gives its answer's head, and the body to be read.
    pub async fn over(self, version: Version, hub: &TestHub) -> Answer {
        soon(Box::pin(self.exchange(version, hub))).await
    }

    /// Asks the hub, and reads the answer to its end.
    pub async fn whole(self, version: Version, hub: &TestHub) -> Whole {
        let mut answer = self.over(version, hub).await;
        let body = answer.rest().await;
        Whole { status: answer.status, headers: std::mem::take(&mut answer.headers), body }
    }

    async fn exchange(self, version: Version, hub: &TestHub) -> Answer {
        let address = if version.is_tls() { hub.running().https() } else { hub.running().http() };
        let address = address.expect("it serves that");
        let authority = self.authority.clone().unwrap_or_else(|| address.to_string());
        let scheme = if version.is_tls() { "https" } else { "http" };
        let uri = match version {
            Version::H1 | Version::H1Tls => self.path.clone(),
            _ => format!("{scheme}://{authority}{}", self.path),
        };
        let mut request = Request::builder().method(self.method).uri(uri);
        if matches!(version, Version::H1 | Version::H1Tls) {
            request = request.header(header::HOST, &authority);
        }
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        if version == Version::H3 {
            let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).expect("a socket");
            let connecting = endpoint.connect_with(tls::quic_config(), address, "127.0.0.1").expect("a configuration");
            let connection = h3_quinn::Connection::new(connecting.await.expect("a handshake"));
            let (mut driver, mut requests) = h3::client::new(connection).await.expect("HTTP/3");
            let driver = tokio::spawn(async move {
                driver.wait_idle().await;
                drop(endpoint);
            });
            let mut stream = requests.send_request(request.body(()).expect("a request")).await.expect("sent");
            if !self.body.is_empty() {
                // A hub that has refused the head may have stopped the body.
                let _ = stream.send_data(self.body).await;
            }
            let _ = stream.finish().await;
            let head = stream.recv_response().await.expect("an answer").into_parts().0;
            let body = Body::H3 { stream: Box::new(stream), _requests: requests };
            return Answer { status: head.status, headers: head.headers, body, driver: driver.abort_handle() };
        }
        let request = request.body(Full::new(self.body)).expect("a request");
        let stream = tcp(address).await;
        let (response, driver) = match version {
            Version::H1 => h1(TokioIo::new(stream), request).await,
            Version::H2c => h2(TokioIo::new(stream), request).await,
            Version::H1Tls => h1(TokioIo::new(in_tls(stream, b"http/1.1").await), request).await,
            _ => h2(TokioIo::new(in_tls(stream, b"h2").await), request).await,
        };
        let (head, body) = response.into_parts();
        Answer { status: head.status, headers: head.headers, body: Body::Tcp(body), driver }
    }
}

async fn in_tls(stream: tokio::net::TcpStream, alpn: &[u8]) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
    let connector = TlsConnector::from(Arc::new(tls::config(&[alpn])));
    connector.connect(tls::server_name(), stream).await.expect("a handshake")
}

type Exchange = (http::Response<Incoming>, AbortHandle);

async fn h1<S>(stream: TokioIo<S>, request: Request<Full<Bytes>>) -> Exchange
where
    TokioIo<S>: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (mut requests, connection) = hyper::client::conn::http1::handshake(stream).await.expect("HTTP/1.1");
    let driver = tokio::spawn(connection).abort_handle();
    (requests.send_request(request).await.expect("an answer"), driver)
}

async fn h2<S>(stream: TokioIo<S>, request: Request<Full<Bytes>>) -> Exchange
where
    TokioIo<S>: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await;
    let (mut requests, connection) = handshake.expect("HTTP/2");
    let driver = tokio::spawn(connection).abort_handle();
    (requests.send_request(request).await.expect("an answer"), driver)
}

/// An answer whose body is still to be read. Dropped, its connection ends.
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    body: Body,
    driver: AbortHandle,
}

enum Body {
    Tcp(Incoming),
    H3 {
        stream: Box<h3::client::RequestStream<h3_quinn::BidiStream<Bytes>, Bytes>>,
        /// The connection is closed when it is dropped.
        _requests: h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>,
    },
}

impl Answer {
    /// The next piece of the body; none at its end.
    ///
    /// # Panics
    /// If the body breaks off.
    pub async fn piece(&mut self) -> Option<Bytes> {
        match &mut self.body {
            Body::Tcp(body) => loop {
                let frame = body.frame().await?.expect("a body that doesn't break off");
                if let Ok(data) = frame.into_data() {
                    return Some(data);
                }
            },
            Body::H3 { stream, .. } => {
                let mut piece = stream.recv_data().await.expect("a body that doesn't break off")?;
                Some(piece.copy_to_bytes(piece.remaining()))
            }
        }
    }

    /// Reads until the text ends with this.
    pub async fn until(&mut self, ending: &str) -> String {
        let mut text = Vec::new();
        while !text.ends_with(ending.as_bytes()) {
            match soon(self.piece()).await {
                Some(piece) => text.extend_from_slice(&piece),
                None => panic!("the body ended with {:?}", String::from_utf8_lossy(&text)),
            }
        }
        String::from_utf8(text).expect("text")
    }

    /// The rest of the body.
    pub async fn rest(&mut self) -> Bytes {
        let mut bytes = Vec::new();
        while let Some(piece) = soon(self.piece()).await {
            bytes.extend_from_slice(&piece);
        }
        bytes.into()
    }

    /// A header as text; empty if it isn't there.
    pub fn header(&self, name: &str) -> &str {
        text(&self.headers, name)
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("status", &self.status).field("headers", &self.headers).finish_non_exhaustive()
    }
}

/// An answer that was read to its end.
#[derive(Debug)]
pub struct Whole {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Whole {
    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    /// The code of a refusal; empty if it is none.
    pub fn code(&self) -> String {
        let json: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        json["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    /// A header as text; empty if it isn't there.
    pub fn header(&self, name: &str) -> &str {
        text(&self.headers, name)
    }

    /// The challenge of a refusal, without where the metadata is, which each has to have; empty if there is none.
    pub fn challenge(&self) -> &str {
        let challenge = self.header("www-authenticate");
        if challenge.is_empty() {
            return "";
        }
        let url = "https://hub.example/.well-known/oauth-protected-resource/.well-known/mercure";
        let rest = challenge.strip_suffix(&format!(" resource_metadata=\"{url}\""));
        rest.unwrap_or_else(|| panic!("{challenge}")).trim_end_matches(',')
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map_or("", |value| value.to_str().expect("text"))
}
