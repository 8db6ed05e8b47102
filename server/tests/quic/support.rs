//! A server that does as the path says, and clients to ask it.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use fanwire::transport::quic::{
    Close, ConnectionError, Ended, Handler, Peer, ReadError, RequestBody, ResponseSender, Session, SessionOffer,
    StreamEnd, WriteError, connection::Limits, endpoint, serve,
};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::{
    sync::mpsc,
    task::{JoinHandle, LocalSet, spawn_local},
};
use tokio_util::sync::CancellationToken;

/// An identity, and TLS with it.
pub(crate) fn tls() -> (Arc<rustls::ServerConfig>, CertificateDer<'static>) {
    let identity = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let certificate = identity.cert.der().clone();
    let key = PrivateKeyDer::try_from(identity.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    (Arc::new(tls), certificate)
}

/// A client that trusts it.
pub(crate) fn client_config(certificate: &CertificateDer<'static>) -> quinn::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    quinn::ClientConfig::new(Arc::new(quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap()))
}

/// How long anything here may take before it is taken for hung.
const PATIENCE: Duration = Duration::from_secs(20);

/// What happened in the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Report {
    Session(Ended),
    Feed(StreamEnd),
    Accepted(u64),
    Stream(String),
    Read(ReadError),
    Write(WriteError),
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) drain: CancellationToken,
    /// Drops the connections.
    pub(crate) abort: CancellationToken,
    /// How often the connections were polled, all together.
    pub(crate) polls: Rc<Cell<usize>>,
    /// Lets `/gated` be answered.
    pub(crate) gate: CancellationToken,
    reports: mpsc::UnboundedReceiver<Report>,
    ended: mpsc::UnboundedReceiver<Result<(), ConnectionError>>,
    certificate: CertificateDer<'static>,
    _accepting: JoinHandle<()>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with(endpoint::Config::default(), Limits::default())
    }

    pub(crate) fn with(config: endpoint::Config, limits: Limits) -> Self {
        let (tls, certificate) = tls();
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = socket.local_addr().unwrap();
        let endpoint = endpoint::build(socket, tls, &config).unwrap();

        let (report, reports) = mpsc::unbounded_channel();
        let (end, ended) = mpsc::unbounded_channel();
        let drain = CancellationToken::new();
        let gate = CancellationToken::new();
        let abort = CancellationToken::new();
        let polls = Rc::new(Cell::new(0));
        let handler = PathHandler { report, gate: gate.clone(), drain: drain.clone(), held: Rc::default() };
        let accepting = spawn_local({
            let (drain, abort, polls) = (drain.clone(), abort.clone(), polls.clone());
            async move {
                while let Some(incoming) = endpoint.accept().await {
                    let mut serving = Box::pin(serve(incoming, handler.clone(), limits, drain.clone()));
                    let (end, abort, polls) = (end.clone(), abort.clone(), polls.clone());
                    let serving = poll_fn(move |cx| {
                        polls.set(polls.get() + 1);
                        serving.as_mut().poll(cx)
                    });
                    spawn_local(async move {
                        if let Some(result) = abort.run_until_cancelled(serving).await {
                            let _ = end.send(result);
                        }
                    });
                }
            }
        });
        Self { address, drain, abort, polls, gate, reports, ended, certificate, _accepting: accepting }
    }

    pub(crate) fn url(&self, path: &str) -> url::Url {
        format!("https://{}{path}", self.address).parse().unwrap()
    }

    pub(crate) async fn report(&mut self) -> Report {
        self.reports.recv().await.unwrap()
    }

    /// How the next connection that ends has ended.
    pub(crate) async fn ended(&mut self) -> Result<(), ConnectionError> {
        self.ended.recv().await.unwrap()
    }

    pub(crate) fn client_config(&self) -> quinn::ClientConfig {
        client_config(&self.certificate)
    }

    pub(crate) async fn connect(&self) -> quinn::Connection {
        let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        endpoint.connect_with(self.client_config(), self.address, "127.0.0.1").unwrap().await.unwrap()
    }

    /// The client of web-transport-quinn.
    pub(crate) async fn session(
        &self,
        path: &str,
    ) -> Result<web_transport_quinn::Session, web_transport_quinn::ClientError> {
        let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        web_transport_quinn::Client::new(endpoint, self.client_config()).connect(self.url(path)).await
    }
}

