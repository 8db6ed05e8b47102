//! Who may ask from where: hosts, origins, CORS.
//!
//! A hub without keys is for trying, on this machine only. A page of another site must not reach it: neither through a name
//! that its owner points at 127.0.0.1 (DNS rebinding: the `Host` is foreign), nor with a form POST or a WebTransport session, which
//! need no preflight (the `Origin` is foreign).

use std::{borrow::Cow, fmt, net::IpAddr, str::FromStr};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header, uri::Authority};
use url::Url;

use super::{Edge, metadata, refusal::RefusedCode, subscribe};
use crate::hub::Refused;

/// The rules of one hub.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// The hub listens on loopback only and is open to whoever is on this machine, and to nobody else.
    pub loopback_only: bool,
    /// Origins that may publish and subscribe besides the hub's own.
    pub allowed_origins: Vec<Origin>,
    /// The ports of the hub's own listeners: the page comes from one and connects to another.
    pub own_ports: Vec<u16>,
}

/// A web origin: scheme, host and port. [RFC 6454]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    host: String,
    port: u16,
}

/// A text is no origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no origin: it is written https://example.com or http://localhost:3000")]
pub struct BadOrigin(String);

impl FromStr for Origin {
    type Err = BadOrigin;

    fn from_str(text: &str) -> Result<Self, BadOrigin> {
        let bad = || BadOrigin(text.to_owned());
        let url = Url::parse(text).map_err(|_| bad())?;
        let only_origin = url.path().trim_matches('/').is_empty() && url.query().is_none() && url.fragment().is_none();
        match (url.host_str(), url.port_or_known_default()) {
            (Some(host), Some(port)) if only_origin && url.username().is_empty() => {
                Ok(Self { scheme: url.scheme().to_owned(), host: host.to_owned(), port })
            }
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme, self.host, self.port)
    }
}

impl Access {
    /// Whether a request may be answered, as far as its `Host` and `Origin` say.
    pub fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refused> {
        let host = Self::host_of(uri, headers);
        if self.loopback_only && !host.as_deref().is_some_and(is_loopback_host) {
            return Err(Refused::foreign_host(host.as_deref()));
        }
        let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
        if origin.to_str().is_ok_and(|text| self.allows_text(text, host.as_deref())) {
            return Ok(());
        }
        let message = format!("pages of the origin {origin:?} may not use this hub: see allowed_origins");
        Err(forbidden("foreign_origin", message))
    }

    /// Whether pages of an origin may use the hub under this name.
    pub fn allows_text(&self, origin: &str, host: Option<&str>) -> bool {
        origin.parse::<Origin>().is_ok_and(|origin| self.allows(&origin, host))
    }

    /// The host that a request is for, without its port and in lower case: of HTTP/2 and 3's `:authority`, or of `Host`.
    pub fn host_of<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<Cow<'a, str>> {
        if let Some(authority) = uri.authority() {
            return Some(lower_case(authority.host()));
        }
        let text = headers.get(header::HOST)?.to_str().ok()?;
        if let Some(host) = plain_host(text) {
            return Some(lower_case(host));
        }
        let authority: Authority = text.parse().ok()?;
        Some(lower_case(authority.host()).into_owned().into())
    }

    fn allows(&self, origin: &Origin, host: Option<&str>) -> bool {
        // A page of `localhost` is told the address of WebTransport (`Discovery`), which is the same machine.
        let same =
            host.is_some_and(|host| host == origin.host || is_loopback_host(host) && is_loopback_host(&origin.host));
        let own = same && self.own_ports.contains(&origin.port);
        let neighbour = || self.loopback_only && is_loopback_host(&origin.host);
        self.allowed_origins.contains(origin) || own || neighbour()
    }
}

fn forbidden(code: &'static str, message: String) -> Refused {
    Refused::new(StatusCode::FORBIDDEN, code, message)
}

/// Whether a host, without port, can only be this machine: `localhost`, a name under it, or a loopback address.
pub fn is_loopback_host(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let name = bare.trim_end_matches('.').as_bytes();
    let is_name = match name.len().checked_sub(LOCALHOST.len()) {
        Some(at) => name[at..].eq_ignore_ascii_case(LOCALHOST) && (at == 0 || name[at - 1] == b'.'),
        None => false,
    };
    is_name || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The host of an authority that has a name or an IPv4 address, and perhaps a port: nearly every request has such a one, and what parses any
/// copies it.
fn plain_host(authority: &str) -> Option<&str> {
    let (host, port) = authority.split_once(':').unwrap_or((authority, "0"));
    let is_host = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
    let is_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    (is_host && is_port).then_some(host)
}

pub(super) fn lower_case(text: &str) -> Cow<'_, str> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) { text.to_ascii_lowercase().into() } else { text.into() }
}

