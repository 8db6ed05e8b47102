//! TLS configurations that share one resolver.

use crate::{CertResolver, crypto};
use rustls::{
    ServerConfig, SupportedProtocolVersion,
    crypto::aws_lc_rs::Ticketer,
    version::{TLS12, TLS13},
};
use std::sync::Arc;

/// Why a TLS configuration can't be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerConfigError {
    /// The crypto provider lacks what a version of TLS needs.
    #[error("the crypto provider can't do the versions of tls asked for")]
    Versions(#[source] rustls::Error),
    /// There is no randomness for the keys of session tickets.
    #[error("can't make keys for session tickets")]
    Tickets(#[source] rustls::Error),
}

/// TLS 1.2 and 1.3 over TCP, with session tickets.
///
/// `alpn` is what the listener speaks, the preferred first: [`ALPN_TCP`], or less.
pub fn tcp_server_config(resolver: Arc<CertResolver>, alpn: &[&[u8]]) -> Result<ServerConfig, ServerConfigError> {
    let mut config = server_config(resolver, &[&TLS13, &TLS12], alpn)?;
    // Without it rustls keeps sessions in a map of 256 behind a lock; tickets cost the server no memory.
    config.ticketer = Ticketer::new().map_err(ServerConfigError::Tickets)?;
    Ok(config)
}

/// TLS 1.3 for QUIC, which knows no other ([RFC 9001 §4.2]), with [`ALPN_QUIC`] and without 0-RTT: what comes in early
/// data can be replayed, and a publish must not be.
pub fn quic_server_config(resolver: Arc<CertResolver>) -> Result<ServerConfig, ServerConfigError> {
    let mut config = server_config(resolver, &[&TLS13], ALPN_QUIC)?;
    config.max_early_data_size = 0;
    Ok(config)
}

fn server_config(
    resolver: Arc<CertResolver>,
    versions: &[&'static SupportedProtocolVersion],
    alpn: &[&[u8]],
) -> Result<ServerConfig, ServerConfigError> {
    let mut config = ServerConfig::builder_with_provider(crypto::provider())
        .with_protocol_versions(versions)
        .map_err(ServerConfigError::Versions)?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}

/// HTTP/2, then HTTP/1.1.
pub const ALPN_TCP: &[&[u8]] = &[b"h2", b"http/1.1"];

/// HTTP/3, which WebTransport runs on.
pub const ALPN_QUIC: &[&[u8]] = &[b"h3"];

#[cfg(test)]
mod tests;
