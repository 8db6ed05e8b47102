//! Small servers on port 0. A test's function says what each request is answered.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use fanwire_client::{CertificateHash, Options, Transport, Trust};
use fanwire_protocol::{
    Event, Seq,
    frame::{self, Decoder},
    message::Message,
    sse,
};
use futures_util::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, StreamBody, combinators::UnsyncBoxBody};
use hyper::{HeaderMap, Method, Request, Response, StatusCode, body::Frame, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;
use url::Url;

/// A thing that a hub says in a feed.
#[derive(Debug, Clone)]
pub(crate) enum Say {
    Message(Message),
    Event {
        prev: Seq,
        event: Event,
    },
    /// Bytes as they are: SSE text, or frames.
    Raw(Vec<u8>),
}

/// What happens after the last word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// Nothing, for ever.
    Hold,
    /// The stream ends as streams do.
    End,
    /// The connection breaks.
    Cut,
}

/// What a request is answered.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) says: Vec<Say>,
    /// What comes in datagrams, on WebTransport, before all that is said.
    pub(crate) datagrams: Vec<Vec<Say>>,
    /// So many bytes of what is said come at a time.
    pub(crate) chunk_bytes: usize,
    /// What is said breaks off after so many bytes.
    pub(crate) bytes_max: usize,
    pub(crate) then: Then,
}

impl Script {
    pub(crate) fn feed(says: Vec<Say>, then: Then) -> Self {
        let headers = vec![("content-type", "text/event-stream".to_owned())];
        let datagrams = vec![];
        Self { status: 200, headers, says, datagrams, chunk_bytes: usize::MAX, bytes_max: usize::MAX, then }
    }

    pub(crate) fn answer(status: u16, headers: Vec<(&'static str, String)>, body: &str) -> Self {
        Self { status, headers, ..Self::feed(vec![Say::Raw(body.into())], Then::End) }
    }

    /// The bytes, in the pieces in which they come.
    fn chunks(&self, frames: bool) -> Vec<Bytes> {
        let mut bytes = said(&self.says, frames);
        bytes.truncate(self.bytes_max);
        bytes.chunks(self.chunk_bytes).map(Bytes::copy_from_slice).collect()
    }
}

fn said(says: &[Say], frames: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    for say in says {
        match say {
            Say::Raw(raw) => bytes.extend_from_slice(raw),
            Say::Message(message) if frames => bytes.extend_from_slice(&message_frame(message)),
            Say::Event { prev, event } if frames => {
                let body = frame::event_body(event);
                frame::put_event_head(&mut bytes, *prev, body.len());
                bytes.extend_from_slice(&body);
            }
            Say::Message(message) => bytes.extend_from_slice(&sse::control_message(message)),
            Say::Event { event, .. } => bytes.extend_from_slice(&sse::event_with_control_id(event)),
        }
    }
    bytes
}

pub(crate) fn message_frame(message: &Message) -> Bytes {
    match message {
        Message::Hello(hello) => frame::json(frame::HELLO, hello),
        Message::Gap(gap) => frame::json(frame::GAP, gap),
        Message::Changed(changed) => frame::json(frame::CHANGED, changed),
        Message::Ping(ping) => frame::json(frame::PING, ping),
        Message::Bye(bye) => frame::json(frame::BYE, bye),
    }
}

/// A request as a hub sees it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) path: String,
    /// Decoded.
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Seen {
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|pair| pair.0 == name).map(|pair| &*pair.1)
    }
}

type Answer = dyn Fn(usize, &Seen) -> Script + Send + Sync;

/// What the servers of a test share.
#[derive(Clone)]
struct Room {
    answer: Arc<Answer>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Room {
    fn script(&self, seen: Seen) -> Script {
        let mut all = self.seen.lock().unwrap();
        let script = (self.answer)(all.len(), &seen);
        all.push(seen);
        script
    }
}

/// A server; what it has begun ends with the test's runtime.
pub(crate) struct Hub {
    pub(crate) url: String,
    pub(crate) hash: CertificateHash,
    pub(crate) address: SocketAddr,
    room: Room,
}

/// How a hub serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Serve {
    H1,
    H1Tls,
    H2c,
    H2Tls,
    H3,
    WebTransport,
}

impl Serve {
    /// The usual way to serve a transport.
    pub(crate) fn usual(transport: Transport) -> Self {
        match transport {
            Transport::WebTransport => Self::WebTransport,
            Transport::SseH1 => Self::H1,
            Transport::SseH2 => Self::H2Tls,
            Transport::SseH3 => Self::H3,
        }
    }
}

