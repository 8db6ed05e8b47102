//! `/.well-known/fanwire`: what this hub offers, for clients that came over plain HTTP.

use std::{net::SocketAddr, sync::Arc};

use axum::{Json, extract::State};
use fanwire_certs::CertResolver;
use fanwire_protocol::PROTOCOL_VERSION;
use http::{HeaderMap, Uri};
use serde_json::{Value, json};

use super::{Access, Edge, access::is_loopback_host};

/// What is told of the hub's WebTransport.
#[derive(Debug, Clone)]
pub struct Discovery {
    /// Where HTTP/3 is served; none where the hub has no QUIC listener.
    pub quic: Option<SocketAddr>,
    /// The certificate, whose hashes are told if it is one that browsers take by its hash.
    pub certificate: Option<Arc<CertResolver>>,
}

impl Discovery {
    /// The URL for a client that came to `host`, and what a client has to know of the certificate.
    fn webtransport(&self, host: Option<&str>) -> Option<Value> {
        let address = self.quic?;
        let hashes = self.certificate.as_ref().map_or_else(Vec::new, |certificate| certificate.hashes());
        let authority = match host {
            // Browsers try one address of `localhost` over QUIC, and it may be the other one: Chromium takes [::1]. By its hash the certificate
            // is good under any name.
            Some(host) if is_loopback_host(host) && address.ip().is_loopback() && !hashes.is_empty() => {
                address.to_string()
            }
            Some(host) => format!("{host}:{}", address.port()),
            None => format!("localhost:{}", address.port()),
        };
        let url = format!("https://{authority}/events");
        let hashes: Vec<_> =
            hashes.iter().map(|hash| json!({ "algorithm": "sha-256", "value": hash.to_base64() })).collect();
        Some(if hashes.is_empty() {
            json!({ "url": url })
        } else {
            json!({ "url": url, "certificate_hashes": hashes })
        })
    }
}

pub(super) async fn get(State(edge): State<Arc<Edge>>, uri: Uri, headers: HeaderMap) -> Json<Value> {
    Json(json!({
        "version": PROTOCOL_VERSION,
        "name": "fanwire",
        "events": "/events",
        "webtransport": edge.discovery.webtransport(Access::host_of(&uri, &headers).as_deref()),
    }))
}
