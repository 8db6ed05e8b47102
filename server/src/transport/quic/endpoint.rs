//! The UDP socket and the QUIC endpoint on it.

use std::{io, net::UdpSocket, sync::Arc, time::Duration};

use futures_util::future::LocalBoxFuture;
use quinn_proto::{
    EndpointConfig, IdleTimeout, MtuDiscoveryConfig, ServerConfig, TransportConfig, VarInt,
    crypto::rustls::{NoInitialCipherSuite, QuicServerConfig},
};
use socket2::SockRef;
use thiserror::Error;

use crate::telemetry::Metrics;

use super::{
    link,
    socket::Socket,
    spread::{self, Place},
};

/// What may be tuned of an endpoint. Everything else is a constant below, with its cost.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Silence after which a connection is taken for lost. A dead peer is noticed after exactly this time. At most some
    /// 146 million years; zero means never.
    pub idle_timeout: Duration,
    /// Silence after which a packet is sent to keep the connection, and the path's NAT entry, alive: for a feed with a
    /// long heartbeat. Must be below `idle_timeout` to be of any use. `None` leaves it to the peer. Costs a packet each
    /// way.
    pub keep_alive: Option<Duration>,
    /// Requests, sessions and their bidirectional streams that a peer may have open at a time. quinn-proto has room for every
    /// allowed stream ahead: with 16 of each kind an idle connection takes 1.4 KiB more than with these 14, which just fit its tables.
    pub bidi_streams_max: u32,
    /// Unidirectional streams that a peer may have open at a time. HTTP/3 itself uses three, a browser's GREASE a
    /// fourth.
    pub uni_streams_max: u32,
    /// Handshakes that wait to be taken from an endpoint, each of which costs a few KiB: it drops the first packets of more. Whoever takes them
    /// is to begin with no more than as many at a time.
    pub handshakes_waiting_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            idle_timeout: Duration::from_secs(30),
            keep_alive: Some(Duration::from_secs(10)),
            bidi_streams_max: 8,
            uni_streams_max: 6,
            handshakes_waiting_max: 1024,
        }
    }
}

