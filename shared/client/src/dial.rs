//! From a place to a connection: names, TCP, TLS, QUIC.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use quinn::{IdleTimeout, TransportConfig, VarInt, crypto::rustls::QuicClientConfig};
use rustls_pki_types::ServerName;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
};
use tokio_rustls::TlsConnector;

use crate::{
    ConnectError, Options, Trust,
    race::staggered,
    target::Place,
    tls::{Authorities, Handshake},
};

/// What clones of [`Options`] share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    authorities: Authorities,
    endpoint: Mutex<Option<quinn::Endpoint>>,
}

impl Shared {
    fn endpoint(&self) -> Result<quinn::Endpoint, ConnectError> {
        let mut endpoint = self.endpoint.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(endpoint) = &*endpoint {
            return Ok(endpoint.clone());
        }
        // One socket for both families; where the system has no IPv6, for the one it has.
        let new = bind(Ipv6Addr::UNSPECIFIED.into())
            .or_else(|_| bind(Ipv4Addr::UNSPECIFIED.into()))
            .map_err(|source| ConnectError::Udp { source })?;
        Ok(endpoint.insert(new).clone())
    }
}

/// An endpoint for connections of one's own, with a receive buffer that holds what several hubs may send at once: what doesn't fit is
/// lost, and a feed that catches up at full speed then crawls behind its congestion window.
fn bind(address: IpAddr) -> io::Result<quinn::Endpoint> {
    let socket = Socket::new(Domain::for_address((address, 0).into()), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        // Not everywhere the default.
        socket.set_only_v6(false)?;
    }
    // The system may give less; it works with less.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    socket.bind(&SocketAddr::from((address, 0)).into())?;
    let socket = UdpSocket::from(socket);
    quinn::Endpoint::new(quinn::EndpointConfig::default(), None, socket, Arc::new(quinn::TokioRuntime))
}

/// A byte stream, encrypted or not.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A TCP connection, with TLS if the protocols of ALPN are given, and the one that was chosen.
pub(crate) async fn tcp(
    options: &Options,
    place: &Place,
    secure: bool,
    alpn: &[&[u8]],
) -> Result<(Box<dyn Stream>, Option<Vec<u8>>), ConnectError> {
    let tcp_error = |source| ConnectError::Tcp { place: place.to_string(), source };
    let addresses = resolve(place).await?;
    let tcp = staggered(addresses.into_iter().map(TcpStream::connect), STAGGER).await;
    let tcp = tcp.map_err(|error| tcp_error(error.unwrap_or_else(no_address)))?;
    tcp.set_nodelay(true).map_err(tcp_error)?;
    if !secure {
        return Ok((Box::new(tcp), None));
    }
    let handshake = options.shared.authorities.handshake(place, &options.trust, alpn)?;
    let name = ServerName::try_from(place.host.clone())
        .map_err(|error| ConnectError::tls(place, "the host is neither a name nor an address", error))?;
    let tls = TlsConnector::from(handshake.config.clone()).connect(name, tcp).await.map_err(|error| {
        handshake.untrusted(place).unwrap_or_else(|| {
            let why = explain(&error.to_string());
            ConnectError::tls(place, why, error)
        })
    })?;
    let chosen = tls.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
    Ok((Box::new(tls), chosen))
}

/// A QUIC connection for HTTP/3.
pub(crate) async fn quic(options: &Options, place: &Place, trust: &Trust) -> Result<quinn::Connection, ConnectError> {
    let endpoint = match &options.endpoint {
        Some(endpoint) => endpoint.clone(),
        None => options.shared.endpoint()?,
    };
    let handshake = options.shared.authorities.handshake(place, trust, &[b"h3"])?;
    let config = quic_config(place, &handshake)?;
    let attempts = resolve(place).await?.into_iter().map(|address| {
        let (endpoint, config) = (&endpoint, config.clone());
        async move {
            let connecting =
                endpoint.connect_with(config, address, &place.host).map_err(|error| quic_error(place, error))?;
            connecting.await.map_err(|error| quic_error(place, error))
        }
    });
    staggered(attempts, STAGGER).await.map_err(|error| {
        let error = error.unwrap_or_else(|| quic_error(place, no_address()));
        handshake.untrusted(place).unwrap_or(error)
    })
}

fn quic_error(place: &Place, source: impl Into<crate::Source>) -> ConnectError {
    ConnectError::Quic { place: place.to_string(), source: source.into() }
}

fn quic_config(place: &Place, handshake: &Handshake) -> Result<quinn::ClientConfig, ConnectError> {
    let crypto = QuicClientConfig::try_from(handshake.config.clone())
        .map_err(|error| ConnectError::tls(place, "the cryptography lacks what quic needs", error))?;
    let mut transport = TransportConfig::default();
    transport
        // The feed, HTTP/3's own three, and room for what is to be ignored.
        .max_concurrent_uni_streams(VarInt::from_u32(STREAMS_MAX))
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(RECEIVE_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(2 * RECEIVE_WINDOW_BYTES))
        // Never read. Not zero: HTTP/3 datagrams are announced to hubs that refuse a WebTransport client without.
        .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER_BYTES))
        .datagram_send_buffer_size(0)
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_MS_MAX))))
        .keep_alive_interval(Some(KEEP_ALIVE));
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

async fn resolve(place: &Place) -> Result<Vec<SocketAddr>, ConnectError> {
    let found = lookup_host((&*place.host, place.port)).await;
    let found = found.map_err(|source| ConnectError::Resolve { host: place.host.clone(), source })?;
    Ok(found.take(ADDRESSES_MAX).collect())
}

fn no_address() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the name has no address")
}

/// What a failed handshake most likely means.
fn explain(error: &str) -> &'static str {
    if error.contains("NoApplicationProtocol") {
        "the server doesn't speak this version of http"
    } else if error.contains("InvalidContentType") || error.contains("corrupt message") {
        "it probably isn't a tls port: is the url to be http://?"
    } else if error.contains("eof") {
        "the server hung up"
    } else {
        "the handshake failed"
    }
}

/// How much later the next address of a name is tried. [RFC 8305 §8]
const STAGGER: Duration = Duration::from_millis(250);
const ADDRESSES_MAX: usize = 8;
const STREAMS_MAX: u32 = 16;
/// What a hub may send ahead on one stream; a connection's memory is twice this at worst.
const RECEIVE_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// Asked for on the UDP socket of all QUIC connections.
const SOCKET_BUFFER_BYTES: usize = 2 * RECEIVE_WINDOW_BYTES as usize;
const DATAGRAM_BUFFER_BYTES: usize = 64 * 1024;
const IDLE_MS_MAX: u32 = 30_000;
/// The longest heartbeat is longer than the idle timeout.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
