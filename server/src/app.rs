//! The life of a hub: `Config` → [`App`] (bound) → [`Running`] → drained. Only this room sees every other.

use std::{
    future::Future,
    io,
    net::{SocketAddr, TcpListener as StdTcpListener, UdpSocket},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use fanwire_certs::{CertResolver, Reload, quic_server_config, tcp_server_config};
use fanwire_protocol::{
    Epoch,
    message::{Bye, ByeCode},
};
use http::HeaderValue;
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    admission::{self, Admission, Admittance, Handshake},
    auth::{Auth, PageOrigin},
    config::Config,
    demo,
    fanout::{self, Feeds, Gate, LocalShard, Shards},
    http::{Access, Discovery, Edge, Site, metrics_router},
    hub::{Hub, Refused, now_ms},
    local,
    log::{DiskLog, MemoryLog, SharedLog, admin::ServedLog},
    subscriptions::{self, Subscriptions},
    telemetry::{Carrier, Limit, Metrics, open_descriptors},
    transport::{http3, quic, tcp},
};

/// A hub whose sockets are bound and whose certificate is loaded; it serves nothing yet.
#[derive(Debug)]
pub struct App {
    config: Config,
    http: Option<StdTcpListener>,
    https: Option<(StdTcpListener, UdpSocket)>,
    metrics: Option<StdTcpListener>,
    certificate: Option<Arc<CertResolver>>,
}

/// A hub that serves.
#[derive(Debug)]
pub struct Running {
    http: Option<SocketAddr>,
    https: Option<SocketAddr>,
    metrics: Option<SocketAddr>,
    certificate: Option<Arc<CertResolver>>,
    hub: Arc<Hub>,
    in_force: InForce,
    shards: Arc<Shards>,
    admission: Arc<Admission>,
    endpoints: Endpoints,
    /// Accept loops and what goes on in the background; aborted when the hub drains.
    tasks: JoinSet<()>,
}

/// What serves QUIC, on the shards.
#[derive(Debug, Default)]
struct Endpoints {
    /// Cancelled to close every connection.
    closing: CancellationToken,
    open: TaskTracker,
}

/// What a reload replaces.
#[derive(Debug)]
struct InForce {
    auth: Arc<Auth>,
    access: Arc<ArcSwap<Access>>,
    feeds: Feeds,
}

impl App {
    /// Binds the sockets and loads the certificate.
    pub fn bind(config: Config) -> Result<Self> {
        let http = config.http.map(|address| bind_tcp(address).with_context(|| busy("http", address))).transpose()?;
        let https =
            config.https.map(|address| bind_both(address).with_context(|| busy("https", address))).transpose()?;
        let metrics =
            config.metrics.map(|address| bind_tcp(address).with_context(|| busy("metrics", address))).transpose()?;
        // Last: it may make an identity, and says so.
        let certificate = config.identity.clone().map(|source| CertResolver::open(source, SystemTime::now()));
        let certificate = certificate.transpose()?.map(Arc::new);
        let warning = certificate.as_ref().and_then(|certificate| certificate.current().warning(SystemTime::now()));
        if let Some(warning) = warning {
            tracing::warn!("the certificate: {warning}");
        }
        Ok(Self { config, http, https, metrics, certificate })
    }