/// Why no endpoint could be built.
#[derive(Debug, Error)]
pub enum EndpointError {
    /// The TLS configuration doesn't offer HTTP/3.
    #[error("the TLS configuration's ALPN list lacks \"h3\"")]
    Alpn,
    /// Early data can be replayed, and a publish with it.
    #[error("the TLS configuration allows early data (0-RTT)")]
    EarlyData,
    /// TLS 1.3 is off, or its mandatory cipher suite.
    #[error("the TLS configuration lacks a cipher suite that QUIC needs")]
    CipherSuite(#[from] NoInitialCipherSuite),
    /// The idle timeout is longer than QUIC can say.
    #[error("the idle timeout is out of range")]
    IdleTimeout,
    /// The socket can't be used.
    #[error("the UDP socket can't be used")]
    Socket(#[from] io::Error),
}

/// Puts a QUIC endpoint on a bound socket. It and its connections live on the current [`tokio::task::LocalSet`].
pub fn build(
    socket: UdpSocket,
    tls: Arc<rustls::ServerConfig>,
    config: &Config,
) -> Result<link::Endpoint, EndpointError> {
    let mut parts = share(socket, tls, config, 1, &Arc::default())?;
    let (endpoint, driver) = parts.remove(0).open()?;
    tokio::task::spawn_local(driver);
    Ok(endpoint)
}

/// Puts several endpoints on the address of a bound socket, so that connections can live on the thread where their packets arrive: clients
/// are dealt out to them by their addresses. Only one where the system can't do that. `metrics` count packets that are lost on their way from
/// one to another.
pub fn share(
    socket: UdpSocket,
    tls: Arc<rustls::ServerConfig>,
    config: &Config,
    count: usize,
    metrics: &Arc<Metrics>,
) -> Result<Vec<Part>, EndpointError> {
    if !tls.alpn_protocols.iter().any(|name| name == ALPN) {
        return Err(EndpointError::Alpn);
    }
    if tls.max_early_data_size != 0 {
        return Err(EndpointError::EarlyData);
    }
    let mut server = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    server
        .transport_config(Arc::new(transport(config)?))
        // We count them, and those that are too many.
        .max_incoming(usize::MAX)
        .incoming_buffer_size(INCOMING_BYTES_MAX)
        .incoming_buffer_size_total(INCOMING_TOTAL_BYTES_MAX);
    let sockets = spread::sockets(socket, count)?;
    for socket in &sockets[1..] {
        raise_socket_buffers(socket)?;
    }
    let places = Place::all(sockets.len(), metrics);
    let (server, waiting_max) = (Arc::new(server), config.handshakes_waiting_max);
    let part = |(socket, place)| Part { socket, place, server: server.clone(), waiting_max, metrics: metrics.clone() };
    Ok(sockets.into_iter().zip(places).map(part).collect())
}

/// One of the endpoints of an address, to be opened where its connections shall live.
#[derive(Debug)]
pub struct Part {
    socket: UdpSocket,
    place: Place,
    server: Arc<ServerConfig>,
    waiting_max: usize,
    metrics: Arc<Metrics>,
}

impl Part {
    /// It and its connections live on the current [`tokio::task::LocalSet`], and do something only while what drives them, the second, runs
    /// there.
    pub fn open(self) -> io::Result<(link::Endpoint, LocalBoxFuture<'static, ()>)> {
        let Self { socket, place, server, waiting_max, metrics } = self;
        let mut config = EndpointConfig::default();
        let ids = place.clone();
        config.cid_generator(move || Box::new(ids.connection_ids()));
        let socket = Socket::new(socket, place)?;
        let proto = quinn_proto::Endpoint::new(Arc::new(config), Some(server), !socket.may_fragment(), None);
        Ok(link::Endpoint::new(proto, socket, waiting_max, metrics))
    }
}

/// What the system gave, as it reports it: Linux doubles the number for its own bookkeeping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketBuffers {
    /// `SO_RCVBUF`.
    pub receive_bytes: usize,
    /// `SO_SNDBUF`.
    pub send_bytes: usize,
}

impl SocketBuffers {
    /// Whether the system gave less than was asked for. On Linux `net.core.rmem_max` and `wmem_max` are the limits.
    pub fn is_short(&self) -> bool {
        self.receive_bytes < SOCKET_BUFFER_BYTES || self.send_bytes < SOCKET_BUFFER_BYTES
    }
}

/// Asks for socket buffers that hold a burst of handshakes: with the usual 208 KiB, fifty clients that connect at once
/// lose Initials, and each loss costs a second.
pub fn raise_socket_buffers(socket: &UdpSocket) -> io::Result<SocketBuffers> {
    let socket = SockRef::from(socket);
    socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    Ok(SocketBuffers { receive_bytes: socket.recv_buffer_size()?, send_bytes: socket.send_buffer_size()? })
}

fn transport(config: &Config) -> Result<TransportConfig, EndpointError> {
    let idle = match config.idle_timeout {
        Duration::ZERO => None,
        idle => Some(IdleTimeout::try_from(idle).map_err(|_| EndpointError::IdleTimeout)?),
    };
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(config.bidi_streams_max))
        .max_concurrent_uni_streams(VarInt::from_u32(config.uni_streams_max))
        .max_idle_timeout(idle)
        .keep_alive_interval(config.keep_alive)
        .stream_receive_window(VarInt::from_u32(STREAM_RECEIVE_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(RECEIVE_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .crypto_buffer_size(CRYPTO_BUFFER_BYTES)
        .datagram_receive_buffer_size(Some(DATAGRAM_RECEIVE_BYTES))
        .datagram_send_buffer_size(DATAGRAM_SEND_BYTES)
        .mtu_discovery_config(Some(MtuDiscoveryConfig::default()));
    Ok(transport)
}

/// [RFC 9114 §3.1]
const ALPN: &[u8] = b"h3";

/// What a peer may send on one stream before it is read. A publish of 2 MiB flows through it at 128 KiB a round trip.
const STREAM_RECEIVE_WINDOW_BYTES: u32 = 128 * 1024;

/// The same over all streams of a connection: the worst that a connection's unread input can take.
const RECEIVE_WINDOW_BYTES: u32 = 384 * 1024;

/// What is kept of sent and unacknowledged bytes: the worst that a reader that vanished can take of a connection.
/// quinn's default is 10 MB; less costs no throughput at the rates of a feed.
const SEND_WINDOW_BYTES: u64 = 256 * 1024;

/// Handshake bytes that may wait for a gap before them to be filled, a connection.
const CRYPTO_BUFFER_BYTES: usize = 16 * 1024;

/// Datagrams that came and aren't read yet, a connection; older ones are dropped for newer. Not zero: a peer may take
/// datagrams that are switched off for WebTransport that is switched off.
const DATAGRAM_RECEIVE_BYTES: usize = 32 * 1024;

/// Datagrams that aren't sent yet, a connection; then whoever sends them waits. Little: what waits here can't be replaced by what is
/// newer. Each counts for 32 bytes more than it has.
const DATAGRAM_SEND_BYTES: usize = 8 * 1024;

/// What is kept for one handshake that waits to be taken: a client's Initials with a post-quantum key share fit.
const INCOMING_BYTES_MAX: u64 = 16 * 1024;

/// The same over all that wait.
const INCOMING_TOTAL_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// What [`raise_socket_buffers`] asks for, each way.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_buffers_are_reported() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let given = raise_socket_buffers(&socket).unwrap();
        assert!(given.receive_bytes > 0 && given.send_bytes > 0);
        let short = SocketBuffers { receive_bytes: 212_992, ..given };
        assert!(short.is_short());
    }

    #[test]
    fn a_timeout_beyond_the_wire_format_is_an_error() {
        let config = Config { idle_timeout: Duration::MAX, ..Config::default() };
        assert!(matches!(transport(&config), Err(EndpointError::IdleTimeout)));
    }
}