/// Runs a test on a shard's kind of runtime, with a bound on its time.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = LocalSet::new();
    let timely = async { tokio::time::timeout(PATIENCE, test).await.expect("the test hangs") };
    local.block_on(&runtime, timely);
}

#[derive(Clone)]
struct PathHandler {
    report: mpsc::UnboundedSender<Report>,
    gate: CancellationToken,
    drain: CancellationToken,
    held: Rc<RefCell<Vec<fanwire::transport::quic::SendStream>>>,
}

impl Handler for PathHandler {
    fn request(
        &self,
        _: Peer,
        request: Request<RequestBody>,
        response: ResponseSender,
    ) -> impl Future<Output = ()> + 'static + use<> {
        let this = self.clone();
        async move {
            match request.uri().path() {
                "/echo" => {
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    let mut stream = response.send_response(Response::new(())).await.unwrap();
                    stream.send_data(body).await.unwrap();
                    stream.finish().await.unwrap();
                }
                "/feed" => {
                    let mut stream = response.send_response(Response::new(())).await.unwrap();
                    stream.send_chunks(&mut [Bytes::from("fir"), Bytes::from("st")]).await.unwrap();
                    let closed = stream.closed();
                    tokio::select! {
                        end = closed => { this.report.send(Report::Feed(end)).unwrap(); }
                        () = this.drain.cancelled() => {
                            stream.send_data(Bytes::from("last")).await.unwrap();
                            stream.finish().await.unwrap();
                        }
                    }
                }
                "/panic" => panic!("as the path says"),
                _ => {
                    let mut head = Response::new(());
                    *head.status_mut() = StatusCode::NOT_FOUND;
                    response.send_response(head).await.unwrap().finish().await.unwrap();
                }
            }
        }
    }

    fn webtransport(&self, _: Peer, offer: SessionOffer) -> impl Future<Output = ()> + 'static + use<> {
        let this = self.clone();
        async move {
            let path = offer.request().uri().path().to_owned();
            match path.as_str() {
                "/echo" => this.echo(offer.accept(None).await.unwrap()).await,
                "/gated" => {
                    this.gate.cancelled().await;
                    this.echo(offer.accept(None).await.unwrap()).await;
                }
                "/protocol" => this.echo(offer.accept(Some("fanwire \"1\"")).await.unwrap()).await,
                "/close" => {
                    let session = offer.accept(None).await.unwrap();
                    session.close(Close::new(4001, "enough")).await;
                    this.report.send(Report::Session(session.closed().await)).unwrap();
                }
                "/drain" => {
                    let session = offer.accept(None).await.unwrap();
                    session.drain();
                    this.report.send(Report::Session(session.closed().await)).unwrap();
                }
                "/flood" => {
                    let session = offer.accept(None).await.unwrap();
                    let mut feed = session.open_uni().await.unwrap();
                    let error = loop {
                        if let Err(error) = feed.write_all_chunks(&mut [Bytes::from(vec![0; 64 * 1024])]).await {
                            break error;
                        }
                    };
                    this.report.send(Report::Write(error)).unwrap();
                }
                "/codes" => {
                    let session = offer.accept(None).await.unwrap();
                    let (mut send, mut recv) = session.accept_bi().await.unwrap();
                    send.write_all_chunks(&mut [Bytes::from("x")]).await.unwrap();
                    let error = loop {
                        if let Err(error) = recv.read_chunk(1).await {
                            break error;
                        }
                    };
                    this.report.send(Report::Read(error)).unwrap();
                    this.report.send(Report::Feed(send.stopped().await)).unwrap();
                    let error = send.write_all_chunks(&mut [Bytes::from("x")]).await.unwrap_err();
                    this.report.send(Report::Write(error)).unwrap();
                    let (send, recv) = session.accept_bi().await.unwrap();
                    send.reset(11);
                    recv.stop(12);
                    session.closed().await;
                }
                "/drop" => drop(offer.accept(None).await.unwrap()),
                "/hold" => {
                    let session = offer.accept(None).await.unwrap();
                    let mut feed = session.open_uni().await.unwrap();
                    feed.write_all_chunks(&mut [Bytes::from("held")]).await.unwrap();
                    this.held.borrow_mut().push(feed);
                    session.accept_bi().await;
                    session.close(Close::default()).await;
                }
                "/panic" => {
                    let _session = offer.accept(None).await.unwrap();
                    panic!("as the path says");
                }
                "/silent" => drop(offer),
                _ => offer.refuse(StatusCode::NOT_FOUND).await,
            }
        }
    }
}