impl Hub {
    pub(crate) async fn start(serve: Serve, answer: impl Fn(usize, &Seen) -> Script + Send + Sync + 'static) -> Self {
        let room = Room { answer: Arc::new(answer), seen: Arc::default() };
        let identity = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (certificate, key) = (identity.cert.der().clone(), identity.signing_key.serialize_der());
        let hash = CertificateHash::of(&certificate);
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (scheme, address) = match serve {
            Serve::H1 | Serve::H2c => {
                let listener = TcpListener::bind(any).await.unwrap();
                let address = listener.local_addr().unwrap();
                tokio::spawn(accept(listener, None, serve, room.clone()));
                ("http", address)
            }
            Serve::H1Tls | Serve::H2Tls => {
                let alpn: &[u8] = if serve == Serve::H2Tls { b"h2" } else { b"http/1.1" };
                let tls = TlsAcceptor::from(Arc::new(server_config(certificate, key, alpn)));
                let listener = TcpListener::bind(any).await.unwrap();
                let address = listener.local_addr().unwrap();
                tokio::spawn(accept(listener, Some(tls), serve, room.clone()));
                ("https", address)
            }
            Serve::H3 | Serve::WebTransport => {
                let crypto = server_config(certificate, key, b"h3");
                let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(crypto).unwrap();
                let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
                let endpoint = quinn::Endpoint::server(config, any).unwrap();
                let address = endpoint.local_addr().unwrap();
                if serve == Serve::H3 {
                    tokio::spawn(accept_h3(endpoint, room.clone()));
                } else {
                    tokio::spawn(accept_webtransport(endpoint, room.clone()));
                }
                ("https", address)
            }
        };
        Self { url: format!("{scheme}://{address}/events"), hash, address, room }
    }

    /// A hub with one script for everybody.
    pub(crate) async fn saying(serve: Serve, script: Script) -> Self {
        Self::start(serve, move |_, _| script.clone()).await
    }

    /// Options that get a client in.
    pub(crate) fn options(&self) -> Options {
        Options::new(&self.url).unwrap().trust(Trust::Pinned(vec![self.hash])).topic("*").unwrap()
    }

    /// The requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.room.seen.lock().unwrap().clone()
    }
}

fn server_config(certificate: CertificateDer<'static>, key: Vec<u8>, alpn: &[u8]) -> rustls::ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], PrivatePkcs8KeyDer::from(key).into())
        .unwrap();
    config.alpn_protocols = vec![alpn.to_vec()];
    config
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, serve: Serve, room: Room) {
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let (tls, room) = (tls.clone(), room.clone());
        tokio::spawn(async move {
            match tls {
                None => connection(tcp, serve, room).await,
                // A handshake that fails is the client's affair.
                Some(tls) => {
                    if let Ok(stream) = tls.accept(tcp).await {
                        connection(stream, serve, room).await;
                    }
                }
            }
        });
    }
}

async fn connection(io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, serve: Serve, room: Room) {
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let room = room.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            Ok::<_, Infallible>(respond(&room.script(seen(&head.method, &head.uri, head.headers, body))))
        }
    });
    // How a connection ends is the test's affair.
    if matches!(serve, Serve::H2c | Serve::H2Tls) {
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(io), service)
            .await;
    } else {
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(io), service).await;
    }
}

fn seen(method: &Method, uri: &hyper::Uri, headers: HeaderMap, body: Bytes) -> Seen {
    let query = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
    Seen { method: method.clone(), path: uri.path().to_owned(), query, headers, body }
}

fn respond(script: &Script) -> Response<UnsyncBoxBody<Bytes, std::io::Error>> {
    let mut response = Response::builder().status(script.status);
    for (name, value) in &script.headers {
        response = response.header(*name, value);
    }
    let chunks = stream::iter(script.chunks(false).into_iter().map(|chunk| Ok(Frame::data(chunk))));
    let body = match script.then {
        Then::Hold => StreamBody::new(chunks.chain(stream::pending()).boxed()).boxed_unsync(),
        Then::End => StreamBody::new(chunks).boxed_unsync(),
        Then::Cut => {
            // hyper drops what it hasn't written when a body fails; a turn of the loop lets it write.
            let cut = stream::once(async {
                tokio::task::yield_now().await;
                Err(std::io::Error::other("cut"))
            });
            StreamBody::new(chunks.chain(cut)).boxed_unsync()
        }
    };
    response.body(body).unwrap()
}