/// In the extensions of a request: its connection is one too many, and this is what it is told.
#[derive(Debug, Clone)]
pub struct TurnedAway(pub Refused);

/// Refuses the foreign, turns away who is one too many, answers preflights, and marks answers for the origin that may read them. [WHATWG Fetch, CORS protocol]
pub(super) async fn guard<F>(
    edge: &Edge,
    request: Box<Request<Body>>,
    answer: impl FnOnce(Box<Request<Body>>) -> F,
) -> Response
where
    F: Future<Output = Response>,
{
    let path = request.uri().path();
    if matches!(path, "/livez" | "/readyz") {
        // A load balancer asks by address, and learns nothing but that the process lives.
        return answer(request).await;
    }
    if let Err(refused) = edge.access.load().check(request.uri(), request.headers()) {
        tracing::debug!(code = refused.code, path, "refused");
        edge.hub.metrics().refused(refused.code);
        return refused.into_response();
    }
    let origin = request.headers().get(header::ORIGIN).cloned();
    let preflight = request.method() == Method::OPTIONS;
    let turned_away = request.extensions().get::<TurnedAway>().cloned();
    let mut response = match turned_away {
        _ if preflight => StatusCode::NO_CONTENT.into_response(),
        Some(TurnedAway(refused)) => subscribe::refuse(&request, refused),
        None => answer(request).await,
    };
    if let Some(RefusedCode(code)) = response.extensions().get() {
        edge.hub.metrics().refused(code);
    }
    let headers = response.headers_mut();
    if preflight {
        headers
            .insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD, POST, QUERY, DELETE"));
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(ALLOWED_HEADERS));
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    }
    metadata::add_to_challenge(&edge.auth, headers);
    headers.append(header::VARY, HeaderValue::from_name(header::ORIGIN));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED_HEADERS));
    }
    response
}

/// Tells the id that a feed starts after. [Mercure, Reconciliation]
pub(super) const MERCURE_LAST_EVENT_ID: HeaderName = HeaderName::from_static("mercure-last-event-id");
const LOCALHOST: &[u8] = b"localhost";
const ALLOWED_HEADERS: &str =
    "Authorization, Cache-Control, Content-Type, Idempotency-Key, If-None-Match, Last-Event-ID";
const EXPOSED_HEADERS: &str =
    "ETag, Idempotent-Replayed, Last-Event-ID, Link, Mercure-Last-Event-ID, Retry-After, WWW-Authenticate";

#[cfg(test)]
mod tests {
    use super::*;

    fn check(access: &Access, host: &str, origin: Option<&str>) -> Option<&'static str> {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        access.check(&Uri::from_static("/events"), &headers).err().map(|refused| refused.code)
    }

    #[test]
    fn a_hub_for_trying_is_open_to_this_machine_only() {
        let access = Access { loopback_only: true, ..Access::default() };
        for host in ["localhost:8080", "LOCALHOST", "127.0.0.1:1", "[::1]:8080", "a.localhost", "A.LocalHost.:1"] {
            assert_eq!(check(&access, host, None), None, "{host}");
        }
        for host in ["evil.example:8080", "192.168.1.2", "localhost.evil.example", "notlocalhost", "local", ":80", ""] {
            assert_eq!(check(&access, host, None), Some("foreign_host"), "{host}");
        }
        assert_eq!(check(&access, "localhost", Some("http://localhost:3000")), None);
        for origin in ["https://evil.example", "null", "http://127.0.0.1.evil.example", "file://"] {
            assert_eq!(check(&access, "localhost", Some(origin)), Some("foreign_origin"), "{origin}");
        }
    }

    #[test]
    fn elsewhere_the_hubs_own_pages_and_listed_origins_may() {
        let allowed_origins = vec!["https://app.example".parse().unwrap()];
        let access = Access { loopback_only: false, allowed_origins, own_ports: vec![8080, 443] };
        for origin in
            ["https://app.example", "https://app.example:443", "http://hub.example:8080", "https://hub.example"]
        {
            assert_eq!(check(&access, "hub.example:443", Some(origin)), None, "{origin}");
        }
        for origin in ["http://app.example", "https://hub.example:3000", "http://localhost:8080"] {
            assert_eq!(check(&access, "hub.example", Some(origin)), Some("foreign_origin"), "{origin}");
        }
        assert_eq!(check(&access, "127.0.0.1:443", Some("http://localhost:8080")), None);
        for origin in ["http://localhost:3000", "http://hub.example:8080"] {
            assert_eq!(check(&access, "127.0.0.1:443", Some(origin)), Some("foreign_origin"), "{origin}");
        }
    }
}
