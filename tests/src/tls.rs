//! What a client without any of ours trusts: the test hub's certificate and no other.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};

use crate::identity;

/// A client's TLS configuration, for these protocols.
pub(crate) fn config(alpn: &[&[u8]]) -> ClientConfig {
    with_provider(rustls::crypto::aws_lc_rs::default_provider(), alpn)
}

/// One whose first message fits into a datagram.
pub(crate) fn config_without_post_quantum(alpn: &[&[u8]]) -> ClientConfig {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.kx_groups.retain(|group| group.name() == rustls::NamedGroup::X25519);
    with_provider(provider, alpn)
}

fn with_provider(provider: rustls::crypto::CryptoProvider, alpn: &[&[u8]]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(identity().chain()[0].clone()).expect("a certificate");
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config
}

/// The name that every test's hub has.
pub(crate) fn server_name() -> ServerName<'static> {
    ServerName::try_from("127.0.0.1").expect("an address")
}

/// A QUIC client for HTTP/3.
pub(crate) fn quic_config() -> quinn::ClientConfig {
    let tls = quinn::crypto::rustls::QuicClientConfig::try_from(config(&[b"h3"])).expect("TLS 1.3");
    quinn::ClientConfig::new(Arc::new(tls))
}