async fn accept_h3(endpoint: quinn::Endpoint, room: Room) {
    while let Some(incoming) = endpoint.accept().await {
        let room = room.clone();
        tokio::spawn(async move {
            let Ok(quic) = incoming.await else { return };
            let mut h3 =
                h3::server::Connection::<_, Bytes>::new(h3_quinn::Connection::new(quic.clone())).await.unwrap();
            while let Ok(Some(resolver)) = h3.accept().await {
                let (quic, room) = (quic.clone(), room.clone());
                tokio::spawn(async move {
                    let Ok((request, mut stream)) = resolver.resolve_request().await else { return };
                    let (head, ()) = request.into_parts();
                    let script = room.script(seen(&head.method, &head.uri, head.headers, Bytes::new()));
                    let mut response = Response::builder().status(script.status);
                    for (name, value) in &script.headers {
                        response = response.header(*name, value);
                    }
                    // The client may go at any time.
                    let _ = stream.send_response(response.body(()).unwrap()).await;
                    for chunk in script.chunks(false) {
                        let _ = stream.send_data(chunk).await;
                    }
                    match script.then {
                        Then::Hold => drop(quic.closed().await),
                        Then::End => drop(stream.finish().await),
                        Then::Cut => quic.close(CUT, b""),
                    }
                });
            }
        });
    }
}

async fn accept_webtransport(endpoint: quinn::Endpoint, room: Room) {
    let mut server = web_transport_quinn::Server::new(endpoint);
    while let Some(request) = server.accept().await {
        let room = room.clone();
        tokio::spawn(async move {
            let path_and_query = &request.url[url::Position::BeforePath..];
            let uri = path_and_query.parse().unwrap();
            let script = room.script(seen(&Method::CONNECT, &uri, request.headers.clone(), Bytes::new()));
            if script.status != 200 {
                // A connection that nobody holds is closed, with what it hasn't sent.
                let quic = request.conn().clone();
                request.reject(StatusCode::from_u16(script.status).unwrap()).await.unwrap();
                return drop(quic.closed().await);
            }
            let session = request.ok().await.unwrap();
            tokio::spawn(control(session.clone(), room.clone()));
            for says in &script.datagrams {
                session.send_datagram(said(says, true).into()).unwrap();
            }
            let mut feed = session.open_uni().await.unwrap();
            for chunk in script.chunks(true) {
                let _ = feed.write_all(&chunk).await;
            }
            match script.then {
                Then::Hold => {}
                Then::End => feed.finish().unwrap(),
                Then::Cut => return (*session).close(CUT, b""),
            }
            session.closed().await;
        });
    }
}

/// A control stream as a test sees it: each request is one with the method `CONNECT`, the path of its type and its JSON as a body. The
/// script's text is the answer, in which `ID` stands for the request's id.
async fn control(session: web_transport_quinn::Session, room: Room) {
    let Ok((mut send, mut receive)) = session.accept_bi().await else { return };
    let mut decoder = Decoder::new(frame::REQUEST_BYTES_MAX);
    while let Ok(Some(chunk)) = receive.read_chunk(usize::MAX, true).await {
        decoder.feed(&chunk.bytes);
        while let Some(request) = decoder.next().unwrap() {
            let json: serde_json::Value = serde_json::from_slice(&request.payload).unwrap();
            let path = format!("/{:#04x}", request.kind).parse().unwrap();
            let script = room.script(seen(&Method::CONNECT, &path, HeaderMap::new(), request.payload));
            for say in script.says {
                let Say::Raw(text) = say else { panic!("an answer is text") };
                let text = String::from_utf8(text).unwrap().replace("ID", &json["request_id"].to_string());
                let mut answer = Vec::new();
                frame::put_varint(&mut answer, frame::ANSWER);
                frame::put_varint(&mut answer, text.len() as u64);
                answer.extend_from_slice(text.as_bytes());
                let _ = send.write_all(&answer).await;
            }
        }
    }
}

/// An address at which UDP is never answered.
pub(crate) fn silent_udp() -> (std::net::UdpSocket, Url) {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("https://{}/events", socket.local_addr().unwrap()).parse().unwrap();
    (socket, url)
}

/// A hub's `/.well-known/fanwire`.
pub(crate) fn offer(webtransport: Option<(&str, Option<CertificateHash>)>) -> Script {
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    let webtransport = webtransport.map(|(url, hash)| {
        let hashes = hash
            .iter()
            .map(|hash| serde_json::json!({"algorithm": "sha-256", "value": BASE64_STANDARD.encode(hash.0)}));
        serde_json::json!({"url": url, "certificate_hashes": hashes.collect::<Vec<_>>()})
    });
    let body = serde_json::json!({"version": 1, "name": "fanwire", "events": "/events", "webtransport": webtransport});
    Script::answer(200, vec![("content-type", "application/json".to_owned())], &body.to_string())
}

const CUT: quinn::VarInt = quinn::VarInt::from_u32(0x10c);