impl PathHandler {
    /// Says hello on a stream of its own, echoes the peer's bidirectional ones, and reports what comes on the others.
    async fn echo(&self, session: Session) {
        self.report.send(Report::Accepted(session.id())).unwrap();
        let mut hello = session.open_uni().await.unwrap();
        hello.write_all_chunks(&mut [Bytes::from("hel"), Bytes::new(), Bytes::from("lo")]).await.unwrap();
        hello.finish();
        loop {
            tokio::select! {
                Some((mut send, mut recv)) = session.accept_bi() => {
                    spawn_local(async move {
                        while let Ok(Some(chunk)) = recv.read_chunk(64 * 1024).await {
                            send.write_all_chunks(&mut [chunk]).await.unwrap();
                        }
                        send.finish();
                    });
                }
                Some(mut recv) = session.accept_uni() => {
                    let mut text = BytesMut::new();
                    while let Ok(Some(chunk)) = recv.read_chunk(64 * 1024).await {
                        text.extend_from_slice(&chunk);
                    }
                    self.report.send(Report::Stream(String::from_utf8(text.to_vec()).unwrap())).unwrap();
                }
                ended = session.closed() => {
                    self.report.send(Report::Session(ended)).unwrap();
                    return;
                }
            }
        }
    }
}

/// An HTTP/3 client on a connection whose streams are within reach.
pub(crate) struct Http3 {
    pub(crate) connection: quinn::Connection,
    pub(crate) requests: h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>,
    pub(crate) driver: Option<h3::client::Connection<h3_quinn::Connection, Bytes>>,
}

pub(crate) type RequestStream = h3::client::RequestStream<h3_quinn::BidiStream<Bytes>, Bytes>;

impl Http3 {
    pub(crate) async fn connect(server: &Server) -> Self {
        let mut http3 = Self::undriven(server).await;
        http3.drive();
        http3
    }

    /// It doesn't learn the server's settings, and so doesn't keep to them.
    pub(crate) async fn undriven(server: &Server) -> Self {
        let connection = server.connect().await;
        let (driver, requests) = h3::client::builder()
            .enable_datagram(true)
            .enable_extended_connect(true)
            .build(h3_quinn::Connection::new(connection.clone()))
            .await
            .unwrap();
        Self { connection, requests, driver: Some(driver) }
    }

    pub(crate) fn drive(&mut self) {
        let mut driver = self.driver.take().unwrap();
        spawn_local(async move { driver.wait_idle().await });
    }

    pub(crate) async fn send(&mut self, request: Request<()>) -> RequestStream {
        self.requests.send_request(request).await.unwrap()
    }

    pub(crate) async fn get(&mut self, path: &str) -> RequestStream {
        let mut stream = self.send(Request::get(format!("https://127.0.0.1{path}")).body(()).unwrap()).await;
        stream.finish().await.unwrap();
        stream
    }

    pub(crate) async fn connect_session(&mut self, path: &str) -> RequestStream {
        let request = Request::connect(format!("https://127.0.0.1{path}"));
        self.send(request.extension(h3::ext::Protocol::WEB_TRANSPORT).body(()).unwrap()).await
    }

    /// A stream of a session; `session` may be one that is yet to come.
    pub(crate) async fn open_bi(&self, session: u64) -> (quinn::SendStream, quinn::RecvStream) {
        let (mut send, recv) = self.connection.open_bi().await.unwrap();
        send.write_all(&[0x40, 0x41, u8::try_from(session).unwrap()]).await.unwrap();
        (send, recv)
    }
}

/// The rest of a response's body, or the code that it was cut off with.
pub(crate) async fn body(stream: &mut RequestStream) -> Result<Vec<u8>, h3::error::StreamError> {
    let mut body = Vec::new();
    while let Some(piece) = stream.recv_data().await? {
        body.extend_from_slice(bytes::Buf::chunk(&piece));
    }
    Ok(body)
}

/// The code of HTTP/3 that a peer's reset had.
pub(crate) fn reset_code(error: &h3::error::StreamError) -> u64 {
    match error {
        h3::error::StreamError::RemoteTerminate { code, .. } => code.value(),
        other => panic!("not a reset: {other:?}"),
    }
}
