//! Mercure 0.x, for clients that speak it still: the resource at `/.well-known/mercure` of the listeners that are told so. [Mercure 0.x is
//! draft-dunglas-mercure-07 and those before]
//!
//! An adapter at the edge: what it takes from clients it says to the hub in the words of today. WebTransport sessions, and whatever is at
//! `/events`, are as ever.

mod credentials;
mod subscribe;

use axum::{
    Router,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderValue, Request, StatusCode, header};

use super::{EVENTS_PATHS, Edge, publish::publish};
use crate::{auth::Action, hub::Refused};

/// Feeds and publishing.
pub(super) fn resource() -> Router<Edge> {
    Router::new().route(EVENTS_PATHS[1], get(subscribe::get).post(post).fallback(not_allowed))
}

/// Publishes a form, which 1.0 has taken over as it was.
async fn post(State(edge): State<Edge>, request: Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    let published = match credentials::admit(&edge, Action::Publish, &head).await {
        Ok(pass) => publish(&edge.hub, &pass, &head, body).await,
        Err(refused) => Err(refused),
    };
    published.unwrap_or_else(IntoResponse::into_response)
}

async fn not_allowed(request: Request<Body>) -> Response {
    const ALLOWED: &str = "GET, HEAD, POST, OPTIONS";
    let message = format!("{} isn't possible here, where Mercure 0.x is spoken: {ALLOWED} are", request.method());
    let mut response = Refused::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message).into_response();
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(ALLOWED));
    response
}
