//! The hub as a protected resource: what a client has to know to get a token for it. [RFC 9728; Mercure, Protected Resource Metadata]

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use fanwire_protocol::MatchType;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use serde_json::{Value, json};
use url::Url;

use super::{EVENTS_PATHS, Edge};
use crate::{
    auth::{Auth, DETAIL_TYPE},
    hub::Refused,
};

/// Where it is, before the path of the resource.
pub(super) const PREFIX: &str = "/.well-known/oauth-protected-resource";

pub(super) async fn get(State(edge): State<Arc<Edge>>, request: Request<Body>) -> Response {
    let resource = edge.auth.resource();
    let path = request.uri().path().strip_prefix(PREFIX).unwrap_or_default();
    let derived = Url::parse(&resource).ok().map(|url| url.path().trim_end_matches('/').to_owned());
    if resource.is_empty()
        || !edge.auth.has_keys()
        || !(path == EVENTS_PATHS[1] || derived.is_some_and(|derived| derived == path))
    {
        let message = "a hub with keys has its metadata at the path that its resource says";
        return Refused::new(StatusCode::NOT_FOUND, "not_found", message).into_response();
    }
    let mut document = json!({
        "resource": resource,
        "authorization_details_types_supported": [DETAIL_TYPE],
        "bearer_methods_supported": ["header"],
        "mercure_cookie": edge.auth.cookie(),
        "mercure_matcher_types_supported": MatchType::OFFERED.map(MatchType::as_str),
    });
    let servers = edge.auth.authorization_servers();
    if !servers.is_empty() {
        document["authorization_servers"] = servers.into();
    }
    if edge.hub.subscriptions().is_some() {
        document["mercure_subscriptions"] = Value::Bool(true);
    }
    Json(document).into_response()
}

/// Tells where the metadata is, beside a challenge. [RFC 9728 §5.1]
pub(super) fn add_to_challenge(auth: &Auth, headers: &mut HeaderMap) {
    let Some(challenge) = headers.get(header::WWW_AUTHENTICATE).and_then(|value| value.to_str().ok()) else { return };
    let Some(url) = url(&auth.resource()) else { return };
    let comma = if challenge.contains('=') { "," } else { "" };
    if let Ok(value) = HeaderValue::from_str(&format!("{challenge}{comma} resource_metadata=\"{url}\"")) {
        headers.insert(header::WWW_AUTHENTICATE, value);
    }
}

/// None where the resource isn't a URL.
fn url(resource: &str) -> Option<Url> {
    let mut url = Url::parse(resource).ok().filter(|url| matches!(url.scheme(), "https" | "http"))?;
    let path = format!("{PREFIX}{}", url.path().trim_end_matches('/'));
    url.set_path(&path);
    url.set_fragment(None);
    Some(url)
}