    /// Serves. Must be called on a tokio runtime, on which sockets are accepted; connections live on threads of their own.
    pub fn start(self) -> Result<Running> {
        let Self { config, http, https, metrics: metrics_listener, certificate } = self;
        let http_address = http.as_ref().map(StdTcpListener::local_addr).transpose()?;
        let https_address = https.as_ref().map(|(tcp, _)| tcp.local_addr()).transpose()?;
        let metrics_address = metrics_listener.as_ref().map(StdTcpListener::local_addr).transpose()?;
        let metrics = Arc::new(Metrics::new());
        let epoch = Epoch::from_bits(entropy());
        let mut tasks = JoinSet::new();
        let log: SharedLog = match &config.data_dir {
            None => Arc::new(MemoryLog::new(epoch, config.retention.clone(), entropy())),
            Some(directory) => {
                let log = Arc::new(DiskLog::open(directory, epoch, config.retention.clone(), config.fsync)?);
                match local::Listener::bind(directory) {
                    Ok(listener) => {
                        let admin = Arc::new(ServedLog::new(log.clone(), directory));
                        let router = local::router(admin, config.limits);
                        tasks.spawn(listener.serve(router, config.tcp.head, metrics.clone()));
                    }
                    Err(error) => {
                        let path = directory.join(local::SOCKET);
                        tracing::warn!(%error, "no socket at {}: `fanwire log` can't be used while this hub runs", path.display());
                    }
                }
                log
            }
        };
        let subscriptions = config.subscriptions_max.map(Subscriptions::new);
        let of_0x = config.mercure0.http || config.mercure0.https;
        let subscriptions = subscriptions.map(|it| Arc::new(if of_0x { it.telling_mercure0() } else { it }));
        let shards = fanout::Config {
            count: config.shards,
            limits: config.feed_limits,
            reads_max: config.reads_max,
            drain_spread_ms: config.limits.retry.as_millis() as u64,
            subscriptions: subscriptions.clone(),
        };
        let ports = [http_address, https_address].into_iter().flatten().map(|address| address.port());
        let auth = Arc::new(Auth::counted(config.auth.clone(), metrics.clone()));
        let access = Arc::new(ArcSwap::from_pointee(access(&config, ports.collect())));
        let gate = gate(auth.clone(), access.clone());
        let shards =
            Shards::start(&shards, &log, &gate, &metrics, entropy).context("can't start the shards' threads")?;
        let feeds = shards.feeds();
        let shards = Arc::new(shards);
        let hub = Hub::new(log.clone(), config.limits, config.auth.hub_url(), metrics.clone());
        let hub = Arc::new(hub.telling(subscriptions.clone()));
        let edge = Arc::new(Edge {
            hub: hub.clone(),
            auth: auth.clone(),
            access: access.clone(),
            feeds: feeds.clone(),
            discovery: Arc::new(Discovery { quic: https_address, certificate: certificate.clone() }),
        });
        let site = |speaks_0x| if speaks_0x { Site::of_mercure0(edge.clone()) } else { Site::new(edge.clone()) };
        let limits = within_descriptors(config.admission);
        let admission = Arc::new(Admission::new(limits, metrics.clone()));
        let cleartext = tcp::Service {
            site: site(config.mercure0.http),
            tls: None,
            alt_svc: None,
            limits: config.tcp,
            metrics: metrics.clone(),
            turned_away: None,
        };
        if let (Some(listener), Some(address)) = (metrics_listener, metrics_address) {
            let site = Site::from(metrics_router(metrics.clone(), address.ip().is_loopback()));
            // Whoever looks after the hub is let in however full it is.
            let limits = admission::Limits {
                connections_max: SCRAPES_MAX,
                connections_per_address_max: Some(SCRAPES_MAX),
                ..admission::Limits::default()
            };
            let admission = Arc::new(Admission::new(limits, metrics.clone()).of_metrics());
            let listener = TcpListener::from_std(listener)?;
            let service = tcp::Service { site, ..cleartext.clone() };
            tasks.spawn(accept_tcp(listener, shards.clone(), admission, service));
        }
        if let Some(listener) = http {
            let service = cleartext.clone();
            let listener = TcpListener::from_std(listener)?;
            tasks.spawn(accept_tcp(listener, shards.clone(), admission.clone(), service));
        }
        let endpoints = Endpoints::default();
        if let (Some((listener, socket)), Some(address), Some(certificate)) = (https, https_address, &certificate) {
            let tls = tcp_server_config(certificate.clone(), fanwire_certs::ALPN_TCP)?;
            let alt_svc = format!("h3=\":{}\"; ma=86400", address.port());
            let alt_svc = HeaderValue::from_str(&alt_svc).ok();
            let site = site(config.mercure0.https);
            let service = tcp::Service { site: site.clone(), tls: Some(Arc::new(tls)), alt_svc, ..cleartext };
            let listener = TcpListener::from_std(listener)?;
            tasks.spawn(accept_tcp(listener, shards.clone(), admission.clone(), service));
            let newcomers = Newcomers {
                service: http3::Service { site, edge, limits: config.quic },
                admission: admission.clone(),
                waiting: Arc::new(Semaphore::new(config.quic_endpoint.handshakes_waiting_max)),
            };
            endpoints.open((socket, certificate), &config.quic_endpoint, &newcomers, &shards, &metrics)?;
        }
        tasks.spawn(expire(log.clone()));
        if let Some(subscriptions) = subscriptions {
            tasks.spawn(subscriptions::tell(subscriptions, log, now_ms));
        }
        if let Some(certificate) = &certificate {
            tasks.spawn(reload(certificate.clone()));
        }
        tasks.spawn(close_the_withdrawn(auth.clone(), feeds.clone()));
        if config.demo {
            tasks.spawn(demo::publish(hub.clone()));
        }
        let in_force = InForce { auth, access, feeds };
        let (http, https, metrics) = (http_address, https_address, metrics_address);
        Ok(Running { http, https, metrics, certificate, hub, in_force, shards, admission, endpoints, tasks })
    }
}

