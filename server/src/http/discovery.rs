//! `/.well-known/fanwire`: what this hub offers, for clients that came over plain HTTP.

use std::sync::Arc;

use axum::{Json, extract::State};
use fanwire_certs::CertResolver;
use fanwire_protocol::PROTOCOL_VERSION;
use http::{HeaderMap, Uri, header};
use serde_json::{Value, json};

use super::Edge;

/// What is told of the hub's WebTransport.
#[derive(Debug, Clone)]
pub struct Discovery {
    /// The port of HTTP/3; none where the hub has no QUIC listener.
    pub quic_port: Option<u16>,
    /// The certificate, whose hashes are told if it is one that browsers take by its hash.
    pub certificate: Option<Arc<CertResolver>>,
}

pub(super) async fn get(State(edge): State<Arc<Edge>>, uri: Uri, headers: HeaderMap) -> Json<Value> {
    let host = uri
        .authority()
        .cloned()
        .or_else(|| headers.get(header::HOST)?.to_str().ok()?.parse().ok())
        .map_or_else(|| "localhost".to_owned(), |authority| authority.host().to_owned());
    let webtransport = edge.discovery.quic_port.map(|port| {
        let hashes = edge.discovery.certificate.as_ref().map_or_else(Vec::new, |certificate| certificate.hashes());
        let hashes: Vec<_> =
            hashes.iter().map(|hash| json!({ "algorithm": "sha-256", "value": hash.to_base64() })).collect();
        let url = format!("https://{host}:{port}/events");
        if hashes.is_empty() { json!({ "url": url }) } else { json!({ "url": url, "certificate_hashes": hashes }) }
    });
    Json(json!({
        "version": PROTOCOL_VERSION,
        "name": "fanwire",
        "events": "/events",
        "webtransport": webtransport,
    }))
}
