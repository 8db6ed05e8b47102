//! Mercure 0.x, for clients that speak it still: the resource at `/.well-known/mercure` of the listeners that are told so. [Mercure 0.x is
//! draft-dunglas-mercure-07 and those before]
//!
//! An adapter at the edge: what it takes from clients it says to the hub in the words of today. WebTransport sessions, and whatever is at
//! `/events`, are as ever.

mod credentials;
mod subscribe;

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderValue, Request, StatusCode, header};

use super::{
    EVENTS_PATHS, Edge,
    publish::{publish, source_of},
    subscriptions::{answer, not_there, place},
};
use crate::{
    auth::Action,
    hub::{Limits, Publication, Refused, form_pairs, publication_from_form},
    subscriptions::Dialect,
};

/// Feeds, publishing, and the list of who is subscribed.
pub(super) fn resource() -> Router<Arc<Edge>> {
    let path = EVENTS_PATHS[1];
    let list = || get(list).fallback(async |request: Request<Body>| not_allowed(request, "GET, HEAD, OPTIONS"));
    let events = get(subscribe::get).post(post);
    Router::new()
        .route(path, events.fallback(async |request: Request<Body>| not_allowed(request, "GET, HEAD, POST, OPTIONS")))
        .route(&format!("{path}/subscriptions"), list())
        .route(&format!("{path}/subscriptions/{{*rest}}"), list())
}

/// Publishes a form, which 1.0 has taken over as it was.
async fn post(State(edge): State<Arc<Edge>>, request: Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    let published = match credentials::admit(&edge, Action::Publish, &head).await {
        Ok(pass) => match source_of(&head) {
            Ok(from) => publish(&edge.hub, (&pass, from), &head, body, publication).await,
            Err(refused) => Err(refused),
        },
        Err(refused) => Err(refused),
    };
    published.unwrap_or_else(IntoResponse::into_response)
}

/// An event from a form. One for the `target`s of before 0.10 isn't for everybody, and nothing here could keep it from them.
fn publication(form: &[u8], limits: &Limits) -> Result<Publication, Refused> {
    if form_pairs(form).flatten().any(|(name, _)| name == "target") {
        let message =
            "targets aren't known any more: mark the event private, and grant its topics to those who may see it";
        return Err(Refused::bad_request("targets_unsupported", message));
    }
    publication_from_form(form, limits)
}

/// Tells who is subscribed, as JSON-LD. [Mercure 0.x, Subscription API]
async fn list(State(edge): State<Arc<Edge>>, request: Request<Body>) -> Result<Response, Refused> {
    let (head, _) = request.into_parts();
    let Some(subscriptions) = edge.hub.subscriptions() else { return Err(not_there()) };
    let pass = credentials::admit(&edge, Action::Subscribe, &head).await?;
    answer(&edge.hub, subscriptions, &pass, &place(head.uri.path(), Dialect::Mercure0)?, &head.headers)
}

fn not_allowed(request: Request<Body>, allowed: &'static str) -> Response {
    let message = format!("{} isn't possible here, where Mercure 0.x is spoken: {allowed} are", request.method());
    let mut response = Refused::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message).into_response();
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}