impl Running {
    /// Where cleartext is served.
    pub fn http(&self) -> Option<SocketAddr> {
        self.http
    }

    /// Where TLS and QUIC are served.
    pub fn https(&self) -> Option<SocketAddr> {
        self.https
    }

    /// Where metrics are served.
    pub fn metrics(&self) -> Option<SocketAddr> {
        self.metrics
    }

    /// The certificate that is served, if any.
    pub fn certificate(&self) -> Option<&Arc<CertResolver>> {
        self.certificate.as_ref()
    }

    /// The hub itself.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Whether the hub looks at tokens.
    pub fn has_keys(&self) -> bool {
        self.in_force.auth.has_keys()
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.shards.connections()
    }

    /// How many QUIC handshakes are under way.
    pub fn handshakes(&self) -> usize {
        self.admission.handshakes()
    }

    /// Takes up who may use the hub from another configuration: issuers and what else is about tokens, origins, whether strangers may
    /// come. Feeds that it wouldn't let in any more are closed; says how many. Certificate files are looked at again, too. Nothing
    /// else changes.
    pub async fn reload(&self, config: &Config) -> usize {
        let InForce { auth, access: in_force, feeds } = &self.in_force;
        auth.replace(config.auth.clone());
        in_force.store(Arc::new(access(config, in_force.load().own_ports.clone())));
        if let Some(certificate) = &self.certificate {
            reload_certificate(certificate.clone()).await;
        }
        feeds.recheck().await
    }

    /// Every feed that is open.
    pub fn feeds(&self) -> &Feeds {
        &self.in_force.feeds
    }

    /// Takes no more connections, tells every subscriber, and waits for the connections to end; ends them after the
    /// deadline. True if all ended by themselves.
    pub async fn drain(mut self, deadline: Duration) -> bool {
        self.hub.begin_drain();
        // The accept loops hold the listeners, and the shards.
        self.tasks.shutdown().await;
        let Some(mut shards) = Arc::into_inner(self.shards) else { return false };
        let gracefully = shards.drain(deadline).await;
        if !gracefully {
            // While the shards still run, which send what the connections have to say.
            self.endpoints.closing.cancel();
            self.endpoints.open.close();
            let _ = tokio::time::timeout(2 * LAST_PACKETS, self.endpoints.open.wait()).await;
        }
        shards.stop().await;
        gracefully
    }
}

