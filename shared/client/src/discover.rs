//! What a hub offers. [PROTOCOL §7]

use http_body_util::Full;
use hyper::{Request, StatusCode};
use serde::Deserialize;
use url::Url;

use crate::{
    CertificateHash, ConnectError, Options, Trust,
    http::{HttpConnection, Wanted},
    target::{Place, headers},
};

/// A hub's answer to `GET /.well-known/fanwire`. Members that aren't known are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Offer {
    /// The version of the protocol.
    pub version: u32,
    /// The path of the feed and of publishing.
    pub events: String,
    /// Where WebTransport and HTTP/3 are.
    pub webtransport: Option<OfferedWebTransport>,
}

/// A hub's QUIC side.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct OfferedWebTransport {
    /// The URL of the feed, `https`.
    #[serde(deserialize_with = "url")]
    pub url: Url,
    /// Hashes of the hub's certificates, where they are self-signed.
    #[serde(default)]
    pub certificate_hashes: Vec<OfferedHash>,
}

/// A certificate's hash, as browsers take it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct OfferedHash {
    /// `sha-256`.
    pub algorithm: String,
    /// Base64.
    pub value: String,
}

impl OfferedWebTransport {
    /// The SHA-256 hashes that can be read.
    pub fn hashes(&self) -> Vec<CertificateHash> {
        let hashes = self.certificate_hashes.iter().take(HASHES_MAX);
        hashes.filter(|hash| hash.algorithm == "sha-256").filter_map(|hash| hash.value.parse().ok()).collect()
    }
}

fn url<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Url, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

/// Asks the hub of the options' URL what it offers.
pub async fn discover(options: &Options) -> Result<Offer, ConnectError> {
    let mut url = options.url.clone();
    url.set_path("/.well-known/fanwire");
    url.set_query(None);
    let timeout = options.connect_timeout;
    tokio::time::timeout(timeout, ask(options, &url)).await.unwrap_or_else(|_| {
        let place = Place::of(&url)?.to_string();
        Err(ConnectError::Timeout { place, after: timeout })
    })
}

async fn ask(options: &Options, url: &Url) -> Result<Offer, ConnectError> {
    let mut http = HttpConnection::open(options, url, Wanted::Either).await?;
    let mut request =
        Request::get(url.as_str()).body(Full::default()).map_err(|error| ConnectError::http(url, error))?;
    *request.headers_mut() = headers(options);
    let response = http.send(url, request).await.map_err(|(error, _)| ConnectError::http(url, error))?;
    if response.status() != StatusCode::OK {
        return Err(http.refused(url, response).await.into());
    }
    let (body, whole) =
        http.read_body(response.into_body(), OFFER_BYTES_MAX).await.map_err(|error| ConnectError::http(url, error))?;
    let bad = |why: String| ConnectError::Discover { url: url.to_string(), why };
    if !whole {
        return Err(bad(format!("its answer is longer than {OFFER_BYTES_MAX} bytes")));
    }
    serde_json::from_slice(&body).map_err(|error| bad(error.to_string()))
}

/// Where QUIC is, and whom to trust there. An `https` URL is taken as it is; an `http` one is asked.
///
/// Hashes that come in the clear from this very machine are as good as pins. From elsewhere anybody could have put them there.
pub(crate) async fn quic_side(options: &Options) -> Result<(Url, Trust), ConnectError> {
    if options.url.scheme() == "https" {
        return Ok((options.url.clone(), options.trust.clone()));
    }
    let offer = discover(options).await?;
    let Some(side) = offer.webtransport else {
        return Err(ConnectError::NotOffered { url: options.url.to_string() });
    };
    if side.url.scheme() != "https" {
        return Err(ConnectError::Url { url: side.url.to_string(), why: "a hub offers webtransport over https only" });
    }
    let hashes = side.hashes();
    let trust = match &options.trust {
        Trust::System if !hashes.is_empty() && Place::of(&options.url)?.is_loopback() => Trust::Pinned(hashes),
        chosen => chosen.clone(),
    };
    let mut url = side.url;
    url.set_query(options.url.query());
    Ok((url, trust))
}

const OFFER_BYTES_MAX: usize = 64 * 1024;
const HASHES_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_protocols_example_is_read() {
        let text = r#"{"version": 1, "name": "fanwire", "events": "/events", "webtransport": {"url": "https://127.0.0.1:4433/events",
            "certificate_hashes": [{"algorithm": "sha-512", "value": ""}, {"algorithm": "sha-256", "value": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}]}}"#;
        let offer: Offer = serde_json::from_str(text).unwrap();
        assert_eq!(offer.webtransport.unwrap().hashes(), [CertificateHash([0; 32])]);
        let offer: Offer =
            serde_json::from_str(r#"{"version": 1, "events": "/events", "webtransport": null}"#).unwrap();
        assert_eq!(offer.webtransport, None);
    }
}