async fn accept_tcp(listener: TcpListener, shards: Arc<Shards>, admission: Arc<Admission>, service: tcp::Service) {
    let carrier = if service.tls.is_some() { Carrier::Tls } else { Carrier::Tcp };
    let mut complained: Option<Instant> = None;
    loop {
        let accepted = match listener.accept().await {
            Ok((stream, peer)) => stream.into_std().map(|stream| (stream, peer)),
            Err(error) => Err(error),
        };
        match accepted {
            Ok((stream, peer)) => {
                let (admitted, service) = match admission.admit(peer.ip(), carrier) {
                    Admittance::In(admitted) => (admitted, service.clone()),
                    Admittance::TurnedAway(admitted, limit) => {
                        let refused = Refused::too_many_connections(limit == Limit::ConnectionsPerAddress);
                        (admitted, service.clone().turning_away(refused))
                    }
                    Admittance::Closed => continue,
                };
                let serve = move |shard: Rc<LocalShard>, counted| {
                    shard.spawn_connection((counted, admitted), service.serve(shard.clone(), stream, peer));
                };
                shards.deal(serve).await;
            }
            // The client was gone before it was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                service.metrics.reached(Limit::Descriptors);
                if complained.is_none_or(|at| at.elapsed() > COMPLAINT_PAUSE) {
                    tracing::warn!(%error, "no connection can be accepted; trying again");
                    complained = Some(Instant::now());
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// What decides on clients that come over QUIC, the same on all shards.
#[derive(Debug, Clone)]
struct Newcomers {
    service: http3::Service,
    admission: Arc<Admission>,
    /// Handshakes that may still wait to be begun.
    waiting: Arc<Semaphore>,
}

impl Newcomers {
    /// Serves an endpoint's clients until the hub drains, or its connections are to be closed.
    async fn accept(self, shard: Rc<LocalShard>, endpoint: quic::link::Endpoint, closing: CancellationToken) {
        let service = Rc::new(self.service.clone());
        let accept = async {
            let mut begun = 0;
            while let Some(incoming) = endpoint.accept().await {
                self.begin(&shard, &service, incoming);
                begun += 1;
                if begun % BEGINNINGS_A_TURN == 0 {
                    tokio::task::yield_now().await;
                }
            }
        };
        tokio::select! {
            biased;
            () = shard.draining().cancelled() => {}
            () = closing.cancelled() => {}
            () = accept => {}
        }
        // Who comes now is refused, and needn't wait for an answer.
        endpoint.refuse_newcomers();
        tokio::select! {
            biased;
            () = closing.cancelled() => endpoint.close(quinn_proto::VarInt::from_u32(H3_NO_ERROR), b""),
            () = endpoint.wait_disowned() => {}
        }
        let _ = tokio::time::timeout(LAST_PACKETS, endpoint.wait_idle()).await;
    }

    fn begin(&self, shard: &Rc<LocalShard>, service: &Rc<http3::Service>, incoming: quic::link::Incoming) {
        let from = incoming.remote_address().ip();
        let under_way = match self.admission.handshake(from, incoming.remote_address_validated()) {
            Handshake::Begins(under_way) => under_way,
            // At the cost of a round trip, and of nothing here. [RFC 9000 §8.1.2]
            Handshake::Unproved => return incoming.retry(),
            Handshake::TooMany => return incoming.refuse(),
        };
        let Admittance::In(admitted) = self.admission.admit(from, Carrier::Quic) else { return incoming.refuse() };
        // Its client sends the packet again, when there may be room.
        let Ok(waits) = self.waiting.clone().try_acquire_owned() else {
            self.service.edge.hub.metrics().reached(Limit::HandshakesWaiting);
            return incoming.ignore();
        };
        let connection = service.clone().serve(shard.clone(), incoming, (waits, under_way));
        shard.spawn_connection((shard.count_connection(), admitted), connection);
    }
}

/// Leaves room for what else takes descriptors.
fn within_descriptors(limits: admission::Limits) -> admission::Limits {
    let descriptors = rlimit::getrlimit(rlimit::Resource::NOFILE).map(|(soft, _)| soft);
    let (Ok(descriptors), Some(open)) = (descriptors, open_descriptors()) else { return limits };
    let within = limits.within_descriptors(usize::try_from(descriptors).unwrap_or(usize::MAX), open);
    if within.tcp_connections_max < limits.connections_max {
        tracing::info!(
            descriptors,
            "this process may open {descriptors} descriptors: {} TCP connections, not the {} of connections_max, and {} from one address",
            within.tcp_connections_max,
            limits.connections_max,
            within.of_one()[1]
        );
    }
    within
}

impl Endpoints {
    /// One on each shard, or where the system can't do that one on the first, with all connections.
    fn open(
        &self,
        (socket, certificate): (UdpSocket, &Arc<CertResolver>),
        config: &quic::endpoint::Config,
        newcomers: &Newcomers,
        shards: &Shards,
        metrics: &Arc<Metrics>,
    ) -> Result<()> {
        let buffers = quic::endpoint::raise_socket_buffers(&socket)?;
        if buffers.is_short() {
            tracing::warn!(
                receive_bytes = buffers.receive_bytes,
                send_bytes = buffers.send_bytes,
                "the system gives small UDP buffers: bursts of handshakes will lose packets; raise net.core.rmem_max and wmem_max"
            );
        }
        let tls = quic_server_config(certificate.clone())?;
        let parts = quic::endpoint::share(socket, Arc::new(tls), config, shards.count(), metrics)?;
        let (works, opened): (Vec<_>, Vec<_>) = parts
            .into_iter()
            .map(|part| {
                let (open, opened) = std::sync::mpsc::sync_channel(1);
                let (newcomers, closing, is_open) = (newcomers.clone(), self.closing.clone(), self.open.token());
                let work = move |shard: Rc<LocalShard>| {
                    let endpoint = part.open().map(|(endpoint, driver)| {
                        shard.run_first(driver);
                        let accept = newcomers.accept(shard.clone(), endpoint, closing);
                        shard.spawn(async move {
                            accept.await;
                            drop(is_open);
                        });
                    });
                    let _ = open.send(endpoint);
                };
                (work, opened)
            })
            .unzip();
        shards.begin(works);
        // Shards that have just begun have nothing else to do.
        opened.into_iter().try_for_each(|opened| Ok(opened.recv().context("a shard can't begin")??))
    }
}

async fn expire(log: SharedLog) {
    every(EXPIRE_INTERVAL, || {
        log.expire(now_ms());
        std::future::ready(())
    })
    .await;
}

/// Rotates the development identity, and takes renewed certificate files up.
async fn reload(certificate: Arc<CertResolver>) {
    every(RELOAD_INTERVAL, || reload_certificate(certificate.clone())).await;
}

async fn reload_certificate(certificate: Arc<CertResolver>) {
    match tokio::task::spawn_blocking(move || certificate.reload(SystemTime::now())).await {
        Ok(Ok(Reload::Replaced)) => tracing::info!("the certificate was replaced"),
        Ok(Ok(_)) => {}
        Ok(Err(error)) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "the certificate stays as it was")
        }
        Err(error) => tracing::error!(%error, "the reload of the certificate failed"),
    }
}

/// Who may ask from where.
fn access(config: &Config, own_ports: Vec<u16>) -> Access {
    Access {
        loopback_only: config.is_loopback_only() && !config.allow_anonymous && config.auth.issuers.is_empty(),
        allowed_origins: config.allowed_origins.clone(),
        own_ports,
    }
}

/// Whether what a feed was let in with still holds.
fn gate(auth: Arc<Auth>, access: Arc<ArcSwap<Access>>) -> Gate {
    Gate::new(move |pass| {
        let allows = |page: &PageOrigin| access.load().allows_text(&page.origin, page.host.as_deref());
        if auth.withdrawn(pass) {
            Some(Bye::terminal(ByeCode::Revoked, "what had let this feed in was withdrawn"))
        } else if !pass.origin.as_ref().is_none_or(allows) {
            Some(Bye::terminal(ByeCode::Revoked, "pages of this origin may not use the hub any more"))
        } else {
            None
        }
    })
}

/// Closes what a key had let in that its issuer has taken back.
async fn close_the_withdrawn(auth: Arc<Auth>, feeds: Feeds) {
    loop {
        auth.keys_lost().await;
        let closed = feeds.recheck().await;
        tracing::info!(closed, "keys of an issuer are good no more");
    }
}

async fn every<F: Future<Output = ()>>(period: Duration, mut act: impl FnMut() -> F) {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        act().await;
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<StdTcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    // A restart must not wait for the connections of the last run to time out.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    Ok(socket.into())
}

/// TCP and UDP on the same port. With port 0 the system picks one for TCP, which may be taken for UDP: then another.
fn bind_both(address: SocketAddr) -> io::Result<(StdTcpListener, UdpSocket)> {
    let mut attempts = if address.port() == 0 { PORT_ATTEMPTS } else { 1 };
    loop {
        let tcp = bind_tcp(address)?;
        attempts -= 1;
        match UdpSocket::bind(tcp.local_addr()?) {
            Ok(udp) => return Ok((tcp, udp)),
            Err(error) if attempts == 0 => return Err(error),
            Err(_) => {}
        }
    }
}

fn busy(key: &str, address: SocketAddr) -> String {
    format!("can't listen on {address}; choose another with --{key}")
}

fn entropy() -> u64 {
    // Without entropy there is no TLS either.
    getrandom::u64().expect("the system has a source of randomness")
}

/// Connections that may ask for metrics at a time.
const SCRAPES_MAX: usize = 16;
const H3_NO_ERROR: u32 = 0x100;
/// How many clients a shard lets in over QUIC before others have their turn: what their handshakes take waits for turns of its own.
const BEGINNINGS_A_TURN: usize = 8;
/// Connections that the kernel holds until they are accepted.
const LISTEN_BACKLOG: i32 = 4096;
const PORT_ATTEMPTS: usize = 16;
/// From one complaint about the same trouble to the next.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(10);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const EXPIRE_INTERVAL: Duration = Duration::from_secs(1);
/// A development identity's successor is announced a day before it is needed.
const RELOAD_INTERVAL: Duration = Duration::from_secs(60 * 60);
/// For the packets that tell the peers that their connections are closed.
const LAST_PACKETS: Duration = Duration::from_secs(1);
